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

/// What the stream's payload types mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypes {
    /// The agreed audio codec's, one byte a sample at 8 kHz.
    pub audio: u8,
    /// telephone-event's, if it was agreed on.
    pub telephone_event: Option<u8>,
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
    last_event_at: Option<Instant>,
    digits: VecDeque<char>,
    reception: Reception,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    next_sequence: u16,
    next_timestamp: u32,
    /// Sequence numbers have been given up since the last audio.
    has_hole: bool,
    /// To when the audio and silence handed out suffice.
    covered_until: Instant,
    /// Silence handed out that the timestamps have not caught up with, in samples.
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
    /// A payload type nobody agreed on: it fills its sequence number.
    Other,
}

/// The next stretch of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The payload buffer holds it.
    Audio,
    /// So many samples were lost; conceal them.
    Lost(usize),
    /// So many samples were not sent: the far end had nothing to say (RFC 3389).
    Pause(usize),
    /// Nothing has come for so many samples, or a key was heard in their place.
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
            last_event_at: None,
            digits: VecDeque::new(),
            reception: Reception::default(),
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
        let kind = match reader.payload_type() {
            audio if audio == self.payload_types.audio => Kind::Audio,
            event if Some(event) == self.payload_types.telephone_event => Kind::Event,
            _ => Kind::Other,
        };
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
        if payload_types.audio != self.payload_types.audio {
            // What waits is coded as it was agreed on before.
            self.forget_waiting();
        }
        if let Some(stream) = &mut self.stream {
            // Who was silent on hold has missed nothing.
            stream.is_resumed = true;
        }
        self.payload_types = payload_types;
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
                    stream.surplus = (stream.surplus + FRAME_SAMPLES).min(SURPLUS_COUNTED_MAX);
                    return Some(Received::Silence(FRAME_SAMPLES as usize));
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
        if ssrc == stream.ssrc && ahead < DROPOUT_MAX && kind == Kind::Audio {
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
        // Another timeline: the timestamp of the last key tells nothing of the next one's.
        self.events = EventReceiver::default();
        self.reception.begin(sequence);
        self.stream = Some(Stream {
            ssrc,
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
        if gap > 0 && gap <= GAP_MAX {
            // Silence handed out while nothing came stands for part of the gap already.
            let saved = gap.min(stream.surplus);
            stream.surplus -= saved;
            let samples = (gap - saved).min(stream.missing(now) + EARLY_MAX_SAMPLES);
            if samples > 0 {
                stream.cover(samples, now);
                let samples = samples as usize;
                return Some(if stream.has_hole { Received::Lost(samples) } else { Received::Pause(samples) });
            }
        }
        if std::mem::take(&mut stream.is_resumed) || gap > GAP_MAX || slot.marker {
            // What begins here is not what was missing while silence was handed out.
            stream.surplus = 0;
        }
        slot.kind = None;
        self.waiting -= 1;
        stream.advance();
        let samples = slot.payload.len() as u32;
        stream.next_timestamp = slot.timestamp.wrapping_add(samples);
        if stream.surplus > LATE_MAX_SAMPLES {
            // Its span was filled so long ago that playing it would only add delay.
            stream.surplus = stream.surplus.saturating_sub(samples);
            return Some(Received::Silence(0));
        }
        stream.cover(samples, now);
        if self.events.is_held() && self.last_event_at.is_some_and(|at| now < at + EVENT_QUIET) {
            return Some(Received::Silence(samples as usize));
        }
        self.events.release();
        std::mem::swap(payload, &mut slot.payload);
        Some(Received::Audio)
    }

    fn take_other(&mut self, at: usize, kind: Kind, now: Instant) {
        let slot = &mut self.slots[at];
        slot.kind = None;
        self.waiting -= 1;
        if kind == Kind::Event {
            self.last_event_at = Some(now);
            let digit = self.events.handle_payload(slot.timestamp, slot.marker, &slot.payload);
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

    /// What the wall clock says has not been handed out, in samples.
    fn missing(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.covered_until).as_micros() / 125).min(u128::from(GAP_MAX)) as u32
    }

    /// Audio or silence has been handed out.
    fn cover(&mut self, samples: u32, now: Instant) {
        self.covered_until = self.covered_until.max(now) + Duration::from_micros(u64::from(samples) * 125);
    }
}

/// 20 ms.
const FRAME: Duration = Duration::from_millis(20);

/// 20 ms at 8 kHz.
const FRAME_SAMPLES: u32 = 160;

/// 16 packets, 320 ms at 20 ms each: five times the longest wait.
const SLOTS: usize = 16;

/// 60 ms: three packets; what a repeat-and-fade can bridge.
pub const HOLE_WAIT: Duration = Duration::from_millis(60);

/// 60 ms after the last audio ends: jitter of 20 ms and 40 ms on top.
pub const SILENCE_WAIT: Duration = Duration::from_millis(60);

/// 200 ms: audio later than this is dropped.
const LATE_MAX_SAMPLES: u32 = 1600;

/// 200 ms: more than a packet that was held up and one that was not are ever apart.
const EARLY_MAX_SAMPLES: u32 = 1600;

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

/// 60 ms without event packets: the key was let go and the end packets were lost.
const EVENT_QUIET: Duration = Duration::from_millis(60);

/// 32 keys wait at the most; a person presses ten a second.
const DIGITS_MAX: usize = 32;

#[cfg(test)]
mod tests;
