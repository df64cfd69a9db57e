//! Keys in the body of an INFO, in the two forms that gateways send.
//!
//! Neither was ever standardised. `application/dtmf-relay` (Cisco's) has lines, `Signal=5` and `Duration=160`;
//! `application/dtmf` has the key alone. Each is also seen with the other's body, and with an event's number
//! (RFC 4733 §3.2) in place of a key.

use std::time::Duration;

/// A key that was pressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InfoDigit {
    /// `0`–`9`, `*`, `#`, `A`–`D`.
    pub key: char,
    /// For how long, 10 ms to 10 s; 160 ms where the body does not say.
    pub held: Duration,
}

impl std::fmt::Debug for InfoDigit {
    // A key may be part of a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InfoDigit")
    }
}

impl InfoDigit {
    /// Reads the body of an INFO of this media type, in small letters; `None` when it tells of no key.
    pub fn parse(content_type: &str, body: &[u8]) -> Option<Self> {
        if content_type != DTMF_RELAY && content_type != DTMF {
            return None;
        }
        let text = std::str::from_utf8(body.get(..BODY_BYTES_MAX.min(body.len()))?).ok()?;
        let (mut key, mut held) = (None, HELD);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once(['=', ':']) {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("signal") => key = key_of(value.trim()),
                Some((name, value)) if name.trim().eq_ignore_ascii_case("duration") => {
                    let ms = value.trim().parse().ok().filter(|ms| HELD_MS.contains(ms));
                    held = ms.map_or(HELD, Duration::from_millis);
                }
                Some(_) => {}
                None => key = key.or_else(|| key_of(line)),
            }
        }
        Some(InfoDigit { key: key?, held })
    }

    /// The body of an INFO with [`DTMF_RELAY`].
    pub fn to_dtmf_relay(self) -> Vec<u8> {
        format!("Signal={}\r\nDuration={}\r\n", self.key, self.held.as_millis()).into_bytes()
    }
}

/// A key as itself, or as the number of its event: 10 and 11 are `*` and `#`, 12 to 15 the letters.
fn key_of(text: &str) -> Option<char> {
    let mut letters = text.chars();
    if let (Some(letter), None) = (letters.next(), letters.next()) {
        let letter = letter.to_ascii_uppercase();
        return KEYS.contains(letter).then_some(letter);
    }
    KEYS.chars().nth(text.parse().ok()?)
}

/// Cisco's form: lines of names and values.
pub const DTMF_RELAY: &str = "application/dtmf-relay";

/// The key alone.
pub const DTMF: &str = "application/dtmf";

/// What an INFO may bring: keys, and a picture that is asked for anew (RFC 5168).
pub const TYPES: [&str; 3] = [DTMF_RELAY, DTMF, "application/media_control+xml"];

/// In the order of their events (RFC 4733 §3.2).
const KEYS: &str = "0123456789*#ABCD";

/// 160 ms, as telephone events.
const HELD: Duration = Duration::from_millis(160);

/// 10 ms to 10 s; anything else is no time that a key is held.
const HELD_MS: std::ops::RangeInclusive<u64> = 10..=10_000;

/// 256 bytes: six lines are 100.
const BODY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_as_gateways_write_them() {
        for (content_type, body, expected) in [
            (DTMF_RELAY, "Signal=5\r\nDuration=160\r\n", Some(('5', 160))),
            (DTMF_RELAY, "Signal= 1\r\nDuration= 250", Some(('1', 250))),
            (DTMF_RELAY, "signal=#\nduration=100\n", Some(('#', 100))),
            (DTMF_RELAY, "Signal=*\r\n", Some(('*', 160))),
            (DTMF_RELAY, "Signal=10\r\nDuration=160", Some(('*', 160))),
            (DTMF_RELAY, "Signal=11", Some(('#', 160))),
            (DTMF_RELAY, "Signal=d\r\nDuration=99999999", Some(('D', 160))),
            (DTMF_RELAY, "7", Some(('7', 160))),
            (DTMF, "5", Some(('5', 160))),
            (DTMF, " 12 \r\n", Some(('A', 160))),
            (DTMF, "Signal=9", Some(('9', 160))),
            (DTMF_RELAY, "Signal=16", None),
            (DTMF_RELAY, "Signal=!", None),
            (DTMF_RELAY, "Duration=160", None),
            (DTMF, "", None),
            (DTMF, "hello", None),
            (DTMF, "-1", None),
            ("text/plain", "5", None),
        ] {
            let read = InfoDigit::parse(content_type, body.as_bytes());
            let read = read.map(|digit| (digit.key, digit.held.as_millis()));
            assert_eq!(read, expected, "{content_type} {body:?}");
        }
        assert_eq!(InfoDigit::parse(DTMF, &[0xff, 0xfe]), None);
        assert_eq!(InfoDigit::parse(DTMF, &[b'x'; 10_000]), None);
    }

    #[test]
    fn what_is_written_is_read_and_no_key_is_printed() {
        for key in KEYS.chars() {
            let digit = InfoDigit { key, held: Duration::from_millis(240) };
            assert_eq!(InfoDigit::parse(DTMF_RELAY, &digit.to_dtmf_relay()), Some(digit));
        }
        let digit = InfoDigit { key: '5', held: HELD };
        assert!(!format!("{digit:?}").contains('5'));
    }
}
