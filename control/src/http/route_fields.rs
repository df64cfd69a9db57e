//! A route's fields: what a request may set, and how they are shown.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{bad_field, text, texts};
use crate::clock::iso8601;
use crate::model::{dialled, name};
use crate::pattern::Pattern;
use crate::port::{Hours, RouteRule, RouteSource, RouteTarget};
use crate::store::routes::Route;
use crate::store::{agents, extensions, trunks};

/// Sets what the request gives.
///
/// # Errors
/// 400 that names the field and says what it must be.
pub(super) fn change(rule: &mut RouteRule, fields: &Fields) -> Result<(), ApiError> {
    fields.only(&FIELDS)?;
    if let Some(given) = text(fields, "name")? {
        rule.name = name(&given).ok_or_else(|| bad_field("name", "must be 1 to 200 characters"))?;
    }
    for (field, place) in [("called", &mut rule.called), ("callers", &mut rule.callers)] {
        if let Some(given) = texts(fields, field, PATTERNS_MAX)? {
            for text in &given {
                let what =
                    format!("has {text:?}, which is no pattern; X, Z, N, [1-5], . and ! are, as in 9|NXXXXXX or +36.");
                Pattern::parse(text).map_err(|_| bad_field(field, &what))?;
            }
            *place = given;
        }
    }
    if let Some(from) = source(fields)? {
        rule.from = from;
    }
    if let Some(value) = fields.given("hours") {
        let what = "must be a list of {days: [1..7], from: minute, to: minute}; minutes count from midnight, 0 to 1440";
        let hours: Vec<Hours> = parse(value).ok_or_else(|| bad_field("hours", what))?;
        let fits = |hours: &Hours| {
            hours.from < MINUTES
                && hours.to >= 1
                && hours.to <= MINUTES
                && hours.days.iter().all(|day| (1..=7).contains(day))
        };
        if hours.len() > HOURS_MAX || !hours.iter().all(fits) {
            return Err(bad_field("hours", what));
        }
        rule.hours = hours;
    }
    if let Some(value) = fields.given("targets") {
        let what = "must be a list of 1 to 10 of {to: agent, agent_id}, {to: attendant}, {to: echo}, {to: extension, user}, \
                    {to: trunk, trunk_id, number} and {to: refuse, status}";
        let targets: Vec<RouteTarget> = parse(value).ok_or_else(|| bad_field("targets", what))?;
        if targets.is_empty() || targets.len() > TARGETS_MAX || !targets.iter().all(is_usable) {
            return Err(bad_field("targets", what));
        }
        rule.targets = targets;
    }
    Ok(())
}

/// Where a call comes from, if the request says so.
///
/// # Errors
/// 400.
pub(super) fn source(fields: &Fields) -> Result<Option<RouteSource>, ApiError> {
    let what = "must be {line: any}, {line: extensions} or {line: trunk, trunk_id}";
    fields.given("from").map(|value| parse(value).ok_or_else(|| bad_field("from", what))).transpose()
}

/// An instant as RFC 3339 has it, in milliseconds since the epoch.
///
/// # Errors
/// 400.
pub(super) fn instant(fields: &Fields, field: &str) -> Result<Option<u64>, ApiError> {
    let Some(given) = text(fields, field)? else { return Ok(None) };
    let parsed: Option<jiff::Timestamp> = given.parse().ok();
    let at_ms = parsed.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    at_ms.map(Some).ok_or_else(|| bad_field(field, "must be an instant as 2026-12-24T18:00:00+01:00"))
}

/// What the rule names must be there.
///
/// # Errors
/// 400 that names what is missing.
pub(super) fn check(connection: &Connection, rule: &RouteRule) -> Result<(), ApiError> {
    let named =
        |field: &str, what: &str, id: &str| bad_field(field, &format!("names the {what} {id}, which is not there"));
    if let RouteSource::Trunk { trunk_id } = &rule.from
        && trunks::find(connection, trunk_id)?.is_none()
    {
        return Err(named("from", "trunk", trunk_id));
    }
    for target in &rule.targets {
        let missing = match target {
            RouteTarget::Agent { agent_id } if !agents::exists(connection, agent_id)? => Some(("agent", agent_id)),
            RouteTarget::Extension { user, .. } if extensions::find(connection, user)?.is_none() => {
                Some(("extension", user))
            }
            RouteTarget::Trunk { trunk_id, .. } if trunks::find(connection, trunk_id)?.is_none() => {
                Some(("trunk", trunk_id))
            }
            _ => None,
        };
        if let Some((what, id)) = missing {
            return Err(named("targets", what, id));
        }
    }
    Ok(())
}

fn is_usable(target: &RouteTarget) -> bool {
    let rings = |ring_s: &Option<u16>| ring_s.is_none_or(|seconds| (5..=180).contains(&seconds));
    match target {
        RouteTarget::Agent { .. } | RouteTarget::Attendant | RouteTarget::Echo => true,
        RouteTarget::Extension { ring_s, .. } => rings(ring_s),
        RouteTarget::Trunk { number, ring_s, .. } => {
            rings(ring_s) && number.as_ref().is_none_or(|number| dialled(number).is_some())
        }
        RouteTarget::Refuse { status } => (400..700).contains(status),
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

/// A route as every endpoint shows it.
pub(super) fn route_json(route: &Route) -> Value {
    let rule = &route.rule;
    json!({
        "id": rule.id,
        "name": rule.name,
        "position": route.position,
        "called": rule.called,
        "callers": rule.callers,
        "from": rule.from,
        "hours": rule.hours,
        "targets": rule.targets,
        "created_at": iso8601(route.created_ms),
        "updated_at": iso8601(route.updated_ms),
    })
}

/// What a request may carry.
const FIELDS: [&str; 6] = ["name", "called", "callers", "from", "hours", "targets"];

/// 100 patterns: area codes of a country.
const PATTERNS_MAX: usize = 100;

/// 50 spans: three a day, and holidays' eves.
const HOURS_MAX: usize = 50;

/// 10 targets that ring 18 s each: as long as a caller waits.
const TARGETS_MAX: usize = 10;

/// Of a day.
const MINUTES: u16 = 1440;
