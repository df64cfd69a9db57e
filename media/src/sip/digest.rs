//! Digest authentication of our requests (RFC 7616, RFC 2617, RFC 3261 §22.4).
//!
//! ```text
//!   HA1 = H(username:realm:password)      HA2 = H(method:uri)
//!   response = H(HA1:nonce:nc:cnonce:auth:HA2)      with qop
//!   response = H(HA1:nonce:HA2)                     without (RFC 2069)
//! ```

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use super::message::{Headers, split};

/// What one side knows of itself to answer challenges with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name at the other side.
    pub username: String,
    /// The secret.
    pub password: String,
}

/// Neither name nor secret is printed.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(•••)")
    }
}

/// A hash that challenges may ask for, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// RFC 2617; what every trunk takes.
    Md5,
    /// RFC 8760.
    Sha256,
    /// RFC 8760; SHA-512 cut to 256 bits with its own initial values (FIPS 180-4 §5.3.6.2).
    Sha512Of256,
}

impl Algorithm {
    /// All of them, the weakest first.
    pub const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Of256];

    /// As the parameter `algorithm` names it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512Of256 => "SHA-512-256",
        }
    }

    /// Reads a name; case means nothing.
    pub fn parse(name: &str) -> Option<Self> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The hash in small hex letters.
    pub fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
            Algorithm::Sha512Of256 => hex(&Sha512_256::digest(text)),
        }
    }

    /// HA1: what stands for the password where this algorithm and realm are used.
    pub fn ha1(self, username: &str, realm: &str, password: &str) -> String {
        self.hash(&format!("{username}:{realm}:{password}"))
    }

    /// The response over HA1 and all that protects it with `qop=auth` (RFC 7616 §3.4.1).
    pub fn response(self, ha1: &str, nonce: &str, answered: &Answered<'_>) -> String {
        let Answered { method, uri, cnonce, count } = answered;
        let ha2 = self.hash(&format!("{method}:{uri}"));
        self.hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:auth:{ha2}"))
    }
}

/// One challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whose credentials are asked for; as written between the quotes, escapes kept.
    pub realm: String,
    /// The nonce was too old and the password right: worth another try (RFC 7616 §3.3).
    pub is_stale: bool,
    /// What it hashes with.
    pub algorithm: Algorithm,
    nonce: String,
    opaque: Option<String>,
    /// It names its algorithm, so the answer does.
    names_algorithm: bool,
    /// It offers `qop=auth`.
    has_qop: bool,
}

/// What an answer is computed over, beside the challenge and the credentials.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The Request-URI as it stands in the request.
    pub uri: &'a str,
    /// A fresh random word.
    pub cnonce: &'a str,
    /// How many requests this nonce has answered, this one included; from 1.
    pub count: u32,
}

impl Challenge {
    /// Reads one value of WWW-Authenticate or Proxy-Authenticate; `None` when it is no digest, or one that wants an
    /// algorithm or a protection that is not served here.
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let parts = split(rest, b',');
        let parameter = |wanted: &str| {
            let found = parts.iter().filter_map(|part| part.split_once('='));
            let mut found = found.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| unquoted(value.trim()).to_owned())
        };
        let algorithm = parameter("algorithm");
        let named = Algorithm::parse(algorithm.as_deref().unwrap_or("MD5"))?;
        let qop = parameter("qop");
        let offers_auth = |qop: &str| qop.split(',').any(|word| word.trim().eq_ignore_ascii_case("auth"));
        if qop.as_deref().is_some_and(|qop| !offers_auth(qop)) {
            return None;
        }
        let challenge = Challenge {
            realm: parameter("realm")?,
            is_stale: parameter("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            algorithm: named,
            nonce: parameter("nonce")?,
            opaque: parameter("opaque"),
            names_algorithm: algorithm.is_some(),
            has_qop: qop.is_some(),
        };
        let long = [&challenge.realm, &challenge.nonce, challenge.opaque.as_ref().unwrap_or(&String::new())]
            .iter()
            .any(|value| value.len() > VALUE_BYTES_MAX);
        (!long).then_some(challenge)
    }

    /// The strongest of the challenges that WWW-Authenticate or Proxy-Authenticate (`field`) offers and that can be
    /// answered; of two with one algorithm the upper (RFC 8760 §2.4).
    pub fn strongest(headers: &Headers, field: &str) -> Option<Self> {
        let offered: Vec<_> =
            headers.texts(field).take(CHALLENGES_MAX).filter_map(|value| Challenge::parse(&value)).collect();
        offered.into_iter().rev().max_by_key(|challenge| challenge.algorithm)
    }

    /// Tells whether this and `other` hand out the same nonce, so that one count runs for both.
    pub fn shares_nonce_with(&self, other: &Challenge) -> bool {
        self.nonce == other.nonce
    }

    /// Writes the value of Authorization or Proxy-Authorization.
    pub fn answer(&self, credentials: &Credentials, answered: &Answered<'_>) -> String {
        let Credentials { username, password } = credentials;
        let Answered { method, uri, cnonce, count } = answered;
        let ha1 = self.algorithm.ha1(username, &self.realm, password);
        let response = if self.has_qop {
            self.algorithm.response(&ha1, &self.nonce, answered)
        } else {
            let ha2 = self.algorithm.hash(&format!("{method}:{uri}"));
            self.algorithm.hash(&format!("{ha1}:{}:{ha2}", self.nonce))
        };
        let username = username.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = format!(
            "Digest username=\"{username}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            self.realm, self.nonce
        );
        if self.names_algorithm {
            text.push_str(&format!(", algorithm={}", self.algorithm.name()));
        }
        if self.has_qop {
            text.push_str(&format!(", cnonce=\"{cnonce}\", qop=auth, nc={count:08x}"));
        }
        if let Some(opaque) = &self.opaque {
            text.push_str(&format!(", opaque=\"{opaque}\""));
        }
        text
    }
}

pub(super) fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 8 challenges in one response: an algorithm each, of which RFC 7616 has six.
const CHALLENGES_MAX: usize = 8;

/// 1,024 octets: the longest nonces met have 200; they go back with every answer.
const VALUE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfcs_come_out() {
        // RFC 2617 §3.5.
        let text = "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
            nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let answer = answer(text, "Circle Of Life", "0a4f113b", 1);
        assert!(answer.contains("response=\"6629fae49393a05397450978507c4ef1\""), "{answer}");
        assert!(
            answer
                .contains(", cnonce=\"0a4f113b\", qop=auth, nc=00000001, opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"")
        );
        assert!(!answer.contains("algorithm"), "the challenge names none: {answer}");
        // RFC 7616 §3.9.1.
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let text = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let answer =
                super::tests::answer(&text, "Circle of Life", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", 1);
            assert!(answer.contains(&format!("response=\"{response}\", algorithm={algorithm}")), "{answer}");
        }
    }

    #[test]
    fn sha_512_256_is_the_hash_with_initial_values_of_its_own() {
        // RFC 7616 §3.9.2 computes its example with SHA-512 cut short; erratum 4897 names what its text asks for.
        let credentials = Credentials { username: "J\u{e4}s\u{f8}n Doe".into(), password: "Secret, or not?".into() };
        let cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v";
        let answered = Answered { method: "GET", uri: "/doe.json", cnonce, count: 1 };
        let challenge = "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, \
            nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\"";
        let answer = Challenge::parse(challenge).expect("served").answer(&credentials, &answered);
        let response = "response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"";
        assert!(answer.contains(&format!("{response}, algorithm=SHA-512-256")), "{answer}");
    }

    #[test]
    fn the_strongest_challenge_is_answered_whatever_the_order() {
        let offer = |algorithms: &[&str]| {
            let mut headers = Headers::default();
            for algorithm in algorithms {
                headers.push("WWW-Authenticate", format!("Digest realm=\"x\", nonce=\"n\", algorithm={algorithm}"));
            }
            Challenge::strongest(&headers, "WWW-Authenticate").map(|challenge| challenge.algorithm)
        };
        assert_eq!(offer(&["MD5", "SHA-256", "SHA-512-256"]), Some(Algorithm::Sha512Of256));
        assert_eq!(offer(&["SHA-256", "MD5"]), Some(Algorithm::Sha256));
        assert_eq!(offer(&["AKAv1-MD5", "MD5"]), Some(Algorithm::Md5));
        assert_eq!(offer(&["AKAv1-MD5"]), None);
    }

    #[test]
    fn the_stored_vectors_come_out() {
        let Some(corpora) = std::env::var_os("TALKSTACK_CORPORA") else {
            eprintln!("skipped: no test corpora (TALKSTACK_CORPORA)");
            return;
        };
        let path = std::path::Path::new(&corpora).join("rfc-vectors/digest.json");
        let vectors: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("JSON");
        let vectors = vectors.as_array().expect("a list");
        assert!(!vectors.is_empty());
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().expect("text");
            let challenge = format!(
                "Digest realm=\"{}\", nonce=\"{}\", qop=\"{}\", algorithm={}",
                text("realm"),
                text("nonce"),
                text("qop"),
                text("alg")
            );
            let credentials = Credentials { username: text("username").into(), password: text("password").into() };
            let count = u32::from_str_radix(text("nc"), 16).expect("a number");
            let answered = Answered { method: text("method"), uri: text("uri"), cnonce: text("cnonce"), count };
            let answer = Challenge::parse(&challenge).expect("served").answer(&credentials, &answered);
            assert!(answer.contains(&format!("response=\"{}\"", text("response"))), "{answer}");
        }
    }

    #[test]
    fn a_challenge_without_qop_gets_the_legacy_answer() {
        // RFC 2069 §2.4 as corrected by its erratum 749.
        let text = "digest Realm=\"testrealm@host.com\" , NONCE=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let answer = answer(text, "CircleOfLife", "unused", 1);
        assert!(answer.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{answer}");
        assert!(!answer.contains("qop") && !answer.contains("nc=") && !answer.contains("cnonce"), "{answer}");
    }

    #[test]
    fn what_cannot_be_answered_is_no_challenge() {
        for text in [
            "Basic realm=\"x\"",
            "Digest nonce=\"n\"",
            "Digest realm=\"x\"",
            "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512",
            "Digest realm=\"x\", nonce=\"n\", algorithm=MD5-sess",
            "Digest realm=\"x\", nonce=\"n\", qop=\"auth-int\"",
            "Digest",
            "",
        ] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
        let long = format!("Digest realm=\"x\", nonce=\"{}\"", "n".repeat(VALUE_BYTES_MAX + 1));
        assert_eq!(Challenge::parse(&long), None);
        let stale = Challenge::parse("Digest realm=\"a, \\\"b\", nonce=\"n\", stale=TRUE").expect("served");
        assert!(stale.is_stale);
        assert_eq!(stale.realm, "a, \\\"b");
    }

    #[test]
    fn neither_name_nor_password_is_printed() {
        let credentials = Credentials { username: "trunk-user".into(), password: "s3cret".into() };
        assert_eq!(format!("{credentials:?}"), "Credentials(•••)");
    }

    fn answer(challenge: &str, password: &str, cnonce: &str, count: u32) -> String {
        let credentials = Credentials { username: "Mufasa".into(), password: password.into() };
        let answered = Answered { method: "GET", uri: "/dir/index.html", cnonce, count };
        Challenge::parse(challenge).expect("served").answer(&credentials, &answered)
    }
}
