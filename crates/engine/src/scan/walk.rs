//! The walk: down one root at a time, directory by directory, each sorted by name.
//!
//! A [`Level`] per open directory, root first, holds its names and how far we are in them. The
//! path of the name at hand is one buffer that grows and shrinks with the levels. A directory
//! whose verdict is [`Verdict::Walk`] waits in its level and is handed over just before the first
//! entry below it; such waiting levels are always the innermost ones.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use repo::Kind;
use rustix::fs::{AtFlags, readlinkat, statat};
use rustix::io::Errno;

use crate::leftover::is_temp_name;

use super::ignored::Ignored;
use super::names::Names;
use super::source::{SourceRoot, open_dir_at, open_dir_path, open_parent};
use super::stat::{Stat, from_system, kind};
use super::{
    DEPTH_MAX, Error, Found, Options, PATH_BYTES_MAX, Problem, ScanRoot, Totals, Trouble, Verdict,
    attributes,
};

/// Directories kept open on the way down, besides the root: many systems allow a process 256
/// descriptors. Those above are opened again on the way back.
const OPEN_DIRS_MAX: usize = 32;

/// A flow that the caller of the scan may have broken.
type Flow = ControlFlow<()>;

/// One scan.
pub(super) struct Walk<'a> {
    options: &'a Options,
    cancel: &'a AtomicBool,
    found: &'a mut dyn FnMut(Found) -> Flow,
    problem: &'a mut dyn FnMut(Problem),
    totals: Totals,
    /// Files with more names than were met so far.
    links: HashMap<(u64, u64), FirstName>,
    /// Buffers of directories that are done with.
    spare: Vec<Names>,
}

struct FirstName {
    path: Vec<u8>,
    names_left: u64,
}

/// One root of it.
struct RootWalk<'w, 'a> {
    scan: &'w mut Walk<'a>,
    root: &'w ScanRoot,
    index: usize,
    /// Full path of the name at hand.
    path: Vec<u8>,
    levels: Vec<Level>,
    /// How many of the levels were handed over.
    handed: usize,
    /// How many of the levels have an ignore file.
    ignoring: usize,
    dev: u64,
}

/// A directory that is being walked.
struct Level {
    /// `None` while it is too far up to be kept open.
    fd: Option<OwnedFd>,
    stat: Stat,
    names: Names,
    next: usize,
    path_len: usize,
    ignored: Option<Ignored>,
    /// Not handed over yet.
    waiting: Option<Found>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        options: &'a Options,
        cancel: &'a AtomicBool,
        found: &'a mut dyn FnMut(Found) -> Flow,
        problem: &'a mut dyn FnMut(Problem),
    ) -> Self {
        let (totals, links, spare) = (Totals::default(), HashMap::new(), Vec::new());
        Self { options, cancel, found, problem, totals, links, spare }
    }

    /// Walks one root.
    pub(super) fn root(&mut self, index: usize, root: &ScanRoot) -> Result<Flow, Error> {
        let mut walk = RootWalk {
            scan: self,
            root,
            index,
            path: root.label.clone().into_bytes(),
            levels: Vec::new(),
            handed: 0,
            ignoring: 0,
            dev: 0,
        };
        walk.run()
    }

    pub(super) fn finish(self) -> Totals {
        self.totals
    }

    /// Counts an entry and hands it over.
    fn hand_over(&mut self, found: Found) -> Flow {
        match found.kind {
            Kind::File => {
                self.totals.files_count += 1;
                if found.link.is_some() {
                    self.totals.hard_links_count += 1;
                } else {
                    self.totals.file_bytes = self.totals.file_bytes.saturating_add(found.stat.size);
                }
            }
            Kind::Dir => self.totals.dirs_count += 1,
            Kind::Symlink => self.totals.symlinks_count += 1,
            Kind::Fifo | Kind::Socket | Kind::Device => self.totals.specials_count += 1,
        }
        (self.found)(found)
    }

    /// The first path of this file, if it had one before; remembers this one otherwise.
    fn first_name(&mut self, path: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        let key = (stat.dev, stat.ino);
        let Some(first) = self.links.get_mut(&key) else {
            let first = FirstName { path: path.to_vec(), names_left: stat.nlink - 1 };
            self.links.insert(key, first);
            return None;
        };
        first.names_left -= 1;
        if first.names_left > 0 {
            return Some(first.path.clone());
        }
        self.links.remove(&key).map(|first| first.path)
    }
}

impl RootWalk<'_, '_> {
    fn run(&mut self) -> Result<Flow, Error> {
        let mut flow = self.enter_root();
        while let (ControlFlow::Continue(()), Some(level)) = (flow, self.levels.last()) {
            if self.scan.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            if level.next < level.names.len() {
                flow = self.visit();
            } else {
                self.leave();
            }
        }
        Ok(flow)
    }

    fn enter_root(&mut self) -> Flow {
        let opened = SourceRoot::open_dir(&self.root.dir).map(SourceRoot::into_fd);
        let fd = match opened {
            Ok(fd) => fd,
            Err(error) => {
                self.report_io(Trouble::Unreadable, error);
                return Flow::Continue(());
            }
        };
        let stat = match rustix::fs::fstat(&fd) {
            Ok(raw) => from_system(&raw).1,
            Err(error) => {
                self.report(Trouble::Unreadable, error);
                return Flow::Continue(());
            }
        };
        self.dev = stat.dev;
        let verdict = if self.root.files.is_some() { Verdict::Walk } else { Verdict::Include };
        self.enter(fd, stat, verdict)
    }

    /// Looks at the next name of the innermost directory.
    fn visit(&mut self) -> Flow {
        let Some(level) = self.levels.last_mut() else { return Flow::Continue(()) };
        let Some((name, file_type)) = level.names.get(level.next) else {
            return Flow::Continue(());
        };
        level.next += 1;
        self.path.truncate(level.path_len);
        self.path.push(b'/');
        self.path.extend_from_slice(name);
        if self.path.len() > PATH_BYTES_MAX {
            self.report(Trouble::NameTooLong, None);
            return Flow::Continue(());
        }
        match kind(file_type) {
            Some(Kind::Dir) => self.visit_dir(),
            Some(_) => match self.judge(false) {
                Verdict::Skip => Flow::Continue(()),
                verdict => self.visit_file(verdict),
            },
            None => self.visit_unknown(),
        }
    }

    /// A name whose directory does not say what it is, or said something outdated.
    fn visit_unknown(&mut self) -> Flow {
        match self.look() {
            Some((Kind::Dir, _)) => self.visit_dir(),
            Some((kind, stat)) => match self.judge(false) {
                Verdict::Skip => Flow::Continue(()),
                verdict => self.leaf(verdict, kind, stat),
            },
            None => Flow::Continue(()),
        }
    }

    fn visit_file(&mut self, verdict: Verdict) -> Flow {
        match self.look() {
            Some((Kind::Dir, _)) => self.visit_dir(),
            Some((kind, stat)) => self.leaf(verdict, kind, stat),
            None => Flow::Continue(()),
        }
    }

    fn visit_dir(&mut self) -> Flow {
        let verdict = self.judge(true);
        if verdict == Verdict::Skip {
            return Flow::Continue(());
        }
        if self.levels.len() > DEPTH_MAX {
            return self.closed_dir(verdict, Trouble::TooDeep, None);
        }
        let opened = open_dir_at(self.dir(), self.name())
            .and_then(|fd| rustix::fs::fstat(&fd).map(|raw| (fd, from_system(&raw).1)));
        match opened {
            Ok((_, stat)) if self.scan.options.one_file_system && stat.dev != self.dev => {
                self.closed_dir(verdict, Trouble::MountPoint, None)
            }
            Ok((_, stat)) if self.scan.options.own.contains(&(stat.dev, stat.ino)) => {
                self.scan.totals.excluded_count += 1;
                Flow::Continue(())
            }
            Ok((fd, stat)) => self.enter(fd, stat, verdict),
            Err(Errno::NOENT) => self.missing(),
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
                self.report(Trouble::Replaced, error);
                Flow::Continue(())
            }
            Err(error) => self.closed_dir(verdict, Trouble::Unreadable, Some(error)),
        }
    }

    /// A directory that is not walked: stored, with the reason told.
    fn closed_dir(&mut self, verdict: Verdict, what: Trouble, error: Option<Errno>) -> Flow {
        self.report(what, error);
        match self.look() {
            Some((kind @ Kind::Dir, stat)) if verdict != Verdict::Walk => {
                let found = self.entry(kind, stat);
                self.give(found)
            }
            _ => Flow::Continue(()),
        }
    }

    /// Starts a directory. It is handed over now, or with the first entry below it.
    fn enter(&mut self, fd: OwnedFd, stat: Stat, verdict: Verdict) -> Flow {
        let mut names = self.scan.spare.pop().unwrap_or_default();
        let named = if self.levels.is_empty() { self.root.files.as_deref() } else { None };
        match named {
            Some(files) => names.set(files.iter().map(Vec::as_slice)),
            None => {
                if let Err(error) = names.list(&fd) {
                    self.report(Trouble::Unreadable, error);
                }
            }
        }
        let ignored = if named.is_none() { self.ignore_file(fd.as_fd(), &names) } else { None };
        let xattrs = attributes::read(&fd).unwrap_or_else(|error| {
            self.report(Trouble::Unreadable, error);
            Vec::new()
        });
        let waiting = Some(Found { xattrs, ..self.entry(Kind::Dir, stat) });
        self.ignoring += usize::from(ignored.is_some());
        let path_len = self.path.len();
        self.levels.push(Level { fd: Some(fd), stat, names, next: 0, path_len, ignored, waiting });
        if let Some(far @ 1..) = self.levels.len().checked_sub(OPEN_DIRS_MAX + 1) {
            self.levels[far].fd = None;
        }
        if verdict == Verdict::Walk { Flow::Continue(()) } else { self.hand_over_waiting() }
    }

    /// Ends the innermost directory and makes sure that the one above is open if it is needed.
    fn leave(&mut self) {
        let Some(done) = self.levels.pop() else { return };
        self.handed = self.handed.min(self.levels.len());
        self.ignoring -= usize::from(done.ignored.is_some());
        self.scan.spare.push(done.names);
        let root_fd = self.levels.first().and_then(|root| root.fd.as_ref()).map(AsFd::as_fd);
        let (Some(level), Some(root_fd)) = (self.levels.last(), root_fd) else { return };
        if level.fd.is_some() {
            return;
        }
        let below_root = self.root.label.len() + 1..level.path_len;
        let opened = reopen(done.fd.as_ref(), level).or_else(|_| {
            open_dir_path(root_fd, &self.path[below_root]).and_then(|fd| same_dir(fd, level))
        });
        self.path.truncate(level.path_len);
        match opened {
            Ok(fd) => self.set_fd(fd),
            Err(error) => {
                self.report(Trouble::Replaced, error);
                self.give_up();
            }
        }
    }

    /// The ignore file of a directory, if it has one.
    fn ignore_file(&mut self, dir: BorrowedFd<'_>, names: &Names) -> Option<Ignored> {
        let name = &self.scan.options.ignore_file;
        if !names.contains(name.as_bytes()) {
            return None;
        }
        let (ignored, error) = Ignored::read(dir, name);
        if let Some(error) = error {
            let dir_len = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(name.as_bytes());
            self.report_io(Trouble::IgnoreFile, error);
            self.path.truncate(dir_len);
        }
        ignored
    }

    fn set_fd(&mut self, fd: OwnedFd) {
        if let Some(level) = self.levels.last_mut() {
            level.fd = Some(fd);
        }
    }

    /// What is left of the innermost directory cannot be reached any more.
    fn give_up(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.next = level.names.len();
        }
    }

    /// A file, link or special file.
    fn leaf(&mut self, verdict: Verdict, kind: Kind, stat: Stat) -> Flow {
        let mut found = self.entry(kind, stat);
        match kind {
            Kind::File => {
                found.sqlite = verdict == Verdict::Sqlite;
                if self.is_too_large(&found) {
                    self.report(Trouble::TooLarge, None);
                    return Flow::Continue(());
                }
                if stat.nlink > 1 {
                    found.link = self.scan.first_name(&self.path, &stat);
                }
            }
            Kind::Symlink => match readlinkat(self.dir(), self.name(), Vec::new()) {
                Ok(target) => found.target = Some(target.into_bytes()),
                Err(Errno::NOENT) => return self.missing(),
                // No link any more.
                Err(error @ Errno::INVAL) => {
                    self.report(Trouble::Replaced, error);
                    return Flow::Continue(());
                }
                Err(error) => {
                    self.report(Trouble::Unreadable, error);
                    return Flow::Continue(());
                }
            },
            Kind::Dir | Kind::Fifo | Kind::Socket | Kind::Device => {}
        }
        self.give(found)
    }

    fn is_too_large(&self, found: &Found) -> bool {
        let over = |limit: Option<u64>| limit.is_some_and(|limit| found.stat.size > limit);
        over(self.scan.options.exclude_larger_than)
            || (!found.sqlite && over(self.root.filter.max_file_size()))
    }

    /// Asks filter and ignore files about the name at hand.
    fn judge(&mut self, is_dir: bool) -> Verdict {
        let rel = &self.path[self.root.label.len() + 1..];
        let verdict = match self.root.filter.decide(rel, is_dir) {
            _ if is_temp_name(self.name()) => Verdict::Skip,
            Verdict::Walk if !is_dir => Verdict::Skip,
            Verdict::Skip => Verdict::Skip,
            _ if self.is_ignored(is_dir) => Verdict::Skip,
            verdict => verdict,
        };
        self.scan.totals.excluded_count += u64::from(verdict == Verdict::Skip);
        verdict
    }

    /// The nearest ignore file that has an opinion decides.
    fn is_ignored(&self, is_dir: bool) -> bool {
        if self.ignoring == 0 {
            return false;
        }
        let says =
            |level: &Level| level.ignored.as_ref()?.says(&self.path[level.path_len + 1..], is_dir);
        self.levels.iter().rev().find_map(says).unwrap_or(false)
    }

    /// Looks at the name at hand without following it. Tells why if that fails.
    fn look(&mut self) -> Option<(Kind, Stat)> {
        match statat(self.dir(), self.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(raw) => {
                let (kind, stat) = from_system(&raw);
                if kind.is_none() {
                    self.report(Trouble::Unreadable, None);
                }
                kind.map(|kind| (kind, stat))
            }
            Err(Errno::NOENT) => {
                let _ = self.missing();
                None
            }
            Err(error) => {
                self.report(Trouble::Unreadable, error);
                None
            }
        }
    }

    /// A name that is not there: a problem if it was listed, not if the root merely asks for it.
    fn missing(&mut self) -> Flow {
        if self.levels.len() > 1 || self.root.files.is_none() {
            self.report(Trouble::Vanished, Errno::NOENT);
        }
        Flow::Continue(())
    }

    fn entry(&self, kind: Kind, stat: Stat) -> Found {
        Found {
            path: self.path.clone(),
            kind,
            stat,
            target: None,
            link: None,
            sqlite: false,
            root: self.index,
            xattrs: Vec::new(),
        }
    }

    /// Hands over the directories that wait for it, then the entry.
    fn give(&mut self, found: Found) -> Flow {
        self.hand_over_waiting()?;
        self.scan.hand_over(found)
    }

    fn hand_over_waiting(&mut self) -> Flow {
        while let Some(level) = self.levels.get_mut(self.handed) {
            self.handed += 1;
            if let Some(found) = level.waiting.take() {
                self.scan.hand_over(found)?;
            }
        }
        Flow::Continue(())
    }

    /// The innermost directory.
    fn dir(&self) -> BorrowedFd<'_> {
        let level = self.levels.last().and_then(|level| level.fd.as_ref());
        level.expect("the innermost level is open while it has names left").as_fd()
    }

    /// The name at hand, in the innermost directory.
    fn name(&self) -> &[u8] {
        let dir_len = self.levels.last().map_or(0, |level| level.path_len);
        self.path.get(dir_len + 1..).unwrap_or_default()
    }

    fn report(&mut self, what: Trouble, error: impl Into<Option<Errno>>) {
        self.tell(what, error.into().map(Into::into));
    }

    fn report_io(&mut self, what: Trouble, error: std::io::Error) {
        self.tell(what, Some(error));
    }

    fn tell(&mut self, what: Trouble, error: Option<std::io::Error>) {
        let problem = Problem { path: self.path.clone(), root: self.index, what, error };
        self.scan.totals.problems_count += u64::from(!problem.is_notice());
        (self.scan.problem)(problem);
    }
}

/// Goes up from a directory below, unless it was moved meanwhile.
fn reopen(below: Option<&OwnedFd>, level: &Level) -> rustix::io::Result<OwnedFd> {
    let below = below.ok_or(Errno::BADF)?;
    same_dir(open_parent(below.as_fd())?, level)
}

/// The directory that was opened is the one that the level stands for.
fn same_dir(fd: OwnedFd, level: &Level) -> rustix::io::Result<OwnedFd> {
    let stat = from_system(&rustix::fs::fstat(&fd)?).1;
    if stat.same_file(&level.stat) { Ok(fd) } else { Err(Errno::STALE) }
}
