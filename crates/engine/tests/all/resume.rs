//! Killed, restarted, forgetful: a push goes on where it can and never needs a hand.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::push::{PushOptions, Pushed};
use engine::{Dirs, Error};
use repo::OpId;
use store::{MemoryStore, Store};
use testkit::tree::assert_equal;
use testkit::{Fault, FaultStore, RecordingStore, Verb};

use crate::support::Bench;
use crate::support::text::{Dice, Writer};

const PACK_BYTES: u64 = 32 << 20;

fn bench() -> (Bench, MemoryStore) {
    let memory = MemoryStore::new();
    (Bench::new(Arc::new(memory.clone())), memory)
}

/// A few files that fit one pack.
fn plant(bench: &Bench) {
    let mut writer = Writer::new(3);
    fs::create_dir_all(bench.source().join("a/empty")).unwrap();
    fs::write(bench.source().join("a/long.jsonl"), writer.lines(300_000)).unwrap();
    for n in 0..20 {
        fs::write(bench.source().join(format!("{n}.json")), writer.lines(700)).unwrap();
    }
}

fn push(bench: &Bench) -> Pushed {
    bench.push(&bench.open().unwrap()).unwrap()
}

fn made(pushed: &Pushed) -> OpId {
    assert!(matches!(pushed, Pushed::Made(_)), "{pushed:?}");
    pushed.snapshot().id
}

fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).unwrap().into_iter().map(|item| item.name).collect()
}

fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Repo(repo::Error::Refused { .. }))
}

/// Every snapshot the repository shows restores, and there are `count` of them.
fn assert_restores(bench: &Bench, memory: &MemoryStore, ids: &[OpId]) {
    for id in ids {
        bench.restore(Arc::new(memory.clone()), id);
    }
}

#[test]
fn a_first_push_killed_ten_times_uploads_little_twice() {
    // noise: what is stored is what there is, nine packs of it and more
    let (bench, memory) = bench();
    let mut dice = Dice::new(4);
    fs::create_dir_all(bench.source()).unwrap();
    for n in 0..9 {
        fs::write(bench.source().join(format!("noise-{n:02}")), dice.bytes(PACK_BYTES as usize))
            .unwrap();
    }
    drop(bench.init());
    let whole = 9 * PACK_BYTES + (4 << 20);
    let mut put = 0;
    let options = PushOptions { uploads: 1, readers: 1, ..PushOptions::default() };
    for run in 0..10 {
        let recording = Arc::new(RecordingStore::new(Arc::new(memory.clone())));
        // two calls to open, and then anywhere before the snapshot
        let after = 3 + dice.below(16);
        let dying = Arc::new(FaultStore::new(recording.clone(), move |call| {
            let last_moment = call.verb == Verb::Put && call.name.starts_with("snap/");
            (call.number > after || last_moment).then_some(Fault::CrashBefore)
        }));
        let outcome = bench.open_on(dying).and_then(|s| bench.push_with(&s, &options));
        put += recording.bytes_put();
        assert!(outcome.is_err(), "run {run} should have died after {after} calls");
    }
    let recording = Arc::new(RecordingStore::new(Arc::new(memory.clone())));
    let last = bench.push(&bench.open_on(recording.clone()).unwrap()).unwrap();
    put += recording.bytes_put();
    assert!(put <= whole + 10 * 8 * PACK_BYTES, "{put} bytes");
    let tree = bench.restore(Arc::new(memory.clone()), &made(&last));
    assert_equal(&bench.tree(), &tree);
}

#[test]
fn packs_that_an_index_names_survive_the_death_of_their_push() {
    let (bench, memory) = bench();
    let mut dice = Dice::new(5);
    fs::create_dir_all(bench.source()).unwrap();
    for n in 0..10 {
        fs::write(bench.source().join(format!("{n}")), dice.bytes(PACK_BYTES as usize)).unwrap();
    }
    drop(bench.init());
    // the process dies right after the first index object, which names eight packs
    let dying = Arc::new(FaultStore::new(Arc::new(memory.clone()), |call| {
        (call.verb == Verb::Put && call.name.starts_with("index/")).then_some(Fault::CrashAfter)
    }));
    assert!(bench.open_on(dying).and_then(|s| bench.push(&s)).is_err());
    let again = push(&bench);
    // packs are closed early where that saves padding
    assert!(again.stats().bytes_stored <= 4 * PACK_BYTES, "{:?}", again.stats());
    // they are used again only where they still are
    let (other, memory) = self::bench();
    fs::rename(bench.source(), other.source()).unwrap();
    drop(other.init());
    let dying = Arc::new(FaultStore::new(Arc::new(memory.clone()), |call| {
        (call.verb == Verb::Put && call.name.starts_with("index/")).then_some(Fault::CrashAfter)
    }));
    assert!(other.open_on(dying).and_then(|s| other.push(&s)).is_err());
    for name in names(&memory, "packs/") {
        memory.delete(&name).unwrap();
    }
    let again = push(&other);
    assert!(again.stats().bytes_stored >= 10 * PACK_BYTES, "{:?}", again.stats());
    assert_equal(&other.tree(), &other.restore(Arc::new(memory), &made(&again)));
}

#[test]
fn a_crash_right_after_the_commit_leaves_a_snapshot_that_counts() {
    for (crash, fault) in [("snap/", Fault::CrashAfter), ("kill/", Fault::CrashBefore)] {
        let (bench, memory) = bench();
        plant(&bench);
        drop(bench.init());
        let dying = Arc::new(FaultStore::new(Arc::new(memory.clone()), move |call| {
            let here = call.name.starts_with(crash) && call.verb != Verb::List;
            here.then(|| fault.clone())
        }));
        assert!(bench.open_on(dying).and_then(|s| bench.push(&s)).is_err());
        let [name] = names(&memory, "snap/").try_into().unwrap();
        let orphan = OpId::from_hex(name.strip_prefix("snap/").unwrap()).unwrap();
        fs::write(bench.source().join("new"), b"more").unwrap();
        let next = push(&bench);
        let id = made(&next);
        assert_eq!(next.snapshot().previous, Some(orphan), "after {crash}");
        assert_eq!(next.snapshot().counter, 2);
        assert_eq!(names(&memory, "dead/"), Vec::<String>::new());
        assert_restores(&bench, &memory, &[orphan, id]);
    }
}

#[test]
fn a_snapshot_that_was_never_acknowledged_is_not_called_current() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    let dying = Arc::new(FaultStore::new(Arc::new(memory.clone()), |call| {
        (call.name.starts_with("snap/") && call.verb == Verb::Put).then_some(Fault::CrashAfter)
    }));
    assert!(bench.open_on(dying).and_then(|s| bench.push(&s)).is_err());
    let [name] = names(&memory, "snap/").try_into().unwrap();
    let orphan = name.strip_prefix("snap/").unwrap();
    let id = made(&push(&bench));
    // another client took the same crash for a death, before the snapshot could be seen there
    memory.put(&format!("dead/{orphan}"), vec!["any bytes".into()]).unwrap();
    assert_ne!(id.hex(), orphan);
    assert!(matches!(push(&bench), Pushed::Unchanged(..)));
    assert_equal(&bench.tree(), &bench.restore(Arc::new(memory), &id));
}

#[test]
fn a_snapshot_that_somebody_began_to_forget_is_not_called_current() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    let first = made(&push(&bench));
    // whoever forgot it was stopped between record and delete
    memory.put(&format!("forgot/{first}"), vec!["any bytes".into()]).unwrap();
    let second = made(&push(&bench));
    assert_ne!(first, second);
    assert_equal(&bench.tree(), &bench.restore(Arc::new(memory), &second));
}

#[test]
fn a_push_that_somebody_killed_is_done_again_and_its_doubtful_snapshot_withdrawn() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    let (seen, store) = (AtomicBool::new(false), memory.clone());
    let meddling = Arc::new(FaultStore::new(Arc::new(memory.clone()), move |call| {
        if call.verb == Verb::Put
            && let Some(id) = call.name.strip_prefix("snap/")
            && !seen.swap(true, Ordering::Relaxed)
        {
            store.put(&format!("kill/{id}"), vec!["any bytes".into()]).unwrap();
        }
        None
    }));
    let pushed = bench.push(&bench.open_on(meddling).unwrap()).unwrap();
    let id = made(&pushed);
    assert_eq!(names(&memory, "snap/"), [format!("snap/{id}")]);
    let [kill] = names(&memory, "kill/").try_into().unwrap();
    let first = kill.strip_prefix("kill/").unwrap();
    assert_eq!(names(&memory, "forgot/"), [format!("forgot/{first}")]);
    assert_ne!(first, id.hex());
    assert_equal(&bench.tree(), &bench.restore(Arc::new(memory), &id));
    assert!(matches!(push(&bench), Pushed::Unchanged(..)));
}

#[test]
fn a_doubtful_snapshot_that_somebody_pinned_is_not_withdrawn() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    let (seen, store) = (AtomicBool::new(false), memory.clone());
    let meddling = Arc::new(FaultStore::new(Arc::new(memory.clone()), move |call| {
        // the pin comes before anybody asks the push to stop, and so it holds
        if call.verb == Verb::Get
            && let Some(id) = call.name.strip_prefix("kill/")
            && !seen.swap(true, Ordering::Relaxed)
        {
            store.put(&format!("pin/{id}-0011223344556677"), vec!["any bytes".into()]).unwrap();
            store.put(&format!("kill/{id}"), vec!["any bytes".into()]).unwrap();
        }
        None
    }));
    let id = made(&bench.push(&bench.open_on(meddling).unwrap()).unwrap());
    let [kill] = names(&memory, "kill/").try_into().unwrap();
    let pinned = OpId::from_hex(kill.strip_prefix("kill/").unwrap()).unwrap();
    assert_ne!(pinned, id);
    assert_eq!(names(&memory, "forgot/"), Vec::<String>::new());
    assert_restores(&bench, &memory, &[pinned, id]);
}

#[test]
fn a_push_that_is_killed_every_time_gives_up_and_acknowledges_nothing() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    let store = memory.clone();
    let meddling = Arc::new(FaultStore::new(Arc::new(memory.clone()), move |call| {
        if call.verb == Verb::Put
            && let Some(id) = call.name.strip_prefix("snap/")
        {
            store.put(&format!("kill/{id}"), vec!["any bytes".into()]).unwrap();
        }
        None
    }));
    let outcome = bench.push(&bench.open_on(meddling).unwrap());
    assert!(outcome.is_err_and(|e| is_refused(&e)));
    // the last of them is this machine's own to judge: nobody declared it dead
    let next = push(&bench).snapshot().id;
    assert_equal(&bench.tree(), &bench.restore(Arc::new(memory), &next));
}

/// How a machine can lose what it knew, with a name.
type Loss<'a> = (&'a str, &'a dyn Fn(&Bench));

#[test]
fn losing_state_or_cache_costs_time_and_changes_nothing() {
    let (other, _) = bench();
    plant(&other);
    drop(other.init());
    push(&other);
    let foreign = cache_file(&other.dirs());
    let losses: [Loss<'_>; 8] = [
        ("state", &|b| lose_state(b)),
        ("cache", &|b| fs::remove_dir_all(b.dirs().cache).unwrap()),
        ("both", &|b| {
            lose_state(b);
            fs::remove_dir_all(b.dirs().cache).unwrap();
        }),
        ("cache is noise", &|b| put_cache(b, &Dice::new(9).bytes(90_000))),
        ("cache is cut off", &|b| {
            let bytes = fs::read(cache_file(&b.dirs())).unwrap();
            put_cache(b, &bytes[..bytes.len() / 2]);
        }),
        ("cache has flipped bits", &|b| {
            let mut bytes = fs::read(cache_file(&b.dirs())).unwrap();
            let mut dice = Dice::new(10);
            for _ in 0..40 {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.below(8);
            }
            put_cache(b, &bytes);
        }),
        ("cache of before", &|b| {
            fs::copy(b.dir.path().join("old-cache"), cache_file(&b.dirs())).unwrap();
            remove_side_files(b);
        }),
        ("cache of another repository", &|b| put_cache(b, &fs::read(&foreign).unwrap())),
    ];
    for (what, lose) in losses {
        let (bench, memory) = bench();
        plant(&bench);
        drop(bench.init());
        push(&bench);
        fs::copy(cache_file(&bench.dirs()), bench.dir.path().join("old-cache")).unwrap();
        fs::write(bench.source().join("3.json"), Writer::new(8).lines(900)).unwrap();
        let before = push(&bench);
        lose(&bench);
        let again = push(&bench);
        assert_eq!(again.snapshot().tree, before.snapshot().tree, "{what}");
        assert_eq!(again.stats().bytes_new, 0, "{what}: {:?}", again.stats());
        assert_eq!(again.stats().problems, 0, "{what}");
        fs::write(bench.source().join("4.json"), Writer::new(9).lines(900)).unwrap();
        let id = made(&push(&bench));
        assert_equal(&bench.tree(), &bench.restore(Arc::new(memory.clone()), &id));
        assert_restores(&bench, &memory, &[before.snapshot().id, again.snapshot().id]);
        assert!(matches!(push(&bench), Pushed::Unchanged(..)), "{what}");
    }
}

fn lose_state(bench: &Bench) {
    let dir = fs::read_dir(bench.dirs().state.join("repos")).unwrap().next().unwrap().unwrap();
    fs::remove_file(dir.path().join("state.json")).unwrap();
}

fn cache_file(dirs: &Dirs) -> std::path::PathBuf {
    fs::read_dir(&dirs.cache).unwrap().next().unwrap().unwrap().path().join("cache.db")
}

fn remove_side_files(bench: &Bench) {
    for suffix in ["-wal", "-shm"] {
        let mut path = cache_file(&bench.dirs()).into_os_string();
        path.push(suffix);
        let _ = fs::remove_file(path);
    }
}

fn put_cache(bench: &Bench, bytes: &[u8]) {
    remove_side_files(bench);
    fs::write(cache_file(&bench.dirs()), bytes).unwrap();
}

#[test]
fn a_rolled_back_store_is_refused_until_somebody_says_it_was_meant() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    push(&bench);
    let old = memory.fork();
    fs::write(bench.source().join("new"), b"more").unwrap();
    let newest = made(&push(&bench));
    fs::write(bench.source().join("newer"), b"still more").unwrap();

    let on_old = |options: &PushOptions| {
        bench.open_on(Arc::new(old.clone())).and_then(|s| bench.push_with(&s, options))
    };
    let before = names(&old, "");
    let refused = on_old(&PushOptions::default());
    assert!(refused.is_err_and(|e| is_refused(&e)));
    assert_eq!(names(&old, ""), before, "a refused push leaves no trace");

    let forgotten = old.fork();
    forgotten.put(&format!("forgot/{newest}"), vec!["its record".into()]).unwrap();
    let session = bench.open_on(Arc::new(forgotten)).unwrap();
    made(&bench.push(&session).unwrap());
    // that push is this machine's newest now, and the old copy lacks it just the same
    assert!(on_old(&PushOptions::default()).is_err_and(|e| is_refused(&e)));
    let meant = on_old(&PushOptions { accept_rollback: true, ..PushOptions::default() }).unwrap();
    assert_equal(&bench.tree(), &bench.restore(Arc::new(old), &made(&meant)));
}

#[test]
fn only_one_push_at_a_time_works_on_a_repository_here() {
    let (bench, memory) = bench();
    plant(&bench);
    drop(bench.init());
    let second = bench.open().unwrap();
    let (bench, busy) = (Arc::new(bench), Arc::new(AtomicBool::new(false)));
    let (other, heard) = (bench.clone(), busy.clone());
    let second = std::sync::Mutex::new(second);
    let store = Arc::new(FaultStore::new(Arc::new(memory), move |call| {
        if call.name.starts_with("packs/") {
            let outcome = other.push(&second.lock().unwrap());
            heard.store(matches!(outcome, Err(Error::Busy { .. })), Ordering::Relaxed);
        }
        None
    }));
    made(&bench.push(&bench.open_on(store).unwrap()).unwrap());
    assert!(busy.load(Ordering::Relaxed), "a second push is told that another one is at work");
    assert!(matches!(push(&bench), Pushed::Unchanged(..)), "the lock is free again");
}
