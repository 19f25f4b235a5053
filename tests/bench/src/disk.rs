//! A disk like those that are deployed: partitioned, with a file system of real files, part empty.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Where the file system begins on the disk.
pub(crate) const FILE_SYSTEM_OFFSET_MIB: u64 = 1;
/// Left behind the partition for the backup GPT.
const TAIL_MIB: u64 = 1;
/// Where real files come from: programs, libraries and documents in the mix of a system image.
const FILES: [&str; 4] = ["/usr/bin", "/usr/lib", "/usr/share", "/usr/sbin"];

/// Runs a program and returns what it printed; what it complains about is the error.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program with text and paths as arguments.
#[macro_export]
macro_rules! run {
    ($program:literal $(, $argument:expr)* $(,)?) => {
        $crate::disk::run($program, &[$(std::ffi::OsStr::new($argument)),*])
    };
}

/// How large a disk is, and how full.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Size of the disk in MiB.
    #[arg(long, default_value_t = 3072)]
    size_mib: u64,
    /// How much of it is files, in per cent.
    #[arg(long, default_value_t = 40)]
    filled_percent: u64,
}

impl Size {
    /// Makes a raw disk at `directory/disk.raw`.
    pub(crate) fn make(self, directory: &Path) -> anyhow::Result<PathBuf> {
        let stage = self.stage(directory)?;
        let disk = self.build(&stage, &directory.join("disk.raw"))?;
        fs::remove_dir_all(stage)?;
        Ok(disk)
    }

    /// Gathers the files of a disk, in a directory below `directory`.
    pub(crate) fn stage(self, directory: &Path) -> anyhow::Result<PathBuf> {
        eprintln!("making a disk of {} MiB", self.size_mib);
        let filled_bytes = (self.size_mib << 20) / 100 * self.filled_percent;
        let stage = directory.join("stage");
        fs::create_dir_all(&stage)?;
        let mut left = filled_bytes;
        for (number, root) in FILES.iter().enumerate() {
            // Each directory gives its part, so that no kind of file is the only one.
            let share = filled_bytes / FILES.len() as u64 * (number as u64 + 1);
            let keep = filled_bytes.saturating_sub(share);
            copy(Path::new(root), &stage.join(number.to_string()), &mut left, keep)?;
        }
        Ok(stage)
    }

    /// Makes a raw disk of the files in `stage`.
    pub(crate) fn build(self, stage: &Path, disk: &Path) -> anyhow::Result<PathBuf> {
        let partition = disk.with_extension("partition");
        let partition_mib = self.size_mib - FILE_SYSTEM_OFFSET_MIB - TAIL_MIB;
        run!("mke2fs", "-q", "-t", "ext4", "-d", stage, &partition, &format!("{partition_mib}M"))?;
        fs::File::create(disk)?.set_len(self.size_mib << 20)?;
        let new = format!("--new=1:{}:+{partition_mib}M", FILE_SYSTEM_OFFSET_MIB * 2048);
        run!("sgdisk", &new, disk)?;
        let (from, to) = (format!("if={}", partition.display()), format!("of={}", disk.display()));
        let seek = format!("seek={FILE_SYSTEM_OFFSET_MIB}");
        run!("dd", &from, &to, "bs=1M", &seek, "conv=notrunc,sparse", "status=none")?;
        fs::remove_file(partition)?;
        Ok(disk.to_owned())
    }
}

/// Copies files until only `keep` of the `left` bytes are left.
fn copy(from: &Path, to: &Path, left: &mut u64, keep: u64) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if *left <= keep {
            break;
        }
        let target = to.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            copy(&entry.path(), &target, left, keep)?;
        } else if metadata.is_file()
            && metadata.len() <= *left
            && fs::copy(entry.path(), target).is_ok()
        {
            *left -= metadata.len();
        }
    }
    Ok(())
}
