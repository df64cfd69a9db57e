//! A trunk's fields of sound: what a request may set, and how they are shown.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{bad_field, flag, number, text, texts};
use super::trunk_fields::network;
use crate::port::TrunkMedia;

/// Sets what the request gives.
///
/// # Errors
/// 400 that names the field and says what it must be.
pub(super) fn change_media(media: &mut TrunkMedia, fields: &Fields) -> Result<(), ApiError> {
    if let Some(given) = texts(fields, "codecs", CODECS_MAX)? {
        let wrong = || bad_field("codecs", "must be a list of opus, g722, pcmu and pcma, each once");
        let codecs = given.iter().map(|name| word(name).ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?;
        if codecs.iter().enumerate().any(|(at, codec)| codecs[..at].contains(codec)) {
            return Err(wrong());
        }
        media.codecs = codecs;
    }
    if let Some(ms) = number(fields, "ptime_ms", 10..=60)? {
        if ms % 10 != 0 {
            return Err(bad_field("ptime_ms", "must be 10, 20, 30, 40, 50 or 60"));
        }
        media.ptime_ms = ms;
    }
    if let Some(given) = text(fields, "srtp")? {
        media.srtp = word(&given).ok_or_else(|| bad_field("srtp", "must be off, optional or required"))?;
    }
    if let Some(is_allowed) = flag(fields, "sdes_over_plain")? {
        media.sdes_over_plain = is_allowed;
    }
    if let Some(given) = text(fields, "dtmf")? {
        media.dtmf = word(&given).ok_or_else(|| bad_field("dtmf", "must be auto, rfc4733, info or inband"))?;
    }
    if let Some(given) = texts(fields, "media_networks", NETWORKS_MAX)? {
        let wrong = || bad_field("media_networks", "must be networks as 192.0.2.0/24 or 2001:db8::/32");
        media.media_networks = given.iter().map(|text| network(text).ok_or_else(wrong)).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// Adds the fields to what is shown of a trunk.
pub(super) fn media_json(media: &TrunkMedia, shown: &mut Value) {
    let TrunkMedia { codecs, ptime_ms, srtp, sdes_over_plain, dtmf, media_networks } = media;
    shown["codecs"] = json!(codecs);
    shown["ptime_ms"] = json!(ptime_ms);
    shown["srtp"] = json!(srtp);
    shown["sdes_over_plain"] = json!(sdes_over_plain);
    shown["dtmf"] = json!(dtmf);
    shown["media_networks"] = json!(media_networks);
}

/// The variant that a word names.
pub(super) fn word<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

/// More than there are codecs: a list that is too long is refused with the right words.
const CODECS_MAX: usize = 16;

/// 16 networks, as many as a leg keeps: the largest carriers list a dozen.
const NETWORKS_MAX: usize = 16;
