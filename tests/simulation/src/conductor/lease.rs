//! Registered, heard of, and sure of it, or at rest.

use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::CommandBody;
use bessemer_domain::conductor::Registration;
use bessemer_domain::ids::NodeId;
use bessemer_domain::lease::{OwnLease, Standing};
use futures::FutureExt;
use futures::future::join_all;

use super::{Conductor, work};
use crate::network::Host;
use crate::sabotage::Sabotage;
use crate::world::MEMBERS;

/// How often it is heard.
const HEARTBEAT: Duration = Duration::from_millis(300);

/// How long a member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);

impl Conductor {
    pub(super) async fn keep_lease(self: Rc<Self>) {
        let mut own = OwnLease::default();
        let exec = Rc::clone(&self.world.exec);
        loop {
            let next_beat = exec.now() + HEARTBEAT;
            let sent = self.world.instant();
            if let Some(granted) = self.heartbeat().await {
                own.granted(sent, granted);
            }
            let standing = Standing::of(&self.replica.get(), &self.id, self.incarnation);
            let is_registered = standing == Standing::Registered;
            self.lease.set(if is_registered { own } else { OwnLease::default() });
            self.changes.push(work::Change::Lease);
            if !is_registered {
                self.register().await;
            }
            exec.sleep_until(next_beat).await;
        }
    }

    pub(super) fn has_lease(&self) -> bool {
        self.is_held(&self.lease.get())
    }

    fn is_held(&self, lease: &OwnLease) -> bool {
        lease.is_held(self.world.instant())
            || self.world.is_sabotaged(Sabotage::ConductorIgnoresLease)
    }

    /// Returns when this conductor may give an order under the claim with `epoch`: waits for the lease, and for ever when
    /// the claim is another's by now.
    pub(super) async fn entitled(&self, node: NodeId, epoch: u64) {
        self.lease.until(|lease| self.is_held(lease).then_some(())).await;
        let is_own =
            self.replica.get().node(node).and_then(|node| node.claim.as_ref()).is_some_and(
                |claim| claim.epoch == epoch && claim.is_held_by(&self.id, self.incarnation),
            );
        if !is_own {
            std::future::pending::<()>().await;
        }
    }

    /// Tells every member that it lives; the lease that the leader granted.
    async fn heartbeat(self: &Rc<Self>) -> Option<Duration> {
        let ask = |member| {
            let (world, id, incarnation) =
                (Rc::clone(&self.world), self.id.clone(), self.incarnation);
            let serve = move || {
                Rc::clone(&world).heartbeat_at(member, id.clone(), incarnation).boxed_local()
            };
            self.world.call(self.host(), Host::Member(member), ANSWER_LIMIT, serve)
        };
        join_all((0..MEMBERS).map(ask)).await.into_iter().flatten().flatten().min()
    }

    async fn register(self: &Rc<Self>) {
        let registration = Registration {
            incarnation: self.incarnation,
            conductor_group: String::new(),
            hardware_types: ["fake".to_owned()].into(),
            address: self.id.to_string(),
        };
        let body = CommandBody::RegisterConductor {
            conductor: self.id.clone(),
            registration: Box::new(registration),
        };
        if let Err(rejection) = self.propose(body).await {
            self.note(&format!("not registered: {rejection}"));
        }
    }
}
