//! The search itself: every block is read once, every stretch of it searched once.
//!
//! In: a plan. Out: for each stretch its [`Facts`]: the lines in it that fit, and what is needed to
//! put the lines together that reach over its ends. One thread reads ahead while all others search.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;
use repo::{BlockId, Reader};

use super::keep::{Keep, Ref};
use super::pattern::{Beginning, Hit, Pattern};
use super::plan::{Plan, Reading, Stretch};
use super::{Limits, Stats, is_fatal};
use crate::error::{Error, Result};

/// What is known of a stretch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Line feeds in it. Without one the head is all of it.
    pub(super) feeds: u32,
    /// What comes before the first line feed.
    pub(super) head: Ref,
    /// What comes after the last one.
    pub(super) tail: Ref,
    /// The hits between these two, coded: their lines count from the one after the first line feed.
    pub(super) hits: Ref,
}

/// What was found in all stretches.
#[derive(Debug, Default)]
pub(super) struct Searched {
    pub(super) facts: Vec<Facts>,
    /// Where lines around hits are wanted: of each stretch the first and the last lines between its head
    /// and its tail, coded.
    pub(super) edges: Vec<[Ref; 2]>,
    /// Blocks that could not be read, by number, and why.
    pub(super) unread: HashMap<u32, String>,
}

/// A stretch that was looked at. Ranges are of its block.
struct Study {
    feeds: usize,
    head: Range<usize>,
    tail: Range<usize>,
    hits: Vec<Hit>,
}

/// Plaintext of blocks, or why there is none.
type Loaded = std::result::Result<Vec<u8>, String>;

impl Searched {
    pub(super) fn search(
        reader: &Reader<'_>,
        plan: &Plan,
        pattern: &Pattern,
        limits: &Limits,
        keep: &mut Keep,
        stats: &mut Stats,
        tick: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Self> {
        let plain_len = |id: &BlockId| {
            reader.location(id).map_or(0, |location| u64::from(location.row.plain_len))
        };
        let total: u64 = plan.blocks.iter().map(plain_len).sum();
        let batches = batches(&plan.blocks, limits.batch_bytes_max, plain_len);
        let mut out =
            Self { facts: vec![Facts::default(); plan.stretches.len()], ..Self::default() };
        if pattern.around != (0, 0) {
            out.edges = vec![Default::default(); plan.stretches.len()];
        }
        let mut order = plan.order.as_slice();
        let (send, receive) = sync_channel(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for batch in batches {
                    let loaded = load(reader, &plan.blocks[batch.clone()]);
                    let failed = loaded.is_err();
                    if send.send((batch, loaded)).is_err() || failed {
                        return;
                    }
                }
            });
            for (batch, loaded) in receive {
                let loaded = loaded?;
                let last = order.partition_point(|at| {
                    (plan.stretches[*at as usize].block as usize) < batch.end
                });
                let (now, rest) = order.split_at(last);
                order = rest;
                let look = |at: &u32| {
                    let stretch = &plan.stretches[*at as usize];
                    let block = loaded[stretch.block as usize - batch.start].as_ref().ok()?;
                    Some(study(pattern, block, stretch))
                };
                let studies: Vec<_> = now.par_iter().map(look).collect();
                for (at, studied) in now.iter().zip(studies) {
                    let stretch = &plan.stretches[*at as usize];
                    match (studied, &loaded[stretch.block as usize - batch.start]) {
                        (Some(Ok(study)), Ok(block)) => {
                            stats.stretches_searched += 1;
                            stats.bytes_searched += u64::from(stretch.len);
                            if let Some(edges) = out.edges.get_mut(*at as usize) {
                                *edges = study.keep_edges(pattern, block, keep)?;
                            }
                            out.facts[*at as usize] = study.keep(block, keep)?;
                        }
                        (Some(Err(why)), _) => drop(out.unread.insert(stretch.block, why)),
                        (_, Err(why)) => drop(out.unread.insert(stretch.block, why.clone())),
                        (None, Ok(_)) => unreachable!("a block that was read was looked at"),
                    }
                }
                stats.blocks_read += loaded.len() as u64;
                let bytes: usize = loaded.iter().flatten().map(Vec::len).sum();
                stats.bytes_read += bytes as u64;
                stats.batch_bytes_max = stats.batch_bytes_max.max(bytes as u64);
                stats.kept_bytes_max = stats.kept_bytes_max.max(keep.memory_bytes() as u64);
                if !tick(stats.bytes_read, total) {
                    return Err(Error::Cancelled);
                }
            }
            Ok(())
        })?;
        Ok(out)
    }
}

/// Cuts blocks into runs of about so many bytes.
fn batches(
    blocks: &[BlockId],
    bytes_max: u64,
    plain_len: impl Fn(&BlockId) -> u64,
) -> Vec<Range<usize>> {
    let (mut out, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, id) in blocks.iter().enumerate() {
        let len = plain_len(id);
        if at > start && bytes + len > bytes_max {
            out.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += len;
    }
    if start < blocks.len() {
        out.push(start..blocks.len());
    }
    out
}

/// Reads blocks; if that fails, one by one, to tell the bad ones from the good.
fn load(reader: &Reader<'_>, blocks: &[BlockId]) -> repo::Result<Vec<Loaded>> {
    match reader.read_all(blocks) {
        Ok(plains) => return Ok(plains.into_iter().map(Ok).collect()),
        Err(error) if is_fatal(&error) => return Err(error),
        Err(_) => {}
    }
    let one = |id: &BlockId| match reader.read(id) {
        Err(error) if is_fatal(&error) => Err(error),
        other => Ok(other.map_err(|e| e.to_string())),
    };
    blocks.iter().map(one).collect()
}

fn study(pattern: &Pattern, block: &[u8], stretch: &Stretch) -> std::result::Result<Study, String> {
    let start = stretch.offset as usize;
    let range = start..start + stretch.len as usize;
    let bytes = block.get(range.clone()).ok_or("a content map reaches past a block")?;
    let Reading::Pages { pages, at } = stretch.reading else {
        let (first, last) = (memchr::memchr(b'\n', bytes), memchr::memrchr(b'\n', bytes));
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(Study { feeds: 0, head: range, tail: 0..0, hits: Vec::new() });
        };
        let mut hits = pattern.lines(&bytes[first + 1..=last]);
        for hit in &mut hits {
            hit.at += first as u64 + 1;
        }
        let feeds = memchr::memchr_iter(b'\n', bytes).count();
        let (head, tail) = (start..start + first, start + last + 1..range.end);
        return Ok(Study { feeds, head, tail, hits });
    };
    let mut raw = bytes.to_vec();
    if let Some(at) = at
        && !pages.undo(at, &mut raw)
    {
        return Err("a content map has pages where there are none".into());
    }
    let mut hits = Vec::new();
    for (n, page) in raw.chunks(pages.size.max(1) as usize).enumerate() {
        let first = n * pages.size as usize;
        let mut page = as_lines(page);
        page.push(b'\n');
        for hit in pattern.lines(&page) {
            // what is between two pieces of text is a hit of an empty pattern only; what is near it on
            // the page belongs to other values
            if hit.len > 0 {
                let (before, after) = (Vec::new(), Vec::new());
                hits.push(Hit { at: hit.at + first as u64, before, after, ..hit });
            }
        }
    }
    Ok(Study { feeds: 0, head: 0..0, tail: 0..0, hits })
}

/// A page of a database with line feeds in the place of all bytes that do not occur in a line of
/// text: lengths, types and numbers stand between the values, and change without them.
fn as_lines(page: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + 1);
    let text = |byte: u8| match byte {
        0..=8 | 10..=31 | 127 => b'\n',
        other => other,
    };
    for chunk in page.utf8_chunks() {
        out.extend(chunk.valid().bytes().map(text));
        out.resize(out.len() + chunk.invalid().len(), b'\n');
    }
    out
}

impl Study {
    fn keep_edges(&self, pattern: &Pattern, block: &[u8], keep: &mut Keep) -> Result<[Ref; 2]> {
        if self.feeds < 2 {
            return Ok(Default::default());
        }
        let lines = &block[self.head.end + 1..self.tail.start];
        let (before, after) = pattern.around;
        let mut put = |lines: Vec<Beginning>| {
            keep.put(&minicbor::to_vec(lines).expect("coding into memory does not fail"))
        };
        Ok([put(pattern.first_lines(lines, after))?, put(pattern.last_lines(lines, before))?])
    }

    fn keep(self, block: &[u8], keep: &mut Keep) -> Result<Facts> {
        let hits = if self.hits.is_empty() {
            Ref::default()
        } else {
            keep.put(&minicbor::to_vec(&self.hits).expect("coding into memory does not fail"))?
        };
        Ok(Facts {
            feeds: u32::try_from(self.feeds).expect("a block has at most 8 MiB"),
            head: keep.put(&block[self.head])?,
            tail: keep.put(&block[self.tail])?,
            hits,
        })
    }
}
