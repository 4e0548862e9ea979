//! Files: units of work, each fetched ahead in segments, written, hashed and handed to the commit.
//!
//! A unit is one large file, or a group of small ones that lie together in the repository. Its
//! content is cut into segments of a few MiB of plaintext, which are fetched and opened on a pool
//! while the unit's worker writes the one before. All segments in flight share one byte budget.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use repo::{BlockId, Entry, Extent, flag};

use super::Event;
use super::apply::Run;
use super::commit::Finished;
use super::fetch::{Loaded, is_fatal};
use super::inspect::hash_file;
use super::plan::{Action, Item, Place};
use super::source::Location;
use super::target::{self, Facts, Temp};

/// A file from this size on is a unit of its own.
const LARGE_BYTES: u64 = 8 << 20;
/// Content of a unit of small files, in bytes.
const UNIT_BYTES: u64 = 4 << 20;
/// Files of a unit of small files.
const UNIT_FILES_MAX: usize = 512;
/// Plaintext of the blocks of one segment.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Segments of one unit in flight.
const AHEAD_MAX: usize = 12;
/// Plaintext of all segments in flight, over all workers.
pub(super) const IN_FLIGHT_BYTES: u64 = 32 << 20;
/// A hole is worth a hole from this length on: a page of most file systems.
const HOLE_BYTES: usize = 4096;
/// Bytes taken at once from a local file.
const COPY_BYTES: usize = 256 << 10;

/// Items written by one worker, one after another.
type Unit = Vec<usize>;

/// A stretch of one file of a unit.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Which file of the unit.
    file: usize,
    /// Where in the file.
    at: u64,
    extent: Extent,
}

/// Pieces that are written when certain blocks are loaded.
#[derive(Debug)]
struct Segment {
    pieces: Range<usize>,
    blocks: Vec<BlockId>,
    bytes: u64,
}

/// Groups the files of a plan into units, largest first.
pub(super) fn units(run: &Run<'_>) -> Vec<Unit> {
    let mut large = Vec::new();
    let mut small = Vec::new();
    for (index, item) in run.items.iter().enumerate().filter(|(_, item)| item.writes_content()) {
        if item.bytes >= LARGE_BYTES {
            large.push((item.bytes, index));
        } else {
            small.push((first_block(run, item), index));
        }
    }
    large.sort_unstable_by_key(|(bytes, index)| (std::cmp::Reverse(*bytes), *index));
    // Files that share a block are written together, so it is fetched once.
    small.sort_unstable();
    let mut units: Vec<Unit> = large.into_iter().map(|(_, index)| vec![index]).collect();
    let mut unit = Unit::new();
    let (mut bytes, mut last) = (0, None);
    for (place, index) in small {
        let full = bytes >= UNIT_BYTES || unit.len() >= UNIT_FILES_MAX;
        let new_block = place.map(|(location, _)| location) != last;
        if full && (new_block || bytes >= 2 * UNIT_BYTES) {
            units.push(std::mem::take(&mut unit));
            bytes = 0;
        }
        last = place.map(|(location, _)| location);
        bytes += run.items[index].bytes;
        unit.push(index);
    }
    if !unit.is_empty() {
        units.push(unit);
    }
    units
}

/// Where a small file's content begins in the repository; asked only where that costs no read.
fn first_block(run: &Run<'_>, item: &Item) -> Option<(Location, u32)> {
    let entry = item.entry.as_deref().filter(|entry| !entry.map.inline.is_empty())?;
    let first = *run.content.extents(entry).ok()?.first()?;
    Some((run.content.location(&first.block)?, first.offset))
}

/// Takes units until there are none.
pub(super) fn work(run: &Run<'_>, units: &[Unit], next: &AtomicUsize, out: &Sender<Finished>) {
    while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
        if run.is_over() {
            return;
        }
        write_unit(run, unit, out);
    }
}

fn write_unit(run: &Run<'_>, unit: &Unit, out: &Sender<Finished>) {
    let (mut pieces, bad) = pieces(run, unit);
    let (segments, scattered) = segments(run, unit, &mut pieces);
    let mut writer = Writer { run, unit, bad, scattered, out, open: None, next: 0 };
    run.pool.in_place_scope(|scope| {
        let mut ahead = VecDeque::new();
        let mut asked = 0;
        for segment in &segments {
            while asked < segments.len() && ahead.len() < AHEAD_MAX {
                let next = &segments[asked];
                let permit = if ahead.is_empty() {
                    run.budget.take(next.bytes)
                } else {
                    let Some(permit) = run.budget.try_take(next.bytes) else { break };
                    permit
                };
                let (tx, rx) = bounded(1);
                let load = move || {
                    let result = if run.is_over() {
                        Err(repo::Error::Cancelled)
                    } else {
                        run.fetcher.load(&next.blocks)
                    };
                    let _ = tx.send(result);
                };
                if segments.len() == 1 {
                    load();
                } else {
                    scope.spawn(move |_| load());
                }
                ahead.push_back((permit, rx));
                asked += 1;
            }
            let Some((permit, rx)) = ahead.pop_front() else { return };
            match rx.recv() {
                Ok(Ok(loaded)) => writer.write_segment(&pieces[segment.pieces.clone()], &loaded),
                Ok(Err(error)) => run.stop_with(error.into()),
                Err(_) => return, // the loading thread panicked; the scope passes that on
            }
            drop(permit);
            if run.is_over() {
                return;
            }
        }
        writer.advance(unit.len());
    });
}

/// The pieces of a unit in file order, and the files whose map cannot be used, with the reason.
fn pieces(run: &Run<'_>, unit: &Unit) -> (Vec<Piece>, HashMap<usize, String>) {
    let mut pieces = Vec::new();
    let mut bad = HashMap::new();
    for (file, index) in unit.iter().enumerate() {
        let Some((entry, _)) = run.items[*index].target() else { continue };
        match run.content.extents(entry) {
            Ok(extents) => {
                let len = extents.iter().map(|extent| u64::from(extent.len)).sum::<u64>();
                if len != entry.size {
                    bad.insert(file, format!("its map has {len} bytes of {}", entry.size));
                    continue;
                }
                let mut at = 0;
                for extent in extents {
                    pieces.push(Piece { file, at, extent });
                    at += u64::from(extent.len);
                }
            }
            Err(error) if is_fatal(&error) => run.stop_with(error.into()),
            Err(error) => {
                bad.insert(file, super::error::show(error.to_string().as_bytes()));
            }
        }
    }
    (pieces, bad)
}

/// Cuts a unit into segments. A large file whose map jumps back and forth between blocks (a
/// database after a VACUUM) would load the same blocks again and again in file order: its pieces
/// are put in the order of the blocks instead (`true`), and it is hashed when it is whole.
fn segments(run: &Run<'_>, unit: &Unit, pieces: &mut [Piece]) -> (Vec<Segment>, bool) {
    let in_order = cut(run, unit, pieces);
    if unit.len() > 1 || in_order.len() < 2 {
        return (in_order, false);
    }
    let loads: u64 = in_order.iter().map(|segment| segment.bytes).sum();
    let distinct: HashSet<_> = in_order.iter().flat_map(|segment| &segment.blocks).collect();
    let once: u64 = distinct.into_iter().map(|block| plain_len(run, block)).sum();
    if loads <= once.saturating_add(once / 2) {
        return (in_order, false);
    }
    pieces.sort_by_cached_key(|piece| {
        (run.content.location(&piece.extent.block), piece.extent.block, piece.extent.offset)
    });
    (cut(run, unit, pieces), true)
}

fn plain_len(run: &Run<'_>, block: &BlockId) -> u64 {
    run.content.location(block).map_or(0, |location| location.plain_len.into())
}

fn cut(run: &Run<'_>, unit: &Unit, pieces: &[Piece]) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut seen = HashSet::new();
    let mut now = Segment { pieces: 0..0, blocks: Vec::new(), bytes: 0 };
    for (at, piece) in pieces.iter().enumerate() {
        let block = piece.extent.block;
        let kept = run.items[unit[piece.file]].keep.has(&block);
        if !kept && !seen.contains(&block) {
            let bytes = plain_len(run, &block);
            if !now.blocks.is_empty() && now.bytes + bytes > SEGMENT_BYTES {
                seen.clear();
                let next = Segment { pieces: at..at, blocks: Vec::new(), bytes: 0 };
                segments.push(std::mem::replace(&mut now, next));
            }
            seen.insert(block);
            now.blocks.push(block);
            now.bytes += bytes;
        }
        now.pieces.end = at + 1;
    }
    if !now.pieces.is_empty() {
        segments.push(now);
    }
    segments
}

/// Writes the files of one unit, in order.
struct Writer<'r> {
    run: &'r Run<'r>,
    unit: &'r Unit,
    /// Files of the unit that cannot be written, with the reason.
    bad: HashMap<usize, String>,
    scattered: bool,
    out: &'r Sender<Finished>,
    open: Option<Writing>,
    /// The file of the unit that comes next.
    next: usize,
}

/// One file that is being written.
struct Writing {
    index: usize,
    temp: Temp,
    file: File,
    /// Of the bytes so far; `None` where they do not come in order.
    hasher: Option<blake3::Hasher>,
    /// The file that is there, for the parts that are kept.
    there: Option<File>,
    sparse: bool,
}

impl Writer<'_> {
    fn write_segment(&mut self, pieces: &[Piece], loaded: &Loaded) {
        for piece in pieces {
            if self.run.is_over() {
                return;
            }
            self.advance(piece.file);
            if self.next == piece.file {
                self.start(piece.file);
            }
            let Some(writing) = &mut self.open else { continue };
            if let Err(failed) = writing.write(self.run, piece, loaded) {
                let index = writing.index;
                self.open = None;
                failed.tell(self.run, index);
            }
        }
    }

    /// Finishes what is open, and writes the files without pieces, up to `file`.
    fn advance(&mut self, file: usize) {
        if file >= self.next {
            self.finish();
        }
        while self.next < file && !self.run.is_over() {
            self.start(self.next);
            self.finish();
        }
    }

    fn start(&mut self, file: usize) {
        self.next = file + 1;
        let index = self.unit[file];
        if let Some(reason) = self.bad.remove(&file) {
            self.run.problem(&self.run.items[index], reason);
            return;
        }
        match Writing::start(self.run, index, self.scattered) {
            Ok(writing) => self.open = Some(writing),
            Err(error) => self.run.local(&self.run.items[index], error),
        }
    }

    fn finish(&mut self) {
        let Some(writing) = self.open.take() else { return };
        let index = writing.index;
        match writing.finish(self.run) {
            // The receiver is gone only when the run is over.
            Ok(finished) => _ = self.out.send(finished),
            Err(failed) => failed.tell(self.run, index),
        }
    }
}

/// Why a file was not written.
enum Failed {
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
    fn tell(self, run: &Run<'_>, index: usize) {
        match self {
            Self::Local(error) => run.local(&run.items[index], error),
            Self::Content(reason) => run.problem(&run.items[index], reason),
            Self::Over => {}
        }
    }
}

impl Writing {
    fn start(run: &Run<'_>, index: usize, scattered: bool) -> io::Result<Self> {
        let item = &run.items[index];
        let (entry, Place { base, rel }) = item.target().ok_or(io::ErrorKind::InvalidInput)?;
        let target = &run.targets[*base];
        let (dir, _) = target.place(rel)?;
        let (temp, file) = Temp::file(&dir)?;
        let uses_local = !matches!(item.keep, super::plan::Keep::Nothing);
        Ok(Self {
            index,
            temp,
            file,
            hasher: (!scattered).then(blake3::Hasher::new),
            there: if uses_local { Some(target.open_file(rel)?) } else { None },
            sparse: entry.flags & flag::SPARSE != 0,
        })
    }

    fn write(&mut self, run: &Run<'_>, piece: &Piece, loaded: &Loaded) -> Result<(), Failed> {
        let Extent { block, offset, len } = piece.extent;
        if run.items[self.index].keep.has(&block) {
            return self.copy(run, piece.at, len.into());
        }
        let plain: &Bytes = match loaded.get(&block) {
            Some(Ok(plain)) => plain,
            Some(Err(reason)) => return Err(Failed::Content(reason.clone())),
            None => return Err(Failed::Content(format!("block {block} was not read"))),
        };
        let part = usize::try_from(offset)
            .ok()
            .and_then(|start| plain.get(start..start.checked_add(usize::try_from(len).ok()?)?));
        let part = part.ok_or_else(|| {
            Failed::Content(format!("its map points behind the end of block {block}"))
        })?;
        Ok(self.put(run, piece.at, part)?)
    }

    /// Takes bytes from the file that is there; that they are right, the hash will say.
    fn copy(&mut self, run: &Run<'_>, mut at: u64, len: u64) -> Result<(), Failed> {
        let Some(there) = self.there.take() else { return Err(Failed::Over) };
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(len).unwrap_or(COPY_BYTES))];
        let end = at + len;
        while at < end {
            let want = buffer.len().min(usize::try_from(end - at).unwrap_or(COPY_BYTES));
            let read = there.read_at(&mut buffer[..want], at)?;
            if read == 0 {
                return Err(Failed::Content("what was there changed while it was read".into()));
            }
            self.put(run, at, &buffer[..read])?;
            at += read as u64;
        }
        run.kept_bytes.fetch_add(len, Ordering::Relaxed);
        self.there = Some(there);
        Ok(())
    }

    fn put(&mut self, run: &Run<'_>, at: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if self.sparse {
            write_with_holes(&self.file, at, bytes)?;
        } else {
            self.file.write_all_at(bytes, at)?;
        }
        let len = bytes.len() as u64;
        run.written_bytes.fetch_add(len, Ordering::Relaxed);
        run.monitor.event(Event::Bytes(len));
        Ok(())
    }

    /// Checks the whole, sets metadata, and hands it on.
    fn finish(self, run: &Run<'_>) -> Result<Finished, Failed> {
        let item = &run.items[self.index];
        let entry: &Entry = item.entry.as_deref().ok_or(Failed::Over)?;
        if self.sparse {
            self.file.set_len(entry.size)?;
        }
        let hash = match &self.hasher {
            Some(hasher) => *hasher.finalize().as_bytes(),
            None => hash_file(&self.file, run.cancel).map_err(|_| Failed::Over)??,
        };
        if hash != entry.hash {
            let what = if item.action == Action::Patch || self.there.is_some() {
                "what was there changed while it was read, or the repository is damaged"
            } else {
                "its content does not fit its hash: damage in the repository"
            };
            return Err(Failed::Content(what.into()));
        }
        target::set(&self.file, entry, &run.rules, &mut |text| run.notice(item, text))?;
        let device = Facts::of(&self.file)?.id.0;
        Ok(Finished { item: self.index, temp: self.temp, file: self.file, device })
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
