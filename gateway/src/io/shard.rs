//! A shard: one OS thread that owns whole calls, their sockets and their agents' sockets, so that a frame never changes
//! thread.
//!
//! ```text
//!   sleep to the next 1 ms slot (no calls: block until woken)
//!     ─▶ read the time once ─▶ inbox ─▶ sockets until empty ─▶ deadlines
//!     ─▶ one write per agent that has something to read ─▶ RTP
//! ```
//!
//! The loop calls machines and decides nothing. A panic in one call's turn drops that call alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::{ClockId, Timespec};
use talkstack_control::port::{Blame, CallEvent, CallId, CommandReply, EndReason, Outcome};
use talkstack_media::session::Channel;
use tokio::sync::oneshot;

use super::agent_socket::AgentSocket;
use super::inbox::Inbox;
use super::ports::{NoPort, Ports, Taken};
use super::recorder::{Recorded, RecorderHandle};
use super::wheel::{SLOT, Wheel};
use crate::call::{Call, CallLimits, LegAddress, LegId, Line, Offer};
use crate::route::Plan;

mod agents;
mod collect;
mod handshakes;
mod legs;
mod messages;
mod sockets;
mod tapes;
mod wishes;

pub use messages::{GivenLeg, OfferedCall, PlacedCall, SipWish, Surroundings, ToCall, ToShard};
use sockets::{SocketKind, Token};

/// A shard's state; [`Shard::run`] is its thread.
pub struct Shard<S> {
    inbox: Inbox<ToShard>,
    surroundings: S,
    limits: CallLimits,
    epoll: OwnedFd,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_id: HashMap<CallId, u32>,
    pairs: sockets::Pairs,
    ports: Ports,
    wheel: Wheel,
    /// Calls to look after at the end of the slot.
    touched: Vec<u32>,
    next_housekeeping: Instant,
    recorder: Option<RecorderHandle>,
}

/// A call and what belongs to it outside its machines.
struct Slot {
    call: Call,
    /// The ports of its legs.
    pairs: [Option<u32>; LEGS],
    agent: Option<AgentSocket>,
    /// When the wheel brings the call up next.
    scheduled: Option<Instant>,
    is_touched: bool,
    recorded: Option<Recorded>,
    /// Who waits for the keys that are being collected.
    collecting: Option<oneshot::Sender<CommandReply>>,
}

/// The thread's fixed surroundings.
pub struct ShardConfig {
    /// Even and odd ports for this shard.
    pub ports: Ports,
    /// What calls live under.
    pub limits: CallLimits,
    /// Where recordings go; `None` when calls are not recorded.
    pub recorder: Option<RecorderHandle>,
}

impl<S: Surroundings> Shard<S> {
    /// Prepares a shard.
    ///
    /// # Errors
    /// When the kernel has no file descriptor left.
    pub fn new(config: ShardConfig, inbox: Inbox<ToShard>, surroundings: S, now: Instant) -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        sockets::watch(&epoll, inbox.event(), Token::INBOX, false)?;
        Ok(Shard {
            inbox,
            surroundings,
            limits: config.limits,
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            pairs: sockets::Pairs::default(),
            ports: config.ports,
            wheel: Wheel::new(now),
            touched: Vec::new(),
            next_housekeeping: now + HOUSEKEEPING,
            recorder: config.recorder,
        })
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        let mut next_slot = Instant::now();
        let mut due = Vec::new();
        let mut events = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            self.wait(&mut next_slot, &mut events);
            let now = Instant::now();
            self.inbox.beat();
            while let Some(message) = self.inbox.take() {
                if !self.handle_message(message, now) {
                    return;
                }
            }
            self.read_sockets(&mut events, &mut buffer, now);
            self.wheel.advance(now, &mut due);
            for key in due.drain(..) {
                self.handle_due(key, now);
            }
            self.finish_slot(&mut buffer, now);
            if now >= self.next_housekeeping {
                self.keep_house(now);
            }
        }
    }

    /// Sleeps to the next slot, or until woken when there are no calls.
    fn wait(&mut self, next_slot: &mut Instant, events: &mut Vec<epoll::Event>) {
        if self.by_id.is_empty() {
            let timeout = if self.inbox.park() { HOUSEKEEPING } else { Duration::ZERO };
            events.clear();
            let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timeout));
            self.inbox.unpark();
            *next_slot = Instant::now();
            return;
        }
        *next_slot += SLOT;
        let now = Instant::now();
        match next_slot.checked_duration_since(now) {
            Some(rest) => {
                let rest = Timespec { tv_sec: 0, tv_nsec: rest.subsec_nanos().into() };
                let _ = rustix::thread::clock_nanosleep_relative(ClockId::Monotonic, &rest);
            }
            None => *next_slot = now,
        }
    }

    fn handle_message(&mut self, message: ToShard, now: Instant) -> bool {
        match message {
            ToShard::Offered(offered) => self.offer(*offered, now),
            ToShard::Placed(placed) => self.place(*placed, now),
            ToShard::Call(id, message) => self.tell(id, message, now),
            ToShard::Take(id, given) => self.take_leg(id, *given),
            ToShard::Drop(id) => {
                if let Some(&key) = self.by_id.get(&id) {
                    self.forget(key);
                }
            }
            ToShard::Stop => return false,
        }
        true
    }

    fn offer(&mut self, offered: OfferedCall, now: Instant) {
        let OfferedCall { id, plan, sdp, local, signalling, seed, security, is_recorded } = offered;
        self.adopt_call(id, local, is_recorded, now, |local, limits| {
            let offer = Offer { sdp: sdp.as_deref(), local, signalling, security };
            Call::new(id, plan, offer, limits, seed, now)
        });
    }

    fn place(&mut self, placed: PlacedCall, now: Instant) {
        let PlacedCall { id, plan, local, signalling, seed, security } = placed;
        // A placed call belongs to a project; a test is nobody's.
        let is_recorded = plan != Plan::ToneTest;
        self.adopt_call(id, local, is_recorded, now, |local, limits| {
            Call::dial(id, plan, Line { local, signalling, security }, limits, seed, now)
        });
    }

    /// Takes ports for a call and makes it.
    fn adopt_call(
        &mut self,
        id: CallId,
        local: IpAddr,
        is_recorded: bool,
        now: Instant,
        make: impl FnOnce(LegAddress, CallLimits) -> Call,
    ) {
        let Ok(pair) = self.take_pair(local, now) else {
            tracing::warn!(call = %id, "No RTP port is free; the call is refused");
            let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
            self.surroundings.sip(id, SipWish::End(LegId::First, outcome));
            self.surroundings.sip(id, SipWish::Forgotten);
            self.record(id, CallEvent::Ended { outcome });
            return;
        };
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let (address, limits) = (LegAddress { host: local, port: self.pairs.port(pair) }, self.limits.clone());
        let Ok(mut call) = catch_unwind(AssertUnwindSafe(|| make(address, limits))) else {
            self.free.push(key);
            self.rest(pair);
            return self.report_panic(id);
        };
        let recorded = self.begin_tape(&mut call, is_recorded);
        self.pairs.assign(pair, Some((key, LegId::First)));
        let pairs = [Some(pair), None, None];
        self.slots[key as usize] =
            Some(Slot { call, pairs, agent: None, scheduled: None, is_touched: false, recorded, collecting: None });
        self.by_id.insert(id, key);
        self.touch(key);
    }

    fn take_pair(&mut self, local: std::net::IpAddr, now: Instant) -> Result<u32, NoPort> {
        match self.ports.take(super::ports::Family::of(local), now)? {
            Taken::Rested(pair) => Ok(pair),
            Taken::Bound(pair) => self.pairs.open(&self.epoll, pair).map_err(|_| NoPort),
        }
    }

    fn tell(&mut self, id: CallId, message: ToCall, now: Instant) {
        let Some(&key) = self.by_id.get(&id) else { return };
        match message {
            ToCall::AgentConnected(connected) => return self.adopt(key, connected, now),
            ToCall::Line { local, signalling, seed, security } => {
                return self.open_line(key, (local, signalling, *security), seed, now);
            }
            ToCall::Replaced { leg, sdp, local, signalling, seed, security } => {
                return self.replace_line(key, leg, sdp.as_deref(), (local, signalling, *security), seed, now);
            }
            ToCall::Transfer { from, .. } => self.park(key, from),
            ToCall::Give { leg, to, at } => return self.give_leg(key, leg, to, at),
            ToCall::Collect(order, reply) => return self.collect(key, order, reply, now),
            _ => {}
        }
        self.turn(key, |call| match message {
            ToCall::Acknowledged(leg, sdp) => call.handle_acknowledged(leg, sdp.as_deref(), now),
            ToCall::ReOffered(leg, sdp) => call.handle_reoffer(leg, sdp.as_deref(), now),
            ToCall::Moved(leg, host) => call.handle_moved(leg, host),
            ToCall::ReAnswered(leg, sdp) => call.handle_reanswered(leg, sdp.as_deref(), now),
            ToCall::ReOfferFailed(leg) => call.handle_reoffer_failed(leg),
            ToCall::Progressed(leg, sdp) => call.handle_progressed(leg, sdp.as_deref(), now),
            ToCall::Accepted { leg, sdp, signalling } => call.handle_accepted(leg, sdp.as_deref(), signalling, now),
            ToCall::Carried(security) => call.handle_carried(*security),
            ToCall::Refused(outcome) => call.handle_refused(outcome, now),
            ToCall::Pressed(leg, digit) => call.handle_info_digit(leg, digit, now),
            ToCall::Ended(leg, outcome) => call.handle_ended(leg, outcome, now),
            ToCall::Transfer { from, plan } => call.handle_transfer(from, &plan, now),
            ToCall::PutThrough(way) => call.put_through(way, now),
            ToCall::PauseRecording { is_paused } => call.pause_recording(is_paused, now),
            ToCall::HangUp(outcome) => call.hang_up(outcome),
            ToCall::AgentUnreachable => call.handle_unreachable(now),
            ToCall::Shaken(id, output) => call.handle_shaken(id, &output, now),
            ToCall::Fetched(number, fetched) => call.handle_fetched(number, fetched, now),
            ToCall::Spoken(spoken) => call.handle_spoken(spoken, now),
            ToCall::AgentConnected(_)
            | ToCall::Line { .. }
            | ToCall::Replaced { .. }
            | ToCall::Give { .. }
            | ToCall::Collect(..) => {}
        });
    }

    /// Reads every readable socket, one packet a round, until none is readable.
    fn read_sockets(&mut self, events: &mut Vec<epoll::Event>, buffer: &mut [u8], now: Instant) {
        for _ in 0..READ_ROUNDS {
            events.clear();
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&zero));
            if events.is_empty() {
                return;
            }
            for event in events.iter() {
                let token = Token::from_raw(event.data.u64());
                match token.kind() {
                    SocketKind::Inbox => self.inbox.unpark(),
                    SocketKind::Rtp => self.read_media(token.key(), Channel::Rtp, buffer, now),
                    SocketKind::Rtcp => self.read_media(token.key(), Channel::Rtcp, buffer, now),
                    SocketKind::Agent => self.read_agent(token.key(), buffer, now),
                }
            }
        }
    }

    fn read_media(&mut self, pair: u32, channel: Channel, buffer: &mut [u8], now: Instant) {
        let Some((bytes, source)) = self.pairs.receive(pair, channel, buffer) else { return };
        match self.pairs.owner(pair) {
            None => self.ports.disturb(pair, now),
            Some((key, leg)) => self.turn(key, |call| match channel {
                Channel::Rtp => call.handle_rtp(leg, source, &buffer[..bytes], now),
                Channel::Rtcp => call.handle_rtcp(leg, source, &buffer[..bytes], now),
            }),
        }
    }

    /// A deadline has come up; the call says whether it is really due.
    fn handle_due(&mut self, key: u32, now: Instant) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        // A later entry of the same call, or of the slot's former call, finds its mark gone.
        if slot.scheduled.is_none_or(|at| at > now) {
            return;
        }
        slot.scheduled = None;
        self.turn(key, |call| call.handle_timeout(now));
    }

    /// One turn of one call. A panic in it ends that call and no other.
    fn turn(&mut self, key: u32, turn: impl FnOnce(&mut Call)) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        if catch_unwind(AssertUnwindSafe(|| turn(&mut slot.call))).is_err() {
            return self.abort(key);
        }
        self.touch(key);
    }

    fn touch(&mut self, key: u32) {
        if let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut)
            && !slot.is_touched
        {
            slot.is_touched = true;
            self.touched.push(key);
        }
    }

    /// Writes to agents, sends RTP, carries out wishes and sets the next deadline of each call that had a turn.
    fn finish_slot(&mut self, buffer: &mut [u8], now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for &key in &touched {
            self.write_agent(key, now);
        }
        for &key in &touched {
            self.send_media(key, buffer, now);
            self.drain_tape(key, now);
            self.carry_out(key);
            self.shake(key, now);
        }
        for key in touched.drain(..) {
            self.schedule(key);
        }
        // Turns that these steps gave rise to are looked after in the next slot.
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    fn send_media(&mut self, key: u32, buffer: &mut [u8], now: Instant) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let pairs = &self.pairs;
        let sent = catch_unwind(AssertUnwindSafe(|| {
            while let Some((leg, transmit)) = slot.call.poll_transmit(buffer, now) {
                if let Some(pair) = slot.pairs[leg as usize] {
                    pairs.send(pair, transmit.channel, &buffer[..transmit.bytes], transmit.to);
                }
            }
        }));
        if sent.is_err() {
            self.abort(key);
        }
    }

    fn record(&self, id: CallId, event: CallEvent) {
        if !self.surroundings.record(id, event) {
            tracing::error!(call = %id, "The journal is full; an event of this call is lost");
        }
    }

    /// Enters the call's next deadline, if it is earlier than the one entered.
    fn schedule(&mut self, key: u32) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) else { return };
        slot.is_touched = false;
        let Some(deadline) = slot.call.poll_timeout() else { return };
        if slot.scheduled.is_none_or(|at| deadline + SLOT <= at) {
            slot.scheduled = Some(self.wheel.schedule(key, deadline));
        }
    }

    /// A call's own machine has failed: the dialog outlives it, gets its BYE and its record.
    fn abort(&mut self, key: u32) {
        let Some(slot) = self.slots.get(key as usize).and_then(Option::as_ref) else { return };
        let id = slot.call.id();
        self.forget(key);
        self.report_panic(id);
    }

    fn report_panic(&self, id: CallId) {
        tracing::error!(call = %id, "The call's machine panicked; the call ends");
        let outcome = Outcome::new(Blame::Gateway, EndReason::Aborted);
        self.record(id, CallEvent::Ended { outcome });
        self.surroundings.sip(id, SipWish::End(LegId::First, outcome));
        self.surroundings.sip(id, SipWish::End(LegId::Second, outcome));
        self.surroundings.sip(id, SipWish::Forgotten);
    }

    fn forget(&mut self, key: u32) {
        let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::take) else { return };
        self.by_id.remove(&slot.call.id());
        self.end_tape(slot.recorded);
        for pair in slot.pairs.into_iter().flatten() {
            self.rest(pair);
        }
        self.free.push(key);
    }

    fn rest(&mut self, pair: u32) {
        self.pairs.assign(pair, None);
        self.ports.rest(pair, self.pairs.family(pair), Instant::now());
    }

    fn keep_house(&mut self, now: Instant) {
        self.next_housekeeping = now + HOUSEKEEPING;
        while let Some(pair) = self.ports.next_rested(now) {
            if let Some(pair) = self.pairs.close(pair) {
                self.ports.close(pair);
            }
        }
    }
}

#[cfg(test)]
mod tests;

/// A call's legs at once: two that talk, and one that waits for what becomes of a transfer.
const LEGS: usize = 3;

/// 64 KiB: the largest UDP datagram; agents' streams are read in pieces of it.
const BUFFER_BYTES: usize = 1 << 16;

/// 1,024 sockets a round: 500 calls with RTP and agent at once.
const EVENTS: usize = 1024;

/// 8 packets of one socket a slot: eight times what a phone sends in 20 ms; the rest waits for the next slot.
const READ_ROUNDS: usize = 8;

/// 1 s: ports come out of their rest, counters are copied out.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
