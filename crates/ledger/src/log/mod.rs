//! The Raft log and vote on disk: a write-ahead log behind openraft's storage trait.
//!
//! An append is acknowledged after its sync, and never before. Appends that arrive while a sync runs share the next.

mod disk;
mod index;
mod load;
#[cfg(test)]
mod power;
mod record;
mod segment;
mod wal;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::disk::RealDisk;
pub(crate) use self::record::{payload_from_parts, payload_parts};
use self::wal::{Sizes, Wal};
use crate::OpenError;
use crate::raft::{Entry, LogId, TypeConfig, Vote};

const SIZES: Sizes =
    Sizes { segment_bytes: 32 << 20, reserve_bytes: 1 << 20, cache_bytes: 64 << 20 };

/// Entries in one message to another member. Far below the gRPC limit, large enough that the message's cost vanishes.
const READ_BYTES_MAX: usize = 2 << 20;

/// The log and vote of one member. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: Arc<Path>,
    wal: Arc<Wal>,
    writer: Option<JoinHandle<()>>,
    /// Dropped after the log: when the tracker is empty, the directory is free again.
    _in_use: TaskTrackerToken,
}

impl LogStore {
    /// Opens the log in `dir`, which must exist. A last batch that was cut by a crash is dropped: it was never
    /// acknowledged. Damage anywhere else is an error.
    pub(crate) fn open(dir: &Path, in_use: TaskTrackerToken) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Log { path: dir.to_owned(), source };
        let disk = Box::new(RealDisk(dir.to_owned()));
        let (wal, writer) = Wal::open(disk, SIZES).map_err(failed)?;
        let writer = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        let writer = Some(writer);
        let shared = Shared { dir: dir.into(), wal, writer, _in_use: in_use };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn placed<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        placed(&self.shared.dir, outcome)
    }
}

/// Says which log an error is about.
fn placed<T>(dir: &Path, outcome: io::Result<T>) -> io::Result<T> {
    outcome.map_err(|error| {
        io::Error::new(error.kind(), format!("raft log in {}: {error}", dir.display()))
    })
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wal.close();
        if let Some(writer) = self.writer.take() {
            // What made it panic was told then.
            writer.join().ok();
        }
    }
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
        self.placed(self.shared.wal.read(start, end, usize::MAX))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.placed(self.shared.wal.read(start, end, READ_BYTES_MAX))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.wal.look(|index| index.vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(self
            .shared
            .wal
            .look(|index| LogState { last_purged_log_id: index.purged, last_log_id: index.last() }))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, flushed) = oneshot::channel();
        // Nobody waits any more only when the member stops.
        let told = Box::new(|outcome| drop(done.send(outcome)));
        self.placed(self.shared.wal.vote(*vote, told))?;
        let lost = |_| io::Error::other("the writer of the raft log has stopped");
        self.placed(flushed.await.map_err(lost)?)
    }

    /// Not flushed: it goes out with the next append. It only saves a restarted member from waiting for the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(upto) => self.placed(self.shared.wal.commit(upto)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.wal.look(|index| index.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // Not the log itself, which would have to outlive its own writer.
        let dir = Arc::clone(&self.shared.dir);
        let told = Box::new(move |outcome| callback.io_completed(placed(&dir, outcome)));
        self.placed(self.shared.wal.append(entries.into_iter(), told))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.placed(self.shared.wal.truncate(last.map_or(0, |last| last.index + 1)))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.placed(self.shared.wal.purge(upto))
    }
}
