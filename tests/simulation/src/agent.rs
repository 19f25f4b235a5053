//! The agent: looks up its node, serves its conductor by the core's `Desk`, and does its tasks to the disk.

use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::task::{Act, Answer, Desk, Ending, Start};
use futures::FutureExt;
use futures::future::Either;

use crate::conductor::{Hello, ToAgent, ToConductor};
use crate::disk::{Content, DISK_CHUNKS, Image};
use crate::executor::race;
use crate::machine::Machine;
use crate::network::{Connection, Host, connect};
use crate::sabotage::Sabotage;
use crate::sync::Watch;
use crate::world::{MEMBERS, World};

const HEARTBEAT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const ADMISSION_LIMIT: Duration = Duration::from_secs(10);

/// What an agent does to its machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Task {
    Write(Image),
    Erase,
    Sync,
    /// A step of the operator's.
    Plugin,
}

/// What an agent says of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Report {
    Progress,
    Succeeded,
    Failed(String),
}

/// A task was stopped half way.
struct Cancelled;

/// A task in progress.
struct Running {
    task_id: String,
    stop: Rc<Watch<bool>>,
    ending: Rc<Watch<Option<Ending<Report>>>>,
}

type Wire = Connection<ToConductor, ToAgent>;

/// Why a session ends.
struct SessionEnd;

struct Agent {
    world: Rc<World>,
    index: usize,
    desk: Desk<Task, Report>,
    running: Option<Running>,
}

impl World {
    /// One life of an agent.
    pub(crate) async fn agent(self: Rc<Self>, index: usize) {
        let memory = self.machines[index].memory.borrow().clone();
        let Some(memory) = memory else { return };
        self.note(&format!("machine {index}: agent starts"));
        self.invariants.steps_once.borrow_mut().agent_started(self.machines[index].node);
        let desk = Desk::new(memory.epoch);
        Agent { world: self, index, desk, running: None }.serve().await;
    }
}

impl Agent {
    fn machine(&self) -> &Machine {
        &self.world.machines[self.index]
    }

    fn note(&self, line: &str) {
        self.world.note(&format!("machine {}: {line}", self.index));
    }

    /// Serves whichever conductor drives the machine, for ever.
    async fn serve(mut self) {
        loop {
            let conductor = self.look_up().await;
            let SessionEnd = self.session(conductor).await;
            self.world.exec.pause(50..=2_000).await;
        }
    }

    /// Asks the members in turn who drives the node.
    async fn look_up(&self) -> usize {
        let token = self.machine().memory.borrow().as_ref().map(|memory| memory.token.clone());
        let (token, node) = (token.unwrap_or_default(), self.machine().node);
        for member in (0..MEMBERS).cycle() {
            let (world, token) = (Rc::clone(&self.world), token.clone());
            let serve =
                move || Rc::clone(&world).look_up_at(member, node, token.clone()).boxed_local();
            let here = Host::Machine(self.index);
            let answer = self.world.call(here, Host::Member(member), ANSWER_LIMIT, serve).await;
            if let Some(Some(Ok(owner))) = answer {
                let found = self.world.conductors.iter().position(|it| it.id == owner);
                return found.expect("only conductors of this world register");
            }
            self.world.exec.pause(100..=2_000).await;
        }
        unreachable!("members are asked for ever")
    }

    async fn session(&mut self, conductor: usize) -> SessionEnd {
        let (here, there) = (Host::Machine(self.index), Host::Conductor(conductor));
        let exec = Rc::clone(&self.world.exec);
        exec.sleep(self.world.travel_time()).await;
        if self.world.network.is_cut(here, there) {
            exec.sleep(ANSWER_LIMIT).await;
            return SessionEnd;
        }
        let Some(life) = self.world.conductors[conductor].life() else { return SessionEnd };
        let (wire, far) = connect(&self.world, here, there);
        let token = self.machine().memory.borrow().as_ref().map(|memory| memory.token.clone());
        let hello = Hello { node: self.machine().node, token: token.unwrap_or_default() };
        exec.spawn(&self.world.process_of(there), life.serve(hello, far));
        let first = exec.timeout(ADMISSION_LIMIT, wire.receive()).await;
        let Some(Some(message @ ToAgent::Welcome { .. })) = first else { return SessionEnd };
        if self.world.is_sabotaged(Sabotage::AgentForgetsAnswers) && self.running.is_none() {
            self.desk = Desk::new(self.desk.highest_epoch());
        }
        match self.hear(message, &wire) {
            Ok(()) => self.carry(&wire).await,
            Err(end) => end,
        }
    }

    async fn carry(&mut self, wire: &Wire) -> SessionEnd {
        let exec = Rc::clone(&self.world.exec);
        let mut beat_at = exec.now();
        loop {
            let event = race(
                race(wire.receive(), ending_of(self.running.as_ref())),
                exec.sleep_until(beat_at),
            );
            let carried = match event.await {
                Either::Left(Either::Left(Some(message))) => self.hear(message, wire),
                Either::Left(Either::Left(None)) => Err(SessionEnd),
                Either::Left(Either::Right(ending)) => {
                    self.running = None;
                    let acts = self.desk.ended(ending);
                    acts.into_iter().try_for_each(|act| self.carry_out(act, wire))
                }
                Either::Right(()) => {
                    wire.send(ToConductor::Heartbeat);
                    beat_at = exec.now() + HEARTBEAT;
                    Ok(())
                }
            };
            if let Err(end) = carried {
                return end;
            }
        }
    }

    fn hear(&mut self, message: ToAgent, wire: &Wire) -> Result<(), SessionEnd> {
        let (epoch, act) = match message {
            ToAgent::Welcome { epoch } => (epoch, self.desk.welcome(epoch)),
            ToAgent::Start(start) => (start.epoch, self.desk.start(start)),
            ToAgent::Cancel { task_id, epoch } => (epoch, self.desk.cancel(&task_id, epoch)),
        };
        if let Some(memory) = self.machine().memory.borrow_mut().as_mut() {
            memory.epoch = memory.epoch.max(self.desk.highest_epoch());
        }
        if act != Some(Act::Leave) {
            let mut one_driver = self.world.invariants.one_driver.borrow_mut();
            self.world.judge(one_driver.agent_obeyed(self.machine().node, epoch));
        }
        act.map_or(Ok(()), |act| self.carry_out(act, wire))
    }

    fn carry_out(&mut self, act: Act<Task, Report>, wire: &Wire) -> Result<(), SessionEnd> {
        match act {
            Act::Begin(start) => self.begin(start),
            Act::Stop => self.running.iter().for_each(|running| running.stop.set(true)),
            Act::ReportProgress => {
                if let Some(Running { task_id, .. }) = &self.running {
                    let task_id = task_id.clone();
                    wire.send(ToConductor::Update { task_id, report: Report::Progress });
                }
            }
            Act::Send(Answer { task_id, answer }) => {
                wire.send(ToConductor::Update { task_id, report: answer });
            }
            Act::Leave => return Err(SessionEnd),
        }
        Ok(())
    }

    fn begin(&mut self, start: Start<Task>) {
        self.note(&format!("begins {:?} resume={} {}", start.task, start.resume, start.task_id));
        let node = self.machine().node;
        let begun = self.world.invariants.steps_once.borrow_mut().begun(node, &start.task_id);
        self.world.judge(begun);
        let (stop, ending) = (Rc::new(Watch::new(false)), Rc::new(Watch::new(None)));
        let running = Running {
            task_id: start.task_id.clone(),
            stop: Rc::clone(&stop),
            ending: Rc::clone(&ending),
        };
        self.running = Some(running);
        let (world, index) = (Rc::clone(&self.world), self.index);
        self.world.exec.spawn(&self.machine().process(), async move {
            let done = world.perform(index, start.task, start.resume, &stop).await;
            let (said, is_final) = match done {
                Ok(()) => (Ending::Final(Report::Succeeded), true),
                Err(Cancelled) => {
                    (Ending::Cancelled(Report::Failed("CANCELLED".to_owned())), false)
                }
            };
            world.note(&format!("machine {index}: ended {} final={is_final}", start.task_id));
            world.invariants.steps_once.borrow_mut().ended(node, &start.task_id, is_final);
            ending.set(Some(said));
        });
    }
}

/// The end of the running task; never, when none runs.
async fn ending_of(running: Option<&Running>) -> Ending<Report> {
    match running {
        Some(running) => running.ending.until(Clone::clone).await,
        None => std::future::pending().await,
    }
}

impl World {
    async fn perform(
        &self,
        index: usize,
        task: Task,
        resume: bool,
        stop: &Watch<bool>,
    ) -> Result<(), Cancelled> {
        match task {
            Task::Write(image) => {
                self.wipe(index, image).await;
                let outcome = self.write_image(index, image, resume, stop).await;
                if outcome.is_err() {
                    self.wipe(index, image).await;
                }
                outcome
            }
            Task::Erase => self.erase(index).await,
            Task::Sync => {
                self.flush(index).await;
                Ok(())
            }
            Task::Plugin => self.operators_step(stop).await,
        }
    }

    /// What an operator's plug-in does is nothing to the disk here; it takes its time, and may be stopped.
    async fn operators_step(&self, stop: &Watch<bool>) -> Result<(), Cancelled> {
        self.exec.pause(20..=4_000).await;
        if *stop.get() { Err(Cancelled) } else { Ok(()) }
    }

    /// Removes old partition tables, in the agent's order.
    async fn wipe(&self, index: usize, image: Image) {
        for chunk in [0, image.chunks - 1, DISK_CHUNKS - 1] {
            self.put(index, chunk, Content::Zero).await;
            self.flush(index).await;
        }
        self.machines[index].disk.borrow_mut().is_being_erased = false;
    }

    /// Writes an image in the agent's order: what holds tables last, each when all before it is durable.
    async fn write_image(
        &self,
        index: usize,
        image: Image,
        resume: bool,
        stop: &Watch<bool>,
    ) -> Result<(), Cancelled> {
        let found = self.machines[index].disk.borrow().content();
        let right = |chunk| Content::Image { image, chunk };
        let mut body: Vec<_> = (1..image.chunks - 1)
            .filter(|chunk| !(resume && found[*chunk] == right(*chunk)))
            .collect();
        self.exec.shuffle(&mut body);
        let last = [image.chunks - 1, 0];
        if self.is_sabotaged(Sabotage::TableFirst) {
            body.splice(0..0, last.into_iter().rev());
        }
        for chunk in body {
            self.exec.pause(20..=400).await;
            if *stop.get() {
                return Err(Cancelled);
            }
            self.put(index, chunk, right(chunk)).await;
        }
        self.flush(index).await;
        for chunk in last {
            self.put(index, chunk, right(chunk)).await;
            self.flush(index).await;
        }
        Ok(())
    }

    /// Erases metadata: of partitions first, so that a cut leaves the table by which the next attempt finds them.
    async fn erase(&self, index: usize) -> Result<(), Cancelled> {
        self.machines[index].disk.borrow_mut().is_being_erased = true;
        for chunk in [1, DISK_CHUNKS - 1, 0] {
            self.put(index, chunk, Content::Zero).await;
            self.flush(index).await;
        }
        self.machines[index].disk.borrow_mut().is_being_erased = false;
        Ok(())
    }

    async fn put(&self, index: usize, chunk: usize, content: Content) {
        self.exec.pause(1..=60).await;
        self.machines[index].disk.borrow_mut().write(chunk, content);
        self.look_at_disk(index);
    }

    async fn flush(&self, index: usize) {
        self.exec.pause(1..=60).await;
        self.machines[index].disk.borrow_mut().flush();
    }
}
