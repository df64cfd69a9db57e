//! The control plane as a whole: opened, composed, and served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::ServiceExt;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::auth::password::{Cost, HashFailed, Passwords};
use crate::auth::token::Tokens;
use crate::clock::Clock;
use crate::dial;
use crate::housekeeping;
use crate::http::make_call::{DialSettings, Dialling};
use crate::http::{self, App, Limits, Settings};
use crate::listen::{self, ACCEPT_PAUSE, Room};
use crate::mail::{Mailer, SmtpUrlError};
use crate::plane::{PipeSource, PipedPlane};
use crate::port::CallPlane;
use crate::recording::{RECORDINGS_DIR, Recordings};
use crate::secret::{SECRET_FILE, Secret};
use crate::store::{self, Store, StoreError};
use crate::webhook::{Dispatcher, Outbound, Poster};

/// What control is set up with.
#[derive(Clone)]
pub struct ControlConfig {
    /// Database, secret, outbox and admin socket live here.
    pub dir: PathBuf,
    /// What the operator has set of the API.
    pub settings: Settings,
    /// What the operator has set of calls that are placed.
    pub dial: DialSettings,
    /// The mail server's URL; without one letters lie in the outbox.
    pub smtp: Option<String>,
    /// What a password's hash costs.
    pub password_cost: Cost,
    /// What links begin with: `http.public_url`, or the address that is listened on.
    pub public_url: String,
    /// Where requests that tenants cause may go.
    pub outbound: Outbound,
    /// How long a webhook's receiver may take to answer. 15 s outside tests.
    pub webhook_answer_max: Duration,
}

/// Control cannot start. The operator's to mend; the program exits 75.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error("cannot use {path} ({source}); make the directory writable or set store.dir")]
    Directory {
        /// Which file or directory.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The database failed at once.
    #[error("the database failed at the start ({0})")]
    Failed(#[from] StoreError),
    /// The mail server's address cannot be used.
    #[error(transparent)]
    Mail(#[from] SmtpUrlError),
    /// Not even one password can be hashed.
    #[error(transparent)]
    Hash(#[from] HashFailed),
}

/// The control plane, open.
pub struct Control {
    app: App,
    admin: UnixListener,
    dir: PathBuf,
    /// For the banner, while the box has no owner.
    pub setup_token: Option<String>,
}

impl Control {
    /// Opens the store and connects to the call plane. Call within a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: ControlConfig, pipe: PipeSource, clock: Clock) -> Result<Self, OpenError> {
        let store = Store::open(&config.dir.join("talkstack.db"))?;
        let plane = Arc::new(PipedPlane::spawn(pipe, store.clone(), clock.clone()));
        Control::with_plane(config, store, plane, clock).await
    }

    /// Composes control from its parts.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn with_plane(
        config: ControlConfig,
        store: Store,
        plane: Arc<dyn CallPlane>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let secret_path = config.dir.join(SECRET_FILE);
        let secret = Secret::open(&secret_path).map_err(|source| OpenError::Directory { path: secret_path, source })?;
        let outbox = config.dir.join("outbox");
        std::fs::create_dir_all(&outbox).map_err(|source| OpenError::Directory { path: outbox.clone(), source })?;
        let setup_token = http::new_setup_token(&store, clock.now_ms()).await?;
        let recordings = Recordings::new(config.dir.join(RECORDINGS_DIR), &config.public_url, secret.clone());
        let app = App {
            tokens: Arc::new(Tokens::new(&secret)),
            passwords: Arc::new(Passwords::new(config.password_cost)?),
            limits: Arc::new(Limits::default()),
            mail_waits: Arc::new(Notify::new()),
            settings: config.settings,
            dialling: Arc::new(Dialling::new(config.dial)),
            recordings,
            store,
            clock,
            secret,
            plane,
        };
        let (plane, order_waits) = (Arc::clone(&app.plane), Arc::clone(&app.dialling.order_waits));
        tokio::spawn(dial::run(app.store.clone(), plane, app.clock.clone(), order_waits));
        let mailer = Mailer::new(outbox, config.smtp.as_deref())?;
        // Before anybody is told that the box runs: a command must not find it missing.
        let path = config.dir.join(ADMIN_SOCKET);
        let admin = bind_owner_only(&path).map_err(|source| OpenError::Directory { path, source })?;
        tokio::spawn(housekeeping::run(app.store.clone(), app.clock.clone(), config.dir.join("outbox")));
        tokio::spawn(mailer.run(app.store.clone(), Arc::clone(&app.mail_waits)));
        let dispatcher = Dispatcher {
            store: app.store.clone(),
            clock: app.clock.clone(),
            secret: app.secret.clone(),
            recordings: app.recordings.clone(),
            poster: Poster::new(config.outbound, config.webhook_answer_max),
            mail_waits: Arc::clone(&app.mail_waits),
        };
        tokio::spawn(dispatcher.run());
        Ok(Control { app, admin, dir: config.dir, setup_token })
    }

    /// Serves the API over TCP and the admin socket until `stop` completes, then lets requests finish for five seconds.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let service = self.service();
        let admin_router = http::with_admin(self.app.clone());
        let admin = tokio::spawn(async move {
            let service = ServiceExt::<Request>::into_make_service_with_connect_info::<AdminPeer>(admin_router);
            if let Err(error) = axum::serve(OwnersOnly(self.admin), service).await {
                tracing::error!("The admin socket has failed ({error})");
            }
        });
        listen::serve(listener, service, Room::default(), stop).await;
        admin.abort();
        // The file of a socket that nobody serves would only puzzle.
        let _ = std::fs::remove_file(self.dir.join(ADMIN_SOCKET));
    }

    /// The public routes.
    pub fn service(&self) -> http::Service {
        http::public(self.app.clone())
    }
}

/// Who is at the other end of the admin socket.
#[derive(Debug, Clone, Copy)]
struct AdminPeer;

impl Connected<IncomingStream<'_, OwnersOnly>> for AdminPeer {
    fn connect_info(_: IncomingStream<'_, OwnersOnly>) -> Self {
        AdminPeer
    }
}

/// Accepts root and our own user, and hangs up on everybody else.
struct OwnersOnly(UnixListener);

impl axum::serve::Listener for OwnersOnly {
    type Io = UnixStream;
    type Addr = ConnectInfo<()>;

    async fn accept(&mut self) -> (UnixStream, ConnectInfo<()>) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("Cannot accept a command ({error})");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own) {
                return (stream, ConnectInfo(()));
            }
            tracing::warn!("Refused another user on the admin socket");
        }
    }

    fn local_addr(&self) -> std::io::Result<ConnectInfo<()>> {
        Ok(ConnectInfo(()))
    }
}

/// Binds a socket that only its owner can open; one that a crash left behind is replaced.
fn bind_owner_only(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Beside the database: where commands reach a daemon that runs.
pub const ADMIN_SOCKET: &str = "admin.sock";
