//! From a chunk's raw bytes to its frame and its entry in the manifest.

use super::manifest::{Chunk, Entry};
use super::{CHUNK_BYTES, MAX_FRAME_BYTES, ZEROS};

/// Encodes chunks. The same bytes at the same level give the same frame, in this build and any
/// other with the same zstd, so that a damaged frame can be made again from the source.
pub struct ChunkEncoder {
    zstd: zstd::bulk::Compressor<'static>,
}

/// zstd could not compress a chunk: a level it does not know, or no memory for its tables.
#[derive(Debug, thiserror::Error)]
#[error("compress a chunk")]
pub struct EncodeFailed {
    /// What zstd said.
    #[source]
    pub source: std::io::Error,
}

impl ChunkEncoder {
    /// An encoder at a zstd level (negative ones are the fast ones).
    pub fn new(level: i32) -> Result<Self, EncodeFailed> {
        let zstd = zstd::bulk::Compressor::new(level).map_err(|source| EncodeFailed { source })?;
        Ok(Self { zstd })
    }

    /// Replaces `frame` by the frame of the chunk `raw`.
    ///
    /// # Panics
    /// When `raw` is longer than [`CHUNK_BYTES`].
    pub(super) fn encode(
        &mut self,
        raw: &[u8],
        frame: &mut Vec<u8>,
    ) -> Result<Entry, EncodeFailed> {
        assert!(raw.len() <= CHUNK_BYTES, "a chunk of {} bytes", raw.len());
        frame.clear();
        frame.reserve(MAX_FRAME_BYTES);
        self.zstd.compress_to_buffer(raw, frame).map_err(|source| EncodeFailed { source })?;
        Ok(Entry {
            frame_bytes: frame.len() as u32,
            is_zero: raw == &ZEROS[..raw.len()],
            frame_check: frame_check(frame),
            raw_digest: *blake3::hash(raw).as_bytes(),
        })
    }

    /// Makes the frame of `chunk` again from its raw bytes. Nothing when the bytes are not the
    /// chunk's, or when this zstd no longer makes that frame.
    pub fn encode_again(
        &mut self,
        chunk: &Chunk,
        raw: &[u8],
    ) -> Result<Option<Vec<u8>>, EncodeFailed> {
        if raw.len() != chunk.raw_bytes {
            return Ok(None);
        }
        let mut frame = Vec::new();
        let entry = self.encode(raw, &mut frame)?;
        let is_same = entry.raw_digest == chunk.raw_digest
            && entry.frame_check == chunk.frame_check
            && frame.len() == chunk.frame_bytes;
        Ok(is_same.then_some(frame))
    }
}

impl std::fmt::Debug for ChunkEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkEncoder").finish_non_exhaustive()
    }
}

fn frame_check(frame: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&blake3::hash(frame).as_bytes()[..8]);
    check
}
