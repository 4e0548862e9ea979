//! A file under a temporary name beside its place, until it is whole, durable and renamed.
//!
//! Dropped before that, it is unlinked: an error, a cancel or a full disk leaves nothing behind.
//! What a kill leaves is found by its name at the next pull.

use std::fs::File;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Dir, Facts, facts_at};
use crate::leftover::PREFIX;

/// Tries for a free name before giving up: with 64 random bits, one is enough.
const TRIES: u32 = 16;

/// May a rename take the place of something?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// No: what appeared there since the plan stays.
    Nothing,
    /// Yes: whatever is there that is no directory.
    Anything,
}

/// A thing under a temporary name.
#[derive(Debug)]
pub(crate) struct Temp {
    dir: Dir,
    name: String,
    done: bool,
}

impl Temp {
    /// A new, empty file that only we can read.
    pub(crate) fn file(dir: &Dir) -> io::Result<(Self, File)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let (temp, fd) =
            Self::make(dir, |name| rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, mode))?;
        Ok((temp, File::from(fd)))
    }

    /// Lets go of the descriptors; the name stays, and [`Temp::resume`] or the next pull finds it.
    pub(crate) fn park(mut self) -> String {
        self.done = true;
        std::mem::take(&mut self.name)
    }

    /// Opens a file that was parked in this directory.
    pub(crate) fn resume(dir: &Dir, name: String) -> io::Result<(Self, File)> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name.as_str(), flags, Mode::empty())?;
        Ok((Self { dir: Dir::clone(dir), name, done: false }, File::from(fd)))
    }

    /// A new symbolic link.
    pub(crate) fn symlink(dir: &Dir, points_to: &[u8]) -> io::Result<Self> {
        Ok(Self::make(dir, |name| rustix::fs::symlinkat(points_to, dir, name))?.0)
    }

    /// A new FIFO.
    #[cfg(not(target_vendor = "apple"))]
    pub(crate) fn fifo(dir: &Dir) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(Self::make(dir, |name| rustix::fs::mkfifoat(dir, name, mode))?.0)
    }

    /// A second name of an existing file (of a link itself, if one is there: never followed).
    pub(crate) fn hard_link(dir: &Dir, of_dir: &Dir, of_name: &[u8]) -> io::Result<Self> {
        let link = |name: &str| rustix::fs::linkat(of_dir, of_name, dir, name, AtFlags::empty());
        Ok(Self::make(dir, link)?.0)
    }

    fn make<T>(
        dir: &Dir,
        mut create: impl FnMut(&str) -> rustix::io::Result<T>,
    ) -> io::Result<(Self, T)> {
        for try_n in 0..TRIES {
            let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(try_n));
            match create(&name) {
                Ok(made) => return Ok((Self { dir: Dir::clone(dir), name, done: false }, made)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// The directory it is in.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its temporary name.
    pub(crate) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// A path to it, for SQLite, which takes no descriptors. It leads through no link.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        Ok(path_of(&self.dir)?.join(&self.name))
    }

    /// A path to another name in its directory, the same way; the name itself may be a link.
    pub(crate) fn beside(&self, name: &[u8]) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStrExt as _;
        Ok(path_of(&self.dir)?.join(std::ffi::OsStr::from_bytes(name)))
    }

    /// What it is.
    pub(crate) fn facts(&self) -> io::Result<Facts> {
        facts_at(self.dir.as_fd(), self.name())?.ok_or_else(|| Errno::NOENT.into())
    }

    /// Opens it again, for metadata or to make it durable; a FIFO does not block.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.dir, self.name.as_str(), flags, Mode::empty())?))
    }

    /// Gives it its final name in the same directory.
    pub(crate) fn rename(mut self, to: &[u8], over: Over) -> io::Result<()> {
        match over {
            Over::Nothing => {
                self.rename_to_free(to)?;
                self.done = true;
            }
            Over::Anything => {
                rustix::fs::renameat(&self.dir, self.name.as_str(), &self.dir, to)?;
                // Renaming one name of a file over another name of it does nothing at all and
                // leaves both: then this one is still to be unlinked.
                self.done = facts_at(self.dir.as_fd(), self.name())?.is_none();
            }
        }
        Ok(())
    }

    fn rename_to_free(&self, to: &[u8]) -> io::Result<()> {
        let name = self.name.as_str();
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&self.dir, name, &self.dir, to, flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                other => return Ok(other?),
            }
        }
        if facts_at(self.dir.as_fd(), to)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        Ok(rustix::fs::renameat(&self.dir, name, &self.dir, to)?)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.done {
            // Nothing can be done about a failure; the next pull removes it by its name.
            let _ = rustix::fs::unlinkat(&self.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Where an open directory is now.
#[cfg(target_os = "linux")]
pub(crate) fn path_of(dir: &Dir) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// Where an open directory is now.
#[cfg(target_vendor = "apple")]
pub(crate) fn path_of(dir: &Dir) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = rustix::fs::getpath(dir)?;
    Ok(std::ffi::OsString::from_vec(path.into_bytes()).into())
}

/// Where an open directory is now.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(crate) fn path_of(_: &Dir) -> io::Result<PathBuf> {
    Err(io::ErrorKind::Unsupported.into())
}
