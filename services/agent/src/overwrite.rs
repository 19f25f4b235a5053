//! Overwriting disks: every byte is replaced, and samples all over the disk are read back.

use bessemer_proto::v1::{EraseReport, ErasedDevice};
use tokio_util::sync::CancellationToken;

use crate::disk::OpenDisk;
use crate::erase::check;
use crate::machine::{FoundDisk, Machine};
use crate::partition::Extent;
use crate::task::{Meter, TaskError};

/// How much is overwritten between two looks at whether to stop, in bytes.
const PIECE_BYTES: u64 = 64 << 20;

/// How much is read back at each of [`SAMPLES`] places, in bytes.
const SAMPLE_BYTES: u64 = 1 << 20;

/// Places that are read back, from the first to the last byte of the disk, as far apart as they can be.
const SAMPLES: u64 = 256;

/// How the content goes. The drive itself is written to: a discard may leave it in the flash.
const METHOD: &str = "overwrite";

/// Overwrites all disks, one after the other.
pub(crate) fn erase_devices(
    machine: &Machine,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<EraseReport, TaskError> {
    let found = machine.disks();
    let disks = OpenDisk::open_all(found.iter().map(|found| &*found.path))?;
    meter.set_total(disks.iter().map(OpenDisk::size_bytes).sum());
    let erased = found.iter().zip(&disks).map(|(found, disk)| erase(found, disk, meter, stop));
    let erased = erased.collect::<Result<Vec<_>, _>>()?;
    Ok(EraseReport { devices: disks.iter().map(OpenDisk::name).collect(), erased })
}

fn erase(
    found: &FoundDisk,
    disk: &OpenDisk,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<ErasedDevice, TaskError> {
    // Backwards: the table by which the disk is known as used goes last.
    for piece in (0..disk.size_bytes().div_ceil(PIECE_BYTES)).rev() {
        let start = piece * PIECE_BYTES;
        if stop.is_cancelled() {
            return Err(TaskError::Cancelled);
        }
        let length = (disk.size_bytes() - start).min(PIECE_BYTES);
        disk.overwrite(start, length)?;
        meter.add_done(length);
    }
    disk.flush()?;
    let mut verified_bytes = 0;
    for sample in samples(disk.size_bytes()) {
        check(disk, sample)?;
        verified_bytes += sample.size_bytes;
    }
    disk.reread_partition_table();
    Ok(ErasedDevice {
        device: disk.name(),
        serial: found.disk.serial.clone(),
        method: METHOD.to_owned(),
        erased_bytes: disk.size_bytes(),
        verified_bytes,
    })
}

/// What is read back of a disk; all of it where it is small.
fn samples(disk_bytes: u64) -> impl Iterator<Item = Extent> {
    let last = disk_bytes.saturating_sub(SAMPLE_BYTES);
    let count = (disk_bytes.div_ceil(SAMPLE_BYTES)).min(SAMPLES);
    (0..count).map(move |number| {
        let offset_bytes = match count {
            1 => 0,
            _ => u64::try_from(u128::from(last) * u128::from(number) / u128::from(count - 1))
                .unwrap_or(last),
        };
        let size_bytes = SAMPLE_BYTES.min(disk_bytes - offset_bytes);
        Extent { offset_bytes, size_bytes }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::config::Config;

    fn machine(disk: &Path) -> Machine {
        let arguments =
            [Path::new("agent"), Path::new("--api-url=unused"), Path::new("--disk"), disk];
        Machine::new(&Config::parse_from(arguments))
    }

    fn used_disk(length: usize) -> tempfile::NamedTempFile {
        let disk = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(disk.path(), vec![0xa5; length]).unwrap();
        disk
    }

    #[test]
    fn nothing_is_left_and_the_report_says_how_that_is_known() {
        let length = (130 << 20) + 512;
        let disk = used_disk(length);
        let (meter, stop) = (Meter::default(), CancellationToken::new());
        let report = erase_devices(&machine(disk.path()), &meter, &stop).unwrap();

        assert!(std::fs::read(disk.path()).unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(meter.done_bytes(), length as u64);
        let [erased] = report.erased.as_slice() else { panic!("{report:?}") };
        assert_eq!((erased.method.as_str(), erased.erased_bytes), ("overwrite", length as u64));
        assert!(erased.verified_bytes >= length as u64, "{erased:?}");
    }

    #[test]
    fn stopped_it_leaves_the_beginning_by_which_the_disk_is_known_as_used() {
        let disk = used_disk(1 << 20);
        let stop = CancellationToken::new();
        stop.cancel();
        let error = erase_devices(&machine(disk.path()), &Meter::default(), &stop).unwrap_err();
        assert_eq!(error.reason(), "CANCELLED");
        assert_eq!(std::fs::read(disk.path()).unwrap()[0], 0xa5);
    }

    #[test]
    fn samples_reach_from_the_first_to_the_last_byte() {
        for disk_bytes in [0, 512, SAMPLE_BYTES, 3 * SAMPLE_BYTES + 1, 1 << 44] {
            let places: Vec<Extent> = samples(disk_bytes).collect();
            assert_eq!(places.first().map_or(0, |first| first.offset_bytes), 0);
            assert_eq!(places.last().map_or(0, |last| last.end_bytes()), disk_bytes);
            assert!(places.len() as u64 <= SAMPLES);
        }
    }
}
