//! Telephone events (RFC 4733): keys that travel as packets of their own.

use std::collections::VecDeque;

/// Recognises key presses in a stream of telephone-event payloads.
///
/// A digit is its event's first timestamp: reported at the first packet seen of it and never again, whatever is lost,
/// repeated or segmented.
#[derive(Debug, Default)]
pub struct EventReceiver {
    current: Option<Event>,
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
    /// Takes one payload; returns the key if this is the first packet of its press.
    pub fn handle_payload(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> Option<char> {
        let [code, flags, high, low, ..] = *payload else { return None };
        let duration = u16::from_be_bytes([high, low]);
        let has_ended = flags & 0x80 != 0;
        let event = Event { code, timestamp, duration, has_ended };
        let Some(current) = &mut self.current else { return self.begin(event) };
        if current.timestamp == timestamp {
            current.duration = current.duration.max(duration);
            current.has_ended |= has_ended;
            return None;
        }
        let age = timestamp.wrapping_sub(current.timestamp);
        if age > u32::MAX - STRAGGLER_MAX {
            // A straggler of an earlier event.
            return None;
        }
        let is_next_segment = code == current.code
            && !marker
            && !current.has_ended
            && age >= SEGMENT_MIN
            && age <= u32::from(current.duration).max(SEGMENT_MIN) + SEGMENT_SLACK;
        if is_next_segment {
            *current = event;
            return None;
        }
        self.begin(event)
    }

    /// Tells whether a key is being held.
    pub fn is_held(&self) -> bool {
        self.current.is_some_and(|event| !event.has_ended)
    }

    /// The stream has gone on without the end packets: the key was let go.
    pub fn release(&mut self) {
        if let Some(event) = &mut self.current {
            event.has_ended = true;
        }
    }

    fn begin(&mut self, event: Event) -> Option<char> {
        self.current = Some(event);
        KEYS.get(usize::from(event.code)).map(|key| char::from(*key))
    }
}

/// Sends key presses as telephone-event payloads, one packet a frame of the leg's own clock (RFC 4733 §2.5.1).
///
/// ```text
///   press ─▶ 7 updates of 20 ms ─▶ the end, three times ─▶ 40 ms of nothing ─▶ audio, or the next press
/// ```
#[derive(Debug, Default)]
pub struct EventSender {
    waiting: VecDeque<u8>,
    press: Option<Press>,
}

/// A press that is being sent.
#[derive(Debug)]
struct Press {
    event: u8,
    /// Of its first packet, and of all others.
    timestamp: u32,
    /// Packets and pauses sent so far.
    frames: u16,
}

/// What takes a frame's place while a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFrame {
    /// This payload, under this timestamp; with the marker if it is the first.
    Packet {
        /// RFC 4733 §2.3.
        payload: [u8; 4],
        /// The event's first timestamp.
        timestamp: u32,
        /// Set on the first packet (RFC 4733 §2.5.1.1).
        marker: bool,
    },
    /// Nothing.
    Pause,
}

impl EventSender {
    /// Sends a key behind those that wait; `false` when it is none, or [`PRESSES_MAX`] wait.
    pub fn press(&mut self, key: char) -> bool {
        let Some(event) = KEYS.iter().position(|known| char::from(*known) == key) else { return false };
        if self.waiting.len() >= PRESSES_MAX {
            return false;
        }
        // Sixteen events.
        self.waiting.push_back(event as u8);
        true
    }

    /// What goes out in place of the frame of this timestamp; `None` leaves it as it is.
    pub fn take(&mut self, timestamp: u32) -> Option<EventFrame> {
        if self.press.as_ref().is_none_or(|press| press.frames >= PRESS_FRAMES + END_PACKETS - 1 + PAUSE_FRAMES) {
            let event = self.waiting.pop_front();
            self.press = event.map(|event| Press { event, timestamp, frames: 0 });
        }
        let press = self.press.as_mut()?;
        press.frames += 1;
        if press.frames >= PRESS_FRAMES + END_PACKETS {
            return Some(EventFrame::Pause);
        }
        let [high, low] = (press.frames.min(PRESS_FRAMES) * FRAME_UNITS).to_be_bytes();
        let end = if press.frames >= PRESS_FRAMES { 0x80 } else { 0 };
        let payload = [press.event, end | VOLUME, high, low];
        Some(EventFrame::Packet { payload, timestamp: press.timestamp, marker: press.frames == 1 })
    }
}

/// RFC 4733 §3.2, events 0 to 15.
const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// 10 s at 8 kHz: an event further back is none of this timeline; the sender has begun another.
const STRAGGLER_MAX: u32 = 80_000;

/// 8 frames, 160 ms: receivers that filter by length want 40 ms at least; nobody dials faster than six keys a second.
const PRESS_FRAMES: u16 = 8;

/// Three (RFC 4733 §2.5.1.4), 20 ms apart, so that one burst of loss does not take them all.
const END_PACKETS: u16 = 3;

/// 2 frames: 40 ms between two presses.
const PAUSE_FRAMES: u16 = 2;

/// 20 ms of the 8 kHz clock.
const FRAME_UNITS: u16 = 160;

/// -10 dBm0, as phones send it (RFC 4733 §2.3.3).
const VOLUME: u8 = 10;

/// 32 presses, 8 s: a number with its area code and a PIN; what is beyond is dropped.
pub const PRESSES_MAX: usize = 32;

/// A segment ends when its 16-bit duration is full (RFC 4733 §2.5.1.3); senders stop within a packet or two of it.
const SEGMENT_MIN: u32 = 0xffff - 8000;

/// 200 ms at 8 kHz: two lost updates of 50 ms and some jitter of the sender's clock.
const SEGMENT_SLACK: u32 = 1600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_one_digit_whatever_is_lost_or_repeated() {
        // All subsets of a press's packets that keep at least one.
        let press = [(true, 0x0a, 160), (false, 0x0a, 320), (false, 0x8a, 480), (false, 0x8a, 480), (false, 0x8a, 480)];
        for kept in 1..1u32 << press.len() {
            let mut receiver = EventReceiver::default();
            let digits: String = (0..press.len())
                .filter(|at| kept & 1 << at != 0)
                .filter_map(|at| {
                    let (marker, flags, duration) = press[at];
                    receiver.handle_payload(9000, marker, &payload(5, flags, duration))
                })
                .collect();
            assert_eq!(digits, "5", "kept {kept:#b}");
        }
    }

    #[test]
    fn the_same_key_twice_is_two_digits() {
        let mut receiver = EventReceiver::default();
        assert_eq!(receiver.handle_payload(1000, true, &payload(10, 0x8a, 800)), Some('*'));
        assert_eq!(receiver.handle_payload(3000, false, &payload(10, 0x0a, 160)), Some('*'), "its marker was lost");
        assert_eq!(receiver.handle_payload(1000, false, &payload(10, 0x8a, 800)), None, "a straggler");
    }

    #[test]
    fn a_key_held_past_the_duration_s_range_is_still_one_digit() {
        let mut receiver = EventReceiver::default();
        let mut digits = Vec::new();
        for step in 1..=1000u32 {
            // 20 s at 8 kHz in updates of 20 ms; segments change when the duration would overflow.
            let (segment, duration) = (step * 160 / 65_440, step * 160 % 65_440);
            digits.extend(receiver.handle_payload(
                500 + segment * 65_440,
                step == 1,
                &payload(1, 0x0a, duration as u16),
            ));
        }
        assert_eq!(digits, ['1']);
        assert!(receiver.is_held());
    }

    #[test]
    fn what_is_no_key_or_no_event_says_nothing() {
        let mut receiver = EventReceiver::default();
        assert_eq!(receiver.handle_payload(0, true, &payload(16, 0, 160)), None, "hook flash");
        assert_eq!(receiver.handle_payload(0, true, &[1, 2, 3]), None, "three bytes");
    }

    #[test]
    fn what_the_sender_sends_the_receiver_reads_once_a_press() {
        let (mut sender, mut receiver) = (EventSender::default(), EventReceiver::default());
        assert!("1*1".chars().all(|key| sender.press(key)) && !sender.press('x'));
        let (mut digits, mut packets, mut pauses) = (String::new(), Vec::new(), 0);
        for frame in 0..50u32 {
            match sender.take(frame * 160) {
                Some(EventFrame::Packet { payload, timestamp, marker }) => {
                    digits.extend(receiver.handle_payload(timestamp, marker, &payload));
                    packets.push((timestamp, payload[1] & 0x80 != 0));
                }
                Some(EventFrame::Pause) => pauses += 1,
                None => {}
            }
        }
        assert_eq!((digits.as_str(), pauses), ("1*1", 6));
        let ends = packets.iter().filter(|(_, is_end)| *is_end).count();
        assert_eq!((packets.len(), ends, packets[29].0), (30, 9, 24 * 160));
    }

    #[test]
    fn a_flood_of_keys_is_cut_off() {
        let mut sender = EventSender::default();
        let taken = (0..100).filter(|_| sender.press('5')).count();
        assert_eq!(taken, PRESSES_MAX);
    }

    fn payload(code: u8, flags: u8, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [code, flags, high, low]
    }
}
