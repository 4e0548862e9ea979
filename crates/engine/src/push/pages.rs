//! The page cutter: an image of a database becomes pieces of blocks.
//!
//! In: an image, read from front to back, and what is known of the image before. Out: its pieces.
//! Groups of 64 KiB that are what they were keep their pieces. The pages of the others are
//! normalised and looked up; only those that are nowhere yet, or lie in blocks of which too little
//! is in use, are read a second time and put into new blocks.
//!
//! Invariant: pieces, size and hash are of the bytes that the first reading gave; the second reading
//! must give the same ones.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::Ordering;

use repo::limits::MAP_EXTENTS_MAX;
use repo::{BlockNo, Index, PageFormat, Pages};

use super::blocks::{Filler, Piece, Reuse, push_piece};
use super::groups::{GROUP_BYTES, Groups};
use super::reader::{Content, Context};
use super::suspects::Look;
use crate::capture::sqlite::Image;

/// Smaller pages are put into chunks of this size together.
const CHUNK_BYTES_MIN: u32 = 4096;
/// First bytes of an image, which say how it is laid out.
const HEADER_BYTES: usize = 100;
/// Blocks that a file uses in part may hold this much that it does not use: below, no block is
/// rewritten, so that a small database which shares its block with others stays there.
const WASTE_BYTES: u64 = 4 << 20;
/// Nor any of those that are worn, up to this part of what the file uses: an eighth.
const WASTE_DIVISOR: u64 = 8;
/// A block is worn if the file uses less than so many fifths of it.
const WORN_FIFTHS: u64 = 2;
/// Of worn blocks a push writes again at most this part of what is new in the file: an eighth. More frees
/// more, and what it frees stays as long as an older snapshot needs it.
const WORN_NEW_DIVISOR: u64 = 8;

/// A captured image.
pub(super) trait Pictured: Read {
    /// Makes the next reads give these ranges, in bytes, of the same image. Called once, at its end,
    /// and only if something was known of the image before.
    fn again(&mut self, ranges: Vec<Range<u64>>);
}

impl Pictured for Image {
    fn again(&mut self, ranges: Vec<Range<u64>>) {
        Image::again(self, ranges);
    }
}

/// What is known of a file's image from the snapshot before.
pub(super) struct Before {
    pub(super) pieces: Vec<Piece>,
    /// How its pages were laid out, if pieces are normalised pages.
    pub(super) pages: Option<Pages>,
    /// The groups of the image; without them every page is looked up.
    pub(super) groups: Option<Groups>,
}

/// A stretch of an image after the first reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    /// It lies here.
    There(Piece),
    /// It lies nowhere; so many bytes.
    New(u64),
}

/// Cuts an image. `None` if the run was stopped.
pub(super) fn cut<'a>(
    cx: &Context<'a>,
    filler: &mut Filler<'a>,
    image: &mut dyn Pictured,
    before: Option<&Before>,
    look: Option<&mut Look<'_>>,
) -> io::Result<Option<Content>> {
    let (chunk, scratch) = (Vec::new(), Vec::new());
    let mut pass = Pass { cx, filler, look, layout: None, at: 0, chunk, scratch };
    let mut group = Vec::new();
    let mut groups = Groups::default();
    let Some(before) = before else {
        let mut pieces = Vec::new();
        while pass.next(image, GROUP_BYTES, &mut group)? {
            groups.push(&group, None);
            pass.add(&group, Reuse::Except(&HashSet::new()), &mut pieces);
        }
        return Ok(pass.done(groups, pieces));
    };
    let mut old = Slices { pieces: &before.pieces, done: 0 };
    let used = before.pieces.iter().map(|piece| piece.block).collect();
    let mut stretches = Vec::new();
    while pass.next(image, GROUP_BYTES, &mut group)? {
        let same = groups.push(&group, before.groups.as_ref());
        let known = old.take(group.len() as u64).unwrap_or_default();
        if same && !known.is_empty() && pass.can_undo(&known, before.pages) {
            for piece in known {
                push(&mut stretches, Stretch::There(piece));
            }
        } else {
            pass.look_up(&group, &known, &used, &mut stretches);
        }
        pass.at += group.len() as u64;
    }
    let avoid = sparse(&stretches, &cx.dedup.index);
    let kept = stretches.iter().filter_map(Stretch::block).filter(|block| !avoid.contains(block));
    let kept = kept.collect();
    let ranges = wanted(&stretches, &avoid);
    if !ranges.is_empty() && !pass.is_stopped() {
        image.again(ranges.clone());
    }
    let pieces = pass.fill(image, &stretches, ranges, &avoid, &kept)?;
    Ok(pass.done(groups, pieces))
}

/// What cutting an image needs.
struct Pass<'p, 'a, 'w> {
    cx: &'p Context<'a>,
    filler: &'p mut Filler<'a>,
    /// Sees what is new.
    look: Option<&'p mut Look<'w>>,
    layout: Option<Pages>,
    /// Where the image is read next.
    at: u64,
    chunk: Vec<u8>,
    scratch: Vec<u8>,
}

impl Pass<'_, '_, '_> {
    fn is_stopped(&self) -> bool {
        self.cx.stop.load(Ordering::Relaxed)
    }

    /// Reads the next `len` bytes; fewer only at the end. False if there are none, or the run was
    /// stopped.
    fn next(&mut self, image: &mut dyn Pictured, len: u64, into: &mut Vec<u8>) -> io::Result<bool> {
        into.clear();
        if self.is_stopped() {
            return Ok(false);
        }
        image.take(len).read_to_end(into)?;
        self.cx.bytes_read.fetch_add(into.len() as u64, Ordering::Relaxed);
        if self.at == 0
            && let Some(header) = into.first_chunk::<HEADER_BYTES>()
        {
            self.layout = PageFormat::of_header(header).map(Pages::from);
        }
        Ok(!into.is_empty())
    }

    /// Pages that were normalised with another layout would come back as something else.
    fn can_undo(&self, known: &[Piece], layout: Option<Pages>) -> bool {
        self.layout == layout || known.iter().all(|piece| !piece.pages)
    }

    /// Chunks of the image are pages, or as many small ones as make 4 KiB.
    fn chunk_bytes(&self) -> usize {
        self.layout.map_or(CHUNK_BYTES_MIN, |layout| layout.size.max(CHUNK_BYTES_MIN)) as usize
    }

    /// Normalises a chunk into `self.chunk`, if it comes back. True: it is normalised.
    fn normalise(&mut self, chunk: &[u8], at: u64) -> bool {
        self.chunk.clear();
        self.chunk.extend_from_slice(chunk);
        let normal =
            self.layout.is_some_and(|layout| layout.apply(at, &mut self.chunk, &mut self.scratch));
        if !normal {
            self.chunk.copy_from_slice(chunk);
        }
        normal
    }

    /// Puts the chunks of a part into blocks, unless they are in the repository.
    fn add(&mut self, part: &[u8], reuse: Reuse<'_>, pieces: &mut Vec<Piece>) {
        if let Some(look) = self.look.as_mut() {
            look.feed(part, self.at);
        }
        for chunk in part.chunks(self.chunk_bytes()) {
            let pages = self.normalise(chunk, self.at);
            let piece = self.filler.add(&self.chunk, reuse);
            push_piece(pieces, Piece { pages, ..piece });
            self.at += chunk.len() as u64;
        }
    }

    /// Looks the chunks of a group up, which lay in `known` before, of a file that uses the blocks `used`.
    /// Does not move on.
    fn look_up(
        &mut self,
        group: &[u8],
        known: &[Piece],
        used: &HashSet<BlockNo>,
        stretches: &mut Vec<Stretch>,
    ) {
        let mut known = Slices { pieces: known, done: 0 };
        let mut at = self.at;
        for chunk in group.chunks(self.chunk_bytes()) {
            let pages = self.normalise(chunk, at);
            let before = known.take(chunk.len() as u64).unwrap_or_default();
            push(
                stretches,
                match self.filler.find(&self.chunk, before.first(), used) {
                    Some(piece) => Stretch::There(Piece { pages, ..piece }),
                    None => Stretch::New(chunk.len() as u64),
                },
            );
            at += chunk.len() as u64;
        }
    }

    /// Reads the wanted ranges again and puts them into blocks; gives the pieces of the whole image.
    fn fill(
        &mut self,
        image: &mut dyn Pictured,
        stretches: &[Stretch],
        ranges: Vec<Range<u64>>,
        avoid: &HashSet<BlockNo>,
        kept: &HashSet<BlockNo>,
    ) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let (mut ranges, mut part) = (ranges.into_iter().peekable(), Vec::new());
        let mut at = 0;
        for stretch in stretches {
            let len = stretch.len();
            if let Stretch::There(piece) = stretch
                && !avoid.contains(&piece.block)
            {
                push_piece(&mut pieces, *piece);
            } else if let Some(range) = ranges.next_if(|range| range.start == at) {
                // a range covers all stretches up to its end
                self.at = range.start;
                while self.at < range.end {
                    let want = (range.end - self.at).min(GROUP_BYTES);
                    if !self.next(image, want, &mut part)? || part.len() as u64 != want {
                        if self.is_stopped() {
                            return Ok(pieces);
                        }
                        return Err(io::Error::other("the image ended early when read again"));
                    }
                    // what lies in other blocks only was left there once
                    self.add(&part, Reuse::Only(kept), &mut pieces);
                }
            }
            at += len;
        }
        Ok(pieces)
    }

    fn done(&self, groups: Groups, pieces: Vec<Piece>) -> Option<Content> {
        if self.is_stopped() {
            return None;
        }
        let size = groups.size();
        let pages = self.layout.filter(|_| pieces.iter().any(|piece| piece.pages));
        Some(Content { size, hash: groups.hash(), pieces, pages, groups: Some(groups) })
    }
}

impl Stretch {
    fn block(&self) -> Option<BlockNo> {
        match self {
            Self::There(piece) => Some(piece.block),
            Self::New(_) => None,
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::There(piece) => piece.len.into(),
            Self::New(len) => *len,
        }
    }
}

/// Appends a stretch, merging it with the last one where it continues it.
fn push(stretches: &mut Vec<Stretch>, next: Stretch) {
    match (stretches.last_mut(), next) {
        (Some(Stretch::New(len)), Stretch::New(more)) => *len += more,
        (Some(Stretch::There(last)), Stretch::There(next)) if last.goes_on(&next) => {
            last.len += next.len;
        }
        _ => stretches.push(next),
    }
}

/// Blocks of the repository that are not used again: those of which the image uses less than a
/// quarter, if what it does not use is much, and some that are worn; all of them, if the image lies in
/// too many pieces.
fn sparse(stretches: &[Stretch], index: &Index) -> HashSet<BlockNo> {
    let mut live: HashMap<BlockNo, u64> = HashMap::new();
    let mut new = 0;
    for stretch in stretches {
        match stretch {
            Stretch::There(piece) if (piece.block as usize) < index.len() => {
                *live.entry(piece.block).or_default() += u64::from(piece.len);
            }
            Stretch::There(_) => {}
            Stretch::New(len) => new += len,
        }
    }
    if stretches.len() > MAP_EXTENTS_MAX / 2 {
        return live.into_keys().collect();
    }
    let mut avoid = sparse_blocks(&live, index);
    let used = live.into_iter().filter(|(block, _)| !avoid.contains(block));
    let used = used.map(|(block, live)| Used { block, live, plain: plain_len(block, index) });
    let worn = worn_blocks(used.collect(), new);
    avoid.extend(worn);
    avoid
}

fn plain_len(block: BlockNo, index: &Index) -> u64 {
    index.blocks()[block as usize].row.plain_len.into()
}

/// Blocks of which less than a quarter is `live`, if what is dead in all of them is much.
pub(super) fn sparse_blocks(live: &HashMap<BlockNo, u64>, index: &Index) -> HashSet<BlockNo> {
    let waste: u64 =
        live.iter().map(|(block, live)| plain_len(*block, index).saturating_sub(*live)).sum();
    if waste <= WASTE_BYTES {
        return HashSet::new();
    }
    let is_sparse = |(block, live): &(&BlockNo, &u64)| **live * 4 < plain_len(**block, index);
    live.iter().filter(is_sparse).map(|(block, _)| *block).collect()
}

/// A block of which an image uses a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    block: BlockNo,
    /// Bytes of it that the image uses.
    live: u64,
    /// Bytes it has.
    plain: u64,
}

/// Blocks to write again with a push that stores `new` bytes anyway, emptiest first: what is dead in a
/// block stays for as long as anything in it lives, and a database that is changed every day wears its
/// blocks out one by one.
fn worn_blocks(mut used: Vec<Used>, new: u64) -> Vec<BlockNo> {
    let live: u64 = used.iter().map(|one| one.live).sum();
    let mut waste: u64 = used.iter().map(|one| one.plain.saturating_sub(one.live)).sum();
    let waste_max = WASTE_BYTES.max(live / WASTE_DIVISOR);
    used.retain(|one| one.live * 5 < one.plain * WORN_FIFTHS);
    used.sort_unstable_by_key(|one| (one.live * 1024 / one.plain, one.block));
    let mut left = new / WORN_NEW_DIVISOR;
    let mut worn = Vec::new();
    for one in used {
        if waste <= waste_max || one.live > left {
            break;
        }
        left -= one.live;
        waste -= one.plain - one.live;
        worn.push(one.block);
    }
    worn
}

/// The ranges of the image that must be put into new blocks.
fn wanted(stretches: &[Stretch], avoid: &HashSet<BlockNo>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    for stretch in stretches {
        let end = at + stretch.len();
        let there = matches!(stretch, Stretch::There(piece) if !avoid.contains(&piece.block));
        if !there {
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => ranges.push(at..end),
            }
        }
        at = end;
    }
    ranges
}

/// Pieces taken from the front, byte by byte.
struct Slices<'p> {
    pieces: &'p [Piece],
    /// Bytes of the first piece that are gone.
    done: u32,
}

impl Slices<'_> {
    /// The next `len` bytes; `None` (and the end) if there are fewer.
    fn take(&mut self, mut len: u64) -> Option<Vec<Piece>> {
        let mut out = Vec::new();
        while len > 0 {
            let (first, rest) = self.pieces.split_first()?;
            let left = first.len - self.done;
            let step = u32::try_from(len).unwrap_or(u32::MAX).min(left);
            let offset = first.offset + self.done;
            out.push(Piece { offset, len: step, ..*first });
            self.done += step;
            len -= u64::from(step);
            if step == left {
                (self.pieces, self.done) = (rest, 0);
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Blocks of 2 MiB of which so many hundredths are in use.
    fn used(hundredths: &[u64]) -> Vec<Used> {
        let one = |(block, part): (BlockNo, &u64)| Used {
            block,
            live: 2 * MIB * part / 100,
            plain: 2 * MIB,
        };
        (0..).zip(hundredths).map(one).collect()
    }

    #[test]
    fn the_emptiest_blocks_are_written_again_as_far_as_what_is_new_pays_for_them() {
        let blocks = used(&[90, 38, 30, 49, 60, 35]);
        // 6 MiB are dead, 4.6 without the first, and less than 4 without both
        assert_eq!(worn_blocks(blocks.clone(), 100 * MIB), [2, 5]);
        // 0.6 MiB fit into an eighth of 8, 0.7 do not besides
        assert_eq!(worn_blocks(blocks.clone(), 8 * MIB), [2]);
        assert!(worn_blocks(blocks, 0).is_empty());
    }

    #[test]
    fn a_database_of_which_little_is_dead_is_left_alone() {
        // 6.8 MiB are dead, beside 81.2 that are in use
        let mut blocks = used(&[35; 4]);
        blocks.extend(used(&[98; 40]));
        assert!(worn_blocks(blocks, 100 * MIB).is_empty());
        // 5.2 MiB are dead in four blocks
        let small = used(&[35; 4]);
        assert_eq!(worn_blocks(small, 100 * MIB).len(), 1, "until less than 4 MiB are dead");
    }
}
