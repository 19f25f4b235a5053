//! The guest's view of an image.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Qcow2Error;
use super::decompress::Decompressor;
use super::header::{Header, check_within};
use super::table::Origin;
use crate::ReadAt;
use crate::pack::{RawBytes, RawSource};

/// Memory for L2 tables. A reader in guest order needs the current table and, with several
/// threads, its neighbours; 4 MiB are 64 tables of usual images (32 GiB of guest).
const L2_CACHE_BYTES: u64 = 4 << 20;
/// At least this many tables are kept, whatever their size: 2 MiB clusters have 2 MiB tables.
const L2_CACHE_MIN_TABLES: u64 = 2;
/// At most so many, since the cache is searched from end to end.
const L2_CACHE_MAX_TABLES: u64 = 64;

/// A qcow2 image over a source, read as the raw image that its guest sees.
pub struct Qcow2<S> {
    source: S,
    header: Header,
    /// Big endian, as in the file.
    l1: Vec<u8>,
    /// Tables read last, by index in L1.
    l2_cache: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// Consecutive guest bytes of one origin.
struct Run {
    origin: Origin,
    bytes: usize,
}

impl<S: ReadAt> Qcow2<S> {
    /// Opens an image whose virtual size is at most `max_virtual_bytes`. Refuses images that are
    /// not self-contained, see the module.
    pub fn open(source: S, max_virtual_bytes: u64) -> Result<Self, Qcow2Error> {
        let header = Header::read(&source, max_virtual_bytes)?;
        // At most 32 MiB, and no more than the source has: the header was checked.
        let mut l1 = vec![0; header.l1_entries as usize * 8];
        read(&source, "L1 table", header.l1_offset_bytes, &mut l1)?;
        Ok(Self { source, header, l1, l2_cache: Mutex::default() })
    }

    /// The source.
    pub fn into_source(self) -> S {
        self.source
    }

    /// The L2 table that covers a guest offset, if it was ever allocated.
    fn l2_table(&self, guest_offset: u64) -> Result<Option<Arc<[u8]>>, Qcow2Error> {
        let geometry = self.header.geometry;
        let number = guest_offset / geometry.l2_covers_bytes();
        let at = number as usize * 8;
        let entry = u64::from_be_bytes(self.l1[at..at + 8].try_into().expect("eight bytes"));
        let Some(offset_bytes) = geometry.l2_table(entry)? else { return Ok(None) };
        if let Some(table) = self.cached_l2(number) {
            return Ok(Some(table));
        }
        let table_bytes = geometry.cluster_bytes();
        check_within("L2 table", offset_bytes, table_bytes, self.source.source_bytes())?;
        let mut table = vec![0; table_bytes as usize];
        read(&self.source, "L2 table", offset_bytes, &mut table)?;
        let table: Arc<[u8]> = table.into();
        let limit = (L2_CACHE_BYTES / table_bytes).clamp(L2_CACHE_MIN_TABLES, L2_CACHE_MAX_TABLES);
        let mut cache = self.l2_cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() as u64 >= limit {
            cache.pop_front();
        }
        cache.push_back((number, Arc::clone(&table)));
        Ok(Some(table))
    }

    fn cached_l2(&self, number: u64) -> Option<Arc<[u8]>> {
        let cache = self.l2_cache.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest are at the back and the likeliest.
        cache.iter().rev().find(|(cached, _)| *cached == number).map(|(_, table)| Arc::clone(table))
    }

    /// Where `bytes` of the guest from `guest_offset` on come from, neighbours joined.
    fn runs(&self, guest_offset: u64, bytes: usize) -> Result<Vec<Run>, Qcow2Error> {
        let geometry = self.header.geometry;
        let mut runs: Vec<Run> = Vec::new();
        let (mut offset, end) = (guest_offset, guest_offset + bytes as u64);
        while offset < end {
            let table_end = (offset / geometry.l2_covers_bytes() + 1) * geometry.l2_covers_bytes();
            let Some(table) = self.l2_table(offset)? else {
                let unallocated = table_end.min(end) - offset;
                join(&mut runs, Origin::Zero, unallocated as usize);
                offset += unallocated;
                continue;
            };
            while offset < table_end.min(end) {
                let (origin, bytes) = geometry.locate(&table, offset, end - offset)?;
                join(&mut runs, origin, bytes as usize);
                offset += bytes;
            }
        }
        Ok(runs)
    }

    fn read_compressed(
        &self,
        guest_offset: u64,
        (offset_bytes, stored_bytes): (u64, u64),
        start: usize,
        buffers: &mut Buffers,
        into: &mut [u8],
    ) -> Result<(), Qcow2Error> {
        // The last cluster of a file need not fill the sectors it counts.
        let source_bytes = self.source.source_bytes();
        let present_bytes = stored_bytes.min(source_bytes.saturating_sub(offset_bytes));
        let failed = |message| {
            let whole =
                check_within("compressed cluster", offset_bytes, stored_bytes, source_bytes);
            whole
                .err()
                .unwrap_or(Qcow2Error::Decompress { guest_offset_bytes: guest_offset, message })
        };
        // At most the header's cluster size and a sector: the entry has no room for more.
        buffers.stored.resize(present_bytes as usize, 0);
        read(&self.source, "compressed cluster", offset_bytes, &mut buffers.stored)?;
        let decompressor = match &mut buffers.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new(self.header.compression).map_err(failed)?),
        };
        let cluster_bytes = self.header.geometry.cluster_bytes() as usize;
        if into.len() == cluster_bytes {
            return decompressor.decompress(&buffers.stored, into).map_err(failed);
        }
        buffers.cluster.resize(cluster_bytes, 0);
        decompressor.decompress(&buffers.stored, &mut buffers.cluster).map_err(failed)?;
        into.copy_from_slice(&buffers.cluster[start..start + into.len()]);
        Ok(())
    }
}

/// What one read needs for compressed clusters.
#[derive(Default)]
struct Buffers {
    decompressor: Option<Decompressor>,
    stored: Vec<u8>,
    cluster: Vec<u8>,
}

impl<S: ReadAt> RawSource for Qcow2<S> {
    type Error = Qcow2Error;

    fn raw_bytes(&self) -> u64 {
        self.header.virtual_bytes
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, Qcow2Error> {
        let runs = self.runs(offset_bytes, into.len())?;
        if runs.iter().all(|run| run.origin == Origin::Zero) {
            return Ok(RawBytes::Zero);
        }
        let mut buffers = Buffers::default();
        let mut guest_offset = offset_bytes;
        let mut rest = into;
        for Run { origin, bytes } in runs {
            let (part, behind) = rest.split_at_mut(bytes);
            match origin {
                Origin::Zero => part.fill(0),
                Origin::Data { offset_bytes } => {
                    let source_bytes = self.source.source_bytes();
                    check_within("data cluster", offset_bytes, bytes as u64, source_bytes)?;
                    read(&self.source, "data cluster", offset_bytes, part)?;
                }
                Origin::Compressed { offset_bytes, stored_bytes, start } => {
                    let stored = (offset_bytes, stored_bytes);
                    self.read_compressed(guest_offset, stored, start, &mut buffers, part)?;
                }
            }
            guest_offset += bytes as u64;
            rest = behind;
        }
        Ok(RawBytes::Data)
    }
}

impl<S> fmt::Debug for Qcow2<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qcow2").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Adds a run, as part of the last one where it continues that.
fn join(runs: &mut Vec<Run>, origin: Origin, bytes: usize) {
    if let Some(last) = runs.last_mut() {
        let continues = match (last.origin, origin) {
            (Origin::Zero, Origin::Zero) => true,
            (Origin::Data { offset_bytes: before }, Origin::Data { offset_bytes }) => {
                before + last.bytes as u64 == offset_bytes
            }
            _ => false,
        };
        if continues {
            last.bytes += bytes;
            return;
        }
    }
    runs.push(Run { origin, bytes });
}

fn read(
    source: &impl ReadAt,
    what: &'static str,
    offset_bytes: u64,
    into: &mut [u8],
) -> Result<(), Qcow2Error> {
    source.read_exact_at(offset_bytes, into).map_err(|source| Qcow2Error::Read {
        what,
        offset_bytes,
        source,
    })
}
