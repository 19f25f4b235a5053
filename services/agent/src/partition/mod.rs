//! Partition tables: GPT and MBR, read from a disk and changed in an order in which a cut at any
//! point leaves a table that can be read.

pub(crate) mod gpt;
pub(crate) mod layout;
pub(crate) mod mbr;

use std::ops::Range;

use crate::disk::{DiskError, OpenDisk};
use gpt::Gpt;
use mbr::Mbr;

/// Partitions start and end on multiples of this, in bytes, as every partitioning tool has it.
pub(crate) const PARTITION_ALIGNMENT_BYTES: u64 = 1024 * 1024;

/// The partition table of a disk.
#[derive(Debug)]
pub(crate) enum Table {
    Gpt(Gpt),
    Mbr(Box<Mbr>),
}

/// A range of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset_bytes: u64,
    pub(crate) size_bytes: u64,
}

impl Extent {
    pub(crate) fn end_bytes(self) -> u64 {
        self.offset_bytes.saturating_add(self.size_bytes)
    }

    /// The same as a range of bytes.
    pub(crate) fn range(self) -> Range<u64> {
        self.offset_bytes..self.end_bytes()
    }

    /// The part that lies within `other`; `None` when there is none.
    pub(crate) fn clipped_to(self, other: Self) -> Option<Self> {
        let offset_bytes = self.offset_bytes.max(other.offset_bytes);
        let end_bytes = self.end_bytes().min(other.end_bytes());
        let size_bytes = end_bytes.checked_sub(offset_bytes).filter(|size| *size > 0)?;
        Some(Self { offset_bytes, size_bytes })
    }
}

impl Table {
    /// The table of `disk`; `None` when it has none that is valid.
    pub(crate) fn read(disk: &OpenDisk) -> Result<Option<Self>, DiskError> {
        if let Some(gpt) = Gpt::read(disk)? {
            return Ok(Some(Self::Gpt(gpt)));
        }
        Ok(Mbr::read(disk)?.map(|mbr| Self::Mbr(Box::new(mbr))))
    }

    /// Where the partitions are, in table order.
    pub(crate) fn partitions(&self) -> Vec<Extent> {
        match self {
            Self::Gpt(gpt) => gpt.partitions().map(|partition| partition.extent).collect(),
            Self::Mbr(mbr) => mbr.partitions().collect(),
        }
    }
}

/// Where a new partition goes: at the end of the usable space, `preferred_bytes` long or, where
/// that does not fit behind the last partition, at least `least_bytes`.
pub(crate) fn place_at_end(
    usable_end_bytes: u64,
    last_partition_end_bytes: u64,
    preferred_bytes: u64,
    least_bytes: u64,
) -> Option<Extent> {
    let align = PARTITION_ALIGNMENT_BYTES;
    let end = usable_end_bytes / align * align;
    // The first alignment unit belongs to the table itself.
    let lowest = last_partition_end_bytes.next_multiple_of(align).max(align);
    let size_bytes = end.checked_sub(lowest)?.min(preferred_bytes.next_multiple_of(align));
    if size_bytes == 0 || size_bytes < least_bytes {
        return None;
    }
    Some(Extent { offset_bytes: end - size_bytes, size_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn placement_at_the_end() {
        let cases = [
            // (usable end, last partition's end, preferred, least, offset and size in MiB)
            (100 * MIB, 10 * MIB, 64 * MIB, MIB, Some((36, 64))),
            (100 * MIB - 1, 10 * MIB, 64 * MIB, MIB, Some((35, 64))),
            (100 * MIB, 90 * MIB + 1, 64 * MIB, MIB, Some((91, 9))),
            (100 * MIB, 90 * MIB, 64 * MIB, 11 * MIB, None),
            (100 * MIB, 100 * MIB, 64 * MIB, 1, None),
            (100 * MIB, 120 * MIB, 64 * MIB, 1, None),
            (5 * MIB, 0, 64 * MIB, MIB, Some((1, 4))),
        ];
        for (usable, last, preferred, least, expected) in cases {
            let placed = place_at_end(usable, last, preferred, least);
            let expected = expected.map(|(offset, size): (u64, u64)| Extent {
                offset_bytes: offset * MIB,
                size_bytes: size * MIB,
            });
            assert_eq!(placed, expected, "end {usable}, last {last}, least {least}");
        }
    }
}
