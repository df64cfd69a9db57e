//! The command line.

mod admin;
mod dnc;
mod extension;
mod message;
mod provider;
mod quality;
mod resource;
mod route;
mod trunk;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use talkstack_control::port::CallId;

pub use admin::{AdminError, run as run_admin};
pub use dnc::DncCommand;
pub use extension::{ExtensionCommand, ExtensionFields};
pub use message::MessageCommand;
pub use provider::{NewProvider, ProviderCommand};
pub use route::{RouteCommand, RouteFields};
pub use trunk::{
    AccessFields, MediaFields, NewTrunk, NumberFields, SignallingFields, TrunkCommand, TrunkFields, TrunkPart,
};

use crate::config::{Config, ConfigError, Flag};

/// `talkstack`.
#[derive(Debug, Parser)]
#[command(name = "talkstack", version, about = "Answers phone calls and bridges them to voice agents.", after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    /// Where the settings come from.
    #[command(flatten)]
    pub sources: Sources,
}

/// Where settings come from.
#[derive(Debug, Clone, Default, Args)]
pub struct Sources {
    /// Configuration file; none is read unless one is named here or in TALKSTACK_CONFIG.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of database, journal, secrets and outbox [store.dir].
    #[arg(long, global = true, value_name = "DIR")]
    pub store_dir: Option<String>,
    /// Address and port of the API [http.listen].
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub http_listen: Option<String>,
    /// SIP addresses, separated by commas [sip.listen].
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub sip_listen: Option<String>,
    /// First and last media port [rtp.ports].
    #[arg(long, global = true, value_name = "FIRST-LAST")]
    pub rtp_ports: Option<String>,
    /// text or json [log.format].
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// A subcommand.
#[derive(Debug, Clone, Subcommand)]
pub enum CliCommand {
    /// Run the whole box in one process (the default).
    #[command(
        after_help = "Examples:\n  talkstack serve\n  talkstack serve --sip-listen 192.168.1.5:5060\n\nExit codes: 0 stopped, 75 an address or directory cannot be used, 78 bad configuration"
    )]
    Serve,
    /// Run what carries the calls alone; `talkstack control` connects to it.
    #[command(after_help = "Examples:\n  talkstack calls --store-dir /var/lib/talkstack\n\nExit codes: as serve")]
    Calls,
    /// Run API and store alone, beside `talkstack calls` on the same directory.
    #[command(after_help = "Examples:\n  talkstack control --store-dir /var/lib/talkstack\n\nExit codes: as serve")]
    Control,
    /// Read the configuration, say what is wrong, start nothing.
    #[command(after_help = "Examples:\n  talkstack check-config --config talkstack.toml\n\nExit codes: 0 good, 78 bad")]
    CheckConfig,
    /// Make the first account, the owner of the box, while the daemon runs.
    #[command(
        after_help = "Examples:\n  talkstack setup --admin-email me@example.com --password-file /root/pw\n\nExit codes: 0 done, 1 refused, 6 the daemon does not run"
    )]
    Setup {
        /// Its e-mail address.
        #[arg(long, value_name = "EMAIL")]
        admin_email: String,
        /// A file that holds its password; - reads it from stdin.
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Letters the box has written.
    #[command(subcommand)]
    Mail(MailCommand),
    /// Calls the box has carried.
    #[command(subcommand)]
    Call(CallCommand),
    /// SIP peers that calls are placed through and come from.
    #[command(subcommand)]
    Trunk(TrunkCommand),
    /// Phones of our own.
    #[command(subcommand)]
    Extension(ExtensionCommand),
    /// Where calls go.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Services that run agents.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// What callers have left with agents.
    #[command(subcommand)]
    Message(MessageCommand),
    /// Numbers that are not called.
    #[command(subcommand)]
    Dnc(DncCommand),
    /// Print the version.
    #[command(after_help = "Examples:\n  talkstack version")]
    Version,
}

/// `talkstack mail …`
#[derive(Debug, Clone, Subcommand)]
pub enum MailCommand {
    /// The latest letters, the newest first.
    #[command(
        after_help = "Examples:\n  talkstack mail list\n  talkstack mail list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// One letter.
    #[command(
        after_help = "Examples:\n  talkstack mail show 1\n\nExit codes: 0 done, 3 no such letter, 6 the daemon does not run"
    )]
    Show {
        /// Its number.
        id: u64,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// `talkstack call …`
#[derive(Debug, Clone, Subcommand)]
pub enum CallCommand {
    /// The latest calls, the newest first.
    #[command(
        after_help = "Examples:\n  talkstack call list\n  talkstack call list --limit 5 --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// How many, 1 to 1000.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Pause the recording of a call that is up, or have it go on: silence stands for what is said meanwhile.
    #[command(
        after_help = "Examples:\n  talkstack call recording CA26e39c970fd416515799f5a165718be3 pause\n  talkstack call recording CA26e39c970fd416515799f5a165718be3 resume\n\nExit codes: 0 done, 1 refused, 3 no such call, 4 the call is over, 6 the daemon does not run"
    )]
    Recording {
        /// Its id.
        call: CallId,
        /// What to do.
        action: RecordingAction,
    },
    /// Collect keys from the caller, hidden from the agent and from the recording, and print them.
    #[command(
        after_help = "Examples:\n  talkstack call digits CA26e39c970fd416515799f5a165718be3 --max 4\n  talkstack call digits CA26e39c970fd416515799f5a165718be3 --finish-on '*' --first-within 30\n\nExit codes: 0 done, 1 refused, 3 no such call, 4 the call is over, 6 the daemon does not run"
    )]
    Digits {
        /// Its id.
        call: CallId,
        /// So many keys at the most, 1 to 32.
        #[arg(long, default_value_t = 16)]
        max: u8,
        /// The key that ends it.
        #[arg(long, default_value_t = '#')]
        finish_on: char,
        /// Seconds to wait for the first key, 1 to 60.
        #[arg(long, default_value_t = 10)]
        first_within: u8,
        /// Seconds to wait for each further key, 1 to 30.
        #[arg(long, default_value_t = 5)]
        next_within: u8,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// One call: how it went, what was said, what was refused by which rule, and what was wrong with its sound.
    #[command(
        after_help = "Examples:\n  talkstack call show CA26e39c970fd416515799f5a165718be3\n\nExit codes: 0 done, 3 no such call, 6 the daemon does not run"
    )]
    Show {
        /// Its id.
        call: CallId,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// What is to become of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecordingAction {
    /// Silence stands for what is said.
    Pause,
    /// What is said is recorded again.
    Resume,
}

impl Sources {
    /// Reads all layers of the configuration.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let file = self.config.clone().or_else(|| std::env::var_os("TALKSTACK_CONFIG").map(PathBuf::from));
        let flag = |name, section, key, text: &Option<String>| text.clone().map(|text| (name, section, key, text));
        let flags: Vec<Flag> = [
            flag("store-dir", "store", "dir", &self.store_dir),
            flag("http-listen", "http", "listen", &self.http_listen),
            flag("sip-listen", "sip", "listen", &self.sip_listen),
            flag("rtp-ports", "rtp", "ports", &self.rtp_ports),
            flag("log-format", "log", "format", &self.log_format),
        ]
        .into_iter()
        .flatten()
        .collect();
        // A name or value that is no UTF-8 is none of ours.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(file.as_deref(), variables, flags)
    }
}

/// Below the help of `talkstack` itself.
const EXAMPLES: &str = "Examples:\n  talkstack                                  run the box on embedded defaults\n  \
    talkstack --config talkstack.toml\n  talkstack call list\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 not allowed, 6 the daemon does not run,\n\
    7 a test found a fault, 75 an address or directory cannot be used, 78 bad configuration";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_leaf_shows_an_example_and_what_prints_data_has_json() {
        fn walk(command: &clap::Command, path: &str) {
            let leaves: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
            if leaves.is_empty() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  talkstack "), "{path} has no example");
                let prints = [
                    "list",
                    "show",
                    "add",
                    "set",
                    "move",
                    "remove",
                    "refusals",
                    "test",
                    "simulate",
                    "emergency",
                    "digits",
                ];
                let lists = prints.contains(&command.get_name());
                let json = command.get_arguments().any(|argument| argument.get_id() == "json");
                assert_eq!(lists, json, "{path}");
            }
            for leaf in leaves {
                walk(leaf, &format!("{path} {}", leaf.get_name()));
            }
        }
        Cli::command().debug_assert();
        walk(&Cli::command(), "talkstack");
    }

    #[test]
    fn serve_is_what_nothing_said_means_and_flags_may_stand_anywhere() {
        let cli = Cli::try_parse_from(["talkstack", "--store-dir", "/x"]).expect("parses");
        assert!(cli.command.is_none());
        let cli = Cli::try_parse_from(["talkstack", "call", "list", "--store-dir", "/x"]).expect("parses");
        assert_eq!(cli.sources.store_dir.as_deref(), Some("/x"));
    }
}
