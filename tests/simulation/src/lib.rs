//! The whole cluster in one thread and virtual time, from one seed.
//!
//! What runs is the core itself: `State::apply` and `evolve`, `effects`, the ring, claims and epochs, plans, outcomes,
//! `lease`, `workload`, `outbox` and `task`. Around it, modelled by their contracts: the replicated log, the network,
//! JetStream, the image cache, BMCs, disks. Faults break all of it for a while; named invariants judge what happens,
//! one file for each; then the faults stop, and everything that was asked for must come to pass.

mod agent;
mod clock;
mod conductor;
mod disk;
mod executor;
mod faults;
mod image_cache;
mod invariants;
mod jetstream;
mod machine;
mod member;
mod network;
mod raft;
mod sabotage;
mod sync;
#[cfg(test)]
mod tests;
mod trace;
mod user;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use faults::LIVENESS_LIMIT;
use invariants::Violation;
use sabotage::Sabotage;
use world::{CONDUCTORS, MEMBERS, NODES, World};

/// What came of one seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Digest of the whole trace: the same for the same seed.
    pub digest: u64,
    /// Entries in the log.
    pub entries: usize,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
}

/// A broken invariant, or a panic.
#[derive(Debug)]
pub struct Failure {
    /// Name of the invariant; its file says why it matters.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, digest, entries, elapsed, failure } = self;
        let Some(Failure { invariant, what, trace }) = failure else {
            let seconds = elapsed.as_secs();
            return write!(f, "seed {seed}: {entries} entries, {seconds} s, trace {digest:016x}");
        };
        for line in trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {seed} broke `{invariant}`: {what}")?;
        write!(f, "replay: ./scripts/simulate --seed {seed}")
    }
}

/// Runs one seed to its end, or to the first broken invariant.
#[must_use]
pub fn run(seed: u64) -> Report {
    run_with(seed, None)
}

fn run_with(seed: u64, sabotage: Option<Sabotage>) -> Report {
    let world = World::new(seed, sabotage);
    let ran = catch_unwind(AssertUnwindSafe(|| live(&world)));
    let violation = match ran {
        Ok(()) => world.violation(),
        Err(_) => Some(Violation::new("no_panic", "a part of the cluster panicked; see above")),
    };
    let report = Report {
        seed,
        digest: world.trace.digest(),
        entries: world.raft.committed.get().len(),
        elapsed: world.exec.now(),
        failure: violation.map(|Violation { invariant, what }| Failure {
            invariant,
            what,
            trace: world.trace.last_lines(),
        }),
    };
    world.exec.clear();
    report
}

/// Faults and wishes; then rest; then the verdict.
fn live(world: &Rc<World>) {
    world.set_clocks();
    (0..MEMBERS).for_each(|index| world.start_member(index));
    (0..CONDUCTORS).for_each(|index| world.start_conductor(index));
    world.exec.spawn(&world.wires, Rc::clone(world).elections());
    world.exec.spawn(&world.wires, Rc::clone(world).form());
    for index in 0..NODES {
        world.exec.spawn(&world.wires, Rc::clone(world).user(index));
    }
    world.exec.spawn(&world.wires, Rc::clone(world).break_things());

    let calm_since = Cell::new(None);
    world.exec.run_until(|| {
        if calm_since.get().is_none() && !world.faults.get() {
            calm_since.set(Some(world.exec.now()));
        }
        let is_late =
            calm_since.get().is_some_and(|since| world.exec.now() > since + LIVENESS_LIMIT);
        world.violation().is_some() || is_late || is_at_rest(world)
    });
    if world.violation().is_none() {
        if is_at_rest(world) {
            world.judge_the_end();
        } else {
            world.judge(Err(Violation::new("everything_comes_to_rest", unrest(world))));
        }
    }
}

/// Everybody has what they want, every member knows it, and the stream too.
fn is_at_rest(world: &World) -> bool {
    let entries = world.raft.committed.get().len();
    world.wishes.fulfilled() == NODES
        && world.members.iter().all(|member| *member.applied.get() == entries)
        && unpublished(world).is_empty()
}

fn unpublished(world: &World) -> Vec<String> {
    let state = world.members[0].state.borrow();
    let behind = |subject: &bessemer_domain::Subject| {
        world.jetstream.published(subject) != state.version_of(subject)
    };
    state.subjects().filter(behind).map(|subject| subject.to_string()).collect()
}

/// What is still missing, an hour after the last fault.
fn unrest(world: &World) -> String {
    let state = world.members[0].state.borrow();
    let nodes: Vec<_> = state
        .nodes()
        .map(|node| {
            let waiting = bessemer_domain::effects::waiting_on(&state, node);
            format!("{} is `{}`, waits for {waiting:?}", node.id, node.provision.state)
        })
        .collect();
    format!(
        "{} of {NODES} users have what they want; not published: {:?}; {}",
        world.wishes.fulfilled(),
        unpublished(world),
        nodes.join("; ")
    )
}
