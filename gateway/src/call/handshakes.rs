//! The handshakes that the legs' keys come from, where those are not told in the descriptions.

use std::time::Instant;

use talkstack_media::dtls::HandshakeOutput;
use talkstack_media::session::{HandshakeId, HandshakeInput};

use super::{Call, LegId};

impl Call {
    /// What a handshake of a leg's is to be told next; drain to `None`.
    pub fn poll_handshake(&mut self, now: Instant) -> Option<(HandshakeId, HandshakeInput)> {
        LEGS.into_iter().find_map(|leg| self.leg_mut(leg)?.session.as_mut()?.poll_handshake(now))
    }

    /// A handshake wants something done.
    pub fn handle_shaken(&mut self, id: HandshakeId, output: &HandshakeOutput, now: Instant) {
        for leg in LEGS {
            let Some(session) = self.leg_mut(leg).and_then(|leg| leg.session.as_mut()) else { continue };
            let former = session.protection();
            if session.handle_handshake(id, output, now) {
                match output {
                    HandshakeOutput::Send(_) => {}
                    // RTCP's own keys are of the same suite, and no news.
                    HandshakeOutput::Keyed(_) if session.protection() == former => {}
                    HandshakeOutput::Keyed(keys) => {
                        let suite = keys.local.master.suite().name();
                        tracing::info!(call = %self.id, ?leg, suite, "Encrypted with {suite}, by keys of DTLS");
                    }
                    HandshakeOutput::Failed(error) => {
                        tracing::warn!(call = %self.id, ?leg, "No keys from DTLS yet: {error}");
                    }
                }
                return;
            }
        }
    }
}

const LEGS: [LegId; 3] = [LegId::First, LegId::Second, LegId::Parked];
