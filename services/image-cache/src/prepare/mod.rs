//! Makes prepared images of sources.

mod convert;
mod copy;
mod decoding;
mod job;
mod local;
mod remote;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bessemer_image::digest::{Algorithm, Digest};
use bessemer_image::format::{self, Content, DiskFormat};
use bessemer_image::pack::{Packed, RawSource};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use convert::{Output, Packing};
pub(crate) use job::{Begun, Job, JobState, Jobs, Joined, Phase, Progress};
pub(crate) use remote::download_whole;

use crate::cache::Shared;
use crate::catalogue::{Entry, Key};
use crate::durable;
use crate::error::PrepareError;
use crate::registry::Reference;
use crate::request::{Request, Source};
use convert::Staged;

const STAGED_PACK: &str = "pack";
const STAGED_MANIFEST: &str = "manifest";

/// One preparation: what is asked for, with everything resolved that has to be known beforehand.
pub(crate) struct Preparation {
    pub(crate) shared: Arc<Shared>,
    pub(crate) request: Request,
    pub(crate) key: Key,
    /// What the source must have; nothing for a local file that came without.
    pub(crate) expected: Option<Digest>,
    pub(crate) progress: Progress,
    pub(crate) cancelled: CancellationToken,
}

/// A source that was converted, before it is published.
pub(crate) struct Converted {
    pub(crate) staged: Staged,
    pub(crate) format: DiskFormat,
    pub(crate) source_bytes: u64,
}

impl Preparation {
    /// Prepares the image and publishes it.
    pub(crate) async fn run(self) -> Result<Entry, PrepareError> {
        let this = Arc::new(self);
        let converted = match this.copy_of_peer().await {
            Some(copied) => Ok(copied),
            None => this.convert_source().await,
        };
        this.blocking(move |this| {
            let published = converted.and_then(|converted| this.publish(converted));
            if published.is_err() {
                this.remove_staged();
            }
            published
        })
        .await
    }

    /// What another cache has of the image; none when no other one has it, or it cannot be had from there.
    async fn copy_of_peer(self: &Arc<Self>) -> Option<Converted> {
        let found = self.shared.replicas.find(&self.key).await?;
        match copy::convert(self, &found).await {
            Ok(copied) => {
                let peer_url = found.image.urls.into_iter().take(1).collect();
                self.shared.replicas.note_holders(&found.image.manifest_digest, peer_url);
                Some(copied)
            }
            Err(error) => {
                let (source, peer) = (self.source_url(), found.peer);
                tracing::warn!(source, peer, %error, "image not copied, preparing it here");
                None
            }
        }
    }

    async fn convert_source(self: &Arc<Self>) -> Result<Converted, PrepareError> {
        match &self.request.source {
            Source::File(path) => local::convert(self, path).await,
            Source::Http(url) => remote::convert(self, url).await,
            Source::Oci(reference) => remote::convert(self, &self.blob_url(reference)).await,
        }
    }

    /// Removes what a failed preparation left; it may be as large as a pack.
    fn remove_staged(&self) {
        let (pack, manifest) = self.staged();
        for path in [pack, manifest] {
            if let Err(error) = durable::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a failed preparation");
            }
        }
    }

    /// Runs blocking work on a thread of its own.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, PrepareError> + Send + 'static,
    ) -> Result<T, PrepareError> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&this)).await.map_err(|_| PrepareError::Lost)?
    }

    /// Where a registry has the file that was found to be meant.
    pub(crate) fn blob_url(&self, reference: &Reference) -> Url {
        let digest = self.expected.map(|digest| digest.to_string()).unwrap_or_default();
        self.shared.origins.registry_url(reference, "blobs", &format!("sha256:{digest}"))
    }

    pub(crate) fn source_url(&self) -> &str {
        &self.request.spec.source
    }

    /// Whether a source that begins with `start` is a raw image, which needs no decoder.
    fn is_raw(&self, start: &[u8]) -> Result<bool, PrepareError> {
        let content = format::probe(start);
        tracing::info!(source = self.source_url(), %content, "source probed");
        if matches!(content, Content::Compressed(_)) {
            return Ok(false);
        }
        let format = content.check(self.request.declared).map_err(|refused| {
            PrepareError::Format { source_url: self.source_url().to_owned(), refused }
        })?;
        Ok(format == DiskFormat::Raw)
    }

    /// Makes the pack of a raw image, whose bytes are those of the source. No space is reserved: all of the image's would be
    /// many times what most packs take.
    fn pack_raw<R: RawSource>(
        &self,
        raw: &R,
        read_failed: impl FnOnce(R::Error) -> PrepareError,
    ) -> Result<Staged, PrepareError> {
        let (pack, manifest_file) = self.staged();
        let level = self.shared.config.compression_level;
        let packing = Packing {
            source_url: self.source_url(),
            raw_algorithm: Algorithm::for_raw(self.given(), true),
            level,
            workers: workers()?,
            progress: &|done_bytes, total_bytes| {
                self.progress.report(Phase::Converting, done_bytes, total_bytes);
            },
            is_cancelled: &|| self.cancelled.is_cancelled(),
        };
        let output = Output::create(&pack, 0, &manifest_file)?;
        let Packed { manifest, raw_digest } = packing.pack(&output, raw, read_failed)?;
        Ok(Staged { manifest, raw_digest, level, pack, manifest_file })
    }

    /// Where pack and manifest are until they are published.
    fn staged(&self) -> (PathBuf, PathBuf) {
        let staged = |what| self.shared.layout.staged(&self.key, what);
        (staged(STAGED_PACK), staged(STAGED_MANIFEST))
    }

    /// What the source's digest was given in, if one was.
    fn given(&self) -> Option<Algorithm> {
        self.expected.map(|digest| digest.algorithm())
    }

    /// Whether the source is what the caller expects.
    pub(crate) fn check_digest(&self, found: Digest) -> Result<(), PrepareError> {
        match self.expected {
            Some(expected) if expected != found => Err(PrepareError::ChecksumMismatch {
                source_url: self.source_url().to_owned(),
                expected: Box::new(expected),
                found: Box::new(found),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Puts the image in its place. Everything about it was checked.
    fn publish(&self, converted: Converted) -> Result<Entry, PrepareError> {
        let Converted { staged, format, source_bytes } = converted;
        let Staged { manifest, raw_digest, .. } = &staged;
        let id = manifest.digest();
        let layout = &self.shared.layout;
        for (from, to) in
            [(&staged.pack, layout.pack(id)), (&staged.manifest_file, layout.manifest(id))]
        {
            durable::publish(from, &to)
                .map_err(|source| PrepareError::storage("publish", &to, source))?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry {
            entry_version: Entry::VERSION,
            name: self.request.name.clone(),
            spec: self.request.spec.clone(),
            id: id.to_string(),
            source_format: format.name().to_owned(),
            source_digest: self.expected.map(|digest| digest.to_string()),
            source_bytes,
            raw_bytes: manifest.raw_bytes(),
            raw_hash_algo: raw_digest.algorithm().name().to_owned(),
            raw_hash_value: raw_digest.to_string(),
            pack_bytes: manifest.pack_bytes(),
            manifest_bytes: manifest.encoded().len() as u64,
            chunk_count: manifest.chunk_count(),
            zero_chunk_count: manifest.zero_chunk_count(),
            compression_level: staged.level,
            prepared_at_unix_seconds: now.as_secs(),
            pinned: false,
        };
        self.shared
            .catalogue
            .insert(self.key.clone(), id, entry.clone())
            .map_err(|source| PrepareError::storage("write", layout.entry(&self.key), source))?;
        tracing::info!(
            image.id = %id, image.name = entry.name, raw_bytes = entry.raw_bytes,
            pack_bytes = entry.pack_bytes, "image prepared"
        );
        Ok(entry)
    }
}

/// Threads that decode and compress.
fn workers() -> Result<NonZeroUsize, PrepareError> {
    std::thread::available_parallelism()
        .map_err(|source| PrepareError::storage("count the processors of", "this host", source))
}
