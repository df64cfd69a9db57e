//! What agents can do besides speaking, as clients give it: names of the box's functions, people to put callers through
//! to, and functions that web services carry out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::live_call::is_dialled;
use crate::model::line;
use crate::port::{AgentTool, HttpMethod, HttpTool, Sealed, TransferTarget};
use crate::secret::{Secret, TOOL_HEADER_PURPOSE};
use crate::webhook::HookUrl;

/// What an agent can do besides speaking: a list of names, each once.
pub(super) fn tools(given: &Value) -> Result<Vec<AgentTool>, ApiError> {
    let named = |name: &Value| AgentTool::ALL.into_iter().find(|tool| Some(tool.as_str()) == name.as_str());
    let all: Option<Vec<AgentTool>> = given.as_array().and_then(|names| names.iter().map(named).collect());
    let mut all = all.ok_or_else(|| {
        let known = AgentTool::ALL.map(AgentTool::as_str).join(", ");
        ApiError::new(400, "bad_field", format!("tools must be a list of {known}; an empty one takes all away."))
    })?;
    all.sort_unstable_by_key(|tool| tool.as_str());
    all.dedup();
    Ok(all)
}

/// Whom an agent can put its callers through to: a list of names and numbers, each name once.
pub(super) fn transfers(given: &Value) -> Result<Vec<TransferTarget>, ApiError> {
    let wrong = |what: &str| ApiError::new(400, "bad_field", format!("transfers must {what}."));
    let targets: Vec<TransferTarget> = serde_json::from_value(given.clone())
        .map_err(|_| wrong("be a list of {\"name\": \"reception\", \"to\": \"101\"}; an empty one takes all away"))?;
    if targets.len() > TRANSFERS_MAX {
        return Err(wrong(&format!("not be more than {TRANSFERS_MAX}")));
    }
    let mut names = BTreeSet::new();
    for TransferTarget { name, to } in &targets {
        if name.trim().is_empty()
            || name.chars().count() > TRANSFER_NAME_CHARS_MAX
            || !names.insert(name.to_lowercase())
        {
            return Err(wrong(&format!("have names of 1 to {TRANSFER_NAME_CHARS_MAX} characters, each once")));
        }
        if !is_dialled(to) {
            return Err(wrong("name a number or an extension in to, as a phone would dial it"));
        }
    }
    Ok(targets)
}

/// A function as a client gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    description: String,
    #[serde(default)]
    parameters: Option<Value>,
    #[serde(default)]
    method: Option<HttpMethod>,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Null keeps the value that there is.
    #[serde(default, rename = "secretHeaders")]
    secret_headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default, rename = "timeoutSeconds")]
    timeout_s: Option<u8>,
}

/// Functions that web services carry out, each name once. Secret headers that are null keep the value they have in the
/// function of the same name among `former`.
pub(super) fn http_tools(given: &Value, former: &[HttpTool], secret: &Secret) -> Result<Vec<HttpTool>, ApiError> {
    let given: Vec<Given> = serde_json::from_value(given.clone()).map_err(|error| {
        // What serde says names a field and a place, and nothing of a secret.
        let shown: String = error.to_string().chars().filter(|letter| !letter.is_control()).take(200).collect();
        wrong(&format!("be a list of functions with name, description and url; an empty one takes all away ({shown})"))
    })?;
    if given.len() > HTTP_TOOLS_MAX {
        return Err(wrong(&format!("not be more than {HTTP_TOOLS_MAX}")));
    }
    let mut names = BTreeSet::new();
    given
        .into_iter()
        .map(|given| {
            let former = former.iter().find(|tool| tool.name == given.name);
            let tool = read(given, former, secret)?;
            if !names.insert(tool.name.clone()) {
                return Err(wrong("have names that are there once"));
            }
            Ok(tool)
        })
        .collect()
}

fn read(given: Given, former: Option<&HttpTool>, secret: &Secret) -> Result<HttpTool, ApiError> {
    let Given { name, description, parameters, method, url, headers, secret_headers, body, timeout_s } = given;
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !is_name || name == TRANSFER || AgentTool::ALL.iter().any(|tool| tool.as_str() == name) {
        return Err(wrong("have names of 1 to 64 letters, digits, _ and -, other than those of the box's functions"));
    }
    if description.trim().is_empty() || description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(wrong(&format!("be described in 1 to {DESCRIPTION_CHARS_MAX} characters ({name})")));
    }
    let parameters = parameters.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    check_schema(&parameters, &name)?;
    let method = method.unwrap_or(HttpMethod::Post);
    if body.is_some() && !method.has_body() {
        return Err(wrong(&format!("have no body where the method is {} ({name})", method.as_str())));
    }
    let tool = HttpTool {
        url: check_url(&url, &name)?,
        headers: headers.into_iter().map(|pair| header(pair, &name)).collect::<Result<_, _>>()?,
        secret_headers: seal(secret_headers, former, secret, &name)?,
        timeout_s: timeout_s.unwrap_or(TIMEOUT_S),
        name,
        description,
        parameters,
        method,
        body,
    };
    if !(1..=TIMEOUT_S_MAX).contains(&tool.timeout_s) {
        return Err(wrong(&format!("wait 1 to {TIMEOUT_S_MAX} seconds (timeoutSeconds of {})", tool.name)));
    }
    check_placeholders(&tool)?;
    if serde_json::to_string(&tool).map_or(true, |text| text.len() > TOOL_BYTES_MAX) {
        return Err(wrong(&format!("not be longer than {TOOL_BYTES_MAX} bytes each ({})", tool.name)));
    }
    Ok(tool)
}

/// An object with properties, as every provider wants it.
fn check_schema(schema: &Value, name: &str) -> Result<(), ApiError> {
    let properties = schema.get("properties").is_none_or(Value::is_object);
    let required = schema
        .get("required")
        .is_none_or(|required| required.as_array().is_some_and(|names| names.iter().all(|name| name.is_string())));
    if schema["type"] != "object" || !properties || !required {
        let what = "have parameters that are a JSON schema of an object: {\"type\": \"object\", \"properties\": {…}}";
        return Err(wrong(&format!("{what} ({name})")));
    }
    Ok(())
}

/// Where a request goes: what stands before the path has no placeholders.
fn check_url(url: &str, name: &str) -> Result<String, ApiError> {
    // Placeholders are no part of a URL; letters in their place are.
    let filled = replace_placeholders(url, "x");
    HookUrl::parse(&filled).map_err(|error| wrong(&format!("have good addresses ({name}: {error})")))?;
    let behind = url.find("://").map_or("", |at| &url[at + 3..]);
    let authority = behind.find(['/', '?']).map_or(behind, |end| &behind[..end]);
    if authority.contains("{{") || !url.starts_with("http") {
        return Err(wrong(&format!("have placeholders only behind the host ({name})")));
    }
    Ok(url.to_owned())
}

fn header((header, value): (String, String), name: &str) -> Result<(String, String), ApiError> {
    let header = header_name(header, name)?;
    let value = line(&value, HEADER_CHARS_MAX).ok_or_else(|| bad_header_value(&header, name))?;
    Ok((header, value))
}

fn header_name(header: String, name: &str) -> Result<String, ApiError> {
    let is_token = (1..=64).contains(&header.len())
        && header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let header = header.to_ascii_lowercase();
    if !is_token || OWN_HEADERS.contains(&header.as_str()) {
        let own = OWN_HEADERS.join(", ");
        return Err(wrong(&format!("have headers of letters, digits, - and _, other than {own} ({name})")));
    }
    Ok(header)
}

fn bad_header_value(header: &str, name: &str) -> ApiError {
    wrong(&format!("have headers' values of 1 to {HEADER_CHARS_MAX} characters on one line ({name}: {header})"))
}

/// Seals the values of secret headers.
fn seal(
    given: BTreeMap<String, Option<String>>,
    former: Option<&HttpTool>,
    secret: &Secret,
    name: &str,
) -> Result<BTreeMap<String, Sealed>, ApiError> {
    let mut sealed = BTreeMap::new();
    for (header, value) in given {
        let header = header_name(header, name)?;
        let kept = || former.and_then(|tool| tool.secret_headers.get(&header)).cloned();
        let value = match value {
            None => kept().ok_or_else(|| wrong(&format!("have a value for the secret header {header} ({name})")))?,
            Some(value) => {
                let value = line(&value, HEADER_CHARS_MAX).ok_or_else(|| bad_header_value(&header, name))?;
                secret.seal(TOOL_HEADER_PURPOSE, &value)
            }
        };
        sealed.insert(header, value);
    }
    Ok(sealed)
}

/// Every placeholder must stand for something.
fn check_placeholders(tool: &HttpTool) -> Result<(), ApiError> {
    let properties = tool.parameters["properties"].as_object();
    let is_known =
        |name: &str| CALL_VALUES.contains(&name) || properties.is_some_and(|properties| properties.contains_key(name));
    let mut texts = vec![tool.url.as_str()];
    texts.extend(tool.headers.values().map(String::as_str));
    collect_texts(tool.body.as_ref(), &mut texts);
    let unknown = texts.into_iter().flat_map(placeholders).find(|name| !is_known(name));
    unknown.map_or(Ok(()), |unknown| {
        let shown: String = unknown.chars().take(64).collect();
        let known = CALL_VALUES.join(", ");
        Err(wrong(&format!("fill in only their parameters and {known} ({}: {shown})", tool.name)))
    })
}

fn collect_texts<'a>(value: Option<&'a Value>, texts: &mut Vec<&'a str>) {
    match value {
        Some(Value::String(text)) => texts.push(text),
        Some(Value::Array(values)) => values.iter().for_each(|value| collect_texts(Some(value), texts)),
        Some(Value::Object(fields)) => fields.values().for_each(|value| collect_texts(Some(value), texts)),
        _ => {}
    }
}

/// The names between double braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|behind| behind.split_once("}}").map(|(name, _)| name.trim()))
}

fn replace_placeholders(text: &str, by: &str) -> String {
    let mut parts = text.split("{{");
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("}}") {
            Some((_, behind)) => replaced.extend([by, behind]),
            None => replaced.extend(["{{", part]),
        }
    }
    replaced
}

/// A function as clients see it: never the values of secret headers.
pub(super) fn http_tool_json(tool: &HttpTool) -> Value {
    let secret_headers: BTreeMap<&str, Value> =
        tool.secret_headers.keys().map(|name| (name.as_str(), Value::Null)).collect();
    json!({
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "method": tool.method,
        "url": tool.url,
        "headers": tool.headers,
        "secretHeaders": secret_headers,
        "body": tool.body,
        "timeoutSeconds": tool.timeout_s,
    })
}

fn wrong(what: &str) -> ApiError {
    ApiError::new(400, "bad_field", format!("httpTools must {what}."))
}

/// As models know the transfer of their callers.
const TRANSFER: &str = "transfer";

/// What placeholders stand for besides arguments.
const CALL_VALUES: [&str; 4] = ["call.id", "call.from", "call.to", "digits"];

/// Headers that the box sets itself.
const OWN_HEADERS: [&str; 6] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "user-agent"];

/// 16: more than a model tells apart at once.
const TRANSFERS_MAX: usize = 16;

/// 64 characters: a person, their office and their town.
const TRANSFER_NAME_CHARS_MAX: usize = 64;

/// 16 functions of web services, as many as people to be put through to.
const HTTP_TOOLS_MAX: usize = 16;

/// 64 characters: what every provider takes as the name of a function.
const NAME_CHARS_MAX: usize = 64;

/// 1,000 characters: a paragraph, of which the model reads every word in every turn.
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// 16 KiB for the whole of a function.
const TOOL_BYTES_MAX: usize = 16 << 10;

/// 2,048 characters: a token with claims.
const HEADER_CHARS_MAX: usize = 2048;

/// 10 s: a caller says "hello?" before.
const TIMEOUT_S: u8 = 10;

/// 15 s, as for webhooks.
const TIMEOUT_S_MAX: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        let dir = tempfile::tempdir().expect("a directory");
        Secret::open(&dir.path().join("secret.key")).expect("a secret")
    }

    #[test]
    fn a_function_is_kept_as_given_and_its_secrets_are_sealed() {
        let given = json!([{
            "name": "rooms_free", "description": "Tells which rooms are free.",
            "parameters": { "type": "object", "required": ["date"], "properties": { "date": { "type": "string" } } },
            "method": "GET", "url": "https://pms.example/rooms/{{date}}?caller={{call.from}}",
            "headers": { "Accept": "application/json" }, "secretHeaders": { "Authorization": "Bearer abc" },
            "timeoutSeconds": 5,
        }]);
        let secret = secret();
        let read = http_tools(&given, &[], &secret).expect("a function");
        let [tool] = read.as_slice() else { panic!("one") };
        assert_eq!((tool.method, tool.timeout_s), (HttpMethod::Get, 5));
        assert_eq!(tool.headers["accept"], "application/json");
        let sealed = &tool.secret_headers["authorization"];
        assert_eq!(secret.unseal(TOOL_HEADER_PURPOSE, sealed).as_deref(), Ok("Bearer abc"));
        let shown = http_tool_json(tool);
        assert_eq!(shown["secretHeaders"], json!({ "authorization": null }));
        let again = http_tools(&json!([shown]), &read, &secret).expect("as it was shown");
        assert_eq!(again, read, "a secret that is not given again stays");
        assert!(http_tools(&json!([http_tool_json(tool)]), &[], &secret).is_err(), "there is none to stay");
    }

    #[test]
    fn what_is_wrong_with_a_function_is_named() {
        let base = json!({ "name": "book", "description": "Books.", "url": "https://a.example/book" });
        assert!(http_tools(&json!([base]), &[], &secret()).is_ok());
        for (field, value, named) in [
            ("name", json!("end_call"), "names of 1 to 64"),
            ("name", json!("transfer"), "names of 1 to 64"),
            ("name", json!("a b"), "names of 1 to 64"),
            ("description", json!(" "), "described"),
            ("parameters", json!({ "type": "string" }), "JSON schema"),
            ("parameters", json!([]), "JSON schema"),
            ("url", json!("ftp://a.example/"), "good addresses"),
            ("url", json!("https://{{host}}/"), "behind the host"),
            ("url", json!("https://a.example/{{date}}"), "fill in only"),
            ("headers", json!({ "Host": "b.example" }), "headers of letters"),
            ("headers", json!({ "X-A": "a\r\nb: c" }), "values of 1 to 2048"),
            ("secretHeaders", json!({ "X-Key": null }), "a value for the secret"),
            ("timeoutSeconds", json!(16), "wait 1 to 15"),
            ("timeoutSeconds", json!(0), "wait 1 to 15"),
            ("body", json!({ "to": ["{{whom}}"] }), "fill in only"),
            ("surprise", json!(1), "unknown field"),
        ] {
            let mut given = base.clone();
            given[field] = value;
            let refused = http_tools(&json!([given]), &[], &secret()).expect_err(field);
            let shown = format!("{refused:?}");
            assert!(shown.contains(named), "{field}: {shown}");
        }
        assert!(http_tools(&json!([base, base]), &[], &secret()).is_err(), "twice");
        assert!(http_tools(&json!({}), &[], &secret()).is_err());
    }
}
