//! The playout queue and its clock: what an agent says, paced onto the wire.
//!
//! Agents deliver seconds of audio in milliseconds, or frame by frame with jitter. Either way the phone must get one
//! packet every 20 ms.
//!
//! ```text
//!            push                                    deadline, deadline + 20 ms, …
//!   agent ─────────▶ [ queue in the leg's form ] ─────────▶ one frame ─▶ RTP
//!                          │ empty at a deadline
//!                          ├─ audio comes within 30 ms: it leaves at once, the deadlines stay
//!                          └─ nothing came: comfort noise on the wall clock; the talk spurt has ended
//! ```
//!
//! The 20 ms grid belongs to the leg: the first frame of a talk spurt sets its phase. RTP timestamps never overlap and
//! never run backwards; what filler and speech have sent twice is a debt that the next pause drains.
//!
//! A frame is a packet's worth: 20 ms, or what the far end has asked for. The queue is kept in the form that the leg's
//! codec is made from ([`Packing`]): G.711 as it is sent, everything else as samples, because a codec that remembers has
//! to code what is really sent in the order it is sent, noise and barge-in included. Time is counted in ticks of 125 µs
//! throughout; only a frame's timestamp is in the units of the codec's RTP clock.

use std::time::{Duration, Instant};

use super::convert::Converter;
use super::frame::Form;
use super::lateness::Lateness;
use super::pool::SpeechPool;
pub use super::speech_queue::NotQueued;
use super::speech_queue::SpeechQueue;

/// Paces one leg's outgoing audio.
#[derive(Debug)]
pub struct Playout {
    queue: SpeechQueue,
    /// What is queued comes out in the leg's form.
    converter: Converter,
    packing: Packing,
    phase: Phase,
    started: Instant,
    /// The RTP timestamp of `started`.
    origin: u32,
    /// Where the next frame stands, in ticks since `started`.
    position: u64,
    cushion: Duration,
    lateness: Lateness<LATENESS_BINS>,
    pushed_ticks: u64,
    taken_ticks: u64,
    /// What is queued waits, because the caller may be interrupting.
    is_paused: bool,
}

/// How a leg's audio is cut up and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// What it is kept in.
    pub form: Form,
    /// RTP clock units a tick: 1 at 8,000 Hz, 6 at 48,000 Hz.
    pub tick_units: u32,
    /// A packet's length in ticks of 125 µs: 160 is 20 ms.
    pub ticks: u32,
}

impl Packing {
    /// The time a packet plays for.
    pub fn frame(self) -> Duration {
        Duration::from_micros(u64::from(self.ticks) * TICK_MICROS)
    }

    /// A packet's bytes in the form it is kept in.
    pub fn frame_bytes(self) -> usize {
        self.ticks as usize * self.form.tick_bytes()
    }
}

/// Where the leg is between speech and silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing to say: comfort noise is due at the instant.
    Pause { due: Instant },
    /// Speech: a frame is due at the instant, late ones are held for.
    Spurt { due: Instant, first: bool },
}

/// What [`Playout::take`] put into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The RTP timestamp of its first sample.
    pub timestamp: u32,
    /// Where it stands on the leg's own clock, in ticks since its start.
    pub position: u64,
    /// The first frame of a talk spurt (RFC 3551 §4.1).
    pub marker: bool,
    /// Speech or comfort noise.
    pub kind: FrameKind,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The agent's audio; the buffer holds it.
    Speech,
    /// Nothing to say; the buffer is untouched and the leg fills in its own noise.
    ComfortNoise,
}

impl Playout {
    /// Starts in a pause, with comfort noise due at once, at the given RTP timestamp.
    pub fn new(timestamp: u32, packing: Packing, pool: SpeechPool, now: Instant) -> Self {
        Playout {
            queue: SpeechQueue::new(pool),
            converter: Converter::new(packing.form),
            packing,
            phase: Phase::Pause { due: now },
            started: now,
            origin: timestamp,
            position: 0,
            cushion: Duration::ZERO,
            lateness: Lateness::new(LATENESS_WINDOW),
            pushed_ticks: 0,
            taken_ticks: 0,
            is_paused: false,
        }
    }

    /// Queues speech, already in the leg's form; what is left of a tick at its end is not heard.
    ///
    /// # Errors
    /// [`NotQueued`]; nothing is queued then.
    pub fn push(&mut self, bytes: &[u8], now: Instant) -> Result<(), NotQueued> {
        let ticks = self.packing.form.ticks(bytes.len());
        let was_short = !self.has_frame();
        self.queue.push(self.packing.form, &bytes[..ticks * self.packing.form.tick_bytes()])?;
        self.pushed_ticks += ticks as u64;
        if was_short && self.has_frame() {
            self.handle_arrival(now);
        }
        Ok(())
    }

    /// The leg's codec or its packets' length have changed: what is queued is said in the new one. Another clock counts on
    /// from where it would stand if it had run from the start.
    pub fn repack(&mut self, packing: Packing) {
        self.converter.set_form(packing.form);
        self.packing = packing;
    }

    /// How the leg's audio is cut up.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Goes on after nothing was taken for a while: what is queued begins a talk spurt of its own.
    pub fn resume(&mut self, now: Instant) {
        if let Phase::Spurt { due, .. } = self.phase {
            self.phase = Phase::Spurt { due: due.max(now), first: true };
        }
    }

    /// Has what is queued wait behind comfort noise, from the next deadline on, until [`Playout::unpause`] or
    /// [`Playout::clear`].
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Goes on behind a pause: what waits begins a talk spurt of its own, where it was stopped.
    pub fn unpause(&mut self) {
        self.is_paused = false;
    }

    /// Forgets all queued speech, for barge-in. Frames already taken are gone; the wire falls silent at the next deadline.
    pub fn clear(&mut self) {
        self.is_paused = false;
        self.queue.clear();
        self.taken_ticks = self.pushed_ticks;
    }

    /// Forgets all queued speech and counts on from where another playout had come to.
    pub fn follow(&mut self, pushed: u64) {
        self.pushed_ticks = pushed;
        self.clear();
    }

    /// Puts the frame that is due into `payload`, in the leg's form, or returns `None` when none is due.
    ///
    /// Call again until `None`: after a late wake-up at most two frames are due together.
    pub fn take(&mut self, payload: &mut Vec<u8>, now: Instant) -> Option<Frame> {
        if self.is_paused {
            return self.pass(now);
        }
        match self.phase {
            Phase::Pause { due } => (due <= now).then(|| self.take_noise(due, now)),
            Phase::Spurt { due, .. } if due > now => None,
            Phase::Spurt { due, first } => {
                if self.has_frame() {
                    return Some(self.take_speech(payload, due, first, now));
                }
                if now < due + HOLD {
                    return None;
                }
                // The spurt is over. Its last, partial frame is still owed.
                if self.queue.ticks() > 0 {
                    let frame = self.take_speech(payload, due, first, now);
                    self.begin_pause(now);
                    return Some(frame);
                }
                self.begin_pause(now);
                self.take(payload, now)
            }
        }
    }

    /// Gives the place of the frame that is due to something else, or returns `None` when none is due. What is queued
    /// waits, and begins a talk spurt of its own behind it.
    pub fn pass(&mut self, now: Instant) -> Option<Frame> {
        let due = self.due();
        if due > now {
            return None;
        }
        let frame = self.take_noise(due, now);
        if self.queue.ticks() > 0 {
            self.phase = Phase::Spurt { due: self.due(), first: true };
        }
        Some(frame)
    }

    /// When the next frame's place is.
    pub fn due(&self) -> Instant {
        match self.phase {
            Phase::Pause { due } | Phase::Spurt { due, .. } => due,
        }
    }

    /// When to call [`Playout::take`] next.
    pub fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Pause { due } => due,
            Phase::Spurt { due, .. } if self.is_paused => due,
            Phase::Spurt { due, .. } if self.has_frame() => due,
            Phase::Spurt { due, .. } => due + HOLD,
        }
    }

    /// Speech pushed so far, in ticks: the position a mark set now stands at.
    pub fn pushed(&self) -> u64 {
        self.pushed_ticks
    }

    /// Speech that has left the queue for the wire or was cleared, in ticks. A mark at or below has been reached.
    pub fn played(&self) -> u64 {
        self.taken_ticks
    }

    /// Speech waiting, in time.
    pub fn queued(&self) -> Duration {
        Duration::from_micros(self.queue.ticks() as u64 * TICK_MICROS)
    }

    /// Extra delay in front of each talk spurt, against the agent's arrival jitter. 0 to 40 ms.
    pub fn cushion(&self) -> Duration {
        self.cushion
    }

    fn has_frame(&self) -> bool {
        self.queue.ticks() >= self.packing.ticks as usize
    }

    /// A whole frame has come into an empty queue.
    fn handle_arrival(&mut self, now: Instant) {
        match self.phase {
            Phase::Pause { .. } => {
                self.cushion = self.lateness.p99().min(CUSHION_MAX);
                self.phase = Phase::Spurt { due: now + self.cushion, first: true };
            }
            Phase::Spurt { due, first } => {
                // Lateness counts against the grid without the cushion.
                self.lateness.record((now + self.cushion).saturating_duration_since(due));
                let wanted = self.lateness.p99().min(CUSHION_MAX);
                if wanted > self.cushion + CUSHION_STEP {
                    self.phase = Phase::Spurt { due: due + (wanted - self.cushion), first };
                    self.cushion = wanted;
                }
            }
        }
    }

    /// Takes a frame of speech, the last of it padded with silence.
    fn take_speech(&mut self, payload: &mut Vec<u8>, due: Instant, first: bool, now: Instant) -> Frame {
        let Packing { form, ticks, .. } = self.packing;
        let taken = self.queue.ticks().min(ticks as usize);
        payload.clear();
        self.queue.take(taken, &mut self.converter, payload);
        payload.resize(self.packing.frame_bytes(), form.silence());
        self.taken_ticks += taken as u64;
        if first {
            self.position = self.position.max(self.wall_position(now));
        }
        let frame = self.next_frame(first, FrameKind::Speech);
        // Two frames leave together at the most. Where a third is due as well the thread has slept, and the grid moves.
        let next = due + self.packing.frame();
        let next = if next + self.packing.frame() <= now { now } else { next };
        self.phase = Phase::Spurt { due: next, first: false };
        frame
    }

    fn take_noise(&mut self, due: Instant, now: Instant) -> Frame {
        // A thread that slept through more than a hold sends no backlog of noise: the grid moves.
        let due = if due + HOLD < now {
            self.position = self.position.max(self.wall_position(now));
            now
        } else {
            due
        };
        self.phase = Phase::Pause { due: due + self.packing.frame() };
        self.next_frame(false, FrameKind::ComfortNoise)
    }

    fn next_frame(&mut self, marker: bool, kind: FrameKind) -> Frame {
        // Truncation is the modulo that RTP timestamps live in.
        let units = (self.position as u32).wrapping_mul(self.packing.tick_units);
        let frame = Frame { timestamp: self.origin.wrapping_add(units), position: self.position, marker, kind };
        self.position += u64::from(self.packing.ticks);
        frame
    }

    /// The spurt is over. The first noise is due when the wall clock reaches its timestamp, which drains any debt.
    fn begin_pause(&mut self, now: Instant) {
        self.queue.shrink();
        let wall = self.wall_position(now);
        self.position = self.position.max(wall);
        let debt = self.position - wall;
        self.phase = Phase::Pause { due: now + Duration::from_micros(debt * TICK_MICROS) };
    }

    fn wall_position(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_micros() as u64 / TICK_MICROS
    }
}

/// The time one frame plays for where the far end wishes nothing else.
pub const FRAME: Duration = Duration::from_millis(20);

/// 20 ms, in ticks of 125 µs.
pub const FRAME_TICKS: u32 = 160;

/// What all audio is counted in.
const TICK_MICROS: u64 = 125;

/// 30 ms: a frame one and a half periods late is no longer the same talk spurt; a phone's jitter buffer takes 40 ms.
pub const HOLD: Duration = Duration::from_millis(30);

/// 40 ms: two frames; beyond that a listener notices the delay more than the jitter.
pub const CUSHION_MAX: Duration = Duration::from_millis(40);

/// 2 ms: two shard slots, so that our own wake-up grid never raises the cushion.
const CUSHION_STEP: Duration = Duration::from_millis(2);

/// 0 to 40 ms in steps of 1 ms, the last bin for all above.
const LATENESS_BINS: usize = 42;

/// 1,000 frames, 20 s of speech: what the 99th percentile looks back on, halved then.
const LATENESS_WINDOW: u16 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::SampleRate;
    use crate::audio::speech_queue::{QUEUE_TICKS_MAX, RESERVE_STEP};

    #[test]
    fn a_burst_of_two_seconds_leaves_one_frame_each_20_ms() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; 100 * FRAME_BYTES], bench.start).expect("room");
        let sent = bench.run(Duration::from_secs(2));
        let speech: Vec<_> = sent.iter().filter(|(_, frame)| frame.kind == FrameKind::Speech).collect();
        assert_eq!(speech.len(), 100);
        assert!(speech[0].1.marker && speech[1..].iter().all(|(_, frame)| !frame.marker));
        for pair in speech.windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, FRAME);
            assert_eq!(pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), FRAME_TICKS);
        }
    }

    #[test]
    fn the_first_frame_of_a_spurt_leaves_at_once_and_sets_the_phase() {
        let mut bench = Bench::new();
        bench.run(Duration::from_millis(47));
        let at = bench.now;
        bench.playout.push(&[7; 2 * FRAME_BYTES], at).expect("room");
        let sent = bench.run(Duration::from_millis(30));
        assert_eq!(sent[0].0, at);
        assert!(sent[0].1.marker);
        assert_eq!(sent[1].0, at + FRAME);
    }

    #[test]
    fn a_frame_late_by_less_than_the_hold_leaves_at_once_and_moves_no_deadline() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; FRAME_BYTES], bench.start).expect("room");
        bench.run(Duration::from_millis(45)); // due at 20 ms, 25 ms late
        bench.playout.push(&[7; 2 * FRAME_BYTES], bench.now).expect("room");
        let sent = bench.run(Duration::from_millis(1));
        assert_eq!(sent.len(), 2, "the held frame, and the one due at 40 ms");
        assert!(sent.iter().all(|(_, frame)| frame.kind == FrameKind::Speech));
        assert_eq!(bench.playout.deadline(), bench.start + 3 * FRAME + HOLD);
    }

    #[test]
    fn silence_past_the_hold_is_comfort_noise_and_ends_the_spurt() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; FRAME_BYTES], bench.start).expect("room");
        let sent = bench.run(Duration::from_millis(200));
        assert_eq!(sent[1].0, bench.start + FRAME + HOLD);
        assert!(sent[1..].iter().all(|(_, frame)| frame.kind == FrameKind::ComfortNoise));
        bench.playout.push(&[7; FRAME_BYTES], bench.now).expect("room");
        assert!(bench.run(Duration::from_millis(1))[0].1.marker, "a spurt of its own");
    }

    #[test]
    fn comfort_noise_keeps_50_packets_a_second_however_late_its_thread_wakes() {
        let mut bench = Bench::new();
        let (mut random, mut sent, mut payload) = (1u32, Vec::new(), Vec::new());
        let end = bench.start + Duration::from_secs(60);
        while bench.playout.deadline() < end {
            // As the shard's grid of 1 ms, and a loaded machine on top: 0 to 15 ms behind each deadline.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bench.now = bench.playout.deadline() + Duration::from_micros(u64::from(random >> 16) * 15_000 / 65_536);
            while let Some(frame) = bench.playout.take(&mut payload, bench.now) {
                sent.push(frame.timestamp);
            }
        }
        assert!((2999..=3001).contains(&sent.len()), "{} packets in 60 s", sent.len());
        assert!(
            sent.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == FRAME_TICKS),
            "one timestamp after the other"
        );
    }

    #[test]
    fn a_late_tick_is_caught_up_with_two_packets_at_the_most_and_paced_again() {
        for seed in 1..=50u32 {
            let mut bench = Bench::new();
            let (mut random, mut payload, mut sent) = (seed, Vec::new(), 0);
            bench.playout.push(&[7; 500 * FRAME_BYTES], bench.start).expect("room");
            let mut last: Option<u32> = None;
            while bench.playout.queued() >= FRAME {
                // A thread that is held up for anything from nothing to 200 ms, now and then.
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let late = if (random >> 20).is_multiple_of(10) { random >> 8 & 0xff } else { 1 };
                bench.now = bench.now.max(bench.playout.deadline()) + Duration::from_millis(u64::from(late.min(200)));
                let mut together = 0;
                while let Some(frame) = bench.playout.take(&mut payload, bench.now) {
                    assert_eq!(frame.kind, FrameKind::Speech, "seed {seed}: there is speech to send");
                    let follows = last.is_none_or(|last| frame.timestamp == last.wrapping_add(FRAME_TICKS));
                    assert!(follows, "seed {seed}: speech has no gap in its timestamps");
                    last = Some(frame.timestamp);
                    (together, sent) = (together + 1, sent + 1);
                }
                assert!((1..=2).contains(&together), "seed {seed}: {together} packets at once");
            }
            assert_eq!(sent, 500, "seed {seed}: all of it was said");
        }
    }

    #[test]
    fn an_agent_that_stalls_in_the_middle_of_a_word_is_followed_by_comfort_noise_and_goes_on_in_a_spurt_of_its_own() {
        let mut bench = Bench::new();
        let mut sent = Vec::new();
        for turn in 0..20u64 {
            // 400 ms of speech frame by frame, then nothing for 300 ms.
            for _ in 0..20 {
                bench.playout.push(&[7; FRAME_BYTES], bench.now).expect("room");
                sent.extend(bench.run(FRAME));
            }
            let stalled = bench.run(Duration::from_millis(300));
            assert!(stalled.iter().all(|(_, frame)| frame.kind == FrameKind::ComfortNoise), "turn {turn}");
            assert!(stalled.len() >= 12, "turn {turn}: {} packets of noise", stalled.len());
            sent.extend(stalled);
        }
        let spurts = sent.iter().filter(|(_, frame)| frame.marker).count();
        assert_eq!(spurts, 20);
        let speech = sent.iter().filter(|(_, frame)| frame.kind == FrameKind::Speech).count();
        assert_eq!(speech, 400, "nothing is said twice or left out");
        assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 <= FRAME + HOLD), "never silent");
    }

    #[test]
    fn a_thread_that_slept_for_seconds_sends_no_backlog_of_noise() {
        let mut bench = Bench::new();
        let before = bench.run(Duration::from_millis(100)).last().expect("sent").1.timestamp;
        bench.now += Duration::from_secs(5);
        let sent = bench.run(Duration::from_millis(19));
        assert_eq!(sent.len(), 1);
        assert!(sent[0].1.timestamp.wrapping_sub(before) >= 40_000, "the timestamps have gone on");
    }

    #[test]
    fn timestamps_never_overlap_and_a_pause_drains_the_debt() {
        let mut bench = Bench::new();
        let mut end: Option<u32> = None;
        for step in 0..200 {
            // Spurts that begin at any phase of the noise before them.
            bench.playout.push(&[7; 3 * FRAME_BYTES], bench.now).expect("room");
            for (_, frame) in bench.run(Duration::from_millis(150 + step % 20)) {
                if let Some(end) = end {
                    assert!(frame.timestamp.wrapping_sub(end) < 1 << 31, "step {step} overlaps");
                }
                end = Some(frame.timestamp.wrapping_add(FRAME_TICKS));
            }
        }
        bench.run(Duration::from_millis(200));
        let ahead = end.expect("sent").wrapping_sub(bench.wall_timestamp()) as i32;
        assert!(ahead <= FRAME_TICKS as i32, "{ahead} samples ahead of the wall clock");
    }

    #[test]
    fn an_agent_with_jitter_ends_within_its_cushion() {
        let mut bench = Bench::new();
        let mut random = 1u32;
        let mut late = 0;
        for step in 0..30_000u64 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let jitter = Duration::from_micros(u64::from(random >> 16) * 16_000 / 65_536);
            let at = bench.start + FRAME * step as u32 + jitter;
            let sent = bench.run(at - bench.now);
            late += sent.iter().filter(|(_, frame)| step > 500 && frame.kind == FrameKind::ComfortNoise).count();
            bench.playout.push(&[7; FRAME_BYTES], at).expect("room");
        }
        assert_eq!(late, 0, "noise inside the spurt");
        // An early frame waits for the grid, by the whole spread of the jitter at the most; nothing waits behind it.
        let delay = bench.playout.deadline().saturating_duration_since(bench.now);
        assert!(bench.playout.queued() <= FRAME, "{:?} are queued", bench.playout.queued());
        assert!(delay <= bench.playout.cushion().max(Duration::from_millis(16)), "{delay:?} of delay");
        assert!(bench.playout.cushion() <= Duration::from_millis(17));
    }

    #[test]
    fn memory_goes_back_to_the_pool_after_a_long_speech_and_with_the_call() {
        let pool = SpeechPool::new(1 << 20);
        let mut bench = Bench::with_pool(pool.clone());
        bench.playout.push(&[7; 100_000], bench.start).expect("room");
        assert!(pool.left() <= (1 << 20) - 100_000);
        bench.run(Duration::from_secs(13));
        assert_eq!(pool.left(), (1 << 20) - RESERVE_STEP);
        drop(bench);
        assert_eq!(pool.left(), 1 << 20);
    }

    #[test]
    fn an_empty_pool_refuses_the_push_whole_and_harms_nobody_else() {
        let pool = SpeechPool::new(2 * RESERVE_STEP);
        let mut small = Bench::with_pool(pool.clone());
        let mut greedy = Bench::with_pool(pool.clone());
        small.playout.push(&[7; FRAME_BYTES], small.start).expect("room");
        assert_eq!(greedy.playout.push(&[7; 100_000], greedy.start), Err(NotQueued::PoolEmpty));
        assert_eq!(greedy.playout.pushed(), 0);
        small.playout.push(&[7; FRAME_BYTES], small.start).expect("still room");
        greedy.playout.push(&[7; FRAME_BYTES], greedy.start).expect("for a frame there is room");
        assert_eq!(pool.left(), 0);
    }

    #[test]
    fn speech_that_waited_out_a_hold_begins_a_spurt_of_its_own() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; 20 * FRAME_BYTES], bench.start).expect("room");
        let sent = bench.run(Duration::from_millis(50));
        let before = sent.last().expect("sent").1.timestamp;
        bench.now += Duration::from_secs(10);
        bench.playout.resume(bench.now);
        let sent = bench.run(Duration::from_millis(30));
        assert_eq!(sent.len(), 2, "no burst of what was due meanwhile");
        assert!(sent[0].1.marker);
        assert!(sent[0].1.timestamp.wrapping_sub(before) >= 80_000, "the timestamps have gone on");
    }

    #[test]
    fn another_codec_says_what_is_queued_in_its_own_form_and_clock() {
        let mut bench = Bench::new();
        let mut said = Vec::new();
        Form::Mulaw.encode(&[2000; 3 * FRAME_BYTES], &mut said);
        bench.playout.push(&said, bench.start).expect("room");
        let before = bench.run(Duration::from_millis(30));
        assert_eq!(bench.last_speech, said[..FRAME_BYTES]);
        bench.playout.repack(Packing { form: Form::Linear(SampleRate::Hz16000), tick_units: 6, ticks: FRAME_TICKS });
        let behind = bench.run(Duration::from_millis(20));
        assert_eq!((before.len(), behind.len()), (2, 1));
        assert_eq!(bench.last_speech.len(), 4 * FRAME_BYTES);
        let mut samples = Vec::new();
        Form::Linear(SampleRate::Hz16000).decode(&bench.last_speech, &mut samples);
        assert!(samples[200..].iter().all(|sample| sample.abs_diff(2000) < 60), "{samples:?}");
        let steps = bench.run(Duration::from_millis(60));
        assert!(steps.windows(2).all(|pair| pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp) >= 6 * FRAME_TICKS));
        assert_eq!(bench.playout.played(), bench.playout.pushed());
    }

    #[test]
    fn packets_of_the_far_end_s_length_leave_at_its_pace() {
        for (milliseconds, form, tick_units) in
            [(10, Form::Alaw, 1), (40, Form::Mulaw, 1), (60, Form::Linear(SampleRate::Hz16000), 6)]
        {
            let mut bench = Bench::new();
            let packing = Packing { form, tick_units, ticks: milliseconds * 8 };
            bench.playout.repack(packing);
            bench.playout.push(&vec![7; 8000 * form.tick_bytes()], bench.start).expect("room");
            let sent = bench.run(Duration::from_millis(900));
            let speech: Vec<_> = sent.iter().filter(|(_, frame)| frame.kind == FrameKind::Speech).collect();
            assert_eq!(speech.len() as u32, 900 / milliseconds + 1);
            for pair in speech.windows(2) {
                assert_eq!(pair[1].0 - pair[0].0, packing.frame());
                assert_eq!(pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), packing.ticks * tick_units);
            }
            assert_eq!(bench.last_speech.len(), packing.frame_bytes());
            assert_eq!(bench.playout.played(), u64::from(packing.ticks) * speech.len() as u64);
        }
    }

    #[test]
    fn clearing_silences_the_wire_at_the_next_deadline() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; 50 * FRAME_BYTES], bench.start).expect("room");
        bench.run(Duration::from_millis(90));
        bench.playout.clear();
        let sent = bench.run(Duration::from_millis(100));
        assert!(sent.iter().all(|(_, frame)| frame.kind == FrameKind::ComfortNoise));
        assert_eq!(bench.playout.played(), bench.playout.pushed());
    }

    #[test]
    fn a_pause_says_nothing_and_what_waits_goes_on_where_it_was_stopped() {
        let mut bench = Bench::new();
        let said: Vec<u8> = (0..20 * FRAME_BYTES).map(|at| (at / FRAME_BYTES) as u8).collect();
        bench.playout.push(&said, bench.start).expect("room");
        bench.run(Duration::from_millis(90));
        let (played, last) = (bench.playout.played(), bench.last_speech[0]);
        bench.playout.pause();
        let paused = bench.run(Duration::from_millis(400));
        assert_eq!(paused.len(), 20);
        assert!(paused.iter().all(|(_, frame)| frame.kind == FrameKind::ComfortNoise));
        assert!(paused.windows(2).all(|pair| pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp) == FRAME_TICKS));
        assert_eq!(bench.playout.played(), played, "nothing of it counts as said");
        bench.playout.unpause();
        let next = bench.run(Duration::from_millis(20));
        assert_eq!((next.len(), next[0].1.kind, next[0].1.marker), (1, FrameKind::Speech, true));
        assert_eq!(bench.last_speech, [last + 1; FRAME_BYTES], "nothing is said twice or left out");
        let rest = bench.run(Duration::from_secs(1));
        assert_eq!(rest.iter().filter(|(_, frame)| frame.kind == FrameKind::Speech).count(), 14);
    }

    #[test]
    fn what_is_said_behind_a_clearing_is_not_kept_waiting() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; 20 * FRAME_BYTES], bench.start).expect("room");
        bench.run(Duration::from_millis(90));
        bench.playout.pause();
        bench.run(Duration::from_millis(90));
        bench.playout.clear();
        bench.playout.push(&[9; FRAME_BYTES], bench.now).expect("room");
        bench.run(Duration::from_millis(20));
        assert_eq!(bench.last_speech, [9; FRAME_BYTES]);
    }

    #[test]
    fn a_partial_frame_is_padded_with_silence_when_the_spurt_ends() {
        let mut bench = Bench::new();
        bench.playout.push(&[7; FRAME_BYTES + 40], bench.start).expect("room");
        let sent = bench.run(Duration::from_millis(60));
        let speech = sent.iter().filter(|(_, frame)| frame.kind == FrameKind::Speech).count();
        assert_eq!(speech, 2);
        assert_eq!(bench.last_speech[39..42], [7, 0xff, 0xff]);
    }

    #[test]
    fn a_queue_beyond_its_bound_refuses_the_push_whole() {
        let mut playout = Playout::new(0, MULAW, SpeechPool::default(), Instant::now());
        playout.push(&vec![7; QUEUE_TICKS_MAX], Instant::now()).expect("room");
        assert_eq!(playout.push(&[7], Instant::now()), Err(NotQueued::QueueFull));
        assert_eq!(playout.pushed(), QUEUE_TICKS_MAX as u64);
    }

    const FRAME_BYTES: usize = 160;

    const MULAW: Packing = Packing { form: Form::Mulaw, tick_units: 1, ticks: FRAME_TICKS };

    struct Bench {
        playout: Playout,
        start: Instant,
        now: Instant,
        last_speech: Vec<u8>,
    }

    impl Bench {
        fn new() -> Self {
            Bench::with_pool(SpeechPool::default())
        }

        fn with_pool(pool: SpeechPool) -> Self {
            let start = Instant::now();
            Bench {
                playout: Playout::new(u32::MAX - 1000, MULAW, pool, start),
                start,
                now: start,
                last_speech: Vec::new(),
            }
        }

        fn wall_timestamp(&self) -> u32 {
            self.playout.origin.wrapping_add(self.playout.wall_position(self.now) as u32)
        }

        /// Jumps from deadline to deadline and collects what leaves.
        fn run(&mut self, time: Duration) -> Vec<(Instant, Frame)> {
            let end = self.now + time;
            let mut sent = Vec::new();
            let mut payload = Vec::new();
            loop {
                while let Some(frame) = self.playout.take(&mut payload, self.now) {
                    if frame.kind == FrameKind::Speech {
                        self.last_speech.clone_from(&payload);
                    }
                    sent.push((self.now, frame));
                }
                let next = self.playout.deadline();
                if next > end {
                    self.now = end;
                    return sent;
                }
                self.now = next;
            }
        }
    }
}
