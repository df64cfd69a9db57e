//! An agent made of three services: one that listens, one that thinks, one that speaks. The box takes the turns.
//!
//! ```text
//!   caller's audio ─▶ [what was just heard] ─▶ utterance ───────────────▶ transcription
//!   caller's voice ─▶ Turn: begun, paused ─▶ words so far ◀───────────────┘
//!                       │ likely over: the model is asked in advance ───▶ chat completion
//!                       │ over: the answer may be heard                        │
//!   playout queue ◀── sound ◀── speech of one sentence at a time ◀── Sentences ◀┘
//! ```
//!
//! The services are spoken to by a task ([`crate::io::cascade`]); its end of a local socket is this agent's connection.
//! Whatever was asked for has a number, and what comes of something that was cancelled is known by it and thrown away:
//! nothing of an answer is heard once the caller has the floor.
//!
//! | The caller | comes to |
//! |---|---|
//! | pauses | their words are written down, and if they sound complete, the model is asked; nobody hears it yet |
//! | goes on | both are cancelled; the next pause is of the whole utterance |
//! | is silent long enough | the turn is over, and what was thought in advance is spoken |
//! | speaks before anything was heard of the answer | it is cancelled; their words go on where they were |
//! | interrupts | the answer ends where it was heard, for the model as well |
//! | says something beside, and the box lets the agent go on | it is not answered |
//! | makes a sound that is no word | what was cut is said again, from the sentence's beginning |

mod answer;
pub mod chat;
mod ear;
mod functions;
mod history;
mod link;
pub mod message;
mod preroll;
mod sentences;
pub mod spoken;
mod turn;
mod wishes;
pub mod wyoming;

use std::fmt;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, EndReason, FirstSpeaker, Outcome, Speaker};
use talkstack_media::audio::frame::{Form, Frame, SampleRate};

use super::errands::Done;
use super::hosted::GREET_NOW;
use super::keys::Keys;
use super::provider::{Greets, Opening, ServicePlan};
use super::service::{CallFacts, Service};
use super::sound::Sound;
use super::{AgentLoss, AgentOutput, Progress, Said, Voice};
use answer::Answer;
use ear::Ear;
pub use ear::UTTERANCE_BYTES_MAX;
use history::History;
use link::Link;
use message::{News, Order};
use turn::Change;
use wishes::Wishes;

/// One session of one call.
pub struct Cascade {
    link: Link,
    opening: Opening,
    model: String,
    /// What speech is wanted in, where it has to be resampled.
    line: SampleRate,
    sound: Sound,
    ear: Ear,
    answer: Option<Answer>,
    history: History,
    /// What was cut off of the last answer, until it is known whether the caller has said anything.
    unheard: String,
    /// The model is to be asked once the caller has no turn and the agent has said what it has to say.
    wants_answer: bool,
    keys: Keys,
    wishes: Wishes,
    /// How far the queue was when it was last looked at.
    progress: Progress,
    now: Option<Instant>,
}

impl fmt::Debug for Cascade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cascade({} requests)", self.link.number)
    }
}

impl Cascade {
    /// Starts behind the connections to the services.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        let mut cascade = Cascade {
            link: Link::default(),
            opening: plan.opening.clone(),
            model: plan.model.clone(),
            line: facts.codec.form().rate(),
            sound: Sound::new(Form::Linear(SampleRate::Hz16000)),
            ear: Ear::default(),
            answer: None,
            history: History::default(),
            unheard: String::new(),
            wants_answer: false,
            keys: Keys::default(),
            wishes: Wishes::default(),
            progress: Progress::default(),
            now: None,
        };
        if cascade.opening.greets == Greets::WhenReady {
            cascade.greet_once();
        }
        cascade
    }

    fn greet_once(&mut self) {
        if self.opening.first_speaker == FirstSpeaker::Agent {
            self.opening.first_speaker = FirstSpeaker::Caller;
            // Some models' templates know no conversation that the assistant opens.
            self.history.push_caller(GREET_NOW);
            match &self.opening.greeting {
                Some(greeting) => self.answer = Some(Answer::of_text(greeting)),
                None => self.wants_answer = true,
            }
        }
    }

    /// Deals with the next news; tells whether there is sound to be played.
    fn next_news(&mut self, progress: Progress) -> Result<Option<bool>, AgentLoss> {
        let Some((number, news)) = self.link.inbound.next_news().map_err(|_| AgentLoss::Disconnected)? else {
            return Ok(None);
        };
        let is_heard = self.ear.transcribing == Some(number);
        let thought_of = self.answer.as_mut().filter(|answer| answer.thinking == Some(number));
        match (news, thought_of) {
            (News::Transcript(words), _) if is_heard => {
                self.ear.transcribing = None;
                functions::end_wait(words, &mut self.wishes, &mut self.history);
                self.ear.turn.handle_words(words);
                self.think_in_advance();
                return Ok(Some(false));
            }
            (News::Words(words), Some(answer)) => answer.handle_words(words),
            (News::Call(call), Some(answer)) => {
                answer.handle_call(serde_json::from_slice(call).map_err(|_| AgentLoss::NotJson)?);
            }
            (News::Thought, Some(answer)) => answer.handle_thought(),
            (News::Failed(failure), Some(_)) => return Err(failure.into()),
            (News::Failed(failure), None) if is_heard => return Err(failure.into()),
            (news, _) => {
                let Some(answer) = self.answer.as_mut().filter(|answer| answer.speaking == Some(number)) else {
                    return Ok(Some(false));
                };
                match news {
                    News::Rate(rate) => self.sound.set_said(Form::Linear(rate)),
                    News::Sound(samples) => {
                        self.sound.handle_bytes(samples);
                        let ticks = self.sound.ticks();
                        if ticks > 0 {
                            answer.handle_sound(ticks, progress);
                            return Ok(Some(true));
                        }
                    }
                    News::Spoken => {
                        answer.handle_spoken();
                        self.sound.forget_begun();
                    }
                    News::Failed(failure) => return Err(failure.into()),
                    _ => {}
                }
            }
        }
        Ok(Some(false))
    }

    /// Asks the model before the turn is surely over, if it sounds so and nobody is heard.
    fn think_in_advance(&mut self) {
        if self.answer.is_none() && self.ear.turn.is_likely_over() {
            let said = self.ear.turn.words().to_owned();
            self.think(Some(&said));
        }
    }

    /// Asks the model for an answer.
    fn think(&mut self, said: Option<&str>) {
        let behind = self.answer.as_ref().map(Answer::messages).unwrap_or_default();
        let Opening { instructions, tools, .. } = &self.opening;
        let request = self.history.request(&self.model, instructions, tools, said, &behind).to_string();
        let number = self.link.request(Order::Think(request.as_bytes()));
        match &mut self.answer {
            Some(answer) => answer.think_again(number),
            None => self.answer = Some(Answer::thinking(number)),
        }
    }

    /// The caller's turn is over.
    fn end_turn(&mut self, words: String, began: Instant, progress: Progress, now: Instant) {
        let is_talking = self.answer.as_ref().is_some_and(|answer| answer.is_released);
        if words.is_empty() {
            self.take_up_again();
        } else if !is_talking || progress.is_drained() {
            if is_talking {
                self.cut(progress, now);
            }
            self.unheard.clear();
            self.opening.first_speaker = FirstSpeaker::Caller;
            self.history.push_caller(&words);
            self.wishes.said.push_back(Said { speaker: Speaker::Caller, text: words, began });
            match &mut self.answer {
                Some(in_advance) => in_advance.is_released = true,
                None => self.wants_answer = true,
            }
        }
        // What else was said while the agent went on was said beside.
    }

    /// There was no word in what was heard: as if it had not been.
    fn take_up_again(&mut self) {
        if self.answer.is_some() {
            return;
        }
        let unheard = std::mem::take(&mut self.unheard);
        if !unheard.is_empty() {
            self.answer = Some(Answer::of_text(&unheard));
        } else if self.history.is_unanswered() {
            self.wants_answer = true;
        }
    }

    /// Ends the answer that is in the works, where it was heard.
    fn cut(&mut self, progress: Progress, now: Instant) {
        let Some(answer) = self.answer.take() else { return };
        self.link.cancel(answer.thinking);
        self.link.cancel(answer.speaking);
        self.sound.forget_begun();
        if answer.is_released {
            self.unheard = self.settle(answer, progress, now);
            // Who interrupts may have more to say: the model decides anew.
            if self.wishes.transfer.is_wanted() {
                self.answer_transfer(Outcome::new(Blame::Caller, EndReason::Cancelled));
            }
        }
    }

    /// Remembers what was heard of an answer; returns what was not.
    fn settle(&mut self, answer: Answer, progress: Progress, now: Instant) -> String {
        let is_half_thought = answer.thinking.is_some();
        let outcome = answer.finish(progress, now);
        self.history.extend(outcome.messages);
        match outcome.heard {
            // The model does it anew.
            None if is_half_thought => return String::new(),
            None => {}
            Some((text, began)) => self.wishes.said.push_back(Said { speaker: Speaker::Agent, text, began }),
        }
        outcome.unheard
    }

    /// Does what has become due.
    fn go_on(&mut self, progress: Progress, now: Instant) {
        if let Some((words, began)) = self.ear.turn.take_over(now) {
            self.end_turn(words, began, progress, now);
        }
        if self.wants_answer && self.answer.is_none() && !self.ear.turn.is_open() {
            self.wants_answer = false;
            self.think(None);
            if let Some(answer) = &mut self.answer {
                answer.is_released = true;
            }
        }
        if let Some(answer) = &mut self.answer
            && progress.pushed.saturating_sub(progress.played) < AHEAD_TICKS
            && let Some(text) = answer.next_piece()
        {
            let number = self.link.request(Order::Speak(self.line, &text));
            answer.handle_speaking(number, text);
        }
        self.answer_calls();
        if let Some(answer) = self.answer.take_if(|answer| answer.is_over(progress)) {
            // The goodbye has been heard, with a breath behind it.
            self.wishes.hangs_up_at = answer.is_ending.then_some(now + BREATH);
            self.settle(answer, progress, now);
        }
    }

    fn lose(&mut self, loss: AgentLoss) {
        if !self.link.is_over {
            self.link.is_over = true;
            self.wishes.loss = Some(loss);
        }
    }
}

impl Service for Cascade {
    fn handle_audio(&mut self, frame: &Frame<'_>) {
        if self.link.is_over {
            return;
        }
        if self.link.outbound.len() > OUTBOUND_BYTES_MAX {
            return self.lose(AgentLoss::Stalled);
        }
        let samples = self.sound.of_line(frame);
        self.ear.handle_audio(samples, &mut self.link);
    }

    fn wants_voice(&self) -> bool {
        true
    }

    fn handle_voice(&mut self, voice: Voice, now: Instant) {
        if self.link.is_over {
            return;
        }
        let change = self.ear.turn.handle_voice(voice, now);
        match change {
            Change::Begun => self.ear.begin(&mut self.link),
            Change::Resumed => self.ear.forget_transcription(&mut self.link),
            Change::Paused => return self.ear.transcribe(&mut self.link),
            Change::Nothing => return,
        }
        self.wishes.hangs_up_at = None;
        // What is being heard only an interruption ends.
        if self.answer.as_ref().is_some_and(|answer| !answer.is_released) || self.progress.is_drained() {
            self.cut(self.progress, now);
        }
    }

    fn handle_interrupted(&mut self, progress: Progress, now: Instant) {
        self.cut(progress, now);
    }

    fn handle_not_transferred(&mut self, outcome: Outcome) {
        self.answer_transfer(outcome);
        self.wants_answer = true;
    }

    fn handle_done(&mut self, number: u32, done: Done) {
        if let Some(over) = self.wishes.errands.handle_done(number, done) {
            self.handle_errand_over(over);
        }
    }

    fn handle_digit(&mut self, digit: char) {
        self.keys.handle_digit(digit);
    }

    fn greet(&mut self) {
        self.opening.greets = Greets::WhenReady;
        self.greet_once();
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        if !self.link.is_over {
            self.link.inbound.handle_bytes(bytes);
        }
    }

    fn handle_disconnect(&mut self) {
        self.lose(AgentLoss::Disconnected);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(text) = self.keys.take_due(now) {
            self.history.push_caller(&text);
            self.wants_answer = true;
        }
        if let Some(over) = self.wishes.errands.handle_timeout(now) {
            self.handle_errand_over(over);
        }
    }

    fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        self.now = Some(now);
        self.progress = progress;
        self.keys.handle_now(now);
        if let Some(answer) = &mut self.answer {
            answer.handle_progress(progress, now);
        }
        while !self.link.is_over {
            match self.next_news(progress) {
                Ok(Some(true)) => return Some(AgentOutput::Play(self.sound.of_agent())),
                Ok(Some(false)) => {}
                Ok(None) => {
                    self.go_on(progress, now);
                    break;
                }
                Err(loss) => self.lose(loss),
            }
        }
        if let Some(said) = self.wishes.said.pop_front() {
            return Some(AgentOutput::Said(said));
        }
        if let Some(loss) = self.wishes.loss.take() {
            return Some(AgentOutput::Lost(loss));
        }
        if let Some(key) = self.wishes.presses.pop_front() {
            return Some(AgentOutput::Press(key));
        }
        if let Some(output) = self.wishes.errands.poll_output(now) {
            return Some(output);
        }
        if self.answer.is_none()
            && let Some(destination) = self.wishes.transfer.begin()
        {
            return Some(AgentOutput::Transfer(destination));
        }
        self.wishes.hangs_up_at.take_if(|at| *at <= now).map(|_| AgentOutput::HangUp)
    }

    fn poll_last_words(&mut self, progress: Progress) -> Option<Said> {
        let now = self.now?;
        if let Some(answer) = self.answer.take().filter(|answer| answer.is_released) {
            self.settle(answer, progress, now);
        }
        if let Some((text, began)) = self.ear.turn.take_unfinished().filter(|(words, _)| !words.is_empty()) {
            self.wishes.said.push_back(Said { speaker: Speaker::Caller, text, began });
        }
        self.wishes.said.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.link.is_over {
            return None;
        }
        let errands = self.wishes.errands.poll_timeout();
        [self.keys.due(), self.ear.turn.poll_timeout(), self.wishes.hangs_up_at, errands].into_iter().flatten().min()
    }

    fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.link.outbound
    }

    fn stop(&mut self, _code: u16) {
        // The task ends with its connection, and with it whatever was asked for.
        self.link.outbound.clear();
        self.link.is_over = true;
        self.keys = Keys::default();
    }
}

/// 1 MiB, 30 s of audio: a task that does not read for so long does not run.
const OUTBOUND_BYTES_MAX: usize = 1 << 20;

/// 5 s of speech ahead of what is heard: a service has so long for the next sentence, and an interruption throws away
/// no more than that and one sentence.
const AHEAD_TICKS: u64 = 5 * 8000;

/// 300 ms behind the last word: what the far end's jitter buffer still has, and nobody is cut off.
const BREATH: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests;
