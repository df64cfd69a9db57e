//! Reliable provisional responses of the called side (RFC 3262 §3).
//!
//! ```text
//!   send ─▶ 18x with RSeq, repeated at T1 doubling ── PRACK ─▶ the next one, or the 200 that was held back
//!                     └── 64·T1 without it ─▶ 504
//! ```

use std::time::{Duration, Instant};

use rand_chacha::rand_core::RngCore;

use super::State;
use crate::sip::endpoint::extensions::Reliable;
use crate::sip::endpoint::requests::sdp_of;
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{CommandError, DialogId, EndCause, Endpoint, Event, Flow, Output, Server, TransactionKey};
use crate::sip::message::{Method, Request};

/// The reliable provisional responses to one INVITE.
#[derive(Debug, Default)]
pub(super) struct ReliableResponses {
    /// Of the last one; none before the first.
    rseq: Option<u32>,
    /// The one that waits for its PRACK.
    unacknowledged: Option<Unacknowledged>,
    /// What is sent next, behind that PRACK: the last of what was wanted.
    next: Option<Reply>,
    /// The 200 that waits for it.
    held: Option<Reply>,
}

#[derive(Debug)]
struct Unacknowledged {
    rseq: u32,
    response: Vec<u8>,
    flow: Flow,
    has_sdp: bool,
    /// None once a final response has gone out: then only its PRACK is still taken.
    timetable: Option<Timetable>,
}

#[derive(Debug, Clone, Copy)]
struct Timetable {
    retransmit_at: Instant,
    interval: Duration,
    give_up: Instant,
}

/// What a timer makes of it.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Send(Flow, Vec<u8>),
    GiveUp,
    Nothing,
}

impl ReliableResponses {
    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timetable = self.unacknowledged.as_ref()?.timetable?;
        Some(timetable.retransmit_at.min(timetable.give_up))
    }

    /// Tells whether a 2xx has to wait (RFC 3262 §3): its description must not overtake the one before.
    pub(super) fn holds_answer(&self) -> bool {
        self.unacknowledged.as_ref().is_some_and(|waiting| waiting.has_sdp)
    }

    /// Tells whether something waits for its PRACK.
    pub(super) fn is_waiting(&self) -> bool {
        self.unacknowledged.is_some()
    }

    /// Nothing is repeated behind a final response (RFC 3262 §3).
    pub(super) fn stop(&mut self) {
        self.next = None;
        self.held = None;
        if let Some(waiting) = &mut self.unacknowledged {
            waiting.timetable = None;
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Action {
        let Some(waiting) = &mut self.unacknowledged else { return Action::Nothing };
        match &mut waiting.timetable {
            Some(timetable) if timetable.give_up <= now => {
                self.stop();
                Action::GiveUp
            }
            Some(timetable) if timetable.retransmit_at <= now => {
                // RFC 3262 §3: unlike a 2xx, without the bound of T2.
                timetable.interval *= 2;
                timetable.retransmit_at = now + timetable.interval;
                Action::Send(waiting.flow, waiting.response.clone())
            }
            _ => Action::Nothing,
        }
    }

    /// Takes the PRACK of this number; `false` when nothing waits for it.
    fn handle_prack(&mut self, rseq: u32) -> bool {
        self.unacknowledged.take_if(|waiting| waiting.rseq == rseq).is_some()
    }
}

impl Endpoint {
    /// Sends a provisional response, reliably where the line and the far end want it so.
    pub(super) fn ring_with(&mut self, id: DialogId, mut reply: Reply, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&id).ok_or(CommandError::NoDialog)?;
        if session.state != State::Early || session.reliable.held.is_some() {
            return Err(CommandError::NothingPending);
        }
        let peer = &session.far.peer;
        let is_reliable = match session.extensions.reliable {
            Reliable::Off => false,
            Reliable::Supported => peer.requires_reliable || (peer.supports("100rel") && reply.sdp.is_some()),
            Reliable::Required => true,
        };
        let descriptions = &session.far.descriptions;
        if descriptions.is_agreed() || descriptions.is_ours_open() || (!is_reliable && !descriptions.is_theirs_open()) {
            // One answer is enough, and an offer never rides unreliably (RFC 3261 §13.2.1).
            reply.sdp = None;
        }
        if !is_reliable {
            return self.respond(id, &reply, now);
        }
        let descriptions = &session.far.descriptions;
        let is_late = !descriptions.is_theirs_open() && !descriptions.is_ours_open() && !descriptions.is_agreed();
        if is_late && reply.sdp.is_none() {
            // RFC 6337 §2.2: the first reliable response to an INVITE without an offer has one. Until then the 100 does.
            return Ok(());
        }
        if session.reliable.is_waiting() {
            let sdp = session.reliable.next.take().and_then(|former| former.sdp);
            reply.sdp = reply.sdp.or(sdp);
            session.reliable.next = Some(reply);
            return Ok(());
        }
        self.send_reliably(id, reply, now)
    }

    fn send_reliably(&mut self, id: DialogId, reply: Reply, now: Instant) -> Result<(), CommandError> {
        let first = 1 + (self.random.next_u32() >> 2);
        let session = self.sessions.get_mut(&id).ok_or(CommandError::NoDialog)?;
        // RFC 3262 §3: between 1 and 2^31 − 1, then one more each.
        let rseq = session.reliable.rseq.map_or(first, |last| last + 1);
        session.reliable.rseq = Some(rseq);
        if let Some(sdp) = &reply.sdp {
            session.far.descriptions.describe(sdp);
        }
        let has_sdp = reply.sdp.is_some();
        let reply = reply.with("Require", "100rel").with("RSeq", rseq.to_string());
        let (flow, response) = self.respond_provisionally(id, &reply, now)?;
        let timers = self.config.timers;
        let (retransmit_at, give_up) = (now + timers.t1, now + timers.timeout());
        let timetable = Some(Timetable { retransmit_at, interval: timers.t1, give_up });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.reliable.unacknowledged = Some(Unacknowledged { rseq, response, flow, has_sdp, timetable });
        }
        self.schedule_session(id);
        Ok(())
    }

    /// Holds a 200 back until the PRACK; `Err` returns it when nothing stands in its way.
    pub(super) fn hold_answer(&mut self, id: DialogId, reply: Reply) -> Result<(), Reply> {
        match self.sessions.get_mut(&id) {
            Some(session) if session.reliable.holds_answer() || session.far.descriptions.waiting.is_some() => {
                session.reliable.next = None;
                session.reliable.held = Some(reply);
                Ok(())
            }
            _ => Err(reply),
        }
    }

    pub(in crate::sip::endpoint) fn handle_prack(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let Some(id) = self.begin_in_dialog(flow, request, now) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(rack) = request.headers.text("RAck").as_deref().and_then(rack) else {
            let reply = Reply::new(400).because("its RAck cannot be read");
            return self.reply(flow, request, reply, now);
        };
        let of_invite = session.invite_name.as_ref().map(|(_, _, cseq)| *cseq);
        if of_invite != Some(rack.1) || !session.reliable.handle_prack(rack.0) {
            let reply = Reply::new(481).because("it acknowledges no provisional response that waits for it");
            return self.reply(flow, request, reply, now);
        }
        let sdp = sdp_of(request);
        let descriptions = &mut session.far.descriptions;
        let tag = session.far.dialog.local_tag.clone();
        match sdp {
            Some(sdp) if descriptions.is_ours_open() => {
                descriptions.handle_answer(Some(&sdp));
                self.reply_tagged(flow, request, Reply::new(200), tag, now);
                self.outputs.push_back(Output::Event(Event::Reanswered { dialog: id, sdp: Some(sdp) }));
            }
            Some(sdp) if descriptions.is_agreed() && session.state == State::Early => {
                let from = session.far.dialog.remote_tag.clone();
                let key = self.begin_waiting(flow, request, tag, now);
                return self.take_offer(id, &from, key, sdp, now);
            }
            _ => self.reply_tagged(flow, request, Reply::new(200), tag, now),
        }
        self.go_on_behind_prack(id, now);
        self.try_reoffer(id, now);
    }

    /// Sends what waited for a PRACK, or for the answer to its offer.
    pub(super) fn go_on_behind_prack(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.state != State::Early || session.reliable.is_waiting() || session.far.descriptions.waiting.is_some()
        {
            return;
        }
        // Whatever fails here has lost a race with the end of the dialog, which is told.
        if let Some(reply) = session.reliable.held.take() {
            let _ = self.respond(id, &reply, now);
        } else if let Some(mut reply) = session.reliable.next.take() {
            if session.far.descriptions.is_agreed() {
                reply.sdp = None;
            }
            let _ = self.send_reliably(id, reply, now);
        }
    }

    pub(super) fn handle_reliable_timeout(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.reliable.handle_timeout(now) {
            Action::Send(flow, bytes) => self.send(flow, bytes),
            Action::GiveUp => {
                let reply = Reply::new(504).because("a reliable provisional response got no PRACK within 64·T1");
                let _ = self.respond(id, &reply, now);
                self.forget_session(id);
                self.tell_end(id, EndCause::NoPrack, None);
            }
            Action::Nothing => {}
        }
    }

    /// Refuses a call whose caller and line do not agree on reliable provisional responses; `true` when it did.
    pub(super) fn refuse_extension(&mut self, id: DialogId, now: Instant) -> bool {
        let Some(session) = self.sessions.get(&id).filter(|session| session.state == State::Early) else {
            return false;
        };
        let peer = &session.far.peer;
        let reply = match session.extensions.reliable {
            Reliable::Off if peer.requires_reliable => {
                Reply::new(420).with("Unsupported", "100rel").because("100rel is off on this line, and it requires it")
            }
            Reliable::Required if !peer.supports("100rel") => {
                Reply::new(421).with("Require", "100rel").because("this line requires 100rel, and it lacks it")
            }
            _ => return false,
        };
        let _ = self.respond(id, &reply, now);
        self.forget_session(id);
        self.tell_end(id, EndCause::Extension, None);
        true
    }

    /// Sends a provisional response to the INVITE that waits; returns where it went and what it was.
    fn respond_provisionally(
        &mut self,
        id: DialogId,
        reply: &Reply,
        now: Instant,
    ) -> Result<(Flow, Vec<u8>), CommandError> {
        let key = self.sessions.get(&id).and_then(|session| session.pending.clone());
        self.respond(id, reply, now)?;
        let server = key.and_then(|key: TransactionKey| self.servers.get(&key));
        let Some(Server::Invite { machine, flow, .. }) = server else { return Err(CommandError::NothingPending) };
        Ok((*flow, machine.last_response().to_vec()))
    }
}

/// `RAck: 776656 1 INVITE` (RFC 3262 §7.2): the response's number and the INVITE's.
fn rack(value: &str) -> Option<(u32, u32)> {
    let mut words = value.split_ascii_whitespace();
    let (rseq, cseq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next()? == Method::Invite.as_str() && words.next().is_none()).then_some((rseq, cseq))
}
