//! `/api/v1/routes`: where calls go. The first that matches decides. The owner's alone.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::body::Fields;
use super::error::ApiError;
use super::native::{Owner, ask_plane, bad_field, new_id, text, texts, too_many};
use super::route_fields::{change, check, instant, route_json, source};
use super::{Answer, App};
use crate::model::dialled;
use crate::port::{Command, CommandReply, RouteQuestion, RouteRule};
use crate::snapshot;
use crate::store::StoreError;
use crate::store::routes::{self, Route};

/// `POST /api/v1/routes`: the last to be asked, until the order is changed.
pub(super) async fn create(State(app): State<App>, _: Owner, fields: Fields) -> Result<Response, ApiError> {
    let now_ms = app.clock.now_ms();
    for needed in ["name", "targets"] {
        fields.given(needed).ok_or_else(|| ApiError::missing(needed))?;
    }
    let mut rule = RouteRule { id: new_id("rte"), ..RouteRule::default() };
    change(&mut rule, &fields)?;
    let route = app
        .store
        .write(move |connection| {
            if routes::all(connection)?.len() as i64 >= ROUTES_MAX {
                return Err(too_many("routes", ROUTES_MAX));
            }
            check(connection, &rule)?;
            let position = routes::next_position(connection)?;
            let route = Route { rule, position, created_ms: now_ms, updated_ms: now_ms };
            routes::put(connection, &route)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>(route)
        })
        .await?;
    app.publish().await?;
    let location = format!("/api/v1/routes/{}", route.rule.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(route_json(&route))).into_response())
}

/// `GET /api/v1/routes`, in the order they are asked.
pub(super) async fn list(State(app): State<App>, _: Owner) -> Answer {
    let all = app.store.read(|connection| routes::all(connection).map_err(StoreError::from)).await?;
    Ok(Json(json!({ "data": all.iter().map(route_json).collect::<Vec<_>>(), "next_cursor": null })))
}

/// `GET /api/v1/routes/:id`.
pub(super) async fn find(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Answer {
    let found = app.store.read(move |connection| routes::find(connection, &id).map_err(StoreError::from)).await?;
    Ok(Json(route_json(&found.ok_or_else(no_such_route)?)))
}

/// `PATCH /api/v1/routes/:id`: what is absent stays; lists are replaced whole.
pub(super) async fn update(State(app): State<App>, _: Owner, Path(id): Path<String>, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let route = app
        .store
        .write(move |connection| {
            let mut route = routes::find(connection, &id)?.ok_or_else(no_such_route)?;
            change(&mut route.rule, &fields)?;
            check(connection, &route.rule)?;
            route.updated_ms = now_ms;
            routes::put(connection, &route)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>(route)
        })
        .await?;
    app.publish().await?;
    Ok(Json(route_json(&route)))
}

/// `DELETE /api/v1/routes/:id`.
pub(super) async fn remove(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.store
        .write(move |connection| {
            if !routes::remove(connection, &id)? {
                return Err(no_such_route());
            }
            Ok(snapshot::bump(connection)?)
        })
        .await?;
    app.publish().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /api/v1/routes/order`: all ids, in the order they are to be asked.
pub(super) async fn order(State(app): State<App>, _: Owner, fields: Fields) -> Answer {
    fields.only(&["ids"])?;
    let ids = texts(&fields, "ids", ROUTES_MAX as usize)?.ok_or_else(|| ApiError::missing("ids"))?;
    let all = app
        .store
        .write(move |connection| {
            let there: BTreeSet<String> = routes::all(connection)?.into_iter().map(|route| route.rule.id).collect();
            let given: BTreeSet<String> = ids.iter().cloned().collect();
            if there != given || ids.len() != given.len() {
                return Err(ApiError::new(409, "order_incomplete", "ids must name every route exactly once."));
            }
            for (position, id) in ids.iter().enumerate() {
                routes::put_position(connection, id, position as i64 + 1)?;
            }
            snapshot::bump(connection)?;
            Ok(routes::all(connection)?)
        })
        .await?;
    app.publish().await?;
    Ok(Json(json!({ "data": all.iter().map(route_json).collect::<Vec<_>>(), "next_cursor": null })))
}

/// `POST /api/v1/routes/simulate`: where a call would go; nothing rings.
pub(super) async fn simulate(State(app): State<App>, _: Owner, fields: Fields) -> Answer {
    fields.only(&["called", "caller", "from", "at"])?;
    let called = text(&fields, "called")?.ok_or_else(|| ApiError::missing("called"))?;
    let called = dialled(&called).ok_or_else(|| bad_field("called", "must be a number or user as it is dialled"))?;
    let caller = text(&fields, "caller")?.unwrap_or_else(|| "anonymous".into());
    let caller = dialled(&caller).ok_or_else(|| bad_field("caller", "must be a number or user as it is presented"))?;
    let from = source(&fields)?.unwrap_or_default();
    let at_ms = instant(&fields, "at")?;
    match ask_plane(&app, Command::Simulate(RouteQuestion { called, caller, from, at_ms })).await? {
        CommandReply::Routed(answer) => Ok(Json(json!(answer))),
        _ => Err(ApiError::new(503, "call_plane_busy", "What carries the calls could not tell; try again.")),
    }
}

fn no_such_route() -> ApiError {
    ApiError::new(404, "no_such_route", "No such route.")
}

/// 500 routes: each call asks them in order.
const ROUTES_MAX: i64 = 500;
