//! Writing a config drive: an ISO 9660 volume in a partition at the end of the root device.
//!
//! The content is written before the table that makes it a partition, so whoever finds the
//! partition finds it whole. Repeated, it writes the same bytes to the same place.

use bessemer_configdrive::{LABEL, MAX_SIZE_BYTES};
use bessemer_proto::v1::{ConfigDriveReport, WriteConfigDriveTask};

use crate::disk::OpenDisk;
use crate::machine::Machine;
use crate::partition::{Extent, Table, place_at_end};
use crate::root_device;
use crate::task::TaskError;

/// Where the primary volume descriptor of ISO 9660 is, in bytes.
const DESCRIPTOR_OFFSET_BYTES: u64 = 32 * 1024;

/// Writes the task's volume.
pub(crate) fn write(
    machine: &Machine,
    task: &WriteConfigDriveTask,
) -> Result<ConfigDriveReport, TaskError> {
    let drive_bytes = task.iso.len() as u64;
    if drive_bytes == 0 || drive_bytes > MAX_SIZE_BYTES {
        let reason = format!("is not within 1..={MAX_SIZE_BYTES}");
        return Err(TaskError::invalid("iso length", drive_bytes.to_string(), reason));
    }
    let root = root_device::choose(&machine.disks(), &task.root_device)?;
    let disk = OpenDisk::open(&root.path)?;
    let no_room = |reason: &str| TaskError::NoRoomForConfigDrive {
        drive_bytes,
        disk: disk.name(),
        reason: reason.to_owned(),
    };
    let table = Table::read(&disk)?.ok_or_else(|| no_room("it has no partition table"))?;

    let extent = match existing(&disk, &table)? {
        Some(extent) if extent.size_bytes < drive_bytes => {
            let reason =
                format!("its partition {LABEL} has {} bytes; deploy anew", extent.size_bytes);
            return Err(no_room(&reason));
        }
        Some(extent) => {
            fill(&disk, extent, &task.iso)?;
            extent
        }
        None => {
            let extent = free_space(&disk, &table, drive_bytes)
                .ok_or_else(|| no_room("too little is free behind its last partition"))?;
            fill(&disk, extent, &task.iso)?;
            add(&disk, table, extent).map_err(|reason| match reason {
                AddError::Table(reason) => no_room(&reason),
                AddError::Task(error) => error,
            })?;
            disk.reread_partition_table();
            extent
        }
    };
    Ok(ConfigDriveReport {
        device: disk.name(),
        offset_bytes: extent.offset_bytes,
        size_bytes: extent.size_bytes,
    })
}

/// The partition that is a config drive already, by its name or by its volume's.
fn existing(disk: &OpenDisk, table: &Table) -> Result<Option<Extent>, TaskError> {
    if let Table::Gpt(gpt) = table
        && let Some(named) = gpt.partitions().find(|partition| partition.name == LABEL)
    {
        return Ok(Some(named.extent));
    }
    let whole = Extent { offset_bytes: 0, size_bytes: disk.size_bytes() };
    for extent in table.partitions().into_iter().filter_map(|extent| extent.clipped_to(whole)) {
        if holds_config_drive(disk, extent)? {
            return Ok(Some(extent));
        }
    }
    Ok(None)
}

fn holds_config_drive(disk: &OpenDisk, extent: Extent) -> Result<bool, TaskError> {
    let mut descriptor = [0; 72];
    if extent.size_bytes < DESCRIPTOR_OFFSET_BYTES + descriptor.len() as u64 {
        return Ok(false);
    }
    disk.read_at(&mut descriptor, extent.offset_bytes + DESCRIPTOR_OFFSET_BYTES)?;
    // Type 1, "CD001"; the volume's name is padded with spaces.
    let volume_name = descriptor[40..72].trim_ascii_end();
    Ok(descriptor.starts_with(b"\x01CD001") && volume_name.eq_ignore_ascii_case(LABEL.as_bytes()))
}

fn free_space(disk: &OpenDisk, table: &Table, least_bytes: u64) -> Option<Extent> {
    let taken_end = table.partitions().into_iter().map(Extent::end_bytes).max().unwrap_or_default();
    let usable_end = match table {
        Table::Gpt(gpt) => gpt.usable_end_bytes().min(disk.size_bytes()),
        Table::Mbr(mbr) => mbr.usable_end_bytes(disk.size_bytes()),
    };
    place_at_end(usable_end, taken_end, MAX_SIZE_BYTES, least_bytes)
}

/// Writes the volume; what else the place held is gone, so that nothing is recognised in it.
fn fill(disk: &OpenDisk, extent: Extent, iso: &[u8]) -> Result<(), TaskError> {
    disk.write_at(iso, extent.offset_bytes)?;
    let iso_bytes = iso.len() as u64;
    disk.zero(extent.offset_bytes + iso_bytes, extent.size_bytes - iso_bytes)?;
    Ok(disk.flush()?)
}

/// Why a partition was not added.
enum AddError {
    /// The table cannot take it.
    Table(String),
    Task(TaskError),
}

fn add(disk: &OpenDisk, table: Table, extent: Extent) -> Result<(), AddError> {
    let full = |reason: &dyn std::error::Error| AddError::Table(reason.to_string());
    match table {
        Table::Gpt(mut gpt) => {
            gpt.add(LABEL, extent).map_err(|reason| full(&reason))?;
            gpt.write(disk)
        }
        Table::Mbr(mut mbr) => {
            mbr.add(extent).map_err(|reason| full(&reason))?;
            mbr.write(disk)
        }
    }
    .map_err(|error| AddError::Task(error.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use bessemer_configdrive::{ConfigDrive, read_file};
    use clap::Parser;

    use super::*;
    use crate::config::Config;

    const MIB: u64 = 1 << 20;

    /// A file disk with the partitions that `script` describes to sfdisk.
    fn disk(mebibytes: u64, script: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mebibytes * MIB).unwrap();
        let mut sfdisk = Command::new("sfdisk")
            .arg("--quiet")
            .arg(file.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        file
    }

    fn drive(name: &str) -> Vec<u8> {
        let meta_data = serde_json::json!({ "name": name }).as_object().unwrap().clone();
        ConfigDrive { meta_data, ..ConfigDrive::default() }.build().unwrap()
    }

    fn write_drive(disk: &Path, iso: Vec<u8>) -> Result<ConfigDriveReport, TaskError> {
        let arguments =
            [Path::new("agent"), Path::new("--api-url=unused"), Path::new("--disk"), disk];
        let machine = Machine::new(&Config::parse_from(arguments));
        write(&machine, &WriteConfigDriveTask { iso, root_device: Default::default() })
    }

    fn name_on(disk: &Path, report: &ConfigDriveReport) -> String {
        let content = std::fs::read(disk).unwrap();
        let end = report.offset_bytes + report.size_bytes;
        let partition = &content[report.offset_bytes as usize..end as usize];
        let meta_data = read_file(partition, "openstack/latest/meta_data.json").unwrap();
        let meta_data: serde_json::Value = serde_json::from_slice(&meta_data).unwrap();
        meta_data["name"].as_str().unwrap().to_owned()
    }

    /// What sfdisk says about the partition at `offset_bytes`.
    fn partition_line(disk: &Path, offset_bytes: u64) -> String {
        let dump = Command::new("sfdisk").arg("--dump").arg(disk).output().unwrap();
        let dump = String::from_utf8(dump.stdout).unwrap();
        let start = format!("start={:>12},", offset_bytes / 512);
        let line = dump.lines().find(|line| line.contains(&start));
        line.unwrap_or_else(|| panic!("no {start} in {dump}")).to_owned()
    }

    #[test]
    fn on_a_gpt_it_is_the_last_partition_and_repeating_changes_nothing() {
        let disk = disk(200, "label: gpt\nsize=50MiB, name=root\n");
        let report = write_drive(disk.path(), drive("one")).unwrap();

        assert_eq!(report.size_bytes, MAX_SIZE_BYTES);
        assert_eq!(name_on(disk.path(), &report), "one");
        assert!(partition_line(disk.path(), report.offset_bytes).contains("name=\"config-2\""));
        let verdict = Command::new("sgdisk").arg("--verify").arg(disk.path()).output().unwrap();
        assert!(
            String::from_utf8_lossy(&verdict.stdout).contains("No problems found"),
            "{verdict:?}"
        );

        let before = std::fs::read(disk.path()).unwrap();
        assert_eq!(write_drive(disk.path(), drive("one")).unwrap(), report);
        assert!(before == std::fs::read(disk.path()).unwrap(), "the second time changed something");
        // Another drive takes the same place.
        assert_eq!(write_drive(disk.path(), drive("two")).unwrap(), report);
        assert_eq!(name_on(disk.path(), &report), "two");
    }

    #[test]
    fn on_an_mbr_it_takes_a_primary_entry() {
        let disk = disk(200, "label: dos\nsize=20MiB\nsize=20MiB\nsize=20MiB\n");
        let report = write_drive(disk.path(), drive("one")).unwrap();
        assert_eq!((report.offset_bytes % MIB, report.size_bytes), (0, MAX_SIZE_BYTES));
        assert!(partition_line(disk.path(), report.offset_bytes).contains("type=83"));
        assert_eq!(name_on(disk.path(), &report), "one");
        // Found again by what it holds: an MBR has no names.
        assert_eq!(write_drive(disk.path(), drive("two")).unwrap(), report);
        assert_eq!(name_on(disk.path(), &report), "two");
    }

    #[test]
    fn it_takes_what_is_left_if_that_is_enough() {
        let disk = disk(100, "label: gpt\nsize=60MiB\n");
        let report = write_drive(disk.path(), drive("one")).unwrap();
        assert!(report.size_bytes < MAX_SIZE_BYTES);
        assert_eq!(name_on(disk.path(), &report), "one");
    }

    #[test]
    fn without_room_it_says_why_and_touches_nothing() {
        let cases = [
            ("label: gpt\n,\n", "behind its last partition"),
            ("label: dos\nsize=9MiB\nsize=9MiB\nsize=9MiB\nsize=9MiB\n", "4 primary entries"),
        ];
        for (script, why) in cases {
            let disk = disk(200, script);
            let table = std::fs::read(disk.path()).unwrap()[..34 * 512].to_vec();
            let error = write_drive(disk.path(), drive("one")).unwrap_err();
            assert_eq!(error.reason(), "NO_ROOM_FOR_CONFIG_DRIVE");
            assert!(error.to_string().contains(why), "{error}");
            assert!(table == std::fs::read(disk.path()).unwrap()[..34 * 512]);
        }
        let bare = tempfile::NamedTempFile::new().unwrap();
        bare.as_file().set_len(100 * MIB).unwrap();
        let error = write_drive(bare.path(), drive("one")).unwrap_err();
        assert!(error.to_string().contains("no partition table"), "{error}");
    }

    #[test]
    fn its_size_is_bounded() {
        let disk = disk(200, "label: gpt\nsize=50MiB\n");
        for iso in [Vec::new(), vec![1; MAX_SIZE_BYTES as usize + 1]] {
            assert_eq!(write_drive(disk.path(), iso).unwrap_err().reason(), "INVALID_TASK");
        }
    }
}
