//! The damage matrix: what a changed, cut, missing, swapped or replayed object does to a repository.
//!
//! Every case is a copy of one small repository with one thing wrong. Whatever is wrong, what is
//! read back is right or is an error that names something; [`HARMLESS`] says what may pass without
//! an error, and why. Every byte of objects up to 512 bytes is tried, of others a fixed part (the
//! matrix of the `repo` crate tries them all, on blocks and records); `AGENT_BACKUP_DAMAGE=all`
//! tries every bit of every byte of every object, and every length, and takes long.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use engine::pull::{Options, Placement, SnapshotContent, pull};
use engine::push::{PushOptions, Pushed};
use rayon::prelude::*;
use repo::{Kind, OpId, PackId, Reader};
use store::{MemoryStore, Store};

use crate::specimen::{
    Files, Look, Specimen, files_at, heartbeat, is_damage, one_thread, read_file,
};

/// What may be wrong without anybody being told, and why nobody needs to be.
const HARMLESS: &[(&str, &str)] = &[
    ("op/", "only that it is there counts, and only for a push or a collector"),
    ("end/", "only that it is there counts, and only for a collector"),
    ("kill/", "only that it is there counts, and only for the operation it names"),
    ("dead/", "only that it is there counts"),
    ("keys/", "another slot still opens; its own secret is told (a test of its own)"),
    ("packs/", "magic, padding and trailer, while an index names the blocks; blocks with a copy"),
];

/// Objects up to this length are tried byte by byte.
const SMALL_BYTES: usize = 512;
/// Of larger ones, one of so many bytes, or lengths.
const STRIDE: usize = 3;
/// The same for packs, which are mostly blocks and padding.
const PACK_STRIDE: usize = 61;

fn thorough() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not of the program")]
    std::env::var_os("AGENT_BACKUP_DAMAGE").is_some_and(|value| value == "all")
}

/// Every how many bytes of an object are tried.
fn stride(name: &str, len: usize) -> usize {
    match () {
        () if thorough() || len <= SMALL_BYTES => 1,
        () if name.starts_with("packs/") => PACK_STRIDE,
        () => STRIDE,
    }
}

fn shared() -> &'static Specimen {
    static SHARED: OnceLock<Specimen> = OnceLock::new();
    SHARED.get_or_init(|| Specimen::new(0x51))
}

fn prefix(name: &str) -> &str {
    name.split_inclusive('/').next().unwrap()
}

/// What of an object a restore of all snapshots needs.
struct Needs {
    /// Of a pack: start and end of each block that lies nowhere else.
    blocks: std::collections::BTreeMap<String, Vec<(u64, u64, bool)>>,
    machine_slot: String,
}

impl Needs {
    fn of(specimen: &Specimen) -> Self {
        let repo::keys::SecretInput::Machine(key) = &specimen.machine else { unreachable!() };
        let machine_slot = repo::keys::Slot::object_name(key.slot);
        Self { blocks: specimen.reachable(), machine_slot }
    }

    /// Is byte `at` of an object needed?
    fn byte(&self, name: &str, at: usize) -> bool {
        self.any(name, |start, end| (start..end).contains(&(at as u64)))
    }

    /// Is something at or behind `len` needed?
    fn behind(&self, name: &str, len: usize) -> bool {
        self.any(name, |_, end| end > len as u64)
    }

    fn whole(&self, name: &str) -> bool {
        self.behind(name, 0)
    }

    fn any(&self, name: &str, hit: impl Fn(u64, u64) -> bool) -> bool {
        match prefix(name) {
            "packs/" => {
                let blocks = self.blocks.get(name).map_or(&[][..], Vec::as_slice);
                blocks.iter().any(|(start, end, needed)| *needed && hit(*start, *end))
            }
            "keys/" => name == self.machine_slot,
            other => !HARMLESS.iter().any(|(harmless, _)| *harmless == other),
        }
    }
}

/// Says of a look whether anything was noticed: an error, or a list that is not what it was.
fn noticed(look: &Look, specimen: &Specimen) -> bool {
    let all = look.listed.as_ref().is_some_and(|list| list.len() == specimen.taken.len());
    !look.errors.is_empty() || !all
}

/// Looks at a case and holds it against what was expected.
fn check(specimen: &Specimen, store: MemoryStore, needed: bool, told: &str) {
    let look = specimen.look(store, told);
    if needed {
        assert!(!look.errors.is_empty(), "{told}: nobody noticed");
    } else {
        assert!(!noticed(&look, specimen), "{told}: harmless, but {:?}", look.errors);
    }
}

#[test]
fn the_specimen_has_one_of_everything_and_comes_back() {
    let specimen = shared();
    let count = |prefix: &str| specimen.store.list(prefix).unwrap().len();
    assert_eq!((count("keys/"), count("snap/"), count("op/")), (3, 3, 5));
    assert_eq!((count("end/"), count("kill/"), count("dead/")), (1, 1, 1));
    assert!(count("packs/") >= 4 && count("index/") >= 4, "{:?}", specimen.names());
    let entries = &specimen.taken[2].entries;
    let kinds = [Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Socket];
    assert!(kinds.iter().all(|kind| entries.iter().any(|(_, e)| e.kind == *kind)));
    assert!(entries.iter().any(|(_, e)| e.flags & repo::flag::SQLITE != 0));
    assert!(entries.iter().any(|(_, e)| e.link.is_some()));
    let cells = &entries.iter().find(|(path, _)| path == b"files/cells").unwrap().1;
    assert!(cells.map.base.is_some(), "a map of its own");
    assert_eq!(cells.map.patches.as_ref().map(Vec::len), Some(2));
    let owners = |op: &OpId| specimen.store.list(&format!("packs/{op}-")).unwrap().len();
    assert!(owners(&specimen.dead) > 0, "the dead operation left packs");
    let look = specimen.look(specimen.store.fork(), "undamaged");
    assert_eq!((look.whole, noticed(&look, specimen)), (3, false), "{:?}", look.errors);
    // the next push built on the dead one's packs
    let without = specimen.store.fork();
    for item in without.list(&format!("packs/{}-", specimen.dead)).unwrap() {
        without.delete(&item.name).unwrap();
    }
    let look = specimen.look(without, "without the dead packs");
    assert!(look.whole < 3, "the newest snapshot needs them");
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let (specimen, needs) = (shared(), Needs::of(shared()));
    let mut cases = Vec::new();
    for name in specimen.names() {
        let len = specimen.bytes(&name).len();
        let bits = if thorough() { 0..8 } else { 0..1 };
        for at in (0..len).step_by(stride(&name, len)) {
            cases.extend(bits.clone().map(|bit| (name.clone(), at, (at + bit) % 8)));
        }
        // where something begins or ends
        let edges = needs.blocks.get(&name).into_iter().flatten();
        let edges = edges.flat_map(|(start, end, _)| [*start, end - 1]);
        cases.extend(edges.map(|at| (name.clone(), usize::try_from(at).unwrap(), 0)));
    }
    cases.par_iter().for_each(|(name, at, bit)| {
        let mut bytes = specimen.bytes(name);
        bytes[*at] ^= 1 << bit;
        let told = format!("{name}, bit {bit} of byte {at}");
        check(specimen, specimen.with(name, Some(bytes)), needs.byte(name, *at), &told);
    });
}

#[test]
fn an_object_that_ends_early_or_late_is_noticed_or_harmless() {
    let (specimen, needs) = (shared(), Needs::of(shared()));
    let mut cases = Vec::new();
    for name in specimen.names() {
        let len = specimen.bytes(&name).len();
        let middle = (64..len).step_by(if len <= SMALL_BYTES { 1 } else { stride("packs/", len) });
        let ends = (0..64).chain(middle).chain(len.saturating_sub(64)..len);
        cases.extend(ends.filter(|end| *end < len).map(|end| (name.clone(), end)));
    }
    cases.par_iter().for_each(|(name, end)| {
        let bytes = specimen.bytes(name)[..*end].to_vec();
        let told = format!("{name} cut to {end}");
        check(specimen, specimen.with(name, Some(bytes)), needs.behind(name, *end), &told);
    });
    for name in specimen.names() {
        for more in [1, 16, 4096] {
            let bytes = [specimen.bytes(&name), vec![0; more]].concat();
            // the blocks of a pack lie where they lay
            let needed = !name.starts_with("packs/") && needs.whole(&name);
            let told = format!("{name} with {more} bytes after it");
            check(specimen, specimen.with(&name, Some(bytes)), needed, &told);
        }
    }
}

#[test]
fn an_object_that_is_gone_is_named_and_the_other_snapshots_restore() {
    let (specimen, needs) = (shared(), Needs::of(shared()));
    for name in specimen.names() {
        let look = specimen.look(specimen.with(&name, None), &format!("{name} deleted"));
        match prefix(&name) {
            // the blocks are named, and where they should be is not known any more
            "index/" => assert!(!look.errors.is_empty(), "{name}"),
            "snap/" => {
                assert_eq!((look.whole, look.errors.len()), (2, 1), "{:?}", look.errors);
                assert!(look.errors[0].contains(&name), "{:?}", look.errors);
                assert_eq!(look.listed.map(|list| list.len()), Some(2), "a shorter list");
            }
            "dead/" => {
                // it never had a snapshot, so none appears
                assert_eq!((look.whole, noticed(&look, specimen)), (3, false), "{name}");
            }
            _ => assert_eq!(!look.errors.is_empty(), needs.whole(&name), "{name}"),
        }
        if name.starts_with("packs/") && needs.whole(&name) {
            assert!(look.errors.iter().any(|e| e.contains(&name)), "{:?}", look.errors);
        }
    }
    // what the first snapshot needs is older than all the rest: only that is hit
    let newest = format!("packs/{}-0", specimen.taken[2].snapshot.id);
    let look = specimen.look(specimen.with(&newest, None), "the newest pack deleted");
    assert_eq!(look.whole, 2, "older snapshots do not need it: {:?}", look.errors);
}

#[test]
fn s4_an_object_in_the_place_of_another_is_refused() {
    let (specimen, needs) = (shared(), Needs::of(shared()));
    let names = specimen.names();
    let pairs: Vec<_> = names
        .iter()
        .flat_map(|a| names.iter().map(move |b| (a, b)))
        .filter(|(a, b)| a != b)
        .collect();
    pairs.par_iter().for_each(|(name, other)| {
        let told = format!("{other} in the place of {name}");
        let copy = specimen.with(name, Some(specimen.bytes(other)));
        check(specimen, copy, needs.whole(name), &told);
        if prefix(name) == prefix(other) && name < other {
            let both = specimen.with(name, Some(specimen.bytes(other)));
            both.put(other, vec![specimen.bytes(name).into()]).unwrap();
            let needed = needs.whole(name) || needs.whole(other);
            check(specimen, both, needed, &format!("{name} and {other} swapped"));
        }
    });
}

#[test]
fn objects_of_another_repository_of_the_same_make_are_refused() {
    let (specimen, needs, foreign) = (shared(), Needs::of(shared()), Specimen::new(0xa6));
    for group in ["config", "keys/", "op/", "end/", "kill/", "dead/", "snap/", "index/", "packs/"] {
        let list = |s: &Specimen| -> Vec<String> {
            s.store.list(group).unwrap().into_iter().map(|item| item.name).collect()
        };
        let (mine, theirs) = (list(specimen), list(&foreign));
        assert_eq!(mine.len(), theirs.len(), "{group}: the same layout");
        for (name, other) in mine.iter().zip(&theirs) {
            let bytes = foreign.bytes(other);
            let told = format!("{other} of another repository as {name}");
            check(specimen, specimen.with(name, Some(bytes.clone())), needs.whole(name), &told);
            // and beside ours, under its own name
            let look = specimen.look(specimen.with(other, Some(bytes)), &told);
            // an index object that does not open is passed over: all that ours name is found
            let stranger = matches!(group, "config" | "snap/");
            assert_eq!(noticed(&look, specimen), stranger, "{told}: {:?}", look.errors);
            if group == "snap/" {
                assert_eq!(look.whole, 3, "ours are still read by their ids");
            }
        }
    }
}

#[test]
fn objects_that_nobody_wrote_are_left_alone_or_named() {
    let specimen = shared();
    let (own, stranger) = (specimen.taken[1].snapshot.id, OpId([0xab; 16]));
    // (name, told by an error, snapshots still read by id)
    let cases = [
        ("index/garbage".to_owned(), true, 0),
        (format!("index/0-{stranger}-0"), false, 3),
        (format!("index/9-{own}-7"), false, 3),
        ("snap/garbage".to_owned(), true, 3),
        (format!("snap/{stranger}"), true, 3),
        ("dead/garbage".to_owned(), true, 3),
        (format!("dead/{stranger}"), false, 3),
        ("keys/garbage".to_owned(), false, 3),
        (format!("keys/{stranger}"), false, 3),
        ("packs/garbage".to_owned(), false, 3),
        (format!("packs/{stranger}-0"), false, 3),
        ("op/garbage".to_owned(), false, 3),
        (format!("op/{stranger}"), false, 3),
        (format!("end/{own}"), false, 3),
        (format!("kill/{own}"), false, 3),
        (format!("forgot/{own}"), false, 3),
        ("gc/garbage".to_owned(), false, 3),
        (format!("gc/{stranger}.d"), false, 3),
        (format!("gc/bad-{own}-0"), false, 3),
        ("pin/garbage".to_owned(), false, 3),
        ("unknown/garbage".to_owned(), false, 3),
        ("garbage".to_owned(), false, 3),
    ];
    for (name, told, whole) in cases {
        for bytes in [Vec::new(), b"garbage".to_vec(), vec![0xff; 5000]] {
            let look = specimen.look(specimen.with(&name, Some(bytes)), &name);
            assert_eq!((!look.errors.is_empty(), look.whole), (told, whole), "{name}: {look:?}");
            assert!(!told || look.errors[0].contains(&name), "{name}: {:?}", look.errors);
        }
    }
    // whoever may write to the store can say that a snapshot is dead: as bad as deleting it
    let look = specimen.look(specimen.with(&format!("dead/{own}"), Some(vec![0; 9])), "dead");
    assert_eq!((look.whole, look.listed.map(|list| list.len())), (3, Some(2)));
}

#[test]
fn an_older_heartbeat_changes_nothing() {
    let specimen = shared();
    let store = specimen.store.fork();
    let repo = Specimen::open(store.clone(), &specimen.machine).unwrap();
    let (name, older) = heartbeat(&repo);
    let look = specimen.look(store.fork(), "a heartbeat");
    store.put(&name, vec![older.into()]).unwrap();
    let again = specimen.look(store, "an older heartbeat");
    assert_eq!((look.whole, again.whole), (3, 3));
    assert!(look.errors.is_empty() && again.errors.is_empty());
}

#[test]
fn a_damaged_slot_stops_its_own_secret_and_no_other() {
    let specimen = shared();
    let secrets = [&specimen.machine, &specimen.passphrase, &specimen.recovery];
    let opens = |store: &MemoryStore| {
        secrets.map(|secret| match Specimen::open(store.clone(), secret) {
            Ok(_) => true,
            Err(error) => {
                assert!(is_damage(&error), "{error}");
                false
            }
        })
    };
    assert_eq!(opens(&specimen.store), [true; 3]);
    for name in specimen.store.list("keys/").unwrap().into_iter().map(|item| item.name) {
        let own = opens(&specimen.with(&name, None));
        assert_eq!(own.iter().filter(|open| !**open).count(), 1, "{name}");
        let whole = specimen.bytes(&name);
        let step = if thorough() { 1 } else { 7 };
        (0..whole.len()).into_par_iter().step_by(step).for_each(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            for bytes in [flipped, whole[..at].to_vec()] {
                assert_eq!(opens(&specimen.with(&name, Some(bytes))), own, "{name} at {at}");
            }
        });
    }
}

// --- real pulls

/// Pulls every snapshot of a store to the disk. What is there afterwards is right; what is not
/// there is named in the report, or the whole pull failed.
fn pull_all(specimen: &Specimen, store: MemoryStore, told: &str) {
    let temp = tempfile::tempdir().unwrap();
    let session = match specimen.session(store, &specimen.client(temp.path(), false)) {
        Ok(session) => session,
        Err(engine::Error::Repo(error)) => {
            assert!(is_damage(&error) || told.contains("config"), "{told}: {error}");
            return;
        }
        Err(other) => panic!("{told}: {other}"),
    };
    for (n, taken) in specimen.taken.iter().enumerate() {
        let snapshot = match session.snapshot(&taken.snapshot.id) {
            Ok(snapshot) => snapshot,
            Err(engine::Error::Repo(error)) if is_damage(&error) => continue,
            Err(other) => panic!("{told}: {other}"),
        };
        let to = temp.path().join(n.to_string());
        let options = Options {
            labels: vec![b"files".to_vec()],
            workers: 1,
            ..Options::new(Placement::Under(to.clone()))
        };
        let report = SnapshotContent::open(&session, &snapshot)
            .map(|content| pull(&content, &options, &(), &AtomicBool::new(false)));
        let report = match report {
            Ok(Ok(report)) => report,
            Ok(Err(engine::pull::Error::Repo(error))) | Err(engine::Error::Repo(error)) => {
                assert!(is_damage(&error), "{told}: {error}");
                assert!(!to.exists(), "{told}: a pull that could not begin wrote something");
                continue;
            }
            other => panic!("{told}: {other:?}"),
        };
        compare(&taken.files, &to, &report, told);
    }
}

fn compare(files: &Files, to: &Path, report: &engine::pull::Report, told: &str) {
    let there = files_at(&to.join("files"));
    for (path, bytes) in &there {
        assert!(bytes == &files[path], "{told}: {}: wrong bytes", path.escape_ascii());
    }
    for path in files.keys().filter(|path| !there.contains_key(*path)) {
        let named = report.problems.iter().any(|problem| problem.path == *path);
        assert!(named, "{told}: {} is missing in silence", path.escape_ascii());
    }
    assert_eq!(report.is_complete(), there.len() == files.len(), "{told}");
}

#[test]
fn a_pull_from_a_damaged_store_writes_right_bytes_or_names_the_file() {
    let (specimen, needs) = (shared(), Needs::of(shared()));
    let mut cases = vec![("undamaged".to_owned(), specimen.store.fork())];
    for name in specimen.names() {
        if HARMLESS[..4].iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue; // no pull reads them
        }
        cases.push((format!("{name} deleted"), specimen.with(&name, None)));
        let blocks = needs.blocks.get(&name).map_or(&[][..], Vec::as_slice);
        for (start, _, _) in blocks.iter().filter(|(.., needed)| *needed) {
            let mut bytes = specimen.bytes(&name);
            bytes[usize::try_from(*start).unwrap() + 3] ^= 4;
            let told = format!("{name}, the block at {start}");
            cases.push((told, specimen.with(&name, Some(bytes))));
        }
    }
    assert!(cases.len() >= 24, "{}", cases.len());
    cases.into_par_iter().for_each(|(told, store)| pull_all(specimen, store, &told));
}

// --- what a client does that goes on working with a damaged store

/// Does a snapshot give back exactly these files, to a machine without state or cache?
fn restores(
    specimen: &Specimen,
    store: &MemoryStore,
    id: &OpId,
    files: &Files,
) -> repo::Result<()> {
    let repo = Specimen::open(store.fork(), &specimen.machine)?;
    let (snapshot, _) = repo.snapshot(None, id)?;
    let reader = Reader::open(&repo, None)?;
    let (mut entries, mut blocks) = (Vec::new(), HashMap::new());
    reader.walk(&snapshot.tree, &mut |path, entry| {
        entries.push((path, entry));
        Ok(())
    })?;
    let mut count = 0;
    for (path, entry) in entries.iter().filter(|(_, e)| e.kind == Kind::File) {
        count += 1;
        if entry.link.is_none() {
            let read = read_file(&reader, entry, &mut blocks)?;
            let read = read.ok_or(repo::Error::Missing { object: "a block".into() })?;
            assert!(read == **files[path], "{}: wrong bytes", path.escape_ascii());
        }
    }
    assert_eq!(count, files.len());
    Ok(())
}

/// What a push cannot notice, because it does not read it: a snapshot that it acknowledges then
/// stands on what was damaged before.
const UNSEEN_BY_A_PUSH: &[(&str, &str)] = &[
    ("packs/", "a push reads no packs; the older snapshots stand on the same blocks"),
    ("index/", "one that is in the cache with the same length is not read again"),
];

/// What a push stops for, and why. An index object that does not open is none of it: a push stores again
/// what that named.
const REFUSED: &[(&str, &str)] = &[
    ("config", "nothing opens without it"),
    ("keys/", "this machine's own key has no slot any more"),
    ("snap/", "the snapshot that this machine saw last is gone: the store was rolled back"),
];

#[test]
fn a_push_after_the_damage_acknowledges_only_what_restores() {
    let specimen = Specimen::new(0x51);
    let source = specimen.bench.source();
    std::fs::write(source.join("added.md"), "added after the damage\n".repeat(20)).unwrap();
    let files = files_at(&source);
    let mut cases = Vec::new();
    for name in specimen.names() {
        let bytes = specimen.bytes(&name);
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 3] ^= 1;
        cases.push((name.clone(), "deleted", None));
        cases.push((name.clone(), "cut", Some(bytes[..bytes.len() / 3].to_vec())));
        cases.push((name.clone(), "flipped", Some(flipped)));
        let other = if name.starts_with("snap/") { "end/" } else { "snap/" };
        let other = specimen.store.list(other).unwrap()[0].name.clone();
        cases.push((name.clone(), "replaced", Some(specimen.bytes(&other))));
    }
    let counts: Vec<[usize; 3]> = cases
        .par_iter()
        .flat_map(|case| [(case, true), (case, false)])
        .map(|((name, how, bytes), cached)| {
            let told = format!("{name} {how}, {}", if cached { "cached" } else { "no cache" });
            let store = specimen.with(name, bytes.clone());
            push_after(&specimen, &store, name, cached, &files, &told)
        })
        .collect();
    let sum = |n: usize| counts.iter().map(|count| count[n]).sum::<usize>();
    // config, this machine's slot and the newest snapshot, with and without a cache
    assert!(sum(0) > 10 && sum(1) > 50 && sum(2) > 5, "{}, {}, {}", sum(0), sum(1), sum(2));
}

/// Pushes to a damaged store. Counts refusals, pushes that restore, and pushes that stand on what
/// was damaged before.
fn push_after(
    specimen: &Specimen,
    store: &MemoryStore,
    name: &str,
    cached: bool,
    files: &Files,
    told: &str,
) -> [usize; 3] {
    let temp = tempfile::tempdir().unwrap();
    let dirs = specimen.client(temp.path(), cached);
    let pushed = specimen
        .session(store.clone(), &dirs)
        .and_then(|session| specimen.bench.push_with(&session, &one_thread()));
    let snapshot = match pushed {
        Ok(Pushed::Made(snapshot)) => snapshot,
        Ok(Pushed::Unchanged(..)) => panic!("{told}: something changed"),
        Err(engine::Error::Repo(error)) => {
            use repo::Error as E;
            let known = matches!(error, E::Refused { .. } | E::NoRepository { .. });
            assert!(known || is_damage(&error), "{told}: {error}");
            let refused = REFUSED.iter().any(|(prefix, _)| name.starts_with(prefix));
            assert!(refused, "{told}: {error}");
            return [1, 0, 0];
        }
        Err(other) => panic!("{told}: {other}"),
    };
    let Err(error) = restores(specimen, store, &snapshot.id, files) else { return [0, 1, 0] };
    let unseen = UNSEEN_BY_A_PUSH.iter().any(|(prefix, _)| name.starts_with(prefix));
    assert!(unseen && is_damage(&error), "{told}: acknowledged, but: {error}");
    let same_length = store.get(name).is_ok_and(|now| now.len() == specimen.bytes(name).len());
    assert!(name.starts_with("packs/") || (cached && same_length), "{told}: {error}");
    // nothing that it wrote itself is missing
    let mended = store.fork();
    mended.put(name, vec![specimen.bytes(name).into()]).unwrap();
    restores(specimen, &mended, &snapshot.id, files).unwrap();
    // once the pack is known to be bad, the next push writes again what it held
    if let Some(pack) = PackId::from_object_name(name) {
        store.put(&format!("gc/bad-{}-{}", pack.op, pack.n), vec![vec![0].into()]).unwrap();
        let session = specimen.session(store.clone(), &dirs).unwrap();
        let options = PushOptions { always: true, ..one_thread() };
        let again = specimen.bench.push_with(&session, &options).unwrap();
        restores(specimen, store, &again.snapshot().id, files).unwrap();
    }
    [0, 0, 1]
}

#[test]
fn a_store_that_was_rolled_back_is_refused_by_a_client_that_saw_more() {
    let specimen = Specimen::new(0x51);
    for cached in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let dirs = specimen.client(temp.path(), cached);
        let old = specimen.early.fork();
        let session = specimen.session(old.clone(), &dirs).unwrap();
        // also when nothing changed since the push that the store has forgotten
        let newest = specimen.taken[2].snapshot.id.hex();
        let refused = specimen.bench.push(&session).unwrap_err().to_string();
        assert!(refused.contains("rolled back") && refused.contains(&newest), "{refused}");
        assert_eq!(old.list("op/").unwrap().len(), 1, "nothing was written");
        // told to go on: nothing of what the store lost is taken to be there
        let options = PushOptions { accept_rollback: true, ..PushOptions::default() };
        let pushed = specimen.bench.push_with(&session, &options).unwrap();
        let files = files_at(&specimen.bench.source());
        restores(&specimen, &old, &pushed.snapshot().id, &files).unwrap();
        assert_eq!(session.snapshots().unwrap().len(), 2);
    }
    // a client that never saw more takes it for what it is: an older state, whole
    let repo = Specimen::open(specimen.early.fork(), &specimen.passphrase).unwrap();
    assert_eq!(repo.snapshots(None).unwrap(), [specimen.taken[0].snapshot.clone()]);
}
