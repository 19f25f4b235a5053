//! Which events are wanted.

use std::collections::HashSet;

use bessemer_domain::{EventRecord, Invalid, State, Subject};
use bessemer_ledger::StoredEvent;
use bessemer_proto::v1;
use bessemer_wire::{Failure, event};

use crate::reference::NodeReference;

/// Of one subject, of some types, or all.
pub(crate) struct Filter {
    subject: Option<Subject>,
    types: HashSet<String>,
}

impl Filter {
    pub(crate) fn try_new(wanted: v1::EventFilter, state: &State) -> Result<Self, Failure> {
        let named = match wanted.subject.as_str() {
            "" => None,
            subject => Some(subject.parse().map_err(|invalid: Invalid| invalid.under("filter"))?),
        };
        // The history of a node that is gone can be read by its id.
        let node = match wanted.node.as_str() {
            "" => None,
            reference => Some(Subject::Node(reference.parse::<NodeReference>()?.id(state)?)),
        };
        if let (Some(named), Some(node)) = (&named, &node)
            && named != node
        {
            let reason = format!("is another subject than `{node}`, which filter.node names");
            return Err(Invalid::new("filter.subject", &wanted.subject, reason).into());
        }
        Ok(Self { subject: named.or(node), types: wanted.types.into_iter().collect() })
    }

    pub(crate) const fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    pub(crate) fn matches(&self, event: &v1::Event) -> bool {
        self.subject.as_ref().is_none_or(|subject| subject.to_string() == event.subject)
            && (self.types.is_empty() || self.types.contains(&event.r#type))
    }

    /// Those of the stored events that are wanted.
    pub(crate) fn select(&self, stored: &[StoredEvent]) -> Result<Vec<v1::Event>, Failure> {
        let mut events = messages(stored)?;
        events.retain(|event| self.matches(event));
        Ok(events)
    }
}

/// Stored events as messages.
pub(crate) fn messages(stored: &[StoredEvent]) -> Result<Vec<v1::Event>, Failure> {
    stored.iter().map(message).collect()
}

pub(crate) fn message(stored: &StoredEvent) -> Result<v1::Event, Failure> {
    Ok(event::to_proto(&record(stored)?, stored.record.clone(), stored.hash))
}

pub(crate) fn record(stored: &StoredEvent) -> Result<EventRecord, Failure> {
    EventRecord::decode(&stored.record).map_err(|error| {
        tracing::error!(revision = %stored.revision, %error, "a stored event does not decode");
        Failure::Stored { what: format!("event {} does not decode", stored.revision) }
    })
}
