//! File systems on parts of a disk: telling which one is there, and making new ones.

mod bound;
pub(crate) mod ext4;
pub(crate) mod fat;
pub(crate) mod swap;

use std::io;
use std::process::{ChildStdin, Command, Stdio};

use uuid::Uuid;

use crate::disk::{DiskError, OpenDisk};

/// A file system that could not be made or filled.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} on {device}")]
pub(crate) struct FileSystemError {
    /// What was attempted.
    pub(crate) action: &'static str,
    pub(crate) device: String,
    #[source]
    pub(crate) source: io::Error,
}

/// Runs a program. What it says is told when it fails.
fn ran(command: &mut Command) -> io::Result<()> {
    ran_with(command, |_| Ok(()))
}

/// Runs a program with what `feed` writes to it. It does not outlive the agent.
fn ran_with(
    command: &mut Command,
    feed: impl FnOnce(&mut ChildStdin) -> io::Result<()>,
) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{program}: {error}"));
    let mut child = bound::bind(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(named)?;
    // One that ends early says why; its words come first.
    let fed = child.stdin.take().map_or(Ok(()), |mut stdin| feed(&mut stdin));
    let output = child.wait_with_output().map_err(named)?;
    if output.status.success() {
        return fed;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} ended with {}: {}", output.status, said.trim())))
}

/// A file system that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// As `mount` calls it.
    pub(crate) name: &'static str,
    pub(crate) uuid: Uuid,
}

/// A mark by which a file system is known, and where its UUID is, in bytes.
struct Mark {
    name: &'static str,
    mark: &'static [u8],
    mark_at: u64,
    uuid_at: u64,
}

/// Those that Linux systems have their root on. ext2 and ext3 are read as ext4.
const MARKS: [Mark; 3] = [
    Mark { name: "ext4", mark: &[0x53, 0xef], mark_at: 1024 + 56, uuid_at: 1024 + 104 },
    Mark { name: "xfs", mark: b"XFSB", mark_at: 0, uuid_at: 32 },
    Mark { name: "btrfs", mark: b"_BHRfS_M", mark_at: 65_536 + 64, uuid_at: 65_536 + 32 },
];

/// The file system that begins where `disk` begins, if it is one of those known.
pub(crate) fn probe(disk: &OpenDisk) -> Result<Option<Found>, DiskError> {
    for Mark { name, mark, mark_at, uuid_at } in MARKS {
        if disk.size_bytes() < mark_at + mark.len() as u64 || disk.size_bytes() < uuid_at + 16 {
            continue;
        }
        let mut found = vec![0; mark.len()];
        disk.read_at(&mut found, mark_at)?;
        if found == mark {
            let mut uuid = [0; 16];
            disk.read_at(&mut uuid, uuid_at)?;
            return Ok(Some(Found { name, uuid: Uuid::from_bytes(uuid) }));
        }
    }
    Ok(None)
}
