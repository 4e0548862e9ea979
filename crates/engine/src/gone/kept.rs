//! Entries that are gone from their source and kept, and what of them goes by age and size. Pure.
//!
//! They are sorted as they stand in the tree. Directories come along only for what is below them.
//! None is a hard link: what one was a name of may leave, so each has the content itself.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use minicbor::{Decode, Encode};
use repo::{BlockId, Entry, Kind, decode_extents, gone, path_order};

use super::Since;
use crate::pull::strip_path;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Kept {
    #[n(0)]
    pub(crate) since: Since,
    /// The path it had, label first.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) path: Vec<u8>,
    #[n(2)]
    pub(crate) entry: Entry,
    /// What its content map reaches, if that is not in the entry.
    #[n(3)]
    pub(crate) blocks: Vec<BlockId>,
}

impl Kept {
    /// Its path in the tree.
    pub(crate) fn stored_path(&self) -> Vec<u8> {
        gone::path(self.since.name().as_bytes(), &self.path)
    }

    /// Every block it needs; `None` if its map does not parse.
    pub(crate) fn needs(&self) -> Option<Vec<BlockId>> {
        if self.entry.map.base.is_some() {
            return Some(self.blocks.clone());
        }
        let extents = decode_extents(&self.entry.map.inline)?;
        Some(extents.iter().map(|extent| extent.block).collect())
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.entry.kind == Kind::Dir
    }

    fn order(&self, other: &Self) -> Ordering {
        self.since.cmp(&other.since).then_with(|| path_order(&self.path, &other.path))
    }
}

/// Whether two entries have the same content.
pub(crate) fn same_content(a: &Entry, b: &Entry) -> bool {
    let content = |e: &Entry| (e.kind, e.size, e.hash, e.target.clone(), e.link.is_some());
    content(a) == content(b)
}

/// Sorts, and drops directories with nothing below them.
pub(crate) fn tidy(kept: &mut Vec<Kept>) {
    kept.sort_by(Kept::order);
    kept.dedup_by(|b, a| a.since == b.since && a.path == b.path);
    let mut stays = vec![true; kept.len()];
    let mut next: Option<&Kept> = None;
    for (at, one) in kept.iter().enumerate().rev() {
        stays[at] = !one.is_dir()
            || next.is_some_and(|next| {
                let rest = next.path.strip_prefix(one.path.as_slice());
                next.since == one.since && rest.is_some_and(|rest| rest.first() == Some(&b'/'))
            });
        if stays[at] {
            next = Some(one);
        }
    }
    let mut stays = stays.into_iter();
    kept.retain(|_| stays.next().unwrap_or(true));
}

/// Gives files times of their own, `now` or the next that is free, whose place in the tree is that of a
/// directory with something below it: one path has one entry for each time.
pub(crate) fn part(kept: &mut [Kept], now: i64) {
    let ends = |path: &[u8]| -> Vec<usize> {
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).collect()
    };
    let files: HashMap<(Since, &[u8]), usize> = kept
        .iter()
        .enumerate()
        .filter(|(_, one)| !one.is_dir())
        .map(|(at, one)| ((one.since, one.path.as_slice()), at))
        .collect();
    let mut clashes = BTreeSet::new();
    for one in kept.iter() {
        let above = ends(&one.path).into_iter().map(|end| (one.since, &one.path[..end]));
        clashes.extend(above.filter_map(|place| files.get(&place).copied()));
    }
    for at in clashes {
        let path = &kept[at].path;
        let is_taken = |since: &Since| {
            kept.iter().any(|k| k.since == *since && strip_path(&k.path, path).is_some())
        };
        // each entry takes one time at most
        let times = (0..=kept.len()).filter_map(|n| now.checked_add(i64::try_from(n).ok()?));
        let free = times.map(Since::At).find(|since| !is_taken(since));
        kept[at].since = free.unwrap_or(kept[at].since);
    }
}

/// Drops what is gone since before `oldest`, then the oldest until the content of the rest is no more
/// than `bytes_max`. What cannot be looked at stays. Returns how many files and links went.
pub(crate) fn limit(kept: &mut Vec<Kept>, oldest: Option<i64>, bytes_max: Option<u64>) -> u64 {
    let before = count(kept);
    kept.retain(|one| match (one.since, oldest) {
        (Since::At(secs), Some(oldest)) => secs >= oldest,
        _ => true,
    });
    if let Some(max) = bytes_max {
        // one file beyond the limit must not push all others out
        kept.retain(|one| one.entry.size <= max || one.since == Since::Unseen);
        let counts = |one: &Kept| if one.since == Since::Unseen { 0 } else { one.entry.size };
        let mut bytes: u64 = kept.iter().map(counts).sum();
        kept.retain(|one| {
            let stays = bytes <= max || one.is_dir() || one.since == Since::Unseen;
            if !stays {
                bytes -= one.entry.size;
            }
            stays
        });
    }
    tidy(kept);
    before - count(kept)
}

/// Files and links among them.
pub(crate) fn count(kept: &[Kept]) -> u64 {
    kept.iter().filter(|one| !one.is_dir()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(secs: i64, path: &str, size: u64) -> Kept {
        let kind = if path.ends_with('/') { Kind::Dir } else { Kind::File };
        let path = path.trim_end_matches('/').as_bytes().to_vec();
        let entry = Entry { size, ..Entry::new(kind) };
        Kept { since: Since::At(secs), path, entry, blocks: Vec::new() }
    }

    fn paths(kept: &[Kept]) -> Vec<&str> {
        kept.iter().map(|one| std::str::from_utf8(&one.path).unwrap()).collect()
    }

    fn some() -> Vec<Kept> {
        vec![
            one(30, "a/d/", 0),
            one(10, "a/d/", 0),
            one(10, "a/d/x", 5),
            one(20, "a/y", 7),
            one(30, "a/d/z", 9),
            one(10, "a/d-e", 1),
            one(10, "a/empty/", 0),
        ]
    }

    #[test]
    fn the_oldest_go_first_and_directories_with_what_was_in_them() {
        let mut kept = some();
        assert_eq!(limit(&mut kept, None, None), 0);
        assert_eq!(paths(&kept), ["a/d", "a/d/x", "a/d-e", "a/y", "a/d", "a/d/z"]);
        assert_eq!(limit(&mut kept, Some(20), None), 2);
        assert_eq!(paths(&kept), ["a/y", "a/d", "a/d/z"]);
        let mut kept = some();
        assert_eq!(limit(&mut kept, None, Some(17)), 1);
        assert_eq!(paths(&kept), ["a/d-e", "a/y", "a/d", "a/d/z"]);
        assert_eq!(limit(&mut kept, None, Some(16)), 1, "exactly the limit is within it");
        assert_eq!(limit(&mut kept, None, Some(8)), 1, "one beyond the limit takes no other along");
        assert_eq!(paths(&kept), ["a/y"]);
        assert_eq!(limit(&mut kept, None, Some(0)), 1);
        assert!(kept.is_empty());
    }

    #[test]
    fn a_file_and_a_directory_of_one_name_that_cannot_be_looked_at_are_both_kept() {
        let unseen = |path: &str| Kept { since: Since::Unseen, ..one(0, path, 1) };
        for mut kept in [
            vec![unseen("a/d"), unseen("a/d/"), unseen("a/d/x")],
            vec![unseen("a/d/"), unseen("a/d/x"), unseen("a/d")],
            vec![unseen("a/d/x"), unseen("a/d"), one(50, "a/d/", 0), one(50, "a/d/y", 1)],
        ] {
            let before = count(&kept);
            part(&mut kept, 50);
            tidy(&mut kept);
            assert_eq!(count(&kept), before, "{kept:?}");
            let clashes = |file: &Kept| {
                let below = [file.path.as_slice(), b"/"].concat();
                kept.iter().any(|k| k.since == file.since && k.path.starts_with(&below))
            };
            assert!(!kept.iter().any(|k| !k.is_dir() && clashes(k)), "{kept:?}");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_bound_to_no_limit() {
        let mut kept = vec![Kept { since: Since::Unseen, ..one(0, "a/x", 9) }, one(1, "a/y", 9)];
        assert_eq!(limit(&mut kept, Some(100), Some(0)), 1);
        assert_eq!(kept[0].since, Since::Unseen);
    }
}
