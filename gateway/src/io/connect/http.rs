//! HTTP/1.1 to a service: a connection, and what is asked before a WebSocket's address is known.

use std::fmt;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{AgentUrl, ConnectError, Credentials, KeyPlace};

/// What is asked over HTTP first: the answer, a JSON object, names the WebSocket's address, which is good for one call.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask {
    /// Where. The key goes here, and not to the address that is named.
    pub url: AgentUrl,
    /// JSON to be posted; `None` only asks.
    pub body: Option<String>,
    /// The name of the address in the answer.
    pub field: &'static str,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.as_ref().map_or(0, String::len);
        write!(f, "Ask({}, {bytes} bytes)", self.url)
    }
}

/// Asks for an address. A redirection is not followed: it is a refusal.
///
/// # Errors
/// [`ConnectError`].
pub(super) async fn ask(ask: &Ask, credentials: &Credentials) -> Result<AgentUrl, ConnectError> {
    let request = request(ask, credentials.key.as_deref().map(|key| (key, credentials.place)))?;
    let response = dial(&ask.url, &credentials.tls).await?.send_request(request).await;
    let response = response.map_err(|_| ConnectError::NotHttp)?;
    if !response.status().is_success() {
        return Err(ConnectError::Refused(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let answer = body.map_err(|_| ConnectError::NoAddress)?.to_bytes();
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| ConnectError::NoAddress)?;
    let address: AgentUrl =
        answer[ask.field].as_str().and_then(|address| address.parse().ok()).ok_or(ConnectError::NoAddress)?;
    if ask.url.may_lead_to(&address) { Ok(address) } else { Err(ConnectError::StrangeAddress) }
}

fn request(ask: &Ask, key: Option<(&str, KeyPlace)>) -> Result<Request<Full<Bytes>>, ConnectError> {
    let mut url = ask.url.clone();
    let mut header = None;
    match key {
        None => {}
        Some((key, KeyPlace::Query(name))) => url = url.with_query(name, key),
        Some((key, KeyPlace::Bearer)) => header = Some((AUTHORIZATION, format!("Bearer {key}"))),
        Some((key, KeyPlace::Token)) => header = Some((AUTHORIZATION, format!("Token {key}"))),
        Some((key, KeyPlace::Header(name))) => header = Some((HeaderName::from_static(name), key.to_owned())),
    }
    let request = if ask.body.is_some() { Request::post(url.path()) } else { Request::get(url.path()) };
    let mut request = request
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("talkstack/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, JSON);
    if let Some((name, value)) = header {
        let mut value = HeaderValue::from_str(&value).map_err(|_| ConnectError::BadKey)?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    if ask.body.is_some() {
        request = request.header(CONTENT_TYPE, JSON);
    }
    let body = Full::new(Bytes::from(ask.body.clone().unwrap_or_default()));
    request.body(body).map_err(|_| ConnectError::NotHttp)
}

/// Connects to a service.
///
/// # Errors
/// [`ConnectError`].
pub(in crate::io) async fn dial(
    url: &AgentUrl,
    tls: &Arc<ClientConfig>,
) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
    let stream = TcpStream::connect((url.host(), url.port())).await?;
    stream.set_nodelay(true)?;
    if !url.is_tls() {
        return start(stream).await;
    }
    let name = ServerName::try_from(url.host().to_owned()).map_err(|_| ConnectError::BadName)?;
    start(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?).await
}

/// HTTP on a connection. It runs until its sender is dropped.
async fn start<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| ConnectError::NotHttp)?;
    tokio::spawn(async move {
        // Its sender hears of an error, too.
        let _ = connection.await;
    });
    Ok(sender)
}

const JSON: &str = "application/json";

/// 1 MiB: services give back what they were asked with, and a prompt may be long.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_along_where_the_service_wants_it_and_a_body_makes_it_a_post() {
        let url = AgentUrl::of_base("wss://api.service.com").expect("an address").with_path("/calls");
        let mut asked = Ask { url, body: None, field: "address" };
        let sent = request(&asked, Some(("k-1", KeyPlace::Header("x-api-key")))).expect("a key");
        assert_eq!((sent.method().as_str(), sent.uri().path()), ("GET", "/calls"));
        assert!(sent.headers()["host"] == "api.service.com" && sent.headers()["x-api-key"] == "k-1");
        assert!(!sent.headers().contains_key("content-type"));
        asked.body = Some("{\"prompt\":\"John\"}".into());
        let sent = request(&asked, Some(("k-1", KeyPlace::Bearer))).expect("a key");
        assert!(sent.method() == "POST" && sent.headers()["content-type"] == "application/json");
        assert_eq!(sent.headers()["authorization"], "Bearer k-1");
        assert!(!format!("{sent:?} {asked:?}").contains("k-1"), "a key is not shown");
        assert!(!format!("{asked:?}").contains("John"), "nor what is asked with");
        let wrong = request(&asked, Some(("a\r\nb", KeyPlace::Token)));
        assert!(matches!(wrong, Err(ConnectError::BadKey)));
    }
}
