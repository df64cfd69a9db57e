//! The attendant: the agent that is always there, because it needs no network, no account and no service.
//!
//! ```text
//!              ┌───────────────────────── any key ends the echo ─────────┐
//!              ▼                                                         │
//!  greeting ▶ menu ─ 1 ▶ echo ───────────────────────────────────────────┘
//!  (apology)   │  ├─ 2 ▶ greeting again
//!              │  ├─ 9 ▶ the other language
//!              │  └─ 3 ▶ goodbye ▶ hang up
//!              └─ no key: the menu again, three times, then goodbye
//! ```
//!
//! A key interrupts whatever is being said.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use talkstack_media::audio::frame::{Frame, SampleRate, Speech};

use super::echo::Echo;
use super::{AgentOutput, Progress};
use crate::prompts::{Language, Prompt};

/// One conversation with the attendant.
#[derive(Debug)]
pub struct Attendant {
    state: State,
    language: Language,
    wishes: VecDeque<Wish>,
    /// Free text that was spoken for this call.
    spoken: Vec<i16>,
    echo: Echo,
    menus_unanswered: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The agent's name is being spoken elsewhere; the plain greeting steps in at the instant.
    Naming { until: Instant },
    /// Prompts are playing; what follows begins when they have been heard.
    Speaking { then: Then },
    /// The menu has been heard.
    Waiting { until: Instant },
    /// The caller hears themselves.
    Echoing { until: Instant },
    /// The call has been given up.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Wait,
    Echo,
    HangUp,
}

/// Something to do at the next poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Clear,
    Say(Prompt),
    SaySpoken,
}

impl Attendant {
    /// Answers a call of its own: greeting and menu.
    pub fn greeting() -> Self {
        Attendant::beginning(Prompt::Greeting)
    }

    /// Answers in an agent's name: waits briefly for it to be spoken ([`Attendant::handle_spoken`]).
    pub fn naming(now: Instant) -> Self {
        let naming = State::Naming { until: now + NAMING_MAX };
        Attendant { state: naming, wishes: VecDeque::new(), ..Attendant::greeting() }
    }

    /// The same in another language.
    pub fn speaking(self, language: Language) -> Self {
        Attendant { language, ..self }
    }

    /// The name has been spoken, or cannot be.
    pub fn handle_spoken(&mut self, spoken: Option<Vec<i16>>) {
        if !matches!(self.state, State::Naming { .. }) {
            return;
        }
        let first = match spoken {
            Some(samples) => {
                self.spoken = samples;
                Wish::SaySpoken
            }
            None => Wish::Say(Prompt::Greeting),
        };
        self.wishes.extend([first, Wish::Say(Prompt::Menu)]);
        self.state = State::Speaking { then: Then::Wait };
    }

    /// Takes over a call whose agent is gone: apology and menu.
    pub fn apologising() -> Self {
        Attendant::beginning(Prompt::Apology)
    }

    fn beginning(first: Prompt) -> Self {
        Attendant {
            state: State::Speaking { then: Then::Wait },
            language: Language::En,
            wishes: VecDeque::from([Wish::Say(first), Wish::Say(Prompt::Menu)]),
            spoken: Vec::new(),
            echo: Echo::default(),
            menus_unanswered: 0,
        }
    }

    /// Hears the caller; only the echo listens.
    pub fn handle_audio(&mut self, frame: &Frame<'_>) {
        if matches!(self.state, State::Echoing { .. }) {
            self.echo.handle_audio(frame);
        }
    }

    /// Hears a key.
    pub fn handle_digit(&mut self, digit: char) {
        self.menus_unanswered = 0;
        match (self.state, digit) {
            (State::Gone | State::Speaking { then: Then::HangUp }, _) => {}
            (State::Echoing { .. } | State::Speaking { then: Then::Echo }, _) => {
                self.say(&[Prompt::EchoEnd, Prompt::Menu], Then::Wait);
            }
            (_, '1') => self.say(&[Prompt::EchoIntro], Then::Echo),
            (_, '2') => self.say(&[Prompt::Greeting, Prompt::Menu], Then::Wait),
            (_, '3') => self.say(&[Prompt::Goodbye], Then::HangUp),
            (_, '9') => {
                self.language = self.language.other();
                self.say(&[Prompt::Greeting, Prompt::Menu], Then::Wait);
            }
            _ => self.say(&[Prompt::Invalid, Prompt::Menu], Then::Wait),
        }
    }

    /// Tells whether it says something that the caller need not hear to its end: all but the goodbye.
    pub fn is_prompting(&self) -> bool {
        matches!(self.state, State::Speaking { then: Then::Wait | Then::Echo })
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Naming { until } if until <= now => self.handle_spoken(None),
            State::Waiting { until } if until <= now => {
                self.menus_unanswered += 1;
                if self.menus_unanswered >= MENUS_UNANSWERED_MAX {
                    self.say(&[Prompt::Goodbye], Then::HangUp);
                } else {
                    self.say(&[Prompt::Menu], Then::Wait);
                }
            }
            State::Echoing { until } if until <= now => self.say(&[Prompt::EchoEnd, Prompt::Menu], Then::Wait),
            _ => {}
        }
    }

    /// Returns what the attendant wants next.
    pub fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        match self.wishes.pop_front() {
            Some(Wish::Clear) => return Some(AgentOutput::Clear),
            Some(Wish::Say(prompt)) => {
                return Some(AgentOutput::Play(Speech::Samples(SampleRate::Hz8000, prompt.samples(self.language))));
            }
            Some(Wish::SaySpoken) => return Some(AgentOutput::Play(Speech::Samples(SampleRate::Hz8000, &self.spoken))),
            None => {}
        }
        if let State::Speaking { then } = self.state
            && progress.is_drained()
        {
            self.state = match then {
                Then::Wait => State::Waiting { until: now + MENU_WAIT },
                Then::Echo => State::Echoing { until: now + ECHO_MAX },
                Then::HangUp => State::Gone,
            };
            if then == Then::HangUp {
                return Some(AgentOutput::HangUp);
            }
        }
        match self.state {
            State::Echoing { .. } => self.echo.poll_output(progress),
            _ => None,
        }
    }

    /// When the attendant wants [`Attendant::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Naming { until } | State::Waiting { until } | State::Echoing { until } => Some(until),
            State::Speaking { .. } | State::Gone => None,
        }
    }

    /// Says `prompts` in place of whatever is being said.
    fn say(&mut self, prompts: &[Prompt], then: Then) {
        self.wishes.clear();
        self.wishes.push_back(Wish::Clear);
        self.wishes.extend(prompts.iter().copied().map(Wish::Say));
        self.echo = Echo::default();
        self.state = State::Speaking { then };
    }
}

/// 2.5 s: the time a text may take to be spoken, and its way back.
const NAMING_MAX: Duration = Duration::from_millis(2500);

/// 8 s: time to find the keypad on a mobile phone.
const MENU_WAIT: Duration = Duration::from_secs(8);

/// 60 s: enough to judge a line, short enough that a forgotten call ends.
const ECHO_MAX: Duration = Duration::from_secs(60);

/// The menu is heard three times; who has not pressed a key by then is not there.
const MENUS_UNANSWERED_MAX: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_comes_three_times_and_then_goodbye_and_the_end() {
        let mut bench = Bench::new(Attendant::greeting());
        assert_eq!(bench.hear(), [Heard::said(Prompt::Greeting), Heard::said(Prompt::Menu)]);
        for _ in 0..2 {
            bench.wait(MENU_WAIT);
            assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::Menu)]);
        }
        bench.wait(MENU_WAIT);
        assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::Goodbye), Heard::HangUp]);
        assert_eq!(bench.hear(), []);
    }

    #[test]
    fn a_key_interrupts_the_prompt_and_keys_are_not_counted_as_silence() {
        let mut bench = Bench::new(Attendant::greeting());
        bench.attendant.handle_digit('5');
        assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::Invalid), Heard::said(Prompt::Menu)]);
        bench.attendant.handle_digit('2');
        assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::Greeting), Heard::said(Prompt::Menu)]);
        bench.attendant.handle_digit('3');
        assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::Goodbye), Heard::HangUp]);
    }

    #[test]
    fn the_ninth_key_changes_the_language_and_back() {
        let mut bench = Bench::new(Attendant::apologising());
        assert_eq!(bench.hear()[0], Heard::said(Prompt::Apology));
        for language in [Language::De, Language::En] {
            bench.attendant.handle_digit('9');
            assert_eq!(bench.hear()[1], Heard::Samples(Prompt::Greeting.samples(language).len()));
        }
    }

    #[test]
    fn the_echo_begins_behind_its_introduction_and_any_key_ends_it() {
        let mut bench = Bench::new(Attendant::greeting());
        bench.hear();
        bench.attendant.handle_digit('1');
        bench.attendant.handle_audio(&Frame::linear(SampleRate::Hz8000, &[1; 160]));
        assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::EchoIntro)]);
        bench.attendant.handle_audio(&Frame::linear(SampleRate::Hz8000, &[1; 160]));
        assert_eq!(bench.hear(), [Heard::Coded(160)]);
        bench.attendant.handle_digit('#');
        assert_eq!(bench.hear(), [Heard::Clear, Heard::said(Prompt::EchoEnd), Heard::said(Prompt::Menu)]);
    }

    #[test]
    fn a_name_that_is_spoken_in_time_replaces_the_greeting_and_one_that_is_not_does_not() {
        let mut bench = Bench::new(Attendant::greeting());
        bench.attendant = Attendant::naming(bench.now);
        assert_eq!(bench.hear(), []);
        bench.attendant.handle_spoken(Some(vec![1; 777]));
        assert_eq!(bench.hear(), [Heard::Samples(777), Heard::said(Prompt::Menu)]);
        bench.attendant = Attendant::naming(bench.now);
        bench.wait(NAMING_MAX);
        assert_eq!(bench.hear(), [Heard::said(Prompt::Greeting), Heard::said(Prompt::Menu)]);
        bench.attendant.handle_spoken(Some(vec![1; 777]));
        assert_eq!(bench.hear(), [], "too late");
    }

    #[test]
    fn a_forgotten_echo_ends_after_its_time() {
        let mut bench = Bench::new(Attendant::greeting());
        bench.attendant.handle_digit('1');
        bench.hear();
        bench.wait(ECHO_MAX);
        assert_eq!(bench.hear()[1], Heard::said(Prompt::EchoEnd));
    }

    #[derive(Debug, PartialEq)]
    enum Heard {
        Clear,
        Samples(usize),
        Coded(usize),
        HangUp,
    }

    impl Heard {
        fn said(prompt: Prompt) -> Self {
            Heard::Samples(prompt.samples(Language::En).len())
        }
    }

    struct Bench {
        attendant: Attendant,
        now: Instant,
    }

    impl Bench {
        fn new(attendant: Attendant) -> Self {
            Bench { attendant, now: Instant::now() }
        }

        /// Collects what is said, with a playout that finishes at once when polled again.
        fn hear(&mut self) -> Vec<Heard> {
            let mut heard = Vec::new();
            let drained = Progress { pushed: 1, played: 1 };
            for _ in 0..2 {
                while let Some(output) = self.attendant.poll_output(drained, self.now) {
                    heard.push(match output {
                        AgentOutput::Clear => Heard::Clear,
                        AgentOutput::Play(Speech::Samples(_, samples)) => Heard::Samples(samples.len()),
                        AgentOutput::Play(Speech::Coded(_, bytes)) => Heard::Coded(bytes.len()),
                        AgentOutput::HangUp => Heard::HangUp,
                        other => panic!("{other:?}"),
                    });
                }
            }
            heard
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            assert_eq!(self.attendant.poll_timeout(), Some(self.now));
            self.attendant.handle_timeout(self.now);
        }
    }
}
