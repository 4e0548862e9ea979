//! What is at the target, against what the snapshot has: this decides the action of each item.
//!
//! Reads local files and metadata; writes nothing. Times are never taken as proof that content is
//! equal: a file that is there counts as right only if its bytes hash to the entry's hash.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use repo::{BlockId, Entry, Extent, Kind, Pages, flag};

use super::error::{Result, explain};
use super::plan::{Action, Base, Entries, Item, Keep, Place, deletion, find, go_on, guard};
use super::select::{Select, strip_path};
use super::source::Content;
use super::target::{Facts, Found, Rel, Rules, Target, differs, is_temp_name};
use super::{Options, Overwrite};

/// Changed files from this size on keep the blocks that are there already.
const PATCH_BYTES_MIN: u64 = 4 << 20;

/// Largest block plaintext that is put together from local bytes for a comparison.
const BLOCK_BYTES_MAX: u32 = 16 << 20;

/// Bytes read at once when a local file is hashed.
const READ_BYTES: usize = 256 << 10;

/// What SQLite keeps beside a database. Not part of a snapshot, which holds a whole image.
pub(super) const SQLITE_SIDES: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];

struct Inspector<'a> {
    content: &'a dyn Content,
    bases: &'a [Base],
    options: &'a Options,
    rules: Rules,
    cancel: &'a AtomicBool,
}

/// Decides the action of every item that is not skipped or refused already.
pub(super) fn inspect(
    content: &dyn Content,
    items: &mut [Item],
    bases: &[Base],
    options: &Options,
    cancel: &AtomicBool,
) -> Result<()> {
    let rules = Rules::new(options.owners, options.special_bits);
    let inspector = Inspector { content, bases, options, rules, cancel };
    items
        .par_iter_mut()
        .filter(|item| item.action == Action::Create && item.link.is_none())
        .try_for_each(|item| inspector.decide(item))?;
    for at in 0..items.len() {
        if let Some(first) = items[at].link.filter(|_| items[at].action == Action::Create) {
            let (before, rest) = items.split_at_mut(at);
            inspector.decide_link(&before[first], &mut rest[0])?;
        }
    }
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
        let stale_sides = entry.flags & flag::SQLITE != 0 && has_sides(target, &place.rel);
        let same = facts.size == entry.size
            && hash_file(&file, self.cancel)?.is_ok_and(|hash| hash == entry.hash);
        if same {
            let differs = differs(facts, Some(file.as_fd()), entry, &self.rules);
            // Another name of this file may lie outside the target: a changed mode would show
            // there. And a log beside a database would change it when it is opened.
            if stale_sides || (differs && facts.nlink > 1) {
                item.keep = Keep::All;
                item.fetch = 0;
            } else {
                item.action = if differs { Action::Metadata } else { Action::Leave };
            }
        } else if entry.size >= PATCH_BYTES_MIN && facts.size > 0 {
            let Ok(extents) = self.content.extents(entry) else { return Ok(()) };
            let (kept, kept_bytes) = self.kept_blocks(&file, facts.size, entry, &extents)?;
            if !kept.is_empty() {
                item.action = Action::Patch;
                item.fetch = entry.size.saturating_sub(kept_bytes);
                item.keep = Keep::Blocks(kept);
            }
        }
        Ok(())
    }

    /// The blocks whose plaintext is in the local file, wherever this file's map has them, and how
    /// many bytes of the file they make up. Only a block that the map uses from end to end can be
    /// told: its id is a hash of its whole plaintext.
    fn kept_blocks(
        &self,
        file: &File,
        file_len: u64,
        entry: &Entry,
        extents: &[Extent],
    ) -> Result<(HashSet<BlockId>, u64)> {
        let mut at = 0u64;
        let mut uses: HashMap<BlockId, Vec<Use>> = HashMap::new();
        for Extent { block, offset, len, pages } in extents {
            let pages = entry.pages.filter(|_| *pages);
            uses.entry(*block).or_default().push(Use { offset: *offset, len: *len, at, pages });
            at = at.saturating_add(u64::from(*len));
        }
        let tests: Vec<_> = uses.into_iter().collect();
        let kept: Vec<(BlockId, u64)> = tests
            .into_par_iter()
            .map(|(block, mut parts)| {
                go_on(self.cancel)?;
                let bytes = parts.iter().map(|part| u64::from(part.len)).sum();
                parts.sort_unstable_by_key(|part| (part.offset, part.len, part.at));
                let plain = self
                    .content
                    .location(&block)
                    .and_then(|location| assemble(file, file_len, &parts, location.plain_len));
                let same = plain.is_some_and(|plain| self.content.matches(&block, &plain));
                Ok(same.then_some((block, bytes)))
            })
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        let bytes = kept.iter().map(|(_, bytes)| bytes).sum();
        Ok((kept.into_iter().map(|(block, _)| block).collect(), bytes))
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

/// A stretch of a file that its map takes from a block.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// Where in the block.
    offset: u32,
    len: u32,
    /// Where in the file.
    at: u64,
    /// Set if the block has the pages normalised.
    pages: Option<Pages>,
}

/// The bytes of a block, put together from a local file; `None` if the parts (sorted by offset) do
/// not cover it.
fn assemble(file: &File, file_len: u64, parts: &[Use], plain_len: u32) -> Option<Vec<u8>> {
    let mut end = 0u32;
    for Use { offset, len, at, .. } in parts {
        let fits = at.checked_add(u64::from(*len)).is_some_and(|end| end <= file_len);
        if *offset > end || !fits {
            return None;
        }
        end = end.max(offset.checked_add(*len)?);
    }
    if end != plain_len || plain_len > BLOCK_BYTES_MAX {
        return None;
    }
    let (mut plain, mut scratch) = (vec![0; usize::try_from(plain_len).ok()?], Vec::new());
    for Use { offset, len, at, pages } in parts {
        let start = usize::try_from(*offset).ok()?;
        let part = &mut plain[start..start + usize::try_from(*len).ok()?];
        file.read_exact_at(part, *at).ok()?;
        if pages.is_some_and(|pages| !pages.apply(*at, part, &mut scratch)) {
            return None;
        }
    }
    Some(plain)
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
fn has_sides(target: &Target, rel: &Rel) -> bool {
    let Some((parent, name)) = rel.split() else { return false };
    SQLITE_SIDES.iter().any(|side| {
        let beside = parent.join(&[name, side].concat());
        let facts = beside.ok().and_then(|beside| target.facts(&beside).ok().flatten());
        *side != b"-shm" && facts.is_some_and(|facts| facts.size > 0)
    })
}

/// Local names that the snapshot does not have, inside the roots that it has and that are
/// directories on both sides.
pub(super) fn surplus(
    entries: &Entries,
    items: &[Item],
    bases: &[Base],
    select: &Select,
    options: &Options,
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
            let is_base = |rel: &Rel| {
                target.facts(rel).ok().flatten().is_some_and(|facts| guard.contains(&facts.id))
            };
            let holds_label = options.labels.iter().any(|label| strip_path(label, &path).is_some());
            if find(entries, &path).is_none()
                && wanted
                && !keep.covers(&path)
                && !holds_label
                && !is_temp_name(&name)
                && !is_base(&rel)
            {
                doomed.push(deletion(&path, Place { base: place.base, rel }));
            }
        }
    }
    Ok(doomed)
}
