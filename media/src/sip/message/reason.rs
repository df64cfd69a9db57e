//! Reason: why a request was sent or refused (RFC 3326).

use std::fmt;

use super::headers::{Headers, split};
use super::uri::{Params, digits};

/// One value of Reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Whose cause it is: `SIP` or `Q.850`.
    pub protocol: String,
    /// The cause in that protocol: a status code, or a cause of the telephone network.
    pub cause: Option<u16>,
    /// In words; at most 200 letters.
    pub text: Option<String>,
}

impl Reason {
    /// Reads one value; `None` when it breaks the grammar.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = split(value, b';').into_iter();
        let protocol = parts.next()?.trim();
        if protocol.is_empty() || !protocol.bytes().all(super::method::is_token_byte) {
            return None;
        }
        let params = Params::parse(parts)?;
        let text = params.text("text").map(|text| text.trim_matches('"').replace('\\', ""));
        Some(Reason {
            protocol: protocol.to_owned(),
            cause: params.text("cause").and_then(digits),
            text: text.map(|text| text.chars().filter(|letter| !letter.is_control()).take(TEXT_MAX).collect()),
        })
    }

    /// The value of a message that says most: the telephone network's cause before a status code.
    pub fn of(headers: &Headers) -> Option<Self> {
        let values: Vec<_> =
            headers.elements("Reason").iter().take(VALUES_MAX).filter_map(|value| Self::parse(value)).collect();
        let network = values.iter().find(|reason| reason.protocol.eq_ignore_ascii_case("Q.850"));
        network.or(values.first()).cloned()
    }
}

/// `Q.850 16: Normal call clearing`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, " {cause}")?;
        }
        match self.text.as_deref() {
            Some(text) if !text.is_empty() => write!(f, ": {text}"),
            _ => Ok(()),
        }
    }
}

/// 200 letters: three lines on a screen.
const TEXT_MAX: usize = 200;

/// 4 values: RFC 3326 §2 allows one a protocol, and two are in use.
const VALUES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_s_cause_is_read_before_a_status() {
        let mut headers = Headers::default();
        headers.push("Reason", "SIP ;cause=200 ;text=\"Call completed elsewhere\"");
        assert_eq!(shown(&headers), "SIP 200: Call completed elsewhere");
        headers.push("Reason", "Q.850;cause=16;text=\"Normal; \\\"quiet\\\" clearing\", X.99");
        assert_eq!(shown(&headers), "Q.850 16: Normal; \"quiet\" clearing");
    }

    #[test]
    fn a_value_without_parts_is_read_and_a_broken_one_is_none() {
        assert_eq!(Reason::parse("SIP").map(|reason| reason.to_string()).as_deref(), Some("SIP"));
        assert_eq!(Reason::parse("Q.850;cause=no").and_then(|reason| reason.cause), None);
        for broken in ["", ";cause=1", "SIP;;", "a b;cause=1"] {
            assert_eq!(Reason::parse(broken), None, "{broken}");
        }
        let long = format!("SIP;text=\"{}\"", "x".repeat(5000));
        assert_eq!(Reason::parse(&long).and_then(|reason| reason.text).map(|text| text.len()), Some(200));
    }

    fn shown(headers: &Headers) -> String {
        Reason::of(headers).expect("a value").to_string()
    }
}
