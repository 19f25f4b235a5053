//! The Raft log and vote on disk: the `raft-log` write-ahead log behind openraft's storage trait.
//!
//! An append is acknowledged after its fsync, and never before. Appends that arrive while a sync runs share the next.

mod codec;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use raft_log::api::raft_log_writer::RaftLogWriter;
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::codec::{Flushed, LogTypes, StoredId, StoredPayload, StoredVote};
pub(crate) use self::codec::{payload_from_parts, payload_parts};
use crate::OpenError;
use crate::raft::{Entry, LogId, TypeConfig, Vote};

/// The log is dropped by whole files of this size. Entries of the newest file are also held in memory.
const CHUNK_BYTES_MAX: usize = 32 << 20;

/// Entries of older files held in memory, for members that lag a little.
const CACHE_BYTES_MAX: usize = 32 << 20;

/// Buffer to read a file with at start.
const READ_BUFFER_BYTES: usize = 1 << 20;

/// Entries in one message to another member. Far below the gRPC limit, large enough that the message's cost vanishes.
const READ_BYTES_MAX: usize = 2 << 20;

/// The writer takes what is already queued into its sync, and waits for nothing more.
const SYNC_GATHER: Duration = Duration::from_micros(1);

type RaftLog = raft_log::RaftLog<LogTypes>;

/// The log and vote of one member. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    log: Mutex<RaftLog>,
    /// Dropped after the log: when the tracker is empty, the directory is free again.
    _in_use: TaskTrackerToken,
}

impl LogStore {
    /// Opens the log in `dir`, which must exist. A last record that was cut by a crash is dropped: it was never
    /// acknowledged. Damage anywhere else is an error.
    pub(crate) fn open(dir: &Path, in_use: TaskTrackerToken) -> Result<Self, OpenError> {
        let mut config = raft_log::Config::new(dir.display());
        config.wal.chunk_max_size = Some(CHUNK_BYTES_MAX);
        config.wal.read_buffer_size = Some(READ_BUFFER_BYTES);
        config.wal.flush_batch_wait = Some(SYNC_GATHER);
        config.log_cache_capacity = Some(CACHE_BYTES_MAX);
        let log = RaftLog::open(Arc::new(config))
            .map_err(|source| OpenError::Log { path: dir.to_owned(), source })?;
        let shared = Shared { dir: dir.to_owned(), log: Mutex::new(log), _in_use: in_use };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A panic while the lock was held leaves a log that was written up to a record's end; reading on is safe.
    fn lock(&self) -> MutexGuard<'_, RaftLog> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which file an error is about.
    fn place(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("raft log {}: {error}", self.shared.dir.display()))
    }

    /// Entries from `start` to before `end`, ending early only at `bytes_max` or the end of the log. Never with a gap.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let log = self.lock();
        let state = log.log_state();
        let end = end.min(next_index(state.last()));
        let mut next = start.max(next_index(state.purged()));
        if next >= end {
            return Ok(Vec::new());
        }
        if state.purged().is_none() {
            // A log that nothing was dropped from may begin anywhere.
            next =
                next.max(log.read(next, end).next().transpose()?.map_or(end, |(id, _)| id.index));
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for record in log.read(next, end) {
            let (id, payload) = record.map_err(|error| self.place(&error))?;
            if id.index != next {
                return Err(self.gap(next));
            }
            next += 1;
            bytes += payload.size_bytes();
            entries.push(Entry::new(LogId::from(id), payload.0));
            if bytes >= bytes_max {
                return Ok(entries);
            }
        }
        if next < end {
            return Err(self.gap(next));
        }
        Ok(entries)
    }

    fn gap(&self, index: u64) -> io::Error {
        let reason = format!("raft log {}: entry {index} is missing", self.shared.dir.display());
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }
}

fn next_index(id: Option<&StoredId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().log_state().vote().map(|vote| vote.0))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.lock();
        let state = log.log_state();
        Ok(LogState {
            last_purged_log_id: state.purged().copied().map(LogId::from),
            last_log_id: state.last().copied().map(LogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, flushed) = oneshot::channel();
        {
            let mut log = self.lock();
            log.save_vote(StoredVote(*vote)).map_err(|error| self.place(&error))?;
            log.flush(true, Some(Flushed::Vote(done))).map_err(|error| self.place(&error))?;
        }
        let lost = |_| io::Error::other("the writer of the raft log has stopped");
        flushed.await.map_err(lost)?.map_err(|error| self.place(&error))
    }

    /// Not flushed: it goes out with the next append. It only saves a restarted member from waiting for the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed.map(StoredId::from) else { return Ok(()) };
        let mut log = self.lock();
        let state = log.log_state();
        if Some(&committed) <= state.last() && Some(&committed) > state.committed() {
            log.commit(committed).map_err(|error| self.place(&error))?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().log_state().committed().copied().map(LogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries
            .into_iter()
            .map(|entry| (StoredId::from(entry.log_id), StoredPayload(entry.payload)));
        let mut log = self.lock();
        log.append(records).map_err(|error| self.place(&error))?;
        log.flush(true, Some(Flushed::Append(callback))).map_err(|error| self.place(&error))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let mut log = self.lock();
        let end = last.map_or(0, |last| last.index + 1);
        if end >= next_index(log.log_state().last()) {
            return Ok(());
        }
        log.truncate(end).map_err(|error| self.place(&error))?;
        log.flush(true, None).map_err(|error| self.place(&error))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = self.lock();
        log.purge(StoredId::from(upto)).map_err(|error| self.place(&error))?;
        log.flush(true, None).map_err(|error| self.place(&error))
    }
}
