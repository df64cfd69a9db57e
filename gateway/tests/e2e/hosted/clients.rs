//! The vendors' own clients on the fakes: they are served as they expect, and refused what their service refuses.

use std::path::Path;
use std::process::Command;

use talkstack_control::port::ProviderKind;

use super::Fake;
use crate::agents::TestCa;
use crate::realtime::RealtimeServer;

#[test]
fn deepgram_s_client_is_served_by_the_fake() {
    let fake = Fake::start(ProviderKind::Deepgram, &["--scenario", "send_dtmf"]);
    serves(&fake, "hosted", "with_deepgram", &[]);
}

#[test]
fn elevenlabs_s_client_is_served_by_the_fake() {
    let flags = ["--private", "--form", "pcm_16000", "--forbid", "voice_id", "--scenario", "send_dtmf"];
    let fake = Fake::start(ProviderKind::ElevenLabs, &flags);
    serves(&fake, "hosted", "with_elevenlabs", &[]);
}

#[test]
fn google_s_client_is_served_by_the_fake() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = TestCa::make(dir.path());
    let flags = ["--cert", &tls.cert, "--cert-key", &tls.key, "--scenario", "send_dtmf"];
    let fake = Fake::start(ProviderKind::Gemini, &flags);
    serves(&fake, "hosted", "with_gemini", &[("SSL_CERT_FILE", &tls.ca)]);
}

#[test]
fn pipecat_s_client_of_ultravox_is_served_by_the_fake() {
    let fake = Fake::start(ProviderKind::Ultravox, &["--scenario", "send_dtmf"]);
    serves(&fake, "pipecat", "with_pipecat", &[]);
}

#[test]
fn openai_s_client_is_served_by_the_strict_realtime_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = RealtimeServer::start(dir.path(), &["--seconds", "0.4", "--bearer", "key"]);
    converses(server.port, "hosted", "with_openai_realtime", &["key"], &[]);
    server.has_no_complaint();
}

/// Has a client converse with a fake, in the environment of Python that has it.
fn serves(fake: &Fake, environment: &str, script: &str, settings: &[(&str, &str)]) {
    converses(fake.port, environment, script, &[], settings);
}

fn converses(port: u16, environment: &str, script: &str, arguments: &[&str], settings: &[(&str, &str)]) {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers/{environment}/bin/python"));
    if !python.exists() {
        println!("No clients under target/tmp/peers/{environment}: skipped; gateway/tests/run installs them.");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/hosted/sdk/{script}.py"));
    let mut command = Command::new(python);
    command.arg("-B").arg(script).arg(port.to_string()).args(arguments).envs(settings.iter().copied());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("taken"), "{said}");
}
