//! Placing one call: which trunk and which address is tried next, whom a redirection leads to, and what the refusal means.
//!
//! ```text
//!   Seize: a channel, the addresses, the offer ─▶ INVITE ── progress, answer ──▶ done
//!     ▲                                            ▲  │ nothing came, no connection, 503: the next address
//!     │ no channel, no address left, 5xx:          ├──┤ 3xx: the next contact whose number this box may call
//!     └ the next trunk ────────────────────────────┘  └ anything else, or nothing left: give up
//! ```
//!
//! Who has rung is not called by another way as well, and what the called person refuses no other trunk is asked for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::gate::{Gate, is_emergency};
use talkstack_control::model::E164;
use talkstack_control::port::{Blame, DialOrder, EndReason, Outcome, TrunkRoute};
use talkstack_media::sip::Transport;
use talkstack_media::sip::message::{Host, Params, SipUri, Uri};

use crate::caller_id::{Carrier, domain};
use crate::numbering::dialled;
use crate::route::number_digits;
use crate::trunks::{Hop, default_port};

/// A call that is being placed, until its INVITE has its final response.
#[derive(Debug)]
pub struct Attempt {
    order: DialOrder,
    /// The trunk that carries it.
    carrier: Carrier,
    /// Those that may carry it in its place, the first to be tried first.
    others: VecDeque<Carrier>,
    gate: Gate,
    stage: Stage,
    has_offer: bool,
    /// What the INVITE asks for.
    uri: SipUri,
    /// The trunk's own addresses.
    addresses: Vec<Hop>,
    /// Addresses still to be tried for `uri`.
    targets: VecDeque<Hop>,
    /// Where a 3xx has sent us and we have not been yet.
    contacts: VecDeque<Uri>,
    redirections: u8,
    /// What is reported when nothing is left to try.
    failure: Failure,
    /// When an INVITE that nothing was heard of is given up for the next way.
    silent_until: Option<Instant>,
    output: Option<AttemptOutput>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The channel, the addresses or the offer are still missing.
    Preparing,
    /// A stream is being connected.
    Connecting(Hop),
    /// The INVITE is out.
    Inviting(Hop),
    /// Nothing more happens.
    Over,
}

/// What has come of the last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    outcome: Outcome,
    whose: Whose,
}

/// Whose doing a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This trunk's: another one may do better.
    Trunk,
    /// The called side's, or the box's own rule: it stays with it.
    Final,
}

/// What an attempt wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutput {
    /// Take a channel of [`Attempt::carrier`]'s and find its addresses: [`Attempt::handle_full`] or
    /// [`Attempt::handle_addresses`].
    Seize,
    /// Connect, and say by [`Attempt::handle_connected`] what came of it.
    Connect(Hop),
    /// Send the INVITE there, and say so by [`Attempt::handle_sent`].
    Invite(Hop),
    /// End the call.
    GiveUp(Outcome),
}

impl Attempt {
    /// Begins with the first of its carriers. They and the gate are as they were when the order was taken on.
    pub fn new(order: DialOrder, carrier: Carrier, others: VecDeque<Carrier>, gate: Gate) -> Self {
        let uri = uri_on(&carrier.trunk, &order.to);
        Attempt {
            order,
            carrier,
            others,
            gate,
            stage: Stage::Preparing,
            has_offer: false,
            uri,
            addresses: Vec::new(),
            targets: VecDeque::new(),
            contacts: VecDeque::new(),
            redirections: 0,
            failure: UNREACHABLE,
            silent_until: None,
            output: Some(AttemptOutput::Seize),
        }
    }

    /// The order.
    pub fn order(&self) -> &DialOrder {
        &self.order
    }

    /// The trunk that carries it, or is to.
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// The Request-URI of the next INVITE.
    pub fn uri(&self) -> &SipUri {
        &self.uri
    }

    /// Tells whether the INVITE goes to the trunk itself: a password is shown to nobody else.
    pub fn is_at_trunk(&self) -> bool {
        self.redirections == 0
    }

    /// Where the INVITE is, or is about to be.
    pub fn target(&self) -> Option<SocketAddr> {
        match self.stage {
            Stage::Connecting(hop) | Stage::Inviting(hop) => Some(hop.address),
            Stage::Preparing | Stage::Over => None,
        }
    }

    /// The trunk has no channel, or has had its calls for this second.
    pub fn handle_full(&mut self) {
        if self.stage == Stage::Preparing {
            self.failure =
                Failure { outcome: Outcome::new(Blame::Gateway, EndReason::Overloaded), whose: Whose::Trunk };
            self.give_up();
        }
    }

    /// The trunk's places, the best first. Those of the first one's family are tried before the others: the offer
    /// shows an address of that family, which a trunk of both understands wherever its signalling is. Returns the first,
    /// for which the offer is to be made; none at all leads to the next trunk.
    pub fn handle_addresses(&mut self, mut addresses: Vec<Hop>) -> Option<SocketAddr> {
        let Some(first) = addresses.first().map(|hop| hop.address) else {
            self.failure = UNREACHABLE;
            self.give_up();
            return None;
        };
        addresses.sort_by_key(|hop| hop.address.is_ipv4() != first.is_ipv4());
        self.targets = addresses.clone().into();
        self.addresses = addresses;
        if self.has_offer {
            self.try_next();
        }
        Some(first)
    }

    /// The offer has been made: the first address is tried.
    pub fn handle_offer(&mut self) {
        if self.stage == Stage::Preparing && !std::mem::replace(&mut self.has_offer, true) {
            self.try_next();
        }
    }

    /// The offer is made anew; no address is tried before [`Attempt::handle_offer`].
    pub fn handle_offer_withdrawn(&mut self) {
        self.has_offer = false;
    }

    /// A connection was made, or could not be.
    pub fn handle_connected(&mut self, is_up: bool) {
        match self.stage {
            Stage::Connecting(hop) if is_up => self.invite(hop),
            Stage::Connecting(_) => self.try_next(),
            _ => {}
        }
    }

    /// The INVITE has left.
    pub fn handle_sent(&mut self, now: Instant) {
        let has_other = !(self.targets.is_empty() && self.others.is_empty());
        self.silent_until = has_other.then_some(now + SILENCE);
    }

    /// Some response has come: the INVITE is where it should be.
    pub fn handle_heard(&mut self) {
        self.silent_until = None;
    }

    /// When [`Attempt::handle_unanswered`] is due, unless something was heard.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.silent_until
    }

    /// A provisional response: who has been reached is not called by another way as well.
    pub fn handle_progressed(&mut self) {
        self.silent_until = None;
        self.targets.clear();
        self.contacts.clear();
        self.others.clear();
    }

    /// A final response other than 2xx.
    pub fn handle_refused(&mut self, status: u16, contacts: Vec<Uri>) {
        let Stage::Inviting(_) = self.stage else { return };
        let whose = if (500..600).contains(&status) { Whose::Trunk } else { Whose::Final };
        self.failure = Failure { outcome: outcome_of(status), whose };
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

    fn try_next(&mut self) {
        loop {
            if let Some(hop) = self.targets.pop_front() {
                if !hop.transport.is_reliable() {
                    return self.invite(hop);
                }
                self.stage = Stage::Connecting(hop);
                self.output = Some(AttemptOutput::Connect(hop));
                return;
            }
            let Some(contact) = self.contacts.pop_front() else { return self.give_up() };
            self.redirect(&contact);
        }
    }

    fn invite(&mut self, hop: Hop) {
        self.stage = Stage::Inviting(hop);
        self.output = Some(AttemptOutput::Invite(hop));
    }

    /// Follows a redirection (RFC 3261 §8.1.3.4) to a number that this box may call, at an address or at the trunk.
    fn redirect(&mut self, contact: &Uri) {
        self.redirections = self.redirections.saturating_add(1);
        let Some(uri) = self.allowed(contact).filter(|_| self.redirections <= REDIRECTIONS_MAX) else {
            let outcome = Outcome::new(Blame::Trunk, EndReason::DestinationNotAllowed);
            self.failure = Failure { outcome, whose: Whose::Final };
            return;
        };
        let is_v4 = self.addresses.first().is_none_or(|hop| hop.address.is_ipv4());
        let asked = match uri.params.text("transport").map(str::to_ascii_lowercase).as_deref() {
            Some("tcp") => Some(Transport::Tcp),
            Some("tls") => Some(Transport::Tls),
            Some(_) => Some(Transport::Udp),
            None => None,
        };
        let asked = if uri.secure { Some(Transport::Tls) } else { asked };
        let own = self.addresses.first().map_or(Transport::Udp, |hop| hop.transport);
        self.targets = match &uri.host {
            Host::Ip(ip) => {
                let transport = asked.unwrap_or(own);
                let port = uri.port.unwrap_or(default_port(transport));
                VecDeque::from([Hop { address: SocketAddr::new(*ip, port), transport }])
            }
            host if self.is_trunks(host) => {
                let hop = |hop: &Hop| Hop { transport: asked.unwrap_or(hop.transport), ..*hop };
                self.addresses.iter().map(hop).collect()
            }
            // Another's name would have to be looked up while the caller waits; addresses and the trunk's own name do.
            Host::Name(_) => VecDeque::new(),
        };
        self.targets.retain(|hop| hop.address.is_ipv4() == is_v4);
        self.uri = uri;
    }

    /// Tells whether a host in a redirection is the trunk's name.
    fn is_trunks(&self, host: &Host) -> bool {
        let Host::Name(name) = host else { return false };
        let trunk = &self.carrier.trunk;
        name.eq_ignore_ascii_case(&trunk.host) || domain(trunk) == *host
    }

    fn allowed(&self, contact: &Uri) -> Option<SipUri> {
        let uri = contact.sip()?;
        let digits = number_digits(uri.user.as_deref()?.split(';').next()?)?;
        let (to, from) = (E164::parse(&format!("+{digits}"))?, E164::parse(&self.order.from)?);
        // sips wants TLS and the certificate of the host that it names (RFC 5630): the trunk's own is the one known here.
        let by_tls = self.addresses.first().is_some_and(|hop| hop.transport == Transport::Tls);
        let is_kept = !uri.secure || (by_tls && self.is_trunks(&uri.host));
        let is_allowed = is_kept && self.gate.check(&to, &from).is_ok();
        // Header fields in a URI would let a stranger write our INVITE.
        is_allowed.then(|| SipUri { headers: None, ..uri.clone() })
    }

    /// Goes on with the next trunk where that makes sense, else ends.
    fn give_up(&mut self) {
        self.silent_until = None;
        match self.others.pop_front().filter(|_| self.failure.whose == Whose::Trunk) {
            Some(carrier) => {
                self.uri = uri_on(&carrier.trunk, &self.order.to);
                self.carrier = carrier;
                self.stage = Stage::Preparing;
                self.addresses.clear();
                self.targets.clear();
                self.contacts.clear();
                self.redirections = 0;
                self.output = Some(AttemptOutput::Seize);
            }
            None => {
                self.stage = Stage::Over;
                self.output = Some(AttemptOutput::GiveUp(self.failure.outcome));
            }
        }
    }
}

/// Tells whether an agent's or a campaign's order may be carried out at all. Control asks the same before it takes an
/// order on; what reaches the line is checked where the line is. Emergency numbers are for handsets, whose calls are no
/// orders.
///
/// # Errors
/// The outcome to end the call with.
pub fn check(order: &DialOrder, gate: &Gate) -> Result<(), Outcome> {
    let refused = Outcome::new(Blame::Operator, EndReason::DestinationNotAllowed);
    if is_emergency(&order.to) {
        return Err(refused);
    }
    let (Some(to), Some(from)) = (E164::parse(&order.to), E164::parse(&order.from)) else { return Err(refused) };
    gate.check(&to, &from).map_err(|_| refused)
}

/// What the INVITE for a number asks a trunk for.
pub(crate) fn uri_on(trunk: &TrunkRoute, to: &str) -> SipUri {
    // With a domain of its own the port is that of the next hop only.
    let port = trunk.port.filter(|port| *port != DEFAULT_PORT && trunk.access.domain.is_none());
    let user = Some(dialled(&trunk.numbering, to));
    SipUri { secure: false, user, host: domain(trunk), port, params: Params::default(), headers: None }
}

/// An address of either family, with brackets or without, else a name.
pub(crate) fn host_of(text: &str) -> Host {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Ip)
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
const UNREACHABLE: Failure =
    Failure { outcome: Outcome::new(Blame::Trunk, EndReason::Unreachable), whose: Whose::Trunk };

/// 6 s: four transmissions over UDP (at 0, 0.5, 1.5 and 3.5 s) and the way back. RFC 3263 §4.3 would wait for timer B,
/// 32 s, in which callers hang up; the INVITE that is left behind is cancelled if it is heard of after all.
pub(crate) const SILENCE: Duration = Duration::from_secs(6);

/// Five: as many as a call that is forwarded from office to mobile to voicemail and back needs.
const REDIRECTIONS_MAX: u8 = 5;

/// RFC 3261 §19.1.2.
const DEFAULT_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use talkstack_control::gate::DialPolicy;
    use talkstack_control::port::{CallId, DialFormat};

    use super::*;

    #[test]
    fn every_address_is_tried_in_turn_and_who_has_rung_is_not_called_elsewhere() {
        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060", "[2001:db8::1]:5060", "192.0.2.2:5060"]);
        assert_eq!(attempt.poll_output(), invite("192.0.2.1:5060"));
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), invite("192.0.2.2:5060"), "the family of the offer goes first");
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), invite("[2001:db8::1]:5060"));
        attempt.handle_refused(503, vec![]);
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::Rejected));

        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
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
            let attempt = towards(host);
            assert_eq!(attempt.uri().to_string(), format!("sip:+15550000001@{shown}"));
        }
    }

    #[test]
    fn a_stream_is_connected_before_the_invite_and_one_that_cannot_be_is_passed_over() {
        let mut attempt = ready(Transport::Tcp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
        assert_eq!(attempt.poll_output(), connect("192.0.2.1:5060"));
        attempt.handle_connected(false);
        assert_eq!(attempt.poll_output(), connect("192.0.2.2:5060"));
        attempt.handle_connected(true);
        assert_eq!(attempt.poll_output(), Some(AttemptOutput::Invite(hop("192.0.2.2:5060", Transport::Tcp))));
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
            let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
            attempt.poll_output();
            attempt.handle_refused(status, vec![]);
            assert_eq!(attempt.poll_output(), give_up(blame, reason), "{status}");
            attempt.handle_refused(486, vec![]);
            assert_eq!(attempt.poll_output(), None, "it is over");
        }
    }

    #[test]
    fn a_redirection_is_followed_to_a_number_the_box_may_call_and_to_no_other() {
        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060"]);
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
    fn a_sips_redirection_is_followed_to_the_trunk_itself_under_tls_and_nowhere_else() {
        for (transport, contact, is_followed) in [
            (Transport::Tls, "sips:+15550000002@trunk.example", true),
            (Transport::Tls, "sips:+15550000002@192.0.2.7", false),
            (Transport::Tls, "sips:+15550000002@other.example", false),
            (Transport::Udp, "sips:+15550000002@trunk.example", false),
        ] {
            let mut attempt = ready(transport, &["192.0.2.1:5061"]);
            attempt.poll_output();
            attempt.handle_connected(true);
            attempt.poll_output();
            attempt.handle_refused(302, vec![uri(contact)]);
            let expected = match is_followed {
                true => Some(AttemptOutput::Connect(Hop {
                    address: "192.0.2.1:5061".parse().expect("an address"),
                    transport: Transport::Tls,
                })),
                false => give_up(Blame::Trunk, EndReason::DestinationNotAllowed),
            };
            assert_eq!(attempt.poll_output(), expected, "{transport:?} {contact}");
        }
    }

    #[test]
    fn a_circle_of_redirections_ends() {
        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060"]);
        for _ in 0..=REDIRECTIONS_MAX {
            assert_eq!(attempt.poll_output(), invite("192.0.2.1:5060"));
            attempt.handle_refused(302, vec![uri("sip:+15550000002@trunk.example")]);
        }
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::DestinationNotAllowed));
    }

    #[test]
    fn the_next_trunk_carries_what_this_one_cannot_and_nothing_that_was_refused_or_has_rung() {
        let refused = Outcome::new(Blame::Trunk, EndReason::Rejected);
        for (status, goes_on) in [(500, true), (502, true), (503, true), (504, true), (580, true), (403, false)]
            .into_iter()
            .chain([404, 408, 480, 486, 488, 302, 600, 603].map(|status| (status, false)))
        {
            let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060"]);
            attempt.others.push_back(carrier("backup.example"));
            attempt.poll_output();
            attempt.handle_refused(status, vec![]);
            let output = attempt.poll_output();
            assert_eq!(output == Some(AttemptOutput::Seize), goes_on, "{status}: {output:?}");
        }
        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060"]);
        attempt.others.push_back(carrier("backup.example"));
        attempt.poll_output();
        attempt.handle_progressed();
        attempt.handle_refused(503, vec![]);
        assert_eq!(attempt.poll_output(), Some(AttemptOutput::GiveUp(refused)), "it has rung");
    }

    #[test]
    fn a_trunk_without_a_channel_or_an_address_is_passed_over_and_the_last_one_s_failure_is_told() {
        let mut attempt = towards("trunk.example");
        for host in ["b.example", "c.example"] {
            attempt.others.push_back(carrier(host));
        }
        assert_eq!(attempt.poll_output(), Some(AttemptOutput::Seize));
        attempt.handle_full();
        assert_eq!((attempt.poll_output(), &*attempt.carrier().id), (Some(AttemptOutput::Seize), "b.example"));
        assert_eq!(attempt.uri().to_string(), "sip:+15550000001@b.example");
        assert_eq!(attempt.handle_addresses(vec![]), None);
        assert_eq!((attempt.poll_output(), &*attempt.carrier().id), (Some(AttemptOutput::Seize), "c.example"));
        assert!(attempt.handle_addresses(vec![hop("192.0.2.3:5060", Transport::Udp)]).is_some());
        assert_eq!(attempt.poll_output(), None, "the offer is still to be made");
        attempt.handle_offer();
        assert_eq!(attempt.poll_output(), invite("192.0.2.3:5060"));
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), give_up(Blame::Trunk, EndReason::Unreachable));

        let mut lonely = towards("trunk.example");
        lonely.poll_output();
        lonely.handle_full();
        assert_eq!(lonely.poll_output(), give_up(Blame::Gateway, EndReason::Overloaded));
    }

    #[test]
    fn the_offer_that_was_made_for_one_trunk_is_used_for_the_next() {
        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060"]);
        attempt.others.push_back(carrier("backup.example"));
        attempt.poll_output();
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), Some(AttemptOutput::Seize));
        attempt.handle_addresses(vec![hop("192.0.2.9:5060", Transport::Udp)]);
        assert_eq!(attempt.poll_output(), invite("192.0.2.9:5060"));
        assert!(attempt.is_at_trunk());
    }

    #[test]
    fn silence_leads_on_after_six_seconds_where_there_is_another_way_and_else_waits_for_timer_b() {
        let now = Instant::now();
        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060", "192.0.2.2:5060"]);
        attempt.poll_output();
        attempt.handle_sent(now);
        assert_eq!(attempt.poll_timeout(), Some(now + SILENCE));
        attempt.handle_unanswered();
        assert_eq!(attempt.poll_output(), invite("192.0.2.2:5060"));
        attempt.handle_sent(now);
        assert_eq!(attempt.poll_timeout(), None, "nothing is left to try");

        let mut attempt = ready(Transport::Udp, &["192.0.2.1:5060"]);
        attempt.others.push_back(carrier("backup.example"));
        attempt.poll_output();
        attempt.handle_sent(now);
        assert!(attempt.poll_timeout().is_some());
        attempt.handle_heard();
        assert_eq!(attempt.poll_timeout(), None, "a 100 is patience enough");
    }

    #[test]
    fn the_number_is_written_as_the_trunk_wants_it_in_its_own_domain() {
        let mut carrier = carrier("192.0.2.1");
        carrier.trunk.port = Some(5070);
        carrier.trunk.numbering.dial_format = DialFormat::National;
        carrier.trunk.numbering.country_code = Some("1".into());
        let attempt = Attempt::new(order("+15550000001"), carrier.clone(), VecDeque::new(), Gate::default());
        assert_eq!(attempt.uri().to_string(), "sip:5550000001@192.0.2.1:5070");
        carrier.trunk.access.domain = Some("ims.example".into());
        let attempt = Attempt::new(order("+4930123456"), carrier, VecDeque::new(), Gate::default());
        assert_eq!(attempt.uri().to_string(), "sip:004930123456@ims.example");
    }

    #[test]
    fn no_order_reaches_an_emergency_service_or_what_the_owner_has_not_allowed() {
        let refused = Err(Outcome::new(Blame::Operator, EndReason::DestinationNotAllowed));
        let gate = Gate::new(DialPolicy { allow: (1..=9).map(|digit| format!("+{digit}")).collect() });
        for to in ["911", "112", "+112", "+1911", "+1911000", "+36112", "000", "+44999", "+19005550100", "echo", ""] {
            assert_eq!(check(&order(to), &gate), refused, "{to}");
        }
        assert_eq!(check(&order("+15550000001"), &gate), Ok(()));
        assert_eq!(check(&order("+4930123456"), &Gate::default()), refused, "another country");
    }

    fn ready(transport: Transport, addresses: &[&str]) -> Attempt {
        let mut attempt = towards("trunk.example");
        attempt.poll_output();
        attempt.handle_addresses(addresses.iter().map(|text| hop(text, transport)).collect());
        attempt.handle_offer();
        attempt
    }

    fn towards(host: &str) -> Attempt {
        Attempt::new(order("+15550000001"), carrier(host), VecDeque::new(), Gate::new(DialPolicy::default()))
    }

    fn carrier(host: &str) -> Carrier {
        let trunk = TrunkRoute { port: Some(5060), is_default: true, ..TrunkRoute::new("t", host) };
        Carrier { id: host.into(), trunk, presents: "+15551234567".into() }
    }

    fn order(to: &str) -> DialOrder {
        DialOrder {
            call_id: CallId(1),
            to: to.into(),
            from: "+15551234567".into(),
            project_id: "p".into(),
            agent_id: "a".into(),
            variables: Default::default(),
        }
    }

    fn hop(text: &str, transport: Transport) -> Hop {
        Hop { address: text.parse().expect("an address"), transport }
    }

    fn uri(text: &str) -> Uri {
        Uri::parse(text).expect("a URI")
    }

    fn invite(target: &str) -> Option<AttemptOutput> {
        Some(AttemptOutput::Invite(hop(target, Transport::Udp)))
    }

    fn connect(target: &str) -> Option<AttemptOutput> {
        Some(AttemptOutput::Connect(hop(target, Transport::Tcp)))
    }

    fn give_up(blame: Blame, reason: EndReason) -> Option<AttemptOutput> {
        Some(AttemptOutput::GiveUp(Outcome::new(blame, reason)))
    }
}
