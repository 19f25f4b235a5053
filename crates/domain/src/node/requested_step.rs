//! Steps that an operator asks for, Ironic's `deploy_steps`: what a request may hold, before any agent was heard.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::step::Step;
use super::{DeployInterface, DeploymentSpec, JsonMap};
use crate::Invalid;

/// Most steps in one request.
pub const REQUESTED_STEPS_MAX: usize = 64;

/// Largest arguments of a step, as JSON.
pub const STEP_ARGS_BYTES_MAX: usize = 64 * 1024;

/// Longest name of a step.
const NAME_CHARACTERS_MAX: usize = 100;

/// Priorities at which the agent runs: it is booted at 100 and torn down at 40.
pub const AGENT_PRIORITIES: RangeInclusive<u32> = 41..=99;

/// Priorities of the steps of a cleaning or a service.
const PRIORITIES: RangeInclusive<u32> = 1..=99;

/// How long a step of a plug-in may take unless the request says.
const LIMIT_DEFAULT_SECONDS: u64 = 30 * 60;

/// Longest limit that may be asked for: burning in a machine takes days.
const LIMIT_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// How long a hold may last unless the request says: a day.
const HOLD_LIMIT_DEFAULT_SECONDS: u64 = 24 * 60 * 60;

/// How long a change of power may take.
const POWER_LIMIT_SECONDS: u64 = 10 * 60;

/// What a wait may take beside the time that it is asked for.
const WAIT_MARGIN_SECONDS: u64 = 60;

/// Ironic's universal steps: they belong to no interface, and can be in any list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniversalStep {
    /// Switch the machine on.
    PowerOn,
    /// Switch it off, at once.
    PowerOff,
    /// Switch it off and on.
    Reboot,
    /// Wait for a person to say `unhold`.
    Hold,
    /// Let `seconds` pass; without them, wait for the agent.
    Wait,
}

impl UniversalStep {
    const ALL: [(&'static str, Self); 5] = [
        ("power_on", Self::PowerOn),
        ("power_off", Self::PowerOff),
        ("reboot", Self::Reboot),
        ("hold", Self::Hold),
        ("wait", Self::Wait),
    ];

    /// The one of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, step)| *step)
    }
}

/// A step that an operator asks for: a universal one, one of the agent's plug-ins, or one of the interface's own, to be moved
/// or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedStep {
    /// Its name within interface `deploy`.
    pub step: String,
    /// What it is told.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    pub args: JsonMap,
    /// Higher comes first; 0 leaves a step of the interface out.
    pub priority: u32,
    /// How long it may take in all; half an hour when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_seconds: Option<u64>,
}

impl RequestedStep {
    /// How long it may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let default = match UniversalStep::named(&self.step) {
            Some(UniversalStep::PowerOn | UniversalStep::PowerOff | UniversalStep::Reboot) => {
                POWER_LIMIT_SECONDS
            }
            Some(UniversalStep::Hold) => HOLD_LIMIT_DEFAULT_SECONDS,
            Some(UniversalStep::Wait) => {
                self.wait_seconds().map_or(LIMIT_DEFAULT_SECONDS, |it| it + WAIT_MARGIN_SECONDS)
            }
            None => LIMIT_DEFAULT_SECONDS,
        };
        Duration::from_secs(self.limit_seconds.unwrap_or(default))
    }

    /// How long a `wait` is to last; none when it waits for the agent.
    #[must_use]
    pub fn wait_seconds(&self) -> Option<u64> {
        self.args.get("seconds").and_then(serde_json::Value::as_u64)
    }

    /// What must be so of a universal step.
    fn check_universal(&self, step: UniversalStep) -> Result<(), Invalid> {
        for (name, value) in &self.args {
            if step != UniversalStep::Wait || name != "seconds" {
                let reason = format!("is no argument of step `{}`", self.step);
                return Err(Invalid::new(&format!("args.{name}"), &value.to_string(), reason));
            }
            let fits = |seconds: &u64| (1..=LIMIT_SECONDS_MAX).contains(seconds);
            if value.as_u64().filter(fits).is_none() {
                let reason = format!("is not a whole number between 1 and {LIMIT_SECONDS_MAX}");
                return Err(Invalid::new("args.seconds", &value.to_string(), reason));
            }
        }
        if let (Some(limit), Some(wait)) = (self.limit_seconds, self.wait_seconds())
            && limit <= wait
        {
            let reason = format!("is not above the {wait} s that are to pass");
            return Err(Invalid::new("limit_seconds", &limit.to_string(), reason));
        }
        Ok(())
    }

    /// What must be so of any step, whoever does it.
    fn check_form(&self) -> Result<(), Invalid> {
        let starts_well = self.step.starts_with(|first: char| first.is_ascii_alphabetic());
        let is_name = self.step.chars().all(|it| it.is_ascii_alphanumeric() || "_-".contains(it));
        if !starts_well || !is_name || self.step.len() > NAME_CHARACTERS_MAX {
            let reason = format!(
                "is not a name of a step: a letter, then letters, digits, `_` or `-`, {NAME_CHARACTERS_MAX} at most"
            );
            return Err(Invalid::new("step", &self.step, reason));
        }
        let bytes = serde_json::to_vec(&self.args).map_or(usize::MAX, |json| json.len());
        if bytes > STEP_ARGS_BYTES_MAX {
            let reason = format!("are larger than {STEP_ARGS_BYTES_MAX} bytes");
            return Err(Invalid::new("args", &format!("{bytes} bytes"), reason));
        }
        match self.limit_seconds {
            Some(limit) if !(1..=LIMIT_SECONDS_MAX).contains(&limit) => {
                let reason = format!("is not between 1 and {LIMIT_SECONDS_MAX}");
                Err(Invalid::new("limit_seconds", &limit.to_string(), reason))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What must be so of a step that is none of the interface's own.
    fn check_placed(&self, priorities: &RangeInclusive<u32>) -> Result<(), Invalid> {
        if let Some(step) = UniversalStep::named(&self.step) {
            self.check_universal(step)?;
        }
        if priorities.contains(&self.priority) {
            return Ok(());
        }
        let (first, last) = (priorities.start(), priorities.end());
        let reason = format!(
            "must be between {first} and {last} for step `{}`: that is while the agent runs",
            self.step
        );
        Err(Invalid::new("priority", &self.priority.to_string(), reason))
    }

    /// What must be so of one of the interface's own steps.
    fn check_core(&self, step: &Step) -> Result<(), Invalid> {
        if !self.args.is_empty() {
            let reason = format!("are given, but {step} takes none");
            return Err(Invalid::new("args", "", reason));
        }
        if self.limit_seconds.is_some() {
            let reason = format!("is given, but {step} has a limit of its own");
            return Err(Invalid::new("limit_seconds", "", reason));
        }
        match (self.priority, step) {
            (0, step) if step.is_movable() || *step == Step::BootInstance => Ok(()),
            (priority, step) if step.is_movable() && AGENT_PRIORITIES.contains(&priority) => Ok(()),
            (priority, step) if step.is_movable() => {
                let reason = format!(
                    "must be 0, which leaves {step} out, or between {} and {}: while the agent runs",
                    AGENT_PRIORITIES.start(),
                    AGENT_PRIORITIES.end()
                );
                Err(Invalid::new("priority", &priority.to_string(), reason))
            }
            (priority, Step::BootInstance) => {
                let reason = format!("must be 0, which leaves {step} out: it cannot be moved");
                Err(Invalid::new("priority", &priority.to_string(), reason))
            }
            (_, other) => {
                let reason = format!("is {other}, which can be neither moved nor left out");
                Err(Invalid::new("step", &self.step, reason))
            }
        }
    }
}

/// What an operator's steps do to the interface's own.
impl DeploymentSpec {
    /// The request for one of the interface's own steps, if there is one.
    pub(super) fn request_for(&self, step: &Step) -> Option<&RequestedStep> {
        self.deploy_steps.iter().find(|it| it.step == step.name())
    }

    /// The steps that are none of the interface's own: universal ones, and those that plug-ins of the agent do.
    pub(super) fn added_steps<'a>(
        &'a self,
        own: &'a [Step],
    ) -> impl Iterator<Item = &'a RequestedStep> {
        self.deploy_steps.iter().filter(|it| !own.iter().any(|step| it.step == step.name()))
    }

    /// Checks the operator's steps as far as they can be without the agent.
    ///
    /// # Errors
    /// [`Invalid`] with the field's path from the request.
    pub(super) fn check_steps(&self, own: &[Step]) -> Result<(), Invalid> {
        if !self.deploy_interface.runs_agent() && !self.deploy_steps.is_empty() {
            let reason = format!(
                "are given, but no agent runs with deploy_interface `{}`",
                self.deploy_interface
            );
            let count = self.deploy_steps.len().to_string();
            return Err(Invalid::new("deploy_steps", &count, reason));
        }
        check_list("deploy_steps", &self.deploy_steps, |step| {
            match own.iter().find(|own| step.step == own.name()) {
                Some(own) => step.check_core(own),
                None => step.check_placed(&AGENT_PRIORITIES),
            }
        })?;
        let writes = |step: &RequestedStep| UniversalStep::named(&step.step).is_none();
        if self.deploy_interface == DeployInterface::CustomAgent
            && !self.added_steps(own).any(writes)
        {
            let reason = "is required with deploy_interface `custom-agent`, for nothing else writes the disk";
            return Err(Invalid::new("deploy_steps", "", reason));
        }
        Ok(())
    }
}

/// Checks the steps that a cleaning is asked for beside those of its own. They come between those that erase the disks'
/// metadata, 99, and the end.
///
/// # Errors
/// [`Invalid`] with the field's path from the request.
pub fn check_clean_steps(field: &str, steps: &[RequestedStep]) -> Result<(), Invalid> {
    check_list(field, steps, |step| match Step::clean_step(&step.step) {
        Ok(_) => {
            Err(Invalid::new("step", &step.step, "is no plug-in's; name it among clean_steps"))
        }
        Err(_) => step.check_placed(&PRIORITIES),
    })
}

/// Checks the steps that a service is asked for.
///
/// # Errors
/// [`Invalid`] with the field's path from the request.
pub fn check_service_steps(field: &str, steps: &[RequestedStep]) -> Result<(), Invalid> {
    if steps.is_empty() {
        return Err(Invalid::new(field, "", "is required: at least one step"));
    }
    check_list(field, steps, |step| step.check_placed(&PRIORITIES))
}

/// Checks the steps of a named list as far as that can be without what it is used for: a runbook's may be of cleaning too.
///
/// # Errors
/// [`Invalid`] with the field's path from the request.
pub(crate) fn check_template_steps(
    field: &str,
    steps: &[RequestedStep],
    is_runbook: bool,
) -> Result<(), Invalid> {
    check_list(field, steps, |step| match UniversalStep::named(&step.step) {
        Some(universal) => step.check_universal(universal),
        None if is_runbook && Step::clean_step(&step.step).is_err() => {
            step.check_placed(&PRIORITIES)
        }
        None => Ok(()),
    })
}

fn check_list(
    field: &str,
    steps: &[RequestedStep],
    check: impl Fn(&RequestedStep) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    if steps.len() > REQUESTED_STEPS_MAX {
        let reason = format!("are more than {REQUESTED_STEPS_MAX}");
        return Err(Invalid::new(field, &steps.len().to_string(), reason));
    }
    for (place, step) in steps.iter().enumerate() {
        let here = format!("{field}[{place}]");
        step.check_form().and_then(|()| check(step)).map_err(|invalid| invalid.under(&here))?;
        // A machine may be rebooted, and held, more than once.
        let is_universal = UniversalStep::named(&step.step).is_some();
        if !is_universal && steps.iter().take(place).any(|before| before.step == step.step) {
            let invalid = Invalid::new("step", &step.step, "is there twice");
            return Err(invalid.under(&here));
        }
    }
    Ok(())
}
