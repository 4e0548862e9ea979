//! Every store call of push and pull fails once, in every way it can: the run ends with an error or
//! with a right result, no acknowledged snapshot suffers, and the next run needs no hand.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::Session;
use engine::pull::{self, Placement, SnapshotContent};
use engine::push::{PushOptions, Pushed};
use repo::OpId;
use store::MemoryStore;
use testkit::tree::assert_equal;
use testkit::{Failure, Fault, FaultStore, Tree};

use crate::support::text::Writer;
use crate::support::{Bench, files_below};

/// More calls than any run here makes.
const CALLS_MAX: u64 = 60;

fn write_faults() -> Vec<Fault> {
    let mut faults: Vec<Fault> =
        [Failure::Unavailable, Failure::Io(io::ErrorKind::TimedOut)].map(Fault::Fail).into();
    faults.extend([Fault::LoseAnswer, Fault::CrashBefore, Fault::CrashAfter]);
    faults.extend(read_faults());
    faults
}

fn read_faults() -> [Fault; 4] {
    [Fault::CutTo(0), Fault::CutTo(100), Fault::FlipBit(300), Fault::Fail(Failure::Unavailable)]
}

fn plant(bench: &Bench) {
    let mut writer = Writer::new(21);
    fs::create_dir_all(bench.source().join("deep/er/empty")).unwrap();
    fs::write(bench.source().join("deep/long.jsonl"), writer.lines(120_000)).unwrap();
    for n in 0..8 {
        fs::write(bench.source().join(format!("{n}.json")), writer.lines(600)).unwrap();
    }
}

fn change(bench: &Bench) {
    fs::write(bench.source().join("deep/new"), Writer::new(22).lines(5_000)).unwrap();
    fs::remove_file(bench.source().join("5.json")).unwrap();
}

/// What is acknowledged so far, and the files it must give back.
type Promises = Vec<(OpId, Vec<(String, Vec<u8>)>)>;

fn keep_promises(bench: &Bench, memory: &MemoryStore, promises: &Promises, when: &str) {
    for (id, files) in promises {
        assert!(bench.held(Arc::new(memory.clone()), id) == *files, "{id} after {when}");
    }
}

/// Runs `step` on fresh benches, call after call with `fault` in it, until the run makes no more calls.
fn every_call(fault: &Fault, prepare: impl Fn(&Bench, &MemoryStore) -> Promises) {
    for n in 1..=CALLS_MAX {
        let memory = MemoryStore::new();
        let bench = Bench::new(Arc::new(memory.clone()));
        let mut promises = prepare(&bench, &memory);
        let faulty = Arc::new(FaultStore::at(Arc::new(memory.clone()), n, fault.clone()));
        // readers and uploaders one at a time: the same call has the same number in every run
        let options = PushOptions { readers: 1, uploads: 1, ..PushOptions::default() };
        let outcome = bench.open_on(faulty.clone()).and_then(|s| bench.push_with(&s, &options));
        let when = format!("{fault:?} in call {n}: {outcome:?}");
        if let Ok(pushed) = &outcome {
            promises.push((pushed.snapshot().id, files_below(&bench.source())));
        }
        keep_promises(&bench, &memory, &promises, &when);
        let next = bench.open().and_then(|s| bench.push(&s));
        let next = next.unwrap_or_else(|e| panic!("the next run failed: {e}; before, {when}"));
        promises.push((next.snapshot().id, files_below(&bench.source())));
        keep_promises(&bench, &memory, &promises, &format!("next run; before, {when}"));
        if faulty.calls() < n {
            assert!(outcome.is_ok(), "{when}");
            return;
        }
    }
    panic!("more than {CALLS_MAX} calls");
}

#[test]
fn any_failure_of_a_first_push_is_survived() {
    for fault in write_faults() {
        every_call(&fault, |bench, _| {
            plant(bench);
            drop(bench.init());
            Promises::new()
        });
    }
}

#[test]
fn any_failure_of_a_second_push_is_survived() {
    for fault in write_faults() {
        every_call(&fault, |bench, _| {
            plant(bench);
            let first = bench.push(&bench.init()).unwrap();
            let promises = vec![(first.snapshot().id, files_below(&bench.source()))];
            change(bench);
            promises
        });
    }
}

#[test]
fn any_failure_of_a_push_without_a_cache_is_survived() {
    // every index object and the snapshot are read from the store again
    for fault in read_faults() {
        every_call(&fault, |bench, _| {
            plant(bench);
            let first = bench.push(&bench.init()).unwrap();
            let promises = vec![(first.snapshot().id, files_below(&bench.source()))];
            change(bench);
            fs::remove_dir_all(bench.dirs().cache).unwrap();
            promises
        });
    }
}

#[test]
fn any_failure_of_a_push_with_nothing_to_do_is_survived() {
    for fault in write_faults() {
        every_call(&fault, |bench, _| {
            plant(bench);
            let first = bench.push(&bench.init()).unwrap();
            assert!(matches!(bench.push(&bench.open().unwrap()).unwrap(), Pushed::Unchanged(..)));
            vec![(first.snapshot().id, files_below(&bench.source()))]
        });
    }
}

#[test]
fn a_push_that_died_is_continued_through_any_failure() {
    for fault in [Fault::Fail(Failure::Unavailable), Fault::LoseAnswer, Fault::CrashAfter] {
        every_call(&fault, |bench, memory| {
            plant(bench);
            let first = bench.push(&bench.init()).unwrap();
            let promises = vec![(first.snapshot().id, files_below(&bench.source()))];
            change(bench);
            let dying = Arc::new(FaultStore::new(Arc::new(memory.clone()), |call| {
                call.name.starts_with("snap/").then_some(Fault::CrashBefore)
            }));
            assert!(bench.open_on(dying).and_then(|s| bench.push(&s)).is_err());
            promises
        });
    }
}

#[test]
fn any_failure_of_a_pull_is_told_and_no_wrong_byte_is_written() {
    let memory = MemoryStore::new();
    let bench = Bench::new(Arc::new(memory.clone()));
    plant(&bench);
    let id = bench.push(&bench.init()).unwrap().snapshot().id;
    let expected = bench.tree();
    let mut faults = vec![Fault::Fail(Failure::NotFound), Fault::CrashBefore];
    faults.extend(read_faults());
    for fault in faults {
        for n in 1..=CALLS_MAX {
            fs::remove_dir_all(bench.dirs().cache).unwrap();
            let target = tempfile::tempdir().unwrap();
            let faulty = Arc::new(FaultStore::at(Arc::new(memory.clone()), n, fault.clone()));
            let complete =
                bench.open_on(faulty.clone()).is_ok_and(|s| pulls(&s, &id, target.path()));
            let written = target.path().join("files");
            if complete {
                assert_equal(&expected, &Tree::read(&written).unwrap());
            } else if written.exists() {
                assert_part(&expected, &Tree::read(&written).unwrap(), &fault, n);
            }
            // and again over what is there
            assert!(pulls(&bench.open().unwrap(), &id, target.path()), "{fault:?} in call {n}");
            assert_equal(&expected, &Tree::read(&written).unwrap());
            if faulty.calls() < n {
                assert!(complete);
                break;
            }
            assert!(n < CALLS_MAX);
        }
    }
}

/// True if the pull says that it restored everything.
fn pulls(session: &Session, id: &OpId, target: &std::path::Path) -> bool {
    let pull = || -> Option<bool> {
        let snapshot = session.snapshot(id).ok()?;
        let content = SnapshotContent::open(session, &snapshot).ok()?;
        let labels = vec![b"files".to_vec()];
        let options =
            pull::Options { labels, ..pull::Options::new(Placement::Under(target.to_owned())) };
        let report = pull::pull(&content, &options, &(), &AtomicBool::new(false)).ok()?;
        Some(report.is_complete())
    };
    pull().unwrap_or(false)
}

/// Whatever has its name holds the right bytes.
fn assert_part(expected: &Tree, actual: &Tree, fault: &Fault, n: u64) {
    for (path, entry) in &actual.entries {
        let right = expected.entries.get(path);
        assert_eq!(
            right.map(|e| &e.kind),
            Some(&entry.kind),
            "{} after {fault:?} in call {n}",
            path.display()
        );
    }
}
