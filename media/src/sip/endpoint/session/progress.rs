//! Provisional responses to our INVITEs: early dialogs, each with its own description (RFC 3261 §12.1.2), and their
//! acknowledgement where they are reliable (RFC 3262 §4).

use std::time::Instant;

use super::outgoing::Calling;
use super::{Ask, Far, Session};
use crate::sip::endpoint::requests::sdp_of_response;
use crate::sip::endpoint::{DialogId, Endpoint, Event, Flow, Output, Purpose, TransactionKey};
use crate::sip::message::Response;

/// An early dialog: one branch of a fork.
#[derive(Debug)]
pub(super) struct Early {
    /// From 1 up, over all INVITEs of the call.
    pub(super) branch: u32,
    pub(super) far: Far,
    /// What its user was told last.
    told: Option<u16>,
    has_sdp: bool,
    /// The last reliable response (RFC 3262 §4).
    rseq: Option<u32>,
    /// The number of one that brought an offer: its PRACK waits for our answer.
    unanswered: Option<u32>,
}

impl Endpoint {
    pub(super) fn handle_progress(
        &mut self,
        flow: &Flow,
        key: &TransactionKey,
        id: DialogId,
        response: &Response,
        now: Instant,
    ) {
        let Some(invite) = self.outgoing.invites.get(key) else { return };
        let (start, cseq) = (&invite.sent.dialog, invite.sent.cseq);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return };
        session.follow_stream(flow);
        calling.is_proceeding = true;
        if calling.leaving.is_some() {
            return self.send_cancel(id, now);
        }
        if response.status == 100 {
            return;
        }
        let Some(early) = calling.early_for(session, start, response) else { return };
        let (branch, tag) = (early.branch, early.far.dialog.remote_tag.clone());
        let rseq = reliable_number(response);
        if rseq.is_some_and(|rseq| early.rseq.is_some_and(|last| rseq != last.wrapping_add(1))) {
            // A copy, or one behind a hole: its sender repeats what is missing (RFC 3262 §4).
            return;
        }
        early.rseq = rseq.or(early.rseq);
        let sdp = sdp_of_response(response);
        early.take_description(sdp.as_deref(), rseq);
        let (waits, is_news) = (early.unanswered.is_some(), early.is_news(response.status, sdp.is_some()));
        let tags = early.far.tags();
        if !tag.is_empty() {
            // Requests of the early dialog find it.
            self.by_tags.insert(tags, id);
        }
        if let Some(rseq) = rseq.filter(|_| !waits) {
            self.send_prack(id, tag, (rseq, cseq), None, now);
        }
        if is_news {
            let status = response.status;
            self.outputs.push_back(Output::Event(Event::Progressed { dialog: id, status, sdp, branch }));
        }
    }

    /// Acknowledges a reliable provisional response: its number and the INVITE's; with the answer to its offer.
    pub(super) fn send_prack(
        &mut self,
        id: DialogId,
        tag: String,
        (rseq, cseq): (u32, u32),
        sdp: Option<Vec<u8>>,
        now: Instant,
    ) {
        let mut ask = Ask::new(Purpose::Prack).with("RAck", format!("{rseq} {cseq} INVITE"));
        ask.tag = tag;
        ask.body = sdp.map(|sdp| ("application/sdp", sdp));
        self.request(id, ask, now);
    }

    /// Answers the offer in a reliable provisional response to an INVITE without one (RFC 3262 §5); `false` when none
    /// waits.
    pub(super) fn answer_early(&mut self, id: DialogId, sdp: &[u8], now: Instant) -> bool {
        let Some(calling) = self.outgoing.calls.get_mut(&id) else { return false };
        let Some(invite) = self.outgoing.invites.get(&calling.key) else { return false };
        let cseq = invite.sent.cseq;
        let Some(early) = calling.earlies.iter_mut().find(|early| early.unanswered.is_some()) else { return false };
        let Some(rseq) = early.unanswered.take() else { return false };
        early.far.descriptions.describe(sdp);
        let tag = early.far.dialog.remote_tag.clone();
        self.send_prack(id, tag, (rseq, cseq), Some(sdp.to_vec()), now);
        true
    }
}

impl Calling {
    /// The branch with this tag.
    pub(super) fn early_of(&self, tag: &str) -> Option<&Early> {
        self.earlies.iter().find(|early| early.far.dialog.remote_tag == tag)
    }

    /// The branch that a response comes from, made by its first; `None` when too many speak.
    fn early_for(
        &mut self,
        session: &Session,
        start: &crate::sip::dialog::Dialog,
        response: &Response,
    ) -> Option<&mut Early> {
        let tag = response.core.to.tag().unwrap_or_default();
        let known = self.earlies.iter().position(|early| early.far.dialog.remote_tag == tag);
        let at = match known {
            Some(at) => {
                if reliable_number(response).is_some() {
                    // RFC 6141 §4.7: an unreliable response moves nobody.
                    self.earlies[at].far.dialog.refresh_target(&response.headers);
                }
                at
            }
            None if self.earlies.len() >= EARLIES_MAX => return None,
            None => {
                self.branches += 1;
                let mut far = Far { dialog: start.clone(), ..session.far.clone() };
                far.dialog.handle_answer(response);
                far.is_behind_nat = !session.is_target_usable(&far, &response.headers);
                let (told, has_sdp, rseq, unanswered) = (None, false, None, None);
                self.earlies.push(Early { branch: self.branches, far, told, has_sdp, rseq, unanswered });
                self.earlies.len() - 1
            }
        };
        let early = self.earlies.get_mut(at)?;
        early.far.peer.learn(&response.headers);
        Some(early)
    }
}

impl Early {
    /// Takes the description of a response: our offer's answer, a look at it, or an offer of theirs.
    fn take_description(&mut self, sdp: Option<&[u8]>, rseq: Option<u32>) {
        let Some(sdp) = sdp else { return };
        let descriptions = &mut self.far.descriptions;
        match rseq {
            None => descriptions.preview(sdp),
            Some(_) if descriptions.is_ours_open() => descriptions.handle_answer(Some(sdp)),
            Some(rseq) if !descriptions.is_agreed() && !descriptions.is_theirs_open() => {
                descriptions.handle_offer(sdp.to_vec());
                self.unanswered = Some(rseq);
            }
            Some(_) => {}
        }
    }

    /// Notes what is told; `false` when it was told before.
    fn is_news(&mut self, status: u16, has_sdp: bool) -> bool {
        let is_news = status >= 180 && (self.told != Some(status) || (has_sdp && !self.has_sdp));
        if is_news {
            self.told = Some(status);
            self.has_sdp |= has_sdp;
        }
        is_news
    }
}

/// RSeq of a response that is to be acknowledged (RFC 3262 §4).
pub(super) fn reliable_number(response: &Response) -> Option<u32> {
    let is_reliable = (101..200).contains(&response.status) && response.headers.lists("Require", "100rel");
    let has_tag = response.core.to.tag().is_some();
    response.headers.text("RSeq").filter(|_| is_reliable && has_tag)?.trim().parse().ok()
}

/// 8 early dialogs: a hunt group that rings at once. More are not told.
const EARLIES_MAX: usize = 8;
