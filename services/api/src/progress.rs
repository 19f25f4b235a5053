//! Where steps stand: soft state, from the conductors' heartbeats. Time is given, never read.

use std::collections::HashMap;
use std::time::Duration;

use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{PlanKind, StepStatus};
use bessemer_proto::v1;
use tokio::time::Instant;

/// Progress that is older says nothing any more: conductors send it every second.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// The newest progress of each node that has any. Holds only nodes that exist, so it is bounded by their number.
#[derive(Debug, Default)]
pub(crate) struct ProgressTable {
    by_node: HashMap<NodeId, (v1::Progress, Instant)>,
}

impl ProgressTable {
    /// Notes what a heartbeat carried, and drops what is stale.
    pub(crate) fn note(
        &mut self,
        progress: impl Iterator<Item = (NodeId, v1::Progress)>,
        at: Instant,
    ) {
        self.by_node.retain(|_, (_, heard)| at.duration_since(*heard) < STALE_AFTER);
        self.by_node.extend(progress.map(|(node, progress)| (node, (progress, at))));
    }

    /// Where the node's step stands, unless what is known is stale or about another step.
    pub(crate) fn of(&self, node: NodeId, step: &str, now: Instant) -> Option<v1::Progress> {
        let (progress, heard) = self.by_node.get(&node)?;
        let current = progress.step == step && now.duration_since(*heard) < STALE_AFTER;
        current.then(|| progress.clone())
    }
}

/// Puts where the step stands into its node's status.
pub(crate) fn tell(
    status: &mut v1::NodeStatus,
    kind: PlanKind,
    step: &StepStatus,
    progress: Option<v1::Progress>,
) {
    match step {
        StepStatus::Running { started_at, .. } => {
            // A deployment before this one may have had the same step a moment ago.
            status.progress = progress.filter(|progress| {
                let at = progress.at.as_ref().map(bessemer_wire::time::from_proto);
                progress.turn.is_none() && at.is_none_or(|at| at >= *started_at)
            });
        }
        StepStatus::Pending => {
            status.progress = progress.filter(|progress| progress.turn.is_some());
            let turn = status.progress.as_ref().and_then(|progress| progress.turn);
            if let (Some(turn), Some(waiting_on)) = (turn, &mut status.waiting_on) {
                waiting_on.what = format!(
                    "its turn, place {} of {} in line: conductor {} does {} {kind}s at once",
                    turn.position, turn.waiting, status.conductor, turn.at_once
                );
            }
        }
        StepStatus::Done { .. } | StepStatus::Failed { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_fresh_progress_of_the_running_step_is_told() {
        let (mut table, start) = (ProgressTable::default(), Instant::now());
        let node = NodeId::new(Uuid::from_u128(1));
        let progress =
            v1::Progress { step: "deploy.write_image".into(), done_bytes: 7, ..Default::default() };
        table.note([(node, progress.clone())].into_iter(), start);
        assert_eq!(table.of(node, "deploy.write_image", start), Some(progress));
        assert_eq!(table.of(node, "deploy.tear_down_agent", start), None);
        assert_eq!(table.of(node, "deploy.write_image", start + STALE_AFTER), None);
        table.note(std::iter::empty(), start + STALE_AFTER);
        assert!(table.by_node.is_empty());
    }
}
