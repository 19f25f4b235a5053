//! Whose turn it is: a conductor runs so many deployments and cleanings at once, and other nodes wait in line for theirs.
//!
//! A turn lasts from a plan's first step to its end. Turns go round the owners of nodes, so that one who asks for a
//! thousand machines does not hold up another who asks for one; an owner's own nodes get theirs as they came. A plan that
//! was begun before, by whichever conductor, does not wait again. Nobody is turned away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{NodeId, PlanId};
use crate::node::PlanKind;

/// How many plans of a kind a conductor runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce {
    /// Deployments.
    pub deploys: usize,
    /// Cleanings.
    pub cleans: usize,
}

impl AtOnce {
    /// As many as there are.
    pub const UNBOUNDED: Self = Self { deploys: usize::MAX, cleans: usize::MAX };
}

/// A node that waits, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub node: NodeId,
    /// What for.
    pub kind: PlanKind,
    /// 1 is next.
    pub position: usize,
    /// How many wait for the same.
    pub waiting: usize,
    /// How many do it at once.
    pub at_once: usize,
}

/// A node's plan that takes its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish<'a> {
    pub(crate) plan: PlanId,
    pub(crate) kind: PlanKind,
    pub(crate) owner: &'a str,
    /// Some of its steps were begun.
    pub(crate) is_begun: bool,
}

/// The turns of one conductor's nodes.
#[derive(Debug)]
pub(crate) struct Turns {
    deploys: Line,
    cleans: Line,
    /// The plan with which each node has a turn or waits for one.
    plans: BTreeMap<NodeId, (PlanId, PlanKind)>,
}

/// Those who do the same, and those who wait to.
#[derive(Debug)]
struct Line {
    at_once: usize,
    having: BTreeSet<NodeId>,
    /// By owner; never an empty queue.
    waiting: BTreeMap<String, VecDeque<NodeId>>,
    waiting_count: usize,
    /// Whose node got the last turn; the owners after it come first.
    last_owner: String,
}

impl Turns {
    pub(crate) const fn new(at_once: AtOnce) -> Self {
        Self {
            deploys: Line::new(at_once.deploys),
            cleans: Line::new(at_once.cleans),
            plans: BTreeMap::new(),
        }
    }

    /// Whether the node may go on with what it wishes to do, if anything. The node that gets the turn which this one
    /// gives up, if it does.
    pub(crate) fn ask(&mut self, node: NodeId, wish: Option<Wish<'_>>) -> (bool, Option<NodeId>) {
        let next = match self.plans.get(&node) {
            Some((plan, _)) if wish.is_some_and(|wish| wish.plan == *plan) => None,
            Some((_, kind)) => {
                let kind = *kind;
                self.plans.remove(&node);
                self.line(kind).and_then(|line| line.leave(node))
            }
            None => None,
        };
        let Some(wish) = wish else { return (true, next) };
        let Some(line) = self.line(wish.kind) else { return (true, next) };
        let has_turn = line.join(node, wish.owner, wish.is_begun);
        self.plans.insert(node, (wish.plan, wish.kind));
        (has_turn, next)
    }

    /// Who has a turn or waits for one.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.plans.keys().copied()
    }

    /// The first `limit` of each line, in order.
    pub(crate) fn places(&self, limit: usize) -> impl Iterator<Item = Place> {
        [(PlanKind::Deploy, &self.deploys), (PlanKind::Clean, &self.cleans)].into_iter().flat_map(
            move |(kind, line)| {
                let (waiting, at_once) = (line.waiting_count, line.at_once);
                line.in_order().take(limit).enumerate().map(move |(index, node)| Place {
                    node,
                    kind,
                    position: index + 1,
                    waiting,
                    at_once,
                })
            },
        )
    }

    /// Verifying and tearing down take seconds and no image, and a person waits for a rescue or a service: they need no turn.
    const fn line(&mut self, kind: PlanKind) -> Option<&mut Line> {
        match kind {
            PlanKind::Deploy => Some(&mut self.deploys),
            PlanKind::Clean | PlanKind::ManualClean | PlanKind::Inspect => Some(&mut self.cleans),
            PlanKind::Verify
            | PlanKind::Undeploy
            | PlanKind::Adopt
            | PlanKind::Rescue
            | PlanKind::Unrescue
            | PlanKind::Service
            | PlanKind::AbortService => None,
        }
    }
}

impl Line {
    const fn new(at_once: usize) -> Self {
        Self {
            at_once,
            having: BTreeSet::new(),
            waiting: BTreeMap::new(),
            waiting_count: 0,
            last_owner: String::new(),
        }
    }

    /// Whether the node has a turn; without one it waits.
    fn join(&mut self, node: NodeId, owner: &str, is_begun: bool) -> bool {
        if self.having.contains(&node) {
            return true;
        }
        let waits = self.waiting.get(owner).is_some_and(|queue| queue.contains(&node));
        if is_begun || (!waits && self.waiting.is_empty() && self.having.len() < self.at_once) {
            if waits {
                self.stop_waiting(node);
            }
            return self.having.insert(node);
        }
        if !waits {
            // Its owner may have changed while it waited.
            self.stop_waiting(node);
            self.waiting.entry(owner.to_owned()).or_default().push_back(node);
            self.waiting_count += 1;
        }
        false
    }

    /// Who gets the turn that the node leaves.
    fn leave(&mut self, node: NodeId) -> Option<NodeId> {
        if !self.having.remove(&node) {
            self.stop_waiting(node);
            return None;
        }
        if self.having.len() >= self.at_once {
            return None;
        }
        let owner = self.owners().next()?.clone();
        let next = self.waiting.get_mut(&owner)?.pop_front()?;
        self.waiting.retain(|_, queue| !queue.is_empty());
        self.waiting_count -= 1;
        self.last_owner = owner;
        self.having.insert(next);
        Some(next)
    }

    fn stop_waiting(&mut self, node: NodeId) {
        let before: usize = self.waiting_count;
        for queue in self.waiting.values_mut() {
            let length = queue.len();
            queue.retain(|waiting| *waiting != node);
            self.waiting_count -= length - queue.len();
        }
        if self.waiting_count != before {
            self.waiting.retain(|_, queue| !queue.is_empty());
        }
    }

    /// Those who wait, beginning with the owner whose turn it is.
    fn owners(&self) -> impl Iterator<Item = &String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = (Excluded(self.last_owner.clone()), Unbounded);
        let rest = self.waiting.range(..=self.last_owner.clone());
        self.waiting.range(after).chain(rest).map(|(owner, _)| owner)
    }

    /// Those who wait, in the order in which they get their turns.
    fn in_order(&self) -> impl Iterator<Item = NodeId> {
        let mut queues: VecDeque<_> =
            self.owners().filter_map(|owner| Some(self.waiting.get(owner)?.iter())).collect();
        std::iter::from_fn(move || {
            while let Some(mut queue) = queues.pop_front() {
                if let Some(node) = queue.next() {
                    queues.push_back(queue);
                    return Some(*node);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn node(n: u128) -> NodeId {
        NodeId::new(Uuid::from_u128(n))
    }

    fn deploy(n: u128, owner: &str) -> Wish<'_> {
        let plan = PlanId::new(Uuid::from_u128(n));
        Wish { plan, kind: PlanKind::Deploy, owner, is_begun: false }
    }

    fn turns(deploys: usize) -> Turns {
        Turns::new(AtOnce { deploys, cleans: 1 })
    }

    fn in_line(turns: &Turns) -> Vec<NodeId> {
        turns.places(usize::MAX).map(|place| place.node).collect()
    }

    #[test]
    fn turns_are_given_in_the_order_of_asking_and_kept_until_the_plan_ends() {
        let mut turns = turns(2);
        assert_eq!(turns.ask(node(1), Some(deploy(1, ""))), (true, None));
        assert_eq!(turns.ask(node(2), Some(deploy(2, ""))), (true, None));
        for n in [3, 4] {
            assert_eq!(turns.ask(node(n), Some(deploy(n, ""))), (false, None));
            assert_eq!(turns.ask(node(n), Some(deploy(n, ""))), (false, None), "asked again");
        }
        assert_eq!(turns.ask(node(1), Some(deploy(1, ""))), (true, None));
        let places: Vec<_> = turns.places(9).collect();
        let (kind, waiting, at_once) = (PlanKind::Deploy, 2, 2);
        let place = |n, position| Place { node: node(n), kind, position, waiting, at_once };
        assert_eq!(places, [place(3, 1), place(4, 2)]);
        assert_eq!(turns.ask(node(1), None), (true, Some(node(3))));
        assert_eq!(turns.ask(node(3), Some(deploy(3, ""))), (true, None));
        assert_eq!(in_line(&turns), [node(4)]);
        // Who waits no longer is passed over.
        assert_eq!(turns.ask(node(4), None), (true, None));
        assert_eq!(turns.ask(node(2), None), (true, None));
    }

    #[test]
    fn owners_take_turns() {
        let mut turns = turns(1);
        assert!(turns.ask(node(1), Some(deploy(1, "ada"))).0);
        for n in 2..=5 {
            turns.ask(node(n), Some(deploy(n, "ada")));
        }
        for n in 6..=7 {
            turns.ask(node(n), Some(deploy(n, "bob")));
        }
        assert_eq!(in_line(&turns), [2, 6, 3, 7, 4, 5].map(node));
        let mut served = vec![node(1)];
        while let (_, Some(next)) = turns.ask(*served.last().unwrap(), None) {
            served.push(next);
        }
        assert_eq!(served, [1, 2, 6, 3, 7, 4, 5].map(node));
    }

    #[test]
    fn what_was_begun_does_not_wait_again_and_the_limit_is_kept_afterwards() {
        let mut turns = turns(1);
        let begun = |n| Some(Wish { is_begun: true, ..deploy(n, "") });
        assert_eq!(turns.ask(node(1), begun(1)), (true, None));
        assert_eq!(turns.ask(node(2), begun(2)), (true, None));
        assert_eq!(turns.ask(node(3), Some(deploy(3, ""))), (false, None));
        assert_eq!(turns.ask(node(1), None), (true, None), "still one too many");
        assert_eq!(turns.ask(node(2), None), (true, Some(node(3))));
    }

    #[test]
    fn lines_are_apart_and_the_next_plan_of_a_node_asks_anew() {
        let mut turns = turns(1);
        let clean = |n: u128| Wish {
            plan: PlanId::new(Uuid::from_u128(100 + n)),
            kind: PlanKind::Clean,
            ..deploy(n, "")
        };
        let verify = |n: u128| Wish { kind: PlanKind::Verify, ..deploy(n, "") };
        assert!(turns.ask(node(1), Some(deploy(1, ""))).0);
        assert!(turns.ask(node(2), Some(clean(2))).0);
        assert!(!turns.ask(node(3), Some(deploy(3, ""))).0);
        assert!(turns.ask(node(4), Some(verify(4))).0);
        // The cleaning's end is not a deployment's.
        assert_eq!(turns.ask(node(2), Some(deploy(2, ""))), (false, None));
        assert_eq!(turns.ask(node(1), Some(clean(1))), (true, Some(node(3))));
    }

    proptest! {
        /// Whatever is asked in whatever order: no more than allowed have a turn, nobody is left over while there is
        /// room, and who stands in line is told so.
        #[test]
        fn no_turn_is_lost(
            at_once in 1_usize..4,
            asked in prop::collection::vec((0_u128..12, 0_u8..3, prop::bool::ANY), 0..200),
        ) {
            let mut turns = turns(at_once);
            let mut having = BTreeSet::new();
            for (n, owner, wants) in asked {
                let owner = owner.to_string();
                let (may, next) = turns.ask(node(n), wants.then(|| deploy(n, &owner)));
                having.remove(&node(n));
                having.extend((wants && may).then_some(node(n)));
                having.extend(next);
                prop_assert!(having.len() <= at_once);
                let waiting = in_line(&turns);
                prop_assert!(waiting.is_empty() || having.len() == at_once);
                prop_assert_eq!(waiting.len(), turns.deploys.waiting_count);
                prop_assert!(waiting.iter().all(|node| !having.contains(node)));
                let everyone: BTreeSet<_> = having.iter().chain(&waiting).copied().collect();
                prop_assert!(everyone.iter().eq(turns.plans.keys()));
            }
        }
    }
}
