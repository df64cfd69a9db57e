//! STUN's binding request (RFC 8489): what our address looks like from outside, and the answer to who asks us.
//!
//! ```text
//!   Client ─ request ─▶ server ─ XOR-MAPPED-ADDRESS ─▶ Client: "they see me there"
//!   phone  ─ request ─▶ answer() ─ XOR-MAPPED-ADDRESS ─▶ phone (RFC 5626 §8: its flow is alive)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The 96 bits that an answer repeats.
pub type TransactionId = [u8; 12];

/// What a message asks or says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Where do you see me?
    Request {
        /// Attributes that must be understood and are not; 420 is the answer to them.
        unknown: Vec<u16>,
    },
    /// There; `None` without an address that can be read.
    Success(Option<SocketAddr>),
    /// I will not say.
    Error,
}

/// Tells whether a datagram is STUN and not SIP: it begins with two zero bits and carries the cookie (RFC 8489 §5).
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0xC0 == 0) && bytes.get(4..8) == Some(&COOKIE)
}

/// Reads a binding message; `None` is anything else, and gets no answer.
pub fn parse(bytes: &[u8]) -> Option<(TransactionId, Binding)> {
    if !is_stun(bytes) || bytes.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let kind = u16_at(bytes, 0)?;
    let id: TransactionId = bytes.get(8..HEADER_BYTES)?.try_into().ok()?;
    let body = bytes.get(HEADER_BYTES..)?;
    if usize::from(u16_at(bytes, 2)?) != body.len() || !body.len().is_multiple_of(4) {
        return None;
    }
    let Attributes { mapped, unknown } = Attributes::parse(body, &id)?;
    match kind {
        REQUEST => Some((id, Binding::Request { unknown })),
        // RFC 8489 §6.3.3: an answer that is not understood is none.
        SUCCESS => Some((id, Binding::Success(mapped.filter(|_| unknown.is_empty())))),
        ERROR => Some((id, Binding::Error)),
        _ => None,
    }
}

/// A binding request, without attributes.
pub fn request(id: &TransactionId) -> Vec<u8> {
    header(REQUEST, 0, id)
}

/// The answer to a binding request that came from `remote`, when the bytes are one.
pub fn answer(bytes: &[u8], remote: SocketAddr) -> Option<Vec<u8>> {
    let (id, Binding::Request { unknown }) = parse(bytes)? else { return None };
    if unknown.is_empty() { Some(success(&id, remote)) } else { Some(not_understood(&id, &unknown)) }
}

/// Says where the request was seen to come from.
fn success(id: &TransactionId, remote: SocketAddr) -> Vec<u8> {
    let port = remote.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let (family, address) = match remote.ip().to_canonical() {
        IpAddr::V4(ip) => (IPV4, xor(&ip.octets(), id)),
        IpAddr::V6(ip) => (IPV6, xor(&ip.octets(), id)),
    };
    let mut value = vec![0, family];
    value.extend(port.to_be_bytes());
    value.extend(address);
    let mut message = header(SUCCESS, 0, id);
    push(&mut message, XOR_MAPPED_ADDRESS, &value);
    message
}

/// RFC 8489 §6.3.1: 420 and what was not understood.
fn not_understood(id: &TransactionId, unknown: &[u16]) -> Vec<u8> {
    let mut message = header(ERROR, 0, id);
    push(&mut message, ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
    let names: Vec<u8> = unknown.iter().take(UNKNOWN_MAX).flat_map(|kind| kind.to_be_bytes()).collect();
    push(&mut message, UNKNOWN_ATTRIBUTES, &names);
    message
}

/// Asks a server once; the owner makes another for the next time.
#[derive(Debug)]
pub struct Client {
    id: TransactionId,
    server: SocketAddr,
    sends: u32,
    due: Option<Instant>,
}

impl Client {
    /// Begins to ask; the first request is due at once. The transaction's name comes from `seed`, which must be
    /// unpredictable.
    pub fn new(server: SocketAddr, seed: [u8; 32], now: Instant) -> Self {
        let mut id = TransactionId::default();
        ChaCha12Rng::from_seed(seed).fill_bytes(&mut id);
        Client { id, server, sends: 0, due: Some(now) }
    }

    /// When [`Client::handle_timeout`] is due; `None` once it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Gives the request to send, and where to, when one is due. After the last, [`Client::poll_timeout`] is `None`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        if self.sends == SENDS {
            self.due = None;
            return None;
        }
        self.sends += 1;
        let wait = if self.sends == SENDS { RTO * LAST_WAIT } else { RTO * (1 << (self.sends - 1)) };
        self.due = Some(now + wait);
        Some((self.server, request(&self.id)))
    }

    /// Takes an answer; gives what it says, where it comes from the server that was asked and ends the question.
    pub fn handle_answer(&mut self, bytes: &[u8], remote: SocketAddr) -> Option<SocketAddr> {
        let (id, binding) = parse(bytes)?;
        let is_ours = self.due.is_some() && self.sends > 0 && id == self.id && remote == self.server;
        if !is_ours || matches!(binding, Binding::Request { .. }) {
            return None;
        }
        self.due = None;
        match binding {
            Binding::Success(mapped) => mapped,
            Binding::Request { .. } | Binding::Error => None,
        }
    }
}

/// What a message carries.
#[derive(Debug, Default)]
struct Attributes {
    /// The first address that can be read.
    mapped: Option<SocketAddr>,
    unknown: Vec<u16>,
}

impl Attributes {
    fn parse(mut body: &[u8], id: &TransactionId) -> Option<Self> {
        let mut attributes = Attributes::default();
        while !body.is_empty() {
            let (kind, length) = (u16_at(body, 0)?, usize::from(u16_at(body, 2)?));
            let value = body.get(4..4 + length)?;
            match kind {
                XOR_MAPPED_ADDRESS => attributes.mapped = attributes.mapped.or_else(|| unmap(value, id)),
                // MAPPED-ADDRESS, USERNAME and what proves who asks: anybody may know where they are seen (§18.3).
                0x0001 | 0x0006 | 0x0008 | ERROR_CODE | UNKNOWN_ATTRIBUTES | 0x0014 | 0x0015 | 0x001C..=0x001E => {}
                // ICE's PRIORITY and USE-CANDIDATE (RFC 8445 §16.1) ask nothing of the answer.
                0x0024 | 0x0025 => {}
                0..=0x7FFF => attributes.unknown.push(kind),
                _ => {}
            }
            body = body.get(4 + length.next_multiple_of(4)..)?;
        }
        Some(attributes)
    }
}

fn unmap(value: &[u8], id: &TransactionId) -> Option<SocketAddr> {
    let port = u16_at(value, 2)? ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    let address = xor(value.get(4..)?, id);
    let ip: IpAddr = match *value.get(1)? {
        IPV4 => Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into(),
        IPV6 => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// RFC 8489 §14.2.
fn xor(bytes: &[u8], id: &TransactionId) -> Vec<u8> {
    bytes.iter().zip(COOKIE.iter().chain(id)).map(|(byte, mask)| byte ^ mask).collect()
}

fn header(kind: u16, length: u16, id: &TransactionId) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend(length.to_be_bytes());
    message.extend(COOKIE);
    message.extend(id);
    message
}

/// Puts an attribute at a message's end, padded, and corrects the message's length.
fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    // Every value here is far below `UNKNOWN_MAX` names.
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = (message.len() - HEADER_BYTES) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// RFC 8489 §5.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// 20: kind, length, cookie and transaction (RFC 8489 §5).
const HEADER_BYTES: usize = 20;

/// 1,500: what a binding message has at most without fragments.
const MESSAGE_BYTES_MAX: usize = 1500;

/// 16 names in a 420, 32 bytes: an answer is hardly longer than what it answers.
const UNKNOWN_MAX: usize = 16;

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Address families (RFC 8489 §14.1).
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// 500 ms (RFC 8489 §6.2.1).
const RTO: Duration = Duration::from_millis(500);

/// Rc = 7 (RFC 8489 §6.2.1): at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
const SENDS: u32 = 7;

/// Rm = 16 (RFC 8489 §6.2.1): given up at 31.5 s + 16 * 0.5 s = 39.5 s.
const LAST_WAIT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn client(now: Instant) -> Client {
        Client::new(address("192.0.2.1:3478"), [7; 32], now)
    }

    #[test]
    fn a_request_is_sent_seven_times_and_given_up_after_39_5_s() {
        let start = Instant::now();
        let (mut client, mut sent) = (client(start), Vec::new());
        let mut last = start;
        while let Some(due) = client.poll_timeout() {
            last = due;
            if client.handle_timeout(due).is_some() {
                sent.push((due - start).as_millis());
            }
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!((last - start).as_millis(), 39500);
    }

    #[test]
    fn an_answer_of_ours_says_where_the_request_came_from() {
        for seen in ["203.0.113.7:40000", "[2001:db8::7]:40000"] {
            let now = Instant::now();
            let mut client = client(now);
            let (_, request) = client.handle_timeout(now).expect("due");
            let reply = answer(&request, address(seen)).expect("a request");
            assert_eq!(client.handle_answer(&reply, address("192.0.2.9:3478")), None, "a stranger");
            assert_eq!(client.handle_answer(&reply, address("192.0.2.1:3478")), Some(address(seen)));
            assert_eq!(client.handle_answer(&reply, address("192.0.2.1:3478")), None, "once");
            assert_eq!(client.poll_timeout(), None);
        }
    }

    #[test]
    fn a_request_that_asks_for_more_is_told_what_is_not_understood() {
        let mut asked = request(&[3; 12]);
        push(&mut asked, 0x0003, &[0, 0, 0, 6]);
        push(&mut asked, 0x8022, b"phone");
        push(&mut asked, 0x7001, b"");
        let (id, binding) = parse(&asked).expect("a request");
        assert_eq!(binding, Binding::Request { unknown: vec![0x0003, 0x7001] });
        let reply = answer(&asked, address("192.0.2.1:5060")).expect("an answer");
        assert_eq!(parse(&reply), Some((id, Binding::Error)));
        assert!(reply.ends_with(&[0, 0x0A, 0, 4, 0, 3, 0x70, 1]), "{reply:02x?}");
        for _ in 0..300 {
            push(&mut asked, 0x7002, b"");
        }
        assert!(answer(&asked, address("192.0.2.1:5060")).expect("an answer").len() < 100);
    }

    #[test]
    fn an_error_ends_the_question_and_an_echo_does_not() {
        let now = Instant::now();
        let mut client = client(now);
        let (_, request) = client.handle_timeout(now).expect("due");
        assert_eq!(client.handle_answer(&request, address("192.0.2.1:3478")), None);
        assert!(client.poll_timeout().is_some());
        let (id, _) = parse(&request).expect("a request");
        assert_eq!(client.handle_answer(&success(&[1; 12], address("192.0.2.5:1")), client.server), None);
        assert!(client.poll_timeout().is_some(), "another transaction's");
        assert_eq!(client.handle_answer(&not_understood(&id, &[]), client.server), None);
        assert_eq!(client.poll_timeout(), None);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let now = Instant::now();
        let (_, request) = client(now).handle_timeout(now).expect("due");
        let mut reply = answer(&request, address("[2001:db8::7]:40000")).expect("a request");
        push(&mut reply, 0x8022, b"a server");
        for end in 0..reply.len() {
            assert_eq!(parse(&reply[..end]), None);
        }
        for at in 0..reply.len() {
            for bit in 0..8 {
                let mut bytes = reply.clone();
                bytes[at] ^= 1 << bit;
                let _ = (parse(&bytes), answer(&bytes, address("192.0.2.1:1")));
            }
        }
        assert!(!is_stun(b"OPTIONS sip:a@b SIP/2.0\r\n"));
    }

    #[test]
    fn the_fuzz_seeds_of_others_never_panic_and_are_no_answers_of_ours() {
        let Some(corpora) = std::env::var_os("TALKSTACK_CORPORA").map(std::path::PathBuf::from) else {
            eprintln!("skipped: no test corpora (TALKSTACK_CORPORA)");
            return;
        };
        let mut folders: Vec<_> =
            ["pion-stun", "pjproject/fuzz-stun"].map(|name| corpora.join("fuzzseeds").join(name)).into();
        let mut seeds = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(seed) = std::fs::read(entry.path()) else {
                    folders.push(entry.path());
                    continue;
                };
                seeds += 1;
                for start in 0..seed.len().min(64) {
                    let bytes = &seed[start..];
                    let parsed = parse(bytes);
                    let answered = answer(bytes, address("192.0.2.1:1"));
                    assert!(answered.is_none() || matches!(parsed, Some((_, Binding::Request { .. }))));
                    assert_eq!(client(Instant::now()).handle_answer(bytes, address("192.0.2.1:3478")), None);
                }
            }
        }
        assert!(seeds > 20, "{seeds} seeds");
    }

    #[test]
    fn the_vectors_of_rfc_5769_are_read() {
        let Ok(corpora) = std::env::var("TALKSTACK_CORPORA") else { return };
        let dir = std::path::Path::new(&corpora).join("rfc-vectors/stun-rfc5769");
        for (file, mapped) in [
            ("response_ipv4.bin", "192.0.2.1:32853"),
            ("response_ipv6.bin", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let Ok(bytes) = std::fs::read(dir.join(file)) else { continue };
            let (_, binding) = parse(&bytes).expect(file);
            assert_eq!(binding, Binding::Success(Some(address(mapped))), "{file}");
        }
        for file in ["request_shortterm.bin", "request_longterm.bin"] {
            let Ok(bytes) = std::fs::read(dir.join(file)) else { continue };
            assert_eq!(parse(&bytes).expect(file).1, Binding::Request { unknown: vec![] }, "{file}");
        }
    }
}
