//! The small part of Twilio's REST API through which bots that were written for it hang up and transfer:
//! `/2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json`.
//!
//! The account's key is Twilio's auth token: Basic authentication with any `AC…` or `SK…` as the user and the key as the
//! password. Errors have Twilio's codes. TwiML is read as far as a call that talks to an agent can follow it: `<Hangup/>`,
//! and `<Dial>` with a number or an extension, as the agent's own transfer would take it. Unlike at Twilio, a caller whom
//! nobody takes is back with the agent.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use super::live_call::is_dialled;
use super::native::ask_plane;
use crate::call_status::CallStatus;
use crate::clock::rfc2822;
use crate::port::{CallId, Command, CommandReply, Direction};
use crate::secret::digest;
use crate::store::calls::{self, Call};
use crate::store::users::User;
use crate::store::{StoreError, projects, users};

/// The account behind Basic authentication.
pub(super) struct BasicAccount(User);

impl FromRequestParts<App> for BasicAccount {
    type Rejection = TwilioError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, TwilioError> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, credentials) = value.and_then(|value| value.split_once(' ')).ok_or(TwilioError::UNAUTHORIZED)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(TwilioError::UNAUTHORIZED);
        }
        let decoded = base64_simd::STANDARD.decode_to_vec(credentials.trim()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(TwilioError::UNAUTHORIZED)?;
        let (_, key) = decoded.split_once(':').ok_or(TwilioError::UNAUTHORIZED)?;
        let key = digest(key);
        let found = app.store.read(move |connection| users::by_api_key(connection, &key).map_err(StoreError::from));
        found.await.map_err(|_| TwilioError::INTERNAL)?.map(BasicAccount).ok_or(TwilioError::UNAUTHORIZED)
    }
}

/// An error as Twilio writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TwilioError {
    status: StatusCode,
    code: u32,
    message: &'static str,
}

impl TwilioError {
    const UNAUTHORIZED: Self = TwilioError::new(StatusCode::UNAUTHORIZED, 20003, "Authenticate");
    const NOT_FOUND: Self = TwilioError::new(StatusCode::NOT_FOUND, 20404, "The requested resource was not found");
    const INTERNAL: Self = TwilioError::new(StatusCode::INTERNAL_SERVER_ERROR, 20500, "Internal Server Error");
    const BUSY: Self = TwilioError::new(StatusCode::SERVICE_UNAVAILABLE, 20503, "Service Unavailable");
    const NOT_IN_PROGRESS: Self =
        TwilioError::new(StatusCode::BAD_REQUEST, 21220, "Call is not in-progress. Cannot redirect.");
    const STATUS: Self =
        TwilioError::new(StatusCode::BAD_REQUEST, 21218, "Status must be completed or canceled; or send Twiml");
    const TWIML: Self = TwilioError::new(
        StatusCode::BAD_REQUEST,
        12100,
        "Twiml must be a Response with a Hangup, or a Dial with one number or extension; Url is not fetched",
    );

    const fn new(status: StatusCode, code: u32, message: &'static str) -> Self {
        TwilioError { status, code, message }
    }
}

impl IntoResponse for TwilioError {
    fn into_response(self) -> Response {
        let TwilioError { status, code, message } = self;
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let body = json!({ "code": code, "message": message, "more_info": more_info, "status": status.as_u16() });
        (status, Json(body)).into_response()
    }
}

/// `GET …/Calls/{CallSid}.json`.
pub(super) async fn find(
    State(app): State<App>,
    BasicAccount(user): BasicAccount,
    Path((account, sid)): Path<(String, String)>,
) -> Result<Json<Value>, TwilioError> {
    let (call, direction) = own(&app, &user, &sid).await?;
    Ok(Json(call_json(&account, &call, direction)))
}

/// `POST …/Calls/{CallSid}.json`: `Status=completed` hangs up, `Twiml=` hangs up or puts the caller through.
pub(super) async fn update(
    State(app): State<App>,
    BasicAccount(user): BasicAccount,
    Path((account, sid)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, TwilioError> {
    let wanted = wanted(&body)?;
    let (call, direction) = own(&app, &user, &sid).await?;
    let call_id: CallId = call.id.parse().map_err(|_| TwilioError::NOT_FOUND)?;
    if call.ended_ms.is_some() {
        return Err(match wanted {
            Wanted::HangUp => TwilioError::NOT_FOUND,
            Wanted::Dial(_) => TwilioError::NOT_IN_PROGRESS,
        });
    }
    let command = match wanted {
        Wanted::HangUp => Command::HangUp { call_id },
        Wanted::Dial(to) => Command::Transfer { call_id, to },
    };
    match ask_plane(&app, command).await.map_err(|_| TwilioError::BUSY)? {
        CommandReply::Accepted => Ok(Json(call_json(&account, &call, direction))),
        CommandReply::NoSuchCall => Err(TwilioError::NOT_FOUND),
        _ => Err(TwilioError::BUSY),
    }
}

/// What an update asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    HangUp,
    /// Put the caller through, as dialled.
    Dial(String),
}

fn wanted(body: &[u8]) -> Result<Wanted, TwilioError> {
    let mut twiml = None;
    for (name, value) in url::form_urlencoded::parse(body) {
        match (name.as_ref(), value.as_ref()) {
            ("Status", "completed" | "canceled") => return Ok(Wanted::HangUp),
            ("Status", _) => return Err(TwilioError::STATUS),
            ("Twiml", text) => twiml = Some(read_twiml(text)),
            ("Url", _) => return Err(TwilioError::TWIML),
            _ => {}
        }
    }
    twiml.unwrap_or(Err(TwilioError::STATUS))
}

/// The first verb that changes where the call goes. What would be said or played before it is left out.
fn read_twiml(text: &str) -> Result<Wanted, TwilioError> {
    // The parser takes no document type by itself, and so expands nothing.
    let document = roxmltree::Document::parse(text).map_err(|_| TwilioError::TWIML)?;
    let root = document.root_element();
    if text.len() > TWIML_BYTES_MAX || !root.has_tag_name("Response") {
        return Err(TwilioError::TWIML);
    }
    for verb in root.children().filter(roxmltree::Node::is_element) {
        match verb.tag_name().name() {
            "Hangup" | "Reject" => return Ok(Wanted::HangUp),
            "Dial" => return dialled(verb).map(Wanted::Dial).ok_or(TwilioError::TWIML),
            "Say" | "Play" | "Pause" => {}
            _ => return Err(TwilioError::TWIML),
        }
    }
    // A document that ends hangs up.
    Ok(Wanted::HangUp)
}

/// Whom `<Dial>` calls: its text, or that of its one noun.
fn dialled(dial: roxmltree::Node<'_, '_>) -> Option<String> {
    let mut nouns = dial.children().filter(roxmltree::Node::is_element);
    let text = match (nouns.next(), nouns.next()) {
        (None, _) => dial.text(),
        (Some(noun), None) if matches!(noun.tag_name().name(), "Number" | "Sip") => noun.text(),
        _ => None,
    };
    let text = text.unwrap_or_default().trim();
    let user = text.strip_prefix("sip:").map_or(text, |uri| uri.split(['@', ';']).next().unwrap_or_default());
    let plain: String = user.chars().filter(|letter| !matches!(letter, ' ' | '-' | '(' | ')')).collect();
    is_dialled(&plain).then_some(plain)
}

/// A call of a project of the account's, and which way it went.
async fn own(app: &App, user: &User, sid: &str) -> Result<(Call, Direction), TwilioError> {
    let id = sid.strip_suffix(".json").unwrap_or(sid).to_owned();
    let user_id = user.id.clone();
    let found = app.store.read(move |connection| {
        let Some(call) = calls::find_anywhere(connection, &id)? else { return Ok(None) };
        let is_own = match &call.project_id {
            Some(project) => projects::find(connection, &user_id, project)?.is_some(),
            None => false,
        };
        let direction = calls::direction(connection, &id)?;
        Ok::<_, StoreError>(is_own.then_some((call, direction)))
    });
    found.await.map_err(|_| TwilioError::INTERNAL)?.ok_or(TwilioError::NOT_FOUND)
}

fn call_json(account: &str, call: &Call, direction: Direction) -> Value {
    let date = |ms: Option<i64>| ms.map(rfc2822);
    let status = match call.status {
        // Twilio has no words for these.
        CallStatus::Voicemail | CallStatus::Silence => CallStatus::Completed,
        status => status,
    };
    let direction = match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound-api",
    };
    json!({
        "sid": call.id,
        "account_sid": account,
        "parent_call_sid": null,
        "from": call.from,
        "to": call.to,
        "status": status.name(),
        "direction": direction,
        "date_created": rfc2822(call.started_ms),
        "date_updated": rfc2822(call.ended_ms.or(call.answered_ms).unwrap_or(call.started_ms)),
        "start_time": date(call.answered_ms),
        "end_time": date(call.ended_ms),
        "duration": call.ended_ms.map(|_| call.seconds().to_string()),
        "answered_by": null,
        "price": null,
        "api_version": "2010-04-01",
        "uri": format!("/2010-04-01/Accounts/{account}/Calls/{}.json", call.id),
    })
}

/// 4,000 characters, as Twilio takes them.
const TWIML_BYTES_MAX: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_read_as_far_as_a_call_can_follow_it() {
        let dial = |text: &str| Some(Wanted::Dial(text.into()));
        for (body, expected) in [
            ("Status=completed", Some(Wanted::HangUp)),
            ("Status=canceled&Twiml=%3CResponse%2F%3E", Some(Wanted::HangUp)),
            ("Status=in-progress", None),
            ("", None),
            ("Url=https%3A%2F%2Fa.example%2F", None),
            ("Twiml=<Response><Dial>%2B1 (415) 555-0100</Dial></Response>", dial("+14155550100")),
            ("Twiml=<Response><Say>Bye</Say><Dial><Number>101</Number></Dial></Response>", dial("101")),
            ("Twiml=<Response><Dial><Sip>sip:reception@box;transport=tcp</Sip></Dial></Response>", dial("reception")),
            ("Twiml=<Response><Hangup/></Response>", Some(Wanted::HangUp)),
            ("Twiml=<Response/>", Some(Wanted::HangUp)),
            ("Twiml=<Response><Dial/></Response>", None),
            ("Twiml=<Response><Dial><Number>1</Number><Number>2</Number></Dial></Response>", None),
            ("Twiml=<Response><Dial><Conference>x</Conference></Dial></Response>", None),
            ("Twiml=<Response><Enqueue>x</Enqueue></Response>", None),
            ("Twiml=<Dial>101</Dial>", None),
            ("Twiml=<!DOCTYPE a [<!ENTITY b \"101\">]><Response><Dial>%26b;</Dial></Response>", None),
            ("Twiml=<Response", None),
        ] {
            assert_eq!(wanted(body.as_bytes()).ok(), expected, "{body}");
        }
        let long = format!("Twiml=<Response><Say>{}</Say></Response>", "a".repeat(4000));
        assert!(wanted(long.as_bytes()).is_err());
    }
}
