//! This conductor's copy of the replicated state, and whoever waits for it.

use bessemer_domain::{Revision, State};
use tokio::sync::watch;

/// The newest state that this conductor knows.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    state: watch::Receiver<State>,
}

impl Replica {
    pub(crate) const fn new(state: watch::Receiver<State>) -> Self {
        Self { state }
    }

    /// The state as known now.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until the copy has come as far as `revision`, so that what follows sees its own writes.
    pub(crate) async fn reached(&self, revision: Revision) {
        self.until(|state| (state.tip().revision >= revision).then_some(())).await;
    }

    /// Waits until `found` finds what it looks for. Never ends once the cluster is no longer followed.
    pub(crate) async fn until<T>(&self, mut found: impl FnMut(&State) -> Option<T>) -> T {
        let mut state = self.state.clone();
        loop {
            let outcome = found(&state.borrow_and_update());
            if let Some(outcome) = outcome {
                return outcome;
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
