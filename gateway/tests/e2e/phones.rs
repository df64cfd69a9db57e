//! baresip as a phone: it calls, plays a file, and records what it hears.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::{Daemon, wait_until};
use crate::signal::{best_match, longest_gap, read_wav, write_wav};

#[test]
fn the_phone_hears_the_prompts_whole_and_without_a_gap() {
    let daemon = Daemon::serve(&[]);
    let phone = Baresip::call(daemon.sip(), "demo");
    let greeting = prompt("en/greeting");
    wait_until("four seconds have been heard", || (phone.heard_so_far() > 34_000).then_some(()));
    let heard = phone.hang_up();
    let (first, score) = best_match(&heard, &greeting[..8000]);
    assert!(score >= 0.9, "the greeting's first second matches with {score:.3}");
    let (third, score) = best_match(&heard, &greeting[16_000..24_000]);
    assert!(score >= 0.9, "its third second matches with {score:.3}");
    assert_eq!(third - first, 16_000, "no sample was lost or doubled in between");
    assert!(longest_gap(&heard) < Duration::from_millis(60), "gap of {:?}", longest_gap(&heard));
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
}

#[test]
fn the_echo_returns_the_caller_s_own_words() {
    let daemon = Daemon::serve(&[]);
    let words = prompt("en/goodbye");
    let phone = Baresip::calling(daemon.sip(), "echo", &words);
    wait_until("the words have come back", || (phone.heard_so_far() > words.len() + 8000).then_some(()));
    let heard = phone.hang_up();
    let (_, score) = best_match(&heard, &words[2000..8000]);
    assert!(score >= 0.9, "the words match with {score:.3}");
}

#[test]
fn an_agent_s_number_is_answered_in_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = crate::survival::ScriptedControl::connect(dir.path());
    control.route("15551234567", "");
    let text = "You have reached Jack. Your call is answered by the attendant.";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name =
        runtime.block_on(talkstack_gateway::speech::Speaker::default().speak(text)).expect("espeak-ng is installed");
    let phone = Baresip::call(daemon.sip(), "15551234567");
    wait_until("three seconds have been heard", || (phone.heard_so_far() > 26_000).then_some(()));
    let heard = phone.hang_up();
    let (_, score) = best_match(&heard, &name[2000..8000]);
    assert!(score >= 0.9, "the name matches with {score:.3}");
}

/// A phone in a call.
pub(crate) struct Baresip {
    child: Child,
    dir: TempDir,
}

impl Baresip {
    /// Calls `user` and says nothing.
    pub(crate) fn call(target: SocketAddr, user: &str) -> Self {
        Baresip::calling(target, user, &[])
    }

    /// Calls `user`, says `words`, and stays on the line.
    pub(crate) fn calling(target: SocketAddr, user: &str, words: &[i16]) -> Self {
        Baresip::dialling(&format!("sip:{user}@{target}"), words)
    }

    /// Calls a URI, says `words`, and stays on the line.
    pub(crate) fn dialling(uri: &str, words: &[i16]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let words_path = dir.path().join("words.wav");
        // baresip hangs up when its source ends; no case lasts this long.
        write_wav(&words_path, &[words, &[1; 20 * 8000]].concat());
        let config = baresip_config(dir.path(), "");
        std::fs::write(dir.path().join("config"), config).expect("written");
        let account = "<sip:phone@127.0.0.1>;regint=0;audio_codecs=PCMU/8000/1\n";
        std::fs::write(dir.path().join("accounts"), account).expect("written");
        let log = std::fs::File::create(dir.path().join("phone.out")).expect("a log");
        let child = Command::new("baresip")
            .arg("-f")
            .arg(dir.path())
            .args(["-e", &format!("/dial {uri}")])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("baresip is installed (Debian package baresip)");
        Baresip { child, dir }
    }

    /// Samples recorded so far.
    pub(crate) fn heard_so_far(&self) -> usize {
        self.recording().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len() as usize / 2)
    }

    /// What it says of itself.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("phone.out")).unwrap_or_default()
    }

    /// Ends the call as a person does and returns what was heard.
    pub(crate) fn hang_up(mut self) -> Vec<i16> {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
        wait_until("baresip ends", || self.child.try_wait().expect("waited"));
        let path = self.recording().unwrap_or_else(|| {
            panic!(
                "nothing was recorded:\n{}",
                std::fs::read_to_string(self.dir.path().join("phone.out")).unwrap_or_default()
            )
        });
        read_wav(&path)
    }

    /// The file that the module sndfile writes what is heard to.
    fn recording(&self) -> Option<PathBuf> {
        std::fs::read_dir(self.dir.path())
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-dec.wav")))
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn prompt(name: &str) -> Vec<i16> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../config/prompts/{name}.wav"));
    read_wav(&path)
}

/// A baresip that says `words.wav` of its folder in every call and writes what it hears beside it; `more` are further
/// lines of its configuration.
pub(crate) fn baresip_config(home: &Path, more: &str) -> String {
    let modules = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"]
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .expect("baresip is installed (Debian package baresip)");
    let home = home.display();
    format!(
        "module_path {modules}\nmodule account.so\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\n{more}\
         module_app menu.so\nsip_listen 127.0.0.1:0\nsnd_path {home}\naudio_source aufile,{home}/words.wav\n\
         audio_player aufile,{home}/player.wav\naudio_alert aufile,{home}/alert.wav\nausrc_srate 8000\n\
         auplay_srate 8000\nausrc_channels 1\nauplay_channels 1\naudio_buffer 20-160\n"
    )
}
