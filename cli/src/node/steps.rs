//! A node's plan as lines: which steps are done, which one runs and how far it is. Pure.

use std::time::SystemTime;

use bessemer_proto::v1::{Node, NodeStatus, Progress, Step, StepState};
use console::style;

use crate::output::quantity;
use crate::progress::{Plain, Transfer};

/// Cells of a step's bar.
const BAR_WIDTH: usize = 24;

/// The bytes of the running step, when they are of this step.
pub(crate) fn transfer(status: &NodeStatus) -> Option<Transfer> {
    let step = running(status)?;
    let progress = status
        .progress
        .as_ref()
        .filter(|progress| progress.turn.is_none() && is_of(progress, step))
        // A step that only says what it does.
        .filter(|progress| progress.total_bytes > 0 || progress.message.is_empty())?;
    Some(Transfer {
        done_bytes: progress.done_bytes,
        total_bytes: progress.total_bytes,
        bytes_per_second: progress.bytes_per_second,
    })
}

/// The step in progress, or the next one.
pub(crate) fn running(status: &NodeStatus) -> Option<&Step> {
    if status.target_provision_state.is_empty() {
        return None;
    }
    let steps = &status.plan.as_ref()?.steps;
    steps.iter().find(|step| step.state() != StepState::Done)
}

/// Progress names its step with or without the interface.
fn is_of(progress: &Progress, step: &Step) -> bool {
    progress.step == step.name || progress.step == full_name(step)
}

/// `deploy.write_image`.
pub(crate) fn full_name(step: &Step) -> String {
    format!("{}.{}", step.interface, step.name)
}

/// The node and its plan, to be drawn in place.
pub(crate) fn live(node: &Node, now: SystemTime) -> Vec<String> {
    let unknown = NodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&unknown);
    let mut lines = vec![heading(node, status)];
    for step in status.plan.iter().flat_map(|plan| &plan.steps) {
        lines.push(step_line(step, status, now));
    }
    if let Some(waiting) = &status.waiting_on {
        let since = quantity::elapsed(waiting.since.as_ref(), now).unwrap_or_default();
        let mut line =
            format!("  waiting for {}, {} so far", waiting.what, quantity::duration(since));
        if waiting.until.is_some() {
            line += &format!(", until {} at most", quantity::instant(waiting.until.as_ref()));
        }
        lines.push(style(line).dim().for_stderr().to_string());
    }
    if let Some(message) = message(status) {
        lines.push(style(format!("  {message}")).dim().for_stderr().to_string());
    }
    lines
}

/// What the running step says of itself.
fn message(status: &NodeStatus) -> Option<&str> {
    let (step, progress) = (running(status)?, status.progress.as_ref()?);
    (is_of(progress, step) && !progress.message.is_empty()).then_some(&*progress.message)
}

fn heading(node: &Node, status: &NodeStatus) -> String {
    let name = style(super::label(node)).bold().for_stderr();
    if status.target_provision_state.is_empty() {
        return format!("{name}  {}", status.provision_state);
    }
    format!("{name}  {} → {}", status.provision_state, status.target_provision_state)
}

fn step_line(step: &Step, status: &NodeStatus, now: SystemTime) -> String {
    let name = full_name(step);
    let (mark, took) = match step.state() {
        StepState::Done => (
            style("✓").green(),
            quantity::between(step.started_at.as_ref(), step.finished_at.as_ref()),
        ),
        StepState::Failed => (
            style("✗").red(),
            quantity::between(step.started_at.as_ref(), step.finished_at.as_ref()),
        ),
        StepState::Running => (style("▸").cyan(), quantity::elapsed(step.started_at.as_ref(), now)),
        StepState::Pending | StepState::Unspecified => (style("·").dim(), None),
    };
    let took = took.map(quantity::duration).unwrap_or_default();
    let mut line = format!("  {} {name:<32} {took:>7}", mark.for_stderr());
    if step.attempt > 1 {
        line += &format!("  attempt {}", step.attempt);
    }
    if step.state() == StepState::Running
        && let Some(transfer) = transfer(status)
    {
        line += &format!("  {}", transfer.line(BAR_WIDTH));
    }
    line.trim_end().to_owned()
}

/// The node's stage and figures, where nothing can be drawn in place.
pub(crate) fn plain(node: &Node) -> Plain {
    let unknown = NodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&unknown);
    let mut stage = status.provision_state.clone();
    if let Some(step) = running(status) {
        stage += &format!(", {}", full_name(step));
    }
    let figures = match (transfer(status), &status.waiting_on) {
        (Some(transfer), _) => transfer.figures(),
        (None, Some(waiting)) => match message(status) {
            Some(message) => message.to_owned(),
            None => format!("waiting for {}", waiting.what),
        },
        (None, None) => String::new(),
    };
    Plain { about: super::label(node).to_owned(), stage, figures }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bessemer_proto::v1::{Metadata, Plan, WaitingOn};
    use prost_types::Timestamp;

    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn step(name: &str, state: StepState, from: Option<i64>, to: Option<i64>) -> Step {
        Step {
            interface: "deploy".into(),
            name: name.into(),
            state: state.into(),
            attempt: 1,
            started_at: from.and_then(at),
            finished_at: to.and_then(at),
            ..Step::default()
        }
    }

    fn writing() -> Node {
        const MIB: u64 = 1024 * 1024;
        Node {
            metadata: Some(Metadata { name: "m1".into(), ..Metadata::default() }),
            status: Some(NodeStatus {
                provision_state: "wait call-back".into(),
                target_provision_state: "active".into(),
                plan: Some(Plan {
                    steps: vec![
                        step("deploy", StepState::Done, Some(100), Some(102)),
                        step("write_image", StepState::Running, Some(102), None),
                        step("write_configdrive", StepState::Pending, None, None),
                    ],
                    ..Plan::default()
                }),
                progress: Some(Progress {
                    step: "write_image".into(),
                    done_bytes: 512 * MIB,
                    total_bytes: 1024 * MIB,
                    bytes_per_second: 256 * MIB,
                    ..Progress::default()
                }),
                waiting_on: Some(WaitingOn {
                    what: "the agent to write the image".into(),
                    since: at(102),
                    until: at(3702),
                }),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn a_plan_is_one_line_a_step_and_says_what_is_waited_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(105);
        let lines = live(&writing(), now);
        let plain: Vec<_> =
            lines.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(
            plain,
            [
                "m1  wait call-back → active",
                "  ✓ deploy.deploy                       2.0s",
                "  ▸ deploy.write_image                  3.0s  ━━━━━━━━━━━━────────────   50%  \
                 512 MiB / 1.0 GiB  256 MiB/s  eta 2.0s",
                "  · deploy.write_configdrive",
                "  waiting for the agent to write the image, 3.0s so far, until \
                 1970-01-01T01:01:42Z at most",
            ]
        );
    }

    #[test]
    fn figures_of_another_step_are_not_shown() {
        let mut node = writing();
        node.status.as_mut().unwrap().progress.as_mut().unwrap().step = "prepare_image".into();
        assert_eq!(transfer(node.status.as_ref().unwrap()), None);
        assert_eq!(
            plain(&node),
            Plain {
                about: "m1".into(),
                stage: "wait call-back, deploy.write_image".into(),
                figures: "waiting for the agent to write the image".into(),
            }
        );
    }

    #[test]
    fn a_node_at_rest_has_no_running_step() {
        let mut node = writing();
        node.status.as_mut().unwrap().target_provision_state.clear();
        assert_eq!(running(node.status.as_ref().unwrap()), None);
    }
}
