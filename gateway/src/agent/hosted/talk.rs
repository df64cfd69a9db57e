//! Who said what to a hosted agent that does not name the things it says: turns are numbered here.

use std::time::Instant;

use crate::agent::conversation::{Conversation, Place};
use crate::agent::{Progress, Said};

/// Both sides' turns. They are personal: nothing of it has a `Debug`.
#[derive(Default)]
pub(super) struct Talk {
    conversation: Conversation,
    agent: Turn,
    caller: Turn,
    /// The agent's turn that was interrupted last, while words may come for it.
    cut: String,
    /// The caller's words as they come in pieces.
    words: String,
    /// Whether the agent has said something since the caller's turn began.
    is_answered: bool,
}

/// The name of the turn that is going on, or of the next.
#[derive(Default)]
struct Turn {
    name: String,
    number: u64,
    is_open: bool,
}

impl Turn {
    /// It is over; the next has another name.
    fn close(&mut self) -> String {
        self.is_open = false;
        self.number += 1;
        std::mem::replace(&mut self.name, self.number.to_string())
    }

    fn place(&self) -> Place<'_> {
        Place { response_id: &self.name, item_id: &self.name, content_index: 0 }
    }
}

impl Talk {
    /// Two turns that have names.
    pub(super) fn new() -> Self {
        let mut talk = Talk::default();
        talk.agent.close();
        talk.caller.close();
        talk
    }

    /// So many ticks of the agent's audio have come; tells whether they are to be played.
    pub(super) fn handle_agent_audio(&mut self, ticks: u64, progress: Progress) -> bool {
        self.is_answered |= self.caller.is_open;
        self.agent.is_open = true;
        let is_wanted = self.conversation.handle_audio(self.agent.place(), ticks, progress);
        self.forget_truncations();
        is_wanted
    }

    /// More of the agent's words, as they follow the last.
    pub(super) fn handle_agent_words(&mut self, text: &str) {
        if !text.is_empty() {
            self.conversation.handle_transcript(self.agent.place(), text);
        }
    }

    /// One more sentence of the agent's.
    pub(super) fn handle_agent_sentence(&mut self, text: &str) {
        self.handle_agent_words(" ");
        self.handle_agent_words(text);
    }

    /// Words of the turn that was interrupted last.
    pub(super) fn handle_late_sentence(&mut self, text: &str) {
        let place = Place { response_id: &self.cut, item_id: &self.cut, content_index: 0 };
        self.conversation.handle_transcript(place, " ");
        self.conversation.handle_transcript(place, text);
    }

    /// What was heard of the turn that was interrupted last, by the service's own account.
    pub(super) fn handle_corrected(&mut self, text: &str) {
        self.conversation.handle_corrected(&self.cut, text);
    }

    /// The agent's turn has come whole: audio and words.
    pub(super) fn handle_agent_done(&mut self) {
        let name = self.agent.close();
        self.conversation.handle_response_done(&name);
    }

    /// The agent's turn was interrupted; words may yet come for it.
    pub(super) fn handle_agent_cut(&mut self) {
        self.handle_cut_done();
        self.cut = self.agent.close();
    }

    /// No more words come for the turn that was interrupted last.
    pub(super) fn handle_cut_done(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        if !cut.is_empty() {
            self.conversation.handle_response_done(&cut);
        }
    }

    /// Whether the agent's turn has begun to come and has not come whole.
    pub(super) fn is_agent_open(&self) -> bool {
        self.agent.is_open
    }

    /// The caller speaks: what has not been heard of the agent stays unheard.
    pub(super) fn handle_interruption(&mut self, progress: Progress, now: Instant) {
        self.close_answered(now);
        self.conversation.handle_speech_started(&self.caller.name, now, progress, now);
        self.caller.is_open = true;
        self.forget_truncations();
    }

    /// A piece of what the caller says.
    pub(super) fn handle_caller_words(&mut self, text: &str, now: Instant) {
        if !self.caller.is_open {
            self.caller.is_open = true;
            self.conversation.handle_caller_began(&self.caller.name, now);
        }
        if self.words.len() + text.len() <= WORDS_BYTES_MAX {
            self.words.push_str(text);
        }
    }

    /// The caller's words have come whole.
    pub(super) fn handle_caller_done(&mut self, now: Instant) {
        if self.caller.is_open {
            let name = self.caller.close();
            self.conversation.handle_caller_transcribed(&name, &self.words, now);
            self.words.clear();
        }
        self.is_answered = false;
    }

    /// The words of a turn of the caller's that the agent has answered have come whole.
    pub(super) fn close_answered(&mut self, now: Instant) {
        if self.is_answered {
            self.handle_caller_done(now);
        }
    }

    /// All that the caller has said in this turn.
    pub(super) fn handle_caller_said(&mut self, text: &str, now: Instant) {
        self.handle_caller_words(text, now);
        self.handle_caller_done(now);
    }

    /// Accounts for what has been played since.
    pub(super) fn handle_progress(&mut self, progress: Progress, now: Instant) {
        self.conversation.handle_progress(progress, now);
    }

    /// The next turn that is complete.
    pub(super) fn poll_said(&mut self, now: Instant) -> Option<Said> {
        self.conversation.poll_said(now)
    }

    /// What is left when nothing more will be heard.
    pub(super) fn poll_last_words(&mut self, now: Instant) -> Option<Said> {
        self.handle_caller_done(now);
        self.conversation.poll_last_words()
    }

    /// When [`Talk::poll_said`] gives up on a turn.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.conversation.poll_timeout()
    }

    /// Tells whether more is going on than can be meant.
    pub(super) fn is_flooded(&self) -> bool {
        self.conversation.is_flooded()
    }

    /// These services are not told how much was heard.
    fn forget_truncations(&mut self) {
        while self.conversation.take_truncation().is_some() {}
    }
}

/// 64 KiB: an hour of speech.
const WORDS_BYTES_MAX: usize = 64 << 10;
