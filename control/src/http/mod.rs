//! The HTTP surface: one file a resource, one envelope for errors, one table of what Talkstack prints.

mod admin;
mod agent;
mod agent_tools;
mod auth;
pub mod body;
mod call;
mod do_not_call;
mod emergency;
pub mod error;
mod extension;
mod health;
mod live_call;
pub mod make_call;
mod message;
mod native;
mod numbering_fields;
mod phone_number;
pub mod principal;
mod project;
mod provider;
mod range;
mod recording;
mod refusal;
mod route;
mod route_fields;
mod trunk;
mod trunk_fields;
mod trunk_media;
mod twilio;
mod user;
mod voice;
mod webhook;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use serde_json::Value;
use tokio::sync::Notify;
use tower::Layer;
use tower::util::{MapRequest, MapRequestLayer};

use crate::auth::limiter::{Known, Limiter};
use crate::auth::password::Passwords;
use crate::auth::token::Tokens;
use crate::clock::Clock;
use crate::port::CallPlane;
use crate::recording::Recordings;
use crate::secret::Secret;
use crate::store::{Store, StoreError};
use error::ApiError;
use make_call::Dialling;

pub(crate) use auth::new_setup_token;

/// What every handler shares.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// The box's secret.
    pub secret: Secret,
    /// Access tokens.
    pub tokens: Arc<Tokens>,
    /// Passwords.
    pub passwords: Arc<Passwords>,
    /// Tries by address and by account.
    pub limits: Arc<Limits>,
    /// Who carries the calls.
    pub plane: Arc<dyn CallPlane>,
    /// What the operator has set.
    pub settings: Settings,
    /// Calls that are placed.
    pub dialling: Arc<Dialling>,
    /// A letter was queued.
    pub mail_waits: Arc<Notify>,
    /// Files of calls, and links to them.
    pub recordings: Recordings,
}

/// What the operator has set of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Who may sign up.
    pub signup: SignupPolicy,
    /// Answer with the documentation's misprints, for conformance replay.
    pub literal_typos: bool,
}

/// Who may sign up (`auth.signup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignupPolicy {
    /// Until the box has an owner.
    First,
    /// Everybody.
    Open,
    /// Nobody.
    Closed,
}

/// How often one may try what is guarded.
pub struct Limits {
    /// Unauthenticated tries by address.
    pub by_address: Limiter,
    /// Code tries by account, and password tries by account and address.
    pub by_account: Limiter,
    /// Password tries by account, from addresses where nobody has logged in to it.
    pub by_strangers: Limiter,
    /// Accounts with the addresses where somebody has logged in to them.
    pub known: Known,
    /// Letters by the address they go to, whether it has an account or not.
    pub letters: Limiter,
}

impl Default for Limits {
    /// 60 at once and 60 a minute by address; 10 at once and 6 a minute by account; strangers 100 at once (NIST
    /// 800-63B-4 §3.2.2) and 6 a minute; 5 letters at once and one a minute.
    fn default() -> Self {
        Limits {
            by_address: Limiter::new(60, 60),
            by_account: Limiter::new(10, 6),
            by_strangers: Limiter::new(100, 6),
            known: Known::default(),
            letters: Limiter::new(5, 1),
        }
    }
}

/// The peer's address; requests over the admin socket have none.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<IpAddr>);

impl App {
    /// Sends the routing configuration as it stands to the call plane, and waits until the next call goes by it.
    pub(crate) async fn publish(&self) -> Result<(), StoreError> {
        let snapshot = self.store.read(crate::snapshot::build).await?;
        let revision = snapshot.revision;
        self.plane.apply(snapshot);
        self.plane.applied(revision).await;
        Ok(())
    }
}

/// The Talkstack surface.
pub fn public(app: App) -> Service {
    finish(talkstack_routes().merge(native_routes()), app)
}

/// The same and the owner's own routes, for the admin socket.
pub fn with_admin(app: App) -> Service {
    let routes = native_routes()
        .layer(axum::Extension(native::OverAdminSocket))
        .merge(talkstack_routes())
        .route("/admin/mails", get(admin::mails))
        .route("/admin/mails/{id}", get(admin::mail))
        .route("/admin/calls", get(admin::calls))
        .route("/admin/calls/{id}", get(admin::call))
        .route("/admin/setup", post(admin::setup));
    finish(routes, app)
}

/// A router behind the layer that reads the path before it does.
pub type Service = MapRequest<Router, fn(Request) -> Request>;

fn talkstack_routes() -> Router<App> {
    Router::new()
        .route("/auth/signup", post(auth::signup))
        .route("/auth/verify-email", post(auth::verify_email))
        .route("/auth/resend-code", post(auth::resend_code))
        .route("/auth/login", post(auth::login))
        .route("/auth/refresh-token", post(auth::refresh_token))
        .route("/user/generate-apikey", get(user::generate_api_key).post(user::generate_api_key))
        .route("/project/create-project", post(project::create))
        .route("/project", get(project::list))
        .route("/projects", get(project::list))
        .route("/project/list", get(project::list))
        .route("/project/get-projects", get(project::list))
        .route("/project/active-agent", patch(project::set_active_agent))
        .route("/project/call-status/add-webhookurl", post(webhook::add))
        .route("/project/{projectId}", get(project::find))
        .route("/agent/create-agent", post(agent::create))
        .route("/agent", post(agent::find).put(agent::update))
        .route("/agent/{projectId}", get(agent::list))
        .route("/phone-number/add-number", post(phone_number::assign))
        .route("/voices", get(voice::list))
        .route("/voices/{voice_id}", get(voice::find))
        .route("/voices/previews/{provider}/{voice}", get(voice::preview))
        .route("/call/makeCall", post(make_call::make_call))
        .route("/call/make-call", post(make_call::make_call))
        .route("/call", post(call::find))
        .route("/call/get-call-history", post(call::history))
        .route("/recordings/{file}", get(recording::fetch))
        .route("/2010-04-01/Accounts/{account}/Calls/{sid}", get(twilio::find).post(twilio::update))
        .route("/healthz", get(health::healthz))
        .route("/livez", get(health::healthz))
        .route("/readyz", get(health::readyz))
}

fn native_routes() -> Router<App> {
    Router::new()
        .route("/api/v1/trunks", get(trunk::list).post(trunk::create))
        .route("/api/v1/trunks/{id}", get(trunk::find).patch(trunk::update).delete(trunk::remove))
        .route("/api/v1/trunks/{id}/test", post(trunk::test))
        .route("/api/v1/extensions", get(extension::list).post(extension::create))
        .route("/api/v1/extensions/{user}", get(extension::find).patch(extension::update).delete(extension::remove))
        .route("/api/v1/routes", get(route::list).post(route::create))
        .route("/api/v1/routes/order", put(route::order))
        .route("/api/v1/routes/simulate", post(route::simulate))
        .route("/api/v1/routes/{id}", get(route::find).patch(route::update).delete(route::remove))
        .route("/api/v1/sip-refusals", get(refusal::list))
        .route("/api/v1/emergency", get(emergency::show))
        .route("/api/v1/calls/{id}/recording", post(live_call::recording))
        .route("/api/v1/calls/{id}/transfer", post(live_call::transfer))
        .route("/api/v1/calls/{id}/hangup", post(live_call::hang_up))
        .route("/api/v1/calls/{id}/digits", post(live_call::digits))
        .route("/api/v1/messages", get(message::list))
        .route("/api/v1/messages/{id}", patch(message::update).delete(message::remove))
        .route("/api/v1/do-not-call", get(do_not_call::list).post(do_not_call::add))
        .route("/api/v1/do-not-call/{number}", delete(do_not_call::remove))
        .route("/api/v1/providers", get(provider::list).post(provider::create))
        .route("/api/v1/providers/{id}/test", post(provider::test))
        .route("/api/v1/providers/{id}", get(provider::find).patch(provider::update).delete(provider::remove))
}

fn finish(routes: Router<App>, app: App) -> Service {
    let router = routes
        .fallback(|| async { ApiError::new(404, "no_such_path", "No such path.") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(405, "method_not_allowed", "The path does not serve this method.")
        })
        .layer(from_fn(identify))
        .with_state(app);
    let layer: MapRequestLayer<fn(Request) -> Request> = MapRequestLayer::new(trim_slash);
    layer.layer(router)
}

/// Gives each request an id and renders errors with it.
async fn identify(request: Request, next: Next) -> Response {
    let request_id = uuid::Uuid::new_v4().to_string();
    let path = request.uri().path().to_owned();
    // In a task of its own: a client that hangs up leaves nothing half done, and a panic is one answer.
    let response = tokio::spawn(next.run(request)).await;
    let response = response.unwrap_or_else(|_| ApiError::internal().into_response());
    let is_plain =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let mut response = match response.extensions().get::<ApiError>() {
        Some(error) => error.render(&path, &request_id),
        // What the router itself refuses, such as a path that is no UTF-8.
        None if response.status().is_client_error() && is_plain => {
            let refused = ApiError::new(response.status().as_u16(), "bad_request", "The request cannot be read.");
            refused.render(&path, &request_id)
        }
        None => response,
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Takes one slash off the end of the path.
fn trim_slash(mut request: Request) -> Request {
    let uri = request.uri();
    let path = uri.path();
    if path.len() > 1 && path.ends_with('/') {
        let trimmed = &path[..path.len() - 1];
        let text = uri.query().map_or_else(|| trimmed.to_owned(), |query| format!("{trimmed}?{query}"));
        if let Ok(uri) = text.parse() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The peer of a request over TCP.
impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>();
        Ok(Peer(peer.map(|ConnectInfo(address)| address.ip().to_canonical())))
    }
}

/// A success.
type Answer = Result<axum::Json<Value>, ApiError>;

/// The documentation's misprints (settlement of section 12): what is printed, behind one switch.
fn status_word(app: &App, endpoint: &str) -> &'static str {
    let printed = LITERAL_TYPOS.iter().find(|(name, _)| *name == endpoint);
    match printed {
        Some((_, word)) if app.settings.literal_typos => word,
        _ => "success",
    }
}

/// Endpoint, and the `status` that its page prints.
const LITERAL_TYPOS: [(&str, &str); 1] = [("GET /project/:projectId", "succcess")];
