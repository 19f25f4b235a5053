//! The entries of the log, in memory: where each is stored, and the newest of them themselves.

use std::collections::VecDeque;
use std::io;

use super::record::StoredPayload;
use crate::raft::{EntryPayload, LogId, Vote};

/// What the log amounts to.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    slots: VecDeque<Slot>,
    /// Slots before this one have no payload in memory.
    uncached: usize,
    cached_bytes: usize,
    cache_bytes_max: usize,
}

/// An entry.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) id: LogId,
    /// Number of the file.
    pub(super) segment: u64,
    /// Its offsets count from the beginning of the file.
    pub(super) stored: StoredPayload,
    pub(super) payload: Option<EntryPayload>,
}

impl Index {
    pub(super) fn new(cache_bytes_max: usize) -> Self {
        Self {
            vote: None,
            committed: None,
            purged: None,
            slots: VecDeque::new(),
            uncached: 0,
            cached_bytes: 0,
            cache_bytes_max,
        }
    }

    /// The last entry, dropped ones included.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    /// Adds an entry behind the last one.
    pub(super) fn push(&mut self, slot: Slot) -> io::Result<()> {
        // A log that nothing was dropped from may begin anywhere.
        let expected = self.last().map(|last| last.index + 1);
        if expected.is_some_and(|expected| expected != slot.id.index) {
            let reason = format!("entry {} follows {:?}", slot.id.index, self.last());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.add(slot);
        Ok(())
    }

    /// Adds an entry that was read from a file. Those before the first one may have been dropped, with their files,
    /// by a record that comes later.
    pub(super) fn push_stored(&mut self, slot: Slot) -> io::Result<()> {
        if self.slots.is_empty() {
            self.add(slot);
            return Ok(());
        }
        self.push(slot)
    }

    fn add(&mut self, slot: Slot) {
        self.cached_bytes += cached_bytes(&slot);
        self.slots.push_back(slot);
    }

    /// Drops the entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while let Some(slot) = self.slots.pop_back_if(|slot| slot.id.index >= from) {
            self.cached_bytes -= cached_bytes(&slot);
        }
        self.uncached = self.uncached.min(self.slots.len());
    }

    /// Drops the entries up to `upto`, which may be behind the last one.
    pub(super) fn purge(&mut self, upto: LogId) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.id.index <= upto.index) {
            self.cached_bytes -= cached_bytes(&slot);
            self.uncached = self.uncached.saturating_sub(1);
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Forgets payloads that are stored in files before `segment`, the oldest first, as long as there are too many.
    pub(super) fn shrink(&mut self, segment: u64) {
        while self.cached_bytes > self.cache_bytes_max
            && let Some(slot) = self.slots.get_mut(self.uncached)
            && slot.segment < segment
        {
            self.cached_bytes -= cached_bytes(slot);
            slot.payload = None;
            self.uncached += 1;
        }
    }

    /// The entries from `start` to before `end`, without gap; those that are there.
    pub(super) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &Slot> {
        let first = self.slots.front().map_or(0, |slot| slot.id.index);
        let place = |index: u64| {
            usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.slots.len())
        };
        let (start, end) = (place(start), place(end));
        self.slots.range(start..end.max(start))
    }

    /// The file that holds the first entry; none when there is no entry.
    pub(super) fn first_segment(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.segment)
    }
}

/// Bytes that an entry takes in memory.
fn cached_bytes(slot: &Slot) -> usize {
    /// A guess for the rare entries that hold no commands, and for what surrounds the others.
    const OTHER_BYTES: usize = 128;
    slot.payload.as_ref().map_or(0, |_| slot.stored.length_bytes as usize + OTHER_BYTES)
}
