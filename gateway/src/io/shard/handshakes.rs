//! What a shard passes on between the legs of its calls and their handshakes, which are made elsewhere.

use std::time::Instant;

use talkstack_media::dtls::{DtlsError, HandshakeOutput};

use super::{Shard, Surroundings};

impl<S: Surroundings> Shard<S> {
    /// Tells the handshakes of a call's legs what has come for them.
    pub(super) fn shake(&mut self, key: u32, now: Instant) {
        while let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) {
            let Some((id, input)) = slot.call.poll_handshake(now) else { return };
            if !self.surroundings.shake(slot.call.id(), id, input) {
                // Nobody takes it: it fails as if nobody had answered, and is begun again.
                slot.call.handle_shaken(id, &HandshakeOutput::Failed(DtlsError::Setup), now);
            }
        }
    }
}
