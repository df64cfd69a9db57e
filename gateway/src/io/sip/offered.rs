//! Calls that come in: found, admitted, journalled and handed to a shard, or refused with the cause.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use talkstack_control::port::{
    Blame, CallEvent, CallId, CallStarted, CommandReply, Direction, EndReason, Outcome, RouteQuestion,
};
use talkstack_media::sip::message::{CallerIdentity, Trust, Uri};
use talkstack_media::sip::{DialogId, Offered};

use super::SipThread;
use super::registrar::Caller;
use crate::agent::provider::Parties;
use crate::caller::{Shown, shown};
use crate::caller_id::Disclosure;
use crate::io::shard::{OfferedCall, ToShard};
use crate::numbering::of_uri;
use crate::route::{Line, NoRoute, Plan, Question, Route, Router, Rule, simulate};
use crate::switchboard::Channels;

impl SipThread {
    /// A call comes in: found, admitted, journalled and handed to a shard, or refused with the cause.
    pub(super) fn handle_offered(&mut self, offered: Offered) {
        let dialog = offered.dialog;
        self.apply_extensions(&offered);
        let caller = self.authenticate_offered(&offered, Instant::now());
        if let Some(replaced) = offered.replaces {
            return self.handle_replacing(offered, caller, replaced);
        }
        let trunk_id = match &caller {
            Caller::Extension(_) => None,
            _ => self.trunk_of(&offered),
        };
        let phone = match &caller {
            Caller::Extension(user) => Some(user.clone()),
            Caller::Stranger | Caller::Unproven(_) => None,
        };
        let shown = self.shown(&offered, trunk_id.as_deref());
        let routed = self.route_of(&offered, &caller, trunk_id.as_deref(), &shown);
        let is_emergency = routed.as_ref().map_or_else(|no| *no == NoRoute::NoEmergencyTrunk, Route::is_emergency);
        if let Caller::Unproven(refusal) = caller
            && !is_emergency
        {
            // A dialog that is gone already needs no refusal.
            let _ = self.endpoint.refuse(dialog, refusal, Instant::now());
            return;
        }
        let mut route = match routed {
            Ok(route) => route,
            Err(no_route) => return self.refuse_unrouted(dialog, &no_route),
        };
        if let Plan::Bridge(bridge) = &mut route.plan {
            // Who calls for help is to be found.
            let is_told = bridge.is_emergency || !shown.is_withheld;
            bridge.disclosure = if is_told { Disclosure::Shown } else { Disclosure::Withheld };
        }
        let id = CallId(self.random.u128());
        let shard = match self.room_for(id, &route, dialog, trunk_id.as_deref()) {
            Ok(shard) => shard,
            Err(cause) => {
                self.told.counters.overloaded += 1;
                tracing::warn!("Refused a call with 503: {cause}");
                return self.refuse(dialog, 503, Some(cause), Some(RETRY_AFTER));
            }
        };
        if let Some(user) = &phone {
            self.switchboard.set_party(dialog, user);
        }
        let security = self.security_of(phone.as_deref(), trunk_id.as_deref(), &offered.flow);
        self.switchboard.set_parties(id, Parties { from: shown.number.clone(), to: route.called.clone() });
        self.record(id, CallEvent::Started(started(&offered, &route, trunk_id, shown)));
        match route.is_emergency() {
            true => tracing::warn!(call = %id, "An emergency call comes in from a phone of this box"),
            false => tracing::info!(call = %id, "A call comes in"),
        }
        let call = OfferedCall {
            id,
            // The built-in users are nobody's, and nothing is announced to who calls for help.
            is_recorded: route.project_id.is_some() && !route.is_emergency(),
            plan: route.plan,
            sdp: offered.sdp,
            local: self.media_address(&offered.flow),
            signalling: offered.flow.remote.ip(),
            seed: self.random.u64(),
            security,
        };
        if self.shards[shard].send(ToShard::Offered(Box::new(call))).is_err() {
            let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
            self.record(id, CallEvent::Ended { outcome });
            self.switchboard.remove(id);
            self.refuse(dialog, 503, Some("the media thread is busy".into()), Some(RETRY_AFTER));
        }
    }

    fn refuse_unrouted(&mut self, dialog: DialogId, no_route: &NoRoute) {
        let status = no_route.status();
        match no_route {
            NoRoute::NoEmergencyTrunk => tracing::error!("Refused an emergency call with {status}: {no_route}"),
            _ => tracing::info!("Refused a call with {status}: the routes of this box lead it nowhere"),
        }
        tracing::debug!("{no_route}");
        self.refuse(dialog, status, Some(no_route.to_string()), None);
    }

    /// The trunk that a call comes by; where several accounts lie with one provider, the one that lists the called
    /// number.
    fn trunk_of(&self, offered: &Offered) -> Option<String> {
        let mut trunks = self.dialling.trunks.trunks_of(offered.flow.remote.ip());
        let first = trunks.next()?;
        let lists = |id: &&str| {
            let trunk = self.snapshot.trunks.get(*id);
            let called = [&offered.request_uri, &offered.to.uri].into_iter();
            let mut numbers = called.filter_map(|uri| of_uri(&trunk?.numbering, uri));
            numbers.any(|number| trunk.is_some_and(|trunk| trunk.numbers.iter().any(|own| number[1..] == **own)))
        };
        let listing = [first].into_iter().chain(trunks).find(lists);
        Some(listing.unwrap_or(first).to_owned())
    }

    /// Who calls: what a trunk asserts is believed, and written by its numbering.
    fn shown(&self, offered: &Offered, trunk_id: Option<&str>) -> Shown {
        let trust = if trunk_id.is_some() { Trust::Trusted } else { Trust::Stranger };
        let trunk = trunk_id.and_then(|id| self.snapshot.trunks.get(id));
        shown(&CallerIdentity::of(&offered.headers), trust, trunk.map(|trunk| &trunk.numbering))
    }

    /// Where the call goes, by the configuration and the clock of this moment.
    fn route_of(
        &self,
        offered: &Offered,
        caller: &Caller,
        trunk_id: Option<&str>,
        shown: &Shown,
    ) -> Result<Route, NoRoute> {
        let service = match &offered.request_uri {
            Uri::Other(urn) => Some(urn.as_str()),
            Uri::Sip(_) | Uri::Tel(..) => None,
        };
        let phone = match caller {
            Caller::Extension(user) => self.snapshot.extensions.get_key_value(user),
            // Known by where it registered from, a phone calls for help without being asked who it is.
            Caller::Unproven(_) => self.bound_caller(offered),
            Caller::Stranger => None,
        };
        let is_proven = matches!(caller, Caller::Extension(_));
        let line = match (phone, trunk_id) {
            (Some((user, extension)), _) => Line::Extension(user, extension),
            (None, Some(trunk_id)) => Line::Trunk(trunk_id),
            (None, None) => Line::Other,
        };
        let question = Question {
            request_user: service.or_else(|| offered.request_uri.user()).unwrap_or_default(),
            to_user: offered.to.uri.user().unwrap_or_default(),
            caller: &shown.number,
            line,
        };
        let at = self.config.timezone.to_datetime(Timestamp::now());
        let router = Router { snapshot: &self.snapshot, gate: &self.dialling.gate, at };
        let answer = router.route(&question);
        if phone.is_some() && !is_proven && !matches!(answer.rule, Rule::Emergency(_)) {
            return router.route(&Question { line: Line::Other, ..question }).verdict;
        }
        answer.verdict
    }

    /// The shard that takes the call, or why none does. Who calls for help is taken in past every limit.
    fn room_for(
        &mut self,
        id: CallId,
        route: &Route,
        dialog: DialogId,
        trunk_id: Option<&str>,
    ) -> Result<usize, String> {
        let trunk = trunk_id.and_then(|id| Some((id, self.snapshot.trunks.get(id)?)));
        let channels = trunk.map(|(trunk, route)| Channels { trunk, max: route.max_channels });
        let admitted = if route.is_emergency() {
            self.switchboard.admit_past_limits(id, Some(dialog), trunk_id)
        } else if self.has_room() {
            self.switchboard.admit(id, Some(dialog), channels)
        } else {
            return Err("the journal is full".into());
        };
        admitted.map_err(|full| full.to_string())
    }

    /// Says where a call would go, and lets nothing ring.
    pub(super) fn simulate(&self, question: &RouteQuestion) -> CommandReply {
        let asked = question.at_ms.and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
        let at = self.config.timezone.to_datetime(asked.unwrap_or_else(Timestamp::now));
        CommandReply::Routed(Box::new(simulate(&self.snapshot, &self.dialling.gate, question, at)))
    }
}

fn started(offered: &Offered, route: &Route, trunk_id: Option<String>, shown: Shown) -> CallStarted {
    CallStarted {
        direction: Direction::Inbound,
        from: shown.number,
        to: route.called.clone(),
        project_id: route.project_id.clone(),
        agent_id: route.agent_id.clone(),
        sip_call_id: offered.call_id.chars().take(SHOWN_CALL_ID).collect(),
        trunk_id,
        display_name: shown.name,
        verstat: shown.verstat,
        attestation: shown.attestation,
        diverted_from: shown.diverted_from,
    }
}

/// 10 s: a call of the median length has ended by then on a full box.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(10);

/// 255: longer ones are kept by nobody's switch.
const SHOWN_CALL_ID: usize = 255;
