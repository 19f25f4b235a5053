//! Any bytes as a qcow2 image: opening and reading end, with bytes or an error, within bounded memory.

#![no_main]

use bessemer_image::pack::RawSource;
use bessemer_image::qcow2::Qcow2;
use libfuzzer_sys::fuzz_target;

/// Largest guest to read, so that a run is short.
const MAX_VIRTUAL_BYTES: u64 = 64 << 20;
/// Pieces to read of it.
const PIECES: usize = 4;

fuzz_target!(|image: &[u8]| {
    let Ok(image) = Qcow2::open(image, MAX_VIRTUAL_BYTES) else { return };
    let mut piece = vec![0; 1 << 20];
    for offset in (0..image.raw_bytes()).step_by(piece.len()).take(PIECES) {
        let length = (image.raw_bytes() - offset).min(piece.len() as u64) as usize;
        let _ = image.read(offset, &mut piece[..length]);
    }
});
