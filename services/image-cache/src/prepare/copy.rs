//! Copies an image that a peer has prepared. Every frame is checked against the manifest, and the manifest against the
//! image's id, so that a peer with a failing disk does no more harm than one that is away.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bessemer_image::digest::{Algorithm, Digest};
use bessemer_image::format::DiskFormat;
use bessemer_image::pack::{MAX_FRAME_BYTES, Manifest, ManifestDigest, manifest_bytes};
use bessemer_image::permit::Permit;
use bessemer_proto::v1::ResolvedImage;
use bytes::Bytes;
use url::Url;
use uuid::Uuid;

use super::convert::store_manifest;
use super::{Converted, Phase, Preparation, Staged};
use crate::error::PrepareError;
use crate::fetch::{Body, Download, fetch_small};
use crate::replicas::Found;
use crate::space;

/// How long a copy may take, resumptions included.
const COPY_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What a peer says of an image.
struct Described {
    id: ManifestDigest,
    url: String,
    format: DiskFormat,
    raw_digest: Digest,
    raw_bytes: u64,
    source_bytes: u64,
}

pub(super) async fn convert(
    preparation: &Arc<Preparation>,
    found: &Found,
) -> Result<Converted, PrepareError> {
    let described = describe(found).ok_or_else(|| PrepareError::Peer {
        peer: found.peer.clone(),
        message: "its description of the image cannot be read".to_owned(),
    })?;
    let origins = &preparation.shared.replicas.origins;
    let limit_bytes = manifest_bytes(described.raw_bytes);
    let image_url = readable_url(preparation, &described);
    let manifest_url = url_of(found, &image_url, "manifest")?;
    let encoded = fetch_small(origins, &manifest_url, limit_bytes, None).await?;
    let manifest = Manifest::parse(encoded, Some(&described.id)).map_err(|error| {
        PrepareError::Peer { peer: found.peer.clone(), message: error.to_string() }
    })?;
    let pack_url = url_of(found, &image_url, "pack")?;
    let download = Download::start(origins, &pack_url, manifest.pack_bytes(), None).await?;
    let (body, feed) = Body::of(Bytes::new(), download);
    let (peer, level) = (found.peer.clone(), found.compression_level);
    let copy = preparation.blocking(move |preparation| {
        let (pack, manifest_file) = preparation.staged();
        let file =
            File::create(&pack).map_err(|error| PrepareError::storage("write", &pack, error))?;
        space::reserve(&file, &pack, manifest.pack_bytes())?;
        copy_frames(preparation, &manifest, body, &file, &peer)?;
        file.sync_all().map_err(|error| PrepareError::storage("write", &pack, error))?;
        let described_in = File::create(&manifest_file)
            .map_err(|error| PrepareError::storage("write", &manifest_file, error))?;
        store_manifest(&manifest, &described_in, &manifest_file)?;
        let Described { raw_digest, .. } = described;
        let staged = Staged { manifest, raw_digest, level, pack, manifest_file };
        Ok(Converted { staged, format: described.format, source_bytes: described.source_bytes })
    });
    let (fed, copied) = tokio::join!(feed, copy);
    // A cut says more than the frame that it cut.
    fed?;
    copied
}

/// Reads what a peer says of an image; none when it makes no sense.
fn describe(found: &Found) -> Option<Described> {
    let ResolvedImage { id, source_format, raw_size_bytes, raw_hash_algo, raw_hash_value, .. } =
        found.image.resolved.as_ref()?;
    let algorithm: Algorithm = raw_hash_algo.parse().ok()?;
    let raw_digest = Digest::parse(raw_hash_value).ok()?;
    (raw_digest.algorithm() == algorithm).then_some(())?;
    Some(Described {
        id: id.parse().ok()?,
        url: found.image.urls.first()?.clone(),
        format: source_format.parse().ok()?,
        raw_digest,
        raw_bytes: *raw_size_bytes,
        source_bytes: found.image.source_size_bytes,
    })
}

/// Where a peer lets this cache read the image.
fn readable_url(preparation: &Preparation, described: &Described) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires_unix_seconds = (now + COPY_LIMIT).as_secs();
    // Of no deployment, but of the site's own.
    let permit = Permit { deployment: Uuid::nil(), expires_unix_seconds };
    let keys = &preparation.shared.permit_keys;
    let signed = keys.first().and_then(|key| permit.sign_url(&described.url, key));
    signed.unwrap_or_else(|| described.url.clone())
}

fn url_of(found: &Found, image_url: &str, what: &str) -> Result<Url, PrepareError> {
    let url = format!("{image_url}/{what}");
    Url::parse(&url).map_err(|error| PrepareError::Peer {
        peer: found.peer.clone(),
        message: format!("it serves the image at `{url}`: {error}"),
    })
}

/// Writes the frames that `body` begins with, each when it was found right, and the seek table, which follows from
/// the manifest.
fn copy_frames(
    preparation: &Preparation,
    manifest: &Manifest,
    mut body: Body,
    mut file: &File,
    peer: &str,
) -> Result<(), PrepareError> {
    let (pack, _) = preparation.staged();
    let failed = |error| PrepareError::storage("write", &pack, error);
    let bad = |message| PrepareError::Peer { peer: peer.to_owned(), message };
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    for chunk in manifest.chunks() {
        if preparation.cancelled.is_cancelled() {
            return Err(failed(io::Error::other("the cache is stopping")));
        }
        let frame = &mut buffer[..chunk.frame_bytes];
        body.read_exact(frame).map_err(|error| bad(error.to_string()))?;
        manifest
            .verify_frame(chunk.index, frame)
            .map_err(|refused| bad(format!("it sent a damaged chunk: {refused}")))?;
        file.write_all(frame).map_err(failed)?;
        let done_bytes = chunk.frame_offset_bytes + chunk.frame_bytes as u64;
        preparation.progress.report(Phase::Copying, done_bytes, manifest.frames_bytes());
    }
    file.write_all(&manifest.seek_table()).map_err(failed)
}
