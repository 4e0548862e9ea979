//! One home per agent, shaped like a real one, with planted secrets: what is backed up of it.
//!
//! `homes/<id>.txt` lists the files. `[label] dir` opens a root (no label: no root may hold what
//! follows); below it `+` is a file that must be backed up, `D` a database that must be captured
//! as one, `-` a file that must be left out, and `S` a secret, left out as such. `env NAME = value`
//! sets a variable. Every file that a root gives and the list does not name fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use adapters::{Adapter, Decision, Env, Os, Root, builtin};

const CANARY: &str = "CANARY-d41d8cd98f";

const HOMES: [(&str, &str); 8] = [
    ("aider", include_str!("homes/aider.txt")),
    ("claude-code", include_str!("homes/claude-code.txt")),
    ("cline", include_str!("homes/cline.txt")),
    ("codex", include_str!("homes/codex.txt")),
    ("cursor", include_str!("homes/cursor.txt")),
    ("gemini-cli", include_str!("homes/gemini-cli.txt")),
    ("goose", include_str!("homes/goose.txt")),
    ("opencode", include_str!("homes/opencode.txt")),
];

/// A listed file: its root, its path in it, the answer expected.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    label: String,
    rel: String,
    mark: char,
}

/// Builds the home and returns what the list expects.
fn build(list: &str, home: &Path) -> (Env, Vec<Listed>) {
    let mut env = Env { home: home.into(), vars: BTreeMap::new(), os: Os::Linux };
    let (mut listed, mut label, mut dir) = (Vec::new(), "", "");
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(variable) = line.strip_prefix("env ") {
            let (name, value) = variable.split_once(" = ").expect("NAME = value");
            env.vars.insert(name.into(), value.replace('~', &home.to_string_lossy()).into());
        } else if let Some(section) = line.strip_prefix('[') {
            (label, dir) = section.split_once("] ").expect("[label] dir");
        } else {
            let (mark, rel) = line.split_at(2);
            let mark = mark.chars().next().expect("a mark");
            assert!("+D-S".contains(mark), "{line}");
            let path = home.join(dir).join(rel);
            fs::create_dir_all(path.parent().expect("parent")).expect("directories");
            fs::write(&path, if mark == 'S' { CANARY } else { "x" }).expect("file");
            listed.push(Listed { label: label.into(), rel: rel.into(), mark });
        }
    }
    (env, listed)
}

/// Walks a root as a scan does: a directory that is not entered is not looked at.
fn walk(root: &Root, rel: &str, all: &mut BTreeMap<String, Decision>) {
    for entry in fs::read_dir(root.dir.join(rel)).expect("directory") {
        let entry = entry.expect("entry");
        let name = entry.file_name().into_string().expect("a plain name");
        let path = if rel.is_empty() { name } else { format!("{rel}/{name}") };
        let is_dir = entry.file_type().expect("type").is_dir();
        let decision = root.rules.decide(path.as_bytes(), is_dir);
        if is_dir && decision.is_entered() {
            walk(root, &path, all);
        }
        all.insert(path, decision);
    }
}

fn adapter(id: &str) -> Adapter {
    builtin().into_iter().find(|adapter| adapter.id() == id).expect("embedded")
}

/// What the walk said of a path: its own decision, or that of the directory that hid it.
fn verdict(seen: &BTreeMap<String, Decision>, rel: &str) -> char {
    let mut path = Some(rel);
    while let Some(at) = path {
        match seen.get(at) {
            Some(Decision::Include) => return '+',
            Some(Decision::IncludeSqlite) => return 'D',
            Some(Decision::ExcludeSecret) => return 'S',
            Some(_) => return '-',
            None => path = at.rsplit_once('/').map(|(dir, _)| dir),
        }
    }
    '?'
}

#[test]
fn each_agents_home_is_backed_up_without_junk_and_without_secrets() {
    for (id, list) in HOMES {
        let home = tempfile::tempdir().expect("tempdir");
        let (env, listed) = build(list, home.path());
        let survey = adapter(id).survey(&env);
        assert_eq!(survey.refused, [], "{id}");
        let expected_labels: BTreeSet<&str> =
            listed.iter().map(|one| one.label.as_str()).filter(|label| !label.is_empty()).collect();
        let labels: BTreeSet<&str> = survey.roots.iter().map(|root| root.label.as_str()).collect();
        assert_eq!(labels, expected_labels, "{id}");
        assert_eq!(labels.len(), survey.roots.len(), "{id}: a label twice");

        let mut taken = BTreeSet::new();
        let mut got = BTreeSet::new();
        for root in &survey.roots {
            let mut seen = BTreeMap::new();
            walk(root, "", &mut seen);
            for one in listed.iter().filter(|one| one.label == root.label) {
                assert_eq!(verdict(&seen, &one.rel), one.mark, "{}: {}", root.label, one.rel);
            }
            for (rel, decision) in seen.iter().filter(|(_, decision)| decision.is_included()) {
                let path = root.dir.join(rel);
                if path.is_dir() {
                    continue;
                }
                assert!(taken.insert(path.clone()), "{}: {rel} is in two roots", root.label);
                let content = fs::read_to_string(&path).expect("content");
                assert!(!content.contains(CANARY), "{}: {rel} is a secret", root.label);
                let mark = if *decision == Decision::IncludeSqlite { 'D' } else { '+' };
                got.insert(Listed { label: root.label.clone(), rel: rel.clone(), mark });
            }
        }
        let expected: BTreeSet<Listed> =
            listed.into_iter().filter(|one| "+D".contains(one.mark)).collect();
        assert_eq!(got, expected, "{id}");
    }
}

#[test]
fn no_secret_pattern_can_be_argued_away_by_an_include() {
    for (id, list) in HOMES {
        let home = tempfile::tempdir().expect("tempdir");
        let (env, listed) = build(list, home.path());
        for root in adapter(id).resolve(&env) {
            for one in listed.iter().filter(|one| one.label == root.label && one.mark == 'S') {
                // Asked out of the blue, without the walk that would have stopped above it.
                let decision = root.rules.decide(one.rel.as_bytes(), false);
                assert_eq!(decision, Decision::ExcludeSecret, "{}: {}", root.label, one.rel);
            }
        }
    }
}

#[test]
fn what_an_agent_deletes_by_itself_is_known() {
    let volatile = [
        (
            "claude-code",
            "claude-code/home",
            "projects/-p/0b8f2c1e-1111-4222-8333-444455556666.jsonl",
            true,
        ),
        (
            "claude-code",
            "claude-code/home",
            "projects/-p/0b8f2c1e-1111-4222-8333-444455556666/subagents/a.jsonl",
            true,
        ),
        ("claude-code", "claude-code/home", "file-history/x/1", true),
        ("claude-code", "claude-code/home", "projects/-p/memory/MEMORY.md", false),
        ("claude-code", "claude-code/home", "history.jsonl", false),
        ("gemini-cli", "gemini-cli/home", "tmp/shop/chats/session-1.jsonl", true),
        ("gemini-cli", "gemini-cli/home", "tmp/shop/memory/MEMORY.md", false),
    ];
    for (id, label, rel, expected) in volatile {
        let home = tempfile::tempdir().expect("tempdir");
        let list = HOMES.iter().find(|(of, _)| *of == id).expect("listed").1;
        let (env, _) = build(list, home.path());
        let roots = adapter(id).resolve(&env);
        let root = roots.iter().find(|root| root.label == label).expect("root");
        assert_eq!(root.rules.volatile(rel.as_bytes()), expected, "{rel}");
    }
}
