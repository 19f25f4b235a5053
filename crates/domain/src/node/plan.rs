//! Recorded plans: which steps a node goes through, and how far it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::container::{InstallReport, PinnedContainer};
use super::deployment::{ImageDownloadSource, ResolvedImage, WriteReport};
use super::inventory::Inventory;
use super::power::PowerState;
use super::step::{Step, own_steps};
use super::{DeployInterface, DeploymentSpec, JsonMap, PlanId, RequestedStep};
use crate::Timestamp;

/// Why the steps are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    /// Try the machine's power control.
    Verify,
    /// Put a deployment on it.
    Deploy,
    /// Take the deployment off it.
    Undeploy,
    /// Erase what the last user left.
    Clean,
    /// Do the steps of cleaning that an operator asked for.
    ManualClean,
    /// Find out what the machine is made of.
    Inspect,
    /// Take over the machine with what runs on it.
    Adopt,
    /// Boot the machine for a person to log in to.
    Rescue,
    /// Boot its own system again after a rescue.
    Unrescue,
    /// Do the steps that an operator asked for on a machine that holds a deployment.
    Service,
    /// Boot its own system again after a service that did not succeed.
    AbortService,
}

impl fmt::Display for PlanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verify => "verify",
            Self::Deploy => "deploy",
            Self::Undeploy => "undeploy",
            Self::Clean => "clean",
            Self::ManualClean => "manual clean",
            Self::Inspect => "inspect",
            Self::Adopt => "adopt",
            Self::Rescue => "rescue",
            Self::Unrescue => "unrescue",
            Self::Service => "service",
            Self::AbortService => "abort service",
        })
    }
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Begun and not ended.
    Running {
        /// How often it was begun.
        attempt: u32,
        /// When first.
        started_at: Timestamp,
        /// When it is given up; not moved by a new attempt.
        until: Timestamp,
    },
    /// Ended well.
    Done {
        /// How often it was begun.
        attempt: u32,
        /// When first.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
    },
    /// Ended the plan.
    Failed {
        /// How often it was begun.
        attempt: u32,
        /// When first.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
        /// Why, for a person.
        error: String,
    },
}

/// A step and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What is done.
    pub step: Step,
    /// Where an operator has put it; unset leaves it where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// How far it is.
    pub status: StepStatus,
}

impl PlannedStep {
    const fn new(step: Step) -> Self {
        Self { step, priority: None, status: StepStatus::Pending }
    }

    /// Higher comes first.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.priority.unwrap_or_else(|| self.step.priority())
    }
}

/// Steps in the order in which they are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Named after the command that caused it.
    pub id: PlanId,
    /// Why.
    pub kind: PlanKind,
    /// Highest priority first.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    fn new(id: PlanId, kind: PlanKind, steps: Vec<Step>) -> Self {
        Self::sorted(id, kind, steps.into_iter().map(PlannedStep::new).collect())
    }

    /// Steps of one priority stay in the order in which they are given.
    fn sorted(id: PlanId, kind: PlanKind, mut steps: Vec<PlannedStep>) -> Self {
        steps.sort_by_key(|step| std::cmp::Reverse(step.priority()));
        Self { id, kind, steps }
    }

    /// Tries the machine's power control.
    #[must_use]
    pub fn verify(id: PlanId) -> Self {
        Self::new(id, PlanKind::Verify, vec![Step::VerifyPower])
    }

    /// Puts a deployment on the machine: the steps of its deploy interface, with those of the operator among them.
    #[must_use]
    pub fn deploy(id: PlanId, spec: &DeploymentSpec) -> Self {
        let own = own_steps(spec.deploy_interface);
        let is_out = |step: &Step| spec.request_for(step).is_some_and(|it| it.priority == 0);
        // Prepared for nobody it would be in vain.
        let prepares = spec.image.is_some()
            && spec.image_download_source == ImageDownloadSource::Local
            && ![Step::WriteImage, Step::RunPlaybook].iter().any(is_out);
        let is_needed = |step: &Step| {
            (*step != Step::PrepareImage || prepares)
                && (*step != Step::PinContainer || !is_out(&Step::ExecuteBootcInstall))
                && (*step != Step::WriteConfigdrive || spec.config_drive.is_some())
        };
        let mut steps: Vec<_> = own
            .iter()
            .filter(|step| is_needed(step) && !is_out(step))
            .map(|step| PlannedStep {
                priority: spec.request_for(step).map(|it| it.priority),
                ..PlannedStep::new(step.clone())
            })
            .collect();
        let added = spec.added_steps(own).map(|step| Step::asked_for(step.clone()));
        steps.extend(added.map(PlannedStep::new));
        Self::sorted(id, PlanKind::Deploy, steps)
    }

    /// Stops what the last user ran. What `noop` left to others is left to them.
    #[must_use]
    pub fn undeploy(id: PlanId, interface: DeployInterface) -> Self {
        let step =
            if interface == DeployInterface::Noop { Step::VerifyPower } else { Step::TearDown };
        Self::new(id, PlanKind::Undeploy, vec![step])
    }

    /// Erases what the last user left.
    #[must_use]
    pub fn clean(id: PlanId) -> Self {
        let steps = vec![Step::PrepareCleaning, Step::EraseDevicesMetadata, Step::TearDownCleaning];
        Self::new(id, PlanKind::Clean, steps)
    }

    /// Does these steps of cleaning, in the order of their priorities. The agent is booted if one of them needs it.
    #[must_use]
    pub fn clean_manually(id: PlanId, steps: &[Step]) -> Self {
        let mut all = steps.to_vec();
        if steps.iter().any(Step::needs_agent) {
            all.extend([Step::PrepareCleaning, Step::TearDownCleaning]);
        }
        Self::new(id, PlanKind::ManualClean, all)
    }

    /// Does these steps on a machine that holds a deployment, in the order of their priorities. The agent is booted if one of
    /// them needs it; afterwards the machine is booted into its own system again.
    #[must_use]
    pub fn service(id: PlanId, steps: &[RequestedStep], interface: DeployInterface) -> Self {
        let steps = steps.iter().cloned().map(Step::asked_for).collect();
        let mut plan = Self::new(id, PlanKind::Service, steps);
        if plan.steps.iter().any(|planned| planned.step.needs_agent()) {
            plan.steps.insert(0, PlannedStep::new(Step::PrepareService));
            plan.steps.push(PlannedStep::new(Step::TearDownService));
            plan.steps.extend(boot_instance(interface).into_iter().map(PlannedStep::new));
        }
        plan
    }

    /// Boots the machine into its own system again.
    #[must_use]
    pub fn abort_service(id: PlanId, interface: DeployInterface) -> Self {
        Self::new(id, PlanKind::AbortService, back_to_instance(interface))
    }

    /// Boots the machine for a person to log in to.
    #[must_use]
    pub fn rescue(id: PlanId) -> Self {
        Self::new(id, PlanKind::Rescue, vec![Step::PrepareRescue, Step::Rescue])
    }

    /// Boots the machine into its own system again.
    #[must_use]
    pub fn unrescue(id: PlanId, interface: DeployInterface) -> Self {
        Self::new(id, PlanKind::Unrescue, back_to_instance(interface))
    }

    /// Finds out what the machine is made of.
    #[must_use]
    pub fn inspect(id: PlanId) -> Self {
        Self::new(id, PlanKind::Inspect, vec![Step::PrepareInspection, Step::TearDownInspection])
    }

    /// Takes over the machine: looks at its power, and touches nothing.
    #[must_use]
    pub fn adopt(id: PlanId) -> Self {
        Self::new(id, PlanKind::Adopt, vec![Step::VerifyPower])
    }

    /// The step to be done or in progress. None once all are done or one failed.
    #[must_use]
    pub fn current(&self) -> Option<(usize, &PlannedStep)> {
        let next = self
            .steps
            .iter()
            .enumerate()
            .find(|(_, step)| !matches!(step.status, StepStatus::Done { .. }))?;
        if matches!(next.1.status, StepStatus::Failed { .. }) {
            return None;
        }
        Some(next)
    }

    /// The steps that plug-ins of the agent do.
    pub fn plugin_steps(&self) -> impl Iterator<Item = &RequestedStep> {
        self.steps.iter().filter_map(|planned| planned.step.requested())
    }

    /// Whether an agent runs on the machine during the plan.
    #[must_use]
    pub fn uses_agent(&self) -> bool {
        self.steps.iter().any(|planned| planned.step.boots_agent())
    }

    /// Whether the machine is not its user's during the plan: it is switched off when the plan ends before its time.
    #[must_use]
    pub fn occupies_machine(&self) -> bool {
        match self.kind {
            PlanKind::Deploy
            | PlanKind::Clean
            | PlanKind::ManualClean
            | PlanKind::Inspect
            | PlanKind::Rescue => true,
            PlanKind::Service => self.uses_agent(),
            PlanKind::Verify
            | PlanKind::Undeploy
            | PlanKind::Adopt
            | PlanKind::Unrescue
            | PlanKind::AbortService => false,
        }
    }
}

fn back_to_instance(interface: DeployInterface) -> Vec<Step> {
    let mut steps = vec![Step::TearDownRescue];
    steps.extend(boot_instance(interface));
    steps
}

/// Boots what was deployed, of which an ISO leaves nothing on the disk.
fn boot_instance(interface: DeployInterface) -> Vec<Step> {
    match interface {
        DeployInterface::Ramdisk => vec![Step::BootRamdisk],
        DeployInterface::Direct
        | DeployInterface::CustomAgent
        | DeployInterface::Ansible
        | DeployInterface::Bootc
        | DeployInterface::Noop
        | DeployInterface::Autodetect => vec![Step::PrepareInstanceBoot, Step::BootInstance],
    }
}

/// What a conductor says of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum StepReport {
    /// It is being begun, or taken over.
    Started,
    /// It ended well.
    Completed(Box<StepResult>),
    /// It cannot be done.
    Failed {
        /// Stable, such as `IMAGE_CHECKSUM_MISMATCH`.
        reason: String,
        /// For a person: what was attempted, on what, with which values.
        message: String,
    },
}

/// What a step found out or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum StepResult {
    /// Nothing to tell.
    Done,
    /// The machine's power state is now this.
    Power(PowerState),
    /// The image is prepared.
    Image(ResolvedImage),
    /// The agent called back.
    Agent(Inventory),
    /// The image is on the disk.
    Written(WriteReport),
    /// The metadata of these devices is gone.
    Erased(Vec<String>),
    /// The content of these devices is gone.
    ErasedDevices(Vec<ErasedDevice>),
    /// A plug-in of the agent did its step, and had this to say.
    Plugin(JsonMap),
    /// This container is meant, whatever its tag will mean.
    Pinned(PinnedContainer),
    /// The container has installed itself.
    Installed(InstallReport),
}

/// A device whose content is gone, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedDevice {
    /// Which.
    pub device: String,
    /// Its serial number, if it has one.
    pub serial: String,
    /// How: `overwrite`.
    pub method: String,
    /// How much of it was erased.
    pub erased_bytes: u64,
    /// How much of that was read back and found gone.
    pub verified_bytes: u64,
}
