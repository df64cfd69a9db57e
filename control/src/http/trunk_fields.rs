//! A trunk's fields: what a request may set, and how they are shown.

use serde_json::{Value, json};

use super::body::Fields;
use super::error::ApiError;
use super::native::{bad_field, clearable, flag, number, text, texts};
use super::numbering_fields::{change_numbering, number_of_ours, numbering_json};
use super::trunk_media::{change_media, media_json};
use crate::clock::iso8601;
use crate::model::{E164, host, line, name};
use crate::port::{Reliable, Signalling, TrunkAccess, TrunkPolicy, TrunkRoute};
use crate::secret::{Secret, TRUNK_PASSWORD_PURPOSE};
use crate::store::trunks::{self, Trunk};

/// Sets what the request gives.
///
/// # Errors
/// 400 that names the field and says what it must be.
pub(super) fn change(trunk: &mut TrunkRoute, fields: &Fields, secret: &Secret) -> Result<(), ApiError> {
    fields.only(&FIELDS)?;
    if let Some(given) = text(fields, "name")? {
        trunk.name = name(&given).ok_or_else(|| bad_field("name", "must be 1 to 200 characters"))?;
    }
    if let Some(given) = text(fields, "host")? {
        trunk.host = host(&given).ok_or_else(|| bad_field("host", "must be a host name or an address"))?;
    }
    match fields.given("port") {
        Some(Value::Null) => trunk.port = None,
        _ => {
            if let Some(port) = number(fields, "port", 1..=u16::MAX.into())? {
                trunk.port = Some(port as u16);
            }
        }
    }
    if let Some(given) = text(fields, "transport")? {
        trunk.transport =
            trunks::transport_of(&given).ok_or_else(|| bad_field("transport", "must be udp, tcp, tls or auto"))?;
    }
    if let Some(given) = clearable(fields, "username")? {
        trunk.username = credential(given, "username")?;
    }
    if let Some(given) = clearable(fields, "password")? {
        trunk.password = credential(given, "password")?.map(|text| secret.seal(TRUNK_PASSWORD_PURPOSE, &text));
    }
    if let Some(given) = texts(fields, "numbers", NUMBERS_MAX)? {
        let digits = |number: &String| E164::parse(number).map(|number| number.digits().to_owned());
        let wrong = || ApiError::new(400, "invalid_number", "numbers must be numbers with + and country code.");
        let mut numbers = given.iter().map(|number| digits(number).ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?;
        numbers.sort();
        numbers.dedup();
        trunk.numbers = numbers;
    }
    if let Some(channels) = number(fields, "max_channels", 1..=10_000)? {
        trunk.max_channels = channels;
    }
    if let Some(is_default) = flag(fields, "default")? {
        trunk.is_default = is_default;
    }
    change_access(&mut trunk.access, fields)?;
    change_policy(&mut trunk.policy, fields)?;
    change_numbering(&mut trunk.numbering, fields)?;
    if let Some(given) = clearable(fields, "default_number")? {
        trunk.numbering.default_number = number_of_ours(given, "default_number")?;
    }
    change_signalling(&mut trunk.signalling, fields)?;
    change_media(&mut trunk.media, fields)?;
    agree(trunk)
}

/// Refuses fields that contradict each other.
fn agree(trunk: &TrunkRoute) -> Result<(), ApiError> {
    if trunk.access.register && trunk.username.is_none() {
        return Err(bad_field("register", "needs a username: the account that is registered"));
    }
    let is_listed = |digits: &String| trunk.numbers.is_empty() || trunk.numbers.contains(digits);
    if trunk.numbering.default_number.as_ref().is_some_and(|digits| !is_listed(digits)) {
        return Err(bad_field("default_number", "must be one of the trunk's numbers"));
    }
    Ok(())
}

fn change_access(access: &mut TrunkAccess, fields: &Fields) -> Result<(), ApiError> {
    if let Some(given) = clearable(fields, "domain")? {
        access.domain = optional(given, host, "domain", "must be a host name or an address")?;
    }
    if let Some(given) = clearable(fields, "outbound_proxy")? {
        let what = "must be host, host:port or sip:host:port;transport=tcp";
        access.outbound_proxy = optional(given, |text| line(text, HOP_CHARS_MAX), "outbound_proxy", what)?;
    }
    if let Some(given) = clearable(fields, "auth_username")? {
        access.auth_username = credential(given, "auth_username")?;
    }
    if let Some(register) = flag(fields, "register")? {
        access.register = register;
    }
    if let Some(seconds) = number(fields, "register_expires_s", 60..=86_400)? {
        access.register_expires_s = seconds;
    }
    if let Some(given) = texts(fields, "networks", NETWORKS_MAX)? {
        let wrong = || bad_field("networks", "must be networks as 192.0.2.0/24 or 2001:db8::/32");
        access.networks = given.iter().map(|text| network(text).ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?;
    }
    if let Some(given) = clearable(fields, "tls_fingerprint")? {
        let what = "must be the certificate's SHA-256 fingerprint: 64 hex digits, colons allowed";
        access.tls_fingerprint = optional(given, fingerprint, "tls_fingerprint", what)?;
    }
    if let Some(given) = clearable(fields, "advertise")? {
        let what = "must be a host name or an address, with a port where it is another";
        access.advertise = optional(given, |text| line(text, HOP_CHARS_MAX), "advertise", what)?;
    }
    Ok(())
}

fn change_policy(policy: &mut TrunkPolicy, fields: &Fields) -> Result<(), ApiError> {
    if let Some(priority) = number(fields, "priority", 0..=1000)? {
        policy.priority = priority;
    }
    match fields.given("calls_per_second") {
        Some(Value::Null) => policy.calls_per_second = None,
        _ => {
            if let Some(calls) = number(fields, "calls_per_second", 1..=1000)? {
                policy.calls_per_second = Some(calls);
            }
        }
    }
    if let Some(is_emergency) = flag(fields, "emergency")? {
        policy.is_emergency = is_emergency;
    }
    Ok(())
}

fn change_signalling(signalling: &mut Signalling, fields: &Fields) -> Result<(), ApiError> {
    let or_never = |name: &str, least: u32, most: u32| -> Result<Option<u32>, ApiError> {
        let given = number(fields, name, 0..=most)?;
        if given.is_some_and(|seconds| seconds != 0 && seconds < least) {
            return Err(bad_field(name, &format!("must be 0 for never, or {least} to {most} seconds")));
        }
        Ok(given)
    };
    if let Some(seconds) = or_never("options_interval_s", 10, 3600)? {
        signalling.options_interval_s = seconds;
    }
    if let Some(seconds) = or_never("session_expires_s", 90, 86_400)? {
        signalling.session_expires_s = seconds;
    }
    match text(fields, "reliable")?.as_deref() {
        None => {}
        Some("off") => signalling.reliable = Reliable::Off,
        Some("supported") => signalling.reliable = Reliable::Supported,
        Some("required") => signalling.reliable = Reliable::Required,
        Some(_) => return Err(bad_field("reliable", "must be off, supported or required")),
    }
    if let Some(refer) = flag(fields, "refer")? {
        signalling.refer = refer;
    }
    Ok(())
}

fn optional(
    given: Option<String>,
    parse: impl Fn(&str) -> Option<String>,
    field: &str,
    what: &str,
) -> Result<Option<String>, ApiError> {
    given.map(|text| parse(&text).ok_or_else(|| bad_field(field, what))).transpose()
}

fn credential(given: Option<String>, field: &str) -> Result<Option<String>, ApiError> {
    let what = "must be 1 to 256 characters, none a control character";
    optional(given, |text| line(text, CREDENTIAL_CHARS_MAX), field, what)
}

/// A network as it is written back: `192.0.2.0/24`. A bare address stands for itself.
pub(super) fn network(text: &str) -> Option<String> {
    let (address, bits) =
        text.trim().split_once('/').map_or((text.trim(), None), |(address, bits)| (address, Some(bits)));
    let address: std::net::IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then(|| format!("{address}/{bits}"))
}

fn fingerprint(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|letter| *letter != ':').collect::<String>().to_ascii_lowercase();
    (digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

/// A trunk as every endpoint shows it: never its password.
pub(super) fn trunk_json(trunk: &Trunk) -> Value {
    let Trunk { id, route, created_ms, updated_ms } = trunk;
    let TrunkRoute { access, policy, signalling, .. } = route;
    let mut shown = json!({
        "id": id,
        "name": route.name,
        "host": route.host,
        "port": route.port,
        "transport": trunks::transport_name(route.transport),
        "username": route.username,
        "passwordSet": route.password.is_some(),
        "numbers": route.numbers.iter().map(|digits| format!("+{digits}")).collect::<Vec<_>>(),
        "max_channels": route.max_channels,
        "default": route.is_default,
        "domain": access.domain,
        "outbound_proxy": access.outbound_proxy,
        "auth_username": access.auth_username,
        "register": access.register,
        "register_expires_s": access.register_expires_s,
        "networks": access.networks,
        "tls_fingerprint": access.tls_fingerprint,
        "advertise": access.advertise,
        "priority": policy.priority,
        "calls_per_second": policy.calls_per_second,
        "emergency": policy.is_emergency,
        "default_number": route.numbering.default_number.as_ref().map(|digits| format!("+{digits}")),
        "options_interval_s": signalling.options_interval_s,
        "session_expires_s": signalling.session_expires_s,
        "reliable": signalling.reliable,
        "refer": signalling.refer,
        "created_at": iso8601(*created_ms),
        "updated_at": iso8601(*updated_ms),
    });
    numbering_json(&route.numbering, &mut shown);
    media_json(&route.media, &mut shown);
    shown
}

/// What a request may carry.
const FIELDS: [&str; 36] = [
    "name",
    "host",
    "port",
    "transport",
    "username",
    "password",
    "numbers",
    "max_channels",
    "default",
    "domain",
    "outbound_proxy",
    "auth_username",
    "register",
    "register_expires_s",
    "networks",
    "tls_fingerprint",
    "advertise",
    "priority",
    "calls_per_second",
    "emergency",
    "default_number",
    "country_code",
    "national_prefix",
    "international_prefix",
    "dial_format",
    "caller_id",
    "options_interval_s",
    "session_expires_s",
    "reliable",
    "refer",
    "codecs",
    "ptime_ms",
    "srtp",
    "sdes_over_plain",
    "dtmf",
    "media_networks",
];

/// 256 characters: more than any provider's.
const CREDENTIAL_CHARS_MAX: usize = 256;

/// 300 characters: a host name of 253 with a scheme, a port and a transport.
const HOP_CHARS_MAX: usize = 300;

/// 10,000 numbers of 15 digits: 150 kB in the snapshot.
const NUMBERS_MAX: usize = 10_000;

/// 64 networks: the largest carriers list a dozen.
const NETWORKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_with_a_length_it_can_have() {
        assert_eq!(network("192.0.2.0/24").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(network(" 192.0.2.7 ").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(network("2001:db8::/32").as_deref(), Some("2001:db8::/32"));
        for text in ["192.0.2.0/33", "::/129", "192.0.2/24", "host/24", "192.0.2.0/", "/24", ""] {
            assert_eq!(network(text), None, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_is_taken_as_openssl_prints_it() {
        let printed = ["AB"; 32].join(":");
        assert_eq!(fingerprint(&printed), Some("ab".repeat(32)));
        assert_eq!(fingerprint("ab"), None);
        assert_eq!(fingerprint(&"zz".repeat(32)), None);
    }
}
