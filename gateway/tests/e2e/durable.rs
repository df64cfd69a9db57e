//! What a `kill -9` leaves: recordings that can be read, and far ends that are hung up on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::{Daemon, wait_until};
use crate::phones::{Baresip, prompt};
use crate::signal::{best_match, read_wav};
use crate::survival::ScriptedControl;

#[test]
fn a_call_to_a_number_is_recorded_with_the_caller_left_and_the_box_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    control.route("15551234567", "");
    let (words, name) = (prompt("en/goodbye"), spoken_name());
    // Who spoke at once would interrupt the name.
    let silence = vec![0; 16_000];
    let phone = Baresip::calling(daemon.sip(), "15551234567", &[&silence[..], &words].concat());
    wait_until("five seconds have been heard", || (phone.heard_so_far() > 42_000).then_some(()));
    let heard = phone.hang_up();
    let file = wait_until("there is a recording", || recordings(dir.path()).pop());
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    wait_until("it is whole", || (length(&file) as usize / 4 + 8000 > heard.len()).then_some(()));
    let left = read_wav(&file);
    let right = read_right(&file);
    let (early, score) = best_match(&left, &words[1000..5000]);
    assert!(score >= 0.9, "the caller's words match the left track with {score:.3}");
    let (late, score) = best_match(&left, &words[5000..9000]);
    assert!(score >= 0.9, "their second half matches with {score:.3}");
    assert!((late - early).abs_diff(4000) <= 160, "the halves are {} samples apart", late - early);
    let (spoken, score) = best_match(&right, &name[2000..8000]);
    assert!(score >= 0.9, "the agent's name matches the right track with {score:.3}");
    // The phone's own clock: it hears the name so long behind its first packet.
    let (on_phone, _) = best_match(&heard, &name[2000..8000]);
    assert!(spoken.abs_diff(on_phone) <= 8 * 300, "{spoken} in the recording, {on_phone} on the phone");
}

#[test]
fn a_killed_box_leaves_a_recording_and_hangs_up_at_its_next_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let listen = daemon.sip().to_string();
    let mut control = ScriptedControl::connect(dir.path());
    control.route("15551234567", "");
    let phone = Baresip::calling(daemon.sip(), "15551234567", &prompt("en/goodbye"));
    wait_until("three seconds have been heard", || (phone.heard_so_far() > 26_000).then_some(()));
    let heard = phone.heard_so_far();
    daemon.kill();
    let file = recordings(dir.path()).pop().expect("a recording");
    let recorded = read_wav(&file).len();
    assert!(recorded + 8000 >= heard, "{recorded} samples recorded of {heard}");
    let counted = std::fs::read(&file).expect("readable");
    let counted = u32::from_le_bytes([counted[40], counted[41], counted[42], counted[43]]) as usize / 4;
    assert!(counted + 8000 >= heard, "the header counts {counted} samples of {heard}");
    assert!(!phone.log().contains("terminated"), "{}", phone.log());

    let started = std::time::Instant::now();
    let daemon = Daemon::start("calls", dir.path(), &[("TALKSTACK__SIP__LISTEN", &listen)]);
    wait_until("the phone is hung up on", || phone.log().contains("terminated").then_some(()));
    assert!(started.elapsed() < Duration::from_secs(5), "after {:?}", started.elapsed());
    daemon.kill();
    for _ in 0..2 {
        let calls = Daemon::start("calls", dir.path(), &[]);
        let control = Daemon::start("control", dir.path(), &[]);
        let rows = control.ended_calls(1);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["status"], "failed");
        assert_eq!(rows[0]["outcome"], serde_json::json!({ "blame": "gateway", "reason": "restarted" }));
        calls.kill();
    }
}

#[test]
fn the_built_in_users_are_not_recorded_nor_anyone_where_recording_is_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[("TALKSTACK__RECORDING__ENABLED", "false")]);
    let mut control = ScriptedControl::connect(dir.path());
    control.route("15551234567", "");
    crate::sipp::Sipp::new(daemon.sip(), "basic").dialling("+15551234567").holding_ms(1000).succeeds();
    control.wait_for_end();
    daemon.kill();
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    control.wait_for_end();
    crate::sipp::Sipp::new(daemon.sip(), "basic").dialling("demo").holding_ms(1000).succeeds();
    control.wait_for_end();
    assert_eq!(recordings(dir.path()), Vec::<PathBuf>::new());
}

fn spoken_name() -> Vec<i16> {
    let text = "You have reached Jack. Your call is answered by the attendant.";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(talkstack_gateway::speech::Speaker::default().speak(text)).expect("espeak-ng is installed")
}

/// The files of both sides; the agent's tracks lie beside them.
fn recordings(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.join("recordings")]);
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let is_agent = path.to_string_lossy().ends_with(".agent.wav");
            match path.is_dir() {
                true => dirs.push(path),
                false if is_agent => {}
                false => found.push(path),
            }
        }
    }
    found
}

fn read_right(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).expect("a recording");
    bytes[44..].chunks_exact(4).map(|pair| i16::from_le_bytes([pair[2], pair[3]])).collect()
}
