//! Power changes.

use std::time::Duration;

use super::Decision;
use crate::event::{Event, Subject};
use crate::node::POWER_CHANGE_LIMIT;
use crate::node::{Node, PowerState, PowerTarget};
use crate::{Invalid, Rejection, State};

/// Longest limit of a power change that may be asked for: a day.
const LIMIT_SECONDS_MAX: u32 = 24 * 60 * 60;

pub(super) fn request(
    state: &State,
    node: &Node,
    target: PowerTarget,
    limit_seconds: Option<u32>,
) -> Decision {
    if let Some((plan, _, step)) = node.current_step() {
        return Err(Rejection::Busy {
            node: node.label(),
            work: format!("plan {} at step {}", plan.kind, step.step),
            verb: format!("power {target}"),
        });
    }
    let limit = match limit_seconds {
        None => POWER_CHANGE_LIMIT,
        Some(seconds) if (1..=LIMIT_SECONDS_MAX).contains(&seconds) => {
            Duration::from_secs(seconds.into())
        }
        Some(seconds) => {
            let reason = format!("is not between 1 and {LIMIT_SECONDS_MAX}");
            return Err(Invalid::new("limit_seconds", &seconds.to_string(), reason).into());
        }
    };
    let until = state.now() + limit;
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
