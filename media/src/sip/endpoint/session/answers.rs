//! Responses to our INVITEs (RFC 3261 §13.2.2, §17.1.1; RFC 6026 §7.2).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::outgoing::{Acknowledgement, Calling, Early, Invite};
use super::{Session, via};
use crate::sip::endpoint::requests::sdp_of_response;
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
        let (meaning, id) = (invite.machine.handle_response(response.status, now), invite.dialog);
        self.schedule_invite(key.clone());
        match meaning {
            Meaning::Ignore => {}
            Meaning::AckAgain => self.acknowledge_refusal(flow, key, response),
            Meaning::PassUpAndAck => {
                self.acknowledge_refusal(flow, key, response);
                self.handle_refused(flow, id, response, now);
            }
            Meaning::PassUp if response.status < 200 => self.handle_progress(flow, id, response, now),
            Meaning::PassUp => self.handle_accepted(flow, key, response, now),
        }
    }

    fn handle_progress(&mut self, flow: &Flow, id: DialogId, response: &Response, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return };
        session.follow_stream(flow);
        calling.is_proceeding = true;
        if calling.leaving.is_some() {
            return self.send_cancel(id, now);
        }
        let (status, sdp) = (response.status, sdp_of_response(response));
        let to_tag = response.core.to.tag().unwrap_or_default();
        if status < 180 {
            return;
        }
        let Some(branch) = calling.news_of(to_tag, status, sdp.is_some()) else { return };
        if session.dialog.remote_tag.is_empty() && !to_tag.is_empty() {
            // Requests of the first early dialog find it.
            session.dialog.handle_answer(response);
            self.by_tags.insert(session.tags(), id);
        }
        self.outputs.push_back(Output::Event(Event::Progressed { dialog: id, status, sdp, branch }));
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
        self.see_their_refusal(*flow, Some(id), response);
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
        let Some(invite) = self.outgoing.invites.get(key) else { return };
        let to_tag = response.core.to.tag().unwrap_or_default();
        if let Some(ack) = invite.acks.iter().find(|ack| ack.to_tag == to_tag) {
            let flow = if flow.transport.is_reliable() { *flow } else { ack.flow };
            let bytes = ack.bytes.clone();
            return self.send(flow, bytes);
        }
        if invite.acks.len() >= ANSWERS_MAX {
            self.counters.dropped += 1;
            return;
        }
        let (id, mut dialog) = (invite.dialog, invite.sent.dialog.clone());
        let is_first = invite.acks.is_empty();
        let account = self.sessions.get(&id).and_then(|session| session.account.clone());
        let calling = if is_first { self.outgoing.calls.remove(&id) } else { None };
        let early = calling.as_ref().and_then(|_| self.sessions.remove(&id));
        if let Some(early) = &early {
            self.by_tags.remove(&early.tags());
            if early.dialog.remote_tag == to_tag {
                dialog = early.dialog.clone();
            }
        }
        dialog.handle_answer(response);
        let base = early.map_or(invite_flow(self, key, flow), |early| early.flow);
        let mut session = Session { account, ..Session::confirmed(dialog, base) };
        session.follow_stream(flow);
        session.is_behind_nat = !session.is_target_usable(&response.headers);
        let Some(Calling { leaving, earlies, branches, .. }) = calling else {
            let id = self.adopt_session(session);
            self.acknowledge(id, key);
            return self.bye(id, None, now);
        };
        self.by_tags.insert(session.tags(), id);
        self.sessions.insert(id, session);
        self.acknowledge(id, key);
        match leaving {
            Some(leaving) => self.bye(id, leaving.reason, now),
            None => {
                let sdp = sdp_of_response(response);
                let known = earlies.iter().find(|early| early.to_tag == to_tag);
                let branch = known.map_or(branches + 1, |early| early.branch);
                self.outputs.push_back(Output::Event(Event::Accepted { dialog: id, sdp, branch }));
            }
        }
    }

    /// Acknowledges the 2xx that made this dialog, and keeps the ACK for its copies (RFC 3261 §13.2.2.4).
    fn acknowledge(&mut self, id: DialogId, key: &TransactionKey) {
        let branch = format!("{COOKIE}{}", self.tag());
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(invite) = self.outgoing.invites.get_mut(key) else { return };
        let flow = session.next_flow();
        let via = via(&self.config.advertised, &flow, &branch);
        let bytes = session.dialog.write(&Method::Ack, invite.sent.cseq, &via, &invite.sent.credentials, b"");
        let to_tag = session.dialog.remote_tag.clone();
        invite.acks.push(Acknowledgement { to_tag, flow, bytes: bytes.clone() });
        self.send(flow, bytes);
    }

    /// The ACK of a refusal belongs to the INVITE's transaction: its Via, its Route (RFC 3261 §17.1.1.3).
    fn acknowledge_refusal(&mut self, flow: &Flow, key: &TransactionKey, response: &Response) {
        let Some(Invite { flow: sent_over, sent, .. }) = self.outgoing.invites.get(key) else { return };
        let mut dialog = sent.dialog.clone();
        dialog.handle_refusal(response);
        let bytes = dialog.write(&Method::Ack, sent.cseq, &sent.via, &sent.credentials, b"");
        let flow = if flow.transport.is_reliable() { *flow } else { *sent_over };
        self.send(flow, bytes);
    }
}

/// Where the INVITE went; `flow` when it is forgotten.
fn invite_flow(endpoint: &Endpoint, key: &TransactionKey, flow: &Flow) -> Flow {
    endpoint.outgoing.invites.get(key).map_or(*flow, |invite| invite.flow)
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

impl Calling {
    /// Notes what an early dialog said; `None` when it said so before, or too many speak, else the branch's number.
    fn news_of(&mut self, to_tag: &str, status: u16, has_sdp: bool) -> Option<u32> {
        let known = self.earlies.len();
        match self.earlies.iter_mut().find(|early| early.to_tag == to_tag) {
            Some(early) => {
                let is_news = early.status != status || (has_sdp && !early.has_sdp);
                early.status = status;
                early.has_sdp |= has_sdp;
                is_news.then_some(early.branch)
            }
            None if known >= EARLIES_MAX => None,
            None => {
                self.branches += 1;
                let branch = self.branches;
                self.earlies.push(Early { to_tag: to_tag.to_owned(), branch, status, has_sdp });
                Some(branch)
            }
        }
    }
}

impl Session {
    /// What requests of the far end are found by.
    pub(super) fn tags(&self) -> (String, String, String) {
        (self.dialog.call_id.clone(), self.dialog.local_tag.clone(), self.dialog.remote_tag.clone())
    }

    /// Over TCP the far end may answer on another stream than it was asked on: it is the dialog's from then on.
    fn follow_stream(&mut self, flow: &Flow) {
        if flow.transport.is_reliable() {
            self.flow = *flow;
        }
    }

    /// Tells whether the next hop that the answer names can be what it claims: without a Contact, or with an address
    /// that means another machine where it is read, requests go where the INVITE went.
    fn is_target_usable(&self, headers: &Headers) -> bool {
        let remote = self.flow.remote.ip();
        match self.dialog.next_hop() {
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
fn retry_after(headers: &Headers) -> Option<Duration> {
    let value = headers.text("Retry-After")?;
    let seconds = value.split([';', '(', ' ']).next().unwrap_or_default();
    seconds.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

/// 8 early dialogs: a hunt group that rings at once. More are not told.
const EARLIES_MAX: usize = 8;

/// 9 answers to one INVITE: each of 8 branches, and one that never rang. More get no ACK, and end by themselves.
const ANSWERS_MAX: usize = 9;

/// 5 targets: more redirections are a loop.
const CONTACTS_MAX: usize = 5;
