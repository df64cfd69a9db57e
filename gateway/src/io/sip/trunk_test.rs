//! Carries out the tests of trunks: sockets, requests and the test call of each [`TrunkTest`].

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use talkstack_control::gate::is_emergency;
use talkstack_control::model::E164;
use talkstack_control::port::{
    Blame, CallEvent, CallId, CallStarted, CommandReply, Direction, EndReason, Outcome, TrunkRoute,
};
use talkstack_media::sdp::SessionDescription;
use talkstack_media::sip::message::{Method, Params, SipUri, Uri};
use talkstack_media::sip::{DialogId, Event, Extensions, InviteOrder, OutsideRequest, RequestId};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::dial::{credentials, route, routes};
use super::security::Wanted;
use super::streams::{self, ConnectFault, Connector, Opened};
use super::tls::PeerIdentity;
use super::{SipThread, ToSip};
use crate::call::LegId;
use crate::caller_id::domain;
use crate::io::shard::{PlacedCall, SipWish, ToCall, ToShard};
use crate::route::{Plan, dialled, international};
use crate::switchboard::Channels;
use crate::trunk_test::{Reached, Subject, TestOutput, TrunkTest};
use crate::trunks::Hop;

/// The tests that are under way.
#[derive(Debug, Default)]
pub(super) struct TrunkTests {
    running: BTreeMap<TestId, Running>,
    next: u64,
}

/// One test that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestId(u64);

#[derive(Debug)]
struct Running {
    test: TrunkTest,
    trunk_id: String,
    trunk: TrunkRoute,
    number: Option<String>,
    /// OPTIONS or REGISTER that is out.
    request: Option<RequestId>,
    call: Option<TestCall>,
    reply: oneshot::Sender<CommandReply>,
}

/// A test's own call.
#[derive(Debug)]
struct TestCall {
    id: CallId,
    hop: Hop,
    /// As it is called there.
    number: String,
    /// Where early media is wanted, for an answer without a description.
    shown: Option<IpAddr>,
    /// What its media thread has ended it with.
    outcome: Option<Outcome>,
}

impl TrunkTests {
    /// When [`SipThread::handle_test_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.running.values().filter_map(|running| running.test.poll_timeout()).min()
    }

    fn of_call(&self, id: CallId) -> Option<TestId> {
        let has = |running: &Running| running.call.as_ref().is_some_and(|call| call.id == id);
        self.running.iter().find(|(_, running)| has(running)).map(|(id, _)| *id)
    }

    fn of_request(&self, request: RequestId) -> Option<TestId> {
        self.running.iter().find(|(_, running)| running.request == Some(request)).map(|(id, _)| *id)
    }
}

impl SipThread {
    /// Begins a test, or says that there is no such trunk or too much at once.
    pub(super) fn test_trunk(
        &mut self,
        trunk_id: String,
        number: Option<String>,
        reply: oneshot::Sender<CommandReply>,
    ) {
        let now = Instant::now();
        let refusal = match self.snapshot.trunks.get(&trunk_id) {
            None => CommandReply::Tested(Vec::new()),
            Some(_) if self.dialling.tests.running.len() >= TESTS_MAX => CommandReply::Busy,
            Some(trunk) => {
                let trunk = trunk.clone();
                let subject = Subject {
                    registers: trunk.access.register,
                    has_credentials: trunk.username.is_some() && trunk.password.is_some(),
                    calls: number.is_some(),
                };
                let test = TrunkTest::new(subject, now);
                let running = Running { test, trunk_id, trunk, number, request: None, call: None, reply };
                self.dialling.tests.next += 1;
                self.dialling.tests.running.insert(TestId(self.dialling.tests.next), running);
                return self.handle_test_timeout(now);
            }
        };
        // Whoever asked may be gone.
        let _ = reply.send(refusal);
    }

    /// Time has passed, or addresses are known by now.
    pub(super) fn handle_test_timeout(&mut self, now: Instant) {
        let ids: Vec<TestId> = self.dialling.tests.running.keys().copied().collect();
        for id in ids {
            let Some(running) = self.dialling.tests.running.get_mut(&id) else { continue };
            if let Some(mut hops) = self.dialling.trunks.hops(&running.trunk_id, now) {
                hops.retain(|hop| self.listeners.reaches(hop.address));
                running.test.handle_hops(&hops, now);
            }
            running.test.handle_timeout(now);
            self.carry_out_test(id, now);
        }
    }

    /// An address was tried.
    pub(super) fn handle_test_reached(&mut self, id: TestId, reached: Reached, opened: Option<Opened>) {
        if let Some(Err(error)) = opened.map(|opened| self.streams.adopt(opened)) {
            // The next request has one made for it.
            tracing::debug!("Closed the connection to a trunk that is tested: {error}");
        }
        self.with_test(id, |running, now| running.test.handle_reached(reached, now));
    }

    /// Takes what happened to a test's requests and calls; gives back what is none of its business.
    pub(super) fn handle_test_event(&mut self, event: Event) -> Option<Event> {
        match &event {
            Event::Responded { request, status, .. } => {
                let Some(id) = self.dialling.tests.of_request(*request) else { return Some(event) };
                let status = *status;
                self.with_test(id, |running, now| {
                    running.request = None;
                    running.test.handle_response(status, now);
                });
                return None;
            }
            Event::RequestTimedOut { request } => {
                let Some(id) = self.dialling.tests.of_request(*request) else { return Some(event) };
                self.with_test(id, |running, now| {
                    running.request = None;
                    running.test.handle_silence(now);
                });
                return None;
            }
            _ => {}
        }
        let (Event::Progressed { dialog, .. }
        | Event::Accepted { dialog, .. }
        | Event::Refused { dialog, .. }
        | Event::Unanswered { dialog }
        | Event::Ended { dialog, .. }) = &event
        else {
            return Some(event);
        };
        let dialog = *dialog;
        let Some(call) = self.switchboard.call_of(dialog) else { return Some(event) };
        let Some(id) = self.dialling.tests.of_call(call) else { return Some(event) };
        self.handle_test_call(id, call, dialog, event)
    }

    fn handle_test_call(&mut self, id: TestId, call: CallId, dialog: DialogId, event: Event) -> Option<Event> {
        let over = |reason| ToCall::Ended(LegId::First, Outcome::new(Blame::Trunk, reason));
        match event {
            Event::Progressed { status, sdp, .. } => {
                let shown = sdp.as_deref().and_then(media_address);
                self.with_test(id, |running, _| {
                    running.test.handle_progressed(status);
                    if let Some(call) = &mut running.call {
                        call.shown = shown.or(call.shown);
                    }
                });
                self.tell(call, ToCall::Progressed(LegId::First, sdp));
            }
            Event::Accepted { sdp, .. } => {
                self.save_dialog(call, dialog);
                let shown = sdp.as_deref().and_then(media_address);
                let placed = self.dialling.tests.running.get(&id).and_then(|running| running.call.as_ref());
                let (early, signalling) = placed.map(|call| (call.shown, call.hop.address.ip()))?;
                self.tell(call, ToCall::Accepted { leg: LegId::First, sdp, signalling });
                self.with_test(id, |running, now| running.test.handle_answered(shown.or(early), signalling, now));
            }
            Event::Refused { status, .. } => {
                self.with_test(id, |running, now| running.test.handle_call_refused(status, now));
                self.tell(call, over(EndReason::Rejected));
            }
            Event::Unanswered { .. } => {
                self.with_test(id, |running, now| running.test.handle_silence(now));
                self.tell(call, over(EndReason::Unreachable));
            }
            event => {
                self.with_test(id, |running, now| running.test.handle_hung_up(now));
                return Some(event);
            }
        }
        None
    }

    /// Takes what a test's call wishes; gives back what is carried out as for any call.
    pub(super) fn handle_test_wish(&mut self, call: CallId, wish: SipWish) -> Option<SipWish> {
        let Some(id) = self.dialling.tests.of_call(call) else { return Some(wish) };
        match wish {
            SipWish::Invite(_, sdp) => {
                self.send_test_invite(id, sdp);
                return None;
            }
            SipWish::Measured(heard, exchange) => {
                self.with_test(id, |running, now| running.test.handle_measured(heard, exchange, now));
                return None;
            }
            SipWish::End(_, outcome) => {
                let running = self.dialling.tests.running.get_mut(&id);
                if let Some(call) = running.and_then(|running| running.call.as_mut()) {
                    call.outcome.get_or_insert(outcome);
                }
            }
            SipWish::Forgotten => self.with_test(id, |running, now| {
                let outcome = running.call.take().and_then(|call| call.outcome);
                running.test.handle_call_over(outcome.unwrap_or(OVERLOADED), now);
            }),
            _ => {}
        }
        Some(wish)
    }

    fn with_test(&mut self, id: TestId, act: impl FnOnce(&mut Running, Instant)) {
        let now = Instant::now();
        if let Some(running) = self.dialling.tests.running.get_mut(&id) {
            act(running, now);
            self.carry_out_test(id, now);
        }
    }

    fn carry_out_test(&mut self, id: TestId, now: Instant) {
        while let Some(running) = self.dialling.tests.running.get_mut(&id) {
            match running.test.poll_output() {
                None => return,
                Some(TestOutput::Reach(Hop { address, transport })) => {
                    let peer = PeerIdentity::of_trunk(&running.trunk);
                    let port = self.listeners.port_towards(address, transport);
                    let streams = &mut self.streams;
                    let connector = transport.is_reliable().then(|| streams.connector(address, transport, port, peer));
                    let inbox = self.dialling.own_inbox.clone();
                    tokio::spawn(async move {
                        let (reached, opened) = reach(address, connector).await;
                        // The thread that asked is the one that is told; it may have stopped.
                        let _ = inbox.send(ToSip::Reached(id, reached, opened)).await;
                    });
                }
                Some(TestOutput::Options(hop)) => self.send_test_request(id, Method::Options, hop, now),
                Some(TestOutput::Register(hop)) => self.send_test_request(id, Method::Register, hop, now),
                Some(TestOutput::Call(hop)) => self.place_test_call(id, hop, now),
                Some(TestOutput::HangUp) => {
                    if let Some(call) = running.call.as_ref().map(|call| call.id) {
                        let outcome = Outcome::new(Blame::Operator, EndReason::HungUp);
                        self.tell(call, ToCall::HangUp(outcome));
                    }
                }
                Some(TestOutput::Told(steps)) => {
                    if let Some(running) = self.dialling.tests.running.remove(&id) {
                        // Whoever asked may be gone.
                        let _ = running.reply.send(CommandReply::Tested(steps));
                    }
                }
            }
        }
    }

    fn send_test_request(&mut self, id: TestId, method: Method, hop: Hop, now: Instant) {
        let call_id = format!("{:032x}", self.random.u128());
        let Some(running) = self.dialling.tests.running.get(&id) else { return };
        let flow = self.way_to(hop, PeerIdentity::of_trunk(&running.trunk), now);
        let Some(running) = self.dialling.tests.running.get_mut(&id) else { return };
        let trunk = &running.trunk;
        let own = format!("<{}>", uri(trunk, Some(caller(trunk))));
        let request = OutsideRequest {
            flow,
            uri: Uri::Sip(uri(trunk, None)),
            from: own.clone(),
            to: if method == Method::Register { own } else { format!("<{}>", uri(trunk, None)) },
            method,
            call_id,
            cseq: 1,
            routes: route(trunk).into_iter().collect(),
            fields: Vec::new(),
            body: Vec::new(),
            account: credentials(&self.dialling.secret, trunk),
        };
        running.request = Some(self.endpoint.send_request(request, now));
    }

    fn place_test_call(&mut self, id: TestId, hop: Hop, now: Instant) {
        let Some(running) = self.dialling.tests.running.get_mut(&id) else { return };
        let called = running.number.clone().unwrap_or_default();
        let Some(number) = callable(&running.trunk, &called, &self.dialling.gate) else {
            return running.test.handle_not_allowed(now);
        };
        let (trunk_id, max) = (running.trunk_id.clone(), running.trunk.max_channels);
        let from = caller(&running.trunk).to_owned();
        let wanted = Wanted::of_trunk(&running.trunk.media);
        let call = CallId(self.random.u128());
        let shown = number.clone();
        running.call = Some(TestCall { id: call, hop, number, shown: None, outcome: None });
        let channels = Channels { trunk: &trunk_id, max };
        let Ok(shard) = self.switchboard.admit(call, None, Some(channels)) else {
            running.call = None;
            return running.test.handle_call_over(OVERLOADED, now);
        };
        let started = CallStarted {
            direction: Direction::Outbound,
            from,
            to: shown,
            project_id: None,
            agent_id: None,
            sip_call_id: String::new(),
            trunk_id: Some(trunk_id),
            display_name: None,
            verstat: None,
            attestation: None,
            diverted_from: None,
        };
        self.record(call, CallEvent::Started(started));
        let local = self.media_address_towards(hop.address, now);
        let security = self.security_towards(wanted, [hop.transport]);
        let seed = self.random.u64();
        let placed = PlacedCall { id: call, plan: Plan::ToneTest, local, signalling: hop.address.ip(), seed, security };
        if self.shards[shard].send(ToShard::Placed(Box::new(placed))).is_err() {
            self.switchboard.remove(call);
            self.record(call, CallEvent::Ended { outcome: OVERLOADED });
            if let Some(running) = self.dialling.tests.running.get_mut(&id) {
                running.call = None;
                running.test.handle_call_over(OVERLOADED, now);
            }
        }
    }

    fn send_test_invite(&mut self, id: TestId, sdp: String) {
        let now = Instant::now();
        let Some(running) = self.dialling.tests.running.get(&id) else { return };
        let Some(hop) = running.call.as_ref().map(|call| call.hop) else { return };
        let flow = self.way_to(hop, PeerIdentity::of_trunk(&running.trunk), now);
        let host = self.addresses.advertised.host(&flow);
        let Some(running) = self.dialling.tests.running.get(&id) else { return };
        let (trunk, Some(call)) = (&running.trunk, &running.call) else { return };
        let routes = routes(&self.dialling.accounts, &running.trunk_id, trunk);
        let order = InviteOrder {
            flow,
            request_uri: Uri::Sip(uri(trunk, Some(&call.number))),
            from: format!("<sip:{}@{host}>", caller(trunk)),
            to: format!("<{}>", uri(trunk, Some(&call.number))),
            fields: routes.into_iter().map(|route| ("Route", route)).collect(),
            sdp: sdp.into_bytes(),
            credentials: credentials(&self.dialling.secret, trunk),
            extensions: Extensions::default(),
        };
        let call = call.id;
        match self.endpoint.invite(order, now) {
            Ok(dialog) => {
                self.switchboard.bind(call, dialog);
                self.record(call, CallEvent::Initiated);
            }
            Err(_) => drop(self.tell(call, ToCall::Ended(LegId::First, OVERLOADED))),
        }
    }
}

/// The number as the trunk is asked for it; `None` when the box calls no such number.
fn callable(trunk: &TrunkRoute, called: &str, gate: &talkstack_control::gate::Gate) -> Option<String> {
    // A user that is no number, such as an echo test's name, costs nothing.
    let Some(number) = dialled(called) else { return name(called) };
    let Some(to) = international(&trunk.numbering, &number) else {
        return (!is_emergency(&number)).then_some(number);
    };
    let own = trunk.numbering.default_number.as_ref().or(trunk.numbers.first());
    let from = own.and_then(|digits| E164::parse(&format!("+{digits}")));
    gate.check(&to, from.as_ref().unwrap_or(&to)).ok().map(|()| to.as_str().to_owned())
}

/// A user that stands in a URI without escapes (RFC 3261 §25.1).
fn name(called: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,?/".contains(&byte);
    (!called.is_empty() && called.len() <= NAME_BYTES_MAX && called.bytes().all(is_plain)).then(|| called.to_owned())
}

/// Who calls and registers: the account, else a number of the trunk.
fn caller(trunk: &TrunkRoute) -> &str {
    let number = trunk.numbering.default_number.as_ref().or(trunk.numbers.first());
    trunk.username.as_ref().or(number).map_or(NOBODY, String::as_str)
}

fn uri(trunk: &TrunkRoute, user: Option<&str>) -> SipUri {
    let user = user.map(str::to_owned);
    SipUri { secure: false, user, host: domain(trunk), port: trunk.port, params: Params::default(), headers: None }
}

/// Where a description wants its audio.
fn media_address(sdp: &[u8]) -> Option<IpAddr> {
    let description = SessionDescription::parse(sdp).ok()?;
    let audio = description.media.iter().find(|media| media.kind == "audio")?;
    audio.connection.or(description.connection)
}

/// Sees whether anything listens at an address, and keeps the connection that shows it.
async fn reach(address: SocketAddr, connector: Option<Result<Connector, ConnectFault>>) -> (Reached, Option<Opened>) {
    let opened = match connector {
        None => return (reach_by_datagram(address).await, None),
        Some(Ok(connector)) => streams::connect(address, connector).await,
        Some(Err(fault)) => Err(fault),
    };
    match opened {
        Ok(opened) => (Reached::Up, Some(opened)),
        Err(ConnectFault::Tcp(error)) if error.kind() == ErrorKind::ConnectionRefused => (Reached::Refused, None),
        Err(ConnectFault::Tcp(_) | ConnectFault::NotOurs) => (Reached::Silent, None),
        Err(ConnectFault::Tls(fault)) => (Reached::NoTls(fault), None),
    }
}

/// A datagram that asks for nothing (RFC 5626 §4.4.1): where nothing listens, the host itself says so by ICMP.
async fn reach_by_datagram(address: SocketAddr) -> Reached {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let Ok(socket) = UdpSocket::bind(any).await else { return Reached::Silent };
    let sent = async {
        socket.connect(address).await?;
        socket.send(KEEP_ALIVE).await?;
        socket.recv(&mut [0; 16]).await
    };
    match timeout(ICMP_MAX, sent).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Reached::Refused,
        Ok(Err(_)) => Reached::Silent,
        // Servers need not answer.
        Ok(Ok(_)) | Err(_) => Reached::Up,
    }
}

const OVERLOADED: Outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);

/// 4 tests at once: nobody looks at more.
const TESTS_MAX: usize = 4;

/// What stands in From where a trunk has neither account nor number.
const NOBODY: &str = "talkstack";

/// Two empty lines.
const KEEP_ALIVE: &[u8] = b"\r\n\r\n";

/// 500 ms: a host that refuses says so within a round trip.
const ICMP_MAX: Duration = Duration::from_millis(500);

/// 64 bytes: any name of a service.
const NAME_BYTES_MAX: usize = 64;
