//! Publishing events to a stream that holds each subject's history once and in order, whoever publishes.
//!
//! How far a subject has come is read from the stream itself, never remembered. Two publishers that overlap while the
//! ring moves are told apart by the place in the stream that each expects to be the subject's last. Decides only.

use std::collections::BTreeMap;

use crate::ids::ConductorId;
use crate::{SealedEvent, State, Subject};

/// Events held in memory while the stream is slow or away: about 20 MB. Beyond it only the subjects are remembered, and
/// the events are read back from the ledger.
const EVENTS_MAX: usize = 20_000;

/// What is still to be published: subjects that are behind, with the events at hand for each.
#[derive(Debug, Default)]
pub struct Backlog {
    by_subject: BTreeMap<Subject, Vec<SealedEvent>>,
    events: usize,
}

/// What a publisher is told.
#[derive(Debug)]
pub enum Notice {
    /// These were committed.
    Committed(Vec<SealedEvent>),
    /// The ring moved, the copy of the state was made anew, or the stream lost something: any subject may be behind.
    Everything,
}

impl Backlog {
    /// Whether nothing is behind, as far as is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// How many subjects are behind, as far as is known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_subject.len()
    }

    /// Notes what `conductor` has to publish.
    pub fn note(&mut self, state: &State, conductor: &ConductorId, notice: Notice) {
        let is_own = |subject: &Subject| state.publisher(subject) == Some(conductor);
        match notice {
            Notice::Committed(events) => {
                events
                    .into_iter()
                    .filter(|event| is_own(&event.record.subject))
                    .for_each(|event| self.add(event));
            }
            Notice::Everything => state.subjects().filter(is_own).for_each(|it| self.retry(it)),
        }
    }

    /// Notes that a subject may be behind by an unknown number of events.
    pub fn retry(&mut self, subject: Subject) {
        self.by_subject.entry(subject).or_default();
    }

    fn add(&mut self, event: SealedEvent) {
        let events = self.by_subject.entry(event.record.subject.clone()).or_default();
        if self.events < EVENTS_MAX {
            events.push(event);
            self.events += 1;
        }
    }

    /// Takes some subjects out, with their events.
    pub fn take(&mut self, count: usize) -> Vec<(Subject, Vec<SealedEvent>)> {
        let subjects: Vec<_> = self.by_subject.keys().take(count).cloned().collect();
        let taken: Vec<_> = subjects
            .into_iter()
            .filter_map(|subject| self.by_subject.remove_entry(&subject))
            .collect();
        self.events -= taken.iter().map(|(_, events)| events.len()).sum::<usize>();
        taken
    }
}

/// How far a subject has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The newest event there, by its place in the subject's history; 0 when there is none.
    pub event_sequence: u64,
    /// Its place in the stream; 0 when there is none. The fence: the stream refuses a message that expects another one.
    pub stream_sequence: u64,
}

/// What brings a subject nearer to its newest event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: all is there.
    UpToDate,
    /// Read from the ledger what follows the cursor.
    Fetch,
    /// Publish what is at hand, in order.
    Publish,
}

/// Leaves in `at_hand` what follows the cursor without a gap, and says what comes next for a subject that has had
/// `version` events. The rest is read from the ledger: what is at hand has gaps, before it and within, where another
/// conductor was the publisher for a while.
pub fn next<E>(
    at_hand: &mut Vec<E>,
    sequence: impl Fn(&E) -> u64,
    cursor: Cursor,
    version: u64,
) -> Next {
    at_hand.retain(|event| sequence(event) > cursor.event_sequence);
    let following = (cursor.event_sequence + 1..).zip(at_hand.iter());
    let whole = following.take_while(|(expected, event)| sequence(event) == *expected).count();
    at_hand.truncate(whole);
    if whole > 0 {
        Next::Publish
    } else if version <= cursor.event_sequence {
        Next::UpToDate
    } else {
        Next::Fetch
    }
}

/// The stream's word that it has a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Its place in the stream.
    pub stream_sequence: u64,
    /// It was taken for a resend of a message that was stored before.
    pub duplicate: bool,
}

impl Cursor {
    /// The cursor after the stream acknowledged the event `event_sequence`, which was sent with this one. None when the
    /// stream took it for a resend of a message that is no longer there, and dropped it.
    #[must_use]
    pub const fn after(self, event_sequence: u64, acknowledged: Acknowledgement) -> Option<Self> {
        let Acknowledgement { stream_sequence, duplicate } = acknowledged;
        if duplicate && stream_sequence <= self.stream_sequence {
            return None;
        }
        Some(Self { event_sequence, stream_sequence })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::{ClusterId, CommandId};
    use crate::{Event, EventHash, EventRecord, Revision, Timestamp};

    fn event(revision: u64) -> SealedEvent {
        let record = EventRecord {
            revision: Revision(revision),
            subject: Subject::Cluster,
            sequence: revision,
            at: Timestamp::default(),
            actor: String::new(),
            command_id: CommandId::new(Uuid::nil()),
            event: Event::ClusterInitialised { cluster_id: ClusterId::new(Uuid::nil()) },
        };
        SealedEvent { bytes: record.encode(), record, hash: EventHash::default() }
    }

    #[test]
    fn a_full_backlog_still_knows_who_is_behind() {
        let mut backlog = Backlog::default();
        for revision in 1..=EVENTS_MAX as u64 + 5 {
            backlog.add(event(revision));
        }
        let taken = backlog.take(1);
        assert_eq!(taken[0].0, Subject::Cluster);
        assert_eq!(taken[0].1.len(), EVENTS_MAX);
        assert!(backlog.is_empty());
        backlog.retry(Subject::Cluster);
        assert_eq!(backlog.take(1), [(Subject::Cluster, Vec::new())]);
    }

    #[test]
    fn what_comes_next_follows_from_the_cursor() {
        let cursor = Cursor { event_sequence: 3, stream_sequence: 30 };
        let next = |mut at_hand: Vec<u64>, version| {
            let next = next(&mut at_hand, |sequence| *sequence, cursor, version);
            (next, at_hand)
        };
        assert_eq!(next(vec![], 3), (Next::UpToDate, vec![]));
        assert_eq!(next(vec![2, 3], 3), (Next::UpToDate, vec![]));
        assert_eq!(next(vec![3, 4, 5], 5), (Next::Publish, vec![4, 5]));
        assert_eq!(next(vec![3, 4, 6], 6), (Next::Publish, vec![4]));
        assert_eq!(next(vec![5], 5), (Next::Fetch, vec![]));
        assert_eq!(next(vec![], 4), (Next::Fetch, vec![]));
    }

    #[test]
    fn a_resend_of_what_is_there_counts_and_one_of_what_is_gone_does_not() {
        let cursor = Cursor { event_sequence: 3, stream_sequence: 30 };
        let after = |stream_sequence, duplicate| {
            cursor.after(4, Acknowledgement { stream_sequence, duplicate })
        };
        let moved = Some(Cursor { event_sequence: 4, stream_sequence: 31 });
        assert_eq!(after(31, false), moved);
        assert_eq!(after(31, true), moved);
        assert_eq!(after(12, true), None);
    }
}
