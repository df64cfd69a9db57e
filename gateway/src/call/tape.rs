//! A call's recording as the call sees it: both directions go in, blocks come out.

use std::time::Instant;

use talkstack_media::audio::recording::{Block, Origin, Recording};
use talkstack_media::session::{Heard, RtpSession};

use super::Call;

/// Records from the answer on, if the call is to be recorded at all.
#[derive(Debug, Default)]
pub(super) struct Tape {
    recording: Option<Box<Recording>>,
    answered: Option<Instant>,
    /// What is decoded of a packet that leaves; reused.
    samples: Vec<i16>,
}

impl Call {
    /// Records the call from its answer to its end. To be asked for before the first packet.
    pub fn record(&mut self) {
        let mut recording = Box::new(Recording::new());
        if let Some(answered) = self.tape.answered {
            recording.start(answered);
        }
        self.tape.samples.reserve(FRAME_SAMPLES);
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
                let origin = match frame.coded {
                    Some(_) => Origin::Arrived,
                    None if frame.samples.iter().all(|sample| *sample == 0) => Origin::Silence,
                    None => Origin::Concealed,
                };
                recording.handle_heard(frame.samples, origin, now);
            }
            Heard::Held(silence) => recording.handle_heard(silence.samples, Origin::Silence, now),
            Heard::Digit(_) => {}
        }
    }

    pub(super) fn handle_sent(&mut self, session: &RtpSession, packet: &[u8], now: Instant) {
        let Some(recording) = &mut self.recording else { return };
        if let Some((timestamp, codec, payload)) = session.sent_audio(packet) {
            self.samples.clear();
            codec.decode(payload, &mut self.samples);
            recording.handle_sent(&self.samples, timestamp, now);
        }
    }
}

/// 20 ms at 8 kHz: a packet's worth.
const FRAME_SAMPLES: usize = 160;
