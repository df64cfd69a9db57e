//! Our media has another address: a far end that was told the former one is told anew, by re-INVITE (`telephony` 7).

use std::net::IpAddr;
use std::time::Instant;

use super::{Call, CallOutput, LegId, Phase};

impl Call {
    /// Towards this leg's far end our media has this address from now on. Sound goes on as it is until they answer.
    pub fn handle_moved(&mut self, leg: LegId, host: IpAddr) {
        if self.phase == Phase::Over {
            return;
        }
        // One that is not answered yet has its offer out already; the next change tells it.
        let Some(its) = self.leg_mut(leg).filter(|leg| leg.session.is_some()) else { return };
        if let Some(sdp) = its.negotiation.offer_from(host) {
            self.outputs.push_back(CallOutput::ReOffer(leg, sdp));
        }
    }

    /// Our re-INVITE was answered; without a description all stays as it was.
    pub fn handle_reanswered(&mut self, leg: LegId, sdp: Option<&[u8]>, now: Instant) {
        let Some(its) = self.leg_mut(leg) else { return };
        match sdp.map(|sdp| its.negotiation.handle_answer(Some(sdp))) {
            Some(Ok(true)) => self.start_session(leg, now),
            // RFC 6141 §3.4: one that cannot be used changes nothing.
            Some(Err(_) | Ok(false)) | None => its.negotiation.give_up_offer(),
        }
    }

    /// Our re-INVITE was refused: all stays as it was.
    pub fn handle_reoffer_failed(&mut self, leg: LegId) {
        if let Some(its) = self.leg_mut(leg) {
            its.negotiation.give_up_offer();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::call::tests::{Bench, offer};
    use crate::call::{CallOutput, LegId};
    use crate::route::Plan;

    #[test]
    fn a_far_end_is_told_the_new_address_once_and_its_answer_counts() {
        let mut bench = Bench::new(Plan::Echo, Some(&offer("0", "sendrecv")));
        bench.pass(1);
        for (host, is_told) in [([10, 0, 0, 2], false), ([203, 0, 113, 9], true), ([203, 0, 113, 9], false)] {
            bench.outputs.clear();
            bench.call.handle_moved(LegId::First, host.into());
            bench.pass(0);
            let told: Vec<_> = bench
                .outputs
                .iter()
                .filter_map(|output| match output {
                    CallOutput::ReOffer(LegId::First, sdp) => Some(sdp.clone()),
                    _ => None,
                })
                .collect();
            assert_eq!(told.len(), usize::from(is_told), "{host:?}");
            for sdp in told {
                assert!(
                    sdp.contains("\r\nc=IN IP4 203.0.113.9\r\n") && sdp.contains(" 2 IN IP4 203.0.113.9\r\n"),
                    "{sdp}"
                );
            }
        }
        let elsewhere = offer("0", "sendrecv").replace("4000", "4010");
        bench.call.handle_reanswered(LegId::First, Some(elsewhere.as_bytes()), bench.now);
        bench.pass(1);
        assert_eq!(bench.sent_to, "10.0.0.1:4010");
        bench.call.handle_moved(LegId::First, [203, 0, 113, 10].into());
        bench.call.handle_reoffer_failed(LegId::First);
        bench.pass(1);
        assert_eq!((bench.sent_to.as_str(), bench.outcome()), ("10.0.0.1:4010", None), "a refusal changes nothing");
    }
}
