//! The account itself.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::error::ApiError;
use super::principal::BearerPrincipal;
use super::{Answer, App};
use crate::clock::iso8601;
use crate::secret::{digest, hex, random};
use crate::store::users::User;
use crate::store::{mails, users};

/// `GET` and `POST /user/generate-apikey`: makes the account's only key and forgets the one before.
pub(super) async fn generate_api_key(
    State(app): State<App>,
    BearerPrincipal(user): BearerPrincipal,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    let is_prefetch = ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        let value = headers.get(*name).map(|value| value.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        [&b"prefetch"[..], b"preview"].iter().any(|word| value.windows(word.len()).any(|part| part == *word))
    });
    if is_prefetch || method == Method::HEAD {
        return Err(ApiError::new(400, "not_on_prefetch", "A key is only made on a request that means it."));
    }
    let now_ms = app.clock.now_ms();
    let key = hex(&random::<32>());
    let key_digest = digest(&key);
    app.store
        .write(move |connection| {
            users::put_api_key(connection, &user.id, &key_digest, now_ms)?;
            let body = "An API key was made for your account. The one before, if any, no longer works.\n\n\
                If this was not you, change your password.\n";
            mails::insert(connection, &user.email, "A Talkstack API key was made", body, now_ms)?;
            Ok::<_, ApiError>(())
        })
        .await?;
    app.mail_waits.notify_one();
    Ok(Json(json!({
        "message": "API key successfully generated and updated.",
        "status": "success",
        "apiKey": key,
    })))
}

/// An account as every endpoint shows it.
pub(super) fn user_json(user: &User) -> Value {
    json!({
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "verified": user.verified,
        "active_project": user.active_project,
        "company_name": user.company_name,
        "created_at": iso8601(user.created_ms),
        "updated_at": iso8601(user.updated_ms),
    })
}
