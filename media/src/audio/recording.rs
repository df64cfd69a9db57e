//! A call's recording: two tracks on one clock.
//!
//! ```text
//!   what the leg heard ─▶ left,  where it arrived ──┐
//!                                                    ├─▶ 200 ms, both tracks past it ─▶ interleaved block
//!   what left for the wire ─▶ right, where it left ──┘
//! ```
//!
//! The clock is the wall's, 8,000 samples a second from the answer. Sound that follows on without a break is placed
//! without a break, so that jitter does not tear it; where clock and sound part by more than `TOLERANCE`, sound gives
//! way: the tracks never move apart.

use std::time::{Duration, Instant};

/// Collects both directions of one call and gives them out in blocks.
#[derive(Debug)]
pub struct Recording {
    started: Option<Instant>,
    /// Interleaved samples from `base` on, as a ring.
    pending: Box<[i16]>,
    /// The first sample that has not been given out; a multiple of the block while the call lasts.
    base: u64,
    heard: Heard,
    sent: Sent,
    is_over: bool,
}

/// The left track.
#[derive(Debug, Default)]
struct Heard {
    /// Behind the last sound.
    end: u64,
    /// Where the next sound follows on: made-up silence counts.
    expected: u64,
    /// Where the sound that ends at `end` began, and where the sound before it ended.
    run: u64,
    run_before: u64,
    /// The least that arrivals were behind their place lately; below zero ahead of it.
    behind_min: i64,
    arrivals: u32,
}

/// The right track.
#[derive(Debug, Default)]
struct Sent {
    /// Behind the last sound.
    end: u64,
    /// The RTP timestamp that would follow on.
    timestamp: Option<u32>,
}

/// How a stretch of the left track came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It has just arrived.
    Arrived,
    /// It stands for what was lost.
    Concealed,
    /// Silence where nothing came.
    Silence,
}

/// 200 ms of both tracks, left and right in turn.
pub type Block = [i16; BLOCK_VALUES];

impl Recording {
    /// Makes an empty recording; it takes nothing before [`Recording::start`].
    pub fn new() -> Self {
        Recording {
            started: None,
            pending: vec![0; PENDING_SAMPLES as usize * 2].into(),
            base: 0,
            heard: Heard::default(),
            sent: Sent::default(),
            is_over: false,
        }
    }

    /// The call has been answered: its clock begins. A second time it changes nothing.
    pub fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// The next stretch of what the leg heard, in the order of the agent's timeline.
    pub fn handle_heard(&mut self, samples: &[i16], origin: Origin, now: Instant) {
        let Some(at) = self.clock(now) else { return };
        let count = samples.len() as u64;
        if origin == Origin::Silence {
            // Sound that is ahead of the clock is made good in silence.
            let ahead = self.heard.expected.saturating_sub(at);
            self.heard.expected += count.saturating_sub(ahead);
            return;
        }
        if origin == Origin::Arrived {
            self.catch_up(at);
            self.heard.handle_arrival(at);
        }
        let place = self.heard.expected;
        // What lies before the last sound would write over it: the surplus of a sender whose clock is fast.
        let surplus = self.heard.end.max(self.base).saturating_sub(place).min(count);
        self.write(place + surplus, &samples[surplus as usize..], LEFT);
        self.heard.extend(place + surplus, place + count);
    }

    /// A frame has left for the wire with this RTP timestamp.
    pub fn handle_sent(&mut self, samples: &[i16], timestamp: u32, now: Instant) {
        let Some(at) = self.clock(now) else { return };
        let count = samples.len() as u64;
        let gap = self.sent.timestamp.map(|expected| u64::from(timestamp.wrapping_sub(expected)));
        let follows = gap.map(|gap| self.sent.end + gap).filter(|place| place.abs_diff(at) <= SENT_TOLERANCE);
        let place = follows.unwrap_or(at).max(self.sent.end).max(self.base);
        self.write(place, samples, RIGHT);
        self.sent.end = place + count;
        self.sent.timestamp = Some(timestamp.wrapping_add(samples.len() as u32));
    }

    /// The call is over: what is left is given out. Nothing is taken any more.
    pub fn finish(&mut self) {
        self.is_over = true;
    }

    /// Fills `block` with the next stretch and returns its length in samples a track, or `None` while there is none.
    ///
    /// A stretch is [`BLOCK_SAMPLES`] long; behind [`Recording::finish`] the last may be shorter.
    pub fn poll_block(&mut self, block: &mut Block, now: Instant) -> Option<usize> {
        let clock = self.clock(now)?;
        let end = self.base + BLOCK_SAMPLES;
        let count = if self.is_over {
            (self.heard.end.max(self.sent.end)).saturating_sub(self.base).min(BLOCK_SAMPLES) as usize
        } else {
            let is_past = |track_end: u64| track_end >= end || clock >= end + PATIENCE;
            if is_past(self.heard.end) && is_past(self.sent.end) { BLOCK_SAMPLES as usize } else { 0 }
        };
        if count == 0 {
            return None;
        }
        // The ring is a whole number of blocks, so that a block never wraps.
        let from = (self.base % PENDING_SAMPLES) as usize * 2;
        let stretch = &mut self.pending[from..from + count * 2];
        block[..count * 2].copy_from_slice(stretch);
        stretch.fill(0);
        self.base += count as u64;
        self.heard.expected = self.heard.expected.max(self.base);
        Some(count)
    }

    /// When a block is due although a track has nothing for it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.base + BLOCK_SAMPLES + PATIENCE;
        self.started.filter(|_| !self.is_over).map(|started| started + Duration::from_micros(due * 125 + 124))
    }

    /// Sound ahead of the clock by more than the tolerance came late and all at once: its beginning belongs into the
    /// silence in front of it.
    fn catch_up(&mut self, at: u64) {
        let Heard { end, expected, run, run_before, .. } = self.heard;
        let ahead = expected.saturating_sub(at);
        let shift = ahead.min(run.saturating_sub(run_before.max(self.base)));
        if ahead <= TOLERANCE || shift == 0 {
            return;
        }
        for place in run..end {
            let value = std::mem::take(&mut self.pending[index(place, LEFT)]);
            self.pending[index(place - shift, LEFT)] = value;
        }
        self.heard.end -= shift;
        self.heard.expected -= shift;
        self.heard.run -= shift;
        self.heard.arrivals = 0;
    }

    fn clock(&self, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.started?);
        Some(elapsed.as_micros() as u64 / 125)
    }

    /// Writes one track's samples where there is room for them.
    fn write(&mut self, place: u64, samples: &[i16], track: usize) {
        let room = (self.base + PENDING_SAMPLES).saturating_sub(place);
        for (place, sample) in (place..).zip(samples.iter().take(room as usize)) {
            self.pending[index(place, track)] = *sample;
        }
    }
}

impl Default for Recording {
    fn default() -> Self {
        Recording::new()
    }
}

impl Heard {
    /// A packet has arrived: the next sound is moved where the clock says, if it has strayed.
    fn handle_arrival(&mut self, at: u64) {
        let behind = at as i64 - self.expected as i64;
        // The first packet begins where it arrives, and so does whatever comes behind a break.
        if behind > BREAK || self.end == 0 {
            (self.expected, self.arrivals) = (at, 0);
            return;
        }
        self.behind_min = if self.arrivals == 0 { behind } else { self.behind_min.min(behind) };
        self.arrivals += 1;
        if self.arrivals >= WINDOW {
            if self.behind_min.unsigned_abs() > TOLERANCE {
                self.expected = self.expected.saturating_add_signed(self.behind_min);
            }
            self.arrivals = 0;
        }
    }

    /// Sound lies from `from` to `to`.
    fn extend(&mut self, from: u64, to: u64) {
        if from > self.end {
            (self.run_before, self.run) = (self.end, from);
        }
        self.end = self.end.max(to);
        self.expected = to;
    }
}

fn index(place: u64, track: usize) -> usize {
    (place % PENDING_SAMPLES) as usize * 2 + track
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// 200 ms a block: five writes a second and call.
pub const BLOCK_SAMPLES: u64 = 1600;

/// Both tracks.
pub const BLOCK_VALUES: usize = 2 * BLOCK_SAMPLES as usize;

/// 2 s are pending at the most: ten blocks, 64 kB a call. Sound beyond is lost from the recording.
const PENDING_SAMPLES: u64 = 10 * BLOCK_SAMPLES;

/// 300 ms behind its end a block is due with what it has: the receiver's longest patience is 200 ms, and a frame or two.
const PATIENCE: u64 = 2400;

/// 10 ms: half of what two tracks may be apart.
const TOLERANCE: u64 = 80;

/// 30 ms: the playout clock holds for so long, and its debt is a frame.
const SENT_TOLERANCE: u64 = 240;

/// 250 ms: longer than the receiver waits; what comes behind a longer break begins anew where it arrives.
const BREAK: i64 = 2000;

/// 50 arrivals, 1 s: the least delayed of so many shows where the sender's clock stands.
const WINDOW: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_on_each_side_lands_within_20_ms_of_its_place_for_an_hour_of_jitter_loss_and_drift() {
        for (drift_ppm, jitter_ms) in [(0i64, 0u64), (200, 0), (-200, 0), (200, 40), (-200, 40), (0, 60)] {
            let mut bench = Bench::new();
            bench.run(drift_ppm, jitter_ms, 3600);
            let worst = bench.worst_ms();
            assert!(worst <= 20.0, "{drift_ppm} ppm and {jitter_ms} ms of jitter: {worst} ms off");
            assert!(bench.marks >= 700, "{} marks were found", bench.marks);
        }
    }

    #[test]
    fn silence_is_kept_on_both_sides_and_the_tracks_stay_where_they_are() {
        let mut bench = Bench::new();
        bench.drain_to(2_000);
        bench.hear(2_000, MARK);
        bench.send(2_000, MARK);
        // Hold, or nobody there: 30 s of nothing at all.
        bench.drain_to(32_000);
        bench.hear(32_000, MARK);
        bench.send(32_000, MARK);
        bench.drain_to(33_000);
        for track in [LEFT, RIGHT] {
            assert_eq!(bench.marks_of(track), [16_000, 256_000], "track {track}");
        }
    }

    #[test]
    fn made_up_silence_gives_way_to_what_it_stood_for() {
        let mut bench = Bench::new();
        for step in 0..10 {
            bench.hear(step * 20, 100);
        }
        // Nothing for 100 ms: the receiver makes silence up, and then the packets come after all, all at once.
        bench.recording.handle_heard(&[0; 800], Origin::Silence, bench.at(300));
        for _ in 0..5 {
            bench.hear(300, MARK);
        }
        bench.hear(320, 100);
        bench.drain_to(1000);
        let first = bench.marks_of(LEFT)[0];
        assert!(first.abs_diff(1600) <= 160, "the burst begins at {first}");
        assert_eq!(bench.left().iter().filter(|sample| **sample == MARK).count(), 800, "none of it was lost");
    }

    #[test]
    fn what_the_playout_clears_never_stands_in_the_recording_and_the_rest_stays_in_place() {
        let mut bench = Bench::new();
        let mut timestamp = u32::MAX - 500;
        for step in 0..500u64 {
            // Barge-in every second: the timestamps go on with the wall clock behind a pause of 100 ms.
            if step % 50 >= 5 {
                let value = if step % 50 == 5 { MARK } else { 100 };
                bench.recording.handle_sent(&[value; 160], timestamp, bench.at(step * 20));
            }
            timestamp = timestamp.wrapping_add(160);
            bench.drain_to(step * 20);
        }
        bench.drain_to(11_000);
        let expected: Vec<u64> = (0..10).map(|second| (second * 50 + 5) * 160).collect();
        assert_eq!(bench.marks_of(RIGHT), expected);
    }

    #[test]
    fn the_end_gives_out_what_is_left_and_nothing_is_taken_before_the_answer() {
        let start = Instant::now();
        let mut recording = Recording::new();
        let mut block = [0; BLOCK_VALUES];
        recording.handle_heard(&[1; 160], Origin::Arrived, start);
        assert_eq!(recording.poll_block(&mut block, start + Duration::from_secs(9)), None);
        recording.start(start);
        recording.handle_sent(&[2; 160], 0, start);
        recording.handle_heard(&[1; 160], Origin::Arrived, start + Duration::from_millis(20));
        recording.finish();
        assert_eq!(recording.poll_block(&mut block, start), Some(320));
        assert_eq!(block[..4], [0, 2, 0, 2]);
        assert_eq!(block[636..640], [1, 0, 1, 0]);
        assert_eq!(recording.poll_block(&mut block, start), None);
    }

    #[test]
    fn a_recording_that_nobody_fetches_holds_two_seconds() {
        let mut bench = Bench::new();
        for step in 0..500 {
            bench.hear(step * 20, 100);
        }
        bench.drain_to(10_000);
        let sound = bench.left().iter().filter(|sample| **sample != 0).count() as u64;
        assert!((PENDING_SAMPLES - 160..=PENDING_SAMPLES).contains(&sound), "{sound} samples");
    }

    const MARK: i16 = 9999;

    struct Bench {
        recording: Recording,
        start: Instant,
        out: Vec<i16>,
        given: u64,
        last: [i16; 2],
        worst: u64,
        marks: usize,
        due: [std::collections::VecDeque<u64>; 2],
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            let mut recording = Recording::new();
            recording.start(start);
            Bench {
                recording,
                start,
                out: Vec::new(),
                given: 0,
                last: [0; 2],
                worst: 0,
                marks: 0,
                due: Default::default(),
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn hear(&mut self, ms: u64, value: i16) {
            self.recording.handle_heard(&[value; 160], Origin::Arrived, self.at(ms));
        }

        fn send(&mut self, ms: u64, value: i16) {
            self.recording.handle_sent(&[value; 160], (ms * 8) as u32, self.at(ms));
        }

        fn drain_to(&mut self, ms: u64) {
            let mut block = [0; BLOCK_VALUES];
            while let Some(count) = self.recording.poll_block(&mut block, self.at(ms)) {
                self.out.extend_from_slice(&block[..count * 2]);
            }
        }

        fn left(&self) -> Vec<i16> {
            self.out.iter().copied().step_by(2).collect()
        }

        fn marks_of(&self, track: usize) -> Vec<u64> {
            let samples: Vec<i16> = self.out.iter().copied().skip(track).step_by(2).collect();
            (0..samples.len())
                .filter(|&at| samples[at] == MARK && (at == 0 || samples[at - 1] != MARK))
                .map(|at| at as u64)
                .collect()
        }

        /// A call with a mark on each side every five seconds; each packet of the caller comes late by up to `jitter_ms`
        /// and one of a hundred is lost.
        fn run(&mut self, drift_ppm: i64, jitter_ms: u64, seconds: u64) {
            let (mut random, mut block) = (1u32, [0; BLOCK_VALUES]);
            let (mut said, mut arrives) = (0u64, self.start);
            for step in 0..seconds * 50 {
                let now = self.start + Duration::from_millis(step * 20);
                let value = |step: u64| if step % 250 == 125 { MARK } else { 100 };
                if value(step) == MARK {
                    self.due[RIGHT].push_back(step * 160);
                }
                self.recording.handle_sent(&[value(step); 160], (step * 160) as u32, now);
                while arrives <= now {
                    let is_lost = random % 100 == 0 && value(said) != MARK;
                    let origin = if is_lost { Origin::Concealed } else { Origin::Arrived };
                    self.recording.handle_heard(&[value(said); 160], origin, arrives);
                    said += 1;
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let late_us = u64::from(random >> 16) * jitter_ms * 1000 / 65_536;
                    let said_us = (said as i64 * 20_000 * (1_000_000 - drift_ppm) / 1_000_000) as u64;
                    if value(said) == MARK {
                        self.due[LEFT].push_back(said_us / 125);
                    }
                    // In order: the receiver holds back what overtakes.
                    arrives = arrives.max(self.start + Duration::from_micros(said_us + late_us));
                }
                while let Some(count) = self.recording.poll_block(&mut block, now) {
                    self.judge(&block[..count * 2]);
                }
            }
        }

        fn judge(&mut self, block: &[i16]) {
            for pair in block.chunks_exact(2) {
                for track in [LEFT, RIGHT] {
                    if pair[track] == MARK && self.last[track] != MARK {
                        let due = self.due[track].pop_front().expect("a mark that was made");
                        self.worst = self.worst.max(due.abs_diff(self.given));
                        self.marks += 1;
                    }
                    self.last[track] = pair[track];
                }
                self.given += 1;
            }
        }

        fn worst_ms(&self) -> f64 {
            self.worst as f64 / 8.0
        }
    }
}
