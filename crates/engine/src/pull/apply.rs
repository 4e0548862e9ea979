//! Does what a plan says.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::bounded;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::error::{Error, Result, explain, is_full, show};
use super::fetch::{Budget, Fetcher};
use super::fields::Written;
use super::moves::Rewrite;
use super::moves::plan::MovePlan;
use super::plan::{Action, Base, Item, Plan, guard};
use super::source::Content;
use super::target::{Dir, Facts, Guard, Rules, Target};
use super::{Blank, Event, Monitor, Options, Problem, Report, commit, finish, write};

/// Finished files that wait for the commit; each holds an open file.
const WAITING_FILES_MAX: usize = 64;

/// Up to so many directories are synced one by one; beyond, with all else on the disk.
const FSYNC_DIRS_MAX: usize = 32;

/// One pull at work: what every stage shares.
pub(super) struct Run<'a> {
    pub(super) content: &'a dyn Content,
    pub(super) items: &'a [Item],
    pub(super) moves: Option<&'a MovePlan>,
    pub(super) targets: Vec<Target>,
    pub(super) guard: Guard,
    pub(super) options: &'a Options,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a AtomicBool,
    pub(super) rules: Rules,
    pub(super) fetcher: Fetcher<'a>,
    pub(super) budget: Budget,
    pub(super) pool: ThreadPool,
    pub(super) written_bytes: AtomicU64,
    pub(super) kept_bytes: AtomicU64,
    done: Vec<AtomicBool>,
    /// Files whose content is not what is stored, by item.
    written: Mutex<HashMap<usize, Written>>,
    report: Mutex<Report>,
    touched: Mutex<Touched>,
    stopped: AtomicBool,
    stop_reason: Mutex<Option<Error>>,
}

/// Does what a plan says. The plan must be of the same content and options.
pub fn apply(
    content: &dyn Content,
    plan: &Plan,
    options: &Options,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Report> {
    let targets = open_bases(&plan.bases)?;
    let workers = options.workers.clamp(1, 64);
    let pool = ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|n| format!("pull-{n}"))
        .build()
        .map_err(|error| {
            Error::target("start threads for", Path::new("pull"), io::Error::other(error))
        })?;
    let run = Run {
        content,
        items: &plan.items,
        moves: plan.moves.as_ref(),
        guard: guard(targets.iter()),
        targets,
        options,
        monitor,
        cancel,
        rules: Rules::new(options.owners, options.special_bits),
        fetcher: Fetcher::new(content),
        budget: Budget::new(write::IN_FLIGHT_BYTES),
        pool,
        written_bytes: AtomicU64::new(0),
        kept_bytes: AtomicU64::new(0),
        done: plan.items.iter().map(|_| AtomicBool::new(false)).collect(),
        written: Mutex::default(),
        report: Mutex::default(),
        touched: Mutex::default(),
        stopped: AtomicBool::new(false),
        stop_reason: Mutex::new(None),
    };
    monitor.event(Event::Planned(&plan.totals));
    run.tell_plan();
    let stages: [fn(&Run<'_>, &Plan); 6] = [
        |run, plan| finish::make_dirs(run, &plan.bases),
        |run, _| write_files(run),
        |run, _| finish::make_links(run),
        |run, _| finish::verify(run),
        |run, _| finish::delete(run),
        |run, _| finish::settle(run),
    ];
    for stage in stages {
        stage(&run, plan);
        run.ended()?;
    }
    run.sync()?;
    Ok(run.finish())
}

/// Opens every base, making it if need be, and keeps other pulls out.
fn open_bases(bases: &[Base]) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    for Base { path, .. } in bases {
        let target = Target::open(path, true)
            .and_then(|target| target.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|error| Error::target("open", path, error))?;
        let again = targets.iter().any(|other| other.id() == target.id());
        if !again && !target.lock() {
            let path = path.display();
            return Err(Error::Refused(format!("another pull is writing to {path}")));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// All files: writers write, one thread commits.
fn write_files(run: &Run<'_>) {
    let (out, finished) = bounded(WAITING_FILES_MAX);
    std::thread::scope(|scope| {
        scope.spawn(move || write::write_all(run, &out));
        commit::commit_all(run, &finished);
    });
}

impl Run<'_> {
    /// Is the run cancelled, or stopped by an error?
    pub(super) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.cancel.load(Ordering::Relaxed)
    }

    /// Stops everything; the first reason counts.
    pub(super) fn stop_with(&self, error: Error) {
        lock(&self.stop_reason).get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn ended(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match lock(&self.stop_reason).take() {
            Some(Error::Repo(repo::Error::Cancelled)) => Err(Error::Cancelled),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// An entry is restored.
    pub(super) fn done(&self, index: usize) {
        self.done[index].store(true, Ordering::Relaxed);
        let mut report = lock(&self.report);
        match self.items[index].action {
            Action::Create => report.created += 1,
            Action::Replace => report.replaced += 1,
            Action::Patch => {
                report.replaced += 1;
                report.patched += 1;
            }
            Action::Metadata => report.metadata += 1,
            Action::Leave => report.left += 1,
            Action::Delete => report.deleted += 1,
            Action::Skip(_) | Action::Refuse(_) => {}
        }
    }

    /// What is there is as it should be, though the plan did not know.
    pub(super) fn left(&self, index: usize) {
        self.done[index].store(true, Ordering::Relaxed);
        lock(&self.report).left += 1;
    }

    /// A move rewrote a file.
    pub(super) fn rewrote(&self, rewrite: Rewrite) {
        lock(&self.report).rewrites.push(rewrite);
    }

    pub(super) fn is_done(&self, index: usize) -> bool {
        self.done[index].load(Ordering::Relaxed)
    }

    pub(super) fn set_written(&self, index: usize, written: Written) {
        lock(&self.written).insert(index, written);
    }

    pub(super) fn written(&self, index: usize) -> Option<Written> {
        lock(&self.written).get(&index).copied().or(self.items[index].as_it_is)
    }

    /// An entry is not restored.
    pub(super) fn problem(&self, item: &Item, reason: String) {
        let problem = Problem { path: item.path.clone(), reason };
        self.monitor.event(Event::Problem(&problem));
        lock(&self.report).problems.push(problem);
    }

    /// An entry is not restored because of a local error; a full disk stops everything.
    pub(super) fn local(&self, item: &Item, error: io::Error) {
        if is_full(&error) {
            self.stop_with(Error::Full { path: show(&item.path), source: error });
        } else {
            self.problem(item, explain(&error));
        }
    }

    /// Something small was not restored.
    pub(super) fn notice(&self, item: &Item, reason: String) {
        let notice = Problem { path: item.path.clone(), reason };
        self.monitor.event(Event::Notice(&notice));
        lock(&self.report).notices.push(notice);
    }

    /// Fields of an entry have no value here.
    pub(super) fn blank(&self, item: &Item, fields: Vec<String>) {
        let mut report = lock(&self.report);
        match report.blanks.iter_mut().find(|blank| blank.path == item.path) {
            Some(blank) => blank.fields.extend(fields),
            None => report.blanks.push(Blank { path: item.path.clone(), fields }),
        }
    }

    /// Secrets of what was there are in what took its place.
    pub(super) fn kept_secrets(&self, count: u64) {
        lock(&self.report).secrets_kept += count;
    }

    /// Rows of the live database are in the restored one.
    pub(super) fn kept_rows(&self, count: u64) {
        lock(&self.report).rows_kept += count;
    }

    pub(super) fn count_verified(&self) {
        lock(&self.report).verified += 1;
    }

    /// Names in this directory, or its metadata, changed.
    pub(super) fn touched(&self, dir: &Dir) {
        if let Ok(facts) = Facts::of(dir) {
            lock(&self.touched).add(facts.id, dir);
        }
    }

    /// The metadata of an open file changed.
    pub(super) fn touched_file(&self, file: &File, dir: &Dir) -> io::Result<()> {
        self.touched(dir);
        if cfg!(target_os = "linux") && !lock(&self.touched).is_one_by_one() {
            return Ok(()); // the syncfs at the end covers it
        }
        file.sync_all()
    }

    /// Makes names, links and metadata durable.
    fn sync(&self) -> Result<()> {
        let synced = lock(&self.touched).sync();
        synced.map_err(|error| Error::target("sync", Path::new("the target"), error))
    }

    /// Reports what the plan already knows: refused, skipped, left.
    fn tell_plan(&self) {
        for (index, item) in self.items.iter().enumerate() {
            match &item.action {
                Action::Refuse(reason) => self.problem(item, reason.clone()),
                Action::Skip(reason) => {
                    let path = item.path.clone();
                    lock(&self.report).skipped.push(Problem { path, reason: reason.clone() });
                }
                Action::Leave => self.done(index),
                _ => {}
            }
        }
    }

    fn finish(self) -> Report {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.rewrites.sort_by(|a, b| a.path.cmp(&b.path));
        report.bytes_written = self.written_bytes.into_inner();
        report.bytes_kept = self.kept_bytes.into_inner();
        report.bytes_fetched = self.fetcher.fetched_bytes();
        report
    }
}

/// Directories that must be durable before the pull has succeeded.
#[derive(Debug, Default)]
struct Touched {
    /// By device and inode; complete only up to [`FSYNC_DIRS_MAX`] on Linux.
    dirs: HashMap<(u64, u64), Dir>,
    /// One directory of each device.
    devices: HashMap<u64, Dir>,
}

impl Touched {
    fn add(&mut self, id: (u64, u64), dir: &Dir) {
        self.devices.entry(id.0).or_insert_with(|| Dir::clone(dir));
        if self.is_one_by_one() {
            self.dirs.entry(id).or_insert_with(|| Dir::clone(dir));
        } else if !cfg!(target_os = "linux") {
            // No syncfs here: make room by syncing what is known.
            for (_, dir) in self.dirs.drain() {
                if let Err(error) = rustix::fs::fsync(dir) {
                    tracing::warn!(%error, "sync of a directory");
                }
            }
            self.dirs.insert(id, Dir::clone(dir));
        }
    }

    fn is_one_by_one(&self) -> bool {
        self.dirs.len() < FSYNC_DIRS_MAX
    }

    fn sync(&self) -> rustix::io::Result<()> {
        #[cfg(target_os = "linux")]
        if !self.is_one_by_one() {
            return self.devices.values().try_for_each(rustix::fs::syncfs);
        }
        self.dirs.values().try_for_each(rustix::fs::fsync)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
