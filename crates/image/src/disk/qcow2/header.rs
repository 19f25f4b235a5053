//! The header: everything that decides whether the image can be read at all.

use super::entry::Geometry;
use crate::ReadAt;
use crate::disk::fields::{be32, be64};
use crate::disk::layout::read;
use crate::disk::unpack::Codec;
use crate::disk::{DiskFault, check_within};

/// Length of a version 2 header; the least a qcow2 file has.
const V2_BYTES: usize = 72;
/// Length of the version 3 header up to `compression_type`, which is optional.
const V3_BYTES: usize = 104;
/// What is read of the header: everything this reader knows.
const READ_BYTES: usize = V3_BYTES + 1;
/// QEMU's bounds (`MIN_CLUSTER_BITS`, `MAX_CLUSTER_BITS`): 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU's bound (`QCOW_MAX_L1_SIZE`): enough for 2 EiB in clusters of 64 KiB.
const MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU's bound on the name of a backing file.
const MAX_BACKING_NAME_BYTES: u64 = 1023;

const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_EXTERNAL_DATA: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const INCOMPATIBLE_KNOWN: u64 = INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;

/// What a readable image's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) virtual_bytes: u64,
    pub(super) geometry: Geometry,
    pub(super) l1_offset_bytes: u64,
    pub(super) l1_entries: u64,
}

/// The features of a version 3 header; a version 2 header has none.
#[derive(Default)]
struct Features {
    incompatible: u64,
    compression_type: u8,
}

impl Header {
    /// Reads the header and refuses every image that is not self-contained.
    pub(super) fn read(source: &dyn ReadAt) -> Result<Self, DiskFault> {
        let source_bytes = source.source_bytes();
        let mut bytes = [0; READ_BYTES];
        let available = (source_bytes.min(READ_BYTES as u64)) as usize;
        read(source, "header", 0, &mut bytes[..available])?;
        if bytes[..4] != *b"QFI\xfb" {
            return Err(DiskFault::NoMark);
        }
        let truncated = |needed_bytes: usize| DiskFault::Truncated {
            what: "header",
            offset_bytes: 0,
            needed_bytes: needed_bytes as u64,
            source_bytes,
        };
        if available < V2_BYTES {
            return Err(truncated(V2_BYTES));
        }
        let version = be32(&bytes, 4);
        let features = match version {
            2 => Features::default(),
            3 if available < V3_BYTES => return Err(truncated(V3_BYTES)),
            3 => features(&bytes)?,
            _ => return Err(DiskFault::Version { version, readable: "2 and 3" }),
        };
        refuse_dependencies(source, &bytes, &features)?;
        let codec = codec(&features)?;
        let cluster_bits = be32(&bytes, 20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(DiskFault::malformed("cluster_bits", cluster_bits));
        }
        let extended = features.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0;
        let geometry = Geometry::try_new(cluster_bits, version, extended, codec)
            .ok_or_else(|| DiskFault::malformed("cluster_bits with extended L2", cluster_bits))?;
        let header = Self {
            virtual_bytes: be64(&bytes, 24),
            geometry,
            l1_offset_bytes: be64(&bytes, 40),
            l1_entries: u64::from(be32(&bytes, 36)),
        };
        header.check_l1(source_bytes)?;
        Ok(header)
    }

    fn check_l1(&self, source_bytes: u64) -> Result<(), DiskFault> {
        let l1_bytes = self.l1_entries * 8;
        let needed_entries = self.virtual_bytes.div_ceil(self.geometry.l2_covers_bytes());
        if l1_bytes > MAX_L1_BYTES || self.l1_entries < needed_entries {
            return Err(DiskFault::malformed("l1_size", self.l1_entries));
        }
        if !self.l1_offset_bytes.is_multiple_of(self.geometry.cluster_bytes()) {
            return Err(DiskFault::malformed("l1_table_offset", self.l1_offset_bytes));
        }
        check_within("L1 table", self.l1_offset_bytes, l1_bytes, source_bytes)
    }
}

fn features(bytes: &[u8; READ_BYTES]) -> Result<Features, DiskFault> {
    let header_bytes = be32(bytes, 100);
    if (header_bytes as usize) < V3_BYTES {
        return Err(DiskFault::malformed("header_length", header_bytes));
    }
    let has_compression_type = header_bytes as usize > V3_BYTES;
    Ok(Features {
        incompatible: be64(bytes, 72),
        compression_type: if has_compression_type { bytes[V3_BYTES] } else { 0 },
    })
}

/// Refuses what makes the guest's bytes depend on anything but this file, by name.
fn refuse_dependencies(
    source: &dyn ReadAt,
    bytes: &[u8; READ_BYTES],
    features: &Features,
) -> Result<(), DiskFault> {
    let backing_offset = be64(bytes, 8);
    if backing_offset != 0 {
        let name = backing_name(source, backing_offset, be32(bytes, 16));
        return Err(DiskFault::BackingFile { name });
    }
    let method = be32(bytes, 32);
    if method != 0 {
        return Err(DiskFault::Encrypted { method });
    }
    let incompatible = features.incompatible;
    if incompatible & INCOMPATIBLE_EXTERNAL_DATA != 0 {
        return Err(DiskFault::ExternalDataFile);
    }
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(DiskFault::Corrupt);
    }
    if incompatible & INCOMPATIBLE_DIRTY != 0 {
        return Err(DiskFault::Dirty);
    }
    match incompatible & !INCOMPATIBLE_KNOWN {
        0 => Ok(()),
        bits => Err(DiskFault::UnknownFeatures { bits }),
    }
}

/// The backing file's name, for the message only.
fn backing_name(source: &dyn ReadAt, offset_bytes: u64, name_bytes: u32) -> String {
    let name_bytes = u64::from(name_bytes).min(MAX_BACKING_NAME_BYTES);
    let mut name = vec![0; name_bytes as usize];
    match source.read_exact_at(offset_bytes, &mut name) {
        Ok(()) => String::from_utf8_lossy(&name).into_owned(),
        Err(_) => String::from("name outside the file"),
    }
}

fn codec(features: &Features) -> Result<Codec, DiskFault> {
    let compression_type = features.compression_type;
    let announced = features.incompatible & INCOMPATIBLE_COMPRESSION != 0;
    match compression_type {
        // The bit and the field must agree, or older readers would misread the clusters.
        0 | 1 if (compression_type != 0) != announced => {
            Err(DiskFault::malformed("compression_type", compression_type))
        }
        0 => Ok(Codec::Deflate),
        1 => Ok(Codec::Zstd),
        _ => Err(DiskFault::UnknownCompression { compression_type: compression_type.into() }),
    }
}
