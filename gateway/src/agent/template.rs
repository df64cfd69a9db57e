//! Prompts with placeholders: `{{name}}` becomes the value that the call brings for it.
//!
//! The text is read once. What a value says is never read again, so a value cannot bring placeholders of its own.

use std::collections::BTreeMap;

/// Fills in `text`: each `{{name}}`, with spaces allowed around the name, becomes the value of that name, or nothing
/// where there is none. A name is one or more of `A-Z a-z 0-9 _ . -`; other braces stay as they are.
///
/// Values lose their control characters, and are cut at [`VALUE_BYTES_MAX`]; the whole at [`TEXT_BYTES_MAX`].
pub fn fill(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut filled = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        filled.push_str(&rest[..at]);
        let behind = &rest[at + 2..];
        match placeholder(behind) {
            Some((name, bytes)) => {
                match values.get(name) {
                    Some(value) => push_value(&mut filled, value),
                    None => tracing::debug!("A placeholder of the prompt has no value in this call"),
                }
                rest = &behind[bytes..];
            }
            // One brace, not two: the second may begin a placeholder.
            None => {
                filled.push('{');
                rest = &rest[at + 1..];
            }
        }
        if filled.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    filled.push_str(rest);
    filled.truncate(floor_boundary(&filled, TEXT_BYTES_MAX));
    filled
}

/// Reads `name}}` with its spaces; returns the name and the bytes read.
fn placeholder(text: &str) -> Option<(&str, usize)> {
    let start = text.len() - text.trim_start_matches(' ').len();
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-');
    let name_bytes = text[start..].find(|character| !is_name(character))?;
    let name = &text[start..start + name_bytes];
    let behind = text[start + name_bytes..].trim_start_matches(' ').strip_prefix("}}")?;
    (!name.is_empty()).then_some((name, text.len() - behind.len()))
}

fn push_value(filled: &mut String, value: &str) {
    let value = &value[..floor_boundary(value, VALUE_BYTES_MAX)];
    filled.extend(value.chars().filter(|character| !character.is_control()));
}

/// The end of the longest whole characters within `bytes_max`.
fn floor_boundary(text: &str, bytes_max: usize) -> usize {
    (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// 4 KiB: a page of text; more in a single value is a mistake or an attack.
pub const VALUE_BYTES_MAX: usize = 4 << 10;

/// 128 KiB: 32,000 tokens, all that a realtime session's context holds.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_values_once_and_all_else_stays() {
        for (text, expected) in [
            ("Hello {{name}}, {{ name }}!", "Hello John, John!"),
            ("{{a.b-c_1}}", "dotted"),
            ("{{missing}}|", "|"),
            ("{{evil}}", "{{name}}"),
            ("{{{name}}}", "{John}"),
            ("{{{{name}}", "{{John"),
            ("{{name}", "{{name}"),
            ("{{na me}} {{}} {{ }} {{ö}}", "{{na me}} {{}} {{ }} {{ö}}"),
            ("{{name}}{{", "John{{"),
            ("{{\nname}}", "{{\nname}}"),
            ("{{constructor}}", ""),
            ("", ""),
        ] {
            assert_eq!(fill(text, &values()), expected, "{text}");
        }
    }

    #[test]
    fn values_lose_control_characters_and_what_is_too_long() {
        assert_eq!(fill("<{{lines}}>", &values()), "<ab c>");
        let long = fill("<{{long}}>", &values());
        assert_eq!(long.len(), VALUE_BYTES_MAX + 2, "é is two bytes and fits evenly");
        let blown_up = fill(&"{{long}}".repeat(1000), &values());
        assert!(blown_up.len() <= TEXT_BYTES_MAX && blown_up.len() > TEXT_BYTES_MAX - 2);
    }

    fn values() -> BTreeMap<String, String> {
        [
            ("name", "John".to_owned()),
            ("a.b-c_1", "dotted".to_owned()),
            ("evil", "{{name}}".to_owned()),
            ("lines", "a\r\n\0b\u{9b} c\u{7f}".to_owned()),
            ("long", "é".repeat(10_000)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
