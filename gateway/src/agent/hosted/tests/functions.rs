//! What a model asks for besides speaking, over each of the protocols.

use std::sync::Arc;

use talkstack_control::port::{AgentTool, Blame, EndReason, TakenMessage, TransferTarget};

use super::*;
use crate::agent::tools::tests::http_tool;

#[test]
fn the_functions_are_declared_where_the_protocol_has_a_place_for_them() {
    let [mut deepgram, mut gemini, _] = Kind::ALL.map(Kind::connected);
    deepgram.receive(json!({ "type": "Welcome" }));
    let think = deepgram.sent().remove(0)["agent"]["think"].clone();
    let declared = gemini.sent().remove(0)["setup"]["tools"][0]["functionDeclarations"].clone();
    for functions in [&think["functions"], &declared] {
        let names: Vec<_> = functions.as_array().expect("a list").iter().map(|function| &function["name"]).collect();
        let boxed = AgentTool::ALL.map(AgentTool::as_str);
        assert_eq!(names, [&boxed[..], &["transfer", "book"]].concat());
        assert_eq!(functions[boxed.len()]["parameters"]["properties"]["to"]["enum"], json!(["reception"]));
    }
    assert_eq!(declared[0].get("parameters"), None, "the service takes no object without properties");
    assert_eq!(think["functions"][0].get("endpoint"), None, "they are called here");
}

#[test]
fn what_takes_a_while_is_answered_when_it_is_done_and_a_note_at_once() {
    for kind in Kind::ALL {
        let mut bench = kind.ready();
        assert_eq!(bench.receive(kind.call("c1", "book", json!({ "day": 1 }))), [Out::Run(0)], "{kind:?}");
        assert_eq!(bench.receive(kind.call("c1", "book", json!({ "day": 1 }))), [], "told of twice");
        let taken = TakenMessage { name: None, number: None, text: "Call me.".into() };
        let noted = bench.receive(kind.call("c2", "take_message", json!({ "text": "Call me." })));
        assert_eq!(noted, [Out::Note(Note::Message(taken))]);
        let [answer] = bench.sent().try_into().expect("one answer: that of the note");
        assert!(answer.to_string().contains("taken down"), "{answer}");
        bench.agent.handle_done(0, Done::Fetched(Ok(r#"{"free":[7]}"#.into())));
        let [answer] = bench.sent().try_into().expect("the service's");
        assert!(answer.to_string().contains("free") && answer.to_string().contains("c1"), "{answer}");
        assert_eq!(bench.receive(kind.call("c3", "wait", json!({ "seconds": 5 }))), []);
        bench.now += Duration::from_secs(4);
        bench.agent.handle_timeout(bench.now);
        assert_eq!(bench.sent(), [] as [Value; 0], "{kind:?}");
        bench.now += Duration::from_secs(1);
        assert!(bench.agent.poll_timeout().is_some_and(|due| due <= bench.now));
        bench.agent.handle_timeout(bench.now);
        let [answer] = bench.sent().try_into().expect("the time is over");
        assert!(answer.to_string().contains("has said nothing"), "{answer}");
    }
}

#[test]
fn keys_are_pressed_and_the_call_ends_once_the_goodbye_was_heard() {
    for kind in Kind::ALL {
        let mut bench = kind.ready();
        let digits = json!({ "digits": "1#" });
        assert_eq!(bench.receive(kind.call("c1", "send_dtmf", digits.clone())), [Out::Press('1'), Out::Press('#')]);
        assert_eq!(bench.sent().len(), 1, "{kind:?}");
        assert_eq!(bench.receive(kind.call("c1", "send_dtmf", digits)), [], "told of twice");
        assert_eq!(bench.receive(kind.call("c2", "end_call", json!({}))), []);
        assert_eq!(bench.sent().len(), 1);
        bench.wait(Duration::from_secs(1));
        let (first, payload) = kind.audio();
        assert_eq!(bench.receive_frame(first, &payload), [Out::Play(160)], "{kind:?}: a late goodbye");
        assert_eq!(bench.wait(Duration::from_secs(5)), [], "which is not heard yet");
        bench.play(160);
        assert_eq!(bench.wait(Duration::from_millis(1900)), []);
        let ending = bench.wait(Duration::from_millis(100));
        assert_eq!(ending.last(), Some(&Out::HangUp), "{kind:?}: {ending:?}");
    }
}

#[test]
fn a_caller_is_put_through_and_the_model_is_told_when_nobody_takes_them() {
    for kind in Kind::ALL {
        let mut bench = kind.ready();
        assert_eq!(bench.receive(kind.call("c1", "transfer", json!({ "to": "reception" }))), []);
        assert_eq!(bench.sent(), NOTHING, "{kind:?}: nothing has become of it");
        assert_eq!(bench.wait(Duration::from_secs(2)), [Out::Transfer("101".into())]);
        bench.agent.handle_not_transferred(Outcome::new(Blame::Caller, EndReason::Busy));
        let told = bench.sent().remove(0).to_string();
        assert!(told.contains("c1") && told.contains("The line is busy"), "{kind:?}: {told}");
        assert_eq!(bench.wait(Duration::from_secs(9)), [], "once is enough");
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Deepgram,
    Gemini,
    ElevenLabs,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Deepgram, Kind::Gemini, Kind::ElevenLabs];

    /// An agent with every tool.
    fn connected(self) -> Bench {
        let kind = match self {
            Kind::Deepgram => ProviderKind::Deepgram,
            Kind::Gemini => ProviderKind::Gemini,
            Kind::ElevenLabs => ProviderKind::ElevenLabs,
        };
        let mut route = ProviderRoute::new(kind, "wss://service", "m");
        route.settings.agent = matches!(self, Kind::ElevenLabs).then(|| "a".into());
        let reception = TransferTarget { name: "reception".into(), to: "101".into() };
        let tools =
            Tools { transfers: vec![reception], http: vec![Arc::new(http_tool())], list: AgentTool::ALL.into() };
        let opening = Opening { first_speaker: FirstSpeaker::Caller, tools, ..opening() };
        Bench::new(&route, opening, Codec::Pcmu)
    }

    fn ready(self) -> Bench {
        let mut bench = self.connected();
        for event in match self {
            Kind::Deepgram => vec![json!({ "type": "Welcome" }), json!({ "type": "SettingsApplied" })],
            Kind::Gemini => vec![json!({ "setupComplete": {} })],
            Kind::ElevenLabs => vec![json!({ "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": {
                    "agent_output_audio_format": "ulaw_8000", "user_input_audio_format": "ulaw_8000" } })],
        } {
            bench.receive(event);
        }
        assert!(bench.agent.is_ready(), "{self:?}");
        bench.sent();
        bench
    }

    /// A function is called.
    fn call(self, id: &str, name: &str, arguments: Value) -> Value {
        match self {
            Kind::Deepgram => json!({ "type": "FunctionCallRequest", "functions": [
                { "id": id, "name": name, "arguments": arguments.to_string(), "client_side": true }] }),
            Kind::Gemini => json!({ "toolCall": { "functionCalls": [{ "id": id, "name": name, "args": arguments }] } }),
            Kind::ElevenLabs => json!({ "type": "client_tool_call", "client_tool_call": {
                "tool_name": name, "tool_call_id": id, "parameters": arguments, "event_id": 1 } }),
        }
    }

    /// A frame with 20 ms of audio, and its kind.
    fn audio(self) -> (u8, Vec<u8>) {
        let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
        let text = |event: Value| (0x81, event.to_string().into_bytes());
        match self {
            Kind::Deepgram => (0x82, vec![0x21; 160]),
            Kind::Gemini => {
                let blob = json!({ "mimeType": "audio/pcm;rate=24000", "data": base64(&[0; 960]) });
                text(json!({ "serverContent": { "modelTurn": { "parts": [{ "inlineData": blob }] } } }))
            }
            Kind::ElevenLabs => {
                let audio = json!({ "audio_base_64": base64(&[0x21; 160]), "event_id": 2 });
                text(json!({ "type": "audio", "audio_event": audio }))
            }
        }
    }
}
