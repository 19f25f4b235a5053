//! What must be happening in the world for a state. Level-triggered: derived from the state alone, so a conductor that
//! takes over computes what its predecessor was doing.

use std::time::Duration;

use crate::ids::{ConductorId, Incarnation, NodeId, PlanId};
use crate::node::{Node, PowerTarget, Step, StepStatus};
use crate::{State, Timestamp};

/// Work on a node that its owner must have in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Take the node before anything else.
    Claim,
    /// Let go of the node: the ring has given it to another conductor, which waits for that.
    Release {
        /// Epoch of the claim.
        epoch: u64,
    },
    /// Do a step of its plan.
    RunStep {
        /// Epoch of the claim.
        epoch: u64,
        /// The plan.
        plan: PlanId,
        /// Place of the step in it.
        index: usize,
        /// The step.
        step: Step,
    },
    /// Change its power.
    SetPower {
        /// Epoch of the claim.
        epoch: u64,
        /// To what.
        target: PowerTarget,
        /// When it was asked for; tells two requests apart.
        requested_at: Timestamp,
        /// When it is given up.
        until: Timestamp,
    },
}

/// What `conductor` must be doing for `node` now; none when the node is at rest, or another's.
#[must_use]
pub fn effect(
    state: &State,
    node: &Node,
    conductor: &ConductorId,
    incarnation: Incarnation,
) -> Option<Effect> {
    if node.maintenance.is_some() {
        return None;
    }
    let work = work(node)?;
    let is_owner = state.owner(node) == Some(conductor);
    let held = node.claim.as_ref().filter(|claim| claim.is_held_by(conductor, incarnation));
    match held {
        Some(_) if is_owner => Some(work),
        // Nobody waits for a conductor that is not online.
        Some(claim) => state.claimant(node).map(|_| Effect::Release { epoch: claim.epoch }),
        None => (is_owner && state.claimant(node).is_none()).then_some(Effect::Claim),
    }
}

/// What must be happening for a node, whoever does it. A power change asked for comes before the plan's next step.
fn work(node: &Node) -> Option<Effect> {
    let epoch = node.epoch();
    if let Some(request) = &node.power.request {
        return Some(Effect::SetPower {
            epoch,
            target: request.target,
            requested_at: request.since,
            until: request.until,
        });
    }
    let (plan, index, planned) = node.current_step()?;
    Some(Effect::RunStep { epoch, plan: plan.id, index, step: planned.step.clone() })
}

/// The conductor that has to let go of the node, because another one is to go on with its work, or nobody.
#[must_use]
pub fn must_let_go<'a>(state: &'a State, node: &Node) -> Option<&'a ConductorId> {
    work(node).filter(|_| node.maintenance.is_none())?;
    state.claimant(node).filter(|claimant| state.owner(node) != Some(claimant))
}

/// Why a node is not moving, in an operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingOn {
    /// What it waits for.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// When the wait is given up; none when nothing bounds it.
    pub until: Option<Timestamp>,
}

/// What a node waits for; none when it is at rest.
#[must_use]
pub fn waiting_on(state: &State, node: &Node) -> Option<WaitingOn> {
    let work = work(node)?;
    let since = node.provision.since;
    if let Some(maintenance) = &node.maintenance {
        let what = format!("the end of maintenance ({})", maintenance.reason);
        return Some(WaitingOn { what, since: maintenance.since, until: None });
    }
    let Some(owner) = state.owner(node) else {
        let what = format!(
            "a conductor of group `{}` with hardware type `{}` to be online and not draining",
            node.spec.conductor_group, node.spec.driver
        );
        return Some(WaitingOn { what, since, until: None });
    };
    let claimant = state.claimant(node);
    if claimant != Some(owner) {
        let what = claimant.map_or_else(
            || format!("conductor {owner} to claim it"),
            |holder| format!("conductor {holder} to let go of it for {owner}"),
        );
        return Some(WaitingOn { what, since, until: None });
    }
    Some(match work {
        Effect::SetPower { target, requested_at, until, .. } => WaitingOn {
            what: format!("the BMC to carry out power {target}"),
            since: requested_at,
            until: Some(until),
        },
        Effect::RunStep { .. } | Effect::Claim | Effect::Release { .. } => {
            waiting_on_step(node, owner)?
        }
    })
}

fn waiting_on_step(node: &Node, owner: &ConductorId) -> Option<WaitingOn> {
    let (_, _, planned) = node.current_step()?;
    Some(match planned.status {
        StepStatus::Running { started_at, until, .. } => WaitingOn {
            what: planned.step.waits_for().to_owned(),
            since: started_at,
            until: Some(until),
        },
        StepStatus::Pending | StepStatus::Done { .. } | StepStatus::Failed { .. } => WaitingOn {
            what: format!("conductor {owner} to begin {}", planned.step),
            since: node.updated_at,
            until: None,
        },
    })
}

/// How a conductor that begins a step finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// It was begun before: work may be half done.
    pub resume: bool,
    /// How long it may still take.
    pub left: Duration,
}

/// The step in progress as a conductor finds it that has just begun it; none when it has not begun.
#[must_use]
pub fn begun(node: &Node, now: Timestamp) -> Option<Begun> {
    let (_, _, planned) = node.current_step()?;
    match planned.status {
        StepStatus::Running { attempt, until, .. } => {
            Some(Begun { resume: attempt > 1, left: until.since(now) })
        }
        StepStatus::Pending | StepStatus::Done { .. } | StepStatus::Failed { .. } => None,
    }
}

/// The nodes whose work or owner an event may have changed: its own, or all when the ring moved.
#[must_use]
pub fn touched(subject: &crate::Subject) -> Touched {
    match subject {
        crate::Subject::Node(id) => Touched::Node(*id),
        crate::Subject::Conductor(_) => Touched::Every,
        crate::Subject::Cluster
        | crate::Subject::Port(_)
        | crate::Subject::Allocation(_)
        | crate::Subject::Template(_) => Touched::None,
    }
}

/// Which nodes' effects must be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// No node's.
    None,
    /// One node's.
    Node(NodeId),
    /// Every node's.
    Every,
}
