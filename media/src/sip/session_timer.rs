//! Session timers (RFC 4028): a session that nobody refreshes ends on both sides.
//!
//! ```text
//!   2xx with Session-Expires ─▶ half the interval: the refresher asks again ─▶ another 2xx ─▶ from the start
//!                          └──▶ interval − min(32 s, interval/3): whoever waits for a refresh sends BYE
//! ```

use std::time::{Duration, Instant};

use super::message::{Headers, Params};

/// The schedule of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTimer {
    interval: Duration,
    refresher: Refresher,
    /// The next refresh of ours; none of the far end's.
    refresh_at: Option<Instant>,
    end_at: Instant,
}

/// Who refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// We do.
    Us,
    /// They do.
    Them,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a session refresh request.
    Refresh,
    /// The session has expired, or will before the far end can be asked: send BYE.
    End,
}

impl SessionTimer {
    /// Begins with a 2xx to a session refresh request. An interval under 90 s counts as 90 s (RFC 4028 §11).
    pub fn new(interval: Duration, refresher: Refresher, now: Instant) -> Self {
        let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        SessionTimer {
            interval,
            refresher,
            refresh_at: (refresher == Refresher::Us).then(|| now + interval / 2),
            end_at: now + interval - MARGIN_MAX.min(interval / 3),
        }
    }

    /// A refresh of ours was refused in a way that the dialog outlives: it is tried again, with growing haste, until
    /// the session ends.
    pub fn handle_refused(&mut self, now: Instant) {
        let left = self.end_at.saturating_duration_since(now);
        self.refresh_at = (self.refresher == Refresher::Us).then(|| now + (left / 2).max(RETRY_MIN));
    }

    /// The session interval.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Who refreshes.
    pub fn refresher(&self) -> Refresher {
        self.refresher
    }

    /// Time has passed. A refresh is told once; its outcome makes another timer, or
    /// [`SessionTimer::handle_refused`].
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if self.end_at <= now {
            return Some(Due::End);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            return Some(Due::Refresh);
        }
        None
    }

    /// When to call [`SessionTimer::handle_timeout`].
    pub fn poll_timeout(&self) -> Instant {
        self.refresh_at.map_or(self.end_at, |at| at.min(self.end_at))
    }
}

/// What a request or response says of session timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    /// Session-Expires, where it stands.
    pub interval: Option<Duration>,
    /// Min-SE; 90 s where it does not stand.
    pub min: Duration,
    /// The parameter `refresher`: whether it names the one who sent the request.
    pub is_client_refresher: Option<bool>,
    /// Supported names `timer`.
    pub is_supported: bool,
}

/// A header field of RFC 4028 that cannot be read. The peer's doing; answer 400.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("Session-Expires or Min-SE cannot be read")]
pub struct MalformedTimer;

/// An interval under our minimum. The peer's doing; answer 422 with Min-SE 90.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("the session interval is under 90 s")]
pub struct IntervalTooSmall;

/// What a 2xx to a session refresh request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Session-Expires.
    pub interval: Duration,
    /// Its parameter `refresher` is `uac`: the one who sent the request.
    pub is_client_refresher: bool,
    /// Require names `timer` (RFC 4028 §9).
    pub is_required: bool,
}

impl SessionExpires {
    /// Reads the header fields of a message.
    ///
    /// # Errors
    /// [`MalformedTimer`].
    pub fn of(headers: &Headers) -> Result<Self, MalformedTimer> {
        let (mut interval, mut is_client_refresher) = (None, None);
        if let Some(value) = headers.text("Session-Expires") {
            let mut parts = value.split(';');
            interval = Some(seconds(parts.next().unwrap_or_default()).ok_or(MalformedTimer)?);
            let params = Params::parse(parts).ok_or(MalformedTimer)?;
            is_client_refresher = match params.text("refresher") {
                Some(who) if who.eq_ignore_ascii_case("uac") => Some(true),
                Some(who) if who.eq_ignore_ascii_case("uas") => Some(false),
                _ => None,
            };
        }
        let min = match headers.text("Min-SE") {
            Some(value) => seconds(value.split(';').next().unwrap_or_default()).ok_or(MalformedTimer)?,
            None => INTERVAL_MIN,
        };
        let is_supported = headers.lists("Supported", "timer") || headers.lists("Require", "timer");
        Ok(SessionExpires { interval, min: min.clamp(INTERVAL_MIN, INTERVAL_MAX), is_client_refresher, is_supported })
    }

    /// What the called side answers to these fields of a request (RFC 4028 §9); `wanted` is the interval it would ask
    /// for. `None`: no timer.
    ///
    /// # Errors
    /// [`IntervalTooSmall`].
    pub fn answer(&self, wanted: Option<Duration>) -> Result<Option<Agreed>, IntervalTooSmall> {
        let Some(wanted) = wanted else { return Ok(None) };
        let interval = match self.interval {
            Some(interval) if interval < INTERVAL_MIN && self.is_supported => return Err(IntervalTooSmall),
            // A proxy asked for it: it cannot be refused so (RFC 4028 §8.1), and is nobody's to keep to.
            Some(interval) if interval < INTERVAL_MIN => return Ok(None),
            Some(interval) => interval.min(wanted.max(self.min)),
            // Whoever does not know timers is not refreshed: a re-INVITE every 15 min that it did not ask for.
            None if !self.is_supported => return Ok(None),
            None => wanted.max(self.min),
        };
        // RFC 4028 table 2: without support in the caller, the called side refreshes. It does as well where the caller
        // could and did not ask: one that does not keep to it would be hung up on.
        let is_asked = self.interval.is_some();
        let is_client_refresher = self.is_supported && self.is_client_refresher.unwrap_or(is_asked);
        Ok(Some(Agreed { interval, is_client_refresher, is_required: self.is_supported }))
    }

    /// What a 2xx with these fields settles for the one who sent the request (RFC 4028 §7.2); `None`: no timer.
    pub fn settled(&self) -> Option<Agreed> {
        let interval = self.interval?;
        let is_client_refresher = self.is_client_refresher.unwrap_or(true);
        Some(Agreed { interval, is_client_refresher, is_required: false })
    }
}

impl Agreed {
    /// The value of Session-Expires.
    pub fn value(&self) -> String {
        let refresher = if self.is_client_refresher { "uac" } else { "uas" };
        format!("{};refresher={refresher}", self.interval.as_secs())
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse::<u32>().ok()).flatten().map(|seconds| Duration::from_secs(seconds.into()))
}

/// 90 s (RFC 4028 §4): less floods the far end with refreshes.
pub const INTERVAL_MIN: Duration = Duration::from_secs(90);

/// A day: longer intervals end nothing in time.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// 32 s (RFC 4028 §10): the BYE comes through before a firewall closes.
const MARGIN_MAX: Duration = Duration::from_secs(32);

/// 10 s: a server that is overloaded is not asked without end.
const RETRY_MIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refresher_asks_at_half_and_the_other_side_ends_before_the_expiry() {
        for (interval, refresh, end) in
            [(1800, 900, 1768), (90, 45, 60), (96, 48, 64), (120, 60, 88), (7200, 3600, 7168)]
        {
            assert_eq!(schedule(interval, Refresher::Us), [(refresh, Due::Refresh), (end, Due::End)], "{interval}");
            assert_eq!(schedule(interval, Refresher::Them), [(end, Due::End)], "{interval}");
        }
        assert_eq!(schedule(1, Refresher::Us), [(45, Due::Refresh), (60, Due::End)], "RFC 4028 §11: 90 s at least");
    }

    #[test]
    fn a_refused_refresh_is_tried_again_until_the_session_ends() {
        let start = Instant::now();
        let mut timer = SessionTimer::new(Duration::from_secs(1800), Refresher::Us, start);
        let mut seen = Vec::new();
        loop {
            let at = timer.poll_timeout();
            match timer.handle_timeout(at) {
                Some(Due::Refresh) => {
                    seen.push((at - start).as_secs());
                    timer.handle_refused(at);
                }
                Some(Due::End) => break seen.push((at - start).as_secs()),
                None => panic!("nothing due"),
            }
        }
        assert_eq!(seen, [900, 1334, 1551, 1659, 1713, 1740, 1754, 1764, 1768]);
    }

    #[test]
    fn the_called_side_answers_as_table_2_wants() {
        let wanted = Some(Duration::from_secs(1800));
        // Fields of the request, and the Session-Expires of the 200.
        for (fields, expected) in [
            (&[("Supported", "timer"), ("Session-Expires", "1800")][..], Some("1800;refresher=uac")),
            (&[("Supported", "timer"), ("Session-Expires", "600;refresher=uas")], Some("600;refresher=uas")),
            (&[("Supported", "timer"), ("x", "3600 ; refresher=UAC")], Some("1800;refresher=uac")),
            (&[("Supported", "timer"), ("Session-Expires", "3600"), ("Min-SE", "2400")], Some("2400;refresher=uac")),
            (&[("Supported", "timer")], Some("1800;refresher=uas")),
            (&[("Supported", "timer"), ("Min-SE", "3000")], Some("3000;refresher=uas")),
            (&[("Session-Expires", "300")], Some("300;refresher=uas")),
            (&[("Session-Expires", "60")], None),
            (&[], None),
        ] {
            let agreed = read(fields).expect("readable").answer(wanted).expect("long enough");
            assert_eq!(agreed.map(|agreed| agreed.value()).as_deref(), expected, "{fields:?}");
            assert_eq!(read(fields).expect("readable").answer(None), Ok(None), "{fields:?}: timers are off");
        }
        let short = [("Supported", "timer"), ("Session-Expires", "89")];
        assert_eq!(read(&short).expect("readable").answer(wanted), Err(IntervalTooSmall));
    }

    #[test]
    fn the_calling_side_keeps_to_what_the_200_says() {
        let settled = |fields| read(fields).expect("readable").settled().map(|agreed| agreed.value());
        assert_eq!(settled(&[("Session-Expires", "600;refresher=uas")]).as_deref(), Some("600;refresher=uas"));
        assert_eq!(settled(&[("Session-Expires", "600")]).as_deref(), Some("600;refresher=uac"));
        assert_eq!(settled(&[]), None, "RFC 4028 §7.2: no expiration");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for fields in
            [[("Session-Expires", "soon")], [("Session-Expires", "")], [("Min-SE", "-1")], [("x", "99999999999")]]
        {
            assert_eq!(read(&fields), Err(MalformedTimer), "{fields:?}");
        }
    }

    fn read(fields: &[(&str, &str)]) -> Result<SessionExpires, MalformedTimer> {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, *value));
        SessionExpires::of(&headers)
    }

    fn schedule(seconds: u64, refresher: Refresher) -> Vec<(u64, Due)> {
        let start = Instant::now();
        let mut timer = SessionTimer::new(Duration::from_secs(seconds), refresher, start);
        let mut seen = Vec::new();
        loop {
            let at = timer.poll_timeout();
            let due = timer.handle_timeout(at).expect("something is due");
            seen.push(((at - start).as_secs(), due));
            if due == Due::End {
                return seen;
            }
        }
    }
}
