//! What an honest snapshot becomes, in an empty target and in one that holds something.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use rustix::fs::XattrFlags;

use super::*;

fn sample() -> Memory {
    let mut m = Memory::default();
    m.dir("r").mode = 0o750;
    m.dir("r/empty").mode = 0o711;
    m.dir("r/locked").mode = 0o500;
    m.file("r/locked/inside", b"read-only directory");
    m.file("r/a.txt", b"hello");
    m.file("r/none", b"").mode = 0o400;
    m.file("r/big", &noise(1, 9 << 20)).mode = 0o600;
    m.symlink("r/link", "a.txt");
    m.symlink("r/dangling", "/nowhere/at/all");
    m.hard_link("r/z-again", "r/a.txt");
    m.entry("r/pipe", entry(Kind::Fifo, 0o640));
    m.file("r/odd \n\u{202e}name", b"odd");
    m.entry("r/sock", entry(Kind::Socket, 0o600));
    m.entry("r/dev", entry(Kind::Device, 0o600));
    m
}

#[test]
fn every_kind_comes_back_with_mode_and_time() {
    let g = Ground::new();
    let report = restore(&sample(), &g.options());
    g.check();
    let there = shapes(&g.target);
    let shape = |name: &str| there.get(name).unwrap_or_else(|| panic!("{name} is not there"));
    let expect = [
        ("r", 'd', 0o750, 0),
        ("r/empty", 'd', 0o711, 0),
        ("r/locked", 'd', 0o500, 0),
        ("r/locked/inside", 'f', 0o644, 1),
        ("r/a.txt", 'f', 0o644, 2),
        ("r/z-again", 'f', 0o644, 2),
        ("r/none", 'f', 0o400, 1),
        ("r/big", 'f', 0o600, 1),
        ("r/link", 'l', 0o777, 1),
        ("r/dangling", 'l', 0o777, 1),
        ("r/pipe", 'p', 0o640, 1),
        ("r/odd \n\u{202e}name", 'f', 0o644, 1),
    ];
    for (name, kind, mode, nlink) in expect {
        let s = shape(name);
        assert_eq!((s.kind, s.mode, s.nlink), (kind, mode, nlink), "{name}");
        assert_eq!(s.mtime, (SECS, NANOS.into()), "{name}");
    }
    assert_eq!(there.len(), expect.len() + 1, "nothing else is there");
    assert_eq!(shape("r/a.txt").content, b"hello");
    assert_eq!(shape("r/big").content, noise(1, 9 << 20));
    assert_eq!(shape("r/link").content, b"a.txt");
    assert_eq!(report.skipped.len(), 2, "socket and device: {:?}", report.skipped);
    assert_eq!(report.created, 12);
    assert_eq!(report.bytes_written, 5 + 19 + 3 + (9 << 20));
}

#[test]
fn a_second_pull_finds_everything_right_and_reads_nothing() {
    let g = Ground::new();
    let m = sample();
    restore(&m, &g.options());
    let before = shapes(&g.target);
    let runs = m.runs.lock().unwrap().len();
    for overwrite in [Overwrite::IfChanged, Overwrite::Always] {
        let report = restore(&m, &g.with(overwrite));
        assert_eq!((report.created, report.replaced, report.metadata, report.left), (0, 0, 0, 12));
        assert_eq!(report.bytes_written, 0);
    }
    assert_eq!(m.runs.lock().unwrap().len(), runs);
    assert_eq!(shapes(&g.target), before);
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let g = Ground::new();
    let m = sample();
    let first = plan(&m, &g.options());
    assert!(!g.target.exists(), "not even the target");
    assert_eq!((first.totals.create, first.totals.skip), (12, 2));
    assert_eq!(first.totals.bytes, 5 + 19 + 3 + (9 << 20));
    let lines: Vec<String> = first.items.iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"create   r/a.txt (5 bytes)".to_owned()), "{lines:?}");
    assert!(lines.contains(&"create   r/odd \\n\\u{202e}name (3 bytes)".to_owned()), "{lines:?}");
    restore(&m, &g.options());
    fs::write(g.path("r/a.txt"), "HELLO").unwrap();
    let before = shapes(&g.target);
    let second = plan(&m, &Options { delete: true, ..g.options() });
    assert_eq!(second.totals.replace, 2, "the file and its other name");
    assert_eq!(shapes(&g.target), before);
    assert_eq!(
        m.runs.lock().unwrap().iter().flatten().count(),
        m.blocks.len(),
        "plans read no block"
    );
}

#[test]
fn attributes_come_back() {
    let g = Ground::new();
    fs::create_dir(&g.target).unwrap();
    let probe = fs::File::open(&g.target).unwrap();
    if rustix::fs::fsetxattr(&probe, "user.probe", b"1", XattrFlags::empty()).is_err() {
        return; // this file system has none
    }
    let mut m = Memory::default();
    let attr = |name: &str, value: &[u8]| repo::Xattr { name: name.into(), value: value.to_vec() };
    m.dir("r").xattrs = Some(vec![attr("user.dir", b"d")]);
    m.file("r/f", b"f").xattrs = Some(vec![attr("user.a", b"1"), attr("user.b", b"\0\xff")]);
    m.file("r/evil", b"f").xattrs = Some(vec![attr(
        "security.capability",
        b"\x01\0\0\x02\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0",
    )]);
    restore(&m, &g.options());
    let get = |path: &str, name: &str| xattr::get(g.path(path), name).unwrap();
    assert_eq!(get("r", "user.dir").unwrap(), b"d");
    assert_eq!(get("r/f", "user.b").unwrap(), b"\0\xff");
    assert_eq!(get("r/evil", "security.capability"), None, "that is setuid by another name");
    xattr::set(g.path("r/f"), "user.a", b"2").unwrap();
    let report = restore(&m, &g.options());
    assert_eq!((report.metadata, report.replaced), (1, 0));
    assert_eq!(get("r/f", "user.a").unwrap(), b"1");
}

#[test]
fn special_bits_need_to_be_asked_for() {
    let mut m = Memory::default();
    m.dir("r").mode = 0o1777;
    m.file("r/suid", b"#!").mode = 0o6755;
    let g = Ground::new();
    restore(&m, &g.options());
    assert_eq!(shapes(&g.target)["r/suid"].mode, 0o755);
    assert_eq!(shapes(&g.target)["r"].mode, 0o1777, "sticky on a directory protects");
    restore(&m, &Options { special_bits: true, ..g.options() });
    assert_eq!(shapes(&g.target)["r/suid"].mode, 0o6755);
}

#[test]
fn owners_come_back_by_name_before_number_if_we_are_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut m = Memory::default();
    m.dir("r");
    let by_name = m.file("r/name", b"1");
    (by_name.user, by_name.uid, by_name.gid) = (Some("root".into()), 4242, 4243);
    let by_number = m.file("r/number", b"2");
    (by_number.user, by_number.uid) = (Some("nobody-has-this-name".into()), 4242);
    let none = m.file("r/none", b"3");
    (none.uid, none.gid) = (u32::MAX, u32::MAX);
    let g = Ground::new();
    restore(&m, &Options { owners: false, ..g.options() });
    assert_eq!(fs::metadata(g.path("r/number")).unwrap().uid(), 0);
    restore(&m, &g.options());
    let owner = |name: &str| {
        let meta = fs::metadata(g.path(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("r/name"), (0, 4243));
    assert_eq!(owner("r/number").0, 4242);
    assert_eq!(owner("r/none"), (0, 0));
}

#[test]
fn holes_come_back_as_holes() {
    let mut content = vec![0; 12 << 20];
    content[(5 << 20) + 100..(5 << 20) + 200].fill(7);
    content[(12 << 20) - 5000..(12 << 20) - 4990].fill(9);
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/sparse", &content).flags = repo::flag::SPARSE;
    m.file("r/all-hole", &vec![0; 300_001]).flags = repo::flag::SPARSE;
    m.file("r/plain", &content[..300_000]);
    let g = Ground::new();
    restore(&m, &g.options());
    assert_eq!(g.read("r/sparse"), content);
    assert_eq!(g.read("r/all-hole"), vec![0; 300_001]);
    let allocated = |name: &str| fs::metadata(g.path(name)).unwrap().blocks() * 512;
    assert!(allocated("r/sparse") <= 64 << 10, "{}", allocated("r/sparse"));
    assert!(allocated("r/all-hole") <= 16 << 10);
    assert!(allocated("r/plain") >= 300_000, "no holes where there were none");
}

#[test]
fn small_files_that_share_a_block_fetch_it_once_and_neighbours_in_one_run() {
    let mut m = Memory::default();
    m.dir("r");
    for group in 0..8u64 {
        let files: Vec<_> = (0..200u64)
            .map(|n| (format!("r/{group}-{n:03}"), noise(group * 1000 + n, 3000)))
            .collect();
        m.small_files(&files);
    }
    let g = Ground::new();
    let report = restore(&m, &g.options());
    assert_eq!(report.created, 1601);
    for group in 0..8 {
        assert_eq!(g.read(&format!("r/{group}-199")), noise(group * 1000 + 199, 3000));
    }
    assert_eq!(m.blocks_read().len(), 8, "each block once");
    assert!(m.runs.lock().unwrap().len() <= 3, "{:?}", m.runs);
    assert_eq!(report.bytes_fetched, 8 * 200 * 3000);
}

#[test]
fn a_map_that_jumps_between_blocks_loads_each_block_once() {
    // 64 MiB in blocks of 1 MiB; each 4 KiB page from another block than the one before.
    let blocks: Vec<Vec<u8>> = (0..40).map(|n| noise(n, 1 << 20)).collect();
    let mut m = Memory::default();
    m.dir("r");
    let ids: Vec<BlockId> = blocks.iter().map(|plain| m.block(plain)).collect();
    let (mut content, mut map) = (Vec::new(), Vec::new());
    for page in 0..256usize {
        for (block, plain) in ids.iter().zip(&blocks) {
            content.extend_from_slice(&plain[page * 4096..(page + 1) * 4096]);
            let offset = u32::try_from(page * 4096).unwrap();
            map.push(Extent { block: *block, offset, len: 4096, pages: false });
        }
    }
    m.mapped("r/db", &content, map);
    let g = Ground::new();
    restore(&m, &g.options());
    assert!(g.read("r/db") == content);
    assert_eq!(m.blocks_read().len(), 40);
}

/// More files than may be open at once, each in three parts that lie in three blocks, the last part
/// first.
fn woven() -> (Memory, Vec<(String, Vec<u8>)>) {
    let files: Vec<_> = (0..300u64).map(|n| (format!("r/{n:03}"), noise(n, 3000))).collect();
    let mut m = Memory::default();
    m.dir("r");
    let blocks = [2, 0, 1].map(|part| {
        let parts = files.iter().map(|(_, content)| &content[part * 1000..][..1000]);
        (part, m.block(&parts.collect::<Vec<_>>().concat()))
    });
    for (offset, (path, content)) in (0..).step_by(1000).zip(&files) {
        let part = |wanted| blocks.iter().find(|(part, _)| *part == wanted).unwrap().1;
        let map = [0, 1, 2].map(|n| Extent { block: part(n), offset, len: 1000, pages: false });
        m.mapped(path, content, map.to_vec());
    }
    (m, files)
}

#[test]
fn files_that_wait_for_their_next_part_are_set_aside() {
    let (mut m, files) = woven();
    let g = Ground::new();
    let report = restore(&m, &g.options());
    assert_eq!(report.created, 301);
    for (path, content) in &files {
        assert!(g.read(path) == *content, "{path}");
    }
    assert_eq!(m.blocks_read().len(), 3, "each block once");
    g.check();
    // A part that is gone: no file is whole, and of what was set aside nothing stays.
    let g = Ground::new();
    m.damage(
        &files.iter().flat_map(|(_, c)| c[1000..2000].to_vec()).collect::<Vec<_>>(),
        Damage::Gone,
    );
    let report = run(&m, &g.options()).unwrap();
    assert_eq!(report.problems.len(), 300);
    g.check();
}

#[test]
fn parts_that_are_kept_and_parts_that_come_early_make_one_hash() {
    let content = noise(9, 10 * (1 << 20));
    let parts: Vec<&[u8]> = content.chunks(1 << 20).collect();
    let mut m = Memory::default();
    m.dir("r");
    // In the store the parts lie backwards.
    let mut map: Vec<_> = (parts.iter().rev())
        .map(|part| Extent { block: m.block(part), offset: 0, len: 1 << 20, pages: false })
        .collect();
    map.reverse();
    m.mapped("r/db", &content, map);
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    let mut there = content.clone();
    for changed in [0, 3, 4, 9] {
        there[changed * (1 << 20)] ^= 1;
    }
    fs::write(g.path("r/db"), &there).unwrap();
    let report = restore(&m, &g.options());
    assert_eq!((report.patched, report.bytes_kept), (1, 6 * (1 << 20)));
    assert!(g.read("r/db") == content);
    g.check();
}

#[test]
fn of_a_large_changed_file_only_what_differs_is_fetched() {
    let mut content = noise(1, 10 << 20);
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/db", &content);
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    // Here: a byte changed, a stretch appended.
    content[3 << 20] ^= 1;
    content.extend_from_slice(&noise(2, 100_000));
    fs::write(g.path("r/db"), &content).unwrap();
    let planned = plan(&m, &g.options());
    assert_eq!((planned.totals.patch, planned.totals.fetch), (1, 64 << 10));
    let inode = fs::metadata(g.path("r/db")).unwrap().ino();
    let report = restore(&m, &g.options());
    assert_eq!(report.patched, 1);
    assert_eq!(report.bytes_fetched, 64 << 10);
    assert_eq!(report.bytes_kept, (10 << 20) - (64 << 10));
    assert_eq!(m.blocks_read().len(), 1);
    assert!(g.read("r/db") == noise(1, 10 << 20));
    assert_ne!(fs::metadata(g.path("r/db")).unwrap().ino(), inode, "a new file, never in place");
}

#[test]
fn a_block_is_kept_also_when_its_parts_lie_apart() {
    let parts: Vec<Vec<u8>> = (0..80).map(|n| noise(n, 64 << 10)).collect();
    let mut m = Memory::default();
    m.dir("r");
    let (mut content, mut map) = (Vec::new(), Vec::new());
    for half in [1, 0] {
        for part in &parts {
            let block = m.block(part);
            let offset = half * (32u32 << 10);
            let start = usize::try_from(offset).unwrap();
            content.extend_from_slice(&part[start..start + (32 << 10)]);
            map.push(Extent { block, offset, len: 32 << 10, pages: false });
        }
    }
    m.mapped("r/db", &content, map);
    let g = Ground::new();
    restore(&m, &g.options());
    let before = m.blocks_read().len();
    fs::File::options().write(true).open(g.path("r/db")).unwrap().write_all_at(b"xx", 0).unwrap();
    let report = restore(&m, &g.options());
    assert_eq!(report.patched, 1);
    assert_eq!(m.blocks_read().len() - before, 1);
    assert!(g.read("r/db") == content);
}

#[test]
fn overwrite_modes() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/differs", b"snapshot");
    m.file("r/newer-here", b"snapshot");
    m.file("r/older-here", b"snapshot");
    m.file("r/missing", b"snapshot");
    m.symlink("r/link", "snapshot");
    let outcome = |overwrite| {
        let g = Ground::new();
        fs::create_dir_all(g.path("r")).unwrap();
        for name in ["differs", "newer-here", "older-here"] {
            fs::write(g.path("r").join(name), "local").unwrap();
        }
        symlink("local", g.path("r/link")).unwrap();
        let old = fs::File::options().write(true).open(g.path("r/older-here")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        restore(&m, &g.with(overwrite));
        g.check();
        let all = shapes(&g.target);
        ["differs", "newer-here", "older-here", "missing", "link"]
            .map(|name| String::from_utf8(all[&format!("r/{name}")].content.clone()).unwrap())
    };
    let (s, l) = ("snapshot", "local");
    assert_eq!(outcome(Overwrite::Always), [s, s, s, s, s]);
    assert_eq!(outcome(Overwrite::IfChanged), [s, s, s, s, s]);
    assert_eq!(outcome(Overwrite::IfNewer), [l, l, s, s, l]);
    assert_eq!(outcome(Overwrite::Never), [l, l, l, s, l]);
}

#[test]
fn another_kind_in_the_way_is_a_problem_unless_always() {
    let mut m = Memory::default();
    m.dir("r");
    m.dir("r/dir");
    m.file("r/dir/below", b"b");
    m.file("r/file", b"f");
    m.file("r/full", b"f");
    let ground = || {
        let g = Ground::new();
        fs::create_dir_all(g.path("r/file")).unwrap();
        fs::create_dir_all(g.path("r/full")).unwrap();
        fs::write(g.path("r/full/precious"), "p").unwrap();
        fs::write(g.path("r/dir"), "in the way").unwrap();
        g
    };
    let g = ground();
    let report = run(&m, &g.options()).unwrap();
    assert_eq!(problems(&report), ["r/dir", "r/dir/below", "r/file", "r/full"]);
    assert_eq!(g.read("r/dir"), b"in the way");
    let g = ground();
    let report = run(&m, &g.with(Overwrite::Always)).unwrap();
    assert_eq!(problems(&report), ["r/full"], "what it holds is not thrown away");
    assert_eq!((g.read("r/dir/below"), g.read("r/file")), (b"b".to_vec(), b"f".to_vec()));
    assert_eq!(g.read("r/full/precious"), b"p");
    restore(&m, &Options { delete: true, ..g.with(Overwrite::Always) });
    assert_eq!(g.read("r/full"), b"f");
    g.check();
}

#[test]
fn delete_removes_what_the_snapshot_lacks_and_nothing_else() {
    let mut m = Memory::default();
    m.dir("r");
    m.dir("r/d");
    m.file("r/d/f", b"f");
    m.entry("r/sock", entry(Kind::Socket, 0o600));
    let g = Ground::new();
    restore(&m, &g.options());
    fs::create_dir_all(g.path("r/d/extra/deep")).unwrap();
    fs::write(g.path("r/d/extra/deep/x"), "x").unwrap();
    fs::write(g.path("r/gone"), "x").unwrap();
    fs::write(g.path("r/keep.me"), "x").unwrap();
    fs::write(g.path("r/sock"), "stands for a socket").unwrap();
    symlink(&g.outside, g.path("r/d/out")).unwrap();
    fs::write(g.path("beside"), "not in a root").unwrap();
    let options = Options { delete: true, keep: vec!["*.me".into()], ..g.options() };
    let planned = plan(&m, &options);
    let doomed: Vec<_> =
        planned.items.iter().filter(|i| i.action == super::super::Action::Delete).collect();
    assert_eq!(doomed.len(), 3, "{doomed:?}");
    let report = restore(&m, &options);
    assert_eq!(report.deleted, 3);
    g.check();
    let names: Vec<String> = shapes(&g.target).into_keys().collect();
    assert_eq!(names, ["", "beside", "r", "r/d", "r/d/f", "r/keep.me", "r/sock"]);
    assert_eq!(shapes(&g.target)["r/d"].mtime.0, SECS, "times of directories come after");
}

#[test]
fn delete_with_patterns_stays_inside_them() {
    let mut m = Memory::default();
    m.dir("r");
    m.dir("r/a");
    m.dir("r/b");
    let g = Ground::new();
    restore(&m, &g.options());
    fs::write(g.path("r/a/x"), "x").unwrap();
    fs::write(g.path("r/b/x"), "x").unwrap();
    restore(&m, &Options { delete: true, paths: vec!["r/a".into()], ..g.options() });
    assert!(!g.path("r/a/x").exists() && g.path("r/b/x").exists());
}

#[test]
fn delete_never_removes_the_root_of_another_label() {
    let g = Ground::new();
    let (home, inner) = (g.path("home"), g.path("home/x/inner"));
    fs::create_dir_all(&inner).unwrap();
    fs::write(g.path("home/x/extra"), "x").unwrap();
    let mut m = Memory::default();
    m.dir("r");
    m.dir("s");
    m.file("s/f", b"f");
    let to = Placement::Each(vec![(b"r".to_vec(), home), (b"s".to_vec(), inner)]);
    let labels = vec![b"r".to_vec(), b"s".to_vec()];
    let report = restore(&m, &Options { delete: true, labels, ..Options::new(to) });
    assert_eq!(g.read("home/x/inner/f"), b"f");
    assert!(!g.path("home/x/extra").exists());
    assert_eq!(report.notices.len(), 1, "kept in part is said");
}

#[test]
fn a_home_that_is_there_keeps_its_mode_and_time() {
    let g = Ground::new();
    let (home, other) = (g.path("home"), g.path("other"));
    for dir in [&home, &other] {
        fs::create_dir_all(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o7777;
    let mut m = Memory::default();
    m.dir("r").mode = 0o777;
    m.dir("r/sub").mode = 0o751;
    m.file("r/.agent.json", b"f");
    m.dir("s").mode = 0o755;
    let to = Placement::Each(vec![(b"r".to_vec(), home.clone()), (b"s".to_vec(), other.clone())]);
    let labels = vec![b"r".to_vec(), b"s".to_vec()];
    let options = Options { shared: vec![home.clone()], labels, ..Options::new(to) };
    let report = restore(&m, &options);
    assert_eq!(report.problems.len(), 0);
    assert_eq!((mode(&home), mode(&other)), (0o700, 0o755));
    assert_eq!(mode(&home.join("sub")), 0o751);
    assert_eq!(g.read("home/.agent.json"), b"f");
    fs::remove_dir_all(&home).unwrap();
    restore(&m, &options);
    assert_eq!(mode(&home), 0o777, "one that is made is as it was");
}

#[test]
fn roots_go_where_they_are_told_also_single_files() {
    let g = Ground::new();
    fs::create_dir_all(g.path("real")).unwrap();
    fs::create_dir_all(g.path("home")).unwrap();
    symlink(g.path("real"), g.path("home/.agent")).unwrap();
    let mut m = Memory::default();
    m.dir("agent/data");
    m.file("agent/data/f", b"f");
    m.file("agent/config", b"c");
    m.file("stranger", b"s");
    let to = Placement::Each(vec![
        (b"agent/data".to_vec(), g.path("home/.agent")),
        (b"agent/config".to_vec(), g.path("home/.agent.json")),
    ]);
    let report = run(&m, &Options::new(to)).unwrap();
    assert_eq!(problems(&report), ["stranger"], "no place was given for it");
    assert_eq!(g.read("real/f"), b"f", "the user's own link to the root is followed");
    assert_eq!(g.read("home/.agent.json"), b"c");
    g.check();
}

#[test]
fn patterns_choose_by_path_by_name_and_below() {
    let mut m = Memory::default();
    m.dir("r").mode = 0o701;
    m.dir("r/p").mode = 0o705;
    m.dir("r/p/q");
    m.file("r/p/q/a.log", b"1");
    m.file("r/p/b.log", b"2");
    m.file("r/p/b.txt", b"3");
    m.dir("r/z");
    m.file("r/z/deep.txt", b"4");
    let taken = |patterns: &[&str]| {
        let g = Ground::new();
        let paths = patterns.iter().map(ToString::to_string).collect();
        restore(&m, &Options { paths, ..g.options() });
        let all = shapes(&g.target);
        assert!(all.get("r/p").is_none_or(|dir| dir.mode == 0o705), "directories above are right");
        all.into_iter().filter(|(_, s)| s.kind == 'f').map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(taken(&["*.log"]), ["r/p/b.log", "r/p/q/a.log"]);
    assert_eq!(taken(&["r/p/*.log"]), ["r/p/b.log"]);
    assert_eq!(taken(&["p/q"]), ["r/p/q/a.log"]);
    assert_eq!(taken(&["z", "r/p/b.txt"]), ["r/p/b.txt", "r/z/deep.txt"]);
    assert!(taken(&["nothing"]).is_empty());
}

#[test]
fn a_hard_link_whose_first_name_is_left_out_brings_the_content() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/a", b"content");
    m.hard_link("r/b", "r/a");
    m.hard_link("r/c", "r/a");
    let g = Ground::new();
    restore(&m, &Options { paths: vec!["r/b".into(), "r/c".into()], ..g.options() });
    let all = shapes(&g.target);
    assert!(!all.contains_key("r/a"));
    assert_eq!((all["r/b"].content.as_slice(), all["r/b"].nlink), (&b"content"[..], 2));
    assert_eq!(all["r/c"].nlink, 2);
}

#[test]
fn an_old_log_beside_a_database_goes_when_the_database_comes_back() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/db", &database::image(1)).flags = repo::flag::SQLITE;
    let g = Ground::new();
    restore(&m, &g.options());
    // The database is as it was, but a log beside it holds later transactions.
    for side in ["db-wal", "db-shm", "db-journal"] {
        fs::write(g.path("r").join(side), "later").unwrap();
    }
    let runs = m.runs.lock().unwrap().len();
    let report = restore(&m, &g.options());
    assert_eq!(report.replaced, 1);
    assert_eq!(m.runs.lock().unwrap().len(), runs, "its content is here already");
    let names: Vec<String> = shapes(&g.target).into_keys().collect();
    assert_eq!(names, ["", "r", "r/db"]);
}

#[test]
fn a_database_without_all_its_rows_replaces_no_other_unless_told_to_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(dir.path().join("db")).unwrap();
    db.execute_batch("CREATE TABLE t(x)").unwrap();
    drop(db);
    let image = fs::read(dir.path().join("db")).unwrap();
    let mut content = Memory::default();
    content.dir("r");
    for (name, flags) in [
        ("r/edited", repo::flag::SQLITE_EDITED),
        ("r/new", repo::flag::SQLITE_EDITED),
        ("r/whole", 0),
    ] {
        content.file(name, &image).flags = repo::flag::SQLITE | flags;
    }
    let ground = Ground::new();
    fs::create_dir_all(ground.path("r")).unwrap();
    for name in ["r/edited", "r/whole"] {
        fs::write(ground.path(name), "live").unwrap();
    }
    // nobody here knows which rows: they are nowhere else
    let report = run(&content, &ground.options()).unwrap();
    assert_eq!(problems(&report), ["r/edited"]);
    assert!(report.problems[0].reason.contains("no adapter here"), "{:?}", report.problems);
    assert_eq!(ground.read("r/edited"), b"live");
    assert_eq!((ground.read("r/whole"), ground.read("r/new")), (image.clone(), image.clone()));
    let report = restore(&content, &ground.with(Overwrite::Always));
    let told: Vec<&[u8]> = report.notices.iter().map(|notice| notice.path.as_slice()).collect();
    assert_eq!(told, [b"r/edited"]);
    assert!(report.notices[0].reason.contains("logins"), "{:?}", report.notices);
    assert_eq!(ground.read("r/edited"), image);
    assert!(restore(&content, &ground.options()).notices.is_empty(), "nothing was replaced");
    ground.check();
}

#[test]
fn verify_reads_all_files_again() {
    let g = Ground::new();
    let report = restore(&sample(), &Options { verify: true, ..g.options() });
    assert_eq!(report.verified, 6);
}

#[test]
fn a_directory_that_we_may_not_write_to_is_opened_and_closed_again() {
    let g = Ground::new();
    let mut m = Memory::default();
    m.dir("r").mode = 0o555;
    m.file("r/f", b"new");
    fs::create_dir_all(g.path("r")).unwrap();
    fs::set_permissions(g.path("r"), fs::Permissions::from_mode(0o555)).unwrap();
    restore(&m, &g.options());
    assert_eq!(g.read("r/f"), b"new");
    assert_eq!(shapes(&g.target)["r"].mode, 0o555);
}

/// Root may enter any directory, so this can only fail for other users.
#[test]
fn a_directory_that_nobody_may_enter_is_closed_after_all_below_it() {
    let g = Ground::new();
    let mut m = Memory::default();
    m.dir("r");
    m.dir("r/closed").mode = 0;
    // More than are kept open, so that the first ones must be opened again.
    for n in 0..200 {
        m.dir(&format!("r/closed/{n:03}")).mode = 0o511;
        m.file(&format!("r/closed/{n:03}/f"), b"f");
    }
    restore(&m, &g.options());
    fs::set_permissions(g.path("r/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let there = shapes(&g.target);
    let dirs: Vec<_> = there.iter().filter(|(name, _)| name.starts_with("r/closed/")).collect();
    assert_eq!(dirs.len(), 400);
    assert!(dirs.iter().all(|(_, s)| s.kind == 'f' || s.mode == 0o511));
    assert!(dirs.iter().all(|(_, s)| s.mtime.0 == SECS));
}
