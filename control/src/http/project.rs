//! Projects.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::principal::Principal;
use super::{Answer, App, status_word};
use crate::clock::iso8601;
use crate::model::name;
use crate::snapshot;
use crate::store::projects::Project;
use crate::store::{StoreError, agents, projects};

/// `POST /project/create-project`.
pub(super) async fn create(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let project = Project {
        id: uuid::Uuid::new_v4().to_string(),
        user_id: user.id,
        name: name(&fields.required(&["name"])?).ok_or_else(|| ApiError::missing("name"))?,
        description: fields.required(&["description"])?,
        call_status_webhook: None,
        active_agent: None,
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    let project = app
        .store
        .write(move |connection| {
            if !projects::insert(connection, &project)? {
                let message = "A project with this name exists.";
                return Err(ApiError::new(400, "project_exists", message));
            }
            snapshot::bump(connection)?;
            Ok(project)
        })
        .await?;
    app.publish().await?;
    Ok(Json(json!({
        "message": "successfully created project.",
        "status": "success",
        "data": project_json(&project),
    })))
}

/// `GET /project/:projectId`.
pub(super) async fn find(State(app): State<App>, Principal(user): Principal, Path(id): Path<String>) -> Answer {
    let found =
        app.store.read(move |connection| projects::find(connection, &user.id, &id).map_err(StoreError::from)).await?;
    // The page documents 400 here (settlement A10).
    let project = found.ok_or_else(|| ApiError::no_such_project().with_status(400))?;
    Ok(Json(json!({
        "message": "successfully fetched project data.",
        "status": status_word(&app, "GET /project/:projectId"),
        "data": project_json(&project),
    })))
}

/// `GET /project` and its aliases.
pub(super) async fn list(State(app): State<App>, Principal(user): Principal) -> Answer {
    let all = app.store.read(move |connection| projects::all(connection, &user.id).map_err(StoreError::from)).await?;
    Ok(Json(json!({
        "message": "successfully fetched project list.",
        "status": "success",
        "data": all.iter().map(project_json).collect::<Vec<_>>(),
    })))
}

/// `PATCH /project/active-agent`.
pub(super) async fn set_active_agent(State(app): State<App>, Principal(user): Principal, fields: Fields) -> Answer {
    let now_ms = app.clock.now_ms();
    let (project_id, agent_id) = (fields.required(&["projectId"])?, fields.required(&["active_agent"])?);
    let project = app
        .store
        .write(move |connection| {
            let project = projects::find(connection, &user.id, &project_id)?.ok_or_else(ApiError::no_such_project)?;
            let agent = agents::find_anywhere(connection, &user.id, &agent_id)?.ok_or_else(ApiError::no_such_agent)?;
            if agent.project_id != project.id {
                return Err(ApiError::agent_of_another_project());
            }
            projects::put_active_agent(connection, &project.id, &agent.id, now_ms)?;
            snapshot::bump(connection)?;
            Ok(Project { active_agent: Some(agent.id), updated_ms: now_ms, ..project })
        })
        .await?;
    app.publish().await?;
    Ok(Json(json!({
        "message": "updated active agent successfully.",
        "status": "success",
        "project": project_json(&project),
    })))
}

/// A project as every endpoint shows it: the superset of all pages (settlement A13).
fn project_json(project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "user_id": project.user_id,
        "status": "ACTIVE",
        "description": project.description,
        "is_deleted": false,
        "call_status_webhook": project.call_status_webhook,
        "active_agent": project.active_agent,
        "created_at": iso8601(project.created_ms),
        "updated_at": iso8601(project.updated_ms),
    })
}
