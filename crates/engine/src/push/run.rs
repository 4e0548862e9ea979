//! One run of the pipeline under an announced operation: scan, readers, sealers, collector,
//! uploaders. First error wins; everybody else stops.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use adapters::RowRule;
use chunker::{Cutter, Gear, Sizes};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use repo::{
    Entry, GroupRecord, Index, Kind, OpId, Operation, PushStats, Repository, TreeRoot, flag,
};

use super::blocks::{Dedup, Permits};
use super::collect::{Collected, Collector, Item, Message};
use super::database::{SHARED_MEMORY, Sniffed, is_shared_memory, sniff};
use super::fates::{Bond, Fates};
use super::fields::Fields;
use super::members::{self, Meeting, Members};
use super::reader::{Context, FileReader, Job, Work, os_path};
use super::rows::{NewRows, Row, Rows};
use super::stand_in::StandIns;
use super::suspects::Watch;
use super::upload::Uploads;
use super::{PushOptions, PushRoot};
use crate::capture::scratch::Scratch;
use crate::capture::sqlite;
use crate::error::{Error, Result};
use crate::gone;
use crate::marks::Marking;
use crate::monitor::{Monitor, Problem, Progress};
use crate::scan::{self, Found, Owners, ScanRoot, SourceRoot, Stat};
use crate::session::Session;

/// What a run made.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) tree: TreeRoot,
    /// The tree without what is gone.
    pub(super) live: TreeRoot,
    pub(super) gone: gone::Settled,
    pub(super) stats: PushStats,
    pub(super) rows: NewRows,
    pub(super) groups: Vec<GroupRecord>,
    /// Databases that are stored damaged, sorted.
    pub(super) damaged: Vec<Vec<u8>>,
}

/// What a run looks for of what was there before.
#[derive(Debug, Clone, Copy)]
pub(super) enum Earlier {
    /// What vanished since the snapshots before is kept; this machine's newest one, if it is known.
    Snapshots(Option<OpId>),
    /// Nothing: the run makes no snapshot.
    Nothing,
}

/// What the scan makes of an entry.
pub(super) enum Decide {
    /// It has no content.
    Ready(Box<Entry>),
    /// It is what it was.
    Same(Box<Row>),
    /// It must be read; its row before, if there is one.
    Read(Option<Box<Row>>),
}

/// Decides what to do with an entry.
pub(super) fn decide(
    found: &Found,
    row: Option<Row>,
    roots: &[ScanRoot],
    marking: Option<&Marking>,
    owners: &mut Owners,
) -> Decide {
    if found.kind != Kind::File || found.link.is_some() {
        return Decide::Ready(Box::new(scan::entry_metadata(found, owners)));
    }
    if found.stat.size == 0 && row.is_none() {
        return Decide::Read(None);
    }
    let log = row.as_ref().filter(|row| row.entry.flags & flag::SQLITE != 0).and_then(|_| {
        let root = &roots[found.root];
        let path = sqlite::side_file(&root.dir.join(os_path(found.rel(root))), "-wal");
        std::fs::symlink_metadata(path).ok().map(|m| Stat::of_metadata(&m))
    });
    match row {
        Some(row)
            if row.is_current(&found.stat, log.as_ref())
                && row.has_rules(&row_rules(found, roots))
                && row.has_fields(field_rules(found, roots).as_ref())
                && row.has_marking(marking) =>
        {
            Decide::Same(Box::new(row))
        }
        row => Decide::Read(row.map(Box::new)),
    }
}

/// What of a file's rows is left out.
fn row_rules(found: &Found, roots: &[ScanRoot]) -> Vec<Arc<RowRule>> {
    let root = &roots[found.root];
    if found.kind == Kind::File { root.filter.row_rules(found.rel(root)) } else { Vec::new() }
}

/// What of a file's fields is left out.
fn field_rules(found: &Found, roots: &[ScanRoot]) -> Option<Fields> {
    let root = &roots[found.root];
    let rules =
        if found.kind == Kind::File { root.filter.field_rules(found.rel(root)) } else { None };
    rules.map(|rules| Fields::of(&rules))
}

/// A side file has rows too: none is stored beside a database with row rules, whatever becomes of
/// that.
pub(super) fn has_ruled_rows(found: &Found, roots: &[ScanRoot]) -> bool {
    let root = &roots[found.root];
    let rel = found.rel(root);
    SIDE_FILES.iter().any(|suffix| {
        let base = rel.strip_suffix(suffix.as_bytes());
        base.is_some_and(|base| !root.filter.row_rules(base).is_empty())
    })
}

/// A further name with rules is no link: what the first name has was stored under its own rules.
pub(super) fn part_names(found: &mut Found, roots: &[ScanRoot]) {
    let ruled = || !row_rules(found, roots).is_empty() || field_rules(found, roots).is_some();
    if found.link.is_some() && ruled() {
        found.link = None;
    }
}

/// What is known of a database when its side files come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Captured {
    /// It is an image: its side files are part of it.
    Image,
    /// It was copied as it lay, and means nothing without its log and journal.
    Raw,
    /// A reader is at it.
    Pending,
}

/// Databases met so far, and those that are members of groups. Their side files come later.
#[derive(Debug, Default)]
pub(super) struct Companions {
    databases: HashMap<Vec<u8>, Captured>,
}

impl Companions {
    /// Remembers a database by the flags of its entry.
    pub(super) fn note(&mut self, path: &[u8], flags: u32) {
        if flags & flag::SQLITE != 0 {
            self.databases.insert(path.to_vec(), Captured::Image);
        } else if flags & flag::SQLITE_RAW != 0 {
            self.databases.insert(path.to_vec(), Captured::Raw);
        }
    }

    /// Remembers a database that a reader gets.
    pub(super) fn pending(&mut self, path: &[u8]) {
        self.databases.insert(path.to_vec(), Captured::Pending);
    }

    /// The database this is a side file of.
    fn database<'p>(&self, found: &'p Found) -> Option<(&'p [u8], Captured)> {
        if found.kind == Kind::File { self.base(&found.path) } else { None }
    }

    fn base<'p>(&self, path: &'p [u8]) -> Option<(&'p [u8], Captured)> {
        SIDE_FILES.iter().find_map(|suffix| {
            let base = path.strip_suffix(suffix.as_bytes())?;
            Some((base, *self.databases.get(base)?))
        })
    }

    /// Side files of a live database come and go: one that vanished is no problem.
    pub(super) fn expects(&self, problem: &scan::Problem) -> bool {
        matches!(problem.what, scan::Trouble::Vanished) && self.base(&problem.path).is_some()
    }

    /// True for side files that are left out of the snapshot. Shared memory is rebuilt from the log.
    pub(super) fn is_left_out(&self, found: &Found) -> bool {
        self.database(found).is_some_and(|(_, captured)| {
            captured == Captured::Image || is_shared_memory(&found.path)
        })
    }
}

/// Suffixes of the files SQLite keeps beside a database.
pub(super) const SIDE_FILES: [&str; 3] = ["-wal", SHARED_MEMORY, "-journal"];

/// The directory of a root of named files: it is not ours to describe.
pub(super) fn is_bare_root(found: &Found, roots: &[ScanRoot]) -> bool {
    roots[found.root].files.is_some() && found.rel(&roots[found.root]).is_empty()
}

/// Counts shared by all threads of a run.
#[derive(Debug, Default)]
struct Counts {
    files_found: AtomicU64,
    bytes_found: AtomicU64,
    bytes_same: AtomicU64,
    scanned: AtomicBool,
    emitted: AtomicU64,
    bytes_read: AtomicU64,
    files_read: AtomicU64,
    bytes_new: AtomicU64,
    problems: AtomicU64,
    changed: AtomicU64,
}

/// Lets the scan wait until entries have left for the tree.
#[derive(Debug, Default)]
struct Window {
    emitted: Mutex<u64>,
    moved: Condvar,
}

impl Window {
    fn wait_for_room(&self, place: u64, room: u64, stop: &AtomicBool) {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        while place >= *emitted + room && !stop.load(Ordering::Relaxed) {
            let wait = std::time::Duration::from_millis(100);
            emitted =
                self.moved.wait_timeout(emitted, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn set(&self, emitted: u64) {
        *self.emitted.lock().unwrap_or_else(PoisonError::into_inner) = emitted;
        self.moved.notify_all();
    }
}

fn cutter(repo: &Repository) -> Result<Cutter> {
    let params = repo.config().params;
    let sizes = Sizes::new(params.chunk_bytes_min, params.chunk_bytes_avg, params.chunk_bytes_max)
        .map_err(|e| repo::Error::Refused { reason: format!("sizes in config: {e}") })?;
    Ok(Cutter::new(sizes, Arc::new(Gear::derive(&repo.keys().chunker_key(), &sizes))))
}

fn sealers(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("seal-{n}"))
        .build()
        .map_err(|e| Error::local("start", "threads", std::io::Error::other(e)))
}

/// Runs the pipeline.
#[expect(clippy::too_many_lines, reason = "the stages and who talks to whom, on one page")]
pub(super) fn run(
    session: &Session,
    op: &Operation<'_>,
    roots: &[PushRoot],
    options: &PushOptions,
    earlier: Earlier,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Run> {
    let index = Arc::new(op.survey(session.cache.as_ref())?.index);
    let repo = &session.repo;
    let params = repo.config().params;
    let cutter = cutter(repo)?;
    let scan_roots: Vec<ScanRoot> = roots.iter().map(|r| r.scan.clone()).collect();
    let dirs: Vec<PathBuf> = scan_roots.iter().map(|r| r.dir.clone()).collect();
    // a root that cannot be opened is reported by the scan; the others go on
    let sources: Vec<Option<SourceRoot>> =
        dirs.iter().map(|dir| SourceRoot::open_dir(dir).ok()).collect();
    let pool = sealers(options.sealers)?;
    let scratch = session.state.captures();
    let scratch =
        Scratch::create(scratch.clone()).map_err(|e| Error::local("make", &scratch, e))?;
    let permits = Arc::new(Permits::new(options.sealers + 1));
    let (out, messages) = unbounded();
    let (send_pack, packs) = bounded(0); // a pack is large: none waits between
    let (counts, window, stop) = (Counts::default(), Window::default(), AtomicBool::new(false));
    let problem = |problem: Problem| {
        counts.problems.fetch_add(u64::from(!problem.notice), Ordering::Relaxed);
        monitor.problem(&problem);
    };
    let marking = options.marking(session);
    let dedup =
        Dedup::new(repo.clone(), index.clone(), permits.clone(), Arc::new(pool), out.clone());
    let uploads = Uploads::new(session, op);
    let stand_ins = StandIns::new(session, earlier, &scan_roots, &index);
    let watched = match earlier {
        Earlier::Snapshots(previous) => Some(gone::Watch::new(
            session,
            op.id(),
            previous,
            roots,
            &options.gone,
            &options.scan.ignore_file,
            &problem,
        )?),
        Earlier::Nothing => None,
    };
    let (fates, members) = (Fates::default(), Members::default());
    let watch = (options.suspect_bytes > 0 || options.redact_secrets)
        .then(|| Watch::new(options.suspect_bytes, options.ignored.clone()));
    let context = Context {
        dedup: &dedup,
        fates: &fates,
        members: &members,
        roots: &sources,
        dirs: &dirs,
        cutter: &cutter,
        watch: watch.as_ref(),
        marking: marking.as_ref(),
        stand_in: &|root, path, fits| stand_ins.entry(root, path, fits),
        clock: session.clock.clone(),
        database_wait: options.database_wait,
        check_databases: options.check_databases.then_some(options.check_wait),
        check_wait: options.check_wait,
        scratch: scratch.path(),
        out: out.clone(),
        stop: &stop,
        bytes_read: &counts.bytes_read,
        files_read: &counts.files_read,
        bytes_new: &counts.bytes_new,
        problem: &problem,
        reading: &|path| monitor.reading(path),
        held: &|time| monitor.held(time),
        groups: &|path| session.cache.as_ref()?.groups(path),
    };
    let tell = || monitor.progress(&counts.progress(&uploads));
    let collected = std::thread::scope(|scope| {
        let (send_job, jobs) = bounded::<Work>(256);
        for _ in 0..options.readers {
            let (context, jobs) = (&context, jobs.clone());
            scope.spawn(move || {
                FileReader::new(context, params.block_bytes_data, params.block_bytes_pages)
                    .run(&jobs);
            });
        }
        drop(jobs);
        let mut uploaders = Vec::new();
        for _ in 0..options.uploads {
            let (uploads, packs, out) = (&uploads, packs.clone(), out.clone());
            uploaders.push(scope.spawn(move || uploads.run(&packs, &out)));
        }
        drop(packs);
        let collector =
            Collector::new(session, op, index.clone(), permits.clone(), send_pack, watched);
        let (window, counts, stop, permits) = (&window, &counts, &stop, &permits);
        let tell = &tell;
        let messages_of_collector = messages.clone();
        let collecting = scope.spawn(move || {
            let result = collector.run(
                &messages_of_collector,
                &|emitted| {
                    window.set(emitted);
                    counts.emitted.store(emitted, Ordering::Relaxed);
                    tell();
                },
                cancel,
            );
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
                permits.close();
            }
            result
        });
        let scanning = Scanning {
            session,
            roots: &scan_roots,
            sources: &sources,
            options,
            marking: marking.as_deref(),
            cancel,
            stop,
            out: &out,
            jobs: send_job,
            index: &index,
            window,
            counts,
            fates: &fates,
            members: &members,
            problem: &problem,
        };
        let scanned = scope.spawn(move || scanning.run(scope)).join();
        if let Err(e) = scanned.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            drop(out.send(Message::Failed(e)));
        }
        let collected = collecting.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        for uploader in uploaders {
            uploader.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        }
        first_error(collected, &messages)
    })?;
    drop(context);
    uploads.finish()?;
    tell();
    if let Some(watch) = watch {
        monitor.suspects(&watch.finish());
    }
    let Collected { tree, live, gone, rows, damaged } = collected;
    let stats = PushStats {
        entries: live.entries,
        bytes: live.bytes,
        gone_entries: tree.entries - live.entries,
        gone_bytes: tree.bytes - live.bytes,
        files_read: counts.files_read.load(Ordering::Relaxed),
        bytes_read: counts.bytes_read.load(Ordering::Relaxed),
        bytes_new: counts.bytes_new.load(Ordering::Relaxed),
        bytes_stored: uploads.bytes_stored.load(Ordering::Relaxed),
        problems: counts.problems.load(Ordering::Relaxed),
        entries_changed: counts.changed.load(Ordering::Relaxed),
    };
    Ok(Run { tree, live, gone, stats, rows, groups: members.finish(&problem), damaged })
}

/// An uploader's error explains why the collector was stopped; it may still be in the queue.
fn first_error(collected: Result<Collected>, messages: &Receiver<Message>) -> Result<Collected> {
    let failure = messages.try_iter().find_map(|m| match m {
        Message::Failed(e) => Some(e),
        _ => None,
    });
    match (collected, failure) {
        (Err(Error::Cancelled) | Ok(_), Some(e)) => Err(e),
        (collected, _) => collected,
    }
}

impl Counts {
    fn progress(&self, uploads: &Uploads<'_>) -> Progress {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Progress {
            files_found: load(&self.files_found),
            bytes_found: load(&self.bytes_found),
            scanned: self.scanned.load(Ordering::Relaxed),
            files_done: load(&self.emitted),
            bytes_done: load(&self.bytes_same) + load(&self.bytes_read),
            bytes_stored: load(&uploads.bytes_stored),
        }
    }
}

/// A stage that nobody listens to has nothing more to do.
fn flow(sent: bool) -> ControlFlow<()> {
    if sent { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// The scan of a run.
struct Scanning<'a> {
    session: &'a Session,
    roots: &'a [ScanRoot],
    sources: &'a [Option<SourceRoot>],
    options: &'a PushOptions,
    marking: Option<&'a Marking>,
    cancel: &'a AtomicBool,
    stop: &'a AtomicBool,
    out: &'a Sender<Message>,
    jobs: Sender<Work>,
    index: &'a Index,
    window: &'a Window,
    counts: &'a Counts,
    fates: &'a Fates,
    members: &'a Members,
    problem: &'a (dyn Fn(Problem) + Sync),
}

impl<'a> Scanning<'a> {
    fn run<'scope>(self, scope: &'scope std::thread::Scope<'scope, '_>) -> Result<()>
    where
        'a: 'scope,
    {
        let (mut owners, mut companions) = (Owners::new(), Companions::default());
        if !self.groups(&mut owners, &mut companions)? {
            return Ok(());
        }
        let companions = RefCell::new(companions);
        let mut rows = Rows::start(scope, self.session, self.options.reread);
        let mut place = 0;
        let scanned = scan::scan(
            self.roots,
            &self.options.scan,
            self.cancel,
            &mut |mut found| {
                part_names(&mut found, self.roots);
                let companions = &mut *companions.borrow_mut();
                if companions.is_left_out(&found) || has_ruled_rows(&found, self.roots) {
                    self.lost(&found);
                    return ControlFlow::Continue(());
                }
                if is_bare_root(&found, self.roots) {
                    return ControlFlow::Continue(());
                }
                self.window.wait_for_room(place, self.options.window, self.stop);
                place += 1;
                if let Some(flow) = self.member(place - 1, &found) {
                    return flow;
                }
                let row = rows.find(&found.path);
                self.entry(place - 1, found, row, &mut owners, companions)
            },
            &mut |p| {
                if companions.borrow().expects(&p) {
                    return;
                }
                let (what, notice) = (p.to_string(), p.is_notice());
                (self.problem)(Problem { path: p.path, what, notice });
            },
        );
        match scanned {
            Ok(_) if self.stop.load(Ordering::Relaxed) => Ok(()), // the collector says why
            Ok(_) => {
                self.counts.scanned.store(true, Ordering::Relaxed);
                drop(self.out.send(Message::Scanned(place)));
                Ok(())
            }
            Err(scan::Error::Cancelled) => {
                self.stop.store(true, Ordering::Relaxed);
                Err(Error::Cancelled)
            }
            Err(e) => {
                self.stop.store(true, Ordering::Relaxed);
                Err(e.into())
            }
        }
    }

    /// Sends the groups to the readers, ahead of everything else; false if nobody listens. They are
    /// looked for by themselves, so that a group never waits for the scan to come by its members,
    /// and the scan, whose window is small, never for a group that waits for it.
    fn groups(&self, owners: &mut Owners, companions: &mut Companions) -> Result<bool> {
        let found = members::find(self.roots, &self.options.scan, self.cancel, self.problem)
            .inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
        for (name, found) in found {
            let mut jobs = Vec::with_capacity(found.len());
            for found in found {
                let row = self.row(&found.path);
                let (old, same) = match decide(&found, row, self.roots, self.marking, owners) {
                    Decide::Same(row) if self.is_reusable(&row) => (Some(row), true),
                    Decide::Same(row) | Decide::Read(Some(row)) => (Some(row), false),
                    Decide::Read(None) | Decide::Ready(_) => (None, false),
                };
                let flags = old.as_ref().map_or(0, |row| row.entry.flags);
                let sqlite = if same {
                    flags & flag::SQLITE != 0
                } else {
                    field_rules(&found, self.roots).is_none()
                        && self.is_database(
                            &found,
                            old.as_deref(),
                            row_rules(&found, self.roots).is_empty(),
                        )
                };
                if same {
                    companions.note(&found.path, flags);
                } else if sqlite {
                    companions.pending(&found.path);
                    self.fates.announce(Bond::Database, &found.path);
                }
                jobs.push((self.job(0, found, old, sqlite, None, owners), same));
            }
            let group = self.members.group(name, jobs);
            if self.jobs.send(Work::Group(group)).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The row of a file out of turn.
    fn row(&self, path: &[u8]) -> Option<Row> {
        let cache = self.session.cache.as_ref().filter(|_| !self.options.reread)?;
        Row::decode(&cache.file(self.session.repo.keys(), path)?)
    }

    /// All blocks of the row may be named again.
    fn is_reusable(&self, row: &Row) -> bool {
        row.blocks().is_some_and(|b| b.iter().all(|id| self.index.get(id).is_some()))
    }

    /// Tells a member its place, and sends it on if it is captured already. `None` if it is none.
    fn member(&self, place: u64, found: &Found) -> Option<ControlFlow<()>> {
        let (changed, message) = match self.members.meet(found, place, self.roots) {
            Meeting::Stranger => return None,
            Meeting::Member { changed, message } => (changed, message),
        };
        self.lost(found); // a further name that it got meanwhile is read by itself
        self.counts.files_found.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes_found.fetch_add(found.stat.size, Ordering::Relaxed);
        self.counts.changed.fetch_add(u64::from(changed), Ordering::Relaxed);
        let same = if changed { 0 } else { found.stat.size };
        self.counts.bytes_same.fetch_add(same, Ordering::Relaxed);
        Some(flow(message.is_none_or(|message| self.out.send(message).is_ok())))
    }

    /// A file that is left out: further names of it must be read by themselves.
    fn lost(&self, found: &Found) {
        if found.kind == Kind::File && found.stat.nlink > 1 {
            self.fates.announce(Bond::Name, &found.path);
            self.fates.settle(Bond::Name, &found.path, false);
        }
    }

    /// What the entry depends on, if a reader has not told yet how that ended, or that it is lost.
    fn bond(&self, found: &Found, companions: &Companions) -> Option<(Bond, Vec<u8>)> {
        if let Some(first) = &found.link {
            return self.fates.knows(Bond::Name, first).then(|| (Bond::Name, first.clone()));
        }
        match companions.database(found) {
            Some((base, Captured::Pending)) => Some((Bond::Database, base.to_vec())),
            _ => None,
        }
    }

    fn entry(
        &self,
        place: u64,
        found: Found,
        row: Option<Row>,
        owners: &mut Owners,
        companions: &mut Companions,
    ) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        self.counts.files_found.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes_found.fetch_add(found.stat.size, Ordering::Relaxed);
        let bond = self.bond(&found, companions);
        let old = match decide(&found, row, self.roots, self.marking, owners) {
            Decide::Ready(entry) if bond.is_none() => return self.ready(place, found.path, *entry),
            Decide::Ready(_) => None,
            // unchanged, and all it needs may be reused
            Decide::Same(row) if bond.is_none() && self.is_reusable(&row) => {
                companions.note(&found.path, row.entry.flags);
                self.counts.bytes_same.fetch_add(found.stat.size, Ordering::Relaxed);
                return self.ready(place, found.path, row.entry);
            }
            Decide::Same(row) => Some(row),
            Decide::Read(row) => row,
        };
        self.counts.changed.fetch_add(1, Ordering::Relaxed);
        let ruled = !row_rules(&found, self.roots).is_empty();
        // a file with field rules is text or not stored
        let is_text = field_rules(&found, self.roots).is_some();
        let sqlite = bond.is_none() && !is_text && self.is_database(&found, old.as_deref(), !ruled);
        if sqlite {
            companions.pending(&found.path);
            self.fates.announce(Bond::Database, &found.path);
        }
        if found.link.is_none() && found.stat.nlink > 1 {
            self.fates.announce(Bond::Name, &found.path);
        }
        let job = self.job(place, found, old, sqlite, bond, owners);
        flow(self.jobs.send(Work::File(Box::new(job))).is_ok())
    }

    fn job(
        &self,
        place: u64,
        found: Found,
        old: Option<Box<Row>>,
        sqlite: bool,
        bond: Option<(Bond, Vec<u8>)>,
        owners: &mut Owners,
    ) -> Job {
        Job {
            place,
            rel: found.rel(&self.roots[found.root]).to_vec(),
            root: found.root,
            stat: found.stat,
            entry: scan::entry_metadata(&found, owners),
            rules: row_rules(&found, self.roots),
            fields: field_rules(&found, self.roots),
            path: found.path,
            old,
            sqlite,
            bond,
        }
    }

    fn ready(&self, place: u64, path: Vec<u8>, entry: Entry) -> ControlFlow<()> {
        let item = Box::new(Item::Ready(path, entry));
        flow(self.out.send(Message::Entry(place, item)).is_ok())
    }

    /// `any`: what is no database is stored too. One that cannot be opened is what it was.
    fn is_database(&self, found: &Found, old: Option<&Row>, any: bool) -> bool {
        let rel = found.rel(&self.roots[found.root]);
        let sniffed = sniff(self.sources[found.root].as_ref(), found, rel);
        if sniffed == Sniffed::NoDatabase && any {
            let what = "not a SQLite database, though its adapter says so (encrypted, or of another \
                        kind): stored like any file";
            let (path, what) = (found.path.clone(), what.into());
            (self.problem)(Problem { path, what, notice: true });
        }
        let was = || old.is_some_and(|row| row.entry.flags & flag::SQLITE != 0);
        sniffed == Sniffed::Database || sniffed == Sniffed::Closed && was()
    }
}
