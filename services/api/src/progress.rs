//! Where running steps stand: soft state, from the conductors' heartbeats. Time is given, never read.

use std::collections::HashMap;
use std::time::Duration;

use bessemer_domain::ids::NodeId;
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
