//! What is told of refusals that come from the far end.

use crate::sip::endpoint::{DialogId, Endpoint, Flow, RefusalSeen};
use crate::sip::message::{Reason, Response};

impl Endpoint {
    /// Tells of the refusal of a request of ours; the rule is what the response says.
    pub(in crate::sip::endpoint) fn see_their_refusal(
        &mut self,
        flow: Flow,
        dialog: Option<DialogId>,
        response: &Response,
    ) {
        let (status, method) = (response.status, response.core.cseq_method.clone());
        self.see_refusal(RefusalSeen { is_ours: false, status, method, flow, dialog, rule: rule(response) });
    }
}

/// What a refusal says of its cause: Reason, else Warning, else its own phrase.
fn rule(response: &Response) -> String {
    let said = Reason::of(&response.headers).map(|reason| reason.to_string());
    // `399 host "text"` (RFC 3261 §20.43).
    let warning = response.headers.text("Warning").and_then(|value| Some(value.split('"').nth(1)?.to_owned()));
    match said.or(warning).filter(|said| !said.is_empty()) {
        Some(said) => format!("{} ({})", response.phrase, said.chars().take(SAID_MAX).collect::<String>()),
        None => response.phrase.clone(),
    }
}

/// 200 letters: three lines on a screen.
const SAID_MAX: usize = 200;
