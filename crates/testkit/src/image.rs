//! Disk images with real partitions and files, made with the tools that everybody uses.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use sha2::{Digest, Sha256};

/// A qcow2 image of a disk with a GPT, an ESP-like first partition and an ext4 file system full of files.
#[derive(Debug)]
pub struct PartitionedImage {
    /// The raw disk.
    pub raw: PathBuf,
    /// The same as qcow2, with zlib-compressed clusters.
    pub qcow2: PathBuf,
    /// Size of the raw disk.
    pub raw_bytes: u64,
}

/// Where the file system begins: 1 MiB is what partitioning tools align to, and 15 MiB are left for a boot partition.
const FILE_SYSTEM_MIB: u64 = 16;

impl PartitionedImage {
    /// Builds the image in `directory`, `size_mib` large, with about `content_mib` of files that do not compress to
    /// nothing.
    ///
    /// # Errors
    /// When a tool is missing or fails.
    pub fn build(directory: &Path, size_mib: u64, content_mib: u64) -> anyhow::Result<Self> {
        let tree = directory.join("tree");
        write_files(&tree, content_mib)?;
        let raw = directory.join("disk.raw");
        File::create(&raw)?.set_len(size_mib << 20)?;
        let table = "label: gpt\nstart=2048, size=28672, type=U, name=EFI\n\
                     start=32768, type=L, name=root\n";
        run(Command::new("sfdisk").args(["--quiet", "--no-reread"]).arg(&raw), table)?;
        // Two MiB at the end stay free of file system: the backup GPT is there.
        let file_system_kib = (size_mib - FILE_SYSTEM_MIB - 2) * 1024;
        run(
            Command::new("mke2fs")
                .args(["-q", "-t", "ext4", "-L", "root", "-d"])
                .arg(&tree)
                .args(["-E", &format!("offset={},lazy_itable_init=0", FILE_SYSTEM_MIB << 20)])
                .arg(&raw)
                .arg(format!("{file_system_kib}k")),
            "",
        )?;
        let qcow2 = directory.join("disk.qcow2");
        run(
            Command::new("qemu-img")
                .args(["convert", "-q", "-c", "-f", "raw", "-O", "qcow2"])
                .args([&raw, &qcow2]),
            "",
        )?;
        std::fs::remove_dir_all(&tree)?;
        Ok(Self { raw, qcow2, raw_bytes: size_mib << 20 })
    }

    /// SHA-256 of what `qemu-img` makes of the qcow2: what every disk must hold.
    ///
    /// # Errors
    /// When `qemu-img` fails.
    pub fn converted_digest(&self) -> anyhow::Result<String> {
        let converted = self.qcow2.with_extension("converted");
        run(
            Command::new("qemu-img")
                .args(["convert", "-q", "-O", "raw"])
                .args([&self.qcow2, &converted]),
            "",
        )?;
        let digest = digest_of_file(&converted)?;
        std::fs::remove_file(&converted)?;
        Ok(digest)
    }
}

/// Half text, half noise: compresses about two to one, like a system.
fn write_files(tree: &Path, content_mib: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(tree.join("etc"))?;
    std::fs::write(tree.join("etc/hostname"), "unnamed\n")?;
    // xorshift64: the same files in every run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..content_mib {
        let mut file = File::create(tree.join(format!("file-{number}")))?;
        let mut content = Vec::with_capacity(1 << 20);
        while content.len() < 1 << 20 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            content.extend_from_slice(&seed.to_le_bytes());
            content.extend_from_slice(b"one line");
        }
        file.write_all(&content)?;
    }
    Ok(())
}

fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    // Debian keeps sfdisk and mke2fs out of an ordinary user's path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut child = command
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}; scripts/test installs it"))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(())
}

/// SHA-256 of a whole file, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_file(path: &Path) -> anyhow::Result<String> {
    digest_of_prefix(path, u64::MAX)
}

/// Takes everything off the disk of a machine that is off: what it holds of an image is not sent again.
///
/// # Errors
/// When it cannot be written.
pub fn empty_disk(path: &Path) -> std::io::Result<()> {
    let disk = File::options().write(true).open(path)?;
    let disk_bytes = disk.metadata()?.len();
    disk.set_len(0)?;
    disk.set_len(disk_bytes)
}

/// SHA-256 of the first `bytes` of a file, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_prefix(path: &Path, bytes: u64) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = file.take(bytes);
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = reader.read(&mut piece)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&piece[..count]);
    }
}
