//! Voices, each with a sample that plays.

use std::path::{Path as FilePath, PathBuf};

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ApiError;
use super::native::ask_plane;
use super::principal::Principal;
use super::{Answer, App};
use crate::model::voice_id;
use crate::port::{Audition, AuditionOrder, Command, CommandReply};
use crate::secret::{equal, hex};
use crate::store::{StoreError, providers};
use crate::voices::{self, Voice};

/// `GET /voices`.
pub(super) async fn list(State(app): State<App>, _: Principal) -> Answer {
    let voices = known(&app).await?;
    let shown: Vec<Value> = voices.iter().map(|voice| voice_json(&app, voice)).collect();
    Ok(Json(json!({ "message": MESSAGE, "status": "success", "voices": shown })))
}

/// `GET /voices/:voice_id`.
pub(super) async fn find(State(app): State<App>, _: Principal, Path(id): Path<String>) -> Answer {
    let voices = known(&app).await?;
    let voice = voices.iter().find(|voice| voice.id == id);
    let voice = voice.ok_or_else(|| ApiError::new(404, "no_such_voice", "No such voice."))?;
    Ok(Json(json!({ "message": MESSAGE, "status": "success", "voice": voice_json(&app, voice) })))
}

/// `GET /voices/previews/:provider/:voice`: a WAV file. The link is the credential. The first who asks for it has the
/// provider say it; from then on it is kept.
pub(super) async fn preview(
    State(app): State<App>,
    Path((provider_id, voice)): Path<(String, String)>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let bad = || ApiError::new(403, "bad_link", "The link is not valid; read the voices again.");
    let voice = voice.strip_suffix(".wav").and_then(voice_id).ok_or_else(bad)?;
    let given = query.0.unwrap_or_default();
    let given = given.strip_prefix("signature=").unwrap_or_default();
    if !equal(signature(&app, &provider_id, &voice).as_bytes(), given.as_bytes()) {
        return Err(bad());
    }
    if provider_id == BOX {
        let wav = voices::box_preview(&voice).ok_or_else(bad)?;
        return Ok(playable(wav.to_vec()));
    }
    let path = file_of(&app, &provider_id, &voice);
    if let Ok(wav) = tokio::fs::read(&path).await {
        return Ok(playable(wav));
    }
    let wav = have_said(&app, provider_id, voice).await?;
    if let Err(error) = keep(&path, &wav).await {
        tracing::warn!("The sample of a voice cannot be kept ({error})");
    }
    Ok(playable(wav))
}

/// Has a provider say something in a voice.
async fn have_said(app: &App, provider_id: String, voice: String) -> Result<Vec<u8>, ApiError> {
    let gone = || ApiError::new(404, "no_such_voice", "The voice's provider is no longer there.");
    let found =
        app.store.read(move |connection| providers::find(connection, &provider_id).map_err(StoreError::from)).await?;
    let provider = found.ok_or_else(gone)?.route;
    let order = AuditionOrder { provider, voice: Some(voice), says: SAMPLE.to_owned(), is_asked: false };
    let audition = match ask_plane(app, Command::Audition(Box::new(order))).await? {
        CommandReply::Auditioned(audition) => audition,
        _ => return Err(ApiError::new(503, "busy", "Other voices are being tried; try again in a moment.")),
    };
    let Audition { steps, speech } = *audition;
    let decoded = speech.and_then(|text| base64_simd::STANDARD.decode_to_vec(text).ok());
    let all_is_well = steps.iter().all(|step| step.is_ok == Some(true));
    decoded.filter(|_| all_is_well).ok_or_else(|| {
        let why = steps.into_iter().rfind(|step| step.is_ok != Some(true)).map(|step| step.found);
        let why = why.unwrap_or_else(|| "It says nothing.".to_owned());
        ApiError::new(502, "no_preview", format!("The provider has not said a sample: {why}"))
    })
}

async fn keep(path: &FilePath, wav: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        tokio::fs::create_dir_all(dir).await?;
    }
    let begun = path.with_extension(uuid::Uuid::new_v4().to_string());
    tokio::fs::write(&begun, wav).await?;
    tokio::fs::rename(&begun, path).await
}

fn playable(wav: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "audio/wav"), (header::CACHE_CONTROL, "private, max-age=86400")], wav).into_response()
}

async fn known(app: &App) -> Result<Vec<Voice>, ApiError> {
    let all = app.store.read(|connection| providers::all(connection).map_err(StoreError::from)).await?;
    Ok(voices::all(&all))
}

/// A voice as every endpoint shows it.
fn voice_json(app: &App, voice: &Voice) -> Value {
    let provider_id = voice.provider_id.as_deref().unwrap_or(BOX);
    let (base, signature) = (app.recordings.base(), signature(app, provider_id, &voice.id));
    json!({
        "name": voice.name,
        "labels": voice.labels(),
        "voice_id": voice.id,
        "preview_url": format!("{base}/voices/previews/{provider_id}/{}.wav?signature={signature}", voice.id),
    })
}

fn signature(app: &App, provider_id: &str, voice: &str) -> String {
    hex(&app.secret.mac("voice preview link", format!("{provider_id}/{voice}").as_bytes()))
}

/// Ids are of letters, digits, `-`, `_` and `.`, and a provider's of letters, digits and `_`.
fn file_of(app: &App, provider_id: &str, voice: &str) -> PathBuf {
    app.recordings.beside("previews").join(provider_id).join(format!("voice-{voice}.wav"))
}

/// In place of a provider's id.
const BOX: &str = "box";

/// As the page prints it, for one voice as for all.
const MESSAGE: &str = "successfully fetched voice list.";

/// What a voice says of itself.
const SAMPLE: &str = "Hello, thank you for calling. How can I help you today?";
