//! The header, and the footer that stands for it at the end.

use super::SECTOR_BYTES;
use super::descriptor::{check_descriptor, unreadable_kind};
use crate::ReadAt;
use crate::disk::DiskFault;
use crate::disk::fields::{le16, le32, le64};
use crate::disk::layout::{read, read_array};

const HEADER_BYTES: usize = 512;
const MARK: &[u8] = b"KDMV";
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=3;

const FLAG_NEWLINES: u32 = 1 << 0;
const FLAG_REDUNDANT_DIRECTORY: u32 = 1 << 1;
const FLAG_ZERO_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
const FLAGS_KNOWN: u32 =
    FLAG_NEWLINES | FLAG_REDUNDANT_DIRECTORY | FLAG_ZERO_GRAINS | FLAG_COMPRESSED | FLAG_MARKERS;

/// What a transfer in text mode would have changed.
const NEWLINES: &[u8] = b"\n \r\n";
const COMPRESSION_DEFLATE: u16 = 1;
/// Where the directory is when the footer knows.
const AT_END: u64 = u64::MAX;
/// From the footer's start to the file's end: the footer and an end-of-stream marker.
const FOOTER_FROM_END: u64 = 2 * SECTOR_BYTES;
/// Every table has so many entries.
pub(super) const TABLE_ENTRIES: u64 = 512;
/// VMware makes grains of 64 KiB; others are legal.
const GRAIN_SECTORS: std::ops::RangeInclusive<u64> = 1..=32 << 10;
/// The descriptor of a monolithic image is a few hundred bytes in 20 sectors.
const MAX_DESCRIPTOR_SECTORS: u64 = 2048;

/// What a readable image's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) raw_bytes: u64,
    pub(super) grain_bytes: u64,
    pub(super) directory_offset_bytes: u64,
    pub(super) has_zero_grains: bool,
    pub(super) is_compressed: bool,
}

impl Header {
    /// Reads the header and the descriptor, and refuses every image that is not one file.
    pub(super) fn read(source: &dyn ReadAt) -> Result<Self, DiskFault> {
        let first: [u8; HEADER_BYTES] = read_array(source, "header", 0)?;
        Self::parse(&first)?;
        refuse_other_kinds(source, &first)?;
        if le64(&first, 56) != AT_END {
            return Self::parse(&first);
        }
        let at = source.source_bytes().checked_sub(FOOTER_FROM_END).ok_or(DiskFault::NoMark)?;
        let footer: [u8; HEADER_BYTES] = read_array(source, "footer", at)?;
        if le64(&footer, 56) == AT_END {
            return Err(DiskFault::malformed("gdOffset of the footer", AT_END));
        }
        Self::parse(&footer)
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, DiskFault> {
        if !bytes.starts_with(MARK) {
            return Err(DiskFault::NoMark);
        }
        let version = le32(bytes, 4);
        if !VERSIONS.contains(&version) {
            return Err(DiskFault::Version { version, readable: "1 to 3" });
        }
        let flags = le32(bytes, 8);
        if flags & !FLAGS_KNOWN != 0 {
            return Err(DiskFault::UnknownFeatures { bits: (flags & !FLAGS_KNOWN).into() });
        }
        if flags & FLAG_NEWLINES != 0 && bytes[73..77] != *NEWLINES {
            return Err(DiskFault::malformed("newline test", le32(bytes, 73)));
        }
        let is_compressed = flags & FLAG_COMPRESSED != 0;
        let compression_type = le16(bytes, 77);
        if is_compressed && compression_type != COMPRESSION_DEFLATE {
            return Err(DiskFault::UnknownCompression { compression_type });
        }
        if is_compressed && flags & FLAG_MARKERS == 0 {
            return Err(DiskFault::malformed("flags", flags));
        }
        let table_entries = u64::from(le32(bytes, 44));
        if table_entries != TABLE_ENTRIES {
            return Err(DiskFault::malformed("numGTEsPerGT", table_entries));
        }
        let grain_sectors = le64(bytes, 20);
        if !grain_sectors.is_power_of_two() || !GRAIN_SECTORS.contains(&grain_sectors) {
            return Err(DiskFault::malformed("grainSize", grain_sectors));
        }
        let in_bytes = |what, sectors: u64| {
            sectors.checked_mul(SECTOR_BYTES).ok_or_else(|| DiskFault::malformed(what, sectors))
        };
        Ok(Self {
            raw_bytes: in_bytes("capacity", le64(bytes, 12))?,
            grain_bytes: grain_sectors * SECTOR_BYTES,
            directory_offset_bytes: match le64(bytes, 56) {
                AT_END => AT_END,
                sectors => in_bytes("gdOffset", sectors)?,
            },
            has_zero_grains: flags & FLAG_ZERO_GRAINS != 0,
            is_compressed,
        })
    }

    /// Guest bytes that one table describes.
    pub(super) fn table_covers_bytes(&self) -> u64 {
        self.grain_bytes * TABLE_ENTRIES
    }

    pub(super) fn directory_entries(&self) -> u64 {
        self.raw_bytes.div_ceil(self.table_covers_bytes())
    }
}

fn refuse_other_kinds(source: &dyn ReadAt, header: &[u8; HEADER_BYTES]) -> Result<(), DiskFault> {
    let (offset_sectors, sectors) = (le64(header, 28), le64(header, 36));
    if offset_sectors == 0 {
        return Err(unreadable_kind("extent of a split image"));
    }
    if sectors > MAX_DESCRIPTOR_SECTORS {
        return Err(DiskFault::malformed("descriptorSize", sectors));
    }
    let offset_bytes = offset_sectors
        .checked_mul(SECTOR_BYTES)
        .ok_or_else(|| DiskFault::malformed("descriptorOffset", offset_sectors))?;
    let mut descriptor = vec![0; (sectors * SECTOR_BYTES) as usize];
    read(source, "descriptor", offset_bytes, &mut descriptor)?;
    check_descriptor(&descriptor)
}
