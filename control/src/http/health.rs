//! Whether the box lives, and whether it is ready.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use crate::store::{StoreError, settings};

/// `GET /healthz`: the sockets are bound.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`: the database answers and the call plane is connected.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let read = app.store.read(|connection| settings::find(connection, "readiness").map_err(StoreError::from)).await;
    let checks = [("database", read.is_ok()), ("calls", app.plane.is_connected())];
    let status = if checks.iter().all(|(_, ok)| *ok) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks: Vec<_> = checks.iter().map(|(name, ok)| json!({ "name": name, "ok": ok })).collect();
    (status, Json(json!({ "checks": checks }))).into_response()
}
