//! The routing configuration, as the call plane gets it.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::port::{AgentRoute, NumberRoute, ProjectRoute, Snapshot};
use crate::store::{StoreError, agents, extensions, numbers, projects, providers, routes, settings, trunks, users};

/// Reads the whole of it.
///
/// # Errors
/// [`StoreError`].
pub fn build(connection: &Connection) -> Result<Snapshot, StoreError> {
    let revision = settings::find(connection, REVISION)?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let projects = projects::routes(connection)?
        .into_iter()
        .map(|(id, active_agent)| (id, ProjectRoute { active_agent }))
        .collect();
    let providers = providers::all(connection)?;
    let default_provider = providers.iter().find(|provider| provider.is_default).map(|provider| provider.route.clone());
    let providers: BTreeMap<&str, &providers::Provider> =
        providers.iter().map(|provider| (provider.id.as_str(), provider)).collect();
    let agents = agents::routes(connection)?
        .into_iter()
        .map(|agent| {
            let own =
                agent.provider_id.and_then(|id| providers.get(id.as_str()).map(|provider| provider.route.clone()));
            let route = AgentRoute {
                project_id: agent.project_id,
                name: agent.name,
                system_instruction: agent.system_instruction,
                voice_id: agent.voice_id,
                provider: own.or_else(|| default_provider.clone()),
                first_speaker: agent.first_speaker,
                greeting: agent.greeting,
                tools: agent.tools,
                http_tools: agent.http_tools,
                transfers: agent.transfers,
                barge_in: agent.barge_in,
                ring_s: agent.waiting.ring_s,
                refuse_with: agent.waiting.refuse_with,
                protects_greeting: agent.protects_greeting,
            };
            (agent.id, route)
        })
        .collect();
    let numbers = numbers::routes(connection)?
        .into_iter()
        .map(|(e164, project_id, agent_id)| {
            (e164.trim_start_matches('+').to_owned(), NumberRoute { project_id, agent_id })
        })
        .collect();
    let is_claimed = users::owner(connection)?.is_some();
    let trunks = trunks::all(connection)?.into_iter().map(|trunk| (trunk.id, trunk.route)).collect();
    let extensions =
        extensions::all(connection)?.into_iter().map(|extension| (extension.user, extension.route)).collect();
    let routes = routes::all(connection)?.into_iter().map(|route| route.rule).collect();
    Ok(Snapshot { revision, is_claimed, projects, agents, numbers, trunks, extensions, routes })
}

/// Counts a change of what routing reads; call it in the transaction of the change.
///
/// # Errors
/// [`StoreError`].
pub fn bump(connection: &Connection) -> Result<(), StoreError> {
    let revision: u64 = settings::find(connection, REVISION)?.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(settings::put(connection, REVISION, &(revision + 1).to_string())?)
}

/// The key in `settings`.
const REVISION: &str = "snapshot_revision";
