//! `POST /api/v1/calls/<callSid>/recording`: a live recording is paused, and goes on.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde_json::json;

use super::body::Fields;
use super::error::ApiError;
use super::native::{OverAdminSocket, ask_plane, bad_field, text};
use super::principal::Principal;
use super::{Answer, App};
use crate::port::{CallId, Command, CommandReply};
use crate::store::{StoreError, calls, projects};

/// Whose calls may be meant: all of the box, or those of an account's projects.
pub(super) enum Asker {
    /// The owner of the box, by credential or over the admin socket.
    Owner,
    /// An account.
    Account(String),
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

/// `{"action": "pause"}` has silence stand for what is said, as while a caller reads out a card's number;
/// `{"action": "resume"}` has it recorded again. The call's `recordingGaps` tell where. A call that is not recorded stays
/// so, and doing the same twice changes nothing.
pub(super) async fn change(State(app): State<App>, asker: Asker, Path(id): Path<String>, fields: Fields) -> Answer {
    let no_such_call = || ApiError::new(404, "no_such_call", "No such call.");
    let wanted = || bad_field("action", "must be pause or resume");
    let action = text(&fields, "action")?.ok_or_else(wanted)?;
    let is_paused = match action.as_str() {
        "pause" => true,
        "resume" => false,
        _ => return Err(wanted()),
    };
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
    let over = || ApiError::new(409, "call_over", "The call is over.");
    if call.ended_ms.is_some() {
        return Err(over());
    }
    match ask_plane(&app, Command::PauseRecording { call_id, is_paused }).await? {
        CommandReply::NoSuchCall => Err(over()),
        CommandReply::Busy => Err(ApiError::new(503, "busy", "The call is busy; try again in a moment.")),
        _ => Ok(Json(json!({ "sid": call.id, "recording": if is_paused { "paused" } else { "on" } }))),
    }
}
