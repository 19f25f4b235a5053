//! Which events are a subject's.
//!
//! Writing a key for each event would cost more than the event itself. So the newest entries are gathered in memory and
//! written together, in the order of their keys, several of a subject as one. After a restart the gathered ones are
//! made again from the events.

use std::collections::BTreeMap;

use bessemer_domain::{Revision, Subject};

/// Entries that are gathered before they are written.
const GATHERED_MAX: usize = 32_768;

/// Revisions in one key's value: a value stays under 4 KiB.
pub(super) const RUN_MAX: usize = 500;

/// Revisions of a subject's events that follow each other in its own order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The sequence of the first.
    pub(super) first_sequence: u64,
    /// In order.
    pub(super) revisions: Vec<Revision>,
}

impl Run {
    /// Revisions and their sequences, from `sequence` on.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = (u64, Revision)> + '_ {
        let all = (self.first_sequence..).zip(self.revisions.iter().copied());
        all.skip_while(move |(number, _)| *number < sequence)
    }
}

/// The entries that the tree does not have yet.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    runs: BTreeMap<Subject, Run>,
    count: usize,
}

impl Gathered {
    /// Notes an event; a subject's come in order.
    pub(super) fn note(&mut self, subject: &Subject, sequence: u64, revision: Revision) {
        self.count += 1;
        if let Some(run) = self.runs.get_mut(subject) {
            run.revisions.push(revision);
            return;
        }
        let run = Run { first_sequence: sequence, revisions: vec![revision] };
        self.runs.insert(subject.clone(), run);
    }

    /// Whether it is time to write them.
    pub(super) fn is_full(&self) -> bool {
        self.count >= GATHERED_MAX
    }

    pub(super) fn of(&self, subject: &Subject) -> Option<&Run> {
        self.runs.get(subject)
    }

    /// All of them, by subject.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Subject, Run)> {
        self.runs.iter().flat_map(|(subject, run)| {
            (run.first_sequence..).step_by(RUN_MAX).zip(run.revisions.chunks(RUN_MAX)).map(
                move |(first_sequence, revisions)| {
                    (subject, Run { first_sequence, revisions: revisions.to_vec() })
                },
            )
        })
    }
}
