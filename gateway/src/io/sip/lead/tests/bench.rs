//! The box's own threads on loopback, phones around them, and what they send.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use talkstack_control::gate::{DialPolicy, Gate};
use talkstack_control::port::{CallEvent, ExtensionRoute, RouteRule, RouteTarget, Snapshot, ToControl, TrunkRoute};
use talkstack_control::secret::Secret;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::session::{HandshakeId, HandshakeInput};
use talkstack_media::sip::Flow;
use talkstack_media::sip::{Transport, UdpLarge};
use tokio::sync::mpsc;

use super::super::*;
use crate::accept::Accept;
use crate::agent::http_tool::Prepared;
use crate::call::CallLimits;
use crate::io::connect::{AgentTarget, SessionLimit};
use crate::io::inbox::inbox;
use crate::io::ports::Ports;
use crate::io::shard::{GivenLeg, Shard, ShardConfig, SipWish, Surroundings};
use crate::io::sip::{Listeners, SipConfig, SipSurroundings, ToSip};
use crate::journal::{Journal, JournalHandle};
use crate::random::Random;

/// The box's threads, and phones that have registered: all but the first as 102, the second as 104, the third as 105.
/// The second is a trunk as well.
pub(super) struct TestBox {
    pub(super) sip: SocketAddr,
    pub(super) phones: Vec<Phone>,
    pub(super) inbox: mpsc::Sender<ToSip>,
    events: std::sync::mpsc::Receiver<CallEvent>,
    _dir: tempfile::TempDir,
}

fn surroundings(dir: &std::path::Path, journal: JournalHandle, own_inbox: mpsc::Sender<ToSip>) -> SipSurroundings {
    SipSurroundings {
        journal,
        own_inbox,
        gate: Gate::new(DialPolicy::default()),
        secret: Secret::open(&dir.join("secret.key")).expect("made"),
        cut_off: Vec::new(),
        bindings: dir.join("bindings"),
        tls: None,
    }
}

/// Three phones, a trunk at this port of ours that takes one call a second, another with a name, and a route out through
/// each.
fn snapshot(trunk_port: u16) -> Snapshot {
    let numbers = |number: &str| vec![number.to_owned()];
    let mut trunk = TrunkRoute { numbers: numbers("15550000000"), ..TrunkRoute::new("t", "127.0.0.1") };
    (trunk.port, trunk.policy.calls_per_second) = (Some(trunk_port), Some(1));
    trunk.signalling.refer = true;
    let named = TrunkRoute { numbers: numbers("15550000001"), ..TrunkRoute::new("n", "trunk.invalid") };
    let rule = |trunk_id: &str, called: &str| {
        let out = RouteTarget::Trunk { trunk_id: trunk_id.into(), number: Some("+15551234567".into()), ring_s: None };
        let called = vec![called.into()];
        RouteRule { id: trunk_id.into(), called, targets: vec![out], ..RouteRule::default() }
    };
    Snapshot {
        extensions: ["102", "104", "105"].map(|user| (user.to_owned(), ExtensionRoute::default())).into(),
        trunks: [("t".to_owned(), trunk), ("n".to_owned(), named)].into(),
        routes: vec![rule("t", "5551234"), rule("n", "5559999")],
        ..Snapshot::default()
    }
}

impl TestBox {
    pub(super) fn start(phones: &[&str]) -> Self {
        let phones: Vec<Phone> = phones.iter().map(|address| Phone::new(address)).collect();
        let contacts: Vec<SocketAddr> = phones[1..].iter().map(|phone| phone.address).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        let (own_inbox, inbox) = mpsc::channel(64);
        let to_sip = own_inbox.clone();
        let (started, address) = std::sync::mpsc::channel();
        let (told, events) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let journal = Journal::open(&path.join("journal")).expect("opens");
                let (records, mut recorded) = mpsc::channel(64);
                journal.handle().subscribe(None, records);
                tokio::spawn(async move {
                    while let Some(message) = recorded.recv().await {
                        if let ToControl::Record(record) = message {
                            // The test may have seen enough.
                            let _ = told.send(record.event);
                        }
                    }
                });
                // The second call is on another thread than the first.
                let shards = (0..SHARDS).map(|at| start_shard(at, own_inbox.clone(), journal.handle())).collect();
                let listeners = Listeners::bind(&[([127, 0, 0, 1], 0).into()]).expect("a port");
                let local = listeners.addresses()[0].0;
                let surroundings = surroundings(&path, journal.handle(), own_inbox);
                let snapshot = snapshot(contacts[0].port());
                let (mut sip, sockets) = SipThread::new(
                    sip_config(),
                    listeners,
                    shards,
                    Arc::new(snapshot),
                    surroundings,
                    Random::new().expect("random numbers"),
                );
                for (remote, own) in contacts.into_iter().zip(["104", "105"]) {
                    let flow = Flow { transport: Transport::Udp, local, remote, stream: None };
                    sip.dialling.accounts.phones.bind("102", &flow);
                    sip.dialling.accounts.phones.bind(own, &flow);
                }
                started.send(local).expect("the test waits");
                sip.run(sockets, inbox).await;
            });
        });
        let sip = address.recv_timeout(LIMIT).expect("the box starts");
        TestBox { sip, phones, inbox: to_sip, events, _dir: dir }
    }

    /// One phone calls another, which answers; the INVITE as the other got it, and the answer as the one did.
    pub(super) fn connect(
        &self,
        caller: (&Phone, &UdpSocket),
        user: &str,
        called: (&Phone, &UdpSocket),
    ) -> (String, String) {
        caller.0.invite(self.sip, user, caller.1);
        let invite = called.0.take("INVITE ");
        called.0.respond(&invite, "200 OK", &sdp(called.1), self.sip);
        called.0.take("ACK ");
        let answer = caller.0.take("SIP/2.0 200");
        caller.0.acknowledge(&answer, self.sip);
        (invite, answer)
    }

    /// The field of a REFER to a user, in place of the call that was answered so.
    pub(super) fn refer_to(&self, user: &str, answer: &str) -> String {
        self.refer_in_place(user, &[field(answer, "Call-ID"), tag(answer, "To"), "c".into()])
    }

    /// The field of a REFER to a user in place of a dialog: its Call-ID, the box's tag and the phone's.
    pub(super) fn refer_in_place(&self, user: &str, [call_id, to_tag, from_tag]: &[String; 3]) -> String {
        let call_id = call_id.replace(':', "%3A").replace('@', "%40");
        let replaces = format!("{call_id}%3Bto-tag%3D{to_tag}%3Bfrom-tag%3D{from_tag}");
        format!("Refer-To: <sip:{user}@{}?Replaces={replaces}>\r\n", self.sip)
    }

    /// What the journal was told until the call's end.
    pub(super) fn ended(&self) -> Vec<CallEvent> {
        let mut events = Vec::new();
        while !matches!(events.last(), Some(CallEvent::Ended { .. })) {
            events.push(self.events.recv_timeout(LIMIT).expect("the call ends"));
        }
        events
    }
}

impl Drop for TestBox {
    fn drop(&mut self) {
        let _ = self.inbox.try_send(ToSip::Stop);
    }
}

fn sip_config() -> SipConfig {
    SipConfig {
        udp_large: UdpLarge::Auto,
        dns: Vec::new(),
        dtls: None,
        accept: Accept::Any,
        setup_required: false,
        calls_max: 10,
        outside: crate::outside::OutsideConfig::default(),
        timezone: jiff::tz::TimeZone::UTC,
    }
}

fn start_shard(
    at: usize,
    sip: mpsc::Sender<ToSip>,
    journal: JournalHandle,
) -> crate::io::inbox::Address<crate::io::shard::ToShard> {
    let (inbox, address) = inbox().expect("a descriptor");
    let config = ShardConfig {
        recorder: None,
        ports: Ports::new(33_000, 60_000, at, SHARDS, u64::from(std::process::id()) << 8 | 3),
        limits: CallLimits {
            duration_max: Duration::from_secs(60),
            ring_max: Duration::from_secs(45),
            speech: SpeechPool::default(),
        },
    };
    let shard = Shard::new(config, inbox, Around { sip, journal }, Instant::now()).expect("a shard");
    std::thread::spawn(move || shard.run());
    address
}

struct Around {
    sip: mpsc::Sender<ToSip>,
    journal: JournalHandle,
}

impl Surroundings for Around {
    fn sip(&self, id: CallId, wish: SipWish) -> bool {
        self.sip.try_send(ToSip::Wish(id, wish)).is_ok()
    }

    fn give(&self, to: CallId, given: Box<GivenLeg>) -> bool {
        self.sip.try_send(ToSip::Given(to, given)).is_ok()
    }

    fn record(&self, id: CallId, event: CallEvent) -> bool {
        self.journal.append(id, event).is_ok()
    }

    fn speak(&self, _: CallId, _: String) {}

    fn fetch(&self, _: CallId, _: u32, _: Box<Prepared>) {}

    fn shake(&self, _: CallId, _: HandshakeId, _: HandshakeInput) -> bool {
        false
    }

    fn connect(&self, _: CallId, _: AgentTarget, _: Option<SessionLimit>) -> bool {
        false
    }
}

/// A phone's signalling.
pub(super) struct Phone {
    socket: UdpSocket,
    pub(super) address: SocketAddr,
}

impl Phone {
    pub(super) fn new(address: &str) -> Self {
        let socket = UdpSocket::bind(address).expect("a port");
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        let address = socket.local_addr().expect("bound");
        Phone { socket, address }
    }

    /// Waits for a message that begins so, passing over others.
    pub(super) fn take(&self, start: &str) -> String {
        loop {
            let mut buffer = [0; 8192];
            let (bytes, _) = self.socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("no {start}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
    }

    /// Is told how a transfer goes until it is told this.
    pub(super) fn take_told(&self, status: &str, target: SocketAddr) {
        loop {
            let told = self.take("NOTIFY ");
            self.respond(&told, "200 OK", "", target);
            if told.contains(status) {
                return;
            }
        }
    }

    /// Lets so many of its calls end, and takes whatever else comes meanwhile.
    pub(super) fn take_byes(&self, count: usize, target: SocketAddr) {
        let mut byes = 0;
        while byes < count {
            let request = self.take("");
            byes += usize::from(request.starts_with("BYE "));
            if !request.starts_with("SIP/2.0") {
                self.respond(&request, "200 OK", "", target);
            }
        }
    }

    /// The final response that comes within a second, if one does.
    pub(super) fn final_response(&self) -> Option<String> {
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
        loop {
            let mut buffer = [0; 8192];
            let bytes = self.socket.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 1") {
                return Some(text);
            }
        }
    }

    pub(super) fn invite(&self, target: SocketAddr, user: &str, media: &UdpSocket) -> String {
        self.offer(target, user, &sdp(media), "")
    }

    pub(super) fn offer(&self, target: SocketAddr, user: &str, sdp: &str, fields: &str) -> String {
        let local = self.address;
        let text = format!(
            "INVITE sip:{user}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKi;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:101@{local}>;tag=c\r\nTo: <sip:{user}@{target}>\r\nCall-ID: {local}\r\nCSeq: 1 INVITE\r\n\
             {fields}Contact: <sip:101@{local}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.socket.send_to(text.as_bytes(), target).expect("sent");
        text
    }

    pub(super) fn acknowledge(&self, answer: &str, target: SocketAddr) {
        self.in_dialog("ACK", 1, answer, "", target);
    }

    pub(super) fn cancel(&self, invite: &str, target: SocketAddr) {
        let head = invite.split("Contact:").next().expect("a head").replace("INVITE", "CANCEL");
        self.socket.send_to(format!("{head}Content-Length: 0\r\n\r\n").as_bytes(), target).expect("sent");
    }

    /// BYE of the called side.
    pub(super) fn bye(&self, invite: &str, target: SocketAddr) {
        self.in_dialog("BYE", 1, invite, "", target);
    }

    /// A request in the dialog of an INVITE that came, or of an answer to our own.
    pub(super) fn in_dialog(&self, method: &str, number: u32, message: &str, fields: &str, target: SocketAddr) {
        let is_ours = message.starts_with("SIP/2.0");
        let tagged = format!("{};tag=d{}", field(message, "To"), self.address.port());
        let (from, to) = match is_ours {
            true => (field(message, "From"), field(message, "To")),
            false => (tagged, field(message, "From")),
        };
        let (local, call_id) = (self.address, field(message, "Call-ID"));
        let text = format!(
            "{method} sip:box@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:x@{local}>\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        self.socket.send_to(text.as_bytes(), target).expect("sent");
    }

    pub(super) fn respond(&self, request: &str, status: &str, sdp: &str, target: SocketAddr) {
        let copied = |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
        let copied: String = request.lines().filter(copied).map(|line| format!("{}\r\n", line.trim_end())).collect();
        let to = field(request, "To");
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag=d{}", self.address.port()) };
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{copied}To: {to}{tag}\r\nContact: <sip:102@{}>\r\n{content}Content-Length: {}\r\n\r\n{sdp}",
            self.address,
            sdp.len()
        );
        self.socket.send_to(text.as_bytes(), target).expect("sent");
    }
}

pub(super) fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

pub(super) fn tag(text: &str, name: &str) -> String {
    field(text, name).split("tag=").nth(1).expect("a tag").to_owned()
}

pub(super) fn sdp(media: &UdpSocket) -> String {
    let port = media.local_addr().expect("bound").port();
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
}

pub(super) fn media_of(text: &str) -> SocketAddr {
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
    ([127, 0, 0, 1], port.expect("audio")).into()
}

pub(super) fn frame(sequence: u16, code: u8) -> [u8; 172] {
    let mut packet = [code; 172];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&[code; 4]);
    packet
}

/// Listens for a while; returns how many frames said nothing but `code`.
pub(super) fn frames_of(media: &UdpSocket, code: u8, time: Duration) -> usize {
    let (until, mut buffer, mut frames) = (Instant::now() + time, [0; 2048], 0);
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        media.set_read_timeout(Some(rest)).expect("set");
        let Ok(bytes) = media.recv(&mut buffer) else { continue };
        frames += usize::from(bytes == 172 && buffer[12..172].iter().all(|byte| *byte == code));
    }
    frames
}

/// Says a hundred frames of `code`; returns how many of them come back.
pub(super) fn echoed(media: &UdpSocket, to: SocketAddr, code: u8) -> usize {
    let said = (0..100).map(|sequence| {
        media.send_to(&frame(sequence, code), to).expect("sent");
        frames_of(media, code, Duration::from_millis(20))
    });
    said.sum()
}

/// Media threads of the box.
const SHARDS: usize = 2;

/// 8 s: far above what loopback takes.
const LIMIT: Duration = Duration::from_secs(8);
