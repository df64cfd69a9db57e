//! The lines to trunks: each registers where it is to, and is asked whether it is there.
//!
//! ```text
//!   snapshot ─▶ Line ─ Registration ─▶ REGISTER ─┐
//!                 └── Health ───────▶ OPTIONS ───┴▶ Endpoint ─▶ Responded, RequestTimedOut ─▶ Line
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{RegistrationState, TrunkRoute, TrunkState};
use talkstack_media::sip::message::{Host, Method, Uri};
use talkstack_media::sip::registration::{Answer, RegisterOrder, Registration, RegistrationStatus};
use talkstack_media::sip::{Event, Flow, OutsideRequest, RequestId, StreamId};

use super::SipThread;
use super::dial::{credentials, route};
use super::health::Health;
use super::tls::{PeerIdentity, TlsFault};
use crate::caller_id::domain;
use crate::trunks::Hop;

/// The lines to all trunks.
#[derive(Default)]
pub(super) struct Lines {
    lines: BTreeMap<String, Line>,
    asked: HashMap<RequestId, Asked>,
    /// Why TLS does not come to be with an address; none at one where it does.
    tls_faults: BTreeMap<SocketAddr, TlsFault>,
}

/// The line to one trunk.
struct Line {
    /// As it was when the line was set up.
    trunk: TrunkRoute,
    registration: Option<Registration>,
    health: Option<Health>,
    /// The connection that its last registration went over.
    stream: Option<StreamId>,
    /// A REGISTER that waits for the trunk's name to be resolved.
    waiting: Option<RegisterOrder>,
    /// Where it is asked, for as long as it answers there.
    hop: Option<Hop>,
    /// When its own address is looked up anew.
    check_at: Instant,
}

/// A request that waits for its answer.
struct Asked {
    trunk_id: String,
    is_register: bool,
}

impl Lines {
    /// When [`SipThread::handle_lines_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lines.values().filter_map(Line::poll_timeout).min()
    }

    /// Tells whether an answer of a registrar is awaited.
    pub(super) fn are_asked(&self) -> bool {
        self.asked.values().any(|asked| asked.is_register)
    }

    /// Values of Route that requests to a trunk begin with (RFC 3608 §5).
    pub(super) fn service_route(&self, trunk_id: &str) -> &[String] {
        let registration = self.lines.get(trunk_id).and_then(|line| line.registration.as_ref());
        registration.map_or(&[], Registration::service_route)
    }

    /// A connection has ended: a fault of TLS tells why it never was one.
    pub(super) fn handle_tls_fault(&mut self, remote: SocketAddr, fault: Option<TlsFault>) {
        let Some(fault) = fault else { return };
        if self.tls_faults.len() >= TLS_FAULTS_MAX {
            self.tls_faults.pop_first();
        }
        self.tls_faults.insert(remote, fault);
    }

    /// A message has come over a connection: whatever was wrong there is not any more.
    pub(super) fn handle_tls_stands(&mut self, remote: SocketAddr) {
        self.tls_faults.remove(&remote);
    }

    /// Why TLS does not come to be with the first of these addresses where it does not.
    pub(super) fn tls_fault(&self, mut addresses: impl Iterator<Item = SocketAddr>) -> Option<TlsFault> {
        addresses.find_map(|address| self.tls_faults.get(&address).copied())
    }

    /// How a line is, without its addresses and channels.
    pub(super) fn state(&self, trunk_id: &str, now: Instant) -> TrunkState {
        self.lines.get(trunk_id).map(|line| line.state(now)).unwrap_or_default()
    }
}

impl Line {
    fn poll_timeout(&self) -> Option<Instant> {
        let registration = self.registration.as_ref();
        let health = self.health.as_ref().and_then(Health::poll_timeout);
        let check = registration.map(|_| self.check_at);
        registration.and_then(Registration::poll_timeout).into_iter().chain(health).chain(check).min()
    }

    fn state(&self, now: Instant) -> TrunkState {
        let status = self.registration.as_ref().map_or(RegistrationStatus::Off, |line| line.status(now));
        let registration = match status {
            RegistrationStatus::Off => RegistrationState::Off,
            RegistrationStatus::Registering => RegistrationState::Registering,
            RegistrationStatus::Registered { until } => RegistrationState::Registered {
                expires_s: u32::try_from(until.saturating_duration_since(now).as_secs()).unwrap_or(u32::MAX),
            },
            RegistrationStatus::Failed { problem, .. } => match problem.status() {
                Some(status) => RegistrationState::Refused { status },
                None => RegistrationState::Unreachable,
            },
        };
        let is_reachable = self.health.as_ref().and_then(Health::is_reachable);
        let rtt = self.health.as_ref().and_then(Health::rtt);
        let refused = self.registration.as_ref().and_then(Registration::problem);
        let silent = (is_reachable == Some(false)).then(|| "3 OPTIONS in a row got no answer".to_owned());
        TrunkState {
            registration,
            is_reachable,
            rtt_ms: rtt.map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
            problem: refused.map(|problem| problem.to_string()).or(silent),
            ..TrunkState::default()
        }
    }

    /// It speaks to the same far end in the same name.
    fn is_same(&self, trunk: &TrunkRoute) -> bool {
        let of = |trunk: &TrunkRoute| {
            let TrunkRoute { host, port, transport, username, password, access, signalling, .. } = trunk.clone();
            (host, port, transport, username, password, access, signalling.options_interval_s)
        };
        of(&self.trunk) == of(trunk)
    }
}

impl SipThread {
    /// Sets up the lines of another configuration; one whose far end or account has changed begins anew.
    pub(super) fn apply_lines(&mut self, now: Instant) {
        let trunks = self.snapshot.trunks.clone();
        let lines = &self.dialling.accounts.lines.lines;
        let gone = lines.iter().filter(|(id, line)| trunks.get(*id).is_none_or(|trunk| !line.is_same(trunk)));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.leave_line(&id, now);
        }
        for (id, trunk) in trunks {
            if !self.dialling.accounts.lines.lines.contains_key(&id) {
                let health = Health::new(trunk.signalling.options_interval_s, now);
                let (registration, stream, waiting, hop) = (None, None, None, None);
                let line = Line { trunk, registration, health, stream, waiting, hop, check_at: now };
                self.dialling.accounts.lines.lines.insert(id.clone(), line);
                self.check_contact(&id, now);
            }
        }
    }

    /// Takes every binding back: the box stops.
    pub(super) fn leave_lines(&mut self, now: Instant) {
        self.dialling.accounts.lines.asked.retain(|_, asked| asked.is_register);
        let ids: Vec<String> = self.dialling.accounts.lines.lines.keys().cloned().collect();
        for id in ids {
            self.stop_line(&id, now);
        }
    }

    /// Takes a line's binding back, as far as one request can; it ends by itself otherwise.
    fn leave_line(&mut self, id: &str, now: Instant) {
        self.stop_line(id, now);
        self.dialling.accounts.lines.lines.remove(id);
        self.dialling.accounts.lines.asked.retain(|_, asked| asked.trunk_id != id);
    }

    fn stop_line(&mut self, id: &str, now: Instant) {
        let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
        line.health = None;
        if let Some(registration) = &mut line.registration {
            registration.stop(now);
            self.send_register(id, now);
        }
    }

    /// Does what is due.
    pub(super) fn handle_lines_timeout(&mut self, now: Instant) {
        let lines = &self.dialling.accounts.lines.lines;
        let is_due = |line: &Line| line.waiting.is_some() || line.poll_timeout().is_some_and(|at| at <= now);
        let due: Vec<String> = lines.iter().filter(|(_, line)| is_due(line)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(line) = self.dialling.accounts.lines.lines.get_mut(&id) else { continue };
            if line.registration.is_some() && line.check_at <= now {
                self.check_contact(&id, now);
            }
            let Some(line) = self.dialling.accounts.lines.lines.get_mut(&id) else { continue };
            if let Some(registration) = &mut line.registration {
                registration.handle_timeout(now);
            }
            let asks = line.health.as_ref().and_then(Health::poll_timeout).is_some_and(|at| at <= now);
            self.send_register(&id, now);
            if asks {
                self.send_options(&id, now);
            }
        }
    }

    /// Takes what has become of a line's request; gives back what is none of its business.
    pub(super) fn handle_line_event(&mut self, event: Event, now: Instant) -> Option<Event> {
        let (Event::Responded { request, .. } | Event::RequestTimedOut { request }) = &event else {
            return Some(event);
        };
        let Some(Asked { trunk_id, is_register }) = self.dialling.accounts.lines.asked.remove(request) else {
            return Some(event);
        };
        let line = self.dialling.accounts.lines.lines.get_mut(&trunk_id)?;
        match event {
            Event::Responded { status, headers, flow, cseq, .. } => {
                line.stream = if is_register { flow.stream } else { line.stream };
                self.dialling.trunks.handle_answered(&trunk_id, flow.remote);
                match is_register {
                    true => self.handle_registered(&trunk_id, Answer { status, headers: &headers, cseq }, now),
                    false => line.health.iter_mut().for_each(|health| health.handle_answered(now)),
                }
            }
            _ => self.handle_line_unanswered(&trunk_id, is_register, now),
        }
        None
    }

    /// A connection has ended: whoever registered over it can be reached no more, and registers anew.
    pub(super) fn handle_line_stream_closed(&mut self, stream: StreamId, now: Instant) {
        let lines = &self.dialling.accounts.lines.lines;
        let lost = lines.iter().filter(|(_, line)| line.stream == Some(stream));
        for id in lost.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            let Some(line) = self.dialling.accounts.lines.lines.get_mut(&id) else { continue };
            line.stream = None;
            tracing::info!("The connection to the trunk {} has ended", line.trunk.name);
            line.registration.iter_mut().for_each(|line| line.handle_connection_lost(now));
            self.send_register(&id, now);
        }
    }

    fn handle_registered(&mut self, id: &str, answer: Answer<'_>, now: Instant) {
        let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
        let Some(registration) = &mut line.registration else { return };
        let name = &line.trunk.name;
        let was_up = matches!(registration.status(now), RegistrationStatus::Registered { .. });
        // RFC 3263 §4.3: another of its servers may be able to.
        if answer.status == 503
            && let Some(hop) = line.hop.take()
        {
            self.dialling.trunks.handle_failed(id, hop.address, None, now);
        }
        registration.handle_answer(answer, now);
        match (registration.status(now), registration.problem()) {
            (RegistrationStatus::Registered { .. }, None) if !was_up => {
                tracing::info!("Registered with the trunk {name}");
            }
            (_, Some(problem)) => tracing::warn!("The trunk {name} is not registered with: {problem}"),
            _ => {}
        }
        self.send_register(id, now);
    }

    fn handle_line_unanswered(&mut self, id: &str, is_register: bool, now: Instant) {
        let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
        if let Some(hop) = line.hop.take() {
            self.dialling.trunks.handle_failed(id, hop.address, None, now);
        }
        if !is_register {
            line.health.iter_mut().for_each(|health| health.handle_unanswered(now));
            return;
        }
        if let Some(registration) = &mut line.registration {
            registration.handle_unanswered(now);
            tracing::warn!("The trunk {} is not registered with: nobody answers there", line.trunk.name);
        }
        self.send_register(id, now);
    }

    /// Our address has changed: every line is looked at.
    pub(super) fn check_contacts(&mut self, now: Instant) {
        let ids: Vec<String> = self.dialling.accounts.lines.lines.keys().cloned().collect();
        for id in ids {
            self.check_contact(&id, now);
        }
    }

    /// Our address may have changed: begins the registration, or binds the new one.
    fn check_contact(&mut self, id: &str, now: Instant) {
        let flow = self.line_flow(id, now).ok();
        let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
        if !line.trunk.access.register {
            return;
        }
        // A name that is not resolved yet leads nowhere that an address of ours could be chosen for.
        line.check_at = now + if flow.is_some() { CHECK_EVERY } else { CHECK_SOON };
        let Some(flow) = flow else {
            return line.registration.iter_mut().for_each(|line| line.handle_timeout(now));
        };
        let contact = contact(&line.trunk, &self.addresses.advertised.host_port(&flow), &flow);
        let expires = Duration::from_secs(line.trunk.access.register_expires_s.into());
        match &mut line.registration {
            Some(registration) => registration.handle_contact(contact, now),
            None => line.registration = Some(Registration::new(contact, expires, self.random.seed(), now)),
        }
        self.send_register(id, now);
    }

    /// Sends the REGISTER that the machine wants, or keeps it until the trunk's addresses are known.
    fn send_register(&mut self, id: &str, now: Instant) {
        let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
        let wanted = line.registration.as_mut().and_then(Registration::poll_output);
        let Some(order) = wanted.or_else(|| line.waiting.take()) else { return };
        let flow = match self.line_flow(id, now) {
            Ok(flow) => flow,
            Err(is_pending) => {
                let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
                if is_pending {
                    line.waiting = Some(order);
                } else if let Some(registration) = &mut line.registration {
                    registration.handle_unanswered(now);
                }
                return;
            }
        };
        let Some(line) = self.dialling.accounts.lines.lines.get(id) else { return };
        let account = credentials(&self.dialling.secret, &line.trunk);
        let own = format!("<{}>", aor(&line.trunk));
        let fields = vec![
            ("Contact", format!("<{}>", order.contact)),
            ("Expires", order.expires.as_secs().to_string()),
            ("Supported", "path".to_owned()),
        ];
        let Some(uri) = Uri::parse(&format!("sip:{}", domain(&line.trunk))) else { return };
        let request = OutsideRequest {
            flow,
            method: Method::Register,
            uri,
            from: own.clone(),
            to: own,
            call_id: order.call_id,
            cseq: order.cseq,
            routes: route(&line.trunk).into_iter().collect(),
            fields,
            body: Vec::new(),
            account,
        };
        let request = self.endpoint.send_request(request, now);
        self.dialling.accounts.lines.asked.insert(request, Asked { trunk_id: id.to_owned(), is_register: true });
    }

    fn send_options(&mut self, id: &str, now: Instant) {
        let flow = self.line_flow(id, now);
        let call_id = format!("{:032x}", self.random.u128());
        let Some(line) = self.dialling.accounts.lines.lines.get_mut(id) else { return };
        let Some(health) = &mut line.health else { return };
        health.handle_sent(now);
        let uri = Uri::parse(&format!("sip:{}", domain(&line.trunk)));
        let (Ok(flow), Some(uri)) = (flow, uri) else { return health.handle_unanswered(now) };
        let own = match &line.trunk.username {
            Some(_) => aor(&line.trunk),
            None => format!("sip:talkstack@{}", Host::Ip(flow.local.ip())),
        };
        let request = OutsideRequest {
            flow,
            method: Method::Options,
            to: format!("<{uri}>"),
            uri,
            from: format!("<{own}>"),
            call_id,
            cseq: 1,
            routes: route(&line.trunk).into_iter().collect(),
            fields: vec![("Accept", "application/sdp".to_owned())],
            body: Vec::new(),
            // Any answer is a sign of life, a challenge too.
            account: None,
        };
        let request = self.endpoint.send_request(request, now);
        self.dialling.accounts.lines.asked.insert(request, Asked { trunk_id: id.to_owned(), is_register: false });
    }

    /// Where a line's next request goes.
    ///
    /// # Errors
    /// Whether a resolver is at work; else the trunk has no address that can be reached from here.
    fn line_flow(&mut self, id: &str, now: Instant) -> Result<Flow, bool> {
        let mut hops = self.dialling.trunks.hops(id, now).ok_or(true)?;
        hops.retain(|hop| self.listeners.reaches(hop.address));
        let line = self.dialling.accounts.lines.lines.get_mut(id).ok_or(false)?;
        // The server that answered has the binding; chance shares out calls, not those.
        line.hop = line.hop.filter(|hop| hops.contains(hop)).or(hops.first().copied());
        let (hop, peer) = (line.hop.ok_or(false)?, PeerIdentity::of_trunk(&line.trunk));
        Ok(self.way_to(hop, peer, now))
    }
}

/// The account's own address.
fn aor(trunk: &TrunkRoute) -> String {
    format!("sip:{}@{}", escaped(trunk.username.as_deref().unwrap_or("talkstack")), domain(trunk))
}

/// Our Contact at a trunk. The account's name stands in it: trunks send calls to it, and some with nothing else that
/// names the account.
fn contact(trunk: &TrunkRoute, host_port: &str, flow: &Flow) -> String {
    let user = escaped(trunk.username.as_deref().unwrap_or("talkstack"));
    let transport = flow.transport.uri_name().map(|name| format!(";transport={name}")).unwrap_or_default();
    format!("sip:{user}@{host_port}{transport}")
}

/// A user as it may stand in a URI (RFC 3261 §25.1).
fn escaped(user: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte);
    user.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// 60 s (`telephony` 7): an address that changes is bound within a minute.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// 256 addresses, of which a box with a dozen trunks has two dozen; beyond it one fault is told as silence.
const TLS_FAULTS_MAX: usize = 256;

/// 1 s: a name that is being resolved is known by then.
const CHECK_SOON: Duration = Duration::from_secs(1);
