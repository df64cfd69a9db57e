//! Values that are valid because they were parsed: addresses, numbers, names, passwords.

use std::fmt;
use std::sync::LazyLock;

/// Something about a person: printed only where it is meant to be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pii<T>(pub T);

impl<T> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// An e-mail address, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Email(Pii<String>);

impl Email {
    /// Reads an address: one `@`, a dot in the domain, nothing that could end a header.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let (local, domain) = text.rsplit_once('@')?;
        let is_clean = |part: &str| {
            !part.is_empty()
                && part.chars().all(|letter| letter.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(letter))
        };
        let domain_is_well_formed = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
        let fits = text.len() <= EMAIL_BYTES_MAX && is_clean(local) && is_clean(domain) && domain_is_well_formed;
        fits.then_some(Email(Pii(text)))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0.0
    }
}

/// A telephone number in E.164: `+` and 7 to 15 digits, the first not zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct E164(Pii<String>);

impl E164 {
    /// Reads a number exactly as E.164 writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let fits = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        (fits && !digits.starts_with('0')).then(|| E164(Pii(text.to_owned())))
    }

    /// With its `+`.
    pub fn as_str(&self) -> &str {
        &self.0.0
    }

    /// Without its `+`.
    pub fn digits(&self) -> &str {
        self.as_str().trim_start_matches('+')
    }
}

/// A name: 1 to 200 characters, not all blank, none of them a control character; kept as it was given.
pub fn name(text: &str) -> Option<String> {
    let fits = !text.trim().is_empty() && text.chars().count() <= NAME_CHARS_MAX && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// A voice's id: opaque, 1 to 64 of letters, digits, `-`, `_` and `.`.
pub fn voice_id(text: &str) -> Option<String> {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(is_clean)).then(|| text.to_owned())
}

/// One line: 1 to `max` characters, none of them a control character, blanks kept.
pub fn line(text: &str, max: usize) -> Option<String> {
    let fits = !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// A number or user as it is dialled: 1 to 64 letters, digits and the marks that numbers and users have.
pub fn dialled(text: &str) -> Option<String> {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.*#".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(is_clean)).then(|| text.to_owned())
}

/// The user of an extension: 2 to 32 letters, digits, `-`, `_` and `.`, and none of the built-in ones.
pub fn extension_user(text: &str) -> Option<String> {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_free = !["demo", "attendant", "echo", "talkstack", "anonymous"].contains(&text);
    ((2..=32).contains(&text.len()) && text.bytes().all(is_clean) && is_free).then(|| text.to_owned())
}

/// A host name (RFC 1123 §2.1, and `_`), or an address; brackets around an IPv6 one are taken off.
pub fn host(text: &str) -> Option<String> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Some(bare.to_owned());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= HOST_BYTES_MAX && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

/// The base address of a Realtime server: a scheme that a WebSocket can go over, a host, perhaps a path; no user, query
/// or fragment. The slash at its end is taken off.
pub fn realtime_url(text: &str) -> Option<String> {
    base_url(text, &["wss://", "ws://", "https://", "http://"])
}

/// The base address of a service of a cascade, as [`realtime_url`]: of HTTP, or of Wyoming or AudioSocket,
/// which has a port and no path.
pub fn service_url(text: &str) -> Option<String> {
    let is_complete = |url: &String| {
        let wyoming = url.strip_prefix("tcp://");
        wyoming.is_none_or(|authority| {
            !authority.contains('/') && authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
        })
    };
    base_url(text, &["https://", "http://", "tcp://"]).filter(is_complete)
}

fn base_url(text: &str, schemes: &[&str]) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let authority = rest.split('/').next().unwrap_or_default();
    let is_clean = text.len() <= URL_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte))
        && !authority.contains('@');
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (is_clean && port_fits && host(name).is_some()).then(|| text.to_owned())
}

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Below eight characters.
    #[error("The password must have at least 8 characters.")]
    TooShort,
    /// Above 1,024 bytes.
    #[error("The password must not be longer than 1024 bytes.")]
    TooLong,
    /// Among the first that are guessed.
    #[error("The password is among the most common ones; choose another.")]
    Common,
}

/// Checks a password that is being set (NIST 800-63B: length and a list, no rules of composition).
///
/// # Errors
/// [`WeakPassword`].
pub fn check_password(password: &str) -> Result<(), WeakPassword> {
    if password.chars().count() < 8 {
        return Err(WeakPassword::TooShort);
    }
    if password.len() > 1024 {
        return Err(WeakPassword::TooLong);
    }
    let lower = password.to_lowercase();
    let is_one_letter = lower.chars().all(|letter| lower.starts_with(letter));
    let is_product = lower.trim_matches(|letter: char| !letter.is_alphabetic()) == "talkstack";
    if is_one_letter || is_product || COMMON_PASSWORDS.binary_search(&lower.as_str()).is_ok() {
        return Err(WeakPassword::Common);
    }
    Ok(())
}

/// RFC 5321 §4.5.3.1.3.
const EMAIL_BYTES_MAX: usize = 254;

/// RFC 1035 §2.3.4.
const HOST_BYTES_MAX: usize = 253;

/// 2,048 bytes: what every browser takes.
const URL_BYTES_MAX: usize = 2048;

/// 200: longer than any clinic's name.
const NAME_CHARS_MAX: usize = 200;

/// One a line, sorted, in lower case, of eight and more characters; lines with `#` tell where they are from.
static COMMON_PASSWORDS: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("auth/common_passwords.txt").lines().filter(|line| !line.starts_with('#')).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_numbers_are_taken_or_refused() {
        for (text, taken) in [
            ("Example@Host.com", true),
            ("a.b+c@sub.host.org", true),
            ("no-at.host.com", false),
            ("a@host", false),
            ("a@host..com", false),
            ("a b@host.com", false),
            ("a@host.com\r\nBcc: x@y.z", false),
            ("", false),
        ] {
            assert_eq!(Email::parse(text).is_some(), taken, "{text:?}");
        }
        for (text, taken) in [
            ("+3612345678", true),
            ("3612345678", false),
            ("+0612345678", false),
            ("+36 1 234", false),
            ("+123456", false),
            ("+1234567890123456", false),
        ] {
            assert_eq!(E164::parse(text).is_some(), taken, "{text:?}");
        }
    }

    #[test]
    fn hosts_and_addresses_of_servers_are_taken_or_refused() {
        for (text, taken) in [
            ("sip.example.com", Some("sip.example.com")),
            ("PBX", Some("pbx")),
            ("192.168.1.5", Some("192.168.1.5")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("sip:example.com", None),
            ("a..b", None),
            ("a b", None),
            ("-a", None),
            ("", None),
        ] {
            assert_eq!(host(text).as_deref(), taken, "{text}");
        }
        for (text, taken) in [
            ("wss://api.openai.com/v1/", true),
            ("http://127.0.0.1:9000", true),
            ("ws://[::1]:9000/v1", true),
            ("https://user:pw@host/v1", false),
            ("https://host/v1?key=1", false),
            ("https://host:0/v1", false),
            ("https://", false),
            ("ftp://host", false),
            ("api.openai.com", false),
        ] {
            assert_eq!(realtime_url(text).is_some(), taken, "{text}");
        }
        for (text, taken) in [
            ("https://api.openai.com/v1/", true),
            ("tcp://10.0.0.7:10300", true),
            ("tcp://[::1]:10300/", true),
            ("tcp://lan", false),
            ("tcp://[::1]", false),
            ("tcp://lan:10300/v1", false),
            ("wss://host/v1", false),
        ] {
            assert_eq!(service_url(text).is_some(), taken, "{text}");
        }
    }

    #[test]
    fn weak_passwords_are_named() {
        assert_eq!(check_password("abc@123"), Err(WeakPassword::TooShort));
        assert_eq!(check_password("Password123"), Err(WeakPassword::Common));
        for word in ["aaaaaaaaaaaa", "Talkstack2026!", "TrustNo1", "1qaz2wsx", "corvette", "12345678"] {
            assert_eq!(check_password(word), Err(WeakPassword::Common), "{word}");
        }
        assert!(COMMON_PASSWORDS.is_sorted() && COMMON_PASSWORDS.len() > 11_000, "the list can be searched");
        assert_eq!(check_password("größer als acht"), Ok(()));
    }

    #[test]
    fn what_is_personal_is_not_printed() {
        let shown = format!("{:?} {:?}", Email::parse("a@b.com"), E164::parse("+3612345678"));
        assert!(!shown.contains("a@b") && !shown.contains("36"), "{shown}");
    }
}
