//! The tasks of an agent, as conductors see them: which are begun, which are answered, and which epochs are obeyed.
//!
//! One task runs at a time. It belongs to no session: a conductor that sends its id again attaches to it, or hears the
//! answer once more. Decides only; the agent carries it out. What a task or an answer holds is the agent's business.

use std::collections::VecDeque;

use crate::ids::PlanId;

/// How many answers are kept for repetition. A conductor asks again for the task at hand only; the others are a margin.
const ANSWERS_KEPT: usize = 16;

/// Names a step's task to the agent: the same for every conductor that drives it.
#[must_use]
pub fn task_id(plan: PlanId, index: usize) -> String {
    format!("{plan}/{index}")
}

/// A conductor wants a task done.
#[derive(Debug, Clone, PartialEq)]
pub struct Start<T> {
    /// Its name.
    pub task_id: String,
    /// Epoch of the conductor's claim.
    pub epoch: u64,
    /// Whether the task may have been half done before.
    pub resume: bool,
    /// What to do.
    pub task: T,
}

/// What an agent says of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<A> {
    /// The task's name.
    pub task_id: String,
    /// How it ended.
    pub answer: A,
}

/// What the session has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Act<T, A> {
    /// Begin this task; none runs.
    Begin(Start<T>),
    /// Have the running task stop. Its end is reported to the desk as any other.
    Stop,
    /// Tell the conductor how far the running task is.
    ReportProgress,
    /// Send this.
    Send(Answer<A>),
    /// End the session: its conductor no longer drives this machine.
    Leave,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending<A> {
    /// It succeeded or failed; the same id gets the same answer from now on.
    Final(A),
    /// It was stopped half way; the same id takes it up again.
    Cancelled(A),
}

#[derive(Debug)]
struct Running {
    task_id: String,
    is_stopping: bool,
}

/// The tasks of one machine.
#[derive(Debug)]
pub struct Desk<T, A> {
    highest_epoch: u64,
    running: Option<Running>,
    /// Begins when the running task has stopped.
    next: Option<Start<T>>,
    answers: VecDeque<Answer<A>>,
}

impl<T, A: Clone> Desk<T, A> {
    /// A desk that obeys no epoch below `highest_epoch`.
    #[must_use]
    pub const fn new(highest_epoch: u64) -> Self {
        Self { highest_epoch, running: None, next: None, answers: VecDeque::new() }
    }

    /// The highest epoch seen.
    #[must_use]
    pub const fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }

    /// A conductor introduces itself.
    pub fn welcome(&mut self, epoch: u64) -> Option<Act<T, A>> {
        self.is_stale(epoch).then_some(Act::Leave)
    }

    /// A conductor wants a task done.
    pub fn start(&mut self, start: Start<T>) -> Option<Act<T, A>> {
        if self.is_stale(start.epoch) {
            return Some(Act::Leave);
        }
        if let Some(answer) = self.answers.iter().find(|answer| answer.task_id == start.task_id) {
            return Some(Act::Send(answer.clone()));
        }
        match &mut self.running {
            None => {
                self.running = Some(Running { task_id: start.task_id.clone(), is_stopping: false });
                Some(Act::Begin(start))
            }
            Some(running) if running.task_id == start.task_id && !running.is_stopping => {
                Some(Act::ReportProgress)
            }
            Some(running) => {
                // The last one asked for is the one wanted.
                self.next = Some(start);
                let is_stopping = std::mem::replace(&mut running.is_stopping, true);
                (!is_stopping).then_some(Act::Stop)
            }
        }
    }

    /// A conductor no longer wants a task.
    pub fn cancel(&mut self, task_id: &str, epoch: u64) -> Option<Act<T, A>> {
        if self.is_stale(epoch) {
            return Some(Act::Leave);
        }
        self.next.take_if(|next| next.task_id == task_id);
        let running = self.running.as_mut().filter(|task| task.task_id == task_id)?;
        let is_stopping = std::mem::replace(&mut running.is_stopping, true);
        (!is_stopping).then_some(Act::Stop)
    }

    /// The running task ended.
    pub fn ended(&mut self, ending: Ending<A>) -> Vec<Act<T, A>> {
        let Some(Running { task_id, .. }) = self.running.take() else { return Vec::new() };
        let (Ending::Final(said) | Ending::Cancelled(said)) = &ending;
        let answer = Answer { task_id, answer: said.clone() };
        let is_wanted_again = self.next.as_ref().is_some_and(|next| next.task_id == answer.task_id);
        if matches!(ending, Ending::Final(_)) {
            if self.answers.len() == ANSWERS_KEPT {
                self.answers.pop_front();
            }
            self.answers.push_back(answer.clone());
        }

        let mut acts = Vec::new();
        if !(is_wanted_again && matches!(ending, Ending::Cancelled(_))) {
            acts.push(Act::Send(answer));
        }
        if let Some(next) = self.next.take() {
            // What was stopped half way has left something to go on from.
            let next = Start { resume: next.resume || is_wanted_again, ..next };
            acts.extend(self.start(next));
        }
        acts
    }

    /// Notes `epoch`; whether a higher one has been seen.
    fn is_stale(&mut self, epoch: u64) -> bool {
        if epoch < self.highest_epoch {
            return true;
        }
        self.highest_epoch = epoch;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUCCESS: &str = "succeeded";
    const CANCELLED: &str = "cancelled";

    fn desk(highest_epoch: u64) -> Desk<(), &'static str> {
        Desk::new(highest_epoch)
    }

    fn task(task_id: &str, epoch: u64) -> Start<()> {
        Start { task_id: task_id.to_owned(), epoch, resume: false, task: () }
    }

    fn answer(task_id: &str, answer: &'static str) -> Act<(), &'static str> {
        Act::Send(Answer { task_id: task_id.to_owned(), answer })
    }

    #[test]
    fn a_task_begins_once_and_its_answer_is_repeated() {
        let mut desk = desk(0);
        assert_eq!(desk.welcome(3), None);
        assert_eq!(desk.start(task("a", 3)), Some(Act::Begin(task("a", 3))));
        assert_eq!(desk.start(task("a", 3)), Some(Act::ReportProgress));
        // Another conductor takes over while it runs.
        assert_eq!(desk.welcome(4), None);
        assert_eq!(desk.start(task("a", 4)), Some(Act::ReportProgress));
        assert_eq!(desk.ended(Ending::Final(SUCCESS)), [answer("a", SUCCESS)]);
        assert_eq!(desk.start(task("a", 5)), Some(answer("a", SUCCESS)));
        assert_eq!(desk.highest_epoch(), 5);
    }

    #[test]
    fn lower_epochs_are_refused() {
        let mut desk = desk(5);
        assert_eq!(desk.welcome(4), Some(Act::Leave));
        assert_eq!(desk.start(task("a", 4)), Some(Act::Leave));
        assert_eq!(desk.start(task("a", 5)), Some(Act::Begin(task("a", 5))));
        assert_eq!(desk.cancel("a", 4), Some(Act::Leave));
        assert_eq!(desk.start(task("a", 5)), Some(Act::ReportProgress));
    }

    #[test]
    fn another_task_begins_when_the_running_one_has_stopped() {
        let mut desk = desk(0);
        desk.start(task("a", 1));
        assert_eq!(desk.start(task("b", 2)), Some(Act::Stop));
        assert_eq!(desk.start(task("b", 2)), None);
        let expected = [answer("a", CANCELLED), Act::Begin(task("b", 2))];
        assert_eq!(desk.ended(Ending::Cancelled(CANCELLED)), expected);
    }

    #[test]
    fn the_running_task_may_end_well_while_it_is_being_stopped() {
        let mut desk = desk(0);
        desk.start(task("a", 1));
        desk.start(task("b", 1));
        let expected = [answer("a", SUCCESS), Act::Begin(task("b", 1))];
        assert_eq!(desk.ended(Ending::Final(SUCCESS)), expected);
        assert_eq!(desk.start(task("a", 1)), Some(answer("a", SUCCESS)));
    }

    #[test]
    fn a_cancelled_task_is_taken_up_again_when_asked_for() {
        let mut desk = desk(0);
        desk.start(task("a", 1));
        assert_eq!(desk.cancel("other", 1), None);
        assert_eq!(desk.cancel("a", 1), Some(Act::Stop));
        assert_eq!(desk.cancel("a", 1), None);
        // Wanted again before it has stopped: nobody waits for the word that it was cancelled.
        assert_eq!(desk.start(task("a", 2)), None);
        let resumed = Start { resume: true, ..task("a", 2) };
        assert_eq!(desk.ended(Ending::Cancelled(CANCELLED)), [Act::Begin(resumed)]);
        // And wanted again after.
        desk.cancel("a", 2);
        let told = [answer("a", CANCELLED)];
        assert_eq!(desk.ended(Ending::Cancelled(CANCELLED)), told);
        assert_eq!(desk.start(task("a", 2)), Some(Act::Begin(task("a", 2))));
    }

    #[test]
    fn what_waits_can_be_cancelled() {
        let mut desk = desk(0);
        desk.start(task("a", 1));
        desk.start(task("b", 1));
        assert_eq!(desk.cancel("b", 1), None);
        let told = [answer("a", CANCELLED)];
        assert_eq!(desk.ended(Ending::Cancelled(CANCELLED)), told);
    }

    #[test]
    fn old_answers_are_forgotten() {
        let mut desk = desk(0);
        for number in 0..=ANSWERS_KEPT {
            desk.start(task(&number.to_string(), 1));
            desk.ended(Ending::Final(SUCCESS));
        }
        assert_eq!(desk.start(task("1", 1)), Some(answer("1", SUCCESS)));
        assert_eq!(desk.start(task("0", 1)), Some(Act::Begin(task("0", 1))));
    }
}
