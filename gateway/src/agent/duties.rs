//! What a model has asked for besides speaking, whatever its provider calls that: each call of a function is dealt with
//! once, answered, and done when what the agent has said about it was heard.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, EndReason, Outcome};

use super::errands::{Done, Errands};
use super::tools::{Asked, TRANSFER, Tools, not_transferred};
use super::transfer::Transfer;
use super::{AgentOutput, Destination};

/// What one agent's model has asked for.
#[derive(Default)]
pub(super) struct Duties {
    tools: Tools,
    /// The functions whose calls have been dealt with, the newest last.
    known: VecDeque<String>,
    answers: Vec<Answer>,
    /// Keys that the model wants pressed.
    presses: VecDeque<char>,
    /// The model wants the call to end once it has been heard.
    is_ending: bool,
    /// The agent has gone, and the call ends with what it has said.
    has_hung_up: bool,
    transfer: Transfer,
    errands: Errands,
    /// When what is wanted begins, whose announcement has been heard.
    due: Option<Instant>,
}

impl fmt::Debug for Duties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duties({} answers, {} keys, {:?})", self.answers.len(), self.presses.len(), self.transfer)
    }
}

/// The answer to a call of a function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) call_id: String,
    /// As the call has it.
    pub(super) name: String,
    /// What the model is told, as JSON.
    pub(super) output: String,
    /// Nothing has come of it.
    pub(super) is_refusal: bool,
}

/// What a call of a function has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dealt {
    /// It was told of before, or there is no room for it.
    Known,
    /// The model is to go on.
    Answered,
    /// The call is to end once the goodbye has been heard.
    Ending,
    /// What becomes of it is told later.
    Deferred,
}

impl Duties {
    /// For an agent that has these tools.
    pub(super) fn new(tools: Tools) -> Self {
        Duties { tools, ..Duties::default() }
    }

    /// Does what a call of a function asks for; it may be told of more than once.
    pub(super) fn handle_call(&mut self, call_id: &str, name: &str, arguments: &str) -> Dealt {
        let is_full = self.answers.len() >= CALLS_MAX;
        if is_full || call_id.is_empty() || self.known.iter().any(|known| known == call_id) {
            return Dealt::Known;
        }
        if self.known.len() >= CALLS_MAX {
            self.known.pop_front();
        }
        self.known.push_back(call_id.to_owned());
        let mut asked = self.tools.asked(name, arguments);
        if matches!(asked, Asked::Transfer(_)) && self.transfer != Transfer::None {
            asked = Asked::Refused("Another transfer is going on.");
        }
        if let Asked::Later(wanted) = asked {
            match self.errands.begin(call_id, name, wanted) {
                Ok(()) => return Dealt::Deferred,
                Err(why) => asked = Asked::Refused(why),
            }
        }
        if let Some(output) = asked.answer() {
            let is_refusal = matches!(asked, Asked::Refused(_));
            self.answers.push(Answer { call_id: call_id.to_owned(), name: name.to_owned(), output, is_refusal });
        }
        match asked {
            Asked::EndCall => {
                self.is_ending = true;
                Dealt::Ending
            }
            Asked::Press(keys) => {
                self.presses.extend(keys.chars());
                Dealt::Answered
            }
            Asked::Transfer(to) => {
                self.transfer = Transfer::Wanted { call_id: call_id.to_owned(), to: Destination(to) };
                Dealt::Deferred
            }
            Asked::Note(note) => {
                self.errands.note(note);
                Dealt::Answered
            }
            Asked::Later(_) | Asked::Refused(_) => Dealt::Answered,
        }
    }

    /// What has become of an errand; `true` when the model is to go on.
    pub(super) fn handle_done(&mut self, number: u32, done: Done) -> bool {
        let answer = self.errands.handle_done(number, done);
        let is_answered = answer.is_some();
        self.answers.extend(answer);
        is_answered
    }

    /// The caller speaks: what waited for them has an answer.
    pub(super) fn handle_caller(&mut self) {
        self.answers.extend(self.errands.handle_caller());
    }

    /// Time has passed; `true` when the model is to go on.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let answer = self.errands.handle_timeout(now);
        let is_answered = answer.is_some();
        self.answers.extend(answer);
        is_answered
    }

    /// The caller has the floor: who answers a goodbye may have more to say, and the model decides anew.
    pub(super) fn handle_interruption(&mut self) {
        self.is_ending = self.has_hung_up;
        self.due = None;
        self.handle_caller();
        if self.transfer.is_wanted() {
            self.answer_transfer(Outcome::new(Blame::Caller, EndReason::Cancelled));
        }
    }

    /// The agent has gone in good order: nobody is there any more whom the caller could interrupt.
    pub(super) fn handle_hang_up(&mut self) {
        self.is_ending = true;
        self.has_hung_up = true;
    }

    /// Whether the agent has gone in good order.
    pub(super) fn has_hung_up(&self) -> bool {
        self.has_hung_up
    }

    /// Nobody has taken the caller: the model is told.
    pub(super) fn handle_not_transferred(&mut self, outcome: Outcome) {
        self.answer_transfer(outcome);
    }

    /// What the model is to be told.
    pub(super) fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// What is to be done now. What ends the agent's part of the call waits until all that it has said `is_heard`, and for
    /// a `pause` behind it.
    pub(super) fn poll_output(
        &mut self,
        is_heard: bool,
        pause: Duration,
        now: Instant,
    ) -> Option<AgentOutput<'static>> {
        if let Some(key) = self.presses.pop_front() {
            return Some(AgentOutput::Press(key));
        }
        if let Some(output) = self.errands.poll_output(now) {
            return Some(output);
        }
        let is_wanted = self.is_ending || self.transfer.is_wanted();
        if !is_wanted || !is_heard {
            self.due = None;
            return None;
        }
        if *self.due.get_or_insert(now + pause) > now {
            return None;
        }
        self.due = None;
        // A caller who is put through has no goodbye to come.
        let transfer = self.transfer.begin().map(AgentOutput::Transfer);
        transfer.or_else(|| std::mem::take(&mut self.is_ending).then_some(AgentOutput::HangUp))
    }

    /// When to poll again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.errands.poll_timeout()).min()
    }

    fn answer_transfer(&mut self, outcome: Outcome) {
        if let Some(call_id) = self.transfer.end() {
            let name = TRANSFER.to_owned();
            self.answers.push(Answer { call_id, name, output: not_transferred(outcome), is_refusal: true });
        }
    }
}

/// 64 calls: a call is told of twice within a response; what one response calls beyond that gets no answer.
const CALLS_MAX: usize = 64;
