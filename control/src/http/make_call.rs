//! `POST /call/makeCall`: checks what a call needs, stores it, and answers; the dispatcher places it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::App;
use super::body::Fields;
use super::error::ApiError;
use super::phone_number::parse_number;
use super::principal::Principal;
use crate::gate::{DialPolicy, Gate, GateRefusal, is_emergency};
use crate::model::E164;
use crate::port::{CallId, CommandId, DialOrder};
use crate::secret::random;
use crate::store::agents::Agent;
use crate::store::dials::Dial;
use crate::store::idempotency::Kept;
use crate::store::trunks::Trunk;
use crate::store::{agents, calls, dials, do_not_call, idempotency, numbers, projects, trunks};
use crate::webhook::announce;

/// What the operator has set of calls that are placed (`[dial]`, `calls.max`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialSettings {
    /// Where the box calls.
    pub policy: DialPolicy,
    /// Calls that an account has placed and that are up, at most.
    pub max_calls: u32,
    /// Calls that an account places within 60 s, at most.
    pub per_minute: u32,
    /// Calls of the box at once, both ways.
    pub calls_max: u32,
}

impl Default for DialSettings {
    /// 10 at once, 60 a minute, 1,000 on the box.
    fn default() -> Self {
        DialSettings { policy: DialPolicy::default(), max_calls: 10, per_minute: 60, calls_max: 1000 }
    }
}

/// What placing calls needs beside the store.
#[derive(Debug)]
pub struct Dialling {
    pub(crate) settings: DialSettings,
    pub(crate) gate: Gate,
    /// An order was stored.
    pub(crate) order_waits: Arc<Notify>,
}

impl Dialling {
    /// Builds the gate from the settings.
    pub fn new(settings: DialSettings) -> Self {
        let gate = Gate::new(settings.policy.clone());
        Dialling { settings, gate, order_waits: Arc::default() }
    }
}

/// `POST /call/makeCall`.
pub(super) async fn make_call(
    State(app): State<App>,
    Principal(user): Principal,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, ApiError> {
    let request = Request {
        user_id: user.id,
        project_id: fields.required(&["projectId"])?,
        agent_id: fields.required(&["agentId"])?,
        to: callee(&fields.required(&["number"])?)?,
        variables: variables(fields.given("dynamicVariables"))?,
        now_ms: app.clock.now_ms(),
    };
    let repeatable = headers.get("idempotency-key").map(idempotency_key).transpose()?;
    let repeatable = repeatable.map(|key| (key, fields.digest()));
    let dialling = Arc::clone(&app.dialling);
    let (answer, was_replayed) = app
        .store
        .write(move |connection| match repeatable {
            None => request.place(connection, &dialling).map(|answer| (answer, false)),
            Some((key, body_digest)) => request.place_once(connection, &dialling, &key, &body_digest),
        })
        .await?;
    app.dialling.order_waits.notify_one();
    let mut response = Json(answer).into_response();
    if was_replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A call as it was asked for.
struct Request {
    user_id: String,
    project_id: String,
    agent_id: String,
    to: E164,
    variables: BTreeMap<String, String>,
    now_ms: i64,
}

impl Request {
    /// Answers a repetition as the first time, for 24 hours.
    fn place_once(
        self,
        connection: &Connection,
        dialling: &Dialling,
        key: &str,
        body_digest: &[u8; 32],
    ) -> Result<(Value, bool), ApiError> {
        let (user_id, now_ms) = (self.user_id.clone(), self.now_ms);
        let since_ms = now_ms - KEPT_MS;
        if let Some(kept) = idempotency::find(connection, &user_id, key, since_ms)? {
            if kept.body_digest != body_digest {
                let message = "The Idempotency-Key was used for another request.";
                return Err(ApiError::new(422, "idempotency_key_reused", message));
            }
            return Ok((serde_json::from_str(&kept.answer).unwrap_or_default(), true));
        }
        let answer = self.place(connection, dialling)?;
        let kept = Kept { body_digest: body_digest.to_vec(), answer: answer.to_string() };
        idempotency::put(connection, &user_id, key, &kept, since_ms, now_ms)?;
        Ok((answer, false))
    }

    /// Checks everything and stores the call and its order.
    fn place(self, connection: &Connection, dialling: &Dialling) -> Result<Value, ApiError> {
        projects::find(connection, &self.user_id, &self.project_id)?.ok_or_else(ApiError::no_such_project)?;
        let agent = self.agent(connection)?;
        let from = self.caller(connection, agent)?;
        dialling.gate.check(&self.to, &from).map_err(not_allowed)?;
        if do_not_call::is_listed(connection, &self.user_id, self.to.as_str())? {
            return Err(ApiError::new(400, "do_not_call", "The number is on the do-not-call list."));
        }
        let trunk = trunk_for(connection, &from)?;
        self.check_capacity(connection, &trunk, &dialling.settings)?;
        let order = DialOrder {
            call_id: CallId(u128::from_be_bytes(random())),
            to: self.to.as_str().to_owned(),
            from: from.as_str().to_owned(),
            project_id: self.project_id,
            agent_id: self.agent_id,
            variables: self.variables,
        };
        let answer = json!({
            "message": "call made successfully.",
            "status": "success",
            "call": { "call_id": order.call_id.to_string(), "to": order.to, "from": order.from },
        });
        calls::queue(connection, &order, &trunk.id, self.now_ms)?;
        announce(connection, &order.call_id.to_string(), self.now_ms)?;
        let command_id = CommandId(uuid::Uuid::new_v4().to_string());
        dials::insert(connection, &Dial { order, command_id, was_offered: false, created_ms: self.now_ms })?;
        Ok(answer)
    }

    fn agent(&self, connection: &Connection) -> Result<Agent, ApiError> {
        let agent = agents::find_anywhere(connection, &self.user_id, &self.agent_id)?;
        let agent = agent.ok_or_else(ApiError::no_such_agent)?;
        if agent.project_id == self.project_id {
            return Ok(agent);
        }
        Err(ApiError::agent_of_another_project())
    }

    /// The agent's number, or the only free one of its project (settlement A41).
    fn caller(&self, connection: &Connection, agent: Agent) -> Result<E164, ApiError> {
        let own = match agent.phone_number {
            Some(number) => Some(number),
            None => match numbers::free(connection, &self.project_id)?.as_mut_slice() {
                [only] => Some(std::mem::take(only)),
                _ => None,
            },
        };
        own.and_then(|number| E164::parse(&number)).ok_or_else(|| {
            ApiError::new(400, "agent_has_no_number", "The agent has no phone number to call from; assign one first.")
        })
    }

    /// Counted from the rows in the transaction that adds one: requests at once do not slip past together.
    fn check_capacity(&self, connection: &Connection, trunk: &Trunk, settings: &DialSettings) -> Result<(), ApiError> {
        let on_box = calls::count_open(connection)?;
        let on_trunk = calls::count_open_on_trunk(connection, &trunk.id)?;
        if on_box >= settings.calls_max.into() || on_trunk >= trunk.route.max_channels.into() {
            let message = "All lines are in use; try again in a moment.";
            return Err(ApiError::new(429, "capacity", message).retry_after(CAPACITY_RETRY_S));
        }
        let too_many = |message: String, seconds| ApiError::new(429, "too_many_calls", message).retry_after(seconds);
        if calls::count_open_outbound(connection, &self.user_id)? >= settings.max_calls.into() {
            let message = format!("{} calls are under way, as many as are allowed at once.", settings.max_calls);
            return Err(too_many(message, CAPACITY_RETRY_S));
        }
        let since_ms = self.now_ms - MINUTE_MS;
        if let Some(placed_ms) =
            calls::nth_latest_outbound_ms(connection, &self.user_id, settings.per_minute, since_ms)?
        {
            let message = format!("{} calls were placed within a minute, as many as are allowed.", settings.per_minute);
            return Err(too_many(message, (placed_ms - since_ms).unsigned_abs().div_ceil(1000)));
        }
        Ok(())
    }
}

/// The trunk that is tried first with the number.
fn trunk_for(connection: &Connection, from: &E164) -> Result<Trunk, ApiError> {
    let all = trunks::all(connection)?;
    let some_list = all.iter().any(|trunk| !trunk.route.numbers.is_empty());
    let carriers = all.into_iter().filter(|trunk| trunk.route.presents(from.as_str()).is_some());
    carriers.min_by_key(|trunk| trunk.route.rank(from.as_str())).ok_or_else(|| {
        if some_list {
            ApiError::new(400, "caller_id_not_owned", "The agent's number is on no trunk of this box.")
        } else {
            ApiError::new(400, "no_trunk", "No trunk carries the agent's number; add one, or make one the default.")
        }
    })
}

/// Reads whom to call. Emergency numbers are named as what they are, though they are no E.164.
fn callee(text: &str) -> Result<E164, ApiError> {
    if is_emergency(text.trim()) {
        return Err(not_allowed(GateRefusal::Emergency));
    }
    parse_number(text, "number")
}

fn not_allowed(refusal: GateRefusal) -> ApiError {
    ApiError::new(400, "destination_not_allowed", refusal.to_string())
}

/// Reads what the placeholders stand for: scalars as text, nothing nested (settlements A37, S16).
fn variables(given: Option<&Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let bad = |message: &str| ApiError::new(400, "bad_dynamic_variables", message);
    let fields = match given {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) if fields.len() <= VARIABLES_MAX => fields,
        Some(_) => return Err(bad("dynamicVariables must be an object of at most 100 texts.")),
    };
    let is_name = |name: &str| {
        (1..=VARIABLE_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let mut read = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in fields {
        if !is_name(name) {
            return Err(bad("A dynamic variable's name must be 1 to 64 of letters, digits, _, . and -."));
        }
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => {
                text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect()
            }
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(bad("A dynamic variable must be a text or a number.")),
        };
        bytes += text.len();
        if text.chars().count() > VARIABLE_CHARS_MAX || bytes > VARIABLES_BYTES_MAX {
            return Err(bad("A dynamic variable must not exceed 4000 characters, nor all of them 32 KiB."));
        }
        read.insert(name.clone(), text);
    }
    Ok(read)
}

fn idempotency_key(value: &HeaderValue) -> Result<String, ApiError> {
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let wrong = || ApiError::new(400, "bad_idempotency_key", "Idempotency-Key must be 1 to 255 visible characters.");
    key.map(str::to_owned).ok_or_else(wrong)
}

/// 100 variables: a form of four pages.
const VARIABLES_MAX: usize = 100;

/// 64 bytes: longer than any column's name.
const VARIABLE_NAME_BYTES_MAX: usize = 64;

/// 4,000 characters: a page of text.
const VARIABLE_CHARS_MAX: usize = 4000;

/// 32 KiB for all: with the names, an order stays below 64 KiB.
const VARIABLES_BYTES_MAX: usize = 32 << 10;

/// 255: Stripe's bound.
const KEY_BYTES_MAX: usize = 255;

/// 24 h, as Stripe keeps them.
const KEPT_MS: i64 = 24 * 3_600_000;

/// 60 s.
const MINUTE_MS: i64 = 60_000;

/// 5 s: with calls of two minutes on 30 lines, one is free by then.
const CAPACITY_RETRY_S: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_become_texts_and_what_is_nested_or_too_much_is_refused() {
        let read = variables(Some(&json!({ "name": "J\u{7}ohn\n", "n": 3, "x": 0.5, "yes": true, "none": null })));
        let expected = [("n", "3"), ("name", "John\n"), ("none", ""), ("x", "0.5"), ("yes", "true")];
        let expected: BTreeMap<_, _> = expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        assert_eq!(read.expect("scalars"), expected);
        assert_eq!(variables(Some(&Value::Null)).expect("absent"), BTreeMap::new());
        let many: serde_json::Map<String, Value> = (0..101).map(|n| (n.to_string(), json!(n))).collect();
        let large: serde_json::Map<String, Value> = (0..9).map(|n| (n.to_string(), json!("x".repeat(4000)))).collect();
        for bad in [
            json!([]),
            json!("x"),
            json!({ "a": {} }),
            json!({ "a": [1] }),
            json!({ "": "x" }),
            json!({ "a b": "x" }),
            json!({ "a": "x".repeat(4001) }),
            json!({ "x".repeat(65): "x" }),
            Value::Object(many),
            Value::Object(large),
        ] {
            assert!(variables(Some(&bad)).is_err(), "{bad}");
        }
    }
}
