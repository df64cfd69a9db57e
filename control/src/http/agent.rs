//! Agents.

use axum::Json;
use axum::extract::{Path, State};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::agent_tools::{http_tool_json, http_tools, tools, transfers};
use super::body::Fields;
use super::error::ApiError;
use super::native::{flag, number};
use super::phone_number::{number_taken, parse_number};
use super::principal::Principal;
use super::{Answer, App};
use crate::model::{name, voice_id};
use crate::port::{AgentTool, BargeIn, FirstSpeaker};
use crate::secret::Secret;
use crate::snapshot;
use crate::store::agents::{Agent, Waiting};
use crate::store::numbers::{self, Assigned};
use crate::store::{StoreError, agents, projects, providers};
use crate::voices;

/// `POST /agent/create-agent`.
pub(super) async fn create(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let phone_number = fields.text(&["phoneNumber"])?.map(|text| parse_number(&text, "phoneNumber")).transpose()?;
    let mut agent = Agent {
        id: uuid::Uuid::new_v4().to_string(),
        project_id: fields.required(&["projectId"])?,
        name: fields.required(&["name"])?,
        system_instruction: fields.required(&["systemInstruction"])?,
        voice_id: None,
        provider_id: None,
        first_speaker: FirstSpeaker::default(),
        greeting: None,
        tools: AgentTool::usual(),
        http_tools: Vec::new(),
        transfers: Vec::new(),
        barge_in: None,
        waiting: Waiting::default(),
        protects_greeting: false,
        phone_number: phone_number.as_ref().map(|number| number.as_str().to_owned()),
    };
    change(&mut agent, &fields, &app.secret)?;
    let agent = app
        .store
        .write(move |connection| {
            projects::find(connection, &user.id, &agent.project_id)?.ok_or_else(ApiError::no_such_project)?;
            check_provider(connection, &agent)?;
            agents::insert(connection, &agent, now_ms)?;
            check_room(connection)?;
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
    Ok(enveloped(&agent, "agent created successfully."))
}

/// `PUT /agent`: what is absent stays; null takes a voice, provider or greeting away.
pub(super) async fn update(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let (project_id, agent_id) = (fields.required(&["projectId"])?, fields.required(&["agentId"])?);
    if CHANGEABLE.iter().all(|name| fields.given(name).is_none()) {
        return Err(ApiError::missing("name or systemInstruction"));
    }
    let secret = app.secret.clone();
    let agent = app
        .store
        .write(move |connection| {
            let found = agents::find(connection, &user.id, &project_id, &agent_id)?;
            let mut agent = found.ok_or_else(ApiError::no_such_agent)?;
            change(&mut agent, &fields, &secret)?;
            check_provider(connection, &agent)?;
            agents::update(connection, &agent, now_ms)?;
            check_room(connection)?;
            snapshot::bump(connection)?;
            Ok::<_, ApiError>(agent)
        })
        .await?;
    app.publish().await?;
    Ok(enveloped(&agent, "agent data updated successfully."))
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

/// Refuses what would not fit into the routing configuration; call it after the change, in its transaction.
fn check_room(connection: &Connection) -> Result<(), ApiError> {
    if agents::text_bytes(connection)? > TEXT_BYTES_MAX {
        return Err(ApiError::new(400, "agents_full", "The box has no room for another agent's instruction."));
    }
    Ok(())
}

/// Sets what the request gives.
fn change(agent: &mut Agent, fields: &Fields, secret: &Secret) -> Result<(), ApiError> {
    if let Some(given) = fields.text(&["name"])? {
        agent.name = name(&given).ok_or_else(|| ApiError::missing("name"))?;
    }
    if let Some(given) = fields.text(&["systemInstruction"])? {
        agent.system_instruction = instruction(given)?;
    }
    let cleared = |name: &str| fields.given(name).is_some_and(Value::is_null);
    match fields.text(&["voice_id"])? {
        Some(given) => agent.voice_id = Some(voice_id(&given).ok_or_else(no_such_voice)?),
        None if cleared("voice_id") => agent.voice_id = None,
        None => {}
    }
    match fields.text(&["providerId"])? {
        Some(given) => agent.provider_id = Some(given),
        None if cleared("providerId") => agent.provider_id = None,
        None => {}
    }
    match fields.text(&["greeting"])? {
        Some(given) if given.chars().count() > GREETING_CHARS_MAX => {
            let message = format!("greeting must not be longer than {GREETING_CHARS_MAX} characters.");
            return Err(ApiError::new(400, "bad_field", message));
        }
        Some(given) => agent.greeting = Some(given).filter(|text| !text.trim().is_empty()),
        None if cleared("greeting") => agent.greeting = None,
        None => {}
    }
    match fields.text(&["firstSpeaker"])?.as_deref() {
        None => {}
        Some("agent") => agent.first_speaker = FirstSpeaker::Agent,
        Some("caller") => agent.first_speaker = FirstSpeaker::Caller,
        Some(_) => return Err(ApiError::new(400, "bad_field", "firstSpeaker must be agent or caller.")),
    }
    if let Some(given) = fields.given("tools") {
        agent.tools = tools(given)?;
    }
    if let Some(given) = fields.given("httpTools") {
        agent.http_tools = http_tools(given, &agent.http_tools, secret)?;
    }
    if let Some(given) = fields.given("transfers") {
        agent.transfers = transfers(given)?;
    }
    match fields.text(&["bargeIn"])? {
        Some(given) => {
            let bad = || ApiError::new(400, "bad_field", "bargeIn must be box, provider or off, or null.");
            agent.barge_in = Some(BargeIn::named(&given).ok_or_else(bad)?);
        }
        None if cleared("bargeIn") => agent.barge_in = None,
        None => {}
    }
    if cleared("ringSeconds") {
        agent.waiting.ring_s = None;
    } else if let Some(given) = number(fields, "ringSeconds", 1..=RING_S_MAX.into())? {
        agent.waiting.ring_s = u8::try_from(given).ok();
    }
    if cleared("refuseWith") {
        agent.waiting.refuse_with = None;
    } else if let Some(given) = number(fields, "refuseWith", 400..=699)? {
        let status = u16::try_from(given).ok().filter(|status| !is_procedural(*status));
        let bad = || ApiError::new(400, "bad_field", "refuseWith must be a final status such as 480, 486, 503 or 603.");
        agent.waiting.refuse_with = Some(status.ok_or_else(bad)?);
    }
    if let Some(given) = flag(fields, "protectGreeting")? {
        agent.protects_greeting = given;
    }
    Ok(())
}

/// Statuses that ask for another request, and mean nothing to a person (RFC 3261 §21).
fn is_procedural(status: u16) -> bool {
    matches!(status, 401 | 405 | 407 | 413..=423 | 428..=429 | 436..=440 | 469..=470 | 481..=483 | 485 | 487..=489 | 491..=494)
}

/// The provider must be there, and have the voice.
fn check_provider(connection: &Connection, agent: &Agent) -> Result<(), ApiError> {
    let provider = match &agent.provider_id {
        None => providers::default(connection)?,
        Some(id) => {
            let unknown = || ApiError::no_such_provider().with_status(400);
            Some(providers::find(connection, id)?.ok_or_else(unknown)?)
        }
    };
    let is_of_box = |voice: &String| voices::box_preview(voice).is_some();
    match (provider, &agent.voice_id) {
        // The attendant has no other.
        (Some(_), Some(voice)) if is_of_box(voice) => Err(no_such_voice()),
        (Some(provider), Some(voice)) if !provider.has_voice(voice) => Err(no_such_voice()),
        _ => Ok(()),
    }
}

fn no_such_voice() -> ApiError {
    ApiError::new(400, "no_such_voice", "No such voice.")
}

/// The envelope with `data`, and the flat fields beside it (settlement A25).
fn enveloped(agent: &Agent, message: &str) -> Json<Value> {
    let mut answer = agent_json(agent);
    answer["data"] = agent_json(agent);
    answer["message"] = json!(message);
    answer["status"] = json!("success");
    Json(answer)
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
        "providerId": agent.provider_id,
        "firstSpeaker": agents::first_speaker_name(agent.first_speaker),
        "greeting": agent.greeting,
        "tools": agent.tools,
        "httpTools": agent.http_tools.iter().map(http_tool_json).collect::<Vec<_>>(),
        "transfers": agent.transfers,
        "bargeIn": agent.barge_in.map(BargeIn::as_str),
        "protectGreeting": agent.protects_greeting,
        "ringSeconds": agent.waiting.ring_s,
        "refuseWith": agent.waiting.refuse_with,
    })
}

/// 128 KiB: a prompt of 60 pages.
const INSTRUCTION_BYTES_MAX: usize = 128 << 10;

/// 10 MiB in all: 5,000 agents with prompts of 1,500 bytes. JSON may make six of a byte, and 60 MiB still fit into one
/// message to the call plane ([`crate::port::MESSAGE_BYTES_MAX`]).
const TEXT_BYTES_MAX: i64 = 10 << 20;

/// What `PUT /agent` may change.
const CHANGEABLE: [&str; 13] = [
    "name",
    "systemInstruction",
    "voice_id",
    "providerId",
    "firstSpeaker",
    "greeting",
    "tools",
    "httpTools",
    "transfers",
    "bargeIn",
    "protectGreeting",
    "ringSeconds",
    "refuseWith",
];

/// 30 s: six rings, after which a caller gives up.
const RING_S_MAX: u8 = 30;

/// 2,000 characters: two minutes of speech.
const GREETING_CHARS_MAX: usize = 2000;
