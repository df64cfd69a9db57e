//! The bench: two phones at the ends of a call, and what they hear.

use std::net::SocketAddr;

use talkstack_control::port::{CallId, CallLeg, LegQuality};
use talkstack_media::audio::dtmf::{DtmfGenerator, TONE};
use talkstack_media::codec::Codec;
use talkstack_media::rtp::dtmf::EventReceiver;
use talkstack_media::session::Channel;

use super::super::*;
use crate::call::tests::limits;
use crate::call::{LegAddress, Offer};
use crate::caller_id::Disclosure;
use crate::route::Plan;

pub(super) fn extension(user: &str) -> BridgeTarget {
    BridgeTarget::Extension { user: user.into(), ring_s: None }
}

pub(super) fn trunk() -> BridgeTarget {
    BridgeTarget::Trunk { trunk_id: "t".into(), number: "+15550000001".into(), from: None, ring_s: Some(20) }
}

pub(super) fn plan(targets: &[BridgeTarget], refused_with: Option<u16>) -> Plan {
    Plan::Bridge(Box::new(bridge_plan(targets, refused_with)))
}

pub(super) fn bridge_plan(targets: &[BridgeTarget], refused_with: Option<u16>) -> BridgePlan {
    BridgePlan {
        targets: targets.to_vec(),
        refused_with,
        caller: "101".into(),
        disclosure: Disclosure::Shown,
        caller_name: None,
        called: "102".into(),
        is_emergency: false,
    }
}

pub(super) fn sdp(address: SocketAddr, codec: Codec, direction: &str) -> Vec<u8> {
    let formats = codec.payload_type();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\nc=IN IP4 {ip}\r\nm=audio {port} RTP/AVP {formats} 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\na={direction}\r\n",
        ip = address.ip(),
        port = address.port(),
    )
    .into_bytes()
}

pub(super) fn address(leg: LegId) -> SocketAddr {
    ([10, 0, 0, 1 + leg as u8], 4000).into()
}

/// A phone at the end of a leg.
pub(super) struct Phone {
    pub(super) address: SocketAddr,
    pub(super) codec: Codec,
    pub(super) talks: bool,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) heard: Vec<u8>,
    pub(super) receiver: EventReceiver,
    pub(super) keys: String,
}

impl Phone {
    pub(super) fn new(address: SocketAddr, codec: Codec) -> Self {
        Phone {
            address,
            codec,
            talks: false,
            sequence: 0,
            timestamp: 0,
            heard: Vec::new(),
            receiver: EventReceiver::default(),
            keys: String::new(),
        }
    }
}

/// Two phones and their call.
pub(super) struct Bench {
    pub(super) call: Call,
    pub(super) now: Instant,
    pub(super) outputs: Vec<CallOutput>,
    pub(super) phones: [Phone; 2],
    /// From one packet of the phones' to the next.
    pub(super) pace: Duration,
    /// Which phones know telephone events.
    pub(super) has_events: [bool; 2],
}

impl Bench {
    pub(super) fn new(targets: &[BridgeTarget], codec: Codec) -> Self {
        Bench::with(plan(targets, None), codec)
    }

    pub(super) fn with(plan: Plan, codec: Codec) -> Self {
        let now = Instant::now();
        let sdp = sdp(address(LegId::First), codec, "sendrecv");
        let local = LegAddress { host: [10, 0, 0, 9].into(), port: 10_000 };
        let offer =
            Offer { sdp: Some(&sdp), local, signalling: address(LegId::First).ip(), security: Default::default() };
        let call = Call::new(CallId(1), plan, offer, limits(), 7, now);
        let phones = [LegId::First, LegId::Second].map(|leg| Phone::new(address(leg), codec));
        let pace = Duration::from_millis(20);
        let mut bench = Bench { call, now, outputs: Vec::new(), phones, pace, has_events: [true; 2] };
        bench.settle();
        bench
    }

    /// A call whose far phone has rung and answered.
    pub(super) fn talking(targets: &[BridgeTarget], theirs: Codec, ours: Codec) -> Self {
        let mut bench = Bench::new(targets, theirs);
        bench.place();
        bench.call.handle_progressed(LegId::Second, None, bench.now);
        bench.accept(ours);
        bench.phones.iter_mut().for_each(|phone| phone.talks = true);
        bench
    }

    /// A caller who talks to an agent, which says what it hears.
    pub(super) fn with_agent() -> Self {
        let mut bench = Bench::with(Plan::Echo, Codec::Pcmu);
        bench.phones[0].talks = true;
        bench
    }

    /// The way to the far phone is found.
    pub(super) fn place(&mut self) {
        self.settle();
        let local = LegAddress { host: [10, 0, 0, 9].into(), port: 10_010 };
        let line = Line { local, signalling: self.phones[1].address.ip(), security: Default::default() };
        self.call.handle_line(line, 8, self.now);
        self.settle();
        assert!(matches!(self.outputs.last(), Some(CallOutput::Invite(LegId::Second, _))), "{:?}", self.outputs);
    }

    /// The far phone answers.
    pub(super) fn accept(&mut self, codec: Codec) {
        self.phones[1].codec = codec;
        let remote = self.phones[1].address;
        let mut answer = sdp(remote, codec, "sendrecv");
        if !self.has_events[1] {
            let text = String::from_utf8_lossy(&answer).replace(" 101\r\n", "\r\n");
            answer = text.replace("a=rtpmap:101 telephone-event/8000\r\n", "").into_bytes();
        }
        self.call.handle_accepted(LegId::Second, Some(&answer), remote.ip(), self.now);
        self.settle();
        assert!(self.outputs.iter().any(|output| matches!(output, CallOutput::Answer(LegId::First, _))));
    }

    /// The party of the leg asks for another to take its place; the second phone is to be that one.
    pub(super) fn transfer(&mut self, from: LegId, targets: &[BridgeTarget]) {
        self.call.handle_transfer(from, &bridge_plan(targets, None), self.now);
        if from == LegId::First {
            self.phones.swap(0, 1);
        }
        self.phones[1] = Phone::new(([10, 0, 0, 7], 4000).into(), Codec::Pcmu);
        self.phones[0].heard.clear();
        self.settle();
    }

    pub(super) fn reoffer(&mut self, leg: LegId, direction: &str) {
        let phone = &self.phones[leg as usize];
        let offer = sdp(phone.address, phone.codec, direction);
        self.call.handle_reoffer(leg, Some(&offer), self.now);
        self.settle();
        assert!(matches!(self.outputs.last(), Some(CallOutput::Answer(answered, _)) if *answered == leg));
    }

    /// Both phones send so many packets, of what they say or of nothing.
    pub(super) fn talk(&mut self, packets: u32) {
        for _ in 0..packets {
            for leg in [LegId::First, LegId::Second] {
                let phone = &mut self.phones[leg as usize];
                phone.timestamp = phone.timestamp.wrapping_add(160);
                if phone.talks {
                    let mut said = Vec::new();
                    // 1,000: loud enough to be told from noise, in either code.
                    phone.codec.encode(&[1000; 160], &mut said);
                    self.send(leg, false, self.phones[leg as usize].codec.payload_type(), &said);
                }
            }
            self.pass(self.pace);
        }
    }

    /// A press of 100 ms, as a phone sends it.
    pub(super) fn press(&mut self, leg: LegId, event: u8) {
        let start = self.phones[leg as usize].timestamp + 160;
        self.phones[leg as usize].timestamp = start;
        for step in 1..=7u16 {
            let [high, low] = (step.min(5) * 160).to_be_bytes();
            let end = if step >= 5 { 0x8a } else { 0x0a };
            self.send(leg, step == 1, 101, &[event, end, high, low]);
            self.pass(Duration::from_millis(20));
        }
        self.phones[leg as usize].timestamp = start + 7 * 160;
    }

    /// Keys as tones, from a phone that knows no events.
    pub(super) fn dial_in_audio(&mut self, leg: LegId, keys: &str) {
        let mut generator = DtmfGenerator::new(8000);
        assert!(keys.chars().all(|key| generator.press(key, TONE)));
        while generator.is_busy() {
            let (mut samples, mut said) = ([0; 160], Vec::new());
            generator.fill(&mut samples);
            let phone = &mut self.phones[leg as usize];
            phone.timestamp = phone.timestamp.wrapping_add(160);
            phone.codec.encode(&samples, &mut said);
            let payload_type = phone.codec.payload_type();
            self.send(leg, false, payload_type, &said);
            self.pass(Duration::from_millis(20));
        }
    }

    pub(super) fn send(&mut self, leg: LegId, marker: bool, payload_type: u8, payload: &[u8]) {
        let phone = &mut self.phones[leg as usize];
        let mut packet = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
        packet.extend(phone.sequence.to_be_bytes());
        packet.extend(phone.timestamp.to_be_bytes());
        packet.extend([leg as u8 + 1; 4]);
        packet.extend(payload);
        phone.sequence = phone.sequence.wrapping_add(1);
        self.call.handle_rtp(leg, phone.address, &packet, self.now);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.call.handle_timeout(self.now);
            self.settle();
            let next = self.call.poll_timeout().unwrap_or(end);
            if next > end || self.outcome().is_some() {
                self.now = end;
                return;
            }
            self.now = next.max(self.now + Duration::from_micros(100));
        }
    }

    pub(super) fn settle(&mut self) {
        let mut packet = [0; 2048];
        while let Some((leg, transmit)) = self.call.poll_transmit(&mut packet, self.now) {
            let phone = &mut self.phones[leg as usize];
            if transmit.channel != Channel::Rtp {
                continue;
            }
            assert_eq!(transmit.to, phone.address);
            let (payload, marker) = (&packet[12..transmit.bytes], packet[1] & 0x80 != 0);
            if packet[1] & 0x7f == 101 {
                let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
                phone.keys.extend(phone.receiver.handle_payload(timestamp, marker, payload, self.now));
            } else {
                assert_eq!(packet[1] & 0x7f, phone.codec.payload_type());
                phone.heard.extend_from_slice(payload);
            }
        }
        self.outputs.extend(std::iter::from_fn(|| self.call.poll_output()));
    }

    pub(super) fn heard(&self, leg: LegId) -> Vec<i16> {
        let phone = &self.phones[leg as usize];
        let mut samples = Vec::new();
        phone.codec.decode(&phone.heard, &mut samples);
        samples
    }

    pub(super) fn orders(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, CallOutput::Lead(_))).count()
    }

    pub(super) fn rang(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output, CallOutput::Ring(_)))
    }

    /// What the journal was told, by name.
    pub(super) fn journal(&self) -> Vec<&'static str> {
        let name = |output: &CallOutput| match output {
            CallOutput::Record(CallEvent::Ringing) => Some("Ringing"),
            CallOutput::Record(CallEvent::Answered { .. }) => Some("Answered"),
            CallOutput::Record(CallEvent::Ended { .. }) => Some("Ended"),
            _ => None,
        };
        self.outputs.iter().filter_map(name).collect()
    }

    pub(super) fn diagnoses(&self) -> Vec<String> {
        let name = |output: &CallOutput| match output {
            CallOutput::Record(CallEvent::Diagnosed { fault, .. }) => Some(fault.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(name).collect()
    }

    /// What was told of how a leg sounds, in order.
    pub(super) fn measured(&self, of: LegId) -> Vec<LegQuality> {
        let of = if of == LegId::First { CallLeg::First } else { CallLeg::Second };
        let figures = |output: &CallOutput| match output {
            CallOutput::Sounds(leg, quality) if *leg == of => Some(quality.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(figures).collect()
    }

    pub(super) fn found(&self) -> &str {
        let found = self.outputs.iter().find_map(|output| match output {
            CallOutput::Record(CallEvent::Diagnosed { found, .. }) => Some(found.as_str()),
            _ => None,
        });
        found.expect("a diagnosis")
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outputs.iter().find_map(|output| match output {
            CallOutput::Record(CallEvent::Ended { outcome }) => Some(*outcome),
            _ => None,
        })
    }
}
