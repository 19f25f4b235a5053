//! Any bytes as a manifest: what is accepted is consistent in itself.

#![no_main]

use bessemer_image::pack::{ChunkIndex, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|encoded: &[u8]| {
    let Ok(manifest) = Manifest::parse(encoded.to_vec(), None) else { return };
    let chunks: Vec<_> = manifest.chunks().collect();
    assert_eq!(chunks.len() as u64, manifest.chunk_count());
    let raw_bytes: u64 = chunks.iter().map(|chunk| chunk.raw_bytes as u64).sum();
    assert_eq!(raw_bytes, manifest.raw_bytes());
    let in_extents: u64 = manifest.extents_from(ChunkIndex(0)).map(|extent| extent.chunk_count).sum();
    assert_eq!(in_extents + manifest.zero_chunk_count(), manifest.chunk_count());
    for chunk in chunks {
        assert_eq!(manifest.chunk(chunk.index), Some(chunk));
        assert_eq!(manifest.chunk_at_pack_offset(chunk.frame_offset_bytes), Some(chunk));
    }
});
