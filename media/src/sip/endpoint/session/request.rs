//! Requests that we send within a dialog (RFC 3261 §12.2.1), and the header values that name us.

use std::time::Instant;

use super::State;
use crate::sip::endpoint::{Client, CommandError, DialogId, Endpoint, Flow, Purpose, TransactionKey};
use crate::sip::message::{COOKIE, Method};
use crate::sip::transaction::client_non_invite::ClientNonInvite;

impl Endpoint {
    pub(super) fn bye(&mut self, id: DialogId, reason: Option<String>, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.state = State::Gone;
        let fields: Vec<_> = reason.map(|reason| ("Reason", reason_value(200, &reason))).into_iter().collect();
        self.request(id, &Method::Bye, &fields, Purpose::Bye, now);
    }

    /// Sends a request within a dialog, as a transaction of its own.
    pub(super) fn request(
        &mut self,
        id: DialogId,
        method: &Method,
        fields: &[(&'static str, String)],
        purpose: Purpose,
        now: Instant,
    ) -> Option<TransactionKey> {
        let (contact, branch) = (self.contact(id).ok()?, format!("{COOKIE}{}", self.tag()));
        let session = self.sessions.get_mut(&id)?;
        let flow = session.next_flow();
        let via = via(&self.config.advertised, &flow, &branch);
        let bytes = session.dialog.request(method, &via, &contact, fields);
        let machine = ClientNonInvite::new(bytes.clone(), flow.reliability(), self.config.timers, now);
        let key = TransactionKey(format!("{branch}|{method}").into());
        let fields = fields.to_vec();
        self.clients.insert(key.clone(), Client { machine, flow, dialog: id, purpose, fields, tried: Vec::new() });
        self.send(flow, bytes);
        self.schedule_client(key.clone());
        Some(key)
    }

    pub(super) fn contact(&self, id: DialogId) -> Result<String, CommandError> {
        let session = self.sessions.get(&id).ok_or(CommandError::NoDialog)?;
        Ok(contact(&self.config.advertised, &session.flow))
    }
}

/// Our Contact.
pub(super) fn contact(advertised: &Option<(String, Option<u16>)>, flow: &Flow) -> String {
    let parameter = flow.transport.uri_name().map(|name| format!(";transport={name}")).unwrap_or_default();
    format!("<sip:talkstack@{}{parameter}>", host(advertised, flow))
}

/// Our Via.
pub(super) fn via(advertised: &Option<(String, Option<u16>)>, flow: &Flow, branch: &str) -> String {
    let transport = flow.transport.via_name();
    format!("SIP/2.0/{transport} {};branch={branch};rport", host(advertised, flow))
}

fn host(advertised: &Option<(String, Option<u16>)>, flow: &Flow) -> String {
    match advertised {
        Some((host, port)) => format!("{host}:{}", port.unwrap_or(flow.local.port())),
        None => flow.local.to_string(),
    }
}

/// RFC 3326; the text is ours, but what it quotes may be the caller's.
pub(in crate::sip::endpoint) fn reason_value(status: u16, text: &str) -> String {
    let text: String =
        text.chars().filter(|letter| !letter.is_control() && *letter != '"' && *letter != '\\').collect();
    format!("SIP;cause={status};text=\"{text}\"")
}
