//! Microsoft's VHD, which QEMU calls `vpc` ("Virtual Hard Disk Image Format Specification", 1.0),
//! fixed and dynamic.
//!
//! A fixed image is the disk and a footer behind it. A dynamic one begins with a copy of the
//! footer, has a second header, a table with one entry for each block, and the blocks, each behind
//! a bitmap of its sectors. The bitmap is not looked at: without a parent, a sector that is not
//! marked is a sector of zeros, and that is what is stored. The disk is as long as the footer
//! says; its cylinders, heads and sectors cannot express every size.

use super::fields::{be32, be64};
use super::layout::{read, read_array};
use super::pages::Table;
use super::{DiskFault, Extent, Layout, check_within, flat};
use crate::ReadAt;

const SECTOR_BYTES: u64 = 512;
const FOOTER_BYTES: usize = 512;
const FOOTER_MARK: &[u8] = b"conectix";
const HEADER_BYTES: usize = 1024;
const HEADER_MARK: &[u8] = b"cxsparse";
/// Major version 1, whatever the minor one.
const VERSION_MAJOR: u32 = 1;
const KIND_FIXED: u32 = 2;
const KIND_DYNAMIC: u32 = 3;
const KIND_DIFFERENCING: u32 = 4;
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = SECTOR_BYTES..=256 << 20;
const WITHOUT_BLOCK: u32 = u32::MAX;

struct Dynamic {
    raw_bytes: u64,
    block_bytes: u64,
    bitmap_bytes: u64,
    table: Table,
}

/// Opens a VHD image.
pub(super) fn open(source: &dyn ReadAt) -> Result<Box<dyn Layout>, DiskFault> {
    let mut footer = [0; FOOTER_BYTES];
    // A dynamic image's copy in front is there before the rest of a download.
    if source.source_bytes() >= FOOTER_BYTES as u64 {
        read(source, "footer", 0, &mut footer)?;
    }
    if !footer.starts_with(FOOTER_MARK) {
        let at = source.source_bytes().checked_sub(FOOTER_BYTES as u64).ok_or(DiskFault::NoMark)?;
        read(source, "footer", at, &mut footer)?;
    }
    if !footer.starts_with(FOOTER_MARK) {
        return Err(DiskFault::NoMark);
    }
    check_sum("footer's checksum", &footer, 64)?;
    let version = be32(&footer, 12);
    if version >> 16 != VERSION_MAJOR {
        return Err(DiskFault::Version { version, readable: "1.0 (0x10000)" });
    }
    let raw_bytes = be64(&footer, 48);
    match be32(&footer, 60) {
        KIND_FIXED => {
            check_within("disk", 0, raw_bytes, source.source_bytes())?;
            Ok(flat::first(raw_bytes))
        }
        KIND_DYNAMIC => open_dynamic(source, raw_bytes, be64(&footer, 16)),
        KIND_DIFFERENCING => {
            Err(DiskFault::BackingFile { name: "of a differencing disk".to_owned() })
        }
        kind => Err(DiskFault::malformed("disk type", kind)),
    }
}

fn open_dynamic(
    source: &dyn ReadAt,
    raw_bytes: u64,
    header_offset_bytes: u64,
) -> Result<Box<dyn Layout>, DiskFault> {
    let header: [u8; HEADER_BYTES] = read_array(source, "dynamic header", header_offset_bytes)?;
    if !header.starts_with(HEADER_MARK) {
        return Err(DiskFault::malformed("dynamic header's mark", be64(&header, 0)));
    }
    check_sum("dynamic header's checksum", &header, 36)?;
    let block_bytes = u64::from(be32(&header, 32));
    if !block_bytes.is_power_of_two() || !BLOCK_BYTES.contains(&block_bytes) {
        return Err(DiskFault::malformed("block size", block_bytes));
    }
    let entries = u64::from(be32(&header, 28));
    if entries * block_bytes < raw_bytes {
        return Err(DiskFault::malformed("number of table entries", entries));
    }
    let table_offset_bytes = be64(&header, 16);
    check_within("block table", table_offset_bytes, entries * 4, source.source_bytes())?;
    let bitmap_bytes = (block_bytes / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES);
    let table = Table::new("block table", table_offset_bytes, entries * 4);
    Ok(Box::new(Dynamic { raw_bytes, block_bytes, bitmap_bytes, table }))
}

impl Layout for Dynamic {
    fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    fn locate(
        &self,
        source: &dyn ReadAt,
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        let start = guest_offset % self.block_bytes;
        let wanted = wanted.min(self.block_bytes - start);
        let entry = self.table.entry(source, guest_offset / self.block_bytes)?;
        match u32::from_be_bytes(entry) {
            WITHOUT_BLOCK => Ok(Extent::zero(wanted)),
            sector => {
                let block = u64::from(sector) * SECTOR_BYTES;
                Ok(Extent::data(block + self.bitmap_bytes + start, wanted))
            }
        }
    }
}

/// The ones' complement of the sum of all bytes but the checksum's own, which are at `at`.
fn check_sum(what: &'static str, bytes: &[u8], at: usize) -> Result<(), DiskFault> {
    let sum = |part: &[u8]| part.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let stored = be32(bytes, at);
    if stored == !(sum(bytes) - sum(&bytes[at..at + 4])) {
        return Ok(());
    }
    Err(DiskFault::malformed(what, stored))
}
