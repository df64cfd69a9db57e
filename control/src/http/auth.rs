//! Signing up, proving the address, logging in, and staying logged in.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::json;

use super::body::Fields;
use super::error::ApiError;
use super::user::user_json;
use super::{Answer, App, Peer, SignupPolicy};
use crate::clock::iso8601;
use crate::model::{Email, check_password, name};
use crate::secret::{digest, equal, hex, random};
use crate::snapshot;
use crate::store::users::User;
use crate::store::{StoreError, codes, mails, sessions, settings, users};

/// `POST /auth/signup`.
pub(super) async fn signup(State(app): State<App>, peer: Peer, headers: HeaderMap, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    limit_address(&app, peer, now_ms)?;
    let failed = |error: ApiError, status: i64| error.with_number("signupStatus", status);
    let text = |field: &str| fields.required(&[field]).map_err(|error| failed(error, 0));
    let (email, password, given_name) = (text("email")?, text("password")?, text("name")?);
    let email = Email::parse(&email)
        .ok_or_else(|| failed(ApiError::new(400, "invalid_email", "The email address is not valid."), 5))?;
    let given_name = name(&given_name).ok_or_else(|| failed(ApiError::missing("name"), 0))?;
    check_password(&password).map_err(|weak| failed(ApiError::new(400, "weak_password", weak.to_string()), 4))?;
    let gate = Gate {
        policy: app.settings.signup,
        is_near: is_near(peer, &headers),
        setup_token: headers.get("x-setup-token").and_then(|token| token.to_str().ok()).map(digest),
        now_ms,
    };
    // Asked before the costly hash, and again in the transaction.
    app.store.read(move |connection| gate.check(connection).map(drop)).await?;
    app.limits.letters.take(email.as_str(), now_ms)?;
    let password_hash = app.passwords.hash(password).await?;
    let secret = app.secret.clone();
    let user = app
        .store
        .write(move |connection| {
            if gate.check(connection)? == Passed::ByToken {
                // Used once; the next start prints another.
                settings::remove(connection, SETUP_TOKEN)?;
            }
            let user = match users::by_email(connection, email.as_str())? {
                Some(user) if user.verified => return Err(already_exists()),
                Some(user) => {
                    // A pending account proves nothing: whoever signs up last and reads the mail has it.
                    users::replace_pending(connection, &user.id, &given_name, &password_hash, now_ms)?;
                    User { name: given_name, updated_ms: now_ms, ..user }
                }
                None => {
                    let user = new_user(email.as_str(), given_name, password_hash, now_ms);
                    users::insert(connection, &user)?;
                    user
                }
            };
            send_code(connection, &secret, &user, now_ms)?;
            Ok(user)
        })
        .await?;
    app.mail_waits.notify_one();
    Ok(Json(json!({
        "message": "User registered successfully",
        "status": "success",
        "user": user_json(&user),
        "signupStatus": 3,
    })))
}

/// `POST /auth/verify-email`.
pub(super) async fn verify_email(State(app): State<App>, peer: Peer, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    limit_address(&app, peer, now_ms)?;
    let failed = |error: ApiError, status: i64| error.with_number("verificationStatus", status);
    let email = fields.required(&["email"]).map_err(|error| failed(error, 0))?;
    let code = fields.required(&["code"]).map_err(|error| failed(error, 0))?;
    let email = Email::parse(&email)
        .ok_or_else(|| failed(ApiError::new(400, "invalid_email", "The email address is not valid."), 0))?;
    app.limits.by_account.take(&format!("code {}", email.as_str()), now_ms)?;
    let secret = app.secret.clone();
    // The verdict is stored either way: a wrong attempt counts.
    let verdict = app
        .store
        .write(move |connection| {
            same_work(connection, now_ms)?;
            let Some(user) = users::by_email(connection, email.as_str())?.filter(|user| !user.verified) else {
                return Ok::<_, ApiError>(Err(invalid_code()));
            };
            let Some(sent) = codes::find(connection, &user.id)? else { return Ok(Err(invalid_code())) };
            if sent.attempts >= CODE_ATTEMPTS_MAX || now_ms - sent.sent_ms > CODE_LIFE_MS {
                return Ok(Err(code_is_used_up()));
            }
            if !equal(&sent.mac, &secret.mac("code", format!("{}:{code}", user.id).as_bytes())) {
                codes::count_attempt(connection, &user.id)?;
                return Ok(Err(if sent.attempts + 1 >= CODE_ATTEMPTS_MAX {
                    code_is_used_up()
                } else {
                    invalid_code()
                }));
            }
            codes::remove(connection, &user.id)?;
            users::verify(connection, &user.id, now_ms)?;
            settings::remove(connection, SETUP_TOKEN)?;
            snapshot::bump(connection)?;
            Ok(Ok(User { verified: true, updated_ms: now_ms, ..user }))
        })
        .await??;
    app.publish().await?;
    Ok(Json(json!({
        "message": "email verification successful.",
        "status": "success",
        "userData": user_json(&verdict),
        "verificationStatus": 2,
    })))
}

/// `POST /auth/resend-code`: the same answer whether the address waits for a code or not.
pub(super) async fn resend_code(State(app): State<App>, peer: Peer, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    limit_address(&app, peer, now_ms)?;
    let email = fields.required(&["email"])?;
    let email =
        Email::parse(&email).ok_or_else(|| ApiError::new(400, "invalid_email", "The email address is not valid."))?;
    app.limits.letters.take(email.as_str(), now_ms)?;
    let secret = app.secret.clone();
    app.store
        .write(move |connection| {
            same_work(connection, now_ms)?;
            if let Some(user) = users::by_email(connection, email.as_str())?.filter(|user| !user.verified) {
                let last = codes::find(connection, &user.id)?.map(|code| code.sent_ms);
                if last.is_none_or(|sent_ms| now_ms - sent_ms >= CODE_COOL_DOWN_MS) {
                    send_code(connection, &secret, &user, now_ms)?;
                }
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    app.mail_waits.notify_one();
    Ok(Json(json!({ "message": "successfully sent verification code to mail", "status": "success" })))
}

/// `POST /auth/login`: one answer for an unknown account and a wrong password, after the same work.
pub(super) async fn login(State(app): State<App>, peer: Peer, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    limit_address(&app, peer, now_ms)?;
    let failed = |error: ApiError, status: i64| error.with_number("loginStatus", status);
    let email = fields.required(&["email"]).map_err(|error| failed(error, 0))?;
    let password = fields.required(&["password"]).map_err(|error| failed(error, 0))?;
    let email = Email::parse(&email)
        .ok_or_else(|| failed(ApiError::new(400, "invalid_email", "The email address is not valid."), 9))?;
    let place = format!("login {} {}", email.as_str(), address_key(peer).unwrap_or_default());
    app.limits.by_account.take(&place, now_ms)?;
    if !app.limits.known.contains(&place) {
        app.limits.by_strangers.take(email.as_str(), now_ms)?;
    }
    let user =
        app.store.read(move |connection| users::by_email(connection, email.as_str()).map_err(StoreError::from)).await?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let is_right = app.passwords.verify(password, hash).await?;
    let Some(user) = user.filter(|_| is_right) else {
        return Err(failed(ApiError::new(401, "invalid_credentials", "Email or password is wrong."), 4));
    };
    if !user.verified {
        let message = "The email address has not been verified yet.";
        return Err(failed(ApiError::new(401, "account_not_verified", message), 2));
    }
    app.limits.known.remember(&place);
    let (session_id, refresh) = (uuid::Uuid::new_v4().to_string(), hex(&random::<32>()));
    let (token, end_ms) = app.tokens.sign(&user.id, &session_id, now_ms)?;
    let (user_id, refresh_digest) = (user.id.clone(), digest(&refresh));
    app.store
        .write(move |connection| {
            sessions::begin(connection, &session_id, &user_id, now_ms + SESSION_LIFE_MS, &refresh_digest)
                .map_err(ApiError::from)
        })
        .await?;
    Ok(Json(json!({
        "message": "successfully logged in.",
        "status": "success",
        "token": token,
        "refreshToken": refresh,
        "resfreshToken": refresh,
        "expirationTime": iso8601(end_ms),
        "user": user_json(&user),
        "loginStatus": 7,
    })))
}

/// `POST /auth/refresh-token`: rotates; a token used again after its grace ends the whole family.
pub(super) async fn refresh_token(State(app): State<App>, peer: Peer, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    limit_address(&app, peer, now_ms)?;
    let given = fields.required(&["refreshToken", "resfreshToken"])?;
    // The next token follows from this one, so that parallel uses within the grace get the same.
    let next = hex(&app.secret.mac("refresh-successor", given.as_bytes()));
    let (given, next_digest) = (digest(&given), digest(&next));
    let verdict = app
        .store
        .write(move |connection| {
            let Some(found) = sessions::find(connection, &given)? else { return Ok::<_, ApiError>(None) };
            if found.revoked || found.expires_ms <= now_ms {
                return Ok(None);
            }
            if found.replaced_ms.is_some_and(|replaced_ms| now_ms - replaced_ms > REFRESH_GRACE_MS) {
                tracing::warn!("A refresh token was used again; its session is ended");
                sessions::revoke(connection, &found.session_id)?;
                return Ok(None);
            }
            sessions::replace(connection, &given, now_ms, now_ms + SESSION_LIFE_MS)?;
            sessions::add_token(connection, &found.session_id, &next_digest)?;
            Ok(Some(found))
        })
        .await?;
    let Some(session) = verdict else {
        return Err(ApiError::new(401, "invalid_refresh_token", "The refresh token is invalid or has expired."));
    };
    let (token, end_ms) = app.tokens.sign(&session.user_id, &session.session_id, now_ms)?;
    Ok(Json(json!({
        "message": "successfully refreshed token.",
        "status": "success",
        "token": token,
        "refreshToken": next,
        "resfreshToken": next,
        "expirationTime": iso8601(end_ms),
    })))
}

/// Adds a verified account without a mail, for whoever is on the box itself.
pub(super) async fn add_verified(
    app: &App,
    email: Email,
    given_name: String,
    password: String,
) -> Result<User, ApiError> {
    let now_ms = app.clock.now_ms();
    let password_hash = app.passwords.hash(password).await?;
    app.store
        .write(move |connection| {
            if users::owner(connection)?.is_some() {
                return Err(ApiError::new(400, "already_set_up", "The box has an owner already."));
            }
            let user = match users::by_email(connection, email.as_str())? {
                Some(user) => {
                    users::replace_pending(connection, &user.id, &given_name, &password_hash, now_ms)?;
                    user
                }
                None => {
                    let user = new_user(email.as_str(), given_name, password_hash, now_ms);
                    users::insert(connection, &user)?;
                    user
                }
            };
            codes::remove(connection, &user.id)?;
            users::verify(connection, &user.id, now_ms)?;
            settings::remove(connection, SETUP_TOKEN)?;
            snapshot::bump(connection)?;
            Ok(user)
        })
        .await
}

/// Makes the setup token of this start, unless the box has an owner.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn new_setup_token(store: &crate::store::Store, now_ms: i64) -> Result<Option<String>, StoreError> {
    let token = hex(&random::<16>());
    let value = format!("{} {}", hex(&digest(&token)), now_ms + SETUP_TOKEN_LIFE_MS);
    store
        .write(move |connection| {
            if users::owner(connection)?.is_some() {
                return Ok(None);
            }
            settings::put(connection, SETUP_TOKEN, &value)?;
            Ok(Some(token))
        })
        .await
}

/// Who may sign up now.
#[derive(Clone, Copy)]
struct Gate {
    policy: SignupPolicy,
    is_near: bool,
    setup_token: Option<[u8; 32]>,
    now_ms: i64,
}

/// By what right somebody may sign up.
#[derive(PartialEq, Eq)]
enum Passed {
    Freely,
    ByToken,
}

impl Gate {
    fn check(&self, connection: &rusqlite::Connection) -> Result<Passed, ApiError> {
        let closed = ApiError::new(400, "signup_closed", "This box takes no further accounts.");
        let closed = closed.with_number("signupStatus", 4);
        let has_owner = users::owner(connection)?.is_some();
        match self.policy {
            SignupPolicy::Closed => return Err(closed),
            SignupPolicy::First if has_owner => return Err(closed),
            SignupPolicy::First | SignupPolicy::Open => {}
        }
        if has_owner || self.is_near {
            return Ok(Passed::Freely);
        }
        let kept = settings::find(connection, SETUP_TOKEN)?;
        let kept = kept.as_deref().and_then(|kept| kept.split_once(' '));
        let is_right = match (kept, self.setup_token) {
            (Some((kept, until)), Some(given)) => {
                equal(kept.as_bytes(), hex(&given).as_bytes())
                    && until.parse().is_ok_and(|until: i64| self.now_ms < until)
            }
            _ => false,
        };
        if !is_right {
            let message =
                "The first account needs the setup token that the box printed at its start, as x-setup-token.";
            return Err(ApiError::new(400, "setup_token_required", message).with_number("signupStatus", 4));
        }
        Ok(Passed::ByToken)
    }
}

fn limit_address(app: &App, peer: Peer, now_ms: i64) -> Result<(), ApiError> {
    match address_key(peer) {
        Some(key) => Ok(app.limits.by_address.take(&key, now_ms)?),
        None => Ok(()),
    }
}

/// Whose tries count together. A subscriber has a /64 of IPv6 addresses at least (RFC 6177).
fn address_key(peer: Peer) -> Option<String> {
    match peer.0? {
        IpAddr::V4(ip) => Some(ip.to_string()),
        IpAddr::V6(ip) => Some(format!("{:x}/64", ip.to_bits() >> 64)),
    }
}

/// From the box itself, and for nobody else: behind a proxy or a web page there may be anybody.
fn is_near(peer: Peer, headers: &HeaderMap) -> bool {
    let speaks_for_another =
        ["forwarded", "x-forwarded-for", "x-real-ip", "via", "origin"].iter().any(|name| headers.contains_key(*name));
    peer.0.is_none_or(|ip| ip.is_loopback()) && !speaks_for_another
}

/// Something is written whether the address is known or not: the fsync must not tell.
fn same_work(connection: &rusqlite::Connection, now_ms: i64) -> rusqlite::Result<()> {
    settings::put(connection, "last_code_request", &now_ms.to_string())
}

fn new_user(email: &str, name: String, password_hash: String, now_ms: i64) -> User {
    User {
        id: uuid::Uuid::new_v4().to_string(),
        email: email.to_owned(),
        name,
        password_hash,
        verified: false,
        is_owner: false,
        active_project: None,
        company_name: None,
        created_ms: now_ms,
        updated_ms: now_ms,
    }
}

/// Replaces the account's code and queues the letter that carries it.
fn send_code(
    connection: &rusqlite::Connection,
    secret: &crate::secret::Secret,
    user: &User,
    now_ms: i64,
) -> rusqlite::Result<()> {
    // 64 random bits over a million codes: no code is measurably likelier than another.
    let code = format!("{:06}", u64::from_ne_bytes(random()) % 1_000_000);
    codes::put(connection, &user.id, &secret.mac("code", format!("{}:{code}", user.id).as_bytes()), now_ms)?;
    let body = format!(
        "Your verification code is {code}.\n\nIt is valid for 15 minutes. If you did not sign up, ignore this letter.\n"
    );
    mails::insert(connection, &user.email, "Your Talkstack verification code", &body, now_ms)
}

fn already_exists() -> ApiError {
    ApiError::new(400, "account_already_exists", "An account with this email address exists.")
        .with_number("signupStatus", 1)
}

fn invalid_code() -> ApiError {
    ApiError::new(400, "invalid_code", "The code is wrong.").with_number("verificationStatus", 1)
}

fn code_is_used_up() -> ApiError {
    ApiError::new(400, "code_expired", "The code has expired or was tried too often; ask for another.")
        .with_number("verificationStatus", 3)
}

/// The key in `settings`: digest and end.
const SETUP_TOKEN: &str = "setup_token";

/// 24 hours.
const SETUP_TOKEN_LIFE_MS: i64 = 24 * 3_600_000;

/// 15 minutes.
const CODE_LIFE_MS: i64 = 15 * 60_000;

/// Five tries at a million codes.
const CODE_ATTEMPTS_MAX: i64 = 5;

/// 30 s between two letters to one address.
const CODE_COOL_DOWN_MS: i64 = 30_000;

/// 30 days, sliding.
const SESSION_LIFE_MS: i64 = 30 * 24 * 3_600_000;

/// 60 s: a client that lost the answer may ask again.
const REFRESH_GRACE_MS: i64 = 60_000;
