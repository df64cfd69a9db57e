//! How numbers are written on a line: fields that trunks and extensions share.

use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{bad_field, clearable, text};
use crate::model::E164;
use crate::port::{CallerIdField, DialFormat, Numbering};

/// Sets what the request gives.
///
/// # Errors
/// 400 that names the field and says what it must be.
pub(super) fn change_numbering(numbering: &mut Numbering, fields: &Fields) -> Result<(), ApiError> {
    if let Some(given) = clearable(fields, "country_code")? {
        let wrong = || bad_field("country_code", "must be a country's calling code without +, as 36");
        let code = given.map(|text| country_code(&text).ok_or_else(wrong)).transpose()?;
        numbering.country_code = code;
    }
    for (name, place) in [
        ("national_prefix", &mut numbering.national_prefix),
        ("international_prefix", &mut numbering.international_prefix),
    ] {
        if let Some(given) = text(fields, name)? {
            if given.len() > PREFIX_DIGITS_MAX || !given.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(bad_field(name, "must be at most 6 digits"));
            }
            *place = given;
        }
    }
    match text(fields, "dial_format")?.as_deref() {
        None => {}
        Some("e164") => numbering.dial_format = DialFormat::E164,
        Some("digits") => numbering.dial_format = DialFormat::Digits,
        Some("international") => numbering.dial_format = DialFormat::International,
        Some("national") => numbering.dial_format = DialFormat::National,
        Some(_) => return Err(bad_field("dial_format", "must be e164, digits, international or national")),
    }
    match text(fields, "caller_id")?.as_deref() {
        None => {}
        Some("from") => numbering.caller_id = CallerIdField::From,
        Some("asserted") => numbering.caller_id = CallerIdField::Asserted,
        Some("preferred") => numbering.caller_id = CallerIdField::Preferred,
        Some("remote_party") => numbering.caller_id = CallerIdField::RemoteParty,
        Some(_) => return Err(bad_field("caller_id", "must be from, asserted, preferred or remote_party")),
    }
    Ok(())
}

/// A number of ours as digits.
///
/// # Errors
/// 400.
pub(super) fn number_of_ours(given: Option<String>, field: &str) -> Result<Option<String>, ApiError> {
    let wrong = || bad_field(field, "must be a number with + and country code");
    given.map(|text| E164::parse(&text).map(|number| number.digits().to_owned()).ok_or_else(wrong)).transpose()
}

/// Adds the fields to what is shown.
pub(super) fn numbering_json(numbering: &Numbering, shown: &mut Value) {
    shown["country_code"] = json!(numbering.country_code);
    shown["national_prefix"] = json!(numbering.national_prefix);
    shown["international_prefix"] = json!(numbering.international_prefix);
    shown["dial_format"] = json!(numbering.dial_format);
    shown["caller_id"] = json!(numbering.caller_id);
}

fn country_code(text: &str) -> Option<String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_code = (1..=4).contains(&digits.len()) && crate::gate::calling_code(digits) == Some(digits);
    is_code.then(|| digits.to_owned())
}

/// 6 digits: `810`, and a carrier's own prefix in front of it.
const PREFIX_DIGITS_MAX: usize = 6;
