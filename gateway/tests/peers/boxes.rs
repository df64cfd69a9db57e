//! Two boxes that call each other.

use std::path::Path;

use serde_json::json;

use super::mutated::files;
use super::site::{NUMBER, Site};
use super::table::{Cell, row};
use crate::daemon::{Daemon, wait_until};
use crate::signal::best_match;

#[test]
fn two_boxes_call_each_other_and_each_hears_what_the_other_says() {
    let [first, second] = [(); 2].map(|()| Daemon::serve(&[]));
    let [to_first, to_second] = [&first, &second].map(Daemon::sip);
    let first = Site::owned(first, NUMBER, to_second, json!({}));
    let mut second = Site::owned(second, OTHER_NUMBER, to_first, json!({}));
    let call = first.dial(OTHER_NUMBER);
    hear_each_other(&first, &second);
    // The called box hangs up.
    assert!(second.daemon.stop().success());
    assert_eq!(first.ended(&call)["status"], "completed");
    row("another talkstack", &[("call between two boxes, two-way sound", Cell::Works)]);
}

/// Waits until two boxes have talked for three seconds, and looks whether each has heard what the other said.
pub(crate) fn hear_each_other(first: &Site, second: &Site) {
    wait_until("both have recorded three seconds", || {
        let is_long = |site: &Site| recording(&site.daemon.dir).is_some_and(|(caller, _)| caller.len() > 3 * 8000);
        (is_long(first) && is_long(second)).then_some(())
    });
    let (heard, said) = recording(&first.daemon.dir).expect("a recording");
    let (heard_there, said_there) = recording(&second.daemon.dir).expect("a recording");
    for (said, heard, way) in [(said, heard_there, "to the called box"), (said_there, heard, "to the calling box")] {
        let (_, score) = best_match(&heard, &said[8000..12_000]);
        assert!(score > 0.9, "the sound {way} matches with {score:.3}");
    }
}

/// Left and right of the only recording, as far as it is written.
pub(crate) fn recording(dir: &Path) -> Option<(Vec<i16>, Vec<i16>)> {
    let path = files(&dir.join("recordings")).pop()?;
    let bytes = std::fs::read(path).ok()?;
    let samples = bytes.get(44..)?.chunks_exact(4);
    let sample = |bytes: &[u8]| i16::from_le_bytes([bytes[0], bytes[1]]);
    Some(samples.map(|frame| (sample(&frame[..2]), sample(&frame[2..]))).unzip())
}

const OTHER_NUMBER: &str = "+15557654321";
