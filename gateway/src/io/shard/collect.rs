//! Keys collected from a caller for somebody who waits for them.

use std::time::Instant;

use talkstack_control::port::{CollectOrder, CommandReply};
use tokio::sync::oneshot;

use super::{Shard, Slot, Surroundings};

impl<S: Surroundings> Shard<S> {
    /// Has a call collect keys, unless it is at it for somebody else.
    pub(super) fn collect(
        &mut self,
        key: u32,
        order: CollectOrder,
        reply: oneshot::Sender<CommandReply>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        if slot.collecting.is_some() || slot.call.is_collecting() {
            // Whoever asked may be gone.
            let _ = reply.send(CommandReply::Collecting);
            return;
        }
        slot.collecting = Some(reply);
        self.turn(key, |call| call.collect(order, now));
    }
}

/// Tells who waits what has come.
pub(super) fn answer(slot: &mut Slot, reply: CommandReply) {
    if let Some(waiting) = slot.collecting.take() {
        // Whoever asked may be gone.
        let _ = waiting.send(reply);
    }
}
