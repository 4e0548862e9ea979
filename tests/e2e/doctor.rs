//! `doctor`: one fault after the other, each found, each mended by the command that is printed, and then
//! not found any more. The command is run as a user would run it: by a shell, in the same session.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::Server;
use testkit::server::{Config, Fault};

use crate::desk::{BINARY, Desk, Ran, private_file, recovery_code};
use crate::gate::{bucket, point_to};

/// What is wrong, and whether this is about `check`.
fn complaints(document: &Value, check: &str) -> Vec<Value> {
    let wrong = |one: &&Value| one["level"] == "fault" || one["level"] == "advice";
    let all = document["findings"].as_array().unwrap().iter().filter(wrong);
    all.filter(|one| one["check"] == check).cloned().collect()
}

fn faults(document: &Value) -> Vec<Value> {
    let all = document["findings"].as_array().unwrap().iter();
    all.filter(|one| one["level"] == "fault").cloned().collect()
}

/// Runs doctor: code 0 or 1 as it found faults, and nothing else.
#[track_caller]
fn examine(desk: &Desk) -> Value {
    let ran = desk.run(&["doctor", "--json"]);
    let document = ran.document();
    ran.ended(i32::from(document["faults"] != 0));
    document
}

/// Runs a mend and doctor after it, in one shell.
#[track_caller]
fn mend(desk: &Desk, command: &str) -> Value {
    let mut shell = Command::new("/bin/sh");
    desk.surround(&mut shell);
    let bin = Path::new(BINARY).parent().unwrap().display();
    shell.env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"));
    let script = format!("{{ {command}; }} >/dev/null && agent-backup doctor --json");
    let output = shell.arg("-c").arg(&script).current_dir(desk.beside("")).output().unwrap();
    let ran = Ran::new(output, script);
    assert!(ran.code < 2, "{}\n{}", ran.what, ran.err);
    serde_json::from_str(ran.text()).unwrap_or_else(|e| panic!("{}: {e}\n{}", ran.what, ran.err))
}

/// A fault is found, and its mend mends it.
#[track_caller]
fn is_found_and_mended(desk: &Desk, what: &str, check: &str) {
    let document = examine(desk);
    let found = complaints(&document, check);
    assert!(!found.is_empty(), "{what}: no {check} in {document:#}");
    let command = found.iter().find_map(|one| one["mend"].as_str());
    let command = command.unwrap_or_else(|| panic!("{what}: no mend in {found:#?}"));
    let after = mend(desk, command);
    let left = complaints(&after, check);
    assert!(left.is_empty(), "{what}: `{command}` left {left:#?}");
}

fn config_path(desk: &Desk) -> PathBuf {
    desk.home().join(".config/agent-backup/config.toml")
}

/// `top` stands before all sections, `push` in the section of that name, `rest` behind.
fn configure(desk: &Desk, top: &str, push: &str, rest: &str) {
    let repo = desk.beside("repo");
    let text = format!("repo = \"{}\"\n{top}\n[push]\n{push}\n{rest}\n", repo.display());
    let path = config_path(desk);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    private_file(&path, &text);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const KEEPS: &str = "{\"cleanupPeriodDays\": 3650}\n";

fn claude(desk: &Desk) -> PathBuf {
    let dir = desk.home().join(".claude");
    fs::create_dir_all(dir.join("projects/p")).unwrap();
    fs::write(dir.join("settings.json"), KEEPS).unwrap();
    fs::write(dir.join("projects/p/s.jsonl"), "{\"type\":\"user\"}\n").unwrap();
    dir
}

/// Everything as it should be: one agent, one repository, one push.
fn healthy() -> Desk {
    let desk = Desk::new();
    claude(&desk);
    configure(&desk, "", "", "");
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    desk.ok(&["push"]);
    desk
}

/// The file with the state of one thing, changed.
fn change_state(path: &Path, key: &str, value: Value) {
    let text = fs::read_to_string(path).unwrap_or_else(|_| "{}".to_owned());
    let mut state: Value = serde_json::from_str(&text).unwrap();
    state[key] = value;
    private_file(path, &state.to_string());
}

/// An id that no operation has.
fn other_id(desk: &Desk) -> String {
    let id = desk.snapshots().pop().unwrap();
    let first = if id.starts_with('0') { "1" } else { "0" };
    format!("{first}{}", &id[1..])
}

type Seed = fn(&mut Desk);

/// Faults of the configuration and the variables; none needs the repository.
const SETTINGS: [(&str, &str, Seed); 14] = [
    ("a misspelt key", "configuration", |d| configure(d, "", "exlude = [\"*.iso\"]", "")),
    ("a bad value", "configuration", |d| configure(d, "", "limit_upload = \"fast\"", "")),
    ("encrypt = false", "configuration", |d| configure(d, "encrypt = false", "", "")),
    ("a bad entry of what to ignore", "configuration", |d| {
        fs::write(config_path(d).with_file_name("secrets-ignore"), "rule:jwt\njwt\n").unwrap();
    }),
    ("a secret in a file that others read", "configuration", |d| {
        configure(d, "", "", "[storage]\nkey_id = \"k\"\nsecret_key = \"s\"");
        chmod(&config_path(d), 0o644);
    }),
    ("a passphrase that others read", "password-file", |d| {
        private_file(&d.home().join("pass"), "hunter2\n");
        chmod(&d.home().join("pass"), 0o640);
        configure(d, "password_file = \"~/pass\"", "", "");
    }),
    ("a file of a passphrase that is not there", "password-file", |d| {
        configure(d, "password_file = \"~/nowhere\"", "", "");
    }),
    ("a storage key that others read", "storage-key-file", |d| {
        private_file(&d.home().join("key"), "secret\n");
        chmod(&d.home().join("key"), 0o644);
        configure(d, "", "", "[storage]\nkey_id = \"k\"\nsecret_key_file = \"~/key\"");
    }),
    ("a variable that names no file", "configuration", |d| {
        d.set("AGENT_BACKUP_CONFIG", "/nonexistent/config.toml");
    }),
    ("a variable that is no number", "configuration", |d| d.set("AGENT_BACKUP_RETRY", "soon")),
    ("an address that is none", "configuration", |d| d.set("AGENT_BACKUP_REPO", "https://x/y")),
    ("no encryption wanted", "configuration", |d| d.set("B2_ENCRYPT", "false")),
    ("half a storage key", "configuration", |d| d.set("B2_KEY_ID", "004aa")),
    ("an adapter that is wrong", "adapter", |d| {
        let dir = config_path(d).with_file_name("agents");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("mine.toml"), "version = 1\nid = 7\n").unwrap();
    }),
];

/// Faults of this machine: agents and our own files.
const MACHINE: [(&str, &str, Seed); 12] = [
    ("an agent that nobody knows", "agent-unknown", |d| {
        configure(d, "", "agents = [\"claude-code\", \"claude-cod\"]", "");
    }),
    ("an agent that is not here", "agent-absent", |d| {
        configure(d, "", "agents = [\"codex\", \"claude-code\"]", "");
    }),
    ("a directory that is gone", "path-gone", |d| {
        configure(d, "", "", "[push.paths]\nnotes = \"/nonexistent/notes\"");
    }),
    ("an agent that was removed", "agent-gone", |d| {
        fs::remove_dir_all(d.home().join(".claude")).unwrap();
    }),
    ("Claude Code deletes", "claude-code-retention", |d| {
        let text = "{\n  \"model\": \"opus\",\n  \"cleanupPeriodDays\": 30\n}\n";
        fs::write(d.home().join(".claude/settings.json"), text).unwrap();
    }),
    ("Gemini CLI deletes", "gemini-cli-retention", |d| {
        fs::create_dir_all(d.home().join(".gemini")).unwrap();
        fs::write(d.home().join(".gemini/settings.json"), "{\"general\": {\"vim\": true}}")
            .unwrap();
    }),
    ("a machine key that others read", "machine-key", |d| {
        chmod(&d.repo_state().join("machine.key"), 0o644);
    }),
    ("state that others see", "state-open", |d| {
        chmod(&d.home().join(".local/state/agent-backup"), 0o755);
    }),
    ("a damaged key of fingerprints", "secrets-key", |d| {
        private_file(&d.home().join(".local/state/agent-backup/secrets.key"), "zz\n");
    }),
    ("a damaged state", "push-state", |d| {
        private_file(&d.repo_state().join("state.json"), "{\"counter\": ");
    }),
    ("a damaged memory of gc", "gc-state", |d| {
        fs::create_dir_all(d.repo_state().join("gc")).unwrap();
        chmod(&d.repo_state().join("gc"), 0o700);
        private_file(&d.repo_state().join("gc/state.json"), "\0\0\0");
    }),
    ("a file where the cache should be", "cache-directory", |d| {
        let cache = d.home().join(".cache/agent-backup");
        fs::remove_dir_all(&cache).unwrap();
        fs::write(cache, "").unwrap();
    }),
];

/// Faults of the repository, and what crashes leave. The last ones change what comes after them.
const REPOSITORY: [(&str, &str, Seed); 9] = [
    ("a push that was cut short", "unfinished-push", |d| {
        change_state(&d.repo_state().join("state.json"), "unfinished", json!(other_id(d)));
    }),
    ("a collection that was cut short", "unfinished-gc", |d| {
        fs::create_dir_all(d.repo_state().join("gc")).unwrap();
        change_state(&d.repo_state().join("gc/state.json"), "unfinished", json!(other_id(d)));
    }),
    ("an operation of a machine that is gone", "stale-operations", |d| {
        // not the id that the cases before have declared dead
        let id: String = other_id(d).chars().rev().collect();
        let path = d.beside("repo").join("op").join(id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        let touched = Command::new("touch").args(["-d", "2 days ago"]).arg(&path).status().unwrap();
        assert!(touched.success());
    }),
    ("a stranger's file", "strangers", |d| {
        fs::create_dir_all(d.beside("repo/notes")).unwrap();
        fs::write(d.beside("repo/notes/x"), "mine").unwrap();
    }),
    ("no recovery code", "recovery", |d| {
        let keys = d.json(&["key", "list"]);
        let all = keys["keys"].as_array().unwrap();
        let code = all.iter().find(|key| key["kind"] == "recovery").unwrap();
        d.ok(&["key", "remove", code["id"].as_str().unwrap()]);
    }),
    ("no key of this machine", "machine-key", |d| {
        private_file(&d.home().join("pass"), "correct horse\n");
        let pass = d.home().join("pass");
        d.ok(&["key", "add", "--new-password-file", pass.to_str().unwrap()]);
        configure(d, "password_file = \"~/pass\"", "", "");
        fs::remove_file(d.repo_state().join("machine.key")).unwrap();
    }),
    ("a damaged machine id", "machine-id", |d| {
        private_file(&d.home().join(".local/state/agent-backup/machine-id"), "me\n");
    }),
    ("a repository to which nothing was pushed", "push-age", |d| {
        let repo = d.beside("second");
        d.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
        d.ok(&["init", "--no-passphrase"]);
    }),
    ("no repository", "repository", |d| {
        let repo = d.beside("third");
        d.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    }),
];

/// Seeds one fault after the other into a healthy desk, which each mend makes healthy again.
fn all_are_found_and_mended(cases: &[(&str, &str, Seed)]) {
    let mut desk = healthy();
    for (what, check, seed) in cases {
        let before = examine(&desk);
        assert!(faults(&before).is_empty(), "before {what}: {before:#}");
        assert!(complaints(&before, check).is_empty(), "before {what}: {before:#}");
        seed(&mut desk);
        is_found_and_mended(&desk, what, check);
        for name in [
            "AGENT_BACKUP_CONFIG",
            "AGENT_BACKUP_RETRY",
            "AGENT_BACKUP_REPO",
            "B2_ENCRYPT",
            "B2_KEY_ID",
        ] {
            desk.unset(name);
        }
        configure(&desk, "", "", "");
        desk.ok(&["push", "--always"]);
    }
}

#[test]
fn faults_of_settings_are_found_and_their_mends_work() {
    all_are_found_and_mended(&SETTINGS);
}

#[test]
fn faults_of_the_machine_are_found_and_their_mends_work() {
    all_are_found_and_mended(&MACHINE);
}

#[test]
fn faults_of_the_repository_are_found_and_their_mends_work() {
    all_are_found_and_mended(&REPOSITORY);
}

#[test]
fn a_healthy_machine_gets_no_command_to_run() {
    let desk = healthy();
    let document = examine(&desk);
    assert_eq!(document["faults"], 0, "{document:#}");
    let mends: Vec<_> = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["mend"] != json!(null))
        .collect();
    assert!(mends.is_empty(), "{mends:#?}");
    let said = desk.ok(&["doctor"]);
    assert!(said.text().contains("nothing has to be mended"), "{}", said.text());
}

#[test]
fn a_probe_leaves_nothing_behind() {
    let desk = healthy();
    let listing = || {
        let mut names: Vec<_> =
            fs::read_dir(desk.beside("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    let document = desk.json(&["doctor", "--probe"]);
    let tried = document["findings"].as_array().unwrap().iter();
    let tried: Vec<_> =
        tried.filter(|one| one["check"].as_str().unwrap().starts_with("probe-")).collect();
    assert!(tried.len() >= 5 && tried.iter().all(|one| one["level"] == "fine"), "{tried:#?}");
    assert_eq!(listing(), before);

    let (server, desk) = bucket();
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    claude(&desk);
    desk.ok(&["push"]);
    let before = server.keys();
    let document = desk.json(&["doctor", "--probe"]);
    assert_eq!(faults(&document), [] as [Value; 0], "{document:#}");
    assert_eq!(server.keys(), before, "keys of the probe are left");
    let probed = server.requests().into_iter().filter(|r| r.key.contains("doctor-")).count();
    assert!(probed > 8, "{probed} requests");
    let inside = server.requests().into_iter().any(|r| r.key.starts_with("agents/probe"));
    assert!(!inside, "a probe in the repository");
    desk.ok(&["gc"]);
}

#[test]
fn a_bucket_is_asked_for_its_rules_clock_and_region() {
    let expires = "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix/></Filter>\
                   <Expiration><Days>90</Days></Expiration></Rule></LifecycleConfiguration>";
    let config =
        Config { lifecycle: Some(expires.to_owned()), ahead_secs: -3_600, ..Config::default() };
    let server = Server::start(config).unwrap();
    let mut desk = Desk::new();
    point_to(&mut desk, &server);
    claude(&desk);
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    desk.ok(&["push"]);
    let document = examine(&desk);
    let mut found: Vec<_> =
        faults(&document).iter().map(|one| one["check"].as_str().unwrap().to_owned()).collect();
    found.sort();
    assert_eq!(found, ["clock", "lifecycle"], "{document:#}");

    // a key that may not ask is told apart from a bucket without rules
    server.on(|request| request.query.contains("lifecycle=").then_some(Fault::NoCapability));
    let document = examine(&desk);
    let all = document["findings"].as_array().unwrap();
    let told = all.iter().find(|one| one["check"] == "lifecycle").unwrap();
    assert_eq!(told["level"], "unchecked", "{told:#}");

    server.heal();
    desk.set("AGENT_BACKUP_REGION", "eu-central-003");
    is_found_and_mended(&desk, "a wrong region", "region");
    let region = server.config().region.clone();
    desk.set("AGENT_BACKUP_REGION", &region);
    server.on(|_| Some(Fault::BadKey));
    let document = examine(&desk);
    assert_eq!(faults(&document).last().unwrap()["check"], "storage-key", "{document:#}");
}
