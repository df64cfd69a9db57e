//! The daemon: composes the halves, says where it listens, and stops when told.
//!
//! ```text
//!   serve   = calls ══ in-memory pair ══ control
//!   calls   = shards, SIP, journal ══ <store.dir>/calls.sock
//!   control = API, store           ══ <store.dir>/calls.sock
//! ```

mod agents;
mod auditions;
mod calls;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use talkstack_control::auth::password::Cost;
use talkstack_control::clock::Clock;
use talkstack_control::gate::DialPolicy;
use talkstack_control::http::make_call::DialSettings;
use talkstack_control::http::{Settings, SignupPolicy};
use talkstack_control::plane::PipeSource;
use talkstack_control::server::{Control, ControlConfig, OpenError as ControlOpenError};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::io::asterisk::AsteriskAddress;
use crate::io::sip::SecuredAddress;
pub use auditions::Auditions;
pub use calls::{Calls, SipBound, StartError};

use crate::config::{Config, Signup};
use crate::priority;

/// The daemon cannot start or go on. The operator's to mend; the program exits 75.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The directory cannot be made or written.
    #[error("cannot use the directory {path} ({source}); make it writable or set store.dir")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// Another daemon has the directory.
    #[error("another talkstack runs on {0}; stop it or set store.dir")]
    Taken(PathBuf),
    /// The API's address cannot be listened on.
    #[error("cannot listen on {address} for HTTP ({source}); free the port or set http.listen")]
    Http {
        /// Which.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The call plane cannot start.
    #[error(transparent)]
    Calls(#[from] StartError),
    /// Control cannot start.
    #[error(transparent)]
    Control(#[from] ControlOpenError),
    /// The kernel refuses something basic.
    #[error("the system refuses to start the daemon ({0})")]
    System(#[from] std::io::Error),
}

/// Which halves this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halves {
    /// `talkstack serve`.
    Both,
    /// `talkstack calls`.
    Calls,
    /// `talkstack control`.
    Control,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`].
pub fn run(config: &Config, halves: Halves) -> Result<(), ServeError> {
    let dir = &config.store.dir;
    // Whatever this process makes is for its own user.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    make_dir(dir)?;
    let _lock = lock(dir, halves)?;
    raise_open_files();
    priority::remember();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(priority::step_back)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = StopSignals::catch()?;
        match halves {
            Halves::Both => serve_both(config, &mut stop).await,
            Halves::Calls => serve_calls(config, &mut stop).await,
            Halves::Control => {
                priority::step_back();
                let http = bind_http(config.http.listen).await?;
                serve_control(config, PipeSource::Path(dir.join("calls.sock")), http, SipBound::default(), &mut stop)
                    .await
            }
        }
    })
}

async fn serve_both(config: &Config, stop: &mut StopSignals) -> Result<(), ServeError> {
    // The API's port first: of two daemons by mistake the second must not answer the phone for a moment.
    let http = bind_http(config.http.listen).await?;
    let calls = Calls::start(config, http.local_addr()?)?;
    priority::step_back();
    let plane = calls.plane();
    let connect = move || {
        let (ours, theirs) = UnixStream::pair()?;
        tokio::spawn(plane.clone().serve(ours));
        Ok(theirs)
    };
    let pipe = PipeSource::InProcess(Box::new(connect));
    let served = serve_control(config, pipe, http, calls.sip().clone(), stop).await;
    tokio::task::spawn_blocking(move || calls.stop()).await.map_err(std::io::Error::other)?;
    served
}

async fn serve_calls(config: &Config, stop: &mut StopSignals) -> Result<(), ServeError> {
    let path = config.store.dir.join("calls.sock");
    let listener = bind_socket(&path).map_err(|source| ServeError::Directory { path: path.clone(), source })?;
    let calls = Calls::start(config, config.http.listen)?;
    priority::step_back();
    tokio::spawn(calls.plane().listen(listener));
    announce(calls.sip(), None);
    stop.wait().await;
    tokio::task::spawn_blocking(move || calls.stop()).await.map_err(std::io::Error::other)?;
    Ok(())
}

async fn serve_control(
    config: &Config,
    pipe: PipeSource,
    http: TcpListener,
    sip: SipBound,
    stop: &mut StopSignals,
) -> Result<(), ServeError> {
    let settings = Settings {
        signup: match config.auth.signup {
            Signup::First => SignupPolicy::First,
            Signup::Open => SignupPolicy::Open,
            Signup::Closed => SignupPolicy::Closed,
        },
        literal_typos: config.compat.literal_typos,
    };
    let address = http.local_addr()?;
    let own_ports = sip.ports().chain([address.port()]).collect();
    let control_config = ControlConfig {
        dir: config.store.dir.clone(),
        settings,
        dial: DialSettings {
            policy: DialPolicy { allow: config.dial.allow.0.clone() },
            max_calls: config.dial.max_calls.0,
            per_minute: config.dial.per_minute.0,
            calls_max: config.calls.max.0,
        },
        smtp: config.mail.smtp.as_ref().map(|url| url.0.clone()),
        password_cost: Cost::default(),
        public_url: config.public_url(address),
        outbound: config.outbound(own_ports),
        webhook_answer_max: WEBHOOK_ANSWER_MAX,
    };
    let control = Control::open(control_config, pipe, Clock::system()).await?;
    banner(config, &sip, address, control.setup_token.as_deref());
    let stop = async move {
        // Asked for first when all sockets listen, the command line's too.
        announce(&sip, Some(address));
        stop.wait().await;
    };
    control.serve(http, stop).await;
    Ok(())
}

async fn bind_http(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Http { address, source })
}

/// What a person reads at the start.
fn banner(config: &Config, sip: &SipBound, http: SocketAddr, setup_token: Option<&str>) {
    let mut text = format!("\nTalkstack Edge {}\n", env!("CARGO_PKG_VERSION"));
    for address in &sip.plain {
        text.push_str(&format!("  SIP   {address} (UDP and TCP)\n"));
    }
    for SecuredAddress { transport, address } in &sip.secured {
        text.push_str(&format!("  SIP   {address} ({})\n", transport.via_name()));
    }
    if let Some(fingerprint) = &sip.fingerprint {
        text.push_str(&format!("        certificate SHA-256 {fingerprint}\n"));
    }
    text.push_str(&format!("  RTP   {}-{}\n", config.rtp.ports.first, config.rtp.ports.last));
    text.push_str(&format!("  API   {}\n", config.public_url(http)));
    text.push_str(&format!("  Data  {}\n", config.store.dir.display()));
    if let Some(token) = setup_token {
        text.push_str("\nNobody owns this box yet. ");
        if config.auth.signup == Signup::Closed {
            text.push_str("Signing up is closed; ");
        } else {
            text.push_str(&format!("Setup token, valid for 24 hours: {token}\n"));
            text.push_str("From this machine no token is needed: POST /auth/signup, then `talkstack mail list`; or\n");
        }
        text.push_str("`talkstack setup --admin-email EMAIL --password-file FILE` makes the owner at once.\n");
    }
    if let Some(port) = sip.plain.first().map(SocketAddr::port) {
        text.push_str(&format!(
            "\nFirst call: point any SIP phone at this machine and dial sip:demo@<address>:{port}, or echo in place of demo.\n"
        ));
    }
    eprintln!("{text}");
}

/// The one line that a program reads at the start.
fn announce(sip: &SipBound, http: Option<SocketAddr>) {
    let mut line = "listening".to_owned();
    for address in &sip.plain {
        line.push_str(&format!(" sip=udp:{address} sip=tcp:{address}"));
    }
    for SecuredAddress { transport, address } in &sip.secured {
        line.push_str(&format!(" sip={}:{address}", transport.uri_name().unwrap_or("udp")));
    }
    for AsteriskAddress { kind, address } in &sip.asterisk {
        line.push_str(&format!(" asterisk={kind}:{address}"));
    }
    if let Some(address) = http {
        line.push_str(&format!(" http={address}"));
    }
    println!("{line}");
}

/// SIGTERM and SIGINT, which end nothing by themselves any more.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// To be called before anybody is told that the daemon is up: who tells it to stop must be heard.
    fn catch() -> std::io::Result<Self> {
        Ok(StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("Stopping");
    }
}

fn make_dir(dir: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Directory { path: dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let mode = std::fs::metadata(dir).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        // An empty one was made for us. Of another we cannot know who else uses it.
        if std::fs::read_dir(dir).map_err(failed)?.next().is_none() {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        } else {
            tracing::warn!("Other users can look into {}; chmod 700 would keep them out", dir.display());
        }
    }
    // Existing is not enough: it must take files.
    let probe = dir.join(".probe");
    File::create(&probe).map_err(failed)?;
    std::fs::remove_file(&probe).map_err(failed)
}

/// One daemon, or one of each half, per directory. The lock goes with the process.
fn lock(dir: &Path, halves: Halves) -> Result<Vec<File>, ServeError> {
    let names: &[&str] = match halves {
        Halves::Both => &["calls.lock", "control.lock"],
        Halves::Calls => &["calls.lock"],
        Halves::Control => &["control.lock"],
    };
    names
        .iter()
        .map(|name| {
            let path = dir.join(name);
            let file = File::create(&path).map_err(|source| ServeError::Directory { path, source })?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| ServeError::Taken(dir.to_owned()))?;
            Ok(file)
        })
        .collect()
}

fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    // The lock is ours: a socket that is there was left by a crash.
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A call takes three sockets, and ports at rest two: as many as the system allows without asking.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("Cannot raise the limit of open files ({error}); a thousand calls may not fit");
    }
}

/// 15 s, as Standard Webhooks says: a receiver that takes longer does its work before it answers.
const WEBHOOK_ANSWER_MAX: Duration = Duration::from_secs(15);
