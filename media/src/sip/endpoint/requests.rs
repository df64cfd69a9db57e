//! Requests from outside: what is checked before anybody sees them (RFC 3261 §8.2, §12.2.2).

use std::time::Instant;

use super::extensions::{ALLOW, Extensions, SUPPORTED};
use super::respond::Reply;
use super::{Asked, DialogId, Endpoint, Flow, RefusalSeen, Server, TransactionKey};
use crate::sip::message::{Headers, Method, Request, Response, Uri, reason_phrase};
use crate::sip::session_timer::{INTERVAL_MIN, SessionExpires};
use crate::sip::transaction::server_invite;
use crate::sip::transaction::server_non_invite::ServerNonInvite;

impl Endpoint {
    pub(super) fn handle_request(&mut self, flow: &Flow, request: Request, now: Instant) {
        let key = server_key(&request, &request.method);
        match self.servers.get_mut(&key) {
            // RFC 6026 §7.1: an ACK that comes to an accepted INVITE is the dialog's. By RFC 3261 its branch differs
            // from the INVITE's; by RFC 2543, and with phones that keep to it, it does not.
            Some(Server::Invite { machine, .. }) if request.method == Method::Ack && machine.is_accepted() => {
                return self.handle_dialog_ack(&request, now);
            }
            Some(Server::Invite { machine, .. }) if request.method == Method::Ack => {
                machine.handle_ack(now);
                return self.schedule_server(key);
            }
            Some(Server::Invite { machine, flow, .. }) => {
                if let server_invite::Action::Send(bytes) = machine.handle_retransmission() {
                    let (flow, bytes) = (*flow, bytes.to_vec());
                    self.send(flow, bytes);
                }
                return;
            }
            Some(Server::Other { machine, flow, .. }) => {
                let (flow, bytes) = (*flow, machine.handle_retransmission().map(<[u8]>::to_vec));
                return bytes.into_iter().for_each(|bytes| self.send(flow, bytes));
            }
            None => {}
        }
        if request.method == Method::Ack {
            return self.handle_dialog_ack(&request, now);
        }
        if let Some(refusal) = self.refusal(flow, &request) {
            self.counters.refused += 1;
            return self.reply(flow, &request, refusal, now);
        }
        let in_dialog = request.core.to.tag().is_some();
        match &request.method {
            Method::Invite if in_dialog => self.handle_reinvite(flow, request, now),
            Method::Invite => self.handle_invite(flow, request, now),
            Method::Cancel => self.handle_cancel(flow, &request, now),
            Method::Bye => self.handle_bye(flow, &request, now),
            Method::Info => self.handle_info(flow, &request, now),
            Method::Prack => self.handle_prack(flow, &request, now),
            Method::Update => self.handle_update(flow, &request, now),
            Method::Refer if in_dialog => self.handle_refer(flow, &request, now),
            Method::Notify => self.handle_notify(flow, &request, now),
            Method::Refer => {
                let reply = Reply::new(403).because("REFER is taken within a call only");
                self.reply(flow, &request, reply, now);
            }
            Method::Options if in_dialog => {
                self.handle_in_dialog(flow, &request, capabilities(Reply::new(200)), now);
            }
            Method::Register => self.handle_register(flow, request, now),
            Method::Options => self.reply(flow, &request, capabilities(Reply::new(200)), now),
            _ => {
                self.counters.refused += 1;
                let rule = format!("this box serves no {} here", request.method);
                self.reply(flow, &request, Reply::new(405).with("Allow", ALLOW).because(rule), now);
            }
        }
    }

    /// Answers a request at once and remembers the answer for retransmissions.
    pub(super) fn reply(&mut self, flow: &Flow, request: &Request, reply: Reply, now: Instant) {
        let tag = self.tag();
        self.reply_tagged(flow, request, reply, tag, now);
    }

    /// As [`Endpoint::reply`], with the To tag of an earlier response.
    pub(super) fn reply_tagged(&mut self, flow: &Flow, request: &Request, reply: Reply, tag: String, now: Instant) {
        let bytes = reply.write(&request.headers, flow, Some(&tag), &self.config.server);
        let back = self.reply_flow(flow, &request.headers);
        let dialog = self.dialog_of(request);
        self.see_own_refusal(&reply, &request.method, back, dialog);
        self.send(back, bytes.clone());
        let key = server_key(request, &request.method);
        if self.is_flooded() {
            return;
        }
        if request.method == Method::Invite {
            let mut machine = server_invite::ServerInvite::new(Vec::new(), back.reliability(), self.config.timers);
            machine.respond(reply.status, bytes, now);
            let server =
                Server::Invite { machine, flow: back, headers: request.headers.clone(), to_tag: tag, dialog: None };
            self.remember_server(key.clone(), server);
        } else {
            let machine = ServerNonInvite::answered(bytes, back.reliability(), self.config.timers, now);
            self.remember_server(key.clone(), Server::Other { machine, flow: back, asked: None });
        }
        self.schedule_server(key);
    }

    /// Begins the transaction of a request other than INVITE whose answer comes later, by
    /// [`Endpoint::respond_waiting`].
    pub(super) fn begin_waiting(
        &mut self,
        flow: &Flow,
        request: &Request,
        to_tag: String,
        now: Instant,
    ) -> TransactionKey {
        let key = server_key(request, &request.method);
        let machine = ServerNonInvite::waiting(self.config.timers, now);
        let (method, headers) = (request.method.clone(), request.headers.clone());
        let asked = Some(Box::new(Asked { method, headers, to_tag, source: *flow }));
        let back = self.reply_flow(flow, &request.headers);
        self.remember_server(key.clone(), Server::Other { machine, flow: back, asked });
        self.schedule_server(key.clone());
        key
    }

    /// Answers a request that waits; `false` when it waits no more.
    pub(super) fn respond_waiting(
        &mut self,
        key: &TransactionKey,
        reply: &Reply,
        dialog: Option<DialogId>,
        now: Instant,
    ) -> bool {
        let waits = matches!(self.servers.get(key), Some(Server::Other { asked: Some(_), .. }));
        // What it kept of the request goes; what it keeps of the response is counted anew.
        let server = if waits { self.take_server(key) } else { None };
        let Some(Server::Other { mut machine, flow, asked: Some(asked) }) = server else { return false };
        let bytes = reply.write(&asked.headers, &asked.source, Some(&asked.to_tag), &self.config.server);
        let is_first = machine.respond(bytes.clone(), flow.reliability(), self.config.timers, now);
        self.remember_server(key.clone(), Server::Other { machine, flow, asked: None });
        self.schedule_server(key.clone());
        if is_first {
            self.see_own_refusal(reply, &asked.method, flow, dialog);
            self.send(flow, bytes);
        }
        is_first
    }

    /// Tells of a refusal that we send. A challenge is none, unless a rule made it the end of an attempt.
    pub(super) fn see_own_refusal(&mut self, reply: &Reply, method: &Method, flow: Flow, dialog: Option<DialogId>) {
        if matches!(reply.status, 401 | 407) && reply.rule.is_none() {
            return;
        }
        let rule = reply.rule.clone().unwrap_or_else(|| reason_phrase(reply.status).to_owned());
        let method = method.clone();
        self.see_refusal(RefusalSeen { is_ours: true, status: reply.status, method, flow, dialog, rule });
    }

    /// Refuses what this element cannot serve, in the order of RFC 3261 §8.2.
    fn refusal(&self, flow: &Flow, request: &Request) -> Option<Reply> {
        if let Method::Unknown(_) = request.method {
            return Some(Reply::new(501).with("Allow", ALLOW).because("no RFC known here has this method"));
        }
        if let Uri::Other(_) = request.uri {
            return Some(Reply::new(416).because("the Request-URI is neither sip, sips nor tel"));
        }
        if request.method == Method::Cancel {
            // RFC 3261 §9.1: a CANCEL has no Require.
            return None;
        }
        let is_secure = request.uri.sip().is_some_and(|uri| uri.secure);
        if is_secure && request.core.to.tag().is_none() && !flow.transport.is_secure() {
            // RFC 5630: 416 would say that this element knows no sips at all, and invite the same without.
            let warning = format!("380 {} \"SIPS Not Allowed\"", flow.local);
            let reply = Reply::new(480).with("Warning", warning);
            return Some(reply.because("its Request-URI is sips, and it has not come under TLS"));
        }
        let mut unsupported = request.headers.elements("Require");
        let of_register: &[&str] = if request.method == Method::Register { &REGISTER_SUPPORTED } else { &[] };
        let is_served = |tag: &str| SUPPORTED.iter().chain(of_register).any(|known| known.eq_ignore_ascii_case(tag));
        unsupported.retain(|tag| !is_served(tag));
        if !unsupported.is_empty() {
            let tags = unsupported.join(", ");
            let rule = format!("it requires extensions that this box lacks: {tags}");
            return Some(Reply::new(420).with("Unsupported", tags).because(rule));
        }
        let is_invite = request.method == Method::Invite;
        if is_invite && request.core.to.tag().is_none() && hops_left(request) == Some(0) {
            // A call may cause another one here: without this a loop through two boxes never ends. Other requests end
            // here, whatever they have left (RFC 4475 §3.3.11).
            return Some(Reply::new(483).because("Max-Forwards is 0"));
        }
        let is_joined = is_invite && request.headers.text("Join").is_some();
        if request.headers.text("Replaces").is_some() && (!is_invite || is_joined) {
            // RFC 3891 §3.
            return Some(Reply::new(400).because("Replaces stands in an INVITE only, and not beside Join"));
        }
        let has_description = matches!(request.method, Method::Invite | Method::Update | Method::Prack);
        if has_description && !request.body.is_empty() && !carries_sdp(request) {
            let reply = Reply::new(415).with("Accept", "application/sdp").with("Accept-Encoding", "identity");
            return Some(reply.because("its body is no session description that can be read here"));
        }
        if is_invite && !accepts_sdp(request) {
            return Some(Reply::new(406).because("its Accept leaves application/sdp out"));
        }
        let is_refresh = matches!(request.method, Method::Invite | Method::Update);
        if is_refresh { refuse_interval(request) } else { None }
    }
}

/// Refuses a session refresh request whose interval is too small or unreadable (RFC 4028 §9).
fn refuse_interval(request: &Request) -> Option<Reply> {
    let Ok(asked) = SessionExpires::of(&request.headers) else {
        return Some(Reply::new(400).because("its Session-Expires or Min-SE cannot be read"));
    };
    let is_too_small = asked.answer(Some(INTERVAL_MIN)).is_err();
    let min = INTERVAL_MIN.as_secs().to_string();
    is_too_small.then(|| Reply::new(422).with("Min-SE", min).because("its session interval is under 90 s"))
}

/// Adds what an OPTIONS response tells (RFC 3261 §11.2).
pub(super) fn capabilities(reply: Reply) -> Reply {
    reply
        .with("Allow", ALLOW)
        .with("Accept", "application/sdp")
        .with("Accept-Encoding", "identity")
        .with("Supported", Extensions::default().supported())
}

/// The name of the transaction that a request belongs to, seen as `method` (RFC 3261 §17.2.3).
pub(super) fn server_key(request: &Request, method: &Method) -> TransactionKey {
    let method = if *method == Method::Ack { &Method::Invite } else { method };
    let core = &request.core;
    let text = match core.via.branch() {
        Some(branch) => {
            let port = core.via.port.unwrap_or(5060);
            format!("{branch}|{}|{port}|{method}", core.via.host)
        }
        // A client of RFC 2543: the fields that its retransmissions share.
        None => {
            let from = core.from.tag().unwrap_or_default();
            format!("2543|{}|{from}|{}|{}|{}|{method}", request.uri, core.call_id, core.cseq, core.via)
        }
    };
    TransactionKey(text.into())
}

/// The session description of a request: its body, or the first such part of a multipart body.
pub(super) fn sdp_of(request: &Request) -> Option<Vec<u8>> {
    sdp_in(&request.headers, &request.body)
}

/// The session description of a response; a body of another type is none.
pub(super) fn sdp_of_response(response: &Response) -> Option<Vec<u8>> {
    let content_type = response.headers.text("Content-Type").unwrap_or("application/sdp".into());
    let is_sdp = boundary(&content_type).is_some() || media_type(&content_type).eq_ignore_ascii_case("application/sdp");
    sdp_in(&response.headers, &response.body).filter(|_| is_sdp)
}

fn sdp_in(headers: &Headers, body: &[u8]) -> Option<Vec<u8>> {
    if body.is_empty() {
        return None;
    }
    let content_type = headers.text("Content-Type").unwrap_or_default();
    match boundary(&content_type) {
        None => Some(body.to_vec()),
        Some(boundary) => sdp_part(body, &boundary),
    }
}

fn carries_sdp(request: &Request) -> bool {
    if !request.headers.elements("Content-Encoding").iter().all(|coding| coding.eq_ignore_ascii_case("identity")) {
        return false;
    }
    let content_type = request.headers.texts("Content-Type").next().unwrap_or_default().into_owned();
    match boundary(&content_type) {
        Some(boundary) => sdp_part(&request.body, &boundary).is_some(),
        None => media_type(&content_type).eq_ignore_ascii_case("application/sdp"),
    }
}

/// Max-Forwards, where it stands.
fn hops_left(request: &Request) -> Option<u8> {
    request.headers.text("Max-Forwards")?.trim().parse().ok()
}

/// Accept names application/sdp, or a range that holds it, or is absent (RFC 3261 §20.1).
fn accepts_sdp(request: &Request) -> bool {
    let ranges = request.headers.elements("Accept");
    request.headers.raw("Accept").next().is_none()
        || ranges.iter().any(|range| {
            matches!(media_type(range).to_ascii_lowercase().as_str(), "application/sdp" | "application/*" | "*/*")
        })
}

/// `type/subtype` without parameters.
pub(super) fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().split_ascii_whitespace().collect()
}

/// The boundary of a multipart body (RFC 5621).
fn boundary(content_type: &str) -> Option<String> {
    if !media_type(content_type).to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    parameter.filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)
}

fn sdp_part(body: &[u8], boundary: &str) -> Option<Vec<u8>> {
    let delimiter = format!("--{boundary}");
    let mut rest = &body[find(body, delimiter.as_bytes())? + delimiter.len()..];
    for _ in 0..PARTS_MAX {
        let end = find(rest, delimiter.as_bytes())?;
        let part = &rest[..end];
        rest = &rest[end + delimiter.len()..];
        let Some(head_end) = find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..head_end]).to_ascii_lowercase();
        if head.contains("content-type:") && head.contains("application/sdp") {
            let content = &part[head_end + 4..];
            return Some(content.strip_suffix(b"\r\n").unwrap_or(content).to_vec());
        }
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// What a REGISTER may require beside: RFC 3327, RFC 5626.
const REGISTER_SUPPORTED: [&str; 2] = ["path", "outbound"];

/// 16 parts: an INVITE with a description, a picture, a location and a signature has four.
const PARTS_MAX: usize = 16;
