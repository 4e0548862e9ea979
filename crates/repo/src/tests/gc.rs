//! Garbage collection: what goes, what stays, and what happens when something is in the way.

use std::sync::Arc;

use store::{MemoryStore, Store};
use testkit::{Fault, FaultStore, RecordingStore, Verb};

use super::{
    Blocks, MACHINE, build_tree, create, file, fresh, index_tables, open, restore, snapshot_of,
};
use super::{Files, REPO};
use crate::gc::{self, GcOptions, GcReport};
use crate::keys::BlockKind;
use crate::limits::{PACK_SMALL_BYTES, PACKS_SMALL_MAX};
use crate::{
    BlockId, Commit, Error, Extent, Map, OpId, OpKind, Operation, Repository, Result,
    encode_extents,
};

pub(super) fn op(n: u8) -> OpId {
    OpId([n; 16])
}

pub(super) fn options() -> GcOptions {
    GcOptions { accept_large: true, ..GcOptions::for_listing(store::Listing::Local) }
}

pub(super) fn collect_with(repo: &Repository, n: u8, options: &GcOptions) -> Result<GcReport> {
    gc::collect(repo, None, op(n), MACHINE, options, &|| 1_700_000_000, &|_| {})
}

pub(super) fn collect(repo: &Repository, n: u8) -> GcReport {
    collect_with(repo, n, &options()).unwrap()
}

/// A push under way: what it reuses was decided, nothing is written.
pub(super) struct Push<'r> {
    repo: &'r Repository,
    pub(super) op: Operation<'r>,
    known: crate::Index,
}

impl<'r> Push<'r> {
    pub(super) fn begin(repo: &'r Repository, n: u8) -> Self {
        Self::begin_as(repo, op(n))
    }

    pub(super) fn begin_as(repo: &'r Repository, id: OpId) -> Self {
        let op = Operation::announce(repo, id, OpKind::Push, MACHINE, 1_700_000_000).unwrap();
        let known = op.survey(None).unwrap().index;
        Self { repo, op, known }
    }

    /// Stores files of one block each, those that are known by reference alone, and commits.
    pub(super) fn end(self, contents: &[&[u8]]) -> Result<(Commit, Files)> {
        let id = self.op.id();
        let mut data = Blocks::new(self.repo, id, 0);
        let (mut entries, mut files) = (Vec::new(), Files::new());
        let mut sorted = contents.to_vec();
        sorted.sort_by_key(|content| blake3::hash(content).to_hex());
        for content in sorted {
            let block = self.repo.keys().block_id(BlockKind::Data, content);
            if self.known.get(&block).is_none() {
                data.add(BlockKind::Data, content, &[content.len()])?;
            }
            let len = u32::try_from(content.len()).unwrap();
            let inline = encode_extents(&[Extent { block, offset: 0, len, pages: false }]);
            let name = blake3::hash(content).to_hex();
            let path = [b"agent/", name.as_bytes()].concat();
            let map = Map { inline, ..Map::default() };
            entries.push((path.clone(), file(content.len(), content, map)));
            files.insert(path, content.to_vec());
        }
        let mut nodes = Vec::new();
        let tree = build_tree(self.repo, &entries, &mut |node| {
            let node_id = self.repo.keys().block_id(BlockKind::Node, &node);
            nodes.push((node_id, node));
            Ok(node_id)
        })?;
        for (node_id, node) in nodes {
            if self.known.get(&node_id).is_none() {
                data.add(BlockKind::Node, &node, &[])?;
            }
        }
        if !data.writer.is_empty() {
            let table = data.put()?;
            self.op.put_index(vec![table], None)?;
        }
        let (commit, _) = self.op.commit(&snapshot_of(id, tree.id))?;
        Ok((commit, files))
    }
}

pub(super) fn push(repo: &Repository, n: u8, contents: &[&[u8]]) -> Files {
    let (commit, files) = Push::begin(repo, n).end(contents).unwrap();
    assert!(matches!(commit, Commit::Acknowledged(_)));
    files
}

/// True for `gc/<oid>.<form>`.
pub(super) fn is_list(name: &str, form: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, of)| of == form)
}

pub(super) fn packs(store: &MemoryStore) -> usize {
    store.list("packs/").unwrap().len()
}

pub(super) fn bytes_of(n: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut out);
    out
}

#[test]
fn what_only_forgotten_snapshots_need_goes_and_the_rest_stays() {
    let (store, repo) = fresh();
    let gone = bytes_of(1, 5_000);
    push(&repo, 1, &[&gone, b"shared by both"]);
    let kept = push(&repo, 2, &[b"second of all", b"shared by both"]);
    assert!(repo.forget(&op(1)).unwrap());
    let report = collect(&repo, 0x60);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), kept);
    assert!(report.swept_packs >= 1 && report.pending.is_empty(), "{report:?}");
    let first = repo.keys().block_id(BlockKind::Data, &gone);
    assert!(repo.load_index(None, false).unwrap().get(&first).is_none());
    assert_eq!(collect(&repo, 0x61).swept_packs, 0, "a second one finds nothing");
    assert!(store.list("gc/").unwrap().iter().all(|item| is_list(&item.name, "s")));
    assert_eq!(store.list("op/").unwrap().len(), 1, "its own");
}

#[test]
fn without_anything_to_collect_no_pack_is_touched() {
    let (store, repo) = fresh();
    let kept = push(&repo, 1, &[b"one"]);
    let before = store.list("packs/").unwrap();
    let report = collect(&repo, 0x60);
    assert_eq!((report.plan.dead_packs, report.plan.emptied_packs), (0, 0));
    assert_eq!(store.list("packs/").unwrap(), before);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept);
}

#[test]
fn a_push_that_relies_on_a_condemned_pack_is_waited_for_and_what_it_needs_is_moved() {
    let (_, repo) = fresh();
    push(&repo, 1, &[b"wanted again"]);
    repo.forget(&op(1)).unwrap();
    let running = Push::begin(&repo, 2);
    assert_eq!(running.known.len(), 2, "it means to reuse the block and the node");
    let report = collect(&repo, 0x60);
    assert_eq!(report.swept_packs, 0);
    assert_eq!(report.pending[0].waits_for, [op(2)]);
    let (commit, files) = running.end(&[b"wanted again"]).unwrap();
    assert!(matches!(commit, Commit::Acknowledged(_)));
    let report = collect(&repo, 0x61);
    assert_eq!((report.swept_packs, report.moved.blocks), (1, 2));
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), files);
}

#[test]
fn a_push_that_begins_after_a_pack_was_condemned_does_not_rely_on_it() {
    let (_, repo) = fresh();
    push(&repo, 1, &[b"wanted again"]);
    repo.forget(&op(1)).unwrap();
    let running = Push::begin(&repo, 2);
    collect(&repo, 0x60); // condemns, and waits for the push
    let late = push(&repo, 3, &[b"wanted again"]);
    drop(running); // crashed; it is in nobody's way after a day
    let mut hasty = options();
    hasty.stale_after = std::time::Duration::ZERO;
    let report = collect_with(&repo, 0x61, &hasty).unwrap();
    assert_eq!(
        (report.ended.clone(), report.swept_packs, report.moved.blocks),
        (vec![op(2)], 1, 0)
    );
    assert_eq!(restore(&repo, None, &op(3)).unwrap(), late);
}

#[test]
fn a_killed_pushs_packs_go_once_it_is_dead_and_not_before() {
    let (store, repo) = fresh();
    let kept = push(&repo, 1, &[b"kept"]);
    let dying = Push::begin(&repo, 2);
    let mut blocks = Blocks::new(&repo, op(2), 0);
    blocks.add(BlockKind::Data, b"never committed", &[15]).unwrap();
    let table = blocks.put().unwrap();
    dying.op.put_index(vec![table], None).unwrap();
    let report = collect(&repo, 0x60);
    assert_eq!((report.plan.running_packs, report.swept_packs), (1, 0), "it may be alive");
    crate::end_stale(&repo, &op(2)).unwrap();
    assert_eq!(collect(&repo, 0x61).swept_packs, 1);
    assert_eq!(packs(&store), 1);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept);
}

#[test]
fn little_that_lives_in_a_large_pack_is_moved_first_and_then_the_pack_goes() {
    let (_, repo) = fresh();
    let large: Vec<Vec<u8>> = (0..10).map(|n| bytes_of(n, 60_000)).collect();
    let mut contents: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();
    contents.push(b"small and wanted");
    push(&repo, 1, &contents);
    let kept = push(&repo, 2, &[b"small and wanted"]);
    repo.forget(&op(1)).unwrap();
    let report = collect(&repo, 0x60);
    assert_eq!((report.plan.emptied_packs, report.swept_packs, report.moved.blocks), (1, 1, 1));
    assert!(report.moved.bytes_read * 10 <= report.swept_bytes * 3);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), kept);
}

#[test]
fn many_small_packs_and_index_objects_become_few() {
    let (store, repo) = fresh();
    let contents: Vec<Vec<u8>> = (0..150_u8).map(|n| bytes_of(n, 100)).collect();
    for n in 0..150_u8 {
        push(&repo, n, &[&contents[usize::from(n)]]);
    }
    let before: Vec<Files> = (0..150).map(|n| restore(&repo, None, &op(n)).unwrap()).collect();
    let report = collect(&repo, 0xf0);
    assert!(packs(&store) <= PACKS_SMALL_MAX, "{}", packs(&store));
    assert!(store.list("index/").unwrap().len() <= 2);
    assert!(report.plan.merged_packs > 100);
    for n in 0..150 {
        assert_eq!(restore(&repo, None, &op(n)).unwrap(), before[usize::from(n)]);
    }
    assert!(store.list("packs/").unwrap().iter().all(|item| item.size < PACK_SMALL_BYTES));
}

#[test]
fn a_listing_that_shows_no_snapshots_stops_the_collection() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    push(&repo, 2, &[b"two"]);
    collect(&repo, 0x60); // it saw both
    for omitted in ["snap/".to_owned(), format!("snap/{}", op(2))] {
        let faulty = FaultStore::new(Arc::new(store.clone()), move |call| {
            (call.verb == Verb::List).then(|| Fault::Omit(omitted.clone()))
        });
        let blind = open(Arc::new(faulty)).unwrap();
        let error = collect_with(&blind, 0x61, &options()).unwrap_err();
        assert!(matches!(&error, Error::Refused { reason } if reason.contains("gone")), "{error}");
        assert!(gc::plan(&blind, None, &options()).is_err());
    }
    assert_eq!(packs(&store), 2);
}

#[test]
fn a_listing_without_packs_or_index_stops_the_collection() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    push(&repo, 2, &[b"two"]);
    for omitted in ["packs/".to_owned(), format!("packs/{}", op(1)), format!("index/0-{}", op(1))] {
        let shown = omitted.clone();
        let faulty = FaultStore::new(Arc::new(store.clone()), move |call| {
            (call.verb == Verb::List).then(|| Fault::Omit(omitted.clone()))
        });
        let blind = open(Arc::new(faulty)).unwrap();
        assert!(collect_with(&blind, 0x61, &options()).is_err(), "{shown}");
        assert!(store.list("gc/").unwrap().iter().all(|item| !is_list(&item.name, "d")), "{shown}");
    }
    assert_eq!(packs(&store), 2);
}

#[test]
fn more_than_half_goes_only_if_that_was_said() {
    let (store, repo) = fresh();
    push(&repo, 1, &[&bytes_of(1, 5_000)]);
    push(&repo, 2, &[&bytes_of(2, 500)]);
    repo.forget(&op(1)).unwrap();
    let careful = GcOptions { accept_large: false, ..options() };
    assert!(gc::plan(&repo, None, &careful).unwrap().is_large(), "a plan says it before");
    let error = collect_with(&repo, 0x60, &careful).unwrap_err();
    assert!(error.to_string().contains("more than half"), "{error}");
    assert_eq!(packs(&store), 2);
    assert_eq!(collect(&repo, 0x61).swept_packs, 1);
    assert!(!gc::plan(&repo, None, &careful).unwrap().is_large());
}

#[test]
fn names_and_objects_that_nobody_here_knows_stop_the_collection() {
    for name in ["par/0", "gc/x.d", "gc/00000000000000000000000000000000.q", "packs/x", "op/x"] {
        let (store, repo) = fresh();
        push(&repo, 1, &[b"one"]);
        repo.forget(&op(1)).unwrap();
        store.put(name, vec![b"".as_slice().into()]).unwrap();
        assert!(collect_with(&repo, 0x60, &options()).is_err(), "{name}");
        assert_eq!(
            store.list("packs/").unwrap().len(),
            if name.starts_with("packs") { 2 } else { 1 }
        );
    }
}

#[test]
fn a_snapshot_or_node_that_does_not_open_stops_the_collection() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    push(&repo, 2, &[b"two"]);
    repo.forget(&op(2)).unwrap();
    for name in [format!("snap/{}", op(1)), format!("packs/{}-0", op(1))] {
        let whole = store.get(&name).unwrap();
        let mut bytes = whole.to_vec();
        for byte in &mut bytes[30..200] {
            *byte ^= 1;
        }
        store.put(&name, vec![bytes.into()]).unwrap();
        assert!(collect_with(&repo, 0x60, &options()).is_err(), "{name}");
        store.put(&name, vec![whole]).unwrap();
    }
    assert_eq!(packs(&store), 2);
}

#[test]
fn another_collectors_list_is_taken_over() {
    let (store, repo) = fresh();
    let kept = push(&repo, 1, &[b"kept"]);
    push(&repo, 2, &[b"forgotten"]);
    repo.forget(&op(2)).unwrap();
    // the first collector dies after each of its calls in turn
    for calls in 0.. {
        let disk = store.fork();
        let crashing = Arc::new(FaultStore::crash_after(Arc::new(disk.clone()), calls));
        let done = open(Arc::clone(&crashing) as Arc<dyn Store>)
            .and_then(|repo| collect_with(&repo, 0x60, &options()));
        let repo = open(Arc::new(disk.clone())).unwrap();
        let mut hasty = options();
        hasty.stale_after = std::time::Duration::ZERO;
        collect_with(&repo, 0x61, &hasty).unwrap();
        let report = collect_with(&repo, 0x62, &hasty).unwrap();
        assert!(report.pending.is_empty(), "after {calls} calls: {report:?}");
        assert_eq!(packs(&disk), 1, "after {calls} calls");
        assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept, "after {calls} calls");
        if done.is_ok() {
            assert!(calls > 15, "{calls}");
            break;
        }
    }
}

#[test]
fn calls_that_fail_or_were_done_without_an_answer_lose_nothing() {
    let (store, repo) = fresh();
    let kept = push(&repo, 1, &[b"kept", b"also kept"]);
    push(&repo, 2, &[&bytes_of(2, 5_000), b"kept"]);
    repo.forget(&op(2)).unwrap();
    let faults = [Fault::Fail(testkit::Failure::Unavailable), Fault::LoseAnswer];
    for fault in faults {
        for number in 1.. {
            let disk = store.fork();
            let faulty = Arc::new(FaultStore::at(Arc::new(disk.clone()), number, fault.clone()));
            let done = open(Arc::clone(&faulty) as Arc<dyn Store>)
                .and_then(|repo| collect_with(&repo, 0x60, &options()));
            let repo = open(Arc::new(disk.clone())).unwrap();
            assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept, "call {number} {fault:?}");
            let hasty = GcOptions { stale_after: std::time::Duration::ZERO, ..options() };
            collect_with(&repo, 0x61, &hasty).unwrap();
            assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept, "call {number} {fault:?}");
            assert_eq!(packs(&disk), 1, "call {number} {fault:?}");
            if done.is_ok() && faulty.calls() < number {
                break;
            }
        }
    }
}

#[test]
fn a_collection_that_was_ended_by_another_removes_nothing_more() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"forgotten"]);
    repo.forget(&op(1)).unwrap();
    crate::end_stale(&repo, &op(0x60)).unwrap();
    let error = collect_with(&repo, 0x60, &options()).unwrap_err();
    assert!(error.to_string().contains("ended this collection"), "{error}");
    assert_eq!(packs(&store), 1);
    assert_eq!(collect(&repo, 0x61).swept_packs, 1);
}

#[test]
fn on_a_store_that_promises_nothing_the_sweep_waits_a_day_of_the_stores_clock() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_700_000_000));
    let clock = Arc::clone(&now);
    let store = MemoryStore::with_clock(move || {
        let secs = clock.load(std::sync::atomic::Ordering::SeqCst);
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs)
    });
    create(&store, REPO);
    let repo = open(Arc::new(store.clone())).unwrap();
    push(&repo, 1, &[b"forgotten"]);
    repo.forget(&op(1)).unwrap();
    let options =
        GcOptions { accept_large: true, ..GcOptions::for_listing(store::Listing::Unpublished) };
    let report = collect_with(&repo, 0x60, &options).unwrap();
    assert!(report.pending[0].not_before.is_some() && packs(&store) == 1);
    now.fetch_add(23 * 3600, std::sync::atomic::Ordering::SeqCst);
    collect_with(&repo, 0x61, &options).unwrap();
    assert_eq!(packs(&store), 1);
    now.fetch_add(3600, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(collect_with(&repo, 0x62, &options).unwrap().swept_packs, 1);
    assert_eq!(packs(&store), 0);
}

#[test]
fn a_plan_writes_nothing_and_says_what_a_collection_then_does() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"kept"]);
    push(&repo, 2, &[b"forgotten"]);
    repo.forget(&op(2)).unwrap();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store.clone())));
    let watched = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    let plan = gc::plan(&watched, None, &options()).unwrap();
    assert_eq!(recorder.count(Verb::Put) + recorder.count(Verb::Delete), 0);
    let report = collect(&repo, 0x60);
    assert_eq!(plan, report.plan);
    assert_eq!(plan.freed_bytes, report.swept_bytes);
}

#[test]
fn a_quarantined_pack_is_not_what_a_block_is_left_in() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"wanted"]);
    // a second copy, in a pack that is found damaged afterwards
    let mut blocks = Blocks::new(&repo, op(2), 0);
    let other = Operation::announce(&repo, op(2), OpKind::Push, MACHINE, 1).unwrap();
    let block: BlockId = blocks.add(BlockKind::Data, b"wanted", &[6]).unwrap();
    blocks.add(BlockKind::Data, &bytes_of(9, 900), &[900]).unwrap();
    let table = blocks.put().unwrap();
    other.put_index(vec![table], None).unwrap();
    other.finish_without_snapshot().unwrap();
    store.put(&format!("gc/bad-{}-0", op(2)), vec![b"".as_slice().into()]).unwrap();
    collect(&repo, 0x60);
    let places: Vec<_> = index_tables(&repo)
        .into_iter()
        .filter(|t| t.blocks.iter().any(|row| row.id == block) && t.op != op(2))
        .collect();
    assert_eq!(places.len(), 1, "the good copy stays");
    restore(&repo, None, &op(1)).unwrap();
}

fn undelete(repo: &Repository, forgotten: u8, fresh: u8) -> Result<Commit> {
    let done = crate::undelete::undelete(repo, None, &op(forgotten), op(fresh), MACHINE, &|| {
        1_700_000_000
    });
    done.map(|(commit, _)| commit)
}

#[test]
fn a_forgotten_snapshot_comes_back_until_it_is_swept() {
    let (_, repo) = fresh();
    let kept = push(&repo, 1, &[b"wanted after all", b"and this"]);
    repo.forget(&op(1)).unwrap();
    assert!(matches!(undelete(&repo, 1, 2).unwrap(), Commit::Acknowledged(_)));
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), kept);
    collect(&repo, 0x60);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), kept);
    repo.forget(&op(2)).unwrap();
    collect(&repo, 0x61);
    for id in [1, 2] {
        assert!(matches!(undelete(&repo, id, 3), Err(Error::NoSuchSnapshot(_))));
    }
    assert!(repo.snapshot_ids().unwrap().is_empty());
}

#[test]
fn what_is_condemned_already_is_moved_when_its_snapshot_comes_back() {
    let (_, repo) = fresh();
    let kept = push(&repo, 1, &[b"wanted after all"]);
    repo.forget(&op(1)).unwrap();
    let running = Push::begin(&repo, 2); // keeps the sweep away
    collect(&repo, 0x60);
    assert!(matches!(undelete(&repo, 1, 3).unwrap(), Commit::Acknowledged(_)));
    running.op.finish_without_snapshot().unwrap();
    assert_eq!(collect(&repo, 0x61).swept_packs, 1);
    assert_eq!(restore(&repo, None, &op(3)).unwrap(), kept);
}

/// A collector that is held up when it lists for the `look`-th time what has ended (1 mark, 2 sweep, 3
/// tidy), after it listed what was announced: `meanwhile` happens.
pub(super) fn collect_while(
    store: &MemoryStore,
    n: u8,
    look: usize,
    meanwhile: impl Fn(&Repository) + Send + 'static,
) {
    let (disk, mut looks) = (store.clone(), 0);
    let slow = FaultStore::new(Arc::new(store.clone()), move |call| {
        let is_look = call.verb == Verb::List && call.name == "end/";
        looks += usize::from(is_look);
        if is_look && looks == look {
            meanwhile(&open(Arc::new(disk.clone())).unwrap());
        }
        None
    });
    collect(&open(Arc::new(slow)).unwrap(), n);
}

#[test]
fn a_push_that_began_and_ended_while_a_collector_looked_around_is_not_swept_away() {
    let (store, repo) = fresh();
    collect_while(&store, 0x60, 2, |repo| {
        push(repo, 1, &[b"wanted again"]);
        let running = Push::begin(repo, 2);
        repo.forget(&op(1)).unwrap();
        let report = collect(repo, 0x61); // condemns the pack, and waits for the push
        assert!(report.pending[0].waits_for.contains(&op(2)));
        let (commit, _) = running.end(&[b"wanted again"]).unwrap();
        assert!(matches!(commit, Commit::Acknowledged(_)));
    });
    restore(&repo, None, &op(2)).unwrap();
    assert_eq!(collect(&repo, 0x62).swept_packs, 1);
    restore(&repo, None, &op(2)).unwrap();
}

#[test]
fn of_two_collectors_at_once_one_leaves_a_record_of_the_snapshots_there_were() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    collect_while(&store, 0x60, 2, |repo| drop(collect(repo, 0x61)));
    let blind = FaultStore::new(Arc::new(store.clone()), |call| {
        (call.verb == Verb::List).then(|| Fault::Omit("snap/".to_owned()))
    });
    let error = collect_with(&open(Arc::new(blind)).unwrap(), 0x62, &options()).unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!(packs(&store), 1);
    assert_eq!(repo.snapshot_ids().unwrap(), [op(1)], "and it was not declared dead");
}

#[test]
fn an_operation_that_ended_while_another_tidied_keeps_its_mark() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    collect_while(&store, 0x60, 3, |repo| drop(collect(repo, 0x61)));
    let running = gc::plan(&repo, None, &options()).unwrap();
    assert_eq!(running.running_packs, 0);
    let names = |dir: &str| repo.ids_under(dir).unwrap();
    assert!(names("op/").iter().all(|id| names("end/").contains(id)), "it would be waited for");
}

#[test]
fn a_listing_of_packs_that_is_not_whole_does_not_empty_the_index() {
    let (store, repo) = fresh();
    let kept = push(&repo, 1, &[b"one"]);
    let blind = FaultStore::new(Arc::new(store.clone()), |call| {
        let hides = call.verb == Verb::List && call.name == "packs/";
        hides.then(|| Fault::Omit("packs/".to_owned()))
    });
    collect(&open(Arc::new(blind)).unwrap(), 0x60);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), kept);
}

#[test]
fn a_snapshot_that_is_written_again_after_it_was_forgotten_stays_forgotten() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"forgotten"]);
    let kept = push(&repo, 2, &[b"kept"]);
    let name = format!("snap/{}", op(1));
    let repeated = store.get(&name).unwrap();
    repo.forget(&op(1)).unwrap();
    collect(&repo, 0x60);
    store.put(&name, vec![repeated]).unwrap(); // a repeated request of the push, under way till now
    collect(&repo, 0x61);
    assert_eq!(repo.snapshot_ids().unwrap(), [op(2)]);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), kept);
}
