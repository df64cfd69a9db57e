//! What we ask of a session that is up: another description, or a refresh (RFC 3261 §14.1, RFC 3311, RFC 4028 §10).
//!
//! ```text
//!   reinvite ─▶ Ready ── the dialog is free ──▶ Asked ── 2xx ──▶ Reanswered
//!                 ▲                              │ │ └ 491, 500 + Retry-After ─▶ Resting ─▶ Ready
//!                 └── 422 (longer), 401, 407 ────┘ └── any other ─▶ ReofferFailed, all as before; 408, 481 ─▶ BYE
//! ```

use std::time::{Duration, Instant};

use rand_chacha::rand_core::RngCore;

use super::account::Tried;
use super::answers::retry_after;
use super::outgoing::{Invite, Sent};
use super::{Ask, Session, State, contact};
use crate::sip::endpoint::large::Fitted;
use crate::sip::endpoint::requests::sdp_of_response;
use crate::sip::endpoint::{CommandError, DialogId, Endpoint, Event, Flow, Output, Purpose, Timer, TransactionKey};
use crate::sip::message::{COOKIE, Method, Response};
use crate::sip::transaction::client_invite::{ClientInvite, Meaning};

/// One request that changes or refreshes a session, until its final response.
#[derive(Debug)]
pub(super) struct Reoffer {
    goal: Goal,
    /// What was wanted since it was sent.
    next: Option<Vec<u8>>,
    step: Step,
    retries: u32,
    /// The challenges that it was answered with.
    tried: Vec<Tried>,
    /// The last reliable provisional response to it.
    rseq: Option<u32>,
    /// Its answer was told.
    is_told: bool,
}

/// What it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// This description.
    Change(Vec<u8>),
    /// That the session does not expire.
    Refresh,
}

#[derive(Debug)]
enum Step {
    /// It goes out as soon as the dialog is free.
    Ready,
    /// An UPDATE is out.
    Updating,
    /// A re-INVITE is out; one that gets no final response is cancelled.
    Inviting { key: TransactionKey, cancel_at: Instant },
    /// Its CANCEL is out.
    Cancelled { key: TransactionKey, give_up: Instant },
    /// It is tried again.
    Resting { until: Instant },
}

impl Reoffer {
    fn new(goal: Goal) -> Self {
        Reoffer { goal, next: None, step: Step::Ready, retries: 0, tried: Vec::new(), rseq: None, is_told: false }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Ready | Step::Updating => None,
            Step::Inviting { cancel_at: at, .. }
            | Step::Cancelled { give_up: at, .. }
            | Step::Resting { until: at } => Some(at),
        }
    }

    /// Tells whether a request of it is out.
    fn is_asking(&self) -> bool {
        !matches!(self.step, Step::Ready | Step::Resting { .. })
    }

    /// Tells whether a re-INVITE is out.
    pub(super) fn is_inviting(&self) -> bool {
        matches!(self.step, Step::Inviting { .. } | Step::Cancelled { .. })
    }
}

impl Session {
    /// Tells whether an offer may go out (RFC 3261 §14.1, RFC 3311 §5.1).
    fn is_free(&self) -> bool {
        let is_up = match self.state {
            State::Confirmed => self.pending.is_none() && self.unacknowledged.is_none() && self.late.is_none(),
            State::Early => !self.reliable.is_waiting() && self.far.descriptions.is_agreed(),
            State::Calling | State::Leaving { .. } | State::Gone => false,
        };
        let descriptions = &self.far.descriptions;
        is_up && descriptions.waiting.is_none() && !descriptions.is_ours_open() && !descriptions.is_theirs_open()
    }
}

impl Endpoint {
    /// Offers another description: by re-INVITE, and before the answer of a call that came by UPDATE.
    /// [`Event::Reanswered`] or [`Event::ReofferFailed`] tells what becomes of it. While the dialog is busy it waits, and
    /// offers that cross are tried again (RFC 3261 §14.1); of several that wait the last counts.
    ///
    /// # Errors
    /// [`CommandError::NotNow`] before the answer, unless the far end takes UPDATE and has acknowledged a description of
    /// ours.
    pub fn reinvite(&mut self, dialog: DialogId, sdp: &[u8], now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        let far = &session.far;
        match session.state {
            State::Confirmed => {}
            State::Early if far.peer.allows(&Method::Update) && far.descriptions.is_agreed() => {}
            State::Early | State::Calling => return Err(CommandError::NotNow),
            State::Leaving { .. } | State::Gone => return Err(CommandError::NoDialog),
        }
        match &mut session.reoffer {
            Some(reoffer) if reoffer.is_asking() => reoffer.next = Some(sdp.to_vec()),
            // One that waits for its time after glare keeps waiting, with what is wanted now.
            Some(reoffer) => reoffer.goal = Goal::Change(sdp.to_vec()),
            None => self.begin_reoffer(dialog, Goal::Change(sdp.to_vec()), now),
        }
        Ok(())
    }

    pub(super) fn begin_reoffer(&mut self, id: DialogId, goal: Goal, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.reoffer = Some(Reoffer::new(goal));
        }
        self.try_reoffer(id, now);
    }

    /// Sends what waits for the dialog to be free, if it is.
    pub(super) fn try_reoffer(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.is_free()) else { return };
        let far = &mut session.far;
        let Some(reoffer) = session.reoffer.as_mut().filter(|reoffer| matches!(reoffer.step, Step::Ready)) else {
            return;
        };
        let is_update = match reoffer.goal {
            Goal::Change(_) => session.state == State::Early,
            Goal::Refresh => far.peer.allows(&Method::Update),
        };
        let sdp = match &reoffer.goal {
            Goal::Change(sdp) => Some(sdp.clone()),
            // RFC 4028 §7.4: an UPDATE needs no offer; a re-INVITE has the one in force, with its o= as it was.
            Goal::Refresh if is_update => None,
            Goal::Refresh => far.descriptions.local().map(<[u8]>::to_vec),
        };
        if let Some(sdp) = &sdp {
            far.descriptions.offer(sdp);
        }
        if is_update {
            reoffer.step = Step::Updating;
            let mut ask = Ask::new(Purpose::Update);
            ask.fields = [session.extensions.fields(), session.timing.fields()].concat();
            ask.body = sdp.map(|sdp| ("application/sdp", sdp));
            self.request(id, ask, now);
        } else {
            self.send_reinvite(id, &sdp.unwrap_or_default(), now);
        }
        self.schedule_session(id);
    }

    fn send_reinvite(&mut self, id: DialogId, sdp: &[u8], now: Instant) {
        let (branch, cnonce) = (format!("{COOKIE}{}", self.tag()), self.tag());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(reoffer) = &mut session.reoffer else { return };
        let key = TransactionKey(format!("{branch}|{}", Method::Invite).into());
        reoffer.step = Step::Inviting { key: key.clone(), cancel_at: now + ANSWER_MAX };
        reoffer.rseq = None;
        let flow = session.next_flow(&session.far);
        let cseq = session.far.dialog.next_cseq();
        let credentials = match &mut session.account {
            Some(account) => account.fields(&Method::Invite, &session.far.dialog.request_uri(), &cnonce),
            None => Vec::new(),
        };
        let mut fields = [session.extensions.fields(), session.timing.fields(), credentials.clone()].concat();
        fields.push(("User-Agent", self.config.server.clone()));
        if !sdp.is_empty() {
            fields.push(("Content-Type", "application/sdp".into()));
        }
        let dialog = session.far.dialog.clone();
        let Fitted { flow, via, bytes, spare } = self.fit(flow, &branch, now, |flow, via| {
            let contact = ("Contact", contact(&self.config.advertised, flow, &dialog));
            dialog.write(&Method::Invite, cseq, via, &[&[contact], &fields[..]].concat(), sdp)
        });
        let machine = ClientInvite::new(bytes.clone(), flow.reliability(), self.config.timers, now);
        let sent = Sent { dialog, via, cseq, credentials };
        self.send_fitted(flow, bytes, spare.as_deref());
        let invite = Invite { machine, flow, dialog: id, sent, acks: Vec::new(), is_again: true, spare };
        self.outgoing.invites.insert(key.clone(), invite);
        self.schedule_invite(key);
    }

    /// A response to a re-INVITE of ours.
    pub(super) fn handle_reinvite_response(
        &mut self,
        flow: &Flow,
        key: &TransactionKey,
        response: &Response,
        meaning: Meaning,
        now: Instant,
    ) {
        match meaning {
            Meaning::Ignore => return,
            Meaning::AckAgain => return self.acknowledge_refusal(flow, key, response),
            Meaning::PassUpAndAck => self.acknowledge_refusal(flow, key, response),
            Meaning::PassUp if response.status < 200 => return self.handle_reinvite_progress(key, response, now),
            Meaning::PassUp if self.acknowledge_copy(flow, key, response) => return,
            Meaning::PassUp => {}
        }
        let Some(id) = self.outgoing.invites.get(key).map(|invite| invite.dialog) else { return };
        let session = self.sessions.get_mut(&id);
        let reoffer = session.and_then(|session| session.reoffer.as_mut());
        let is_awaited = reoffer.is_some_and(|reoffer| match &reoffer.step {
            Step::Inviting { key: asked, .. } | Step::Cancelled { key: asked, .. } => asked == key,
            Step::Ready | Step::Updating | Step::Resting { .. } => false,
        });
        if response.status < 300 {
            self.acknowledge_again(id, key, response, now);
        }
        if !is_awaited {
            return;
        }
        if self.answer_reinvite_challenge(flow, id, response, now) {
            return;
        }
        self.handle_reoffer_answer(flow, id, response, now);
    }

    /// A provisional response to a re-INVITE: acknowledged where it is reliable (RFC 6141 §3.2), and its description is
    /// the answer.
    fn handle_reinvite_progress(&mut self, key: &TransactionKey, response: &Response, now: Instant) {
        let Some(rseq) = super::progress::reliable_number(response) else { return };
        let Some(invite) = self.outgoing.invites.get(key) else { return };
        let (id, cseq) = (invite.dialog, invite.sent.cseq);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(reoffer) = &mut session.reoffer else { return };
        if reoffer.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
            return;
        }
        reoffer.rseq = Some(rseq);
        session.far.dialog.refresh_target(&response.headers);
        let sdp = sdp_of_response(response).filter(|_| session.far.descriptions.is_ours_open());
        if let Some(sdp) = sdp {
            session.far.descriptions.handle_answer(Some(&sdp));
            if matches!(reoffer.goal, Goal::Change(_)) {
                reoffer.is_told = true;
                self.outputs.push_back(Output::Event(Event::Reanswered { dialog: id, sdp: Some(sdp) }));
            }
        }
        let tag = response.core.to.tag().unwrap_or_default().to_owned();
        self.send_prack(id, tag, (rseq, cseq), None, now);
    }

    fn answer_reinvite_challenge(&mut self, flow: &Flow, id: DialogId, response: &Response, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let (Some(account), Some(reoffer)) = (&mut session.account, &mut session.reoffer) else { return false };
        if !reoffer.is_inviting() || !account.learn(flow, &mut reoffer.tried, response) {
            return false;
        }
        session.far.descriptions.withdraw();
        reoffer.step = Step::Ready;
        self.try_reoffer(id, now);
        true
    }

    /// The final response to a re-INVITE or UPDATE of ours.
    pub(in crate::sip::endpoint) fn handle_reoffer_answer(
        &mut self,
        flow: &Flow,
        id: DialogId,
        response: &Response,
        now: Instant,
    ) {
        self.see_their_refusal(*flow, Some(id), response);
        match response.status {
            ..300 => return self.end_reoffer(id, response, now),
            408 | 481 => {
                self.fail_reoffer(id, response.status, now);
                return self.end_unreachable(id, now);
            }
            _ => {}
        }
        let by_chance = self.random.next_u32();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let wanted = session.extensions.session_expires;
        let Some(reoffer) = &mut session.reoffer else { return };
        session.far.descriptions.withdraw();
        reoffer.retries += 1;
        let again = match (response.status, retry_after(&response.headers)) {
            _ if reoffer.retries > RETRIES_MAX => None,
            // RFC 3261 §14.1: whoever owns the Call-ID waits longer, in steps of 10 ms.
            (491, _) if session.invite_name.is_none() => {
                Some(Duration::from_millis(2100 + 10 * u64::from(by_chance % 191)))
            }
            (491, _) => Some(Duration::from_millis(10 * u64::from(by_chance % 201))),
            (405 | 501, _) if reoffer.goal == Goal::Refresh && matches!(reoffer.step, Step::Updating) => {
                // What it allows it does not serve: a re-INVITE refreshes as well.
                session.far.peer.disallow(&Method::Update);
                Some(Duration::ZERO)
            }
            (500 | 503, Some(after)) if after <= RETRY_AFTER_MAX => Some(after),
            (422, _) if wanted.is_some() => {
                let before = session.timing.min();
                session.timing.learn(&response.headers);
                (session.timing.min() > before).then_some(Duration::ZERO)
            }
            _ => None,
        };
        match again {
            Some(after) => {
                reoffer.step = Step::Resting { until: now + after };
                self.schedule_session(id);
            }
            None => self.fail_reoffer(id, response.status, now),
        }
    }

    /// A 2xx: what was asked holds.
    fn end_reoffer(&mut self, id: DialogId, response: &Response, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(reoffer) = session.reoffer.take() else { return };
        let sdp = sdp_of_response(response);
        let far = &mut session.far;
        far.dialog.refresh_target(&response.headers);
        far.peer.learn(&response.headers);
        session.timing.handle_accepted(&response.headers, session.extensions.session_expires, now);
        let is_another = sdp.is_some() && far.descriptions.remote() != sdp.as_deref();
        far.descriptions.handle_answer(sdp.as_deref());
        let is_told = match reoffer.goal {
            Goal::Change(_) => !reoffer.is_told,
            Goal::Refresh => is_another,
        };
        if is_told {
            self.outputs.push_back(Output::Event(Event::Reanswered { dialog: id, sdp }));
        }
        self.go_on_behind_reoffer(id, reoffer.next, now);
    }

    /// Nothing comes of it: all stays as it was (RFC 6141 §3.4).
    pub(in crate::sip::endpoint) fn fail_reoffer(&mut self, id: DialogId, status: u16, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(reoffer) = session.reoffer.take() else { return };
        session.far.descriptions.withdraw();
        match reoffer.goal {
            Goal::Change(_) => self.outputs.push_back(Output::Event(Event::ReofferFailed { dialog: id, status })),
            Goal::Refresh => session.timing.handle_refused(now),
        }
        self.go_on_behind_reoffer(id, reoffer.next, now);
    }

    fn go_on_behind_reoffer(&mut self, id: DialogId, next: Option<Vec<u8>>, now: Instant) {
        if let Some(next) = next {
            self.begin_reoffer(id, Goal::Change(next), now);
        }
        self.schedule_session(id);
    }

    /// No response came at all: the far end is gone (RFC 3261 §12.2.1.2).
    pub(in crate::sip::endpoint) fn handle_reoffer_lost(&mut self, id: DialogId, now: Instant) {
        self.fail_reoffer(id, 408, now);
        self.end_unreachable(id, now);
    }

    /// The dialog is over: a re-INVITE that is out has no timer of its own once it rings, so one is set.
    pub(super) fn abandon_reoffer(&mut self, id: DialogId, now: Instant) {
        let reoffer = self.sessions.get_mut(&id).and_then(|session| session.reoffer.take());
        if let Some(Step::Inviting { key, .. } | Step::Cancelled { key, .. }) = reoffer.map(|reoffer| reoffer.step) {
            self.timers.insert((now + 2 * self.config.timers.timeout(), Timer::Client(key)));
        }
    }

    pub(super) fn handle_reoffer_timeout(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(reoffer) = &mut session.reoffer else { return };
        match &reoffer.step {
            Step::Resting { until } if *until <= now => {
                reoffer.step = Step::Ready;
                self.try_reoffer(id, now);
            }
            Step::Inviting { key, cancel_at } if *cancel_at <= now => {
                let key = key.clone();
                reoffer.step = Step::Cancelled { key: key.clone(), give_up: now + self.config.timers.timeout() };
                self.send_cancel_of(&key, None, now);
            }
            Step::Cancelled { key, give_up } if *give_up <= now => {
                let key = key.clone();
                self.outgoing.invites.remove(&key);
                self.fail_reoffer(id, 408, now);
            }
            _ => {}
        }
    }
}

/// 5 tries behind the first: whoever is in the way of each offer stays there.
const RETRIES_MAX: u32 = 5;

/// 32 s: what is put off longer than a transaction lasts is refused.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(32);

/// 3 min, as long as a proxy waits (timer C, RFC 3261 §16.6): somebody may have to agree to it.
const ANSWER_MAX: Duration = Duration::from_secs(180);
