//! When the caller's turn is over, by their voice and by what they have said so far.
//!
//! ```text
//!   Began ─▶ Speaking ── Ended ─▶ Pausing ── the pause is long enough, and the words are there ─▶ over
//!               ▲                    │
//!               └────── Began ───────┘   what was made of the words so far is void
//! ```

use std::time::{Duration, Instant};

use crate::agent::Voice;

/// The caller's turn.
#[derive(Default)]
pub(super) struct Turn {
    state: State,
    /// When it began, while there is one.
    began: Option<Instant>,
}

#[derive(Default)]
enum State {
    #[default]
    Quiet,
    Speaking,
    Pausing {
        since: Instant,
        /// What has been said so far, once it is known.
        words: Option<String>,
    },
}

/// What a change of voice comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A turn has begun.
    Begun,
    /// It goes on behind a pause.
    Resumed,
    /// It pauses, and may be over.
    Paused,
    /// Nothing that was not known.
    Nothing,
}

impl Turn {
    /// The caller has begun to speak, or has paused.
    pub(super) fn handle_voice(&mut self, voice: Voice, now: Instant) -> Change {
        match (voice, &self.state) {
            (Voice::Began, State::Quiet) => {
                (self.state, self.began) = (State::Speaking, Some(now));
                Change::Begun
            }
            (Voice::Began, State::Pausing { .. }) => {
                self.state = State::Speaking;
                Change::Resumed
            }
            (Voice::Ended, State::Speaking) => {
                self.state = State::Pausing { since: now, words: None };
                Change::Paused
            }
            (Voice::Began, State::Speaking) | (Voice::Ended, _) => Change::Nothing,
        }
    }

    /// What has been said up to the pause.
    pub(super) fn handle_words(&mut self, said: &str) {
        if let State::Pausing { words, .. } = &mut self.state {
            *words = Some(said.trim().to_owned());
        }
    }

    /// Whether what was said so far sounds as if it were all: worth an answer in advance.
    pub(super) fn is_likely_over(&self) -> bool {
        !self.words().is_empty() && !is_hesitant(self.words())
    }

    /// Ends the turn if it is over; its words, and when it began.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<(String, Instant)> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return None;
        }
        let State::Pausing { words: Some(words), .. } = std::mem::take(&mut self.state) else { return None };
        Some((words, self.began.take().unwrap_or(now)))
    }

    /// When the turn is over unless the caller goes on, once its words are known.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Pausing { since, words: Some(words) } => Some(*since + patience(words)),
            _ => None,
        }
    }

    /// Whether the caller has a turn.
    pub(super) fn is_open(&self) -> bool {
        self.began.is_some()
    }

    /// What has been said up to the pause, as far as it is known.
    pub(super) fn words(&self) -> &str {
        match &self.state {
            State::Pausing { words: Some(words), .. } => words,
            _ => "",
        }
    }

    /// What has been said of a turn that is not over, as far as it is known, and when it began.
    pub(super) fn take_unfinished(&mut self) -> Option<(String, Instant)> {
        let (state, began) = (std::mem::take(&mut self.state), self.began.take());
        let State::Pausing { words: Some(words), .. } = state else { return None };
        Some((words, began?))
    }
}

/// How long to wait behind the end of the caller's voice.
fn patience(words: &str) -> Duration {
    if is_hesitant(words) {
        HESITANT
    } else if words.ends_with(['.', '!', '?', '。', '！', '？']) {
        SENTENCE
    } else {
        OPEN
    }
}

/// Whether the words sound as if more were to come. The words are those of four languages; in another it takes a comma.
fn is_hesitant(words: &str) -> bool {
    if words.ends_with([',', '-', '–', '—', '…', ':']) || words.ends_with("...") {
        return true;
    }
    let last = words.trim_end_matches('.').rsplit(char::is_whitespace).next().unwrap_or_default().to_lowercase();
    OPEN_WORDS.contains(&&*last)
}

/// 300 ms behind the 200 ms in which the ear makes sure: half a second behind a whole sentence.
const SENTENCE: Duration = Duration::from_millis(300);

/// 500 ms, 700 ms in all: recognisers that write no full stops leave it open whether the sentence is whole.
const OPEN: Duration = Duration::from_millis(500);

/// 1.3 s, 1.5 s in all: whoever looks for a word is given the time; longer, and the line seems dead.
const HESITANT: Duration = Duration::from_millis(1300);

/// Fillers, and words that nobody ends with: English, German, French, Spanish.
const OPEN_WORDS: [&str; 30] = [
    "um", "uh", "uhm", "er", "erm", "hmm", "and", "but", "or", "so", "because", "the", "my", "with", "äh", "ähm",
    "und", "aber", "oder", "weil", "mit", "euh", "et", "mais", "ou", "avec", "eh", "pero", "porque", "con",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_when_its_pause_is_long_enough_for_its_words() {
        for (words, wait) in [
            ("What time is it?", SENTENCE),
            (" I am done. ", SENTENCE),
            ("what time is it", OPEN),
            ("Well, um", HESITANT),
            ("My number is, uh...", HESITANT),
            ("It is for Monday and", HESITANT),
            ("Ich hätte gern, ähm.", HESITANT),
            ("First,", HESITANT),
            ("", OPEN),
        ] {
            let now = Instant::now();
            let mut turn = Turn::default();
            assert_eq!(turn.handle_voice(Voice::Began, now), Change::Begun);
            assert_eq!(turn.handle_voice(Voice::Ended, now + TALK), Change::Paused);
            assert_eq!(turn.poll_timeout(), None, "the words are not known");
            turn.handle_words(words);
            let due = now + TALK + wait;
            assert_eq!(turn.poll_timeout(), Some(due), "{words}");
            assert_eq!(turn.take_over(due - MS), None);
            assert_eq!(turn.take_over(due), Some((words.trim().to_owned(), now)));
            assert!(!turn.is_open() && turn.take_over(due).is_none());
        }
    }

    #[test]
    fn words_that_come_late_end_the_turn_at_once_and_those_of_before_never() {
        let now = Instant::now();
        let mut turn = Turn::default();
        turn.handle_voice(Voice::Began, now);
        turn.handle_voice(Voice::Ended, now);
        assert_eq!(turn.take_over(now + TALK), None);
        assert_eq!(turn.handle_voice(Voice::Began, now + TALK), Change::Resumed);
        turn.handle_words("too late");
        assert!(turn.words().is_empty() && turn.poll_timeout().is_none());
        assert_eq!(turn.handle_voice(Voice::Ended, now + TALK), Change::Paused);
        turn.handle_words("All of it.");
        assert_eq!(turn.take_over(now + 2 * TALK), Some(("All of it.".to_owned(), now)));
    }

    #[test]
    fn only_what_sounds_like_all_is_answered_in_advance() {
        let now = Instant::now();
        let mut turn = Turn::default();
        turn.handle_voice(Voice::Began, now);
        turn.handle_voice(Voice::Ended, now);
        for (words, is_likely) in [("Yes.", true), ("and then I", true), ("and", false), ("", false)] {
            turn.handle_words(words);
            assert_eq!(turn.is_likely_over(), is_likely, "{words}");
        }
    }

    #[test]
    fn a_voice_that_was_known_changes_nothing() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert_eq!(turn.handle_voice(Voice::Ended, now), Change::Nothing);
        turn.handle_voice(Voice::Began, now);
        assert_eq!(turn.handle_voice(Voice::Began, now + TALK), Change::Nothing);
        turn.handle_voice(Voice::Ended, now);
        assert_eq!(turn.handle_voice(Voice::Ended, now + TALK), Change::Nothing);
    }

    const TALK: Duration = Duration::from_secs(2);
    const MS: Duration = Duration::from_millis(1);
}
