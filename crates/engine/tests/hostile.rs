//! Repositories made by somebody who has the key and means harm, through the real reader and pull.
//!
//! Whatever a tree says, nothing outside the target is touched, memory stays bounded, and either
//! the bad entry is named and the honest ones beside it come back, or the tree as a whole is
//! refused before anything is written: a node that breaks a rule of the format is no node.
//!
//! A binary of its own, because the peak of memory is that of the whole process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

#[path = "all/forger.rs"]
mod forger;
#[path = "all/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::pull::{Options, Overwrite, Placement, Report, SnapshotContent, pull};
use engine::{Session, view};
use forger::{Forger, HONEST, extent, inner, leaf, plain_entry, varints};
use repo::keys::BlockKind;
use repo::{BlockId, Extent, Kind, Map, Snapshot, Xattr, encode_extents, path_order};
use store::MemoryStore;
use support::Bench;

/// Plaintext of the largest block there is.
const BLOCK_BYTES_MAX: usize = 8 << 20;

/// A repository, a target, and a tree beside it that nobody may touch.
struct Ground {
    bench: Bench,
    target: PathBuf,
    outside: PathBuf,
    sentinels: BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>,
}

/// Mode, times and content of everything below a directory.
fn shapes(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let (mut out, mut todo) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap_or_default()
        };
        out.insert(path, (meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
    }
    out
}

impl Ground {
    fn new() -> Self {
        let bench = Bench::new(Arc::new(MemoryStore::new()));
        let (target, outside) = (bench.dir.path().join("target"), bench.dir.path().join("outside"));
        fs::create_dir_all(outside.join("dir")).unwrap();
        fs::write(outside.join("sentinel"), "untouched").unwrap();
        fs::write(outside.join("dir/x"), "untouched too").unwrap();
        let sentinels = shapes(&outside);
        Self { bench, target, outside, sentinels }
    }

    fn pull(&self, session: &Session, snapshot: &Snapshot, overwrite: Overwrite) -> Pulled {
        let options = Options {
            labels: vec![b"r".to_vec()],
            workers: 2,
            overwrite,
            ..Options::new(Placement::Under(self.target.clone()))
        };
        let content = SnapshotContent::open(session, snapshot).unwrap();
        let pulled = pull(&content, &options, &(), &AtomicBool::new(false));
        assert_eq!(shapes(&self.outside), self.sentinels, "the outside was touched");
        pulled
    }

    /// Forges a tree and pulls it; the paths that were refused, sorted.
    fn refused(&self, told: &str, build: &dyn Fn(&mut Forger<'_>, &Self)) -> Vec<Vec<u8>> {
        let session = self.bench.init();
        let mut forger = Forger::new(&session);
        build(&mut forger, self);
        let snapshot = forger.commit();
        let mut refused = Vec::new();
        for overwrite in [Overwrite::IfChanged, Overwrite::Always] {
            let report = self.pull(&session, &snapshot, overwrite);
            let report = report.unwrap_or_else(|e| panic!("{told}: {e}"));
            for honest in ["r/!honest", "r/~honest"] {
                let read = fs::read(self.target.join(honest));
                assert_eq!(read.ok().as_deref(), Some(HONEST), "{told}: {honest}");
            }
            assert!(reasons(&report).all(is_tame), "{told}: {report:?}");
            refused = report.problems.into_iter().map(|problem| problem.path).collect();
            refused.sort();
        }
        refused
    }
}

type Pulled = engine::pull::Result<Report>;

fn reasons(report: &Report) -> impl Iterator<Item = &String> {
    let all = report.problems.iter().chain(&report.skipped).chain(&report.notices);
    all.map(|problem| &problem.reason)
}

/// Text that cannot drive a terminal.
fn is_tame(text: impl AsRef<str>) -> bool {
    !text.as_ref().chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
}

type Case = (&'static str, fn(&mut Forger<'_>, &Ground), &'static [&'static str]);

/// Entries that sound right one by one, and what of them must be refused.
const CASES: &[Case] = &[
    (
        "a file below a link that leads out",
        |f, g| {
            f.symlink("r/a", g.outside.to_str().unwrap());
            f.file("r/a/sentinel", b"evil");
            f.dir("r/a/dir");
            f.file("r/a/dir/x", b"evil");
        },
        &["r/a/dir", "r/a/dir/x", "r/a/sentinel"],
    ),
    (
        "a file below a file",
        |f, _| {
            f.file("r/a", b"a file");
            f.file("r/a/b", b"evil");
        },
        &["r/a/b"],
    ),
    (
        "hard links to the outside",
        |f, g| {
            f.hard_link("r/a", g.outside.join("sentinel").to_str().unwrap());
            f.hard_link("r/b", "../outside/sentinel");
            f.hard_link("r/c", "r/../../outside/sentinel");
        },
        &["r/a", "r/b", "r/c"],
    ),
    (
        "hard links in a circle",
        |f, _| {
            f.hard_link("r/a", "r/b");
            f.hard_link("r/b", "r/c");
            f.hard_link("r/c", "r/a");
            f.hard_link("r/d", "r/d");
        },
        &["r/a", "r/b", "r/c", "r/d"],
    ),
    (
        "a hard link through a link",
        |f, g| {
            f.symlink("r/a", g.outside.to_str().unwrap());
            f.hard_link("r/b", "r/a/sentinel");
        },
        &["r/b"],
    ),
    (
        "extents past the end of their block",
        |f, _| {
            let block = f.data(b"eight by");
            f.mapped("r/a", b"by and more", &[extent(block, 6, 11)]);
            f.mapped("r/b", b"eight by", &[extent(block, 8, 8)]);
            f.mapped("r/c", b"eight by", &[extent(block, 7 << 20, 8)]);
        },
        &["r/a", "r/b", "r/c"],
    ),
    (
        "extents longer than any block, or empty, or at the end of numbers",
        |f, _| {
            let block = f.data(b"eight by");
            let map = |numbers: &[u64]| {
                let inline = [&varints(&[1])[..], &block.0, &varints(&[1]), &varints(numbers)];
                Map { inline: inline.concat(), ..Map::default() }
            };
            for (path, numbers) in [
                ("r/a", [0, 0, u64::from(u32::MAX)]),
                ("r/b", [0, u64::from(u32::MAX), 8]),
                ("r/c", [0, 0, 1 << 32]),
                ("r/d", [0, 0, u64::MAX]),
                ("r/e", [0, 0, 0]),
                ("r/f", [2, 0, 8]),
                ("r/g", [1, 0, 8]),
            ] {
                f.with_map(path, b"eight by", map(&numbers));
            }
        },
        &["r/a", "r/b", "r/c", "r/d", "r/e", "r/f", "r/g"],
    ),
    (
        "sizes that the map does not have",
        |f, _| {
            f.file("r/a", b"evil").size = u64::MAX;
            f.file("r/b", b"evil").size = 0;
            f.file("r/c", b"evil").size = 1 << 40;
            let hole = f.entry("r/d", plain_entry(Kind::File, 0o644));
            (hole.size, hole.flags) = (u64::MAX, repo::flag::SPARSE);
        },
        &["r/a", "r/b", "r/c", "r/d"],
    ),
    (
        "hashes of something else",
        |f, _| {
            f.file("r/a", b"evil").hash = *blake3::hash(b"good").as_bytes();
            f.mapped("r/b", b"", &[]).hash = [1; 32];
        },
        &["r/a", "r/b"],
    ),
    (
        "overlapping extents are only bytes",
        |f, _| {
            let block = f.data(b"abcabc");
            f.mapped("r/a", b"abcabcbcab", &[extent(block, 0, 6), extent(block, 1, 4)]);
        },
        &[],
    ),
    (
        "a block that lies nowhere, and one of another type",
        |f, _| {
            f.mapped("r/a", b"four", &[extent(BlockId([3; 32]), 0, 4)]);
            let map = f.block(BlockKind::Map, b"four");
            f.mapped("r/b", b"four", &[extent(map, 0, 4)]);
            // what is a map to one file is content to another: the bytes are what the hash says
        },
        &["r/a"],
    ),
    (
        "maps and patches that do not fit",
        |f, _| {
            let data = f.data(b"eight by");
            let base = f.block(BlockKind::Map, &encode_extents(&[extent(data, 0, 8)]));
            let junk = f.block(BlockKind::Map, b"no extents");
            let patch = |f: &mut Forger<'_>, head: &[u64]| {
                let fill = encode_extents(&[extent(data, 0, 4)]);
                f.block(BlockKind::Patch, &[varints(head), fill].concat())
            };
            let layered = |base, patches: Vec<BlockId>| Map {
                base: Some(base),
                patches: Some(patches),
                ..Map::default()
            };
            let past = patch(f, &[12, 1, 9, 4]);
            let left_over = patch(f, &[8, 1, 0, 3]);
            let huge = patch(f, &[u64::MAX, 1, 0, 4]);
            let endless = patch(f, &[8, u64::MAX]);
            let overflow = patch(f, &[8, 2, u64::MAX, 4, u64::MAX, 4]);
            for (path, patch) in ["r/a", "r/b", "r/c", "r/d", "r/e"]
                .into_iter()
                .zip([past, left_over, huge, endless, overflow])
            {
                f.with_map(path, b"eight by", layered(base, vec![patch]));
            }
            f.with_map("r/f", b"eight by", layered(junk, vec![]));
            f.with_map("r/g", b"eight by", layered(base, vec![base]));
            f.with_map("r/h", b"eight by", layered(base, vec![past; 33]));
            f.with_map("r/i", b"eight by", layered(BlockId([4; 32]), vec![]));
        },
        &["r/a", "r/b", "r/c", "r/d", "r/e", "r/f", "r/g", "r/h", "r/i"],
    ),
    (
        "devices, sockets, and links without a target",
        |f, _| {
            f.entry("r/a", plain_entry(Kind::Device, 0o666));
            f.entry("r/b", plain_entry(Kind::Socket, 0o666));
            f.entry("r/c", plain_entry(Kind::Symlink, 0o777));
            f.symlink("r/d", "a\0b");
        },
        &["r/c", "r/d"],
    ),
    (
        "all mode bits there are",
        |f, _| {
            f.file("r/a", b"a program").mode = u32::MAX;
            f.dir("r/b").mode = u32::MAX;
        },
        &[],
    ),
    (
        "names that drive a terminal",
        |f, _| {
            let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\r\n\u{9b}31m";
            f.file(format!("r/{evil}"), b"evil").hash = [1; 32];
            f.symlink(&format!("r/l{evil}"), evil);
            f.hard_link(&format!("r/z{evil}"), evil);
            let attr = Xattr { name: evil.into(), value: evil.into() };
            let user = Xattr { name: format!("user.{evil}\0").into(), value: vec![] };
            f.file("r/attributes", b"a").xattrs = Some(vec![attr, user]);
        },
        &[
            "r/\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\r\n\u{9b}31m",
            "r/z\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\r\n\u{9b}31m",
        ],
    ),
];

#[test]
fn a_bad_entry_is_named_and_the_honest_ones_come_back() {
    for (told, build, expected) in CASES {
        let refused = Ground::new().refused(told, build);
        let expected: Vec<_> = expected.iter().map(|path| path.as_bytes().to_vec()).collect();
        assert_eq!(refused, expected, "{told}");
    }
}

#[test]
fn times_at_the_ends_of_numbers_cost_no_content() {
    let ground = Ground::new();
    let refused = ground.refused("times", &|f, _| {
        for (n, secs) in [i64::MIN, i64::MIN + 1, -1, i64::MAX - 1, i64::MAX].iter().enumerate() {
            f.file(format!("r/{n}"), b"old or new").mtime_secs = *secs;
            f.dir(format!("r/d{n}")).mtime_secs = *secs;
            f.symlink(&format!("r/l{n}"), "0").mtime_secs = *secs;
        }
        f.file("r/nanos", b"old or new").mtime_nanos = u32::MAX;
    });
    assert!(refused.is_empty(), "{refused:?}");
    for name in ["0", "1", "2", "3", "4", "nanos"] {
        assert_eq!(fs::read(ground.target.join("r").join(name)).unwrap(), b"old or new");
    }
}

/// Commits a tree of one leaf with a hostile path in it and pulls; what the pull says.
fn refusal(entries: impl FnOnce(&mut Forger<'_>)) -> String {
    let ground = Ground::new();
    let session = ground.bench.init();
    let mut forger = Forger::new(&session);
    entries(&mut forger);
    let node = leaf(&std::mem::take(&mut forger.entries));
    whole_refusal(&ground, &session, &forger.commit_node(&node))
}

/// A pull that must fail as a whole, and write nothing.
fn whole_refusal(ground: &Ground, session: &Session, snapshot: &Snapshot) -> String {
    let error = ground.pull(session, snapshot, Overwrite::Always).unwrap_err();
    let corrupt = matches!(error, engine::pull::Error::Repo(repo::Error::Corrupt { .. }));
    let text = error.to_string();
    assert!(corrupt && is_tame(&text) && text.contains("block "), "{text:?}");
    assert!(!ground.target.exists(), "nothing is written of a tree that is none: {text}");
    text
}

#[test]
fn s2_no_path_of_a_snapshot_leads_out_of_the_target() {
    let names: &[&[u8]] = &[
        b"..",
        b"../outside/sentinel",
        b"/etc/passwd",
        b"r/../../outside/sentinel",
        b"r/..",
        b"r/.",
        b"",
        b"/",
        b"r//a",
        b"r/a/",
        b"./r",
        b"r/a\0b",
        b"\0",
        b"r/./a",
    ];
    for name in names {
        // first, so that the order of paths is not what is wrong with it
        refusal(|f| {
            f.entries.truncate(1);
            let file = plain_entry(Kind::File, 0o644);
            let at = usize::from(*name > &b"r"[..]);
            f.entries.insert(at, (name.to_vec(), file));
        });
    }
    let long = [b"r/".to_vec(), vec![b'x'; 40_000]].concat();
    refusal(|f| _ = f.file(long, b"evil"));
}

#[test]
fn names_that_come_twice_or_out_of_order_make_no_tree() {
    refusal(|f| {
        f.file("r/~zz", b"first");
        f.file("r/~zz", b"second");
    });
    refusal(|f| {
        f.file("r/~zz", b"a file");
        f.dir("r/~zz");
    });
    refusal(|f| {
        f.symlink("r/~zz", "/");
        f.dir("r/~zz");
        f.file("r/~zz/a", b"evil");
    });
    refusal(|f| _ = f.file("r/a", b"after ~honest"));
}

#[test]
fn trees_that_repeat_nodes_or_go_round_make_no_tree() {
    let ground = Ground::new();
    let session = ground.bench.init();
    let dir = |path: &str| (path.as_bytes().to_vec(), plain_entry(Kind::Dir, 0o755));
    // one node many times, at every level: 1000^7 entries in a few KB
    let mut forger = Forger::new(&session);
    let mut child = forger.block(BlockKind::Node, &leaf(&[dir("r")]));
    for level in 1..8 {
        let names: Vec<String> = (0..1000).map(|n| format!("r{n:04}")).collect();
        let mut items: Vec<(&str, BlockId)> = names.iter().map(|n| (n.as_str(), child)).collect();
        items[0].0 = "r";
        child = forger.block(BlockKind::Node, &inner(level, &items));
    }
    whole_refusal(&ground, &session, &forger.commit_tree(child, |_| {}));
    // levels that skip, rise or are too many
    for levels in [&[2_u8][..], &[1, 1], &[1, 3], &[1, 2, 3, 4, 5, 6, 7, 8], &[255]] {
        let mut forger = Forger::new(&session);
        let mut child = forger.block(BlockKind::Node, &leaf(&[dir("r")]));
        for level in levels {
            child = forger.block(BlockKind::Node, &inner(*level, &[("r", child)]));
        }
        whole_refusal(&ground, &session, &forger.commit_tree(child, |_| {}));
    }
    // a root that is a file's content, a map, or junk
    for kind in [BlockKind::Data, BlockKind::Map, BlockKind::Node] {
        let mut forger = Forger::new(&session);
        let id = forger.block(kind, b"no node at all");
        whole_refusal(&ground, &session, &forger.commit_tree(id, |_| {}));
    }
    // claims of more items than there are bytes
    for count in [5, 1025, 1 << 20, 1 << 60, u64::MAX] {
        for level in [0, 1] {
            let node = [&[1, level][..], &varints(&[count])].concat();
            whole_refusal(&ground, &session, &Forger::new(&session).commit_node(&node));
        }
    }
}

#[test]
fn an_entry_larger_than_any_writer_makes_is_no_entry() {
    let fits = |bytes: usize| {
        let ground = Ground::new();
        let session = ground.bench.init();
        let mut forger = Forger::new(&session);
        let attr = Xattr { name: b"user.large".to_vec(), value: vec![0; bytes] };
        forger.file("r/large", b"content").xattrs = Some(vec![attr]);
        let snapshot = forger.commit();
        ground.pull(&session, &snapshot, Overwrite::Always).map(|report| {
            // the system takes no attribute of that size: that is told, and the rest is restored
            assert!(report.is_complete() && !report.notices.is_empty(), "{report:?}");
            assert_eq!(fs::read(ground.target.join("r/large")).unwrap(), b"content");
        })
    };
    assert!(fits(1_000_000).is_ok());
    assert!(fits(1 << 20).is_err(), "an entry has at most 1 MiB");
    assert!(fits(5 << 20).is_err());
}

#[test]
fn a_snapshot_that_names_others_and_odd_times_is_only_a_snapshot() {
    let ground = Ground::new();
    let session = ground.bench.init();
    let own = *session.machine_id();
    let evil = "\u{1b}[2Jhost\u{202e}";
    for (n, (started, finished)) in
        [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, 0)].into_iter().enumerate()
    {
        let mut forger = Forger::new(&session);
        forger.entries.sort_by(|a, b| path_order(&a.0, &b.0));
        let root = leaf(&std::mem::take(&mut forger.entries));
        let tree = forger.block(BlockKind::Node, &root);
        let made = forger.commit_tree(tree, |snapshot| {
            (snapshot.started_nanos, snapshot.finished_nanos) = (started, finished);
            (snapshot.machine, snapshot.counter) = (own, u64::MAX);
            (snapshot.previous, snapshot.previous_hash) = (Some(snapshot.id), Some([0; 32]));
            snapshot.host = evil.into();
            snapshot.roots[0].label = "../../outside".into();
            snapshot.roots[0].agent = Some(evil.into());
            snapshot.roots[0].dir = b"/etc\0".to_vec();
        });
        assert_eq!(session.snapshots().unwrap().len(), n + 1);
        assert_eq!(session.snapshot(&made.id).unwrap(), made);
        let report = ground.pull(&session, &made, Overwrite::Always).unwrap();
        assert!(report.is_complete(), "{report:?}");
        let error = view::entry(&session, &made, evil.as_bytes()).unwrap_err();
        assert!(is_tame(error.to_string()), "{error}");
    }
    // another machine's counter is none of ours: a push goes on counting its own
    fs::create_dir_all(ground.bench.source()).unwrap();
    fs::write(ground.bench.source().join("a"), b"mine").unwrap();
    let pushed = ground.bench.push(&session).unwrap();
    assert_eq!(pushed.snapshot().counter, 1);
}

/// Peak memory of this process in MiB.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// Runs a pull of a forged tree; MiB by which the peak grew.
fn growth(told: &str, build: &dyn Fn(&mut Forger<'_>), expected: &[&str]) -> u64 {
    let ground = Ground::new();
    let session = ground.bench.init();
    let mut forger = Forger::new(&session);
    build(&mut forger);
    let snapshot = forger.commit();
    let before = peak_mib();
    let report = ground.pull(&session, &snapshot, Overwrite::Always).unwrap();
    let grown = peak_mib() - before;
    let refused: Vec<_> =
        report.problems.iter().map(|p| String::from_utf8_lossy(&p.path).into_owned()).collect();
    assert_eq!(refused, expected, "{told}");
    assert_eq!(fs::read(ground.target.join("r/~honest")).unwrap(), HONEST, "{told}");
    grown
}

/// A block of zeros with a number in front.
fn zeros(forger: &mut Forger<'_>, n: u32) -> BlockId {
    let mut plain = vec![0; BLOCK_BYTES_MAX];
    plain[..4].copy_from_slice(&n.to_le_bytes());
    forger.data(&plain)
}

#[test]
fn little_stored_never_becomes_much_memory() {
    let last = u32::try_from(BLOCK_BYTES_MAX - 1).unwrap();
    // 60 blocks that unfold to 8 MiB each, a byte of each in one file
    let bombs = growth(
        "many blocks for one file",
        &|f| {
            let extents: Vec<Extent> = (0..60).map(|n| extent(zeros(f, n), last, 1)).collect();
            let base = f.block(BlockKind::Map, &encode_extents(&extents));
            f.with_map("r/a", &[0; 60], Map { base: Some(base), ..Map::default() });
        },
        &[],
    );
    // the same for many files at once
    let spread = growth(
        "many files of one block each",
        &|f| {
            for n in 0..60 {
                let block = zeros(f, n);
                f.mapped(format!("r/f{n:03}"), &[0], &[extent(block, last, 1)]);
            }
        },
        &[],
    );
    // a map as large as a block can hold, for a file that says it is small
    let maps = growth(
        "a large map for a small file",
        &|f| {
            let block = f.data(b"ab");
            let ids = [&varints(&[1])[..], &block.0].concat();
            let count = (BLOCK_BYTES_MAX - 64) / 3;
            let extents = [0, 0, 1].repeat(count);
            let map = [ids, varints(&[count as u64]), extents].concat();
            let base = f.block(BlockKind::Map, &map);
            for n in 0..4 {
                f.with_map(format!("r/m{n}"), b"a", Map { base: Some(base), ..Map::default() });
            }
        },
        &["r/m0", "r/m1", "r/m2", "r/m3"],
    );
    // patches that each add as much again, of the same few stored bytes
    let patches = growth(
        "a map that its patches unfold",
        &|f| {
            let block = f.data(b"ab");
            let ids = [&varints(&[1])[..], &block.0].concat();
            let count = (BLOCK_BYTES_MAX - 64) as u64 / 3;
            let extents = [0, 0, 1].repeat(usize::try_from(count).unwrap());
            let fill = [ids, varints(&[count]), extents].concat();
            let base = f.block(BlockKind::Map, &fill);
            let patches = (1..12).map(|n| {
                let head = varints(&[(n + 1) * count, 1, n * count, count]);
                f.block(BlockKind::Patch, &[&head[..], &fill].concat())
            });
            let map = Map { base: Some(base), patches: Some(patches.collect()), ..Map::default() };
            f.with_map("r/p", b"a", map);
        },
        &["r/p"],
    );
    println!("peak grew by {bombs}, {spread}, {maps}, {patches} MiB");
    assert!(bombs < 200 && spread < 200, "{bombs}, {spread} MiB");
    assert!(maps < 300 && patches < 600, "{maps}, {patches} MiB");
}
