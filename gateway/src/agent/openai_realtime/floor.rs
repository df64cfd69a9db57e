//! Whose turn it is to speak in a Realtime session: one response at a time, and none while the caller speaks.

use talkstack_control::port::Outcome;

use super::event::{FunctionCall, Response};
use crate::agent::AgentLoss;
use crate::agent::conversation::Conversation;
use crate::agent::duties::{Dealt, Duties};
use crate::agent::errands::Done;
use crate::agent::tools::Tools;

/// Whose turn it is to speak.
#[derive(Debug, Default)]
pub(super) struct Floor {
    pub(super) duties: Duties,
    pub(super) response: ResponseState,
    pub(super) wanted: Wanted,
    pub(super) is_caller_speaking: bool,
    pub(super) has_caller_spoken: bool,
    /// The response that is going on has said something.
    pub(super) has_spoken: bool,
    /// A response that is to be stopped.
    pub(super) cancelled: Option<String>,
    failures: u8,
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
    /// For an agent that has these tools.
    pub(super) fn new(tools: Tools) -> Self {
        Floor { duties: Duties::new(tools), ..Floor::default() }
    }

    /// The caller has the floor: what the agent was about to say, the server's detector will ask for anew.
    pub(super) fn handle_speech_started(&mut self, conversation: &mut Conversation) {
        self.is_caller_speaking = true;
        self.has_caller_spoken = true;
        self.duties.handle_interruption();
        self.wanted = Wanted::Nothing;
        if let ResponseState::Active(id) = &self.response {
            conversation.discard(id);
        }
    }

    /// The box has heard the caller interrupt: the response that is going on is of no use any more. What the caller wants
    /// the server's detector hears, and asks for the response to it.
    pub(super) fn handle_interrupted(&mut self, conversation: &mut Conversation) {
        self.duties.handle_interruption();
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

    pub(super) fn handle_response_done(&mut self, response: &Response) -> Result<(), AgentLoss> {
        for call in response.function_calls() {
            self.handle_function_call(call);
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
    pub(super) fn handle_function_call(&mut self, call: FunctionCall<'_>) {
        match self.duties.handle_call(call.id, call.name, call.arguments) {
            Dealt::Answered => self.want_response(),
            // Who has said goodbye already does not do it twice.
            Dealt::Ending if !self.has_spoken => self.want_response(),
            Dealt::Ending | Dealt::Known | Dealt::Deferred => {}
        }
    }

    /// What has become of an errand: the model is told.
    pub(super) fn handle_done(&mut self, number: u32, done: Done) {
        if self.duties.handle_done(number, done) {
            self.want_response();
        }
    }

    /// Nobody has taken the caller: the model is told.
    pub(super) fn handle_not_transferred(&mut self, outcome: Outcome) {
        self.duties.handle_not_transferred(outcome);
        self.want_response();
    }

    /// Nothing more will be said before the caller speaks, or what the model has asked for is done.
    pub(super) fn is_silent(&self) -> bool {
        self.response == ResponseState::None && self.wanted == Wanted::Nothing
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
