//! Calls that come in: found, admitted, journalled and handed to a shard, or refused with the cause.

use std::time::Duration;

use talkstack_control::port::{Blame, CallEvent, CallId, CallStarted, Direction, EndReason, Outcome};
use talkstack_media::sip::Offered;
use talkstack_media::sip::message::NameAddr;

use super::SipThread;
use crate::io::shard::{OfferedCall, ToShard};
use crate::route::{Route, number_digits, route};
use crate::switchboard::Channels;

impl SipThread {
    /// A call comes in: found, admitted, journalled and handed to a shard, or refused with the cause.
    pub(super) fn handle_offered(&mut self, offered: Offered) {
        let dialog = offered.dialog;
        let users = [offered.request_uri.user(), offered.to.uri.user()].map(Option::unwrap_or_default);
        let route = match route(&self.snapshot, users[0], users[1]) {
            Ok(route) => route,
            Err(no_route) => {
                tracing::info!("Refused a call with 404: nobody here has the number or user it asks for");
                tracing::debug!("{no_route}");
                return self.refuse(dialog, 404, Some(no_route.to_string()), None);
            }
        };
        let id = CallId(self.random.u128());
        let trunk_id = self.dialling.trunks.trunk_of(offered.flow.remote.ip()).map(str::to_owned);
        let trunk = trunk_id.as_deref().and_then(|id| Some((id, self.snapshot.trunks.get(id)?)));
        let channels = trunk.map(|(trunk, route)| Channels { trunk, max: route.max_channels });
        let room = if self.has_room() {
            self.switchboard.admit(id, Some(dialog), channels).map_err(|full| full.to_string())
        } else {
            Err("the journal is full".into())
        };
        let shard = match room {
            Ok(shard) => shard,
            Err(cause) => {
                self.counters.overloaded += 1;
                tracing::warn!("Refused a call with 503: {cause}");
                return self.refuse(dialog, 503, Some(cause), Some(RETRY_AFTER));
            }
        };
        self.record(id, CallEvent::Started(started(&offered, &route, trunk_id)));
        tracing::info!(call = %id, "A call comes in");
        let call = OfferedCall {
            id,
            plan: route.plan,
            sdp: offered.sdp,
            local: self.config.advertised_ip.unwrap_or(offered.flow.local.ip()),
            signalling: offered.flow.remote.ip(),
            seed: self.random.u64(),
            // The built-in users are nobody's.
            is_recorded: route.project_id.is_some(),
        };
        if self.shards[shard].send(ToShard::Offered(Box::new(call))).is_err() {
            let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
            self.record(id, CallEvent::Ended { outcome });
            self.switchboard.remove(id);
            self.refuse(dialog, 503, Some("the media thread is busy".into()), Some(RETRY_AFTER));
        }
    }
}

fn started(offered: &Offered, route: &Route, trunk_id: Option<String>) -> CallStarted {
    CallStarted {
        direction: Direction::Inbound,
        from: caller(&offered.from),
        to: route.called.clone(),
        project_id: route.project_id.clone(),
        agent_id: route.agent_id.clone(),
        sip_call_id: offered.call_id.chars().take(SHOWN_CALL_ID).collect(),
        trunk_id,
        display_name: None,
        verstat: None,
        attestation: None,
        diverted_from: None,
    }
}

/// `+` and digits where the caller is an international number, else the user as it came.
fn caller(from: &NameAddr) -> String {
    let user = from.uri.user().unwrap_or("anonymous");
    match number_digits(user) {
        Some(digits) if user.starts_with('+') || user.starts_with("00") => format!("+{digits}"),
        _ => user.chars().filter(|letter| !letter.is_control()).take(SHOWN_CALLER).collect(),
    }
}

/// 10 s: a call of the median length has ended by then on a full box.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(10);

/// 128: the longest user parts that mean anything.
const SHOWN_CALLER: usize = 128;

/// 255: longer ones are kept by nobody's switch.
const SHOWN_CALL_ID: usize = 255;
