//! Calls whose agent is late, ready, or lost, in virtual time.

mod transfers;

use std::time::Duration;

use serde_json::{Value, json};
use talkstack_control::port::{CallId, FirstSpeaker, ProviderKind, Speaker, TransferTarget};

use super::*;
use crate::agent::provider::{Greets, Patience, ServicePlan};
use crate::call::tests::limits;
use crate::call::{CallLimits, LegAddress, LegId, Line, Offer};

#[test]
fn the_caller_rings_until_the_session_is_ready_and_is_then_let_in() {
    let mut bench = Bench::new(Some(OFFER));
    assert_eq!(bench.outputs(), ["Ring", "Ringing", "Connect"]);
    bench.wait(Duration::from_millis(400));
    bench.call.handle_connected(b"", bench.now);
    bench.receive(json!({ "type": "session.created" }));
    assert_eq!(bench.outputs(), [""; 0]);
    bench.receive(json!({ "type": "session.updated" }));
    assert_eq!(bench.outputs(), ["Answer", "Answered"]);
    bench.wait(Duration::from_secs(20));
    assert_eq!(bench.outputs(), [""; 0], "no attendant");
}

#[test]
fn a_session_that_is_not_ready_lets_the_caller_in_after_3_s_and_the_attendant_speak_after_8() {
    for is_connected in [false, true] {
        let mut bench = Bench::new(Some(OFFER));
        if is_connected {
            bench.call.handle_connected(b"", bench.now);
        }
        bench.outputs();
        bench.wait(Duration::from_millis(2990));
        assert_eq!(bench.outputs(), [""; 0]);
        bench.wait(Duration::from_millis(10));
        assert_eq!(bench.outputs(), ["Answer", "Answered"]);
        bench.wait(Duration::from_millis(4990));
        assert_eq!(bench.outputs(), [""; 0]);
        assert!(!bench.is_speaking(), "comfort noise");
        bench.wait(Duration::from_millis(10));
        assert_eq!(bench.outputs(), ["Disconnect"]);
        assert!(bench.is_speaking(), "the attendant");
        bench.call.handle_connected(b"", bench.now);
        assert_eq!(bench.outputs(), ["Disconnect"], "too late");
    }
}

#[test]
fn a_caller_is_refused_or_rings_longer_where_the_agent_s_owner_wants_that() {
    let refusing = Patience { ring: Some(Duration::from_secs(5)), refuse_with: Some(480) };
    let mut late = Bench::patient(refusing);
    late.outputs();
    late.wait(Duration::from_millis(4990));
    assert_eq!(late.outputs(), [""; 0], "it rings");
    late.wait(Duration::from_millis(10));
    assert_eq!(late.outputs(), ["Refuse 480", "End", "Disconnect", "Ended", "Finished"]);
    assert_eq!(late.ended, Some(Outcome::new(Blame::Agent, EndReason::Unreachable)));
    let mut unreachable = Bench::patient(refusing);
    unreachable.outputs();
    unreachable.call.handle_unreachable(unreachable.now);
    assert_eq!(unreachable.outputs()[0], "Refuse 480", "at once");
    let mut lost = Bench::patient(refusing);
    lost.outputs();
    lost.call.handle_connected(b"", lost.now);
    lost.call.handle_agent_disconnect(lost.now);
    assert!(lost.outputs().contains(&"Refuse 480"));
    let mut ready = Bench::patient(refusing);
    ready.call.handle_connected(b"", ready.now);
    ready.set_up();
    ready.outputs();
    ready.call.handle_agent_disconnect(ready.now);
    assert_eq!(ready.outputs(), ["Disconnect"], "who was let in has the attendant");
    let mut longer = Bench::patient(Patience { ring: Some(Duration::from_secs(5)), refuse_with: None });
    longer.outputs();
    longer.wait(Duration::from_secs(5));
    assert_eq!(longer.outputs(), ["Answer", "Answered"]);
}

#[test]
fn a_session_that_gets_ready_in_the_comfort_noise_takes_the_call() {
    let mut bench = Bench::new(Some(OFFER));
    bench.wait(Duration::from_millis(3500));
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.outputs(), [""; 0], "no attendant");
}

#[test]
fn a_session_lost_in_mid_call_is_followed_by_the_apology_at_once_and_what_was_heard_is_kept() {
    let mut bench = Bench::new(Some(OFFER));
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    bench.receive(delta(16_000));
    let words = json!({ "type": "response.output_audio_transcript.delta", "response_id": "r", "item_id": "a", "delta": "one two three four" });
    bench.receive(words);
    bench.wait(Duration::from_secs(1));
    bench.call.handle_agent_disconnect(bench.now);
    assert_eq!(bench.outputs(), ["Said", "Disconnect"], "no BYE");
    assert_eq!(bench.said[0].speaker, Speaker::Agent);
    assert_eq!(bench.said[0].text, "one two");
    assert!(bench.said[0].at_ms < 50, "since the answer: {:?}", bench.said);
    assert!(bench.is_speaking(), "the attendant");
}

#[test]
fn an_agent_that_closes_in_good_order_is_heard_to_the_end_before_the_apology() {
    let mut bench = Bench::new(Some(OFFER));
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    bench.receive(delta(16_000));
    bench.wait(Duration::from_millis(500));
    bench.call.handle_agent_bytes(&[0x88, 2, 3, 232], bench.now);
    assert_eq!(bench.outputs(), ["Disconnect"]);
    assert!(matches!(bench.call.agent, AgentSession::Departed(_)));
    bench.wait(Duration::from_millis(1400));
    assert!(matches!(bench.call.agent, AgentSession::Departed(_)), "its last words");
    bench.wait(Duration::from_millis(300));
    assert!(matches!(bench.call.agent, AgentSession::Attendant(_)), "then the apology");
    assert_eq!(bench.outputs(), ["Disconnect"]);
}

#[test]
fn ten_minutes_of_speech_at_once_are_queued_and_more_is_the_agent_s_end() {
    let mut bench = Bench::new(Some(OFFER));
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    for _ in 0..120 {
        bench.receive(delta(40_000));
    }
    assert_eq!(bench.outputs(), [""; 0], "600 s in no time");
    assert_eq!(bench.call.progress().pushed, 4_800_000);
    bench.receive(delta(40_000));
    assert_eq!(bench.outputs(), ["Disconnect"]);
    assert!(matches!(bench.call.agent, AgentSession::Attendant(_)), "it is not lost silently");
}

#[test]
fn a_late_offer_rings_too_and_its_sound_begins_with_the_ack() {
    let mut bench = Bench::new(None);
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    assert_eq!(bench.outputs(), ["Ring", "Ringing", "Connect", "Answer", "Answered"]);
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    bench.receive(delta(16_000));
    bench.call.handle_acknowledged(LegId::First, Some(OFFER), bench.now);
    assert!(bench.is_speaking(), "what came before the ACK is played");
}

#[test]
fn what_was_said_is_recorded_before_the_end() {
    let mut bench = Bench::new(Some(OFFER));
    bench.wait(Duration::from_secs(1));
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.wait(Duration::from_secs(2));
    bench.receive(json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
    let words =
        json!({ "type": "conversation.item.input_audio_transcription.completed", "item_id": "u", "transcript": "Yes" });
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    bench.call.handle_agent_bytes(&frame(&words), bench.now);
    bench.call.handle_ended(LegId::First, Outcome::new(Blame::Caller, EndReason::HungUp), bench.now);
    assert_eq!(bench.outputs(), ["Said", "Disconnect", "Ended", "Finished"]);
    assert_eq!((bench.said[0].speaker, bench.said[0].at_ms), (Speaker::Caller, 2000));
}

#[test]
fn a_placed_call_is_greeted_a_second_and_a_half_after_its_answer_and_not_before() {
    let mut bench = Bench::dialling();
    assert_eq!(bench.outputs(), ["Invite", "Connect"]);
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.wait(Duration::from_secs(5));
    bench.call.handle_progressed(LegId::First, None, bench.now);
    bench.call.handle_progressed(LegId::First, None, bench.now);
    assert_eq!(bench.outputs(), ["Ringing"], "once");
    assert!(!bench.told().contains("response.create"), "nobody is there to greet");
    bench.call.handle_accepted(LegId::First, Some(OFFER), [10, 0, 0, 1].into(), bench.now);
    assert_eq!(bench.outputs(), ["Answered"]);
    bench.wait(Duration::from_millis(1490));
    assert!(!bench.told().contains("response.create"), "the called side may speak first");
    bench.wait(Duration::from_millis(10));
    assert!(bench.told().contains("response.create"));
}

#[test]
fn a_called_side_that_speaks_first_is_not_talked_over() {
    let mut bench = Bench::dialling();
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.call.handle_accepted(LegId::First, Some(OFFER), [10, 0, 0, 1].into(), bench.now);
    bench.wait(Duration::from_millis(500));
    bench.receive(json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
    bench.wait(Duration::from_secs(3));
    assert!(!bench.told().contains("response.create"), "the server answers by itself");
}

#[test]
fn an_agent_that_comes_after_the_answer_greets_at_once() {
    let mut bench = Bench::dialling();
    bench.call.handle_accepted(LegId::First, Some(OFFER), [10, 0, 0, 1].into(), bench.now);
    bench.wait(Duration::from_secs(3));
    assert!(!bench.is_speaking(), "comfort noise");
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    assert!(bench.told().contains("response.create"));
}

#[test]
fn who_does_not_answer_is_given_up_after_the_ring_time() {
    let mut bench = Bench::dialling();
    bench.call.handle_progressed(LegId::First, None, bench.now);
    bench.outputs();
    bench.wait(Duration::from_millis(44_990));
    assert_eq!(bench.outputs(), [""; 0]);
    bench.wait(Duration::from_millis(10));
    assert_eq!(bench.outputs(), ["End", "Disconnect", "Ended", "Finished"]);
    assert_eq!(bench.ended, Some(Outcome::new(Blame::Caller, EndReason::NoAnswer)));
}

#[test]
fn an_agent_lost_while_the_phone_rings_leaves_the_answer_to_the_attendant() {
    let mut bench = Bench::dialling();
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.call.handle_agent_disconnect(bench.now);
    assert_eq!(bench.outputs(), ["Disconnect"], "the phone goes on ringing");
    bench.call.handle_accepted(LegId::First, Some(OFFER), [10, 0, 0, 1].into(), bench.now);
    assert_eq!(bench.outputs(), ["Answered"]);
    assert!(bench.is_speaking(), "the attendant");
}

#[test]
fn an_answer_ahead_of_the_answer_counts_and_none_at_all_ends_the_call() {
    let mut bench = Bench::dialling();
    bench.call.handle_progressed(LegId::First, Some(OFFER), bench.now);
    bench.call.handle_accepted(LegId::First, None, [10, 0, 0, 1].into(), bench.now);
    assert_eq!(bench.outputs(), ["Invite", "Connect", "Ringing", "Answered"]);
    let mut bench = Bench::dialling();
    bench.call.handle_accepted(LegId::First, None, [10, 0, 0, 1].into(), bench.now);
    assert_eq!(bench.outputs(), ["Invite", "Connect", "End", "Disconnect", "Ended", "Finished"]);
    assert_eq!(bench.ended, Some(Outcome::new(Blame::Trunk, EndReason::BadOffer)));
}

struct Bench {
    call: Call,
    now: Instant,
    said: Vec<Utterance>,
    ended: Option<Outcome>,
}

impl Bench {
    /// A call that comes in.
    fn new(sdp: Option<&[u8]>) -> Self {
        Bench::of(Greets::WhenReady, |plan, local, limits, now| {
            let offer = Offer { sdp, local, signalling: [10, 0, 0, 1].into(), security: Default::default() };
            Call::new(CallId(1), plan, offer, limits, 42, now)
        })
    }

    /// A call that is placed.
    fn dialling() -> Self {
        Bench::of(Greets::WhenTold, |plan, local, limits, now| {
            Call::dial(
                CallId(1),
                plan,
                Line { local, signalling: [10, 0, 0, 1].into(), security: Default::default() },
                limits,
                42,
                now,
            )
        })
    }

    /// With an agent that is waited for like this.
    fn patient(patience: Patience) -> Self {
        Bench::of(Greets::WhenReady, |mut plan, local, limits, now| {
            let Plan::Service(service) = &mut plan else { panic!("an agent") };
            service.patience = patience;
            let offer =
                Offer { sdp: Some(OFFER), local, signalling: [10, 0, 0, 1].into(), security: Default::default() };
            Call::new(CallId(1), plan, offer, limits, 42, now)
        })
    }

    fn of(greets: Greets, make: impl FnOnce(Plan, LegAddress, CallLimits, Instant) -> Call) -> Self {
        let plan = ServicePlan::bare(ProviderKind::OpenAiRealtime, "ws://agent/v1", FirstSpeaker::Agent);
        let mut plan = plan.expect("an address");
        plan.opening.greets = greets;
        plan.opening.tools.transfers.push(TransferTarget { name: "reception".into(), to: "101".into() });
        let local = LegAddress { host: [10, 0, 0, 2].into(), port: 10_000 };
        let now = Instant::now();
        let call = make(Plan::Service(Box::new(plan)), local, limits(), now);
        Bench { call, now, said: Vec::new(), ended: None }
    }

    fn set_up(&mut self) {
        self.receive(json!({ "type": "session.created" }));
        self.receive(json!({ "type": "session.updated" }));
    }

    fn receive(&mut self, event: Value) {
        self.call.handle_agent_bytes(&frame(&event), self.now);
    }

    /// Lets time pass in steps of the phone's clock.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(10)).min(end);
            self.call.handle_timeout(self.now);
            let mut packet = [0; 2048];
            while self.call.poll_transmit(&mut packet, self.now).is_some() {}
        }
    }

    /// What the agent has been told since the last look: the texts of all frames.
    fn told(&mut self) -> String {
        let bytes = std::mem::take(self.call.agent_outbound().expect("an agent"));
        let (mut text, mut rest) = (String::new(), &bytes[..]);
        while let [_, second, tail @ ..] = rest {
            let (length, tail) = match second & 0x7f {
                126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
                short => (usize::from(short), tail),
            };
            let (key, payload) = tail[..4 + length].split_at(4);
            text.extend(payload.iter().enumerate().map(|(at, byte)| char::from(byte ^ key[at % 4])));
            rest = &tail[4 + length..];
        }
        text
    }

    /// Tells whether speech is queued.
    fn is_speaking(&self) -> bool {
        !self.call.progress().is_drained()
    }

    /// The names of what the call wants.
    fn outputs(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(output) = self.call.poll_output() {
            names.push(match output {
                CallOutput::Invite(..) => "Invite",
                CallOutput::End(..) => "End",
                CallOutput::Refuse(480) => "Refuse 480",
                CallOutput::Ring(_) => "Ring",
                CallOutput::Answer(..) => "Answer",
                CallOutput::Connect(..) => "Connect",
                CallOutput::Disconnect(_) => "Disconnect",
                CallOutput::Lead(_) => "Lead",
                CallOutput::PutThrough(to) => {
                    assert_eq!(to.0, "101");
                    "PutThrough"
                }
                CallOutput::Finished => "Finished",
                CallOutput::Record(CallEvent::Ringing) => "Ringing",
                CallOutput::Record(CallEvent::Answered { .. }) => "Answered",
                CallOutput::Record(CallEvent::Ended { outcome }) => {
                    self.ended = Some(outcome);
                    "Ended"
                }
                CallOutput::Record(CallEvent::Said(utterance)) => {
                    self.said.push(utterance);
                    "Said"
                }
                // These callers say nothing.
                CallOutput::Record(CallEvent::Diagnosed { .. }) | CallOutput::Sounds(..) => continue,
                other => panic!("{other:?}"),
            });
        }
        names
    }
}

fn delta(bytes: usize) -> Value {
    let delta = base64_simd::STANDARD.encode_to_string(vec![0x21; bytes]);
    json!({ "type": "response.output_audio.delta", "response_id": "r", "item_id": "a", "delta": delta })
}

/// A server's text frame.
fn frame(event: &Value) -> Vec<u8> {
    let text = event.to_string();
    let mut frame = vec![0x81, 126];
    frame.extend((text.len() as u16).to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
