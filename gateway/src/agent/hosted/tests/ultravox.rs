use std::sync::Arc;

use talkstack_control::port::{AgentTool, Blame, EndReason, Sealed, TransferTarget};

use super::super::ultravox_call;
use super::*;
use crate::agent::tools::tests::http_tool;
use crate::io::connect::{AgentTarget, WebSocketTarget};

#[test]
fn a_call_is_made_with_all_that_the_owner_has_set_and_no_more() {
    let bare = json!({
        "medium": medium(16_000), "systemPrompt": "Be kind to John.", "firstSpeakerSettings": { "agent": {} } });
    assert_eq!(call(&route(), opening()), bare);
    let mut route = route();
    route.model = "ultravox-v0.7".into();
    route.settings.language = Some("de".into());
    route.settings.sample_rate = Some(8000);
    route.settings.parameters.insert("shop".into(), "7".into());
    let reception = TransferTarget { name: "reception".into(), to: "101".into() };
    let tools = Tools { list: AgentTool::usual(), transfers: vec![reception], ..Tools::default() };
    let made = call(&route, Opening { voice: Some("Mark".into()), tools, ..greeting("Hi John!") });
    for (field, wanted) in [
        ("model", json!("ultravox-v0.7")),
        ("voice", json!("Mark")),
        ("languageHint", json!("de")),
        ("metadata", json!({ "shop": "7" })),
        ("medium", medium(8000)),
        ("firstSpeakerSettings", json!({ "agent": { "text": "Hi John!" } })),
    ] {
        assert_eq!(made[field], wanted);
    }
    let tool = |at: usize| made["selectedTools"][at]["temporaryTool"].clone();
    let names = [0, 1, 2].map(|at| tool(at)["modelToolName"].clone());
    assert_eq!(names, [json!("end_call"), json!("send_dtmf"), json!("transfer")]);
    assert_eq!((&tool(0)["dynamicParameters"], &tool(0)["client"]), (&json!([]), &json!({})), "it is called here");
    let to = &tool(2)["dynamicParameters"][0];
    assert_eq!((&to["name"], &to["location"], &to["required"]), (&json!("to"), &json!(BODY), &json!(true)));
    assert_eq!(to["schema"]["enum"], json!(["reception"]));
}

#[test]
fn who_speaks_first_is_settled_with_the_call_and_a_stored_agent_has_the_rest_itself() {
    let listening = |opening| Opening { first_speaker: FirstSpeaker::Caller, ..opening };
    let waiting = |opening| Opening { greets: Greets::WhenTold, ..opening };
    let first = |route: &ProviderRoute, opening| call(route, opening)["firstSpeakerSettings"].clone();
    assert_eq!(first(&route(), listening(greeting("Hi"))), json!({ "user": {} }));
    assert_eq!(first(&route(), waiting(greeting("Hi"))), json!({ "user": {} }));
    let mut stored = route();
    stored.settings.agent = Some("6c9f".into());
    stored.settings.parameters.insert("shop".into(), "7".into());
    assert_eq!(
        call(&stored, waiting(opening())),
        json!({ "medium": medium(16_000), "templateContext": { "shop": "7" } })
    );
    assert_eq!(first(&stored, greeting("Hi")), json!({ "agent": { "text": "Hi" } }));
    assert_eq!(first(&stored, listening(opening())), json!({ "user": {} }));
}

#[test]
fn the_address_is_asked_for_with_the_call_as_it_is_by_then() {
    let mut route = route();
    route.api_key = Some(Sealed("k".into()));
    let mut plan = ServicePlan::new(&route, greeting("Hi")).expect("an address");
    plan.opening.greets = Greets::WhenTold;
    let AgentTarget::WebSocket(WebSocketTarget { ask: Some(ask), .. }) = plan.summons() else { panic!("no question") };
    let asked: Value = serde_json::from_str(&ask.body.expect("a body")).expect("JSON");
    assert_eq!(asked["firstSpeakerSettings"], json!({ "user": {} }));
}

#[test]
fn it_is_ready_by_either_of_two_messages_and_hears_linear_audio() {
    for event in [json!({ "type": "call_started", "callId": "x" }), state("idle")] {
        let mut bench = Bench::new(&route(), opening(), Codec::Pcmu);
        bench.speak(1);
        assert_eq!(bench.sent(), NOTHING, "nobody is there");
        assert_eq!(bench.receive(event), [Out::Ready]);
        assert_eq!(bench.receive(state("listening")), [], "once is enough");
        bench.speak(2);
        assert_eq!(bench.sent(), [json!(640), json!(640)], "16 kHz, and no greeting: it was told before");
        assert_eq!(bench.receive_frame(0x82, &[1; 641]), [Out::Play(160)]);
        assert_eq!(bench.receive_frame(0x82, &[1; 3]), [Out::Play(1)], "what is begun waits");
        bench.receive_frame(0x82, &[1; 1]);
        bench.receive(state("speaking"));
        assert_eq!(bench.receive_frame(0x82, &[1; 7]), [Out::Play(1)], "a turn begins with a whole sample");
    }
}

#[test]
fn an_agent_that_is_told_when_to_greet_does_so_once_also_when_it_is_told_early() {
    let waiting = |opening| Opening { greets: Greets::WhenTold, ..opening };
    let forced = json!({ "type": "forced_agent_message", "content": { "text": "Hi John!" } });
    let mut bench = Bench::new(&route(), waiting(greeting("Hi John!")), Codec::Pcmu);
    bench.receive(state("listening"));
    bench.agent.greet();
    bench.agent.greet();
    assert_eq!(bench.sent(), std::slice::from_ref(&forced));
    let mut bench = Bench::new(&route(), waiting(greeting("Hi John!")), Codec::Pcmu);
    bench.agent.greet();
    bench.receive(state("listening"));
    assert_eq!(bench.sent(), [forced], "the service was told to wait");
    let mut bench = Bench::new(&route(), waiting(opening()), Codec::Pcmu);
    bench.receive(state("listening"));
    bench.receive(json!({ "type": "playback_clear_buffer" }));
    bench.agent.greet();
    assert_eq!(bench.sent(), NOTHING, "the caller has spoken");
    let mut bench = Bench::new(&route(), waiting(opening()), Codec::Pcmu);
    bench.receive(state("listening"));
    bench.agent.greet();
    assert_eq!(bench.sent(), [json!({ "type": "user_text_message", "text": GREET_NOW })]);
    assert_eq!(bench.receive(user("text", GREET_NOW)), [], "these are not the caller's words");
}

#[test]
fn what_both_say_is_told_in_order_and_of_an_interrupted_agent_only_what_was_heard() {
    let mut bench = ready();
    bench.receive(state("speaking"));
    bench.receive(delta(1, "Hello there. "));
    bench.receive(delta(1, "How may I help?"));
    assert_eq!(bench.receive_frame(0x82, &[0; 32_000]), [Out::Play(8000)]);
    bench.receive(whole(1, "Hello there. How may I help?"));
    bench.receive(state("listening"));
    assert_eq!(bench.play(8000), [said(Speaker::Agent, "Hello there. How may I help?")]);
    assert_eq!(bench.receive(user("voice", "When do you open?")), [said(Speaker::Caller, "When do you open?")]);
    // Whole so far, without pieces.
    bench.receive(state("speaking"));
    bench.receive(whole(3, "one two"));
    bench.receive(whole(3, "one two three four five"));
    bench.receive_frame(0x82, &[0; 16_000]);
    bench.play(2000);
    let heard = bench.receive(json!({ "type": "playback_clear_buffer" }));
    assert_eq!(heard, [Out::Clear, said(Speaker::Agent, "one two")]);
    assert_eq!(bench.receive(whole(3, "one two")), [], "told before");
    bench.receive(state("listening"));
    assert_eq!(bench.receive(user("voice", "Stop.")), [said(Speaker::Caller, "Stop.")]);
    bench.receive(state("speaking"));
    bench.receive(delta(5, "Sorry."));
    assert_eq!(bench.receive_frame(0x82, &[0; 640]), [Out::Play(160)], "the next turn is heard");
    bench.receive(state("listening"));
    assert_eq!(bench.play(160), [said(Speaker::Agent, "Sorry.")]);
    assert_eq!(bench.receive(json!({ "type": "playback_clear_buffer" })), [], "nothing is queued");
}

#[test]
fn keys_are_told_in_one_sentence() {
    let mut bench = ready();
    bench.press("42");
    bench.wait(QUIET);
    assert_eq!(bench.sent(), [json!({ "type": "user_text_message", "text": "The caller pressed 42" })]);
    assert_eq!(bench.receive(user("text", "The caller pressed 42")), []);
}

#[test]
fn functions_are_answered_at_once_since_nobody_is_listened_to_meanwhile() {
    let mut bench = ready();
    let pressed = bench.receive(invocation("c1", "send_dtmf", json!({ "digits": "1#" })));
    assert_eq!(pressed, [Out::Press('1'), Out::Press('#')]);
    let answer = bench.sent().remove(0);
    assert_eq!((&answer["type"], &answer["invocationId"]), (&json!("client_tool_result"), &json!("c1")));
    assert!(answer["result"].is_string() && answer["agentReaction"].is_null(), "{answer}");

    assert_eq!(bench.receive(invocation("c2", "transfer", json!({ "to": "reception" }))), []);
    let answer = bench.sent().remove(0);
    assert_eq!((&answer["invocationId"], &answer["agentReaction"]), (&json!("c2"), &json!("speaks-once")));
    assert_eq!(bench.wait(Duration::from_secs(2)), [Out::Transfer("101".into())]);
    bench.agent.handle_not_transferred(Outcome::new(Blame::Caller, EndReason::Busy));
    let told = bench.sent().remove(0);
    assert_eq!(told["type"], "user_text_message");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("The line is busy")), "{told}");

    assert_eq!(bench.receive(invocation("c3", "end_call", Value::Null)), []);
    assert_eq!(bench.sent().remove(0)["agentReaction"], "speaks-once", "no second goodbye");
    assert_eq!(bench.receive_frame(0x82, &[0; 640]), [Out::Play(160)], "a late goodbye");
    assert_eq!(bench.wait(Duration::from_secs(5)), []);
    bench.play(160);
    assert_eq!(bench.wait(Duration::from_secs(2)), [Out::HangUp]);
    let mut bench = ready();
    bench.receive(invocation("c4", "book_table", json!({})));
    assert_eq!(
        bench.sent(),
        [json!({ "type": "client_tool_result", "invocationId": "c4", "result": NO_SUCH_FUNCTION })]
    );
}

#[test]
fn what_takes_a_while_is_answered_at_once_and_told_as_a_text_when_it_is_done() {
    let mut bench = ready();
    assert_eq!(bench.receive(invocation("c1", "book", json!({}))), [Out::Run(0)]);
    let [answer] = bench.sent().try_into().expect("at once");
    assert_eq!((&answer["type"], &answer["invocationId"]), (&json!("client_tool_result"), &json!("c1")));
    bench.agent.handle_done(0, Done::Fetched(Ok(r#"{"room":7}"#.into())));
    assert_eq!(bench.sent(), [json!({ "type": "user_text_message", "text": r#"(book: {"room":7})"# })]);
}

#[test]
fn what_is_of_another_shape_is_ignored_and_what_is_no_json_is_a_loss() {
    let mut bench = ready();
    for event in [
        json!({}),
        json!(null),
        json!([]),
        json!({ "type": null, "state": null }),
        json!({ "type": ["state"] }),
        json!({ "type": "transcript", "role": null, "text": null, "delta": null, "final": null, "ordinal": null }),
        json!({ "type": "transcript", "role": "agent", "text": 7 }),
        json!({ "type": "client_tool_invocation", "toolName": null, "invocationId": null, "parameters": null }),
        json!({ "type": "debug", "message": "x" }),
        json!({ "type": "novelty" }),
    ] {
        assert_eq!(bench.receive(event.clone()), [], "{event}");
    }
    assert_eq!(bench.receive_frame(0x82, &[]), []);
    assert_eq!(bench.sent(), NOTHING);
    assert_eq!(bench.receive_frame(0x81, b"x"), [Out::Lost(AgentLoss::NotJson)]);
    let mut bench = ready();
    bench.agent.handle_disconnect();
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
}

fn route() -> ProviderRoute {
    ProviderRoute::new(ProviderKind::Ultravox, "https://api.ultravox.ai", "")
}

fn call(route: &ProviderRoute, opening: Opening) -> Value {
    ultravox_call(&ServicePlan::new(route, opening).expect("an address"))
}

/// An agent with every tool.
fn ready() -> Bench {
    let reception = TransferTarget { name: "reception".into(), to: "101".into() };
    let tools = Tools { list: AgentTool::usual(), transfers: vec![reception], http: vec![Arc::new(http_tool())] };
    let mut bench = Bench::new(&route(), Opening { tools, ..opening() }, Codec::Pcmu);
    assert_eq!(bench.receive(state("listening")), [Out::Ready]);
    bench
}

fn medium(rate: u32) -> Value {
    json!({ "serverWebSocket": { "inputSampleRate": rate, "outputSampleRate": rate, "clientBufferSizeMs": 30_000 } })
}

fn state(state: &str) -> Value {
    json!({ "type": "state", "state": state })
}

fn delta(ordinal: u32, delta: &str) -> Value {
    json!({ "type": "transcript", "role": "agent", "medium": "voice", "delta": delta, "final": false,
            "ordinal": ordinal })
}

fn whole(ordinal: u32, text: &str) -> Value {
    json!({ "type": "transcript", "role": "agent", "medium": "voice", "text": text, "final": true, "ordinal": ordinal })
}

fn user(medium: &str, text: &str) -> Value {
    json!({ "type": "transcript", "role": "user", "medium": medium, "text": text, "final": true, "ordinal": 2 })
}

fn invocation(id: &str, name: &str, parameters: Value) -> Value {
    json!({ "type": "client_tool_invocation", "toolName": name, "invocationId": id, "parameters": parameters })
}

const BODY: &str = "PARAMETER_LOCATION_BODY";
