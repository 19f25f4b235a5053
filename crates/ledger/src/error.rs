//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use bessemer_domain::Revision;

/// The ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error("ledger configuration: {reason}")]
    Config {
        /// What to change.
        reason: String,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The Raft log cannot be read.
    #[error("cannot open the raft log in {}", path.display())]
    Log {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The stored events or the snapshot cannot be read.
    #[error("cannot open the event store")]
    Store(#[from] StoreError),
    /// Raft did not start.
    #[error("raft did not start: {reason}")]
    Raft {
        /// What it said.
        reason: String,
    },
}

/// Stored events or snapshots are damaged, or the disk failed. The member must stop.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk or the store below refused.
    #[error("{action} in {}: {reason}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the layer below said.
        reason: String,
    },
    /// A stored record is not what was written.
    #[error("{} is corrupt at {record}: {reason}; restore this member from another one", path.display())]
    Corrupt {
        /// Where.
        path: PathBuf,
        /// Which record.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Commands were not accepted into the log, or it is not known whether they were.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// No leader was found in time. Nothing is known to have happened; a repeat with the same ids is safe.
    #[error(
        "no leader of the cluster was found within {waited:?}; repeat with the same command ids"
    )]
    NoLeader {
        /// How long it was tried.
        waited: Duration,
    },
    /// The leader did not answer in time. The commands may yet happen; a repeat with the same ids is safe.
    #[error("the commands were not committed within {waited:?}; repeat with the same command ids")]
    TimedOut {
        /// How long it was tried.
        waited: Duration,
    },
    /// More commands at once than one log entry may hold.
    #[error(
        "{count} commands of {size_bytes} bytes are more than one proposal may hold ({count_max} commands, {size_bytes_max} bytes); split them"
    )]
    TooLarge {
        /// How many commands.
        count: usize,
        /// Their encoded size.
        size_bytes: usize,
        /// The bound on their count.
        count_max: usize,
        /// The bound on their size.
        size_bytes_max: usize,
    },
    /// This member has stopped, because of damage or because it was told to.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A linearizable read could not be confirmed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed the read in time.
    #[error("no leader confirmed the read within {waited:?}; repeat it, or accept a stale read")]
    NoLeader {
        /// How long it was tried.
        waited: Duration,
    },
    /// This member has stopped, because of damage or because it was told to.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A watch ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchError {
    /// Stored events cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This member has stopped; watch another one.
    #[error("the member has stopped; resume after revision {resume_after} at another one")]
    Stopped {
        /// The last revision that was delivered.
        resume_after: Revision,
    },
}

/// A snapshot was not taken, or not in time.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// It is still being written.
    #[error("the snapshot is not written after {waited:?}; it may still come, a repeat is safe")]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// This member has stopped.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}
