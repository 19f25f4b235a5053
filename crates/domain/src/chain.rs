//! Checks that a history is whole: no event is missing, doubled, reordered or altered.

use std::collections::HashMap;

use crate::{EventHash, EventRecord, Revision, Subject, Tip};

/// What is wrong with a history.
#[derive(Debug, thiserror::Error)]
pub enum BrokenChain {
    /// A revision is missing, doubled or out of order.
    #[error("event {found} follows event {after}; {} was expected", after.next())]
    Revision {
        /// The event before.
        after: Revision,
        /// What came.
        found: Revision,
    },
    /// An event was altered, or one before it was.
    #[error("event {revision} has hash {found}; its record and the event before give {expected}")]
    Hash {
        /// Which.
        revision: Revision,
        /// What the history gives.
        expected: EventHash,
        /// What stands there.
        found: EventHash,
    },
    /// A subject's own events are not gapless.
    #[error("event {revision} is number {found} of {subject}; {expected} was expected")]
    Sequence {
        /// Which.
        revision: Revision,
        /// Whose event it is.
        subject: Subject,
        /// The number after its last event.
        expected: u64,
        /// What stands there.
        found: u64,
    },
    /// A record cannot be read.
    #[error("the event after {after} cannot be read")]
    Record {
        /// The event before.
        after: Revision,
        /// Why.
        source: serde_json::Error,
    },
}

/// Takes a history's events one after the other, from the first.
#[derive(Debug, Default)]
pub struct ChainVerifier {
    tip: Tip,
    sequences: HashMap<Subject, u64>,
}

impl ChainVerifier {
    /// The newest event that was taken, and so far found right.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        self.tip
    }

    /// Takes the next event: its record's bytes and the hash that stands beside them.
    ///
    /// # Errors
    /// What does not fit what came before. The verifier stays at the event before.
    pub fn take(&mut self, record: &[u8], found: EventHash) -> Result<EventRecord, BrokenChain> {
        let after = self.tip.revision;
        let expected = self.tip.hash.chain(record);
        let decoded =
            EventRecord::decode(record).map_err(|source| BrokenChain::Record { after, source })?;
        let revision = decoded.revision;
        if revision != after.next() {
            return Err(BrokenChain::Revision { after, found: revision });
        }
        if found != expected {
            return Err(BrokenChain::Hash { revision, expected, found });
        }
        let last = self.sequences.entry(decoded.subject.clone()).or_default();
        if decoded.sequence != *last + 1 {
            return Err(BrokenChain::Sequence {
                revision,
                subject: decoded.subject,
                expected: *last + 1,
                found: decoded.sequence,
            });
        }
        *last = decoded.sequence;
        self.tip = Tip { revision, hash: found };
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::{ClusterId, CommandId};
    use crate::{Event, Timestamp};

    fn history(sequences: &[u64]) -> Vec<(Vec<u8>, EventHash)> {
        let mut hash = EventHash::default();
        let event = |(n, sequence): (u64, &u64)| {
            let record = EventRecord {
                revision: Revision(n),
                subject: Subject::Cluster,
                sequence: *sequence,
                at: Timestamp::from_micros(n),
                actor: "test".to_owned(),
                command_id: CommandId::new(Uuid::nil()),
                event: Event::ClusterInitialised { cluster_id: ClusterId::new(Uuid::nil()) },
            };
            let bytes = record.encode();
            hash = hash.chain(&bytes);
            (bytes, hash)
        };
        (1..).zip(sequences).map(event).collect()
    }

    fn verify<'a>(
        events: impl IntoIterator<Item = &'a (Vec<u8>, EventHash)>,
    ) -> Result<Tip, BrokenChain> {
        let mut verifier = ChainVerifier::default();
        for (record, hash) in events {
            verifier.take(record, *hash)?;
        }
        Ok(verifier.tip())
    }

    #[test]
    fn a_whole_history_is_accepted() {
        let events = history(&[1, 2, 3]);
        assert_eq!(verify(&events).unwrap(), Tip { revision: Revision(3), hash: events[2].1 });
    }

    #[test]
    fn a_missing_doubled_or_swapped_event_is_found() {
        let events = history(&[1, 2, 3]);
        for wrong in [vec![0, 2], vec![0, 0, 1, 2], vec![1, 0, 2], vec![1]] {
            let broken = verify(wrong.iter().map(|at| &events[*at])).unwrap_err();
            assert!(matches!(broken, BrokenChain::Revision { .. }), "{wrong:?}: {broken}");
        }
    }

    #[test]
    fn an_altered_event_is_found() {
        let mut events = history(&[1, 2, 3]);
        let altered = String::from_utf8(events[1].0.clone()).unwrap().replace("test", "tess");
        events[1].0 = altered.into_bytes();
        let broken = verify(&events).unwrap_err();
        assert!(matches!(broken, BrokenChain::Hash { revision: Revision(2), .. }), "{broken}");
    }

    #[test]
    fn a_gap_in_a_subjects_events_is_found() {
        let broken = verify(&history(&[1, 3])).unwrap_err();
        assert!(matches!(broken, BrokenChain::Sequence { expected: 2, found: 3, .. }), "{broken}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_found() {
        let mut events = history(&[1, 2]);
        events[1].0.truncate(9);
        let broken = verify(&events).unwrap_err();
        assert!(matches!(broken, BrokenChain::Record { after: Revision(1), .. }), "{broken}");
    }
}
