//! From a source's bytes to a pack and a manifest, synced, under temporary names.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use bessemer_image::ReadAt;
use bessemer_image::digest::{Algorithm, Digest};
use bessemer_image::disk::{Disk, DiskError};
use bessemer_image::format::DiskFormat;
use bessemer_image::pack::{Manifest, PackOptions, RawSource, write_pack};
use tokio_util::sync::CancellationToken;

use super::{Phase, Progress};
use crate::error::PrepareError;

/// How to convert one source.
pub(crate) struct Conversion<'a> {
    pub(crate) source_url: &'a str,
    pub(crate) format: DiskFormat,
    pub(crate) raw_algorithm: Algorithm,
    pub(crate) max_image_bytes: u64,
    pub(crate) level: i32,
    pub(crate) pack: PathBuf,
    pub(crate) manifest: PathBuf,
    pub(crate) progress: &'a Progress,
    pub(crate) cancelled: &'a CancellationToken,
}

/// A pack and a manifest that are durable but not published.
pub(crate) struct Staged {
    pub(crate) manifest: Manifest,
    pub(crate) raw_digest: Digest,
    /// zstd level of the chunks.
    pub(crate) level: i32,
    pub(crate) pack: PathBuf,
    pub(crate) manifest_file: PathBuf,
}

impl Conversion<'_> {
    /// Decodes an image and makes its pack.
    pub(crate) fn run(&self, source: impl ReadAt) -> Result<Staged, PrepareError> {
        let disk = Disk::open(self.format, source, self.max_image_bytes)
            .map_err(|error| self.unreadable(error))?;
        self.pack(&disk, |error| self.unreadable(error))
    }

    /// Makes the pack of a raw image.
    pub(crate) fn pack<R: RawSource>(
        &self,
        raw: &R,
        read_failed: impl FnOnce(R::Error) -> PrepareError,
    ) -> Result<Staged, PrepareError> {
        let failed = |source| PrepareError::storage("write", &self.pack, source);
        let file = File::create(&self.pack).map_err(failed)?;
        let mut sink = Sink { file, cancelled: self.cancelled };
        let workers = thread::available_parallelism().map_err(failed)?;
        let options = PackOptions { level: self.level, raw_algorithm: self.raw_algorithm, workers };
        let total_bytes = raw.raw_bytes().unwrap_or_default();
        let packed = write_pack(raw, &mut sink, &options, |done_bytes| {
            self.progress.report(Phase::Converting, done_bytes, total_bytes);
        })
        .map_err(|error| {
            PrepareError::from_pack(error, self.pack.clone(), read_failed, self.source_url)
        })?;
        sink.file.sync_all().map_err(failed)?;
        store_manifest(&packed.manifest, &self.manifest)?;
        Ok(Staged {
            manifest: packed.manifest,
            raw_digest: packed.raw_digest,
            level: self.level,
            pack: self.pack.clone(),
            manifest_file: self.manifest.clone(),
        })
    }

    fn unreadable(&self, error: DiskError) -> PrepareError {
        PrepareError::Disk { source_url: self.source_url.to_owned(), error }
    }
}

/// Writes a manifest's file, durably.
pub(super) fn store_manifest(manifest: &Manifest, path: &Path) -> Result<(), PrepareError> {
    let store = || {
        let mut file = File::create(path)?;
        file.write_all(manifest.encoded())?;
        file.sync_all()
    };
    store().map_err(|source| PrepareError::storage("write", path, source))
}

/// The pack's file. Refuses to be written when the service stops, which ends the conversion.
struct Sink<'a> {
    file: File,
    cancelled: &'a CancellationToken,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancelled.is_cancelled() {
            return Err(io::Error::other("the cache is stopping"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
