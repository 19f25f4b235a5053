//! Sends a snapshot: first the events that the peer lacks, then the state. History stays complete on every member.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::Revision;
use bessemer_proto::raft::v1 as pb;
use bytes::Bytes;
use openraft::raft::SnapshotResponse;
use pb::snapshot_message::Part;
use pb::snapshot_reply::Reply;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Client;
use crate::raft::{TypeConfig, Vote};
use crate::store::{SnapshotFile, SnapshotRecord, Store, StoredEvent};

/// Events in one message.
const EVENTS_AT_ONCE_MAX: usize = 256;

/// Bytes of state in one message.
const SLICE_BYTES: usize = 256 << 10;

/// Messages under way: enough to keep the network busy, few enough to bound memory.
const MESSAGES_WAITING_MAX: usize = 8;

/// A peer that takes nothing for so long is given up.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// The peer must read and sync the whole state before it answers the end.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// What the peer learns first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) vote: Vote,
    pub(super) record: SnapshotRecord,
}

/// Sends everything, and returns what the peer says of it.
pub(super) async fn send(
    mut client: Client,
    store: &Arc<Store>,
    vote: Vote,
    snapshot: &SnapshotFile,
) -> Result<SnapshotResponse<TypeConfig>, Status> {
    let file = snapshot.open().map_err(|error| Status::aborted(error.to_string()))?;
    let (parts, outgoing) = mpsc::channel(MESSAGES_WAITING_MAX);
    let header = Header { vote, record: snapshot.record.clone() };
    let header =
        serde_json::to_vec(&header).map_err(|error| Status::internal(error.to_string()))?;
    put(&parts, Part::Header(header.into())).await?;
    let call = client.install_snapshot(ReceiverStream::new(outgoing));
    let mut replies = limited(PROGRESS_TIMEOUT, call).await?.into_inner();
    let Reply::AfterRevision(after) = reply(&mut replies, PROGRESS_TIMEOUT).await? else {
        return Err(Status::internal("the member answered the header with something else"));
    };
    send_events(&parts, store, Revision(after), snapshot.record.tip.revision).await?;
    send_state(&parts, file).await?;
    put(&parts, Part::End(true)).await?;
    let Reply::Response(response) = reply(&mut replies, INSTALL_TIMEOUT).await? else {
        return Err(Status::internal("the member answered the end with something else"));
    };
    serde_json::from_slice(&response).map_err(|error| Status::internal(error.to_string()))
}

async fn send_events(
    parts: &mpsc::Sender<pb::SnapshotMessage>,
    store: &Arc<Store>,
    mut after: Revision,
    upto: Revision,
) -> Result<(), Status> {
    while after < upto {
        let store = Arc::clone(store);
        let events = blocking(move || {
            let events = store.events(after, upto, EVENTS_AT_ONCE_MAX);
            events.map_err(|error| Status::data_loss(error.to_string()))
        })
        .await?;
        let Some(last) = events.last() else {
            return Err(Status::data_loss(format!("no event is stored after revision {after}")));
        };
        after = last.revision;
        let events = events.into_iter().map(event_to_pb).collect();
        put(parts, Part::Events(pb::StoredEvents { events })).await?;
    }
    Ok(())
}

async fn send_state(
    parts: &mpsc::Sender<pb::SnapshotMessage>,
    mut file: std::fs::File,
) -> Result<(), Status> {
    loop {
        let (slice, rest) = blocking(move || {
            let mut slice = Vec::with_capacity(SLICE_BYTES);
            let read = file.by_ref().take(SLICE_BYTES as u64).read_to_end(&mut slice);
            read.map_err(|error| Status::data_loss(error.to_string()))?;
            Ok((Bytes::from(slice), file))
        })
        .await?;
        if slice.is_empty() {
            return Ok(());
        }
        file = rest;
        put(parts, Part::StateSlice(slice)).await?;
    }
}

async fn put(parts: &mpsc::Sender<pb::SnapshotMessage>, part: Part) -> Result<(), Status> {
    let message = pb::SnapshotMessage { part: Some(part) };
    let sending = parts.send_timeout(message, PROGRESS_TIMEOUT).await;
    sending.map_err(|_| Status::unavailable("the member takes no more of the snapshot"))
}

async fn reply(
    replies: &mut Streaming<pb::SnapshotReply>,
    limit: Duration,
) -> Result<Reply, Status> {
    let reply = limited(limit, replies.message()).await?;
    let reply = reply.and_then(|reply| reply.reply);
    reply.ok_or_else(|| Status::unavailable("the member ended the transfer"))
}

async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(limit, call).await;
    answer.map_err(|_| Status::unavailable(format!("no answer within {limit:?}")))?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::internal(error.to_string()))?
}

fn event_to_pb(event: StoredEvent) -> pb::StoredEvent {
    pb::StoredEvent {
        revision: event.revision.0,
        record: event.record,
        hash: Bytes::copy_from_slice(&event.hash.0),
    }
}
