//! What the targets share.

use bessemer_image::disk::Disk;
use bessemer_image::format::DiskFormat;
use bessemer_image::pack::RawSource as _;

/// Largest guest to read, so that a run is short.
const MAX_VIRTUAL_BYTES: u64 = 64 << 20;
/// Pieces to read of it.
const PIECES: usize = 4;

/// Any bytes as a disk image: opening and reading end, with bytes or an error, within bounded
/// memory.
pub fn read_disk(format: DiskFormat, image: &[u8]) {
    let Ok(disk) = Disk::open(format, image, MAX_VIRTUAL_BYTES) else { return };
    let mut piece = vec![0; 1 << 20];
    for offset in (0..disk.virtual_bytes()).step_by(piece.len()).take(PIECES) {
        let length = (disk.virtual_bytes() - offset).min(piece.len() as u64) as usize;
        let _ = disk.read(offset, &mut piece[..length]);
    }
}
