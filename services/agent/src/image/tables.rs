//! The partition tables of the root device, before and after an image is written.

use bessemer_image::pack::CHUNK_BYTES;

use crate::disk::OpenDisk;
use crate::partition::gpt::Gpt;
use crate::task::TaskError;

/// Removes old partition tables, at both ends of the disk and where the image will end: an earlier,
/// larger disk image may have left a backup table there. The one at the start goes first, for good:
/// cut off after that, the disk does not boot what it no longer holds whole.
pub(super) fn wipe(disk: &OpenDisk, image_bytes: u64) -> Result<(), TaskError> {
    let chunk = CHUNK_BYTES as u64;
    for end in [chunk, image_bytes, disk.size_bytes()] {
        let end = end.min(disk.size_bytes());
        let start = end.saturating_sub(chunk);
        disk.zero(start, end - start)?;
        disk.flush()?;
    }
    Ok(())
}

/// Makes the tables of the image those of the disk: the backup GPT is moved to the disk's end, and
/// the kernel reads the partitions anew.
pub(super) fn settle(disk: &OpenDisk) -> Result<(), TaskError> {
    if let Some(mut gpt) = Gpt::read(disk)?
        && !gpt.fills(disk)
    {
        gpt.stretch_to(disk);
        gpt.write(disk)?;
    }
    disk.reread_partition_table();
    Ok(())
}
