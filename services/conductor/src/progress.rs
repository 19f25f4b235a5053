//! Where running steps stand, in bytes. Soft state: it goes to the API with the heartbeat and is gone with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bessemer_domain::ids::NodeId;
use bessemer_proto::v1::{NodeProgress, Progress};

/// The newest progress of each node that has any.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProgressBoard {
    by_node: Arc<Mutex<HashMap<NodeId, Progress>>>,
}

impl ProgressBoard {
    /// Notes where a node's step stands now.
    pub(crate) fn note(&self, node: NodeId, progress: Progress) {
        let progress = Progress { at: Some(SystemTime::now().into()), ..progress };
        self.lock().insert(node, progress);
    }

    /// Forgets a node whose step is over.
    pub(crate) fn clear(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// All there is, for the heartbeat.
    pub(crate) fn all(&self) -> Vec<NodeProgress> {
        self.lock()
            .iter()
            .map(|(node, progress)| NodeProgress {
                node_id: node.to_string(),
                progress: Some(progress.clone()),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Progress>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
