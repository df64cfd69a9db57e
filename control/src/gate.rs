//! Where this box calls: a pure function of the two numbers, the owner's list and the tables in `config/dial`.
//!
//! ```text
//!   to ─▶ an emergency number? ─▶ premium, shared-cost or satellite? ─▶ in dial.allow, else the country of `from`? ─▶ dial
//! ```
//!
//! What the tables refuse is refused whatever the owner's list says: a list is a prefix away from a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::model::E164;

/// Where the owner lets the box call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialPolicy {
    /// Prefixes in E.164 with `+` (`dial.allow`); empty: only the country of the presented number.
    pub allow: Vec<String>,
}

/// Checks numbers before they are dialled.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    policy: DialPolicy,
}

/// The box does not call there. Answer 400 `destination_not_allowed`, or end the call so.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum GateRefusal {
    /// People who dial it need help now, from a phone whose place is known.
    #[error("The box does not call emergency numbers.")]
    Emergency,
    /// The called party earns from the call.
    #[error("The box does not call premium-rate numbers.")]
    Premium,
    /// The caller pays more than for an ordinary call.
    #[error("The box does not call shared-cost numbers.")]
    SharedCost,
    /// Satellite and other networks of no country.
    #[error("The box does not call satellite networks.")]
    Satellite,
    /// The owner has not listed it.
    #[error("The owner of the box has not allowed calls to this destination (dial.allow).")]
    NotListed,
}

impl Gate {
    /// Builds a gate.
    pub fn new(policy: DialPolicy) -> Self {
        Gate { policy }
    }

    /// Tells whether `to` may be called with `from` presented.
    ///
    /// # Errors
    /// [`GateRefusal`], the first that applies.
    pub fn check(&self, to: &E164, from: &E164) -> Result<(), GateRefusal> {
        if is_emergency(to.as_str()) {
            return Err(GateRefusal::Emergency);
        }
        let digits = to.digits();
        if let Some(refusal) = (1..=digits.len()).find_map(|length| TABLES.denied.get(&digits[..length])) {
            return Err(*refusal);
        }
        let is_listed = if self.policy.allow.is_empty() {
            calling_code(digits).is_some_and(|code| calling_code(from.digits()) == Some(code))
        } else {
            self.policy.allow.iter().any(|prefix| to.as_str().starts_with(prefix.as_str()))
        };
        if is_listed { Ok(()) } else { Err(GateRefusal::NotListed) }
    }
}

/// Tells whether a text as dialled, with country code or without, reaches an emergency service.
pub fn is_emergency(dialled: &str) -> bool {
    let Some(digits) = dialled.strip_prefix('+') else {
        return TABLES.short.contains(dialled);
    };
    if TABLES.short.contains(digits) {
        return true;
    }
    let Some(code) = calling_code(digits) else { return false };
    let national = &digits[code.len()..];
    // Switches pass on more digits than a service has, up to what could be a subscriber's number.
    emergency_numbers(code)
        .any(|number| national.strip_prefix(number).is_some_and(|behind| behind.len() <= DIGITS_BEHIND_MAX))
}

/// The emergency numbers of a country by its calling code, those of every country behind its own.
pub fn emergency_numbers(code: &str) -> impl Iterator<Item = &'static str> {
    TABLES.emergency.get(code).into_iter().flatten().copied().chain(EVERYWHERE)
}

/// The calling code that a number begins with: the longest that fits, so that islands of the North American plan stand
/// for themselves.
pub fn calling_code(digits: &str) -> Option<&str> {
    let longest = digits.len().min(CODE_DIGITS_MAX);
    (1..=longest).rev().map(|length| &digits[..length]).find(|code| TABLES.emergency.contains_key(code))
}

/// What the two files hold.
struct Tables {
    /// Emergency numbers by calling code.
    emergency: BTreeMap<&'static str, Vec<&'static str>>,
    /// All of them.
    short: BTreeSet<&'static str>,
    /// Prefixes without the `+`.
    denied: BTreeMap<String, GateRefusal>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut emergency = BTreeMap::new();
    for (code, numbers, _) in rows(include_str!("../../config/dial/emergency.tsv")) {
        emergency.insert(code, numbers.split(' ').filter(|number| *number != "-").collect::<Vec<_>>());
    }
    let short = emergency.values().flatten().copied().chain(EVERYWHERE).collect();
    let mut denied = BTreeMap::new();
    for (code, kind, prefixes) in rows(include_str!("../../config/dial/denied.tsv")) {
        let refusal = match kind {
            "satellite" => GateRefusal::Satellite,
            "shared-cost" => GateRefusal::SharedCost,
            _ => GateRefusal::Premium,
        };
        for prefix in prefixes.split(' ') {
            denied.insert(format!("{code}{}", prefix.trim_start_matches('-')), refusal);
        }
    }
    Tables { emergency, short, denied }
});

/// Rows of three columns, the first of them a calling code, here without its `+`.
fn rows(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    text.lines().filter_map(|line| {
        let mut columns = line.strip_prefix('+')?.split('\t');
        Some((columns.next()?, columns.next()?, columns.next()?))
    })
}

/// Emergency numbers in every country: GSM phones take 112 and 911 (3GPP TS 22.101 §10.1), and 999 is next.
pub const EVERYWHERE: [&str; 3] = ["112", "911", "999"];

/// Three more digits than the service's number; no subscriber's number is that short.
const DIGITS_BEHIND_MAX: usize = 3;

/// `+1876` has four digits, E.164 codes up to three.
const CODE_DIGITS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_may_dial_is_refused_though_the_list_allows_everything() {
        let all = Gate::new(DialPolicy { allow: (1..=9).map(|digit| format!("+{digit}")).collect() });
        for (to, expected) in [
            ("+14155550100", Ok(())),
            ("+3612345678", Ok(())),
            ("+447911123456", Ok(())),
            ("+4930123456", Ok(())),
            ("+18765551234", Ok(())),
            ("+19005550100", Err(GateRefusal::Premium)),
            ("+19765550100", Err(GateRefusal::Premium)),
            ("+3690123456", Err(GateRefusal::Premium)),
            ("+3691123456", Err(GateRefusal::Premium)),
            ("+33891234567", Err(GateRefusal::Premium)),
            ("+449061234567", Err(GateRefusal::Premium)),
            ("+448712345678", Err(GateRefusal::SharedCost)),
            ("+448791234567", Err(GateRefusal::SharedCost)),
            ("+49900123456", Err(GateRefusal::Premium)),
            ("+491371234567", Err(GateRefusal::Premium)),
            ("+97912345678", Err(GateRefusal::Premium)),
            ("+80812345678", Err(GateRefusal::SharedCost)),
            ("+881612345678", Err(GateRefusal::Satellite)),
            ("+88213123456", Err(GateRefusal::Satellite)),
            ("+88351001234", Err(GateRefusal::Satellite)),
            ("+870773123456", Err(GateRefusal::Satellite)),
            ("+1911000", Err(GateRefusal::Emergency)),
            ("+3611200", Err(GateRefusal::Emergency)),
            ("+44999000", Err(GateRefusal::Emergency)),
        ] {
            assert_eq!(all.check(&number(to), &number("+14155550199")), expected, "{to}");
        }
    }

    #[test]
    fn emergency_numbers_are_known_with_and_without_the_country_in_front() {
        for dialled in [
            "112", "911", "999", "000", "110", "119", "+112", "+999", "+1911", "+36112", "+36104", "+44999", "+44112",
            "+61000", "+49110", "+81119", "+86110", "+1876119", "+33112",
        ] {
            assert!(is_emergency(dialled), "{dialled}");
        }
        for dialled in ["+14155550100", "+3611234567", "+441122334455", "+8110", "", "+", "1", "hotline"] {
            assert!(!is_emergency(dialled), "{dialled}");
        }
    }

    #[test]
    fn an_empty_list_means_the_country_of_the_presented_number() {
        let home = Gate::default();
        for (from, to, allowed) in [
            ("+14155550199", "+12125550100", true),
            ("+14155550199", "+16135550100", true),
            ("+14155550199", "+18765551234", false),
            ("+3612345678", "+36201234567", true),
            ("+3612345678", "+43123456789", false),
            ("+74951234567", "+77271234567", false),
            ("+2101234567", "+2101234568", false),
        ] {
            let expected = if allowed { Ok(()) } else { Err(GateRefusal::NotListed) };
            assert_eq!(home.check(&number(to), &number(from)), expected, "{from} {to}");
        }
        let listed = Gate::new(DialPolicy { allow: vec!["+43".into(), "+3620".into()] });
        for (to, allowed) in [("+43123456789", true), ("+36201234567", true), ("+36301234567", false)] {
            assert_eq!(listed.check(&number(to), &number("+3612345678")).is_ok(), allowed, "{to}");
        }
    }

    #[test]
    fn every_row_of_the_tables_can_be_read() {
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        let (emergency, denied) =
            (include_str!("../../config/dial/emergency.tsv"), include_str!("../../config/dial/denied.tsv"));
        assert_eq!((rows(emergency).count(), rows(denied).count()), (lines(emergency), lines(denied)));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        assert!(TABLES.short.iter().all(|number| is_digits(number) && number.len() >= 2));
        assert!(TABLES.denied.keys().all(|prefix| is_digits(prefix) && prefix.len() >= 3));
        assert!(rows(denied).all(|(code, kind, _)| {
            TABLES.emergency.contains_key(code) && ["premium", "shared-cost", "satellite"].contains(&kind)
        }));
    }

    fn number(text: &str) -> E164 {
        E164::parse(text).expect(text)
    }
}
