use base64_simd::STANDARD;
use talkstack_media::audio::frame::SampleRate;

use super::*;

#[test]
fn only_what_the_owner_has_set_is_overridden_and_it_is_said_first() {
    let mut bench = Bench::new(&route(), bare(), Codec::Pcmu);
    assert_eq!(bench.sent(), [json!({ "type": "conversation_initiation_client_data" })]);
    let mut route = route();
    route.settings.language = Some("de".into());
    route.settings.parameters.insert("shop".into(), "7".into());
    let voiced = Opening { voice: Some("v1".into()), ..greeting("Hi John!") };
    let overrides = json!({
        "agent": { "prompt": { "prompt": "Be kind to John." }, "first_message": "Hi John!", "language": "de" },
        "tts": { "voice_id": "v1" },
    });
    let told = json!({ "type": "conversation_initiation_client_data", "conversation_config_override": overrides,
                       "dynamic_variables": { "shop": "7" } });
    assert_eq!(Bench::new(&route, voiced, Codec::Pcmu).sent(), [told]);
    let listening = Opening { first_speaker: FirstSpeaker::Caller, ..bare() };
    let told = &Bench::new(&route, listening, Codec::Pcmu).sent()[0];
    assert_eq!(told["conversation_config_override"]["agent"]["first_message"], "");
}

#[test]
fn the_service_names_the_forms_and_one_that_fits_no_tick_is_a_loss() {
    let mut bench = Bench::new(&route(), bare(), Codec::Pcmu);
    bench.sent();
    bench.speak(2);
    assert_eq!(bench.sent(), NOTHING);
    assert_eq!(bench.receive(metadata("ulaw_8000", "pcm_16000")), [Out::Ready]);
    bench.speak(1);
    let payload = STANDARD.encode_to_string([0x55; 160]);
    assert_eq!(bench.sent(), [json!({ "user_audio_chunk": payload })], "as the line has it");
    assert_eq!(bench.receive(audio(1, 640)), [Out::Play(160)], "16 kHz");
    assert_eq!(bench.receive(metadata("pcm_8000", "pcm_8000"))[..], [], "once is enough");

    let mut bench = Bench::new(&route(), bare(), Codec::Opus);
    assert_eq!(bench.receive(metadata("pcm_16000", "pcm_48000")), [Out::Ready]);
    bench.sent();
    bench.agent.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 320]));
    assert_eq!(bench.sent(), [json!({ "user_audio_chunk": STANDARD.encode_to_string([0; 640]) })]);
    assert_eq!(bench.receive(audio(1, 1920)), [Out::Play(160)]);

    for (hears, says) in [("pcm_22050", "ulaw_8000"), ("ulaw_8000", "pcm_44100"), ("opus", "ulaw_8000")] {
        let mut bench = Bench::new(&route(), bare(), Codec::Pcmu);
        assert_eq!(bench.receive(metadata(hears, says)), [Out::Lost(AgentLoss::Format)], "{hears} {says}");
    }
    let mut bench = Bench::new(&route(), bare(), Codec::Pcma);
    let nameless = json!({ "type": "conversation_initiation_metadata", "conversation_initiation_metadata_event":
        { "conversation_id": null, "agent_output_audio_format": null } });
    assert_eq!(bench.receive(nameless), [Out::Ready]);
}

#[test]
fn an_interruption_clears_the_queue_and_audio_up_to_its_event_is_late() {
    let mut bench = ready();
    bench.receive(response(1, "one two three four five"));
    bench.receive(audio(2, 8000));
    bench.play(4000);
    assert_eq!(bench.receive(interruption(json!(3))), [Out::Clear], "the words may yet be corrected");
    assert_eq!(bench.receive(audio(3, 160)), []);
    let correction = json!({ "type": "agent_response_correction", "agent_response_correction_event":
        { "original_agent_response": "one two three four five", "corrected_agent_response": "one two three..." } });
    assert_eq!(bench.receive(correction), [said(Speaker::Agent, "one two three...")]);
    assert_eq!(bench.receive(transcript("Stop.")), [said(Speaker::Caller, "Stop.")]);
    assert_eq!(bench.receive(audio(4, 160)), [Out::Play(160)], "the next turn is heard");
    bench.play(160);
    assert_eq!(bench.receive(interruption(json!(null))), [], "nothing is queued");
    assert_eq!(bench.receive(audio(5, 160)), [Out::Play(160)]);
}

#[test]
fn without_a_correction_the_words_are_cut_in_proportion_to_what_was_heard() {
    let mut bench = ready();
    bench.receive(audio(2, 8000));
    bench.play(4000);
    assert_eq!(bench.receive(interruption(json!(3))), [Out::Clear]);
    assert_eq!(bench.receive(response(2, "one two three four five")), [], "late words of the same turn");
    let heard = bench.receive(transcript("Stop."));
    assert_eq!(heard, [said(Speaker::Agent, "one two"), said(Speaker::Caller, "Stop.")]);
}

#[test]
fn a_turn_is_told_after_a_pause_or_when_the_other_side_has_spoken() {
    let mut bench = ready();
    bench.receive(response(1, "Hello."));
    bench.receive(audio(2, 800));
    assert_eq!(bench.play(800), []);
    assert_eq!(bench.wait(Duration::from_secs(1)), [said(Speaker::Agent, "Hello.")]);
    bench.receive(response(3, "Are you there?"));
    bench.receive(audio(4, 800));
    bench.play(800);
    let told = bench.receive(transcript("Yes."));
    assert_eq!(told, [said(Speaker::Agent, "Are you there?"), said(Speaker::Caller, "Yes.")]);
    bench.receive(response(5, "Good."));
    bench.receive(audio(6, 800));
    bench.play(400);
    assert_eq!(bench.agent.poll_last_words(bench.progress), None, "half a word is none");
}

#[test]
fn a_ping_is_answered_after_its_time_and_no_more_than_can_be_meant() {
    let mut bench = ready();
    let ping = |id: u64, ms: Value| json!({ "type": "ping", "ping_event": { "event_id": id, "ping_ms": ms } });
    bench.receive(ping(1, json!(null)));
    assert_eq!(bench.sent(), [json!({ "type": "pong", "event_id": 1 })]);
    bench.receive(ping(2, json!(80)));
    bench.receive(ping(3, json!(40)));
    assert_eq!(bench.agent.poll_timeout(), Some(bench.now + Duration::from_millis(40)));
    bench.wait(Duration::from_millis(40));
    assert_eq!(bench.sent(), [json!({ "type": "pong", "event_id": 3 })]);
    bench.wait(Duration::from_millis(39));
    assert_eq!(bench.sent(), NOTHING);
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.sent(), [json!({ "type": "pong", "event_id": 2 })]);
    (0..1000).for_each(|id| drop(bench.receive(ping(id, json!(1e300)))));
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.sent().len(), 16);
}

#[test]
fn keys_and_tools_and_errors_and_what_is_unknown() {
    let mut bench = ready();
    bench.press("12");
    bench.wait(QUIET);
    assert_eq!(bench.sent(), [json!({ "type": "user_message", "text": "The caller pressed 12" })]);
    bench.receive(json!({ "type": "client_tool_call", "client_tool_call":
        { "tool_name": "x", "tool_call_id": "c1", "parameters": {}, "event_id": 1 } }));
    let result = json!({ "type": "client_tool_result", "tool_call_id": "c1", "result": NO_SUCH_FUNCTION,
                         "is_error": true });
    assert_eq!(bench.sent(), [result]);
    for event in [
        json!({ "type": null }),
        json!({ "type": "vad_score", "vad_score_event": { "vad_score": 0.5 } }),
        json!({ "type": "audio", "audio_event": null }),
        json!({ "type": "audio", "audio_event": { "audio_base_64": null, "event_id": null } }),
        json!({ "type": "audio", "audio_event": { "audio_base_64": "!", "event_id": 9 } }),
        json!({ "type": "audio", "audio_event": { "audio_base_64": "AA==", "event_id": "x" } }),
        json!({ "type": "ping", "ping_event": null }),
        json!({ "type": "agent_response", "agent_response_event": null }),
        json!({ "type": "agent_response_correction", "agent_response_correction_event": {} }),
        json!({ "type": "conversation_initiation_metadata" }),
    ] {
        assert_eq!(bench.receive(event.clone()), [], "{event}");
    }
    assert_eq!(bench.receive_frame(0x82, &[1; 160]), [], "no audio of this protocol");
    let error = |kind: &str| json!({ "type": "error", "error_event": { "code": 1008, "error_type": kind } });
    assert_eq!(bench.receive(error("override_error")), [Out::Lost(AgentLoss::Refused)]);
    assert_eq!(ready().receive(error("max_duration_exceeded")), [Out::Lost(AgentLoss::Expired)]);
    assert_eq!(ready().receive_frame(0x81, b"{"), [Out::Lost(AgentLoss::NotJson)]);
    let mut bench = ready();
    bench.agent.handle_disconnect();
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
}

fn route() -> ProviderRoute {
    let mut route = ProviderRoute::new(ProviderKind::ElevenLabs, "wss://api.elevenlabs.io", "");
    route.settings.agent = Some("agent 1".into());
    route
}

/// An agent that is told nothing.
fn bare() -> Opening {
    Opening { instructions: String::new(), ..opening() }
}

fn ready() -> Bench {
    let mut bench = Bench::new(&route(), bare(), Codec::Pcmu);
    assert_eq!(bench.receive(metadata("ulaw_8000", "ulaw_8000")), [Out::Ready]);
    bench.sent();
    bench
}

fn metadata(hears: &str, says: &str) -> Value {
    json!({ "type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": {
        "conversation_id": "c", "agent_output_audio_format": says, "user_input_audio_format": hears } })
}

fn audio(event_id: u64, bytes: usize) -> Value {
    let data = STANDARD.encode_to_string(vec![0x21; bytes]);
    json!({ "type": "audio", "audio_event": { "audio_base_64": data, "event_id": event_id, "alignment": null } })
}

fn interruption(event_id: Value) -> Value {
    json!({ "type": "interruption", "interruption_event": { "event_id": event_id } })
}

fn response(event_id: u64, text: &str) -> Value {
    json!({ "type": "agent_response", "agent_response_event": { "agent_response": text, "event_id": event_id } })
}

fn transcript(text: &str) -> Value {
    json!({ "type": "user_transcript", "user_transcription_event": { "user_transcript": text, "event_id": 1 } })
}
