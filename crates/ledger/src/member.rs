//! Who takes part in the Raft group.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Raft voter or learner. Never called a node: in this system a node is a machine.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a member listens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberAddress {
    /// `host:port` of its gRPC listener.
    pub address: String,
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl From<u64> for MemberId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}
