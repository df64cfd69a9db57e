//! Connects to an agent: names, TCP, TLS and the HTTP upgrade (RFC 6455 §4), off the media threads. Where a service
//! makes an address for each call, it is asked for that first.

pub(super) mod http;
mod tls;
mod url;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64_simd::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use sha1::{Digest, Sha1};
use talkstack_control::port::Sealed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

pub use http::Ask;
pub use tls::{client_config, trusted_roots};
pub use url::{AgentUrl, AgentUrlError, percent_encoded};

use super::cascade::CascadeTarget;

/// Where an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentTarget {
    /// Behind a WebSocket.
    WebSocket(WebSocketTarget),
    /// Behind a bare TCP port.
    Port(AgentUrl),
    /// Behind services that a task of ours speaks to.
    Cascade(Box<CascadeTarget>),
}

impl AgentTarget {
    /// Where it is; of a cascade, where it thinks.
    pub fn url(&self) -> &AgentUrl {
        match self {
            AgentTarget::WebSocket(target) => &target.url,
            AgentTarget::Port(url) => url,
            AgentTarget::Cascade(target) => &target.think.url,
        }
    }
}

/// Where an agent's WebSocket is, and the key it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketTarget {
    /// The address.
    pub url: AgentUrl,
    /// The key, still sealed; it is opened where the connection is made.
    pub api_key: Option<Sealed>,
    /// Where the key goes.
    pub key_place: KeyPlace,
    /// What is asked first, where the service makes an address for each call.
    pub ask: Option<Ask>,
    /// The subprotocol that is asked for (RFC 6455 §1.9).
    pub protocol: Option<&'static str>,
}

/// Where a service wants its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer,
    /// `Authorization: Token …`, as Deepgram has it.
    Token,
    /// A parameter of this name in the query: it joins the address in the request only, never where one is shown.
    Query(&'static str),
    /// A header field of this name.
    Header(&'static str),
}

/// How to be let in by an agent's server.
pub struct Credentials {
    /// The key.
    pub key: Option<String>,
    /// Where it goes.
    pub place: KeyPlace,
    /// The subprotocol that is asked for.
    pub protocol: Option<&'static str>,
    /// Whom to trust.
    pub tls: Arc<ClientConfig>,
}

/// An agent's end of a connection.
#[derive(Debug)]
pub enum AgentStream {
    /// To a server.
    Tcp(TcpStream),
    /// To a task of ours.
    Local(UnixStream),
}

/// A connection behind its handshake, ready to move to a media thread.
#[derive(Debug)]
pub struct Connected {
    /// The socket, non-blocking.
    pub stream: AgentStream,
    /// The state of TLS on it, behind its handshake.
    pub tls: Option<Box<ClientConnection>>,
    /// What came after the handshake's blank line: the first message may ride with the 101.
    pub leftover: Vec<u8>,
    /// Its place among its provider's sessions, until it is dropped.
    pub place: Option<Place>,
}

/// How many sessions a provider may have at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimit {
    /// The provider: what it speaks and where it is.
    pub key: String,
    /// So many.
    pub max: u16,
}

/// Sessions at once, by provider.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<BTreeMap<String, Arc<AtomicU16>>>>);

/// One session's place.
#[derive(Debug)]
pub struct Place(Arc<AtomicU16>);

impl Places {
    /// A place for one more session; `None` when all are taken.
    pub fn take(&self, limit: &SessionLimit) -> Option<Place> {
        // An owner has a hundred providers at the most.
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = Arc::clone(places.entry(limit.key.clone()).or_default());
        let more = |taken: u16| (taken < limit.max).then(|| taken + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The agent could not be reached. The agent's side's doing; the failover goes on.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No name, no route, refused or reset.
    #[error("no connection")]
    Io(#[from] std::io::Error),
    /// The host is no name that a certificate can carry.
    #[error("the agent's host is no name for TLS")]
    BadName,
    /// The key has a character that no header takes; set it again.
    #[error("the agent's key cannot be sent in a header")]
    BadKey,
    /// Not within [`CONNECT_TIMEOUT`].
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// Not an HTTP response, or one that is too long.
    #[error("no HTTP response came back")]
    NotHttp,
    /// A status other than 101.
    #[error("the agent answered HTTP {0}")]
    Refused(u16),
    /// 101 without the accept key: whoever answered did not understand the request.
    #[error("the agent's handshake carries the wrong key")]
    WrongKey,
    /// The service was asked for an address, and its answer has none.
    #[error("the service's answer has no address of a WebSocket")]
    NoAddress,
    /// The service has answered with an address on a network that it is not on itself, or without TLS.
    #[error("the service's answer has an address that it must not lead to")]
    StrangeAddress,
}

/// Connects to a bare port within [`CONNECT_TIMEOUT`].
///
/// # Errors
/// [`ConnectError`].
pub async fn dial(url: &AgentUrl) -> Result<Connected, ConnectError> {
    let dialled = tokio::net::TcpStream::connect((url.host(), url.port()));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, dialled).await.map_err(|_| ConnectError::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(Connected { stream: AgentStream::Tcp(stream.into_std()?), tls: None, leftover: Vec::new(), place: None })
}

/// Asks for the address where there is to be one for each call, connects and upgrades, all within [`CONNECT_TIMEOUT`].
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(
    url: &AgentUrl,
    ask: Option<&Ask>,
    credentials: Credentials,
    nonce: u128,
) -> Result<Connected, ConnectError> {
    let connected = async {
        let Some(ask) = ask else { return establish(url, credentials, nonce).await };
        let made = http::ask(ask, &credentials).await?;
        // Whoever knows the address may come in.
        establish(&made, Credentials { key: None, ..credentials }, nonce).await
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connected).await.map_err(|_| ConnectError::TimedOut)?
}

async fn establish(url: &AgentUrl, credentials: Credentials, nonce: u128) -> Result<Connected, ConnectError> {
    let mut stream = tokio::net::TcpStream::connect((url.host(), url.port())).await?;
    stream.set_nodelay(true)?;
    if !url.is_tls() {
        let leftover = upgrade(&mut stream, url, &credentials, nonce).await?;
        return Ok(Connected { stream: AgentStream::Tcp(stream.into_std()?), tls: None, leftover, place: None });
    }
    let name = ServerName::try_from(url.host().to_owned()).map_err(|_| ConnectError::BadName)?;
    let mut stream = TlsConnector::from(Arc::clone(&credentials.tls)).connect(name, stream).await?;
    let mut leftover = upgrade(&mut stream, url, &credentials, nonce).await?;
    let (stream, mut tls) = stream.into_inner();
    read_rest(&mut tls, &mut leftover)?;
    Ok(Connected { stream: AgentStream::Tcp(stream.into_std()?), tls: Some(Box::new(tls)), leftover, place: None })
}

/// What TLS has decrypted and nobody has read: the socket will not become readable for it again.
fn read_rest(tls: &mut ClientConnection, leftover: &mut Vec<u8>) -> std::io::Result<()> {
    match tls.reader().read_to_end(leftover) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// The HTTP upgrade; returns what came behind its response.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    url: &AgentUrl,
    credentials: &Credentials,
    nonce: u128,
) -> Result<Vec<u8>, ConnectError> {
    let key = STANDARD.encode_to_string(nonce.to_be_bytes());
    let own = credentials.key.as_deref().map(|own| (own, credentials.place));
    let request = request(url, own, credentials.protocol, &key)?;
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut response = Vec::with_capacity(1024);
    let head_bytes = loop {
        if let Some(head_bytes) = check_response(&response, &key)? {
            break head_bytes;
        }
        if response.len() > RESPONSE_BYTES_MAX || stream.read_buf(&mut response).await? == 0 {
            return Err(ConnectError::NotHttp);
        }
    };
    Ok(response.split_off(head_bytes))
}

fn request(
    url: &AgentUrl,
    own: Option<(&str, KeyPlace)>,
    protocol: Option<&str>,
    key: &str,
) -> Result<String, ConnectError> {
    let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    let mut with_key = None;
    let authorization = match own {
        None => String::new(),
        Some((own, _)) if !own.bytes().all(|byte| byte.is_ascii_graphic()) => return Err(ConnectError::BadKey),
        Some((own, KeyPlace::Bearer)) => format!("Authorization: Bearer {own}\r\n"),
        Some((own, KeyPlace::Token)) => format!("Authorization: Token {own}\r\n"),
        Some((own, KeyPlace::Query(name))) => {
            with_key = Some(url.clone().with_query(name, own));
            String::new()
        }
        Some((own, KeyPlace::Header(name))) => format!("{name}: {own}\r\n"),
    };
    Ok(format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{protocol}{authorization}\r\n",
        with_key.as_ref().unwrap_or(url).path(),
        url.authority(),
    ))
}

/// Returns the head's length when it is complete and right.
fn check_response(bytes: &[u8], key: &str) -> Result<Option<usize>, ConnectError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ConnectError::NotHttp),
    };
    match response.code {
        Some(101) => {}
        code => return Err(ConnectError::Refused(code.unwrap_or(0))),
    }
    let accept = STANDARD.encode_to_string(Sha1::digest(format!("{key}{WEBSOCKET_GUID}")));
    let is_right = response
        .headers
        .iter()
        .any(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept") && header.value == accept.as_bytes());
    if is_right { Ok(Some(head_bytes)) } else { Err(ConnectError::WrongKey) }
}

/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// 8 s: 3 s of ringing and 5 s of comfort noise, after which the attendant has taken the call.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// 16 KiB: twice what common HTTP servers send as a head.
const RESPONSE_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_has_no_more_sessions_than_it_may_and_each_place_comes_back() {
        let places = Places::default();
        let limit = SessionLimit { key: "pcm ws://a".into(), max: 2 };
        let (first, second) = (places.take(&limit), places.take(&limit));
        assert!(first.is_some() && second.is_some() && places.take(&limit).is_none());
        assert!(places.take(&SessionLimit { key: "pcm ws://b".into(), max: 1 }).is_some(), "another one's");
        drop(first);
        assert!(places.take(&limit).is_some());
    }

    #[test]
    fn a_key_goes_out_as_a_bearer_and_never_breaks_the_header() {
        let url = "wss://agent/v1".parse().expect("an address");
        let sent = request(&url, Some(("sk-1", KeyPlace::Header("api-key"))), None, "AAAA").expect("a key");
        assert!(sent.contains("\r\napi-key: sk-1\r\n"), "{sent}");
        let sent = request(&url, Some(("sk-1", KeyPlace::Token)), None, "AAAA").expect("a key");
        assert!(sent.contains("\r\nAuthorization: Token sk-1\r\n"), "{sent}");
        let sent = request(&url, Some(("sk-1", KeyPlace::Bearer)), None, "AAAA").expect("a key");
        assert!(sent.contains("\r\nHost: agent\r\n") && sent.contains("\r\nAuthorization: Bearer sk-1\r\n"), "{sent}");
        let sent = request(&url, Some(("a&b", KeyPlace::Query("key"))), None, "AAAA").expect("a key");
        assert!(sent.starts_with("GET /v1?key=a%26b HTTP/1.1\r\n") && !sent.contains("Authorization"), "{sent}");
        let sent = request(&url, None, Some("media"), "AAAA").expect("no key");
        assert!(!sent.contains("Authorization") && sent.contains("\r\nSec-WebSocket-Protocol: media\r\n"), "{sent}");
        assert!(matches!(
            request(&url, Some(("sk\r\nX: y", KeyPlace::Bearer)), None, "AAAA"),
            Err(ConnectError::BadKey)
        ));
    }

    #[test]
    fn only_a_101_with_the_right_key_is_a_handshake() {
        // The sample handshake of RFC 6455 §1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let right = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";
        assert!(matches!(check_response(right, key), Ok(Some(bytes)) if bytes == right.len() - 4));
        assert!(matches!(check_response(&right[..60], key), Ok(None)));
        assert!(matches!(check_response(right, "AAAA"), Err(ConnectError::WrongKey)));
        assert!(matches!(check_response(b"HTTP/1.1 401 No\r\n\r\n", key), Err(ConnectError::Refused(401))));
        assert!(matches!(check_response(b"\x16\x03\x01", key), Err(ConnectError::NotHttp)));
    }
}
