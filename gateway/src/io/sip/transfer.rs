//! Transfers that a phone in a call asks for (RFC 3515): who it asks for is found like any call of its own.

use std::time::Instant;

use jiff::Timestamp;
use talkstack_control::port::{Blame, CallId, EndReason, Outcome};
use talkstack_media::sip::DialogId;
use talkstack_media::sip::message::{Replaces, Uri};

use super::SipThread;
use super::wishes::refusal;
use crate::call::LegId;
use crate::caller_id::Disclosure;
use crate::io::shard::{GivenLeg, ToCall, ToShard};
use crate::route::{BridgePlan, BridgeTarget, Line, Plan, Question, Router};

impl SipThread {
    /// A far end asks to have another take its place.
    pub(super) fn handle_referred(&mut self, dialog: DialogId, target: &Uri, replaces: Option<&Replaces>) {
        let now = Instant::now();
        if let Some(replaces) = replaces {
            return self.join(dialog, replaces, now);
        }
        let status = match self.transfer_of(dialog, target) {
            Ok((id, from, plan)) => {
                // One that is gone meanwhile has nothing to transfer.
                if self.endpoint.accept_refer(dialog, now).is_err() {
                    return;
                }
                tracing::info!(call = %id, "A transfer is asked for");
                self.switchboard.park(id, from);
                self.tell(id, ToCall::Transfer { from, plan: Box::new(plan) });
                return;
            }
            Err(status) => status,
        };
        // As above.
        let _ = self.endpoint.refuse_refer(dialog, status, now);
    }

    /// Which leg is to leave which call, and who is to come; or the status that refuses it.
    fn transfer_of(&self, dialog: DialogId, target: &Uri) -> Result<(CallId, LegId, BridgePlan), u16> {
        let (id, leg) = self.switchboard.leg_of(dialog).ok_or(NO_DIALOG)?;
        let has = |leg| self.switchboard.dialog(id, leg).is_some();
        // Who talks to an agent, or is being transferred, stays.
        if !has(LegId::First) || !has(LegId::Second) || has(LegId::Parked) {
            return Err(DECLINED);
        }
        let user = target.user().ok_or(NOT_FOUND)?;
        let party = |leg| self.switchboard.party(id, leg);
        let extension = party(leg).and_then(|user| Some((user, self.snapshot.extensions.get(user)?)));
        let question = Question {
            request_user: user,
            to_user: "",
            caller: party(leg).map_or("", String::as_str),
            line: extension.map_or(Line::Other, |(user, extension)| Line::Extension(user, extension)),
        };
        let at = self.config.timezone.to_datetime(Timestamp::now());
        let answer = Router { snapshot: &self.snapshot, gate: &self.dialling.gate, at }.route(&question);
        let route = answer.verdict.map_err(|no_route| no_route.status())?;
        let mut plan = match route.plan {
            Plan::Bridge(plan) => *plan,
            plan => BridgePlan {
                targets: vec![BridgeTarget::Agent { plan: Box::new(plan), agent_id: route.agent_id }],
                refused_with: None,
                caller: user.to_owned(),
                disclosure: Disclosure::Shown,
                caller_name: None,
                called: route.called,
                is_emergency: false,
            },
        };
        // Who comes is shown who stays.
        if let Some(stays) = party(leg.other()) {
            plan.caller = stays.clone();
        }
        Ok((id, leg, plan))
    }

    /// Who talks in two calls joins those they talk to (RFC 5589 §7): the leg of the one who was asked for advice moves to
    /// the call of the one who waits.
    fn join(&mut self, dialog: DialogId, replaces: &Replaces, now: Instant) {
        let talks = |id, leg: LegId| {
            let is_up = |leg| self.switchboard.dialog(id, leg).is_some();
            is_up(leg) && is_up(leg.other()) && !is_up(LegId::Parked)
        };
        let here = self.switchboard.leg_of(dialog).filter(|(id, leg)| talks(*id, *leg));
        let asked = self.endpoint.dialog_of_replaces(replaces);
        let there = asked.and_then(|asked| self.switchboard.leg_of(asked)).filter(|(id, leg)| talks(*id, *leg));
        let (Some((id, at)), Some((from, consulted)), Some(asked)) = (here, there, asked) else {
            // As in `handle_referred`.
            let _ = self.endpoint.refuse_refer(dialog, DECLINED, now);
            return;
        };
        let moved = self.switchboard.dialog(from, consulted.other()).filter(|_| id != from);
        let Some(moved) = moved.filter(|_| self.endpoint.accept_refer(dialog, now).is_ok()) else {
            let _ = self.endpoint.refuse_refer(dialog, DECLINED, now);
            return;
        };
        tracing::info!(call = %id, "Two calls are joined");
        let party = self.switchboard.party(from, consulted.other()).cloned();
        let _ = self.endpoint.notify_refer(dialog, 200, true, now);
        for ended in [dialog, asked] {
            let _ = self.endpoint.hang_up(ended, None, now);
            self.switchboard.leave(ended);
        }
        self.switchboard.leave(moved);
        self.switchboard.bind_leg(id, at, moved);
        if let Some(party) = party {
            self.switchboard.set_party(moved, &party);
        }
        // Should a restart come, the dialog is that of the call that goes on.
        self.save_dialog(id, moved);
        if self.tell(from, ToCall::Give { leg: consulted.other(), to: id, at }) != Some(true) {
            self.end_legs(id, Outcome::new(Blame::Gateway, EndReason::Overloaded));
        }
    }

    /// Brings a leg to the shard of its call. A call that is gone meanwhile has no use for it.
    pub(super) fn hand_over(&mut self, id: CallId, given: Box<GivenLeg>) {
        let Some(shard) = self.switchboard.entry(id).map(|entry| entry.shard) else { return };
        // A shard that takes nothing is watched.
        let _ = self.shards[shard].send(ToShard::Take(id, given));
    }

    /// Tells the one who has asked for a transfer that it rings.
    pub(super) fn tell_transferor(&mut self, id: CallId, status: u16) {
        if let Some(parked) = self.switchboard.dialog(id, LegId::Parked) {
            // It may not want to know.
            let _ = self.endpoint.notify_refer(parked, status, false, Instant::now());
        }
    }

    /// The transfer is done: who asked for it is told and let go.
    pub(super) fn end_transfer(&mut self, id: CallId) {
        let now = Instant::now();
        if let Some(parked) = self.switchboard.dialog(id, LegId::Parked) {
            // It may have hung up already.
            let _ = self.endpoint.notify_refer(parked, 200, true, now);
            let _ = self.endpoint.hang_up(parked, None, now);
            self.switchboard.leave(parked);
        }
    }

    /// Nobody came: who asked for the transfer is told and is back.
    pub(super) fn undo_transfer(&mut self, id: CallId, failure: Outcome) {
        if let Some(parked) = self.switchboard.dialog(id, LegId::Parked) {
            // As above.
            let _ = self.endpoint.notify_refer(parked, refusal(failure).status, true, Instant::now());
            self.switchboard.bind_leg(id, LegId::Second, parked);
        }
    }
}

/// RFC 3261 §21.4.19.
const NO_DIALOG: u16 = 481;

/// RFC 3261 §21.4.5.
const NOT_FOUND: u16 = 404;

/// RFC 3515 §2.4.2.
const DECLINED: u16 = 603;
