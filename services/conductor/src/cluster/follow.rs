//! Following the cluster: the replicated state once, then every event, folded into a copy.

use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::effects::{Touched, touched};
use bessemer_domain::outbox::Notice;
use bessemer_domain::{EventHash, EventRecord, SealedEvent, State};
use bessemer_proto::v1::conductor_service_client::ConductorServiceClient;
use bessemer_proto::v1::replicate_response::Update;
use bessemer_proto::v1::{Event, ReplicateRequest};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::Status;

use super::{ANSWER_BYTES_MAX, Members, RETRY_PAUSE};
use crate::metrics::Metrics;

/// A member that follows its leader says something every second, if only that nothing happened. One that is silent for
/// longer is cut off from the others, or hangs.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Who is told of what changed.
pub(crate) struct Followers {
    /// The copy itself.
    pub(crate) state: watch::Sender<State>,
    /// Which nodes to look at again.
    pub(crate) changes: mpsc::Sender<Vec<Touched>>,
    /// Which events to publish.
    pub(crate) notices: mpsc::Sender<Notice>,
    /// What is counted of it.
    pub(crate) metrics: Metrics,
}

/// Follows for ever. A stream that breaks is continued with another member from the revision reached.
pub(crate) async fn follow(members: Arc<Members>, followers: Followers) {
    let mut copy = None;
    loop {
        if let Err(status) = follow_one(&members, &followers, &mut copy).await {
            tracing::info!(error = status.message(), "no longer following; trying another member");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn follow_one(
    members: &Members,
    followers: &Followers,
    copy: &mut Option<State>,
) -> Result<(), Status> {
    let request = ReplicateRequest {
        after_revision: copy.as_ref().map_or(0, |state| state.tip().revision.0),
    };
    let mut updates = members
        .ask("follow the cluster", |channel| {
            let mut client =
                ConductorServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            async move { client.replicate(request).await }
        })
        .await
        .into_inner();
    let member = members.current();
    let mut slices = Vec::new();
    loop {
        let Ok(message) = timeout(SILENCE_MAX, updates.message()).await else {
            members.move_on(&member);
            return Err(Status::deadline_exceeded("the member is silent"));
        };
        let Some(message) = message? else { return Ok(()) };
        match message.update {
            Some(Update::StateSlice(slice)) => slices.extend_from_slice(&slice),
            Some(Update::StateEnd(_)) => {
                let state: State = serde_json::from_slice(&slices)
                    .map_err(|error| Status::from_error(Box::new(error)))?;
                slices = Vec::new();
                followers.state.send_replace(state.clone());
                *copy = Some(state);
                followers.tell(vec![Touched::Every], Notice::Everything).await;
            }
            Some(Update::Events(batch)) => {
                let Some(state) = copy.as_mut() else { continue };
                fold(state, batch.events, followers).await?;
            }
            None => {}
        }
    }
}

/// Folds what follows the copy. What it has already, a member that was asked anew may send again.
async fn fold(state: &mut State, events: Vec<Event>, followers: &Followers) -> Result<(), Status> {
    let mut committed = Vec::with_capacity(events.len());
    for event in events {
        let sealed = sealed(event)?;
        if sealed.record.revision <= state.tip().revision {
            continue;
        }
        if sealed.record.revision != state.tip().revision.next()
            || sealed.hash != state.tip().hash.chain(&sealed.bytes)
        {
            return Err(Status::data_loss(format!(
                "event {} does not follow {}",
                sealed.record.revision,
                state.tip().revision
            )));
        }
        state.evolve(&sealed);
        followers.metrics.note(state, &sealed.record);
        committed.push(sealed);
    }
    followers.state.send_replace(state.clone());
    let changed: Vec<_> = committed.iter().map(|event| touched(&event.record.subject)).collect();
    let ring_moved = changed.contains(&Touched::Every);
    followers.tell(changed, Notice::Committed(committed)).await;
    if ring_moved {
        followers.tell(Vec::new(), Notice::Everything).await;
    }
    Ok(())
}

fn sealed(event: Event) -> Result<SealedEvent, Status> {
    let record =
        EventRecord::decode(&event.record).map_err(|error| Status::from_error(Box::new(error)))?;
    let hash = <[u8; 32]>::try_from(&event.hash[..])
        .map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(SealedEvent { record, bytes: event.record.into(), hash: EventHash(hash) })
}

impl Followers {
    async fn tell(&self, changes: Vec<Touched>, notice: Notice) {
        // Both ends live as long as the conductor.
        self.changes.send(changes).await.ok();
        self.notices.send(notice).await.ok();
    }
}
