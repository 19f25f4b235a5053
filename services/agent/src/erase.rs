//! Erasing metadata: partition tables, and the signatures by which file systems, volume managers
//! and RAID members are recognised.

use bessemer_proto::v1::EraseReport;
use tokio_util::sync::CancellationToken;

use crate::disk::OpenDisk;
use crate::machine::Machine;
use crate::partition::{Extent, Table};
use crate::task::{Meter, TaskError};

/// What is erased at the start of a disk and of each partition, in bytes. The farthest signature
/// there is the last place of LUKS2's second header, at 4 MiB.
const START_BYTES: u64 = 8 * 1024 * 1024;

/// What is erased at the end, in bytes: the backup GPT, md superblocks 0.9 and 1.0, LVM's and ZFS's
/// second copies all lie within the last MiB.
const END_BYTES: u64 = 4 * 1024 * 1024;

/// Where else a file system is recognised: btrfs keeps copies of its superblock at 64 MiB and
/// 256 GiB, in bytes.
const COPIES_AT_BYTES: [u64; 2] = [64 << 20, 256 << 30];

/// Length of such a copy, in bytes.
const COPY_BYTES: u64 = 4096;

/// Erases the metadata of all disks and reads back that it is gone.
pub(crate) fn erase_devices_metadata(
    machine: &Machine,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<EraseReport, TaskError> {
    let disks = OpenDisk::open_all(machine.disks().iter().map(|found| &*found.path))?;
    let plans = disks.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    meter.set_total(plans.iter().flatten().map(|extent| extent.size_bytes).sum());
    for (disk, extents) in disks.iter().zip(plans) {
        for extent in extents {
            if stop.is_cancelled() {
                return Err(TaskError::Cancelled);
            }
            disk.zero(extent.offset_bytes, extent.size_bytes)?;
            disk.flush()?;
            check(disk, extent)?;
            meter.add_done(extent.size_bytes);
        }
        disk.reread_partition_table();
    }
    let devices = disks.iter().map(OpenDisk::name).collect();
    Ok(EraseReport { devices, ..EraseReport::default() })
}

/// What is erased on `disk`: the partitions' metadata first. A cut then leaves the table by which
/// the next attempt finds them.
fn plan(disk: &OpenDisk) -> Result<Vec<Extent>, TaskError> {
    let whole = Extent { offset_bytes: 0, size_bytes: disk.size_bytes() };
    let partitions = Table::read(disk)?.map(|table| table.partitions()).unwrap_or_default();
    let inside = partitions.into_iter().filter_map(|partition| partition.clipped_to(whole));
    Ok(inside.chain([whole]).flat_map(metadata_of).collect())
}

/// Where the metadata of a disk or partition may be.
fn metadata_of(area: Extent) -> Vec<Extent> {
    let start = Extent { offset_bytes: 0, size_bytes: START_BYTES };
    let end_size = END_BYTES.min(area.size_bytes);
    let end = Extent { offset_bytes: area.size_bytes - end_size, size_bytes: end_size };
    let copies =
        COPIES_AT_BYTES.map(|offset_bytes| Extent { offset_bytes, size_bytes: COPY_BYTES });
    [end]
        .into_iter()
        .chain(copies)
        .chain([start])
        .map(|part| Extent { offset_bytes: area.offset_bytes + part.offset_bytes, ..part })
        .filter_map(|part| part.clipped_to(area))
        .collect()
}

/// Reads back that nothing is left in a range.
pub(crate) fn check(disk: &OpenDisk, extent: Extent) -> Result<(), TaskError> {
    match disk.first_set_byte(extent.range())? {
        Some(offset_bytes) => Err(TaskError::NotErased { disk: disk.name(), offset_bytes }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    use clap::Parser;

    use super::*;
    use crate::config::Config;

    const MIB: u64 = 1 << 20;

    fn erase(disk: &Path, stop: &CancellationToken) -> Result<EraseReport, TaskError> {
        let arguments =
            [Path::new("agent"), Path::new("--api-url=unused"), Path::new("--disk"), disk];
        let machine = Machine::new(&Config::parse_from(arguments));
        erase_devices_metadata(&machine, &Meter::default(), stop)
    }

    /// What `wipefs` recognises on the disk, and in it from `offset_bytes` on.
    fn signatures(disk: &Path, offset_bytes: u64) -> String {
        let copy = tempfile::NamedTempFile::new().unwrap();
        let content = std::fs::read(disk).unwrap();
        std::fs::write(copy.path(), &content[offset_bytes as usize..]).unwrap();
        let output = Command::new("wipefs").arg(copy.path()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A disk with a GPT and a file system in its partition, which begins at 1 MiB.
    fn used_disk() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xa5; 100 << 20]).unwrap();
        let (path, first) = (file.path(), MIB / 512);
        let new = format!("--new=1:{first}:0");
        let made = Command::new("sgdisk").args(["--clear", &new]).arg(path).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let swap = tempfile::NamedTempFile::new().unwrap();
        swap.as_file().set_len(MIB).unwrap();
        let made = Command::new("mkswap").arg(swap.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        file.as_file().write_all_at(&std::fs::read(swap.path()).unwrap(), MIB).unwrap();
        file
    }

    #[test]
    fn nothing_is_recognised_any_more_and_data_is_left_alone() {
        let disk = used_disk();
        assert!(signatures(disk.path(), 0).contains("gpt"));
        assert!(signatures(disk.path(), MIB).contains("swap"));

        let report = erase(disk.path(), &CancellationToken::new()).unwrap();

        assert_eq!(report.devices, [disk.path().display().to_string()]);
        assert_eq!(signatures(disk.path(), 0), "");
        assert_eq!(signatures(disk.path(), MIB), "");
        let content = std::fs::read(disk.path()).unwrap();
        assert!(content[20 << 20..60 << 20].iter().all(|byte| *byte == 0xa5));
        assert_eq!(erase(disk.path(), &CancellationToken::new()).unwrap(), report);
    }

    #[test]
    fn stopped_it_leaves_the_table_to_begin_again_with() {
        let disk = used_disk();
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(erase(disk.path(), &stop).unwrap_err().reason(), "CANCELLED");
        assert!(signatures(disk.path(), 0).contains("gpt"));
    }

    #[test]
    fn metadata_lies_within_its_area() {
        let places = |offset_bytes, size_bytes| -> Vec<(u64, u64)> {
            let area = Extent { offset_bytes, size_bytes };
            metadata_of(area).iter().map(|e| (e.offset_bytes, e.end_bytes())).collect()
        };
        assert_eq!(places(MIB, 100), [(MIB, MIB + 100), (MIB, MIB + 100)]);
        assert_eq!(
            places(0, 1 << 40),
            [
                ((1 << 40) - END_BYTES, 1 << 40),
                (64 << 20, (64 << 20) + COPY_BYTES),
                (256 << 30, (256 << 30) + COPY_BYTES),
                (0, START_BYTES),
            ]
        );
    }
}
