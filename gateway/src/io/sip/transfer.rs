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
use crate::route::{BridgePlan, BridgeTarget, Line, NoRoute, Plan, Question, Router, number_digits};

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
        // Who is being transferred, or put through by their agent, stays.
        if !has(LegId::First) || has(LegId::Parked) || self.dialling.leading.is_leading(id) {
            return Err(DECLINED);
        }
        let user = target.user().ok_or(NOT_FOUND)?;
        let extension = self.switchboard.party(id, leg).and_then(|user| self.snapshot.extensions.get_key_value(user));
        let (leaves, stays) = (self.shown_party(id, leg), self.shown_party(id, leg.other()));
        let question = Question {
            request_user: user,
            to_user: "",
            caller: &leaves,
            line: extension.map_or(Line::Other, |(user, extension)| Line::Extension(user, extension)),
        };
        let mut plan = self.way_of(&question).map_err(|no_route| no_route.status())?;
        if !has(LegId::Second) {
            // The agent stays; another one does not come to talk to it.
            plan.targets.retain(|target| !matches!(target, BridgeTarget::Agent { .. }));
        }
        if plan.targets.is_empty() {
            return Err(DECLINED);
        }
        // Who comes is shown who stays.
        plan.caller = stays;
        Ok((id, leg, plan))
    }

    /// Who is at the far end of a leg, as others are shown it: the extension, else who has called or was called.
    fn shown_party(&self, id: CallId, leg: LegId) -> String {
        let parties = self.switchboard.entry(id).map(|entry| &entry.parties);
        let other = parties.map(|parties| if leg == LegId::First { &parties.from } else { &parties.to });
        self.switchboard.party(id, leg).or(other).cloned().unwrap_or_default()
    }

    /// The lines that a question comes to; an agent of the box is one.
    fn way_of(&self, question: &Question<'_>) -> Result<BridgePlan, NoRoute> {
        let at = self.config.timezone.to_datetime(Timestamp::now());
        let answer = Router { snapshot: &self.snapshot, gate: &self.dialling.gate, at }.route(question);
        let route = answer.verdict?;
        Ok(match route.plan {
            Plan::Bridge(plan) => *plan,
            plan => BridgePlan {
                targets: vec![BridgeTarget::Agent { plan: Box::new(plan), agent_id: route.agent_id }],
                refused_with: None,
                caller: question.request_user.to_owned(),
                disclosure: Disclosure::Shown,
                caller_name: None,
                called: route.called,
                is_emergency: false,
            },
        })
    }

    /// Finds the way for a caller whom an agent puts through. Outside it is shown with the agent's own number.
    pub(super) fn put_through(&mut self, id: CallId, to: &str) {
        let parties = self.switchboard.entry(id).map(|entry| entry.parties.clone()).unwrap_or_default();
        let own = |number: &str| number_digits(number).filter(|digits| self.snapshot.numbers.contains_key(digits));
        // A call that the box has placed is the agent's own.
        let (own, caller) = match (own(&parties.from), own(&parties.to)) {
            (Some(own), _) => (Some(own), &parties.to),
            (None, own) => (own, &parties.from),
        };
        let line = Line::Agent(own.as_deref());
        let way = self.way_of(&Question { request_user: to, to_user: "", caller, line });
        match &way {
            Ok(_) => {
                tracing::info!(call = %id, "The agent has its caller put through");
                self.dialling.leading.promise(id);
            }
            Err(no_route) => tracing::info!(call = %id, "The agent's caller cannot be put through: {no_route}"),
        }
        let none = |_| Outcome::new(Blame::Operator, EndReason::NotFound);
        self.tell(id, ToCall::PutThrough(way.map(Box::new).map_err(none)));
    }

    /// Who talks in two calls joins those they talk to (RFC 5589 §7): the leg of the one who was asked for advice moves to
    /// the call of the one who waits, or that one's to the call with an agent, which has no leg that could move.
    fn join(&mut self, dialog: DialogId, replaces: &Replaces, now: Instant) {
        let asked = self.endpoint.dialog_of_replaces(replaces);
        let joined = asked.and_then(|asked| Some((asked, self.joined(dialog, asked)?)));
        let accepted = joined.filter(|_| self.endpoint.accept_refer(dialog, now).is_ok());
        let Some((asked, Joined { moved, from, leg, to, at })) = accepted else {
            // As in `handle_referred`.
            let _ = self.endpoint.refuse_refer(dialog, DECLINED, now);
            return;
        };
        tracing::info!(call = %to, "Two calls are joined");
        let party = self.switchboard.party(from, leg).cloned();
        let _ = self.endpoint.notify_refer(dialog, 200, true, now);
        for ended in [dialog, asked] {
            let _ = self.endpoint.hang_up(ended, None, now);
            self.switchboard.leave(ended);
        }
        self.switchboard.leave(moved);
        self.switchboard.bind_leg(to, at, moved);
        if let Some(party) = party {
            self.switchboard.set_party(moved, &party);
        }
        // Should a restart come, the dialog is that of the call that goes on.
        self.save_dialog(to, moved);
        if self.tell(from, ToCall::Give { leg, to, at }) != Some(true) {
            self.end_legs(to, Outcome::new(Blame::Gateway, EndReason::Overloaded));
        }
    }

    /// What moves where when the one at the far ends of both dialogs leaves.
    fn joined(&self, dialog: DialogId, asked: DialogId) -> Option<Joined> {
        let is_up = |id, leg| self.switchboard.dialog(id, leg).is_some();
        let (waits, leaves) = self.switchboard.leg_of(dialog)?;
        let (advises, consulted) = self.switchboard.leg_of(asked)?;
        let is_steady = |id, leg: LegId| is_up(id, leg) && !is_up(id, LegId::Parked) && leg != LegId::Parked;
        if waits == advises || !is_steady(waits, leaves) || !is_steady(advises, consulted) {
            return None;
        }
        let moves = |from, leg: LegId, to, at| {
            let moved = self.switchboard.dialog(from, leg)?;
            Some(Joined { moved, from, leg, to, at })
        };
        match (is_up(waits, leaves.other()), is_up(advises, consulted.other())) {
            (true, true) => moves(advises, consulted.other(), waits, leaves),
            (true, false) => moves(waits, leaves.other(), advises, consulted),
            (false, true) => moves(advises, consulted.other(), waits, leaves),
            // Agents talk to people.
            (false, false) => None,
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
    pub(super) fn undo_transfer(&mut self, id: CallId, leg: LegId, failure: Outcome) {
        if let Some(parked) = self.switchboard.dialog(id, LegId::Parked) {
            // As above.
            let _ = self.endpoint.notify_refer(parked, refusal(failure).status, true, Instant::now());
            self.switchboard.bind_leg(id, leg, parked);
        }
    }

    /// The line that was called for an agent is the call's first leg. Should a restart come, its dialog is the call's.
    pub(super) fn promote(&mut self, id: CallId) {
        if let Some(dialog) = self.switchboard.dialog(id, LegId::Second) {
            self.switchboard.bind_leg(id, LegId::First, dialog);
            self.save_dialog(id, dialog);
        }
    }
}

/// A leg that goes over to another call.
struct Joined {
    /// Its dialog.
    moved: DialogId,
    /// Whose it is, and which of its legs.
    from: CallId,
    leg: LegId,
    /// Where it goes, and in the place of which leg.
    to: CallId,
    at: LegId,
}

/// RFC 3261 §21.4.19.
const NO_DIALOG: u16 = 481;

/// RFC 3261 §21.4.5.
const NOT_FOUND: u16 = 404;

/// RFC 3515 §2.4.2.
const DECLINED: u16 = 603;
