//! The handle that the rest of the system holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::{Command, Outcome, Revision, State, Subject, Tip};
use bytes::Bytes;
use futures::stream::BoxStream;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::form::{Formation, Leadership};
use crate::home::Home;
use crate::log::LogStore;
use crate::machine::{StateMachine, Views};
use crate::membership::Changer;
use crate::network::{
    Clients, Dialler, MESSAGE_BYTES_MAX, Network, PeerService, RaftServiceServer, from_message,
    to_message,
};
use crate::propose::{Proposer, Refused};
use crate::raft::Raft;
use crate::read::Reader;
use crate::route::{Leader, Route};
use crate::standing::{Seat, Standing, history_of};
use crate::store::{Store, StoredEvent};
use crate::view::View;
use crate::{
    Change, ChangeError, Changed, Config, MemberStatus, OpenError, ProposeError, ReadError,
    SnapshotError, Status, StoreError, WatchError, backup, entry,
};

/// How long a snapshot is waited for. Shorter than clients wait for one answer.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(4);

/// How often it is looked at.
const SNAPSHOT_LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long the leader is waited for when it is asked for the members.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of proposed commands.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposed {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// Everything they did is visible from this revision on.
    pub revision: Revision,
}

/// A member's ledger. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    route: Route,
    store: Arc<Store>,
    proposer: Proposer,
    reader: Reader,
    changer: Changer,
    seat: Seat,
    views: Views,
    leadership: watch::Receiver<bool>,
    propose_timeout: Duration,
    tasks: TaskTracker,
    stopping: CancellationToken,
    _home: Arc<Home>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("member_id", &self.route.member_id).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens this member's log and store, and takes part from then on. The service must be mounted on the listener at
    /// this member's address; drop both the service and every clone before the directory is opened again.
    ///
    /// A member without data asks the others of its configuration. When all of them are new too, the one with the lowest
    /// id forms the cluster; when there is one, it waits until it is added to it.
    ///
    /// # Errors
    /// When the configuration contradicts itself or the directory is another member's, the directory cannot be used or is in use, or something stored is
    /// damaged.
    pub async fn open(config: Config) -> Result<(Self, RaftServiceServer), OpenError> {
        config.check()?;
        let thread = |source: std::io::Error| OpenError::Raft { reason: source.to_string() };
        let home = Arc::new(Home::start().map_err(thread)?);
        home.run(Self::open_at(config, Arc::clone(&home))).await.map_err(thread)?
    }

    async fn open_at(
        config: Config,
        home: Arc<Home>,
    ) -> Result<(Self, RaftServiceServer), OpenError> {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let (store, log) = open_storage(&config, tasks.token()).await?;
        let (machine, views) = StateMachine::open(Arc::clone(&store), tasks.token())?;
        let seat = Seat::open(&config.data_dir, config.member_id)?;
        let data_dir = |source| OpenError::DataDir { path: config.data_dir.clone(), source };
        if let Some(history) = views.view.look(history_of) {
            seat.belongs_to(&history).map_err(data_dir)?;
        }
        let dialler = Dialler { transport: config.transport.clone(), history: seat.history() };
        let network =
            Network { dialler: dialler.clone(), store: Arc::clone(&store), in_use: tasks.token() };
        let raft = Raft::new(config.member_id, config.raft()?, network, log, machine)
            .await
            .map_err(|fatal| OpenError::Raft { reason: fatal.to_string() })?;
        if matches!(raft.is_initialized().await, Ok(true)) {
            seat.admit().map_err(data_dir)?;
        }
        let route = Route::new(config.member_id, raft, Clients::new(dialler));
        let changer = Changer::new(route.clone());
        let (proposer, packer) =
            Proposer::new(route.clone(), views.view.clone(), config.propose_timeout);
        let (reader, confirmer) =
            Reader::new(route.clone(), views.view.clone(), config.read_timeout);
        let (leadership, led) = Leadership::new(route.clone(), views.view.clone());
        let formation = Formation {
            route: route.clone(),
            members: config.members,
            view: views.view.clone(),
            leadership: led.clone(),
            proposer: proposer.clone(),
            seat: seat.clone(),
        };
        tasks.spawn(packer.run(stopping.clone()));
        tasks.spawn(confirmer.run(stopping.clone()));
        tasks.spawn(leadership.run(stopping.clone()));
        tasks.spawn(formation.run(stopping.clone()));
        tasks.spawn(note_history(seat.clone(), views.view.clone(), stopping.clone()));
        let service = PeerService {
            route: route.clone(),
            store: Arc::clone(&store),
            proposer: proposer.clone(),
            view: views.view.clone(),
            reader: reader.clone(),
            changer: changer.clone(),
            seat: seat.clone(),
            receiving: Arc::default(),
        };
        let service = RaftServiceServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let ledger = Self {
            route,
            store,
            proposer,
            reader,
            changer,
            seat,
            views,
            leadership: led,
            propose_timeout: config.propose_timeout,
            tasks,
            stopping,
            _home: home,
        };
        Ok((ledger, service))
    }

    /// Takes commands into the log, all in one entry, and returns when they are committed and applied on this member.
    /// Finds the leader, and a new one if it is lost.
    ///
    /// # Errors
    /// When there is no leader or it does not answer in time (the commands may yet happen; repeat them with the same
    /// ids), when they are too many, or when this member has stopped.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Proposed, ProposeError> {
        self.named().await?;
        let commands = commands.iter().map(entry::encode).collect();
        match self.proposer.propose(commands, false).await {
            Ok(committed) => Ok(Proposed {
                outcomes: committed.applied.outcomes,
                revision: committed.applied.revision,
            }),
            Err(Refused::Failed(error)) => Err(error),
            Err(Refused::NotLeader) => {
                unreachable!("only forwarded proposals are refused for want of leadership")
            }
        }
    }

    /// The cluster's identity is the first event of its history; everything else waits for it.
    async fn named(&self) -> Result<(), ProposeError> {
        let named = self.views.view.until(|reached| reached.is_named);
        match tokio::time::timeout(self.propose_timeout, named).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(ProposeError::Stopped { reason: "the state machine has stopped".to_owned() })
            }
            Err(_) => Err(ProposeError::NoLeader { waited: self.propose_timeout }),
        }
    }

    /// The newest state that this member has applied, to keep. It may be behind the cluster's.
    #[must_use]
    pub fn state(&self) -> State {
        self.views.view.state()
    }

    /// Looks at that state without copying it. No command is applied meanwhile: be brief, and do not look again, or wait
    /// for somebody who might, in `look`.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.views.view.look(look)
    }

    /// Returns when this member's state holds everything that was acknowledged anywhere before the call. Writes nothing.
    ///
    /// # Errors
    /// When no leader confirms the read in time, or this member has stopped.
    pub async fn catch_up(&self) -> Result<(), ReadError> {
        self.reader.confirm().await
    }

    /// A state that holds everything that was acknowledged anywhere before the call. Writes nothing.
    ///
    /// # Errors
    /// When no leader confirms the read in time, or this member has stopped.
    pub async fn linearizable_state(&self) -> Result<State, ReadError> {
        self.catch_up().await?;
        Ok(self.state())
    }

    /// The newest event applied on this member, as it changes.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Tip> {
        self.views.tip.clone()
    }

    /// The newest event of the state that is shown: what was acknowledged can be read from history, too.
    fn state_tip(&self) -> Tip {
        self.look(State::tip)
    }

    /// Up to `limit` events after `revision`, in order; fewer, but at least one, when they are large. Empty when this
    /// member has applied none after it.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn events_after(
        &self,
        revision: Revision,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.events(revision, self.state_tip().revision, limit)
    }

    /// Up to `limit` events of a subject after its own `sequence`, in order; fewer, but at least one, when they are large.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn subject_events_after(
        &self,
        subject: &Subject,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.store.subject_events(subject, sequence, self.state_tip().revision, limit)
    }

    /// Reads all of history and checks that nothing is missing, doubled or altered. Returns its newest event. Takes
    /// seconds for millions of events; call it where blocking is allowed.
    ///
    /// # Errors
    /// The first event that is not as it was.
    pub fn verify_chain(&self) -> Result<Tip, StoreError> {
        self.store.verify_chain(self.state_tip())
    }

    /// Stored events after `after`, then each new one, in order and without a gap. A slow watcher misses nothing and
    /// holds nothing up: events are read from the store when it asks for them.
    pub fn watch(
        &self,
        after: Revision,
    ) -> BoxStream<'static, Result<Vec<StoredEvent>, WatchError>> {
        crate::watch::follow(Arc::clone(&self.store), self.views.tip.clone(), after)
    }

    /// Changes who takes part, or who leads, wherever the leader is. A change that was made is found made: repeating it
    /// is safe.
    ///
    /// # Errors
    /// When the change cannot be, when it would cost the cluster its majority, or when it was not made in time.
    pub async fn change(&self, change: &Change) -> Result<Changed, ChangeError> {
        self.changer.change(change).await
    }

    /// Writes this member's state as a snapshot, so that it needs less of its log. Returns the log entry up to which it
    /// goes, which is no older than the call.
    ///
    /// # Errors
    /// When it is not written in time, or this member has stopped.
    pub async fn snapshot(&self) -> Result<u64, SnapshotError> {
        let wanted = self.views.view.reached().last_applied.map_or(0, |applied| applied.index);
        let deadline = Instant::now() + SNAPSHOT_TIMEOUT;
        let mut metrics = self.route.raft.metrics();
        loop {
            let taken = metrics.borrow_watched().snapshot.map(|id| id.index);
            if let Some(taken) = taken.filter(|taken| *taken >= wanted) {
                return Ok(taken);
            }
            let stopped = |reason: String| SnapshotError::Stopped { reason };
            if let Some(reason) = self.route.stopped() {
                return Err(stopped(reason));
            }
            if Instant::now() >= deadline {
                return Err(SnapshotError::TimedOut { waited: SNAPSHOT_TIMEOUT });
            }
            // Ignored while one is being written; that one may be older than the call.
            let triggered = self.route.raft.trigger().snapshot().await;
            triggered.map_err(|fatal| stopped(fatal.to_string()))?;
            // Either ending is a reason to look again.
            let _ = tokio::time::timeout(SNAPSHOT_LOOK_AGAIN, metrics.changed()).await;
        }
    }

    /// A backup of everything that was acknowledged anywhere before the call, as the bytes of a file; none while the
    /// cluster has no identity. Writing goes on meanwhile.
    ///
    /// # Errors
    /// When no leader confirms the read in time, or this member has stopped.
    pub async fn backup(
        &self,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, StoreError>>>, ReadError> {
        let state = self.linearizable_state().await?;
        let members = {
            let metrics = self.route.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            membership.nodes().map(|(id, member)| (*id, member.clone())).collect()
        };
        Ok(backup::write(Arc::clone(&self.store), state, self.route.member_id, members))
    }

    /// What this member knows of itself and of the others.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.route.raft.metrics();
        let metrics = metrics.borrow_watched();
        Status::new(&metrics, &self.seat.standing().borrow())
    }

    /// Everyone in the group as the leader knows them; as this member does when the leader does not answer.
    pub async fn members(&self) -> Vec<MemberStatus> {
        if let Leader::Other(mut client) = self.route.leader()
            && let Ok(message) = to_message(&())
            && let Ok(Ok(answer)) =
                tokio::time::timeout(MEMBERS_TIMEOUT, client.list_members(message)).await
            && let Ok(members) = from_message(answer.get_ref())
        {
            return members;
        }
        self.status().members
    }

    /// Whether this member leads, and has applied an entry of its own term: it knows everything its predecessors did.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<bool> {
        self.leadership.clone()
    }

    /// Returns with the reason when this member can no longer take part: its disk failed, something stored is damaged
    /// or gone, or it was removed. The process should end then; the other members go on.
    pub async fn failed(&self) -> String {
        let mut metrics = self.route.raft.metrics();
        let mut standing = self.seat.standing();
        loop {
            if let Standing::Refused(reason) = &*standing.borrow_and_update() {
                return reason.clone();
            }
            if let Some(reason) = self.route.stopped() {
                return reason;
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    return "raft has ended".to_owned();
                },
                // The seat lives as long as this handle.
                _ = standing.changed() => {}
            }
        }
    }

    /// Stops taking part. Nothing acknowledged is lost, with or without it.
    pub async fn shutdown(self) {
        self.stopping.cancel();
        self.tasks.close();
        if let Err(error) = self.route.raft.shutdown().await {
            tracing::warn!(%error, "raft did not end cleanly");
        }
        self.tasks.wait().await;
    }
}

/// Writes down which history this member belongs to, once it knows. It changes only while the member does not run.
async fn note_history(seat: Seat, view: View, stopping: CancellationToken) {
    let learnt = async {
        view.until(|reached| reached.is_named).await;
        view.look(history_of)
    };
    let Some(Some(history)) = stopping.run_until_cancelled(learnt).await else { return };
    let noting = seat.clone();
    let noted = tokio::task::spawn_blocking(move || noting.belongs_to(&history)).await;
    if let Ok(Err(error)) = noted {
        seat.refuse(format!("cannot write the member's file: {error}"));
    }
}

async fn open_storage(
    config: &Config,
    in_use: TaskTrackerToken,
) -> Result<(Arc<Store>, LogStore), OpenError> {
    let (dir, cache_bytes) = (config.data_dir.clone(), config.cache_bytes);
    let opening = tokio::task::spawn_blocking(move || {
        let log_dir = dir.join("log");
        std::fs::create_dir_all(&log_dir)
            .map_err(|source| OpenError::DataDir { path: log_dir.clone(), source })?;
        let log = LogStore::open(&log_dir, in_use)?;
        Ok((Arc::new(Store::open(&dir, cache_bytes)?), log))
    });
    opening.await.map_err(|error| OpenError::Raft { reason: error.to_string() })?
}
