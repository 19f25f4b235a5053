//! A command has one outcome, and causes its events once, however often it is sent and whoever answers.
//!
//! Why: a client that repeats a request after a timeout must not deploy twice, and must not be told another story.

use std::collections::BTreeMap;

use bessemer_domain::ids::CommandId;
use bessemer_domain::{Outcome, SealedEvent};

use super::{Place, Verdict, Violation};

const NAME: &str = "outcomes_once";

/// What became of each command.
#[derive(Debug, Default)]
pub(crate) struct OutcomesOnce {
    outcomes: BTreeMap<CommandId, Outcome>,
    /// Where in the log it caused its events.
    caused_at: BTreeMap<CommandId, Place>,
}

impl OutcomesOnce {
    pub(crate) fn applied(
        &mut self,
        place: Place,
        command: CommandId,
        outcome: &Outcome,
        events: &[SealedEvent],
    ) -> Verdict {
        if !events.is_empty() {
            let first = *self.caused_at.entry(command).or_insert(place);
            if first != place {
                let what = format!("command {command} caused events at {first:?} and {place:?}");
                return Err(Violation::new(NAME, what));
            }
        }
        self.answered(command, outcome)
    }

    pub(crate) fn answered(&mut self, command: CommandId, outcome: &Outcome) -> Verdict {
        let first = self.outcomes.entry(command).or_insert_with(|| outcome.clone());
        if first == outcome {
            return Ok(());
        }
        let what = format!("command {command} had outcome {first:?} and then {outcome:?}");
        Err(Violation::new(NAME, what))
    }
}
