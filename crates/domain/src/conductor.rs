//! Conductors as the cluster knows them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{ConductorId, Incarnation};

/// What a conductor says of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Which life of it.
    pub incarnation: Incarnation,
    /// It drives nodes of this group only; empty for the default group.
    pub conductor_group: String,
    /// The hardware types it has.
    pub hardware_types: BTreeSet<String>,
    /// gRPC address at which agents open their session.
    pub address: String,
}

/// A conductor that has registered once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conductor {
    /// Its name.
    pub id: ConductorId,
    /// Count of its events.
    pub version: u64,
    /// What it said last.
    pub registration: Registration,
    /// Whether it holds a lease: only then is it on the ring.
    pub online: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Whether it hands its nodes over and gets no others, until an operator ends that: restarts do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

impl Conductor {
    /// Whether it may be given nodes.
    #[must_use]
    pub const fn takes_nodes(&self) -> bool {
        self.online && !self.draining
    }

    /// Whether it has the hardware type in that conductor group.
    #[must_use]
    pub fn drives(&self, group: &str, hardware_type: &str) -> bool {
        self.registration.conductor_group == group
            && self.registration.hardware_types.contains(hardware_type)
    }
}
