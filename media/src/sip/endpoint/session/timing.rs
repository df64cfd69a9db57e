//! Session timers at work in a dialog (RFC 4028): what is agreed, when it is refreshed, when it ends.

use std::time::{Duration, Instant};

use super::State;
use super::reoffer::Goal;
use crate::sip::endpoint::{DialogId, EndCause, Endpoint};
use crate::sip::message::Headers;
use crate::sip::session_timer::{Agreed, Due, INTERVAL_MIN, Refresher, SessionExpires, SessionTimer};

/// The session timer of one dialog.
#[derive(Debug, Default)]
pub(super) struct Timing {
    timer: Option<SessionTimer>,
    /// What a 200 that goes out next agrees to.
    accepted: Option<Agreed>,
    /// The largest Min-SE that was seen in this dialog (RFC 4028 §7.4).
    min: Option<Duration>,
}

impl Timing {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timer.as_ref().map(SessionTimer::poll_timeout)
    }

    /// Reads the Min-SE of a request or of a 422.
    pub(super) fn learn(&mut self, headers: &Headers) {
        if headers.text("Min-SE").is_some()
            && let Ok(said) = SessionExpires::of(headers)
        {
            self.min = self.min.max(Some(said.min));
        }
    }

    pub(super) fn min(&self) -> Option<Duration> {
        self.min
    }

    /// The header fields of a 2xx to a request with these.
    pub(super) fn accept(&mut self, request: &Headers, wanted: Option<Duration>) -> Vec<(&'static str, String)> {
        // What cannot be read or is too small was refused before.
        let asked = SessionExpires::of(request);
        self.accepted = asked.ok().and_then(|asked| asked.answer(wanted).ok().flatten());
        let Some(agreed) = self.accepted else { return Vec::new() };
        let mut fields = vec![("Session-Expires", agreed.value())];
        if agreed.is_required {
            fields.push(("Require", "timer".into()));
        }
        fields
    }

    /// The 2xx that was [accepted](Timing::accept) goes out.
    pub(super) fn begin_answered(&mut self, now: Instant) {
        self.timer = self.accepted.take().map(|agreed| {
            let refresher = if agreed.is_client_refresher { Refresher::Them } else { Refresher::Us };
            SessionTimer::new(agreed.interval, refresher, now)
        });
    }

    /// A 2xx to a session refresh request of ours has come.
    pub(super) fn handle_accepted(&mut self, headers: &Headers, wanted: Option<Duration>, now: Instant) {
        let settled = SessionExpires::of(headers).ok().and_then(|said| said.settled()).filter(|_| wanted.is_some());
        self.timer = settled.map(|agreed| {
            let refresher = if agreed.is_client_refresher { Refresher::Us } else { Refresher::Them };
            SessionTimer::new(agreed.interval, refresher, now)
        });
    }

    /// A refresh of ours was refused, and the dialog lives.
    pub(super) fn handle_refused(&mut self, now: Instant) {
        if let Some(timer) = &mut self.timer {
            timer.handle_refused(now);
        }
    }

    /// The header fields of a session refresh request within the dialog (RFC 4028 §7.4).
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if let Some(timer) = &self.timer {
            let interval = timer.interval().max(self.min.unwrap_or(INTERVAL_MIN));
            let is_client_refresher = timer.refresher() == Refresher::Us;
            let value = Agreed { interval, is_client_refresher, is_required: false }.value();
            fields.push(("Session-Expires", value));
        }
        fields.extend(self.min.map(|min| ("Min-SE", min.as_secs().to_string())));
        fields
    }
}

/// The header fields of an INVITE that begins a dialog.
pub(super) fn offered(wanted: Option<Duration>, min: Option<Duration>) -> Vec<(&'static str, String)> {
    let Some(wanted) = wanted else { return Vec::new() };
    let interval = wanted.max(min.unwrap_or(INTERVAL_MIN));
    let mut fields = vec![("Session-Expires", interval.as_secs().to_string())];
    fields.extend(min.map(|min| ("Min-SE", min.as_secs().to_string())));
    fields
}

impl Endpoint {
    pub(super) fn handle_timing_timeout(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.state == State::Confirmed) else {
            return;
        };
        match session.timing.timer.as_mut().and_then(|timer| timer.handle_timeout(now)) {
            Some(Due::End) => self.end_confirmed(id, EndCause::Expired, now),
            // Whatever is being asked already refreshes as well.
            Some(Due::Refresh) if session.reoffer.is_some() => session.timing.handle_refused(now),
            Some(Due::Refresh) => self.begin_reoffer(id, Goal::Refresh, now),
            None => {}
        }
    }
}
