//! What a rule's targets come to: which of them can be used, and what serves the call.

use std::collections::BTreeMap;

use talkstack_control::gate::{GateRefusal, is_emergency};
use talkstack_control::model::E164;
use talkstack_control::port::{RouteRule, RouteSource, RouteTarget, TrunkRoute};

use super::{
    BridgePlan, BridgeTarget, Line, NoRoute, Plan, Question, Route, Router, dialled, international, plan, shown,
};
use crate::caller_id::Disclosure;

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// The rule names none.
    #[error("it has no target")]
    NoTarget,
    /// Its agent was deleted.
    #[error("its agent does not exist")]
    NoAgent,
    /// Its extension was deleted.
    #[error("its extension does not exist")]
    NoExtension,
    /// Its trunk was deleted, or none carries the number.
    #[error("no trunk carries the call")]
    NoTrunk,
    /// The called number cannot be dialled on the trunk.
    #[error("the called number cannot be dialled on the trunk")]
    NotDialable,
    /// The phone presents no number, and so calls inside only.
    #[error("the extension has no number to present outside")]
    NoNumber,
    /// The caller has proven to be nobody who may call out.
    #[error("only phones and trunks of this box call out, and this caller is neither")]
    Stranger,
    /// A rule for every line sends what a trunk brings out again.
    #[error("a rule that calls out for a trunk must name that trunk or the number")]
    NotForTrunks,
    /// The number is none that the box calls.
    #[error(transparent)]
    Gate(#[from] GateRefusal),
}

impl Unusable {
    /// The final response.
    pub fn status(self) -> u16 {
        match self {
            Unusable::NoTarget | Unusable::NoAgent | Unusable::NoExtension | Unusable::NoTrunk => 404,
            Unusable::NotDialable => 404,
            Unusable::NoNumber | Unusable::Stranger | Unusable::NotForTrunks | Unusable::Gate(_) => 403,
        }
    }
}

/// A number as a trunk is asked for it, and the one that is shown.
pub(super) struct Outgoing {
    pub(super) number: String,
    pub(super) from: String,
}

impl<'a> Router<'a> {
    /// What serves a call that one of the owner's rules has matched.
    pub(super) fn owners(&self, rule: &RouteRule, question: &Question<'a>, called: &str) -> Result<Route, NoRoute> {
        let mut chain = Vec::new();
        let (mut refused_with, mut unusable) = (None, None);
        for target in &rule.targets {
            if let RouteTarget::Refuse { status } = target {
                refused_with = Some(*status);
                break;
            }
            match self.target(rule, target, question, called) {
                Ok(target) => {
                    let answers = matches!(target, BridgeTarget::Agent { .. });
                    chain.push(target);
                    // Nothing comes after one that answers.
                    if answers {
                        break;
                    }
                }
                Err(why) => unusable = unusable.or(Some(why)),
            }
        }
        let route = || shown(&rule.name);
        match (chain.is_empty(), refused_with) {
            (true, Some(status)) => Err(NoRoute::Refused { route: route(), status }),
            (true, None) => Err(NoRoute::LeadsNowhere { route: route(), why: unusable.unwrap_or(Unusable::NoTarget) }),
            (false, _) => Ok(self.led_to(chain, refused_with, question, called)),
        }
    }

    /// A route to targets, one after the other; at least one.
    pub(super) fn led_to(
        &self,
        mut chain: Vec<BridgeTarget>,
        refused_with: Option<u16>,
        question: &Question<'a>,
        called: &str,
    ) -> Route {
        let project_id = self.project_of(&chain, question);
        let called = self.full_number(question.line, called).unwrap_or_else(|| called.to_owned());
        if let [BridgeTarget::Agent { .. }] = chain[..]
            && let Some(BridgeTarget::Agent { plan, agent_id }) = chain.pop()
        {
            return Route { plan: *plan, project_id, agent_id, called };
        }
        let (caller, caller_name) = match question.line {
            Line::Extension(user, extension) => {
                (user.to_owned(), (!extension.name.is_empty()).then(|| extension.name.clone()))
            }
            Line::Trunk(_) | Line::Agent(_) | Line::Other => {
                let full = self.full_number(question.line, question.caller);
                (full.unwrap_or_else(|| question.caller.to_owned()), None)
            }
        };
        let bridge = BridgePlan {
            targets: chain,
            refused_with,
            caller,
            disclosure: Disclosure::Shown,
            caller_name,
            called: called.clone(),
            is_emergency: false,
        };
        Route { plan: Plan::Bridge(Box::new(bridge)), project_id, agent_id: None, called }
    }

    fn target(
        &self,
        rule: &RouteRule,
        target: &RouteTarget,
        question: &Question<'a>,
        called: &str,
    ) -> Result<BridgeTarget, Unusable> {
        let answers = |plan, agent_id| Ok(BridgeTarget::Agent { plan: Box::new(plan), agent_id });
        match target {
            RouteTarget::Agent { agent_id } => {
                let agent = self.snapshot.agents.get(agent_id).ok_or(Unusable::NoAgent)?;
                answers(plan(Some(agent), &BTreeMap::new()), Some(agent_id.clone()))
            }
            RouteTarget::Attendant => answers(Plan::attendant(), None),
            RouteTarget::Echo => answers(Plan::Echo, None),
            RouteTarget::Extension { user, ring_s } => {
                let known = self.snapshot.extensions.contains_key(user);
                let target = BridgeTarget::Extension { user: user.clone(), ring_s: *ring_s };
                known.then_some(target).ok_or(Unusable::NoExtension)
            }
            RouteTarget::Trunk { trunk_id, number, ring_s } => {
                let trunk = self.snapshot.trunks.get(trunk_id).ok_or(Unusable::NoTrunk)?;
                let names_trunk = matches!(rule.from, RouteSource::Trunk { .. });
                if matches!(question.line, Line::Trunk(_)) && !names_trunk && number.is_none() {
                    return Err(Unusable::NotForTrunks);
                }
                let Outgoing { number, from } = self.outgoing(trunk, question, number.as_deref().unwrap_or(called))?;
                Ok(BridgeTarget::Trunk { trunk_id: trunk_id.clone(), number, from: Some(from), ring_s: *ring_s })
            }
            RouteTarget::Refuse { .. } => Err(Unusable::NoTarget),
        }
    }

    /// What a trunk is asked for, if the caller may call that.
    pub(super) fn outgoing(
        &self,
        trunk: &TrunkRoute,
        question: &Question<'a>,
        called: &str,
    ) -> Result<Outgoing, Unusable> {
        let from = self.presented(trunk, question)?;
        let called = dialled(called).ok_or(Unusable::NotDialable)?;
        let by_line = self.numbering(question.line).and_then(|numbering| international(numbering, &called));
        match by_line.or_else(|| international(&trunk.numbering, &called)) {
            Some(to) => {
                self.gate.check(&to, &from)?;
                Ok(Outgoing { number: to.as_str().to_owned(), from: from.as_str().to_owned() })
            }
            None => {
                if is_emergency(&called) {
                    return Err(GateRefusal::Emergency.into());
                }
                // A trunk of no country is a PBX, and short numbers are its phones; on a public one they cost.
                let is_inside = trunk.numbering.country_code.is_none() && called.len() <= INSIDE_DIGITS_MAX;
                let number = is_inside.then_some(called).ok_or(Unusable::NotDialable)?;
                Ok(Outgoing { number, from: from.as_str().to_owned() })
            }
        }
    }

    /// Whose number is shown outside: the phone's or the agent's own; of a call that a trunk brought, the number that was called, else
    /// one of the trunk's it goes out by.
    fn presented(&self, trunk: &TrunkRoute, question: &Question<'a>) -> Result<E164, Unusable> {
        let digits = match question.line {
            Line::Extension(_, extension) => extension.number.clone(),
            Line::Trunk(_) => {
                let called = self.full_number(question.line, question.request_user);
                let called = called.and_then(|called| called.strip_prefix('+').map(str::to_owned));
                let own = called.filter(|digits| self.snapshot.numbers.contains_key(digits));
                let theirs = trunk.numbering.default_number.as_ref().or(trunk.numbers.first());
                own.or_else(|| theirs.cloned())
            }
            Line::Agent(own) => own.map(str::to_owned).or_else(|| trunk.numbers.first().cloned()),
            Line::Other => return Err(Unusable::Stranger),
        };
        digits.and_then(|digits| E164::parse(&format!("+{digits}"))).ok_or(Unusable::NoNumber)
    }

    /// A number as E.164 with `+`, where the line's numbering or the box's own numbers tell.
    pub(super) fn full_number(&self, line: Line<'_>, user: &str) -> Option<String> {
        let number = dialled(user)?;
        let by_line = self.numbering(line).and_then(|numbering| international(numbering, &number));
        let own = || super::number_digits(&number).filter(|digits| self.snapshot.numbers.contains_key(digits));
        let by_plus = || number.starts_with('+').then(|| number.clone());
        by_line.map(|full| full.as_str().to_owned()).or_else(|| own().map(|own| format!("+{own}"))).or_else(by_plus)
    }

    /// The project that a call belongs to: of the agent that answers, else of the phone that calls, else of the one that
    /// is called.
    fn project_of(&self, chain: &[BridgeTarget], question: &Question<'a>) -> Option<String> {
        if let [BridgeTarget::Agent { agent_id: Some(id), .. }] = chain {
            return self.snapshot.agents.get(id).map(|agent| agent.project_id.clone());
        }
        let callers = match question.line {
            Line::Extension(_, extension) => extension.project_id.clone(),
            Line::Trunk(_) | Line::Agent(_) | Line::Other => None,
        };
        let called = || match chain.first() {
            Some(BridgeTarget::Extension { user, .. }) => self.snapshot.extensions.get(user)?.project_id.clone(),
            _ => None,
        };
        callers.or_else(called)
    }
}

/// 6 digits: the longest numbers within a PBX.
const INSIDE_DIGITS_MAX: usize = 6;
