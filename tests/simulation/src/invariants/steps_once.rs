//! An agent does one task at a time, none that it has ended before, and none whose step has ended in the ledger.
//!
//! Why: a step that must not be repeated, a firmware update say, is safe only if "once" holds for every step. A step
//! that was cut off half way is begun again, and says so.

use std::collections::{BTreeMap, BTreeSet};

use bessemer_domain::ids::NodeId;
use bessemer_domain::task::task_id;
use bessemer_domain::{Event, SealedEvent, State, Subject};

use super::{Verdict, Violation};

const NAME: &str = "steps_once";

/// Tasks of agents and ends of steps.
#[derive(Debug, Default)]
pub(crate) struct StepsOnce {
    /// By node: what its agent does.
    running: BTreeMap<NodeId, String>,
    /// By node: what its agent has ended in this life.
    answered: BTreeMap<NodeId, BTreeSet<String>>,
    /// Tasks of steps that have ended.
    over: BTreeSet<String>,
}

impl StepsOnce {
    pub(crate) fn agent_started(&mut self, node: NodeId) {
        self.running.remove(&node);
        self.answered.remove(&node);
    }

    pub(crate) fn begun(&mut self, node: NodeId, task: &str) -> Verdict {
        let broken = |what: String| Err(Violation::new(NAME, format!("node {node}: {what}")));
        if self.over.contains(task) {
            return broken(format!("task {task} is begun, and its step has ended"));
        }
        if self.answered.get(&node).is_some_and(|answered| answered.contains(task)) {
            return broken(format!("task {task} is begun by an agent that has ended it before"));
        }
        match self.running.insert(node, task.to_owned()) {
            Some(other) => broken(format!("task {task} is begun while {other} runs")),
            None => Ok(()),
        }
    }

    pub(crate) fn ended(&mut self, node: NodeId, task: &str, is_final: bool) {
        self.running.remove(&node);
        if is_final {
            self.answered.entry(node).or_default().insert(task.to_owned());
        }
    }

    /// Notes the ends of steps; `state` is the one after the event's command, whose plan may be another one by now.
    pub(crate) fn happened(&mut self, state: &State, event: &SealedEvent) {
        let Subject::Node(node) = &event.record.subject else { return };
        let plan = state.node(*node).and_then(|node| node.plan.as_ref());
        if let (Event::StepCompleted { index, .. } | Event::StepFailed { index, .. }, Some(plan)) =
            (&event.record.event, plan)
        {
            self.over.insert(task_id(plan.id, *index));
        }
    }
}
