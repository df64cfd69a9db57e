//! Connects to a media-stream agent: names, TCP and the HTTP upgrade (RFC 6455 §4), off the media threads.

use std::fmt;
use std::net::TcpStream;
use std::str::FromStr;
use std::time::Duration;

use base64_simd::STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where an agent listens: `ws://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentUrl {
    host: String,
    port: u16,
    path: String,
}

/// The text is no `ws://` address. Whoever configured it must mend it.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("an agent's address looks like ws://host:port/path")]
pub struct AgentUrlError;

impl FromStr for AgentUrl {
    type Err = AgentUrlError;

    fn from_str(text: &str) -> Result<Self, AgentUrlError> {
        let rest = text.strip_prefix("ws://").ok_or(AgentUrlError)?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| AgentUrlError)?),
            _ => (authority, 80),
        };
        if host.is_empty() || !is_clean(host) || !is_clean(path) || host.contains('@') {
            return Err(AgentUrlError);
        }
        Ok(AgentUrl { host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}:{}{}", self.host, self.port, self.path)
    }
}

/// A connection behind its handshake, ready to move to a media thread.
#[derive(Debug)]
pub struct Connected {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    /// What came after the handshake's blank line: the first message may ride with the 101.
    pub leftover: Vec<u8>,
}

/// The agent could not be reached. The agent's side's doing; the failover goes on.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No name, no route, refused or reset.
    #[error("no connection")]
    Io(#[from] std::io::Error),
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
}

/// Connects and upgrades within [`CONNECT_TIMEOUT`].
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(url: &AgentUrl, nonce: u128) -> Result<Connected, ConnectError> {
    tokio::time::timeout(CONNECT_TIMEOUT, upgrade(url, nonce)).await.map_err(|_| ConnectError::TimedOut)?
}

async fn upgrade(url: &AgentUrl, nonce: u128) -> Result<Connected, ConnectError> {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = tokio::net::TcpStream::connect((host, url.port)).await?;
    stream.set_nodelay(true)?;
    let key = STANDARD.encode_to_string(nonce.to_be_bytes());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
        url.path, url.host, url.port
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::with_capacity(1024);
    let head_bytes = loop {
        if let Some(head_bytes) = check_response(&response, &key)? {
            break head_bytes;
        }
        if response.len() > RESPONSE_BYTES_MAX || stream.read_buf(&mut response).await? == 0 {
            return Err(ConnectError::NotHttp);
        }
    };
    let stream = stream.into_std()?;
    Ok(Connected { stream, leftover: response.split_off(head_bytes) })
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
    fn an_agent_url_is_host_port_and_path() {
        for (text, shown) in [
            ("ws://127.0.0.1:9000/twilio", Some("ws://127.0.0.1:9000/twilio")),
            ("ws://agent", Some("ws://agent:80/")),
            ("ws://[::1]:90/a?b=c", Some("ws://[::1]:90/a?b=c")),
            ("http://agent/", None),
            ("ws:///x", None),
            ("ws://agent:port/", None),
            ("ws://agent/a b", None),
            ("ws://user@agent/", None),
            ("ws://agent/\r\nX: y", None),
        ] {
            assert_eq!(text.parse::<AgentUrl>().ok().map(|url| url.to_string()).as_deref(), shown, "{text}");
        }
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
