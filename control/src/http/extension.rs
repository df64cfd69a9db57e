//! `/api/v1/extensions`: phones of our own. The owner's alone.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{Owner, bad_field, clearable, flag, in_use, number, route_where, text, too_many};
use super::numbering_fields::{change_numbering, number_of_ours, numbering_json};
use super::trunk::lines;
use super::trunk_media::word;
use super::{Answer, App};
use crate::clock::iso8601;
use crate::gate::{EVERYWHERE, calling_code, emergency_numbers};
use crate::model::{extension_user, line, name};
use crate::port::{ExtensionRoute, LineStates, Numbering, RouteTarget};
use crate::secret::{EXTENSION_PASSWORD_PURPOSE, Secret, random};
use crate::snapshot;
use crate::store::StoreError;
use crate::store::extensions::{self, Extension};
use crate::store::{projects, trunks};

/// `POST /api/v1/extensions`. A password that is not given is made up and shown this once.
pub(super) async fn create(State(app): State<App>, _: Owner, fields: Fields) -> Result<Response, ApiError> {
    let given = text(&fields, "user")?.ok_or_else(|| ApiError::missing("user"))?;
    let what = "must be 2 to 32 letters, digits, -, _ or ., and none of demo, attendant, echo, talkstack, anonymous";
    let user = extension_user(&given).ok_or_else(|| bad_field("user", what))?;
    let now_ms = app.clock.now_ms();
    let route = ExtensionRoute { name: user.clone(), contacts_max: CONTACTS, ..ExtensionRoute::default() };
    let mut extension = Extension { user, route, created_ms: now_ms, updated_ms: now_ms };
    let mut made_up = change(&mut extension, &fields, &app.secret)?;
    if extension.route.password.is_none() {
        made_up = Some(make_up(&mut extension, &app.secret));
    }
    let extension = app
        .store
        .write(move |connection| {
            if extensions::count(connection)? >= EXTENSIONS_MAX {
                return Err(too_many("extensions", EXTENSIONS_MAX));
            }
            check_project(connection, &extension)?;
            check_user(connection, &extension)?;
            extensions::insert(connection, &extension)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>(extension)
        })
        .await?;
    app.publish().await?;
    let location = format!("/api/v1/extensions/{}", extension.user);
    let shown = with_password(extension_json(&extension), made_up);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(shown)).into_response())
}

/// `GET /api/v1/extensions`.
pub(super) async fn list(State(app): State<App>, _: Owner) -> Answer {
    let all = app.store.read(|connection| extensions::all(connection).map_err(StoreError::from)).await?;
    let lines = lines(&app).await;
    let shown: Vec<Value> = all.iter().map(|extension| with_contacts(extension, lines.as_deref())).collect();
    Ok(Json(json!({ "data": shown, "next_cursor": null })))
}

/// `GET /api/v1/extensions/:user`.
pub(super) async fn find(State(app): State<App>, _: Owner, Path(user): Path<String>) -> Answer {
    let found = app.store.read(move |connection| extensions::find(connection, &user).map_err(StoreError::from)).await?;
    let extension = found.ok_or_else(no_such_extension)?;
    Ok(Json(with_contacts(&extension, lines(&app).await.as_deref())))
}

/// `PATCH /api/v1/extensions/:user`: what is absent stays; a password of null is made up anew and shown this once.
pub(super) async fn update(State(app): State<App>, _: Owner, Path(user): Path<String>, fields: Fields) -> Answer {
    let (now_ms, secret) = (app.clock.now_ms(), app.secret.clone());
    let (extension, made_up) = app
        .store
        .write(move |connection| {
            let mut extension = extensions::find(connection, &user)?.ok_or_else(no_such_extension)?;
            if text(&fields, "user")?.is_some_and(|given| given != user) {
                return Err(bad_field("user", "cannot be changed; add another extension and remove this one"));
            }
            let made_up = change(&mut extension, &fields, &secret)?;
            extension.updated_ms = now_ms;
            check_project(connection, &extension)?;
            check_user(connection, &extension)?;
            extensions::put(connection, &extension)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>((extension, made_up))
        })
        .await?;
    app.publish().await?;
    Ok(Json(with_password(extension_json(&extension), made_up)))
}

/// `DELETE /api/v1/extensions/:user`.
pub(super) async fn remove(State(app): State<App>, _: Owner, Path(user): Path<String>) -> Result<StatusCode, ApiError> {
    app.store
        .write(move |connection| {
            let leads_there =
                |target: &RouteTarget| matches!(target, RouteTarget::Extension { user: to, .. } if *to == user);
            if let Some(route) = route_where(connection, |rule| rule.targets.iter().any(leads_there))? {
                return Err(in_use("extension", &route));
            }
            if !extensions::remove(connection, &user)? {
                return Err(no_such_extension());
            }
            Ok(snapshot::bump(connection)?)
        })
        .await?;
    app.publish().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets what the request gives; a password that was made up.
fn change(extension: &mut Extension, fields: &Fields, secret: &Secret) -> Result<Option<String>, ApiError> {
    fields.only(&FIELDS)?;
    let route = &mut extension.route;
    if let Some(given) = text(fields, "name")? {
        route.name = name(&given).ok_or_else(|| bad_field("name", "must be 1 to 200 characters"))?;
    }
    if let Some(given) = clearable(fields, "number")? {
        route.number = number_of_ours(given, "number")?;
    }
    if let Some(contacts) = number(fields, "contacts_max", 1..=10)? {
        route.contacts_max = contacts;
    }
    if let Some(given) = clearable(fields, "project_id")? {
        route.project_id = given;
    }
    change_numbering(&mut route.numbering, fields)?;
    if let Some(given) = text(fields, "srtp")? {
        route.srtp = word(&given).ok_or_else(|| bad_field("srtp", "must be off, optional or required"))?;
    }
    if let Some(is_allowed) = flag(fields, "sdes_over_plain")? {
        route.sdes_over_plain = is_allowed;
    }
    match clearable(fields, "password")? {
        None => Ok(None),
        Some(None) => Ok(Some(make_up(extension, secret))),
        Some(Some(given)) => {
            let fits = line(&given, PASSWORD_CHARS_MAX).filter(|given| given.chars().count() >= PASSWORD_CHARS_MIN);
            let what = "must be 12 to 128 characters, none a control character; leave it out to have one made up";
            let password = fits.ok_or_else(|| bad_field("password", what))?;
            extension.route.password = Some(secret.seal(EXTENSION_PASSWORD_PURPOSE, &password));
            Ok(None)
        }
    }
}

/// Gives it a password nobody guesses: 100 bits in letters that nobody mistakes for others.
fn make_up(extension: &mut Extension, secret: &Secret) -> String {
    let bytes: [u8; PASSWORD_MADE_UP] = random();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    let password: String = bytes.iter().map(letter).collect();
    extension.route.password = Some(secret.seal(EXTENSION_PASSWORD_PURPOSE, &password));
    password
}

fn check_project(connection: &rusqlite::Connection, extension: &Extension) -> Result<(), ApiError> {
    match &extension.route.project_id {
        Some(id) if !projects::exists(connection, id)? => Err(bad_field("project_id", "is no project of this box")),
        _ => Ok(()),
    }
}

/// A phone that has an emergency number for a name is never called by it: who dials that wants help. What counts is what
/// it dials as one itself, and what the trunks that carry emergency calls lead to.
fn check_user(connection: &rusqlite::Connection, extension: &Extension) -> Result<(), ApiError> {
    let trunks = trunks::all(connection)?;
    let carriers = trunks.iter().map(|trunk| &trunk.route).filter(|trunk| trunk.policy.is_emergency);
    let theirs = carriers.filter_map(|trunk| country(&trunk.numbering, trunk.numbers.first()));
    let own = country(&extension.route.numbering, extension.route.number.as_ref());
    let mut known = own.into_iter().chain(theirs).flat_map(emergency_numbers).chain(EVERYWHERE);
    match known.any(|number| number == extension.user) {
        true => Err(bad_field("user", "must be no emergency number: whoever dials one is to reach help")),
        false => Ok(()),
    }
}

/// The calling code of the country that a line is in, as far as it tells.
fn country<'a>(numbering: &'a Numbering, number: Option<&'a String>) -> Option<&'a str> {
    numbering.country_code.as_deref().or_else(|| number.and_then(|number| calling_code(number)))
}

fn with_password(mut shown: Value, made_up: Option<String>) -> Value {
    if let Some(password) = made_up {
        shown["password"] = json!(password);
    }
    shown
}

fn with_contacts(extension: &Extension, lines: Option<&LineStates>) -> Value {
    let mut shown = extension_json(extension);
    if let Some(lines) = lines {
        shown["contacts"] = json!(lines.extensions.get(&extension.user).cloned().unwrap_or_default());
    }
    shown
}

fn extension_json(extension: &Extension) -> Value {
    let route = &extension.route;
    let mut shown = json!({
        "user": extension.user,
        "name": route.name,
        "number": route.number.as_ref().map(|digits| format!("+{digits}")),
        "contacts_max": route.contacts_max,
        "project_id": route.project_id,
        "srtp": route.srtp,
        "sdes_over_plain": route.sdes_over_plain,
        "created_at": iso8601(extension.created_ms),
        "updated_at": iso8601(extension.updated_ms),
    });
    numbering_json(&route.numbering, &mut shown);
    shown
}

fn no_such_extension() -> ApiError {
    ApiError::new(404, "no_such_extension", "No such extension.")
}

/// What a request may carry.
const FIELDS: [&str; 13] = [
    "user",
    "name",
    "password",
    "number",
    "contacts_max",
    "project_id",
    "country_code",
    "national_prefix",
    "international_prefix",
    "dial_format",
    "caller_id",
    "srtp",
    "sdes_over_plain",
];

/// 5 phones: on the desk, in the pocket, at home, and two that were replaced.
const CONTACTS: u32 = 5;

/// 1,000 phones: a hotel.
const EXTENSIONS_MAX: i64 = 1000;

/// 12 characters: scanners try the user's own digits and short words first.
const PASSWORD_CHARS_MIN: usize = 12;

/// 128 characters: more than phones take.
const PASSWORD_CHARS_MAX: usize = 128;

/// 20 letters of 5 bits.
const PASSWORD_MADE_UP: usize = 20;

/// 32 letters and digits without 0, 1, l and o; their number divides 256.
const LETTERS: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
