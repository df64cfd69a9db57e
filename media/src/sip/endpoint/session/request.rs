//! Requests that we send within a dialog (RFC 3261 §12.2.1), and the header values that name us.

use std::time::Instant;

use super::State;
use crate::sip::advertised::Advertised;
use crate::sip::dialog::Dialog;
use crate::sip::endpoint::large::Fitted;
use crate::sip::endpoint::{Client, CommandError, DialogId, Endpoint, Flow, Purpose, TransactionKey, Transport};
use crate::sip::message::{COOKIE, Method};
use crate::sip::transaction::client_non_invite::ClientNonInvite;

/// A request other than INVITE to be sent within a dialog.
#[derive(Debug, Clone)]
pub(in crate::sip::endpoint) struct Ask {
    pub(in crate::sip::endpoint) purpose: Purpose,
    /// Its own header fields, without what every request has.
    pub(in crate::sip::endpoint) fields: Vec<(&'static str, String)>,
    /// Its media type and its body.
    pub(in crate::sip::endpoint) body: Option<(&'static str, Vec<u8>)>,
    /// The tag of the far end, in a call that is not answered: which branch it is for.
    pub(in crate::sip::endpoint) tag: String,
}

impl Ask {
    pub(super) fn new(purpose: Purpose) -> Self {
        Ask { purpose, fields: Vec::new(), body: None, tag: String::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

impl Endpoint {
    pub(super) fn bye(&mut self, id: DialogId, reason: Option<String>, now: Instant) {
        // RFC 3261 §13.2.2.4: every 2xx gets its ACK, also one that came with an offer nobody answers any more.
        self.give_up_late(id, now);
        self.end_waiting(id, now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.state = State::Gone;
        session.unacknowledged = None;
        let mut ask = Ask::new(Purpose::Bye);
        ask.fields.extend(reason.map(|reason| ("Reason", reason_value(200, &reason))));
        self.request(id, ask, now);
        self.schedule_session(id);
    }

    /// Sends a request within a dialog, as a transaction of its own.
    pub(in crate::sip::endpoint) fn request(&mut self, id: DialogId, ask: Ask, now: Instant) -> Option<TransactionKey> {
        self.request_with(id, ask, &[], now)
    }

    /// The same with further header fields that are not its own, such as credentials.
    pub(super) fn request_with(
        &mut self,
        id: DialogId,
        ask: Ask,
        more: &[(&'static str, String)],
        now: Instant,
    ) -> Option<TransactionKey> {
        let branch = format!("{COOKIE}{}", self.tag());
        let own = self.sessions.get(&id)?.flow;
        let far = self.far_mut(id, &ask.tag)?;
        let cseq = far.dialog.next_cseq();
        let far = far.clone();
        let flow = self.sessions.get(&id)?.next_flow(&far);
        let method = ask.purpose.method();
        let fitted = self.fit(flow, &branch, now, |sent_over, via| {
            let mut fields = Vec::new();
            if method != Method::Prack {
                // RFC 3262 table 1: not in a PRACK.
                let reached = if sent_over.transport == flow.transport { &own } else { sent_over };
                fields.push(("Contact", contact(&self.config.advertised, reached, &far.dialog)));
            }
            fields.extend(ask.fields.iter().chain(more).cloned());
            let body = ask.body.as_ref().map(|(kind, body)| {
                fields.push(("Content-Type", (*kind).to_owned()));
                body.as_slice()
            });
            far.dialog.write(&method, cseq, via, &fields, body.unwrap_or_default())
        });
        let Fitted { flow, bytes, spare, .. } = fitted;
        let machine = ClientNonInvite::new(bytes.clone(), flow.reliability(), self.config.timers, now);
        let key = TransactionKey(format!("{branch}|{method}").into());
        self.send_fitted(flow, bytes, spare.as_deref());
        self.clients.insert(key.clone(), Client { machine, flow, dialog: id, ask, tried: Vec::new(), spare });
        self.schedule_client(key.clone());
        Some(key)
    }

    /// Our Contact in responses of a dialog.
    pub(super) fn contact(&self, id: DialogId) -> Result<String, CommandError> {
        let session = self.sessions.get(&id).ok_or(CommandError::NoDialog)?;
        Ok(contact(&self.config.advertised, &session.flow, &session.far.dialog))
    }
}

/// Our Contact, which is sips where theirs is (RFC 3261 §8.1.1.8, §12.1.1).
pub(super) fn contact(advertised: &Advertised, flow: &Flow, dialog: &Dialog) -> String {
    if dialog.is_secure() && flow.transport == Transport::Tls {
        return format!("<sips:talkstack@{}>", advertised.host_port(flow));
    }
    let parameter = flow.transport.uri_name().map(|name| format!(";transport={name}")).unwrap_or_default();
    format!("<sip:talkstack@{}{parameter}>", advertised.host_port(flow))
}

/// Our Via.
pub(in crate::sip::endpoint) fn via(advertised: &Advertised, flow: &Flow, branch: &str) -> String {
    let transport = flow.transport.via_name();
    format!("SIP/2.0/{transport} {};branch={branch};rport", advertised.host_port(flow))
}

/// RFC 3326; the text is ours, but what it quotes may be the caller's.
pub(in crate::sip::endpoint) fn reason_value(status: u16, text: &str) -> String {
    let text: String =
        text.chars().filter(|letter| !letter.is_control() && *letter != '"' && *letter != '\\').collect();
    format!("SIP;cause={status};text=\"{text}\"")
}
