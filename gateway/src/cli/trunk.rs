//! `talkstack trunk`: where calls go through and come from.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use talkstack_control::port::TRUNK_TEST_TIME;

use super::admin::{AdminError, Printed, ask_within, document};
use super::resource::{Kind, Output, set, word};
use super::trunk_fields::{TrunkFields, UNSET, unset};

/// `talkstack trunk …`
#[derive(Debug, Clone, Subcommand)]
pub enum TrunkCommand {
    /// Add a SIP peer that calls are placed through and come from.
    #[command(
        after_help = "Examples:\n  talkstack trunk add --name carrier --host sip.example.com --username me --password-file /root/pw --register --number +3612345678\n  pass show carrier | talkstack trunk add --name carrier --host sip.example.com --port srv --transport tls --username me --password-file - --default\n  talkstack trunk add --name pbx --host 192.168.1.10 --network 192.168.1.0/24 --emergency --country-code 36 --national-prefix 06\n\nExit codes: 0 done, 1 refused, 4 the name or a number is taken, 6 the daemon does not run"
    )]
    Add(Box<NewTrunk>),
    /// All trunks, the oldest first, and how they are.
    #[command(
        after_help = "Examples:\n  talkstack trunk list\n  talkstack trunk list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Everything about a trunk: its settings, and how it is.
    #[command(
        after_help = "Examples:\n  talkstack trunk show carrier\n  talkstack trunk show carrier --json\n\nExit codes: 0 done, 3 no such trunk, 6 the daemon does not run"
    )]
    Show {
        /// Its name or id.
        trunk: String,
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Change what is given; lists are replaced whole.
    #[command(
        after_help = "Examples:\n  talkstack trunk set carrier --transport tls --port srv\n  talkstack trunk set carrier --register=false --unset password\n\nExit codes: 0 done, 1 refused, 3 no such trunk, 4 the name or a number is taken, 6 the daemon does not run"
    )]
    Set(Box<ChangedTrunk>),
    /// Look for the fault of a trunk, step by step: name, address, OPTIONS, registration, a call with a tone.
    #[command(
        after_help = "Examples:\n  talkstack trunk test carrier\n  talkstack trunk test carrier --number +3612345678\n\nExit codes: 0 all is well, 3 no such trunk, 4 a test of it is running, 6 the daemon does not run, 7 a step found a fault"
    )]
    Test {
        /// Its name or id.
        trunk: String,
        /// Whom to call, as dialled; no call is placed without.
        #[arg(long)]
        number: Option<String>,
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Remove a trunk that no route names; calls that it carries go on.
    #[command(
        after_help = "Examples:\n  talkstack trunk remove carrier\n  talkstack trunk remove trk_0123456789abcdef0123456789abcdef\n\nExit codes: 0 done, 3 no such trunk, 4 a route names it, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        trunk: String,
        /// How.
        #[command(flatten)]
        output: Output,
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
    /// The rest.
    #[command(flatten)]
    fields: TrunkFields,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// A trunk to be changed.
#[derive(Debug, Clone, Args)]
pub struct ChangedTrunk {
    /// Its name or id.
    trunk: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// Another host name or address.
    #[arg(long)]
    host: Option<String>,
    /// The rest.
    #[command(flatten)]
    fields: TrunkFields,
    /// Takes a field away; may be repeated.
    #[arg(long, value_name = "FIELD", value_parser = UNSET)]
    unset: Vec<String>,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// Carries out `talkstack trunk …`; what is to be printed.
pub(super) fn run(command: &TrunkCommand, socket: &Path) -> Result<Printed, AdminError> {
    let text = match command {
        TrunkCommand::Add(new) => {
            let mut body = Map::new();
            set(&mut body, "name", Some(&new.name));
            set(&mut body, "host", Some(&new.host));
            new.fields.put(&mut body)?;
            TRUNKS.add(socket, body, new.output)?
        }
        TrunkCommand::List { output } => TRUNKS.list(socket, *output, put_state)?,
        TrunkCommand::Show { trunk, output } => TRUNKS.show(socket, trunk, *output)?,
        TrunkCommand::Set(changed) => {
            let mut body = Map::new();
            set(&mut body, "name", changed.name.as_ref());
            set(&mut body, "host", changed.host.as_ref());
            changed.fields.put(&mut body)?;
            unset(&mut body, &changed.unset);
            TRUNKS.change(socket, &changed.trunk, body, changed.output)?
        }
        TrunkCommand::Test { trunk, number, output } => return test(socket, trunk, number.as_ref(), *output),
        TrunkCommand::Remove { trunk, output } => TRUNKS.remove(socket, trunk, *output)?,
    };
    Ok(text.into())
}

fn test(socket: &Path, trunk: &str, number: Option<&String>, output: Output) -> Result<Printed, AdminError> {
    let path = format!("{}/test", TRUNKS.path_of(socket, trunk)?);
    let mut body = Map::new();
    set(&mut body, "number", number);
    let tested = ask_within(socket, "POST", &path, Some(&Value::Object(body)), TEST_MAX)?;
    let text = if output.json { document(&tested) } else { steps_text(&tested["steps"]) };
    let is_ok = tested["ok"] == true;
    Ok(Printed { text, problem: (!is_ok).then(|| AdminError::TrunkFault(trunk.to_owned())) })
}

/// One line a step: how it went, its name, what was found.
fn steps_text(steps: &Value) -> String {
    let line = |step: &Value| {
        let went = match step["is_ok"].as_bool() {
            Some(true) => "✓ ok",
            Some(false) => "✗ failed",
            None => "- not tried",
        };
        let took = step["took_ms"].as_u64().unwrap_or_default();
        format!("{went:<11}  {:<8}  {} ({took} ms)\n", word(&step["step"]), word(&step["found"]))
    };
    steps.as_array().into_iter().flatten().map(line).collect()
}

/// Says in a word how a trunk is, for the table.
fn put_state(row: &mut Value) {
    let state = row["state"].take();
    let word = match (state["registration"]["state"].as_str(), state["is_reachable"].as_bool()) {
        _ if state.is_null() => "unknown",
        (Some("registered"), _) => "registered",
        (Some("registering"), _) => "registering",
        (Some("refused"), _) => "refused",
        (Some("unreachable"), _) | (_, Some(false)) => "unreachable",
        (_, Some(true)) => "reachable",
        _ => "unknown",
    };
    row["channels"] = json!(format!("{}/{}", state["channels"].as_u64().unwrap_or_default(), row["max_channels"]));
    row["problem"] = state["problem"].clone();
    row["state"] = json!(word);
}

pub(super) const TRUNKS: Kind = Kind {
    noun: "trunk",
    path: "/api/v1/trunks",
    key: "id",
    columns: &[
        "id",
        "name",
        "host",
        "port",
        "transport",
        "username",
        "numbers",
        "channels",
        "default",
        "emergency",
        "state",
        "problem",
    ],
};

/// 60 s: the test's own time, and twice what control adds to it.
const TEST_MAX: Duration = TRUNK_TEST_TIME.saturating_add(Duration::from_secs(15));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_says_of_each_step_how_it_went() {
        let steps = json!([
            { "step": "dns", "is_ok": true, "fault": null, "found": "sip.example.com is 192.0.2.1.", "took_ms": 3 },
            { "step": "register", "is_ok": false, "fault": "403", "found": "The secret is wrong.", "took_ms": 20 },
            { "step": "call", "is_ok": null, "fault": null, "found": "No number was given.", "took_ms": 0 },
        ]);
        assert_eq!(
            steps_text(&steps),
            "✓ ok         dns       sip.example.com is 192.0.2.1. (3 ms)\n\
             ✗ failed     register  The secret is wrong. (20 ms)\n\
             - not tried  call      No number was given. (0 ms)\n"
        );
    }

    #[test]
    fn the_list_says_in_a_word_how_a_trunk_is() {
        let word = |state: Value| {
            let mut row = json!({ "max_channels": 30, "state": state });
            put_state(&mut row);
            format!("{} {}", row["state"].as_str().unwrap_or_default(), row["channels"].as_str().unwrap_or_default())
        };
        let state = |registration: &str, reachable: Option<bool>| json!({ "registration": { "state": registration }, "is_reachable": reachable, "channels": 2 });
        assert_eq!(word(Value::Null), "unknown 0/30");
        assert_eq!(word(state("registered", Some(true))), "registered 2/30");
        assert_eq!(word(state("refused", Some(true))), "refused 2/30");
        assert_eq!(word(state("off", Some(true))), "reachable 2/30");
        assert_eq!(word(state("off", Some(false))), "unreachable 2/30");
        assert_eq!(word(state("off", None)), "unknown 2/30");
    }
}
