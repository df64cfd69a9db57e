//! Replaces: which dialog a call takes the place of (RFC 3891 §6.1).

use std::fmt;

use super::headers::split;
use super::uri::Params;

/// A dialog, named as the one who is to look for it sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Replaces {
    /// The header `Call-ID`.
    pub call_id: String,
    /// The tag of whoever reads this.
    pub to_tag: String,
    /// The tag of their far end.
    pub from_tag: String,
    /// Only while it has not been answered.
    pub is_early_only: bool,
}

impl Replaces {
    /// Reads the header's value; `None` when it breaks the grammar, or names a tag never or twice.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = split(value, b';').into_iter();
        let call_id = parts.next()?.trim();
        let parts: Vec<_> = parts.collect();
        let named = |name: &str| {
            let is_name =
                |part: &&&str| part.split('=').next().is_some_and(|key| key.trim().eq_ignore_ascii_case(name));
            parts.iter().filter(is_name).count()
        };
        if call_id.is_empty() || call_id.contains(char::is_whitespace) || named("to-tag") != 1 || named("from-tag") != 1
        {
            return None;
        }
        let params = Params::parse(parts.iter().copied())?;
        Some(Replaces {
            call_id: call_id.to_owned(),
            to_tag: params.text("to-tag")?.to_owned(),
            from_tag: params.text("from-tag")?.to_owned(),
            is_early_only: params.has("early-only"),
        })
    }

    /// Reads it where it stands escaped behind the `?` of a URI: `Replaces=…` among other header fields (RFC 3891 §7).
    pub fn in_uri_headers(headers: &str) -> Option<Self> {
        let value = headers.split('&').find_map(|field| {
            let (name, value) = field.split_once('=')?;
            name.eq_ignore_ascii_case("Replaces").then_some(value)
        })?;
        Self::parse(&unescaped(value)?)
    }

    /// Writes it so that it can stand behind the `?` of a URI.
    pub fn to_uri_header(&self) -> String {
        let mut out = String::from("Replaces=");
        for byte in self.to_string().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' => {
                    out.push(char::from(byte));
                }
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    }
}

/// The header's value.
impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};to-tag={};from-tag={}", self.call_id, self.to_tag, self.from_tag)?;
        if self.is_early_only { f.write_str(";early-only") } else { Ok(()) }
    }
}

/// Whoever knows it can take the call.
impl fmt::Debug for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replaces(•••)")
    }
}

/// `%41` read as `A`; `None` when an escape is broken, or hides what would end a header field.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialog_is_named_and_read_back_from_a_uri() {
        let replaces =
            Replaces::parse("98732@sip.example.com ;from-tag=r33th4x0r;to-tag=ff87ff;early-only").expect("valid");
        assert_eq!((replaces.to_tag.as_str(), replaces.from_tag.as_str()), ("ff87ff", "r33th4x0r"));
        assert!(replaces.is_early_only);
        assert_eq!(replaces.to_string(), "98732@sip.example.com;to-tag=ff87ff;from-tag=r33th4x0r;early-only");
        let header = replaces.to_uri_header();
        assert!(header.contains("%40") && header.contains("%3Bto-tag%3Dff87ff"), "{header}");
        assert_eq!(Replaces::in_uri_headers(&format!("Require=replaces&{header}")), Some(replaces));
    }

    #[test]
    fn what_names_no_single_dialog_is_none() {
        for broken in [
            "",
            "id;to-tag=a",
            "id;from-tag=a",
            ";to-tag=a;from-tag=b",
            "id;to-tag=a;to-tag=b;from-tag=c",
            "i d;to-tag=a;from-tag=b",
            "id;to-tag;from-tag=b",
        ] {
            assert_eq!(Replaces::parse(broken), None, "{broken}");
        }
        for broken in ["Replaces=id%3", "Replaces=id%zz", "Replaces=id%0d%0a%3Bto-tag%3Da%3Bfrom-tag%3Db", "Other=1"] {
            assert_eq!(Replaces::in_uri_headers(broken), None, "{broken}");
        }
    }
}
