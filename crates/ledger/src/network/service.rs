//! Answers the other members.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::{Command, EventHash, Revision};
use bessemer_proto::raft::v1 as pb;
use futures::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use pb::snapshot_message::Part;
use pb::snapshot_reply::Reply;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{append_from_pb, appended_to_pb, from_message, to_message};
use super::envelope;
use super::send_snapshot::Header;
use crate::MemberId;
use crate::form::{Role, removed};
use crate::membership::{Changer, Refused as ChangeRefused};
use crate::propose::{Proposer, Refused};
use crate::read::{Reader, read_index};
use crate::route::{Failure, Route};
use crate::standing::{Seat, Standing};
use crate::status::known_members;
use crate::store::{IncomingSnapshot, Store, StoredEvent};
use crate::view::View;

/// How long a leader is waited for before another member is told what it is.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// The service through which members talk; mount it on the member's listener.
pub type RaftServiceServer = pb::raft_service_server::RaftServiceServer<PeerService>;

/// Answers the other members.
#[derive(Clone)]
pub struct PeerService {
    pub(crate) route: Route,
    pub(crate) store: Arc<Store>,
    pub(crate) proposer: Proposer,
    pub(crate) view: View,
    pub(crate) reader: Reader,
    pub(crate) changer: Changer,
    pub(crate) seat: Seat,
    /// Held while a snapshot comes in: there is one file for it.
    pub(crate) receiving: Arc<Mutex<()>>,
}

impl fmt::Debug for PeerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerService").field("member_id", &self.route.member_id).finish()
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Messages<T> = Request<Streaming<T>>;

impl PeerService {
    /// Whether a message is meant for this member.
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        envelope::check(request.metadata(), self.route.member_id, &self.seat.history())
    }

    /// Whether it is, and this member may take part in what only members do.
    fn check_seat<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.check(request)?;
        match &*self.seat.standing().borrow() {
            Standing::Admitted => Ok(()),
            Standing::Waits(what) => {
                Err(Status::unavailable(format!("this member waits for {what}")))
            }
            Standing::Refused(reason) => Err(Status::unavailable(reason.clone())),
        }
    }

    /// What another member is to the cluster. Confirmed, so that a member that was promoted is never called a learner.
    async fn role_of(&self, id: MemberId) -> Role {
        if !matches!(self.route.raft.is_initialized().await, Ok(true)) {
            return Role::NoCluster;
        }
        let confirmed = async { self.reader.confirm().await.is_ok() && self.is_up_to_date().await };
        if !matches!(tokio::time::timeout(CONFIRM_TIMEOUT, confirmed).await, Ok(true)) {
            return Role::Unconfirmed;
        }
        let metrics = self.route.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        if membership.voter_ids().any(|voter| voter == id) {
            Role::Voter
        } else if membership.get_node(&id).is_some() {
            Role::Learner
        } else {
            Role::Stranger
        }
    }

    /// Waits until the metrics, which tell the membership, have got as far as the state, which may be a moment ahead.
    async fn is_up_to_date(&self) -> bool {
        let applied = self.view.reached().last_applied;
        let mut metrics = self.route.raft.metrics();
        while metrics.borrow_watched().last_applied < applied {
            if metrics.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    async fn receive_snapshot(
        &self,
        mut messages: Streaming<pb::SnapshotMessage>,
        replies: &mpsc::Sender<Result<pb::SnapshotReply, Status>>,
    ) -> Result<(), Status> {
        let _receiving = self
            .receiving
            .try_lock()
            .map_err(|_| Status::unavailable("another snapshot is being received"))?;
        let Part::Header(header) = next(&mut messages).await? else {
            return Err(Status::invalid_argument("a snapshot must begin with its header"));
        };
        let header: Header = serde_json::from_slice(&header)
            .map_err(|error| Status::invalid_argument(format!("snapshot header: {error}")))?;
        let mut incoming = self.store.receive_snapshot(header.record).map_err(stopped)?;
        reply(replies, Reply::AfterRevision(self.store.tip().revision.0)).await?;
        loop {
            match next(&mut messages).await? {
                Part::Header(_) => return Err(Status::invalid_argument("a second header")),
                Part::Events(events) => self.add_events(events).await?,
                Part::StateSlice(slice) => incoming = write(incoming, slice).await?,
                Part::End(_) => break,
            }
        }
        let snapshot = blocking(|| incoming.finish().map_err(stopped)).await?;
        let snapshot = openraft::Snapshot { meta: snapshot.record.meta.clone(), snapshot };
        let response = self.route.raft.install_full_snapshot(header.vote, snapshot).await;
        let response = response.map_err(stopped)?;
        let response = serde_json::to_vec(&response).map_err(stopped)?;
        reply(replies, Reply::Response(response.into())).await
    }

    async fn add_events(&self, events: pb::StoredEvents) -> Result<(), Status> {
        let events = events.events.into_iter().map(event_from_pb).collect::<Result<Vec<_>, _>>()?;
        let store = Arc::clone(&self.store);
        blocking(move || {
            store.add_received(&events).map_err(|error| Status::data_loss(error.to_string()))
        })
        .await
    }
}

#[tonic::async_trait]
impl pb::raft_service_server::RaftService for PeerService {
    type StreamAppendStream = Replies<pb::AppendResponse>;
    type InstallSnapshotStream = Replies<pb::SnapshotReply>;

    async fn vote(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check_seat(&request)?;
        let question = from_message(request.get_ref())?;
        let answer = self.route.raft.vote(question).await.map_err(stopped)?;
        to_message(&answer).map(Response::new)
    }

    async fn pre_vote(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check_seat(&request)?;
        let question = from_message(request.get_ref())?;
        let answer = self.route.raft.pre_vote(question).await.map_err(stopped)?;
        to_message(&answer).map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check_seat(&request)?;
        let question = from_message(request.get_ref())?;
        let answer = self.route.raft.handle_transfer_leader(question).await.map_err(stopped)?;
        to_message(&answer).map(Response::new)
    }

    async fn stream_append(
        &self,
        request: Messages<pb::AppendRequest>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        self.check_seat(&request)?;
        // A message that cannot be read ends the stream; the leader sees the missing answer and starts anew.
        let requests = request.into_inner().scan((), |(), message| {
            let request = message.and_then(append_from_pb).inspect_err(|status| {
                tracing::warn!(reason = status.message(), "an append stream ended");
            });
            futures::future::ready(request.ok())
        });
        let answers = self.route.raft.stream_append(requests);
        let answers = answers.map(|answer| answer.map(appended_to_pb).map_err(stopped));
        Ok(Response::new(answers.boxed()))
    }

    async fn install_snapshot(
        &self,
        request: Messages<pb::SnapshotMessage>,
    ) -> Result<Response<Self::InstallSnapshotStream>, Status> {
        self.check_seat(&request)?;
        let (replies, outgoing) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.receive_snapshot(request.into_inner(), &replies).await {
                tracing::warn!(reason = status.message(), "a snapshot was not received");
                // A leader that left needs no answer.
                let _ = replies.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing).boxed()))
    }

    async fn forward(
        &self,
        request: Request<pb::ForwardRequest>,
    ) -> Result<Response<pb::ForwardResponse>, Status> {
        self.check(&request)?;
        let commands = request.into_inner().commands;
        // An entry that cannot be read would stop every member that applies it.
        for command in &commands {
            serde_json::from_slice::<Command>(command)
                .map_err(|error| Status::invalid_argument(format!("command: {error}")))?;
        }
        let committed = self.proposer.propose(commands, true).await.map_err(|refused| {
            Status::unavailable(match refused {
                Refused::NotLeader => "this member does not lead".to_owned(),
                Refused::Failed(error) => error.to_string(),
            })
        })?;
        let outcomes = serde_json::to_vec(&committed.applied.outcomes).map_err(stopped)?;
        Ok(Response::new(pb::ForwardResponse {
            outcomes: outcomes.into(),
            log_index: committed.log_index,
            revision: committed.applied.revision.0,
        }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        self.check(&request)?;
        match read_index(&self.route).await {
            Ok(index) => Ok(Response::new(pb::ReadIndexResponse { log_index: Some(index) })),
            Err(Failure::Again) => Err(Status::unavailable("this member does not lead")),
            Err(Failure::Stopped(reason)) => Err(Status::unavailable(reason)),
        }
    }

    async fn change_membership(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check(&request)?;
        let change = from_message(request.get_ref())?;
        let answer = match self.changer.lead_for_another(&change).await {
            Ok(changed) => Ok(changed),
            Err(ChangeRefused::Failed(error)) => Err(error),
            Err(ChangeRefused::Again(reason)) => return Err(Status::unavailable(reason)),
        };
        to_message(&answer).map(Response::new)
    }

    async fn list_members(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check(&request)?;
        let metrics = self.route.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(self.route.member_id) {
            return Err(Status::unavailable("this member does not lead"));
        }
        to_message(&known_members(&metrics)).map(Response::new)
    }

    async fn get_role(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check(&request)?;
        let asker = from_message(request.get_ref())?;
        to_message(&self.role_of(asker).await).map(Response::new)
    }

    async fn admit(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check(&request)?;
        let seat = self.seat.clone();
        blocking(move || seat.admit().map_err(stopped)).await?;
        self.check_seat(&request)?;
        to_message(&()).map(Response::new)
    }

    async fn notice_removal(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.check(&request)?;
        let removed_at: u64 = from_message(request.get_ref())?;
        let known = self
            .route
            .raft
            .metrics()
            .borrow_watched()
            .membership_config
            .log_id()
            .map(|id| id.index);
        if known < Some(removed_at) {
            self.seat.refuse(removed(self.route.member_id));
        }
        to_message(&()).map(Response::new)
    }
}

/// This member cannot do its part any more; the others go on without it.
fn stopped(error: impl fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

async fn next(messages: &mut Streaming<pb::SnapshotMessage>) -> Result<Part, Status> {
    let message = messages.message().await?;
    let part = message.and_then(|message| message.part);
    part.ok_or_else(|| Status::invalid_argument("the snapshot ended before its end"))
}

async fn reply(
    replies: &mpsc::Sender<Result<pb::SnapshotReply, Status>>,
    reply: Reply,
) -> Result<(), Status> {
    let sent = replies.send(Ok(pb::SnapshotReply { reply: Some(reply) })).await;
    sent.map_err(|_| Status::cancelled("the leader has left"))
}

async fn write(
    mut incoming: IncomingSnapshot,
    slice: bytes::Bytes,
) -> Result<IncomingSnapshot, Status> {
    blocking(move || {
        incoming.write(&slice).map_err(stopped)?;
        Ok(incoming)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

fn event_from_pb(event: pb::StoredEvent) -> Result<StoredEvent, Status> {
    let hash = <[u8; 32]>::try_from(event.hash.as_ref())
        .map_err(|_| Status::invalid_argument("an event's hash must have 32 bytes"))?;
    Ok(StoredEvent {
        revision: Revision(event.revision),
        record: event.record,
        hash: EventHash(hash),
    })
}
