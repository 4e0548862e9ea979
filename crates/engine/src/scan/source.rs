//! Opening a file that the scan found, and only that file.
//!
//! In: a path below a root and the [`Stat`] the scan saw. Out: an open regular file that is the
//! same one, or why not. Invariant: no component below the root is followed if it is a link, and
//! no open waits for a writer, whatever took the file's place in between.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

use repo::{Kind, Xattr};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::ignored::Ignored;
use super::stat::{Stat, from_system};
use super::{attributes, is_name};

/// Directories are listed through the descriptor, so it is opened for reading.
const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A FIFO that took a file's place must not be waited for; a link is not followed.
const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// How often `openat2` is asked again when something in the path was renamed meanwhile.
#[cfg(target_os = "linux")]
const RENAME_RACES_MAX: usize = 8;

/// The directory of a root, held open: files are opened beneath it.
#[derive(Debug)]
pub struct SourceRoot {
    dir: OwnedFd,
    /// `openat2` is missing here (old kernel, sandbox): do not try it again.
    #[cfg(target_os = "linux")]
    stepwise: AtomicBool,
}

/// Why a file that the scan found was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenProblem {
    /// Nothing has this name any more.
    #[error("vanished since it was scanned")]
    Vanished,
    /// The name, or a directory on the way, belongs to something else now: another file, a link, a
    /// FIFO.
    #[error("was replaced since it was scanned")]
    Replaced,
    /// The system refused.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
}

impl SourceRoot {
    /// Opens the directory of a root. The path to it may be or hold links; they are resolved now
    /// and never again.
    pub fn open_dir(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            dir: open_sparing_atime(CWD, dir, DIR_FLAGS)?,
            #[cfg(target_os = "linux")]
            stepwise: AtomicBool::new(false),
        })
    }

    /// Opens the regular file at `rel` below the root, if it is still the file of `expected`. Its
    /// size and times may have moved: compare with [`OpenedFile::stat`].
    pub fn open(&self, rel: &[u8], expected: &Stat) -> Result<OpenedFile, OpenProblem> {
        let fd = self.open_beneath(rel).map_err(OpenProblem::from)?;
        let (kind, stat) = from_system(&rustix::fs::fstat(&fd).map_err(OpenProblem::from)?);
        if kind != Some(Kind::File) || !stat.same_file(expected) {
            return Err(OpenProblem::Replaced);
        }
        Ok(OpenedFile { file: File::from(fd), stat })
    }

    /// Has it something at `rel`, of whatever kind? No link on the way is followed: what lies behind one
    /// is not in the root.
    pub fn has(&self, rel: &[u8]) -> io::Result<bool> {
        let is_no = |error| matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        let (parents, name) = match rel.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Some(&rel[..slash]), &rel[slash + 1..]),
            None => (None, rel),
        };
        let parent = match parents.map(|rel| open_dir_path(self.dir.as_fd(), rel)).transpose() {
            Err(error) if is_no(error) => return Ok(false),
            parent => parent?,
        };
        let dir = parent.as_ref().map_or(self.dir.as_fd(), |parent| parent.as_fd());
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(error) if is_no(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Would ignore files of this name leave out the file at `rel`, or a directory that it is in? As in a
    /// walk, the nearest one that has an opinion decides.
    pub fn ignores(&self, name: &str, rel: &[u8]) -> bool {
        let read = |dir: BorrowedFd<'_>| Ignored::read(dir, name).0;
        let mut levels: Vec<(usize, Ignored)> =
            read(self.dir.as_fd()).map(|ignored| (0, ignored)).into_iter().collect();
        let ends = rel.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([rel.len()]) {
            let is_dir = end < rel.len();
            let says =
                |(start, ignored): &(usize, Ignored)| ignored.says(&rel[*start..end], is_dir);
            if levels.iter().rev().find_map(says).unwrap_or(false) {
                return true;
            }
            if is_dir {
                let Ok(dir) = open_dir_path(self.dir.as_fd(), &rel[..end]) else { return false };
                levels.extend(read(dir.as_fd()).map(|ignored| (end + 1, ignored)));
            }
        }
        false
    }

    /// The directory alone, for a walk.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.dir
    }

    #[cfg(target_os = "linux")]
    fn open_beneath(&self, rel: &[u8]) -> rustix::io::Result<OwnedFd> {
        if self.stepwise.load(Ordering::Relaxed) {
            return open_stepwise(self.dir.as_fd(), rel);
        }
        match open_in_one_call(self.dir.as_fd(), rel) {
            // Sandboxes answer EPERM for calls they do not know; so does a refused O_NOATIME, and
            // that was tried without already.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
                self.stepwise.store(true, Ordering::Relaxed);
                open_stepwise(self.dir.as_fd(), rel)
            }
            // Longer than one call takes, or a busy tree: component by component it works.
            Err(Errno::NAMETOOLONG | Errno::AGAIN) => open_stepwise(self.dir.as_fd(), rel),
            outcome => outcome,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_beneath(&self, rel: &[u8]) -> rustix::io::Result<OwnedFd> {
        open_stepwise(self.dir.as_fd(), rel)
    }
}

impl From<Errno> for OpenProblem {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Vanished,
            // A link, a file where a directory was, a path that leads out, a socket.
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO | Errno::MLINK => {
                Self::Replaced
            }
            error => Self::Unreadable(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
fn open_in_one_call(dir: BorrowedFd<'_>, rel: &[u8]) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| {
        let mut outcome = openat2(dir, rel, flags, Mode::empty(), resolve);
        for _ in 1..RENAME_RACES_MAX {
            if !matches!(outcome, Err(Errno::AGAIN)) {
                break;
            }
            outcome = openat2(dir, rel, flags, Mode::empty(), resolve);
        }
        outcome
    };
    match open(FILE_FLAGS | OFlags::NOATIME) {
        Err(Errno::PERM) => open(FILE_FLAGS),
        outcome => outcome,
    }
}

/// Opens directory after directory without following links, then the file.
fn open_stepwise(dir: BorrowedFd<'_>, rel: &[u8]) -> rustix::io::Result<OwnedFd> {
    let (parents, name) = match rel.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&rel[..slash], &rel[slash + 1..]),
        None => (&rel[..0], rel),
    };
    let parent = if parents.is_empty() { None } else { Some(open_dir_path(dir, parents)?) };
    if !is_name(name) {
        return Err(Errno::XDEV);
    }
    open_file_at(parent.as_ref().map_or(dir, |parent| parent.as_fd()), name)
}

/// Opens a directory below another one, component by component, without following links.
pub(super) fn open_dir_path(dir: BorrowedFd<'_>, rel: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut reached: Option<OwnedFd> = None;
    for name in rel.split(|byte| *byte == b'/') {
        if !is_name(name) {
            return Err(Errno::XDEV);
        }
        reached = Some(open_dir_at(reached.as_ref().map_or(dir, |fd| fd.as_fd()), name)?);
    }
    reached.ok_or(Errno::NOENT)
}

/// Opens a directory by its name in another one, unless the name is a link.
pub(super) fn open_dir_at(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_sparing_atime(dir, name, DIR_FLAGS | OFlags::NOFOLLOW)
}

/// Opens the directory that holds an open one.
pub(super) fn open_parent(dir: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    open_sparing_atime(dir, "..", DIR_FLAGS)
}

/// Opens a file by its name in a directory, unless the name is a link, without ever waiting.
pub(super) fn open_file_at(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_sparing_atime(dir, name, FILE_FLAGS)
}

/// Reading should not move access times, where the system lets us ask for that (owners and root).
#[cfg(target_os = "linux")]
fn open_sparing_atime<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    match openat(dir, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, path, flags, Mode::empty()),
        outcome => outcome,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_sparing_atime<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    openat(dir, path, flags, Mode::empty())
}

/// A regular file, open for reading; the same one that the scan saw.
#[derive(Debug)]
pub struct OpenedFile {
    file: File,
    stat: Stat,
}

impl OpenedFile {
    /// Metadata when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Metadata now: what moved since [`Self::stat`] moved while it was read.
    pub fn stat_again(&self) -> io::Result<Stat> {
        Ok(from_system(&rustix::fs::fstat(&self.file)?).1)
    }

    /// Its extended attributes, sorted by name.
    pub fn xattrs(&self) -> io::Result<Vec<Xattr>> {
        Ok(attributes::read(&self.file)?)
    }

    /// Less is allocated than the length needs: it has holes, or its file system compresses.
    pub fn sparse_hint(&self) -> bool {
        self.stat.blocks.saturating_mul(512) < self.stat.size
    }

    /// The file itself, for reads at an offset.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Read for OpenedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use tempfile::{TempDir, tempdir};

    /// A root with a file `d/f`, what the scan would say of it, and a second name of the very same
    /// file outside, so that only the way to it can tell them apart.
    struct Case {
        dir: TempDir,
        outside: TempDir,
        stat: Stat,
    }

    impl Case {
        fn new() -> Self {
            let (dir, outside) = (tempdir().unwrap(), tempdir().unwrap());
            fs::create_dir(dir.path().join("d")).unwrap();
            fs::write(dir.path().join("d/f"), b"content").unwrap();
            fs::hard_link(dir.path().join("d/f"), outside.path().join("f")).unwrap();
            let raw = rustix::fs::stat(dir.path().join("d/f")).unwrap();
            Self { stat: from_system(&raw).1, dir, outside }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Opens in both ways, which must agree.
        fn open(&self, rel: &[u8]) -> Result<OpenedFile, OpenProblem> {
            let quick = SourceRoot::open_dir(self.dir.path()).unwrap();
            let first = quick.open(rel, &self.stat);
            #[cfg(target_os = "linux")]
            {
                let slow = SourceRoot::open_dir(self.dir.path()).unwrap();
                slow.stepwise.store(true, Ordering::Relaxed);
                let second = slow.open(rel, &self.stat);
                let answer = |outcome: &Result<OpenedFile, OpenProblem>| match outcome {
                    Ok(_) => "opened".to_owned(),
                    Err(problem) => problem.to_string(),
                };
                assert_eq!(answer(&first), answer(&second));
            }
            first
        }

        fn is_replaced(&self, rel: &[u8]) -> bool {
            matches!(self.open(rel), Err(OpenProblem::Replaced))
        }
    }

    #[test]
    fn the_file_that_was_scanned_is_opened_and_read() {
        let case = Case::new();
        let mut opened = case.open(b"d/f").unwrap();
        let mut bytes = Vec::new();
        opened.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"content");
        assert_eq!(opened.stat(), &case.stat);
        fs::write(case.at("d/f"), b"content and more").unwrap();
        assert_eq!(opened.stat_again().unwrap().size, 16);
        assert_eq!(opened.stat().size, 7);
    }

    #[test]
    fn a_directory_swapped_for_a_link_is_refused_even_if_it_leads_to_the_same_file() {
        let case = Case::new();
        fs::remove_dir_all(case.at("d")).unwrap();
        symlink(case.outside.path(), case.at("d")).unwrap();
        assert!(case.is_replaced(b"d/f"));
    }

    #[test]
    fn a_directory_swapped_for_a_link_to_where_it_went_is_refused() {
        let case = Case::new();
        fs::rename(case.at("d"), case.at("e")).unwrap();
        symlink("e", case.at("d")).unwrap();
        assert!(case.is_replaced(b"d/f"));
    }

    #[test]
    fn a_file_swapped_for_a_link_to_itself_is_refused() {
        let case = Case::new();
        fs::remove_file(case.at("d/f")).unwrap();
        symlink(case.outside.path().join("f"), case.at("d/f")).unwrap();
        assert!(case.is_replaced(b"d/f"));
    }

    #[test]
    fn a_file_replaced_by_another_is_refused() {
        let case = Case::new();
        fs::write(case.at("d/g"), b"content").unwrap();
        fs::rename(case.at("d/g"), case.at("d/f")).unwrap();
        assert!(case.is_replaced(b"d/f"));
    }

    #[test]
    fn a_file_replaced_by_a_fifo_or_socket_or_directory_blocks_nothing_and_is_refused() {
        let case = Case::new();
        let made = std::process::Command::new("mkfifo").arg(case.at("fifo")).status();
        assert!(made.unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(case.at("socket")).unwrap();
        for rel in [&b"fifo"[..], b"socket", b"d", b"d/f/below"] {
            assert!(case.is_replaced(rel), "{rel:?}");
        }
        // Nor is it opened for somebody who took it for a file all along.
        let raw = rustix::fs::stat(case.at("fifo")).unwrap();
        let source = SourceRoot::open_dir(case.dir.path()).unwrap();
        let outcome = source.open(b"fifo", &from_system(&raw).1);
        assert!(matches!(outcome, Err(OpenProblem::Replaced)));
    }

    #[test]
    fn a_file_that_is_gone_vanished() {
        let case = Case::new();
        fs::remove_file(case.at("d/f")).unwrap();
        assert!(matches!(case.open(b"d/f"), Err(OpenProblem::Vanished)));
        assert!(matches!(case.open(b"none/f"), Err(OpenProblem::Vanished)));
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let case = Case::new();
        let out = case.outside.path().file_name().unwrap().to_str().unwrap();
        let absolute = case.outside.path().join("f").display().to_string();
        for rel in [format!("../{out}/f"), format!("d/../../{out}/f"), absolute] {
            assert!(case.is_replaced(rel.as_bytes()), "{rel}");
        }
    }

    #[test]
    fn holes_are_noticed() {
        let case = Case::new();
        assert!(!case.open(b"d/f").unwrap().sparse_hint());
        File::options().write(true).open(case.at("d/f")).unwrap().set_len(1 << 20).unwrap();
        assert!(case.open(b"d/f").unwrap().sparse_hint());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reading_leaves_the_access_time_alone() {
        use std::os::unix::fs::MetadataExt;
        let case = Case::new();
        // Older than the content: a plain read would move it, also on file systems with relatime.
        let old = rustix::fs::Timespec { tv_sec: 1000, tv_nsec: 0 };
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = rustix::fs::Timestamps { last_access: old, last_modification: now };
        rustix::fs::utimensat(CWD, case.at("d/f"), &times, AtFlags::empty()).unwrap();
        case.open(b"d/f").unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(fs::metadata(case.at("d/f")).unwrap().atime(), 1000);
    }
}
