//! What has been said in a call, as the model is told of it: of an interrupted answer no more than was heard.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::chat::FunctionCall;
use crate::agent::tools::{Function, Tools};

/// What was said. It is personal: nothing of it has a `Debug`.
#[derive(Default)]
pub(super) struct History {
    messages: VecDeque<Message>,
    bytes: usize,
}

pub(super) enum Message {
    /// The caller's words, or what they did.
    Caller(String),
    /// What the caller heard of the agent.
    Agent(String),
    /// Functions that the agent has called, behind what it had said, with their answers.
    Called(String, Vec<Answered>),
}

/// A call of a function, with its answer.
#[derive(Clone)]
pub(super) struct Answered {
    pub(super) call: FunctionCall,
    pub(super) answer: String,
}

impl History {
    /// Adds what the caller has said; it goes on where nobody has answered.
    pub(super) fn push_caller(&mut self, text: &str) {
        match self.messages.back_mut() {
            Some(Message::Caller(said)) => {
                said.push(' ');
                said.push_str(text);
                self.bytes += text.len() + 1;
                self.forget_oldest();
            }
            _ => self.push(Message::Caller(text.to_owned())),
        }
    }

    /// Adds what has become of an answer; it goes on where it was cut off.
    pub(super) fn extend(&mut self, messages: Vec<Message>) {
        for message in messages {
            match (message, self.messages.back_mut()) {
                (Message::Agent(more), Some(Message::Agent(said))) => {
                    self.bytes += more.len() + 1;
                    said.push(' ');
                    said.push_str(&more);
                }
                (message, _) => self.push(message),
            }
        }
    }

    /// Whether the caller's words, or the answers to functions, wait for the agent's.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.messages.back(), Some(Message::Caller(_) | Message::Called(..)))
    }

    /// What has become of a call that was answered before it was known.
    pub(super) fn correct(&mut self, call_id: &str, answer: String) {
        let calls = self.messages.iter_mut().rev().filter_map(|message| match message {
            Message::Called(_, calls) => Some(calls),
            _ => None,
        });
        if let Some(answered) = calls.flatten().find(|answered| answered.call.id == call_id) {
            self.bytes = (self.bytes + answer.len()).saturating_sub(answered.answer.len());
            answered.answer = answer;
        }
    }

    fn push(&mut self, message: Message) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
        self.forget_oldest();
    }

    /// What the model no longer needs to know: whole turns, so that what is left begins with the caller's words.
    fn forget_oldest(&mut self) {
        while self.bytes > HISTORY_BYTES_MAX && self.messages.len() > 1 {
            loop {
                let Some(oldest) = self.messages.pop_front() else { return };
                self.bytes -= oldest.bytes();
                if !matches!(self.messages.front(), Some(Message::Agent(_) | Message::Called(..))) {
                    break;
                }
            }
        }
    }

    /// The request for the next answer: what was said, then `said` of the caller and `behind` of the answer that is in
    /// the works.
    pub(super) fn request(
        &self,
        model: &str,
        instructions: &str,
        tools: &Tools,
        said: Option<&str>,
        behind: &[Message],
    ) -> Value {
        let mut messages = Vec::with_capacity(self.messages.len() + 3);
        if !instructions.is_empty() {
            messages.push(json!({ "role": "system", "content": instructions }));
        }
        self.messages.iter().for_each(|message| message.write(&mut messages));
        match (said, messages.last_mut()) {
            (None, _) => {}
            // Who goes on before they were answered has said one thing.
            (Some(said), Some(last)) if last["role"] == "user" => {
                let whole = format!("{} {said}", last["content"].as_str().unwrap_or_default());
                last["content"] = json!(whole);
            }
            (Some(said), _) => messages.push(json!({ "role": "user", "content": said })),
        }
        behind.iter().for_each(|message| message.write(&mut messages));
        let mut request = json!({ "model": model, "stream": true, "messages": messages });
        let function = |Function { name, description, parameters }| {
            json!({ "type": "function",
                    "function": { "name": name, "description": description, "parameters": parameters } })
        };
        let functions: Vec<Value> = tools.functions().map(function).collect();
        // An empty list is refused.
        if !functions.is_empty() {
            request["tools"] = Value::Array(functions);
        }
        request
    }
}

impl Message {
    fn bytes(&self) -> usize {
        let called = |answered: &Answered| answered.call.arguments.len() + answered.answer.len();
        match self {
            Message::Caller(text) | Message::Agent(text) => text.len(),
            Message::Called(text, calls) => text.len() + calls.iter().map(called).sum::<usize>(),
        }
    }

    fn write(&self, messages: &mut Vec<Value>) {
        match self {
            Message::Caller(text) => messages.push(json!({ "role": "user", "content": text })),
            Message::Agent(text) => messages.push(json!({ "role": "assistant", "content": text })),
            Message::Called(text, calls) => {
                let called = |Answered { call, .. }: &Answered| {
                    json!({ "id": call.id, "type": "function",
                            "function": { "name": call.name, "arguments": call.arguments } })
                };
                let content = Some(text).filter(|text| !text.is_empty());
                let calls_made: Vec<Value> = calls.iter().map(called).collect();
                messages.push(json!({ "role": "assistant", "content": content, "tool_calls": calls_made }));
                messages.extend(calls.iter().map(
                    |Answered { call, answer }| json!({ "role": "tool", "tool_call_id": call.id, "content": answer }),
                ));
            }
        }
    }
}

/// 256 KiB: four hours of talk. The oldest turns are forgotten beyond that, and the model with them.
const HISTORY_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use talkstack_control::port::AgentTool;

    use super::*;

    #[test]
    fn a_request_has_who_said_what_and_what_was_done() {
        let mut history = History::default();
        history.push_caller("One");
        history.push_caller("two.");
        let call = FunctionCall { id: "a".into(), name: "send_dtmf".into(), arguments: r#"{"digits":"1"}"#.into() };
        let answered = Answered { call, answer: "{}".into() };
        history.extend(vec![Message::Called(String::new(), vec![answered]), Message::Agent("Done.".into())]);
        history.push_caller("Thanks,");
        let behind = [Message::Agent("Yes.".into())];
        let request = history.request(
            "m",
            "Be kind.",
            &Tools { list: vec![AgentTool::EndCall], ..Tools::default() },
            Some("bye."),
            &behind,
        );
        assert_eq!((&request["model"], &request["stream"]), (&json!("m"), &json!(true)));
        assert_eq!(
            request["messages"],
            json!([
                { "role": "system", "content": "Be kind." },
                { "role": "user", "content": "One two." },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "a", "type": "function",
                  "function": { "name": "send_dtmf", "arguments": "{\"digits\":\"1\"}" } }] },
                { "role": "tool", "tool_call_id": "a", "content": "{}" },
                { "role": "assistant", "content": "Done." },
                { "role": "user", "content": "Thanks, bye." },
                { "role": "assistant", "content": "Yes." },
            ])
        );
        assert_eq!(request["tools"][0]["function"]["name"], "end_call");
        let bare = History::default().request("m", "", &Tools::default(), Some("Hi."), &[]);
        assert_eq!(bare, json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "Hi." }] }));
    }

    #[test]
    fn the_oldest_turns_are_forgotten_whole() {
        let mut history = History::default();
        let long = "x".repeat(HISTORY_BYTES_MAX / 5);
        for turn in 0..4 {
            history.push_caller(&format!("{turn}{long}"));
            let call = FunctionCall { id: turn.to_string(), name: String::new(), arguments: String::new() };
            let answered = Answered { call, answer: String::new() };
            history.extend(vec![Message::Called(String::new(), vec![answered]), Message::Agent(long.clone())]);
        }
        let request = history.request("m", "", &Tools::default(), None, &[]);
        let roles: Vec<&str> =
            request["messages"].as_array().expect("messages").iter().filter_map(|said| said["role"].as_str()).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user", "assistant", "tool", "assistant"]);
        assert!(history.bytes <= HISTORY_BYTES_MAX && !history.is_unanswered());
        history.push_caller(&"y".repeat(2 * HISTORY_BYTES_MAX));
        assert_eq!(history.messages.len(), 1, "what was said last stays");
    }
}
