//! Requests: what the log holds. Everything that a decision needs from outside the state is in them.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::allocation::AllocationSpec;
use crate::conductor::Registration;
use crate::ids::{
    AllocationId, ClusterId, CommandId, ConductorId, Incarnation, NodeId, NodeName, PlanId, PortId,
    TemplateId,
};
use crate::node::{
    DeploymentSpec, FieldChange, NodeSpec, PowerState, PowerTarget, RequestedStep, Step, StepReport,
};
use crate::port::{MacAddress, PortSpec};
use crate::template::TemplateSpec;

/// A request to change the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The same id has one outcome.
    pub id: CommandId,
    /// Tells a repeat of this request from another one that uses its id; 0 when the sender never repeats.
    #[serde(default)]
    pub fingerprint: u64,
    /// Who asks.
    pub actor: String,
    /// When it was taken.
    pub at: Timestamp,
    /// What is asked.
    pub body: CommandBody,
}

/// What is asked. Names are stored: never rename or reuse one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum CommandBody {
    /// Gives a new cluster its identity.
    InitialiseCluster {
        /// Drawn by the member that forms the cluster.
        cluster_id: ClusterId,
    },
    /// Enrols a machine.
    CreateNode {
        /// Its identity.
        node: NodeId,
        /// Its name, if any.
        name: Option<NodeName>,
        /// What the caller says of it.
        spec: Box<NodeSpec>,
        /// Its network interfaces.
        ports: Vec<(PortId, MacAddress)>,
    },
    /// Changes the caller's part of a node.
    UpdateNode {
        /// Which.
        node: NodeId,
        /// Only if it still has this version.
        expected_version: Option<u64>,
        /// Each named field, alone.
        changes: Vec<FieldChange>,
    },
    /// Forgets a machine.
    DeleteNode {
        /// Which.
        node: NodeId,
        /// Only if it still has this version.
        expected_version: Option<u64>,
    },
    /// Starts a provision verb.
    Provision {
        /// Which.
        node: NodeId,
        /// Only if it still has this version.
        expected_version: Option<u64>,
        /// What to do.
        verb: ProvisionVerb,
    },
    /// Asks for a power change.
    SetPower {
        /// Which.
        node: NodeId,
        /// Only if it still has this version.
        expected_version: Option<u64>,
        /// To what.
        target: PowerTarget,
        /// How long it may take; unset leaves it to us.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_seconds: Option<u32>,
    },
    /// Sets (`Some(reason)`) or clears maintenance.
    SetMaintenance {
        /// Which.
        node: NodeId,
        /// Only if it still has this version.
        expected_version: Option<u64>,
        /// Why, or `None` to clear it.
        reason: Option<String>,
    },
    /// Adds a network interface.
    CreatePort {
        /// Its identity.
        port: PortId,
        /// What the caller says of it.
        spec: Box<PortSpec>,
    },
    /// Removes a network interface.
    DeletePort {
        /// Which.
        port: PortId,
    },
    /// Asks for a node that fits, or names one that is active already.
    CreateAllocation {
        /// Its identity.
        allocation: AllocationId,
        /// What the node has to have.
        spec: Box<AllocationSpec>,
        /// The node that gets it, if it is to be that one.
        node: Option<NodeId>,
    },
    /// Gives an allocation's node back.
    DeleteAllocation {
        /// Which.
        allocation: AllocationId,
    },
    /// Makes a deploy template or a runbook.
    CreateTemplate {
        /// Its identity.
        template: TemplateId,
        /// What the caller says of it.
        spec: Box<TemplateSpec>,
    },
    /// Replaces what the caller says of a deploy template or a runbook.
    UpdateTemplate {
        /// Which.
        template: TemplateId,
        /// Only if it still has this version.
        expected_version: Option<u64>,
        /// What the caller says of it.
        spec: Box<TemplateSpec>,
    },
    /// Forgets a deploy template or a runbook.
    DeleteTemplate {
        /// Which.
        template: TemplateId,
    },
    /// A conductor starts.
    RegisterConductor {
        /// Who.
        conductor: ConductorId,
        /// What it says of itself.
        registration: Box<Registration>,
    },
    /// A conductor stops on purpose.
    UnregisterConductor {
        /// Who.
        conductor: ConductorId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// The leader has not heard of a conductor for longer than its lease.
    ExpireConductor {
        /// Who.
        conductor: ConductorId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// A conductor hands its nodes over and gets no others, until that is ended.
    DrainConductor {
        /// Which.
        conductor: ConductorId,
        /// Also if nobody can take nodes over.
        force: bool,
    },
    /// A conductor gets nodes again.
    ResumeConductor {
        /// Which.
        conductor: ConductorId,
    },
    /// A conductor takes a node.
    ClaimNode {
        /// Which.
        node: NodeId,
        /// Who.
        conductor: ConductorId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// A conductor lets go of a node that the ring has given to another one. It no longer does anything to the machine.
    ReleaseNode {
        /// Which.
        node: NodeId,
        /// Epoch of its claim.
        epoch: u64,
    },
    /// A conductor says how a step goes.
    ReportStep {
        /// Which node.
        node: NodeId,
        /// Epoch of its claim.
        epoch: u64,
        /// The plan.
        plan: PlanId,
        /// Place of the step in it.
        index: usize,
        /// How it goes.
        report: StepReport,
    },
    /// A conductor says what became of a power request, or what it saw.
    ReportPower {
        /// Which node.
        node: NodeId,
        /// Epoch of its claim.
        epoch: u64,
        /// The state seen, or what the hardware said.
        result: Result<PowerState, String>,
    },
    /// A conductor is about to boot the agent anew.
    ResetAgent {
        /// Which node.
        node: NodeId,
        /// Epoch of its claim.
        epoch: u64,
    },
    /// An agent looked up its node.
    BindAgent {
        /// Which node.
        node: NodeId,
        /// SHA-256 of the new token, hexadecimal.
        token_digest: String,
        /// SHA-256 of the token the agent held, if it held one.
        held_digest: Option<String>,
    },
}

impl CommandBody {
    /// The stored name of the kind of command.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InitialiseCluster { .. } => "initialise_cluster",
            Self::CreateNode { .. } => "create_node",
            Self::UpdateNode { .. } => "update_node",
            Self::DeleteNode { .. } => "delete_node",
            Self::Provision { .. } => "provision",
            Self::SetPower { .. } => "set_power",
            Self::SetMaintenance { .. } => "set_maintenance",
            Self::CreatePort { .. } => "create_port",
            Self::DeletePort { .. } => "delete_port",
            Self::CreateAllocation { .. } => "create_allocation",
            Self::DeleteAllocation { .. } => "delete_allocation",
            Self::CreateTemplate { .. } => "create_template",
            Self::UpdateTemplate { .. } => "update_template",
            Self::DeleteTemplate { .. } => "delete_template",
            Self::RegisterConductor { .. } => "register_conductor",
            Self::UnregisterConductor { .. } => "unregister_conductor",
            Self::ExpireConductor { .. } => "expire_conductor",
            Self::DrainConductor { .. } => "drain_conductor",
            Self::ResumeConductor { .. } => "resume_conductor",
            Self::ClaimNode { .. } => "claim_node",
            Self::ReleaseNode { .. } => "release_node",
            Self::ReportStep { .. } => "report_step",
            Self::ReportPower { .. } => "report_power",
            Self::ResetAgent { .. } => "reset_agent",
            Self::BindAgent { .. } => "bind_agent",
        }
    }
}

/// The verbs that move a node's provision state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum ProvisionVerb {
    /// Take the machine under management; verifies its power control first.
    Manage,
    /// Find out what it is made of.
    Inspect,
    /// Take it over with what runs on it, which is described as a deployment.
    Adopt(Box<DeploymentSpec>),
    /// Do these steps of cleaning, and offer it to nobody.
    Clean(Vec<Step>),
    /// Make it available, cleaned.
    Provide,
    /// Put an image on it.
    Deploy(Box<DeploymentSpec>),
    /// Put an image on it again; `None` repeats the request it holds.
    Rebuild(Option<Box<DeploymentSpec>>),
    /// Take the image off it.
    Undeploy,
    /// Stop what is going on.
    Abort,
    /// Boot a ramdisk that a person can log in to.
    Rescue {
        /// Of user `rescue`, as crypt(3) has it. The password itself is never stored.
        password_hash: String,
    },
    /// Boot its own system again.
    Unrescue,
    /// Do these steps on a machine that holds a deployment, which stays.
    Service(Vec<RequestedStep>),
    /// Go on after a hold.
    Unhold,
}
