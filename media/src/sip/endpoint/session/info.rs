//! INFO: digits and other data that ride in a dialog (RFC 6086).

use std::collections::VecDeque;
use std::time::Instant;

use super::State;
use super::request::Ask;
use crate::sip::endpoint::requests::media_type;
use crate::sip::endpoint::respond::Reply;
use crate::sip::endpoint::{CommandError, DialogId, Endpoint, Event, Flow, Output, Purpose};
use crate::sip::info_digit::{DTMF_RELAY, InfoDigit, TYPES};
use crate::sip::message::Request;

/// The keys that one dialog sends, one request at a time: a later one that arrived first would have the earlier refused
/// (RFC 3261 §12.2.2).
#[derive(Debug, Clone, Default)]
pub(in crate::sip::endpoint) struct Informing {
    waiting: VecDeque<InfoDigit>,
    is_under_way: bool,
}

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

    /// Presses a key by INFO with `application/dtmf-relay`, behind those that wait for an answer. What the far end answers
    /// changes nothing.
    ///
    /// # Errors
    /// [`CommandError::NotNow`] before the answer, or when `WAITING_MAX` keys wait.
    pub fn press_by_info(&mut self, dialog: DialogId, digit: InfoDigit, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        if session.state != State::Confirmed || session.far.informing.waiting.len() >= WAITING_MAX {
            return Err(CommandError::NotNow);
        }
        session.far.informing.waiting.push_back(digit);
        if !session.far.informing.is_under_way {
            self.inform(dialog, now);
        }
        Ok(())
    }

    /// An INFO of ours has its answer, or gets none: the next key goes out.
    pub(in crate::sip::endpoint) fn handle_info_answer(&mut self, dialog: DialogId, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&dialog) {
            session.far.informing.is_under_way = false;
            self.inform(dialog, now);
        }
    }

    fn inform(&mut self, dialog: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&dialog) else { return };
        if session.state != State::Confirmed {
            return;
        }
        let Some(digit) = session.far.informing.waiting.pop_front() else { return };
        session.far.informing.is_under_way = true;
        let mut ask = Ask::new(Purpose::Inform);
        ask.body = Some((DTMF_RELAY, digit.to_dtmf_relay()));
        if self.request(dialog, ask, now).is_none()
            && let Some(session) = self.sessions.get_mut(&dialog)
        {
            session.far.informing.is_under_way = false;
        }
    }
}

/// 32 keys, as many as wait as telephone events.
const WAITING_MAX: usize = 32;
