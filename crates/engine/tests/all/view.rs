//! Looking at snapshots: what is listed, read, found and compared is what was pushed.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::push::{PushOptions, PushRoot, push};
use engine::view::{self, Change, FindOptions};
use engine::{Error, Session};
use repo::Snapshot;
use store::MemoryStore;

use crate::support::{Bench, Ears, root};

/// Two roots: `agent/home` of an agent, `notes` of nobody.
fn push_both(bench: &Bench, session: &Session) -> Snapshot {
    let mut home = root("agent/home", &bench.source().join("home"));
    home.agent = Some("agent".into());
    let roots: [PushRoot; 2] = [home, root("notes", &bench.source().join("notes"))];
    let options = PushOptions { always: true, ..PushOptions::default() };
    let pushed =
        push(session, &roots, &options, &Ears::default(), &AtomicBool::new(false)).unwrap();
    pushed.snapshot().clone()
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn bench() -> Bench {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let source = bench.source();
    write(&source.join("home/logs/a.jsonl"), b"one\n");
    write(&source.join("home/logs/deep/b.jsonl"), b"two\n");
    write(&source.join("home/logs-old/c.jsonl"), b"three\n");
    write(&source.join("notes/todo.md"), b"buy milk\n");
    symlink("todo.md", source.join("notes/link")).unwrap();
    std::fs::hard_link(source.join("notes/todo.md"), source.join("notes/twin.md")).unwrap();
    bench
}

fn ls(session: &Session, snapshot: &Snapshot, path: &str, recursive: bool) -> Vec<String> {
    let mut out = Vec::new();
    view::ls(session, snapshot, path.as_bytes(), recursive, &mut |path, _| {
        out.push(String::from_utf8(path.to_vec()).unwrap());
    })
    .unwrap();
    out
}

#[test]
fn a_listing_shows_one_level_or_all_and_never_a_neighbour_with_a_longer_name() {
    let bench = bench();
    let session = bench.init();
    let s = push_both(&bench, &session);
    assert_eq!(ls(&session, &s, "", false), ["agent/home", "notes"]);
    assert_eq!(ls(&session, &s, "agent", false), ["agent/home"]);
    let home = ls(&session, &s, "agent/home", false);
    assert_eq!(home, ["agent/home/logs", "agent/home/logs-old"]);
    assert_eq!(
        ls(&session, &s, "agent/home/logs", true),
        ["agent/home/logs/a.jsonl", "agent/home/logs/deep", "agent/home/logs/deep/b.jsonl"]
    );
    assert_eq!(ls(&session, &s, "notes/todo.md", false), ["notes/todo.md"]);
    assert_eq!(ls(&session, &s, "", true).len(), 11);
    let nothing = view::ls(&session, &s, b"agent/hom", false, &mut |_, _| {});
    assert!(matches!(nothing, Err(Error::NotFound(_))), "{nothing:?}");
}

#[test]
fn a_file_is_read_whole_also_through_its_hard_link_and_nothing_else_is() {
    let bench = bench();
    // several batches of blocks
    let mut long = vec![0; 40 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut long);
    write(&bench.source().join("notes/long"), &long);
    let session = bench.init();
    let s = push_both(&bench, &session);
    let cat = |path: &str| {
        let mut out = Vec::new();
        view::cat(&session, &s, path.as_bytes(), &mut out).map(|entry| (entry, out))
    };
    assert_eq!(cat("notes/todo.md").unwrap().1, b"buy milk\n");
    assert_eq!(cat("notes/twin.md").unwrap().1, b"buy milk\n");
    assert!(cat("notes/long").unwrap().1 == long);
    for path in ["notes", "notes/link", "notes/nothing"] {
        let got = cat(path);
        assert!(matches!(got, Err(Error::NotFound(_))), "{path}: {got:?}");
    }
}

#[test]
fn an_entry_that_stays_the_same_is_found_once_with_all_its_snapshots() {
    let bench = bench();
    let source = bench.source();
    let session = bench.init();
    let one = push_both(&bench, &session);
    write(&source.join("home/logs/a.jsonl"), b"one\nmore\n");
    let two = push_both(&bench, &session);
    std::fs::remove_file(source.join("home/logs-old/c.jsonl")).unwrap();
    let three = push_both(&bench, &session);
    let all = [one.clone(), two.clone(), three.clone()];
    let find = |snapshots: &[Snapshot], glob: &str| {
        let options = FindOptions { globs: vec![glob.into()], ignore_case: false };
        view::find(&session, snapshots, &options)
            .unwrap()
            .all
            .into_iter()
            .map(|found| (String::from_utf8(found.path).unwrap(), found.snapshots))
            .collect::<Vec<_>>()
    };
    let a = String::from("agent/home/logs/a.jsonl");
    assert_eq!(
        find(&all, "*.jsonl"),
        [
            (a.clone(), vec![one.id]),
            (a, vec![two.id, three.id]),
            ("agent/home/logs/deep/b.jsonl".into(), vec![one.id, two.id, three.id]),
            ("agent/home/logs-old/c.jsonl".into(), vec![one.id, two.id]),
        ]
    );
    // below the label, from the label on, and not across a slash
    assert_eq!(find(&all[2..], "logs/*.jsonl").len(), 1);
    assert_eq!(find(&all[2..], "agent/home/logs/**").len(), 3);
    assert_eq!(find(&all[2..], "agent/*.jsonl").len(), 0);
    assert_eq!(find(&all[2..], "TODO.md").len(), 0);
    let options = FindOptions { globs: vec!["TODO.md".into()], ignore_case: true };
    assert_eq!(view::find(&session, &all[2..], &options).unwrap().all.len(), 1);
}

#[test]
fn a_comparison_tells_content_from_metadata() {
    let bench = bench();
    let source = bench.source();
    let session = bench.init();
    let old = push_both(&bench, &session);
    write(&source.join("home/logs/new.jsonl"), b"12345");
    write(&source.join("home/logs/a.jsonl"), b"one\nmore\n");
    std::fs::remove_file(source.join("home/logs/deep/b.jsonl")).unwrap();
    let moded = source.join("home/logs-old/c.jsonl");
    std::fs::set_permissions(&moded, std::fs::Permissions::from_mode(0o600)).unwrap();
    let new = push_both(&bench, &session);
    let mut changes = Vec::new();
    let totals = view::diff(&session, &old, &new, &mut |one| {
        assert_eq!(one.old.is_some(), one.change != Change::Added);
        assert_eq!(one.new.is_some(), one.change != Change::Removed);
        changes.push((one.change, String::from_utf8(one.path.to_vec()).unwrap()));
    })
    .unwrap();
    changes.retain(|(_, path)| path.contains(".jsonl"));
    assert_eq!(
        changes,
        [
            (Change::Content, "agent/home/logs/a.jsonl".into()),
            (Change::Removed, "agent/home/logs/deep/b.jsonl".into()),
            (Change::Added, "agent/home/logs/new.jsonl".into()),
            (Change::Metadata, "agent/home/logs-old/c.jsonl".into()),
        ]
    );
    assert_eq!((totals.added, totals.removed, totals.content), (1, 1, 1));
    assert_eq!((totals.bytes_added, totals.bytes_removed, totals.bytes_changed), (5, 4, 9));
    let none = view::diff(&session, &new, &new, &mut |_| panic!("nothing differs"));
    assert_eq!(none.unwrap(), view::DiffTotals::default());
}

#[test]
fn statistics_count_shared_content_once_and_tell_agents_apart() {
    let bench = bench();
    let mut noise = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    write(&bench.source().join("home/noise"), &noise);
    let session = bench.init();
    push_both(&bench, &session);
    let two = push_both(&bench, &session);
    let stats = view::stats(&session).unwrap();
    assert_eq!(stats.snapshots.len(), 2);
    let content: u64 = (3 << 20) + 4 + 4 + 6 + 9;
    assert_eq!(stats.content_bytes, 2 * content);
    assert!(stats.unique_bytes >= 3 << 20 && stats.unique_bytes < (3 << 20) + 4096, "{stats:?}");
    assert!(stats.dedup_ratio().unwrap() > 1.9);
    assert!(stats.stored_bytes >= stats.sealed_bytes + stats.metadata_bytes);
    let listed = session.repo().store().list("").unwrap();
    assert_eq!(stats.objects, listed.len() as u64);
    let agents: Vec<(Option<&str>, u64, u64, u64)> = stats
        .agents
        .iter()
        .map(|one| (one.agent.as_deref(), one.snapshots, one.entries, one.bytes))
        .collect();
    assert_eq!(agents, [(None, 2, 4, 9), (Some("agent"), 2, 8, content - 9)]);
    assert!(stats.agents.iter().all(|one| one.newest == two.id));
}
