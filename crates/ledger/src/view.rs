//! What a member shows of what it has applied.
//!
//! The state is changed where it stands, so that a command that nobody looks at costs no copies. Whoever only looks does so
//! while applying waits, and must be brief; whoever needs longer takes a copy, which is cheap by itself, but has what is
//! applied next copy whatever it changes.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bessemer_domain::State;
use tokio::sync::watch;

use crate::raft::LogId;

/// How far a member has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reached {
    /// The newest applied entry.
    pub(crate) last_applied: Option<LogId>,
    /// Whether the cluster has its identity.
    pub(crate) is_named: bool,
}

impl Reached {
    /// Whether the entry at `index` has been applied.
    pub(crate) fn covers(&self, index: u64) -> bool {
        self.last_applied.is_some_and(|applied| applied.index >= index)
    }
}

/// The state as of the newest applied entry, to look at. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    state: Arc<RwLock<State>>,
    reached: watch::Receiver<Reached>,
}

/// The same, to change.
#[derive(Debug)]
pub(crate) struct Shown {
    state: Arc<RwLock<State>>,
    reached: watch::Sender<Reached>,
}

impl Shown {
    pub(crate) fn new() -> (Self, View) {
        let state = Arc::<RwLock<State>>::default();
        let (sender, reached) = watch::channel(Reached::default());
        let view = View { state: Arc::clone(&state), reached };
        (Self { state, reached: sender }, view)
    }

    /// A panic while it was changed ends the member; until then what is there is shown.
    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait that the state is that after `last_applied` now.
    pub(crate) fn tell(&self, last_applied: Option<LogId>) {
        let is_named = self.state().cluster_id().is_some();
        self.reached.send_replace(Reached { last_applied, is_named });
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Looks at the state. Applying waits meanwhile.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of the state.
    pub(crate) fn state(&self) -> State {
        self.look(State::clone)
    }

    /// How far the member has got.
    pub(crate) fn reached(&self) -> Reached {
        *self.reached.borrow()
    }

    /// Waits until the member has got so far. Whether it did: it may stop before.
    pub(crate) async fn until(&self, so_far: impl FnMut(&Reached) -> bool) -> bool {
        self.reached.clone().wait_for(so_far).await.is_ok()
    }
}
