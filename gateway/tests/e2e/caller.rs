//! A phone made by hand: it sends exactly the packets a test wants, in time, and keeps what comes back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use talkstack_media::codec::Codec;

use crate::relay::{BothWays, Damage, Relay};

/// A caller in a call.
pub(crate) struct Caller {
    sip: UdpSocket,
    target: SocketAddr,
    user: String,
    to: String,
    pub(crate) answer: String,
    pub(crate) rtp: UdpSocket,
    /// Where the box wants the media.
    pub(crate) media: SocketAddr,
    pub(crate) stream: Stream,
    next: Instant,
    /// Payloads of the box's packets, in order of arrival.
    pub(crate) heard: Vec<u8>,
    /// The RTP timestamps and payloads of all of the box's packets, in order of arrival.
    placed: Vec<(u32, Vec<u8>)>,
    /// The box has said BYE.
    pub(crate) is_over: bool,
    /// What lies between it and the box.
    network: Option<Relay>,
}

/// What the next packet carries in its header.
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
}

impl Caller {
    /// Calls `user` with an audio section of `formats` and further lines, and waits for the answer.
    pub(crate) fn call(target: SocketAddr, user: &str, formats: &str, lines: &str) -> Self {
        Caller::call_from(target, user, (formats, lines), |_| None)
    }

    /// Calls over a network that does damage.
    pub(crate) fn call_over(
        target: SocketAddr,
        user: &str,
        formats: &str,
        damage: Damage,
        both_ways: BothWays,
        seed: u32,
    ) -> Self {
        Caller::call_from(target, user, (formats, ""), |phone| Some(Relay::start(phone, damage, both_ways, seed)))
    }

    fn call_from(
        target: SocketAddr,
        user: &str,
        (formats, lines): (&str, &str),
        network: impl FnOnce(SocketAddr) -> Option<Relay>,
    ) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (sip, rtp) = (bind(), bind());
        sip.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
        let payload_type = formats.split(' ').next().and_then(|first| first.parse().ok()).expect("a format");
        let mut caller = Caller {
            target,
            user: user.into(),
            to: format!("<sip:{user}@{target}>"),
            answer: String::new(),
            media: target,
            stream: Stream { ssrc: 77, sequence: 65_500, timestamp: u32::MAX - 2000, payload_type },
            next: Instant::now(),
            heard: Vec::new(),
            placed: Vec::new(),
            is_over: false,
            network: network(rtp.local_addr().expect("bound")),
            sip,
            rtp,
        };
        let own = caller.rtp.local_addr().expect("bound");
        let port = caller.network.as_ref().map_or(own, |network| network.address).port();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {formats}\r\n{lines}"
        );
        caller.request("INVITE", 1, &sdp);
        let answer = loop {
            let text = caller.receive();
            if !text.starts_with("SIP/2.0 1") {
                break text;
            }
        };
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        caller.to = answer.lines().find_map(|line| line.strip_prefix("To: ")).expect("a To").to_owned();
        let port = answer.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next()).expect("audio");
        caller.media.set_port(port.parse().expect("a port"));
        if let Some(network) = &caller.network {
            network.lead_to(caller.media);
            caller.media = network.address;
        }
        caller.answer = answer;
        caller.request("ACK", 1, "");
        caller.sip.set_nonblocking(true).expect("set");
        caller.next = Instant::now();
        caller
    }

    /// Sends one packet with the stream's header and goes on by `samples` in its time.
    pub(crate) fn send(&mut self, payload: &[u8], samples: u32) {
        let packet = self.stream.packet(self.stream.payload_type, false, payload);
        self.rtp.send_to(&packet, self.media).expect("sent");
        self.stream.sequence = self.stream.sequence.wrapping_add(1);
        self.stream.timestamp = self.stream.timestamp.wrapping_add(samples);
        self.listen(Duration::from_micros(u64::from(samples) * 125));
    }

    /// Its next packet is due now, however long it has waited.
    pub(crate) fn start_talking(&mut self) {
        self.next = Instant::now();
    }

    /// Says nothing in particular for so long, in packets of 20 ms.
    pub(crate) fn hum(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 20 {
            self.send(&[0xff; 160], 160);
        }
    }

    /// Presses a key for so long (RFC 4733), in payload type 101; `ends` of its three end packets arrive.
    pub(crate) fn press(&mut self, key: u8, time: Duration, ends: u32) {
        let (steps, timestamp) = ((time.as_millis() / 20) as u32, self.stream.timestamp);
        for step in 1..=steps + 2 {
            let duration = (step.min(steps) * 160) as u16;
            let is_end = step >= steps;
            let [high, low] = duration.to_be_bytes();
            let packet = self.stream.packet(101, step == 1, &[key, if is_end { 0x8a } else { 0x0a }, high, low]);
            self.stream.sequence = self.stream.sequence.wrapping_add(1);
            if !is_end || step - steps < ends {
                self.rtp.send_to(&packet, self.media).expect("sent");
            }
            self.listen(Duration::from_millis(20));
        }
        self.stream.timestamp = timestamp.wrapping_add((steps + 2) * 160);
    }

    /// Keeps what comes until the next packet is due.
    fn listen(&mut self, time: Duration) {
        self.next += time;
        let mut buffer = [0; 2048];
        loop {
            let rest = self.next.saturating_duration_since(Instant::now());
            self.rtp.set_read_timeout(Some(rest.max(Duration::from_micros(100)))).expect("set");
            if let Ok(bytes) = self.rtp.recv(&mut buffer)
                && bytes > 12
            {
                self.heard.extend_from_slice(&buffer[12..bytes]);
                let timestamp = u32::from_be_bytes(buffer[4..8].try_into().expect("four bytes"));
                self.placed.push((timestamp, buffer[12..bytes].to_vec()));
            }
            if let Ok(bytes) = self.sip.recv(&mut buffer) {
                self.is_over |= buffer[..bytes].starts_with(b"BYE ");
            }
            if rest.is_zero() {
                return;
            }
        }
    }

    /// What was heard since the last time, in samples.
    pub(crate) fn take_heard(&mut self, codec: Codec) -> Vec<i16> {
        let mut samples = Vec::new();
        codec.decode(&std::mem::take(&mut self.heard), &mut samples);
        samples
    }

    /// All of the call in samples, as a phone plays it: each packet where its timestamp says, from the first on.
    pub(crate) fn played(&self, codec: Codec) -> Vec<i16> {
        let mut played = Vec::new();
        let Some((origin, _)) = self.placed.first() else { return played };
        for (timestamp, payload) in &self.placed {
            let mut samples = Vec::new();
            codec.decode(payload, &mut samples);
            let from = timestamp.wrapping_sub(*origin) as usize;
            assert!(from < 8000 * 60, "the box's clock jumped by {from} samples");
            played.resize(played.len().max(from + samples.len()), 0);
            played[from..from + samples.len()].copy_from_slice(&samples);
        }
        played
    }

    pub(crate) fn hang_up(mut self) {
        self.request("BYE", 2, "");
    }

    fn request(&mut self, method: &str, cseq: u32, sdp: &str) {
        let (local, user, target, to) = (self.sip.local_addr().expect("bound"), &self.user, self.target, &self.to);
        let text = format!(
            "{method} sip:{user}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:phone@{local}>;tag=p\r\nTo: {to}\r\nCall-ID: {local}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:phone@{local}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.sip.send_to(text.as_bytes(), target).expect("sent");
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 4096];
        let bytes = self.sip.recv(&mut buffer).expect("the box answers");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }
}

impl Stream {
    pub(crate) fn packet(&self, payload_type: u8, marker: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type | u8::from(marker) << 7];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        packet
    }
}

/// A stranger who sends what looks like the caller's audio, `0x11` in each byte, from an address of its own.
pub(crate) struct Stranger(UdpSocket, Stream);

impl Stranger {
    pub(crate) fn on(address: IpAddr) -> Self {
        let socket = UdpSocket::bind((address, 0)).expect("a port");
        socket.set_nonblocking(true).expect("set");
        Stranger(socket, Stream { ssrc: 66, sequence: 1, timestamp: 1, payload_type: 0 })
    }

    pub(crate) fn send(&mut self, media: SocketAddr) {
        self.1.sequence += 1;
        self.1.timestamp += 160;
        self.0.send_to(&self.1.packet(0, false, &[0x11; 160]), media).expect("sent");
    }

    /// Whether the box has ever sent anything here.
    pub(crate) fn was_answered(&self) -> bool {
        self.0.recv(&mut [0; 2048]).is_ok()
    }
}
