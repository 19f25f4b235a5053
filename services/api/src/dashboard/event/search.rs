//! Finds events from the newest on backwards. The store reads forwards only: so in windows, each older than the last.

use std::collections::BTreeMap;

use bessemer_domain::ids::NodeId;
use bessemer_domain::{EventRecord, Invalid, Revision, State, Subject};
use bessemer_ledger::{Ledger, StoredEvent};
use bessemer_wire::Failure;

use super::Fields;
use crate::event::filter;
use crate::ledger_error;
use crate::reference::NodeReference;

/// Events that are read at once.
const WINDOW: u64 = 1000;

/// Events that are looked at for one page, whether they match or not: bounds the work of a request.
const SCANNED_MAX: u64 = 20_000;

/// What is looked for.
pub(super) struct Search {
    subject: Option<Subject>,
    kind: String,
    actor: String,
    from: u64,
    to: u64,
}

/// What was found.
pub(super) struct Found {
    /// Newest first.
    pub(super) events: Vec<(EventRecord, StoredEvent)>,
    /// The newest revision that was not looked at, if there may be more.
    pub(super) older: Option<u64>,
    /// Names of the nodes that they are about.
    pub(super) names: BTreeMap<NodeId, String>,
}

impl Search {
    pub(super) fn try_new(fields: &Fields, state: &State) -> Result<Self, Failure> {
        let subject = match fields.node.trim() {
            "" => None,
            node => Some(Subject::Node(node.parse::<NodeReference>()?.id(state)?)),
        };
        let newest = state.tip().revision.0;
        Ok(Self {
            subject,
            kind: fields.kind.trim().to_owned(),
            actor: fields.actor.trim().to_lowercase(),
            from: revision("from", &fields.from, 1)?,
            to: revision("to", &fields.to, newest)?.min(newest),
        })
    }

    fn matches(&self, record: &EventRecord) -> bool {
        (self.from..=self.to).contains(&record.revision.0)
            && record.event.name().starts_with(&self.kind)
            && (self.actor.is_empty() || record.actor.to_lowercase().contains(&self.actor))
    }

    /// The newest `count` that match.
    pub(super) fn run(
        &self,
        ledger: &Ledger,
        state: &State,
        count: usize,
    ) -> Result<Found, Failure> {
        let mut found = Found { events: Vec::new(), older: None, names: BTreeMap::new() };
        let mut scanned = 0;
        // Places are revisions, or those in the subject's own history.
        let mut place = self.subject.as_ref().map_or(self.to, |it| state.version_of(it));
        'windows: while place > 0 {
            let begin = place.saturating_sub(WINDOW);
            for (record, stored) in self.window(ledger, begin, place)?.into_iter().rev() {
                let revision = record.revision.0;
                if revision < self.from {
                    break 'windows;
                }
                if found.events.len() == count || scanned == SCANNED_MAX {
                    found.older = Some(revision);
                    break 'windows;
                }
                scanned += 1;
                if self.matches(&record) {
                    found.note(record, stored, state);
                }
            }
            place = begin;
        }
        Ok(found)
    }

    /// The events after the place `begin` up to `end`, oldest first.
    fn window(
        &self,
        ledger: &Ledger,
        begin: u64,
        end: u64,
    ) -> Result<Vec<(EventRecord, StoredEvent)>, Failure> {
        let (mut after, mut window) = (begin, Vec::new());
        while after < end {
            let limit = usize::try_from(end - after).unwrap_or(usize::MAX);
            let batch = match &self.subject {
                Some(subject) => ledger.subject_events_after(subject, after, limit),
                None => ledger.events_after(Revision(after), limit),
            };
            let batch = batch.map_err(ledger_error::loading)?;
            if batch.is_empty() {
                break;
            }
            after += batch.len() as u64;
            for stored in batch {
                window.push((filter::record(&stored)?, stored));
            }
        }
        Ok(window)
    }
}

impl Found {
    fn note(&mut self, record: EventRecord, stored: StoredEvent, state: &State) {
        if let Subject::Node(id) = record.subject
            && let Some(node) = state.node(id)
        {
            self.names.insert(id, node.label());
        }
        self.events.push((record, stored));
    }
}

fn revision(field: &str, text: &str, default: u64) -> Result<u64, Invalid> {
    match text.trim() {
        "" => Ok(default),
        text => text.parse().map_err(|_| Invalid::new(field, text, "is not a revision")),
    }
}
