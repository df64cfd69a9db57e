//! Dial patterns in FreePBX's notation: `prepend+prefix|match`.

/// A dial pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    prepend: String,
    prefix: Vec<Place>,
    body: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    One(Vec<char>),
    Some,
    Any,
}

/// A text that is no pattern.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("no dial pattern")]
pub struct PatternError;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('_').unwrap_or(text);
        let (front, body) = text.split_once('|').unwrap_or(("", text));
        let (prepend, prefix) = match front.rsplit_once('+') {
            Some((prepend, prefix)) if !prepend.is_empty() || text.contains('|') => (prepend, prefix),
            _ => ("", front),
        };
        Ok(Pattern { prepend: prepend.to_owned(), prefix: places(prefix)?, body: places(body)? })
    }

    /// What a matching number becomes; `None` when it does not match.
    pub fn apply(&self, number: &str) -> Option<String> {
        let chars: Vec<char> = number.chars().collect();
        let front = self.prefix.len();
        let is_front = chars.len() >= front && matches(&self.prefix, &chars[..front]);
        (is_front && matches(&self.body, &chars[front..]))
            .then(|| format!("{}{}", self.prepend, chars[front..].iter().collect::<String>()))
    }
}

fn places(text: &str) -> Result<Vec<Place>, PatternError> {
    let mut places = Vec::new();
    let mut chars = text.chars();
    while let Some(letter) = chars.next() {
        places.push(match letter {
            'X' | 'x' => Place::One(('0'..='9').collect()),
            'Z' | 'z' => Place::One(('1'..='9').collect()),
            'N' | 'n' => Place::One(('2'..='9').collect()),
            '.' => Place::Some,
            '!' => Place::Any,
            '[' => {
                let inner: Vec<char> = chars.by_ref().take_while(|letter| *letter != ']').collect();
                let mut set = Vec::new();
                for part in inner.split(|letter| *letter == ',') {
                    match part {
                        [from, '-', to] => set.extend(*from..=*to),
                        other => set.extend(other),
                    }
                }
                Place::One(set)
            }
            '0'..='9' | '+' | '*' | '#' => Place::One(vec![letter]),
            'a'..='z' | 'A'..='Z' | '-' | '_' => Place::One(vec![letter]),
            _ => return Err(PatternError),
        });
    }
    Ok(places)
}

fn matches(places: &[Place], chars: &[char]) -> bool {
    match places {
        [] => chars.is_empty(),
        [Place::Some, ..] => !chars.is_empty(),
        [Place::Any, ..] => true,
        [Place::One(set), rest @ ..] => {
            chars.first().is_some_and(|letter| set.contains(letter)) && matches(rest, &chars[1..])
        }
    }
}
