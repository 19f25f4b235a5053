//! Checks a history: nothing missing, nothing altered. Pure, and on purpose independent of the code that writes it.

use std::collections::HashMap;
use std::fmt;

use bessemer_proto::v1::Event;
use prost_types::Timestamp;
use sha2::{Digest, Sha256};

use super::record::Record;

/// Checks events one by one, from revision 1.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    revision: u64,
    hash: [u8; 32],
    /// Last sequence of every subject.
    sequences: HashMap<String, u64>,
}

/// What is wrong with an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {revision}: {flaw}")]
pub(crate) struct Broken {
    /// Where the history stops being trustworthy.
    pub revision: u64,
    /// Why.
    pub flaw: Flaw,
}

/// The ways in which an event can be wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// Its record was changed by the member, for a caller who may not have secrets.
    #[error(
        "its secrets are masked, so its hash cannot be checked; an admin is told the whole record"
    )]
    Masked,
    /// Another revision is where this one should be.
    #[error("it is missing; revision {found} comes instead")]
    Gap {
        /// What came.
        found: u64,
    },
    /// The record is not JSON of the form that all records have.
    #[error("the record cannot be read: {reason}")]
    Unreadable {
        /// The parser's words.
        reason: String,
    },
    /// The message says something else than the record that is hashed.
    #[error("{field} is `{told}` but the record says `{recorded}`")]
    Contradiction {
        /// Of the message.
        field: &'static str,
        /// What the message says.
        told: String,
        /// What the record says.
        recorded: String,
    },
    /// An event of the subject is missing or doubled.
    #[error("{subject} has sequence {found} where {expected} was due")]
    Sequence {
        /// What it is about.
        subject: String,
        /// What came.
        found: u64,
        /// What was due.
        expected: u64,
    },
    /// The record, or one before it, is not what was stored.
    #[error("the hash is {told} but the records so far give {computed}")]
    Hash {
        /// What came with the event.
        told: String,
        /// What it should be.
        computed: String,
    },
    /// The cluster tells of it and does not give it.
    #[error("it is missing, and nothing comes after it")]
    Missing,
    /// History was rewritten after someone wrote its hash down.
    #[error("the hash was {witnessed} and is {computed}: history was rewritten")]
    Rewritten {
        /// What was written down.
        witnessed: String,
        /// What it is now.
        computed: String,
    },
}

impl Chain {
    /// Checks the next event.
    pub(crate) fn check(&mut self, event: &Event) -> Result<(), Broken> {
        let revision = self.revision + 1;
        self.check_at(revision, event).map_err(|flaw| Broken { revision, flaw })
    }

    fn check_at(&mut self, revision: u64, event: &Event) -> Result<(), Flaw> {
        if event.revision != revision {
            return Err(Flaw::Gap { found: event.revision });
        }
        if event.masked {
            return Err(Flaw::Masked);
        }
        let record =
            Record::of(event).map_err(|error| Flaw::Unreadable { reason: error.to_string() })?;
        agree(event, &record)?;
        let sequence = self.sequences.entry(event.subject.clone()).or_default();
        if event.sequence != *sequence + 1 {
            let subject = event.subject.clone();
            return Err(Flaw::Sequence { subject, found: event.sequence, expected: *sequence + 1 });
        }
        let mut hasher = Sha256::new();
        hasher.update(self.hash);
        hasher.update(&event.record);
        let hash: [u8; 32] = hasher.finalize().into();
        if event.hash != hash.as_slice() {
            let (told, computed) = (hex::encode(&event.hash), hex::encode(hash));
            return Err(Flaw::Hash { told, computed });
        }
        *sequence += 1;
        self.revision = revision;
        self.hash = hash;
        Ok(())
    }

    /// Compares the newest event with what someone wrote down of it.
    pub(crate) fn compare(&self, witness: &Witness) -> Result<(), Broken> {
        let computed = self.tip();
        if witness.hash == computed {
            return Ok(());
        }
        let flaw = Flaw::Rewritten { witnessed: witness.hash.clone(), computed };
        Err(Broken { revision: self.revision, flaw })
    }

    /// What is wrong when the next event does not come.
    pub(crate) fn missing(&self) -> Broken {
        Broken { revision: self.revision + 1, flaw: Flaw::Missing }
    }

    /// The newest revision that was found right.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Hash of the newest event that was found right, in hexadecimal.
    pub(crate) fn tip(&self) -> String {
        hex::encode(self.hash)
    }
}

/// Compares what the message says with the record, which alone is hashed.
fn agree(event: &Event, record: &Record) -> Result<(), Flaw> {
    fn same(
        field: &'static str,
        told: impl fmt::Display,
        recorded: impl fmt::Display,
    ) -> Result<(), Flaw> {
        let (told, recorded) = (told.to_string(), recorded.to_string());
        if told == recorded { Ok(()) } else { Err(Flaw::Contradiction { field, told, recorded }) }
    }
    same("revision", event.revision, record.revision)?;
    same("subject", &event.subject, &record.subject)?;
    same("sequence", event.sequence, record.sequence)?;
    same("at", event.at.unwrap_or_default(), instant(record.at))?;
    same("actor", &event.actor, &record.actor)?;
    same("command_id", &event.command_id, &record.command_id)?;
    same("type", &event.r#type, &record.event.kind)
}

/// A time that is kept in microseconds since 1970.
pub(crate) fn instant(micros: u64) -> Timestamp {
    // Both fit: a quotient of u64 by a million, and a remainder below a billion.
    Timestamp { seconds: (micros / 1_000_000) as i64, nanos: (micros % 1_000_000 * 1000) as i32 }
}

/// A revision and the hash that it had when someone wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    /// In lower case hexadecimal.
    pub hash: String,
    /// Where in the history.
    pub revision: u64,
}

impl std::str::FromStr for Witness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not of the form HASH@REVISION");
        let (hash, revision) = text.split_once('@').ok_or_else(wrong)?;
        let bytes = hex::decode(hash).map_err(|_| wrong())?;
        if bytes.len() != 32 {
            return Err(format!("`{hash}` is not a SHA-256 hash: 64 hexadecimal digits"));
        }
        Ok(Self { hash: hex::encode(bytes), revision: revision.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Events as a cluster would send them, with two subjects.
    fn history(length: u64) -> Vec<Event> {
        let mut hash = [0; 32];
        let mut events = Vec::new();
        for revision in 1..=length {
            let (subject, sequence) = match revision {
                1 => ("cluster".to_owned(), 1),
                _ => (format!("node/{}", revision % 2), revision / 2),
            };
            let record = json!({
                "revision": revision, "subject": subject, "sequence": sequence,
                "at": 1_700_000_000_000_000 + revision, "actor": "ada", "command_id": "c",
                "event": {"type": "node.deleted", "data": {}},
            });
            let record = serde_json::to_vec(&record).unwrap();
            hash = Sha256::new().chain_update(hash).chain_update(&record).finalize().into();
            events.push(Event {
                revision,
                subject,
                sequence,
                at: Some(instant(1_700_000_000_000_000 + revision)),
                actor: "ada".into(),
                command_id: "c".into(),
                r#type: "node.deleted".into(),
                record: record.into(),
                hash: hash.to_vec().into(),
                masked: false,
            });
        }
        events
    }

    fn verify(events: &[Event]) -> Result<Chain, Broken> {
        let mut chain = Chain::default();
        for event in events {
            chain.check(event)?;
        }
        Ok(chain)
    }

    fn flaw(events: &[Event], at: u64) -> Flaw {
        let broken = verify(events).unwrap_err();
        assert_eq!(broken.revision, at);
        broken.flaw
    }

    #[test]
    fn an_untouched_history_is_right_to_its_tip() {
        let events = history(9);
        let chain = verify(&events).unwrap();
        assert_eq!(chain.revision(), 9);
        assert_eq!(chain.tip(), hex::encode(&events[8].hash));
    }

    #[test]
    fn one_changed_bit_of_a_record_is_found_where_it_is() {
        let mut events = history(9);
        let text = String::from_utf8(events[4].record.to_vec()).unwrap();
        events[4].record = text.replace(r#""data":{}"#, r#""data":{"a":1}"#).into();
        assert!(matches!(flaw(&events, 5), Flaw::Hash { .. }));
    }

    #[test]
    fn a_record_replaced_with_its_hash_breaks_the_next() {
        let mut events = history(9);
        let text = String::from_utf8(events[4].record.to_vec()).unwrap();
        let record = text.replace(r#""data":{}"#, r#""data":{"a":1}"#);
        let before = events[3].hash.clone();
        let hash = Sha256::new().chain_update(before).chain_update(&record).finalize();
        events[4].record = record.into();
        events[4].hash = hash.to_vec().into();
        assert!(matches!(flaw(&events, 6), Flaw::Hash { .. }));
    }

    #[test]
    fn a_missing_event_is_a_gap() {
        let mut events = history(9);
        events.remove(3);
        assert_eq!(flaw(&events, 4), Flaw::Gap { found: 5 });
    }

    #[test]
    fn a_history_that_begins_late_is_a_gap() {
        assert_eq!(flaw(&history(9)[1..], 1), Flaw::Gap { found: 2 });
    }

    #[test]
    fn fields_that_are_not_hashed_must_agree_with_the_record() {
        type Tamper = fn(&mut Event);
        let tampers: [(&str, Tamper); 5] = [
            ("subject", |event| event.subject = "node/9".into()),
            ("at", |event| event.at = None),
            ("actor", |event| event.actor = "mallory".into()),
            ("command_id", |event| event.command_id = "d".into()),
            ("type", |event| event.r#type = "node.created".into()),
        ];
        for (name, tamper) in tampers {
            let mut events = history(4);
            tamper(&mut events[2]);
            match flaw(&events, 3) {
                Flaw::Contradiction { field, .. } => assert_eq!(field, name),
                other => panic!("{name}: {other}"),
            }
        }
    }

    #[test]
    fn a_subject_that_skips_a_number_is_found_though_the_hashes_agree() {
        let mut events = history(2);
        let text = String::from_utf8(events[1].record.to_vec()).unwrap();
        let record = text.replace(r#""sequence":1"#, r#""sequence":2"#);
        let hash = Sha256::new().chain_update(&events[0].hash).chain_update(&record).finalize();
        events[1].sequence = 2;
        events[1].record = record.into();
        events[1].hash = hash.to_vec().into();
        let expected = Flaw::Sequence { subject: "node/0".into(), found: 2, expected: 1 };
        assert_eq!(flaw(&events, 2), expected);
    }

    #[test]
    fn a_record_that_is_no_record_is_told_as_such() {
        let mut events = history(3);
        events[1].record = b"not json".to_vec().into();
        assert!(matches!(flaw(&events, 2), Flaw::Unreadable { .. }));
    }

    #[test]
    fn a_history_rewritten_from_its_beginning_is_told_by_a_witness() {
        let mut chain = verify(&history(5)).unwrap();
        let witness = Witness { hash: chain.tip(), revision: 5 };
        assert_eq!(chain.compare(&witness), Ok(()));
        chain.hash[0] ^= 1;
        assert!(matches!(chain.compare(&witness).unwrap_err().flaw, Flaw::Rewritten { .. }));
    }

    #[test]
    fn a_witness_is_a_hash_at_a_revision() {
        let hash = "AB".repeat(32);
        let witness: Witness = format!("{hash}@17").parse().unwrap();
        assert_eq!(witness, Witness { hash: hash.to_lowercase(), revision: 17 });
        for wrong in ["", "17", "@17", "abcd@17", &format!("{hash}@"), &format!("{hash}@x")] {
            wrong.parse::<Witness>().unwrap_err();
        }
    }
}
