//! `talkstack extension`: phones of our own.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::admin::{AdminError, ask, document, read_secret, table};
use super::resource::{Resource, add, clear, remove, set, show};

/// `talkstack extension …`
#[derive(Debug, Clone, Subcommand)]
pub enum ExtensionCommand {
    /// Add a phone; its password is made up and printed once unless a file has it.
    #[command(
        after_help = "Examples:\n  talkstack extension add 101 --name Reception\n  talkstack extension add 102 --password-file /root/pw --number +3612345678\n\nExit codes: 0 done, 1 refused, 4 there is one already, 6 the daemon does not run"
    )]
    Add {
        /// As it registers: 2 to 32 letters, digits, -, _ or .
        user: String,
        /// What it can be told.
        #[command(flatten)]
        fields: Box<ExtensionFields>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// All extensions, and how many phones are registered as each.
    #[command(
        after_help = "Examples:\n  talkstack extension list\n  talkstack extension list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// All of one extension, with its phones.
    #[command(
        after_help = "Examples:\n  talkstack extension show 101\n\nExit codes: 0 done, 3 no such extension, 6 the daemon does not run"
    )]
    Show {
        /// Its user.
        user: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Change an extension; what is not named stays.
    #[command(
        after_help = "Examples:\n  talkstack extension set 101 --number +3612345678\n  talkstack extension set 101 --new-password\n\nExit codes: 0 done, 1 refused, 3 no such extension, 6 the daemon does not run"
    )]
    Set {
        /// Its user.
        user: String,
        /// What changes.
        #[command(flatten)]
        fields: Box<ExtensionFields>,
        /// Make up another password and print it once.
        #[arg(long, conflicts_with = "password_file")]
        new_password: bool,
        /// Takes a field away; may be repeated.
        #[arg(long, value_name = "FIELD", value_parser = CLEARED)]
        clear: Vec<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Remove an extension.
    #[command(
        after_help = "Examples:\n  talkstack extension remove 101\n\nExit codes: 0 done, 3 no such extension, 4 a route names it, 6 the daemon does not run"
    )]
    Remove {
        /// Its user.
        user: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// What an extension can be told.
#[derive(Debug, Clone, Default, Args)]
pub struct ExtensionFields {
    /// Who sits there.
    #[arg(long)]
    name: Option<String>,
    /// A file that holds its password; - reads it from stdin.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The number it presents outside; without one it calls inside only, and emergency numbers.
    #[arg(long, value_name = "E164")]
    number: Option<String>,
    /// Phones registered at once, 1 to 10.
    #[arg(long)]
    contacts_max: Option<u32>,
    /// Whether sound is encrypted: by SDES, or by DTLS where the other side offers that.
    #[arg(long, value_parser = ["off", "optional", "required"])]
    srtp: Option<String>,
    /// Keys may stand in our offers though the signalling is plain.
    #[arg(long, value_name = "BOOL")]
    sdes_over_plain: Option<bool>,
    /// The project its calls belong to.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// The calling code that the national numbers it dials belong to.
    #[arg(long)]
    country_code: Option<String>,
    /// What national numbers begin with.
    #[arg(long, value_name = "DIGITS")]
    national_prefix: Option<String>,
    /// What international numbers begin with beside +.
    #[arg(long, value_name = "DIGITS")]
    international_prefix: Option<String>,
}

impl ExtensionFields {
    fn body(&self) -> Result<Map<String, Value>, AdminError> {
        let password = self.password_file.as_deref().map(read_secret).transpose()?;
        let text = |given: &Option<String>| given.as_ref().map(|text| json!(text));
        let fields = [
            ("name", text(&self.name)),
            ("password", text(&password)),
            ("number", text(&self.number)),
            ("contacts_max", self.contacts_max.map(|contacts| json!(contacts))),
            ("srtp", self.srtp.as_ref().map(|srtp| json!(srtp))),
            ("sdes_over_plain", self.sdes_over_plain.map(|is_allowed| json!(is_allowed))),
            ("project_id", text(&self.project)),
            ("country_code", text(&self.country_code)),
            ("national_prefix", text(&self.national_prefix)),
            ("international_prefix", text(&self.international_prefix)),
        ];
        Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// Carries out `talkstack extension …`; what is to be printed.
pub(super) fn extension(command: &ExtensionCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        ExtensionCommand::Add { user, fields, json } => {
            let mut body = fields.body()?;
            body.insert("user".into(), json!(user));
            add(socket, &EXTENSIONS, &Value::Object(body), *json)
        }
        ExtensionCommand::List { json } => {
            let mut answer = ask(socket, "GET", EXTENSIONS.path, None)?;
            if *json {
                return Ok(document(&answer["data"]));
            }
            for row in answer["data"].as_array_mut().into_iter().flatten() {
                row["phones"] = json!(row["contacts"].as_array().map(Vec::len));
            }
            Ok(table(&answer["data"], &["user", "name", "number", "phones", "contacts_max", "project_id"]))
        }
        ExtensionCommand::Show { user, json } => show(socket, &EXTENSIONS, user, *json),
        ExtensionCommand::Set { user, fields, new_password, clear: cleared, json } => {
            let mut body = fields.body()?;
            if *new_password {
                body.insert("password".into(), Value::Null);
            }
            clear(&mut body, cleared);
            set(socket, &EXTENSIONS, user, &Value::Object(body), *json)
        }
        ExtensionCommand::Remove { user, json } => remove(socket, &EXTENSIONS, user, *json),
    }
}

const EXTENSIONS: Resource = Resource { path: "/api/v1/extensions", what: "extension" };

/// What `extension set --clear` takes away.
const CLEARED: [&str; 5] = ["number", "project-id", "country-code", "national-prefix", "international-prefix"];
