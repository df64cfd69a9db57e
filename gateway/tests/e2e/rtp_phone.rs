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
    user: String,
    to: String,
    pub(crate) invited_at: SystemTime,
    pub(crate) answered_at: SystemTime,
    /// The final and provisional answers, in order.
    pub(crate) statuses: Vec<String>,
    pub(crate) heard: Vec<Packet>,
    pub(crate) was_hung_up: bool,
    sent: u32,
    next: Instant,
}

/// A packet that came.
pub(crate) struct Packet {
    pub(crate) at: SystemTime,
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
        let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        sip.set_read_timeout(Some(ANSWER_MAX)).expect("set");
        let mut phone = RtpPhone {
            sip,
            rtp,
            codec,
            target,
            media: target,
            user: user.into(),
            to: format!("<sip:{user}@{target}>"),
            invited_at: SystemTime::now(),
            answered_at: SystemTime::now(),
            statuses: Vec::new(),
            heard: Vec::new(),
            was_hung_up: false,
            sent: 0,
            next: Instant::now(),
        };
        let port = phone.rtp.local_addr().expect("bound").port();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {}\r\n",
            codec.payload_type()
        );
        phone.send("INVITE", 1, &sdp);
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
            self.next += Duration::from_millis(20);
            while let Some(wait) = self.next.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
                self.rtp.set_read_timeout(Some(wait)).expect("set");
                let mut buffer = [0; 2048];
                if let Ok(bytes) = self.rtp.recv(&mut buffer) {
                    self.heard.push(Packet { at: SystemTime::now(), payload: buffer[12..bytes].to_vec() });
                }
            }
            self.look_for_bye();
        }
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
        self.send("BYE", 2, "");
    }

    fn accept(&mut self, text: &str) {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
        self.to = field("To:");
        let port = field("m=audio ").split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        self.media = SocketAddr::new(self.target.ip(), port);
        self.send("ACK", 1, "");
        self.sip.set_nonblocking(true).expect("set");
        self.next = Instant::now();
    }

    fn look_for_bye(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(bytes) = self.sip.recv(&mut buffer) {
            self.was_hung_up |= buffer[..bytes].starts_with(b"BYE ");
        }
    }

    fn send_frame(&mut self, code: u8) {
        let mut packet = vec![0x80, self.codec.payload_type()];
        packet.extend((self.sent as u16).to_be_bytes());
        packet.extend((self.sent * 160).to_be_bytes());
        packet.extend(0x5eed_u32.to_be_bytes());
        packet.extend((0..160).map(|at| if at % 2 == 0 { code } else { code | 0x80 }));
        self.rtp.send_to(&packet, self.media).expect("sent");
        self.sent += 1;
    }

    fn send(&self, method: &str, number: u32, sdp: &str) {
        let (target, local) = (self.target, self.sip.local_addr().expect("bound"));
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let (user, to) = (&self.user, &self.to);
        let text = format!(
            "{method} sip:{user}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:phone@{local}>;tag=phone\r\nTo: {to}\r\nCall-ID: call-{local}\r\n\
             CSeq: {number} {method}\r\nContact: <sip:phone@{local}>\r\n{content}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.sip.send_to(text.as_bytes(), target).expect("sent");
    }
}

/// 6 s: twice the longest ringing.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// No case may take longer than ten seconds.
const SAY_MAX: Duration = Duration::from_secs(8);
