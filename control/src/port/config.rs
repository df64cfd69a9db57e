//! The configuration that routing reads, as it crosses the port.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::agent::{AgentTool, BargeIn, FirstSpeaker, HttpTool, TransferTarget};
use super::media::{Srtp, TrunkMedia};
use super::provider::ProviderRoute;

/// The configuration that routing reads: the whole of it, every time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts up with every change; a lower one never replaces a higher one.
    pub revision: u64,
    /// The box has an owner. Until it has, a box with `setup.required` answers no SIP.
    #[serde(default)]
    pub is_claimed: bool,
    /// Projects by id.
    pub projects: BTreeMap<String, ProjectRoute>,
    /// Agents by id.
    pub agents: BTreeMap<String, AgentRoute>,
    /// Called numbers, E.164 digits without the `+`, to what answers them.
    pub numbers: BTreeMap<String, NumberRoute>,
    /// Trunks by id.
    #[serde(default)]
    pub trunks: BTreeMap<String, TrunkRoute>,
    /// Phones of our own, by the user they register as.
    #[serde(default)]
    pub extensions: BTreeMap<String, ExtensionRoute>,
    /// What decides where a call goes, in the order it is asked; the first that matches decides.
    #[serde(default)]
    pub routes: Vec<RouteRule>,
}

impl Snapshot {
    /// The trunks that may carry a call which is to present `from`, each with the number it presents, E.164 with `+`; the
    /// first is tried first. None: nobody may present it.
    pub fn carriers(&self, from: &str) -> Vec<(&str, &TrunkRoute, String)> {
        let all = self.trunks.iter();
        let mut carriers: Vec<_> =
            all.filter_map(|(id, trunk)| Some((id.as_str(), trunk, trunk.presents(from)?))).collect();
        carriers.sort_by_key(|(_, trunk, _)| trunk.rank(from));
        carriers
    }
}

/// A SIP peer that calls are placed through and come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkRoute {
    /// As the owner named it.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Its port; `None` asks the DNS for one (RFC 3263 §4.2), and is the transport's own without an SRV record.
    pub port: Option<u16>,
    /// How SIP reaches it.
    pub transport: TrunkTransport,
    /// Who we are when it asks.
    #[serde(default)]
    pub username: Option<String>,
    /// The password that goes with it.
    #[serde(default)]
    pub password: Option<Sealed>,
    /// Our numbers on it, E.164 digits without the `+`.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Calls at once, both ways.
    pub max_channels: u32,
    /// It carries the calls of numbers that no trunk lists.
    #[serde(default)]
    pub is_default: bool,
    /// How the two sides find and know each other.
    #[serde(default)]
    pub access: TrunkAccess,
    /// When it is used, and how much.
    #[serde(default)]
    pub policy: TrunkPolicy,
    /// How numbers are written on it.
    #[serde(default)]
    pub numbering: Numbering,
    /// Which of SIP's extensions are used with it.
    #[serde(default)]
    pub signalling: Signalling,
    /// How sound is carried on it.
    #[serde(default)]
    pub media: TrunkMedia,
}

/// How a trunk stands to a number; the first is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It lists it.
    Lists,
    /// It is the default, lists none and presents any: whoever lists numbers has said which ones are his.
    PresentsAny,
    /// It presents its own number in its place.
    Replaces,
}

impl TrunkRoute {
    /// A trunk with every default: UDP, 30 channels, no account.
    pub fn new(name: &str, host: &str) -> Self {
        TrunkRoute { name: name.to_owned(), host: host.to_owned(), max_channels: 30, ..TrunkRoute::default() }
    }

    /// The number that it presents for a call of `from`, E.164 with `+`; `None` when it may carry no such call: a number
    /// that a trunk does not list is never presented on it.
    pub fn presents(&self, from: &str) -> Option<String> {
        self.standing(from).map(|(_, digits)| format!("+{digits}"))
    }

    /// The lower is tried first with a call of `from`: by priority, and among equals those that list the number before
    /// those that present any. Those that would put a number of their own in its place come last.
    pub fn rank(&self, from: &str) -> Option<impl Ord + use<>> {
        let (standing, _) = self.standing(from)?;
        Some((standing == Standing::Replaces, self.policy.priority, standing))
    }

    fn standing<'a>(&'a self, from: &'a str) -> Option<(Standing, &'a str)> {
        let digits = from.strip_prefix('+').unwrap_or(from);
        if self.numbers.iter().any(|number| number == digits) {
            return Some((Standing::Lists, digits));
        }
        if self.is_default && self.numbers.is_empty() {
            return Some((Standing::PresentsAny, digits));
        }
        let own = self.numbering.default_number.as_deref()?;
        let own = own.strip_prefix('+').unwrap_or(own);
        let is_own = self.numbers.is_empty() || self.numbers.iter().any(|number| number == own);
        is_own.then_some((Standing::Replaces, own))
    }
}

/// How SIP reaches a trunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrunkTransport {
    /// Datagrams.
    #[default]
    Udp,
    /// A stream.
    Tcp,
    /// A stream under TLS.
    Tls,
    /// What the host's NAPTR and SRV records prefer (RFC 3263 §4.1); UDP without any.
    Auto,
}

/// How a trunk and the box find and know each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrunkAccess {
    /// The domain in our From and in the Request-URI; `None` is the host.
    pub domain: Option<String>,
    /// Where requests go in place of the host: `host`, `host:port` or `sip:host:port;transport=tcp`.
    pub outbound_proxy: Option<String>,
    /// The name in digest answers; `None` is the username.
    pub auth_username: Option<String>,
    /// Whether the box registers there.
    pub register: bool,
    /// The binding's life that is asked for, in seconds, 60 to 86,400. Default 600.
    pub register_expires_s: u32,
    /// Networks it calls from besides its own addresses, as `192.0.2.0/24`.
    pub networks: Vec<String>,
    /// The SHA-256 fingerprint its certificate must have, 64 hex digits; `None` wants one that a known authority signed.
    pub tls_fingerprint: Option<String>,
    /// Host, or host and port, in the Contact that is registered there, in place of `sip.advertise`.
    pub advertise: Option<String>,
}

impl Default for TrunkAccess {
    fn default() -> Self {
        TrunkAccess {
            domain: None,
            outbound_proxy: None,
            auth_username: None,
            register: false,
            register_expires_s: 600,
            networks: Vec::new(),
            tls_fingerprint: None,
            advertise: None,
        }
    }
}

/// When a trunk is used, and how much.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrunkPolicy {
    /// The lower is tried the sooner among trunks that may carry a call, 0 to 1,000.
    pub priority: u32,
    /// Calls placed within a second, 1 to 1,000; `None` sets no limit.
    pub calls_per_second: Option<u32>,
    /// It carries emergency calls.
    pub is_emergency: bool,
}

/// How numbers are written on a trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Numbering {
    /// The country that national numbers belong to, as `36`; `None` takes numbers as they come.
    pub country_code: Option<String>,
    /// What national numbers begin with: `0`, `06`; empty in a country without.
    pub national_prefix: String,
    /// What international numbers begin with beside `+`; empty is `00`.
    pub international_prefix: String,
    /// How called numbers are written.
    pub dial_format: DialFormat,
    /// Where the number we present stands.
    pub caller_id: CallerIdField,
    /// What is presented where the wanted number is not on the trunk, E.164 digits; `None` refuses the call.
    pub default_number: Option<String>,
}

/// How a called number is written on a trunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialFormat {
    /// `+3612345678`.
    #[default]
    E164,
    /// `3612345678`.
    Digits,
    /// `003612345678`, with the trunk's international prefix.
    International,
    /// `0612345678` in the trunk's country, as International elsewhere.
    National,
}

/// Which header field carries the number that is presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallerIdField {
    /// From alone.
    #[default]
    From,
    /// From, and P-Asserted-Identity (RFC 3325).
    Asserted,
    /// The account in From, the number in P-Preferred-Identity (RFC 3325).
    Preferred,
    /// From, and Remote-Party-ID for what has no better.
    RemoteParty,
}

/// Which of SIP's extensions are used with a trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signalling {
    /// Seconds between two OPTIONS that ask whether it is there, 10 to 3,600; 0 never. Default 60.
    pub options_interval_s: u32,
    /// Reliable provisional responses (RFC 3262).
    pub reliable: Reliable,
    /// Session-Expires in seconds (RFC 4028), 90 to 86,400; 0 never. Default 1,800.
    pub session_expires_s: u32,
    /// Calls are transferred by REFER where the peer allows it.
    pub refer: bool,
}

impl Default for Signalling {
    fn default() -> Self {
        Signalling { options_interval_s: 60, reliable: Reliable::Supported, session_expires_s: 1800, refer: false }
    }
}

/// Whether provisional responses are made reliable (RFC 3262).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reliable {
    /// Never offered; one that requires it gets 420.
    Off,
    /// Offered, and used where both sides can.
    #[default]
    Supported,
    /// Demanded.
    Required,
}

/// A phone of our own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtensionRoute {
    /// Who sits there, for people.
    pub name: String,
    /// What it proves itself with.
    pub password: Option<Sealed>,
    /// The number it presents outside, E.164 digits; `None` lets it call inside only, and emergency numbers.
    pub number: Option<String>,
    /// Phones registered at once, 1 to 10. Default 0 is 5.
    pub contacts_max: u32,
    /// The project its calls belong to; they are recorded with it.
    pub project_id: Option<String>,
    /// How it dials numbers.
    pub numbering: Numbering,
    /// Whether its sound is encrypted.
    pub srtp: Srtp,
    /// Keys may stand in an offer of ours (RFC 4568) though the signalling is plain.
    pub sdes_over_plain: bool,
}

/// One line of the routing table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteRule {
    /// Its id.
    pub id: String,
    /// As the owner named it.
    pub name: String,
    /// Which called numbers it matches, in FreePBX's notation; none matches all.
    pub called: Vec<String>,
    /// Which callers it matches; none matches all.
    pub callers: Vec<String>,
    /// Which lines it matches.
    pub from: RouteSource,
    /// When it matches, in `box.timezone`; none is always.
    pub hours: Vec<Hours>,
    /// Where the call goes, one after the other until one answers.
    pub targets: Vec<RouteTarget>,
}

/// Which lines a route looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum RouteSource {
    /// Every line.
    #[default]
    Any,
    /// One trunk.
    Trunk {
        /// Its id.
        trunk_id: String,
    },
    /// Our own phones.
    Extensions,
}

/// A span of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// Days of the week, 1 (Monday) to 7; none is all.
    #[serde(default)]
    pub days: Vec<u8>,
    /// Its first minute, counted from midnight, 0 to 1,439.
    pub from: u16,
    /// The minute behind its last, 1 to 1,440; one that is not above `from` reaches into the next day.
    pub to: u16,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum RouteTarget {
    /// An agent.
    Agent {
        /// Its id.
        agent_id: String,
    },
    /// The built-in attendant.
    Attendant,
    /// The built-in echo.
    Echo,
    /// A phone of our own.
    Extension {
        /// The user.
        user: String,
        /// How long it rings, in seconds, 5 to 180; `None` is `calls.ring_timeout_s`.
        #[serde(default)]
        ring_s: Option<u16>,
    },
    /// Out through a trunk, to the called number as the pattern rewrote it, or to another one.
    Trunk {
        /// Its id.
        trunk_id: String,
        /// Whom to call in place of the called number.
        #[serde(default)]
        number: Option<String>,
        /// How long it rings, as of an extension.
        #[serde(default)]
        ring_s: Option<u16>,
    },
    /// A final response.
    Refuse {
        /// 400 to 699.
        status: u16,
    },
}

/// A secret encrypted under the box's own; opened only where it is used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sealed")
    }
}

/// What routing needs to know of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRoute {
    /// The agent that answers a number of the project that has none of its own.
    pub active_agent: Option<String>,
}

/// What a call needs to know of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRoute {
    /// The project it belongs to.
    pub project_id: String,
    /// Its name, as the client chose it.
    pub name: String,
    /// Its prompt, placeholders not yet filled in.
    pub system_instruction: String,
    /// The voice it speaks with; `None` leaves the choice to the provider.
    pub voice_id: Option<String>,
    /// The service that runs it; `None` leaves the call to the attendant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRoute>,
    /// Who speaks first.
    #[serde(default)]
    pub first_speaker: FirstSpeaker,
    /// What the agent opens with; `None` leaves it to the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
    /// What it can do besides speaking.
    #[serde(default = "AgentTool::usual")]
    pub tools: Vec<AgentTool>,
    /// Functions that web services carry out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_tools: Vec<HttpTool>,
    /// Whom it can put its callers through to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<TransferTarget>,
    /// Who stops it when the caller interrupts; `None` leaves it to what its provider speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in: Option<BargeIn>,
    /// Seconds that its caller hears it ring at the most while it gets ready, 1 to 30; `None`: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_s: Option<u8>,
    /// The SIP status with which a caller is refused to whom it cannot come; `None` leaves them to the attendant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_with: Option<u16>,
    /// Whether what it opens with is heard to its end, whoever interrupts: a disclosure.
    #[serde(default)]
    pub protects_greeting: bool,
}

impl AgentRoute {
    /// An agent of a project with every default: no prompt, no provider, and all tools.
    pub fn new(project_id: &str, name: &str) -> Self {
        AgentRoute {
            project_id: project_id.to_owned(),
            name: name.to_owned(),
            system_instruction: String::new(),
            voice_id: None,
            provider: None,
            first_speaker: FirstSpeaker::default(),
            greeting: None,
            tools: AgentTool::usual(),
            http_tools: Vec::new(),
            transfers: Vec::new(),
            barge_in: None,
            ring_s: None,
            refuse_with: None,
            protects_greeting: false,
        }
    }
}

/// What answers a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRoute {
    /// The project that owns the number.
    pub project_id: String,
    /// The agent it is assigned to.
    pub agent_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_a_trunk_does_not_list_is_never_presented_on_it() {
        for (is_default, numbers, own, expected) in [
            (true, &["361"][..], None, Some("+361")),
            (false, &["361"], None, Some("+361")),
            (true, &[], None, Some("+361")),
            (false, &[], None, None),
            (true, &["362"], None, None),
            (false, &["362"], None, None),
            (true, &["362"], Some("362"), Some("+362")),
            (false, &["362"], Some("+362"), Some("+362")),
            (false, &["362"], Some("363"), None),
            (false, &[], Some("362"), Some("+362")),
            (true, &["361"], Some("362"), Some("+361")),
        ] {
            let trunk = trunk(is_default, numbers, own);
            for from in ["+361", "361"] {
                assert_eq!(trunk.presents(from).as_deref(), expected, "{is_default} {numbers:?} {own:?}");
            }
        }
    }

    #[test]
    fn trunks_are_tried_by_priority_and_one_that_changes_the_number_last() {
        let mut snapshot = Snapshot::default();
        let mut add = |id: &str, priority, mut trunk: TrunkRoute| {
            trunk.policy.priority = priority;
            snapshot.trunks.insert(id.into(), trunk);
        };
        add("a", 0, trunk(false, &["369"], Some("369")));
        add("b", 10, trunk(false, &["361"], None));
        add("c", 5, trunk(true, &[], None));
        add("d", 5, trunk(false, &["361"], None));
        add("e", 0, trunk(false, &["365"], None));
        let found = |from| -> Vec<_> {
            snapshot.carriers(from).into_iter().map(|(id, _, number)| (id.to_owned(), number)).collect()
        };
        let own = |id: &str, number: &str| (id.to_owned(), number.to_owned());
        assert_eq!(found("+361"), [own("d", "+361"), own("c", "+361"), own("b", "+361"), own("a", "+369")]);
        assert_eq!(found("+365"), [own("e", "+365"), own("c", "+365"), own("a", "+369")]);
        assert_eq!(Snapshot::default().carriers("+361"), []);
    }

    fn trunk(is_default: bool, numbers: &[&str], own: Option<&str>) -> TrunkRoute {
        let mut trunk = TrunkRoute::new("t", "trunk.example");
        trunk.is_default = is_default;
        trunk.numbers = numbers.iter().map(|number| (*number).to_owned()).collect();
        trunk.numbering.default_number = own.map(str::to_owned);
        trunk
    }
}
