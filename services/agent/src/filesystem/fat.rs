//! FAT, which firmware reads: made by `mkfs.fat`, filled by mtools, neither of which needs a partition or a mount.

use std::io;
use std::process::{ChildStdin, Command};

use super::{FileSystemError, ran, ran_with};
use crate::disk::OpenDisk;

/// The unit in which `mkfs.fat` is told the size, in bytes.
const BLOCK_BYTES: u64 = 1024;

/// Makes an empty FAT of all of `part`.
pub(crate) fn make(part: &OpenDisk, label: &str) -> Result<(), FileSystemError> {
    let fault = |source| FileSystemError { action: "make a FAT", device: part.name(), source };
    let sector_bytes = part.sector_bytes();
    let mut command = Command::new("mkfs.fat");
    command
        // On the disk as a whole, as far as the program can see.
        .args(["-I", "-n", &label.to_ascii_uppercase(), "-S", &sector_bytes.to_string()])
        .args(["--offset", &(part.start_bytes() / sector_bytes).to_string()])
        .arg(part.path())
        .arg((part.size_bytes() / BLOCK_BYTES).to_string());
    ran(&mut command).map_err(fault)
}

/// A FAT that is filled.
#[derive(Debug)]
pub(crate) struct Fat<'a> {
    part: &'a OpenDisk,
}

impl<'a> Fat<'a> {
    /// The file system of all of `part`.
    pub(crate) const fn on(part: &'a OpenDisk) -> Self {
        Self { part }
    }

    /// Makes a directory, in one that is there.
    pub(crate) fn create_dir(&self, path: &str) -> io::Result<()> {
        ran(self.tool("mmd").arg(within(path)))
    }

    /// Writes a file with what `feed` gives, in a directory that is there. A file of that name is replaced.
    pub(crate) fn write(
        &self,
        path: &str,
        feed: impl FnOnce(&mut ChildStdin) -> io::Result<()>,
    ) -> io::Result<()> {
        ran_with(self.tool("mcopy").args(["-o", "-", &within(path)]), feed)
    }

    fn tool(&self, name: &str) -> Command {
        let mut image = self.part.path().as_os_str().to_owned();
        image.push(format!("@@{}", self.part.start_bytes()));
        let mut command = Command::new(name);
        // It would refuse what does not look like a floppy disk.
        command.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(image);
        command
    }
}

fn within(path: &str) -> String {
    format!("::/{path}")
}
