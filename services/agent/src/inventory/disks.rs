//! Disks: those that the kernel knows, and regular files that act as one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bessemer_proto::v1::Disk;

use super::attribute;
use crate::machine::FoundDisk;

const BLOCK_DIR: &str = "/sys/block";

/// The unit of /sys/block/*/size whatever the disk's sectors are, in bytes.
const SIZE_UNIT_BYTES: u64 = 512;

/// Sectors of a regular file that acts as a disk, in bytes.
const FILE_SECTOR_BYTES: u32 = 512;

/// Names of block devices that are no disks of the machine: memory, optical drives, floppies,
/// network disks, and what is made of other disks.
const NOT_DISKS: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "nbd", "dm-", "md"];

/// The disks that the kernel knows and lets us write, by name.
pub(crate) fn disks() -> Vec<FoundDisk> {
    let mut disks: Vec<_> = std::fs::read_dir(BLOCK_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_disk(path))
        .map(|path| block_device(&path))
        .filter(|found| found.disk.size_bytes > 0)
        .collect();
    disks.sort_by(|one, other| one.path.cmp(&other.path));
    disks
}

/// The disk at `path`: a block device or a regular file.
pub(crate) fn disk_at(path: &Path) -> FoundDisk {
    let name = path.display().to_string();
    let Ok(metadata) = std::fs::metadata(path) else {
        // Reported with no size; opening it will say what is wrong.
        return FoundDisk { path: path.to_owned(), disk: Disk { name, ..Disk::default() } };
    };
    if metadata.file_type().is_block_device() {
        let (major, minor) =
            (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let found = block_device(&sysfs);
        return FoundDisk { path: path.to_owned(), disk: Disk { name, ..found.disk } };
    }
    let disk = Disk {
        name,
        size_bytes: metadata.len(),
        logical_sector_bytes: FILE_SECTOR_BYTES,
        ..Disk::default()
    };
    FoundDisk { path: path.to_owned(), disk }
}

fn is_disk(sysfs: &Path) -> bool {
    let name = sysfs.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix))
        && attribute(&sysfs.join("ro")) != "1"
        && attribute(&sysfs.join("hidden")) != "1"
}

fn block_device(sysfs: &Path) -> FoundDisk {
    let read = |name: &str| attribute(&sysfs.join(name));
    let number = |name: &str| read(name).parse::<u64>().unwrap_or_default();
    let resolved = std::fs::canonicalize(sysfs).unwrap_or_else(|_| sysfs.to_owned());
    let kernel_name = resolved.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    // The kernel writes `!` where a name has `/`.
    let path = Path::new("/dev").join(kernel_name.replace('!', "/"));
    let udev =
        properties(&attribute(&Path::new("/run/udev/data").join(format!("b{}", read("dev")))));
    let known = |key: &str| udev.get(key).cloned().unwrap_or_default();
    let disk = Disk {
        name: path.display().to_string(),
        size_bytes: number("size").saturating_mul(SIZE_UNIT_BYTES),
        logical_sector_bytes: u32::try_from(number("queue/logical_block_size")).unwrap_or_default(),
        model: first_of([read("device/model"), known("ID_MODEL")]),
        vendor: first_of([read("device/vendor"), known("ID_VENDOR")]),
        serial: first_of([known("ID_SERIAL_SHORT"), read("device/serial"), read("serial")]),
        wwn: first_of([known("ID_WWN"), wwn(&read("wwid")), wwn(&read("device/wwid"))]),
        rotational: number("queue/rotational") == 1,
        by_path: Some(known("ID_PATH"))
            .filter(|path| !path.is_empty())
            .map(|path| format!("/dev/disk/by-path/{path}"))
            .unwrap_or_default(),
        hctl: hctl(&sysfs.join("device")),
    };
    FoundDisk { path, disk }
}

/// The first that is not empty.
fn first_of<const N: usize>(texts: [String; N]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// The properties in a record of udev's database: lines such as `E:ID_MODEL=QEMU`.
fn properties(record: &str) -> BTreeMap<String, String> {
    let lines = record.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A world wide name as udev writes it, from what the kernel calls `wwid`.
fn wwn(wwid: &str) -> String {
    match wwid.strip_prefix("naa.") {
        Some(digits) => format!("0x{digits}"),
        None if wwid.starts_with("eui.") => wwid.to_owned(),
        // Vendor texts such as `t10.ATA ...` are no world wide names.
        None => String::new(),
    }
}

/// Host, channel, target and LUN of a SCSI disk; empty for others.
fn hctl(device: &Path) -> String {
    let resolved = std::fs::canonicalize(device).unwrap_or_default();
    let name = resolved.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let is_hctl = name.split(':').count() == 4
        && name.split(':').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if is_hctl { name.into_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(5 << 20).unwrap();
        let found = disk_at(file.path());
        assert_eq!(found.path, file.path());
        assert_eq!(found.disk.name, file.path().display().to_string());
        assert_eq!((found.disk.size_bytes, found.disk.logical_sector_bytes), (5 << 20, 512));
    }

    #[test]
    fn wwns_are_written_as_udev_does() {
        assert_eq!(wwn("naa.5000c500a0b1c2d3"), "0x5000c500a0b1c2d3");
        assert_eq!(wwn("eui.0025385971b0a0f1"), "eui.0025385971b0a0f1");
        assert_eq!(wwn("t10.ATA     QEMU HARDDISK"), "");
    }

    #[test]
    fn udev_records_are_read() {
        let record = "S:disk/by-id/x\nE:ID_SERIAL_SHORT=S3Z\nE:ID_PATH=pci-0000:00:1f.2-ata-1\nV:1";
        let properties = properties(record);
        assert_eq!(properties["ID_SERIAL_SHORT"], "S3Z");
        assert_eq!(properties["ID_PATH"], "pci-0000:00:1f.2-ata-1");
        assert_eq!(properties.len(), 2);
    }

    #[test]
    fn only_four_numbers_are_an_hctl() {
        let directory = tempfile::tempdir().unwrap();
        for (name, expected) in
            [("0:1:2:3", "0:1:2:3"), ("nvme0", ""), ("1:2:3", ""), ("a:b:c:d", "")]
        {
            let device = directory.path().join(name);
            std::fs::create_dir(&device).unwrap();
            assert_eq!(hctl(&device), expected);
        }
    }
}
