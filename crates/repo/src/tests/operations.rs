//! The push protocol: the order of its calls, and what happens when one of them goes wrong.

use std::sync::Arc;

use store::{MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, RecordingStore, Verb};

use super::{
    Blocks, MACHINE, OP, REPO, create, fresh, index_tables, open, push, restore, snapshot_of,
};
use crate::gc::lists::CondemnedList;
use crate::keys::BlockKind;
use crate::limits::HEARTBEAT_SECS;
use crate::object::{self, ObjectKind};
use crate::{
    BlockId, Commit, Ended, OpId, OpKind, Operation, PackId, Repository, Snapshot, end_stale,
};

const OTHER: OpId = OpId([0x50; 16]);
const NOW_SECS: i64 = 1_700_000_000;

fn announce(repo: &Repository, id: OpId) -> Operation<'_> {
    Operation::announce(repo, id, OpKind::Push, MACHINE, NOW_SECS).unwrap()
}

fn put_condemned(repo: &Repository, packs: Vec<(OpId, u32)>) {
    let name = format!("gc/{OTHER}.d");
    let list = CondemnedList { packs };
    let bytes = object::seal_record(repo.keys(), repo.id(), ObjectKind::Gc, &name, &list);
    repo.store().put(&name, vec![bytes.into()]).unwrap();
}

/// A block that the push of the test repository stores in its first pack.
fn block_in_pack(repo: &Repository, n: u32) -> BlockId {
    let index = repo.load_index(None, false).unwrap();
    index.blocks().iter().find(|at| at.pack.n == n).unwrap().row.id
}

fn reusable(repo: &Repository, id: OpId, block: &BlockId) -> bool {
    announce(repo, id).survey(None).unwrap().index.get(block).is_some()
}

#[test]
fn a_push_makes_its_calls_in_the_order_that_keeps_it_safe_from_gc() {
    let (store, repo) = fresh();
    push(&repo, OTHER).unwrap();
    end_stale(&repo, &OpId([0x51; 16])).unwrap();
    put_condemned(&repo, vec![]);
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    recorder.take();
    push(&repo, OP).unwrap();
    let calls: Vec<String> =
        recorder.take().iter().map(|call| format!("{} {}", call.verb, call.name)).collect();
    let expected = [
        format!("put op/{OP}"),           // P1
        "list gc/".to_owned(),            // P2
        format!("get gc/{OTHER}.d"),      //
        "list index/".to_owned(),         // P3
        format!("get index/0-{OTHER}-0"), //
        "list packs/".to_owned(),         // P4
        format!("put packs/{OP}-0"),      // P5
        format!("put packs/{OP}-1"),
        format!("put index/0-{OP}-0"),
        format!("put snap/{OP}"), // P7
        format!("get kill/{OP}"), // P8
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_killed_operation_is_not_acknowledged() {
    let (_, repo) = fresh();
    // the killer came first and saw no snapshot
    assert_eq!(end_stale(&repo, &OP).unwrap(), Ended::Dead);
    let (commit, _) = push(&repo, OP).unwrap();
    assert_eq!(commit, Commit::InDoubt);
    assert!(repo.snapshot_ids().unwrap().is_empty(), "a dead snapshot is no snapshot");
    // again under a new id
    let (commit, files) = push(&repo, OTHER).unwrap();
    assert!(matches!(commit, Commit::Acknowledged(_)));
    assert_eq!(repo.snapshot_ids().unwrap(), [OTHER]);
    assert_eq!(restore(&repo, None, &OTHER).unwrap(), files);
}

#[test]
fn an_acknowledged_snapshot_is_never_declared_dead() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    assert_eq!(end_stale(&repo, &OP).unwrap(), Ended::Committed);
    assert!(store.list("dead/").unwrap().is_empty());
    assert_eq!(repo.snapshot_ids().unwrap(), [OP]);
}

#[test]
fn what_was_declared_dead_stays_dead_when_its_snapshot_lands_late() {
    let (_, repo) = fresh();
    assert_eq!(end_stale(&repo, &OP).unwrap(), Ended::Dead);
    push(&repo, OP).unwrap(); // the snapshot's request was under way all the time
    assert_eq!(end_stale(&repo, &OP).unwrap(), Ended::Dead);
    assert!(repo.snapshot_ids().unwrap().is_empty());
}

#[test]
fn an_object_with_a_longer_name_is_not_the_snapshot() {
    let (store, repo) = fresh();
    store.put(&format!("snap/{OP}.tmp"), vec![b"x".as_slice().into()]).unwrap();
    assert_eq!(end_stale(&repo, &OP).unwrap(), Ended::Dead);
}

#[test]
fn a_listing_that_lacks_a_snapshot_does_not_end_it() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    let blind = FaultStore::new(Arc::new(store.clone()), |call| {
        (call.verb == Verb::List).then(|| Fault::Omit("snap/".to_owned()))
    });
    let blind = open(Arc::new(blind)).unwrap();
    assert_eq!(end_stale(&blind, &OP).unwrap(), Ended::Committed);
    assert_eq!(repo.snapshot_ids().unwrap(), [OP]);
}

#[test]
fn the_kill_mark_lands_before_anybody_looks_for_the_snapshot() {
    let (store, _) = fresh();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    recorder.take();
    end_stale(&repo, &OP).unwrap();
    let calls: Vec<String> =
        recorder.take().iter().map(|c| format!("{} {}", c.verb, c.name)).collect();
    let names = [format!("put kill/{OP}"), format!("get snap/{OP}"), format!("put dead/{OP}")];
    assert_eq!(calls, names);
}

#[test]
fn blocks_of_condemned_and_quarantined_packs_are_not_reused() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    let (data, meta) = (block_in_pack(&repo, 0), block_in_pack(&repo, 1));
    assert!(reusable(&repo, OTHER, &data) && reusable(&repo, OTHER, &meta));
    put_condemned(&repo, vec![(OP, 0)]);
    assert!(!reusable(&repo, OTHER, &data), "condemned");
    assert!(reusable(&repo, OTHER, &meta), "the other pack is not");
    store.put(&format!("gc/bad-{OP}-1"), vec![b"".as_slice().into()]).unwrap();
    assert!(!reusable(&repo, OTHER, &meta), "quarantined");
    // readers still read both
    restore(&repo, None, &OP).unwrap();
}

#[test]
fn a_copy_outside_condemned_packs_makes_a_block_reusable_again() {
    let (_, repo) = fresh();
    push(&repo, OP).unwrap();
    let data = block_in_pack(&repo, 0);
    put_condemned(&repo, vec![(OP, 0), (OP, 1)]);
    push(&repo, OpId([0x42; 16])).unwrap();
    assert!(reusable(&repo, OTHER, &data));
}

#[test]
fn a_dead_operations_packs_count_only_where_a_listing_shows_them() {
    let (store, repo) = fresh();
    let op = announce(&repo, OP);
    let mut blocks = Blocks::new(&repo, OP, 0);
    let first = blocks.add(BlockKind::Data, b"first", &[5]).unwrap();
    let first_table = blocks.put().unwrap();
    let mut blocks = Blocks::new(&repo, OP, 1);
    let second = blocks.add(BlockKind::Data, b"second", &[6]).unwrap();
    let second_table = blocks.put().unwrap();
    op.put_index(vec![first_table, second_table], None).unwrap();
    assert_eq!(end_stale(&repo, &OP).unwrap(), Ended::Dead);
    // gc removed one pack of the two; the index object is still there
    store.delete(&PackId { op: OP, n: 1 }.object_name()).unwrap();
    assert!(reusable(&repo, OTHER, &first), "a killed first push resumes");
    assert!(!reusable(&repo, OTHER, &second), "the index proves nothing");
    // a pack of the right name and the wrong length is not that pack
    store.put(&PackId { op: OP, n: 1 }.object_name(), vec![vec![0; 99].into()]).unwrap();
    assert!(!reusable(&repo, OTHER, &second));
}

#[test]
fn packs_are_listed_after_the_condemned_lists_were_read() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    announce(&repo, OTHER).survey(None).unwrap();
    assert_eq!(recorder.names(Verb::List), ["gc/", "index/", "packs/"]);
}

#[test]
fn a_condemned_list_that_does_not_open_stops_the_push() {
    let (store, repo) = fresh();
    put_condemned(&repo, vec![(OP, 0)]);
    let name = format!("gc/{OTHER}.d");
    let mut bytes = store.get(&name).unwrap().to_vec();
    bytes[100] ^= 1;
    store.put(&name, vec![bytes.into()]).unwrap();
    assert!(announce(&repo, OP).survey(None).is_err());
}

/// Runs a push against a store whose call `number` has `fault`, then looks at what is left.
fn push_with(number: u64, fault: Fault) -> bool {
    let store = MemoryStore::new();
    create(&store, REPO);
    let config_reads = 1;
    let faulty = Arc::new(FaultStore::at(Arc::new(store.clone()), number + config_reads, fault));
    let repo = open(Arc::clone(&faulty) as Arc<dyn Store>).unwrap();
    let pushed = push(&repo, OP);
    let hit = faulty.calls() >= number + config_reads;
    let acknowledged = matches!(pushed, Ok((Commit::Acknowledged(_), _)));
    // the next run of this machine, or anybody else
    let repo = open(Arc::new(store)).unwrap();
    let ended = end_stale(&repo, &OP).unwrap();
    assert!(!acknowledged || ended == Ended::Committed, "call {number}: acknowledged, then dead");
    if ended == Ended::Committed {
        // acknowledged or not, a snapshot that is visible is whole
        let files = restore(&repo, None, &OP).unwrap();
        let (_, again) = push(&repo, OTHER).unwrap();
        assert_eq!(files, again, "call {number}");
    } else {
        assert!(repo.snapshot_ids().unwrap().is_empty());
        push(&repo, OTHER).unwrap();
        restore(&repo, None, &OTHER).unwrap();
    }
    hit
}

#[test]
fn a_lost_answer_a_failure_or_a_crash_at_any_call_harms_nothing() {
    let faults = [
        Fault::LoseAnswer,
        Fault::Fail(Failure::Unavailable),
        Fault::CrashBefore,
        Fault::CrashAfter,
    ];
    for fault in faults {
        let mut number = 1;
        while push_with(number, fault.clone()) {
            number += 1;
        }
        assert_eq!(number - 1, 8, "calls of a first push");
    }
}

#[test]
fn a_heartbeat_rewrites_its_object_at_most_every_quarter_of_an_hour() {
    let (store, _) = fresh();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    let op = announce(&repo, OP);
    let quarter = i64::try_from(HEARTBEAT_SECS).unwrap();
    let beats = |now: i64| {
        recorder.take();
        op.beat(NOW_SECS + now).unwrap();
        recorder.names(Verb::Put)
    };
    let name = format!("op/{OP}");
    assert!(beats(0).is_empty());
    assert!(beats(quarter - 1).is_empty());
    assert_eq!(beats(quarter), [name.as_str()]);
    assert!(beats(quarter + 1).is_empty(), "it counts from the last beat");
    assert_eq!(beats(2 * quarter), [name.as_str()]);
    assert_eq!(beats(-5 * quarter), [name.as_str()], "a clock that was set back beats again");
    assert!(beats(-5 * quarter + 1).is_empty());
    assert_eq!(quarter, 900);
}

#[test]
fn two_attempts_of_one_push_share_no_name() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    let before: Vec<_> = store.list("").unwrap();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    push(&repo, OTHER).unwrap();
    for name in recorder.names(Verb::Put) {
        assert!(before.iter().all(|item| item.name != name), "{name} was written twice");
    }
    assert_eq!(recorder.count(Verb::Delete), 0, "a push needs no right to delete");
}

#[test]
#[should_panic(expected = "`end` is for operations that wrote no snapshot")]
fn an_operation_whose_commit_failed_cannot_say_it_never_tried() {
    let store = MemoryStore::new();
    create(&store, REPO);
    let faulty = FaultStore::new(Arc::new(store), |call| {
        call.name.starts_with("snap/").then_some(Fault::LoseAnswer)
    });
    let repo = open(Arc::new(faulty)).unwrap();
    let op = announce(&repo, OP);
    assert!(op.commit(&snapshot_of(OP, BlockId([1; 32]))).is_err());
    let _ = op.finish_without_snapshot();
}

#[test]
fn large_tables_go_into_several_index_objects_that_readers_take() {
    let (store, repo) = fresh();
    let op = announce(&repo, OP);
    let mut blocks = Blocks::new(&repo, OP, 0);
    blocks.add(BlockKind::Data, b"tiny", &[4]).unwrap();
    let table = blocks.put().unwrap();
    let tables: Vec<_> = (0..3)
        .map(|n| {
            let mut table = table.clone();
            table.n = n;
            // as if the pack held very many chunks of a few bytes
            table.blocks[0].chunk_ids = vec![0; 9 << 20];
            table
        })
        .collect();
    op.put_index(tables, None).unwrap();
    assert_eq!(store.list("index/").unwrap().len(), 3);
    assert_eq!(index_tables(&repo).len(), 3);
}

#[test]
fn an_index_object_larger_than_any_is_passed_over_and_not_read() {
    let (store, _) = fresh();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store.clone())));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    let huge = usize::try_from(crate::limits::OBJECT_BYTES_MAX).unwrap() + 1;
    store.put(&format!("index/0-{OP}-0"), vec![vec![0; huge].into()]).unwrap();
    recorder.take();
    assert!(repo.load_index(None, false).unwrap().is_empty());
    assert_eq!(recorder.count(Verb::Get), 0);
}

#[test]
fn a_snapshot_is_recorded_as_forgotten_before_it_goes() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    let before = repo.snapshot(None, &OP).unwrap().0;
    let recorder = Arc::new(RecordingStore::new(Arc::new(store.clone())));
    let repo = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    recorder.take();
    assert!(repo.forget(&OP).unwrap());
    let calls: Vec<String> =
        recorder.take().iter().map(|c| format!("{} {}", c.verb, c.name)).collect();
    let expected = [
        format!("get snap/{OP}"),
        format!("list forgot/{OP}"),
        format!("put forgot/{OP}"),
        format!("delete snap/{OP}"),
    ];
    assert_eq!(calls, expected);
    let name = format!("forgot/{OP}");
    let kept: Snapshot = object::open_record(
        repo.keys(),
        repo.id(),
        ObjectKind::Snapshot,
        &name,
        &store.get(&name).unwrap(),
    )
    .unwrap();
    assert_eq!(kept, before);
    assert!(!repo.forget(&OP).unwrap(), "again after a crash: nothing to do");
}

#[test]
fn an_index_object_that_was_merged_away_meanwhile_is_passed_over() {
    let (store, repo) = fresh();
    push(&repo, OP).unwrap();
    let faulty = FaultStore::new(Arc::new(store), |call| {
        (call.verb == Verb::Get && call.name.starts_with("index/"))
            .then_some(Fault::Fail(Failure::NotFound))
    });
    let repo = open(Arc::new(faulty)).unwrap();
    assert!(repo.load_index(None, true).unwrap().is_empty());
}

#[test]
fn names_that_no_operation_makes_are_damage() {
    let names = ["index/x", "index/0-40-0", "snap/x", "gc/bad-x", "index/00-4-0"];
    for name in names {
        let (store, repo) = fresh();
        store.put(name, vec![b"".as_slice().into()]).unwrap();
        let pushed = announce(&repo, OP).survey(None).map(|_| ());
        let listed = repo.snapshot_ids().map(|_| ());
        assert!(pushed.and(listed).is_err(), "{name}");
    }
}

#[test]
fn rows_that_were_merged_between_listing_and_reading_are_found_at_their_new_place() {
    let (store, repo) = fresh();
    let (_, files) = push(&repo, OP).unwrap();
    let disk = store.clone();
    let merging = FaultStore::new(Arc::new(store), move |call| {
        if call.verb == Verb::Get && call.name == format!("index/0-{OP}-0") {
            // a collector writes the rows anew, then deletes the old object
            let repo = open(Arc::new(disk.clone())).unwrap();
            let merged = Operation::announce(&repo, OTHER, OpKind::Gc, MACHINE, NOW_SECS).unwrap();
            merged.put_index_at(1, index_tables(&repo), None).unwrap();
            disk.delete(&call.name).unwrap();
        }
        None
    });
    let repo = open(Arc::new(merging)).unwrap();
    assert_eq!(restore(&repo, None, &OP).unwrap(), files);
}
