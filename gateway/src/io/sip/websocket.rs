//! SIP over WebSocket (RFC 7118): the handshake, and one message a frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use talkstack_media::sip::message::MESSAGE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::link::HANDSHAKE_MAX;
use super::streams::{Connection, FAREWELL_MAX, FIRST_BYTE_MAX, IDLE_MAX, READ_BYTES, WRITE_MAX};

/// Pages that may open a WebSocket; none means all, and clients that are no pages always may (RFC 6455 §10.2).
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(pub(super) Arc<[String]>);

impl Origins {
    fn admits(&self, origin: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin.filter(|_| !self.0.is_empty()) else { return true };
        self.0.iter().any(|admitted| origin.as_bytes().eq_ignore_ascii_case(admitted.as_bytes()))
    }
}

/// Judges a handshake: the subprotocol must be `sip` (RFC 7118 §4.1).
struct Handshake<'a>(&'a Origins);

impl Callback for Handshake<'_> {
    // The type is the library's.
    #[allow(clippy::result_large_err)]
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let refuse = |status, text: &str| {
            let mut response = ErrorResponse::new(Some(text.to_owned()));
            *response.status_mut() = status;
            response
        };
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let mut offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let sip = offered.find(|protocol| protocol.trim().eq_ignore_ascii_case("sip"));
        // RFC 6455 §4.1: spelt as the client has it, else it hangs up.
        let Some(sip) = sip.and_then(|sip| HeaderValue::from_str(sip.trim()).ok()) else {
            return Err(refuse(StatusCode::BAD_REQUEST, "This WebSocket speaks the subprotocol sip (RFC 7118).\n"));
        };
        if !self.0.admits(request.headers().get(header::ORIGIN)) {
            return Err(refuse(StatusCode::FORBIDDEN, "This page may not open a WebSocket here (sip.ws_origins).\n"));
        }
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, sip);
        Ok(response)
    }
}

/// Takes the far end's handshake and carries SIP until either side ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    connection: Connection,
    stream: S,
    origins: &Origins,
    outgoing: mpsc::Receiver<Vec<u8>>,
) {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    // Each message is written before the next is taken, so what waits is counted where all streams' octets are.
    (config.read_buffer_size, config.write_buffer_size) = (READ_BYTES, 0);
    let handshake = accept_hdr_async_with_config(stream, Handshake(origins), Some(config));
    match timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(socket)) => carry(&connection, socket, outgoing).await,
        Ok(Err(error)) => tracing::debug!("Closed a SIP connection: no WebSocket came of it ({error})"),
        Err(_) => tracing::debug!("Closed a SIP connection: its WebSocket handshake did not come"),
    }
    connection.close().await;
}

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &Connection,
    socket: WebSocketStream<S>,
    outgoing: mpsc::Receiver<Vec<u8>>,
) {
    let (mut writing, mut reading) = socket.split();
    let read = async {
        let mut deadline = Instant::now() + FIRST_BYTE_MAX;
        // A ping is answered by the library, with the next frame that is written.
        while let Ok(Some(message)) = timeout_at(deadline, reading.next()).await {
            deadline = Instant::now() + IDLE_MAX;
            let bytes: Vec<u8> = match message {
                Ok(Message::Text(text)) => text.as_bytes().to_vec(),
                Ok(Message::Binary(bytes)) => bytes.to_vec(),
                Ok(Message::Close(_)) => return None,
                Ok(_) => continue,
                Err(error) => return fault(&error),
            };
            if !connection.received(bytes).await {
                return None;
            }
        }
        None
    };
    let fault = tokio::select! {
        fault = read => fault,
        () = write(&mut writing, outgoing, Arc::clone(connection.waiting())) => None,
    };
    if let Some(code) = fault
        && let Ok(mut socket) = writing.reunite(reading)
    {
        // Closing with octets unread would reset the connection, and the peer not learn why.
        let farewell = async {
            let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
            while let Ok(1..) = socket.get_mut().read(&mut [0; READ_BYTES]).await {}
        };
        let _ = timeout(FAREWELL_MAX, farewell).await;
    }
}

/// What a peer is told of what cannot be read (RFC 6455 §7.4.1); nothing where the connection is broken.
fn fault(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// Writes what is queued, and gives pongs the chance to leave.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    writing: &mut SplitSink<WebSocketStream<S>, Message>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
) {
    loop {
        let Ok(next) = timeout(PONG_EVERY, outgoing.recv()).await else {
            if !matches!(timeout(WRITE_MAX, writing.flush()).await, Ok(Ok(()))) {
                return;
            }
            continue;
        };
        let Some(bytes) = next else { break };
        let length = bytes.len();
        // RFC 7118 §5.1: text where it is UTF-8, which browsers want, else binary.
        let message = match String::from_utf8(bytes) {
            Ok(text) => Message::text(text),
            Err(error) => Message::binary(error.into_bytes()),
        };
        if !matches!(timeout(WRITE_MAX, writing.send(message)).await, Ok(Ok(()))) {
            return;
        }
        waiting.fetch_sub(length, Ordering::Relaxed);
    }
    // Nobody waits for the answer.
    let _ = timeout(WRITE_MAX, writing.close()).await;
}

/// 5 s: a browser that pings waits longer for its pong.
const PONG_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_admitted_by_the_list_and_a_client_without_a_page_always() {
        let list = Origins(Arc::from(["https://pbx.example".to_owned()]));
        let origin = |text: &'static str| HeaderValue::from_static(text);
        assert!(list.admits(None) && list.admits(Some(&origin("https://PBX.example"))));
        assert!(!list.admits(Some(&origin("https://evil.example"))));
        assert!(Origins::default().admits(Some(&origin("https://any.example"))));
    }
}
