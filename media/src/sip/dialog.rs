//! Dialogs (RFC 3261 §12): what two user agents know of each other between requests.

mod saved;

use super::message::{Headers, Host, Method, NameAddr, Request, Response, Uri};

pub use saved::SavedDialog;

/// One dialog, from our side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// The header `Call-ID`.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// Their tag; empty for a client of RFC 2543.
    pub remote_tag: String,
    /// Us, as From of our requests, with our tag.
    local: String,
    /// Them, as To of our requests, with their tag.
    remote: String,
    /// Where our requests go through, as they stand in Route.
    routes: Vec<String>,
    /// Their Contact.
    target: Uri,
    has_contact: bool,
    local_cseq: u32,
    /// Of their last request; none before the first.
    remote_cseq: Option<u32>,
}

/// A request whose number is not above those before it (RFC 3261 §12.2.2). The peer's doing; answer 500.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("the CSeq is not above the last one")]
pub struct OutOfOrder;

impl Dialog {
    /// The called side's dialog (RFC 3261 §12.1.1). Without a Contact the caller's address stands in.
    pub fn of_invite(invite: &Request, local_tag: String) -> Self {
        let to = invite.headers.texts("To").next().unwrap_or_default().into_owned();
        let from = invite.headers.texts("From").next().unwrap_or_default().into_owned();
        let contact = contact(&invite.headers);
        Dialog {
            call_id: invite.core.call_id.clone(),
            remote_tag: invite.core.from.tag().unwrap_or_default().to_owned(),
            local: format!("{to};tag={local_tag}"),
            local_tag,
            remote: from,
            routes: invite.headers.elements("Record-Route"),
            has_contact: contact.is_some(),
            target: contact.unwrap_or_else(|| invite.core.from.uri.clone()),
            local_cseq: 0,
            remote_cseq: Some(invite.core.cseq),
        }
    }

    /// The calling side's dialog before anybody has answered: it has no far end yet, and what it writes goes to
    /// `target` through `routes`. `from` and `to` are whole header values without tag.
    pub fn of_order(
        call_id: String,
        local_tag: String,
        from: &str,
        to: &str,
        target: Uri,
        routes: Vec<String>,
    ) -> Self {
        Dialog {
            call_id,
            remote_tag: String::new(),
            local: format!("{from};tag={local_tag}"),
            local_tag,
            remote: to.to_owned(),
            routes,
            has_contact: false,
            target,
            local_cseq: 0,
            remote_cseq: None,
        }
    }

    /// A response to our INVITE tells who is at the far end, and by which way (RFC 3261 §12.1.2, §13.2.2.4). Without a
    /// Contact the target stays.
    pub fn handle_answer(&mut self, response: &Response) {
        self.handle_refusal(response);
        let tag = response.core.to.tag().unwrap_or_default();
        if self.remote_tag != tag {
            self.remote_tag = tag.to_owned();
            self.remote_cseq = None;
        }
        self.routes = response.headers.elements("Record-Route");
        self.routes.reverse();
        self.refresh_target(&response.headers);
    }

    /// A refusal of our INVITE tells the To of its ACK, and nothing else (RFC 3261 §17.1.1.3).
    pub fn handle_refusal(&mut self, response: &Response) {
        if let Some(to) = response.headers.text("To") {
            self.remote = to.into_owned();
        }
    }

    /// Takes the number of the next request of ours.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// Checks and keeps the number of their request.
    ///
    /// # Errors
    /// [`OutOfOrder`].
    pub fn handle_cseq(&mut self, cseq: u32) -> Result<(), OutOfOrder> {
        if self.remote_cseq.is_some_and(|last| cseq <= last) {
            return Err(OutOfOrder);
        }
        self.remote_cseq = Some(cseq);
        Ok(())
    }

    /// Tells whether the far end said where it is; else its From stands in, which may name anybody.
    pub fn has_contact(&self) -> bool {
        self.has_contact
    }

    /// A target refresh request (re-INVITE) may have moved the far end (RFC 3261 §12.2.2).
    pub fn refresh_target(&mut self, headers: &Headers) {
        if let Some(target) = contact(headers) {
            self.target = target;
            self.has_contact = true;
        }
    }

    /// The number of our last request.
    pub fn last_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// Us, as Referred-By names us (RFC 3892).
    pub fn local_uri(&self) -> String {
        NameAddr::parse(&self.local).map(|local| format!("<{}>", local.uri)).unwrap_or_default()
    }

    /// Writes any request to the far end: `fields` are whole header values, the body's length is added.
    pub fn write(&self, method: &Method, cseq: u32, via: &str, fields: &[(&str, String)], body: &[u8]) -> Vec<u8> {
        let target = self.target.to_string();
        let (uri, routes) = self.request_uri_and_routes(&target);
        let mut text = format!("{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n");
        for route in routes {
            text.push_str(&format!("Route: {route}\r\n"));
        }
        text.push_str(&format!(
            "From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n",
            self.local, self.remote, self.call_id
        ));
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        [text.as_bytes(), body].concat()
    }

    /// The Request-URI of what is written next.
    pub fn request_uri(&self) -> String {
        self.request_uri_and_routes(&self.target.to_string()).0
    }

    /// The host and port that the next request goes to first; `None` for a name.
    pub fn next_hop(&self) -> Option<(std::net::IpAddr, u16)> {
        let first = self.routes.first().and_then(|route| NameAddr::parse(route));
        let uri = first.as_ref().map_or(&self.target, |route| &route.uri).sip()?;
        match uri.host {
            Host::Ip(ip) => Some((ip, uri.port.unwrap_or(5060))),
            Host::Name(_) => None,
        }
    }

    /// Tells whether the far end is a sips URI.
    pub fn is_secure(&self) -> bool {
        self.target.sip().is_some_and(|uri| uri.secure)
    }

    /// Tells whether the next hop's URI names another transport than UDP.
    pub fn names_stream(&self) -> bool {
        let first = self.routes.first().and_then(|route| NameAddr::parse(route));
        let uri = first.as_ref().map_or(&self.target, |route| &route.uri).sip();
        uri.and_then(|uri| uri.params.text("transport")).is_some_and(|transport| !transport.eq_ignore_ascii_case("udp"))
    }

    /// A strict router (no `lr`) wants itself as Request-URI and the target as last Route.
    fn request_uri_and_routes(&self, target: &str) -> (String, Vec<String>) {
        let Some(first) = self.routes.first().and_then(|route| NameAddr::parse(route)) else {
            return (target.to_owned(), Vec::new());
        };
        if first.uri.sip().is_none_or(|uri| uri.params.has("lr")) {
            return (target.to_owned(), self.routes.clone());
        }
        let mut routes = self.routes[1..].to_vec();
        routes.push(format!("<{target}>"));
        (first.uri.to_string(), routes)
    }
}

fn contact(headers: &Headers) -> Option<Uri> {
    let contact = headers.elements("Contact").into_iter().next()?;
    NameAddr::parse(&contact).map(|contact| contact.uri).filter(|uri| uri.sip().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Framing, Message, parse};

    #[test]
    fn a_request_goes_to_the_contact_through_the_recorded_route() {
        let mut dialog = dialog("Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\n");
        let text = String::from_utf8(bye(&mut dialog)).expect("text");
        assert!(text.starts_with("BYE sip:phone@10.0.0.1:5062 SIP/2.0\r\n"), "{text}");
        assert!(text.contains("Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\n"), "{text}");
        assert!(text.contains("From: <sip:c@d>;tag=ours\r\nTo: \"A\" <sip:a@b>;tag=7\r\n"), "{text}");
        assert!(text.contains("CSeq: 1 BYE\r\n"));
        assert_eq!(dialog.next_hop(), None, "p1 is a name");
    }

    #[test]
    fn a_strict_router_becomes_the_request_uri() {
        let mut dialog = dialog("Record-Route: <sip:192.0.2.1>, <sip:p2;lr>\r\n");
        let text = String::from_utf8(bye(&mut dialog)).expect("text");
        assert!(text.starts_with("BYE sip:192.0.2.1 SIP/2.0\r\n"), "{text}");
        assert!(text.contains("Route: <sip:p2;lr>\r\nRoute: <sip:phone@10.0.0.1:5062>\r\n"), "{text}");
        assert_eq!(dialog.next_hop(), Some(("192.0.2.1".parse().expect("address"), 5060)));
    }

    #[test]
    fn numbers_only_rise() {
        let mut dialog = dialog("");
        assert_eq!(dialog.handle_cseq(5), Err(OutOfOrder));
        assert_eq!(dialog.handle_cseq(9), Ok(()));
        assert_eq!(dialog.handle_cseq(8), Err(OutOfOrder));
    }

    fn bye(dialog: &mut Dialog) -> Vec<u8> {
        let cseq = dialog.next_cseq();
        dialog.write(&Method::Bye, cseq, "v", &[], b"")
    }

    fn dialog(fields: &str) -> Dialog {
        let text = format!(
            "INVITE sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: \"A\" <sip:a@b>;tag=7\r\n\
             To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 5 INVITE\r\nContact: <sip:phone@10.0.0.1:5062>\r\n{fields}\r\n"
        );
        match parse(text.as_bytes(), Framing::Datagram) {
            Ok(Message::Request(request)) => Dialog::of_invite(&request, "ours".into()),
            other => panic!("{other:?}"),
        }
    }
}
