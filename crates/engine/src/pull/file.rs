//! One file being written: its pieces arrive in any order, it is hashed as a whole.
//!
//! Bytes that arrive in file order are hashed as they pass; bytes that came early are read back when
//! their turn is there. Parts that the file at the target has already are copied when the hash gets
//! to them. A file for which nothing arrives for a while can be parked: its descriptor is closed, its
//! temporary name stays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use repo::{Entry, flag};

use super::apply::Run;
use super::commit::Finished;
use super::layout::Layout;
use super::plan::{Action, Keep, Place};
use super::target::{self, Facts, Temp};
use super::{Event, check, fields, marks, moves, rows};

/// A hole is worth a hole from this length on: a page of most file systems.
const HOLE_BYTES: usize = 4096;
/// Bytes taken at once from a local file.
const COPY_BYTES: usize = 256 << 10;
/// A parked file forgets a hash of fewer bytes than this: the state of a hash takes 2 KiB.
const HASHED_BYTES_KEPT: u64 = 256 << 10;

/// After so many bytes the system is told to begin to write them to the disk: so it has less to do
/// when the file is whole and is made durable.
const WRITE_BACK_BYTES: u64 = 16 << 20;

/// Why a file was not written.
pub(super) enum Failed {
    Local(io::Error),
    Content(String),
    Over,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

impl Failed {
    pub(super) fn tell(self, run: &Run<'_>, index: usize) {
        match self {
            Self::Local(error) => run.local(&run.items[index], error),
            Self::Content(reason) => run.problem(&run.items[index], reason),
            Self::Over => {}
        }
    }
}

/// How far a file is.
#[derive(Debug)]
struct Progress {
    /// Of the first `hashed` bytes.
    hasher: Option<Box<blake3::Hasher>>,
    hashed: u64,
    /// What is written behind the hashed bytes: place and length.
    early: BTreeMap<u64, u64>,
    /// Copied parts so far.
    copied: usize,
    /// Bytes that are still to arrive.
    missing: u64,
}

/// A file that is being written.
pub(super) struct Writing<'r> {
    run: &'r Run<'r>,
    index: usize,
    entry: &'r Entry,
    /// What is to be copied from the file that is there.
    kept: &'r [(u64, u64)],
    temp: Temp,
    file: File,
    there: Option<File>,
    progress: Progress,
    /// Bytes since the system was last told to write.
    held_back: u64,
}

/// A file that is set aside.
pub(super) struct Parked {
    name: String,
    progress: Progress,
}

impl<'r> Writing<'r> {
    /// Begins a file under a temporary name.
    pub(super) fn start(run: &'r Run<'r>, layout: &'r Layout, item: u32) -> Result<Self, Failed> {
        let index = item as usize;
        let kept = layout.kept.get(&item).map_or(&[][..], Vec::as_slice);
        let (entry, place) = run.items[index].target().ok_or(Failed::Over)?;
        let (dir, _) = run.targets[place.base].place(&place.rel)?;
        let (temp, file) = Temp::file(&dir)?;
        if entry.flags & flag::SPARSE != 0 {
            file.set_len(entry.size)?;
        }
        let copied: u64 = kept.iter().map(|(_, len)| len).sum();
        let progress = Progress {
            hasher: None,
            hashed: 0,
            early: BTreeMap::new(),
            copied: 0,
            missing: entry.size - copied,
        };
        let there = Self::open_there(run, index, place)?;
        let mut writing =
            Self { run, index, entry, kept, temp, file, there, progress, held_back: 0 };
        writing.advance()?;
        Ok(writing)
    }

    fn open_there(run: &Run<'_>, index: usize, place: &Place) -> io::Result<Option<File>> {
        match run.items[index].keep {
            Keep::Nothing => Ok(None),
            Keep::All | Keep::Parts(_) => run.targets[place.base].open_file(&place.rel).map(Some),
        }
    }

    /// Goes on with a parked file.
    pub(super) fn resume(
        run: &'r Run<'r>,
        layout: &'r Layout,
        item: u32,
        parked: Parked,
    ) -> Result<Self, Failed> {
        let index = item as usize;
        let kept = layout.kept.get(&item).map_or(&[][..], Vec::as_slice);
        let (entry, place) = run.items[index].target().ok_or(Failed::Over)?;
        let (dir, _) = run.targets[place.base].place(&place.rel)?;
        let Parked { name, progress } = parked;
        let (temp, file) = Temp::resume(&dir, name)?;
        let there = Self::open_there(run, index, place)?;
        Ok(Self { run, index, entry, kept, temp, file, there, progress, held_back: 0 })
    }

    /// Closes the file for a while.
    pub(super) fn park(self) -> Parked {
        let mut progress = self.progress;
        if progress.hashed < HASHED_BYTES_KEPT {
            progress.hasher = None;
            if progress.hashed > 0 {
                progress.early.insert(0, progress.hashed);
            }
            progress.hashed = 0;
        }
        Parked { name: self.temp.park(), progress }
    }

    /// Is everything there?
    pub(super) fn is_whole(&self) -> bool {
        self.progress.missing == 0
    }

    /// Takes normalised pages that arrived.
    pub(super) fn write_pages(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        let mut bytes = bytes.to_vec();
        if !self.entry.pages.is_some_and(|pages| pages.undo(at, &mut bytes)) {
            return Err(Failed::Content("its map has pages where there are none".into()));
        }
        self.write(at, &bytes)
    }

    /// Takes bytes that arrived.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        self.put(at, bytes)?;
        self.progress.missing = self.progress.missing.saturating_sub(bytes.len() as u64);
        self.advance()
    }

    /// Hashes on as far as the file is whole, copying what is to be copied.
    fn advance(&mut self) -> Result<(), Failed> {
        loop {
            let at = self.progress.hashed;
            if let Some(len) = self.progress.early.remove(&at) {
                self.pass(at, len, false)?;
                continue;
            }
            match self.kept.get(self.progress.copied) {
                Some((place, len)) if *place == at => {
                    self.pass(at, *len, true)?;
                    self.run.kept_bytes.fetch_add(*len, Ordering::Relaxed);
                    self.progress.copied += 1;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads bytes of this file, or of the one that is there to copy them, and hashes them; that
    /// they are right, the hash will say.
    fn pass(&mut self, mut at: u64, len: u64, copy: bool) -> Result<(), Failed> {
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(len).unwrap_or(COPY_BYTES))];
        let end = at + len;
        while at < end {
            if self.run.is_over() {
                return Err(Failed::Over);
            }
            let want = buffer.len().min(usize::try_from(end - at).unwrap_or(COPY_BYTES));
            let from = if copy { self.there.as_ref().ok_or(Failed::Over)? } else { &self.file };
            let read = from.read_at(&mut buffer[..want], at)?;
            if read == 0 {
                return Err(Failed::Content("what was there changed while it was read".into()));
            }
            if copy {
                self.put(at, &buffer[..read])?;
            } else {
                self.hash(&buffer[..read]);
            }
            at += read as u64;
        }
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) {
        let progress = &mut self.progress;
        progress.hasher.get_or_insert_default().update(bytes);
        progress.hashed += bytes.len() as u64;
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.entry.flags & flag::SPARSE != 0 {
            write_with_holes(&self.file, at, bytes)?;
        } else {
            self.file.write_all_at(bytes, at)?;
        }
        let len = bytes.len() as u64;
        if at == self.progress.hashed {
            self.hash(bytes);
        } else {
            self.progress.early.insert(at, len);
        }
        self.write_back(at, len);
        self.run.written_bytes.fetch_add(len, Ordering::Relaxed);
        self.run.monitor.event(Event::Bytes(len));
        Ok(())
    }

    /// Lets the system begin to write what came lately, without waiting for it.
    fn write_back(&mut self, at: u64, len: u64) {
        self.held_back += len;
        if self.held_back < WRITE_BACK_BYTES {
            return;
        }
        #[cfg(target_os = "linux")]
        {
            // On Linux this starts the write of dirty pages, and drops clean ones: those of the
            // stretch before, which are on the disk by now. So a large file does not push out of
            // memory what others use. It is a hint: whether it was taken shows in nothing but time.
            let start = (at + len).saturating_sub(self.held_back + WRITE_BACK_BYTES);
            let len = std::num::NonZeroU64::new(self.held_back + WRITE_BACK_BYTES);
            let _ = rustix::fs::fadvise(&self.file, start, len, rustix::fs::Advice::DontNeed);
        }
        self.held_back = 0;
    }

    /// Checks the whole, sets metadata, and hands it on. None if what is there is the same already.
    pub(super) fn finish(mut self) -> Result<Option<Finished>, Failed> {
        let (run, item) = (self.run, &self.run.items[self.index]);
        let hasher = self.progress.hasher.take().unwrap_or_default();
        if *hasher.finalize().as_bytes() != self.entry.hash {
            let what = if item.action == Action::Patch || self.there.is_some() {
                "what was there changed while it was read, or the repository is damaged"
            } else {
                "its content does not fit its hash: damage in the repository"
            };
            return Err(Failed::Content(what.into()));
        }
        let back = marks::keep_live(run, self.index, &mut self.temp, &mut self.file)?;
        moves::apply::carry_out(run, self.index, &mut self.temp, &mut self.file)?;
        if let Some(format) = self.entry.redacted {
            fields::keep_live(run, self.index, &mut self.temp, &mut self.file, format)?;
        }
        fields::lose_none(run, self.index, &self.file)?;
        marks::end(run, self.index, &self.file, back)?;
        if self.entry.flags & flag::SQLITE != 0 {
            self.there = None; // to close it takes the locks away that SQLite has on it
            rows::keep_live(run, self.index, &self.temp, &self.file)?;
            marks::keep_live_rows(run, self.index, &self.temp, &self.file)?;
        }
        if moves::apply::is_there(run, self.index, &self.file)? {
            run.left(self.index);
            return Ok(None);
        }
        check::check(run, item, &self.temp)?;
        target::set(&self.file, self.entry, &run.rules, &mut |text| run.notice(item, text))?;
        let device = Facts::of(&self.file)?.id.0;
        Ok(Some(Finished { item: self.index, temp: self.temp, file: self.file, device }))
    }
}

impl Parked {
    /// Removes what was written.
    pub(super) fn discard(self, run: &Run<'_>, item: u32) {
        if let Some((_, place)) = run.items[item as usize].target()
            && let Ok((dir, _)) = run.targets[place.base].place(&place.rel)
        {
            // Dropped at once, it is unlinked; a failure leaves a name that the next pull removes.
            drop(Temp::resume(&dir, self.name));
        }
    }
}

/// Writes bytes but leaves out whole pages of zeros; a new file reads as zeros there.
fn write_with_holes(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let page = HOLE_BYTES as u64;
    let first = usize::try_from((page - at % page) % page).unwrap_or(0).min(bytes.len());
    let (mut start, mut now) = (0, 0);
    let mut edge = if first == 0 { HOLE_BYTES.min(bytes.len()) } else { first };
    while now < bytes.len() {
        let part = &bytes[now..edge];
        if part.len() == HOLE_BYTES && part.iter().all(|byte| *byte == 0) {
            file.write_all_at(&bytes[start..now], at + start as u64)?;
            start = edge;
        }
        now = edge;
        edge = (edge + HOLE_BYTES).min(bytes.len());
    }
    file.write_all_at(&bytes[start..], at + start as u64)
}
