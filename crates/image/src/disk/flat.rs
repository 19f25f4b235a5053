//! Images whose bytes are the disk's, in order.

use super::{DiskFault, Extent, Layout};
use crate::ReadAt;

/// The disk is a part of the file that begins with the file.
struct Flat {
    raw_bytes: u64,
}

/// A raw image: the disk is the file.
pub(super) fn whole(source: &dyn ReadAt) -> Box<dyn Layout> {
    first(source.source_bytes())
}

/// The disk is the first `raw_bytes` of the file.
pub(super) fn first(raw_bytes: u64) -> Box<dyn Layout> {
    Box::new(Flat { raw_bytes })
}

impl Layout for Flat {
    fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    fn locate(
        &self,
        _source: &dyn ReadAt,
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        Ok(Extent::data(guest_offset, wanted))
    }
}
