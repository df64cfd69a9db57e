//! `/api/v1/providers`: the services that run agents. The owner's alone.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{Owner, ask_plane, bad_field, clearable, flag, new_id, number, text, texts, too_many};
use super::{Answer, App};
use crate::clock::iso8601;
use crate::model::{line, name, realtime_url, service_url, voice_id};
use crate::port::{AuditionOrder, Command, CommandReply, ControlFormat, ProviderKind, ProviderRoute};
use crate::secret::{PROVIDER_KEY_PURPOSE, Secret};
use crate::snapshot;
use crate::store::StoreError;
use crate::store::providers::{self, Provider};

/// `POST /api/v1/providers`.
pub(super) async fn create(State(app): State<App>, _: Owner, fields: Fields) -> Result<Response, ApiError> {
    let now_ms = app.clock.now_ms();
    text(&fields, "name")?.ok_or_else(|| ApiError::missing("name"))?;
    let kind = kind(&fields)?.ok_or_else(|| ApiError::missing("kind"))?;
    let mut provider = Provider {
        id: new_id("prv"),
        name: String::new(),
        route: ProviderRoute::new(kind, kind.base_url().unwrap_or_default(), ""),
        voices: Vec::new(),
        is_default: false,
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    change(&mut provider, &fields, &app.secret)?;
    let provider = app
        .store
        .write(move |connection| {
            if providers::count(connection)? >= PROVIDERS_MAX {
                return Err(too_many("providers", PROVIDERS_MAX));
            }
            providers::put(connection, &provider)?;
            snapshot::bump(connection)?;
            Ok(provider)
        })
        .await?;
    app.publish().await?;
    let location = format!("/api/v1/providers/{}", provider.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(provider_json(&provider))).into_response())
}

/// `GET /api/v1/providers`.
pub(super) async fn list(State(app): State<App>, _: Owner) -> Answer {
    let all = app.store.read(|connection| providers::all(connection).map_err(StoreError::from)).await?;
    Ok(Json(json!({ "data": all.iter().map(provider_json).collect::<Vec<_>>(), "next_cursor": null })))
}

/// `GET /api/v1/providers/:id`.
pub(super) async fn find(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Answer {
    let found = app.store.read(move |connection| providers::find(connection, &id).map_err(StoreError::from)).await?;
    Ok(Json(provider_json(&found.ok_or_else(ApiError::no_such_provider)?)))
}

/// `PATCH /api/v1/providers/:id`: what is absent stays, null takes `api_key` away.
pub(super) async fn update(State(app): State<App>, _: Owner, Path(id): Path<String>, fields: Fields) -> Answer {
    let (now_ms, secret) = (app.clock.now_ms(), app.secret.clone());
    let provider = app
        .store
        .write(move |connection| {
            let mut provider = providers::find(connection, &id)?.ok_or_else(ApiError::no_such_provider)?;
            change(&mut provider, &fields, &secret)?;
            provider.updated_ms = now_ms;
            providers::put(connection, &provider)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>(provider)
        })
        .await?;
    app.publish().await?;
    Ok(Json(provider_json(&provider)))
}

/// `DELETE /api/v1/providers/:id`: its agents fall back to the default.
pub(super) async fn remove(State(app): State<App>, _: Owner, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.store
        .write(move |connection| {
            if !providers::remove(connection, &id)? {
                return Err(ApiError::no_such_provider());
            }
            Ok(snapshot::bump(connection)?)
        })
        .await?;
    app.publish().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/providers/:id/test`: connects, has it say something, in the voice `voice` where one is given, and asks it
/// something. Tells of each step how long it took, or the provider's own error.
pub(super) async fn test(State(app): State<App>, _: Owner, Path(id): Path<String>, fields: Fields) -> Answer {
    fields.only(&["voice"])?;
    let wrong = || bad_field("voice", "must be an id of letters, digits, -, _ and .");
    let voice = text(&fields, "voice")?.map(|given| voice_id(&given).ok_or_else(wrong)).transpose()?;
    let found = app.store.read(move |connection| providers::find(connection, &id).map_err(StoreError::from)).await?;
    let provider = found.ok_or_else(ApiError::no_such_provider)?;
    let order =
        AuditionOrder { provider: provider.route, voice, says: "Hello, this is a test.".to_owned(), is_asked: true };
    match ask_plane(&app, Command::Audition(Box::new(order))).await? {
        CommandReply::Auditioned(audition) => {
            let is_ok = audition.steps.iter().all(|step| step.is_ok != Some(false));
            Ok(Json(json!({ "provider": provider.name, "ok": is_ok, "steps": audition.steps })))
        }
        _ => Err(ApiError::new(409, "test_runs", "Two providers are being tested; wait for their end.")),
    }
}

/// What the provider speaks, if the request says.
fn kind(fields: &Fields) -> Result<Option<ProviderKind>, ApiError> {
    let known = || ProviderKind::ALL.map(ProviderKind::as_str).join(", ");
    let parsed = text(fields, "kind")?.map(|text| text.parse());
    parsed.transpose().map_err(|_| bad_field("kind", &format!("must be one of {}", known())))
}

/// Sets what the request gives.
fn change(provider: &mut Provider, fields: &Fields, secret: &Secret) -> Result<(), ApiError> {
    fields.only(&FIELDS)?;
    if let Some(given) = text(fields, "name")? {
        provider.name = name(&given).ok_or_else(|| bad_field("name", "must be 1 to 200 characters"))?;
    }
    if kind(fields)?.is_some_and(|kind| kind != provider.route.kind) {
        return Err(bad_field("kind", "cannot be changed; add another provider"));
    }
    let route = &mut provider.route;
    if let Some(given) = text(fields, "base_url")? {
        let (taken, what) = match route.kind {
            ProviderKind::Cascade => (
                service_url(&given).filter(|url| !url.starts_with("tcp")),
                "must be an https or http address without user, query or fragment",
            ),
            ProviderKind::AudioSocket => (
                service_url(&given).filter(|url| url.starts_with("tcp")),
                "must be tcp, a host and a port, as tcp://host:9092",
            ),
            _ => (realtime_url(&given), "must be a wss, ws, https or http address without user, query or fragment"),
        };
        route.base_url = taken.ok_or_else(|| bad_field("base_url", what))?;
    }
    if let Some(given) = text(fields, "model")? {
        route.model = name(&given).ok_or_else(|| bad_field("model", "must be 1 to 200 characters"))?;
    }
    for (field, place) in [
        ("api_key", &mut route.api_key),
        ("listen_api_key", &mut route.settings.listen_api_key),
        ("speak_api_key", &mut route.settings.speak_api_key),
    ] {
        if let Some(given) = clearable(fields, field)? {
            let wrong = || bad_field(field, "must be 1 to 1024 visible ASCII characters");
            let key =
                |text: String| line(&text, KEY_CHARS_MAX).filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
            *place = match given {
                None => None,
                Some(text) => Some(secret.seal(PROVIDER_KEY_PURPOSE, &key(text).ok_or_else(wrong)?)),
            };
        }
    }
    change_settings(route, fields)?;
    if let Some(field) = route.missing() {
        return Err(ApiError::missing(field));
    }
    if let Some(given) = texts(fields, "voices", VOICES_MAX)? {
        let wrong = || bad_field("voices", "must be ids of letters, digits, -, _ and .");
        provider.voices = given.iter().map(|id| voice_id(id).ok_or_else(wrong)).collect::<Result<_, _>>()?;
    }
    if let Some(is_default) = flag(fields, "default")? {
        provider.is_default = is_default;
    }
    Ok(())
}

/// Sets what only some kinds have; null takes it away.
fn change_settings(route: &mut ProviderRoute, fields: &Fields) -> Result<(), ApiError> {
    let ProviderRoute { kind, settings, .. } = route;
    for (field, place) in [
        ("agent_id", &mut settings.agent),
        ("language", &mut settings.language),
        ("listen_model", &mut settings.listen_model),
        ("speak_model", &mut settings.speak_model),
        ("voice", &mut settings.voice),
    ] {
        if let Some(given) = clearable(fields, field)? {
            let wrong = || bad_field(field, "must be 1 to 200 characters, or null");
            *place = given.map(|text| name(&text).ok_or_else(wrong)).transpose()?;
        }
    }
    for (field, place) in [("listen_url", &mut settings.listen_url), ("speak_url", &mut settings.speak_url)] {
        if let Some(given) = clearable(fields, field)? {
            let what = "must be an https or http address, or tcp and a port, without user, query or fragment, or null";
            *place = given.map(|text| service_url(&text).ok_or_else(|| bad_field(field, what))).transpose()?;
        }
    }
    if let Some(given) = fields.given("sample_rate") {
        let rate = given.as_u64().and_then(|rate| u32::try_from(rate).ok());
        let (rates, what): (&[u32], _) = match kind {
            ProviderKind::Cascade => {
                (&CASCADE_RATES, "must be 8000, 16000, 22050, 24000, 32000, 44100 or 48000, or null")
            }
            _ => (&[8000, 16_000, 24_000], "must be 8000, 16000 or 24000, or null"),
        };
        settings.sample_rate = match given {
            Value::Null => None,
            _ => Some(rate.filter(|rate| rates.contains(rate)).ok_or_else(|| bad_field("sample_rate", what))?),
        };
    }
    if let Some(given) = fields.given("dtmf") {
        settings.dtmf = match given {
            Value::Null => None,
            _ => Some(given.as_bool().ok_or_else(|| bad_field("dtmf", "must be true, false or null"))?),
        };
    }
    if let Some(given) = clearable(fields, "control_format")? {
        let wrong = || bad_field("control_format", "must be json or plain-text, or null");
        let named = |text: String| ControlFormat::ALL.into_iter().find(|format| format.as_str() == text);
        settings.control_format = given.map(|text| named(text).ok_or_else(wrong)).transpose()?;
    }
    if fields.given("max_sessions").is_some_and(Value::is_null) {
        settings.max_sessions = None;
    } else if let Some(max) = number(fields, "max_sessions", 1..=SESSIONS_MAX.into())? {
        settings.max_sessions = u16::try_from(max).ok();
    }
    if fields.given("drain_s").is_some_and(Value::is_null) {
        settings.drain_s = None;
    } else if let Some(seconds) = number(fields, "drain_s", 0..=DRAIN_S_MAX.into())? {
        settings.drain_s = u8::try_from(seconds).ok();
    }
    if let Some(given) = fields.given("parameters") {
        let wrong = || bad_field("parameters", "must be an object of at most 20 texts of 500 characters in all each");
        let given = given.as_object().filter(|given| given.len() <= PARAMETERS_MAX).ok_or_else(wrong)?;
        let text = |(name, value): (&String, &Value)| {
            let value = value.as_str()?.to_owned();
            (name.len() + value.len() <= PARAMETER_BYTES_MAX).then(|| (name.clone(), value))
        };
        settings.parameters = given.iter().map(|pair| text(pair).ok_or_else(wrong)).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// A provider as every endpoint shows it: never its key.
fn provider_json(provider: &Provider) -> Value {
    let ProviderRoute { kind, base_url, model, api_key, settings } = &provider.route;
    json!({
        "id": provider.id,
        "name": provider.name,
        "kind": kind,
        "base_url": base_url,
        "model": Some(model).filter(|model| !model.is_empty()),
        "apiKeySet": api_key.is_some(),
        "agent_id": settings.agent,
        "sample_rate": settings.sample_rate,
        "language": settings.language,
        "listen_model": settings.listen_model,
        "speak_model": settings.speak_model,
        "listen_url": settings.listen_url,
        "listenApiKeySet": settings.listen_api_key.is_some(),
        "speak_url": settings.speak_url,
        "speakApiKeySet": settings.speak_api_key.is_some(),
        "voice": settings.voice,
        "dtmf": settings.dtmf,
        "control_format": settings.control_format,
        "drain_s": settings.drain_s,
        "max_sessions": settings.max_sessions,
        "parameters": settings.parameters,
        "voices": provider.voices,
        "default": provider.is_default,
        "created_at": iso8601(provider.created_ms),
        "updated_at": iso8601(provider.updated_ms),
    })
}

/// What a request may carry.
const FIELDS: [&str; 22] = [
    "name",
    "kind",
    "base_url",
    "model",
    "api_key",
    "agent_id",
    "sample_rate",
    "language",
    "listen_model",
    "speak_model",
    "listen_url",
    "listen_api_key",
    "speak_url",
    "speak_api_key",
    "voice",
    "dtmf",
    "control_format",
    "drain_s",
    "max_sessions",
    "parameters",
    "voices",
    "default",
];

/// What services of speech send bare samples in.
const CASCADE_RATES: [u32; 7] = [8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

/// 20 parameters of 500 bytes each, name and value: what Twilio's `<Parameter>` takes.
const PARAMETERS_MAX: usize = 20;
const PARAMETER_BYTES_MAX: usize = 500;

/// 1,024 characters: keys that are tokens fit.
const KEY_CHARS_MAX: usize = 1024;

/// 1,000 sessions: as many as a box has calls.
const SESSIONS_MAX: u16 = 1000;

/// 60 s: longer speeches are cut off.
const DRAIN_S_MAX: u8 = 60;

/// 200 voices: more than any provider offers.
const VOICES_MAX: usize = 200;

/// 100 providers: more services than a box uses.
const PROVIDERS_MAX: i64 = 100;
