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
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use redact::Format;
use repo::{Entry, TextFormat};

use super::apply::Run;
use super::error::show;
use super::file::Failed;
use super::inspect::hash_file;
use super::moves::plan::MovePlan;
use super::plan::{Action, Item, Place};
use super::source::Content;
use super::target::Found;
use super::{Overwrite, marks, moves};
use crate::push::fields::{format_in, format_of, parsed};

/// Places that a message names.
const PLACES_SHOWN_MAX: usize = 5;

/// Puts the live values into a whole and verified file.
pub(super) fn keep_live(
    run: &Run<'_>,
    index: usize,
    file: &File,
    format: TextFormat,
) -> Result<(), Failed> {
    let (item, format) = (&run.items[index], format_of(format));
    let (_, place) = item.target().ok_or(Failed::Over)?;
    // a move may have changed its length
    let size = file.metadata()?.len();
    let too_long = || Failed::Content(format!("{format} of {size} bytes is not parsed"));
    let len = usize::try_from(size).ok().filter(|len| *len <= format.bytes_max());
    let mut stored = vec![0; len.ok_or_else(too_long)?];
    file.read_exact_at(&mut stored, 0)?;
    let stays = |why: &dyn std::fmt::Display| {
        let why =
            format!("what is there may have values that nobody else has: {why}; move it away");
        Err(Failed::Content(why))
    };
    let goes = run.options.overwrite == Overwrite::Always;
    let live = match live(run, place)? {
        Some(file) => match read_live(&file, format)? {
            None if !goes => return stays(&format!("it is too long to be read as {format}")),
            live => live,
        },
        None => None,
    };
    let restored = redact::restore(format, &stored, live.as_deref()).map_err(|e| {
        Failed::Content(format!("values were left out of it, and it is damaged: {e}"))
    })?;
    if let (Some(error), false) = (&restored.live_error, goes) {
        return stays(error);
    }
    if !restored.missing.is_empty() {
        run.blank(item, restored.missing);
    }
    file.write_all_at(&restored.bytes, 0)?;
    file.set_len(restored.bytes.len() as u64)?;
    let hash = *blake3::hash(&restored.bytes).as_bytes();
    run.set_written(index, Written { size: restored.bytes.len() as u64, hash });
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
    let lost = match (read_live(&live, format)?, parsed(&rules.redact)) {
        (Some(live), Ok(paths)) => {
            // one that is too long is none of this format, and has none of the values
            let len = usize::try_from(file.metadata()?.len()).ok();
            let mut new = vec![0; len.filter(|len| *len <= format.bytes_max()).unwrap_or(0)];
            file.read_exact_at(&mut new, 0)?;
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
    let Ok(Some(live)) = read_live(there, format) else { return Ok(false) };
    let Some(mut stored) = stored(content, entry, format.bytes_max() as u64)? else {
        return Ok(false);
    };
    stored = marks::filled(content, item, entry, stored, &live);
    if let Some(moves) = moves {
        stored = moves::apply::rewritten(moves, item, stored);
    }
    let restored = redact::restore(format, &stored, Some(&live));
    Ok(restored.is_ok_and(|restored| restored.bytes == live))
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

/// A live file, if it is not too long to be one that can be parsed.
fn read_live(file: &File, format: Format) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = file.take(format.bytes_max() as u64 + 1).read_to_end(&mut bytes)?;
    Ok((read <= format.bytes_max()).then_some(bytes))
}
