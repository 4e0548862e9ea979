//! A snapshot in memory, and what a tree on the disk looks like.

mod database;
mod fields;
mod hostile;
mod restore;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use repo::{BlockId, Entry, Extent, Kind, OpId, PackId, path_order};

use super::source::Visit;
use super::{Content, Location, Options, Overwrite, Placement, Plan, Report, Result, pull};

const SECS: i64 = 1_600_000_000;
const NANOS: u32 = 123_456_789;

/// How a block of the double is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Short,
    Corrupt,
    Gone,
    Down,
}

type Hook = Box<dyn Fn(usize) + Sync>;

/// A snapshot in memory. Blocks are cut at a fixed length; an entry finds its map by path and hash.
#[derive(Default)]
struct Memory {
    entries: Vec<(Vec<u8>, Entry)>,
    maps: HashMap<Vec<u8>, Vec<Extent>>,
    blocks: HashMap<BlockId, (Location, Bytes)>,
    damage: HashMap<BlockId, Damage>,
    stored: u64,
    runs: Mutex<Vec<Vec<BlockId>>>,
    on_read: Option<Hook>,
    /// Hand entries out as they were put in.
    unsorted: bool,
}

impl Memory {
    /// A block of content; the same content is the same block.
    fn block(&mut self, plain: &[u8]) -> BlockId {
        let id = BlockId(*blake3::hash(plain).as_bytes());
        let len = u32::try_from(plain.len()).unwrap();
        let pack = PackId { op: OpId([7; 16]), n: u32::try_from(self.stored >> 21).unwrap() };
        let location = Location { pack, offset: self.stored, stored_len: len, plain_len: len };
        self.blocks.entry(id).or_insert_with(|| {
            self.stored += u64::from(len);
            (location, Bytes::copy_from_slice(plain))
        });
        id
    }

    fn entry(&mut self, path: impl AsRef<[u8]>, entry: Entry) -> &mut Entry {
        self.entries.push((path.as_ref().to_vec(), entry));
        &mut self.entries.last_mut().unwrap().1
    }

    fn dir(&mut self, path: &str) -> &mut Entry {
        self.entry(path, entry(Kind::Dir, 0o755))
    }

    fn symlink(&mut self, path: &str, target: &str) -> &mut Entry {
        let target = Some(target.as_bytes().to_vec());
        self.entry(path, Entry { target, ..entry(Kind::Symlink, 0o777) })
    }

    fn hard_link(&mut self, path: &str, first: &str) -> &mut Entry {
        let link = Some(first.as_bytes().to_vec());
        self.entry(path, Entry { link, ..entry(Kind::File, 0o644) })
    }

    /// A file in blocks of 64 KiB of its own.
    fn file(&mut self, path: &str, content: &[u8]) -> &mut Entry {
        let mut map = Vec::new();
        for part in content.chunks(64 << 10) {
            let block = self.block(part);
            map.push(Extent {
                block,
                offset: 0,
                len: u32::try_from(part.len()).unwrap(),
                pages: false,
            });
        }
        self.mapped(path, content, map)
    }

    /// A file with a map of the test's choice.
    fn mapped(&mut self, path: impl AsRef<[u8]>, content: &[u8], map: Vec<Extent>) -> &mut Entry {
        let path = path.as_ref();
        let mut new = entry(Kind::File, 0o644);
        new.size = content.len() as u64;
        new.hash = *blake3::hash(content).as_bytes();
        new.map.inline = [b"map of ", path, &new.hash].concat();
        self.maps.insert(new.map.inline.clone(), map);
        self.entry(path, new)
    }

    /// Many small files that share one block.
    fn small_files(&mut self, files: &[(String, Vec<u8>)]) {
        let plain: Vec<u8> = files.iter().flat_map(|(_, content)| content.clone()).collect();
        let block = self.block(&plain);
        let mut offset = 0;
        for (path, content) in files {
            let len = u32::try_from(content.len()).unwrap();
            self.mapped(path, content, vec![Extent { block, offset, len, pages: false }]);
            offset += len;
        }
    }

    fn damage(&mut self, content: &[u8], how: Damage) {
        self.damage.insert(BlockId(*blake3::hash(content).as_bytes()), how);
    }

    fn blocks_read(&self) -> Vec<BlockId> {
        self.runs.lock().unwrap().iter().flatten().copied().collect()
    }
}

fn entry(kind: Kind, mode: u32) -> Entry {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Entry { mode, mtime_secs: SECS, mtime_nanos: NANOS, uid, gid, ..Entry::new(kind) }
}

impl Content for Memory {
    fn entries(&self, visit: &mut Visit<'_>) -> repo::Result<()> {
        let mut all: Vec<_> = self.entries.iter().collect();
        if !self.unsorted {
            all.sort_by(|a, b| path_order(&a.0, &b.0));
        }
        all.into_iter().try_for_each(|(path, entry)| visit(path.clone(), entry.clone()))
    }

    fn extents(&self, entry: &Entry) -> repo::Result<Vec<Extent>> {
        let missing = || repo::Error::Missing { object: "map".into() };
        self.maps.get(&entry.map.inline).cloned().ok_or_else(missing)
    }

    fn location(&self, block: &BlockId) -> Option<Location> {
        let gone = matches!(self.damage.get(block), Some(Damage::Gone));
        self.blocks.get(block).map(|(location, _)| *location).filter(|_| !gone)
    }

    fn read_run(&self, blocks: &[BlockId]) -> repo::Result<Vec<Bytes>> {
        let places: Vec<_> = blocks.iter().map(|block| self.blocks[block].0).collect();
        assert!(places.windows(2).all(|two| two[0].pack == two[1].pack && two[0] < two[1]));
        let n = {
            let mut runs = self.runs.lock().unwrap();
            runs.push(blocks.to_vec());
            runs.len()
        };
        if let Some(hook) = &self.on_read {
            hook(n);
        }
        blocks
            .iter()
            .map(|block| {
                let plain = &self.blocks[block].1;
                match self.damage.get(block) {
                    None | Some(Damage::Gone) => Ok(plain.clone()),
                    Some(Damage::Flip) => {
                        let mut wrong = plain.to_vec();
                        let middle = wrong.len() / 2;
                        wrong[middle] ^= 1;
                        Ok(wrong.into())
                    }
                    Some(Damage::Short) => Ok(plain.slice(..plain.len() - 1)),
                    Some(Damage::Corrupt) => Err(repo::Error::Corrupt {
                        object: format!("block {block}"),
                        what: "does not open".into(),
                    }),
                    Some(Damage::Down) => Err(repo::Error::Store(store::Error::Unavailable {
                        op: "get",
                        name: "pack".into(),
                        detail: "test".into(),
                    })),
                }
            })
            .collect()
    }

    fn matches(&self, block: &BlockId, plain: &[u8]) -> bool {
        blake3::hash(plain).as_bytes() == &block.0
    }

    fn mark_key(&self) -> [u8; 32] {
        [7; 32]
    }

    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool {
        let content = self.blocks.get(block).and_then(|(_, block)| block.get(offset as usize..));
        content.is_some_and(|content| content.starts_with(plain))
    }
}

/// A target, and a tree beside it that no pull may touch.
struct Ground {
    _hold: tempfile::TempDir,
    target: PathBuf,
    outside: PathBuf,
    sentinels: BTreeMap<String, Shape>,
}

impl Ground {
    fn new() -> Self {
        let hold = tempfile::tempdir().unwrap();
        let (target, outside) = (hold.path().join("target"), hold.path().join("outside"));
        fs::create_dir_all(outside.join("dir")).unwrap();
        fs::write(outside.join("sentinel"), "untouched").unwrap();
        fs::write(outside.join("dir/x"), "untouched too").unwrap();
        let sentinels = shapes(&outside);
        Self { _hold: hold, target, outside, sentinels }
    }

    fn options(&self) -> Options {
        let labels = vec![b"r".to_vec()];
        Options { labels, workers: 2, ..Options::new(Placement::Under(self.target.clone())) }
    }

    fn with(&self, overwrite: Overwrite) -> Options {
        Options { overwrite, ..self.options() }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.target.join(below)
    }

    fn read(&self, below: &str) -> Vec<u8> {
        fs::read(self.path(below)).unwrap()
    }

    /// Nothing outside has changed, not even a mode or a time; no temporary file is left inside.
    #[track_caller]
    fn check(&self) {
        assert_eq!(shapes(&self.outside), self.sentinels, "the outside was touched");
        let names = shapes(&self.target);
        let temps: Vec<_> = names.keys().filter(|name| name.contains("agent-backup-tmp")).collect();
        assert!(temps.is_empty(), "temporary files are left: {temps:?}");
    }
}

/// What matters of a thing on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    kind: char,
    mode: u32,
    mtime: (i64, i64),
    nlink: u64,
    content: Vec<u8>,
}

/// Everything below a directory, and the directory itself as "".
fn shapes(path: &Path) -> BTreeMap<String, Shape> {
    let mut all = BTreeMap::new();
    let mut todo = vec![path.to_owned()];
    while let Some(next) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&next) else { continue };
        let (kind, content) = if meta.is_dir() {
            todo.extend(fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
            ('d', Vec::new())
        } else if meta.is_symlink() {
            ('l', fs::read_link(&next).unwrap().into_os_string().into_encoded_bytes())
        } else if meta.file_type().is_fifo() {
            ('p', Vec::new())
        } else {
            ('f', fs::read(&next).unwrap())
        };
        let nlink = if kind == 'd' { 0 } else { meta.nlink() };
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let name = next.strip_prefix(path).unwrap().to_string_lossy().into_owned();
        all.insert(name, Shape { kind, mode: meta.mode() & 0o7777, mtime, nlink, content });
    }
    all
}

fn run(content: &Memory, options: &Options) -> Result<Report> {
    pull(content, options, &(), &AtomicBool::new(false))
}

/// A pull in which everything is restored.
#[track_caller]
fn restore(content: &Memory, options: &Options) -> Report {
    let report = run(content, options).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    report
}

fn problems(report: &Report) -> Vec<String> {
    let name = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    let mut paths: Vec<_> = report.problems.iter().map(|problem| name(&problem.path)).collect();
    paths.sort();
    paths
}

/// Bytes that do not compress or repeat.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn plan(content: &Memory, options: &Options) -> Plan {
    Plan::make(content, options, &AtomicBool::new(false)).unwrap()
}
