//! What must never be otherwise: one file for each invariant, and where the world tells them what happened.

pub(crate) mod deployed_as_asked;
pub(crate) mod failures_have_a_cause;
pub(crate) mod history_is_whole;
pub(crate) mod members_agree;
pub(crate) mod no_half_image;
pub(crate) mod one_driver;
pub(crate) mod outcomes_once;
pub(crate) mod steps_once;
pub(crate) mod stream_in_order;
pub(crate) mod waiting_is_explained;

use std::cell::RefCell;

use bessemer_domain::{Command, Outcome, SealedEvent};

use crate::world::World;
use deployed_as_asked::DeployedAsAsked;
use failures_have_a_cause::FailuresHaveACause;
use history_is_whole::HistoryIsWhole;
use members_agree::MembersAgree;
use no_half_image::NoHalfImage;
use one_driver::OneDriver;
use outcomes_once::OutcomesOnce;
use steps_once::StepsOnce;
use stream_in_order::StreamInOrder;
use waiting_is_explained::WaitingIsExplained;

/// A command's place in the log: the entry, and which of its commands.
pub(crate) type Place = (usize, usize);

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its name: that of its file.
    pub(crate) invariant: &'static str,
    /// What was seen.
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// What an invariant says of something that happened.
pub(crate) type Verdict = Result<(), Violation>;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    pub(crate) outcomes_once: RefCell<OutcomesOnce>,
    pub(crate) members_agree: RefCell<MembersAgree>,
    pub(crate) history_is_whole: HistoryIsWhole,
    pub(crate) one_driver: RefCell<OneDriver>,
    pub(crate) steps_once: RefCell<StepsOnce>,
    pub(crate) no_half_image: NoHalfImage,
    pub(crate) waiting_is_explained: WaitingIsExplained,
    pub(crate) failures_have_a_cause: RefCell<FailuresHaveACause>,
    pub(crate) stream_in_order: RefCell<StreamInOrder>,
    pub(crate) deployed_as_asked: DeployedAsAsked,
}

impl World {
    /// A member applied an entry.
    pub(crate) fn applied(
        &self,
        member: usize,
        place: Place,
        command: &Command,
        outcome: &Outcome,
        events: &[SealedEvent],
    ) {
        let all = &self.invariants;
        let state = self.members[member].state.borrow();
        self.judge(all.outcomes_once.borrow_mut().applied(place, command.id, outcome, events));
        let is_first = !all.members_agree.borrow().knows(place);
        self.judge(all.members_agree.borrow_mut().applied(member, place, &state, outcome));
        if !is_first {
            return;
        }
        self.note(&format!("log {}: {} {}", place.0, command.actor, said(outcome)));
        for event in events {
            self.note(&format!("  {} {}", event.record.subject, event.record.event.name()));
            let now = self.exec.now();
            self.judge(all.failures_have_a_cause.borrow_mut().happened(now, event));
            all.steps_once.borrow_mut().happened(&state, event);
            self.judge(all.waiting_is_explained.judge(&state, &event.record.subject));
        }
    }

    /// Whoever sent a command got its outcome.
    pub(crate) fn answered(&self, command: &Command, outcome: &Outcome) {
        self.judge(self.invariants.outcomes_once.borrow_mut().answered(command.id, outcome));
    }

    /// What must be so once everything has come to rest.
    pub(crate) fn judge_the_end(&self) {
        let all = &self.invariants;
        for (index, member) in self.members.iter().enumerate() {
            self.judge(all.history_is_whole.judge(
                index,
                &member.history.borrow(),
                &member.state.borrow(),
            ));
            let applied = *member.applied.get();
            self.judge(all.members_agree.borrow_mut().same_to_the_byte(
                index,
                (applied, 0),
                &member.state.borrow(),
            ));
        }
        let state = self.members[0].state.borrow();
        self.judge(all.stream_in_order.borrow().complete(&state));
        for machine in &self.machines {
            self.judge(all.deployed_as_asked.judge(&state, machine));
        }
    }
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Ok(accepted) => format!("-> {}", accepted.revision),
        Err(rejection) => format!("-> refused: {rejection}"),
    }
}
