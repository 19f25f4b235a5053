//! How plans advance: what conductors report of steps.

use super::Decision;
use super::allocation::released;
use super::provision::{is_cleaned, power_off};
use crate::event::{Event, Subject};
use crate::ids::PlanId;
use crate::node::{
    JsonMap, Node, NodeSpec, Plan, PlanKind, PlannedStep, ProvisionState, ResolvedImage, Step,
    StepReport, StepResult, StepStatus, Trigger, Verb,
};
use crate::{Command, Rejection, State};

pub(super) fn report(
    state: &State,
    command: &Command,
    node: &Node,
    plan_id: PlanId,
    index: usize,
    report: &StepReport,
) -> Decision {
    let current = node.current_step().filter(|(plan, at, _)| plan.id == plan_id && *at == index);
    let Some((plan, _, step)) = current else {
        return Err(Rejection::StepNotInProgress { plan: plan_id, index });
    };
    let place = Place { node, plan, index, step };
    let events = match report {
        StepReport::Started => place.started(state),
        StepReport::Completed(result) => match place.refusal(result) {
            Some((reason, message)) => place.failed(state, reason, &message),
            None => place.completed(command, result),
        },
        StepReport::Failed { reason, message } => place.failed(state, reason, message),
    };
    let is_given_back = events.iter().any(|event| matches!(event, Event::DeploymentCleared {}));
    let mut all: Vec<_> = events.into_iter().map(|it| (Subject::Node(node.id), it)).collect();
    if is_given_back {
        all.extend(released(node));
    }
    Ok(all)
}

/// A person ends a hold: the step is done, and the plan goes on.
pub(super) fn unheld(command: &Command, node: &Node) -> Result<Vec<Event>, Rejection> {
    let held = node.current_step().filter(|(.., planned)| matches!(planned.step, Step::Hold(_)));
    let Some((plan, index, step)) = held else {
        let plan = node.plan.as_ref().map_or(command.id, |plan| plan.id);
        return Err(Rejection::StepNotInProgress { plan, index: 0 });
    };
    Ok(Place { node, plan, index, step }.completed(command, &StepResult::Done))
}

/// The step that a report is about.
struct Place<'a> {
    node: &'a Node,
    plan: &'a Plan,
    index: usize,
    step: &'a PlannedStep,
}

impl Place<'_> {
    fn started(&self, state: &State) -> Vec<Event> {
        let step = &self.step.step;
        let (attempt, until) = match self.step.status {
            StepStatus::Running { attempt, until, .. } => (attempt + 1, until),
            StepStatus::Pending | StepStatus::Done { .. } | StepStatus::Failed { .. } => {
                (1, state.now() + step.limit())
            }
        };
        let mut events =
            vec![Event::StepStarted { index: self.index, step: step.to_string(), attempt, until }];
        if step.waits_for_agent() {
            events.extend(self.moved(Trigger::Wait));
        }
        if matches!(step, Step::Hold(_)) {
            events.extend(self.moved(Trigger::Hold));
        }
        events
    }

    fn completed(&self, command: &Command, result: &StepResult) -> Vec<Event> {
        let mut events = Vec::new();
        if let StepResult::Agent(inventory) = result
            && self.node.inventory.as_ref() != Some(inventory)
        {
            events.push(Event::InventoryRecorded { inventory: Box::new(inventory.clone()) });
        }
        events.push(Event::StepCompleted {
            index: self.index,
            step: self.step.step.to_string(),
            result: Box::new(recorded(result)),
        });
        let is_held = matches!(self.step.step, Step::Hold(_));
        let trigger = if is_held { Trigger::Verb(Verb::Unhold) } else { Trigger::Resume };
        let resumed = self.moved(trigger);
        let state = match &resumed {
            Some(Event::ProvisionStateChanged { to, .. }) => *to,
            Some(_) | None => self.node.provision.state,
        };
        events.extend(resumed);
        if self.index + 1 == self.plan.steps.len() {
            events.extend(self.finished(command, state));
        }
        events
    }

    /// The plan is done: what comes after depends on why it was made.
    fn finished(&self, command: &Command, state: ProvisionState) -> Vec<Event> {
        match self.plan.kind {
            PlanKind::Verify
            | PlanKind::Deploy
            | PlanKind::Clean
            | PlanKind::Inspect
            | PlanKind::Adopt
            | PlanKind::Rescue
            | PlanKind::Unrescue
            | PlanKind::Service
            | PlanKind::AbortService => self.done(state),
            PlanKind::ManualClean => moved(state, Trigger::Manage).into_iter().collect(),
            PlanKind::Undeploy => {
                let mut events = vec![Event::DeploymentCleared {}];
                events.extend(instance_info_cleared(self.node));
                events.extend(moved(state, Trigger::Clean));
                if !is_cleaned(self.node) {
                    events.extend(self.done(ProvisionState::Cleaning));
                } else {
                    events.push(Event::PlanStarted { plan: Box::new(Plan::clean(command.id)) });
                }
                events
            }
        }
    }

    /// A node that is retired is not offered after its cleaning.
    fn done(&self, state: ProvisionState) -> Vec<Event> {
        let is_kept = state == ProvisionState::Cleaning && self.node.spec.retired.is_some();
        let trigger = if is_kept { Trigger::Manage } else { Trigger::Done };
        moved(state, trigger).into_iter().collect()
    }

    fn failed(&self, state: &State, reason: &str, message: &str) -> Vec<Event> {
        let mut events = vec![Event::StepFailed {
            index: self.index,
            step: self.step.step.to_string(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }];
        events.extend(self.moved(Trigger::Fail));
        // A machine that was touched is not left running half a deployment.
        if self.plan.occupies_machine() && self.step.step != Step::PrepareImage {
            events.push(power_off(state));
        }
        events
    }

    /// Why a result that a conductor calls a success is none.
    fn refusal(&self, result: &StepResult) -> Option<(&'static str, String)> {
        let StepResult::Image(image) = result else { return None };
        let disks = &self.node.inventory.as_ref()?.disks;
        let largest = disks.iter().max_by_key(|disk| disk.size_bytes)?;
        (image.raw_size_bytes > largest.size_bytes).then(|| {
            ("IMAGE_LARGER_THAN_DISK", too_large(image, &largest.name, largest.size_bytes))
        })
    }

    fn moved(&self, trigger: Trigger) -> Option<Event> {
        let mut event = moved(self.node.provision.state, trigger)?;
        // The state alone does not tell what a cleaning leads to.
        if let Event::ProvisionStateChanged { target: Some(target), .. } = &mut event
            && self.plan.kind == PlanKind::ManualClean
        {
            *target = ProvisionState::Manageable;
        }
        Some(event)
    }
}

/// What was put on the machine is nothing that the next user should get.
fn instance_info_cleared(node: &Node) -> Option<Event> {
    if node.spec.instance_info.is_empty() {
        return None;
    }
    let spec = NodeSpec { instance_info: JsonMap::new(), ..node.spec.clone() };
    Some(Event::NodeUpdated { name: node.name.clone(), spec: Box::new(spec) })
}

fn too_large(image: &ResolvedImage, disk: &str, disk_bytes: u64) -> String {
    format!(
        "the image is {} bytes, larger than the largest disk, {disk} with {disk_bytes} bytes; \
         choose a smaller image or another node",
        image.raw_size_bytes
    )
}

/// The inventory has an event of its own; it is not stored twice.
fn recorded(result: &StepResult) -> StepResult {
    match result {
        StepResult::Agent(_) => StepResult::Done,
        StepResult::Done
        | StepResult::Power(_)
        | StepResult::Image(_)
        | StepResult::Written(_)
        | StepResult::Erased(_)
        | StepResult::ErasedDevices(_)
        | StepResult::Plugin(_)
        | StepResult::Pinned(_)
        | StepResult::Installed(_) => result.clone(),
    }
}

fn moved(from: ProvisionState, trigger: Trigger) -> Option<Event> {
    let to = from.after(trigger)?;
    Some(Event::ProvisionStateChanged { from, to, trigger, target: to.target() })
}
