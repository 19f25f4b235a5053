//! Reads the machines' disks back and compares them with the image.
//!
//! The partition tables are left out of the comparison and looked at by themselves: the agent moves the backup table to
//! the end of the disk and adds the config drive's partition, so they are not the image's and must not be.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bessemer_proto::v1::Node;
use futures::future::try_join_all;
use gpt::GptConfig;
use gpt::partition::Partition;
use sha2::{Digest, Sha256};

use crate::dev::machines_dir;
use crate::failure::{Failure, chain};

/// Read at once.
const BLOCK_BYTES: usize = 1024 * 1024;

const SECTOR_BYTES: u64 = 512;

/// Primary GPT: protective MBR, header, 128 entries.
const PRIMARY_GPT_SECTORS: u64 = 34;

/// Backup GPT: 128 entries, header.
const BACKUP_GPT_SECTORS: u64 = 33;

/// The four entries of an MBR.
const MBR_ENTRIES: Range<u64> = 446..510;

/// What was found on a machine's disk.
#[derive(Debug)]
pub(super) struct Checked {
    /// The machine.
    pub name: String,
    /// Over all of the image but its partition tables.
    pub image_digest: String,
    /// Over the same places of the disk.
    pub disk_digest: String,
    /// How many bytes that is.
    pub compared_bytes: u64,
    /// What is wrong with the partition table, if anything.
    pub table_complaint: Option<String>,
    /// The host name on the config drive; none when the disk has no GPT to find it by.
    pub hostname: Option<String>,
}

impl Checked {
    /// What is not as it should be, if anything.
    pub(super) fn complaint(&self) -> Option<String> {
        let name = &self.name;
        if self.image_digest != self.disk_digest {
            return Some(format!(
                "{name}: the disk is not the image: sha256 {} instead of {}",
                self.disk_digest, self.image_digest
            ));
        }
        if let Some(complaint) = &self.table_complaint {
            return Some(format!("{name}: the partition table is wrong: {complaint}"));
        }
        match &self.hostname {
            Some(hostname) if hostname != name => {
                Some(format!("{name}: the config drive is that of `{hostname}`"))
            }
            _ => None,
        }
    }
}

/// Checks the disks of all machines against the raw image.
pub(super) async fn all(
    nodes: &[Node],
    raw: &Path,
    directory: &Path,
) -> Result<Vec<Checked>, Failure> {
    let machines_dir = machines_dir(&directory.join("cluster"));
    try_join_all(nodes.iter().map(|node| {
        let name = crate::node::label(node).to_owned();
        let id = node.metadata.as_ref().map(|metadata| metadata.id.clone()).unwrap_or_default();
        let disk = machines_dir.join(id).join("disk.img");
        let raw = raw.to_owned();
        check_elsewhere(name, raw, disk)
    }))
    .await
}

/// On a thread that may block.
async fn check_elsewhere(name: String, raw: PathBuf, disk: PathBuf) -> Result<Checked, Failure> {
    let about = format!("{name}: cannot compare {} with {}", disk.display(), raw.display());
    tokio::task::spawn_blocking(move || check(name, &raw, &disk))
        .await
        .map_err(|panic| Failure::failed(chain(&panic)))?
        .map_err(|error| Failure::failed(format!("{about}: {error}")))
}

fn check(name: String, raw: &Path, disk: &Path) -> io::Result<Checked> {
    let (image, machine) = (File::open(raw)?, File::open(disk)?);
    let ranges = outside_tables(&image)?;
    let mut checked = Checked {
        name,
        image_digest: digest(&image, &ranges)?,
        disk_digest: digest(&machine, &ranges)?,
        compared_bytes: ranges.iter().map(|range| range.end - range.start).sum(),
        table_complaint: None,
        hostname: None,
    };
    if has_gpt(&image)? {
        let (wanted, found) = (partitions(image)?, partitions(machine.try_clone()?)?);
        checked.table_complaint = wanted
            .iter()
            .find(|partition| !found.contains(partition))
            .map(|partition| format!("the image's partition `{}` is not in it", partition.name));
        checked.hostname = Some(hostname(&machine, &found)?);
    }
    Ok(checked)
}

fn has_gpt(image: &File) -> io::Result<bool> {
    let mut signature = [0; 8];
    if image.metadata()?.len() < 2 * SECTOR_BYTES {
        return Ok(false);
    }
    image.read_exact_at(&mut signature, SECTOR_BYTES)?;
    Ok(signature == *b"EFI PART")
}

/// What of the image must be on the disk as it is.
fn outside_tables(image: &File) -> io::Result<Vec<Range<u64>>> {
    let end = image.metadata()?.len();
    let mut signature = [0; 2];
    if end >= SECTOR_BYTES {
        image.read_exact_at(&mut signature, MBR_ENTRIES.end)?;
    }
    Ok(if has_gpt(image)? {
        let content = PRIMARY_GPT_SECTORS * SECTOR_BYTES..end - BACKUP_GPT_SECTORS * SECTOR_BYTES;
        vec![0..MBR_ENTRIES.start, MBR_ENTRIES.end..SECTOR_BYTES, content]
    } else if signature == [0x55, 0xaa] {
        vec![0..MBR_ENTRIES.start, MBR_ENTRIES.end..end]
    } else {
        std::iter::once(0..end).collect()
    })
}

fn digest(file: &File, ranges: &[Range<u64>]) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(BLOCK_BYTES as u64) as usize;
            file.read_exact_at(&mut block[..length], at)?;
            hasher.update(&block[..length]);
            at += length as u64;
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

/// By a GPT reader that is not ours.
fn partitions(disk: File) -> io::Result<Vec<Partition>> {
    let table = GptConfig::new().open_from_device(disk).map_err(io::Error::other)?;
    Ok(table.partitions().values().cloned().collect())
}

fn hostname(disk: &File, partitions: &[Partition]) -> io::Result<String> {
    let drive = partitions
        .iter()
        .find(|partition| partition.name == "config-2")
        .ok_or_else(|| io::Error::other("it has no partition `config-2`"))?;
    let sectors = drive.last_lba - drive.first_lba + 1;
    let mut iso = vec![0; (sectors * SECTOR_BYTES) as usize];
    disk.read_exact_at(&mut iso, drive.first_lba * SECTOR_BYTES)?;
    let meta_data = bessemer_configdrive::read_file(&iso, "openstack/latest/meta_data.json")
        .map_err(io::Error::other)?;
    let meta_data: serde_json::Value = serde_json::from_slice(&meta_data)?;
    Ok(meta_data["hostname"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn only_the_tables_are_left_out() {
        let mut image = vec![0; 1024 * 1024];
        let whole: Vec<_> = std::iter::once(0..1024 * 1024).collect();
        assert_eq!(outside_tables(&file(&image)).unwrap(), whole);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(outside_tables(&file(&image)).unwrap(), [0..446, 510..1024 * 1024]);
        image[512..520].copy_from_slice(b"EFI PART");
        let ranges = outside_tables(&file(&image)).unwrap();
        assert_eq!(ranges, [0..446, 510..512, 34 * 512..1024 * 1024 - 33 * 512]);
        let tiny: Vec<_> = std::iter::once(0..3).collect();
        assert_eq!(outside_tables(&file(b"abc")).unwrap(), tiny);
    }

    #[test]
    fn one_wrong_bit_anywhere_else_is_found() {
        let image: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let ranges = [0..446, 510..3_000_000];
        let right = digest(&file(&image), &ranges).unwrap();
        for (at, same) in [(0, false), (445, false), (446, true), (509, true), (2_999_999, false)] {
            let mut disk = image.clone();
            disk[at] ^= 1;
            assert_eq!(digest(&file(&disk), &ranges).unwrap() == right, same, "byte {at}");
        }
    }

    #[test]
    fn complaints_say_what_is_wrong_with_which_machine() {
        let mut checked = Checked {
            name: "demo-1".into(),
            image_digest: "a".into(),
            disk_digest: "a".into(),
            compared_bytes: 1,
            table_complaint: None,
            hostname: Some("demo-1".into()),
        };
        assert_eq!(checked.complaint(), None);
        checked.hostname = Some("demo-2".into());
        assert_eq!(checked.complaint().unwrap(), "demo-1: the config drive is that of `demo-2`");
        checked.disk_digest = "b".into();
        assert!(checked.complaint().unwrap().starts_with("demo-1: the disk is not the image"));
    }
}
