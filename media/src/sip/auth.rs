//! Digest authentication of those who ask us (RFC 7616, RFC 8760, RFC 3261 §22).
//!
//! ```text
//!   request ─▶ no answer to a challenge of ours ──────────────▶ Challenge
//!                  │ answered
//!                  ▼
//!              nonce ours, for this source? ── no ────────────▶ Challenge
//!                  │ yes, but older than 60 s, or used before ▶ Challenge, stale
//!                  ▼
//!              response right? ── no ─▶ counted ──────────────▶ Challenge, or Banned
//!                  └ yes ─────────────────────────────────────▶ Proven
//! ```
//!
//! A challenge costs no memory: its nonce says by itself when and for whom it was made. What is remembered is how far
//! the counts of proven nonces went, and who guesses.

mod asked;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use self::asked::Asked;
use super::digest::{Algorithm, Answered, unquoted};
use super::endpoint::Transport;
use super::message::{Uri, split};

/// What stands for a user's password, one for each algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1s([String; 3]);

impl Ha1s {
    /// Hashes a password.
    pub fn new(username: &str, realm: &str, password: &str) -> Self {
        Ha1s(Algorithm::ALL.map(|algorithm| algorithm.ha1(username, realm, password)))
    }

    fn of(&self, algorithm: Algorithm) -> &str {
        &self.0[algorithm as usize]
    }
}

/// They are as good as the password.
impl fmt::Debug for Ha1s {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1s(•••)")
    }
}

/// A request that is to be proven.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its method.
    pub method: &'a str,
    /// The user that its sender says to be.
    pub asker: &'a str,
    /// Its Request-URI.
    pub uri: &'a Uri,
    /// The values of Authorization and Proxy-Authorization.
    pub answers: &'a [String],
    /// Where it came from.
    pub source: Source,
    /// The source is a trunk's: it is never banned.
    pub is_trunk: bool,
}

/// Whose failures are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Its address.
    pub ip: IpAddr,
    /// How it speaks.
    pub transport: Transport,
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this user.
    Proven(String),
    /// Refuse with 401 or 407 and these values of WWW-Authenticate or Proxy-Authenticate, in this order.
    Challenge(Vec<String>),
    /// It has guessed too often: refuse with 403.
    Banned,
}

/// The judge of claims for one realm.
#[derive(Debug)]
pub struct Authenticator {
    realm: String,
    key: Key,
    start: Instant,
    /// Nonces made so far: two of one instant differ.
    made: u32,
    /// By age: when it was made and its number, to the highest count seen.
    counts: BTreeMap<(u64, u32), u32>,
    /// Nonces made at or before this are stale: their counts have been forgotten.
    forgotten: Option<(u64, u32)>,
    guessers: HashMap<Source, Guesser>,
    asked: Asked,
}

struct Key([u8; 32]);

/// It makes nonces that are believed.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(•••)")
    }
}

/// A source that has answered challenges wrongly.
#[derive(Debug, Clone, Copy)]
struct Guesser {
    failures: u32,
    /// Bans so far.
    bans: u32,
    until: Option<Instant>,
    last: Instant,
}

/// One value of Authorization, as far as it is understood.
struct Answer {
    username: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Algorithm,
    cnonce: String,
    count: u32,
}

/// What a nonce that came back is.
enum Nonce {
    Fresh((u64, u32)),
    Stale,
    Foreign,
}

impl Authenticator {
    /// Starts without memory. Nonces come from `seed`, which must be unpredictable.
    pub fn new(realm: &str, seed: [u8; 32], now: Instant) -> Self {
        Authenticator {
            realm: realm.to_owned(),
            key: Key(seed),
            start: now,
            made: 0,
            counts: BTreeMap::new(),
            forgotten: None,
            guessers: HashMap::new(),
            asked: Asked::new(),
        }
    }

    /// The realm that passwords are hashed with.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Judges a claim; `lookup` finds what a user's password hashes to. An unknown user takes as long as a known one.
    pub fn judge(&mut self, claim: &Claim<'_>, lookup: impl Fn(&str) -> Option<Ha1s>, now: Instant) -> Verdict {
        if self.is_banned(claim, now) {
            return Verdict::Banned;
        }
        let answer = claim.answers.iter().take(ANSWERS_MAX).find_map(|value| Answer::parse(value, &self.realm));
        let Some(answer) = answer.filter(|answer| is_same(&answer.uri, claim.uri)) else {
            return Verdict::Challenge(self.challenges(claim, false, now));
        };
        let name = match self.read_nonce(&answer.nonce, claim.source, now) {
            Nonce::Fresh(name) => name,
            Nonce::Stale => return Verdict::Challenge(self.challenges(claim, true, now)),
            Nonce::Foreign => return Verdict::Challenge(self.challenges(claim, false, now)),
        };
        let known = lookup(&answer.username);
        let ha1s = known.clone().unwrap_or_else(|| Ha1s(Default::default()));
        let answered = Answered { method: claim.method, uri: &answer.uri, cnonce: &answer.cnonce, count: answer.count };
        let response = answer.algorithm.response(ha1s.of(answer.algorithm), &answer.nonce, &answered);
        let is_right = is_equal(response.as_bytes(), answer.response.to_ascii_lowercase().as_bytes());
        if !is_right || known.is_none() {
            self.count_failure(claim, now);
            return Verdict::Challenge(self.challenges(claim, false, now));
        }
        // A copy of an answer that was seen proves nothing; it is no guess either, and whoever has it may not be its
        // sender: a ban would be the honest one's.
        if self.counts.get(&name).is_some_and(|count| answer.count <= *count) {
            return Verdict::Challenge(self.challenges(claim, true, now));
        }
        self.remember_count(name, answer.count, now);
        self.guessers.remove(&claim.source);
        self.asked.answer(claim, &self.key.0, now);
        Verdict::Proven(answer.username)
    }

    /// Challenges with a nonce for this source: SHA-256 first, which is preferred (RFC 8760 §2.3), then MD5; MD5 alone
    /// for who gave up on both.
    fn challenges(&mut self, claim: &Claim<'_>, is_stale: bool, now: Instant) -> Vec<String> {
        let algorithms: &[_] = match self.asked.challenge(claim, &self.key.0, now) {
            true => &[Algorithm::Md5],
            false => &[Algorithm::Sha256, Algorithm::Md5],
        };
        self.made = self.made.wrapping_add(1);
        let (at, number) = (self.age(now), self.made);
        let nonce = format!("{at:012x}{number:08x}{}", self.code(at, number, claim.source));
        let stale = if is_stale { ", stale=true" } else { "" };
        let challenge = |algorithm: &Algorithm| {
            let (realm, name) = (&self.realm, algorithm.name());
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={name}, qop=\"auth\"{stale}")
        };
        algorithms.iter().map(challenge).collect()
    }

    fn read_nonce(&self, nonce: &str, source: Source, now: Instant) -> Nonce {
        let parts = nonce.get(..12).zip(nonce.get(12..20)).zip(nonce.get(20..));
        let Some(((at, number), code)) = parts else { return Nonce::Foreign };
        let Some((at, number)) = u64::from_str_radix(at, 16).ok().zip(u32::from_str_radix(number, 16).ok()) else {
            return Nonce::Foreign;
        };
        if !is_equal(self.code(at, number, source).as_bytes(), code.as_bytes()) {
            return Nonce::Foreign;
        }
        let is_old = self.age(now).saturating_sub(at) > NONCE_LIFE.as_millis() as u64;
        match (at, number) {
            name if is_old || self.forgotten.is_some_and(|forgotten| name <= forgotten) => Nonce::Stale,
            name => Nonce::Fresh(name),
        }
    }

    /// The code that only we can write: 128 bits over time, number and source.
    fn code(&self, at: u64, number: u32, source: Source) -> String {
        // A key of any length is fine for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key.0) else { return String::new() };
        mac.update(format!("{at}|{number}|{}|{}", source.ip, source.transport.via_name()).as_bytes());
        mac.finalize().into_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    fn remember_count(&mut self, name: (u64, u32), count: u32, now: Instant) {
        let oldest = self.age(now).saturating_sub(NONCE_LIFE.as_millis() as u64);
        self.counts = self.counts.split_off(&(oldest, 0));
        self.counts.insert(name, count);
        while self.counts.len() > COUNTS_MAX {
            // Without its count a nonce could be used again; so nothing as old is taken any more.
            self.forgotten = self.counts.pop_first().map(|(name, _)| name).max(self.forgotten);
        }
    }

    fn is_banned(&self, claim: &Claim<'_>, now: Instant) -> bool {
        !claim.is_trunk && self.guessers.get(&claim.source).and_then(|guesser| guesser.until).is_some_and(|at| now < at)
    }

    /// A valid nonce came back with a wrong answer: the source is who it says, and has guessed.
    fn count_failure(&mut self, claim: &Claim<'_>, now: Instant) {
        if claim.is_trunk {
            return;
        }
        if !self.guessers.contains_key(&claim.source) && self.guessers.len() >= GUESSERS_MAX {
            self.forget_guesser(now);
        }
        let fresh = Guesser { failures: 0, bans: 0, until: None, last: now };
        let guesser = self.guessers.entry(claim.source).or_insert(fresh);
        if now.saturating_duration_since(guesser.last) > BAN_MAX {
            *guesser = fresh;
        }
        guesser.failures += 1;
        guesser.last = now;
        if guesser.failures >= FAILURES_MAX {
            guesser.failures = 0;
            guesser.until = Some(now + (BAN * (1 << guesser.bans.min(16))).min(BAN_MAX));
            guesser.bans += 1;
        }
    }

    /// Makes room: whoever is not banned and has failed the longest ago, else the ban that ends first.
    fn forget_guesser(&mut self, now: Instant) {
        let key = |guesser: &Guesser| (guesser.until.filter(|until| *until > now), guesser.last);
        let found = self.guessers.iter().min_by_key(|(_, guesser)| key(guesser)).map(|(source, _)| *source);
        if let Some(source) = found {
            self.guessers.remove(&source);
        }
    }

    /// Milliseconds since the start.
    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }
}

impl Answer {
    /// Reads an answer to a challenge of this realm; `None` when it is none of ours: every challenge asks for `qop`.
    fn parse(value: &str, realm: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") || value.len() > ANSWER_BYTES_MAX {
            return None;
        }
        let parts = split(rest, b',');
        let parameter = |wanted: &str| {
            let found = parts.iter().filter_map(|part| part.split_once('='));
            let mut found = found.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| unquoted(value.trim()))
        };
        let is_ours = parameter("realm")? == realm && parameter("qop")?.eq_ignore_ascii_case("auth");
        let count = parameter("nc")?;
        (is_ours && count.len() == 8).then_some(())?;
        Some(Answer {
            username: parameter("username")?.replace("\\\"", "\"").replace("\\\\", "\\"),
            nonce: parameter("nonce")?.to_owned(),
            uri: parameter("uri")?.to_owned(),
            response: parameter("response")?.to_owned(),
            algorithm: Algorithm::parse(parameter("algorithm").unwrap_or("MD5"))?,
            cnonce: parameter("cnonce")?.to_owned(),
            count: u32::from_str_radix(count, 16).ok()?,
        })
    }
}

/// The answer is for this request: to the letter, or the same user at the same host where a proxy or the phone writes
/// it another way (RFC 7616 §3.4.6).
fn is_same(answered: &str, asked: &Uri) -> bool {
    if *answered == asked.to_string() {
        return true;
    }
    let Some(answered) = Uri::parse(answered) else { return false };
    match (answered.sip(), asked.sip()) {
        (Some(a), Some(b)) => a.user == b.user && a.host == b.host,
        _ => false,
    }
}

/// Compares in a time that does not tell where they differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    a.len() == b.len() && differs == 0
}

/// 60 s (`security` 3.3).
const NONCE_LIFE: Duration = Duration::from_secs(60);

/// 8,192 proven nonces a minute: 136 requests a second by proven users, 1 MiB.
const COUNTS_MAX: usize = 8192;

/// 10 wrong passwords (`security` 3.3): a person gives up sooner.
const FAILURES_MAX: u32 = 10;

/// 300 s for the first ban.
const BAN: Duration = Duration::from_secs(300);

/// 24 h for the tenth and all that follow.
const BAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// 16,384 sources: each has returned a nonce, so each is a real address; 2 MiB.
const GUESSERS_MAX: usize = 16_384;

/// 8 answers in one request: a proxy's and ours, in each algorithm.
const ANSWERS_MAX: usize = 8;

/// 2,048 octets: an answer with every parameter has 400.
const ANSWER_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::digest::{Challenge, Credentials};

    #[test]
    fn the_right_password_proves_a_user_in_every_algorithm() {
        let mut site = Site::new();
        let Verdict::Challenge(offered) = site.judge(&[]) else { panic!("a challenge") };
        assert_eq!(offered.len(), 2);
        assert!(offered[0].contains("algorithm=SHA-256") && offered[1].contains("algorithm=MD5"), "{offered:?}");
        assert!(offered.iter().all(|text| text.contains("qop=\"auth\"") && !text.contains("stale")));
        for (at, name) in ["SHA-256", "MD5", "SHA-512-256"].into_iter().enumerate() {
            let challenge = offered[0].replace("SHA-256", name);
            let answer = site.answer(&challenge, "101", "s3cret", at as u32 + 1);
            assert_eq!(site.judge(&[answer]), Verdict::Proven("101".into()), "{name}");
        }
    }

    #[test]
    fn a_captured_answer_proves_nothing() {
        let mut site = Site::new();
        let challenge = site.challenge();
        let answer = site.answer(&challenge, "101", "s3cret", 2);
        assert_eq!(site.judge(std::slice::from_ref(&answer)), Verdict::Proven("101".into()));
        for count in [2, 1] {
            let Verdict::Challenge(again) = site.judge(&[site.answer(&challenge, "101", "s3cret", count)]) else {
                panic!("count {count} is not above 2")
            };
            assert!(again[0].contains("stale=true"));
        }
        let next = site.answer(&challenge, "101", "s3cret", 3);
        assert_eq!(site.judge(&[next]), Verdict::Proven("101".into()));
        // Nor for another request, nor from elsewhere.
        let fresh = site.answer(&challenge, "101", "s3cret", 4);
        site.uri = "sip:+15550001@box".into();
        assert!(matches!(site.judge(std::slice::from_ref(&fresh)), Verdict::Challenge(_)));
        site.uri = "sip:box".into();
        site.source.ip = "192.0.2.66".parse().expect("address");
        assert!(matches!(site.judge(std::slice::from_ref(&fresh)), Verdict::Challenge(_)));
        site.source = source();
        assert_eq!(site.judge(&[fresh]), Verdict::Proven("101".into()));
    }

    #[test]
    fn a_nonce_lives_for_60_s_and_is_then_stale() {
        let mut site = Site::new();
        let challenge = site.challenge();
        site.now += NONCE_LIFE;
        assert_eq!(site.judge(&[site.answer(&challenge, "101", "s3cret", 1)]), Verdict::Proven("101".into()));
        site.now += Duration::from_millis(1);
        for password in ["s3cret", "wrong"] {
            let Verdict::Challenge(again) = site.judge(&[site.answer(&challenge, "101", password, 2)]) else {
                panic!("too old")
            };
            assert!(again[0].contains("stale=true"), "which says nothing of the password");
        }
        let forged = challenge.replace("nonce=\"0", "nonce=\"1");
        let Verdict::Challenge(again) = site.judge(&[site.answer(&forged, "101", "s3cret", 1)]) else { panic!() };
        assert!(!again[0].contains("stale"), "another box's nonce");
    }

    #[test]
    fn ten_wrong_answers_ban_a_source_for_300_s_doubling_to_a_day() {
        let mut site = Site::new();
        for seconds in [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 76_800, 86_400, 86_400] {
            for guess in 0..10 {
                let challenge = site.challenge();
                let answer = site.answer(&challenge, "101", &format!("guess {guess}"), 1);
                assert!(matches!(site.judge(&[answer]), Verdict::Challenge(_)), "guess {guess}");
            }
            assert_eq!(site.judge(&[]), Verdict::Banned);
            // Neighbours, and the same host over another transport, are not concerned.
            site.source.transport = Transport::Tcp;
            assert!(matches!(site.judge(&[]), Verdict::Challenge(_)));
            site.source = source();
            site.now += Duration::from_secs(seconds) - Duration::from_millis(1);
            assert_eq!(site.judge(&[]), Verdict::Banned, "{seconds} s are not over");
            site.now += Duration::from_millis(1);
            assert!(matches!(site.judge(&[]), Verdict::Challenge(_)), "{seconds} s are over");
        }
        let challenge = site.challenge();
        let right = site.answer(&challenge, "101", "s3cret", 1);
        assert_eq!(site.judge(&[right]), Verdict::Proven("101".into()));
    }

    #[test]
    fn what_any_forger_can_send_and_what_comes_from_a_trunk_bans_nobody() {
        let mut site = Site::new();
        let challenge = site.challenge();
        let forged = challenge.replace("nonce=\"0", "nonce=\"1");
        let captured = site.answer(&challenge, "101", "s3cret", 1);
        assert_eq!(site.judge(std::slice::from_ref(&captured)), Verdict::Proven("101".into()));
        for _ in 0..50 {
            site.judge(&[]);
            site.judge(&[site.answer(&forged, "101", "wrong", 1)]);
            site.judge(std::slice::from_ref(&captured));
        }
        assert!(matches!(site.judge(&[]), Verdict::Challenge(_)));
        site.is_trunk = true;
        for _ in 0..50 {
            let challenge = site.challenge();
            site.judge(&[site.answer(&challenge, "101", "wrong", 1)]);
        }
        assert!(matches!(site.judge(&[]), Verdict::Challenge(_)));
    }

    #[test]
    fn an_unknown_user_is_refused_like_a_known_one() {
        let mut site = Site::new();
        for user in ["101", "999"] {
            let challenge = site.challenge();
            let Verdict::Challenge(again) = site.judge(&[site.answer(&challenge, user, "wrong", 1)]) else { panic!() };
            assert_eq!(again.len(), 2, "{user}");
        }
        // The hashes of nothing prove nobody.
        let challenge = site.challenge();
        let nonce = challenge.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a nonce");
        let answered = Answered { method: "REGISTER", uri: "sip:box", cnonce: "c", count: 1 };
        let response = Algorithm::Md5.response("", nonce, &answered);
        let answer = format!(
            "Digest username=\"999\", realm=\"talkstack\", nonce=\"{nonce}\", uri=\"sip:box\", \
             response=\"{response}\", cnonce=\"c\", qop=auth, nc=00000001"
        );
        assert!(matches!(site.judge(&[answer]), Verdict::Challenge(_)));
    }

    #[test]
    fn a_full_memory_of_counts_makes_older_nonces_stale() {
        let mut site = Site::new();
        let challenges: Vec<String> = (0..COUNTS_MAX + 2).map(|_| site.challenge()).collect();
        for challenge in &challenges[1..] {
            let answer = site.answer(challenge, "101", "s3cret", 1);
            assert_eq!(site.judge(&[answer]), Verdict::Proven("101".into()));
        }
        assert_eq!(site.auth.counts.len(), COUNTS_MAX);
        for challenge in &challenges[..2] {
            let Verdict::Challenge(again) = site.judge(&[site.answer(challenge, "101", "s3cret", 2)]) else {
                panic!("its count is forgotten")
            };
            assert!(again[0].contains("stale=true"));
        }
    }

    #[test]
    fn who_gives_up_on_both_algorithms_is_asked_in_md5_alone_and_may_go_on_so() {
        let mut site = Site::new();
        let offered = |site: &mut Site| match site.judge(&[]) {
            Verdict::Challenge(offered) => offered,
            other => panic!("{other:?}"),
        };
        // Two requests at once are no second try, and who answers can.
        assert_eq!((offered(&mut site).len(), offered(&mut site).len()), (2, 2));
        let challenge = site.challenge();
        assert!(matches!(site.judge(&[site.answer(&challenge, "101", "s3cret", 1)]), Verdict::Proven(_)));
        site.now += Duration::from_secs(30);
        assert_eq!(offered(&mut site).len(), 2);
        site.now += Duration::from_secs(30);
        let alone = offered(&mut site);
        assert!(alone.len() == 1 && alone[0].contains("algorithm=MD5"), "{alone:?}");
        // A wrong password is no reason to ask in more.
        assert!(
            matches!(site.judge(&[site.answer(&alone[0], "101", "wrong", 1)]), Verdict::Challenge(again) if again.len() == 1)
        );
        for _ in 0..5 {
            let alone = offered(&mut site);
            assert_eq!(alone.len(), 1);
            assert!(matches!(site.judge(&[site.answer(&alone[0], "101", "s3cret", 1)]), Verdict::Proven(_)));
            site.now += Duration::from_secs(3600);
        }
        // Others at the same address are asked in both, and so is it when it has been away for long.
        site.asker = "102";
        assert_eq!(offered(&mut site).len(), 2);
        site.asker = "101";
        site.now += Duration::from_secs(3600);
        assert_eq!(offered(&mut site).len(), 2);
    }

    #[test]
    fn what_is_no_answer_is_challenged() {
        let mut site = Site::new();
        for text in [
            "",
            "Basic MTAxOnMzY3JldA==",
            "Digest",
            "Digest username=\"101\"",
            "Digest username=\"101\", realm=\"talkstack\", nonce=\"é\", uri=\"sip:box\", response=\"x\", cnonce=\"c\", qop=auth, nc=00000001",
        ] {
            assert!(matches!(site.judge(&[text.to_owned()]), Verdict::Challenge(_)), "{text}");
        }
        // RFC 2069's answer, which any challenge without qop would get.
        let challenge = site.challenge();
        let without = site.answer(&challenge.replace(", qop=\"auth\"", ""), "101", "s3cret", 1);
        assert!(matches!(site.judge(&[without]), Verdict::Challenge(_)));
        assert_eq!(format!("{:?}", site.auth.key), "Key(•••)");
    }

    struct Site {
        auth: Authenticator,
        now: Instant,
        source: Source,
        uri: String,
        asker: &'static str,
        is_trunk: bool,
    }

    impl Site {
        fn new() -> Self {
            let now = Instant::now();
            let auth = Authenticator::new("talkstack", [7; 32], now);
            Site { auth, now, source: source(), uri: "sip:box".into(), asker: "101", is_trunk: false }
        }

        fn judge(&mut self, answers: &[String]) -> Verdict {
            let uri = Uri::parse(&self.uri).expect("a URI");
            let (source, is_trunk) = (self.source, self.is_trunk);
            let claim = Claim { method: "REGISTER", asker: self.asker, uri: &uri, answers, source, is_trunk };
            let lookup = |user: &str| (user == "101").then(|| Ha1s::new("101", "talkstack", "s3cret"));
            self.auth.judge(&claim, lookup, self.now)
        }

        fn challenge(&mut self) -> String {
            match self.judge(&[]) {
                Verdict::Challenge(offered) => offered[0].clone(),
                other => panic!("{other:?}"),
            }
        }

        fn answer(&self, challenge: &str, username: &str, password: &str, count: u32) -> String {
            let credentials = Credentials { username: username.into(), password: password.into() };
            let answered = Answered { method: "REGISTER", uri: "sip:box", cnonce: "c", count };
            Challenge::parse(challenge).expect("served").answer(&credentials, &answered)
        }
    }

    fn source() -> Source {
        Source { ip: "192.0.2.7".parse().expect("address"), transport: Transport::Udp }
    }
}
