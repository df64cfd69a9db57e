//! `name-addr` and `addr-spec`: From, To, Contact, Route and Record-Route (RFC 3261 §20.10).

use super::headers::split;
use super::uri::{Params, Uri};
use std::fmt;

/// An address with an optional display name and the header's own parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without quotes and escapes.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Header parameters such as `tag`.
    pub params: Params,
}

impl NameAddr {
    /// Reads one address; `None` when quotes or brackets do not close or the URI is malformed. Without brackets every
    /// parameter belongs to the header (RFC 3261 §20).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (display, after) = display_name(text)?;
        let (uri, params) = match after.strip_prefix('<') {
            Some(inner) => inner.split_once('>')?,
            None if display.is_some() => return None,
            None => after.split_at_checked(after.find(';').unwrap_or(after.len()))?,
        };
        let mut parts = split(params, b';').into_iter();
        if !parts.next()?.trim().is_empty() {
            return None;
        }
        Some(Self { display, uri: Uri::parse(uri.trim())?, params: Params::parse(parts)? })
    }

    /// The dialog tag, when there is one that is not empty.
    pub fn tag(&self) -> Option<&str> {
        self.params.text("tag").filter(|tag| !tag.is_empty())
    }
}

/// Names and numbers are personal: they are printed only where that is meant.
impl fmt::Debug for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameAddr(•••)")
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "\"{}\" ", display.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// Splits off the display name. Unquoted commas are let through: RFC 4475 §3.1.2.15 leaves it open, and phones send
/// them.
fn display_name(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(rest) = text.strip_prefix('"') {
        let (mut name, mut escaped) = (String::new(), false);
        for (at, char) in rest.char_indices() {
            match char {
                _ if escaped => {
                    name.push(char);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => return Some((Some(name), rest.get(at + 1..)?.trim_start())),
                _ => name.push(char),
            }
        }
        return None;
    }
    match text.find('<') {
        Some(at) => {
            let name = text.get(..at)?.trim();
            let valid = !name.contains(['"', '>', ';']);
            valid.then(|| ((!name.is_empty()).then(|| name.to_owned()), text.get(at..).unwrap_or_default()))
        }
        None => Some((None, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_without_brackets_belong_to_the_header() {
        let bare = NameAddr::parse("sip:user@example.com;tag=1").unwrap();
        assert_eq!(bare.tag(), Some("1"));
        assert!(!bare.uri.sip().unwrap().params.has("tag"));
        let bracketed = NameAddr::parse("<sip:user@example.com;unknown>;tag=2").unwrap();
        assert!(bracketed.uri.sip().unwrap().params.has("unknown"));
        assert_eq!(bracketed.tag(), Some("2"));
    }

    #[test]
    fn a_display_name_is_unquoted_and_quoted_again() {
        let address = NameAddr::parse(r#""J \"R\" \\" <sip:a@b> ; tag = x"#).unwrap();
        assert_eq!(address.display.as_deref(), Some(r#"J "R" \"#));
        assert_eq!(address.to_string(), r#""J \"R\" \\" <sip:a@b>;tag=x"#);
        assert_eq!(NameAddr::parse("caller<sip:a@b>").unwrap().display.as_deref(), Some("caller"));
    }

    #[test]
    fn open_quotes_and_stray_separators_are_refused() {
        for text in ["\"Mr. X <sip:a@b>", "<sip:a@b", "\"J\" <sip:a@b>;;;", "\"J\" sip:a@b", "<sip:a@b> x"] {
            assert!(NameAddr::parse(text).is_none(), "{text}");
        }
    }
}
