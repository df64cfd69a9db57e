//! Access tokens: HS256 with a key of the box's own, for two hours (RFC 7519, RFC 8725, RFC 9068).

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use crate::secret::{Secret, hex, random};

/// Signs and checks access tokens.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    /// The account.
    pub sub: String,
    /// The session: ending it ends the token.
    pub sid: String,
    iat: i64,
    nbf: i64,
    /// Seconds since the epoch.
    pub exp: i64,
    jti: String,
}

/// The token is not one of ours, or no longer. Answer 401.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("the token is not valid")]
pub struct InvalidToken;

impl Tokens {
    /// Takes the key from the box's secret.
    pub fn new(secret: &Secret) -> Self {
        let key = secret.key("access-token");
        Tokens { encoding: EncodingKey::from_secret(&key), decoding: DecodingKey::from_secret(&key) }
    }

    /// Signs a token for a session; returns it and its end in milliseconds.
    ///
    /// # Errors
    /// [`InvalidToken`] should signing fail.
    pub fn sign(&self, user_id: &str, session_id: &str, now_ms: i64) -> Result<(String, i64), InvalidToken> {
        let now = now_ms / 1000;
        let claims = Claims {
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            sub: user_id.into(),
            sid: session_id.into(),
            iat: now,
            nbf: now,
            exp: now + LIFETIME_S,
            jti: hex(&random::<16>()),
        };
        let token = encode(&header(), &claims, &self.encoding).map_err(|_| InvalidToken)?;
        Ok((token, now_ms + LIFETIME_S * 1000))
    }

    /// Checks a token: one algorithm, one type, one issuer, and the time.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn check(&self, token: &str, now_ms: i64) -> Result<Claims, InvalidToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken);
        }
        // Ours has an algorithm and a type and nothing else: no key it names, no `crit` that would have to be understood.
        if decode_header(token).map_err(|_| InvalidToken)? != header() {
            return Err(InvalidToken);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        // The time is ours to judge: it is an argument.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = decode::<Claims>(token, &self.decoding, &validation).map_err(|_| InvalidToken)?.claims;
        let now = now_ms / 1000;
        if claims.exp <= now || claims.nbf > now + LEEWAY_S { Err(InvalidToken) } else { Ok(claims) }
    }
}

/// The only header we write or read.
fn header() -> Header {
    Header { typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) }
}

/// Who issues the tokens, and for whom.
const ISSUER: &str = "talkstack-edge";

/// RFC 9068 §2.1.
const TYPE: &str = "at+jwt";

/// Two hours, as Talkstack documents.
const LIFETIME_S: i64 = 7200;

/// 30 s: a clock that was set back a little.
const LEEWAY_S: i64 = 30;

/// 4 KiB: ours have 400 bytes.
const TOKEN_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_for_two_hours() {
        let tokens = tokens(1);
        let (token, end_ms) = tokens.sign("user", "session", 1_000_000).expect("signs");
        assert_eq!(end_ms, 1_000_000 + 7_200_000);
        assert_eq!(tokens.check(&token, 1_000_000).expect("valid").sub, "user");
        assert!(tokens.check(&token, end_ms - 1000).is_ok());
        assert_eq!(tokens.check(&token, end_ms), Err(InvalidToken));
        assert_eq!(tokens.check(&token, 1_000_000 - 60_000), Err(InvalidToken), "before its time");
    }

    #[test]
    fn forged_tokens_are_refused() {
        let ours = tokens(1);
        let (token, _) = ours.sign("user", "session", 1_000_000).expect("signs");
        let (other, _) = tokens(2).sign("user", "session", 1_000_000).expect("signs");
        let parts: Vec<&str> = token.split('.').collect();
        let header = |json: &str| base64(json.as_bytes());
        let with = |json: &str| format!("{}.{}.{}", header(json), parts[1], parts[2]);
        let mut forged = vec![
            other,
            String::new(),
            "a.b.c".into(),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{token}."),
            format!("{token}x"),
            format!("{}.{}.{}", parts[0], base64(b"{\"sub\":\"owner\"}"), parts[2]),
        ];
        for alg in ["none", "None", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA"] {
            forged.push(with(&format!("{{\"typ\":\"at+jwt\",\"alg\":\"{alg}\"}}")));
        }
        for alg in [Algorithm::HS384, Algorithm::HS512] {
            let claims = ours.check(&token, 1_000_000).expect("valid");
            let header = Header { typ: Some(TYPE.into()), ..Header::new(alg) };
            forged.push(encode(&header, &claims, &ours.encoding).expect("signs"));
        }
        for (typ, aud) in [("JWT", ISSUER), ("at+jwt", "another")] {
            let claims = Claims { aud: aud.into(), ..ours.check(&token, 1_000_000).expect("valid") };
            let header = Header { typ: Some(typ.into()), ..Header::new(Algorithm::HS256) };
            forged.push(encode(&header, &claims, &ours.encoding).expect("signs"));
        }
        let claims = ours.check(&token, 1_000_000).expect("valid");
        let plain = || Header { typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) };
        for header in [
            Header { kid: Some("../../etc/passwd".into()), ..plain() },
            Header { jku: Some("http://127.0.0.1/".into()), ..plain() },
            Header { x5u: Some("http://127.0.0.1/".into()), ..plain() },
            Header { cty: Some("JWT".into()), ..plain() },
        ] {
            forged.push(encode(&header, &claims, &ours.encoding).expect("signs"));
        }
        for token in forged {
            assert_eq!(ours.check(&token, 1_000_000), Err(InvalidToken), "{token}");
        }
    }

    fn tokens(seed: u8) -> Tokens {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        std::fs::write(&path, [seed; 32]).expect("written");
        Tokens::new(&Secret::open(&path).expect("opens"))
    }

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            text.extend((0..=chunk.len()).map(|at| char::from(ALPHABET[(word >> (18 - 6 * at)) as usize & 63])));
        }
        text
    }
}
