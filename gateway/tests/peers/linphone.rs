//! linphone as a phone: it calls, holds, resumes and hangs up, with a file for a microphone and another for an ear.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use super::boxes::recording;
use super::kamailio::{Proxy, Rtpengine};
use super::process::{Peer, free_port, is_installed};
use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::{Daemon, wait_until};
use crate::phones::prompt;
use crate::signal::{Search, best_match, read_growing};

#[test]
fn linphone_calls_holds_resumes_and_hangs_up() {
    if !is_installed("linphonec") {
        return;
    }
    let daemon = Daemon::serve(&[]);
    let timer = "session_expires_enabled=1\nsession_expires_value=120\nsession_expires_min_value=90\n";
    let mut phone = Linphone::start(timer);
    phone.calls("echo", daemon.sip());
    phone.hears_itself();
    phone.does("pause", "is now paused");
    phone.does("resume 1", "Media streams established");
    phone.hears_itself();
    phone.does("terminate", "ended (No error)");
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    assert!(phone.log().contains("\nSession-Expires: 120;refresher=uac"), "no session timer was agreed on");
    row(
        "linphone",
        &[
            ("call to the box, two-way sound", Cell::Works),
            ("hold and resume", Cell::Works),
            ("session timer of 120 s", Cell::Works),
        ],
    );
}

#[test]
fn linphone_s_srtp_of_128_bits_is_heard_and_answered() {
    with_suites(&["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]);
}

#[test]
fn linphone_s_srtp_of_256_bits_is_heard_and_answered() {
    with_suites(&["AES_256_CM_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32"]);
}

/// A call of a phone that takes nothing but SRTP, in one suite after the other.
fn with_suites(suites: &[&str]) {
    if !is_installed("linphonec") {
        return;
    }
    let daemon = Daemon::serve(&[]);
    for suite in suites {
        let mut phone = Linphone::start(&format!("{SRTP_ONLY}srtp_crypto_suites={suite}\n"));
        phone.calls("echo", daemon.sip());
        phone.hears_itself();
        assert!(phone.log().contains(&format!("a=crypto:1 {suite} inline:")), "{suite}");
        phone.does("pause", "is now paused");
        phone.does("resume 1", "Media streams established");
        phone.hears_itself();
        phone.does("terminate", "ended (No error)");
        row(
            &format!("linphone, {suite}"),
            &[("SRTP (SDES) only, two-way sound", Cell::Works), ("SRTP, hold and resume", Cell::Works)],
        );
    }
}

#[test]
fn linphone_s_srtp_is_plain_to_the_box_behind_a_session_border_controller() {
    if !["linphonec", "kamailio", "rtpengine"].into_iter().all(is_installed) {
        return;
    }
    let daemon = Daemon::serve(&[]);
    let engine = Rtpengine::start();
    let front = SocketAddr::new([127, 0, 0, 1].into(), free_port());
    let _kamailio = Proxy { legs: 1, rtpengine: Some(engine.control), transport: "udp", secures: None }.start(
        front,
        daemon.sip(),
        front,
    );
    let mut phone = Linphone::start(SRTP_ONLY);
    phone.calls("echo", front);
    phone.hears_itself();
    assert!(phone.log().contains("a=crypto:"), "linphone offered SRTP");
    phone.does("terminate", "ended (No error)");
    row("linphone via rtpengine", &[("SRTP (SDES) to RTP, two-way sound", Cell::Works)]);
}

#[test]
fn linphone_is_called_rings_reliably_and_hangs_up() {
    if !is_installed("linphonec") {
        return;
    }
    let mut phone = Linphone::start("100rel_support_level=2\n");
    let site = Site::new(&[], phone.address, json!({}));
    let call = site.dial("+15550000001");
    phone.peer.says("Receiving new incoming call");
    phone.does("answer 1", "connected");
    let words = prompt("en/goodbye");
    wait_until("each hears the other", || {
        let (caller, said) = recording(&site.daemon.dir)?;
        let (_, there) = best_match(&caller, &words[4000..5600]);
        let (_, here) = best_match(&phone.heard(), said.get(8000..9600)?);
        (there > 0.9 && here > 0.9).then_some(())
    });
    phone.does("terminate", "ended (No error)");
    assert_eq!(site.ended(&call)["status"], "completed");
    let log = phone.log();
    assert!(log.contains("\nPRACK sip:") && log.contains("\nRSeq:"), "no reliable ringing");
    row(
        "linphone, called",
        &[("call of the box, two-way sound", Cell::Works), ("100rel: the box sends PRACK", Cell::Works)],
    );
}

/// The lines of linphone's configuration that make it register.
pub(crate) fn account(user: &str, domain: SocketAddr, proxy: SocketAddr, password: &str) -> String {
    format!(
        "[proxy_0]\nreg_proxy=<sip:{proxy};lr>\nreg_identity=sip:{user}@{domain}\nreg_expires=60\nreg_sendregister=1\n\
         [auth_info_0]\nusername={user}\npasswd={password}\n"
    )
}

/// A linphone at its prompt.
pub(crate) struct Linphone {
    peer: Peer,
    /// Where it takes calls.
    pub(crate) address: SocketAddr,
}

impl Linphone {
    /// Starts it; `sip` are further lines of that section of its configuration, which may begin others.
    pub(crate) fn start(sip: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let address = SocketAddr::new([127, 0, 0, 1].into(), free_port());
        let config = format!(
            // Without a port of its own it starts on 5060, which it shares with every other one that starts: one of them
            // is given the answers to all.
            "[sip]\nsip_port={}\nsip_tcp_port=0\nsip_tls_port=0\nguess_hostname=0\nbind_address=127.0.0.1\n\
             contact=\"phone\" <sip:phone@127.0.0.1>\n{sip}[rtp]\naudio_rtp_port={}\n[video]\nenabled=0\n",
            address.port(),
            free_port()
        );
        std::fs::write(dir.path().join("linphonerc"), config).expect("written");
        // Without a place for its database it takes calls and never registers.
        std::fs::create_dir_all(dir.path().join(".local/share/linphone")).expect("made");
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
        ] {
            peer.types(&command);
            peer.says("linphonec>");
        }
        let mut phone = Linphone { peer, address };
        phone.speaks("PCMU");
        phone
    }

    /// Speaks one codec alone; its recording has that codec's rate.
    pub(crate) fn speaks(&mut self, codec: &str) {
        self.does("codec disable all", "linphonec>");
        self.types("codec list");
        let listed = self.says("linphonec>");
        let place = listed.lines().find_map(|line| {
            let (number, rest) = line.trim_start().split_once(':')?;
            rest.contains(codec).then(|| number.trim().to_owned())
        });
        let place = place.unwrap_or_else(|| panic!("linphone has no {codec}: {listed}"));
        self.does(&format!("codec enable {place}"), "linphonec>");
    }

    /// Calls a user at an address and waits for the answer.
    pub(crate) fn calls(&mut self, user: &str, target: SocketAddr) {
        self.does(&format!("call sip:{user}@{target}"), "Media streams established");
    }

    /// Types a command.
    pub(crate) fn types(&mut self, command: &str) {
        self.peer.types(command);
    }

    /// Waits for what it says.
    pub(crate) fn says(&mut self, word: &str) -> String {
        self.peer.says(word)
    }

    /// Waits until its registration stands.
    pub(crate) fn registers(&mut self) {
        wait_until("linphone registers", || {
            self.peer.types("proxy list");
            self.peer.says("registered: ");
            self.peer.says("\n");
            self.peer.output().contains("registered: yes").then_some(())
        });
    }

    /// Types a command and waits for what it is to say then.
    pub(crate) fn does(&mut self, command: &str, says: &str) {
        self.peer.types(command);
        self.peer.says(says);
    }

    /// Waits until it hears its own words from here on.
    pub(crate) fn hears_itself(&self) {
        let (words, before) = (prompt("en/goodbye"), self.heard().len());
        let mut search = Search::new(&words[4000..5600]);
        wait_until("the words come back", || search.is_in(self.heard().get(before..)?).then_some(()));
    }

    /// Every message that it has sent and got, and what it thought.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.peer.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The samples of its recording, whose header it writes at the end.
    pub(crate) fn heard(&self) -> Vec<i16> {
        read_growing(&self.peer.dir.path().join("heard.wav"))
    }
}

const SRTP_ONLY: &str = "media_encryption=srtp\nmedia_encryption_mandatory=1\n";
