//! What the commands share that manage the owner's things: found by id or name, added, changed, removed.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::admin::{AdminError, ask, document};

/// A kind of thing.
pub(super) struct Resource {
    /// Where the API has them.
    pub(super) path: &'static str,
    /// What one is called, on the command line too.
    pub(super) what: &'static str,
}

/// Adds one.
pub(super) fn add(socket: &Path, resource: &Resource, body: &Value, as_json: bool) -> Result<String, AdminError> {
    let added = ask(socket, "POST", resource.path, Some(body))?;
    if as_json {
        return Ok(document(&added));
    }
    let text = |name: &str| added[name].as_str();
    let (name, id) = (text("name").unwrap_or_default(), text("id").or(text("user")).unwrap_or_default());
    Ok(format!("Added {name} as {id}.\n{}", password_line(&added)))
}

/// Changes what has the id, else what has the name.
pub(super) fn set(
    socket: &Path,
    resource: &Resource,
    wanted: &str,
    body: &Value,
    as_json: bool,
) -> Result<String, AdminError> {
    let found = find(socket, resource, wanted)?;
    let changed = ask(socket, "PATCH", &format!("{}/{}", resource.path, id(&found)), Some(body))?;
    Ok(if as_json { document(&changed) } else { format!("Changed {wanted}.\n{}", password_line(&changed)) })
}

/// All there is of one, a line a field.
pub(super) fn show(socket: &Path, resource: &Resource, wanted: &str, as_json: bool) -> Result<String, AdminError> {
    let found = find(socket, resource, wanted)?;
    let found = ask(socket, "GET", &format!("{}/{}", resource.path, id(&found)), None)?;
    if as_json {
        return Ok(document(&found));
    }
    Ok(fields_text(&found))
}

/// A line a field.
pub(super) fn fields_text(found: &Value) -> String {
    let fields = found.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name:22} {}\n", plain(value))).collect()
}

/// Takes fields away, named as their flags are: a list becomes empty, a prefix nothing, all else null.
pub(super) fn clear(body: &mut Map<String, Value>, names: &[String]) {
    for name in names {
        let field = name.replace('-', "_");
        let nothing = match field.as_str() {
            "numbers" | "networks" | "called" | "callers" | "hours" | "codecs" | "media_networks" => json!([]),
            "national_prefix" | "international_prefix" => json!(""),
            _ => Value::Null,
        };
        body.insert(field, nothing);
    }
}

/// Removes what has the id, else what has the name.
pub(super) fn remove(socket: &Path, resource: &Resource, wanted: &str, as_json: bool) -> Result<String, AdminError> {
    let found = find(socket, resource, wanted)?;
    let id = id(&found);
    ask(socket, "DELETE", &format!("{}/{id}", resource.path), None)?;
    Ok(if as_json { document(&json!({ "id": id, "removed": true })) } else { format!("Removed {wanted}.\n") })
}

/// Finds what has the id, else what has the name.
pub(super) fn find(socket: &Path, resource: &Resource, wanted: &str) -> Result<Value, AdminError> {
    let all = ask(socket, "GET", resource.path, None)?;
    let with = |field: &str| all["data"].as_array().into_iter().flatten().find(|row| row[field] == wanted).cloned();
    with("id").or_else(|| with("user")).or_else(|| with("name")).ok_or_else(|| {
        let what = resource.what;
        AdminError::Refused(404, format!("no {what} {wanted}; `talkstack {what} list` shows what there is"))
    })
}

/// The steps of a test, a line each, with the verdict behind them; and whether all is well.
pub(super) fn test_report(report: &Value, as_json: bool) -> (String, bool) {
    let is_ok = report["ok"] == true;
    if as_json {
        return (document(report), is_ok);
    }
    let mut printed = String::new();
    for step in report["steps"].as_array().into_iter().flatten() {
        let verdict = match step["is_ok"].as_bool() {
            Some(true) => "ok   ",
            Some(false) => "FAULT",
            None => "-    ",
        };
        printed.push_str(&format!(
            "{verdict}  {:9} {} ({} ms)\n",
            plain(&step["step"]),
            plain(&step["found"]),
            step["took_ms"]
        ));
    }
    printed.push_str(if is_ok { "All is well.\n" } else { "A fault was found.\n" });
    (printed, is_ok)
}

/// What a thing is addressed by.
pub(super) fn id(row: &Value) -> String {
    row["id"].as_str().or(row["user"].as_str()).unwrap_or_default().to_owned()
}

/// A password that was made up is shown this once.
fn password_line(answer: &Value) -> String {
    match answer["password"].as_str() {
        Some(password) => format!("Password: {password}   (shown this once)\n"),
        None => String::new(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect(),
        value => value.to_string(),
    }
}
