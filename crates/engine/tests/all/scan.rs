//! The scan on real directories: order, links, special files, names, limits, and things that move
//! under it.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::scan::{
    DEPTH_MAX, Error, Found, Options, Owners, PATH_BYTES_MAX, ScanRoot, SourceRoot, Trouble,
    Verdict, entry_metadata, scan,
};
use proptest::prelude::*;
use repo::{Kind, path_order};
use rustix::fs::{CWD, Mode, Timespec, Timestamps};
use tempfile::tempdir;

use crate::scan_support::{
    self, all, by, chain_with_files, make_fifo, paths, root, run, run_and_meddle, run_with,
    troubles, write,
};

const NAMES: [&[u8]; 9] =
    [b"a", b"a-", b"a b", b"a\x01", b"ab", b".a", b"\xff\xfe", b"b\nc", b"\x1b[31m"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn entries_come_in_tree_order_and_none_is_missing(
        files in prop::collection::vec(prop::collection::vec(0..NAMES.len(), 1..5), 0..24),
    ) {
        let dir = tempdir().unwrap();
        let mut expected = vec![b"l".to_vec()];
        for file in files {
            let mut path = dir.path().to_path_buf();
            let mut full = b"l".to_vec();
            for (depth, index) in file.iter().enumerate() {
                path.push(OsStr::from_bytes(NAMES[*index]));
                full.push(b'/');
                full.extend_from_slice(NAMES[*index]);
                let made = if depth + 1 < file.len() {
                    fs::create_dir(&path).is_ok()
                } else {
                    !path.exists() && fs::write(&path, b"x").is_ok()
                };
                if made {
                    expected.push(full.clone());
                }
                if !path.is_dir() {
                    break;
                }
            }
        }
        expected.sort_by(|a, b| path_order(a, b));
        let outcome = run(&[root("l", dir.path(), all())]);
        prop_assert_eq!(paths(&outcome), expected);
        prop_assert!(outcome.problems.is_empty());
    }
}

#[test]
fn roots_given_in_any_order_come_out_in_tree_order() {
    let dir = tempdir().unwrap();
    write(&dir.path().join("f"), b"x");
    let roots: Vec<ScanRoot> =
        ["x-y", "x", "w/z", "w-"].iter().map(|label| root(label, dir.path(), all())).collect();
    let outcome = run(&roots);
    let expected: Vec<&[u8]> =
        vec![b"w/z", b"w/z/f", b"w-", b"w-/f", b"x", b"x/f", b"x-y", b"x-y/f"];
    assert_eq!(paths(&outcome), expected);
    let of_w_z = outcome.found.iter().filter(|found| found.root == 2);
    assert_eq!(of_w_z.map(|found| found.rel(&roots[2])).collect::<Vec<_>>(), [&b""[..], b"f"]);
}

#[test]
fn labels_that_would_mix_or_escape_are_refused() {
    let dir = tempdir().unwrap();
    let refused = |labels: &[&str]| {
        let roots: Vec<_> = labels.iter().map(|label| root(label, dir.path(), all())).collect();
        scan(
            &roots,
            &Options::default(),
            &AtomicBool::new(false),
            &mut |_| ControlFlow::Continue(()),
            &mut |_| {},
        )
        .unwrap_err()
    };
    assert!(matches!(refused(&["a", "b", "a"]), Error::Overlap { .. }));
    assert!(matches!(refused(&["a/b", "a-", "a"]), Error::Overlap { .. }));
    for label in ["", "/a", "a/", "a//b", "..", "a/../b", "."] {
        assert!(matches!(refused(&[label]), Error::Label { .. }), "{label:?}");
    }
}

#[test]
fn links_are_stored_and_never_followed() {
    let dir = tempdir().unwrap();
    let outside = tempdir().unwrap();
    write(&outside.path().join("secret"), b"x");
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink(outside.path(), dir.path().join("d/away")).unwrap();
    symlink("..", dir.path().join("d/loop")).unwrap();
    symlink("self", dir.path().join("self")).unwrap();
    symlink("/", dir.path().join("slash")).unwrap();
    symlink(OsStr::from_bytes(b"no\xffwhere"), dir.path().join("dangling")).unwrap();
    let outcome = run(&[root("l", dir.path(), all())]);
    let targets: Vec<(&[u8], &[u8])> = outcome
        .found
        .iter()
        .filter(|found| found.kind == Kind::Symlink)
        .map(|found| (found.path.as_slice(), found.target.as_deref().unwrap()))
        .collect();
    let expected: Vec<(&[u8], &[u8])> = vec![
        (b"l/d/away", outside.path().as_os_str().as_bytes()),
        (b"l/d/loop", b".."),
        (b"l/dangling", b"no\xffwhere"),
        (b"l/self", b"self"),
        (b"l/slash", b"/"),
    ];
    assert_eq!(targets, expected);
    assert_eq!(outcome.totals.dirs_count, 2);
    assert!(outcome.problems.is_empty());
}

#[test]
fn our_own_directories_are_left_out_wherever_they_are_met() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/cache/agent-backup")).unwrap();
    fs::write(dir.path().join("a/cache/agent-backup/cache.db"), "ours").unwrap();
    fs::write(dir.path().join("a/cache/other"), "theirs").unwrap();
    let mut options = Options::default();
    options.leave_out(&dir.path().join("a/cache/agent-backup"));
    options.leave_out(&dir.path().join("not there"));
    let outcome = run_with(&[root("r", dir.path(), all())], &options);
    assert_eq!(paths(&outcome), [&b"r"[..], b"r/a", b"r/a/cache", b"r/a/cache/other"]);
}

#[test]
fn a_root_that_is_a_link_is_resolved_once() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    write(&dir.path().join("real/f"), b"x");
    symlink("real", dir.path().join("link")).unwrap();
    let outcome = run(&[root("l", &dir.path().join("link"), all())]);
    assert_eq!(paths(&outcome), [b"l".to_vec(), b"l/f".to_vec()]);
    assert_eq!(outcome.found[0].kind, Kind::Dir);
    let source = SourceRoot::open_dir(&dir.path().join("link")).unwrap();
    assert!(source.open(b"f", &outcome.found[1].stat).is_ok());
}

#[test]
fn a_root_that_is_missing_or_no_directory_is_a_problem_and_the_others_go_on() {
    let dir = tempdir().unwrap();
    write(&dir.path().join("f"), b"x");
    let outcome = run(&[
        root("a", &dir.path().join("none"), all()),
        root("b", &dir.path().join("f"), all()),
        root("c", dir.path(), all()),
    ]);
    assert_eq!(troubles(&outcome), [("a", Trouble::Unreadable), ("b", Trouble::Unreadable)]);
    assert!(outcome.problems.iter().all(|problem| problem.error.is_some()));
    assert_eq!(paths(&outcome), [b"c".to_vec(), b"c/f".to_vec()]);
}

#[test]
fn names_of_one_file_link_to_the_first_across_directories_and_roots() {
    let dir = tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let first = dir.path().join("a/z");
    write(&first, b"12345");
    fs::hard_link(&first, dir.path().join("a/left-out")).unwrap();
    fs::hard_link(&first, dir.path().join("b/a")).unwrap();
    fs::hard_link(&first, dir.path().join("b/c")).unwrap();
    write(&dir.path().join("b/x"), b"67");
    for name in ["b/y", "b/z"] {
        fs::hard_link(dir.path().join("b/x"), dir.path().join(name)).unwrap();
    }
    let filter = by(|rel, _| if rel == b"left-out" { Verdict::Skip } else { Verdict::Include });
    let outcome = run(&[
        root("m", &dir.path().join("a"), filter.clone()),
        root("n", &dir.path().join("b"), filter),
    ]);
    let links: Vec<(&[u8], Option<&[u8]>)> = outcome
        .found
        .iter()
        .filter(|found| found.kind == Kind::File)
        .map(|found| (found.path.as_slice(), found.link.as_deref()))
        .collect();
    let expected: Vec<(&[u8], Option<&[u8]>)> = vec![
        (b"m/z", None),
        (b"n/a", Some(b"m/z")),
        (b"n/c", Some(b"m/z")),
        (b"n/x", None),
        (b"n/y", Some(b"n/x")),
        (b"n/z", Some(b"n/x")),
    ];
    assert_eq!(links, expected);
    assert_eq!((outcome.totals.hard_links_count, outcome.totals.file_bytes), (4, 7));
}

#[test]
fn fifos_sockets_and_devices_are_recorded_and_block_nothing() {
    let dir = tempdir().unwrap();
    make_fifo(&dir.path().join("fifo"));
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let devices =
        ScanRoot { files: Some(vec![b"null".to_vec()]), ..root("m", Path::new("/dev"), all()) };
    let outcome = run(&[root("l", dir.path(), all()), devices]);
    let kinds: Vec<Kind> = outcome.found.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [Kind::Dir, Kind::Fifo, Kind::Socket, Kind::Dir, Kind::Device]);
    assert_eq!(outcome.totals.specials_count, 3);
    assert!(outcome.problems.is_empty());
}

#[test]
fn a_file_or_directory_that_vanishes_after_it_was_listed_is_named_and_the_walk_goes_on() {
    let dir = tempdir().unwrap();
    write(&dir.path().join("a/f"), b"x");
    write(&dir.path().join("b"), b"x");
    write(&dir.path().join("c"), b"x");
    let at = dir.path().to_path_buf();
    let filter = by(move |rel, _| {
        match rel {
            b"a" => fs::remove_dir_all(at.join("a")).unwrap(),
            b"b" => fs::remove_file(at.join("b")).unwrap(),
            _ => {}
        }
        Verdict::Include
    });
    let outcome = run(&[root("l", dir.path(), filter)]);
    assert_eq!(troubles(&outcome), [("l/a", Trouble::Vanished), ("l/b", Trouble::Vanished)]);
    assert_eq!(paths(&outcome), [b"l".to_vec(), b"l/c".to_vec()]);
    assert_eq!(outcome.totals.problems_count, 2);
}

#[test]
fn a_directory_that_becomes_a_link_after_it_was_listed_is_not_entered() {
    let dir = tempdir().unwrap();
    let outside = tempdir().unwrap();
    write(&outside.path().join("secret"), b"x");
    fs::create_dir(dir.path().join("a")).unwrap();
    let (at, to) = (dir.path().join("a"), outside.path().to_path_buf());
    let filter = by(move |rel, is_dir| {
        if rel == b"a" && is_dir {
            fs::remove_dir(&at).unwrap();
            symlink(&to, &at).unwrap();
        }
        Verdict::Include
    });
    let outcome = run(&[root("l", dir.path(), filter)]);
    assert_eq!(troubles(&outcome), [("l/a", Trouble::Replaced)]);
    assert_eq!(paths(&outcome), [b"l".to_vec()]);
}

#[test]
fn a_directory_nobody_may_list_is_kept_as_an_entry_and_named() {
    if rustix::process::geteuid().is_root() {
        return; // Root lists everything; the vanishing directory covers the way on.
    }
    let dir = tempdir().unwrap();
    write(&dir.path().join("a/f"), b"x");
    write(&dir.path().join("b"), b"x");
    rustix::fs::chmod(dir.path().join("a"), Mode::empty()).unwrap();
    let outcome = run(&[root("l", dir.path(), all())]);
    rustix::fs::chmod(dir.path().join("a"), Mode::RWXU).unwrap();
    assert_eq!(troubles(&outcome), [("l/a", Trouble::Unreadable)]);
    assert_eq!(paths(&outcome), [b"l".to_vec(), b"l/a".to_vec(), b"l/b".to_vec()]);
}

#[test]
fn ignore_files_apply_below_them_and_the_nearest_one_wins() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at(".agent-backup-ignore"), b"\xef\xbb\xbf*.log\r\nbuild/\n!keep.log\n/only-top\n#no\n");
    write(&at(".gitignore"), b"*\n");
    for file in ["a.log", "keep.log", "only-top", "build/x", "s/a.log", "s/b.log", "s/only-top"] {
        write(&at(file), b"x");
    }
    write(&at("s/.agent-backup-ignore"), b"!a.log\n/t/*\n!/t/n\n");
    write(&at("s/t/m"), b"x");
    write(&at("s/t/n"), b"x");
    write(&at("t/m"), b"x");
    let outcome = run(&[root("l", dir.path(), all())]);
    let expected: Vec<&[u8]> = vec![
        b"l",
        b"l/.agent-backup-ignore",
        b"l/.gitignore",
        b"l/keep.log",
        b"l/s",
        b"l/s/.agent-backup-ignore",
        b"l/s/a.log",
        b"l/s/only-top",
        b"l/s/t",
        b"l/s/t/n",
        b"l/t",
        b"l/t/m",
    ];
    assert_eq!(paths(&outcome), expected);
    assert_eq!(outcome.totals.excluded_count, 5);
}

#[test]
fn an_ignore_file_with_a_bad_line_is_named_and_its_good_lines_count() {
    let dir = tempdir().unwrap();
    write(&dir.path().join(".agent-backup-ignore"), b"[z-a]\n\xff\n*.tmp\n");
    write(&dir.path().join("a.tmp"), b"x");
    write(&dir.path().join("b"), b"x");
    let outcome = run(&[root("l", dir.path(), all())]);
    assert_eq!(troubles(&outcome), [("l/.agent-backup-ignore", Trouble::IgnoreFile)]);
    assert_eq!(paths(&outcome), [&b"l"[..], b"l/.agent-backup-ignore", b"l/b"]);
}

#[test]
fn an_ignore_file_that_is_a_fifo_does_not_block() {
    let dir = tempdir().unwrap();
    make_fifo(&dir.path().join(".agent-backup-ignore"));
    let outcome = run(&[root("l", dir.path(), all())]);
    assert_eq!(troubles(&outcome), [("l/.agent-backup-ignore", Trouble::IgnoreFile)]);
    assert_eq!(outcome.totals.specials_count, 1);
}

#[test]
fn large_files_are_left_out_with_a_notice_but_a_filters_limit_spares_databases() {
    let dir = tempdir().unwrap();
    for (name, length) in [("a", 10), ("b", 11), ("c.db", 11), ("d.db", 21)] {
        write(&dir.path().join(name), &vec![0; length]);
    }
    let sqlite = scan_support::Limited(10);
    let options = Options { exclude_larger_than: Some(20), ..Options::default() };
    let outcome = run_with(&[root("l", dir.path(), std::sync::Arc::new(sqlite))], &options);
    assert_eq!(paths(&outcome), [&b"l"[..], b"l/a", b"l/c.db"]);
    assert!(outcome.found[2].sqlite && !outcome.found[1].sqlite);
    assert_eq!(troubles(&outcome), [("l/b", Trouble::TooLarge), ("l/d.db", Trouble::TooLarge)]);
    assert_eq!(outcome.totals.problems_count, 0);
}

#[test]
fn directories_on_the_way_appear_only_with_something_below_them() {
    let dir = tempdir().unwrap();
    for file in ["p/q/keep", "p/q/not", "p/r/not", "s/t/not", "skip/keep", "v/keep", "z"] {
        write(&dir.path().join(file), b"x");
    }
    let filter = by(|rel, is_dir| match (rel, is_dir) {
        (b"skip", _) => Verdict::Skip,
        (rel, false) if rel.ends_with(b"keep") => Verdict::Include,
        // Of a file this wants no more than Skip.
        _ => Verdict::Walk,
    });
    let outcome = run(&[root("l", dir.path(), filter)]);
    let expected: Vec<&[u8]> = vec![b"l", b"l/p", b"l/p/q", b"l/p/q/keep", b"l/v", b"l/v/keep"];
    assert_eq!(paths(&outcome), expected);
}

#[test]
fn a_root_of_named_files_asks_for_those_only() {
    let dir = tempdir().unwrap();
    for file in [".b", ".a", "other", ".agent-backup-ignore"] {
        write(&dir.path().join(file), b"*");
    }
    let filter = by(|rel, _| {
        assert_ne!(rel, b"other");
        Verdict::Include
    });
    let named = |names: &[&[u8]]| ScanRoot {
        files: Some(names.iter().map(|name| name.to_vec()).collect()),
        ..root("l", dir.path(), filter.clone())
    };
    let outcome = run(&[named(&[b".b", b".none", b".a", b".b"])]);
    assert_eq!(paths(&outcome), [&b"l"[..], b"l/.a", b"l/.b"]);
    let ignore_file = run(&[named(&[b".b", b".agent-backup-ignore"])]);
    assert_eq!(paths(&ignore_file), [&b"l"[..], b"l/.agent-backup-ignore", b"l/.b"]);
    assert!(outcome.problems.is_empty(), "a name that is not there is no problem");
    let none = run(&[named(&[b".none"])]);
    assert!(none.found.is_empty() && none.problems.is_empty());
}

#[test]
fn a_named_file_must_be_a_name() {
    let dir = tempdir().unwrap();
    let named = ScanRoot { files: Some(vec![b"../x".to_vec()]), ..root("l", dir.path(), all()) };
    let outcome = scan(
        &[named],
        &Options::default(),
        &AtomicBool::new(false),
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    );
    assert!(matches!(outcome, Err(Error::FileName { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn a_root_of_named_files_is_never_listed() {
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    let dir = tempdir().unwrap();
    write(&dir.path().join("a"), b"x");
    let listed = |files: Option<Vec<Vec<u8>>>| {
        let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        add_watch(&watch, dir.path(), WatchFlags::ACCESS).unwrap();
        let outcome = run(&[ScanRoot { files, ..root("l", dir.path(), all()) }]);
        assert_eq!(paths(&outcome), [&b"l"[..], b"l/a"]);
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        Reader::new(&watch, &mut buffer).next().is_ok()
    };
    assert!(listed(None), "the watch sees an ordinary root being listed");
    assert!(!listed(Some(vec![b"a".to_vec()])));
}

#[test]
fn a_tree_deeper_than_the_limit_is_cut_there_and_named() {
    let dir = tempdir().unwrap();
    scan_support::make_chain(dir.path(), b"d", DEPTH_MAX + 3);
    let outcome = run(&[root("l", dir.path(), all())]);
    scan_support::remove_chain(dir.path(), "d");
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].what, Trouble::TooDeep);
    // The root, the levels below it, and the entry of the one that is not entered.
    assert_eq!(outcome.found.len(), 1 + DEPTH_MAX + 1);
}

#[test]
fn a_path_longer_than_a_system_call_takes_is_walked_and_opened() {
    let dir = tempdir().unwrap();
    let name = [b'n'; 250];
    scan_support::make_chain(dir.path(), &name, 40);
    let outcome = run(&[root("l", dir.path(), all())]);
    let last = outcome.found.last().unwrap();
    assert_eq!((last.kind, last.path.len()), (Kind::File, 1 + 40 * 251 + "/end".len()));
    assert!(outcome.problems.is_empty());
    let source = SourceRoot::open_dir(dir.path()).unwrap();
    let opened = source.open(&last.path[2..], &last.stat).unwrap();
    assert_eq!(opened.stat(), &last.stat);
    scan_support::remove_chain(dir.path(), std::str::from_utf8(&name).unwrap());
}

#[test]
fn a_path_that_no_repository_takes_is_cut_there_and_named() {
    let dir = tempdir().unwrap();
    let (name, levels_count) = ([b'n'; 250], (PATH_BYTES_MAX - 1) / 251);
    scan_support::make_chain(dir.path(), &name, levels_count + 2);
    let outcome = run(&[root("l", dir.path(), all())]);
    scan_support::remove_chain(dir.path(), std::str::from_utf8(&name).unwrap());
    assert_eq!(outcome.found.len(), 1 + levels_count);
    let whats: Vec<Trouble> = outcome.problems.iter().map(|problem| problem.what).collect();
    assert_eq!(whats, [Trouble::NameTooLong]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_deep_tree_does_not_exhaust_descriptors_and_misses_nothing_on_the_way_back() {
    let dir = tempdir().unwrap();
    chain_with_files(dir.path(), 150);
    let (mut files_count, mut open_max) = (0, 0);
    let totals = scan(
        &[root("l", dir.path(), all())],
        &Options::default(),
        &AtomicBool::new(false),
        &mut |found| {
            files_count += usize::from(found.kind == Kind::File);
            open_max = open_max.max(scan_support::open_below(dir.path()));
            ControlFlow::Continue(())
        },
        &mut |problem| panic!("{problem:?}"),
    );
    assert_eq!(totals.unwrap().dirs_count, 151);
    assert_eq!(files_count, 150);
    assert!((2..=40).contains(&open_max), "{open_max} directories were open at once");
}

#[test]
fn a_directory_moved_in_mid_walk_does_not_lose_its_parent() {
    let (dir, aside) = (tempdir().unwrap(), tempdir().unwrap());
    chain_with_files(dir.path(), 150);
    let chain = |depth: usize| dir.path().join(vec!["d"; depth].join("/"));
    let outcome = run_and_meddle(dir.path(), || {
        // Its ".." leads aside now; the parent is found again from the root.
        fs::rename(chain(60), aside.path().join("sixty")).unwrap();
    });
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    assert_eq!(outcome.totals.files_count, 150);
}

#[test]
fn a_walk_cut_off_from_its_parents_names_them_and_never_strays() {
    let (dir, aside) = (tempdir().unwrap(), tempdir().unwrap());
    write(&aside.path().join("z"), b"of another tree");
    chain_with_files(dir.path(), 150);
    let chain = |depth: usize| dir.path().join(vec!["d"; depth].join("/"));
    let outcome = run_and_meddle(dir.path(), || {
        // Up from 60 the walk would come out aside, and 20 to 59 are not under the root any more.
        fs::rename(chain(60), aside.path().join("sixty")).unwrap();
        fs::rename(chain(20), aside.path().join("twenty")).unwrap();
    });
    let lost = |depth: usize| ("l".to_owned() + &"/d".repeat(depth), Trouble::Replaced);
    let expected: Vec<_> = (20..60).rev().map(lost).collect();
    let named: Vec<_> =
        troubles(&outcome).into_iter().map(|(path, what)| (path.to_owned(), what)).collect();
    assert_eq!(named, expected);
    let mut files = outcome.found.iter().filter(|found| found.kind == Kind::File);
    assert!(files.all(|found| found.stat.size == 1), "a file of another tree came in");
    assert_eq!(outcome.totals.files_count, 150 - 40);
}

#[cfg(target_os = "linux")]
#[test]
fn another_file_system_is_not_entered_when_told_so() {
    use std::os::unix::fs::MetadataExt;
    let (slash, proc) = (fs::metadata("/").unwrap(), fs::metadata("/proc").unwrap());
    if slash.dev() == proc.dev() {
        return; // Nothing is mounted here.
    }
    let options = Options { one_file_system: true, ..Options::default() };
    let named = ScanRoot { files: Some(vec![b"proc".to_vec()]), ..root("l", "/".as_ref(), all()) };
    let outcome = run_with(&[named], &options);
    assert_eq!(paths(&outcome), [&b"l"[..], b"l/proc"]);
    assert_eq!(troubles(&outcome), [("l/proc", Trouble::MountPoint)]);
    assert_eq!(outcome.totals.problems_count, 0);
}

#[test]
fn cancelling_ends_the_scan_with_an_error_and_breaking_without() {
    let dir = tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write(&dir.path().join(name), b"x");
    }
    let roots = [root("l", dir.path(), all()), root("m", dir.path(), all())];
    let cancel = AtomicBool::new(false);
    let mut count = 0;
    let mut raise = |_: Found| {
        count += 1;
        cancel.store(count == 2, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let outcome = scan(&roots, &Options::default(), &cancel, &mut raise, &mut |_| {});
    assert!(matches!(outcome, Err(Error::Cancelled)));
    assert_eq!(count, 2);
    let mut stop = |_: Found| ControlFlow::Break(());
    let never = AtomicBool::new(false);
    let totals = scan(&roots, &Options::default(), &never, &mut stop, &mut |_| {}).unwrap();
    assert_eq!((totals.dirs_count, totals.files_count), (1, 0));
}

#[test]
fn metadata_is_taken_to_the_nanosecond_and_before_1970_and_with_names() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("f");
    write(&file, b"x");
    rustix::fs::chmod(&file, Mode::from_raw_mode(0o4751)).unwrap();
    let time = Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, &file, &times, rustix::fs::AtFlags::empty()).unwrap();
    let outcome = run(&[root("l", dir.path(), all())]);
    let mut owners = Owners::new();
    let entry = entry_metadata(&outcome.found[1], &mut owners);
    assert_eq!((entry.mode, entry.mtime_secs, entry.mtime_nanos), (0o4751, -5, 123_456_789));
    let user = uzers::get_user_by_uid(entry.uid).map(|user| user.name().to_owned());
    assert_eq!(entry.user.map(Into::into), user);
    assert_eq!((entry.size, entry.hash, entry.flags), (0, [0; 32], 0));
    assert_eq!((owners.user(4_000_000_123), owners.group(4_000_000_123)), (None, None));
}

#[test]
fn attributes_of_directories_and_files_are_kept_sorted() {
    let dir = tempdir().unwrap();
    let (sub, file) = (dir.path().join("d"), dir.path().join("f"));
    fs::create_dir(&sub).unwrap();
    write(&file, b"x");
    for path in [&sub, &file] {
        for (name, value) in [("user.z", &b"1"[..]), ("user.a", b"\0\xff")] {
            if xattr::set(path, name, value).is_err() {
                return; // This file system has none.
            }
        }
    }
    let outcome = run(&[root("l", dir.path(), all())]);
    let pairs = |xattrs: &[repo::Xattr]| {
        xattrs.iter().map(|x| (x.name.clone(), x.value.clone())).collect::<Vec<_>>()
    };
    let expected =
        vec![(b"user.a".to_vec(), b"\0\xff".to_vec()), (b"user.z".to_vec(), b"1".to_vec())];
    assert_eq!(pairs(&outcome.found[1].xattrs), expected);
    let source = SourceRoot::open_dir(dir.path()).unwrap();
    let opened = source.open(b"f", &outcome.found[2].stat).unwrap();
    assert_eq!(pairs(&opened.xattrs().unwrap()), expected);
}

#[test]
fn more_attributes_than_usual_are_all_kept() {
    let dir = tempdir().unwrap();
    let names: Vec<String> = (10..30).map(|n| format!("user.{n}{}", "x".repeat(60))).collect();
    if !names.iter().all(|name| xattr::set(dir.path(), name, b"v").is_ok()) {
        return; // This file system has none, or no room for so many.
    }
    let outcome = run(&[root("l", dir.path(), all())]);
    let kept = outcome.found[0].xattrs.iter().map(|xattr| xattr.name.as_slice());
    assert!(kept.eq(names.iter().map(String::as_bytes)));
}
