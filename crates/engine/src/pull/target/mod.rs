//! The one place that turns stored paths into local ones.
//!
//! In: checked paths ([`Rel`]). Out: descriptors of directories and files below one base
//! directory. The base is opened once, by a path that the user gave; from there on every step is a
//! call on a descriptor and one name, resolved beneath it and never through a symbolic link. So no
//! entry, no planted link and no race can lead a write, chmod or unlink out of the base.

mod meta;
mod name;
mod remove;
mod temp;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub(crate) use crate::leftover::{SQLITE_SIDES, is_temp_name};
pub(crate) use meta::{Rules, differs, set, set_symlink};
pub(crate) use name::{Rel, split_last};
pub(crate) use remove::{Guard, remove_tree};
pub(crate) use temp::{Over, Temp, path_of};

/// An open directory below (or at) the base.
pub(crate) type Dir = Arc<OwnedFd>;

/// Directories kept open at most: well below the usual limit of 1,024 descriptors.
const DIRS_OPEN_MAX: usize = 128;

/// What a thing on the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    File,
    Dir,
    Symlink,
    Fifo,
    Other,
}

/// What `lstat` says, in types that are the same on every platform.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) found: Found,
    /// Device and inode.
    pub(crate) id: (u64, u64),
    pub(crate) nlink: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
}

impl Facts {
    /// Of an open file or directory.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        Ok(Self::from_stat(&rustix::fs::fstat(fd)?))
    }

    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the fields' types differ between platforms"
    )]
    fn from_stat(stat: &rustix::fs::Stat) -> Self {
        Self {
            found: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Found::File,
                FileType::Directory => Found::Dir,
                FileType::Symlink => Found::Symlink,
                FileType::Fifo => Found::Fifo,
                _ => Found::Other,
            },
            id: (
                u64::try_from(stat.st_dev).unwrap_or(u64::MAX),
                u64::try_from(stat.st_ino).unwrap_or(u64::MAX),
            ),
            nlink: u64::try_from(stat.st_nlink).unwrap_or(u64::MAX),
            mode: u32::from(stat.st_mode) & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (
                i64::try_from(stat.st_mtime).unwrap_or(0),
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        }
    }
}

/// A base directory and what is open below it.
#[derive(Debug)]
pub(crate) struct Target {
    root: Dir,
    id: (u64, u64),
    dirs: Mutex<DirCache>,
}

impl Target {
    /// Opens a base directory by the path that the user gave (links in *that* path are the user's
    /// own and are followed); makes it if `create`, closed to others. `None` if it does not exist.
    pub(crate) fn open(path: &Path, create: bool) -> io::Result<Option<Self>> {
        if create {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(root) => Arc::new(root),
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let id = Facts::of(&root)?.id;
        Ok(Some(Self { root, id, dirs: Mutex::default() }))
    }

    /// The base directory.
    #[cfg(test)]
    pub(crate) fn root(&self) -> &Dir {
        &self.root
    }

    /// Device and inode of the base directory.
    pub(crate) fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Takes the lock that keeps a second pull out of this base; false if another one has it. A
    /// file system without locks counts as locked.
    pub(crate) fn lock(&self) -> bool {
        let lock = rustix::fs::flock(&self.root, FlockOperation::NonBlockingLockExclusive);
        !matches!(lock, Err(Errno::WOULDBLOCK))
    }

    /// Opens a directory below the base.
    pub(crate) fn dir(&self, rel: &Rel) -> io::Result<Dir> {
        self.dir_at(rel.bytes())
    }

    /// Walks down from the deepest directory that is open already, one name at a time.
    fn dir_at(&self, path: &[u8]) -> io::Result<Dir> {
        let mut known = path;
        let mut dir = loop {
            let Some((parent, _)) = split_last(known) else { break Arc::clone(&self.root) };
            if let Some(dir) = self.cache().get(known) {
                break dir;
            }
            known = parent;
        };
        let mut at = known.len();
        while at < path.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let end =
                path[start..].iter().position(|b| *b == b'/').map_or(path.len(), |n| start + n);
            dir = Arc::new(open_dir(dir.as_fd(), &path[start..end])?);
            self.cache().put(path[..end].to_vec(), Arc::clone(&dir));
            at = end;
        }
        Ok(dir)
    }

    /// The open parent of a path and its last name.
    pub(crate) fn place<'r>(&self, rel: &'r Rel) -> io::Result<(Dir, &'r [u8])> {
        let (parent, name) = split_last(rel.bytes()).ok_or(Errno::ISDIR)?;
        Ok((self.dir_at(parent)?, name))
    }

    /// What is at a path, not following a link; `None` if nothing is.
    pub(crate) fn facts(&self, rel: &Rel) -> io::Result<Option<Facts>> {
        if rel.bytes().is_empty() {
            return Facts::of(&self.root).map(Some);
        }
        let found = self.place(rel).and_then(|(dir, name)| facts_at(dir.as_fd(), name));
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }

    /// Opens an existing regular file for reading; anything else there is an error, and a FIFO
    /// never blocks.
    pub(crate) fn open_file(&self, rel: &Rel) -> io::Result<File> {
        let (dir, name) = self.place(rel)?;
        open_file_at(dir.as_fd(), name)
    }

    /// What a symbolic link points to.
    pub(crate) fn read_link(&self, rel: &Rel) -> io::Result<Vec<u8>> {
        let (dir, name) = self.place(rel)?;
        Ok(rustix::fs::readlinkat(&dir, name, Vec::new())?.into_bytes())
    }

    /// Makes a directory, closed to others until its own mode is set; true if it was not there. A
    /// directory that is there stays. Anything else there is unlinked if `replace` (a link itself,
    /// never what it points to), else an error.
    pub(crate) fn make_dir(&self, rel: &Rel, replace: bool) -> io::Result<bool> {
        let (parent, name) = self.place(rel)?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        match open_dir(parent.as_fd(), name) {
            Ok(_) => Ok(false),
            Err(error) if replace && is_other_kind(&error) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes every directory down to `rel` that is not there.
    pub(crate) fn make_dirs(&self, rel: &Rel) -> io::Result<()> {
        if rel.bytes().is_empty() || self.dir(rel).is_ok() {
            return Ok(());
        }
        let path = rel.bytes();
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let step = Rel::check(&path[..end]).map_err(io::Error::other)?;
            self.make_dir(&step, false)?;
        }
        Ok(())
    }

    /// Names in a directory, without `.` and `..`.
    pub(crate) fn names(dir: &Dir) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Removes the temporary files that a killed pull left in a directory, but none of `keep`.
    pub(crate) fn remove_stale_temps(dir: &Dir) -> io::Result<u64> {
        let mut removed = 0;
        for name in Self::names(dir)?.iter().filter(|name| is_temp_name(name)) {
            if facts_at(dir.as_fd(), name)?.is_some_and(|facts| facts.found != Found::Dir) {
                rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Forgets open directories at and below a path (it is about to be removed).
    pub(crate) fn forget(&self, rel: &Rel) {
        self.cache().forget(rel.bytes());
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, DirCache> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `lstat` of a name in a directory; `None` if nothing is there.
pub(crate) fn facts_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Facts>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Facts::from_stat(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens an existing regular file by one name, for reading and never through a link.
pub(crate) fn open_file_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(dir, name, flags, Mode::empty())?;
    if Facts::of(&fd)?.found != Found::File {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(File::from(fd))
}

/// Opens a directory by one name, never through a link.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Opens one name in a directory, beneath it and never through a link.
///
/// `O_NOFOLLOW` on one checked name is enough by itself; `openat2` makes the kernel check the same
/// once more, where it is there and allowed (containers forbid it now and then).
fn open_beneath(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        static NO_OPENAT2: AtomicBool = AtomicBool::new(false);
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            let how =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(dir, name, flags, mode, how) {
                Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
                // The kernel could not rule out a race with a rename; it asks for another try,
                // and plain openat of one name has no such doubt.
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }
    Ok(rustix::fs::openat(dir, name, flags, mode)?)
}

/// Did opening a directory fail because something else is there?
fn is_other_kind(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP))
}

/// Open directories by path, the least recently used one closed first.
#[derive(Debug, Default)]
struct DirCache {
    open: HashMap<Vec<u8>, (Dir, u64)>,
    tick: u64,
}

impl DirCache {
    fn get(&mut self, path: &[u8]) -> Option<Dir> {
        self.tick += 1;
        let (dir, used) = self.open.get_mut(path)?;
        *used = self.tick;
        Some(Arc::clone(dir))
    }

    fn put(&mut self, path: Vec<u8>, dir: Dir) {
        self.tick += 1;
        if self.open.len() >= DIRS_OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                self.open.remove(&oldest);
            }
        }
        self.open.insert(path, (dir, self.tick));
    }

    fn forget(&mut self, path: &[u8]) {
        let below = |known: &[u8]| {
            known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.open.retain(|known, _| !below(known));
    }
}
