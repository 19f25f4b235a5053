//! Whether what was asked of a node has come about. Pure: from the node as the API tells it.

use bessemer_proto::v1::{Node, NodeStatus, PowerState};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Rest in this provision state.
    State(&'static str),
    /// Rest in whatever state; the work was to be stopped.
    Rest,
    /// Power as it was asked for.
    Power {
        /// To be in this state.
        state: PowerState,
        /// The node's last error before it was asked; the same one afterwards is an old one.
        error_before: String,
    },
}

/// Where the node stands towards a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On its way.
    Pending,
    /// There.
    Reached,
    /// At rest, and not there.
    Failed {
        /// What the node says went wrong, or where it went instead.
        message: String,
        /// A way out.
        hint: String,
    },
}

impl Goal {
    /// Judges a node that was read after the request was accepted.
    pub(crate) fn verdict(&self, node: &Node) -> Verdict {
        let unknown = NodeStatus::default();
        let status = node.status.as_ref().unwrap_or(&unknown);
        match self {
            Self::State(_) | Self::Rest if !status.target_provision_state.is_empty() => {
                Verdict::Pending
            }
            Self::Power { .. } if status.target_power_state() != PowerState::Unspecified => {
                Verdict::Pending
            }
            Self::State(goal) if status.provision_state != *goal => failed(node, status, goal),
            Self::Power { state, error_before } if power_failed(status, *state, error_before) => {
                let power = power_word(status.power_state());
                Verdict::Failed {
                    message: or_else(&status.last_error, || format!("power is {power}")),
                    hint: history_hint(node),
                }
            }
            Self::State(_) | Self::Rest | Self::Power { .. } => Verdict::Reached,
        }
    }
}

/// A reboot that failed leaves the power on, as asked: only a new error tells.
fn power_failed(status: &NodeStatus, goal: PowerState, error_before: &str) -> bool {
    status.power_state() != goal
        || (!status.last_error.is_empty() && status.last_error != error_before)
}

fn failed(node: &Node, status: &NodeStatus, goal: &str) -> Verdict {
    let state = &status.provision_state;
    let message = or_else(&status.last_error, || format!("it went to `{state}`, not to `{goal}`"));
    let name = super::label(node);
    let hint = match state.as_str() {
        "deploy failed" => format!(
            "mend the cause, then `bessemer node rebuild {name}` repeats the deployment and \
             `bessemer node undeploy {name}` gives it up; `bessemer node history {name}` tells what happened"
        ),
        "clean failed" => format!(
            "mend the cause, then `bessemer node manage {name}` and `bessemer node provide {name}`; \
             `bessemer node history {name}` tells what happened"
        ),
        "service failed" => format!(
            "mend the cause, then `bessemer node service {name}` does other steps and `bessemer node abort {name}` boots its own \
             system again"
        ),
        "rescue failed" | "unrescue failed" => format!(
            "`bessemer node unrescue {name}` boots its own system again; `bessemer node history {name}` tells what happened"
        ),
        "enroll" => format!(
            "check driver and driver_info (`bessemer node show {name}`), then `bessemer node manage {name}`"
        ),
        _ => history_hint(node),
    };
    Verdict::Failed { message, hint }
}

fn history_hint(node: &Node) -> String {
    format!("`bessemer node history {}` tells what happened", super::label(node))
}

fn or_else(text: &str, otherwise: impl FnOnce() -> String) -> String {
    if text.is_empty() { otherwise() } else { text.to_owned() }
}

/// `on`, `off`, or nothing while it is not known.
pub(crate) fn power_word(power: PowerState) -> &'static str {
    match power {
        PowerState::Unspecified => "",
        PowerState::On => "on",
        PowerState::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use bessemer_proto::v1::Metadata;

    use super::*;

    fn node(state: &str, target: &str, error: &str) -> Node {
        Node {
            metadata: Some(Metadata { name: "m1".into(), ..Metadata::default() }),
            status: Some(NodeStatus {
                provision_state: state.into(),
                target_provision_state: target.into(),
                last_error: error.into(),
                power_state: PowerState::On.into(),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    fn message(verdict: Verdict) -> String {
        match verdict {
            Verdict::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_on_its_way_is_waited_for_whatever_it_said_before() {
        let goal = Goal::State("active");
        assert_eq!(goal.verdict(&node("deploying", "active", "")), Verdict::Pending);
        assert_eq!(goal.verdict(&node("wait call-back", "active", "old")), Verdict::Pending);
        assert_eq!(Goal::Rest.verdict(&node("cleaning", "available", "")), Verdict::Pending);
    }

    #[test]
    fn the_state_asked_for_is_the_goal() {
        assert_eq!(Goal::State("active").verdict(&node("active", "", "")), Verdict::Reached);
        assert_eq!(Goal::Rest.verdict(&node("deploy failed", "", "stopped")), Verdict::Reached);
    }

    #[test]
    fn another_resting_state_is_a_failure_with_its_reason() {
        let goal = Goal::State("active");
        let verdict = goal.verdict(&node("deploy failed", "", "checksum is wrong"));
        assert_eq!(message(verdict), "checksum is wrong");
        let verdict = goal.verdict(&node("available", "", ""));
        assert_eq!(message(verdict), "it went to `available`, not to `active`");
    }

    #[test]
    fn power_is_reached_when_nothing_is_asked_of_it_any_more() {
        let power = |state| Goal::Power { state, error_before: "old".into() };
        let mut node = node("active", "", "old");
        assert_eq!(power(PowerState::On).verdict(&node), Verdict::Reached);
        assert_eq!(message(power(PowerState::Off).verdict(&node)), "old");
        let status = node.status.as_mut().unwrap();
        status.target_power_state = PowerState::Off.into();
        assert_eq!(power(PowerState::Off).verdict(&node), Verdict::Pending);
    }

    #[test]
    fn a_reboot_that_failed_is_told_by_its_new_error() {
        let goal = Goal::Power { state: PowerState::On, error_before: String::new() };
        assert_eq!(message(goal.verdict(&node("active", "", "no answer"))), "no answer");
    }
}
