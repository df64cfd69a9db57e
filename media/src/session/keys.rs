//! Keys that are pressed for a leg's far end: as telephone events, as tones, or by whoever sends INFO.

use std::time::Duration;

use super::DtmfMode;
use crate::audio::dtmf::DtmfGenerator;
use crate::rtp::dtmf::{EventFrame, EventSender};

/// What has become of a key that is to be pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressed {
    /// It goes out on the line, behind those that wait.
    OnTheLine,
    /// It is to be sent by SIP INFO.
    ByInfo,
    /// It is no key, or too many wait, or the line has no way for it.
    Refused,
}

/// The keys that wait for their turn on the line.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) events: EventSender,
    tones: Option<Box<DtmfGenerator>>,
}

/// What takes a frame's place.
#[derive(Debug)]
pub(super) enum KeyFrame {
    /// An event's packet.
    Packet { payload: [u8; 4], timestamp: u32, marker: bool },
    /// No packet at all.
    Pause,
    /// The samples hold a tone, or the silence behind it.
    Tone,
}

impl Keys {
    pub(super) fn new(events: EventSender) -> Self {
        Keys { events, tones: None }
    }

    /// Presses a key for so long, on a line whose audio has this rate, in hertz.
    pub(super) fn press(
        &mut self,
        key: char,
        held: Duration,
        mode: DtmfMode,
        has_events: bool,
        sample_rate: u32,
    ) -> Pressed {
        let is_taken = match mode {
            DtmfMode::Info => return if KEYS.contains(key) { Pressed::ByInfo } else { Pressed::Refused },
            DtmfMode::Auto | DtmfMode::Rfc4733 if has_events => self.events.press(key, held),
            DtmfMode::Rfc4733 => false,
            DtmfMode::Auto | DtmfMode::Inband => {
                let tones = self.tones.get_or_insert_with(|| Box::new(DtmfGenerator::new(sample_rate)));
                tones.press(key, held)
            }
        };
        if is_taken { Pressed::OnTheLine } else { Pressed::Refused }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.events.is_busy() || self.tones.is_some()
    }

    /// What goes out in place of the next frame, whose timestamp counts by the events' clock.
    pub(super) fn take(&mut self, timestamp: u32, samples: &mut [i16]) -> KeyFrame {
        match (self.events.take(timestamp), &mut self.tones) {
            (Some(EventFrame::Packet { payload, timestamp, marker }), _) => {
                KeyFrame::Packet { payload, timestamp, marker }
            }
            (None, Some(tones)) => {
                tones.fill(samples);
                if !tones.is_busy() {
                    self.tones = None;
                }
                KeyFrame::Tone
            }
            (Some(EventFrame::Pause) | None, _) => KeyFrame::Pause,
        }
    }
}

const KEYS: &str = "0123456789*#ABCD";
