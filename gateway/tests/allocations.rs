//! A whole call costs no allocation per audio frame in steady state, whoever answers it.
//!
//! A process of its own: the counting allocator sees everything that happens in it, so the cases run one after another.

use std::alloc::System;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use talkstack_control::port::{CallId, FirstSpeaker, ProviderKind};
use talkstack_gateway::agent::cascade::message::News;
use talkstack_gateway::agent::provider::ServicePlan;
use talkstack_gateway::call::{Call, CallLimits, CallOutput, LegAddress, LegId, LineSecurity, Offer};
use talkstack_gateway::caller_id::Disclosure;
use talkstack_gateway::io::wheel::{SLOT, Wheel};
use talkstack_gateway::route::{BridgePlan, BridgeTarget, Plan};
use talkstack_media::audio::frame::SampleRate;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::audio::recording::{BLOCK_VALUES, Block};
use talkstack_media::rtp::srtp::{KeyParameter, LIFETIME_MAX, MasterKey, Outbound, Suite};
use talkstack_media::sdp::{Crypto, Security, Srtp};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn ten_seconds_of_a_call_allocate_nothing() {
    for (payload_type, loss) in [(0, false), (8, false), (9, false), (0, true), (9, true)] {
        check("the echo", payload_type, loss, Plan::Echo);
        check("the echo under a key", payload_type | SECURED, loss, Plan::Echo);
        check("the attendant", payload_type, loss, Plan::attendant());
        check("a media stream", payload_type, loss, service(ProviderKind::Twilio));
        check("a Realtime agent", payload_type, loss, service(ProviderKind::OpenAiRealtime));
        check("Deepgram", payload_type, loss, service(ProviderKind::Deepgram));
        check("Gemini", payload_type, loss, service(ProviderKind::Gemini));
        check("ElevenLabs", payload_type, loss, service(ProviderKind::ElevenLabs));
        check("Ultravox", payload_type, loss, service(ProviderKind::Ultravox));
        check("AudioSocket", payload_type, loss, audiosocket());
        check("Asterisk's WebSocket", payload_type, loss, service(ProviderKind::AsteriskWebSocket));
        check("a cascade", payload_type, loss, cascade());
        // The far phone speaks µ-law, so the caller's A-law is recoded.
        check("a phone", payload_type, loss, bridge());
    }
    let region = Region::new(COUNTED);
    std::hint::black_box(vec![0u8; 100]);
    assert_eq!(region.change().allocations, 1, "the counter counts");
}

/// Runs a call warm, then counts for ten seconds of its time; once unrecorded and once recorded.
fn check(who: &str, payload_type: u8, loss: bool, plan: Plan) {
    for is_recorded in [false, true] {
        let mut line = Line::new(payload_type, loss, plan.clone());
        if is_recorded {
            line.call.record();
        }
        line.run(Duration::from_secs(3));
        let (sent, blocks, region) = (line.frames_out, line.blocks, Region::new(COUNTED));
        line.run(Duration::from_secs(10));
        let change = region.change();
        // An echo that a hole has held up leaves out frames to catch up.
        let least = if loss && plan == Plan::Echo { 450 } else { 490 };
        assert!(line.frames_out - sent >= least, "{who}: {} frames in ten seconds", line.frames_out - sent);
        let recorded = line.blocks - blocks;
        assert!(if is_recorded { recorded >= 49 } else { recorded == 0 }, "{who}: {recorded} blocks in ten seconds");
        let allocations = change.allocations + change.reallocations;
        let case = format!("{who}, payload type {payload_type}, loss {loss}, recorded {is_recorded}");
        assert_eq!(allocations, 0, "{case}: {change:?}");
    }
}

/// An agent that never stops talking: of a Realtime one, one response and one item.
fn service(kind: ProviderKind) -> Plan {
    Plan::Service(Box::new(ServicePlan::bare(kind, "ws://agent/", FirstSpeaker::Caller).expect("a URL")))
}

fn audiosocket() -> Plan {
    let plan = ServicePlan::bare(ProviderKind::AudioSocket, "tcp://agent:9092", FirstSpeaker::Caller);
    Plan::Service(Box::new(plan.expect("an address")))
}

/// A cascade whose greeting never ends.
fn cascade() -> Plan {
    let mut plan = ServicePlan::bare(ProviderKind::Cascade, "http://agent", FirstSpeaker::Agent).expect("a URL");
    plan.opening.greeting = Some("Hello and welcome.".into());
    Plan::Service(Box::new(plan))
}

/// Has the agent of a provider come; returns a message with 20 ms of its audio.
fn connect(call: &mut Call, kind: ProviderKind, now: Instant) -> Vec<u8> {
    let payload = STANDARD.encode_to_string([0x5a; 160]);
    match kind {
        ProviderKind::Cascade => {
            call.handle_connected(&[], now);
            // Its first request is for the greeting's sound.
            let (mut rate, mut says) = (Vec::new(), Vec::new());
            News::Rate(SampleRate::Hz16000).write(1, &mut rate);
            call.handle_agent_bytes(&rate, now);
            News::Sound(&[0x11; 640]).write(1, &mut says);
            says
        }
        ProviderKind::Twilio => {
            call.handle_connected(&[], now);
            frame(&format!(r#"{{"event":"media","streamSid":"MZ","media":{{"payload":"{payload}"}}}}"#))
        }
        ProviderKind::AudioSocket => {
            call.handle_connected(&[], now);
            let mut says = vec![0x10, 1, 0x40];
            says.extend([0x5a; 320]);
            says
        }
        ProviderKind::AsteriskWebSocket => {
            call.handle_connected(&[], now);
            binary([0x5a; 160])
        }
        ProviderKind::Deepgram => {
            call.handle_connected(&frame(r#"{"type":"Welcome"}"#), now);
            call.handle_agent_bytes(&frame(r#"{"type":"SettingsApplied"}"#), now);
            binary([0x5a; 160])
        }
        ProviderKind::ElevenLabs => {
            let forms = r#"{"agent_output_audio_format":"ulaw_8000","user_input_audio_format":"ulaw_8000"}"#;
            let kind = "conversation_initiation_metadata";
            call.handle_connected(&frame(&format!(r#"{{"type":"{kind}","{kind}_event":{forms}}}"#)), now);
            frame(&format!(r#"{{"type":"audio","audio_event":{{"audio_base_64":"{payload}","event_id":1}}}}"#))
        }
        ProviderKind::Ultravox => {
            call.handle_connected(&frame(r#"{"type":"call_started"}"#), now);
            let mut says = frame("");
            says[0] = 0x82;
            says[2..4].copy_from_slice(&640u16.to_be_bytes());
            says.extend([0x5a; 640]);
            says
        }
        ProviderKind::Gemini => {
            call.handle_connected(&frame(r#"{"setupComplete":{}}"#), now);
            let payload = STANDARD.encode_to_string([0x5a; 960]);
            let blob = format!(r#"{{"mimeType":"audio/pcm;rate=24000","data":"{payload}"}}"#);
            frame(&format!(r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{blob}}}]}}}}}}"#))
        }
        _ => {
            call.handle_connected(&frame(r#"{"type":"session.created","session":{}}"#), now);
            for text in [
                r#"{"type":"session.updated","session":{}}"#,
                r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}"#,
            ] {
                call.handle_agent_bytes(&frame(text), now);
            }
            frame(&format!(
                r#"{{"type":"response.output_audio.delta","event_id":"event_1","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{payload}"}}"#
            ))
        }
    }
}

/// A binary message of the agent's.
fn binary(audio: [u8; 160]) -> Vec<u8> {
    let mut message = frame("");
    message[0] = 0x82;
    message[2..4].copy_from_slice(&160u16.to_be_bytes());
    message.extend(audio);
    message
}

/// A phone of the box's.
fn bridge() -> Plan {
    Plan::Bridge(Box::new(BridgePlan {
        targets: vec![BridgeTarget::Extension { user: "102".into(), ring_s: None }],
        refused_with: None,
        caller: "101".into(),
        disclosure: Disclosure::Shown,
        caller_name: None,
        called: "102".into(),
        is_emergency: false,
    }))
}

/// A caller's line, the call, and its agent, in virtual time.
struct Line {
    call: Call,
    wheel: Wheel,
    due: Vec<u32>,
    scheduled: Option<Instant>,
    now: Instant,
    frames_in: u32,
    frames_out: u32,
    payload_type: u8,
    loses: bool,
    is_bridged: bool,
    /// What seals the caller's packets.
    outbound: Option<Outbound>,
    /// A media message of the agent's as it comes from its socket.
    says: Vec<u8>,
    block: Box<Block>,
    blocks: u32,
}

impl Line {
    fn new(payload_type: u8, loses: bool, plan: Plan) -> Self {
        let now = Instant::now();
        let (is_secured, payload_type) = (payload_type & SECURED != 0, payload_type & !SECURED);
        let master = MasterKey::new(Suite::AeadAes128Gcm, &[3; 28]).expect("28 bytes");
        let key = KeyParameter { master, lifetime: LIFETIME_MAX, mki: None };
        let crypto = Crypto { tag: 1, suite: Suite::AeadAes128Gcm, keys: vec![key.clone()] };
        let sdp = if is_secured {
            format!("v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/SAVP {payload_type}\r\na=crypto:{crypto}\r\n")
        } else {
            format!("v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP {payload_type}\r\n")
        };
        let media = Security::new(Srtp::Optional, true, [7; 32]);
        let security = LineSecurity { media, is_signalling_secure: true, ..LineSecurity::default() };
        let local = LegAddress { host: [10, 0, 0, 2].into(), port: 10_000 };
        let offer = Offer { sdp: Some(sdp.as_bytes()), local, signalling: [10, 0, 0, 1].into(), security };
        let limits = CallLimits {
            duration_max: Duration::from_secs(3600),
            ring_max: Duration::from_secs(45),
            speech: SpeechPool::default(),
        };
        let mut call = Call::new(CallId(1), plan.clone(), offer, limits, 7, now);
        let mut is_bridged = false;
        let says = match plan {
            Plan::Echo | Plan::Attendant { .. } | Plan::ToneTest => Vec::new(),
            Plan::Bridge(_) => {
                let local = LegAddress { host: [10, 0, 0, 2].into(), port: 10_010 };
                let signalling = [10, 0, 0, 3].into();
                call.handle_line(
                    talkstack_gateway::call::Line { local, signalling, security: Default::default() },
                    8,
                    now,
                );
                let sdp = b"v=0\r\nc=IN IP4 10.0.0.3\r\nm=audio 4000 RTP/AVP 0\r\n";
                call.handle_accepted(LegId::Second, Some(sdp), signalling, now);
                is_bridged = true;
                Vec::new()
            }
            Plan::Service(plan) => connect(&mut call, plan.kind, now),
        };
        let wheel = Wheel::new(now);
        Line {
            call,
            wheel,
            due: Vec::new(),
            scheduled: None,
            now,
            frames_in: 0,
            frames_out: 0,
            payload_type,
            loses,
            is_bridged,
            outbound: is_secured.then(|| Outbound::new(&key)),
            says,
            block: Box::new([0; BLOCK_VALUES]),
            blocks: 0,
        }
    }

    fn run(&mut self, time: Duration) {
        for step in 0..time.as_millis() {
            self.now += Duration::from_millis(1);
            if step % 20 == 7 {
                self.hear();
            }
            if step % 20 == 11 && !self.says.is_empty() {
                self.call.handle_agent_bytes(&self.says, self.now);
            }
            self.wheel.advance(self.now, &mut self.due);
            self.due.clear();
            if self.scheduled.is_some_and(|at| at <= self.now) {
                self.scheduled = None;
                self.call.handle_timeout(self.now);
            }
            self.settle();
            // As a shard enters its calls.
            let deadline = self.call.poll_timeout().expect("the call is up");
            if self.scheduled.is_none_or(|at| deadline + SLOT <= at) {
                self.scheduled = Some(self.wheel.schedule(1, deadline));
            }
        }
    }

    /// One packet of the caller's; with loss every tenth is missing.
    fn hear(&mut self) {
        let number = self.frames_in;
        self.frames_in += 1;
        if self.loses && number % 10 == 9 {
            return;
        }
        let mut packet = [0x33; 172 + 16];
        packet[..2].copy_from_slice(&[0x80, self.payload_type]);
        packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(number * 160).to_be_bytes());
        packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
        let bytes = self.outbound.as_mut().map_or(172, |outbound| outbound.seal(&mut packet, 172).expect("sealed"));
        let caller = SocketAddr::from(([10, 0, 0, 1], 4000));
        self.call.handle_rtp(LegId::First, caller, &packet[..bytes], self.now);
        if self.is_bridged {
            packet[1] = 0;
            self.call.handle_rtp(LegId::Second, SocketAddr::from(([10, 0, 0, 3], 4000)), &packet[..172], self.now);
        }
    }

    fn settle(&mut self) {
        let mut packet = [0; 2048];
        while let Some((_, transmit)) = self.call.poll_transmit(&mut packet, self.now) {
            let tag = if self.outbound.is_some() { 16 } else { 0 };
            self.frames_out += u32::from(transmit.bytes == 172 + tag);
        }
        while let Some(output) = self.call.poll_output() {
            assert!(!matches!(output, CallOutput::End(..) | CallOutput::Disconnect(_)), "{output:?}");
        }
        while self.call.poll_recorded(&mut self.block, self.now).is_some() {
            self.blocks += 1;
        }
        if let Some(outbound) = self.call.agent_outbound() {
            outbound.clear();
        }
    }
}

/// Beside a payload type: the call is under SRTP. No payload type has the bit.
const SECURED: u8 = 0x80;

/// A text message as a server frames it.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 126];
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}
