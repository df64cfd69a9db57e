//! How the command line writes what a route has: lines, hours and targets.
//!
//! ```text
//!   any | extensions | trunk:NAME
//!   mon-fri 08:00-17:00 | sat,sun 00:00-24:00 | 22:00-06:00
//!   agent:ID | attendant | echo | extension:USER,ring=20 | trunk:NAME,number=+36…,ring=30 | refuse:603
//! ```

use serde_json::{Value, json};

/// A text that is none of these. Whoever wrote it mends it.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum RouteTextError {
    /// No line.
    #[error("a line is any, extensions or trunk:NAME")]
    Line,
    /// No hours.
    #[error("hours are days and times, as mon-fri 08:00-17:00, sat,sun 00:00-24:00 or 22:00-06:00")]
    Hours,
    /// No target.
    #[error(
        "a target is agent:ID, attendant, echo, extension:USER[,ring=S], trunk:NAME[,number=N][,ring=S] or refuse:STATUS"
    )]
    Target,
}

/// A line as the API has it; the trunk still by its name.
///
/// # Errors
/// [`RouteTextError::Line`].
pub(super) fn line(text: &str) -> Result<Value, RouteTextError> {
    match text.split_once(':') {
        None if ["any", "extensions"].contains(&text) => Ok(json!({ "line": text })),
        Some(("trunk", name)) if !name.is_empty() => Ok(json!({ "line": "trunk", "trunk_id": name })),
        _ => Err(RouteTextError::Line),
    }
}

/// Hours as the API has them.
///
/// # Errors
/// [`RouteTextError::Hours`].
pub(super) fn hours(text: &str) -> Result<Value, RouteTextError> {
    let (days, span) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
    let (from, to) = span.split_once('-').ok_or(RouteTextError::Hours)?;
    let (from, to) = (minute(from)?, minute(to)?);
    if from == DAY || to == 0 {
        return Err(RouteTextError::Hours);
    }
    Ok(json!({ "days": self::days(days)?, "from": from, "to": to }))
}

/// A target as the API has it; the trunk still by its name.
///
/// # Errors
/// [`RouteTextError::Target`].
pub(super) fn target(text: &str) -> Result<Value, RouteTextError> {
    let mut parts = text.split(',');
    let head = parts.next().unwrap_or_default();
    let mut target = match head.split_once(':') {
        None if ["attendant", "echo"].contains(&head) => json!({ "to": head }),
        Some((_, "")) => return Err(RouteTextError::Target),
        Some(("agent", id)) => json!({ "to": "agent", "agent_id": id }),
        Some(("extension", user)) => json!({ "to": "extension", "user": user }),
        Some(("trunk", name)) => json!({ "to": "trunk", "trunk_id": name }),
        Some(("refuse", status)) => {
            let status: u16 = status.parse().map_err(|_| RouteTextError::Target)?;
            json!({ "to": "refuse", "status": status })
        }
        _ => return Err(RouteTextError::Target),
    };
    let (is_trunk, rings) = (target["to"] == "trunk", target["to"] == "trunk" || target["to"] == "extension");
    for part in parts {
        match part.split_once('=') {
            Some(("ring", seconds)) if rings => {
                let seconds: u16 = seconds.parse().map_err(|_| RouteTextError::Target)?;
                target["ring_s"] = json!(seconds);
            }
            Some(("number", number)) if is_trunk && !number.is_empty() => target["number"] = json!(number),
            _ => return Err(RouteTextError::Target),
        }
    }
    Ok(target)
}

/// A line in words, as [`line`] reads it.
pub(super) fn line_text(line: &Value, trunk_name: impl Fn(&str) -> String) -> String {
    match (line["line"].as_str(), line["trunk_id"].as_str()) {
        (Some("trunk"), Some(id)) => format!("trunk:{}", trunk_name(id)),
        (line, _) => line.unwrap_or("any").to_owned(),
    }
}

/// Hours in words, as [`hours`] reads them.
pub(super) fn hours_text(hours: &Value) -> String {
    let days: Vec<&str> = hours["days"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|day| DAYS.get(day.as_u64()?.checked_sub(1)? as usize).copied())
        .collect();
    let clock = |field: &str| {
        let minute = hours[field].as_u64().unwrap_or_default();
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    let span = format!("{}-{}", clock("from"), clock("to"));
    if days.is_empty() { span } else { format!("{} {span}", days.join(",")) }
}

/// A target in words, as [`target`] reads it.
pub(super) fn target_text(target: &Value, trunk_name: impl Fn(&str) -> String) -> String {
    let text = |field: &str| target[field].as_str().unwrap_or_default();
    let mut words = match text("to") {
        "agent" => format!("agent:{}", text("agent_id")),
        "extension" => format!("extension:{}", text("user")),
        "trunk" => format!("trunk:{}", trunk_name(text("trunk_id"))),
        "refuse" => format!("refuse:{}", target["status"]),
        other => other.to_owned(),
    };
    if let Some(number) = target["number"].as_str() {
        words.push_str(&format!(",number={number}"));
    }
    if let Some(seconds) = target["ring_s"].as_u64() {
        words.push_str(&format!(",ring={seconds}"));
    }
    words
}

fn minute(text: &str) -> Result<u16, RouteTextError> {
    let two = |digits: &str| -> Option<u16> {
        let fits = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if fits { digits.parse().ok() } else { None }
    };
    let (hours, minutes) = text.split_once(':').ok_or(RouteTextError::Hours)?;
    let (Some(hours), Some(minutes)) = (two(hours), two(minutes)) else { return Err(RouteTextError::Hours) };
    let at = hours * 60 + minutes;
    if minutes < 60 && at <= DAY { Ok(at) } else { Err(RouteTextError::Hours) }
}

/// `mon-fri`, `sat,sun`, or nothing for all.
fn days(text: &str) -> Result<Vec<usize>, RouteTextError> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name).map(|at| at + 1).ok_or(RouteTextError::Hours);
    let mut found = Vec::new();
    for part in text.split(',').filter(|_| !text.trim().is_empty()) {
        match part.trim().split_once('-') {
            None => found.push(day(part.trim())?),
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                let past_sunday = if last < first { last + 7 } else { last };
                found.extend((first..=past_sunday).map(|day| (day - 1) % 7 + 1));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// In the order of ISO 8601.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The last minute of a day ends here.
const DAY: u16 = 1440;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_back() {
        let name = str::to_owned;
        for (text, expected, back) in [
            ("mon-wed 08:00-17:30", json!({ "days": [1, 2, 3], "from": 480, "to": 1050 }), "mon,tue,wed 08:00-17:30"),
            ("sat,sun 00:00-24:00", json!({ "days": [6, 7], "from": 0, "to": 1440 }), "sat,sun 00:00-24:00"),
            ("sun-mon 09:00-10:00", json!({ "days": [1, 7], "from": 540, "to": 600 }), "mon,sun 09:00-10:00"),
            ("22:00-06:00", json!({ "days": [], "from": 1320, "to": 360 }), "22:00-06:00"),
        ] {
            let read = hours(text).expect(text);
            assert_eq!((&read, hours_text(&read).as_str()), (&expected, back), "{text}");
        }
        for text in
            ["attendant", "echo", "agent:x", "refuse:603", "extension:101,ring=20", "trunk:t,number=+361,ring=30"]
        {
            assert_eq!(target_text(&target(text).expect(text), name), text);
        }
        for text in ["any", "extensions", "trunk:carrier"] {
            assert_eq!(line_text(&line(text).expect(text), name), text);
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "mon",
            "08:00",
            "8:00-17:00",
            "mon 08:00-24:01",
            "foo 08:00-09:00",
            "24:00-01:00",
            "01:00-00:00",
            "08:60-09:00",
        ] {
            assert_eq!(hours(text), Err(RouteTextError::Hours), "{text}");
        }
        for text in ["", "moon", "agent:", "agent", "refuse:x", "echo,ring=5", "extension:1,number=2", "trunk:t,ring=x"]
        {
            assert_eq!(target(text), Err(RouteTextError::Target), "{text}");
        }
        for text in ["", "trunk:", "trunk", "phone:1"] {
            assert_eq!(line(text), Err(RouteTextError::Line), "{text}");
        }
    }
}
