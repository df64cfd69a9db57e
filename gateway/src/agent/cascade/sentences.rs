//! A model's words, cut into what is spoken at once: sentences, so that the first is heard while the next is thought of.

/// The words that have not been spoken.
#[derive(Default)]
pub(super) struct Sentences {
    text: String,
    /// No more words come.
    is_whole: bool,
    /// Something has been taken.
    has_begun: bool,
}

impl Sentences {
    /// More words have come.
    pub(super) fn push(&mut self, words: &str) {
        self.text.push_str(words);
    }

    /// No more words come, until [`Sentences::reopen`].
    pub(super) fn finish(&mut self) {
        self.is_whole = true;
    }

    /// More words come after all.
    pub(super) fn reopen(&mut self) {
        self.is_whole = false;
        if !self.text.is_empty() && !self.text.ends_with(char::is_whitespace) {
            self.text.push(' ');
        }
    }

    /// All has been taken, and no more comes.
    pub(super) fn is_over(&self) -> bool {
        self.is_whole && self.text.trim().is_empty()
    }

    /// What is to be spoken next, if enough of it is there: the first sentence alone, to be heard soon; then as many as
    /// are there and go together. What has no letter is not spoken.
    pub(super) fn take(&mut self) -> Option<String> {
        loop {
            let end = self.end()?;
            let rest = self.text.split_off(end);
            let taken = std::mem::replace(&mut self.text, rest);
            let text = speakable(&taken);
            if text.chars().any(char::is_alphanumeric) {
                self.has_begun = true;
                return Some(text);
            }
        }
    }

    /// Where the next piece ends.
    fn end(&self) -> Option<usize> {
        let (mut end, mut chars) = (None, 0);
        let mut letters = self.text.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            chars += 1;
            if chars > PIECE_CHARS_MAX {
                // Sentences that go together, or else as many words, or else whatever fits.
                let within = &self.text[..at];
                return end
                    .or_else(|| within.rfind([',', ';', ':']).map(|at| at + 1).filter(|at| *at > at_least(within)))
                    .or_else(|| within.rfind(char::is_whitespace).filter(|at| *at > 0))
                    .or(Some(at));
            }
            let behind = at + letter.len_utf8();
            let is_end = match letter {
                // A line ends a sentence, and an item of a list.
                '\n' | '。' | '！' | '？' => true,
                '.' | '!' | '?' | '…' => match letters.peek() {
                    // "3.5", "e.g." and "..." go on; so may a piece that has just come.
                    Some((_, next)) => next.is_whitespace() && !is_abbreviated(&self.text[..behind]),
                    None => self.is_whole,
                },
                _ => false,
            };
            if is_end && chars >= PIECE_CHARS_MIN {
                end = Some(behind);
                if !self.has_begun {
                    return end;
                }
            }
        }
        end.or((self.is_whole && !self.text.is_empty()).then_some(self.text.len()))
    }
}

/// A cut at a comma is not to leave a word alone.
fn at_least(text: &str) -> usize {
    text.len() / 4
}

/// Whether the full stop at the end of a text is that of a title or an initial.
fn is_abbreviated(text: &str) -> bool {
    let Some(text) = text.strip_suffix('.') else { return false };
    let word = text.rsplit(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    let mut letters = word.chars();
    let is_initial = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
    is_initial || ABBREVIATIONS.contains(&word)
}

/// As it is spoken: without the marks that models set for print.
fn speakable(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !MARKS.contains(letter)).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// 20 characters: a second of speech, in which the next is ready. Shorter sentences go with the next.
const PIECE_CHARS_MIN: usize = 20;

/// 200 characters: 12 s of speech. More at once is heard later, and thrown away when the caller interrupts.
const PIECE_CHARS_MAX: usize = 200;

const ABBREVIATIONS: [&str; 12] = ["Mr", "Mrs", "Ms", "Dr", "Prof", "St", "No", "Nr", "vs", "etc", "bzw", "ca"];

const MARKS: [char; 4] = ['*', '#', '`', '_'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_is_spoken_as_soon_as_it_is_whole() {
        let mut sentences = Sentences::default();
        let mut taken = Vec::new();
        for words in ["Sure", ". I can do", " that for you", ". And", " then", " some", " more"] {
            sentences.push(words);
            taken.extend(sentences.take());
        }
        assert_eq!(taken, ["Sure. I can do that for you."]);
        sentences.finish();
        assert_eq!(sentences.take().as_deref(), Some("And then some more"));
        assert!(sentences.is_over() && sentences.take().is_none());
    }

    #[test]
    fn sentences_that_wait_are_spoken_together_up_to_200_characters() {
        let sentence = "This is one more sentence of forty-four all. ";
        let mut sentences = Sentences::default();
        sentences.push(&sentence.repeat(12));
        sentences.finish();
        let mut lengths = Vec::new();
        while let Some(text) = sentences.take() {
            lengths.push(text.matches("This").count());
            assert!(text.chars().count() <= PIECE_CHARS_MAX);
        }
        assert_eq!(lengths, [1, 4, 4, 3]);
    }

    #[test]
    fn a_full_stop_within_a_number_a_title_or_a_url_ends_nothing() {
        for text in [
            "It costs 3.50 dollars at Dr. Smith's, J. Doe says.",
            "Our address is www.example.com or e.g. so, they say.",
            "Wait... what did you say to her?",
        ] {
            let mut sentences = Sentences::default();
            sentences.push(text);
            sentences.finish();
            let first = sentences.take();
            assert_eq!(first.as_deref(), Some(text));
        }
    }

    #[test]
    fn what_has_no_end_is_cut_where_it_can_be() {
        for (text, end) in [
            (format!("{}, {}", "word ".repeat(30).trim_end(), "word ".repeat(30)), "word,"),
            ("word ".repeat(60), "word"),
            ("x".repeat(300), "x"),
            ("ü".repeat(300), "ü"),
        ] {
            let mut sentences = Sentences::default();
            sentences.push(&text);
            let taken = sentences.take().expect("cut");
            assert!(taken.ends_with(end) && taken.chars().count() <= PIECE_CHARS_MAX, "{taken}");
        }
    }

    #[test]
    fn a_list_is_spoken_item_by_item_without_its_marks() {
        let mut sentences = Sentences::default();
        sentences.push("**We have these:**\n- a table for two\n- `a room` with a view\n\n🙂\n");
        sentences.finish();
        let taken: Vec<String> = std::iter::from_fn(|| sentences.take()).collect();
        assert_eq!(taken, ["We have these: - a table for two", "- a room with a view 🙂"]);
        let mut sentences = Sentences::default();
        sentences.push("🙂 ... !!!");
        sentences.finish();
        assert_eq!(sentences.take(), None);
        assert!(sentences.is_over());
    }

    #[test]
    fn what_comes_after_a_pause_is_another_word() {
        let mut sentences = Sentences::default();
        sentences.push("Let me see");
        sentences.finish();
        sentences.reopen();
        sentences.push("it is noon.");
        assert_eq!(sentences.take(), None);
        sentences.finish();
        assert_eq!(sentences.take().as_deref(), Some("Let me see it is noon."));
    }
}
