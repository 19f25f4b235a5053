//! QEMU's qcow2, versions 2 and 3 (docs/interop/qcow2.txt of QEMU).
//!
//! Standard, zero and compressed clusters (zlib, zstd) of any cluster size, and extended L2
//! entries. Internal snapshots are ignored: the active state is what is read.

mod entry;
mod header;

use header::Header;

use super::pages::{Pages, Table};
use super::{DiskFault, Extent, Layout};
use crate::ReadAt;

/// Opens a qcow2 image.
pub(super) fn open(source: &dyn ReadAt) -> Result<Box<dyn Layout>, DiskFault> {
    let header = Header::read(source)?;
    Ok(Box::new(Qcow2 {
        l1: Table::new("L1 table", header.l1_offset_bytes, header.l1_entries * 8),
        l2: Pages::new("L2 table", header.geometry.cluster_bytes()),
        header,
    }))
}

struct Qcow2 {
    header: Header,
    l1: Table,
    l2: Pages,
}

impl Layout for Qcow2 {
    fn raw_bytes(&self) -> u64 {
        self.header.virtual_bytes
    }

    fn locate(
        &self,
        source: &dyn ReadAt,
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        let geometry = self.header.geometry;
        let covered_bytes = geometry.l2_covers_bytes();
        let l1_entry = self.l1.entry(source, guest_offset / covered_bytes)?;
        let wanted = wanted.min(covered_bytes - guest_offset % covered_bytes);
        match geometry.l2_table(u64::from_be_bytes(l1_entry))? {
            None => Ok(Extent::zero(wanted)),
            Some(l2) => geometry.locate(&self.l2.get(source, l2)?, guest_offset, wanted),
        }
    }
}
