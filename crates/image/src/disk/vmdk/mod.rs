//! VMware's VMDK ("Virtual Disk Format 5.0"), of the kinds that are one file: monolithicSparse and
//! streamOptimized.
//!
//! A header, a descriptor (text), a directory of tables of grains, and the grains. A
//! streamOptimized image compresses its grains, each behind a marker, and may have its directory
//! behind them, in which case a footer, a second header, says where.

mod descriptor;
mod header;

use self::header::Header;
use super::fields::{le32, le64};
use super::layout::{Origin, read_array};
use super::pages::{Pages, Table};
use super::unpack::{Codec, Packed};
use super::{DiskFault, Extent, Layout, check_within};
use crate::ReadAt;

const SECTOR_BYTES: u64 = 512;

/// Entries of a directory and of a table.
const WITHOUT_GRAIN: u32 = 0;
/// In a table, if the header says that it has this meaning.
const ZERO_GRAIN: u32 = 1;

/// A compressed grain's marker: the guest's sector (8 bytes) and the length of what follows (4).
const MARKER_BYTES: usize = 12;

struct Vmdk {
    header: Header,
    directory: Table,
    tables: Pages,
}

/// Opens a VMDK image.
pub(super) fn open(source: &dyn ReadAt) -> Result<Box<dyn Layout>, DiskFault> {
    let header = Header::read(source)?;
    let (offset_bytes, directory_bytes) =
        (header.directory_offset_bytes, header.directory_entries() * 4);
    check_within("grain directory", offset_bytes, directory_bytes, source.source_bytes())?;
    Ok(Box::new(Vmdk {
        directory: Table::new("grain directory", offset_bytes, directory_bytes),
        tables: Pages::new("grain table", header::TABLE_ENTRIES * 4),
        header,
    }))
}

impl Layout for Vmdk {
    fn raw_bytes(&self) -> u64 {
        self.header.raw_bytes
    }

    fn locate(
        &self,
        source: &dyn ReadAt,
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        let Header { grain_bytes, .. } = self.header;
        let covered_bytes = self.header.table_covers_bytes();
        let in_table = guest_offset % covered_bytes;
        let table = self.directory.entry(source, guest_offset / covered_bytes)?;
        let table = u32::from_le_bytes(table);
        if table == WITHOUT_GRAIN {
            return Ok(Extent::zero(wanted.min(covered_bytes - in_table)));
        }
        let table = self.tables.get(source, u64::from(table) * SECTOR_BYTES)?;
        let start = in_table % grain_bytes;
        let bytes = wanted.min(grain_bytes - start);
        match le32(&table, (in_table / grain_bytes * 4) as usize) {
            WITHOUT_GRAIN => Ok(Extent::zero(bytes)),
            ZERO_GRAIN if self.header.has_zero_grains => Ok(Extent::zero(bytes)),
            sector => {
                let offset_bytes = u64::from(sector) * SECTOR_BYTES;
                if !self.header.is_compressed {
                    return Ok(Extent::data(offset_bytes + start, bytes));
                }
                let packed = self.packed_grain(source, offset_bytes, guest_offset - start)?;
                let start = start as usize;
                Ok(Extent { origin: Origin::Packed(Packed { start, ..packed }), bytes })
            }
        }
    }
}

impl Vmdk {
    /// The compressed grain at an offset in the file, which must be the guest's at `guest_offset`.
    fn packed_grain(
        &self,
        source: &dyn ReadAt,
        offset_bytes: u64,
        guest_offset: u64,
    ) -> Result<Packed, DiskFault> {
        let marker: [u8; MARKER_BYTES] = read_array(source, "grain marker", offset_bytes)?;
        let guest_sector = le64(&marker, 0);
        if guest_sector != guest_offset / SECTOR_BYTES {
            return Err(DiskFault::malformed("sector of a grain marker", guest_sector));
        }
        let stored_bytes = u64::from(le32(&marker, 8));
        // Deflate never needs as much for anything.
        if stored_bytes > self.header.grain_bytes * 2 + SECTOR_BYTES {
            return Err(DiskFault::malformed("length in a grain marker", stored_bytes));
        }
        Ok(Packed {
            codec: Codec::Zlib,
            block_bytes: self.header.grain_bytes as usize,
            offset_bytes: offset_bytes + MARKER_BYTES as u64,
            stored_bytes,
            start: 0,
        })
    }
}
