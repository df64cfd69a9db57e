//! Whose turn it is to speak in a Realtime session: one response at a time, and none while the caller speaks.

use std::collections::VecDeque;

use talkstack_control::port::{Blame, EndReason, Outcome};

use super::event::{FunctionCall, Response};
use crate::agent::AgentLoss;
use crate::agent::conversation::Conversation;
use crate::agent::tools::{Asked, Tools, not_transferred};

/// Whose turn it is to speak.
#[derive(Debug, Default)]
pub(super) struct Floor {
    pub(super) response: ResponseState,
    pub(super) wanted: Wanted,
    pub(super) is_caller_speaking: bool,
    pub(super) has_caller_spoken: bool,
    /// The functions whose calls have been answered, the newest last.
    answered_calls: Vec<String>,
    pub(super) unanswered_calls: Vec<Answer>,
    /// Keys that the model wants pressed.
    pub(super) presses: VecDeque<char>,
    /// The model wants the call to end once it has been heard.
    pub(super) is_ending: bool,
    /// Whom the model wants the caller put through to.
    transfer: Transfer,
    /// The response that is going on has said something.
    pub(super) has_spoken: bool,
    /// A response that is to be stopped.
    pub(super) cancelled: Option<String>,
    failures: u8,
}

/// A transfer that the model has asked for, by the id of its function's call.
#[derive(Debug, Default, PartialEq, Eq)]
enum Transfer {
    #[default]
    None,
    /// To begin once what has been said was heard.
    Wanted { call_id: String, to: String },
    /// It has begun; the model waits for what becomes of it.
    Begun { call_id: String },
}

/// The answer to a call of a function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) call_id: String,
    pub(super) output: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum ResponseState {
    #[default]
    None,
    /// Asked for, not begun.
    Asked(Wanted),
    /// Going on, by its id.
    Active(String),
}

/// A response to ask for once none is going on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    #[default]
    Nothing,
    Response,
    Greeting,
}

impl Floor {
    /// The caller has the floor: what the agent was about to say, the server's detector will ask for anew.
    pub(super) fn handle_speech_started(&mut self, conversation: &mut Conversation) {
        self.is_caller_speaking = true;
        self.has_caller_spoken = true;
        // Who answers a goodbye may have more to say: the model decides anew.
        self.is_ending = false;
        if matches!(self.transfer, Transfer::Wanted { .. }) {
            self.answer_transfer(Outcome::new(Blame::Caller, EndReason::Cancelled));
        }
        self.wanted = Wanted::Nothing;
        if let ResponseState::Active(id) = &self.response {
            conversation.discard(id);
        }
    }

    /// The box has heard the caller interrupt: the response that is going on is of no use any more. What the caller wants
    /// the server's detector hears, and asks for the response to it.
    pub(super) fn handle_interrupted(&mut self, conversation: &mut Conversation) {
        self.is_ending = false;
        self.wanted = Wanted::Nothing;
        if let ResponseState::Active(id) = &self.response
            && !self.is_caller_speaking
        {
            conversation.discard(id);
            self.cancelled = Some(id.clone()).filter(|id| !id.is_empty());
        }
    }

    pub(super) fn handle_response_created(&mut self, response: &Response, conversation: &mut Conversation) {
        let id = response.id.clone().unwrap_or_default();
        let is_ours = matches!(self.response, ResponseState::Asked(_));
        if !is_ours {
            // The server's detector asks for a response when the caller's turn is over.
            self.is_caller_speaking = false;
        } else if self.is_caller_speaking {
            // Ours has crossed with the caller's first word.
            conversation.discard(&id);
            self.cancelled = Some(id.clone()).filter(|id| !id.is_empty());
        }
        self.response = ResponseState::Active(id);
        self.has_spoken = false;
    }

    pub(super) fn handle_response_done(&mut self, response: &Response, tools: &Tools) -> Result<(), AgentLoss> {
        for call in response.function_calls() {
            self.handle_function_call(call, tools);
        }
        self.response = ResponseState::None;
        if !response.has_failed() {
            self.failures = 0;
            return Ok(());
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX { Err(AgentLoss::Failing) } else { Ok(()) }
    }

    /// Does what a call of a function asks for; it is told of once or twice.
    pub(super) fn handle_function_call(&mut self, call: FunctionCall<'_>, tools: &Tools) {
        let is_full = self.unanswered_calls.len() >= CALLS_MAX;
        if is_full || call.id.is_empty() || self.answered_calls.iter().any(|answered| answered == call.id) {
            return;
        }
        if self.answered_calls.len() >= CALLS_MAX {
            self.answered_calls.remove(0);
        }
        self.answered_calls.push(call.id.to_owned());
        let asked = tools.asked(call.name, call.arguments);
        let answer = |output| Answer { call_id: call.id.to_owned(), output };
        self.unanswered_calls.extend(asked.answer().map(answer));
        match asked {
            Asked::EndCall => {
                self.is_ending = true;
                // Who has said goodbye already does not do it twice.
                if !self.has_spoken {
                    self.want_response();
                }
            }
            Asked::Press(keys) => {
                self.presses.extend(keys.chars());
                self.want_response();
            }
            Asked::Transfer(to) => {
                if self.transfer == Transfer::None {
                    self.transfer = Transfer::Wanted { call_id: call.id.to_owned(), to };
                } else {
                    let output = Asked::Refused("Another transfer is going on.").answer();
                    self.unanswered_calls.extend(output.map(answer));
                }
            }
            Asked::Refused(_) => self.want_response(),
        }
    }

    /// Whom to put the caller through to, when what was said has been heard; once.
    pub(super) fn take_transfer(&mut self) -> Option<String> {
        if self.response != ResponseState::None || self.wanted != Wanted::Nothing {
            return None;
        }
        match std::mem::take(&mut self.transfer) {
            Transfer::Wanted { call_id, to } => {
                self.transfer = Transfer::Begun { call_id };
                Some(to)
            }
            other => {
                self.transfer = other;
                None
            }
        }
    }

    /// Nobody has taken the caller: the model is told.
    pub(super) fn handle_not_transferred(&mut self, outcome: Outcome) {
        self.answer_transfer(outcome);
        self.want_response();
    }

    fn answer_transfer(&mut self, outcome: Outcome) {
        if let Transfer::Wanted { call_id, .. } | Transfer::Begun { call_id } = std::mem::take(&mut self.transfer) {
            self.unanswered_calls.push(Answer { call_id, output: not_transferred(outcome) });
        }
    }

    /// The call is to end, and nothing more will be said.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.is_ending && self.response == ResponseState::None && self.wanted == Wanted::Nothing
    }

    /// While the caller speaks, the server's detector asks for the response behind their turn.
    pub(super) fn want_response(&mut self) {
        if !self.is_caller_speaking {
            self.wanted = Wanted::Response;
        }
    }
}

/// Two responses in a row that fail: the caller has waited through both.
const FAILURES_MAX: u8 = 2;

/// 64 calls: a call is told of twice within a response; what one response calls beyond that gets no answer.
const CALLS_MAX: usize = 64;
