use base64_simd::STANDARD;
use talkstack_media::audio::frame::SampleRate;

use super::*;
use crate::agent::provider::GREETING_INSTRUCTIONS;

#[test]
fn the_session_is_set_up_first_and_audio_is_linear_at_16_khz() {
    let mut bench = Bench::new(&route("live-1"), opening(), Codec::Opus);
    let setup = json!({ "setup": {
        "model": "models/live-1",
        "generationConfig": { "responseModalities": ["AUDIO"] },
        "systemInstruction": { "parts": [{ "text": "Be kind to John." }] },
        "inputAudioTranscription": {}, "outputAudioTranscription": {},
    } });
    assert_eq!(bench.sent(), [setup]);
    bench.agent.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 320]));
    assert_eq!(bench.sent(), NOTHING);
    assert_eq!(bench.receive_frame(0x82, br#"{"setupComplete":{}}"#), [Out::Ready], "JSON in a binary message");
    let turn = json!({ "role": "user", "parts": [{ "text": GREET_NOW }] });
    assert_eq!(bench.sent(), [json!({ "clientContent": { "turns": [turn], "turnComplete": true } })]);
    bench.agent.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 320]));
    let blob = json!({ "mimeType": "audio/pcm;rate=16000", "data": STANDARD.encode_to_string([0; 640]) });
    assert_eq!(bench.sent(), [json!({ "realtimeInput": { "audio": blob } })]);

    let mut route = route("projects/p/models/m");
    route.settings.language = Some("de-DE".into());
    let voiced = Opening { voice: Some("Kore".into()), ..opening() };
    let setup = &Bench::new(&route, voiced, Codec::Pcmu).sent()[0]["setup"];
    assert_eq!(setup["model"], "projects/p/models/m");
    let voice = json!({ "prebuiltVoiceConfig": { "voiceName": "Kore" } });
    assert_eq!(setup["generationConfig"]["speechConfig"], json!({ "voiceConfig": voice, "languageCode": "de-DE" }));
}

#[test]
fn it_greets_with_the_owner_s_words_once_when_it_is_told() {
    let mut bench = ready(Opening { greets: Greets::WhenTold, ..greeting("Hi John!") });
    assert_eq!(bench.sent(), NOTHING);
    bench.agent.greet();
    bench.agent.greet();
    let sent = bench.sent();
    let text = format!("{GREETING_INSTRUCTIONS}Hi John!");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["clientContent"]["turns"][0]["parts"][0]["text"], json!(text));
    let mut bench = ready(Opening { greets: Greets::WhenTold, ..greeting("Hi John!") });
    bench.receive(content(json!({ "inputTranscription": { "text": "Hello?" } })));
    bench.agent.greet();
    assert_eq!(bench.sent(), NOTHING, "the callee was first");
    assert_eq!(ready(Opening { first_speaker: FirstSpeaker::Caller, ..opening() }).sent(), NOTHING);
}

#[test]
fn parts_of_audio_are_put_together_at_the_rate_they_name() {
    let mut bench = ready(opening());
    let part = |rate: &str, bytes: usize| {
        json!({ "inlineData": { "mimeType": format!("audio/pcm{rate}"),
        "data": STANDARD.encode_to_string(vec![0x21; bytes]) } })
    };
    let turn = |parts: Value| content(json!({ "modelTurn": { "parts": parts } }));
    assert_eq!(bench.receive(turn(json!([part(";rate=24000", 961)]))), [Out::Play(160)]);
    let two = json!([part("", 958), { "text": "x" }, null, part("", 960), { "inlineData": null }]);
    assert_eq!(bench.receive(turn(two)), [Out::Play(319)], "five bytes wait");
    assert_eq!(bench.receive(turn(json!([part("", 3)]))), [Out::Play(1)]);
    assert_eq!(bench.receive(turn(json!([part("; rate=16000", 640)]))), [Out::Play(160)]);
    assert_eq!(bench.receive(turn(json!([part(";rate=11025", 640)]))), [], "no whole samples in a tick");
    assert_eq!(bench.receive(turn(json!([{ "inlineData": { "mimeType": "image/png", "data": "AAAA" } }]))), []);
    assert_eq!(bench.receive(turn(json!([]))), []);
}

#[test]
fn what_both_say_is_told_turn_by_turn_and_of_an_interrupted_agent_only_what_was_heard() {
    let mut bench = ready(opening());
    bench.receive(content(json!({ "inputTranscription": { "text": "When do " } })));
    bench.receive(content(json!({ "inputTranscription": { "text": "you open?" } })));
    let mut first = audio(800);
    first["serverContent"]["outputTranscription"] = json!({ "text": "At " });
    assert_eq!(bench.receive(first), [Out::Play(800)]);
    bench.receive(content(json!({ "outputTranscription": { "text": "nine.", "finished": true } })));
    let told = bench.receive(content(json!({ "generationComplete": true })));
    assert_eq!(told, [said(Speaker::Caller, "When do you open?")]);
    bench.receive(content(json!({ "turnComplete": true })));
    assert_eq!(bench.play(800), [said(Speaker::Agent, "At nine.")]);

    bench.receive(content(json!({ "inputTranscription": { "text": "And when do you close?", "finished": true } })));
    bench.receive(audio(8000));
    bench.receive(content(json!({ "outputTranscription": { "text": "one two three four five" } })));
    bench.play(4000);
    let mut interrupted = audio(160);
    interrupted["serverContent"]["interrupted"] = json!(true);
    interrupted["serverContent"]["inputTranscription"] = json!({ "text": "St" });
    assert_eq!(bench.receive(interrupted), [Out::Clear]);
    assert_eq!(bench.receive(audio(160)), [], "late audio of the same turn");
    let told = bench.receive(content(json!({ "turnComplete": true })));
    assert_eq!(told, [said(Speaker::Agent, "one two")], "the caller is still speaking");
    bench.receive(content(json!({ "inputTranscription": { "text": "op." } })));
    assert_eq!(bench.receive(audio(160)), [Out::Play(160)], "the next turn is heard");
    let told = bench.receive(content(json!({ "turnComplete": true })));
    assert_eq!(told, [said(Speaker::Caller, "Stop.")]);
}

#[test]
fn an_interrupted_turn_that_is_never_said_to_be_over_mutes_nobody() {
    let mut bench = ready(opening());
    bench.receive(audio(800));
    assert_eq!(bench.receive(content(json!({ "interrupted": true }))), [Out::Clear]);
    assert_eq!(bench.receive(audio(160)), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.receive(audio(160)), [Out::Play(160)]);
    bench.play(160);
    assert_eq!(bench.receive(content(json!({ "interrupted": true }))), [], "nothing is queued");
}

#[test]
fn keys_and_functions_and_the_end_and_what_is_unknown() {
    let mut bench = ready(Opening { first_speaker: FirstSpeaker::Caller, ..opening() });
    bench.press("9");
    bench.wait(QUIET);
    assert_eq!(bench.sent(), [json!({ "realtimeInput": { "text": "The caller pressed 9" } })]);
    bench
        .receive(json!({ "toolCall": { "functionCalls": [{ "id": "f1", "name": "x", "args": {} }, { "id": null }] } }));
    let response: Value = serde_json::from_str(NO_SUCH_FUNCTION).expect("JSON");
    let answers = [json!({ "id": "f1", "name": "x", "response": response })];
    assert_eq!(bench.sent(), [json!({ "toolResponse": { "functionResponses": answers } })]);
    for event in [
        json!({}),
        json!([]),
        json!({ "setupComplete": null, "serverContent": null, "toolCall": null, "goAway": null }),
        json!({ "usageMetadata": { "totalTokenCount": 7 } }),
        json!({ "toolCall": { "functionCalls": null } }),
        content(json!({ "modelTurn": null, "interrupted": null, "inputTranscription": null })),
        content(json!({ "modelTurn": { "parts": null }, "outputTranscription": { "text": null } })),
        content(json!({ "modelTurn": { "parts": 7 } })),
        content(json!({ "modelTurn": { "parts": [{ "inlineData": { "mimeType": null, "data": "!" } }] } })),
    ] {
        assert_eq!(bench.receive(event.clone()), [], "{event}");
    }
    assert_eq!(bench.sent(), NOTHING);
    bench.receive(json!({ "goAway": { "timeLeft": "10s" } }));
    assert!(bench.agent.is_ready(), "until then it talks");
    assert_eq!(bench.receive_frame(0x88, &1000u16.to_be_bytes()), [Out::Lost(AgentLoss::Expired)]);
    assert_eq!(ready(opening()).receive_frame(0x82, &[0xff]), [Out::Lost(AgentLoss::NotJson)]);
    assert_eq!(ready(opening()).receive_frame(0x81, b"x"), [Out::Lost(AgentLoss::NotJson)]);
    let mut bench = ready(opening());
    bench.agent.handle_disconnect();
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
}

fn route(model: &str) -> ProviderRoute {
    ProviderRoute::new(ProviderKind::Gemini, "wss://generativelanguage.googleapis.com", model)
}

fn ready(opening: Opening) -> Bench {
    let mut bench = Bench::new(&route("m"), opening, Codec::Pcmu);
    bench.sent();
    assert_eq!(bench.receive(json!({ "setupComplete": {} })), [Out::Ready]);
    bench
}

fn content(content: Value) -> Value {
    json!({ "serverContent": content })
}

/// So many ticks of speech at 24 kHz.
fn audio(ticks: usize) -> Value {
    let data = STANDARD.encode_to_string(vec![0x21; 6 * ticks]);
    content(
        json!({ "modelTurn": { "parts": [{ "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": data } }] } }),
    )
}
