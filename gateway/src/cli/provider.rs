//! `talkstack provider`: services that run agents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use talkstack_control::port::{AUDITION_TIME, ControlFormat, ProviderKind};

use super::admin::{ANSWER_MAX, AdminError, ask, ask_within, document, read_secret, table};
use super::resource::{Resource, add, find, id, remove, test_report};

/// `talkstack provider …`
#[derive(Debug, Clone, Subcommand)]
pub enum ProviderCommand {
    /// Add a service that runs agents.
    #[command(
        after_help = "Examples:\n  talkstack provider add --name openai --base-url wss://api.openai.com/v1 --model gpt-realtime --api-key-file /root/key --default\n  talkstack provider add --name local --base-url ws://127.0.0.1:9000/v1 --model any\n  talkstack provider add --name pipecat --kind twilio --base-url ws://127.0.0.1:7860/ws\n  talkstack provider add --name bot --kind audiosocket --base-url tcp://127.0.0.1:9092\n  talkstack provider add --name deepgram --kind deepgram --model open_ai/gpt-4o-mini --api-key-file /root/key\n  talkstack provider add --name eleven --kind elevenlabs --agent-id agent_7\n  talkstack provider add --name ultravox --kind ultravox --api-key-file /root/key\n  talkstack provider add --name lan --kind cascade --base-url http://127.0.0.1:11434/v1 --model llama3.2 --listen-url tcp://127.0.0.1:10300 --speak-url tcp://127.0.0.1:10200\n\nExit codes: 0 done, 1 refused, 4 the name is taken, 6 the daemon does not run"
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
    /// Try a provider out: connect, have it speak, ask it something; the time of each step, or the provider's own error.
    #[command(
        after_help = "Examples:\n  talkstack provider test openai\n  talkstack provider test openai --voice cedar --json\n\nExit codes: 0 all is well, 3 no such provider, 4 two tests run, 6 the daemon does not run, 7 a fault was found"
    )]
    Test {
        /// Its name or id.
        provider: String,
        /// The voice it is to speak with.
        #[arg(long, value_name = "ID")]
        voice: Option<String>,
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
    #[arg(long, default_value = "openai-realtime", value_parser = ProviderKind::ALL.map(ProviderKind::as_str))]
    kind: String,
    /// Its address: without /realtime for OpenAI's protocol, as in ws://127.0.0.1:9000/v1; the whole of it for a media stream; the host alone for a hosted agent, whose provider's own is known; for a cascade where it thinks, without /chat/completions.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The model, where the kind has one; for Deepgram the one that thinks, as open_ai/gpt-4o-mini.
    #[arg(long)]
    model: Option<String>,
    /// The agent's name at the provider, where agents are made there.
    #[arg(long, value_name = "ID")]
    agent_id: Option<String>,
    /// Hertz of linear audio, where there is a choice; for a cascade of the bare samples that it speaks, in place of WAV.
    #[arg(long, value_parser = ["8000", "16000", "22050", "24000", "32000", "44100", "48000"])]
    sample_rate: Option<String>,
    /// What it listens and speaks with.
    #[command(flatten)]
    speech: SpeechFlags,
    /// How much of it is used.
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    cascade: CascadeFlags,
    #[command(flatten)]
    stream: StreamFlags,
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

/// What only media streams have.
#[derive(Debug, Clone, Args)]
struct StreamFlags {
    /// What goes along with each call of a media stream, as name=value; may be repeated.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// The AudioSocket server is not told of keys: older ones take them for errors.
    #[arg(long)]
    no_dtmf: bool,
    /// How an agent behind Asterisk's WebSocket channel is written to; json unless it is given.
    #[arg(long, value_name = "FORMAT", value_parser = ControlFormat::ALL.map(ControlFormat::as_str))]
    control_format: Option<String>,
}

/// What only a cascade has.
#[derive(Debug, Clone, Args)]
struct CascadeFlags {
    /// Where a cascade listens, unless at its base: as https://host/v1, or tcp://host:10300 of a Wyoming service.
    #[arg(long, value_name = "URL")]
    listen_url: Option<String>,
    /// A file that holds the key there; the base's is sent to no other host.
    #[arg(long, value_name = "FILE")]
    listen_api_key_file: Option<PathBuf>,
    /// Where a cascade speaks, unless at its base: as https://host/v1, or tcp://host:10200 of a Wyoming service.
    #[arg(long, value_name = "URL")]
    speak_url: Option<String>,
    /// A file that holds the key there; the base's is sent to no other host.
    #[arg(long, value_name = "FILE")]
    speak_api_key_file: Option<PathBuf>,
    /// The voice of a cascade's agents that have none of their own.
    #[arg(long, value_name = "ID")]
    default_voice: Option<String>,
}

/// What a provider listens and speaks with.
#[derive(Debug, Clone, Args)]
struct SpeechFlags {
    /// The language that is spoken, as de or en-US.
    #[arg(long)]
    language: Option<String>,
    /// The model that listens, where it is another one.
    #[arg(long, value_name = "MODEL")]
    listen_model: Option<String>,
    /// The model that speaks, where it is another one.
    #[arg(long, value_name = "MODEL")]
    speak_model: Option<String>,
}

/// How much of a provider is used.
#[derive(Debug, Clone, Args)]
struct LimitFlags {
    /// So many sessions at once, 1 to 1000; further callers are as those of an agent that cannot be reached.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_sessions: Option<u16>,
    /// Seconds that what an agent has said is heard after it has closed its connection, 0 to 60; 10 unless given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u8).range(0..=60))]
    drain_s: Option<u8>,
}

/// Carries out `talkstack provider …`; what is to be printed, and whether all is well.
pub(super) fn provider(command: &ProviderCommand, socket: &Path) -> Result<(String, bool), AdminError> {
    let printed = match command {
        ProviderCommand::Test { provider, voice, json } => {
            let found = find(socket, &PROVIDERS, provider)?;
            let body = voice.as_ref().map_or_else(|| json!({}), |voice| json!({ "voice": voice }));
            let path = format!("{}/{}/test", PROVIDERS.path, id(&found));
            let report = ask_within(socket, "POST", &path, Some(&body), AUDITION_TIME + ANSWER_MAX)?;
            return Ok(test_report(&report, *json));
        }
        ProviderCommand::Add(new) => {
            let mut body = json!({
                "name": new.name,
                "kind": new.kind,
                "voices": new.voices,
                "default": new.default,
                "parameters": new.stream.parameters.iter().cloned().collect::<BTreeMap<_, _>>(),
            });
            for (field, given) in [
                ("base_url", &new.base_url),
                ("model", &new.model),
                ("agent_id", &new.agent_id),
                ("language", &new.speech.language),
                ("listen_model", &new.speech.listen_model),
                ("speak_model", &new.speech.speak_model),
                ("listen_url", &new.cascade.listen_url),
                ("speak_url", &new.cascade.speak_url),
                ("voice", &new.cascade.default_voice),
                ("control_format", &new.stream.control_format),
            ] {
                if let Some(given) = given {
                    body[field] = json!(given);
                }
            }
            if new.stream.no_dtmf {
                body["dtmf"] = json!(false);
            }
            if let Some(rate) = new.sample_rate.as_ref().and_then(|rate| rate.parse::<u32>().ok()) {
                body["sample_rate"] = json!(rate);
            }
            if let Some(max) = new.limits.max_sessions {
                body["max_sessions"] = json!(max);
            }
            if let Some(seconds) = new.limits.drain_s {
                body["drain_s"] = json!(seconds);
            }
            for (field, file) in [
                ("api_key", &new.api_key_file),
                ("listen_api_key", &new.cascade.listen_api_key_file),
                ("speak_api_key", &new.cascade.speak_api_key_file),
            ] {
                if let Some(path) = file {
                    body[field] = json!(read_secret(path)?);
                }
            }
            add(socket, &PROVIDERS, &body, new.json)
        }
        ProviderCommand::List { json } => {
            let answer = ask(socket, "GET", PROVIDERS.path, None)?;
            let columns = ["id", "name", "kind", "base_url", "model", "voices", "apiKeySet", "default"];
            Ok(if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        ProviderCommand::Remove { provider, json } => remove(socket, &PROVIDERS, provider, *json),
    };
    Ok((printed?, true))
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

const PROVIDERS: Resource = Resource { path: "/api/v1/providers", what: "provider" };
