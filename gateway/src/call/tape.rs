//! A call's recording as the call sees it: both directions go in, blocks come out.

use std::time::Instant;

use talkstack_media::audio::convert::RateConverter;
use talkstack_media::audio::frame::{SampleRate, Speech};
use talkstack_media::audio::recording::{Block, Origin, Recording};
use talkstack_media::session::{Heard, RtpSession};

use super::Call;

/// Records from the answer on, if the call is to be recorded at all.
#[derive(Debug)]
pub(super) struct Tape {
    recording: Option<Box<Recording>>,
    answered: Option<Instant>,
    /// The recording has 8 kHz, whatever the line has.
    heard: Track,
    sent: Track,
}

/// One direction at the recording's rate.
#[derive(Debug)]
struct Track {
    converter: RateConverter,
    samples: Vec<i16>,
}

impl Call {
    /// Records the call from its answer to its end. To be asked for before the first packet.
    pub fn record(&mut self) {
        let mut recording = Box::new(Recording::new(8000));
        if let Some(answered) = self.tape.answered {
            recording.start(answered);
        }
        self.tape.recording = Some(recording);
    }

    /// Fills `block` with the recording's next stretch and returns its length in samples a track; drain to `None`.
    pub fn poll_recorded(&mut self, block: &mut Block, now: Instant) -> Option<usize> {
        self.tape.recording.as_mut()?.poll_block(block, now)
    }

    /// When the call was answered, if it was.
    pub fn answered(&self) -> Option<Instant> {
        self.tape.answered
    }
}

impl Default for Tape {
    fn default() -> Self {
        let track =
            || Track { converter: RateConverter::new(SampleRate::Hz8000), samples: Vec::with_capacity(FRAME_SAMPLES) };
        Tape { recording: None, answered: None, heard: track(), sent: track() }
    }
}

impl Tape {
    pub(super) fn start(&mut self, now: Instant) {
        let answered = *self.answered.get_or_insert(now);
        if let Some(recording) = &mut self.recording {
            recording.start(answered);
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.finish();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.recording.as_ref()?.poll_timeout()
    }

    pub(super) fn handle_heard(&mut self, heard: &Heard<'_>, now: Instant) {
        let Some(recording) = &mut self.recording else { return };
        match heard {
            Heard::Audio(frame) => {
                let samples = self.heard.samples(Speech::Samples(frame.rate, frame.samples));
                recording.handle_heard(samples, frame.origin, now);
            }
            Heard::Held(silence) => {
                let samples = self.heard.samples(Speech::Samples(silence.rate, silence.samples));
                recording.handle_heard(samples, Origin::Silence, now);
            }
            Heard::Digit(_) => {}
        }
    }

    pub(super) fn handle_sent(&mut self, session: &RtpSession, packet: &[u8], now: Instant) {
        let Some(recording) = &mut self.recording else { return };
        if let Some((position, speech)) = session.sent_audio(packet) {
            recording.handle_sent(self.sent.samples(speech), position, now);
        }
    }
}

impl Track {
    fn samples(&mut self, speech: Speech<'_>) -> &[i16] {
        self.samples.clear();
        match speech {
            Speech::Coded(codec, bytes) => codec.decode(bytes, &mut self.samples),
            Speech::Samples(rate, samples) => self.converter.append(rate, samples, &mut self.samples),
        }
        &self.samples
    }
}

/// 20 ms at 8 kHz: a packet's worth.
const FRAME_SAMPLES: usize = 160;
