//! Damage in the repository, a stop half way, a full disk: right bytes or an error with a name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Error, Event, Monitor, apply};
use super::*;

fn two_sizes() -> (Memory, Vec<(String, Vec<u8>)>) {
    let mut m = Memory::default();
    m.dir("r");
    let mut files = vec![
        ("r/big-1".to_owned(), noise(100, 9 << 20)),
        ("r/big-2".to_owned(), noise(200, 10 << 20)),
    ];
    files.extend((0..300u64).map(|n| (format!("r/small-{n:03}"), noise(n, 5000))));
    for (path, content) in &files {
        m.file(path, content);
    }
    (m, files)
}

/// Every file that has its final name has its right content; returns how many do.
fn right_files(g: &Ground, files: &[(String, Vec<u8>)]) -> usize {
    let there = files.iter().filter(|(path, _)| g.path(path).exists());
    there.map(|(path, content)| assert!(g.read(path) == *content, "{path} is wrong")).count()
}

#[test]
fn damaged_blocks_fail_their_files_by_name_and_no_others() {
    for how in [Damage::Flip, Damage::Short, Damage::Corrupt, Damage::Gone] {
        let (mut m, files) = two_sizes();
        m.damage(&files[0].1[(64 << 10) * 20..(64 << 10) * 21], how);
        m.damage(&files[7].1, how);
        let g = Ground::new();
        let report = run(&m, &g.options()).unwrap();
        assert_eq!(problems(&report), ["r/big-1", "r/small-005"], "{how:?}");
        assert!(report.problems.iter().all(|problem| !problem.reason.is_empty()));
        assert_eq!(right_files(&g, &files), files.len() - 2, "{how:?}");
        g.check();
        // Healed, the next pull brings just the two.
        m.damage.clear();
        let report = restore(&m, &g.options());
        assert_eq!(report.created, 2);
        assert_eq!(right_files(&g, &files), files.len());
    }
}

#[test]
fn damage_leaves_what_was_there() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/f", b"snapshot");
    m.damage(b"snapshot", Damage::Flip);
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    fs::write(g.path("r/f"), "local").unwrap();
    let report = run(&m, &g.with(Overwrite::Always)).unwrap();
    assert_eq!(problems(&report), ["r/f"]);
    assert_eq!(g.read("r/f"), b"local");
    g.check();
}

#[test]
fn a_hard_link_to_a_file_that_failed_is_named_too() {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/a", b"content");
    m.hard_link("r/b", "r/a");
    m.damage(b"content", Damage::Gone);
    let g = Ground::new();
    assert_eq!(problems(&run(&m, &g.options()).unwrap()), ["r/a", "r/b"]);
    g.check();
}

#[test]
fn a_store_that_does_not_answer_stops_everything_and_leaves_no_temporary_file() {
    let (mut m, files) = two_sizes();
    m.damage(&files[1].1[(64 << 10) * 100..(64 << 10) * 101], Damage::Down);
    let g = Ground::new();
    let error = run(&m, &g.options()).unwrap_err();
    assert!(matches!(error, Error::Repo(repo::Error::Store(_))), "{error}");
    g.check();
    right_files(&g, &files);
    m.damage.clear();
    restore(&m, &g.options());
    assert_eq!(right_files(&g, &files), files.len());
}

#[test]
fn a_cancel_at_any_read_leaves_only_right_files_and_the_next_pull_finishes() {
    let mut stopped = 0;
    for at in 1..=8 {
        let (mut m, files) = two_sizes();
        let cancel = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancel);
        m.on_read = Some(Box::new(move |n| flag.store(n >= at, Ordering::Relaxed)));
        let g = Ground::new();
        match pull(&m, &g.options(), &(), &cancel) {
            Err(Error::Cancelled) => stopped += 1,
            other => drop(other.unwrap()),
        }
        g.check();
        assert!(right_files(&g, &files) < files.len() || stopped < at);
        m.on_read = None;
        restore(&m, &g.options());
        assert_eq!(right_files(&g, &files), files.len());
        g.check();
    }
    assert!(stopped >= 5, "cancelled {stopped} of 8 times");
}

#[test]
fn what_a_killed_pull_left_is_cleaned_up_by_the_next() {
    let g = Ground::new();
    let mut m = Memory::default();
    m.dir("r");
    m.dir("r/d");
    m.file("r/d/f", b"f");
    restore(&m, &g.options());
    fs::write(g.path("r/d/.agent-backup-tmp-00112233445566ff"), "half").unwrap();
    fs::write(g.path("r/.agent-backup-tmp-00112233445566ee"), "half").unwrap();
    restore(&m, &g.options());
    g.check();
}

#[test]
fn what_appears_between_plan_and_write_is_not_overwritten() {
    let g = Ground::new();
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/f", b"snapshot");
    m.symlink("r/l", "snapshot");
    let options = g.with(Overwrite::Never);
    let made = plan(&m, &options);
    fs::create_dir_all(g.path("r")).unwrap();
    fs::write(g.path("r/f"), "newcomer").unwrap();
    fs::write(g.path("r/l"), "newcomer").unwrap();
    let report = apply(&m, &made, &options, &(), &AtomicBool::new(false)).unwrap();
    assert_eq!(problems(&report), ["r/f", "r/l"]);
    assert_eq!((g.read("r/f"), g.read("r/l")), (b"newcomer".to_vec(), b"newcomer".to_vec()));
    g.check();
}

#[test]
fn a_local_file_that_changes_after_the_plan_is_not_patched_into_a_wrong_one() {
    let content = noise(1, 8 << 20);
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/db", &content);
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    fs::write(g.path("r/db"), &content[..6 << 20]).unwrap();
    let made = plan(&m, &g.options());
    assert_eq!(made.totals.patch, 1);
    fs::write(g.path("r/db"), noise(2, 6 << 20)).unwrap();
    let report = apply(&m, &made, &g.options(), &(), &AtomicBool::new(false)).unwrap();
    assert_eq!(problems(&report), ["r/db"]);
    assert!(g.read("r/db") == noise(2, 6 << 20), "what was there is still there");
    g.check();
    restore(&m, &g.options());
    assert!(g.read("r/db") == content);
}

#[test]
fn a_full_disk_stops_the_pull_and_leaves_no_temporary_file() {
    // A file system of 1 MiB needs root and a mount; where that is not allowed, /dev/full cannot
    // stand in for a directory, so there is nothing to test.
    let g = Ground::new();
    fs::create_dir(&g.target).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&g.target)
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/fits", b"fits");
    m.file("r/too-big", &noise(1, 2 << 20));
    // of two writers either could come to the end of the disk first
    let result = run(&m, &Options { workers: 1, ..g.options() });
    let there = shapes(&g.target);
    let unmounted = std::process::Command::new("umount").arg(&g.target).status();
    assert!(unmounted.unwrap().success());
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Full { path, .. } if path == "r/too-big"), "{error}");
    assert!(there.keys().all(|name| !name.contains("tmp")), "{:?}", there.keys());
    assert!(!there.contains_key("r/too-big"));
}

#[derive(Default)]
struct Counts {
    planned: AtomicUsize,
    bytes: AtomicUsize,
    done: AtomicUsize,
    problems: AtomicUsize,
}

impl Monitor for Counts {
    fn event(&self, event: Event<'_>) {
        let add = |count: &AtomicUsize, n: u64| {
            count.fetch_add(usize::try_from(n).unwrap(), Ordering::Relaxed);
        };
        match event {
            Event::Planned(totals) => add(&self.planned, totals.bytes),
            Event::Bytes(bytes) => add(&self.bytes, bytes),
            Event::FileDone { .. } => add(&self.done, 1),
            Event::Problem(_) => add(&self.problems, 1),
            Event::Notice(_) => {}
        }
    }
}

#[test]
fn progress_adds_up_to_the_plan() {
    let (mut m, files) = two_sizes();
    m.damage(&files[9].1, Damage::Flip);
    let g = Ground::new();
    let counts = Counts::default();
    let report = pull(&m, &g.options(), &counts, &AtomicBool::new(false)).unwrap();
    let total: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert_eq!(counts.planned.into_inner(), total);
    assert_eq!(counts.bytes.into_inner(), total, "the wrong bytes were written, but got no name");
    assert_eq!(counts.done.into_inner(), files.len() - 1);
    assert_eq!(counts.problems.into_inner(), report.problems.len());
}

#[test]
fn two_pulls_into_one_target_keep_out_of_each_others_way() {
    let g = Ground::new();
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/f", b"f");
    let options = g.options();
    let refused = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&refused);
    let inner = g.options();
    m.on_read = Some(Box::new(move |_| {
        let mut other = Memory::default();
        other.dir("r");
        let second = run(&other, &inner);
        seen.store(matches!(second, Err(Error::Refused(_))), Ordering::Relaxed);
    }));
    restore(&m, &options);
    assert!(refused.load(Ordering::Relaxed));
}
