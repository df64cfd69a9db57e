//! What a call hears: each stretch goes to the agent, and to the box's own ear where somebody needs to know whether the
//! caller speaks.

use std::time::Instant;

use talkstack_media::audio::frame::Frame;
use talkstack_media::audio::voice::VoiceDetector;
use talkstack_media::session::Heard;

use super::{Call, collect};
use crate::agent::{AgentSession, Voice};

/// The box's own ear on one leg. It is made when it is needed first: who never needs it pays nothing.
#[derive(Debug, Default)]
pub(super) struct Ear {
    detector: Option<Box<VoiceDetector>>,
    is_voice: bool,
}

impl Ear {
    /// Hears a stretch of what the agent hears, and tells the agent what has changed if it wants to know.
    fn hear(&mut self, frame: &Frame<'_>, agent: &mut AgentSession, now: Instant) {
        if !agent.wants_voice() {
            return;
        }
        let detector = self.detector.get_or_insert_default();
        detector.handle_audio(frame.rate, frame.samples);
        let was_voice = std::mem::replace(&mut self.is_voice, detector.is_voice());
        match (was_voice, self.is_voice) {
            (false, true) => agent.handle_voice(Voice::Began, now),
            (true, false) => agent.handle_voice(Voice::Ended, now),
            _ => {}
        }
    }
}

impl Call {
    /// Passes what the leg heard to the agent, and what the agent says back to the leg; or from leg to leg.
    pub(super) fn listen(&mut self, now: Instant) {
        if self.bridge.is_some() {
            return self.relay(now);
        }
        if let Some(session) = &mut self.leg.session {
            let (ear, agent) = (&mut self.leg.ear, &mut self.agent);
            while let Some(heard) = session.poll_heard(now) {
                self.tape.handle_heard(&heard, now);
                match (heard, &mut self.collection) {
                    (Heard::Audio(frame), None) => {
                        ear.hear(&frame, agent, now);
                        agent.handle_audio(&frame);
                    }
                    (Heard::Audio(frame), Some(_)) => collect::silence(&frame).for_each(|silence| {
                        ear.hear(&silence, agent, now);
                        agent.handle_audio(&silence);
                    }),
                    (Heard::Held(silence), _) => {
                        ear.hear(&silence, agent, now);
                        agent.handle_held(&silence);
                    }
                    (Heard::Digit(key), collection) => {
                        if !collection.as_mut().is_some_and(|collection| collection.takes(key, now)) {
                            agent.handle_digit(key);
                        }
                    }
                }
            }
        }
        self.talk(now);
    }
}
