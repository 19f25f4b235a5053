//! Where steps stand: in bytes, or in line. Soft state: it goes to the API with the heartbeat and is gone with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bessemer_domain::ids::NodeId;
use bessemer_proto::v1::{NodeProgress, Progress};

/// The newest progress of each node that has any.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProgressBoard {
    boards: Arc<Mutex<Boards>>,
}

#[derive(Debug, Default)]
struct Boards {
    running: HashMap<NodeId, Progress>,
    waiting: HashMap<NodeId, Progress>,
}

impl ProgressBoard {
    /// Notes where a node's step stands now.
    pub(crate) fn note(&self, node: NodeId, progress: Progress) {
        let progress = Progress { at: Some(SystemTime::now().into()), ..progress };
        self.lock().running.insert(node, progress);
    }

    /// Bytes that a node's step has done and received so far; none while it does not tell.
    pub(crate) fn bytes(&self, node: NodeId) -> Option<(u64, u64)> {
        self.lock().running.get(&node).map(|progress| (progress.done_bytes, progress.wire_bytes))
    }

    /// Forgets a node whose step is over.
    pub(crate) fn clear(&self, node: NodeId) {
        self.lock().running.remove(&node);
    }

    /// Notes who waits in line now.
    pub(crate) fn note_waiting(&self, waiting: HashMap<NodeId, Progress>) {
        self.lock().waiting = waiting;
    }

    /// All there is, for the heartbeat.
    pub(crate) fn all(&self) -> Vec<NodeProgress> {
        let boards = self.lock();
        boards
            .running
            .iter()
            .chain(&boards.waiting)
            .map(|(node, progress)| NodeProgress {
                node_id: node.to_string(),
                progress: Some(progress.clone()),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Boards> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
