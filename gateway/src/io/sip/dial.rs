//! Placing calls: carries out what an [`Attempt`] wants, from control's order to the shard that talks.
//!
//! ```text
//!   Dial ─▶ journal, on disk ─▶ addresses ─▶ shard makes the offer ─▶ Attempt: connect, INVITE ─▶ shard
//! ```
//!
//! An order is taken once: its acceptance is on disk before the INVITE leaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::gate::Gate;
use talkstack_control::port::{
    Blame, CallEvent, CallId, CallStarted, CommandId, CommandReply, DialOrder, EndReason, Outcome, TrunkRoute,
};
use talkstack_control::secret::{Secret, TRUNK_PASSWORD_PURPOSE};
use talkstack_media::sip::message::{Host, Uri};
use talkstack_media::sip::{Credentials, DialogId, Flow, InviteOrder, StreamId, Transport};

use tokio::sync::{mpsc, oneshot};

use super::accounts::Accounts;
use super::answered::Answered;
use super::extensions::extensions;
use super::lead::Leading;
use super::streams::{self, Opened};
use super::tls::PeerIdentity;
use super::trunk_test::TrunkTests;
use super::{SipThread, ToSip};
use crate::call::LegId;
use crate::dial::{Attempt, AttemptOutput};
use crate::io::shard::{PlacedCall, SipWish, ToCall, ToShard};
use crate::route::dial_plan;
use crate::switchboard::Channels;
use crate::trunks::{PeerName, Targets, Trunks};

/// What calls are placed with.
pub(super) struct Dialling {
    pub(super) answered: Answered,
    placing: BTreeMap<CallId, Placing>,
    pub(super) trunks: Trunks,
    /// Second legs.
    pub(super) leading: Leading,
    /// Accounts on both sides.
    pub(super) accounts: Accounts,
    pub(super) gate: Gate,
    pub(super) secret: Secret,
    pub(super) tests: TrunkTests,
    /// For tasks that answer later.
    pub(super) own_inbox: mpsc::Sender<ToSip>,
}

/// A call that is being placed, and what belongs to it outside its machine.
struct Placing {
    attempt: Attempt,
    trunk_id: String,
    /// It is on disk, and the trunk's addresses are awaited to the instant at the most.
    addresses_until: Option<Instant>,
    sdp: Option<String>,
    /// The connection that was made for the next INVITE.
    stream: Option<StreamId>,
    is_initiated: bool,
}

impl Placing {
    fn new(attempt: Attempt, trunk_id: String) -> Self {
        Placing { attempt, trunk_id, addresses_until: None, sdp: None, stream: None, is_initiated: false }
    }
}

/// What the journal or a connector tells of a call that is being placed.
#[derive(Debug)]
pub enum DialProgress {
    /// The acceptance is on disk.
    Journalled,
    /// The acceptance will not get there.
    NotJournalled,
    /// A connection was made; `None` when it could not be.
    Connected(Option<Opened>),
}

impl Dialling {
    pub(super) fn new(gate: Gate, secret: Secret, own_inbox: mpsc::Sender<ToSip>, accounts: Accounts) -> Self {
        Dialling {
            answered: Answered::default(),
            placing: BTreeMap::new(),
            trunks: Trunks::default(),
            leading: Leading::default(),
            accounts,
            gate,
            secret,
            tests: TrunkTests::default(),
            own_inbox,
        }
    }

    /// When [`SipThread::handle_dial_timeout`] or [`SipThread::resolve_due`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.placing.values().filter_map(|placing| placing.addresses_until);
        let machines = [self.trunks.poll_timeout(), self.accounts.poll_timeout(), self.tests.poll_timeout()];
        waiting.chain(machines.into_iter().flatten()).min()
    }

    /// The call is to end while it is being placed; what comes of it is of no interest any more.
    pub(super) fn abandon(&mut self, id: CallId) {
        self.placing.remove(&id);
    }

    /// The address that a response came from is tried first the next time.
    fn mark_answered(&mut self, id: CallId) {
        if let Some(placing) = self.placing.get(&id)
            && placing.attempt.is_at_trunk()
            && let Some(target) = placing.attempt.target()
        {
            self.trunks.handle_answered(&placing.trunk_id, target);
        }
    }
}

impl SipThread {
    /// Takes an order on, or says that there is no room for it. An order that comes again is not carried out again.
    pub(super) fn handle_dial(
        &mut self,
        command_id: CommandId,
        order: DialOrder,
        reply: oneshot::Sender<CommandReply>,
    ) {
        let id = order.call_id;
        let found = self.snapshot.trunk_for(&order.from).map(|(id, trunk)| (id.to_owned(), trunk.clone()));
        let channels = found.as_ref().map(|(id, trunk)| Channels { trunk: id, max: trunk.max_channels });
        if !self.has_room() || self.switchboard.admit(id, None, channels).is_err() {
            // Whoever asked may be gone.
            let _ = reply.send(CommandReply::Busy);
            return;
        }
        tracing::info!(call = %id, "Places a call");
        self.dialling.answered.remember(command_id.clone(), CommandReply::Accepted, Instant::now());
        let trunk_id = found.as_ref().map(|(id, _)| id.clone());
        self.record(id, CallEvent::Started(CallStarted::placed(&order, trunk_id)));
        let on_disk = self.journal.append_synced(id, CallEvent::DialAccepted { command_id });
        match (found, &on_disk) {
            (None, _) => self.end_unplaced(id, Outcome::new(Blame::Operator, EndReason::NoTrunk)),
            (_, Err(_)) => self.end_unplaced(id, Outcome::new(Blame::Gateway, EndReason::Overloaded)),
            (Some((trunk_id, trunk)), Ok(_)) => {
                let attempt = Attempt::new(order, trunk, self.dialling.gate.clone());
                self.dialling.placing.insert(id, Placing::new(attempt, trunk_id));
            }
        }
        let inbox = self.dialling.own_inbox.clone();
        tokio::spawn(async move {
            // Without an answer the order comes again, and learns that it is not carried out twice.
            let Ok(on_disk) = on_disk else { return };
            let progress = match on_disk.await {
                Ok(()) => {
                    let _ = reply.send(CommandReply::Accepted);
                    DialProgress::Journalled
                }
                Err(_) => DialProgress::NotJournalled,
            };
            // The thread that asked is the one that is told; it may have stopped.
            let _ = inbox.send(ToSip::Dial(id, progress)).await;
        });
    }

    pub(super) fn handle_dial_progress(&mut self, id: CallId, progress: DialProgress) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        match progress {
            DialProgress::Journalled => {
                let now = Instant::now();
                placing.addresses_until = Some(now + ADDRESSES_MAX);
                self.look_for_addresses(id, now);
            }
            DialProgress::NotJournalled => {
                self.end_unplaced(id, Outcome::new(Blame::Gateway, EndReason::Overloaded));
            }
            DialProgress::Connected(opened) => {
                placing.stream = opened.and_then(|opened| self.streams.adopt(opened).ok());
                placing.attempt.handle_connected(placing.stream.is_some());
                self.carry_out_attempt(id);
            }
        }
    }

    /// Resolves the names that are due; each answer comes back by the inbox.
    pub(super) fn resolve_due(&mut self, now: Instant) {
        for name in self.dialling.trunks.take_due(now) {
            let inbox = self.dialling.own_inbox.clone();
            tokio::spawn(async move {
                let lookup = tokio::net::lookup_host((name.host.as_str(), name.port));
                let addresses = match tokio::time::timeout(LOOKUP_MAX, lookup).await {
                    Ok(Ok(addresses)) => addresses.take(ADDRESSES_OF_NAME_MAX).collect(),
                    Ok(Err(_)) | Err(_) => Vec::new(),
                };
                // The thread that asked is the one that is told; it may have stopped.
                let _ = inbox.send(ToSip::Resolved(name, addresses)).await;
            });
        }
    }

    pub(super) fn handle_resolved(&mut self, name: &PeerName, addresses: Vec<SocketAddr>, now: Instant) {
        if addresses.is_empty() {
            tracing::warn!("The trunk host {} has no address now; calls use what was known of it", name.host);
        }
        self.dialling.trunks.handle_resolved(name, addresses, now);
        self.handle_dial_timeout(now);
    }

    /// Goes on with every call whose addresses are known by now, or whose patience is over.
    pub(super) fn handle_dial_timeout(&mut self, now: Instant) {
        self.handle_test_timeout(now);
        let is_waiting = |placing: &Placing| placing.addresses_until.is_some();
        let placing = self.dialling.placing.iter();
        let waiting: Vec<CallId> = placing.filter(|(_, placing)| is_waiting(placing)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.look_for_addresses(id, now);
        }
    }

    /// Hands the call to its shard once the trunk's addresses are known.
    fn look_for_addresses(&mut self, id: CallId, now: Instant) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let Some(until) = placing.addresses_until else { return };
        let addresses = match self.dialling.trunks.targets(&placing.trunk_id) {
            Targets::Pending if now < until => return,
            Targets::Pending | Targets::None => Vec::new(),
            Targets::Known(mut addresses) => {
                addresses.retain(|address| self.listeners.reaches(*address));
                addresses
            }
        };
        placing.addresses_until = None;
        let Some(first) = placing.attempt.handle_addresses(addresses) else {
            return self.end_unplaced(id, Outcome::new(Blame::Trunk, EndReason::Unreachable));
        };
        let plan = dial_plan(&self.snapshot, placing.attempt.order());
        let local = self.config.advertised_ip.unwrap_or_else(|| self.local_address(first, now));
        let placed = PlacedCall { id, plan, local, signalling: first.ip(), seed: self.random.u64() };
        let shard = self.switchboard.entry(id).map(|entry| entry.shard);
        if shard.is_none_or(|shard| self.shards[shard].send(ToShard::Placed(Box::new(placed))).is_err()) {
            self.end_unplaced(id, Outcome::new(Blame::Gateway, EndReason::Overloaded));
        }
    }

    /// The shard's offer is there.
    pub(super) fn handle_own_offer(&mut self, id: CallId, sdp: String) {
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.sdp = Some(sdp);
            placing.attempt.handle_offer();
            self.carry_out_attempt(id);
        }
    }

    /// Carries out what the attempt wants.
    fn carry_out_attempt(&mut self, id: CallId) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        match placing.attempt.poll_output() {
            None => {}
            Some(AttemptOutput::Connect(target)) => match self.streams.towards(target, placing.attempt.transport()) {
                Some(stream) => {
                    placing.stream = Some(stream);
                    placing.attempt.handle_connected(true);
                    self.carry_out_attempt(id);
                }
                None => self.connect(id, target),
            },
            Some(AttemptOutput::Invite(target)) => self.send_invite(id, target),
            Some(AttemptOutput::GiveUp(outcome)) => {
                self.dialling.placing.remove(&id);
                self.tell(id, ToCall::Ended(LegId::First, outcome));
            }
        }
    }

    /// Has a connection made for the next INVITE.
    fn connect(&mut self, id: CallId, target: SocketAddr) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let (transport, trunk) = (placing.attempt.transport(), placing.attempt.trunk());
        let peer = PeerIdentity::of_trunk(trunk);
        let port = self.listeners.port_towards(target, transport);
        let connector = self.streams.connector(target, transport, port, peer);
        let inbox = self.dialling.own_inbox.clone();
        tokio::spawn(async move {
            let opened = match connector {
                Ok(connector) => streams::connect(target, connector).await,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = &opened {
                tracing::warn!(call = %id, "Cannot reach the trunk: {fault}");
            }
            // The thread that asked is the one that is told; it may have stopped.
            let _ = inbox.send(ToSip::Dial(id, DialProgress::Connected(opened.ok()))).await;
        });
    }

    fn send_invite(&mut self, id: CallId, target: SocketAddr) {
        let local = SocketAddr::new(
            self.local_address(target, Instant::now()),
            self.listeners.port_towards(target, Transport::Udp),
        );
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let Some(sdp) = placing.sdp.clone() else { return };
        let over_udp = Flow { transport: Transport::Udp, local, remote: target, stream: None };
        let flow = placing.stream.take().and_then(|stream| self.streams.flow(stream)).unwrap_or(over_udp);
        let host = match &self.config.advertised {
            Some((host, _)) => host.clone(),
            None => Host::Ip(local.ip()).to_string(),
        };
        let Placing { attempt, trunk_id, .. } = placing;
        let routes = self.dialling.accounts.lines.service_route(trunk_id).iter().filter(|_| attempt.is_at_trunk());
        let order = InviteOrder {
            flow,
            request_uri: Uri::Sip(attempt.uri().clone()),
            from: format!("<sip:{}@{host}>", attempt.order().from),
            to: format!("<sip:{}@{}>", attempt.order().to, attempt.trunk_host()),
            fields: routes.map(|route| ("Route", route.clone())).collect(),
            sdp: sdp.into_bytes(),
            credentials: attempt.is_at_trunk().then(|| credentials(&self.dialling.secret, attempt.trunk())).flatten(),
            extensions: extensions(&attempt.trunk().signalling),
        };
        let Ok(dialog) = self.endpoint.invite(order, Instant::now()) else {
            self.dialling.placing.remove(&id);
            self.tell(id, ToCall::Ended(LegId::First, Outcome::new(Blame::Gateway, EndReason::Overloaded)));
            return;
        };
        let is_first = !std::mem::replace(&mut placing.is_initiated, true);
        self.switchboard.bind(id, dialog);
        if is_first {
            self.record(id, CallEvent::Initiated);
        }
    }

    /// The far end rings, or says something else on the way.
    pub(super) fn handle_progressed(&mut self, dialog: DialogId, sdp: Option<Vec<u8>>) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        self.dialling.mark_answered(id);
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_progressed();
        }
        self.tell(id, ToCall::Progressed(LegId::First, sdp));
    }

    /// The far end has answered.
    pub(super) fn handle_accepted(&mut self, dialog: DialogId, sdp: Option<Vec<u8>>) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        self.dialling.mark_answered(id);
        let target = self.dialling.placing.remove(&id).and_then(|placing| placing.attempt.target());
        let Some(target) = target else { return };
        self.save_dialog(id, dialog);
        if self.tell(id, ToCall::Accepted { leg: LegId::First, sdp, signalling: target.ip() }) != Some(true) {
            self.handle_wish(id, SipWish::End(LegId::First, Outcome::new(Blame::Gateway, EndReason::Overloaded)));
        }
    }

    /// The far end has refused, or sends us elsewhere.
    pub(super) fn handle_refused(&mut self, dialog: DialogId, status: u16, contacts: Vec<Uri>) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        self.dialling.mark_answered(id);
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_refused(status, contacts);
            self.carry_out_attempt(id);
        }
    }

    /// Nothing came back at all.
    pub(super) fn handle_unanswered(&mut self, dialog: DialogId) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_unanswered();
            self.carry_out_attempt(id);
        }
    }

    /// Gives up a call that no shard has yet.
    fn end_unplaced(&mut self, id: CallId, outcome: Outcome) {
        tracing::info!(call = %id, blame = ?outcome.blame, reason = ?outcome.reason, "The call has ended");
        self.dialling.placing.remove(&id);
        self.switchboard.remove(id);
        self.record(id, CallEvent::Ended { outcome });
    }
}

pub(super) fn credentials(secret: &Secret, trunk: &TrunkRoute) -> Option<Credentials> {
    let name = trunk.access.auth_username.as_ref().or(trunk.username.as_ref());
    let (username, sealed) = (name?.clone(), trunk.password.as_ref()?);
    match secret.unseal(TRUNK_PASSWORD_PURPOSE, sealed) {
        Ok(password) => Some(Credentials { username, password }),
        Err(error) => {
            tracing::error!("The trunk {}: {error}", trunk.name);
            None
        }
    }
}

/// 6 s for a name that has never been resolved: one time-out of a resolver, and the way back.
const ADDRESSES_MAX: Duration = Duration::from_secs(6);

/// 5 s: the resolver's own time-out.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// 16 addresses of one name; a caller would not wait for more.
const ADDRESSES_OF_NAME_MAX: usize = 16;
