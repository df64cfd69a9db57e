//! UPDATE that comes in (RFC 3311), and offers in it or in a PRACK that wait for their answer.

use std::time::{Duration, Instant};

use super::incoming::is_behind_nat;
use super::{Far, NO_DIALOG, State};
use crate::sip::endpoint::requests::sdp_of;
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{DialogId, Endpoint, Event, Flow, Output, Refusal, Server, TransactionKey};
use crate::sip::message::{Headers, Method, Request};

impl Endpoint {
    pub(in crate::sip::endpoint) fn handle_update(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let Some(id) = self.begin_in_dialog(flow, request, now) else { return };
        let soon = self.put_off();
        let from = request.core.from.tag().unwrap_or_default().to_owned();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (state, is_pending) = (session.state.clone(), session.pending.is_some());
        if matches!(state, State::Leaving { .. } | State::Gone) {
            return self.reply(flow, request, Reply::new(481).because(NO_DIALOG), now);
        }
        if state != State::Calling {
            session.flow = *flow;
            session.far.is_behind_nat = is_behind_nat(flow, request) || !session.far.dialog.has_contact();
        }
        session.timing.learn(&request.headers);
        let Some(far) = self.far_mut(id, &from) else { return };
        far.peer.learn(&request.headers);
        let descriptions = &far.descriptions;
        let (tag, sdp) = (far.dialog.local_tag.clone(), sdp_of(request));
        if descriptions.waiting.is_some() {
            return self.reply_tagged(flow, request, soon.because("the last UPDATE is not answered"), tag, now);
        }
        let Some(sdp) = sdp else { return self.accept_refresh(id, &from, flow, request, None, now) };
        let is_owed = descriptions.is_theirs_open() || (state == State::Confirmed && is_pending);
        if is_owed {
            return self.reply_tagged(flow, request, soon.because("the last offer is not answered"), tag, now);
        }
        if !descriptions.is_agreed() {
            let reply = Reply::new(491).because("an offer of ours is on its way");
            return self.reply_tagged(flow, request, reply, tag, now);
        }
        if let Some(ours) = descriptions.unchanged(&sdp).map(<[u8]>::to_vec) {
            return self.accept_refresh(id, &from, flow, request, Some(ours), now);
        }
        let key = self.begin_waiting(flow, request, tag, now);
        self.take_offer(id, &from, key, sdp, now);
    }

    /// Answers a session refresh that asks nobody (`house` §9).
    fn accept_refresh(
        &mut self,
        id: DialogId,
        from: &str,
        flow: &Flow,
        request: &Request,
        sdp: Option<Vec<u8>>,
        now: Instant,
    ) {
        let Some(mut reply) = self.update_accepted(id, &request.headers, now) else { return };
        reply.sdp = sdp;
        let Some(far) = self.far_mut(id, from) else { return };
        far.dialog.refresh_target(&request.headers);
        let tag = far.dialog.local_tag.clone();
        self.reply_tagged(flow, request, reply, tag, now);
        self.schedule_session(id);
    }

    /// The 200 to an UPDATE; the session timer begins anew with it.
    fn update_accepted(&mut self, id: DialogId, request: &Headers, now: Instant) -> Option<Reply> {
        let mut reply = self.described(id, 200).ok()?;
        let session = self.sessions.get_mut(&id)?;
        if session.state == State::Confirmed {
            reply.fields.extend(session.timing.accept(request, session.extensions.session_expires));
            session.timing.begin_answered(now);
        }
        Some(reply)
    }

    /// The offer of a request that waits goes to the dialog's user.
    pub(super) fn take_offer(&mut self, id: DialogId, from: &str, key: TransactionKey, sdp: Vec<u8>, now: Instant) {
        let branch = self.branch_of(id, from);
        let Some(far) = self.far_mut(id, from) else { return };
        far.descriptions.handle_offer(sdp.clone());
        far.descriptions.waiting = Some((key, now + ANSWER_MAX));
        self.outputs.push_back(Output::Event(Event::ReOffered { dialog: id, sdp: Some(sdp), branch }));
        self.schedule_session(id);
    }

    fn branch_of(&self, id: DialogId, from: &str) -> u32 {
        let early = self.outgoing.calls.get(&id).and_then(|calling| calling.early_of(from));
        let session = self.sessions.get(&id).map_or(0, |session| session.branch);
        early.map_or(session, |early| early.branch)
    }

    /// Answers the offer of an UPDATE or PRACK; `false` when none waits.
    pub(super) fn answer_waiting(&mut self, id: DialogId, sdp: &[u8], now: Instant) -> bool {
        let Some((from, key)) = self.waiting_of(id) else { return false };
        let asked = match self.servers.get(&key) {
            Some(Server::Other { asked: Some(asked), .. }) => Some((asked.method.clone(), asked.headers.clone())),
            _ => None,
        };
        let Some(far) = self.far_mut(id, &from) else { return false };
        far.descriptions.waiting = None;
        let Some((method, headers)) = asked else { return false };
        far.descriptions.describe(sdp);
        let mut reply = Reply::new(200);
        if method == Method::Update {
            far.dialog.refresh_target(&headers);
            reply = self.update_accepted(id, &headers, now).unwrap_or(reply);
        }
        reply.sdp = Some(sdp.to_vec());
        self.respond_waiting(&key, &reply, Some(id), now);
        self.go_on_behind_waiting(id, now);
        true
    }

    /// Refuses it; `false` when none waits. All stays as it was (RFC 3311 §5.2).
    pub(super) fn refuse_waiting(&mut self, id: DialogId, refusal: &Refusal, now: Instant) -> bool {
        let Some((from, key)) = self.waiting_of(id) else { return false };
        self.drop_offer(id, &from, &key, &Reply::of_refusal(refusal.clone()), now);
        self.go_on_behind_waiting(id, now);
        true
    }

    /// The dialog is over: what still waits gets 487 (RFC 3261 §15.1.2).
    pub(super) fn end_waiting(&mut self, id: DialogId, now: Instant) {
        while let Some((from, key)) = self.waiting_of(id) {
            self.drop_offer(id, &from, &key, &Reply::new(487).because("the dialog has ended"), now);
        }
        // Nothing else ends the transaction of a re-INVITE.
        let _ = self.respond(id, &Reply::new(487).because("the dialog has ended"), now);
        self.end_referral(id, now);
        self.abandon_reoffer(id, now);
    }

    fn drop_offer(&mut self, id: DialogId, from: &str, key: &TransactionKey, reply: &Reply, now: Instant) {
        if let Some(far) = self.far_mut(id, from) {
            far.descriptions.waiting = None;
            far.descriptions.withdraw();
        }
        self.respond_waiting(key, reply, Some(id), now);
    }

    fn go_on_behind_waiting(&mut self, id: DialogId, now: Instant) {
        self.go_on_behind_prack(id, now);
        self.try_reoffer(id, now);
        self.schedule_session(id);
    }

    /// The UPDATE or PRACK that waits, and from whom it is.
    fn waiting_of(&self, id: DialogId) -> Option<(String, TransactionKey)> {
        let far = self.fars(id).find(|far| far.descriptions.waiting.is_some())?;
        let (key, _) = far.descriptions.waiting.clone()?;
        Some((far.dialog.remote_tag.clone(), key))
    }

    fn fars(&self, id: DialogId) -> impl Iterator<Item = &Far> {
        let session = self.sessions.get(&id).map(|session| &session.far);
        let earlies = self.outgoing.calls.get(&id).into_iter().flat_map(|calling| &calling.earlies);
        session.into_iter().chain(earlies.map(|early| &early.far))
    }

    /// When an offer that waits is refused without its user.
    pub(super) fn waiting_until(&self, id: DialogId) -> Option<Instant> {
        self.fars(id).filter_map(|far| far.descriptions.waiting.as_ref().map(|(_, until)| *until)).min()
    }

    pub(super) fn handle_waiting_timeout(&mut self, id: DialogId, now: Instant) {
        if self.waiting_until(id).is_some_and(|until| until <= now)
            && let Some((from, key)) = self.waiting_of(id)
        {
            // RFC 3311 §5.2: an UPDATE that cannot be answered promptly.
            let reply = Reply::new(504).because("the call did not answer its offer in time");
            self.drop_offer(id, &from, &key, &reply, now);
            self.go_on_behind_waiting(id, now);
        }
    }
}

/// 8 s: a quarter of what its sender waits, and four times what a media thread is given (`house` §9).
const ANSWER_MAX: Duration = Duration::from_secs(8);
