//! `talkstack dnc`: numbers that the owner's account does not call.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::admin::{AdminError, ask, document, table};

/// `talkstack dnc …`
#[derive(Debug, Clone, Subcommand)]
pub enum DncCommand {
    /// The numbers, in their order.
    #[command(
        after_help = "Examples:\n  talkstack dnc list\n  talkstack dnc list --json\n\nExit codes: 0 done, 4 nobody owns the box yet, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Put a number on the list.
    #[command(
        after_help = "Examples:\n  talkstack dnc add +3612345678\n  talkstack dnc add +3612345678 --reason \"asked by mail\"\n\nExit codes: 0 done, 1 no number, 4 nobody owns the box yet, 6 the daemon does not run"
    )]
    Add {
        /// E.164 with its plus.
        number: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Take a number off the list.
    #[command(
        after_help = "Examples:\n  talkstack dnc remove +3612345678\n\nExit codes: 0 done, 3 it is not on the list, 6 the daemon does not run"
    )]
    Remove {
        /// E.164 with its plus.
        number: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Carries out `talkstack dnc …`; what is to be printed.
pub(super) fn dnc(command: &DncCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        DncCommand::List { json } => {
            let answer = ask(socket, "GET", PATH, None)?;
            let columns = ["number", "reason", "call", "added_at"];
            Ok(if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        DncCommand::Add { number, reason, json } => {
            let mut body = json!({ "number": number });
            if let Some(reason) = reason {
                body["reason"] = json!(reason);
            }
            let added = ask(socket, "POST", PATH, Some(&body))?;
            let number = added["number"].as_str().unwrap_or_default();
            Ok(if *json { document(&added) } else { format!("{number} is not called any more.\n") })
        }
        DncCommand::Remove { number, json } => {
            ask(socket, "DELETE", &format!("{PATH}/{number}"), None)?;
            let removed = json!({ "number": number, "removed": true });
            Ok(if *json { document(&removed) } else { format!("{number} may be called again.\n") })
        }
    }
}

const PATH: &str = "/api/v1/do-not-call";
