//! What an agent can do besides speaking: functions that its model calls, as every provider is told of them.

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::{AgentTool, EndReason, Outcome, TransferTarget};

/// What an agent can do besides speaking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// What needs nothing else.
    pub list: Vec<AgentTool>,
    /// Whom it can put the caller through to.
    pub transfers: Vec<TransferTarget>,
}

/// A function as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// What it does, for the model.
    pub(super) description: &'static str,
    /// A JSON schema.
    pub(super) parameters: Value,
}

/// What a call of a function asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// End the call, once the goodbye has been heard.
    EndCall,
    /// Press these keys.
    Press(String),
    /// Put the caller through to this number, once what has been said was heard. The model is told what became of it when
    /// nothing did.
    Transfer(String),
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

impl Tools {
    /// What an agent has whose owner has said nothing.
    pub fn usual() -> Self {
        Tools { list: AgentTool::usual(), transfers: Vec::new() }
    }

    /// The functions that a model is told of.
    pub(super) fn functions(&self) -> impl Iterator<Item = Function> + '_ {
        self.list.iter().map(|tool| function(*tool)).chain(self.transfer())
    }

    fn transfer(&self) -> Option<Function> {
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
        match self.list.iter().find(|tool| tool.as_str() == name) {
            None => Asked::Refused("There is no such function."),
            Some(AgentTool::EndCall) => Asked::EndCall,
            Some(AgentTool::SendDtmf) => match serde_json::from_str::<Digits>(arguments) {
                Ok(Digits { digits }) if is_keys(&digits) => Asked::Press(digits),
                _ => Asked::Refused("digits must be 1 to 32 keys of 0-9, * and #."),
            },
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

fn function(tool: AgentTool) -> Function {
    let (description, parameters) = match tool {
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
    Function { name: tool.as_str(), description, parameters }
}

impl Asked {
    /// What the model is told at once, as JSON; `None` where it is told later.
    pub(super) fn answer(&self) -> Option<String> {
        let answer = match self {
            Asked::EndCall => json!({ "result": "The call ends when what you have said was heard." }),
            Asked::Press(_) => json!({ "result": "The keys are being pressed." }),
            Asked::Transfer(_) => return None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Tools {
        let target = |name: &str, to: &str| TransferTarget { name: name.into(), to: to.into() };
        Tools { list: AgentTool::ALL.into(), transfers: vec![target("Reception", "101"), target("Dr. Nagy", "+3612")] }
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
        let keys_only = Tools { list: vec![AgentTool::SendDtmf], transfers: Vec::new() };
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
        let names: Vec<_> = tools().functions().map(|function| function.name).collect();
        assert_eq!(names, ["end_call", "send_dtmf", "transfer"]);
        assert_eq!(Tools::usual().functions().count(), 2, "nobody to put through to, nothing to do it with");
        for function in tools().functions() {
            assert!(!function.description.is_empty() && function.parameters["type"] == "object");
        }
        for asked in [Asked::EndCall, Asked::Press("1".into()), Asked::Refused("no")] {
            let answer = asked.answer().expect("at once");
            assert!(serde_json::from_str::<Value>(&answer).is_ok_and(|answer| answer.is_object()));
        }
        assert_eq!(Asked::Transfer("101".into()).answer(), None);
    }
}
