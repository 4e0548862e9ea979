//! Letting go of what is gone, the alarm when much vanishes, and what trouble does to both.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::copy::copy;
use engine::forget::{self, Policy, Request};
use engine::push::{Pushed, push};
use engine::{Session, gone, view};
use jiff::tz::TimeZone;
use repo::{OpId, Snapshot};
use store::{MemoryStore, Store as _};
use testkit::{Fault, FaultStore, Verb};

use crate::gone_support::*;
use crate::support::{self, Bench, Ears};

#[test]
fn lost_state_a_lost_cache_and_a_forgotten_snapshot_lose_nothing_that_is_kept() {
    let world = World::with(&["a", "b", "c", "d", "e", "f"]);
    world.remove("sessions/a");
    world.push();
    // the snapshot before is forgotten by name: an older one has what it had
    let forgotten = world.push_after("sessions/b");
    let session = world.open();
    let plan = forget::plan_named(&session, vec![forgotten]).unwrap();
    forget::apply(&session, &plan, &AtomicBool::new(false)).unwrap();
    world.remove("sessions/c");
    world.push();
    assert_eq!(world.gone(), ["sessions/a", "sessions/b", "sessions/c"]);
    world.forget_cache();
    world.remove("sessions/d");
    world.push();
    assert_eq!(world.gone(), ["sessions/a", "sessions/b", "sessions/c", "sessions/d"]);
    // all but the key and the name of the machine is lost
    let repos = world.bench.dirs().state.join("repos");
    let dir = fs::read_dir(repos).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(dir.join("state.json")).unwrap();
    world.forget_cache();
    world.remove("sessions/e");
    world.push();
    assert_eq!(world.gone().len(), 5);
    assert_eq!(world.pull_gone().len(), 5);
}

#[test]
fn limits_of_age_and_size_let_the_oldest_go_and_a_clock_that_runs_ahead_does_not() {
    let mut world = World::with(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    world.push_after("sessions/a");
    world.wait(20 * DAY);
    world.push_after("sessions/b");
    world.options.gone.age_max = Some(Duration::from_secs(30 * 86_400));
    // the clock here jumps ahead by ten years, the storage's does not
    world.bench.clock.0.fetch_add(3_650 * DAY, Ordering::Relaxed);
    world.push_after("sessions/c");
    assert_eq!(world.gone(), ["sessions/a", "sessions/b", "sessions/c"]);
    world.bench.clock.0.fetch_sub(3_650 * DAY, Ordering::Relaxed);
    world.wait(15 * DAY);
    world.remove("sessions/d");
    let (snapshot, problems) = world.push_heard();
    let gone = |snapshot: &Snapshot| gone_in(&world.open(), snapshot);
    assert_eq!(gone(&snapshot), ["sessions/b", "sessions/c", "sessions/d"]);
    assert!(problems.iter().any(|p| p.notice && p.what.starts_with("1 file ")), "{problems:?}");
    let mut world = world;
    world.options.gone.age_max = None;
    let bytes = |n: u64| text(n).len() as u64;
    world.options.gone.bytes_max = Some(bytes(2) + bytes(3) + bytes(4));
    let snapshot = world.push_after("sessions/e");
    let gone = gone_in(&world.open(), &snapshot);
    assert_eq!(gone, ["sessions/c", "sessions/d", "sessions/e"]);
}

#[test]
fn forgetting_what_is_gone_rewrites_every_snapshot_that_keeps_it_and_gc_frees_it() {
    let world = World::new();
    for (n, name) in ["a", "b", "d/c", "f", "e"].into_iter().enumerate() {
        // each in a block of its own: blocks are never split
        world.write(&format!("sessions/{name}"), &text(n as u64));
        world.push();
    }
    fs::remove_dir_all(world.path("sessions/d")).unwrap();
    world.push();
    world.wait(10 * DAY);
    let before = world.push_after("sessions/a");
    world.push_after("sessions/b");
    world.keep_last(2);
    world.collect();
    let session = world.open();
    let request = forget::gone::Request {
        paths: vec!["sessions/d".into(), "a".into()],
        ..forget::gone::Request::default()
    };
    let plan = forget::gone::plan(&session, &request).unwrap();
    let going: Vec<_> = plan.going.iter().map(|one| String::from_utf8_lossy(&one.path)).collect();
    assert_eq!(going, ["claude-code/home/sessions/a", "claude-code/home/sessions/d/c"]);
    assert_eq!(plan.snapshots.len(), 2);
    assert_eq!(world.gone().len(), 3, "a plan does nothing");
    let old = forget::gone::Request {
        older_than: Some(Duration::from_secs(5 * 86_400)),
        ..forget::gone::Request::default()
    };
    let old = forget::gone::plan(&session, &old).unwrap();
    assert_eq!(old.going.len(), 1, "{:?}", old.going);
    let agent = forget::gone::Request { agent: Some("codex".into()), ..request.clone() };
    assert!(forget::gone::plan(&session, &agent).unwrap().going.is_empty());

    let unique = |world: &World| view::stats(&world.open()).unwrap().unique_bytes;
    let bytes = unique(&world);
    let cancel = AtomicBool::new(false);
    let report = forget::gone::apply(&session, &plan, &mut |_| {}, &cancel).unwrap();
    assert_eq!(report.replaced.len(), 2);
    assert_eq!(world.gone(), ["sessions/b"]);
    let snapshots = world.open().snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[0].instead_of, Some(before.id));
    assert_eq!(snapshots[0].finished_nanos, before.finished_nanos);
    assert_eq!(snapshots[1].stats.gone_entries, 1);
    world.collect();
    let freed = bytes - unique(&world);
    assert_eq!(freed, (text(0).len() + text(2).len()) as u64);
    // the machine goes on: nothing changed, and nothing comes back
    let (pushed, problems) = world.push_roots(&[world.root()]);
    assert!(matches!(pushed, Pushed::Unchanged(..)) && problems.is_empty(), "{pushed:?}");
    assert_eq!(pushed.snapshot().id, snapshots[1].id);
    for cache in [true, false] {
        if !cache {
            world.forget_cache();
        }
        world.write("sessions/e", format!("{cache}").as_bytes());
        world.push();
        assert_eq!(world.gone(), ["sessions/b"]);
    }
    // a policy takes the time of the push, not that of the rewriting
    world.wait(10 * DAY);
    world.write("sessions/e", b"much later");
    world.push();
    let session = world.open();
    let policy = Policy { within: Some("9d".parse().unwrap()), ..Policy::default() };
    let request = Request { policy, ..Request::default() };
    let plan = forget::plan(&session, &request, &TimeZone::UTC).unwrap();
    assert_eq!((plan.forget().len(), plan.groups[0].times_set_right), (4, 0));
}

#[test]
fn a_pinned_snapshot_keeps_what_is_forgotten_elsewhere() {
    let world = World::with(&["a", "b", "c"]);
    let pinned = world.push_after("sessions/a");
    let session = world.open();
    session.repo().pin(&pinned.id).unwrap();
    world.write("sessions/b", b"more");
    world.push();
    let request = forget::gone::Request::default();
    let plan = forget::gone::plan(&session, &request).unwrap();
    assert_eq!((plan.pinned.clone(), plan.snapshots.len()), (vec![pinned.id], 1));
    forget::gone::apply(&session, &plan, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert!(world.gone().is_empty());
    assert_eq!(gone_in(&session, &session.snapshot(&pinned.id).unwrap()), ["sessions/a"]);
}

#[test]
fn more_than_half_gone_at_once_is_told_and_what_was_before_stays_until_that_is_acknowledged() {
    let world = World::with(&["a", "b", "c", "d", "e", "f"]);
    let mine = world.push_after("sessions/a");
    let session = world.open();
    session.repo().pin(&mine.id).unwrap();
    world.write("sessions/more", b"1");
    let before = world.push();
    world.write("sessions/new-1", b"1");
    for name in ["b", "c", "d"] {
        world.remove(&format!("sessions/{name}"));
    }
    let (_, problems) = world.push_heard();
    assert!(problems.is_empty(), "3 of 6 is not more than half: {problems:?}");
    // new files do not make it less
    for n in 0..9 {
        world.write(&format!("sessions/fresh-{n}"), format!("fresh {n}").as_bytes());
    }
    for name in ["e", "f", "new-1"] {
        world.remove(&format!("sessions/{name}"));
    }
    let (snapshot, problems) = world.push_heard();
    let told = errors(&problems);
    assert!(told.len() == 1, "{problems:?}");
    assert_eq!(told[0].path, b"claude-code");
    for word in ["3 of 4 ", "ls --gone", "pull --gone", "pin --acknowledge"] {
        assert!(told[0].what.contains(word), "{}", told[0].what);
    }
    let alarms = gone::alarms(&session).unwrap();
    assert_eq!((alarms.len(), alarms[0].gone, alarms[0].of), (1, 3, 4));
    let pinned = session.repo().pinned().unwrap();
    assert_eq!(pinned.len(), 4, "all that were before");
    assert!(pinned.contains(&before.id) && !pinned.contains(&snapshot.id));
    world.keep_last(1);
    assert_eq!(session.snapshots().unwrap().len(), 5);
    // told once; a later push is quiet, and the alarm stays
    world.write("sessions/fresh-0", b"more");
    assert!(world.push_heard().1.is_empty());
    let done = gone::acknowledge(&session, &AtomicBool::new(false)).unwrap();
    assert_eq!((done.alarms, done.unpinned.len()), (alarms, 3));
    assert!(gone::alarms(&session).unwrap().is_empty());
    let left: Vec<OpId> = session.repo().pinned().unwrap().into_iter().collect();
    assert_eq!(left, [mine.id], "a pin of somebody else stays");
    world.keep_last(1);
    assert_eq!(session.snapshots().unwrap().len(), 2);
    assert_eq!(world.gone().len(), 7);
}

#[test]
fn the_alarm_counts_right_when_the_cache_is_lost() {
    let world = World::with(&["a", "b", "c", "d", "e"]);
    world.forget_cache();
    world.remove("sessions/a");
    world.remove("sessions/b");
    assert!(world.push_heard().1.is_empty(), "2 of 5");
    world.forget_cache();
    world.remove("sessions/c");
    world.remove("sessions/d");
    let (_, problems) = world.push_heard();
    assert!(errors(&problems)[0].what.starts_with("2 of 3 "), "{problems:?}");
}

#[test]
fn what_lies_in_packs_that_nobody_may_rely_on_is_moved() {
    let world = World::with(&["a", "b", "c", "d"]);
    world.push_after("sessions/a");
    let packs: Vec<String> = names(&world, "packs/");
    for pack in &packs {
        let name = format!("gc/bad-{}", pack.strip_prefix("packs/").unwrap());
        world.store.put(&name, vec![bytes::Bytes::from_static(b"quarantined")]).unwrap();
    }
    let (_, problems) = {
        world.remove("sessions/c");
        world.push_heard()
    };
    assert!(problems.is_empty(), "{problems:?}");
    for pack in &packs {
        world.store.delete(pack).unwrap();
    }
    world.forget_cache();
    assert_eq!(world.gone(), ["sessions/a", "sessions/c"]);
    assert_eq!(world.pull_gone()["claude-code/home/sessions/a"], text(0));
    assert_eq!(world.pull_gone()["claude-code/home/sessions/c"], text(2));
}

#[test]
fn what_is_lost_in_the_repository_is_told_and_the_snapshot_that_had_it_is_pinned() {
    let world = World::with(&["a", "b", "c", "d"]);
    let first: Vec<String> = names(&world, "packs/");
    let had_it = world.push_after("sessions/a");
    for pack in &first {
        world.store.delete(pack).unwrap();
    }
    world.write("sessions/b", b"goes on");
    let (snapshot, problems) = world.push_heard();
    assert!(problems.len() == 1 && !problems[0].notice, "{problems:?}");
    assert_eq!(problems[0].path, b"claude-code/home/sessions/a");
    let pinned = world.open().repo().pinned().unwrap();
    assert!(pinned.contains(&had_it.id) && !pinned.contains(&snapshot.id));
    assert!(world.gone().is_empty());
    assert_eq!(world.pull(&snapshot).len(), 3, "what is there is stored again");
}

#[test]
fn a_safety_snapshot_of_a_part_hides_nothing_that_vanished_since() {
    let mut world = World::with(&["a", "b", "c", "d", "e"]);
    world.push_after("sessions/a");
    world.agent.excluded = Some("sessions");
    world.options.reason = Some(repo::SAFETY.to_owned());
    world.write("settings", b"replaced next");
    let safety = world.push();
    assert_eq!((safety.stats.gone_entries, safety.gone_roots.len()), (0, 0));
    world.agent.excluded = None;
    world.options.reason = None;
    world.push_after("sessions/b");
    assert_eq!(world.gone(), ["sessions/a", "sessions/b"]);
}

#[test]
fn a_newest_snapshot_that_does_not_read_is_told_and_an_older_one_says_what_vanished() {
    let world = World::with(&["a", "b", "c", "d"]);
    let before = names(&world, "packs/");
    let newest = world.push_after("sessions/a");
    for pack in names(&world, "packs/").iter().filter(|pack| !before.contains(pack)) {
        world.store.delete(pack).unwrap();
    }
    world.forget_cache();
    world.remove("sessions/b");
    let (_, problems) = world.push_heard();
    assert!(
        errors(&problems).iter().any(|p| p.what.contains("agent-backup verify")),
        "{problems:?}"
    );
    assert_eq!(world.gone(), ["sessions/a", "sessions/b"]);
    assert_eq!(world.pull_gone().len(), 2);
    // what it keeps may be had again, and no policy takes it until somebody looked
    assert!(world.open().repo().is_pinned(&newest.id).unwrap());
}

#[test]
fn what_one_root_lost_in_a_snapshot_that_does_not_read_is_looked_for_where_the_root_was_before() {
    let mut world = World::with(&["a", "b", "c", "d"]);
    world.options.gone.missing = Some(Arc::new(Known));
    let other = tempfile::tempdir().unwrap();
    let write = |name: &str, seed| {
        fs::create_dir_all(other.path().join("sessions")).unwrap();
        fs::write(other.path().join("sessions").join(name), text(seed)).unwrap();
    };
    for (name, seed) in [("w", 20), ("x", 21), ("y", 22), ("z", 23)] {
        write(name, seed);
    }
    // sorts before the other root
    let second = agent_root("another", "another/home", other.path(), Agent::default());
    let both = [second.clone(), world.root()];
    world.push_roots(&both);
    world.write("sessions/e", &text(9));
    // one of the agents alone: the newest snapshot that has the second root is the one before
    world.push();
    let before = names(&world, "packs/");
    write("v", 24);
    world.write("sessions/f", &text(10));
    let damaged = world.push_roots(&both).0.snapshot().id;
    for pack in names(&world, "packs/").iter().filter(|pack| !before.contains(pack)) {
        world.store.delete(pack).unwrap();
    }
    world.forget_cache();
    fs::remove_file(other.path().join("sessions/w")).unwrap();
    world.remove("sessions/e");
    let snapshot = world.push_roots(&both).0.snapshot().clone();
    // it alone has what vanished since the one before
    assert!(world.open().repo().is_pinned(&damaged).unwrap());
    let gone = gone_in(&world.open(), &snapshot);
    assert_eq!(gone, ["another/home/sessions/w", "sessions/e"]);
}

/// The store of a world, which dies once this many snapshots were committed.
fn dying(world: &World, snapshots: usize) -> Arc<FaultStore> {
    let mut left = snapshots;
    Arc::new(FaultStore::new(Arc::clone(&world.bench.store), move |call| {
        let commits = call.verb == Verb::Put && call.name.starts_with("snap/");
        left -= usize::from(commits);
        (commits && left == 0).then_some(Fault::CrashAfter)
    }))
}

#[test]
fn a_copy_that_died_after_its_commit_is_not_what_this_machine_did_last() {
    let world = World::with(&["a", "b", "c", "d", "e"]);
    let last = world.push_after("sessions/a");
    let other = World::with(&["x", "y", "z"]);
    let (from, to) = (other.open(), world.bench.open_on(dying(&world, 1)).unwrap());
    let snapshots = from.snapshots().unwrap();
    assert!(copy(&from, &to, &snapshots, &mut |_| {}, &AtomicBool::new(false)).is_err());
    drop(to);
    world.remove("sessions/b");
    let (snapshot, problems) = world.push_heard();
    assert_eq!(world.open().snapshots().unwrap().len(), 4, "the copy is there");
    assert_eq!(gone_in(&world.open(), &snapshot), ["sessions/a", "sessions/b"]);
    assert!(problems.is_empty(), "nothing of another machine is gone here: {problems:?}");
    assert_eq!((snapshot.previous, snapshot.counter), (Some(last.id), last.counter + 1));
}

#[test]
fn forgetting_what_is_gone_that_died_at_an_old_snapshot_takes_no_step_back() {
    let world = World::with(&["a", "b", "c", "d", "e"]);
    world.push_after("sessions/a");
    world.write("sessions/short-lived", &text(40));
    world.push();
    world.push_after("sessions/short-lived");
    let session = world.bench.open_on(dying(&world, 1)).unwrap();
    let request =
        forget::gone::Request { paths: vec!["a".into()], ..forget::gone::Request::default() };
    let plan = forget::gone::plan(&session, &request).unwrap();
    assert_eq!(plan.snapshots.len(), 3);
    let done = forget::gone::apply(&session, &plan, &mut |_| {}, &AtomicBool::new(false));
    assert!(done.is_err());
    drop(session);
    world.write("sessions/b", b"goes on");
    world.push();
    assert_eq!(world.gone(), ["sessions/a", "sessions/short-lived"]);
}

#[test]
fn a_pattern_that_is_empty_is_not_all_there_is() {
    let world = World::with(&["a", "b", "c", "d", "e"]);
    world.push_after("sessions/a");
    for path in ["", "/"] {
        let request =
            forget::gone::Request { paths: vec![path.into()], ..forget::gone::Request::default() };
        assert!(forget::gone::plan(&world.open(), &request).is_err(), "{path:?}");
    }
}

/// What a machine that lost its cache compares with is its own newest snapshot, whatever else there is.
fn misses_what_was_short_lived(world: &mut World) -> Snapshot {
    world.options.gone.missing = Some(Arc::new(Known));
    world.write("sessions/short-lived", &text(40));
    world.push();
    world.forget_cache();
    let snapshot = world.push_after("sessions/short-lived");
    assert!(gone_in(&world.open(), &snapshot).contains(&"sessions/short-lived".to_owned()));
    snapshot
}

#[test]
fn a_machine_that_lost_its_state_counts_on() {
    let mut world = World::with(&["a", "b", "c", "d", "e"]);
    world.push_after("sessions/a");
    let last = world.push_after("sessions/b");
    let repos = world.bench.dirs().state.join("repos");
    let dir = fs::read_dir(repos).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(dir.join("state.json")).unwrap();
    let snapshot = misses_what_was_short_lived(&mut world);
    assert_eq!(snapshot.counter, last.counter + 2);
}

/// Another repository of the same machine.
fn elsewhere(world: &World) -> Session {
    let elsewhere = Bench::new(Arc::new(MemoryStore::new()));
    let options = engine::InitOptions {
        passphrase: None,
        label: "here".into(),
        kdf: repo::keys::Kdf::for_tests(),
        keys_of: None,
    };
    let (store, clock) = (elsewhere.store.clone(), world.bench.clock.clone());
    Session::init(store, &options, &world.bench.dirs(), support::machine(), clock).unwrap().0
}

fn push_to(session: &Session, world: &World) {
    let cancel = AtomicBool::new(false);
    push(session, &[world.root()], &world.options, &Ears::default(), &cancel).unwrap();
}

#[test]
fn a_copy_of_an_own_push_that_died_after_its_commit_is_not_what_this_machine_did_last() {
    let world = World::with(&["a", "b", "c", "d", "e"]);
    let from = elsewhere(&world);
    push_to(&from, &world);
    world.wait(DAY);
    let last = world.push_after("sessions/a");
    let to = world.bench.open_on(dying(&world, 1)).unwrap();
    let snapshots = from.snapshots().unwrap();
    assert!(copy(&from, &to, &snapshots, &mut |_| {}, &AtomicBool::new(false)).is_err());
    drop(to);
    let snapshot = world.push_after("sessions/b");
    assert_eq!(world.open().snapshots().unwrap().len(), 4, "the copy is there");
    assert_eq!(gone_in(&world.open(), &snapshot), ["sessions/a", "sessions/b"]);
    assert_eq!((snapshot.previous, snapshot.counter), (Some(last.id), last.counter + 1));
}

#[test]
fn what_vanished_before_a_copy_outlives_a_policy_beside_what_is_pushed_here() {
    let world = World::with(&["b", "c"]);
    let from = elsewhere(&world);
    world.write("sessions/a", &text(0));
    push_to(&from, &world);
    world.remove("sessions/a");
    world.write("sessions/d", &text(7));
    push_to(&from, &world);
    let snapshots = from.snapshots().unwrap();
    copy(&from, &world.open(), &snapshots, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    world.push();
    world.keep_last(1);
    world.collect();
    let session = world.open();
    let left = session.snapshots().unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    let copied = left.iter().find(|s| s.origin.is_some()).unwrap();
    assert_eq!(gone_in(&session, copied), ["sessions/a"]);
}

#[test]
fn a_clock_that_is_wrong_for_one_push_lets_nothing_go_though_the_store_has_the_same_clock() {
    let mut world = World::with(&["a", "b", "c", "d", "e"]);
    world.push_after("sessions/a");
    world.options.gone.age_max = Some(Duration::from_secs(30 * 86_400));
    let gone_after = |name| gone_in(&world.open(), &world.push_after(name));
    world.wait(3_650 * DAY);
    assert_eq!(gone_after("sessions/b"), ["sessions/a", "sessions/b"]);
    world.wait(-3_650 * DAY);
    assert_eq!(gone_after("sessions/c"), ["sessions/a", "sessions/b", "sessions/c"]);
    // what is true of two pushes is believed
    world.wait(1_000 * DAY);
    assert_eq!(gone_after("sessions/d").len(), 4);
    assert!(!gone_after("sessions/e").contains(&"sessions/a".to_owned()));
}

#[test]
fn the_last_healthy_copy_of_a_damaged_database_stays_when_the_database_vanishes() {
    let mut world = World::with(&["a", "b"]);
    world.options.check_databases = true;
    let path = world.path("sessions/x.db");
    support::small_database(&path);
    let healthy = world.push().id;
    support::spoil(&path);
    assert_eq!(world.push().damaged.len(), 1);
    let newest = world.push_after("sessions/x.db");
    assert_eq!((newest.damaged.len(), world.gone()), (0, vec!["sessions/x.db".to_owned()]));
    world.write("sessions/a", b"goes on");
    let newest = world.push();
    world.keep_last(1);
    let left: Vec<OpId> = world.open().snapshots().unwrap().iter().map(|s| s.id).collect();
    assert_eq!(left, [healthy, newest.id]);
}

#[test]
fn copies_of_what_a_machine_pushed_elsewhere_do_not_count_as_its_newest() {
    let mut world = World::with(&["a", "b", "c", "d", "e"]);
    let from = elsewhere(&world);
    for n in 0..5 {
        world.write("settings", &[n]);
        push_to(&from, &world);
    }
    let snapshots = from.snapshots().unwrap();
    copy(&from, &world.open(), &snapshots, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    misses_what_was_short_lived(&mut world);
}

#[test]
fn a_pin_of_the_user_outlives_the_alarm_that_pinned_the_same_snapshot() {
    let world = World::with(&["a", "b", "c"]);
    let before = world.push_after("sessions/a");
    world.remove("sessions/b");
    world.remove("sessions/c");
    world.push();
    let session = world.open();
    assert_eq!(session.repo().pinned().unwrap().len(), 2);
    assert!(gone::pin(&session, &before.id).unwrap(), "it is news");
    assert!(!gone::pin(&session, &before.id).unwrap());
    gone::acknowledge(&session, &AtomicBool::new(false)).unwrap();
    let left: Vec<OpId> = session.repo().pinned().unwrap().into_iter().collect();
    assert_eq!(left, [before.id]);
}

#[test]
fn a_policy_of_tags_alone_leaves_the_snapshot_that_keeps_what_is_gone() {
    let mut world = World::new();
    world.options.tags = vec!["release".into()];
    world.write("sessions/a", &text(1));
    world.write("sessions/b", &text(2));
    world.write("sessions/c", &text(3));
    world.push();
    world.options.tags.clear();
    world.write("sessions/short-lived", &text(4));
    world.push();
    world.push_after("sessions/short-lived");
    let session = world.open();
    let policy = Policy { tags: vec!["release".into()], ..Policy::default() };
    let mut request = Request { policy, ..Request::default() };
    let plan = forget::plan(&session, &request, &TimeZone::UTC).unwrap();
    assert_eq!(plan.forget().len(), 1);
    forget::apply(&session, &plan, &AtomicBool::new(false)).unwrap();
    world.collect();
    assert_eq!(world.pull_gone()["claude-code/home/sessions/short-lived"], text(4));
    // it is not what a policy keeps, and goes with the rest where somebody says so
    request.policy.tags = vec!["none".into()];
    let kept = forget::plan(&session, &request, &TimeZone::UTC);
    assert!(matches!(kept, Err(engine::Error::KeepsNothing { .. })), "{kept:?}");
    request.remove_all = true;
    let plan = forget::plan(&session, &request, &TimeZone::UTC).unwrap();
    assert_eq!(plan.keep_count(), 0);
}
