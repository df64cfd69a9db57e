//! What must be known before the database opens: addresses, ports, directories, limits.
//!
//! Built-in < file < `TALKSTACK__SECTION__KEY` < flags. A file is read only when it is named. Everything else is set
//! through the API and lies in the database; no setting is in both.

mod values;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use talkstack_control::webhook;
use talkstack_media::sip::UdpLarge;
use toml::{Table, Value};

pub use values::{
    Advertise, AllowList, CallsMax, DialsMax, DialsPerMinute, DnsList, DurationMax, ListenList, NetworkList, OpenList,
    PortList, PortRange, PublicUrl, RingTimeout, SmtpUrl, StunList, Threads, Timezone, Words,
};

use crate::accept::Accept;

/// All settings. Each field tells its meaning, unit, range and default.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The API.
    pub http: Http,
    /// Signalling.
    pub sip: Sip,
    /// Media.
    pub rtp: Rtp,
    /// Media threads.
    pub media: Media,
    /// Files.
    pub store: Store,
    /// Logging.
    pub log: Log,
    /// Accounts.
    pub auth: Auth,
    /// Letters.
    pub mail: Mail,
    /// Calls.
    pub calls: Calls,
    /// Calls that are placed.
    pub dial: Dial,
    /// Recording.
    pub recording: Recording,
    /// Requests that tenants cause.
    pub outbound: Outbound,
    /// The box itself.
    #[serde(rename = "box")]
    pub site: Site,
    /// The first start.
    pub setup: Setup,
    /// Conformance with the cloud's documentation.
    pub compat: Compat,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port of the API; port 0 takes any. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// The base of every link handed out, never taken from a request. Default: `http://` and the listening address.
    pub public_url: Option<PublicUrl>,
}

/// `[sip]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    /// UDP and TCP addresses; port 0 takes any. Default `0.0.0.0:5060` and `[::]:5060`.
    pub listen: ListenList,
    /// Address or name, perhaps with a port, that Via, Contact and SDP carry towards peers outside. A name is looked up
    /// every 60 s, and its address told. Default: what the kernel would use towards the peer.
    pub advertise: Option<Advertise>,
    /// Networks that `advertise` is not for, as `10.0.0.0/8`. Default none named: those the machine has an address in,
    /// loopback, RFC 1918, unique local and link-local.
    pub local_networks: NetworkList,
    /// STUN servers, as `stun.example.com` or `192.0.2.1:3478`, that are asked from the UDP socket of SIP over IPv4 what
    /// to advertise where `advertise` is not set. Default none.
    pub stun: StunList,
    /// TLS addresses, as `0.0.0.0:5061`. Default none: SIP over TLS is neither answered nor placed.
    pub tls_listen: OpenList,
    /// Our certificate in PEM, with what it hangs from behind it; shown to trunks that ask for one, too. Default: one
    /// that is made once in `<store.dir>/tls`.
    pub tls_certificate: Option<PathBuf>,
    /// Its key in PEM; goes with `tls_certificate`.
    pub tls_key: Option<PathBuf>,
    /// Authorities in PEM whose certificates clients must show. Default none: clients need none.
    pub tls_client_ca: Option<PathBuf>,
    /// Authorities in PEM that peers' certificates may hang from besides the system's. Default none.
    pub tls_ca: Option<PathBuf>,
    /// WebSocket addresses (RFC 7118). Default none.
    pub ws_listen: OpenList,
    /// The same under TLS. Default none.
    pub wss_listen: OpenList,
    /// Pages that may open a WebSocket, as `https://pbx.example`. Default none named: all.
    pub ws_origins: Words,
    /// Who is answered: `trunks`, `private` or `any`. Default `private`.
    pub accept: Accept,
    /// What becomes of requests over 1,300 octets towards a host that is reached by UDP: `auto` tries TCP for 2 s, then
    /// UDP, and remembers for 10 min who does not take TCP; `udp` sends them in fragments; `tcp` sends them by TCP only.
    /// Default `auto`.
    pub udp_large: UdpLarge,
    /// Name servers that find trunks, as `192.0.2.53` or `192.0.2.53:5353`. Default none: those of the system.
    pub dns: DnsList,
}

/// `[rtp]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rtp {
    /// First and last UDP port of media; a call takes two. Default `10000-32767`.
    pub ports: PortRange,
}

/// `[media]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Media threads, 0 to 64; 0 is one per core. Default 0.
    pub threads: Threads,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Database, journal, secrets and outbox. Default `./data`.
    pub dir: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`, on stderr. Default `text`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Who may sign up: `first` (until the box has an owner), `open` or `closed`. Default `first`.
    pub signup: Signup,
}

/// Who may sign up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signup {
    /// Until the box has an owner.
    #[default]
    First,
    /// Everybody.
    Open,
    /// Nobody.
    Closed,
}

/// `[mail]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// The mail server, as in `smtp://user:password@host:587?tls=required`. Default: letters lie in `<store.dir>/outbox`.
    pub smtp: Option<SmtpUrl>,
}

/// `[calls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// Calls at once, 1 to 10,000; further ones get 503 with Retry-After. Default 1000.
    pub max: CallsMax,
    /// The longest call in seconds, 10 to 14,400. Default 3600.
    pub max_duration_s: DurationMax,
    /// How long a called phone may ring, in seconds, 5 to 180. Default 45.
    pub ring_timeout_s: RingTimeout,
    /// Addresses at which Asterisks give their calls over AudioSocket, as `127.0.0.1:9092`. Default none.
    pub asterisk_audiosocket: OpenList,
    /// The same over their WebSocket channel, as `127.0.0.1:8787`. Default none.
    pub asterisk_websocket: OpenList,
    /// Networks whose Asterisks are answered, as `192.0.2.0/24`: none of them proves who it is. Default none named: this
    /// machine's.
    pub asterisk_allow: NetworkList,
    /// The number or built-in user that their calls are routed by; a WebSocket's parameter `to` names another. Default
    /// `attendant`.
    pub asterisk_number: String,
}

/// `[dial]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dial {
    /// Where the box calls: prefixes in E.164 with `+`. Default none: only the country of the presented number.
    pub allow: AllowList,
    /// Calls that an account has placed and that are up, 1 to 10,000. Default 10.
    pub max_calls: DialsMax,
    /// Calls that an account places within 60 s, 1 to 10,000. Default 60.
    pub per_minute: DialsPerMinute,
}

/// `[recording]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recording {
    /// Whether calls to a project's agents and numbers are recorded. Default true.
    pub enabled: bool,
    /// How: 16-bit samples as they are, or Opus in Ogg, a sixth of the space for 1.5 % of a core a call. Default `wav`.
    pub format: RecordingFormat,
}

/// How recordings are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingFormat {
    /// WAV.
    #[default]
    Wav,
    /// Opus in Ogg (RFC 7845).
    Opus,
}

impl From<RecordingFormat> for talkstack_control::recording::Format {
    fn from(format: RecordingFormat) -> Self {
        match format {
            RecordingFormat::Wav => Self::Wav,
            RecordingFormat::Opus => Self::Opus,
        }
    }
}

/// `[outbound]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// Ports of this machine's loopback that webhooks may reach, 1 to 65,535 each. Default none.
    pub loopback_ports: PortList,
}

/// `[box]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// The box's time zone by its IANA name. Default `UTC`.
    pub timezone: Timezone,
}

/// `[setup]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Setup {
    /// Answer no SIP until the box has an owner. Default false.
    pub required: bool,
}

/// `[compat]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Answer with the documentation's misprints. Default false.
    pub literal_typos: bool,
}

impl Default for Http {
    fn default() -> Self {
        Http { listen: (Ipv4Addr::LOCALHOST, 8080).into(), public_url: None }
    }
}

impl Default for Sip {
    fn default() -> Self {
        let listen = vec![(Ipv4Addr::UNSPECIFIED, 5060).into(), (Ipv6Addr::UNSPECIFIED, 5060).into()];
        Sip { listen: ListenList(listen), ..Sip::empty() }
    }
}

impl Sip {
    fn empty() -> Self {
        Sip {
            listen: ListenList(Vec::new()),
            advertise: None,
            local_networks: NetworkList::default(),
            stun: StunList::default(),
            tls_listen: OpenList::default(),
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            tls_ca: None,
            ws_listen: OpenList::default(),
            wss_listen: OpenList::default(),
            ws_origins: Words::default(),
            accept: Accept::default(),
            udp_large: UdpLarge::default(),
            dns: DnsList::default(),
        }
    }

    /// Tells whether anything here needs a certificate.
    pub fn wants_tls(&self) -> bool {
        !self.tls_listen.0.is_empty() || !self.wss_listen.0.is_empty()
    }
}

impl Default for Store {
    fn default() -> Self {
        Store { dir: "./data".into() }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Calls {
            max: CallsMax(1000),
            max_duration_s: DurationMax(3600),
            ring_timeout_s: RingTimeout(45),
            asterisk_audiosocket: OpenList::default(),
            asterisk_websocket: OpenList::default(),
            asterisk_allow: NetworkList::default(),
            asterisk_number: "attendant".into(),
        }
    }
}

impl Default for Dial {
    fn default() -> Self {
        Dial { allow: AllowList::default(), max_calls: DialsMax(10), per_minute: DialsPerMinute(60) }
    }
}

impl Default for Recording {
    fn default() -> Self {
        Recording { enabled: true, format: RecordingFormat::default() }
    }
}

impl Default for Site {
    fn default() -> Self {
        Site { timezone: Timezone("UTC".into()) }
    }
}

/// Settings that cannot be used. The operator's to mend; the program exits 78.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {what}; correct it or leave it out")]
pub struct ConfigError {
    /// Which file, variable or flag.
    place: Place,
    /// What is wrong.
    what: String,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Line(PathBuf, usize, usize),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "configuration file {}", path.display()),
            Place::Line(path, line, column) => {
                write!(f, "configuration file {}, line {line}, column {column}", path.display())
            }
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// A flag that sets a key: its name, section, key and text.
pub type Flag = (&'static str, &'static str, &'static str, String);

impl Config {
    /// Reads all layers.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        flags: Vec<Flag>,
    ) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        if let Some(path) = file {
            let failed = |error: std::io::Error| {
                let what = format!("it cannot be read ({error})");
                ConfigError { place: Place::File(path.to_owned()), what }
            };
            let text = std::fs::read_to_string(path).map_err(failed)?;
            toml::from_str::<Config>(&text).map_err(|error| file_error(path, &text, &error))?;
            table = text.parse().map_err(|error| file_error(path, &text, &error))?;
        }
        let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, text) in variables {
            let place = Place::Variable(name.clone());
            let path = name[PREFIX.len()..].to_lowercase();
            let Some((section, key)) = path.split_once("__") else {
                let what = "names no section and key as TALKSTACK__SIP__LISTEN does".to_owned();
                return Err(ConfigError { place, what });
            };
            set(&mut table, section, key, &text, place)?;
        }
        for (flag, section, key, text) in flags {
            set(&mut table, section, key, &text, Place::Flag(flag.to_owned()))?;
        }
        // Each layer was checked when it was added.
        let place = Place::File(file.unwrap_or(Path::new("built in")).to_owned());
        Value::Table(table).try_into().map_err(|error: toml::de::Error| ConfigError { place, what: one_line(&error) })
    }

    /// The base of links: `http.public_url`, else the address the API listens on.
    pub fn public_url(&self, http: SocketAddr) -> String {
        self.http.public_url.as_ref().map_or_else(|| format!("http://{http}"), |url| url.0.clone())
    }

    /// Where requests that tenants cause may go, on a box that listens on these ports itself.
    pub fn outbound(&self, own_ports: Vec<u16>) -> webhook::Outbound {
        let loopback_ports = self.outbound.loopback_ports.0.as_slice().into();
        webhook::Outbound { loopback_ports, own_ports: own_ports.into() }
    }
}

/// Sets one key from text and checks the whole.
fn set(table: &mut Table, section: &str, key: &str, text: &str, place: Place) -> Result<(), ConfigError> {
    let guesses = [text.parse().ok().map(Value::Integer), text.parse().ok().map(Value::Boolean)];
    let as_text = Value::String(text.to_owned());
    let mut wrong = String::new();
    // A text that looks like a number is tried as one, since the environment has no types.
    for value in guesses.into_iter().flatten().chain([as_text]) {
        let mut tried = table.clone();
        let entry = tried.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let Some(keys) = entry.as_table_mut() else { continue };
        keys.insert(key.to_owned(), value);
        match Value::Table(tried.clone()).try_into::<Config>() {
            Ok(_) => {
                *table = tried;
                return Ok(());
            }
            Err(error) if wrong.is_empty() => wrong = one_line(&error),
            Err(_) => {}
        }
    }
    Err(ConfigError { place, what: wrong })
}

fn file_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let place = match error.span() {
        Some(span) => {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
            Place::Line(path.to_owned(), line, column)
        }
        None => Place::File(path.to_owned()),
    };
    ConfigError { place, what: one_line(error) }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(" ")
}

/// What variables begin with.
const PREFIX: &str = "TALKSTACK__";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_parses_as_shipped_and_with_every_key_set() {
        let example = include_str!("../../config/talkstack.toml");
        assert_eq!(toml::from_str::<Config>(example).expect("as shipped"), Config::default());
        let set: String = example
            .lines()
            .map(|line| match line.strip_prefix("#") {
                Some(key) if key.contains(" = ") && !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let keys = set.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
        assert_eq!(keys, 39, "every key");
        let set: Config = toml::from_str(&set).expect("with every key set");
        let shown = Config {
            http: Http { public_url: set.http.public_url.clone(), ..Http::default() },
            sip: Sip { listen: ListenList(Sip::default().listen.0), accept: Sip::default().accept, ..set.sip.clone() },
            site: set.site.clone(),
            mail: set.mail.clone(),
            ..Config::default()
        };
        assert_eq!(set, shown, "the example shows the defaults");
    }

    #[test]
    fn a_name_server_has_the_port_53_unless_it_says_another() {
        let read =
            |text: &str| toml::from_str::<Config>(&format!("[sip]\ndns = {text}")).map(|config| config.sip.dns.0);
        let servers = ["192.0.2.53:53", "192.0.2.54:5353", "[2001:db8::53]:53"].map(|text| text.parse().expect(text));
        assert_eq!(read(r#"["192.0.2.53", "192.0.2.54:5353", "2001:db8::53"]"#), Ok(servers.into()));
        assert_eq!(read(r#""192.0.2.53, 192.0.2.54:5353""#), Ok(servers[..2].into()));
        assert!(read(r#"["dns.example"]"#).is_err_and(|error| error.message().contains("no address of a name server")));
    }

    #[test]
    fn each_layer_overrides_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.toml");
        std::fs::write(&path, "[calls]\nmax = 7\nmax_duration_s = 70\n[sip]\nlisten = \"127.0.0.1:0\"\n")
            .expect("written");
        let variables = [
            ("TALKSTACK__CALLS__MAX".to_owned(), "8".to_owned()),
            ("TALKSTACK__SIP__LISTEN".to_owned(), "127.0.0.1:5070,[::1]:5070".to_owned()),
            ("TALKSTACK__COMPAT__LITERAL_TYPOS".to_owned(), "true".to_owned()),
            ("TALKSTACK__OUTBOUND__LOOPBACK_PORTS".to_owned(), "8000,9000".to_owned()),
            ("TALKSTACK_CONFIG".to_owned(), "ignored here".to_owned()),
        ];
        let flags = vec![("http-listen", "http", "listen", "127.0.0.1:0".to_owned())];
        let config = Config::load(Some(&path), variables.into_iter(), flags).expect("loads");
        assert_eq!((config.calls.max.0, config.calls.max_duration_s.0), (8, 70));
        assert_eq!(config.sip.listen.0.len(), 2);
        assert!(config.compat.literal_typos);
        assert_eq!(config.outbound.loopback_ports.0, [8000, 9000]);
        let one = [("TALKSTACK__OUTBOUND__LOOPBACK_PORTS".to_owned(), "8000".to_owned())];
        let alone = Config::load(None, one.into_iter(), vec![]).expect("loads");
        assert_eq!(alone.outbound.loopback_ports.0, [8000]);
        assert_eq!(config.http.listen.port(), 0);
    }

    #[test]
    fn what_is_wrong_is_one_sentence_that_says_where() {
        for (file, expected) in [
            ("[sip]\nlisen = \"x\"\n", "line 2, column 1: unknown field `lisen`"),
            ("[spi]\n", "line 1, column 2: unknown field `spi`"),
            ("[calls]\nmax = 0\n", "line 2, column 7: 0 is not within 1 to 10000"),
            ("[rtp]\nports = \"9-8\"\n", "line 2, column 9: \"9-8\" must be two ports"),
            ("[box]\ntimezone = \"Mars/Base\"\n", "must be a time zone"),
            ("[sip]\nlisten = []\n", "needs at least one address"),
            ("[sip]\naccept = \"all\"\n", "unknown variant `all`"),
            ("[sip]\nudp_large = \"sctp\"\n", "unknown variant `sctp`"),
            ("[mail]\nsmtp = \"http://x\"\n", "must be an address such as"),
            ("[mail]\nsmtp = \"smtp://user:secret@\"\n", "must be an address such as"),
            ("[mail]\nsmtp = \"http://user:secret@host\"\n", "line 2, column 8: the mail server must be"),
            ("[dial]\nallow = [\"0036\"]\n", "\"0036\" is no \"+\" and digits"),
            ("[dial]\nmax_calls = 0\n", "0 is not within 1 to 10000"),
            ("[calls]\nring_timeout_s = 200\n", "200 is not within 5 to 180"),
            ("[outbound]\nloopback_ports = [0]\n", "0 is no port"),
            ("nonsense", "line 1"),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("t.toml");
            std::fs::write(&path, file).expect("written");
            let shown = Config::load(Some(&path), std::iter::empty(), vec![]).expect_err(file).to_string();
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains('\n') && !shown.contains("secret"), "{shown}");
        }
        for (name, text) in [("TALKSTACK__SIP__LISEN", "x"), ("TALKSTACK__CALLS__MAX", "many"), ("TALKSTACK__X", "1")] {
            let variables = [(name.to_owned(), text.to_owned())];
            let shown = Config::load(None, variables.into_iter(), vec![]).expect_err(name).to_string();
            assert!(shown.starts_with(&format!("environment variable {name}: ")), "{shown}");
        }
        let missing = Config::load(Some(Path::new("/nowhere/t.toml")), std::iter::empty(), vec![]);
        assert!(missing.expect_err("absent").to_string().contains("/nowhere/t.toml: it cannot be read"));
    }
}
