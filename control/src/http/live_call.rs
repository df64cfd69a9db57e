//! `/api/v1/calls/<callSid>/…`: what is done to a call while it is up.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde_json::json;

use super::body::Fields;
use super::error::ApiError;
use super::native::{OverAdminSocket, ask_plane, bad_field, number, text};
use super::principal::Principal;
use super::{Answer, App};
use crate::port::{COLLECT_KEYS_MAX, CallId, CollectEnd, CollectOrder, Command, CommandReply};
use crate::store::{StoreError, calls, projects};

/// Whose calls may be meant: all of the box, or those of an account's projects.
pub(super) enum Asker {
    /// The owner of the box, by credential or over the admin socket.
    Owner,
    /// An account.
    Account(String),
}

impl Asker {
    /// The account, where it is not the whole box.
    pub(super) fn account(&self) -> Option<&str> {
        match self {
            Asker::Owner => None,
            Asker::Account(user_id) => Some(user_id),
        }
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if parts.extensions.get::<OverAdminSocket>().is_some() {
            return Ok(Asker::Owner);
        }
        let Principal(user) = Principal::from_request_parts(parts, app).await?;
        Ok(if user.is_owner { Asker::Owner } else { Asker::Account(user.id) })
    }
}

/// `POST /api/v1/calls/<callSid>/recording`: `{"action": "pause"}` has silence stand for what is said, as while a caller
/// reads out a card's number; `{"action": "resume"}` has it recorded again. The call's `recordingGaps` tell where. A call
/// that is not recorded stays so, and doing the same twice changes nothing.
pub(super) async fn recording(State(app): State<App>, asker: Asker, Path(id): Path<String>, fields: Fields) -> Answer {
    let wanted = || bad_field("action", "must be pause or resume");
    let is_paused = match text(&fields, "action")?.ok_or_else(wanted)?.as_str() {
        "pause" => true,
        "resume" => false,
        _ => return Err(wanted()),
    };
    let call_id = find(&app, asker, id).await?;
    ask(&app, Command::PauseRecording { call_id, is_paused }).await?;
    Ok(Json(json!({ "sid": call_id.to_string(), "recording": if is_paused { "paused" } else { "on" } })))
}

/// `POST /api/v1/calls/<callSid>/digits`: collects keys from the caller, for whoever asks alone. Meanwhile the agent hears
/// silence and no key, and the recording is paused. Answers when it is over: `{"digits": "1234", "ended_by": …}`, which is
/// `full`, `finish_key`, `timeout` or `call_over`. Nothing is stored.
///
/// `max` is 1 to 32 keys, `finish_on` one key or null, `first_within_s` 1 to 60 and `next_within_s` 1 to 30; the defaults
/// are 16, `#`, 10 and 5. After 120 s in all it is over.
pub(super) async fn digits(State(app): State<App>, asker: Asker, Path(id): Path<String>, fields: Fields) -> Answer {
    let order = order(&fields)?;
    let call_id = find(&app, asker, id).await?;
    match ask(&app, Command::Collect { call_id, order }).await? {
        CommandReply::Collecting => Err(ApiError::new(
            409,
            "collecting",
            "Digits are being collected in this call already; wait for their end.",
        )),
        CommandReply::Collected(collected) if collected.ended_by == CollectEnd::NotAnswered => {
            Err(ApiError::new(409, "not_answered", "The call has not been answered yet."))
        }
        CommandReply::Collected(collected) => Ok(Json(json!({
            "sid": call_id.to_string(), "digits": collected.keys.0, "ended_by": collected.ended_by,
        }))),
        _ => Err(busy()),
    }
}

/// `POST /api/v1/calls/<callSid>/transfer`: `{"to": "101"}` puts the caller of an agent through, to a number or an extension
/// as dialled, by the rules that the agent's own transfers go by. The agent waits meanwhile, and has the caller back if
/// nobody takes them.
pub(super) async fn transfer(State(app): State<App>, asker: Asker, Path(id): Path<String>, fields: Fields) -> Answer {
    fields.only(&["to"])?;
    let wrong = || bad_field("to", "must be a number or an extension, as a phone would dial it");
    let to = text(&fields, "to")?.filter(|to| is_dialled(to)).ok_or_else(wrong)?;
    let call_id = find(&app, asker, id).await?;
    ask(&app, Command::Transfer { call_id, to }).await?;
    Ok(Json(json!({ "sid": call_id.to_string(), "transfer": "begun" })))
}

/// `POST /api/v1/calls/<callSid>/hangup`.
pub(super) async fn hang_up(State(app): State<App>, asker: Asker, Path(id): Path<String>) -> Answer {
    let call_id = find(&app, asker, id).await?;
    ask(&app, Command::HangUp { call_id }).await?;
    Ok(Json(json!({ "sid": call_id.to_string(), "hangup": "begun" })))
}

/// What a phone could dial.
pub(super) fn is_dialled(text: &str) -> bool {
    (1..=DIALLED_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// 40 characters: any number and most names, as routing shows them.
const DIALLED_CHARS_MAX: usize = 40;

fn order(fields: &Fields) -> Result<CollectOrder, ApiError> {
    fields.only(&["max", "finish_on", "first_within_s", "next_within_s"])?;
    let within = |name, max, default| {
        // Both are below 256.
        Ok::<_, ApiError>(number(fields, name, 1..=max)?.map_or(default, |number| number as u8))
    };
    let finish_key = match fields.given("finish_on") {
        Some(serde_json::Value::Null) => None,
        _ => match text(fields, "finish_on")?.as_deref().map(str::as_bytes) {
            None => Some('#'),
            Some([key @ (b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D')]) => Some(char::from(*key)),
            Some(_) => return Err(bad_field("finish_on", "must be one key of 0-9, *, #, A-D, or null")),
        },
    };
    Ok(CollectOrder {
        keys_max: within("max", COLLECT_KEYS_MAX.into(), 16)?,
        finish_key,
        first_within_s: within("first_within_s", 60, 10)?,
        next_within_s: within("next_within_s", 30, 5)?,
    })
}

/// Finds a call that is up and the asker's.
async fn find(app: &App, asker: Asker, id: String) -> Result<CallId, ApiError> {
    let call_id: CallId = id.parse().map_err(|_| no_such_call())?;
    let found = app.store.read(move |connection| {
        let Some(call) = calls::find_anywhere(connection, &id)? else { return Ok(None) };
        let is_theirs = match (&asker, &call.project_id) {
            (Asker::Owner, _) => true,
            (Asker::Account(user), Some(project)) => projects::find(connection, user, project)?.is_some(),
            (Asker::Account(_), None) => false,
        };
        Ok::<_, StoreError>(is_theirs.then_some(call))
    });
    let call = found.await?.ok_or_else(no_such_call)?;
    if call.ended_ms.is_some() { Err(over()) } else { Ok(call_id) }
}

async fn ask(app: &App, command: Command) -> Result<CommandReply, ApiError> {
    match ask_plane(app, command).await? {
        CommandReply::NoSuchCall => Err(over()),
        CommandReply::Busy => Err(busy()),
        reply => Ok(reply),
    }
}

fn no_such_call() -> ApiError {
    ApiError::new(404, "no_such_call", "No such call.")
}

fn over() -> ApiError {
    ApiError::new(409, "call_over", "The call is over.")
}

fn busy() -> ApiError {
    ApiError::new(503, "busy", "The call is busy; try again in a moment.")
}
