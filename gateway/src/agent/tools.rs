//! What an agent can do besides speaking: functions that its model calls, as every provider is told of them.

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::AgentTool;

/// What a call of a function asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// End the call, once the goodbye has been heard.
    EndCall,
    /// Press these keys.
    Press(String),
    /// Nothing that can be done; the model is told why.
    Refused(&'static str),
}

#[derive(Deserialize)]
struct Digits {
    digits: String,
}

/// The function as a model is told of it: name, description, and the JSON schema of its parameters.
pub(super) fn described(tool: AgentTool) -> (&'static str, &'static str, Value) {
    let (what, parameters) = match tool {
        AgentTool::EndCall => (
            "Ends the phone call. Call it when the conversation is over, after the goodbye has been said.",
            json!({ "type": "object", "properties": {} }),
        ),
        AgentTool::SendDtmf => (
            "Presses keys on the phone, as for a menu that asks for them.",
            json!({ "type": "object", "required": ["digits"], "properties": {
                "digits": { "type": "string", "description": "The keys in order: 0-9, *, #" } } }),
        ),
    };
    (tool.as_str(), what, parameters)
}

/// What a call of a function comes to, for an agent that has these tools.
pub(super) fn asked(tools: &[AgentTool], name: &str, arguments: &str) -> Asked {
    match tools.iter().find(|tool| tool.as_str() == name) {
        None => Asked::Refused("There is no such function."),
        Some(AgentTool::EndCall) => Asked::EndCall,
        Some(AgentTool::SendDtmf) => match serde_json::from_str::<Digits>(arguments) {
            Ok(Digits { digits }) if is_keys(&digits) => Asked::Press(digits),
            _ => Asked::Refused("digits must be 1 to 32 keys of 0-9, * and #."),
        },
    }
}

impl Asked {
    /// What the model is told, as JSON.
    pub(super) fn answer(&self) -> String {
        match self {
            Asked::EndCall => json!({ "result": "The call ends when what you have said was heard." }),
            Asked::Press(_) => json!({ "result": "The keys are being pressed." }),
            Asked::Refused(why) => json!({ "error": why }),
        }
        .to_string()
    }
}

fn is_keys(text: &str) -> bool {
    (1..=KEYS_MAX).contains(&text.len()) && text.bytes().all(|key| b"0123456789*#".contains(&key))
}

/// 32 keys: a card's number and its date.
const KEYS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_does_what_its_arguments_say_and_no_other_than_the_agent_has() {
        let all = AgentTool::ALL;
        assert_eq!(asked(&all, "end_call", "{}"), Asked::EndCall);
        assert_eq!(asked(&all, "end_call", "not JSON"), Asked::EndCall, "it needs none");
        assert_eq!(asked(&all, "send_dtmf", r#"{"digits":"1*#"}"#), Asked::Press("1*#".into()));
        for arguments in ["", "{}", r#"{"digits":""}"#, r#"{"digits":"a"}"#, r#"{"digits":1}"#, r#"{"digits":null}"#] {
            assert!(matches!(asked(&all, "send_dtmf", arguments), Asked::Refused(_)), "{arguments}");
        }
        let long = format!(r#"{{"digits":"{}"}}"#, "1".repeat(33));
        assert!(matches!(asked(&all, "send_dtmf", &long), Asked::Refused(_)));
        assert!(matches!(asked(&[AgentTool::SendDtmf], "end_call", "{}"), Asked::Refused(_)));
        assert!(matches!(asked(&all, "book_table", "{}"), Asked::Refused(_)));
    }

    #[test]
    fn a_model_is_told_a_schema_of_each_and_an_answer_that_is_json() {
        for tool in AgentTool::ALL {
            let (name, what, parameters) = described(tool);
            assert!(name == tool.as_str() && !what.is_empty() && parameters["type"] == "object");
        }
        for asked in [Asked::EndCall, Asked::Press("1".into()), Asked::Refused("no")] {
            assert!(serde_json::from_str::<Value>(&asked.answer()).is_ok_and(|answer| answer.is_object()));
        }
    }
}
