//! The house rules that a compiler does not check.

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn only_the_gateway_knows_the_other_two() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut seen = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let (from, to) = (package["name"].as_str().unwrap_or(""), dependency["name"].as_str().unwrap_or(""));
            if to.starts_with("talkstack-") {
                seen.push(format!("{from} -> {to}"));
            }
        }
    }
    seen.sort();
    assert_eq!(seen, ["talkstack-gateway -> talkstack-control", "talkstack-gateway -> talkstack-media"]);
}

#[test]
fn the_top_level_is_the_customer_s() {
    let allowed = ["Cargo.toml", "Cargo.lock", "gateway", "control", "media", "config", "systemd", "README.md"];
    // What cargo and the daemon write themselves is not ours.
    let written = ["target", "data"];
    for entry in std::fs::read_dir(root()).expect("readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_fine = name.starts_with('.') || allowed.contains(&&*name) || written.contains(&&*name);
        assert!(is_fine, "{name} at the top level");
    }
}

#[test]
fn files_are_at_most_500_lines_before_their_tests() {
    for (path, text) in sources() {
        let lines = before_tests(&text).lines().count();
        let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        assert!(is_test || lines <= 500, "{} has {lines} lines", path.display());
    }
}

#[test]
fn no_test_sleeps_and_nothing_is_left_open() {
    // Spelt in parts, so that this file is not found by itself.
    let sleep = concat!("sle", "ep(");
    let forbidden =
        [concat!("to", "do!"), concat!("unimpl", "emented!"), concat!("unbounded", "_channel"), concat!("FIX", "ME")];
    for (path, text) in sources() {
        let tests = &text[before_tests(&text).len()..];
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        let slept = if is_test { text.contains(sleep) } else { tests.contains(sleep) };
        assert!(!slept, "{} sleeps in a test", path.display());
        for word in forbidden {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}

#[test]
fn types_have_at_most_15_fields_and_say_what_they_are() {
    let vague = ["Manager", "Helper", "Util"];
    for (path, text) in sources() {
        let mut fields: Option<(String, usize)> = None;
        for line in before_tests(&text).lines() {
            let declared =
                line.split("struct ").nth(1).filter(|_| line.ends_with('{') && !line.trim_start().starts_with("//"));
            if let Some(name) = declared {
                let name = name.split([' ', '<', '{']).next().unwrap_or_default().to_owned();
                assert!(!vague.iter().any(|word| name.contains(word)), "{}: {name}", path.display());
                fields = Some((name, 0));
            } else if line == "}" {
                fields = None;
            } else if let Some((name, count)) = &mut fields
                && line.starts_with("    ")
                && !line.starts_with("     ")
                && line.contains(": ")
                && !line.trim_start().starts_with("//")
            {
                *count += 1;
                assert!(*count <= 15, "{}: {name} has more than 15 fields", path.display());
            }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]").map_or(text, |at| &text[..at])
}

/// All Rust files of the three crates.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = ["gateway", "control", "media"].iter().map(|name| root().join(name)).collect();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources are where they should be");
    found
}
