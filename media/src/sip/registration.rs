//! Our registration at a trunk (RFC 3261 §10.2): one machine for each account.
//!
//! ```text
//!            ┌──────────── 423: longer, at once ───────────┐
//!            ▼                                             │
//!   start ─▶ Registering ── 2xx ─▶ Registered ── half to nine tenths of its life, another address ─▶ Registering
//!                │                     │ stop
//!                │ refused, silence    └─▶ Leaving ─▶ Off
//!                ▼
//!            Waiting ── 30 s doubling to 30 min, or Retry-After ─▶ Registering
//! ```
//!
//! It writes no message: [`RegisterOrder`] says what the next REGISTER asks for.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::message::{Headers, NameAddr, Uri};

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterOrder {
    /// Call-ID, the same for all of one machine (RFC 3261 §10.2).
    pub call_id: String,
    /// CSeq of the first try.
    pub cseq: u32,
    /// The address in Contact, without brackets.
    pub contact: String,
    /// Expires; zero removes the binding.
    pub expires: Duration,
}

/// How a registration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationStatus {
    /// It is not wanted, or was removed.
    Off,
    /// Under way for the first time, or once more after it failed.
    Registering,
    /// It stands.
    Registered {
        /// Until then.
        until: Instant,
    },
    /// It was refused, or nothing came; tried again later.
    Failed {
        /// Why.
        problem: RegistrationProblem,
        /// When it is tried again.
        again_at: Instant,
    },
}

/// Why a registration does not stand; each is a sentence for whoever set the line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationProblem {
    /// 401 or 407 to the right answer's form: the password, or who it is for.
    #[error("the far end answered {0}: the secret or the extension is wrong")]
    Credentials(u16),
    /// 403.
    #[error("the far end answered 403: the secret or the extension is wrong, or it admits no registration from here")]
    Forbidden,
    /// 404.
    #[error("the far end answered 404: it has no such extension")]
    NotFound,
    /// 3xx. It is not followed: the secret is for the configured host.
    #[error("the far end answered {0}: it registers nobody itself; set the host that it names")]
    Moved(u16),
    /// 408, or nothing at all.
    #[error("nobody answers there")]
    Silent,
    /// 423 although it was granted what it asks for, or asks for more than a week.
    #[error("the far end answered 423 and names no interval that can be granted")]
    TooBrief,
    /// 503 or any other refusal with Retry-After.
    #[error("the far end answered {status}: it has no room now and asks to wait {after_s} s")]
    Busy {
        /// 400 to 699.
        status: u16,
        /// Its Retry-After in seconds.
        after_s: u64,
    },
    /// A 200 that grants nothing.
    #[error("the far end answered 200 and bound nothing")]
    NothingGranted,
    /// Anything else.
    #[error("the far end answered {0}")]
    Refused(u16),
}

impl RegistrationProblem {
    /// The status that was answered; `None` when nobody answered.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Credentials(status) | Self::Moved(status) | Self::Refused(status) => Some(status),
            Self::Busy { status, .. } => Some(status),
            Self::Forbidden => Some(403),
            Self::NotFound => Some(404),
            Self::TooBrief => Some(423),
            Self::NothingGranted => Some(200),
            Self::Silent => None,
        }
    }
}

/// A final response to a REGISTER of ours.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// 200 to 699.
    pub status: u16,
    /// All of its header fields.
    pub headers: &'a Headers,
    /// CSeq of the try it answers.
    pub cseq: u32,
}

/// One account at one registrar.
#[derive(Debug)]
pub struct Registration {
    random: ChaCha12Rng,
    call_id: String,
    cseq: u32,
    /// The life that is asked for.
    expires: Duration,
    contact: String,
    state: State,
    /// A request is out; its answer is awaited before the next one.
    is_out: bool,
    /// The address has changed, or the end is wanted, while a request was out.
    is_stale: bool,
    /// Failures in a row.
    failures: u32,
    /// 423s in a row.
    briefs: u32,
    /// Connections that ended soon after they had carried it, in a row.
    losses: u32,
    granted_at: Instant,
    problem: Option<RegistrationProblem>,
    service_route: Vec<String>,
    output: Option<RegisterOrder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Registering,
    /// `refresh_at` is `None` while the refresh is out.
    Registered {
        until: Instant,
        refresh_at: Option<Instant>,
    },
    Waiting {
        again_at: Instant,
    },
    /// The binding is being removed.
    Leaving,
}

impl Registration {
    /// Begins to register `contact`, an address without brackets, for `expires` at a time. `seed` must be
    /// unpredictable.
    pub fn new(contact: String, expires: Duration, seed: [u8; 32], now: Instant) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let call_id = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
        let mut registration = Registration {
            random,
            call_id,
            cseq: 0,
            expires,
            contact,
            state: State::Off,
            is_out: false,
            is_stale: false,
            failures: 0,
            briefs: 0,
            losses: 0,
            granted_at: now,
            problem: None,
            service_route: Vec::new(),
            output: None,
        };
        registration.register(now);
        registration
    }

    /// The REGISTER to send; drain to `None`.
    pub fn poll_output(&mut self) -> Option<RegisterOrder> {
        self.output.take()
    }

    /// When to call [`Registration::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Registered { until, refresh_at } => Some(refresh_at.unwrap_or(until)),
            State::Waiting { again_at } => Some(again_at),
            State::Off | State::Registering | State::Leaving => None,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Registered { until, .. } if until <= now => {
                self.state = State::Registering;
                self.register(now);
            }
            State::Registered { until, refresh_at: Some(at) } if at <= now => {
                self.state = State::Registered { until, refresh_at: None };
                self.register(now);
            }
            State::Waiting { again_at } if again_at <= now => {
                self.state = State::Registering;
                self.register(now);
            }
            _ => {}
        }
    }

    /// We have another address (`telephony` 7): it is bound at once in place of the old one.
    pub fn handle_contact(&mut self, contact: String, now: Instant) {
        if self.contact == contact || matches!(self.state, State::Off | State::Leaving) {
            return;
        }
        self.contact = contact;
        self.failures = 0;
        if let State::Waiting { .. } = self.state {
            self.state = State::Registering;
        }
        self.is_stale = self.is_out;
        self.register(now);
    }

    /// The registration is wanted no more: the binding is removed where there is one.
    pub fn stop(&mut self, now: Instant) {
        match self.state {
            State::Off | State::Leaving => {}
            State::Waiting { .. } => self.state = State::Off,
            State::Registering | State::Registered { .. } => {
                self.is_stale = self.is_out;
                self.state = State::Leaving;
                self.register(now);
            }
        }
    }

    /// The final response has come.
    pub fn handle_answer(&mut self, answer: Answer<'_>, now: Instant) {
        self.is_out = false;
        self.cseq = self.cseq.max(answer.cseq);
        if std::mem::take(&mut self.is_stale) {
            return self.register(now);
        }
        match (self.state, answer.status) {
            (State::Off, _) => {}
            (State::Leaving, _) => self.state = State::Off,
            (_, 200..300) => self.handle_granted(answer.headers, now),
            (_, 423) => self.handle_too_brief(answer.headers, now),
            (_, status) => self.fail(problem(status, answer.headers), now),
        }
    }

    /// Nothing has come for 64·T1, or the request could not be sent.
    pub fn handle_unanswered(&mut self, now: Instant) {
        self.is_out = false;
        // Each challenge that was answered took a number that is not known here.
        self.cseq += CHALLENGES_MAX;
        if std::mem::take(&mut self.is_stale) {
            return self.register(now);
        }
        match self.state {
            State::Off => {}
            State::Leaving => self.state = State::Off,
            _ => self.fail(RegistrationProblem::Silent, now),
        }
    }

    /// The connection that it went over has ended: it is refreshed over another (RFC 5626 §4.5), at once where that one
    /// had lasted, else half to all of 30 s doubling to 30 min later.
    pub fn handle_connection_lost(&mut self, now: Instant) {
        let State::Registered { until, refresh_at: Some(at) } = self.state else { return };
        if now.saturating_duration_since(self.granted_at) >= LASTING {
            self.losses = 0;
        }
        let wait = match self.losses {
            0 => Duration::ZERO,
            losses => self.spread(losses - 1),
        };
        self.losses += 1;
        self.state = State::Registered { until, refresh_at: Some(at.min(now + wait)) };
        self.handle_timeout(now);
    }

    /// How it is.
    pub fn status(&self, now: Instant) -> RegistrationStatus {
        match (self.state, self.problem) {
            (State::Off | State::Leaving, _) => RegistrationStatus::Off,
            (State::Registered { until, .. }, _) if until > now => RegistrationStatus::Registered { until },
            (State::Waiting { again_at }, Some(problem)) => RegistrationStatus::Failed { problem, again_at },
            _ => RegistrationStatus::Registering,
        }
    }

    /// Why the last try failed; `None` once one has succeeded.
    pub fn problem(&self) -> Option<RegistrationProblem> {
        self.problem
    }

    /// Values of Route that requests through this registration begin with (RFC 3608 §5).
    pub fn service_route(&self) -> &[String] {
        &self.service_route
    }

    /// Tells whether nothing more is to come: it was stopped, and the binding is gone or was never there.
    pub fn is_over(&self) -> bool {
        self.state == State::Off
    }

    /// Orders the next REGISTER, unless one is out: its answer does then.
    fn register(&mut self, _now: Instant) {
        if self.is_out {
            return;
        }
        if self.state == State::Off {
            self.state = State::Registering;
        }
        self.is_out = true;
        self.cseq += 1;
        let expires = if self.state == State::Leaving { Duration::ZERO } else { self.expires };
        self.output = Some(RegisterOrder {
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            contact: self.contact.clone(),
            expires,
        });
    }

    fn handle_granted(&mut self, headers: &Headers, now: Instant) {
        self.service_route = headers.elements("Service-Route").into_iter().take(ROUTES_MAX).collect();
        let granted = granted(headers, &self.contact, self.expires);
        if granted.is_zero() {
            return self.fail(RegistrationProblem::NothingGranted, now);
        }
        (self.failures, self.briefs, self.problem) = (0, 0, None);
        let percent = 50 + self.random.next_u32() % 41;
        self.granted_at = now;
        let refresh_at = Some(now + granted.max(GRANTED_MIN) * percent / 100);
        self.state = State::Registered { until: now + granted.max(GRANTED_MIN), refresh_at };
    }

    /// RFC 3261 §10.2.8: at once with the interval that is named.
    fn handle_too_brief(&mut self, headers: &Headers, now: Instant) {
        let named = headers.text("Min-Expires").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        self.briefs += 1;
        match named.filter(|named| *named > self.expires && *named <= EXPIRES_MAX && self.briefs <= BRIEFS_MAX) {
            Some(named) => {
                self.expires = named;
                self.register(now);
            }
            None => self.fail(RegistrationProblem::TooBrief, now),
        }
    }

    /// Half to all of 30 s, doubled so many times, to 30 min.
    fn spread(&mut self, doublings: u32) -> Duration {
        let most = (WAIT * (1 << doublings.min(16))).min(WAIT_MAX);
        most * (50 + self.random.next_u32() % 51) / 100
    }

    /// Waits: as long as was asked for, else as RFC 5626 §4.5 has it, half to all of 30 s doubling to 30 min. What was
    /// granted before stands until it ends.
    fn fail(&mut self, problem: RegistrationProblem, now: Instant) {
        self.problem = Some(problem);
        let spread = self.spread(self.failures);
        self.failures += 1;
        self.briefs = 0;
        let wait = match problem {
            RegistrationProblem::Busy { after_s, .. } => Duration::from_secs(after_s).clamp(WAIT, RETRY_AFTER_MAX),
            _ => spread,
        };
        self.state = match self.state {
            State::Registered { until, .. } if now + wait < until => {
                State::Registered { until, refresh_at: Some(now + wait) }
            }
            _ => State::Waiting { again_at: now + wait },
        };
    }
}

/// What a refusal says of its cause.
fn problem(status: u16, headers: &Headers) -> RegistrationProblem {
    // `120 (in a meeting);duration=60` (RFC 3261 §20.33).
    let retry_after = headers.text("Retry-After");
    let retry_after = retry_after.and_then(|value| value.trim().split([' ', ';', '(']).next()?.parse().ok());
    match (status, retry_after) {
        (300..=399, _) => RegistrationProblem::Moved(status),
        (401 | 407, _) => RegistrationProblem::Credentials(status),
        (403, _) => RegistrationProblem::Forbidden,
        (_, Some(after_s)) => RegistrationProblem::Busy { status, after_s },
        (404, _) => RegistrationProblem::NotFound,
        (408, _) => RegistrationProblem::Silent,
        (_, None) => RegistrationProblem::Refused(status),
    }
}

/// The life that a 200 grants to `contact` (RFC 3261 §10.2.4): that of its own Contact, else of the only one, which is
/// ours as a border element rewrote it, else of all.
fn granted(headers: &Headers, contact: &str, asked: Duration) -> Duration {
    let common = headers.text("Expires").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    let bound: Vec<NameAddr> =
        headers.elements("Contact").iter().take(CONTACTS_MAX).filter_map(|value| NameAddr::parse(value)).collect();
    let own = Uri::parse(contact);
    let is_ours = |bound: &&NameAddr| own.as_ref().is_some_and(|own| is_same(own, &bound.uri));
    let found = bound.iter().find(is_ours).or(if bound.len() == 1 { bound.first() } else { None });
    let life = found.and_then(|bound| bound.params.text("expires")?.parse().ok()).map(Duration::from_secs);
    life.or(common).unwrap_or(asked).min(EXPIRES_MAX)
}

/// The same address; some registrars write the port or the transport that go without saying.
fn is_same(own: &Uri, bound: &Uri) -> bool {
    let plain = |uri: &Uri| uri.sip().map(|uri| (uri.plain_user(), uri.host.clone(), uri.port.unwrap_or(5060)));
    own.is_equivalent(bound) || (plain(own).is_some() && plain(own) == plain(bound))
}

/// 30 s (RFC 5626 §4.5) for the first wait; a registrar that was restarted is back.
const WAIT: Duration = Duration::from_secs(30);

/// 30 min (RFC 5626 §4.5) for the seventh and all that follow.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);

/// 2 min (RFC 5626 §4.5): a connection that has lasted so long was a good one.
const LASTING: Duration = Duration::from_secs(120);

/// 1 h: nobody means to lock a line out for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// 7 days: beyond it nobody means an interval.
const EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// 10 s: a registrar that grants less would be asked all the time.
const GRANTED_MIN: Duration = Duration::from_secs(10);

/// 3 longer intervals, each as the registrar named it.
const BRIEFS_MAX: u32 = 3;

/// 2 answered challenges at the most in one request.
const CHALLENGES_MAX: u32 = 2;

/// 32 bindings of one account.
const CONTACTS_MAX: usize = 32;

/// 8 proxies of one provider.
const ROUTES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_refreshed_at_half_to_nine_tenths_of_what_was_granted() {
        let mut fractions = Vec::new();
        for seed in 0..200 {
            let mut site = Site::seeded(seed);
            let first = site.order();
            assert_eq!((first.cseq, first.expires, first.contact.as_str()), (1, Duration::from_secs(600), CONTACT));
            assert_eq!(site.status(), RegistrationStatus::Registering);
            site.answer(200, &[("Contact", "<sip:us@192.0.2.1:5060>;expires=300")]);
            let until = site.now + Duration::from_secs(300);
            assert_eq!(site.status(), RegistrationStatus::Registered { until });
            let start = site.now;
            let again = site.next_order();
            assert_eq!((again.cseq, &again.call_id), (2, &first.call_id), "RFC 3261 §10.2");
            fractions.push((site.now - start).as_secs_f64() / 300.0);
            assert_eq!(site.status(), RegistrationStatus::Registered { until }, "while it is refreshed");
        }
        assert!(fractions.iter().all(|fraction| (0.5..=0.9).contains(fraction)), "{fractions:?}");
        let (least, most) =
            (fractions.iter().cloned().fold(1.0, f64::min), fractions.iter().cloned().fold(0.0, f64::max));
        assert!(least < 0.55 && most > 0.85, "spread, so that a thousand boxes do not come at once: {least} {most}");
    }

    #[test]
    fn a_failure_is_tried_again_after_30_s_doubling_to_30_min() {
        let mut site = Site::seeded(1);
        site.order();
        for most in [30, 60, 120, 240, 480, 960, 1800, 1800, 1800] {
            site.registration.handle_unanswered(site.now);
            let RegistrationStatus::Failed { problem: RegistrationProblem::Silent, again_at } = site.status() else {
                panic!("{:?}", site.status())
            };
            let (start, most) = (site.now, Duration::from_secs(most));
            site.next_order();
            assert_eq!(site.now, again_at);
            assert!((most / 2..=most).contains(&(site.now - start)), "{:?} of {most:?}", site.now - start);
        }
        site.answer(200, &[]);
        assert_eq!(site.registration.problem(), None);
        site.next_order();
        site.registration.handle_unanswered(site.now);
        let start = site.now;
        site.next_order();
        assert!(site.now - start <= Duration::from_secs(30), "counted anew after a success");
    }

    #[test]
    fn a_lost_connection_is_replaced_at_once_and_one_that_never_lasts_ever_later() {
        let mut site = Site::seeded(3);
        site.order();
        site.answer(200, &[("Expires", "86400")]);
        for most in [0, 30, 60, 120, 240, 480, 960, 1800, 1800] {
            let (start, most) = (site.now, Duration::from_secs(most));
            site.registration.handle_connection_lost(site.now);
            assert!(matches!(site.status(), RegistrationStatus::Registered { .. }), "the binding stands");
            let wait = match site.registration.poll_output() {
                Some(_) => Duration::ZERO,
                None => {
                    site.next_order();
                    site.now - start
                }
            };
            assert!((most / 2..=most).contains(&wait), "{wait:?} of {most:?}");
            site.answer(200, &[("Expires", "86400")]);
        }
        site.now += LASTING;
        site.registration.handle_connection_lost(site.now);
        assert!(site.registration.poll_output().is_some(), "that one had lasted");
        site.registration.handle_connection_lost(site.now);
        assert!(site.registration.poll_output().is_none(), "the refresh is out already");
    }

    #[test]
    fn each_refusal_has_its_name_and_its_wait() {
        for (status, fields, problem, wait) in [
            (401, &[][..], RegistrationProblem::Credentials(401), 15..=30),
            (407, &[], RegistrationProblem::Credentials(407), 15..=30),
            (403, &[], RegistrationProblem::Forbidden, 15..=30),
            (404, &[], RegistrationProblem::NotFound, 15..=30),
            (408, &[], RegistrationProblem::Silent, 15..=30),
            (302, &[("Contact", "<sip:evil.example>")], RegistrationProblem::Moved(302), 15..=30),
            (500, &[], RegistrationProblem::Refused(500), 15..=30),
            (
                503,
                &[("Retry-After", "120 (busy);duration=9")],
                RegistrationProblem::Busy { status: 503, after_s: 120 },
                120..=120,
            ),
            (503, &[("Retry-After", "1")], RegistrationProblem::Busy { status: 503, after_s: 1 }, 30..=30),
            (
                503,
                &[("Retry-After", "999999")],
                RegistrationProblem::Busy { status: 503, after_s: 999_999 },
                3600..=3600,
            ),
            (200, &[("Expires", "0")], RegistrationProblem::NothingGranted, 15..=30),
        ] {
            let mut site = Site::seeded(7);
            site.order();
            site.answer(status, fields);
            let RegistrationStatus::Failed { problem: found, again_at } = site.status() else { panic!("{status}") };
            assert_eq!(found, problem);
            assert!(wait.contains(&(again_at - site.now).as_secs()), "{status} {:?}", again_at - site.now);
            assert_eq!(found.status().is_none(), problem == RegistrationProblem::Silent);
        }
        let said = RegistrationProblem::Forbidden.to_string();
        assert!(said.starts_with("the far end answered 403: the secret or the extension is wrong"), "{said}");
    }

    #[test]
    fn a_longer_interval_is_asked_for_at_once_and_not_for_ever() {
        let mut site = Site::seeded(2);
        site.order();
        site.answer(423, &[("Min-Expires", "1800")]);
        let again = site.order();
        assert_eq!((again.expires, again.cseq), (Duration::from_secs(1800), 2));
        site.answer(200, &[]);
        assert_eq!(site.next_order().expires, Duration::from_secs(1800), "and is remembered");
        for fields in [&[][..], &[("Min-Expires", "60")], &[("Min-Expires", "99999999")], &[("Min-Expires", "x")]] {
            let mut site = Site::seeded(2);
            site.order();
            site.answer(423, fields);
            assert_eq!(site.registration.problem(), Some(RegistrationProblem::TooBrief), "{fields:?}");
            assert_eq!(site.registration.poll_output(), None);
        }
        let mut site = Site::seeded(2);
        site.order();
        for named in ["700", "800", "900"] {
            site.answer(423, &[("Min-Expires", named)]);
            site.order();
        }
        site.answer(423, &[("Min-Expires", "1000")]);
        assert_eq!(site.registration.problem(), Some(RegistrationProblem::TooBrief), "it plays with us");
    }

    #[test]
    fn the_life_is_that_of_our_own_contact() {
        for (fields, seconds) in [
            (&[("Contact", "<sip:other@192.0.2.9>;expires=60, <sip:us@192.0.2.1:5060>;expires=200")][..], 200),
            (&[("Contact", "<sip:us@192.0.2.1>;expires=200"), ("Contact", "<sip:b@h>;expires=9")], 200),
            (&[("Contact", "<sip:u%73@192.0.2.1:5060;transport=udp>;expires=200, <sip:b@h>")], 200),
            (&[("Contact", "<sip:nat@203.0.113.5:1024>;expires=150")], 150),
            (&[("Contact", "<sip:a@h>;expires=70, <sip:b@h>;expires=80"), ("Expires", "90")], 90),
            (&[("Contact", "<sip:us@192.0.2.1:5060>"), ("Expires", "90")], 90),
            (&[("Expires", "90")], 90),
            (&[], 600),
            (&[("Expires", "1")], 10),
        ] {
            let mut site = Site::seeded(3);
            site.order();
            site.answer(200, fields);
            let until = site.now + Duration::from_secs(seconds);
            assert_eq!(site.status(), RegistrationStatus::Registered { until }, "{fields:?}");
        }
    }

    #[test]
    fn the_service_route_is_kept_until_the_next_answer() {
        let mut site = Site::seeded(4);
        site.order();
        site.answer(200, &[("Service-Route", "<sip:p1;lr>, <sip:p2;lr>")]);
        assert_eq!(site.registration.service_route(), ["<sip:p1;lr>", "<sip:p2;lr>"]);
        site.next_order();
        site.answer(200, &[]);
        assert!(site.registration.service_route().is_empty(), "RFC 3608 §6.1: the last one replaces it");
    }

    #[test]
    fn a_refresh_that_fails_leaves_the_binding_until_it_ends() {
        let mut site = Site::seeded(5);
        site.order();
        site.answer(200, &[("Expires", "600")]);
        let until = site.now + Duration::from_secs(600);
        site.next_order();
        site.registration.handle_unanswered(site.now);
        assert_eq!(site.status(), RegistrationStatus::Registered { until });
        assert_eq!(site.registration.problem(), Some(RegistrationProblem::Silent));
        while site.now < until {
            site.next_order();
            site.registration.handle_unanswered(site.now);
        }
        assert!(matches!(site.status(), RegistrationStatus::Failed { .. }));
    }

    #[test]
    fn another_address_is_registered_at_once_and_after_the_request_that_is_out() {
        let mut site = Site::seeded(6);
        site.order();
        site.answer(200, &[]);
        site.registration.handle_contact(CONTACT.into(), site.now);
        assert_eq!(site.registration.poll_output(), None, "the same address");
        site.registration.handle_contact("sip:us@198.51.100.1:5060".into(), site.now);
        assert_eq!(site.order().contact, "sip:us@198.51.100.1:5060");
        site.registration.handle_contact("sip:us@198.51.100.2:5060".into(), site.now);
        assert_eq!(site.registration.poll_output(), None, "one at a time (RFC 3261 §10.2)");
        site.answer(200, &[]);
        assert_eq!(site.order().contact, "sip:us@198.51.100.2:5060");
        site.answer(403, &[]);
        site.registration.handle_contact("sip:us@198.51.100.3:5060".into(), site.now);
        assert_eq!(site.order().contact, "sip:us@198.51.100.3:5060", "without waiting");
    }

    #[test]
    fn a_registration_that_is_stopped_removes_its_binding() {
        let mut site = Site::seeded(8);
        site.order();
        site.answer(200, &[]);
        site.registration.stop(site.now);
        assert_eq!(site.order().expires, Duration::ZERO);
        assert_eq!((site.status(), site.registration.is_over()), (RegistrationStatus::Off, false));
        site.answer(200, &[]);
        assert!(site.registration.is_over() && site.registration.poll_timeout().is_none());
        // While a request is out it may have bound something.
        let mut site = Site::seeded(8);
        site.order();
        site.registration.stop(site.now);
        assert_eq!(site.registration.poll_output(), None);
        site.answer(200, &[]);
        assert_eq!(site.order().expires, Duration::ZERO);
        site.registration.handle_unanswered(site.now);
        assert!(site.registration.is_over());
        // And nothing is there to remove after a refusal.
        let mut site = Site::seeded(8);
        site.order();
        site.answer(403, &[]);
        site.registration.stop(site.now);
        assert!(site.registration.is_over() && site.registration.poll_output().is_none());
    }

    #[test]
    fn numbers_rise_past_those_that_challenges_took() {
        let mut site = Site::seeded(9);
        site.order();
        let headers = Headers::default();
        site.registration.handle_answer(Answer { status: 200, headers: &headers, cseq: 2 }, site.now);
        assert_eq!(site.next_order().cseq, 3);
        site.registration.handle_unanswered(site.now);
        assert_eq!(site.next_order().cseq, 6);
    }

    const CONTACT: &str = "sip:us@192.0.2.1:5060";

    struct Site {
        registration: Registration,
        now: Instant,
    }

    impl Site {
        fn seeded(seed: u8) -> Self {
            let now = Instant::now();
            let registration = Registration::new(CONTACT.into(), Duration::from_secs(600), [seed; 32], now);
            Site { registration, now }
        }

        fn order(&mut self) -> RegisterOrder {
            let order = self.registration.poll_output().expect("a REGISTER");
            assert_eq!(self.registration.poll_output(), None);
            order
        }

        /// Lets time pass until the next REGISTER.
        fn next_order(&mut self) -> RegisterOrder {
            loop {
                self.now = self.registration.poll_timeout().expect("something is to come");
                self.registration.handle_timeout(self.now);
                if let Some(order) = self.registration.poll_output() {
                    return order;
                }
            }
        }

        fn answer(&mut self, status: u16, fields: &[(&str, &str)]) {
            let mut headers = Headers::default();
            fields.iter().for_each(|(name, value)| headers.push(name, *value));
            self.registration.handle_answer(Answer { status, headers: &headers, cseq: 0 }, self.now);
        }

        fn status(&self) -> RegistrationStatus {
            self.registration.status(self.now)
        }
    }
}
