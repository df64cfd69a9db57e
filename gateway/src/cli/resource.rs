//! What commands on the resources of `/api/v1` share: finding by id or name, adding, showing, removing.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::admin::{AdminError, ask, document, table};

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// One JSON document.
    #[arg(long)]
    pub(super) json: bool,
}

/// How numbers are written on a line.
#[derive(Debug, Clone, Default, Args)]
pub struct NumberingFields {
    /// The country that national numbers belong to, as 36.
    #[arg(long, value_name = "CODE")]
    country_code: Option<String>,
    /// What national numbers begin with, as 0 or 06.
    #[arg(long, value_name = "DIGITS")]
    national_prefix: Option<String>,
    /// What international numbers begin with beside +; 00 when nothing is said.
    #[arg(long, value_name = "DIGITS")]
    international_prefix: Option<String>,
    /// How called numbers are written.
    #[arg(long, value_parser = ["e164", "digits", "international", "national"])]
    dial_format: Option<String>,
    /// Which header fields carry the number that is presented.
    #[arg(long, value_parser = ["from", "asserted", "preferred", "remote_party"])]
    caller_id: Option<String>,
}

impl NumberingFields {
    /// Adds what is given to a request.
    pub(super) fn put(&self, body: &mut Map<String, Value>) {
        set(body, "country_code", self.country_code.as_ref());
        set(body, "national_prefix", self.national_prefix.as_ref());
        set(body, "international_prefix", self.international_prefix.as_ref());
        set(body, "dial_format", self.dial_format.as_ref());
        set(body, "caller_id", self.caller_id.as_ref());
    }
}

/// A kind of things that `/api/v1` has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// As commands name it.
    pub(super) noun: &'static str,
    /// Where its list is.
    pub(super) path: &'static str,
    /// Its key.
    pub(super) key: &'static str,
    /// What its list shows.
    pub(super) columns: &'static [&'static str],
}

impl Kind {
    /// All of them, with what `trim` makes of each row of the table.
    pub(super) fn list(self, socket: &Path, output: Output, trim: impl Fn(&mut Value)) -> Result<String, AdminError> {
        let mut answer = ask(socket, "GET", self.path, None)?;
        if output.json {
            return Ok(document(&answer["data"]));
        }
        for row in answer["data"].as_array_mut().into_iter().flatten() {
            trim(row);
        }
        Ok(table(&answer["data"], self.columns))
    }

    /// What has the key, else what has the name.
    pub(super) fn find(self, socket: &Path, wanted: &str) -> Result<Value, AdminError> {
        let all = ask(socket, "GET", self.path, None)?;
        let with = |field: &str| all["data"].as_array().into_iter().flatten().find(|row| row[field] == wanted);
        let noun = self.noun;
        with(self.key).or_else(|| with("name")).cloned().ok_or_else(|| {
            AdminError::Refused(404, format!("no {noun} {wanted}; `talkstack {noun} list` shows what there is"))
        })
    }

    /// The path of what has the key or name.
    pub(super) fn path_of(self, socket: &Path, wanted: &str) -> Result<String, AdminError> {
        let found = self.find(socket, wanted)?;
        Ok(format!("{}/{}", self.path, found[self.key].as_str().unwrap_or_default()))
    }

    /// Everything about one.
    pub(super) fn show(self, socket: &Path, wanted: &str, output: Output) -> Result<String, AdminError> {
        let found = ask(socket, "GET", &self.path_of(socket, wanted)?, None)?;
        Ok(if output.json { document(&found) } else { lines(&found) })
    }

    /// Adds one.
    pub(super) fn add(self, socket: &Path, body: Map<String, Value>, output: Output) -> Result<String, AdminError> {
        let added = ask(socket, "POST", self.path, Some(&Value::Object(body)))?;
        Ok(if output.json { document(&added) } else { self.told(&added, "Added") })
    }

    /// Changes one.
    pub(super) fn change(
        self,
        socket: &Path,
        wanted: &str,
        body: Map<String, Value>,
        output: Output,
    ) -> Result<String, AdminError> {
        if body.is_empty() {
            return Err(AdminError::NothingToChange);
        }
        let changed = ask(socket, "PATCH", &self.path_of(socket, wanted)?, Some(&Value::Object(body)))?;
        Ok(if output.json { document(&changed) } else { self.told(&changed, "Changed") })
    }

    /// Removes what has the key, else what has the name.
    pub(super) fn remove(self, socket: &Path, wanted: &str, output: Output) -> Result<String, AdminError> {
        let found = self.find(socket, wanted)?;
        let key = found[self.key].as_str().unwrap_or_default();
        ask(socket, "DELETE", &format!("{}/{key}", self.path), None)?;
        let removed = json!({ self.key: key, "removed": true });
        Ok(if output.json { document(&removed) } else { format!("Removed {wanted}.\n") })
    }

    /// What was done, and a password that is shown this once.
    fn told(self, row: &Value, done: &str) -> String {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let key = text(self.key);
        let mut told = match text("name") {
            name if done == "Added" && name != key => format!("{done} {name} as {key}.\n"),
            name if name.is_empty() || self.key != "id" => format!("{done} {key}.\n"),
            name => format!("{done} {name}.\n"),
        };
        if let Some(password) = row["password"].as_str() {
            told.push_str(&format!("Password, shown this once: {password}\n"));
        }
        told
    }
}

/// Adds a field that is given.
pub(super) fn set<T: Serialize>(body: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), json!(value));
    }
}

/// Adds a list that is given.
pub(super) fn set_list(body: &mut Map<String, Value>, name: &str, list: &[String]) {
    set(body, name, (!list.is_empty()).then_some(list));
}

/// One line a field; fields within fields have both names.
pub(super) fn lines(value: &Value) -> String {
    let mut text = String::new();
    put_lines(value, "", &mut text);
    text
}

fn put_lines(value: &Value, name: &str, text: &mut String) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| put_lines(value, &below(key), text)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                put_lines(item, &below(&(at + 1).to_string()), text);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(word).collect();
            text.push_str(&format!("{name}: {}\n", words.join(" ")));
        }
        value => text.push_str(&format!("{name}: {}\n", word(value))),
    }
}

/// A value in words, nothing in it that could move a terminal's cursor.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect(),
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_within_fields_have_both_names_and_nothing_moves_the_cursor() {
        let shown = json!({
            "name": "a\u{1b}[2J", "numbers": ["+361", "+362"], "state": { "registration": { "state": "off" }, "rtt_ms": null },
            "contacts": [{ "address": "10.0.0.1:5060" }], "default": true,
        });
        assert_eq!(
            lines(&shown),
            "contacts.1.address: 10.0.0.1:5060\ndefault: yes\nname: a·[2J\nnumbers: +361 +362\n\
             state.registration.state: off\nstate.rtt_ms: -\n"
        );
    }
}
