//! Leading callers on to other lines: the phones of an extension ring at once, and the first that answers has the call.
//!
//! ```text
//!   shard: Lead ─▶ contacts ─▶ shard makes the offer ─▶ one INVITE each ─▶ 180, 183 ─▶ shard
//!                                                          │ first 200: the others get CANCEL ─▶ shard: Accepted
//!                                                          └ none is left ─▶ shard: Refused
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use talkstack_control::port::{Blame, CallId, EndReason, Outcome};
use talkstack_media::sip::message::{Host, Uri};
use talkstack_media::sip::{DialogId, Event, Extensions, Flow, InviteOrder};

use super::SipThread;
use crate::call::{LegId, LegOrder};
use crate::io::shard::ToCall;
use crate::route::BridgeTarget;

/// Lines that callers are being led on to, until each has answered or refused.
#[derive(Debug, Default)]
pub(super) struct Leading {
    calls: BTreeMap<CallId, Led>,
    /// Where the phones of an extension are.
    pub(super) phones: BTreeMap<String, Vec<Contact>>,
}

/// Where a phone of ours has registered from.
#[derive(Debug, Clone)]
pub(super) struct Contact {
    pub(super) uri: Uri,
    pub(super) flow: Flow,
    /// The value of Route, where it registered through a proxy (RFC 3327).
    pub(super) path: Vec<String>,
}

/// A line that is being called.
#[derive(Debug)]
struct Led {
    order: LegOrder,
    contacts: Vec<Contact>,
    branches: Vec<Branch>,
    /// What the phones that have refused make of it.
    failure: Outcome,
}

/// One phone that rings, or will.
#[derive(Debug, Clone, Copy)]
struct Branch {
    dialog: DialogId,
    signalling: IpAddr,
}

impl SipThread {
    /// Finds the way to another line.
    pub(super) fn handle_lead(&mut self, id: CallId, order: LegOrder) {
        let contacts = match &order.target {
            BridgeTarget::Extension { user, .. } => self.dialling.leading.phones.get(user).cloned().unwrap_or_default(),
            BridgeTarget::Trunk { .. } | BridgeTarget::Agent { .. } => Vec::new(),
        };
        let Some(first) = contacts.first().map(|contact| contact.flow) else {
            self.tell(id, ToCall::Refused(UNREACHABLE));
            return;
        };
        self.dialling.leading.calls.insert(id, Led { order, contacts, branches: Vec::new(), failure: UNREACHABLE });
        let local = self.config.advertised_ip.unwrap_or(first.local.ip());
        let seed = self.random.u64();
        self.tell(id, ToCall::Line { local, signalling: first.remote.ip(), seed });
    }

    /// The second leg's offer is there: every phone gets it.
    pub(super) fn handle_led_offer(&mut self, id: CallId, sdp: &str) {
        let Some(led) = self.dialling.leading.calls.get_mut(&id) else { return };
        for contact in std::mem::take(&mut led.contacts).into_iter().take(BRANCHES_MAX) {
            let order = invite_order(&led.order, contact, self.config.advertised.as_ref(), sdp);
            let signalling = order.flow.remote.ip();
            if let Ok(dialog) = self.endpoint.invite(order, Instant::now()) {
                self.switchboard.enter_branch(id, dialog);
                led.branches.push(Branch { dialog, signalling });
            } else {
                led.failure = Outcome::new(Blame::Gateway, EndReason::Overloaded);
            }
        }
        self.give_up_led(id);
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
            Event::Progressed { sdp, .. } => {
                self.tell(id, ToCall::Progressed(LegId::Second, sdp));
            }
            Event::Accepted { sdp, .. } => self.handle_led_accepted(id, dialog, sdp),
            Event::Refused { status, .. } => self.handle_led_refused(id, dialog, Some(status)),
            _ => self.handle_led_refused(id, dialog, None),
        }
        None
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
        self.cancel_branches(led, Some(dialog));
        self.switchboard.bind_leg(id, LegId::Second, dialog);
        self.save_dialog(id, dialog);
        let accepted = ToCall::Accepted { leg: LegId::Second, sdp, signalling: branch.signalling };
        if self.tell(id, accepted) != Some(true) {
            self.end_leg(id, LegId::Second, Outcome::new(Blame::Gateway, EndReason::Overloaded));
        }
    }

    fn handle_led_refused(&mut self, id: CallId, dialog: DialogId, status: Option<u16>) {
        self.switchboard.leave(dialog);
        let Some(led) = self.dialling.leading.calls.get_mut(&id) else { return };
        led.branches.retain(|branch| branch.dialog != dialog);
        let failure = status.map_or(UNREACHABLE, outcome_of);
        // One that is there and refuses says more than one that is not.
        if weight(failure) >= weight(led.failure) {
            led.failure = failure;
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

fn invite_order(
    order: &LegOrder,
    contact: Contact,
    advertised: Option<&(String, Option<u16>)>,
    sdp: &str,
) -> InviteOrder {
    let host = advertised.map_or_else(|| Host::Ip(contact.flow.local.ip()).to_string(), |(host, _)| host.clone());
    let user = match &order.target {
        BridgeTarget::Extension { user, .. } => user,
        BridgeTarget::Trunk { .. } | BridgeTarget::Agent { .. } => &order.called,
    };
    let name = order.caller_name.as_deref().map(quoted).unwrap_or_default();
    InviteOrder {
        extensions: Extensions::default(),
        flow: contact.flow,
        from: format!("{name}<sip:{}@{host}>", order.caller),
        to: format!("<sip:{user}@{host}>"),
        request_uri: contact.uri,
        fields: contact.path.into_iter().map(|route| ("Route", route)).collect(),
        sdp: sdp.as_bytes().to_vec(),
        credentials: None,
    }
}

/// A display name as a quoted string (RFC 3261 §25.1), with a space behind it.
fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 3);
    quoted.push('"');
    for letter in name.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push_str("\" ");
    quoted
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

/// 10 phones of one extension, as many as may register.
const BRANCHES_MAX: usize = 10;
