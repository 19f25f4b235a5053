//! A step fails only because of what the simulation broke for good, or because its whole limit has passed.
//!
//! Why: a deployment survives the death of anything; one that fails because a process died, a message was late or a
//! clock jumped is what this project exists to end.

use std::collections::BTreeMap;
use std::time::Duration;

use bessemer_domain::ids::NodeId;
use bessemer_domain::{Event, SealedEvent, Subject};

use super::{Verdict, Violation};
use crate::clock::CLOCK_OFF_MAX;

const NAME: &str = "failures_have_a_cause";

/// When the step in progress of each node was begun first, by nobody's clock, and how long it may take.
#[derive(Debug, Default)]
pub(crate) struct FailuresHaveACause {
    begun: BTreeMap<NodeId, (usize, Duration, Duration)>,
}

impl FailuresHaveACause {
    pub(crate) fn happened(&mut self, now: Duration, event: &SealedEvent) -> Verdict {
        let Subject::Node(node) = event.record.subject else { return Ok(()) };
        match &event.record.event {
            Event::StepStarted { index, attempt: 1, until, .. } => {
                self.begun.insert(node, (*index, now, until.since(event.record.at)));
                Ok(())
            }
            Event::StepFailed { reason, .. } if reason == "IMAGE_CHECKSUM_MISMATCH" => Ok(()),
            Event::StepFailed { index, reason, step, .. } if reason == "TIMED_OUT" => {
                let known = self.begun.get(&node).filter(|(begun, ..)| begun == index);
                let is_early = known.is_none_or(|(_, since, limit)| {
                    now.saturating_sub(*since) + CLOCK_OFF_MAX * 2 < *limit
                });
                if is_early {
                    let what =
                        format!("node {node}: {step} was given up early: {known:?}, now {now:?}");
                    return Err(Violation::new(NAME, what));
                }
                Ok(())
            }
            Event::StepFailed { reason, message, step, .. } => {
                let what = format!("node {node}: {step} failed with {reason}: {message}");
                Err(Violation::new(NAME, what))
            }
            _ => Ok(()),
        }
    }
}
