//! Asking the DNS: carries out the questions of a [`Lookup`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::trunks::PeerName;
use crate::trunks::locate::{Answer, Located, Lookup, NaptrRecord, Question, Records, SrvRecord};

/// The way to the DNS.
#[derive(Debug, Clone, Default)]
pub struct Dns {
    /// `sip.dns`; none is the system's.
    servers: Vec<SocketAddr>,
}

impl Dns {
    /// Asks these servers, or those of the system where there are none.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Dns { servers }
    }

    /// Finds a peer, within 5 s.
    pub async fn locate(&self, name: PeerName) -> Located {
        tokio::time::timeout(LOOKUP_MAX, self.ask(name)).await.unwrap_or_else(|_| Located::nothing())
    }

    async fn ask(&self, name: PeerName) -> Located {
        let mut lookup = Lookup::new(name);
        // The system's servers may have changed since the last lookup: it is set up anew for each.
        let resolver = self.resolver().ok();
        loop {
            let questions = lookup.questions();
            if questions.is_empty() {
                return lookup.finish();
            }
            let mut asked = Vec::with_capacity(questions.len());
            for question in questions {
                let (resolver, is_system) = (resolver.clone(), self.servers.is_empty());
                asked.push(tokio::spawn(async move { answer(resolver, question, is_system).await }));
            }
            let mut answers = Vec::with_capacity(asked.len());
            for question in asked {
                // A question that panicked has no answer.
                answers.push(question.await.unwrap_or_default());
            }
            lookup.handle_answers(answers);
        }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let server = |address: &SocketAddr| {
                let with_port = |mut connection: ConnectionConfig| {
                    connection.port = address.port();
                    connection
                };
                let connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
                NameServerConfig::new(address.ip(), true, connections)
            };
            let servers = self.servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = QUERY_MAX;
        options.attempts = ATTEMPTS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // How long records hold is the trunks' to know.
        options.cache_size = 0;
        builder.build()
    }
}

/// Asks one question; `None` when no name server answers it.
async fn answer(resolver: Option<TokioResolver>, question: Question, is_system: bool) -> Option<Answer> {
    let found = match &resolver {
        Some(resolver) => ask(resolver, &question).await,
        None => None,
    };
    match (found, question) {
        // Names that the system knows by other means, such as mDNS.
        (None, Question::Addresses(host)) if is_system => by_system(&host).await,
        (Some(answer), Question::Addresses(host)) if is_system && answer.records == Records::Addresses(Vec::new()) => {
            Some(by_system(&host).await.unwrap_or(answer))
        }
        (found, _) => found,
    }
}

async fn ask(resolver: &TokioResolver, question: &Question) -> Option<Answer> {
    let (found, none) = match question {
        Question::Naptr(name) => (resolver.lookup(name.as_str(), RecordType::NAPTR).await, Records::Naptr(Vec::new())),
        Question::Srv(name) => (resolver.lookup(name.as_str(), RecordType::SRV).await, Records::Srv(Vec::new())),
        Question::Addresses(host) => {
            let found = resolver.lookup_ip(host.as_str()).await;
            (found.map(|found| found.as_lookup().clone()), Records::Addresses(Vec::new()))
        }
    };
    let lookup = match found {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() => return Some(Answer { records: none, ttl: NEGATIVE_TTL }),
        Err(_) => return None,
    };
    let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
    let answers = lookup.answers().iter().map(|record| &record.data);
    let records = match question {
        Question::Naptr(_) => Records::Naptr(answers.filter_map(naptr).collect()),
        Question::Srv(_) => Records::Srv(answers.filter_map(srv).collect()),
        Question::Addresses(_) => Records::Addresses(answers.filter_map(RData::ip_addr).collect()),
    };
    Some(Answer { records, ttl })
}

async fn by_system(host: &str) -> Option<Answer> {
    let found = tokio::net::lookup_host((host, 0)).await.ok()?;
    Some(Answer { records: Records::Addresses(found.map(|address| address.ip()).collect()), ttl: NEGATIVE_TTL })
}

fn naptr(data: &RData) -> Option<NaptrRecord> {
    let RData::NAPTR(record) = data else { return None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(NaptrRecord {
        order: record.order,
        preference: record.preference,
        flags: text(&record.flags),
        service: text(&record.services),
        replacement: record.replacement.to_utf8(),
    })
}

fn srv(data: &RData) -> Option<SrvRecord> {
    let RData::SRV(record) = data else { return None };
    Some(SrvRecord {
        priority: record.priority,
        weight: record.weight,
        port: record.port,
        target: record.target.to_utf8(),
    })
}

/// 5 s for all questions of a name; a call waits 6 s for it at the most.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// 1 s for one question to one server: far more than a resolver on the same continent takes.
const QUERY_MAX: Duration = Duration::from_secs(1);

/// One repetition: datagrams are lost.
const ATTEMPTS: usize = 2;

/// 60 s, as long as anything is believed here.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
