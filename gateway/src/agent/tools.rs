//! What an agent can do besides speaking: functions that its model calls, as every provider is told of them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use talkstack_control::port::{
    AgentTool, COLLECT_KEYS_MAX, CollectOrder, EndReason, HttpTool, Outcome, TakenMessage, TransferTarget,
};

use super::errands::{Note, Wanted};

/// What an agent can do besides speaking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// What needs nothing else.
    pub list: Vec<AgentTool>,
    /// What web services carry out.
    pub http: Vec<Arc<HttpTool>>,
    /// Whom it can put the caller through to.
    pub transfers: Vec<TransferTarget>,
}

/// A function as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    /// What it does, for the model.
    pub(super) description: &'a str,
    /// A JSON schema.
    pub(super) parameters: Value,
}

/// What a call of a function asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    /// End the call, once the goodbye has been heard.
    EndCall,
    /// Press these keys.
    Press(String),
    /// Put the caller through to this number, once what has been said was heard. The model is told what became of it when
    /// nothing did.
    Transfer(String),
    /// Note something.
    Note(Note),
    /// Something that takes a while; the model is told what has come of it.
    Later(Wanted),
    /// Nothing that can be done; the model is told why.
    Refused(&'static str),
}

#[derive(Deserialize)]
struct Digits {
    digits: String,
}

#[derive(Deserialize)]
struct Destination {
    to: String,
}

#[derive(Deserialize)]
struct Keys {
    max_digits: Option<u8>,
    finish_key: Option<String>,
}

#[derive(Deserialize)]
struct Silence {
    seconds: Option<f64>,
}

impl Tools {
    /// What an agent has whose owner has said nothing.
    pub fn usual() -> Self {
        Tools { list: AgentTool::usual(), ..Tools::default() }
    }

    /// The functions that a model is told of.
    pub(super) fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        let http = self.http.iter().map(|tool| Function {
            name: &tool.name,
            description: &tool.description,
            parameters: tool.parameters.clone(),
        });
        self.list.iter().map(|tool| function(*tool)).chain(self.transfer()).chain(http)
    }

    fn transfer(&self) -> Option<Function<'_>> {
        let names: Vec<&str> = self.transfers.iter().map(|target| target.name.as_str()).collect();
        (!names.is_empty()).then(|| Function {
            name: TRANSFER,
            description: "Puts the caller through to a person or a department. Say so before you call it; you are told if \
                nobody takes the call, and then talk to the caller again.",
            parameters: json!({ "type": "object", "required": ["to"], "properties": {
                "to": { "type": "string", "enum": names, "description": "Whom to put the caller through to" } } }),
        })
    }

    /// What a call of a function comes to.
    pub(super) fn asked(&self, name: &str, arguments: &str) -> Asked {
        if name == TRANSFER {
            return self.asked_transfer(arguments);
        }
        if let Some(tool) = self.list.iter().find(|tool| tool.as_str() == name) {
            return asked(*tool, arguments);
        }
        let Some(tool) = self.http.iter().find(|tool| tool.name == name) else {
            return Asked::Refused("There is no such function.");
        };
        match arguments_of(arguments) {
            None => Asked::Refused("The arguments must be a JSON object."),
            Some(arguments) if lacks_required(tool, &arguments) => Asked::Refused("A required argument is missing."),
            Some(arguments) => Asked::Later(Wanted::Fetch { tool: Arc::clone(tool), arguments }),
        }
    }

    fn asked_transfer(&self, arguments: &str) -> Asked {
        let named = serde_json::from_str::<Destination>(arguments).ok();
        let found = named.and_then(|Destination { to }| {
            self.transfers.iter().find(|target| target.name.to_lowercase() == to.trim().to_lowercase())
        });
        found.map_or(Asked::Refused("to must be one of the names that the function lists."), |target| {
            Asked::Transfer(target.to.clone())
        })
    }
}

/// What a call of one of the box's functions comes to.
fn asked(tool: AgentTool, arguments: &str) -> Asked {
    match tool {
        AgentTool::AddToDnc => Asked::Note(Note::DoNotCall),
        AgentTool::CollectDigits => asked_keys(arguments, false),
        AgentTool::CollectSecretDigits => asked_keys(arguments, true),
        AgentTool::EndCall => Asked::EndCall,
        AgentTool::SendDtmf => match serde_json::from_str::<Digits>(arguments) {
            Ok(Digits { digits }) if is_keys(&digits) => Asked::Press(digits),
            _ => Asked::Refused("digits must be 1 to 32 keys of 0-9, * and #."),
        },
        AgentTool::TakeMessage => asked_message(arguments),
        AgentTool::Wait => {
            let seconds = serde_json::from_str::<Silence>(arguments).ok().and_then(|silence| silence.seconds);
            // A cast of a float saturates.
            let seconds = (seconds.unwrap_or(f64::from(WAIT_S)) as u32).clamp(1, WAIT_S_MAX);
            Asked::Later(Wanted::Wait(Duration::from_secs(seconds.into())))
        }
    }
}

fn asked_keys(arguments: &str, is_secret: bool) -> Asked {
    let wanted = serde_json::from_str::<Keys>(if arguments.trim().is_empty() { "{}" } else { arguments });
    let finish_key = |text: &Option<String>| match text.as_deref().map(str::as_bytes) {
        None => Some(Some('#')),
        Some([]) => Some(None),
        Some([key @ (b'0'..=b'9' | b'*' | b'#')]) => Some(Some(char::from(*key))),
        Some(_) => None,
    };
    match wanted.ok().and_then(|keys| Some((keys.max_digits, finish_key(&keys.finish_key)?))) {
        Some((max, finish_key)) if max.is_none_or(|max| (1..=COLLECT_KEYS_MAX).contains(&max)) => {
            let keys_max = max.unwrap_or(COLLECT_KEYS_MAX);
            let order = CollectOrder { keys_max, finish_key, first_within_s: FIRST_KEY_S, next_within_s: NEXT_KEY_S };
            Asked::Later(Wanted::Collect { order, is_secret })
        }
        _ => Asked::Refused("max_digits must be 1 to 32, and finish_key one key of 0-9, * and #."),
    }
}

fn asked_message(arguments: &str) -> Asked {
    let cut = |text: String, chars: usize| -> Option<String> {
        let text: String =
            text.trim().chars().filter(|letter| !letter.is_control() || *letter == '\n').take(chars).collect();
        (!text.is_empty()).then_some(text)
    };
    let taken = serde_json::from_str::<TakenMessage>(arguments).ok().and_then(|TakenMessage { name, number, text }| {
        Some(TakenMessage {
            name: name.and_then(|name| cut(name, NAME_CHARS_MAX)),
            number: number.and_then(|number| cut(number, NAME_CHARS_MAX)),
            text: cut(text, MESSAGE_CHARS_MAX)?,
        })
    });
    taken.map_or(Asked::Refused("text must say what the message is."), |taken| Asked::Note(Note::Message(taken)))
}

/// An object; models that have nothing to say send nothing.
fn arguments_of(text: &str) -> Option<Map<String, Value>> {
    if text.trim().is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Some(arguments),
        Ok(Value::Null) => Some(Map::new()),
        _ => None,
    }
}

fn lacks_required(tool: &HttpTool, arguments: &Map<String, Value>) -> bool {
    let required = tool.parameters["required"].as_array();
    required.is_some_and(|names| names.iter().filter_map(Value::as_str).any(|name| !arguments.contains_key(name)))
}

fn function(tool: AgentTool) -> Function<'static> {
    let nothing = || json!({ "type": "object", "properties": {} });
    let keys = || {
        json!({ "type": "object", "properties": {
            "max_digits": { "type": "integer", "minimum": 1, "maximum": 32, "description": "How many keys at the most" },
            "finish_key": { "type": "string", "description": "The key that ends the entry; # unless given" } } })
    };
    let (description, parameters) = match tool {
        AgentTool::AddToDnc => (
            "Notes that the person on the phone does not want to be called any more. Call it when they say so.",
            nothing(),
        ),
        AgentTool::CollectDigits => (
            "Has the caller enter digits on their phone and returns them. Ask for them first; while it lasts you hear \
                nothing.",
            keys(),
        ),
        AgentTool::CollectSecretDigits => (
            "Has the caller enter digits on their phone that you are not told, such as a card's number; the next function \
                that needs them gets them. Ask for them first; while it lasts you hear nothing.",
            keys(),
        ),
        AgentTool::EndCall => {
            ("Ends the phone call. Call it when the conversation is over, after the goodbye has been said.", nothing())
        }
        AgentTool::SendDtmf => (
            "Presses keys on the phone, as for a menu that asks for them.",
            json!({ "type": "object", "required": ["digits"], "properties": {
                "digits": { "type": "string", "description": "The keys in order: 0-9, *, #" } } }),
        ),
        AgentTool::TakeMessage => (
            "Takes a message down for the people you work for. Read it back to the caller before you call it.",
            json!({ "type": "object", "required": ["text"], "properties": {
                "text": { "type": "string", "description": "The message, in the caller's words" },
                "name": { "type": "string", "description": "Who it is from" },
                "number": { "type": "string", "description": "The number to call back, if it is another one" } } }),
        ),
        AgentTool::Wait => (
            "Says nothing until the caller speaks again, as when they ask for a moment. Returns when they do, or when the \
                time is over.",
            json!({ "type": "object", "properties": {
                "seconds": { "type": "integer", "minimum": 1, "maximum": 120, "description": "At the most; 30 unless given" } } }),
        ),
    };
    Function { name: tool.as_str(), description, parameters }
}

impl Asked {
    /// What the model is told at once, as JSON; `None` where it is told later.
    pub(super) fn answer(&self) -> Option<String> {
        let answer = match self {
            Asked::EndCall => json!({ "result": "The call ends when what you have said was heard." }),
            Asked::Press(_) => json!({ "result": "The keys are being pressed." }),
            Asked::Transfer(_) | Asked::Later(_) => return None,
            Asked::Note(Note::Message(_)) => json!({ "result": "The message has been taken down." }),
            Asked::Note(Note::DoNotCall) => json!({ "result": "They will not be called any more." }),
            Asked::Refused(why) => json!({ "error": why }),
        };
        Some(answer.to_string())
    }
}

/// What a model is told whose caller nobody has taken, as JSON.
pub(super) fn not_transferred(outcome: Outcome) -> String {
    let why = match outcome.reason {
        EndReason::Busy => "The line is busy.",
        EndReason::NoAnswer => "Nobody answered.",
        EndReason::Rejected => "They declined the call.",
        EndReason::Cancelled => "The caller spoke before the transfer began.",
        _ => "They cannot be reached.",
    };
    json!({ "error": format!("{why} The caller is with you again.") }).to_string()
}

/// As the model has it.
pub(super) const TRANSFER: &str = "transfer";

/// The tool that ends the call, as the model has it.
pub(super) const END_CALL: &str = "end_call";

fn is_keys(text: &str) -> bool {
    (1..=KEYS_MAX).contains(&text.len()) && text.bytes().all(|key| b"0123456789*#".contains(&key))
}

/// 32 keys: a card's number and its date.
const KEYS_MAX: usize = 32;

/// 10 s for the first key, as over the API: a caller looks for their card.
const FIRST_KEY_S: u8 = 10;

/// 5 s for each further one.
const NEXT_KEY_S: u8 = 5;

/// 30 s of silence: the time it takes to find a pen.
const WAIT_S: u32 = 30;

/// 120 s: who has said nothing for so long is asked whether they are still there.
const WAIT_S_MAX: u32 = 120;

/// 2,000 characters: two minutes of dictation.
const MESSAGE_CHARS_MAX: usize = 2000;

/// 100 characters: a name with titles, a number with its extension.
const NAME_CHARS_MAX: usize = 100;

#[cfg(test)]
pub(super) mod tests {
    use talkstack_control::port::HttpMethod;

    use super::*;

    /// `book`, with nothing required.
    pub(in crate::agent) fn http_tool() -> HttpTool {
        HttpTool {
            name: "book".into(),
            description: "Books.".into(),
            parameters: json!({ "type": "object", "properties": {} }),
            method: HttpMethod::Post,
            url: "https://a.example/book".into(),
            headers: Default::default(),
            secret_headers: Default::default(),
            body: None,
            timeout_s: 10,
        }
    }

    fn tools() -> Tools {
        let target = |name: &str, to: &str| TransferTarget { name: name.into(), to: to.into() };
        Tools {
            list: AgentTool::usual(),
            http: Vec::new(),
            transfers: vec![target("Reception", "101"), target("Dr. Nagy", "+3612")],
        }
    }

    #[test]
    fn a_function_does_what_its_arguments_say_and_no_other_than_the_agent_has() {
        let tools = tools();
        assert_eq!(tools.asked("end_call", "{}"), Asked::EndCall);
        assert_eq!(tools.asked("end_call", "not JSON"), Asked::EndCall, "it needs none");
        assert_eq!(tools.asked("send_dtmf", r#"{"digits":"1*#"}"#), Asked::Press("1*#".into()));
        for arguments in ["", "{}", r#"{"digits":""}"#, r#"{"digits":"a"}"#, r#"{"digits":1}"#, r#"{"digits":null}"#] {
            assert!(matches!(tools.asked("send_dtmf", arguments), Asked::Refused(_)), "{arguments}");
        }
        let long = format!(r#"{{"digits":"{}"}}"#, "1".repeat(33));
        assert!(matches!(tools.asked("send_dtmf", &long), Asked::Refused(_)));
        let keys_only = Tools { list: vec![AgentTool::SendDtmf], ..Tools::default() };
        assert!(matches!(keys_only.asked("end_call", "{}"), Asked::Refused(_)));
        assert!(matches!(tools.asked("book_table", "{}"), Asked::Refused(_)));
    }

    #[test]
    fn a_caller_is_put_through_to_whom_the_owner_has_named_and_to_no_number_of_the_model_s() {
        let tools = tools();
        assert_eq!(tools.asked("transfer", r#"{"to":"reception"}"#), Asked::Transfer("101".into()));
        assert_eq!(tools.asked("transfer", r#"{"to":" Dr. Nagy "}"#), Asked::Transfer("+3612".into()));
        for arguments in ["", "{}", r#"{"to":"101"}"#, r#"{"to":"+15551234567"}"#, r#"{"to":""}"#] {
            assert!(matches!(tools.asked("transfer", arguments), Asked::Refused(_)), "{arguments}");
        }
        assert!(matches!(Tools::usual().asked("transfer", r#"{"to":"reception"}"#), Asked::Refused(_)));
    }

    #[test]
    fn a_model_is_told_a_schema_of_each_and_an_answer_that_is_json() {
        let mut all = tools();
        (all.list, all.http) = (AgentTool::ALL.into(), vec![Arc::new(http_tool())]);
        let names: Vec<_> = all.functions().map(|function| function.name).collect();
        let boxed = AgentTool::ALL.map(AgentTool::as_str);
        assert_eq!(names, [&boxed[..], &["transfer", "book"]].concat());
        assert_eq!(Tools::usual().functions().count(), 2, "nobody to put through to, nothing to do it with");
        for function in all.functions() {
            assert!(!function.description.is_empty() && function.parameters["type"] == "object");
        }
        let noted = Asked::Note(Note::DoNotCall);
        for asked in [Asked::EndCall, Asked::Press("1".into()), noted, Asked::Refused("no")] {
            let answer = asked.answer().expect("at once");
            assert!(serde_json::from_str::<Value>(&answer).is_ok_and(|answer| answer.is_object()));
        }
        assert_eq!(Asked::Transfer("101".into()).answer(), None);
    }

    #[test]
    fn what_takes_a_while_is_wanted_within_its_bounds() {
        let all = Tools { list: AgentTool::ALL.into(), http: vec![Arc::new(http_tool())], ..Tools::default() };
        for (arguments, seconds) in [("{}", 30), (r#"{"seconds":5}"#, 5), (r#"{"seconds":1e9}"#, 120), ("x", 30)] {
            assert_eq!(all.asked("wait", arguments), Asked::Later(Wanted::Wait(Duration::from_secs(seconds))));
        }
        let keys = |arguments| match all.asked("collect_digits", arguments) {
            Asked::Later(Wanted::Collect { order, is_secret: false }) => Some((order.keys_max, order.finish_key)),
            _ => None,
        };
        assert_eq!(keys(""), Some((32, Some('#'))));
        assert_eq!(keys(r##"{"max_digits":4,"finish_key":"*"}"##), Some((4, Some('*'))));
        assert_eq!(keys(r#"{"finish_key":""}"#), Some((32, None)));
        for arguments in [r#"{"max_digits":0}"#, r#"{"max_digits":33}"#, r#"{"finish_key":"A"}"#, "[]"] {
            assert_eq!(keys(arguments), None, "{arguments}");
        }
        let secret = all.asked("collect_secret_digits", "{}");
        assert!(matches!(secret, Asked::Later(Wanted::Collect { is_secret: true, .. })));
        let message = all.asked("take_message", r#"{"text":" Call\u0007 me. ","name":"Ann","number":null}"#);
        let taken = TakenMessage { name: Some("Ann".into()), number: None, text: "Call me.".into() };
        assert_eq!(message, Asked::Note(Note::Message(taken)));
        assert!(matches!(all.asked("take_message", r#"{"text":" "}"#), Asked::Refused(_)));
    }

    #[test]
    fn a_service_is_asked_only_with_what_it_requires() {
        let mut tool = http_tool();
        tool.parameters["required"] = json!(["day"]);
        let tools = Tools { http: vec![Arc::new(tool)], ..Tools::default() };
        for arguments in ["", "{}", "[]", "1", "null", "{"] {
            assert!(matches!(tools.asked("book", arguments), Asked::Refused(_)), "{arguments}");
        }
        assert!(matches!(tools.asked("book", r#"{"day":1}"#), Asked::Later(Wanted::Fetch { .. })));
    }
}
