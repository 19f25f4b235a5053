//! Facts: what is stored, watched and published, and the hash chain that makes their history tamper-evident.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::allocation::{AllocationOutcome, AllocationSpec};
use crate::conductor::Registration;
use crate::ids::{
    AllocationId, ClusterId, CommandId, ConductorId, Incarnation, NodeId, NodeName, PortId,
    RestorationId, TemplateId,
};
use crate::node::{
    Deployment, Inventory, NodeSpec, Plan, PowerState, PowerTarget, ProvisionState, StepResult,
    Trigger,
};
use crate::port::PortSpec;
use crate::template::TemplateSpec;
use crate::{Invalid, Timestamp};

/// Place of an event in the cluster's history: gapless, from 1. 0 is before the first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an event is about. Each subject counts its own events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The cluster itself.
    Cluster,
    /// A machine.
    Node(NodeId),
    /// A network interface.
    Port(PortId),
    /// A conductor.
    Conductor(ConductorId),
    /// An allocation.
    Allocation(AllocationId),
    /// A deploy template or a runbook.
    Template(TemplateId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Node(id) => write!(f, "node/{id}"),
            Self::Port(id) => write!(f, "port/{id}"),
            Self::Conductor(id) => write!(f, "conductor/{id}"),
            Self::Allocation(id) => write!(f, "allocation/{id}"),
            Self::Template(id) => write!(f, "template/{id}"),
        }
    }
}

impl FromStr for Subject {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once('/') {
            None if text == "cluster" => Ok(Self::Cluster),
            Some(("node", id)) => Ok(Self::Node(id.parse()?)),
            Some(("port", id)) => Ok(Self::Port(id.parse()?)),
            Some(("allocation", id)) => Ok(Self::Allocation(id.parse()?)),
            Some(("template", id)) => Ok(Self::Template(id.parse()?)),
            Some(("conductor", id)) => Ok(Self::Conductor(ConductorId::try_new(id)?)),
            Some(_) | None => Err(Invalid::new("subject", text, "is not of the form KIND/ID")),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 over the hash of the event before and the record's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct EventHash(pub [u8; 32]);

impl EventHash {
    /// The hash of an event whose encoded record is `record` and that follows an event with this hash.
    #[must_use]
    pub fn chain(&self, record: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(record);
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash).map_err(serde::de::Error::custom)?;
        Ok(Self(hash))
    }
}

/// A fact with everything that says where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its place in the cluster's history.
    pub revision: Revision,
    /// What it is about.
    pub subject: Subject,
    /// Its place in the subject's history: gapless, from 1. The subject's version from then on.
    pub sequence: u64,
    /// When the command that caused it was taken.
    pub at: Timestamp,
    /// Who sent that command.
    pub actor: String,
    /// That command.
    pub command_id: CommandId,
    /// What happened.
    pub event: Event,
}

impl EventRecord {
    /// The bytes that are stored, hashed and published: one JSON object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("records hold only strings, numbers and string-keyed maps")
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// When they are not a record this version knows: a newer version wrote them, or the disk is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// A record, its bytes and its place in the hash chain.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedEvent {
    /// The fact.
    pub record: EventRecord,
    /// Its encoding; what `hash` covers.
    pub bytes: Vec<u8>,
    /// Chained over the event before.
    pub hash: EventHash,
}

/// What happened. Names are stored for ever: never rename or reuse one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// The first event of a cluster.
    #[serde(rename = "cluster.initialised")]
    ClusterInitialised {
        /// Its identity.
        cluster_id: ClusterId,
    },
    /// The cluster was restored from a backup: what came after it is lost.
    #[serde(rename = "cluster.restored")]
    ClusterRestored {
        /// Identity of the restoration.
        restoration: RestorationId,
        /// The newest event of the backup.
        from_revision: Revision,
    },
    /// A machine was enrolled.
    #[serde(rename = "node.created")]
    NodeCreated {
        /// Its name, if it has one.
        name: Option<NodeName>,
        /// As the caller gave it.
        spec: Box<NodeSpec>,
    },
    /// The caller's part of a node changed.
    #[serde(rename = "node.updated")]
    NodeUpdated {
        /// The name from now on.
        name: Option<NodeName>,
        /// The spec from now on.
        spec: Box<NodeSpec>,
    },
    /// The machine is no longer managed.
    #[serde(rename = "node.deleted")]
    NodeDeleted {},
    /// A conductor drives the node from now on; older epochs are refused.
    #[serde(rename = "node.claimed")]
    NodeClaimed {
        /// Who.
        conductor: ConductorId,
        /// Which life of it.
        incarnation: Incarnation,
        /// The fencing token.
        epoch: u64,
    },
    /// The conductor that drove the node has let go of it: another one may claim it.
    #[serde(rename = "node.released")]
    NodeReleased {
        /// The fencing token: what was sent under the claim's own is refused from now on.
        epoch: u64,
    },
    /// The node moved along the table of provision states.
    #[serde(rename = "node.provision_state_changed")]
    ProvisionStateChanged {
        /// The state it left.
        from: ProvisionState,
        /// The state it entered.
        to: ProvisionState,
        /// The row of the table.
        trigger: Trigger,
        /// Where it is heading, if anywhere.
        target: Option<ProvisionState>,
    },
    /// Conductors leave the node alone from now on.
    #[serde(rename = "node.maintenance_set")]
    MaintenanceSet {
        /// Why.
        reason: String,
    },
    /// Conductors drive the node again.
    #[serde(rename = "node.maintenance_cleared")]
    MaintenanceCleared {},
    /// Power is to be changed.
    #[serde(rename = "node.power_requested")]
    PowerRequested {
        /// To what.
        target: PowerTarget,
        /// When it is given up.
        until: Timestamp,
    },
    /// Power was seen to be in a state.
    #[serde(rename = "node.power_changed")]
    PowerChanged {
        /// Which.
        state: PowerState,
    },
    /// Power could not be changed.
    #[serde(rename = "node.power_failed")]
    PowerFailed {
        /// What the hardware said.
        message: String,
    },
    /// A deployment was accepted.
    #[serde(rename = "node.deployment_requested")]
    DeploymentRequested {
        /// The request, as it stays.
        deployment: Box<Deployment>,
    },
    /// A rescue was accepted.
    #[serde(rename = "node.rescue_requested")]
    RescueRequested {
        /// Of user `rescue`, as crypt(3) has it.
        password_hash: String,
    },
    /// The node holds no deployment any more.
    #[serde(rename = "node.deployment_cleared")]
    DeploymentCleared {},
    /// A plan of steps was recorded.
    #[serde(rename = "node.plan_started")]
    PlanStarted {
        /// The plan.
        plan: Box<Plan>,
    },
    /// The plan was stopped by a verb.
    #[serde(rename = "node.plan_aborted")]
    PlanAborted {
        /// What was said about it.
        message: String,
    },
    /// A conductor began a step, or took it over.
    #[serde(rename = "node.step_started")]
    StepStarted {
        /// Place in the plan.
        index: usize,
        /// Full name, `interface.step`.
        step: String,
        /// 1 the first time.
        attempt: u32,
        /// When it is given up.
        until: Timestamp,
    },
    /// A step ended well.
    #[serde(rename = "node.step_completed")]
    StepCompleted {
        /// Place in the plan.
        index: usize,
        /// Full name, `interface.step`.
        step: String,
        /// What it found out or did.
        result: Box<StepResult>,
    },
    /// A step ended the plan.
    #[serde(rename = "node.step_failed")]
    StepFailed {
        /// Place in the plan.
        index: usize,
        /// Full name, `interface.step`.
        step: String,
        /// Stable reason, such as `IMAGE_CHECKSUM_MISMATCH`.
        reason: String,
        /// For a person.
        message: String,
    },
    /// An agent looked the node up and holds its token.
    #[serde(rename = "node.agent_bound")]
    AgentBound {
        /// SHA-256 of the token, hexadecimal.
        token_digest: String,
    },
    /// The machine is about to be booted anew; the agent before it is no longer trusted.
    #[serde(rename = "node.agent_reset")]
    AgentReset {},
    /// What the machine is made of.
    #[serde(rename = "node.inventory_recorded")]
    InventoryRecorded {
        /// As the agent reported it.
        inventory: Box<Inventory>,
    },
    /// A network interface was added.
    #[serde(rename = "port.created")]
    PortCreated {
        /// As the caller gave it.
        spec: Box<PortSpec>,
    },
    /// A network interface was removed.
    #[serde(rename = "port.deleted")]
    PortDeleted {},
    /// An allocation was asked for, and decided.
    #[serde(rename = "allocation.created")]
    AllocationCreated {
        /// As the caller gave it.
        spec: Box<AllocationSpec>,
        /// What came of it.
        outcome: AllocationOutcome,
    },
    /// An allocation is no more.
    #[serde(rename = "allocation.deleted")]
    AllocationDeleted {},
    /// A deploy template or a runbook was made.
    #[serde(rename = "template.created")]
    TemplateCreated {
        /// As the caller gave it.
        spec: Box<TemplateSpec>,
    },
    /// A deploy template or a runbook changed.
    #[serde(rename = "template.updated")]
    TemplateUpdated {
        /// The spec from now on.
        spec: Box<TemplateSpec>,
    },
    /// A deploy template or a runbook is no more.
    #[serde(rename = "template.deleted")]
    TemplateDeleted {},
    /// The node is an allocation's.
    #[serde(rename = "node.allocated")]
    NodeAllocated {
        /// Whose.
        allocation: AllocationId,
    },
    /// The node is no allocation's any more.
    #[serde(rename = "node.returned")]
    NodeReturned {},
    /// A conductor started.
    #[serde(rename = "conductor.registered")]
    ConductorRegistered {
        /// What it said of itself.
        registration: Box<Registration>,
    },
    /// A conductor's lease ran out.
    #[serde(rename = "conductor.lost")]
    ConductorLost {},
    /// A conductor stopped on purpose.
    #[serde(rename = "conductor.unregistered")]
    ConductorUnregistered {},
    /// A conductor hands its nodes over and gets no others.
    #[serde(rename = "conductor.drain_started")]
    ConductorDrainStarted {},
    /// A conductor gets nodes again.
    #[serde(rename = "conductor.drain_ended")]
    ConductorDrainEnded {},
}

impl Event {
    /// The stored name of the kind of event.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClusterInitialised { .. } => "cluster.initialised",
            Self::ClusterRestored { .. } => "cluster.restored",
            Self::NodeCreated { .. } => "node.created",
            Self::NodeUpdated { .. } => "node.updated",
            Self::NodeDeleted {} => "node.deleted",
            Self::NodeClaimed { .. } => "node.claimed",
            Self::NodeReleased { .. } => "node.released",
            Self::ProvisionStateChanged { .. } => "node.provision_state_changed",
            Self::MaintenanceSet { .. } => "node.maintenance_set",
            Self::MaintenanceCleared {} => "node.maintenance_cleared",
            Self::PowerRequested { .. } => "node.power_requested",
            Self::PowerChanged { .. } => "node.power_changed",
            Self::PowerFailed { .. } => "node.power_failed",
            Self::DeploymentRequested { .. } => "node.deployment_requested",
            Self::RescueRequested { .. } => "node.rescue_requested",
            Self::DeploymentCleared {} => "node.deployment_cleared",
            Self::PlanStarted { .. } => "node.plan_started",
            Self::PlanAborted { .. } => "node.plan_aborted",
            Self::StepStarted { .. } => "node.step_started",
            Self::StepCompleted { .. } => "node.step_completed",
            Self::StepFailed { .. } => "node.step_failed",
            Self::AgentBound { .. } => "node.agent_bound",
            Self::AgentReset {} => "node.agent_reset",
            Self::InventoryRecorded { .. } => "node.inventory_recorded",
            Self::PortCreated { .. } => "port.created",
            Self::PortDeleted {} => "port.deleted",
            Self::AllocationCreated { .. } => "allocation.created",
            Self::AllocationDeleted {} => "allocation.deleted",
            Self::TemplateCreated { .. } => "template.created",
            Self::TemplateUpdated { .. } => "template.updated",
            Self::TemplateDeleted {} => "template.deleted",
            Self::NodeAllocated { .. } => "node.allocated",
            Self::NodeReturned {} => "node.returned",
            Self::ConductorRegistered { .. } => "conductor.registered",
            Self::ConductorLost {} => "conductor.lost",
            Self::ConductorUnregistered {} => "conductor.unregistered",
            Self::ConductorDrainStarted {} => "conductor.drain_started",
            Self::ConductorDrainEnded {} => "conductor.drain_ended",
        }
    }
}
