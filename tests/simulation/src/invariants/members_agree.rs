//! Members that have applied the same entries have the same state.
//!
//! Why: whichever member leads next decides by its own copy; one that differs would lose or invent facts.

use std::collections::BTreeMap;

use bessemer_domain::{Outcome, State, Tip};

use super::{Place, Verdict, Violation};

const NAME: &str = "members_agree";

/// Entries between two comparisons of whole states; the hash of the newest event is compared at each.
const WHOLE_STATE_EVERY: usize = 200;

/// What the first member had after each entry.
#[derive(Debug, Default)]
pub(crate) struct MembersAgree {
    after: BTreeMap<Place, (Tip, Outcome)>,
    whole: BTreeMap<Place, Vec<u8>>,
}

impl MembersAgree {
    pub(crate) fn knows(&self, place: Place) -> bool {
        self.after.contains_key(&place)
    }

    pub(crate) fn applied(
        &mut self,
        member: usize,
        place: Place,
        state: &State,
        outcome: &Outcome,
    ) -> Verdict {
        let now = (state.tip(), outcome.clone());
        let first = self.after.entry(place).or_insert_with(|| now.clone());
        if *first != now {
            let what = format!("after {place:?} member {member} has {now:?}, another {first:?}");
            return Err(Violation::new(NAME, what));
        }
        if place.0.is_multiple_of(WHOLE_STATE_EVERY) {
            return self.same_to_the_byte(member, place, state);
        }
        Ok(())
    }

    pub(crate) fn same_to_the_byte(
        &mut self,
        member: usize,
        place: Place,
        state: &State,
    ) -> Verdict {
        let bytes = serde_json::to_vec(state).expect("a state is plain data");
        let first = self.whole.entry(place).or_insert_with(|| bytes.clone());
        if *first == bytes {
            return Ok(());
        }
        let what = format!("after {place:?} the state of member {member} is not the others'");
        Err(Violation::new(NAME, what))
    }
}
