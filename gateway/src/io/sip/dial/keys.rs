//! Keys of calls that are placed: each trunk's own rules, and no key told where others read it.

use talkstack_control::port::CallId;

use super::super::SipThread;
use super::super::security::Wanted;
use super::Placing;
use crate::io::shard::ToCall;
use crate::trunks::Hop;

impl SipThread {
    /// Settles how the call's media is secured on the trunk that it is tried on, and returns the places where the offer
    /// may go. A trunk that wants it otherwise than the one before has the offer made anew.
    pub(super) fn secure_placing(&mut self, id: CallId, mut hops: Vec<Hop>) -> Option<Vec<Hop>> {
        let wanted = Wanted::of_trunk(&self.dialling.placing.get(&id)?.attempt.carrier().trunk.media);
        if hops.iter().any(|hop| wanted.may_go_over(hop.transport)) {
            hops.retain(|hop| wanted.may_go_over(hop.transport));
        }
        let security = self.security_towards(wanted, hops.iter().map(|hop| hop.transport));
        let placing = self.dialling.placing.get_mut(&id)?;
        if !placing.is_at_shard || hops.is_empty() {
            placing.security.get_or_insert(security);
            return Some(hops);
        }
        if placing.security.is_none_or(|former| !former.wants_the_same(&security)) {
            placing.security = Some(security);
            placing.sdp = None;
            placing.attempt.handle_offer_withdrawn();
            self.tell(id, ToCall::Carried(Box::new(security)));
        }
        Some(hops)
    }
}

impl Placing {
    /// Tells whether the offer would tell its keys to everybody on the way there.
    pub(super) fn would_tell_keys_to(&self, hop: Hop) -> bool {
        let wanted = Wanted::of_trunk(&self.attempt.carrier().trunk.media);
        let has_keys = self.security.is_some_and(|security| security.media.tells_keys());
        has_keys && !wanted.tells_keys_over(hop.transport)
    }
}
