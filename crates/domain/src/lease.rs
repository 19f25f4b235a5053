//! Leases of conductors, from both ends: who is alive, and who may still act. Soft state, never in the log.
//!
//! Time is given, never read: instants of a monotonic clock, which each process has to itself. What keeps two conductors
//! from driving one node is that a conductor stops by itself before a leader, by whatever it heard, gives its nodes away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::State;
use crate::ids::{ConductorId, Incarnation};

/// Share of the lease after which a conductor that is not heard stops: it must be before the leader gives its nodes away,
/// however long ago the leader's clock says the last heartbeat was.
const SURE_FOR_PERCENT: u32 = 80;

/// A leader looks this often in each lease: a silent conductor is found at most a quarter late.
pub const LOOKS_PER_LEASE: u32 = 4;

/// A member's side: when each online conductor was last heard of.
#[derive(Debug, Default)]
pub struct Leases {
    last_heard: BTreeMap<ConductorId, (Incarnation, Instant)>,
    /// When this member last looked, if it led then.
    looked: Option<Instant>,
}

impl Leases {
    /// Notes a heartbeat. False, and nothing noted, when the conductor must register first.
    pub fn heard(
        &mut self,
        state: &State,
        conductor: &ConductorId,
        incarnation: Incarnation,
        now: Instant,
    ) -> bool {
        let registered = Standing::of(state, conductor, incarnation) == Standing::Registered;
        if registered {
            self.last_heard.insert(conductor.clone(), (incarnation, now));
        }
        registered
    }

    /// The conductors to be expired now, none unless this member leads. Looked for [`LOOKS_PER_LEASE`] times in a lease.
    pub fn look(
        &mut self,
        leads: bool,
        state: &State,
        lease: Duration,
        now: Instant,
    ) -> Vec<(ConductorId, Incarnation)> {
        // A new leader does not know what its predecessor heard; and who did not run could not hear.
        if self.looked.is_none_or(|looked| now.duration_since(looked) > lease / 2) {
            self.last_heard.clear();
        }
        self.looked = leads.then_some(now);
        if leads { self.overdue(state, lease, now) } else { Vec::new() }
    }

    /// The online conductors that were not heard of for a lease. One that is new here gets a whole lease first.
    fn overdue(
        &mut self,
        state: &State,
        lease: Duration,
        now: Instant,
    ) -> Vec<(ConductorId, Incarnation)> {
        let online: BTreeMap<_, _> = state
            .conductors()
            .filter(|conductor| conductor.online)
            .map(|conductor| (&conductor.id, conductor.registration.incarnation))
            .collect();
        self.last_heard.retain(|id, (incarnation, _)| online.get(id) == Some(incarnation));
        let mut overdue = Vec::new();
        for (id, incarnation) in online {
            let (_, heard) = *self.last_heard.entry(id.clone()).or_insert((incarnation, now));
            if now.duration_since(heard) >= lease {
                overdue.push((id.clone(), incarnation));
            }
        }
        overdue
    }
}

/// A conductor's side: until when it can be sure that its nodes are not given away.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnLease {
    sure_until: Option<Instant>,
}

impl OwnLease {
    /// Notes a lease that the leader granted to a heartbeat sent at `sent`. Others who heard it grant none: what they
    /// heard does not keep the leader from giving the nodes away. A leader grants one when it has heard the heartbeat,
    /// and after that a majority has confirmed that it leads; whoever leads next waits a whole lease from then on.
    pub fn granted(&mut self, sent: Instant, lease: Duration) {
        self.sure_until = Some(sent + lease * SURE_FOR_PERCENT / 100);
    }

    /// Whether it is held at this moment. By the clock, not by what was last said of it: a process that was stopped and
    /// goes on finds out before it does anything else.
    #[must_use]
    pub fn is_held(&self, now: Instant) -> bool {
        self.sure_until.is_some_and(|until| now < until)
    }
}

/// What the cluster thinks of a conductor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Online, as this process.
    Registered,
    /// Online, as another process: an earlier life, or a twin.
    Replaced,
    /// Not online.
    Unknown,
}

impl Standing {
    /// Of the process that is `incarnation` of `conductor`.
    #[must_use]
    pub fn of(state: &State, conductor: &ConductorId, incarnation: Incarnation) -> Self {
        match state.conductor(conductor).filter(|known| known.online) {
            None => Self::Unknown,
            Some(known) if known.registration.incarnation == incarnation => Self::Registered,
            Some(_) => Self::Replaced,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::conductor::Registration;
    use crate::ids::CommandId;
    use crate::{Command, CommandBody, Timestamp};

    const LEASE: Duration = Duration::from_secs(3);

    fn conductor(name: &str) -> ConductorId {
        ConductorId::try_new(name).unwrap()
    }

    fn incarnation(number: u128) -> Incarnation {
        Incarnation::new(Uuid::from_u128(number))
    }

    fn registered(state: &mut State, name: &str, life: u128) {
        let registration = Registration {
            incarnation: incarnation(life),
            conductor_group: String::new(),
            hardware_types: BTreeSet::from(["fake".to_owned()]),
            address: "http://127.0.0.1:1".into(),
        };
        let command = Command {
            id: CommandId::new(Uuid::from_u128(life)),
            fingerprint: 0,
            actor: name.into(),
            at: Timestamp::default(),
            body: CommandBody::RegisterConductor {
                conductor: conductor(name),
                registration: Box::new(registration),
            },
        };
        state.apply(&command).0.unwrap();
    }

    /// Looks as often as a leader does, from `from` for `lasting`; what the last look found.
    fn look_on(
        leases: &mut Leases,
        state: &State,
        from: Instant,
        lasting: Duration,
    ) -> Vec<(ConductorId, Incarnation)> {
        let every = LEASE / LOOKS_PER_LEASE;
        let mut at = from;
        while at + every <= from + lasting {
            assert_eq!(leases.look(true, state, LEASE, at), [], "too early");
            at += every;
        }
        leases.look(true, state, LEASE, from + lasting)
    }

    #[test]
    fn only_the_one_that_is_silent_for_a_lease_is_overdue() {
        let (mut state, mut leases, start) = (State::default(), Leases::default(), Instant::now());
        registered(&mut state, "a", 1);
        registered(&mut state, "b", 2);
        look_on(&mut leases, &state, start, LEASE / 2);
        assert!(leases.heard(&state, &conductor("a"), incarnation(1), start + LEASE / 2));
        let overdue = look_on(&mut leases, &state, start + LEASE * 5 / 8, LEASE * 3 / 8);
        assert_eq!(overdue, [(conductor("b"), incarnation(2))]);
    }

    #[test]
    fn who_is_not_registered_is_not_heard() {
        let (mut state, mut leases, start) = (State::default(), Leases::default(), Instant::now());
        registered(&mut state, "a", 1);
        assert!(!leases.heard(&state, &conductor("a"), incarnation(2), start));
        assert!(!leases.heard(&state, &conductor("b"), incarnation(1), start));
    }

    #[test]
    fn a_new_life_of_a_conductor_gets_a_lease_of_its_own() {
        let (mut state, mut leases, start) = (State::default(), Leases::default(), Instant::now());
        registered(&mut state, "a", 1);
        look_on(&mut leases, &state, start, LEASE * 3 / 4);
        registered(&mut state, "a", 2);
        let overdue = look_on(&mut leases, &state, start + LEASE, LEASE);
        assert_eq!(overdue, [(conductor("a"), incarnation(2))]);
    }

    #[test]
    fn a_leader_that_is_new_or_was_deaf_gives_everyone_a_whole_lease() {
        let (mut state, mut leases, start) = (State::default(), Leases::default(), Instant::now());
        registered(&mut state, "a", 1);
        look_on(&mut leases, &state, start, LEASE * 3 / 4);
        assert_eq!(leases.look(false, &state, LEASE, start + LEASE), [], "it does not lead");
        assert_eq!(leases.look(true, &state, LEASE, start + LEASE), [], "it is new");
        assert_eq!(leases.look(true, &state, LEASE, start + LEASE * 2), [], "it was deaf");
    }

    #[test]
    fn a_conductor_is_sure_for_less_than_its_lease() {
        let (mut own, sent) = (OwnLease::default(), Instant::now());
        assert!(!own.is_held(sent));
        own.granted(sent, LEASE);
        assert!(own.is_held(sent + LEASE * 3 / 4));
        assert!(!own.is_held(sent + LEASE * 4 / 5));
    }
}
