//! INVITE sessions: from the offer to the BYE (RFC 3261 §13–§15).
//!
//! ```text
//!   INVITE ─▶ Offered ── ring ──▶ 180
//!                │ answer ─▶ 200, repeated until ACK ─▶ Acknowledged ── BYE either way ──▶ over
//!                │ refuse ─▶ 300–699                        │ re-INVITE ─▶ ReOffered ─▶ answer or refuse
//!                └ CANCEL ─▶ 487, Ended
//! ```

mod account;
mod answers;
mod info;
mod outgoing;
mod refused;
mod request;
mod saved;

use std::time::{Duration, Instant};

use rand_chacha::rand_core::RngCore;

use super::extensions::{Extensions, Peer};
use super::requests::{sdp_of, server_key};
use super::respond::Reply;
use super::{
    CommandError, DialogId, EndCause, Endpoint, Event, Flow, Offered, Output, Purpose, Refusal, Server, StreamId,
    Timer, TransactionKey,
};
use crate::sip::dialog::Dialog;
use crate::sip::message::{Headers, Method, Reason, Request};
use crate::sip::transaction::server_invite::ServerInvite;

use account::Account;
use request::{contact, via};

pub(super) use request::reason_value;

pub(super) use account::Tried;
pub(super) use outgoing::Outgoing;
pub use outgoing::{InviteError, InviteOrder};
pub use saved::SavedError;

/// One dialog and its INVITE usage.
#[derive(Debug)]
pub(super) struct Session {
    dialog: Dialog,
    /// Of an INVITE that came.
    invite_name: Option<InviteName>,
    flow: Flow,
    /// The far end sits behind a NAT, or left its Contact out: requests go back to where its own came from.
    is_behind_nat: bool,
    /// The INVITE or re-INVITE that waits for its final response.
    pending: Option<TransactionKey>,
    /// The 2xx that waits for its ACK.
    unacknowledged: Option<Unacknowledged>,
    state: State,
    /// What challenges to our requests are answered with.
    account: Option<Account>,
    /// What this line uses of SIP's extensions.
    extensions: Extensions,
    /// What the far end can do.
    peer: Peer,
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

    /// Tells whether the far end's last Allow names a method.
    pub fn allows(&self, dialog: DialogId, method: &Method) -> bool {
        self.sessions.get(&dialog).is_some_and(|session| session.peer.allows(method))
    }

    /// Sends 180 to the INVITE, or 183 with a description: early media may follow.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn ring(&mut self, dialog: DialogId, sdp: Option<&[u8]>, now: Instant) -> Result<(), CommandError> {
        let mut reply = self.described(dialog, if sdp.is_some() { 183 } else { 180 })?;
        reply.sdp = sdp.map(<[u8]>::to_vec);
        self.respond(dialog, &reply, now)
    }

    /// Sends 200 with `sdp` to the INVITE or re-INVITE that waits, and repeats it until the ACK.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn answer(&mut self, dialog: DialogId, sdp: &[u8], now: Instant) -> Result<(), CommandError> {
        let mut reply = self.described(dialog, 200)?;
        reply.sdp = Some(sdp.to_vec());
        self.respond(dialog, &reply, now)
    }

    /// Sends a final response other than 2xx to the INVITE or re-INVITE that waits. The first ends the dialog.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn refuse(&mut self, dialog: DialogId, refusal: Refusal, now: Instant) -> Result<(), CommandError> {
        self.respond(dialog, &Reply::of_refusal(refusal), now)?;
        if self.sessions.get(&dialog).is_some_and(|session| session.state == State::Early) {
            self.forget_session(dialog);
        }
        Ok(())
    }

    /// A response that tells where and what we are (RFC 3261 §12.1.1).
    fn described(&self, id: DialogId, status: u16) -> Result<Reply, CommandError> {
        let contact = self.contact(id)?;
        let extensions = self.sessions.get(&id).ok_or(CommandError::NoDialog)?.extensions;
        let reply = Reply::new(status).with("Contact", contact).with("Allow", extensions.allow());
        Ok(reply.with("Supported", extensions.supported()))
    }

    /// Ends a dialog: 480 before the answer; BYE after it, as soon as the ACK has come. A call that we placed and
    /// nobody has answered is cancelled (RFC 3261 §9.1). No event follows: it is our own doing.
    ///
    /// # Errors
    /// [`CommandError::NoDialog`].
    pub fn hang_up(&mut self, dialog: DialogId, reason: Option<String>, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        match session.state {
            State::Calling => {
                self.cancel(dialog, reason, now);
                Ok(())
            }
            State::Early => self.refuse(dialog, Refusal { reason, ..Refusal::new(480) }, now),
            State::Confirmed if session.unacknowledged.is_some() => {
                session.state = State::Leaving { reason };
                Ok(())
            }
            State::Confirmed => {
                self.bye(dialog, reason, now);
                Ok(())
            }
            State::Leaving { .. } | State::Gone => Ok(()),
        }
    }

    /// Asks within a confirmed dialog whether the far end still knows it. No answer, 408 or 481 is
    /// [`EndCause::Gone`]; anything else changes nothing.
    ///
    /// # Errors
    /// [`CommandError::NoDialog`].
    pub fn probe(&mut self, dialog: DialogId, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get(&dialog).ok_or(CommandError::NoDialog)?;
        if session.state == State::Confirmed {
            self.request(dialog, &Method::Options, &[], Purpose::Probe, now);
        }
        Ok(())
    }

    /// The far end is not there: BYE for whoever still listens.
    pub(super) fn end_unreachable(&mut self, id: DialogId, now: Instant) {
        if self.sessions.get(&id).is_some_and(|session| session.state == State::Confirmed) {
            self.bye(id, None, now);
            self.tell_end(id, EndCause::Gone, None);
        }
    }

    /// Tells that a dialog is over, with what the far end says of it.
    fn tell_end(&mut self, dialog: DialogId, cause: EndCause, headers: Option<&Headers>) {
        let reason = headers.and_then(Reason::of).map(|reason| reason.to_string());
        self.outputs.push_back(Output::Event(Event::Ended { dialog, cause, reason }));
    }

    pub(super) fn handle_invite(&mut self, flow: &Flow, request: Request, now: Instant) {
        if self.is_merged(&request) {
            let reply = Reply::new(482).because("the same call has come by another path");
            return self.reply(flow, &request, reply, now);
        }
        if self.sessions.len() >= self.config.dialogs_max || self.is_full() {
            self.counters.overloaded += 1;
            return self.reply(flow, &request, Reply::new(503).with("Retry-After", "10").because(FULL), now);
        }
        self.next_dialog += 1;
        let id = DialogId(self.next_dialog);
        let tag = self.tag();
        let dialog = Dialog::of_invite(&request, tag.clone());
        self.by_tags.insert((dialog.call_id.clone(), tag.clone(), dialog.remote_tag.clone()), id);
        self.by_invite.insert(invite_name(&request), id);
        let key = self.begin_invite(flow, &request, tag, id);
        let is_behind_nat = is_behind_nat(flow, &request) || !dialog.has_contact();
        self.sessions.insert(
            id,
            Session {
                dialog,
                invite_name: Some(invite_name(&request)),
                flow: *flow,
                is_behind_nat,
                pending: Some(key),
                unacknowledged: None,
                state: State::Early,
                account: None,
                extensions: Extensions::default(),
                peer: Peer::of(&request.headers),
            },
        );
        self.outputs.push_back(Output::Event(Event::Offered(Box::new(Offered {
            dialog: id,
            flow: *flow,
            call_id: request.core.call_id.clone(),
            sdp: sdp_of(&request),
            replaces: None,
            authorization: authorization(&request.headers),
            request_uri: request.uri,
            from: request.core.from,
            to: request.core.to,
            headers: request.headers,
        }))));
    }

    pub(super) fn handle_reinvite(&mut self, flow: &Flow, request: Request, now: Instant) {
        let Some(id) = self.dialog_of(&request) else {
            return self.reply(flow, &request, Reply::new(481).because(NO_DIALOG), now);
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.state != State::Confirmed {
            return self.reply(flow, &request, Reply::new(481).because(NO_DIALOG), now);
        }
        if session.pending.is_some() {
            // RFC 3261 §14.2: another INVITE before the last was answered; 0 to 10 s by chance.
            let seconds = self.random.next_u32() % 11;
            let reply = Reply::new(500).with("Retry-After", seconds.to_string());
            return self.reply(flow, &request, reply.because("the last offer is not answered"), now);
        }
        if session.unacknowledged.is_some() {
            return self.reply(flow, &request, Reply::new(491).because("the last answer is not acknowledged"), now);
        }
        if session.dialog.handle_cseq(request.core.cseq).is_err() {
            return self.reply(flow, &request, Reply::new(500).because(OLD_CSEQ), now);
        }
        session.dialog.refresh_target(&request.headers);
        session.flow = *flow;
        session.is_behind_nat = is_behind_nat(flow, &request) || !session.dialog.has_contact();
        let tag = session.dialog.local_tag.clone();
        let key = self.begin_invite(flow, &request, tag, id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.pending = Some(key);
        }
        self.outputs.push_back(Output::Event(Event::ReOffered { dialog: id, sdp: sdp_of(&request), branch: 0 }));
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
        if let State::Leaving { reason } = &session.state {
            let reason = reason.clone();
            return self.bye(id, reason, now);
        }
        self.outputs.push_back(Output::Event(Event::Acknowledged { dialog: id, sdp: sdp_of(request) }));
    }

    pub(super) fn handle_cancel(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let key = server_key(request, &Method::Invite);
        let Some(Server::Invite { machine, dialog, to_tag, .. }) = self.servers.get(&key) else {
            return self.reply(flow, request, Reply::new(481).because(NO_DIALOG), now);
        };
        let (cancelled, tag) = (dialog.filter(|_| machine.is_proceeding()), to_tag.clone());
        // RFC 3261 §9.2: the same tag as in the response to the INVITE.
        self.reply_tagged(flow, request, Reply::new(200), tag, now);
        let Some(id) = cancelled else { return };
        // A re-INVITE that is cancelled leaves the dialog as it was.
        let is_early = self.sessions.get(&id).is_some_and(|session| session.state == State::Early);
        if self.respond(id, &Reply::new(487).because(WITHDRAWN), now).is_ok() && is_early {
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
        if session.dialog.handle_cseq(request.core.cseq).is_err() {
            return self.reply(flow, request, Reply::new(500).because(OLD_CSEQ), now);
        }
        let (was_pending, was_ours) = (session.pending.is_some(), session.state == State::Gone);
        self.reply(flow, request, Reply::new(200), now);
        if was_pending {
            // RFC 3261 §15.1.2: what still waits for an answer gets 487.
            let _ = self.respond(id, &Reply::new(487).because(WITHDRAWN), now);
        }
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
        let found = self.dialog_of(request);
        let session = found.and_then(|id| self.sessions.get_mut(&id));
        let (reply, found) = match session.map(|session| session.dialog.handle_cseq(request.core.cseq)) {
            Some(Ok(())) => (reply, found),
            Some(Err(_)) => (Reply::new(500).because(OLD_CSEQ), None),
            None => (Reply::new(481).because(NO_DIALOG), None),
        };
        self.reply(flow, request, reply, now);
        found
    }

    pub(super) fn handle_dialog_timeout(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(waiting) = &mut session.unacknowledged else { return self.handle_cancel_timeout(id, now) };
        if waiting.give_up <= now {
            session.unacknowledged = None;
            let was_leaving = matches!(session.state, State::Leaving { .. });
            self.bye(id, Some("No ACK".into()), now);
            if !was_leaving {
                self.tell_end(id, EndCause::NoAck, None);
            }
            return;
        }
        if waiting.retransmit_at <= now {
            waiting.interval = (waiting.interval * 2).min(self.config.timers.t2);
            waiting.retransmit_at = now + waiting.interval;
            self.outputs.push_back(Output::Send { flow: waiting.flow, bytes: waiting.response.clone() });
        }
        let at = waiting.retransmit_at.min(waiting.give_up);
        self.timers.insert((at, Timer::Dialog(id)));
    }

    /// A stream has ended: requests of its dialogs need another one (RFC 3261 §18.1.1).
    pub fn handle_stream_closed(&mut self, stream: StreamId) {
        for session in self.sessions.values_mut().filter(|session| session.flow.stream == Some(stream)) {
            session.flow.stream = None;
        }
    }

    pub(super) fn forget_session(&mut self, id: DialogId) {
        if let Some(Session { dialog, invite_name, .. }) = self.sessions.remove(&id) {
            if let Some(name) = invite_name {
                self.by_invite.remove(&name);
            }
            self.by_tags.remove(&(dialog.call_id, dialog.local_tag, dialog.remote_tag));
        }
    }

    /// Begins the server transaction of an INVITE, with its 100.
    fn begin_invite(&mut self, flow: &Flow, request: &Request, to_tag: String, dialog: DialogId) -> TransactionKey {
        let key = server_key(request, &Method::Invite);
        let back = self.reply_flow(flow, &request.headers);
        let trying = Reply::new(100).write(&request.headers, flow, None, &self.config.server);
        self.send(back, trying.clone());
        let machine = ServerInvite::new(trying, back.reliability(), self.config.timers);
        let headers = request.headers.clone();
        let server = Server::Invite { machine, flow: back, headers, to_tag, dialog: Some(dialog) };
        self.remember_server(key.clone(), server);
        key
    }

    /// Responds to the INVITE or re-INVITE that waits.
    fn respond(&mut self, id: DialogId, reply: &Reply, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&id).ok_or(CommandError::NoDialog)?;
        let key = session.pending.clone().ok_or(CommandError::NothingPending)?;
        let Some(Server::Invite { machine, flow, headers, to_tag, .. }) = self.servers.get_mut(&key) else {
            return Err(CommandError::NothingPending);
        };
        // The request's source, for `received` and `rport`, is the flow it came by.
        let bytes =
            reply.write(headers, &Flow { remote: session.flow.remote, ..*flow }, Some(to_tag), &self.config.server);
        if !machine.respond(reply.status, bytes.clone(), now) {
            return Err(CommandError::NothingPending);
        }
        let (flow, cseq) = (*flow, cseq_of(headers));
        self.see_own_refusal(reply, &Method::Invite, flow, Some(id));
        let session = self.sessions.get_mut(&id).ok_or(CommandError::NoDialog)?;
        if reply.status >= 200 {
            session.pending = None;
        }
        if (200..300).contains(&reply.status) {
            session.state = State::Confirmed;
            let (t1, give_up) = (self.config.timers.t1, now + self.config.timers.timeout());
            session.unacknowledged = Some(Unacknowledged {
                cseq,
                response: bytes.clone(),
                flow,
                retransmit_at: now + t1,
                interval: t1,
                give_up,
            });
            self.timers.insert((now + t1, Timer::Dialog(id)));
        }
        self.send(flow, bytes);
        if reply.status >= 300 && self.is_flooded() {
            self.forget_server(&key);
        }
        self.schedule_server(key);
        Ok(())
    }

    /// The same request by two paths (RFC 3261 §8.2.2.2).
    fn is_merged(&self, request: &Request) -> bool {
        self.by_invite.contains_key(&invite_name(request))
    }

    pub(super) fn dialog_of(&self, request: &Request) -> Option<DialogId> {
        let core = &request.core;
        let from = core.from.tag().unwrap_or_default().to_owned();
        self.by_tags.get(&(core.call_id.clone(), core.to.tag()?.to_owned(), from)).copied()
    }
}

impl Session {
    /// Where the next request goes: back on their stream while it is open, else to the next hop's address, or back
    /// where theirs came from. A stream is opened towards nobody but the host that the dialog's requests came from.
    fn next_flow(&self) -> Flow {
        match self.dialog.next_hop() {
            _ if self.flow.stream.is_some() => self.flow,
            Some((ip, _)) if self.flow.transport.is_reliable() && ip != self.flow.remote.ip() => self.flow,
            Some((ip, port)) if !self.is_behind_nat => {
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

/// What proves an account, as it came.
fn authorization(headers: &Headers) -> Vec<String> {
    let values = headers.texts("Authorization").chain(headers.texts("Proxy-Authorization"));
    values.take(AUTHORIZATIONS_MAX).map(|value| value.into_owned()).collect()
}

/// The sender's own address in Via is another than the one it is seen with.
fn is_behind_nat(flow: &Flow, request: &Request) -> bool {
    request.core.via.host.ip() != Some(flow.remote.ip())
}

fn invite_name(invite: &Request) -> InviteName {
    (invite.core.call_id.clone(), invite.core.from.tag().unwrap_or_default().to_owned(), invite.core.cseq)
}

fn cseq_of(headers: &crate::sip::message::Headers) -> u32 {
    let cseq = headers.texts("CSeq").next().unwrap_or_default();
    cseq.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// 8 values: RFC 7616 knows six algorithms.
const AUTHORIZATIONS_MAX: usize = 8;

/// Why a request within a dialog gets 481.
const NO_DIALOG: &str = "no dialog here has this Call-ID and these tags";

/// Why it gets 500.
const OLD_CSEQ: &str = "its CSeq is not above the last one of the dialog";

/// Why a call gets 487.
const WITHDRAWN: &str = "the caller withdrew the call before its answer";

/// Why a call gets 503.
const FULL: &str = "as many dialogs are up as this box carries";

#[cfg(test)]
mod tests;
