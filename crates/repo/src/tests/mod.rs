//! Tests of the crate as a whole, on repositories in memory.
//!
//! Here: a fixed keyring and a small repository with one of everything, written with the crate's own
//! writers and read back the way a restore reads.

mod caches;
mod damage;
mod gc;
mod gc_pairs;
mod gc_year;
mod golden;
mod hostile;
mod operations;
mod packs;
mod pages;
mod pins;
mod repair;
mod stories;
mod trees;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use store::{MemoryStore, Store};

use crate::config::{Config, Params};
use crate::keys::{BlockKind, Epoch, Keyring, Secret};
use crate::{
    Cache, Commit, Entry, Error, Extent, Kind, MachineId, Map, OpId, OpKind, Operation, PackId,
    PackWriter, PushStats, Reader, RepoId, Repository, Result, RootRecord, Snapshot, TreeBuilder,
    TreeRoot, encode_extents, seal_block,
};

const REPO: RepoId = RepoId([0x10; 16]);
const MACHINE: MachineId = MachineId([0x30; 16]);
const OP: OpId = OpId([0x40; 16]);
const LEVEL: i32 = 3;

/// The content of every file, by path.
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

fn keyring() -> Keyring {
    let secret = |n: u8| Secret::new([n; 32]);
    Keyring {
        ids: secret(1),
        chunker: secret(2),
        control: secret(3),
        epochs: vec![Epoch { meta: secret(4), data: secret(5) }],
    }
}

fn params() -> Params {
    Params {
        chunk_bytes_min: 1 << 10,
        chunk_bytes_avg: 4 << 10,
        chunk_bytes_max: 16 << 10,
        block_bytes_data: 64 << 10,
        block_bytes_pages: 64 << 10,
        zstd_level: LEVEL,
    }
}

/// Makes a repository in `store` with the fixed keyring.
fn create(store: &dyn Store, id: RepoId) {
    let config = Config::new(id, params(), 1_700_000_000).unwrap();
    store.put("config", vec![config.encode(&keyring()).into()]).unwrap();
}

/// Opens it, every check of `config` included.
fn open(store: Arc<dyn Store>) -> Result<Repository> {
    let config = Repository::read_config(store.as_ref())?;
    Repository::open(store, config, keyring())
}

fn fresh() -> (MemoryStore, Repository) {
    let store = MemoryStore::new();
    create(&store, REPO);
    let repo = open(Arc::new(store.clone())).unwrap();
    (store, repo)
}

/// Blocks on their way into packs.
struct Blocks<'r> {
    repo: &'r Repository,
    writer: PackWriter,
}

impl<'r> Blocks<'r> {
    fn new(repo: &'r Repository, op: OpId, n: u32) -> Self {
        Self { repo, writer: PackWriter::new(PackId { op, n }) }
    }

    fn add(
        &mut self,
        kind: BlockKind,
        plain: &[u8],
        chunk_lens: &[usize],
    ) -> Result<crate::BlockId> {
        let (keys, mut chunks, mut at) = (self.repo.keys(), Vec::new(), 0);
        for len in chunk_lens {
            chunks.push((keys.chunk_id(&plain[at..at + len]), u32::try_from(*len).unwrap()));
            at += len;
        }
        let block = seal_block(keys, self.repo.id(), kind, plain, &chunks, LEVEL)?;
        self.writer.push(block.row.clone(), &block.sealed);
        Ok(block.row.id)
    }

    /// Uploads the pack and returns its table.
    fn put(self) -> Result<crate::PackTable> {
        let (table, parts) = self.writer.finish(self.repo.keys(), self.repo.id());
        self.repo.store().put(&table.pack().object_name(), vec![parts])?;
        Ok(table)
    }
}

fn file(size: usize, content: &[u8], map: Map) -> Entry {
    Entry {
        mode: 0o600,
        mtime_secs: 1_700_000_000,
        size: size as u64,
        hash: *blake3::hash(content).as_bytes(),
        map,
        ..Entry::new(Kind::File)
    }
}

fn build_tree(
    repo: &Repository,
    entries: &[(Vec<u8>, Entry)],
    sink: &mut dyn FnMut(Vec<u8>) -> Result<crate::BlockId>,
) -> Result<TreeRoot> {
    let mut builder = TreeBuilder::new(repo.keys().tree_key());
    for (path, entry) in entries {
        builder.push(path, entry, sink)?;
    }
    builder.finish(sink)
}

fn snapshot_of(id: OpId, tree: crate::BlockId) -> Snapshot {
    Snapshot {
        id,
        machine: MACHINE,
        host: "laptop".into(),
        user: "ann".into(),
        started_nanos: 1_700_000_000_000_000_001,
        finished_nanos: 1_700_000_060_000_000_002,
        counter: 1,
        previous: None,
        previous_hash: None,
        roots: vec![RootRecord {
            label: "agent".into(),
            agent: Some("agent".into()),
            dir: b"/home/ann/.agent".to_vec(),
        }],
        tree,
        stats: PushStats { entries: 5, ..PushStats::default() },
        program: "0.1.0".into(),
        tags: vec!["first".into()],
        os: "linux".into(),
        home: Some(b"/home/ann".to_vec()),
        reason: None,
        groups: Vec::new(),
        damaged: Vec::new(),
        origin: None,
        instead_of: None,
        gone_roots: Vec::new(),
        imported: None,
    }
}

/// Pushes a small tree with one of everything under the id `op`: a shared data block, an inline map,
/// a base map with a patch, a directory, a link. Returns the snapshot's fate and what it holds.
fn push(repo: &Repository, op: OpId) -> Result<(Commit, Files)> {
    let operation = Operation::announce(repo, op, OpKind::Push, MACHINE, 1_700_000_000)?;
    operation.survey(None)?;
    let text = b"{\"type\":\"user\",\"text\":\"one of many lines\"}\n".repeat(40);
    let (small, large) = text.split_at(300);
    let mut data = Blocks::new(repo, op, 0);
    let block = data.add(BlockKind::Data, &text, &[300, text.len() - 300])?;
    let patched = b"eleven bytes".to_vec();
    let other = data.add(BlockKind::Data, &patched, &[patched.len()])?;
    let mut tables = vec![data.put()?];

    let mut meta = Blocks::new(repo, op, 1);
    let extent = |block, offset: usize, len: usize| Extent {
        block,
        offset: u32::try_from(offset).unwrap(),
        len: u32::try_from(len).unwrap(),
        pages: false,
    };
    let inline = Map { inline: encode_extents(&[extent(block, 0, 300)]), ..Map::default() };
    let old = [extent(block, 300, large.len())];
    let new = [old[0], extent(other, 0, patched.len())];
    let base = meta.add(BlockKind::Map, &encode_extents(&old), &[])?;
    let patch = meta.add(BlockKind::Patch, &crate::map::encode_patch(&old, &new), &[])?;
    let layered = Map { base: Some(base), patches: Some(vec![patch]), ..Map::default() };
    let grown = [large, &patched].concat();
    let entries = [
        (b"agent".to_vec(), Entry { mode: 0o700, ..Entry::new(Kind::Dir) }),
        (b"agent/a.json".to_vec(), file(small.len(), small, inline)),
        (b"agent/b.jsonl".to_vec(), file(grown.len(), &grown, layered)),
        (b"agent/empty".to_vec(), file(0, b"", Map::default())),
        (
            b"agent/link".to_vec(),
            Entry { target: Some(b"a.json".to_vec()), ..Entry::new(Kind::Symlink) },
        ),
    ];
    let tree = build_tree(repo, &entries, &mut |node| meta.add(BlockKind::Node, &node, &[]))?;
    tables.push(meta.put()?);
    operation.put_index(tables, None)?;
    let (commit, _) = operation.commit(&snapshot_of(op, tree.id))?;
    let files = Files::from([
        (b"agent/a.json".to_vec(), small.to_vec()),
        (b"agent/b.jsonl".to_vec(), grown),
        (b"agent/empty".to_vec(), Vec::new()),
    ]);
    Ok((commit, files))
}

/// Restores one snapshot: every file, checked against the hash in its entry.
fn restore(repo: &Repository, cache: Option<&Cache>, id: &OpId) -> Result<Files> {
    let (snapshot, _) = repo.snapshot(cache, id)?;
    let reader = Reader::open(repo, cache)?;
    let mut entries = Vec::new();
    reader.walk(&snapshot.tree, &mut |path, entry| {
        entries.push((path, entry));
        Ok(())
    })?;
    let mut files = Files::new();
    for (path, entry) in entries.into_iter().filter(|(_, e)| e.kind == Kind::File) {
        let mut content = Vec::new();
        for e in reader.extents(&entry.map)? {
            let plain = reader.read(&e.block)?;
            let range = e.offset as usize..(e.offset + e.len) as usize;
            let bad = || Error::corrupt("content map", "it reaches past a block");
            content.extend_from_slice(plain.get(range).ok_or_else(bad)?);
        }
        if blake3::hash(&content) != blake3::Hash::from_bytes(entry.hash) {
            return Err(Error::corrupt(String::from_utf8_lossy(&path), "other bytes"));
        }
        files.insert(path, content);
    }
    Ok(files)
}

/// Every table the index has.
fn index_tables(repo: &Repository) -> Vec<crate::PackTable> {
    let mut tables = Vec::new();
    repo.each_index_object(None, &mut crate::repository::stop, &mut |listed| {
        tables.extend(listed.object.packs);
        Ok(())
    })
    .unwrap();
    tables
}

#[test]
fn what_was_pushed_comes_back() {
    let (_, repo) = fresh();
    let (commit, files) = push(&repo, OP).unwrap();
    assert!(matches!(commit, Commit::Acknowledged(_)));
    assert_eq!(restore(&repo, None, &OP).unwrap(), files);
    assert_eq!(repo.snapshots(None).unwrap().len(), 1);
}
