//! Where a call has been before it came here: Diversion (RFC 5806) and History-Info (RFC 7044).

use std::fmt;

use super::headers::Headers;
use super::identity::{Privacy, Withholds};
use super::name_addr::NameAddr;
use super::reason::Reason;
use super::uri::digits;

/// One value of Diversion: somebody's phone has sent the call on.
#[derive(Clone, PartialEq)]
pub struct Diversion {
    /// Whose.
    pub address: NameAddr,
    /// Why: `unconditional`, `user-busy`, `no-answer`, or another word, in small letters; at most 32.
    pub reason: Option<String>,
    /// How often.
    pub counter: Option<u16>,
    /// What of it others may not be told.
    pub withholds: Withholds,
}

/// One value of History-Info: somebody was asked for.
#[derive(Clone, PartialEq)]
pub struct HistoryEntry {
    /// Who.
    pub target: NameAddr,
    /// Its place: `1.2` came of `1`.
    pub index: Vec<u16>,
    /// Why the call went from there to the next: what the request for it was answered.
    pub reason: Option<Reason>,
    /// Why the call came here, as one of the codes of RFC 4458 §2: 302 unconditionally, 486 busy, 408 no answer.
    pub cause: Option<u16>,
    /// Others may not be told (RFC 7044 §10.1.1).
    pub is_private: bool,
}

impl Diversion {
    /// Reads all values, the last diversion first.
    pub(super) fn all(headers: &Headers) -> Vec<Self> {
        headers.elements("Diversion").iter().filter_map(|text| Diversion::parse(text)).take(DIVERSIONS_MAX).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let address = NameAddr::parse(text)?;
        let reason = address.params.text("reason").map(|reason| {
            let word = reason.trim_matches('"').chars().filter(|letter| letter.is_ascii_graphic());
            word.take(REASON_MAX).collect::<String>().to_ascii_lowercase()
        });
        let counter = address.params.text("counter").and_then(digits);
        Some(Diversion { reason, counter, withholds: Withholds::of(&address), address })
    }
}

impl HistoryEntry {
    /// Reads all values in the order of the wire.
    pub(super) fn all(headers: &Headers) -> Vec<Self> {
        headers.elements("History-Info").iter().filter_map(|text| HistoryEntry::parse(text)).take(HISTORY_MAX).collect()
    }

    /// The one who sent the call on last, unless it is private: it says why itself, or the one behind it does.
    pub(super) fn diverting(history: &[HistoryEntry]) -> Option<&HistoryEntry> {
        let found = history.iter().rev().find_map(|entry| {
            if entry.reason.is_some() {
                return Some(entry);
            }
            entry.cause?;
            let parent = entry.index.split_last().map(|(_, parent)| parent)?;
            history.iter().find(|other| other.index == parent)
        });
        found.filter(|entry| !entry.is_private)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut target = NameAddr::parse(text)?;
        let index = target.params.text("index")?.split('.').map(digits).take(INDEX_MAX).collect::<Option<_>>()?;
        let (mut reason, mut is_private, mut cause) = (None, false, None);
        if let super::Uri::Sip(uri) = &mut target.uri {
            cause = uri.params.text("cause").and_then(digits);
            for field in uri.headers.take().unwrap_or_default().split('&') {
                let (name, value) = field.split_once('=').unwrap_or((field, ""));
                let value = unescape(value);
                if name.eq_ignore_ascii_case("Reason") {
                    reason = Reason::parse(&value);
                } else if name.eq_ignore_ascii_case("Privacy") {
                    is_private = value.split(';').filter_map(|value| Privacy::parse(value.trim())).any(is_hiding);
                }
            }
        }
        Some(HistoryEntry { target, index, reason, cause, is_private })
    }
}

fn is_hiding(privacy: Privacy) -> bool {
    matches!(privacy, Privacy::History | Privacy::Header | Privacy::Session)
}

/// Reads the escapes of a URI (RFC 3261 §19.1.2).
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let escaped = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Numbers are personal.
impl fmt::Debug for Diversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diversion").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// As for [`Diversion`].
impl fmt::Debug for HistoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryEntry").field("index", &self.index).field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Eight: a call that was sent on more often goes in a circle.
const DIVERSIONS_MAX: usize = 8;

/// 16: each diversion leaves two entries.
const HISTORY_MAX: usize = 16;

/// Eight numbers of an index; RFC 7044's deepest example has three.
const INDEX_MAX: usize = 8;

/// 32 letters; the longest that RFC 5806 knows, `do-not-disturb`, has 14.
const REASON_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diversion_has_its_reason_its_count_and_its_privacy() {
        let mut headers = Headers::default();
        headers.push("Diversion", "\"Bob\" <sip:+15550002@c>;reason=User-Busy;counter=2;privacy=off;screen=yes");
        headers.push("Diversion", "<tel:+15550001>;reason=\"time of day\";privacy=full, <sip:broken");
        let found = Diversion::all(&headers);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].reason.as_deref(), found[0].counter), (Some("user-busy"), Some(2)));
        assert_eq!((found[0].withholds, found[1].withholds), (Withholds::Nothing, Withholds::Number));
        assert_eq!(found[1].reason.as_deref(), Some("timeofday"));
    }

    #[test]
    fn a_history_says_who_was_asked_and_why_the_call_went_on() {
        let found = history(
            "<sip:bob@example.com?Reason=SIP%3Bcause%3D486%3Btext%3D%22Busy%22>;index=1, \
             <sip:bob@192.0.2.3?Privacy=none%3Bhistory>;index=1.1;rc=1, <sip:carol@example.com;cause=486>;index=1.2;mp=1, \
             <sip:nobody@x>, <sip:nobody@x>;index=1.x",
        );
        assert_eq!(found.len(), 3, "an entry without an index has no place");
        assert_eq!(found[0].reason.as_ref().and_then(|reason| reason.cause), Some(486));
        assert_eq!(found[0].target.uri.to_string(), "sip:bob@example.com", "without the fields in it");
        assert_eq!((&found[1].index[..], found[1].is_private), (&[1, 1][..], true));
        assert_eq!((found[2].cause, found[2].is_private), (Some(486), false));
    }

    #[test]
    fn who_sent_the_call_on_is_found_by_its_own_reason_or_by_that_of_the_next() {
        for (text, expected) in [
            ("<sip:a@x?Reason=SIP%3Bcause%3D302>;index=1, <sip:b@x>;index=1.1", Some("a")),
            ("<sip:a@x>;index=1, <sip:b@x;cause=408>;index=1.1", Some("a")),
            ("<sip:a@x>;index=1, <sip:b@x;cause=302>;index=1.1, <sip:c@x;cause=486>;index=1.1.1", Some("b")),
            ("<sip:a@x?Privacy=history>;index=1, <sip:b@x;cause=302>;index=1.1", None),
            ("<sip:a@x>;index=1, <sip:b@x>;index=1.1", None),
            ("<sip:b@x;cause=302>;index=2.1", None),
        ] {
            let found = history(text);
            let diverting = HistoryEntry::diverting(&found).and_then(|entry| entry.target.uri.user());
            assert_eq!(diverting, expected, "{text}");
        }
    }

    fn history(text: &str) -> Vec<HistoryEntry> {
        let mut headers = Headers::default();
        headers.push("History-Info", text);
        HistoryEntry::all(&headers)
    }
}
