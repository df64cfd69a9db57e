//! Pieces of JSON messages, written straight into an outgoing buffer and read without copies.

use std::borrow::Cow;

use base64_simd::{Out, STANDARD};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::AgentLoss;

/// Text in a message: borrowed from it unless it has escapes, also behind an `Option`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Reads a message; one whose fields are of other types than documented is an event to ignore.
///
/// # Errors
/// [`AgentLoss::NotJson`].
pub(super) fn read_event<'a, T: Deserialize<'a> + Default>(text: &'a str) -> Result<T, AgentLoss> {
    serde_json::from_str(text).or_else(|_| {
        serde_json::from_str::<IgnoredAny>(text).map_err(|_| AgentLoss::NotJson)?;
        tracing::debug!("The agent sent an event of another shape; it is ignored");
        Ok(T::default())
    })
}

/// A code of a service's, cut to what a log can take.
pub(crate) fn loggable(code: &str) -> String {
    code.chars().filter(char::is_ascii_graphic).take(CODE_CHARS_MAX).collect()
}

/// A provider's own words, cut to what a person reads in one sentence or two.
pub(crate) fn readable(text: &str) -> String {
    let plain = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    plain.take(WORDS_CHARS_MAX).collect::<String>().trim().to_owned()
}

/// 300 characters.
const WORDS_CHARS_MAX: usize = 300;

/// 64: twice the longest documented code.
const CODE_CHARS_MAX: usize = 64;

/// Appends a number in decimal.
pub(super) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends bytes as base64.
pub(super) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + STANDARD.encoded_length(bytes.len()), 0);
    let _ = STANDARD.encode(bytes, Out::from_slice(&mut out[start..]));
}

/// Decodes into a reused buffer; `false` when it is not base64 or empty.
pub(super) fn decode_base64(text: &str, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.resize(STANDARD.estimated_decoded_length(text.len()), 0);
    match STANDARD.decode(text.as_bytes(), Out::from_slice(out)) {
        Ok(decoded) => {
            let bytes = decoded.len();
            out.truncate(bytes);
            bytes > 0
        }
        Err(_) => {
            out.clear();
            false
        }
    }
}
