//! Microsoft's VHDX ("Virtual Hard Disk v2 (VHDX) File Format", MS-VHDX), fixed and dynamic.
//!
//! Two headers, of which the newer valid one counts, say whether a log has to be replayed; two
//! copies of a region table say where the block table and the metadata are. An image with a log is
//! refused: replaying it is a repair, and repairs are the owner's.

mod header;
mod metadata;

use self::header::Regions;
use self::metadata::Metadata;
use super::pages::Table;
use super::{DiskFault, Extent, Layout, check_within};
use crate::ReadAt;

/// A sector bitmap block covers so many sectors, and its entry follows those of the blocks that it
/// covers (MS-VHDX 2.5).
const SECTORS_OF_BITMAP: u64 = 1 << 23;

const ENTRY_BYTES: u64 = 8;
/// An entry's place in the file, in bytes: it counts MiB.
const ENTRY_OFFSET: u64 = !0xf_ffff;
const ENTRY_STATE: u64 = 7;
/// States of a payload block (MS-VHDX 2.5.1.1). Those without a block read as zeros, as QEMU and
/// Hyper-V read them.
const NOT_PRESENT: u64 = 0;
const UNDEFINED: u64 = 1;
const ZERO: u64 = 2;
const UNMAPPED: u64 = 3;
const FULLY_PRESENT: u64 = 6;

struct Vhdx {
    metadata: Metadata,
    blocks_of_bitmap: u64,
    table: Table,
}

/// Opens a VHDX image.
pub(super) fn open(source: &dyn ReadAt) -> Result<Box<dyn Layout>, DiskFault> {
    let Regions { metadata, block_table } = header::regions(source)?;
    let metadata = Metadata::read(source, metadata)?;
    let blocks_of_bitmap = SECTORS_OF_BITMAP * metadata.sector_bytes / metadata.block_bytes;
    let blocks = metadata.raw_bytes.div_ceil(metadata.block_bytes);
    let last_entry = blocks.saturating_sub(1);
    let entries = last_entry + last_entry / blocks_of_bitmap + 1;
    if entries * ENTRY_BYTES > block_table.bytes {
        return Err(DiskFault::malformed("length of the block table", block_table.bytes));
    }
    let (offset_bytes, table_bytes) = (block_table.offset_bytes, entries * ENTRY_BYTES);
    check_within("block table", offset_bytes, table_bytes, source.source_bytes())?;
    let table = Table::new("block table", offset_bytes, table_bytes);
    Ok(Box::new(Vhdx { metadata, blocks_of_bitmap, table }))
}

impl Layout for Vhdx {
    fn raw_bytes(&self) -> u64 {
        self.metadata.raw_bytes
    }

    fn locate(
        &self,
        source: &dyn ReadAt,
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        let block_bytes = self.metadata.block_bytes;
        let (block, start) = (guest_offset / block_bytes, guest_offset % block_bytes);
        let wanted = wanted.min(block_bytes - start);
        let entry = self.table.entry(source, block + block / self.blocks_of_bitmap)?;
        let entry = u64::from_le_bytes(entry);
        match entry & ENTRY_STATE {
            NOT_PRESENT | UNDEFINED | ZERO | UNMAPPED => Ok(Extent::zero(wanted)),
            FULLY_PRESENT => match (entry & ENTRY_OFFSET).checked_add(start) {
                Some(offset_bytes) => Ok(Extent::data(offset_bytes, wanted)),
                None => Err(DiskFault::malformed("an entry of the block table", entry)),
            },
            _ => Err(DiskFault::malformed("an entry of the block table", entry)),
        }
    }
}
