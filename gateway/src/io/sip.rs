//! The SIP thread: the only owner of the [`Endpoint`], its sockets and the switchboard.
//!
//! ```text
//!   UDP sockets ─┐                                  ┌─▶ shards (offered, ended, …)
//!   TCP streams ─┼─▶ accept? ─▶ Endpoint ─▶ Event ──┤
//!   timers ──────┘                ▲                 └─▶ journal (Started)
//!   shards' wishes ───────────────┘
//! ```

mod cut_off;
mod listen;
mod streams;
mod wishes;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use talkstack_control::port::{
    Blame, CallEvent, CallId, CallStarted, Command, CommandReply, Direction, EndReason, Outcome, Snapshot,
};
use talkstack_media::sip::message::NameAddr;
use talkstack_media::sip::{
    EndCause, Endpoint, EndpointConfig, Event, Flow, Offered, Output, Refusal, StreamId, Transport,
};
use tokio::sync::{mpsc, oneshot};

pub use listen::{BindError, Listeners, SipAddress};
use streams::Streams;

use super::inbox::Address;
use super::shard::{OfferedCall, SipWish, ToCall, ToShard};
use crate::accept::Accept;
use crate::random::Random;
use crate::route::{Route, number_digits, route};
use crate::switchboard::Switchboard;

/// What the SIP thread is told by the threads around it.
#[derive(Debug)]
pub enum ToSip {
    /// A call's wish.
    Wish(CallId, SipWish),
    /// Another configuration to route by.
    Snapshot(Arc<Snapshot>),
    /// A command of the control plane.
    Command(Command, oneshot::Sender<CommandReply>),
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
    /// `sip.advertise`.
    pub advertised: Option<(String, Option<u16>)>,
    /// Address to put in SDP in place of the local one, when `sip.advertise` is an address.
    pub advertised_ip: Option<IpAddr>,
    /// Dialogs that the last run left open; each gets its BYE.
    pub cut_off: Vec<String>,
}

/// Writes to the journal; `false` when it is full.
pub type Record = Box<dyn Fn(CallId, CallEvent) -> bool + Send>;

/// What is counted of SIP since the start.
#[derive(Debug, Default, Clone, Copy)]
pub struct SipCounters {
    /// Messages and connections from sources that `sip.accept` does not admit.
    pub not_admitted: u64,
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
    record: Record,
    /// Tells whether the journal has room for another call.
    has_room: Box<dyn Fn() -> bool + Send>,
    random: Random,
    streams: Streams,
    listeners: Arc<Listeners>,
    local_addresses: HashMap<IpAddr, (IpAddr, Instant)>,
    counters: SipCounters,
}

/// A message from a socket.
#[derive(Debug)]
enum Received {
    Datagram { socket: usize, remote: SocketAddr, bytes: Vec<u8> },
    Message { stream: StreamId, bytes: Vec<u8> },
    Opened { stream: streams::Opened },
    Closed { stream: StreamId },
}

impl SipThread {
    /// Prepares the thread. Nothing is read before [`SipThread::run`].
    pub fn new(
        mut config: SipConfig,
        listeners: Listeners,
        shards: Vec<Address<ToShard>>,
        snapshot: Arc<Snapshot>,
        record: Record,
        has_room: Box<dyn Fn() -> bool + Send>,
        mut random: Random,
    ) -> Self {
        let endpoint_config = EndpointConfig {
            server: format!("Talkstack-Edge/{}", env!("CARGO_PKG_VERSION")),
            advertised: config.advertised.clone(),
            // Refused, ended and lingering dialogs beside the live calls.
            dialogs_max: config.calls_max.saturating_mul(2).saturating_add(100),
            ..EndpointConfig::default()
        };
        SipThread {
            endpoint: Endpoint::new(endpoint_config, random.seed()),
            switchboard: Switchboard::new(config.calls_max, shards.len()),
            cut_off: cut_off::CutOff::new(std::mem::take(&mut config.cut_off)),
            config,
            shards,
            snapshot,
            record,
            has_room,
            random,
            streams: Streams::default(),
            listeners: Arc::new(listeners),
            local_addresses: HashMap::new(),
            counters: SipCounters::default(),
        }
    }

    /// Runs until told to stop.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<ToSip>) {
        let (sender, mut received) = mpsc::channel(RECEIVED_MAX);
        listen::spawn_readers(&self.listeners, &sender);
        loop {
            self.carry_out().await;
            let endpoint = self.endpoint.poll_timeout().map(|(at, _)| at);
            let wake = [endpoint, self.cut_off.poll_timeout()].into_iter().flatten().min();
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Wishes first: an answer that waits is a caller that waits.
                biased;
                message = inbox.recv() => match message {
                    Some(message) => if !self.handle_inbox(message) { break },
                    None => break,
                },
                Some(received) = received.recv() => self.handle_received(received, &sender),
                () = timer => {
                    self.endpoint.handle_timeout(Instant::now());
                    self.end_cut_off(Instant::now());
                }
            }
        }
        self.end_all_calls().await;
    }

    fn handle_inbox(&mut self, message: ToSip) -> bool {
        match message {
            ToSip::Wish(id, wish) => self.handle_wish(id, wish),
            ToSip::Snapshot(snapshot) => self.snapshot = snapshot,
            ToSip::Command(Command::HangUp { call_id }, reply) => {
                let outcome = Outcome::new(Blame::Operator, EndReason::HungUp);
                let answer = match self.tell(call_id, ToCall::HangUp(outcome)) {
                    Some(true) => CommandReply::Accepted,
                    Some(false) => CommandReply::Busy,
                    None => CommandReply::NoSuchCall,
                };
                // Whoever asked may be gone.
                let _ = reply.send(answer);
            }
            ToSip::Command(Command::Dial(_), reply) => drop(reply.send(CommandReply::Busy)),
            ToSip::Stop => return false,
        }
        true
    }

    fn handle_received(&mut self, received: Received, sender: &mpsc::Sender<Received>) {
        let now = Instant::now();
        match received {
            Received::Datagram { socket, remote, bytes } => {
                if !self.admits(remote.ip()) {
                    self.counters.not_admitted += 1;
                    return;
                }
                let port = self.listeners.udp_port(socket);
                let local = SocketAddr::new(self.local_address(remote.ip(), now), port);
                let flow = Flow { transport: Transport::Udp, local, remote, stream: None };
                self.endpoint.handle_message(&flow, &bytes, now);
            }
            Received::Opened { stream } => {
                if !self.admits(stream.remote.ip()) {
                    self.counters.not_admitted += 1;
                    return;
                }
                self.streams.adopt(stream, sender);
            }
            Received::Message { stream, bytes } => {
                if let Some(flow) = self.streams.flow(stream) {
                    self.endpoint.handle_message(&flow, &bytes, now);
                }
            }
            Received::Closed { stream } => self.streams.forget(stream),
        }
    }

    fn admits(&self, source: IpAddr) -> bool {
        self.config.accept.admits(source) && (self.snapshot.is_claimed || !self.config.setup_required)
    }

    /// Sends what the endpoint wants sent and acts on its events.
    async fn carry_out(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { flow, bytes } => match flow.stream {
                    Some(stream) => self.streams.send(stream, bytes),
                    None if flow.transport == Transport::Tcp => {
                        drop(tokio::spawn(cut_off::deliver(flow.remote, bytes)));
                    }
                    None => self.listeners.send(&flow, &bytes),
                },
                Output::Event(event) => self.handle_event(event),
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Offered(offered) => self.handle_offered(*offered),
            Event::ReOffered { dialog, sdp } => {
                if let Some(id) = self.switchboard.call_of(dialog)
                    && self.tell(id, ToCall::ReOffered(sdp)) != Some(true)
                {
                    self.refuse(dialog, 500, Some("The media thread is busy".into()), None);
                }
            }
            Event::Acknowledged { dialog, sdp } => {
                if let Some(id) = self.switchboard.call_of(dialog) {
                    self.tell(id, ToCall::Acknowledged(sdp));
                }
            }
            Event::Ended { dialog, cause } => {
                let outcome = match cause {
                    EndCause::Bye => Outcome::new(Blame::Caller, EndReason::HungUp),
                    EndCause::Cancelled => Outcome::new(Blame::Caller, EndReason::Cancelled),
                    EndCause::NoAck => Outcome::new(Blame::Trunk, EndReason::NoAck),
                    EndCause::Gone => Outcome::new(Blame::Trunk, EndReason::MediaTimeout),
                };
                if let Some(id) = self.switchboard.call_of(dialog) {
                    self.tell(id, ToCall::Ended(outcome));
                }
            }
            // No call is placed from here.
            Event::Progressed { .. } | Event::Accepted { .. } | Event::Refused { .. } | Event::Unanswered { .. } => {}
        }
    }

    /// A call comes in: found, admitted, journalled and handed to a shard, or refused with the cause.
    fn handle_offered(&mut self, offered: Offered) {
        let dialog = offered.dialog;
        let users = [offered.request_uri.user(), offered.to.uri.user()].map(Option::unwrap_or_default);
        let route = match route(&self.snapshot, users[0], users[1]) {
            Ok(route) => route,
            Err(no_route) => {
                tracing::info!("Refused a call with 404: nobody here has the number or user it asks for");
                tracing::debug!("{no_route}");
                return self.refuse(dialog, 404, Some(no_route.to_string()), None);
            }
        };
        let id = CallId(self.random.u128());
        let room = if (self.has_room)() {
            self.switchboard.admit(id, dialog).map_err(|full| full.to_string())
        } else {
            Err("the journal is full".into())
        };
        let shard = match room {
            Ok(shard) => shard,
            Err(cause) => {
                self.counters.overloaded += 1;
                tracing::warn!("Refused a call with 503: {cause}");
                return self.refuse(dialog, 503, Some(cause), Some(RETRY_AFTER));
            }
        };
        (self.record)(id, CallEvent::Started(started(&offered, &route)));
        tracing::info!(call = %id, "A call comes in");
        let call = OfferedCall {
            id,
            plan: route.plan,
            sdp: offered.sdp,
            local: self.config.advertised_ip.unwrap_or(offered.flow.local.ip()),
            signalling: offered.flow.remote.ip(),
            seed: self.random.u64(),
            // The built-in users are nobody's.
            is_recorded: route.project_id.is_some(),
        };
        if self.shards[shard].send(ToShard::Offered(Box::new(call))).is_err() {
            let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
            (self.record)(id, CallEvent::Ended { outcome });
            self.switchboard.remove(id);
            self.refuse(dialog, 503, Some("the media thread is busy".into()), Some(RETRY_AFTER));
        }
    }

    /// Tells a call; `None` when it is not up, `false` when its shard takes nothing.
    fn tell(&self, id: CallId, message: ToCall) -> Option<bool> {
        let entry = self.switchboard.entry(id)?;
        Some(self.shards[entry.shard].send(ToShard::Call(id, message)).is_ok())
    }

    fn refuse(
        &mut self,
        dialog: talkstack_media::sip::DialogId,
        status: u16,
        reason: Option<String>,
        retry_after: Option<Duration>,
    ) {
        // A dialog that is gone already needs no refusal.
        let _ = self.endpoint.refuse(dialog, Refusal { status, reason, retry_after }, Instant::now());
    }

    /// The address the kernel would send to `remote` from, looked up anew every minute.
    fn local_address(&mut self, remote: IpAddr, now: Instant) -> IpAddr {
        if let Some((local, until)) = self.local_addresses.get(&remote)
            && *until > now
        {
            return *local;
        }
        if self.local_addresses.len() >= LOCAL_ADDRESSES_MAX {
            self.local_addresses.clear();
        }
        let local = listen::route_source(remote);
        self.local_addresses.insert(remote, (local, now + LOCAL_ADDRESS_AGE));
        local
    }

    /// The box stops: every call gets its BYE and its record, within [`STOP_MAX`].
    async fn end_all_calls(&mut self) {
        let outcome = Outcome::new(Blame::Operator, EndReason::Restarted);
        let calls: Vec<CallId> = self.switchboard.calls().collect();
        for id in calls {
            self.handle_wish(id, SipWish::End(outcome));
            self.tell(id, ToCall::Ended(outcome));
        }
        let until = Instant::now() + STOP_MAX;
        while self.endpoint.dialogs() > 0 && Instant::now() < until {
            self.carry_out().await;
            tokio::task::yield_now().await;
            let Some((at, _)) = self.endpoint.poll_timeout() else { break };
            if at > until {
                break;
            }
            tokio::time::sleep_until(at.into()).await;
            self.endpoint.handle_timeout(Instant::now());
        }
        self.carry_out().await;
    }
}

fn started(offered: &Offered, route: &Route) -> CallStarted {
    CallStarted {
        direction: Direction::Inbound,
        from: caller(&offered.from),
        to: route.called.clone(),
        project_id: route.project_id.clone(),
        agent_id: route.agent_id.clone(),
        sip_call_id: offered.call_id.chars().take(SHOWN_CALL_ID).collect(),
        trunk_id: None,
    }
}

/// `+` and digits where the caller is an international number, else the user as it came.
fn caller(from: &NameAddr) -> String {
    let user = from.uri.user().unwrap_or("anonymous");
    match number_digits(user) {
        Some(digits) if user.starts_with('+') || user.starts_with("00") => format!("+{digits}"),
        _ => user.chars().filter(|letter| !letter.is_control()).take(SHOWN_CALLER).collect(),
    }
}

/// 1,024 messages between the sockets and the endpoint: a second at 1,000 a second. Full: the kernel's buffers wait.
const RECEIVED_MAX: usize = 1024;

/// 4,096 wishes: 1,000 calls that end at once with four wishes each.
pub const INBOX_MAX: usize = 4096;

/// 10 s: a call of the median length has ended by then on a full box.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// 60 s (`telephony`): an interface that changes is found within a minute.
const LOCAL_ADDRESS_AGE: Duration = Duration::from_secs(60);

/// 4,096 peers; a box has tens.
const LOCAL_ADDRESSES_MAX: usize = 4096;

/// 3 s: BYE and two retransmissions over UDP.
const STOP_MAX: Duration = Duration::from_secs(3);

/// 128: the longest user parts that mean anything.
const SHOWN_CALLER: usize = 128;

/// 255: longer ones are kept by nobody's switch.
const SHOWN_CALL_ID: usize = 255;
