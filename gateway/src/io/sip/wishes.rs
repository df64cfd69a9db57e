//! What calls want of SIP, and what an outcome is in SIP's terms.

use std::time::Instant;

use talkstack_control::port::{CallId, EndReason, Outcome};
use talkstack_media::sip::{DialogId, Endpoint, Refusal};

use super::SipThread;
use super::offered::RETRY_AFTER;
use crate::call::LegId;
use crate::io::shard::SipWish;

impl SipThread {
    pub(super) fn handle_wish(&mut self, id: CallId, wish: SipWish) {
        let now = Instant::now();
        let Some(wish) = self.handle_test_wish(id, wish) else { return };
        match wish {
            SipWish::Forgotten => {
                self.abandon_led(id);
                if let Some(parked) = self.switchboard.dialog(id, LegId::Parked) {
                    // A transfer that crossed the end of its call.
                    let _ = self.endpoint.hang_up(parked, None, now);
                }
                self.switchboard.remove(id);
            }
            SipWish::Transferred => self.end_transfer(id),
            SipWish::Restore(leg, failure) => self.undo_transfer(id, leg, failure),
            SipWish::Promote => self.promote(id),
            SipWish::PutThrough(to) => self.put_through(id, &to.0),
            SipWish::Lead(order) => self.handle_lead(id, *order),
            SipWish::Invite(LegId::First, sdp) => self.handle_own_offer(id, sdp),
            SipWish::Invite(_, sdp) => self.handle_led_offer(id, &sdp),
            SipWish::End(leg, outcome) => self.end_leg(id, leg, outcome),
            SipWish::Ring(sdp) => self.with_dialog(id, LegId::First, |endpoint, dialog| {
                endpoint.ring(dialog, sdp.as_deref().map(str::as_bytes), now)
            }),
            SipWish::Answer(leg, sdp) => self.answer(id, leg, sdp, now),
            SipWish::ReOffer(leg, sdp) => {
                self.with_dialog(id, leg, |endpoint, dialog| endpoint.reinvite(dialog, sdp.as_bytes(), now));
            }
            SipWish::RefuseReOffer(leg) => {
                self.with_dialog(id, leg, |endpoint, dialog| endpoint.refuse(dialog, Refusal::new(488), now));
                if let Some(dialog) = self.switchboard.dialog(id, leg) {
                    self.restore_replaced(dialog);
                }
            }
            SipWish::Refuse(status) => self
                .with_dialog(id, LegId::First, |endpoint, dialog| endpoint.refuse(dialog, Refusal::new(status), now)),
            SipWish::Measured(..) => {}
            SipWish::Probe(leg) => self.with_dialog(id, leg, |endpoint, dialog| endpoint.probe(dialog, now)),
            SipWish::Press(leg, digit) => {
                self.with_dialog(id, leg, |endpoint, dialog| endpoint.press_by_info(dialog, digit, now));
            }
        }
    }

    fn answer(&mut self, id: CallId, leg: LegId, sdp: String, now: Instant) {
        let Some(dialog) = self.switchboard.dialog(id, leg) else { return };
        if leg == LegId::First
            && let Some(saved) = self.endpoint.saved_before_answer(dialog)
        {
            return self.answer_once_written(id, saved, sdp);
        }
        // As in `with_dialog`.
        let _ = self.endpoint.answer(dialog, sdp.as_bytes(), now);
        self.end_replaced(dialog);
        self.save_dialog(id, dialog);
    }

    /// Ends a leg's dialog, or what is to become one.
    pub(super) fn end_leg(&mut self, id: CallId, leg: LegId, outcome: Outcome) {
        let now = Instant::now();
        match leg {
            LegId::First => self.dialling.abandon(id),
            LegId::Second => self.abandon_led(id),
            LegId::Parked => {}
        }
        self.with_dialog(id, leg, |endpoint, dialog| {
            let refused = endpoint.refuse(dialog, refusal(outcome), now);
            refused.or_else(|_| endpoint.hang_up(dialog, farewell(outcome), now))
        });
        if leg != LegId::First
            && let Some(dialog) = self.switchboard.dialog(id, leg)
        {
            // No event follows, and another line may take its place.
            self.switchboard.leave(dialog);
        }
    }

    /// Ends all that a call has open.
    pub(super) fn end_legs(&mut self, id: CallId, outcome: Outcome) {
        self.end_leg(id, LegId::First, outcome);
        self.end_leg(id, LegId::Second, outcome);
        self.end_leg(id, LegId::Parked, outcome);
    }

    /// A wish that the dialog's state does not allow lost a race with the far end, whose event is on its way.
    fn with_dialog<E>(
        &mut self,
        id: CallId,
        leg: LegId,
        carry_out: impl FnOnce(&mut Endpoint, DialogId) -> Result<(), E>,
    ) {
        if let Some(dialog) = self.switchboard.dialog(id, leg) {
            let _ = carry_out(&mut self.endpoint, dialog);
        }
    }
}

/// The final response for a call that ends before its answer.
pub(super) fn refusal(outcome: Outcome) -> Refusal {
    let (status, reason) = match outcome.reason {
        EndReason::NotFound => (404, "nobody answers here"),
        EndReason::NoCommonCodec => (488, "no codec in common; this box speaks opus, G722, PCMU and PCMA"),
        EndReason::BadOffer => (488, "the session description cannot be used"),
        EndReason::SrtpRequired => (488, "SRTP is required here: offer RTP/SAVP with a=crypto, or UDP/TLS/RTP/SAVP"),
        EndReason::SrtpOff => {
            (488, "this box speaks no SRTP on this line: offer RTP/AVP, or have srtp set to optional")
        }
        EndReason::BadKeys => (
            488,
            "no a=crypto or a=fingerprint can be used: offer AES_CM_128_HMAC_SHA1_80 with a key of 30 bytes, or sha-256",
        ),
        EndReason::KeysUntold => (488, "SRTP is required here, and its keys are not told over SIP without TLS"),
        EndReason::Overloaded => (503, "no RTP port is free"),
        EndReason::Busy => (486, "the called line is busy"),
        EndReason::NoAnswer => (480, "nobody answers"),
        EndReason::Unreachable => (480, "the called line cannot be reached"),
        EndReason::Rejected => (603, "the called line refused the call"),
        EndReason::DestinationNotAllowed => (403, "this box does not call there"),
        EndReason::NoTrunk => (503, "no trunk carries the call"),
        EndReason::Restarted => (503, "the box is stopping"),
        EndReason::Aborted => (500, "the call failed inside the box"),
        _ => (480, "the call was ended by the box"),
    };
    let retry_after = (status == 503).then_some(RETRY_AFTER);
    // RFC 3261 §20.43: 399 is a warning in words.
    let warning = (status == 488).then(|| ("Warning", format!("399 talkstack \"{reason}\"")));
    Refusal { reason: Some(reason.into()), retry_after, fields: warning.into_iter().collect(), ..Refusal::new(status) }
}

/// What the BYE of an answered call says; nothing where a call simply ends.
fn farewell(outcome: Outcome) -> Option<String> {
    let text = match outcome.reason {
        EndReason::MediaTimeout => "no media was received",
        EndReason::MaxDuration => "the longest duration was reached",
        EndReason::Aborted => "the call failed inside the box",
        EndReason::Restarted => "the box is stopping",
        EndReason::NoCommonCodec | EndReason::BadOffer | EndReason::BadKeys => "the answer cannot be used",
        EndReason::SrtpRequired => "SRTP is required here, and the answer is without",
        EndReason::SrtpOff => "this box speaks no SRTP on this line, and the answer is with it",
        _ => return None,
    };
    Some(text.into())
}
