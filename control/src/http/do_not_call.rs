//! `/api/v1/do-not-call`: numbers that an account does not call, whoever asks for the call.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{Account, Page, bad_field, text};
use super::phone_number::parse_number;
use super::{Answer, App};
use crate::clock::iso8601;
use crate::model::line;
use crate::store::do_not_call::{self, Entry};

/// `GET /api/v1/do-not-call?cursor=&limit=`, in the order of the numbers.
pub(super) async fn list(State(app): State<App>, Account(user_id): Account, query: RawQuery) -> Answer {
    let Page { cursor, limit } = Page::read(query)?;
    let behind = cursor.unwrap_or_default();
    let found = app
        .store
        .read(move |connection| Ok::<_, ApiError>(do_not_call::list(connection, &user_id, &behind, limit)?))
        .await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.number.clone());
    Ok(Json(json!({ "data": found.iter().map(entry_json).collect::<Vec<_>>(), "next_cursor": next })))
}

/// `POST /api/v1/do-not-call`: `{"number": "+15550100", "reason": "…"}`; a number that is there stays as it was.
pub(super) async fn add(
    State(app): State<App>,
    Account(user_id): Account,
    fields: Fields,
) -> Result<Response, ApiError> {
    fields.only(&["number", "reason"])?;
    let number = parse_number(&fields.required(&["number"])?, "number")?;
    let wrong = || bad_field("reason", "must be 1 to 200 characters on one line");
    let reason = text(&fields, "reason")?.map(|given| line(&given, REASON_CHARS_MAX).ok_or_else(wrong)).transpose()?;
    let entry = Entry {
        number: number.as_str().to_owned(),
        reason: reason.unwrap_or_else(|| "added by hand".to_owned()),
        call_id: None,
        added_ms: app.clock.now_ms(),
    };
    let shown = entry.clone();
    let is_new =
        app.store.write(move |connection| Ok::<_, ApiError>(do_not_call::add(connection, &user_id, &entry)?)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(entry_json(&shown))).into_response())
}

/// `DELETE /api/v1/do-not-call/:number`.
pub(super) async fn remove(
    State(app): State<App>,
    Account(user_id): Account,
    Path(number): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.store
        .write(move |connection| {
            if !do_not_call::remove(connection, &user_id, &number)? {
                return Err(ApiError::new(404, "no_such_number", "The number is not on the list."));
            }
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "number": entry.number,
        "reason": entry.reason,
        "call": entry.call_id,
        "added_at": iso8601(entry.added_ms),
    })
}

/// 200 characters: a sentence.
const REASON_CHARS_MAX: usize = 200;
