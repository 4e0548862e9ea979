//! What a push of a changed database costs, counted: every byte that is put, against the limit L
//! (zstd 3 over the changed pages in groups of 16), and every store call.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::push::Pushed;
use rusqlite::Connection;
use store::MemoryStore;
use testkit::RecordingStore;

use crate::support::Bench;
use crate::support::text::{Dice, Writer};

const PAGE: usize = 4096;

/// A bench with one database of some 30 MB that nobody has open.
struct Case {
    bench: Bench,
    store: Arc<RecordingStore>,
    path: PathBuf,
    writer: Writer,
}

impl Case {
    fn new() -> Self {
        let store = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
        let bench = Bench::new(store.clone());
        fs::create_dir_all(bench.source()).unwrap();
        drop(bench.init());
        let path = bench.source().join("agent.db");
        let mut case = Self { bench, store, path, writer: Writer::new(7) };
        case.change("CREATE TABLE message(id TEXT PRIMARY KEY, session INTEGER, body TEXT)", 0);
        case.change("CREATE INDEX by_session ON message(session)", 9_000);
        case
    }

    /// Runs a statement and adds messages, in one connection that is closed then.
    fn change(&mut self, sql: &str, messages: u32) {
        let db = Connection::open(&self.path).unwrap();
        db.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF").unwrap();
        db.execute_batch(sql).unwrap();
        db.execute_batch("BEGIN").unwrap();
        let at: i64 = db.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
        let mut dice = Dice::new(u64::try_from(at).unwrap());
        for n in 0..messages {
            let id = blake3::hash(&dice.bytes(16)).to_hex()[..32].to_owned();
            let long = if n % 40 == 0 { 60_000 } else { 1_500 };
            let body = String::from_utf8(self.writer.lines(long)).unwrap();
            db.execute("INSERT INTO message VALUES(?1, ?2, ?3)", (id, n / 200, body)).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }

    /// Changes the database and pushes; tells what that put into the store, L and the calls.
    fn push(&mut self, sql: &str, messages: u32) -> Cost {
        let before = fs::read(&self.path).unwrap();
        self.change(sql, messages);
        let after = fs::read(&self.path).unwrap();
        self.push_as_it_is(&before, &after)
    }

    fn push_as_it_is(&mut self, before: &[u8], after: &[u8]) -> Cost {
        let (put, calls) = (self.store.bytes_put(), self.store.total());
        let session = self.bench.open().unwrap();
        let pushed = self.bench.push(&session).unwrap();
        assert!(matches!(pushed, Pushed::Made(..)), "something changed");
        let cost = Cost {
            put: self.store.bytes_put() - put,
            limit: limit(before, after),
            calls: self.store.total() - calls,
        };
        let held = self.bench.held(self.store.clone(), &pushed.snapshot().id);
        assert!(held.iter().any(|(_, bytes)| bytes == after), "it comes back as it is");
        cost
    }

    fn first(&mut self) -> Cost {
        let image = fs::read(&self.path).unwrap();
        self.push_as_it_is(&[], &image)
    }
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    put: u64,
    limit: u64,
    calls: usize,
}

impl Cost {
    #[track_caller]
    fn check(&self, percent: u64) {
        self.check_bytes(percent);
        assert!(self.calls <= 12, "{self:?}");
    }

    #[track_caller]
    fn check_bytes(&self, percent: u64) {
        let most = self.limit * percent / 100 + (48 << 10);
        assert!(self.put <= most, "{self:?}: more than {most}");
    }
}

/// zstd 3 over the changed pages in groups of 16.
fn limit(before: &[u8], after: &[u8]) -> u64 {
    let old = before.chunks(PAGE).map(Some).chain(std::iter::repeat(None));
    let changed: Vec<&[u8]> = after
        .chunks(PAGE)
        .zip(old)
        .filter(|(page, old)| Some(*page) != *old)
        .map(|(page, _)| page)
        .collect();
    let groups = changed.chunks(16);
    groups.map(|pages| zstd::bulk::compress(&pages.concat(), 3).unwrap().len() as u64).sum()
}

fn remove_cache(bench: &Bench) {
    let dir: &Path = &bench.dirs().cache;
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
}

const SCATTER: &str =
    "UPDATE message SET body=substr(body, 1, 400) || 'edited' || substr(body, 407)
    WHERE rowid % 90 = 17";
const DELETE: &str = "DELETE FROM message WHERE session IN (2, 30)";

#[test]
fn every_kind_of_day_uploads_what_changed_and_little_more() {
    let mut case = Case::new();
    case.first();
    case.push("SELECT 1", 200).check(105);
    case.push(SCATTER, 0).check(105);
    case.push(DELETE, 300).check(105);
    case.push("DELETE FROM message WHERE session < 5; VACUUM", 0).check(65);
    // the blocks that are in use for a small part are not left to the day after
    case.push("SELECT 1", 200).check(105);
}

#[test]
fn a_lost_cache_uploads_the_map_again_and_no_page() {
    let mut case = Case::new();
    let first = case.first();
    remove_cache(&case.bench);
    let cost = case.push(SCATTER, 0);
    assert!(cost.put < first.put / 8, "{cost:?} after {first:?}");
    cost.check_bytes(120);
}

#[test]
fn a_copy_beside_the_database_costs_its_map() {
    let mut case = Case::new();
    let first = case.first();
    let before = fs::read(&case.path).unwrap();
    fs::write(case.path.with_extension("db.backup"), &before).unwrap();
    let cost = case.push_as_it_is(&before, &before);
    assert!(cost.put < first.put / 50 && cost.put < 48 << 10, "{cost:?} after {first:?}");
}

#[test]
fn a_small_database_that_changes_a_little_is_not_written_again() {
    let mut case = Case::new();
    case.change("DELETE FROM message WHERE session > 0; VACUUM", 0);
    case.first();
    // other files shared its block; what changes is a page or two
    for n in 0..8 {
        let sql = format!("UPDATE message SET body=body || '{n}' WHERE rowid = {}", 3 + n);
        case.push(&sql, 0).check(105);
    }
}

#[test]
fn pages_that_were_written_again_do_not_go_back_to_the_blocks_they_left() {
    let mut case = Case::new();
    case.first();
    // a sixth of each block is what it was, so that sixth is stored a second time
    let most = "UPDATE message SET body=upper(body) WHERE rowid / 12 % 6 > 0";
    case.push(most, 0).check(130);
    // one page or two of each group; the others are looked up
    let few = "UPDATE message SET body='y' || substr(body, 2) WHERE rowid % 40 = 7";
    case.push(few, 0).check(105);
}
