//! Where a format keeps the guest's bytes.

use super::DiskFault;
use super::unpack::Packed;
use crate::ReadAt;

/// A format's map from the guest's disk to the image's file.
pub(super) trait Layout: Send + Sync {
    /// Bytes of the guest's disk.
    fn raw_bytes(&self) -> u64;

    /// Where the guest's byte at `guest_offset` comes from, and how many from there on (at least
    /// one, at most `wanted`) come from the same origin. All of them lie within the disk.
    fn locate(
        &self,
        source: &dyn ReadAt,
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault>;
}

/// Consecutive guest bytes of one origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    pub(super) origin: Origin,
    pub(super) bytes: u64,
}

/// Where guest bytes come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Zero,
    /// As they are, from this offset in the file on.
    Data {
        offset_bytes: u64,
    },
    /// Within a compressed block.
    Packed(Packed),
}

impl Extent {
    pub(super) fn zero(bytes: u64) -> Self {
        Self { origin: Origin::Zero, bytes }
    }

    pub(super) fn data(offset_bytes: u64, bytes: u64) -> Self {
        Self { origin: Origin::Data { offset_bytes }, bytes }
    }

    /// Takes in the extent that follows, if it goes on where this one ends.
    pub(super) fn join(&mut self, next: Self) -> bool {
        let continues = match (self.origin, next.origin) {
            (Origin::Zero, Origin::Zero) => true,
            (Origin::Data { offset_bytes: before }, Origin::Data { offset_bytes }) => {
                before.checked_add(self.bytes) == Some(offset_bytes)
            }
            (Origin::Zero | Origin::Data { .. } | Origin::Packed(_), _) => false,
        };
        if continues {
            self.bytes += next.bytes;
        }
        continues
    }
}

/// Refuses a part of the file that does not lie within it.
pub(super) fn check_within(
    what: &'static str,
    offset_bytes: u64,
    needed_bytes: u64,
    source_bytes: u64,
) -> Result<(), DiskFault> {
    match offset_bytes.checked_add(needed_bytes) {
        Some(end) if end <= source_bytes => Ok(()),
        Some(_) | None => {
            Err(DiskFault::Truncated { what, offset_bytes, needed_bytes, source_bytes })
        }
    }
}

/// Reads a part of the file.
pub(super) fn read(
    source: &dyn ReadAt,
    what: &'static str,
    offset_bytes: u64,
    into: &mut [u8],
) -> Result<(), DiskFault> {
    check_within(what, offset_bytes, into.len() as u64, source.source_bytes())?;
    source.read_exact_at(offset_bytes, into).map_err(|error| DiskFault::Read {
        what,
        offset_bytes,
        error,
    })
}

/// Reads a part of the file of fixed length.
pub(super) fn read_array<const BYTES: usize>(
    source: &dyn ReadAt,
    what: &'static str,
    offset_bytes: u64,
) -> Result<[u8; BYTES], DiskFault> {
    let mut array = [0; BYTES];
    read(source, what, offset_bytes, &mut array)?;
    Ok(array)
}
