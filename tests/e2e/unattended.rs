//! `doctor` on what should make backups by themselves: each fault is found, and its mend mends it.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::desk::{BINARY, Desk, Ran, private_file, recovery_code};
use crate::service::{managers, mark, unit};

/// A machine on which everything is as it should be: an agent, a push, a service that runs and lingers.
fn healthy() -> Desk {
    let mut desk = Desk::new();
    managers(&mut desk);
    let dir = desk.home().join(".claude");
    fs::create_dir_all(dir.join("projects/p")).unwrap();
    fs::write(dir.join("settings.json"), "{\"cleanupPeriodDays\": 3650}\n").unwrap();
    fs::write(dir.join("projects/p/s.jsonl"), "{\"type\":\"user\"}\n").unwrap();
    let config = desk.home().join(".config/agent-backup/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    let repo = desk.beside("repo");
    private_file(&config, &format!("repo = \"{}\"\n[daemon]\npush = \"hourly\"\n", repo.display()));
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    desk.ok(&["push"]);
    desk.ok(&["service", "install"]);
    fs::write(mark(&desk, "lingers"), "").unwrap();
    desk
}

fn complaints(document: &Value, check: &str) -> Vec<Value> {
    let wrong = |one: &&Value| one["level"] == "fault" || one["level"] == "advice";
    let all = document["findings"].as_array().unwrap().iter().filter(wrong);
    all.filter(|one| one["check"] == check).cloned().collect()
}

fn examine(desk: &Desk) -> Value {
    let ran = desk.run(&["doctor", "--json"]);
    assert!(ran.code < 2, "{}", ran.err);
    ran.document()
}

/// Runs the mend of a finding, and `doctor` again.
#[track_caller]
fn is_found_and_mended(desk: &Desk, what: &str, check: &str) {
    let document = examine(desk);
    let found = complaints(&document, check);
    let command = found.iter().find_map(|one| one["mend"].as_str());
    let command = command.unwrap_or_else(|| panic!("{what}: no mend of {check} in {document:#}"));
    let mut shell = Command::new("/bin/sh");
    desk.surround(&mut shell);
    let bin = Path::new(BINARY).parent().unwrap().display();
    shell.env("PATH", format!("{}:{bin}:/usr/bin:/bin", desk.beside("tools").display()));
    let output = shell.arg("-c").arg(command).current_dir(desk.beside("")).output().unwrap();
    let ran = Ran::new(output, command.to_owned());
    ran.ended(0);
    let after = examine(desk);
    let left = complaints(&after, check);
    assert!(left.is_empty(), "{what}: `{command}` left {left:#?}");
}

type Seed = fn(&Desk);

const FAULTS: [(&str, &str, Seed); 8] = [
    ("a service that is switched off", "service-disabled", |d| {
        fs::remove_file(mark(d, "enabled")).unwrap();
    }),
    ("a service that failed", "service-failed", |d| {
        fs::write(mark(d, "failed"), "").unwrap();
    }),
    ("a service that somebody stopped", "service-failed", |d| {
        fs::remove_file(mark(d, "active")).unwrap();
    }),
    ("a program that is gone", "service-program", |d| {
        let text = fs::read_to_string(unit(d)).unwrap();
        fs::write(unit(d), text.replace(BINARY, "/nonexistent/agent-backup")).unwrap();
    }),
    ("a program that cannot be started", "service-program", |d| {
        let copy = d.beside("agent backup");
        fs::write(&copy, "").unwrap();
        let text = fs::read_to_string(unit(d)).unwrap();
        fs::write(unit(d), text.replace(BINARY, &format!("\"{}\"", copy.display()))).unwrap();
    }),
    ("no session, no service", "service-linger", |d| {
        fs::remove_file(mark(d, "lingers")).unwrap();
    }),
    ("a schedule that nobody follows", "no-daemon", |d| {
        d.ok(&["service", "uninstall"]);
    }),
    ("a push that is two intervals old", "push-overdue", |d| {
        let path = d.repo_state().join("done/push.json");
        let mut journal: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let ago = Timestamp::now() - jiff::SignedDuration::from_hours(4);
        journal["at"] = json!(ago.to_string());
        private_file(&path, &journal.to_string());
    }),
];

#[test]
fn faults_of_the_service_are_found_and_their_mends_work() {
    let desk = healthy();
    for (what, check, seed) in FAULTS {
        let before = examine(&desk);
        assert!(complaints(&before, check).is_empty(), "before {what}: {before:#}");
        seed(&desk);
        is_found_and_mended(&desk, what, check);
    }
    assert_eq!(examine(&desk)["faults"], 0);
}

#[test]
fn who_runs_backups_in_another_way_is_not_told_to_install_a_service() {
    let desk = healthy();
    desk.ok(&["service", "uninstall"]);
    let timer = desk.home().join(".config/systemd/user/nightly.service");
    fs::write(&timer, "[Service]\n#ExecStart=agent-backup\nExecStart=true\n").unwrap();
    assert_eq!(complaints(&examine(&desk), "no-daemon").len(), 1, "a comment runs nothing");
    fs::write(&timer, "[Service]\nExecStart=/usr/bin/agent-backup push --quiet\n").unwrap();
    assert_eq!(complaints(&examine(&desk), "no-daemon"), [] as [Value; 0]);
    fs::remove_file(&timer).unwrap();
    let crontab = desk.beside("tools/crontab");
    fs::write(&crontab, "#!/bin/sh\necho '17 * * * *  agent-backup push --quiet'\n").unwrap();
    let mut mode = fs::metadata(desk.beside("tools/systemctl")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&crontab, mode).unwrap();
    assert_eq!(complaints(&examine(&desk), "no-daemon"), [] as [Value; 0]);
    // a manager that cannot be asked is no fault of the service
    fs::remove_file(&crontab).unwrap();
    desk.ok(&["service", "install"]);
    fs::write(mark(&desk, "broken"), "").unwrap();
    let document = examine(&desk);
    let all = document["findings"].as_array().unwrap();
    let told = all.iter().find(|one| one["check"] == "service").unwrap();
    assert_eq!(told["level"], "unchecked", "{told:#}");
}
