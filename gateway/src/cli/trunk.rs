//! `talkstack trunk`: SIP peers that calls are placed through and come from.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use talkstack_control::port::CallId;

use super::admin::{AdminError, ask, ask_within, document, read_secret, table};
use super::resource::{Resource, add, clear, find, id, remove, set, show, test_report};

/// `talkstack trunk …`
#[derive(Debug, Clone, Subcommand)]
pub enum TrunkCommand {
    /// Add a SIP peer that calls are placed through and come from.
    #[command(
        after_help = "Examples:\n  talkstack trunk add --name carrier --host sip.example.com --username me --password-file /root/pw --number +3612345678 --register\n  pass show carrier | talkstack trunk add --name carrier --host sip.example.com --username me --password-file - --default\n\nExit codes: 0 done, 1 refused, 4 the name or a number is taken, 6 the daemon does not run"
    )]
    Add(Box<NewTrunk>),
    /// All trunks, the oldest first, and how they are.
    #[command(
        after_help = "Examples:\n  talkstack trunk list\n  talkstack trunk list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// All of one trunk.
    #[command(
        after_help = "Examples:\n  talkstack trunk show carrier\n\nExit codes: 0 done, 3 no such trunk, 6 the daemon does not run"
    )]
    Show {
        /// Its name or id.
        trunk: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Change a trunk; what is not named stays.
    #[command(
        after_help = "Examples:\n  talkstack trunk set carrier --priority 10 --calls-per-second 2\n  talkstack trunk set carrier --emergency true --country-code 36\n  talkstack trunk set carrier --register false --clear password\n\nExit codes: 0 done, 1 refused, 3 no such trunk, 6 the daemon does not run"
    )]
    Set {
        /// Its name or id.
        trunk: String,
        /// Who it is and what it is for.
        #[command(flatten)]
        part: Box<TrunkPart>,
        /// What changes.
        #[command(flatten)]
        fields: Box<TrunkFields>,
        /// Takes a field away; may be repeated.
        #[arg(long, value_name = "FIELD", value_parser = CLEARED)]
        clear: Vec<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Look for the fault, step by step: name, reach, OPTIONS, registration, and a call with a tone where a number is given.
    #[command(
        after_help = "Examples:\n  talkstack trunk test carrier\n  talkstack trunk test carrier --number +3612345678\n\nExit codes: 0 all is well, 3 no such trunk, 6 the daemon does not run, 7 a fault was found"
    )]
    Test {
        /// Its name or id.
        trunk: String,
        /// Who is called with a tone, as dialled.
        #[arg(long)]
        number: Option<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Remove a trunk; calls that it carries go on.
    #[command(
        after_help = "Examples:\n  talkstack trunk remove carrier\n  talkstack trunk remove trk_0123456789abcdef0123456789abcdef\n\nExit codes: 0 done, 3 no such trunk, 4 a route names it, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        trunk: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// The latest refusals, sent or received, with the rule that caused each.
    #[command(
        after_help = "Examples:\n  talkstack trunk refusals\n  talkstack trunk refusals --trunk carrier --json\n\nExit codes: 0 done, 3 no such trunk, 6 the daemon does not run"
    )]
    Refusals {
        /// Of this trunk only, by name or id.
        #[arg(long)]
        trunk: Option<String>,
        /// Of this call only.
        #[arg(long)]
        call: Option<String>,
        /// How many, 1 to 1000.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// A trunk to be added.
#[derive(Debug, Clone, Args)]
pub struct NewTrunk {
    /// A name of its own.
    #[arg(long)]
    name: String,
    /// Host name or address.
    #[arg(long)]
    host: String,
    /// It carries the calls of numbers that no trunk lists.
    #[arg(long)]
    default: bool,
    /// Register there.
    #[arg(long)]
    register: bool,
    /// All else.
    #[command(flatten)]
    fields: TrunkFields,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// What `trunk add` asks for in a form of its own.
#[derive(Debug, Clone, Default, Args)]
pub struct TrunkPart {
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// Another host name or address.
    #[arg(long)]
    host: Option<String>,
    /// It carries the calls of numbers that no trunk lists.
    #[arg(long, value_name = "BOOL")]
    default: Option<bool>,
    /// Register there.
    #[arg(long, value_name = "BOOL")]
    register: Option<bool>,
}

impl TrunkPart {
    fn put(&self, body: &mut Map<String, Value>) {
        let fields = [
            ("name", self.name.as_ref().map(|name| json!(name))),
            ("host", self.host.as_ref().map(|host| json!(host))),
            ("default", self.default.map(|is_default| json!(is_default))),
            ("register", self.register.map(|register| json!(register))),
        ];
        body.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
}

/// What a trunk can be told.
#[derive(Debug, Clone, Default, Args)]
pub struct TrunkFields {
    /// Its port, 1 to 65535; dns asks the DNS for it (SRV).
    #[arg(long, value_name = "PORT|dns")]
    port: Option<String>,
    /// How SIP reaches it.
    #[arg(long, value_parser = ["udp", "tcp", "tls", "auto"])]
    transport: Option<String>,
    /// Who we are when it asks.
    #[arg(long)]
    username: Option<String>,
    /// A file that holds the password; - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A number of ours on it, with + and country code; may be repeated, and replaces those that were.
    #[arg(long = "number", value_name = "E164")]
    numbers: Vec<String>,
    /// Calls at once, both ways, 1 to 10000.
    #[arg(long)]
    max_channels: Option<u32>,
    /// The lower is tried the sooner, 0 to 1000.
    #[arg(long)]
    priority: Option<u32>,
    /// Calls placed within a second, 1 to 1000.
    #[arg(long)]
    calls_per_second: Option<u32>,
    /// It carries emergency calls.
    #[arg(long, value_name = "BOOL")]
    emergency: Option<bool>,
    /// How the two find and know each other.
    #[command(flatten)]
    access: AccessFields,
    /// How numbers are written on it.
    #[command(flatten)]
    numbering: NumberFields,
    /// Which of SIP's extensions are used.
    #[command(flatten)]
    signalling: SignallingFields,
    /// How sound is carried.
    #[command(flatten)]
    media: MediaFields,
}

/// How a trunk and the box find and know each other.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessFields {
    /// The domain in our From, where it is not the host.
    #[arg(long)]
    domain: Option<String>,
    /// Where requests go in place of the host.
    #[arg(long, value_name = "HOST[:PORT]")]
    outbound_proxy: Option<String>,
    /// The name in digest answers, where it is not the username.
    #[arg(long)]
    auth_username: Option<String>,
    /// Seconds a registration is asked to last, 60 to 86400.
    #[arg(long)]
    register_expires_s: Option<u32>,
    /// A network it calls from besides its own address; may be repeated, and replaces those that were.
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<String>,
    /// The SHA-256 fingerprint of its certificate.
    #[arg(long, value_name = "HEX")]
    tls_fingerprint: Option<String>,
    /// Our address in the Contact that is registered there, where it is another than sip.advertise.
    #[arg(long, value_name = "HOST[:PORT]")]
    advertise: Option<String>,
}

/// How numbers are written on a trunk.
#[derive(Debug, Clone, Default, Args)]
pub struct NumberFields {
    /// What is presented where the wanted number is not on the trunk.
    #[arg(long, value_name = "E164")]
    default_number: Option<String>,
    /// The calling code that national numbers belong to.
    #[arg(long)]
    country_code: Option<String>,
    /// What national numbers begin with.
    #[arg(long, value_name = "DIGITS")]
    national_prefix: Option<String>,
    /// What international numbers begin with beside +.
    #[arg(long, value_name = "DIGITS")]
    international_prefix: Option<String>,
    /// How called numbers are written.
    #[arg(long, value_parser = ["e164", "digits", "international", "national"])]
    dial_format: Option<String>,
    /// Where the number we present stands.
    #[arg(long, value_parser = ["from", "asserted", "preferred", "remote_party"])]
    caller_id: Option<String>,
}

/// Which of SIP's extensions are used with a trunk.
#[derive(Debug, Clone, Default, Args)]
pub struct SignallingFields {
    /// Seconds between two OPTIONS, 10 to 3600; 0 never.
    #[arg(long)]
    options_interval_s: Option<u32>,
    /// Session-Expires in seconds, 90 to 86400; 0 never.
    #[arg(long)]
    session_expires_s: Option<u32>,
    /// Reliable provisional responses.
    #[arg(long, value_parser = ["off", "supported", "required"])]
    reliable: Option<String>,
    /// Transfer by REFER where it allows that.
    #[arg(long, value_name = "BOOL")]
    refer: Option<bool>,
}

/// How sound is carried on a trunk.
#[derive(Debug, Clone, Default, Args)]
pub struct MediaFields {
    /// A codec that is offered and taken, the preferred first; may be repeated, and replaces those that were. Without any
    /// G.722 and G.711 are offered, and Opus is taken.
    #[arg(long = "codec", value_parser = ["opus", "g722", "pcmu", "pcma"])]
    codecs: Vec<String>,
    /// Milliseconds of sound in a packet, 10 to 60 in steps of ten.
    #[arg(long, value_name = "MS")]
    ptime_ms: Option<u32>,
    /// Whether sound is encrypted: by SDES, or by DTLS where the other side offers that.
    #[arg(long, value_parser = ["off", "optional", "required"])]
    srtp: Option<String>,
    /// Keys may stand in our offers though the signalling is plain.
    #[arg(long, value_name = "BOOL")]
    sdes_over_plain: Option<bool>,
    /// How digits travel.
    #[arg(long, value_parser = ["auto", "rfc4733", "info", "inband"])]
    dtmf: Option<String>,
    /// A network that sound may come from besides the peer's own addresses; may be repeated, and replaces those that were.
    #[arg(long = "media-network", value_name = "CIDR")]
    media_networks: Vec<String>,
}

impl TrunkFields {
    /// The fields that were given, as the API takes them.
    fn body(&self) -> Result<Map<String, Value>, AdminError> {
        let port = match self.port.as_deref() {
            None => None,
            Some("dns") => Some(Value::Null),
            Some(text) => Some(text.parse::<u32>().map_or(json!(text), |port| json!(port))),
        };
        let password = self.password_file.as_deref().map(read_secret).transpose()?;
        let list = |given: &Vec<String>| (!given.is_empty()).then(|| json!(given));
        let text = |given: &Option<String>| given.as_ref().map(|text| json!(text));
        let number = |given: Option<u32>| given.map(|number| json!(number));
        let flag = |given: Option<bool>| given.map(|flag| json!(flag));
        let fields = [
            ("port", port),
            ("transport", text(&self.transport)),
            ("username", text(&self.username)),
            ("password", text(&password)),
            ("numbers", list(&self.numbers)),
            ("max_channels", number(self.max_channels)),
            ("domain", text(&self.access.domain)),
            ("outbound_proxy", text(&self.access.outbound_proxy)),
            ("auth_username", text(&self.access.auth_username)),
            ("register_expires_s", number(self.access.register_expires_s)),
            ("networks", list(&self.access.networks)),
            ("tls_fingerprint", text(&self.access.tls_fingerprint)),
            ("advertise", text(&self.access.advertise)),
            ("priority", number(self.priority)),
            ("calls_per_second", number(self.calls_per_second)),
            ("emergency", flag(self.emergency)),
            ("default_number", text(&self.numbering.default_number)),
            ("country_code", text(&self.numbering.country_code)),
            ("national_prefix", text(&self.numbering.national_prefix)),
            ("international_prefix", text(&self.numbering.international_prefix)),
            ("dial_format", text(&self.numbering.dial_format)),
            ("caller_id", text(&self.numbering.caller_id)),
            ("options_interval_s", number(self.signalling.options_interval_s)),
            ("session_expires_s", number(self.signalling.session_expires_s)),
            ("reliable", text(&self.signalling.reliable)),
            ("refer", flag(self.signalling.refer)),
            ("codecs", list(&self.media.codecs)),
            ("ptime_ms", number(self.media.ptime_ms)),
            ("srtp", text(&self.media.srtp)),
            ("sdes_over_plain", flag(self.media.sdes_over_plain)),
            ("dtmf", text(&self.media.dtmf)),
            ("media_networks", list(&self.media.media_networks)),
        ];
        Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// Carries out `talkstack trunk …`; what is to be printed, and whether all is well.
pub(super) fn trunk(command: &TrunkCommand, socket: &Path) -> Result<(String, bool), AdminError> {
    let printed = match command {
        TrunkCommand::Add(new) => {
            let mut body = new.fields.body()?;
            body.extend([("name".to_owned(), json!(new.name)), ("host".to_owned(), json!(new.host))]);
            body.extend([("default".to_owned(), json!(new.default)), ("register".to_owned(), json!(new.register))]);
            add(socket, &TRUNKS, &Value::Object(body), new.json)?
        }
        TrunkCommand::List { json } => list(socket, *json)?,
        TrunkCommand::Show { trunk, json } => show(socket, &TRUNKS, trunk, *json)?,
        TrunkCommand::Set { trunk, part, fields, clear: cleared, json } => {
            let mut body = fields.body()?;
            part.put(&mut body);
            clear(&mut body, cleared);
            set(socket, &TRUNKS, trunk, &Value::Object(body), *json)?
        }
        TrunkCommand::Test { trunk, number, json } => return test(socket, trunk, number.as_deref(), *json),
        TrunkCommand::Remove { trunk, json } => remove(socket, &TRUNKS, trunk, *json)?,
        TrunkCommand::Refusals { trunk, call, limit, json } => {
            refusals(socket, trunk.as_deref(), call.as_deref(), *limit, *json)?
        }
    };
    Ok((printed, true))
}

fn list(socket: &Path, as_json: bool) -> Result<String, AdminError> {
    let mut answer = ask(socket, "GET", TRUNKS.path, None)?;
    if as_json {
        return Ok(document(&answer["data"]));
    }
    for row in answer["data"].as_array_mut().into_iter().flatten() {
        let state = &row["state"];
        let reachable = match state["is_reachable"].as_bool() {
            Some(true) => "reachable",
            Some(false) => "unreachable",
            None => "",
        };
        let (registration, problem) =
            (state["registration"]["state"].clone(), state["problem"].as_str().map(str::to_owned));
        row["registration"] = if registration == "off" { Value::Null } else { registration };
        row["health"] = json!(problem.unwrap_or_else(|| reachable.to_owned()));
    }
    let columns =
        ["id", "name", "host", "port", "transport", "numbers", "max_channels", "default", "registration", "health"];
    Ok(table(&answer["data"], &columns))
}

/// Prints each step in words; a fault makes the exit code.
fn test(socket: &Path, wanted: &str, number: Option<&str>, as_json: bool) -> Result<(String, bool), AdminError> {
    let trunk = find(socket, &TRUNKS, wanted)?;
    let body = match number {
        Some(number) => json!({ "number": number }),
        None => json!({}),
    };
    let path = format!("{}/{}/test", TRUNKS.path, id(&trunk));
    let report = ask_within(socket, "POST", &path, Some(&body), TEST_MAX)?;
    Ok(test_report(&report, as_json))
}

fn refusals(
    socket: &Path,
    trunk: Option<&str>,
    call: Option<&str>,
    limit: u32,
    as_json: bool,
) -> Result<String, AdminError> {
    let mut path = format!("/api/v1/sip-refusals?limit={limit}");
    if let Some(wanted) = trunk {
        path.push_str(&format!("&trunk={}", id(&find(socket, &TRUNKS, wanted)?)));
    }
    if let Some(call) = call {
        let id: CallId = call.parse().map_err(|_| AdminError::Usage("--call is CA and 32 hex digits"))?;
        path.push_str(&format!("&call={id}"));
    }
    let answer = ask(socket, "GET", &path, None)?;
    let columns = ["at", "by", "status", "method", "peer", "trunk", "call", "rule"];
    Ok(if as_json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
}

pub(super) const TRUNKS: Resource = Resource { path: "/api/v1/trunks", what: "trunk" };

/// What `trunk set --clear` takes away.
const CLEARED: [&str; 16] = [
    "username",
    "password",
    "numbers",
    "domain",
    "outbound-proxy",
    "auth-username",
    "networks",
    "tls-fingerprint",
    "advertise",
    "calls-per-second",
    "default-number",
    "country-code",
    "national-prefix",
    "international-prefix",
    "codecs",
    "media-networks",
];

/// 60 s: the daemon ends a test after 45.
const TEST_MAX: std::time::Duration = std::time::Duration::from_secs(60);
