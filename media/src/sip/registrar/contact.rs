//! What a REGISTER asks for, and what it is told of the outcome (RFC 3261 §10.3, steps 6 to 8).

use std::time::{Duration, Instant};

use super::binding::Binding;
use crate::sip::endpoint::{Flow, OutsideReply};
use crate::sip::message::{NameAddr, Request, Uri};

/// What is asked for.
pub(super) enum Wanted {
    /// Only to be told.
    Nothing,
    /// `Contact: *`.
    NoneAtAll,
    /// Each of these.
    These(Vec<Wish>),
}

/// One Contact.
pub(super) struct Wish {
    pub(super) binding: Binding,
    /// Its life is 0.
    pub(super) is_removal: bool,
}

impl Wanted {
    pub(super) fn of(request: &Request, flow: &Flow, now: Instant) -> Result<Self, OutsideReply> {
        let contacts = request.headers.elements("Contact");
        if contacts.len() > CONTACTS_MAX || request.core.call_id.len() > CALL_ID_MAX {
            return Err(malformed("it has more than any phone writes"));
        }
        let common = request.headers.text("Expires").map(|value| seconds(&value));
        if contacts.is_empty() {
            return Ok(Wanted::Nothing);
        }
        if contacts.iter().any(|contact| contact == "*") {
            // RFC 3261 §10.2.2: alone, and with an Expires of 0.
            return match (contacts.len(), common) {
                (1, Some(0)) => Ok(Wanted::NoneAtAll),
                _ => Err(malformed("Contact: * stands alone and with Expires: 0")),
            };
        }
        let path = request.headers.elements("Path");
        if path.len() > PATHS_MAX || path.iter().any(|value| value.len() > CONTACT_BYTES_MAX) {
            return Err(malformed("its Path is longer than any"));
        }
        let uses_flows = request.headers.lists("Supported", "outbound");
        let wish = |text: &String| wish(text, common, &path, uses_flows, (request, flow), now);
        contacts.iter().map(wish).collect::<Result<_, _>>().map(Wanted::These)
    }
}

fn wish(
    text: &str,
    common: Option<u64>,
    path: &[String],
    uses_flows: bool,
    (request, flow): (&Request, &Flow),
    now: Instant,
) -> Result<Wish, OutsideReply> {
    let read = NameAddr::parse(text).filter(|_| text.len() <= CONTACT_BYTES_MAX);
    // RFC 3261 §20.10: an address with a question mark stands in brackets.
    let Some(read) = read.filter(|_| text.contains('<') || !text.contains('?')) else {
        return Err(malformed("its Contact cannot be read"));
    };
    if read.uri.sip().is_none() {
        return Err(malformed("its Contact is no sip address"));
    }
    let own = read.params.text("expires").map(seconds);
    let expires = own.or(common).map_or(EXPIRES_MAX, Duration::from_secs).min(EXPIRES_MAX);
    if !expires.is_zero() && expires < EXPIRES_MIN {
        let minimum = EXPIRES_MIN.as_secs().to_string();
        return Err(OutsideReply::new(423)
            .with("Min-Expires", minimum)
            .because("a binding lives for at least 60 s here"));
    }
    let instance = read.params.text("+sip.instance").map(|value| value.trim_matches('"').to_owned());
    let reg_id = read.params.text("reg-id").and_then(|value| value.parse().ok());
    let user_agent = request.headers.text("User-Agent");
    let binding = Binding {
        q: read.params.text("q").and_then(thousandths).unwrap_or(1000),
        // RFC 5626 §6: without an instance, or without the extension, it means nothing.
        reg_id: reg_id.filter(|_| uses_flows && instance.is_some()),
        instance,
        path: path.to_vec(),
        flow: *flow,
        user_agent: user_agent.map(|text| text.chars().filter(|letter| !letter.is_control()).take(AGENT_MAX).collect()),
        expires_at: now + expires,
        call_id: request.core.call_id.clone(),
        cseq: request.core.cseq,
        contact: read.uri,
    };
    Ok(Wish { binding, is_removal: expires.is_zero() })
}

/// The 200 with all that is bound.
pub(super) fn granted(request: &Request, flow: &Flow, bound: &[Binding], now: Instant) -> OutsideReply {
    let mut reply = OutsideReply::new(200);
    for binding in bound {
        let left = binding.expires_at.saturating_duration_since(now).as_secs();
        let mut value = format!("<{}>;expires={left}", without_headers(&binding.contact));
        if binding.q < 1000 {
            value.push_str(&format!(";q={:.3}", f64::from(binding.q) / 1000.0));
        }
        if let Some(instance) = &binding.instance {
            value.push_str(&format!(";+sip.instance=\"{instance}\""));
        }
        if let Some(reg_id) = binding.reg_id {
            value.push_str(&format!(";reg-id={reg_id}"));
        }
        reply = reply.with("Contact", value);
    }
    if request.headers.lists("Supported", "path") {
        // RFC 3327 §5.3: it learns which way it will be called.
        for path in request.headers.elements("Path") {
            reply = reply.with("Path", path);
        }
    }
    let is_of_this = |binding: &&Binding| binding.reg_id.is_some() && binding.flow == *flow;
    if flow.stream.is_some() && bound.iter().any(|binding| is_of_this(&binding)) {
        // RFC 5626 §6: its flows are used; over datagrams that would promise STUN.
        reply = reply.with("Require", "outbound");
    }
    reply.with("Supported", "path, outbound")
}

fn without_headers(uri: &Uri) -> Uri {
    match uri {
        Uri::Sip(uri) => Uri::Sip(crate::sip::message::SipUri { headers: None, ..uri.clone() }),
        other => other.clone(),
    }
}

fn malformed(rule: &str) -> OutsideReply {
    OutsideReply::new(400).because(rule)
}

/// Delta-seconds; what is malformed is an hour (RFC 3261 §10.2.1.1), what is beyond counting is the most.
fn seconds(text: &str) -> u64 {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().unwrap_or(u64::MAX) } else { EXPIRES_MAX.as_secs() }
}

/// `0` to `1` with at most three decimals (RFC 3261 §25.1).
fn thousandths(text: &str) -> Option<u16> {
    let value: f32 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&value).then(|| (value * 1000.0).round() as u16)
}

/// 60 s: a shorter life is a keep-alive, for which there is better.
const EXPIRES_MIN: Duration = Duration::from_secs(60);

/// 3,600 s: a phone that was unplugged is forgotten within the hour.
pub(super) const EXPIRES_MAX: Duration = Duration::from_secs(3600);

/// 10 Contacts in one request: as many as a user may have.
const CONTACTS_MAX: usize = 10;

/// 512 octets: a Contact with instance, GRUU and methods has 300.
const CONTACT_BYTES_MAX: usize = 512;

/// 8 proxies between a phone and us.
const PATHS_MAX: usize = 8;

/// 255 octets: the longest Call-IDs met have 100.
const CALL_ID_MAX: usize = 255;

/// 128 letters: a line of a table.
const AGENT_MAX: usize = 128;
