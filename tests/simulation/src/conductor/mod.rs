//! A conductor: the rules of the core, with the simulation's network and machines around them.

mod follow;
mod lease;
mod publish;
mod sessions;
mod steps;
mod work;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::effects::Touched;
use bessemer_domain::ids::{ConductorId, Incarnation, NodeId};
use bessemer_domain::lease::OwnLease;
use bessemer_domain::outbox::Notice;
use bessemer_domain::{Accepted, Command, CommandBody, Outcome, Rejection, State, Timestamp};
use futures::FutureExt;
use futures::channel::oneshot;

use crate::clock::WallClock;
use crate::executor::{Executor, Process};
use crate::machine::Machine;
use crate::member::encode;
use crate::network::Host;
use crate::raft::Entry;
use crate::sabotage::Sabotage;
use crate::sync::{Queue, Watch};
use crate::world::{MEMBERS, World};
pub(crate) use sessions::{Hello, ToAgent, ToConductor};

/// Pause before the next member is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long a member may take to answer a proposal.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// A conductor, through all its lives.
#[derive(Debug)]
pub(crate) struct ConductorHost {
    pub(crate) id: ConductorId,
    process: RefCell<Process>,
    pub(crate) clock: WallClock,
    /// The life it is in.
    life: RefCell<Option<Rc<Conductor>>>,
}

impl ConductorHost {
    pub(crate) fn new(exec: &Executor, index: usize) -> Self {
        Self {
            id: ConductorId::try_new(&format!("c{index}")).expect("it is a name"),
            process: RefCell::new(exec.process()),
            clock: WallClock::default(),
            life: RefCell::default(),
        }
    }

    pub(crate) fn process(&self) -> Process {
        self.process.borrow().clone()
    }

    pub(crate) fn life(&self) -> Option<Rc<Conductor>> {
        self.life.borrow().clone().filter(|_| self.process().is_alive())
    }
}

/// One life of a conductor.
pub(crate) struct Conductor {
    world: Rc<World>,
    index: usize,
    id: ConductorId,
    incarnation: Incarnation,
    process: Process,
    /// Its copy of the state.
    replica: Watch<State>,
    lease: Watch<OwnLease>,
    changes: Queue<work::Change>,
    notices: Queue<Notice>,
    commands: Queue<(Command, oneshot::Sender<Outcome>)>,
    sessions: sessions::Sessions,
    /// The member in use.
    member: Cell<usize>,
}

impl std::fmt::Debug for Conductor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conductor").field("id", &self.id).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn crash_conductor(&self, index: usize) {
        self.note(&format!("conductor c{index} crashes"));
        self.exec.kill(&self.conductors[index].process());
        *self.conductors[index].life.borrow_mut() = None;
    }

    pub(crate) fn start_conductor(self: &Rc<Self>, index: usize) {
        let host = &self.conductors[index];
        let process = self.exec.process();
        *host.process.borrow_mut() = process.clone();
        self.note(&format!("conductor c{index} starts"));
        let conductor = Rc::new(Conductor {
            world: Rc::clone(self),
            index,
            id: host.id.clone(),
            incarnation: Incarnation::new(self.exec.uuid()),
            process: process.clone(),
            replica: Watch::new(State::default()),
            lease: Watch::default(),
            changes: Queue::default(),
            notices: Queue::default(),
            commands: Queue::default(),
            sessions: sessions::Sessions::default(),
            member: Cell::new(self.exec.below(MEMBERS)),
        });
        *host.life.borrow_mut() = Some(Rc::clone(&conductor));
        self.exec.spawn(&process, Rc::clone(&conductor).send_commands());
        self.exec.spawn(&process, Rc::clone(&conductor).follow());
        self.exec.spawn(&process, Rc::clone(&conductor).keep_lease());
        self.exec.spawn(&process, Rc::clone(&conductor).work());
        self.exec.spawn(&process, conductor.publish());
    }
}

impl Conductor {
    const fn host(&self) -> Host {
        Host::Conductor(self.index)
    }

    fn now(&self) -> Timestamp {
        self.world.conductors[self.index].clock.read(self.world.exec.now())
    }

    fn note(&self, line: &str) {
        self.world.note(&format!("{}: {line}", self.id));
    }

    fn machine(&self, node: NodeId) -> &Machine {
        self.world.machine_of(node)
    }

    fn move_on(&self) {
        self.member.set((self.member.get() + 1) % MEMBERS);
    }

    /// Sends commands until a member answers, in the order in which they came: what gathers while some are under way
    /// goes together. The same ids are repeated, so each happens once.
    async fn send_commands(self: Rc<Self>) {
        loop {
            let mut batch = vec![self.commands.pop().await];
            batch.extend(std::iter::from_fn(|| self.commands.try_pop()));
            let (commands, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let entry = encode(&commands);
            let outcomes = loop {
                if let Some(outcomes) = self.ask_to_append(&entry).await {
                    break outcomes;
                }
                self.move_on();
                self.world.exec.sleep(RETRY_PAUSE).await;
            };
            for ((command, waiting), outcome) in commands.iter().zip(waiting).zip(outcomes) {
                self.world.answered(command, &outcome);
                // Whoever asked may have been stopped meanwhile.
                waiting.send(outcome).ok();
            }
        }
    }

    async fn ask_to_append(&self, entry: &Entry) -> Option<Vec<Outcome>> {
        let (world, entry, member) = (Rc::clone(&self.world), Rc::clone(entry), self.member.get());
        let serve = move || Rc::clone(&world).propose_at(member, Rc::clone(&entry)).boxed_local();
        self.world.call(self.host(), Host::Member(member), ANSWER_LIMIT, serve).await.flatten()
    }

    async fn send(&self, body: CommandBody) -> Result<Accepted, Rejection> {
        let command = self.world.command(&format!("conductor/{}", self.id), self.now(), body);
        let (answer, answered) = oneshot::channel();
        self.commands.push((command, answer));
        match answered.await {
            Ok(outcome) => outcome,
            Err(_) => std::future::pending().await,
        }
    }

    /// Sends a command and waits until its effects show in the replica.
    async fn propose(self: &Rc<Self>, body: CommandBody) -> Result<(), Rejection> {
        let accepted = self.send(body).await?;
        self.replica.until(|state| (state.tip().revision >= accepted.revision).then_some(())).await;
        Ok(())
    }

    fn tell(&self, changes: Vec<Touched>, notice: Notice) {
        let is_missed =
            self.world.is_sabotaged(Sabotage::ConductorMissesChanges) && self.world.exec.chance(30);
        if !is_missed {
            self.changes.push(work::Change::Touched(changes));
        }
        self.notices.push(notice);
    }
}
