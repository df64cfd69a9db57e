//! INVITEs and re-INVITEs that come in, and what they are answered with (RFC 3261 §13.3, §14.2).

use std::time::Instant;

use rand_chacha::rand_core::RngCore;

use super::{Far, NO_DIALOG, OLD_CSEQ, Session, State, Unacknowledged};
use crate::sip::dialog::Dialog;
use crate::sip::endpoint::extensions::Peer;
use crate::sip::endpoint::requests::{sdp_of, server_key};
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{
    CommandError, DialogId, EndCause, Endpoint, Event, Flow, Offered, Output, Refusal, Server, TransactionKey,
};
use crate::sip::message::{Headers, Method, Request};
use crate::sip::transaction::server_invite::ServerInvite;

impl Endpoint {
    /// Sends 180 to the INVITE, or 183 with a description: early media may follow. Where the far end supports it, a
    /// description goes reliably (RFC 3262), and is its answer: the 200 carries none again.
    ///
    /// # Errors
    /// [`CommandError`]. [`Event::Ended`] follows when the line and the far end do not agree on reliability.
    pub fn ring(&mut self, dialog: DialogId, sdp: Option<&[u8]>, now: Instant) -> Result<(), CommandError> {
        let mut reply = self.described(dialog, if sdp.is_some() { 183 } else { 180 })?;
        if self.refuse_extension(dialog, now) {
            return Err(CommandError::NoDialog);
        }
        reply.sdp = sdp.map(<[u8]>::to_vec);
        self.ring_with(dialog, reply, now)
    }

    /// Answers what waits: the offer of an UPDATE or PRACK, the offer in the 2xx to an INVITE of ours that had none
    /// (its ACK then goes out), else the INVITE or re-INVITE with a 200 that is repeated until the ACK. A 200 waits for
    /// the PRACK of a description before it (RFC 3262 §3).
    ///
    /// # Errors
    /// [`CommandError`]. [`Event::Ended`] follows when the line and the far end do not agree on reliability.
    pub fn answer(&mut self, dialog: DialogId, sdp: &[u8], now: Instant) -> Result<(), CommandError> {
        let mut reply = self.described(dialog, 200)?;
        if self.answer_waiting(dialog, sdp, now) || self.answer_late(dialog, sdp, now) {
            return Ok(());
        }
        if self.refuse_extension(dialog, now) {
            return Err(CommandError::NoDialog);
        }
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        let key = session.pending.as_ref().ok_or(CommandError::NothingPending)?;
        let Some(Server::Invite { headers, .. }) = self.servers.get(key) else {
            return Err(CommandError::NothingPending);
        };
        reply.fields.extend(session.timing.accept(headers, session.extensions.session_expires));
        let descriptions = &session.far.descriptions;
        if session.state != State::Early || descriptions.is_theirs_open() || descriptions.local().is_none() {
            reply.sdp = Some(sdp.to_vec()).filter(|_| !descriptions.is_ours_open());
        }
        match self.hold_answer(dialog, reply) {
            Ok(()) => Ok(()),
            Err(reply) => self.respond(dialog, &reply, now),
        }
    }

    /// Refuses what waits: the offer of an UPDATE or PRACK, else the INVITE or re-INVITE. To refuse the first INVITE
    /// ends the dialog.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn refuse(&mut self, dialog: DialogId, refusal: Refusal, now: Instant) -> Result<(), CommandError> {
        if self.refuse_waiting(dialog, &refusal, now) {
            return Ok(());
        }
        self.refuse_call(dialog, refusal, now)
    }

    pub(super) fn refuse_call(&mut self, dialog: DialogId, refusal: Refusal, now: Instant) -> Result<(), CommandError> {
        self.respond(dialog, &Reply::of_refusal(refusal), now)?;
        if self.sessions.get(&dialog).is_some_and(|session| session.state == State::Early) {
            self.end_waiting(dialog, now);
            self.forget_session(dialog);
        }
        Ok(())
    }

    /// A response that tells where and what we are (RFC 3261 §12.1.1).
    pub(super) fn described(&self, id: DialogId, status: u16) -> Result<Reply, CommandError> {
        let contact = self.contact(id)?;
        let extensions = self.sessions.get(&id).ok_or(CommandError::NoDialog)?.extensions;
        let reply = Reply::new(status).with("Contact", contact).with("Allow", extensions.allow());
        Ok(reply.with("Supported", extensions.supported()))
    }

    pub(in crate::sip::endpoint) fn handle_invite(&mut self, flow: &Flow, request: Request, now: Instant) {
        if self.by_invite.contains_key(&invite_name(&request)) {
            // RFC 3261 §8.2.2.2.
            let reply = Reply::new(482).because("the same call has come by another path");
            return self.reply(flow, &request, reply, now);
        }
        if self.sessions.len() >= self.config.dialogs_max || self.is_full() {
            self.counters.overloaded += 1;
            return self.reply(flow, &request, Reply::new(503).with("Retry-After", "10").because(FULL), now);
        }
        let replaces = match self.replaced_by(&request) {
            Ok(replaces) => replaces,
            Err(refusal) => return self.reply(flow, &request, refusal, now),
        };
        self.next_dialog += 1;
        let id = DialogId(self.next_dialog);
        let tag = self.tag();
        let sdp = sdp_of(&request);
        let mut far = Far { peer: Peer::of(&request.headers), ..Far::new(Dialog::of_invite(&request, tag.clone())) };
        far.is_behind_nat = is_behind_nat(flow, &request) || !far.dialog.has_contact();
        sdp.clone().into_iter().for_each(|sdp| far.descriptions.handle_offer(sdp));
        self.by_tags.insert(far.tags(), id);
        self.by_invite.insert(invite_name(&request), id);
        let mut session = Session::new(far, *flow, State::Early);
        session.pending = Some(self.begin_invite(flow, &request, tag, id));
        session.invite_name = Some(invite_name(&request));
        session.timing.learn(&request.headers);
        self.sessions.insert(id, session);
        self.outputs.push_back(Output::Event(Event::Offered(Box::new(Offered {
            dialog: id,
            flow: *flow,
            call_id: request.core.call_id.clone(),
            sdp,
            replaces,
            authorization: authorization(&request.headers),
            request_uri: request.uri,
            from: request.core.from,
            to: request.core.to,
            headers: request.headers,
        }))));
    }

    pub(in crate::sip::endpoint) fn handle_reinvite(&mut self, flow: &Flow, request: Request, now: Instant) {
        let no_dialog = Reply::new(481).because(NO_DIALOG);
        let Some(id) = self.dialog_of(&request) else { return self.reply(flow, &request, no_dialog, now) };
        let soon = self.put_off();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.state != State::Confirmed {
            return self.reply(flow, &request, no_dialog, now);
        }
        let (far, sdp) = (&mut session.far, sdp_of(&request));
        if session.pending.is_some() || far.descriptions.is_theirs_open() {
            // RFC 3261 §14.2: another INVITE before the last was answered.
            return self.reply(flow, &request, soon.because("the last offer is not answered"), now);
        }
        let is_inviting = session.reoffer.as_ref().is_some_and(|reoffer| reoffer.is_inviting());
        if session.unacknowledged.is_some() || is_inviting || far.descriptions.is_ours_open() {
            return self.reply(flow, &request, Reply::new(491).because("an offer of ours is on its way"), now);
        }
        if far.dialog.handle_cseq(request.core.cseq).is_err() {
            return self.reply(flow, &request, Reply::new(500).because(OLD_CSEQ), now);
        }
        session.flow = *flow;
        far.is_behind_nat = is_behind_nat(flow, &request) || !far.dialog.has_contact();
        far.peer.learn(&request.headers);
        session.timing.learn(&request.headers);
        let unchanged = sdp.as_deref().and_then(|sdp| far.descriptions.unchanged(sdp)).map(<[u8]>::to_vec);
        sdp.clone().into_iter().for_each(|sdp| far.descriptions.handle_offer(sdp));
        let tag = far.dialog.local_tag.clone();
        let (key, branch) = (self.begin_invite(flow, &request, tag, id), session_branch(self, id));
        if let Some(session) = self.sessions.get_mut(&id) {
            session.pending = Some(key);
        }
        match unchanged {
            // A refresh asks nobody (`house` §9).
            Some(ours) => drop(self.answer(id, &ours, now)),
            None => self.outputs.push_back(Output::Event(Event::ReOffered { dialog: id, sdp, branch })),
        }
    }

    /// 500 with a time, 0 to 10 s by chance (RFC 3261 §14.2, RFC 3311 §5.2).
    pub(super) fn put_off(&mut self) -> Reply {
        let seconds = self.random.next_u32() % 11;
        Reply::new(500).with("Retry-After", seconds.to_string())
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
    pub(super) fn respond(&mut self, id: DialogId, reply: &Reply, now: Instant) -> Result<(), CommandError> {
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
        match reply.status {
            ..200 => {}
            200..300 => {
                // RFC 6141 §4.6: only a request that is accepted moves the far end.
                session.far.dialog.refresh_target(headers);
                session.begin_answered(reply, now);
                let (t1, give_up) = (self.config.timers.t1, now + self.config.timers.timeout());
                let response = bytes.clone();
                let (retransmit_at, interval) = (now + t1, t1);
                session.unacknowledged =
                    Some(Unacknowledged { cseq, response, flow, retransmit_at, interval, give_up });
            }
            _ => {
                session.pending = None;
                session.reliable.stop();
                session.far.descriptions.withdraw();
            }
        }
        self.see_own_refusal(reply, &Method::Invite, flow, Some(id));
        self.send(flow, bytes);
        if reply.status >= 300 && self.is_flooded() {
            self.forget_server(&key);
        }
        self.schedule_server(key);
        if reply.status >= 300 && self.sessions.get(&id).is_some_and(|session| session.state == State::Confirmed) {
            // A re-INVITE of theirs is out of the way.
            self.try_reoffer(id, now);
        }
        self.schedule_session(id);
        Ok(())
    }

    /// The 200 waits for its ACK (RFC 3261 §13.3.1.4).
    pub(super) fn handle_answer_timeout(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(waiting) = &mut session.unacknowledged else { return };
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
    }
}

impl Session {
    /// A 2xx goes out: what it says holds from here on.
    fn begin_answered(&mut self, reply: &Reply, now: Instant) {
        self.pending = None;
        self.state = State::Confirmed;
        self.reliable.stop();
        if let Some(sdp) = &reply.sdp {
            self.far.descriptions.describe(sdp);
        }
        self.timing.begin_answered(now);
    }
}

fn session_branch(endpoint: &Endpoint, id: DialogId) -> u32 {
    endpoint.sessions.get(&id).map_or(0, |session| session.branch)
}

/// What proves an account, as it came.
fn authorization(headers: &Headers) -> Vec<String> {
    let values = headers.texts("Authorization").chain(headers.texts("Proxy-Authorization"));
    values.take(AUTHORIZATIONS_MAX).map(|value| value.into_owned()).collect()
}

/// The sender's own address in Via is another than the one it is seen with.
pub(super) fn is_behind_nat(flow: &Flow, request: &Request) -> bool {
    request.core.via.host.ip() != Some(flow.remote.ip())
}

fn invite_name(invite: &Request) -> super::InviteName {
    (invite.core.call_id.clone(), invite.core.from.tag().unwrap_or_default().to_owned(), invite.core.cseq)
}

fn cseq_of(headers: &Headers) -> u32 {
    let cseq = headers.texts("CSeq").next().unwrap_or_default();
    cseq.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// 8 values: RFC 7616 knows six algorithms.
const AUTHORIZATIONS_MAX: usize = 8;

/// Why a call gets 503.
const FULL: &str = "as many dialogs are up as this box carries";
