//! Keys that are pressed for a leg's far end: as telephone events, as tones, or by whoever sends INFO.

use std::time::{Duration, Instant};

use super::RtpSession;
use super::digits::Way;
use crate::audio::dtmf::DtmfGenerator;
use crate::audio::playout::Packing;
use crate::rtp::dtmf::{EventFrame, EventSender};
use crate::sdp::{DtmfMode, Negotiated};

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
#[derive(Debug, Default)]
pub(super) struct Keys {
    events: EventSender,
    tones: Option<Box<DtmfGenerator>>,
    samples: Vec<i16>,
}

/// What takes a frame's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFrame {
    /// An event's packet.
    Packet { payload: [u8; 4], timestamp: u32, marker: bool },
    /// No packet at all.
    Pause,
    /// The frame holds a tone, or the silence behind it.
    Tone,
}

impl Keys {
    pub(super) fn new(negotiated: &Negotiated) -> Self {
        let mut keys = Keys::default();
        keys.agree(negotiated);
        keys
    }

    /// The peers have agreed anew.
    pub(super) fn agree(&mut self, negotiated: &Negotiated) {
        let clock_rate = negotiated.telephone_event.map_or(8000, |event| event.clock_rate);
        self.events.agree(clock_rate, Duration::from_millis(negotiated.ptime_ms.into()));
        // What sounds in another codec's rate is cut off.
        self.tones = None;
    }

    /// Presses a key for so long.
    pub(super) fn press(&mut self, key: char, held: Duration, negotiated: &Negotiated) -> Pressed {
        let is_taken = match negotiated.dtmf {
            DtmfMode::Info => return if KEYS.contains(key) { Pressed::ByInfo } else { Pressed::Refused },
            mode if mode.is_pressed_in_audio(negotiated.telephone_event.is_some()) => {
                let rate = negotiated.codec.rate().hertz();
                self.tones.get_or_insert_with(|| Box::new(DtmfGenerator::new(rate))).press(key, held)
            }
            _ => negotiated.telephone_event.is_some() && self.events.press(key, held),
        };
        if is_taken { Pressed::OnTheLine } else { Pressed::Refused }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.events.is_busy() || self.tones.is_some()
    }

    /// What goes out in place of the next frame, which has this timestamp.
    pub(super) fn take(&mut self, timestamp: u32, packing: Packing, frame: &mut Vec<u8>) -> KeyFrame {
        match (self.events.take(timestamp), &mut self.tones) {
            (Some(EventFrame::Packet { payload, timestamp, marker }), _) => {
                KeyFrame::Packet { payload, timestamp, marker }
            }
            (None, Some(tones)) => {
                self.samples.clear();
                self.samples.resize(packing.ticks as usize * packing.form.rate().tick_samples(), 0);
                tones.fill(&mut self.samples);
                if !tones.is_busy() {
                    self.tones = None;
                }
                frame.clear();
                packing.form.encode(&self.samples, frame);
                KeyFrame::Tone
            }
            (Some(EventFrame::Pause) | None, _) => KeyFrame::Pause,
        }
    }
}

impl RtpSession {
    /// Tells whether what was heard last is the tone of a key, where keys come as tones.
    pub fn is_key_sounding(&self) -> bool {
        self.input.digits.is_sounding()
    }

    /// Presses a key for so long: the far end gets it in place of audio, behind those that wait, or [by
    /// INFO](Pressed::ByInfo).
    pub fn press(&mut self, key: char, held: Duration) -> Pressed {
        self.output.keys.press(key, held, &self.negotiated)
    }

    /// Tells whether [`RtpSession::press`] makes a tone in the audio.
    pub fn presses_in_audio(&self) -> bool {
        self.negotiated.dtmf.is_pressed_in_audio(self.negotiated.telephone_event.is_some())
    }

    /// The far end has pressed a key by SIP INFO; [`Heard::Digit`](super::Heard::Digit) tells of it, unless the line has
    /// already.
    pub fn handle_info_digit(&mut self, key: char, now: Instant) {
        self.input.digits.handle_key(key, Way::Info, now);
    }

    /// Tells whether the last [`Heard::Digit`](super::Heard::Digit) sounds in the audio too: whoever hears the audio needs
    /// no other tone.
    pub fn is_digit_audible(&self) -> bool {
        self.input.digits.is_audible()
    }

    pub(super) fn listen_for_keys(&mut self) {
        let Negotiated { telephone_event, dtmf, codec, .. } = &self.negotiated;
        let is_in_audio = dtmf.is_heard_in_audio(telephone_event.is_some());
        self.input.digits.listen(is_in_audio.then(|| codec.rate().hertz()));
        self.input.receiver.set_event_clock(telephone_event.map_or(8000, |event| event.clock_rate));
    }
}

const KEYS: &str = "0123456789*#ABCD";
