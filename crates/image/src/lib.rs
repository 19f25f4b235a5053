//! Image formats, digests and the pack format: bytes in, bytes and verdicts out.
//!
//! A *source image* is what a user names: a disk image of some [`format`], from anywhere, perhaps
//! inside a [`compression`]. [`disk::Disk`] reads it as the raw disk that a guest sees. A
//! *prepared image* is what agents write: a pack (seekable zstd, one frame a chunk) and its
//! manifest, whose BLAKE3 is the image's id. [`pack::write_pack`] makes the one from the other in
//! a single pass; [`pack::ChunkDecoder`] undoes it chunk by chunk and believes nothing it has not
//! verified.
//!
//! Nothing here knows where bytes come from or go to: no HTTP, no gRPC, no async.

mod read_at;

pub mod checksum_file;
pub mod compression;
pub mod digest;
pub mod disk;
pub mod format;
pub mod pack;
pub mod permit;

pub use read_at::{ReadAt, SequentialReader, SourceFile};
