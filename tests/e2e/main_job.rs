//! The main job: agents' state is backed up without any setting, and comes back equal, here and on
//! another machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use testkit::tree::assert_equal;

use crate::desk::{Desk, private_file, recovery_code};
use crate::state;

const PASSPHRASE: &str = "correct horse battery";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn push_without_any_setting_and_pull_give_back_the_same_state() {
    let desk = Desk::new();
    let live = state::agents(&desk.home());

    let first = desk.ok(&["push"]);
    recovery_code(&first);
    assert!(first.text().contains("snapshot "), "{}", first.text());
    let second = desk.ok(&["push"]);
    assert!(second.text().contains("nothing changed"), "{}", second.text());
    assert!(!second.text().contains("RECOVERY"), "the code is shown once");
    assert_eq!(desk.snapshots().len(), 1);

    let to = desk.pull("latest", "out");
    assert_equal(&state::expected(&desk.home()), &state::restored(&to));
    let rows = state::rows(&live);
    assert_eq!(rows.last().unwrap(), "801|only in the log|");
    assert_eq!(state::rows(&state::restored_database(&to)), rows);
    assert_eq!(
        state::files_with(&desk.embedded(), b"sk-ant-LOGIN"),
        Vec::<std::path::PathBuf>::new()
    );

    // what is there already is left alone
    let again = desk.json(&["pull", "--to", text(&to)]);
    assert_eq!(
        (&again["created"], &again["replaced"]),
        (&Value::from(0), &Value::from(0)),
        "{again}"
    );

    // the agent goes on
    live.execute("INSERT INTO thread(title) VALUES('later')", []).unwrap();
    fs::write(desk.home().join(".claude/CLAUDE.md.new"), "more\n").unwrap();
    fs::remove_file(desk.home().join(".codex/bin/run")).unwrap();
    let made = desk.json(&["push"]);
    assert_eq!(made["result"], "made", "{made}");
    let now = desk.pull("latest", "now");
    assert_equal(&state::expected(&desk.home()), &state::restored(&now));
    assert_eq!(state::rows(&state::restored_database(&now)), state::rows(&live));
    let before = desk.pull("latest~1", "before");
    assert_equal(&state::restored(&to), &state::restored(&before));
    assert_eq!(state::rows(&state::restored_database(&before)), rows);
}

#[test]
fn a_pull_to_where_the_agents_live_brings_back_what_was_lost() {
    let desk = Desk::new();
    drop(state::agents(&desk.home()));
    desk.ok(&["push"]);
    let expected = state::expected(&desk.home());
    fs::remove_dir_all(desk.home().join(".claude")).unwrap();
    fs::write(desk.home().join(".codex/config.toml"), "broken").unwrap();

    // files would be replaced and nobody is there to ask
    desk.fails(17, "stopped-for-safety", &["pull"], &["1 file would be replaced", "--yes"]);
    assert!(!desk.home().join(".claude").exists());
    // a file that has to be left out of a snapshot as it does not parse is not replaced unsaved
    let ran = desk.ends(5, &["pull", "--yes"]);
    assert!(ran.err.contains("does not parse") && ran.err.contains("--overwrite always"));
    desk.ok(&["pull", "--yes", "--overwrite", "always"]);
    assert_equal(&expected, &state::expected(&desk.home()));
}

#[test]
fn another_machine_restores_with_the_recovery_code_and_with_the_passphrase() {
    let mut desk = Desk::new();
    let live = state::agents(&desk.home());
    let repo = desk.beside("usb disk");
    let passphrase = desk.beside("passphrase");
    private_file(&passphrase, PASSPHRASE);
    let init = desk.ok(&["init", "-r", text(&repo), "--password-file", text(&passphrase)]);
    let code = recovery_code(&init);
    desk.unset("AGENT_BACKUP_PASSWORD");
    // init wrote a configuration file: nothing has to be named any more, no passphrase is asked for
    desk.ok(&["push"]);
    let (expected, rows) = (state::expected(&desk.home()), state::rows(&live));

    for (n, secret) in
        [PASSPHRASE, code.as_str(), &code.to_lowercase().replace('-', " ")].iter().enumerate()
    {
        let mut other = Desk::new();
        other.set("AGENT_BACKUP_REPO", text(&repo));
        other.fails(12, "wrong-key", &["snapshots"], &["no key", "--password-file"]);
        other.set("AGENT_BACKUP_PASSWORD", secret);
        let to = other.pull("latest", "out");
        assert_equal(&expected, &state::restored(&to));
        assert_eq!(state::rows(&state::restored_database(&to)), rows);
        if n == 0 {
            // a key of its own: from now on it needs no passphrase
            other.ok(&["key", "enroll"]);
            other.unset("AGENT_BACKUP_PASSWORD");
            other.ok(&["snapshots"]);
        }
    }
}

#[test]
fn every_command_has_a_screen_and_a_document() {
    let desk = Desk::new();
    let live = state::agents(&desk.home());
    let id = desk.json(&["push"])["snapshot"]["id"].as_str().unwrap().to_owned();
    let settings = desk.home().join(".claude/settings.json");
    fs::write(&settings, "{\"model\":\"haiku\"}\n").unwrap();
    fs::write(desk.home().join(".claude/new"), "new").unwrap();
    desk.ok(&["push", "--tag", "second"]);
    drop(live);

    let short = &id[..8];
    let file = format!("{short}:claude-code/home/settings.json");
    for (args, words) in [
        (vec!["snapshots"], vec![&id[..12], "second", "claude-code, codex"]),
        (vec!["ls"], vec!["claude-code"]),
        (
            vec!["ls", "-l", "latest:claude-code/home"],
            vec!["settings.json", "dangling -> /nowhere/at all"],
        ),
        (vec!["ls", "-R", "latest~1:codex"], vec!["codex/home/sessions/2026/11/rollout-1.jsonl"]),
        (vec!["cat", &file], vec!["{\"model\":\"opus\"}"]),
        (vec!["find", "settings.json"], vec!["claude-code/home/settings.json"]),
        (vec!["diff", short], vec!["+ claude-code/home/new", "M claude-code/home/settings.json"]),
        (vec!["stats"], vec!["deduplication", "compression", "claude-code"]),
        (vec!["agents"], vec!["claude-code", "~/.claude", "codex/home"]),
        (vec!["agents", "--all"], vec!["aider", "not here", "~/.claude"]),
        (vec!["agents", "show", "codex"], vec!["id = \"codex\""]),
        (vec!["key", "list"], vec!["machine", "recovery"]),
        (vec!["completions", "bash"], vec!["agent-backup", "COMPREPLY"]),
        (vec!["man"], vec![".TH"]),
        (vec!["man", "push"], vec!["agent\\-backup"]),
        (vec!["push", "--dry-run"], vec!["claude-code/home", "codex/home"]),
        (vec!["pull", "--dry-run", "--to", "/nowhere"], vec!["create"]),
        (vec!["pull", "--to", "screen"], vec!["restored snapshot"]),
    ] {
        let ran = desk.ok(&args);
        for word in words {
            assert!(ran.text().contains(word), "{args:?}: no '{word}' in\n{}", ran.text());
        }
        let document = desk.json(&args);
        assert!(document.as_object().unwrap().len() > 1, "{args:?}: {document}");
        assert!(document.get("error").is_none(), "{document}");
    }
    let diff = desk.json(&["diff", short]);
    assert_eq!((&diff["added"], &diff["content"]), (&1.into(), &1.into()), "{diff}");
    let cat = desk.json(&["cat", &file]);
    let content = data_encoding::BASE64.decode(cat["content_base64"].as_str().unwrap().as_bytes());
    assert_eq!(content.unwrap(), b"{\"model\":\"opus\"}\n");
    let stats = desk.json(&["stats"]);
    assert_eq!(stats["snapshots_count"], 2);
    let stored = stats["stored_bytes"].as_u64().unwrap();
    assert_eq!(stored, bytes_below(&desk.embedded()), "what the directory holds");
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            meta if meta.is_dir() => bytes_below(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

#[test]
fn keys_are_added_replaced_and_removed() {
    let mut desk = Desk::new();
    fs::create_dir_all(desk.home().join(".claude/projects")).unwrap();
    fs::write(desk.home().join(".claude/x"), "x").unwrap();
    let code = recovery_code(&desk.ok(&["push"]));
    let (one, two) = (desk.beside("one"), desk.beside("two"));
    private_file(&one, "first passphrase\n");
    private_file(&two, "second passphrase\n");

    let added = desk.json(&["key", "add", "--label", "mine", "--new-password-file", text(&one)]);
    let id = added["added"].as_str().unwrap().to_owned();
    desk.ok(&["snapshots", "--password-file", text(&one)]);
    desk.ok(&["key", "passwd", "--new-password-file", text(&two)]);
    desk.ends(12, &["snapshots", "--password-file", text(&one)]);
    desk.ok(&["snapshots", "--password-file", text(&two)]);
    let keys = desk.json(&["key", "list"]);
    let kinds = |document: &Value| {
        let keys = document["keys"].as_array().unwrap();
        let mut kinds: Vec<String> =
            keys.iter().map(|key| key["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&keys), ["machine", "passphrase", "recovery"]);
    assert!(!keys.to_string().contains(&id), "the old passphrase is gone: {keys}");

    // a new code, then the old one goes
    let second = desk.json(&["key", "add", "--recovery"]);
    let second_code = second["recovery_code"].as_str().unwrap().to_owned();
    let old = keys["keys"].as_array().unwrap().iter().find(|key| key["kind"] == "recovery");
    desk.ok(&["key", "remove", old.unwrap()["id"].as_str().unwrap()]);
    desk.set("AGENT_BACKUP_PASSWORD", &code);
    desk.ends(12, &["snapshots"]);
    desk.set("AGENT_BACKUP_PASSWORD", &second_code);
    desk.ok(&["snapshots"]);

    // a passphrase in a file that others can read is refused, with the command that mends it
    desk.unset("AGENT_BACKUP_PASSWORD");
    fs::set_permissions(&two, fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["snapshots", "--password-file", text(&two)];
    desk.fails(19, "configuration", &args, &["others can read", "chmod 600"]);
}

#[test]
fn a_restore_into_hundreds_of_directories_needs_no_more_open_files_than_macos_grants() {
    let desk = Desk::new();
    let source = desk.beside("source");
    for n in 0..600 {
        let dir = source.join(format!("d{n}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), format!("{n}\n")).unwrap();
    }
    desk.ok(&["push", "--path", &format!("d={}", text(&source))]);
    let out = desk.beside("out");
    let mut command = std::process::Command::new("sh");
    let line = "ulimit -S -n 64; exec \"$0\" pull --to \"$1\"";
    command.args(["-c", line, crate::desk::BINARY, text(&out)]).current_dir(desk.beside(""));
    desk.surround(&mut command);
    let ran = crate::desk::Ran::new(command.output().unwrap(), "pull".to_owned());
    ran.ended(0);
    assert_eq!(fs::read_dir(out.join("d")).unwrap().count(), 600);
}
