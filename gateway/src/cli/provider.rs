//! `talkstack provider`: what runs agents.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Map;

use super::admin::{AdminError, read_secret};
use super::resource::{Kind, Output, set};

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
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Remove a provider; its agents fall back to the default.
    #[command(
        after_help = "Examples:\n  talkstack provider remove openai\n\nExit codes: 0 done, 3 no such provider, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        provider: String,
        /// How.
        #[command(flatten)]
        output: Output,
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
    /// How.
    #[command(flatten)]
    output: Output,
}

/// Carries out `talkstack provider …`; what is to be printed.
pub(super) fn run(command: &ProviderCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        ProviderCommand::Add(new) => {
            let mut body = Map::new();
            set(&mut body, "name", Some(&new.name));
            set(&mut body, "kind", Some(&new.kind));
            set(&mut body, "base_url", Some(&new.base_url));
            set(&mut body, "model", Some(&new.model));
            set(&mut body, "voices", Some(&new.voices));
            set(&mut body, "default", Some(new.default));
            set(&mut body, "api_key", new.api_key_file.as_deref().map(read_secret).transpose()?);
            PROVIDERS.add(socket, body, new.output)
        }
        ProviderCommand::List { output } => PROVIDERS.list(socket, *output, |_| {}),
        ProviderCommand::Remove { provider, output } => PROVIDERS.remove(socket, provider, *output),
    }
}

const PROVIDERS: Kind = Kind {
    noun: "provider",
    path: "/api/v1/providers",
    key: "id",
    columns: &["id", "name", "kind", "base_url", "model", "voices", "apiKeySet", "default"],
};
