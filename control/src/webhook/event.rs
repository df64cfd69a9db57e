//! What a webhook is told: the flat call object, and whose it is.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::call_object::flat;
use crate::store::webhooks::Place;
use crate::store::{calls, deliveries, webhooks};

/// Queues the status that a call has now for its project's webhook, if there is one. Call it in the transaction that
/// changes the status.
///
/// # Errors
/// What SQLite says.
pub fn announce(connection: &Connection, call_id: &str, at_ms: i64) -> rusqlite::Result<()> {
    let Some(call) = calls::find_anywhere(connection, call_id)? else { return Ok(()) };
    let Some(project_id) = call.project_id.clone() else { return Ok(()) };
    match webhooks::take_place(connection, &project_id)? {
        Place::NoHook => return Ok(()),
        Place::Full => {
            tracing::warn!(project = project_id, call = call_id, "Too many events wait for a webhook; one is lost");
            return Ok(());
        }
        Place::Taken => {}
    }
    let event_id = uuid::Uuid::new_v4().to_string();
    // Links expire: they are made when the event goes out.
    let mut body = flat(&call, &[]);
    body["event"] = json!("call.status");
    body["eventId"] = json!(event_id);
    body["permanent"] = json!(call.status.is_permanent());
    deliveries::insert(connection, &event_id, &project_id, call_id, &body.to_string(), at_ms)
}

/// The body with its links.
pub(super) fn with_links(body: &str, links: &[String]) -> String {
    if links.is_empty() {
        return body.to_owned();
    }
    match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            value["recordingUrls"] = json!(links);
            value.to_string()
        }
        Err(_) => body.to_owned(),
    }
}
