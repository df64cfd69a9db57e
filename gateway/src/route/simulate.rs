//! Where a call would go, told in words: the router is asked as for a call, and nothing rings.

use talkstack_control::gate::Gate;
use talkstack_control::port::{ExtensionRoute, RouteAnswer, RouteQuestion, RouteSource, RouteTarget, Snapshot};

use jiff::civil::DateTime;

use super::{Answer, BridgeTarget, Line, NoRoute, Plan, Question, Route, Router, Rule};

/// Answers where a call would go at a time on the box's wall.
///
/// A caller that is no extension, on the line of extensions, is one without number or country: it calls inside only.
pub fn simulate(snapshot: &Snapshot, gate: &Gate, question: &RouteQuestion, at: DateTime) -> RouteAnswer {
    let nobody = ExtensionRoute::default();
    let line = match &question.from {
        RouteSource::Any => Line::Other,
        RouteSource::Trunk { trunk_id } => Line::Trunk(trunk_id),
        RouteSource::Extensions => match extension(snapshot, &question.caller) {
            Some((user, extension)) => Line::Extension(user, extension),
            None => Line::Extension(&question.caller, &nobody),
        },
    };
    let asked = Question { request_user: &question.called, to_user: "", caller: &question.caller, line };
    told(Router { snapshot, gate, at }.route(&asked))
}

/// The phone that a caller is, by its user or by its number.
fn extension<'a>(snapshot: &'a Snapshot, caller: &str) -> Option<(&'a str, &'a ExtensionRoute)> {
    let digits = caller.strip_prefix('+').unwrap_or(caller);
    let by_user = snapshot.extensions.get_key_value(caller);
    let by_number = || snapshot.extensions.iter().find(|(_, extension)| extension.number.as_deref() == Some(digits));
    by_user.or_else(by_number).map(|(user, extension)| (user.as_str(), extension))
}

fn told(answer: Answer<'_>) -> RouteAnswer {
    let mut passed: Vec<_> = answer.passed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let (route_id, rule) = match &answer.rule {
        Rule::Owners { id, name } => (Some((*id).to_owned()), (*name).to_owned()),
        Rule::Emergency(_) => (None, "emergency".to_owned()),
        Rule::BuiltIn(user) => (None, format!("built-in user {user}")),
        Rule::Number(number) => (None, format!("number {number}")),
        Rule::Extension(user) => (None, format!("extension {user}")),
        Rule::Outside(number) => (None, format!("outside {number}")),
        Rule::Nothing => (None, "no route".to_owned()),
    };
    let targets = match answer.verdict {
        Ok(route) => targets(route),
        Err(refused) => {
            passed.push(refused.to_string());
            match refused {
                NoRoute::Refused { status, .. } => vec![RouteTarget::Refuse { status }],
                _ => Vec::new(),
            }
        }
    };
    RouteAnswer { route_id, rule, called: answer.called, targets, passed }
}

fn targets(route: Route) -> Vec<RouteTarget> {
    let answering = |plan: &Plan, agent_id: Option<String>| match (agent_id, plan) {
        (Some(agent_id), _) => RouteTarget::Agent { agent_id },
        (None, Plan::Echo) => RouteTarget::Echo,
        (None, _) => RouteTarget::Attendant,
    };
    let Plan::Bridge(bridge) = route.plan else { return vec![answering(&route.plan, route.agent_id)] };
    let shown = bridge.targets.into_iter().map(|target| match target {
        BridgeTarget::Extension { user, ring_s } => RouteTarget::Extension { user, ring_s },
        BridgeTarget::Trunk { trunk_id, number, ring_s, .. } => {
            RouteTarget::Trunk { trunk_id, number: Some(number), ring_s }
        }
        BridgeTarget::Agent { plan, agent_id } => answering(&plan, agent_id),
    });
    shown.chain(bridge.refused_with.map(|status| RouteTarget::Refuse { status })).collect()
}
