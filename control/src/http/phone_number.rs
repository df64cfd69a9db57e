//! Phone numbers.

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::body::Fields;
use super::error::ApiError;
use super::principal::Principal;
use super::{Answer, App};
use crate::model::E164;
use crate::snapshot;
use crate::store::numbers::{self, Assigned};
use crate::store::{agents, projects};

/// `POST /phone-number/add-number`.
pub(super) async fn assign(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let number = parse_number(&fields.required(&["e164"])?, "e164")?;
    let (project_id, agent_id) = (fields.required(&["projectId"])?, fields.required(&["agentId"])?);
    app.store
        .write(move |connection| {
            projects::find(connection, &user.id, &project_id)?.ok_or_else(ApiError::no_such_project)?;
            agents::find(connection, &user.id, &project_id, &agent_id)?.ok_or_else(ApiError::no_such_agent)?;
            let id = uuid::Uuid::new_v4().to_string();
            match numbers::assign(connection, &user.id, &id, number.as_str(), &project_id, &agent_id, now_ms)? {
                Assigned::Taken => Err(number_taken()),
                Assigned::Done => Ok(snapshot::bump(connection)?),
            }
        })
        .await?;
    app.publish().await?;
    Ok(Json(json!({ "message": "PhoneNumber assigned successfully.", "status": "success" })))
}

/// Reads a number, or says which field is wrong.
pub(super) fn parse_number(text: &str, field: &str) -> Result<E164, ApiError> {
    E164::parse(text).ok_or_else(|| {
        ApiError::new(400, "invalid_number", format!("{field} must be a number with + and country code."))
    })
}

/// The number belongs to somebody else; who that is stays untold.
pub(super) fn number_taken() -> ApiError {
    ApiError::new(400, "number_unavailable", "The number cannot be assigned.")
}
