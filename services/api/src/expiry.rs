//! The leader's watch over conductors: one that falls silent loses its nodes.

use std::sync::Arc;
use std::time::Instant;

use bessemer_domain::CommandBody;
use bessemer_domain::ids::{CommandId, ConductorId, Incarnation};
use bessemer_domain::lease::LOOKS_PER_LEASE;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::api::{Api, Freshness};
use crate::caller::Caller;

/// Expires silent conductors while this member leads. Ends when the member stops.
pub(crate) async fn run(api: Arc<Api>) {
    let lease = api.config.conductor_lease();
    let mut looks = interval(lease / LOOKS_PER_LEASE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leadership = api.ledger.leadership();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = api.stopping.cancelled() => return,
        }
        let (leads, state) = (*leadership.borrow(), api.ledger.state());
        let overdue = api.leases.lock().expect("nothing panics while it holds the lock").look(
            leads,
            &state,
            lease,
            Instant::now(),
        );
        for (conductor, incarnation) in overdue {
            tokio::select! {
                () = expire(&api, conductor, incarnation) => {}
                () = api.stopping.cancelled() => return,
            }
        }
    }
}

async fn expire(api: &Api, conductor: ConductorId, incarnation: Incarnation) {
    tracing::warn!(conductor.id = %conductor, "a conductor was not heard of for its lease");
    let caller = Caller {
        actor: format!("member/{}", api.config.member_id),
        project: None,
        command_id: CommandId::new(Uuid::new_v4()),
        fingerprint: 0,
    };
    let body = CommandBody::ExpireConductor { conductor: conductor.clone(), incarnation };
    // Confirms that this member still leads, or follows one that may expire it as well.
    let expired = match api.state(Freshness::Latest).await {
        Ok(_) => api.propose(caller, body).await.map(|_| ()),
        Err(failure) => Err(failure),
    };
    if let Err(error) = expired {
        tracing::warn!(conductor.id = %conductor, %error, "it could not be expired yet");
    }
}
