//! INVITEs that take the place of a leg's dialog (RFC 3891): the far end has transferred the call, or a phone picks up what
//! rings at another.

use std::time::Instant;

use talkstack_control::port::{Blame, EndReason, Outcome};
use talkstack_media::sip::{DialogId, Offered, Refusal};

use super::SipThread;
use super::registrar::Caller;
use crate::call::LegId;
use crate::io::shard::ToCall;

impl SipThread {
    /// Has the call of an INVITE be that of the dialog which it replaces. Its sender must be a phone of ours or a trunk:
    /// whoever has read a Call-ID and its tags somewhere takes no call over (RFC 3891 §8).
    pub(super) fn handle_replacing(&mut self, offered: Offered, caller: Caller, replaced: DialogId) {
        let new = offered.dialog;
        let (refusal, user) = match caller {
            Caller::Unproven(refusal) => (Some(refusal), None),
            Caller::Stranger if self.dialling.trunks.trunk_of(offered.flow.remote.ip()).is_none() => {
                let reason = Some("only phones and trunks of this box take a call over".into());
                (Some(Refusal { reason, ..Refusal::new(403) }), None)
            }
            Caller::Stranger => (None, None),
            Caller::Extension(user) => (None, Some(user)),
        };
        let leg = self.switchboard.leg_of(replaced).filter(|(_, leg)| *leg != LegId::Parked);
        let (Some((id, leg)), None) = (leg, &refusal) else {
            let no_leg =
                || Refusal { reason: Some("its Replaces names no call that is up".into()), ..Refusal::new(481) };
            // A dialog that is gone already needs no refusal.
            let _ = self.endpoint.refuse(new, refusal.unwrap_or_else(no_leg), Instant::now());
            return;
        };
        tracing::info!(call = %id, "Another line takes a leg over");
        let rings = self.switchboard.dialog(id, leg) != Some(replaced);
        if rings {
            self.abandon_led(id);
        } else {
            self.dialling.leading.replaced.insert(new, replaced);
        }
        self.switchboard.leave(replaced);
        self.switchboard.bind_leg(id, leg, new);
        if let Some(user) = &user {
            self.switchboard.set_party(new, user);
        }
        let trunk_id = self.dialling.trunks.trunk_of(offered.flow.remote.ip()).map(str::to_owned);
        let security = self.security_of(user.as_deref(), trunk_id.as_deref(), &offered.flow);
        let replacement = ToCall::Replaced {
            leg,
            sdp: offered.sdp,
            local: self.media_address(&offered.flow),
            signalling: offered.flow.remote.ip(),
            seed: self.random.u64(),
            security: Box::new(security),
        };
        if self.tell(id, replacement) != Some(true) {
            self.end_legs(id, Outcome::new(Blame::Gateway, EndReason::Overloaded));
        }
    }

    /// The INVITE was answered: the dialog in whose place it came is over.
    pub(super) fn end_replaced(&mut self, new: DialogId) {
        if let Some(replaced) = self.dialling.leading.replaced.remove(&new) {
            // It may have hung up already.
            let _ = self.endpoint.hang_up(replaced, None, Instant::now());
        }
    }

    /// The INVITE cannot be taken: the leg's dialog is what it was.
    pub(super) fn restore_replaced(&mut self, new: DialogId) {
        let Some((id, leg)) = self.switchboard.leg_of(new) else { return };
        if let Some(replaced) = self.dialling.leading.replaced.remove(&new) {
            self.switchboard.leave(new);
            self.switchboard.bind_leg(id, leg, replaced);
        }
    }
}
