//! Writes repositories by hand: trees, maps and snapshots that no push would make, sealed with the
//! right keys.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

use engine::Session;
use repo::keys::BlockKind;
use repo::{
    BlockId, Commit, Entry, Extent, Kind, MachineId, Map, OpId, OpKind, Operation, PackId,
    PackTable, PackWriter, PushStats, RootRecord, Snapshot, encode_extents, path_order, seal_block,
};

/// Content of the two files that every forged tree has, first and last.
pub const HONEST: &[u8] = b"an honest file";

/// Writes a repository by hand.
pub struct Forger<'s> {
    session: &'s Session,
    op: Operation<'s>,
    writer: PackWriter,
    tables: Vec<PackTable>,
    pub entries: Vec<(Vec<u8>, Entry)>,
}

pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

pub fn varints(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        varint(&mut out, *value);
    }
    out
}

/// A leaf with these entries, whatever their paths are and in whatever order.
pub fn leaf(entries: &[(Vec<u8>, Entry)]) -> Vec<u8> {
    let mut out = vec![1, 0];
    varint(&mut out, entries.len() as u64);
    for (path, entry) in entries {
        let coded = minicbor::to_vec(entry).unwrap();
        out.extend(varints(&[0, path.len() as u64]));
        out.extend_from_slice(path);
        varint(&mut out, coded.len() as u64);
        out.extend_from_slice(&coded);
    }
    out
}

/// An inner node over children, each with its first path.
pub fn inner(level: u8, children: &[(&str, BlockId)]) -> Vec<u8> {
    let mut out = vec![1, level];
    varint(&mut out, children.len() as u64);
    for (path, id) in children {
        out.extend(varints(&[0, path.len() as u64]));
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(&id.0);
        out.extend(varints(&[u64::MAX, u64::MAX])); // what lies below, it says
    }
    out
}

pub fn extent(block: BlockId, offset: u32, len: u32) -> Extent {
    Extent { block, offset, len, pages: false }
}

pub fn plain_entry(kind: Kind, mode: u32) -> Entry {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Entry { mode, mtime_secs: 1_700_000_000, uid, gid, ..Entry::new(kind) }
}

impl<'s> Forger<'s> {
    pub fn new(session: &'s Session) -> Self {
        let id = OpId::random();
        let op =
            Operation::announce(session.repo(), id, OpKind::Push, MachineId([7; 16]), 0).unwrap();
        let mut forger = Self {
            session,
            op,
            writer: PackWriter::new(PackId { op: id, n: 0 }),
            tables: Vec::new(),
            entries: Vec::new(),
        };
        forger.entry("r", plain_entry(Kind::Dir, 0o755));
        forger.file("r/!honest", HONEST);
        forger.file("r/~honest", HONEST);
        forger
    }

    pub fn block(&mut self, kind: BlockKind, plain: &[u8]) -> BlockId {
        let repo = self.session.repo();
        let block = seal_block(repo.keys(), repo.id(), kind, plain, &[], 1).unwrap();
        self.writer.push(block.row.clone(), &block.sealed);
        block.row.id
    }

    pub fn data(&mut self, plain: &[u8]) -> BlockId {
        self.block(BlockKind::Data, plain)
    }

    pub fn entry(&mut self, path: impl AsRef<[u8]>, entry: Entry) -> &mut Entry {
        self.entries.push((path.as_ref().to_vec(), entry));
        &mut self.entries.last_mut().unwrap().1
    }

    pub fn dir(&mut self, path: impl AsRef<[u8]>) -> &mut Entry {
        self.entry(path, plain_entry(Kind::Dir, 0o755))
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Entry {
        let target = Some(target.as_bytes().to_vec());
        self.entry(path, Entry { target, ..plain_entry(Kind::Symlink, 0o777) })
    }

    pub fn hard_link(&mut self, path: &str, first: &str) -> &mut Entry {
        let link = Some(first.as_bytes().to_vec());
        self.entry(path, Entry { link, ..plain_entry(Kind::File, 0o644) })
    }

    pub fn file(&mut self, path: impl AsRef<[u8]>, content: &[u8]) -> &mut Entry {
        let block = self.data(content);
        let len = u32::try_from(content.len()).unwrap();
        self.mapped(path, content, &[extent(block, 0, len)])
    }

    /// A file that says it has `content` and has these extents.
    pub fn mapped(
        &mut self,
        path: impl AsRef<[u8]>,
        content: &[u8],
        extents: &[Extent],
    ) -> &mut Entry {
        let map = Map { inline: encode_extents(extents), ..Map::default() };
        self.with_map(path, content, map)
    }

    pub fn with_map(&mut self, path: impl AsRef<[u8]>, content: &[u8], map: Map) -> &mut Entry {
        let (size, hash) = (content.len() as u64, *blake3::hash(content).as_bytes());
        self.entry(path, Entry { size, hash, map, ..plain_entry(Kind::File, 0o644) })
    }

    /// Commits a snapshot of the entries.
    pub fn commit(mut self) -> Snapshot {
        self.entries.sort_by(|a, b| path_order(&a.0, &b.0));
        let root = leaf(&std::mem::take(&mut self.entries));
        self.commit_node(&root)
    }

    /// Commits a snapshot whose root is this node.
    pub fn commit_node(mut self, root: &[u8]) -> Snapshot {
        let tree = self.block(BlockKind::Node, root);
        self.commit_tree(tree, |_| {})
    }

    pub fn commit_tree(mut self, tree: BlockId, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
        let repo = self.session.repo();
        let (table, object) = self.writer.finish(repo.keys(), repo.id());
        repo.store().put(&table.pack().object_name(), vec![object]).unwrap();
        self.tables.push(table);
        self.op.put_index(self.tables, None).unwrap();
        let mut snapshot = snapshot(self.op.id(), tree);
        change(&mut snapshot);
        let (commit, _) = self.op.commit(&snapshot).unwrap();
        assert!(matches!(commit, Commit::Acknowledged(_)));
        snapshot
    }
}

pub fn snapshot(id: OpId, tree: BlockId) -> Snapshot {
    let dir = b"/home/me/r".to_vec();
    Snapshot {
        id,
        machine: MachineId([7; 16]),
        host: "there".into(),
        user: "somebody".into(),
        started_nanos: 1,
        finished_nanos: 2,
        counter: 1,
        previous: None,
        previous_hash: None,
        roots: vec![RootRecord { label: "r".into(), agent: None, dir }],
        tree,
        stats: PushStats::default(),
        program: "0".into(),
        tags: Vec::new(),
        os: "linux".into(),
        home: None,
        reason: None,
        groups: Vec::new(),
        damaged: Vec::new(),
        origin: None,
        instead_of: None,
        gone_roots: Vec::new(),
        imported: None,
    }
}
