//! A restored database takes the place of an older one, log and all.
//!
//! In: the new database under its temporary name, whole and on the disk. Out: it has its name, and
//! nothing of the old one is beside it. Invariant: whenever it all stops, by a kill or by power loss,
//! what is at the place opens, and is the old database with every transaction it had, or the new one.
//!
//! A database is up to three names, and no call changes three names at once:
//!
//! - A write-ahead log is valid by itself: its frames carry their own checks and nothing of the main
//!   file. One that is left beside the new file is played into it. So is a rollback journal.
//! - So the side files must be gone before the new file comes. But in the log may be transactions
//!   that were never copied to the main file, and without its journal a main file may be torn: if it
//!   ended between the two, the old database would be lost.
//!
//! So the old database is made to stand alone first, in a copy: SQLite plays the log, or the journal,
//! into a copy of all three ([`stand_alone`]). Then:
//!
//! ```text
//! 1. the copy takes the name of the old main file; sync    old: the same pages, so that playing
//!                                                          the log in once more changes nothing
//! 2. the side files are unlinked, in any order; sync       old: the main file has it all
//! 3. the new file takes the name                           new
//! ```
//! Without side files that hold anything, which is how a program that ends leaves a database, 1 is
//! nothing, and no copy is made. The old file itself is never written to: it may have other names
//! outside of the target, and who has it open still may go on with it.
//!
//! If SQLite cannot make sense of the old files there is no old database to save: 1 is left out. The
//! same if somebody writes to them meanwhile, which happens only when told to go on all the same, and
//! on systems that cannot tell the path of an open directory (SQLite takes no descriptors).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::target::{Dir, Facts, Over, SQLITE_SIDES, Temp, facts_at, open_file_at};
use crate::capture::connection::harden;

/// A step that is done; a test stops after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The old database stands alone under a temporary name.
    Copied,
    /// The copy has the name of the old one.
    OldAlone,
    /// That is on the disk.
    OldAloneSynced,
    /// A side file is gone.
    SideGone,
    /// That is on the disk.
    SidesGoneSynced,
    /// The new database has its name.
    New,
}

/// Called after each step; an error ends the swap there.
pub(crate) type After<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

/// Puts `new` in the place of the database `name` in its directory.
pub(crate) fn swap(new: Temp, name: &[u8], over: Over, after: After<'_>) -> io::Result<()> {
    let dir = Dir::clone(new.dir());
    if over == Over::Nothing && facts_at(dir.as_fd(), name)?.is_some() {
        return Err(Errno::EXIST.into()); // it appeared meanwhile, and its log is its own
    }
    if let Some(old) = stand_alone(&dir, name)? {
        after(Step::Copied)?;
        old.rename(name, Over::Anything)?;
        after(Step::OldAlone)?;
        rustix::fs::fsync(&dir)?;
        after(Step::OldAloneSynced)?;
    }
    remove_sides(&dir, name, after)?;
    new.rename(name, over)?;
    after(Step::New)
}

fn remove_sides(dir: &Dir, name: &[u8], after: After<'_>) -> io::Result<()> {
    let mut removed = false;
    for side in SQLITE_SIDES {
        match rustix::fs::unlinkat(dir, [name, side].concat(), AtFlags::empty()) {
            Ok(()) => {
                removed = true;
                after(Step::SideGone)?;
            }
            Err(Errno::NOENT | Errno::NAMETOOLONG) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if removed {
        rustix::fs::fsync(dir)?;
        after(Step::SidesGoneSynced)?;
    }
    Ok(())
}

/// Are there side files that hold something: a log, or a journal that is not done with?
pub(super) fn has_live_sides(dir: &Dir, name: &[u8]) -> bool {
    live_sides(dir, name).next().is_some()
}

/// The side files that hold something.
fn live_sides<'d>(
    dir: &'d Dir,
    name: &'d [u8],
) -> impl Iterator<Item = (&'static [u8], File)> + 'd {
    SQLITE_SIDES.into_iter().filter_map(move |side| {
        let file = open_file_at(dir.as_fd(), &[name, side].concat()).ok()?;
        let mut first = [0];
        // SQLite's own rule: a journal that begins with a zero is done with
        let live = match side {
            b"-wal" => file.metadata().ok()?.len() > 0,
            b"-journal" => matches!((&file).read(&mut first), Ok(1)) && first != [0],
            _ => false, // made again from the log
        };
        live.then_some((side, file))
    })
}

/// A copy of a database, made durable, that has all that its side files hold. `None` if they hold
/// nothing, or there is no database to save.
fn stand_alone(dir: &Dir, name: &[u8]) -> io::Result<Option<Temp>> {
    let sides: Vec<(&[u8], File)> = live_sides(dir, name).collect();
    let main = open_file_at(dir.as_fd(), name).ok().filter(|_| !sides.is_empty());
    let Some(main) = main else { return Ok(None) };
    let look = || -> io::Result<Vec<_>> {
        let files = [&main].into_iter().chain(sides.iter().map(|(_, file)| file));
        files.map(|file| Facts::of(file).map(|facts| (facts.size, facts.mtime))).collect()
    };
    let (before, facts) = (look()?, Facts::of(&main)?);
    let (temp, copy) = Temp::file(dir)?;
    copy_all(&main, &copy)?;
    let beside = Beside::of(&temp);
    for (side, from) in &sides {
        copy_all(from, &beside.create(side)?)?;
    }
    let Ok(path) = temp.path() else { return Ok(None) };
    if !play_in(&path)? || look()? != before {
        return Ok(None);
    }
    if beside.has_log() {
        return Err(io::Error::other("the log of the old database could not be copied into it"));
    }
    dress(&copy, &facts);
    copy.sync_all()?;
    Ok(Some(temp))
}

/// Where the file system can, no byte is copied.
fn copy_all(mut from: &File, mut to: &File) -> io::Result<()> {
    io::Seek::rewind(&mut from)?;
    io::copy(&mut from, &mut to).map(drop)
}

/// Opens our copy and lets SQLite play its log or journal into it. False if SQLite sees no database.
fn play_in(path: &Path) -> io::Result<bool> {
    let played = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let db = Connection::open_with_flags(path, flags)?;
        harden(&db)?;
        // nobody else has it: no shared memory is needed
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        // reads page 1 and no schema: a journal is played back here, a log when the last connection
        // goes
        db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        db.close().map_err(|(_, error)| error)
    };
    let Err(error) = played() else { return Ok(true) };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::CannotOpen) => {
            Ok(false)
        }
        Some(ErrorCode::DiskFull) => Err(Errno::NOSPC.into()),
        _ => {
            let what = format!("the old database with its log could not be copied: {error}");
            Err(io::Error::other(what))
        }
    }
}

/// Gives the copy the mode, owner and time of the old file, as far as we may: it stays only if all
/// ends before the new one comes.
fn dress(copy: &File, old: &Facts) {
    let time = Timespec { tv_sec: old.mtime.0, tv_nsec: old.mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let (uid, gid) = (rustix::fs::Uid::from_raw(old.uid), rustix::fs::Gid::from_raw(old.gid));
    let done = rustix::fs::fchown(copy, Some(uid), Some(gid))
        .and(rustix::fs::fchmod(copy, Mode::from_raw_mode(old.mode)))
        .and(rustix::fs::futimens(copy, &times));
    if let Err(error) = done {
        tracing::debug!(%error, "metadata of the copy of an old database");
    }
}

/// The side files of our copy; dropped, they are unlinked.
struct Beside {
    dir: Dir,
    main: Vec<u8>,
}

impl Beside {
    fn of(temp: &Temp) -> Self {
        Self { dir: Dir::clone(temp.dir()), main: temp.name().to_vec() }
    }

    fn create(&self, side: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let name = [&self.main, side].concat();
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.dir, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// SQLite unlinks a log once all of it is in the main file. (A journal is played before
    /// anything is read, and may stay.)
    fn has_log(&self) -> bool {
        live_sides(&self.dir, &self.main).any(|(side, _)| side == b"-wal")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        for side in SQLITE_SIDES {
            // What is left by a failure goes with the next pull, by its name.
            let name = [&self.main, side].concat();
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}
