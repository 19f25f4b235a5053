//! Everything that one run consists of.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bessemer_domain::Command;
use bessemer_domain::CommandBody;
use bessemer_domain::Timestamp;
use bessemer_domain::ids::CommandId;

use crate::conductor::ConductorHost;
use crate::executor::{Executor, Process};
use crate::image_cache::ImageCache;
use crate::invariants::{Invariants, Violation};
use crate::jetstream::JetStream;
use crate::machine::Machine;
use crate::member::Member;
use crate::network::{Host, Network};
use crate::raft::Raft;
use crate::sabotage::Sabotage;
use crate::trace::Trace;
use crate::user::Wishes;

/// How large the cluster is.
pub(crate) const MEMBERS: usize = 3;
pub(crate) const CONDUCTORS: usize = 3;
pub(crate) const NODES: usize = 4;

/// The cluster, its surroundings, and who watches it.
pub(crate) struct World {
    pub(crate) exec: Rc<Executor>,
    /// Where messages that are under way live: they outlast their senders.
    pub(crate) wires: Process,
    pub(crate) network: Network,
    pub(crate) raft: Raft,
    pub(crate) members: Vec<Member>,
    pub(crate) conductors: Vec<ConductorHost>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) image_cache: ImageCache,
    pub(crate) jetstream: JetStream,
    pub(crate) wishes: Wishes,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
    /// Whether anything may still go wrong.
    pub(crate) faults: Cell<bool>,
    sabotage: Option<Sabotage>,
    violation: RefCell<Option<Violation>>,
    origin: Instant,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> Rc<Self> {
        let exec = Rc::new(Executor::new(seed));
        Rc::new(Self {
            wires: exec.process(),
            network: Network::default(),
            raft: Raft::default(),
            members: (0..MEMBERS).map(|_| Member::new(&exec)).collect(),
            conductors: (0..CONDUCTORS).map(|index| ConductorHost::new(&exec, index)).collect(),
            machines: (0..NODES).map(|index| Machine::new(&exec, index)).collect(),
            image_cache: ImageCache::default(),
            jetstream: JetStream::default(),
            wishes: Wishes::default(),
            invariants: Invariants::default(),
            trace: Trace::default(),
            faults: Cell::new(true),
            sabotage,
            violation: RefCell::default(),
            origin: Instant::now(),
            exec,
        })
    }

    /// The present, as the rules of leases take it. Only differences between two of these mean anything.
    pub(crate) fn instant(&self) -> Instant {
        self.origin + self.exec.now()
    }

    pub(crate) fn note(&self, line: &str) {
        self.trace.note(self.exec.now(), line);
    }

    /// Notes a broken invariant; the first one ends the run.
    pub(crate) fn judge(&self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.note(&format!("VIOLATION of {}: {}", violation.invariant, violation.what));
            self.violation.borrow_mut().get_or_insert(violation);
        }
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.borrow().clone()
    }

    pub(crate) fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.sabotage == Some(by)
    }

    /// The process that runs on a host now, or the last one that did.
    pub(crate) fn process_of(&self, host: Host) -> Process {
        match host {
            Host::User => self.wires.clone(),
            Host::Member(index) => self.members[index].process(),
            Host::Conductor(index) => self.conductors[index].process(),
            Host::Machine(index) => self.machines[index].process(),
        }
    }

    pub(crate) fn command(&self, actor: &str, at: Timestamp, body: CommandBody) -> Command {
        let id = CommandId::new(self.exec.uuid());
        Command { id, fingerprint: 0, actor: actor.to_owned(), at, body }
    }
}
