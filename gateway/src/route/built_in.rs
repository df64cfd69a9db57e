//! Where a call goes that none of the owner's rules has matched.

use std::collections::BTreeMap;

use super::targets::{Outgoing, Unusable};
use super::{BridgeTarget, Line, NoRoute, Plan, Question, Route, Router, Rule, dialled, number_digits, plan, shown};

impl<'a> Router<'a> {
    pub(super) fn built_in(&self, question: &Question<'a>) -> (Result<Route, NoRoute>, Rule<'a>) {
        let users = [question.request_user, question.to_user];
        if let Some((route, rule)) = users.into_iter().find_map(|user| self.inside(question, user)) {
            return (Ok(route), rule);
        }
        match question.line {
            Line::Extension(..) | Line::Agent(_) => self.outside(question),
            Line::Trunk(_) | Line::Other => (Err(unknown(question)), Rule::Nothing),
        }
    }

    /// What answers a user or a number of the box.
    fn inside(&self, question: &Question<'a>, user: &str) -> Option<(Route, Rule<'a>)> {
        let name = user.split(';').next().unwrap_or_default();
        let built_in = match name {
            "demo" | "attendant" => Some(Plan::attendant()),
            "echo" => Some(Plan::Echo),
            _ => None,
        };
        if let Some(plan) = built_in {
            let route = Route { plan, project_id: None, agent_id: None, called: name.to_owned() };
            return Some((route, Rule::BuiltIn(name.to_owned())));
        }
        if let Some(route) = self.number(question, name) {
            let rule = Rule::Number(route.called.clone());
            return Some((route, rule));
        }
        let extension = [Some(name.to_owned()), dialled(name)].into_iter().flatten();
        let user = extension.into_iter().find(|user| self.snapshot.extensions.contains_key(user))?;
        let target = BridgeTarget::Extension { user: user.clone(), ring_s: None };
        Some((self.led_to(vec![target], None, question, &user), Rule::Extension(user)))
    }

    /// What answers a number of the box, however it is written.
    fn number(&self, question: &Question<'a>, user: &str) -> Option<Route> {
        let written = number_digits(user).filter(|digits| self.snapshot.numbers.contains_key(digits));
        let digits = written.or_else(|| {
            let full = self.full_number(question.line, user)?;
            full.strip_prefix('+').map(str::to_owned)
        })?;
        let number = self.snapshot.numbers.get(&digits)?;
        let active =
            || self.snapshot.projects.get(&number.project_id).and_then(|project| project.active_agent.as_ref());
        let agent_id = number.agent_id.as_ref().or_else(active);
        let agent = agent_id.and_then(|id| self.snapshot.agents.get(id));
        Some(Route {
            plan: plan(agent, &BTreeMap::new()),
            project_id: Some(number.project_id.clone()),
            agent_id: agent.and(agent_id).cloned(),
            called: format!("+{digits}"),
        })
    }

    /// A phone or an agent of ours calls out: by the trunks that may present its number ([`Snapshot::carriers`]).
    fn outside(&self, question: &Question<'a>) -> (Result<Route, NoRoute>, Rule<'a>) {
        if dialled(question.request_user).is_none() {
            return (Err(unknown(question)), Rule::Nothing);
        }
        let own = match question.line {
            Line::Extension(_, extension) => extension.number.as_deref(),
            Line::Agent(own) => own,
            Line::Trunk(_) | Line::Other => None,
        };
        let Some(own) = own else {
            return (Err(NoRoute::NotAllowed(Unusable::NoNumber)), Rule::Nothing);
        };
        let mut chain = Vec::new();
        let mut unusable = None;
        let mut number = String::new();
        for (id, trunk, _) in self.snapshot.carriers(own) {
            match self.outgoing(trunk, question, question.request_user) {
                Ok(Outgoing { number: to, from }) => {
                    number.clone_from(&to);
                    let trunk_id = id.to_owned();
                    chain.push(BridgeTarget::Trunk { trunk_id, number: to, from: Some(from), ring_s: None });
                }
                Err(why) => unusable = unusable.or(Some(why)),
            }
        }
        if chain.is_empty() {
            return match unusable.unwrap_or(Unusable::NoTrunk) {
                Unusable::NotDialable => (Err(unknown(question)), Rule::Nothing),
                why => (Err(NoRoute::NotAllowed(why)), Rule::Nothing),
            };
        }
        (Ok(self.led_to(chain, None, question, &number)), Rule::Outside(number))
    }
}

fn unknown(question: &Question<'_>) -> NoRoute {
    NoRoute::Unknown { user: shown(question.request_user) }
}
