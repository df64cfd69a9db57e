//! The webhook of a project.

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::body::Fields;
use super::error::ApiError;
use super::principal::Principal;
use super::{Answer, App};
use crate::store::{projects, webhooks};
use crate::webhook::{HookUrl, SECRET_PURPOSE, WebhookSecret};

/// `POST /project/call-status/add-webhookurl`. Each hook has a secret of its own, and only this answer shows it.
pub(super) async fn add(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let project_id = fields.required(&["projectId"])?;
    // Settlement A16.
    let url = fields.required(&["webhookURL", "webhookUrl", "call_status_webhook"])?.trim().to_owned();
    HookUrl::parse(&url).map_err(|error| ApiError::new(400, "invalid_webhook_url", error.to_string()))?;
    let secret = WebhookSecret::make().reveal();
    let sealed = app.secret.seal(SECRET_PURPOSE, &secret);
    app.store
        .write(move |connection| {
            projects::find(connection, &user.id, &project_id)?.ok_or_else(ApiError::no_such_project)?;
            Ok::<_, ApiError>(webhooks::put(connection, &project_id, &url, &sealed, now_ms)?)
        })
        .await?;
    Ok(Json(json!({ "message": "added webhook url.", "status": "success", "webhookSecret": secret })))
}
