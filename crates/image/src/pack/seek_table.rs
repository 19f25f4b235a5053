//! The seek table of the zstd seekable format 0.1.0 (zstd's `contrib/seekable_format`): a
//! skippable frame at the end of the file that lists every frame's lengths.

use super::manifest::Manifest;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const SKIPPABLE_HEADER_BYTES: u64 = 8;
/// Compressed length and raw length, u32 each; the optional checksum is left out, for the manifest
/// has better ones.
const ENTRY_BYTES: u64 = 8;
const FOOTER_BYTES: u64 = 9;

/// Bytes of the table of a file of `frame_count` frames.
pub(super) fn encoded_bytes(frame_count: u64) -> u64 {
    SKIPPABLE_HEADER_BYTES + frame_count * ENTRY_BYTES + FOOTER_BYTES
}

/// The table of a pack.
pub(super) fn encode(manifest: &Manifest) -> Vec<u8> {
    let frame_count = manifest.chunk_count();
    let table_bytes = frame_count * ENTRY_BYTES + FOOTER_BYTES;
    let mut table = Vec::with_capacity(encoded_bytes(frame_count) as usize);
    table.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    table.extend_from_slice(&(table_bytes as u32).to_le_bytes());
    for chunk in manifest.chunks() {
        table.extend_from_slice(&(chunk.frame_bytes as u32).to_le_bytes());
        table.extend_from_slice(&(chunk.raw_bytes as u32).to_le_bytes());
    }
    table.extend_from_slice(&(frame_count as u32).to_le_bytes());
    // Descriptor: no checksums.
    table.push(0);
    table.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    table
}
