//! The list of header fields, in the order of the wire.

use std::borrow::Cow;

/// A header field's name; compact forms (RFC 3261 §7.3.3) are read as their long form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(Cow<'static, str>);

impl HeaderName {
    /// Reads a name, taking the canonical spelling where one is known.
    pub fn parse(name: &str) -> Self {
        if let [compact] = name.as_bytes()
            && let Some((_, long)) = COMPACT.iter().find(|(short, _)| *short == compact.to_ascii_lowercase())
        {
            return Self(Cow::Borrowed(long));
        }
        match KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(name.to_owned())),
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One header field: a name and its unfolded value.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, long form.
    pub name: HeaderName,
    /// The value with folds replaced by one space and outer white space removed; UTF-8 in honest messages.
    pub value: Vec<u8>,
}

/// Values name people; the name of the field tells what is there.
impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: •••", self.name.as_str())
    }
}

/// All header fields of a message, in the order of the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<Header>,
}

impl Headers {
    /// Appends a field.
    pub fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.list.push(Header { name: HeaderName::parse(name), value: value.into() });
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Every field in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.list.iter()
    }

    /// The values of every field of this name, octet for octet.
    pub fn raw<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.list
            .iter()
            .filter(move |header| header.name.as_str().eq_ignore_ascii_case(name))
            .map(|header| header.value.as_slice())
    }

    /// The values of every field of this name; octets that are no UTF-8 become U+FFFD.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> + 'a {
        self.raw(name).map(String::from_utf8_lossy)
    }

    /// The first field of this name.
    pub fn text<'a>(&'a self, name: &'a str) -> Option<Cow<'a, str>> {
        self.texts(name).next()
    }

    /// The comma-separated elements of every field of this name, in order, trimmed.
    pub fn elements(&self, name: &str) -> Vec<String> {
        let mut elements = Vec::new();
        for value in self.texts(name) {
            elements.extend(split(&value, b',').into_iter().map(|part| part.trim().to_owned()));
        }
        elements.retain(|element| !element.is_empty());
        elements
    }

    /// Whether a list-valued field (Supported, Require, Allow, …) names this token.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.elements(name).iter().any(|element| element.eq_ignore_ascii_case(token))
    }
}

/// Splits at `separator` where it stands outside quotes and outside angle brackets.
pub(crate) fn split(value: &str, separator: u8) -> Vec<&str> {
    let bytes = value.as_bytes();
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    let (mut quoted, mut bracketed) = (false, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'<' if !quoted => bracketed = true,
            b'>' if !quoted => bracketed = false,
            byte if *byte == separator && !quoted && !bracketed => {
                parts.push(value.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(value.get(start..).unwrap_or_default());
    parts
}

/// RFC 3261 §7.3.3 and the registry of compact forms.
const COMPACT: [(u8, &str); 20] = [
    (b'a', "Accept-Contact"),
    (b'b', "Referred-By"),
    (b'c', "Content-Type"),
    (b'd', "Request-Disposition"),
    (b'e', "Content-Encoding"),
    (b'f', "From"),
    (b'i', "Call-ID"),
    (b'j', "Reject-Contact"),
    (b'k', "Supported"),
    (b'l', "Content-Length"),
    (b'm', "Contact"),
    (b'n', "Identity-Info"),
    (b'o', "Event"),
    (b'r', "Refer-To"),
    (b's', "Subject"),
    (b't', "To"),
    (b'u', "Allow-Events"),
    (b'v', "Via"),
    (b'x', "Session-Expires"),
    (b'y', "Identity"),
];

/// Names met in almost every message: borrowed, so that they cost no allocation.
const KNOWN: [&str; 26] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Content-Length",
    "Content-Type",
    "Route",
    "Record-Route",
    "Require",
    "Supported",
    "Unsupported",
    "Allow",
    "Accept",
    "User-Agent",
    "Server",
    "Reason",
    "Retry-After",
    "Warning",
    "Date",
    "Session-Expires",
    "Min-SE",
    "Subject",
    "Content-Encoding",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_inside_quotes_or_brackets_splits_nothing() {
        assert_eq!(split(r#""a, \", b" <sip:a,b@c>, d"#, b','), vec![r#""a, \", b" <sip:a,b@c>"#, " d"]);
    }

    #[test]
    fn compact_names_are_read_as_their_long_form() {
        assert_eq!(HeaderName::parse("V").as_str(), "Via");
        assert_eq!(HeaderName::parse("mAx-fOrWaRdS").as_str(), "Max-Forwards");
        assert_eq!(HeaderName::parse("X-Other").as_str(), "X-Other");
    }
}
