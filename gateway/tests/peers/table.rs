//! What is printed: tables that reach the terminal whole, whatever the test harness captures, and the rows that
//! `gateway/tests/run` collects.

use std::io::Write;
use std::path::PathBuf;

/// What came of a feature with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Seen to work.
    Works,
    /// Not so, and why; the sentence is the peer's limit or a bug of ours.
    Red(&'static str),
}

/// Says a peer's row of the table peer × feature. The file `cells` has all that there are to be: `gateway/tests/run`
/// prints as red those that nobody has said.
pub(crate) fn row(peer: &str, cells: &[(&str, Cell)]) {
    let mut text = String::new();
    for (feature, cell) in cells {
        let verdict = match cell {
            Cell::Works => "works".to_owned(),
            Cell::Red(why) => format!("RED: {why}"),
        };
        text.push_str(&format!("{peer:<28} | {feature:<52} | {verdict}\n"));
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peers/rows");
    std::fs::create_dir_all(&dir).expect("made");
    let name: String = peer.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    std::fs::write(dir.join(format!("{name}.row")), &text).expect("written");
    print(&text);
}

/// Prints whole, past the harness: it shows no output of tests that pass.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stderr().lock();
    out.write_all(text.as_bytes()).expect("written");
}
