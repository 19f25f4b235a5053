//! The headers and the region table, in the first MiB of the file.

use crc::{CRC_32_ISCSI, Crc};
use uuid::Uuid;

use crate::ReadAt;
use crate::disk::DiskFault;
use crate::disk::fields::{le16, le32, le64};
use crate::disk::layout::{check_within, read, read_array};

const FILE_MARK: &[u8] = b"vhdxfile";
const HEADER_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
const HEADER_BYTES: usize = 4 << 10;
const HEADER_MARK: &[u8] = b"head";
const VERSION: u16 = 1;
const REGION_TABLE_OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
const REGION_TABLE_BYTES: usize = 64 << 10;
const REGION_TABLE_MARK: &[u8] = b"regi";
const REGION_ENTRY_BYTES: usize = 32;
const REGION_IS_REQUIRED: u32 = 1;
const BLOCK_TABLE: Uuid = Uuid::from_u128(0x2dc27766_f623_4200_9d64_115e9bfd4a08);
const METADATA: Uuid = Uuid::from_u128(0x8b7ca206_4790_4b9a_b8fe_575f050f886e);

/// A stretch of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) offset_bytes: u64,
    pub(super) bytes: u64,
}

/// The regions that every image has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions {
    pub(super) metadata: Region,
    pub(super) block_table: Region,
}

/// Reads where everything is, unless something is in the log still.
pub(super) fn regions(source: &dyn ReadAt) -> Result<Regions, DiskFault> {
    let mark: [u8; 8] = read_array(source, "file mark", 0)?;
    if mark != FILE_MARK {
        return Err(DiskFault::NoMark);
    }
    check_header(source)?;
    let mut table = vec![0; REGION_TABLE_BYTES];
    for offset_bytes in REGION_TABLE_OFFSETS {
        read(source, "region table", offset_bytes, &mut table)?;
        if is_valid(&mut table, REGION_TABLE_MARK) {
            return parse_regions(&table, source.source_bytes());
        }
    }
    Err(DiskFault::malformed("checksum of both region tables", le32(&table, 4)))
}

/// The header that was written last must be of a known version and have no log.
fn check_header(source: &dyn ReadAt) -> Result<(), DiskFault> {
    let mut newest: Option<[u8; HEADER_BYTES]> = None;
    for offset_bytes in HEADER_OFFSETS {
        let mut header = read_array(source, "header", offset_bytes)?;
        let sequence = |header: &[u8; HEADER_BYTES]| le64(header, 8);
        if is_valid(&mut header, HEADER_MARK)
            && newest.as_ref().is_none_or(|newest| sequence(newest) < sequence(&header))
        {
            newest = Some(header);
        }
    }
    let header = newest.ok_or_else(|| DiskFault::malformed("checksum of both headers", 0_u64))?;
    let version = le16(&header, 66);
    if version != VERSION {
        return Err(DiskFault::Version { version: version.into(), readable: "1" });
    }
    let log_guid = &header[48..64];
    if log_guid.iter().any(|&byte| byte != 0) { Err(DiskFault::Dirty) } else { Ok(()) }
}

/// Whether a structure has its mark and its CRC-32C, which is computed as if its own place (bytes
/// 4 to 7) held zeros. That place is left so.
fn is_valid(structure: &mut [u8], mark: &[u8]) -> bool {
    let stored = le32(structure, 4);
    structure[4..8].fill(0);
    structure.starts_with(mark) && Crc::<u32>::new(&CRC_32_ISCSI).checksum(structure) == stored
}

fn parse_regions(table: &[u8], source_bytes: u64) -> Result<Regions, DiskFault> {
    let (mut metadata, mut block_table) = (None, None);
    let count = le32(table, 8);
    let entries = table[16..].chunks_exact(REGION_ENTRY_BYTES);
    if count as usize > entries.len() {
        return Err(DiskFault::malformed("number of regions", count));
    }
    for entry in entries.take(count as usize) {
        let region = Region { offset_bytes: le64(entry, 16), bytes: le32(entry, 24).into() };
        match Uuid::from_bytes_le(entry[..16].try_into().expect("a GUID has 16 bytes")) {
            METADATA => metadata = Some(region),
            BLOCK_TABLE => block_table = Some(region),
            unknown if le32(entry, 28) & REGION_IS_REQUIRED != 0 => {
                return Err(DiskFault::UnknownFeature { name: format!("region {unknown}") });
            }
            _ => {}
        }
    }
    let found = |what, region: Option<Region>| {
        let Region { offset_bytes, bytes } =
            region.ok_or_else(|| DiskFault::malformed(what, 0_u64))?;
        check_within(what, offset_bytes, bytes, source_bytes)?;
        Ok::<_, DiskFault>(Region { offset_bytes, bytes })
    };
    Ok(Regions {
        metadata: found("metadata region", metadata)?,
        block_table: found("block table region", block_table)?,
    })
}
