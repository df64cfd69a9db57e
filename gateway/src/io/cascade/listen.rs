//! The service that listens: an utterance becomes words.

use serde::Deserialize;
use serde_json::json;

use super::http::HttpService;
use super::wyoming::WyomingService;
use crate::agent::cascade::message::Failure;
use crate::agent::cascade::wyoming::write_event;
use crate::io::connect::ConnectError;
use crate::random::Random;

/// Who listens.
pub(super) struct Listener {
    service: Service,
    model: Option<String>,
    /// Of BCP 47.
    language: Option<String>,
}

enum Service {
    Http(HttpService),
    Wyoming(WyomingService),
}

#[derive(Deserialize)]
struct Transcription {
    text: String,
}

impl Listener {
    pub(super) fn http(service: HttpService, model: Option<String>, language: Option<String>) -> Self {
        Listener { service: Service::Http(service), model, language }
    }

    pub(super) fn wyoming(service: WyomingService, model: Option<String>, language: Option<String>) -> Self {
        Listener { service: Service::Wyoming(service), model, language }
    }

    /// Makes the connection ahead of the first request.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self) -> Result<(), ConnectError> {
        match &self.service {
            Service::Http(service) => service.connect().await,
            Service::Wyoming(service) => service.connect().await,
        }
    }

    /// The words of an utterance, 16-bit samples at 16 kHz; empty if nothing can be made out.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn transcribe(&self, samples: &[u8]) -> Result<String, Failure> {
        match &self.service {
            Service::Http(service) => {
                let boundary = format!("talkstack{:032x}", Random::default().u128());
                let body = self.form(samples, &boundary);
                let content_type = format!("multipart/form-data; boundary={boundary}");
                let mut reply = service.post("/audio/transcriptions", &content_type, body).await?;
                let json = reply.whole(TRANSCRIPTION_BYTES_MAX).await?;
                let read: Transcription = serde_json::from_slice(&json).map_err(|_| Failure::Format)?;
                Ok(read.text)
            }
            Service::Wyoming(service) => {
                let (mut line, mut event) = service.request(&self.events(samples)).await?;
                while event.kind != "transcript" {
                    event = line.next().await?;
                }
                service.put_back(line);
                Ok(event.text("text").ok_or(Failure::Format)?.to_owned())
            }
        }
    }

    /// The form of a request over HTTP (RFC 7578).
    fn form(&self, samples: &[u8], boundary: &str) -> Vec<u8> {
        let mut form = Vec::with_capacity(samples.len() + 1024);
        // As ISO 639-1 has it.
        let language = self.language.as_deref().and_then(|language| language.split('-').next());
        let model = self.model.as_deref().unwrap_or(LISTEN_MODEL);
        for (name, value) in [("model", Some(model)), ("response_format", Some("json")), ("language", language)] {
            if let Some(value) = value {
                let part =
                    format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
                form.extend_from_slice(part.as_bytes());
            }
        }
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.wav\"\r\n\
             Content-Type: audio/wav\r\n\r\n"
        );
        form.extend_from_slice(part.as_bytes());
        form.extend_from_slice(&wav_header(samples.len() as u32));
        form.extend_from_slice(samples);
        form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        form
    }

    /// The events of a request over Wyoming.
    fn events(&self, samples: &[u8]) -> Vec<u8> {
        let mut events = Vec::with_capacity(samples.len() + samples.len() / 8 + 1024);
        let mut asked = json!({});
        for (name, value) in [("name", &self.model), ("language", &self.language)] {
            if let Some(value) = value {
                asked[name] = json!(value);
            }
        }
        let format = json!({ "rate": 16_000, "width": 2, "channels": 1 });
        write_event(&mut events, "transcribe", &asked, &[]);
        write_event(&mut events, "audio-start", &format, &[]);
        samples.chunks(CHUNK_BYTES).for_each(|chunk| write_event(&mut events, "audio-chunk", &format, chunk));
        write_event(&mut events, "audio-stop", &json!({}), &[]);
        events
    }
}

/// A WAV file's header in front of so many bytes of mono samples at 16 kHz.
fn wav_header(bytes: u32) -> [u8; 44] {
    let mut header = *b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\0\0\0\0";
    header[4..8].copy_from_slice(&(36 + bytes).to_le_bytes());
    header[40..44].copy_from_slice(&bytes.to_le_bytes());
    header
}

/// What every server that speaks OpenAI's protocol takes by name.
const LISTEN_MODEL: &str = "whisper-1";

/// 1,024 samples, as the services' own tools send.
const CHUNK_BYTES: usize = 2048;

/// 256 KiB: a minute's words, with all the detail that a server may add.
const TRANSCRIPTION_BYTES_MAX: usize = 256 << 10;
