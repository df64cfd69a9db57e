//! The receiving half of one RTP stream: packets in whatever order they come, a gapless timeline out.
//!
//! ```text
//!   in order ────────────────────────────────▶ Audio, at once
//!   hole: waits as long as late packets take, 60 to 200 ms ── filled ─────▶ Audio
//!                                                          └─ not filled ─▶ Lost (to be concealed)
//!   timestamp jumps, sequence does not ──────▶ Pause (discontinuous transmission)
//!   nothing comes ───────────────────────────▶ Missing every 20 ms; late audio is played, the surplus saved later
//! ```
//!
//! Nothing is held back to smooth out jitter: who hears this has a clock of its own ([`crate::audio::playout`]), or none.
//!
//! The timeline follows RTP timestamps: what is handed out adds up to them, plus a surplus that is never above 200 ms.
//! The wall clock bounds it: a timestamp that jumps while no time passes is another timeline and fills in 200 ms at most.
//!
//! What it costs, by `cargo bench -p talkstack-media --bench packets` (release, 1 December 2026, at d110f90, 2 cores that
//! others used as well): a packet in order 88 ns, one of a swapped pair 92 ns, with one in ten lost 105 ns; parsing an RTP
//! header 6 ns, building a packet 17 ns; a leg with a packet each way, everything included, 1.7 µs.

mod history;
mod stream;
mod tally;
mod timing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtp_rs::RtpReader;

use super::dtmf::EventReceiver;
use super::figures::Reception;
use crate::codec::Codec;
use crate::codec::comfort_noise::ComfortNoise;
use crate::sdp::Numbered;
use history::History;
use stream::Stream;
pub use tally::Tally;
pub use timing::{Timing, WAIT_MIN};

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
    /// Payloads' memory that no slot needs, the last used on top: packets in order share one, which stays in the
    /// processor's cache. At most [`SLOTS`], and one that lies with whoever polls.
    spare: Vec<Vec<u8>>,
    stream: Option<Stream>,
    /// A source or sequence that may take over, and the sequence number that would prove it.
    probation: Option<(u32, u16)>,
    events: EventReceiver,
    digits: VecDeque<char>,
    reception: Reception,
    timing: Timing,
    history: History,
    tally: Tally,
    /// What the far end's line sounds like while it sends nothing, since it has said so.
    noise: Option<ComfortNoise>,
}

#[derive(Debug, Default)]
struct Slot {
    kind: Option<Kind>,
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
    /// Nothing has come for so many timestamp units; whether it was lost is not known yet.
    Missing(usize),
    /// A key was heard for so many timestamp units.
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
    /// It has been here before.
    #[error("duplicate")]
    Duplicate,
    /// It comes when its place has been given up.
    #[error("late")]
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
            spare: Vec::new(),
            stream: None,
            probation: None,
            events: EventReceiver::default(),
            digits: VecDeque::new(),
            reception: Reception::new(payload_types.codec.clock_rate()),
            timing: Timing::new(payload_types.codec.clock_rate()),
            history: History::default(),
            tally: Tally::default(),
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
            self.tally.duplicates += 1;
            return Err(Rejected::Duplicate);
        }
        slot.kind = Some(kind);
        slot.timestamp = reader.timestamp();
        slot.marker = reader.mark();
        slot.arrived = Some(now);
        if slot.payload.capacity() == 0 {
            slot.payload = self.spare.pop().unwrap_or_default();
        }
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
        self.waiting += 1;
        self.tally.received += 1;
        if kind == Kind::Audio {
            self.timing.handle_packet(reader.timestamp(), now);
        }
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
        let clock_rate = payload_types.codec.clock_rate();
        if clock_rate != self.payload_types.codec.clock_rate() {
            // Timestamps of two clocks cannot be compared: the next packet begins another timeline.
            self.stream = None;
            self.timing = Timing::new(clock_rate);
            self.reception = Reception::new(clock_rate);
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
            if let Some(digit) = self.digits.pop_front() {
                return Some(Received::Digit(digit));
            }
            let wait = self.timing.wait();
            let at = usize::from(self.stream.as_ref()?.next_sequence) % SLOTS;
            let kind = self.slots[at].kind;
            // Only where there is a hole are the slots looked through.
            let hole_since = if kind.is_none() { self.hole_since() } else { None };
            let stream = self.stream.as_mut()?;
            match kind {
                Some(Kind::Audio) => return self.take_audio(at, payload, now),
                Some(kind) => self.take_other(at, kind, now),
                None if self.waiting > 0 => {
                    if hole_since.is_some_and(|since| now < since + wait) {
                        return None;
                    }
                    stream.has_hole = true;
                    stream.next_sequence = stream.next_sequence.wrapping_add(1);
                    self.history.skip(1);
                    self.tally.handle_given_up();
                }
                None if now >= stream.covered_until + wait => {
                    let frame = stream.units(FRAME);
                    stream.covered_until += FRAME;
                    stream.surplus = (stream.surplus + frame).min(stream.units(GAP_MAX));
                    return Some(Received::Missing(frame as usize));
                }
                None => return None,
            }
        }
    }

    /// When [`Receiver::poll_output`] may have something without a packet coming.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stream = self.stream.as_ref()?;
        match self.hole_since() {
            Some(since) => Some(since + self.timing.wait()),
            None => Some(stream.covered_until + self.timing.wait()),
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

    /// Interarrival jitter in timestamp units.
    pub fn jitter(&self) -> u32 {
        self.reception.jitter()
    }

    /// What has become of its packets.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How late its packets come.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Tells whether there is silence to make up for by [`Receiver::save`].
    pub fn owes(&self) -> bool {
        self.stream.is_some_and(|stream| stream.surplus > 0)
    }

    /// Leaves a quiet stretch of audio out, so many timestamp units, in return for silence that was handed out while
    /// nothing came. `false` when there is nothing to make up for.
    pub fn save(&mut self, units: usize) -> bool {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.surplus >= units) else { return false };
        stream.surplus -= units;
        true
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
            if !self.history.recall(ahead.wrapping_neg()) {
                self.tally.duplicates += 1;
                return Err(Rejected::Duplicate);
            }
            self.tally.late += 1;
            if kind == Kind::Audio {
                self.timing.handle_late(timestamp, now);
            }
            return Err(Rejected::Late);
        }
        if ssrc == stream.ssrc && ahead < DROPOUT_MAX && kind != Kind::Other {
            self.skip_to(sequence, ahead);
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
        self.timing.restart();
        self.history = History::default();
        self.stream = Some(Stream {
            ssrc,
            clock_rate: self.payload_types.codec.clock_rate(),
            next_sequence: sequence,
            next_timestamp: timestamp,
            has_hole: false,
            covered_until: former.map_or(now, |stream| stream.covered_until.max(now)),
            surplus: 0,
            is_resumed: false,
        });
    }

    /// More is lost than the slots hold: what waits behind the hole is given up with it.
    fn skip_to(&mut self, sequence: u16, ahead: u16) {
        self.forget_waiting();
        self.history.skip(ahead);
        (0..ahead).for_each(|_| self.tally.handle_given_up());
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
        let is_other_timeline = gap > stream.units(GAP_MAX);
        if gap > 0 && !is_other_timeline {
            // Silence handed out while nothing came stands for part of the gap already.
            let saved = gap.min(stream.surplus);
            stream.surplus -= saved;
            let units = (gap - saved).min(stream.missing(now) + stream.units(EARLY_MAX));
            let has_hole = stream.has_hole;
            if has_hole {
                self.tally.concealed += u64::from(units + saved);
            }
            if units > 0 {
                stream.cover(units, now);
                let units = units as usize;
                return Some(if has_hole { Received::Lost(units) } else { Received::Pause(units) });
            }
        }
        if std::mem::take(&mut stream.is_resumed) || is_other_timeline || slot.marker {
            // What begins here is not what was missing while silence was handed out.
            stream.surplus = 0;
        }
        slot.kind = None;
        self.waiting -= 1;
        stream.advance();
        self.history.push();
        self.tally.handle_taken();
        let codec = self.payload_types.codec;
        let units = codec.ticks(&slot.payload) * codec.tick_units();
        stream.next_timestamp = slot.timestamp.wrapping_add(units);
        self.noise = None;
        if stream.surplus > stream.units(LATE_MAX) {
            // Its span was filled so long ago that playing it would only add delay.
            stream.surplus = stream.surplus.saturating_sub(units);
            return Some(Received::Silence(0));
        }
        stream.cover(units, now);
        // By when packets came: one that has waited for a hole in front of it is no later than its key.
        if self.events.is_muting(slot.arrived.unwrap_or(now)) {
            return Some(Received::Silence(units as usize));
        }
        std::mem::swap(payload, &mut slot.payload);
        self.spare.push(std::mem::take(&mut slot.payload));
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
        self.history.push();
        self.tally.handle_taken();
    }
}

/// 20 ms.
const FRAME: Duration = Duration::from_millis(20);

/// 32 packets, 640 ms at 20 ms each and 320 ms at 10 ms: more than the longest wait.
const SLOTS: usize = 32;

/// 200 ms: audio later than this is dropped.
const LATE_MAX: Duration = Duration::from_millis(200);

/// 200 ms: more than a packet that was held up and one that was not are ever apart.
const EARLY_MAX: Duration = Duration::from_millis(200);

/// 10 s: a timestamp that jumps further, or back, is another timeline and fills nothing in; silence beyond it can stand
/// for no gap.
const GAP_MAX: Duration = Duration::from_secs(10);

/// 1,500 bytes, an Ethernet frame: 187 ms of G.711.
pub const PAYLOAD_BYTES_MAX: usize = 1500;

/// RFC 3550 A.1.
const MISORDER_MAX: u16 = 100;

/// RFC 3550 A.1: 3,000 packets, one minute.
const DROPOUT_MAX: u16 = 3000;

/// 32 keys wait at the most; a person presses ten a second.
const DIGITS_MAX: usize = 32;

#[cfg(test)]
mod tests;
