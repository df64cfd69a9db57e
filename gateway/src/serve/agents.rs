//! What calls need from outside for their agents: connections to them, and web services asked for them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use talkstack_control::port::{CallId, Sealed};
use talkstack_control::secret::{PROVIDER_KEY_PURPOSE, Secret, TOOL_HEADER_PURPOSE, UnsealError};
use talkstack_control::webhook::{Fetch, HookUrl, Outbound, PostError, Poster};
use tokio::sync::Semaphore;

use crate::agent::http_tool::{Prepared, answer};
use crate::io::cascade::{self, Greetings, ServiceKeys, ServiceTarget};
use crate::io::connect::{
    AgentTarget, AgentUrl, ConnectError, Connected, Credentials, Places, SessionLimit, WebSocketTarget, client_config,
    connect, dial,
};
use crate::random::Random;

/// What it takes to reach an agent, and what an agent wants to reach.
#[derive(Clone)]
pub(super) struct Agents {
    pub(super) runtime: tokio::runtime::Handle,
    secret: Secret,
    tls: Arc<ClientConfig>,
    /// Set once it is known where the box itself listens.
    poster: Arc<OnceLock<Poster>>,
    fetches: Arc<Semaphore>,
    greetings: Greetings,
    places: Places,
}

impl Agents {
    /// Call within the runtime that is to make the connections.
    ///
    /// # Errors
    /// [`rustls::Error`] without TLS.
    pub(super) fn new(secret: Secret) -> Result<Self, rustls::Error> {
        Ok(Agents {
            runtime: tokio::runtime::Handle::current(),
            secret,
            tls: client_config()?,
            poster: Arc::default(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            greetings: Greetings::default(),
            places: Places::default(),
        })
    }

    /// Has web services asked from here on, where `outbound` allows.
    pub(super) fn open_outside(&self, outbound: Outbound) {
        // Each request has its own time limit.
        let _ = self.poster.set(Poster::new(outbound, Duration::from_secs(u8::MAX.into())));
    }

    /// Connects to an agent, if its provider may have one more session; where it is, if it cannot be reached.
    pub(super) async fn connect(
        &self,
        target: AgentTarget,
        limit: Option<SessionLimit>,
    ) -> Result<Connected, (AgentUrl, NotConnected)> {
        let place = limit.map(|limit| self.places.take(&limit));
        let is_full = matches!(place, Some(None));
        if is_full {
            return Err((target.url().clone(), NotConnected::Full));
        }
        let connected = self.connect_to(target).await?;
        Ok(Connected { place: place.flatten(), ..connected })
    }

    async fn connect_to(&self, target: AgentTarget) -> Result<Connected, (AgentUrl, NotConnected)> {
        match target {
            AgentTarget::WebSocket(WebSocketTarget { url, api_key, key_place: place, ask, protocol }) => {
                let connected = async {
                    let key = self.key(api_key.as_ref())?;
                    let credentials = Credentials { key, place, protocol, tls: Arc::clone(&self.tls) };
                    Ok(connect(&url, ask.as_ref(), credentials, Random::default().u128()).await?)
                };
                connected.await.map_err(|error| (url, error))
            }
            AgentTarget::Port(url) => dial(&url).await.map_err(|error| (url, error.into())),
            AgentTarget::Cascade(target) => {
                let connected = async {
                    let key = |service: &ServiceTarget| self.key(service.api_key.as_ref());
                    let keys = ServiceKeys {
                        listen: key(&target.listen)?,
                        think: key(&target.think)?,
                        speak: key(&target.speak)?,
                    };
                    Ok(cascade::open(&target, keys, &self.tls, &self.greetings).await?)
                };
                connected.await.map_err(|error| (target.think.url.clone(), error))
            }
        }
    }

    fn key(&self, sealed: Option<&Sealed>) -> Result<Option<String>, NotConnected> {
        Ok(sealed.map(|sealed| self.secret.unseal(PROVIDER_KEY_PURPOSE, sealed)).transpose()?)
    }

    /// Asks a web service.
    ///
    /// # Errors
    /// Why there is nothing to be told, in words for the model.
    pub(super) async fn fetch(&self, id: CallId, prepared: Prepared) -> Result<String, String> {
        let busy = || "The box is busy; try again in a moment.".to_owned();
        let (Ok(_place), Some(poster)) = (self.fetches.try_acquire(), self.poster.get()) else { return Err(busy()) };
        let url = HookUrl::parse(&prepared.url).map_err(|_| "An argument does not fit into the address.".to_owned())?;
        let mut headers = prepared.headers;
        for (name, sealed) in &prepared.secret_headers {
            let value = self.secret.unseal(TOOL_HEADER_PURPOSE, sealed).map_err(|error| {
                tracing::warn!(call = %id, "{error}: the secret header {name} of a function is to be set again");
                "The function is not set up.".to_owned()
            })?;
            headers.push((name.clone(), value));
        }
        let within = Duration::from_secs(prepared.timeout_s.into());
        let fetch = Fetch { method: prepared.method, headers, body: prepared.body, within };
        match poster.fetch(&url, fetch).await {
            Ok(fetched) => answer(fetched.status, &fetched.body),
            Err(error) => {
                tracing::warn!(call = %id, "A function's service has not answered: {error}");
                Err(match error {
                    PostError::TimedOut(_) => "The service has not answered in time.".to_owned(),
                    _ => "The service cannot be reached.".to_owned(),
                })
            }
        }
    }
}

/// An agent was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotConnected {
    /// Its key cannot be opened: it was sealed with another secret. Set it again.
    #[error("{0}")]
    Key(#[from] UnsealError),
    /// Its owner lets it have no more (`max_sessions`).
    #[error("its provider has as many sessions as it may have (max_sessions)")]
    Full,
    /// Its side's doing.
    #[error("{0}")]
    Connection(#[from] ConnectError),
}

/// 256 requests at once, of 16 KiB each way: one of each of 256 calls.
const FETCHES_MAX: usize = 256;
