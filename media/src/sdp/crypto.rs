//! `a=crypto` (RFC 4568): a suite, master keys, and what is to be done with them.

use std::fmt;

use base64_simd::{STANDARD, STANDARD_NO_PAD};

use crate::rtp::srtp::{KeyParameter, LIFETIME_MAX, MASTERS_MAX, MKI_BYTES_MAX, MasterKey, Mki, Suite};

/// One `a=crypto` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Its number within the section; the answer repeats it.
    pub tag: u32,
    /// The suite.
    pub suite: Suite,
    /// The sender's master keys, 1 to [`MASTERS_MAX`].
    pub keys: Vec<KeyParameter>,
}

/// A line that cannot be used. The peer's doing; another line of its may do, and without one the answer is 488.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum CryptoError {
    /// Not `tag suite inline:key`.
    #[error("its parts are not a number, a suite and inline keys")]
    Syntax,
    /// None of ours.
    #[error("its suite is none of the six that this box has")]
    UnknownSuite,
    /// The key is not in base64.
    #[error("its key is not in base64")]
    NotBase64,
    /// RFC 4568 §6.1 fixes the length.
    #[error("its key and salt have {found} bytes, and {} has {}", suite.name(), suite.master_bytes())]
    KeyLength {
        /// The suite.
        suite: Suite,
        /// What came.
        found: usize,
    },
    /// Not a number, 0, or more than the suite allows.
    #[error("its lifetime is not between 1 and 2^48")]
    Lifetime,
    /// The identifier or its length cannot be read, differs between keys, or is missing with several keys.
    #[error("its master key identifiers cannot be used")]
    Mki,
    /// There is no line at all, where the profile says that there are keys.
    #[error("there is no a=crypto line")]
    Missing,
    /// DTLS is offered, and no hash of its certificate is told that this box knows.
    #[error("there is no a=fingerprint of sha-256, sha-384, sha-512 or sha-1")]
    NoFingerprint,
    /// A session parameter that changes what is protected (RFC 4568 §6.3), or is unknown.
    #[error("it asks for a session parameter that this box does not grant")]
    Parameter,
}

impl Crypto {
    /// Reads what follows `a=crypto:`.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub fn parse(value: &str) -> Result<Self, CryptoError> {
        let mut parts = value.split_ascii_whitespace();
        let (tag, suite, keys) = match (parts.next(), parts.next(), parts.next()) {
            (Some(tag), Some(suite), Some(keys)) => (tag, suite, keys),
            _ => return Err(CryptoError::Syntax),
        };
        let tag = number(tag, TAG_DIGITS).ok_or(CryptoError::Syntax)? as u32;
        let suite = Suite::of_name(suite).ok_or(CryptoError::UnknownSuite)?;
        let keys: Vec<_> =
            keys.split(';').take(MASTERS_MAX + 1).map(|key| key_parameter(suite, key)).collect::<Result<_, _>>()?;
        let first = keys[0].mki.map(|mki| mki.length);
        let is_uniform = keys.iter().all(|key| key.mki.map(|mki| mki.length) == first);
        if keys.len() > MASTERS_MAX || !is_uniform || keys.len() > 1 && first.is_none() {
            return Err(CryptoError::Mki);
        }
        if !parts.all(is_granted) {
            return Err(CryptoError::Parameter);
        }
        Ok(Crypto { tag, suite, keys })
    }
}

/// What follows `a=crypto:`. It has the keys in it: it goes into a description and nowhere else.
impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.tag, self.suite.name())?;
        for (at, key) in self.keys.iter().enumerate() {
            let separator = if at > 0 { ";" } else { "" };
            write!(f, "{separator}inline:{}", STANDARD.encode_to_string(key.master.bytes()))?;
            if key.lifetime < LIFETIME_MAX {
                write!(f, "|{}", key.lifetime)?;
            }
            if let Some(Mki { value, length }) = key.mki {
                write!(f, "|{value}:{length}")?;
            }
        }
        Ok(())
    }
}

/// `inline:<key and salt>[|lifetime][|mki:length]`.
fn key_parameter(suite: Suite, text: &str) -> Result<KeyParameter, CryptoError> {
    let (method, info) = text.split_once(':').ok_or(CryptoError::Syntax)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(CryptoError::Syntax);
    }
    let mut parts = info.split('|');
    // Padding may be left out (RFC 4568 §6.1).
    let encoded = parts.next().unwrap_or_default().trim_end_matches('=');
    if encoded.len() > BASE64_CHARS_MAX {
        return Err(CryptoError::NotBase64);
    }
    let bytes = STANDARD_NO_PAD.decode_to_vec(encoded).map_err(|_| CryptoError::NotBase64)?;
    let master = MasterKey::new(suite, &bytes).ok_or(CryptoError::KeyLength { suite, found: bytes.len() })?;
    let (mut lifetime, mut mki) = (None, None);
    for part in parts {
        match part.split_once(':') {
            // The lifetime never has a colon, the identifier always has one.
            None if lifetime.is_none() && mki.is_none() => lifetime = Some(read_lifetime(part)?),
            Some(parts) if mki.is_none() => mki = Some(read_mki(parts)?),
            _ => return Err(CryptoError::Syntax),
        }
    }
    Ok(KeyParameter { master, lifetime: lifetime.unwrap_or(LIFETIME_MAX), mki })
}

fn read_lifetime(text: &str) -> Result<u64, CryptoError> {
    let packets = match text.strip_prefix("2^") {
        Some(exponent) => number(exponent, 2).and_then(|exponent| 1u64.checked_shl(u32::try_from(exponent).ok()?)),
        None => number(text, LIFETIME_DIGITS),
    };
    packets.filter(|packets| (1..=LIFETIME_MAX).contains(packets)).ok_or(CryptoError::Lifetime)
}

fn read_mki((value, length): (&str, &str)) -> Result<Mki, CryptoError> {
    let value = number(value, MKI_DIGITS).ok_or(CryptoError::Mki)?;
    let length = number(length, 3).filter(|length| (1..=MKI_BYTES_MAX as u64).contains(length));
    let length = length.ok_or(CryptoError::Mki)? as u8;
    let fits = length >= 8 || value >> (8 * u32::from(length)) == 0;
    if fits { Ok(Mki { value, length }) } else { Err(CryptoError::Mki) }
}

/// Parameters that change nothing for us: a hint, the order of a correction that nobody uses, and what may be ignored.
fn is_granted(parameter: &str) -> bool {
    parameter.starts_with('-')
        || parameter.starts_with("WSH=")
        || parameter.starts_with("FEC_ORDER=")
        || parameter == "KDR=0"
}

/// Digits alone, at most so many.
fn number(text: &str, digits_max: usize) -> Option<u64> {
    let is_number = (1..=digits_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The line of an attribute.
pub(super) fn line(crypto: &Crypto) -> String {
    format!("a=crypto:{crypto}\r\n")
}

/// RFC 4568 §9.1.
const TAG_DIGITS: usize = 9;

/// 2^48 has 15.
const LIFETIME_DIGITS: usize = 15;

/// 64 bits have 20; identifiers of more do not occur.
const MKI_DIGITS: usize = 20;

/// 46 bytes have 62.
const BASE64_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_rfc_is_read_and_written_again() {
        let line = "1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|1048576|1:4";
        let crypto = Crypto::parse(&line.replace("1048576", "2^20")).expect("readable");
        assert_eq!((crypto.tag, crypto.suite, crypto.keys.len()), (1, Suite::AesCm128HmacSha1_80, 1));
        let key = &crypto.keys[0];
        assert_eq!(key.master.bytes(), b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#".as_slice());
        assert_eq!((key.lifetime, key.mki), (1 << 20, Some(Mki { value: 1, length: 4 })));
        assert_eq!(crypto.to_string(), line);
    }

    #[test]
    fn keys_of_every_suite_come_back_with_and_without_padding() {
        for suite in Suite::ALL {
            let master = MasterKey::new(suite, &vec![0xa5; suite.master_bytes()]).expect("as long as it is to be");
            let crypto =
                Crypto { tag: 7, suite, keys: vec![KeyParameter { master, lifetime: LIFETIME_MAX, mki: None }] };
            let written = crypto.to_string();
            assert_eq!(Crypto::parse(&written).as_ref(), Ok(&crypto), "{written}");
            assert_eq!(Crypto::parse(&written.replace('=', "")), Ok(crypto), "{written}");
        }
    }

    #[test]
    fn several_keys_are_told_apart_by_their_identifiers() {
        let crypto =
            Crypto::parse(&format!("2 AES_CM_128_HMAC_SHA1_32 {KEY}|2^20|1:4;{KEY}|2:4 WSH=128 -x FEC_ORDER=FEC_SRTP"));
        let keys = crypto.expect("readable").keys;
        assert_eq!(keys.iter().map(|key| key.mki.map(|mki| mki.value)).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let with = |rest: &str| format!("1 AES_CM_128_HMAC_SHA1_80 {KEY}{rest}");
        let length = |found| CryptoError::KeyLength { suite: Suite::AesCm128HmacSha1_80, found };
        for (line, error) in [
            (String::new(), CryptoError::Syntax),
            ("1 AES_CM_128_HMAC_SHA1_80".into(), CryptoError::Syntax),
            (format!("x AES_CM_128_HMAC_SHA1_80 {KEY}"), CryptoError::Syntax),
            (format!("1234567890 AES_CM_128_HMAC_SHA1_80 {KEY}"), CryptoError::Syntax),
            (format!("1 F8_128_HMAC_SHA1_80 {KEY}"), CryptoError::UnknownSuite),
            (format!("1 AEAD_AES_256_GCM {KEY}"), CryptoError::KeyLength { suite: Suite::AeadAes256Gcm, found: 30 }),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:QUJD".into(), length(3)),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:".into(), length(0)),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:?".into(), CryptoError::NotBase64),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", "A".repeat(4000)), CryptoError::NotBase64),
            ("1 AES_CM_128_HMAC_SHA1_80 uri:x".into(), CryptoError::Syntax),
            (with("|0"), CryptoError::Lifetime),
            (with("|2^49"), CryptoError::Lifetime),
            (with("|2^99"), CryptoError::Lifetime),
            (with("|-3"), CryptoError::Lifetime),
            (with("|1:129"), CryptoError::Mki),
            (with("|1:0"), CryptoError::Mki),
            (with("|256:1"), CryptoError::Mki),
            (with("|99999999999999999999:8"), CryptoError::Mki),
            (with("|1:4|2^20"), CryptoError::Syntax),
            (with(&format!(";{KEY}")), CryptoError::Mki),
            (with(&format!("|1:4;{KEY}|2:2")), CryptoError::Mki),
            (with(&format!("|1:4{}", format!(";{KEY}|1:4").repeat(4))), CryptoError::Mki),
            (with(" UNENCRYPTED_SRTP"), CryptoError::Parameter),
            (with(" KDR=3"), CryptoError::Parameter),
            (with(" UNKNOWN=1"), CryptoError::Parameter),
        ] {
            assert_eq!(Crypto::parse(&line), Err(error), "{line}");
        }
        assert_eq!(length(3).to_string(), "its key and salt have 3 bytes, and AES_CM_128_HMAC_SHA1_80 has 30");
    }

    #[test]
    fn mutated_lines_never_panic() {
        let line = format!("2 AES_CM_128_HMAC_SHA1_32 {KEY}|2^20|1:4;{KEY}|2:4 WSH=128");
        let mut random = 0x9e37_79b9u32;
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let mut bytes = line.clone().into_bytes();
            let at = random as usize % bytes.len();
            bytes[at] = b"|:;^ =29Az"[(random >> 8) as usize % 10];
            bytes.truncate((random >> 16) as usize % (2 * bytes.len()));
            let _ = Crypto::parse(&String::from_utf8_lossy(&bytes));
        }
    }

    const KEY: &str = "inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
}
