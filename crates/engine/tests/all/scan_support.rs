//! Roots, filters and trees for the tests of the scan.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::scan::{Filter, Found, Options, Problem, ScanRoot, Totals, Trouble, Verdict, scan};
use repo::Kind;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

/// What one scan handed over.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) found: Vec<Found>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) totals: Totals,
}

struct By<F>(F);

impl<F: Fn(&[u8], bool) -> Verdict + Send + Sync> Filter for By<F> {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        (self.0)(rel, is_dir)
    }

    fn max_file_size(&self) -> Option<u64> {
        None
    }
}

/// Takes everything, `*.db` as databases, with a size limit.
pub(crate) struct Limited(pub(crate) u64);

impl Filter for Limited {
    fn decide(&self, rel: &[u8], _: bool) -> Verdict {
        if rel.ends_with(b".db") { Verdict::Sqlite } else { Verdict::Include }
    }

    fn max_file_size(&self) -> Option<u64> {
        Some(self.0)
    }
}

pub(crate) fn by(
    decide: impl Fn(&[u8], bool) -> Verdict + Send + Sync + 'static,
) -> Arc<dyn Filter> {
    Arc::new(By(decide))
}

pub(crate) fn all() -> Arc<dyn Filter> {
    by(|_, _| Verdict::Include)
}

pub(crate) fn root(label: &str, dir: &Path, filter: Arc<dyn Filter>) -> ScanRoot {
    ScanRoot { label: label.to_owned(), dir: dir.to_path_buf(), files: None, filter }
}

pub(crate) fn run(roots: &[ScanRoot]) -> Outcome {
    run_with(roots, &Options::default())
}

pub(crate) fn run_with(roots: &[ScanRoot], options: &Options) -> Outcome {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let totals = scan(
        roots,
        options,
        &AtomicBool::new(false),
        &mut |entry| {
            found.push(entry);
            ControlFlow::Continue(())
        },
        &mut |problem| problems.push(problem),
    );
    Outcome { found, problems, totals: totals.unwrap() }
}

/// Scans a directory and does something to it when the first file is met.
pub(crate) fn run_and_meddle(dir: &Path, meddle: impl FnOnce()) -> Outcome {
    let mut outcome = Outcome::default();
    let mut meddle = Some(meddle);
    let totals = scan(
        &[root("l", dir, all())],
        &Options::default(),
        &AtomicBool::new(false),
        &mut |entry| {
            if entry.kind == Kind::File
                && let Some(meddle) = meddle.take()
            {
                meddle();
            }
            outcome.found.push(entry);
            ControlFlow::Continue(())
        },
        &mut |problem| outcome.problems.push(problem),
    );
    Outcome { totals: totals.unwrap(), ..outcome }
}

pub(crate) fn paths(outcome: &Outcome) -> Vec<&[u8]> {
    outcome.found.iter().map(|found| found.path.as_slice()).collect()
}

pub(crate) fn troubles(outcome: &Outcome) -> Vec<(&str, Trouble)> {
    outcome
        .problems
        .iter()
        .map(|problem| (std::str::from_utf8(&problem.path).unwrap(), problem.what))
        .collect()
}

/// Writes a file, with the directories on the way.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn make_fifo(path: &Path) {
    // The system call is not the same everywhere, the program is.
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Nested directories of one name with a file `end` in the last, made step by step, because the
/// path may be longer than a call takes.
pub(crate) fn make_chain(dir: &Path, name: &[u8], depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, dir, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, name, Mode::RWXU).unwrap();
        at = openat(&at, name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    openat(at.as_fd(), "end", flags, Mode::RUSR | Mode::WUSR).unwrap();
}

/// A chain of directories `d` with a file `z` beside each, which is only met on the way back.
pub(crate) fn chain_with_files(dir: &Path, depth: usize) {
    let mut at = dir.to_path_buf();
    for _ in 0..depth {
        write(&at.join("z"), b"x");
        at.push("d");
    }
    fs::create_dir_all(&at).unwrap();
}

/// Removes such a chain from the top, which needs neither long paths nor many descriptors.
pub(crate) fn remove_chain(dir: &Path, name: &str) {
    let (top, spare) = (dir.join(name), dir.join("spare"));
    while fs::rename(top.join(name), &spare).is_ok() {
        fs::remove_dir(&top).unwrap();
        fs::rename(&spare, &top).unwrap();
    }
    fs::remove_dir_all(&top).unwrap();
}

/// How many descriptors of this process are directories at or below a path.
#[cfg(target_os = "linux")]
pub(crate) fn open_below(dir: &Path) -> usize {
    let fds = fs::read_dir("/proc/self/fd").unwrap();
    fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter(|target| target.starts_with(dir))
        .count()
}
