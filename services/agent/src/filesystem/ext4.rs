//! ext4: made by `mke2fs`, and read without the kernel, which trusts what it mounts.

use std::process::Command;

use ext4_view::{Ext4, Ext4Read};

use super::{FileSystemError, ran};
use crate::disk::OpenDisk;

/// Makes an empty ext4 of all of `part`.
pub(crate) fn make(part: &OpenDisk, label: &str) -> Result<(), FileSystemError> {
    let fault = |source| FileSystemError { action: "make an ext4", device: part.name(), source };
    let mut command = Command::new("mke2fs");
    command
        .args(["-q", "-F", "-t", "ext4", "-L", label, "-E"])
        .arg(format!("offset={},lazy_itable_init=1", part.start_bytes()))
        .arg(part.path())
        .arg(format!("{}k", part.size_bytes() / 1024));
    ran(&mut command).map_err(fault)
}

/// The ext4 (or ext2, ext3) of all of `part`, for reading.
pub(crate) fn open(part: OpenDisk) -> Result<Ext4, ext4_view::Ext4Error> {
    Ext4::load(Box::new(Reader(part)))
}

struct Reader(OpenDisk);

impl Ext4Read for Reader {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.read_at(dst, start_byte)?)
    }
}
