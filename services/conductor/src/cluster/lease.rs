//! The lease: registered, heard of, and sure of it, or at rest.
//!
//! Every member hears every heartbeat, so a new leader knows at once who is alive. A conductor that the leader does not
//! hear must expect to be replaced, and stops by itself before that happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bessemer_domain::command::CommandBody;
use bessemer_domain::conductor::Registration;
use bessemer_domain::lease::{OwnLease, Standing};
use bessemer_proto::v1::HeartbeatRequest;
use bessemer_proto::v1::conductor_service_client::ConductorServiceClient;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Response;

use crate::Context;

/// How often it is heard, and how fresh progress is for whoever watches it.
const HEARTBEAT: Duration = Duration::from_millis(300);

/// How long a member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);

/// How long a parting word may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// Registers, and keeps the lease until stopped; then says farewell, so that others take over at once.
pub(crate) async fn keep_lease(
    context: Arc<Context>,
    registration: Registration,
    lease: watch::Sender<OwnLease>,
    stop: CancellationToken,
) {
    let mut beat = interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut own = OwnLease::default();
    let mut registered_once = false;
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        let sent = Instant::now();
        if let Some(granted) = heartbeat(&context).await {
            own.granted(sent, granted);
        }
        let standing =
            Standing::of(&context.replica.state(), &context.own.id, context.own.incarnation);
        let is_registered = standing == Standing::Registered;
        lease.send_replace(if is_registered { own } else { OwnLease::default() });
        match standing {
            Standing::Registered => registered_once = true,
            Standing::Replaced if registered_once => {
                lease.send_replace(OwnLease::default());
                tracing::error!(
                    conductor.id = %context.own.id,
                    "another process registered under this conductor's name; give each its own id"
                );
                return;
            }
            Standing::Replaced | Standing::Unknown => register(&context, &registration).await,
        }
    }
    lease.send_replace(OwnLease::default());
    let farewell = context.proposals.propose(CommandBody::UnregisterConductor {
        conductor: context.own.id.clone(),
        incarnation: context.own.incarnation,
    });
    if timeout(FAREWELL_LIMIT, farewell).await.is_err() {
        tracing::warn!("stopped without a farewell; others take over when the lease runs out");
    }
}

/// Tells every member that this conductor lives, and where its steps stand. The lease that the leader granted, if it
/// answered; it grants none to a conductor that it does not know to be online.
async fn heartbeat(context: &Context) -> Option<Duration> {
    let request = HeartbeatRequest {
        conductor_id: context.own.id.to_string(),
        incarnation: context.own.incarnation.to_string(),
        progress: context.progress.all(),
    };
    let members = context.members.voters();
    let answers = join_all(members.iter().map(|channel| {
        let mut client = ConductorServiceClient::new(channel.clone());
        let request = request.clone();
        async move { timeout(ANSWER_LIMIT, client.heartbeat(request)).await.ok()?.ok() }
    }))
    .await;
    answers
        .into_iter()
        .flatten()
        .map(Response::into_inner)
        .filter(|answer| answer.registered)
        .map(|answer| Duration::from_millis(answer.lease_milliseconds.into()))
        .filter(|lease| !lease.is_zero())
        .min()
}

async fn register(context: &Context, registration: &Registration) {
    let command = CommandBody::RegisterConductor {
        conductor: context.own.id.clone(),
        registration: Box::new(registration.clone()),
    };
    match context.propose(command).await {
        Ok(()) => tracing::info!(conductor.id = %context.own.id, "registered"),
        Err(rejection) => tracing::error!(%rejection, "not registered"),
    }
}
