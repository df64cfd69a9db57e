//! Barge-in by the box: the caller speaks, and the agent falls silent.
//!
//! ```text
//!             a voice                     it lasts: an interruption
//!   Idle ────────────────▶ Paused ─────────────────────────────────▶ Yielded
//!    ▲  ◀──────────────────┘  it ends: a cough, "mhm"; nothing is lost  │
//!    └───────────────────────── the caller has finished ────────────────┘
//! ```
//!
//! The pause comes at once and takes nothing away, so it may be wrong; the queue is cleared when it is certain. The pause
//! is a test at the same time: our own echo falls silent with us.

use std::time::{Duration, Instant};

/// What the box's ear hears of the caller.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hearing {
    /// Whether there is a voice.
    pub(super) is_voice: bool,
    /// How long it has sounded, without its pauses.
    pub(super) sounded: Duration,
    /// How much of it is a voice without a doubt.
    pub(super) certain: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// What is queued waits.
    Pause,
    /// It was no interruption: what is queued goes on where it was stopped.
    FalseAlarm,
    /// The caller has finished: what came meanwhile is said.
    GoOn,
    /// It is forgotten; what comes now waits.
    Stop,
}

/// Who has the floor.
#[derive(Debug, Default)]
pub(super) struct BargeIn {
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The agent, or nobody.
    #[default]
    Idle,
    /// Perhaps the caller, since the instant.
    Paused { since: Instant },
    /// The caller, to the instant at the most: what the agent still says waits.
    Yielded { until: Instant },
    /// The agent's own provider has heard the same voice, and knows what to do.
    Spent,
}

impl BargeIn {
    /// Something was heard while the agent has something to say, and may be interrupted in it.
    pub(super) fn handle_heard(&mut self, hearing: Hearing, now: Instant) -> Option<Step> {
        let Hearing { is_voice, sounded, certain } = hearing;
        let (state, step) = match self.state {
            State::Idle if is_voice => (State::Paused { since: now }, Some(Step::Pause)),
            State::Paused { .. } if !is_voice => (State::Idle, Some(Step::FalseAlarm)),
            State::Yielded { .. } if !is_voice => (State::Idle, Some(Step::GoOn)),
            State::Spent if !is_voice => (State::Idle, None),
            State::Paused { since } => {
                let is_ours = now.saturating_duration_since(since) < ECHO_MAX;
                if is_ours || sounded < SOUNDED_MIN || certain < CERTAIN_MIN {
                    return None;
                }
                (State::Yielded { until: now + YIELD_MAX }, Some(Step::Stop))
            }
            State::Yielded { until } if until <= now => (State::Spent, Some(Step::GoOn)),
            State::Idle | State::Yielded { .. } | State::Spent => return None,
        };
        self.state = state;
        step
    }

    /// Nobody needs to interrupt: the agent has nothing to say, or may not be interrupted.
    pub(super) fn handle_idle(&mut self) -> Option<Step> {
        let is_waiting = self.is_waiting();
        self.state = State::Idle;
        is_waiting.then_some(Step::GoOn)
    }

    /// The agent has taken back what it had said: its provider has heard the caller too.
    pub(super) fn handle_cleared(&mut self) {
        if self.is_waiting() {
            self.state = State::Spent;
        }
    }

    /// Whether what is queued waits.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Paused { .. } | State::Yielded { .. })
    }
}

/// 600 ms of sound: "mhm", "uh-huh" and "okay" take 300 to 550, and a single cough less.
const SOUNDED_MIN: Duration = Duration::from_millis(600);

/// 160 ms: a quarter of a sentence's beginning, and more than a cough has.
const CERTAIN_MIN: Duration = Duration::from_millis(160);

/// 480 ms: an echo that comes back within 400 ms, with 80 ms for what is judged of it.
const ECHO_MAX: Duration = Duration::from_millis(480);

/// 10 s: longer than most turns; a television that is taken for a caller does not silence an agent for good.
const YIELD_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cough_pauses_and_a_sentence_stops() {
        let mut bench = Bench::default();
        assert_eq!(bench.hear(300, 100), [Step::Pause]);
        assert_eq!(bench.pass(200), [Step::FalseAlarm]);
        assert_eq!(bench.hear(2000, 1000), [Step::Pause, Step::Stop]);
        assert_eq!(bench.pass(200), [Step::GoOn], "what came meanwhile has waited");
    }

    #[test]
    fn what_could_be_anything_stops_nothing() {
        let mut bench = Bench::default();
        assert_eq!(bench.hear(3000, 100), [Step::Pause], "a fit of coughing");
        assert_eq!(bench.pass(200), [Step::FalseAlarm]);
    }

    #[test]
    fn a_voice_that_never_ends_does_not_silence_the_agent_for_good() {
        let mut bench = Bench::default();
        assert_eq!(bench.hear(30_000, 10_000), [Step::Pause, Step::Stop, Step::GoOn]);
        assert_eq!(bench.pass(200), []);
        assert_eq!(bench.hear(300, 0), [Step::Pause], "another one is another one");
    }

    #[test]
    fn what_the_provider_has_heard_is_not_heard_twice() {
        let mut bench = Bench::default();
        assert_eq!(bench.hear(300, 100), [Step::Pause]);
        bench.barge_in.handle_cleared();
        assert_eq!(bench.hear(2000, 1000), [], "it answers while the caller is still heard");
        bench.pass(200);
        assert_eq!(bench.hear(300, 100), [Step::Pause]);
        assert_eq!(bench.barge_in.handle_idle(), Some(Step::GoOn));
        assert_eq!(bench.barge_in.handle_idle(), None);
    }

    struct Bench {
        barge_in: BargeIn,
        now: Instant,
        sounded: u64,
        certain: u64,
    }

    impl Default for Bench {
        fn default() -> Self {
            Bench { barge_in: BargeIn::default(), now: Instant::now(), sounded: 0, certain: 0 }
        }
    }

    impl Bench {
        /// A voice of so many milliseconds, of which so many at its beginning are certain.
        fn hear(&mut self, milliseconds: u64, certain: u64) -> Vec<Step> {
            (0..milliseconds / 20)
                .filter_map(|_| {
                    self.sounded += 20;
                    self.certain = self.sounded.min(certain);
                    self.step(true)
                })
                .collect()
        }

        /// No voice for so long.
        fn pass(&mut self, milliseconds: u64) -> Vec<Step> {
            (self.sounded, self.certain) = (0, 0);
            (0..milliseconds / 20).filter_map(|_| self.step(false)).collect()
        }

        fn step(&mut self, is_voice: bool) -> Option<Step> {
            self.now += Duration::from_millis(20);
            let (sounded, certain) = (Duration::from_millis(self.sounded), Duration::from_millis(self.certain));
            self.barge_in.handle_heard(Hearing { is_voice, sounded, certain }, self.now)
        }
    }
}
