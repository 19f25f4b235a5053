//! Following the cluster: the state once, then every event, folded into a copy.

use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::effects::{Touched, touched};
use bessemer_domain::outbox::Notice;
use bessemer_domain::{SealedEvent, State, Tip};
use futures::FutureExt;

use super::{Conductor, RETRY_PAUSE};
use crate::executor::Process;
use crate::network::Host;

/// A member that is silent for so long is left.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// A member says something at least this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

impl Conductor {
    pub(super) async fn follow(self: Rc<Self>) {
        loop {
            let member = self.member.get();
            if let Some(process) = self.subscribe(member).await {
                self.follow_one(member, &process).await;
            }
            self.move_on();
            self.world.exec.sleep(RETRY_PAUSE).await;
        }
    }

    /// Opens the stream of a member; the first one begins with the whole state.
    async fn subscribe(self: &Rc<Self>, member: usize) -> Option<Process> {
        let world = Rc::clone(&self.world);
        let serve = move || {
            let world = Rc::clone(&world);
            async move { world.latest_state(member).await }.boxed_local()
        };
        let to = Host::Member(member);
        let state = self.world.call(self.host(), to, SILENCE_MAX, serve).await.flatten()?;
        if self.replica.get().tip().revision.0 == 0 {
            let sent = serde_json::to_vec(&state).expect("a state is plain data");
            let copy: State = serde_json::from_slice(&sent).expect("what was sent can be read");
            self.replica.set(copy);
            self.tell(vec![Touched::Every], Notice::Everything);
        }
        Some(self.world.process_of(to))
    }

    /// Takes what a member has applied, until the stream breaks.
    async fn follow_one(&self, member: usize, process: &Process) {
        let exec = &self.world.exec;
        let mut heard = exec.now();
        loop {
            let known = usize::try_from(self.replica.get().tip().revision.0).unwrap_or(usize::MAX);
            let source = &self.world.members[member];
            let grown =
                source.applied.until(|_| (source.history.borrow().len() > known).then_some(()));
            exec.timeout(SIGN_OF_LIFE, grown).await;
            exec.sleep(self.world.travel_time()).await;
            let is_open = source.process().is(process) && source.process().is_alive();
            let is_cut = self.world.network.is_cut(self.host(), Host::Member(member));
            let speaks = is_open && !is_cut && self.world.follows_leader(member);
            if speaks {
                heard = exec.now();
                let events: Vec<_> = source.history.borrow().iter().skip(known).cloned().collect();
                if !self.fold(&events) {
                    self.note("what it follows is not whole");
                    return;
                }
            } else if !is_open || exec.now() - heard >= SILENCE_MAX {
                return;
            }
        }
    }

    /// Folds what follows the copy; false when something is missing or altered.
    fn fold(&self, events: &[Rc<SealedEvent>]) -> bool {
        if events.is_empty() {
            return true;
        }
        let mut tip = self.replica.get().tip();
        for event in events {
            let hash = tip.hash.chain(&event.bytes);
            if event.record.revision != tip.revision.next() || event.hash != hash {
                return false;
            }
            tip = Tip { revision: event.record.revision, hash };
        }
        self.replica.update(|state| events.iter().for_each(|event| state.evolve(event)));
        let changed: Vec<_> = events.iter().map(|event| touched(&event.record.subject)).collect();
        let ring_moved = changed.contains(&Touched::Every);
        let committed = events.iter().map(|event| (**event).clone()).collect();
        self.tell(changed, Notice::Committed(committed));
        if ring_moved {
            self.tell(Vec::new(), Notice::Everything);
        }
        true
    }
}
