//! Catalogues get their entries back: what is there stays, what is missing is added.
//!
//! In: a [`Restore`], where its roots go, and which of its sessions are not there. Out: for each catalogue how
//! many entries were added, or why none. Lines are appended as their agent appends them; a document is written
//! whole under another name and renamed; both unless somebody changed it meanwhile. Rows go in by one
//! transaction, unless SQLite finds the database damaged. So after a failure, a kill too, a catalogue is what it
//! was or has all. Where none is there, it is made with these sessions alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapters::sessions::{Catalogue, CatalogueEntries, SessionRule, SessionSource, Values};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use sessions::catalogue::{self, Whose};

use super::bytes::Work;
use super::digest::{CATALOGUE_BYTES_MAX, whole};
use super::image::Image;
use super::restore::{Listing, Restore};
use crate::capture::connection::connect_own;
use crate::capture::health::{self, Health};
use crate::capture::marks::{marked_values, take_out};
use crate::capture::regain;
use crate::error::Result;
use crate::marks::{Back, Secrets, give_back_bytes, marks_in};
use crate::pull::Placement;
use crate::pull::error::show;
use crate::pull::holders;
use crate::pull::swap::swap;
use crate::pull::target::{Dir, Facts, Found, Over, Rel, Target, Temp, path_of};
use crate::session::Session;

/// How long a live database may be locked by its agent.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long SQLite may look for damage in one before rows are added to it.
const CHECK_TIME: Duration = Duration::from_secs(60);

/// What happened to a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Its path, label first.
    pub path: String,
    /// Entries that were added; of a dry run, those that the snapshot has.
    pub added: u64,
    /// It was not there and was made.
    pub created: bool,
    /// Entries that are there and say something else: they stay as they are.
    pub other: u64,
    /// Tables and columns that the live database does not have.
    pub absent: Vec<String>,
    /// How many secrets have marks in their places in what was added, by rule and in words.
    pub blanks: Vec<String>,
    /// Why nothing was done.
    pub problem: Option<String>,
}

/// How to merge.
#[derive(Debug, Clone, Copy, Default)]
pub struct MergeOptions {
    /// Only count what the snapshot has.
    pub dry_run: bool,
    /// Also into databases that another process has open.
    pub even_if_open: bool,
}

/// Why one catalogue was left as it was; the others go on.
type Failed = String;

/// Merges all catalogues of a restore.
pub fn merge(
    session: &Session,
    restore: &Restore<'_>,
    missing: &BTreeSet<String>,
    to: &Placement,
    options: MergeOptions,
    cancel: &AtomicBool,
) -> Result<Vec<Merged>> {
    let work = Work::new(session, cancel);
    let mut out = Vec::new();
    for listing in &restore.listings {
        let mut listing = listing.clone();
        let wanted = listing.wanted.len();
        listing.wanted.retain(|one| !missing.contains(&one.id));
        let mut merged = Merged {
            path: format!("{}/{}", listing.label, listing.rel),
            added: 0,
            created: false,
            other: 0,
            absent: Vec::new(),
            blanks: Vec::new(),
            problem: None,
        };
        work.reader()?; // a signal ends it between two catalogues
        if let Some(why) = restore.closed.get(&merged.path) {
            merged.problem = Some(why.clone());
        } else if let Err(why) = merge_one(&work, &listing, to, options, cancel, &mut merged) {
            merged.problem = Some(why);
        }
        if listing.wanted.len() < wanted {
            let what = "a session whose transcript was not restored is not added";
            merged.problem.get_or_insert_with(|| what.to_owned());
        }
        let silent = merged.added == 0 && merged.other == 0 && merged.problem.is_none();
        if !silent || !merged.absent.is_empty() {
            out.push(merged);
        }
    }
    Ok(out)
}

fn merge_one(
    work: &Work<'_>,
    listing: &Listing,
    to: &Placement,
    options: MergeOptions,
    cancel: &AtomicBool,
    merged: &mut Merged,
) -> std::result::Result<(), Failed> {
    if listing.wanted.is_empty() {
        return Ok(());
    }
    let base = base_of(to, &listing.label).ok_or("no place is given for its root")?;
    let rel = Rel::check(listing.rel.as_bytes()).map_err(str::to_owned)?;
    let target = Target::open(&base, !options.dry_run).map_err(told)?;
    let is_database = listing.wanted.iter().any(|one| {
        let entries = &one.rule.catalogue[one.number].entries;
        matches!(entries, CatalogueEntries::Rows { .. } | CatalogueEntries::RowList { .. })
    });
    if is_database {
        let target = target.as_ref();
        return merge_database(work, listing, target, &rel, options, cancel, merged);
    }
    // one file may be named by the catalogues of several rules
    for (catalogue, whose) in by_catalogue(listing, &|one| Ok(Values::new(&one.id, &one.rel)))? {
        merge_file(work, listing, &catalogue, &whose, target.as_ref(), &rel, options, merged)?;
    }
    Ok(())
}

/// The catalogues of a file, each with the sessions that are wanted of it.
fn by_catalogue(
    listing: &Listing,
    values: &dyn Fn(&super::restore::Wanted) -> std::result::Result<Values, Failed>,
) -> std::result::Result<Vec<(Catalogue, Whose)>, Failed> {
    let mut out: Vec<(Catalogue, Whose)> = Vec::new();
    for one in &listing.wanted {
        let catalogue = &one.rule.catalogue[one.number];
        let at = out.iter().position(|(known, _)| known.entries == catalogue.entries);
        let at = at.unwrap_or_else(|| {
            out.push((catalogue.clone(), Whose::default()));
            out.len() - 1
        });
        out[at].1.ids.insert(one.id.clone());
        out[at].1.values.push(values(one)?);
    }
    Ok(out)
}

pub(super) fn base_of(to: &Placement, label: &str) -> Option<PathBuf> {
    match to {
        Placement::Under(dir) => Some(dir.join(label)),
        Placement::Each(all) => {
            all.iter().find(|(of, _)| of == label.as_bytes()).map(|(_, dir)| dir.clone())
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "a file, what of it, and where to")]
fn merge_file(
    work: &Work<'_>,
    listing: &Listing,
    catalogue: &Catalogue,
    whose: &Whose,
    target: Option<&Target>,
    rel: &Rel,
    options: MergeOptions,
    merged: &mut Merged,
) -> std::result::Result<(), Failed> {
    if listing.entry.size > CATALOGUE_BYTES_MAX {
        return Err(format!("of {} bytes it is not parsed", listing.entry.size));
    }
    let bytes = whole(work, &listing.entry).map_err(told)?;
    let stored = |bytes: &[u8]| catalogue::stored(catalogue, bytes, whose).map_err(told);
    let mut entries = stored(&bytes)?;
    if entries.is_empty() {
        return Ok(());
    }
    let Some(target) = target.filter(|_| !options.dry_run) else {
        merged.added += entries.len() as u64;
        return Ok(());
    };
    let (dir, name) = place(target, rel)?;
    let before = facts(&dir, name)?;
    let live = match &before {
        Some(facts) if facts.found != Found::File => {
            return Err("what is there is no file".to_owned());
        }
        Some(facts) if facts.size > CATALOGUE_BYTES_MAX => {
            return Err(format!(
                "the one that is there has {} bytes and is not parsed",
                facts.size
            ));
        }
        Some(_) => {
            let mut live = Vec::new();
            let mut file = target.open_file(rel).map_err(told)?;
            file.read_to_end(&mut live).map_err(told)?;
            Some(live)
        }
        None => None,
    };
    if let (Some(live), true) = (&live, listing.entry.marks.is_some()) {
        // an entry with a mark is the one that has its secret
        let path = merged.path.as_bytes();
        entries =
            stored(&give_back_bytes(&mark_key(work), path, &bytes, &mut &live[..]).map_err(told)?)?;
    }
    let done = catalogue::merge(catalogue, live.as_deref(), &entries)
        .map_err(|e| format!("the one that is there stays as it is: {e}"))?;
    merged.other += done.other.len() as u64;
    if done.added == 0 {
        return Ok(());
    }
    match before {
        Some(before) if done.append => append(&dir, name, &done.bytes, &before)?,
        before => {
            let mode = before.map_or(listing.entry.mode, |facts| facts.mode);
            replace(&dir, name, &done.bytes, mode, before)?;
        }
    }
    merged.added += done.added as u64;
    merged.created |= live.is_none();
    let mut left = Back::default();
    done.new.iter().for_each(|entry| left.add(marks_in(entry)));
    merged.blanks.extend(left.blanks());
    Ok(())
}

/// The open directory of a path, made if need be, and its last name.
fn place<'r>(target: &Target, rel: &'r Rel) -> std::result::Result<(Dir, &'r [u8]), Failed> {
    if let Some((parent, _)) = rel.split() {
        target.make_dirs(&parent).map_err(told)?;
    }
    target.place(rel).map_err(told)
}

fn facts(dir: &Dir, name: &[u8]) -> std::result::Result<Option<Facts>, Failed> {
    crate::pull::target::facts_at(dir.as_fd(), name).map_err(told)
}

/// What tells that a file is still the one that was read.
fn look(facts: &Facts) -> ((u64, u64), u64, (i64, u32)) {
    (facts.id, facts.size, facts.mtime)
}

const CHANGED: &str = "it changed meanwhile; pull again";

/// One write at the end, as agents do it, if the file is still the one that was read.
fn append(dir: &Dir, name: &[u8], bytes: &[u8], before: &Facts) -> std::result::Result<(), Failed> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || -> std::io::Result<File> {
        Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?))
    };
    let file = open().map_err(told)?;
    if look(&Facts::of(&file).map_err(told)?) != look(before) {
        return Err(CHANGED.to_owned());
    }
    whole_or_nothing(&file, before.size, &mut |mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    })
    .map_err(told)
}

/// A disk that is full takes a part of the bytes: half a line would spoil the next one of the agent.
fn whole_or_nothing(
    file: &File,
    len: u64,
    write: &mut dyn FnMut(&File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let Err(error) = write(file) else { return Ok(()) };
    file.set_len(len)?;
    Err(error)
}

/// Writes a file whole and puts it in the place of the one that is there, unless that changed.
fn replace(
    dir: &Dir,
    name: &[u8],
    bytes: &[u8],
    mode: u32,
    before: Option<Facts>,
) -> std::result::Result<(), Failed> {
    let write = || -> std::io::Result<Temp> {
        let (temp, mut file) = Temp::file(dir)?;
        file.write_all(bytes)?;
        if let Some(before) = &before {
            // root may write to the files of others, and they stay theirs
            let now = Facts::of(&file)?;
            if (now.uid, now.gid) != (before.uid, before.gid) {
                let (uid, gid) = (Uid::from_raw(before.uid), Gid::from_raw(before.gid));
                rustix::fs::fchown(&file, Some(uid), Some(gid))?;
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        file.sync_all()?;
        Ok(temp)
    };
    let temp = write().map_err(told)?;
    if facts(dir, name)?.as_ref().map(look) != before.as_ref().map(look) {
        return Err(CHANGED.to_owned());
    }
    let over = if before.is_some() { Over::Anything } else { Over::Nothing };
    temp.rename(name, over).map_err(told)?;
    rustix::fs::fsync(dir).map_err(|e| told(std::io::Error::from(e)))
}

fn merge_database(
    work: &Work<'_>,
    listing: &Listing,
    target: Option<&Target>,
    rel: &Rel,
    options: MergeOptions,
    cancel: &AtomicBool,
    merged: &mut Merged,
) -> std::result::Result<(), Failed> {
    let mut image = Image::new(work).map_err(told)?;
    image.become_version(work, &listing.entry).map_err(told)?;
    let mut from = image.connect().map_err(told)?;
    let known: std::cell::RefCell<BTreeMap<(String, String), Values>> =
        std::cell::RefCell::default();
    let values =
        |one: &super::restore::Wanted| values_of(&from, &one.rule, &one.id, &one.rel, &known);
    let all = by_catalogue(listing, &values)?;
    let wanted: Vec<catalogue::Wanted<'_>> = all
        .iter()
        .map(|(catalogue, whose)| catalogue::Wanted { catalogue, whose: whose.clone() })
        .collect();
    let count = catalogue::count_rows(&from, &wanted).map_err(told)?;
    if count == 0 {
        return Ok(());
    }
    let Some(target) = target.filter(|_| !options.dry_run) else {
        merged.added = count;
        return Ok(());
    };
    let (dir, name) = place(target, rel)?;
    match facts(&dir, name)? {
        None => {
            drop(from);
            let left = create_database(&image, &dir, name, &wanted, listing.entry.mode)?;
            merged.blanks = left.blanks();
            merged.added = count;
            merged.created = true;
        }
        Some(facts) if facts.found == Found::File => {
            let holder = holders::find(&[(Dir::clone(&dir), name)]).into_iter().next().flatten();
            if let Some(holder) = holder.filter(|_| !options.even_if_open) {
                return Err(holder.reason());
            }
            if listing.entry.marks.is_some() {
                // a row with a mark is the one that has its secret
                from.close().map_err(|(_, error)| told(error))?;
                let key = mark_key(work);
                let secrets = Secrets { key: &key, spared: None };
                let there = live_path(&dir, name).map_err(told)?;
                match take_out(&image.path(), Some(&there), secrets, merged.path.as_bytes()) {
                    Ok(_) => {}
                    Err(regain::Failed::Live(error) | regain::Failed::Image(error)) => {
                        return Err(told(error));
                    }
                }
                from = image.connect().map_err(told)?;
            }
            let mut live = open_live(&dir, name).map_err(told)?;
            let over = || cancel.load(Ordering::Relaxed);
            if let Health::Damaged(messages) = health::check(&live, CHECK_TIME, &over) {
                let messages = show(messages.join("; ").as_bytes());
                return Err(format!("SQLite finds the one that is there damaged: {messages}"));
            }
            let mut left = Back::default();
            let mut added = |text: &[u8]| left.add(marks_in(text));
            let done = catalogue::merge_rows(&from, &mut live, &wanted, &mut added)
                .map_err(|e| format!("the one that is there stays as it is: {e}"))?;
            merged.blanks = left.blanks();
            merged.added = done.added;
            merged.other = done.other;
            merged.absent = done.absent;
        }
        Some(_) => return Err("what is there is no file".to_owned()),
    }
    Ok(())
}

/// What templates stand for, of a session: its row says more than its id.
fn values_of(
    db: &Connection,
    rule: &Arc<SessionRule>,
    id: &str,
    rel: &str,
    known: &std::cell::RefCell<BTreeMap<(String, String), Values>>,
) -> std::result::Result<Values, Failed> {
    if matches!(rule.source, SessionSource::File { .. }) {
        return Ok(Values::new(id, rel));
    }
    let key = (id.to_owned(), rel.to_owned());
    if let Some(values) = known.borrow().get(&key) {
        return Ok(values.clone());
    }
    let values = sessions::row_values(db, rule, id).map_err(told)?;
    known.borrow_mut().insert(key, values.clone());
    Ok(values)
}

/// A database with these sessions alone: the image without the others, and without the space they took. Gives
/// the marks in it.
fn create_database(
    image: &Image,
    dir: &Dir,
    name: &[u8],
    wanted: &[catalogue::Wanted<'_>],
    mode: u32,
) -> std::result::Result<Back, Failed> {
    let own = connect_own(&image.path()).map_err(told)?;
    catalogue::prune_rows(&own, wanted).map_err(told)?;
    let mut left = Back::default();
    marked_values(&own, &mut |value| left.add(marks_in(value))).map_err(told)?;
    let (temp, file) = Temp::file(dir).map_err(told)?;
    let path = temp.path().map_err(told)?;
    let path = path.to_str().ok_or("its path is no text")?;
    // a VACUUM attaches the file that it writes
    own.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1).map_err(told)?;
    own.execute("VACUUM INTO ?1", [path]).map_err(told)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))
        .map_err(|e| told(std::io::Error::from(e)))?;
    file.sync_all().map_err(told)?;
    // a log of an older one would be played into it
    swap(temp, name, Over::Nothing, &mut |_| Ok(())).map_err(told)?;
    rustix::fs::fsync(dir).map_err(|e| told(std::io::Error::from(e)))?;
    Ok(left)
}

/// Opens a live database for writing, as its agent does. It is the user's own: its triggers keep its
/// indexes right. Functions that reach outside of it are not for them.
fn open_live(dir: &Dir, name: &[u8]) -> rusqlite::Result<Connection> {
    let path = live_path(dir, name).map_err(|_| rusqlite::Error::InvalidPath(PathBuf::new()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCK_WAIT)?;
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(db)
}

fn live_path(dir: &Dir, name: &[u8]) -> std::io::Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(path_of(dir)?.join(Path::new(std::ffi::OsStr::from_bytes(name))))
}

/// Under the hashes in marks.
fn mark_key(work: &Work<'_>) -> [u8; 32] {
    work.session.repo.keys().mark_key()
}

fn told(error: impl std::fmt::Display) -> Failed {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_leaves_no_half_line_in_a_catalogue() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("history.jsonl");
        std::fs::write(&path, "{\"id\":\"c\"}\n").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        let full = whole_or_nothing(&file, 11, &mut |mut file| {
            file.write_all(b"{\"id\":")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert!(full.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"id\":\"c\"}\n");
    }

    #[test]
    fn a_document_that_its_agent_wrote_meanwhile_is_not_replaced() {
        let room = tempfile::tempdir().unwrap();
        let target = Target::open(room.path(), false).unwrap().unwrap();
        let rel = Rel::check(b"list.json").unwrap();
        let path = room.path().join("list.json");
        let (dir, name) = place(&target, &rel).unwrap();
        // one that appeared is there too
        std::fs::write(&path, "[1]").unwrap();
        assert_eq!(replace(&dir, name, b"[9]", 0o600, None), Err(CHANGED.to_owned()));
        let before = facts(&dir, name).unwrap();
        std::fs::write(&path, "[1,2]").unwrap();
        assert_eq!(replace(&dir, name, b"[1,9]", 0o600, before), Err(CHANGED.to_owned()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[1,2]");
        let now = facts(&dir, name).unwrap();
        replace(&dir, name, b"[1,2,9]", 0o600, now).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[1,2,9]");
        let names: Vec<_> = std::fs::read_dir(room.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_catalogue_that_grew_after_it_was_read_is_read_again() {
        let room = tempfile::tempdir().unwrap();
        let target = Target::open(room.path(), false).unwrap().unwrap();
        let rel = Rel::check(b"history.jsonl").unwrap();
        std::fs::write(room.path().join("history.jsonl"), "1\n").unwrap();
        let (dir, name) = place(&target, &rel).unwrap();
        let before = facts(&dir, name).unwrap().unwrap();
        append(&dir, name, b"2\n", &before).unwrap();
        let failed = append(&dir, name, b"3\n", &before);
        assert_eq!(failed, Err(CHANGED.to_owned()));
        let text = std::fs::read_to_string(room.path().join("history.jsonl")).unwrap();
        assert_eq!(text, "1\n2\n");
    }
}
