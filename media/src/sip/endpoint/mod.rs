//! The endpoint: owner of all transactions and dialogs of the box.
//!
//! ```text
//!   bytes ─▶ parse ─▶ transaction? ──yes──▶ its machine
//!                          │ no
//!                          ▼
//!                   checks (§8.2) ─▶ dialog? ─▶ Event ─▶ the user ─▶ ring, answer, refuse, hang_up ─▶ bytes
//! ```
//!
//! It opens no socket: [`Flow`]s say where messages came from and where they go.

mod event;
mod extensions;
mod large;
mod outside;
mod requests;
mod respond;
mod servers;
mod session;
mod unreachable;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::advertised::Advertised;
use super::message::{Core, Framing, Headers, Message, Method, Rejected, Response, parse};
use super::transaction::client_non_invite::{self, ClientNonInvite};
use super::transaction::{Reliability, Timers};
use large::{Refusing, Spare};
use outside::Outside;
use respond::Reply;
#[cfg(test)]
use servers::TRANSACTIONS_BYTES_MAX;
use servers::{Asked, Server};
use session::{Ask, InviteName, Outgoing, Session, Tried};

pub use event::{CommandError, EndCause, Event, Offered, Output, Refusal, RefusalSeen};
pub use extensions::{Extensions, Reliable};
pub use large::{LARGE_CONNECT_MAX, UdpLarge};
pub use outside::{OutsideReply, OutsideRequest, RequestId, ServerRequestId};
pub use session::{InviteError, InviteOrder, SavedError};

/// What an endpoint is set up with.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The Server header field.
    pub server: String,
    /// Host and port in Contact and Via in place of the local address, by peer.
    pub advertised: Advertised,
    /// Dialogs at once; more are refused with 503. Default 10,000.
    pub dialogs_max: usize,
    /// What becomes of requests too large for a datagram. Default [`UdpLarge::Auto`].
    pub udp_large: UdpLarge,
    /// The base timers.
    pub timers: Timers,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        EndpointConfig {
            server: "Talkstack Edge".into(),
            advertised: Advertised::default(),
            dialogs_max: 10_000,
            udp_large: UdpLarge::Auto,
            timers: Timers::default(),
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream under TLS.
    Tls,
    /// A WebSocket (RFC 7118): one message a frame.
    Ws,
    /// A WebSocket under TLS.
    Wss,
}

impl Transport {
    /// Tells whether bytes arrive whole and in order; everything but UDP.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// Tells whether it is under TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// As Via names it (RFC 3261 §20.42, RFC 7118 §5.1).
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// As the `transport` parameter of a URI names it; `None` is UDP, which goes without saying. TLS and WSS go without
    /// theirs in a `sips:` URI, and with this one in a `sip:` URI.
    pub fn uri_name(self) -> Option<&'static str> {
        match self {
            Transport::Udp => None,
            Transport::Tcp => Some("tcp"),
            Transport::Tls => Some("tls"),
            Transport::Ws => Some("ws"),
            Transport::Wss => Some("wss"),
        }
    }
}

/// A stream's name, chosen by whoever owns its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Between whom a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Over what.
    pub transport: Transport,
    /// Our address as the far end can reach it.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// The stream it came on; `None` over TCP asks for a new one to `remote`.
    pub stream: Option<StreamId>,
}

impl Flow {
    fn reliability(&self) -> Reliability {
        match self.transport {
            Transport::Udp => Reliability::Unreliable,
            _ => Reliability::Reliable,
        }
    }

    /// Tells whether a message that was sent so went by the stream of `closed`: the one it names, or the one that was
    /// opened for it.
    fn is_by(&self, closed: &Flow) -> bool {
        let is_towards = self.stream.is_none() && self.remote == closed.remote;
        let is_named = self.stream.is_some() && self.stream == closed.stream;
        self.transport == closed.transport && self.transport.is_reliable() && (is_named || is_towards)
    }
}

/// One dialog of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(u64);

/// What wakes the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A server transaction.
    Server(TransactionKey),
    /// A client transaction.
    Client(TransactionKey),
    /// A 2xx without its ACK, or a CANCEL without its 487.
    Dialog(DialogId),
}

/// A transaction's name: branch, sender and method (RFC 3261 §17.1.3, §17.2.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionKey(Arc<str>);

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes that are no message, or none that can be answered.
    pub dropped: u64,
    /// Requests refused because of what they say (4xx, 5xx by the endpoint itself).
    pub refused: u64,
    /// INVITEs refused, or not sent, because of [`EndpointConfig::dialogs_max`].
    pub overloaded: u64,
}

/// All SIP of the box.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    random: ChaCha12Rng,
    servers: HashMap<TransactionKey, Server>,
    clients: HashMap<TransactionKey, Client>,
    sessions: HashMap<DialogId, Session>,
    /// Call-ID, our tag, their tag.
    by_tags: HashMap<(String, String, String), DialogId>,
    by_invite: HashMap<InviteName, DialogId>,
    outgoing: Outgoing,
    outside: Outside,
    refusing: Refusing,
    next_dialog: u64,
    timers: BTreeSet<(Instant, Timer)>,
    outputs: VecDeque<Output>,
    counters: Counters,
    /// Octets of messages that `servers` keep.
    servers_bytes: usize,
}

#[derive(Debug)]
struct Client {
    machine: ClientNonInvite,
    flow: Flow,
    dialog: DialogId,
    /// What was asked, to be sent again with credentials.
    ask: Ask,
    /// The challenges it was answered with.
    tried: Vec<Tried>,
    spare: Option<Box<Spare>>,
}

/// What a request of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Ending the dialog.
    Bye,
    /// Learning whether it is alive.
    Probe,
    /// Withdrawing its INVITE.
    Cancel,
    /// Acknowledging a provisional response.
    Prack,
    /// Changing or refreshing the session.
    Update,
    /// Sending the far end elsewhere.
    Refer,
    /// Telling what became of it.
    Notify,
    /// Pressing a key.
    Inform,
}

impl Purpose {
    fn method(self) -> Method {
        match self {
            Purpose::Bye => Method::Bye,
            Purpose::Probe => Method::Options,
            Purpose::Cancel => Method::Cancel,
            Purpose::Prack => Method::Prack,
            Purpose::Update => Method::Update,
            Purpose::Refer => Method::Refer,
            Purpose::Notify => Method::Notify,
            Purpose::Inform => Method::Info,
        }
    }
}

impl Endpoint {
    /// What peers are told from now on in place of our own address.
    pub fn set_advertised(&mut self, advertised: Advertised) {
        self.config.advertised = advertised;
    }

    /// Starts without dialogs. Tags and branches come from `seed`, which must be unpredictable.
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        Endpoint {
            config,
            random: ChaCha12Rng::from_seed(seed),
            servers: HashMap::new(),
            clients: HashMap::new(),
            sessions: HashMap::new(),
            by_tags: HashMap::new(),
            by_invite: HashMap::new(),
            outgoing: Outgoing::default(),
            outside: Outside::default(),
            refusing: Refusing::default(),
            next_dialog: 0,
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            servers_bytes: 0,
        }
    }

    /// Takes one datagram, or one message cut from a stream.
    pub fn handle_message(&mut self, flow: &Flow, bytes: &[u8], now: Instant) {
        if bytes.iter().all(|byte| b"\r\n\0".contains(byte)) {
            // A keep-alive that holds a NAT open asks for nothing (RFC 5626 §3.5.1 has STUN for more).
            return;
        }
        let framing = match flow.transport {
            // RFC 7118 §5.2: a WebSocket keeps messages apart, so Content-Length may be left out.
            Transport::Udp | Transport::Ws | Transport::Wss => Framing::Datagram,
            Transport::Tcp | Transport::Tls => Framing::Stream,
        };
        match parse(bytes, framing) {
            Ok(Message::Request(request)) => self.handle_request(flow, request, now),
            Ok(Message::Response(response)) => self.handle_response(flow, &response, now),
            Err(rejected) => self.handle_rejected(flow, &rejected),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.first().cloned() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Server(key) => self.handle_server_timeout(key, now),
                Timer::Client(key) => self.handle_client_timeout(key, now),
                Timer::Dialog(dialog) => self.handle_dialog_timeout(dialog, now),
            }
        }
    }

    /// Returns what is to be done next; drain to `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back, and for what.
    pub fn poll_timeout(&self) -> Option<(Instant, &Timer)> {
        self.timers.first().map(|(at, timer)| (*at, timer))
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Dialogs that are up or coming to be.
    pub fn dialogs(&self) -> usize {
        self.sessions.len()
    }

    fn handle_response(&mut self, flow: &Flow, response: &Response, now: Instant) {
        let Core { via, cseq_method, .. } = &response.core;
        let Some(key) = via.branch().map(|branch| TransactionKey(format!("{branch}|{cseq_method}").into())) else {
            self.counters.dropped += 1;
            return;
        };
        if *cseq_method == Method::Invite {
            return self.handle_invite_response(flow, &key, response, now);
        }
        let Some(client) = self.clients.get_mut(&key) else {
            if !self.handle_outside_response(flow, &key, response, now) {
                self.counters.dropped += 1;
            }
            return;
        };
        client.spare = None;
        let is_final = client.machine.handle_response(response.status, now);
        let (dialog, purpose) = (client.dialog, client.ask.purpose);
        self.schedule_client(key.clone());
        if !is_final || self.answer_challenge(&key, response, now) {
            return;
        }
        if purpose == Purpose::Update {
            return self.handle_reoffer_answer(flow, dialog, response, now);
        }
        self.see_their_refusal(*flow, Some(dialog), response);
        match purpose {
            // Whatever the answer to a BYE says, the dialog is over (RFC 3261 §15.1.1).
            Purpose::Bye => self.forget_session(dialog),
            Purpose::Probe if matches!(response.status, 408 | 481) => self.end_unreachable(dialog, now),
            Purpose::Refer => self.handle_refer_answer(dialog, response.status, &response.headers),
            Purpose::Notify => self.handle_notify_answer(dialog, response.status),
            Purpose::Inform => self.handle_info_answer(dialog, now),
            _ => {}
        }
    }

    /// Bytes that are no acceptable message: refused where they can be answered.
    fn handle_rejected(&mut self, flow: &Flow, rejected: &Rejected) {
        let Some(headers) = &rejected.salvage else {
            self.counters.dropped += 1;
            return;
        };
        self.counters.refused += 1;
        let mut reply = Reply::new(rejected.fault.status());
        if reply.status == 400 {
            reply = reply.phrased(format!("Bad Request - {}", rejected.fault));
        }
        let tag = self.tag();
        let bytes = reply.write(headers, flow, Some(&tag), &self.config.server);
        let flow = self.reply_flow(flow, headers);
        let cseq = headers.text("CSeq").unwrap_or_default();
        let method = cseq.split_whitespace().nth(1).and_then(Method::parse);
        let method = method.unwrap_or(Method::Unknown("unreadable".into()));
        let rule = rejected.fault.to_string();
        self.see_refusal(RefusalSeen { is_ours: true, status: reply.status, method, flow, dialog: None, rule });
        self.send(flow, bytes);
    }

    /// Tells of a 4xx, 5xx or 6xx; of another response nothing.
    fn see_refusal(&mut self, seen: RefusalSeen) {
        if seen.status >= 400 {
            self.outputs.push_back(Output::Event(Event::RefusalSeen(Box::new(seen))));
        }
    }

    fn handle_client_timeout(&mut self, key: TransactionKey, now: Instant) {
        if self.handle_outside_timeout(&key, now) {
            return;
        }
        let Some(client) = self.clients.get_mut(&key) else { return self.handle_invite_timeout(key, now) };
        let (dialog, purpose) = (client.dialog, client.ask.purpose);
        match client.machine.handle_timeout(now) {
            client_non_invite::Action::Send(bytes) => {
                self.outputs.push_back(Output::Send { flow: client.flow, bytes: bytes.to_vec() });
            }
            client_non_invite::Action::TimedOut => match purpose {
                Purpose::Probe => self.end_unreachable(dialog, now),
                Purpose::Bye => self.forget_session(dialog),
                Purpose::Update => self.handle_reoffer_lost(dialog, now),
                Purpose::Refer => self.handle_refer_answer(dialog, 408, &Headers::default()),
                Purpose::Notify => self.handle_notify_answer(dialog, 408),
                Purpose::Inform => self.handle_info_answer(dialog, now),
                Purpose::Cancel | Purpose::Prack => {}
            },
            client_non_invite::Action::Nothing => {}
        }
        if self.clients.get(&key).is_some_and(|client| client.machine.is_terminated()) {
            self.clients.remove(&key);
        } else {
            self.schedule_client(key);
        }
    }

    fn schedule_client(&mut self, key: TransactionKey) {
        let at = self.clients.get(&key).and_then(|client| client.machine.poll_timeout());
        self.timers.extend(at.map(|at| (at, Timer::Client(key))));
    }

    /// Where the response to a request with these fields goes.
    fn reply_flow(&self, flow: &Flow, headers: &Headers) -> Flow {
        let via = headers.elements("Via").first().and_then(|via| super::message::Via::parse(via));
        let remote = match (flow.transport, via) {
            (Transport::Udp, Some(via)) => respond::destination(&via, flow.remote),
            _ => flow.remote,
        };
        Flow { remote, ..*flow }
    }

    fn send(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Send { flow, bytes });
    }

    /// 64 random bits; RFC 3261 §19.3 asks for 32.
    fn tag(&mut self) -> String {
        format!("{:016x}", self.random.next_u64())
    }
}

#[cfg(test)]
mod tests;
