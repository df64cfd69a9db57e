//! Tests of trunks: each fault that they name is played by a peer that has it.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use talkstack_control::port::{
    CallEvent, Command, CommandId, CommandReply, Direction, Snapshot, TestStep, ToCalls, TrunkRoute, TrunkTransport,
};
use talkstack_control::secret::{SECRET_FILE, Secret, TRUNK_PASSWORD_PURPOSE};

use crate::daemon::Daemon;
use crate::survival::ScriptedControl;
use crate::uas::response;

#[test]
fn a_trunk_that_is_right_passes_every_step_of_its_test() {
    let site = Site::new();
    let pbx = Pbx { register: "200 OK", invite: Answers::Call(Sound::Echo, None) }.start();
    let steps = site.test(registered(pbx), "600");
    let verdicts: Vec<_> = steps.iter().map(|step| (step.step.as_str(), step.is_ok)).collect();
    let all = ["dns", "reach", "options", "register", "call", "audio"];
    assert_eq!(verdicts, all.map(|step| (step, Some(true))), "{steps:?}");
    assert_eq!(steps[5].found, "The tone came back: sound goes both ways");
}

#[test]
fn each_refusal_of_a_pbx_is_named_and_says_what_to_do() {
    let mut site = Site::new();
    let call = |status| Pbx { invite: Answers::Status(status), ..Pbx::default() };
    let register = |status| Pbx { register: status, ..Pbx::default() };
    for (pbx, registers, step, fault, sentence) in [
        (call("403 Forbidden"), false, "call", "forbidden", "PBX answered 403: the secret or the extension is wrong"),
        (call("404 Not Found"), false, "call", "not_found", "PBX answered 404: it does not know"),
        (call("488 Not Acceptable Here"), false, "call", "no_common_codec", "PBX answered 488: no common codec"),
        (call(UNAUTHORIZED), false, "call", "loop_401", "PBX answered 401 to the right question again"),
        (call(PROXY), false, "call", "loop_407", "PBX answered 407 to the right question again"),
        (call("486 Busy Here"), false, "call", "busy", "PBX answered that the number is busy"),
        (register("403 Forbidden"), true, "register", "forbidden", "PBX answered 403: the secret or the extension"),
        (register("404 Not Found"), true, "register", "not_found", "PBX answered 404"),
        (register(UNAUTHORIZED), true, "register", "loop_401", "PBX answered 401 to the right question again"),
        (register(PROXY), true, "register", "loop_407", "PBX answered 407 to the right question again"),
    ] {
        let trunk = if registers { registered(pbx.start()) } else { known(pbx.start()) };
        let steps = site.test_again(trunk, "600");
        check(&steps, step, fault, sentence);
    }
    // An account that the trunk does not have.
    let steps = site.test_again(towards(call(PROXY).start()), "600");
    check(&steps, "call", "no_credentials", "PBX answered 407: it wants a user and a secret");
    // Numbers that the box does not call, though a PBX would.
    for number in ["112", "+1911", "+36112", "+882123456789"] {
        let steps = site.test_again(towards(call("486 Busy Here").start()), number);
        check(&steps, "call", "destination_not_allowed", "This box does not call that number");
    }
}

#[test]
fn a_host_without_a_name_a_listener_or_tls_is_named() {
    let mut site = Site::new();
    let steps = site.test_again(TrunkRoute::new("t", "nowhere.invalid"), "600");
    check(&steps, "dns", "dns", "The name has no address");
    let closed = || {
        let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        // Nothing has the port of the same number over UDP either: it was asked for the moment before.
        UdpSocket::bind(address).expect("free").local_addr().expect("bound")
    };
    for transport in [TrunkTransport::Udp, TrunkTransport::Tcp, TrunkTransport::Tls] {
        let steps = site.test_again(TrunkRoute { transport, ..towards(closed()) }, "600");
        check(&steps, "reach", "refused", "The host is there, but nothing listens on that port");
    }
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = plain.local_addr().expect("bound");
    std::thread::spawn(move || {
        // Whoever speaks no TLS hangs up on what it cannot read.
        while plain.accept().is_ok() {}
    });
    let steps = site.test_again(TrunkRoute { transport: TrunkTransport::Tls, ..towards(address) }, "600");
    check(&steps, "reach", "tls", "TLS failed");
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let trunk = TrunkRoute { access: Default::default(), ..towards(silent.local_addr().expect("bound")) };
    let steps = site.test_without_number(trunk);
    check(&steps, "options", "no_answer", "Nothing came back");
}

#[test]
fn sound_that_is_lost_on_either_way_is_told_apart_in_a_call() {
    let mut site = Site::new();
    let private: IpAddr = "10.255.255.1".parse().expect("an address");
    let cases = [
        (Sound::None, None, "no_rtp", "The call was answered, but no RTP came"),
        (Sound::HearsOnly, None, "one_way_in", "One-way audio: nothing is heard from the PBX"),
        (Sound::SpeaksOnly, None, "one_way_out", "One-way audio: the PBX hears nothing of this box"),
        (
            Sound::None,
            Some(private),
            "private_address",
            "Private address in SDP: the PBX wants its audio at 10.255.255.1",
        ),
    ];
    let trunks =
        cases.map(|(sound, shown, ..)| towards(Pbx { invite: Answers::Call(sound, shown), ..Pbx::default() }.start()));
    site.configure(trunks.into());
    // All at once: each listens for as long as a test does.
    for at in 0..cases.len() {
        site.begin(at, Some("600"));
    }
    let mut told: Vec<Option<Vec<TestStep>>> = vec![None; cases.len()];
    while told.iter().any(Option::is_none) {
        let (at, steps) = site.next_told();
        told[at] = Some(steps);
    }
    for ((.., fault, sentence), steps) in cases.iter().zip(told) {
        check(&steps.expect("told"), "audio", fault, sentence);
    }
}

#[test]
fn a_trunk_that_nobody_has_is_tested_by_no_step_and_a_fifth_test_at_once_is_refused() {
    let mut site = Site::new();
    assert_eq!(site.control.ask("none", test_of("gone", None)), CommandReply::Tested(Vec::new()));
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound");
    site.configure((0..5).map(|_| towards(address)).collect());
    for at in 0..4 {
        site.begin(at, None);
    }
    assert_eq!(site.control.ask("fifth", test_of("trunk-4", None)), CommandReply::Busy);
}

#[test]
fn refusals_that_are_sent_and_received_are_written_with_the_rule_that_caused_them() {
    let mut site = Site::new();
    let pbx = Pbx { invite: Answers::Status("403 Too expensive"), ..Pbx::default() }.start();
    site.configure(vec![towards(pbx)]);
    site.begin(0, Some("600"));
    let received = site.control.wait_for_event(|event| match event {
        CallEvent::Refused(refusal) => Some(refusal),
        _ => None,
    });
    assert_eq!((received.direction, received.status, received.method.as_str()), (Direction::Outbound, 403, "INVITE"));
    assert_eq!((received.peer.as_str(), received.trunk_id.as_deref()), (pbx.to_string().as_str(), Some("trunk-0")));
    assert!(received.rule.contains("Too expensive"), "{received:?}");
    crate::sipp::Sipp::new(site.daemon.sip(), "unknown").dialling("5550000").succeeds();
    let sent = site.control.wait_for_event(|event| match event {
        CallEvent::Refused(refusal) if refusal.direction == Direction::Inbound => Some(refusal),
        _ => None,
    });
    assert_eq!((sent.status, sent.rule.as_str()), (404, "no number or user 5550000 on this box"));
}

/// A box without its control side, and the tests that it is asked for.
struct Site {
    daemon: Daemon,
    control: ScriptedControl,
    revision: u64,
    asked: u32,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = Daemon::start("calls", dir.path(), &[]);
        let control = ScriptedControl::connect(dir.path());
        Site { daemon, control, revision: 0, asked: 0, _dir: dir }
    }

    fn test(mut self, trunk: TrunkRoute, number: &str) -> Vec<TestStep> {
        self.test_again(trunk, number)
    }

    fn test_again(&mut self, trunk: TrunkRoute, number: &str) -> Vec<TestStep> {
        self.configure(vec![trunk]);
        self.begin(0, Some(number));
        self.next_told().1
    }

    fn test_without_number(&mut self, trunk: TrunkRoute) -> Vec<TestStep> {
        self.configure(vec![trunk]);
        self.begin(0, None);
        self.next_told().1
    }

    /// Gives the box these trunks, `trunk-0` and up, their passwords sealed as control does it.
    fn configure(&mut self, trunks: Vec<TrunkRoute>) {
        let secret = Secret::open(&self.daemon.dir.join(SECRET_FILE)).expect("the box has one");
        self.revision += 1;
        let mut snapshot = Snapshot { revision: self.revision, ..Snapshot::default() };
        for (at, mut trunk) in trunks.into_iter().enumerate() {
            trunk.password = trunk.username.is_some().then(|| secret.seal(TRUNK_PASSWORD_PURPOSE, "s3cret"));
            snapshot.trunks.insert(format!("trunk-{at}"), trunk);
        }
        self.control.send(&ToCalls::Snapshot(snapshot));
    }

    fn begin(&mut self, at: usize, number: Option<&str>) {
        self.asked += 1;
        let command_id = CommandId(format!("test-{at}-{}", self.asked));
        let command = test_of(&format!("trunk-{at}"), number);
        self.control.send(&ToCalls::Command { command_id, command });
    }

    fn next_told(&mut self) -> (usize, Vec<TestStep>) {
        self.control.wait_for(|message| match message {
            talkstack_control::port::ToControl::Reply { command_id, reply: CommandReply::Tested(steps) } => {
                let at = command_id.0.split('-').nth(1)?.parse().ok()?;
                Some((at, steps))
            }
            _ => None,
        })
    }
}

fn test_of(trunk_id: &str, number: Option<&str>) -> Command {
    Command::TestTrunk { trunk_id: trunk_id.into(), number: number.map(str::to_owned) }
}

fn check(steps: &[TestStep], step: &str, fault: &str, sentence: &str) {
    let failed: Vec<_> = steps.iter().filter(|told| told.is_ok == Some(false)).collect();
    assert_eq!(failed.len(), 1, "{step} {fault}: {steps:?}");
    assert_eq!((failed[0].step.as_str(), failed[0].fault.as_deref()), (step, Some(fault)), "{steps:?}");
    assert!(failed[0].found.starts_with(sentence), "{}", failed[0].found);
}

fn towards(address: SocketAddr) -> TrunkRoute {
    TrunkRoute { port: Some(address.port()), ..TrunkRoute::new("pbx", &address.ip().to_string()) }
}

fn known(address: SocketAddr) -> TrunkRoute {
    TrunkRoute { username: Some("clinic".into()), ..towards(address) }
}

fn registered(address: SocketAddr) -> TrunkRoute {
    let mut trunk = known(address);
    trunk.access.register = true;
    trunk
}

/// What a PBX answers, by method.
#[derive(Clone, Copy)]
struct Pbx {
    register: &'static str,
    invite: Answers,
}

#[derive(Clone, Copy)]
enum Answers {
    /// This final response.
    Status(&'static str),
    /// A 200 with sound like this, wanted at this address.
    Call(Sound, Option<IpAddr>),
}

/// What an answered call sounds like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sound {
    /// Nothing goes either way.
    None,
    /// What comes is sent back.
    Echo,
    /// It reports on what it hears, and sends nothing.
    HearsOnly,
    /// It sends, and reports that it hears nothing.
    SpeaksOnly,
}

impl Default for Pbx {
    fn default() -> Self {
        Pbx { register: "200 OK", invite: Answers::Status("486 Busy Here") }
    }
}

impl Pbx {
    /// Listens on loopback until the test's process ends.
    fn start(self) -> SocketAddr {
        let sip = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = sip.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok((bytes, remote)) = sip.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
                if let Some(answer) = self.answer(&text, address) {
                    // The box may be gone.
                    let _ = sip.send_to(answer.as_bytes(), remote);
                }
            }
        });
        address
    }

    fn answer(self, request: &str, address: SocketAddr) -> Option<String> {
        let own = format!("Contact: <sip:pbx@{address}>\r\n");
        let challenged = |status: &str| {
            let realm = "Digest realm=\"pbx\", nonce=\"same\", algorithm=MD5, qop=\"auth\"";
            match status {
                UNAUTHORIZED => format!("WWW-Authenticate: {realm}\r\n"),
                PROXY => format!("Proxy-Authenticate: {realm}\r\n"),
                _ => String::new(),
            }
        };
        match request.split(' ').next()? {
            "OPTIONS" | "BYE" | "CANCEL" => Some(response(request, "200 OK", &own, "")),
            "REGISTER" => Some(response(request, self.register, &challenged(self.register), "")),
            "INVITE" => match self.invite {
                Answers::Status(status) => Some(response(request, status, &challenged(status), "")),
                Answers::Call(sound, shown) => {
                    // A retransmission finds another port, and the box has the first answer.
                    let port = Media::start(sound, box_media(request)?);
                    let shown = shown.unwrap_or(address.ip());
                    let sdp = format!(
                        "v=0\r\no=- 1 1 IN IP4 {shown}\r\ns=-\r\nc=IN IP4 {shown}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
                    );
                    Some(response(request, "200 OK", &own, &sdp))
                }
            },
            _ => None,
        }
    }
}

/// Where the box wants its audio.
fn box_media(invite: &str) -> Option<SocketAddr> {
    let line = |prefix: &str| invite.lines().find_map(|line| line.strip_prefix(prefix));
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(line("c=IN IP4 ")?.trim().parse().ok()?, port))
}

/// The sound of one answered call.
struct Media {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    theirs: SocketAddr,
    sound: Sound,
    sequence: u16,
}

impl Media {
    /// Takes two ports and plays its part for as long as a test listens; returns the first.
    fn start(sound: Sound, theirs: SocketAddr) -> u16 {
        let (rtp, rtcp) = std::iter::repeat_with(pair).flatten().next().expect("two ports");
        let port = rtp.local_addr().expect("bound").port();
        rtp.set_read_timeout(Some(FRAME)).expect("set");
        std::thread::spawn(move || Media { rtp, rtcp, theirs, sound, sequence: 0 }.run());
        port
    }

    fn run(mut self) {
        let (began, mut reported, mut sent) = (Instant::now(), Instant::now(), 0);
        let mut buffer = [0; 2048];
        while began.elapsed() < MEDIA_MAX {
            let received = self.rtp.recv_from(&mut buffer).ok();
            if let (Sound::Echo, Some((bytes, _))) = (self.sound, received) {
                // The same sound, in a stream of its own.
                buffer[8..12].copy_from_slice(&SSRC);
                self.send(&buffer[..bytes]);
            }
            // By the clock: what comes wakes this thread as well.
            if self.sound == Sound::SpeaksOnly && began.elapsed() > FRAME * sent {
                sent += 1;
                self.speak();
            }
            if reported.elapsed() < Duration::from_millis(500) {
                continue;
            }
            reported = Instant::now();
            let heard = received.and_then(|_| buffer.get(8..12)).unwrap_or_default().to_vec();
            match self.sound {
                Sound::HearsOnly if !heard.is_empty() => {
                    self.report(&[&[0x81, 201, 0, 7][..], &SSRC, &heard, &[0; 20]].concat());
                }
                Sound::SpeaksOnly => self.report(&[&[0x80, 200, 0, 6][..], &SSRC, &[1; 20]].concat()),
                Sound::HearsOnly | Sound::None | Sound::Echo => {}
            }
        }
    }

    /// 20 ms of 400 Hz, louder than noise.
    fn speak(&mut self) {
        let timestamp = u32::from(self.sequence) * 160;
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(SSRC);
        packet.extend((0..160).map(|at| if at / 10 % 2 == 0 { 0x90 } else { 0x10 }));
        self.sequence += 1;
        self.send(&packet);
    }

    fn send(&self, packet: &[u8]) {
        // The box may be gone.
        let _ = self.rtp.send_to(packet, self.theirs);
    }

    fn report(&self, packet: &[u8]) {
        let _ = self.rtcp.send_to(packet, SocketAddr::new(self.theirs.ip(), self.theirs.port() + 1));
    }
}

/// A port and the one above it, if both are free.
fn pair() -> Option<(UdpSocket, UdpSocket)> {
    let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let above = rtp.local_addr().expect("bound").port().checked_add(1)?;
    Some((rtp, UdpSocket::bind(("127.0.0.1", above)).ok()?))
}

const UNAUTHORIZED: &str = "401 Unauthorized";
const PROXY: &str = "407 Proxy Authentication Required";

/// The PBX's stream.
const SSRC: [u8; 4] = [0, 0, 0, 9];

const FRAME: Duration = Duration::from_millis(20);

/// 15 s: longer than a test listens.
const MEDIA_MAX: Duration = Duration::from_secs(15);
