//! Allocations: a machine for somebody who says what it has to have, and not which it is. Ironic's resource.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, NodeId, NodeName};
use crate::node::{JsonMap, Trait};
use crate::{Invalid, Timestamp};

/// Most candidates in one request.
pub const CANDIDATE_NODES_MAX: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationSpec {
    /// Unique among allocations. A node of that name comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// The node's must be the same.
    pub resource_class: String,
    /// The node must have them all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<Trait>,
    /// One of these, in this order; any when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidate_nodes: Vec<NodeId>,
    /// The project that it is for. A node that has an owner must have this one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Free for the caller.
    #[serde(skip_serializing_if = "JsonMap::is_empty")]
    pub extra: JsonMap,
}

/// An allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Its identity.
    pub id: AllocationId,
    /// Count of its events.
    pub version: u64,
    /// What was asked for.
    pub spec: AllocationSpec,
    /// What came of it.
    pub outcome: AllocationOutcome,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What came of an allocation: known at once, for it is decided with the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "data", rename_all = "snake_case")]
pub enum AllocationOutcome {
    /// It has this node.
    Active(NodeId),
    /// There was none.
    Error(String),
}

impl AllocationOutcome {
    /// Ironic's name of the state.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active(_) => "active",
            Self::Error(_) => "error",
        }
    }

    /// The node that it has, if it has one.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Active(node) => Some(*node),
            Self::Error(_) => None,
        }
    }
}

impl AllocationSpec {
    /// Checks what needs no state. `is_backfill` when the node is named.
    ///
    /// # Errors
    /// [`Invalid`] with the field's path from `spec`.
    pub fn check(&self, is_backfill: bool) -> Result<(), Invalid> {
        if self.resource_class.is_empty() && !is_backfill {
            let reason = "is required: the resource class that the node must have";
            return Err(Invalid::new("spec.resource_class", "", reason));
        }
        let count = self.candidate_nodes.len();
        if count > CANDIDATE_NODES_MAX {
            let reason = format!("are more than {CANDIDATE_NODES_MAX}");
            return Err(Invalid::new("spec.candidate_nodes", &count.to_string(), reason));
        }
        if is_backfill && count > 0 {
            let reason = "are given, but the node is named";
            return Err(Invalid::new("spec.candidate_nodes", &count.to_string(), reason));
        }
        Ok(())
    }
}
