//! What a conductor has in progress against what the state asks for.
//!
//! Level-triggered: whenever a node, the ring or the lease changed, the two are compared, and the difference is started
//! or stopped. Decides only; the conductor carries it out.

use std::collections::BTreeMap;

use crate::State;
use crate::effects::{Effect, effect};
use crate::ids::{ConductorId, Incarnation, NodeId, PlanId};
use crate::node::{Node, Step, StepStatus};
use crate::turn::{AtOnce, Place, Turns, Wish};

/// Tells two runs of work apart, also for the same effect.
pub type RunId = u64;

/// The work in progress on a conductor's nodes.
#[derive(Debug)]
pub struct Workload {
    conductor: ConductorId,
    incarnation: Incarnation,
    running: BTreeMap<NodeId, (RunId, Effect)>,
    turns: Turns,
    next: RunId,
    /// As of the last look at it.
    holds_lease: bool,
}

/// What has to be done for a node, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Stop this run.
    pub stop: Option<RunId>,
    /// Tell the agent that this task is no longer wanted by anybody.
    pub cancel: Option<UnwantedTask>,
    /// End the agent's session: another conductor drives the node.
    pub end_session: bool,
    /// Begin this run.
    pub begin: Option<(RunId, Effect)>,
    /// Reconsider this node: its turn has come.
    pub next: Option<NodeId>,
}

/// A step's task that its plan no longer asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct UnwantedTask {
    /// Epoch of the claim under which it was given.
    pub epoch: u64,
    /// The plan.
    pub plan: PlanId,
    /// The step's place in it.
    pub index: usize,
}

impl Workload {
    /// Nothing in progress yet, for one life of a conductor.
    #[must_use]
    pub const fn new(conductor: ConductorId, incarnation: Incarnation, at_once: AtOnce) -> Self {
        Self {
            conductor,
            incarnation,
            running: BTreeMap::new(),
            turns: Turns::new(at_once),
            next: 0,
            holds_lease: false,
        }
    }

    /// The nodes that wait for their turn: the first `limit` of each line, in order.
    pub fn places(&self, limit: usize) -> impl Iterator<Item = Place> {
        self.turns.places(limit)
    }

    /// The nodes on which work is in progress or waits for its turn; some twice.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.running.keys().copied().chain(self.turns.nodes())
    }

    /// Notes whether the lease is held now; to be called before nodes are reconsidered, whatever the reason. Whether all
    /// of them must be: a lease that was lost and is back again between two beats has left its mark on some.
    pub fn note_lease(&mut self, is_held: bool) -> bool {
        std::mem::replace(&mut self.holds_lease, is_held) != is_held
    }

    /// Compares what the state asks for with what is in progress, and takes the difference for done. While the lease is
    /// not held, nothing may be in progress: another conductor may be at the same node.
    pub fn reconsider(&mut self, state: &State, id: NodeId) -> Difference {
        let node = state.node(id);
        let wanted = node
            .filter(|_| self.holds_lease)
            .and_then(|node| effect(state, node, &self.conductor, self.incarnation));
        let (has_turn, next) = self.turns.ask(id, wish(node, wanted.as_ref()));
        let wanted = wanted.filter(|effect| has_turn || !matches!(effect, Effect::RunStep { .. }));
        let mut difference = Difference { next, ..Difference::default() };
        if self.running.get(&id).map(|(_, effect)| effect) == wanted.as_ref() {
            return difference;
        }
        if let Some((run, stopped)) = self.running.remove(&id) {
            difference.stop = Some(run);
            if let Effect::RunStep { epoch, plan, index, .. } = stopped
                && node.and_then(|node| node.current_step()).is_none_or(|(now, ..)| now.id != plan)
            {
                difference.cancel = Some(UnwantedTask { epoch, plan, index });
            }
        }
        difference.end_session = node.is_none_or(|node| state.owner(node) != Some(&self.conductor));
        difference.begin = wanted.map(|effect| {
            self.next += 1;
            self.running.insert(id, (self.next, effect.clone()));
            (self.next, effect)
        });
        difference
    }

    /// Work ended by itself. Whether the node has to be reconsidered: its report is in the state by now, and if the
    /// state still asks for the same, it failed to report and is begun again.
    pub fn ended(&mut self, node: NodeId, run: RunId) -> bool {
        let is_current = self.running.get(&node).is_some_and(|(current, _)| *current == run);
        if is_current {
            self.running.remove(&node);
        }
        is_current
    }
}

/// What the node needs a turn for. A change of power in the middle of a plan does not cost it its turn.
fn wish<'a>(node: Option<&'a Node>, wanted: Option<&Effect>) -> Option<Wish<'a>> {
    let node = node?;
    match wanted? {
        Effect::RunStep { .. } | Effect::SetPower { .. } => {}
        Effect::Claim | Effect::Release { .. } => return None,
    }
    let (plan, index, planned) = node.current_step()?;
    // Others need not wait for the person that it waits for.
    if matches!(planned.step, Step::Hold(_)) && planned.status != StepStatus::Pending {
        return None;
    }
    let is_begun = index > 0 || planned.status != StepStatus::Pending;
    Some(Wish { plan: plan.id, kind: plan.kind, owner: &node.spec.owner, is_begun })
}
