//! Telephone events (RFC 4733): keys that travel as packets of their own.

mod sender;

use std::time::{Duration, Instant};

pub use sender::{EventFrame, EventSender, PRESS, PRESS_MAX, PRESSES_MAX};

/// Recognises key presses in a stream of telephone-event payloads.
///
/// A digit is its event's first timestamp: reported at the first packet seen of it and never again, whatever is lost,
/// repeated or segmented.
#[derive(Debug)]
pub struct EventReceiver {
    /// Of the event's timestamps and durations, in hertz; it need not be the audio's.
    clock_rate: u32,
    current: Option<Event>,
    /// When the last packet of the current event came.
    heard_at: Option<Instant>,
    /// The time between two updates, as their durations tell.
    interval: u16,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    code: u8,
    /// Of the first segment's or the latest segment's first packet.
    timestamp: u32,
    duration: u16,
    has_ended: bool,
}

impl EventReceiver {
    /// Reads timestamps and durations by a clock, in hertz: 8,000 or 48,000.
    pub fn new(clock_rate: u32) -> Self {
        EventReceiver { clock_rate, current: None, heard_at: None, interval: 0 }
    }

    /// Takes one payload; returns the key if this is the first packet of its press.
    pub fn handle_payload(&mut self, timestamp: u32, marker: bool, payload: &[u8], now: Instant) -> Option<char> {
        let [code, flags, high, low, ..] = *payload else { return None };
        let duration = u16::from_be_bytes([high, low]);
        let has_ended = flags & 0x80 != 0;
        let event = Event { code, timestamp, duration, has_ended };
        let Some(current) = &mut self.current else { return self.begin(event, now) };
        if current.timestamp == timestamp {
            let step = duration.saturating_sub(current.duration);
            if step > 0 {
                self.interval = if self.interval == 0 { step } else { self.interval.min(step) };
            }
            current.duration = current.duration.max(duration);
            current.has_ended |= has_ended;
            self.heard_at = Some(now);
            return None;
        }
        let age = timestamp.wrapping_sub(current.timestamp);
        if age > u32::MAX - self.clock_rate.saturating_mul(STRAGGLER_MAX_S) {
            // A straggler of an earlier event, or of the segment before.
            return None;
        }
        if current.is_continued_by(&event, marker, self.clock_rate) {
            *current = event;
            self.heard_at = Some(now);
            return None;
        }
        self.begin(event, now)
    }

    /// Tells whether audio that comes now is the sound of a key that is down. Without its end packets a key is let go
    /// when three updates have failed to come (RFC 4733 §2.5.2.2).
    pub fn is_muting(&self, now: Instant) -> bool {
        let is_held = self.current.is_some_and(|event| !event.has_ended);
        is_held && self.heard_at.is_some_and(|at| now < at + self.patience())
    }

    /// Another timeline begins, of the same source or another. What was pressed before tells nothing of what comes, but
    /// for a key of the same source that is still down.
    pub fn handle_restart(&mut self, is_same_source: bool, now: Instant) {
        let is_recent = self.heard_at.is_some_and(|at| now < at + RESTART_MAX);
        if !(is_same_source && is_recent && self.current.is_some_and(|event| !event.has_ended)) {
            self.current = None;
        }
    }

    /// The peers have agreed on another clock, in hertz.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        if clock_rate != self.clock_rate {
            *self = EventReceiver::new(clock_rate);
        }
    }

    fn patience(&self) -> Duration {
        let interval = match self.interval {
            0 => INTERVAL_USUAL,
            units => Duration::from_micros(u64::from(units) * 1_000_000 / u64::from(self.clock_rate.max(1))),
        };
        (interval * 3).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    fn begin(&mut self, event: Event, now: Instant) -> Option<char> {
        self.current = Some(event);
        self.heard_at = Some(now);
        KEYS.get(usize::from(event.code)).map(|key| char::from(*key))
    }
}

impl Default for EventReceiver {
    fn default() -> Self {
        EventReceiver::new(8000)
    }
}

impl Event {
    /// Tells whether another event is this one's next segment (RFC 4733 §2.5.2.3): the same key, not let go, from where
    /// the duration was full.
    fn is_continued_by(&self, next: &Event, marker: bool, clock_rate: u32) -> bool {
        let age = next.timestamp.wrapping_sub(self.timestamp);
        let units = |ms: u32| clock_rate / 1000 * ms;
        next.code == self.code
            && !marker
            && !self.has_ended
            && age <= DURATION_MAX + units(SEGMENT_LATE_MS)
            && age + units(SEGMENT_EARLY_MS) >= DURATION_MAX
            && age <= u32::from(self.duration) + units(SEGMENT_UNHEARD_MS)
    }
}

/// RFC 4733 §3.2, events 0 to 15.
const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// The largest duration: 8.19 s at 8 kHz, 1.365 s at 48 kHz. A key that is down for longer has segments.
const DURATION_MAX: u32 = 0xffff;

/// 10 s: an event further back is none of this timeline; the sender has begun another.
const STRAGGLER_MAX_S: u32 = 10;

/// 250 ms: a segment ends when its duration is full, and senders that stop short of it do so by a few updates.
const SEGMENT_EARLY_MS: u32 = 250;

/// 60 ms: a sender whose segments end with an update that no longer fits.
const SEGMENT_LATE_MS: u32 = 60;

/// 500 ms: what may have been lost at the end of a segment and the beginning of the next. A key that was pressed twice
/// is down for so long, let go and pressed again without one of three end packets arriving only where nothing does.
const SEGMENT_UNHEARD_MS: u32 = 500;

/// The spacing of updates that RFC 4733 §2.5.1.2 recommends.
const INTERVAL_USUAL: Duration = Duration::from_millis(50);

/// 60 ms: three updates of 20 ms.
const PATIENCE_MIN: Duration = Duration::from_millis(60);

/// 300 ms: a caller who speaks again is not kept waiting for longer.
const PATIENCE_MAX: Duration = Duration::from_millis(300);

/// 2 s: a burst of loss from which the same source comes back with the same key down.
const RESTART_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
