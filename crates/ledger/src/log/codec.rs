//! How votes, log ids and payloads are written into the log.

use std::io::{self, Read, Write};

use bytes::Bytes;
use openraft::storage::IOFlushed;
use raft_log::codeq::{Decode, Encode};
use tokio::sync::oneshot;

use crate::MemberId;
use crate::entry::Batch;
use crate::raft::{EntryPayload, LogId, TypeConfig, Vote};

/// First byte of every vote and payload.
const FORMAT: u8 = 1;

/// What a payload is: nothing, a batch of commands, or who is a member.
const KIND_BLANK: u8 = 0;
const KIND_COMMANDS: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A longer payload was never written: the proposer's bound is far below.
const PAYLOAD_BYTES_MAX: u32 = 64 << 20;

/// The types of the write-ahead log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogTypes;

impl raft_log::Types for LogTypes {
    type LogId = StoredId;
    type LogPayload = StoredPayload;
    type Vote = StoredVote;
    type Callback = Flushed;
    type UserData = String;

    fn log_index(id: &StoredId) -> u64 {
        id.index
    }

    fn payload_size(payload: &StoredPayload) -> u64 {
        payload.size_bytes() as u64
    }
}

/// Whom to tell when a write is on disk.
pub(super) enum Flushed {
    Append(IOFlushed<TypeConfig>),
    Vote(oneshot::Sender<io::Result<()>>),
}

impl raft_log::Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // Nobody waits any more only when the member stops.
            Self::Vote(waiting) => drop(waiting.send(result)),
        }
    }
}

/// Place of an entry in the log. Ordered by term, then index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoredId {
    pub(super) term: u64,
    pub(super) index: u64,
}

impl From<LogId> for StoredId {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<StoredId> for LogId {
    fn from(id: StoredId) -> Self {
        Self::new(id.term.into(), id.index)
    }
}

impl Encode for StoredId {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        Ok(self.term.encode(&mut writer)? + self.index.encode(&mut writer)?)
    }
}

impl Decode for StoredId {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        Ok(Self { term: u64::decode(&mut reader)?, index: u64::decode(&mut reader)? })
    }
}

/// The vote that this member has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) struct StoredVote(pub(super) Vote);

impl Encode for StoredVote {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let mut written = FORMAT.encode(&mut writer)?;
        written += self.0.leader_id.term.encode(&mut writer)?;
        written += self.0.leader_id.voted_for.0.encode(&mut writer)?;
        written += u8::from(self.0.committed).encode(&mut writer)?;
        Ok(written)
    }
}

impl Decode for StoredVote {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        check_format(u8::decode(&mut reader)?, "vote")?;
        let mut vote = Vote::new(u64::decode(&mut reader)?, MemberId(u64::decode(&mut reader)?));
        vote.committed = u8::decode(&mut reader)? != 0;
        Ok(Self(vote))
    }
}

/// What an entry carries.
#[derive(Debug, Clone)]
pub(super) struct StoredPayload(pub(super) EntryPayload);

impl StoredPayload {
    pub(super) fn size_bytes(&self) -> usize {
        /// A guess for the rare entries that hold no commands.
        const OTHER_BYTES: usize = 256;
        match &self.0 {
            EntryPayload::Normal(batch) => batch.as_bytes().len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => OTHER_BYTES,
        }
    }
}

impl Encode for StoredPayload {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let (kind, body) = payload_parts(&self.0)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut written = FORMAT.encode(&mut writer)? + kind.encode(&mut writer)?;
        written += length.encode(&mut writer)?;
        writer.write_all(&body)?;
        Ok(written + body.len())
    }
}

impl Decode for StoredPayload {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        check_format(u8::decode(&mut reader)?, "payload")?;
        let kind = u8::decode(&mut reader)?;
        let length = u32::decode(&mut reader)?;
        if length > PAYLOAD_BYTES_MAX {
            return Err(invalid(format!("a payload of {length} bytes is too long")));
        }
        let mut body = vec![0; length as usize];
        reader.read_exact(&mut body)?;
        payload_from_parts(kind, body.into()).map(Self)
    }
}

/// A payload as its kind and bytes.
pub(crate) fn payload_parts(payload: &EntryPayload) -> io::Result<(u8, Bytes)> {
    Ok(match payload {
        EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
        EntryPayload::Normal(batch) => (KIND_COMMANDS, batch.as_bytes().clone()),
        EntryPayload::Membership(membership) => {
            (KIND_MEMBERSHIP, serde_json::to_vec(membership).map_err(io::Error::other)?.into())
        }
    })
}

/// A payload from its kind and bytes.
pub(crate) fn payload_from_parts(kind: u8, body: Bytes) -> io::Result<EntryPayload> {
    match kind {
        KIND_BLANK => Ok(EntryPayload::Blank),
        KIND_COMMANDS => Ok(EntryPayload::Normal(Batch::from_bytes(body))),
        KIND_MEMBERSHIP => {
            serde_json::from_slice(&body).map(EntryPayload::Membership).map_err(io::Error::other)
        }
        _ => Err(invalid(format!("an entry of kind {kind} is unknown; upgrade this member"))),
    }
}

fn check_format(format: u8, what: &str) -> io::Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    Err(invalid(format!(
        "format {format} of a {what} is unknown, {FORMAT} is known; upgrade this member"
    )))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
