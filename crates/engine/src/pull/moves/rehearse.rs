//! What a move would rewrite: for a dry run.
//!
//! In: a plan. Out: for every bound file that would be written, what would change in it. Text is rewritten
//! into nothing; a database is fetched into a scratch directory, one at a time, rewritten there, and gets the
//! rows that only the live one has. So what is told is what a pull does. A database that comes out as the one
//! that is there would be left: its item says so then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use repo::{BlockId, Entry};

use super::apply::no_database;
use super::text::{self, Trouble};
use super::{Bound, Rewrite, Tally, database};
use crate::capture::marks::take_out;
use crate::capture::regain::regain;
use crate::marks::Secrets;
use crate::pull::Filters;
use crate::pull::error::{Error, Result, show};
use crate::pull::fetch::is_fatal;
use crate::pull::fields::Written;
use crate::pull::inspect::{has_sides, hash_file};
use crate::pull::plan::{Action, Item, Keep, Plan, go_on};
use crate::pull::source::Content;
use crate::pull::target::{Rel, Target, path_of};

impl Plan {
    /// Says what a pull of this plan would rewrite. `scratch` is a directory of the caller's that has room
    /// for the largest database that is rewritten; nothing stays in it.
    pub fn rehearse(
        &mut self,
        content: &dyn Content,
        filters: &Filters,
        scratch: &Path,
        cancel: &AtomicBool,
    ) -> Result<Vec<Rewrite>> {
        let mut told = Vec::new();
        for index in 0..self.items.len() {
            let item = &self.items[index];
            let (Some(bound), true) = (item.bound.clone(), item.writes_content()) else { continue };
            go_on(cancel)?;
            let (rewrite, as_it_is) = self.one(content, filters, item, &bound, scratch, cancel)?;
            told.extend(rewrite);
            self.leave(index, as_it_is);
        }
        self.recount();
        Ok(told)
    }

    /// Finds databases that a pull of this plan would leave, before anybody is asked and before what is
    /// there is saved: where a move was made before. Of others nothing is fetched.
    pub fn settle_databases(
        &mut self,
        content: &dyn Content,
        filters: &Filters,
        scratch: &Path,
        cancel: &AtomicBool,
    ) -> Result<()> {
        for index in 0..self.items.len() {
            let item = &self.items[index];
            let Some(bound) = item.bound.clone().filter(|_| self.may_be_moved(item)) else {
                continue;
            };
            go_on(cancel)?;
            let (_, as_it_is) = self.one(content, filters, item, &bound, scratch, cancel)?;
            self.leave(index, as_it_is);
        }
        self.recount();
        Ok(())
    }

    /// Is there a database in which no path is left to move?
    fn may_be_moved(&self, item: &Item) -> bool {
        let (Some(bound), Some(moves)) = (&item.bound, &self.moves) else { return false };
        let (Some((_, place)), false) = (item.target(), bound.tables.is_empty()) else {
            return false;
        };
        let Some(target) = self.bases[place.base].target.as_ref() else { return false };
        // one with a log is written to
        if !item.writes_content() || item.action == Action::Create || has_sides(target, &place.rel)
        {
            return false;
        }
        // what cannot be read, the restore will tell
        beside(target, &place.rel).is_ok_and(|live| {
            database::has_old_paths(&live, &bound.tables, &moves.maps) == Ok(false)
        })
    }

    /// What would be written is there already, if it is.
    fn leave(&mut self, index: usize, as_it_is: Option<Written>) {
        if as_it_is.is_none() {
            return;
        }
        let item = &mut self.items[index];
        (item.action, item.bytes, item.fetch) = (Action::Leave, 0, 0);
        (item.keep, item.as_it_is) = (Keep::Nothing, as_it_is);
    }

    fn one(
        &self,
        content: &dyn Content,
        filters: &Filters,
        item: &Item,
        bound: &Bound,
        scratch: &Path,
        cancel: &AtomicBool,
    ) -> Result<(Option<Rewrite>, Option<Written>)> {
        let (Some((entry, place)), Some(moves)) = (item.target(), &self.moves) else {
            return Ok((None, None));
        };
        let mut tally = Tally::default();
        let failed = |error| Error::target("write to", scratch, error);
        let mut file = tempfile::NamedTempFile::new_in(scratch).map_err(failed)?;
        let fetched = fetch(content, entry, file.as_file(), cancel)?;
        let done = match fetched {
            Err(why) => Err(Trouble::Content(why)),
            Ok(()) if bound.tables.is_empty() => {
                file.rewind().map_err(failed)?;
                let sink: &mut dyn io::Write = &mut io::sink();
                text::rewrite(bound, &moves.maps, file.as_file(), sink, &mut tally)
            }
            Ok(()) => match no_database(entry) {
                Some(why) => Err(Trouble::Content(why.into())),
                None => database::rewrite(file.path(), &bound.tables, &moves.maps, &mut tally)
                    .map_err(|error| Trouble::Content(error.to_string())),
            },
        };
        let mut same = None;
        match done {
            Ok(_) if !bound.tables.is_empty() => {
                let base = self.bases[place.base].target.as_ref();
                let live = base.and_then(|target| target.open_file(&place.rel).ok());
                if let (Some(live), Some(target)) = (live, base) {
                    let rules = filters.rows(&item.path);
                    let there = beside(target, &place.rel).map_err(failed)?;
                    // what cannot be read, the restore will tell
                    if !rules.is_empty() {
                        let _ = regain(file.path(), &there, &rules);
                    }
                    if entry.marks.is_some() {
                        let key = content.mark_key();
                        let secrets = Secrets { key: &key, spared: None };
                        let _ = take_out(file.path(), Some(&there), secrets, &item.path);
                    }
                    let hash = |file: &File| hash_file(file, cancel).map(io::Result::ok);
                    if !has_sides(target, &place.rel)
                        && let Some(live_hash) = hash(&live)?
                        && Some(live_hash) == hash(file.as_file())?
                    {
                        let size = live.metadata().map_err(failed)?.len();
                        same = Some(Written { size, hash: live_hash });
                    }
                }
            }
            Ok(_) => {}
            Err(Trouble::Local(error)) => return Err(failed(error)),
            Err(Trouble::Content(why)) => {
                tally = Tally::default();
                tally.left(format!("it would keep its old paths: {}", show(why.as_bytes())));
            }
        }
        let rewrite = (!tally.is_silent() && same.is_none()).then(|| tally.finish(&item.path));
        Ok((rewrite, same))
    }
}

/// A path to a file below a target, for SQLite; it leads through no link.
fn beside(target: &Target, rel: &Rel) -> io::Result<PathBuf> {
    let (dir, name) = target.place(rel)?;
    Ok(path_of(&dir)?.join(OsStr::from_bytes(name)))
}

/// Fetches a file; the inner error is of its content, and says why there is none.
fn fetch(
    content: &dyn Content,
    entry: &Entry,
    mut to: &File,
    cancel: &AtomicBool,
) -> Result<std::result::Result<(), String>> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0_u64;
    let mut last: Option<(BlockId, Bytes)> = None;
    let extents = match content.extents(entry) {
        Ok(extents) => extents,
        Err(error) if is_fatal(&error) => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    for extent in extents {
        go_on(cancel)?;
        if last.as_ref().is_none_or(|(id, _)| *id != extent.block) {
            match content.read_run(&[extent.block]) {
                Ok(plain) => last = plain.into_iter().next().map(|plain| (extent.block, plain)),
                Err(error) if is_fatal(&error) => return Err(error.into()),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let start = extent.offset as usize;
        let plain = last.as_ref().map(|(_, plain)| plain);
        let part = plain.and_then(|plain| plain.get(start..start + extent.len as usize));
        let Some(part) = part else { return Ok(Err("its map points behind a block".into())) };
        let mut part = part.to_vec();
        if extent.pages && !entry.pages.is_some_and(|pages| pages.undo(at, &mut part)) {
            return Ok(Err("its map has pages where there are none".into()));
        }
        hasher.update(&part);
        to.write_all(&part)
            .map_err(|error| Error::target("write to", Path::new("scratch"), error))?;
        at += part.len() as u64;
    }
    let fits = *hasher.finalize().as_bytes() == entry.hash;
    Ok(if fits { Ok(()) } else { Err("its content does not fit its hash".into()) })
}
