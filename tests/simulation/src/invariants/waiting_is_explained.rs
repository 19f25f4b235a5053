//! A node that is on its way has a step, says what it waits for, and has a deadline once the step has begun.
//!
//! Why: "stuck in wait call-back since Tuesday" is Ironic's best known failure. Nobody can act on a node that says nothing.

use bessemer_domain::effects::waiting_on;
use bessemer_domain::node::{Node, StepStatus};
use bessemer_domain::{State, Subject};

use super::{Verdict, Violation};

const NAME: &str = "waiting_is_explained";

/// Judges nodes.
#[derive(Debug, Default)]
pub(crate) struct WaitingIsExplained;

impl WaitingIsExplained {
    /// Judges what an event about `subject` may have changed.
    pub(crate) fn judge(&self, state: &State, subject: &Subject) -> Verdict {
        match subject {
            Subject::Node(id) => state.node(*id).map_or(Ok(()), |node| explained(state, node)),
            Subject::Conductor(_) => state.nodes().try_for_each(|node| explained(state, node)),
            Subject::Cluster | Subject::Port(_) | Subject::Allocation(_) | Subject::Template(_) => {
                Ok(())
            }
        }
    }
}

fn explained(state: &State, node: &Node) -> Verdict {
    let broken = |what: &str| {
        let (node, state) = (node.id, node.provision.state);
        Err(Violation::new(NAME, format!("node {node} in `{state}` {what}")))
    };
    if !node.provision.state.is_transient() {
        return Ok(());
    }
    let Some((_, _, planned)) = node.current_step() else { return broken("has no step") };
    let Some(waiting) = waiting_on(state, node).filter(|waiting| !waiting.what.is_empty()) else {
        return broken("does not say what it waits for");
    };
    let is_driven = node.maintenance.is_none()
        && state.claimant(node).is_some_and(|claimant| state.owner(node) == Some(claimant));
    let is_begun = matches!(planned.status, StepStatus::Running { .. });
    if is_driven && is_begun && waiting.until.is_none() {
        return broken("has begun a step that has no deadline");
    }
    Ok(())
}
