//! Leading callers on to other lines: the phones of an extension ring at once, and the first that answers has the call.
//!
//! ```text
//!   shard: Lead ─▶ contacts ─▶ shard makes the offer ─▶ one INVITE each ─▶ 180, 183 ─▶ shard
//!                                                          │ first 200: the others get CANCEL ─▶ shard: Accepted
//!                                                          └ none is left ─▶ shard: Refused
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use talkstack_control::port::{Blame, CallId, EndReason, Outcome, TrunkRoute};
use talkstack_media::sip::message::Uri;
use talkstack_media::sip::registrar::Way;
use talkstack_media::sip::{DialogId, Event, Extensions, InviteOrder};

use super::SipThread;
use super::dial::{credentials, routes};
use super::extensions::extensions;
use super::security::Wanted;
use super::tls::PeerIdentity;
use crate::call::{LegId, LegOrder};
use crate::caller_id::{Presentation, anonymous, present, quoted};
use crate::dial::{SILENCE, uri_on};
use crate::io::shard::ToCall;
use crate::route::BridgeTarget;
use crate::switchboard::Channels;

/// Lines that callers are being led on to, until each has answered or refused.
#[derive(Debug, Default)]
pub(super) struct Leading {
    calls: BTreeMap<CallId, Led>,
    /// Calls that have been told the way for a caller whom their agent puts through, and have not set out.
    promised: BTreeSet<CallId>,
    /// INVITEs that are about to take the place of an answered dialog, and that dialog.
    pub(super) replaced: HashMap<DialogId, DialogId>,
}

/// A line that is being called.
#[derive(Debug)]
struct Led {
    order: LegOrder,
    /// Where it has not been called yet.
    ways: VecDeque<Way>,
    sdp: Option<String>,
    branches: Vec<Branch>,
    /// When the address that is being called has said nothing for too long, and there is another one.
    silent_until: Option<Instant>,
    /// What the phones that have refused make of it.
    failure: Outcome,
}

/// One phone that rings, or will.
#[derive(Debug, Clone, Copy)]
struct Branch {
    dialog: DialogId,
    remote: SocketAddr,
}

impl Led {
    fn new(order: LegOrder, ways: Vec<Way>) -> Self {
        Led { order, ways: ways.into(), sdp: None, branches: Vec::new(), silent_until: None, failure: UNREACHABLE }
    }

    /// The trunk that is called: its addresses are tried one after the other, while the phones of an extension ring at
    /// once.
    fn trunk(&self) -> Option<&str> {
        match &self.order.target {
            BridgeTarget::Trunk { trunk_id, .. } => Some(trunk_id),
            BridgeTarget::Extension { .. } | BridgeTarget::Agent { .. } => None,
        }
    }
}

impl Leading {
    /// A call has been told the way for a caller whom its agent puts through.
    pub(super) fn promise(&mut self, id: CallId) {
        self.promised.insert(id);
    }

    /// Whether another line is being called for a call, or is about to be.
    pub(super) fn is_leading(&self, id: CallId) -> bool {
        self.calls.contains_key(&id) || self.promised.contains(&id)
    }

    /// When [`SipThread::handle_lead_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.calls.values().filter_map(|led| led.silent_until).min()
    }
}

impl SipThread {
    /// Finds the way to another line.
    pub(super) fn handle_lead(&mut self, id: CallId, order: LegOrder) {
        let now = Instant::now();
        self.dialling.leading.promised.remove(&id);
        let ways = match &order.target {
            BridgeTarget::Extension { user, .. } => Ok(self.dialling.accounts.phones.ways(user, now)),
            BridgeTarget::Trunk { trunk_id, number, .. } => {
                self.ways_out(id, trunk_id, number, order.is_emergency, now)
            }
            BridgeTarget::Agent { .. } => Ok(Vec::new()),
        };
        let wanted = self.wanted_of(&order.target);
        let ways = ways.and_then(|ways| fit(ways, wanted));
        let found = ways.and_then(|ways| Ok((ways.first().ok_or(UNREACHABLE)?.flow, ways)));
        let (first, ways) = match found {
            Ok(found) => found,
            Err(failure) => {
                self.tell(id, ToCall::Refused(failure));
                return;
            }
        };
        let security = self.security_towards(wanted, ways.iter().map(|way| way.flow.transport));
        self.dialling.leading.calls.insert(id, Led::new(order, ways));
        let local = self.media_address(&first);
        let seed = self.random.u64();
        self.tell(id, ToCall::Line { local, signalling: first.remote.ip(), seed, security: Box::new(security) });
    }

    /// The addresses of a trunk that has a channel left. Who calls for help needs none.
    fn ways_out(
        &mut self,
        id: CallId,
        trunk_id: &str,
        number: &str,
        is_emergency: bool,
        now: Instant,
    ) -> Result<Vec<Way>, Outcome> {
        let trunk = self.snapshot.trunks.get(trunk_id).cloned().ok_or(NO_TRUNK)?;
        let max = if is_emergency { u32::MAX } else { trunk.max_channels };
        if self.switchboard.occupy(id, Channels { trunk: trunk_id, max }).is_err() {
            tracing::info!(call = %id, "The trunk {} has no channel left", trunk.name);
            return Err(Outcome::new(Blame::Operator, EndReason::Overloaded));
        }
        if !is_emergency && !self.dialling.pass(trunk_id, &trunk, now) {
            tracing::info!(call = %id, "The trunk {} takes no more calls in this second", trunk.name);
            return Err(Outcome::new(Blame::Operator, EndReason::Overloaded));
        }
        let Some(hops) = self.dialling.trunks.hops(trunk_id, now) else { return Err(UNREACHABLE) };
        let reached = hops.into_iter().filter(|hop| self.listeners.reaches(hop.address)).collect::<Vec<_>>();
        let routes = routes(&self.dialling.accounts, trunk_id, &trunk);
        let ways = reached.into_iter().map(|hop| Way {
            uri: Uri::Sip(uri_on(&trunk, number)),
            routes: routes.clone(),
            flow: self.way_to(hop, PeerIdentity::of_trunk(&trunk), now),
        });
        Ok(ways.collect())
    }

    /// The second leg's offer is there: every phone gets it, or the first address of a trunk.
    pub(super) fn handle_led_offer(&mut self, id: CallId, sdp: &str) {
        let Some(led) = self.dialling.leading.calls.get_mut(&id) else { return };
        led.sdp = Some(sdp.to_owned());
        let count = if led.trunk().is_some() { 1 } else { BRANCHES_MAX };
        for _ in 0..count {
            self.invite_next(id);
        }
        self.give_up_led(id);
    }

    /// Calls the line at the next place where it may be.
    fn invite_next(&mut self, id: CallId) {
        let Some(led) = self.dialling.leading.calls.get_mut(&id) else { return };
        let (Some(sdp), Some(way)) = (led.sdp.as_deref(), led.ways.pop_front()) else { return };
        let host = self.addresses.advertised.host(&way.flow);
        let mut order = invite_order(&led.order, way, &host, sdp);
        if let BridgeTarget::Trunk { trunk_id, .. } = &led.order.target
            && let Some(trunk) = self.snapshot.trunks.get(trunk_id)
        {
            order.credentials = credentials(&self.dialling.secret, trunk);
            order.extensions = extensions(&trunk.signalling);
            let who = presented(&led.order, trunk);
            order.from = who.from;
            order.fields.extend(who.fields);
        }
        let (remote, now) = (order.flow.remote, Instant::now());
        if let Ok(dialog) = self.endpoint.invite(order, now) {
            self.switchboard.enter_branch(id, dialog);
            led.branches.push(Branch { dialog, remote });
            led.silent_until = (led.trunk().is_some() && !led.ways.is_empty()).then_some(now + SILENCE);
        } else {
            led.failure = Outcome::new(Blame::Gateway, EndReason::Overloaded);
        }
    }

    /// Takes what happened to a second leg that has not answered; gives back what is none of its business.
    pub(super) fn handle_led_event(&mut self, event: Event) -> Option<Event> {
        let (Event::Progressed { dialog, .. }
        | Event::Accepted { dialog, .. }
        | Event::Refused { dialog, .. }
        | Event::Unanswered { dialog }) = &event
        else {
            return Some(event);
        };
        let dialog = *dialog;
        let Some((id, LegId::Second)) = self.switchboard.leg_of(dialog) else { return Some(event) };
        match event {
            Event::Progressed { sdp, status, .. } => {
                self.tell_transferor(id, status);
                self.tell(id, ToCall::Progressed(LegId::Second, sdp));
            }
            Event::Accepted { sdp, .. } => self.handle_led_accepted(id, dialog, sdp),
            Event::Refused { status, .. } => self.handle_led_refused(id, dialog, Some(status)),
            _ => self.handle_led_refused(id, dialog, None),
        }
        None
    }

    /// Calls the next address of a trunk whose address has said nothing for a while (RFC 3261 §17.1.1.2).
    pub(super) fn handle_lead_timeout(&mut self, now: Instant) {
        let is_due = |led: &Led| led.silent_until.is_some_and(|until| until <= now);
        let calls = self.dialling.leading.calls.iter();
        let due: Vec<CallId> = calls.filter(|(_, led)| is_due(led)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(led) = self.dialling.leading.calls.get_mut(&id) else { continue };
            led.silent_until = None;
            if led.branches.iter().any(|branch| self.endpoint.is_proceeding(branch.dialog)) {
                continue;
            }
            let silent = std::mem::take(&mut led.branches);
            // They are cancelled should a response come after all; nobody waits for that.
            self.hang_up_branches(&silent);
            self.go_on_elsewhere(id, &silent, now);
        }
    }

    /// Calls a trunk at the next of its addresses (RFC 3263 §4.3); those that have failed come last for a while.
    fn go_on_elsewhere(&mut self, id: CallId, failed: &[Branch], now: Instant) {
        let led = self.dialling.leading.calls.get(&id);
        let Some(trunk_id) = led.and_then(Led::trunk) else { return };
        for branch in failed {
            self.dialling.trunks.handle_failed(trunk_id, branch.remote, None, now);
        }
        self.invite_next(id);
        self.give_up_led(id);
    }

    fn handle_led_accepted(&mut self, id: CallId, dialog: DialogId, sdp: Option<Vec<u8>>) {
        let led = self.dialling.leading.calls.remove(&id);
        let branch = led.as_ref().and_then(|led| led.branches.iter().find(|branch| branch.dialog == dialog));
        let Some(branch) = branch.copied() else {
            // Another phone was faster.
            self.switchboard.leave(dialog);
            let _ = self.endpoint.hang_up(dialog, None, Instant::now());
            return;
        };
        let target = led.as_ref().map(|led| led.order.target.clone());
        self.cancel_branches(led, Some(dialog));
        self.switchboard.bind_leg(id, LegId::Second, dialog);
        if let Some(BridgeTarget::Extension { user, .. }) = &target {
            self.switchboard.set_party(dialog, user);
        }
        self.save_dialog(id, dialog);
        let accepted = ToCall::Accepted { leg: LegId::Second, sdp, signalling: branch.remote.ip() };
        if self.tell(id, accepted) != Some(true) {
            self.end_leg(id, LegId::Second, Outcome::new(Blame::Gateway, EndReason::Overloaded));
        }
    }

    fn handle_led_refused(&mut self, id: CallId, dialog: DialogId, status: Option<u16>) {
        self.switchboard.leave(dialog);
        let Some(led) = self.dialling.leading.calls.get_mut(&id) else { return };
        let place = led.branches.iter().position(|branch| branch.dialog == dialog);
        let branch = place.map(|place| led.branches.remove(place));
        let failure = status.map_or(UNREACHABLE, outcome_of);
        // One that is there and refuses says more than one that is not.
        if weight(failure) >= weight(led.failure) {
            led.failure = failure;
        }
        // A server that cannot, or says nothing, is passed over.
        if led.trunk().is_some() && status.is_none_or(|status| status == 503) {
            return self.go_on_elsewhere(id, branch.as_slice(), Instant::now());
        }
        // RFC 3261 §21.6: who says 6xx speaks for all of the user's phones.
        if status.is_some_and(|status| status >= 600) {
            let branches = std::mem::take(&mut led.branches);
            led.failure = failure;
            self.hang_up_branches(&branches);
        }
        self.give_up_led(id);
    }

    /// Tells the call when no phone is left that could answer.
    fn give_up_led(&mut self, id: CallId) {
        if let Some(led) = self.dialling.leading.calls.get(&id)
            && led.branches.is_empty()
        {
            let failure = led.failure;
            self.dialling.leading.calls.remove(&id);
            self.tell(id, ToCall::Refused(failure));
        }
    }

    /// The call does not want the line any more.
    pub(super) fn abandon_led(&mut self, id: CallId) {
        self.dialling.leading.promised.remove(&id);
        let led = self.dialling.leading.calls.remove(&id);
        self.cancel_branches(led, None);
    }

    fn cancel_branches(&mut self, led: Option<Led>, except: Option<DialogId>) {
        let mut branches = led.map(|led| led.branches).unwrap_or_default();
        branches.retain(|branch| Some(branch.dialog) != except);
        self.hang_up_branches(&branches);
    }

    fn hang_up_branches(&mut self, branches: &[Branch]) {
        for branch in branches {
            self.switchboard.leave(branch.dialog);
            // One that is gone already needs no CANCEL.
            let _ = self.endpoint.hang_up(branch.dialog, None, Instant::now());
        }
    }
}

fn invite_order(order: &LegOrder, contact: Way, host: &str, sdp: &str) -> InviteOrder {
    let (caller, to) = match &order.target {
        BridgeTarget::Trunk { number, from, .. } => {
            let to = contact.uri.sip().map_or_else(|| format!("<sip:{number}@{host}>"), |uri| format!("<{uri}>"));
            (from.as_ref().unwrap_or(&order.caller), to)
        }
        BridgeTarget::Extension { user, .. } => (&order.caller, format!("<sip:{user}@{host}>")),
        BridgeTarget::Agent { .. } => (&order.caller, format!("<sip:{}@{host}>", order.called)),
    };
    let name = order.caller_name.as_deref().map(|name| quoted(name.chars())).unwrap_or_default();
    InviteOrder {
        extensions: Extensions::default(),
        flow: contact.flow,
        from: format!("{name}<sip:{caller}@{host}>"),
        to,
        request_uri: contact.uri,
        fields: contact.routes.into_iter().map(|route| ("Route", route)).collect(),
        sdp: sdp.as_bytes().to_vec(),
        credentials: None,
    }
}

/// What a trunk is told of the caller. Who calls for help is told with the trunk's own number rather than with none.
fn presented(order: &LegOrder, trunk: &TrunkRoute) -> Presentation {
    let wanted = match &order.target {
        BridgeTarget::Trunk { from: Some(from), .. } => from,
        _ => &order.caller,
    };
    let own = || trunk.numbers.first().map(|number| format!("+{number}"));
    match trunk.presents(wanted).or_else(|| own().filter(|_| order.is_emergency)) {
        Some(number) => present(trunk, &number, order.caller_name.as_deref(), order.disclosure),
        None => anonymous(trunk),
    }
}

/// The ways that an offer may go. None is left where all would tell keys to everybody.
fn fit(mut ways: Vec<Way>, wanted: Wanted) -> Result<Vec<Way>, Outcome> {
    let is_there = !ways.is_empty();
    ways.retain(|way| wanted.may_go_over(way.flow.transport));
    if is_there && ways.is_empty() { Err(KEYS_UNTOLD) } else { Ok(ways) }
}

/// What a phone's final response says about the call.
fn outcome_of(status: u16) -> Outcome {
    match status {
        486 | 600 => Outcome::new(Blame::Caller, EndReason::Busy),
        408 | 480 | 487 => Outcome::new(Blame::Caller, EndReason::NoAnswer),
        488 | 606 => Outcome::new(Blame::Caller, EndReason::NoCommonCodec),
        500.. => Outcome::new(Blame::Trunk, EndReason::Rejected),
        _ => Outcome::new(Blame::Caller, EndReason::Rejected),
    }
}

/// How much a failure tells of the person who was called.
fn weight(failure: Outcome) -> u8 {
    match failure.reason {
        EndReason::Busy => 3,
        EndReason::Rejected => 2,
        EndReason::NoAnswer => 1,
        _ => 0,
    }
}

/// No phone has registered, or none says anything.
const UNREACHABLE: Outcome = Outcome::new(Blame::Trunk, EndReason::Unreachable);

/// The owner wants SRTP, and SIP without TLS would tell its keys.
const KEYS_UNTOLD: Outcome = Outcome::new(Blame::Operator, EndReason::KeysUntold);

/// The trunk is gone from the configuration.
const NO_TRUNK: Outcome = Outcome::new(Blame::Operator, EndReason::NoTrunk);

/// 10 phones of one extension, as many as may register.
const BRANCHES_MAX: usize = 10;

#[cfg(test)]
mod tests;
