//! Records made by an enemy who has the keys: they end in an error, quickly, with little memory.

use super::{Blocks, OP, REPO, fresh, keyring};
use crate::keys::{BlockKind, Keys};
use crate::limits;
use crate::map::{Map, apply_patch};
use crate::object::{self, ObjectKind};
use crate::pack::{BlockRow, PackTable};
use crate::tree::node::{Child, Node, NodeWriter};
use crate::{
    BlockId, Codec, Entry, Error, Extent, Index, Kind, Reader, Repository, Snapshot,
    decode_extents, encode_extents, varint,
};

/// Spoils a row.
type Change<'a> = &'a dyn Fn(&mut BlockRow);
/// Makes a node from the ids of those before it.
type Made<'a> = &'a dyn Fn(&[BlockId]) -> Vec<u8>;

const ID: BlockId = BlockId([7; 32]);
/// More than any memory holds: code that reserves room for it does not come back.
const HUGE: u64 = 1 << 60;

fn varints(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        varint::put(&mut out, *value);
    }
    out
}

fn row() -> BlockRow {
    BlockRow {
        id: ID,
        kind: BlockKind::Data,
        codec: Codec::Raw,
        envelope: 0,
        epoch: 0,
        stored_len: 116,
        plain_len: 100,
        nonce: [0; 12],
        sealed_hash: [0; 16],
        chunk_lens: vec![100],
        chunk_ids: vec![1; 16],
    }
}

fn table(rows: Vec<BlockRow>) -> PackTable {
    PackTable { op: OP, n: 0, bytes: 16 << 10, blocks: rows }
}

#[test]
fn counts_that_no_memory_holds_are_lies() {
    assert!(decode_extents(&varints(&[HUGE])).is_none());
    assert!(decode_extents(&varints(&[0, HUGE])).is_none());
    assert!(decode_extents(&varints(&[u64::MAX])).is_none());
    assert!(apply_patch(&[], &varints(&[5, HUGE, 1, 1])).is_none());
    for level in [0, 1] {
        let node = [&[1, level][..], &varints(&[HUGE])].concat();
        assert!(Node::decode(&ID, &node).is_err());
        // a path or an entry that is longer than the node
        let node = [&[1, level][..], &varints(&[1, 0, HUGE])].concat();
        assert!(Node::decode(&ID, &node).is_err());
        let node = [&[1, level][..], &varints(&[1, HUGE, HUGE])].concat();
        assert!(Node::decode(&ID, &node).is_err());
        let node = [&[1, level][..], &varints(&[1, 0, 1]), b"a", &varints(&[HUGE])].concat();
        assert!(Node::decode(&ID, &node).is_err());
    }
}

#[test]
fn a_node_has_no_more_items_than_a_writer_puts_in() {
    let node = |count: usize| {
        let mut node = NodeWriter::new(0);
        let coded = minicbor::to_vec(Entry::new(Kind::Dir)).unwrap();
        (0..count).for_each(|n| node.push_entry(format!("{n:08}").as_bytes(), &coded, 0));
        node.finish()
    };
    assert!(Node::decode(&ID, &node(limits::NODE_ITEMS_MAX)).is_ok());
    assert!(Node::decode(&ID, &node(limits::NODE_ITEMS_MAX + 1)).is_err());
}

#[test]
fn claims_in_a_sealed_record_cost_nothing() {
    let keys = Keys::new(keyring());
    let name = format!("index/0-{OP}-0");
    // {0: [ 2^60 tables, and {0: h'..2^60 bytes..'}
    let array = [0xa1, 0x00, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0];
    let bytes = [0xa1, 0x00, 0x81, 0xa1, 0x00, 0x5b, 0x10, 0, 0, 0, 0, 0, 0, 0];
    // a thousand arrays in each other under a key nobody knows
    let nested = [&[0xa1, 0x18, 0x63][..], &[0x81; 1000], &[0x00]].concat();
    for (payload, parses) in [(&array[..], false), (&bytes[..], false), (&nested[..], false)] {
        let object =
            object::seal_payload(&keys, &REPO, ObjectKind::Index, &name, payload, &[0; 12]);
        let opened: crate::Result<crate::index::IndexObject> =
            object::open_record(&keys, &REPO, ObjectKind::Index, &name, &object);
        assert_eq!(opened.is_ok(), parses);
    }
}

#[test]
fn a_payload_longer_than_its_object_is_damage() {
    let keys = Keys::new(keyring());
    let name = "snap/x";
    let mut body = vec![0xff, 0xff, 0xff, 0xff, 0xa0];
    let aad = crate::seal::control_aad(&REPO, b's', name);
    crate::seal::seal(&keys.control_key(b's'), &[0; 12], &aad, &mut body);
    let object = [&b"ABOBJ\0s\x01"[..], &[0; 12], &body].concat();
    let opened: crate::Result<Snapshot> =
        object::open_record(&keys, &REPO, ObjectKind::Snapshot, name, &object);
    assert!(matches!(opened, Err(Error::Corrupt { .. })));
}

#[test]
fn no_object_opens_under_another_name_kind_or_repository() {
    type Opened = crate::Result<crate::index::IndexObject>;
    let keys = Keys::new(keyring());
    let payload = minicbor::to_vec(crate::index::IndexObject { packs: Vec::new() }).unwrap();
    let kinds = [
        ObjectKind::Op,
        ObjectKind::Snapshot,
        ObjectKind::Index,
        ObjectKind::Mark,
        ObjectKind::Gc,
        ObjectKind::Trailer,
    ];
    for kind in kinds {
        let object = object::seal_payload(&keys, &REPO, kind, "index/a", &payload, &[0; 12]);
        let open =
            |repo, kind, name| -> Opened { object::open_record(&keys, repo, kind, name, &object) };
        assert!(open(&REPO, kind, "index/a").is_ok());
        assert!(open(&REPO, kind, "index/b").is_err());
        assert!(open(&REPO, kind, "").is_err());
        assert!(open(&crate::RepoId([0x11; 16]), kind, "index/a").is_err());
        for other in kinds.into_iter().filter(|other| *other != kind) {
            assert!(open(&REPO, other, "index/a").is_err());
            // nor with the kind in its head rewritten
            let mut renamed = object.clone();
            renamed[6] = other.code();
            let opened: Opened = object::open_record(&keys, &REPO, other, "index/a", &renamed);
            assert!(opened.is_err());
        }
    }
}

#[test]
fn a_block_that_opens_with_other_bytes_than_those_of_its_id_is_refused() {
    let keys = Keys::new(keyring());
    let id = keys.block_id(BlockKind::Data, b"the right bytes");
    let mut sealed = b"the wrong bytes".to_vec();
    let aad = crate::seal::block_aad(&REPO, BlockKind::Data, Codec::Raw, 15, &id);
    let key = keys.block_key(0, BlockKind::Data, &id).unwrap();
    crate::seal::seal(&key, &[0; 12], &aad, &mut sealed);
    let row = BlockRow { id, stored_len: 31, plain_len: 15, ..row() };
    let opened = crate::open_block(&keys, &REPO, &row, &sealed);
    assert!(matches!(opened, Err(Error::Corrupt { .. })));
}

#[test]
fn only_a_higher_version_byte_is_called_newer() {
    let keys = Keys::new(keyring());
    let object = object::seal_payload(&keys, &REPO, ObjectKind::Mark, "end/x", &[0xa0], &[0; 12]);
    for (version, newer) in [(0, false), (2, true), (255, true)] {
        let mut object = object.clone();
        object[7] = version;
        let opened: crate::Result<crate::index::IndexObject> =
            object::open_record(&keys, &REPO, ObjectKind::Mark, "end/x", &object);
        assert_eq!(matches!(opened, Err(Error::TooNew { .. })), newer, "version {version}");
    }
}

#[test]
fn tables_of_impossible_lengths_are_refused() {
    let add = |change: &dyn Fn(&mut BlockRow)| {
        let mut row = row();
        change(&mut row);
        Index::default().add(&table(vec![row]), true)
    };
    assert!(add(&|_| {}).is_ok());
    let max = limits::BLOCK_PLAIN_BYTES_MAX;
    let changes: [(&str, Change<'_>); 9] = [
        ("more than a block", &|r| (r.plain_len, r.stored_len) = (max + 1, 17)),
        ("more stored than plain", &|r| r.stored_len = 117),
        ("not even a tag", &|r| r.stored_len = 16),
        ("nothing", &|r| (r.plain_len, r.stored_len) = (0, 16)),
        ("past the pack", &|r| {
            (r.plain_len, r.stored_len) = (20 << 10, 17 << 10);
            (r.chunk_ids, r.chunk_lens) = (Vec::new(), Vec::new());
        }),
        ("chunks that do not fill it", &|r| r.chunk_lens = vec![99]),
        ("chunks past it", &|r| r.chunk_lens = varints(&[u64::from(u32::MAX)])),
        ("a chunk of nothing", &|r| (r.chunk_ids, r.chunk_lens) = (vec![1; 32], vec![0, 100])),
        ("half an id", &|r| r.chunk_ids = vec![1; 15]),
    ];
    for (what, change) in changes {
        assert!(matches!(add(change), Err(Error::Corrupt { .. })), "{what}");
    }
    let mut long = table(vec![row()]);
    long.bytes = limits::PACK_BYTES_MAX + 1;
    assert!(Index::default().add(&long, false).is_err());
    let mut many = row();
    many.chunk_ids = vec![1; 16 * (limits::CHUNKS_PER_BLOCK_MAX + 1)];
    assert!(many.chunks().is_none());
}

#[test]
fn a_row_that_lies_about_a_block_hides_no_good_one() {
    let (_, repo) = fresh();
    let mut blocks = Blocks::new(&repo, OP, 0);
    let id = blocks.add(BlockKind::Data, b"the right bytes", &[15]).unwrap();
    let good = blocks.put().unwrap();
    for change in 0..3 {
        let mut bad = good.clone();
        match change {
            0 => bad.n = 9, // a pack that is not there
            1 => bad.blocks[0].nonce = [9; 12],
            _ => bad.blocks.insert(0, BlockRow { id: BlockId([1; 32]), ..bad.blocks[0].clone() }),
        }
        if change == 1 {
            bad.op = crate::OpId([1; 16]);
            repo.store()
                .put(
                    &bad.pack().object_name(),
                    vec![repo.store().get(&good.pack().object_name()).unwrap()],
                )
                .unwrap();
        }
        let mut index = Index::default();
        index.add(&bad, false).unwrap();
        index.add(&good, false).unwrap();
        let reader = Reader::new(&repo, None, index);
        assert_eq!(reader.read(&id).unwrap(), b"the right bytes", "lie {change}");
    }
}

#[test]
fn rows_that_overlap_in_one_pack_do_not_confuse_a_joint_read() {
    let (_, repo) = fresh();
    let mut blocks = Blocks::new(&repo, OP, 0);
    let first = blocks.add(BlockKind::Data, &[1; 50], &[50]).unwrap();
    let second = blocks.add(BlockKind::Data, &[2; 50], &[50]).unwrap();
    let good = blocks.put().unwrap();
    // the same pack in another table: one row that lies across both
    let wide = BlockRow { id: ID, stored_len: 5000, plain_len: 5000, ..row() };
    let bad = PackTable { blocks: vec![wide], ..good.clone() };
    let mut index = Index::default();
    index.add(&bad, false).unwrap();
    index.add(&good, false).unwrap();
    let op = crate::Operation::announce(&repo, OP, crate::OpKind::Push, super::MACHINE, 0).unwrap();
    op.put_index(vec![good], None).unwrap();
    let reader = Reader::new(&repo, None, index);
    assert!(reader.read_all(&[first, ID, second]).is_err());
    assert_eq!(reader.read_all(&[first, second]).unwrap(), [vec![1; 50], vec![2; 50]]);
}

#[test]
fn a_map_with_more_patches_than_allowed_is_refused_before_they_are_read() {
    let map = Map {
        base: Some(ID),
        patches: Some(vec![ID; limits::MAP_PATCHES_MAX + 1]),
        ..Map::default()
    };
    let mut reads = 0;
    let extents = map.extents(|_| {
        reads += 1;
        Ok(encode_extents(&[Extent { block: ID, offset: 0, len: 1, pages: false }]))
    });
    assert!(extents.is_err());
    assert_eq!(reads, 1);
}

#[test]
fn extents_and_patches_that_do_not_fit_are_refused() {
    let extent = |offset, len| Extent { block: ID, offset, len, pages: false };
    let max = limits::BLOCK_PLAIN_BYTES_MAX;
    assert!(decode_extents(&encode_extents(&[extent(0, max)])).is_some());
    assert!(decode_extents(&encode_extents(&[extent(1, max)])).is_none(), "past a block");
    assert!(decode_extents(&encode_extents(&[extent(u32::MAX, 2)])).is_none(), "overflow");
    assert!(decode_extents(&encode_extents(&[extent(0, 0)])).is_none(), "nothing");
    let ids = [&varints(&[1])[..], &ID.0].concat();
    assert!(decode_extents(&[&ids[..], &varints(&[1, 2, 0, 5])].concat()).is_none(), "no such id");
    assert!(
        decode_extents(&[&ids[..], &varints(&[1, 3, 0, 5])].concat()).is_none(),
        "nor with a flag"
    );
    assert!(decode_extents(&[&ids[..], &varints(&[1, 1, 0, 5])].concat()).unwrap()[0].pages);
    assert!(decode_extents(&[&ids[..], &varints(&[1, 0, 0, 5, 9])].concat()).is_none(), "more");
    assert!(decode_extents(&[&ids[..], &varints(&[1, 0, 0, 5])].concat()).is_some());

    let old = [extent(0, 10)];
    let fill = encode_extents(&[extent(100, 5)]);
    let patch = |head: &[u64]| apply_patch(&old, &[&varints(head)[..], &fill].concat());
    assert_eq!(patch(&[10, 1, 3, 5]).unwrap().len(), 3);
    assert_eq!(patch(&[15, 1, 10, 5]).unwrap().len(), 2, "grown");
    assert_eq!(patch(&[5, 1, 0, 5]).unwrap().len(), 1, "cut short and replaced");
    assert!(patch(&[15, 1, 20, 5]).is_none(), "a gap past the old end");
    assert!(patch(&[10, 1, 3, 4]).is_none(), "content left over");
    assert!(patch(&[10, 1, 3, 6]).is_none(), "content missing");
    assert!(patch(&[11, 1, 3, 5]).is_none(), "larger than its parts");
    assert!(patch(&[7, 1, 3, 5]).is_none(), "smaller than its parts");
    assert!(patch(&[10, 2, 3, 5, u64::MAX, u64::MAX]).is_none(), "overflow");
}

#[test]
fn a_large_map_with_many_changes_is_patched_in_one_pass() {
    // 300,000 extents, every third one changed: squared, this would not end today
    let of = |n: u32, offset| Extent {
        block: BlockId([(n % 2) as u8; 32]),
        offset,
        len: 4096,
        pages: false,
    };
    let old: Vec<Extent> = (0..300_000).map(|n| of(n, 0)).collect();
    let new: Vec<Extent> = (0..300_000).map(|n| of(n, if n % 3 == 0 { 8192 } else { 0 })).collect();
    let patch = crate::map::encode_patch(&old, &new);
    assert!(apply_patch(&old, &patch).unwrap() == new);
}

// --- trees

fn leaf(paths: &[&str]) -> Vec<u8> {
    let mut node = NodeWriter::new(0);
    let coded = minicbor::to_vec(Entry::new(Kind::Dir)).unwrap();
    for path in paths {
        node.push_entry(path.as_bytes(), &coded, 0);
    }
    node.finish()
}

fn inner(level: u8, children: &[(&str, BlockId)]) -> Vec<u8> {
    let mut node = NodeWriter::new(level);
    for (path, id) in children {
        node.push_child(path.as_bytes(), &Child { id: *id, entries: 1, bytes: 0 });
    }
    node.finish()
}

/// Stores nodes, each made with the ids of those before it; the last one is the root.
fn walk_of(repo: &Repository, nodes: &[Made<'_>]) -> crate::Result<usize> {
    let mut blocks = Blocks::new(repo, OP, 0);
    let mut ids = Vec::new();
    for node in nodes {
        ids.push(blocks.add(BlockKind::Node, &node(&ids), &[]).unwrap());
    }
    let mut index = Index::default();
    index.add(&blocks.put().unwrap(), false).unwrap();
    let (reader, mut visited) = (Reader::new(repo, None, index), 0);
    let root = ids.last().unwrap();
    reader.diff(root, &ids[0], &mut |_, _, _| Ok(())).ok();
    reader.walk(root, &mut |_, _| {
        visited += 1;
        Ok(())
    })?;
    Ok(visited)
}

#[test]
fn a_tree_that_is_none_is_refused() {
    let (_, repo) = fresh();
    let ab: Made<'_> = &|_| leaf(&["a", "b"]);
    let cd: Made<'_> = &|_| leaf(&["c", "d"]);
    let walk = |nodes: &[Made<'_>]| walk_of(&repo, nodes);
    assert_eq!(walk(&[ab, cd, &|ids| inner(1, &[("a", ids[0]), ("c", ids[1])])]).unwrap(), 4);
    let hostile: [(&str, &[Made<'_>]); 6] = [
        ("levels that skip one", &[ab, cd, &|ids| inner(2, &[("a", ids[0]), ("c", ids[1])])]),
        (
            "a level that does not fall",
            &[ab, &|ids| inner(1, &[("a", ids[0])]), &|ids| inner(1, &[("a", ids[1])])],
        ),
        ("one child twice", &[ab, &|ids| inner(1, &[("a", ids[0]), ("b", ids[0])])]),
        ("another first path", &[ab, cd, &|ids| inner(1, &[("a", ids[0]), ("b", ids[1])])]),
        (
            "siblings that overlap",
            &[&|_| leaf(&["a", "x"]), cd, &|ids| inner(1, &[("a", ids[0]), ("c", ids[1])])],
        ),
        ("an empty leaf below", &[&|_| leaf(&[]), &|ids| inner(1, &[("a", ids[0])])]),
    ];
    for (what, nodes) in hostile {
        assert!(matches!(walk(nodes), Err(Error::Corrupt { .. })), "{what}");
    }
    assert_eq!(walk(&[&|_| leaf(&[])]).unwrap(), 0, "the empty tree");
    assert!(Node::decode(&ID, &inner(1, &[])).is_err());
    assert!(Node::decode(&ID, &inner(limits::TREE_LEVELS_MAX, &[("a", ID)])).is_err());
    assert!(Node::decode(&ID, &[leaf(&["a"]), vec![0]].concat()).is_err(), "bytes after it");
    assert!(Node::decode(&ID, &[2, 0, 0]).is_err(), "another version");
    for paths in [["b", "a"], ["a", "a"]] {
        assert!(Node::decode(&ID, &leaf(&paths)).is_err(), "{paths:?}");
    }
    for path in ["", "/", "..", "a/../b", "a//b", "a/", "a\0b"] {
        assert!(Node::decode(&ID, &leaf(&[path])).is_err(), "{path:?}");
    }
}

#[test]
fn a_small_tree_that_unfolds_without_end_ends_at_once() {
    let (_, repo) = fresh();
    let names: Vec<String> = (0..1000).map(|n| format!("a{n:04}")).collect();
    let level = |level: u8| {
        let names = &names;
        move |ids: &[BlockId]| {
            let child = *ids.last().unwrap();
            let items: Vec<_> = names.iter().map(|name| (name.as_str(), child)).collect();
            inner(level, &items)
        }
    };
    let bottom = |_: &[BlockId]| leaf(&["a0000"]);
    let levels: Vec<_> = (1..limits::TREE_LEVELS_MAX).map(level).collect();
    let mut nodes: Vec<Made<'_>> = vec![&bottom];
    nodes.extend(levels.iter().map(|level| level as Made<'_>));
    // 1000^7 entries in a few hundred KB
    assert!(matches!(walk_of(&repo, &nodes), Err(Error::Corrupt { .. })));
}

#[test]
fn a_block_sealed_under_the_id_of_another_one_is_refused() {
    // only somebody with the keys can: the seal opens, and the bytes are not those of the id
    let keys = Keys::new(keyring());
    let plain = b"not what the id says";
    let id = keys.block_id(BlockKind::Data, b"what the id says");
    let row = BlockRow { id, plain_len: 20, stored_len: 36, ..row() };
    let key = keys.block_key(0, BlockKind::Data, &id).unwrap();
    let aad = crate::seal::block_aad(&REPO, BlockKind::Data, Codec::Raw, 20, &id);
    let mut sealed = plain.to_vec();
    crate::seal::seal(&key, &row.nonce, &aad, &mut sealed);
    let opened = crate::open_block(&keys, &REPO, &row, &sealed);
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
    // and the same bytes under their own id are right
    let id = keys.block_id(BlockKind::Data, plain);
    let row = BlockRow { id, ..row };
    let key = keys.block_key(0, BlockKind::Data, &id).unwrap();
    let aad = crate::seal::block_aad(&REPO, BlockKind::Data, Codec::Raw, 20, &id);
    let mut sealed = plain.to_vec();
    crate::seal::seal(&key, &row.nonce, &aad, &mut sealed);
    assert_eq!(crate::open_block(&keys, &REPO, &row, &sealed).unwrap(), plain);
}

#[test]
fn a_snapshot_that_says_it_is_another_one_is_refused() {
    let (_, repo) = fresh();
    super::push(&repo, OP).unwrap();
    let other = crate::OpId([0x77; 16]);
    let (snapshot, _) = repo.snapshot(None, &OP).unwrap();
    let name = Snapshot::object_name(&other);
    let object =
        object::seal_record(repo.keys(), repo.id(), ObjectKind::Snapshot, &name, &snapshot);
    repo.store().put(&name, vec![object.into()]).unwrap();
    assert!(matches!(repo.snapshot(None, &other), Err(Error::Corrupt { .. })));
    assert_eq!(repo.snapshot(None, &OP).unwrap().0, snapshot);
}
