//! What a call wants done, and who does it.

use std::time::Instant;

use talkstack_control::port::{CallEvent, CommandReply};

use super::{Shard, SipWish, Surroundings, collect};
use crate::call::{CallOutput, LegId};

impl<S: Surroundings> Shard<S> {
    /// Carries out what a call wants done.
    pub(super) fn carry_out(&mut self, key: u32) {
        while let Some(slot) = self.slots.get_mut(key as usize).and_then(Option::as_mut) {
            let id = slot.call.id();
            let Some(output) = slot.call.poll_output() else { return };
            let wish = match output {
                CallOutput::Lead(order) => SipWish::Lead(order),
                CallOutput::Invite(leg, sdp) => SipWish::Invite(leg, sdp),
                CallOutput::PutThrough(to) => SipWish::PutThrough(to),
                CallOutput::Ring(sdp) => SipWish::Ring(sdp),
                CallOutput::Answer(leg, sdp) => SipWish::Answer(leg, sdp),
                CallOutput::ReOffer(leg, sdp) => SipWish::ReOffer(leg, sdp),
                CallOutput::RefuseReOffer(leg) => SipWish::RefuseReOffer(leg),
                CallOutput::Refuse(status) => SipWish::Refuse(status),
                CallOutput::Probe(leg) => SipWish::Probe(leg),
                CallOutput::Press(leg, digit) => SipWish::Press(leg, digit),
                CallOutput::End(leg, outcome) => SipWish::End(leg, outcome),
                CallOutput::Measured(heard, exchange) => SipWish::Measured(heard, exchange),
                CallOutput::Sounds(leg, quality) => {
                    self.record(id, CallEvent::Measured { leg, quality: Box::new(quality) });
                    continue;
                }
                CallOutput::Record(event) => {
                    self.record(id, event);
                    continue;
                }
                CallOutput::Connect(target, limit) => {
                    if !self.surroundings.connect(id, target, limit) {
                        self.turn(key, |call| call.handle_unreachable(Instant::now()));
                    }
                    continue;
                }
                CallOutput::Speak(text) => {
                    self.surroundings.speak(id, text);
                    continue;
                }
                CallOutput::Fetch(number, prepared) => {
                    self.surroundings.fetch(id, number, prepared);
                    continue;
                }
                CallOutput::Disconnect(farewell) => {
                    if let Some(agent) = slot.agent.take() {
                        agent.part(farewell);
                    }
                    continue;
                }
                CallOutput::Transferred => {
                    self.let_go(key, LegId::Parked);
                    SipWish::Transferred
                }
                CallOutput::Restore(leg, outcome) => {
                    self.move_leg(key, LegId::Parked, leg);
                    SipWish::Restore(leg, outcome)
                }
                CallOutput::Promote => {
                    self.move_leg(key, LegId::Second, LegId::First);
                    SipWish::Promote
                }
                CallOutput::Collected(collected) => {
                    collect::answer(slot, CommandReply::Collected(collected));
                    continue;
                }
                CallOutput::Finished => {
                    self.forget(key);
                    SipWish::Forgotten
                }
            };
            if !self.surroundings.sip(id, wish) {
                tracing::error!(call = %id, "The SIP thread does not take messages");
            }
        }
    }
}
