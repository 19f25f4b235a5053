//! What a member knows of itself and of the others.

use serde::{Deserialize, Serialize};

use crate::MemberId;
use crate::membership::{is_up, lag};
use crate::raft::RaftMetrics;
use crate::standing::Standing;

/// A member's own view of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The member that was asked.
    pub member_id: MemberId,
    /// The leader it follows.
    pub leader: Option<MemberId>,
    /// The Raft term.
    pub term: u64,
    /// The oldest log entry that it still holds.
    pub first_log_index: Option<u64>,
    /// Its newest log entry.
    pub last_log_index: Option<u64>,
    /// The newest log entry it has applied.
    pub applied_index: Option<u64>,
    /// The newest log entry that its snapshot covers.
    pub snapshot_index: Option<u64>,
    /// Everyone in the group, by id.
    pub members: Vec<MemberStatus>,
    /// What it waits for before it takes part, if it does not yet.
    pub waits_for: Option<String>,
    /// Why it has stopped, if it has.
    pub failure: Option<String>,
}

/// One member, as another sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    pub id: MemberId,
    /// Where it listens, `host:port`.
    pub address: String,
    /// Whether it votes; a learner does not.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// The newest log entry it is known to hold. Only the leader knows.
    pub matched_index: Option<u64>,
    /// Entries of the leader's log that it is not known to hold. Only the leader knows.
    pub lag: Option<u64>,
    /// Whether it answers the leader. Only the leader knows.
    pub up: Option<bool>,
}

impl Status {
    pub(crate) fn new(metrics: &RaftMetrics, standing: &Standing) -> Self {
        let failed = metrics.running_state.as_ref().err().map(ToString::to_string);
        let (waits_for, refused) = match standing {
            Standing::Waits(what) => (Some(what.clone()), None),
            Standing::Admitted => (None, None),
            Standing::Refused(reason) => (None, Some(reason.clone())),
        };
        Self {
            member_id: metrics.id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            first_log_index: metrics
                .last_log_index
                .map(|last| metrics.purged.map_or(0, |purged| purged.index + 1).min(last)),
            last_log_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|id| id.index),
            snapshot_index: metrics.snapshot.map(|id| id.index),
            members: known_members(metrics),
            waits_for,
            failure: refused.or(failed),
        }
    }
}

/// Everyone in the group, by id, as the member knows them whose metrics these are.
pub(crate) fn known_members(metrics: &RaftMetrics) -> Vec<MemberStatus> {
    let membership = metrics.membership_config.membership();
    let leads = metrics.current_leader == Some(metrics.id);
    membership
        .nodes()
        .map(|(id, member)| MemberStatus {
            id: *id,
            address: member.address.clone(),
            voter: membership.voter_ids().any(|voter| voter == *id),
            leader: metrics.current_leader == Some(*id),
            matched_index: matched_index(metrics, *id),
            lag: leads.then(|| lag(metrics, *id)).flatten(),
            up: leads.then(|| is_up(metrics, *id)),
        })
        .collect()
}

fn matched_index(metrics: &RaftMetrics, id: MemberId) -> Option<u64> {
    if id == metrics.id {
        return metrics.last_log_index;
    }
    let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?;
    Some(matched.index)
}
