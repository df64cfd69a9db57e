//! RFC 4475 and RFC 5118 against the real daemon: one row for each message.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::table::print;
use crate::daemon::Daemon;

use Want::{ACall, Any, Only, Silence};

#[test]
fn torture_messages_get_what_their_rfc_wants_from_the_daemon() {
    let Some(corpora) = corpora() else { return };
    let mut boxes = Boxes::default();
    let index = std::fs::read_to_string(corpora.join("rfc4475/INDEX.csv")).expect("readable");
    let listed = index.lines().skip(1).filter_map(|line| line.split(',').next());
    assert!(listed.into_iter().all(|name| RFC4475.iter().any(|(known, _)| *known == name)), "a message has no row");
    let mut rows = Vec::new();
    for (name, want) in RFC4475 {
        let bytes = std::fs::read(corpora.join("rfc4475").join(name)).expect("readable");
        let [got, got_over_tcp] = boxes.tell(&bytes);
        rows.push(Row { name, over: "UDP", want, got });
        let want = match name {
            // A stream is cut by Content-Length: what is missing may still come, and without one nothing can be cut.
            "clerr.dat" | "baddn.dat" => Silence,
            "inv2543.dat" => Only(&[400]),
            _ => want,
        };
        rows.push(Row { name, over: "TCP", want, got: got_over_tcp });
    }
    for (name, want) in RFC5118 {
        let text = std::fs::read_to_string(corpora.join("rfc5118").join(name)).expect("readable");
        let [got, got_over_tcp] = boxes.tell(&on_the_wire(&text));
        rows.push(Row { name, over: "UDP", want, got });
        rows.push(Row { name, over: "TCP", want, got: got_over_tcp });
    }
    print(&rows.iter().map(Row::to_line).collect::<String>());
    let red: Vec<String> = rows.iter().filter(|row| !row.is_good()).map(Row::to_line).collect();
    assert!(red.is_empty(), "not what the RFC wants:\n{}", red.concat());
    for (daemon, _) in &boxes.running {
        crate::sipp::Sipp::new(daemon.sip(), "basic").succeeds();
    }
}

/// Daemons enough that none is told two messages of one transaction: the second would be a retransmission to it, as the
/// messages share branches, and over TCP each comes once more.
#[derive(Default)]
struct Boxes {
    running: Vec<(Daemon, Strange)>,
    /// What names a transaction, once for each message of it.
    told: Vec<String>,
}

impl Boxes {
    /// What is answered over UDP, and over TCP.
    fn tell(&mut self, bytes: &[u8]) -> [Vec<u16>; 2] {
        let text = String::from_utf8_lossy(bytes);
        let via = text.lines().find(|line| line.starts_with(['V', 'v']));
        let transaction = format!("{:?} {via:?}", text.split(' ').next());
        [true, false].map(|is_datagram| {
            let earlier = self.told.iter().filter(|told| **told == transaction).count();
            self.told.push(transaction.clone());
            if earlier == self.running.len() {
                let daemon = Daemon::serve(&[]);
                let strange = Strange::new(daemon.sip());
                self.running.push((daemon, strange));
            }
            let (daemon, strange) = &self.running[earlier];
            if is_datagram { strange.tells(bytes) } else { over_tcp(daemon.sip(), bytes) }
        })
    }
}

/// What an RFC wants of a message.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// One of these.
    Only(&'static [u16]),
    /// It is well formed: anything but 400.
    Any,
    /// As [`Want::Any`], and it is a call: a provisional answer comes first.
    ACall,
    /// No answer.
    Silence,
}

struct Row {
    name: &'static str,
    over: &'static str,
    want: Want,
    got: Vec<u16>,
}

impl Row {
    fn is_good(&self) -> bool {
        let last = self.got.last();
        match self.want {
            Only(wanted) => last.is_some_and(|status| wanted.contains(status)),
            Any => last.is_some_and(|status| *status != 400),
            ACall => self.got.first() == Some(&100) && last.is_some_and(|status| *status != 400),
            Silence => last.is_none(),
        }
    }

    fn to_line(&self) -> String {
        let wanted = match self.want {
            Only(wanted) => words(wanted, " or "),
            Any => "well-formed: not 400".into(),
            ACall => "a call is offered".into(),
            Silence => "silence".into(),
        };
        let got = if self.got.is_empty() { "silence".into() } else { words(&self.got, ", ") };
        let verdict = if self.is_good() { "as wanted" } else { "RED" };
        format!("{:<30} {} | {wanted:<22} | {got:<14} | {verdict}\n", self.name, self.over)
    }
}

fn words(statuses: &[u16], between: &str) -> String {
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(between)
}

/// Sends datagrams of others from an address of loopback that is its own, and listens wherever their Via wants the
/// answer: the messages stay as they are, bit by bit.
pub(crate) struct Strange {
    target: SocketAddr,
    socket: UdpSocket,
    answers: Receiver<String>,
}

impl Strange {
    pub(crate) fn new(target: SocketAddr) -> Self {
        let (sender, answers) = channel();
        // 127.64.0.0 to 127.127.255.255: taken by nobody else, for a process has its number to itself.
        static USED: AtomicU8 = AtomicU8::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 64 + (USED.fetch_add(1, Ordering::Relaxed) & 63), high, low);
        let bind = |port: u16| UdpSocket::bind((address, port)).expect("nobody else has this address");
        let sockets: Vec<UdpSocket> = VIA_PORTS.into_iter().map(bind).collect();
        for socket in &sockets {
            let (socket, sender) = (socket.try_clone().expect("a handle"), sender.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while let Ok(bytes) = socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
                    if sender.send(text).is_err() {
                        return;
                    }
                }
            });
        }
        let socket = sockets.into_iter().next().expect("the first");
        Strange { target, socket, answers }
    }

    /// Statuses of the answers to a message, to its final one; nothing when it was passed over in silence.
    pub(crate) fn tells(&self, bytes: &[u8]) -> Vec<u16> {
        self.send(bytes);
        let mut heard = Vec::new();
        // What is not acknowledged comes again, in the middle of a later message's answers.
        let is_its_own =
            |text: &str| call_id(text).is_none_or(|id| bytes.windows(id.len()).any(|part| part == id.as_bytes()));
        // The daemon takes datagrams in order: once it has answered this one, it has begun to answer the other.
        self.probe(|text| heard.extend(status(text).filter(|_| is_its_own(text))));
        if heard.is_empty() {
            // On another port, read by another thread: it may be a moment behind.
            self.hears_within(SILENCE_MIN, |text| heard.extend(status(text).filter(|_| is_its_own(text))));
        }
        while heard.last().is_some_and(|status| *status < 200) {
            let text = self.answers.recv_timeout(ANSWER_MAX).expect("a final answer follows");
            heard.extend(status(&text).filter(|_| is_its_own(&text)));
        }
        heard.dedup();
        heard
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        // A datagram that the kernel would not carry has been no test.
        let _ = self.socket.send_to(bytes, self.target);
    }

    /// Lets so long pass and shows what comes meanwhile.
    pub(crate) fn hears_within(&self, time: Duration, mut seen: impl FnMut(&str)) {
        let until = Instant::now() + time;
        let rest = || until.saturating_duration_since(Instant::now());
        std::iter::from_fn(|| self.answers.recv_timeout(rest()).ok()).for_each(|text| seen(&text));
    }

    /// Waits until the daemon has answered a plain OPTIONS; everything else that comes is shown.
    pub(crate) fn probe(&self, mut seen: impl FnMut(&str)) {
        let local = self.socket.local_addr().expect("bound");
        let number = rand_word();
        let options = format!(
            "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{PROBE}{number};rport\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nCall-ID: {PROBE}{number}\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(options.as_bytes());
        loop {
            let text = self.answers.recv_timeout(ANSWER_MAX).expect("the daemon lives and answers");
            seen(&text);
            if text.contains(&format!("{PROBE}{number}")) {
                return;
            }
        }
    }
}

/// What comes back on a connection of its own, until the daemon or the message's final answer ends it.
fn over_tcp(target: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(target).expect("accepted");
    stream.set_read_timeout(Some(SILENCE_MIN)).expect("set");
    // It may be closed before all is written.
    let _ = stream.write_all(bytes);
    let (mut text, mut buffer, mut heard) = (String::new(), [0; 4096], Vec::new());
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
        heard = text.split("\r\n").filter_map(status).collect();
        if heard.last().is_some_and(|status| *status >= 200) {
            break;
        }
    }
    // It may have gone already.
    let _ = stream.shutdown(Shutdown::Both);
    heard
}

fn call_id(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("Call-ID: "))
}

fn status(text: &str) -> Option<u16> {
    text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

/// The files have bare line ends; the wire has not. The lengths in the RFC's text are not those of its bodies.
pub(crate) fn on_the_wire(text: &str) -> Vec<u8> {
    let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.trim_end(), ""));
    let head: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with("Content-Length")).collect();
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len()).into_bytes()
}

/// `TALKSTACK_CORPORA`, else `shared/corpora` beside the checkout; says so when neither is there.
pub(crate) fn corpora() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora");
    let path = std::env::var_os("TALKSTACK_CORPORA").map_or(beside, PathBuf::from);
    if !path.is_dir() {
        print("skipped: no test corpora beside the checkout (TALKSTACK_CORPORA)\n");
        return None;
    }
    Some(path)
}

pub(crate) fn rand_word() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

/// The ports that the messages' Via fields name, the default one first.
const VIA_PORTS: [u16; 5] = [5060, 5050, 5070, 6050, 19_823];

const PROBE: &str = "is-it-alive";

/// 3 s: a loaded machine.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// 150 ms without a word on loopback are silence.
const SILENCE_MIN: Duration = Duration::from_millis(150);

/// RFC 4475 §3. REGISTER may be served or not (404, 405), and asks for a password when it is (401, 403); where the RFC
/// leaves a choice ("may reject", "may be lenient") both are good.
const RFC4475: [(&str, Want); 49] = [
    ("wsinv.dat", Any),
    ("intmeth.dat", Only(&[501, 404])),
    ("esc01.dat", ACall),
    ("escnull.dat", Any),
    ("esc02.dat", Only(&[501])),
    ("lwsdisp.dat", Any),
    ("longreq.dat", ACall),
    ("dblreq.dat", Any),
    ("semiuri.dat", Any),
    ("transports.dat", Any),
    ("mpart01.dat", Any),
    ("unreason.dat", Silence),
    ("noreason.dat", Silence),
    ("badinv01.dat", Only(&[400])),
    ("clerr.dat", Only(&[400])),
    ("ncl.dat", Only(&[400])),
    ("scalar02.dat", Only(&[400])),
    ("scalarlg.dat", Silence),
    ("quotbal.dat", Only(&[400])),
    ("ltgtruri.dat", Only(&[400])),
    ("lwsruri.dat", Only(&[400])),
    ("lwsstart.dat", Only(&[400, 404])),
    ("trws.dat", Only(&[400, 200])),
    ("escruri.dat", Only(&[400, 404])),
    ("baddate.dat", Only(&[400, 404])),
    ("regbadct.dat", Only(&[400, 401, 403, 404, 405])),
    ("badaspec.dat", Only(&[400, 200])),
    ("baddn.dat", Only(&[400, 200])),
    ("badvers.dat", Only(&[505])),
    ("mismatch01.dat", Only(&[400])),
    ("mismatch02.dat", Only(&[400, 501])),
    ("bigcode.dat", Silence),
    ("badbranch.dat", Only(&[400, 200])),
    ("insuf.dat", Only(&[400])),
    ("unkscm.dat", Only(&[416])),
    ("novelsc.dat", Only(&[416, 404])),
    ("unksm2.dat", Only(&[400, 401, 403, 404, 405, 416])),
    ("bext01.dat", Only(&[420])),
    ("invut.dat", Only(&[415])),
    ("regaut01.dat", Only(&[401, 403, 404, 405])),
    ("multi01.dat", Only(&[400])),
    ("mcl01.dat", Only(&[400])),
    ("bcast.dat", Silence),
    ("zeromf.dat", Only(&[200])),
    ("cparam01.dat", Only(&[200, 401, 403, 404, 405])),
    ("cparam02.dat", Only(&[200, 401, 403, 404, 405])),
    ("regescrt.dat", Only(&[200, 401, 403, 404, 405])),
    ("sdp01.dat", Only(&[406])),
    ("inv2543.dat", ACall),
];

/// RFC 5118 §4: all are well formed but the address without its brackets (§4.2). §4.5 wants the superfluous colon of an
/// old grammar tolerated.
const RFC5118: [(&str, Want); 12] = [
    ("ipv4-mapped-ipv6", ACall),
    ("ipv6-bad", Only(&[400])),
    ("ipv6-bug-abnf-3-colons", Any),
    ("ipv6-correct-abnf-2-colons", Any),
    ("ipv6-good", Any),
    ("ipv6-in-sdp", ACall),
    ("mult-ip-in-header", Only(&[481])),
    ("mult-ip-in-sdp", ACall),
    ("port-ambiguous", Any),
    ("port-unambiguous", Any),
    ("via-received-param-no-delim", Any),
    ("via-received-param-with-delim", Only(&[481])),
];
