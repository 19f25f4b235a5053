//! L1 and L2 entries: where the bytes of a guest cluster are.

use crate::disk::fields::be64;
use crate::disk::unpack::{Codec, Packed};
use crate::disk::{DiskFault, Extent, Origin};

/// Bits 9 to 55 of L1 entries and standard L2 entries: an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const L2_COMPRESSED: u64 = 1 << 62;
const L2_ZERO: u64 = 1 << 0;
const SUBCLUSTERS: u64 = 32;
const SECTOR_BYTES: u64 = 512;
/// QEMU's bound on clusters with subclusters: a subcluster is at least a sector.
const MIN_EXTENDED_CLUSTER_BITS: u32 = 14;

/// How clusters are kept, which follows from the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    cluster_bits: u32,
    version: u32,
    extended: bool,
    codec: Codec,
}

impl Geometry {
    pub(super) fn try_new(
        cluster_bits: u32,
        version: u32,
        extended: bool,
        codec: Codec,
    ) -> Option<Self> {
        let valid = !extended || cluster_bits >= MIN_EXTENDED_CLUSTER_BITS;
        valid.then_some(Self { cluster_bits, version, extended, codec })
    }

    pub(super) fn cluster_bytes(self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entry_bytes(self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Guest bytes that one L2 table describes.
    pub(super) fn l2_covers_bytes(self) -> u64 {
        self.cluster_bytes() * (self.cluster_bytes() / self.l2_entry_bytes())
    }

    /// The L2 table's offset in an L1 entry; nothing when the table was never allocated.
    pub(super) fn l2_table(self, l1_entry: u64) -> Result<Option<u64>, DiskFault> {
        let offset_bytes = l1_entry & OFFSET_MASK;
        if !offset_bytes.is_multiple_of(self.cluster_bytes()) {
            return Err(DiskFault::malformed("an L1 entry", l1_entry));
        }
        Ok((offset_bytes != 0).then_some(offset_bytes))
    }

    /// Where the guest's byte at `guest_offset` comes from, and how many bytes from there on (at
    /// most `wanted`) come from the same origin. `l2` is the table that covers the offset.
    pub(super) fn locate(
        self,
        l2: &[u8],
        guest_offset: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        let start = guest_offset % self.cluster_bytes();
        let number = guest_offset % self.l2_covers_bytes() / self.cluster_bytes();
        let at = (number * self.l2_entry_bytes()) as usize;
        let entry = be64(l2, at);
        let rest_of_cluster = wanted.min(self.cluster_bytes() - start);
        if entry & L2_COMPRESSED != 0 {
            let origin = self.compressed(entry, start as usize);
            return Ok(Extent { origin, bytes: rest_of_cluster });
        }
        let offset_bytes = entry & OFFSET_MASK;
        if !offset_bytes.is_multiple_of(self.cluster_bytes()) {
            return Err(DiskFault::malformed("an L2 entry", entry));
        }
        if self.extended {
            return self.locate_subcluster(entry, be64(l2, at + 8), start, rest_of_cluster);
        }
        let origin = match (entry & L2_ZERO != 0, offset_bytes) {
            (true, _) if self.version < 3 => {
                return Err(DiskFault::malformed("an L2 entry of version 2", entry));
            }
            (true, _) | (false, 0) => Origin::Zero,
            (false, cluster) => Origin::Data { offset_bytes: cluster + start },
        };
        Ok(Extent { origin, bytes: rest_of_cluster })
    }

    /// `bitmap`: 32 bits "allocated", then 32 bits "reads as zeros".
    fn locate_subcluster(
        self,
        entry: u64,
        bitmap: u64,
        start: u64,
        wanted: u64,
    ) -> Result<Extent, DiskFault> {
        let subcluster_bytes = self.cluster_bytes() / SUBCLUSTERS;
        let number = start / subcluster_bytes;
        let allocated = bitmap >> number & 1 != 0;
        let zero = bitmap >> (SUBCLUSTERS + number) & 1 != 0;
        let cluster = entry & OFFSET_MASK;
        if allocated && (zero || cluster == 0) || entry & L2_ZERO != 0 {
            return Err(DiskFault::malformed("an L2 entry's subcluster bitmap", bitmap));
        }
        let length = wanted.min(subcluster_bytes - start % subcluster_bytes);
        let origin =
            if allocated { Origin::Data { offset_bytes: cluster + start } } else { Origin::Zero };
        Ok(Extent { origin, bytes: length })
    }

    /// The offset takes the low bits, the number of further sectors the bits between it and the
    /// flags.
    fn compressed(self, entry: u64, start: usize) -> Origin {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let offset_bytes = entry & ((1 << offset_bits) - 1);
        let sectors = (entry & (L2_COMPRESSED - 1)) >> offset_bits;
        let stored_bytes = (sectors + 1) * SECTOR_BYTES - offset_bytes % SECTOR_BYTES;
        let block_bytes = self.cluster_bytes() as usize;
        Origin::Packed(Packed { codec: self.codec, block_bytes, offset_bytes, stored_bytes, start })
    }
}
