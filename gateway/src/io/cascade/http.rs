//! A service behind HTTP/1.1: one connection that is kept, and requests that are tried again while a model loads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::cascade::message::Failure;
use crate::agent::wire::loggable;
use crate::io::connect::http::dial;
use crate::io::connect::{AgentUrl, CONNECT_TIMEOUT, ConnectError};

/// A service.
pub(super) struct HttpService {
    url: AgentUrl,
    authorization: Option<HeaderValue>,
    tls: Arc<ClientConfig>,
    /// The connection, while nobody uses it.
    idle: Mutex<Option<Sender>>,
}

type Sender = SendRequest<Full<Bytes>>;

/// An answer whose body is to be read. Dropped before its end, its connection ends.
pub(super) struct Reply<'a> {
    service: &'a HttpService,
    sender: Option<Sender>,
    body: Incoming,
    /// Its body is one JSON document.
    pub(super) is_json: bool,
}

impl HttpService {
    /// A service at an address, with its key.
    ///
    /// # Errors
    /// [`ConnectError::BadKey`].
    pub(super) fn new(url: &AgentUrl, key: Option<String>, tls: &Arc<ClientConfig>) -> Result<Self, ConnectError> {
        let authorization = key.map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ConnectError::BadKey)?;
            value.set_sensitive(true);
            Ok::<_, ConnectError>(value)
        });
        let authorization = authorization.transpose()?;
        Ok(HttpService { url: url.clone(), authorization, tls: Arc::clone(tls), idle: Mutex::new(None) })
    }

    /// Makes the connection ahead of the first request.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self) -> Result<(), ConnectError> {
        let sender = dial(&self.url, &self.tls).await?;
        self.put_back(sender);
        Ok(())
    }

    /// Posts a body behind the service's address. What is too busy, or loads its model, is asked again for
    /// [`RETRY_MAX`].
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<Reply<'_>, Failure> {
        let url = self.url.clone().with_path(path);
        let mut request = Request::post(url.path())
            .header(HOST, url.authority())
            .header(USER_AGENT, concat!("talkstack/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, content_type);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| Failure::Refused)?;
        let (until, mut wait) = (Instant::now() + RETRY_MAX, RETRY_WAIT);
        loop {
            let (sender, response) = self.send(&request).await?;
            let status = response.status();
            let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
            let is_json = content_type.starts_with(b"application/json");
            let mut reply = Reply { service: self, sender: Some(sender), body: response.into_body(), is_json };
            if status.is_success() {
                return Ok(reply);
            }
            let code = error_code(&reply.whole(ERROR_BYTES_MAX).await.unwrap_or_default());
            if !is_temporary(status) || Instant::now() + wait > until {
                tracing::warn!(%status, code, "The service at {url} answers {status} ({code})");
                return Err(if is_temporary(status) { Failure::Failing } else { Failure::Refused });
            }
            tracing::debug!(%status, code, "The service at {url} answers {status} ({code}); it is asked again");
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// Sends a request over the connection that is kept, or over a new one.
    async fn send(&self, request: &Request<Full<Bytes>>) -> Result<(Sender, Response<Incoming>), Failure> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            match timeout(HEAD_MAX, sender.send_request(request.clone())).await {
                Ok(Ok(response)) => return Ok((sender, response)),
                // The server has closed it meanwhile.
                Ok(Err(_)) => {}
                Err(_) => return Err(Failure::Failing),
            }
        }
        let dialled = timeout(CONNECT_TIMEOUT, dial(&self.url, &self.tls)).await.map_err(|_| Failure::Unreachable)?;
        let mut sender = dialled.map_err(|error| {
            tracing::warn!("The service at {} cannot be reached: {error}", self.url);
            Failure::Unreachable
        })?;
        match timeout(HEAD_MAX, sender.send_request(request.clone())).await {
            Ok(Ok(response)) => Ok((sender, response)),
            Ok(Err(error)) => {
                tracing::warn!("The service at {} breaks off: {error}", self.url);
                Err(Failure::Unreachable)
            }
            Err(_) => {
                tracing::warn!("The service at {} does not answer within {HEAD_MAX:?}", self.url);
                Err(Failure::Failing)
            }
        }
    }

    fn put_back(&self, sender: Sender) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }
}

impl Reply<'_> {
    /// More of the body; `None` at its end, with which the connection is kept for the next request.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when it breaks off, [`Failure::Failing`] when nothing comes for [`BODY_PAUSE_MAX`].
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match timeout(BODY_PAUSE_MAX, self.body.frame()).await.map_err(|_| Failure::Failing)? {
                None => {
                    if let Some(sender) = self.sender.take() {
                        self.service.put_back(sender);
                    }
                    return Ok(None);
                }
                Some(Err(_)) => return Err(Failure::Unreachable),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// All of the body.
    ///
    /// # Errors
    /// As [`Reply::next`], and [`Failure::Format`] when it is longer.
    pub(super) async fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > bytes_max {
                return Err(Failure::Format);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

/// What may be over in a moment.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED || status == StatusCode::TOO_MANY_REQUESTS
}

/// What an error's body calls it, for the log: never the text, which may repeat what was said.
fn error_code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &body["error"];
    let code = [&error["code"], &error["type"], &body["code"]].into_iter().find_map(|code| match code {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    });
    loggable(code.as_deref().unwrap_or("none"))
}

/// 8 s: a model on a disk is loaded, and the caller is still there.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// 250 ms, doubled up to 1 s.
const RETRY_WAIT: Duration = Duration::from_millis(250);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

/// 20 s to the head of an answer: servers that load a model without a word have taken ten. The caller waits in silence.
const HEAD_MAX: Duration = Duration::from_secs(20);

/// 10 s without a byte: no service pauses so long within an answer.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// 16 KiB of an error, of which one word is logged.
const ERROR_BYTES_MAX: usize = 16 << 10;
