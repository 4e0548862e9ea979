//! A file that is whole and whose hash fits, rewritten under its temporary name; and whether what is at
//! a place is such a file already.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write};

use repo::{Entry, flag};

use super::plan::MovePlan;
use super::text::{self, Trouble};
use super::{Bound, Tally, database};
use crate::capture::health::{Health, integrity};
use crate::marks::is_source;
use crate::pull::apply::Run;
use crate::pull::error::show;
use crate::pull::fields::{Written, stored};
use crate::pull::file::Failed;
use crate::pull::inspect::hash_file;
use crate::pull::marks::filled;
use crate::pull::plan::Item;
use crate::pull::source::Content;
use crate::pull::target::{Facts, Found, Temp};

/// A file that is longer is not compared in memory with what it would become.
pub(in crate::pull) const COMPARED_BYTES_MAX: u64 = 64 << 20;

/// Rewrites the file of an item, if the move does. What cannot be rewritten stays as it was stored, and
/// is told.
pub(in crate::pull) fn carry_out(
    run: &Run<'_>,
    index: usize,
    temp: &mut Temp,
    file: &mut File,
) -> Result<(), Failed> {
    let item = &run.items[index];
    let (Some(bound), Some(plan), Some((entry, _))) = (&item.bound, run.moves, item.target())
    else {
        return Ok(());
    };
    let mut tally = Tally::default();
    let done = if bound.tables.is_empty() {
        rewrite_text(plan, bound, temp, file, &mut tally)
    } else {
        rewrite_database(run, plan, bound, entry, temp, file, &mut tally)
    };
    match done {
        Ok(true) => {
            let size = Facts::of(&*file)?.size;
            let hash = hash_file(file, run.cancel).map_err(|_| Failed::Over)??;
            run.set_written(index, Written { size, hash });
        }
        Ok(false) => {}
        Err(Trouble::Local(error)) => return Err(Failed::Local(error)),
        Err(Trouble::Content(reason)) => {
            tally = Tally::default();
            let reason = show(reason.as_bytes());
            run.problem(item, format!("restored, but the paths in it are the old ones: {reason}"));
        }
    }
    if !tally.is_silent() {
        run.rewrote(tally.finish(&item.path));
    }
    Ok(())
}

/// The new text goes to a file of its own, which takes the place of the old one.
fn rewrite_text(
    plan: &MovePlan,
    bound: &Bound,
    temp: &mut Temp,
    file: &mut File,
    tally: &mut Tally,
) -> Result<bool, Trouble> {
    let (new_temp, mut new_file) = Temp::file(temp.dir())?;
    file.rewind()?;
    let mut to = BufWriter::new(&mut new_file);
    let changed = text::rewrite(bound, &plan.maps, &*file, &mut to, tally)?;
    to.flush()?;
    drop(to);
    if changed {
        (*temp, *file) = (new_temp, new_file);
    }
    Ok(changed)
}

fn rewrite_database(
    run: &Run<'_>,
    plan: &MovePlan,
    bound: &Bound,
    entry: &Entry,
    temp: &Temp,
    file: &File,
    tally: &mut Tally,
) -> Result<bool, Trouble> {
    if let Some(why) = no_database(entry) {
        return Err(Trouble::Content(why.into()));
    }
    let path = temp.path()?;
    let changed = match database::rewrite(&path, &bound.tables, &plan.maps, tally) {
        Ok(changed) => changed,
        Err(error) if crate::pull::error::is_full(&error) => return Err(error.into()),
        Err(error) => {
            // it was rolled back: is it what it was?
            let fits = matches!(hash_file(file, run.cancel), Ok(Ok(hash)) if hash == entry.hash);
            let why = error.to_string();
            return Err(if fits { Trouble::Content(why) } else { Trouble::Local(error) });
        }
    };
    if changed && let Health::Damaged(messages) = integrity(&path, &|| run.is_over()) {
        let messages = messages.join("; ");
        let what = format!("after its paths were rewritten SQLite finds it damaged: {messages}");
        return Err(Trouble::Local(io::Error::other(show(what.as_bytes()))));
    }
    Ok(changed)
}

/// Why a database is not rewritten, if it is not.
pub(super) fn no_database(entry: &Entry) -> Option<&'static str> {
    match entry.flags {
        flags if flags & flag::SQLITE == 0 => Some("it was not captured as a database"),
        flags if flags & flag::SQLITE_DAMAGED != 0 => {
            Some("this database was damaged when it was stored")
        }
        _ => None,
    }
}

/// Is what is there, under the final name, just what was written now? Then it stays.
pub(in crate::pull) fn is_there(run: &Run<'_>, index: usize, file: &File) -> io::Result<bool> {
    let item = &run.items[index];
    let own =
        |entry: &Entry| item.bound.is_some() || entry.marks.is_some() || entry.redacted.is_some();
    let Some((_, place)) = item.target().filter(|(entry, _)| own(entry)) else {
        return Ok(false);
    };
    let target = &run.targets[place.base];
    let same_size = |facts: &Facts| Ok::<_, io::Error>(facts.size == Facts::of(file)?.size);
    match target.facts(&place.rel)? {
        Some(facts) if facts.found == Found::File && same_size(&facts)? => {}
        _ => return Ok(false),
    }
    if crate::pull::inspect::has_sides(target, &place.rel) {
        return Ok(false);
    }
    let live = target.open_file(&place.rel)?;
    let hash = |file: &File| hash_file(file, run.cancel).ok().and_then(io::Result::ok);
    let (one, other) = (hash(&live), hash(file));
    Ok(one.is_some() && one == other)
}

/// Is what is there the stored text file, rewritten? Without a read from the store where the way back
/// leads to what is stored.
pub(in crate::pull) fn fits(
    content: &dyn Content,
    entry: &Entry,
    plan: &MovePlan,
    item: &Item,
    there: &File,
) -> repo::Result<bool> {
    let Some(bound) = item.bound.as_ref().filter(|bound| bound.tables.is_empty()) else {
        return Ok(false);
    };
    let mut live = Vec::new();
    let read = there.take(COMPARED_BYTES_MAX + 1).read_to_end(&mut live);
    if read.is_err() || live.len() as u64 > COMPARED_BYTES_MAX {
        return Ok(false); // then it is compared when it is written
    }
    let back = text_of(bound, &plan.maps.inverse(), &live);
    let source = entry.marks.and_then(|marks| marks.source);
    let is_back = match source {
        Some(source) => is_source(&content.mark_key(), &source, &mut &*back).unwrap_or(false),
        None => *blake3::hash(&back).as_bytes() == entry.hash,
    };
    if is_back {
        return Ok(text_of(bound, &plan.maps, &back) == live);
    }
    if bound.texts.iter().any(|bind| bind.transcript) {
        return Ok(false);
    }
    let stored = stored(content, entry, COMPARED_BYTES_MAX)?;
    let stored = stored.map(|stored| filled(content, item, entry, stored, &mut &live[..]));
    Ok(stored.is_some_and(|stored| text_of(bound, &plan.maps, &stored) == live))
}

/// A text file as it would be restored.
pub(in crate::pull) fn rewritten(plan: &MovePlan, item: &Item, stored: Vec<u8>) -> Vec<u8> {
    match item.bound.as_ref().filter(|bound| bound.tables.is_empty()) {
        Some(bound) => text_of(bound, &plan.maps, &stored),
        None => stored,
    }
}

fn text_of(bound: &Bound, maps: &super::path::Maps, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut to = &mut out as &mut dyn Write;
    match text::rewrite(bound, maps, BufReader::new(bytes), &mut to, &mut Tally::default()) {
        Ok(true) => out,
        // what cannot be rewritten stays
        Ok(false) | Err(_) => bytes.to_vec(),
    }
}
