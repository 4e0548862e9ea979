//! Verify: what it finds, what it does not call damage, what it remembers, and how much it reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use store::{Item, Listing, MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, RecordingStore, Verb};

use super::gc::{bytes_of, collect, op, push};
use super::{OP, REPO, create, fresh, open, restore};
use crate::verify::{Harm, Level, Report, VerifyOptions, verify};
use crate::{OpId, Repository};

fn look(repo: &Repository, level: Level) -> Report {
    verify(repo, None, &OpId::random(), &VerifyOptions::new(level)).unwrap()
}

fn flip(store: &MemoryStore, name: &str, at: usize) {
    let mut bytes = store.get(name).unwrap().to_vec();
    bytes[at] ^= 4;
    store.put(name, vec![bytes.into()]).unwrap();
}

fn paths(report: &Report) -> Vec<String> {
    report.touched.iter().map(|one| String::from_utf8_lossy(&one.path).into_owned()).collect()
}

#[test]
fn a_repository_that_is_whole_has_no_findings_at_any_level() {
    let (store, repo) = fresh();
    super::push(&repo, OP).unwrap();
    for level in [Level::Structure, Level::Metadata, Level::Sample, Level::All] {
        let report = look(&repo, level);
        assert_eq!(report.findings, [], "{level:?}");
        assert!(!report.is_damaged() && report.touched.is_empty());
        assert_eq!((report.snapshots, report.packs), (1, 2));
    }
    let report = look(&repo, Level::All);
    assert_eq!(report.bytes_read, report.bytes, "every byte of every pack");
    assert_eq!(store.list("verify/").unwrap().len(), 1, "one record holds all");
    assert!(store.list("gc/").unwrap().is_empty());
}

#[test]
fn every_byte_of_a_pack_is_compared_and_blocks_name_their_files() {
    let (store, repo) = fresh();
    let (_, files) = super::push(&repo, OP).unwrap();
    let (mut harmless, mut files_named) = (0, 0);
    for item in store.list("packs/").unwrap() {
        let len = usize::try_from(item.size).unwrap();
        for at in (0..len).step_by(211).chain([0, 7, 8, 9, len - 1, len - 5]) {
            let copy = store.fork();
            flip(&copy, &item.name, at);
            let repo = open(Arc::new(copy.clone())).unwrap();
            let report = look(&repo, Level::All);
            assert!(!report.findings.is_empty(), "{} at {at}: not noticed", item.name);
            assert!(report.findings.iter().all(|f| f.object == item.name), "{report:?}");
            let restores = restore(&repo, None, &OP).is_ok_and(|got| got == files);
            assert_eq!(report.is_damaged(), !restores, "{} at {at}: {report:?}", item.name);
            assert_eq!(report.touched.is_empty(), restores, "{} at {at}", item.name);
            let notes = copy.list("gc/bad-").unwrap().len();
            assert_eq!(notes, usize::from(!restores), "a directory's packs wait for nobody");
            harmless += u32::from(restores);
            files_named += u32::from(!restores);
        }
    }
    assert!(harmless > 20 && files_named > 5, "{harmless}, {files_named}");
}

#[test]
fn what_is_gone_or_cut_is_named_with_the_files_it_touches() {
    let (store, repo) = fresh();
    super::push(&repo, OP).unwrap();
    for item in store.list("packs/").unwrap() {
        for cut in [None, Some(0), Some(100)] {
            for level in [Level::Structure, Level::Metadata, Level::All] {
                let copy = store.fork();
                let bytes = copy.get(&item.name).unwrap();
                match cut {
                    None => copy.delete(&item.name).unwrap(),
                    Some(len) => copy.put(&item.name, vec![bytes.slice(..len)]).unwrap(),
                }
                let report = look(&open(Arc::new(copy)).unwrap(), level);
                assert!(report.is_damaged(), "{} {cut:?} {level:?}", item.name);
                assert!(report.findings.iter().any(|f| f.object == item.name), "{report:?}");
                assert!(!report.touched.is_empty() && !report.lost.is_empty());
            }
        }
    }
}

#[test]
fn objects_that_do_not_open_are_named_and_no_record_hides_them() {
    let (store, repo) = fresh();
    super::push(&repo, OP).unwrap();
    look(&repo, Level::All);
    for prefix in ["snap/", "index/"] {
        let name = store.list(prefix).unwrap()[0].name.clone();
        let copy = store.fork();
        flip(&copy, &name, 50);
        for level in [Level::Structure, Level::Metadata, Level::Sample, Level::All] {
            let report = look(&open(Arc::new(copy.clone())).unwrap(), level);
            let found = report.findings.iter().find(|f| f.object == name);
            assert!(
                found.is_some_and(crate::verify::Finding::is_damage),
                "{name} {level:?}: {report:?}"
            );
        }
    }
    let record = store.list("verify/").unwrap()[0].name.clone();
    flip(&store, &record, 60);
    assert!(!look(&repo, Level::All).is_damaged(), "a record that is lost costs reading again");
    for (name, hinders) in [("index/x", true), ("nobody/x", true), ("keys/x", false)] {
        let copy = store.fork();
        copy.put(name, vec![Bytes::from_static(b"x")]).unwrap();
        let repo = open(Arc::new(copy)).unwrap();
        let done = verify(&repo, None, &OP, &VerifyOptions::new(Level::Structure));
        match done {
            Ok(report) => {
                assert_eq!(report.findings[0].object, name);
                assert_eq!(report.is_damaged(), hinders, "{name}");
            }
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
}

#[test]
fn what_nobody_needs_or_has_a_good_copy_is_no_damage() {
    let (store, repo) = fresh();
    let files = push(&repo, 1, &[b"needed", &bytes_of(1, 3_000)]);
    push(&repo, 2, &[&bytes_of(2, 3_000)]);
    repo.forget(&op(2)).unwrap();
    let unneeded = store.list(&format!("packs/{}-", op(2))).unwrap()[0].name.clone();
    flip(&store, &unneeded, 20);
    let report = look(&repo, Level::All);
    assert!(!report.is_damaged() && report.findings.len() == 1, "{report:?}");
    assert!(matches!(&report.findings[0].harm, Harm::Harmless(why) if why.contains("no snapshot")));
    assert_eq!(report.quarantined.len(), 1, "or the next push would build on it");
    let needed = store.list(&format!("packs/{}-", op(1))).unwrap()[0].name.clone();
    flip(&store, &needed, 20);
    let report = look(&repo, Level::All);
    assert!(report.is_damaged(), "{report:?}");
    // the next push that meets the content stores it again
    push(&repo, 3, &[b"needed", &bytes_of(1, 3_000)]);
    let report = look(&repo, Level::All);
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), files);
}

#[test]
fn a_bad_read_is_no_damage() {
    let (store, repo) = fresh();
    super::push(&repo, OP).unwrap();
    let calls = {
        let counted = Arc::new(RecordingStore::new(Arc::new(store.fork())));
        look(&open(counted.clone()).unwrap(), Level::All);
        counted.total() as u64
    };
    for n in 2..=calls {
        for fault in [Fault::FlipBit(30), Fault::CutTo(20), Fault::Omit("packs/".into())] {
            let faulty = FaultStore::at(Arc::new(store.fork()), n, fault.clone());
            let repo = open(Arc::new(faulty)).unwrap();
            let report = look(&repo, Level::All);
            assert!(!report.is_damaged(), "{fault:?} in call {n}: {report:?}");
            assert!(report.bad.is_empty(), "{fault:?} in call {n}");
        }
    }
    drop(repo);
}

#[test]
fn what_a_collector_removes_meanwhile_is_no_damage() {
    let (store, repo) = fresh();
    push(&repo, 1, &[&bytes_of(1, 3_000)]);
    let kept = push(&repo, 2, &[b"kept", b"and this"]);
    repo.forget(&op(1)).unwrap();
    for n in 1..40 {
        let copy = store.fork();
        let inner = copy.clone();
        // in the middle of the run a whole collection goes by
        let racing = FaultStore::new(Arc::new(copy.clone()), move |call| {
            if call.number == n {
                collect(&open(Arc::new(inner.clone())).unwrap(), 0x60);
            }
            None
        });
        let report = look(&open(Arc::new(racing)).unwrap(), Level::All);
        assert!(!report.is_damaged(), "a collection before call {n}: {report:?}");
        assert_eq!(restore(&open(Arc::new(copy)).unwrap(), None, &op(2)).unwrap(), kept);
    }
}

#[test]
fn a_sample_reads_no_more_than_it_may_and_thirty_of_them_read_everything() {
    let memory = MemoryStore::new();
    create(&memory, REPO);
    let repo = open(Arc::new(memory.clone())).unwrap();
    for n in 1..=25 {
        push(&repo, n, &[&bytes_of(n, 40_000 * usize::from(n)), b"shared"]);
    }
    let bytes: u64 = memory.list("packs/").unwrap().iter().map(|item| item.size).sum();
    // a thirtieth, and one read of the largest block
    let most = bytes.div_ceil(30) + 1_100_000;
    let counted = Arc::new(RecordingStore::new(Arc::new(memory.clone())));
    let repo = open(counted.clone()).unwrap();
    let mut never = usize::MAX;
    for n in 1..=30 {
        counted.take();
        let options = VerifyOptions { bytes_max: Some(most), ..VerifyOptions::new(Level::Sample) };
        // two runs of the same day, or a record that is lost, change nothing
        let report = verify(&repo, None, &OpId::random(), &options).unwrap();
        let calls = counted.take();
        let read: u64 = calls
            .iter()
            .filter(|c| c.name.starts_with("packs/") && c.verb != Verb::List)
            .map(|c| c.bytes)
            .sum();
        assert!(read <= most, "run {n} read {read} of {most}");
        assert_eq!(read, report.bytes_read);
        assert!(report.packs_never_read <= never);
        never = report.packs_never_read;
        assert_eq!(memory.list("verify/").unwrap().len(), 1);
    }
    assert_eq!(never, 0, "all were read");
}

#[test]
fn a_small_budget_goes_on_where_the_last_run_ended() {
    let (store, repo) = fresh();
    let contents: Vec<Vec<u8>> = (1..20).map(|n| bytes_of(n, 3_000)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    push(&repo, 1, &contents);
    assert_eq!(store.list("packs/").unwrap().len(), 1);
    let mut runs = 0;
    while runs == 0 || look_at(&repo, 8_000).packs_never_read > 0 {
        runs += 1;
        assert!(runs < 20, "it begins again and again");
    }
    assert!(runs > 3, "one pack in several runs");
}

fn look_at(repo: &Repository, bytes_max: u64) -> Report {
    let options = VerifyOptions { bytes_max: Some(bytes_max), ..VerifyOptions::new(Level::Sample) };
    verify(repo, None, &OpId::random(), &options).unwrap()
}

/// A store that is not this machine's, with a clock of its own.
#[derive(Debug)]
struct Remote {
    inner: MemoryStore,
    secs: Arc<AtomicU64>,
}

impl Store for Remote {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> store::Result<()> {
        self.inner.put(name, parts)
    }
    fn get(&self, name: &str) -> store::Result<Bytes> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> store::Result<Bytes> {
        self.inner.get_range(name, range)
    }
    fn list(&self, prefix: &str) -> store::Result<Vec<Item>> {
        let modified =
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.secs.load(Ordering::SeqCst));
        let items = self.inner.list(prefix)?.into_iter();
        Ok(items.map(|item| Item { modified, ..item }).collect())
    }
    fn delete(&self, name: &str) -> store::Result<()> {
        self.inner.delete(name)
    }
    fn address(&self) -> String {
        "remote:".into()
    }
    fn listing(&self) -> Listing {
        Listing::Unpublished
    }
}

#[test]
fn at_a_remote_store_damage_must_last_an_hour_before_a_pack_is_quarantined() {
    let (inner, repo) = fresh();
    super::push(&repo, OP).unwrap();
    let name = inner.list("packs/").unwrap()[0].name.clone();
    flip(&inner, &name, 30);
    let secs = Arc::new(AtomicU64::new(1_700_000_000));
    let remote = Remote { inner: inner.clone(), secs: secs.clone() };
    let repo = open(Arc::new(remote)).unwrap();
    // the store lists every object with the time of now: what is remembered is what was written
    let first = look(&repo, Level::All);
    assert_eq!((first.waiting.len(), first.quarantined.len()), (1, 0));
    secs.fetch_add(3_599, Ordering::SeqCst);
    let second = look(&repo, Level::Sample);
    assert!(second.is_damaged(), "found again though its pack was read: {second:?}");
    assert_eq!((second.waiting.len(), second.quarantined.len()), (1, 0), "{second:?}");
    secs.fetch_add(3_600, Ordering::SeqCst);
    let third = look(&repo, Level::Metadata);
    assert_eq!((third.waiting.len(), third.quarantined.len()), (0, 1), "{third:?}");
    assert_eq!(inner.list("gc/bad-").unwrap().len(), 1);
    // a read that was only bad for a while leaves no trace
    flip(&inner, &name, 30);
    assert!(!look(&repo, Level::All).is_damaged());
}

#[test]
fn damage_names_every_snapshot_and_file_that_it_touches() {
    let (store, repo) = fresh();
    let shared = bytes_of(9, 5_000);
    push(&repo, 1, &[&shared, b"only in the first"]);
    push(&repo, 2, &[&shared, b"only in the second"]);
    let block = repo.keys().block_id(crate::keys::BlockKind::Data, &shared);
    let at = repo.load_index(None, false).unwrap().get(&block).unwrap().clone();
    flip(&store, &at.pack.object_name(), usize::try_from(at.offset).unwrap() + 5);
    let report = look(&repo, Level::All);
    assert_eq!(report.bad.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [block]);
    assert_eq!(report.touched.len(), 1, "one path: {:?}", paths(&report));
    assert_eq!(report.touched[0].snapshots, [op(1), op(2)]);
    assert_eq!(report.touched[0].blocks.iter().copied().collect::<Vec<_>>(), [block]);
    assert!(!report.touched[0].and_more);
}

#[test]
fn where_nothing_can_be_written_damage_is_told_all_the_same() {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let (store, repo) = fresh();
    super::push(&repo, OP).unwrap();
    let pack = store.list("packs/").unwrap()[0].name.clone();
    flip(&store, &pack, 40);
    let io = [PermissionDenied, ReadOnlyFilesystem, StorageFull].map(Failure::Io);
    for failure in [Failure::Denied, Failure::CapReached].into_iter().chain(io) {
        let closed = FaultStore::new(Arc::new(store.clone()), move |call| {
            (call.verb == Verb::Put).then_some(Fault::Fail(failure))
        });
        let repo = open(Arc::new(closed)).unwrap();
        for level in [Level::Sample, Level::All] {
            let report = look(&repo, level);
            assert!(report.is_damaged(), "{failure:?}");
            assert_eq!(report.findings[0].object, pack);
            assert!(report.forgotten.is_some());
            assert_eq!((report.quarantined, report.waiting), (vec![], vec![]), "{failure:?}");
        }
    }
    assert!(store.list("verify/").unwrap().is_empty() && store.list("gc/").unwrap().is_empty());
}

#[test]
fn what_collectors_move_during_every_look_is_not_lost_and_what_is_lost_in_each_is() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    push(&repo, 2, &[b"two"]);
    let listings = AtomicU64::new(0);
    // each look misses what another one does not: none agrees with the one before
    let restless = FaultStore::new(Arc::new(store.clone()), move |call| {
        let is_look = call.verb == Verb::List && call.name == "packs/";
        let n = if is_look { listings.fetch_add(1, Ordering::SeqCst) } else { return None };
        Some(Fault::Omit(op(if n.is_multiple_of(2) { 1 } else { 2 }).hex()))
    });
    let repo = open(Arc::new(restless)).unwrap();
    let report = look(&repo, Level::Metadata);
    assert!(!report.is_damaged() && report.lost.is_empty(), "{report:?}");
    assert!(report.touched.is_empty(), "{report:?}");

    let all = store.list("packs/").unwrap();
    let lost = all.iter().find(|item| item.name.contains(&op(1).hex())).unwrap();
    store.delete(&lost.name).unwrap();
    let report = look(&repo, Level::Metadata);
    assert!(report.is_damaged() && !report.lost.is_empty(), "{report:?}");
}
