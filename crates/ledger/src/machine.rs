//! Applies the log: commands become events and state, on every member alike.

use std::io;
use std::sync::Arc;

use bessemer_domain::{SealedEvent, State, Tip};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::StoreError;
use crate::entry::{Applied, Batch};
use crate::raft::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::store::{SnapshotFile, Store};

/// Events that are stored, and then shown, at once. Bounds how long other tasks of the member wait for a processor.
const EVENTS_AT_ONCE_MAX: usize = 1024;

/// What a member shows of what it has applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The newest applied entry.
    pub(crate) last_applied: Option<LogId>,
    /// The state after it.
    pub(crate) state: State,
}

impl View {
    /// Whether the entry at `index` has been applied.
    pub(crate) fn covers(&self, index: u64) -> bool {
        self.last_applied.is_some_and(|applied| applied.index >= index)
    }
}

/// The replicated state machine of one member.
#[derive(Debug)]
pub(crate) struct StateMachine {
    store: Arc<Store>,
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    view: watch::Sender<View>,
    tip: watch::Sender<Tip>,
    in_use: TaskTrackerToken,
}

/// Where a member's view can be watched.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    pub(crate) view: watch::Receiver<View>,
    pub(crate) tip: watch::Receiver<Tip>,
}

impl StateMachine {
    /// Starts from the newest snapshot; the log gives the rest. `in_use` is dropped when nothing is written any more.
    pub(crate) fn open(
        store: Arc<Store>,
        in_use: TaskTrackerToken,
    ) -> Result<(Self, Views), StoreError> {
        let (view, views) = watch::channel(View::default());
        let (tip, tips) = watch::channel(Tip::default());
        let mut machine = Self {
            store,
            state: State::default(),
            last_applied: None,
            membership: StoredMembership::default(),
            view,
            tip,
            in_use,
        };
        if let Some(snapshot) = machine.store.snapshot()? {
            let state = machine.store.read_snapshot(&snapshot)?;
            machine.store.expect_tip(state.tip())?;
            machine.adopt(state, &snapshot.record.meta);
        }
        Ok((machine, Views { view: views, tip: tips }))
    }

    fn adopt(&mut self, state: State, meta: &SnapshotMeta) {
        self.state = state;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.show();
    }

    fn show(&self) {
        let tip = self.state.tip();
        self.view.send_replace(View { last_applied: self.last_applied, state: self.state.clone() });
        self.tip.send_if_modified(|shown| std::mem::replace(shown, tip) != tip);
    }

    fn apply_batch(&mut self, batch: &Batch, events: &mut Vec<SealedEvent>) -> io::Result<Applied> {
        let commands = batch.unpack().map_err(|error| {
            let reason = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in &commands {
            let (outcome, sealed) = self.state.apply(command);
            outcomes.push(outcome);
            events.extend(sealed);
        }
        Ok(Applied { outcomes, revision: self.state.tip().revision })
    }

    /// Stores the events, shows the state they lead to, then answers.
    fn settle(&mut self, pending: &mut Pending) -> io::Result<()> {
        self.store.add(std::mem::take(&mut pending.events)).map_err(io::Error::other)?;
        self.show();
        for (responder, applied) in pending.answers.drain(..) {
            responder.send(applied);
        }
        Ok(())
    }
}

/// What was applied and not yet stored.
#[derive(Default)]
struct Pending {
    events: Vec<SealedEvent>,
    answers: Vec<(ApplyResponder<TypeConfig>, Applied)>,
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut pending = Pending::default();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let applied = match entry.payload {
                EntryPayload::Blank => Applied::default(),
                EntryPayload::Normal(batch) => {
                    self.apply_batch(&batch, &mut pending.events).map_err(|error| {
                        io::Error::new(error.kind(), format!("log entry {}: {error}", entry.log_id))
                    })?
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::default()
                }
            };
            self.last_applied = Some(entry.log_id);
            pending.answers.extend(responder.map(|responder| (responder, applied)));
            if pending.events.len() >= EVENTS_AT_ONCE_MAX {
                self.settle(&mut pending)?;
                tokio::task::yield_now().await;
            }
        }
        self.settle(&mut pending)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: Arc::clone(&self.store),
            state: self.state.clone(),
            meta: SnapshotMeta {
                last_log_id: self.last_applied,
                last_membership: self.membership.clone(),
            },
            _in_use: self.in_use.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let meta = meta.clone();
        let (state, meta) = blocking(move || {
            let state = store.read_snapshot(&snapshot)?;
            store.expect_tip(state.tip())?;
            store.install_snapshot(&snapshot, &meta)?;
            Ok((state, meta))
        })
        .await?;
        self.adopt(state, &meta);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>>> {
        let snapshot = self.store.snapshot().map_err(io::Error::other)?;
        Ok(snapshot
            .map(|snapshot| openraft::Snapshot { meta: snapshot.record.meta.clone(), snapshot }))
    }
}

/// Writes a state that was current when the builder was made; applying goes on meanwhile.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    store: Arc<Store>,
    state: State,
    meta: SnapshotMeta,
    _in_use: TaskTrackerToken,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>> {
        let (store, state, meta) = (Arc::clone(&self.store), self.state.clone(), self.meta.clone());
        let snapshot = blocking(move || store.write_snapshot(&state, meta)).await?;
        Ok(openraft::Snapshot { meta: snapshot.record.meta.clone(), snapshot })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?.map_err(io::Error::other)
}
