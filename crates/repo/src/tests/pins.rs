//! Pins and forget: what each leaves, wherever a call fails, and what both see of each other.

use std::sync::Arc;

use store::{MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, Verb};

use super::{MACHINE, OP, fresh, open, push, restore};
use crate::verify::{Level, VerifyOptions, verify};
use crate::{Commit, Error, Forgot, OpId, Repository};

const OTHER: OpId = OpId([0x41; 16]);

fn pushed() -> (MemoryStore, Repository) {
    let (store, repo) = fresh();
    for id in [OP, OTHER] {
        assert!(matches!(push(&repo, id).unwrap().0, Commit::Acknowledged(_)));
    }
    (store, repo)
}

/// A repository on `store` that fails as told.
fn faulty(store: &MemoryStore, number: u64, fault: &Fault) -> (Arc<FaultStore>, Repository) {
    let faulty = Arc::new(FaultStore::at(Arc::new(store.clone()), number, fault.clone()));
    let repo = open(Arc::clone(&faulty) as Arc<dyn Store>).unwrap();
    (faulty, repo)
}

const FAULTS: [Fault; 4] =
    [Fault::Fail(Failure::Unavailable), Fault::LoseAnswer, Fault::CrashBefore, Fault::CrashAfter];

#[test]
fn a_forget_that_fails_at_any_call_leaves_the_snapshot_or_its_record_and_ends_when_run_again() {
    let (store, repo) = pushed();
    let kept = restore(&repo, None, &OTHER).unwrap();
    for fault in &FAULTS {
        // the first call opens the repository
        for number in 2.. {
            let disk = store.fork();
            let (faults, failing) = faulty(&disk, number, fault);
            let done = failing.forget_unless_pinned(&OP);
            let repo = open(Arc::new(disk.clone())).unwrap();
            let there = repo.snapshot_ids().unwrap().contains(&OP);
            assert!(there || repo.is_forgotten(&OP).unwrap(), "call {number} {fault:?}");
            let again = repo.forget_unless_pinned(&OP).unwrap();
            assert_eq!(again == Forgot::Done, there, "call {number} {fault:?}");
            assert_eq!(repo.snapshot_ids().unwrap(), [OTHER], "call {number} {fault:?}");
            assert_eq!(restore(&repo, None, &OTHER).unwrap(), kept);
            assert_eq!(repo.forgotten(&OP).unwrap().id, OP);
            let back = crate::undelete::undelete(&repo, None, &OP, OpId([9; 16]), MACHINE, &|| 0);
            assert!(matches!(back.unwrap().0, Commit::Acknowledged(_)));
            restore(&repo, None, &OpId([9; 16])).unwrap();
            if faults.calls() < number {
                assert_eq!(done.unwrap(), Forgot::Done);
                assert!(number > 6, "{number}");
                break;
            }
        }
    }
}

#[test]
fn a_snapshot_whose_forget_record_does_not_open_stays() {
    let (store, repo) = pushed();
    store.put(&format!("forgot/{OP}"), vec![b"noise".as_slice().into()]).unwrap();
    assert!(repo.forget(&OP).is_err() && repo.forget_unless_pinned(&OP).is_err());
    assert_eq!(store.list(&crate::Snapshot::object_name(&OP)).unwrap().len(), 1);
}

#[test]
fn a_pinned_snapshot_is_not_forgotten_until_all_its_pins_are_gone() {
    let (store, repo) = pushed();
    assert!(repo.pin(&OP).unwrap());
    assert!(!repo.pin(&OP).unwrap(), "once is enough");
    assert_eq!(repo.forget_unless_pinned(&OP).unwrap(), Forgot::Pinned);
    assert!(!repo.is_forgotten(&OP).unwrap(), "no record for what stays");
    let first = store.list("pin/").unwrap().remove(0).name;
    assert!(repo.unpin(&OP).unwrap() && !repo.unpin(&OP).unwrap());
    repo.pin(&OP).unwrap();
    assert_ne!(store.list("pin/").unwrap()[0].name, first, "a name is used once");
    // as two machines do at the same time
    store.put(&format!("pin/{OP}-0011223344556677"), vec![b"".as_slice().into()]).unwrap();
    assert_eq!(repo.pinned().unwrap().into_iter().collect::<Vec<_>>(), [OP]);
    repo.unpin(&OP).unwrap();
    assert_eq!(repo.forget_unless_pinned(&OP).unwrap(), Forgot::Done);
    assert!(matches!(repo.pin(&OP), Err(Error::NoSuchSnapshot(_))));
    assert!(store.list("pin/").unwrap().is_empty(), "a pin of nothing is taken back");
}

#[test]
fn a_pin_that_was_acknowledged_holds_also_against_a_forget_that_runs() {
    // the pin comes before the forget's call of each number
    for number in 2..12 {
        let (store, _) = pushed();
        let (disk, mut pinned) = (store.clone(), None);
        let result = Arc::new(std::sync::Mutex::new(None));
        let told = Arc::clone(&result);
        let racing = FaultStore::new(Arc::new(store.clone()), move |call| {
            if call.number == number && pinned.is_none() {
                pinned = Some(());
                let repo = open(Arc::new(disk.clone())).unwrap();
                *told.lock().unwrap() = Some(repo.pin(&OP));
            }
            None
        });
        open(Arc::new(racing)).unwrap().forget_unless_pinned(&OP).unwrap();
        let Some(pin) = result.lock().unwrap().take() else {
            assert!(number > 6, "{number}");
            break;
        };
        let repo = open(Arc::new(store.clone())).unwrap();
        let there = || repo.snapshot_ids().unwrap().contains(&OP);
        assert_eq!(pin.is_ok(), there(), "before call {number}: {pin:?}");
        super::gc::collect(&repo, 0x60);
        assert_eq!(pin.is_ok(), there(), "before call {number}, collected");
        if pin.is_ok() {
            restore(&repo, None, &OP).unwrap();
            let run = VerifyOptions::new(Level::Structure);
            let report = verify(&repo, None, &OpId([8; 16]), &run).unwrap();
            assert_eq!(report.snapshots, 2, "before call {number}");
            // without the pin the forget counts that was asked for
            repo.unpin(&OP).unwrap();
            super::gc::collect(&repo, 0x61);
            assert!(!there() || !repo.is_forgotten(&OP).unwrap());
        }
    }
}

#[test]
fn a_pin_of_another_that_gives_it_up_is_not_taken_for_a_pin() {
    // between two calls of a forget somebody writes a pin, we pin as well, and he gives his up
    for number in 2..12 {
        let (store, _) = pushed();
        let (disk, result) = (store.clone(), Arc::new(std::sync::Mutex::new(None)));
        let told = Arc::clone(&result);
        let racing = FaultStore::new(Arc::new(store.clone()), move |call| {
            let mut told = told.lock().unwrap();
            if call.number == number && told.is_none() {
                let other = crate::pin::object_name(&OP, [7; 8]);
                disk.put(&other, vec![b"".as_slice().into()]).unwrap();
                let repo = open(Arc::new(disk.clone())).unwrap();
                *told = Some(repo.pin(&OP));
                if repo.is_forgotten(&OP).unwrap() {
                    disk.delete(&other).unwrap();
                }
            }
            None
        });
        open(Arc::new(racing)).unwrap().forget_unless_pinned(&OP).unwrap();
        let Some(pin) = result.lock().unwrap().take() else {
            assert!(number > 6, "{number}");
            break;
        };
        let repo = open(Arc::new(store)).unwrap();
        let there = repo.snapshot_ids().unwrap().contains(&OP);
        assert_eq!(pin.is_ok(), there, "before call {number}: {pin:?}");
        assert!(!matches!(pin, Ok(true)), "it was pinned already, if at all");
    }
}

#[test]
fn a_pin_and_a_forget_that_come_while_a_collector_looks_around_cost_nothing() {
    for number in 2.. {
        let (store, repo) = pushed();
        let kept = restore(&repo, None, &OP).unwrap();
        let (disk, mut done) = (store.clone(), false);
        let racing = Arc::new(FaultStore::new(Arc::new(store.clone()), move |call| {
            if call.number == number && !done {
                done = true;
                let repo = open(Arc::new(disk.clone())).unwrap();
                repo.pin(&OP).unwrap();
                // a forget that saw no pin before its record, and sees it after
                let name = crate::Snapshot::object_name(&OP);
                let sealed = disk.get(&name).unwrap();
                let snapshot: crate::Snapshot = crate::object::open_record(
                    repo.keys(),
                    repo.id(),
                    crate::object::ObjectKind::Snapshot,
                    &name,
                    &sealed,
                )
                .unwrap();
                let record = crate::forget::record_name(&OP);
                let sealed = crate::object::seal_record(
                    repo.keys(),
                    repo.id(),
                    crate::object::ObjectKind::Snapshot,
                    &record,
                    &snapshot,
                );
                disk.put(&record, vec![sealed.into()]).unwrap();
            }
            None
        }));
        super::gc::collect(&open(Arc::clone(&racing) as Arc<dyn Store>).unwrap(), 0x60);
        let repo = open(Arc::new(store)).unwrap();
        super::gc::collect(&repo, 0x61);
        assert!(repo.snapshot_ids().unwrap().contains(&OP), "before call {number}");
        assert_eq!(restore(&repo, None, &OP).unwrap(), kept, "before call {number}");
        if racing.calls() < number {
            assert!(number > 10, "{number}");
            break;
        }
    }
}

#[test]
fn a_snapshot_that_may_yet_be_declared_dead_is_not_pinned() {
    let (store, repo) = pushed();
    crate::operation::put_mark(&repo, "kill", &OP).unwrap();
    assert!(matches!(repo.pin(&OP), Err(Error::NoSuchSnapshot(_))));
    assert!(store.list("pin/").unwrap().is_empty(), "the pin is taken back");
    repo.pin(&OTHER).unwrap();
}

#[test]
fn a_pin_that_fails_at_any_call_is_whole_or_none() {
    let (store, _) = pushed();
    for fault in &FAULTS {
        for number in 2.. {
            let disk = store.fork();
            let (faults, failing) = faulty(&disk, number, fault);
            let done = failing.pin(&OP);
            let repo = open(Arc::new(disk.clone())).unwrap();
            assert!(done.is_err() || repo.is_pinned(&OP).unwrap(), "call {number} {fault:?}");
            repo.pin(&OP).unwrap();
            assert_eq!(repo.forget_unless_pinned(&OP).unwrap(), Forgot::Pinned);
            if faults.calls() < number {
                break;
            }
        }
    }
}

#[test]
fn a_name_under_pin_that_is_none_is_damage_and_not_passed_over() {
    let (store, repo) = pushed();
    for name in [format!("pin/{OP}"), format!("pin/{OP}-00"), format!("pin/{OP}-0011223344556677x")]
    {
        store.put(&name, vec![b"".as_slice().into()]).unwrap();
        assert!(matches!(repo.pinned(), Err(Error::Corrupt { .. })), "{name}");
        store.delete(&name).unwrap();
    }
    assert_eq!(store.list("pin/").unwrap().len(), 0);
    let listed = Verb::List;
    let blind = FaultStore::new(Arc::new(store), move |call| {
        (call.verb == listed && call.name.starts_with("pin/"))
            .then_some(Fault::Fail(Failure::Unavailable))
    });
    let blind = open(Arc::new(blind)).unwrap();
    assert!(blind.forget_unless_pinned(&OP).is_err(), "without a look at the pins nothing goes");
}
