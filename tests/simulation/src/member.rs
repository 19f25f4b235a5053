//! A member of the API: applies the log with `State::apply`, answers, expires silent conductors, crashes, and comes back
//! from its snapshot and the log.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::ids::{ClusterId, ConductorId, Incarnation, NodeId};
use bessemer_domain::lease::{LOOKS_PER_LEASE, Leases};
use bessemer_domain::{Command, CommandBody, Outcome, Rejection, SealedEvent, State};

use crate::clock::WallClock;
use crate::executor::{Executor, Process};
use crate::network::Host;
use crate::raft::Entry;
use crate::sabotage::Sabotage;
use crate::sync::Watch;
use crate::world::World;

/// How long a conductor may be silent.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// Entries between two snapshots.
const SNAPSHOT_EVERY: usize = 150;

/// A member, through all its lives.
#[derive(Debug)]
pub(crate) struct Member {
    process: RefCell<Process>,
    pub(crate) clock: WallClock,
    /// Entries that it has applied.
    pub(crate) applied: Watch<usize>,
    pub(crate) state: RefCell<State>,
    pub(crate) history: RefCell<Vec<Rc<SealedEvent>>>,
    /// By entry, in the order of its commands.
    outcomes: RefCell<BTreeMap<usize, Vec<Outcome>>>,
    leases: RefCell<Leases>,
    /// What it has on its disk beside the log: the entries that went into it, and a state.
    snapshot: RefCell<(usize, Vec<u8>)>,
    /// It applies nothing while its disk hangs.
    pub(crate) is_stalled: Cell<bool>,
}

impl Member {
    pub(crate) fn new(exec: &Executor) -> Self {
        let empty = serde_json::to_vec(&State::default()).expect("a state is plain data");
        Self {
            process: RefCell::new(exec.process()),
            clock: WallClock::default(),
            applied: Watch::default(),
            state: RefCell::default(),
            history: RefCell::default(),
            outcomes: RefCell::default(),
            leases: RefCell::default(),
            snapshot: RefCell::new((0, empty)),
            is_stalled: Cell::default(),
        }
    }

    pub(crate) fn process(&self) -> Process {
        self.process.borrow().clone()
    }
}

impl World {
    /// Ends a member's process; what it had not written is gone.
    pub(crate) fn crash_member(&self, index: usize) {
        self.note(&format!("member {index} crashes"));
        self.exec.kill(&self.members[index].process());
    }

    /// Starts a member from what is on its disk.
    pub(crate) fn start_member(self: &Rc<Self>, index: usize) {
        let member = &self.members[index];
        *member.process.borrow_mut() = self.exec.process();
        let (applied, stored) = &*member.snapshot.borrow();
        let mut state: State =
            serde_json::from_slice(stored).expect("a state that was written can be read");
        if self.is_sabotaged(Sabotage::SnapshotWithoutOutcomes) {
            state = without_outcomes(&state);
        }
        self.note(&format!("member {index} starts at entry {applied}"));
        let known = usize::try_from(state.tip().revision.0).unwrap_or(usize::MAX);
        member.history.borrow_mut().truncate(known);
        if self.is_sabotaged(Sabotage::MemberLosesEvent) {
            member.history.borrow_mut().pop();
        }
        let whole = self.invariants.history_is_whole.judge(index, &member.history.borrow(), &state);
        self.judge(whole);
        *member.state.borrow_mut() = state;
        *member.leases.borrow_mut() = Leases::default();
        member.outcomes.borrow_mut().clear();
        member.applied.set(*applied);
        let process = member.process();
        self.exec.spawn(&process, Rc::clone(self).apply_log(index));
        self.exec.spawn(&process, Rc::clone(self).expire_conductors(index));
    }

    /// Applies what is committed, more or less late.
    async fn apply_log(self: Rc<Self>, index: usize) {
        let member = &self.members[index];
        loop {
            let next = *member.applied.get();
            self.raft.committed.until(|log| (log.len() > next).then_some(())).await;
            while member.is_stalled.get() || !self.follows_leader(index) {
                self.exec.pause(50..=100).await;
            }
            if self.network.is_rough.get() && self.exec.chance(20) {
                self.exec.pause(0..=50).await;
            }
            let entry = Rc::clone(&self.raft.committed.get()[next]);
            self.apply(index, next + 1, &entry);
        }
    }

    /// Whether a member is told what is committed.
    pub(crate) fn follows_leader(&self, member: usize) -> bool {
        let leader = self.raft.leader();
        leader.is_some_and(|it| {
            it == member || !self.network.is_cut(Host::Member(it), Host::Member(member))
        })
    }

    fn apply(&self, index: usize, place: usize, entry: &Entry) {
        let member = &self.members[index];
        let mut outcomes = Vec::new();
        for command in decode(entry) {
            let (outcome, events) = member.state.borrow_mut().apply(&command);
            member.history.borrow_mut().extend(events.iter().cloned().map(Rc::new));
            self.applied(index, (place, outcomes.len()), &command, &outcome, &events);
            outcomes.push(outcome);
        }
        member.outcomes.borrow_mut().insert(place, outcomes);
        member.applied.set(place);
        if place.is_multiple_of(SNAPSHOT_EVERY) {
            let stored = serde_json::to_vec(&*member.state.borrow()).expect("it is plain data");
            *member.snapshot.borrow_mut() = (place, stored);
        }
    }

    /// Proposes commands at a member, and waits until that member has applied them.
    pub(crate) async fn propose_at(
        self: Rc<Self>,
        member: usize,
        entry: Entry,
    ) -> Option<Vec<Outcome>> {
        let place = self.append(member, entry).await?;
        let member = &self.members[member];
        member.applied.until(|applied| (*applied >= place).then_some(())).await;
        member.outcomes.borrow().get(&place).cloned()
    }

    /// A member's state, with all that was acknowledged before the question.
    pub(crate) async fn latest_state(self: &Rc<Self>, member: usize) -> Option<State> {
        let place = self.read_index(member).await?;
        let member = &self.members[member];
        let reached = member.applied.until(|applied| (*applied >= place).then_some(()));
        self.exec.timeout(Duration::from_secs(5), reached).await?;
        Some(member.state.borrow().clone())
    }

    /// Takes a heartbeat; the lease that is granted, by a leader that a majority confirms.
    pub(crate) async fn heartbeat_at(
        self: Rc<Self>,
        index: usize,
        conductor: ConductorId,
        incarnation: Incarnation,
    ) -> Option<Duration> {
        let member = &self.members[index];
        let state = member.state.borrow().clone();
        let now = self.instant();
        if !member.leases.borrow_mut().heard(&state, &conductor, incarnation, now) {
            return None;
        }
        let leads = || self.raft.leader() == Some(index);
        (leads() && self.read_index(index).await.is_some() && leads()).then_some(LEASE)
    }

    /// The leader's watch over conductors. A member learns late that it no longer leads.
    async fn expire_conductors(self: Rc<Self>, index: usize) {
        let member = &self.members[index];
        loop {
            self.exec.sleep(LEASE / LOOKS_PER_LEASE).await;
            let leads = self.raft.leader() == Some(index);
            let state = member.state.borrow().clone();
            let overdue = member.leases.borrow_mut().look(leads, &state, LEASE, self.instant());
            for (conductor, incarnation) in overdue {
                if self.latest_state(index).await.is_none() {
                    continue;
                }
                self.note(&format!("member {index} expires {conductor}"));
                let body = CommandBody::ExpireConductor { conductor, incarnation };
                Rc::clone(&self).propose_own(index, body).await;
            }
        }
    }

    /// Proposes a command of the member's own, once.
    pub(crate) async fn propose_own(
        self: Rc<Self>,
        member: usize,
        body: CommandBody,
    ) -> Option<Outcome> {
        let at = self.members[member].clock.read(self.exec.now());
        let command = self.command(&format!("member/{member}"), at, body);
        self.propose_at(member, encode(&[command])).await?.pop()
    }

    /// Gives the cluster its identity, as the member does that forms it.
    pub(crate) async fn form(self: Rc<Self>) {
        let cluster_id = ClusterId::new(self.exec.uuid());
        while Rc::clone(&self)
            .propose_own(0, CommandBody::InitialiseCluster { cluster_id })
            .await
            .is_none()
        {}
    }

    /// Binds an agent to its node, or finds it bound, and tells it who drives the node.
    pub(crate) async fn look_up_at(
        self: Rc<Self>,
        member: usize,
        node: NodeId,
        token: String,
    ) -> Option<Result<ConductorId, Rejection>> {
        let state = self.latest_state(member).await?;
        let found = state.node(node)?;
        let owner = state.owner(found)?.clone();
        if found.agent.as_ref().is_some_and(|agent| agent.token_digest == token) {
            return Some(Ok(owner));
        }
        // The core takes digests as they come: here a token is its own.
        let body =
            CommandBody::BindAgent { node, token_digest: token.clone(), held_digest: Some(token) };
        let at = self.members[member].clock.read(self.exec.now());
        let rehearsed = self.command("agent", at, body.clone());
        if let Err(rejection) = state.clone().apply(&rehearsed).0 {
            return Some(Err(rejection));
        }
        Some(self.propose_own(member, body).await?.map(|_| owner))
    }
}

/// Commands as they are in the log.
pub(crate) fn encode(commands: &[Command]) -> Entry {
    serde_json::to_vec(commands).expect("commands are plain data").into()
}

fn decode(entry: &Entry) -> Vec<Command> {
    serde_json::from_slice(entry).expect("commands that were written can be read")
}

/// A state that has forgotten which commands it has seen.
fn without_outcomes(state: &State) -> State {
    let mut stored = serde_json::to_value(state).expect("a state is plain data");
    stored["outcomes"] = serde_json::Value::Array(Vec::new());
    serde_json::from_value(stored).expect("outcomes may be empty")
}
