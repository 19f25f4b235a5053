//! What Raft asks of one peer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, alias::SnapshotOf};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Request, Status};

use super::convert::{append_to_pb, appended_from_pb, from_message, to_message};
use super::{BadAddress, Client, send_snapshot};
use crate::MemberId;
use crate::raft::{TypeConfig, Vote};
use crate::store::{SnapshotFile, Store};

/// One peer, for one of Raft's purposes.
#[derive(Debug)]
pub(crate) struct Connection {
    target: MemberId,
    client: Result<Client, BadAddress>,
    store: Arc<Store>,
    _in_use: TaskTrackerToken,
}

type Appended<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl Connection {
    pub(super) fn new(
        target: MemberId,
        client: Result<Client, BadAddress>,
        store: Arc<Store>,
        in_use: TaskTrackerToken,
    ) -> Self {
        Self { target, client, store, _in_use: in_use }
    }

    fn client(&self) -> Result<Client, RPCError<TypeConfig>> {
        match &self.client {
            Ok(client) => Ok(client.clone()),
            Err(error) => Err(Unreachable::from_string(error).into()),
        }
    }

    /// One rare message and its answer.
    async fn ask<Q, A, F>(
        &self,
        question: &Q,
        option: &RPCOption,
        call: impl FnOnce(Client, Request<bessemer_proto::raft::v1::RaftMessage>) -> F + Send,
    ) -> Result<A, RPCError<TypeConfig>>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
        F: Future<Output = Result<tonic::Response<bessemer_proto::raft::v1::RaftMessage>, Status>>
            + Send,
    {
        let client = self.client()?;
        let message = to_message(question).map_err(|status| self.failed(&status))?;
        let answer = within(option.soft_ttl(), call(client, Request::new(message)))
            .await
            .map_err(|status| self.failed(&status))?;
        from_message(&answer.into_inner()).map_err(|status| self.failed(&status))
    }

    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        failed(self.target, status)
    }
}

/// A peer that cannot be reached is tried less often; one that answers with an error is asked again at once.
fn failed(target: MemberId, status: &Status) -> RPCError<TypeConfig> {
    let reason = format!("member {target}: {}", status.message());
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Unknown
        | Code::Cancelled
        | Code::FailedPrecondition => Unreachable::from_string(reason).into(),
        _ => NetworkError::from_string(reason).into(),
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>> + Send,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&request, &option, |mut client, message| async move { client.vote(message).await })
            .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(
            &request,
            &option,
            |mut client, message| async move { client.pre_vote(message).await },
        )
        .await
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(&request, &option, |mut client, message| async move {
            client.transfer_leader(message).await
        })
        .await
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    /// Requests go out as Raft gives them, without waiting for answers; gRPC keeps both in order.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        async move {
            let target = self.target;
            let mut client = self.client()?;
            // A request that cannot be encoded ends the stream; Raft sees the missing answer and starts anew.
            let requests = input.map(append_to_pb).scan((), move |(), encoded| {
                let encoded = encoded.inspect_err(|error| {
                    tracing::error!(%target, %error, "cannot encode entries");
                });
                futures::future::ready(encoded.ok())
            });
            let answers = within(option.soft_ttl(), client.stream_append(requests))
                .await
                .map_err(|status| self.failed(&status))?;
            let answers = answers.into_inner().map(move |answer| {
                answer.and_then(appended_from_pb).map_err(|status| failed(target, &status))
            });
            Ok(answers.boxed())
        }
        .boxed()
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client()?;
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = send_snapshot::send(client, &self.store, vote, &snapshot.snapshot) => {
                sent.map_err(|status| self.failed(&status).into())
            }
        }
    }
}
