//! Where a call goes: a pure function of the last snapshot, the line it comes from, the called user and the hour.
//!
//! ```text
//!   a phone of ours dials 112 ─▶ the emergency trunks            (emergency)
//!   the owner's rules, the first that matches ─▶ its targets      (rules, hours, targets)
//!   demo, attendant, echo ─▶ the built-in agents                  (built_in)
//!   a number ─▶ its agent, else its project's active agent, else the attendant
//!   101 ─▶ a phone of ours
//!   a phone of ours dials out ─▶ the trunk of its number
//!   anything else ─▶ 404
//! ```

mod bridge;
mod built_in;
mod emergency;
mod hours;
mod number;
mod rules;
mod simulate;
mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::DateTime;
use talkstack_control::gate::Gate;
use talkstack_control::port::{AgentRoute, DialOrder, ExtensionRoute, Snapshot};

pub use bridge::{BridgePlan, BridgeTarget};
pub use number::{dialled, international, number_digits};
pub use rules::Mismatch;
pub use simulate::simulate;
pub use targets::Unusable;

use crate::agent::provider::{Greets, Opening, Parties, Patience, ServicePlan};
use crate::agent::template::fill;
use crate::agent::tools::Tools;
use crate::prompts::Language;

/// What routing reads.
#[derive(Debug, Clone, Copy)]
pub struct Router<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// Whom the box may call.
    pub gate: &'a Gate,
    /// The time of day on the wall of the box.
    pub at: DateTime,
}

/// A call that looks for its way.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The user of the Request-URI, or a whole `urn:service:sos`.
    pub request_user: &'a str,
    /// The user of the To header, which tells the number where the Request-URI is a trunk's own name.
    pub to_user: &'a str,
    /// The user of the caller, as presented.
    pub caller: &'a str,
    /// Where the call comes from.
    pub line: Line<'a>,
}

/// The line a call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A trunk.
    Trunk(&'a str),
    /// A phone of our own that has proven to be it.
    Extension(&'a str, &'a ExtensionRoute),
    /// An agent that puts its caller through to somebody its owner has named; the number that is its own, in digits.
    Agent(Option<&'a str>),
    /// Anyone else whom `sip.accept` admits.
    Other,
}

/// What a question comes to, and which rules were asked on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<'a> {
    /// Where the call goes.
    pub verdict: Result<Route, NoRoute>,
    /// The rule that decided.
    pub rule: Rule<'a>,
    /// The called number as that rule sees and rewrites it.
    pub called: String,
    /// The owner's rules that did not match, and why.
    pub passed: Vec<(&'a str, Mismatch)>,
}

/// What decides where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule<'a> {
    /// An emergency number, dialled by a phone of ours.
    Emergency(String),
    /// One of the owner's, by its id and name.
    Owners {
        /// Its id.
        id: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A user that every box has: `demo`, `attendant`, `echo`.
    BuiltIn(String),
    /// A number of the box, E.164 with `+`.
    Number(String),
    /// A phone of ours, by its user.
    Extension(String),
    /// A number outside, E.164 with `+`, dialled by a phone of ours.
    Outside(String),
    /// None does.
    Nothing,
}

/// What answers, and to whom the call belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Who talks to the caller.
    pub plan: Plan,
    /// The project that owns the called number.
    pub project_id: Option<String>,
    /// The agent that answers; `None` is the attendant.
    pub agent_id: Option<String>,
    /// The called number as E.164 with `+`, or the user as dialled.
    pub called: String,
}

/// Who talks to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The built-in attendant, in the name of an agent where the number has one.
    Attendant {
        /// The agent's name.
        name: Option<String>,
        /// What it speaks.
        language: Language,
    },
    /// The built-in echo.
    Echo,
    /// An agent behind a provider; the attendant if it cannot be reached.
    Service(Box<ServicePlan>),
    /// A tone and an ear for it, in a call that tests a trunk.
    ToneTest,
    /// Another line, or one after the other.
    Bridge(Box<BridgePlan>),
}

/// The call goes nowhere. Answer with the status, and with this as the Reason.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum NoRoute {
    /// Nothing answers the called user.
    #[error("no number or user {user} on this box")]
    Unknown {
        /// The Request-URI user, cut to [`SHOWN_USER_BYTES`].
        user: String,
    },
    /// A phone of ours calls for help, and no trunk carries that. The operator's to mend at once.
    #[error("no trunk of this box carries emergency calls")]
    NoEmergencyTrunk,
    /// A rule of the owner's refuses the call.
    #[error("the route {route} refuses the call")]
    Refused {
        /// The rule's name, cut.
        route: String,
        /// 400 to 699.
        status: u16,
    },
    /// A rule matches, and none of its targets can be used.
    #[error("the route {route} leads nowhere: {why}")]
    LeadsNowhere {
        /// The rule's name, cut.
        route: String,
        /// Why its first target cannot be used.
        why: Unusable,
    },
    /// A phone of ours may not call there.
    #[error("{0}")]
    NotAllowed(Unusable),
}

impl Route {
    /// Help is called: no limit holds.
    pub fn is_emergency(&self) -> bool {
        matches!(&self.plan, Plan::Bridge(bridge) if bridge.is_emergency)
    }
}

impl NoRoute {
    /// The final response.
    pub fn status(&self) -> u16 {
        match self {
            NoRoute::Unknown { .. } => 404,
            // Not 404: a phone with another line tries that one.
            NoRoute::NoEmergencyTrunk => 503,
            NoRoute::Refused { status, .. } => *status,
            NoRoute::LeadsNowhere { why, .. } | NoRoute::NotAllowed(why) => why.status(),
        }
    }
}

impl<'a> Router<'a> {
    /// Finds where a call goes.
    pub fn route(&self, question: &Question<'a>) -> Answer<'a> {
        let mut answer = self.find(question);
        if let Ok(route) = &mut answer.verdict {
            tell_parties(route, question);
        }
        answer
    }

    fn find(&self, question: &Question<'a>) -> Answer<'a> {
        if let Some(answer) = self.emergency(question) {
            return answer;
        }
        let mut passed = Vec::new();
        for rule in &self.snapshot.routes {
            match rules::check(rule, question, self) {
                Ok(called) => {
                    let verdict = self.owners(rule, question, &called);
                    let rule = Rule::Owners { id: &rule.id, name: &rule.name };
                    return Answer { verdict, rule, called, passed };
                }
                Err(mismatch) => passed.push((rule.name.as_str(), mismatch)),
            }
        }
        let (verdict, rule) = self.built_in(question);
        let called = verdict.as_ref().map_or_else(|_| shown(question.request_user), |route| route.called.clone());
        Answer { verdict, rule, called, passed }
    }

    fn emergency(&self, question: &Question<'a>) -> Option<Answer<'a>> {
        let Line::Extension(user, extension) = question.line else { return None };
        let number = emergency::emergency_number(self.snapshot, extension, question.request_user)?;
        let plan = emergency::emergency_plan(self.snapshot, user, extension, &number);
        let verdict = plan.ok_or(NoRoute::NoEmergencyTrunk).map(|plan| Route {
            plan: Plan::Bridge(Box::new(plan)),
            project_id: extension.project_id.clone(),
            agent_id: None,
            called: number.clone(),
        });
        Some(Answer { verdict, rule: Rule::Emergency(number.clone()), called: number, passed: Vec::new() })
    }
}

/// Has an agent know who calls whom.
fn tell_parties(route: &mut Route, question: &Question<'_>) {
    let parties = Parties { from: question.caller.to_owned(), to: route.called.clone() };
    match &mut route.plan {
        Plan::Service(service) => service.parties = parties,
        Plan::Bridge(bridge) => {
            for target in &mut bridge.targets {
                if let BridgeTarget::Agent { plan, .. } = target
                    && let Plan::Service(service) = &mut **plan
                {
                    service.parties = parties.clone();
                }
            }
        }
        Plan::Attendant { .. } | Plan::Echo | Plan::ToneTest => {}
    }
}

/// Who talks in a call that the box places: the agent waits to be told before it greets.
pub fn dial_plan(snapshot: &Snapshot, order: &DialOrder) -> Plan {
    let mut plan = plan(snapshot.agents.get(&order.agent_id), &order.variables);
    if let Plan::Service(service) = &mut plan {
        service.opening.greets = Greets::WhenTold;
        service.parties = Parties { from: order.from.clone(), to: order.to.clone() };
    }
    plan
}

/// Who talks in a call of this agent, whose prompt's placeholders stand for `variables`.
pub fn plan(agent: Option<&AgentRoute>, variables: &BTreeMap<String, String>) -> Plan {
    let attendant = || {
        let voice = agent.and_then(|agent| agent.voice_id.as_deref());
        let language = if voice == Some(GERMAN_VOICE) { Language::De } else { Language::En };
        Plan::Attendant { name: agent.map(|agent| agent.name.clone()), language }
    };
    let Some((agent, provider)) = agent.and_then(|agent| Some((agent, agent.provider.as_ref()?))) else {
        return attendant();
    };
    let opening = Opening {
        instructions: fill(&agent.system_instruction, variables),
        voice: agent.voice_id.clone(),
        greeting: agent.greeting.as_ref().map(|greeting| fill(greeting, variables)),
        first_speaker: agent.first_speaker,
        greets: Greets::WhenReady,
        tools: Tools {
            list: agent.tools.clone(),
            http: agent.http_tools.iter().cloned().map(Arc::new).collect(),
            transfers: agent.transfers.clone(),
        },
    };
    let Ok(mut service) = ServicePlan::new(provider, opening) else { return attendant() };
    service.barge_in = agent.barge_in.unwrap_or(service.barge_in);
    service.protects_greeting = agent.protects_greeting;
    let ring = agent.ring_s.map(|seconds| Duration::from_secs(seconds.into()));
    service.patience = Patience { ring, refuse_with: agent.refuse_with };
    Plan::Service(Box::new(service))
}

impl Plan {
    /// The attendant in nobody's name.
    pub fn attendant() -> Self {
        Plan::Attendant { name: None, language: Language::En }
    }
}

fn shown(user: &str) -> String {
    user.chars().filter(|character| character.is_ascii_graphic()).take(SHOWN_USER_BYTES).collect()
}

/// The attendant's German voice, as [`talkstack_control::voices`] lists it.
const GERMAN_VOICE: &str = "box-de";

/// 40: any number and most names; more would only fill a header.
pub const SHOWN_USER_BYTES: usize = 40;

#[cfg(test)]
mod tests;
