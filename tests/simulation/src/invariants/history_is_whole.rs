//! Every member's history is gapless, each subject's too, its hash chain holds, and folding it gives the member's state.
//!
//! Why: history is what proves what was done to a machine; one that can lack an event proves nothing.

use std::rc::Rc;

use bessemer_domain::{ChainVerifier, SealedEvent, State};

use super::{Verdict, Violation};

const NAME: &str = "history_is_whole";

/// Judges whole histories.
#[derive(Debug, Default)]
pub(crate) struct HistoryIsWhole;

impl HistoryIsWhole {
    pub(crate) fn judge(
        &self,
        member: usize,
        history: &[Rc<SealedEvent>],
        state: &State,
    ) -> Verdict {
        let broken = |what: String| Violation::new(NAME, format!("member {member}: {what}"));
        let (mut chain, mut folded) = (ChainVerifier::default(), State::default());
        for event in history {
            chain.take(&event.bytes, event.hash).map_err(|error| broken(error.to_string()))?;
            folded.evolve(event);
        }
        if chain.tip() != state.tip() {
            return Err(broken(format!(
                "it ends at {:?}, its state at {:?}",
                chain.tip(),
                state.tip()
            )));
        }
        match state.nodes().find(|node| folded.node(node.id) != Some(*node)) {
            Some(node) => Err(broken(format!("its history does not lead to its node {}", node.id))),
            None => Ok(()),
        }
    }
}
