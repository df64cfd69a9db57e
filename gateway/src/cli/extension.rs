//! `talkstack extension`: phones of our own.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, value_parser};
use serde_json::{Map, Value, json};

use super::admin::{AdminError, read_secret};
use super::resource::{Kind, NumberingFields, Output, set};
use super::trunk_fields::unset;

/// `talkstack extension …`
#[derive(Debug, Clone, Subcommand)]
pub enum ExtensionCommand {
    /// Add a phone; without a password file its password is made up and printed this once.
    #[command(
        after_help = "Examples:\n  talkstack extension add 101 --name Reception\n  talkstack extension add 102 --number +3612345678 --password-file /root/pw\n\nExit codes: 0 done, 1 refused, 4 the user is taken, 6 the daemon does not run"
    )]
    Add(Box<NewExtension>),
    /// All phones of our own, and how many are registered.
    #[command(
        after_help = "Examples:\n  talkstack extension list\n  talkstack extension list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Everything about an extension: its settings, and where it is registered from.
    #[command(
        after_help = "Examples:\n  talkstack extension show 101\n  talkstack extension show 101 --json\n\nExit codes: 0 done, 3 no such extension, 6 the daemon does not run"
    )]
    Show {
        /// Its user.
        user: String,
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Change what is given.
    #[command(
        after_help = "Examples:\n  talkstack extension set 101 --new-password\n  talkstack extension set 101 --name Reception --unset number\n\nExit codes: 0 done, 1 refused, 3 no such extension, 6 the daemon does not run"
    )]
    Set(Box<ChangedExtension>),
    /// Remove an extension that no route names.
    #[command(
        after_help = "Examples:\n  talkstack extension remove 101\n\nExit codes: 0 done, 3 no such extension, 4 a route names it, 6 the daemon does not run"
    )]
    Remove {
        /// Its user.
        user: String,
        /// How.
        #[command(flatten)]
        output: Output,
    },
}

/// An extension to be added.
#[derive(Debug, Clone, Args)]
pub struct NewExtension {
    /// As it registers and is dialled: 2 to 32 letters, digits, -, _ and .
    user: String,
    /// The rest.
    #[command(flatten)]
    fields: ExtensionFields,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// An extension to be changed.
#[derive(Debug, Clone, Args)]
pub struct ChangedExtension {
    /// Its user.
    user: String,
    /// The rest.
    #[command(flatten)]
    fields: ExtensionFields,
    /// Make up another password and print it this once.
    #[arg(long, conflicts_with = "password_file")]
    new_password: bool,
    /// Takes a field away; may be repeated.
    #[arg(long, value_name = "FIELD", value_parser = ["number", "project-id", "country-code", "national-prefix", "international-prefix"])]
    unset: Vec<String>,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// What an extension can be told.
#[derive(Debug, Clone, Default, Args)]
pub struct ExtensionFields {
    /// Who sits there.
    #[arg(long)]
    name: Option<String>,
    /// A file that holds the password, of 12 characters or more; - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The number it presents outside; without one it calls inside only, and emergency numbers.
    #[arg(long, value_name = "E164")]
    number: Option<String>,
    /// Phones registered at once, 1 to 10; 5 when nothing is said.
    #[arg(long, value_name = "PHONES", value_parser = value_parser!(u32).range(1..=10))]
    contacts_max: Option<u32>,
    /// The project its calls belong to.
    #[arg(long, value_name = "ID")]
    project_id: Option<String>,
    /// How it dials numbers.
    #[command(flatten)]
    numbering: NumberingFields,
}

impl ExtensionFields {
    fn put(&self, body: &mut Map<String, Value>) -> Result<(), AdminError> {
        set(body, "name", self.name.as_ref());
        set(body, "password", self.password_file.as_deref().map(read_secret).transpose()?);
        set(body, "number", self.number.as_ref());
        set(body, "contacts_max", self.contacts_max);
        set(body, "project_id", self.project_id.as_ref());
        self.numbering.put(body);
        Ok(())
    }
}

/// Carries out `talkstack extension …`; what is to be printed.
pub(super) fn run(command: &ExtensionCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        ExtensionCommand::Add(new) => {
            let mut body = Map::new();
            set(&mut body, "user", Some(&new.user));
            new.fields.put(&mut body)?;
            EXTENSIONS.add(socket, body, new.output)
        }
        ExtensionCommand::List { output } => EXTENSIONS.list(socket, *output, count_phones),
        ExtensionCommand::Show { user, output } => EXTENSIONS.show(socket, user, *output),
        ExtensionCommand::Set(changed) => {
            let mut body = Map::new();
            changed.fields.put(&mut body)?;
            if changed.new_password {
                body.insert("password".into(), Value::Null);
            }
            unset(&mut body, &changed.unset);
            EXTENSIONS.change(socket, &changed.user, body, changed.output)
        }
        ExtensionCommand::Remove { user, output } => EXTENSIONS.remove(socket, user, *output),
    }
}

/// Says how many phones are registered, for the table.
fn count_phones(row: &mut Value) {
    row["phones"] = row["contacts"].as_array().map_or(Value::Null, |contacts| json!(contacts.len()));
}

const EXTENSIONS: Kind = Kind {
    noun: "extension",
    path: "/api/v1/extensions",
    key: "user",
    columns: &["user", "name", "number", "phones", "contacts_max", "project_id"],
};
