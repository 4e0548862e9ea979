//! The BLAKE3 of an image, kept as the hashes of its 64 KiB groups.
//!
//! BLAKE3 is a tree: the hash of a group at its place is a node of it, and the hash of the whole
//! follows from the nodes. So one pass over an image tells which groups changed and what the whole
//! hashes to, and a table of groups proves itself: it is right if the hash of the whole follows.

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};

/// Bytes of a group: a power of two, and at least the largest page.
pub(super) const GROUP_BYTES: u64 = 64 << 10;

/// The groups of an image, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Groups {
    nodes: Vec<ChainingValue>,
    /// Bytes of the image.
    size: u64,
    /// Of an image of one group: its hash as a whole.
    alone: Option<[u8; 32]>,
}

impl Groups {
    /// Appends a group; only the last may be shorter than [`GROUP_BYTES`]. Returns true if `old` has
    /// the same one in this place.
    pub(super) fn push(&mut self, group: &[u8], old: Option<&Self>) -> bool {
        let node =
            blake3::Hasher::new().set_input_offset(self.size).update(group).finalize_non_root();
        self.alone = self.nodes.is_empty().then(|| *blake3::hash(group).as_bytes());
        self.size += group.len() as u64;
        self.nodes.push(node);
        old.is_some_and(|old| old.has(self.nodes.len() - 1, &node, self.size))
    }

    /// Is this group number `n`, and does it end where the image, or the group, ends?
    fn has(&self, n: usize, node: &ChainingValue, end: u64) -> bool {
        let ends = (n as u64 + 1) * GROUP_BYTES;
        self.nodes.get(n) == Some(node) && end == ends.min(self.size)
    }

    /// Bytes of the image.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// BLAKE3 of the image.
    pub(super) fn hash(&self) -> [u8; 32] {
        match (self.nodes.len(), self.alone) {
            (0, _) => *blake3::hash(b"").as_bytes(),
            (1, Some(alone)) => alone,
            (count, _) => {
                let left = left_subtree_len(self.size);
                let at = usize::try_from(left / GROUP_BYTES).unwrap_or(count);
                let (left, right) =
                    (merge(&self.nodes[..at], left), merge(&self.nodes[at..], self.size - left));
                *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            }
        }
    }

    /// As bytes, for the cache.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.nodes.concat()
    }

    /// The table of an image of this size (which the caller knows to be right) and hash, if these
    /// bytes are one. An image of one group has none.
    pub(super) fn decode(bytes: &[u8], size: u64, hash: &[u8; 32]) -> Option<Self> {
        let (nodes, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && nodes.len() as u64 == size.div_ceil(GROUP_BYTES);
        if !fits || nodes.len() < 2 {
            return None;
        }
        let groups = Self { nodes: nodes.to_vec(), size, alone: None };
        (groups.hash() == *hash).then_some(groups)
    }
}

/// The node over some groups that are together `len` bytes.
fn merge(nodes: &[ChainingValue], len: u64) -> ChainingValue {
    if let [node] = nodes {
        return *node;
    }
    let left = left_subtree_len(len);
    let at = usize::try_from(left / GROUP_BYTES).unwrap_or(nodes.len());
    let (left, right) = (merge(&nodes[..at], left), merge(&nodes[at..], len - left));
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(image: &[u8], old: Option<&Groups>) -> (Groups, Vec<bool>) {
        let mut groups = Groups::default();
        let step = usize::try_from(GROUP_BYTES).unwrap();
        let same = image.chunks(step).map(|group| groups.push(group, old)).collect();
        (groups, same)
    }

    fn image(len: usize) -> Vec<u8> {
        (0_u32..).flat_map(u32::to_le_bytes).take(len).collect()
    }

    #[test]
    fn the_hash_of_the_groups_is_that_of_the_image() {
        let group = usize::try_from(GROUP_BYTES).unwrap();
        for len in [0, 1, 512, group - 1, group, group + 1, group + 4096, 2 * group, 3 * group]
            .into_iter()
            .chain([7 * group + 512, 16 * group, 16 * group + 1024, 33 * group - 4096])
        {
            let image = image(len);
            let (groups, _) = of(&image, None);
            assert_eq!(groups.hash(), *blake3::hash(&image).as_bytes(), "{len} bytes");
            let back = Groups::decode(&groups.encode(), len as u64, &groups.hash());
            assert_eq!(back.is_some(), len > group, "{len} bytes");
        }
    }

    #[test]
    fn only_a_group_with_the_same_bytes_in_the_same_place_is_the_same() {
        let group = usize::try_from(GROUP_BYTES).unwrap();
        let before = image(4 * group + 4096);
        let (old, _) = of(&before, None);
        let mut now = before.clone();
        now[group + 7] ^= 1;
        assert_eq!(of(&now, Some(&old)).1, [true, false, true, true, true]);
        let moved = [&before[group..2 * group], &before].concat();
        assert_eq!(of(&moved, Some(&old)).1, [false; 6]);
        // the last group is the same only if the image ends there
        now.truncate(4 * group);
        assert_eq!(of(&now, Some(&old)).1, [true, false, true, true]);
        now.truncate(3 * group + 4096);
        assert_eq!(of(&now, Some(&old)).1, [true, false, true, false]);
    }

    #[test]
    fn a_table_that_does_not_prove_itself_is_none() {
        let image = image(300_000);
        let (groups, _) = of(&image, None);
        let (bytes, hash) = (groups.encode(), groups.hash());
        assert_eq!(Groups::decode(&bytes, 300_000, &hash).unwrap().nodes, groups.nodes);
        for (bytes, size) in [
            (bytes[..bytes.len() - 1].to_vec(), 300_000),
            (bytes[32..].to_vec(), 300_000),
            (bytes.clone(), 262_144),
            ([&bytes[..], &[0; 32]].concat(), 300_000),
            (bytes.iter().enumerate().map(|(at, b)| b ^ u8::from(at == 40)).collect(), 300_000),
        ] {
            assert!(Groups::decode(&bytes, size, &hash).is_none());
        }
    }
}
