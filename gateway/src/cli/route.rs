//! `talkstack route`: where calls go.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::admin::{AdminError, ask, document, table};
use super::resource::{Resource, add, clear, fields_text, find, id, remove, set, show};
use super::trunk::TRUNKS;

/// `talkstack route …`
#[derive(Debug, Clone, Subcommand)]
pub enum RouteCommand {
    /// Add a route, the last to be asked until it is moved.
    #[command(
        after_help = "Examples:\n  talkstack route add Out --called '9|.' --from extensions --to trunk:carrier\n  talkstack route add Night --from trunk:carrier --hours 'mon-fri 18:00-08:00' --to extension:101:20 --to attendant\n\nExit codes: 0 done, 1 refused, 3 a trunk it names is not there, 4 the name is taken, 6 the daemon does not run"
    )]
    Add {
        /// A name of its own.
        name: String,
        /// What it says.
        #[command(flatten)]
        fields: Box<RouteFields>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// All routes, in the order they are asked.
    #[command(
        after_help = "Examples:\n  talkstack route list\n  talkstack route list --json\n\nExit codes: 0 done, 6 the daemon does not run"
    )]
    List {
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// All of one route.
    #[command(
        after_help = "Examples:\n  talkstack route show Night\n\nExit codes: 0 done, 3 no such route, 6 the daemon does not run"
    )]
    Show {
        /// Its name or id.
        route: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Change a route; what is not named stays, lists are replaced whole.
    #[command(
        after_help = "Examples:\n  talkstack route set Night --to attendant\n  talkstack route set Night --name Evening --clear hours\n\nExit codes: 0 done, 1 refused, 3 no such route, 6 the daemon does not run"
    )]
    Set {
        /// Its name or id.
        route: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// What changes.
        #[command(flatten)]
        fields: Box<RouteFields>,
        /// Takes a field away; may be repeated.
        #[arg(long, value_name = "FIELD", value_parser = ["called", "callers", "hours"])]
        clear: Vec<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Give a route another place; 1 is asked first.
    #[command(
        after_help = "Examples:\n  talkstack route move Night 1\n\nExit codes: 0 done, 3 no such route, 6 the daemon does not run"
    )]
    Move {
        /// Its name or id.
        route: String,
        /// Its place, from 1.
        place: usize,
        /// One JSON document: all routes in their order.
        #[arg(long)]
        json: bool,
    },
    /// Remove a route.
    #[command(
        after_help = "Examples:\n  talkstack route remove Night\n\nExit codes: 0 done, 3 no such route, 6 the daemon does not run"
    )]
    Remove {
        /// Its name or id.
        route: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Say where a call would go; nothing rings.
    #[command(
        after_help = "Examples:\n  talkstack route simulate +3612345678\n  talkstack route simulate 112 --from extensions --caller 101\n  talkstack route simulate 101 --from trunk:carrier --at 2026-12-24T18:00:00+01:00\n\nExit codes: 0 done, 3 no such trunk, 6 the daemon does not run"
    )]
    Simulate {
        /// Whom it calls, as dialled.
        number: String,
        /// Who calls, as presented.
        #[arg(long)]
        caller: Option<String>,
        /// The line it comes from: any, extensions, or trunk:NAME.
        #[arg(long, value_name = "LINE")]
        from: Option<String>,
        /// When; now if it is not said.
        #[arg(long, value_name = "RFC3339")]
        at: Option<String>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// What a route can say.
#[derive(Debug, Clone, Default, Args)]
pub struct RouteFields {
    /// A called number, in FreePBX's notation; may be repeated.
    #[arg(long = "called", value_name = "PATTERN")]
    called: Vec<String>,
    /// A caller, in the same notation; may be repeated.
    #[arg(long = "caller", value_name = "PATTERN")]
    callers: Vec<String>,
    /// The line it looks at: any, extensions, or trunk:NAME.
    #[arg(long, value_name = "LINE")]
    from: Option<String>,
    /// When it matches, in box.timezone: 'mon-fri 08:00-18:00', '22:00-06:00'; may be repeated.
    #[arg(long, value_name = "SPAN")]
    hours: Vec<String>,
    /// Where the call goes: agent:ID, attendant, echo, extension:USER[:SECONDS], trunk:NAME[:NUMBER[:SECONDS]], refuse:STATUS; may
    /// be repeated, the first is tried first.
    #[arg(long = "to", value_name = "TARGET")]
    targets: Vec<String>,
}

impl RouteFields {
    fn body(&self, socket: &Path) -> Result<Map<String, Value>, AdminError> {
        let mut body = Map::new();
        for (name, given) in [("called", &self.called), ("callers", &self.callers)] {
            if !given.is_empty() {
                body.insert(name.into(), json!(given));
            }
        }
        if let Some(from) = &self.from {
            body.insert("from".into(), source(socket, from)?);
        }
        if !self.hours.is_empty() {
            let hours: Option<Vec<Value>> = self.hours.iter().map(|text| span(text)).collect();
            let wrong = || AdminError::Usage("--hours is written as 'mon-fri 08:00-18:00' or '22:00-06:00'");
            body.insert("hours".into(), json!(hours.ok_or_else(wrong)?));
        }
        if !self.targets.is_empty() {
            let targets = self.targets.iter().map(|text| target(socket, text)).collect::<Result<Vec<_>, _>>()?;
            body.insert("targets".into(), json!(targets));
        }
        Ok(body)
    }
}

/// Carries out `talkstack route …`; what is to be printed.
pub(super) fn route(command: &RouteCommand, socket: &Path) -> Result<String, AdminError> {
    match command {
        RouteCommand::Add { name, fields, json } => {
            let mut body = fields.body(socket)?;
            body.insert("name".into(), json!(name));
            add(socket, &ROUTES, &Value::Object(body), *json)
        }
        RouteCommand::List { json } => {
            let answer = ask(socket, "GET", ROUTES.path, None)?;
            if *json {
                return Ok(document(&answer["data"]));
            }
            let columns = ["position", "name", "called", "callers", "from", "hours", "targets"];
            Ok(table(&readable(&answer["data"], &TrunkNames::read(socket)?), &columns))
        }
        RouteCommand::Show { route, json: true } => show(socket, &ROUTES, route, true),
        RouteCommand::Show { route, .. } => {
            let found = json!([find(socket, &ROUTES, route)?]);
            Ok(fields_text(&readable(&found, &TrunkNames::read(socket)?)[0]))
        }
        RouteCommand::Set { route, name, fields, clear: cleared, json } => {
            let mut body = fields.body(socket)?;
            if let Some(name) = name {
                body.insert("name".into(), json!(name));
            }
            clear(&mut body, cleared);
            set(socket, &ROUTES, route, &Value::Object(body), *json)
        }
        RouteCommand::Move { route, place, json } => shift(socket, route, *place, *json),
        RouteCommand::Remove { route, json } => remove(socket, &ROUTES, route, *json),
        RouteCommand::Simulate { number, caller, from, at, json } => {
            let mut body = json!({ "called": number });
            for (name, given) in [("caller", caller), ("at", at)] {
                if let Some(given) = given {
                    body[name] = json!(given);
                }
            }
            if let Some(from) = from {
                body["from"] = source(socket, from)?;
            }
            let answer = ask(socket, "POST", "/api/v1/routes/simulate", Some(&body))?;
            Ok(if *json { document(&answer) } else { told(&answer, &TrunkNames::read(socket)?) })
        }
    }
}

/// Gives a route another place.
fn shift(socket: &Path, wanted: &str, place: usize, as_json: bool) -> Result<String, AdminError> {
    let moved = id(&find(socket, &ROUTES, wanted)?);
    let all = ask(socket, "GET", ROUTES.path, None)?;
    let mut ids: Vec<String> = all["data"].as_array().into_iter().flatten().map(id).filter(|id| *id != moved).collect();
    ids.insert(place.saturating_sub(1).min(ids.len()), moved);
    let ordered = ask(socket, "PUT", "/api/v1/routes/order", Some(&json!({ "ids": ids })))?;
    Ok(if as_json { document(&ordered["data"]) } else { format!("Moved {wanted}.\n") })
}

/// A simulation in words.
fn told(answer: &Value, names: &TrunkNames) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let mut told: String = answer["passed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|line| format!("passed  {line}\n"))
        .collect();
    told.push_str(&format!("rule    {}\ncalled  {}\n", text("rule"), text("called")));
    let targets = answer["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, target) in targets.iter().enumerate() {
        told.push_str(&format!("{}       {}\n", at + 1, in_words(target, names)));
    }
    if targets.is_empty() {
        told.push_str("Nobody answers.\n");
    }
    told
}

/// Targets and spans as they are typed.
fn readable(rows: &Value, names: &TrunkNames) -> Value {
    let mut rows = rows.clone();
    for row in rows.as_array_mut().into_iter().flatten() {
        let words: Vec<String> =
            row["targets"].as_array().into_iter().flatten().map(|target| in_words(target, names)).collect();
        row["targets"] = json!(words);
        let spans: Vec<String> = row["hours"].as_array().into_iter().flatten().map(span_in_words).collect();
        row["hours"] = json!(spans);
        let from = &row["from"];
        let line = from["line"].as_str().unwrap_or_default();
        row["from"] = json!(from["trunk_id"].as_str().map_or(line.to_owned(), |id| format!("trunk:{}", names.of(id))));
    }
    rows
}

fn in_words(target: &Value, names: &TrunkNames) -> String {
    let text = |name: &str| target[name].as_str().unwrap_or_default();
    let ring = target["ring_s"].as_u64().map(|seconds| seconds.to_string()).unwrap_or_default();
    let words = match text("to") {
        "agent" => format!("agent:{}", text("agent_id")),
        "extension" => format!("extension:{}:{ring}", text("user")),
        "trunk" => format!("trunk:{}:{}:{ring}", names.of(text("trunk_id")), text("number")),
        "refuse" => format!("refuse:{}", target["status"]),
        other => other.to_owned(),
    };
    words.trim_end_matches(':').to_owned()
}

/// The trunks there are: people know them by their names.
struct TrunkNames(Value);

impl TrunkNames {
    fn read(socket: &Path) -> Result<Self, AdminError> {
        Ok(TrunkNames(ask(socket, "GET", TRUNKS.path, None)?["data"].take()))
    }

    fn of<'a>(&'a self, id: &'a str) -> &'a str {
        let found = self.0.as_array().into_iter().flatten().find(|trunk| trunk["id"] == id);
        found.and_then(|trunk| trunk["name"].as_str()).unwrap_or(id)
    }
}

fn source(socket: &Path, text: &str) -> Result<Value, AdminError> {
    match text.split_once(':') {
        None if text == "any" || text == "extensions" => Ok(json!({ "line": text })),
        Some(("trunk", name)) => Ok(json!({ "line": "trunk", "trunk_id": id(&find(socket, &TRUNKS, name)?) })),
        _ => Err(AdminError::Usage("--from is any, extensions, or trunk:NAME")),
    }
}

fn target(socket: &Path, text: &str) -> Result<Value, AdminError> {
    let wrong = AdminError::Usage(
        "--to is agent:ID, attendant, echo, extension:USER[:SECONDS], trunk:NAME[:NUMBER[:SECONDS]] or refuse:STATUS",
    );
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let (first, second) = rest.split_once(':').map_or((rest, None), |(first, second)| (first, Some(second)));
    match (kind, first, second) {
        ("attendant" | "echo", "", None) => Ok(json!({ "to": kind })),
        ("agent", id, None) if !id.is_empty() => Ok(json!({ "to": "agent", "agent_id": id })),
        ("extension", user, None) if !user.is_empty() => Ok(json!({ "to": "extension", "user": user })),
        ("extension", user, Some(seconds)) => match seconds.parse::<u16>() {
            Ok(seconds) => Ok(json!({ "to": "extension", "user": user, "ring_s": seconds })),
            Err(_) => Err(wrong),
        },
        ("trunk", name, rest) if !name.is_empty() => {
            let rest = rest.unwrap_or_default();
            let (number, ring) = rest.split_once(':').unwrap_or((rest, ""));
            let ring_s = match ring {
                "" => None,
                seconds => Some(seconds.parse::<u16>().map_err(|_| wrong)?),
            };
            let mut target = json!({ "to": "trunk", "trunk_id": id(&find(socket, &TRUNKS, name)?), "ring_s": ring_s });
            if !number.is_empty() {
                target["number"] = json!(number);
            }
            Ok(target)
        }
        ("refuse", status, None) => match status.parse::<u16>() {
            Ok(status) => Ok(json!({ "to": "refuse", "status": status })),
            Err(_) => Err(wrong),
        },
        _ => Err(wrong),
    }
}

/// `mon-fri 08:00-18:00`, `sat,sun 00:00-24:00`, `22:00-06:00`.
fn span(text: &str) -> Option<Value> {
    let (days, times) = match text.trim().rsplit_once(' ') {
        Some((days, times)) => (days_of(days)?, times),
        None => (Vec::new(), text.trim()),
    };
    let (from, to) = times.split_once('-')?;
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        (minute < 60 && hour * 60 + minute <= 1440).then_some(hour * 60 + minute)
    };
    Some(json!({ "days": days, "from": minute(from)?, "to": minute(to)? }))
}

fn days_of(text: &str) -> Option<Vec<usize>> {
    let day = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day)).map(|at| at + 1);
    let mut days = Vec::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once('-') {
            None => days.push(day(part)?),
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                let end = if last < first { last + 7 } else { last };
                days.extend((first..=end).map(|day| (day - 1) % 7 + 1));
            }
        }
    }
    Some(days)
}

fn span_in_words(hours: &Value) -> String {
    let days = hours["days"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> =
        days.iter().filter_map(|day| DAYS.get(usize::try_from(day.as_u64()?.checked_sub(1)?).ok()?).copied()).collect();
    let time = |name: &str| {
        let minutes = hours[name].as_u64().unwrap_or_default();
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    };
    format!("{} {}-{}", names.join(","), time("from"), time("to")).trim_start().to_owned()
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const ROUTES: Resource = Resource { path: "/api/v1/routes", what: "route" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_as_it_is_typed_with_trunks_by_their_names() {
        let names = TrunkNames(json!([{ "id": "trk_1", "name": "carrier" }]));
        for (target, expected) in [
            (json!({ "to": "attendant" }), "attendant"),
            (json!({ "to": "extension", "user": "101", "ring_s": 20 }), "extension:101:20"),
            (json!({ "to": "extension", "user": "101", "ring_s": null }), "extension:101"),
            (json!({ "to": "trunk", "trunk_id": "trk_1", "number": null }), "trunk:carrier"),
            (json!({ "to": "trunk", "trunk_id": "trk_1", "number": "+361", "ring_s": 30 }), "trunk:carrier:+361:30"),
            (json!({ "to": "trunk", "trunk_id": "trk_1", "ring_s": 30 }), "trunk:carrier::30"),
            (json!({ "to": "trunk", "trunk_id": "trk_2" }), "trunk:trk_2"),
            (json!({ "to": "refuse", "status": 603 }), "refuse:603"),
        ] {
            assert_eq!(in_words(&target, &names), expected);
        }
    }

    #[test]
    fn a_span_reads_as_it_is_written() {
        for (text, expected) in [
            ("mon-fri 08:00-18:00", json!({ "days": [1, 2, 3, 4, 5], "from": 480, "to": 1080 })),
            ("22:00-06:00", json!({ "days": [], "from": 1320, "to": 360 })),
            ("sat,SUN 00:00-24:00", json!({ "days": [6, 7], "from": 0, "to": 1440 })),
            ("sat-mon 9:30-10:00", json!({ "days": [6, 7, 1], "from": 570, "to": 600 })),
        ] {
            assert_eq!(span(text), Some(expected), "{text}");
        }
        for text in ["", "mon", "mon 8-9", "fun 08:00-09:00", "08:60-09:00", "25:00-26:00"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(span_in_words(&json!({ "days": [1, 7], "from": 480, "to": 1080 })), "mon,sun 08:00-18:00");
    }
}
