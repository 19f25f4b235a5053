//! The replicated log by its contract: one order, nothing lost that was acknowledged, leaders that come and go, and
//! proposals of which it is never quite sure whether they made it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::network::Host;
use crate::sync::Watch;
use crate::world::{MEMBERS, World};

/// A member answers within this, or not at all.
const PROPOSAL_LIMIT: Duration = Duration::from_secs(5);

/// Pause before a proposal that found no leader is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Commands, encoded.
pub(crate) type Entry = Rc<[u8]>;

/// The log, and who leads.
#[derive(Debug, Default)]
pub(crate) struct Raft {
    pub(crate) committed: Watch<Vec<Entry>>,
    leader: Watch<Option<usize>>,
    /// Proposals that a leader has taken and that no majority has yet.
    under_way: RefCell<BTreeMap<u64, Entry>>,
    /// Where proposals ended up, by number.
    places: Watch<BTreeMap<u64, usize>>,
    proposals: Cell<u64>,
}

impl Raft {
    pub(crate) fn leader(&self) -> Option<usize> {
        *self.leader.get()
    }

    fn commit(&self, number: u64) {
        let Some(entry) = self.under_way.borrow_mut().remove(&number) else { return };
        let place = self.committed.update(|log| {
            log.push(entry);
            log.len()
        });
        self.places.update(|places| places.insert(number, place));
    }
}

impl World {
    /// Whether a member reaches a majority, itself included.
    pub(crate) fn reaches_majority(&self, member: usize) -> bool {
        let hears = |other: &usize| {
            self.members[*other].process().is_alive()
                && !self.network.is_cut(Host::Member(member), Host::Member(*other))
        };
        self.members[member].process().is_alive()
            && (0..MEMBERS).filter(hears).count() * 2 > MEMBERS
    }

    /// Elects a leader whenever there is none that a majority hears.
    pub(crate) async fn elections(self: Rc<Self>) {
        loop {
            let leader = self.raft.leader();
            if !leader.is_some_and(|leader| self.reaches_majority(leader)) {
                self.depose();
                self.exec.pause(300..=1_200).await;
                let able: Vec<_> = (0..MEMBERS).filter(|it| self.reaches_majority(*it)).collect();
                if !able.is_empty() {
                    let elected = able[self.exec.below(able.len())];
                    self.note(&format!("raft: member {elected} leads"));
                    self.raft.leader.set(Some(elected));
                }
            }
            self.exec.pause(50..=150).await;
        }
    }

    /// Ends the leader's term. What it had under way reached a majority, or did not.
    pub(crate) fn depose(&self) {
        if self.raft.leader().is_some() {
            self.note("raft: no leader");
            self.raft.leader.set(None);
        }
        let under_way: Vec<_> = self.raft.under_way.borrow().keys().copied().collect();
        for number in under_way {
            if self.exec.chance(50) {
                self.raft.commit(number);
            } else {
                self.raft.under_way.borrow_mut().remove(&number);
            }
        }
    }

    /// Puts an entry into the log by way of `member`. The place it got; none when that is not known in time.
    pub(crate) async fn append(self: &Rc<Self>, member: usize, entry: Entry) -> Option<usize> {
        let this = Rc::clone(self);
        let appending = async move {
            let leader = this.reachable_leader(member).await;
            this.raft.proposals.set(this.raft.proposals.get() + 1);
            let number = this.raft.proposals.get();
            this.raft.under_way.borrow_mut().insert(number, entry);
            let (raft, leads) = (Rc::clone(&this), this.process_of(Host::Member(leader)));
            this.exec.spawn(&leads, async move {
                raft.exec.pause(1..=8).await;
                if raft.raft.leader() == Some(leader) && raft.reaches_majority(leader) {
                    raft.raft.commit(number);
                }
            });
            this.raft.places.until(|places| places.get(&number).copied()).await
        };
        self.exec.timeout(PROPOSAL_LIMIT, appending).await
    }

    /// The length of the log as a leader confirms it: what a linearizable read has to have applied.
    pub(crate) async fn read_index(self: &Rc<Self>, member: usize) -> Option<usize> {
        let this = Rc::clone(self);
        let confirming = async move {
            this.reachable_leader(member).await;
            this.raft.committed.get().len()
        };
        self.exec.timeout(PROPOSAL_LIMIT, confirming).await
    }

    async fn reachable_leader(&self, member: usize) -> usize {
        loop {
            if let Some(leader) = self.raft.leader() {
                if leader != member {
                    self.exec.sleep(self.travel_time()).await;
                }
                let cut = self.network.is_cut(Host::Member(member), Host::Member(leader));
                if self.raft.leader() == Some(leader) && !cut && self.reaches_majority(leader) {
                    return leader;
                }
            }
            self.exec.sleep(RETRY_PAUSE).await;
        }
    }
}
