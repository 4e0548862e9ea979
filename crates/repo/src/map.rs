//! Content maps: where the bytes of a file are.
//!
//! A content map is the file's chunk list coded as extents over blocks. A small one sits in the
//! entry; a large one is a base map (a block of its own) and at most 32 patches, oldest first, each
//! a block of its own and named by the entry. A patch never names another patch, so every snapshot
//! stands alone after any forget. A base that does not fit a block goes on in patches that append.
//!
//! ```text
//! extents = varint B, B * block id (32), varint E, E * { varint 2*block index + flag, varint offset,
//!           varint length }                     flag: normalised pages, 0 in this version
//! patch   = varint new size, varint S, S * { varint gap, varint length }, extents
//!           gap: bytes kept since the end of the splice before; the extents fill the splices in
//!           order and to the last byte; what follows the last splice is kept up to the new size
//! ```
//! Neighbouring extents that continue each other are one extent; length is never 0.

use std::collections::HashMap;

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::id::BlockId;
use crate::keys::BlockKind;
use crate::limits::{
    BLOCK_PLAIN_BYTES_MAX, MAP_EXTENTS_MAX, MAP_INLINE_BYTES_MAX, MAP_PATCHES_MAX,
};
use crate::varint;

/// A stretch of bytes in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// The block.
    pub block: BlockId,
    /// First byte in the block's plaintext.
    pub offset: u32,
    /// Length in bytes; never 0.
    pub len: u32,
    /// The bytes are normalised pages ([`crate::PageFormat`]): to be undone by a reader.
    pub pages: bool,
}

impl Extent {
    /// Does `next` go on where this one ends?
    fn goes_on(&self, next: &Self) -> bool {
        (self.block, self.pages) == (next.block, next.pages)
            && self.offset + self.len == next.offset
    }
}

/// The content map of a file, as the entry holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Map {
    /// A small map: coded extents in file order. Empty: no content, or see `base`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub inline: Vec<u8>,
    /// A large map: the block that holds the base extents.
    #[n(1)]
    pub base: Option<BlockId>,
    /// Patches over `base`, oldest first.
    #[n(2)]
    pub patches: Option<Vec<BlockId>>,
}

impl Map {
    /// Blocks the map itself consists of (base and patches), not those its extents name.
    pub fn own_blocks(&self) -> impl Iterator<Item = &BlockId> {
        self.base.iter().chain(self.patches.iter().flatten())
    }

    /// The extents, in file order. `read` gives the plaintext of the map's own blocks.
    pub fn extents(
        &self,
        mut read: impl FnMut(&BlockId) -> Result<Vec<u8>>,
    ) -> Result<Vec<Extent>> {
        let Some(base) = &self.base else {
            return decode_extents(&self.inline)
                .ok_or_else(|| Error::corrupt("content map", "its extents do not parse"));
        };
        let bad = |what| Error::corrupt(format!("block {base}"), what);
        let extents =
            decode_extents(&read(base)?).ok_or_else(|| bad("the map's extents do not parse"))?;
        let patches = self.patches.as_deref().unwrap_or_default();
        if patches.len() > MAP_PATCHES_MAX {
            return Err(bad("more patches than a map may have"));
        }
        extend(extents, patches, read)
    }
}

/// The extents of a map after some more patches.
pub(crate) fn extend(
    mut extents: Vec<Extent>,
    patches: &[BlockId],
    mut read: impl FnMut(&BlockId) -> Result<Vec<u8>>,
) -> Result<Vec<Extent>> {
    let bad = |id: &BlockId, what| Error::corrupt(format!("block {id}"), what);
    for id in patches {
        extents = apply_patch(&extents, &read(id)?)
            .ok_or_else(|| bad(id, "the patch does not fit its map"))?;
        if extents.len() > MAP_EXTENTS_MAX {
            return Err(bad(id, "more extents than a map may have"));
        }
    }
    Ok(extents)
}

/// Appends an extent, merging it with the last one where it continues it.
pub fn push_extent(extents: &mut Vec<Extent>, next: Extent) {
    if let Some(last) = extents.last_mut()
        && last.goes_on(&next)
    {
        last.len += next.len;
    } else {
        extents.push(next);
    }
}

/// Total length of extents in bytes.
pub fn extents_len(extents: &[Extent]) -> u64 {
    extents.iter().map(|e| u64::from(e.len)).sum()
}

/// Codes extents; see the module's table.
pub fn encode_extents(extents: &[Extent]) -> Vec<u8> {
    let mut out = Vec::new();
    if extents.is_empty() {
        return out;
    }
    let mut numbers = HashMap::new();
    let mut blocks = Vec::new();
    for e in extents {
        numbers.entry(e.block).or_insert_with(|| {
            blocks.push(e.block);
            blocks.len() as u64 - 1
        });
    }
    varint::put(&mut out, blocks.len() as u64);
    for id in &blocks {
        out.extend_from_slice(&id.0);
    }
    varint::put(&mut out, extents.len() as u64);
    for e in extents {
        varint::put(&mut out, numbers[&e.block] << 1 | u64::from(e.pages));
        varint::put(&mut out, u64::from(e.offset));
        varint::put(&mut out, u64::from(e.len));
    }
    out
}

/// Reads what [`encode_extents`] wrote; `None` for anything else.
pub fn decode_extents(mut input: &[u8]) -> Option<Vec<Extent>> {
    if input.is_empty() {
        return Some(Vec::new());
    }
    let extents = take_extents(&mut input)?;
    input.is_empty().then_some(extents)
}

/// The blocks that a coded map or patch names, in their order, and where the first id stands.
fn names(kind: BlockKind, coded: &[u8]) -> Option<(usize, Vec<BlockId>)> {
    let mut input = coded;
    if kind == BlockKind::Patch {
        varint::take(&mut input)?;
        for _ in 0..varint::take(&mut input)? {
            varint::take(&mut input)?;
            varint::take(&mut input)?;
        }
    }
    if input.is_empty() {
        return Some((coded.len(), Vec::new()));
    }
    let count = usize::try_from(varint::take(&mut input)?).ok()?;
    let at = coded.len() - input.len();
    let ids = varint::take_bytes(&mut input, count.checked_mul(BlockId::LEN)?)?;
    Some((at, ids.chunks_exact(BlockId::LEN).filter_map(BlockId::from_slice).collect()))
}

/// The blocks that coded extents ([`BlockKind::Map`]) or a coded patch name; `None` if it is neither.
pub fn blocks_named(kind: BlockKind, coded: &[u8]) -> Option<Vec<BlockId>> {
    names(kind, coded).map(|(_, ids)| ids)
}

/// The same map or patch over blocks of other names: what is in another repository has other ids.
pub fn rename_blocks(
    kind: BlockKind,
    coded: &[u8],
    mut rename: impl FnMut(&BlockId) -> BlockId,
) -> Option<Vec<u8>> {
    let (mut at, ids) = names(kind, coded)?;
    let mut out = coded.to_vec();
    for id in ids {
        out[at..at + BlockId::LEN].copy_from_slice(&rename(&id).0);
        at += BlockId::LEN;
    }
    Some(out)
}

fn take_extents(input: &mut &[u8]) -> Option<Vec<Extent>> {
    let count = usize::try_from(varint::take(input)?).ok()?;
    let ids = varint::take_bytes(input, count.checked_mul(BlockId::LEN)?)?;
    let count = usize::try_from(varint::take(input)?).ok()?;
    if count > input.len() / 3 {
        return None; // an extent takes at least three bytes: no allocation on a lie
    }
    let mut extents = Vec::with_capacity(count);
    for _ in 0..count {
        let code = usize::try_from(varint::take(input)?).ok()?;
        let (index, pages) = (code >> 1, code & 1 == 1);
        let (offset, len) = (varint::take_u32(input)?, varint::take_u32(input)?);
        let end = offset.checked_add(len)?;
        if len == 0 || end > BLOCK_PLAIN_BYTES_MAX {
            return None;
        }
        let at = index.checked_mul(BlockId::LEN)?;
        let block = BlockId::from_slice(ids.get(at..at + BlockId::LEN)?)?;
        extents.push(Extent { block, offset, len, pages });
    }
    Some(extents)
}

/// What a new map is made of, for the caller to store.
#[derive(Debug, PartialEq, Eq)]
pub enum Layout {
    /// Small enough to sit in the entry.
    Inline(Vec<u8>),
    /// A new base map block, and patch blocks that append what does not fit it.
    Base(Vec<u8>, Vec<Vec<u8>>),
    /// A new patch block over the old map.
    Patch(Vec<u8>),
}

/// Decides how to store the map of a file that had `old` and now has `new` extents.
///
/// `old_bytes` is the coded size of the old map's patches together, for the rule that patches are
/// folded into a new base once they outgrow half of it.
pub fn layout(old: Option<(&Map, &[Extent], u64)>, new: &[Extent]) -> Layout {
    let coded = encode_extents(new);
    if coded.len() <= MAP_INLINE_BYTES_MAX {
        return Layout::Inline(coded);
    }
    if let Some((map, extents, patch_bytes)) = old
        && map.base.is_some()
        && map.patches.as_deref().unwrap_or_default().len() < MAP_PATCHES_MAX
    {
        let patch = encode_patch(extents, new);
        if patch_bytes + (patch.len() as u64) < coded.len() as u64 / 2
            && patch.len() <= BLOCK_PLAIN_BYTES_MAX as usize
        {
            return Layout::Patch(patch);
        }
    }
    if coded.len() <= BLOCK_PLAIN_BYTES_MAX as usize {
        return Layout::Base(coded, Vec::new());
    }
    split(new)
}

/// A base map and patches over it, each of which fits a block.
fn split(extents: &[Extent]) -> Layout {
    let mut parts = extents.chunks(MAP_BLOCK_EXTENTS);
    let first = parts.next().unwrap_or_default();
    let mut size = extents_len(first);
    let append = |part| {
        let (mut patch, len) = (Vec::new(), extents_len(part));
        for n in [size + len, 1, size, len] {
            varint::put(&mut patch, n);
        }
        patch.extend_from_slice(&encode_extents(part));
        size += len;
        patch
    };
    let patches = parts.map(append).collect();
    Layout::Base(encode_extents(first), patches)
}

/// Extents that fit a block however they are coded: an id, three varints and what a patch adds.
const MAP_BLOCK_EXTENTS: usize = BLOCK_PLAIN_BYTES_MAX as usize / 48;

/// Reads extents once from front to back, however many pieces are taken.
struct Cursor<'e> {
    extents: &'e [Extent],
    /// Bytes of the first extent that are gone.
    done: u32,
}

impl<'e> Cursor<'e> {
    fn new(extents: &'e [Extent]) -> Self {
        Self { extents, done: 0 }
    }

    /// Moves the next `len` bytes of the file to `out`, or past them; `None` if there are fewer.
    fn take(&mut self, mut len: u64, mut out: Option<&mut Vec<Extent>>) -> Option<()> {
        while len > 0 {
            let (first, rest) = self.extents.split_first()?;
            let step = u32::try_from(len).unwrap_or(u32::MAX).min(first.len - self.done);
            if let Some(out) = out.as_deref_mut() {
                let offset = first.offset + self.done;
                push_extent(out, Extent { offset, len: step, ..*first });
            }
            self.done += step;
            len -= u64::from(step);
            if self.done == first.len {
                (self.extents, self.done) = (rest, 0);
            }
        }
        Some(())
    }
}

/// Ranges of the file (start, length) where `new` says something else than `old`.
fn differing(old: &[Extent], new: &[Extent]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let (mut i, mut done_old, mut at) = (0, 0_u32, 0_u64);
    for n in new {
        let mut done = 0_u32;
        while done < n.len {
            let left = n.len - done;
            let (step, same) = match old.get(i) {
                None => (left, false),
                Some(o) => (
                    left.min(o.len - done_old),
                    (o.block, o.pages) == (n.block, n.pages)
                        && o.offset + done_old == n.offset + done,
                ),
            };
            if !same {
                match ranges.last_mut() {
                    Some((start, len)) if *start + *len == at => *len += u64::from(step),
                    _ => ranges.push((at, u64::from(step))),
                }
            }
            at += u64::from(step);
            done += step;
            if let Some(o) = old.get(i) {
                done_old += step;
                if done_old == o.len {
                    (i, done_old) = (i + 1, 0);
                }
            }
        }
    }
    ranges
}

/// Codes the patch that turns `old` into `new`.
pub(crate) fn encode_patch(old: &[Extent], new: &[Extent]) -> Vec<u8> {
    let ranges = differing(old, new);
    let mut out = Vec::new();
    varint::put(&mut out, extents_len(new));
    varint::put(&mut out, ranges.len() as u64);
    let (mut end, mut fill, mut content) = (0, Vec::new(), Cursor::new(new));
    for (start, len) in ranges {
        varint::put(&mut out, start - end);
        varint::put(&mut out, len);
        let taken =
            content.take(start - end, None).and_then(|()| content.take(len, Some(&mut fill)));
        taken.expect("a range of the new map itself");
        end = start + len;
    }
    out.extend_from_slice(&encode_extents(&fill));
    out
}

/// A coded patch, read.
struct Patch {
    /// Size of the file after it.
    size: u64,
    /// Bytes kept since the splice before, and bytes written.
    splices: Vec<(u64, u64)>,
    /// What is written, all splices together.
    fill: Vec<Extent>,
}

impl Patch {
    fn decode(mut coded: &[u8]) -> Option<Self> {
        let size = varint::take(&mut coded)?;
        let count = usize::try_from(varint::take(&mut coded)?).ok()?;
        if count > coded.len() / 2 {
            return None;
        }
        let mut splices = Vec::with_capacity(count);
        for _ in 0..count {
            splices.push((varint::take(&mut coded)?, varint::take(&mut coded)?));
        }
        Some(Self { size, splices, fill: decode_extents(coded)? })
    }

    /// Ranges of the file that it writes, in order: start and end.
    fn written(&self) -> Option<Vec<(u64, u64)>> {
        let mut at = 0_u64;
        let range = |(gap, len): &(u64, u64)| {
            let start = at.checked_add(*gap)?;
            at = start.checked_add(*len)?;
            Some((start, at))
        };
        self.splices.iter().map(range).collect()
    }
}

/// Applies a coded patch; `None` if it does not fit.
pub(crate) fn apply_patch(old: &[Extent], patch: &[u8]) -> Option<Vec<Extent>> {
    let Patch { size, splices, fill } = Patch::decode(patch)?;
    let old_len = extents_len(old);
    let (mut kept, mut filled) = (Cursor::new(old), Cursor::new(&fill));
    let (mut out, mut at) = (Vec::new(), 0_u64);
    for (gap, len) in splices {
        kept.take(gap, Some(&mut out))?;
        filled.take(len, Some(&mut out))?;
        // what is replaced may reach past the old end
        let start = at.checked_add(gap)?;
        at = start.checked_add(len)?;
        kept.take(at.min(old_len).saturating_sub(start), None)?;
    }
    kept.take(size.checked_sub(at)?, Some(&mut out))?;
    filled.extents.is_empty().then_some(out)
}

/// Sizes that a file may have had before a coded patch, as far as the patch tells: where its last
/// splice begins, if that reaches to the end.
pub(crate) fn size_before(patch: &[u8]) -> Option<u64> {
    let patch = Patch::decode(patch)?;
    let (start, end) = *patch.written()?.last()?;
    (end == patch.size).then_some(start)
}

/// What a map may have been, of which `patches` (coded, oldest first) made `last`: a map of `size`
/// bytes that is `last` where none of them wrote, and `before` everywhere else. Only a guess, for
/// whoever can compare what comes of it with an id; `None` if the two maps do not reach so far.
pub(crate) fn guess_before(
    before: &[Extent],
    patches: &[&[u8]],
    last: &[Extent],
    size: u64,
) -> Option<Vec<Extent>> {
    let mut written = Vec::new();
    for patch in patches {
        let patch = Patch::decode(patch)?;
        written.extend(patch.written()?);
        written.push((patch.size, u64::MAX)); // what it cut off
    }
    written.sort_unstable();
    let (mut stays, mut other) = (Cursor::new(last), Cursor::new(before));
    let (stays_len, other_len) = (extents_len(last), extents_len(before));
    let (mut out, mut at) = (Vec::new(), 0_u64);
    written.push((size, size));
    for (start, end) in written {
        let (start, end) = (start.min(size), end.min(size));
        if start > at {
            stays.take(start - at, Some(&mut out))?;
            other.take(start.min(other_len).saturating_sub(at), None)?;
            at = start;
        }
        if end > at {
            other.take(end - at, Some(&mut out))?;
            stays.take(end.min(stays_len).saturating_sub(at), None)?;
            at = end;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(n: u8) -> BlockId {
        BlockId([n; 32])
    }

    fn arb_extents() -> impl Strategy<Value = Vec<Extent>> {
        proptest::collection::vec((0_u8..6, 0_u32..50, 1_u32..40, any::<bool>()), 0..40).prop_map(
            |parts| {
                let mut out = Vec::new();
                for (b, offset, len, pages) in parts {
                    push_extent(&mut out, Extent { block: block(b), offset, len, pages });
                }
                out
            },
        )
    }

    proptest! {
        #[test]
        fn extents_come_back(extents in arb_extents()) {
            prop_assert_eq!(decode_extents(&encode_extents(&extents)).unwrap(), extents);
        }

        #[test]
        fn a_patch_turns_any_old_map_into_any_new_one(old in arb_extents(), new in arb_extents()) {
            prop_assert_eq!(apply_patch(&old, &encode_patch(&old, &new)).unwrap(), new);
        }

        #[test]
        fn what_patches_did_not_write_over_is_guessed_right(
            old in arb_extents(),
            fill in arb_extents(),
            more in arb_extents(),
        ) {
            // a file in which something is put before the second half, and then something to the end
            let mut first = Vec::new();
            for extent in fill.iter().chain(&old[old.len() / 2..]) {
                push_extent(&mut first, *extent);
            }
            let mut second = first.clone();
            for extent in &more {
                push_extent(&mut second, *extent);
            }
            let patch = encode_patch(&first, &second);
            let size = extents_len(&first);
            let guess = guess_before(&old, &[&patch], &second, size);
            prop_assert_eq!(guess, Some(first.clone()));
            prop_assert!(more.is_empty() || size_before(&patch) == Some(size));
            // a base under a file that only grew: nothing else is needed
            prop_assert_eq!(guess_before(&[], &[&patch], &second, size), Some(first));
        }

        #[test]
        fn a_renamed_map_or_patch_is_the_same_over_other_blocks(
            old in arb_extents(),
            new in arb_extents(),
        ) {
            let rename = |id: &BlockId| BlockId(id.0.map(|byte| byte + 100));
            let renamed = |extents: &[Extent]| -> Vec<Extent> {
                extents.iter().map(|e| Extent { block: rename(&e.block), ..*e }).collect()
            };
            let map = rename_blocks(BlockKind::Map, &encode_extents(&old), rename).unwrap();
            prop_assert_eq!(&map, &encode_extents(&renamed(&old)));
            let patch = encode_patch(&old, &new);
            let patch = rename_blocks(BlockKind::Patch, &patch, rename).unwrap();
            prop_assert_eq!(apply_patch(&renamed(&old), &patch).unwrap(), renamed(&new));
        }

        #[test]
        fn noise_is_refused_or_read_without_panic(bytes: Vec<u8>, old in arb_extents()) {
            let _ = decode_extents(&bytes);
            let _ = blocks_named(BlockKind::Patch, &bytes);
            let _ = apply_patch(&old, &bytes);
        }
    }

    #[test]
    fn a_small_change_in_a_large_map_is_a_small_patch() {
        let mut old: Vec<Extent> = (0..200)
            .map(|n| Extent { block: BlockId([n; 32]), offset: 0, len: 1 << 20, pages: false })
            .collect();
        let map = Map { base: Some(block(1)), ..Map::default() };
        let mut new = old.clone();
        new.push(Extent { block: block(77), offset: 5, len: 4000, pages: false });
        match layout(Some((&map, &old, 0)), &new) {
            Layout::Patch(patch) => {
                assert!(patch.len() < 60, "{} bytes", patch.len());
                assert_eq!(apply_patch(&old, &patch).unwrap(), new);
            }
            other => panic!("expected a patch, got {other:?}"),
        }
        // patches that outgrew half of the base are folded
        assert!(matches!(layout(Some((&map, &old, 1 << 20)), &new), Layout::Base(..)));
        old.truncate(2);
        assert!(matches!(layout(None, &old), Layout::Inline(_)));
    }

    #[test]
    fn a_map_between_two_others_is_guessed_if_the_changes_lie_apart() {
        let cell = |n: u8| Extent { block: block(n), offset: 0, len: 10, pages: false };
        let old: Vec<Extent> = (0..10).map(cell).collect();
        let (mut mid, mut last) = (old.clone(), old.clone());
        mid[2] = cell(52);
        (last[2], last[7]) = (cell(52), cell(57));
        let patch = encode_patch(&mid, &last);
        assert_eq!(guess_before(&old, &[&patch], &last, 100), Some(mid.clone()));
        // what was written over is gone if nothing says what it was
        assert_eq!(guess_before(&[], &[&patch], &last, 100), None);
        // a file that was cut short by the later change
        last.truncate(6);
        let patch = encode_patch(&mid, &last);
        assert_eq!(guess_before(&old, &[&patch], &last, 100), Some(mid));
    }

    #[test]
    fn a_map_larger_than_a_block_is_a_base_and_patches_that_append() {
        let extents: Vec<Extent> = (0..500_000_u32)
            .map(|n| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&n.to_le_bytes());
                Extent { block: BlockId(id), offset: n, len: 1 + n % 5, pages: n % 3 == 0 }
            })
            .collect();
        let Layout::Base(base, patches) = layout(None, &extents) else { panic!("a base") };
        assert!(!patches.is_empty() && patches.len() < MAP_PATCHES_MAX);
        let mut blocks = vec![base];
        blocks.extend(patches);
        assert!(blocks.iter().all(|block| block.len() <= BLOCK_PLAIN_BYTES_MAX as usize));
        let ids: Vec<BlockId> = (0_u8..).take(blocks.len()).map(block).collect();
        let map = Map { base: Some(ids[0]), patches: Some(ids[1..].to_vec()), ..Map::default() };
        let back = map.extents(|id| Ok(blocks[usize::from(id.0[0])].clone())).unwrap();
        assert!(back == extents);
    }
}
