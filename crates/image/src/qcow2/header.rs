//! The header: everything that decides whether the image can be read at all.

use super::Qcow2Error;
use super::decompress::Compression;
use super::table::Geometry;
use crate::ReadAt;

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
    pub(super) compression: Compression,
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
    /// Reads the header and refuses every image that is not self-contained or is larger than
    /// `max_virtual_bytes`.
    pub(super) fn read(source: &impl ReadAt, max_virtual_bytes: u64) -> Result<Self, Qcow2Error> {
        let source_bytes = source.source_bytes();
        let mut bytes = [0; READ_BYTES];
        let available = (source_bytes.min(READ_BYTES as u64)) as usize;
        source.read_exact_at(0, &mut bytes[..available]).map_err(|error| Qcow2Error::Read {
            what: "qcow2 header",
            offset_bytes: 0,
            source: error,
        })?;
        if bytes[..4] != *b"QFI\xfb" {
            return Err(Qcow2Error::NotQcow2);
        }
        let truncated = |needed_bytes: usize| Qcow2Error::Truncated {
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
            _ => return Err(Qcow2Error::Version { version }),
        };
        refuse_dependencies(source, &bytes, &features)?;
        let compression = compression(&features)?;
        let cluster_bits = be32(&bytes, 20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(malformed("cluster_bits", u64::from(cluster_bits)));
        }
        let extended = features.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0;
        let geometry = Geometry::try_new(cluster_bits, version, extended)
            .ok_or_else(|| malformed("cluster_bits with extended L2", u64::from(cluster_bits)))?;
        let virtual_bytes = be64(&bytes, 24);
        if virtual_bytes > max_virtual_bytes {
            return Err(Qcow2Error::TooLarge { virtual_bytes, limit_bytes: max_virtual_bytes });
        }
        let header = Self {
            virtual_bytes,
            geometry,
            compression,
            l1_offset_bytes: be64(&bytes, 40),
            l1_entries: u64::from(be32(&bytes, 36)),
        };
        header.check_l1(source_bytes)?;
        Ok(header)
    }

    fn check_l1(&self, source_bytes: u64) -> Result<(), Qcow2Error> {
        let l1_bytes = self.l1_entries * 8;
        let needed_entries = self.virtual_bytes.div_ceil(self.geometry.l2_covers_bytes());
        if l1_bytes > MAX_L1_BYTES || self.l1_entries < needed_entries {
            return Err(malformed("l1_size", self.l1_entries));
        }
        if !self.l1_offset_bytes.is_multiple_of(self.geometry.cluster_bytes()) {
            return Err(malformed("l1_table_offset", self.l1_offset_bytes));
        }
        check_within("L1 table", self.l1_offset_bytes, l1_bytes, source_bytes)
    }
}

fn features(bytes: &[u8; READ_BYTES]) -> Result<Features, Qcow2Error> {
    let header_bytes = be32(bytes, 100);
    if (header_bytes as usize) < V3_BYTES {
        return Err(malformed("header_length", u64::from(header_bytes)));
    }
    let has_compression_type = header_bytes as usize > V3_BYTES;
    Ok(Features {
        incompatible: be64(bytes, 72),
        compression_type: if has_compression_type { bytes[V3_BYTES] } else { 0 },
    })
}

/// Refuses what makes the guest's bytes depend on anything but this file, by name.
fn refuse_dependencies(
    source: &impl ReadAt,
    bytes: &[u8; READ_BYTES],
    features: &Features,
) -> Result<(), Qcow2Error> {
    let backing_offset = be64(bytes, 8);
    if backing_offset != 0 {
        let name = backing_name(source, backing_offset, be32(bytes, 16));
        return Err(Qcow2Error::BackingFile { name });
    }
    let method = be32(bytes, 32);
    if method != 0 {
        return Err(Qcow2Error::Encrypted { method });
    }
    let incompatible = features.incompatible;
    if incompatible & INCOMPATIBLE_EXTERNAL_DATA != 0 {
        return Err(Qcow2Error::ExternalDataFile);
    }
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(Qcow2Error::Corrupt);
    }
    if incompatible & INCOMPATIBLE_DIRTY != 0 {
        return Err(Qcow2Error::Dirty);
    }
    match incompatible & !INCOMPATIBLE_KNOWN {
        0 => Ok(()),
        bits => Err(Qcow2Error::UnknownFeatures { bits }),
    }
}

/// The backing file's name, for the message only.
fn backing_name(source: &impl ReadAt, offset_bytes: u64, name_bytes: u32) -> String {
    let name_bytes = u64::from(name_bytes).min(MAX_BACKING_NAME_BYTES);
    let mut name = vec![0; name_bytes as usize];
    match source.read_exact_at(offset_bytes, &mut name) {
        Ok(()) => String::from_utf8_lossy(&name).into_owned(),
        Err(_) => String::from("name outside the file"),
    }
}

fn compression(features: &Features) -> Result<Compression, Qcow2Error> {
    let compression_type = features.compression_type;
    let announced = features.incompatible & INCOMPATIBLE_COMPRESSION != 0;
    match compression_type {
        // The bit and the field must agree, or older readers would misread the clusters.
        0 | 1 if (compression_type != 0) != announced => {
            Err(malformed("compression_type", u64::from(compression_type)))
        }
        0 => Ok(Compression::Zlib),
        1 => Ok(Compression::Zstd),
        _ => Err(Qcow2Error::UnknownCompression { compression_type }),
    }
}

/// Refuses a part of the file that does not lie within it.
pub(super) fn check_within(
    what: &'static str,
    offset_bytes: u64,
    needed_bytes: u64,
    source_bytes: u64,
) -> Result<(), Qcow2Error> {
    match offset_bytes.checked_add(needed_bytes) {
        Some(end) if end <= source_bytes => Ok(()),
        Some(_) | None => {
            Err(Qcow2Error::Truncated { what, offset_bytes, needed_bytes, source_bytes })
        }
    }
}

fn malformed(what: &'static str, value: u64) -> Qcow2Error {
    Qcow2Error::Malformed { what, value }
}

fn be32(bytes: &[u8; READ_BYTES], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn be64(bytes: &[u8; READ_BYTES], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
