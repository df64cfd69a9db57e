//! Who is asking: a bearer token or an API key. A bearer token that is there and wrong is not made good by a key.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::App;
use super::error::ApiError;
use crate::secret::digest;
use crate::store::users::User;
use crate::store::{StoreError, sessions, users};

/// The account behind a request, by either credential.
pub struct Principal(pub User);

/// The account behind a request, by bearer token only.
pub struct BearerPrincipal(pub User);

impl FromRequestParts<App> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if parts.headers.contains_key("authorization") {
            return by_bearer(&parts.headers, app).await.map(Principal);
        }
        let key = parts.headers.get("x-api-key").and_then(|key| key.to_str().ok());
        let key = key.filter(|key| key.len() == 64).ok_or_else(ApiError::unauthorized)?.to_owned();
        let user =
            app.store.read(move |connection| users::by_api_key(connection, &digest(&key)).map_err(StoreError::from));
        user.await?.map(Principal).ok_or_else(ApiError::unauthorized)
    }
}

impl FromRequestParts<App> for BearerPrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        by_bearer(&parts.headers, app).await.map(BearerPrincipal)
    }
}

async fn by_bearer(headers: &HeaderMap, app: &App) -> Result<User, ApiError> {
    let value = headers.get("authorization").and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or_else(ApiError::unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::unauthorized());
    }
    let now_ms = app.clock.now_ms();
    let claims = app.tokens.check(token.trim(), now_ms)?;
    let user = app.store.read(move |connection| {
        let alive = sessions::is_alive(connection, &claims.sid, &claims.sub, now_ms)?;
        let user = users::by_id(connection, &claims.sub)?;
        Ok::<_, StoreError>(user.filter(|user| alive && user.verified))
    });
    user.await?.ok_or_else(ApiError::unauthorized)
}
