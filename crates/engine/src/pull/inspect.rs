//! What is at the target, against what the snapshot has: this decides the action of each item.
//!
//! Reads local files and metadata; writes nothing. Times are never taken as proof that content is
//! equal: a file that is there counts as right only if its bytes hash to the entry's hash.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use repo::{Entry, Kind, flag};

use super::error::{Result, explain};
use super::keep::There;
use super::moves::plan::MovePlan;
use super::plan::{Action, Base, Entries, Item, Keep, Place, deletion, find, go_on, guard};
use super::select::{Select, strip_path};
use super::source::Content;
use super::target::{Facts, Found, Rel, Rules, SQLITE_SIDES, Target, differs, is_temp_name};
use super::{Options, Overwrite, check, fields, holders, keep, marks, moves, swap};

/// Bytes read at once when a local file is hashed.
const READ_BYTES: usize = 256 << 10;

struct Inspector<'a> {
    content: &'a dyn Content,
    bases: &'a [Base],
    options: &'a Options,
    rules: Rules,
    moves: Option<&'a MovePlan>,
    cancel: &'a AtomicBool,
}

/// Decides the action of every item that is not skipped or refused already.
pub(super) fn inspect(
    content: &dyn Content,
    items: &mut [Item],
    bases: &[Base],
    options: &Options,
    moves: Option<&MovePlan>,
    cancel: &AtomicBool,
) -> Result<()> {
    let rules = Rules::new(options.owners, options.special_bits);
    let inspector = Inspector { content, bases, options, rules, moves, cancel };
    items
        .par_iter_mut()
        .filter(|item| item.action == Action::Create && item.link.is_none())
        .try_for_each(|item| inspector.decide(item))?;
    refuse_open(items, bases, options, false);
    for at in 0..items.len() {
        if let Some(first) = items[at].link.filter(|_| items[at].action == Action::Create) {
            let (before, rest) = items.split_at_mut(at);
            inspector.decide_link(&before[first], &mut rest[0])?;
        }
    }
    refuse_open(items, bases, options, true);
    Ok(())
}

impl Inspector<'_> {
    fn decide(&self, item: &mut Item) -> Result<()> {
        go_on(self.cancel)?;
        let Some((entry, place)) = item.target() else { return Ok(()) };
        let (entry, place) = (entry.clone(), place.clone());
        let there = match self.look(&place) {
            Ok(there) => there,
            Err(reason) => {
                item.action = Action::Refuse(reason);
                return Ok(());
            }
        };
        item.settle = entry.kind == Kind::Dir;
        if entry.kind == Kind::File {
            item.bytes = entry.size;
            item.fetch = entry.size;
        }
        let (Some(facts), Some(target)) = (there, &self.bases[place.base].target) else {
            return Ok(()); // nothing is there: create
        };
        item.action = self.kept_by_choice(&entry, &facts).unwrap_or(Action::Replace);
        match (entry.kind, facts.found) {
            (Kind::Dir, Found::Dir) if self.is_shared(&place) => {
                (item.settle, item.action) = (false, Action::Leave);
            }
            (Kind::Dir, Found::Dir) => self.decide_dir(item, &entry, &facts),
            _ if item.action != Action::Replace => {}
            (Kind::File, Found::File) => self.decide_file(item, &entry, target, &place, &facts)?,
            (Kind::Symlink, Found::Symlink) => {
                let same = target.read_link(&place.rel).ok().as_ref() == entry.target.as_ref();
                if same && !differs(&facts, None, &entry, &self.rules) {
                    item.action = Action::Leave;
                }
            }
            (Kind::Fifo, Found::Fifo) if !differs(&facts, None, &entry, &self.rules) => {
                item.action = Action::Leave;
            }
            (Kind::Dir, _) if self.options.overwrite != Overwrite::Always => {
                item.action = Action::Refuse(match facts.found {
                    Found::Symlink => "a symbolic link stands where this directory belongs".into(),
                    _ => "something that is no directory stands in its place".into(),
                });
            }
            (_, Found::Dir) if self.options.overwrite != Overwrite::Always => {
                item.action = Action::Refuse("a directory stands in its place".into());
            }
            _ => {}
        }
        if !item.action.writes() {
            (item.bytes, item.fetch) = (0, 0);
            item.settle &= !matches!(item.action, Action::Refuse(_));
        }
        Ok(())
    }

    /// What is at a place. Below something that will be replaced, nothing is.
    fn look(&self, place: &Place) -> std::result::Result<Option<Facts>, String> {
        let Some(target) = &self.bases[place.base].target else { return Ok(None) };
        match target.facts(&place.rel) {
            Ok(facts) => Ok(facts),
            Err(error) => {
                let in_the_way = matches!(
                    rustix::io::Errno::from_io_error(&error),
                    Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR)
                );
                if in_the_way && self.options.overwrite == Overwrite::Always {
                    Ok(None)
                } else {
                    Err(explain(&error))
                }
            }
        }
    }

    /// Does the overwrite mode alone say that what is there stays?
    fn kept_by_choice(&self, entry: &Entry, there: &Facts) -> Option<Action> {
        let newer = (entry.mtime_secs, entry.mtime_nanos) > there.mtime;
        match self.options.overwrite {
            Overwrite::Never => Some(Action::Skip("something is there already".into())),
            Overwrite::IfNewer if !newer => {
                Some(Action::Skip("what is there is as new or newer".into()))
            }
            _ => None,
        }
    }

    fn is_shared(&self, place: &Place) -> bool {
        place.rel.bytes().is_empty() && self.options.shared.contains(&self.bases[place.base].path)
    }

    fn decide_dir(&self, item: &mut Item, entry: &Entry, facts: &Facts) {
        item.settle = item.action == Action::Replace && !item.implied;
        item.action = if item.settle && differs(facts, None, entry, &self.rules) {
            Action::Metadata
        } else {
            Action::Leave
        };
    }

    fn decide_file(
        &self,
        item: &mut Item,
        entry: &Entry,
        target: &Target,
        place: &Place,
        facts: &Facts,
    ) -> Result<()> {
        let Ok(file) = target.open_file(&place.rel) else { return Ok(()) };
        let stale_sides = item.alone && has_sides(target, &place.rel);
        let text = self.moves.filter(|_| item.is_rewritten_text());
        let is_stored = || -> Result<bool> {
            let fits = facts.size == entry.size
                && hash_file(&file, self.cancel)?.is_ok_and(|hash| hash == entry.hash);
            Ok(fits)
        };
        let as_at_source = text.is_none() && marks::fits(self.content, entry, &file);
        let same = match (entry.redacted, text) {
            _ if as_at_source => true,
            // what cannot be read of it now, writing it will say
            (Some(_), moves) => fields::fits(self.content, item, moves, &file).unwrap_or(false),
            (None, Some(moves)) => {
                moves::apply::fits(self.content, entry, moves, item, &file).unwrap_or(false)
            }
            // one that a move rewrites is looked at when that is done
            (None, None) => item.bound.is_none() && is_stored()?,
        };
        if same {
            let differs = differs(facts, Some(file.as_fd()), entry, &self.rules);
            // Another name of this file may lie outside the target: a changed mode would show
            // there. And a log beside a database would change it when it is opened.
            if stale_sides || (differs && facts.nlink > 1) {
                // one with values of its own is not what is stored
                if entry.redacted.is_none() && entry.marks.is_none() && item.bound.is_none() {
                    item.keep = Keep::All;
                    item.fetch = 0;
                }
            } else {
                item.action = if differs { Action::Metadata } else { Action::Leave };
            }
        } else if let Some(reason) = check::refusal(entry, self.options) {
            item.action = Action::Refuse(reason);
        } else {
            let (content, cancel) = (self.content, self.cancel);
            let there = There { content, entry, file: &file, len: facts.size, cancel };
            if let Some((keep, fetch)) = keep::find(&there)? {
                item.action = Action::Patch;
                item.fetch = fetch;
                item.keep = keep;
            }
        }
        Ok(())
    }

    /// A hard link is right if its place and that of the file it belongs to are one file.
    fn decide_link(&self, first: &Item, item: &mut Item) -> Result<()> {
        if matches!(first.action, Action::Skip(_) | Action::Refuse(_)) {
            // The file that carries the content stays as it is: this name gets content of its own.
            item.link = None;
            item.entry.clone_from(&first.entry);
            return self.decide(item);
        }
        let (Some((_, first_place)), Some((entry, place))) = (first.target(), item.target()) else {
            return Ok(());
        };
        let there = match self.look(place) {
            Ok(there) => there,
            Err(reason) => {
                item.action = Action::Refuse(reason);
                return Ok(());
            }
        };
        let Some(facts) = there else { return Ok(()) };
        let other = self.look(first_place).ok().flatten();
        let one_file = facts.found == Found::File && other.is_some_and(|o| o.id == facts.id);
        item.action = if one_file && !first.action.writes() {
            Action::Leave
        } else if let Some(action) = self.kept_by_choice(entry, &facts) {
            action
        } else if facts.found == Found::Dir && self.options.overwrite != Overwrite::Always {
            Action::Refuse("a directory stands in its place".into())
        } else {
            Action::Replace
        };
        Ok(())
    }
}

/// BLAKE3 of a whole file.
pub(super) fn hash_file(file: &File, cancel: &AtomicBool) -> Result<io::Result<[u8; 32]>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0u64;
    loop {
        go_on(cancel)?;
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(Ok(*hasher.finalize().as_bytes())),
            Ok(len) => {
                hasher.update(&buffer[..len]);
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Are there side files of SQLite that would change what a database says?
pub(super) fn has_sides(target: &Target, rel: &Rel) -> bool {
    target.place(rel).is_ok_and(|(dir, name)| swap::has_live_sides(&dir, name))
}

/// Refuses databases that would replace one that another process has open. Items that are `links`
/// come after those that are not: a link to a file that is refused gets content of its own.
fn refuse_open(items: &mut [Item], bases: &[Base], options: &Options, links: bool) {
    if options.even_if_open {
        return;
    }
    let replaces = |item: &Item| matches!(item.action, Action::Replace | Action::Patch);
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let wanted = item.link.is_some() == links
            && replaces(item)
            && item.has_flag(items, flag::SQLITE | flag::SQLITE_RAW);
        let Some((_, place)) = item.target().filter(|_| wanted) else { continue };
        let Some(target) = &bases[place.base].target else { continue };
        if let Ok((dir, name)) = target.place(&place.rel) {
            found.push((index, dir, name.to_vec()));
        }
    }
    let places: Vec<_> =
        found.iter().map(|(_, dir, name)| (Arc::clone(dir), name.as_slice())).collect();
    for ((index, ..), holder) in found.iter().zip(holders::find(&places)) {
        if let Some(holder) = holder {
            let item = &mut items[*index];
            item.action = Action::Refuse(holder.reason());
            (item.bytes, item.fetch, item.keep) = (0, 0, Keep::Nothing);
        }
    }
}

/// Is this a side file that comes and goes with its database? A database that is replaced takes it
/// along; beside one that stays it is a part of it, and perhaps in use.
fn is_beside_database(entries: &Entries, items: &[Item], path: &[u8]) -> bool {
    let main = SQLITE_SIDES.iter().find_map(|side| path.strip_suffix(*side));
    let Some((main, at)) = main.and_then(|main| Some((main, find(entries, main)?))) else {
        return false;
    };
    let flags = entries[at].1.flags;
    let stays =
        || items.iter().any(|item| item.path == main && matches!(item.action, Action::Refuse(_)));
    let alone = || items.iter().any(|item| item.path == main && item.is_alone(items));
    // one that was copied as it lay may have its own side files in the snapshot
    flags & flag::SQLITE != 0 || (flags & flag::SQLITE_RAW != 0 && (alone() || stays()))
}

/// Local names that the snapshot does not have, inside the roots that it has and that are
/// directories on both sides.
pub(super) fn surplus(
    entries: &Entries,
    items: &[Item],
    bases: &[Base],
    select: &Select,
    options: &Options,
    moves: Option<&MovePlan>,
    cancel: &AtomicBool,
) -> Result<Vec<Item>> {
    let keep = Select::new(&options.keep, &options.labels)?;
    let guard = guard(bases.iter().filter_map(|base| base.target.as_ref()));
    let mut doomed = Vec::new();
    // Directories that are in the snapshot and were found as directories.
    let known = items.iter().filter(|item| matches!(item.action, Action::Leave | Action::Metadata));
    for item in known {
        go_on(cancel)?;
        let Some((entry, place)) = item.target() else { continue };
        let in_root = options.labels.iter().any(|label| strip_path(&item.path, label).is_some());
        let Some(target) = bases[place.base].target.as_ref() else { continue };
        if entry.kind != Kind::Dir || !in_root {
            continue;
        }
        let Ok(dir) = target.dir(&place.rel) else { continue };
        for name in Target::names(&dir).unwrap_or_default() {
            let path = [&item.path, &b"/"[..], &name].concat();
            let Ok(rel) = place.rel.join(&name) else { continue };
            let wanted = select.is_empty() || select.covers(&path);
            let here = item.here.as_ref().map(|above| [above, &b"/"[..], &name].concat());
            let as_here = here.as_ref().unwrap_or(&path);
            let moved = moves.is_some_and(|moves| moves.makes(as_here))
                || here.as_ref().is_some_and(|here| find(entries, here).is_some());
            let is_base = |rel: &Rel| {
                target.facts(rel).ok().flatten().is_some_and(|facts| guard.contains(&facts.id))
            };
            let holds_label = options.labels.iter().any(|label| strip_path(label, &path).is_some());
            if find(entries, &path).is_none()
                && !moved
                && wanted
                && !keep.covers(&path)
                && !holds_label
                && !is_temp_name(&name)
                && !is_beside_database(entries, items, &path)
                && !is_base(&rel)
            {
                doomed.push(deletion(&path, here, Place { base: place.base, rel }));
            }
        }
    }
    Ok(doomed)
}
