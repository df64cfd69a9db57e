//! A call's recording: three tracks on one clock.
//!
//! ```text
//!   what the leg heard ─▶ left,  where it arrived ───┐
//!   what left for the wire ─▶ right, where it left ──┼─▶ blocks of 1,600 samples, both sides past it
//!   what the agent said ─▶ the agent's track, ───────┘
//!                          where the agent said it
//! ```
//!
//! The clock is the wall's, 8,000 samples a second from the answer, or 16,000 of a wideband line. Sound that follows on
//! without a break is placed without a break, so that jitter does not tear it; where clock and sound part by more than
//! `TOLERANCE`, sound gives way: the tracks never move apart.
//!
//! The right track has the comfort noise that is sent in pauses too. Keys that travel as telephone events or by INFO are
//! silence on every track, whichever side presses them: a card's number does not stand in a recording. The agent's track
//! has each word where the agent delivered it, before the playout queue, its cushion and the keys that delay it; what was
//! interrupted before it left is not on it. Where it is choppy the agent is, and where only the right one is, we are.
//!
//! A recording may [pause](Recording::pause). The clock goes on, and what the tracks would hold meanwhile is silence.

use std::time::{Duration, Instant};

use super::recording_agent::Said;

/// Collects all sides of one call and gives them out in blocks.
#[derive(Debug)]
pub struct Recording {
    started: Option<Instant>,
    /// Samples a tick of 125 µs: 1 at 8 kHz, 2 at 16 kHz.
    tick_samples: u64,
    /// Interleaved samples of both sides from `base` on, as a ring.
    pending: Box<[i16]>,
    /// The agent's, as a ring.
    pending_said: Box<[i16]>,
    /// The first sample that has not been given out; a multiple of the block while the call lasts.
    base: u64,
    heard: Heard,
    sent: Sent,
    said: Said,
    is_paused: bool,
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
    /// The timestamp that would follow on, in ticks of 125 µs.
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

/// A stretch of all tracks: left and right in turn, and behind them the agent's.
pub type Block = [i16; BLOCK_VALUES];

impl Recording {
    /// Makes an empty recording at 8,000 or 16,000 Hz; it takes nothing before [`Recording::start`].
    pub fn new(sample_rate: u32) -> Self {
        let tick_samples = u64::from(sample_rate / 8000).clamp(1, 2);
        let samples = (PENDING_TICKS * tick_samples) as usize;
        Recording {
            started: None,
            tick_samples,
            pending: vec![0; samples * 2].into(),
            pending_said: vec![0; samples].into(),
            base: 0,
            heard: Heard::default(),
            sent: Sent::default(),
            said: Said::default(),
            is_paused: false,
            is_over: false,
        }
    }

    /// Samples a second.
    pub fn sample_rate(&self) -> u32 {
        8000 * self.tick_samples as u32
    }

    /// The call has been answered: its clock begins. A second time it changes nothing.
    pub fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// From here on silence stands for what is said. Returns where on the recording that is; `None` when it has not begun
    /// or was paused before.
    pub fn pause(&mut self, now: Instant) -> Option<Duration> {
        let started = self.started.filter(|_| !self.is_paused)?;
        self.is_paused = true;
        Some(now.saturating_duration_since(started))
    }

    /// Sound is recorded again. Returns where; `None` when it was not paused.
    pub fn resume(&mut self, now: Instant) -> Option<Duration> {
        let started = self.started.filter(|_| self.is_paused)?;
        self.is_paused = false;
        Some(now.saturating_duration_since(started))
    }

    /// Tells whether silence stands for what is said.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The next stretch of what the leg heard, in the order of the agent's timeline.
    pub fn handle_heard(&mut self, samples: &[i16], origin: Origin, now: Instant) {
        let Some(at) = self.clock(now) else { return };
        let (count, scale) = (samples.len() as u64, self.tick_samples);
        if origin == Origin::Silence {
            // Sound that is ahead of the clock is made good in silence.
            let ahead = self.heard.expected.saturating_sub(at);
            self.heard.expected += count.saturating_sub(ahead);
            return;
        }
        if origin == Origin::Arrived {
            self.catch_up(at);
            self.heard.handle_arrival(at, scale);
        }
        let place = self.heard.expected;
        // What lies before the last sound would write over it: the surplus of a sender whose clock is fast.
        let surplus = self.heard.end.max(self.base).saturating_sub(place).min(count);
        self.write(place + surplus, &samples[surplus as usize..], LEFT);
        self.heard.extend(place + surplus, place + count);
    }

    /// A frame has left for the wire with this timestamp in ticks of 125 µs.
    pub fn handle_sent(&mut self, samples: &[i16], timestamp: u32, now: Instant) {
        let Some(at) = self.clock(now) else { return };
        let (count, scale) = (samples.len() as u64, self.tick_samples);
        let gap = self.sent.timestamp.map(|expected| u64::from(timestamp.wrapping_sub(expected)) * scale);
        let follows = gap.map(|gap| self.sent.end + gap).filter(|place| place.abs_diff(at) <= SENT_TOLERANCE * scale);
        let place = follows.unwrap_or(at).max(self.sent.end).max(self.base);
        self.write(place, samples, RIGHT);
        self.sent.end = place + count;
        self.sent.timestamp = Some(timestamp.wrapping_add((count / scale) as u32));
    }

    /// The agent has delivered the speech from one position of its queue to another, in ticks of 125 µs.
    pub fn handle_said(&mut self, from: u64, to: u64, now: Instant) {
        if let Some(at) = self.clock(now) {
            self.said.handle_delivery(from, to, at / self.tick_samples);
        }
    }

    /// What was queued is not going to be said.
    pub fn handle_cleared(&mut self, now: Instant) {
        if let Some(at) = self.clock(now) {
            self.said.handle_clear(at / self.tick_samples);
        }
    }

    /// The frame that has just left is the agent's speech from this position of its queue, in ticks of 125 µs.
    pub fn handle_played(&mut self, samples: &[i16], position: u64) {
        let Some(place) = self.said.place_of(position) else { return };
        let place = (place * self.tick_samples).max(self.said.end).max(self.base);
        self.said.end = place + samples.len() as u64;
        if self.is_paused {
            return;
        }
        let (before_seam, behind_seam) = self.fit(place, samples);
        let from = self.index(place);
        self.pending_said[from..from + before_seam.len()].copy_from_slice(before_seam);
        self.pending_said[..behind_seam.len()].copy_from_slice(behind_seam);
    }

    /// The call is over: what is left is given out. Nothing is taken any more.
    pub fn finish(&mut self) {
        self.is_over = true;
    }

    /// Fills `block` with the next stretch and returns its length in samples a track, or `None` while there is none. The
    /// first two thirds of what is filled are both sides in turn, the rest is the agent's track.
    ///
    /// A stretch is [`BLOCK_SAMPLES`] long; behind [`Recording::finish`] the last may be shorter.
    pub fn poll_block(&mut self, block: &mut Block, now: Instant) -> Option<usize> {
        let clock = self.clock(now)?;
        let end = self.base + BLOCK_SAMPLES;
        let count = if self.is_over {
            let last = self.heard.end.max(self.sent.end).max(self.said.end);
            last.saturating_sub(self.base).min(BLOCK_SAMPLES) as usize
        } else {
            let is_past = |track_end: u64| track_end >= end || clock >= end + PATIENCE * self.tick_samples;
            if is_past(self.heard.end) && is_past(self.sent.end) { BLOCK_SAMPLES as usize } else { 0 }
        };
        if count == 0 {
            return None;
        }
        // The rings are a whole number of blocks, so that a block never wraps.
        let from = self.index(self.base);
        let sides = &mut self.pending[from * 2..(from + count) * 2];
        block[..count * 2].copy_from_slice(sides);
        sides.fill(0);
        let said = &mut self.pending_said[from..from + count];
        block[count * 2..count * 3].copy_from_slice(said);
        said.fill(0);
        self.base += count as u64;
        self.heard.expected = self.heard.expected.max(self.base);
        Some(count)
    }

    /// When a block is due although a track has nothing for it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = (self.base + BLOCK_SAMPLES) / self.tick_samples + PATIENCE;
        self.started.filter(|_| !self.is_over).map(|started| started + Duration::from_micros(due * 125 + 124))
    }

    /// Sound ahead of the clock by more than the tolerance came late and all at once: its beginning belongs into the
    /// silence in front of it.
    fn catch_up(&mut self, at: u64) {
        let Heard { end, expected, run, run_before, .. } = self.heard;
        let ahead = expected.saturating_sub(at);
        let shift = ahead.min(run.saturating_sub(run_before.max(self.base)));
        if ahead <= TOLERANCE * self.tick_samples || shift == 0 {
            return;
        }
        for place in run..end {
            let from = self.index(place) * 2 + LEFT;
            let to = self.index(place - shift) * 2 + LEFT;
            self.pending[to] = std::mem::take(&mut self.pending[from]);
        }
        self.heard.end -= shift;
        self.heard.expected -= shift;
        self.heard.run -= shift;
        self.heard.arrivals = 0;
    }

    fn clock(&self, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.started?);
        Some(elapsed.as_micros() as u64 * self.tick_samples / 125)
    }

    /// Writes one track's samples where there is room for them.
    fn write(&mut self, place: u64, samples: &[i16], track: usize) {
        if self.is_paused {
            return;
        }
        let (before_seam, behind_seam) = self.fit(place, samples);
        let from = self.index(place);
        for (sides, sample) in self.pending[from * 2..].as_chunks_mut::<2>().0.iter_mut().zip(before_seam) {
            sides[track] = *sample;
        }
        for (sides, sample) in self.pending.as_chunks_mut::<2>().0.iter_mut().zip(behind_seam) {
            sides[track] = *sample;
        }
    }

    /// What there is room for of samples at a place, cut where the rings begin anew.
    fn fit<'a>(&self, place: u64, samples: &'a [i16]) -> (&'a [i16], &'a [i16]) {
        let size = self.pending_said.len();
        let room = (self.base + size as u64).saturating_sub(place);
        let count = samples.len().min(room as usize);
        samples[..count].split_at(count.min(size - self.index(place)))
    }

    /// Where a place is in a ring, in samples a track.
    fn index(&self, place: u64) -> usize {
        (place % self.pending_said.len() as u64) as usize
    }
}

impl Heard {
    /// A packet has arrived: the next sound is moved where the clock says, if it has strayed.
    fn handle_arrival(&mut self, at: u64, scale: u64) {
        let behind = at as i64 - self.expected as i64;
        // The first packet begins where it arrives, and so does whatever comes behind a break.
        if behind > BREAK * scale as i64 || self.end == 0 {
            (self.expected, self.arrivals) = (at, 0);
            return;
        }
        self.behind_min = if self.arrivals == 0 { behind } else { self.behind_min.min(behind) };
        self.arrivals += 1;
        if self.arrivals >= WINDOW {
            if self.behind_min.unsigned_abs() > TOLERANCE * scale {
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

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// 200 ms a block at 8 kHz, 100 ms at 16 kHz: five or ten writes a second and call.
pub const BLOCK_SAMPLES: u64 = 1600;

/// Three tracks.
pub const BLOCK_VALUES: usize = 3 * BLOCK_SAMPLES as usize;

/// 800 ms are pending at the most, 38 kB a call at 8 kHz: a block, the patience with it, and 300 ms that sound may be
/// ahead of the clock when a network lets go of what it held up. Sound beyond is lost from the recording.
const PENDING_TICKS: u64 = 4 * BLOCK_SAMPLES;

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
mod tests;
