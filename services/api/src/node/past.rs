//! Nodes as they were, folded anew from the events they had until then.

use std::iter::once;

use bessemer_domain::ids::NodeId;
use bessemer_domain::{EventRecord, Invalid, Revision, State, Subject};
use bessemer_proto::v1;
use bessemer_wire::Failure;

use crate::api::Api;
use crate::event::{filter, reached};
use crate::ledger_error;
use crate::reference::NodeReference;

/// Events read from the store at once.
const BATCH: usize = 1000;

impl Api {
    /// The node as it was when history had come to `revision`. The conductors of that time are known too, so that it also
    /// says what the node was waiting for.
    pub(super) fn past_node(
        &self,
        state: &State,
        reference: &NodeReference,
        revision: u64,
    ) -> Result<v1::Node, Failure> {
        let revision = reached("at_revision", revision, state)?;
        let id = reference.id(state)?;
        let conductors = state.conductors().map(|conductor| conductor.id.clone());
        let mut records = Vec::new();
        for subject in once(Subject::Node(id)).chain(conductors.map(Subject::Conductor)) {
            self.records_until(&subject, revision, &mut records)?;
        }
        let past = State::of_subjects(&records);
        match past.node(id) {
            Some(node) => Ok(bessemer_wire::node::to_proto(&past, node)),
            None => Err(self.absent(id, revision, &records)?),
        }
    }

    fn records_until(
        &self,
        subject: &Subject,
        revision: Revision,
        records: &mut Vec<EventRecord>,
    ) -> Result<(), Failure> {
        let mut sequence = 0;
        loop {
            let batch = self.ledger.subject_events_after(subject, sequence, BATCH);
            let batch = batch.map_err(ledger_error::loading)?;
            if batch.is_empty() {
                return Ok(());
            }
            for stored in batch {
                if stored.revision > revision {
                    return Ok(());
                }
                let record = filter::record(&stored)?;
                sequence = record.sequence;
                records.push(record);
            }
        }
    }

    /// Why there is no such node at a revision.
    fn absent(
        &self,
        id: NodeId,
        revision: Revision,
        records: &[EventRecord],
    ) -> Result<Failure, Failure> {
        let subject = Subject::Node(id);
        let deleted = records.iter().rfind(|record| record.subject == subject);
        let reason = if let Some(deleted) = deleted {
            format!("is after node {id} was deleted, at revision {}", deleted.revision)
        } else {
            let first = self.ledger.subject_events_after(&subject, 0, 1);
            match first.map_err(ledger_error::loading)?.first() {
                Some(first) => {
                    format!("is before node {id} was created, at revision {}", first.revision)
                }
                None => return Ok(Failure::not_found("node", &id.to_string())),
            }
        };
        Ok(Invalid::new("at_revision", &revision.to_string(), reason).into())
    }
}
