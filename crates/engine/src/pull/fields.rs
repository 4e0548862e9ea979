//! Values that never left their machine: a restored text file gets them back from the live one.
//!
//! In: a file as it is stored, with markers in the place of such values, and what is at its place now.
//! Out: the file with the values that are there. Where there is none the marker stays, and the report
//! names the field: a person has to fill it in. Invariant: a live file whose values cannot be read, or of
//! which one has no place in the new file, is not replaced, unless it is told to go
//! ([`Overwrite::Always`]): nobody else has them.
//!
//! It is the rules that say which values these are, and not the entry: a file that had no token when it
//! was stored may have one now.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};

use redact::{Format, Source};
use repo::{Entry, TextFormat};

use super::apply::Run;
use super::error::show;
use super::file::Failed;
use super::inspect::hash_file;
use super::marks::Hashing;
use super::moves::apply::COMPARED_BYTES_MAX;
use super::moves::plan::MovePlan;
use super::plan::{Action, Item, Place};
use super::source::Content;
use super::target::{Found, Temp};
use super::{Overwrite, marks, moves};
use crate::push::fields::{format_in, format_of, parsed};
use crate::steady::Steady;

/// Places that a message names.
const PLACES_SHOWN_MAX: usize = 5;

/// Puts the live values into a whole and verified file: what has them takes its place.
pub(super) fn keep_live(
    run: &Run<'_>,
    index: usize,
    temp: &mut Temp,
    file: &mut File,
    format: TextFormat,
) -> Result<(), Failed> {
    let (item, format) = (&run.items[index], format_of(format));
    let (_, place) = item.target().ok_or(Failed::Over)?;
    let stays = |why: &dyn std::fmt::Display| {
        let why =
            format!("what is there may have values that nobody else has: {why}; move it away");
        Err(Failed::Content(why))
    };
    let goes = run.options.overwrite == Overwrite::Always;
    let there = live(run, place)?;
    let live = match &there {
        Some(file) => match steady(file, format)? {
            None if !goes => return stays(&format!("it is too long to be read as {format}")),
            live => live,
        },
        None => None,
    };
    let live = live.as_ref().map(|live| live as &dyn Source);
    // a move may have changed its length
    let size = file.metadata()?.len();
    let Some(stored) = steady(file, format)? else {
        return Err(Failed::Content(format!("{format} of {size} bytes is not parsed")));
    };
    let filled = redact::fill(format, &stored, live).map_err(|e| {
        Failed::Content(format!("values were left out of it, and it is damaged: {e}"))
    })?;
    if let (Some(error), false) = (&filled.live_error, goes) {
        return stays(error);
    }
    if !filled.missing.is_empty() {
        run.blank(item, filled.missing);
    }
    if filled.splice.is_empty() {
        let hash = hash_file(file, run.cancel).map_err(|_| Failed::Over)??;
        run.set_written(index, Written { size, hash });
        return Ok(());
    }
    let (new_temp, mut new_file) = Temp::file(temp.dir())?;
    let mut to = Hashing::new(&mut new_file, run);
    let size = io::copy(&mut filled.splice.reader(&stored, live)?, &mut to);
    let size = size.map_err(|e| if run.is_over() { Failed::Over } else { Failed::Local(e) })?;
    run.set_written(index, Written { size, hash: to.finish()? });
    drop(stored);
    (*temp, *file) = (new_temp, new_file);
    Ok(())
}

/// Makes sure that the new file has every value of the live one that is left out of backups.
pub(super) fn lose_none(run: &Run<'_>, index: usize, file: &File) -> Result<(), Failed> {
    let item = &run.items[index];
    let (_, place) = item.target().ok_or(Failed::Over)?;
    let rules = run.options.filters.fields(&item.path).filter(|_| item.action != Action::Create);
    let Some(rules) = rules else { return Ok(()) };
    let Some(live) = live(run, place)? else { return Ok(()) };
    let format = format_of(format_in(&rules));
    let lost = match (steady(&live, format)?, parsed(&rules.redact)) {
        (Some(live), Ok(paths)) => {
            // one that is too long is none of this format, and has none of the values
            let new = steady(file, format)?.unwrap_or(Steady::Kept(Vec::new()));
            redact::lost(format, &new, &live, &paths).map_err(|error| error.to_string())
        }
        (None, _) => Err(format!("it is too long to be read as {format}")),
        (_, Err(why)) => Err(why),
    };
    let why = match lost {
        Ok(lost) if lost.is_empty() => return Ok(()),
        Ok(lost) => format!("in what is stored there is no place for {}", shown(&lost)),
        Err(why) => why,
    };
    if run.options.overwrite == Overwrite::Always {
        run.notice(item, format!("it replaced values that are in no backup: {why}"));
        return Ok(());
    }
    let what = "what is there has values that nobody else has";
    Err(Failed::Content(format!("{what}: {why}; move it away; --overwrite always replaces it")))
}

/// Places of values, for a person.
fn shown(places: &[String]) -> String {
    let shown: Vec<String> =
        places.iter().take(PLACES_SHOWN_MAX).map(|place| show(place.as_bytes())).collect();
    let more = places.len() - shown.len();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &rest
}

/// The file that is there; none if nothing is, or something that is no file and has no values.
pub(super) fn live(run: &Run<'_>, place: &Place) -> io::Result<Option<File>> {
    let target = &run.targets[place.base];
    match target.facts(&place.rel)? {
        Some(facts) if facts.found == Found::File => target.open_file(&place.rel).map(Some),
        _ => Ok(None),
    }
}

/// What was written, where that is not what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) size: u64,
    pub(super) hash: [u8; 32],
}

/// Has a restored file the content that it should have?
pub(super) fn is_right(run: &Run<'_>, index: usize, file: &File) -> Result<bool, Failed> {
    let item = &run.items[index];
    let (entry, _) = item.target().ok_or(Failed::Over)?;
    if run.written(index).is_none() {
        // it was left as it was
        if marks::fits(run.content, entry, file) && !item.is_rewritten_text() {
            return Ok(true);
        }
        let fits = match (entry.redacted, run.moves.filter(|_| item.is_rewritten_text())) {
            (Some(_), moves) => Some(fits(run.content, item, moves, file)),
            (None, Some(moves)) => Some(moves::apply::fits(run.content, entry, moves, item, file)),
            (None, None) => None,
        };
        if let Some(fits) = fits {
            return fits.map_err(|e| Failed::Content(e.to_string()));
        }
    }
    let hash = run.written(index).map_or(entry.hash, |written| written.hash);
    Ok(hash_file(file, run.cancel).map_err(|_| Failed::Over)?? == hash)
}

/// Is what is there the stored file (as a move rewrites it) with values of its own?
pub(super) fn fits(
    content: &dyn Content,
    item: &Item,
    moves: Option<&MovePlan>,
    there: &File,
) -> repo::Result<bool> {
    let Some(entry) = item.entry.as_deref() else { return Ok(false) };
    let Some(format) = entry.redacted.map(format_of) else { return Ok(false) };
    let Ok(Some(live)) = steady(there, format) else { return Ok(false) };
    let Some(mut stored) = stored(content, entry, COMPARED_BYTES_MAX)? else {
        return Ok(false); // then it is compared when it is written
    };
    if let Ok(mut live) = live.read_from(0) {
        stored = marks::filled(content, item, entry, stored, &mut *live);
    }
    if let Some(moves) = moves {
        stored = moves::apply::rewritten(moves, item, stored);
    }
    let stored = &stored[..];
    let Ok(filled) = redact::fill(format, &stored, Some(&live)) else { return Ok(false) };
    let same = || is_same(live.read_from(0)?, filled.splice.reader(&stored, Some(&live))?);
    Ok(same().unwrap_or(false))
}

/// Do two readers give the same?
fn is_same(one: impl Read, other: impl Read) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (some, others) = (one.fill_buf()?, other.fill_buf()?);
        let len = some.len().min(others.len());
        if some[..len] != others[..len] || (len == 0 && some.len() != others.len()) {
            return Ok(false);
        }
        if len == 0 {
            return Ok(true);
        }
        one.consume(len);
        other.consume(len);
    }
}

/// What is stored of a file that is no longer than this; none if it is longer or does not fit its hash:
/// what is wrong with it, writing it will say.
pub(super) fn stored(
    content: &dyn Content,
    entry: &Entry,
    bytes_max: u64,
) -> repo::Result<Option<Vec<u8>>> {
    if entry.size > bytes_max {
        return Ok(None);
    }
    let mut stored = Vec::new();
    for extent in content.extents(entry)? {
        let block = content.read_run(&[extent.block])?;
        let start = extent.offset as usize;
        let part = block.first().and_then(|plain| plain.get(start..start + extent.len as usize));
        let Some(part) = part else { return Ok(None) };
        if extent.pages || stored.len() as u64 + u64::from(extent.len) > entry.size {
            return Ok(None);
        }
        stored.extend_from_slice(part);
    }
    let fits = *blake3::hash(&stored).as_bytes() == entry.hash;
    Ok(fits.then_some(stored))
}

/// A file, if it is not too long to be one that can be parsed.
fn steady(file: &File, format: Format) -> io::Result<Option<Steady<'_>>> {
    let size = file.metadata()?.len();
    (size <= format.bytes_max() as u64).then(|| Steady::new(file, size)).transpose()
}
