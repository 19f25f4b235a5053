//! The metadata region: what the disk is like.

use uuid::Uuid;

use super::header::Region;
use crate::ReadAt;
use crate::disk::DiskFault;
use crate::disk::fields::{le16, le32, le64};
use crate::disk::layout::{read, read_array};

const MARK: &[u8] = b"metadata";
const TABLE_BYTES: usize = 64 << 10;
const ENTRY_BYTES: usize = 32;
const ITEM_IS_REQUIRED: u32 = 1 << 2;
const HAS_PARENT: u32 = 1 << 1;
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;

const FILE_PARAMETERS: Uuid = Uuid::from_u128(0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b);
const VIRTUAL_DISK_SIZE: Uuid = Uuid::from_u128(0x2fa54224_cd1b_4876_b211_5dbed83bf4b8);
const LOGICAL_SECTOR_SIZE: Uuid = Uuid::from_u128(0x8141bf1d_a96f_4709_ba47_f233a8faab5f);
/// Identify the disk or describe it to a guest; not needed to read it.
const DESCRIPTIVE: [Uuid; 2] = [
    // Physical sector size.
    Uuid::from_u128(0xcda348c7_445d_4471_9cc9_e9885251c556),
    // Virtual disk id (SCSI page 83).
    Uuid::from_u128(0xbeca12ab_b2e6_4523_93ef_c309e000c746),
];
const PARENT_LOCATOR: Uuid = Uuid::from_u128(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);

/// What is needed to read the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    pub(super) raw_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) sector_bytes: u64,
}

impl Metadata {
    pub(super) fn read(source: &dyn ReadAt, region: Region) -> Result<Self, DiskFault> {
        let mut table = vec![0; TABLE_BYTES.min(region.bytes as usize)];
        read(source, "metadata table", region.offset_bytes, &mut table)?;
        if table.len() < ENTRY_BYTES || !table.starts_with(MARK) {
            return Err(DiskFault::malformed("length of the metadata table", region.bytes));
        }
        let count = le16(&table, 10);
        let entries = table[ENTRY_BYTES..].chunks_exact(ENTRY_BYTES);
        if usize::from(count) > entries.len() {
            return Err(DiskFault::malformed("number of metadata items", count));
        }
        let (mut block_bytes, mut raw_bytes, mut sector_bytes) = (None, None, None);
        for entry in entries.take(count.into()) {
            let at = region.offset_bytes.saturating_add(le32(entry, 16).into());
            match Uuid::from_bytes_le(entry[..16].try_into().expect("a GUID has 16 bytes")) {
                FILE_PARAMETERS => {
                    let parameters: [u8; 8] = read_array(source, "file parameters", at)?;
                    if le32(&parameters, 4) & HAS_PARENT != 0 {
                        return Err(differencing());
                    }
                    block_bytes = Some(u64::from(le32(&parameters, 0)));
                }
                VIRTUAL_DISK_SIZE => {
                    raw_bytes = Some(le64(&read_array::<8>(source, "virtual disk size", at)?, 0));
                }
                LOGICAL_SECTOR_SIZE => {
                    let size = read_array::<4>(source, "logical sector size", at)?;
                    sector_bytes = Some(u64::from(le32(&size, 0)));
                }
                PARENT_LOCATOR => return Err(differencing()),
                item if DESCRIPTIVE.contains(&item) => {}
                unknown if le32(entry, 24) & ITEM_IS_REQUIRED != 0 => {
                    return Err(DiskFault::UnknownFeature { name: format!("item {unknown}") });
                }
                _ => {}
            }
        }
        Self {
            raw_bytes: raw_bytes.unwrap_or_default(),
            block_bytes: block_bytes.unwrap_or_default(),
            sector_bytes: sector_bytes.unwrap_or_default(),
        }
        .checked()
    }

    /// Refuses what no image has, which an item that is missing is too.
    fn checked(self) -> Result<Self, DiskFault> {
        let Self { raw_bytes, block_bytes, sector_bytes } = self;
        if !matches!(sector_bytes, 512 | 4096) {
            return Err(DiskFault::malformed("logical sector size", sector_bytes));
        }
        if !block_bytes.is_power_of_two() || !BLOCK_BYTES.contains(&block_bytes) {
            return Err(DiskFault::malformed("block size", block_bytes));
        }
        if !raw_bytes.is_multiple_of(sector_bytes) {
            return Err(DiskFault::malformed("virtual disk size", raw_bytes));
        }
        Ok(self)
    }
}

fn differencing() -> DiskFault {
    DiskFault::BackingFile { name: "of a differencing disk".to_owned() }
}
