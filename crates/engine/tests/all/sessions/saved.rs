//! What a session is added to is in a safety snapshot before, or nothing is added.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Adapter, Env, Os};
use engine::Silent;
use engine::pull::safety::{LiveRoot, Saved, save};
use engine::pull::{self, Options, Overwrite, Placement, Plan};
use engine::sessions::{self, MergeOptions, Merged};
use rusqlite::Connection;

use super::restoring::{CLAUDE, in_place, problems, rows};
use super::{Case, one};
use crate::forger::{Forger, leaf};
use crate::support::bench_in_memory;

/// Restores a session in place as the command line does; `whole`: all of the roots is its agent's.
fn restore_safely(
    case: &Case,
    id: &str,
    whole: bool,
    overwrite: Overwrite,
) -> (Saved, Vec<Merged>) {
    let all = case.sessions();
    let (cancel, to) = (AtomicBool::new(false), in_place(case));
    let session = case.bench.open().unwrap();
    let mut restore = sessions::restore(&session, &all.family(one(&all, id)), &cancel).unwrap();
    let options = Options {
        labels: restore.labels().into_iter().collect(),
        paths: restore.files().to_vec(),
        overwrite,
        ..Options::new(to.clone())
    };
    let mut plan = Plan::make(&restore, &options, &cancel).unwrap();
    for (path, at) in restore.catalogues(&to) {
        plan.adds_to(path, at);
    }
    assert!(plan.replaces());
    let root = |root: &adapters::Root| LiveRoot {
        label: root.label.clone(),
        agent: Some(case.id.clone()),
        dir: root.dir.clone(),
        rules: Arc::clone(&root.rules),
        whole,
    };
    let roots: Vec<LiveRoot> = case.roots.iter().map(root).collect();
    let push = &case.options;
    let saved = save(&session, &mut plan, &roots, overwrite, push, &Silent, &cancel).unwrap();
    for closed in &saved.closed {
        restore.close(&closed.path, closed.what.clone());
    }
    let report = pull::apply(&restore, &plan, &options, &(), &cancel).unwrap();
    assert_eq!(report.problems, []);
    let (merging, none) = (MergeOptions::default(), BTreeSet::new());
    let merged = sessions::merge(&session, &restore, &none, &to, merging, &cancel).unwrap();
    (saved, merged)
}

/// The content of a file in a safety snapshot.
fn held(case: &Case, saved: &Saved, path: &str) -> Option<Vec<u8>> {
    let pushed = saved.pushed.as_ref()?;
    let held = case.bench.held(case.store.clone(), &pushed.snapshot().id);
    held.into_iter().find(|(name, _)| name == path).map(|(_, bytes)| bytes)
}

#[test]
fn a_catalogue_is_in_the_safety_snapshot_before_a_session_is_added_to_it() {
    for whole in [true, false] {
        // lines of a text
        let case = Case::of("claude-code");
        case.push();
        let history = case.path("claude-code/home", "history.jsonl");
        fs::write(&history, "{\"display\":\"mine alone\",\"sessionId\":\"x\"}\n").unwrap();
        let (saved, merged) = restore_safely(&case, CLAUDE, whole, Overwrite::IfChanged);
        assert_eq!((problems(&merged), merged[0].added), (Vec::new(), 1), "{merged:?}");
        let before = held(&case, &saved, "claude-code/home/history.jsonl").unwrap();
        assert!(String::from_utf8(before).unwrap().contains("mine alone"));
        assert!(fs::read_to_string(&history).unwrap().contains("mine alone"));

        // rows of a database, some of which are only in its log
        let case = Case::of("goose");
        case.push();
        let path = case.path("goose/data", "sessions/sessions.db");
        let live = Connection::open(&path).unwrap();
        live.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             DELETE FROM messages WHERE session_id = '20261031_1';
             INSERT INTO sessions (id, name, working_dir) VALUES ('20261101_1', 'Mine alone', '/x');",
        )
        .unwrap();
        let (saved, merged) = restore_safely(&case, "20261031_1", whole, Overwrite::IfChanged);
        assert_eq!(problems(&merged), Vec::<&String>::new());
        assert!(merged[0].added > 0, "{merged:?}");
        let there = tempfile::tempdir().unwrap();
        let image = there.path().join("image.db");
        fs::write(&image, held(&case, &saved, "goose/data/sessions/sessions.db").unwrap()).unwrap();
        let names = rows(image, "SELECT name FROM sessions WHERE id = '20261101_1'");
        assert_eq!(names, ["Mine alone"]);
    }
}

#[test]
fn nothing_is_added_to_a_catalogue_that_cannot_be_saved_unless_it_is_told_to_go() {
    for always in [false, true] {
        let mut case = Case::of("claude-code");
        case.push();
        let history = case.path("claude-code/home", "history.jsonl");
        // no text, so the secret in it cannot be replaced
        let secret = format!("ghp_{}", "aR8kTz5Wq2Yx7Vn4Bm9Lc3Jd6Hf1Gs0Pa5Qe");
        let before = format!("\0 {secret}\n").into_bytes();
        fs::write(&history, &before).unwrap();
        case.options.redact_secrets = true;
        let overwrite = if always { Overwrite::Always } else { Overwrite::IfChanged };
        let (saved, merged) = restore_safely(&case, CLAUDE, true, overwrite);
        let why = problems(&merged);
        let after = fs::read(&history).unwrap();
        if always {
            assert_eq!((saved.unsaved.len(), why.len(), merged[0].added), (1, 0, 1), "{merged:?}");
            assert!(after.starts_with(&before) && after.len() > before.len());
        } else {
            assert_eq!(saved.closed.len(), 1, "{saved:?}");
            assert!(why.len() == 1 && why[0].contains("not in the safety snapshot"), "{merged:?}");
            assert!(after == before);
        }
    }
}

/// An agent with a list beside its sessions.
const QUILL: &str = r#"
    version = 1
    id = "quill"
    name = "Quill"
    [[roots]]
    label = "home"
    all = "~/.quill"
    [[roots.sessions]]
    file = "chats/*/*.jsonl"
    id = "@name"
    role = "role"
    content = "text"
    companions = ["chats/{2}"]
    [[roots.sessions.catalogue]]
    file = "chats/{2}/index.json"
    list = "entries"
    key = "id"
"#;

/// A list that lies among the further files of a session.
#[test]
fn a_list_beside_a_session_is_added_to_and_never_replaced() {
    let adapter = Adapter::parse(QUILL, "quill.toml").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let chats = dir.path().join(".quill/chats/one");
    fs::create_dir_all(&chats).unwrap();
    fs::write(chats.join("a.jsonl"), "{\"role\":\"user\",\"text\":\"hello\"}\n").unwrap();
    fs::write(chats.join("notes.md"), "mine\n").unwrap();
    fs::write(chats.join("index.json"), r#"{"entries":[{"id":"a","title":"A"}]}"#).unwrap();
    let env = Env { home: dir.path().into(), vars: BTreeMap::new(), os: Os::Linux };
    let case = Case::at(&adapter, &env, dir);
    case.push();
    fs::remove_file(chats.join("a.jsonl")).unwrap();
    fs::remove_file(chats.join("notes.md")).unwrap();
    let live = r#"{"entries":[{"id":"b","title":"B"}]}"#;
    fs::write(chats.join("index.json"), live).unwrap();

    let (cancel, to) = (AtomicBool::new(false), in_place(&case));
    let session = case.bench.open().unwrap();
    let all = sessions::find(&session, &[adapter], &cancel).unwrap();
    let restore = sessions::restore(&session, &all.family(one(&all, "a")), &cancel).unwrap();
    assert_eq!(restore.files(), ["quill/home/chats/one/a.jsonl", "quill/home/chats/one/notes.md"]);
    let options = Options {
        labels: restore.labels().into_iter().collect(),
        paths: restore.files().to_vec(),
        ..Options::new(to.clone())
    };
    assert_eq!(pull::pull(&restore, &options, &(), &cancel).unwrap().problems, []);
    let (merging, none) = (MergeOptions::default(), BTreeSet::new());
    let merged = sessions::merge(&session, &restore, &none, &to, merging, &cancel).unwrap();
    assert_eq!((problems(&merged), merged[0].added), (Vec::new(), 1), "{merged:?}");
    assert_eq!(
        fs::read_to_string(chats.join("index.json")).unwrap(),
        r#"{"entries":[{"id":"b","title":"B"},{"id":"a","title":"A"}]}"#
    );
    assert_eq!(fs::read_to_string(chats.join("notes.md")).unwrap(), "mine\n");
}

/// No push makes such a snapshot, but another program may.
#[test]
fn what_is_there_again_is_not_replaced_by_what_was_gone_before() {
    let adapter = Adapter::parse(QUILL, "quill.toml").unwrap();
    let (bench, _) = bench_in_memory();
    let session = bench.open().unwrap();
    let mut forger = Forger::new(&session);
    let said = |text: &str| format!("{{\"role\":\"user\",\"text\":\"{text}\"}}\n").into_bytes();
    let path = "quill/home/chats/one/a.jsonl";
    for dir in ["quill", "quill/home", "quill/home/chats", "quill/home/chats/one"] {
        forger.dir(dir);
    }
    forger.file(path, &said("now"));
    forger.file(format!("~gone/20260102T030405Z/{path}"), &said("before"));
    forger.entries.sort_by(|a, b| repo::path_order(&a.0, &b.0));
    let node = leaf(&std::mem::take(&mut forger.entries));
    let tree = forger.block(repo::keys::BlockKind::Node, &node);
    forger.commit_tree(tree, |snapshot| {
        let (label, agent) = ("quill/home".to_owned(), Some("quill".to_owned()));
        snapshot.roots.push(repo::RootRecord { label, agent, dir: b"/home/me/.quill".to_vec() });
    });
    let cancel = AtomicBool::new(false);
    let all = sessions::find(&session, &[adapter], &cancel).unwrap();
    let restore = sessions::restore(&session, &all.family(one(&all, "a")), &cancel).unwrap();
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        labels: restore.labels().into_iter().collect(),
        paths: restore.files().to_vec(),
        ..Options::new(Placement::Under(home.path().to_owned()))
    };
    assert_eq!(pull::pull(&restore, &options, &(), &cancel).unwrap().problems, []);
    assert_eq!(fs::read(home.path().join(path)).unwrap(), said("now"));
}
