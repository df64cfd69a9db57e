//! One envelope for everything that is not a success.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::auth::limiter::TooMany;
use crate::auth::password::HashFailed;
use crate::auth::token::InvalidToken;
use crate::store::StoreError;

/// An answer other than 200: what a client may know, and nothing of the inside.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// A documented number beside the envelope: `signupStatus` and its kin.
    number: Option<(&'static str, i64)>,
    retry_after_s: Option<u64>,
    challenges: bool,
}

impl ApiError {
    /// An error of the client's.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            message: message.into(),
            number: None,
            retry_after_s: None,
            challenges: false,
        }
    }

    /// 400: a field is absent or of the wrong type.
    pub fn missing(fields: &str) -> Self {
        ApiError::new(400, "missing_field", format!("{fields} is missing or has the wrong type."))
    }

    /// 500: a mistake of ours; the log has it.
    pub fn internal() -> Self {
        ApiError::new(500, "internal", "Something went wrong inside the box.")
    }

    /// 401: no valid credential.
    pub fn unauthorized() -> Self {
        let message = "A valid Authorization bearer token or x-api-key header is needed.";
        ApiError { challenges: true, ..ApiError::new(401, "unauthorized", message) }
    }

    /// 404: no such project.
    pub fn no_such_project() -> Self {
        ApiError::new(404, "no_such_project", "No such project.")
    }

    /// 404: no such agent.
    pub fn no_such_agent() -> Self {
        ApiError::new(404, "no_such_agent", "No such agent.")
    }

    /// 404: no such provider.
    pub fn no_such_provider() -> Self {
        ApiError::new(404, "no_such_provider", "No such provider.")
    }

    /// 400: the agent exists, but not in the project that the request names.
    pub fn agent_of_another_project() -> Self {
        ApiError::new(400, "agent_of_another_project", "The agent belongs to another project.")
    }

    /// The same with another status: some pages document 400 for what is 404 elsewhere.
    pub fn with_status(self, status: u16) -> Self {
        ApiError { status: StatusCode::from_u16(status).unwrap_or(self.status), ..self }
    }

    /// The same with a documented number.
    pub fn with_number(self, name: &'static str, number: i64) -> Self {
        ApiError { number: Some((name, number)), ..self }
    }

    /// The same with the time to wait in seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        ApiError { retry_after_s: Some(seconds), ..self }
    }

    /// The envelope of the surface that was asked, once the request's id is known.
    pub fn render(&self, path: &str, request_id: &str) -> Response {
        let mut response =
            if path.starts_with(NATIVE) { self.problem(path, request_id) } else { self.envelope(request_id) };
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.challenges {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
        response
    }

    /// RFC 9457; `about:blank` says that the title is the status's own (§4.2.1).
    fn problem(&self, path: &str, request_id: &str) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.message,
            "instance": path,
            "code": self.code,
            "requestId": request_id,
        });
        let mut response = (self.status, axum::Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }

    /// What Talkstack's clients read.
    fn envelope(&self, request_id: &str) -> Response {
        let mut body = Map::new();
        body.insert("message".into(), Value::from(self.message.as_str()));
        body.insert("status".into(), Value::from("error"));
        body.insert("code".into(), Value::from(self.code));
        body.insert("requestId".into(), Value::from(request_id));
        if let Some((name, number)) = self.number {
            body.insert(name.into(), json!(number));
        }
        (self.status, axum::Json(Value::Object(body))).into_response()
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error for the outermost layer, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => ApiError {
                retry_after_s: Some(1),
                ..ApiError::new(503, "busy", "The box is busy; try again in a moment.")
            },
            StoreError::Disk => {
                let message = "The box cannot store anything at the moment; its disk may be full.";
                ApiError { retry_after_s: Some(5), ..ApiError::new(503, "storage_unavailable", message) }
            }
            error => {
                tracing::error!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
                ApiError::internal()
            }
        }
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<HashFailed> for ApiError {
    fn from(error: HashFailed) -> Self {
        match error {
            HashFailed::Busy => StoreError::Busy.into(),
            HashFailed::Failed => {
                tracing::error!("{error}");
                ApiError::internal()
            }
        }
    }
}

impl From<InvalidToken> for ApiError {
    fn from(_: InvalidToken) -> Self {
        ApiError::unauthorized()
    }
}

impl From<TooMany> for ApiError {
    fn from(error: TooMany) -> Self {
        let message = format!("Too many tries; wait {} s.", error.retry_after_s);
        ApiError { retry_after_s: Some(error.retry_after_s), ..ApiError::new(429, "too_many_requests", message) }
    }
}

/// Where the native surface begins.
const NATIVE: &str = "/api/v1";
