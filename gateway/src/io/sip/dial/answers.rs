//! What comes back of calls that are placed.

use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, EndReason, Outcome};
use talkstack_media::sip::DialogId;
use talkstack_media::sip::message::Uri;

use super::Heard;
use crate::call::LegId;
use crate::io::shard::{SipWish, ToCall};
use crate::io::sip::SipThread;

impl SipThread {
    /// The far end rings, or says something else on the way.
    pub(in crate::io::sip) fn handle_progressed(&mut self, dialog: DialogId, sdp: Option<Vec<u8>>) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        self.dialling.mark(id, Heard::Response, Instant::now());
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_progressed();
        }
        self.tell(id, ToCall::Progressed(LegId::First, sdp));
    }

    /// The far end has answered.
    pub(in crate::io::sip) fn handle_accepted(&mut self, dialog: DialogId, sdp: Option<Vec<u8>>) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        self.dialling.mark(id, Heard::Response, Instant::now());
        let target = self.dialling.placing.remove(&id).and_then(|placing| placing.attempt.target());
        let Some(target) = target else { return };
        self.save_dialog(id, dialog);
        if self.tell(id, ToCall::Accepted { leg: LegId::First, sdp, signalling: target.ip() }) != Some(true) {
            self.handle_wish(id, SipWish::End(LegId::First, Outcome::new(Blame::Gateway, EndReason::Overloaded)));
        }
    }

    /// The far end has refused, or sends us elsewhere.
    pub(in crate::io::sip) fn handle_refused(
        &mut self,
        dialog: DialogId,
        status: u16,
        contacts: Vec<Uri>,
        retry_after: Option<Duration>,
    ) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        let heard = if status == 503 { Heard::Unavailable(retry_after) } else { Heard::Response };
        self.dialling.mark(id, heard, Instant::now());
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_refused(status, contacts);
            self.carry_out_attempt(id);
        }
    }

    /// Nothing came back at all.
    pub(in crate::io::sip) fn handle_unanswered(&mut self, dialog: DialogId) {
        let Some(id) = self.switchboard.call_of(dialog) else { return };
        self.dialling.mark(id, Heard::Unavailable(None), Instant::now());
        if let Some(placing) = self.dialling.placing.get_mut(&id) {
            placing.attempt.handle_unanswered();
            self.carry_out_attempt(id);
        }
    }
}
