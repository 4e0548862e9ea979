//! Secrets that never left their machine: a restored file gets them back from the live one.
//!
//! In: a file as it is stored, with marks in the places of secrets, and what is at its place now. Out:
//! the file with the secrets that are there. A mark of which the live one knows nothing stays, and the
//! report counts and names it. Invariant: where pushes replace secrets, what is there is not replaced while
//! it has one that the file in its place has not, or cannot be read, unless it is told to go
//! ([`Overwrite::Always`]): no snapshot has it, not even a safety snapshot.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;

use repo::{Entry, flag};

use super::Overwrite;
use super::apply::Run;
use super::fields::{Written, live};
use super::file::Failed;
use super::inspect::hash_file;
use super::plan::Item;
use super::source::Content;
use super::target::{Facts, Found, Temp};
use crate::capture::marks::{look_at, take_out};
use crate::capture::regain;
use crate::marks::{Back, Live, Secrets, give_back, give_back_bytes, is_source};

/// Puts the live secrets into a whole and verified text file. [`end`] comes when nothing more does.
pub(super) fn keep_live(
    run: &Run<'_>,
    index: usize,
    temp: &mut Temp,
    file: &mut File,
) -> Result<Back, Failed> {
    let item = &run.items[index];
    let (entry, place) = item.target().ok_or(Failed::Over)?;
    if entry.flags & flag::SQLITE != 0 || !concerns(run, entry) {
        return Ok(Back::default());
    }
    let mut there = live(run, place)?;
    let key = run.content.mark_key();
    if entry.marks.is_none() {
        return learnt(run, item, there);
    }
    let (new_temp, mut new_file) = Temp::file(temp.dir())?;
    let mut to = Hashing::new(&mut new_file, run);
    let live = there.as_mut().map(|file| file as &mut dyn Read);
    let back = give_back(secrets(run, item, &key), &item.path, file, live, &mut to);
    let back = back.map_err(|e| if run.is_over() { Failed::Over } else { Failed::Local(e) })?;
    let hash = to.finish()?;
    if back.put > 0 {
        let size = Facts::of(&new_file)?.size;
        run.set_written(index, Written { size, hash });
        (*temp, *file) = (new_temp, new_file);
    }
    let source = entry.marks.and_then(|marks| marks.source);
    if let Some(source) = source.filter(|_| back.left.is_empty() && entry.redacted.is_none())
        && !is_source(&key, &source, &mut At(file, 0))?
    {
        run.notice(item, "its secrets are there again, but it differs from what it was".into());
    }
    Ok(back)
}

/// What a live file has that is in no backup, as far as marks say.
fn learnt(run: &Run<'_>, item: &Item, live: Option<File>) -> Result<Back, Failed> {
    let Some(file) = live else { return Ok(Back::default()) };
    let key = run.content.mark_key();
    let mut live = Live::new(secrets(run, item, &key));
    live.learn(&item.path, &mut &file)?;
    Ok(Back { lost: live.lost(), ..Back::default() })
}

/// Tells what came back into a file that is as it will be. An error means that what is there stays: it
/// has a secret that the new one has not.
pub(super) fn end(run: &Run<'_>, index: usize, file: &File, mut back: Back) -> Result<(), Failed> {
    let item = &run.items[index];
    if back.lost.count() > 0 {
        let key = run.content.mark_key();
        back.lost.spare(secrets(run, item, &key), &item.path, &mut At(file, 0))?;
    }
    tell(run, item, &back)
}

/// Makes sure that a further name of a restored file takes no secret away.
pub(super) fn lose_none(run: &Run<'_>, index: usize, file: &File) -> Result<(), Failed> {
    let item = &run.items[index];
    let (_, place) = item.target().ok_or(Failed::Over)?;
    if run.options.secrets_stay.is_none() || item.has_flag(run.items, flag::SQLITE) {
        return Ok(());
    }
    let lost = learnt(run, item, live(run, place)?)?;
    end(run, index, file, lost)
}

/// Puts the live secrets into a whole and verified database.
pub(super) fn keep_live_rows(
    run: &Run<'_>,
    index: usize,
    temp: &Temp,
    file: &File,
) -> Result<(), Failed> {
    let item = &run.items[index];
    let (entry, place) = item.target().ok_or(Failed::Over)?;
    let there = run.targets[place.base].facts(&place.rel)?;
    let live = there.is_some_and(|facts| facts.found == Found::File && facts.size > 0);
    if !concerns(run, entry) || entry.marks.is_none() && !live {
        return Ok(());
    }
    let name = place.rel.split().map(|(_, name)| name.to_vec()).ok_or(Failed::Over)?;
    let live = if live { Some(temp.beside(&name)?) } else { None };
    let key = run.content.mark_key();
    let secrets = secrets(run, item, &key);
    let looked = match &live {
        // it may be damaged, and is restored as it was stored
        Some(live) if entry.marks.is_none() => look_at(&temp.path()?, live, secrets, &item.path),
        live => take_out(&temp.path()?, live.as_deref(), secrets, &item.path),
    };
    match looked {
        Ok(back) => tell(run, item, &back)?,
        Err(regain::Failed::Live(error)) => stays(run, item, &error)?,
        Err(regain::Failed::Image(error)) => {
            let why = format!("the live secrets could not be put into it: {error}");
            return Err(Failed::Content(why));
        }
    }
    let hash = hash_file(file, run.cancel).map_err(|_| Failed::Over)??;
    if hash != entry.hash {
        run.set_written(index, Written { size: Facts::of(file)?.size, hash });
    }
    Ok(())
}

/// Are there marks in it, or may there be secrets in what it replaces that nobody else has?
fn concerns(run: &Run<'_>, entry: &Entry) -> bool {
    entry.marks.is_some() || run.options.secrets_stay.is_some()
}

fn secrets<'s>(run: &'s Run<'_>, item: &Item, key: &'s [u8; 32]) -> Secrets<'s> {
    let ignored = run.options.secrets_stay.as_deref();
    Secrets { key, spared: ignored.filter(|_| !spares(run, item)) }
}

/// Is the file stored as it is, whatever is in it?
fn spares(run: &Run<'_>, item: &Item) -> bool {
    run.options.secrets_stay.as_ref().is_some_and(|ignored| ignored.has_path(item.here()))
}

/// What is there goes only if it is told to.
fn stays(run: &Run<'_>, item: &Item, why: &dyn fmt::Display) -> Result<(), Failed> {
    if run.options.overwrite == Overwrite::Always {
        let what = "it replaced what had secrets that no backup has";
        run.notice(item, format!("{what}: {why}"));
        return Ok(());
    }
    let why = format!(
        "what is there has, or may have, secrets that no backup has: {why}; move it away, or restore \
         elsewhere with --to DIR; --overwrite always replaces it"
    );
    Err(Failed::Content(why))
}

/// Tells what came back and what did not. An error means that what is there stays.
fn tell(run: &Run<'_>, item: &Item, back: &Back) -> Result<(), Failed> {
    let lost = back.lost.count();
    if lost > 0 {
        let them = if lost == 1 { "is" } else { "are" };
        stays(run, item, &format!("{lost} of them {them} not in the stored one"))?;
    }
    run.kept_secrets(back.put);
    let blanks = back.blanks();
    if !blanks.is_empty() {
        run.blank(item, blanks);
    }
    Ok(())
}

/// Is what is there the file as it was at its source?
pub(super) fn fits(content: &dyn Content, entry: &Entry, there: &File) -> bool {
    let source = entry.marks.and_then(|marks| marks.source);
    source.is_some_and(|source| {
        is_source(&content.mark_key(), &source, &mut At(there, 0)).unwrap_or(false)
    })
}

/// A stored file with what is there in the place of its marks.
pub(super) fn filled(
    content: &dyn Content,
    item: &Item,
    entry: &Entry,
    stored: Vec<u8>,
    live: &mut dyn Read,
) -> Vec<u8> {
    if entry.marks.is_none() {
        return stored;
    }
    give_back_bytes(&content.mark_key(), &item.path, &stored, live).unwrap_or(stored)
}

/// A file from its beginning, wherever it stands.
struct At<'f>(&'f File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(buffer, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}

/// Hashes what it writes, and ends with the run.
pub(super) struct Hashing<'f, 'r, W: Write> {
    to: BufWriter<&'f mut W>,
    run: &'r Run<'r>,
    hasher: blake3::Hasher,
}

impl<'f, 'r, W: Write> Hashing<'f, 'r, W> {
    pub(super) fn new(to: &'f mut W, run: &'r Run<'r>) -> Self {
        Self { to: BufWriter::new(to), run, hasher: blake3::Hasher::new() }
    }

    /// The hash of what was written, all of it.
    pub(super) fn finish(mut self) -> io::Result<[u8; 32]> {
        self.to.flush()?;
        Ok(*self.hasher.finalize().as_bytes())
    }
}

impl<W: Write> Write for Hashing<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.run.is_over() {
            return Err(io::Error::other("the restore ends"));
        }
        let len = self.to.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
