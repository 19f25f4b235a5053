//! The GUID partition table: reading it from either end of the disk, moving the backup to the end
//! of a disk that is larger than the image, adding a partition.
//!
//! Every change is written backup first, flushed, then primary: a cut in between leaves one valid
//! table, and the next reader takes that one.

use std::ops::Range;

use uuid::Uuid;

use super::{Extent, mbr};
use crate::disk::{DiskError, OpenDisk};

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that mean something and that its CRC covers (UEFI 2.10, 5.3.2).
const HEADER_BYTES: usize = 92;
/// Where the primary header is.
const PRIMARY_LBA: u64 = 1;
/// Where the primary entries are, unless the image says otherwise.
const PRIMARY_ENTRIES_LBA: u64 = 2;
/// The largest table of entries read, in bytes: 64 times the usual 16 KiB.
const ENTRIES_LIMIT_BYTES: u64 = 1024 * 1024;
/// Smallest entry the specification allows, in bytes.
const ENTRY_LEAST_BYTES: u32 = 128;
/// Entries of a table that we make, and the size of each in bytes (UEFI 2.10, 5.3.1: 16 KiB at least).
const NEW_ENTRY_COUNT: u32 = 128;
/// Revision 1.0 of the header.
const REVISION: u32 = 0x0001_0000;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartitionType {
    /// EFI system partition.
    EfiSystem,
    /// A Linux file system, as `sgdisk` gives by default.
    LinuxData,
    /// Linux swap space.
    LinuxSwap,
}

impl PartitionType {
    const fn guid(self) -> Uuid {
        Uuid::from_u128(match self {
            Self::EfiSystem => 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b,
            Self::LinuxData => 0x0fc63daf_8483_4772_8e79_3d69d8477de4,
            Self::LinuxSwap => 0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f,
        })
    }
}

/// Where the fields of the header are.
mod field {
    use super::Range;

    pub(super) const REVISION: Range<usize> = 8..12;
    pub(super) const HEADER_SIZE: Range<usize> = 12..16;
    pub(super) const HEADER_CRC: Range<usize> = 16..20;
    pub(super) const MY_LBA: Range<usize> = 24..32;
    pub(super) const ALTERNATE_LBA: Range<usize> = 32..40;
    pub(super) const FIRST_USABLE_LBA: Range<usize> = 40..48;
    pub(super) const LAST_USABLE_LBA: Range<usize> = 48..56;
    pub(super) const DISK_GUID: Range<usize> = 56..72;
    pub(super) const ENTRIES_LBA: Range<usize> = 72..80;
    pub(super) const ENTRY_COUNT: Range<usize> = 80..84;
    pub(super) const ENTRY_SIZE: Range<usize> = 84..88;
    pub(super) const ENTRIES_CRC: Range<usize> = 88..92;
}

/// A partition of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GptPartition {
    pub(crate) name: String,
    pub(crate) extent: Extent,
}

/// Why the table cannot take another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {entry_count} entries of the GPT are taken")]
pub(crate) struct NoFreeEntry {
    pub(crate) entry_count: u32,
}

/// A valid GPT, as one of its two copies has it.
#[derive(Debug, Clone)]
pub(crate) struct Gpt {
    sector_bytes: u64,
    header: [u8; HEADER_BYTES],
    entries: Vec<u8>,
    /// Where the primary copy has its entries. Usually 2; images for boards that load their
    /// firmware from there have moved them.
    primary_entries_lba: u64,
}

impl Gpt {
    /// A table without partitions that takes the whole of `disk`.
    pub(crate) fn new(disk: &OpenDisk, disk_guid: Uuid) -> Self {
        let mut table = Self {
            sector_bytes: disk.sector_bytes(),
            header: [0; HEADER_BYTES],
            entries: vec![0; (NEW_ENTRY_COUNT * ENTRY_LEAST_BYTES) as usize],
            primary_entries_lba: PRIMARY_ENTRIES_LBA,
        };
        table.header[..SIGNATURE.len()].copy_from_slice(SIGNATURE);
        table.set(field::REVISION, &REVISION.to_le_bytes());
        table.set(field::HEADER_SIZE, &(HEADER_BYTES as u32).to_le_bytes());
        table.set(field::DISK_GUID, &disk_guid.to_bytes_le());
        table.set(field::ENTRY_COUNT, &NEW_ENTRY_COUNT.to_le_bytes());
        table.set(field::ENTRY_SIZE, &ENTRY_LEAST_BYTES.to_le_bytes());
        let first_usable = PRIMARY_ENTRIES_LBA + table.entries_sectors();
        table.set(field::FIRST_USABLE_LBA, &first_usable.to_le_bytes());
        table.stretch_to(disk);
        table
    }

    /// The table of `disk`: the primary one, or the backup in the last sector where the primary is
    /// damaged. `None` when neither is valid.
    pub(crate) fn read(disk: &OpenDisk) -> Result<Option<Self>, DiskError> {
        if let Some(primary) = Self::read_copy(disk, PRIMARY_LBA)? {
            return Ok(Some(primary));
        }
        match last_lba(disk) {
            Some(last) => Self::read_copy(disk, last),
            None => Ok(None),
        }
    }

    fn read_copy(disk: &OpenDisk, lba: u64) -> Result<Option<Self>, DiskError> {
        let sector_bytes = disk.sector_bytes();
        let mut header = [0; HEADER_BYTES];
        if (lba + 1) * sector_bytes > disk.size_bytes() {
            return Ok(None);
        }
        disk.read_at(&mut header, lba * sector_bytes)?;
        let mut table = Self {
            sector_bytes,
            header,
            entries: Vec::new(),
            primary_entries_lba: PRIMARY_ENTRIES_LBA,
        };
        if !table.header_is_valid(lba) {
            return Ok(None);
        }

        let length = u64::from(table.entry_count()) * u64::from(table.entry_size());
        let offset = table.u64(field::ENTRIES_LBA).checked_mul(sector_bytes);
        let Some(offset) = offset.filter(|offset| {
            length <= ENTRIES_LIMIT_BYTES
                && offset.checked_add(length).is_some_and(|end| end <= disk.size_bytes())
        }) else {
            return Ok(None);
        };
        if lba == PRIMARY_LBA {
            table.primary_entries_lba = table.u64(field::ENTRIES_LBA);
        }
        table.entries = vec![0; usize::try_from(length).unwrap_or_default()];
        disk.read_at(&mut table.entries, offset)?;
        let is_whole = crc32fast::hash(&table.entries) == table.u32(field::ENTRIES_CRC);
        Ok(is_whole.then_some(table))
    }

    fn header_is_valid(&self, lba: u64) -> bool {
        let mut unsigned = self.header;
        unsigned[field::HEADER_CRC].fill(0);
        self.header.starts_with(SIGNATURE)
            && self.u32(field::HEADER_SIZE) as usize == HEADER_BYTES
            && crc32fast::hash(&unsigned) == self.u32(field::HEADER_CRC)
            && self.u64(field::MY_LBA) == lba
            && self.entry_size() >= ENTRY_LEAST_BYTES
            && self.entry_count() > 0
    }

    /// The partitions, in table order.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = GptPartition> {
        self.entries.chunks_exact(self.entry_size() as usize).filter_map(|entry| {
            let (first, last) = (u64_at(entry, 32..40), u64_at(entry, 40..48));
            let sectors = last.checked_sub(first)?.checked_add(1)?;
            (entry[..16] != [0; 16]).then(|| GptPartition {
                name: utf16_name(&entry[56..128]),
                extent: Extent {
                    offset_bytes: first.saturating_mul(self.sector_bytes),
                    size_bytes: sectors.saturating_mul(self.sector_bytes),
                },
            })
        })
    }

    /// First byte behind what partitions may use.
    pub(crate) fn usable_end_bytes(&self) -> u64 {
        self.u64(field::LAST_USABLE_LBA).saturating_add(1).saturating_mul(self.sector_bytes)
    }

    /// Whether the backup is where `disk` ends.
    pub(crate) fn fills(&self, disk: &OpenDisk) -> bool {
        let other = self.u64(field::ALTERNATE_LBA).max(self.u64(field::MY_LBA));
        Some(other) == last_lba(disk)
    }

    /// Takes the whole of `disk` into use: the backup at its end, all but it usable.
    pub(crate) fn stretch_to(&mut self, disk: &OpenDisk) {
        if let Some(last) = last_lba(disk) {
            let last_usable = last.saturating_sub(1 + self.entries_sectors());
            self.set(field::LAST_USABLE_LBA, &last_usable.to_le_bytes());
        }
    }

    /// Adds a Linux partition in the first free entry. Its GUID follows from the disk's and its name, so
    /// that a repeated step makes the same one.
    pub(crate) fn add(&mut self, name: &str, extent: Extent) -> Result<(), NoFreeEntry> {
        self.add_of_type(PartitionType::LinuxData, name, extent)
    }

    /// Adds a partition in the first free entry, as [`Self::add`] does.
    pub(crate) fn add_of_type(
        &mut self,
        kind: PartitionType,
        name: &str,
        extent: Extent,
    ) -> Result<(), NoFreeEntry> {
        let first = extent.offset_bytes / self.sector_bytes;
        let last = extent.end_bytes() / self.sector_bytes - 1;
        let disk_guid = Uuid::from_bytes_le(array(&self.header[field::DISK_GUID]));
        let entry_count = self.entry_count();
        let entry_size = self.entry_size() as usize;

        let entry = self
            .entries
            .chunks_exact_mut(entry_size)
            .find(|entry| entry[..16] == [0; 16])
            .ok_or(NoFreeEntry { entry_count })?;
        entry.fill(0);
        entry[..16].copy_from_slice(&kind.guid().to_bytes_le());
        entry[16..32].copy_from_slice(&Uuid::new_v5(&disk_guid, name.as_bytes()).to_bytes_le());
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        // 36 UTF-16 units is what an entry holds.
        for (unit, slot) in name.encode_utf16().take(36).zip(entry[56..128].chunks_exact_mut(2)) {
            slot.copy_from_slice(&unit.to_le_bytes());
        }
        Ok(())
    }

    /// Writes both copies to `disk`, the backup at its end, and the protective MBR's size.
    pub(crate) fn write(&self, disk: &OpenDisk) -> Result<(), DiskError> {
        let Some(last) = last_lba(disk) else { return Ok(()) };
        self.write_copy(disk, last, PRIMARY_LBA, last - self.entries_sectors())?;
        disk.flush()?;
        self.write_copy(disk, PRIMARY_LBA, last, self.primary_entries_lba)?;
        mbr::protect_up_to(disk, last)?;
        disk.flush()
    }

    fn write_copy(
        &self,
        disk: &OpenDisk,
        lba: u64,
        other_lba: u64,
        entries_lba: u64,
    ) -> Result<(), DiskError> {
        let mut copy = self.clone();
        copy.set(field::MY_LBA, &lba.to_le_bytes());
        copy.set(field::ALTERNATE_LBA, &other_lba.to_le_bytes());
        copy.set(field::ENTRIES_LBA, &entries_lba.to_le_bytes());
        copy.set(field::ENTRIES_CRC, &crc32fast::hash(&self.entries).to_le_bytes());
        copy.set(field::HEADER_CRC, &[0; 4]);
        copy.set(field::HEADER_CRC, &crc32fast::hash(&copy.header).to_le_bytes());

        disk.write_at(&self.entries, entries_lba * self.sector_bytes)?;
        disk.write_at(&copy.header, lba * self.sector_bytes)
    }

    fn entries_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector_bytes)
    }

    fn entry_count(&self) -> u32 {
        self.u32(field::ENTRY_COUNT)
    }

    fn entry_size(&self) -> u32 {
        self.u32(field::ENTRY_SIZE)
    }

    fn set(&mut self, at: Range<usize>, value: &[u8]) {
        self.header[at].copy_from_slice(value);
    }

    fn u32(&self, at: Range<usize>) -> u32 {
        u32::from_le_bytes(array(&self.header[at]))
    }

    fn u64(&self, at: Range<usize>) -> u64 {
        u64_at(&self.header, at)
    }
}

/// The last sector of `disk`; `None` when it has no room for a GPT at all.
fn last_lba(disk: &OpenDisk) -> Option<u64> {
    (disk.size_bytes() / disk.sector_bytes()).checked_sub(1).filter(|last| *last > 2)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the field's range has the array's length")
}

fn u64_at(bytes: &[u8], at: Range<usize>) -> u64 {
    u64::from_le_bytes(array(&bytes[at]))
}

fn utf16_name(field: &[u8]) -> String {
    let units: Vec<u16> = field
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes(array(unit)))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}
