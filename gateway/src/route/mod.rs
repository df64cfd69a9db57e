//! What answers a call: a pure function of the last snapshot and the called user.
//!
//! ```text
//!   Request-URI user, else To user ─▶ demo, attendant, echo ─▶ the built-in agents
//!                                  └▶ a number ─▶ its agent, else its project's active agent, else the attendant
//! ```

mod bridge;

use std::collections::BTreeMap;

use talkstack_control::port::{AgentRoute, DialOrder, ProviderRoute, Snapshot};

pub use bridge::{BridgePlan, BridgeTarget};

use crate::agent::openai_realtime::{Greets, Opening};
use crate::agent::template::fill;
use crate::io::connect::{AgentTarget, AgentUrl};

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
    },
    /// The built-in echo.
    Echo,
    /// A media-stream service; the attendant if it cannot be reached.
    MediaStream(AgentUrl),
    /// An agent behind OpenAI's Realtime protocol; the attendant if it cannot be reached.
    OpenAiRealtime(Box<RealtimePlan>),
    /// Another line, or one after the other.
    Bridge(Box<BridgePlan>),
}

/// Where a Realtime agent is, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealtimePlan {
    /// How to reach it.
    pub target: AgentTarget,
    /// What its session begins with.
    pub opening: Opening,
}

/// Nothing answers the called user. Answer 404 with this as the Reason.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("no number or user {user} on this box")]
pub struct NoRoute {
    /// The Request-URI user, cut to [`SHOWN_USER_BYTES`].
    pub user: String,
}

/// Finds what answers.
///
/// # Errors
/// [`NoRoute`] when neither the Request-URI's nor the To header's user is known here.
pub fn route(snapshot: &Snapshot, request_user: &str, to_user: &str) -> Result<Route, NoRoute> {
    [request_user, to_user]
        .into_iter()
        .find_map(|user| route_user(snapshot, user))
        .ok_or_else(|| NoRoute { user: shown(request_user) })
}

fn route_user(snapshot: &Snapshot, user: &str) -> Option<Route> {
    let user = user.split(';').next().unwrap_or_default();
    let built_in = match user {
        "demo" | "attendant" => Some(Plan::Attendant { name: None }),
        "echo" => Some(Plan::Echo),
        _ => None,
    };
    if let Some(plan) = built_in {
        return Some(Route { plan, project_id: None, agent_id: None, called: user.to_owned() });
    }
    let digits = number_digits(user)?;
    let number = snapshot.numbers.get(&digits)?;
    let active = || snapshot.projects.get(&number.project_id).and_then(|project| project.active_agent.as_ref());
    let agent_id = number.agent_id.as_ref().or_else(active);
    let agent = agent_id.and_then(|id| snapshot.agents.get(id));
    Some(Route {
        plan: plan(agent, &BTreeMap::new()),
        project_id: Some(number.project_id.clone()),
        agent_id: agent.and(agent_id).cloned(),
        called: format!("+{digits}"),
    })
}

/// Who talks in a call that the box places: the agent waits to be told before it greets.
pub fn dial_plan(snapshot: &Snapshot, order: &DialOrder) -> Plan {
    let mut plan = plan(snapshot.agents.get(&order.agent_id), &order.variables);
    if let Plan::OpenAiRealtime(realtime) = &mut plan {
        realtime.opening.greets = Greets::WhenTold;
    }
    plan
}

/// Who talks in a call of this agent, whose prompt's placeholders stand for `variables`.
pub fn plan(agent: Option<&AgentRoute>, variables: &BTreeMap<String, String>) -> Plan {
    let attendant = || Plan::Attendant { name: agent.map(|agent| agent.name.clone()) };
    let Some((agent, provider)) = agent.and_then(|agent| Some((agent, agent.provider.as_ref()?))) else {
        return attendant();
    };
    match provider {
        ProviderRoute::MediaStream { url } => url.parse().map_or_else(|_| attendant(), Plan::MediaStream),
        ProviderRoute::OpenAiRealtime { base_url, model, api_key } => {
            let Ok(url) = AgentUrl::realtime(base_url, model) else { return attendant() };
            let opening = Opening {
                instructions: fill(&agent.system_instruction, variables),
                voice: agent.voice_id.clone(),
                greeting: agent.greeting.as_ref().map(|greeting| fill(greeting, variables)),
                first_speaker: agent.first_speaker,
                greets: Greets::WhenReady,
            };
            let target = AgentTarget { url, api_key: api_key.clone() };
            Plan::OpenAiRealtime(Box::new(RealtimePlan { target, opening }))
        }
    }
}

/// The digits of a dialled number: separators dropped, a leading `+` or `00` ignored. `None` when it is no number.
pub fn number_digits(user: &str) -> Option<String> {
    let mut digits = String::with_capacity(user.len().min(NUMBER_DIGITS_MAX));
    for (at, character) in user.chars().enumerate() {
        match character {
            '0'..='9' if digits.len() < NUMBER_DIGITS_MAX => digits.push(character),
            '+' if at == 0 => {}
            '-' | '.' | '(' | ')' | ' ' | '/' => {}
            _ => return None,
        }
    }
    let stripped = if user.starts_with('+') { &digits } else { digits.strip_prefix("00").unwrap_or(&digits) };
    (!stripped.is_empty()).then(|| stripped.to_owned())
}

fn shown(user: &str) -> String {
    user.chars().filter(|character| character.is_ascii_graphic()).take(SHOWN_USER_BYTES).collect()
}

/// 17: fifteen digits of E.164 behind an international prefix `00`.
const NUMBER_DIGITS_MAX: usize = 17;

/// 40: any number and most names; more would only fill a header.
pub const SHOWN_USER_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use talkstack_control::port::{FirstSpeaker, NumberRoute, ProjectRoute};

    use super::*;

    #[test]
    fn the_same_number_is_found_however_it_is_dialled() {
        for user in ["+3612345678", "3612345678", "003612345678", "+36-1-234.56 78", "+36(1)2345678;phone-context=x"] {
            let route = route(&snapshot(), user, "").expect(user);
            assert_eq!(route.called, "+3612345678", "{user}");
            assert_eq!(route.agent_id.as_deref(), Some("own"), "{user}");
        }
        for user in ["612345678", "36123456789", "+3612345678x", "0003612345678", ""] {
            assert!(route(&snapshot(), user, "").is_err(), "{user}");
        }
    }

    #[test]
    fn a_number_without_an_agent_goes_to_the_active_one_and_else_to_the_attendant() {
        assert_eq!(route(&snapshot(), "3611", "").expect("known").agent_id.as_deref(), Some("active"));
        let lonely = route(&snapshot(), "3622", "").expect("known");
        assert_eq!((lonely.agent_id, lonely.plan), (None, Plan::Attendant { name: None }));
        let own = route(&snapshot(), "3612345678", "").expect("known");
        assert_eq!(own.plan, Plan::Attendant { name: Some("Jack".into()) });
        assert_eq!(lonely.project_id.as_deref(), Some("empty"));
    }

    #[test]
    fn the_to_user_answers_when_the_request_uri_is_a_trunk_s_own_name() {
        assert_eq!(route(&snapshot(), "trunk-7", "+3612345678").expect("known").called, "+3612345678");
        assert_eq!(route(&snapshot(), "echo", "+3612345678").expect("known").plan, Plan::Echo);
    }

    #[test]
    fn an_unknown_user_is_named_without_what_could_break_a_header() {
        let error = route(&snapshot(), "no\r\nbody\"", "x").expect_err("unknown");
        assert_eq!(error.to_string(), "no number or user nobody\" on this box");
    }

    #[test]
    fn an_agent_of_a_media_stream_is_reached_at_its_url() {
        let Plan::MediaStream(url) = route(&snapshot(), "3633", "").expect("known").plan else { panic!("no stream") };
        assert_eq!(url.to_string(), "ws://agent:9000/twilio");
    }

    fn snapshot() -> Snapshot {
        let agent = |provider| AgentRoute {
            project_id: "clinic".into(),
            name: "Jack".into(),
            system_instruction: String::new(),
            voice_id: None,
            provider,
            first_speaker: FirstSpeaker::Agent,
            greeting: None,
        };
        let number = |project: &str, agent: Option<&str>| NumberRoute {
            project_id: project.into(),
            agent_id: agent.map(str::to_owned),
        };
        let stream = ProviderRoute::MediaStream { url: "ws://agent:9000/twilio".into() };
        Snapshot {
            revision: 1,
            is_claimed: true,
            projects: BTreeMap::from([
                ("clinic".into(), ProjectRoute { active_agent: Some("active".into()) }),
                ("empty".into(), ProjectRoute { active_agent: None }),
            ]),
            agents: BTreeMap::from([
                ("own".into(), agent(None)),
                ("active".into(), agent(None)),
                ("stream".into(), agent(Some(stream))),
            ]),
            numbers: BTreeMap::from([
                ("3612345678".into(), number("clinic", Some("own"))),
                ("3611".into(), number("clinic", None)),
                ("3622".into(), number("empty", None)),
                ("3633".into(), number("clinic", Some("stream"))),
            ]),
            ..Snapshot::default()
        }
    }
}
