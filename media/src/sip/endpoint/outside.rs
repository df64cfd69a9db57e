//! Requests outside dialogs: ours, such as REGISTER and OPTIONS to a trunk, and the REGISTER of a phone
//! (RFC 3261 §8.1, §10).
//!
//! ```text
//!   send_request ─▶ request, repeated ── final response ─▶ Responded
//!      ▲              │    │ 401/407
//!      └─ credentials ┼────┘
//!                     └ nothing for 64·T1, or the transport failed ─▶ RequestTimedOut
//!
//!   REGISTER ─▶ Registering ─▶ respond_outside ─▶ response
//! ```

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use super::extensions::ALLOW;
use super::large::{Fitted, Spare};
use super::requests::capabilities;
use super::respond::{Reply, clean};
use super::session::{Account, Tried};
use super::{Endpoint, Event, Flow, Output, Timer, TransactionKey};
use crate::sip::digest::Credentials;
use crate::sip::message::{COOKIE, Method, NameAddr, Request, Response, Uri};
use crate::sip::transaction::client_non_invite::{self, ClientNonInvite};

/// A request to send outside any dialog.
#[derive(Clone)]
pub struct OutsideRequest {
    /// Over what, from which address of ours, to which of theirs.
    pub flow: Flow,
    /// What is asked for; neither INVITE, ACK nor CANCEL.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The whole value of From, without tag.
    pub from: String,
    /// The whole value of To.
    pub to: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq of the first try; each answer to a challenge takes the next one (RFC 3261 §22.2).
    pub cseq: u32,
    /// Values of Route, in order.
    pub routes: Vec<String>,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What a 401 or 407 from `flow.remote` is answered with. A challenge that was met in an earlier request to the
    /// same host with the same credentials is answered in advance.
    pub account: Option<Credentials>,
}

/// Names and numbers are personal.
impl fmt::Debug for OutsideRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutsideRequest({} over {:?})", self.method, self.flow)
    }
}

/// One request of ours outside dialogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// One request of theirs that waits for [`Endpoint::respond_outside`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerRequestId(TransactionKey);

/// The final response to a request of theirs.
#[derive(Clone, PartialEq, Eq)]
pub struct OutsideReply {
    /// 200 to 699.
    pub status: u16,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// What caused a refusal, in words for people. A challenge with one counts as a refusal.
    pub rule: Option<String>,
}

impl OutsideReply {
    /// A response that says nothing but its status.
    pub fn new(status: u16) -> Self {
        OutsideReply { status, fields: Vec::new(), rule: None }
    }

    /// Adds a header field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Says what causes a refusal.
    pub fn because(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}

/// Contacts are personal.
impl fmt::Debug for OutsideReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutsideReply({})", self.status)
    }
}

/// All requests of ours outside dialogs, and the challenges met in them.
#[derive(Debug, Default)]
pub(super) struct Outside {
    sent: HashMap<TransactionKey, Sent>,
    next: u64,
    /// The one that was used the longest ago comes first.
    accounts: VecDeque<(IpAddr, Credentials, Account)>,
}

#[derive(Debug)]
struct Sent {
    id: RequestId,
    machine: ClientNonInvite,
    /// As it was sent last.
    request: OutsideRequest,
    from_tag: String,
    tried: Vec<Tried>,
    /// Over what it went.
    flow: Flow,
    spare: Option<Box<Spare>>,
}

impl Outside {
    /// What may go out by another flow: each request's own, its machine and its spare.
    pub(super) fn requests_mut(
        &mut self,
    ) -> impl Iterator<Item = (&TransactionKey, &mut Flow, &mut ClientNonInvite, &mut Option<Box<Spare>>)> {
        self.sent.iter_mut().map(|(key, sent)| (key, &mut sent.flow, &mut sent.machine, &mut sent.spare))
    }

    /// A request's transaction, and where it goes.
    pub(super) fn client(&mut self, key: &TransactionKey) -> Option<(&Flow, &mut ClientNonInvite)> {
        self.sent.get_mut(key).map(|sent| (&sent.flow, &mut sent.machine))
    }
}

impl Endpoint {
    /// Sends a request; [`Event::Responded`] or [`Event::RequestTimedOut`] follows. More than 4,096 at once time out
    /// without having been sent.
    pub fn send_request(&mut self, request: OutsideRequest, now: Instant) -> RequestId {
        self.outside.next += 1;
        let id = RequestId(self.outside.next);
        if self.outside.sent.len() >= SENT_MAX {
            self.counters.overloaded += 1;
            self.outputs.push_back(Output::Event(Event::RequestTimedOut { request: id }));
            return id;
        }
        let from_tag = self.tag();
        self.transmit_outside(id, request, from_tag, Vec::new(), now);
        id
    }

    /// Answers a request that waits. One that waits no more, because its client has given up, gets nothing.
    pub fn respond_outside(&mut self, request: ServerRequestId, reply: OutsideReply, now: Instant) {
        let OutsideReply { status, fields, rule } = reply;
        let fields = fields.into_iter().map(|(name, value)| (name, clean(&value))).collect();
        let mut reply = Reply { status, fields, rule, ..Reply::default() };
        if status == 405 {
            reply = capabilities(reply);
        }
        self.respond_waiting(&request.0, &reply, None, now);
        // RFC 3261 §26.3.2.4: a challenge costs no memory; who asks again is challenged again.
        if matches!(status, 401 | 403 | 407) || self.is_flooded() {
            self.forget_server(&request.0);
        }
    }

    /// A REGISTER has come: whoever keeps the bindings answers it.
    pub(super) fn handle_register(&mut self, flow: &Flow, request: Request, now: Instant) {
        if self.is_full() {
            self.counters.overloaded += 1;
            let reply = Reply::new(503).with("Retry-After", "10").because("too many requests wait for an answer");
            return self.reply(flow, &request, reply, now);
        }
        let tag = self.tag();
        let id = ServerRequestId(self.begin_waiting(flow, &request, tag, now));
        let request = Box::new(request);
        self.outputs.push_back(Output::Event(Event::Registering { id, flow: *flow, request }));
    }

    /// A response to none of the dialogs' requests; `false` when it is to none of these either.
    pub(super) fn handle_outside_response(
        &mut self,
        flow: &Flow,
        key: &TransactionKey,
        response: &Response,
        now: Instant,
    ) -> bool {
        let Some(sent) = self.outside.sent.get_mut(key) else { return false };
        sent.spare = None;
        let is_final = sent.machine.handle_response(response.status, now);
        let at = sent.machine.poll_timeout();
        self.timers.extend(at.map(|at| (at, Timer::Client(key.clone()))));
        if !is_final || self.answer_outside_challenge(key, response, now) {
            return true;
        }
        let Some(Sent { id, request, .. }) = self.outside.sent.get(key) else { return true };
        let came_by = Flow { transport: flow.transport, stream: flow.stream, ..request.flow };
        let (request, cseq, flow) = (*id, request.cseq, came_by);
        if response.core.cseq_method != Method::Options {
            // Whatever it says, who answers OPTIONS is there: that refuses nothing.
            self.see_their_refusal(flow, None, response);
        }
        let (status, phrase, headers) = (response.status, response.phrase.clone(), response.headers.clone());
        self.outputs.push_back(Output::Event(Event::Responded { request, status, phrase, headers, flow, cseq }));
        true
    }

    /// Sends a request again with credentials; `false` when its refusal stands.
    fn answer_outside_challenge(&mut self, key: &TransactionKey, response: &Response, now: Instant) -> bool {
        let Some(sent) = self.outside.sent.get_mut(key) else { return false };
        let Some(credentials) = &sent.request.account else { return false };
        let home = sent.request.flow.remote.ip();
        let is_theirs = |(ip, known, _): &(IpAddr, Credentials, Account)| *ip == home && known == credentials;
        let found = self.outside.accounts.iter().position(is_theirs);
        let mut account = match found.and_then(|at| self.outside.accounts.remove(at)) {
            Some((_, _, account)) => account,
            None => Account::new(credentials.clone(), home),
        };
        let is_answered = account.learn(&sent.request.flow, &mut sent.tried, response);
        let credentials = credentials.clone();
        let again = (sent.id, sent.request.clone(), sent.from_tag.clone(), sent.tried.clone());
        if self.outside.accounts.len() >= ACCOUNTS_MAX {
            self.outside.accounts.pop_front();
        }
        self.outside.accounts.push_back((home, credentials, account));
        if is_answered {
            let (id, mut request, from_tag, tried) = again;
            request.cseq += 1;
            self.transmit_outside(id, request, from_tag, tried, now);
        }
        is_answered
    }

    /// Sends a request as a transaction of its own.
    fn transmit_outside(
        &mut self,
        id: RequestId,
        request: OutsideRequest,
        from_tag: String,
        tried: Vec<Tried>,
        now: Instant,
    ) {
        let (branch, cnonce) = (format!("{COOKIE}{}", self.tag()), self.tag());
        let OutsideRequest { flow, method, .. } = &request;
        let (flow, key) = (*flow, TransactionKey(format!("{branch}|{method}").into()));
        let (uri, routes) = request_uri_and_routes(&request.uri, &request.routes);
        let is_theirs = |(ip, known, _): &&mut (IpAddr, Credentials, Account)| {
            *ip == flow.remote.ip() && request.account.as_ref().is_some_and(|account| account == known)
        };
        let answers = match self.outside.accounts.iter_mut().find(is_theirs) {
            Some((_, _, account)) => account.fields(method, &uri, &cnonce),
            None => Vec::new(),
        };
        let Fitted { flow, bytes, spare, .. } = self.fit(flow, &branch, now, |_, via| {
            let mut text = format!("{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n");
            let mut field = |name: &str, value: &str| text.push_str(&format!("{name}: {}\r\n", clean(value)));
            routes.iter().for_each(|route| field("Route", route));
            field("From", &format!("{};tag={from_tag}", request.from));
            field("To", &request.to);
            field("Call-ID", &request.call_id);
            field("CSeq", &format!("{} {method}", request.cseq));
            for (name, value) in request.fields.iter().chain(&answers) {
                field(name, value);
            }
            field("User-Agent", &self.config.server);
            field("Allow", ALLOW);
            field("Content-Length", &request.body.len().to_string());
            text.push_str("\r\n");
            [text.as_bytes(), &request.body].concat()
        });
        let machine = ClientNonInvite::new(bytes.clone(), flow.reliability(), self.config.timers, now);
        let at = machine.poll_timeout();
        self.send_fitted(flow, bytes, spare.as_deref());
        self.outside.sent.insert(key.clone(), Sent { id, machine, request, from_tag, tried, flow, spare });
        self.timers.extend(at.map(|at| (at, Timer::Client(key))));
    }

    /// A timer of one of these requests; `false` when it is another's.
    pub(super) fn handle_outside_timeout(&mut self, key: &TransactionKey, now: Instant) -> bool {
        let Some(Sent { id, machine, flow, .. }) = self.outside.sent.get_mut(key) else { return false };
        match machine.handle_timeout(now) {
            client_non_invite::Action::Send(bytes) => {
                self.outputs.push_back(Output::Send { flow: *flow, bytes: bytes.to_vec() });
            }
            client_non_invite::Action::TimedOut => {
                let event = Event::RequestTimedOut { request: *id };
                self.outputs.push_back(Output::Event(event));
            }
            client_non_invite::Action::Nothing => {}
        }
        let at = machine.poll_timeout();
        if machine.is_terminated() {
            self.outside.sent.remove(key);
        }
        self.timers.extend(at.map(|at| (at, Timer::Client(key.clone()))));
        true
    }

    /// A stream has ended: what waited for its answer on it will get none (RFC 3261 §17.1.4).
    pub(super) fn end_outside_requests(&mut self, closed: &Flow) {
        let waits = |sent: &Sent| sent.flow.is_by(closed);
        let gone: Vec<TransactionKey> =
            self.outside.sent.iter().filter(|(_, sent)| waits(sent)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            let Some(sent) = self.outside.sent.remove(&key) else { continue };
            if sent.machine.is_waiting() {
                let event = Event::RequestTimedOut { request: sent.id };
                self.outputs.push_back(Output::Event(event));
            }
        }
    }
}

/// A strict router (no `lr`) wants itself as Request-URI and the target as last Route (RFC 3261 §16.12.1.2).
fn request_uri_and_routes(uri: &Uri, routes: &[String]) -> (String, Vec<String>) {
    match routes.first().and_then(|route| NameAddr::parse(route)) {
        Some(first) if first.uri.sip().is_some_and(|uri| !uri.params.has("lr")) => {
            (first.uri.to_string(), [&routes[1..], &[format!("<{uri}>")]].concat())
        }
        _ => (uri.to_string(), routes.to_vec()),
    }
}

/// 4,096 requests of ours at once: 64 trunks and their options, and what lingers of the last 32 s.
const SENT_MAX: usize = 4096;

/// 1,024 accounts: one for each of 128 trunks at each of 8 addresses.
const ACCOUNTS_MAX: usize = 1024;
