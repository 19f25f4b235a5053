//! Prepares HTTP sources while they are downloaded.
//!
//! A raw image of known length is converted as it streams by; nothing of it is stored but its
//! pack. Everything else is stored while it lasts, for a qcow2 is read at random, and converted as
//! far as it is there. What is stored survives a restart and is resumed if the server still has
//! the same ETag. Nothing is published before the source's digest is known to be right.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bessemer_image::digest::{Digest, Hasher};
use bessemer_image::format::{DiskFormat, PROBE_BYTES};
use bessemer_image::pack::SequentialSource;
use bytes::{Bytes, BytesMut};
use url::Url;

use super::{Converted, Phase, Preparation};
use crate::durable;
use crate::error::PrepareError;
use crate::fetch::{Body, Download, Spool};
use crate::space;

pub(super) async fn convert(
    preparation: &Arc<Preparation>,
    url: &Url,
) -> Result<Converted, PrepareError> {
    let resume = preparation.blocking(|preparation| Ok(resumable(preparation))).await?;
    let shared = &preparation.shared;
    let mut download =
        Download::start(&shared.origins, url, shared.config.max_image_bytes, resume).await?;
    let resumed_bytes = download.position_bytes();
    let mut start = Bytes::new();
    if resumed_bytes == 0 {
        start = first_bytes(&mut download).await?;
        let is_raw = preparation.is_raw(&start)?;
        if let (true, Some(total_bytes)) = (is_raw, download.total_bytes()) {
            return stream_raw(preparation, download, start, total_bytes).await;
        }
    }
    spool_and_convert(preparation, download, start, resumed_bytes).await
}

/// What is stored of an earlier download, and its ETag.
fn resumable(preparation: &Preparation) -> Option<(u64, String)> {
    let (layout, key) = (&preparation.shared.layout, &preparation.key);
    let etag = std::fs::read_to_string(layout.etag(key)).ok()?;
    let stored = std::fs::metadata(layout.part(key)).ok()?.len();
    (stored >= PROBE_BYTES as u64).then_some((stored, etag))
}

fn forget_part(preparation: &Preparation) {
    let (layout, key) = (&preparation.shared.layout, &preparation.key);
    for path in [layout.etag(key), layout.part(key)] {
        if let Err(error) = durable::remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a finished download");
        }
    }
}

/// As much as probing wants, or all of a shorter source.
async fn first_bytes(download: &mut Download) -> Result<Bytes, PrepareError> {
    let mut start = BytesMut::new();
    while start.len() < PROBE_BYTES {
        match download.next().await? {
            Some(piece) => start.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(start.freeze())
}

async fn stream_raw(
    preparation: &Arc<Preparation>,
    download: Download,
    start: Bytes,
    total_bytes: u64,
) -> Result<Converted, PrepareError> {
    let (body, feed) = Body::of(start, download);
    let conversion = preparation.blocking(move |preparation| {
        let source = SequentialSource::new(body, Some(total_bytes));
        preparation.pack_raw(&source, |error| preparation.cut_short(&error))
    });
    let (fed, staged) = tokio::join!(feed, conversion);
    fed?;
    let staged = staged?;
    preparation.check_digest(staged.raw_digest)?;
    Ok(Converted { staged, format: DiskFormat::Raw, source_bytes: total_bytes })
}

/// Stores the download and converts what is there at the same time.
async fn spool_and_convert(
    preparation: &Arc<Preparation>,
    download: Download,
    start: Bytes,
    resumed_bytes: u64,
) -> Result<Converted, PrepareError> {
    let total_bytes = download.total_bytes();
    let etag = download.etag().map(str::to_owned);
    let opened = preparation.blocking(move |preparation| {
        open_part(preparation, resumed_bytes, total_bytes, etag.as_deref())
    });
    let (file, source) = opened.await?;
    let (spool, growth) = Spool::new(file, resumed_bytes, total_bytes);
    // A damaged source is read to its end: its digest tells more than the damage.
    let mut wanted = Some(growth.clone());
    let (body, feed) = Body::of(start, download);
    let spool = preparation.blocking(move |preparation| {
        let digest = store(preparation, body, &spool, resumed_bytes);
        spool.end();
        Ok((digest?, spool.available_bytes()))
    });
    let conversion = async {
        let converted = preparation.decode(source, growth).await;
        if converted.as_ref().is_err_and(|error| !error.may_be_damage()) {
            wanted = None;
        }
        converted
    };
    let (fed, spooled, converted) = tokio::join!(feed, spool, conversion);
    drop(wanted);
    // What a cut download left is kept for the next attempt.
    let is_cut =
        matches!(fed, Err(PrepareError::SourceUnreachable { .. } | PrepareError::Truncated { .. }));
    if !is_cut {
        let forget = |preparation: &Preparation| {
            forget_part(preparation);
            Ok(())
        };
        preparation.blocking(forget).await?;
    }
    fed?;
    let (digest, source_bytes) = spooled?;
    if let Some(digest) = digest {
        preparation.check_digest(digest)?;
    }
    let (staged, format) = converted?;
    Ok(Converted { staged, format, source_bytes })
}

/// The file for the download, to be written, and to be read. Its space is taken at once, so that a disk that is too
/// small is found out before anything is downloaded, and not by another preparation.
fn open_part(
    preparation: &Preparation,
    resumed_bytes: u64,
    total_bytes: Option<u64>,
    etag: Option<&str>,
) -> Result<(File, File), PrepareError> {
    let (layout, key) = (&preparation.shared.layout, &preparation.key);
    let (path, etag_path) = (layout.part(key), layout.etag(key));
    let open = || {
        if resumed_bytes == 0 {
            // The ETag of what was stored before must not vouch for what comes now.
            durable::remove(&etag_path)?;
        }
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        file.set_len(resumed_bytes)?;
        match etag {
            Some(etag) if resumed_bytes == 0 => {
                durable::replace(&etag_path, &layout.staged(key, "etag"), etag.as_bytes())?;
            }
            Some(_) | None => {}
        }
        Ok((file, File::open(&path)?))
    };
    let (file, source) = open().map_err(|source| PrepareError::storage("write", &path, source))?;
    if let Some(total_bytes) = total_bytes {
        space::reserve(&file, &path, total_bytes).inspect_err(|_| {
            if resumed_bytes == 0 {
                forget_part(preparation);
            }
        })?;
    }
    Ok((file, source))
}

/// Stores and hashes a source as it comes. Answers its digest, or nothing when the conversion
/// failed for good and nobody wants it.
fn store(
    preparation: &Preparation,
    mut body: Body,
    spool: &Spool,
    resumed_bytes: u64,
) -> Result<Option<Digest>, PrepareError> {
    let failed = |source| {
        let part = preparation.shared.layout.part(&preparation.key);
        PrepareError::storage("write", part, source)
    };
    let mut hasher = preparation.expected.map(|expected| Hasher::new(expected.algorithm()));
    if let Some(hasher) = hasher.as_mut().filter(|_| resumed_bytes > 0) {
        hash_stored(preparation, resumed_bytes, hasher).map_err(failed)?;
    }
    while let Some(piece) = body.next() {
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        if !spool.append(&piece).map_err(failed)? {
            return Ok(None);
        }
        preparation.progress.report(Phase::Downloading, spool.available_bytes(), total(spool));
    }
    preparation.progress.report(Phase::Verifying, spool.available_bytes(), total(spool));
    Ok(hasher.map(Hasher::finish))
}

fn total(spool: &Spool) -> u64 {
    spool.known_total_bytes().unwrap_or_default()
}

fn hash_stored(
    preparation: &Preparation,
    stored_bytes: u64,
    hasher: &mut Hasher,
) -> std::io::Result<()> {
    let part = File::open(preparation.shared.layout.part(&preparation.key))?;
    let mut stored = part.take(stored_bytes);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match stored.read(&mut buffer)? {
            0 => return Ok(()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

impl Preparation {
    /// A source whose bytes do not come: the download tells why.
    fn cut_short(&self, error: &std::io::Error) -> PrepareError {
        PrepareError::Truncated {
            source_url: self.source_url().to_owned(),
            message: error.to_string(),
        }
    }
}

/// Downloads a source again, into `file`, and checks it. For healing.
pub(crate) async fn download_whole(
    preparation: &Arc<Preparation>,
    url: &Url,
    file: File,
) -> Result<(), PrepareError> {
    let shared = &preparation.shared;
    let download =
        Download::start(&shared.origins, url, shared.config.max_image_bytes, None).await?;
    let (spool, _wanted) = Spool::new(file, 0, download.total_bytes());
    let (body, feed) = Body::of(Bytes::new(), download);
    let spool = preparation.blocking(move |preparation| store(preparation, body, &spool, 0));
    let (fed, spooled) = tokio::join!(feed, spool);
    fed?;
    spooled?.map_or(Ok(()), |digest| preparation.check_digest(digest))
}
