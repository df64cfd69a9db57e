//! Placing one call: which address is tried next, whom a redirection leads to, and what the refusal means.
//!
//! ```text
//!   addresses, offer ─▶ INVITE ── progress, answer ──────────────▶ done
//!                        ▲  │ nothing came, no connection, 503: the next address
//!                        └──┤ 3xx: the next contact whose number this box may call
//!                           └ anything else, or nothing left: give up
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;

use talkstack_control::gate::Gate;
use talkstack_control::model::E164;
use talkstack_control::port::{Blame, DialOrder, EndReason, Outcome, TrunkRoute, TrunkTransport};
use talkstack_media::sip::Transport;
use talkstack_media::sip::message::{Host, Params, SipUri, Uri};

use crate::route::number_digits;

/// A call that is being placed, until its INVITE has its final response.
#[derive(Debug)]
pub struct Attempt {
    order: DialOrder,
    trunk: TrunkRoute,
    gate: Gate,
    stage: Stage,
    /// What the INVITE asks for.
    uri: SipUri,
    /// The trunk's own addresses.
    addresses: Vec<SocketAddr>,
    /// Addresses still to be tried for `uri`.
    targets: VecDeque<SocketAddr>,
    /// Where a 3xx has sent us and we have not been yet.
    contacts: VecDeque<Uri>,
    redirections: u8,
    /// What is reported when nothing is left to try.
    failure: Outcome,
    output: Option<AttemptOutput>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The addresses or the offer are still missing.
    Preparing,
    /// A TCP connection is being made.
    Connecting(SocketAddr),
    /// The INVITE is out.
    Inviting(SocketAddr),
    /// Nothing more happens.
    Over,
}

/// What an attempt wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutput {
    /// Connect over TCP, and say by [`Attempt::handle_connected`] what came of it.
    Connect(SocketAddr),
    /// Send the INVITE there.
    Invite(SocketAddr),
    /// End the call.
    GiveUp(Outcome),
}

impl Attempt {
    /// Begins. The order's trunk and the gate are as they were when it was taken on.
    pub fn new(order: DialOrder, trunk: TrunkRoute, gate: Gate) -> Self {
        let host = host_of(&trunk);
        let port = trunk.port.filter(|port| *port != DEFAULT_PORT);
        let user = Some(order.to.clone());
        let uri = SipUri { secure: false, user, host, port, params: Params::default(), headers: None };
        Attempt {
            order,
            trunk,
            gate,
            stage: Stage::Preparing,
            uri,
            addresses: Vec::new(),
            targets: VecDeque::new(),
            contacts: VecDeque::new(),
            redirections: 0,
            failure: UNREACHABLE,
            output: None,
        }
    }

    /// The order.
    pub fn order(&self) -> &DialOrder {
        &self.order
    }

    /// The trunk.
    pub fn trunk(&self) -> &TrunkRoute {
        &self.trunk
    }

    /// The trunk's name or address, as a URI shows it.
    pub fn trunk_host(&self) -> Host {
        host_of(&self.trunk)
    }

    /// The Request-URI of the next INVITE.
    pub fn uri(&self) -> &SipUri {
        &self.uri
    }

    /// Tells whether the INVITE goes to the trunk itself: a password is shown to nobody else.
    pub fn is_at_trunk(&self) -> bool {
        self.redirections == 0
    }

    /// Where the INVITE is, if one is out.
    pub fn target(&self) -> Option<SocketAddr> {
        match self.stage {
            Stage::Inviting(target) => Some(target),
            _ => None,
        }
    }

    /// The trunk's addresses, the best first. Those of the first one's family are tried before the others: the offer
    /// shows an address of that family, which a trunk of both understands wherever its signalling is. Returns the first,
    /// for which the offer is to be made.
    pub fn handle_addresses(&mut self, mut addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
        let first = *addresses.first()?;
        addresses.sort_by_key(|address| address.is_ipv4() != first.is_ipv4());
        self.targets = addresses.clone().into();
        self.addresses = addresses;
        Some(first)
    }

    /// The offer has been made: the first address is tried.
    pub fn handle_offer(&mut self) {
        if self.stage == Stage::Preparing {
            self.try_next();
        }
    }

    /// A connection was made, or could not be.
    pub fn handle_connected(&mut self, is_up: bool) {
        match self.stage {
            Stage::Connecting(target) if is_up => self.invite(target),
            Stage::Connecting(_) => self.try_next(),
            _ => {}
        }
    }

    /// A provisional response: who has been reached is not called at another address as well.
    pub fn handle_progressed(&mut self) {
        self.targets.clear();
        self.contacts.clear();
    }

    /// A final response other than 2xx.
    pub fn handle_refused(&mut self, status: u16, contacts: Vec<Uri>) {
        let Stage::Inviting(_) = self.stage else { return };
        self.failure = outcome_of(status);
        match status {
            300..400 => {
                self.targets.clear();
                self.contacts.extend(contacts);
                self.try_next();
            }
            // RFC 3263 §4.3: a server that cannot is passed over for the next one.
            503 => self.try_next(),
            _ => self.give_up(),
        }
    }

    /// No response came at all.
    pub fn handle_unanswered(&mut self) {
        if let Stage::Inviting(_) = self.stage {
            self.try_next();
        }
    }

    /// Returns what is to be done next.
    pub fn poll_output(&mut self) -> Option<AttemptOutput> {
        self.output.take()
    }

    /// The transport of the next INVITE: what a redirection asks for, else the trunk's.
    pub fn transport(&self) -> Transport {
        match (self.uri.params.text("transport"), self.trunk.transport) {
            (Some(text), _) if text.eq_ignore_ascii_case("tcp") => Transport::Tcp,
            (Some(text), _) if text.eq_ignore_ascii_case("tls") => Transport::Tls,
            (None, TrunkTransport::Tcp) => Transport::Tcp,
            (None, TrunkTransport::Tls) => Transport::Tls,
            _ => Transport::Udp,
        }
    }

    fn try_next(&mut self) {
        loop {
            if let Some(target) = self.targets.pop_front() {
                return match self.transport() {
                    transport if transport.is_reliable() => {
                        self.stage = Stage::Connecting(target);
                        self.output = Some(AttemptOutput::Connect(target));
                    }
                    _ => self.invite(target),
                };
            }
            let Some(contact) = self.contacts.pop_front() else { return self.give_up() };
            self.redirect(&contact);
        }
    }

    fn invite(&mut self, target: SocketAddr) {
        self.stage = Stage::Inviting(target);
        self.output = Some(AttemptOutput::Invite(target));
    }

    /// Follows a redirection (RFC 3261 §8.1.3.4) to a number that this box may call, at an address or at the trunk.
    fn redirect(&mut self, contact: &Uri) {
        self.redirections = self.redirections.saturating_add(1);
        let Some(uri) = self.allowed(contact).filter(|_| self.redirections <= REDIRECTIONS_MAX) else {
            self.failure = Outcome::new(Blame::Trunk, EndReason::DestinationNotAllowed);
            return;
        };
        let is_v4 = self.addresses.first().is_none_or(SocketAddr::is_ipv4);
        self.targets = match &uri.host {
            Host::Ip(ip) => VecDeque::from([SocketAddr::new(*ip, uri.port.unwrap_or(DEFAULT_PORT))]),
            Host::Name(name) if name.eq_ignore_ascii_case(&self.trunk.host) => self.addresses.clone().into(),
            // Another's name would have to be looked up while the caller waits; addresses and the trunk's own name do.
            Host::Name(_) => VecDeque::new(),
        };
        self.targets.retain(|target| target.is_ipv4() == is_v4);
        self.uri = uri;
    }

    fn allowed(&self, contact: &Uri) -> Option<SipUri> {
        let uri = contact.sip()?;
        let digits = number_digits(uri.user.as_deref()?.split(';').next()?)?;
        let (to, from) = (E164::parse(&format!("+{digits}"))?, E164::parse(&self.order.from)?);
        // sips would promise what no transport here keeps; header fields in a URI would let a stranger write our INVITE.
        let is_allowed = !uri.secure && self.gate.check(&to, &from).is_ok();
        is_allowed.then(|| SipUri { headers: None, ..uri.clone() })
    }

    fn give_up(&mut self) {
        self.stage = Stage::Over;
        self.output = Some(AttemptOutput::GiveUp(self.failure));
    }
}

/// An address of either family, with brackets or without, else a name.
fn host_of(trunk: &TrunkRoute) -> Host {
    let bare = trunk.host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_or_else(|_| Host::Name(trunk.host.clone()), Host::Ip)
}

/// What a final response says about the call.
fn outcome_of(status: u16) -> Outcome {
    match status {
        486 | 600 => Outcome::new(Blame::Caller, EndReason::Busy),
        408 | 480 | 487 => Outcome::new(Blame::Caller, EndReason::NoAnswer),
        _ => Outcome::new(Blame::Trunk, EndReason::Rejected),
    }
}

/// What is reported when nobody has said anything.
const UNREACHABLE: Outcome = Outcome::new(Blame::Trunk, EndReason::Unreachable);

/// Five: as many as a call that is forwarded from office to mobile to voicemail and back needs.
const REDIRECTIONS_MAX: u8 = 5;

/// RFC 3261 §19.1.2.
const DEFAULT_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use talkstack_control::gate::DialPolicy;
    use talkstack_control::port::CallId;

    use super::*;

    #[test]
    fn every_address_is_tried_in_turn_and_who_has_rung_is_not_called_elsewhere() {
        let mut attempt = ready(TrunkTransport::Udp, &["192.0.2.1:5060", "[2001:db8::1]:5060", "192.0.2.2:5060"]);
        assert_eq!(attempt.poll_output(), invite("192.0.2.1:5060"));
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), invite("192.0.2.2:5060"), "the family of the offer goes first");
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), invite("[2001:db8::1]:5060"));
        attempt.handle_refused(503, vec![]);
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::Rejected));

        let mut attempt = ready(TrunkTransport::Udp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
        attempt.poll_output();
        attempt.handle_progressed();
        attempt.handle_refused(503, vec![]);
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::Rejected));
    }

    #[test]
    fn an_address_of_either_family_stands_in_a_uri_as_it_must() {
        for (host, shown) in
            [("::1", "[::1]"), ("[::1]", "[::1]"), ("192.0.2.1", "192.0.2.1"), ("a.example", "a.example")]
        {
            let attempt = towards(host, TrunkTransport::Udp);
            assert_eq!(attempt.uri().to_string(), format!("sip:+15550000001@{shown}"));
            assert_eq!(attempt.trunk_host().to_string(), shown);
        }
    }

    #[test]
    fn a_stream_is_connected_before_the_invite_and_one_that_cannot_be_is_passed_over() {
        let mut attempt = ready(TrunkTransport::Tcp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
        assert_eq!(attempt.poll_output(), Some(AttemptOutput::Connect(address("192.0.2.1:5060"))));
        attempt.handle_connected(false);
        assert_eq!(attempt.poll_output(), Some(AttemptOutput::Connect(address("192.0.2.2:5060"))));
        attempt.handle_connected(true);
        assert_eq!(attempt.poll_output(), invite("192.0.2.2:5060"));
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::Unreachable));
    }

    #[test]
    fn each_final_response_has_its_outcome() {
        for (status, blame, reason) in [
            (486, Blame::Caller, EndReason::Busy),
            (600, Blame::Caller, EndReason::Busy),
            (408, Blame::Caller, EndReason::NoAnswer),
            (480, Blame::Caller, EndReason::NoAnswer),
            (487, Blame::Caller, EndReason::NoAnswer),
            (403, Blame::Trunk, EndReason::Rejected),
            (404, Blame::Trunk, EndReason::Rejected),
            (603, Blame::Trunk, EndReason::Rejected),
        ] {
            let mut attempt = ready(TrunkTransport::Udp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
            attempt.poll_output();
            attempt.handle_refused(status, vec![]);
            assert_eq!(attempt.poll_output(), give_up(blame, reason), "{status}");
            attempt.handle_refused(486, vec![]);
            assert_eq!(attempt.poll_output(), None, "it is over");
        }
    }

    #[test]
    fn a_redirection_is_followed_to_a_number_the_box_may_call_and_to_no_other() {
        let mut attempt = ready(TrunkTransport::Udp, &["192.0.2.1:5060"]);
        attempt.poll_output();
        let contacts = ["sip:+36112@192.0.2.7", "sips:+15550000002@192.0.2.7", "sip:+15550000002@192.0.2.8:5070?X=y"];
        attempt.handle_refused(302, contacts.iter().map(|contact| uri(contact)).collect());
        assert_eq!(attempt.poll_output(), invite("192.0.2.8:5070"));
        assert_eq!(attempt.uri().to_string(), "sip:+15550000002@192.0.2.8:5070", "without the header fields");
        assert!(!attempt.is_at_trunk());
        attempt.handle_refused(302, vec![uri("sip:+882123456789@192.0.2.9")]);
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::DestinationNotAllowed));
    }

    #[test]
    fn a_circle_of_redirections_ends() {
        let mut attempt = ready(TrunkTransport::Udp, &["192.0.2.1:5060"]);
        for _ in 0..=REDIRECTIONS_MAX {
            assert_eq!(attempt.poll_output(), invite("192.0.2.1:5060"));
            attempt.handle_refused(302, vec![uri("sip:+15550000002@trunk.example")]);
        }
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::DestinationNotAllowed));
    }

    fn ready(transport: TrunkTransport, addresses: &[&str]) -> Attempt {
        let mut attempt = towards("trunk.example", transport);
        attempt.handle_addresses(addresses.iter().map(|text| address(text)).collect());
        attempt.handle_offer();
        attempt
    }

    fn towards(host: &str, transport: TrunkTransport) -> Attempt {
        let order = DialOrder {
            call_id: CallId(1),
            to: "+15550000001".into(),
            from: "+15551234567".into(),
            project_id: "p".into(),
            agent_id: "a".into(),
            variables: Default::default(),
        };
        let trunk = TrunkRoute {
            port: Some(5060),
            transport,
            max_channels: 10,
            is_default: true,
            ..TrunkRoute::new("t", host)
        };
        Attempt::new(order, trunk, Gate::new(DialPolicy::default()))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn uri(text: &str) -> Uri {
        Uri::parse(text).expect("a URI")
    }

    fn invite(target: &str) -> Option<AttemptOutput> {
        Some(AttemptOutput::Invite(address(target)))
    }

    fn give_up(blame: Blame, reason: EndReason) -> Option<AttemptOutput> {
        Some(AttemptOutput::GiveUp(Outcome::new(blame, reason)))
    }
}
