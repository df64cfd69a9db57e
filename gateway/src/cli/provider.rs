//! `talkstack provider`: services that run agents.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::admin::{AdminError, ask, document, read_secret, table};
use super::resource::{Resource, add, remove};

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
            add(socket, &PROVIDERS, &body, new.json)
        }
        ProviderCommand::List { json } => {
            let answer = ask(socket, "GET", PROVIDERS.path, None)?;
            let columns = ["id", "name", "kind", "base_url", "model", "voices", "apiKeySet", "default"];
            Ok(if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        ProviderCommand::Remove { provider, json } => remove(socket, &PROVIDERS, provider, *json),
    }
}

const PROVIDERS: Resource = Resource { path: "/api/v1/providers", what: "provider" };
