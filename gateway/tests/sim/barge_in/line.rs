//! A call in virtual time: an agent behind OpenAI's protocol that speaks far ahead, a caller, and what comes back of our
//! own sound.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use serde_json::{Value, json};
use talkstack_control::port::{CallId, FirstSpeaker, ProviderKind};
use talkstack_gateway::agent::provider::ServicePlan;
use talkstack_gateway::call::{Call, CallLimits, LegAddress, LegId, Offer};
use talkstack_gateway::route::Plan;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::codec::Codec;
use talkstack_media::session::Channel;

use super::sounds::{Random, Sound};

/// What comes back of what we send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Echo {
    pub(crate) delay_ms: u32,
    pub(crate) loss_db: f32,
}

pub(crate) struct Line {
    call: Call,
    start: Instant,
    now: Instant,
    random: Random,
    echo: Option<Echo>,
    /// What the caller's microphone will hear, from the start on.
    caller: Vec<f32>,
    next_packet: Instant,
    packets: u32,
    /// What the agent has said of its turn, and how much of it has left.
    said: Vec<u8>,
    turn: u32,
    left: usize,
    /// When packets of speech have left.
    pub(crate) spoken: Vec<Instant>,
    /// The instants of packets of noise while there was something to say.
    pub(crate) held: Vec<Instant>,
    /// What the agent was told that the caller has heard of its turn, in milliseconds.
    pub(crate) truncated: Vec<u64>,
}

impl Line {
    pub(crate) fn new(seed: u64, echo: Option<Echo>) -> Self {
        Line::with(seed, echo, |_| {})
    }

    /// A call to an agent that is set up in a way of its own.
    pub(crate) fn with(seed: u64, echo: Option<Echo>, set_up: impl Fn(&mut ServicePlan)) -> Self {
        let start = Instant::now();
        let kind = ProviderKind::OpenAiRealtime;
        let mut plan = ServicePlan::bare(kind, "ws://agent/", FirstSpeaker::Caller).expect("a URL");
        set_up(&mut plan);
        let offer = Offer {
            sdp: Some(b"v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n"),
            local: LegAddress { host: [10, 0, 0, 2].into(), port: 10_000 },
            signalling: [10, 0, 0, 1].into(),
            security: Default::default(),
        };
        let limits = CallLimits {
            duration_max: Duration::from_secs(3600),
            ring_max: Duration::from_secs(45),
            speech: SpeechPool::default(),
        };
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut call = Call::new(CallId(1), Plan::Service(Box::new(plan)), offer, limits, seed, start);
        call.handle_connected(&frame(&json!({ "type": "session.created", "session": {} })), start);
        call.handle_agent_bytes(&frame(&json!({ "type": "session.updated", "session": {} })), start);
        let phase = Duration::from_micros((random.next() * 20_000.0) as u64);
        Line {
            call,
            start,
            now: start,
            random,
            echo,
            caller: Vec::new(),
            next_packet: start + phase,
            packets: 0,
            said: Vec::new(),
            turn: 0,
            left: 0,
            spoken: Vec::new(),
            held: Vec::new(),
            truncated: Vec::new(),
        }
    }

    /// The agent says all of this at once.
    pub(crate) fn agent_says(&mut self, samples: &[f32]) {
        self.turn += 1;
        self.left = 0;
        self.said.clear();
        let linear: Vec<i16> = samples.iter().map(|sample| *sample as i16).collect();
        Codec::Pcmu.encode(&linear[..linear.len() / 160 * 160], &mut self.said);
        let (response, item) = (format!("r{}", self.turn), format!("i{}", self.turn));
        self.tell(&json!({ "type": "response.created", "response": { "id": response } }));
        for second in self.said.clone().chunks(8000) {
            let delta = STANDARD.encode_to_string(second);
            self.tell(&json!({
                "type": "response.output_audio.delta", "response_id": response, "item_id": item, "content_index": 0, "delta": delta,
            }));
        }
        self.tell(&json!({ "type": "response.output_audio.done", "response_id": response, "item_id": item }));
        self.tell(&json!({ "type": "response.done", "response": { "id": response, "status": "completed" } }));
    }

    /// The caller makes this sound so much later; returns when the packet with its onset comes to our socket.
    pub(crate) fn caller_says(&mut self, sound: &Sound, later: Duration) -> Instant {
        let from = self.place(self.now + later);
        self.caller.resize(self.caller.len().max(from + sound.samples.len()), 0.0);
        for (sum, sample) in self.caller[from..].iter_mut().zip(&sound.samples) {
            *sum += sample;
        }
        let onset = self.start + Duration::from_micros((from + sound.onset) as u64 * 125);
        let mut arrival = self.next_packet;
        while arrival <= onset {
            arrival += PACKET;
        }
        arrival
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let due = self.call.poll_timeout().map_or(end, |at| at.min(self.next_packet)).min(end);
            // A shard's grid.
            self.now = due.max(self.now + Duration::from_millis(1));
            if self.next_packet <= self.now {
                self.hear();
            }
            if self.call.poll_timeout().is_some_and(|at| at <= self.now) {
                self.call.handle_timeout(self.now);
            }
            self.settle();
        }
    }

    /// Packets of speech that the caller has been sent of this turn, in milliseconds.
    pub(crate) fn played_ms(&self) -> u64 {
        self.left as u64 * 20
    }

    /// Tells whether all of the turn was said.
    pub(crate) fn is_all_said(&self) -> bool {
        self.left * 160 == self.said.len()
    }

    fn place(&self, at: Instant) -> usize {
        ((at - self.start).as_micros() / 125) as usize
    }

    pub(crate) fn tell(&mut self, event: &Value) {
        self.call.handle_agent_bytes(&frame(event), self.now);
        self.settle();
    }

    /// The caller's next packet comes.
    fn hear(&mut self) {
        let end = self.place(self.next_packet);
        let from = end.saturating_sub(160);
        let samples: Vec<i16> = (from..from + 160)
            .map(|at| (self.caller.get(at).copied().unwrap_or_default() + 26.0 * self.random.noise()).round() as i16)
            .collect();
        let mut packet = vec![0x80, 0];
        packet.extend((self.packets as u16).to_be_bytes());
        packet.extend((self.packets * 160).to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        Codec::Pcmu.encode(&samples, &mut packet);
        self.packets += 1;
        self.next_packet += PACKET;
        self.call.handle_rtp(LegId::First, SocketAddr::from(([10, 0, 0, 1], 4000)), &packet, self.now);
    }

    fn settle(&mut self) {
        let mut packet = [0; 2048];
        while let Some((_, transmit)) = self.call.poll_transmit(&mut packet, self.now) {
            if transmit.channel == Channel::Rtp {
                self.send(&packet[12..transmit.bytes]);
            }
        }
        while self.call.poll_output().is_some() {}
        if let Some(outbound) = self.call.agent_outbound() {
            let told = unmasked(outbound);
            outbound.clear();
            let truncations = told.iter().filter(|event| event["type"] == "conversation.item.truncate");
            self.truncated.extend(truncations.filter_map(|event| event["audio_end_ms"].as_u64()));
        }
    }

    fn send(&mut self, payload: &[u8]) {
        let next = self.said.get(self.left * 160..(self.left + 1) * 160);
        if next == Some(payload) {
            self.left += 1;
            self.spoken.push(self.now);
        } else if next.is_some() && !self.spoken.is_empty() && self.left > 0 {
            self.held.push(self.now);
        }
        let Some(Echo { delay_ms, loss_db }) = self.echo else { return };
        let (gain, mut samples) = (10f32.powf(-loss_db / 20.0), Vec::new());
        Codec::Pcmu.decode(payload, &mut samples);
        // A room's answer: most of it at once, some of it over 30 ms.
        for (later_ms, part) in [(0, 0.85), (11, 0.4), (27, 0.34)] {
            let from = self.place(self.now + Duration::from_millis(u64::from(delay_ms + later_ms)));
            self.caller.resize(self.caller.len().max(from + samples.len()), 0.0);
            for (sum, sample) in self.caller[from..].iter_mut().zip(&samples) {
                *sum += gain * part * f32::from(*sample);
            }
        }
    }
}

/// A text message as a server frames it.
fn frame(event: &Value) -> Vec<u8> {
    let text = event.to_string();
    let mut bytes = vec![0x81, 126];
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// The texts that a client has written.
fn unmasked(mut bytes: &[u8]) -> Vec<Value> {
    let mut events = Vec::new();
    while let [_, length, rest @ ..] = bytes {
        let (length, rest) = match length & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let text: Vec<u8> = rest[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        events.extend(serde_json::from_slice(&text).ok());
        bytes = &rest[length..];
    }
    events
}

const PACKET: Duration = Duration::from_millis(20);
