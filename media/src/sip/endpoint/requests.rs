//! Requests from outside: what is checked before anybody sees them (RFC 3261 §8.2, §12.2.2).

use std::time::Instant;

use super::respond::Reply;
use super::{Endpoint, Flow, Server, TransactionKey};
use crate::sip::message::{Headers, Method, Request, Response, Uri};
use crate::sip::transaction::server_invite;
use crate::sip::transaction::server_non_invite::ServerNonInvite;

impl Endpoint {
    pub(super) fn handle_request(&mut self, flow: &Flow, request: Request, now: Instant) {
        let key = server_key(&request, &request.method);
        match self.servers.get_mut(&key) {
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
            Some(Server::Other { machine, flow }) => {
                let (flow, bytes) = (*flow, machine.handle_retransmission().to_vec());
                return self.send(flow, bytes);
            }
            None => {}
        }
        if request.method == Method::Ack {
            return self.handle_dialog_ack(&request, now);
        }
        if let Some(refusal) = self.refusal(&request) {
            self.counters.refused += 1;
            return self.reply(flow, &request, refusal, now);
        }
        let in_dialog = request.core.to.tag().is_some();
        match &request.method {
            Method::Invite if in_dialog => self.handle_reinvite(flow, request, now),
            Method::Invite => self.handle_invite(flow, request, now),
            Method::Cancel => self.handle_cancel(flow, &request, now),
            Method::Bye => self.handle_bye(flow, &request, now),
            Method::Info if in_dialog => self.handle_info(flow, &request, now),
            Method::Options => self.reply(flow, &request, capabilities(Reply::new(200)), now),
            _ => {
                self.counters.refused += 1;
                self.reply(flow, &request, Reply::new(405).with("Allow", ALLOW), now);
            }
        }
    }

    /// Answers a request at once and remembers the answer for retransmissions.
    pub(super) fn reply(&mut self, flow: &Flow, request: &Request, reply: Reply, now: Instant) {
        let tag = self.tag();
        let bytes = reply.write(&request.headers, flow, Some(&tag), &self.config.server);
        let back = self.reply_flow(flow, &request.headers);
        self.send(back, bytes.clone());
        let key = server_key(request, &request.method);
        if self.servers.len() >= TRANSACTIONS_MAX {
            // The answer is out; a retransmission is judged anew.
            return;
        }
        if request.method == Method::Invite {
            let mut machine = server_invite::ServerInvite::new(Vec::new(), back.reliability(), self.config.timers);
            machine.respond(reply.status, bytes, now);
            let server =
                Server::Invite { machine, flow: back, headers: request.headers.clone(), to_tag: tag, dialog: None };
            self.servers.insert(key.clone(), server);
        } else {
            let machine = ServerNonInvite::answered(bytes, back.reliability(), self.config.timers, now);
            self.servers.insert(key.clone(), Server::Other { machine, flow: back });
        }
        self.schedule_server(key);
    }

    /// Refuses what this element cannot serve, in the order of RFC 3261 §8.2.
    fn refusal(&self, request: &Request) -> Option<Reply> {
        if let Method::Unknown(_) = request.method {
            return Some(Reply::new(501).with("Allow", ALLOW));
        }
        if let Uri::Other(_) = request.uri {
            return Some(Reply::new(416));
        }
        if request.method == Method::Cancel {
            // RFC 3261 §9.1: a CANCEL has no Require.
            return None;
        }
        let unsupported = request.headers.elements("Require");
        if !unsupported.is_empty() {
            return Some(Reply::new(420).with("Unsupported", unsupported.join(", ")));
        }
        let is_invite = request.method == Method::Invite;
        if is_invite && !request.body.is_empty() && !carries_sdp(request) {
            return Some(Reply::new(415).with("Accept", "application/sdp").with("Accept-Encoding", "identity"));
        }
        if is_invite && !accepts_sdp(request) {
            return Some(Reply::new(406));
        }
        None
    }
}

/// Adds what an OPTIONS response tells (RFC 3261 §11.2).
pub(super) fn capabilities(reply: Reply) -> Reply {
    reply
        .with("Allow", ALLOW)
        .with("Accept", "application/sdp")
        .with("Accept-Encoding", "identity")
        .with("Supported", "")
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

/// Accept names application/sdp, or a range that holds it, or is absent (RFC 3261 §20.1).
fn accepts_sdp(request: &Request) -> bool {
    let ranges = request.headers.elements("Accept");
    request.headers.raw("Accept").next().is_none()
        || ranges.iter().any(|range| {
            matches!(media_type(range).to_ascii_lowercase().as_str(), "application/sdp" | "application/*" | "*/*")
        })
}

fn media_type(text: &str) -> String {
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

/// What this element serves.
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO";

/// 65,536 answered requests at 64·T1 each: 2,000 a second.
const TRANSACTIONS_MAX: usize = 1 << 16;

/// 16 parts: an INVITE with a description, a picture, a location and a signature has four.
const PARTS_MAX: usize = 16;
