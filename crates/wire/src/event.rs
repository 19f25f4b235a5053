//! Events: stored records and their hashes.

use bessemer_domain::node::JsonMap;
use bessemer_domain::{EventHash, EventRecord, SealedEvent};
use bessemer_proto::v1;
use prost::bytes::Bytes;

use crate::{Failure, mask, time};

/// A stored event as a message: its record byte for byte, with the fields a reader filters by beside it.
#[must_use]
pub fn to_proto(record: &EventRecord, stored: Bytes, hash: EventHash) -> v1::Event {
    v1::Event {
        revision: record.revision.0,
        subject: record.subject.to_string(),
        sequence: record.sequence,
        at: Some(time::to_proto(record.at)),
        actor: record.actor.clone(),
        command_id: record.command_id.to_string(),
        r#type: record.event.name().to_owned(),
        record: stored,
        hash: hash.0.to_vec().into(),
        masked: false,
    }
}

/// The event for somebody who may not have its secrets: masked, if it holds any, in a record that can be read like every other.
///
/// # Errors
/// [`Failure::Stored`] when the record is no JSON object.
pub fn masked(event: v1::Event) -> Result<v1::Event, Failure> {
    let record = masked_record(&event.record)?;
    let is_whole = serde_json::from_slice::<JsonMap>(&event.record).is_ok_and(|it| it == record);
    if is_whole {
        return Ok(event);
    }
    let record = serde_json::Value::Object(record).to_string();
    Ok(v1::Event { record: record.into_bytes().into(), masked: true, ..event })
}

/// The event in a message, from its record alone.
///
/// # Errors
/// [`Failure::Stored`] when the record is not one this version knows, or the hash has not 32 bytes.
pub fn from_proto(event: &v1::Event) -> Result<SealedEvent, Failure> {
    let record = EventRecord::decode(&event.record).map_err(|error| Failure::Stored {
        what: format!("event {} does not decode: {error}", event.revision),
    })?;
    let hash = <[u8; 32]>::try_from(event.hash.as_ref()).map_err(|_| Failure::Stored {
        what: format!(
            "the hash of event {} has {} bytes, not 32",
            event.revision,
            event.hash.len()
        ),
    })?;
    Ok(SealedEvent { record, bytes: event.record.to_vec(), hash: EventHash(hash) })
}

/// A stored record for a person to read: one JSON object, with its secrets masked as those of a node are.
///
/// # Errors
/// [`Failure::Stored`] when it is no JSON object.
pub fn masked_record(stored: &[u8]) -> Result<JsonMap, Failure> {
    let record: JsonMap = serde_json::from_slice(stored).map_err(|error| Failure::Stored {
        what: format!("a record is no JSON object: {error}"),
    })?;
    Ok(mask::masked(&record))
}

#[cfg(test)]
mod tests {
    use bessemer_domain::ids::{ClusterId, CommandId};
    use bessemer_domain::{Command, CommandBody, State, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn sealed() -> SealedEvent {
        let command = Command {
            id: CommandId::new(Uuid::from_u128(1)),
            fingerprint: 0,
            actor: "test".into(),
            at: Timestamp::from_micros(1_700_000_000_123_456),
            body: CommandBody::InitialiseCluster { cluster_id: ClusterId::new(Uuid::from_u128(2)) },
        };
        State::default().apply(&command).1.remove(0)
    }

    #[test]
    fn events_come_back() {
        let sealed = sealed();
        let shown = to_proto(&sealed.record, sealed.bytes.clone().into(), sealed.hash);
        assert_eq!((shown.revision, shown.r#type.as_str()), (1, "cluster.initialised"));
        assert_eq!(from_proto(&shown).unwrap(), sealed);
    }

    #[test]
    fn a_record_for_a_person_holds_no_secret() {
        let stored =
            br#"{"revision":7,"event":{"type":"node.created","data":{"spec":{"driver_info":
            {"redfish_address":"https://bmc","redfish_password":"hunter2"}}}}}"#;
        let shown = serde_json::Value::Object(masked_record(stored).unwrap());
        let info = shown.pointer("/event/data/spec/driver_info").unwrap();
        assert_eq!(info["redfish_password"], "******");
        assert_eq!(info["redfish_address"], "https://bmc");
        assert!(matches!(masked_record(b"[]"), Err(Failure::Stored { .. })));
    }

    #[test]
    fn who_may_not_have_secrets_is_told_that_they_were_masked() {
        let with = |record: &'static [u8]| v1::Event {
            record: Bytes::from_static(record),
            ..v1::Event::default()
        };
        let event = with(br#"{"event":{"data":{"driver_info":{"ipmi_password":"hunter2"}}}}"#);
        let shown = masked(event).unwrap();
        assert!(shown.masked && !String::from_utf8_lossy(&shown.record).contains("hunter2"));
        let event = with(br#"{ "revision" : 7 }"#);
        assert_eq!(masked(event.clone()).unwrap(), event, "byte for byte");
    }

    #[test]
    fn a_damaged_event_is_told() {
        let sealed = sealed();
        let mut shown = to_proto(&sealed.record, sealed.bytes.clone().into(), sealed.hash);
        shown.hash = shown.hash.slice(..31);
        assert!(matches!(from_proto(&shown), Err(Failure::Stored { .. })));
        let shown = to_proto(&sealed.record, Bytes::from_static(b"{}"), sealed.hash);
        assert!(matches!(from_proto(&shown), Err(Failure::Stored { .. })));
    }
}
