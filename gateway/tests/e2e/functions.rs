//! Functions of agents that do more than speak: web services asked, messages taken down, keys collected.

use serde_json::{Value, json};
use talkstack_control::port::{AgentTool, CallEvent, HttpMethod, HttpTool, TakenMessage};
use talkstack_control::secret::TOOL_HEADER_PURPOSE;

use crate::agents::{Bench, NUMBER, SILENCE};
use crate::hooks::Receiver;
use crate::rtp_phone::RtpPhone;

#[test]
fn a_web_service_carries_out_a_function_with_its_secret_and_the_model_is_told_what_it_says() {
    let receiver = Receiver::bind();
    let open = receiver.port.to_string();
    let mut bench = booking(receiver.port, &[("TALKSTACK__OUTBOUND__LOOPBACK_PORTS", &open)]);
    let hooks = receiver.answering_with("200 OK", r#"{"booked":7}"#);
    let told = bench.told_of("call_1");
    assert_eq!(told, json!({ "booked": 7 }));
    let [asked] = hooks.all().try_into().ok().expect("one request");
    assert!(asked.head.starts_with("PUT /rooms/1%2F2?from="), "{}", asked.head);
    assert_eq!(asked.header("authorization"), "Bearer of the hotel");
    let body = asked.json();
    assert!(body["call"].as_str().is_some_and(|id| id.starts_with("CA") && id.len() == 34), "{body}");
    assert_eq!(body["room"], "1/2");
    bench.bench.server.has_no_complaint();
    hooks.stop();
}

#[test]
fn no_function_reaches_this_machine_unless_the_operator_has_opened_the_port() {
    let receiver = Receiver::bind();
    let mut bench = booking(receiver.port, &[]);
    let hooks = receiver.answering("200 OK");
    assert_eq!(bench.told_of("call_1"), json!({ "error": "The service cannot be reached." }));
    assert!(hooks.all().is_empty());
    hooks.stop();
}

#[test]
fn a_message_is_taken_down_and_who_wants_no_more_calls_is_noted() {
    let arguments = r#"{"text":"Call me back.","name":"Ann"}"#;
    let mut bench = Calling::start("take_message", arguments, &[], |_| {});
    assert_eq!(bench.told_of("call_1"), json!({ "result": "The message has been taken down." }));
    let taken = bench.bench.control.wait_for_event(|event| match event {
        CallEvent::MessageTaken(message) => Some(message),
        _ => None,
    });
    assert_eq!(taken, TakenMessage { name: Some("Ann".into()), number: None, text: "Call me back.".into() });
    let mut bench = Calling::start("add_to_dnc", "{}", &[], |_| {});
    bench.bench.control.wait_for_event(|event| matches!(event, CallEvent::DoNotCall).then_some(()));
}

#[test]
fn keys_that_are_secret_are_collected_and_the_model_is_told_only_how_many() {
    let mut bench = Calling::start("collect_secret_digits", r#"{"max_digits":4}"#, &[], |_| {});
    for (number, key) in (2..).zip("4711".chars()) {
        bench.phone.inform(number, "application/dtmf-relay", &format!("Signal={key}\r\nDuration=100\r\n"));
    }
    assert_eq!(bench.told_of("call_1"), json!({ "result": "4 keys were pressed.", "ended_by": "full" }));
    let seen = bench.bench.server.events("received");
    assert!(!seen.iter().any(|event| event.to_string().contains("4711")), "the model never learns them");
}

/// A caller whose agent's model has called a function.
struct Calling {
    bench: Bench,
    phone: RtpPhone,
}

impl Calling {
    fn start(
        function: &str,
        arguments: &str,
        settings: &[(&str, &str)],
        change: impl FnOnce(&mut Vec<HttpTool>),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = ["--scenario", "tool", "--seconds", "0.5", "--call", function, "--arguments", arguments];
        let bench = Bench::of(dir, &flags, "ws", settings, |agent, secret| {
            agent.tools = AgentTool::ALL.into();
            change(&mut agent.http_tools);
            for tool in &mut agent.http_tools {
                let sealed = secret.seal(TOOL_HEADER_PURPOSE, "Bearer of the hotel");
                tool.secret_headers.insert("authorization".into(), sealed);
            }
        });
        let phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
        let mut calling = Calling { bench, phone };
        calling.wait_until(|bench, _| bench.server.events("called").first().cloned());
        calling
    }

    /// What the model was told of a call of a function.
    fn told_of(&mut self, call_id: &str) -> Value {
        let output = self.wait_until(|bench, _| {
            let items = bench.server.received("conversation.item.create");
            items.into_iter().map(|mut event| event["item"].take()).find(|item| item["call_id"] == call_id)
        });
        serde_json::from_str(output["output"].as_str().expect("a text")).expect("JSON")
    }

    /// Says nothing until something has happened.
    fn wait_until<T>(&mut self, look: impl Fn(&Bench, &RtpPhone) -> Option<T>) -> T {
        let found = std::cell::RefCell::new(None);
        self.phone.say_until(SILENCE, |phone| {
            let mut found = found.borrow_mut();
            *found = look(&self.bench, phone);
            found.is_some()
        });
        found.into_inner().expect("it has happened")
    }
}

/// An agent whose model books room 1/2 at a service on this machine.
fn booking(port: u16, settings: &[(&str, &str)]) -> Calling {
    Calling::start("book", r#"{"room":"1/2"}"#, settings, |tools| {
        tools.push(HttpTool {
            name: "book".into(),
            description: "Books a room.".into(),
            parameters: json!({ "type": "object", "required": ["room"], "properties": { "room": { "type": "string" } } }),
            method: HttpMethod::Put,
            url: format!("http://localhost:{port}/rooms/{{{{room}}}}?from={{{{call.from}}}}"),
            headers: Default::default(),
            secret_headers: Default::default(),
            body: Some(json!({ "room": "{{room}}", "call": "{{call.id}}" })),
            timeout_s: 5,
        });
    })
}
