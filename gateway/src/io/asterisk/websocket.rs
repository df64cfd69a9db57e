//! A call over the WebSocket channel: `Dial(WebSocket/<connection>/c(ulaw)f(json)v(to=3612345678))`, where the connection
//! is a client of Asterisk's that connects to the box.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use talkstack_media::audio::frame::{Form, SampleRate};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::{FIRST_MAX, Far, FromAsterisk, Incoming, Shared, WRITE_MAX, carry};
use crate::asterisk::control::{Event, Start};
use crate::asterisk::parameters::Parameters;

/// Notes what the request says of the call, and takes the subprotocol where it is offered.
#[derive(Default)]
struct Handshake<'a> {
    query: Option<&'a mut String>,
}

impl Callback for Handshake<'_> {
    // The type is the library's.
    #[allow(clippy::result_large_err)]
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        if let Some(query) = self.query {
            request.uri().query().unwrap_or_default().clone_into(query);
        }
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let mut offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        if offered.any(|protocol| protocol.trim() == "media") {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("media"));
        }
        Ok(response)
    }
}

/// The connection.
struct Socket {
    socket: WebSocketStream<TcpStream>,
    form: Form,
    /// Commands are told in JSON.
    is_json: bool,
    /// Asterisk takes no more for now.
    is_full: bool,
}

pub(super) async fn serve(stream: TcpStream, shared: &Shared) {
    let mut query = String::new();
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let handshake = accept_hdr_async_with_config(stream, Handshake { query: Some(&mut query) }, Some(config));
    let Ok(Ok(socket)) = timeout(FIRST_MAX, handshake).await else { return };
    let mut socket = Socket { socket, form: Form::Mulaw, is_json: true, is_full: false };
    let Ok(Some(start)) = timeout(FIRST_MAX, socket.start()).await else { return };
    let Some(form) = form(&start.format) else {
        tracing::warn!(
            "Refused a call of an Asterisk: its WebSocket channel has another format than ulaw, alaw, slin, slin16, slin24 \
             and slin48; add one to its Dial, as in c(ulaw)"
        );
        return socket.hang_up().await;
    };
    socket.form = form;
    let Parameters { called, caller, name } = Parameters::read(&query);
    let called = called.unwrap_or_else(|| shared.config.number.clone());
    carry(&mut socket, Incoming { called, caller, name, form }, shared).await;
}

impl Socket {
    /// Waits for the event that comes first; audio before it is heard by nobody.
    async fn start(&mut self) -> Option<Start> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => {
                    self.is_json = text.trim_start().starts_with('{');
                    if let Ok(Some(Event::Start(start))) = Event::read(&text) {
                        return Some(start);
                    }
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    async fn command(&mut self, name: &str) {
        let text = if self.is_json { json!({ "command": name }).to_string() } else { name.to_owned() };
        // An Asterisk that is gone needs no command.
        let _ = timeout(WRITE_MAX, self.socket.send(Message::text(text))).await;
    }
}

impl Far for Socket {
    async fn next(&mut self) -> FromAsterisk {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => FromAsterisk::Audio(self.form, bytes.to_vec()),
            Some(Ok(Message::Text(text))) => match Event::read(&text) {
                Ok(Some(Event::Digit(key))) => FromAsterisk::Key(key),
                Ok(Some(Event::Xoff)) => {
                    self.is_full = true;
                    FromAsterisk::Nothing
                }
                Ok(Some(Event::Xon)) => {
                    self.is_full = false;
                    FromAsterisk::Nothing
                }
                _ => FromAsterisk::Nothing,
            },
            Some(Ok(Message::Close(_)) | Err(_)) | None => FromAsterisk::HungUp,
            Some(Ok(_)) => FromAsterisk::Nothing,
        }
    }

    async fn play(&mut self, audio: Vec<u8>) -> bool {
        self.is_full || matches!(timeout(WRITE_MAX, self.socket.send(Message::binary(audio))).await, Ok(Ok(())))
    }

    async fn answered(&mut self) {
        self.command("ANSWER").await;
    }

    async fn hang_up(&mut self) {
        self.command("HANGUP").await;
        // Asterisk closes; its close is answered by the library.
        let _ = timeout(WRITE_MAX, async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }
}

/// How a format of Asterisk's lies.
fn form(name: &str) -> Option<Form> {
    Some(match name {
        "ulaw" => Form::Mulaw,
        "alaw" => Form::Alaw,
        "slin" => Form::Linear(SampleRate::Hz8000),
        "slin16" => Form::Linear(SampleRate::Hz16000),
        "slin24" => Form::Linear(SampleRate::Hz24000),
        "slin48" => Form::Linear(SampleRate::Hz48000),
        _ => return None,
    })
}

/// 64 KiB: as much as an Asterisk writes at once.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
