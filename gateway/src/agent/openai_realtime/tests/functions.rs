//! Functions that the model calls.

use std::sync::Arc;

use talkstack_control::port::AgentTool;

use super::*;
use crate::agent::tools::tests::http_tool;

#[test]
fn a_function_that_does_not_exist_is_answered_once_and_the_agent_goes_on_after_its_response() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.sent();
    bench.receive(
        json!({ "type": "response.function_call_arguments.done", "call_id": "c1", "name": "x", "arguments": "{}" }),
    );
    let output = |call: &str| json!({ "type": "conversation.item.create", "item": { "type": "function_call_output", "call_id": call, "output": r#"{"error":"There is no such function."}"# } });
    assert_eq!(bench.sent(), [output("c1")]);
    let calls = json!([{ "type": "function_call", "call_id": "c1" }, { "type": "function_call", "call_id": "c2" }, { "type": null }]);
    bench
        .receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed", "output": calls } }));
    assert_eq!(bench.sent(), [output("c2"), json!({ "type": "response.create" })]);
}

#[test]
fn the_call_ends_once_the_goodbye_has_been_heard_and_not_before() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 8000));
    bench.sent();
    bench.receive(end_call("c1"));
    let sent = bench.sent();
    assert_eq!(
        (sent.len(), &sent[0]["item"]["type"], &sent[0]["item"]["call_id"]),
        (1, &json!("function_call_output"), &json!("c1"))
    );
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed" } }));
    assert_eq!(bench.sent(), [] as [Value; 0], "it has said goodbye, and is not asked for more");
    assert_eq!(bench.play(7999), []);
    assert_eq!(bench.wait(Duration::from_secs(5)), [], "a word is still to be heard");
    assert_eq!(bench.play(1), []);
    assert_eq!(bench.wait(BREATH), [Out::HangUp]);
}

#[test]
fn an_agent_that_ends_the_call_without_a_word_is_asked_for_a_goodbye() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.sent();
    bench.receive(end_call("c1"));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed" } }));
    assert_eq!(bench.kinds_sent(), ["conversation.item.create", "response.create"]);
    assert_eq!(bench.wait(Duration::from_secs(5)), [], "the goodbye is under way");
    bench.begin_response("r2");
    bench.receive(delta("b", 800));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r2", "status": "completed" } }));
    assert_eq!(bench.play(800), []);
    assert_eq!(bench.wait(BREATH), [Out::HangUp]);
}

#[test]
fn who_answers_the_goodbye_is_heard_out() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 800));
    bench.receive(end_call("c1"));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed" } }));
    bench.play(800);
    bench.receive(speech_started("u"));
    assert_eq!(bench.wait(Duration::from_secs(20)), []);
}

#[test]
fn keys_are_pressed_in_their_order_and_a_tool_that_was_taken_away_is_none() {
    let press = json!({ "type": "response.function_call_arguments.done", "call_id": "c1", "name": "send_dtmf", "arguments": "{\"digits\":\"12#\"}" });
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.sent();
    assert_eq!(bench.receive(press.clone()), [Out::Press('1'), Out::Press('2'), Out::Press('#')]);
    assert_eq!(bench.receive(press.clone()), [], "told of twice");
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed" } }));
    assert_eq!(bench.kinds_sent(), ["conversation.item.create", "response.create"]);
    let mut bench = Bench::ready(Opening { tools: Tools::default(), ..opening() });
    bench.begin_response("r");
    bench.sent();
    assert_eq!(bench.receive(press), []);
    assert_eq!(bench.receive(end_call("c2")), []);
    let output = |sent: &Value| sent["item"]["output"].as_str().expect("a text").to_owned();
    assert!(bench.sent().iter().all(|sent| output(sent).contains("no such function")));
}

fn end_call(id: &str) -> Value {
    json!({ "type": "response.function_call_arguments.done", "call_id": id, "name": "end_call", "arguments": "{}" })
}

#[test]
fn a_service_s_answer_has_the_agent_go_on_and_a_wait_ends_with_the_caller_s_word() {
    let tools = Tools { list: vec![AgentTool::Wait], http: vec![Arc::new(http_tool())], ..Tools::default() };
    let mut bench = Bench::ready(Opening { tools, ..opening() });
    bench.begin_response("r");
    bench.sent();
    let call = |id: &str, name: &str| json!({ "type": "response.function_call_arguments.done", "call_id": id, "name": name, "arguments": "{}" });
    let done = |id: &str| json!({ "type": "response.done", "response": { "id": id, "status": "completed" } });
    assert_eq!(bench.receive(call("c1", "book")), [Out::Run(0)]);
    bench.receive(done("r"));
    assert_eq!(bench.sent(), [] as [Value; 0], "nothing to go on with");
    bench.agent.handle_done(0, Done::Fetched(Ok(r#"{"booked":true}"#.into())));
    let sent = bench.sent();
    assert_eq!(
        (&sent[0]["item"]["output"], &sent[1]["type"]),
        (&json!(r#"{"booked":true}"#), &json!("response.create"))
    );
    bench.begin_response("r2");
    bench.receive(call("c2", "wait"));
    bench.receive(done("r2"));
    assert_eq!(bench.wait(Duration::from_secs(29)), []);
    assert_eq!(bench.sent(), [] as [Value; 0]);
    bench.receive(json!({ "type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "u" }));
    let [answer] = bench.sent().try_into().expect("the answer, and no response: the server's detector asks for it");
    assert_eq!(answer["item"]["call_id"], "c2");
    assert_eq!(bench.wait(Duration::from_secs(5)), []);
    assert_eq!(bench.sent(), [] as [Value; 0], "once");
}
