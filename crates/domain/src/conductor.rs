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
}
