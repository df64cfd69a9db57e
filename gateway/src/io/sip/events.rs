//! What the endpoint tells: each event to whom it concerns.

use std::time::Instant;

use talkstack_control::port::{Blame, EndReason, Outcome};
use talkstack_media::sip::{EndCause, Event, InfoDigit};

use super::{SipThread, offered};
use crate::io::shard::ToCall;

impl SipThread {
    pub(super) fn handle_event(&mut self, event: Event) {
        let event = self.handle_led_event(event).and_then(|event| self.handle_test_event(event));
        let Some(event) = event.and_then(|event| self.handle_account_event(event)) else { return };
        match event {
            Event::Progressed { dialog, sdp, .. } => self.handle_progressed(dialog, sdp),
            Event::Accepted { dialog, sdp, .. } => self.handle_accepted(dialog, sdp),
            Event::Refused { dialog, status, contacts, retry_after, .. } => {
                self.handle_refused(dialog, status, contacts, retry_after);
            }
            Event::Unanswered { dialog } => self.handle_unanswered(dialog),
            Event::Offered(offered) if self.is_stopping => {
                let cause = Some("the box is stopping".into());
                self.refuse(offered.dialog, 503, cause, Some(offered::RETRY_AFTER));
            }
            Event::Offered(offered) => self.handle_offered(*offered),
            Event::ReOffered { dialog, sdp, .. } => {
                if let Some((id, leg)) = self.switchboard.leg_of(dialog)
                    && self.tell(id, ToCall::ReOffered(leg, sdp)) != Some(true)
                {
                    self.refuse(dialog, 500, Some("The media thread is busy".into()), None);
                }
            }
            Event::Acknowledged { dialog, sdp } => {
                if let Some((id, leg)) = self.switchboard.leg_of(dialog) {
                    self.tell(id, ToCall::Acknowledged(leg, sdp));
                }
            }
            Event::Ended { dialog, cause, .. } => {
                let outcome = match cause {
                    EndCause::Bye => Outcome::new(Blame::Caller, EndReason::HungUp),
                    EndCause::Cancelled => Outcome::new(Blame::Caller, EndReason::Cancelled),
                    EndCause::NoAck | EndCause::NoPrack => Outcome::new(Blame::Trunk, EndReason::NoAck),
                    EndCause::Extension => Outcome::new(Blame::Caller, EndReason::Rejected),
                    EndCause::Gone | EndCause::Expired => Outcome::new(Blame::Trunk, EndReason::MediaTimeout),
                };
                if let Some((id, leg)) = self.switchboard.leg_of(dialog) {
                    self.tell(id, ToCall::Ended(leg, outcome));
                }
            }
            Event::RefusalSeen(seen) => self.handle_refusal(*seen, Instant::now()),
            Event::Referred { dialog, target, replaces, .. } => {
                self.handle_referred(dialog, &target, replaces.as_ref());
            }
            Event::Info { dialog, content_type, body } => {
                if let Some((id, leg)) = self.switchboard.leg_of(dialog)
                    && let Some(digit) = InfoDigit::parse(&content_type, &body)
                {
                    self.tell(id, ToCall::Pressed(leg, digit));
                }
            }
            Event::Reanswered { dialog, sdp } => {
                if let Some((id, leg)) = self.switchboard.leg_of(dialog) {
                    self.tell(id, ToCall::ReAnswered(leg, sdp));
                }
            }
            Event::ReofferFailed { dialog, status } => {
                if let Some((id, leg)) = self.switchboard.leg_of(dialog) {
                    tracing::warn!(call = %id, status, "The far end refused to be told our new address: sound may be lost");
                    self.tell(id, ToCall::ReOfferFailed(leg));
                }
            }
            // Nothing in the box sends callers elsewhere.
            Event::ReferProgress { .. }
            | Event::ReferRefused { .. }
            | Event::Registering { .. }
            | Event::Responded { .. }
            | Event::RequestTimedOut { .. } => {}
        }
    }
}
