//! The daemon and `status`, as somebody meets them who installs them and forgets them.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::desk::{Desk, Ran, end, private_file};

/// Nothing here takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PASSPHRASE: &str = "correct horse battery";

/// A machine with an agent, a repository and a configuration that has these lines at its end.
fn machine(config: &str) -> Desk {
    let desk = Desk::new();
    let agent = desk.home().join(".claude/projects/p");
    fs::create_dir_all(&agent).unwrap();
    fs::write(agent.join("s.jsonl"), "{\"n\":1}\n").unwrap();
    fs::write(desk.home().join(".claude/settings.json"), "{}").unwrap();
    let repository = desk.beside("repository");
    configure_for(&desk, &desk, config);
    let pass = desk.beside("pass");
    private_file(&pass, PASSPHRASE);
    let args =
        ["init", "-r", repository.to_str().unwrap(), "--password-file", pass.to_str().unwrap()];
    desk.ok(&args);
    desk
}

/// A configuration for the repository that lies beside the home of `owner`.
fn configure_for(desk: &Desk, owner: &Desk, more: &str) {
    let dir = desk.home().join(".config/agent-backup");
    fs::create_dir_all(&dir).unwrap();
    let (repository, pass) = (owner.beside("repository"), owner.beside("pass"));
    let (repository, pass) = (repository.display(), pass.display());
    let text = format!("repo = \"{repository}\"\npassword_file = \"{pass}\"\n{more}");
    private_file(&dir.join("config.toml"), &text);
}

/// Waits until `status` says what is waited for.
#[track_caller]
fn until(desk: &Desk, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let ran = desk.run(&["status", "--offline", "--json"]);
        let document: Value = serde_json::from_str(ran.text()).unwrap();
        if is(&document) {
            return document;
        }
        assert!(began.elapsed() < PATIENCE, "{what} never came: {document}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn job<'a>(document: &'a Value, name: &str) -> &'a Value {
    let jobs = document["jobs"].as_array().unwrap();
    jobs.iter().find(|job| job["job"] == name).unwrap_or(&Value::Null)
}

fn pushed(document: &Value) -> bool {
    job(document, "push")["done"].is_string() && job(document, "push")["running_since"].is_null()
}

fn stop(daemon: Child) -> Ran {
    let id = Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    end(daemon)
}

#[test]
fn f10_a_daemon_pushes_at_its_start_and_at_its_end_and_nothing_is_left_of_it() {
    let desk = machine("");
    let daemon = desk.start(&["daemon"]);
    let document = until(&desk, "a push", pushed);
    assert_eq!(document["daemon"]["running"], true);
    assert_eq!(document["daemon"]["process"], daemon.id());
    assert_eq!(document["agents"][0]["agent"], "claude-code");
    assert!(job(&document, "push")["next"].is_string(), "{document}");
    desk.ok(&["status"]);
    // what changed since the start is in the last push
    fs::write(desk.home().join(".claude/projects/p/t.jsonl"), "{\"n\":2}\n").unwrap();
    let ran = stop(daemon);
    ran.ended(0);
    assert_eq!(desk.snapshots().len(), 2, "{}", ran.err);
    let out = desk.pull("latest", "out");
    assert!(out.join("claude-code/home/projects/p/t.jsonl").exists());
    let document = desk.json(&["status"]);
    assert_eq!(document["daemon"]["running"], false);
    assert!(document["daemon"]["ended"].is_string());
    assert_eq!(document["storage"]["snapshots"], 2);
    assert_eq!(fs::read_dir(desk.tmp()).unwrap().count(), 0, "nothing in TMPDIR");
    fs::rename(desk.beside("repository"), desk.beside("elsewhere")).unwrap();
    let ran = desk.ends(10, &["status"]);
    assert!(ran.text().contains("1 snapshot; as of "), "what the daemon saw: {}", ran.text());
}

#[test]
fn f9_a_second_daemon_is_told_who_runs_and_what_a_killed_one_left_blocks_nobody() {
    let desk = machine("");
    let mut daemon = desk.start(&["daemon"]);
    until(&desk, "a push", pushed);
    let id = daemon.id().to_string();
    desk.fails(11, "busy", &["daemon"], &["a daemon for this repository runs here already", &id]);
    // by another address of the same repository: found when it is opened
    let link = desk.beside("link");
    std::os::unix::fs::symlink(desk.beside("repository"), &link).unwrap();
    let other = desk.ends(11, &["-r", link.to_str().unwrap(), "daemon"]);
    assert!(other.err.contains("a daemon for this repository runs here already"), "{}", other.err);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let document = until(&desk, "the end", |document| document["daemon"]["running"] == false);
    assert!(document["daemon"].get("ended").is_none(), "it did not end by itself: {document}");
    let daemon = desk.start(&["daemon"]);
    until(&desk, "a daemon again", |document| document["daemon"]["running"] == true);
    stop(daemon).ended(0);
}

#[test]
fn f8_what_is_wrong_at_the_first_start_is_told_at_once_with_its_code() {
    let desk = Desk::new();
    // F8 of agent-backup-core: found only after the first push
    configure_for(&desk, &desk, "[daemon]\npush = \"now and then\"\n");
    desk.fails(
        19,
        "configuration",
        &["daemon"],
        &["config.toml:4", "'now and then' is no schedule"],
    );
    configure_for(&desk, &desk, "");
    fs::create_dir_all(desk.home().join(".claude")).unwrap();
    fs::write(desk.home().join(".claude/settings.json"), "{}").unwrap();
    let ran = desk.ends(10, &["daemon"]);
    assert!(
        ran.err.contains("code: 10 no-repository") && ran.err.contains("agent-backup init"),
        "{}",
        ran.err
    );
    assert_eq!(desk.json_ends(10, &["daemon"])["error"]["name"], "no-repository");
    assert!(!desk.beside("repository").exists(), "never made by accident");
}

#[test]
fn d8_a_new_machine_gets_everything_back_before_its_first_push_and_only_once() {
    let old = machine("");
    old.ok(&["push"]);
    let new = Desk::new();
    // no directory of any agent is there: D8 of agent-backup-core
    configure_for(&new, &old, "");
    let daemon = new.start(&["daemon"]);
    let document = until(&new, "a push", pushed);
    assert!(
        job(&document, "restore")["did"].as_str().unwrap().starts_with("nothing was here: "),
        "{document}"
    );
    let file = new.home().join(".claude/projects/p/s.jsonl");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"n\":1}\n");
    stop(daemon).ended(0);
    // what somebody removes on purpose does not come back by itself
    fs::remove_dir_all(new.home().join(".claude")).unwrap();
    let daemon = new.start(&["daemon"]);
    let came = |document: &Value| {
        job(document, "restore")["did"]
            .as_str()
            .is_some_and(|did| did.contains("this machine pushed before"))
    };
    until(&new, "the word", came);
    stop(daemon).ended(0);
    assert!(!file.exists());
}

/// By its pushes, and by what a new machine makes of them.
#[test]
fn a_daemon_that_is_told_to_redact_sends_no_secret_and_a_restore_brings_them_back() {
    let redact = "[push]\nredact_secrets = true\n";
    let desk = machine(redact);
    let rel = "projects/p/s.jsonl";
    let file = desk.home().join(".claude").join(rel);
    // put together here, so that no scanner takes this file for a leak
    let line = |end: &str| {
        let token = format!("ghp_{}{end}", "wJ7dQ2xLrT5vN8yB1mKzC4sF6hG9pE3a");
        format!("{{\"role\":\"user\",\"text\":\"use {token} for it\"}}\n")
    };
    fs::write(&file, line("UqRo")).unwrap();
    let daemon = desk.start(&["daemon"]);
    until(&desk, "a push", pushed);
    let text = line("UqRo") + &line("TmXe");
    fs::write(&file, &text).unwrap();
    let ran = stop(daemon);
    ran.ended(0);
    let snapshots = desk.snapshots();
    assert_eq!(snapshots.len(), 2, "{}", ran.err);
    let stored = |desk: &Desk, id: &str, marks: usize| {
        let run = desk.ok(&["cat", &format!("{id}:claude-code/home/{rel}")]);
        assert_eq!(run.text().matches("[REDACTED:github-pat:").count(), marks, "{run:?}");
        assert!(!run.text().contains("ghp_"), "{run:?}");
    };
    stored(&desk, "latest~1", 1);
    stored(&desk, "latest", 2);
    let found = desk.run(&["grep", "-F", "wJ7dQ2xLrT5vN8yB1mKz"]);
    assert!(!found.text().contains(rel), "{found:?}");
    fs::write(&file, format!("{text}{{}}\n")).unwrap();
    desk.ok(&["pull", "--yes"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    // a new machine has marks, and sends them as they are
    let new = Desk::new();
    configure_for(&new, &desk, redact);
    let daemon = new.start(&["daemon"]);
    until(&new, "a push", pushed);
    stop(daemon).ended(0);
    let there = fs::read_to_string(new.home().join(".claude").join(rel)).unwrap();
    assert_eq!(there.matches("[REDACTED:github-pat:").count(), 2, "{there}");
    stored(&new, "latest", 2);
    // and what it sent takes no secret from the first one
    let run = desk.run(&["pull", "latest", "--agent", "claude-code", "--yes"]);
    assert!([0, 5].contains(&run.code), "{run:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "{run:?}");
}

#[test]
fn a_restore_that_was_not_wanted_does_not_happen() {
    let old = machine("");
    old.ok(&["push"]);
    let new = Desk::new();
    configure_for(&new, &old, "[daemon]\nrestore_when_empty = false\n");
    let daemon = new.start(&["daemon"]);
    let idle = |document: &Value| {
        job(document, "push")["did"]
            .as_str()
            .is_some_and(|did| did.starts_with("nothing to back up yet"))
    };
    until(&new, "an idle push", idle);
    stop(daemon).ended(0);
    assert!(!new.home().join(".claude").exists());
}

#[test]
fn commands_hear_of_each_push_and_see_no_secret() {
    let mut desk =
        machine("[daemon.hooks]\nafter = \"env > $HOME/after\"\nbefore = \"env > $HOME/before\"\n");
    desk.set("AGENT_BACKUP_SECRET_KEY", "hunter2");
    desk.set("AGENT_BACKUP_KEY_ID", "an id");
    let daemon = desk.start(&["daemon"]);
    until(&desk, "a push", pushed);
    stop(daemon).ended(0);
    let after = fs::read_to_string(desk.home().join("after")).unwrap();
    assert!(
        after.contains("AGENT_BACKUP_JOB=push") && after.contains("AGENT_BACKUP_SNAPSHOT="),
        "{after}"
    );
    let before = fs::read_to_string(desk.home().join("before")).unwrap();
    assert!(!after.contains("hunter2") && !before.contains("hunter2"));
    assert!(!after.contains(PASSPHRASE));
}

/// With a heap for each thread, a daemon that pushed for weeks grew and grew.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_daemon_has_one_heap_and_commands_have_what_the_user_chose() {
    let mut desk = machine("[daemon.hooks]\nbefore = \"env > $HOME/before\"\n");
    let config = desk.home().join(".config/agent-backup/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let pass = format!(
        "password_command = \"env > $HOME/asked; cat {}\"\n",
        desk.beside("pass").display()
    );
    let (repo, rest) = text.split_once("password_file").unwrap();
    let rest = rest.split_once('\n').unwrap().1;
    private_file(&config, &format!("{repo}{pass}{rest}"));
    for (chosen, starts) in [(None, 1), (Some("3"), 0)] {
        // so that the passphrase is asked for
        fs::remove_dir_all(desk.home().join(".local/state")).unwrap();
        if let Some(number) = chosen {
            desk.set("MALLOC_ARENA_MAX", number);
        }
        let log = desk.beside("log");
        let mut command = desk.command(["-vv", "daemon"]);
        command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let daemon = command.spawn().unwrap();
        let document = until(&desk, "a push", |document| {
            pushed(document) && document["daemon"]["process"].is_u64()
        });
        assert_eq!(document["daemon"]["process"], daemon.id(), "the process is the same");
        stop(daemon).ended(0);
        let log = fs::read_to_string(&log).unwrap();
        assert_eq!(log.matches("started again, with one heap").count(), starts, "{log}");
        for seen in ["before", "asked"] {
            let seen = fs::read_to_string(desk.home().join(seen)).unwrap();
            let heaps: Vec<&str> = seen.lines().filter(|line| line.contains("ARENA")).collect();
            let meant = chosen.map(|number| format!("MALLOC_ARENA_MAX={number}"));
            assert_eq!(heaps, Vec::from_iter(meant.as_deref()));
            assert!(!seen.contains("ONE_HEAP"), "{seen}");
        }
    }
}

#[test]
fn a_change_is_pushed_when_it_is_quiet_again() {
    let desk = machine("[daemon]\npush = \"none\"\npush_on_change = true\nquiet = \"1s\"\n");
    let daemon = desk.start(&["daemon"]);
    let first = until(&desk, "a push", pushed);
    let first = job(&first, "push")["done"].clone();
    fs::write(desk.home().join(".claude/projects/p/u.jsonl"), "{\"n\":3}\n").unwrap();
    until(&desk, "another push", |document| {
        pushed(document) && job(document, "push")["done"] != first
    });
    assert_eq!(desk.snapshots().len(), 2);
    stop(daemon).ended(0);
}

#[test]
fn status_has_a_code_for_what_is_overdue_and_for_damage() {
    let desk = machine("[daemon]\npush = \"hourly\"\n");
    let never = desk.json_ends(3, &["status"]);
    assert_eq!(never["troubles"][0]["what"], "never-pushed");
    desk.ok(&["push"]);
    let fine = desk.json(&["status"]);
    assert_eq!(fine["troubles"], Value::Array(Vec::new()));
    // as if that had been three hours ago
    let done = desk.repo_state().join("done/push.json");
    let text = fs::read_to_string(&done).unwrap();
    let mut push: Value = serde_json::from_str(&text).unwrap();
    push["at"] = "2026-01-01T00:00:00Z".into();
    fs::write(&done, push.to_string()).unwrap();
    let late = desk.json_ends(3, &["status"]);
    assert_eq!(
        (&late["troubles"][0]["what"], &late["troubles"][0]["job"]),
        (&"overdue".into(), &"push".into())
    );
    let ran = desk.ends(3, &["status", "--offline"]);
    assert!(ran.text().contains("push is overdue"), "{}", ran.text());
    desk.ok(&["push"]);
    desk.ok(&["status"]);
    desk.ends(3, &["status", "--max-age", "0s"]);
    // the newest snapshot is gone, and nobody forgot it
    let snapshots = desk.beside("repository/snap");
    for entry in fs::read_dir(&snapshots).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let gone = desk.json_ends(4, &["status"]);
    assert_eq!(gone["troubles"][0]["what"], "vanished");
}

#[test]
fn f8_status_without_a_storage_tells_what_this_machine_knows() {
    let desk = machine("");
    desk.ok(&["push"]);
    fs::rename(desk.beside("repository"), desk.beside("elsewhere")).unwrap();
    let document = desk.json(&["status", "--offline"]);
    assert_eq!(document["agents"][0]["agent"], "claude-code");
    let document = desk.json_ends(10, &["status"]);
    assert_eq!(document["agents"][0]["agent"], "claude-code", "all the same");
    assert_eq!(document["storage_error"]["name"], "no-repository");
    // and a daemon that knows the repository waits for it
    let daemon = desk.start(&["daemon"]);
    let failing = |document: &Value| job(document, "push")["failing"]["code"] == 10;
    let document = until(&desk, "a failure", failing);
    let push = job(&document, "push");
    assert!(push["failing"]["again"].is_string(), "{document}");
    assert_eq!(push["next"], push["failing"]["again"], "a moment before that does not count");
    fs::rename(desk.beside("elsewhere"), desk.beside("repository")).unwrap();
    stop(daemon).ended(0);
    let document = desk.json(&["status"]);
    assert!(job(&document, "push").get("failing").is_none(), "the last push worked: {document}");
}

#[test]
fn a_dry_run_says_what_would_run_when_and_starts_nothing() {
    let desk =
        machine("[daemon]\npush = [\"hourly\", \"50 17 * * 1-5\"]\n[daemon.keep]\ndaily = 7\n");
    let document = desk.json(&["daemon", "--dry-run"]);
    let jobs: Vec<&str> = document["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job"].as_str().unwrap())
        .collect();
    assert_eq!(jobs, ["push", "forget", "gc", "verify", "rehearsal"]);
    assert_eq!(document["jobs"][0]["schedule"][1], "50 17 * * 1-5");
    assert_eq!(desk.snapshots().len(), 0);
    desk.json_ends(3, &["status"]);
}

#[test]
fn a_rehearsal_with_nothing_to_restore_does_not_count_as_done() {
    let desk = machine("");
    let done = |document: &Value| job(document, "rehearsal").get("done").cloned();
    desk.ok(&["verify", "--level", "rehearsal"]);
    assert_eq!(done(&desk.json(&["status"])), None);
    desk.ok(&["push"]);
    desk.ok(&["verify", "--level", "rehearsal"]);
    assert!(done(&desk.json(&["status"])).is_some());
}
