//! Functions that a cascade's model calls: done, answered, and the model asked to go on.

use talkstack_control::port::Outcome;

use super::Cascade;
use super::history::History;
use super::wishes::Wishes;
use crate::agent::duties;
use crate::agent::tools::not_transferred;

impl Cascade {
    /// Does what the model's calls of functions ask for, and has it go on.
    pub(super) fn answer_calls(&mut self) {
        let Some(answer) = &mut self.answer else { return };
        let calls = answer.take_calls();
        if calls.is_empty() {
            return;
        }
        let tools = &self.opening.tools;
        let (answered, goes_on) = self.wishes.deal_with(calls, answer, tools);
        answer.handle_answered(answered);
        if goes_on && self.wishes.errands.is_idle() {
            self.think_on();
        }
    }

    /// The model goes on in the answer that is in the works.
    fn think_on(&mut self) {
        if self.answer.as_ref().is_some_and(|answer| answer.round() < ROUNDS_MAX) {
            self.think(None);
        }
    }

    /// What has come of something that takes a while: the model is to know, and goes on once it knows of all.
    pub(super) fn handle_errand_over(&mut self, done: duties::Answer) {
        let duties::Answer { call_id, output, .. } = done;
        let is_in_works = self.answer.as_mut().is_some_and(|answer| answer.correct(&call_id, &output));
        if !is_in_works {
            self.history.correct(&call_id, output);
        }
        if !self.wishes.errands.is_idle() {
            return;
        }
        // One that was thought of since knows nothing of it, and goes on with what the caller has said.
        match &self.answer {
            Some(answer) if is_in_works && answer.thinking.is_none() => self.think_on(),
            Some(_) => {}
            None => self.wants_answer = true,
        }
    }

    /// The caller was not put through: the model is to know why.
    pub(super) fn answer_transfer(&mut self, outcome: Outcome) {
        if let Some(call_id) = self.wishes.transfer.end() {
            self.history.correct(&call_id, not_transferred(outcome));
        }
    }
}

/// The caller has said something: nobody waits for it any more.
pub(super) fn end_wait(words: &str, wishes: &mut Wishes, history: &mut History) {
    if !words.is_empty()
        && let Some(duties::Answer { call_id, output, .. }) = wishes.errands.handle_caller()
    {
        history.correct(&call_id, output);
    }
}

/// Eight rounds of functions in one answer: a model that goes on does not come to an end.
pub(super) const ROUNDS_MAX: usize = 8;
