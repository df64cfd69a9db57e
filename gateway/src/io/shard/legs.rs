//! A call's second leg on its shard: the ports it talks through.

use std::net::IpAddr;
use std::time::Instant;

use talkstack_control::port::{Blame, CallId, EndReason, Outcome};

use super::{GivenLeg, Shard, Surroundings};
use crate::call::{LegAddress, LegId, Line, LineSecurity};

impl<S: Surroundings> Shard<S> {
    /// Takes ports for a line that a call is led on to. What a line called before still sends goes to the old ones.
    pub(super) fn open_line(
        &mut self,
        key: u32,
        (local, signalling, security): (IpAddr, IpAddr, LineSecurity),
        seed: u64,
        now: Instant,
    ) {
        let taken = self.take_pair(local, now);
        self.let_go(key, LegId::Second);
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        slot.pairs[LegId::Second as usize] = taken.as_ref().ok().copied();
        match taken {
            Ok(pair) => {
                self.pairs.assign(pair, Some((key, LegId::Second)));
                let local = LegAddress { host: local, port: self.pairs.port(pair) };
                self.turn(key, |call| call.handle_line(Line { local, signalling, security }, seed, now));
            }
            Err(_) => {
                tracing::warn!("No RTP port is free for the line that a caller is led on to");
                let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
                self.turn(key, |call| call.handle_refused(outcome, now));
            }
        }
    }

    /// Takes ports for a line that takes the place of a leg's, unless what it offers cannot be used.
    pub(super) fn replace_line(
        &mut self,
        key: u32,
        leg: LegId,
        sdp: Option<&[u8]>,
        (local, signalling, security): (IpAddr, IpAddr, LineSecurity),
        seed: u64,
        now: Instant,
    ) {
        let Ok(pair) = self.take_pair(local, now) else {
            tracing::warn!("No RTP port is free for the line that takes a leg over");
            return self.turn(key, |call| call.refuse_replacement(leg));
        };
        let line = Line { local: LegAddress { host: local, port: self.pairs.port(pair) }, signalling, security };
        let mut is_taken = false;
        self.turn(key, |call| is_taken = call.handle_replaced(leg, line, sdp, seed, now));
        if !is_taken {
            return self.rest(pair);
        }
        self.let_go(key, leg);
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return self.rest(pair) };
        slot.pairs[leg as usize] = Some(pair);
        self.pairs.assign(pair, Some((key, leg)));
    }

    /// Who asks for a transfer is parked, and who stays is the first leg.
    pub(super) fn park(&mut self, key: u32, from: LegId) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        if from == LegId::First {
            slot.pairs.swap(LegId::First as usize, LegId::Second as usize);
        }
        if let Some(first) = slot.pairs[LegId::First as usize] {
            self.pairs.assign(first, Some((key, LegId::First)));
        }
        self.move_leg(key, LegId::Second, LegId::Parked);
    }

    /// A leg takes its ports along to another place in its call.
    pub(super) fn move_leg(&mut self, key: u32, from: LegId, to: LegId) {
        self.let_go(key, to);
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let pair = slot.pairs[from as usize].take();
        slot.pairs[to as usize] = pair;
        if let Some(pair) = pair {
            self.pairs.assign(pair, Some((key, to)));
        }
    }

    /// A leg leaves for another call, with its sockets.
    pub(super) fn give_leg(&mut self, key: u32, leg: LegId, to: CallId, at: LegId) {
        let mut given = None;
        self.turn(key, |call| given = call.give_leg(leg));
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let pair = slot.pairs[leg as usize].take().and_then(|pair| self.pairs.give(&self.epoll, pair));
        if let (Some(leg), Some(pair)) = (given, pair)
            && self.surroundings.give(to, Box::new(GivenLeg { leg, pair, at }))
        {
            return;
        }
        tracing::error!("A leg was lost on its way to another call");
    }

    /// A leg of another call's comes.
    pub(super) fn take_leg(&mut self, id: CallId, given: GivenLeg) {
        let Some(&key) = self.by_id.get(&id) else { return self.ports.close(given.pair) };
        let GivenLeg { leg, pair, at } = given;
        let Ok(pair) = self.pairs.open(&self.epoll, pair) else {
            tracing::error!("The sockets of a leg that came from another call cannot be watched");
            return;
        };
        self.let_go(key, at);
        self.pairs.assign(pair, Some((key, at)));
        if let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) {
            slot.pairs[at as usize] = Some(pair);
        }
        self.turn(key, |call| call.take_leg(at, leg));
    }

    /// A leg's ports go to rest.
    pub(super) fn let_go(&mut self, key: u32, leg: LegId) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        if let Some(pair) = slot.pairs[leg as usize].take() {
            self.rest(pair);
        }
    }
}
