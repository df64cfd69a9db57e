//! `/api/v1/trunks`: the SIP peers that calls are placed through and come from. The owner's alone.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{Owner, bad_field, clearable, flag, new_id, number, text, texts, too_many};
use super::{Answer, App};
use crate::clock::iso8601;
use crate::model::{E164, host, line, name};
use crate::port::TrunkTransport;
use crate::secret::{Secret, TRUNK_PASSWORD_PURPOSE};
use crate::snapshot;
use crate::store::StoreError;
use crate::store::trunks::{self, Trunk};

/// `POST /api/v1/trunks`.
pub(super) async fn create(State(app): State<App>, _: Owner, fields: Fields) -> Result<Response, ApiError> {
    let now_ms = app.clock.now_ms();
    let mut trunk = Trunk {
        id: new_id("trk"),
        name: String::new(),
        host: String::new(),
        port: PORT,
        transport: TrunkTransport::Udp,
        username: None,
        password: None,
        numbers: Vec::new(),
        max_channels: CHANNELS,
        is_default: false,
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    for needed in ["name", "host"] {
        text(&fields, needed)?.ok_or_else(|| ApiError::missing(needed))?;
    }
    change(&mut trunk, &fields, &app.secret)?;
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
    Ok(Json(json!({ "data": all.iter().map(trunk_json).collect::<Vec<_>>(), "next_cursor": null })))
}

/// `GET /api/v1/trunks/:id`.
pub(super) async fn find(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Answer {
    let found = app.store.read(move |connection| trunks::find(connection, &id).map_err(StoreError::from)).await?;
    Ok(Json(trunk_json(&found.ok_or_else(no_such_trunk)?)))
}

/// `PATCH /api/v1/trunks/:id`: what is absent stays, null takes `username` or `password` away.
pub(super) async fn update(State(app): State<App>, _: Owner, Path(id): Path<String>, fields: Fields) -> Answer {
    let (now_ms, secret) = (app.clock.now_ms(), app.secret.clone());
    let trunk = app
        .store
        .write(move |connection| {
            let mut trunk = trunks::find(connection, &id)?.ok_or_else(no_such_trunk)?;
            change(&mut trunk, &fields, &secret)?;
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
            if !trunks::remove(connection, &id)? {
                return Err(no_such_trunk());
            }
            Ok(snapshot::bump(connection)?)
        })
        .await?;
    app.publish().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets what the request gives.
fn change(trunk: &mut Trunk, fields: &Fields, secret: &Secret) -> Result<(), ApiError> {
    fields.only(&FIELDS)?;
    if let Some(given) = text(fields, "name")? {
        trunk.name = name(&given).ok_or_else(|| bad_field("name", "must be 1 to 200 characters"))?;
    }
    if let Some(given) = text(fields, "host")? {
        trunk.host = host(&given).ok_or_else(|| bad_field("host", "must be a host name or an address"))?;
    }
    if let Some(port) = number(fields, "port", 1..=u16::MAX.into())? {
        trunk.port = port as u16;
    }
    match text(fields, "transport")?.as_deref() {
        None => {}
        Some("udp") => trunk.transport = TrunkTransport::Udp,
        Some("tcp") => trunk.transport = TrunkTransport::Tcp,
        Some(_) => return Err(bad_field("transport", "must be udp or tcp")),
    }
    let credential = |given: Option<String>, field: &str| match given {
        None => Ok(None),
        Some(given) => line(&given, CREDENTIAL_CHARS_MAX)
            .map(Some)
            .ok_or_else(|| bad_field(field, "must be 1 to 256 characters, none a control character")),
    };
    if let Some(given) = clearable(fields, "username")? {
        trunk.username = credential(given, "username")?;
    }
    if let Some(given) = clearable(fields, "password")? {
        trunk.password = credential(given, "password")?.map(|text| secret.seal(TRUNK_PASSWORD_PURPOSE, &text));
    }
    if let Some(given) = texts(fields, "numbers", NUMBERS_MAX)? {
        let digits = |number: &String| E164::parse(number).map(|number| number.digits().to_owned());
        let wrong = || ApiError::new(400, "invalid_number", "numbers must be numbers with + and country code.");
        let mut numbers = given.iter().map(|number| digits(number).ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?;
        numbers.sort();
        numbers.dedup();
        trunk.numbers = numbers;
    }
    if let Some(channels) = number(fields, "max_channels", 1..=10_000)? {
        trunk.max_channels = channels;
    }
    if let Some(is_default) = flag(fields, "default")? {
        trunk.is_default = is_default;
    }
    Ok(())
}

/// A trunk as every endpoint shows it: never its password.
fn trunk_json(trunk: &Trunk) -> Value {
    json!({
        "id": trunk.id,
        "name": trunk.name,
        "host": trunk.host,
        "port": trunk.port,
        "transport": trunks::transport_name(trunk.transport),
        "username": trunk.username,
        "passwordSet": trunk.password.is_some(),
        "numbers": trunk.numbers.iter().map(|digits| format!("+{digits}")).collect::<Vec<_>>(),
        "max_channels": trunk.max_channels,
        "default": trunk.is_default,
        "created_at": iso8601(trunk.created_ms),
        "updated_at": iso8601(trunk.updated_ms),
    })
}

fn no_such_trunk() -> ApiError {
    ApiError::new(404, "no_such_trunk", "No such trunk.")
}

/// What a request may carry.
const FIELDS: [&str; 9] =
    ["name", "host", "port", "transport", "username", "password", "numbers", "max_channels", "default"];

/// RFC 3261 §19.1.2.
const PORT: u16 = 5060;

/// 30 calls at once: what a primary-rate line carries.
const CHANNELS: u32 = 30;

/// 256 characters: more than any provider's.
const CREDENTIAL_CHARS_MAX: usize = 256;

/// 10,000 numbers of 15 digits: 150 kB in the snapshot.
const NUMBERS_MAX: usize = 10_000;

/// 100 trunks: more lines than a site has.
const TRUNKS_MAX: i64 = 100;
