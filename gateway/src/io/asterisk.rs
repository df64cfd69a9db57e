//! Asterisks that give their calls to the box: AudioSocket over TCP, and the WebSocket channel. One thread carries them all.
//!
//! ```text
//!   Asterisk ◀── TCP or WebSocket ──▶ task of the call: [`crate::asterisk::line`] ◀── SIP through memory ──▶ SIP thread
//!                                                                                 ◀── RTP over loopback ──▶ shard
//! ```

mod audiosocket;
mod websocket;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use talkstack_media::audio::frame::Form;
use talkstack_media::sip::Network;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::sip::{LineEnd, ToSip};
use crate::asterisk::line::{Line, LineOrder, LineOutput};
use crate::random::Random;

/// What an Asterisk is served with.
#[derive(Debug, Clone, Default)]
pub struct AsteriskConfig {
    /// `calls.asterisk_audiosocket`.
    pub audiosocket: Vec<SocketAddr>,
    /// `calls.asterisk_websocket`.
    pub websocket: Vec<SocketAddr>,
    /// `calls.asterisk_allow`; none is loopback.
    pub allow: Vec<Network>,
    /// `calls.asterisk_number`.
    pub number: String,
}

/// An address that cannot be listened on, or a thread that cannot be started. The operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on TCP {address} for Asterisk ({source}); free the port or set calls.{key}")]
pub struct AsteriskBindError {
    key: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

/// Where Asterisks are listened for, as it was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsteriskAddress {
    /// `audiosocket` or `websocket`.
    pub kind: &'static str,
    /// Where.
    pub address: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AudioSocket,
    WebSocket,
}

/// What all calls share.
struct Shared {
    config: AsteriskConfig,
    sip: mpsc::Sender<ToSip>,
    calls: Arc<Semaphore>,
}

/// Listens as configured, on a thread of its own that ends with the process; none where nothing is configured.
///
/// # Errors
/// [`AsteriskBindError`].
pub fn start(config: AsteriskConfig, sip: mpsc::Sender<ToSip>) -> Result<Vec<AsteriskAddress>, AsteriskBindError> {
    let mut listeners = Vec::new();
    for (kind, key, addresses) in [
        (Kind::AudioSocket, "asterisk_audiosocket", &config.audiosocket),
        (Kind::WebSocket, "asterisk_websocket", &config.websocket),
    ] {
        for &address in addresses {
            let failed = |source| AsteriskBindError { key, address, source };
            let listener = StdTcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            listeners.push((kind, bound, listener));
        }
    }
    let Some((_, first, _)) = listeners.first() else { return Ok(Vec::new()) };
    let failed = |source| AsteriskBindError { key: "asterisk_audiosocket", address: *first, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let bound = listeners.iter().map(|(kind, address, _)| AsteriskAddress { kind: kind.name(), address: *address });
    let bound: Vec<_> = bound.collect();
    let shared = Arc::new(Shared { config, sip, calls: Arc::new(Semaphore::new(CALLS_MAX)) });
    let address = bound[0].address;
    std::thread::Builder::new()
        .name("asterisk".into())
        .spawn(move || {
            runtime.block_on(async move {
                let tasks = listeners.into_iter().filter_map(|(kind, _, listener)| {
                    let listener = TcpListener::from_std(listener).ok()?;
                    Some(tokio::spawn(accept(kind, listener, Arc::clone(&shared))))
                });
                for task in tasks.collect::<Vec<_>>() {
                    let _ = task.await;
                }
            });
        })
        .map_err(|source| AsteriskBindError { key: "asterisk_audiosocket", address, source })?;
    Ok(bound)
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::AudioSocket => "audiosocket",
            Kind::WebSocket => "websocket",
        }
    }
}

impl Shared {
    fn admits(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        if self.config.allow.is_empty() {
            return source.is_loopback();
        }
        self.config.allow.iter().any(|network| network.contains(source))
    }
}

async fn accept(kind: Kind, listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file descriptors: others must close first.
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !shared.admits(remote.ip()) {
            tracing::warn!("Closed a connection for Asterisk: calls.asterisk_allow does not admit its source");
            continue;
        }
        let Ok(place) = Arc::clone(&shared.calls).try_acquire_owned() else {
            tracing::warn!("Closed a connection of an Asterisk: {CALLS_MAX} are open");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            match kind {
                Kind::AudioSocket => audiosocket::serve(stream, &shared).await,
                Kind::WebSocket => websocket::serve(stream, &shared).await,
            }
            drop(place);
        });
    }
}

/// What Asterisk's side of a call has brought.
enum FromAsterisk {
    Audio(Form, Vec<u8>),
    Key(char),
    /// Nothing that concerns the call.
    Nothing,
    HungUp,
}

/// Asterisk's side of a call.
trait Far {
    /// The next that comes; may be dropped and called again.
    async fn next(&mut self) -> FromAsterisk;
    /// Has Asterisk hear a frame; `false` when the connection is gone.
    async fn play(&mut self, audio: Vec<u8>) -> bool;
    /// The box has answered.
    async fn answered(&mut self) {}
    /// Has Asterisk end the call.
    async fn hang_up(&mut self);
}

/// A call that is to be carried.
struct Incoming {
    called: String,
    caller: String,
    name: String,
    form: Form,
}

/// Carries a call until either side ends it.
async fn carry(far: &mut impl Far, incoming: Incoming, shared: &Shared) {
    let Some((mut line, mut end, rtp)) = begin(incoming, shared).await else {
        tracing::warn!("Refused a call of an Asterisk: the box takes none now");
        return far.hang_up().await;
    };
    let mut packet = [0; PACKET_BYTES_MAX];
    let mut is_up = true;
    let mut until = None;
    loop {
        while let Some(output) = line.poll_output() {
            match output {
                LineOutput::Sip(bytes) => {
                    if !end.send(bytes).await {
                        is_up = false;
                    }
                }
                LineOutput::Rtp(target, packet) => {
                    // Lost like any packet.
                    let _ = rtp.try_send_to(&packet, target);
                }
                LineOutput::Audio(audio) => {
                    if until.is_none() && !far.play(audio).await {
                        line.hang_up(Instant::now());
                        until = Some(Instant::now() + FAREWELL_MAX);
                    }
                }
                LineOutput::Answered => far.answered().await,
                LineOutput::Over(status) => {
                    if let Some(status) = status {
                        tracing::info!(status, "A call of an Asterisk was refused with {status}");
                    }
                    is_up = false;
                }
            }
        }
        let now = Instant::now();
        if !is_up || line.is_over() || until.is_some_and(|until| until <= now) {
            break;
        }
        let wake = line.poll_timeout().into_iter().chain(until).min().unwrap_or(now + IDLE_WAKE);
        tokio::select! {
            biased;
            received = rtp.recv_from(&mut packet) => if let Ok((bytes, source)) = received {
                line.handle_rtp(source, &packet[..bytes]);
            },
            message = end.next() => match message {
                Some(bytes) => line.handle_sip(&bytes, Instant::now()),
                None => break,
            },
            heard = far.next(), if until.is_none() => match heard {
                FromAsterisk::Audio(form, audio) => line.handle_audio(form, &audio, Instant::now()),
                FromAsterisk::Key(key) => line.handle_key(key),
                FromAsterisk::Nothing => {}
                FromAsterisk::HungUp => {
                    line.hang_up(Instant::now());
                    until = Some(Instant::now() + FAREWELL_MAX);
                }
            },
            () = sleep_until(wake.into()) => line.handle_timeout(Instant::now()),
        }
    }
    end.close().await;
    if until.is_none() {
        far.hang_up().await;
    }
}

/// Begins the call's line: its socket, its connection to the SIP thread, its INVITE.
async fn begin(incoming: Incoming, shared: &Shared) -> Option<(Line, LineEnd, UdpSocket)> {
    let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    let at = rtp.local_addr().ok()?;
    let (made, wait) = oneshot::channel();
    shared.sip.send(ToSip::Line(at, made)).await.ok()?;
    let end = timeout(LINE_MAX, wait).await.ok()?.ok()?;
    let Incoming { called, caller, name, form } = incoming;
    let order = LineOrder { called, caller, name, form, rtp: at };
    Some((Line::new(&order, Random::default().seed(), Instant::now()), end, rtp))
}

/// Writes, or gives up on who does not read.
async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    use tokio::io::AsyncWriteExt;
    matches!(timeout(WRITE_MAX, stream.write_all(bytes)).await, Ok(Ok(())))
}

/// 1,000 calls: as many as `calls.max` is by default.
const CALLS_MAX: usize = 1000;

/// 2,048 bytes: the box's packets have 172.
const PACKET_BYTES_MAX: usize = 2048;

/// 10 s to say what the call is; a port probe says nothing.
const FIRST_MAX: Duration = Duration::from_secs(10);

/// 2 s to take a frame: an Asterisk that is stuck so long has hung up.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// 5 s for the box's answer to a BYE, or to the INVITE that is to be cancelled.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// 5 s for the SIP thread, which has other worries then.
const LINE_MAX: Duration = Duration::from_secs(5);

/// 10 s, where nothing is due.
const IDLE_WAKE: Duration = Duration::from_secs(10);

/// 100 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
