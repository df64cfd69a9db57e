//! What it means that a service ends the connection, over each of the protocols.

use super::*;

#[test]
fn an_agent_that_leaves_in_good_order_is_heard_to_the_end_and_nobody_stops_the_end() {
    for kind in [ProviderKind::ElevenLabs, ProviderKind::Ultravox] {
        let mut bench = ready(kind);
        assert_eq!(bench.receive_frame(0x82 - u8::from(kind == ProviderKind::ElevenLabs), &audio(kind)).len(), 1);
        assert_eq!(bench.receive_frame(0x88, &1000u16.to_be_bytes()), [], "{kind}: it still talks");
        bench.agent.handle_disconnect();
        bench.speak(1);
        bench.press("1");
        assert_eq!(bench.wait(Duration::from_secs(9)), [], "{kind}");
        bench.agent.handle_interrupted(bench.progress, bench.now);
        assert_eq!(bench.play(160), [Out::HangUp], "{kind}");
    }
}

#[test]
fn any_other_end_is_a_loss_and_before_the_session_is_ready_a_refusal() {
    for kind in HOSTED {
        for (code, is_good) in [(1000u16, true), (1001, false), (1008, false), (1011, false), (3000, false)] {
            let close = code.to_be_bytes();
            let mut bench = ready(kind);
            let hangs_up = is_good && matches!(kind, ProviderKind::ElevenLabs | ProviderKind::Ultravox);
            let loss = if is_good { AgentLoss::Closed } else { AgentLoss::Disconnected };
            let end = if hangs_up { Out::HangUp } else { Out::Lost(loss) };
            assert_eq!(bench.receive_frame(0x88, &close), [end], "{kind} {code}");
            let mut bench = begun(kind);
            assert_eq!(bench.receive_frame(0x88, &close), [Out::Lost(AgentLoss::Refused)], "{kind} {code}");
        }
        assert_eq!(ready(kind).receive_frame(0x88, &[]), [Out::Lost(AgentLoss::Disconnected)], "{kind}: no code");
    }
}

fn begun(kind: ProviderKind) -> Bench {
    let mut route = ProviderRoute::new(kind, "wss://service", "m");
    route.settings.agent = (kind == ProviderKind::ElevenLabs).then(|| "a".into());
    Bench::new(&route, Opening { first_speaker: FirstSpeaker::Caller, ..opening() }, Codec::Pcmu)
}

fn ready(kind: ProviderKind) -> Bench {
    let mut bench = begun(kind);
    let forms = json!({ "agent_output_audio_format": "ulaw_8000", "user_input_audio_format": "ulaw_8000" });
    for event in [
        json!({ "type": "Welcome" }),
        json!({ "type": "SettingsApplied" }),
        json!({ "setupComplete": {} }),
        json!({ "type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": forms }),
        json!({ "type": "call_started" }),
    ] {
        bench.receive(event);
    }
    assert!(bench.agent.is_ready(), "{kind}");
    bench
}

/// A message with 20 ms of audio.
fn audio(kind: ProviderKind) -> Vec<u8> {
    if kind == ProviderKind::Ultravox {
        return vec![0; 640];
    }
    let data = base64_simd::STANDARD.encode_to_string([0x21; 160]);
    json!({ "type": "audio", "audio_event": { "audio_base_64": data, "event_id": 2 } }).to_string().into_bytes()
}

const HOSTED: [ProviderKind; 4] =
    [ProviderKind::Deepgram, ProviderKind::ElevenLabs, ProviderKind::Gemini, ProviderKind::Ultravox];
