//! A store in a directory: one object is one file, `/` in a name is a folder.
//!
//! In: object names and bytes. Out: files under the root, written by us alone. Invariants:
//! - A file under an object's name is whole: bytes go to `.tmp/<random>`, are fsynced, renamed into
//!   place, and the folder is fsynced before `put` returns. Deletes are fsynced too, so that a
//!   forgotten snapshot cannot come back after its packs are gone.
//! - No call leaves the root: each folder is opened from the one above it, without following
//!   links. A link, or anything else that is not a plain file or folder, is an error where an object
//!   could be, never skipped: a listing must not come out short.
//! - Leftovers of a killed writer are invisible (no object name starts with a dot). The first `put`
//!   of a handle removes those whose writer is gone: a writer holds an exclusive lock on its file.
//!   Where locks do not work, a writer may lose its file; it then writes it again under a new name,
//!   and the name is 128 random bits, so it can never publish the bytes of another writer.
//!
//! This is not `object_store`'s `LocalFileSystem`: that one follows links out of its root, skips broken
//! ones in listings, and keeps a killed writer's leftovers for ever.

mod foreign;

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::{Error, Item, Listing, Result, Store, name};

/// Where unfinished files live, under the root. Not an object name.
const TEMP_FOLDER: &str = ".tmp";
/// How often a writer whose temporary file was taken away starts again.
const PUT_TRIES_MAX: u32 = 3;

const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// `NONBLOCK`: opening a FIFO that somebody planted must not wait for a writer.
const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const CREATE_FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A directory as a store.
#[derive(Debug)]
pub struct LocalStore {
    path: PathBuf,
    root: OwnedFd,
    tidied: Once,
}

impl LocalStore {
    /// Opens a directory that exists. [`Error::NoSuchStore`] if it does not.
    pub fn open(root: &Path) -> Result<Self> {
        // The root may be a link: it is the one path the user named. Nothing below it may.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(root, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path: root.to_owned(), root: fd, tidied: Once::new() }),
            Err(Errno::NOENT) => Err(no_such_store(root, "no such directory")),
            Err(Errno::NOTDIR) => Err(no_such_store(root, "not a directory")),
            Err(e) => Err(io_error("open", &root.display().to_string(), e.into())),
        }
    }

    /// Opens a directory, made with its parents (mode 0700) where it is missing.
    pub fn create(root: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|e| io_error("create", &root.display().to_string(), e))?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Makes the new name last; a parent we may not read belongs to somebody else.
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        Self::open(root)
    }

    /// The root as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names the failure of `op` on `name`; tells a lost root from a lost object.
    fn error(&self, op: &'static str, name: &str, source: io::Error) -> Error {
        if is_absent(&source) && self.root_is_gone() {
            return no_such_store(&self.path, "the directory was removed");
        }
        if is_absent(&source) && op == "get" {
            return Error::NotFound { name: name.to_owned() };
        }
        io_error(op, name, source)
    }

    fn root_is_gone(&self) -> bool {
        rustix::fs::fstat(&self.root).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Opens `folder` (`a/b`) below the root, link-free, making what is missing if `make`.
    fn folder(&self, folder: &str, make: bool) -> io::Result<OwnedFd> {
        let mut fd = self.root.try_clone()?;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            fd = match open_folder(fd.as_fd(), part) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && make => make_folder(&fd, part)?,
                opened => opened?,
            };
        }
        Ok(fd)
    }

    /// Opens the plain file of `name` for reading.
    fn object(&self, name: &str) -> io::Result<(File, u64)> {
        let (folder, leaf) = split(name);
        let folder = self.folder(folder, false)?;
        let fd = rustix::fs::openat(&folder, leaf, READ_FLAGS, Mode::empty()).map_err(refused)?;
        let stat = rustix::fs::fstat(&fd)?;
        require_file(&stat)?;
        Ok((File::from(fd), size(&stat)))
    }

    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()> {
        let temp_folder = self.folder(TEMP_FOLDER, true)?;
        self.tidied.call_once(|| tidy(&temp_folder));
        let (folder, leaf) = split(name);
        let folder = self.folder(folder, true)?;
        require_replaceable(&folder, leaf)?;
        let mut tries = 1;
        loop {
            let temp = Temp::create(temp_folder.as_fd())?;
            write_parts(&temp.file, parts)?;
            temp.file.sync_all()?;
            forget_pages(&temp.file);
            match temp.publish(folder.as_fd(), leaf) {
                // Somebody tidied a file that was not theirs (no locks on this file system).
                Err(Errno::NOENT) if tries < PUT_TRIES_MAX => tries += 1,
                published => break published?,
            }
        }
        sync_folder(&folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (folder, leaf) = split(name);
        let folder = self.folder(folder, false)?;
        rustix::fs::unlinkat(&folder, leaf, AtFlags::empty())?;
        sync_folder(&folder)
    }

    fn walk(&self, prefix: &str) -> io::Result<Vec<Item>> {
        let (folder, start) = name::split_prefix(prefix);
        let (fd, path) = match folder {
            Some(folder) => (self.folder(folder, false)?, format!("{folder}/")),
            None => (self.folder("", false)?, String::new()),
        };
        let mut items = Vec::new();
        list_folder(&fd, &path, start, &mut items)?;
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(items)
    }
}

impl Store for LocalStore {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        name::check(name)?;
        self.write(name, &parts).map_err(|e| self.error("put", name, e))
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        name::check(name)?;
        let read = |(mut file, _): (File, u64)| {
            let mut whole = Vec::new();
            io::Read::read_to_end(&mut file, &mut whole)?;
            Ok(Bytes::from(whole))
        };
        self.object(name).and_then(read).map_err(|e| self.error("get", name, e))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        name::check(name)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let (file, size) = self.object(name).map_err(|e| self.error("get", name, e))?;
        let short = || Error::Short { name: name.to_owned(), end: range.end };
        if range.end > size {
            return Err(short());
        }
        let len = usize::try_from(range.end - range.start).map_err(|_| short())?;
        let bytes = read_at(&file, range.start, len).map_err(|e| self.error("get", name, e))?;
        if bytes.len() < len { Err(short()) } else { Ok(bytes) }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        let listed = if name::can_start(prefix) { self.walk(prefix) } else { Ok(Vec::new()) };
        match listed {
            Err(e) if is_absent(&e) && !self.root_is_gone() => Ok(Vec::new()),
            // A removed directory reads as an empty one.
            Ok(items) if items.is_empty() && self.root_is_gone() => {
                Err(no_such_store(&self.path, "the directory was removed"))
            }
            listed => listed.map_err(|e| self.error("list", prefix, e)),
        }
    }

    fn delete(&self, name: &str) -> Result<()> {
        name::check(name)?;
        match self.remove(name) {
            Err(e) if is_absent(&e) && !self.root_is_gone() => Ok(()),
            removed => removed.map_err(|e| self.error("delete", name, e)),
        }
    }

    fn listing(&self) -> Listing {
        Listing::Local
    }

    fn address(&self) -> String {
        self.path.display().to_string()
    }
}

/// A file that is being written, locked by us; gone when dropped unpublished.
struct Temp<'a> {
    folder: BorrowedFd<'a>,
    name: String,
    file: File,
    published: bool,
}

impl<'a> Temp<'a> {
    fn create(folder: BorrowedFd<'a>) -> io::Result<Self> {
        let name = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        let fd = rustix::fs::openat(folder, &name, CREATE_FLAGS, FILE_MODE)?;
        let file = File::from(fd);
        // A lock that cannot be had costs at most one more write; see the module's head.
        let _ = file.try_lock();
        Ok(Self { folder, name, file, published: false })
    }

    fn publish(mut self, folder: BorrowedFd<'_>, leaf: &str) -> rustix::io::Result<()> {
        rustix::fs::renameat(self.folder, &self.name, folder, leaf)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Removes files whose writer is gone. Nothing here may fail a `put`: a later run tries again.
fn tidy(temp_folder: &OwnedFd) {
    let Ok(entries) = Dir::read_from(temp_folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Ok(fd) = rustix::fs::openat(temp_folder, name, flags, Mode::empty()) else { continue };
        if File::from(fd).try_lock().is_ok() {
            tracing::debug!(?name, "removing the leftover of a writer that is gone");
            let _ = rustix::fs::unlinkat(temp_folder, name, AtFlags::empty());
        }
    }
}

/// Writes all parts with as few calls as the system takes, without joining them.
fn write_parts(mut file: &File, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads `len` bytes at `offset`, fewer only at the end of the file.
fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    // The allocator may give more room than was asked for.
    bytes.truncate(len);
    Ok(Bytes::from(bytes))
}

/// Adds every object of the folder `path` whose name there begins with `start`.
fn list_folder(fd: &OwnedFd, path: &str, start: &str, items: &mut Vec<Item>) -> io::Result<()> {
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let Ok(part) = entry.file_name().to_str() else { continue };
        // A foreign file (`.tmp`, `lost+found`, `.DS_Store`) has no object name.
        if !part.starts_with(start) || !name::is_part(part) {
            continue;
        }
        let stat = match rustix::fs::statat(fd, part, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue, // deleted since
            stat => stat?,
        };
        let name = format!("{path}{part}");
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match open_folder(fd.as_fd(), part) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                below => list_folder(&below?, &format!("{name}/"), "", items)?,
            }
        } else {
            require_file(&stat).map_err(|e| io::Error::new(e.kind(), format!("{name} {e}")))?;
            items.push(Item { name, size: size(&stat), modified: modified(&stat) });
        }
    }
    Ok(())
}

fn open_folder(parent: BorrowedFd<'_>, part: &str) -> io::Result<OwnedFd> {
    match rustix::fs::openat(parent, part, FOLDER_FLAGS, Mode::empty()) {
        // Linux says ENOTDIR, not ELOOP, for a link here; tell it from a plain file.
        Err(Errno::NOTDIR) => {
            let stat = rustix::fs::statat(parent, part, AtFlags::SYMLINK_NOFOLLOW)?;
            require_file(&stat).and(Err(Errno::NOTDIR.into()))
        }
        opened => opened.map_err(refused),
    }
}

fn make_folder(parent: &OwnedFd, part: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, part, FOLDER_MODE) {
        Ok(()) => sync_folder(parent)?,
        Err(Errno::EXIST) => {} // another writer was faster
        Err(e) => return Err(e.into()),
    }
    open_folder(parent.as_fd(), part)
}

/// Lets go of the pages in memory of a file that is on the disk: what is stored is seldom read soon, and must
/// not push out of memory what others use. A hint: whether it was taken shows in nothing but time.
#[cfg(target_os = "linux")]
fn forget_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(_: &File) {}

/// `fsync` as strong as the platform has it (`File` knows macOS's `F_FULLFSYNC`).
fn sync_folder(folder: &OwnedFd) -> io::Result<()> {
    File::from(folder.try_clone()?).sync_all()
}

/// Nothing is there: no such name, or a plain file where a folder would have to be.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Says what `ELOOP` means here.
fn refused(e: Errno) -> io::Error {
    match e {
        // FreeBSD says EMLINK where others say ELOOP.
        Errno::LOOP | Errno::MLINK => not_ours("is a symbolic link; links are not followed"),
        e => e.into(),
    }
}

fn require_file(stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(not_ours("is a symbolic link; links are not followed")),
        FileType::Directory => Err(not_ours("is a folder")),
        _ => Err(not_ours("is not a plain file")),
    }
}

/// A rename would replace a link that somebody planted; refuse, so that they hear of it.
fn require_replaceable(folder: &OwnedFd, leaf: &str) -> io::Result<()> {
    match rustix::fs::statat(folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        stat => require_file(&stat?),
    }
}

fn not_ours(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[allow(clippy::useless_conversion, reason = "the field's type differs between systems")]
fn modified(stat: &Stat) -> SystemTime {
    let nanos = Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    let whole = Duration::from_secs(stat.st_mtime.unsigned_abs());
    if stat.st_mtime < 0 {
        SystemTime::UNIX_EPOCH - whole + nanos
    } else {
        SystemTime::UNIX_EPOCH + whole + nanos
    }
}

fn no_such_store(root: &Path, detail: &str) -> Error {
    Error::NoSuchStore { address: root.display().to_string(), detail: detail.to_owned() }
}

fn io_error(op: &'static str, name: &str, source: io::Error) -> Error {
    Error::Io { op, name: name.to_owned(), source }
}
