//! Agents that have their callers put through.

use super::*;
use crate::caller_id::Disclosure;
use crate::route::{BridgePlan, BridgeTarget};

#[test]
fn an_agent_is_let_go_once_somebody_has_taken_its_caller() {
    let mut bench = asked();
    bench.wait(Duration::from_millis(900));
    assert_eq!(bench.outputs(), [""; 0], "what it says about it is still being heard");
    bench.wait(Duration::from_millis(500));
    assert_eq!(bench.outputs(), ["PutThrough"]);
    bench.told();
    rings(&mut bench);
    assert!(bench.is_speaking(), "the caller hears it ring");
    bench.receive(delta(8000));
    hear(&mut bench, 50);
    let told = bench.told();
    assert!(!told.contains("function_call_output"), "nothing has become of it: {told}");
    let silence = base64_simd::STANDARD.encode_to_string([0xff; 160]);
    assert_eq!(told.matches(&silence).count(), 50, "what the caller says meanwhile is none of its business");
    accept(&mut bench);
    assert_eq!(bench.outputs(), ["Disconnect"]);
    assert!(!bench.is_speaking(), "no ringing is left over");
    bench.wait(Duration::from_secs(1));
    bench.call.handle_ended(LegId::Second, Outcome::new(Blame::Caller, EndReason::HungUp), bench.now);
    assert_eq!(bench.outputs(), ["End", "Disconnect", "Ended", "Finished"], "the two were talking to each other");
}

#[test]
fn an_agent_whose_caller_nobody_takes_is_told_why_and_talks_on() {
    for (reason, words) in [(EndReason::Busy, "The line is busy"), (EndReason::NoAnswer, "Nobody answered")] {
        let mut bench = asked();
        bench.wait(Duration::from_secs(2));
        rings(&mut bench);
        bench.outputs();
        bench.told();
        bench.call.handle_refused(Outcome::new(Blame::Caller, reason), bench.now);
        assert_eq!(bench.outputs(), [""; 0], "the agent stays");
        let told = bench.told();
        assert!(told.contains(words) && told.contains("\"call_id\":\"c\""), "{told}");
        assert!(told.contains("response.create"), "it is to say something: {told}");
        assert!(!bench.is_speaking(), "no ringing is left over");
        bench.receive(json!({ "type": "response.created", "response": { "id": "r2" } }));
        let words = base64_simd::STANDARD.encode_to_string(vec![0x21; 800]);
        bench.receive(
            json!({ "type": "response.output_audio.delta", "response_id": "r2", "item_id": "b", "delta": words }),
        );
        assert!(bench.is_speaking(), "and is heard again");
    }
}

#[test]
fn a_number_that_leads_nowhere_and_a_caller_who_speaks_first_are_told_to_the_agent() {
    let mut bench = asked();
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.outputs(), ["PutThrough"]);
    bench.call.put_through(Err(Outcome::new(Blame::Operator, EndReason::NotFound)), bench.now);
    assert!(bench.told().contains("They cannot be reached"));
    let mut bench = asked();
    bench.receive(json!({ "type": "input_audio_buffer.speech_started", "item_id": "u" }));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "cancelled" } }));
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.outputs(), [""; 0]);
    assert!(bench.told().contains("The caller spoke before"));
}

#[test]
fn a_caller_whose_agent_is_lost_while_it_rings_is_taken_by_the_attendant_if_nobody_else_does() {
    for (is_taken, is_closed) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = asked();
        bench.wait(Duration::from_secs(2));
        rings(&mut bench);
        bench.outputs();
        if is_closed {
            bench.call.handle_agent_bytes(&[0x88, 2, 3, 232], bench.now);
        } else {
            bench.call.handle_agent_disconnect(bench.now);
        }
        assert_eq!(bench.outputs(), ["Disconnect"], "it rings on");
        if is_taken {
            accept(&mut bench);
            bench.wait(Duration::from_secs(5));
            assert!(!bench.is_speaking(), "no attendant");
        } else {
            bench.call.handle_refused(Outcome::new(Blame::Caller, EndReason::Busy), bench.now);
            assert!(bench.is_speaking(), "the attendant");
        }
        assert_eq!(bench.ended, None);
    }
}

#[test]
fn a_caller_who_hangs_up_while_it_rings_ends_all() {
    let mut bench = asked();
    bench.wait(Duration::from_secs(2));
    rings(&mut bench);
    bench.outputs();
    bench.call.handle_ended(LegId::First, Outcome::new(Blame::Caller, EndReason::HungUp), bench.now);
    assert_eq!(bench.outputs(), ["End", "Disconnect", "Ended", "Finished"]);
}

/// An agent that says something for a second and then asks for a transfer.
fn asked() -> Bench {
    let mut bench = Bench::new(Some(OFFER));
    bench.call.handle_connected(b"", bench.now);
    bench.set_up();
    bench.outputs();
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    bench.receive(delta(8000));
    bench.receive(json!({ "type": "response.function_call_arguments.done", "response_id": "r", "call_id": "c",
        "name": "transfer", "arguments": "{\"to\":\"Reception\"}" }));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed" } }));
    bench
}

/// The way is known, and the phone rings.
fn rings(bench: &mut Bench) {
    bench.outputs();
    let plan = BridgePlan {
        targets: vec![BridgeTarget::Extension { user: "101".into(), ring_s: None }],
        refused_with: None,
        caller: "anna".into(),
        disclosure: Disclosure::Shown,
        caller_name: None,
        called: "101".into(),
        is_emergency: false,
    };
    bench.call.put_through(Ok(Box::new(plan)), bench.now);
    let local = LegAddress { host: [10, 0, 0, 2].into(), port: 10_010 };
    let line = Line { local, signalling: [10, 0, 0, 3].into(), security: Default::default() };
    bench.call.handle_line(line, 7, bench.now);
    assert_eq!(bench.outputs(), ["Lead", "Invite"]);
    bench.call.handle_progressed(LegId::Second, None, bench.now);
    bench.wait(Duration::from_millis(50));
}

/// The caller says so many packets.
fn hear(bench: &mut Bench, packets: u8) {
    for sequence in 0..packets {
        let mut packet = [0x21; 172];
        packet[..12].copy_from_slice(&[0x80, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 9]);
        packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
        bench.call.handle_rtp(LegId::First, ([10, 0, 0, 1], 4000).into(), &packet, bench.now);
        bench.wait(Duration::from_millis(20));
    }
}

fn accept(bench: &mut Bench) {
    let answer = String::from_utf8_lossy(OFFER).replace("10.0.0.1", "10.0.0.3");
    bench.call.handle_accepted(LegId::Second, Some(answer.as_bytes()), [10, 0, 0, 3].into(), bench.now);
}
