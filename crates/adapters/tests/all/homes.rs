//! The table of all agents: each adapter against a home of its own (`testdata/homes`, see `fixture`), on Linux, and
//! by paths alone on macOS and Windows (`testdata/places.txt`). What a root gives and the list does not name fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use adapters::{Adapter, Decision, Env, Os, Root, RowAction, RowRule, RowValues, builtin};
use rusqlite::{Connection, params_from_iter};

use crate::fixture::{self, Home, Kind, Listed};
use crate::leaves;

fn adapter(id: &str) -> Adapter {
    builtin().into_iter().find(|adapter| adapter.id() == id).expect("embedded")
}

/// Calls `check` with each agent's home, survey and all.
fn each(check: impl Fn(&str, &Home, &[Root])) {
    for (id, list) in fixture::lists() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = fixture::build(&id, &list, dir.path());
        let survey = adapter(&id).survey(&home.env);
        assert_eq!(survey.refused, [], "{id}");
        check(&id, &home, &survey.roots);
    }
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

/// The mark of a path in the list, going by what the walk said of it or of the directory that hid it.
fn mark(root: &Root, seen: &BTreeMap<String, Decision>, rel: &str) -> char {
    let mut path = Some(rel);
    while let Some(at) = path {
        let ruled = root.rules.fields(rel.as_bytes()).is_some();
        let rows = !root.rules.rows(rel.as_bytes()).is_empty();
        match seen.get(at) {
            Some(Decision::Include) if ruled => return 'F',
            Some(Decision::Include) => return '+',
            Some(Decision::IncludeSqlite) if rows => return 'R',
            Some(Decision::IncludeSqlite) => return 'D',
            Some(Decision::ExcludeSecret) => return 'S',
            Some(_) => return '-',
            None => path = at.rsplit_once('/').map(|(dir, _)| dir),
        }
    }
    '?'
}

#[test]
fn every_agent_has_a_home_and_every_home_an_agent() {
    let lists: Vec<String> = fixture::lists().into_iter().map(|(id, _)| id).collect();
    let ids: Vec<String> = builtin().iter().map(|adapter| adapter.id().to_owned()).collect();
    assert_eq!(lists, ids);
    assert!(ids.len() >= 30);
}

#[test]
fn each_agents_home_is_backed_up_without_junk_and_without_secrets() {
    each(|id, home, roots| {
        let expected: BTreeSet<&str> = home
            .listed
            .iter()
            .map(|one| one.label.as_str())
            .filter(|label| !label.is_empty())
            .collect();
        let labels: BTreeSet<&str> = roots.iter().map(|root| root.label.as_str()).collect();
        assert_eq!(labels, expected, "{id}");
        assert_eq!(labels.len(), roots.len(), "{id}: a label twice");

        let (mut taken, mut got) = (BTreeSet::new(), BTreeSet::new());
        for root in roots {
            let mut seen = BTreeMap::new();
            walk(root, "", &mut seen);
            for one in home.listed.iter().filter(|one| one.label == root.label) {
                assert_eq!(mark(root, &seen, &one.rel), one.mark, "{}: {}", root.label, one.rel);
            }
            for (rel, decision) in seen.iter().filter(|(_, decision)| decision.is_included()) {
                let path = root.dir.join(rel);
                if path.is_dir() {
                    continue;
                }
                assert!(taken.insert(path), "{}: {rel} is in two roots", root.label);
                assert!(decision.is_included());
                let mark = mark(root, &seen, rel);
                got.insert(Listed { label: root.label.clone(), rel: rel.clone(), mark });
            }
        }
        let expected: BTreeSet<Listed> =
            home.listed.iter().filter(|one| "+FDR".contains(one.mark)).cloned().collect();
        assert_eq!(got, expected, "{id}");
        for canary in &home.canaries {
            let held = taken.contains(&canary.path);
            assert_eq!(held, canary.kind != Kind::Whole, "{id}: {}", canary.path.display());
            let bytes = fs::read(&canary.path).expect("the file");
            let there = bytes.windows(canary.text.len()).any(|at| at == canary.text.as_bytes());
            assert!(there, "{id}: {} lost {}", canary.path.display(), canary.text);
        }
    });
}

#[test]
fn every_home_has_secrets_and_every_kind_of_rule_has_a_canary() {
    // of these only databases and settings are taken, by name
    let without_whole = ["devin", "trae", "warp"];
    each(|id, home, roots| {
        let has = |kind| home.canaries.iter().any(|canary| canary.kind == kind);
        assert!(has(Kind::Whole) || without_whole.contains(&id), "{id}");
        let marked = |mark| home.listed.iter().any(|one| one.mark == mark);
        assert_eq!((has(Kind::Field), has(Kind::Row)), (marked('F'), marked('R')), "{id}");
        let adapter = adapter(id);
        assert_eq!(marked('F'), adapter.text().contains("[[roots.fields]]"), "{id}");
        assert_eq!(marked('R'), adapter.text().contains("[[roots.rows]]"), "{id}");
        assert!(!roots.is_empty());
    });
}

#[test]
fn no_secret_pattern_can_be_argued_away_by_an_include() {
    each(|_, home, roots| {
        for root in roots {
            for one in home.listed.iter().filter(|one| one.label == root.label && one.mark == 'S') {
                // Asked out of the blue, without the walk that would have stopped above it.
                let decision = root.rules.decide(one.rel.as_bytes(), false);
                assert_eq!(decision, Decision::ExcludeSecret, "{}: {}", root.label, one.rel);
            }
        }
    });
}

#[test]
fn field_rules_name_every_canary_and_nothing_else_and_none_is_idle() {
    each(|id, home, roots| {
        let (mut idle, mut busy) = (BTreeSet::new(), BTreeSet::new());
        for root in roots {
            for one in home.listed.iter().filter(|one| one.label == root.label && one.mark == 'F') {
                let rules = root.rules.fields(one.rel.as_bytes()).expect("field rules");
                let path = root.dir.join(&one.rel);
                let text = fs::read_to_string(&path).expect("text");
                for (at, value) in leaves::leaves(rules.format.word(), &text, &path) {
                    let by: Vec<&String> =
                        rules.redact.iter().filter(|path| leaves::names(path, &at)).collect();
                    let secret = value.contains("CANARY-");
                    assert_eq!(
                        !by.is_empty(),
                        secret,
                        "{}/{}: {}",
                        root.label,
                        one.rel,
                        at.join(".")
                    );
                    busy.extend(by.into_iter().cloned());
                }
                idle.extend(rules.redact);
            }
        }
        let idle: Vec<_> = idle.difference(&busy).collect();
        assert!(idle.is_empty(), "{id}: no canary shows what these are for: {idle:?}");
    });
}

#[test]
fn row_rules_leave_no_canary_and_take_no_other_row() {
    each(|_, home, roots| {
        for root in roots {
            for one in home.listed.iter().filter(|one| one.label == root.label && one.mark == 'R') {
                let db = Connection::open(root.dir.join(&one.rel)).expect("a database");
                let (all, secret) = rows(&db);
                assert!(secret > 0, "{}: {}", root.label, one.rel);
                for rule in root.rules.rows(one.rel.as_bytes()) {
                    carry_out(&db, &rule);
                }
                let (left, still_secret) = rows(&db);
                assert_eq!(still_secret, 0, "{}: {}", root.label, one.rel);
                assert!(left > 0 && left >= all - secret, "{}: {}", root.label, one.rel);
            }
        }
    });
}

/// Rows of all tables, and how many of them hold a canary.
fn rows(db: &Connection) -> (usize, usize) {
    let (mut all, mut secret) = (0, 0);
    for table in tables(db) {
        let mut query = db.prepare(&format!("SELECT * FROM \"{table}\"")).expect("a query");
        let columns = query.column_count();
        let mut rows = query.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let text =
                |at| row.get::<_, Option<String>>(at).unwrap_or_default().unwrap_or_default();
            all += 1;
            secret += usize::from((0..columns).any(|at| text(at).contains("CANARY-")));
        }
    }
    (all, secret)
}

fn tables(db: &Connection) -> Vec<String> {
    let mut query =
        db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").expect("schema");
    let names = query.query_map([], |row| row.get(0)).expect("tables");
    names.collect::<Result<_, _>>().expect("names")
}

/// What the engine does with a rule, in short.
fn carry_out(db: &Connection, rule: &RowRule) {
    if !tables(db).contains(&rule.table) {
        return;
    }
    let (mut condition, mut values) = ("1".to_owned(), Vec::new());
    if let Some(rows) = &rule.rows {
        let (operator, list) = match &rows.values {
            RowValues::Is(list) => ("=", list),
            RowValues::Glob(list) => ("GLOB", list),
        };
        let one = format!("\"{}\" {operator} ?", rows.column);
        condition = vec![one; list.len()].join(" OR ");
        values.clone_from(list);
    }
    let what = match &rule.action {
        RowAction::Delete => format!("DELETE FROM \"{}\"", rule.table),
        RowAction::Redact(columns) => {
            let set: Vec<String> =
                columns.iter().map(|column| format!("\"{column}\" = 'left out'")).collect();
            format!("UPDATE \"{}\" SET {}", rule.table, set.join(", "))
        }
    };
    let done = db.execute(&format!("{what} WHERE {condition}"), params_from_iter(values));
    done.unwrap_or_else(|e| panic!("{rule:?}: {e}"));
}

/// The keys of an adapter's roots as they stand in its file.
fn specs(adapter: &Adapter) -> Vec<toml::Table> {
    let file: toml::Table = adapter.text().parse().expect("TOML");
    let roots = file["roots"].as_array().expect("roots");
    roots.iter().map(|root| root.as_table().expect("a table").clone()).collect()
}

fn strings(spec: &toml::Table, key: &str) -> Vec<String> {
    match spec.get(key) {
        None => Vec::new(),
        Some(toml::Value::Array(list)) => {
            list.iter().map(|one| one.as_str().expect("text").to_owned()).collect()
        }
        Some(one) => vec![one.as_str().expect("text").to_owned()],
    }
}

#[test]
fn every_variable_of_every_adapter_moves_its_root() {
    let mut tried = 0;
    for adapter in builtin() {
        for spec in specs(&adapter) {
            let label = format!("{}/{}", adapter.id(), spec["label"].as_str().expect("label"));
            let variables = strings(&spec, "env").into_iter().map(|variable| (variable, false));
            let files = strings(&spec, "env_file").into_iter().map(|variable| (variable, true));
            for (variable, is_file) in variables.chain(files) {
                let home = tempfile::tempdir().expect("tempdir");
                let (name, below) = variable.split_once('/').unwrap_or((&variable, ""));
                let value = home.path().join("moved/here");
                let mut dir = value.join(below);
                if is_file {
                    dir = home.path().join("moved");
                    fs::create_dir_all(&dir).expect("directory");
                    fs::write(&value, "x").expect("file");
                } else {
                    fs::create_dir_all(&dir).expect("directory");
                }
                let vars = BTreeMap::from([(name.to_owned(), value.clone().into_os_string())]);
                for os in [Os::Linux, Os::Macos] {
                    let env = Env { home: home.path().into(), vars: vars.clone(), os };
                    let found = adapter.resolve(&env).into_iter().any(|root| {
                        let same =
                            root.label == label || root.label.starts_with(&format!("{label}/"));
                        same && root.dir == dir
                    });
                    assert!(found, "{label}: {variable} on {os:?}");
                    let candidates = adapter.candidates(&env);
                    let shown = if is_file { &value } else { &dir };
                    assert!(candidates.contains(shown), "{label}: {variable} on {os:?}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "{tried}");
}

/// Where each adapter looks on each system, with no variable set and with those of the system.
fn places() -> String {
    let linux = [
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "FLATPAK_XDG_DATA_HOME",
        "FLATPAK_XDG_CONFIG_HOME",
    ];
    let windows = ["APPDATA", "LOCALAPPDATA"];
    let machines = [
        ("linux", Os::Linux, "/home/a", &[][..], "/"),
        ("linux+", Os::Linux, "/home/a", &linux, "/x/"),
        ("macos", Os::Macos, "/Users/a", &[], "/"),
        ("windows", Os::Windows, "C:/Users/a", &[], "/"),
        ("windows+", Os::Windows, "C:/Users/a", &windows, "D:/"),
    ];
    let mut out = String::new();
    for adapter in builtin() {
        writeln!(out, "[{}]", adapter.id()).expect("text");
        for (name, os, home, variables, start) in machines {
            let vars =
                variables.iter().map(|name| ((*name).to_owned(), format!("{start}{name}").into()));
            let env = Env { home: home.into(), vars: vars.collect(), os };
            for path in adapter.candidates(&env) {
                writeln!(out, "{name:<9}{}", path.display()).expect("text");
            }
        }
    }
    out
}

#[test]
fn the_places_of_all_agents_on_all_systems_are_as_recorded() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/places.txt");
    let now = places();
    #[allow(clippy::disallowed_methods, reason = "a switch of this test")]
    if std::env::var_os("UPDATE_PLACES").is_some() {
        fs::write(&file, &now).expect("written");
    }
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    for (now, recorded) in now.lines().zip(recorded.lines()) {
        assert_eq!(now, recorded, "UPDATE_PLACES=1 writes testdata/places.txt again");
    }
    assert!(now == recorded, "lines were added or removed; UPDATE_PLACES=1 writes them again");
}

#[test]
fn what_an_agent_deletes_by_itself_is_known() {
    let session = "projects/-p/0b8f2c1e-1111-4222-8333-444455556666";
    let volatile = [
        ("claude-code", &*format!("{session}.jsonl"), true),
        ("claude-code", &*format!("{session}/subagents/a.jsonl"), true),
        ("claude-code", "file-history/x/1", true),
        ("claude-code", "projects/-p/memory/MEMORY.md", false),
        ("claude-code", "history.jsonl", false),
        ("gemini-cli", "tmp/shop/chats/session-1.jsonl", true),
        ("gemini-cli", "tmp/shop/memory/MEMORY.md", false),
    ];
    for (id, rel, expected) in volatile {
        let rules = adapter(id).rules(&format!("{id}/home")).expect("a root");
        assert_eq!(rules.volatile(rel.as_bytes()), expected, "{rel}");
    }
    let transcripts = [
        ("codex/home", "sessions/2026/10/31/rollout-2026-10-31T10-00-00-abc.jsonl"),
        ("codex/home", "archived_sessions/rollout-2026-01-01T10-00-00-ghi.jsonl"),
        ("opencode/data", "storage/message/ses_1/msg_1.json"),
        ("goose/data", "sessions/20250101_101010.jsonl"),
        ("cline/sessions", "abc/messages.json"),
        ("cline/editor", "tasks/1/ui_messages.json"),
        ("roo/editor", "tasks/1/api_conversation_history.json"),
        ("qwen/home", "projects/-home-a-work/chats/1.jsonl"),
        ("copilot-cli/home", "session-state/0b8f/events.jsonl"),
        ("amp/data", "threads/T-0b8f.json"),
        ("openhands/conversations", "0b8f/events/1.json"),
        ("vscode-copilot/user", "workspaceStorage/0b/chatSessions/1.json"),
        ("vibe/home", "logs/session/session_1/messages.jsonl"),
    ];
    for (label, rel) in transcripts {
        let id = label.split('/').next().expect("a label begins with its agent");
        let rules = adapter(id).rules(label).expect("a root");
        assert!(rules.volatile(rel.as_bytes()), "{label}: {rel}");
    }
}
