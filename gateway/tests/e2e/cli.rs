//! Exit codes, and the one sentence that says what, where and what to do.

use std::io::Write;
use std::process::Output;

use crate::daemon::{Daemon, talkstack};

#[test]
fn a_bad_setting_exits_78_and_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("t.toml");
    std::fs::write(&file, "[sip]\nlisen = \"x\"\n").expect("written");
    let file = file.to_str().expect("text");
    for arguments in [&["--config", file][..], &["check-config", "--config", file], &["--rtp-ports", "9-1"]] {
        let output = talkstack(dir.path()).args(arguments).output().expect("starts");
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        one_sentence(&output);
    }
    let output = talkstack(dir.path()).arg("check-config").output().expect("starts");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_taken_or_cannot_be_written_exits_75() {
    let daemon = Daemon::serve(&[]);
    let other = tempfile::tempdir().expect("a directory");
    let file = other.path().join("file");
    std::fs::write(&file, "").expect("written");
    let (sip, http) = (daemon.sip().to_string(), daemon.http.expect("serves HTTP").to_string());
    let below_a_file = file.join("data");
    for (arguments, words) in [
        (vec!["--sip-listen", &sip], "sip.listen"),
        (vec!["--http-listen", &http], "http.listen"),
        (vec!["--sip-listen", "192.0.2.1:5060"], "192.0.2.1:5060"),
        (vec!["--store-dir", below_a_file.to_str().expect("text")], "store.dir"),
        (vec!["--store-dir", daemon.dir.to_str().expect("text")], "another talkstack"),
    ] {
        let output = talkstack(&other.path().join("data")).args(&arguments).output().expect("starts");
        assert_eq!(output.status.code(), Some(75), "{arguments:?}");
        assert!(one_sentence(&output).contains(words), "{arguments:?}: {}", one_sentence(&output));
    }
}

#[test]
fn a_command_without_a_daemon_exits_6_and_setup_makes_the_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = talkstack(dir.path()).args(["call", "list"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(6));
    one_sentence(&output);

    let daemon = Daemon::serve(&[]);
    let password = daemon.dir.join("password");
    std::fs::write(&password, "correct horse\n").expect("written");
    let setup = ["setup", "--admin-email", "me@example.com", "--password-file", password.to_str().expect("text")];
    assert_eq!(daemon.command(&setup), "me@example.com is the owner of the box.\n");
    let again = talkstack(&daemon.dir).args(setup).output().expect("starts");
    assert_eq!(again.status.code(), Some(1));
    assert!(one_sentence(&again).contains("has an owner already"));
    let missing = talkstack(&daemon.dir).args(["mail", "show", "99"]).output().expect("starts");
    assert_eq!(missing.status.code(), Some(3));
}

#[test]
fn what_the_box_keeps_is_for_its_own_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).expect("set");
    let output = talkstack(&data).args(["--sip-listen", "192.0.2.1:5060"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(75), "stops before it has made much");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("readable").permissions().mode() & 0o077;
    assert_eq!(mode(&data), 0, "an empty directory was made for the box");
    let daemon = Daemon::serve(&[]);
    for dir in [&data, &daemon.dir, &daemon.dir.join("outbox"), &daemon.dir.join("calls")] {
        for entry in std::fs::read_dir(dir).expect("readable").flatten() {
            // The log is the test's own.
            if entry.path().extension().is_none_or(|extension| extension != "log") {
                assert_eq!(mode(&entry.path()), 0, "{}", entry.path().display());
            }
        }
    }
}

#[test]
fn the_version_needs_no_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = talkstack(dir.path()).arg("version").env("TALKSTACK_CONFIG", "/nowhere").output().expect("starts");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn trunks_and_providers_are_added_listed_and_removed_with_secrets_from_files_and_stdin() {
    let daemon = Daemon::serve(&[]);
    let secret = daemon.dir.join("secret");
    std::fs::write(&secret, "hush\n").expect("written");
    let secret = secret.to_str().expect("text");
    let add = ["trunk", "add", "--name", "carrier", "--host", "127.0.0.1", "--port", "5070", "--transport", "tcp"];
    let more = ["--username", "me", "--password-file", secret, "--number", "+3612345678", "--default", "--json"];
    let added = daemon.command(&[&add[..], &more].concat());
    let added: serde_json::Value = serde_json::from_str(&added).expect("JSON");
    assert_eq!((&added["passwordSet"], &added["port"]), (&true.into(), &5070.into()));
    let listed = daemon.command(&["trunk", "list", "--json"]);
    let mut listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let state = listed[0].as_object_mut().and_then(|trunk| trunk.remove("state")).expect("the call plane tells it");
    assert_eq!(state["addresses"][0], "127.0.0.1:5070");
    assert_eq!(listed[0], added);
    let table = daemon.command(&["trunk", "list"]);
    assert!(table.starts_with("ID\tNAME\tHOST") && table.contains("+3612345678"), "{table}");
    let exit = |arguments: &[&str]| {
        let output = talkstack(&daemon.dir).args(arguments).output().expect("starts");
        one_sentence(&output);
        output.status.code()
    };
    assert_eq!(exit(&add), Some(4), "the name is taken");
    assert_eq!(exit(&["trunk", "add", "--name", "x", "--host", "a b"]), Some(1));
    assert_eq!(exit(&["trunk", "remove", "nobody"]), Some(3));
    let removed = daemon.command(&["trunk", "remove", "carrier", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&removed).expect("JSON")["id"], added["id"]);
    assert_eq!(daemon.command(&["trunk", "list", "--json"]), "[]\n");

    let provider = ["provider", "add", "--name", "p", "--base-url", "ws://127.0.0.1:9/v1", "--model", "m"];
    let mut child = talkstack(&daemon.dir)
        .args(provider)
        .args(["--api-key-file", "-", "--voice", "marin", "--json"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(b"sk-1\n").expect("written");
    let output = child.wait_with_output().expect("ends");
    let added: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&added["apiKeySet"], &added["voices"][0]), (&true.into(), &"marin".into()));
    assert!(daemon.command(&["provider", "list"]).contains("openai-realtime"));
    assert_eq!(daemon.command(&["provider", "remove", "p"]), "Removed p.\n");
}

#[test]
fn extensions_are_added_shown_changed_and_removed_and_a_password_is_printed_once() {
    let daemon = Daemon::serve(&[]);
    let added = daemon.command(&["extension", "add", "101", "--name", "Reception", "--number", "+3612345678"]);
    assert!(added.starts_with("Added Reception as 101.\nPassword: "), "{added}");
    let password = added.split_whitespace().nth(5).expect("a password").to_owned();
    let shown = json_of(&daemon, &["extension", "show", "101"]);
    assert_eq!((&shown["number"], &shown["contacts"]), (&"+3612345678".into(), &serde_json::json!([])));
    assert!(!shown.to_string().contains(&password) && !daemon.command(&["extension", "list"]).contains(&password));
    let secret = daemon.dir.join("extension password");
    std::fs::write(&secret, "one-of-our-own\n").expect("written");
    let secret = secret.to_str().expect("text");
    let own = ["extension", "add", "102", "--number", "+3612345678", "--password-file", secret];
    assert!(json_of(&daemon, &own).get("password").is_none(), "whoever chose it knows it");
    assert_ne!(json_of(&daemon, &["extension", "set", "101", "--new-password"])["password"], password.as_str());
    let cleared = json_of(&daemon, &["extension", "set", "101", "--clear", "number", "--name", "Desk"]);
    assert_eq!((&cleared["number"], &cleared["name"]), (&serde_json::Value::Null, &"Desk".into()));
    assert_eq!(exit_of(&daemon, &["extension", "add", "101"]), Some(4), "the user is taken");
    assert_eq!(exit_of(&daemon, &["extension", "show", "103"]), Some(3));
    assert_eq!(daemon.command(&["extension", "remove", "101"]), "Removed 101.\n");
}

#[test]
fn routes_are_added_moved_simulated_changed_and_removed_and_what_they_name_stays() {
    let daemon = Daemon::serve(&[]);
    daemon.command(&["extension", "add", "101", "--number", "+3612345678"]);
    let trunk = [
        "trunk",
        "add",
        "--name",
        "carrier",
        "--host",
        "127.0.0.1",
        "--username",
        "me",
        "--register",
        "--number",
        "+3612345678",
    ];
    assert_eq!(json_of(&daemon, &trunk)["register"], true);
    let changed = json_of(
        &daemon,
        &["trunk", "set", "carrier", "--register", "false", "--clear", "username", "--default", "true"],
    );
    let expected = (&false.into(), &serde_json::Value::Null, &true.into());
    assert_eq!((&changed["register"], &changed["username"], &changed["default"]), expected);
    let night =
        ["route", "add", "Night", "--from", "trunk:carrier", "--hours", "mon-fri 18:00-08:00", "--called", "9|X."];
    let night = [&night[..], &["--to", "extension:101:20", "--to", "trunk:carrier:+3611111111:30"]].concat();
    assert_eq!(json_of(&daemon, &night)["targets"][0]["ring_s"], 20);
    json_of(&daemon, &["route", "add", "Out", "--from", "extensions", "--to", "trunk:carrier"]);
    let moved = json_of(&daemon, &["route", "move", "Out", "1"]);
    assert_eq!((&moved[0]["name"], &moved[1]["name"]), (&"Out".into(), &"Night".into()));
    let table = daemon.command(&["route", "list"]);
    assert!(
        table.contains("trunk:carrier\tmon,tue,wed,thu,fri 18:00-08:00\textension:101:20 trunk:carrier:+3611111111:30"),
        "{table}"
    );
    let simulated = daemon.command(&["route", "simulate", "+3612345678", "--from", "extensions", "--caller", "101"]);
    assert!(simulated.contains("rule    ") && simulated.contains("trunk:carrier"), "{simulated}");
    assert!(json_of(&daemon, &["route", "simulate", "101", "--at", "2026-12-24T18:00:00+01:00"])["rule"].is_string());
    assert_eq!(
        json_of(&daemon, &["route", "set", "Night", "--clear", "hours", "--name", "Evening"])["hours"],
        serde_json::json!([])
    );
    assert!(daemon.command(&["route", "show", "Evening"]).contains("trunk:carrier"));
    for named in [["extension", "remove", "101"], ["trunk", "remove", "carrier"]] {
        assert_eq!(exit_of(&daemon, &named), Some(4), "a route names it");
    }
    assert_eq!(exit_of(&daemon, &["route", "add", "x", "--to", "moon"]), Some(2));
    assert_eq!(exit_of(&daemon, &["route", "add", "x", "--called", "[1-", "--to", "echo"]), Some(1));
    assert_eq!(exit_of(&daemon, &["call", "show", "CA00000000000000000000000000000000"]), Some(3));
    for route in ["Out", "Evening"] {
        assert_eq!(json_of(&daemon, &["route", "remove", route])["removed"], true);
    }
    assert_eq!(json_of(&daemon, &["trunk", "refusals"]), serde_json::json!([]));
}

/// The one document that a command prints with `--json`.
fn json_of(daemon: &Daemon, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&daemon.command(&[arguments, &["--json"]].concat())).expect("one JSON document")
}

fn exit_of(daemon: &Daemon, arguments: &[&str]) -> Option<i32> {
    let output = talkstack(&daemon.dir).args(arguments).output().expect("starts");
    output.status.code()
}

/// The last line of stderr; what is above it is the log.
fn one_sentence(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("talkstack: "), "{text}");
    last
}
