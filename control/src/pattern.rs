//! Dial patterns in FreePBX's notation: `prepend+prefix|match`.
//!
//! ```text
//!   0036+06|NXXXXXXX      dialled 0612345678 … no: 1 is not N;  0621234567 ─▶ 003621234567
//!         │   └ what is left must match this
//!         └ must stand in front, and is taken away
//! ```
//!
//! `X` 0–9, `Z` 1–9, `N` 2–9 (in capitals), `[1-57]` one of these, `.` one or more of anything, `!` nothing or anything; every other
//! letter, digit, `+`, `*` and `#` stands for itself. A leading `_`, as Asterisk writes it, means nothing.

/// A dial pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    prepend: String,
    prefix: Vec<Place>,
    body: Vec<Place>,
}

/// What one place of a pattern takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// One of these characters.
    One(Vec<char>),
    /// One character or more; the last place.
    Some,
    /// Nothing or more; the last place.
    Any,
}

/// A text that is no pattern. Whoever wrote it mends it.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum PatternError {
    /// There is nothing in it, or too much.
    #[error("a pattern has 1 to 64 characters")]
    Length,
    /// A character that stands for nothing.
    #[error("{0:?} stands for nothing in a pattern")]
    Character(char),
    /// A set without its end, or with nothing in it.
    #[error("a set is written as [1-5] or [159]")]
    Set,
    /// `.` or `!` in front of something.
    #[error(". and ! end a pattern")]
    Rest,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !(1..=CHARACTERS_MAX).contains(&text.chars().count()) {
            return Err(PatternError::Length);
        }
        let text = text.strip_prefix('_').unwrap_or(text);
        let (front, body) = text.split_once('|').unwrap_or(("", text));
        // `+36.` is a number that begins with +; only in front of `|`, or behind a digit, is + what prepends.
        let (prepend, rest) = match front.split_once('+') {
            Some((prepend, prefix)) => (prepend, (prefix, body)),
            None => match body.split_once('+').filter(|(prepend, _)| front.is_empty() && !prepend.is_empty()) {
                Some((prepend, body)) => (prepend, ("", body)),
                None => ("", (front, body)),
            },
        };
        if let Some(wrong) = prepend.chars().find(|letter| !is_literal(*letter)) {
            return Err(PatternError::Character(wrong));
        }
        let (prefix, body) = (places(rest.0)?, places(rest.1)?);
        if prefix.iter().any(|place| !matches!(place, Place::One(_))) {
            return Err(PatternError::Rest);
        }
        if body.is_empty() {
            return Err(PatternError::Length);
        }
        Ok(Pattern { prepend: prepend.to_owned(), prefix, body })
    }

    /// What a matching number becomes; `None` when it does not match.
    pub fn apply(&self, number: &str) -> Option<String> {
        let characters: Vec<char> = number.chars().collect();
        let (front, back) = characters.split_at_checked(self.prefix.len())?;
        let matching = matches(&self.prefix, front) && matches(&self.body, back);
        matching.then(|| self.prepend.chars().chain(back.iter().copied()).collect())
    }
}

fn places(text: &str) -> Result<Vec<Place>, PatternError> {
    let mut places = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if places.iter().any(|place| !matches!(place, Place::One(_))) {
            return Err(PatternError::Rest);
        }
        places.push(match letter {
            'X' => Place::One(('0'..='9').collect()),
            'Z' => Place::One(('1'..='9').collect()),
            'N' => Place::One(('2'..='9').collect()),
            '.' => Place::Some,
            '!' => Place::Any,
            '[' => Place::One(set(&mut letters)?),
            letter if is_literal(letter) => Place::One(vec![letter]),
            wrong => return Err(PatternError::Character(wrong)),
        });
    }
    Ok(places)
}

/// What stands between `[` and `]`.
fn set(letters: &mut impl Iterator<Item = char>) -> Result<Vec<char>, PatternError> {
    let mut inner = Vec::new();
    loop {
        match letters.next() {
            Some(']') => break,
            Some(letter) if letter == '-' || is_literal(letter) => inner.push(letter),
            _ => return Err(PatternError::Set),
        }
    }
    let mut set = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        match (inner[at], inner.get(at + 1), inner.get(at + 2)) {
            ('-', ..) => return Err(PatternError::Set),
            (first, Some('-'), Some(last)) if first <= *last && *last != '-' => {
                set.extend(first..=*last);
                at += 3;
            }
            (_, Some('-'), _) => return Err(PatternError::Set),
            (one, ..) => {
                set.push(one);
                at += 1;
            }
        }
    }
    if set.is_empty() { Err(PatternError::Set) } else { Ok(set) }
}

fn matches(places: &[Place], characters: &[char]) -> bool {
    match places.last() {
        Some(Place::Some) => characters.len() >= places.len() && each(&places[..places.len() - 1], characters),
        Some(Place::Any) => characters.len() + 1 >= places.len() && each(&places[..places.len() - 1], characters),
        _ => characters.len() == places.len() && each(places, characters),
    }
}

fn each(places: &[Place], characters: &[char]) -> bool {
    let mut pairs = places.iter().zip(characters);
    pairs.all(|(place, character)| matches!(place, Place::One(set) if set.contains(character)))
}

fn is_literal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+*#".contains(letter)
}

/// 64 characters: 15 digits, each written as a set of 3.
const CHARACTERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_matches_as_freepbx_would_have_it() {
        for (pattern, number, expected) in [
            ("112", "112", Some("112")),
            ("112", "1123", None),
            ("+36.", "+3612345678", Some("+3612345678")),
            ("+36.", "+36", None),
            ("36!", "36", Some("36")),
            ("_NXX", "234", Some("234")),
            ("NXX", "134", None),
            ("ZXX", "034", None),
            ("9|NXXXXXX", "92345678", Some("2345678")),
            ("9|.", "9", None),
            ("9|.", "912", Some("12")),
            ("0036+06|NXXXXXXX", "0623456789", Some("003623456789")),
            ("0036+06|.", "0612345678", Some("003612345678")),
            ("1613+NXXXXXX", "2345678", Some("16132345678")),
            ("[13-57]X", "40", Some("40")),
            ("[13-57]X", "20", None),
            ("*9X", "*97", Some("*97")),
            ("reception", "reception", Some("reception")),
            ("101", "", None),
        ] {
            let applied = Pattern::parse(pattern).expect(pattern).apply(number);
            assert_eq!(applied.as_deref(), expected, "{pattern} {number}");
        }
    }

    #[test]
    fn what_can_match_nothing_is_refused_when_it_is_written() {
        for (text, error) in [
            ("", PatternError::Length),
            ("9|", PatternError::Length),
            ("[1-", PatternError::Set),
            ("[]", PatternError::Set),
            ("[5-1]", PatternError::Set),
            ("[-1]", PatternError::Set),
            ("[1-]", PatternError::Set),
            (".1", PatternError::Rest),
            ("9.|1", PatternError::Rest),
            ("1 2", PatternError::Character(' ')),
            ("1|2|3", PatternError::Character('|')),
            ("\u{0}", PatternError::Character('\u{0}')),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Pattern::parse(&"X".repeat(65)), Err(PatternError::Length));
    }
}
