//! Responses to our INVITEs (RFC 3261 §13.2.2, §17.1.1; RFC 6026 §7.2).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::outgoing::{Acknowledgement, Calling, Invite, Sent};
use super::{Far, Session, State};
use crate::sip::dialog::Dialog;
use crate::sip::endpoint::large::Fitted;
use crate::sip::endpoint::requests::sdp_of_response;
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{DialogId, Endpoint, Event, Flow, Output, TransactionKey};
use crate::sip::message::{COOKIE, Headers, Method, NameAddr, Reason, Response, Uri};
use crate::sip::transaction::client_invite::Meaning;

impl Endpoint {
    pub(in crate::sip::endpoint) fn handle_invite_response(
        &mut self,
        flow: &Flow,
        key: &TransactionKey,
        response: &Response,
        now: Instant,
    ) {
        let Some(invite) = self.outgoing.invites.get_mut(key).filter(|invite| invite.is_asked(response)) else {
            self.counters.dropped += 1;
            return;
        };
        invite.spare = None;
        let (meaning, id) = (invite.machine.handle_response(response.status, now), invite.dialog);
        let is_again = invite.is_again;
        self.schedule_invite(key.clone());
        match meaning {
            _ if is_again => self.handle_reinvite_response(flow, key, response, meaning, now),
            Meaning::Ignore => {}
            Meaning::AckAgain => self.acknowledge_refusal(flow, key, response),
            Meaning::PassUpAndAck => {
                self.acknowledge_refusal(flow, key, response);
                self.handle_refused(flow, id, response, now);
            }
            Meaning::PassUp if response.status < 200 => self.handle_progress(flow, key, id, response, now),
            Meaning::PassUp => self.handle_accepted(flow, key, response, now),
        }
    }

    fn handle_refused(&mut self, flow: &Flow, id: DialogId, response: &Response, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return };
        session.follow_stream(flow);
        if calling.leaving.is_none()
            && let Some(account) = &mut session.account
            && account.learn(&session.flow, &mut calling.tried, response)
        {
            return self.send_invite(id, now);
        }
        if response.status == 422 && calling.leaving.is_none() && session.extensions.session_expires.is_some() {
            // RFC 4028 §7.3: again, with the interval that it wants.
            let before = session.timing.min();
            session.timing.learn(&response.headers);
            if session.timing.min() > before && calling.may_ask_longer() {
                self.see_their_refusal(*flow, Some(id), response);
                return self.send_invite(id, now);
            }
        }
        self.see_their_refusal(*flow, Some(id), response);
        self.end_waiting(id, now);
        if self.forget_call(id) {
            return;
        }
        let contacts = if response.status < 400 { contacts(&response.headers) } else { Vec::new() };
        self.outputs.push_back(Output::Event(Event::Refused {
            dialog: id,
            status: response.status,
            contacts,
            retry_after: retry_after(&response.headers),
            reason: Reason::of(&response.headers).map(|reason| reason.to_string()),
        }));
    }

    /// A 2xx: the first makes the dialog, a copy gets its ACK again, another branch of a fork its ACK and BYE.
    fn handle_accepted(&mut self, flow: &Flow, key: &TransactionKey, response: &Response, now: Instant) {
        if self.acknowledge_copy(flow, key, response) {
            return;
        }
        let Some(invite) = self.outgoing.invites.get(key) else { return };
        if invite.acks.len() >= ANSWERS_MAX {
            self.counters.dropped += 1;
            return;
        }
        let (id, start, base) = (invite.dialog, invite.sent.dialog.clone(), invite.flow);
        let calling = if invite.acks.is_empty() { self.outgoing.calls.remove(&id) } else { None };
        let Some(calling) = calling else { return self.end_branch(id, key, start, base, flow, response, now) };
        let tag = response.core.to.tag().unwrap_or_default();
        self.end_other_branches(id, &calling, tag, now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Calling { leaving, earlies, branches, .. } = calling;
        let early = earlies.into_iter().find(|early| early.far.dialog.remote_tag == tag);
        session.branch = early.as_ref().map_or(branches + 1, |early| early.branch);
        session.far = early.map_or(Far { dialog: start, ..session.far.clone() }, |early| early.far);
        session.begin_accepted(flow, response, now);
        let sdp = sdp_of_response(response);
        let descriptions = &mut session.far.descriptions;
        match &sdp {
            _ if descriptions.is_ours_open() => descriptions.handle_answer(sdp.as_deref()),
            Some(sdp) if !descriptions.is_agreed() => {
                // A late offer: the ACK waits for the answer to it (RFC 3261 §13.2.2.4).
                descriptions.handle_offer(sdp.clone());
                session.late = Some(key.clone());
            }
            _ => {}
        }
        let (is_late, branch) = (session.late.is_some(), session.branch);
        self.by_tags.insert(session.far.tags(), id);
        self.schedule_session(id);
        if !is_late {
            self.acknowledge(id, key, None, now);
        }
        match leaving {
            Some(leaving) => self.bye(id, leaving.reason, now),
            None => self.outputs.push_back(Output::Event(Event::Accepted { dialog: id, sdp, branch })),
        }
    }

    /// Another branch of a fork has answered as well: ACK and BYE, and nobody is told (RFC 3261 §13.2.2.4).
    #[expect(clippy::too_many_arguments, reason = "all of them name the one response")]
    fn end_branch(
        &mut self,
        call: DialogId,
        key: &TransactionKey,
        start: Dialog,
        base: Flow,
        flow: &Flow,
        response: &Response,
        now: Instant,
    ) {
        let known = self.sessions.get(&call);
        if known.is_some_and(|session| session.late.is_some() && session.far.dialog.remote_tag == tag_of(response)) {
            // A copy of the answer whose ACK waits for our own.
            return;
        }
        let account = known.and_then(|session| session.account.clone());
        let mut session = Session::new(Far::new(start), base, State::Confirmed);
        session.account = account;
        session.begin_accepted(flow, response, now);
        let id = self.adopt_session(session);
        self.acknowledge(id, key, None, now);
        self.bye(id, None, now);
    }

    /// The early dialogs that did not answer are over.
    fn end_other_branches(&mut self, id: DialogId, calling: &Calling, tag: &str, now: Instant) {
        for early in &calling.earlies {
            self.by_tags.remove(&early.far.tags());
            let is_other = early.far.dialog.remote_tag != tag;
            if let Some((key, _)) = early.far.descriptions.waiting.as_ref().filter(|_| is_other) {
                let reply = Reply::new(487).because("another branch of the call was answered");
                self.respond_waiting(key, &reply, Some(id), now);
            }
        }
    }

    /// Answers the offer in the 2xx to an INVITE that had none, with its ACK, or the one in a reliable provisional
    /// response; `false` when none waits.
    pub(super) fn answer_late(&mut self, id: DialogId, sdp: &[u8], now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(key) = session.late.take() else { return self.answer_early(id, sdp, now) };
        session.far.descriptions.describe(sdp);
        self.acknowledge(id, &key, Some(sdp), now);
        self.try_reoffer(id, now);
        true
    }

    /// A late offer is answered by nobody: its ACK goes out bare.
    pub(super) fn give_up_late(&mut self, id: DialogId, now: Instant) {
        if let Some(key) = self.sessions.get_mut(&id).and_then(|session| session.late.take()) {
            self.acknowledge(id, &key, None, now);
        }
    }

    /// Acknowledges the 2xx that made this dialog, and keeps the ACK for its copies (RFC 3261 §13.2.2.4).
    fn acknowledge(&mut self, id: DialogId, key: &TransactionKey, sdp: Option<&[u8]>, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (flow, dialog) = (session.next_flow(&session.far), session.far.dialog.clone());
        self.write_ack(key, flow, &dialog, sdp, now);
    }

    /// Acknowledges the 2xx to a re-INVITE; its dialog may have ended meanwhile.
    pub(super) fn acknowledge_again(&mut self, id: DialogId, key: &TransactionKey, response: &Response, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.far.dialog.refresh_target(&response.headers);
            return self.acknowledge(id, key, None, now);
        }
        let Some(invite) = self.outgoing.invites.get(key) else { return };
        let (flow, mut dialog) = (invite.flow, invite.sent.dialog.clone());
        dialog.refresh_target(&response.headers);
        self.write_ack(key, flow, &dialog, None, now);
    }

    fn write_ack(&mut self, key: &TransactionKey, flow: Flow, dialog: &Dialog, sdp: Option<&[u8]>, now: Instant) {
        let branch = format!("{COOKIE}{}", self.tag());
        let Some(Sent { cseq, credentials, .. }) = self.outgoing.invites.get(key).map(|invite| &invite.sent) else {
            return;
        };
        let mut fields = credentials.clone();
        fields.extend(sdp.map(|_| ("Content-Type", "application/sdp".to_owned())));
        let body = sdp.unwrap_or_default();
        let write = |_: &Flow, via: &str| dialog.write(&Method::Ack, *cseq, via, &fields, body);
        let Fitted { flow, bytes, spare, .. } = self.fit(flow, &branch, now, write);
        self.send_fitted(flow, bytes.clone(), spare.as_deref());
        let to_tag = dialog.remote_tag.clone();
        if let Some(invite) = self.outgoing.invites.get_mut(key) {
            invite.acks.push(Acknowledgement { to_tag, flow, bytes, spare });
        }
    }

    /// Sends the ACK of a 2xx again when this is a copy of it; `false` when it is none.
    pub(super) fn acknowledge_copy(&mut self, flow: &Flow, key: &TransactionKey, response: &Response) -> bool {
        let acks = self.outgoing.invites.get(key).into_iter().flat_map(|invite| &invite.acks);
        let Some(ack) = acks.into_iter().find(|ack| ack.to_tag == tag_of(response)) else { return false };
        let flow = if flow.transport.is_reliable() { *flow } else { ack.flow };
        let bytes = ack.bytes.clone();
        self.send(flow, bytes);
        true
    }

    /// The ACK of a refusal belongs to the INVITE's transaction: its Via, its Route (RFC 3261 §17.1.1.3).
    pub(super) fn acknowledge_refusal(&mut self, flow: &Flow, key: &TransactionKey, response: &Response) {
        let Some(Invite { flow: sent_over, sent, .. }) = self.outgoing.invites.get(key) else { return };
        let mut dialog = sent.dialog.clone();
        dialog.handle_refusal(response);
        let bytes = dialog.write(&Method::Ack, sent.cseq, &sent.via, &sent.credentials, b"");
        let flow = if flow.transport.is_reliable() { *flow } else { *sent_over };
        self.send(flow, bytes);
    }
}

impl Invite {
    /// Tells whether this response is to this INVITE, not merely to its branch, and has come all the way back
    /// (RFC 3261 §8.1.3.3).
    fn is_asked(&self, response: &Response) -> bool {
        let (core, dialog) = (&response.core, &self.sent.dialog);
        let is_from_us = core.from.tag() == Some(dialog.local_tag.as_str());
        let is_ours = is_from_us && response.headers.elements("Via").len() == 1;
        is_ours && core.call_id == dialog.call_id && core.cseq == self.sent.cseq
    }
}

impl Session {
    /// A 2xx to our INVITE has come: this is who answered.
    fn begin_accepted(&mut self, flow: &Flow, response: &Response, now: Instant) {
        self.state = State::Confirmed;
        self.far.dialog.handle_answer(response);
        self.far.peer.learn(&response.headers);
        self.follow_stream(flow);
        self.far.is_behind_nat = !self.is_target_usable(&self.far, &response.headers);
        self.timing.handle_accepted(&response.headers, self.extensions.session_expires, now);
    }

    /// Over TCP the far end may answer on another stream than it was asked on: it is the dialog's from then on.
    pub(super) fn follow_stream(&mut self, flow: &Flow) {
        if flow.transport.is_reliable() {
            self.flow = *flow;
        }
    }

    /// Tells whether the next hop that the answer names can be what it claims: without a Contact, or with an address
    /// that means another machine where it is read, requests go where the INVITE went.
    pub(super) fn is_target_usable(&self, far: &Far, headers: &Headers) -> bool {
        let remote = self.flow.remote.ip();
        match far.dialog.next_hop() {
            _ if ["Contact", "Record-Route"].iter().all(|name| headers.raw(name).next().is_none()) => false,
            Some((ip, _)) if ip == remote => true,
            Some((ip, _)) => {
                let is_unicast = !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast(ip);
                is_unicast && ip.is_ipv4() == remote.is_ipv4() && reach(ip) >= reach(remote)
            }
            None => true,
        }
    }
}

fn tag_of(response: &Response) -> &str {
    response.core.to.tag().unwrap_or_default()
}

/// How far an address means the same machine: 0 on one host, 1 on one network, 2 everywhere.
fn reach(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 0,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => 1,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => 1,
        _ => 2,
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// The Contacts of a redirection, by falling `q` and as they stand where it is the same (RFC 3261 §20.10).
fn contacts(headers: &Headers) -> Vec<Uri> {
    let mut contacts: Vec<(u16, Uri)> = headers
        .elements("Contact")
        .iter()
        .filter_map(|contact| NameAddr::parse(contact))
        .map(|contact| (contact.params.text("q").map_or(1000, thousandths), contact.uri))
        .collect();
    contacts.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    contacts.into_iter().map(|(_, uri)| uri).take(CONTACTS_MAX).collect()
}

/// `qvalue` (RFC 3261 §25.1): 0 to 1 with at most three decimals; anything else is the lowest.
fn thousandths(q: &str) -> u16 {
    match q.parse::<f32>() {
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0) as u16,
        _ => 0,
    }
}

/// `Retry-After: 18000;duration=3600 (a comment)` (RFC 3261 §20.33).
pub(super) fn retry_after(headers: &Headers) -> Option<Duration> {
    let value = headers.text("Retry-After")?;
    let seconds = value.split([';', '(', ' ']).next().unwrap_or_default();
    seconds.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// 9 answers to one INVITE: each of 8 branches, and one that never rang. More get no ACK, and end by themselves.
const ANSWERS_MAX: usize = 9;

/// 5 targets: more redirections are a loop.
const CONTACTS_MAX: usize = 5;
