//! What vanishes from its source stays: as an agent's history goes on for a year and more.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::gone::Since;
use engine::pull::{self, Placement, SnapshotContent};
use engine::push::{PushOptions, Pushed, push};
use engine::view;
use store::MemoryStore;

use crate::gone_support::*;
use crate::support::text::Writer;
use crate::support::{self, Bench, Ears};

/// Up to this day what a push stores is compared with what it stores without the transcript.
const COMPARED: u64 = 100;

#[test]
fn a_transcript_deleted_on_day_30_is_restored_on_day_400_under_a_policy_that_keeps_10() {
    // the twin never had the transcript
    let world = World::new();
    let twin = world.twin();
    let mut spent = [0_i64, 0];
    for day in 0..=400_u64 {
        let worlds = if day <= COMPARED { vec![&world, &twin] } else { vec![&world] };
        if day > COMPARED && day % 4 != 0 {
            world.wait(DAY);
            continue;
        }
        for (which, world) in worlds.into_iter().enumerate() {
            world.wait(DAY);
            if day == 0 {
                for n in 0..150 {
                    world.write(&format!("projects/{n:03}.md"), &text(n)[..2_000]);
                }
            }
            if day == 29 && which == 0 {
                world.write("sessions/2026/lost.jsonl", &text(7));
            }
            if day == 30 && which == 0 {
                fs::remove_dir_all(world.path("sessions/2026")).unwrap();
            }
            let name = format!("projects/{:03}.md", day % 150);
            world.write(&name, &Writer::new(day).lines(2_000));
            world.write("sessions/today.jsonl", &Writer::new(day).lines(1_000));
            let snapshot = world.push();
            if day > 30 && day <= COMPARED {
                spent[which] += i64::try_from(stored(&world.open())[&snapshot.id]).unwrap();
            }
            if day % 20 == 0 {
                world.keep_last(10);
                world.collect();
            }
        }
    }
    world.keep_last(10);
    world.collect();
    let session = world.open();
    assert_eq!(session.snapshots().unwrap().len(), 10);
    assert_eq!(world.gone(), ["sessions/2026/lost.jsonl"]);
    let latest = session.select("latest", None, None).unwrap();
    let one = &view::gone(&session, &latest, b"claude-code/home/sessions").unwrap()[0];
    let Since::At(since) = one.since else { panic!("{:?}", one.since) };
    let age = (latest.started_nanos / 1_000_000_000 - since) / 86_400;
    assert!((369..=371).contains(&age), "gone since {age} days");
    let restored = world.pull_gone();
    assert_eq!(restored.keys().collect::<Vec<_>>(), ["claude-code/home/sessions/2026/lost.jsonl"]);
    assert_eq!(restored["claude-code/home/sessions/2026/lost.jsonl"], text(7));
    let there = world.pull(&latest);
    assert!(there.contains_key("claude-code/home/sessions/today.jsonl"));
    assert!(there.keys().all(|path| !path.contains("lost") && !path.contains("~gone")));
    assert!(twin.gone().is_empty());
    let pushes = i64::try_from(COMPARED - 30).unwrap();
    let extra = (spent[0] - spent[1]) / pushes;
    eprintln!("{extra} bytes a push, of {}", spent[1] / pushes);
    assert!(extra < 200, "{extra} bytes a push");
}

#[test]
fn a_file_that_is_back_leaves_unless_it_is_another_one() {
    let world = World::with(&["a", "b", "c", "d", "e"]);
    world.remove("sessions/a");
    world.remove("sessions/b");
    world.push();
    assert_eq!(world.gone(), ["sessions/a", "sessions/b"]);
    world.write("sessions/a", &text(0));
    world.write("sessions/b", b"another session of that name");
    let snapshot = world.push();
    assert_eq!(world.gone(), ["sessions/b"]);
    assert_eq!(
        world.pull(&snapshot)["claude-code/home/sessions/b"],
        b"another session of that name"
    );
    assert_eq!(world.pull_gone()["claude-code/home/sessions/b"], text(1));
    // it goes as well: both stay, and the one that vanished last is restored
    world.remove("sessions/b");
    world.push();
    assert_eq!(world.gone(), ["sessions/b", "sessions/b"]);
    assert_eq!(world.pull_gone()["claude-code/home/sessions/b"], b"another session of that name");
    // the same content as once, gone again: not a third one
    world.write("sessions/b", &text(1));
    world.push();
    assert_eq!(world.gone(), ["sessions/b"]);
    world.remove("sessions/b");
    world.push();
    assert_eq!(world.gone(), ["sessions/b", "sessions/b"]);
}

#[test]
fn a_file_that_was_moved_is_not_gone_and_a_copy_that_was_there_before_does_not_count() {
    let world = World::with(&["p/a", "p/b", "p/c", "q/d", "q/e"]);
    world.write("sessions/copy-of-d", &text(3));
    world.push();
    fs::rename(world.path("sessions/p"), world.path("sessions/moved")).unwrap();
    world.push();
    assert_eq!(world.gone(), [""; 0]);
    world.remove("sessions/q/d");
    world.push();
    assert_eq!(world.gone(), ["sessions/q/d"], "its copy was no move of it");
    world.write("sessions/q/rollout.jsonl", &text(60));
    world.push();
    world.remove("sessions/q/rollout.jsonl");
    world.write("sessions/q/rollout.jsonl.zst", b"the same, compressed");
    world.push();
    assert_eq!(world.gone(), ["sessions/q/d"]);
    // a log that is rotated: what lies beside it compressed is an older one
    world.write("sessions/q/log", &text(61));
    world.write("sessions/q/log.gz", b"what was in it last week");
    world.push();
    world.push_after("sessions/q/log");
    assert_eq!(world.gone(), ["sessions/q/d", "sessions/q/log"]);
    world.write("sessions/q/log", &text(61));
    world.push();
    // two of the same content become one: one was moved, the other is gone
    world.write("sessions/q/twin", &text(4));
    world.push();
    world.remove("sessions/q/twin");
    fs::rename(world.path("sessions/q/e"), world.path("sessions/q/f")).unwrap();
    world.push();
    let gone = world.gone();
    assert_eq!(gone.len(), 2, "{gone:?}");
    // without a cache every file is read: what was there all the time is still no move
    world.write("sessions/old", &text(40));
    world.write("sessions/old-copy", &text(40));
    world.push();
    world.forget_cache();
    world.remove("sessions/old");
    world.push();
    assert!(world.gone().contains(&"sessions/old".to_owned()), "{:?}", world.gone());
}

#[test]
fn what_no_adapter_calls_volatile_and_plain_directories_go_unless_they_are_configured() {
    let mut world = World::with(&["a", "b", "c"]);
    world.write("cache/x", b"nobody misses it");
    let notes = world.bench.dir.path().join("notes");
    fs::create_dir(&notes).unwrap();
    for name in ["one.md", "two.md"] {
        fs::write(notes.join(name), name).unwrap();
    }
    let roots = || [world.root(), support::root("notes", &notes)];
    world.push_roots(&roots());
    world.remove("cache/x");
    fs::remove_file(notes.join("one.md")).unwrap();
    world.push_roots(&roots());
    assert_eq!(world.gone(), [""; 0]);
    world.options.gone.labels = vec!["notes".into()];
    let roots = || [world.root(), support::root("notes", &notes)];
    world.push_roots(&roots());
    fs::remove_file(notes.join("two.md")).unwrap();
    let (_, problems) = world.push_roots(&roots());
    assert_eq!(world.gone(), ["notes/two.md"]);
    assert!(problems.is_empty(), "no alarm for a directory of one's own: {problems:?}");
}

#[test]
fn a_push_of_one_agent_says_nothing_of_the_others_and_carries_what_is_kept_of_them() {
    let world = World::with(&["a", "b", "c"]);
    let other = world.bench.dir.path().join("other");
    fs::create_dir_all(other.join("sessions")).unwrap();
    for n in 0..5 {
        fs::write(other.join(format!("sessions/{n}")), text(50 + n)).unwrap();
    }
    let codex = || agent_root("codex", "codex/home", &other, Agent::default());
    world.push_roots(&[world.root(), codex()]);
    fs::remove_file(other.join("sessions/0")).unwrap();
    world.push_roots(&[world.root(), codex()]);
    fs::remove_file(other.join("sessions/1")).unwrap();
    world.remove("sessions/a");
    let (pushed, problems) = world.push_roots(&[world.root()]);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(world.gone(), ["sessions/a", "codex/home/sessions/0"]);
    let labels: Vec<&str> =
        pushed.snapshot().gone_roots.iter().map(|root| root.label.as_str()).collect();
    assert_eq!(labels, ["codex/home"]);
    let stats = view::stats(&world.open()).unwrap();
    assert!(stats.agents.iter().all(|agent| agent.gone_entries == 1), "{:?}", stats.agents);
    // the other one is compared with the snapshot that has it, which is not the newest
    world.push_roots(&[world.root(), codex()]);
    let all = ["sessions/a", "codex/home/sessions/0", "codex/home/sessions/1"];
    assert_eq!(world.gone(), all);
}

#[test]
fn what_is_excluded_is_not_gone_and_what_cannot_be_stored_is_kept_until_one_can_look() {
    let mut world = World::with(&["secret", "d/x", "d/y", "b", "c"]);
    world.agent.excluded = Some("secret");
    world.push();
    assert_eq!(world.gone(), [""; 0], "it is there, and somebody wanted it out");
    world.remove("sessions/secret");
    world.push();
    assert_eq!(world.gone(), [""; 0]);
    world.write("sessions/.agent-backup-ignore", b"/b\nd\n!/d\n");
    world.write("sessions/d/.agent-backup-ignore", b"y\n");
    world.push();
    assert_eq!(world.gone(), [""; 0], "/d is not ignored, and y in it is");
    // a file grows beyond the limit: it is there and not in the snapshot
    world.options.scan.exclude_larger_than = Some(30_000);
    world.write("sessions/c", &Writer::new(3).lines(40_000));
    let (snapshot, problems) = world.push_heard();
    assert_eq!(world.gone(), ["sessions/c?"]);
    assert!(errors(&problems).is_empty(), "{problems:?}");
    assert!(world.pull_gone().is_empty(), "it may be there");
    assert!(snapshot.stats.gone_entries == 1);
    world.push();
    assert_eq!(world.gone(), ["sessions/c?"]);
    // then it is deleted: gone, as it was when it was last stored
    world.remove("sessions/c");
    world.push();
    assert_eq!(world.gone(), ["sessions/c"]);
    assert_eq!(world.pull_gone()["claude-code/home/sessions/c"], text(4));
    // and one that comes within the limit again was never gone
    world.write("sessions/d/x", &Writer::new(3).lines(40_000));
    world.push();
    assert_eq!(world.gone(), ["sessions/c", "sessions/d/x?"]);
    world.write("sessions/d/x", b"short");
    world.push();
    assert_eq!(world.gone(), ["sessions/c"]);
}

#[test]
fn a_root_that_is_missing_as_a_whole_is_gone_and_comes_back_with_its_disk() {
    let mut world = World::with(&["a", "b", "c", "d"]);
    let other = world.bench.dir.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("x"), "y").unwrap();
    let codex = agent_root("codex", "codex/home", &other, Agent::default());
    world.push_roots(&[world.root(), codex.clone()]);
    let away = world.bench.dir.path().join("away");
    fs::rename(world.bench.source(), &away).unwrap();
    // a push of a part does not look for it
    world.push_roots(std::slice::from_ref(&codex));
    assert_eq!(world.gone(), [""; 0]);
    world.options.gone.missing = Some(Arc::new(Known));
    fs::write(other.join("x"), "z").unwrap();
    let (pushed, problems) = world.push_roots(std::slice::from_ref(&codex));
    let all = ["sessions/a", "sessions/b", "sessions/c", "sessions/d"];
    assert_eq!(world.gone(), all);
    let told = errors(&problems);
    assert!(told.len() == 1 && told[0].what.starts_with("4 of 4 "), "{problems:?}");
    assert_eq!(pushed.snapshot().gone_roots[0].agent.as_deref(), Some("claude-code"));
    // told once, with or without what this machine remembers
    for cache in [true, false] {
        if !cache {
            world.forget_cache();
        }
        fs::write(other.join("x"), format!("{cache}")).unwrap();
        let (_, problems) = world.push_roots(std::slice::from_ref(&codex));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(world.gone(), all);
    }
    let there: Vec<String> = world.pull_gone().into_keys().collect();
    assert_eq!(there.len(), 4);
    fs::rename(&away, world.bench.source()).unwrap();
    fs::write(other.join("x"), "last").unwrap();
    world.push_roots(&[world.root(), codex]);
    assert_eq!(world.gone(), [""; 0]);
}

#[test]
fn a_root_that_could_not_be_looked_at_and_then_is_missing_is_gone() {
    let mut world = World::with(&["a", "b", "c", "d"]);
    let other = world.bench.dir.path().join("other");
    fs::create_dir_all(&other).unwrap();
    let codex = agent_root("codex", "codex/home", &other, Agent::default());
    let push = |world: &World, content: &str| {
        fs::write(other.join("x"), content).unwrap();
        world.push_roots(std::slice::from_ref(&codex));
    };
    world.options.gone.missing = Some(Arc::new(Known));
    fs::rename(world.bench.source(), world.bench.dir.path().join("away")).unwrap();
    // a link to a disk that is not there
    std::os::unix::fs::symlink("/nowhere/at/all", world.bench.source()).unwrap();
    push(&world, "1");
    assert_eq!(world.gone(), ["sessions/a?", "sessions/b?", "sessions/c?", "sessions/d?"]);
    push(&world, "2");
    fs::remove_file(world.bench.source()).unwrap();
    push(&world, "3");
    assert_eq!(world.gone(), ["sessions/a", "sessions/b", "sessions/c", "sessions/d"]);
    assert_eq!(world.pull_gone().len(), 4);
}

#[test]
fn a_file_whose_name_a_directory_takes_is_gone_and_so_is_one_that_moved_to_where_nobody_keeps_it() {
    let world = World::with(&["a", "b", "c", "d", "e", "f"]);
    world.remove("sessions/a");
    world.write("sessions/a/part", b"a directory now");
    world.push();
    assert_eq!(world.gone(), ["sessions/a"]);
    assert_eq!(world.pull_gone()["claude-code/home/sessions/a"], text(0));
    // and back
    fs::remove_dir_all(world.path("sessions/a")).unwrap();
    world.write("sessions/a", &text(0));
    world.push();
    assert_eq!(world.gone(), ["sessions/a/part"]);
    // a directory's name is not that of a database
    world.write("sessions/team/x", b"1");
    world.write("sessions/team-journal", b"no journal of any database");
    world.push();
    world.push_after("sessions/team-journal");
    // nor is every file a database
    world.write("sessions/may", b"plans");
    world.write("sessions/may-journal", b"what came of them");
    world.push();
    world.push_after("sessions/may-journal");
    let mut gone = world.gone();
    gone.sort();
    assert_eq!(gone, ["sessions/a/part", "sessions/may-journal", "sessions/team-journal"]);
    fs::create_dir(world.path("trash")).unwrap();
    fs::rename(world.path("sessions/b"), world.path("trash/b")).unwrap();
    world.push();
    world.push_after("trash/b");
    assert!(world.gone().contains(&"sessions/b".to_owned()), "{:?}", world.gone());
}

#[test]
fn two_machines_keep_each_its_own() {
    let world = World::with(&["a", "b", "c"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let dirs = engine::Dirs {
        state: elsewhere.path().join("state"),
        cache: elsewhere.path().join("cache"),
    };
    // the other machine opens with a copy of the key
    let from = world.bench.dirs().state.join("repos");
    let repo_dir = fs::read_dir(&from).unwrap().next().unwrap().unwrap();
    let to = dirs.state.join("repos").join(repo_dir.file_name());
    fs::create_dir_all(&to).unwrap();
    fs::copy(repo_dir.path().join("machine.key"), to.join("machine.key")).unwrap();
    let source = elsewhere.path().join("source");
    fs::create_dir_all(source.join("sessions")).unwrap();
    for n in 0..5 {
        fs::write(source.join(format!("sessions/{n}")), text(70 + n)).unwrap();
    }
    let root = agent_root("claude-code", LABEL, &source, Agent::default());
    let push_there = || {
        let session =
            support::open_with(world.store.clone(), &dirs, world.bench.clock.clone()).unwrap();
        let cancel = AtomicBool::new(false);
        let options = PushOptions::default();
        let pushed =
            push(&session, std::slice::from_ref(&root), &options, &Ears::default(), &cancel);
        let snapshot = pushed.unwrap().snapshot().clone();
        gone_in(&session, &snapshot)
    };
    assert!(push_there().is_empty(), "the files of the first machine are not gone here");
    fs::remove_file(source.join("sessions/0")).unwrap();
    assert_eq!(push_there(), ["sessions/0"]);
    world.remove("sessions/a");
    world.push();
    assert_eq!(world.gone(), ["sessions/a"]);
}

#[test]
fn a_name_that_vanishes_twice_in_one_second_has_two_entries() {
    let world = World::with(&["a", "b", "c"]);
    let push = || {
        let cancel = AtomicBool::new(false);
        push(&world.open(), &[world.root()], &world.options, &Ears::default(), &cancel).unwrap();
    };
    for content in ["one", "two", "three"] {
        world.write("sessions/a", content.as_bytes());
        push();
        world.remove("sessions/a");
        push();
    }
    assert_eq!(world.gone(), ["sessions/a"; 3]);
}

#[test]
fn a_hard_link_a_symbolic_link_and_a_database_are_kept_with_their_content() {
    let world = World::with(&["a", "b", "c", "d"]);
    world.write("memory/first", &text(9));
    fs::hard_link(world.path("memory/first"), world.path("sessions/second")).unwrap();
    std::os::unix::fs::symlink("a", world.path("sessions/link")).unwrap();
    let db = rusqlite::Connection::open(world.path("sessions/x.db")).unwrap();
    db.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES('kept')").unwrap();
    drop(db);
    world.push();
    for name in ["second", "link", "x.db"] {
        world.remove(&format!("sessions/{name}"));
    }
    world.push();
    assert_eq!(world.gone(), ["sessions/link", "sessions/second", "sessions/x.db"]);
    let session = world.open();
    let snapshot = session.select("latest", None, None).unwrap();
    let content = SnapshotContent::gone(&session, &snapshot).unwrap();
    let target = tempfile::tempdir().unwrap();
    let options = pull::Options::new(Placement::Under(target.path().to_owned()));
    let report = pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let sessions = target.path().join("claude-code/home/sessions");
    assert_eq!(fs::read(sessions.join("second")).unwrap(), text(9));
    assert_eq!(fs::read_link(sessions.join("link")).unwrap(), Path::new("a"));
    let db = rusqlite::Connection::open(sessions.join("x.db")).unwrap();
    let kept: String = db.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "kept");
}

#[test]
fn a_directory_comes_along_with_its_mode_and_an_empty_one_does_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::with(&["d/e/a", "d/b", "f/c", "g"]);
    fs::set_permissions(world.path("sessions/d/e"), fs::Permissions::from_mode(0o710)).unwrap();
    fs::create_dir(world.path("sessions/empty")).unwrap();
    world.push();
    fs::remove_dir_all(world.path("sessions/d/e")).unwrap();
    fs::remove_dir(world.path("sessions/empty")).unwrap();
    world.remove("sessions/f/c");
    let snapshot = world.push();
    assert_eq!(world.gone(), ["sessions/d/e/a", "sessions/f/c"]);
    assert_eq!(snapshot.stats.gone_entries, 3, "two files and a directory");
    let session = world.open();
    let content = SnapshotContent::gone(&session, &snapshot).unwrap();
    let target = tempfile::tempdir().unwrap();
    let options = pull::Options::new(Placement::Under(target.path().to_owned()));
    pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap();
    let dir = target.path().join("claude-code/home/sessions/d/e");
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o710);
}

#[test]
fn every_view_says_what_is_gone_and_what_is_there() {
    let world = World::with(&["a.jsonl", "b.jsonl", "c.jsonl"]);
    let old = world.push();
    let new = world.push_after("sessions/a.jsonl");
    let session = world.open();
    let mut listed = Vec::new();
    view::ls(&session, &new, b"", true, &mut |path, _| listed.push(path.to_vec())).unwrap();
    assert!(listed.iter().all(|path| !path.starts_with(b"~")), "{listed:?}");
    let one = &view::gone(&session, &new, b"").unwrap()[0];
    let stored = String::from_utf8(one.stored_path()).unwrap();
    let mut bytes = Vec::new();
    view::cat(&session, &new, stored.as_bytes(), &mut bytes).unwrap();
    assert_eq!(bytes, text(0));
    let path = b"claude-code/home/sessions/a.jsonl";
    let hint = view::cat(&session, &new, path, &mut bytes).unwrap_err().to_string();
    assert!(hint.contains(&stored), "{hint}");
    let totals = {
        let mut removed = Vec::new();
        let totals = view::diff(&session, &old, &new, &mut |d| removed.push(d.path.to_vec()));
        assert!(removed.contains(&path.to_vec()) && removed.iter().all(|p| !p.starts_with(b"~")));
        totals.unwrap()
    };
    assert_eq!((totals.removed, totals.gone_added, totals.gone_removed), (1, 1, 0));
    for glob in ["a.jsonl", "sessions/*.jsonl", "claude-code/home/sessions/a*"] {
        let options = view::FindOptions { globs: vec![glob.into()], ignore_case: false };
        let found = view::find(&session, &[old.clone(), new.clone()], &options).unwrap().all;
        let kept = found.iter().find(|one| one.path == stored.as_bytes());
        assert_eq!(kept.map(|one| one.snapshots.clone()), Some(vec![new.id]), "{glob}");
        let live = found.iter().find(|one| one.path == path).unwrap();
        assert_eq!(live.snapshots, [old.id]);
    }
    let stats = view::stats(&session).unwrap();
    let agent = &stats.agents[0];
    assert_eq!((agent.gone_entries, agent.gone_bytes), (1, text(0).len() as u64));
    assert_eq!(agent.entries, new.stats.entries);
    let there: u64 = session.snapshots().unwrap().iter().map(|s| s.stats.bytes).sum();
    assert_eq!(stats.content_bytes, there);
}

#[test]
fn a_label_that_sorts_behind_what_is_gone_is_stored_as_ever() {
    let world = World::with(&["a", "b", "c"]);
    let notes = world.bench.dir.path().join("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("x"), "1").unwrap();
    let roots = || [support::root("\u{6587}\u{6863}", &notes), world.root()];
    world.push_roots(&roots());
    world.remove("sessions/a");
    let (pushed, _) = world.push_roots(&roots());
    assert_eq!(world.gone(), ["sessions/a"]);
    assert!(world.pull(pushed.snapshot()).contains_key("\u{6587}\u{6863}/x"));
    assert!(matches!(world.push_roots(&roots()).0, Pushed::Unchanged(..)));
    fs::write(notes.join("x"), "2").unwrap();
    world.push_roots(&roots());
    assert_eq!(world.gone(), ["sessions/a"]);
}

#[test]
fn a_push_reads_nothing_of_earlier_snapshots_unless_something_vanished() {
    let store = Arc::new(testkit::RecordingStore::new(Arc::new(MemoryStore::new())));
    let bench = Bench::new(store.clone());
    let source = bench.source();
    fs::create_dir_all(source.join("sessions")).unwrap();
    for n in 0..2_000 {
        fs::write(source.join(format!("sessions/{n}")), format!("{n}")).unwrap();
    }
    drop(bench.init());
    let run = || {
        let cancel = AtomicBool::new(false);
        let root = agent_root("claude-code", LABEL, &source, Agent::default());
        let session = bench.open().unwrap();
        store.take();
        push(&session, &[root], &PushOptions::default(), &Ears::default(), &cancel).unwrap();
        let calls = store.take();
        let gets =
            |c: &&testkit::Call| c.verb == testkit::Verb::GetRange && c.name.starts_with("packs/");
        (calls.len(), calls.iter().filter(gets).count())
    };
    run();
    fs::write(source.join("sessions/7"), "more").unwrap();
    assert_eq!(run().1, 0);
    fs::remove_file(source.join("sessions/8")).unwrap();
    let (_, gets) = run();
    assert!((1..=6).contains(&gets), "{gets} reads: one for each level, and what lies beside it");
    assert!(run().0 <= 4, "nothing changed");
    fs::write(source.join("sessions/7"), "and more").unwrap();
    let (calls, gets) = run();
    assert!(calls <= 12 && gets == 0, "{calls} calls, {gets} reads");
}
