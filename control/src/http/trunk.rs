//! `/api/v1/trunks`: the SIP peers that calls are placed through and come from. The owner's alone.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{Owner, ask_plane, in_use, new_id, route_where, text, too_many};
use super::trunk_fields::{change, trunk_json};
use super::{Answer, App};
use crate::model::dialled;
use crate::port::{Command, CommandReply, LineStates, RouteRule, RouteSource, RouteTarget, TrunkRoute};
use crate::snapshot;
use crate::store::StoreError;
use crate::store::trunks::{self, Trunk};

/// `POST /api/v1/trunks`.
pub(super) async fn create(State(app): State<App>, _: Owner, fields: Fields) -> Result<Response, ApiError> {
    let now_ms = app.clock.now_ms();
    // A port that nobody names is SIP's own; null asks the DNS.
    let route = TrunkRoute { port: Some(PORT), ..TrunkRoute::new("", "") };
    let mut trunk = Trunk { id: new_id("trk"), route, created_ms: now_ms, updated_ms: now_ms };
    for needed in ["name", "host"] {
        text(&fields, needed)?.ok_or_else(|| ApiError::missing(needed))?;
    }
    change(&mut trunk.route, &fields, &app.secret)?;
    let trunk = app
        .store
        .write(move |connection| {
            if trunks::count(connection)? >= TRUNKS_MAX {
                return Err(too_many("trunks", TRUNKS_MAX));
            }
            trunks::put(connection, &trunk)?;
            snapshot::bump(connection)?;
            Ok(trunk)
        })
        .await?;
    app.publish().await?;
    let location = format!("/api/v1/trunks/{}", trunk.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(trunk_json(&trunk))).into_response())
}

/// `GET /api/v1/trunks`.
pub(super) async fn list(State(app): State<App>, _: Owner) -> Answer {
    let all = app.store.read(|connection| trunks::all(connection).map_err(StoreError::from)).await?;
    let lines = lines(&app).await;
    let shown: Vec<Value> = all.iter().map(|trunk| with_state(trunk, lines.as_deref())).collect();
    Ok(Json(json!({ "data": shown, "next_cursor": null })))
}

/// `GET /api/v1/trunks/:id`.
pub(super) async fn find(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Answer {
    let found = app.store.read(move |connection| trunks::find(connection, &id).map_err(StoreError::from)).await?;
    let trunk = found.ok_or_else(no_such_trunk)?;
    Ok(Json(with_state(&trunk, lines(&app).await.as_deref())))
}

/// `PATCH /api/v1/trunks/:id`: what is absent stays, null takes `username` or `password` away.
pub(super) async fn update(State(app): State<App>, _: Owner, Path(id): Path<String>, fields: Fields) -> Answer {
    let (now_ms, secret) = (app.clock.now_ms(), app.secret.clone());
    let trunk = app
        .store
        .write(move |connection| {
            let mut trunk = trunks::find(connection, &id)?.ok_or_else(no_such_trunk)?;
            change(&mut trunk.route, &fields, &secret)?;
            trunk.updated_ms = now_ms;
            trunks::put(connection, &trunk)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>(trunk)
        })
        .await?;
    app.publish().await?;
    Ok(Json(trunk_json(&trunk)))
}

/// `DELETE /api/v1/trunks/:id`: calls that it carries go on.
pub(super) async fn remove(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.store
        .write(move |connection| {
            if let Some(route) = names_trunk(connection, &id)? {
                return Err(in_use("trunk", &route));
            }
            if !trunks::remove(connection, &id)? {
                return Err(no_such_trunk());
            }
            Ok(snapshot::bump(connection)?)
        })
        .await?;
    app.publish().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/trunks/:id/test`: looks for the fault, step by step; `number` is called, too, and gets a tone.
pub(super) async fn test(State(app): State<App>, _: Owner, Path(id): Path<String>, fields: Fields) -> Answer {
    fields.only(&["number"])?;
    let number = text(&fields, "number")?;
    if number.as_deref().is_some_and(|number| dialled(number).is_none()) {
        return Err(super::native::bad_field("number", "must be a number or user as it is dialled"));
    }
    let wanted = id.clone();
    let found = app.store.read(move |connection| trunks::find(connection, &wanted).map_err(StoreError::from)).await?;
    let trunk = found.ok_or_else(no_such_trunk)?;
    match ask_plane(&app, Command::TestTrunk { trunk_id: id, number }).await? {
        CommandReply::Tested(steps) => {
            let is_ok = !steps.is_empty() && steps.iter().all(|step| step.is_ok != Some(false));
            Ok(Json(json!({ "trunk": trunk.route.name, "ok": is_ok, "steps": steps })))
        }
        CommandReply::Busy => {
            Err(ApiError::new(409, "test_runs", "A test of this trunk is running; wait for its end."))
        }
        _ => Err(no_such_trunk()),
    }
}

/// How the lines are; `None` while the call plane is away.
pub(super) async fn lines(app: &App) -> Option<Box<LineStates>> {
    match ask_plane(app, Command::Lines).await {
        Ok(CommandReply::Lines(lines)) => Some(lines),
        _ => None,
    }
}

/// A trunk with what the call plane knows of it.
fn with_state(trunk: &Trunk, lines: Option<&LineStates>) -> Value {
    let mut shown = trunk_json(trunk);
    if let Some(state) = lines.and_then(|lines| lines.trunks.get(&trunk.id)) {
        shown["state"] = json!(state);
    }
    shown
}

/// The route that leads to a trunk or begins at it.
fn names_trunk(connection: &Connection, id: &str) -> Result<Option<String>, StoreError> {
    let is_it = |rule: &RouteRule| {
        rule.from == RouteSource::Trunk { trunk_id: id.to_owned() }
            || rule.targets.iter().any(|target| matches!(target, RouteTarget::Trunk { trunk_id, .. } if trunk_id == id))
    };
    route_where(connection, is_it)
}

fn no_such_trunk() -> ApiError {
    ApiError::new(404, "no_such_trunk", "No such trunk.")
}

/// RFC 3261 §19.1.2.
const PORT: u16 = 5060;

/// 100 trunks: more lines than a site has.
const TRUNKS_MAX: i64 = 100;
