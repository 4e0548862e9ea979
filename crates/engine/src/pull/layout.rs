//! The layout of a restore: which block is read when, and what of it goes where.
//!
//! In: the files of a plan and their content maps. Out: passes; each has runs of blocks in the order
//! they are read, and for every block the stretches of files that it holds. Each block is read once
//! in a pass, however many files share it. Blocks come in the order in which the files need them,
//! large files first, so that a file is whole soon after it was begun.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;
use repo::{BlockId, Extent};

use super::apply::Run;
use super::fetch::is_fatal;
use super::plan::Item;
use super::source::Location;

/// A file from this size on comes before all smaller ones.
const LARGE_BYTES: u64 = 8 << 20;
/// Pieces of one pass, 32 bytes each; a file is never cut in two.
const PIECES_MAX: usize = 1 << 19;
/// Files whose maps are read together, if the maps are small.
const FILES_PER_READ: usize = 512;
/// Plaintext of the blocks that are put in the order of the store before they are cut into runs.
const WINDOW_BYTES: u64 = 64 << 20;
/// Plaintext of one run.
const RUN_BYTES_MAX: u64 = 8 << 20;
/// A run goes on over a gap of unneeded bytes up to this: reading them is cheaper than a request.
const GAP_BYTES_MAX: u64 = 32 << 10;

/// A stretch of a file that lies in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    /// The block's place in [`Layout::blocks`].
    pub(super) block: u32,
    /// The file.
    pub(super) item: u32,
    /// Where in the file.
    pub(super) at: u64,
    /// Where in the block's plaintext.
    pub(super) offset: u32,
    pub(super) len: u32,
    /// It is normalised pages.
    pub(super) pages: bool,
}

/// Blocks that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockRun {
    pub(super) blocks: Range<usize>,
    pub(super) pieces: Range<usize>,
    /// Plaintext in bytes.
    pub(super) bytes: u64,
}

/// What one pass reads and writes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Each once, in the order of reading.
    pub(super) blocks: Vec<BlockId>,
    /// In the order of the blocks; those of one block by file and place.
    pub(super) pieces: Vec<Piece>,
    pub(super) runs: Vec<BlockRun>,
    /// Of a file: what is copied from the file that is there, as place and length, in file order.
    pub(super) kept: HashMap<u32, Vec<(u64, u64)>>,
    /// Files that need no block.
    pub(super) whole: Vec<u32>,
}

/// The files to write, in the order in which they become whole.
pub(super) fn order(run: &Run<'_>) -> Vec<usize> {
    let mut files: Vec<_> = run
        .items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.writes_content())
        .map(|(index, item)| {
            let large = item.bytes >= LARGE_BYTES;
            let place = if large { None } else { first_place(run, item) };
            (std::cmp::Reverse(if large { item.bytes } else { 0 }), place, index)
        })
        .collect();
    files.sort_unstable();
    files.into_iter().map(|(_, _, index)| index).collect()
}

/// Where a small file's content begins in the repository; asked only where that costs no read.
fn first_place(run: &Run<'_>, item: &Item) -> Option<(Location, u32)> {
    let entry = item.entry.as_deref().filter(|entry| !entry.map.inline.is_empty())?;
    let first = *run.content.extents(entry).ok()?.first()?;
    Some((run.content.location(&first.block)?, first.offset))
}

/// Takes files from the front of `files` until a pass is full. A file whose map cannot be used is
/// reported and left out.
pub(super) fn pass(run: &Run<'_>, files: &mut &[usize]) -> Layout {
    let mut draft = Draft { run, numbers: HashMap::new(), layout: Layout::default() };
    while !files.is_empty() && draft.layout.pieces.len() < PIECES_MAX && !run.is_over() {
        let (now, rest) = files.split_at(together(run, files));
        *files = rest;
        let read = |index: &usize| {
            let (entry, _) = run.items[*index].target()?;
            Some((*index, entry.size, run.content.extents(entry)))
        };
        let maps: Vec<_> = run.pool.install(|| now.par_iter().map(read).collect::<Vec<_>>());
        for (index, size, extents) in maps.into_iter().flatten() {
            match extents {
                Ok(extents) => draft.take(index, size, &extents),
                Err(error) if is_fatal(&error) => run.stop_with(error.into()),
                Err(error) => {
                    let reason = super::error::show(error.to_string().as_bytes());
                    run.problem(&run.items[index], reason);
                }
            }
        }
    }
    draft.finish()
}

/// How many files from the front to read the maps of together: of large maps, as many as there are
/// threads, as each may take much memory.
fn together(run: &Run<'_>, files: &[usize]) -> usize {
    let mut large = run.pool.current_num_threads();
    let is_small = |index: &&usize| {
        run.items[**index].entry.as_ref().is_some_and(|entry| entry.map.base.is_none())
    };
    let fits = |index: &&usize| {
        is_small(index) || {
            large = large.saturating_sub(1);
            large > 0
        }
    };
    files.iter().take(FILES_PER_READ).take_while(fits).count().max(1)
}

/// A layout in the making: blocks are numbered as they are met.
struct Draft<'r> {
    run: &'r Run<'r>,
    numbers: HashMap<BlockId, u32>,
    layout: Layout,
}

impl Draft<'_> {
    fn take(&mut self, index: usize, size: u64, extents: &[Extent]) {
        let item = &self.run.items[index];
        let len = extents.iter().map(|extent| u64::from(extent.len)).sum::<u64>();
        let Ok(number) = u32::try_from(index) else {
            return self.run.problem(item, "more than 4 billion entries".into());
        };
        if len != size {
            return self.run.problem(item, format!("its map has {len} bytes of {size}"));
        }
        let before = self.layout.pieces.len();
        let mut start = 0;
        for extent in extents {
            let end = start + u64::from(extent.len);
            item.keep.cut(start..end, |part, kept| {
                let (at, len) = (part.start, part.end - part.start);
                if kept {
                    self.layout.kept.entry(number).or_default().push((at, len));
                    return;
                }
                let block = self.number(extent.block);
                let within = "a part of an extent is no longer than it";
                let offset = extent.offset + u32::try_from(at - start).expect(within);
                let len = u32::try_from(len).expect(within);
                let pages = extent.pages;
                self.layout.pieces.push(Piece { block, item: number, at, offset, len, pages });
            });
            start = end;
        }
        if self.layout.pieces.len() == before {
            self.layout.whole.push(number);
        }
    }

    fn number(&mut self, block: BlockId) -> u32 {
        let blocks = &mut self.layout.blocks;
        *self.numbers.entry(block).or_insert_with(|| {
            blocks.push(block);
            u32::try_from(blocks.len() - 1).expect("a pass has fewer blocks than pieces")
        })
    }

    /// Puts the blocks into the order of reading and cuts them into runs.
    fn finish(self) -> Layout {
        let mut layout = self.layout;
        drop(self.numbers);
        let locate = |id: &BlockId| self.run.content.location(id);
        let mut places: Vec<(Option<Location>, u32)> = Vec::with_capacity(layout.blocks.len());
        for (number, id) in (0..).zip(&layout.blocks) {
            places.push((locate(id), number));
        }
        let plain = |place: &(Option<Location>, u32)| {
            place.0.map_or(0, |location| u64::from(location.plain_len))
        };
        for window in windows(&places, plain) {
            places[window].sort_unstable();
        }
        let mut new_numbers = vec![0_u32; places.len()];
        for (new, (_, old)) in (0..).zip(&places) {
            new_numbers[*old as usize] = new;
        }
        layout.blocks = places.iter().map(|(_, old)| layout.blocks[*old as usize]).collect();
        for piece in &mut layout.pieces {
            piece.block = new_numbers[piece.block as usize];
        }
        layout.pieces.sort_unstable();
        let mut first = 0;
        for blocks in runs(&places) {
            let bytes = places[blocks.clone()].iter().map(plain).sum();
            let rest = &layout.pieces[first..];
            let end = first + rest.partition_point(|piece| (piece.block as usize) < blocks.end);
            layout.runs.push(BlockRun { blocks, pieces: first..end, bytes });
            first = end;
        }
        layout
    }
}

/// Cuts a list into stretches of [`WINDOW_BYTES`].
fn windows<T>(list: &[T], bytes: impl Fn(&T) -> u64) -> Vec<Range<usize>> {
    let (mut out, mut start, mut sum) = (Vec::new(), 0, 0);
    for (at, one) in list.iter().enumerate() {
        sum += bytes(one);
        if sum >= WINDOW_BYTES || at + 1 == list.len() {
            out.push(start..at + 1);
            (start, sum) = (at + 1, 0);
        }
    }
    out
}

/// Cuts located blocks into runs: one pack, rising offsets, small gaps, bounded length. A block that
/// is nowhere is a run of its own.
fn runs(places: &[(Option<Location>, u32)]) -> Vec<Range<usize>> {
    let end = |location: &Location| location.offset.saturating_add(location.stored_len.into());
    let (mut out, mut start, mut bytes) = (Vec::new(), 0, 0_u64);
    for (at, (place, _)) in places.iter().enumerate() {
        bytes += place.map_or(0, |location| u64::from(location.plain_len));
        let goes_on = match (place, places.get(at + 1).and_then(|(next, _)| *next)) {
            (Some(last), Some(next)) => {
                next.pack == last.pack
                    && next.offset >= end(last)
                    && next.offset - end(last) <= GAP_BYTES_MAX
                    && bytes + u64::from(next.plain_len) <= RUN_BYTES_MAX
            }
            _ => false,
        };
        if !goes_on {
            out.push(start..at + 1);
            (start, bytes) = (at + 1, 0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use repo::{OpId, PackId};

    use super::*;

    fn place(pack: u32, offset: u64, len: u32) -> (Option<Location>, u32) {
        let pack = PackId { op: OpId([1; 16]), n: pack };
        (Some(Location { pack, offset, stored_len: len, plain_len: len }), 0)
    }

    fn lengths(places: &[(Option<Location>, u32)]) -> Vec<usize> {
        runs(places).into_iter().map(|run| run.len()).collect()
    }

    #[test]
    fn neighbours_are_one_request_and_far_blocks_are_not() {
        let k = 1024;
        let near = [place(0, 0, 1000), place(0, 1000, 1000), place(0, 2000 + 32 * k, 10)];
        assert_eq!(lengths(&near), [3]);
        let far = [place(0, 0, 1000), place(0, 1001 + 32 * k, 10)];
        assert_eq!(lengths(&far), [1, 1]);
        let packs = [place(0, 0, 10), place(1, 10, 10), place(1, 20, 10)];
        assert_eq!(lengths(&packs), [1, 2]);
        let back = [place(0, 100, 10), place(0, 50, 10)];
        assert_eq!(lengths(&back), [1, 1]);
        let long: Vec<_> = (0..9).map(|n| place(0, n << 21, 2 << 20)).collect();
        assert_eq!(lengths(&long), [4, 4, 1]);
        let nowhere = [place(0, 0, 10), (None, 0), (None, 0), place(0, 10, 10)];
        assert_eq!(lengths(&nowhere), [1, 1, 1, 1]);
        assert!(lengths(&[]).is_empty());
    }

    #[test]
    fn windows_cover_everything_once() {
        let bytes = [WINDOW_BYTES / 2, WINDOW_BYTES / 2, 1, WINDOW_BYTES, 5];
        assert_eq!(windows(&bytes, |bytes| *bytes), [0..2, 2..4, 4..5]);
    }
}
