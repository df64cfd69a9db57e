//! `/api/v1/emergency`: whether a phone of ours reaches help, and through what. The owner's alone.

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::native::Owner;
use super::{Answer, App};
use crate::gate::{EVERYWHERE, emergency_numbers};
use crate::store::{StoreError, trunks};

/// `GET /api/v1/emergency`.
pub(super) async fn show(State(app): State<App>, _: Owner) -> Answer {
    let all = app.store.read(|connection| trunks::all(connection).map_err(StoreError::from)).await?;
    let mut chosen: Vec<_> = all.iter().filter(|trunk| trunk.route.policy.is_emergency).collect();
    chosen.sort_by_key(|trunk| trunk.route.policy.priority);
    let trunks: Vec<_> = chosen
        .iter()
        .map(|trunk| {
            let country = trunk.route.numbering.country_code.as_deref();
            let numbers: Vec<&str> = country.map_or(EVERYWHERE.to_vec(), |code| emergency_numbers(code).collect());
            json!({ "id": trunk.id, "name": trunk.route.name, "country_code": country, "numbers": numbers })
        })
        .collect();
    let found = match chosen.first() {
        Some(trunk) => format!("Emergency calls of extensions go through the trunk {}.", trunk.route.name),
        None => "Emergency calls: not offered. Set emergency on the trunk that is to carry them.".into(),
    };
    Ok(Json(json!({ "offered": !trunks.is_empty(), "found": found, "trunks": trunks })))
}
