//! The node aggregate: a machine, what was asked of it and where it stands.

mod boot_interface;
mod choice;
mod container;
mod deploy_interface;
mod deployment;
mod inventory;
mod kernel_arguments;
mod offered_step;
mod partitions;
mod plan;
mod power;
mod provision_state;
mod request;
mod requested_step;
mod spec;
mod step;
mod traits;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{AllocationId, ConductorId, Incarnation, NodeId, NodeName, PlanId};

pub use boot_interface::BootInterface;
pub use container::{
    AUTHORIZED_KEYS_BYTES_MAX, BootcOptions, INSTALL_LOG_BYTES_MAX, InstallReport, PinnedContainer,
};
pub use deploy_interface::DeployInterface;
pub use deployment::{
    CONFIG_DRIVE_BYTES_MAX, ConfigDrive, Deployment, DeploymentSpec, DiskFormat, HashAlgorithm,
    ImageChecksum, ImageDownloadSource, ImageInput, ImageSpec, ImageType, KernelAndRamdisk,
    ResolvedImage, WriteReport,
};
pub use inventory::{Disk, Inventory, NetworkInterface};
pub use kernel_arguments::KernelArguments;
pub use offered_step::{Argument, ArgumentType, NotOffered, OfferedStep, check_offered};
pub use partitions::{Ephemeral, EphemeralFormat, PartitionInput, PartitionLayout};
pub use plan::{ErasedDevice, Plan, PlanKind, PlannedStep, StepReport, StepResult, StepStatus};
pub(crate) use power::POWER_CHANGE_LIMIT;
pub use power::{Power, PowerRequest, PowerState, PowerTarget};
pub use provision_state::{ProvisionState, TRANSITIONS, Transition, Trigger, Verb};
pub(crate) use requested_step::check_template_steps;
pub use requested_step::{
    AGENT_PRIORITIES, REQUESTED_STEPS_MAX, RequestedStep, STEP_ARGS_BYTES_MAX, UniversalStep,
    check_clean_steps, check_service_steps,
};
pub use spec::{FieldChange, JsonMap, NodeSpec};
pub use step::Step;
pub use traits::{TRAITS_MAX, Trait};

/// A managed machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its identity.
    pub id: NodeId,
    /// Its name, if it has one.
    pub name: Option<NodeName>,
    /// Count of its events.
    pub version: u64,
    /// When it was enrolled.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The caller's part.
    pub spec: NodeSpec,
    /// Where it stands in the table of provision states.
    pub provision: Provision,
    /// Its power, as last seen and as asked for.
    pub power: Power,
    /// Why conductors leave it alone, if they do.
    pub maintenance: Option<Maintenance>,
    /// What went wrong last, until something goes right.
    pub last_error: Option<String>,
    /// Who drives it. Kept while nothing is to be done, so that the next work needs no new claim.
    pub claim: Option<Claim>,
    /// The deployment it holds or is getting.
    pub deployment: Option<Deployment>,
    /// The steps in progress, or the last ones.
    pub plan: Option<Plan>,
    /// The agent that runs on it since its last boot.
    pub agent: Option<AgentBinding>,
    /// What it is made of, once an agent has said.
    pub inventory: Option<Inventory>,
    /// Whose it is, while it is an allocation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AllocationId>,
    /// What is wrong with it that outlasts the work that met it; none once other work has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Of the rescue in progress, until the agent has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue_password_hash: Option<String>,
}

/// What is wrong with a machine. Names are Ironic's, and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Its power could not be changed.
    #[serde(rename = "power failure")]
    Power,
    /// It could not be cleaned.
    #[serde(rename = "clean failure")]
    Clean,
    /// A rescue that failed could not be ended.
    #[serde(rename = "rescue abort failure")]
    RescueAbort,
    /// It could not be serviced.
    #[serde(rename = "service failure")]
    Service,
}

impl Fault {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power failure",
            Self::Clean => "clean failure",
            Self::RescueAbort => "rescue abort failure",
            Self::Service => "service failure",
        }
    }
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision {
    /// The state.
    pub state: ProvisionState,
    /// Since when.
    pub since: Timestamp,
    /// Where it is heading, if anywhere.
    pub target: Option<ProvisionState>,
}

/// Why conductors leave a node alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// In the operator's words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// The right to drive a node. Whatever carries an older epoch is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    pub conductor: ConductorId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Grows with every claim of the node, and with every release.
    pub epoch: u64,
    /// Since when.
    pub at: Timestamp,
    /// Whether it was let go of.
    #[serde(default)]
    pub released: bool,
}

/// The agent that may speak for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBinding {
    /// SHA-256 of its token, hexadecimal.
    pub token_digest: String,
    /// When it looked up.
    pub at: Timestamp,
}

impl Claim {
    /// Whether this life of this conductor holds it.
    #[must_use]
    pub fn is_held_by(&self, conductor: &ConductorId, incarnation: Incarnation) -> bool {
        !self.released && self.conductor == *conductor && self.incarnation == incarnation
    }
}

impl Node {
    /// The name if there is one, else the id: how people are told which node is meant.
    #[must_use]
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.id.to_string(), ToString::to_string)
    }

    /// The step to be done or in progress, with its place in the plan. None when no plan is running.
    #[must_use]
    pub fn current_step(&self) -> Option<(&Plan, usize, &PlannedStep)> {
        if !self.provision.state.is_transient() {
            return None;
        }
        let plan = self.plan.as_ref()?;
        let (index, step) = plan.current()?;
        Some((plan, index, step))
    }

    /// Whether an agent is expected on the machine now.
    #[must_use]
    pub fn expects_agent(&self) -> bool {
        self.current_step().is_some_and(|(plan, ..)| plan.uses_agent())
    }

    /// Whether an allocation may have it.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.provision.state == ProvisionState::Available
            && self.maintenance.is_none()
            && self.allocation.is_none()
    }

    /// Its place among those that allocations may have, if it is one of them: those of a resource class together, who has
    /// been offered longest first.
    pub(crate) fn place_in_line(&self) -> Option<(String, Timestamp, NodeId)> {
        let place = || (self.spec.resource_class.clone(), self.provision.since, self.id);
        self.is_offered().then(place)
    }

    /// The epoch of the last claim; 0 when there was none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.claim.as_ref().map_or(0, |claim| claim.epoch)
    }
}
