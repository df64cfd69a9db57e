//! A call's recording as the call sees it: what is heard, sent and said goes in, blocks come out.

use std::time::Instant;

use talkstack_control::port::CallEvent;
use talkstack_media::audio::convert::RateConverter;
use talkstack_media::audio::frame::{SampleRate, Speech};
use talkstack_media::audio::recording::{Block, Origin, Recording};
use talkstack_media::session::{Heard, RtpSession};

use super::{Call, CallOutput};

/// Records from the answer on, if the call is to be recorded at all.
#[derive(Debug, Default)]
pub(super) struct Tape {
    is_wanted: bool,
    answered: Option<Instant>,
    running: Option<Box<Running>>,
}

/// A recording at work: at the line's rate as it was answered, 8 or 16 kHz, whatever is agreed on later.
#[derive(Debug)]
struct Running {
    recording: Recording,
    heard: Track,
    sent: Track,
}

/// One direction at the recording's rate.
#[derive(Debug)]
struct Track {
    converter: RateConverter,
    decoded: Vec<i16>,
    samples: Vec<i16>,
}

impl Call {
    /// Records the call from its answer to its end. To be asked for before the first packet.
    pub fn record(&mut self) {
        self.tape.is_wanted = true;
        if let Some(answered) = self.tape.answered {
            self.tape.start(self.line_rate(), answered);
            if let Some(session) = &self.leg.session {
                // An agent that needs nobody has said its first words with the answer.
                self.tape.handle_said(session, session.played(), answered);
            }
        }
    }

    /// Fills `block` with the recording's next stretch and returns its length in samples a track; drain to `None`.
    pub fn poll_recorded(&mut self, block: &mut Block, now: Instant) -> Option<usize> {
        self.tape.running.as_mut()?.recording.poll_block(block, now)
    }

    /// Samples a second of what is recorded; 8,000 where nothing is.
    pub fn recorded_rate(&self) -> u32 {
        self.tape.running.as_ref().map_or(8000, |running| running.recording.sample_rate())
    }

    /// When the call was answered, if it was.
    pub fn answered(&self) -> Option<Instant> {
        self.tape.answered
    }

    /// Has silence stand for what is said, or records again; told to the journal when it changes anything, and `true`.
    pub(super) fn change_recording(&mut self, is_paused: bool, now: Instant) -> bool {
        let Some(running) = &mut self.tape.running else { return false };
        let recording = &mut running.recording;
        let changed = if is_paused { recording.pause(now) } else { recording.resume(now) };
        if let Some(at) = changed {
            // A call of 584 million years fits.
            let at_ms = at.as_millis() as u64;
            let event =
                if is_paused { CallEvent::RecordingPaused { at_ms } } else { CallEvent::RecordingResumed { at_ms } };
            self.outputs.push_back(CallOutput::Record(event));
        }
        changed.is_some()
    }

    /// The rate of the line as it was agreed on; 8 kHz before the far end has said anything.
    pub(super) fn line_rate(&self) -> SampleRate {
        self.leg.negotiation.agreed().map_or(SampleRate::Hz8000, |agreed| agreed.codec.rate())
    }
}

impl Tape {
    /// The call was answered; the recording has this rate if it has not begun.
    pub(super) fn start(&mut self, rate: SampleRate, now: Instant) {
        let answered = *self.answered.get_or_insert(now);
        if self.is_wanted && self.running.is_none() {
            let mut recording = Recording::new(rate.hertz());
            recording.start(answered);
            let track = || Track::new(rate);
            self.running = Some(Box::new(Running { recording, heard: track(), sent: track() }));
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some(running) = &mut self.running {
            running.recording.finish();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.running.as_ref()?.recording.poll_timeout()
    }

    pub(super) fn handle_heard(&mut self, heard: &Heard<'_>, now: Instant) {
        let Some(running) = &mut self.running else { return };
        let Running { recording, heard: track, .. } = &mut **running;
        match heard {
            Heard::Audio(frame) => {
                let samples = track.samples(Speech::Samples(frame.rate, frame.samples));
                recording.handle_heard(samples, frame.origin, now);
            }
            Heard::Held(silence) => {
                let samples = track.samples(Speech::Samples(silence.rate, silence.samples));
                recording.handle_heard(samples, Origin::Silence, now);
            }
            Heard::Digit(_) => {}
        }
    }

    /// A packet has left. Where it is the agent's speech, `played` is how far that had been played before it.
    pub(super) fn handle_sent(&mut self, session: &RtpSession, packet: &[u8], played: Option<u64>, now: Instant) {
        let Some(running) = &mut self.running else { return };
        let Running { recording, sent: track, .. } = &mut **running;
        let Some((position, speech)) = session.sent_audio(packet) else { return };
        let samples = track.samples(speech);
        recording.handle_sent(samples, position, now);
        if let Some(before) = played.filter(|before| *before < session.played()) {
            // Frames that need not be sent may lie in between.
            let ticks = samples.len() as u64 * 8000 / u64::from(recording.sample_rate());
            recording.handle_played(samples, before.max(session.played().saturating_sub(ticks)));
        }
    }

    /// The agent has delivered speech; so much had been queued before.
    pub(super) fn handle_said(&mut self, session: &RtpSession, queued: u64, now: Instant) {
        if let Some(running) = &mut self.running {
            running.recording.handle_said(queued, session.pushed(), now);
        }
    }

    /// What was queued is not going to be said.
    pub(super) fn handle_cleared(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.recording.handle_cleared(now);
        }
    }
}

impl Track {
    fn new(rate: SampleRate) -> Self {
        let frame = rate.hertz() as usize / 50;
        let room = || Vec::with_capacity(frame);
        Track { converter: RateConverter::new(rate), decoded: room(), samples: room() }
    }

    fn samples(&mut self, speech: Speech<'_>) -> &[i16] {
        self.samples.clear();
        match speech {
            Speech::Coded(codec, bytes) => {
                self.decoded.clear();
                codec.decode(bytes, &mut self.decoded);
                self.converter.append(codec.rate(), &self.decoded, &mut self.samples);
            }
            Speech::Samples(rate, samples) => self.converter.append(rate, samples, &mut self.samples),
        }
        &self.samples
    }
}

#[cfg(test)]
mod tests;
