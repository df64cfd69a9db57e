//! The routing configuration, as the call plane gets it.

use rusqlite::Connection;

use crate::port::{AgentRoute, FirstSpeaker, NumberRoute, ProjectRoute, Snapshot};
use crate::store::{StoreError, agents, numbers, projects, settings, users};

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
    let agents = agents::routes(connection)?
        .into_iter()
        .map(|agent| {
            let route = AgentRoute {
                project_id: agent.project_id,
                name: agent.name,
                system_instruction: agent.system_instruction,
                voice_id: agent.voice_id,
                provider: None,
                first_speaker: FirstSpeaker::default(),
                greeting: None,
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
    Ok(Snapshot { revision, is_claimed, projects, agents, numbers, ..Snapshot::default() })
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
