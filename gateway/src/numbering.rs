//! How numbers are written on a line, and what they are in E.164: pure functions of the line's [`Numbering`].
//!
//! ```text
//!   06 1 234 5678, 003612345678, tel:12345678;phone-context=+36 ─▶ to_e164 ─▶ +3612345678 ─▶ dialled ─▶ 0612345678
//! ```

use talkstack_control::port::{DialFormat, Numbering};
use talkstack_media::sip::message::Uri;

/// The E.164 number, with `+`, that a URI names; `None` when it names none: a short code, an extension, a word.
pub fn of_uri(numbering: &Numbering, uri: &Uri) -> Option<String> {
    let (number, context) = match uri {
        Uri::Tel(number, params) => (number.clone(), params.text("phone-context").map(str::to_owned)),
        Uri::Sip(uri) => {
            let user = unescape(uri.user.as_deref()?);
            let mut parts = user.split(';');
            let number = parts.next()?.to_owned();
            // RFC 3261 §19.1.6: the parameters of a telephone-subscriber stand in the user part.
            (number, parts.find_map(|part| part.strip_prefix("phone-context=")).map(str::to_owned))
        }
        Uri::Other(_) => return None,
    };
    // RFC 3966 §5.1.5: a context that is a number stands before the local number; a domain is the trunk's own.
    match context.and_then(|context| context.strip_prefix('+').map(str::to_owned)) {
        Some(prefix) if !number.starts_with('+') => international(&format!("{}{}", digits(&prefix)?, digits(&number)?)),
        _ => to_e164(numbering, &number),
    }
}

/// The E.164 number, with `+`, that a text stands for on a line; `None` when it is none.
///
/// Without a country code numbers are taken as they come: digits that may follow a `+`, or an international prefix.
pub fn to_e164(numbering: &Numbering, text: &str) -> Option<String> {
    if let Some(number) = text.strip_prefix('+') {
        return international(&digits(number)?);
    }
    let number = digits(text)?;
    let abroad = abroad(numbering);
    let home = numbering.country_code.as_deref().filter(|code| !code.is_empty());
    if let Some(rest) = number.strip_prefix(abroad)
        && let Some(number) = international(rest)
    {
        return Some(number);
    }
    let Some(country) = home else { return international(&number) };
    let plan = Plan::of(country);
    let prefix = numbering.national_prefix.as_str();
    if !prefix.is_empty()
        && let Some(national) = number.strip_prefix(prefix)
        && plan.is_national(national)
    {
        return Some(format!("+{country}{national}"));
    }
    let behind = number.strip_prefix(country).filter(|national| plan.is_national(national));
    // Where national numbers have no prefix, one that fits is national first: an Italian mobile may begin with 39.
    let is_bare = plan.is_national(&number);
    match behind {
        Some(_) if is_bare && prefix.is_empty() => Some(format!("+{country}{number}")),
        Some(_) => Some(format!("+{number}")),
        None if is_bare => Some(format!("+{country}{number}")),
        None => None,
    }
}

/// A called E.164 number, with `+`, as the line wants it written. One without stands for itself: 112 is 112 everywhere.
pub fn dialled(numbering: &Numbering, number: &str) -> String {
    let Some(digits) = number.strip_prefix('+') else { return number.to_owned() };
    let country = numbering.country_code.as_deref().filter(|code| !code.is_empty());
    let national = country.and_then(|country| digits.strip_prefix(country));
    match (numbering.dial_format, national) {
        (DialFormat::E164, _) => format!("+{digits}"),
        (DialFormat::Digits, _) => digits.to_owned(),
        (DialFormat::National, Some(national)) => format!("{}{national}", numbering.national_prefix),
        (DialFormat::International | DialFormat::National, _) => format!("{}{digits}", abroad(numbering)),
    }
}

/// What international numbers begin with on a line, beside `+`.
pub(crate) fn abroad(numbering: &Numbering) -> &str {
    if numbering.international_prefix.is_empty() { "00" } else { &numbering.international_prefix }
}

/// `+` and the digits, where they can be a number with its country code: no country's begins with 0.
fn international(digits: &str) -> Option<String> {
    let fits = (1..=E164_DIGITS_MAX).contains(&digits.len()) && !digits.starts_with('0');
    fits.then(|| format!("+{digits}"))
}

/// The digits of a number, visual separators dropped (RFC 3966 §5.1.1); `None` where anything else stands in it.
fn digits(text: &str) -> Option<String> {
    let mut digits = String::with_capacity(text.len().min(WRITTEN_DIGITS_MAX));
    for character in text.chars() {
        match character {
            '0'..='9' if digits.len() < WRITTEN_DIGITS_MAX => digits.push(character),
            '-' | '.' | '(' | ')' | ' ' | '/' => {}
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some(digits)
}

/// Reads the escapes of a user part: `%2B` is a plus.
fn unescape(user: &str) -> String {
    let mut bytes = Vec::with_capacity(user.len());
    let mut rest = user.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let escaped = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How long the national numbers of a country are, without any prefix.
#[derive(Debug, Clone, Copy)]
struct Plan {
    shortest: usize,
    longest: usize,
}

impl Plan {
    fn of(country: &str) -> Self {
        let found = PLANS.iter().find(|(code, ..)| *code == country);
        found.map_or(ANY_PLAN, |(_, shortest, longest)| Plan { shortest: *shortest, longest: *longest })
    }

    fn is_national(&self, digits: &str) -> bool {
        (self.shortest..=self.longest).contains(&digits.len())
    }
}

/// Significant national numbers by ITU-T's National Numbering Plans, where a fixed or narrow length tells a national
/// number from one that has its country code in front.
const PLANS: [(&str, usize, usize); 26] = [
    ("1", 10, 10),
    ("7", 10, 10),
    ("27", 9, 9),
    ("30", 10, 10),
    ("31", 9, 11),
    ("32", 8, 9),
    ("33", 9, 9),
    ("34", 9, 9),
    ("351", 9, 9),
    ("353", 7, 10),
    ("36", 8, 9),
    ("39", 6, 11),
    ("40", 9, 9),
    ("41", 9, 12),
    ("420", 9, 9),
    ("44", 7, 10),
    ("45", 8, 8),
    ("46", 7, 10),
    ("47", 8, 8),
    ("48", 9, 9),
    ("52", 10, 10),
    ("55", 10, 11),
    ("61", 9, 9),
    ("65", 8, 8),
    ("852", 8, 8),
    ("91", 10, 10),
];

/// Any other country: seven digits are no short code, and E.164 leaves twelve behind a code of three.
const ANY_PLAN: Plan = Plan { shortest: 7, longest: 12 };

/// E.164 §6.1.
const E164_DIGITS_MAX: usize = 15;

/// 20: fifteen digits behind a prefix of up to five, such as a carrier's.
const WRITTEN_DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_a_country_writes_it() {
        // Country code, national prefix, international prefix; the number; how it is written there.
        let table: [(&str, &str, &str, &str, &[&str]); 16] = [
            (
                "36",
                "06",
                "00",
                "+3612345678",
                &["0612345678", "06-1/234-5678", "003612345678", "3612345678", "12345678"],
            ),
            ("49", "0", "00", "+493012345678", &["03012345678", "030 12345678", "00493012345678", "493012345678"]),
            ("43", "0", "00", "+4312345678", &["012345678", "004312345678", "4312345678"]),
            ("44", "0", "00", "+442071838750", &["02071838750", "(020) 7183 8750", "00442071838750", "2071838750"]),
            (
                "33",
                "0",
                "00",
                "+33123456789",
                &["0123456789", "01.23.45.67.89", "0033123456789", "33123456789", "123456789"],
            ),
            ("1", "1", "011", "+14155550100", &["14155550100", "4155550100", "(415) 555-0100", "01114155550100"]),
            ("7", "8", "810", "+74951234567", &["84951234567", "4951234567", "74951234567", "81074951234567"]),
            ("39", "", "00", "+390612345678", &["0612345678", "00390612345678", "390612345678"]),
            ("39", "", "00", "+393931234567", &["3931234567", "393931234567", "00393931234567"]),
            ("34", "", "00", "+34911234567", &["911234567", "0034911234567", "34911234567"]),
            ("61", "0", "0011", "+61212345678", &["0212345678", "001161212345678", "61212345678", "212345678"]),
            ("81", "0", "010", "+81312345678", &["0312345678", "01081312345678", "81312345678"]),
            ("55", "0", "00", "+5511912345678", &["011912345678", "5511912345678", "11912345678"]),
            ("52", "", "00", "+525512345678", &["5512345678", "00525512345678", "525512345678"]),
            ("65", "", "001", "+6561234567", &["61234567", "0016561234567", "6561234567"]),
            ("48", "", "00", "+48221234567", &["221234567", "0048221234567", "48221234567"]),
        ];
        for (country, national, abroad, expected, written) in table {
            let numbering = numbering(country, national, abroad);
            for text in written.iter().chain(&[expected]) {
                assert_eq!(to_e164(&numbering, text).as_deref(), Some(expected), "{text} in +{country}");
            }
        }
    }

    #[test]
    fn a_number_abroad_is_told_from_one_at_home() {
        for (country, national, abroad, text, expected) in [
            ("36", "06", "00", "004930123456", "+4930123456"),
            ("1", "1", "011", "01136201234567", "+36201234567"),
            ("7", "8", "810", "810361234567", "+361234567"),
            ("61", "0", "0011", "00114930123456", "+4930123456"),
            ("81", "0", "010", "01014155550100", "+14155550100"),
            // An empty prefix is 00.
            ("34", "", "", "004930123456", "+4930123456"),
        ] {
            assert_eq!(to_e164(&numbering(country, national, abroad), text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_short_code_an_extension_and_a_word_are_no_numbers() {
        let hungary = numbering("36", "06", "00");
        for text in ["112", "06112", "105", "1818", "201", "echo", "", "+", "+0612345678", "12345678x", "00", "#31#"] {
            assert_eq!(to_e164(&hungary, text), None, "{text}");
        }
        let (spain, us) = (numbering("34", "", "00"), numbering("1", "1", "011"));
        for text in ["112", "091", "0112"] {
            assert_eq!(to_e164(&spain, text), None, "{text}");
        }
        for text in ["911", "1911", "311", "5550100"] {
            assert_eq!(to_e164(&us, text), None, "{text}");
        }
        assert_eq!(to_e164(&hungary, &"1".repeat(10_000)), None);
    }

    #[test]
    fn without_a_country_numbers_are_taken_as_they_come() {
        let none = Numbering::default();
        for (text, expected) in [
            ("+3612345678", Some("+3612345678")),
            ("3612345678", Some("+3612345678")),
            ("003612345678", Some("+3612345678")),
            ("3611", Some("+3611")),
            ("0612345678", None),
            ("echo", None),
        ] {
            assert_eq!(to_e164(&none, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_uri_names_a_number_with_its_context_or_without() {
        let hungary = numbering("36", "06", "00");
        for (uri, expected) in [
            ("tel:+36-1-234-5678", Some("+3612345678")),
            ("tel:0612345678", Some("+3612345678")),
            ("tel:2345678;phone-context=+361", Some("+3612345678")),
            ("tel:30-123456;phone-context=+49", Some("+4930123456")),
            ("tel:06-1-234-5678;phone-context=example.com", Some("+3612345678")),
            ("tel:112;phone-context=example.com", None),
            ("sip:%2B3612345678@pbx", Some("+3612345678")),
            ("sip:+3612345678;verstat=TN-Validation-Passed@pbx;user=phone", Some("+3612345678")),
            ("sip:2345678;phone-context=+361@pbx;user=phone", Some("+3612345678")),
            ("sip:06(1)2345678@pbx", Some("+3612345678")),
            ("sip:pbx", None),
            ("sip:echo@pbx", None),
            ("sip:%@pbx", None),
            ("isbn:3612345678", None),
        ] {
            let parsed = Uri::parse(uri).expect(uri);
            assert_eq!(of_uri(&hungary, &parsed).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn a_called_number_is_written_as_the_line_wants_it() {
        for (format, home, away) in [
            (DialFormat::E164, "+3612345678", "+14155550100"),
            (DialFormat::Digits, "3612345678", "14155550100"),
            (DialFormat::International, "003612345678", "0014155550100"),
            (DialFormat::National, "0612345678", "0014155550100"),
        ] {
            let hungary = Numbering { dial_format: format, ..numbering("36", "06", "00") };
            assert_eq!(dialled(&hungary, "+3612345678"), home);
            assert_eq!(dialled(&hungary, "+14155550100"), away);
            assert_eq!(dialled(&hungary, "112"), "112", "help is dialled as it is");
            assert_eq!(to_e164(&hungary, home).as_deref(), Some("+3612345678"), "and is read back");
            assert_eq!(to_e164(&hungary, "0014155550100").as_deref(), Some("+14155550100"));
        }
        let nowhere = Numbering { dial_format: DialFormat::National, ..Numbering::default() };
        assert_eq!(dialled(&nowhere, "+3612345678"), "003612345678", "without a country nothing is national");
        let us = Numbering { dial_format: DialFormat::International, ..numbering("1", "1", "011") };
        assert_eq!(dialled(&us, "+3612345678"), "0113612345678");
    }

    fn numbering(country: &str, national: &str, abroad: &str) -> Numbering {
        Numbering {
            country_code: Some(country.into()),
            national_prefix: national.into(),
            international_prefix: abroad.into(),
            ..Numbering::default()
        }
    }
}
