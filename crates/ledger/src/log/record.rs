//! What the log consists of, as bytes. All integers are little endian.
//!
//! ```text
//! record      kind u8, then
//!   vote      term u64 | member u64 | committed u8
//!   entry     term u64 | index u64 | payload kind u8 | length u32 | CRC-32 of the payload u32 | payload
//!   truncate  index u64: the first entry that is gone
//!   purge     term u64 | index u64: the last entry that is gone
//!   commit    term u64 | index u64
//!   follows   where the file before ended u64; the first record of every file but the first
//! ```

use std::io;

use bytes::Bytes;

use crate::MemberId;
use crate::entry::Batch;
use crate::raft::{EntryPayload, LogId, Vote};

const VOTE: u8 = 1;
const ENTRY: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const COMMIT: u8 = 5;
const FOLLOWS: u8 = 6;

/// What a payload is: nothing, a batch of commands, or who is a member.
const KIND_BLANK: u8 = 0;
const KIND_COMMANDS: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A record, read.
#[derive(Debug)]
pub(super) enum Record {
    Vote(Vote),
    Entry { id: LogId, stored: StoredPayload },
    Truncate { from: u64 },
    Purge { upto: LogId },
    Commit { upto: LogId },
    Follows { end_bytes: u64 },
}

/// Where in the bytes of a batch a payload is, and what it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredPayload {
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: u32,
    pub(super) kind: u8,
    pub(super) check: u32,
}

impl StoredPayload {
    /// The payload, from its bytes as they were read.
    pub(super) fn decode(&self, bytes: Vec<u8>) -> io::Result<EntryPayload> {
        if crc32fast::hash(&bytes) != self.check {
            return Err(invalid("its bytes are not those that were written"));
        }
        payload_from_parts(self.kind, bytes.into())
    }
}

pub(super) fn put_vote(vote: &Vote, into: &mut Vec<u8>) {
    into.push(VOTE);
    into.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    into.extend_from_slice(&vote.leader_id.voted_for.0.to_le_bytes());
    into.push(u8::from(vote.committed));
}

/// Adds an entry; answers where its payload is in `into`, and its bytes.
pub(super) fn put_entry(
    id: LogId,
    payload: &EntryPayload,
    into: &mut Vec<u8>,
) -> io::Result<StoredPayload> {
    let (kind, body) = payload_parts(payload)?;
    let length_bytes = u32::try_from(body.len()).map_err(io::Error::other)?;
    let check = crc32fast::hash(&body);
    into.push(ENTRY);
    put_id(id, into);
    into.push(kind);
    into.extend_from_slice(&length_bytes.to_le_bytes());
    into.extend_from_slice(&check.to_le_bytes());
    let offset_bytes = into.len() as u64;
    into.extend_from_slice(&body);
    Ok(StoredPayload { offset_bytes, length_bytes, kind, check })
}

pub(super) fn put_truncate(from: u64, into: &mut Vec<u8>) {
    into.push(TRUNCATE);
    into.extend_from_slice(&from.to_le_bytes());
}

pub(super) fn put_purge(upto: LogId, into: &mut Vec<u8>) {
    into.push(PURGE);
    put_id(upto, into);
}

pub(super) fn put_commit(upto: LogId, into: &mut Vec<u8>) {
    into.push(COMMIT);
    put_id(upto, into);
}

pub(super) fn put_follows(end_bytes: u64, into: &mut Vec<u8>) {
    into.push(FOLLOWS);
    into.extend_from_slice(&end_bytes.to_le_bytes());
}

fn put_id(id: LogId, into: &mut Vec<u8>) {
    into.extend_from_slice(&id.leader_id.term.to_le_bytes());
    into.extend_from_slice(&id.index.to_le_bytes());
}

/// The records of a batch, whose check was right. Offsets of payloads count from the beginning of `bytes`.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = io::Result<Record>> {
    let mut fields = Fields { bytes, position: 0 };
    std::iter::from_fn(move || {
        (fields.position < fields.bytes.len()).then(|| {
            let record = fields.record();
            if record.is_err() {
                fields.position = fields.bytes.len();
            }
            record
        })
    })
}

struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Fields<'_> {
    fn take<const LENGTH: usize>(&mut self) -> io::Result<[u8; LENGTH]> {
        let field = self.bytes.get(self.position..).and_then(|rest| rest.first_chunk());
        let field = *field.ok_or_else(|| invalid("a record ends early"))?;
        self.position += LENGTH;
        Ok(field)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> io::Result<LogId> {
        let (term, index) = (self.u64()?, self.u64()?);
        Ok(LogId::new(term.into(), index))
    }

    fn record(&mut self) -> io::Result<Record> {
        Ok(match self.u8()? {
            VOTE => {
                let mut vote = Vote::new(self.u64()?, MemberId(self.u64()?));
                vote.committed = self.u8()? != 0;
                Record::Vote(vote)
            }
            ENTRY => Record::Entry { id: self.id()?, stored: self.payload()? },
            TRUNCATE => Record::Truncate { from: self.u64()? },
            PURGE => Record::Purge { upto: self.id()? },
            COMMIT => Record::Commit { upto: self.id()? },
            FOLLOWS => Record::Follows { end_bytes: self.u64()? },
            kind => {
                return Err(invalid(format!(
                    "records of kind {kind} are unknown; upgrade this member"
                )));
            }
        })
    }

    fn payload(&mut self) -> io::Result<StoredPayload> {
        let (kind, length_bytes, check) = (self.u8()?, self.u32()?, self.u32()?);
        let offset_bytes = self.position as u64;
        self.position += length_bytes as usize;
        if self.position > self.bytes.len() {
            return Err(invalid("an entry ends early"));
        }
        Ok(StoredPayload { offset_bytes, length_bytes, kind, check })
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

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
