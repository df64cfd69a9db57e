//! What a cascade wants of its call.

use std::collections::VecDeque;
use std::time::Instant;

use super::answer::Answer;
use super::chat::FunctionCall;
use super::history::Answered;
use crate::agent::errands::Errands;
use crate::agent::tools::{Asked, Tools};
use crate::agent::transfer::Transfer;
use crate::agent::{AgentLoss, Destination, Said};

/// What the call is to be told.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) said: VecDeque<Said>,
    pub(super) presses: VecDeque<char>,
    /// Whom the caller is to be put through to.
    pub(super) transfer: Transfer,
    /// What takes a while.
    pub(super) errands: Errands,
    /// When the call ends, whose goodbye has been heard.
    pub(super) hangs_up_at: Option<Instant>,
    pub(super) loss: Option<AgentLoss>,
}

impl Wishes {
    /// Does what a model's calls of functions ask for; what they are answered, and whether the model is to go on.
    pub(super) fn deal_with(
        &mut self,
        calls: Vec<FunctionCall>,
        answer: &mut Answer,
        tools: &Tools,
    ) -> (Vec<Answered>, bool) {
        let (mut answered, mut goes_on) = (Vec::with_capacity(calls.len()), false);
        for call in calls {
            let mut asked = tools.asked(&call.name, &call.arguments);
            if matches!(asked, Asked::Transfer(_)) && self.transfer.is_wanted() {
                asked = Asked::Refused("Another transfer is going on.");
            }
            let call_id = call.id.clone();
            if let Asked::Later(wanted) = asked {
                asked = match self.errands.begin(&call_id, &call.name, wanted) {
                    Ok(()) => {
                        answered.push(Answered { call, answer: UNDER_WAY.to_owned() });
                        continue;
                    }
                    Err(why) => Asked::Refused(why),
                };
            }
            answered.push(Answered { call, answer: asked.answer().unwrap_or_else(|| PUT_THROUGH.to_owned()) });
            match asked {
                Asked::EndCall => {
                    answer.is_ending = true;
                    // Who has said goodbye already does not do it twice.
                    goes_on |= !answer.has_words();
                }
                Asked::Press(keys) => {
                    self.presses.extend(keys.chars());
                    goes_on = true;
                }
                Asked::Transfer(to) => self.transfer = Transfer::Wanted { call_id, to: Destination(to) },
                Asked::Note(note) => {
                    self.errands.note(note);
                    goes_on = true;
                }
                Asked::Later(_) | Asked::Refused(_) => goes_on = true,
            }
        }
        (answered, goes_on)
    }
}

/// What the model is told of a transfer before it is known what becomes of it: no request may leave a call unanswered.
const PUT_THROUGH: &str = r#"{"result":"The caller is put through when what you have said was heard."}"#;

/// The same of what takes a while.
const UNDER_WAY: &str = r#"{"result":"Under way."}"#;
