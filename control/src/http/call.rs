//! Calls: one by its id, and the history of a project.

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::body::{Fields, QueryFields};
use super::error::ApiError;
use super::principal::Principal;
use super::{Answer, App};
use crate::call_object::flat;
use crate::call_status::CallStatus;
use crate::clock::{day_start_ms, iso8601};
use crate::store::calls::{Call, Filter};
use crate::store::{StoreError, calls, projects, utterances};

/// `POST /call`: a read; flat, as documented.
pub(super) async fn find(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let id = fields.required(&["sid", "callSid", "call_id"])?;
    let project_id = fields.required(&["projectId"])?;
    let (recordings, now_ms) = (app.recordings.clone(), app.clock.now_ms());
    let found = app.store.read(move |connection| {
        let Some(call) = calls::find(connection, &user.id, &project_id, &id)? else { return Ok(None) };
        let links = (recordings.links(&call, now_ms), recordings.agent_link(&call, now_ms));
        let gaps = calls::gaps(connection, &call.id)?;
        Ok::<_, StoreError>(Some((utterances::of_call(connection, &call.id)?, links, gaps, call)))
    });
    let no_such_call = || ApiError::new(404, "no_such_call", "No such call.");
    let (transcript, (links, agent_link), gaps, call) = found.await?.ok_or_else(no_such_call)?;
    let mut answer = flat(&call, &links);
    answer["outcome"] = json!(call.outcome);
    put_caller(&mut answer, &call);
    answer["transcript"] = json!(transcript);
    answer["agentRecordingUrl"] = json!(agent_link);
    answer["recordingGaps"] = gaps_json(&gaps);
    Ok(Json(answer))
}

/// `POST /call/get-call-history`. Filters stand in the query or the body, where the query wins; `projectId` and
/// `pageSize` the other way round (settlement A32).
pub(super) async fn history(
    State(app): State<App>,
    Principal(user): Principal,
    Query(query): Query<Vec<(String, String)>>,
    fields: Fields,
) -> Answer {
    let query = QueryFields(query);
    let project_id = match fields.text(&["projectId"])? {
        Some(project_id) => project_id,
        None => query.text(&["projectId"])?.ok_or_else(|| ApiError::missing("projectId"))?.to_owned(),
    };
    let page_size = match fields.integer("pageSize")? {
        Some(size) => size,
        None => match query.text(&["pageSize"])? {
            Some(text) => text.parse().map_err(|_| bad_filter("pageSize"))?,
            None => PAGE_SIZE,
        },
    };
    let page_size = page_size.clamp(1, PAGE_SIZE_MAX) as usize;
    let filter = filter(&query, &fields)?;
    let (recordings, now_ms) = (app.recordings.clone(), app.clock.now_ms());
    let mut found: Vec<(Call, Vec<String>)> = app
        .store
        .read(move |connection| {
            projects::find(connection, &user.id, &project_id)?.ok_or_else(ApiError::no_such_project)?;
            // One more than asked for tells whether there is another page.
            let page = calls::page(connection, &project_id, &filter, page_size + 1)?;
            let with_links = |call: Call| {
                let links = recordings.links(&call, now_ms);
                (call, links)
            };
            Ok::<_, ApiError>(page.into_iter().map(with_links).collect())
        })
        .await?;
    let has_more = found.len() > page_size;
    found.truncate(page_size);
    let next = found.last().filter(|_| has_more).map(|(call, _)| format!("{}-{}", call.started_ms, call.id));
    let row = |(call, links): &(Call, Vec<String>)| {
        let mut row = history_json(call);
        row["recordingUrls"] = json!(links);
        row
    };
    Ok(Json(json!({
        "message": "successfully fetched call history.",
        "status": "success",
        "data": found.iter().map(row).collect::<Vec<_>>(),
        "pageSize": page_size,
        "nextPageToken": next,
    })))
}

/// Where a recording was paused.
pub(super) fn gaps_json(gaps: &[(i64, Option<i64>)]) -> Value {
    gaps.iter().map(|(from, to)| json!({ "fromMs": from, "toMs": to })).collect()
}

/// What the line says of who calls.
pub(super) fn put_caller(shown: &mut Value, call: &Call) {
    shown["callerName"] = json!(call.caller.display_name);
    shown["verstat"] = json!(call.caller.verstat);
    shown["attestation"] = json!(call.caller.attestation);
    shown["divertedFrom"] = json!(call.caller.diverted_from);
}

/// A call as the history and the owner's list show it.
pub(super) fn history_json(call: &Call) -> Value {
    json!({
        "sid": call.id,
        "callSid": call.id,
        "call_id": call.id,
        "to": call.to,
        "from": call.from,
        "status": call.status.name(),
        "startTime": iso8601(call.started_ms),
        "endTime": call.ended_ms.map(iso8601),
        "seconds": call.seconds(),
        "duration": call.seconds().to_string(),
        "agentId": call.agent_id,
        "projectId": call.project_id,
    })
}

fn filter(query: &QueryFields, fields: &Fields) -> Result<Filter, ApiError> {
    let text = |name: &str| -> Result<Option<String>, ApiError> {
        // Two names are printed with a dot in front (settlement A31).
        let dotted = format!(".{name}");
        match query.text(&[name, &dotted])? {
            Some(text) => Ok(Some(text.to_owned())),
            None => fields.text(&[name, &dotted]),
        }
    };
    let day = |name: &'static str| -> Result<Option<i64>, ApiError> {
        text(name)?.map(|date| day_start_ms(&date).ok_or_else(|| bad_filter(name))).transpose()
    };
    let range = |on: Option<i64>, after: Option<i64>, before: Option<i64>| {
        // Midnight is the start of the date, inclusive on both sides (settlement A33).
        let from = on.into_iter().chain(after).max();
        let before = on.map(|on| on + DAY_MS).into_iter().chain(before.map(|before| before + 1)).min();
        (from, before)
    };
    let (started_from, started_before) = range(day("startTime")?, day("startTimeAfter")?, day("startTimeBefore")?);
    let (ended_from, ended_before) = range(day("endTime")?, day("endTimeAfter")?, day("endTimeBefore")?);
    let status = match text("status")?.as_deref() {
        None => None,
        Some("canceled") => Some(CallStatus::Failed),
        Some(name) => Some(CallStatus::of_name(name).ok_or_else(|| bad_filter("status"))?),
    };
    let page = match text("pageToken")? {
        None => None,
        Some(token) => Some(page_of(&token).ok_or_else(|| bad_filter("pageToken"))?),
    };
    Ok(Filter {
        to: text("to")?.map(plus_restored),
        from: text("from")?.map(plus_restored),
        status,
        started_from,
        started_before,
        ended_from,
        ended_before,
        page,
    })
}

/// A `+` that was not escaped in a query arrives as a space.
fn plus_restored(number: String) -> String {
    match number.strip_prefix(' ') {
        Some(digits) => format!("+{digits}"),
        None => number,
    }
}

fn page_of(token: &str) -> Option<(i64, String)> {
    let (started, id) = token.split_once('-')?;
    Some((started.parse().ok()?, id.to_owned()))
}

fn bad_filter(name: &str) -> ApiError {
    ApiError::new(400, "bad_filter", format!("{name} cannot be used; dates are YYYY-MM-DD."))
}

/// As documented.
const PAGE_SIZE: i64 = 20;

/// 1,000 calls of 300 bytes.
const PAGE_SIZE_MAX: i64 = 1000;

/// One day.
const DAY_MS: i64 = 24 * 3_600_000;
