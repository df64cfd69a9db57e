//! A call as Talkstack writes it: one flat object, in answers and in webhooks.

use serde_json::{Value, json};

use crate::clock::rfc2822;
use crate::store::calls::Call;

/// The fields of `POST /call`, its id under each of its three names (settlement A28).
pub(crate) fn flat(call: &Call, recording_urls: &[String]) -> Value {
    json!({
        "seconds": call.seconds(),
        "cost": 0,
        "status": call.status.name(),
        "from": call.from,
        "to": call.to,
        "date": rfc2822(call.started_ms),
        "recordingUrls": recording_urls,
        "phoneNumber": call.to,
        "callSid": call.id,
        "sid": call.id,
        "call_id": call.id,
        "projectId": call.project_id,
        "agentId": call.agent_id,
        "data": {},
    })
}
