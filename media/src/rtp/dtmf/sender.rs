//! Key presses as they are sent (RFC 4733 §2.5.1).

use std::collections::VecDeque;
use std::time::Duration;

use super::{DURATION_MAX, KEYS};

/// Sends key presses as telephone-event payloads, one packet for each frame of audio whose place it takes.
///
/// ```text
///   press ─▶ an update a frame ─▶ the end, three times ─▶ 40 ms of nothing ─▶ audio, or the next press
///                └─ the duration is full: said three times, and a segment begins where it ended (§2.5.1.3)
/// ```
#[derive(Debug)]
pub struct EventSender {
    /// In hertz.
    clock_rate: u32,
    /// Between two packets, 20 ms as a rule.
    frame: Duration,
    waiting: VecDeque<(u8, Duration)>,
    press: Option<Press>,
}

/// A press that is being sent.
#[derive(Debug)]
struct Press {
    event: u8,
    /// Of the segment's packets.
    timestamp: u32,
    /// How long the segment lasts so far, in units of the clock.
    units: u32,
    /// For how long the key stays down from here on, in units of the clock.
    left: u32,
    stage: Stage,
}

/// What the next frame of a press carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first packet.
    Pressed,
    /// An update.
    Held,
    /// The segment's full duration again, so often.
    Full(u8),
    /// The end again, so often.
    Released(u8),
    /// Nothing, so often.
    Pause(u8),
}

/// What takes a frame's place while a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFrame {
    /// This payload, under this timestamp; with the marker if it is the first.
    Packet {
        /// RFC 4733 §2.3.
        payload: [u8; 4],
        /// The segment's first timestamp.
        timestamp: u32,
        /// Set on the event's first packet (RFC 4733 §2.5.1.2).
        marker: bool,
    },
    /// Nothing.
    Pause,
}

impl EventSender {
    /// Sends in units of a clock, in hertz: 8,000 or 48,000; a packet for each frame of 10 to 60 ms.
    pub fn new(clock_rate: u32, frame: Duration) -> Self {
        let frame = frame.clamp(FRAME_MIN, FRAME_MAX);
        EventSender { clock_rate, frame, waiting: VecDeque::new(), press: None }
    }

    /// The peers have agreed on another clock or packet length; keys that wait go on with the next press.
    pub fn agree(&mut self, clock_rate: u32, frame: Duration) {
        (self.clock_rate, self.frame) = (clock_rate, frame.clamp(FRAME_MIN, FRAME_MAX));
    }

    /// Sends a key behind those that wait, held for [`PRESS`] to [`PRESS_MAX`]; `false` when it is none, or
    /// [`PRESSES_MAX`] wait.
    pub fn press(&mut self, key: char, held: Duration) -> bool {
        let Some(event) = KEYS.iter().position(|known| char::from(*known) == key) else { return false };
        if self.waiting.len() >= PRESSES_MAX {
            return false;
        }
        // Sixteen events.
        self.waiting.push_back((event as u8, held.clamp(PRESS, PRESS_MAX)));
        true
    }

    /// Tells whether the next frame's place is taken.
    pub fn is_busy(&self) -> bool {
        self.press.is_some() || !self.waiting.is_empty()
    }

    /// What goes out in place of the frame of this timestamp, which counts by the event's clock; `None` leaves it as it is.
    pub fn take(&mut self, timestamp: u32) -> Option<EventFrame> {
        if self.press.is_none() {
            let (event, held) = self.waiting.pop_front()?;
            // A minute of 48 kHz.
            let left = (held.as_millis() as u64 * u64::from(self.clock_rate) / 1000) as u32;
            self.press = Some(Press { event, timestamp, units: 0, left, stage: Stage::Pressed });
        }
        let press = self.press.as_mut()?;
        let frame_units = self.clock_rate / 1000 * self.frame.as_millis() as u32;
        let pause = PAUSE.as_millis().div_ceil(self.frame.as_millis()) as u8;
        let frame = press.take(frame_units, pause);
        if press.stage == Stage::Pause(0) {
            self.press = None;
        }
        Some(frame)
    }
}

impl Default for EventSender {
    fn default() -> Self {
        EventSender::new(8000, Duration::from_millis(20))
    }
}

impl Press {
    fn take(&mut self, frame_units: u32, pause: u8) -> EventFrame {
        let is_held = !matches!(self.stage, Stage::Released(_) | Stage::Pause(_));
        if is_held {
            let passed = frame_units.min(self.left);
            (self.units, self.left) = (self.units + passed, self.left - passed);
        }
        if self.stage == Stage::Full(0) {
            (self.timestamp, self.units) = (self.timestamp.wrapping_add(DURATION_MAX), self.units - DURATION_MAX);
            self.stage = Stage::Held;
        }
        let marker = self.stage == Stage::Pressed;
        let (duration, is_end) = match self.stage {
            Stage::Pause(left) => {
                self.stage = Stage::Pause(left - 1);
                return EventFrame::Pause;
            }
            Stage::Released(left) => {
                self.stage = if left > 1 { Stage::Released(left - 1) } else { Stage::Pause(pause) };
                (self.units, true)
            }
            Stage::Full(left) => {
                self.stage = Stage::Full(left - 1);
                (DURATION_MAX, false)
            }
            Stage::Pressed | Stage::Held if self.units > DURATION_MAX => {
                self.stage = Stage::Full(END_PACKETS - 1);
                (DURATION_MAX, false)
            }
            Stage::Pressed | Stage::Held => {
                let is_end = self.left == 0;
                self.stage = if is_end { Stage::Released(END_PACKETS - 1) } else { Stage::Held };
                (self.units, is_end)
            }
        };
        // Above the largest duration a segment ends.
        let [high, low] = (duration as u16).to_be_bytes();
        let end = if is_end { 0x80 } else { 0 };
        EventFrame::Packet { payload: [self.event, end | VOLUME, high, low], timestamp: self.timestamp, marker }
    }
}

/// 160 ms: receivers that filter by length want 40 ms at least; nobody dials faster than six keys a second.
pub const PRESS: Duration = Duration::from_millis(160);

/// One minute: nobody holds a key longer, and whoever asks for it has made a mistake.
pub const PRESS_MAX: Duration = Duration::from_secs(60);

/// 32 presses, 8 s: a number with its area code and a PIN; what is beyond is dropped.
pub const PRESSES_MAX: usize = 32;

/// Three (RFC 4733 §2.5.1.4), a frame apart, so that one burst of loss does not take them all.
const END_PACKETS: u8 = 3;

/// 40 ms and more between two presses.
const PAUSE: Duration = Duration::from_millis(40);

/// 10 ms: no codec of ours has shorter packets.
const FRAME_MIN: Duration = Duration::from_millis(10);

/// 60 ms: with a longer one a press would have two packets before its end.
const FRAME_MAX: Duration = Duration::from_millis(60);

/// -10 dBm0, as phones send it (RFC 4733 §2.3.3).
const VOLUME: u8 = 10;
