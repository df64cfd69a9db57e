//! `/api/v1/messages`: what callers have left with agents. The owner of the box sees all, an account those of its projects.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::live_call::Asker;
use super::native::{Page, bad_field, flag};
use super::{Answer, App};
use crate::clock::iso8601;
use crate::store::messages::{self, Message};

/// `GET /api/v1/messages?cursor=&limit=`, the newest first.
pub(super) async fn list(State(app): State<App>, asker: Asker, query: RawQuery) -> Answer {
    let Page { cursor, limit } = Page::read(query)?;
    let bad = || ApiError::new(400, "bad_filter", "cursor must be one that a page has named.");
    let before = cursor.map(|text| text.parse::<i64>().map_err(|_| bad())).transpose()?;
    let found = app
        .store
        .read(move |connection| Ok::<_, ApiError>(messages::latest(connection, asker.account(), before, limit)?))
        .await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.id.to_string());
    Ok(Json(json!({ "data": found.iter().map(message_json).collect::<Vec<_>>(), "next_cursor": next })))
}

/// `PATCH /api/v1/messages/:id`: `{"read": true}` says that it was read.
pub(super) async fn update(State(app): State<App>, asker: Asker, Path(id): Path<String>, fields: Fields) -> Answer {
    fields.only(&["read"])?;
    let is_read = flag(&fields, "read")?.ok_or_else(|| bad_field("read", "must be true or false"))?;
    let message = app
        .store
        .write(move |connection| {
            let mut message = find(connection, &asker, &id)?;
            messages::put_read(connection, message.id, is_read)?;
            message.is_read = is_read;
            Ok::<_, ApiError>(message)
        })
        .await?;
    Ok(Json(message_json(&message)))
}

/// `DELETE /api/v1/messages/:id`.
pub(super) async fn remove(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.store
        .write(move |connection| {
            let message = find(connection, &asker, &id)?;
            Ok::<_, ApiError>(messages::remove(connection, message.id)?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(connection: &Connection, asker: &Asker, id: &str) -> Result<Message, ApiError> {
    let no_such = || ApiError::new(404, "no_such_message", "No such message.");
    let id = id.parse::<i64>().map_err(|_| no_such())?;
    messages::find(connection, asker.account(), id)?.ok_or_else(no_such)
}

fn message_json(message: &Message) -> Value {
    json!({
        "id": message.id.to_string(),
        "call": message.call_id,
        "agent_id": message.agent_id,
        "far_end": message.far_end,
        "name": message.taken.name,
        "number": message.taken.number,
        "text": message.taken.text,
        "taken_at": iso8601(message.taken_ms),
        "read": message.is_read,
    })
}
