//! INVITE sessions: from the offer to the BYE (RFC 3261 §13–§15).
//!
//! ```text
//!   INVITE ─▶ Offered ── ring ──▶ 180, or 183 with early media (reliable)
//!                │ answer ─▶ 200, repeated until ACK ─▶ Acknowledged ── BYE either way ──▶ over
//!                │ refuse ─▶ 300–699                        │ re-INVITE, UPDATE ─▶ ReOffered ─▶ answer or refuse
//!                └ CANCEL ─▶ 487, Ended                     │ reinvite ─▶ Reanswered or ReofferFailed
//!                                                           └ REFER either way (refer)
//! ```

mod account;
mod answers;
mod descriptions;
mod incoming;
mod info;
mod outgoing;
mod progress;
mod refer;
mod refused;
mod reliable;
mod reoffer;
mod replaces;
mod request;
mod saved;
mod timing;
mod update;

use std::time::{Duration, Instant};

use super::extensions::{Extensions, Peer};
use super::requests::server_key;
use super::respond::Reply;
use super::{
    CommandError, DialogId, EndCause, Endpoint, Event, Flow, Output, Purpose, Refusal, Server, Timer, TransactionKey,
    Transport,
};
use crate::sip::dialog::Dialog;
use crate::sip::message::{Headers, Method, Reason, Request};

use descriptions::Descriptions;
use info::Informing;
use refer::Referrals;
use reliable::ReliableResponses;
use reoffer::Reoffer;
use request::contact;
use timing::Timing;

pub(super) use account::{Account, Tried};
pub(super) use outgoing::Outgoing;
pub use outgoing::{InviteError, InviteOrder};
pub(super) use request::{Ask, reason_value, via};
pub use saved::SavedError;

/// One dialog and its INVITE usage.
#[derive(Debug)]
pub(super) struct Session {
    far: Far,
    /// Of an INVITE that came.
    invite_name: Option<InviteName>,
    flow: Flow,
    /// The INVITE or re-INVITE that waits for its final response.
    pending: Option<TransactionKey>,
    /// The 2xx that waits for its ACK.
    unacknowledged: Option<Unacknowledged>,
    /// Our INVITE whose 2xx brought an offer: its ACK waits for our answer.
    late: Option<TransactionKey>,
    state: State,
    /// What challenges to our requests are answered with.
    account: Option<Account>,
    /// What this line uses of SIP's extensions.
    extensions: Extensions,
    reliable: ReliableResponses,
    /// What we want changed or refreshed.
    reoffer: Option<Reoffer>,
    timing: Timing,
    referrals: Referrals,
    /// Of a call that we placed: which branch of the fork it is.
    branch: u32,
    /// The entry of this session among the endpoint's timers.
    scheduled: Option<Instant>,
}

/// The far end: one answered dialog has one, a call that forks has one in each branch.
#[derive(Debug, Clone)]
struct Far {
    dialog: Dialog,
    descriptions: Descriptions,
    /// What it can do.
    peer: Peer,
    /// It sits behind a NAT, or left its Contact out: requests go back to where its own came from.
    is_behind_nat: bool,
    /// It was called by UDP: where a large request has led to a stream, that serves for as long as it stands.
    is_by_datagram: bool,
    /// The keys that wait for it.
    informing: Informing,
}

/// Call-ID, From tag and CSeq: what copies of one INVITE share, whichever path they took.
pub(super) type InviteName = (String, String, u32);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Our INVITE has no final response.
    Calling,
    /// Their INVITE has no final response.
    Early,
    /// It was answered.
    Confirmed,
    /// We want to end it as soon as the ACK allows (RFC 3261 §15).
    Leaving { reason: Option<String> },
    /// Our BYE is out.
    Gone,
}

#[derive(Debug)]
struct Unacknowledged {
    cseq: u32,
    response: Vec<u8>,
    flow: Flow,
    retransmit_at: Instant,
    interval: Duration,
    give_up: Instant,
}

impl Endpoint {
    /// Sets what an INVITE that came is answered with, before it rings. Without it the defaults hold.
    pub fn set_extensions(&mut self, dialog: DialogId, extensions: Extensions) {
        if let Some(session) = self.sessions.get_mut(&dialog) {
            session.extensions = extensions;
        }
    }

    /// Where a dialog's next request goes.
    pub fn flow_of(&self, dialog: DialogId) -> Option<Flow> {
        self.sessions.get(&dialog).map(|session| session.next_flow(&session.far))
    }

    /// Tells whether the far end's last Allow names a method.
    pub fn allows(&self, dialog: DialogId, method: &Method) -> bool {
        self.sessions.get(&dialog).is_some_and(|session| session.far.peer.allows(method))
    }

    /// Ends a dialog: 480 before the answer; BYE after it, as soon as the ACK has come. A call that we placed and
    /// nobody has answered is cancelled (RFC 3261 §9.1). No event follows: it is our own doing.
    ///
    /// # Errors
    /// [`CommandError::NoDialog`].
    pub fn hang_up(&mut self, dialog: DialogId, reason: Option<String>, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        match session.state {
            State::Calling => self.cancel(dialog, reason, now),
            State::Early => return self.refuse_call(dialog, Refusal { reason, ..Refusal::new(480) }, now),
            State::Confirmed if session.unacknowledged.is_some() => session.state = State::Leaving { reason },
            State::Confirmed => self.bye(dialog, reason, now),
            State::Leaving { .. } | State::Gone => {}
        }
        Ok(())
    }

    /// Asks within a confirmed dialog whether the far end still knows it. No answer, 408 or 481 is
    /// [`EndCause::Gone`]; anything else changes nothing.
    ///
    /// # Errors
    /// [`CommandError::NoDialog`].
    pub fn probe(&mut self, dialog: DialogId, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get(&dialog).ok_or(CommandError::NoDialog)?;
        if session.state == State::Confirmed {
            self.request(dialog, Ask::new(Purpose::Probe), now);
        }
        Ok(())
    }

    /// The far end is not there: BYE for whoever still listens.
    pub(super) fn end_unreachable(&mut self, id: DialogId, now: Instant) {
        self.end_confirmed(id, EndCause::Gone, now);
    }

    fn end_confirmed(&mut self, id: DialogId, cause: EndCause, now: Instant) {
        if self.sessions.get(&id).is_some_and(|session| session.state == State::Confirmed) {
            self.bye(id, None, now);
            self.tell_end(id, cause, None);
        }
    }

    /// Tells that a dialog is over, with what the far end says of it.
    fn tell_end(&mut self, dialog: DialogId, cause: EndCause, headers: Option<&Headers>) {
        let reason = headers.and_then(Reason::of).map(|reason| reason.to_string());
        self.outputs.push_back(Output::Event(Event::Ended { dialog, cause, reason }));
    }

    pub(super) fn handle_dialog_ack(&mut self, request: &Request, now: Instant) {
        let Some(id) = self.dialog_of(request) else {
            self.counters.dropped += 1;
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.unacknowledged.as_ref().is_none_or(|waiting| waiting.cseq != request.core.cseq) {
            return;
        }
        session.unacknowledged = None;
        let sdp = super::requests::sdp_of(request);
        if session.far.descriptions.is_ours_open() {
            session.far.descriptions.handle_answer(sdp.as_deref());
        }
        if let State::Leaving { reason } = &session.state {
            let reason = reason.clone();
            return self.bye(id, reason, now);
        }
        self.outputs.push_back(Output::Event(Event::Acknowledged { dialog: id, sdp }));
        self.try_reoffer(id, now);
        self.schedule_session(id);
    }

    pub(super) fn handle_cancel(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let key = server_key(request, &Method::Invite);
        let Some(Server::Invite { machine, dialog, to_tag, .. }) = self.servers.get(&key) else {
            let reply = Reply::new(481).because("no INVITE here has its branch");
            return self.reply(flow, request, reply, now);
        };
        let (cancelled, tag) = (dialog.filter(|_| machine.is_proceeding()), to_tag.clone());
        // RFC 3261 §9.2: the same tag as in the response to the INVITE.
        self.reply_tagged(flow, request, Reply::new(200), tag, now);
        let Some(id) = cancelled else { return };
        // A re-INVITE that is cancelled leaves the dialog as it was.
        let is_early = self.sessions.get(&id).is_some_and(|session| session.state == State::Early);
        if self.respond(id, &Reply::new(487).because(WITHDRAWN), now).is_ok() && is_early {
            self.end_waiting(id, now);
            self.forget_session(id);
            self.tell_end(id, EndCause::Cancelled, Some(&request.headers));
        }
    }

    pub(super) fn handle_bye(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let Some(id) = self.dialog_of(request) else {
            return self.reply(flow, request, Reply::new(481).because(NO_DIALOG), now);
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.state == State::Calling {
            // RFC 3261 §15: the called side ends no early dialog with BYE; its INVITE still waits.
            return self.reply(flow, request, Reply::new(481).because(NO_DIALOG), now);
        }
        if session.far.dialog.handle_cseq(request.core.cseq).is_err() {
            return self.reply(flow, request, Reply::new(500).because(OLD_CSEQ), now);
        }
        let was_ours = session.state == State::Gone;
        self.reply(flow, request, Reply::new(200), now);
        self.end_waiting(id, now);
        if !was_ours {
            self.forget_session(id);
            self.tell_end(id, EndCause::Bye, Some(&request.headers));
        }
    }

    /// Answers a request with `reply` when its dialog is known and its number in order; then returns the dialog.
    pub(super) fn handle_in_dialog(
        &mut self,
        flow: &Flow,
        request: &Request,
        reply: Reply,
        now: Instant,
    ) -> Option<DialogId> {
        let id = self.begin_in_dialog(flow, request, now)?;
        self.reply(flow, request, reply, now);
        Some(id)
    }

    /// Finds the dialog of a request and takes its number (RFC 3261 §12.2.2); refuses it where that cannot be.
    fn begin_in_dialog(&mut self, flow: &Flow, request: &Request, now: Instant) -> Option<DialogId> {
        let found = self.dialog_of(request);
        let tag = request.core.from.tag().unwrap_or_default();
        let far = found.and_then(|id| self.far_mut(id, tag));
        let refusal = match far.map(|far| far.dialog.handle_cseq(request.core.cseq)) {
            Some(Ok(())) => return found,
            Some(Err(_)) => Reply::new(500).because(OLD_CSEQ),
            None => Reply::new(481).because(NO_DIALOG),
        };
        self.reply(flow, request, refusal, now);
        None
    }

    /// The far end with this tag: of the dialog, or of a branch of a call that is not answered.
    fn far_mut(&mut self, id: DialogId, tag: &str) -> Option<&mut Far> {
        let session = self.sessions.get_mut(&id)?;
        if session.state != State::Calling {
            return Some(&mut session.far);
        }
        let earlies = &mut self.outgoing.calls.get_mut(&id)?.earlies;
        earlies.iter_mut().map(|early| &mut early.far).find(|far| far.dialog.remote_tag == tag)
    }

    pub(super) fn handle_dialog_timeout(&mut self, id: DialogId, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.scheduled = None;
        }
        self.handle_answer_timeout(id, now);
        self.handle_waiting_timeout(id, now);
        self.handle_reliable_timeout(id, now);
        self.handle_reoffer_timeout(id, now);
        self.handle_timing_timeout(id, now);
        self.handle_cancel_timeout(id, now);
        self.schedule_session(id);
    }

    /// Keeps the one entry of a session among the timers.
    fn schedule_session(&mut self, id: DialogId) {
        let waiting = self.waiting_until(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let cancelled = self.outgoing.calls.get(&id).and_then(outgoing::Calling::give_up);
        let at = [waiting, cancelled, session.poll_timeout()].into_iter().flatten().min();
        if at == session.scheduled {
            return;
        }
        if let Some(former) = std::mem::replace(&mut session.scheduled, at) {
            self.timers.remove(&(former, Timer::Dialog(id)));
        }
        self.timers.extend(at.map(|at| (at, Timer::Dialog(id))));
    }

    /// A stream has ended, or could not be opened; `closed` is its flow. What waits for an answer on it and may go
    /// another way does; what was not heard of at all has failed (RFC 3261 §17.1.4, §18.1.1). Requests of its dialogs
    /// need another one.
    pub fn handle_stream_closed(&mut self, closed: &Flow, now: Instant) {
        let is_its = |session: &&mut Session| session.flow.stream.is_some() && session.flow.stream == closed.stream;
        for session in self.sessions.values_mut().filter(is_its) {
            session.flow = session.flow_without_stream();
        }
        self.fall_back(closed, now);
        self.end_outside_requests(closed);
        self.end_unheard(closed, now);
    }

    pub(super) fn forget_session(&mut self, id: DialogId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_tags.remove(&session.far.tags());
        if let Some(name) = session.invite_name {
            self.by_invite.remove(&name);
        }
        if let Some(at) = session.scheduled {
            self.timers.remove(&(at, Timer::Dialog(id)));
        }
    }

    pub(super) fn dialog_of(&self, request: &Request) -> Option<DialogId> {
        let core = &request.core;
        let from = core.from.tag().unwrap_or_default().to_owned();
        self.by_tags.get(&(core.call_id.clone(), core.to.tag()?.to_owned(), from)).copied()
    }
}

impl Session {
    fn new(far: Far, flow: Flow, state: State) -> Self {
        Session {
            far,
            invite_name: None,
            flow,
            pending: None,
            unacknowledged: None,
            late: None,
            state,
            account: None,
            extensions: Extensions::default(),
            reliable: ReliableResponses::default(),
            reoffer: None,
            timing: Timing::default(),
            referrals: Referrals::default(),
            branch: 0,
            scheduled: None,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.unacknowledged.as_ref().map(|waiting| waiting.retransmit_at.min(waiting.give_up));
        let reoffer = self.reoffer.as_ref().and_then(Reoffer::poll_timeout);
        let timing = self.timing.poll_timeout();
        let due = match self.state {
            State::Calling | State::Early => [reoffer, self.reliable.poll_timeout(), None],
            State::Confirmed => [answer, reoffer, timing],
            State::Leaving { .. } => [answer, None, None],
            State::Gone => [None; 3],
        };
        due.into_iter().flatten().min()
    }

    /// What stays of the flow when its stream has ended.
    fn flow_without_stream(&self) -> Flow {
        let is_datagram = self.far.is_by_datagram && !self.far.dialog.names_stream();
        let transport = if is_datagram { Transport::Udp } else { self.flow.transport };
        Flow { transport, stream: None, ..self.flow }
    }

    /// Where the next request goes: back on their stream while it is open, else to the next hop's address, or back
    /// where theirs came from. A stream is opened towards nobody but the host that the dialog's requests came from.
    fn next_flow(&self, far: &Far) -> Flow {
        match far.dialog.next_hop() {
            _ if self.flow.stream.is_some() => self.flow,
            Some((ip, _)) if self.flow.transport.is_reliable() && ip != self.flow.remote.ip() => self.flow,
            Some((ip, port)) if !far.is_behind_nat => {
                let mut remote = self.flow.remote;
                if remote.ip() != ip {
                    remote = (ip, port).into();
                }
                // The zone of a link-local address is the source's to know.
                remote.set_port(port);
                Flow { remote, ..self.flow }
            }
            _ => self.flow,
        }
    }
}

impl Far {
    fn new(dialog: Dialog) -> Self {
        let (descriptions, peer) = (Descriptions::default(), Peer::default());
        let informing = Informing::default();
        Far { dialog, descriptions, peer, is_behind_nat: false, is_by_datagram: false, informing }
    }

    /// What requests of the far end are found by.
    fn tags(&self) -> (String, String, String) {
        (self.dialog.call_id.clone(), self.dialog.local_tag.clone(), self.dialog.remote_tag.clone())
    }
}

/// Why a request within a dialog gets 481.
const NO_DIALOG: &str = "no dialog here has this Call-ID and these tags";

/// Why it gets 500.
const OLD_CSEQ: &str = "its CSeq is not above the last one of the dialog";

/// Why a call gets 487.
const WITHDRAWN: &str = "the caller withdrew the call before its answer";

/// Ours and theirs, as last agreed in a dialog that is up; `None` while it is not, or an offer is open.
#[cfg(test)]
impl Endpoint {
    pub(super) fn agreed_descriptions(&self, id: DialogId) -> Option<(String, String)> {
        let session = self.sessions.get(&id).filter(|session| session.state == State::Confirmed)?;
        let descriptions = Some(&session.far.descriptions).filter(|descriptions| descriptions.is_agreed())?;
        let text = |sdp: &[u8]| String::from_utf8_lossy(sdp).into_owned();
        Some((text(descriptions.local()?), text(descriptions.remote()?)))
    }
}

#[cfg(test)]
impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.invites.is_empty() && self.calls.is_empty()
    }
}

#[cfg(test)]
mod tests;
