//! What a trunk can be told, as flags.

use std::path::PathBuf;

use clap::{Args, value_parser};
use serde_json::{Map, Value};

use super::admin::{AdminError, read_secret};
use super::resource::{NumberingFields, set, set_list};

/// What `trunk add` and `trunk set` have in common.
#[derive(Debug, Clone, Default, Args)]
pub struct TrunkFields {
    /// Who.
    #[command(flatten)]
    line: LineFields,
    /// Where.
    #[command(flatten)]
    access: AccessFields,
    /// When.
    #[command(flatten)]
    policy: PolicyFields,
    /// How numbers are written.
    #[command(flatten)]
    numbering: NumberingFields,
    /// Which extensions of SIP.
    #[command(flatten)]
    signalling: SignallingFields,
}

/// The peer, the account and our numbers.
#[derive(Debug, Clone, Default, Args)]
struct LineFields {
    /// Its port, 5060 when nothing is said; srv asks the DNS.
    #[arg(long, value_parser = port)]
    port: Option<Value>,
    /// How SIP reaches it; auto asks the DNS.
    #[arg(long, value_parser = ["udp", "tcp", "tls", "auto"])]
    transport: Option<String>,
    /// Who we are when it asks.
    #[arg(long)]
    username: Option<String>,
    /// A file that holds the password; - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A number of ours on it, with + and country code; may be repeated.
    #[arg(long = "number", value_name = "E164")]
    numbers: Vec<String>,
    /// Calls at once, both ways, 1 to 10000; 30 when nothing is said.
    #[arg(long, value_name = "CALLS", value_parser = value_parser!(u32).range(1..=10_000))]
    max_channels: Option<u32>,
    /// It carries the calls of numbers that no trunk lists.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    default: Option<bool>,
}

/// How the two sides find and know each other.
#[derive(Debug, Clone, Default, Args)]
struct AccessFields {
    /// The domain in our From and Request-URI, where it is not the host.
    #[arg(long)]
    domain: Option<String>,
    /// Where requests go in place of the host: host, host:port or sip:host:port;transport=tcp.
    #[arg(long, value_name = "HOST")]
    outbound_proxy: Option<String>,
    /// The name in digest answers, where it is not the username.
    #[arg(long, value_name = "NAME")]
    auth_username: Option<String>,
    /// Register there.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    register: Option<bool>,
    /// The registration's life that is asked for, 60 to 86400 s.
    #[arg(long, value_name = "SECONDS")]
    register_expires_s: Option<u32>,
    /// A network it calls from besides its own addresses, as 192.0.2.0/24; may be repeated.
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// The SHA-256 fingerprint that its certificate must have.
    #[arg(long, value_name = "HEX")]
    tls_fingerprint: Option<String>,
    /// Our host, or host and port, towards it, in place of sip.advertise.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
}

/// When it is used, and how much.
#[derive(Debug, Clone, Default, Args)]
struct PolicyFields {
    /// The lower is tried the sooner, 0 to 1000.
    #[arg(long)]
    priority: Option<u32>,
    /// Calls placed within a second, 1 to 1000.
    #[arg(long, value_name = "CALLS")]
    calls_per_second: Option<u32>,
    /// It carries emergency calls of extensions.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    emergency: Option<bool>,
    /// What is presented where the wanted number is not on the trunk.
    #[arg(long, value_name = "E164")]
    default_number: Option<String>,
}

/// Which of SIP's extensions are used with it.
#[derive(Debug, Clone, Default, Args)]
struct SignallingFields {
    /// Seconds between two questions whether it is there, 10 to 3600; 0 never.
    #[arg(long, value_name = "SECONDS")]
    options_interval_s: Option<u32>,
    /// Session-Expires, 90 to 86400 s; 0 never.
    #[arg(long, value_name = "SECONDS")]
    session_expires_s: Option<u32>,
    /// Reliable provisional responses.
    #[arg(long, value_parser = ["off", "supported", "required"])]
    reliable: Option<String>,
    /// What becomes of requests too large for a datagram.
    #[arg(long, value_parser = ["auto", "udp", "tcp"])]
    udp_large: Option<String>,
    /// Calls are transferred by REFER where the peer allows it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    refer: Option<bool>,
    /// It sits behind a NAT: its SDP's addresses are not believed.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    behind_nat: Option<bool>,
}

impl TrunkFields {
    /// Adds what is given to a request.
    ///
    /// # Errors
    /// [`AdminError::Secret`].
    pub(super) fn put(&self, body: &mut Map<String, Value>) -> Result<(), AdminError> {
        let TrunkFields { line, access, policy, numbering, signalling } = self;
        set(body, "port", line.port.as_ref());
        set(body, "transport", line.transport.as_ref());
        set(body, "username", line.username.as_ref());
        set(body, "password", line.password_file.as_deref().map(read_secret).transpose()?);
        set_list(body, "numbers", &line.numbers);
        set(body, "max_channels", line.max_channels);
        set(body, "default", line.default);
        set(body, "domain", access.domain.as_ref());
        set(body, "outbound_proxy", access.outbound_proxy.as_ref());
        set(body, "auth_username", access.auth_username.as_ref());
        set(body, "register", access.register);
        set(body, "register_expires_s", access.register_expires_s);
        set_list(body, "networks", &access.networks);
        set(body, "tls_fingerprint", access.tls_fingerprint.as_ref());
        set(body, "advertise", access.advertise.as_ref());
        set(body, "priority", policy.priority);
        set(body, "calls_per_second", policy.calls_per_second);
        set(body, "emergency", policy.emergency);
        set(body, "default_number", policy.default_number.as_ref());
        numbering.put(body);
        set(body, "options_interval_s", signalling.options_interval_s);
        set(body, "session_expires_s", signalling.session_expires_s);
        set(body, "reliable", signalling.reliable.as_ref());
        set(body, "udp_large", signalling.udp_large.as_ref());
        set(body, "refer", signalling.refer);
        set(body, "behind_nat", signalling.behind_nat);
        Ok(())
    }
}

/// Takes fields away: lists become empty, texts too where the API has no null for them.
pub(super) fn unset(body: &mut Map<String, Value>, names: &[String]) {
    for name in names {
        let nothing = match name.as_str() {
            "numbers" | "networks" | "called" | "callers" | "hours" => Value::Array(Vec::new()),
            "national-prefix" | "international-prefix" => Value::from(""),
            _ => Value::Null,
        };
        body.insert(name.replace('-', "_"), nothing);
    }
}

fn port(text: &str) -> Result<Value, PortError> {
    match text {
        "srv" => Ok(Value::Null),
        text => text.parse().ok().filter(|port: &u16| *port > 0).map(Value::from).ok_or(PortError),
    }
}

/// The text is no port. Whoever wrote it mends it.
#[derive(Debug, thiserror::Error)]
#[error("a port is 1 to 65535, or srv to ask the DNS")]
struct PortError;

/// What `trunk set --unset` takes away.
pub(super) const UNSET: [&str; 13] = [
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
];
