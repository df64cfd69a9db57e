//! What the command line asks over the admin socket. Whoever can open the socket owns the box.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::auth::add_verified;
use super::body::Fields;
use super::call::{gaps_json, history_json, put_caller};
use super::error::ApiError;
use super::refusal::refusal_json;
use super::{Answer, App};
use crate::clock::iso8601;
use crate::model::{Email, check_password, name};
use crate::store::calls::Call;
use crate::store::mails::Mail;
use crate::store::{StoreError, calls, diagnoses, mails, refusals, utterances};

/// `GET /admin/mails`.
pub(super) async fn mails(State(app): State<App>, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let max = limit(&query);
    let all = app.store.read(move |connection| mails::latest(connection, max).map_err(StoreError::from)).await?;
    Ok(Json(json!({ "data": all.iter().map(mail_json).collect::<Vec<_>>() })))
}

/// `GET /admin/mails/:id`.
pub(super) async fn mail(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let no_such_mail = || ApiError::new(404, "no_such_mail", "No such mail.");
    let id = id.parse().map_err(|_| no_such_mail())?;
    let found = app.store.read(move |connection| mails::find(connection, id).map_err(StoreError::from)).await?;
    let mail = found.ok_or_else(no_such_mail)?;
    Ok(Json(mail_json(&mail)))
}

/// `GET /admin/calls`.
pub(super) async fn calls(State(app): State<App>, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let max = limit(&query);
    let all = app.store.read(move |connection| calls::latest(connection, max).map_err(StoreError::from)).await?;
    Ok(Json(json!({ "data": all.iter().map(call_json).collect::<Vec<_>>() })))
}

/// `GET /admin/calls/:id`: with what was said, what was refused by which rule, how it sounds and what was wrong
/// with that.
pub(super) async fn call(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let found = app.store.read(move |connection| {
        let Some(call) = calls::find_anywhere(connection, &id)? else { return Ok(None) };
        let refused = refusals::latest(connection, None, Some(&id), None, REFUSALS_MAX)?;
        let diagnoses = diagnoses::of_call(connection, &id)?;
        let (gaps, quality) = (calls::gaps(connection, &id)?, calls::quality(connection, &id)?);
        Ok::<_, StoreError>(Some((utterances::of_call(connection, &id)?, refused, diagnoses, gaps, quality, call)))
    });
    let no_such_call = || ApiError::new(404, "no_such_call", "No such call.");
    let (transcript, refused, diagnoses, gaps, [first, second], call) = found.await?.ok_or_else(no_such_call)?;
    let mut shown = call_json(&call);
    shown["transcript"] = json!(transcript);
    shown["recordingGaps"] = gaps_json(&gaps);
    shown["refusals"] = refused.iter().map(refusal_json).collect();
    let diagnosis_json = |(fault, found, at_ms): &(String, String, i64)| json!({ "at": iso8601(*at_ms), "fault": fault, "found": found });
    shown["diagnoses"] = diagnoses.iter().map(diagnosis_json).collect();
    // A leg that is not there, or not yet measured, is null.
    shown["quality"] = json!({ "first": first, "second": second });
    Ok(Json(shown))
}

/// `POST /admin/setup`: the first account, verified, owner of the box.
pub(super) async fn setup(State(app): State<App>, fields: Fields) -> Answer {
    let email = Email::parse(&fields.required(&["email"])?)
        .ok_or_else(|| ApiError::new(400, "invalid_email", "The email address is not valid."))?;
    let password = fields.required(&["password"])?;
    check_password(&password).map_err(|weak| ApiError::new(400, "weak_password", weak.to_string()))?;
    let given = fields.text(&["name"])?.unwrap_or_else(|| "Owner".into());
    let given = name(&given).ok_or_else(|| ApiError::missing("name"))?;
    let user = add_verified(&app, email, given, password).await?;
    app.publish().await?;
    Ok(Json(json!({ "message": "The box has its owner.", "status": "success", "email": user.email })))
}

fn call_json(call: &Call) -> Value {
    let mut row = history_json(call);
    row["outcome"] = json!(call.outcome);
    row["codec"] = json!(call.codec);
    row["trunkId"] = json!(call.trunk_id);
    put_caller(&mut row, call);
    row
}

fn mail_json(mail: &Mail) -> Value {
    json!({
        "id": mail.id,
        "to": mail.recipient,
        "subject": mail.subject,
        "body": mail.body,
        "created_at": iso8601(mail.created_ms),
    })
}

fn limit(query: &BTreeMap<String, String>) -> usize {
    query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(20).clamp(1, 1000)
}

/// 100 refusals: each target of a route, tried with each codec.
const REFUSALS_MAX: u32 = 100;
