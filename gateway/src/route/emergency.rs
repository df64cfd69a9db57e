//! Emergency calls of our own phones: known however they are dialled, and led out before any rule is asked.
//!
//! ```text
//!   dialled ─▶ 112, 911, 999, those of the countries concerned ─▶ the trunks that carry them, by priority
//!              with 9, 0 or the national prefix in front           none ─▶ refused, and said so
//! ```
//!
//! Kari's Law (47 U.S.C. §623) wants 911 dialled without a prefix; a hand that is used to the prefix dials it all the
//! same, so that both lead there.

use std::collections::BTreeSet;

use talkstack_control::gate::{EVERYWHERE, calling_code, emergency_numbers, is_emergency};
use talkstack_control::port::{ExtensionRoute, Snapshot, TrunkRoute};

use super::{BridgePlan, BridgeTarget, dialled};
use crate::caller_id::Disclosure;

/// The emergency number that a phone of ours has dialled, without what stands in front of it; `None` when it is none.
pub(super) fn emergency_number(snapshot: &Snapshot, extension: &ExtensionRoute, user: &str) -> Option<String> {
    let countries = countries(snapshot, extension);
    if user.get(..SERVICE.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SERVICE)) {
        return Some(home_number(countries.first().map(String::as_str)).to_owned());
    }
    let dialled = dialled(user)?;
    let is_extension = snapshot.extensions.contains_key(&dialled);
    let is_one = |number: &str| match countries.is_empty() {
        // In a country that nobody has named, every country's count; the box's own phones are told from them by name.
        true => EVERYWHERE.contains(&number) || (is_emergency(number) && !snapshot.extensions.contains_key(number)),
        false => countries.iter().any(|code| emergency_numbers(code).any(|known| known == number)),
    };
    if is_one(&dialled) {
        return Some(dialled);
    }
    if let Some(number) = with_country(&dialled, extension) {
        return Some(number.to_owned());
    }
    // A phone of ours whose user is a prefix and an emergency number is called when it is dialled.
    let national = extension.numbering.national_prefix.as_str();
    let mut prefixed = OUTSIDE_LINES.into_iter().chain([national].into_iter().filter(|prefix| !prefix.is_empty()));
    let number = prefixed.find_map(|prefix| dialled.strip_prefix(prefix).filter(|rest| is_one(rest)))?;
    (!is_extension).then(|| number.to_owned())
}

/// An emergency number behind the code of its country, or behind an international prefix.
fn with_country<'a>(dialled: &'a str, extension: &ExtensionRoute) -> Option<&'a str> {
    let abroad = extension.numbering.international_prefix.as_str();
    let prefixes = ["+", "00", abroad].into_iter().filter(|prefix| !prefix.is_empty());
    let digits = prefixes.into_iter().find_map(|prefix| dialled.strip_prefix(prefix))?;
    if EVERYWHERE.contains(&digits) {
        return Some(digits);
    }
    let code = calling_code(digits)?;
    let national = &digits[code.len()..];
    emergency_numbers(code).any(|known| known == national).then_some(national)
}

/// Where an emergency call goes: each trunk that carries them, the preferred first. `None` when there is no such trunk.
pub(super) fn emergency_plan(
    snapshot: &Snapshot,
    user: &str,
    extension: &ExtensionRoute,
    number: &str,
) -> Option<BridgePlan> {
    let mut trunks: Vec<_> = snapshot.trunks.iter().filter(|(_, trunk)| trunk.policy.is_emergency).collect();
    trunks.sort_by_key(|(_, trunk)| trunk.policy.priority);
    let targets: Vec<_> = trunks
        .into_iter()
        .map(|(id, trunk)| BridgeTarget::Trunk {
            trunk_id: id.clone(),
            number: as_known_there(trunk, extension, number),
            from: presented(trunk, extension),
            ring_s: Some(RING_S),
        })
        .collect();
    (!targets.is_empty()).then(|| BridgePlan {
        targets,
        refused_with: None,
        caller: user.to_owned(),
        disclosure: Disclosure::Shown,
        caller_name: (!extension.name.is_empty()).then(|| extension.name.clone()),
        called: number.to_owned(),
        is_emergency: true,
    })
}

/// The number as the trunk's country knows it: a foreign 112, 911 or 999 becomes the one that is answered there.
fn as_known_there(trunk: &TrunkRoute, extension: &ExtensionRoute, number: &str) -> String {
    let own = country_of(&trunk.numbering.country_code, trunk.numbers.first());
    let code = own.or_else(|| country_of(&extension.numbering.country_code, extension.number.as_ref()));
    let Some(code) = code else { return number.to_owned() };
    // Those of every country stand behind a country's own.
    let known: Vec<_> = emergency_numbers(&code).collect();
    let own = &known[..known.len().saturating_sub(EVERYWHERE.len())];
    if own.contains(&number) || !EVERYWHERE.contains(&number) {
        return number.to_owned();
    }
    let reached = EVERYWHERE.into_iter().find(|number| own.contains(number));
    reached.unwrap_or(number).to_owned()
}

/// Whom an emergency service calls back: the phone's own number, else one of the trunk's.
fn presented(trunk: &TrunkRoute, extension: &ExtensionRoute) -> Option<String> {
    let number = extension.number.as_ref().or(trunk.numbering.default_number.as_ref()).or(trunk.numbers.first())?;
    Some(format!("+{number}"))
}

/// The countries whose emergency numbers a phone may dial: its own, its number's, and those of the trunks that carry
/// such calls.
fn countries(snapshot: &Snapshot, extension: &ExtensionRoute) -> Vec<String> {
    let own = country_of(&extension.numbering.country_code, extension.number.as_ref());
    let carriers = snapshot.trunks.values().filter(|trunk| trunk.policy.is_emergency);
    let theirs = carriers.filter_map(|trunk| country_of(&trunk.numbering.country_code, trunk.numbers.first()));
    let mut seen = BTreeSet::new();
    own.into_iter().chain(theirs).filter(|code| seen.insert(code.clone())).collect()
}

fn country_of(code: &Option<String>, number: Option<&String>) -> Option<String> {
    let told = code.as_deref().or_else(|| number.and_then(|number| calling_code(number)))?;
    Some(told.to_owned())
}

/// What `urn:service:sos` (RFC 5031) is dialled as: 911 where the North American plan holds, 112 elsewhere.
fn home_number(code: Option<&str>) -> &'static str {
    match code {
        Some(code) if code.starts_with('1') => "911",
        _ => "112",
    }
}

/// `urn:service:sos`, and `urn:service:sos.fire` and its like (RFC 5031 §4.2).
const SERVICE: &str = "urn:service:sos";

/// What people dial for an outside line.
const OUTSIDE_LINES: [&str; 2] = ["9", "0"];

/// 60 s, not the configured time: an emergency service lets a call ring until somebody is free, and the next trunk leads
/// to the same service.
const RING_S: u16 = 60;

#[cfg(test)]
mod tests;
