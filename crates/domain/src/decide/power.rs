//! Power changes.

use super::Decision;
use crate::event::{Event, Subject};
use crate::node::POWER_CHANGE_LIMIT;
use crate::node::{Node, PowerState, PowerTarget};
use crate::{Rejection, State};

pub(super) fn request(state: &State, node: &Node, target: PowerTarget) -> Decision {
    if let Some((plan, _, step)) = node.current_step() {
        return Err(Rejection::Busy {
            node: node.label(),
            work: format!("plan {} at step {}", plan.kind, step.step),
            verb: format!("power {target}"),
        });
    }
    let until = state.now() + POWER_CHANGE_LIMIT;
    Ok(vec![(Subject::Node(node.id), Event::PowerRequested { target, until })])
}

/// A failure ends the request; a look that shows nothing new leaves no trace.
pub(super) fn report(node: &Node, result: &Result<PowerState, String>) -> Vec<(Subject, Event)> {
    let event = match result {
        Ok(state) => {
            if node.power.request.is_none() && node.power.state == Some(*state) {
                return Vec::new();
            }
            Event::PowerChanged { state: *state }
        }
        Err(message) => Event::PowerFailed { message: message.clone() },
    };
    vec![(Subject::Node(node.id), event)]
}
