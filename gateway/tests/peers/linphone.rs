//! linphone as a phone: it calls, holds, resumes and hangs up, with a file for a microphone and another for an ear.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::process::{Peer, free_port, is_installed};
use super::table::{Cell, row};
use crate::daemon::{Daemon, wait_until};
use crate::phones::prompt;
use crate::signal::best_match;

#[test]
fn linphone_calls_holds_resumes_and_hangs_up() {
    if !is_installed("linphonec") {
        return;
    }
    let daemon = Daemon::serve(&[]);
    let mut phone = Linphone::start("");
    phone.calls("echo", daemon.sip());
    phone.hears_itself();
    phone.does("pause", "is now paused");
    phone.does("resume 1", "Media streams established");
    phone.hears_itself();
    phone.does("terminate", "ended (No error)");
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    row("linphone", &[("call to the box, two-way sound", Cell::Works), ("hold and resume", Cell::Works)]);
}

/// A linphone at its prompt.
pub(crate) struct Linphone {
    peer: Peer,
}

impl Linphone {
    /// Starts it; `settings` are further lines of its configuration.
    pub(crate) fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = format!(
            "[sip]\nguess_hostname=0\nbind_address=127.0.0.1\ncontact=\"phone\" <sip:phone@127.0.0.1>\n\
             [rtp]\naudio_rtp_port={}\n[video]\nenabled=0\n{settings}",
            free_port()
        );
        std::fs::write(dir.path().join("linphonerc"), config).expect("written");
        let microphone = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/prompts/en/goodbye.wav");
        let ear = dir.path().join("heard.wav");
        let home = dir.path().display().to_string();
        let mut peer = Peer::start_in(
            dir,
            "env",
            &[&format!("HOME={home}"), "linphonec", "-c", "linphonerc", "-d", "6", "-l", "log"],
        );
        peer.says("linphonec>");
        for command in [
            "soundcard use files".to_owned(),
            format!("play {}", microphone.display()),
            format!("record {}", ear.display()),
            format!("ports sip {}", free_port()),
        ] {
            peer.types(&command);
            peer.says("linphonec>");
        }
        Linphone { peer }
    }

    /// Calls a user at an address and waits for the answer.
    pub(crate) fn calls(&mut self, user: &str, target: SocketAddr) {
        self.does(&format!("call sip:{user}@{target}"), "Media streams established");
    }

    /// Types a command and waits for what it is to say then.
    pub(crate) fn does(&mut self, command: &str, says: &str) {
        self.peer.types(command);
        self.peer.says(says);
    }

    /// Waits until it hears its own words from here on.
    pub(crate) fn hears_itself(&self) {
        let (words, before) = (prompt("en/goodbye"), self.heard().len());
        wait_until("the words come back", || {
            let heard = self.heard();
            let (_, score) = best_match(heard.get(before..)?, &words[4000..5600]);
            (score > 0.9).then_some(())
        });
    }

    /// The samples of its recording, whose header it writes at the end.
    fn heard(&self) -> Vec<i16> {
        let bytes = std::fs::read(self.peer.dir.path().join("heard.wav")).unwrap_or_default();
        let samples = bytes.get(44..).unwrap_or_default().chunks_exact(2);
        samples.map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
    }
}
