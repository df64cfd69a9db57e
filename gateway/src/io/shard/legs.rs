//! A call's second leg on its shard: the ports it talks through.

use std::net::IpAddr;
use std::time::Instant;

use talkstack_control::port::{Blame, EndReason, Outcome};

use super::{Shard, Surroundings};
use crate::call::{LegAddress, LegId, Line};

impl<S: Surroundings> Shard<S> {
    /// Takes ports for a line that a call is led on to. What a line called before still sends goes to the old ones.
    pub(super) fn open_line(&mut self, key: u32, local: IpAddr, signalling: IpAddr, seed: u64, now: Instant) {
        let taken = self.take_pair(local, now);
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let former = std::mem::replace(&mut slot.pairs[LegId::Second as usize], taken.as_ref().ok().copied());
        if let Some(former) = former {
            self.rest(former);
        }
        match taken {
            Ok(pair) => {
                self.pairs.assign(pair, Some((key, LegId::Second)));
                let local = LegAddress { host: local, port: self.pairs.port(pair) };
                self.turn(key, |call| call.handle_line(Line { local, signalling }, seed, now));
            }
            Err(_) => {
                tracing::warn!("No RTP port is free for the line that a caller is led on to");
                let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
                self.turn(key, |call| call.handle_refused(outcome, now));
            }
        }
    }
}
