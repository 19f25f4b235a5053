//! The write-ahead log: what is asked of it is gathered in memory as one batch, which the writer writes and syncs while the
//! next one gathers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;
use super::index::{Index, Slot};
use super::load::{Loaded, load};
use super::record::{put_commit, put_entry, put_follows, put_purge, put_truncate, put_vote};
use super::segment::{self, BATCH_HEADER_BYTES, FIRST_BATCH_BYTES, Segment};
use crate::raft::{Entry, EntryPayload, LogId, Vote};

/// How large things get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// A file is closed when it reaches this. The log is dropped by whole files.
    pub(super) segment_bytes: u64,
    /// By how much a file is made longer at once.
    pub(super) reserve_bytes: u64,
    /// Entries of closed files that are held in memory, for members that lag a little.
    pub(super) cache_bytes: usize,
}

/// Told how a batch ended, on the writer's thread.
pub(super) type Told = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The log of one member. Durable is what a [`Told`] was told of.
#[derive(Debug)]
pub(super) struct Wal {
    disk: Box<dyn Disk>,
    sizes: Sizes,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    index: Index,
    /// Files that are complete.
    closed: BTreeMap<u64, Segment>,
    /// Number of the file that the gathering batch goes to, and where in it.
    segment: u64,
    end_bytes: u64,
    /// Records of the gathering batch.
    gathering: Vec<u8>,
    told: Vec<Told>,
    /// Whether somebody waits for the batch.
    is_wanted: bool,
    /// After an error nothing is written any more: what the disk holds is not known.
    failed: Option<(io::ErrorKind, String)>,
    is_closing: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Writes batches. There is one.
#[derive(Debug)]
pub(super) struct Writer {
    wal: Arc<Wal>,
    current: Segment,
}

/// A batch on its way to the disk.
struct Batch {
    segment: u64,
    offset: u64,
    records: Vec<u8>,
    told: Vec<Told>,
    /// Once it is durable, nothing is needed of the files before this one.
    keep_from: u64,
}

impl Wal {
    /// Opens the log on `disk`. The last batch, if it was cut by a crash, is dropped: it was never acknowledged. Damage
    /// anywhere else is an error.
    pub(super) fn open(disk: Box<dyn Disk>, sizes: Sizes) -> io::Result<(Arc<Self>, Writer)> {
        let Loaded { index, closed, last, unsaid_end } = load(&*disk, sizes.cache_bytes)?;
        let (current, end_bytes) = match last {
            Some(last) => last,
            None => (Segment::create(&*disk, 1, seed())?, FIRST_BATCH_BYTES),
        };
        let mut state = State {
            index,
            closed,
            segment: current.number,
            end_bytes,
            gathering: Vec::new(),
            told: Vec::new(),
            is_wanted: false,
            failed: None,
            is_closing: false,
        };
        if let Some(before_end) = unsaid_end {
            state.gather_head(before_end);
        }
        state.turn_over(sizes.segment_bytes);
        let (state, wake) = (Mutex::new(state), Condvar::new());
        let wal = Arc::new(Self { disk, sizes, state, wake });
        Ok((Arc::clone(&wal), Writer { wal, current }))
    }

    /// A panic while the lock was held leaves whole records; reading on is safe.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what the log amounts to.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Index) -> T) -> T {
        at(&self.lock().index)
    }

    /// Notes the vote.
    pub(super) fn vote(&self, vote: Vote, told: Told) -> io::Result<()> {
        let mut state = self.working()?;
        state.index.vote = Some(vote);
        put_vote(&vote, &mut state.gathering);
        state.told.push(told);
        self.want(state);
        Ok(())
    }

    /// Adds entries. They can be read at once.
    pub(super) fn append(
        &self,
        entries: impl Iterator<Item = Entry>,
        told: Told,
    ) -> io::Result<()> {
        let mut state = self.working()?;
        for Entry { log_id: id, payload } in entries {
            let State { index, gathering, segment, end_bytes, .. } = &mut *state;
            let mut stored = put_entry(id, &payload, gathering)?;
            stored.offset_bytes += *end_bytes + BATCH_HEADER_BYTES;
            index.push(Slot { id, segment: *segment, stored, payload: Some(payload) })?;
        }
        state.told.push(told);
        self.want(state);
        Ok(())
    }

    /// Drops the entries from `from` on.
    pub(super) fn truncate(&self, from: u64) -> io::Result<()> {
        let mut state = self.working()?;
        if state.index.last().is_none_or(|last| last.index < from) {
            return Ok(());
        }
        state.index.truncate(from);
        put_truncate(from, &mut state.gathering);
        self.want(state);
        Ok(())
    }

    /// Drops the entries up to `upto`.
    pub(super) fn purge(&self, upto: LogId) -> io::Result<()> {
        let mut state = self.working()?;
        state.index.purge(upto);
        put_purge(upto, &mut state.gathering);
        self.want(state);
        Ok(())
    }

    /// Notes that entries up to `upto` are committed. Goes out with whatever is next.
    pub(super) fn commit(&self, upto: LogId) -> io::Result<()> {
        let mut state = self.working()?;
        if Some(upto) <= state.index.last() && Some(upto) > state.index.committed {
            state.index.committed = Some(upto);
            put_commit(upto, &mut state.gathering);
        }
        Ok(())
    }

    /// Entries from `start` to before `end`, as far as there are any, ending early at `bytes_max`.
    pub(super) fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for slot in state.index.range(start, end) {
            entries.push(Entry { log_id: slot.id, payload: state.payload(slot)? });
            bytes += slot.stored.length_bytes as usize;
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(entries)
    }

    /// Has the writer end once everything is written.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        self.want(state);
    }

    fn working(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        match &state.failed {
            None => Ok(state),
            Some((kind, reason)) => Err(io::Error::new(*kind, reason.clone())),
        }
    }

    fn want(&self, mut state: MutexGuard<'_, State>) {
        state.is_wanted = true;
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn payload(&self, slot: &Slot) -> io::Result<EntryPayload> {
        if let Some(payload) = &slot.payload {
            return Ok(payload.clone());
        }
        let file = self.closed.get(&slot.segment).ok_or_else(|| damaged("its file is gone"))?;
        slot.stored
            .decode(file.read(slot.stored.offset_bytes, slot.stored.length_bytes)?)
            .map_err(|error| damaged(format!("entry {}: {error}", slot.id.index)))
    }

    /// Takes the gathering batch.
    fn take(&mut self, segment_bytes: u64) -> Batch {
        let batch = Batch {
            segment: self.segment,
            offset: self.end_bytes,
            records: std::mem::take(&mut self.gathering),
            told: std::mem::take(&mut self.told),
            keep_from: self.keep_from(),
        };
        self.is_wanted = false;
        if !batch.records.is_empty() {
            self.end_bytes += BATCH_HEADER_BYTES + batch.records.len() as u64;
            self.turn_over(segment_bytes);
        }
        batch
    }

    /// The first file that is needed. As long as nothing was purged all are: a log that begins late is one with a purge.
    fn keep_from(&self) -> u64 {
        match (self.index.purged, self.index.first_segment()) {
            (None, _) => 0,
            (Some(_), first) => first.unwrap_or(self.segment).min(self.segment),
        }
    }

    /// Has the next batch begin a new file when this one is full.
    fn turn_over(&mut self, segment_bytes: u64) {
        if self.end_bytes >= segment_bytes {
            self.gather_head(self.end_bytes);
            self.segment += 1;
            self.end_bytes = FIRST_BATCH_BYTES;
        }
    }

    /// Has a new file's first batch begin with where the file before ends, and with all that the files before say of
    /// anything but entries, so that they can be dropped.
    fn gather_head(&mut self, before_end: u64) {
        put_follows(before_end, &mut self.gathering);
        let Index { vote, committed, purged, .. } = &self.index;
        vote.iter().for_each(|vote| put_vote(vote, &mut self.gathering));
        purged.iter().for_each(|upto| put_purge(*upto, &mut self.gathering));
        committed.iter().for_each(|upto| put_commit(*upto, &mut self.gathering));
    }
}

impl Drop for Writer {
    /// Nothing is written any more, also when the writer ended by a panic: nobody is left waiting for it.
    fn drop(&mut self) {
        let mut state = self.wal.lock();
        let stopped = (io::ErrorKind::BrokenPipe, "the writer has stopped".to_owned());
        let (kind, reason) = state.failed.get_or_insert(stopped).clone();
        let waiting = std::mem::take(&mut state.told);
        drop(state);
        for told in waiting {
            told(Err(io::Error::new(kind, reason.clone())));
        }
    }
}

impl Writer {
    /// Writes batches until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let mut state = self.wal.lock();
            while !state.is_wanted {
                state = self.wal.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let is_closing = state.is_closing;
            drop(state);
            self.flush();
            if is_closing {
                return;
            }
        }
    }

    /// Writes what has gathered, and tells who waits for it.
    pub(super) fn flush(&mut self) {
        let mut state = self.wal.lock();
        let batch = state.take(self.wal.sizes.segment_bytes);
        if state.failed.is_none() {
            drop(state);
            let outcome = self.write(&batch);
            state = self.wal.lock();
            state.failed = outcome.err().map(|error| (error.kind(), error.to_string()));
        }
        let failed = state.failed.clone();
        state.index.shrink(self.current.number);
        drop(state);
        for told in batch.told {
            told(match &failed {
                None => Ok(()),
                Some((kind, reason)) => Err(io::Error::new(*kind, reason.clone())),
            });
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        if batch.segment != self.current.number {
            let next = Segment::create(&*self.wal.disk, batch.segment, seed())?;
            let full = std::mem::replace(&mut self.current, next);
            self.wal.lock().closed.insert(full.number, full);
        }
        if !batch.records.is_empty() {
            self.current.write(&batch.records, batch.offset, self.wal.sizes.reserve_bytes)?;
        }
        self.drop_before(batch.keep_from)
    }

    fn drop_before(&self, keep_from: u64) -> io::Result<()> {
        let dropped = {
            let mut state = self.wal.lock();
            let kept = state.closed.split_off(&keep_from);
            std::mem::replace(&mut state.closed, kept)
        };
        if dropped.is_empty() {
            return Ok(());
        }
        for number in dropped.into_keys() {
            self.wal.disk.remove(&segment::name(number))?;
        }
        self.wal.disk.sync_directory()
    }
}

pub(super) fn damaged(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// For a new file.
fn seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
