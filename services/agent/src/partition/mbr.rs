//! The MBR partition table: four primary entries in the first sector.

use super::Extent;
use crate::disk::{DiskError, OpenDisk};

const SECTOR_BYTES: usize = 512;
const ENTRIES_OFFSET: usize = 446;
const ENTRY_BYTES: usize = 16;
const ENTRY_COUNT: usize = 4;
const BOOT_SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Type of the entry that keeps MBR tools away from a GPT.
const TYPE_PROTECTIVE: u8 = 0xee;
/// Type of a Linux file system.
const TYPE_LINUX: u8 = 0x83;
/// Cylinder, head and sector of what they cannot express; everybody uses the LBA.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
/// Those of the sector behind the MBR.
const CHS_OF_SECTOR_1: [u8; 3] = [0x00, 0x02, 0x00];
/// Sectors that an entry's 32-bit fields can address: 2 TiB of 512-byte sectors.
const ADDRESSABLE_SECTORS: u64 = 1 << 32;

/// Why the table cannot take another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotAdd {
    /// Ironic's limit too: the config drive takes the fourth slot or none.
    #[error("all 4 primary entries of the MBR are taken")]
    NoFreeEntry,
    /// Placed beyond what the 32-bit fields of an entry can say.
    #[error("partition would end at sector {end_sector}, an MBR reaches {ADDRESSABLE_SECTORS}")]
    Unaddressable { end_sector: u64 },
}

/// A valid MBR with at least one partition, none of them protective.
#[derive(Debug, Clone)]
pub(crate) struct Mbr {
    /// Logical sector size of the disk, in bytes: the unit of the entries.
    unit_bytes: u64,
    sector: [u8; SECTOR_BYTES],
}

impl Mbr {
    /// The table of `disk`. `None` when there is none, or only the boot sector of a file system.
    pub(crate) fn read(disk: &OpenDisk) -> Result<Option<Self>, DiskError> {
        let mut sector = [0; SECTOR_BYTES];
        if disk.size_bytes() < SECTOR_BYTES as u64 {
            return Ok(None);
        }
        disk.read_at(&mut sector, 0)?;
        Ok(Self::parse(&sector, disk.sector_bytes(), disk.size_bytes()))
    }

    /// The table of a disk of `disk_bytes` with sectors of `unit_bytes` that begins with `start`.
    pub(crate) fn parse(start: &[u8], unit_bytes: u64, disk_bytes: u64) -> Option<Self> {
        let sector = *start.first_chunk()?;
        let mbr = Self { unit_bytes, sector };
        mbr.is_valid(disk_bytes).then_some(mbr)
    }

    fn is_valid(&self, disk_bytes: u64) -> bool {
        let mut used = self.entries().filter(|entry| entry[4] != 0).peekable();
        self.sector.ends_with(&BOOT_SIGNATURE)
            && used.peek().is_some()
            && used.all(|entry| {
                // A boot sector's code in place of a table fails at least one of these.
                (entry[0] == 0 || entry[0] == 0x80)
                    && entry[4] != TYPE_PROTECTIVE
                    && extent(entry, self.unit_bytes).offset_bytes < disk_bytes
            })
    }

    /// The primary partitions (an extended one counts as one), in table order.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Extent> {
        self.entries().filter(|entry| entry[4] != 0).map(|entry| extent(entry, self.unit_bytes))
    }

    /// First byte behind what the entries can address on a disk of `disk_bytes`.
    pub(crate) fn usable_end_bytes(&self, disk_bytes: u64) -> u64 {
        disk_bytes.min((ADDRESSABLE_SECTORS - 1) * self.unit_bytes)
    }

    /// Adds a partition in the first free entry.
    pub(crate) fn add(&mut self, extent: Extent) -> Result<(), CannotAdd> {
        let end_sector = extent.end_bytes() / self.unit_bytes;
        let unaddressable = CannotAdd::Unaddressable { end_sector };
        let first = u32::try_from(extent.offset_bytes / self.unit_bytes);
        let count = u32::try_from(extent.size_bytes / self.unit_bytes);
        let (Ok(first), Ok(count)) = (first, count) else { return Err(unaddressable) };

        let free = self.entries().position(|entry| entry[4] == 0).ok_or(CannotAdd::NoFreeEntry)?;
        let entry = entry_mut(&mut self.sector, free);
        entry.fill(0);
        entry[1..4].copy_from_slice(&CHS_BEYOND);
        entry[4] = TYPE_LINUX;
        entry[5..8].copy_from_slice(&CHS_BEYOND);
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..16].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    /// Writes the sector: one transfer, so the old table or the new one is on the disk.
    pub(crate) fn write(&self, disk: &OpenDisk) -> Result<(), DiskError> {
        disk.write_at(&self.sector, 0)?;
        disk.flush()
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.sector[ENTRIES_OFFSET..ENTRIES_OFFSET + ENTRY_COUNT * ENTRY_BYTES]
            .chunks_exact(ENTRY_BYTES)
    }
}

/// Has a protective MBR cover the sectors up to `last_lba`; an empty sector becomes one. A hybrid one is left as it is:
/// what its other entries cover is their maker's business.
pub(crate) fn protect_up_to(disk: &OpenDisk, last_lba: u64) -> Result<(), DiskError> {
    let mut sector = [0; SECTOR_BYTES];
    disk.read_at(&mut sector, 0)?;
    if sector == [0; SECTOR_BYTES] {
        // UEFI 2.10, 5.2.3, table 5.4.
        sector[SECTOR_BYTES - BOOT_SIGNATURE.len()..].copy_from_slice(&BOOT_SIGNATURE);
        let entry = entry_mut(&mut sector, 0);
        entry[1..4].copy_from_slice(&CHS_OF_SECTOR_1);
        entry[4] = TYPE_PROTECTIVE;
        entry[5..8].copy_from_slice(&CHS_BEYOND);
        entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    }
    let types: Vec<u8> = (0..ENTRY_COUNT).map(|index| entry_mut(&mut sector, index)[4]).collect();
    if !sector.ends_with(&BOOT_SIGNATURE) || types != [TYPE_PROTECTIVE, 0, 0, 0] {
        return Ok(());
    }
    // UEFI 2.10, 5.2.3: all ones when the disk is larger than the field can say.
    let sectors = u32::try_from(last_lba).unwrap_or(u32::MAX);
    entry_mut(&mut sector, 0)[12..16].copy_from_slice(&sectors.to_le_bytes());
    disk.write_at(&sector, 0)
}

fn entry_mut(sector: &mut [u8; SECTOR_BYTES], index: usize) -> &mut [u8] {
    let start = ENTRIES_OFFSET + index * ENTRY_BYTES;
    &mut sector[start..start + ENTRY_BYTES]
}

fn extent(entry: &[u8], unit_bytes: u64) -> Extent {
    let number = |at: usize| {
        let bytes = entry[at..at + 4].try_into().expect("four bytes of the entry");
        u64::from(u32::from_le_bytes(bytes))
    };
    Extent { offset_bytes: number(8) * unit_bytes, size_bytes: number(12) * unit_bytes }
}
