//! Applies the log: commands become events and state, on every member alike.

use std::io;
use std::sync::Arc;

use bessemer_domain::{Command, State, Tip};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::StoreError;
use crate::entry::{Applied, Batch};
use crate::raft::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::store::{SnapshotFile, Store};
use crate::view::{Shown, View};

/// Commands that are applied, and then shown, at once; an entry that has more is not split. Bounds how long those who look
/// at the state wait.
const COMMANDS_AT_ONCE: usize = 256;

/// The replicated state machine of one member.
#[derive(Debug)]
pub(crate) struct StateMachine {
    store: Arc<Store>,
    shown: Shown,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    tip: watch::Sender<Tip>,
    in_use: TaskTrackerToken,
}

/// Where it can be watched.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    pub(crate) view: View,
    pub(crate) tip: watch::Receiver<Tip>,
}

impl StateMachine {
    /// Starts from the newest snapshot; the log gives the rest. `in_use` is dropped when nothing is written any more.
    pub(crate) fn open(
        store: Arc<Store>,
        in_use: TaskTrackerToken,
    ) -> Result<(Self, Views), StoreError> {
        let (shown, view) = Shown::new();
        let (tip, tips) = watch::channel(Tip::default());
        let mut machine = Self {
            store,
            shown,
            last_applied: None,
            membership: StoredMembership::default(),
            tip,
            in_use,
        };
        if let Some(snapshot) = machine.store.snapshot()? {
            let state = machine.store.read_snapshot(&snapshot)?;
            machine.store.expect_tip(state.tip())?;
            machine.adopt(state, &snapshot.record.meta);
        }
        Ok((machine, Views { view, tip: tips }))
    }

    fn adopt(&mut self, state: State, meta: &SnapshotMeta) {
        *self.shown.change() = state;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.tell();
    }

    fn tell(&self) {
        let tip = self.shown.state().tip();
        self.shown.tell(self.last_applied);
        self.tip.send_if_modified(|shown| std::mem::replace(shown, tip) != tip);
    }

    /// Applies what was gathered: the state and the events it comes from are shown together. Then answers.
    fn settle(&mut self, gathered: &mut Gathered) -> io::Result<()> {
        self.store.wait_for_room().map_err(io::Error::other)?;
        let mut events = Vec::new();
        let mut answers = Vec::new();
        let mut state = self.shown.change();
        for (commands, responder) in gathered.entries.drain(..) {
            let mut outcomes = Vec::with_capacity(commands.len());
            for command in &commands {
                let (outcome, sealed) = state.apply(command);
                outcomes.push(outcome);
                events.extend(sealed);
            }
            let applied = Applied { outcomes, revision: state.tip().revision };
            answers.extend(responder.map(|responder| (responder, applied)));
        }
        self.store.add(events).map_err(io::Error::other)?;
        drop(state);
        gathered.commands = 0;
        self.tell();
        for (responder, applied) in answers {
            responder.send(applied);
        }
        Ok(())
    }
}

/// Entries that are to be applied together.
#[derive(Default)]
struct Gathered {
    entries: Vec<(Vec<Command>, Option<ApplyResponder<TypeConfig>>)>,
    commands: usize,
}

fn commands_of(batch: &Batch, log_id: &LogId) -> io::Result<Vec<Command>> {
    batch.unpack().map_err(|error| {
        let reason = match std::error::Error::source(&error) {
            Some(source) => format!("log entry {log_id}: {error}: {source}"),
            None => format!("log entry {log_id}: {error}"),
        };
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
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
        let mut gathered = Gathered::default();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let commands = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(batch) => commands_of(&batch, &entry.log_id)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            self.last_applied = Some(entry.log_id);
            gathered.commands += commands.len();
            gathered.entries.push((commands, responder));
            if gathered.commands >= COMMANDS_AT_ONCE {
                self.settle(&mut gathered)?;
                tokio::task::yield_now().await;
            }
        }
        self.settle(&mut gathered)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: Arc::clone(&self.store),
            state: self.shown.state().clone(),
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
