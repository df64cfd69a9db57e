//! A box with an owner, a trunk and a number, which places calls.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_until};
use crate::http::Client;

/// The box's own number.
pub(crate) const NUMBER: &str = "+15551234567";

/// The box, its owner's client, and the agent that its calls are for.
pub(crate) struct Site {
    pub(crate) client: Client,
    project: String,
    agent: String,
    /// Dropped last.
    pub(crate) daemon: Daemon,
}

impl Site {
    /// A box whose only trunk is at an address; `extra` are further fields of the trunk.
    pub(crate) fn new(settings: &[(&str, &str)], trunk: SocketAddr, extra: Value) -> Self {
        Site::owned(Daemon::serve(settings), NUMBER, trunk, extra)
    }

    /// Gives a box that is new an owner, a trunk and a number.
    pub(crate) fn owned(daemon: Daemon, number: &str, trunk: SocketAddr, extra: Value) -> Self {
        let client = Client::owner(&daemon);
        let mut fields = json!({
            "name": "line", "host": trunk.ip().to_string(), "port": trunk.port(), "transport": "udp",
            "numbers": [number], "max_channels": 10, "default": true, "options_interval_s": 0,
        });
        for (name, value) in extra.as_object().into_iter().flatten() {
            fields[name] = value.clone();
        }
        client.create("/api/v1/trunks", &fields);
        let project = client.post("/project/create-project", &json!({ "name": "Clinic", "description": "" }));
        let project = project["data"]["id"].as_str().expect("an id").to_owned();
        let agent = json!({ "name": "Jack", "systemInstruction": "You are Jack.", "projectId": project });
        let agent = client.post("/agent/create-agent", &agent)["id"].as_str().expect("an id").to_owned();
        client.post("/phone-number/add-number", &json!({ "e164": number, "agentId": agent, "projectId": project }));
        Site { client, project, agent, daemon }
    }

    /// Places a call.
    pub(crate) fn dial(&self, number: &str) -> Value {
        let (status, answer) = self.try_dial(number);
        assert_eq!(status, 200, "{answer}");
        answer["call"].clone()
    }

    /// Asks for a call; the status and the answer.
    pub(crate) fn try_dial(&self, number: &str) -> (u16, Value) {
        let order = json!({ "number": number, "projectId": self.project, "agentId": self.agent });
        self.client.try_post("/call/makeCall", &order)
    }

    /// The call once it has ended.
    pub(crate) fn ended(&self, call: &Value) -> Value {
        let id = json!({ "sid": call["call_id"], "projectId": self.project });
        wait_until("the call has ended", || {
            let found = self.client.post("/call", &id);
            let is_open = ["queued", "initiated", "ringing", "in-progress"].contains(&found["status"].as_str()?);
            (!is_open).then_some(found)
        })
    }
}
