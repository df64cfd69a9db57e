//! A small phone of our own that notes when each packet came, for what baresip does not tell.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use talkstack_media::codec::Codec;

/// A phone in a call: G.711, one packet each 20 ms.
pub(crate) struct RtpPhone {
    sip: UdpSocket,
    rtp: UdpSocket,
    codec: Codec,
    target: SocketAddr,
    media: SocketAddr,
    dialog: Dialog,
    pub(crate) invited_at: SystemTime,
    pub(crate) answered_at: SystemTime,
    /// The final and provisional answers, in order.
    pub(crate) statuses: Vec<String>,
    pub(crate) heard: Vec<Packet>,
    /// When each frame left, and the byte that it was made of.
    pub(crate) said: Vec<(SystemTime, u8)>,
    pub(crate) was_hung_up: bool,
    next: Instant,
}

/// Which dialog a request of ours belongs to, as its header fields have it.
struct Dialog {
    uri: String,
    from: String,
    to: String,
    call_id: String,
}

/// A packet that came.
pub(crate) struct Packet {
    pub(crate) at: SystemTime,
    /// The RTP timestamp.
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
}

impl RtpPhone {
    /// Calls over µ-law and waits for the answer.
    pub(crate) fn call(target: SocketAddr, user: &str) -> Self {
        RtpPhone::call_over(target, user, Codec::Pcmu)
    }

    /// Calls and waits for the answer.
    pub(crate) fn call_over(target: SocketAddr, user: &str, codec: Codec) -> Self {
        let sip = UdpSocket::bind("127.0.0.1:0").expect("a port");
        sip.set_read_timeout(Some(ANSWER_MAX)).expect("set");
        let local = sip.local_addr().expect("bound");
        let dialog = Dialog {
            uri: format!("sip:{user}@{target}"),
            from: format!("<sip:phone@{local}>;tag=phone"),
            to: format!("<sip:{user}@{target}>"),
            call_id: format!("call-{local}"),
        };
        let mut phone = RtpPhone::new(sip, codec, target, dialog);
        phone.send("INVITE", 1, &phone.sdp());
        loop {
            let mut buffer = [0; 4096];
            let bytes = phone.sip.recv(&mut buffer).expect("an answer");
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            let status = text.strip_prefix("SIP/2.0 ").expect("a response")[..3].to_owned();
            phone.statuses.push(status.clone());
            if status == "200" {
                phone.answered_at = SystemTime::now();
                phone.accept(&text);
                return phone;
            }
            assert!(status.starts_with('1'), "{text}");
        }
    }

    fn new(sip: UdpSocket, codec: Codec, target: SocketAddr, dialog: Dialog) -> Self {
        RtpPhone {
            sip,
            rtp: UdpSocket::bind("127.0.0.1:0").expect("a port"),
            codec,
            target,
            media: target,
            dialog,
            invited_at: SystemTime::now(),
            answered_at: SystemTime::now(),
            statuses: Vec::new(),
            heard: Vec::new(),
            said: Vec::new(),
            was_hung_up: false,
            next: Instant::now(),
        }
    }

    /// Says the byte in each frame for a time, and notes what comes.
    pub(crate) fn say(&mut self, code: u8, time: Duration) {
        let until = Instant::now() + time;
        self.say_until(code, |phone| phone.next >= until);
    }

    /// Says the byte in each frame until what has been heard is enough.
    pub(crate) fn say_until(&mut self, code: u8, is_enough: impl Fn(&RtpPhone) -> bool) {
        let deadline = Instant::now() + SAY_MAX;
        while !is_enough(self) {
            assert!(Instant::now() < deadline, "waited in vain on the phone");
            self.send_frame(code);
            self.pass_frame();
        }
    }

    /// Says these samples of 8 kHz, and notes what comes.
    pub(crate) fn say_samples(&mut self, samples: &[i16]) {
        for frame in samples.chunks_exact(160) {
            let mut payload = Vec::new();
            self.codec.encode(frame, &mut payload);
            self.send_payload(&payload, payload[0]);
            self.pass_frame();
        }
    }

    /// Waits for the time of the next frame, and notes what comes.
    fn pass_frame(&mut self) {
        self.next += Duration::from_millis(20);
        while let Some(wait) = self.next.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
            self.rtp.set_read_timeout(Some(wait)).expect("set");
            let mut buffer = [0; 2048];
            if let Ok(bytes) = self.rtp.recv(&mut buffer) {
                let timestamp = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
                let payload = buffer[12..bytes].to_vec();
                self.heard.push(Packet { at: SystemTime::now(), timestamp, payload });
            }
        }
        self.look_for_bye();
    }

    /// What has been heard from an instant on, as samples.
    pub(crate) fn samples_since(&self, since: SystemTime) -> Vec<i16> {
        let mut samples = Vec::new();
        for packet in self.heard.iter().filter(|packet| packet.at >= since) {
            self.codec.decode(&packet.payload, &mut samples);
        }
        samples
    }

    /// When the packet came that brought the sample, counted as in [`RtpPhone::samples_since`].
    pub(crate) fn time_of(&self, since: SystemTime, sample: usize) -> SystemTime {
        let mut rest = sample;
        let holds = |packet: &&Packet| {
            let is_it = rest < packet.payload.len();
            rest = rest.saturating_sub(packet.payload.len());
            is_it
        };
        self.heard.iter().filter(|packet| packet.at >= since).find(holds).expect("a sample that was heard").at
    }

    pub(crate) fn hang_up(self) {
        // Behind whatever INFOs went before.
        self.send("BYE", 9, "");
    }

    /// Tells whether the first frame of the byte left when it should have: a phone that was held up measures nothing.
    pub(crate) fn kept_time(&self, code: u8) -> bool {
        let at = self.said.iter().position(|(_, said)| *said == code).expect("it has been said");
        let due = self.said[0].0 + Duration::from_millis(20) * at as u32;
        let off = self.said_at(code).duration_since(due).unwrap_or_else(|early| early.duration());
        off < Duration::from_millis(10)
    }

    /// When the first frame of the byte left.
    pub(crate) fn said_at(&self, code: u8) -> SystemTime {
        self.said.iter().find(|(_, said)| *said == code).expect("it has been said").0
    }

    /// Presses a key by INFO, the phone's second request or a later one.
    pub(crate) fn inform(&self, number: u32, content_type: &str, body: &str) {
        let text = self.request("INFO", number, &format!("Content-Type: {content_type}\r\n"), body);
        self.sip.send_to(text.as_bytes(), self.target).expect("sent");
    }

    fn accept(&mut self, text: &str) {
        self.dialog.to = field(text, "To");
        self.talk_to(text);
        self.send("ACK", 1, "");
    }

    /// Media goes where the description says.
    fn talk_to(&mut self, text: &str) {
        let media = text.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("audio");
        let port = media.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        self.media = SocketAddr::new(self.target.ip(), port);
        self.sip.set_nonblocking(true).expect("set");
        self.next = Instant::now();
    }

    fn sdp(&self) -> String {
        let port = self.rtp.local_addr().expect("bound").port();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {}\r\n",
            self.codec.payload_type()
        )
    }

    fn look_for_bye(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(bytes) = self.sip.recv(&mut buffer) {
            if buffer[..bytes].starts_with(b"BYE ") {
                self.was_hung_up = true;
                let text = response(&String::from_utf8_lossy(&buffer[..bytes]), "200 OK", "", "");
                self.sip.send_to(text.as_bytes(), self.target).expect("sent");
            }
        }
    }

    fn send_frame(&mut self, code: u8) {
        let payload: Vec<u8> = (0..160).map(|at| if at % 2 == 0 { code } else { code | 0x80 }).collect();
        self.send_payload(&payload, code);
    }

    fn send_payload(&mut self, payload: &[u8], code: u8) {
        let mut packet = vec![0x80, self.codec.payload_type()];
        packet.extend((self.said.len() as u16).to_be_bytes());
        packet.extend((self.said.len() as u32 * 160).to_be_bytes());
        packet.extend(0x5eed_u32.to_be_bytes());
        packet.extend(payload);
        self.rtp.send_to(&packet, self.media).expect("sent");
        self.said.push((SystemTime::now(), code));
    }

    fn send(&self, method: &str, number: u32, sdp: &str) {
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        self.sip.send_to(self.request(method, number, content, sdp).as_bytes(), self.target).expect("sent");
    }

    fn request(&self, method: &str, number: u32, content: &str, sdp: &str) -> String {
        let local = self.sip.local_addr().expect("bound");
        let Dialog { uri, from, to, call_id } = &self.dialog;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {number} {method}\r\nContact: <sip:phone@{local}>\r\n{content}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }
}

/// A trunk that is this phone: the box calls it.
pub(crate) struct TrunkPhone {
    sip: UdpSocket,
    pub(crate) address: SocketAddr,
}

impl TrunkPhone {
    pub(crate) fn new() -> Self {
        TrunkPhone::at("127.0.0.1:0")
    }

    pub(crate) fn at(address: &str) -> Self {
        let sip = UdpSocket::bind(address).expect("a port");
        sip.set_read_timeout(Some(ANSWER_MAX)).expect("set");
        let address = sip.local_addr().expect("bound");
        TrunkPhone { sip, address }
    }

    /// The next INVITE.
    pub(crate) fn invited(&self) -> Invited {
        let (text, from) = self.take("INVITE ");
        Invited { sip: self.sip.try_clone().expect("a handle"), text, from }
    }

    /// Waits for a request of the method, passing over the others.
    pub(crate) fn take(&self, method: &str) -> (String, SocketAddr) {
        loop {
            let mut buffer = [0; 4096];
            let (bytes, from) = self.sip.recv_from(&mut buffer).expect("a request");
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if text.starts_with(method) {
                return (text, from);
            }
        }
    }
}

/// A call that has come to a [`TrunkPhone`].
pub(crate) struct Invited {
    sip: UdpSocket,
    pub(crate) text: String,
    from: SocketAddr,
}

impl Invited {
    pub(crate) fn rings(&self) {
        self.respond("180 Ringing", "");
    }

    pub(crate) fn refuses(self, status: &str) {
        self.respond(status, "");
    }

    /// Answers over µ-law, and waits for the acknowledgement.
    pub(crate) fn answers(self) -> RtpPhone {
        let uri = field(&self.text, "Contact").trim_matches(['<', '>']).to_owned();
        let dialog = Dialog {
            uri,
            from: format!("{};tag=trunk", field(&self.text, "To")),
            to: field(&self.text, "From"),
            call_id: field(&self.text, "Call-ID"),
        };
        let sip = self.sip.try_clone().expect("a handle");
        let mut phone = RtpPhone::new(sip, Codec::Pcmu, self.from, dialog);
        self.respond("200 OK", &phone.sdp());
        phone.answered_at = SystemTime::now();
        let mut buffer = [0; 4096];
        loop {
            let bytes = self.sip.recv(&mut buffer).expect("an ACK");
            if buffer[..bytes].starts_with(b"ACK ") {
                break;
            }
        }
        phone.talk_to(&self.text);
        phone
    }

    fn respond(&self, status: &str, sdp: &str) {
        let contact = format!(";tag=trunk\r\nContact: <sip:trunk@{}>", self.sip.local_addr().expect("bound"));
        let text = response(&self.text, status, &contact, sdp);
        self.sip.send_to(text.as_bytes(), self.from).expect("sent");
    }
}

/// A response to a request; what is given behind To may be fields of its own.
fn response(request: &str, status: &str, to_and_more: &str, sdp: &str) -> String {
    let copied = |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
    let copied: String = request.lines().filter(copied).map(|line| format!("{}\r\n", line.trim_end())).collect();
    let (to, content) = (field(request, "To"), if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" });
    format!("SIP/2.0 {status}\r\n{copied}To: {to}{to_and_more}\r\n{content}Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

/// 6 s: twice the longest ringing.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// No case may take longer than ten seconds.
const SAY_MAX: Duration = Duration::from_secs(8);
