//! Retention, collection, undelete and rotation as the verbs do them, on a store in memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use engine::forget::{self, Policy, Reason, Request};
use engine::push::PushOptions;
use engine::{Clock as _, Error, RotateOptions, Session, gc, undelete};
use jiff::tz::TimeZone;
use repo::keys::{Kdf, SecretInput};
use repo::{OpId, Snapshot};
use rusqlite::Connection;
use store::{MemoryStore, Store};
use testkit::FaultStore;
use zeroize::Zeroizing;

use crate::support::{self, Bench, TestClock, machine};

const DAY: i64 = 24 * 3600 * 1_000_000_000;

/// A bench whose store has a clock of its own.
struct World {
    bench: Bench,
    store: MemoryStore,
    store_clock: Arc<TestClock>,
}

impl World {
    fn new() -> Self {
        let store_clock = Arc::new(TestClock(AtomicI64::new(0)));
        let clock = Arc::clone(&store_clock);
        let store = MemoryStore::with_clock(move || {
            SystemTime::UNIX_EPOCH + Duration::from_nanos(clock.now_nanos().unsigned_abs())
        });
        let bench = Bench::new(Arc::new(store.clone()));
        fs::create_dir_all(bench.source()).unwrap();
        drop(bench.init());
        Self { bench, store, store_clock }
    }

    /// Time passes, here and at the store.
    fn wait(&self, nanos: i64) {
        self.bench.clock.0.fetch_add(nanos, Ordering::Relaxed);
        self.store_clock.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// A push that has something new.
    fn push(&self, n: u64, options: &PushOptions) -> Snapshot {
        let content = support::text::Writer::new(n).lines(2_000);
        fs::write(self.bench.source().join("file"), content).unwrap();
        let session = self.bench.open().unwrap();
        self.bench.push_with(&session, options).unwrap().snapshot().clone()
    }

    fn days(&self, days: u64) -> Vec<OpId> {
        let push = |n| {
            self.wait(DAY);
            self.push(n, &PushOptions::default()).id
        };
        (0..days).map(push).collect()
    }

    fn open(&self) -> Session {
        self.bench.open().unwrap()
    }

    fn ids(&self) -> Vec<OpId> {
        self.open().snapshots().unwrap().iter().map(|s| s.id).collect()
    }
}

fn keep(policy: Policy) -> Request {
    Request { policy, ..Request::default() }
}

fn last(count: usize) -> Request {
    keep(Policy { last: count, ..Policy::default() })
}

fn plan(session: &Session, request: &Request) -> engine::Result<forget::Plan> {
    forget::plan(session, request, &TimeZone::UTC)
}

fn apply(session: &Session, request: &Request) -> forget::Report {
    let plan = plan(session, request).unwrap();
    forget::apply(session, &plan, &AtomicBool::new(false)).unwrap()
}

fn collect(session: &Session) -> repo::gc::GcReport {
    let mut options = gc::options(session);
    options.accept_large = true;
    gc::collect(session, &options, false, &|_| {}).unwrap()
}

#[test]
fn a_policy_keeps_what_it_says_and_the_rest_comes_back_until_it_is_collected() {
    let world = World::new();
    let ids = world.days(5);
    let session = world.open();
    let request = keep(Policy { daily: 2, ..Policy::default() });
    let planned = plan(&session, &request).unwrap();
    assert_eq!(planned.groups.len(), 1);
    let group = &planned.groups[0];
    assert_eq!(group.machine.as_ref().unwrap().1, "here");
    assert_eq!(group.roots.as_deref().unwrap(), ["files"]);
    assert_eq!(group.times_set_right, 0);
    assert_eq!(planned.forget().iter().map(|s| s.id).collect::<Vec<_>>(), ids[..3]);
    assert_eq!(world.ids().len(), 5, "a plan does nothing");
    assert_eq!(apply(&session, &request).forgotten, ids[..3]);
    assert_eq!(world.ids(), ids[3..]);

    let back = undelete::undelete(&session, &ids[1]).unwrap();
    assert_eq!(back.reason.as_deref(), Some(repo::undelete::REASON));
    assert_eq!(world.ids(), [back.id, ids[3], ids[4]], "as old as it was");
    let shown = undelete::forgotten(&session).unwrap();
    assert!(shown.iter().all(|one| one.whole) && shown.len() == 2, "one is back");
    let report = collect(&session);
    assert!(report.swept_packs > 0 && report.pending.is_empty(), "{report:?}");
    let shown = undelete::forgotten(&session).unwrap();
    let whole: Vec<OpId> =
        shown.iter().filter(|one| one.whole).map(|one| one.snapshot.id).collect();
    assert!(whole.is_empty() && shown.len() == 2, "a collection took them, and one is back");
    assert_eq!(undelete::undelete(&session, &ids[1]).unwrap().id, back.id, "it is back already");
    let gone = undelete::undelete(&session, &ids[0]).unwrap_err();
    assert!(gone.to_string().contains("a collection has removed"), "{gone}");
    for id in world.ids() {
        world.bench.held(Arc::new(world.store.clone()), &id);
    }
    // the machine goes on as if nothing had been
    let next = world.push(77, &PushOptions::default());
    assert_eq!((next.counter, next.previous), (6, Some(ids[4])));
}

#[test]
fn pinned_and_safety_snapshots_stay_and_a_pinned_one_is_not_forgotten_by_name() {
    let world = World::new();
    let pinned = world.push(1, &PushOptions::default()).id;
    let reason = Some(forget::SAFETY.to_owned());
    let safety = world.push(2, &PushOptions { reason, ..PushOptions::default() }).id;
    let plain = world.push(3, &PushOptions::default()).id;
    let newest = world.push(4, &PushOptions::default()).id;
    let session = world.open();
    session.repo().pin(&pinned).unwrap();
    let planned = plan(&session, &last(1)).unwrap();
    let why: Vec<_> = planned.groups[0].keep.iter().map(|k| k.reasons.last().unwrap()).collect();
    assert!(matches!(why[..], [Reason::Rule(_), Reason::Safety, Reason::Pinned]), "{why:?}");
    assert_eq!(apply(&session, &last(1)).forgotten, [plain]);
    assert_eq!(world.ids(), [pinned, safety, newest]);
    let named = forget::plan_named(&session, vec![session.snapshot(&pinned).unwrap()]);
    assert!(matches!(named, Err(Error::Pinned(id)) if id == pinned));
    // pinned after the plan was made
    let planned = plan(&session, &Request { remove_all: true, ..Request::default() }).unwrap();
    session.repo().pin(&newest).unwrap();
    let report = forget::apply(&session, &planned, &AtomicBool::new(false)).unwrap();
    assert_eq!((report.forgotten, report.pinned), (vec![], vec![newest]));
}

#[test]
fn a_policy_that_would_keep_nothing_of_a_group_is_refused_unless_that_was_said() {
    let world = World::new();
    let ids = world.days(2);
    let session = world.open();
    let mut request = keep(Policy { tags: vec!["gold".into()], ..Policy::default() });
    let error = plan(&session, &request).unwrap_err();
    assert!(
        matches!(error, Error::KeepsNothing { newest, count: 2 } if newest == ids[1]),
        "{error}"
    );
    // a pin is nobody's policy
    session.repo().pin(&ids[0]).unwrap();
    let error = plan(&session, &request).unwrap_err();
    assert!(
        matches!(error, Error::KeepsNothing { newest, count: 1 } if newest == ids[1]),
        "{error}"
    );
    session.repo().unpin(&ids[0]).unwrap();
    request.remove_all = true;
    assert_eq!(apply(&session, &request).forgotten, ids);
}

#[test]
fn the_last_healthy_copy_of_a_damaged_database_stays() {
    let world = World::new();
    let path = world.bench.source().join("a.db");
    support::small_database(&path);
    let options = PushOptions { check_databases: true, ..PushOptions::default() };
    let push = |n| {
        world.wait(DAY);
        world.push(n, &options)
    };
    let (first, healthy) = (push(1).id, push(2).id);
    support::spoil(&path);
    let damaged: Vec<Snapshot> = (3..6).map(push).collect();
    for snapshot in &damaged {
        // read once, and carried over from then on
        assert_eq!(snapshot.damaged, [b"files/a.db".to_vec()]);
    }
    let session = world.open();
    let planned = plan(&session, &last(1)).unwrap();
    let kept = &planned.groups[0].keep;
    assert_eq!(kept.iter().map(|k| k.snapshot.id).collect::<Vec<_>>(), [damaged[2].id, healthy]);
    assert_eq!(kept[1].reasons, [Reason::Healthy(b"files/a.db".to_vec())]);
    assert!(planned.forget().iter().any(|s| s.id == first));
    // once it is whole again nothing holds the old one
    fs::remove_file(&path).unwrap();
    drop(Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(n)"));
    assert!(push(9).damaged.is_empty());
    assert_eq!(plan(&session, &last(1)).unwrap().keep_count(), 1);
}

#[test]
fn a_clock_that_is_wrong_by_years_moves_a_snapshot_by_two_days_at_most() {
    let world = World::new();
    let old = world.days(3);
    // this machine's clock goes ahead by ten years for one push, then back by thirty
    world.wait(DAY);
    world.bench.clock.0.fetch_add(3650 * DAY, Ordering::Relaxed);
    let ahead = world.push(10, &PushOptions::default()).id;
    world.wait(DAY);
    world.bench.clock.0.fetch_sub(40 * 365 * DAY, Ordering::Relaxed);
    let behind = world.push(11, &PushOptions::default()).id;
    world.bench.clock.0.fetch_add(30 * 365 * DAY, Ordering::Relaxed);
    let session = world.open();
    let policy = Policy { within: Some("2d".parse().unwrap()), ..Policy::default() };
    let planned = plan(&session, &keep(policy)).unwrap();
    let kept: Vec<OpId> = planned.groups[0].keep.iter().map(|k| k.snapshot.id).collect();
    assert!(kept.contains(&ahead) && kept.contains(&behind), "{kept:?}");
    assert_eq!(planned.groups[0].times_set_right, 2);
    assert!(planned.forget().iter().any(|s| s.id == old[0]));
}

#[test]
fn a_repository_that_was_copied_object_by_object_keeps_the_times_of_its_snapshots() {
    let world = World::new();
    let ids = world.days(5);
    world.wait(10 * DAY);
    let names: Vec<String> = world.store.list("").unwrap().into_iter().map(|i| i.name).collect();
    for name in names {
        let bytes = world.store.get(&name).unwrap();
        world.store.put(&name, vec![bytes]).unwrap();
    }
    let planned = plan(&world.open(), &keep(Policy { daily: 3, ..Policy::default() })).unwrap();
    assert_eq!(planned.forget().iter().map(|s| s.id).collect::<Vec<_>>(), ids[..2]);
}

#[test]
fn copies_of_old_snapshots_are_as_old_as_those_and_a_policy_keeps_their_days() {
    let (world, other) = (World::new(), World::new());
    world.days(5);
    world.wait(10 * DAY);
    other.wait(15 * DAY);
    let (from, to) = (world.open(), other.open());
    let stop = AtomicBool::new(false);
    let copied =
        engine::copy::copy(&from, &to, &from.snapshots().unwrap(), &mut |_| {}, &stop).unwrap();
    let copied = copied.copied;
    let planned = plan(&other.open(), &keep(Policy { daily: 3, ..Policy::default() })).unwrap();
    assert_eq!(planned.groups[0].times_set_right, 0);
    let forgotten: Vec<OpId> = planned.forget().iter().map(|s| s.id).collect();
    assert_eq!(forgotten, [copied[0].to, copied[1].to]);
    let origin = |id| other.open().snapshot(id).unwrap().origin;
    assert!(copied.iter().all(|one| origin(&one.to) == Some(one.from)));
}

#[test]
fn a_collection_that_crashes_is_ended_and_taken_over_by_the_next_one_here() {
    let world = World::new();
    let ids = world.days(3);
    apply(&world.open(), &last(1));
    for calls in 1.. {
        let disk = world.store.fork();
        let crashing = Arc::new(FaultStore::crash_after(Arc::new(disk.clone()), calls));
        let done = world.bench.open_on(crashing).map(|session| {
            let mut options = gc::options(&session);
            options.accept_large = true;
            gc::collect(&session, &options, false, &|_| {})
        });
        let session = world.bench.open_on(Arc::new(disk.clone())).unwrap();
        collect(&session);
        let report = collect(&session);
        assert!(report.pending.is_empty() && report.plan.running_packs == 0, "{calls}: {report:?}");
        assert_eq!(disk.list("packs/").unwrap().len(), 1, "after {calls} calls");
        world.bench.held(Arc::new(disk.clone()), &ids[2]);
        if matches!(done, Ok(Ok(_))) {
            assert!(disk.list("dead/").unwrap().is_empty(), "one that ended is not ended again");
            assert!(calls > 15, "{calls}");
            break;
        }
    }
}

#[test]
fn a_collection_ends_what_a_push_left_here_and_two_do_not_run_here_at_once() {
    let world = World::new();
    world.days(1);
    let crashing = Arc::new(FaultStore::new(Arc::new(world.store.clone()), |call| {
        let commits = call.verb == testkit::Verb::Put && call.name.starts_with("snap/");
        commits.then_some(testkit::Fault::CrashBefore)
    }));
    fs::write(world.bench.source().join("lost"), support::text::Writer::new(5).lines(90_000))
        .unwrap();
    let dying = world.bench.open().unwrap();
    drop(dying);
    let cold = world.bench.open_on(crashing.clone());
    assert!(cold.and_then(|session| world.bench.push(&session)).is_err() && crashing.crashed());
    let packs = world.store.list("packs/").unwrap().len();
    let session = world.open();
    let busy = std::cell::Cell::new(false);
    let mut options = gc::options(&session);
    options.accept_large = true;
    let report = gc::collect(&session, &options, false, &|_| {
        let second = gc::collect(&session, &options, false, &|_| {});
        busy.set(matches!(second, Err(Error::Busy { .. })));
    })
    .unwrap();
    assert!(busy.get());
    assert!(report.swept_packs > 0, "nobody waits a day for it: {report:?}");
    assert!(world.store.list("packs/").unwrap().len() < packs);
}

#[test]
fn an_undelete_that_crashes_at_any_call_leaves_what_was_and_works_again() {
    let world = World::new();
    let ids = world.days(3);
    apply(&world.open(), &last(1));
    for calls in 1.. {
        let disk = world.store.fork();
        let crashing = Arc::new(FaultStore::crash_after(Arc::new(disk.clone()), calls));
        let done = world.bench.open_on(crashing).and_then(|s| undelete::undelete(&s, &ids[0]));
        let session = world.bench.open_on(Arc::new(disk.clone())).unwrap();
        let back = undelete::undelete(&session, &ids[0]).unwrap();
        collect(&session);
        for id in [ids[2], back.id] {
            world.bench.held(Arc::new(disk.clone()), &id);
        }
        // the next push stands on the newest one, not on what came back
        let options = PushOptions { always: true, ..PushOptions::default() };
        let next = world.bench.push_with(&session, &options).unwrap().snapshot().clone();
        assert!(next.previous == Some(ids[2]) || calls > 1, "{next:?}");
        assert!(next.previous != Some(back.id));
        restore_state(&world, &ids[2]);
        if done.is_ok() {
            assert!(calls > 8, "{calls}");
            break;
        }
    }
}

/// The state of the machine is that of the forks no more: its newest snapshot is this one again.
fn restore_state(world: &World, newest: &OpId) {
    let state = world.bench.dirs().state.join("repos");
    let dir = fs::read_dir(state).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(dir.join("state.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["previous"]["id"] = newest.hex().into();
    json["sets"] = serde_json::json!({});
    fs::write(dir.join("state.json"), json.to_string()).unwrap();
}

fn rotate_options(passphrase: &str) -> RotateOptions {
    let text = Zeroizing::new(passphrase.to_owned());
    RotateOptions {
        passphrase: Some(SecretInput::Passphrase(text)),
        recovery: false,
        drop_others: false,
        label: "here".into(),
        kdf: Kdf::for_tests(),
    }
}

fn open_with_passphrase(world: &World, store: MemoryStore, text: &str) -> engine::Result<Session> {
    let secret = SecretInput::Passphrase(Zeroizing::new(text.to_owned()));
    let give = |_: &repo::config::Config| Ok(Some(secret));
    Session::open(Arc::new(store), give, &world.bench.dirs(), machine(), world.bench.clock.clone())
}

#[test]
fn after_a_rotation_old_keys_read_what_was_before_and_are_told_why_they_read_no_more() {
    let world = World::new();
    let before = world.push(1, &PushOptions::default());
    let old = world.open();
    let dirs = world.bench.dirs();
    let rotated = engine::rotate(&old, &dirs, &rotate_options("first"), |_| Ok(())).unwrap();
    assert_eq!((rotated.added.len(), rotated.removed.len(), rotated.left.len()), (2, 1, 1));
    let after = world.push(2, &PushOptions::default());
    let by_word = open_with_passphrase(&world, world.store.clone(), "first").unwrap();
    for session in [&world.open(), &by_word] {
        for snapshot in [&before, &after] {
            support::contents(session, &snapshot.tree);
        }
    }
    support::contents(&old, &before.tree);
    let read = repo::Reader::open(old.repo(), None).unwrap().read(&after.tree).unwrap_err();
    assert!(
        matches!(&read, repo::Error::WrongKey { detail } if detail.contains("epoch 1")),
        "{read}"
    );
    // a key that is not here is no damage: nothing is passed over
    let find = engine::view::FindOptions { globs: vec!["*".into()], ..Default::default() };
    let found = engine::view::find(&old, &[before.clone(), after.clone()], &find).unwrap_err();
    assert!(matches!(&found, Error::Repo(repo::Error::WrongKey { .. })), "{found}");
    fs::write(world.bench.source().join("more"), "more").unwrap();
    let written = world.bench.push(&old).unwrap_err();
    assert!(written.to_string().contains("epoch 1"), "{written}");
    // again, with the same passphrase: no slot is left over
    let again = engine::rotate(&world.open(), &dirs, &rotate_options("first"), |_| Ok(())).unwrap();
    assert_eq!((again.epoch, again.removed.len(), again.left.len()), (2, 2, 1));
    let dropped = RotateOptions { drop_others: true, ..rotate_options("second") };
    let dropped = engine::rotate(&world.open(), &dirs, &dropped, |_| Ok(())).unwrap();
    assert_eq!((dropped.removed.len(), dropped.left.len()), (3, 0));
    assert!(open_with_passphrase(&world, world.store.clone(), "first").is_err());
    support::contents(&world.open(), &after.tree);
}

#[test]
fn a_rotation_that_crashes_at_any_call_locks_nobody_out_and_is_done_again() {
    let world = World::new();
    let before = world.push(1, &PushOptions::default());
    let dirs = world.bench.dirs();
    let keys = dirs.state.join("repos").join(world.open().repo().id().hex()).join("machine.key");
    let key = fs::read(&keys).unwrap();
    for calls in 1.. {
        fs::write(&keys, &key).unwrap();
        let disk = world.store.fork();
        let crashing = Arc::new(FaultStore::crash_after(Arc::new(disk.clone()), calls));
        let done = world
            .bench
            .open_on(crashing)
            .and_then(|s| engine::rotate(&s, &dirs, &rotate_options("word"), |_| Ok(())));
        let again = world.bench.open_on(Arc::new(disk.clone())).unwrap();
        support::contents(&again, &before.tree);
        engine::rotate(&again, &dirs, &rotate_options("word"), |_| Ok(())).unwrap();
        // recovery code, machine, passphrase, and maybe a machine's whose secret went with the crash
        let slots = disk.list("keys/").unwrap().len();
        assert!((3..=4).contains(&slots), "{slots} after {calls} calls");
        let machine = world.bench.open_on(Arc::new(disk.clone())).unwrap();
        let word = open_with_passphrase(&world, disk.clone(), "word").unwrap();
        let (a, b) = (machine.repo().keys().keyring(), word.repo().keys().keyring());
        assert!(a == b && a.epochs.len() > 1, "after {calls} calls");
        if done.is_ok() {
            assert!(calls > 8, "{calls}");
            break;
        }
    }
}

#[test]
fn snapshots_that_a_repair_wrote_again_are_as_old_as_they_are() {
    let world = World::new();
    let ids = world.days(30);
    world.wait(30 * DAY);
    world.push(99, &PushOptions::default());
    for id in &ids {
        let name = Snapshot::object_name(id);
        let bytes = world.store.get(&name).unwrap();
        world.store.put(&name, vec![bytes]).unwrap();
    }
    let plan = plan(&world.open(), &keep(Policy { daily: 31, ..Policy::default() })).unwrap();
    assert_eq!((plan.keep_count(), plan.groups[0].times_set_right), (31, 0));
}

#[test]
fn the_newest_snapshot_that_a_repair_wrote_again_takes_no_others_along() {
    let world = World::new();
    let ids = world.days(5);
    world.wait(30 * DAY);
    let again = |id: &OpId| {
        let name = Snapshot::object_name(id);
        world.store.put(&name, vec![world.store.get(&name).unwrap()]).unwrap();
    };
    again(&ids[4]);
    let within = Policy { within: Some("3d".parse().unwrap()), ..Policy::default() };
    let planned = plan(&world.open(), &keep(within.clone())).unwrap();
    assert_eq!((planned.keep_count(), planned.groups[0].times_set_right), (3, 0));
    // nor do all of them, which came from another repository when this one had lost them
    ids.iter().for_each(again);
    for policy in [within, Policy { daily: 3, ..Policy::default() }] {
        let planned = plan(&world.open(), &keep(policy)).unwrap();
        assert_eq!((planned.keep_count(), planned.groups[0].times_set_right), (3, 0));
    }
}

#[test]
fn a_clock_that_was_behind_from_the_first_push_makes_no_snapshot_old() {
    let world = World::new();
    world.bench.clock.0.fetch_sub(3_650 * DAY, Ordering::Relaxed);
    world.days(3);
    world.bench.clock.0.fetch_add(3_650 * DAY, Ordering::Relaxed);
    world.days(1);
    let policy = Policy { within: Some("10d".parse().unwrap()), ..Policy::default() };
    let planned = plan(&world.open(), &keep(policy)).unwrap();
    assert_eq!((planned.keep_count(), planned.groups[0].times_set_right), (4, 3));
}
