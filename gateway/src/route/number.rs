//! How a number is written: as it was dialled, and as E.164.

use talkstack_control::model::E164;
use talkstack_control::port::Numbering;

use crate::numbering::{abroad, to_e164};

/// The digits of a dialled number: separators dropped, a leading `+` or `00` ignored. `None` when it is no number.
pub fn number_digits(user: &str) -> Option<String> {
    let dialled = dialled(user)?;
    let digits = dialled.strip_prefix('+').or_else(|| dialled.strip_prefix("00")).unwrap_or(&dialled);
    (!digits.is_empty()).then(|| digits.to_owned())
}

/// A dialled number without its separators and parameters, its leading `+` kept. `None` when it is no number.
pub fn dialled(user: &str) -> Option<String> {
    let user = user.split(';').next().unwrap_or_default();
    let mut dialled = String::with_capacity(user.len().min(NUMBER_CHARS_MAX));
    for (at, character) in user.chars().enumerate() {
        match character {
            '0'..='9' if dialled.len() < NUMBER_CHARS_MAX => dialled.push(character),
            '+' if at == 0 => dialled.push('+'),
            '-' | '.' | '(' | ')' | ' ' | '/' => {}
            _ => return None,
        }
    }
    (!dialled.is_empty() && dialled != "+").then_some(dialled)
}

/// A dialled number as E.164, by the rules of the line it was dialled on. `None` when these do not tell: a number within
/// a PBX, or one whose country is not known.
pub fn international(numbering: &Numbering, dialled: &str) -> Option<E164> {
    let is_known =
        dialled.starts_with('+') || numbering.country_code.is_some() || dialled.starts_with(abroad(numbering));
    E164::parse(&to_e164(numbering, dialled).filter(|_| is_known)?)
}

/// 18: fifteen digits of E.164 behind an international prefix of three, such as `011`.
const NUMBER_CHARS_MAX: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_a_country_writes_it() {
        let hungary = numbering(Some("36"), "06", "");
        let america = numbering(Some("1"), "1", "011");
        let nowhere = numbering(None, "", "");
        for (rules, dialled, expected) in [
            (&hungary, "+3612345678", Some("+3612345678")),
            (&hungary, "003612345678", Some("+3612345678")),
            (&hungary, "0612345678", Some("+3612345678")),
            (&hungary, "12345678", Some("+3612345678")),
            (&hungary, "101", None),
            (&hungary, "06101", None),
            (&america, "4155550100", Some("+14155550100")),
            (&america, "14155550100", Some("+14155550100")),
            (&america, "0113612345678", Some("+3612345678")),
            (&america, "411", None),
            (&nowhere, "0612345678", None),
            (&nowhere, "+3612345678", Some("+3612345678")),
            (&nowhere, "+0612345678", None),
        ] {
            let found = international(rules, dialled);
            assert_eq!(found.as_ref().map(E164::as_str), expected, "{dialled}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_taken_for_one() {
        for (user, expected) in [
            ("+36-1-234.56 78", Some("+3612345678")),
            ("9-911", Some("9911")),
            ("112;phone-context=x", Some("112")),
            ("+", None),
            ("", None),
            ("12+3", None),
            ("echo", None),
            ("1234567890123456789", None),
        ] {
            assert_eq!(dialled(user).as_deref(), expected, "{user}");
        }
    }

    fn numbering(country_code: Option<&str>, national_prefix: &str, international_prefix: &str) -> Numbering {
        Numbering {
            country_code: country_code.map(str::to_owned),
            national_prefix: national_prefix.into(),
            international_prefix: international_prefix.into(),
            ..Numbering::default()
        }
    }
}
