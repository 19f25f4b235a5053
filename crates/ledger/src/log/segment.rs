//! One file of the log: batches of records, each written and synced as a whole.
//!
//! ```text
//! header      magic "BSMRLOG1" | number u64 | seed u64 | CRC-32 of these u32
//! batch       mark u32 | length u32 | check u32 | records
//! ```
//!
//! `mark` and `check` depend on the file's seed, which is random, and `check` on the batch's place as well: nothing that
//! a client has put into the log can be taken for a batch. The file is made longer with zeros ahead of the batches, for
//! a sync that need not store a new length takes a third less time.
//!
//! At most the last batch was being written when a process died. So a batch that is not whole, with none after it, was
//! never acknowledged, and is where the log ends; with another one after it, the file is damaged.

use std::io;
use std::ops::Range;

use super::disk::{Disk, DiskFile};
use super::wal::damaged;

const MAGIC: [u8; 8] = *b"BSMRLOG1";
const HEADER_BYTES: usize = 28;

/// Mark, length and check before each batch.
pub(super) const BATCH_HEADER_BYTES: u64 = 12;

/// Where the first batch begins.
pub(super) const FIRST_BATCH_BYTES: u64 = HEADER_BYTES as u64;

/// A file of the log that is open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    file: Box<dyn DiskFile>,
    seed: u64,
    /// How far the file reaches.
    reserved_bytes: u64,
}

/// What a file was found to hold.
pub(super) struct Found {
    pub(super) segment: Segment,
    pub(super) content: Vec<u8>,
    /// Where in it the records of each whole batch are.
    pub(super) batches: Vec<Range<usize>>,
    /// Where the next batch goes.
    pub(super) end_bytes: u64,
}

/// What a file of this number is called.
pub(super) fn name(number: u64) -> String {
    format!("log-{number:016x}")
}

/// The number of the file of this name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

impl Segment {
    /// Makes a new file, durably. `seed` is random.
    pub(super) fn create(disk: &dyn Disk, number: u64, seed: u64) -> io::Result<Self> {
        let file = disk.create(&name(number))?;
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..24].copy_from_slice(&seed.to_le_bytes());
        let check = crc32fast::hash(&header[..24]);
        header[24..].copy_from_slice(&check.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        disk.sync_directory()?;
        Ok(Self { number, file, seed, reserved_bytes: FIRST_BATCH_BYTES })
    }

    /// Opens a file and reads it; none if its making was not completed.
    pub(super) fn open(disk: &dyn Disk, number: u64) -> io::Result<Option<Found>> {
        let file = disk.open(&name(number))?;
        let reserved_bytes = file.length_bytes()?;
        let mut content = vec![0; usize::try_from(reserved_bytes).map_err(io::Error::other)?];
        file.read_exact_at(&mut content, 0)?;
        let Some(seed) = seed_of(&content, number) else {
            // The header is durable before anything else is written.
            return if content.iter().skip(HEADER_BYTES).all(|byte| *byte == 0) {
                Ok(None)
            } else {
                Err(damaged(format!("the header of {} is damaged", name(number))))
            };
        };
        let segment = Self { number, file, seed, reserved_bytes };
        let mut batches = Vec::new();
        let mut position = HEADER_BYTES;
        while let Some(length) = segment.batch_at(&content, position) {
            let start = position + BATCH_HEADER_BYTES as usize;
            batches.push(start..start + length);
            position = start + length;
        }
        if let Some(later) = segment.batch_after(&content, position) {
            let name = name(number);
            return Err(damaged(format!(
                "{name} is damaged at byte {position}: a whole batch follows at {later}"
            )));
        }
        // A process that died may have left what nobody has synced; it counts from now on.
        segment.file.sync_data()?;
        Ok(Some(Found { segment, content, batches, end_bytes: position as u64 }))
    }

    /// Writes a batch at `offset`, where the last one ended, and syncs it. The file is made longer by `reserve_bytes`
    /// whenever it has to be.
    pub(super) fn write(
        &mut self,
        records: &[u8],
        offset: u64,
        reserve_bytes: u64,
    ) -> io::Result<()> {
        let length = u32::try_from(records.len()).map_err(io::Error::other)?;
        let mut batch = Vec::with_capacity(records.len() + BATCH_HEADER_BYTES as usize);
        batch.extend_from_slice(&self.mark().to_le_bytes());
        batch.extend_from_slice(&length.to_le_bytes());
        batch.extend_from_slice(&self.check(records, offset).to_le_bytes());
        batch.extend_from_slice(records);
        let end = offset + batch.len() as u64;
        if end > self.reserved_bytes {
            let zeros = vec![
                0;
                usize::try_from(end + reserve_bytes - self.reserved_bytes)
                    .map_err(io::Error::other)?
            ];
            self.file.write_all_at(&zeros, self.reserved_bytes)?;
            self.reserved_bytes = end + reserve_bytes;
        }
        self.file.write_all_at(&batch, offset)?;
        self.file.sync_data()
    }

    /// Reads from a batch that was written.
    pub(super) fn read(&self, offset: u64, length_bytes: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length_bytes as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Length of the records of the whole batch at `position`.
    fn batch_at(&self, content: &[u8], position: usize) -> Option<usize> {
        let header = content.get(position..)?.first_chunk::<12>()?;
        let field = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (mark, length, check) = (field(0), field(4) as usize, field(8));
        let start = position + BATCH_HEADER_BYTES as usize;
        let records = content.get(start..start.checked_add(length)?)?;
        (mark == self.mark() && check == self.check(records, position as u64)).then_some(length)
    }

    /// Where the first whole batch behind `position` begins.
    fn batch_after(&self, content: &[u8], position: usize) -> Option<usize> {
        let mark = self.mark().to_le_bytes();
        let is_marked = |place: &usize| content[*place..].starts_with(&mark);
        (position + 1..content.len())
            .filter(is_marked)
            .find(|place| self.batch_at(content, *place).is_some())
    }

    /// What batches of this file begin with; never zero, like what has not been written.
    fn mark(&self) -> u32 {
        (self.seed >> 32) as u32 | 1
    }

    fn check(&self, records: &[u8], offset: u64) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(records);
        hasher.finalize()
    }
}

/// The seed of the file that begins with `content`, if its header is whole.
fn seed_of(content: &[u8], number: u64) -> Option<u64> {
    let header = content.first_chunk::<HEADER_BYTES>()?;
    let field = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let is_whole = header[..8] == MAGIC
        && field(8) == Some(number)
        && header[24..] == crc32fast::hash(&header[..24]).to_le_bytes();
    field(16).filter(|_| is_whole)
}
