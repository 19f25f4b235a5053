//! Raft's messages to and from protocol buffers.

use bessemer_proto::raft::v1 as pb;
use openraft::alias::LogIdOf;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

use crate::MemberId;
use crate::log::{payload_from_parts, payload_parts};
use crate::raft::{Entry, LogId, TypeConfig, Vote};

/// A message that this version cannot read.
fn invalid(what: &str, reason: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{what}: {reason}"))
}

pub(crate) fn to_message<T: Serialize>(value: &T) -> Result<pb::RaftMessage, Status> {
    let payload = serde_json::to_vec(value).map_err(|error| invalid("message", error))?;
    Ok(pb::RaftMessage { payload: payload.into() })
}

pub(crate) fn from_message<T: DeserializeOwned>(message: &pb::RaftMessage) -> Result<T, Status> {
    serde_json::from_slice(&message.payload).map_err(|error| invalid("message", error))
}

pub(super) const fn log_id_to_pb(id: LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, index: id.index }
}

pub(super) fn log_id_from_pb(id: pb::LogId) -> LogIdOf<TypeConfig> {
    LogId::new(id.term.into(), id.index)
}

pub(super) const fn vote_to_pb(vote: Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for.0,
        committed: vote.committed,
    }
}

pub(super) fn vote_from_pb(vote: pb::Vote) -> Vote {
    let mut given = Vote::new(vote.term, MemberId(vote.voted_for));
    given.committed = vote.committed;
    given
}

pub(super) fn append_to_pb(
    request: AppendEntriesRequest<TypeConfig>,
) -> std::io::Result<pb::AppendRequest> {
    let entries = request
        .entries
        .into_iter()
        .map(|entry| {
            let (kind, payload) = payload_parts(&entry.payload)?;
            Ok(pb::Entry {
                log_id: Some(log_id_to_pb(entry.log_id)),
                kind: u32::from(kind),
                payload,
            })
        })
        .collect::<std::io::Result<_>>()?;
    Ok(pb::AppendRequest {
        vote: Some(vote_to_pb(request.vote)),
        prev_log_id: request.prev_log_id.map(log_id_to_pb),
        entries,
        leader_commit: request.leader_commit.map(log_id_to_pb),
    })
}

pub(super) fn append_from_pb(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let absent = |field| move || invalid(field, "is absent");
    let entries = request
        .entries
        .into_iter()
        .map(|entry| {
            let log_id = log_id_from_pb(entry.log_id.ok_or_else(absent("log_id"))?);
            let kind = u8::try_from(entry.kind).map_err(|error| invalid("kind", error))?;
            let payload = payload_from_parts(kind, entry.payload)
                .map_err(|error| invalid("payload", error))?;
            Ok(Entry::new(log_id, payload))
        })
        .collect::<Result<_, Status>>()?;
    Ok(AppendEntriesRequest {
        vote: vote_from_pb(request.vote.ok_or_else(absent("vote"))?),
        prev_log_id: request.prev_log_id.map(log_id_from_pb),
        entries,
        leader_commit: request.leader_commit.map(log_id_from_pb),
    })
}

pub(super) fn appended_to_pb(result: StreamAppendResult<TypeConfig>) -> pb::AppendResponse {
    use pb::append_response::Result as Answer;
    let answer = match result {
        Ok(matched) => Answer::Matched(pb::Matched { log_id: matched.map(log_id_to_pb) }),
        Err(StreamAppendError::Conflict(id)) => Answer::Conflict(log_id_to_pb(id)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(vote_to_pb(vote)),
    };
    pb::AppendResponse { result: Some(answer) }
}

pub(super) fn appended_from_pb(
    response: pb::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use pb::append_response::Result as Answer;
    match response.result {
        Some(Answer::Matched(matched)) => Ok(Ok(matched.log_id.map(log_id_from_pb))),
        Some(Answer::Conflict(id)) => Ok(Err(StreamAppendError::Conflict(log_id_from_pb(id)))),
        Some(Answer::HigherVote(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(vote_from_pb(vote))))
        }
        None => Err(invalid("result", "is absent")),
    }
}
