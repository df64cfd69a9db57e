//! Messages: start line, header fields, body (RFC 3261 §7).
//!
//! A message that parses has all that a transaction needs in typed form; everything else stays as it came.

mod diversion;
mod fault;
mod headers;
mod identity;
mod method;
mod name_addr;
mod passport;
mod reason;
mod replaces;
mod uri;
mod via;

pub use diversion::{Diversion, HistoryEntry};
pub use fault::{Fault, Rejected};
pub use headers::{Header, HeaderName, Headers};
pub use identity::{Attestation, Caller, CallerIdentity, Privacy, RemoteParty, Trust, Verstat, Withholds};
pub use method::Method;
pub use name_addr::NameAddr;
pub use passport::{Claims, Passport};
pub use reason::Reason;
pub use replaces::Replaces;
pub use uri::{Host, Params, SipUri, Uri};
pub use via::Via;

pub(crate) use headers::split;
pub(crate) use via::COOKIE;

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Something is asked for.
    Request(Request),
    /// Something was answered.
    Response(Response),
}

/// A request (RFC 3261 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// Of whom.
    pub uri: Uri,
    /// What every message has.
    pub core: Core,
    /// All header fields.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// A response (RFC 3261 §7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The phrase behind the code, for people; at most 80 letters.
    pub phrase: String,
    /// What every message has.
    pub core: Core,
    /// All header fields.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// The header fields that every message must have (RFC 3261 §8.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// The topmost Via.
    pub via: Via,
    /// Who asks.
    pub from: NameAddr,
    /// Who is asked.
    pub to: NameAddr,
    /// The dialog's or request's name.
    pub call_id: String,
    /// The request's number in its dialog, below 2^31.
    pub cseq: u32,
    /// The method that CSeq names.
    pub cseq_method: Method,
}

/// How a message was delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One datagram: Content-Length may be absent, octets behind it are ignored (RFC 3261 §18.3).
    Datagram,
    /// Cut from a stream by its Content-Length.
    Stream,
}

/// Reads one message.
///
/// # Errors
/// [`Rejected`]: what is wrong, and the header fields to answer from where that is possible.
pub fn parse(bytes: &[u8], framing: Framing) -> Result<Message, Rejected> {
    let lost = |fault| Rejected { fault, salvage: None };
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(lost(Fault::TooLarge));
    }
    let bytes = skip_empty_lines(bytes);
    let (head, body, end_fault) = split_head(bytes);
    let (start, fields) = match head.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&head[..at], &head[at + 1..]),
        None => (head, &head[..0]),
    };
    let start = String::from_utf8_lossy(start.strip_suffix(b"\r").unwrap_or(start)).into_owned();
    let (headers, field_fault) = read_headers(fields);
    let field_fault = end_fault.or(field_fault);
    if let Some(rest) = after_protocol(&start) {
        if let Some(fault) = field_fault {
            return Err(lost(fault));
        }
        return response(rest, headers, body, framing).map(Message::Response).map_err(lost);
    }
    match request(&start, &headers, field_fault, body, framing) {
        Ok(read) => Ok(Message::Request(Request { headers, ..read })),
        Err(fault) => {
            let is_answerable = !start.starts_with("ACK ") && headers.raw("Via").next().is_some();
            Err(Rejected { fault, salvage: is_answerable.then_some(headers) })
        }
    }
}

/// The phrase for a status (RFC 3261 §21).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        608 => "Rejected",
        _ => "Unknown",
    }
}

fn request(
    start: &str,
    headers: &Headers,
    field_fault: Option<Fault>,
    body: &[u8],
    framing: Framing,
) -> Result<Request, Fault> {
    // RFC 3261 §25.1 wants single spaces; more of them are let through where nothing becomes ambiguous.
    let mut words = start.split_ascii_whitespace();
    let (Some(method), Some(uri), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Fault::StartLine);
    };
    let method = Method::parse(method).ok_or(Fault::StartLine)?;
    let version = after_protocol(version).ok_or(Fault::StartLine)?;
    if version != "2.0" {
        return Err(Fault::Version);
    }
    let uri = Uri::parse(uri).ok_or(Fault::RequestUri)?;
    if let Some(fault) = field_fault {
        return Err(fault);
    }
    let core = core(headers)?;
    if core.cseq_method != method {
        return Err(Fault::CSeqMethod);
    }
    scalar(headers, "Max-Forwards", u64::from(u8::MAX))?;
    scalar(headers, "Expires", u64::from(u32::MAX))?;
    let body = cut_body(headers, body, framing)?.to_vec();
    Ok(Request { method, uri, core, headers: Headers::default(), body })
}

fn response(start: &str, headers: Headers, body: &[u8], framing: Framing) -> Result<Response, Fault> {
    let (version, rest) = start.split_once(' ').ok_or(Fault::StartLine)?;
    if version != "2.0" {
        return Err(Fault::Version);
    }
    let (status, phrase) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = status.parse().ok().filter(|code| (100..700).contains(code)).ok_or(Fault::StatusCode)?;
    let core = core(&headers)?;
    let body = cut_body(&headers, body, framing)?.to_vec();
    let phrase = phrase.chars().filter(|letter| !letter.is_control()).take(PHRASE_MAX).collect();
    Ok(Response { status, phrase, core, headers, body })
}

fn core(headers: &Headers) -> Result<Core, Fault> {
    let via = headers.elements("Via").into_iter().next().ok_or(Fault::Missing("Via"))?;
    let cseq = single(headers, "CSeq")?;
    let (number, method) = cseq.trim().split_once(char::is_whitespace).ok_or(Fault::Malformed("CSeq"))?;
    // RFC 3261 §8.1.1.5: less than 2^31.
    let cseq_number = uri::digits::<u32>(number).filter(|number| *number < 1 << 31).ok_or(Fault::Malformed("CSeq"))?;
    Ok(Core {
        via: Via::parse(&via).ok_or(Fault::Malformed("Via"))?,
        from: NameAddr::parse(&single(headers, "From")?).ok_or(Fault::Malformed("From"))?,
        to: NameAddr::parse(&single(headers, "To")?).ok_or(Fault::Malformed("To"))?,
        call_id: Some(single(headers, "Call-ID")?).filter(|id| !id.is_empty()).ok_or(Fault::Malformed("Call-ID"))?,
        cseq: cseq_number,
        cseq_method: Method::parse(method.trim()).ok_or(Fault::Malformed("CSeq"))?,
    })
}

/// The value of a header field that must stand exactly once.
fn single(headers: &Headers, name: &'static str) -> Result<String, Fault> {
    let mut values = headers.texts(name);
    let value = values.next().ok_or(Fault::Missing(name))?.into_owned();
    if values.next().is_some() { Err(Fault::Repeated(name)) } else { Ok(value) }
}

/// Checks a number that may be absent.
fn scalar(headers: &Headers, name: &'static str, max: u64) -> Result<Option<u64>, Fault> {
    let mut values = headers.texts(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::Repeated(name));
    }
    uri::digits(value.trim()).filter(|number| *number <= max).map(Some).ok_or(Fault::Malformed(name))
}

fn cut_body<'a>(headers: &Headers, body: &'a [u8], framing: Framing) -> Result<&'a [u8], Fault> {
    let length = scalar(headers, "Content-Length", u64::MAX)?;
    match (length, framing) {
        (Some(length), _) => {
            // Only a message that is too long comes from a stream without its whole body.
            let fault = if framing == Framing::Stream { Fault::TooLarge } else { Fault::Truncated };
            usize::try_from(length).ok().and_then(|length| body.get(..length)).ok_or(fault)
        }
        (None, Framing::Datagram) => Ok(body),
        (None, Framing::Stream) => Err(Fault::Missing("Content-Length")),
    }
}

fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
        bytes = rest;
    }
    bytes
}

/// What follows `SIP/`, in any case (RFC 3261 §7.1).
fn after_protocol(text: &str) -> Option<&str> {
    let (protocol, rest) = text.split_at_checked(4)?;
    protocol.eq_ignore_ascii_case("SIP/").then_some(rest)
}

/// Splits behind the empty line. A head without one but with a whole last line has no body; one that breaks off within
/// a line is read up to there, to answer from.
fn split_head(bytes: &[u8]) -> (&[u8], &[u8], Option<Fault>) {
    let mut line_start = 0;
    while let Some(length) = bytes[line_start..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[line_start..line_start + length];
        let next = line_start + length + 1;
        if line.is_empty() || line == b"\r" {
            return (&bytes[..line_start], &bytes[next..], None);
        }
        line_start = next;
    }
    let breaks_off = line_start < bytes.len() || bytes.is_empty();
    (&bytes[..line_start], &[], breaks_off.then_some(Fault::Unterminated))
}

/// Reads the fields one by one; a malformed line is remembered and the rest still read, to answer from.
fn read_headers(fields: &[u8]) -> (Headers, Option<Fault>) {
    let mut headers = Headers::default();
    let mut fault = None;
    let mut lines = fields.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            fault.get_or_insert(Fault::HeaderLine);
            continue;
        };
        let name = line[..colon].trim_ascii();
        let mut value = line[colon + 1..].trim_ascii().to_vec();
        while let Some(fold) = lines.next_if(|next| next.first().is_some_and(|byte| *byte == b' ' || *byte == b'\t')) {
            if !value.is_empty() {
                value.push(b' ');
            }
            value.extend_from_slice(fold.trim_ascii());
        }
        let is_token = !name.is_empty() && name.iter().all(|byte| method::is_token_byte(*byte));
        match std::str::from_utf8(name) {
            Ok(name) if is_token => headers.push(name, value),
            _ => drop(fault.get_or_insert(Fault::HeaderLine)),
        }
        if headers.len() > HEADERS_MAX {
            return (headers, Some(Fault::TooManyHeaders));
        }
    }
    (headers, fault)
}

/// 64 KiB: the largest datagram there is.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// 80 letters: a line of a log; the longest phrase of an RFC has 36.
const PHRASE_MAX: usize = 80;

/// 256 fields; RFC 4475's longest message has 40.
const HEADERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_folds_compact_names_and_spaces() {
        let text = "INVITE sip:bob@biloxi.example SIP/2.0\r\nv: SIP/2.0/UDP pc33;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b\r\n\
            t:\r\n  <sip:bob@biloxi.example>\r\nFrom : \"A\" <sip:a@b>;tag=7\r\ni: x@y\r\nCSeq: 0009\r\n INVITE\r\nl: 3\r\n\r\nabcd";
        let Ok(Message::Request(request)) = parse(text.as_bytes(), Framing::Datagram) else { panic!("no request") };
        assert_eq!((request.core.cseq, &request.core.cseq_method), (9, &Method::Invite));
        assert_eq!(request.core.from.tag(), Some("7"));
        assert_eq!(request.core.via.branch(), Some("z9hG4bK1"));
        assert_eq!(request.headers.elements("Via").len(), 2);
        assert_eq!(request.body, b"abc", "octets behind the Content-Length are not the message's");
    }

    #[test]
    fn what_is_wrong_is_named_and_answered_where_it_can_be() {
        for (change, fault) in [
            (("CSeq: 1 INVITE", "CSeq: 1 BYE"), Fault::CSeqMethod),
            (("CSeq: 1 INVITE", "CSeq: 36893488147419103232 INVITE"), Fault::Malformed("CSeq")),
            (("From: <sip:a@b>;tag=7\r\n", ""), Fault::Missing("From")),
            (("To: <sip:c@d>", "To: <sip:c@d"), Fault::Malformed("To")),
            (("Call-ID: x", "Call-ID: x\r\nCall-ID: y"), Fault::Repeated("Call-ID")),
            (("Content-Length: 0", "Content-Length: 9"), Fault::Truncated),
            (("Content-Length: 0", "Content-Length: -1"), Fault::Malformed("Content-Length")),
            (("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), Fault::Version),
            (("sip:c@d SIP", "<sip:c@d> SIP"), Fault::RequestUri),
            (("sip:c@d SIP", "sip:c@d; lr SIP"), Fault::StartLine),
            (("Max-Forwards: 70", "Max-Forwards: 300"), Fault::Malformed("Max-Forwards")),
            (("Max-Forwards: 70", "nonsense"), Fault::HeaderLine),
        ] {
            let text = INVITE.replacen(change.0, change.1, 1);
            assert_ne!(text, INVITE);
            let rejected = parse(text.as_bytes(), Framing::Datagram).expect_err(change.1);
            assert_eq!(rejected.fault, fault, "{change:?}");
            assert!(rejected.salvage.is_some(), "{change:?} can be answered");
        }
    }

    #[test]
    fn a_broken_ack_or_response_is_never_answered() {
        let ack = INVITE.replace("INVITE", "ACK").replace("Call-ID: x\r\n", "");
        assert_eq!(parse(ack.as_bytes(), Framing::Datagram).expect_err("broken").salvage, None);
        let response = INVITE.replace("INVITE sip:c@d SIP/2.0", "SIP/2.0 4294967301 better not break");
        let rejected = parse(response.as_bytes(), Framing::Datagram).expect_err("broken");
        assert_eq!((rejected.fault, rejected.salvage), (Fault::StatusCode, None));
    }

    #[test]
    fn mutated_messages_never_panic() {
        let mut random = 0x2545_f491u32;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random as usize
        };
        for _ in 0..20_000 {
            let mut bytes = INVITE.as_bytes().to_vec();
            for _ in 0..1 + next() % 6 {
                let at = next() % bytes.len().max(1);
                match next() % 3 {
                    0 if !bytes.is_empty() => bytes[at] = next() as u8,
                    1 if !bytes.is_empty() => drop(bytes.drain(at..(at + next() % 9).min(bytes.len()))),
                    _ => bytes.insert(at.min(bytes.len()), b"\r\n;<>\":, @[]%"[next() % 13]),
                }
            }
            let _ = parse(&bytes, if next() % 2 == 0 { Framing::Datagram } else { Framing::Stream });
        }
    }

    const INVITE: &str = "INVITE sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:a@b>;tag=7\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
}
