//! Messages between hosts: lost, delayed, doubled and cut off as the weather has it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, LocalBoxFuture};

use crate::executor::race;
use crate::sync::Watch;
use crate::world::World;

/// A place on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    User,
    Member(usize),
    Conductor(usize),
    Machine(usize),
}

/// How messages fare.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// No message of these passes, in either direction.
    cut: RefCell<BTreeSet<(Host, Host)>>,
    /// Whether single messages are lost, doubled or late.
    pub(crate) is_rough: Cell<bool>,
}

impl Network {
    pub(crate) fn cut(&self, a: Host, b: Host) {
        self.cut.borrow_mut().insert((a.min(b), a.max(b)));
    }

    pub(crate) fn heal(&self, a: Host, b: Host) {
        self.cut.borrow_mut().remove(&(a.min(b), a.max(b)));
    }

    pub(crate) fn heal_all(&self) {
        self.cut.borrow_mut().clear();
    }

    pub(crate) fn is_cut(&self, a: Host, b: Host) -> bool {
        self.cut.borrow().contains(&(a.min(b), a.max(b)))
    }
}

/// Keep-alive finds a dead connection after this long: a probe every 2 s, and 5 s for its answer.
const DEAD_AFTER: Duration = Duration::from_secs(7);

impl World {
    /// How long a message is under way.
    pub(crate) fn travel_time(&self) -> Duration {
        let late = self.network.is_rough.get() && self.exec.chance(5);
        self.exec.between(if late { 100..=2_000 } else { 0..=5 })
    }

    fn is_lost(&self, from: Host, to: Host) -> bool {
        self.network.is_cut(from, to) || (self.network.is_rough.get() && self.exec.chance(2))
    }

    /// Has `serve` done at `to`, once or, when the message is doubled, twice. None when no answer came within `limit`:
    /// whether it was done is not known then.
    pub(crate) async fn call<R: 'static>(
        self: &Rc<Self>,
        from: Host,
        to: Host,
        limit: Duration,
        serve: impl Fn() -> LocalBoxFuture<'static, R> + 'static,
    ) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        let answer = Rc::new(RefCell::new(Some(answer)));
        let serve = Rc::new(serve);
        let doubled = self.network.is_rough.get() && self.exec.chance(2);
        for _ in 0..=usize::from(doubled) {
            let (world, answer, serve) = (Rc::clone(self), Rc::clone(&answer), Rc::clone(&serve));
            self.exec.spawn(&self.wires, async move {
                world.exec.sleep(world.travel_time()).await;
                if world.is_lost(from, to) {
                    return;
                }
                let (receiver, exec) = (world.process_of(to), Rc::clone(&world.exec));
                exec.spawn(&receiver, async move {
                    let done = serve().await;
                    world.exec.sleep(world.travel_time()).await;
                    let waiting = answer.borrow_mut().take().filter(|_| !world.is_lost(to, from));
                    // Whoever asked may have given up.
                    waiting.and_then(|waiting| waiting.send(done).ok());
                });
            });
        }
        self.exec.timeout(limit, answered).await?.ok()
    }
}

/// Messages in one direction, in order.
#[derive(Debug)]
struct Lane<M> {
    queue: VecDeque<(Duration, M)>,
    /// Its writer is gone: after what is queued comes the end.
    is_closed: bool,
}

type Shared<M> = Rc<Watch<Lane<M>>>;

/// One end of a connection: messages arrive in order or not at all. Dropped, it closes.
pub(crate) struct Connection<Out, In> {
    world: Rc<World>,
    ends: (Host, Host),
    out: Shared<Out>,
    arriving: Shared<In>,
    /// Since when nothing passes any more, though neither end knows.
    dead_since: Rc<Watch<Option<Duration>>>,
}

/// A connection between two hosts: its two ends.
pub(crate) fn connect<A, B>(
    world: &Rc<World>,
    from: Host,
    to: Host,
) -> (Connection<A, B>, Connection<B, A>) {
    let (there, back) = (Lane::open(), Lane::open());
    let dead_since = Rc::new(Watch::new(None));
    let near = Connection {
        world: Rc::clone(world),
        ends: (from, to),
        out: Rc::clone(&there),
        arriving: Rc::clone(&back),
        dead_since: Rc::clone(&dead_since),
    };
    let far = Connection {
        world: Rc::clone(world),
        ends: (to, from),
        out: back,
        arriving: there,
        dead_since,
    };
    (near, far)
}

impl<M> Lane<M> {
    fn open() -> Shared<M> {
        Rc::new(Watch::new(Self { queue: VecDeque::new(), is_closed: false }))
    }
}

impl<Out, In> Connection<Out, In> {
    pub(crate) fn send(&self, message: Out) {
        if self.world.network.is_cut(self.ends.0, self.ends.1) && self.dead_since.get().is_none() {
            self.dead_since.set(Some(self.world.exec.now()));
        }
        if self.dead_since.get().is_none() {
            let at = self.world.exec.now() + self.world.travel_time();
            self.out.update(|lane| {
                let after_the_last = lane.queue.back().map_or(at, |(last, _)| at.max(*last));
                lane.queue.push_back((after_the_last, message));
            });
        }
    }

    /// The next message; none when the other end closed, or keep-alive found the connection dead.
    pub(crate) async fn receive(&self) -> Option<In> {
        match race(self.next(), self.found_dead()).await {
            Either::Left(message) => message,
            Either::Right(()) => None,
        }
    }

    async fn next(&self) -> Option<In> {
        let due = self.arriving.until(|lane| match lane.queue.front() {
            Some((due, _)) => Some(Some(*due)),
            None => lane.is_closed.then_some(None),
        });
        let due = due.await?;
        self.world.exec.sleep_until(due).await;
        self.arriving.update(|lane| lane.queue.pop_front()).map(|(_, message)| message)
    }

    async fn found_dead(&self) {
        let since = self.dead_since.until(|since| *since).await;
        self.world.exec.sleep_until(since + DEAD_AFTER).await;
    }
}

impl<Out, In> Drop for Connection<Out, In> {
    fn drop(&mut self) {
        if self.dead_since.get().is_none() {
            self.out.update(|lane| lane.is_closed = true);
        }
    }
}
