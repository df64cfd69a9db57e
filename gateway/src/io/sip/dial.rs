//! Placing calls: carries out what an [`Attempt`] wants, from control's order to the shard that talks.
//!
//! ```text
//!   Dial ─▶ journal, on disk ─▶ addresses ─▶ shard makes the offer ─▶ Attempt: connect, INVITE ─▶ shard
//! ```
//!
//! An order is taken once: its acceptance is on disk before the INVITE leaves.

mod answers;
mod keys;
mod route_set;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::gate::Gate;
use talkstack_control::port::{
    Blame, CallEvent, CallId, CallStarted, CommandId, CommandReply, DialOrder, EndReason, Outcome, Snapshot, TrunkRoute,
};
use talkstack_control::secret::{Secret, TRUNK_PASSWORD_PURPOSE};
use talkstack_media::sip::message::Uri;
use talkstack_media::sip::{Credentials, InviteOrder, StreamId};

use tokio::sync::{mpsc, oneshot};

pub(super) use route_set::{route, routes};

use super::accounts::Accounts;
use super::answered::Answered;
use super::extensions::extensions;
use super::lead::Leading;
use super::streams::{self, Opened};
use super::tls::{PeerIdentity, TlsFault};
use super::trunk_test::TrunkTests;
use super::{SipThread, ToSip};
use crate::agent::provider::Parties;
use crate::call::{LegId, LineSecurity};
use crate::caller_id::{Carrier, Disclosure, carriers, domain, present};
use crate::dial::{Attempt, AttemptOutput, check};
use crate::io::resolve::Dns;
use crate::io::shard::{PlacedCall, ToCall, ToShard};
use crate::numbering::dialled;
use crate::rate::Rate;
use crate::route::dial_plan;
use crate::switchboard::Channels;
use crate::trunks::locate::Located;
use crate::trunks::{Hop, PeerName, Trunks};

/// What calls are placed with.
pub(super) struct Dialling {
    pub(super) answered: Answered,
    placing: BTreeMap<CallId, Placing>,
    pub(super) trunks: Trunks,
    /// Calls of the last second by trunk.
    rates: BTreeMap<String, Rate>,
    pub(super) dns: Dns,
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
    /// It is on disk, and the trunk's addresses are awaited to the instant at the most.
    addresses_until: Option<Instant>,
    sdp: Option<String>,
    /// What the offer was made for.
    security: Option<LineSecurity>,
    /// The connection that was made for the next INVITE.
    stream: Option<StreamId>,
    /// The shard has the call, and makes or has made the offer.
    is_at_shard: bool,
    is_initiated: bool,
}

impl Placing {
    fn new(attempt: Attempt) -> Self {
        Placing {
            attempt,
            addresses_until: None,
            sdp: None,
            security: None,
            stream: None,
            is_at_shard: false,
            is_initiated: false,
        }
    }
}

/// What the journal or a connector tells of a call that is being placed.
#[derive(Debug)]
pub enum DialProgress {
    /// The acceptance is on disk.
    Journalled,
    /// The acceptance will not get there.
    NotJournalled,
    /// A connection was made.
    Connected(Opened),
    /// None could be made with this address; a fault of TLS tells why.
    NotConnected(SocketAddr, Option<TlsFault>),
}

impl Dialling {
    pub(super) fn new(
        gate: Gate,
        secret: Secret,
        own_inbox: mpsc::Sender<ToSip>,
        accounts: Accounts,
        dns: Dns,
        seed: u64,
    ) -> Self {
        Dialling {
            answered: Answered::default(),
            placing: BTreeMap::new(),
            trunks: Trunks::new(seed),
            rates: BTreeMap::new(),
            dns,
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
        let of = |placing: &Placing| [placing.addresses_until, placing.attempt.poll_timeout()];
        let waiting = self.placing.values().flat_map(of).flatten();
        let (accounts, leading) = (self.accounts.poll_timeout(), self.leading.poll_timeout());
        let machines = [self.trunks.poll_timeout(), accounts, leading, self.tests.poll_timeout()];
        waiting.chain(machines.into_iter().flatten()).min()
    }

    /// The call is to end while it is being placed; what comes of it is of no interest any more.
    pub(super) fn abandon(&mut self, id: CallId) {
        self.placing.remove(&id);
    }

    /// The address that a response came from is tried first the next time; one that could not, or did not answer, last.
    fn mark(&mut self, id: CallId, heard: Heard, now: Instant) {
        let Some(placing) = self.placing.get(&id).filter(|placing| placing.attempt.is_at_trunk()) else { return };
        let Some(target) = placing.attempt.target() else { return };
        let trunk_id = &placing.attempt.carrier().id;
        match heard {
            Heard::Response => self.trunks.handle_answered(trunk_id, target),
            Heard::Unavailable(retry_after) => self.trunks.handle_failed(trunk_id, target, retry_after, now),
        }
    }

    /// Tells whether a trunk takes another call in this second; one that does is counted.
    pub(super) fn pass(&mut self, trunk_id: &str, trunk: &TrunkRoute, now: Instant) -> bool {
        let Some(per_second) = trunk.policy.calls_per_second else { return true };
        self.rates.entry(trunk_id.to_owned()).or_default().pass(per_second, now)
    }

    /// Forgets what was counted of trunks that are gone.
    pub(super) fn apply(&mut self, snapshot: &Snapshot, now: Instant) {
        self.trunks.apply(snapshot, now);
        self.rates.retain(|id, _| snapshot.trunks.contains_key(id));
    }
}

/// What a trunk's address has shown of itself.
enum Heard {
    /// It is there.
    Response,
    /// It said 503, with or without a time, or nothing.
    Unavailable(Option<Duration>),
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
        let now = Instant::now();
        let refused = check(&order, &self.dialling.gate).err();
        let mut carriers: VecDeque<Carrier> = carriers(&self.snapshot, &order.from).into();
        let first = if refused.is_none() { carriers.pop_front() } else { None };
        let attempt = first.map(|first| Attempt::new(order.clone(), first, carriers, self.dialling.gate.clone()));
        let Some(attempt) = self.admit(id, attempt, now) else {
            // Whoever asked may be gone.
            let _ = reply.send(CommandReply::Busy);
            return;
        };
        tracing::info!(call = %id, "Places a call");
        self.switchboard.set_parties(id, Parties { from: order.from.clone(), to: order.to.clone() });
        self.dialling.answered.remember(command_id.clone(), CommandReply::Accepted, now);
        let trunk_id = attempt.as_ref().map(|attempt| attempt.carrier().id.clone());
        self.record(id, CallEvent::Started(CallStarted::placed(&order, trunk_id)));
        let on_disk = self.journal.append_synced(id, CallEvent::DialAccepted { command_id });
        match (attempt, refused, &on_disk) {
            (_, Some(outcome), _) => self.end_unplaced(id, outcome),
            (None, None, _) => self.end_unplaced(id, Outcome::new(Blame::Operator, EndReason::NoTrunk)),
            (_, _, Err(_)) => self.end_unplaced(id, Outcome::new(Blame::Gateway, EndReason::Overloaded)),
            (Some(attempt), None, Ok(_)) => {
                self.dialling.placing.insert(id, Placing::new(attempt));
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

    /// Takes a call in on the first of its trunks that has a channel, or on none where it has no trunk at all; `None`
    /// when there is no room.
    fn admit(&mut self, id: CallId, attempt: Option<Attempt>, now: Instant) -> Option<Option<Attempt>> {
        if !self.has_room() {
            return None;
        }
        let Some(mut attempt) = attempt else {
            return self.switchboard.admit(id, None, None).ok().map(|_| None);
        };
        while let Some(AttemptOutput::Seize) = attempt.poll_output() {
            let Carrier { id: trunk, trunk: route, .. } = attempt.carrier();
            let channels = Channels { trunk, max: route.max_channels };
            if self.switchboard.has_channel(channels) && self.dialling.pass(trunk, route, now) {
                return self.switchboard.admit(id, None, Some(channels)).ok().map(|_| Some(attempt));
            }
            attempt.handle_full();
        }
        None
    }

    /// A call goes on to its next trunk, as soon as that has a channel and addresses.
    fn seize(&mut self, id: CallId, now: Instant) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let carrier = placing.attempt.carrier().clone();
        let channels = Channels { trunk: &carrier.id, max: carrier.trunk.max_channels };
        let has_channel =
            self.switchboard.has_channel(channels) && self.dialling.pass(&carrier.id, &carrier.trunk, now);
        let is_taken = has_channel && self.switchboard.reassign(id, channels).is_ok();
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        if !is_taken {
            placing.attempt.handle_full();
            return self.carry_out_attempt(id);
        }
        tracing::info!(call = %id, "Goes on with another trunk");
        placing.addresses_until = Some(now + ADDRESSES_MAX);
        self.record(id, CallEvent::Carried { trunk_id: carrier.id });
        self.look_for_addresses(id, now);
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
                placing.stream = self.streams.adopt(opened).ok();
                self.handle_connected(id);
            }
            DialProgress::NotConnected(remote, fault) => {
                self.dialling.accounts.lines.handle_tls_fault(remote, fault);
                self.handle_connected(id);
            }
        }
    }

    /// The next INVITE has a connection, or there is none to be had.
    fn handle_connected(&mut self, id: CallId) {
        let is_up = self.dialling.placing.get(&id).is_some_and(|placing| placing.stream.is_some());
        if !is_up {
            self.dialling.mark(id, Heard::Unavailable(None), Instant::now());
        }
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        placing.attempt.handle_connected(is_up);
        self.carry_out_attempt(id);
    }

    pub(super) fn handle_resolved(&mut self, name: &PeerName, located: Located, now: Instant) {
        if located.servers.is_empty() {
            tracing::warn!("The trunk host {} has no address now; calls use what was known of it", name.host);
        }
        self.dialling.trunks.handle_resolved(name, located, now);
        self.apply_advertised(now);
        self.handle_dial_timeout(now);
    }

    /// Goes on with every call whose addresses are known by now, or whose patience is over.
    pub(super) fn handle_dial_timeout(&mut self, now: Instant) {
        self.handle_test_timeout(now);
        self.handle_lead_timeout(now);
        let is_waiting = |placing: &Placing| placing.addresses_until.is_some();
        let placing = self.dialling.placing.iter();
        let waiting: Vec<CallId> = placing.filter(|(_, placing)| is_waiting(placing)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.look_for_addresses(id, now);
        }
        let is_due = |placing: &Placing| placing.attempt.poll_timeout().is_some_and(|at| at <= now);
        let placing = self.dialling.placing.iter();
        let silent: Vec<CallId> = placing.filter(|(_, placing)| is_due(placing)).map(|(id, _)| *id).collect();
        for id in silent {
            self.handle_silence(id, now);
        }
    }

    /// The trunk has said nothing for a while: another way is tried, unless it is at work (RFC 3261 §17.1.1.2).
    fn handle_silence(&mut self, id: CallId, now: Instant) {
        let Some(dialog) = self.switchboard.entry(id).and_then(|entry| entry.dialog) else { return };
        let is_heard = self.endpoint.is_proceeding(dialog);
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        if is_heard {
            return placing.attempt.handle_heard();
        }
        self.dialling.mark(id, Heard::Unavailable(None), now);
        self.switchboard.unbind(id);
        // It is cancelled should a response come after all; nobody waits for that.
        let _ = self.endpoint.hang_up(dialog, None, now);
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_unanswered();
            self.carry_out_attempt(id);
        }
    }

    /// Hands the call to its shard once the trunk's addresses are known.
    fn look_for_addresses(&mut self, id: CallId, now: Instant) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let Some(until) = placing.addresses_until else { return };
        let addresses = match self.dialling.trunks.hops(&placing.attempt.carrier().id, now) {
            None if now < until => return,
            None => Vec::new(),
            Some(mut hops) => {
                hops.retain(|hop| self.listeners.reaches(hop.address));
                hops
            }
        };
        placing.addresses_until = None;
        let Some(addresses) = self.secure_placing(id, addresses) else { return };
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let found = placing.attempt.handle_addresses(addresses);
        let Some(first) = found.filter(|_| !placing.is_at_shard) else { return self.carry_out_attempt(id) };
        placing.is_at_shard = true;
        let security = placing.security.unwrap_or_default();
        let plan = dial_plan(&self.snapshot, placing.attempt.order());
        let local = self.media_address_towards(first, now);
        let placed = PlacedCall { id, plan, local, signalling: first.ip(), seed: self.random.u64(), security };
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
            Some(AttemptOutput::Seize) => self.seize(id, Instant::now()),
            Some(AttemptOutput::Connect(hop)) => match self.streams.towards(hop.address, hop.transport) {
                Some(stream) => {
                    placing.stream = Some(stream);
                    placing.attempt.handle_connected(true);
                    self.carry_out_attempt(id);
                }
                None => self.connect(id, hop),
            },
            Some(AttemptOutput::Invite(hop)) => self.send_invite(id, hop),
            Some(AttemptOutput::GiveUp(outcome)) if placing.is_at_shard => {
                self.dialling.placing.remove(&id);
                self.tell(id, ToCall::Ended(LegId::First, outcome));
            }
            Some(AttemptOutput::GiveUp(outcome)) => self.end_unplaced(id, outcome),
        }
    }

    /// Has a connection made for the next INVITE.
    fn connect(&mut self, id: CallId, hop: Hop) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let peer = PeerIdentity::of_trunk(&placing.attempt.carrier().trunk);
        let port = self.listeners.port_towards(hop.address, hop.transport);
        let connector = self.streams.connector(hop.address, hop.transport, port, peer);
        let inbox = self.dialling.own_inbox.clone();
        tokio::spawn(async move {
            let opened = match connector {
                Ok(connector) => streams::connect(hop.address, connector).await,
                Err(fault) => Err(fault),
            };
            let progress = match opened {
                Ok(opened) => DialProgress::Connected(opened),
                Err(fault) => {
                    tracing::warn!(call = %id, "Cannot reach the trunk: {fault}");
                    DialProgress::NotConnected(hop.address, fault.tls())
                }
            };
            // The thread that asked is the one that is told; it may have stopped.
            let _ = inbox.send(ToSip::Dial(id, progress)).await;
        });
    }

    fn send_invite(&mut self, id: CallId, hop: Hop) {
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        if placing.would_tell_keys_to(hop) {
            tracing::warn!(call = %id, "The trunk leads on to where SIP goes without TLS: no keys are told there");
            placing.attempt.handle_unanswered();
            return self.carry_out_attempt(id);
        }
        let peer = PeerIdentity::of_trunk(&placing.attempt.carrier().trunk);
        let open = placing.stream.take().and_then(|stream| self.streams.flow(stream));
        // A connection that was made and has ended is made anew; what was to go under TLS goes no other way.
        let flow = open.unwrap_or_else(|| self.way_to(hop, peer, Instant::now()));
        let Some(placing) = self.dialling.placing.get_mut(&id) else { return };
        let Some(sdp) = placing.sdp.clone() else { return };
        let Placing { attempt, .. } = placing;
        let carrier = attempt.carrier();
        let who = present(&carrier.trunk, &carrier.presents, None, Disclosure::Shown);
        let mut fields = who.fields;
        let routes = routes(&self.dialling.accounts, &carrier.id, &carrier.trunk);
        fields.extend(routes.into_iter().map(|route| ("Route", route)));
        if !attempt.is_at_trunk() {
            // Whoever a redirection leads to is not the trunk: what only the trunk may know stays with it.
            fields.clear();
        }
        let order = InviteOrder {
            flow,
            request_uri: Uri::Sip(attempt.uri().clone()),
            from: who.from,
            to: format!("<sip:{}@{}>", dialled(&carrier.trunk.numbering, &attempt.order().to), domain(&carrier.trunk)),
            extensions: extensions(&carrier.trunk.signalling),
            fields,
            sdp: sdp.into_bytes(),
            credentials: attempt.is_at_trunk().then(|| credentials(&self.dialling.secret, &carrier.trunk)).flatten(),
        };
        let Ok(dialog) = self.endpoint.invite(order, Instant::now()) else {
            self.dialling.placing.remove(&id);
            self.tell(id, ToCall::Ended(LegId::First, Outcome::new(Blame::Gateway, EndReason::Overloaded)));
            return;
        };
        placing.attempt.handle_sent(Instant::now());
        let is_first = !std::mem::replace(&mut placing.is_initiated, true);
        self.switchboard.bind(id, dialog);
        if is_first {
            self.record(id, CallEvent::Initiated);
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
