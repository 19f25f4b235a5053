//! Recorded plans: which steps a node goes through, and how far it is.
//!
//! Steps and priorities are Ironic's. A step is a name for work; how it is done is the conductor's business.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::deployment::{ImageDownloadSource, ResolvedImage, WriteReport};
use super::inventory::Inventory;
use super::power::PowerState;
use super::{DeploymentSpec, PlanId};
use crate::{Invalid, Timestamp};

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
        })
    }
}

/// A step of a plan. Stored by name: never rename or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Look at the power state with the credentials given.
    VerifyPower,
    /// Have the image cache prepare the image.
    PrepareImage,
    /// Boot the agent for a deployment (Ironic's `deploy.deploy`).
    Deploy,
    /// Boot the agent for cleaning.
    PrepareCleaning,
    /// Have the agent put the image on the disk.
    WriteImage,
    /// Have the agent add the config drive.
    WriteConfigdrive,
    /// Make the machine boot from its disk from now on.
    PrepareInstanceBoot,
    /// Have the agent flush the disks, then power off.
    TearDownAgent,
    /// Power on into the deployed system.
    BootInstance,
    /// Power off what the last user ran.
    TearDown,
    /// Have the agent erase partition tables and signatures.
    EraseDevicesMetadata,
    /// Have the agent overwrite the disks.
    EraseDevices,
    /// Have the agent flush the disks, then power off, after cleaning.
    TearDownCleaning,
    /// Boot the agent, which says what the machine is made of.
    PrepareInspection,
    /// Power off after an inspection.
    TearDownInspection,
}

/// What a step is called, when it comes and how long it may take.
struct StepFacts {
    interface: &'static str,
    name: &'static str,
    priority: u32,
    limit: Duration,
    waits_for_agent: bool,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

impl Step {
    /// Limits: a BMC answers within a minute or not at all; an agent boots within Ironic's call-back timeout of 30
    /// minutes; images move at 50 MB/s at the very least, so six hours are enough for a terabyte, and a disk of 20 TB is
    /// overwritten in a day and a half.
    const fn facts(self) -> StepFacts {
        let (interface, name, priority, limit, waits_for_agent) = match self {
            Self::VerifyPower => ("power", "verify", 0, minutes(1), false),
            Self::PrepareImage => ("deploy", "prepare_image", 300, minutes(360), false),
            Self::Deploy => ("deploy", "deploy", 100, minutes(30), true),
            Self::PrepareCleaning => ("deploy", "prepare_cleaning", 300, minutes(30), true),
            Self::WriteImage => ("deploy", "write_image", 80, minutes(360), true),
            Self::WriteConfigdrive => ("deploy", "write_configdrive", 70, minutes(30), true),
            Self::PrepareInstanceBoot => {
                ("deploy", "prepare_instance_boot", 60, minutes(10), false)
            }
            Self::TearDownAgent => ("deploy", "tear_down_agent", 40, minutes(10), false),
            Self::BootInstance => ("deploy", "boot_instance", 20, minutes(10), false),
            Self::TearDown => ("deploy", "tear_down", 100, minutes(10), false),
            Self::EraseDevicesMetadata => {
                ("deploy", "erase_devices_metadata", 99, minutes(60), true)
            }
            Self::EraseDevices => ("deploy", "erase_devices", 10, minutes(72 * 60), true),
            Self::TearDownCleaning => ("deploy", "tear_down_cleaning", 0, minutes(10), false),
            Self::PrepareInspection => ("inspect", "prepare_inspection", 300, minutes(30), true),
            Self::TearDownInspection => ("inspect", "tear_down_inspection", 0, minutes(10), false),
        };
        StepFacts { interface, name, priority, limit, waits_for_agent }
    }

    /// The hardware interface it belongs to.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        self.facts().interface
    }

    /// Its name within the interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Higher comes first.
    #[must_use]
    pub const fn priority(self) -> u32 {
        self.facts().priority
    }

    /// How long it may take in all, over every conductor that drives it.
    #[must_use]
    pub const fn limit(self) -> Duration {
        self.facts().limit
    }

    /// Whether the node is in a wait state while it runs.
    #[must_use]
    pub const fn waits_for_agent(self) -> bool {
        self.facts().waits_for_agent
    }

    /// Whether it boots the agent.
    #[must_use]
    pub const fn boots_agent(self) -> bool {
        matches!(self, Self::Deploy | Self::PrepareCleaning | Self::PrepareInspection)
    }

    /// The step of cleaning with this name, alone or behind its interface.
    ///
    /// # Errors
    /// [`Invalid`] when an operator cannot ask for it.
    pub fn clean_step(name: &str) -> Result<Self, Invalid> {
        let known = [Self::EraseDevices, Self::EraseDevicesMetadata];
        known.into_iter().find(|step| name == step.name() || name == step.to_string()).ok_or_else(
            || {
                let names = known.map(Self::name).join(", ");
                Invalid::new("clean_steps", name, format!("is none of: {names}"))
            },
        )
    }

    /// What an operator is told the node waits for.
    #[must_use]
    pub const fn waits_for(self) -> &'static str {
        match self {
            Self::VerifyPower => "the BMC to tell the power state",
            Self::PrepareImage => "the image cache to prepare the image",
            Self::Deploy | Self::PrepareCleaning | Self::PrepareInspection => {
                "the agent to boot and call back"
            }
            Self::WriteImage => "the agent to write the image",
            Self::WriteConfigdrive => "the agent to write the config drive",
            Self::PrepareInstanceBoot => "the BMC to set the boot device",
            Self::TearDownAgent | Self::TearDownCleaning => {
                "the agent to flush the disks and the BMC to power off"
            }
            Self::BootInstance => "the BMC to power on",
            Self::TearDown | Self::TearDownInspection => "the BMC to power off",
            Self::EraseDevicesMetadata => "the agent to erase the disks' metadata",
            Self::EraseDevices => "the agent to overwrite the disks",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.interface(), self.name())
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
    /// How far it is.
    pub status: StepStatus,
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
    fn new(id: PlanId, kind: PlanKind, mut steps: Vec<Step>) -> Self {
        steps.sort_by_key(|step| std::cmp::Reverse(step.priority()));
        let steps = steps.into_iter().map(|step| PlannedStep { step, status: StepStatus::Pending });
        Self { id, kind, steps: steps.collect() }
    }

    /// Tries the machine's power control.
    #[must_use]
    pub fn verify(id: PlanId) -> Self {
        Self::new(id, PlanKind::Verify, vec![Step::VerifyPower])
    }

    /// Puts a deployment on the machine with the `direct` deploy interface.
    #[must_use]
    pub fn deploy(id: PlanId, spec: &DeploymentSpec) -> Self {
        let mut steps = vec![
            Step::Deploy,
            Step::WriteImage,
            Step::PrepareInstanceBoot,
            Step::TearDownAgent,
            Step::BootInstance,
        ];
        if spec.image_download_source == ImageDownloadSource::Local {
            steps.push(Step::PrepareImage);
        }
        if spec.config_drive.is_some() {
            steps.push(Step::WriteConfigdrive);
        }
        Self::new(id, PlanKind::Deploy, steps)
    }

    /// Stops what the last user ran.
    #[must_use]
    pub fn undeploy(id: PlanId) -> Self {
        Self::new(id, PlanKind::Undeploy, vec![Step::TearDown])
    }

    /// Erases what the last user left.
    #[must_use]
    pub fn clean(id: PlanId) -> Self {
        let steps = vec![Step::PrepareCleaning, Step::EraseDevicesMetadata, Step::TearDownCleaning];
        Self::new(id, PlanKind::Clean, steps)
    }

    /// Does these steps of cleaning, in the order of their priorities.
    #[must_use]
    pub fn clean_manually(id: PlanId, steps: &[Step]) -> Self {
        let mut steps = steps.to_vec();
        steps.extend([Step::PrepareCleaning, Step::TearDownCleaning]);
        Self::new(id, PlanKind::ManualClean, steps)
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

    /// Whether an agent runs on the machine during the plan.
    #[must_use]
    pub fn uses_agent(&self) -> bool {
        match self.kind {
            PlanKind::Deploy | PlanKind::Clean | PlanKind::ManualClean | PlanKind::Inspect => true,
            PlanKind::Verify | PlanKind::Undeploy | PlanKind::Adopt => false,
        }
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
