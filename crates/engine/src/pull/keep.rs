//! What of a file is there already, so that only the rest is fetched.
//!
//! In: the file that is there, and the content map of the one that is wanted. Out: the stretches that
//! both have in the same place. Two ways to tell, as ids are all that is known of what is not here:
//!
//! - A block that the map uses from end to end is put together from local bytes: its id is a hash of
//!   its whole plaintext.
//! - Of a database, each chunk is compared: chunks lie on the grid of its pages, and the index has the
//!   id of each. After scattered changes hardly a block is whole, but most pages are as they were.
//!
//! A block of which all that is needed is here is not fetched. Nothing here is trusted: the whole file
//! must still hash to its entry's hash.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use repo::{BlockId, Entry, Extent, PageFormat, Pages, flag};

use super::error::Result;
use super::plan::{Keep, go_on};
use super::source::Content;

/// Changed files from this size on keep what is there already.
const PATCH_BYTES_MIN: u64 = 4 << 20;
/// Databases change in many places: from this size on.
const PATCH_DATABASE_BYTES_MIN: u64 = 256 << 10;
/// Largest block plaintext that is put together from local bytes for a comparison.
const BLOCK_BYTES_MAX: u32 = 16 << 20;
/// Smaller pages make chunks of this size together.
const CHUNK_BYTES_MIN: u32 = 4096;
/// Bytes of a database compared at a time; a multiple of every chunk.
const COMPARE_BYTES: u64 = 256 << 10;

/// A file that is there, and what is wanted in its place.
pub(super) struct There<'a> {
    pub(super) content: &'a dyn Content,
    pub(super) entry: &'a Entry,
    pub(super) file: &'a File,
    pub(super) len: u64,
    pub(super) cancel: &'a AtomicBool,
}

/// What is kept, and how many bytes of blocks must be fetched for the rest. `None` if nothing is.
pub(super) fn find(there: &There<'_>) -> Result<Option<(Keep, u64)>> {
    let is_database = there.entry.flags & flag::SQLITE != 0;
    let min = if is_database { PATCH_DATABASE_BYTES_MIN } else { PATCH_BYTES_MIN };
    if there.entry.size < min || there.len == 0 {
        return Ok(None);
    }
    let Ok(extents) = there.content.extents(there.entry) else { return Ok(None) };
    let uses = there.uses(&extents);
    let whole = there.whole_blocks(&uses)?;
    let chunk = is_database.then(|| there.chunk_bytes());
    let parts: Vec<Vec<Range<u64>>> = uses
        .par_iter()
        .map(|one| {
            go_on(there.cancel)?;
            Ok(match chunk {
                _ if whole.contains(&one.block) => std::iter::once(one.at..one.end()).collect(),
                Some(chunk) => there.chunks(one, chunk),
                None => Vec::new(),
            })
        })
        .collect::<Result<_>>()?;
    let fetch = there.fetch(&uses, &parts);
    let kept = join(parts.into_iter().flatten());
    Ok((!kept.is_empty()).then_some((Keep::Parts(kept), fetch)))
}

/// A stretch of a file that its map takes from a block.
#[derive(Debug, Clone, Copy)]
struct Use {
    block: BlockId,
    /// Where in the block.
    offset: u32,
    len: u32,
    /// Where in the file.
    at: u64,
    /// Set if the block has the pages normalised.
    pages: Option<Pages>,
}

impl Use {
    fn end(&self) -> u64 {
        self.at.saturating_add(u64::from(self.len))
    }
}

impl There<'_> {
    fn uses(&self, extents: &[Extent]) -> Vec<Use> {
        let mut at = 0u64;
        let mut uses = Vec::with_capacity(extents.len());
        for Extent { block, offset, len, pages } in extents {
            let pages = self.entry.pages.filter(|_| *pages);
            uses.push(Use { block: *block, offset: *offset, len: *len, at, pages });
            at = at.saturating_add(u64::from(*len));
        }
        uses
    }

    /// The blocks whose plaintext is in the local file, wherever the wanted file's map has them. Only
    /// a block that the map uses from end to end can be told.
    fn whole_blocks(&self, uses: &[Use]) -> Result<HashSet<BlockId>> {
        let mut by_block: HashMap<BlockId, Vec<Use>> = HashMap::new();
        for one in uses {
            by_block.entry(one.block).or_default().push(*one);
        }
        let tests: Vec<_> = by_block.into_iter().collect();
        tests
            .into_par_iter()
            .map(|(block, mut parts)| {
                go_on(self.cancel)?;
                parts.sort_unstable_by_key(|part| (part.offset, part.len, part.at));
                let plain = self
                    .content
                    .location(&block)
                    .and_then(|location| self.assemble(&parts, location.plain_len));
                let same = plain.is_some_and(|plain| self.content.matches(&block, &plain));
                Ok(same.then_some(block))
            })
            .filter_map(Result::transpose)
            .collect()
    }

    /// The bytes of a block, put together from the local file; `None` if the parts (sorted by offset)
    /// do not cover it.
    fn assemble(&self, parts: &[Use], plain_len: u32) -> Option<Vec<u8>> {
        let mut end = 0u32;
        for part in parts {
            if part.offset > end || part.end() > self.len {
                return None;
            }
            end = end.max(part.offset.checked_add(part.len)?);
        }
        if end != plain_len || plain_len > BLOCK_BYTES_MAX {
            return None;
        }
        let (mut plain, mut scratch) = (vec![0; usize::try_from(plain_len).ok()?], Vec::new());
        for Use { offset, len, at, pages, .. } in parts {
            let start = usize::try_from(*offset).ok()?;
            let part = &mut plain[start..start + usize::try_from(*len).ok()?];
            self.file.read_exact_at(part, *at).ok()?;
            if pages.is_some_and(|pages| !pages.apply(*at, part, &mut scratch)) {
                return None;
            }
        }
        Some(plain)
    }

    /// Length of a chunk of a database, by the size of its pages: of the wanted one if that is known,
    /// else of the one that is there.
    fn chunk_bytes(&self) -> u64 {
        let there = || {
            let mut header = [0; 100];
            self.file.read_exact_at(&mut header, 0).ok()?;
            PageFormat::of_header(&header)
        };
        let wanted = |pages: Pages| PageFormat::new(pages.size, pages.reserved);
        let format = self.entry.pages.map_or_else(there, wanted);
        format.map_or(0, PageFormat::page_size).max(CHUNK_BYTES_MIN).into()
    }

    /// The chunks of a stretch that the local file has. What lies off the grid is not compared.
    fn chunks(&self, one: &Use, chunk: u64) -> Vec<Range<u64>> {
        let mut same = Vec::new();
        let (mut buffer, mut scratch) = (Vec::new(), Vec::new());
        let last = one.end() == self.entry.size;
        let whole = if last { one.end() } else { one.end() / chunk * chunk };
        let (mut at, end) = (one.at.next_multiple_of(chunk), whole.min(self.len));
        while at < end {
            let piece = at..end.min(at + COMPARE_BYTES);
            buffer.resize(usize::try_from(piece.end - at).unwrap_or(0), 0);
            if self.file.read_exact_at(&mut buffer, at).is_err() {
                break;
            }
            for plain in buffer.chunks_mut(usize::try_from(chunk).unwrap_or(usize::MAX)) {
                let len = plain.len() as u64;
                let apply = |pages: Pages| pages.apply(at, plain, &mut scratch);
                let normal = one.pages.is_none_or(apply);
                let offset = u32::try_from(at - one.at).ok().map(|skip| one.offset + skip);
                if normal && offset.is_some_and(|at| self.content.holds(&one.block, at, plain)) {
                    same.push(at..at + len);
                }
                at += len;
            }
            at = piece.end;
        }
        same
    }

    /// Plaintext of the blocks of which something is missing.
    fn fetch(&self, uses: &[Use], parts: &[Vec<Range<u64>>]) -> u64 {
        let missing = |(one, kept): &(&Use, &Vec<Range<u64>>)| {
            kept.iter().map(|part| part.end - part.start).sum::<u64>() < u64::from(one.len)
        };
        let blocks: HashSet<BlockId> =
            uses.iter().zip(parts).filter(missing).map(|(one, _)| one.block).collect();
        let plain = |block| self.content.location(block).map_or(0, |at| u64::from(at.plain_len));
        blocks.iter().map(plain).sum()
    }
}

/// Makes neighbours one.
fn join(parts: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match out.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => out.push(part),
        }
    }
    out
}
