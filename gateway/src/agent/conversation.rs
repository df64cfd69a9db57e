//! Who said what in a session with a service, and how much of it was heard.
//!
//! ```text
//!   delta ─▶ Stretch in the playout queue ─▶ played bytes of its Item ─▶ Turn ─▶ Said
//!   speech_started ─▶ every item that was not heard to its end: truncate at the milliseconds played, ignore the rest
//! ```
//!
//! Nothing here reads or writes a message. What was said is personal: nothing of it has a `Debug`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use talkstack_control::port::Speaker;

use super::{Progress, Said};

/// What audio or words of the agent belong to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) response_id: &'a str,
    pub(super) item_id: &'a str,
    pub(super) content_index: u32,
}

/// The state of one conversation.
#[derive(Default)]
pub(super) struct Conversation {
    /// What the agent says, in the order it came; until it is reported.
    items: VecDeque<Item>,
    /// The playout queue as the agent filled it.
    stretches: VecDeque<Stretch>,
    /// Up to here the queue has been accounted for.
    played: u64,
    /// Turns in the order they began, until they are reported.
    turns: VecDeque<Turn>,
    /// When a turn that keeps others waiting is given up.
    gives_up_at: Option<Instant>,
    /// Items and responses that nobody wants to hear any more.
    discarded: VecDeque<String>,
    truncations: VecDeque<Truncation>,
}

/// One thing the agent says.
struct Item {
    id: String,
    response_id: String,
    content_index: u32,
    transcript: String,
    /// Audio of it that was queued, and that left for the wire, in ticks of 125 µs.
    queued: u64,
    played: u64,
    /// Audio of it that came after the caller had interrupted.
    ignored: u64,
    has_audio: Whole,
    has_transcript: Whole,
    is_cut: bool,
}

/// Whether something has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    NotYet,
}

/// A part of the playout queue that belongs to one item.
struct Stretch {
    item_id: String,
    start: u64,
    end: u64,
}

struct Turn {
    began: Instant,
    item_id: String,
    words: Words,
}

enum Words {
    /// The caller's; the transcript comes on its own.
    Caller(Option<String>),
    /// The agent's; the item has them.
    Agent,
}

/// Tell the server how much of an item was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Truncation {
    pub(super) item_id: String,
    pub(super) content_index: u32,
    pub(super) audio_end_ms: u64,
}

impl Conversation {
    /// Accounts for what has been played since.
    pub(super) fn handle_progress(&mut self, progress: Progress, now: Instant) {
        while let Some(stretch) = self.stretches.front() {
            let to = progress.played.min(stretch.end);
            let played = to.saturating_sub(self.played.max(stretch.start));
            let is_over = to >= stretch.end;
            if played > 0
                && let Some(item) = self.items.iter_mut().find(|item| item.id == stretch.item_id)
            {
                if item.played == 0 {
                    self.turns.push_back(Turn { began: now, item_id: item.id.clone(), words: Words::Agent });
                }
                item.played += played;
            }
            self.played = self.played.max(to);
            // The last one stays: an agent that speaks at the pace of speech goes on with it, at no cost a frame.
            if !is_over || self.stretches.len() == 1 {
                break;
            }
            self.stretches.pop_front();
        }
    }

    /// So many ticks of audio have come; tells whether they are to be played.
    pub(super) fn handle_audio(&mut self, place: Place<'_>, ticks: u64, progress: Progress) -> bool {
        if self.is_discarded(place.item_id) || self.is_discarded(place.response_id) {
            self.handle_unwanted(place, ticks);
            return false;
        }
        self.item(place).queued += ticks;
        let (start, end) = (progress.pushed, progress.pushed + ticks);
        match self.stretches.back_mut() {
            Some(last) if last.item_id == place.item_id && last.end == start => last.end = end,
            _ => self.stretches.push_back(Stretch { item_id: place.item_id.to_owned(), start, end }),
        }
        true
    }

    /// Audio of something interrupted: the server counts it as said until it is told otherwise.
    fn handle_unwanted(&mut self, place: Place<'_>, ticks: u64) {
        if let Some(item) = self.items.iter_mut().find(|item| item.id == place.item_id) {
            item.ignored += ticks;
        }
        if !self.is_discarded(place.item_id) {
            self.discard(place.item_id);
            self.truncate(place.item_id.to_owned(), place.content_index, 0);
        }
    }

    /// The audio of an item is complete.
    pub(super) fn handle_audio_done(&mut self, item_id: &str) {
        if let Some(item) = self.items.iter_mut().find(|item| item.id == item_id) {
            item.has_audio = Whole::Yes;
        }
    }

    /// More of an item's words.
    pub(super) fn handle_transcript(&mut self, place: Place<'_>, delta: &str) {
        if self.is_wanted(place) {
            let transcript = &mut self.item(place).transcript;
            if transcript.len() + delta.len() <= TRANSCRIPT_BYTES_MAX {
                transcript.push_str(delta);
            }
        }
    }

    /// All of an item's words.
    pub(super) fn handle_transcript_done(&mut self, place: Place<'_>, text: &str) {
        if self.is_wanted(place) {
            let item = self.item(place);
            item.has_transcript = Whole::Yes;
            if !text.is_empty() && text.len() <= TRANSCRIPT_BYTES_MAX {
                text.clone_into(&mut item.transcript);
            }
        }
    }

    /// A response is over: nothing more comes for its items.
    pub(super) fn handle_response_done(&mut self, response_id: &str) {
        let is_over = |item: &Item| item.response_id == response_id || item.response_id.is_empty();
        for item in self.items.iter_mut().filter(|item| is_over(item)) {
            item.has_audio = Whole::Yes;
            item.has_transcript = Whole::Yes;
        }
        // Words without a sound are no turn.
        self.items.retain(|item| !is_over(item) || item.queued > 0);
    }

    /// The caller begins to speak: whatever the agent has not said by now stays unsaid.
    pub(super) fn handle_speech_started(&mut self, item_id: &str, began: Instant, progress: Progress, now: Instant) {
        self.cut(progress, now);
        self.handle_caller_began(item_id, began);
    }

    /// Whatever the agent has not said by now stays unsaid.
    pub(super) fn cut(&mut self, progress: Progress, now: Instant) {
        self.handle_progress(progress, now);
        self.stretches.clear();
        self.played = progress.pushed;
        let mut unheard = Vec::new();
        for item in &mut self.items {
            let is_heard = item.has_audio == Whole::Yes && item.played >= item.queued;
            if !item.is_cut && !is_heard {
                item.is_cut = true;
                unheard.push((item.id.clone(), item.content_index, item.queued > 0, item.played / TICKS_PER_MS));
            }
        }
        for (id, content_index, has_audio, heard_ms) in unheard {
            self.discard(&id);
            if has_audio {
                self.truncate(id, content_index, heard_ms);
            }
        }
        self.items.retain(|item| !item.is_cut || item.played > 0);
    }

    /// The caller's turn begins, if it has not: the agent may go on.
    pub(super) fn handle_caller_began(&mut self, item_id: &str, began: Instant) {
        if !self.turns.iter().any(|turn| turn.is_caller() && turn.item_id == item_id && !item_id.is_empty()) {
            let words = Words::Caller(None);
            self.turns.push_back(Turn { began, item_id: item_id.to_owned(), words });
        }
    }

    /// The server says itself how much of an interrupted item was heard.
    pub(super) fn handle_corrected(&mut self, item_id: &str, text: &str) {
        if let Some(item) = self.items.iter_mut().find(|item| item.id == item_id && item.is_cut)
            && text.len() <= TRANSCRIPT_BYTES_MAX
        {
            text.clone_into(&mut item.transcript);
            (item.queued, item.ignored, item.has_transcript) = (item.played, 0, Whole::Yes);
        }
    }

    /// Nobody wants to hear this item or response any more.
    pub(super) fn discard(&mut self, id: &str) {
        if !id.is_empty() && !self.is_discarded(id) {
            self.discarded.push_back(id.to_owned());
            if self.discarded.len() > DISCARDED_MAX {
                self.discarded.pop_front();
            }
        }
    }

    /// The caller's turn has its item; servers that name none when speech starts name it here.
    pub(super) fn handle_committed(&mut self, item_id: &str) {
        let nameless = |turn: &&mut Turn| turn.is_caller() && turn.item_id.is_empty();
        if let Some(turn) = self.turns.iter_mut().rev().find(nameless) {
            item_id.clone_into(&mut turn.item_id);
        }
    }

    /// What the caller said, or nothing that could be made out.
    pub(super) fn handle_caller_transcribed(&mut self, item_id: &str, text: &str, now: Instant) {
        let text = text.get(..TRANSCRIPT_BYTES_MAX).unwrap_or(text).trim().to_owned();
        let words = Words::Caller(Some(text));
        match self.turns.iter_mut().find(|turn| turn.is_caller() && turn.item_id == item_id) {
            Some(turn) => turn.words = words,
            None => self.turns.push_back(Turn { began: now, item_id: item_id.to_owned(), words }),
        }
    }

    /// Returns the next turn that is complete. One that never becomes so keeps the others for [`TURN_WAIT`].
    pub(super) fn poll_said(&mut self, now: Instant) -> Option<Said> {
        loop {
            let must_go = self.gives_up_at.is_some_and(|at| at <= now) || self.turns.len() > TURNS_MAX;
            let front = self.turns.front()?;
            if !must_go && !self.is_complete(front) {
                let waits = self.turns.iter().skip(1).any(|turn| self.is_complete(turn));
                if waits && self.gives_up_at.is_none() {
                    self.gives_up_at = Some(now + TURN_WAIT);
                }
                return None;
            }
            self.gives_up_at = None;
            if let Some(said) = self.take_turn() {
                return Some(said);
            }
        }
    }

    /// When [`Conversation::poll_said`] gives up on a turn.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.gives_up_at
    }

    /// Nothing more will be played: returns the turns that are left, as far as they were heard.
    pub(super) fn poll_last_words(&mut self) -> Option<Said> {
        self.stretches.clear();
        self.items.iter_mut().filter(|item| item.played < item.queued).for_each(|item| item.is_cut = true);
        while !self.turns.is_empty() {
            if let Some(said) = self.take_turn() {
                return Some(said);
            }
        }
        None
    }

    pub(super) fn take_truncation(&mut self) -> Option<Truncation> {
        self.truncations.pop_front()
    }

    /// Tells whether more is going on than can be meant.
    pub(super) fn is_flooded(&self) -> bool {
        self.items.len() > ITEMS_MAX || self.stretches.len() > STRETCHES_MAX || self.turns.len() > 2 * TURNS_MAX
    }

    fn truncate(&mut self, item_id: String, content_index: u32, audio_end_ms: u64) {
        self.truncations.push_back(Truncation { item_id, content_index, audio_end_ms });
    }

    fn take_turn(&mut self) -> Option<Said> {
        let turn = self.turns.pop_front()?;
        let (speaker, text) = match turn.words {
            Words::Caller(text) => (Speaker::Caller, text.unwrap_or_default()),
            Words::Agent => {
                let at = self.items.iter().position(|item| item.id == turn.item_id)?;
                (Speaker::Agent, self.items.remove(at)?.heard())
            }
        };
        (!text.is_empty()).then_some(Said { speaker, text, began: turn.began })
    }

    fn is_complete(&self, turn: &Turn) -> bool {
        match &turn.words {
            Words::Caller(text) => text.is_some(),
            Words::Agent => self.items.iter().find(|item| item.id == turn.item_id).is_none_or(Item::is_complete),
        }
    }

    /// Words are wanted of items whose audio is, and of those that were partly heard.
    fn is_wanted(&self, place: Place<'_>) -> bool {
        self.items.iter().any(|item| item.id == place.item_id)
            || !(self.is_discarded(place.item_id) || self.is_discarded(place.response_id))
    }

    fn is_discarded(&self, id: &str) -> bool {
        !id.is_empty() && self.discarded.iter().any(|discarded| discarded == id)
    }

    fn item(&mut self, place: Place<'_>) -> &mut Item {
        let at = self.items.iter().position(|item| item.id == place.item_id).unwrap_or_else(|| {
            self.items.push_back(Item {
                id: place.item_id.to_owned(),
                response_id: place.response_id.to_owned(),
                content_index: place.content_index,
                transcript: String::new(),
                queued: 0,
                played: 0,
                ignored: 0,
                has_audio: Whole::NotYet,
                has_transcript: Whole::NotYet,
                is_cut: false,
            });
            self.items.len() - 1
        });
        &mut self.items[at]
    }
}

impl Turn {
    fn is_caller(&self) -> bool {
        matches!(self.words, Words::Caller(_))
    }
}

impl Item {
    /// Nothing more of it will be heard, and its words are known.
    fn is_complete(&self) -> bool {
        let is_heard = self.has_audio == Whole::Yes && self.played >= self.queued;
        self.has_transcript == Whole::Yes && (self.is_cut || is_heard)
    }

    /// Its words, of an interrupted item in proportion to what was heard: there is no word timing.
    fn heard(self) -> String {
        let whole = self.queued + self.ignored;
        let text = if self.is_cut { heard_part(&self.transcript, self.played, whole) } else { &self.transcript };
        text.trim().to_owned()
    }
}

/// So much of a text as was heard of its sound, in proportion: there is no word timing. A word that was begun counts as
/// unheard.
pub(super) fn heard_part(text: &str, played: u64, whole: u64) -> &str {
    if played >= whole {
        return text;
    }
    let characters = text.chars().count() as u64;
    let heard = (characters * played / whole) as usize;
    let end = text.char_indices().nth(heard).map_or(text.len(), |(at, _)| at);
    let is_within = |at: usize| text[at..].starts_with(|next: char| !next.is_whitespace());
    let end = if is_within(end) { text[..end].rfind(char::is_whitespace).unwrap_or(0) } else { end };
    text[..end].trim_end()
}

/// A tick is 125 µs.
const TICKS_PER_MS: u64 = 8;

/// 10 s: three times the slowest transcription seen.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// 64 KiB: an hour of speech.
const TRANSCRIPT_BYTES_MAX: usize = 64 << 10;

/// 64 turns: five minutes of talk that waits for one transcript; the oldest is given up then.
const TURNS_MAX: usize = 64;

/// 64 ids: what is interrupted is asked after for seconds only.
const DISCARDED_MAX: usize = 64;

/// 256 items at once: one of a second each for four minutes of queued speech.
const ITEMS_MAX: usize = 256;

/// As many stretches as items twice over: parallel items take turns.
const STRETCHES_MAX: usize = 512;
