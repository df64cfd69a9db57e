//! One answer of the agent: thought of, cut into sentences, spoken, heard.

use std::time::Instant;

use super::chat::FunctionCall;
use super::history::{Answered, Message};
use super::sentences::Sentences;
use crate::agent::Progress;
use crate::agent::conversation::heard_part;

/// An answer in the works. It is personal: nothing of it has a `Debug`.
pub(super) struct Answer {
    /// The request to the model, while it answers.
    pub(super) thinking: Option<u32>,
    /// The request for speech, while it is made.
    pub(super) speaking: Option<u32>,
    /// The caller's turn is over: it may be heard.
    pub(super) is_released: bool,
    /// The call ends behind it.
    pub(super) is_ending: bool,
    /// When it was first heard.
    began: Option<Instant>,
    /// What the model has written: before its first calls of functions, between those and the next, and so on.
    rounds: Vec<String>,
    /// The calls behind each round but the last.
    called: Vec<Vec<Answered>>,
    /// Calls of the last round.
    calls: Vec<FunctionCall>,
    sentences: Sentences,
    spoken: Vec<Spoken>,
}

/// A piece that was given to be spoken, and where it lies in the playout queue, in ticks.
struct Spoken {
    text: String,
    round: usize,
    start: u64,
    end: u64,
}

/// What is left of an answer that is over.
pub(super) struct Outcome {
    /// What the model is to remember.
    pub(super) messages: Vec<Message>,
    /// What was heard, and since when.
    pub(super) heard: Option<(String, Instant)>,
    /// What was not heard of what there is.
    pub(super) unheard: String,
}

impl Answer {
    /// One that the model has been asked for.
    pub(super) fn thinking(number: u32) -> Self {
        let mut answer = Answer::empty();
        answer.thinking = Some(number);
        answer
    }

    /// One whose words are known.
    pub(super) fn of_text(text: &str) -> Self {
        let mut answer = Answer { is_released: true, ..Answer::empty() };
        answer.handle_words(text);
        answer.sentences.finish();
        answer
    }

    fn empty() -> Self {
        Answer {
            thinking: None,
            speaking: None,
            is_released: false,
            is_ending: false,
            began: None,
            rounds: vec![String::new()],
            called: Vec::new(),
            calls: Vec::new(),
            sentences: Sentences::default(),
            spoken: Vec::new(),
        }
    }

    /// More of the model's words.
    pub(super) fn handle_words(&mut self, words: &str) {
        if let Some(round) = self.rounds.last_mut() {
            round.push_str(words);
        }
        self.sentences.push(words);
    }

    /// The model calls a function.
    pub(super) fn handle_call(&mut self, call: FunctionCall) {
        self.calls.push(call);
    }

    /// The model has finished.
    pub(super) fn handle_thought(&mut self) {
        self.thinking = None;
        self.sentences.finish();
    }

    /// The functions that the model has called, once it has finished and may be heard.
    pub(super) fn take_calls(&mut self) -> Vec<FunctionCall> {
        if self.is_released && self.thinking.is_none() { std::mem::take(&mut self.calls) } else { Vec::new() }
    }

    /// They have been answered: another round of words may follow.
    pub(super) fn handle_answered(&mut self, called: Vec<Answered>) {
        self.called.push(called);
        self.rounds.push(String::new());
    }

    /// What has become of a call that was answered before it was known; `false` where the call is none of this answer's.
    pub(super) fn correct(&mut self, call_id: &str, output: &str) -> bool {
        let found = self.called.iter_mut().flatten().find(|answered| answered.call.id == call_id);
        found.map(|answered| output.clone_into(&mut answered.answer)).is_some()
    }

    /// The model is asked once more, with the answers to its calls.
    pub(super) fn think_again(&mut self, number: u32) {
        self.thinking = Some(number);
        self.sentences.reopen();
    }

    /// How often the model has called functions.
    pub(super) fn round(&self) -> usize {
        self.called.len()
    }

    /// Whether the model has said anything at all.
    pub(super) fn has_words(&self) -> bool {
        self.rounds.iter().any(|round| !round.trim().is_empty())
    }

    /// The next piece to be spoken, while nothing else is.
    pub(super) fn next_piece(&mut self) -> Option<String> {
        if self.is_released && self.speaking.is_none() { self.sentences.take() } else { None }
    }

    /// A piece is being spoken.
    pub(super) fn handle_speaking(&mut self, number: u32, text: String) {
        self.speaking = Some(number);
        self.spoken.push(Spoken { text, round: self.called.len(), start: 0, end: 0 });
    }

    /// So many ticks of it are queued next.
    pub(super) fn handle_sound(&mut self, ticks: u64, progress: Progress) {
        if let Some(piece) = self.spoken.last_mut() {
            if piece.end == 0 {
                piece.start = progress.pushed;
            }
            piece.end = progress.pushed + ticks;
        }
    }

    /// The piece has been spoken.
    pub(super) fn handle_spoken(&mut self) {
        self.speaking = None;
        // One without a sound was never heard.
        self.spoken.retain(|piece| piece.end > piece.start);
    }

    /// The queue may have been played further.
    pub(super) fn handle_progress(&mut self, progress: Progress, now: Instant) {
        if self.began.is_none()
            && self.spoken.first().is_some_and(|first| progress.played > first.start && first.end > 0)
        {
            self.began = Some(now);
        }
    }

    /// Whether all of it has been heard.
    pub(super) fn is_over(&self, progress: Progress) -> bool {
        let is_made = self.thinking.is_none() && self.calls.is_empty() && self.sentences.is_over();
        self.is_released && is_made && self.speaking.is_none() && progress.is_drained()
    }

    /// What the model is to be told of it before it is over.
    pub(super) fn messages(&self) -> Vec<Message> {
        compose(self.rounds.clone(), self.called.clone())
    }

    /// It is over; of what was queued no more was heard than has been played.
    pub(super) fn finish(mut self, progress: Progress, now: Instant) -> Outcome {
        self.handle_progress(progress, now);
        let (mut rounds, mut unheard) = (vec![String::new(); self.rounds.len()], String::new());
        let last = self.spoken.len().saturating_sub(1);
        for (at, piece) in self.spoken.iter().enumerate() {
            let (played, mut whole) = (progress.played.saturating_sub(piece.start), piece.end - piece.start);
            if at == last && self.speaking.is_some() {
                whole = whole.max(piece.text.chars().count() as u64 * CHAR_TICKS);
            }
            let heard = if whole == 0 { "" } else { heard_part(&piece.text, played, whole) };
            join(&mut rounds[piece.round], heard);
            // Half a sentence is said again from its beginning.
            if heard.len() < piece.text.len() {
                join(&mut unheard, &piece.text);
            }
        }
        self.sentences.finish();
        while let Some(piece) = self.sentences.take() {
            join(&mut unheard, &piece);
        }
        let mut heard = String::new();
        rounds.iter().for_each(|round| join(&mut heard, round));
        let heard = self.began.filter(|_| !heard.is_empty()).map(|began| (heard, began));
        Outcome { messages: compose(rounds, self.called), heard, unheard }
    }
}

fn compose(rounds: Vec<String>, called: Vec<Vec<Answered>>) -> Vec<Message> {
    let mut called = called.into_iter();
    let message = |text: String| match called.next() {
        Some(calls) => Some(Message::Called(text, calls)),
        None => Some(text).filter(|text| !text.trim().is_empty()).map(Message::Agent),
    };
    rounds.into_iter().filter_map(message).collect()
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

/// 60 ms a character, as speech goes: how long a piece will be that is still being made.
const CHAR_TICKS: u64 = 480;
