//! How much of our own sound comes back on a line, from a hybrid or a loudspeaker, and when.
//!
//! ```text
//!   sent, 20 ms each ─▶ ring of the last 640 ms ─┐
//!                                                ├─ a coupling for each delay of 0 to 500 ms ─▶ the echo to be expected
//!   received, 20 ms each ─▶ smoothed ────────────┘
//! ```
//!
//! If there is an echo at a delay, what is received is never softer than what was sent that much earlier, less the return
//! loss; whatever else is heard only adds to it. So the least ratio of the two that was seen lately is the coupling at
//! that delay, and where there is no echo it soon falls to the line's noise. Nobody needs to be silent for it.
//!
//! A delay that nothing has been heard of yet has a return loss of 17 dB. That covers a line at the beginning of a call;
//! [`EchoMonitor::handle_false_alarm`] learns of a worse one.

use std::time::{Duration, Instant};

/// Watches one leg.
#[derive(Debug)]
pub struct EchoMonitor {
    began: Option<Instant>,
    /// The slot that is being filled.
    slot: u64,
    /// Mean squares of what was sent in each slot, and smoothed over some.
    sent: [f32; SLOTS],
    sent_smooth: [f32; SLOTS],
    received_smooth: f32,
    coupling: [f32; DELAYS],
}

impl Default for EchoMonitor {
    fn default() -> Self {
        EchoMonitor {
            began: None,
            slot: 0,
            sent: [0.0; SLOTS],
            sent_smooth: [0.0; SLOTS],
            received_smooth: 0.0,
            coupling: [COUPLING_AT_FIRST; DELAYS],
        }
    }
}

impl EchoMonitor {
    /// A packet of this mean square has left.
    pub fn handle_sent(&mut self, power: f32, now: Instant) {
        self.advance(now);
        let place = &mut self.sent[place(self.slot)];
        *place = place.max(power);
    }

    /// One of this mean square has come. Returns the mean square of the echo that may be in it.
    pub fn handle_received(&mut self, power: f32, now: Instant) -> f32 {
        self.advance(now);
        self.received_smooth += (power - self.received_smooth) * SMOOTHING;
        let mut expected = 0.0f32;
        for (delay, coupling) in self.coupling.iter_mut().enumerate() {
            let Some(slot) = self.slot.checked_sub(delay as u64 + 1) else { break };
            let smooth = self.sent_smooth[place(slot)];
            if smooth >= SPEECH_POWER {
                *coupling = (*coupling * RISE).min(self.received_smooth / smooth).min(1.0);
            }
            // Packets and slots are not in step.
            let peak = [slot.wrapping_sub(1), slot, slot + 1].map(|slot| self.sent[place(slot)]);
            expected = expected.max(*coupling * peak.into_iter().fold(0.0, f32::max));
        }
        expected * UNDERRATED
    }

    /// What was taken for somebody's voice has ended with our own.
    pub fn handle_false_alarm(&mut self) {
        self.coupling.iter_mut().for_each(|coupling| *coupling = (*coupling * ALARM).min(1.0));
    }

    /// Goes on to the slot of this instant.
    fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let slot = (now.saturating_duration_since(began).as_micros() / SLOT.as_micros()) as u64;
        // After a longer pause nothing is left of what was before it.
        self.slot = self.slot.max(slot.saturating_sub(SLOTS as u64));
        while self.slot < slot {
            let (last, before) = (place(self.slot), place(self.slot.wrapping_sub(1)));
            self.sent_smooth[last] =
                self.sent_smooth[before] + (self.sent[last] - self.sent_smooth[before]) * SMOOTHING;
            self.slot += 1;
            self.sent[place(self.slot)] = 0.0;
        }
    }
}

fn place(slot: u64) -> usize {
    slot as usize % SLOTS
}

/// The usual packet's length.
const SLOT: Duration = Duration::from_millis(20);

/// 640 ms: the longest delay, and what is averaged before it. A power of two, so that slots wrap.
const SLOTS: usize = 32;

/// 0 to 500 ms: a mobile phone's loudspeaker behind two jitter buffers is heard after 400.
const DELAYS: usize = 25;

/// A third: 60 ms are averaged, so that an echo between two slots has the level of either.
const SMOOTHING: f32 = 0.33;

/// -17 dB: 3 dB above the worst line that is to be borne without a false alarm.
const COUPLING_AT_FIRST: f32 = 0.02;

/// 3 dB a second while we speak: an echo that has grown is found again, and a sentence of the caller's adds little.
const RISE: f32 = 1.0139;

/// 3 dB: the least of many ratios is below their mean.
const UNDERRATED: f32 = 2.0;

/// 10 dB.
const ALARM: f32 = 10.0;

/// -45 dBov: softer is no speech.
const SPEECH_POWER: f32 = 184.0 * 184.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_that_is_expected_covers_the_one_that_comes_and_little_more() {
        for delay_ms in [20, 130, 400] {
            for loss in [100.0, 400.0, 1000.0] {
                let mut line = Line::new(delay_ms, 1.0 / loss);
                line.run(100);
                let over: Vec<f32> = line.run(300);
                assert!(over.iter().all(|over| *over < 4.0), "{delay_ms} ms, {loss}: the gate opens");
                let mean = over.iter().filter(|over| **over > 0.0).sum::<f32>() / 300.0;
                assert!(mean > 0.05, "{delay_ms} ms, {loss}: {mean}");
            }
        }
    }

    #[test]
    fn a_line_without_an_echo_hides_nobody() {
        let mut line = Line::new(100, 0.0);
        line.run(60);
        // A caller 20 dB below us.
        line.caller = 0.01 * LOUD;
        let heard = line.run(5);
        assert!(heard.iter().all(|over| *over > 4.0), "{heard:?}");
    }

    #[test]
    fn one_false_alarm_is_enough_on_a_bad_line() {
        let mut line = Line::new(200, 0.1);
        let over = line.run(20);
        assert!(over.iter().any(|over| *over > 4.0), "10 dB of return loss are not foreseen");
        line.monitor.handle_false_alarm();
        let over = line.run(200);
        assert!(over.iter().all(|over| *over < 4.0), "{over:?}");
    }

    #[test]
    fn years_of_silence_do_no_harm() {
        let mut monitor = EchoMonitor::default();
        let now = Instant::now();
        monitor.handle_sent(LOUD, now);
        assert_eq!(monitor.handle_received(1.0, now + Duration::from_secs(100_000_000)), 0.0);
    }

    /// We speak, and hear ourselves.
    struct Line {
        monitor: EchoMonitor,
        sent: Vec<f32>,
        delay_ms: u64,
        coupling: f32,
        caller: f32,
        now: Instant,
        random: u32,
    }

    impl Line {
        fn new(delay_ms: u64, coupling: f32) -> Self {
            let (monitor, now) = (EchoMonitor::default(), Instant::now());
            Line { monitor, sent: Vec::new(), delay_ms, coupling, caller: 0.0, now, random: 1 }
        }

        /// How far what is heard in each packet is above the echo that is expected.
        fn run(&mut self, packets: usize) -> Vec<f32> {
            let step = |line: &mut Line| {
                line.random = line.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Syllables of 160 ms, and pauses.
                let is_loud = line.sent.len() / 8 % 3 != 2;
                let spread = 0.2 + (line.random >> 16) as f32 / 65_536.0;
                line.sent.push(if is_loud { LOUD * spread } else { 100.0 });
                line.monitor.handle_sent(line.sent[line.sent.len() - 1], line.now);
                // An echo lies across two packets.
                let (whole, part) = (line.delay_ms as usize / 20, line.delay_ms as f32 % 20.0 / 20.0);
                let before = |back: usize| line.sent.len().checked_sub(1 + back).map_or(0.0, |at| line.sent[at]);
                let echo = line.coupling * (before(whole) * (1.0 - part) + before(whole + 1) * part);
                line.now += Duration::from_millis(20);
                let heard = echo + line.caller + 1000.0;
                heard / line.monitor.handle_received(heard, line.now).max(1000.0)
            };
            (0..packets).map(|_| step(self)).collect()
        }
    }

    /// -20 dBFS.
    const LOUD: f32 = 3277.0 * 3277.0;
}
