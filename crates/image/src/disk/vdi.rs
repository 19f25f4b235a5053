//! VirtualBox's VDI (`VDICore.h` of VirtualBox), dynamic and static.
//!
//! A header, a map with one entry for each block, and the blocks.

use super::fields::{le32, le64};
use super::layout::read_array;
use super::pages::Table;
use super::{DiskFault, Extent, Layout, check_within};
use crate::ReadAt;

const HEADER_BYTES: usize = 0x1c8;
const SIGNATURE: u32 = 0xbeda_107f;
const VERSION: u32 = 0x0001_0001;
const KIND_DYNAMIC: u32 = 1;
const KIND_STATIC: u32 = 2;
const KIND_UNDO: u32 = 3;
const KIND_DIFFERENCING: u32 = 4;
/// VirtualBox makes blocks of 1 MiB; others are legal.
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 512..=64 << 20;
/// Entries from here on have no block: never written, or known to be zero.
const FIRST_WITHOUT_BLOCK: u32 = 0xffff_fffe;

struct Vdi {
    raw_bytes: u64,
    block_bytes: u64,
    data_offset_bytes: u64,
    map: Table,
}

/// Opens a VDI image.
pub(super) fn open(source: &dyn ReadAt) -> Result<Box<dyn Layout>, DiskFault> {
    let header: [u8; HEADER_BYTES] = read_array(source, "header", 0)?;
    if le32(&header, 0x40) != SIGNATURE {
        return Err(DiskFault::NoMark);
    }
    let version = le32(&header, 0x44);
    if version != VERSION {
        return Err(DiskFault::Version { version, readable: "1.1 (0x10001)" });
    }
    let has_parent = header[0x1a8..0x1c8].iter().any(|&byte| byte != 0);
    match le32(&header, 0x4c) {
        KIND_DYNAMIC | KIND_STATIC if !has_parent => {}
        KIND_DYNAMIC | KIND_STATIC | KIND_UNDO | KIND_DIFFERENCING => {
            return Err(DiskFault::BackingFile { name: "the parent's UUID".to_owned() });
        }
        kind => return Err(DiskFault::malformed("image_type", kind)),
    }
    let block_bytes = u64::from(le32(&header, 0x178));
    if !block_bytes.is_power_of_two() || !BLOCK_BYTES.contains(&block_bytes) {
        return Err(DiskFault::malformed("block_size", block_bytes));
    }
    match le32(&header, 0x17c) {
        0 => {}
        extra => return Err(DiskFault::malformed("block_extra", extra)),
    }
    let raw_bytes = le64(&header, 0x170);
    let blocks = u64::from(le32(&header, 0x180));
    if blocks * block_bytes < raw_bytes {
        return Err(DiskFault::malformed("blocks_in_image", blocks));
    }
    let map_offset_bytes = u64::from(le32(&header, 0x154));
    check_within("block map", map_offset_bytes, blocks * 4, source.source_bytes())?;
    Ok(Box::new(Vdi {
        raw_bytes,
        block_bytes,
        data_offset_bytes: le32(&header, 0x158).into(),
        map: Table::new("block map", map_offset_bytes, blocks * 4),
    }))
}

impl Layout for Vdi {
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
        let entry = self.map.entry(source, guest_offset / self.block_bytes)?;
        match u32::from_le_bytes(entry) {
            FIRST_WITHOUT_BLOCK.. => Ok(Extent::zero(wanted)),
            // 32 and at most 26 bits: no overflow.
            block => {
                let offset = self.data_offset_bytes + u64::from(block) * self.block_bytes + start;
                Ok(Extent::data(offset, wanted))
            }
        }
    }
}
