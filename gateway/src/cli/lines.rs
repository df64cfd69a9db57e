//! `talkstack trunk` and `talkstack provider`: where calls go through, and what runs agents.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{AdminError, ask, document, read_secret, table};

/// `talkstack trunk …`
#[derive(Debug, Clone, Subcommand)]
pub enum TrunkCommand {
    /// Add a SIP peer that calls are placed through and come from.
    #[command(
        after_help = "Examples:\n  talkstack trunk add --name carrier --host sip.example.com --username me --password-file /root/pw --number +3612345678\n  pass show carrier | talkstack trunk add --name carrier --host sip.example.com --username me --password-file - --default\n\nExit codes: 0 done, 1 refused, 4 the name or a number is taken, 6 the daemon does not run"
    )]
    Add(Box<NewTrunk>),
    /// All trunks, the oldest first.
    #[command(
        after_help = "Examples:\n  talkstack trunk list\n  talkstack trunk list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Remove a trunk; calls that it carries go on.
    #[command(
        after_help = "Examples:\n  talkstack trunk remove carrier\n  talkstack trunk remove trk_0123456789abcdef0123456789abcdef\n\nExit codes: 0 done, 3 no such trunk, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        trunk: String,
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
    /// Its port.
    #[arg(long, default_value_t = 5060, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How SIP reaches it.
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    transport: Transport,
    /// Who we are when it asks.
    #[arg(long)]
    username: Option<String>,
    /// A file that holds the password; - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A number of ours on it, with + and country code; may be repeated.
    #[arg(long = "number", value_name = "E164")]
    numbers: Vec<String>,
    /// Calls at once, both ways, 1 to 10000.
    #[arg(long, default_value_t = 30)]
    max_channels: u32,
    /// It carries the calls of numbers that no trunk lists.
    #[arg(long)]
    default: bool,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// How SIP reaches a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// `talkstack provider …`
#[derive(Debug, Clone, Subcommand)]
pub enum ProviderCommand {
    /// Add a service that runs agents.
    #[command(
        after_help = "Examples:\n  talkstack provider add --name openai --base-url wss://api.openai.com/v1 --model gpt-realtime --api-key-file /root/key --default\n  talkstack provider add --name local --base-url ws://127.0.0.1:9000/v1 --model any\n\nExit codes: 0 done, 1 refused, 4 the name is taken, 6 the daemon does not run"
    )]
    Add(Box<NewProvider>),
    /// All providers, the oldest first.
    #[command(
        after_help = "Examples:\n  talkstack provider list\n  talkstack provider list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Remove a provider; its agents fall back to the default.
    #[command(
        after_help = "Examples:\n  talkstack provider remove openai\n\nExit codes: 0 done, 3 no such provider, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        provider: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// A provider to be added.
#[derive(Debug, Clone, Args)]
pub struct NewProvider {
    /// A name of its own.
    #[arg(long)]
    name: String,
    /// What it speaks.
    #[arg(long, default_value = "openai-realtime", value_parser = ["openai-realtime"])]
    kind: String,
    /// Its address without /realtime, as in wss://api.openai.com/v1.
    #[arg(long, value_name = "URL")]
    base_url: String,
    /// The model.
    #[arg(long)]
    model: String,
    /// A file that holds the API key; - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A voice it has; may be repeated. None: agents may have any.
    #[arg(long = "voice", value_name = "ID")]
    voices: Vec<String>,
    /// It runs the agents that name none.
    #[arg(long)]
    default: bool,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// Carries out `talkstack trunk …`; what is to be printed.
pub(super) fn trunk(command: &TrunkCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        TrunkCommand::Add(new) => {
            let mut body = json!({
                "name": new.name,
                "host": new.host,
                "port": new.port,
                "transport": match new.transport { Transport::Udp => "udp", Transport::Tcp => "tcp" },
                "numbers": new.numbers,
                "max_channels": new.max_channels,
                "default": new.default,
            });
            if let Some(username) = &new.username {
                body["username"] = json!(username);
            }
            if let Some(path) = &new.password_file {
                body["password"] = json!(read_secret(path)?);
            }
            add(socket, TRUNKS, &body, new.json)
        }
        TrunkCommand::List { json } => {
            let answer = ask(socket, "GET", TRUNKS, None)?;
            let columns = ["id", "name", "host", "port", "transport", "username", "numbers", "max_channels", "default"];
            Ok(if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        TrunkCommand::Remove { trunk, json } => remove(socket, TRUNKS, trunk, *json),
    }
}

/// Carries out `talkstack provider …`; what is to be printed.
pub(super) fn provider(command: &ProviderCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        ProviderCommand::Add(new) => {
            let mut body = json!({
                "name": new.name,
                "kind": new.kind,
                "base_url": new.base_url,
                "model": new.model,
                "voices": new.voices,
                "default": new.default,
            });
            if let Some(path) = &new.api_key_file {
                body["api_key"] = json!(read_secret(path)?);
            }
            add(socket, PROVIDERS, &body, new.json)
        }
        ProviderCommand::List { json } => {
            let answer = ask(socket, "GET", PROVIDERS, None)?;
            let columns = ["id", "name", "kind", "base_url", "model", "voices", "apiKeySet", "default"];
            Ok(if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        ProviderCommand::Remove { provider, json } => remove(socket, PROVIDERS, provider, *json),
    }
}

fn add(socket: &Path, path: &str, body: &Value, as_json: bool) -> Result<String, AdminError> {
    let added = ask(socket, "POST", path, Some(body))?;
    let text = |name: &str| added[name].as_str().unwrap_or_default().to_owned();
    Ok(if as_json { document(&added) } else { format!("Added {} as {}.\n", text("name"), text("id")) })
}

/// Removes what has the id, else what has the name.
fn remove(socket: &Path, path: &str, wanted: &str, as_json: bool) -> Result<String, AdminError> {
    let all = ask(socket, "GET", path, None)?;
    let with = |field: &str| all["data"].as_array().into_iter().flatten().find(|row| row[field] == wanted);
    let found = with("id").or_else(|| with("name"));
    let id = found.and_then(|row| row["id"].as_str()).ok_or_else(|| {
        let what = if path == TRUNKS { "trunk" } else { "provider" };
        AdminError::Refused(404, format!("no {what} {wanted}; `talkstack {what} list` shows what there is"))
    })?;
    ask(socket, "DELETE", &format!("{path}/{id}"), None)?;
    Ok(if as_json { document(&json!({ "id": id, "removed": true })) } else { format!("Removed {wanted}.\n") })
}

const TRUNKS: &str = "/api/v1/trunks";

const PROVIDERS: &str = "/api/v1/providers";
