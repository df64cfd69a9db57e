//! Calls that we place (RFC 3261 §8.1, §9.1, §13.2, §17.1.1).
//!
//! ```text
//!   invite ─▶ INVITE, repeated ── 180–199 ──▶ Progressed
//!     ▲         │   │   │ 2xx ─▶ ACK ─▶ Accepted ── as any dialog ──▶ over
//!     │ 401/407 │   │   └ ≥ 300 ─▶ ACK ─▶ Refused
//!     └─────────┘   │ nothing for 64·T1, or handle_unreachable ─▶ Unanswered
//!                   └ hang_up ─▶ CANCEL (after the first 1xx) ─▶ 487, or 2xx ─▶ ACK, BYE
//! ```

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use super::account::{Account, Tried};
use super::progress::Early;
use super::{Ask, Extensions, Far, Session, State, contact, reason_value};
use crate::sip::dialog::Dialog;
use crate::sip::digest::Credentials;
use crate::sip::endpoint::extensions::Reliable;
use crate::sip::endpoint::large::{Fitted, Spare};
use crate::sip::endpoint::respond::clean;
use crate::sip::endpoint::{
    Client, DialogId, Endpoint, Event, Flow, Output, Purpose, Timer, TransactionKey, Transport,
};
use crate::sip::message::{COOKIE, Method, Uri};
use crate::sip::transaction::client_invite::{Action, ClientInvite};
use crate::sip::transaction::client_non_invite::ClientNonInvite;

/// A call to place.
#[derive(Clone)]
pub struct InviteOrder {
    /// Over what, from which address of ours, to which of theirs; over TCP `stream` names an open stream.
    pub flow: Flow,
    /// Whom to ask for, such as `sip:+15551234567@trunk.example:5060`. Header fields in it are left out.
    pub request_uri: Uri,
    /// The whole value of From, without tag: `<sip:+15557654321@host>`.
    pub from: String,
    /// The whole value of To, without tag.
    pub to: String,
    /// Further header fields, such as P-Asserted-Identity. A Route goes into everything that belongs to the INVITE.
    pub fields: Vec<(&'static str, String)>,
    /// Our offer; empty asks the far end for its own, which [`Endpoint::answer`] answers.
    pub sdp: Vec<u8>,
    /// What a 401 or 407 from `flow.remote` is answered with, in this dialog and no other; without them it is
    /// [`Event::Refused`].
    pub credentials: Option<Credentials>,
    /// What the call uses of SIP's extensions.
    pub extensions: Extensions,
}

/// Names and numbers are personal.
impl fmt::Debug for InviteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteOrder").field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// A call that could not be placed; nothing was sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum InviteError {
    /// `dialogs_max` dialogs are up, or more INVITEs linger than the endpoint remembers. Load; try again in seconds.
    #[error("too many dialogs are up")]
    Overloaded,
}

/// All that the endpoint knows of calls it places.
#[derive(Debug, Default)]
pub(in crate::sip::endpoint) struct Outgoing {
    pub(super) invites: HashMap<TransactionKey, Invite>,
    pub(super) calls: HashMap<DialogId, Calling>,
}

impl Outgoing {
    /// The transaction of an INVITE that begins a call, and where it goes.
    pub(in crate::sip::endpoint) fn first_invite(
        &mut self,
        key: &TransactionKey,
    ) -> Option<(&Flow, &mut ClientInvite)> {
        let invite = self.invites.get_mut(key).filter(|invite| !invite.is_again)?;
        Some((&invite.flow, &mut invite.machine))
    }

    pub(in crate::sip::endpoint) fn invites_mut(&mut self) -> impl Iterator<Item = (&TransactionKey, &mut Invite)> {
        self.invites.iter_mut()
    }
}

/// One INVITE transaction. It outlives its call: copies of the final response still want their ACK.
#[derive(Debug)]
pub(in crate::sip::endpoint) struct Invite {
    pub(in crate::sip::endpoint) machine: ClientInvite,
    pub(in crate::sip::endpoint) flow: Flow,
    pub(super) dialog: DialogId,
    pub(in crate::sip::endpoint) sent: Sent,
    /// One for each branch of a fork that answered.
    pub(in crate::sip::endpoint) acks: Vec<Acknowledgement>,
    /// It is a re-INVITE.
    pub(super) is_again: bool,
    pub(in crate::sip::endpoint) spare: Option<Box<Spare>>,
}

/// What was sent, as far as its ACK and CANCEL repeat it.
#[derive(Debug, Clone)]
pub(in crate::sip::endpoint) struct Sent {
    /// The dialog before anybody answered.
    pub(super) dialog: Dialog,
    pub(in crate::sip::endpoint) via: String,
    pub(super) cseq: u32,
    /// Authorization and Proxy-Authorization (RFC 3261 §22.1).
    pub(super) credentials: Vec<(&'static str, String)>,
}

/// The ACK of a 2xx.
#[derive(Debug)]
pub(in crate::sip::endpoint) struct Acknowledgement {
    pub(super) to_tag: String,
    pub(in crate::sip::endpoint) flow: Flow,
    pub(in crate::sip::endpoint) bytes: Vec<u8>,
    pub(in crate::sip::endpoint) spare: Option<Box<Spare>>,
}

/// A call without a final response.
#[derive(Debug)]
pub(super) struct Calling {
    /// The INVITE that waits.
    pub(super) key: TransactionKey,
    /// The dialog that each INVITE of this call begins with.
    start: Dialog,
    fields: Vec<(&'static str, String)>,
    sdp: Vec<u8>,
    pub(super) tried: Vec<Tried>,
    pub(super) earlies: Vec<Early>,
    /// The number of the last branch of a fork.
    pub(super) branches: u32,
    /// How often it asked with a longer session interval.
    longer: u32,
    /// Some response has come to the INVITE that waits: it may be cancelled (RFC 3261 §9.1).
    pub(super) is_proceeding: bool,
    pub(super) leaving: Option<Leaving>,
}

/// The user wants the call no more.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) reason: Option<String>,
    /// CANCEL is out: when the INVITE is forgotten.
    give_up: Option<Instant>,
}

impl Endpoint {
    /// Places a call. [`Event::Progressed`], [`Event::Accepted`], [`Event::Refused`] and [`Event::Unanswered`] tell
    /// what becomes of it. How long it rings is the user's to decide: [`Endpoint::hang_up`] cancels it.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn invite(&mut self, order: InviteOrder, now: Instant) -> Result<DialogId, InviteError> {
        let is_full = self.sessions.len() >= self.config.dialogs_max;
        if is_full || self.outgoing.invites.len() >= INVITES_MAX {
            self.counters.overloaded += 1;
            return Err(InviteError::Overloaded);
        }
        let InviteOrder { flow, request_uri, from, to, fields, sdp, credentials, extensions } = order;
        let (call_id, tag) = (format!("{}{}", self.tag(), self.tag()), self.tag());
        let (routes, fields): (Vec<_>, Vec<_>) = fields
            .into_iter()
            .map(|(name, value)| (name, clean(&value)))
            .partition(|(name, _)| name.eq_ignore_ascii_case("Route"));
        let routes = routes.into_iter().map(|(_, value)| value).collect();
        let start = Dialog::of_order(call_id, tag, &clean(&from), &clean(&to), without_headers(request_uri), routes);
        let mut session = Session::new(Far::new(start.clone()), flow, State::Calling);
        session.account = credentials.map(|credentials| Account::new(credentials, flow.remote.ip()));
        session.extensions = extensions;
        self.next_dialog += 1;
        let id = DialogId(self.next_dialog);
        self.sessions.insert(id, session);
        let calling = Calling {
            key: TransactionKey("".into()),
            start,
            fields,
            sdp,
            tried: Vec::new(),
            earlies: Vec::new(),
            branches: 0,
            longer: 0,
            is_proceeding: false,
            leaving: None,
        };
        self.outgoing.calls.insert(id, calling);
        self.send_invite(id, now);
        Ok(id)
    }

    /// The transport failed before an answer (RFC 3261 §17.1.4): [`Event::Unanswered`]. An answered dialog stays.
    pub fn handle_unreachable(&mut self, dialog: DialogId, now: Instant) {
        self.end_unanswered(dialog, now);
    }

    /// Tells whether any response has come to the INVITE of a call that we placed, a 100 included.
    pub fn is_proceeding(&self, dialog: DialogId) -> bool {
        self.outgoing.calls.get(&dialog).is_none_or(|calling| calling.is_proceeding)
    }

    /// The header `Call-ID` of a dialog.
    pub fn call_id_of(&self, dialog: DialogId) -> Option<&str> {
        self.sessions.get(&dialog).map(|session| session.far.dialog.call_id.as_str())
    }

    /// Sends the call's INVITE, with answers to all challenges met so far, as a transaction of its own.
    pub(super) fn send_invite(&mut self, id: DialogId, now: Instant) {
        let (branch, cnonce) = (format!("{COOKIE}{}", self.tag()), self.tag());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return };
        let flow = session.flow;
        let cseq = calling.start.next_cseq();
        // Early dialogs of an INVITE that was challenged are over.
        for early in calling.earlies.drain(..) {
            self.by_tags.remove(&early.far.tags());
        }
        let is_by_datagram = session.far.is_by_datagram || flow.transport == Transport::Udp;
        session.far = Far { is_by_datagram, ..Far::new(calling.start.clone()) };
        if !calling.sdp.is_empty() {
            session.far.descriptions.offer(&calling.sdp);
        }
        let credentials = match &mut session.account {
            Some(account) => account.fields(&Method::Invite, &calling.start.request_uri(), &cnonce),
            None => Vec::new(),
        };
        let mut fields = vec![("User-Agent", self.config.server.clone())];
        fields.extend(session.extensions.fields());
        if session.extensions.reliable == Reliable::Required {
            fields.push(("Require", "100rel".into()));
        }
        fields.extend(super::timing::offered(session.extensions.session_expires, session.timing.min()));
        fields.extend(calling.fields.iter().chain(&credentials).cloned());
        if !calling.sdp.is_empty() {
            fields.push(("Content-Type", "application/sdp".into()));
        }
        let key = TransactionKey(format!("{branch}|{}", Method::Invite).into());
        calling.key = key.clone();
        calling.is_proceeding = false;
        let (start, sdp) = (calling.start.clone(), calling.sdp.clone());
        let Fitted { flow, via, bytes, spare } = self.fit(flow, &branch, now, |flow, via| {
            let contact = ("Contact", contact(&self.config.advertised, flow, &start));
            start.write(&Method::Invite, cseq, via, &[&[contact], &fields[..]].concat(), &sdp)
        });
        let machine = ClientInvite::new(bytes.clone(), flow.reliability(), self.config.timers, now);
        let sent = Sent { dialog: start, via, cseq, credentials };
        self.send_fitted(flow, bytes, spare.as_deref());
        let invite = Invite { machine, flow, dialog: id, sent, acks: Vec::new(), is_again: false, spare };
        self.outgoing.invites.insert(key.clone(), invite);
        self.schedule_invite(key);
    }

    /// Withdraws a call: at once where the far end is known to have the INVITE, else at its first response.
    pub(super) fn cancel(&mut self, id: DialogId, reason: Option<String>, now: Instant) {
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return };
        let is_proceeding = calling.is_proceeding;
        calling.leaving.get_or_insert(Leaving { reason, give_up: None });
        if is_proceeding {
            self.send_cancel(id, now);
        }
    }

    /// Sends the CANCEL of a call that is to end, once (RFC 3261 §9.1).
    pub(super) fn send_cancel(&mut self, id: DialogId, now: Instant) {
        let give_up = now + self.config.timers.timeout();
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return };
        let Some(leaving) = calling.leaving.as_mut().filter(|leaving| leaving.give_up.is_none()) else { return };
        leaving.give_up = Some(give_up);
        let (key, reason) = (calling.key.clone(), leaving.reason.clone());
        self.send_cancel_of(&key, reason, now);
        self.schedule_session(id);
    }

    /// Sends the CANCEL of an INVITE or re-INVITE.
    pub(super) fn send_cancel_of(&mut self, key: &TransactionKey, reason: Option<String>, now: Instant) {
        let Some(Invite { sent, dialog: id, flow: sent_over, .. }) = self.outgoing.invites.get(key) else { return };
        // Over TCP the stream that its responses come by is the one that is surely open.
        let Some(flow) = self.sessions.get(id).map(|session| session.flow) else { return };
        let flow = if flow.transport == sent_over.transport { flow } else { *sent_over };
        let id = *id;
        let fields: Vec<_> = reason.iter().map(|reason| ("Reason", reason_value(487, reason))).collect();
        let bytes = sent.dialog.write(&Method::Cancel, sent.cseq, &sent.via, &fields, b"");
        let branch = key.0.split('|').next().unwrap_or_default();
        let key = TransactionKey(format!("{branch}|{}", Method::Cancel).into());
        let machine = ClientNonInvite::new(bytes.clone(), flow.reliability(), self.config.timers, now);
        let ask = Ask::new(Purpose::Cancel);
        self.clients.insert(key.clone(), Client { machine, flow, dialog: id, ask, tried: Vec::new(), spare: None });
        self.send(flow, bytes);
        self.schedule_client(key);
    }

    /// The far end took the CANCEL and never answered the INVITE: both are forgotten (RFC 3261 §9.1).
    pub(super) fn handle_cancel_timeout(&mut self, id: DialogId, now: Instant) {
        let Some(calling) = self.outgoing.calls.get(&id) else { return };
        if calling.leaving.as_ref().and_then(|leaving| leaving.give_up).is_some_and(|give_up| give_up <= now) {
            self.outgoing.invites.remove(&calling.key);
            self.forget_call(id);
        }
    }

    pub(in crate::sip::endpoint) fn handle_invite_timeout(&mut self, key: TransactionKey, now: Instant) {
        let Some(invite) = self.outgoing.invites.get_mut(&key) else { return };
        let (id, is_again) = (invite.dialog, invite.is_again);
        match invite.machine.handle_timeout(now) {
            Action::Send(bytes) => {
                self.outputs.push_back(Output::Send { flow: invite.flow, bytes: bytes.to_vec() });
            }
            Action::TimedOut if is_again => {
                self.outgoing.invites.remove(&key);
                return self.handle_reoffer_lost(id, now);
            }
            Action::TimedOut => return self.end_unanswered(id, now),
            Action::Nothing => {}
        }
        // A re-INVITE that rings on behind the end of its dialog.
        let is_abandoned = is_again && invite.machine.poll_timeout().is_none() && !self.sessions.contains_key(&id);
        if invite.machine.is_terminated() || is_abandoned {
            self.outgoing.invites.remove(&key);
        } else {
            self.schedule_invite(key);
        }
    }

    /// The stream of INVITEs that nothing was heard of has ended. One that was heard of may be answered on another
    /// (RFC 3261 §18.2.2).
    pub(super) fn end_unheard(&mut self, closed: &Flow, now: Instant) {
        let is_unheard = |(id, calling): (&DialogId, &Calling)| {
            let invite = self.outgoing.invites.get(&calling.key)?;
            (!calling.is_proceeding && invite.flow.is_by(closed)).then_some(*id)
        };
        let unheard: Vec<DialogId> = self.outgoing.calls.iter().filter_map(is_unheard).collect();
        for id in unheard {
            self.end_unanswered(id, now);
        }
    }

    fn end_unanswered(&mut self, id: DialogId, now: Instant) {
        let Some(calling) = self.outgoing.calls.get(&id) else { return };
        self.outgoing.invites.remove(&calling.key);
        self.end_waiting(id, now);
        if !self.forget_call(id) {
            self.outputs.push_back(Output::Event(Event::Unanswered { dialog: id }));
        }
    }

    /// Forgets a call that was not answered; `true` when its user had hung up.
    pub(super) fn forget_call(&mut self, id: DialogId) -> bool {
        self.forget_session(id);
        let Some(calling) = self.outgoing.calls.remove(&id) else { return false };
        for early in &calling.earlies {
            self.by_tags.remove(&early.far.tags());
        }
        calling.leaving.is_some()
    }

    pub(super) fn schedule_invite(&mut self, key: TransactionKey) {
        let at = self.outgoing.invites.get(&key).and_then(|invite| invite.machine.poll_timeout());
        self.timers.extend(at.map(|at| (at, Timer::Client(key))));
    }

    /// Takes in a dialog that was answered.
    pub(super) fn adopt_session(&mut self, session: Session) -> DialogId {
        self.next_dialog += 1;
        let id = DialogId(self.next_dialog);
        self.by_tags.insert(session.far.tags(), id);
        self.sessions.insert(id, session);
        id
    }
}

impl Calling {
    /// When its CANCEL is given up.
    pub(super) fn give_up(&self) -> Option<Instant> {
        self.leaving.as_ref()?.give_up
    }

    /// Tells whether the INVITE may go out with a longer session interval again.
    pub(super) fn may_ask_longer(&mut self) -> bool {
        self.longer += 1;
        self.longer <= LONGER_MAX
    }
}

/// RFC 3261 §19.1.1: header fields have no place in a Request-URI.
fn without_headers(uri: Uri) -> Uri {
    match uri {
        Uri::Sip(mut uri) => {
            uri.headers = None;
            Uri::Sip(uri)
        }
        uri => uri,
    }
}

/// 2 proxies in a row that each want a longer session interval.
const LONGER_MAX: u32 = 2;

/// 16,384 INVITEs, each remembered for 64·T1 behind its end: 170 calls placed a second with two challenges each.
const INVITES_MAX: usize = 1 << 14;
