//! The stream holds, for every subject, a prefix of its events, in order, without a gap or a double; all of them in the
//! end.
//!
//! Why: whoever builds on the stream (billing, a CMDB, a dashboard) has no other way to see that something is missing.

use std::collections::BTreeMap;

use bessemer_domain::{SealedEvent, State, Subject};

use super::{Verdict, Violation};

const NAME: &str = "stream_in_order";

/// How much of each subject is in the stream.
#[derive(Debug, Default)]
pub(crate) struct StreamInOrder {
    stored: BTreeMap<Subject, u64>,
}

impl StreamInOrder {
    pub(crate) fn emptied(&mut self) {
        self.stored.clear();
    }

    pub(crate) fn stored(&mut self, event: &SealedEvent) -> Verdict {
        let (subject, found) = (event.record.subject.clone(), event.record.sequence);
        let last = self.stored.entry(subject.clone()).or_default();
        if found != *last + 1 {
            let what = format!("event {found} of {subject} follows event {last}");
            return Err(Violation::new(NAME, what));
        }
        *last = found;
        Ok(())
    }

    pub(crate) fn complete(&self, state: &State) -> Verdict {
        for subject in state.subjects() {
            let (there, version) = (
                self.stored.get(&subject).copied().unwrap_or_default(),
                state.version_of(&subject),
            );
            if there != version {
                let what = format!("{there} of {version} events of {subject} are there in the end");
                return Err(Violation::new(NAME, what));
            }
        }
        Ok(())
    }
}
