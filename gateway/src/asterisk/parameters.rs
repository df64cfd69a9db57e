//! What the request of an Asterisk's WebSocket channel says of its call: `v(to=15551234567,from=+3611111111)` in the dialplan.

/// Who is called, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The number or user that the call is routed by; `None` leaves it to the configuration.
    pub called: Option<String>,
    /// The caller as a SIP user.
    pub caller: String,
    /// The caller as it was told; empty where it was not.
    pub name: String,
}

impl Parameters {
    /// Reads the query of a request (RFC 3986 §3.4). What is no number and no user counts as absent.
    pub fn read(query: &str) -> Self {
        let told = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.filter(|(own, _)| *own == name).map(|(_, value)| unescaped(value)).next();
            value.filter(|value| is_user(value))
        };
        let name = told("from").unwrap_or_default();
        let is_number = name.strip_prefix('+').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        // No extension of the box's can be called so: who calls has not proven to be one.
        let caller = if is_number { name.clone() } else { NOBODY.to_owned() };
        Parameters { called: told("to"), caller, name }
    }
}

/// 1 to 64 letters, digits and the marks that numbers and users have.
fn is_user(text: &str) -> bool {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.*#".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_clean)
}

/// RFC 3986 §2.1; what is no UTF-8 then is nothing.
fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = tail.first_chunk::<2>().and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Who calls where it is not told, or is no number.
const NOBODY: &str = "asterisk+websocket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_and_users_are_taken_and_only_a_number_is_a_caller() {
        for (query, called, caller, name) in [
            ("to=echo&from=%2B361", Some("echo"), "+361", "+361"),
            ("x=1&from=101&to=%2b362", Some("+362"), NOBODY, "101"),
            ("", None, NOBODY, ""),
            ("to=&from=", None, NOBODY, ""),
            ("to=a%20b&from=%zz", None, NOBODY, ""),
            ("to=x%0d%0aVia&from=%ff%", None, NOBODY, ""),
            ("to&from=a&&=", None, NOBODY, "a"),
        ] {
            let read = Parameters::read(query);
            assert_eq!((read.called.as_deref(), &*read.caller, &*read.name), (called, caller, name), "{query}");
        }
    }
}
