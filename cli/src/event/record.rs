//! Stored records as this program reads them: the fields that every record has, whatever its kind.

use bessemer_proto::v1::Event;
use bessemer_wire::mask;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A stored record.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Record {
    /// Place in the cluster's history.
    pub revision: u64,
    /// What it is about.
    pub subject: String,
    /// Place in the subject's history.
    pub sequence: u64,
    /// Microseconds since the Unix epoch.
    pub at: u64,
    /// Who caused it.
    pub actor: String,
    /// By which command.
    pub command_id: String,
    /// What happened.
    pub event: Fact,
}

/// The kind of event and its own data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Fact {
    /// Stable name.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the kind has.
    #[serde(default)]
    pub data: Value,
}

impl Record {
    /// Reads the bytes of an event.
    pub(crate) fn of(event: &Event) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&event.record)
    }
}

/// The data for a screen or a log, where a secret would stay: masked.
fn masked(data: Value) -> Value {
    match data {
        Value::Object(object) => Value::Object(mask::masked(&object)),
        other => other,
    }
}

/// An event for programs to read: the message's fields, with the record's own data in place of its bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Printed<'a> {
    revision: u64,
    subject: &'a str,
    sequence: u64,
    at: String,
    actor: &'a str,
    command_id: &'a str,
    r#type: &'a str,
    data: Value,
    hash: String,
}

impl<'a> Printed<'a> {
    /// Of an event. Data that does not parse is null; `event verify` is what tells.
    pub(crate) fn new(event: &'a Event) -> Self {
        Self {
            revision: event.revision,
            subject: &event.subject,
            sequence: event.sequence,
            at: event.at.map(|at| at.to_string()).unwrap_or_default(),
            actor: &event.actor,
            command_id: &event.command_id,
            r#type: &event.r#type,
            data: Record::of(event).map_or(Value::Null, |record| masked(record.event.data)),
            hash: hex::encode(&event.hash),
        }
    }
}
