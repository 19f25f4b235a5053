//! From a frame to raw bytes that are known to be right.

use super::CHUNK_BYTES;
use super::manifest::{ChunkIndex, Manifest};

/// A chunk that is not what the manifest says. Nothing of it may be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("chunk {index} refused: {refusal}")]
pub struct ChunkRefused {
    /// Which chunk.
    pub index: ChunkIndex,
    /// What is wrong with it.
    pub refusal: Refusal,
}

/// Why a chunk was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum Refusal {
    #[error("the image has {chunk_count} chunks")]
    NoSuchChunk { chunk_count: u64 },
    #[error("its frame has {found_bytes} bytes, the manifest says {expected_bytes}")]
    FrameLength { found_bytes: usize, expected_bytes: usize },
    #[error("its frame does not match the manifest's frame check")]
    FrameCheck,
    #[error("its frame is not valid zstd: {message}")]
    NotZstd { message: String },
    #[error("it has {found_bytes} raw bytes, the manifest says {expected_bytes}")]
    RawLength { found_bytes: usize, expected_bytes: usize },
    #[error("its raw bytes do not match the manifest's digest")]
    RawDigest,
}

/// Decodes frames. Holds one zstd context, so that decoding allocates nothing.
pub struct ChunkDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl ChunkDecoder {
    /// A decoder. Fails only when there is no memory for zstd's context (about 160 KiB).
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new()? })
    }

    /// Decompresses `frame` into the beginning of `into` and answers the chunk's raw bytes, which
    /// match the manifest's digest. On an error `into` holds nothing of use.
    ///
    /// # Panics
    /// When `into` is shorter than the chunk; [`CHUNK_BYTES`] always suffice.
    pub fn decode<'a>(
        &mut self,
        manifest: &Manifest,
        index: ChunkIndex,
        frame: &[u8],
        into: &'a mut [u8],
    ) -> Result<&'a [u8], ChunkRefused> {
        let refused = |refusal| ChunkRefused { index, refusal };
        let chunk = manifest.chunk_or_refuse(index)?;
        debug_assert!(chunk.raw_bytes <= CHUNK_BYTES);
        if frame.len() != chunk.frame_bytes {
            return Err(refused(Refusal::FrameLength {
                found_bytes: frame.len(),
                expected_bytes: chunk.frame_bytes,
            }));
        }
        // The slice caps what zstd writes: a frame that claims more fails instead of growing.
        let raw = &mut into[..chunk.raw_bytes];
        let found_bytes = self
            .zstd
            .decompress_to_buffer(frame, raw)
            .map_err(|error| refused(Refusal::NotZstd { message: error.to_string() }))?;
        manifest.verify_raw(index, &raw[..found_bytes])?;
        Ok(raw)
    }
}

impl std::fmt::Debug for ChunkDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkDecoder").finish_non_exhaustive()
    }
}
