//! Golden vectors: `tests/vectors/format.json` against this code, with every random part fixed.
//!
//! A difference means that the format changed. On purpose: a new version number, a line in the
//! changelog, and the text this test prints as the new file. What zstd makes of a block may change
//! with its version; that every block it ever made opens may not.

use data_encoding::HEXLOWER;
use serde_json::{Map as Object, Value, json};

use super::{MACHINE, OP, REPO, file, keyring, snapshot_of};
use crate::gc::lists::CondemnedList;
use crate::index::{self, IndexObject};
use crate::keys::{BlockKind, Keys};
use crate::map::{Map, apply_patch, encode_patch};
use crate::object::{self, ObjectKind};
use crate::operation::{Mark, OpRecord};
use crate::pack::{BlockRow, PackTable, SealedBlock, open_block, seal_block_with};
use crate::tree::node::{Child, Node, NodeWriter};
use crate::verify::coverage::{self, CheckedRow, FoundRow, Record};
use crate::{
    BlockId, Codec, Entry, Extent, Kind, OpKind, PackId, PackWriter, Snapshot, TreeBuilder, Xattr,
    decode_extents, encode_extents, flag, read_trailer, seal,
};

const GOLDEN: &str = include_str!("../../tests/vectors/format.json");
const PLAIN: &[u8] = b"forty-two";
const NONCE: [u8; 12] = [0x77; 12];
const KINDS: [(&str, BlockKind); 4] = [
    ("data", BlockKind::Data),
    ("node", BlockKind::Node),
    ("map", BlockKind::Map),
    ("patch", BlockKind::Patch),
];

fn keys() -> Keys {
    Keys::new(keyring())
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    HEXLOWER.encode(bytes.as_ref()).into()
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("hexadecimal text").as_bytes()).unwrap()
}

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn lines() -> Vec<u8> {
    b"{\"type\":\"user\",\"text\":\"one of many lines\"}\n".repeat(20)
}

fn sealed(kind: BlockKind, plain: &[u8]) -> SealedBlock {
    let (first, second) = plain.split_at(plain.len() / 3);
    let chunk = |piece: &[u8]| (keys().chunk_id(piece), u32::try_from(piece.len()).unwrap());
    let chunks = [chunk(first), chunk(second)];
    let chunks = if kind == BlockKind::Data { &chunks[..] } else { &[] };
    seal_block_with(&keys(), &REPO, kind, plain, chunks, 3, NONCE).unwrap()
}

fn blocks() -> Value {
    let mut out = Object::new();
    for (name, kind) in KINDS {
        let id = keys().block_id(kind, PLAIN);
        let block = sealed(kind, PLAIN);
        let aad = seal::block_aad(&REPO, kind, Codec::Raw, 9, &id);
        out.insert(
            name.to_owned(),
            json!({
                "plain": hex(PLAIN),
                "id": hex(id.0),
                "key": hex(keys().block_key(0, kind, &id).unwrap().expose()),
                "aad": hex(aad),
                "nonce": hex(NONCE),
                "sealed": hex(&block.sealed),
                "sealed_hash": hex(block.row.sealed_hash),
                "row": hex(minicbor::to_vec(&block.row).unwrap()),
            }),
        );
    }
    out.into()
}

/// The row and bytes of the compressed block as the file has them; made here if it has none.
fn compressed() -> Value {
    let known = &golden()["block_zstd"];
    if known.is_object() {
        return known.clone();
    }
    let block = sealed(BlockKind::Data, &lines());
    json!({
        "plain": hex(lines()),
        "row": hex(minicbor::to_vec(&block.row).unwrap()),
        "sealed": hex(&block.sealed),
    })
}

fn entries() -> Vec<(&'static str, Entry)> {
    let extent = Extent { block: BlockId([0x61; 32]), offset: 5, len: 9, pages: false };
    let inline = Map { inline: encode_extents(&[extent]), ..Map::default() };
    let layered = Map {
        base: Some(BlockId([0x62; 32])),
        patches: Some(vec![BlockId([0x63; 32]), BlockId([0x64; 32])]),
        ..Map::default()
    };
    let xattr = Xattr { name: b"user.comment".to_vec(), value: b"\xff\0".to_vec() };
    vec![
        (
            "file",
            Entry {
                mtime_nanos: 999_999_999,
                uid: 1000,
                gid: 100,
                user: Some("ann".into()),
                group: Some("users".into()),
                xattrs: Some(vec![xattr]),
                flags: flag::CHANGED_WHILE_READ | flag::SPARSE,
                ..file(9, PLAIN, inline)
            },
        ),
        ("file_with_map", Entry { flags: flag::SQLITE, mtime_secs: -1, ..file(9, PLAIN, layered) }),
        ("directory", Entry { mode: 0o700, ..Entry::new(Kind::Dir) }),
        ("symlink", Entry { target: Some(b"../\xfe".to_vec()), ..Entry::new(Kind::Symlink) }),
        ("hard_link", Entry { link: Some(b"agent/a".to_vec()), ..Entry::new(Kind::File) }),
        ("fifo", Entry::new(Kind::Fifo)),
        ("socket", Entry::new(Kind::Socket)),
        ("device", Entry::new(Kind::Device)),
    ]
}

fn leaf() -> Vec<u8> {
    let mut node = NodeWriter::new(0);
    for (path, entry) in [("agent", &entries()[2].1), ("agent/a", &entries()[0].1)] {
        node.push_entry(path.as_bytes(), &minicbor::to_vec(entry).unwrap(), entry.size);
    }
    node.finish()
}

fn inner() -> Vec<u8> {
    let mut node = NodeWriter::new(1);
    for (path, n) in [("agent", 1), ("agent/b", 300)] {
        let id = BlockId([u8::try_from(n % 251).unwrap(); 32]);
        node.push_child(path.as_bytes(), &Child { id, entries: n, bytes: n << 20 });
    }
    node.finish()
}

fn extents() -> (Vec<Extent>, Vec<Extent>) {
    let extent = |n, offset, len| Extent { block: BlockId([n; 32]), offset, len, pages: false };
    let old = vec![extent(0x61, 0, 1 << 20), extent(0x62, 70_000, 5), extent(0x61, 1 << 20, 3)];
    let mut new = old.clone();
    new[1] = extent(0x63, 0, 5);
    new.push(extent(0x64, 128, 300));
    (old, new)
}

/// Trees of `count` FIFOs: the items of each leaf, and the root.
fn tree(count: usize) -> Value {
    let mut leaves = Vec::new();
    let mut builder = TreeBuilder::new(keys().tree_key());
    let mut sink = |plain: Vec<u8>| {
        let id = keys().block_id(BlockKind::Node, &plain);
        if let Node::Leaf(items) = Node::decode(&id, &plain).unwrap() {
            leaves.push(items.len());
        }
        Ok(id)
    };
    for n in 0..count {
        let path = format!("agent/{n:05}");
        builder.push(path.as_bytes(), &Entry::new(Kind::Fifo), &mut sink).unwrap();
    }
    let root = builder.finish(&mut sink).unwrap();
    json!({ "entries": count, "leaves": leaves, "root": hex(root.id.0) })
}

fn table() -> (PackTable, Vec<u8>) {
    let mut pack = PackWriter::new(PackId { op: OP, n: 3 });
    for (_, kind) in KINDS {
        let block = sealed(kind, PLAIN);
        pack.push(block.row, &block.sealed);
    }
    let (table, parts) = pack.finish_with(&keys(), &REPO, &NONCE);
    (table, parts.to_vec())
}

fn objects() -> Value {
    let (table, _) = table();
    let op =
        OpRecord { kind: OpKind::Push, machine: MACHINE, started_secs: 1_700_000_000, beat: 2 };
    let full = Snapshot {
        counter: 7,
        previous: Some(crate::OpId([0x41; 16])),
        previous_hash: Some([0x42; 32]),
        reason: Some("safety".into()),
        ..snapshot_of(OP, BlockId([0x65; 32]))
    };
    let list = CondemnedList { packs: vec![(OP, 0), (OP, 300)] };
    let checked = |n, at_secs, next| CheckedRow { op: OP, n, at_secs, next };
    let verified = Record {
        checked: vec![checked(0, 0, 0), checked(1, 1_700_000_000, 3), checked(300, u64::MAX, 7)],
        found: vec![FoundRow { op: OP, n: 1, block: BlockId([0x61; 32]), since_secs: 0 }],
    };
    let made = |kind, name: &str, payload: Vec<u8>| {
        let object = object::seal_payload(&keys(), &REPO, kind, name, &payload, &NONCE);
        json!({
            "name": name,
            "key": hex(keys().control_key(kind.code()).expose()),
            "aad": hex(seal::control_aad(&REPO, kind.code(), name)),
            "nonce": hex(NONCE),
            "payload": hex(&payload),
            "object_bytes": object.len(),
            "object_head": hex(&object[..64]),
            "object_blake3": hex(blake3::hash(&object).as_bytes()),
        })
    };
    let mark = Mark { op: OP };
    json!({
        "operation": made(ObjectKind::Op, &format!("op/{OP}"), minicbor::to_vec(&op).unwrap()),
        "end": made(ObjectKind::Mark, &format!("end/{OP}"), minicbor::to_vec(&mark).unwrap()),
        "kill": made(ObjectKind::Mark, &format!("kill/{OP}"), minicbor::to_vec(&mark).unwrap()),
        "dead": made(ObjectKind::Mark, &format!("dead/{OP}"), minicbor::to_vec(&mark).unwrap()),
        "pin": made(
            ObjectKind::Mark,
            &crate::pin::object_name(&OP, [0x43; 8]),
            minicbor::to_vec(&mark).unwrap(),
        ),
        "snapshot": made(
            ObjectKind::Snapshot,
            &format!("snap/{OP}"),
            minicbor::to_vec(&full).unwrap(),
        ),
        "snapshot_with_damaged_databases": made(
            ObjectKind::Snapshot,
            &format!("snap/{OP}"),
            minicbor::to_vec(Snapshot {
                damaged: vec![b"agent/b.db".to_vec(), b"agent/\xfe.db".to_vec()],
                ..snapshot_of(OP, BlockId([0x65; 32]))
            })
            .unwrap(),
        ),
        "snapshot_without_options": made(
            ObjectKind::Snapshot,
            &format!("snap/{OP}"),
            minicbor::to_vec(Snapshot { home: None, ..snapshot_of(OP, BlockId([0x65; 32])) }).unwrap(),
        ),
        "index": made(
            ObjectKind::Index,
            &index::object_name(0, &OP, 2),
            minicbor::to_vec(IndexObject { packs: vec![table] }).unwrap(),
        ),
        "verified": made(
            ObjectKind::Verify,
            &coverage::object_name(&OP, 0),
            minicbor::to_vec(&verified).unwrap(),
        ),
        "condemned": made(
            ObjectKind::Gc,
            &format!("gc/{OP}.d"),
            minicbor::to_vec(&list).unwrap(),
        ),
    })
}

fn computed() -> Value {
    let (table, pack) = table();
    let (old, new) = extents();
    let tail = pack.len() - 4;
    let entries: Object<String, Value> = entries()
        .into_iter()
        .map(|(name, entry)| (name.to_owned(), hex(minicbor::to_vec(&entry).unwrap())))
        .collect();
    let padme: Vec<Value> =
        [1, 2, 8, 9, 255, 256, 257, 1000, 4096, 4097, 16_384, 16_385, 100_000, 33_554_433]
            .iter()
            .map(|len| {
                let padded = |floor| crate::padding::padded_len(*len, floor);
                json!([len, padded(0), padded(4 << 10), padded(16 << 10)])
            })
            .collect();
    json!({
        "keyring": "ids 32 * 01, chunker 32 * 02, control 32 * 03, epoch 0: meta 32 * 04, data 32 * 05",
        "repository": hex(REPO.0),
        "chunk_id": { "plain": hex(PLAIN), "id": hex(keys().chunk_id(PLAIN).0) },
        "tree_key": hex(keys().tree_key()),
        "trees": [tree(0), tree(1), tree(500), tree(9_000)],
        "blocks": blocks(),
        "block_zstd": compressed(),
        "pack": {
            "name": table.pack().object_name(),
            "bytes": pack.len(),
            "blake3": hex(blake3::hash(&pack).as_bytes()),
            "head": hex(&pack[..8 + 4 * 25]),
            "tail": hex(&pack[tail..]),
            "table": hex(minicbor::to_vec(&table).unwrap()),
        },
        "objects": objects(),
        "extents": { "old": hex(encode_extents(&old)), "new": hex(encode_extents(&new)) },
        "patch": hex(encode_patch(&old, &new)),
        "leaf": hex(leaf()),
        "inner": hex(inner()),
        "entries": entries,
        "padme": { "columns": ["length", "floor 0", "floor 4096", "floor 16384"], "rows": padme },
    })
}

#[test]
fn the_format_is_what_it_was() {
    let (golden, computed) = (golden(), computed());
    if golden != computed {
        println!("{computed:#}");
    }
    for (key, value) in computed.as_object().unwrap() {
        assert!(golden[key] == *value, "{key} changed; the new file is above");
    }
    assert_eq!(golden, computed);
}

#[test]
fn what_old_versions_stored_still_reads() {
    let golden = golden();
    let block = &golden["block_zstd"];
    let row: BlockRow = minicbor::decode(&unhex(&block["row"])).unwrap();
    assert_eq!(row.codec, Codec::Zstd);
    let plain = open_block(&keys(), &REPO, &row, &unhex(&block["sealed"])).unwrap();
    assert_eq!(hex(&plain), block["plain"]);
    assert_eq!(row.chunks().unwrap().len(), 2);
    for (name, _) in KINDS {
        let block = &golden["blocks"][name];
        let row: BlockRow = minicbor::decode(&unhex(&block["row"])).unwrap();
        assert_eq!(open_block(&keys(), &REPO, &row, &unhex(&block["sealed"])).unwrap(), PLAIN);
    }
    let (old, new) = extents();
    assert_eq!(decode_extents(&unhex(&golden["extents"]["old"])).unwrap(), old);
    assert_eq!(apply_patch(&old, &unhex(&golden["patch"])).unwrap(), new);
    for (name, entry) in entries() {
        let stored = unhex(&golden["entries"][name]);
        assert_eq!(minicbor::decode::<Entry>(&stored).unwrap(), entry, "{name}");
    }
    for (name, items) in [("leaf", 2), ("inner", 2)] {
        let id = BlockId([0; 32]);
        let count = match Node::decode(&id, &unhex(&golden[name])).unwrap() {
            Node::Leaf(items) => items.len(),
            Node::Inner { items, .. } => items.len(),
        };
        assert_eq!(count, items);
    }
}

#[test]
fn a_pack_of_the_vectors_gives_its_table_back() {
    let (table, pack) = table();
    let found = read_trailer(&keys(), &REPO, &table.pack(), pack.len() as u64, |n| {
        Ok(pack[pack.len() - usize::try_from(n).unwrap()..].to_vec().into())
    });
    assert_eq!(found.unwrap(), table);
}

#[test]
fn a_reader_passes_over_fields_it_does_not_know() {
    // {0: 1, 1: 448, ..., 99: "later"} as a later version may write it
    let mut entry = minicbor::to_vec(Entry::new(Kind::Dir)).unwrap();
    assert!((0xa0..0xb7).contains(&entry[0]), "a map with its count in the first byte");
    entry[0] += 1;
    entry.extend_from_slice(&[0x18, 99, 0x65]);
    entry.extend_from_slice(b"later");
    assert_eq!(minicbor::decode::<Entry>(&entry).unwrap(), Entry::new(Kind::Dir));
}
