use talkstack_media::audio::frame::SampleRate;

use super::*;

#[test]
fn the_session_is_described_after_the_welcome_and_no_audio_goes_out_before_it_is_set_up() {
    let mut bench = Bench::new(&route(), greeting("Hi John!"), Codec::Pcmu);
    bench.speak(2);
    assert_eq!(bench.sent(), NOTHING);
    assert_eq!(bench.receive(json!({ "type": "SettingsApplied" })), [], "of what?");
    assert_eq!(bench.receive(json!({ "type": "Welcome", "request_id": null })), []);
    let form = json!({ "encoding": "mulaw", "sample_rate": 8000 });
    let mut out = form.clone();
    out["container"] = json!("none");
    let agent = json!({
        "listen": { "provider": { "type": "deepgram", "version": "v1", "model": "nova-3" } },
        "think": { "provider": { "type": "open_ai", "model": "gpt-4o-mini" }, "prompt": "Be kind to John." },
        "speak": { "provider": { "type": "deepgram", "model": "aura-2-thalia-en" } },
        "greeting": "Hi John!",
    });
    let settings = json!({ "type": "Settings", "audio": { "input": form, "output": out }, "agent": agent });
    assert_eq!(bench.sent(), [settings]);
    bench.speak(2);
    assert_eq!(bench.receive(json!({ "type": "Welcome" })), [], "once is enough");
    assert_eq!(bench.sent(), NOTHING);
    assert!(!bench.agent.is_ready());
    assert_eq!(bench.receive(json!({ "type": "SettingsApplied" })), [Out::Ready]);
    assert_eq!(bench.receive(json!({ "type": "SettingsApplied" })), []);
    bench.speak(2);
    assert_eq!(bench.sent(), [json!(160), json!(160)], "binary, as the line has it; the greeting is in the settings");
}

#[test]
fn what_the_owner_sets_goes_along_and_a_wideband_line_is_linear_at_16_khz() {
    let mut route = ProviderRoute::new(ProviderKind::Deepgram, "wss://agent.deepgram.com", "anthropic/claude/x");
    route.settings.language = Some("de".into());
    route.settings.listen_model = Some("nova-2".into());
    route.settings.speak_model = Some("aura-2-julius-de".into());
    let settings = |route: &ProviderRoute, opening: Opening, codec| {
        let mut bench = Bench::new(route, opening, codec);
        bench.receive(json!({ "type": "Welcome" }));
        bench.sent().remove(0)
    };
    let told = settings(&route, Opening { first_speaker: FirstSpeaker::Caller, ..greeting("Hi!") }, Codec::Opus);
    assert_eq!(told["audio"]["input"], json!({ "encoding": "linear16", "sample_rate": 16_000 }));
    let agent = json!({
        "language": "de",
        "listen": { "provider": { "type": "deepgram", "version": "v1", "model": "nova-2", "language": "de" } },
        "think": { "provider": { "type": "anthropic", "model": "claude/x" }, "prompt": "Be kind to John." },
        "speak": { "provider": { "type": "deepgram", "model": "aura-2-julius-de" } },
    });
    assert_eq!(told["agent"], agent, "no greeting: the caller speaks first");
    route.settings.listen_model = Some("flux-general-multi".into());
    let told = settings(&route, Opening { voice: Some("aura-2-luna-en".into()), ..opening() }, Codec::Pcma);
    let listen =
        json!({ "type": "deepgram", "version": "v2", "model": "flux-general-multi", "language_hints": ["de"] });
    assert_eq!(told["agent"]["listen"]["provider"], listen);
    assert_eq!(told["agent"]["speak"]["provider"]["model"], "aura-2-luna-en", "the agent's own voice");
    assert_eq!(told["audio"]["output"]["encoding"], "alaw");
    route.settings.agent = Some("stored".into());
    assert_eq!(settings(&route, greeting("Hi!"), Codec::Pcmu)["agent"], json!("stored"));

    let mut bench = Bench::new(&route, opening(), Codec::Opus);
    bench.receive(json!({ "type": "Welcome" }));
    bench.receive(json!({ "type": "SettingsApplied" }));
    bench.sent();
    bench.agent.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 320]));
    assert_eq!(bench.sent(), [json!(640)], "a stored agent greets by itself");
    assert_eq!(bench.receive_frame(0x82, &[1; 7]), [Out::Play(1)], "what is begun waits");
    assert_eq!(bench.receive_frame(0x82, &[1; 1]), [Out::Play(1)]);
}

#[test]
fn an_agent_that_is_told_when_to_greet_does_so_once_unless_the_caller_has_spoken() {
    let waiting = |opening| Opening { greets: Greets::WhenTold, ..opening };
    let mut bench = ready(waiting(greeting("Hi John!")));
    assert_eq!(bench.sent()[0]["agent"]["greeting"], Value::Null);
    bench.agent.greet();
    bench.agent.greet();
    assert_eq!(bench.sent(), [json!({ "type": "InjectAgentMessage", "message": "Hi John!" })]);
    let mut bench = ready(waiting(greeting("Hi John!")));
    bench.sent();
    bench.receive(json!({ "type": "UserStartedSpeaking" }));
    bench.agent.greet();
    assert_eq!(bench.sent(), NOTHING);
    let mut bench = ready(opening());
    assert_eq!(bench.sent()[1..], [json!({ "type": "InjectUserMessage", "content": GREET_NOW })]);
    assert_eq!(bench.receive(text("user", GREET_NOW)), [], "these are not the caller's words");
}

#[test]
fn what_both_say_is_told_in_order_and_of_an_interrupted_agent_only_what_was_heard() {
    let mut bench = ready(greeting("Hi"));
    bench.sent();
    bench.receive(text("assistant", "Hello there."));
    bench.receive(text("assistant", "How may I help?"));
    assert_eq!(bench.receive_frame(0x82, &[0x21; 8000]), [Out::Play(8000)]);
    bench.receive(json!({ "type": "AgentAudioDone" }));
    assert_eq!(bench.play(8000), [said(Speaker::Agent, "Hello there. How may I help?")]);

    assert_eq!(bench.receive(json!({ "type": "UserStartedSpeaking" })), [], "nothing is queued");
    assert_eq!(bench.receive(text("user", " When do you open? ")), [said(Speaker::Caller, "When do you open?")]);
    bench.receive(text("assistant", "one two three four five"));
    bench.receive_frame(0x82, &[0x21; 4000]);
    bench.play(2000);
    let heard = bench.receive(json!({ "type": "UserStartedSpeaking" }));
    assert_eq!(heard, [Out::Clear, said(Speaker::Agent, "one two")]);
    assert_eq!(bench.receive_frame(0x82, &[0x21; 160]), [], "late audio of what was interrupted");
    assert_eq!(bench.receive(json!({ "type": "AgentAudioDone" })), []);
    assert_eq!(bench.receive(text("user", "Stop.")), [said(Speaker::Caller, "Stop.")]);
    bench.receive(text("assistant", "Sorry."));
    assert_eq!(bench.receive_frame(0x82, &[0x21; 160]), [Out::Play(160)], "the next turn is heard");
    let last = bench.agent.poll_last_words(bench.progress);
    assert_eq!(last, None, "not a tick of it was heard");
}

#[test]
fn what_the_box_has_cut_off_is_not_heard_of_again_and_the_next_turn_is() {
    let mut bench = ready(opening());
    assert_eq!(bench.receive_frame(0x82, &[1; 800]), [Out::Play(800)]);
    bench.play(240);
    bench.agent.handle_interrupted(bench.progress, bench.now);
    bench.progress.played = bench.progress.pushed;
    assert_eq!(bench.receive_frame(0x82, &[1; 800]), [], "the rest of it");
    bench.receive(json!({ "type": "AgentAudioDone" }));
    assert_eq!(bench.receive_frame(0x82, &[1; 80]), [Out::Play(80)]);
}

#[test]
fn an_interruption_behind_the_last_audio_clears_what_is_queued_and_blocks_nothing() {
    let mut bench = ready(greeting("Hi"));
    bench.receive(text("assistant", "one two three four"));
    bench.receive_frame(0x82, &[0x21; 8000]);
    bench.receive(json!({ "type": "AgentAudioDone" }));
    bench.play(4000);
    let heard = bench.receive(json!({ "type": "UserStartedSpeaking" }));
    assert_eq!(heard, [Out::Clear, said(Speaker::Agent, "one two")]);
    assert_eq!(bench.receive_frame(0x82, &[0x21; 160]), [Out::Play(160)]);
    // A cough has no words: what the caller says later is told after what the agent said meanwhile.
    bench.receive(text("assistant", "Go on."));
    bench.receive(json!({ "type": "AgentAudioDone" }));
    bench.play(160);
    assert_eq!(bench.receive(json!({ "type": "UserStartedSpeaking" })), [said(Speaker::Agent, "Go on.")]);
    assert_eq!(bench.receive(text("user", "Yes.")), [said(Speaker::Caller, "Yes.")]);
}

#[test]
fn keys_are_told_after_a_pause_and_functions_that_are_ours_are_answered() {
    let mut bench = ready(greeting("Hi"));
    bench.sent();
    bench.press("5#");
    bench.wait(QUIET / 2);
    assert_eq!(bench.sent(), NOTHING);
    assert_eq!(bench.agent.poll_timeout(), Some(bench.now + QUIET / 2));
    bench.wait(QUIET / 2);
    assert_eq!(bench.sent(), [json!({ "type": "InjectUserMessage", "content": "The caller pressed 5#" })]);
    assert_eq!(bench.receive(text("user", "The caller pressed 5#")), []);
    bench.receive(json!({ "type": "FunctionCallRequest", "functions": [
        { "id": "1", "name": "theirs", "arguments": "{}", "client_side": false },
        { "id": "2", "name": "ours", "arguments": "{}", "client_side": true },
        { "id": null, "name": null, "client_side": null },
    ] }));
    let answer = json!({ "type": "FunctionCallResponse", "id": "2", "name": "ours", "content": NO_SUCH_FUNCTION });
    assert_eq!(bench.sent(), [answer]);
    let many = (0..1000).map(|id| json!({ "id": format!("c{id}"), "name": "x", "client_side": true }));
    let many: Vec<Value> = many.collect();
    bench.receive(json!({ "type": "FunctionCallRequest", "functions": many }));
    assert_eq!(bench.sent().len(), 64, "what is beyond that gets no answer");
}

#[test]
fn nulls_and_the_unknown_are_ignored_and_errors_garbage_and_the_end_are_losses() {
    let mut bench = ready(greeting("Hi"));
    for event in [
        json!({ "type": null }),
        json!({ "type": "Weather", "content": 7 }),
        json!({ "type": "ConversationText", "role": null, "content": null }),
        json!({ "type": "FunctionCallRequest", "functions": null }),
        json!({ "type": "FunctionCallRequest", "functions": 7 }),
        json!({ "type": "Warning", "code": null, "description": "x" }),
        json!({ "type": "InjectionRefused", "message": "x" }),
        json!([]),
    ] {
        assert_eq!(bench.receive(event.clone()), [], "{event}");
    }
    assert_eq!(bench.receive_frame(0x82, &[]), []);
    assert_eq!(bench.receive(json!({ "type": "Error", "code": "X" })), [Out::Lost(AgentLoss::Refused)]);
    assert_eq!(bench.receive_frame(0x82, &[1; 160]), [], "nothing is heard from here on");
    let mut bench = ready(greeting("Hi"));
    assert_eq!(bench.receive_frame(0x81, b"not JSON"), [Out::Lost(AgentLoss::NotJson)]);
    let mut bench = ready(greeting("Hi"));
    bench.agent.handle_disconnect();
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
    let mut bench = ready(greeting("Hi"));
    assert_eq!(bench.receive_frame(0x88, &1000u16.to_be_bytes()), [Out::Lost(AgentLoss::Closed)]);
    let mut bench = ready(greeting("Hi"));
    bench.speak(2000);
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Stalled)]);
    let mut bench = ready(greeting("Hi"));
    let turns: Vec<u8> = (0..1000).flat_map(|_| server_frame(0x81, text("user", "").to_string().as_bytes())).collect();
    bench.agent.handle_bytes(&turns);
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Flood)]);
}

#[test]
fn what_was_said_and_pressed_is_in_no_debug_text() {
    let mut bench = ready(greeting("Hi"));
    bench.receive(text("user", "secret"));
    bench.press("7");
    let shown = format!("{:?}", bench.agent);
    assert!(!shown.contains("secret") && !shown.contains('7') && !shown.contains("kind"), "{shown}");
}

fn route() -> ProviderRoute {
    ProviderRoute::new(ProviderKind::Deepgram, "wss://agent.deepgram.com", "open_ai/gpt-4o-mini")
}

fn ready(opening: Opening) -> Bench {
    let mut bench = Bench::new(&route(), opening, Codec::Pcmu);
    bench.receive(json!({ "type": "Welcome" }));
    assert_eq!(bench.receive(json!({ "type": "SettingsApplied" })), [Out::Ready]);
    bench
}

fn text(role: &str, content: &str) -> Value {
    json!({ "type": "ConversationText", "role": role, "content": content })
}
