//! The image that the demo deploys when it is given none: a small partitioned disk, always the same bytes, made without
//! any tool.

mod fat;
mod qcow2;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use gpt::disk::LogicalBlockSize;
use gpt::{GptConfig, mbr, partition_types};
use uuid::Uuid;

use fat::FatFile;

/// Size of the disk that the image describes.
const DISK_BYTES: u64 = 256 * 1024 * 1024;

/// What does not compress, as most of a real system's files do not.
const RANDOM_BYTES: usize = 40 * 1024 * 1024;

/// What compresses well.
const TEXT_BYTES: usize = 12 * 1024 * 1024;

/// Blocks of 512 bytes, as on the simulated machines' disks.
const BLOCK_BYTES: u64 = 512;

/// The image and what it was made of.
#[derive(Debug)]
pub(crate) struct Sample {
    /// What is deployed.
    pub qcow2: PathBuf,
    /// The disk it describes, byte for byte: what a machine's disk is compared with.
    pub raw: PathBuf,
}

/// Makes the image in a directory.
///
/// # Errors
/// When the files cannot be written.
pub(crate) fn make(directory: &Path) -> io::Result<Sample> {
    let sample =
        Sample { qcow2: directory.join("sample.qcow2"), raw: directory.join("sample.raw") };
    let disk = File::options().read(true).write(true).create_new(true).open(&sample.raw)?;
    disk.set_len(DISK_BYTES)?;
    let (offset_bytes, size_bytes) = partition(disk.try_clone()?)?;
    let text = text();
    let random = random();
    let files = [
        FatFile { name: *b"README  TXT", content: README.as_bytes() },
        FatFile { name: *b"NUMBERS TXT", content: &text },
        FatFile { name: *b"NOISE   BIN", content: &random },
    ];
    fat::format(&disk, offset_bytes, size_bytes, &files)?;
    qcow2::write(&disk, DISK_BYTES, &sample.qcow2)?;
    Ok(sample)
}

const README: &str = "This disk was written by Bessemer, and every byte of it was checked.\r\n";

/// Writes a GPT with one partition that fills the disk; tells where it is.
fn partition(disk: File) -> io::Result<(u64, u64)> {
    // The protective MBR counts the blocks after itself.
    let blocks = u32::try_from(DISK_BYTES / BLOCK_BYTES - 1).unwrap_or(u32::MAX);
    let mut disk = Box::new(disk);
    mbr::ProtectiveMBR::with_lb_size(blocks).overwrite_lba0(&mut disk).map_err(io::Error::other)?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(disk, Some(Uuid::from_u128(0x6265_7373_656d_6572_0000_0000_0000_0001)))
        .map_err(io::Error::other)?;
    let size_bytes = DISK_BYTES - 2 * 1024 * 1024;
    let id = table
        .add_partition("sample", size_bytes, partition_types::BASIC, 0, Some(2048))
        .map_err(io::Error::other)?;
    let mut partitions = table.take_partitions();
    let sample = partitions.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
    // Drawn at random by the crate; the image is to be the same every time.
    sample.part_guid = Uuid::from_u128(0x6265_7373_656d_6572_0000_0000_0000_0002);
    let offset_bytes = sample.first_lba * BLOCK_BYTES;
    table.update_partitions(partitions).map_err(io::Error::other)?;
    table.write().map_err(io::Error::other)?;
    Ok((offset_bytes, size_bytes))
}

/// Lines of numbers.
fn text() -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT_BYTES);
    for number in 0_u64.. {
        let line = format!("{number:>10} squared is {:>20}\r\n", number * number);
        if text.len() + line.len() > TEXT_BYTES {
            break;
        }
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// Bytes that look random and are the same every time: SplitMix64 from a fixed seed.
fn random() -> Vec<u8> {
    let mut state = 0x6265_7373_656d_6572_u64;
    let mut random = Vec::with_capacity(RANDOM_BYTES);
    while random.len() < RANDOM_BYTES {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        random.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    random
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use sha2::{Digest, Sha256};

    use super::*;

    fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}{complained}");
        said
    }

    fn sha256(path: &Path) -> String {
        hex::encode(Sha256::digest(std::fs::read(path).unwrap()))
    }

    #[test]
    fn others_find_nothing_wrong_with_it() {
        let home = tempfile::tempdir().unwrap();
        let sample = make(home.path()).unwrap();

        let said = run("qemu-img", &["check".as_ref(), sample.qcow2.as_os_str()]);
        assert!(said.contains("No errors were found"), "{said}");
        let converted = home.path().join("converted.raw");
        run(
            "qemu-img",
            &[
                "convert".as_ref(),
                "-O".as_ref(),
                "raw".as_ref(),
                sample.qcow2.as_os_str(),
                converted.as_os_str(),
            ],
        );
        assert_eq!(sha256(&converted), sha256(&sample.raw));

        let said = run("sgdisk", &["-v".as_ref(), sample.raw.as_os_str()]);
        assert!(said.contains("No problems found"), "{said}");

        let volume = home.path().join("volume");
        let content = std::fs::read(&sample.raw).unwrap();
        std::fs::write(&volume, &content[1024 * 1024..content.len() - 1024 * 1024]).unwrap();
        let said = run("fsck.fat", &["-n".as_ref(), "-v".as_ref(), volume.as_os_str()]);
        assert!(said.contains("3 files"), "{said}");
    }

    #[test]
    fn it_is_the_same_every_time_and_much_smaller_than_its_disk() {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = homes.each_ref().map(|home| make(home.path()).unwrap());
        assert_eq!(sha256(&one.qcow2), sha256(&two.qcow2));
        let size = std::fs::metadata(&one.qcow2).unwrap().len();
        assert!(size < DISK_BYTES / 4, "{size}");
    }
}
