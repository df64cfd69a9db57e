//! Finding a SIP server by its name (RFC 3263 §4.1, §4.2): which questions the DNS is asked, and what follows.
//!
//! ```text
//!   auto, no port ─▶ NAPTR ─ found ─▶ SRV of each replacement ───┐
//!                      └ none ─▶ SRV of TLS, UDP and TCP ────────┼─ found ─▶ A, AAAA of each server ─▶ located
//!   a transport, no port ─▶ SRV of that transport ───────────────┘
//!                                        └ none ─┐
//!   a port ──────────────────────────────────────┴─▶ A, AAAA of the host ─▶ located
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use talkstack_control::port::TrunkTransport;
use talkstack_media::sip::Transport;

use super::{Hop, PeerName, default_port};

/// Asks the DNS for one peer, round by round, until nothing is left to ask.
#[derive(Debug)]
pub struct Lookup {
    name: PeerName,
    stage: Stage,
    /// SRV names in the order of preference, and the transport that each stands for.
    services: Vec<(Transport, String)>,
    servers: Vec<(usize, SrvRecord)>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    ttl: Duration,
    is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Which transports the domain has.
    Naptr,
    /// Which servers a transport has.
    Srv,
    /// Where the servers are.
    Servers,
    /// Where the host itself is.
    Host,
    /// Nothing is left to ask.
    Located,
}

/// A question to the DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// NAPTR records of a domain.
    Naptr(String),
    /// SRV records of a service.
    Srv(String),
    /// A and AAAA records of a host.
    Addresses(String),
}

/// What the DNS says. No record at all is an answer too; a name server that gives none is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The records.
    pub records: Records,
    /// How long they may be used.
    pub ttl: Duration,
}

/// Records of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Of [`Question::Naptr`].
    Naptr(Vec<NaptrRecord>),
    /// Of [`Question::Srv`].
    Srv(Vec<SrvRecord>),
    /// Of [`Question::Addresses`].
    Addresses(Vec<IpAddr>),
}

/// A NAPTR record (RFC 3403 §4.1), as far as SIP reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaptrRecord {
    /// The lower is read first.
    pub order: u16,
    /// Among those of one order the lower is preferred.
    pub preference: u16,
    /// `s`: the replacement names an SRV record.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T` or `SIPS+D2T`.
    pub service: String,
    /// The SRV record's name.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvRecord {
    /// The lower is tried first.
    pub priority: u16,
    /// Its share among those of one priority.
    pub weight: u16,
    /// The server's port.
    pub port: u16,
    /// The server's name; `.` says that there is no such service.
    pub target: String,
}

/// What was found of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    /// Its servers, in no order that matters: each names its rank, priority and weight.
    pub servers: Vec<Server>,
    /// How long it holds.
    pub ttl: Duration,
    /// Every question was answered. Else what was known before is the better knowledge.
    pub is_whole: bool,
}

/// One server of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How it is reached.
    pub transport: Transport,
    /// How far down its transport stands in the domain's preference, from 0.
    pub rank: u16,
    /// The priority of its SRV record.
    pub priority: u16,
    /// The weight of its SRV record.
    pub weight: u16,
    /// Its addresses, the first to be tried first.
    pub addresses: Vec<SocketAddr>,
}

impl Lookup {
    /// Begins with a name; an address needs no lookup ([`PeerName::address`]).
    pub fn new(name: PeerName) -> Self {
        let mut lookup = Lookup {
            stage: Stage::Srv,
            services: Vec::new(),
            servers: Vec::new(),
            addresses: BTreeMap::new(),
            ttl: TTL_MAX,
            is_whole: true,
            name,
        };
        match (lookup.name.port, lookup.name.transport) {
            (Some(_), _) => lookup.stage = Stage::Host,
            (None, TrunkTransport::Auto) => lookup.stage = Stage::Naptr,
            (None, transport) => lookup.services = vec![lookup.service(fixed(transport))],
        }
        lookup
    }

    /// What is to be asked next, all at once; none when everything has been.
    pub fn questions(&self) -> Vec<Question> {
        let host = || self.name.host.clone();
        match self.stage {
            Stage::Naptr => vec![Question::Naptr(host())],
            Stage::Srv => self.services.iter().map(|(_, name)| Question::Srv(name.clone())).collect(),
            Stage::Servers => {
                let targets: BTreeSet<_> = self.servers.iter().map(|(_, server)| server.target.clone()).collect();
                targets.into_iter().map(Question::Addresses).collect()
            }
            Stage::Host => vec![Question::Addresses(host())],
            Stage::Located => Vec::new(),
        }
    }

    /// Takes the answers to [`Lookup::questions`], in their order; `None` where no name server gave one.
    pub fn handle_answers(&mut self, answers: Vec<Option<Answer>>) {
        let questions = self.questions();
        let mut naptrs = Vec::new();
        for (at, (question, answer)) in questions.into_iter().zip(answers).enumerate() {
            let Some(Answer { records, ttl }) = answer else {
                self.is_whole = false;
                continue;
            };
            self.ttl = self.ttl.min(ttl);
            match (question, records) {
                (Question::Naptr(_), Records::Naptr(records)) => naptrs = records,
                (Question::Srv(_), Records::Srv(records)) => {
                    let room = SERVERS_MAX.saturating_sub(self.servers.len());
                    self.servers.extend(records.into_iter().take(room).map(|record| (at, record)));
                }
                (Question::Addresses(host), Records::Addresses(mut addresses)) => {
                    // Stable: a box has an IPv4 address more surely than a way to an IPv6 one.
                    addresses.sort_by_key(IpAddr::is_ipv6);
                    addresses.truncate(ADDRESSES_OF_SERVER_MAX);
                    self.addresses.insert(host, addresses);
                }
                _ => self.is_whole = false,
            }
        }
        self.go_on(naptrs);
    }

    /// What was found, once there are no more questions.
    pub fn finish(self) -> Located {
        let ttl = self.ttl.clamp(TTL_MIN, TTL_MAX);
        let of = |host: &str, port: u16| -> Vec<SocketAddr> {
            let addresses = self.addresses.get(host).into_iter().flatten();
            addresses.map(|ip| SocketAddr::new(*ip, port)).collect()
        };
        let mut servers: Vec<Server> = if self.servers.is_empty() {
            let transport = fixed(self.name.transport);
            let addresses = of(&self.name.host, self.name.port.unwrap_or(default_port(transport)));
            vec![Server { transport, rank: 0, priority: 0, weight: 0, addresses }]
        } else {
            let server = |(rank, record): &(usize, SrvRecord)| Server {
                transport: self.services[*rank].0,
                rank: *rank as u16,
                priority: record.priority,
                weight: record.weight,
                addresses: of(&record.target, record.port),
            };
            self.servers.iter().map(server).collect()
        };
        servers.retain(|server| !server.addresses.is_empty());
        Located { servers, ttl, is_whole: self.is_whole }
    }

    fn go_on(&mut self, naptrs: Vec<NaptrRecord>) {
        self.stage = match self.stage {
            Stage::Naptr => {
                self.services = services(naptrs);
                if self.services.is_empty() {
                    self.services = PREFERRED.into_iter().map(|transport| self.service(transport)).collect();
                }
                Stage::Srv
            }
            // RFC 2782: a target of "." says that the service is decidedly not there, so the host is not asked either.
            Stage::Srv if self.servers.iter().any(|(_, server)| server.target == ".") => {
                self.servers.retain(|(_, server)| server.target != ".");
                if self.servers.is_empty() { Stage::Located } else { Stage::Servers }
            }
            Stage::Srv if self.servers.is_empty() => Stage::Host,
            Stage::Srv => Stage::Servers,
            Stage::Servers | Stage::Host | Stage::Located => Stage::Located,
        };
    }

    fn service(&self, transport: Transport) -> (Transport, String) {
        let prefix = match transport {
            Transport::Tls | Transport::Wss => "_sips._tcp",
            Transport::Tcp | Transport::Ws => "_sip._tcp",
            Transport::Udp => "_sip._udp",
        };
        (transport, format!("{prefix}.{}", self.name.host))
    }
}

impl Server {
    /// Its addresses, each with its transport.
    pub(super) fn hops(&self) -> impl Iterator<Item = Hop> {
        let transport = self.transport;
        self.addresses.iter().map(move |address| Hop { address: *address, transport })
    }
}

impl Located {
    /// No question was answered.
    pub fn nothing() -> Self {
        Located { servers: Vec::new(), ttl: TTL_MIN, is_whole: false }
    }
}

/// The services that a domain offers and the box speaks, the preferred first.
fn services(mut records: Vec<NaptrRecord>) -> Vec<(Transport, String)> {
    records.sort_by_key(|record| (record.order, record.preference));
    let service = |record: NaptrRecord| {
        let transport = match record.service.to_ascii_uppercase().as_str() {
            "SIPS+D2T" => Transport::Tls,
            "SIP+D2T" => Transport::Tcp,
            "SIP+D2U" => Transport::Udp,
            _ => return None,
        };
        let leads_on = record.flags.eq_ignore_ascii_case("s") && !matches!(record.replacement.as_str(), "" | ".");
        leads_on.then_some((transport, record.replacement))
    };
    records.into_iter().filter_map(service).take(SERVICES_MAX).collect()
}

/// The transport that is used where nothing in the DNS says more (RFC 3263 §4.1).
pub(crate) fn fixed(transport: TrunkTransport) -> Transport {
    match transport {
        TrunkTransport::Tls => Transport::Tls,
        TrunkTransport::Tcp => Transport::Tcp,
        TrunkTransport::Udp | TrunkTransport::Auto => Transport::Udp,
    }
}

/// Without NAPTR records the choice is ours (RFC 3263 §4.1): whoever publishes `_sips` wants to be reached so; behind it
/// UDP is what every SIP element speaks.
const PREFERRED: [Transport; 3] = [Transport::Tls, Transport::Udp, Transport::Tcp];

/// 60 s (`telephony` 7): a peer that moves is found within a minute.
pub(super) const TTL_MAX: Duration = Duration::from_secs(60);

/// 5 s: a record with a TTL of 0 does not make a question of every call.
pub(super) const TTL_MIN: Duration = Duration::from_secs(5);

/// Four: RFC 3263 has three that are spoken here, and one may stand in two orders.
const SERVICES_MAX: usize = 4;

/// 16 servers: the largest carriers publish eight.
const SERVERS_MAX: usize = 16;

/// 16 addresses of one name; a caller would not wait for more.
const ADDRESSES_OF_SERVER_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_s_naptr_records_choose_the_transport_and_lead_to_its_servers() {
        let mut lookup = Lookup::new(name("example.com", None, TrunkTransport::Auto));
        assert_eq!(lookup.questions(), [Question::Naptr("example.com".into())]);
        lookup.handle_answers(vec![naptr(&[
            (100, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
            (50, 50, "S", "sips+d2t", "_sips._tcp.other.net"),
            (10, 50, "s", "SIP+D2S", "_sip._sctp.example.com"),
            (20, 50, "u", "E2U+sip", "."),
        ])]);
        let services = ["_sips._tcp.other.net", "_sip._udp.example.com"];
        assert_eq!(lookup.questions(), services.map(|name| Question::Srv(name.into())));
        lookup.handle_answers(vec![srv(&[(1, 5, 5061, "a.other.net")]), srv(&[(0, 0, 5070, "b.example.com")])]);
        let hosts = ["a.other.net", "b.example.com"];
        assert_eq!(lookup.questions(), hosts.map(|name| Question::Addresses(name.into())));
        lookup.handle_answers(vec![addresses(&["2001:db8::1", "192.0.2.1"]), addresses(&["192.0.2.2"])]);
        assert_eq!(lookup.questions(), []);
        let located = lookup.finish();
        let server = |transport, rank, priority, weight, addresses: &[&str]| Server {
            transport,
            rank,
            priority,
            weight,
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
        };
        let expected = [
            server(Transport::Tls, 0, 1, 5, &["192.0.2.1:5061", "[2001:db8::1]:5061"]),
            server(Transport::Udp, 1, 0, 0, &["192.0.2.2:5070"]),
        ];
        assert_eq!((located.servers, located.is_whole), (expected.into(), true));
    }

    #[test]
    fn without_naptr_records_each_transport_s_service_is_asked_for_and_without_those_the_host() {
        let mut lookup = Lookup::new(name("example.com", None, TrunkTransport::Auto));
        lookup.handle_answers(vec![naptr(&[])]);
        let services = ["_sips._tcp.example.com", "_sip._udp.example.com", "_sip._tcp.example.com"];
        assert_eq!(lookup.questions(), services.map(|name| Question::Srv(name.into())));
        lookup.handle_answers(vec![srv(&[]), srv(&[]), srv(&[])]);
        assert_eq!(lookup.questions(), [Question::Addresses("example.com".into())]);
        lookup.handle_answers(vec![addresses(&["192.0.2.1"])]);
        let located = lookup.finish();
        assert_eq!(located.servers.len(), 1);
        assert_eq!(located.servers[0].transport, Transport::Udp);
        assert_eq!(
            located.servers[0].addresses,
            ["192.0.2.1:5060".parse::<std::net::SocketAddr>().expect("an address")]
        );
    }

    #[test]
    fn a_transport_asks_for_its_service_alone_and_falls_back_to_its_own_port() {
        for (transport, service, port) in [
            (TrunkTransport::Udp, "_sip._udp.a.example", 5060),
            (TrunkTransport::Tcp, "_sip._tcp.a.example", 5060),
            (TrunkTransport::Tls, "_sips._tcp.a.example", 5061),
        ] {
            let mut lookup = Lookup::new(name("a.example", None, transport));
            assert_eq!(lookup.questions(), [Question::Srv(service.into())]);
            lookup.handle_answers(vec![srv(&[])]);
            lookup.handle_answers(vec![addresses(&["192.0.2.1"])]);
            let located = lookup.finish();
            assert_eq!(located.servers[0].addresses[0].port(), port, "{service}");
            assert_eq!(located.servers[0].transport, fixed(transport));
        }
    }

    #[test]
    fn a_port_asks_for_addresses_only() {
        for transport in [TrunkTransport::Auto, TrunkTransport::Udp, TrunkTransport::Tcp, TrunkTransport::Tls] {
            let mut lookup = Lookup::new(name("a.example", Some(5099), transport));
            assert_eq!(lookup.questions(), [Question::Addresses("a.example".into())]);
            lookup.handle_answers(vec![addresses(&["192.0.2.1"])]);
            let located = lookup.finish();
            assert_eq!(
                located.servers[0].addresses,
                ["192.0.2.1:5099".parse::<std::net::SocketAddr>().expect("an address")]
            );
            assert_eq!(located.servers[0].transport, fixed(transport));
        }
    }

    #[test]
    fn a_service_that_is_decidedly_not_there_has_no_servers() {
        let mut lookup = Lookup::new(name("a.example", None, TrunkTransport::Udp));
        lookup.handle_answers(vec![srv(&[(0, 0, 0, ".")])]);
        assert_eq!(lookup.questions(), []);
        assert_eq!(lookup.finish().servers, []);
    }

    #[test]
    fn what_was_not_answered_is_told_and_the_rest_is_used() {
        let mut lookup = Lookup::new(name("a.example", None, TrunkTransport::Tcp));
        lookup.handle_answers(vec![None]);
        lookup.handle_answers(vec![addresses(&["192.0.2.1"])]);
        let located = lookup.finish();
        assert!(!located.is_whole);
        assert_eq!(located.servers.len(), 1, "a forwarder that knows no SRV still finds hosts");
    }

    #[test]
    fn the_shortest_life_holds_for_the_whole_within_5_and_60_seconds() {
        for (first, second, expected) in [(30, 20, 20), (1, 300, 5), (300, 300, 60)] {
            let mut lookup = Lookup::new(name("a.example", None, TrunkTransport::Tcp));
            let aged = |answer: Option<Answer>, seconds| {
                answer.map(|answer| Answer { ttl: Duration::from_secs(seconds), ..answer })
            };
            lookup.handle_answers(vec![aged(srv(&[(0, 0, 5060, "b.example")]), first)]);
            lookup.handle_answers(vec![aged(addresses(&["192.0.2.1"]), second)]);
            assert_eq!(lookup.finish().ttl, Duration::from_secs(expected));
        }
    }

    #[test]
    fn a_flood_of_records_is_cut() {
        let mut lookup = Lookup::new(name("a.example", None, TrunkTransport::Udp));
        let names: Vec<String> = (0..100).map(|number| format!("{number}.example")).collect();
        let records: Vec<_> = names.iter().map(|name| (0, 0, 5060, name.as_str())).collect();
        lookup.handle_answers(vec![srv(&records)]);
        assert_eq!(lookup.questions().len(), SERVERS_MAX);
        let many: Vec<String> = (0..100).map(|number| format!("192.0.2.{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        lookup.handle_answers(vec![addresses(&many); SERVERS_MAX]);
        assert!(lookup.finish().servers.iter().all(|server| server.addresses.len() == ADDRESSES_OF_SERVER_MAX));
    }

    fn name(host: &str, port: Option<u16>, transport: TrunkTransport) -> PeerName {
        PeerName { host: host.into(), port, transport }
    }

    fn answer(records: Records) -> Option<Answer> {
        Some(Answer { records, ttl: Duration::from_secs(60) })
    }

    fn naptr(records: &[(u16, u16, &str, &str, &str)]) -> Option<Answer> {
        let record = |(order, preference, flags, service, replacement): &(u16, u16, &str, &str, &str)| NaptrRecord {
            order: *order,
            preference: *preference,
            flags: (*flags).into(),
            service: (*service).into(),
            replacement: (*replacement).into(),
        };
        answer(Records::Naptr(records.iter().map(record).collect()))
    }

    fn srv(records: &[(u16, u16, u16, &str)]) -> Option<Answer> {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| SrvRecord {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).into(),
        };
        answer(Records::Srv(records.iter().map(record).collect()))
    }

    fn addresses(texts: &[&str]) -> Option<Answer> {
        answer(Records::Addresses(texts.iter().map(|text| text.parse().expect("an address")).collect()))
    }
}
