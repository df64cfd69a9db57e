//! The call plane as a whole: threads for media, signalling and journal, and what stops them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rustix::thread::{CpuSet, sched_setaffinity};
use talkstack_control::gate::{DialPolicy, Gate};
use talkstack_control::port::{CallEvent, CallId, Snapshot};
use talkstack_control::recording::RECORDINGS_DIR;
use talkstack_control::secret::{SECRET_FILE, Secret};
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::dtls::Identity;
use talkstack_media::sdp::Fingerprint;
use talkstack_media::session::{HandshakeId, HandshakeInput};
use talkstack_media::sip::PublicAddress;
use tokio::sync::mpsc;

use super::agents::Agents;
use super::auditions::Auditions;
use crate::agent::http_tool::Prepared;
use crate::call::CallLimits;
use crate::config::Config;
use crate::io::asterisk::{self, AsteriskAddress, AsteriskBindError, AsteriskConfig};
use crate::io::connect::{AgentTarget, SessionLimit};
use crate::io::handshakes::HandshakesHandle;
use crate::io::inbox::{Address, Inbox, inbox};
use crate::io::ports::Ports;
use crate::io::recorder::Recorder;
use crate::io::shard::{GivenLeg, Shard, ShardConfig, SipWish, Surroundings, ToCall, ToShard};
use crate::io::sip::tls::{Tls, TlsFileError, TlsFiles};
use crate::io::sip::{
    BindError, INBOX_MAX, Listeners, MoreListeners, SecuredAddress, SipConfig, SipSurroundings, SipThread, ToSip,
};
use crate::journal::{Journal, JournalHandle, OpenError};
use crate::outside::OutsideConfig;
use crate::plane::Plane;
use crate::random::{NoRandom, Random};
use crate::snapshot_file;
use crate::speech::Speaker;

/// The call plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of TLS cannot be used.
    #[error(transparent)]
    TlsFile(#[from] TlsFileError),
    /// SIP cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Asterisk cannot be listened for.
    #[error(transparent)]
    Asterisk(#[from] AsteriskBindError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// The box's own secret cannot be read.
    #[error("secret.key cannot be used ({0})")]
    Secret(std::io::Error),
    /// No TLS.
    #[error("TLS cannot be used ({0})")]
    Tls(#[from] rustls::Error),
    /// Threads, sockets or memory are refused.
    #[error("the system refuses to start the media threads ({0})")]
    System(#[from] std::io::Error),
}

/// The call plane, running.
pub struct Calls {
    sip: mpsc::Sender<ToSip>,
    sip_thread: JoinHandle<()>,
    shards: Vec<RunningShard>,
    recorder: Option<Recorder>,
    journal: Journal,
    sip_bound: SipBound,
    plane: Plane,
}

impl Calls {
    /// Starts all threads. Call within the general tokio runtime, which connects to agents. `http` is where the API
    /// listens, or is to listen.
    ///
    /// # Errors
    /// [`StartError`]; what was started ends with the process.
    pub fn start(config: &Config, http: SocketAddr) -> Result<Self, StartError> {
        let dir = config.store.dir.join("calls");
        let mut journal = Journal::open(&dir.join("journal"))?;
        let snapshot_path = dir.join("snapshot");
        let snapshot = match snapshot_file::load(&snapshot_path) {
            Ok(snapshot) => snapshot.unwrap_or_default(),
            Err(error) => {
                tracing::error!("{error}; numbers are unknown until control connects");
                Snapshot::default()
            }
        };
        // Code that plays a prompt must not be the first to decode it.
        crate::prompts::warm_up();
        let (sip, sip_inbox) = mpsc::channel(INBOX_MAX);
        let mut random = Random::new()?;
        let secret = Secret::open(&config.store.dir.join(SECRET_FILE)).map_err(StartError::Secret)?;
        let agents = Agents::new(secret.clone())?;
        let recordings = config.store.dir.join(RECORDINGS_DIR);
        let format = config.recording.format.into();
        let recorder =
            config.recording.enabled.then(|| Recorder::start(recordings, format, journal.handle())).transpose()?;
        let (dtls, handshakes) = start_handshakes().unzip();
        let handle = handshakes.as_ref();
        let shards = start_shards(config, &sip, &journal.handle(), &agents, handle, recorder.as_ref(), &mut random)?;
        let addresses = shards.iter().map(|(address, _)| address.clone()).collect();
        let surroundings = SipSurroundings {
            cut_off: journal.take_cut_off(),
            journal: journal.handle(),
            own_inbox: sip.clone(),
            gate: Gate::new(DialPolicy { allow: config.dial.allow.0.clone() }),
            secret,
            tls: Some(open_tls(config)?),
            bindings: dir.join("bindings"),
        };
        let (sip_thread, bound) = start_sip(config, dtls, addresses, snapshot, surroundings, random, sip_inbox)?;
        let bound = SipBound { asterisk: asterisk::start(asterisk_config(config), sip.clone())?, ..bound };
        agents.open_outside(config.outbound(bound.ports().chain([http.port()]).collect()));
        let auditions = Auditions::new(agents);
        let plane = Plane { journal: journal.handle(), sip: sip.clone(), snapshot_path, auditions };
        Ok(Calls { sip, sip_thread, shards, recorder, journal, sip_bound: bound, plane })
    }

    /// Where SIP listens.
    pub fn sip(&self) -> &SipBound {
        &self.sip_bound
    }

    /// The end of the pipe to control.
    pub fn plane(&self) -> Plane {
        self.plane.clone()
    }

    /// Replaces the routing configuration, for programs that have no control.
    pub fn apply(&self, snapshot: Snapshot) {
        // The queue is empty before the first call.
        let _ = self.sip.try_send(ToSip::Snapshot(Arc::new(snapshot), None));
    }

    /// Ends all calls with a BYE and a record, and waits for the threads.
    pub fn stop(self) {
        let _ = self.sip.blocking_send(ToSip::Stop);
        let _ = self.sip_thread.join();
        for (address, thread) in self.shards {
            if address.send(ToShard::Stop).is_ok() {
                let _ = thread.join();
            }
        }
        if let Some(recorder) = self.recorder {
            recorder.close();
        }
        self.journal.close();
    }
}

fn asterisk_config(config: &Config) -> AsteriskConfig {
    AsteriskConfig {
        audiosocket: config.calls.asterisk_audiosocket.0.clone(),
        websocket: config.calls.asterisk_websocket.0.clone(),
        allow: config.calls.asterisk_allow.0.clone(),
        number: config.calls.asterisk_number.clone(),
    }
}

/// The way to a shard, and its thread.
type RunningShard = (Address<ToShard>, JoinHandle<()>);

fn start_shards(
    config: &Config,
    sip: &mpsc::Sender<ToSip>,
    journal: &JournalHandle,
    agents: &Agents,
    handshakes: Option<&HandshakesHandle>,
    recorder: Option<&Recorder>,
    random: &mut Random,
) -> Result<Vec<RunningShard>, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = match config.media.threads.0 {
        0 => cores,
        threads => threads as usize,
    };
    let range = config.rtp.ports;
    let (speaker, speech) = (Speaker::default(), SpeechPool::default());
    (0..count)
        .map(|index| {
            let (inbox, address): (Inbox<ToShard>, _) = inbox()?;
            let surroundings = Around {
                sip: sip.clone(),
                journal: journal.clone(),
                agents: agents.clone(),
                speaker: speaker.clone(),
                handshakes: handshakes.cloned(),
                shard: address.clone(),
            };
            let shard_config = ShardConfig {
                ports: Ports::new(range.first, range.last, index, count, random.u64()),
                limits: CallLimits {
                    ring_max: Duration::from_secs(config.calls.ring_timeout_s.0.into()),
                    duration_max: Duration::from_secs(config.calls.max_duration_s.0.into()),
                    speech: speech.clone(),
                },
                recorder: recorder.map(Recorder::handle),
            };
            let shard = Shard::new(shard_config, inbox, surroundings, Instant::now())?;
            let thread = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || {
                if count == cores {
                    pin(index);
                }
                shard.run();
            })?;
            Ok((address, thread))
        })
        .collect()
}

/// The thread of DTLS, and the fingerprint of our certificate there. Without it calls still work, and DTLS is not taken.
fn start_handshakes() -> Option<(Fingerprint, HandshakesHandle)> {
    let identity = match Identity::new() {
        Ok(identity) => Arc::new(identity),
        Err(error) => {
            tracing::error!("{error}; calls that want DTLS-SRTP are refused");
            return None;
        }
    };
    let fingerprint = identity.fingerprint();
    match HandshakesHandle::start(identity) {
        Ok(handle) => Some((fingerprint, handle)),
        Err(error) => {
            tracing::error!("The thread of DTLS cannot be started: {error}; calls that want DTLS-SRTP are refused");
            None
        }
    }
}

/// Keeps a media thread on one core, among those the process may use. Without it calls still work.
fn pin(index: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    if let Some(core) = cores.nth(index) {
        let mut only = CpuSet::new();
        only.set(core);
        let _ = sched_setaffinity(None, &only);
    }
}

fn start_sip(
    config: &Config,
    dtls: Option<Fingerprint>,
    shards: Vec<Address<ToShard>>,
    snapshot: Snapshot,
    surroundings: SipSurroundings,
    random: Random,
    inbox: mpsc::Receiver<ToSip>,
) -> Result<(JoinHandle<()>, SipBound), StartError> {
    let sip_config = SipConfig {
        accept: config.sip.accept,
        setup_required: config.setup.required,
        calls_max: config.calls.max.0 as usize,
        // It was found when the configuration was read; a machine whose zones are gone since goes by UTC.
        timezone: TimeZone::get(&config.site.timezone.0).unwrap_or(TimeZone::UTC),
        udp_large: config.sip.udp_large,
        outside: OutsideConfig {
            advertise: config.sip.advertise.clone().map(PublicAddress::from),
            local: config.sip.local_networks.0.clone(),
            stun: config.sip.stun.0.clone(),
        },
        dns: config.sip.dns.0.clone(),
        dtls,
    };
    let listen = config.sip.listen.0.clone();
    let more = MoreListeners {
        tls: config.sip.tls_listen.0.clone(),
        ws: config.sip.ws_listen.0.clone(),
        wss: config.sip.wss_listen.0.clone(),
        origins: config.sip.ws_origins.0.clone(),
    };
    let fingerprint = surroundings.tls.as_ref().and_then(Tls::fingerprint).map(str::to_owned);
    let (bound, wait) = std::sync::mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("sip".into()).spawn(move || {
        runtime.block_on(async move {
            let listeners = Listeners::bind(&listen).and_then(|mut listeners| {
                listeners.bind_more(&more, surroundings.tls.as_ref())?;
                Ok(listeners)
            });
            let listeners = match listeners {
                Ok(listeners) => listeners,
                Err(error) => return drop(bound.send(Err(error))),
            };
            let plain = listeners.addresses().into_iter().map(|address| address.0).collect();
            let secured = listeners.secured().to_vec();
            if bound.send(Ok(SipBound { plain, secured, fingerprint, ..SipBound::default() })).is_err() {
                return;
            }
            let (sip, sockets) =
                SipThread::new(sip_config, listeners, shards, Arc::new(snapshot), surroundings, random);
            sip.run(sockets, inbox).await;
        });
    })?;
    let addresses: SipBound = wait.recv().map_err(std::io::Error::other)??;
    Ok((thread, addresses))
}

/// Where SIP listens, as it was bound.
#[derive(Debug, Clone, Default)]
pub struct SipBound {
    /// UDP and TCP.
    pub plain: Vec<SocketAddr>,
    /// TLS, WS and WSS.
    pub secured: Vec<SecuredAddress>,
    /// Where Asterisks are listened for.
    pub asterisk: Vec<AsteriskAddress>,
    /// Of our certificate: SHA-256 in hex digits.
    pub fingerprint: Option<String>,
}

impl SipBound {
    /// The ports of all of them.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let secured = self.secured.iter().map(|secured| secured.address);
        self.plain.iter().copied().chain(secured).map(|address| address.port())
    }
}

/// Our certificate where anything listens with it, and whom we believe.
fn open_tls(config: &Config) -> Result<Tls, StartError> {
    let sip = &config.sip;
    let own = sip.tls_certificate.clone().zip(sip.tls_key.clone());
    let files = TlsFiles {
        own,
        client_ca: sip.tls_client_ca.clone(),
        ca: sip.tls_ca.clone(),
        dir: config.store.dir.join("tls"),
    };
    if !sip.wants_tls() {
        return Ok(Tls::client(&files)?);
    }
    let listened = sip.tls_listen.0.iter().chain(&sip.wss_listen.0).map(SocketAddr::ip);
    let addresses = listened.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    let advertised = sip.advertise.iter().map(|advertise| advertise.host.clone());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut names: Vec<String> = advertised.chain(addresses).chain([host, "localhost".to_owned()]).collect();
    names.sort();
    names.dedup();
    Ok(Tls::open(&files, &names)?)
}

/// The threads around a shard.
struct Around {
    sip: mpsc::Sender<ToSip>,
    journal: JournalHandle,
    agents: Agents,
    speaker: Speaker,
    /// Absent, DTLS is not taken.
    handshakes: Option<HandshakesHandle>,
    shard: Address<ToShard>,
}

impl Surroundings for Around {
    fn sip(&self, id: CallId, wish: SipWish) -> bool {
        self.sip.try_send(ToSip::Wish(id, wish)).is_ok()
    }

    fn give(&self, to: CallId, given: Box<GivenLeg>) -> bool {
        self.sip.try_send(ToSip::Given(to, given)).is_ok()
    }

    fn record(&self, id: CallId, event: CallEvent) -> bool {
        self.journal.append(id, event).is_ok()
    }

    fn shake(&self, call: CallId, id: HandshakeId, input: HandshakeInput) -> bool {
        self.handshakes.as_ref().is_some_and(|handshakes| handshakes.tell(self.shard.clone(), call, id, input))
    }

    fn speak(&self, id: CallId, text: String) {
        let (shard, speaker) = (self.shard.clone(), self.speaker.clone());
        self.agents.runtime.spawn(async move {
            let spoken = match speaker.speak(&text).await {
                Ok(samples) => Some(samples),
                Err(error) => {
                    tracing::debug!(call = %id, "{error}; the attendant has its prompt");
                    None
                }
            };
            // Lost, the attendant's own timer brings its prompt.
            let _ = shard.send(ToShard::Call(id, ToCall::Spoken(spoken)));
        });
    }

    fn fetch(&self, id: CallId, number: u32, prepared: Box<Prepared>) {
        let (shard, agents) = (self.shard.clone(), self.agents.clone());
        self.agents.runtime.spawn(async move {
            let fetched = agents.fetch(id, *prepared).await;
            // Lost, the agent goes on without an answer, as after a service that says nothing.
            let _ = shard.send(ToShard::Call(id, ToCall::Fetched(number, fetched)));
        });
    }

    fn connect(&self, id: CallId, target: AgentTarget, limit: Option<SessionLimit>) -> bool {
        let (shard, agents) = (self.shard.clone(), self.agents.clone());
        self.agents.runtime.spawn(async move {
            let message = match agents.connect(target, limit).await {
                Ok(connected) => ToCall::AgentConnected(connected),
                Err((url, error)) => {
                    tracing::warn!(call = %id, "The agent at {url} cannot be reached: {error}");
                    ToCall::AgentUnreachable
                }
            };
            // A shard that takes nothing has other worries; the call's own timer goes on without the agent.
            let _ = shard.send(ToShard::Call(id, message));
        });
        true
    }
}
