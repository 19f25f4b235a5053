//! From a raw image to a pack and a manifest, synced, under temporary names.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bessemer_image::digest::{Algorithm, Digest};
use bessemer_image::pack::{Manifest, PackOptions, Packed, RawSource, write_pack};

use crate::error::PrepareError;
use crate::space;

/// The files that a preparation makes, open.
pub(crate) struct Output {
    pack: File,
    pack_path: PathBuf,
    manifest: File,
    manifest_path: PathBuf,
}

impl Output {
    /// Makes the files, and takes `reserved_bytes` of space for the pack.
    pub(crate) fn create(
        pack_path: &Path,
        reserved_bytes: u64,
        manifest_path: &Path,
    ) -> Result<Self, PrepareError> {
        let create = |path: &Path| {
            File::create(path).map_err(|source| PrepareError::storage("write", path, source))
        };
        let pack = create(pack_path)?;
        space::reserve(&pack, pack_path, reserved_bytes)?;
        Ok(Self {
            pack,
            pack_path: pack_path.to_owned(),
            manifest: create(manifest_path)?,
            manifest_path: manifest_path.to_owned(),
        })
    }
}

/// How to make a pack.
pub(crate) struct Packing<'a> {
    pub(crate) source_url: &'a str,
    pub(crate) raw_algorithm: Algorithm,
    pub(crate) level: i32,
    pub(crate) workers: NonZeroUsize,
    /// Hears how many bytes are done, and of how many; 0 while that is unknown.
    pub(crate) progress: &'a dyn Fn(u64, u64),
    /// Whether nobody wants the pack any more.
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
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

impl Packing<'_> {
    /// Makes the pack of a raw image.
    pub(crate) fn pack<R: RawSource>(
        &self,
        output: &Output,
        raw: &R,
        read_failed: impl FnOnce(R::Error) -> PrepareError,
    ) -> Result<Packed, PrepareError> {
        let Self { level, raw_algorithm, workers, .. } = *self;
        let mut sink = Sink { file: &output.pack, is_cancelled: self.is_cancelled };
        let options = PackOptions { level, raw_algorithm, workers };
        let total_bytes = raw.raw_bytes().unwrap_or_default();
        let packed = write_pack(raw, &mut sink, &options, |done_bytes| {
            (self.progress)(done_bytes, total_bytes);
        })
        .map_err(|error| {
            let path = output.pack_path.clone();
            PrepareError::from_pack(error, path, read_failed, self.source_url)
        })?;
        let failed = |source| PrepareError::storage("write", &output.pack_path, source);
        // Frees what was reserved and not needed.
        output.pack.set_len(packed.manifest.pack_bytes()).map_err(failed)?;
        output.pack.sync_all().map_err(failed)?;
        store_manifest(&packed.manifest, &output.manifest, &output.manifest_path)?;
        Ok(packed)
    }
}

/// Writes a manifest's file, durably.
pub(super) fn store_manifest(
    manifest: &Manifest,
    mut file: &File,
    path: &Path,
) -> Result<(), PrepareError> {
    let stored = file.write_all(manifest.encoded()).and_then(|()| file.sync_all());
    stored.map_err(|source| PrepareError::storage("write", path, source))
}

/// The pack's file. Refuses to be written when the work is cancelled, which ends it.
struct Sink<'a> {
    file: &'a File,
    is_cancelled: &'a dyn Fn() -> bool,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.is_cancelled)() {
            return Err(io::Error::other("the cache is stopping"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
