//! Agents.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::phone_number::{number_taken, parse_number};
use super::principal::Principal;
use super::{Answer, App};
use crate::model::{name, voice_id};
use crate::snapshot;
use crate::store::agents::Agent;
use crate::store::numbers::{self, Assigned};
use crate::store::{StoreError, agents, projects};

/// `POST /agent/create-agent`.
pub(super) async fn create(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let phone_number = fields.text(&["phoneNumber"])?.map(|text| parse_number(&text, "phoneNumber")).transpose()?;
    let voice_id = match fields.text(&["voice_id"])? {
        Some(text) => Some(voice_id(&text).ok_or_else(|| ApiError::new(400, "no_such_voice", "No such voice."))?),
        None => None,
    };
    let agent = Agent {
        id: uuid::Uuid::new_v4().to_string(),
        project_id: fields.required(&["projectId"])?,
        name: name(&fields.required(&["name"])?).ok_or_else(|| ApiError::missing("name"))?,
        system_instruction: instruction(fields.required(&["systemInstruction"])?)?,
        voice_id,
        phone_number: phone_number.as_ref().map(|number| number.as_str().to_owned()),
    };
    let agent = app
        .store
        .write(move |connection| {
            projects::find(connection, &user.id, &agent.project_id)?.ok_or_else(ApiError::no_such_project)?;
            agents::insert(connection, &agent, now_ms)?;
            if agents::text_bytes(connection)? > TEXT_BYTES_MAX {
                return Err(ApiError::new(400, "agents_full", "The box has no room for another agent's instruction."));
            }
            if let Some(number) = phone_number {
                let id = uuid::Uuid::new_v4().to_string();
                let Agent { project_id, id: agent_id, .. } = &agent;
                let assigned =
                    numbers::assign(connection, &user.id, &id, number.as_str(), project_id, agent_id, now_ms)?;
                if assigned == Assigned::Taken {
                    return Err(number_taken());
                }
            }
            snapshot::bump(connection)?;
            Ok(agent)
        })
        .await?;
    app.publish().await?;
    // The page prints no body: the envelope, with the flat fields of the neighbouring pages mirrored (11.3 #21).
    let mut answer = agent_json(&agent);
    answer["data"] = agent_json(&agent);
    answer["message"] = json!("agent created successfully.");
    answer["status"] = json!("success");
    Ok(Json(answer))
}

/// `POST /agent`: a read; flat, as documented.
pub(super) async fn find(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let (project_id, agent_id) = (fields.required(&["projectId"])?, fields.required(&["agentId"])?);
    let agent = app
        .store
        .read(move |connection| agents::find(connection, &user.id, &project_id, &agent_id).map_err(StoreError::from))
        .await?
        .ok_or_else(ApiError::no_such_agent)?;
    Ok(Json(agent_json(&agent)))
}

/// `GET /agent/:projectId`: a bare array; 404 when there is none, as documented.
pub(super) async fn list(State(app): State<App>, Principal(user): Principal, Path(project_id): Path<String>) -> Answer {
    let all = app
        .store
        .read(move |connection| agents::all(connection, &user.id, &project_id).map_err(StoreError::from))
        .await?;
    if all.is_empty() {
        return Err(ApiError::new(404, "no_agents", "There are no agents."));
    }
    Ok(Json(all.iter().map(agent_json).collect()))
}

/// Reads a prompt, or says that it is too long.
fn instruction(text: String) -> Result<String, ApiError> {
    if text.len() > INSTRUCTION_BYTES_MAX {
        let message = format!("systemInstruction must not be longer than {INSTRUCTION_BYTES_MAX} bytes.");
        return Err(ApiError::new(400, "instruction_too_long", message));
    }
    Ok(text)
}

/// An agent as every endpoint shows it.
fn agent_json(agent: &Agent) -> Value {
    json!({
        "id": agent.id,
        "agentId": agent.id,
        "name": agent.name,
        "systemInstruction": agent.system_instruction,
        "projectId": agent.project_id,
        "phoneNumber": agent.phone_number,
        "voice_id": agent.voice_id,
    })
}

/// 128 KiB: a prompt of 60 pages.
const INSTRUCTION_BYTES_MAX: usize = 128 << 10;

/// 10 MiB in all: 5,000 agents with prompts of 1,500 bytes. JSON may make six of a byte, and 60 MiB still fit into one
/// message to the call plane ([`crate::port::MESSAGE_BYTES_MAX`]).
const TEXT_BYTES_MAX: i64 = 10 << 20;
