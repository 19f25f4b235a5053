//! Steps: names for work, with Ironic's priorities. How a step is done is the conductor's business.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DeployInterface, RequestedStep, UniversalStep};
use crate::Invalid;

/// A step of a plan. Stored by name: never rename or reuse one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Run the operator's playbook against the machine.
    RunPlaybook,
    /// Look up which container is meant.
    PinContainer,
    /// Have the agent run the container, which installs itself on the disk.
    ExecuteBootcInstall,
    /// Have the agent add the config drive.
    WriteConfigdrive,
    /// Make the machine boot from its disk from now on.
    PrepareInstanceBoot,
    /// Have the agent flush the disks, then power off.
    TearDownAgent,
    /// Power on into the deployed system.
    BootInstance,
    /// Boot the machine from the ISO that it is to run from.
    BootRamdisk,
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
    /// Have a plug-in of the agent do what an operator asked for.
    Plugin(Box<RequestedStep>),
    /// Boot the agent for a person to log in to.
    PrepareRescue,
    /// Have the agent let a person log in with the password asked for.
    Rescue,
    /// Power off the rescue ramdisk, or whatever else runs.
    TearDownRescue,
    /// Boot the agent for a service.
    PrepareService,
    /// Have the agent flush the disks, then power off, after a service.
    TearDownService,
    /// Switch the machine on, as an operator asked for.
    PowerOn(Box<RequestedStep>),
    /// Switch the machine off, as an operator asked for.
    PowerOff(Box<RequestedStep>),
    /// Switch the machine off and on, as an operator asked for.
    Reboot(Box<RequestedStep>),
    /// Wait for a person to say `unhold`.
    Hold(Box<RequestedStep>),
    /// Let time pass, or wait for the agent.
    Wait(Box<RequestedStep>),
}

/// What a step is called, when it comes and how long it may take.
struct StepFacts<'a> {
    interface: &'static str,
    name: &'a str,
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
    fn facts(&self) -> StepFacts<'_> {
        let (interface, name, priority, limit, waits_for_agent) = match self {
            Self::VerifyPower => ("power", "verify", 0, minutes(1), false),
            Self::PrepareImage => ("deploy", "prepare_image", 300, minutes(360), false),
            Self::Deploy => ("deploy", "deploy", 100, minutes(30), true),
            Self::PrepareCleaning => ("deploy", "prepare_cleaning", 300, minutes(30), true),
            Self::WriteImage => ("deploy", "write_image", 80, minutes(360), true),
            Self::RunPlaybook => ("deploy", "run_playbook", 80, minutes(360), false),
            Self::PinContainer => ("deploy", "pin_container", 300, minutes(10), false),
            Self::ExecuteBootcInstall => {
                ("deploy", "execute_bootc_install", 80, minutes(360), true)
            }
            Self::WriteConfigdrive => ("deploy", "write_configdrive", 70, minutes(30), true),
            Self::PrepareInstanceBoot => {
                ("deploy", "prepare_instance_boot", 60, minutes(10), false)
            }
            Self::TearDownAgent => ("deploy", "tear_down_agent", 40, minutes(10), false),
            Self::BootInstance => ("deploy", "boot_instance", 20, minutes(10), false),
            Self::BootRamdisk => ("deploy", "boot_ramdisk", 100, minutes(10), false),
            Self::TearDown => ("deploy", "tear_down", 100, minutes(10), false),
            Self::EraseDevicesMetadata => {
                ("deploy", "erase_devices_metadata", 99, minutes(60), true)
            }
            Self::EraseDevices => ("deploy", "erase_devices", 10, minutes(72 * 60), true),
            Self::TearDownCleaning => ("deploy", "tear_down_cleaning", 0, minutes(10), false),
            Self::PrepareInspection => ("inspect", "prepare_inspection", 300, minutes(30), true),
            Self::TearDownInspection => ("inspect", "tear_down_inspection", 0, minutes(10), false),
            Self::Plugin(step) => ("deploy", step.step.as_str(), step.priority, step.limit(), true),
            Self::PrepareRescue => ("rescue", "prepare_rescue", 300, minutes(30), true),
            Self::Rescue => ("rescue", "rescue", 100, minutes(10), true),
            Self::TearDownRescue => ("rescue", "tear_down_rescue", 100, minutes(10), false),
            Self::PrepareService => ("deploy", "prepare_service", 300, minutes(30), true),
            Self::TearDownService => ("deploy", "tear_down_service", 80, minutes(10), false),
            Self::PowerOn(step) | Self::PowerOff(step) | Self::Reboot(step) => {
                ("power", step.step.as_str(), step.priority, step.limit(), false)
            }
            Self::Hold(step) | Self::Wait(step) => {
                ("deploy", step.step.as_str(), step.priority, step.limit(), false)
            }
        };
        StepFacts { interface, name, priority, limit, waits_for_agent }
    }

    /// The hardware interface it belongs to.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        self.facts().interface
    }

    /// Its name within the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        self.facts().name
    }

    /// Higher comes first.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.facts().priority
    }

    /// How long it may take in all, over every conductor that drives it.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.facts().limit
    }

    /// Whether the node is in a wait state while it runs.
    #[must_use]
    pub fn waits_for_agent(&self) -> bool {
        self.facts().waits_for_agent
    }

    /// Whether an operator may put it elsewhere among what is done while the agent runs.
    pub(super) const fn is_movable(&self) -> bool {
        matches!(
            self,
            Self::WriteImage
                | Self::RunPlaybook
                | Self::ExecuteBootcInstall
                | Self::WriteConfigdrive
                | Self::PrepareInstanceBoot
        )
    }

    /// What an operator asked of a plug-in, when that is what it is.
    #[must_use]
    pub fn requested(&self) -> Option<&RequestedStep> {
        if let Self::Plugin(step) = self { Some(step) } else { None }
    }

    /// Whether it boots the agent.
    #[must_use]
    pub const fn boots_agent(&self) -> bool {
        matches!(
            self,
            Self::Deploy
                | Self::PrepareCleaning
                | Self::PrepareInspection
                | Self::PrepareRescue
                | Self::PrepareService
        )
    }

    /// Whether an agent has to run for it.
    pub(super) fn needs_agent(&self) -> bool {
        let waits = matches!(self, Self::Wait(step) if step.wait_seconds().is_none());
        waits || matches!(self, Self::EraseDevicesMetadata | Self::EraseDevices | Self::Plugin(_))
    }

    /// What an operator asked for, whoever does it; none for a step of the system's own.
    #[must_use]
    pub fn asked(&self) -> Option<&RequestedStep> {
        if let Self::PowerOn(step)
        | Self::PowerOff(step)
        | Self::Reboot(step)
        | Self::Hold(step)
        | Self::Wait(step) = self
        {
            return Some(step);
        }
        self.requested()
    }

    /// The step that an operator asks for by name: a universal one, or a plug-in's.
    #[must_use]
    pub fn asked_for(step: RequestedStep) -> Self {
        let universal = UniversalStep::named(&step.step);
        let step = Box::new(step);
        match universal {
            Some(UniversalStep::PowerOn) => Self::PowerOn(step),
            Some(UniversalStep::PowerOff) => Self::PowerOff(step),
            Some(UniversalStep::Reboot) => Self::Reboot(step),
            Some(UniversalStep::Hold) => Self::Hold(step),
            Some(UniversalStep::Wait) => Self::Wait(step),
            None => Self::Plugin(step),
        }
    }

    /// The step of cleaning with this name, alone or behind its interface.
    ///
    /// # Errors
    /// [`Invalid`] when an operator cannot ask for it.
    pub fn clean_step(name: &str) -> Result<Self, Invalid> {
        let known = [Self::EraseDevices, Self::EraseDevicesMetadata];
        let names = known.iter().map(Self::name).collect::<Vec<_>>().join(", ");
        let found = known.into_iter().find(|it| name == it.name() || name == it.to_string());
        found.ok_or_else(|| Invalid::new("clean_steps", name, format!("is none of: {names}")))
    }

    /// What an operator is told the node waits for.
    #[must_use]
    pub fn waits_for(&self) -> &'static str {
        match self {
            Self::VerifyPower => "the BMC to tell the power state",
            Self::PrepareImage => "the image cache to prepare the image",
            Self::Deploy | Self::PrepareCleaning | Self::PrepareInspection => {
                "the agent to boot and call back"
            }
            Self::WriteImage => "the agent to write the image",
            Self::RunPlaybook => "the playbook to end",
            Self::PinContainer => "the image cache to look up the container",
            Self::ExecuteBootcInstall => "the container to install itself",
            Self::WriteConfigdrive => "the agent to write the config drive",
            Self::PrepareInstanceBoot => "the BMC to set the boot device",
            Self::TearDownAgent | Self::TearDownCleaning => {
                "the agent to flush the disks and the BMC to power off"
            }
            Self::BootInstance => "the BMC to power on",
            Self::BootRamdisk => "the BMC to insert the ISO and power on",
            Self::TearDown | Self::TearDownInspection => "the BMC to power off",
            Self::EraseDevicesMetadata => "the agent to erase the disks' metadata",
            Self::EraseDevices => "the agent to overwrite the disks",
            Self::Plugin(_) => "the agent's plug-in to do the step",
            Self::PrepareRescue | Self::PrepareService => "the agent to boot and call back",
            Self::Rescue => "the agent to let the rescue user in",
            Self::TearDownRescue => "the BMC to power off",
            Self::TearDownService => "the agent to flush the disks and the BMC to power off",
            Self::PowerOn(_) => "the BMC to power on",
            Self::PowerOff(_) => "the BMC to power off",
            Self::Reboot(_) => "the BMC to power off and on",
            Self::Hold(_) => "a person to end the hold with `unhold`",
            Self::Wait(step) if step.wait_seconds().is_some() => "time to pass",
            Self::Wait(_) => "the agent to call back",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.interface(), self.name())
    }
}

/// The steps of a deploy interface, of which a deployment leaves out what it does not need.
pub(super) const fn own_steps(interface: DeployInterface) -> &'static [Step] {
    match interface {
        DeployInterface::Direct => &[
            Step::Deploy,
            Step::WriteImage,
            Step::PrepareInstanceBoot,
            Step::TearDownAgent,
            Step::BootInstance,
            Step::PrepareImage,
            Step::WriteConfigdrive,
        ],
        DeployInterface::CustomAgent => &[
            Step::Deploy,
            Step::PrepareInstanceBoot,
            Step::TearDownAgent,
            Step::BootInstance,
            Step::WriteConfigdrive,
        ],
        DeployInterface::Ansible => &[
            Step::Deploy,
            Step::RunPlaybook,
            Step::PrepareInstanceBoot,
            Step::TearDownAgent,
            Step::BootInstance,
            Step::PrepareImage,
            Step::WriteConfigdrive,
        ],
        DeployInterface::Bootc => &[
            Step::Deploy,
            Step::ExecuteBootcInstall,
            Step::PrepareInstanceBoot,
            Step::TearDownAgent,
            Step::BootInstance,
            Step::PinContainer,
            Step::WriteConfigdrive,
        ],
        DeployInterface::Ramdisk => &[Step::BootRamdisk],
        // It is seen that the machine can be reached; nothing is done to it.
        DeployInterface::Noop | DeployInterface::Autodetect => &[Step::VerifyPower],
    }
}
