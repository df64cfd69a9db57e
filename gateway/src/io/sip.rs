//! The SIP thread: the only owner of the [`Endpoint`], its sockets and the switchboard.
//!
//! ```text
//!   UDP sockets ─┐                                  ┌─▶ shards (offered, ended, …)
//!   TCP streams ─┼─▶ accept? ─▶ Endpoint ─▶ Event ──┤
//!   timers ──────┘                ▲                 └─▶ journal (Started)
//!   shards' wishes ───────────────┘
//! ```

mod accounts;
mod advertise;
mod answered;
mod commands;
mod cut_off;
mod datagrams;
mod dial;
mod events;
mod extensions;
mod health;
mod keep_alive;
mod lead;
mod line_end;
mod link;
mod listen;
mod offered;
mod refusals;
mod registrar;
mod registrations;
mod replace;
mod security;
mod stop;
mod streams;
pub mod tls;
mod transfer;
mod trunk_test;
mod watch;
mod way;
mod websocket;
mod wishes;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use talkstack_control::gate::Gate;
use talkstack_control::port::{CallEvent, CallId, Command, CommandId, CommandReply, Snapshot};
use talkstack_control::secret::Secret;
use talkstack_media::sdp::Fingerprint;
use talkstack_media::sip::{
    DialogId, Endpoint, EndpointConfig, Flow, LARGE_CONNECT_MAX, Output, Refusal, StreamId, Transport, UdpLarge,
};
use talkstack_media::stun;
use tokio::sync::{mpsc, oneshot};

use accounts::Accounts;
use advertise::Addresses;
pub use dial::DialProgress;
use dial::Dialling;
pub use line_end::LineEnd;
pub use listen::{BindError, Listeners, MoreListeners, SecuredAddress, SipAddress};
use refusals::Pace;
pub use streams::Opened;
use streams::{CONNECT_MAX, Streams};
pub use tls::TlsFault;
pub use trunk_test::TestId;
use watch::ShardWatch;

use super::inbox::Address;
use super::resolve::Dns;
use super::shard::{GivenLeg, SipWish, ToCall, ToShard};
use crate::accept::Accept;
use crate::journal::JournalHandle;
use crate::outside::OutsideConfig;
use crate::random::Random;
use crate::switchboard::Switchboard;
use crate::trunk_test::Reached;
use crate::trunks::PeerName;
use crate::trunks::locate::Located;

/// What the SIP thread is told by the threads around it.
#[derive(Debug)]
pub enum ToSip {
    /// A call's wish.
    Wish(CallId, SipWish),
    /// Another configuration to route by; whoever waits is told once it does.
    Snapshot(Arc<Snapshot>, Option<oneshot::Sender<()>>),
    /// A command of the control plane.
    Command(CommandId, Command, oneshot::Sender<CommandReply>),
    /// What a call that is being placed has waited for.
    Dial(CallId, DialProgress),
    /// The call's dialog is on disk, and the call may be answered so.
    Answer(CallId, String),
    /// A trunk's name has been resolved; nothing found when it could not be.
    Resolved(PeerName, Located),
    /// A name of our own has been looked up; nothing found when it could not be.
    Found(String, Vec<IpAddr>),
    /// An address of a trunk that is being tested was tried.
    Reached(TestId, Reached, Option<Opened>),
    /// A leg of another call for this one; its shard is to have it.
    Given(CallId, Box<GivenLeg>),
    /// A line of our own is to be a phone at this address, where its media is. Nobody is answered where the box has no
    /// owner and needs one.
    Line(SocketAddr, oneshot::Sender<LineEnd>),
    /// End all calls and stop.
    Stop,
}

/// What the SIP thread is set up with.
pub struct SipConfig {
    /// Who is answered.
    pub accept: Accept,
    /// Nobody is answered before the box has an owner (`setup.required`).
    pub setup_required: bool,
    /// `calls.max`.
    pub calls_max: usize,
    /// What the box looks like from outside, and to whom.
    pub outside: OutsideConfig,
    /// `box.timezone`: the clock that routes go by.
    pub timezone: TimeZone,
    /// `sip.udp_large`.
    pub udp_large: UdpLarge,
    /// `sip.dns`.
    pub dns: Vec<SocketAddr>,
    /// What descriptions say of our certificate in DTLS; without it DTLS is not taken.
    pub dtls: Option<Fingerprint>,
}

/// What the thread reaches beside its sockets and its shards.
pub struct SipSurroundings {
    /// Where what happens is written.
    pub journal: JournalHandle,
    /// The way to the thread's own inbox.
    pub own_inbox: mpsc::Sender<ToSip>,
    /// Whom the box calls.
    pub gate: Gate,
    /// Opens the trunks' passwords.
    pub secret: Secret,
    /// Dialogs that the last run left open; each gets its BYE.
    pub cut_off: Vec<String>,
    /// Our certificate, and whom we believe.
    pub tls: Option<tls::Tls>,
    /// The file of what phones have registered.
    pub bindings: PathBuf,
}

/// What the sockets' tasks have read.
pub struct Sockets(mpsc::Receiver<Received>);

/// What is counted of SIP since the start.
#[derive(Debug, Default, Clone, Copy)]
pub struct SipCounters {
    /// Messages and connections from sources that `sip.accept` does not admit.
    pub not_admitted: u64,
    /// TCP connections closed at once because there were too many.
    pub streams_refused: u64,
    /// Calls refused because `calls.max` was reached.
    pub overloaded: u64,
}

/// The thread's state; [`SipThread::run`] is its task.
pub struct SipThread {
    endpoint: Endpoint,
    config: SipConfig,
    cut_off: cut_off::CutOff,
    switchboard: Switchboard,
    shards: Vec<Address<ToShard>>,
    snapshot: Arc<Snapshot>,
    journal: JournalHandle,
    dialling: Dialling,
    random: Random,
    streams: Streams,
    listeners: Arc<Listeners>,
    addresses: Addresses,
    told: Told,
    watch: ShardWatch,
    is_stopping: bool,
}

/// What is told to people, and not more often than they can read.
#[derive(Default)]
struct Told {
    counters: SipCounters,
    strangers: Option<Instant>,
    refusals: Pace,
}

/// A message from a socket.
#[derive(Debug)]
enum Received {
    Datagram {
        /// Which of our addresses it came to.
        local: SocketAddr,
        remote: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Nothing listens where a datagram of ours went.
    Refused {
        remote: SocketAddr,
        /// The datagram's beginning.
        quoted: Vec<u8>,
    },
    Message {
        stream: StreamId,
        bytes: Vec<u8>,
    },
    Opened {
        stream: Opened,
    },
    /// Nothing more is read; what waits to be written still goes out.
    Finished {
        stream: StreamId,
    },
    Closed {
        stream: StreamId,
        /// Why it never stood, where TLS is at fault.
        fault: Option<TlsFault>,
    },
}

impl SipThread {
    /// Prepares the thread. Nothing is read before [`SipThread::run`].
    pub fn new(
        config: SipConfig,
        listeners: Listeners,
        shards: Vec<Address<ToShard>>,
        snapshot: Arc<Snapshot>,
        surroundings: SipSurroundings,
        mut random: Random,
    ) -> (Self, Sockets) {
        let endpoint_config = EndpointConfig {
            server: format!("Talkstack-Edge/{}", env!("CARGO_PKG_VERSION")),
            // Refused, ended and lingering dialogs beside the live calls.
            dialogs_max: config.calls_max.saturating_mul(2).saturating_add(100),
            udp_large: config.udp_large,
            ..EndpointConfig::default()
        };
        let SipSurroundings { journal, own_inbox, gate, secret, cut_off, tls, bindings } = surroundings;
        let (sender, receiver) = mpsc::channel(RECEIVED_MAX);
        let accounts = Accounts::open(bindings, random.seed(), Instant::now());
        let dns = Dns::new(config.dns.clone());
        let mut dialling = Dialling::new(gate, secret, own_inbox, accounts, dns, random.u64());
        dialling.apply(&snapshot, Instant::now());
        let thread = SipThread {
            endpoint: Endpoint::new(endpoint_config, random.seed()),
            switchboard: Switchboard::new(config.calls_max, shards.len()),
            cut_off: cut_off::CutOff::new(cut_off),
            addresses: Addresses::new(config.outside.clone(), Instant::now()),
            config,
            watch: ShardWatch::new(shards.len(), Instant::now()),
            shards,
            snapshot,
            journal,
            dialling,
            random,
            streams: Streams::new(sender, tls),
            listeners: Arc::new(listeners),
            told: Told::default(),
            is_stopping: false,
        };
        (thread, Sockets(receiver))
    }

    /// Runs until told to stop.
    pub async fn run(mut self, mut sockets: Sockets, mut inbox: mpsc::Receiver<ToSip>) {
        listen::spawn_readers(&self.listeners, self.streams.sender());
        self.apply_advertised(Instant::now());
        self.handle_addresses_timeout(Instant::now());
        self.apply_accounts();
        loop {
            self.resolve_due(Instant::now());
            self.carry_out();
            let due = self.poll_timeout();
            let wake = due.into_iter().fold(self.watch.due(), Instant::min);
            let timer = tokio::time::sleep_until(wake.into());
            tokio::select! {
                // Wishes first: an answer that waits is a caller that waits.
                biased;
                message = inbox.recv() => match message {
                    Some(message) => if !self.handle_inbox(message) { break },
                    None => break,
                },
                Some(received) = sockets.0.recv() => self.handle_received(received),
                () = timer => {}
            }
            let now = Instant::now();
            // Not in the select: a flood of messages leaves that no time for its timer.
            if due.is_some_and(|at| at <= now) {
                self.handle_timeout(now);
            }
            self.watch_shards(now);
        }
        self.end_all_calls(&mut sockets).await;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let (endpoint, addresses) = (self.endpoint.poll_timeout().map(|(at, _)| at), self.addresses.poll_timeout());
        [endpoint, self.dialling.poll_timeout(), self.cut_off.poll_timeout(), addresses].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.handle_addresses_timeout(now);
        self.handle_dial_timeout(now);
        self.handle_accounts_timeout(now);
        self.end_cut_off(now);
    }

    fn handle_inbox(&mut self, message: ToSip) -> bool {
        match message {
            ToSip::Wish(id, wish) => self.handle_wish(id, wish),
            ToSip::Snapshot(snapshot, applied) => self.handle_snapshot(snapshot, applied),
            ToSip::Command(command_id, command, reply) => self.handle_command(command_id, command, reply),
            ToSip::Dial(id, progress) => self.handle_dial_progress(id, progress),
            ToSip::Answer(id, sdp) => self.handle_written(id, &sdp),
            ToSip::Resolved(name, located) => self.handle_resolved(&name, located, Instant::now()),
            ToSip::Found(name, addresses) => self.handle_found(&name, addresses, Instant::now()),
            ToSip::Reached(id, reached, opened) => self.handle_test_reached(id, reached, opened),
            ToSip::Given(id, given) => self.hand_over(id, given),
            ToSip::Line(at, made) => {
                if self.snapshot.is_claimed || !self.config.setup_required {
                    // Whoever has gone away meanwhile leaves nothing behind.
                    if let Err(line) = made.send(self.streams.line(at)) {
                        self.streams.forget(line.id());
                    }
                }
            }
            ToSip::Stop => return false,
        }
        true
    }

    fn handle_received(&mut self, received: Received) {
        let now = Instant::now();
        match received {
            Received::Datagram { local, remote, bytes } => {
                if stun::is_stun(&bytes) && self.handle_stun(&bytes, remote, now) {
                    return;
                }
                if !self.admits(remote.ip()) {
                    return self.count_stranger(now);
                }
                let flow = Flow { transport: Transport::Udp, local, remote, stream: None };
                if !self.answer_stun(&flow, &bytes) {
                    self.endpoint.handle_message(&flow, &bytes, now);
                }
            }
            Received::Refused { remote, quoted } => self.endpoint.handle_port_unreachable(remote, &quoted, now),
            Received::Opened { stream } => {
                if !self.admits(stream.remote.ip()) {
                    return self.count_stranger(now);
                }
                if let Err(error) = self.streams.adopt(stream) {
                    self.told.counters.streams_refused += 1;
                    tracing::debug!("Closed a new SIP connection: {error}");
                }
            }
            Received::Message { stream, bytes } => {
                if let Some(flow) = self.streams.flow(stream) {
                    self.dialling.accounts.lines.handle_tls_stands(flow.remote);
                    self.endpoint.handle_message(&flow, &bytes, now);
                }
            }
            Received::Finished { stream } => self.streams.finish(stream),
            Received::Closed { stream, fault } => {
                if let Some(flow) = self.streams.forget(stream) {
                    self.dialling.accounts.lines.handle_tls_fault(flow.remote, fault);
                    self.endpoint.handle_stream_closed(&flow, now);
                }
                self.handle_account_stream_closed(stream);
            }
        }
    }

    /// A source that gets no answer: told to the operator, once a minute at the most.
    fn count_stranger(&mut self, now: Instant) {
        self.told.counters.not_admitted += 1;
        if self.told.strangers.is_none_or(|told| told + STRANGERS_TOLD_EVERY <= now) {
            self.told.strangers = Some(now);
            let count = self.told.counters.not_admitted;
            tracing::warn!(
                count,
                "Gave no answer to {count} SIP messages or connections: sip.accept does not admit them"
            );
        }
    }

    fn admits(&self, source: IpAddr) -> bool {
        let is_admitted = self.config.accept.admits(source) || self.dialling.trunks.trunk_of(source).is_some();
        is_admitted && (self.snapshot.is_claimed || !self.config.setup_required)
    }

    /// Sends what the endpoint wants sent and acts on its events.
    fn carry_out(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { flow, bytes } => self.send(&flow, bytes, CONNECT_MAX),
                Output::SendLarge { flow, bytes } => self.send(&flow, bytes, LARGE_CONNECT_MAX),
                Output::Event(event) => self.handle_event(event),
            }
        }
    }

    /// Tells a call; `None` when it is not up, `false` when its shard takes nothing.
    fn tell(&self, id: CallId, message: ToCall) -> Option<bool> {
        let entry = self.switchboard.entry(id)?;
        Some(self.shards[entry.shard].send(ToShard::Call(id, message)).is_ok())
    }

    fn record(&self, id: CallId, event: CallEvent) {
        if self.journal.append(id, event).is_err() {
            tracing::error!(call = %id, "The journal is full; an event of this call is lost");
        }
    }

    /// Tells whether the journal has room for another call.
    fn has_room(&self) -> bool {
        self.journal.fullness() < JOURNAL_FULL
    }

    fn refuse(&mut self, dialog: DialogId, status: u16, reason: Option<String>, retry_after: Option<Duration>) {
        // A dialog that is gone already needs no refusal.
        let _ = self.endpoint.refuse(dialog, Refusal { reason, retry_after, ..Refusal::new(status) }, Instant::now());
    }
}

/// 1,024 messages between the sockets and the endpoint: a second at 1,000 a second. Full: the kernel's buffers wait.
const RECEIVED_MAX: usize = 1024;

/// 4,096 wishes: 1,000 calls that end at once with four wishes each.
pub const INBOX_MAX: usize = 4096;

/// From here on no new calls are taken.
const JOURNAL_FULL: f32 = 0.8;

/// 60 s: a scanner fills no log.
const STRANGERS_TOLD_EVERY: Duration = Duration::from_secs(60);
