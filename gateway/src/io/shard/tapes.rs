//! From a call's recording to the recorder's thread, without waiting for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::{Shard, Surroundings};
use crate::call::Call;
use crate::io::recorder::Recorded;

impl<S: Surroundings> Shard<S> {
    pub(super) fn begin_tape(&self, call: &mut Call, is_recorded: bool) -> Option<Recorded> {
        let recorder = self.recorder.as_ref().filter(|_| is_recorded)?;
        call.record();
        Some(recorder.begin(call.id()))
    }

    /// Hands over what the recording has ready.
    pub(super) fn drain_tape(&mut self, key: u32, now: Instant) {
        let Some(recorder) = &mut self.recorder else { return };
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let Some(recorded) = &mut slot.recorded else { return };
        let call = &mut slot.call;
        let drained = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let block = recorder.block();
                let Some(samples) = call.poll_recorded(block, now) else { return };
                let answered = call.answered().unwrap_or(now);
                recorder.write(recorded, samples, call.recorded_rate(), now.saturating_duration_since(answered));
            }
        }));
        if drained.is_err() {
            self.abort(key);
        }
    }

    pub(super) fn end_tape(&mut self, recorded: Option<Recorded>) {
        if let (Some(recorder), Some(recorded)) = (&mut self.recorder, recorded) {
            recorder.end(recorded);
        }
    }
}
