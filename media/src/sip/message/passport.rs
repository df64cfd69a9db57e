//! Identity (RFC 8224): a signed statement of who calls whom (RFC 8225). Its claims are read; nothing here verifies them.

use std::fmt;

use serde::Deserialize;

use super::headers::{Headers, split};
use super::identity::Attestation;
use super::uri::Params;

/// One value of Identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Passport {
    /// Where the certificate lies.
    pub certificate_url: Option<String>,
    /// The signature's algorithm; `None` is ES256.
    pub algorithm: Option<String>,
    /// What the statement is about: `shaken` (RFC 8588), `div` (RFC 8946); `None` is a plain one.
    pub extension: Option<String>,
    /// What it claims, **not verified**; `None` in the compact form, and where it cannot be read.
    pub claims: Option<Claims>,
}

/// What a statement claims. Whoever sent the INVITE can have written it.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// How well the provider knows the caller.
    pub attestation: Option<Attestation>,
    /// The calling number, digits.
    pub origin: Option<String>,
    /// When it was signed, in seconds since the Unix epoch.
    pub issued_at_s: Option<u64>,
    /// Where the call entered.
    pub origination_id: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    attest: Option<String>,
    orig: Option<Party>,
    iat: Option<u64>,
    origid: Option<String>,
}

#[derive(Deserialize)]
struct Party {
    tn: Option<String>,
}

impl Passport {
    /// Reads all values.
    pub(super) fn all(headers: &Headers) -> Vec<Self> {
        let values = headers.elements("Identity");
        values.iter().filter_map(|text| Passport::parse(text)).take(PASSPORTS_MAX).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, b';').into_iter();
        // RFC 4474 put the signature alone between quotes; that is no statement.
        let mut token = parts.next()?.trim().split('.');
        let (_header, payload, _signature) = (token.next()?, token.next()?, token.next()?);
        if token.next().is_some() {
            return None;
        }
        let params = Params::parse(parts)?;
        let word = |name: &str| {
            let value = params.text(name)?.trim_matches(['"', '<', '>']);
            Some(value.chars().filter(char::is_ascii_graphic).take(WORD_MAX).collect())
        };
        Some(Passport {
            certificate_url: word("info"),
            algorithm: word("alg"),
            extension: word("ppt"),
            claims: Claims::read(payload),
        })
    }
}

impl Claims {
    fn read(payload: &str) -> Option<Self> {
        let Payload { attest, orig, iat, origid } = serde_json::from_slice(&base64url(payload)?).ok()?;
        let cut = |text: String| text.chars().filter(char::is_ascii_graphic).take(WORD_MAX).collect();
        Some(Claims {
            attestation: attest.as_deref().and_then(Attestation::parse),
            origin: orig.and_then(|orig| orig.tn).map(cut),
            issued_at_s: iat,
            origination_id: origid.map(cut),
        })
    }
}

/// Decodes base64url without padding (RFC 7515 §2); `None` where anything else stands in it, or nothing at all.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.is_empty() || text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = (bits & 0xff) << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// Numbers are personal.
impl fmt::Debug for Passport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passport").field("extension", &self.extension).finish_non_exhaustive()
    }
}

/// As for [`Passport`].
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("attestation", &self.attestation).finish_non_exhaustive()
    }
}

/// Four: RFC 8946 adds one for each diversion, and carriers keep few.
const PASSPORTS_MAX: usize = 4;

/// 256 letters: URLs of certificates have about 100.
const WORD_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_claims_is_read_and_its_parameters_with_it() {
        // {"attest":"B","dest":{"tn":["12155551213"]},"iat":1443208345,"orig":{"tn":"12155551212"},"origid":"123e4567"}
        let payload = "eyJhdHRlc3QiOiJCIiwiZGVzdCI6eyJ0biI6WyIxMjE1NTU1MTIxMyJdfSwiaWF0IjoxNDQzMjA4MzQ1LCJvcmlnIjp7InRuIjoiMTIxNTU1NTEyMTIifSwib3JpZ2lkIjoiMTIzZTQ1NjcifQ";
        let passport = one(&format!("e30.{payload}.c2ln;info=<https://cert.example/a.cer>;alg=ES256;ppt=\"shaken\""));
        let passport = passport.expect("a statement");
        assert_eq!(passport.certificate_url.as_deref(), Some("https://cert.example/a.cer"));
        assert_eq!((passport.algorithm.as_deref(), passport.extension.as_deref()), (Some("ES256"), Some("shaken")));
        let claims = passport.claims.expect("claims");
        assert_eq!(claims.attestation, Some(Attestation::B));
        assert_eq!((claims.origin.as_deref(), claims.issued_at_s), (Some("12155551212"), Some(1_443_208_345)));
        assert_eq!(claims.origination_id.as_deref(), Some("123e4567"));
    }

    #[test]
    fn the_compact_form_and_what_cannot_be_read_claim_nothing() {
        for text in ["..c2ln;info=<https://c/c>;ppt=shaken", "e30.!!!.c2ln;info=<x>", "e30.e30x.c2ln", "e30.W10.c2ln"] {
            assert_eq!(one(text).map(|passport| passport.claims.is_some()), Some(false), "{text}");
        }
        assert_eq!(
            one("e30.e30.c2ln").and_then(|passport| passport.claims).and_then(|claims| claims.attestation),
            None
        );
        for text in ["", "\"c2ln\"", "a.b", "a.b.c.d", "a.b.c;=x"] {
            assert!(one(text).is_none(), "{text}");
        }
    }

    #[test]
    fn base64url_is_decoded_to_the_last_bit() {
        for (text, expected) in
            [("TQ", &b"M"[..]), ("TWE", b"Ma"), ("TWFu", b"Man"), ("_-8", &[0xff, 0xef]), ("TQ==", b"M")]
        {
            assert_eq!(base64url(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "A", "ABCDE", "AB*D"] {
            assert_eq!(base64url(text), None, "{text}");
        }
    }

    #[test]
    fn the_compact_name_is_read() {
        let mut headers = Headers::default();
        headers.push("y", "..c2ln;info=<https://c/c>");
        assert_eq!(Passport::all(&headers).len(), 1);
    }

    fn one(text: &str) -> Option<Passport> {
        let mut headers = Headers::default();
        headers.push("Identity", text);
        Passport::all(&headers).into_iter().next()
    }
}
