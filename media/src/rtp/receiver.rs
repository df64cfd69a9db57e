//! The receiving half of one RTP stream: packets in whatever order they come, a gapless timeline out.
//!
//! ```text
//!   in order ────────────────────────────────▶ Audio, at once
//!   hole: waits at most 60 ms ── filled ─────▶ Audio
//!                             └─ not filled ─▶ Lost (to be concealed)
//!   timestamp jumps, sequence does not ──────▶ Pause (discontinuous transmission)
//!   nothing comes ───────────────────────────▶ Silence every 20 ms; late audio is played, the surplus saved later
//! ```
//!
//! The timeline follows RTP timestamps: what is handed out adds up to them, plus a surplus that is never above 200 ms.
//! The wall clock bounds it: a timestamp that jumps while no time passes is another timeline and fills in 200 ms at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtp_rs::RtpReader;

use super::dtmf::EventReceiver;
use super::figures::Reception;
use crate::codec::Codec;
use crate::codec::comfort_noise::ComfortNoise;
use crate::sdp::Numbered;

/// What the stream's payload types mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypes {
    /// The agreed audio codec's.
    pub audio: Numbered,
    /// The codec: how long its payloads play, and in which clock.
    pub codec: Codec,
    /// telephone-event's, if it was agreed on.
    pub telephone_event: Option<Numbered>,
    /// Comfort noise's, if it was agreed on.
    pub comfort_noise: Option<u8>,
}

impl PayloadTypes {
    fn kind(&self, number: u8) -> Kind {
        match number {
            audio if self.audio.is(audio) => Kind::Audio,
            event if self.telephone_event.is_some_and(|agreed| agreed.is(event)) => Kind::Event,
            noise if self.comfort_noise == Some(noise) => Kind::Noise,
            _ => Kind::Other,
        }
    }
}

/// Receives one stream.
#[derive(Debug)]
pub struct Receiver {
    payload_types: PayloadTypes,
    slots: [Slot; SLOTS],
    waiting: usize,
    stream: Option<Stream>,
    /// A source or sequence that may take over, and the sequence number that would prove it.
    probation: Option<(u32, u16)>,
    events: EventReceiver,
    digits: VecDeque<char>,
    reception: Reception,
    /// What the far end's line sounds like while it sends nothing, since it has said so.
    noise: Option<ComfortNoise>,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    /// Timestamp units in 125 µs.
    tick_units: u32,
    next_sequence: u16,
    next_timestamp: u32,
    /// Sequence numbers have been given up since the last audio.
    has_hole: bool,
    /// To when the audio and silence handed out suffice.
    covered_until: Instant,
    /// Silence handed out that the timestamps have not caught up with, in timestamp units.
    surplus: u32,
    /// The peers have agreed anew since the last audio.
    is_resumed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    kind: Option<Kind>,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    arrived: Option<Instant>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio,
    Event,
    Noise,
    /// A payload type nobody agreed on: it fills its sequence number.
    Other,
}

/// The next stretch of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The payload buffer holds it.
    Audio,
    /// So many timestamp units were lost; conceal them.
    Lost(usize),
    /// So many timestamp units were not sent: the far end had nothing to say (RFC 3389).
    Pause(usize),
    /// Nothing has come for so many timestamp units, or a key was heard in their place.
    Silence(usize),
    /// A key was pressed.
    Digit(char),
}

/// A packet that was not taken. Count it; nothing else is to be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum Rejected {
    /// Not RTP version 2, or cut short.
    #[error("not an RTP packet")]
    NotRtp,
    /// Its payload is empty or above [`PAYLOAD_BYTES_MAX`].
    #[error("payload empty or too long")]
    Payload,
    /// It has been here before, or comes after its time.
    #[error("duplicate or late")]
    Late,
    /// Another source, or a sequence far away, that has not proved itself.
    #[error("on probation")]
    Probation,
}

impl Receiver {
    /// Starts without a stream; the first packet begins one.
    pub fn new(payload_types: PayloadTypes) -> Self {
        Receiver {
            payload_types,
            slots: std::array::from_fn(|_| Slot::default()),
            waiting: 0,
            stream: None,
            probation: None,
            events: EventReceiver::default(),
            digits: VecDeque::new(),
            reception: Reception::new(payload_types.codec.clock_rate()),
            noise: None,
        }
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// [`Rejected`], whose variants say why.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) -> Result<(), Rejected> {
        let reader = RtpReader::new(packet).map_err(|_| Rejected::NotRtp)?;
        let payload = reader.payload();
        if payload.is_empty() || payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Rejected::Payload);
        }
        let kind = self.payload_types.kind(reader.payload_type());
        let sequence = u16::from(reader.sequence_number());
        self.place(reader.ssrc(), sequence, reader.timestamp(), kind, now)?;
        let slot = &mut self.slots[usize::from(sequence) % SLOTS];
        if slot.kind.is_some() {
            return Err(Rejected::Late);
        }
        slot.kind = Some(kind);
        slot.sequence = sequence;
        slot.timestamp = reader.timestamp();
        slot.marker = reader.mark();
        slot.arrived = Some(now);
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
        self.waiting += 1;
        self.reception.handle_packet(sequence, (kind == Kind::Audio).then(|| reader.timestamp()), now);
        Ok(())
    }

    /// The peers have agreed on other payload types; the stream goes on.
    pub fn renumber(&mut self, payload_types: PayloadTypes) {
        if payload_types.audio != self.payload_types.audio || payload_types.codec != self.payload_types.codec {
            // What waits is coded as it was agreed on before.
            self.forget_waiting();
            self.noise = None;
        }
        if payload_types.codec.clock_rate() != self.payload_types.codec.clock_rate() {
            // Timestamps of two clocks cannot be compared: the next packet begins another timeline.
            self.stream = None;
            self.reception = Reception::new(payload_types.codec.clock_rate());
        }
        if let Some(stream) = &mut self.stream {
            // Who was silent on hold has missed nothing.
            stream.is_resumed = true;
        }
        self.payload_types = payload_types;
    }

    /// The peers have agreed on a clock of telephone events, in hertz.
    pub fn set_event_clock(&mut self, clock_rate: u32) {
        self.events.set_clock_rate(clock_rate);
    }

    /// Returns the next stretch of the timeline; drain to `None`. `payload` is overwritten by [`Received::Audio`].
    pub fn poll_output(&mut self, payload: &mut Vec<u8>, now: Instant) -> Option<Received> {
        loop {
            let hole_since = self.hole_since();
            if let Some(digit) = self.digits.pop_front() {
                return Some(Received::Digit(digit));
            }
            let stream = self.stream.as_mut()?;
            let at = usize::from(stream.next_sequence) % SLOTS;
            match self.slots[at].kind {
                Some(Kind::Audio) => return self.take_audio(at, payload, now),
                Some(kind) => self.take_other(at, kind, now),
                None if self.waiting > 0 => {
                    if hole_since.is_some_and(|since| now < since + HOLE_WAIT) {
                        return None;
                    }
                    stream.has_hole = true;
                    stream.next_sequence = stream.next_sequence.wrapping_add(1);
                }
                None if now >= stream.covered_until + SILENCE_WAIT => {
                    stream.covered_until += FRAME;
                    let frame = FRAME_TICKS * stream.tick_units;
                    stream.surplus = (stream.surplus + frame).min(SURPLUS_COUNTED_MAX * stream.tick_units);
                    return Some(Received::Silence(frame as usize));
                }
                None => return None,
            }
        }
    }

    /// When [`Receiver::poll_output`] may have something without a packet coming.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stream = self.stream.as_ref()?;
        match self.hole_since() {
            Some(since) => Some(since + HOLE_WAIT),
            None => Some(stream.covered_until + SILENCE_WAIT),
        }
    }

    /// The payload of the packet behind a [`Received::Lost`], which comes next: it may make some of the loss good.
    pub fn next_payload(&self) -> Option<&[u8]> {
        let slot = &self.slots[usize::from(self.stream.as_ref()?.next_sequence) % SLOTS];
        (slot.kind == Some(Kind::Audio)).then_some(&slot.payload)
    }

    /// The noise of a far end that has said it falls silent, until it speaks again (RFC 3389).
    pub fn comfort_noise(&mut self) -> Option<&mut ComfortNoise> {
        self.noise.as_mut()
    }

    /// What a receiver report says of the stream.
    pub fn reception(&mut self) -> &mut Reception {
        &mut self.reception
    }

    /// The source of the stream, once there is one.
    pub fn ssrc(&self) -> Option<u32> {
        self.stream.map(|stream| stream.ssrc)
    }

    /// When the first of the packets behind the present hole came.
    fn hole_since(&self) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        self.slots.iter().filter(|slot| slot.kind.is_some()).filter_map(|slot| slot.arrived).min()
    }

    /// Decides whether a packet belongs to the stream, and makes room for it.
    fn place(&mut self, ssrc: u32, sequence: u16, timestamp: u32, kind: Kind, now: Instant) -> Result<(), Rejected> {
        let Some(stream) = &self.stream else {
            self.begin(ssrc, sequence, timestamp, now);
            return Ok(());
        };
        let ahead = sequence.wrapping_sub(stream.next_sequence);
        if ssrc == stream.ssrc && usize::from(ahead) < SLOTS {
            self.probation = None;
            return Ok(());
        }
        if ssrc == stream.ssrc && ahead > u16::MAX - MISORDER_MAX {
            return Err(Rejected::Late);
        }
        if ssrc == stream.ssrc && ahead < DROPOUT_MAX && kind != Kind::Other {
            self.skip_to(sequence);
            return Ok(());
        }
        if self.probation.replace((ssrc, sequence.wrapping_add(1))) != Some((ssrc, sequence)) {
            return Err(Rejected::Probation);
        }
        self.begin(ssrc, sequence, timestamp, now);
        Ok(())
    }

    /// A stream begins, or goes on somewhere else: nothing of the former one is waited for.
    fn begin(&mut self, ssrc: u32, sequence: u16, timestamp: u32, now: Instant) {
        self.forget_waiting();
        self.probation = None;
        let former = self.stream;
        self.events.handle_restart(former.is_some_and(|stream| stream.ssrc == ssrc), now);
        self.reception.begin(sequence);
        self.stream = Some(Stream {
            ssrc,
            tick_units: self.payload_types.codec.tick_units(),
            next_sequence: sequence,
            next_timestamp: timestamp,
            has_hole: false,
            covered_until: former.map_or(now, |stream| stream.covered_until.max(now)),
            surplus: 0,
            is_resumed: false,
        });
    }

    /// More is lost than the slots hold: what waits behind the hole is given up with it.
    fn skip_to(&mut self, sequence: u16) {
        self.forget_waiting();
        if let Some(stream) = &mut self.stream {
            stream.next_sequence = sequence;
            stream.has_hole = true;
        }
    }

    fn forget_waiting(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.kind = None);
        self.waiting = 0;
    }

    /// The next packet is audio: first what is missing before it, then itself.
    fn take_audio(&mut self, at: usize, payload: &mut Vec<u8>, now: Instant) -> Option<Received> {
        let stream = self.stream.as_mut()?;
        let slot = &mut self.slots[at];
        let gap = slot.timestamp.wrapping_sub(stream.next_timestamp);
        stream.next_timestamp = slot.timestamp;
        let is_other_timeline = gap > GAP_MAX * stream.tick_units;
        if gap > 0 && !is_other_timeline {
            // Silence handed out while nothing came stands for part of the gap already.
            let saved = gap.min(stream.surplus);
            stream.surplus -= saved;
            let samples = (gap - saved).min(stream.missing(now) + EARLY_MAX_TICKS * stream.tick_units);
            if samples > 0 {
                stream.cover(samples, now);
                let samples = samples as usize;
                return Some(if stream.has_hole { Received::Lost(samples) } else { Received::Pause(samples) });
            }
        }
        if std::mem::take(&mut stream.is_resumed) || is_other_timeline || slot.marker {
            // What begins here is not what was missing while silence was handed out.
            stream.surplus = 0;
        }
        slot.kind = None;
        self.waiting -= 1;
        stream.advance();
        let samples = self.payload_types.codec.ticks(&slot.payload) * stream.tick_units;
        stream.next_timestamp = slot.timestamp.wrapping_add(samples);
        self.noise = None;
        if stream.surplus > LATE_MAX_TICKS * stream.tick_units {
            // Its span was filled so long ago that playing it would only add delay.
            stream.surplus = stream.surplus.saturating_sub(samples);
            return Some(Received::Silence(0));
        }
        stream.cover(samples, now);
        // By when packets came: one that has waited for a hole in front of it is no later than its key.
        if self.events.is_muting(slot.arrived.unwrap_or(now)) {
            return Some(Received::Silence(samples as usize));
        }
        std::mem::swap(payload, &mut slot.payload);
        Some(Received::Audio)
    }

    fn take_other(&mut self, at: usize, kind: Kind, now: Instant) {
        let slot = &mut self.slots[at];
        slot.kind = None;
        self.waiting -= 1;
        if kind == Kind::Noise {
            self.noise = ComfortNoise::of_payload(&slot.payload).or(self.noise.take());
        }
        if kind == Kind::Event {
            let arrived = slot.arrived.unwrap_or(now);
            let digit = self.events.handle_payload(slot.timestamp, slot.marker, &slot.payload, arrived);
            if self.digits.len() < DIGITS_MAX {
                self.digits.extend(digit);
            }
        }
        if let Some(stream) = &mut self.stream {
            stream.advance();
        }
    }
}

impl Stream {
    /// A sequence number has been dealt with.
    fn advance(&mut self) {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.has_hole = false;
    }

    /// What the wall clock says has not been handed out, in timestamp units.
    fn missing(&self, now: Instant) -> u32 {
        let ticks = (now.saturating_duration_since(self.covered_until).as_micros() / 125).min(u128::from(GAP_MAX));
        ticks as u32 * self.tick_units
    }

    /// Audio or silence has been handed out.
    fn cover(&mut self, units: u32, now: Instant) {
        let time = Duration::from_micros(u64::from(units) * 125 / u64::from(self.tick_units));
        self.covered_until = self.covered_until.max(now) + time;
    }
}

/// 20 ms.
const FRAME: Duration = Duration::from_millis(20);

/// 20 ms, in ticks of 125 µs.
const FRAME_TICKS: u32 = 160;

/// 16 packets, 320 ms at 20 ms each: five times the longest wait.
const SLOTS: usize = 16;

/// 60 ms: three packets; what a repeat-and-fade can bridge.
pub const HOLE_WAIT: Duration = Duration::from_millis(60);

/// 60 ms after the last audio ends: jitter of 20 ms and 40 ms on top.
pub const SILENCE_WAIT: Duration = Duration::from_millis(60);

/// 200 ms: audio later than this is dropped.
const LATE_MAX_TICKS: u32 = 1600;

/// 200 ms: more than a packet that was held up and one that was not are ever apart.
const EARLY_MAX_TICKS: u32 = 1600;

/// 10 s: a timestamp that jumps further, or back, is another timeline and fills nothing in.
const GAP_MAX: u32 = 80_000;

/// 10 s, as [`GAP_MAX`]: silence beyond it can stand for no gap.
const SURPLUS_COUNTED_MAX: u32 = GAP_MAX;

/// 1,500 bytes, an Ethernet frame: 187 ms of G.711.
pub const PAYLOAD_BYTES_MAX: usize = 1500;

/// RFC 3550 A.1.
const MISORDER_MAX: u16 = 100;

/// RFC 3550 A.1: 3,000 packets, one minute.
const DROPOUT_MAX: u16 = 3000;

/// 32 keys wait at the most; a person presses ten a second.
const DIGITS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use rtp_rs::RtpPacketBuilder;

    use super::*;

    #[test]
    fn packets_in_order_are_released_at_once() {
        let mut line = Line::new();
        for at in 0..5 {
            assert_eq!(line.arrive(at), [Received::Audio]);
            assert_eq!(line.payload, vec![at as u8; 160]);
            line.pass(20);
        }
    }

    #[test]
    fn who_speaks_again_after_a_long_silence_is_heard_at_once() {
        // A clock that went on, one that stood still, and one that stood still on hold.
        for (jump, is_held) in [(20 * 8000, false), (0, true)] {
            let mut line = Line::new();
            line.arrive(0);
            for _ in 0..1000 {
                line.pass(20);
                line.poll();
            }
            if is_held {
                line.receiver.renumber(payload_types());
            }
            for at in 1..=50 {
                line.receive(at, u32::from(at) * 160 + jump, 0).expect("taken");
                let received = line.poll();
                assert!(received.contains(&Received::Audio), "packet {at} after a jump of {jump}: {received:?}");
                line.pass(20);
            }
        }
    }

    #[test]
    fn a_hole_is_waited_for_and_what_fills_it_restores_the_order() {
        let mut line = Line::new();
        line.arrive(0);
        assert_eq!(line.arrive(2), []);
        line.pass(59);
        assert_eq!(line.poll(), []);
        assert_eq!(line.arrive(1), [Received::Audio, Received::Audio]);
        assert_eq!(line.payload, vec![2; 160]);
    }

    #[test]
    fn a_hole_is_concealed_after_60_ms_and_a_late_packet_dropped() {
        let mut line = Line::new();
        line.arrive(0);
        line.arrive(2);
        assert_eq!(line.receiver.poll_timeout(), Some(line.now + HOLE_WAIT));
        line.pass(60);
        assert_eq!(line.poll(), [Received::Lost(160), Received::Audio]);
        assert_eq!(line.receive(1, 160, 0), Err(Rejected::Late));
        assert_eq!(line.arrive(3), [Received::Audio]);
    }

    #[test]
    fn a_duplicate_is_dropped_before_and_after_its_release() {
        let mut line = Line::new();
        line.arrive(0);
        line.arrive(2);
        assert_eq!(line.receive(2, 320, 0), Err(Rejected::Late));
        assert_eq!(line.receive(0, 0, 0), Err(Rejected::Late));
    }

    #[test]
    fn a_timestamp_jump_in_sequence_is_silence_and_not_loss() {
        let mut line = Line::new();
        line.arrive(0);
        line.receive(1, 160 + 800, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Pause(800), Received::Audio]);
    }

    #[test]
    fn a_timestamp_jump_while_no_time_passes_adds_no_more_than_200_ms() {
        let mut line = Line::new();
        line.arrive(0);
        line.pass(20);
        line.receive(1, 160 + 40_000, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Pause(1600), Received::Audio]);
        line.pass(20);
        line.receive(2, 160 + 40_160, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Audio]);
    }

    #[test]
    fn each_hole_waits_its_own_60_ms() {
        let mut line = Line::new();
        line.arrive(0);
        assert_eq!(line.arrive(2), []);
        line.pass(40);
        assert_eq!(line.arrive(4), []);
        line.pass(20);
        assert_eq!(line.poll(), [Received::Lost(160), Received::Audio]);
        line.pass(30);
        assert_eq!(line.arrive(3), [Received::Audio, Received::Audio], "90 ms behind the first, 50 behind its own");
    }

    #[test]
    fn keys_are_heard_on_whatever_timeline_a_new_source_or_sequence_brings() {
        let mut line = Line::new();
        line.receive(0, 3_000_000_000, 0).expect("taken");
        line.press(1, 3_000_000_160);
        assert_eq!(line.poll(), [Received::Audio, Received::Digit('7')]);
        line.ssrc = 2;
        // Behind the last key's timestamp in the modulo, but of another source.
        let _ = line.receive(900, 2_999_990_000, 0);
        line.receive(901, 2_999_990_160, 0).expect("taken");
        line.press(902, 2_999_990_320);
        assert!(line.poll().contains(&Received::Digit('7')));
        // The same source and sequence, but a timestamp base of its own.
        line.receive(903, 9_000, 0).expect("taken");
        line.press(904, 9_160);
        assert!(line.poll().contains(&Received::Digit('7')));
    }

    #[test]
    fn other_payload_types_take_over_in_the_same_stream() {
        let mut line = Line::new();
        line.arrive(0);
        line.receiver.renumber(PayloadTypes {
            audio: Numbered::alike(8),
            codec: Codec::Pcma,
            telephone_event: Some(Numbered::alike(96)),
            ..payload_types()
        });
        line.receive(1, 160, 8).expect("taken");
        assert_eq!(line.poll(), [Received::Audio]);
        line.receive(2, 320, 96).expect("taken");
        assert_eq!(line.poll(), [Received::Digit('2')], "the payload's first byte is its event");
    }

    #[test]
    fn a_line_that_falls_silent_is_filled_in_and_the_surplus_is_saved_from_the_gap() {
        let mut line = Line::new();
        line.arrive(0);
        line.pass(20 + 60 + 20 * 4);
        assert_eq!(line.poll(), [Received::Silence(160); 5]);
        // Speech goes on 200 ms after it stopped; 100 ms of that are written.
        line.receive(1, 160 + 1600, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Pause(800), Received::Audio]);
    }

    #[test]
    fn audio_that_was_held_up_briefly_is_played_and_long_ago_is_dropped() {
        let mut line = Line::new();
        line.arrive(0);
        line.pass(80 + 20 * 19);
        assert_eq!(line.poll().len(), 20);
        // 400 ms of silence stand in; of the backlog that comes at once, 200 ms are dropped.
        let mut played = 0;
        for at in 1..=20 {
            played += line.arrive(at).iter().filter(|received| **received == Received::Audio).count();
        }
        assert_eq!(played, 10);
    }

    #[test]
    fn another_source_takes_over_with_its_second_packet() {
        let mut line = Line::new();
        line.arrive(0);
        line.ssrc = 2;
        assert_eq!(line.receive(700, 9_000, 0), Err(Rejected::Probation));
        assert_eq!(line.receive(900, 9_000, 0), Err(Rejected::Probation));
        assert_eq!(line.receive(901, 9_160, 0), Ok(()));
        assert_eq!(line.poll(), [Received::Audio]);
    }

    #[test]
    fn sequence_and_timestamp_wrap_without_a_trace() {
        let mut line = Line::new();
        for at in 0..10u16 {
            let sequence = 65_531u16.wrapping_add(at);
            let timestamp = (u32::MAX - 799).wrapping_add(u32::from(at) * 160);
            line.receive(sequence, timestamp, 0).expect("taken");
            assert_eq!(line.poll(), [Received::Audio]);
            line.pass(20);
        }
    }

    #[test]
    fn a_key_is_heard_once_and_in_order_and_its_sound_is_muted() {
        let mut line = Line::new();
        line.arrive(0);
        line.event(1, false);
        assert_eq!(line.poll(), [Received::Digit('7')]);
        line.event(2, false);
        assert_eq!(line.poll(), []);
        line.receive(3, 160, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Silence(160)]);
        line.event(4, true);
        line.event(5, true);
        assert_eq!(line.poll(), []);
        line.receive(6, 320, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Audio]);
    }

    #[test]
    fn ten_minutes_of_a_bad_network_add_up_to_ten_minutes() {
        for seed in 1..=20u32 {
            let mut network = Network::new(seed);
            let mut line = Line::new();
            let (mut samples, mut audio) = (0usize, 0usize);
            for (at_ms, sequence) in network.schedule(30_000) {
                while line.elapsed_ms() < at_ms {
                    line.pass(1);
                    samples += line.count(&mut audio);
                }
                let _ = line.receive(sequence, u32::from(sequence) * 160, 0);
                samples += line.count(&mut audio);
            }
            let elapsed = line.elapsed_ms() as usize * 8;
            assert!(samples.abs_diff(elapsed) < 3200, "seed {seed}: {samples} samples in {elapsed}");
            assert!(audio > 30_000 * 90 / 100, "seed {seed}: only {audio} packets were heard");
        }
    }

    #[test]
    fn hostile_bytes_neither_panic_nor_grow() {
        let mut random = 0x1234_5678u32;
        let mut line = Line::new();
        for _ in 0..20_000 {
            let packet: Vec<u8> = (0..(next(&mut random) % 64) as usize)
                .map(|at| if at == 0 { 0x80 | (next(&mut random) % 64) as u8 } else { (next(&mut random) >> 7) as u8 })
                .collect();
            let _ = line.receiver.handle_packet(&packet, line.now);
            line.pass(u64::from(next(&mut random) % 30));
            assert!(line.poll().len() < 64);
        }
    }

    fn payload_types() -> PayloadTypes {
        PayloadTypes {
            audio: Numbered::alike(0),
            codec: Codec::Pcmu,
            telephone_event: Some(Numbered::alike(101)),
            comfort_noise: Some(13),
        }
    }

    struct Line {
        receiver: Receiver,
        payload: Vec<u8>,
        start: Instant,
        now: Instant,
        ssrc: u32,
    }

    impl Line {
        fn new() -> Self {
            let now = Instant::now();
            let receiver = Receiver::new(payload_types());
            Line { receiver, payload: Vec::new(), start: now, now, ssrc: 1 }
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        fn elapsed_ms(&self) -> u64 {
            (self.now - self.start).as_millis() as u64
        }

        fn receive(&mut self, sequence: u16, timestamp: u32, payload_type: u8) -> Result<(), Rejected> {
            let packet = RtpPacketBuilder::new()
                .payload_type(payload_type)
                .ssrc(self.ssrc)
                .sequence(sequence.into())
                .timestamp(timestamp)
                .payload(&[sequence as u8; 160])
                .build()
                .expect("a packet");
            self.receiver.handle_packet(&packet, self.now)
        }

        fn event(&mut self, sequence: u16, end: bool) {
            let packet = RtpPacketBuilder::new()
                .payload_type(101)
                .ssrc(self.ssrc)
                .sequence(sequence.into())
                .timestamp(160)
                .payload(&[7, if end { 0x8a } else { 0x0a }, 1, 0])
                .build()
                .expect("a packet");
            self.receiver.handle_packet(&packet, self.now).expect("taken");
        }

        /// A whole press of the key 7 in its end packet.
        fn press(&mut self, sequence: u16, timestamp: u32) {
            let packet = RtpPacketBuilder::new()
                .payload_type(101)
                .ssrc(self.ssrc)
                .sequence(sequence.into())
                .timestamp(timestamp)
                .payload(&[7, 0x8a, 3, 32])
                .build()
                .expect("a packet");
            self.receiver.handle_packet(&packet, self.now).expect("taken");
        }

        fn arrive(&mut self, at: u16) -> Vec<Received> {
            self.receive(at, u32::from(at) * 160, 0).expect("taken");
            self.poll()
        }

        fn poll(&mut self) -> Vec<Received> {
            std::iter::from_fn(|| self.receiver.poll_output(&mut self.payload, self.now)).collect()
        }

        fn count(&mut self, audio: &mut usize) -> usize {
            self.poll()
                .into_iter()
                .map(|received| match received {
                    Received::Audio => {
                        *audio += 1;
                        160
                    }
                    Received::Lost(samples) | Received::Pause(samples) | Received::Silence(samples) => samples,
                    Received::Digit(_) => 0,
                })
                .sum()
        }
    }

    /// Loses 5 % of the packets, doubles 1 %, delays each by up to 40 ms.
    struct Network(u32);

    impl Network {
        fn new(seed: u32) -> Self {
            Network(seed.wrapping_mul(2_654_435_761) | 1)
        }

        fn schedule(&mut self, packets: u16) -> Vec<(u64, u16)> {
            let mut arrivals = Vec::new();
            for sequence in 0..packets {
                let sent = u64::from(sequence) * 20;
                if next(&mut self.0) % 100 < 5 {
                    continue;
                }
                arrivals.push((sent + u64::from(next(&mut self.0) % 40), sequence));
                if next(&mut self.0).is_multiple_of(100) {
                    arrivals.push((sent + u64::from(next(&mut self.0) % 40), sequence));
                }
            }
            arrivals.sort_unstable();
            arrivals
        }
    }

    fn next(random: &mut u32) -> u32 {
        *random ^= *random << 13;
        *random ^= *random >> 17;
        *random ^= *random << 5;
        *random
    }
}
