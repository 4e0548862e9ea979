//! The writer below a target against planted links, odd names, kinds in the way, and races.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::remove::Removed;
use super::*;

struct Place {
    _hold: tempfile::TempDir,
    inside: std::path::PathBuf,
    outside: std::path::PathBuf,
}

fn place() -> Place {
    let hold = tempfile::tempdir().unwrap();
    let (inside, outside) = (hold.path().join("in"), hold.path().join("out"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("sentinel"), "untouched").unwrap();
    Place { _hold: hold, inside, outside }
}

fn open(path: &Path) -> Target {
    Target::open(path, false).unwrap().unwrap()
}

fn rel(path: &str) -> Rel {
    Rel::check(path.as_bytes()).unwrap()
}

fn listing(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write(target: &Target, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = rel(path);
    let (dir, name) = target.place(&path)?;
    let (temp, mut file) = Temp::file(&dir)?;
    file.write_all(bytes)?;
    temp.rename(name, Over::Anything)
}

#[test]
fn names_that_mean_another_place_are_refused() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(4096) + "d";
    for bad in [
        "/",
        "/etc/passwd",
        "a//b",
        "a/",
        ".",
        "..",
        "a/..",
        "../a",
        "a/../b",
        "./a",
        "a/./b",
        "a\0b",
        "a/b\0",
        &long,
        &deep,
    ] {
        assert!(Rel::check(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let fits = "x".repeat(255);
    for good in ["", "a", "..a", "a..", "...", "a/b", " ", "-rf", "a\n", "~", "\\..\\x", &fits] {
        assert!(Rel::check(good.as_bytes()).is_ok(), "{good:?}");
    }
    assert!(Rel::check(b"\xff\xfe").is_ok(), "names are bytes");
}

#[test]
fn a_planted_link_to_a_directory_is_never_entered() {
    let p = place();
    symlink(&p.outside, p.inside.join("link")).unwrap();
    fs::create_dir(p.inside.join("real")).unwrap();
    symlink("../../out", p.inside.join("real/up")).unwrap();
    symlink("/proc/self/cwd", p.inside.join("magic")).unwrap();
    let target = open(&p.inside);
    for path in ["link/new", "real/up/new", "link/sentinel", "magic/x", "link/a/b"] {
        assert!(write(&target, path, b"evil").is_err(), "{path}");
        assert!(target.open_file(&rel(path)).is_err(), "{path}");
    }
    assert!(target.make_dir(&rel("link/sub"), true).is_err());
    assert!(target.make_dir(&rel("link"), false).is_err(), "a link is no directory");
    assert!(target.make_dirs(&rel("link/a/b")).is_err());
    assert_eq!(listing(&p.outside), ["sentinel"]);
}

#[test]
fn a_link_at_a_directorys_place_is_unlinked_itself_when_told() {
    let p = place();
    symlink(&p.outside, p.inside.join("d")).unwrap();
    fs::write(p.inside.join("e"), "a file").unwrap();
    let target = open(&p.inside);
    assert!(target.make_dir(&rel("d"), true).unwrap());
    assert!(target.make_dir(&rel("e"), true).unwrap());
    write(&target, "d/new", b"x").unwrap();
    assert!(fs::symlink_metadata(p.inside.join("d")).unwrap().is_dir());
    assert_eq!(listing(&p.outside), ["sentinel"]);
    let mode = fs::metadata(p.inside.join("d")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700, "closed until its own mode is set");
}

#[test]
fn a_link_at_a_files_place_is_replaced_and_its_goal_untouched() {
    let p = place();
    symlink(p.outside.join("sentinel"), p.inside.join("f")).unwrap();
    let target = open(&p.inside);
    assert!(target.open_file(&rel("f")).is_err(), "a link is not read through");
    write(&target, "f", b"mine").unwrap();
    assert!(fs::symlink_metadata(p.inside.join("f")).unwrap().is_file());
    assert_eq!(fs::read(p.inside.join("f")).unwrap(), b"mine");
    assert_eq!(fs::read(p.outside.join("sentinel")).unwrap(), b"untouched");
}

#[test]
fn a_temporary_file_is_private_and_vanishes_unless_renamed() {
    let p = place();
    let target = open(&p.inside);
    let (temp, mut file) = Temp::file(target.root()).unwrap();
    file.write_all(b"half").unwrap();
    let names = listing(&p.inside);
    assert!(is_temp_name(names[0].as_bytes()), "{names:?}");
    let mode = fs::metadata(p.inside.join(&names[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(temp);
    assert!(listing(&p.inside).is_empty());
}

#[test]
fn what_appeared_since_the_plan_is_not_overwritten() {
    let p = place();
    let target = open(&p.inside);
    let (temp, _file) = Temp::file(target.root()).unwrap();
    fs::write(p.inside.join("f"), "newcomer").unwrap();
    let error = temp.rename(b"f", Over::Nothing).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(p.inside.join("f")).unwrap(), b"newcomer");
    assert_eq!(listing(&p.inside), ["f"]);
}

#[test]
fn a_second_name_over_another_name_of_the_same_file_leaves_no_temp() {
    let p = place();
    fs::write(p.inside.join("a"), "x").unwrap();
    fs::hard_link(p.inside.join("a"), p.inside.join("b")).unwrap();
    let target = open(&p.inside);
    let temp = Temp::hard_link(target.root(), target.root(), b"a").unwrap();
    temp.rename(b"b", Over::Anything).unwrap();
    assert_eq!(listing(&p.inside), ["a", "b"]);
}

#[test]
fn stale_temps_go_and_lookalikes_stay() {
    let p = place();
    fs::write(p.inside.join(".agent-backup-tmp-0123456789abcdef"), "old").unwrap();
    fs::write(p.inside.join(".agent-backup-tmp-0123456789abcdeg"), "not ours").unwrap();
    fs::write(p.inside.join(".agent-backup-tmp-"), "not ours").unwrap();
    let link = p.inside.join(".agent-backup-tmp-00000000000000aa");
    symlink(p.outside.join("sentinel"), link).unwrap();
    let target = open(&p.inside);
    assert_eq!(Target::remove_stale_temps(target.root()).unwrap(), 2);
    assert_eq!(listing(&p.inside), [".agent-backup-tmp-", ".agent-backup-tmp-0123456789abcdeg"]);
    assert_eq!(listing(&p.outside), ["sentinel"]);
}

#[test]
fn removal_unlinks_links_and_spares_guarded_directories() {
    let p = place();
    fs::create_dir_all(p.inside.join("x/y/base")).unwrap();
    fs::write(p.inside.join("x/y/f"), "f").unwrap();
    fs::write(p.inside.join("x/y/base/keep"), "k").unwrap();
    symlink(&p.outside, p.inside.join("x/out")).unwrap();
    let target = open(&p.inside);
    let base = fs::metadata(p.inside.join("x/y/base")).unwrap();
    let guard = Guard::from([(base.dev(), base.ino())]);
    let removed = remove_tree(target.root().as_fd(), b"x", &guard).unwrap();
    assert_eq!(removed, Removed { count: 2, kept: true });
    assert_eq!(fs::read(p.inside.join("x/y/base/keep")).unwrap(), b"k");
    assert_eq!(listing(&p.outside), ["sentinel"]);
    let removed = remove_tree(target.root().as_fd(), b"x", &Guard::new()).unwrap();
    assert_eq!(removed, Removed { count: 4, kept: false });
    assert!(listing(&p.inside).is_empty());
}

#[test]
fn a_fifo_in_a_files_place_does_not_block_the_pull() {
    let p = place();
    let target = open(&p.inside);
    Temp::fifo(target.root()).unwrap().rename(b"pipe", Over::Nothing).unwrap();
    assert_eq!(target.facts(&rel("pipe")).unwrap().unwrap().found, Found::Fifo);
    assert!(target.open_file(&rel("pipe")).is_err());
}

#[test]
fn many_directories_do_not_exhaust_descriptors() {
    let p = place();
    let target = open(&p.inside);
    for n in 0..DIRS_OPEN_MAX * 3 {
        target.make_dirs(&rel(&format!("d{n}/e"))).unwrap();
        write(&target, &format!("d{n}/e/f"), b"x").unwrap();
    }
    assert!(target.cache().open.len() <= DIRS_OPEN_MAX);
    write(&target, "d0/e/g", b"y").unwrap();
}

#[test]
fn a_second_pull_in_the_same_base_is_kept_out() {
    let p = place();
    let (first, second) = (open(&p.inside), open(&p.inside));
    assert!(first.lock());
    assert!(!second.lock());
    drop(first);
    assert!(second.lock());
}

/// Somebody swaps a directory for a link to the outside, back and forth, while we write.
#[test]
fn a_racing_swap_of_directory_and_link_never_leads_outside() {
    let p = place();
    let (dir, link) = (p.inside.join("d"), p.inside.join("l"));
    fs::create_dir(&dir).unwrap();
    symlink(&p.outside, &link).unwrap();
    let stop = AtomicBool::new(false);
    let (mut wrote, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = rustix::fs::open(&p.inside, OFlags::PATH, Mode::empty()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "d", &root, "l", exchange).unwrap();
            }
        });
        for n in 0..5_000 {
            // A fresh target each time: no directory is open yet, so each try resolves again.
            let target = open(&p.inside);
            match write(&target, &format!("d/f{}", n % 50), b"x") {
                Ok(()) => wrote += 1,
                Err(_) => refused += 1,
            }
            let _ = target.make_dirs(&rel("d/sub/deep"));
            let _ = remove_tree(target.root().as_fd(), b"d/sub", &Guard::new());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(listing(&p.outside), ["sentinel"]);
    assert!(wrote > 0 && refused > 0, "the race was run: {wrote} wrote, {refused} refused");
}
