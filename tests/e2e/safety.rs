//! Before a restore replaces anything: what is there is saved, and nobody is at work on it.

use std::fs::{self, File};

use serde_json::Value;
use testkit::server::Fault;

use crate::desk::Desk;
use crate::gate::bucket;
use crate::state;

const SETTINGS: &str = ".claude/settings.json";

/// A desk with a snapshot, and settings that were changed since.
fn changed() -> (Desk, String) {
    let desk = Desk::new();
    drop(state::agents(&desk.home()));
    desk.ok(&["push"]);
    let stored = fs::read_to_string(desk.home().join(SETTINGS)).unwrap();
    fs::write(desk.home().join(SETTINGS), "{\"model\": \"never pushed\"}\n").unwrap();
    (desk, stored)
}

fn settings(desk: &Desk) -> String {
    fs::read_to_string(desk.home().join(SETTINGS)).unwrap()
}

#[test]
fn a_restore_in_place_says_how_to_go_back_and_one_can() {
    let (desk, stored) = changed();
    let pull = ["pull", "--agent", "claude-code", "--yes"];
    let dry = desk.json(&[&pull[..], &["-n"]].concat());
    assert_eq!(dry["safety_snapshot"], true, "{dry}");
    let dry = desk.ok(&[&pull[..], &["-n"]].concat());
    assert!(dry.err.contains("would be saved in a safety snapshot first"), "{}", dry.err);
    assert_eq!(desk.snapshots().len(), 1, "a dry run saves nothing");

    let run = desk.ok(&pull);
    assert_eq!(settings(&desk), stored);
    let ids = desk.snapshots();
    assert_eq!(ids.len(), 2);
    let back = format!("to go back: agent-backup pull {}", &ids[1][..12]);
    assert!(run.err.contains(&back), "no '{back}' in {}", run.err);
    let listed = desk.ok(&["snapshots"]);
    assert!(listed.text().lines().any(|line| line.ends_with("safety")), "{}", listed.text());
    // what fits is neither saved nor replaced
    let again = desk.json(&pull);
    assert_eq!((&again["replaced"], &again["safety_snapshot"]), (&0.into(), &Value::Null));

    let went = desk.json(&["pull", &ids[1], "--yes"]);
    assert!(settings(&desk).contains("never pushed"));
    assert_eq!(went["snapshot"], ids[1].as_str());
    // it is as it was when the first one was made
    let made = went["safety_snapshot"].as_str().unwrap();
    assert!(desk.snapshots().iter().any(|id| id == made), "{went}");
    let latest = desk.json(&["pull", "--to", desk.beside("out").to_str().unwrap()]);
    assert_eq!(latest["snapshot"], ids[0].as_str(), "latest is no safety snapshot");
}

#[test]
fn a_restore_to_a_directory_saves_what_it_replaces_there() {
    let desk = Desk::new();
    let source = desk.beside("notes");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "stored").unwrap();
    desk.ok(&["push", "--path", &format!("notes={}", source.display())]);
    let to = desk.beside("out").display().to_string();
    assert_eq!(desk.json(&["pull", "--to", &to])["safety_snapshot"], Value::Null);
    let there = desk.beside("out/notes");
    fs::write(there.join("a"), "mine").unwrap();
    fs::write(there.join("b"), "mine too").unwrap();
    let run = desk.json(&["pull", "--to", &to, "--delete"]);
    assert!(!there.join("b").exists());
    let id = run["safety_snapshot"].as_str().unwrap();
    desk.ok(&["pull", id, "--to", &to]);
    assert_eq!(fs::read_to_string(there.join("a")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(there.join("b")).unwrap(), "mine too");
    // told not to
    let before = desk.snapshots().len();
    let run = desk.json(&["pull", "--to", &to, "--no-safety-snapshot"]);
    assert_eq!((&run["replaced"], &run["safety_snapshot"]), (&1.into(), &Value::Null));
    assert_eq!(desk.snapshots().len(), before);
}

#[test]
fn what_cannot_be_saved_is_not_replaced_and_the_way_on_is_named() {
    let (desk, stored) = changed();
    let lock = File::options().write(true).open(desk.repo_state().join("lock")).unwrap();
    lock.lock().unwrap();
    let pull = ["pull", "--yes"];
    let words = ["nothing was restored", "could not be saved", "--no-safety-snapshot"];
    desk.fails(11, "busy", &pull, &words);
    assert!(settings(&desk).contains("never pushed"));
    desk.ok(&[&pull[..], &["--no-safety-snapshot"]].concat());
    assert_eq!(settings(&desk), stored);
}

#[test]
fn a_storage_that_takes_nothing_stops_a_restore_with_its_own_code() {
    let (server, mut desk) = bucket();
    desk.ok(&["init", "--no-passphrase"]);
    let note = desk.beside("notes/a");
    fs::create_dir_all(note.parent().unwrap()).unwrap();
    fs::write(&note, "stored").unwrap();
    desk.ok(&["push", "--path", &format!("notes={}", note.parent().unwrap().display())]);
    desk.set("AGENT_BACKUP_RETRY", "0");
    fs::write(&note, "never pushed").unwrap();
    let told = "what is there could not be saved first";
    for (fault, code, name, word) in [
        (Fault::NoCapability, 13, "storage-denied", "check the key id"),
        (Fault::CapExceeded, 14, "storage-cap", "raise the cap"),
        (Fault::Close, 15, "storage-unreachable", "check the network"),
    ] {
        server.on(move |request| (request.method == "PUT").then(|| fault.clone()));
        let words = [told, word, "--no-safety-snapshot"];
        desk.fails(code, name, &["pull", "--yes"], &words);
        assert_eq!(fs::read_to_string(&note).unwrap(), "never pushed", "{name}");
    }
    // one may read, and be told to go on with that
    desk.ok(&["pull", "--yes", "--no-safety-snapshot"]);
    assert_eq!(fs::read_to_string(&note).unwrap(), "stored");
}

/// Elsewhere nobody can look.
#[cfg(target_os = "linux")]
mod under_an_agent {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A program with this name that waits, as somebody with this home.
    fn program(desk: &Desk, name: &str, home: &Path) -> Child {
        use std::os::unix::fs::PermissionsExt as _;
        let path = desk.beside(name);
        if !path.exists() {
            fs::write(&path, "#!/bin/sh\necho up\nread wait\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(path);
        desk.surround(&mut command);
        command.env("HOME", home).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        child
    }

    #[test]
    fn nothing_is_restored_under_an_agent_that_runs() {
        let (desk, stored) = changed();
        // another user's, or another home's, is not ours
        let mut other = program(&desk, "claude", &desk.beside("elsewhere"));
        let mut codex = program(&desk, "codex", &desk.home());
        let pull = ["pull", "--agent", "claude-code", "--yes"];
        let mut claude = program(&desk, "claude", &desk.home());
        let named = format!("claude (process {})", claude.id());
        let words = [named.as_str(), "claude-code runs", "--while-running"];
        desk.fails(17, "stopped-for-safety", &pull, &words);
        assert!(settings(&desk).contains("never pushed"));
        assert_eq!(desk.snapshots().len(), 1);
        let dry = desk.ok(&[&pull[..], &["-n"]].concat());
        assert!(dry.err.contains("would be refused") && dry.err.contains(&named), "{}", dry.err);
        let dry = desk.json(&[&pull[..], &["-n"]].concat());
        assert!(dry["running"].as_str().unwrap().contains(&named), "{dry}");
        // its files are not touched there
        desk.ok(&["pull", "--to", desk.beside("out").to_str().unwrap()]);

        desk.ok(&[&pull[..], &["--while-running"]].concat());
        assert_eq!(settings(&desk), stored);
        fs::write(desk.home().join(SETTINGS), "{}").unwrap();
        drop(claude.stdin.take());
        claude.wait().unwrap();
        desk.ok(&pull);
        assert_eq!(settings(&desk), stored);
        for child in [&mut other, &mut codex] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
