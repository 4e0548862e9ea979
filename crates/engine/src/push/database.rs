//! The database half of a reader: a SQLite database becomes a consistent image, cut page by page.
//!
//! In: a file that begins like a database and is not open in this process. Out: its content, or why
//! it must be copied as it lies. Invariant: an image that was read without locks is used only if
//! nothing moved meanwhile.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use repo::{Marks, flag};

use super::groups::Groups;
use super::pages::{self, Before};
use super::reader::{Content, Context, FileReader, Job, Known, TRIES_MAX, os_path};
use super::rows::{EditSeen, Look};
use super::suspects;
use crate::capture::edit::{Edited, fingerprint};
use crate::capture::gate;
use crate::capture::sqlite::{self, Budget, Edit, Health, How, Image, Moved, Request, Ways};
use crate::scan::{Found, SourceRoot, Stat};

/// Suffix of a database's shared memory.
pub(super) const SHARED_MEMORY: &str = "-shm";
/// How long to wait at a time until a database was not written just now.
const SETTLE: Duration = Duration::from_millis(5);
/// Together as long as the coarsest times; a time in the future is not waited for.
const SETTLE_TURNS_MAX: usize = 400;

/// A database that was captured.
pub(super) struct Captured {
    pub(super) content: Content,
    /// Flags of its entry.
    pub(super) flags: u32,
    /// What was replaced in it.
    pub(super) marks: Option<Marks>,
    /// How it looked; `None` if it moved meanwhile, so that the next push reads it again.
    pub(super) look: Option<Look>,
    /// Its write-ahead log.
    pub(super) log: Option<Stat>,
    /// How rows were left out of it.
    pub(super) edit: Option<Box<EditSeen>>,
}

impl FileReader<'_> {
    /// Captures a SQLite database as a consistent image. `seen` is the file that was scanned. `None`
    /// if the run was stopped.
    pub(super) fn database(&mut self, job: &Job, seen: &Stat) -> io::Result<Option<Captured>> {
        let path = self.cx.dirs[job.root].join(os_path(&job.rel));
        let known_before = self.before(job);
        for attempt in 1.. {
            let before = DatabaseLook::of(&path);
            if !before.main.is_some_and(|main| main.same_file(seen)) {
                return Err(io::Error::other("it was replaced meanwhile"));
            }
            let how =
                if before.is_closed() && attempt < TRIES_MAX { How::Closed } else { How::Live };
            if how == How::Closed {
                self.settle(&before.main.as_ref().map(Look::of).into_iter().collect::<Vec<_>>());
            }
            let marking = self.marking(job).map(|marking| (marking.clone(), job.path.clone()));
            let edit = Edit::of(&job.rules, marking);
            let turn = (attempt < TRIES_MAX).then_some(Moved::TURN);
            // in one go, a writer would wait for the second reading too
            let known = known_before.as_ref().filter(|_| turn.is_some());
            let request = Request {
                twice: known.is_some(),
                edit: edit.clone(),
                check: self.check(job),
                ..self.cx.request(&path, how, turn)
            };
            let read = self.image(&job.path, seen, request, known);
            let after = DatabaseLook::of(&path);
            if how == How::Closed && !before.same(&after) {
                continue; // opened by its owner meanwhile: what was read without locks may be torn
            }
            if turn.is_some() && read.as_ref().is_err_and(Moved::is) {
                continue;
            }
            let Some((content, health)) = read? else { return Ok(None) };
            let edited = edit.as_ref().and_then(|edit| edit.done.get());
            if edit.is_some() && edited.is_none() {
                return Err(io::Error::other("it was not edited"));
            }
            let edit_flags = edited.map_or(0, edited_flags);
            let flags = flag::SQLITE | edit_flags | self.tell_health(job, health);
            let marks = edited.and_then(|edited| self.tell_replaced(job, edited));
            let edit = self.tell_edit(job, edited);
            // a live database that moved meanwhile is read again next time; this image is consistent
            let look = before.main.filter(|_| before.same(&after)).as_ref().map(Look::of);
            return Ok(Some(Captured { content, flags, marks, look, log: before.log, edit }));
        }
        unreachable!("the last try takes no turns")
    }

    /// Waits until a write from now on shows in the files' times.
    pub(super) fn settle(&self, looks: &[Look]) {
        for _ in 0..SETTLE_TURNS_MAX {
            let now = self.cx.clock.now_nanos();
            if !looks.iter().any(|look| look.racy(now)) || self.cx.stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(SETTLE);
        }
    }

    /// Cuts an image page by page; `None` if the run was stopped.
    fn image(
        &mut self,
        name: &[u8],
        seen: &Stat,
        request: Request,
        known: Option<&Before>,
    ) -> io::Result<Option<(Content, Option<Health>)>> {
        let (path, live) = (request.path.clone(), request.how == How::Live);
        let mut image = Image::open(request)?;
        // SQLite opened whatever had the name then; what takes it from now on is another file
        if !DatabaseLook::of(&path).main.is_some_and(|main| main.same_file(seen)) {
            return Err(io::Error::other("it was replaced meanwhile"));
        }
        // what is replaced is told by who replaces it
        let watch = self.cx.watch.filter(|_| self.cx.marking.is_none());
        let mut look = watch.map(|watch| watch.begin(name, 0));
        let content = pages::cut(self.cx, &mut self.pages, &mut image, known, look.as_mut())?;
        look.into_iter().for_each(suspects::Look::end);
        Ok(content.map(|content| {
            let (health, held) = image.finish();
            if live {
                (self.cx.held)(held);
            }
            (content, health)
        }))
    }

    /// What is known of the image before, unless it was none.
    fn before(&self, job: &Job) -> Option<Before> {
        let row = job.old.as_deref().filter(|row| row.entry.flags & flag::SQLITE != 0)?;
        let Known { pieces, pages, size, hash, .. } =
            Known::of(Some(row), u64::MAX, &self.cx.dedup.index)?;
        let groups = (self.cx.groups)(&job.path);
        let groups = groups.and_then(|groups| Groups::decode(&groups, size, &hash));
        Some(Before { pieces, pages, groups })
    }

    /// Tells which tables and columns of the rules a database does not have, unless it was told
    /// before.
    fn tell_edit(&self, job: &Job, edited: Option<&Edited>) -> Option<Box<EditSeen>> {
        let (rules, absent) = (fingerprint(&job.rules)?, edited?.absent.clone());
        let seen = Box::new(EditSeen { rules, absent });
        let before = job.old.as_deref().and_then(|row| row.edit.as_ref());
        if !seen.absent.is_empty() && before != Some(&seen) {
            let what = "a database without what its adapter would leave out of it";
            self.problem(&job.path, format!("{what}: {}", seen.absent.join(", ")), true);
        }
        Some(seen)
    }

    /// Tells which secrets were replaced.
    fn tell_replaced(&self, job: &Job, edited: &Edited) -> Option<Marks> {
        self.tell_marks(&job.path, &edited.tally);
        let count = edited.tally.count();
        (count > 0).then_some(Marks { count, source: None })
    }

    /// For how long its health is checked. One that was found damaged is checked whenever it is read:
    /// it counts as damaged until it is found sound.
    fn check(&self, job: &Job) -> Option<Duration> {
        let is_due = damaged_before(job) != 0;
        self.cx.check_databases.or_else(|| is_due.then_some(self.cx.check_wait))
    }

    /// Tells what a check found; gives the flags that go with it.
    fn tell_health(&self, job: &Job, health: Option<Health>) -> u32 {
        match health {
            Some(Health::Ok) => 0,
            None => damaged_before(job),
            Some(Health::Unknown) => {
                let what =
                    "a database: the check was not over in its time, so its health is unknown";
                self.problem(&job.path, what.into(), true);
                damaged_before(job)
            }
            Some(Health::Damaged(messages)) => {
                let first = messages.first().map(String::as_str).unwrap_or_default();
                let what = format!("the database is damaged, and stored as it is: {first}");
                self.problem(&job.path, what, false);
                flag::SQLITE_DAMAGED
            }
        }
    }
}

/// The flag of a database that was found damaged in the snapshot before.
fn damaged_before(job: &Job) -> u32 {
    job.old.as_deref().map_or(0, |row| row.entry.flags) & flag::SQLITE_DAMAGED
}

impl Context<'_> {
    fn request(&self, path: &Path, how: How, turn: Option<Duration>) -> Request {
        Request {
            path: path.to_owned(),
            how,
            lock_wait: self.database_wait,
            scratch: self.scratch.to_owned(),
            budget: Budget::default(),
            twice: false,
            turn,
            check: self.check_databases,
            edit: None,
            ways: Ways::default(),
        }
    }
}

/// Flags of an image from which rows were left out. What they took is zeros: a restore makes holes
/// of it.
fn edited_flags(edited: &Edited) -> u32 {
    if edited.rows_count == 0 { 0 } else { flag::SQLITE_EDITED | flag::SPARSE }
}

/// What a file looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// It begins like a database.
    Database,
    /// An adapter names it as a database, and it is none.
    NoDatabase,
    /// Anything else.
    File,
    /// It cannot be opened.
    Closed,
}

/// Looks at the first bytes. A database is a whole number of 512-byte pieces; one that an adapter
/// names may be cut short.
pub(super) fn sniff(root: Option<&SourceRoot>, found: &Found, rel: &[u8]) -> Sniffed {
    let named = found.sqlite && found.link.is_none();
    let whole = found.stat.size.is_multiple_of(512);
    if found.stat.size == 0 || !(whole || named) || is_shared_memory(&found.path) {
        return Sniffed::File;
    }
    let mut head = [0; 100];
    // no other thread has SQLite open on it, and none opens it until ours is closed
    let _hold = gate::hold(Path::new(""), &found.stat);
    let Some(mut file) = root.and_then(|root| root.open(rel, &found.stat).ok()) else {
        return Sniffed::Closed;
    };
    match file.read_exact(&mut head) {
        Ok(()) if sqlite::page_size(&head).is_some() => Sniffed::Database,
        _ if named => Sniffed::NoDatabase,
        _ => Sniffed::File,
    }
}

/// True for names of the memory that processes share over a database. It is made again from the
/// log.
pub(super) fn is_shared_memory(path: &[u8]) -> bool {
    path.ends_with(SHARED_MEMORY.as_bytes())
}

/// How a database and its side files look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DatabaseLook {
    main: Option<Stat>,
    log: Option<Stat>,
    journal: Option<Stat>,
}

impl DatabaseLook {
    fn of(path: &Path) -> Self {
        let look = |path: &Path| Some(Stat::of_metadata(&std::fs::symlink_metadata(path).ok()?));
        Self {
            main: look(path),
            log: look(&sqlite::side_file(path, "-wal")),
            journal: look(&sqlite::side_file(path, "-journal")),
        }
    }

    /// True if both show the same content; a reader may move the log's time of change.
    fn same(&self, other: &Self) -> bool {
        self.main == other.main
            && self.log.as_ref().map(Look::of_log) == other.log.as_ref().map(Look::of_log)
            && self.journal == other.journal
    }

    fn is_closed(&self) -> bool {
        self.log.is_none() && self.journal.is_none()
    }
}
