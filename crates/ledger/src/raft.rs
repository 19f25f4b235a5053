//! The types that openraft is parametrised with, in one place.

use openraft::impls::leader_id_std;

use crate::entry::{Applied, Batch};
use crate::machine::StateMachine;
use crate::{MemberAddress, MemberId};

openraft::declare_raft_types!(
    /// What the log holds, and who takes part. At most one leader a term, as in the Raft paper.
    pub(crate) TypeConfig:
        D = Batch,
        R = Applied,
        NodeId = MemberId,
        Node = MemberAddress,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type EntryPayload = openraft::alias::PayloadOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<TypeConfig>;
