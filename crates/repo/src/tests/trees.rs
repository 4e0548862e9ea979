//! Trees: what goes in comes out, the same entries give the same nodes, a small change rewrites little.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::{Blocks, OP, build_tree, fresh};
use crate::keys::BlockKind;
use crate::tree::node::{Child, Node, NodeWriter};
use crate::{BlockId, Entry, Index, Kind, Reader, Repository, Result, key_of_path, path_order};

type Entries = Vec<(Vec<u8>, Entry)>;

fn entry(n: u64) -> Entry {
    Entry { size: n, mode: 0o644, ..Entry::new(Kind::File) }
}

/// Entries with few names per directory, so that paths nest and share prefixes; `-` and `.` sort
/// before `/` as bytes and after it in path order.
fn arb_entries(most: usize) -> impl Strategy<Value = Entries> {
    let part = prop_oneof!["[a-c]{1,2}", "[a-c][-.!][a-c]"];
    let path = proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/").into_bytes());
    proptest::collection::vec((path, 0_u64..4), 0..most).prop_map(sorted)
}

fn sorted(entries: Vec<(Vec<u8>, u64)>) -> Entries {
    let by_key: BTreeMap<_, _> =
        entries.into_iter().map(|(path, n)| (key_of_path(&path), (path, entry(n)))).collect();
    by_key.into_values().collect()
}

/// `many` entries as a scan of transcripts gives them.
fn transcripts(many: u64) -> Entries {
    sorted(
        (0..many).map(|n| (format!("agent/p{}/{n:08x}.jsonl", n % 17).into_bytes(), n)).collect(),
    )
}

/// The ids of a tree's nodes, without storing them.
fn node_ids(repo: &Repository, entries: &[(Vec<u8>, Entry)]) -> (BlockId, HashSet<BlockId>) {
    let mut ids = HashSet::new();
    let root = build_tree(repo, entries, &mut |plain| {
        let id = repo.keys().block_id(BlockKind::Node, &plain);
        ids.insert(id);
        Ok(id)
    });
    (root.unwrap().id, ids)
}

/// Stores trees in one pack, and reads through a fresh index.
fn stored<'r>(repo: &'r Repository, trees: &[&Entries]) -> (Vec<BlockId>, Reader<'r>) {
    let mut blocks = Blocks::new(repo, OP, 0);
    let mut roots = Vec::new();
    for entries in trees {
        let mut sink = |plain: Vec<u8>| blocks.add(BlockKind::Node, &plain, &[]);
        roots.push(build_tree(repo, entries, &mut sink).unwrap().id);
    }
    let mut index = Index::default();
    index.add(&blocks.put().unwrap(), false).unwrap();
    (roots, Reader::new(repo, None, index))
}

fn walked(reader: &Reader<'_>, root: &BlockId) -> Result<Entries> {
    let mut out = Vec::new();
    reader.walk(root, &mut |path, entry| {
        out.push((path, entry));
        Ok(())
    })?;
    Ok(out)
}

type Change = (Vec<u8>, Option<Entry>, Option<Entry>);

fn naive_diff(old: &Entries, new: &Entries) -> Vec<Change> {
    let map = |entries: &Entries| -> BTreeMap<Vec<u8>, (Vec<u8>, Entry)> {
        entries.iter().map(|(p, e)| (key_of_path(p), (p.clone(), e.clone()))).collect()
    };
    let (old, new) = (map(old), map(new));
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .map(|key| {
            let (a, b) = (old.get(key), new.get(key));
            let path = a.or(b).unwrap().0.clone();
            (path, a.map(|x| x.1.clone()), b.map(|x| x.1.clone()))
        })
        .filter(|(_, a, b)| a != b)
        .collect()
}

fn real_diff(reader: &Reader<'_>, old: &BlockId, new: &BlockId) -> Vec<Change> {
    let mut out = Vec::new();
    reader
        .diff(old, new, &mut |path, a, b| {
            out.push((path.to_vec(), a.cloned(), b.cloned()));
            Ok(())
        })
        .unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_entries_walk_back_as_they_went_in(entries in arb_entries(600)) {
        let (_, repo) = fresh();
        let (roots, reader) = stored(&repo, &[&entries]);
        prop_assert_eq!(walked(&reader, &roots[0]).unwrap(), entries);
    }

    #[test]
    fn a_diff_shows_what_comparing_everything_shows(
        old in arb_entries(500), changes in arb_entries(12), removed in any::<u64>(),
    ) {
        let (_, repo) = fresh();
        let mut new: BTreeMap<_, _> =
            old.iter().map(|(p, e)| (key_of_path(p), (p.clone(), e.clone()))).collect();
        for (path, entry) in changes {
            new.insert(key_of_path(&path), (path, entry));
        }
        if !old.is_empty() {
            let at = usize::try_from(removed % old.len() as u64).unwrap();
            new.remove(&key_of_path(&old[at].0));
        }
        let new: Entries = new.into_values().collect();
        let (roots, reader) = stored(&repo, &[&old, &new]);
        prop_assert_eq!(real_diff(&reader, &roots[0], &roots[1]), naive_diff(&old, &new));
    }
}

#[test]
fn adding_or_removing_one_entry_rewrites_one_path_of_nodes() {
    let (_, repo) = fresh();
    let all = transcripts(6_000);
    let (root, nodes) = node_ids(&repo, &all);
    let levels = 3; // 6,000 entries in leaves of 64
    assert!((60..150).contains(&nodes.len()), "{} nodes", nodes.len());
    for at in (0..all.len()).step_by(211).chain([0, all.len() - 1]) {
        let mut less = all.clone();
        less.remove(at);
        let (_, without) = node_ids(&repo, &less);
        let (written, dropped) =
            (without.difference(&nodes).count(), nodes.difference(&without).count());
        assert!(written <= 2 * levels && dropped <= 2 * levels, "{at}: +{written} -{dropped}");
        // the way there does not matter: put back, it is the tree it was
        less.insert(at, all[at].clone());
        assert_eq!(node_ids(&repo, &less).0, root);
    }
}

#[test]
fn a_changed_entry_without_a_changed_path_moves_no_cut() {
    let (_, repo) = fresh();
    let mut all = transcripts(3_000);
    let (_, before) = node_ids(&repo, &all);
    all[1_234].1.size = 99_999_999;
    let (_, after) = node_ids(&repo, &all);
    assert!(after.difference(&before).count() <= 3);
}

#[test]
fn another_repository_cuts_elsewhere() {
    let (_, repo) = fresh();
    let all = transcripts(2_000);
    let sizes = |key| {
        let mut sizes = Vec::new();
        let mut builder = crate::TreeBuilder::new(key);
        let mut sink = |plain: Vec<u8>| {
            sizes.push(plain.len());
            Ok(repo.keys().block_id(BlockKind::Node, &plain))
        };
        for (path, entry) in &all {
            builder.push(path, entry, &mut sink).unwrap();
        }
        builder.finish(&mut sink).unwrap();
        sizes
    };
    assert_ne!(sizes([1; 32]), sizes([2; 32]));
}

#[test]
fn counts_in_the_root_are_those_of_the_entries() {
    let (_, repo) = fresh();
    let all = transcripts(700);
    let root =
        build_tree(&repo, &all, &mut |plain| Ok(repo.keys().block_id(BlockKind::Node, &plain)))
            .unwrap();
    assert_eq!(root.entries, 700);
    assert_eq!(root.bytes, all.iter().map(|(_, e)| e.size).sum::<u64>());
}

#[test]
fn files_that_claim_impossible_sizes_do_not_overflow_the_counts() {
    let (_, repo) = fresh();
    let huge: Entries = ["a", "b", "c"].map(|p| (p.into(), entry(u64::MAX / 2))).into();
    let root =
        build_tree(&repo, &huge, &mut |plain| Ok(repo.keys().block_id(BlockKind::Node, &plain)));
    assert_eq!(root.unwrap().bytes, u64::MAX);
}

#[test]
fn a_diff_of_large_trees_reads_no_shared_leaf() {
    let (_, repo) = fresh();
    let old = transcripts(6_000);
    let mut new = old.clone();
    new[3_000].1.size = 1;
    let mut blocks = Blocks::new(&repo, OP, 0);
    let (mut roots, mut leaves) = (Vec::new(), Vec::new());
    for entries in [&old, &new] {
        let mut ids = HashSet::new();
        let mut sink = |plain: Vec<u8>| {
            let id = blocks.add(BlockKind::Node, &plain, &[])?;
            if plain[1] == 0 {
                ids.insert(id);
            }
            Ok(id)
        };
        roots.push(build_tree(&repo, entries, &mut sink).unwrap().id);
        leaves.push(ids);
    }
    // whoever looks for a leaf that both trees have finds nothing
    let mut table = blocks.put().unwrap();
    for row in &mut table.blocks {
        if leaves.iter().all(|ids| ids.contains(&row.id)) {
            row.id.0[31] ^= 1;
        }
    }
    let mut index = Index::default();
    index.add(&table, false).unwrap();
    let reader = Reader::new(&repo, None, index);
    assert_eq!(real_diff(&reader, &roots[0], &roots[1]), naive_diff(&old, &new));
}

#[test]
fn a_level_of_one_child_is_no_level() {
    let (_, repo) = fresh();
    let mut lens = Vec::new();
    let mut sink = |plain: Vec<u8>| {
        let id = repo.keys().block_id(BlockKind::Node, &plain);
        if let Node::Leaf(items) = Node::decode(&id, &plain)? {
            lens.push(items.len());
        }
        Ok(id)
    };
    let all = transcripts(500);
    build_tree(&repo, &all, &mut sink).unwrap();
    // entries that end with the cut of a leaf: the leaf is the tree
    let (root, nodes) = node_ids(&repo, &all[..lens[0]]);
    assert_eq!(nodes, HashSet::from([root]));
}

#[test]
fn no_inner_node_ends_with_its_first_child() {
    let (_, repo) = fresh();
    let (key, child) =
        (repo.keys().tree_key(), Child { id: BlockId([1; 32]), entries: 1, bytes: 0 });
    let (mut one, mut two) = (0, 0);
    for n in 0..2_000 {
        let mut node = NodeWriter::new(1);
        node.push_child(format!("{n:05}a").as_bytes(), &child);
        one += usize::from(node.ends(&key));
        node.push_child(format!("{n:05}b").as_bytes(), &child);
        two += usize::from(node.ends(&key));
    }
    assert_eq!(one, 0);
    assert!((10..70).contains(&two), "{two} of 2000 end with the second: one in 64");
}

#[test]
fn an_entry_comes_after_its_directory_and_before_the_next_sibling() {
    let mut paths = [&b"a.b"[..], b"a/b", b"a", b"a-b", b"a/b/c", b"a/b.c", b"a!"];
    paths.sort_by(|a, b| path_order(a, b));
    assert_eq!(paths, [&b"a"[..], b"a/b", b"a/b/c", b"a/b.c", b"a!", b"a-b", b"a.b"]);
}

#[test]
fn an_entry_no_reader_would_take_is_refused_by_the_writer() {
    let (_, repo) = fresh();
    let mut sink = |plain: Vec<u8>| Ok(repo.keys().block_id(BlockKind::Node, &plain));
    let long = vec![b'a'; crate::limits::PATH_BYTES_MAX + 1];
    for path in [&b""[..], b"/a", b"a/", b"a//b", b".", b"a/..", b"../a", b"a/./b", b"a\0b", &long]
    {
        let mut builder = crate::TreeBuilder::new([0; 32]);
        assert!(builder.push(path, &entry(1), &mut sink).is_err(), "{}", path.escape_ascii());
    }
    let value = vec![0; crate::limits::ENTRY_BYTES_MAX];
    let xattrs = Some(vec![crate::Xattr { name: b"user.x".to_vec(), value }]);
    let fat = Entry { xattrs, ..entry(1) };
    assert!(crate::TreeBuilder::new([0; 32]).push(b"a", &fat, &mut sink).is_err());
    assert!(crate::TreeBuilder::new([0; 32]).push(b"a/...", &entry(1), &mut sink).is_ok());
}
