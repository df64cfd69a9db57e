//! `talkstack message`: what callers have left with agents.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::admin::{AdminError, ask, document, table};

/// `talkstack message …`
#[derive(Debug, Clone, Subcommand)]
pub enum MessageCommand {
    /// The latest messages.
    #[command(
        after_help = "Examples:\n  talkstack message list\n  talkstack message list --unread --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// Only those that nobody has read.
        #[arg(long)]
        unread: bool,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Say that a message was read.
    #[command(
        after_help = "Examples:\n  talkstack message read 7\n\nExit codes: 0 done, 3 no such message, 6 the daemon does not run"
    )]
    Read {
        /// Its id.
        id: u64,
    },
    /// Forget a message.
    #[command(
        after_help = "Examples:\n  talkstack message remove 7\n\nExit codes: 0 done, 3 no such message, 6 the daemon does not run"
    )]
    Remove {
        /// Its id.
        id: u64,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Carries out `talkstack message …`; what is to be printed.
pub(super) fn message(command: &MessageCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        MessageCommand::List { unread, json } => {
            let mut answer = ask(socket, "GET", PATH, None)?;
            if let Some(rows) = answer["data"].as_array_mut().filter(|_| *unread) {
                rows.retain(|row| row["read"] == Value::Bool(false));
            }
            let columns = ["id", "taken_at", "far_end", "name", "number", "text", "read"];
            Ok(if *json { document(&answer["data"]) } else { table(&answer["data"], &columns) })
        }
        MessageCommand::Read { id } => {
            ask(socket, "PATCH", &format!("{PATH}/{id}"), Some(&json!({ "read": true })))?;
            Ok(format!("Message {id} was read.\n"))
        }
        MessageCommand::Remove { id, json } => {
            ask(socket, "DELETE", &format!("{PATH}/{id}"), None)?;
            let removed = json!({ "id": id.to_string(), "removed": true });
            Ok(if *json { document(&removed) } else { format!("Removed message {id}.\n") })
        }
    }
}

const PATH: &str = "/api/v1/messages";
