//! INFO: digits and other data that ride in a dialog (RFC 6086).

use std::time::Instant;

use crate::sip::endpoint::requests::media_type;
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{Endpoint, Event, Flow, Output};
use crate::sip::message::Request;

impl Endpoint {
    /// Answers an INFO and tells of its body.
    pub(in crate::sip::endpoint) fn handle_info(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let content_type = media_type(&request.headers.text("Content-Type").unwrap_or_default()).to_ascii_lowercase();
        let reply = if request.headers.text("Info-Package").is_some() {
            // RFC 6086 §4.2.2: none was announced by Recv-Info.
            Reply::new(469).with("Recv-Info", "").because("this box uses no Info Packages")
        } else if !request.body.is_empty() && !TYPES.contains(&content_type.as_str()) {
            let reply = Reply::new(415).with("Accept", TYPES.join(", "));
            reply.because("its body is of a type that means nothing here")
        } else {
            Reply::new(200)
        };
        let is_taken = reply.status == 200 && !request.body.is_empty();
        if let Some(dialog) = self.handle_in_dialog(flow, request, reply, now).filter(|_| is_taken) {
            let body = request.body.clone();
            self.outputs.push_back(Output::Event(Event::Info { dialog, content_type, body }));
        }
    }
}

/// Digits in the two forms that gateways send, and a picture that is asked for anew (RFC 5168).
const TYPES: [&str; 3] = ["application/dtmf-relay", "application/dtmf", "application/media_control+xml"];
