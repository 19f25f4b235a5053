//! An open disk: a block device, or a regular file that acts as one. Positional reads and writes,
//! zeroing, flushing. Knows nothing of what the bytes mean.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::buffer::{AlignedBuffer, is_direct};
use super::reread;

/// How much is written at once where the kernel cannot zero a range for us, and read back at once, in bytes.
const ZERO_WRITE_BYTES: usize = 1024 * 1024;

/// Sector size of a regular file that acts as a disk, in bytes.
const FILE_SECTOR_BYTES: u32 = 512;

/// A disk operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {device} at byte {offset_bytes}")]
pub(crate) struct DiskError {
    /// What was attempted.
    pub(crate) operation: &'static str,
    /// The device or file.
    pub(crate) device: String,
    /// Where on the disk, in bytes.
    pub(crate) offset_bytes: u64,
    #[source]
    pub(crate) source: io::Error,
}

/// A disk opened for reading and writing.
#[derive(Debug)]
pub(crate) struct OpenDisk {
    path: PathBuf,
    /// Through the page cache: for what is not aligned.
    buffered: File,
    /// Past the page cache: keeps memory flat and is twice as fast. `None` where the file system
    /// does not offer it.
    direct: Option<File>,
    /// Where on the device it begins: other than 0 for a part of a disk.
    start_bytes: u64,
    size_bytes: u64,
    sector_bytes: u32,
    is_block_device: bool,
}

impl OpenDisk {
    /// Opens the block device or regular file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let open = || -> io::Result<Self> {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let buffered = options.open(path)?;
            let flags = i32::try_from(OFlags::DIRECT.bits()).expect("O_DIRECT is one low bit");
            let direct = match options.custom_flags(flags).open(path) {
                Ok(file) => Some(file),
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => None,
                Err(error) => return Err(error),
            };

            let is_block_device = buffered.metadata()?.file_type().is_block_device();
            let sector_bytes = if is_block_device {
                rustix::fs::ioctl_blksszget(&buffered)?
            } else {
                FILE_SECTOR_BYTES
            };
            // The metadata of a block device has no length; its end has.
            let size_bytes = rustix::fs::seek(&buffered, SeekFrom::End(0))?;
            Ok(Self {
                path: path.to_owned(),
                buffered,
                direct,
                start_bytes: 0,
                size_bytes,
                sector_bytes,
                is_block_device,
            })
        };
        open().map_err(|source| DiskError {
            operation: "open",
            device: path.display().to_string(),
            offset_bytes: 0,
            source,
        })
    }

    /// Opens each, or none if one cannot be.
    pub(crate) fn open_all<'a>(
        paths: impl Iterator<Item = &'a Path>,
    ) -> Result<Vec<Self>, DiskError> {
        paths.map(Self::open).collect()
    }

    /// A range of the disk as a disk of its own: nothing outside of it can be reached by that.
    pub(crate) fn part(&self, range: Range<u64>) -> Result<Self, DiskError> {
        let fault = || self.at_fault("open", range.start);
        if range.start > range.end || range.end > self.size_bytes {
            return Err(fault()(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Self {
            path: self.path.clone(),
            buffered: self.buffered.try_clone().map_err(fault())?,
            direct: self.direct.as_ref().map(File::try_clone).transpose().map_err(fault())?,
            start_bytes: self.start_bytes + range.start,
            size_bytes: range.end - range.start,
            ..*self
        })
    }

    /// The device's name for people and reports.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The device or file that it is, or is a part of.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where on the device it begins, in bytes.
    pub(crate) fn start_bytes(&self) -> u64 {
        self.start_bytes
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The disk as if it had other sectors.
    #[cfg(test)]
    pub(crate) fn with_sectors_of(self, sector_bytes: u32) -> Self {
        Self { sector_bytes, ..self }
    }

    /// Logical sector size, in bytes: the unit of partition tables.
    pub(crate) fn sector_bytes(&self) -> u64 {
        u64::from(self.sector_bytes)
    }

    /// Fills `bytes` from `offset_bytes` on.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset_bytes: u64) -> Result<(), DiskError> {
        let at = self.place("read", offset_bytes, bytes.len() as u64)?;
        let file = self.file_for(bytes, at);
        file.read_exact_at(bytes, at).map_err(self.at_fault("read", offset_bytes))
    }

    /// Writes all of `bytes` at `offset_bytes`. Durable after [`Self::flush`].
    pub(crate) fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> Result<(), DiskError> {
        let at = self.place("write", offset_bytes, bytes.len() as u64)?;
        let file = self.file_for(bytes, at);
        file.write_all_at(bytes, at).map_err(self.at_fault("write", offset_bytes))
    }

    /// Makes a range read as zeros, whatever it held: the kernel does it where it can (holes in a
    /// file, write-zeroes commands of a disk), otherwise zeros are written.
    pub(crate) fn zero(&self, offset_bytes: u64, length_bytes: u64) -> Result<(), DiskError> {
        if length_bytes == 0 {
            return Ok(());
        }
        let at = self.place("zero", offset_bytes, length_bytes)?;
        // Only a hole when the device guarantees zeros from then on; the second asks for zeros
        // by any means the kernel has. Both answer an error rather than leave old data.
        let modes = [
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        ];
        for mode in modes {
            let attempt = || rustix::fs::fallocate(&self.buffered, mode, at, length_bytes);
            match rustix::io::retry_on_intr(attempt) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::NODEV) => {}
                Err(errno) => return Err(self.at_fault("zero", offset_bytes)(errno.into())),
            }
        }
        self.overwrite(offset_bytes, length_bytes)
    }

    /// Writes zeros over a range, whatever the kernel could do instead.
    pub(crate) fn overwrite(&self, offset_bytes: u64, length_bytes: u64) -> Result<(), DiskError> {
        let zeros = AlignedBuffer::new(ZERO_WRITE_BYTES);
        let end = offset_bytes + length_bytes;
        let mut at = offset_bytes;
        while at < end {
            let length = (end - at).min(ZERO_WRITE_BYTES as u64);
            self.write_at(&zeros[..usize::try_from(length).unwrap_or(ZERO_WRITE_BYTES)], at)?;
            at += length;
        }
        Ok(())
    }

    /// Where in a range the first byte is that is not zero, if there is one.
    pub(crate) fn first_set_byte(&self, range: Range<u64>) -> Result<Option<u64>, DiskError> {
        let mut buffer = AlignedBuffer::new(ZERO_WRITE_BYTES);
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(ZERO_WRITE_BYTES as u64);
            let part = &mut buffer[..usize::try_from(length).unwrap_or(ZERO_WRITE_BYTES)];
            self.read_at(part, at)?;
            if let Some(place) = part.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + place as u64));
            }
            at += length;
        }
        Ok(None)
    }

    /// Everything written so far survives a power cut once this returns.
    pub(crate) fn flush(&self) -> Result<(), DiskError> {
        // One inode, so one sync covers both ways of writing, and the drive's own cache.
        self.buffered.sync_data().map_err(self.at_fault("flush", 0))
    }

    /// Has the kernel read the partition table anew. Best effort: a disk in use keeps its old
    /// view until the reboot that follows a deployment.
    pub(crate) fn reread_partition_table(&self) {
        if !self.is_block_device {
            return;
        }
        if let Err(error) = reread::partition_table(&self.buffered) {
            tracing::warn!(disk = %self.path.display(), %error, "kernel keeps its old view of the partition table");
        }
    }

    /// Where on the device a range of the disk begins; refused when it reaches beyond the disk.
    fn place(
        &self,
        operation: &'static str,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> Result<u64, DiskError> {
        let end = offset_bytes.checked_add(length_bytes);
        if end.is_some_and(|end| end <= self.size_bytes) {
            return Ok(self.start_bytes + offset_bytes);
        }
        Err(self.at_fault(operation, offset_bytes)(io::ErrorKind::UnexpectedEof.into()))
    }

    fn file_for(&self, bytes: &[u8], offset_bytes: u64) -> &File {
        match &self.direct {
            Some(direct) if is_direct(bytes, offset_bytes) => direct,
            _ => &self.buffered,
        }
    }

    fn at_fault(
        &self,
        operation: &'static str,
        offset_bytes: u64,
    ) -> impl FnOnce(io::Error) -> DiskError {
        let device = self.name();
        let offset_bytes = self.start_bytes.saturating_add(offset_bytes);
        move |source| DiskError { operation, device, offset_bytes, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file disk full of 0xA5.
    fn dirty_disk(length: u64) -> (tempfile::NamedTempFile, OpenDisk) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        let disk = OpenDisk::open(file.path()).unwrap();
        (file, disk)
    }

    #[test]
    fn zeroing_reaches_exactly_its_range() {
        for (offset, length) in [(0, 4096), (4096, 1 << 20), (1, 4094), (700_001, 1_300_003)] {
            let (file, disk) = dirty_disk(3_000_000);
            disk.zero(offset, length).unwrap();

            let content = std::fs::read(file.path()).unwrap();
            for (at, byte) in content.iter().enumerate() {
                let inside = (offset..offset + length).contains(&(at as u64));
                assert_eq!(*byte, if inside { 0 } else { 0xa5 }, "byte {at} of {offset}+{length}");
            }
        }
    }

    #[test]
    fn written_zeros_reach_exactly_their_range() {
        let (file, disk) = dirty_disk(3_000_000);
        disk.overwrite(4096, 2_500_000).unwrap();
        let content = std::fs::read(file.path()).unwrap();
        assert!(content[4096..2_504_096].iter().all(|byte| *byte == 0));
        assert!(content[..4096].iter().chain(&content[2_504_096..]).all(|byte| *byte == 0xa5));
    }

    #[test]
    fn direct_and_buffered_transfers_agree() {
        let (_file, disk) = dirty_disk(1 << 20);
        let mut aligned = AlignedBuffer::new(8192);
        aligned.fill(0x11);
        disk.write_at(&aligned, 4096).unwrap();
        disk.write_at(&[0x22; 100], 5000).unwrap();
        disk.flush().unwrap();

        disk.read_at(&mut aligned, 4096).unwrap();
        assert_eq!(&aligned[..904], &[0x11; 904]);
        assert_eq!(&aligned[904..1004], &[0x22; 100]);
        assert_eq!(aligned[1004], 0x11);
    }

    #[test]
    fn a_part_is_a_disk_of_its_own() {
        let (file, disk) = dirty_disk(64 << 10);
        let part = disk.part(8192..24576).unwrap();
        assert_eq!(part.size_bytes(), 16384);
        part.write_at(&[0x11; 4096], 4096).unwrap();
        part.zero(8192, 8192).unwrap();
        let inner = part.part(4096..8192).unwrap();
        inner.write_at(&[0x22], 4095).unwrap();

        let content = std::fs::read(file.path()).unwrap();
        assert!(content[..12288].iter().chain(&content[24576..]).all(|byte| *byte == 0xa5));
        assert_eq!((&content[12288..16383], content[16383]), (&[0x11; 4095][..], 0x22));
        assert!(content[16384..24576].iter().all(|byte| *byte == 0));
        for beyond in [part.write_at(&[0; 2], 16383), part.zero(16384, 1)] {
            assert_eq!(beyond.unwrap_err().source.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(part.part(0..16385).is_err());
    }

    #[test]
    fn the_end_of_the_disk_is_an_error() {
        let (_file, disk) = dirty_disk(4096);
        let error = disk.read_at(&mut [0; 16], 4090).unwrap_err();
        assert_eq!((error.operation, error.offset_bytes), ("read", 4090));
    }
}
