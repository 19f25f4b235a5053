//! The pack: a prepared image that any static file server can serve and no reader has to trust.
//!
//! A prepared image is two files.
//!
//! The **pack** is an ordinary *seekable zstd* file. The raw image is cut into chunks of
//! [`CHUNK_BYTES`] (the last may be shorter); each chunk is one zstd frame, zero chunks included,
//! so `zstd -dc pack` yields the raw image byte for byte. A seek table in a skippable frame ends
//! the file, so that tools which know the seekable format can read it at random.
//!
//! The **manifest** says for each chunk how long its frame is, whether it is zero, and two
//! digests: one of the frame, for who serves it, one of the raw bytes, for who writes them to a
//! disk. All integers are little endian.
//!
//! ```text
//! header, 32 bytes        magic "BSMRPACK" | version u32 = 1 | chunk_bytes u32 = 1 MiB
//!                         | raw_bytes u64 | chunk_count u64
//! per chunk, 48 bytes     frame_bytes u32 | flags u32 (bit 0: all zero)
//!                         | frame_check [8] (start of the frame's BLAKE3) | raw BLAKE3 [32]
//! ```
//!
//! The BLAKE3 of the manifest ([`ManifestDigest`]) is the image's id. Who holds the id can take
//! manifest and chunks from anywhere: nothing that differs gets through.
//!
//! [`Manifest`] reads it, [`ChunkDecoder`] turns frames into verified raw bytes, [`write_pack`]
//! makes both files from a [`RawSource`] on all cores, [`ChunkEncoder`] makes one frame again.

mod decode;
mod encode;
mod manifest;
mod seek_table;
mod source;
mod write;

pub use decode::{ChunkDecoder, ChunkRefused, Refusal};
pub use encode::{ChunkEncoder, EncodeFailed};
pub use manifest::{
    Chunk, ChunkIndex, Extent, InvalidManifest, InvalidManifestDigest, Manifest, ManifestDigest,
    manifest_bytes,
};
pub use source::{RawBytes, RawSource, SequentialSource};
pub use write::{PackOptions, Packed, WritePackError, write_pack};

/// Raw bytes in a chunk. One MiB is the unit of verification, resumption and healing: small enough
/// that an agent holds a handful of them (raw and compressed) within its 64 MiB, large enough that
/// zstd loses next to nothing to the cut (its window at level 3 is 2 MiB) and that a 1 TiB image
/// still has a manifest of only 48 MiB.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Longest frame a chunk can have: zstd's worst case is the input, 1/256 of it and a few bytes.
pub const MAX_FRAME_BYTES: usize = CHUNK_BYTES + (CHUNK_BYTES >> 8) + 64;

/// Largest raw image a manifest may describe: 16 TiB, 768 MiB of manifest. A limit is needed so
/// that a reader can bound what it downloads and allocates; this one is four times the largest
/// system disk sold today.
pub const MAX_RAW_BYTES: u64 = 16 << 40;

/// Largest manifest that can be valid, so that a reader can bound its download.
pub const MAX_MANIFEST_BYTES: u64 = manifest::manifest_bytes(MAX_RAW_BYTES);

/// A chunk of zeros, to compare with and to hash.
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
