//! Room for frames, which bounds the agent's memory: whoever has a slot may fetch one frame, or hand in one job.

use std::sync::{Arc, Mutex, PoisonError};

use bessemer_image::pack::MAX_FRAME_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames that are fetched, queued or being written. Twelve of at most 1 MiB keep the threads busy while the network
/// pauses, and keep the agent well below its 64 MiB.
pub(super) const SLOTS: usize = 12;

/// All slots. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Room for one frame; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) frame: Vec<u8>,
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(SLOTS)), frames: Arc::default() }
    }

    /// A slot, as soon as one is free.
    pub(super) async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        self.slot(permit.expect("nobody closes it"))
    }

    /// A slot, if one is free.
    pub(super) fn try_take(&self) -> Option<Slot> {
        Some(self.slot(Arc::clone(&self.free).try_acquire_owned().ok()?))
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        let used = self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let frame = used.unwrap_or_else(|| Vec::with_capacity(MAX_FRAME_BYTES));
        Slot { frame, frames: Arc::clone(&self.frames), _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}
