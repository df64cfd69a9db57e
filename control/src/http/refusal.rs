//! `/api/v1/sip-refusals`: what was refused on the wire, and by which rule. The owner's alone.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::body::QueryFields;
use super::error::ApiError;
use super::native::{Owner, Page};
use super::{Answer, App};
use crate::clock::iso8601;
use crate::port::Direction;
use crate::store::StoreError;
use crate::store::refusals::{self, Refusal};

/// `GET /api/v1/sip-refusals?trunk=&call=&cursor=&limit=`, the newest first.
pub(super) async fn list(State(app): State<App>, _: Owner, query: axum::extract::RawQuery) -> Answer {
    let pairs = url::form_urlencoded::parse(query.0.unwrap_or_default().as_bytes()).into_owned().collect();
    let query = QueryFields(pairs);
    let text = |name: &str| query.text(&[name]).map(|found| found.map(str::to_owned));
    let (trunk, call) = (text("trunk")?, text("call")?);
    let Page { cursor, limit } = Page::of(&query)?;
    let bad = || ApiError::new(400, "bad_filter", "cursor must be a whole number above 0.");
    let before = cursor.map(|text| text.parse().ok().filter(|number: &i64| *number > 0).ok_or_else(bad)).transpose()?;
    let found = app
        .store
        .read(move |connection| {
            refusals::latest(connection, trunk.as_deref(), call.as_deref(), before, limit).map_err(StoreError::from)
        })
        .await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.position.to_string());
    Ok(Json(json!({ "data": found.iter().map(refusal_json).collect::<Vec<_>>(), "next_cursor": next })))
}

/// A refusal as it is shown.
pub(super) fn refusal_json(refusal: &Refusal) -> Value {
    let told = &refusal.refusal;
    json!({
        "at": iso8601(refusal.at_ms),
        "call": refusal.call_id,
        "by": if told.direction == Direction::Inbound { "box" } else { "peer" },
        "status": told.status,
        "method": told.method,
        "peer": told.peer,
        "trunk": told.trunk_id,
        "rule": told.rule,
        "more": told.more,
    })
}
