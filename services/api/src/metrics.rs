//! What this member tells monitoring. The list for operators is `docs/metrics.md`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bessemer_domain::node::ProvisionState;
use bessemer_domain::{State, effects};
use bessemer_ledger::Status;
use bessemer_runtime::monitor::Monitor;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::api::{Api, now};
use crate::{health, wait};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It happened.
    Accepted,
    /// It was refused.
    Rejected,
    /// It is not known: it could not be committed in time.
    Failed,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// What is counted as commands pass.
#[derive(Debug, Clone)]
pub(crate) struct CommandMetrics {
    commands: Family<Labels<2>, Counter>,
    pub(crate) commit_seconds: Histogram,
}

impl Default for CommandMetrics {
    fn default() -> Self {
        // From a flush of a fast disk to an election.
        let commit_seconds = Histogram::new(exponential_buckets(0.000_5, 2.0, 15));
        Self { commands: Family::default(), commit_seconds }
    }
}

impl CommandMetrics {
    pub(crate) fn note(&self, kind: &'static str, fate: Fate) {
        self.commands.get_or_create(&[("kind", kind), ("outcome", fate.name())]).inc();
    }
}

/// What is looked up when it is asked for.
#[derive(Debug, Default)]
struct Looked {
    revision: Gauge<u64, AtomicU64>,
    term: Gauge<u64, AtomicU64>,
    is_leader: Gauge,
    has_leader: Gauge,
    log_index: Gauge<u64, AtomicU64>,
    applied_index: Gauge<u64, AtomicU64>,
    snapshot_index: Gauge<u64, AtomicU64>,
    member_lag: Family<[(&'static str, String); 1], Gauge<u64, AtomicU64>>,
    nodes: Family<Labels<1>, Gauge>,
    maintenance: Gauge,
    waiting: Gauge,
    late: Gauge,
    unowned: Gauge,
    conductors: Family<Labels<1>, Gauge>,
}

/// The member's metrics, and whether it is ready.
pub(crate) fn monitor(api: &Arc<Api>, commands: &CommandMetrics) -> Monitor {
    let mut registry = Registry::with_prefix("bessemer_api");
    let looked = Looked::default();
    let r = &mut registry;
    let CommandMetrics { commands, commit_seconds } = commands.clone();
    r.register("commands", "Commands that this member put to the ledger", commands);
    r.register("commit_seconds", "From a proposal until it was applied here", commit_seconds);
    looked.register(r);
    api.guard.refused().register(r);
    let (asked, told) = (Arc::clone(api), Arc::clone(api));
    Monitor {
        registry,
        refresh: Box::new(move || {
            looked.status(&asked.ledger.status());
            looked.state(&asked.ledger.state());
        }),
        ready: Box::new(move || health::of_use(&told.ledger.status())),
    }
}

impl Looked {
    fn register(&self, r: &mut Registry) {
        r.register("revision", "Newest event applied here", self.revision.clone());
        r.register("raft_term", "Raft term", self.term.clone());
        r.register("raft_is_leader", "1 if this member leads", self.is_leader.clone());
        r.register("raft_has_leader", "1 if this member knows a leader", self.has_leader.clone());
        r.register("raft_log_index", "Newest log entry held here", self.log_index.clone());
        r.register(
            "raft_applied_index",
            "Newest log entry applied here",
            self.applied_index.clone(),
        );
        r.register(
            "raft_snapshot_index",
            "Newest log entry in the snapshot",
            self.snapshot_index.clone(),
        );
        r.register(
            "raft_member_lag",
            "Log entries that a member lacks; told by the leader",
            self.member_lag.clone(),
        );
        r.register("nodes", "Nodes in each provision state", self.nodes.clone());
        r.register("nodes_in_maintenance", "Nodes in maintenance", self.maintenance.clone());
        r.register("nodes_waiting", "Nodes that wait for something", self.waiting.clone());
        r.register(
            "nodes_waiting_late",
            "Those past half of the time that their wait may take",
            self.late.clone(),
        );
        r.register(
            "nodes_without_conductor",
            "Nodes that no online conductor can drive",
            self.unowned.clone(),
        );
        r.register(
            "conductors",
            "Conductors that ever registered, by how they stand",
            self.conductors.clone(),
        );
    }

    fn status(&self, status: &Status) {
        self.term.set(status.term);
        self.is_leader.set(i64::from(status.leader == Some(status.member_id)));
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.log_index.set(status.last_log_index.unwrap_or_default());
        self.applied_index.set(status.applied_index.unwrap_or_default());
        self.snapshot_index.set(status.snapshot_index.unwrap_or_default());
        // A member that is gone, or no longer known about, is not told about.
        self.member_lag.clear();
        for member in &status.members {
            if let Some(lag) = member.lag {
                self.member_lag.get_or_create(&[("member", member.id.to_string())]).set(lag);
            }
        }
    }

    fn state(&self, state: &State) {
        self.revision.set(state.tip().revision.0);
        let now = now();
        let mut states = vec![0; ProvisionState::ALL.len()];
        let (mut maintenance, mut waiting, mut late, mut unowned) = (0, 0, 0, 0);
        for node in state.nodes() {
            let place = ProvisionState::ALL.iter().position(|it| *it == node.provision.state);
            if let Some(count) = place.and_then(|place| states.get_mut(place)) {
                *count += 1;
            }
            maintenance += i64::from(node.maintenance.is_some());
            unowned += i64::from(state.owner(node).is_none());
            if let Some(wait) = effects::waiting_on(state, node) {
                waiting += 1;
                late += i64::from(wait::is_late(&wait, now));
            }
        }
        for (provision_state, count) in ProvisionState::ALL.iter().zip(states) {
            let labels = [("provision_state", provision_state.as_str())];
            self.nodes.get_or_create(&labels).set(count);
        }
        self.maintenance.set(maintenance);
        self.waiting.set(waiting);
        self.late.set(late);
        self.unowned.set(unowned);
        for standing in ["online", "draining", "offline"] {
            let count = state.conductors().filter(|conductor| {
                let stands = match (conductor.online, conductor.draining) {
                    (true, false) => "online",
                    (true, true) => "draining",
                    (false, _) => "offline",
                };
                stands == standing
            });
            let count = i64::try_from(count.count()).unwrap_or(i64::MAX);
            self.conductors.get_or_create(&[("state", standing)]).set(count);
        }
    }
}
