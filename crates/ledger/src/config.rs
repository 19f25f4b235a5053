//! What a member is told when it opens its ledger.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bessemer_runtime::tls::Transport;

use crate::{MemberId, OpenError};

/// Entries in one message to a peer; the bound on their bytes is reached first.
const ENTRIES_IN_MESSAGE_MAX: u64 = 1024;

/// A peer that cannot be reached is tried again after these times.
const BACKOFF: &str = "50ms 100ms ...1s";

/// The log before a snapshot is dropped in steps of so many entries.
const PURGE_ENTRIES: u64 = 1024;

/// How a member takes part. [`Config::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// This member.
    pub member_id: MemberId,
    /// Where its log, events and snapshots are. Created if absent; one process may use it at a time.
    pub data_dir: PathBuf,
    /// Members and their gRPC addresses (`host:port`), this one among them. A member without data asks them whether there
    /// is a cluster; if all of them are new, they are the first voters of one. Afterwards the log says who is a member.
    pub members: BTreeMap<MemberId, String>,
    /// How often a leader says that it is there.
    pub heartbeat_interval: Duration,
    /// How long a member without a word from a leader waits before it stands for election: drawn at random from this
    /// range. A leader's lease lasts as long as the range's end.
    pub election_timeout: Range<Duration>,
    /// A snapshot is taken, and the log before it dropped, after so many log entries.
    pub snapshot_every_entries: u64,
    /// Entries kept behind a snapshot, so that a member that was away briefly needs no snapshot.
    pub keep_entries: u64,
    /// How long commands are retried over changes of leader before the caller is told.
    pub propose_timeout: Duration,
    /// How long a linearizable read waits for a leader to confirm it.
    pub read_timeout: Duration,
    /// Memory that the event store may use for its cache.
    pub cache_bytes: u64,
    /// How other members are spoken to. In the clear unless set.
    pub transport: Transport,
}

impl Config {
    /// The defaults: a lost leader is replaced within 1.5 s, and a stall of 400 ms costs no leader its place.
    #[must_use]
    pub fn new(
        member_id: MemberId,
        data_dir: impl Into<PathBuf>,
        members: BTreeMap<MemberId, String>,
    ) -> Self {
        Self {
            member_id,
            data_dir: data_dir.into(),
            members,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(350)..Duration::from_millis(650),
            snapshot_every_entries: 20_000,
            keep_entries: 2_000,
            propose_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(5),
            cache_bytes: 64 << 20,
            transport: Transport::plain(),
        }
    }

    /// Whether the parts fit together.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |reason: String| Err(OpenError::Config { reason });
        if !self.members.contains_key(&self.member_id) {
            return refuse(format!("member {} is not among `members`", self.member_id));
        }
        if self.election_timeout.start <= self.heartbeat_interval * 2 {
            return refuse(format!(
                "election_timeout starts at {:?}, which must be more than twice heartbeat_interval {:?}",
                self.election_timeout.start, self.heartbeat_interval
            ));
        }
        if self.election_timeout.is_empty() {
            return refuse(format!("election_timeout {:?} is empty", self.election_timeout));
        }
        if self.snapshot_every_entries == 0 {
            return refuse("snapshot_every_entries is 0".to_owned());
        }
        Ok(())
    }

    /// The same in openraft's words.
    pub(crate) fn raft(&self) -> Result<Arc<openraft::Config>, OpenError> {
        let milliseconds =
            |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let lease = milliseconds(self.election_timeout.end);
        let config = openraft::Config {
            cluster_name: "bessemer".to_owned(),
            heartbeat_interval: milliseconds(self.heartbeat_interval),
            election_timeout_min: milliseconds(self.election_timeout.start),
            election_timeout_max: lease,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_every_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            replication_lag_threshold: self.keep_entries.max(self.snapshot_every_entries),
            purge_batch_size: PURGE_ENTRIES,
            max_payload_entries: ENTRIES_IN_MESSAGE_MAX,
            backoff: BACKOFF.to_owned(),
            // A member that was cut off does not disturb the others when it comes back, and a leader that is cut off
            // lets them go.
            enable_pre_vote: Some(true),
            quorum_loss_probe_interval: Some(lease * 2),
            // A restarted leader asks for votes like everybody else.
            enable_leader_restore: Some(false),
            // A learner may come back with an empty disk. A voter may not: it is not admitted then.
            allow_log_reversion: Some(true),
            ..openraft::Config::default()
        };
        let config =
            config.validate().map_err(|error| OpenError::Config { reason: error.to_string() })?;
        Ok(Arc::new(config))
    }
}
