//! Databases of tens of MB: several blocks, a map with patches and new bases, blocks of which too
//! little is in use.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use engine::push::{PushOptions, Pushed, push};
use engine::view;
use repo::{BlockId, Entry, Reader};
use rusqlite::{Connection, params};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use store::MemoryStore;

use super::{NAME, integrity};
use crate::support::text::Dice;
use crate::support::{self, Bench, Ears};

/// Dead bytes below which no block is written again, and the part of a block that must live.
const WASTE_BYTES: u64 = 4 << 20;
const LIVE_PART: u64 = 4;

/// A database on one machine, and what it was at each push.
struct Large {
    bench: Bench,
    dice: Dice,
    /// Snapshot and hash of its image.
    kept: Vec<(repo::OpId, [u8; 32])>,
}

/// Hashes what is written to it.
#[derive(Default)]
struct Sink(blake3::Hasher);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Large {
    /// Rows of which each fills about half a page, together so many MiB.
    fn new(seed: u64, page_bytes: u32, mib: u32) -> Self {
        let bench = Bench::new(Arc::new(MemoryStore::new()));
        fs::create_dir_all(bench.source()).unwrap();
        drop(bench.init());
        let mut large = Self { bench, dice: Dice::new(seed), kept: Vec::new() };
        let db = large.connect();
        db.execute_batch(&format!(
            "PRAGMA page_size={page_bytes}; CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB); BEGIN"
        ))
        .unwrap();
        for n in 0..(mib << 20) / 2_000 {
            large.put(&db, n);
        }
        db.execute_batch("COMMIT").unwrap();
        large
    }

    fn path(&self) -> PathBuf {
        self.bench.source().join(NAME)
    }

    fn connect(&self) -> Connection {
        let db = Connection::open(self.path()).unwrap();
        db.execute_batch("PRAGMA synchronous=OFF").unwrap();
        db
    }

    fn put(&mut self, db: &Connection, n: u32) {
        let body = self.dice.bytes(1_950);
        db.execute("REPLACE INTO t VALUES(?1, ?2)", params![n, body]).unwrap();
    }

    fn rows(&self) -> u32 {
        self.connect().query_row("SELECT max(n) FROM t", [], |row| row.get(0)).unwrap()
    }

    fn put_all(&mut self, rows: impl IntoIterator<Item = u32>) {
        let db = self.connect();
        db.execute_batch("BEGIN").unwrap();
        for n in rows {
            self.put(&db, n);
        }
        db.execute_batch("COMMIT").unwrap();
    }

    /// Rows here and there.
    fn scatter(&mut self, count: u32) {
        let rows = self.rows();
        let picks: Vec<u32> = (0..count).map(|_| self.dice.below(rows.into()) as u32).collect();
        self.put_all(picks);
    }

    fn push(&mut self) -> Pushed {
        let ears = Ears::default();
        let (session, stop) = (self.bench.open().unwrap(), AtomicBool::new(false));
        let pushed =
            push(&session, &[self.bench.root()], &PushOptions::default(), &ears, &stop).unwrap();
        assert_eq!(*ears.0.lock().unwrap(), []);
        let image = fs::read(self.path()).unwrap();
        self.kept.push((pushed.snapshot().id, *blake3::hash(&image).as_bytes()));
        pushed
    }

    /// Its entry in a snapshot, and how many bytes of each block it uses, of how many.
    fn entry(&self, pushed: &Pushed) -> (Entry, HashMap<BlockId, (u64, u64)>) {
        let session = self.bench.open().unwrap();
        let path = format!("files/{NAME}");
        let entry = view::entry(&session, pushed.snapshot(), path.as_bytes()).unwrap();
        let reader = Reader::open(session.repo(), None).unwrap();
        let mut used: HashMap<BlockId, (u64, u64)> = HashMap::new();
        for extent in reader.extents(&entry.map).unwrap() {
            let of = reader.location(&extent.block).unwrap().row.plain_len;
            used.entry(extent.block).or_insert((0, of.into())).0 += u64::from(extent.len);
        }
        (entry, used)
    }

    fn check(&self) {
        let session = self.bench.open().unwrap();
        for (id, hash) in &self.kept {
            let mut sink = Sink::default();
            let snapshot = session.snapshot(id).unwrap();
            let path = format!("files/{NAME}");
            view::cat(&session, &snapshot, path.as_bytes(), &mut sink).unwrap();
            assert!(sink.0.finalize().as_bytes() == hash, "{id} reads as something else");
        }
        let (newest, _) = self.kept.last().unwrap();
        let target = self.bench.dir.path().join("target");
        support::restore(&session, &session.snapshot(newest).unwrap(), &target);
        integrity(&target.join("files").join(NAME));
    }
}

#[test]
fn a_map_takes_patches_until_they_are_too_many_or_too_large() {
    let mut large = Large::new(1, 4096, 20);
    let base = |large: &mut Large| {
        let pushed = large.push();
        let map = large.entry(&pushed).0.map;
        (map.base, map.patches.map_or(0, |patches| patches.len()))
    };
    assert_eq!(base(&mut large), (None, 0), "whole blocks: the map is in the entry");
    large.scatter(700);
    let (first, patches) = base(&mut large);
    assert!(first.is_some() && patches == 0);
    for n in 1..=32 {
        large.scatter(2);
        assert_eq!(base(&mut large), (first, n));
    }
    large.scatter(2);
    let (second, patches) = base(&mut large);
    assert!(second != first && patches == 0, "33 patches");
    large.scatter(2);
    assert_eq!(base(&mut large), (second, 1));
    // the same rows every day: the map gets no longer, its patches do
    let rows = large.rows();
    let maps: Vec<_> = (0..6)
        .map(|_| {
            large.put_all((0..rows).step_by(14));
            base(&mut large)
        })
        .collect();
    let folded = maps.iter().position(|(base, _)| *base != second);
    assert!(matches!(folded, Some(2..)), "patches that are half of the map: {maps:?}");
    // the newest and the oldest of each base, and one in the middle
    large.kept = [0, 1, 2, 17, 33, 34, 35, 38, 41].map(|n| large.kept[n]).to_vec();
    large.check();
}

#[test]
fn blocks_of_which_little_is_in_use_are_written_again_from_the_right_pages() {
    for (seed, page_bytes) in [(2, 4096), (3, 1024), (4, 65_536)] {
        let mut large = Large::new(seed, page_bytes, 20);
        large.push();
        let mut rewritten = 0;
        // how many rows of a hundred stay, in stretches of some length
        for (keep, stretch) in [(15, 40), (10, 3), (20, 200), (8, 70)] {
            let (rows, shift) = (large.rows(), large.dice.below(u64::from(stretch)) as u32);
            let third = large.dice.below(2) as u32 * rows / 3;
            let stays = |n: &u32| (n + shift) % stretch * 100 < keep * stretch;
            large.put_all((third..third + rows * 2 / 3).filter(|n| !stays(n)));
            let pushed = large.push();
            let (entry, used) = large.entry(&pushed);
            let dead: u64 = used.values().map(|(live, of)| of - live).sum();
            let sparse = used.values().filter(|(live, of)| live * LIVE_PART < *of).count();
            assert!(dead <= WASTE_BYTES || sparse == 0, "{dead} dead bytes, {sparse} blocks");
            let changed = entry.size * 2 / 3 * u64::from(100 - keep) / 100;
            rewritten += pushed.stats().bytes_new.saturating_sub(changed + changed / 10);
        }
        assert!(rewritten > 1 << 20, "no block was written again: {rewritten}");
        large.check();
    }
}

#[test]
fn a_large_database_lives_through_vacuum_shrinking_and_a_twin() {
    for page_bytes in [1024, 4096] {
        let mut large = Large::new(u64::from(page_bytes), page_bytes, 24);
        large.push();
        let twin = large.bench.source().join("twin.db");
        large.scatter(300);
        fs::copy(large.path(), &twin).unwrap();
        let pushed = large.push();
        // the twin brings no bytes of its own
        assert!(pushed.stats().bytes_new < 4 << 20, "{:?}", pushed.stats());
        for sql in [
            "DELETE FROM t WHERE n % 50 < 20",
            "VACUUM",
            "DELETE FROM t WHERE n > 6000; VACUUM",
            "PRAGMA page_size=8192; VACUUM",
            "CREATE TABLE u AS SELECT * FROM t; CREATE INDEX i ON u(body)",
            "DROP TABLE t; ALTER TABLE u RENAME TO t; VACUUM",
        ] {
            large.connect().execute_batch(sql).unwrap();
            large.push();
        }
        large.check();
    }
}
