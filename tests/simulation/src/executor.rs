//! Runs tasks in one thread and virtual time. Which ready task is next is drawn from the seed, so each seed is another
//! interleaving, and the same seed is the same one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fastrand::Rng;
use futures::future::{Either, select};
use uuid::Uuid;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that die together: a process, with all it has in memory.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    number: u64,
    is_alive: Rc<Cell<bool>>,
}

impl Process {
    pub(crate) fn is_alive(&self) -> bool {
        self.is_alive.get()
    }

    /// The same life of the same process.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

struct Slot {
    process: Process,
    /// Taken while it is polled.
    task: Option<Task>,
}

type Timers = RefCell<BTreeMap<(Duration, u64), Waker>>;

/// A timer that somebody waits for; dropped, nobody does.
struct Timer<'a> {
    timers: &'a Timers,
    key: (Duration, u64),
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.timers.borrow_mut().remove(&self.key);
    }
}

/// The tasks, the time and the randomness of one run.
pub(crate) struct Executor {
    now: Cell<Duration>,
    drawn: Cell<u64>,
    random: RefCell<Rng>,
    ready: Arc<Mutex<Vec<u64>>>,
    timers: Timers,
    tasks: RefCell<BTreeMap<u64, Slot>>,
}

struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

impl Executor {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Cell::default(),
            drawn: Cell::default(),
            random: RefCell::new(Rng::with_seed(seed)),
            ready: Arc::default(),
            timers: RefCell::default(),
            tasks: RefCell::default(),
        }
    }

    /// Time since the start: what every monotonic clock shows.
    pub(crate) fn now(&self) -> Duration {
        self.now.get()
    }

    fn draw_number(&self) -> u64 {
        self.drawn.set(self.drawn.get() + 1);
        self.drawn.get()
    }

    pub(crate) fn process(&self) -> Process {
        Process { number: self.draw_number(), is_alive: Rc::new(Cell::new(true)) }
    }

    /// Adds a task to a process; one of a dead process never runs.
    pub(crate) fn spawn(&self, process: &Process, task: impl Future<Output = ()> + 'static) -> u64 {
        let number = self.draw_number();
        if process.is_alive() {
            let slot = Slot { process: process.clone(), task: Some(Box::pin(task)) };
            self.tasks.borrow_mut().insert(number, slot);
            self.wake(number);
        }
        number
    }

    /// Ends a task, wherever it is.
    pub(crate) fn abort(&self, task: u64) {
        let slot = self.tasks.borrow_mut().remove(&task);
        drop(slot);
    }

    /// Ends a process, with all that it has in memory.
    pub(crate) fn kill(&self, process: &Process) {
        process.is_alive.set(false);
        let of_it: Vec<_> = self
            .tasks
            .borrow()
            .iter()
            .filter(|(_, slot)| slot.process.is(process))
            .map(|(number, _)| *number)
            .collect();
        of_it.into_iter().for_each(|task| self.abort(task));
    }

    /// Ends everything. The tasks know the world and the world knows the tasks; this lets both go.
    pub(crate) fn clear(&self) {
        let tasks = self.tasks.take();
        drop(tasks);
        self.timers.borrow_mut().clear();
    }

    fn wake(&self, task: u64) {
        Arc::new(TaskWaker { task, ready: Arc::clone(&self.ready) }).wake();
    }

    /// Runs until `done` says so or nothing can happen any more.
    pub(crate) fn run_until(&self, done: impl Fn() -> bool) {
        while !done() {
            if let Some(task) = self.next_ready() {
                self.poll(task);
            } else if !self.advance() {
                return;
            }
        }
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let count = ready.len();
        (count > 0).then(|| ready.swap_remove(self.random.borrow_mut().usize(..count)))
    }

    fn poll(&self, number: u64) {
        let taken = self.tasks.borrow_mut().get_mut(&number).and_then(|slot| slot.task.take());
        let Some(mut task) = taken else { return };
        let waker =
            Waker::from(Arc::new(TaskWaker { task: number, ready: Arc::clone(&self.ready) }));
        let outcome = task.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        if outcome.is_ready() {
            tasks.remove(&number);
        } else if let Some(slot) = tasks.get_mut(&number) {
            slot.task = Some(task);
            return;
        }
        // What it held is let go when nothing is borrowed any more.
        drop(tasks);
        drop(task);
    }

    /// Moves time to the next timer; false when there is none.
    fn advance(&self) -> bool {
        let Some(((at, _), waker)) = self.timers.borrow_mut().pop_first() else { return false };
        self.now.set(at);
        waker.wake();
        true
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    pub(crate) async fn sleep_until(&self, until: Duration) {
        let timer = Timer { timers: &self.timers, key: (until, self.draw_number()) };
        poll_fn(|context| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            timer.timers.borrow_mut().insert(timer.key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What `work` ends with, or none if `limit` passes first.
    pub(crate) async fn timeout<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        match race(work, self.sleep(limit)).await {
            Either::Left(done) => Some(done),
            Either::Right(()) => None,
        }
    }

    /// Sleeps for a random number of milliseconds.
    pub(crate) async fn pause(&self, milliseconds: RangeInclusive<u64>) {
        let pause = self.between(milliseconds);
        self.sleep(pause).await;
    }

    pub(crate) fn between(&self, milliseconds: RangeInclusive<u64>) -> Duration {
        let micros = milliseconds.start() * 1000..=milliseconds.end() * 1000;
        Duration::from_micros(self.random.borrow_mut().u64(micros))
    }

    /// True in `percent` of all cases.
    pub(crate) fn chance(&self, percent: u32) -> bool {
        self.random.borrow_mut().u32(..100) < percent
    }

    pub(crate) fn below(&self, count: usize) -> usize {
        self.random.borrow_mut().usize(..count)
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        self.random.borrow_mut().shuffle(items);
    }

    pub(crate) fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.random.borrow_mut().u128(..))
    }
}

/// The first of two to end; the other one is dropped.
pub(crate) async fn race<A, B>(
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
) -> Either<A, B> {
    match select(std::pin::pin!(a), std::pin::pin!(b)).await {
        Either::Left((a, _)) => Either::Left(a),
        Either::Right((b, _)) => Either::Right(b),
    }
}
