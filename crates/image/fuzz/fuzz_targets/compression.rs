//! Any bytes as a compressed source: unpacking ends, with bytes or an error, within bounded memory.

#![no_main]

use std::io::Read as _;

use bessemer_image::SequentialReader;
use bessemer_image::format::{Content, probe};
use libfuzzer_sys::fuzz_target;

/// Most that is unpacked, so that a run is short.
const MAX_BYTES: u64 = 8 << 20;

fuzz_target!(|source: &[u8]| {
    let Content::Compressed(compression) = probe(source) else { return };
    let Ok(unpacked) = compression.decompress(SequentialReader::new(source)) else { return };
    let _ = std::io::copy(&mut unpacked.take(MAX_BYTES), &mut std::io::sink());
});
