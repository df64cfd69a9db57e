//! What calls want of SIP, and what an outcome is in SIP's terms.

use std::time::Instant;

use talkstack_control::port::{CallId, EndReason, Outcome};
use talkstack_media::sip::Refusal;

use super::SipThread;
use super::offered::RETRY_AFTER;
use crate::io::shard::SipWish;

impl SipThread {
    pub(super) fn handle_wish(&mut self, id: CallId, wish: SipWish) {
        let now = Instant::now();
        if wish == SipWish::Forgotten {
            self.switchboard.remove(id);
            return;
        }
        if let SipWish::Invite(sdp) = wish {
            return self.handle_own_offer(id, sdp);
        }
        if let SipWish::End(_) = wish {
            self.dialling.abandon(id);
        }
        let Some(dialog) = self.switchboard.entry(id).and_then(|entry| entry.dialog) else { return };
        // A wish that the dialog's state does not allow lost a race with the far end, whose event is on its way.
        let _ = match wish {
            SipWish::Ring => self.endpoint.ring(dialog, None, now),
            SipWish::Answer(sdp) => match self.endpoint.saved_before_answer(dialog) {
                Some(saved) => return self.answer_once_written(id, saved, sdp),
                None => {
                    let answered = self.endpoint.answer(dialog, sdp.as_bytes(), now);
                    self.save_dialog(id, dialog);
                    answered
                }
            },
            SipWish::RefuseReOffer => self.endpoint.refuse(dialog, Refusal::new(488), now),
            SipWish::Probe => self.endpoint.probe(dialog, now),
            SipWish::End(outcome) => {
                let refused = self.endpoint.refuse(dialog, refusal(outcome), now);
                refused.or_else(|_| self.endpoint.hang_up(dialog, farewell(outcome), now))
            }
            SipWish::Invite(_) | SipWish::Measured(..) | SipWish::Forgotten => Ok(()),
        };
    }
}

/// The final response for a call that ends before its answer.
fn refusal(outcome: Outcome) -> Refusal {
    let (status, reason) = match outcome.reason {
        EndReason::NotFound => (404, "nobody answers here"),
        EndReason::NoCommonCodec => (488, "no codec in common; this box speaks PCMU and PCMA"),
        EndReason::BadOffer => (488, "the session description cannot be used"),
        EndReason::Overloaded => (503, "no RTP port is free"),
        EndReason::Restarted => (503, "the box is stopping"),
        EndReason::Aborted => (500, "the call failed inside the box"),
        _ => (480, "the call was ended by the box"),
    };
    let retry_after = (status == 503).then_some(RETRY_AFTER);
    Refusal { reason: Some(reason.into()), retry_after, ..Refusal::new(status) }
}

/// What the BYE of an answered call says; nothing where a call simply ends.
fn farewell(outcome: Outcome) -> Option<String> {
    let text = match outcome.reason {
        EndReason::MediaTimeout => "no media was received",
        EndReason::MaxDuration => "the longest duration was reached",
        EndReason::Aborted => "the call failed inside the box",
        EndReason::Restarted => "the box is stopping",
        EndReason::NoCommonCodec | EndReason::BadOffer => "the answer cannot be used",
        _ => return None,
    };
    Some(text.into())
}
