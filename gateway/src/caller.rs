//! Who calls, as the box shows, routes and stores it: what the line says, as far as it is believed, in E.164.
//!
//! A caller who wants to stay unknown is `anonymous` to agents, phones, records and routes alike: the asserted number
//! goes no further than the signalling.

use talkstack_control::port::{Attestation, Numbering, Verstat};
use talkstack_media::sip::message::{self, CallerIdentity, NameAddr, Trust, Withholds};

use crate::numbering::of_uri;
use crate::route::number_digits;

/// Who calls, as far as others may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `+` and digits where it is a number, else the SIP user or `anonymous`.
    pub number: String,
    /// The name; `None` when there is none, or it is withheld.
    pub name: Option<String>,
    /// The carrier's verdict on the number.
    pub verstat: Option<Verstat>,
    /// How well the caller is known.
    pub attestation: Option<Attestation>,
    /// Whose phone sent the call on, written as `number`.
    pub diverted_from: Option<String>,
    /// The caller wants to stay unknown.
    pub is_withheld: bool,
}

/// Reads who calls. `numbering` is that of the trunk that the call comes from.
pub fn shown(identity: &CallerIdentity, trust: Trust, numbering: Option<&Numbering>) -> Shown {
    let caller = identity.caller(trust);
    let withholds = caller.as_ref().map_or(Withholds::Nothing, |caller| caller.withholds);
    let is_withheld = withholds == Withholds::Number;
    let number = caller.as_ref().filter(|_| !is_withheld).map(|caller| written(&caller.address, numbering));
    let name = caller.and_then(|caller| caller.address.display).filter(|_| withholds == Withholds::Nothing);
    let is_trusted = trust == Trust::Trusted;
    let diverted_from = identity.diverted_by().filter(|_| is_trusted).map(|address| written(address, numbering));
    Shown {
        number: number.unwrap_or_else(|| ANONYMOUS.to_owned()),
        name: name.map(|name| cut(&name, NAME_LETTERS_MAX)).filter(|name| !name.trim().is_empty()),
        verstat: identity.verstat.filter(|_| is_trusted).map(verstat),
        attestation: identity.attested().filter(|_| is_trusted).map(attestation),
        diverted_from,
        is_withheld,
    }
}

/// `+` and digits where the line's numbering makes an international number of it, else the user as it came.
fn written(address: &NameAddr, numbering: Option<&Numbering>) -> String {
    let known = numbering.filter(|numbering| numbering.country_code.is_some());
    if let Some(number) = known.and_then(|numbering| of_uri(numbering, &address.uri)) {
        return number;
    }
    let user = address.uri.user().unwrap_or(ANONYMOUS);
    let user = user.split(';').next().unwrap_or_default();
    match number_digits(user) {
        Some(digits) if user.starts_with('+') || user.starts_with("00") => format!("+{digits}"),
        _ => cut(user, USER_LETTERS_MAX),
    }
}

fn cut(text: &str, letters: usize) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(letters).collect()
}

fn verstat(verdict: message::Verstat) -> Verstat {
    match verdict {
        message::Verstat::Passed => Verstat::Passed,
        message::Verstat::Failed => Verstat::Failed,
        message::Verstat::Absent => Verstat::Absent,
    }
}

fn attestation(level: message::Attestation) -> Attestation {
    match level {
        message::Attestation::A => Attestation::A,
        message::Attestation::B => Attestation::B,
        message::Attestation::C => Attestation::C,
    }
}

/// As RFC 3323 §4.1.1.3 has it.
const ANONYMOUS: &str = "anonymous";

/// 64 letters: more than a telephone shows.
const NAME_LETTERS_MAX: usize = 64;

/// 128: the longest user parts that mean anything.
const USER_LETTERS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use talkstack_media::sip::message::Headers;

    use super::*;

    #[test]
    fn a_trunk_s_caller_is_written_in_e_164_by_the_trunk_s_numbering() {
        let hungary =
            Numbering { country_code: Some("36".into()), national_prefix: "06".into(), ..Numbering::default() };
        for (numbering, user, expected) in [
            (Some(&hungary), "0612345678", "+3612345678"),
            (Some(&hungary), "3612345678", "+3612345678"),
            (Some(&hungary), "%2B3612345678", "+3612345678"),
            (Some(&hungary), "101", "101"),
            (None, "0612345678", "0612345678"),
            (None, "+3612345678;verstat=No-TN-Validation", "+3612345678"),
            (None, "003612345678", "+3612345678"),
            (Some(&Numbering::default()), "1001", "1001"),
        ] {
            let identity = identity(&[("From", &format!("<sip:{user}@carrier>;tag=1"))]);
            assert_eq!(shown(&identity, Trust::Trusted, numbering).number, expected, "{user}");
        }
    }

    #[test]
    fn who_wants_to_stay_unknown_is_anonymous_in_everything_that_is_shown() {
        let fields = [
            ("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1"),
            ("P-Asserted-Identity", "\"Ann\" <sip:+3612345678;verstat=TN-Validation-Passed@carrier>"),
            ("Privacy", "id"),
        ];
        let shown = shown(&identity(&fields), Trust::Trusted, None);
        assert_eq!((shown.number.as_str(), &shown.name, shown.is_withheld), ("anonymous", &None, true));
        assert_eq!(shown.verstat, Some(Verstat::Passed), "a verdict names nobody");
    }

    #[test]
    fn what_only_a_trunk_may_say_is_not_taken_from_a_stranger() {
        let fields = [
            ("From", "\"Bob\" <sip:+3611111111@x>;tag=1"),
            ("P-Asserted-Identity", "\"Ann\" <sip:+3612345678@x>"),
            ("P-Attestation-Indicator", "A"),
            ("X-Twilio-VerStat", "TN-Validation-Passed"),
            ("Diversion", "<sip:+3619999999@x>;reason=unconditional"),
        ];
        let stranger = shown(&identity(&fields), Trust::Stranger, None);
        assert_eq!((stranger.number.as_str(), stranger.name.as_deref()), ("+3611111111", Some("Bob")));
        assert_eq!((stranger.verstat, stranger.attestation, stranger.diverted_from), (None, None, None));
        let trunk = shown(&identity(&fields), Trust::Trusted, None);
        assert_eq!((trunk.number.as_str(), trunk.name.as_deref()), ("+3612345678", Some("Ann")));
        assert_eq!((trunk.verstat, trunk.attestation), (Some(Verstat::Passed), Some(Attestation::A)));
        assert_eq!(trunk.diverted_from.as_deref(), Some("+3619999999"));
    }

    #[test]
    fn a_name_is_cut_and_cleaned_and_may_be_withheld_alone() {
        let long = format!("\"\u{1b}[31m{}\" <sip:+361@x>;tag=1", "n".repeat(100));
        let name = shown(&identity(&[("From", &long)]), Trust::Stranger, None).name.expect("a name");
        assert_eq!((name.chars().count(), name.contains('\u{1b}')), (64, false));
        let party = ("Remote-Party-ID", "\"Ann\" <sip:+361@x>;screen=yes;privacy=name");
        let shown = shown(&identity(&[("From", "<sip:x@y>;tag=1"), party]), Trust::Trusted, None);
        assert_eq!((shown.number.as_str(), shown.name, shown.is_withheld), ("+361", None, false));
    }

    fn identity(fields: &[(&str, &str)]) -> CallerIdentity {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, *value);
        }
        CallerIdentity::of(&headers)
    }
}
