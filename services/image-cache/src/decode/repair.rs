//! Makes damaged frames of a pack again. What comes out must be exactly what the manifest says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bessemer_image::format::DiskFormat;
use bessemer_image::pack::{Chunk, ChunkEncoder, Manifest, RawSource as _};

use super::child::Decoding;
use super::growing::GrowingFile;
use crate::error::PrepareError;

/// A pack that may have damaged frames.
pub(super) struct Pack {
    path: PathBuf,
    file: File,
    manifest: Manifest,
}

pub(super) enum Repaired {
    /// So many frames were made again.
    Frames(usize),
    /// This chunk of the image is another one than before.
    Different { index: u64 },
}

impl Pack {
    pub(super) fn open(path: &Path, manifest: &Path) -> Result<Self, PrepareError> {
        let open = || {
            let encoded = std::fs::read(manifest)?;
            let manifest = Manifest::parse(encoded, None).map_err(io::Error::other)?;
            let file = File::options().read(true).write(true).open(path)?;
            Ok(Self { path: path.to_owned(), file, manifest })
        };
        open().map_err(|source| PrepareError::storage("read", path, source))
    }

    fn is_whole(&self, chunk: &Chunk) -> bool {
        frame_is_whole(&self.manifest, &self.file, chunk)
    }
}

/// Whether a frame can be read and is what it was.
pub(crate) fn frame_is_whole(manifest: &Manifest, pack: &File, chunk: &Chunk) -> bool {
    let mut frame = vec![0; chunk.frame_bytes];
    pack.read_exact_at(&mut frame, chunk.frame_offset_bytes).is_ok()
        && manifest.verify_frame(chunk.index, &frame).is_ok()
}

impl Decoding<'_> {
    /// Looks at every frame, for damage seldom comes alone, and makes damaged ones again from the image.
    pub(super) fn repair(
        &self,
        pack: &Pack,
        format: DiskFormat,
        image: &GrowingFile,
    ) -> Result<Repaired, PrepareError> {
        let failed = |source| PrepareError::storage("repair", &pack.path, source);
        let disk = self.disk(format, image)?;
        if disk.virtual_bytes() != pack.manifest.raw_bytes() {
            return Ok(Repaired::Different { index: 0 });
        }
        let mut encoder =
            ChunkEncoder::new(self.job.level).map_err(io::Error::other).map_err(failed)?;
        let mut frames = 0;
        for chunk in pack.manifest.chunks().filter(|chunk| !pack.is_whole(chunk)) {
            let index = chunk.index.0;
            // What is said to be zero is not written to the buffer, which is zero.
            let mut raw = vec![0; chunk.raw_bytes];
            disk.read(chunk.index.raw_offset_bytes(), &mut raw)
                .map_err(|error| self.undecodable(error))?;
            let again = encoder.encode_again(&chunk, &raw).map_err(io::Error::other);
            let Some(frame) = again.map_err(failed)? else {
                return Ok(Repaired::Different { index });
            };
            pack.file.write_all_at(&frame, chunk.frame_offset_bytes).map_err(failed)?;
            frames += 1;
        }
        pack.file.sync_all().map_err(failed)?;
        Ok(Repaired::Frames(frames))
    }
}
