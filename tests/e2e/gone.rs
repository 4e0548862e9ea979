//! What an agent deletes stays, as a user meets it: on the command line, over months and forgets.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::desk::{Desk, recovery_code};
use crate::state::Random;

const PROJECT: &str = "claude-code/home/projects/-home-me-shop";

/// A desk with Claude Code's directory: transcripts of a project, each large enough for blocks of its
/// own, and settings.
fn desk(sessions: u64) -> (Desk, PathBuf) {
    let mut desk = Desk::new();
    let repo = desk.beside("repo");
    desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    let project = desk.home().join(".claude/projects/-home-me-shop");
    fs::create_dir_all(&project).unwrap();
    fs::write(desk.home().join(".claude/settings.json"), "{}").unwrap();
    for n in 0..sessions {
        fs::write(project.join(format!("{n}.jsonl")), Random(n).bytes(40_000)).unwrap();
        desk.ok(&["push"]);
    }
    (desk, project)
}

fn touch(desk: &Desk, n: u64) {
    fs::write(desk.home().join(".claude/settings.json"), format!("{{\"n\": {n}}}")).unwrap();
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["was"].as_str().unwrap()).collect()
}

#[test]
fn a_transcript_that_its_agent_deleted_is_listed_restored_and_forgotten() {
    let (desk, project) = desk(5);
    fs::remove_file(project.join("0.jsonl")).unwrap();
    desk.ok(&["push"]);
    desk.fails(1, "failed", &["ls", "--gone", "latest~1"], &["keeps nothing that is gone"]);
    // months later: the snapshots from when it was there are forgotten and collected
    for n in 0..3 {
        touch(&desk, n);
        desk.ok(&["push"]);
    }
    desk.ok(&["forget", "--keep-last", "2", "--yes", "--prune"]);
    let gone = desk.json(&["ls", "--gone"]);
    let path = format!("{PROJECT}/0.jsonl");
    assert_eq!(paths(&gone["gone"]), [&path]);
    assert!(gone["gone"][0]["gone_since"].as_str().unwrap().ends_with('Z'));
    let listed = desk.ok(&["ls", "--gone", &format!("latest:{PROJECT}")]);
    assert!(listed.text().trim_end().ends_with("/0.jsonl"), "{}", listed.text());
    assert!(!desk.ok(&["ls", "-R"]).text().contains("0.jsonl"));
    let stored = gone["gone"][0]["path"].as_str().unwrap();
    let content = desk.ok(&["cat", &format!("latest:{stored}")]);
    assert_eq!(content.out, Random(0).bytes(40_000));

    // a restore does not bring it; one of what is gone does, and nothing else
    let whole = desk.pull("latest", "whole").join(PROJECT);
    assert!(!whole.join("0.jsonl").exists() && whole.join("1.jsonl").exists());
    let aside = desk.beside("aside");
    desk.ok(&["pull", "--gone", "--agent", "claude-code", "--to", aside.to_str().unwrap()]);
    assert_eq!(fs::read(aside.join(&path)).unwrap(), Random(0).bytes(40_000));
    assert_eq!(fs::read_dir(aside.join(PROJECT)).unwrap().count(), 1);
    // something new has its place: it stays, unless told to go
    fs::write(project.join("0.jsonl"), "newer").unwrap();
    desk.ok(&["pull", "--gone", "--yes"]);
    assert_eq!(fs::read(project.join("0.jsonl")).unwrap(), b"newer");
    fs::remove_file(project.join("0.jsonl")).unwrap();
    desk.ok(&["pull", "--gone", "--yes", "--path", "*.jsonl"]);
    assert_eq!(fs::read(project.join("0.jsonl")).unwrap(), Random(0).bytes(40_000));
    touch(&desk, 9);
    desk.ok(&["push"]);
    desk.fails(1, "failed", &["ls", "--gone"], &["keeps nothing that is gone"]);

    fs::remove_file(project.join("0.jsonl")).unwrap();
    fs::remove_file(project.join("1.jsonl")).unwrap();
    desk.ok(&["push"]);
    desk.ok(&["forget", "--keep-last", "1", "--yes"]);
    desk.fails(2, "usage", &["forget", "--gone"], &["--older-than"]);
    let plan = desk.json(&["forget", "--gone", "--path", "0.jsonl", "-n"]);
    assert_eq!(plan["gone"][0]["path"], path.as_str());
    assert_eq!((&plan["dry_run"], plan["snapshots"].as_array().unwrap().len()), (&true.into(), 1));
    assert_eq!(desk.json(&["ls", "--gone"])["gone"].as_array().unwrap().len(), 2);
    let done = desk.json(&["forget", "--gone", "--path", "0.jsonl", "--yes", "--prune"]);
    assert!(done["gc"]["freed_bytes"].as_u64().unwrap() > 40_000, "{done}");
    assert_eq!(paths(&desk.json(&["ls", "--gone"])["gone"]), [format!("{PROJECT}/1.jsonl")]);
    assert_eq!(desk.json(&["push"])["result"], "unchanged");
    desk.ok(&["verify", "--read-data"]);

    // what took a snapshot's place without some of its files is not that snapshot
    let whole = desk.snapshots().pop().unwrap();
    desk.ok(&["forget", "--gone", "--path", "1.jsonl", "--yes"]);
    desk.fails(1, "failed", &["ls", "--gone"], &["keeps nothing that is gone"]);
    assert_eq!(desk.json(&["snapshots", "--forgotten"])["snapshots"][0]["id"], *whole);
    let back = desk.json(&["undelete", &whole[..12]]);
    let back = back["undeleted"][0]["snapshot"]["id"].as_str().unwrap();
    let kept = desk.json(&["ls", "--gone", back]);
    assert_eq!(paths(&kept["gone"]), [format!("{PROJECT}/1.jsonl")]);
}

#[test]
fn much_that_vanishes_at_once_is_told_with_code_3_and_stays_pinned_until_it_is_acknowledged() {
    let (desk, project) = desk(4);
    let before = desk.snapshots();
    for n in 0..3 {
        fs::remove_file(project.join(format!("{n}.jsonl"))).unwrap();
    }
    let ran = desk.ends(3, &["push"]);
    for word in ["claude-code: 3 of 4 ", "pull --gone", "pin --acknowledge"] {
        assert!(ran.err.contains(word), "no '{word}' in {}", ran.err);
    }
    desk.ok(&["forget", "--keep-last", "1", "--yes"]);
    let all = desk.json(&["snapshots"]);
    let pinned = |one: &&Value| one["pinned"] == true;
    let pinned: Vec<&Value> = all["snapshots"].as_array().unwrap().iter().filter(pinned).collect();
    assert_eq!(pinned.len(), before.len(), "{all}");
    touch(&desk, 1);
    desk.ok(&["push"]);
    let status = desk.json_ends(3, &["status"]);
    assert_eq!(status["troubles"][0]["what"], "history-gone", "{status}");
    let done = desk.json(&["pin", "--acknowledge"]);
    desk.ok(&["status"]);
    assert_eq!((&done["alarms"][0]["gone"], &done["alarms"][0]["of"]), (&3.into(), &4.into()));
    assert_eq!(done["unpinned"].as_array().unwrap().len(), before.len());
    desk.ok(&["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(desk.snapshots().len(), 1);
    assert_eq!(desk.json(&["ls", "--gone"])["gone"].as_array().unwrap().len(), 3);
    assert!(desk.ok(&["pin", "--acknowledge"]).text().contains("no alarm"));
}

#[test]
fn an_agents_directory_that_is_deleted_as_a_whole_is_kept() {
    let (desk, _) = desk(3);
    let other = desk.home().join(".codex/sessions/2026");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("rollout-1.jsonl"), "{}").unwrap();
    desk.ok(&["push"]);
    fs::remove_dir_all(desk.home().join(".claude")).unwrap();
    let ran = desk.ends(3, &["push"]);
    assert!(ran.err.contains("claude-code: 3 of 3 "), "{}", ran.err);
    desk.ok(&["pull", "--gone", "--yes"]);
    for n in 0..3 {
        let path = desk.home().join(format!(".claude/projects/-home-me-shop/{n}.jsonl"));
        assert_eq!(fs::read(path).unwrap(), Random(n).bytes(40_000));
    }
}

#[test]
fn a_limit_in_the_configuration_lets_the_oldest_go() {
    let (desk, project) = desk(6);
    let config = desk.home().join(".config/agent-backup/config.toml");
    let mut text = fs::read_to_string(&config).unwrap();
    text = text.replace("[gone]\n", "[gone]\nkeep_bytes = \"80KiB\"\n");
    assert!(text.contains("80KiB"), "{text}");
    fs::write(&config, text).unwrap();
    for n in 0..3 {
        fs::remove_file(project.join(format!("{n}.jsonl"))).unwrap();
        desk.ok(&["push"]);
    }
    let gone = desk.json(&["ls", "--gone"]);
    let kept = [1, 2].map(|n| format!("{PROJECT}/{n}.jsonl"));
    assert_eq!(paths(&gone["gone"]), kept);
}
