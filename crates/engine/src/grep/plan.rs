//! What is read, and in which pieces it is searched.
//!
//! In: contents. Out: the blocks they need, in the order in which they first need them, and the
//! *stretches*: the content maps of all contents cut where any of them has a cut, so that what
//! contents share they share whole, and each distinct stretch of a block is searched once. Of every
//! content the list of its stretches is kept.

use std::collections::HashMap;
use std::path::Path;

use repo::{BlockId, Extent, Pages, Reader};

use super::history::{Content, History};
use super::keep::{Keep, Ref};
use super::{Limits, is_fatal};
use crate::error::{Error, Result};

/// Plaintext of blocks of content maps that stays at hand: versions of a file share their base.
const MAP_BYTES_MAX: usize = 16 << 20;

/// How the bytes of a stretch are to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reading {
    /// Lines, which may begin before it and end behind it.
    Lines,
    /// Pages of a database, each on its own. `at`: where in the file, if they are normalised.
    Pages { pages: Pages, at: Option<u64> },
}

/// A stretch of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Number of the block.
    pub(super) block: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
    pub(super) reading: Reading,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In the order of first need.
    pub(super) blocks: Vec<BlockId>,
    pub(super) stretches: Vec<Stretch>,
    /// Numbers of the stretches, in the order of their blocks.
    pub(super) order: Vec<u32>,
    /// Of each content: its stretches, kept; or why there are none.
    pub(super) lists: Vec<std::result::Result<Ref, String>>,
}

impl Plan {
    pub(super) fn make(
        reader: &Reader<'_>,
        history: &History,
        dir: &Path,
        limits: &Limits,
        keep: &mut Keep,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let mut maps = Keep::new(dir, limits.kept_bytes_max / 2);
        let mut draft = Draft::new(reader);
        let mut coded: Vec<std::result::Result<Ref, String>> = Vec::new();
        for content in &history.contents {
            if is_over() {
                return Err(Error::Cancelled);
            }
            coded.push(match draft.extents(content)? {
                Ok(extents) => {
                    draft.cut(content, &extents);
                    Ok(maps.put(&repo::encode_extents(&extents))?)
                }
                Err(why) => Err(why),
            });
        }
        draft.cuts.tidy();
        let mut lists = Vec::with_capacity(coded.len());
        for (content, coded) in history.contents.iter().zip(coded) {
            lists.push(match coded {
                Ok(coded) => {
                    let mut bytes = Vec::new();
                    maps.get(coded, &mut bytes)?;
                    let extents = repo::decode_extents(&bytes).expect("as they were coded above");
                    Ok(keep.put(&draft.list(content, &extents))?)
                }
                Err(why) => Err(why),
            });
        }
        let Draft { blocks, stretches, .. } = draft;
        let mut order: Vec<u32> = (0..number(stretches.len())).collect();
        order.sort_by_key(|at| stretches[*at as usize].block);
        Ok(Self { blocks, stretches, order, lists })
    }

    /// The stretches of a content, from its list.
    pub(super) fn numbers(list: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        list.chunks_exact(4).map(word)
    }
}

/// There are fewer than 2^32 of anything that is counted here: each takes more than a byte of the
/// repository's index.
fn number(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 blocks and stretches")
}

/// A plan in the making.
struct Draft<'r> {
    maps: Maps<'r>,
    blocks: Vec<BlockId>,
    block_numbers: HashMap<BlockId, u32>,
    cuts: Cuts,
    stretches: Vec<Stretch>,
    /// Numbers of stretches by the cut they begin at, and how they are looked at.
    known: HashMap<(u32, Reading), u32>,
}

impl<'r> Draft<'r> {
    fn new(reader: &'r Reader<'r>) -> Self {
        Self {
            maps: Maps::new(reader),
            blocks: Vec::new(),
            block_numbers: HashMap::new(),
            cuts: Cuts::default(),
            stretches: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// The extents of a content; or why it cannot be searched.
    fn extents(&mut self, content: &Content) -> Result<std::result::Result<Vec<Extent>, String>> {
        let extents = match content.map.extents(|id| self.maps.read(id)) {
            Ok(extents) => extents,
            Err(error) if is_fatal(&error) => return Err(error.into()),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let (len, size) = (repo::extents_len(&extents), content.size);
        if len != size {
            return Ok(Err(format!("its map has {len} bytes of {size}")));
        }
        Ok(Ok(extents))
    }

    /// Notes where a content has cuts.
    fn cut(&mut self, content: &Content, extents: &[Extent]) {
        for extent in extents {
            let blocks = &mut self.blocks;
            let block = *self.block_numbers.entry(extent.block).or_insert_with(|| {
                blocks.push(extent.block);
                number(blocks.len() - 1)
            });
            let paged = content.pages.is_some();
            self.cuts.add(Cut { block, paged, offset: extent.offset });
            self.cuts.add(Cut { block, paged, offset: extent.offset + extent.len });
        }
    }

    /// The list of a content's stretches, once all cuts are known.
    fn list(&mut self, content: &Content, extents: &[Extent]) -> Vec<u8> {
        let (mut list, mut at) = (Vec::new(), 0);
        for extent in extents {
            let block = self.block_numbers[&extent.block];
            let paged = content.pages.is_some();
            let mut place = self.cuts.place(Cut { block, paged, offset: extent.offset });
            let (mut offset, end) = (extent.offset, extent.offset + extent.len);
            while offset < end {
                let next = self.cuts.offset(place + 1);
                let reading = match content.pages {
                    None => Reading::Lines,
                    Some(pages) => Reading::Pages { pages, at: extent.pages.then_some(at) },
                };
                let stretches = &mut self.stretches;
                let known = *self.known.entry((number(place), reading)).or_insert_with(|| {
                    stretches.push(Stretch { block, offset, len: next - offset, reading });
                    number(stretches.len() - 1)
                });
                list.extend_from_slice(&known.to_le_bytes());
                at += u64::from(next - offset);
                (offset, place) = (next, place + 1);
            }
        }
        list
    }
}

/// A place in a block at which an extent begins or ends. Databases are cut on their own: there all
/// cuts lie between pages.
#[derive(Debug, Clone, Copy)]
struct Cut {
    block: u32,
    paged: bool,
    offset: u32,
}

/// Cuts as sorted numbers, each once.
#[derive(Debug, Default)]
struct Cuts {
    all: Vec<u64>,
    /// This many, from the front, are tidy.
    tidy: usize,
}

impl Cuts {
    /// A block has at most 8 MiB.
    const OFFSET_BITS: u32 = 24;

    fn coded(cut: Cut) -> u64 {
        let block = u64::from(cut.block) << 1 | u64::from(cut.paged);
        block << Self::OFFSET_BITS | u64::from(cut.offset)
    }

    /// Adds a cut. Versions of one file bring the same ones again and again.
    fn add(&mut self, cut: Cut) {
        self.all.push(Self::coded(cut));
        if self.all.len() > 2 * self.tidy + (1 << 16) {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        self.all.sort_unstable();
        self.all.dedup();
        self.tidy = self.all.len();
    }

    fn place(&self, cut: Cut) -> usize {
        self.all.binary_search(&Self::coded(cut)).expect("every cut was added")
    }

    fn offset(&self, place: usize) -> u32 {
        let offset = self.all[place] & ((1 << Self::OFFSET_BITS) - 1);
        u32::try_from(offset).expect("24 bits")
    }
}

/// Blocks of content maps, those that were read last at hand.
struct Maps<'r> {
    reader: &'r Reader<'r>,
    at_hand: HashMap<BlockId, Vec<u8>>,
    bytes: usize,
}

impl<'r> Maps<'r> {
    fn new(reader: &'r Reader<'r>) -> Self {
        Self { reader, at_hand: HashMap::new(), bytes: 0 }
    }

    fn read(&mut self, id: &BlockId) -> repo::Result<Vec<u8>> {
        if let Some(plain) = self.at_hand.get(id) {
            return Ok(plain.clone());
        }
        let plain = self.reader.read(id)?;
        if self.bytes + plain.len() > MAP_BYTES_MAX {
            self.at_hand.clear();
            self.bytes = 0;
        }
        self.bytes += plain.len();
        self.at_hand.insert(*id, plain.clone());
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_kept_once_and_those_of_blocks_and_databases_apart() {
        let mut cuts = Cuts::default();
        for _ in 0..10 {
            for n in 0..50_000_u32 {
                let (block, paged, offset) = (n % 100, n % 2 == 0, n / 100 * 16_384);
                cuts.add(Cut { block, paged, offset });
            }
            assert!(cuts.all.len() <= 50_000 * 2 + (1 << 16) + 1);
        }
        cuts.tidy();
        assert_eq!(cuts.all.len(), 50_000);
        let place = cuts.place(Cut { block: 7, paged: false, offset: 16_384 });
        assert_eq!(cuts.offset(place), 16_384);
        assert_eq!(cuts.offset(place + 1), 2 * 16_384);
        let eight_mib = Cut { block: u32::MAX >> 1, paged: true, offset: 8 << 20 };
        cuts.add(eight_mib);
        cuts.tidy();
        assert_eq!(cuts.offset(cuts.place(eight_mib)), 8 << 20);
    }
}
