//! `talkstack route`: where calls go.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::admin::{AdminError, ask, document};
use super::resource::{Kind, Output, lines, set, set_list, word};
use super::route_text::{hours, hours_text, line, line_text, target, target_text};
use super::trunk::TRUNKS;
use super::trunk_fields::unset;

/// `talkstack route …`
#[derive(Debug, Clone, Subcommand)]
pub enum RouteCommand {
    /// Add a route; it is the last to be asked until it is moved.
    #[command(
        after_help = "Patterns are FreePBX's: X 0-9, Z 1-9, N 2-9, [1-5], . one or more, ! any, prefix|match, prepend+match.\n\nExamples:\n  talkstack route add --name reception --from trunk:carrier --called +3612345678 --hours 'mon-fri 08:00-17:00' --to extension:101,ring=20 --to attendant\n  talkstack route add --name outside --from extensions --called 'X.' --to trunk:carrier --to trunk:backup\n  talkstack route add --name nobody --caller +3690. --to refuse:603\n\nExit codes: 0 done, 1 refused, 3 no such trunk, 4 the name is taken, 6 the daemon does not run"
    )]
    Add(Box<NewRoute>),
    /// All routes, in the order they are asked; the first that matches decides.
    #[command(
        after_help = "Examples:\n  talkstack route list\n  talkstack route list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Everything about a route.
    #[command(
        after_help = "Examples:\n  talkstack route show reception\n  talkstack route show reception --json\n\nExit codes: 0 done, 3 no such route, 6 the daemon does not run"
    )]
    Show {
        /// Its name or id.
        route: String,
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Change what is given; lists are replaced whole.
    #[command(
        after_help = "Examples:\n  talkstack route set reception --to extension:102 --to attendant\n  talkstack route set reception --unset hours\n\nExit codes: 0 done, 1 refused, 3 no such route, 4 the name is taken, 6 the daemon does not run"
    )]
    Set(Box<ChangedRoute>),
    /// Move a route to another place in the order.
    #[command(
        after_help = "Examples:\n  talkstack route move reception 1\n\nExit codes: 0 done, 3 no such route, 4 routes were added or removed meanwhile, 6 the daemon does not run"
    )]
    Move {
        /// Its name or id.
        route: String,
        /// Its place, counted from 1; beyond the end is the end.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        place: u32,
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Remove a route.
    #[command(
        after_help = "Examples:\n  talkstack route remove reception\n\nExit codes: 0 done, 3 no such route, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        route: String,
        /// How.
        #[command(flatten)]
        output: Output,
    },
    /// Say where a number would go, and why; nothing rings.
    #[command(
        after_help = "Examples:\n  talkstack route simulate +3612345678 --from trunk:carrier\n  talkstack route simulate 0612345678 --from extensions --caller 101 --at 2026-12-24T18:00:00+01:00\n\nExit codes: 0 done, 1 refused, 3 no such trunk, 6 the daemon does not run"
    )]
    Simulate(Question),
}

/// A route to be added.
#[derive(Debug, Clone, Args)]
pub struct NewRoute {
    /// A name of its own.
    #[arg(long)]
    name: String,
    /// Where the call goes, one after the other until one answers; may be repeated.
    #[arg(long = "to", value_name = "TARGET", value_parser = target, required = true)]
    targets: Vec<Value>,
    /// What it matches.
    #[command(flatten)]
    fields: RouteFields,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// A route to be changed.
#[derive(Debug, Clone, Args)]
pub struct ChangedRoute {
    /// Its name or id.
    route: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// Where the call goes, one after the other until one answers; may be repeated.
    #[arg(long = "to", value_name = "TARGET", value_parser = target)]
    targets: Vec<Value>,
    /// What it matches.
    #[command(flatten)]
    fields: RouteFields,
    /// Takes a field away; may be repeated.
    #[arg(long, value_name = "FIELD", value_parser = ["called", "callers", "hours"])]
    unset: Vec<String>,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// What a route matches.
#[derive(Debug, Clone, Default, Args)]
pub struct RouteFields {
    /// A pattern of called numbers; may be repeated. None: all.
    #[arg(long, value_name = "PATTERN")]
    called: Vec<String>,
    /// A pattern of callers; may be repeated. None: all.
    #[arg(long = "caller", value_name = "PATTERN")]
    callers: Vec<String>,
    /// The line the call comes from: any, extensions or trunk:NAME.
    #[arg(long, value_name = "LINE", value_parser = line)]
    from: Option<Value>,
    /// When, in box.timezone, as 'mon-fri 08:00-17:00'; may be repeated. None: always.
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    hours: Vec<Value>,
}

/// A call that might come.
#[derive(Debug, Clone, Args)]
pub struct Question {
    /// The called number or user, as dialled.
    number: String,
    /// The caller, as presented; anonymous when nothing is said.
    #[arg(long)]
    caller: Option<String>,
    /// The line it would come from: any, extensions or trunk:NAME.
    #[arg(long, value_name = "LINE", value_parser = line)]
    from: Option<Value>,
    /// When, as 2026-12-24T18:00:00+01:00; now when nothing is said.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// How.
    #[command(flatten)]
    output: Output,
}

/// Carries out `talkstack route …`; what is to be printed.
pub(super) fn run(command: &RouteCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        RouteCommand::Add(new) => {
            let mut body = Map::new();
            set(&mut body, "name", Some(&new.name));
            new.fields.put(&mut body, &new.targets, socket)?;
            ROUTES.add(socket, body, new.output)
        }
        RouteCommand::List { output } => {
            let trunks = Trunks::read(socket)?;
            ROUTES.list(socket, *output, |row| put_words(row, &trunks))
        }
        RouteCommand::Show { route, output: Output { json: true } } => {
            Ok(document(&ask(socket, "GET", &ROUTES.path_of(socket, route)?, None)?))
        }
        RouteCommand::Show { route, .. } => {
            let mut found = ask(socket, "GET", &ROUTES.path_of(socket, route)?, None)?;
            put_words(&mut found, &Trunks::read(socket)?);
            Ok(lines(&found))
        }
        RouteCommand::Set(changed) => {
            let mut body = Map::new();
            set(&mut body, "name", changed.name.as_ref());
            changed.fields.put(&mut body, &changed.targets, socket)?;
            unset(&mut body, &changed.unset);
            ROUTES.change(socket, &changed.route, body, changed.output)
        }
        RouteCommand::Move { route, place, output } => shift(socket, route, *place as usize, *output),
        RouteCommand::Remove { route, output } => ROUTES.remove(socket, route, *output),
        RouteCommand::Simulate(question) => simulate(socket, question),
    }
}

impl RouteFields {
    fn put(&self, body: &mut Map<String, Value>, targets: &[Value], socket: &Path) -> Result<(), AdminError> {
        set_list(body, "called", &self.called);
        set_list(body, "callers", &self.callers);
        set(body, "from", self.from.clone().map(|line| with_trunk_id(line, socket)).transpose()?);
        set(body, "hours", (!self.hours.is_empty()).then_some(&self.hours));
        let targets: Vec<Value> =
            targets.iter().map(|target| with_trunk_id(target.clone(), socket)).collect::<Result<_, _>>()?;
        set(body, "targets", (!targets.is_empty()).then_some(targets));
        Ok(())
    }
}

/// Moves a route, and the others together behind it.
fn shift(socket: &Path, route: &str, place: usize, output: Output) -> Result<String, AdminError> {
    let found = ROUTES.find(socket, route)?;
    let all = ask(socket, "GET", ROUTES.path, None)?;
    let mut ids: Vec<&Value> = all["data"].as_array().into_iter().flatten().map(|row| &row["id"]).collect();
    ids.retain(|id| **id != found["id"]);
    let place = place.min(ids.len() + 1);
    ids.insert(place - 1, &found["id"]);
    let ordered = ask(socket, "PUT", &format!("{}/order", ROUTES.path), Some(&json!({ "ids": ids })))?;
    Ok(if output.json {
        document(&ordered["data"])
    } else {
        format!("{} is asked as number {place} of {}.\n", word(&found["name"]), ids.len())
    })
}

fn simulate(socket: &Path, question: &Question) -> Result<String, AdminError> {
    let mut body = Map::new();
    set(&mut body, "called", Some(&question.number));
    set(&mut body, "caller", question.caller.as_ref());
    set(&mut body, "from", question.from.clone().map(|line| with_trunk_id(line, socket)).transpose()?);
    set(&mut body, "at", question.at.as_ref());
    let answer = ask(socket, "POST", &format!("{}/simulate", ROUTES.path), Some(&Value::Object(body)))?;
    if question.output.json {
        return Ok(document(&answer));
    }
    let trunks = Trunks::read(socket)?;
    let texts = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    let passed: String = texts("passed").iter().map(|rule| format!("Passed over: {}\n", word(rule))).collect();
    let targets: Vec<String> =
        texts("targets").iter().map(|target| target_text(target, |id| trunks.name_of(id))).collect();
    let goes = if targets.is_empty() { "nowhere: nobody answers".to_owned() } else { targets.join(", then ") };
    Ok(format!(
        "{passed}Decided by: {}\nCalled: {}\nGoes to: {}\n",
        word(&answer["rule"]),
        word(&answer["called"]),
        word(&Value::from(goes))
    ))
}

/// The trunk by its id in place of its name.
fn with_trunk_id(mut named: Value, socket: &Path) -> Result<Value, AdminError> {
    if let Some(name) = named["trunk_id"].as_str() {
        named["trunk_id"] = TRUNKS.find(socket, name)?["id"].clone();
    }
    Ok(named)
}

/// The trunks there are, for their names.
struct Trunks(Value);

impl Trunks {
    fn read(socket: &Path) -> Result<Self, AdminError> {
        Ok(Trunks(ask(socket, "GET", TRUNKS.path, None)?["data"].take()))
    }

    fn name_of(&self, id: &str) -> String {
        let found = self.0.as_array().into_iter().flatten().find(|trunk| trunk["id"] == id);
        found.and_then(|trunk| trunk["name"].as_str()).unwrap_or(id).to_owned()
    }
}

/// Says in words what a route's objects are.
fn put_words(row: &mut Value, trunks: &Trunks) {
    let all = |field: &Value, text: &dyn Fn(&Value) -> String| -> Value {
        field.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("; ").into()
    };
    row["from"] = line_text(&row["from"], |id| trunks.name_of(id)).into();
    row["hours"] = all(&row["hours"], &hours_text);
    row["targets"] = all(&row["targets"], &|target| target_text(target, |id| trunks.name_of(id)));
}

const ROUTES: Kind = Kind {
    noun: "route",
    path: "/api/v1/routes",
    key: "id",
    columns: &["position", "id", "name", "from", "called", "callers", "hours", "targets"],
};
