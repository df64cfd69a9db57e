//! Functions that web services carry out: the request that a call of one comes to, and what the model is told of the
//! answer.
//!
//! What a model says stays data: in an address it is percent-encoded, in a header it loses its control characters, and in
//! a body it is a JSON value.

use serde_json::{Map, Value, json};
use talkstack_control::port::{HttpTool, Sealed};
use talkstack_control::webhook::FETCHED_BYTES_MAX;

use super::errands::Request;
use super::provider::Parties;
use crate::io::connect::percent_encoded;

/// What placeholders stand for, besides arguments.
struct Values<'a> {
    arguments: &'a Map<String, Value>,
    call_id: &'a str,
    parties: &'a Parties,
    digits: &'a str,
}

/// A request that is ready but for its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The method.
    pub method: &'static str,
    /// Where.
    pub url: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Headers whose values are to be unsealed.
    pub secret_headers: Vec<(String, Sealed)>,
    /// JSON.
    pub body: Option<String>,
    /// Seconds for the whole of it.
    pub timeout_s: u8,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.method)
    }
}

/// The request that a call of a function comes to.
///
/// # Errors
/// What the model is told when an argument would lead to another place than the function's.
pub fn prepare(request: &Request, call_id: &str, parties: &Parties) -> Result<Prepared, String> {
    let Request { tool, arguments, digits } = request;
    let values = Values { arguments, call_id, parties, digits };
    let names = tool.url.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    // However they are written, dots climb (RFC 3986 §5.2.4).
    if names.map(|(name, _)| text_of(&values.value(name.trim()))).any(|text| is_dots(&text)) {
        return Err("An argument must be more than dots.".to_owned());
    }
    let mut url = values.fill(&tool.url, |value, out| out.push_str(&percent_encoded(value)));
    if !tool.method.has_body() {
        push_query(&mut url, tool, arguments);
    }
    let header = |(name, text): (&String, &String)| {
        (name.clone(), values.fill(text, |value, out| out.extend(value.chars().filter(|letter| !letter.is_control()))))
    };
    let body = tool.method.has_body().then(|| match &tool.body {
        None => Value::Object(arguments.clone()),
        Some(body) => values.fill_json(body),
    });
    Ok(Prepared {
        method: tool.method.as_str(),
        url,
        headers: tool.headers.iter().map(header).collect(),
        secret_headers: tool.secret_headers.iter().map(|(name, sealed)| (name.clone(), sealed.clone())).collect(),
        body: body.map(|body| body.to_string()),
        timeout_s: tool.timeout_s,
    })
}

fn is_dots(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'.')
}

/// Arguments that the address does not name go into the query.
fn push_query(url: &mut String, tool: &HttpTool, arguments: &Map<String, Value>) {
    for (name, value) in arguments {
        let is_named = tool.url.split("{{").skip(1).any(|part| part.split("}}").next().map(str::trim) == Some(name));
        if is_named || value.is_null() {
            continue;
        }
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&percent_encoded(name));
        url.push('=');
        url.push_str(&percent_encoded(&text_of(value)));
    }
}

impl Values<'_> {
    fn value(&self, name: &str) -> Value {
        match name {
            "call.id" => json!(self.call_id),
            "call.from" => json!(self.parties.from),
            "call.to" => json!(self.parties.to),
            "digits" => json!(self.digits),
            name => self.arguments.get(name).cloned().unwrap_or_default(),
        }
    }

    /// Puts values in the place of placeholders; what a value says is never read again.
    fn fill(&self, text: &str, push: impl Fn(&str, &mut String)) -> String {
        let mut parts = text.split("{{");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match part.split_once("}}") {
                Some((name, behind)) => {
                    push(&text_of(&self.value(name.trim())), &mut filled);
                    filled.push_str(behind);
                }
                None => {
                    filled.push_str("{{");
                    filled.push_str(part);
                }
            }
        }
        filled
    }

    /// The same in all texts of a JSON value; a text that is one placeholder becomes the value itself.
    fn fill_json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let whole = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
                match whole.filter(|name| !name.contains("{{") && !name.contains("}}")) {
                    Some(name) => self.value(name.trim()),
                    None => Value::String(self.fill(text, |value, out| out.push_str(value))),
                }
            }
            Value::Array(values) => values.iter().map(|value| self.fill_json(value)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), self.fill_json(value))).collect::<Map<_, _>>().into()
            }
            other => other.clone(),
        }
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What the model is told of an answer, or why there is nothing to be told.
///
/// # Errors
/// Why, in words for the model.
pub fn answer(status: u16, body: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if !(200..300).contains(&status) {
        let shown: String = text.chars().filter(|letter| !letter.is_control()).take(ERROR_CHARS_MAX).collect();
        return Err(format!("The service has answered with status {status}: {shown}"));
    }
    if serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object() || value.is_array()) {
        return Ok(text.to_owned());
    }
    let mut told = json!({ "result": text });
    if body.len() >= FETCHED_BYTES_MAX {
        told["note"] = json!("The answer was longer; this is its beginning.");
    }
    Ok(told.to_string())
}

/// 500 characters of what a service says of its trouble.
const ERROR_CHARS_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use talkstack_control::port::HttpMethod;

    use super::*;
    use crate::agent::tools::tests::http_tool;

    fn parties() -> Parties {
        Parties { from: "+15550100".into(), to: "+15550199".into() }
    }

    fn prepared(tool: HttpTool, arguments: Value) -> Prepared {
        let Value::Object(arguments) = arguments else { panic!("an object") };
        let request = Request { tool: Arc::new(tool), arguments, digits: "4711".into() };
        prepare(&request, "CA1", &parties()).expect("a request")
    }

    #[test]
    fn what_a_model_says_stays_data_wherever_it_is_put() {
        let mut tool = http_tool();
        tool.url = "https://a.example/rooms/{{room}}?from={{call.from}}".into();
        tool.headers = [("x-room".to_owned(), "{{room}}".to_owned())].into();
        tool.body = Some(
            json!({ "room": "{{room}}", "text": "Room {{room}} of {{call.id}}", "n": "{{n}}", "pin": "{{digits}}",
            "none": "{{gone}}", "list": ["{{n}}", 7] }),
        );
        let room = "../x?y=1&z\"\r\nEvil: 1 {{call.to}}";
        let Prepared { url, headers, body, method, .. } = prepared(tool, json!({ "room": room, "n": 2 }));
        assert_eq!(method, "POST");
        assert_eq!(
            url,
            "https://a.example/rooms/..%2Fx%3Fy%3D1%26z%22%0D%0AEvil%3A%201%20%7B%7Bcall.to%7D%7D?from=%2B15550100"
        );
        assert_eq!(headers[0].1, "../x?y=1&z\"Evil: 1 {{call.to}}");
        let body: Value = serde_json::from_str(&body.expect("a body")).expect("JSON");
        assert_eq!(body["room"], room);
        assert_eq!(body["text"], format!("Room {room} of CA1"));
        assert_eq!((&body["n"], &body["pin"], &body["none"]), (&json!(2), &json!("4711"), &Value::Null));
        assert_eq!(body["list"], json!([2, 7]));
    }

    #[test]
    fn no_argument_climbs_out_of_the_function_s_path() {
        let mut tool = http_tool();
        tool.url = "https://a.example/rooms/{{room}}/book".into();
        for room in [".", "..", "..."] {
            let arguments = [("room".to_owned(), json!(room))].into_iter().collect();
            let request = Request { tool: Arc::new(tool.clone()), arguments, digits: String::new() };
            assert!(prepare(&request, "CA1", &parties()).is_err(), "{room}");
        }
        assert_eq!(prepared(tool, json!({ "room": "1.2" })).url, "https://a.example/rooms/1.2/book");
    }

    #[test]
    fn without_a_body_arguments_travel_as_they_are_or_in_the_query() {
        let plain = prepared(http_tool(), json!({ "a": 1 }));
        assert_eq!(plain.body.as_deref(), Some(r#"{"a":1}"#));
        let mut tool = http_tool();
        (tool.method, tool.url) = (HttpMethod::Get, "https://a.example/{{day}}".into());
        let get = prepared(tool, json!({ "day": "1 May", "guests": 2, "view": "sea & sky", "none": null }));
        assert_eq!(get.url, "https://a.example/1%20May?guests=2&view=sea%20%26%20sky");
        assert_eq!(get.body, None);
    }

    #[test]
    fn a_model_is_told_what_a_service_says_and_of_an_error_that_it_is_one() {
        assert_eq!(answer(200, br#" {"free":[1]} "#), Ok(r#"{"free":[1]}"#.into()));
        assert_eq!(answer(201, b"booked"), Ok(r#"{"result":"booked"}"#.into()));
        assert_eq!(answer(204, b""), Ok(r#"{"result":""}"#.into()));
        assert!(answer(200, &[b'x'; FETCHED_BYTES_MAX]).is_ok_and(|told| told.contains("longer")));
        assert_eq!(answer(503, b"down\n"), Err("The service has answered with status 503: down".into()));
        assert!(answer(302, b"").is_err(), "a redirection is not followed");
    }
}
