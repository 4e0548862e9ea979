//! Snapshots that no honest program writes, and targets that somebody prepared: nothing outside the
//! target changes, nothing wrong gets a name, and honest entries beside them are restored.

use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use super::*;

/// Pulls `m` with an honest file in front of and behind whatever else is in it, in some
/// overwrite modes, twice; returns the paths that were refused.
#[track_caller]
fn pull_beside_honest(
    name: &str,
    modes: &[Overwrite],
    build: &dyn Fn(&mut Memory, &Ground),
) -> Vec<Vec<u8>> {
    let mut refused = Vec::new();
    for overwrite in modes.iter().copied() {
        let g = Ground::new();
        let mut m = Memory { unsorted: true, ..Memory::default() };
        m.dir("r");
        m.file("r/!honest", b"honest");
        build(&mut m, &g);
        m.file("r/~honest", b"honest too");
        let options = Options { delete: true, verify: true, ..g.with(overwrite) };
        let report = run(&m, &options).unwrap();
        assert_eq!(g.read("r/!honest"), b"honest", "{name}");
        assert_eq!(g.read("r/~honest"), b"honest too", "{name}");
        g.check();
        let around = fs::read_dir(g.target.parent().unwrap()).unwrap().count();
        assert_eq!(around, 2, "{name}: something appeared beside the target");
        // And once more over what is there now.
        let again = run(&m, &options).unwrap();
        assert_eq!(problems(&again), problems(&report), "{name}");
        g.check();
        refused = report.problems.into_iter().map(|problem| problem.path).collect();
    }
    refused
}

#[test]
fn names_that_mean_another_place_are_refused_one_by_one() {
    let long = format!("r/{}", "n".repeat(256));
    let deep = "r/".to_owned() + &"d/".repeat(5000) + "f";
    let names: Vec<&str> = vec![
        "",
        "/",
        "//",
        ".",
        "..",
        "/etc/passwd",
        "/r/x",
        "//r/x",
        "./r/x",
        "../x",
        "../outside/x",
        "r/",
        "r//x",
        "r/x/",
        "r/.",
        "r/./x",
        "r/..",
        "r/../x",
        "r/../../x",
        "r/x/..",
        "r/x/../../../outside/sentinel",
        "../../../../../../../../tmp/x",
        "r/a\0b",
        "\0",
        "r/\0",
        "r/..\0",
        "r/../outside/dir/x",
        "../target/../outside/y",
        "r/x//../y",
        &long,
        &deep,
    ];
    let kinds: [(&str, Make); 4] = [
        ("file", |m, path| _ = m.file(path, b"evil")),
        ("directory", |m, path| _ = m.dir(path)),
        ("symlink", |m, path| _ = m.symlink(path, "/etc/passwd")),
        ("fifo", |m, path| _ = m.entry(path, entry(Kind::Fifo, 0o666))),
    ];
    let mut cases = 0;
    for (kind, make) in kinds {
        for name in &names {
            let told = format!("{kind} {name:?}");
            let refused = pull_beside_honest(&told, &[Overwrite::Always], &|m, _| make(m, name));
            assert_eq!(refused, [name.as_bytes()], "{told}");
            cases += 1;
        }
    }
    assert!(cases >= 60, "{cases}");
}

/// Makes an entry of some kind at a path.
type Make = fn(&mut Memory, &str);

/// A case: what it is, how it is built, which paths are refused.
type Case = (&'static str, fn(&mut Memory, &Ground), &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "a file below a link",
        |m, g| {
            m.symlink("r/a", g.outside.to_str().unwrap());
            m.file("r/a/b", b"evil");
        },
        &["r/a/b"],
    ),
    (
        "a tree below a link",
        |m, g| {
            m.symlink("r/a", g.outside.to_str().unwrap());
            m.dir("r/a/dir");
            m.file("r/a/dir/x", b"evil");
            m.symlink("r/a/dir/y", "/");
        },
        &["r/a/dir", "r/a/dir/x", "r/a/dir/y"],
    ),
    (
        "a relative link upwards",
        |m, _| {
            m.symlink("r/up", "../../outside");
            m.file("r/up/sentinel", b"evil");
        },
        &["r/up/sentinel"],
    ),
    (
        "a link and a directory of one name, link first",
        |m, g| {
            m.symlink("r/a", g.outside.to_str().unwrap());
            m.dir("r/a");
            m.file("r/a/sentinel", b"evil");
        },
        &["r/a", "r/a/sentinel"],
    ),
    (
        "a link and a directory of one name, directory first",
        |m, g| {
            m.dir("r/a");
            m.symlink("r/a", g.outside.to_str().unwrap());
            m.file("r/a/sentinel", b"evil");
        },
        &["r/a"],
    ),
    (
        "a link after what is below it",
        |m, g| {
            m.dir("r/a");
            m.file("r/a/sentinel", b"evil");
            m.symlink("r/a", g.outside.to_str().unwrap());
        },
        &["r/a"],
    ),
    (
        "two files of one name",
        |m, _| {
            m.file("r/a", b"first");
            m.file("r/a", b"second");
        },
        &["r/a"],
    ),
    (
        "three of one name, and a twin with a NUL between them",
        |m, _| {
            m.dir("r/a");
            m.file("r/a/b", b"1");
            m.file("r/a\0b", b"2");
            m.file("r/a/b", b"3");
            m.file("r/a/c", b"4");
        },
        &["r/a\0b", "r/a/b"],
    ),
    (
        "a file below a file",
        |m, _| {
            m.file("r/a", b"file");
            m.file("r/a/b", b"evil");
            m.file("r/a/b/c", b"evil");
        },
        &["r/a/b", "r/a/b/c"],
    ),
    (
        "a file below a FIFO",
        |m, _| {
            m.entry("r/a", entry(Kind::Fifo, 0o600));
            m.file("r/a/b", b"evil");
        },
        &["r/a/b"],
    ),
    (
        "a file below a device",
        |m, _| {
            m.entry("r/a", entry(Kind::Device, 0o600));
            m.file("r/a/b", b"evil");
        },
        &["r/a/b"],
    ),
    (
        "a hard link to the outside, absolute",
        |m, g| {
            let sentinel = g.outside.join("sentinel");
            m.hard_link("r/h", sentinel.to_str().unwrap());
        },
        &["r/h"],
    ),
    (
        "a hard link to the outside, relative",
        |m, _| {
            m.hard_link("r/h", "../outside/sentinel");
        },
        &["r/h"],
    ),
    (
        "a hard link out of the root",
        |m, _| {
            m.hard_link("r/h", "r/../../outside/sentinel");
        },
        &["r/h"],
    ),
    ("a hard link to nothing", |m, _| _ = m.hard_link("r/h", "r/nothing"), &["r/h"]),
    ("a hard link to an empty path", |m, _| _ = m.hard_link("r/h", ""), &["r/h"]),
    ("a hard link to itself", |m, _| _ = m.hard_link("r/h", "r/h"), &["r/h"]),
    ("a hard link to a later file", |m, _| _ = m.hard_link("r/h", "r/~honest"), &["r/h"]),
    (
        "a hard link to a directory",
        |m, _| {
            m.dir("r/d");
            m.hard_link("r/h", "r/d");
        },
        &["r/h"],
    ),
    (
        "a hard link to a symbolic link",
        |m, g| {
            m.symlink("r/a", g.outside.join("sentinel").to_str().unwrap());
            m.hard_link("r/h", "r/a");
        },
        &["r/h"],
    ),
    (
        "a hard link to a hard link",
        |m, _| {
            m.hard_link("r/a", "r/!honest");
            m.hard_link("r/h", "r/a");
        },
        &["r/h"],
    ),
    (
        "a hard link through a link",
        |m, g| {
            m.symlink("r/a", g.outside.to_str().unwrap());
            m.hard_link("r/h", "r/a/sentinel");
        },
        &["r/h"],
    ),
    (
        "a hard link that is a directory",
        |m, _| {
            m.dir("r/h").link = Some(b"r/!honest".to_vec());
        },
        &["r/h"],
    ),
    (
        "a hard link to a file with a refused name",
        |m, _| {
            m.file("r/../x", b"evil");
            m.hard_link("r/h", "r/../x");
        },
        &["r/../x", "r/h"],
    ),
    ("a link without a target", |m, _| _ = m.entry("r/l", entry(Kind::Symlink, 0o777)), &["r/l"]),
    ("a link with an empty target", |m, _| _ = m.symlink("r/l", ""), &["r/l"]),
    ("a link with a NUL in its target", |m, _| _ = m.symlink("r/l", "a\0b"), &["r/l"]),
    ("a link with a target too long", |m, _| _ = m.symlink("r/l", &"x".repeat(5000)), &["r/l"]),
    ("a size that the map does not have", |m, _| m.file("r/f", b"evil").size = u64::MAX, &["r/f"]),
    ("a size smaller than the map", |m, _| m.file("r/f", b"evil").size = 1, &["r/f"]),
    ("a size of zero over content", |m, _| m.file("r/f", b"evil").size = 0, &["r/f"]),
    ("a hash of something else", |m, _| m.file("r/f", b"evil").hash = [9; 32], &["r/f"]),
    ("an empty file with a wrong hash", |m, _| m.file("r/f", b"").hash = [9; 32], &["r/f"]),
    (
        "a map that cannot be read",
        |m, _| m.file("r/f", b"x").map.inline = b"none".to_vec(),
        &["r/f"],
    ),
    (
        "an extent behind the end of its block",
        |m, _| {
            let block = m.block(b"four");
            m.mapped("r/f", b"four", vec![Extent { block, offset: 2, len: 4, pages: false }]);
        },
        &["r/f"],
    ),
    (
        "an extent at the end of numbers",
        |m, _| {
            let block = m.block(b"four");
            m.mapped(
                "r/f",
                b"four",
                vec![Extent { block, offset: u32::MAX, len: 4, pages: false }],
            );
        },
        &["r/f"],
    ),
    (
        "a block that is nowhere",
        |m, _| {
            let block = BlockId([3; 32]);
            m.mapped("r/f", b"four", vec![Extent { block, offset: 0, len: 4, pages: false }]);
        },
        &["r/f"],
    ),
    (
        "a block that says it is huge",
        |m, _| {
            let block = m.block(b"four");
            m.blocks.get_mut(&block).unwrap().0.plain_len = u32::MAX;
            m.mapped("r/f", b"four", vec![Extent { block, offset: 0, len: 4, pages: false }]);
        },
        &["r/f"],
    ),
    (
        "times that mean now, or none",
        |m, _| {
            m.file("r/f", b"f").mtime_nanos = (1 << 30) - 1;
            m.file("r/g", b"f").mtime_nanos = (1 << 30) - 2;
            m.file("r/h", b"f").mtime_nanos = u32::MAX;
            m.symlink("r/l", "f").mtime_nanos = u32::MAX;
        },
        &[],
    ),
    (
        "attributes with odd names",
        |m, _| {
            let attr = |name: &[u8]| repo::Xattr { name: name.to_vec(), value: vec![1; 100_000] };
            m.file("r/f", b"f").xattrs =
                Some(vec![attr(b""), attr(b"user.a\0b"), attr(b"user.big")]);
        },
        &[],
    ),
    (
        "a name that a pull uses itself",
        |m, _| {
            m.file("r/.agent-backup-tmp-0123456789abcdef", b"f");
        },
        &[],
    ),
    (
        "everything in the wrong order",
        |m, _| {
            m.file("r/z/y/x", b"1");
            m.dir("r/z/y");
            m.file("r/b", b"2");
            m.dir("r/z");
            m.file("a-file-beside-the-root", b"3");
        },
        &[],
    ),
    (
        "a file without any directory above it",
        |m, _| {
            m.file("r/not/in/the/tree", b"1");
        },
        &[],
    ),
    (
        "a path over the length that one call can take",
        |m, _| {
            let mut path = "r".to_owned();
            for _ in 0..50 {
                path.push('/');
                path.push_str(&"p".repeat(200));
                m.dir(&path);
            }
            m.file(&(path + "/f"), b"deep");
        },
        &[],
    ),
];

#[test]
fn entries_that_trick_are_refused_one_by_one() {
    for (name, build, expect) in CASES {
        let modes = [Overwrite::IfChanged, Overwrite::Always, Overwrite::IfNewer];
        let mut refused = pull_beside_honest(name, &modes, build);
        refused.sort();
        let expect: Vec<_> = expect.iter().map(|path| path.as_bytes().to_vec()).collect();
        assert_eq!(refused, expect, "{name}");
    }
}

#[test]
fn a_root_that_is_a_link_in_the_snapshot_leads_nowhere() {
    let g = Ground::new();
    let mut m = Memory::default();
    m.symlink("r", g.outside.to_str().unwrap());
    m.file("r/sentinel", b"evil");
    m.file("r/dir/x", b"evil");
    let report = run(&m, &Options { delete: true, ..g.with(Overwrite::Always) }).unwrap();
    assert_eq!(problems(&report), ["r/dir/x", "r/sentinel"]);
    g.check();
    // Again, now that the link is there.
    run(&m, &Options { delete: true, ..g.with(Overwrite::Always) }).unwrap();
    g.check();
}

#[test]
fn a_target_full_of_planted_links_stays_a_cage() {
    let mut m = Memory::default();
    m.dir("r").mode = 0o700;
    m.dir("r/dir").mode = 0o711;
    m.file("r/dir/x", b"restored");
    m.dir("r/dir/sub");
    m.file("r/dir/sub/y", b"restored");
    m.file("r/file", b"restored");
    m.symlink("r/link", "restored");
    m.entry("r/pipe", entry(Kind::Fifo, 0o600));
    m.hard_link("r/z-hard", "r/file");
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never]
    {
        for delete in [false, true] {
            let g = Ground::new();
            let plant = |goal: &str, at: &str| symlink(g.outside.join(goal), g.path(at)).unwrap();
            fs::create_dir_all(g.path("r")).unwrap();
            plant("dir", "r/dir");
            for at in ["r/file", "r/link", "r/pipe", "r/z-hard", "r/surplus"] {
                plant("sentinel", at);
            }
            plant("dir", "r/surplus-dir");
            plant("sentinel", "r/.agent-backup-tmp-0123456789abcdef");
            let report = run(&m, &Options { delete, ..g.with(overwrite) }).unwrap();
            g.check();
            let there = shapes(&g.target);
            if overwrite == Overwrite::Always {
                assert!(report.is_complete(), "{:?}", report.problems);
                assert_eq!(there["r/dir"].kind, 'd');
                assert_eq!(there["r/dir/sub/y"].content, b"restored");
            } else {
                assert_eq!(there["r/dir"].kind, 'l', "left as it was, and said so");
                assert!(problems(&report).contains(&"r/dir/x".to_owned()));
            }
            if matches!(overwrite, Overwrite::Always | Overwrite::IfChanged) {
                assert_eq!(there["r/file"].content, b"restored");
                assert_eq!(there["r/file"].nlink, 2);
                assert_eq!(there["r/pipe"].kind, 'p');
            }
            assert_eq!(there.contains_key("r/surplus"), !delete);
        }
    }
}

#[test]
fn a_root_directory_that_is_a_planted_link_is_not_entered() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/sentinel", b"evil");
    let g = Ground::new();
    fs::create_dir(&g.target).unwrap();
    symlink(&g.outside, g.path("r")).unwrap();
    let report = run(&m, &Options { delete: true, ..g.options() }).unwrap();
    assert_eq!(problems(&report), ["r", "r/sentinel"]);
    g.check();
}

#[test]
fn a_planted_hard_link_does_not_carry_a_mode_outside() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/f", b"untouched").mode = 0o600; // the very bytes of the sentinel
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    fs::hard_link(g.outside.join("sentinel"), g.path("r/f")).unwrap();
    let runs = || m.runs.lock().unwrap().len();
    let report = restore(&m, &g.options());
    assert_eq!((report.replaced, report.metadata, runs()), (1, 1, 0), "1: the directory's time");
    assert_eq!(shapes(&g.target)["r/f"].mode, 0o600);
    g.check();
}

#[test]
fn names_that_differ_only_in_case_are_refused_where_they_would_be_one() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/Name", b"1");
    m.file("r/name", b"2");
    let g = Ground::new();
    let report = run(&m, &Options { fold_case: true, ..g.options() }).unwrap();
    assert_eq!(problems(&report), ["r/name"]);
    assert_eq!(g.read("r/Name"), b"1");
}

#[test]
fn a_directory_swapped_for_a_link_while_the_pull_runs_never_leads_outside() {
    let mut m = Memory::default();
    m.dir("r");
    m.dir("r/d");
    m.symlink("r/d/link", "goal");
    m.dir("r/d/sub");
    for n in 0..60u64 {
        m.file(&format!("r/d/{n:02}"), &noise(n, 2000));
        m.file(&format!("r/d/sub/{n:02}"), &noise(n, 500));
    }
    let g = Ground::new();
    fs::create_dir_all(g.path("r/d/sub")).unwrap();
    let bait = g.path("r/bait");
    symlink(&g.outside, &bait).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            let root = fs::File::open(g.path("r")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                // The pull may have removed or replaced either; then there is nothing to swap.
                let _ = rustix::fs::renameat_with(&root, "d", &root, "bait", exchange);
            }
        });
        for round in 0..40 {
            let overwrite = if round % 2 == 0 { Overwrite::IfChanged } else { Overwrite::Always };
            let keep = vec!["bait".to_owned()];
            let options = Options { keep, delete: true, ..g.with(overwrite) };
            // Whatever it says: it must not leave the cage.
            let _ = run(&m, &options);
            let _ = fs::remove_file(g.path("r/d/00"));
            if fs::symlink_metadata(&bait).is_err() {
                let _ = symlink(&g.outside, &bait);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // `remove_file` above follows the swap on purpose; it can hit nothing outside named so.
    assert_eq!(shapes(&g.outside), g.sentinels, "the outside was touched");
}
