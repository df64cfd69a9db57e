//! `talkstack call` and `talkstack refusals`: what the box has carried, and what was refused on the wire.

use std::path::Path;

use clap::{Args, Subcommand, value_parser};
use talkstack_control::port::CallId;

use super::admin::{AdminError, ask, document, table};
use super::resource::{Output, lines};
use super::trunk::TRUNKS;

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
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Everything about a call: how it went, what was said, and what was refused by which rule.
    #[command(
        after_help = "Examples:\n  talkstack call show CA26e39c970fd416515799f5a165718be3\n  talkstack call show CA26e39c970fd416515799f5a165718be3 --json\n\nExit codes: 0 done, 3 no such call, 6 the daemon does not run"
    )]
    Show {
        /// Its id.
        call: CallId,
        /// How.
        #[command(flatten)]
        output: Output,
    },
}

/// `talkstack refusals`: which.
#[derive(Debug, Clone, Args)]
pub struct RefusalFilter {
    /// Of this trunk, by name or id.
    #[arg(long)]
    trunk: Option<String>,
    /// Of this call.
    #[arg(long, value_name = "ID")]
    call: Option<CallId>,
    /// How many, 1 to 1000.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// Carries out `talkstack call …`; what is to be printed.
pub(super) fn run(command: &CallCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        CallCommand::List { limit, output } => {
            let answer = ask(socket, "GET", &format!("/admin/calls?limit={limit}"), None)?;
            let columns = ["startTime", "sid", "from", "to", "status", "seconds"];
            Ok(if output.json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        CallCommand::Show { call, output } => {
            let answer = ask(socket, "GET", &format!("/admin/calls/{call}"), None)?;
            Ok(if output.json { document(&answer) } else { lines(&answer) })
        }
    }
}

/// Carries out `talkstack refusals`; what is to be printed.
pub(super) fn refusals(filter: &RefusalFilter, socket: &Path) -> Result<String, AdminError> {
    let mut path = format!("/api/v1/sip-refusals?limit={}", filter.limit);
    if let Some(trunk) = &filter.trunk {
        path.push_str(&format!("&trunk={}", TRUNKS.find(socket, trunk)?["id"].as_str().unwrap_or_default()));
    }
    if let Some(call) = &filter.call {
        path.push_str(&format!("&call={call}"));
    }
    let answer = ask(socket, "GET", &path, None)?;
    let columns = ["at", "by", "status", "method", "peer", "call", "more", "rule"];
    Ok(if filter.output.json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
}
