//! Lost base maps and patches are coded again.
//!
//! In: base maps and patches that cannot be had, trees, and what this machine remembers of its files.
//! Out: their bytes. A map is known as far as its blocks are there; behind the first that is lost it is
//! taken from another entry with the same content, or guessed from a later state of the file: what the
//! patches between did not write over is as it was. Whatever is tried counts only if its id fits, and
//! that it does for any file that only grew, and for changes that lie apart.

use std::collections::{BTreeMap, HashMap};

use super::heal::Remembered;
use crate::error::Result;
use crate::fetch::Reader;
use crate::id::BlockId;
use crate::keys::{BlockKind, Keys};
use crate::map::{self, Extent, Map};
use crate::tree::Entry;
use crate::verify::needs::{Walk, is_damage};

/// Bytes of a base map or patch, with its kind.
pub(super) type Coded = BTreeMap<BlockId, (BlockKind, Vec<u8>)>;

/// Size and hash of a file.
type Content = (u64, [u8; 32]);

/// What is looked through.
pub(super) struct Places<'a, 'r> {
    pub(super) keys: &'a Keys,
    pub(super) reader: &'a Reader<'r>,
    pub(super) trees: &'a [&'a BlockId],
    pub(super) remembered: &'a dyn Fn(&[u8]) -> Option<Remembered>,
    pub(super) is_lost: &'a dyn Fn(&BlockId) -> bool,
}

/// All that is known of one path.
#[derive(Default)]
struct Known {
    entries: Vec<Entry>,
    extents: HashMap<Content, Vec<Vec<Extent>>>,
}

/// Codes again what can be.
pub(super) fn recode(places: &Places<'_, '_>) -> Result<Coded> {
    let mut remembered = BTreeMap::new();
    let mut paths: BTreeMap<Vec<u8>, Known> = BTreeMap::new();
    let is_lost = |map: &Map| map.own_blocks().any(places.is_lost);
    let mut walk = Walk::default();
    for tree in places.trees {
        walk.each_entry(places.reader, tree, &mut |path, entry| {
            if entry.map.base.is_none() {
                return Ok(());
            }
            let look = || (places.remembered)(path);
            let memory = remembered.entry(path.to_vec()).or_insert_with(look);
            let was_lost = memory.as_ref().is_some_and(|(entry, _)| is_lost(&entry.map));
            if was_lost || is_lost(&entry.map) {
                paths.entry(path.to_vec()).or_default();
            }
            Ok(())
        })?;
    }
    if paths.is_empty() {
        return Ok(Coded::new());
    }
    let mut walk = Walk::default();
    for tree in places.trees {
        walk.each_entry(places.reader, tree, &mut |path, entry| match paths.get_mut(path) {
            Some(known) if !known.entries.contains(entry) => known.add(places, entry),
            _ => Ok(()),
        })?;
    }
    let mut found = Coded::new();
    for (path, mut known) in paths {
        if let Some((entry, extents)) = remembered.remove(&path).flatten() {
            known.extents.entry((entry.size, entry.hash)).or_default().push(extents);
            known.entries.push(entry);
        }
        let mut chains: Vec<Vec<BlockId>> = known.entries.iter().map(chain).collect();
        // the longest say most of the others
        chains.sort_by_key(|chain| std::cmp::Reverse(chain.len()));
        chains.dedup();
        for chain in &chains {
            known.solve(places, chain, &mut found)?;
        }
    }
    Ok(found)
}

/// Base and patches, oldest first.
fn chain(entry: &Entry) -> Vec<BlockId> {
    entry.map.own_blocks().copied().collect()
}

impl Known {
    fn add(&mut self, places: &Places<'_, '_>, entry: &Entry) -> Result<()> {
        self.entries.push(entry.clone());
        if entry.map.own_blocks().any(places.is_lost) {
            return Ok(());
        }
        match places.reader.extents(&entry.map) {
            Ok(extents) => {
                self.extents.entry((entry.size, entry.hash)).or_default().push(extents);
                Ok(())
            }
            Err(error) if is_damage(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Entries whose map is exactly this.
    fn with_chain<'k>(&'k self, blocks: &'k [BlockId]) -> impl Iterator<Item = &'k Entry> {
        self.entries.iter().filter(move |entry| entry.map.own_blocks().eq(blocks))
    }

    /// Maps of the content that entries with this chain have.
    fn maps<'k>(&'k self, blocks: &'k [BlockId]) -> impl Iterator<Item = &'k Vec<Extent>> {
        let same = |entry: &Entry| self.extents.get(&(entry.size, entry.hash));
        self.with_chain(blocks).filter_map(same).flatten()
    }

    /// Codes again what is lost of a chain, from its base on, as far as it can be told.
    fn solve(&self, places: &Places<'_, '_>, blocks: &[BlockId], found: &mut Coded) -> Result<()> {
        let mut coded = Vec::with_capacity(blocks.len());
        for id in blocks {
            let known = match found.get(id) {
                Some((_, plain)) => Some(plain.clone()),
                None if (places.is_lost)(id) => None,
                None => match places.reader.read(id) {
                    Ok(plain) => Some(plain),
                    Err(error) if is_damage(&error) => None,
                    Err(error) => return Err(error),
                },
            };
            coded.push(known);
        }
        let mut before = Vec::new();
        for at in 0..blocks.len() {
            let kind = if at == 0 { BlockKind::Map } else { BlockKind::Patch };
            if let Some(plain) = &coded[at] {
                let next = match kind {
                    BlockKind::Map => map::decode_extents(plain),
                    _ => map::apply_patch(&before, plain),
                };
                let Some(next) = next else { return Ok(()) };
                before = next;
                continue;
            }
            let right = self.candidates(blocks, &coded, at, &before).into_iter().find_map(|next| {
                let plain = match kind {
                    BlockKind::Map => map::encode_extents(&next),
                    _ => map::encode_patch(&before, &next),
                };
                (places.keys.block_id(kind, &plain) == blocks[at]).then_some((plain, next))
            });
            let Some((plain, next)) = right else { return Ok(()) };
            found.insert(blocks[at], (kind, plain.clone()));
            coded[at] = Some(plain);
            before = next;
        }
        Ok(())
    }

    /// What the map may be with the block at `at`, if it was `before` without.
    fn candidates(
        &self,
        blocks: &[BlockId],
        coded: &[Option<Vec<u8>>],
        at: usize,
        before: &[Extent],
    ) -> Vec<Vec<Extent>> {
        let mut out: Vec<Vec<Extent>> = self.maps(&blocks[..=at]).cloned().collect();
        let mut patches: Vec<&[u8]> = Vec::new();
        for (last, plain) in coded.iter().enumerate().skip(at + 1) {
            let Some(plain) = plain else { break };
            patches.push(plain);
            for map in self.maps(&blocks[..=last]) {
                let entries = self.with_chain(&blocks[..=at]).map(|entry| entry.size);
                let mut sizes: Vec<u64> = entries.collect();
                sizes.extend(map::size_before(patches[0]));
                sizes.extend([map::extents_len(before), map::extents_len(map)]);
                sizes.sort_unstable();
                sizes.dedup();
                let guess = |size| map::guess_before(before, &patches, map, size);
                out.extend(sizes.into_iter().filter_map(guess));
            }
        }
        out
    }
}
