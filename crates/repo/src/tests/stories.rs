//! How other tools lost data, or nearly: each story again, with our code in the part of theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use store::{Listing, MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, Verb};

use super::gc::{
    Push, bytes_of, collect, collect_while, collect_with, is_list, op, options, packs, push,
};
use super::{Blocks, MACHINE, REPO, create, fresh, open, restore};
use crate::gc::{self, GcOptions};
use crate::keys::BlockKind;
use crate::limits::HEARTBEAT_SECS;
use crate::{Commit, OpKind, Operation, Repository, end_stale};

const DAY_SECS: u64 = 24 * 3600;
const YEAR_SECS: i64 = 365 * 24 * 3600;

/// A repository on a store whose clock the test moves.
fn on_a_clock() -> (MemoryStore, Repository, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_700_000_000));
    let clock = Arc::clone(&now);
    let store = MemoryStore::with_clock(move || {
        SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
    });
    create(&store, REPO);
    let repo = open(Arc::new(store.clone())).unwrap();
    (store, repo, now)
}

/// restic #2452: a laptop slept, its lock was removed as stale, prune ran, and the backup went on.
#[test]
fn restic_2452_a_lock_removed_while_its_owner_sleeps() {
    let (_, repo, now) = on_a_clock();
    push(&repo, 1, &[b"wanted again"]);
    repo.forget(&op(1)).unwrap();
    let sleeping = Push::begin(&repo, 2);
    now.fetch_add(3 * DAY_SECS, Ordering::SeqCst);
    let report = collect(&repo, 0x60);
    assert_eq!((report.ended, report.swept_packs), (vec![op(2)], 1));
    let (commit, _) = sleeping.end(&[b"wanted again"]).unwrap();
    assert_eq!(commit, Commit::InDoubt, "what it relied on is gone, and it is told so");
    let files = push(&repo, 3, &[b"wanted again"]);
    assert_eq!(restore(&repo, None, &op(3)).unwrap(), files);
    assert_eq!(repo.snapshot_ids().unwrap(), [op(3)]);
}

/// restic #4612: an error of a listing was taken for "no files", and prune could have dropped all.
#[test]
fn restic_4612_a_listing_that_failed_was_taken_for_an_empty_one() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    push(&repo, 2, &[b"two"]);
    repo.forget(&op(2)).unwrap();
    collect_with(&repo, 0x60, &GcOptions { moved_bytes_max: 0, ..options() }).unwrap();
    for fault in [Fault::Fail(Failure::Unavailable), Fault::Omit("/".to_owned())] {
        for dir in ["", "op/", "snap/", "end/", "dead/", "forgot/", "index/", "gc/", "packs/"] {
            let (fault, shown) = (fault.clone(), format!("{dir} {fault:?}"));
            let disk = store.fork();
            let blind = FaultStore::new(Arc::new(disk.clone()), move |call| {
                (call.verb == Verb::List && call.name == dir).then(|| fault.clone())
            });
            let _ = collect_with(&open(Arc::new(blind)).unwrap(), 0x61, &options());
            let repo = open(Arc::new(disk)).unwrap();
            restore(&repo, None, &op(1)).unwrap_or_else(|e| panic!("{shown}: {e}"));
            assert!(repo.snapshot_ids().unwrap().contains(&op(1)), "{shown}");
        }
    }
}

/// rustic (keep-delete 23 h) and its docs #144: packs of a push that took longer than the grace went.
#[test]
fn rustic_144_a_push_that_takes_longer_than_any_grace() {
    let (_, repo, now) = on_a_clock();
    push(&repo, 1, &[b"wanted again"]);
    repo.forget(&op(1)).unwrap();
    let long = Push::begin(&repo, 2);
    let options = GcOptions { accept_large: true, ..GcOptions::for_listing(Listing::Unpublished) };
    for n in 0..10 {
        now.fetch_add(DAY_SECS / 2, Ordering::SeqCst);
        long.op.beat(1_700_000_000 + i64::from(n + 1) * 2 * HEARTBEAT_SECS as i64).unwrap();
        let report = collect_with(&repo, 0x60 + n, &options).unwrap();
        assert_eq!((report.ended, report.swept_packs), (vec![], 0));
    }
    let (commit, files) = long.end(&[b"wanted again"]).unwrap();
    assert!(matches!(commit, Commit::Acknowledged(_)));
    now.fetch_add(2 * DAY_SECS, Ordering::SeqCst);
    collect_with(&repo, 0x70, &options).unwrap();
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), files);
}

/// rustic #392: a pack held a blob twice, prune counted wrongly and deleted packs that were needed.
#[test]
fn rustic_392_a_block_that_lies_twice_in_a_pack_and_in_another() {
    let (_, repo) = fresh();
    let running = Operation::announce(&repo, op(9), OpKind::Push, MACHINE, 1).unwrap();
    let mut blocks = Blocks::new(&repo, op(9), 0);
    for content in [&b"twice"[..], b"twice", &bytes_of(1, 9_000)] {
        blocks.add(BlockKind::Data, content, &[content.len()]).unwrap();
    }
    let table = blocks.put().unwrap();
    running.put_index(vec![table], None).unwrap();
    running.finish_without_snapshot().unwrap();
    let kept = push(&repo, 1, &[b"twice"]);
    for n in 0x60..0x63 {
        collect(&repo, n);
        assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept);
    }
}

/// kopia #1949, #3563, #4769: maintenance trusted clocks and margins, and "BLOB not found" followed;
/// icechunk #2310: ages were told by two clocks.
#[test]
fn kopia_4769_icechunk_2310_clocks_that_are_years_off() {
    let (_, repo, _) = on_a_clock();
    push(&repo, 1, &[b"wanted again"]);
    repo.forget(&op(1)).unwrap();
    let running = Push::begin(&repo, 2);
    for (n, years) in [(0x60, 10), (0x61, -10)] {
        let now = || 1_700_000_000 + years * YEAR_SECS;
        let report = gc::collect(&repo, None, op(n), MACHINE, &options(), &now, &|_| {}).unwrap();
        assert_eq!((report.ended, report.swept_packs), (vec![], 0), "{years} years");
    }
    let (_, files) = running.end(&[b"wanted again"]).unwrap();
    collect(&repo, 0x62);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), files);
}

/// kopia #5057, #4942: index blobs piled up, because compaction waited for epochs to pass.
#[test]
fn kopia_5057_index_objects_do_not_pile_up_while_no_time_passes() {
    let (store, repo, _) = on_a_clock();
    for n in 0..40 {
        push(&repo, n, &[&bytes_of(n, 50)]);
        if n % 10 == 9 {
            collect(&repo, 0x60 + n);
            assert!(store.list("index/").unwrap().len() <= 8, "after {n}");
        }
    }
    assert!((0..40).all(|n| restore(&repo, None, &op(n)).is_ok()));
}

/// borg #9748: a compaction that was interrupted left an index that named chunks which were gone.
#[test]
fn borg_9748_a_collection_interrupted_anywhere_and_the_same_content_pushed_again() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"wanted again", b"and this"]);
    repo.forget(&op(1)).unwrap();
    for calls in 0.. {
        let disk = store.fork();
        let dying = Arc::new(FaultStore::crash_after(Arc::new(disk.clone()), calls));
        let done = open(dying).and_then(|repo| collect_with(&repo, 0x60, &options()));
        let repo = open(Arc::new(disk)).unwrap();
        let files = push(&repo, 2, &[b"wanted again"]);
        let hasty = GcOptions { stale_after: Duration::ZERO, ..options() };
        for n in 0x61..0x63 {
            collect_with(&repo, n, &hasty).unwrap();
            assert_eq!(restore(&repo, None, &op(2)).unwrap(), files, "after {calls} calls");
        }
        if done.is_ok() {
            break;
        }
    }
}

/// borg #4923: the lock of a process that lived was taken for a stale one and removed.
#[test]
fn borg_4923_a_collector_that_lives_is_taken_for_dead() {
    let (store, repo) = fresh();
    let kept = push(&repo, 1, &[b"kept"]);
    push(&repo, 2, &[b"forgotten"]);
    repo.forget(&op(2)).unwrap();
    let disk = store.clone();
    let mut done = false;
    let slow = FaultStore::new(Arc::new(store.clone()), move |call| {
        if call.verb == Verb::Put && is_list(&call.name, "d") && !std::mem::replace(&mut done, true)
        {
            let repo = open(Arc::new(disk.clone())).unwrap();
            end_stale(&repo, &op(0x60)).unwrap();
            assert_eq!(collect(&repo, 0x61).swept_packs, 1);
        }
        None
    });
    assert!(collect_with(&open(Arc::new(slow)).unwrap(), 0x60, &options()).is_err());
    collect(&repo, 0x62);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept);
    assert_eq!(packs(&store), 1);
}

/// Duplicacy #323: chunks that hold metadata were a kind of their own, which prune did not see.
#[test]
fn duplicacy_323_metadata_that_only_a_later_snapshot_needs() {
    let (_, repo) = fresh();
    push(&repo, 1, &[b"the same", b"tree"]);
    let files = push(&repo, 2, &[b"the same", b"tree"]); // all of it is reused, nodes too
    repo.forget(&op(1)).unwrap();
    collect(&repo, 0x60);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), files);
}

/// Duplicacy #465 and PR #686: chunks went before the snapshots that named them, or an error between
/// the two left a snapshot without chunks.
#[test]
fn duplicacy_465_a_forget_interrupted_anywhere_and_a_collection_after_it() {
    for calls in 0..4 {
        let (store, repo) = fresh();
        push(&repo, 1, &[b"one"]);
        let dying = Arc::new(FaultStore::crash_after(Arc::new(store.clone()), calls));
        let _ = open(dying).and_then(|repo| repo.forget(&op(1)));
        collect(&repo, 0x60);
        for id in repo.snapshot_ids().unwrap() {
            restore(&repo, None, &id).unwrap_or_else(|e| panic!("after {calls} calls: {e}"));
        }
    }
}

/// Duplicacy: fossils waited for clients that were known; the first backup of a new one was not.
#[test]
fn duplicacy_the_first_push_of_a_machine_that_nobody_knows() {
    let (_, repo) = fresh();
    push(&repo, 1, &[b"wanted again"]);
    repo.forget(&op(1)).unwrap();
    let first = Push::begin(&repo, 2);
    for n in 0x60..0x64 {
        assert_eq!(collect(&repo, n).swept_packs, 0);
    }
    let (_, files) = first.end(&[b"wanted again"]).unwrap();
    assert_eq!(collect(&repo, 0x64).swept_packs, 1);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), files);
}

/// Duplicacy: a client that made no backup for long kept fossils for ever, or was left out by a rule.
#[test]
fn duplicacy_a_machine_that_is_dormant() {
    let (store, repo, now) = on_a_clock();
    let kept = push(&repo, 1, &[b"of the dormant machine"]);
    push(&repo, 2, &[b"forgotten"]);
    repo.forget(&op(2)).unwrap();
    now.fetch_add(400 * DAY_SECS, Ordering::SeqCst);
    assert_eq!(collect(&repo, 0x60).swept_packs, 1, "nobody waits for it");
    assert_eq!(packs(&store), 1);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept);
}

/// Perkeep and casync: nothing could be deleted, because deletion was not thought of at first.
#[test]
fn perkeep_casync_what_is_forgotten_can_be_deleted() {
    let (store, repo) = fresh();
    for n in 1..6 {
        push(&repo, n, &[&bytes_of(n, 300)]);
        repo.forget(&op(n)).unwrap();
    }
    collect(&repo, 0x60);
    for dir in ["packs/", "index/", "snap/"] {
        assert_eq!(store.list(dir).unwrap(), [], "{dir}");
    }
}

/// Proxmox Backup Server PSA-2025-00019-1: the snapshots were listed; then one was made from another,
/// and that one was removed before the collection reached it: the chunks of both went.
#[test]
fn proxmox_psa_2025_00019_1_a_snapshot_moves_past_the_collector() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"passed on"]);
    collect_while(&store, 0x60, 1, |repo| {
        push(repo, 2, &[b"passed on"]);
        repo.forget(&op(1)).unwrap();
    });
    restore(&repo, None, &op(2)).unwrap();
    collect(&repo, 0x61);
    restore(&repo, None, &op(2)).unwrap();
}
