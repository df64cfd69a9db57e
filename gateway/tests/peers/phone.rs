//! A phone of plain UDP sockets that keeps to the route set and says in each frame who it is.
//!
//! It says whatever addresses a test wants it to, as phones behind a NAT do.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use talkstack_media::dtls::{Handshake, HandshakeOutput};

use super::srtp::Keys;

/// A phone, in a call or not.
pub(crate) struct Phone {
    sip: UdpSocket,
    rtp: UdpSocket,
    /// The address in Contact and Via.
    contact: SocketAddr,
    /// The address in the session description.
    media: SocketAddr,
    dialog: Dialog,
    said: u16,
    /// From without its tag, and further lines of the INVITE.
    identity: Option<(String, String)>,
    /// What its sound is sealed with.
    keys: Option<Keys>,
}

/// The call, as its header fields have it.
#[derive(Default)]
struct Dialog {
    /// The remote target.
    target: String,
    ours: String,
    theirs: String,
    call_id: String,
    cseq: u32,
    /// URIs, the nearest first.
    routes: Vec<String>,
    /// Where the other side's RTP is said to be.
    remote_media: Option<SocketAddr>,
    /// Where the call came from, or went to, on the wire.
    hop: Option<SocketAddr>,
}

impl Phone {
    /// A phone on these two sockets that says where it is.
    pub(crate) fn on(sip: UdpSocket, rtp: UdpSocket) -> Self {
        sip.set_read_timeout(Some(ANSWER_MAX)).expect("set");
        let [contact, media] = [&sip, &rtp].map(|socket| socket.local_addr().expect("bound"));
        Phone { sip, rtp, contact, media, dialog: Dialog::default(), said: 0, identity: None, keys: None }
    }

    /// A phone at an address of this machine.
    pub(crate) fn at(ip: &str) -> Self {
        let bind = || UdpSocket::bind((ip, 0)).expect("a port");
        Phone::on(bind(), bind())
    }

    /// Calls as this From and with these lines, as a carrier does.
    pub(crate) fn presents(&mut self, from: &str, lines: &str) {
        self.identity = Some((from.into(), lines.into()));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.contact
    }

    /// Encrypts from here on, and offers nothing else.
    pub(crate) fn secures(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    /// What its sound is sealed with.
    pub(crate) fn keys(&mut self) -> &mut Keys {
        self.keys.as_mut().expect("it encrypts")
    }

    /// Calls a URI, and is refused; the refusal.
    pub(crate) fn is_refused(&mut self, hop: SocketAddr, uri: &str) -> String {
        let answer = self.invite(hop, uri);
        self.request("ACK", "");
        answer
    }

    /// Calls a URI by way of `hop`; the final answer, which is not acknowledged yet.
    fn invite(&mut self, hop: SocketAddr, uri: &str) -> String {
        let local = self.contact;
        self.dialog = Dialog {
            target: uri.into(),
            ours: match &self.identity {
                Some((from, _)) => format!("{from};tag=phone"),
                None => format!("<sip:phone@{local}>;tag=phone"),
            },
            theirs: format!("<{uri}>"),
            call_id: format!("call-{local}-{}", super::torture::rand_word()),
            cseq: 1,
            hop: Some(hop),
            ..Dialog::default()
        };
        self.request("INVITE", &self.sdp());
        let answer = self.take(|text| final_status(text).is_some());
        self.dialog.theirs = field(&answer, "To");
        answer
    }

    /// Calls a URI by way of `hop` and acknowledges the answer; the answer.
    pub(crate) fn call(&mut self, hop: SocketAddr, uri: &str) -> String {
        let answer = self.invite(hop, uri);
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        // RFC 3261 §12.1.2: in reverse order for who called.
        self.dialog.routes = routes(&answer);
        self.dialog.routes.reverse();
        self.enter(&answer);
        self.request("ACK", "");
        answer
    }

    /// Waits for a call, rings and answers it; the INVITE.
    pub(crate) fn answers(&mut self) -> String {
        let (invite, from) = self.take_request("INVITE ");
        self.dialog = Dialog {
            ours: format!("{};tag=phone", field(&invite, "To")),
            theirs: field(&invite, "From"),
            call_id: field(&invite, "Call-ID"),
            routes: routes(&invite),
            hop: Some(from),
            ..Dialog::default()
        };
        self.enter(&invite);
        self.respond(&invite, from, "180 Ringing", "");
        self.respond(&invite, from, "200 OK", &self.sdp());
        self.take(|text| text.starts_with("ACK "));
        invite
    }

    /// Waits for a re-INVITE, and takes it; the re-INVITE.
    pub(crate) fn is_reinvited(&mut self) -> String {
        let (invite, from) = self.take_request("INVITE ");
        self.enter(&invite);
        self.respond(&invite, from, "200 OK", &self.sdp());
        self.take(|text| text.starts_with("ACK "));
        invite
    }

    /// Talks until it has heard the word in twenty frames, or tells how many there were in [`TALK_MAX`].
    pub(crate) fn talks_and_hears(&mut self, says: u8, hears: u8) -> usize {
        let (mut count, mut next) = (0, Instant::now());
        let until = next + TALK_MAX;
        while count < 20 && Instant::now() < until {
            self.say(says);
            next += Duration::from_millis(20);
            count += self.hears_until(next, hears);
        }
        count
    }

    /// Says the word in so many frames, whoever hears it.
    pub(crate) fn talks(&mut self, says: u8, frames: usize) {
        let mut next = Instant::now();
        for _ in 0..frames {
            self.say(says);
            next += Duration::from_millis(20);
            self.hears_until(next, says);
        }
    }

    /// Sends packets as they were once sent, from a port that nobody knows.
    pub(crate) fn sends_again(&mut self, packets: &[Vec<u8>]) {
        let stranger = UdpSocket::bind((self.media.ip(), 0)).expect("a port");
        for packet in packets {
            for socket in [&stranger, &self.rtp] {
                // No way there is what some tests are about.
                let _ = self.dialog.remote_media.map(|remote| socket.send_to(packet, remote));
            }
        }
    }

    /// Tells whether it hears no frame of its word within a second of having done that.
    pub(crate) fn is_silent_after(&mut self, does: impl FnOnce(&mut Self)) -> bool {
        does(self);
        self.hears_until(Instant::now() + Duration::from_secs(1), 0x35) == 0
    }

    /// How many frames of a word it hears until then.
    fn hears_until(&mut self, until: Instant, hears: u8) -> usize {
        let mut count = 0;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return count;
            }
            self.rtp.set_read_timeout(Some(rest)).expect("set");
            let mut buffer = [0; 2048];
            let Ok(bytes @ 13..) = self.rtp.recv(&mut buffer) else { continue };
            let bytes = self.keys.as_mut().map_or(bytes, |keys| keys.open(&mut buffer[..bytes]));
            let own = buffer[12..bytes].iter().filter(|byte| **byte & 0x7f == hears).count();
            count += usize::from(own > 150);
        }
    }

    /// Shakes hands with whom its datagrams come from, as the one who is asked; what comes of it.
    pub(crate) fn shakes_hands(&mut self, handshake: &mut Handshake) -> HandshakeOutput {
        let until = Instant::now() + ANSWER_MAX;
        while Instant::now() < until {
            self.rtp.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
            let mut buffer = [0; 2048];
            if let Ok((bytes, from)) = self.rtp.recv_from(&mut buffer)
                && (20..=63).contains(&buffer[0])
            {
                assert_eq!(Some(from), self.dialog.remote_media);
                handshake.handle_datagram(&buffer[..bytes], Instant::now());
            }
            handshake.handle_timeout(Instant::now());
            while let Some(output) = handshake.poll_output() {
                match output {
                    HandshakeOutput::Send(datagram) => {
                        let remote = self.dialog.remote_media.expect("known");
                        self.rtp.send_to(&datagram, remote).expect("sent");
                    }
                    output => return output,
                }
            }
        }
        panic!("nobody shakes hands")
    }

    /// Sends this from a port that nobody knows.
    pub(crate) fn is_forged(&self, datagram: &[u8]) {
        let stranger = UdpSocket::bind((self.media.ip(), 0)).expect("a port");
        stranger.send_to(datagram, self.dialog.remote_media.expect("known")).expect("sent");
    }

    /// Presses a key for 100 ms (RFC 4733).
    pub(crate) fn presses(&mut self, key: u8) {
        let timestamp = u32::from(self.said + 1) * 160;
        for step in 1..=7_u16 {
            let (duration, end) = (step.min(5) * 160, if step >= 5 { 0x8a } else { 0x0a });
            let [high, low] = duration.to_be_bytes();
            self.send_rtp(101 | u8::from(step == 1) << 7, timestamp, &[key, end, high, low]);
        }
    }

    /// From here on its sound comes from, and is heard at, another port than it has said, as behind a NAT.
    pub(crate) fn moves(&mut self) {
        self.rtp = UdpSocket::bind((self.media.ip(), 0)).expect("a port");
    }

    /// One frame, to where the other side says it listens.
    fn say(&mut self, code: u8) {
        let payload: Vec<u8> = (0..160).map(|at| if at % 2 == 0 { code } else { code | 0x80 }).collect();
        self.send_rtp(0, u32::from(self.said + 1) * 160, &payload);
    }

    fn send_rtp(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        self.said += 1;
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.said.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(u32::from(self.media.port()).to_be_bytes());
        packet.extend(payload);
        if let Some(keys) = &mut self.keys {
            keys.seal(&mut packet);
        }
        if let Some(remote) = self.dialog.remote_media {
            // No way there is what some tests are about.
            let _ = self.rtp.send_to(&packet, remote);
        }
    }

    /// Hangs up, and is answered.
    pub(crate) fn hangs_up(&mut self) {
        self.dialog.cseq += 1;
        self.request("BYE", "");
        let answer = self.take(|text| final_status(text).is_some() && field(text, "CSeq").ends_with("BYE"));
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    }

    /// Waits for the other side to hang up; its BYE.
    pub(crate) fn is_hung_up(&mut self) -> String {
        let (bye, from) = self.take_request("BYE ");
        self.respond(&bye, from, "200 OK", "");
        bye
    }

    /// The route set, target and media of what set the dialog up.
    fn enter(&mut self, text: &str) {
        self.dialog.target = in_brackets(&field(text, "Contact"));
        self.dialog.remote_media = media(text);
        if let Some(keys) = &mut self.keys {
            keys.handle_description(text);
        }
    }

    fn take(&self, is_it: impl Fn(&str) -> bool) -> String {
        self.take_from(is_it).0
    }

    fn take_request(&self, method: &str) -> (String, SocketAddr) {
        self.take_from(|text| text.starts_with(method))
    }

    fn take_from(&self, is_it: impl Fn(&str) -> bool) -> (String, SocketAddr) {
        let mut passed = String::new();
        loop {
            let mut buffer = [0; 8192];
            let Ok((bytes, from)) = self.sip.recv_from(&mut buffer) else {
                panic!("waited in vain on the phone, which heard\n{passed}")
            };
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if is_it(&text) {
                return (text, from);
            }
            passed.push_str(&text);
        }
    }

    fn sdp(&self) -> String {
        let (ip, port) = (self.media.ip(), self.media.port());
        let (profile, lines) = self.keys.as_ref().map_or(("RTP/AVP", String::new()), Keys::describe);
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} {profile} 0 101\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n{lines}"
        )
    }

    fn request(&self, method: &str, sdp: &str) {
        let Dialog { target, ours, theirs, call_id, cseq, routes, hop, .. } = &self.dialog;
        let local = self.contact;
        let routes: String = routes.iter().map(|uri| format!("Route: <{uri}>\r\n")).collect();
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let lines = self.identity.as_ref().filter(|_| method == "INVITE").map_or("", |(_, lines)| lines);
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{cseq}{call_id};rport\r\n\
             {routes}Max-Forwards: 70\r\nFrom: {ours}\r\nTo: {theirs}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:phone@{local}>\r\n{lines}{content}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        let next = self.dialog.routes.first().unwrap_or(target);
        // Behind a NAT names and private addresses lead nowhere: as phones there do, by the way that is known.
        let next = address(next).filter(|_| !self.dialog.routes.is_empty()).or(*hop).expect("a way");
        self.sip.send_to(text.as_bytes(), next).expect("sent");
    }

    fn respond(&self, request: &str, from: SocketAddr, status: &str, sdp: &str) {
        let copied = |line: &&str| {
            let names = ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"];
            names.iter().any(|name| line.starts_with(name))
        };
        let copied: String = request.lines().filter(copied).map(|line| format!("{}\r\n", line.trim_end())).collect();
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let (to, local) = (&self.dialog.ours, self.contact);
        let text = format!(
            "SIP/2.0 {status}\r\n{copied}To: {to}\r\nContact: <sip:phone@{local}>\r\n{content}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.sip.send_to(text.as_bytes(), from).expect("sent");
    }
}

/// The value of a header field.
pub(crate) fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

/// Where a session description wants the sound.
pub(crate) fn media(text: &str) -> Option<SocketAddr> {
    let ip = text.lines().find_map(|line| line.strip_prefix("c=IN IP4 "))?.trim().parse().ok()?;
    let port = text.lines().find_map(|line| line.strip_prefix("m=audio "))?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// The URIs of Record-Route, in order.
pub(crate) fn routes(text: &str) -> Vec<String> {
    let values = text.lines().filter_map(|line| line.strip_prefix("Record-Route:"));
    values.flat_map(|value| value.split(',')).map(in_brackets).collect()
}

fn in_brackets(value: &str) -> String {
    let inner = value.split('<').nth(1).unwrap_or(value);
    inner.split('>').next().unwrap_or_default().trim().to_owned()
}

/// The address in a URI that has one.
fn address(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("sip:")?.split(';').next()?;
    rest.rsplit('@').next()?.parse().ok()
}

fn final_status(text: &str) -> Option<u16> {
    text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok().filter(|status| *status >= 200)
}

/// 6 s: twice the longest ringing.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// 7 s of talking: a latch needs 100 ms, another source is looked at after 3 s, and a prompt may come first (4 s).
const TALK_MAX: Duration = Duration::from_secs(7);
