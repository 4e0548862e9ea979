//! Pages of real databases come back, their pointers are those SQLite follows, pages that moved
//! together are equal, garbage is refused or comes back; and the vectors of `docs/FORMAT.md`.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::pages::PageFormat;

const FORMAT: &str = include_str!("../../../../docs/FORMAT.md");

/// Numbers that are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 20) % end
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 30) as u8).collect()
    }
}

/// A database as an agent has it: rows, long values, long keys, an index over them, holes.
struct Database {
    dir: TempDir,
    noise: Noise,
    page_size: u64,
    auto_vacuum: bool,
    rows: u64,
}

impl Database {
    fn new(page_size: u32, reserved: u8, auto_vacuum: bool) -> Self {
        let noise = Noise(u64::from(page_size) + u64::from(reserved) + 1);
        let rows = if page_size > 4096 { 150 } else { 400 };
        let page_size = u64::from(page_size);
        let mut db =
            Self { dir: tempfile::tempdir().unwrap(), noise, page_size, auto_vacuum, rows };
        let vacuum = u8::from(auto_vacuum);
        let pragmas = format!("PRAGMA page_size={page_size}; PRAGMA auto_vacuum={vacuum};");
        db.run(&format!("{pragmas} PRAGMA user_version=1;"));
        if reserved > 0 {
            // an empty database: its header and an empty page, whose content starts at the end
            let mut page = fs::read(db.path()).unwrap();
            page[20] = reserved;
            let end = u16::try_from(page_size).unwrap() - u16::from(reserved);
            page[105..107].copy_from_slice(&end.to_be_bytes());
            fs::write(db.path(), page).unwrap();
        }
        db.run(
            "CREATE TABLE first (id INTEGER PRIMARY KEY, body BLOB);
             CREATE TABLE log (id INTEGER PRIMARY KEY, name TEXT, body BLOB);
             CREATE INDEX log_name ON log (name, body);
             CREATE TABLE state (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID;",
        );
        db.fill();
        db
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state.db")
    }

    fn run(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn fill(&mut self) {
        let mut db = Connection::open(self.path()).unwrap();
        let tx = db.transaction().unwrap();
        for n in 0..self.rows.cast_signed() {
            // most rows are short, some are longer than a page, a few fill many
            let len = [20, 20, self.page_size / 3, self.page_size, self.page_size * 4];
            let len = len[self.noise.below(5) as usize];
            let (len, key) = (self.noise.below(len), self.noise.below(self.page_size / 2));
            let (body, key) = (self.noise.bytes(len), self.noise.bytes(key));
            let id = (self.noise.next() >> 8 >> self.noise.below(56)).cast_signed();
            tx.execute("INSERT INTO first VALUES (?1, ?2)", params![n, body]).unwrap();
            tx.execute("REPLACE INTO log VALUES (?1, ?2, ?3)", params![id, format!("{n}"), body])
                .unwrap();
            tx.execute("INSERT INTO state VALUES (?1, ?2)", params![[&key[..], &body].concat(), n])
                .unwrap();
        }
        tx.execute("DELETE FROM log WHERE id % 5 = 0", []).unwrap();
        tx.execute("DELETE FROM first WHERE id % 7 = 0", []).unwrap();
        tx.commit().unwrap();
    }

    fn pages(&self) -> (PageFormat, Vec<Vec<u8>>) {
        read_pages(&self.path())
    }
}

fn read_pages(path: &Path) -> (PageFormat, Vec<Vec<u8>>) {
    let bytes = fs::read(path).unwrap();
    let format = PageFormat::of_header(bytes.first_chunk().unwrap()).unwrap();
    let pages: Vec<_> = bytes.chunks(format.page_size() as usize).map(<[u8]>::to_vec).collect();
    (format, pages)
}

fn databases() -> impl Iterator<Item = Database> {
    [
        (512, 0, false),
        (512, 32, false), // the smallest usable size
        (1024, 0, true),
        (1024, 7, false),
        (4096, 0, false),
        (4096, 255, true),
        (65_536, 0, false),
    ]
    .into_iter()
    .map(|(page_size, reserved, vacuum)| Database::new(page_size, reserved, vacuum))
}

fn numbered(pages: &[Vec<u8>]) -> impl Iterator<Item = (u32, &Vec<u8>)> {
    (1_u32..).zip(pages)
}

/// Normalises and restores; says whether the encoder took the page.
fn round_trip(format: PageFormat, page: &[u8], pgno: u32) -> bool {
    let (mut copy, mut scratch) = (page.to_vec(), vec![0xee; 3]);
    let taken = format.normalise(&mut copy, pgno, &mut scratch);
    if taken {
        format.restore(&mut copy, pgno);
    }
    assert!(copy == page, "page {pgno} of {format:?}, taken: {taken}");
    taken
}

#[test]
fn every_page_of_a_database_comes_back() {
    for db in databases() {
        let (format, pages) = db.pages();
        for (pgno, page) in numbered(&pages) {
            // a pointer map looks like anything: it comes back, but the encoder may refuse it
            let entries = (format.page_size() - u32::from(format.reserved())) / 5;
            let map = db.auto_vacuum && pgno >= 2 && (pgno - 2) % (entries + 1) == 0;
            let taken = round_trip(format, page, pgno);
            assert!(taken || map, "page {pgno} of {format:?} is refused");
        }
    }
}

/// Page numbers by the page that points to them, as SQLite's own walk of the b-trees finds them.
fn pointers_by_sqlite(path: &Path) -> BTreeMap<u32, Vec<u32>> {
    let db = Connection::open(path).unwrap();
    let mut query = db.prepare("SELECT name, path, pageno FROM dbstat").unwrap();
    let rows = query.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?))).unwrap();
    let pages: BTreeMap<(String, String), u32> = rows.map(Result::unwrap).collect();
    let mut pointers: BTreeMap<_, Vec<_>> = pages.values().map(|pgno| (*pgno, vec![])).collect();
    for ((name, path), pgno) in &pages {
        // "/1c2/000/" hangs below "/1c2/"; "/1c2/000+000001" is the second overflow page of cell
        // 000 of "/1c2/"
        let above = |path: &str| path[..=path.rfind('/').unwrap()].to_string();
        let from = match path.split_once('+') {
            Some((_, "000000")) => above(path),
            Some((cell, nth)) => {
                format!("{cell}+{:06x}", u32::from_str_radix(nth, 16).unwrap() - 1)
            }
            None if path == "/" => continue,
            None => above(path.trim_end_matches('/')),
        };
        pointers.get_mut(&pages[&(name.clone(), from)]).unwrap().push(*pgno);
    }
    for to in pointers.values_mut() {
        to.sort_unstable();
    }
    pointers
}

#[test]
fn the_pointers_of_a_page_are_those_that_sqlite_follows() {
    for db in databases() {
        let (format, mut pages) = db.pages();
        let known = pointers_by_sqlite(&db.path());
        let mut count = 0;
        for (pgno, expected) in known {
            let mut found = Vec::new();
            format.each_pointer(&mut pages[pgno as usize - 1], pgno, |to| {
                found.push(to);
                to
            });
            found.retain(|to| *to != 0); // the end of an overflow chain
            found.sort_unstable();
            assert_eq!(found, expected, "page {pgno} of {format:?}");
            count += found.len();
        }
        assert!(count > pages.len() / 2, "{count} pointers in {} pages", pages.len());
    }
}

#[test]
fn a_free_list_that_moved_is_equal() {
    let db = Database::new(1024, 0, false);
    db.run("DELETE FROM first");
    let (format, pages) = db.pages();
    let trunk = u32::from_be_bytes(*pages[0][32..].first_chunk().unwrap());
    let (mut here, mut there) =
        (pages[trunk as usize - 1].clone(), pages[trunk as usize - 1].clone());
    let next = u32::from_be_bytes(*here.first_chunk().unwrap());
    assert_ne!(next, 0, "a free list of two trunk pages");
    there[..4].copy_from_slice(&(next + 1000).to_be_bytes());
    assert!(format.normalise(&mut here, trunk, &mut Vec::new()));
    assert!(format.normalise(&mut there, trunk + 1000, &mut Vec::new()));
    assert!(here == there);
}

/// Percent of the pages of `new` that `old` has too: as they lie, and normalised.
fn shares(old: &(PageFormat, Vec<Vec<u8>>), new: &(PageFormat, Vec<Vec<u8>>)) -> (usize, usize) {
    let normalised = |(format, pages): &(PageFormat, Vec<Vec<u8>>)| -> Vec<Vec<u8>> {
        let each = numbered(pages).map(|(pgno, page)| {
            let mut page = page.clone();
            assert!(format.normalise(&mut page, pgno, &mut Vec::new()));
            page
        });
        each.collect()
    };
    let share = |old: &[Vec<u8>], new: &[Vec<u8>]| {
        let old: HashSet<&[u8]> = old.iter().map(Vec::as_slice).collect();
        new.iter().filter(|page| old.contains(page.as_slice())).count() * 100 / new.len()
    };
    (share(&old.1, &new.1), share(&normalised(old), &normalised(new)))
}

#[test]
fn pages_that_vacuum_moved_are_equal() {
    for (page_size, reserved) in [(512, 0), (1024, 7), (4096, 0), (4096, 32)] {
        // rows of the first table go or come: everything behind them moves
        for change in [
            "DELETE FROM first WHERE id BETWEEN 40 AND 60",
            "INSERT INTO first SELECT id + 2000000, body FROM first LIMIT 9",
        ] {
            let db = Database::new(page_size, reserved, false);
            db.run("VACUUM");
            let old = db.pages();
            db.run(&format!("{change}; VACUUM"));
            let (raw, normalised) = shares(&old, &db.pages());
            println!("{page_size}-{reserved}, {change}: {raw} % as they lie, {normalised} %");
            // leaves without overflow are equal as they lie
            assert!(raw <= 75 && normalised >= 95, "{raw} % as they lie, {normalised} %");
        }
    }
}

/// A b-tree page, or nearly: a type, some cells anywhere, payload lengths of all sizes.
fn garbage(noise: &mut Noise, format: PageFormat) -> Vec<u8> {
    let mut page = noise.bytes(u64::from(format.page_size()));
    // long payloads, so that pointers are many
    page.iter_mut().step_by(3).for_each(|byte| *byte |= 0x80);
    page[0] = [2, 5, 10, 13, 13, 0, 1, 7][noise.below(8) as usize];
    let most = if noise.below(4) == 0 { 1 << 16 } else { 8 };
    let count = noise.below(most);
    page[3..5].copy_from_slice(&(count as u16).to_be_bytes());
    for slot in 4..20 {
        let at = noise.below(u64::from(format.page_size()) + 20) as u16;
        page[2 * slot..2 * slot + 2].copy_from_slice(&at.to_be_bytes());
    }
    page
}

#[test]
fn garbage_comes_back_or_is_refused_untouched() {
    let mut noise = Noise(7);
    for (page_size, reserved) in [(512, 0), (512, 32), (1024, 200), (65_536, 3)] {
        let format = PageFormat::new(page_size, reserved).unwrap();
        let (mut taken, mut refused) = (0, 0);
        for round in 0..if page_size > 1024 { 300 } else { 6_000 } {
            let page = garbage(&mut noise, format);
            let pgno = [1, 2, 300, 0x00ff_ffff, 0x0200_0000, u32::MAX][round % 6];
            if round_trip(format, &page, pgno) {
                taken += 1;
            } else {
                refused += 1;
            }
        }
        println!("{format:?}: {taken} taken, {refused} refused");
        assert!(taken > 100, "{taken} taken, {refused} refused");
        assert!(refused > 100 || page_size > 1024, "{taken} taken, {refused} refused");
    }
}

#[test]
fn damaged_pages_come_back_or_are_refused_untouched() {
    let mut noise = Noise(11);
    for db in databases() {
        let (format, pages) = db.pages();
        for (pgno, page) in numbered(&pages) {
            let mut page = page.clone();
            for _ in 0..=noise.below(4) {
                // in the header and the cell offsets, or anywhere
                let end = if noise.below(2) == 0 { 40 } else { page.len() as u64 };
                page[noise.below(end) as usize] ^= 1 << noise.below(8);
            }
            round_trip(format, &page, pgno);
            round_trip(format, &page, pgno.swap_bytes());
        }
    }
}

proptest! {
    #[test]
    fn noise_of_any_length_never_panics(
        mut page in proptest::collection::vec(any::<u8>(), 500..1030),
        whole: bool,
        pgno: u32,
        reserved in 0_u8..33,
    ) {
        let format = PageFormat::new(512, reserved).unwrap();
        if whole {
            page.truncate(512);
            page.resize(512, 0);
        }
        let taken = round_trip(format, &page, pgno);
        prop_assert!(!taken || page.len() == 512 && pgno > 0);
        format.restore(&mut page, pgno);
    }
}

#[test]
fn a_page_that_points_to_itself_comes_back() {
    let format = PageFormat::new(512, 0).unwrap();
    let normalised = |to: u32, pgno| {
        let mut page = [[&to.to_be_bytes()[..], &[0xab; 508]].concat()].concat();
        assert!(round_trip(format, &page, pgno));
        assert!(format.normalise(&mut page, pgno, &mut Vec::new()));
        u32::from_be_bytes(*page.first_chunk().unwrap())
    };
    assert_eq!(normalised(0, 9), 0);
    assert_eq!(normalised(10, 9), 1);
    assert_eq!(normalised(8, 9), u32::MAX);
    assert_eq!(normalised(9, 9), 0_u32.wrapping_sub(9));
    assert_eq!(normalised(0, 0x00ff_ffff), 0);
}

#[test]
fn what_is_no_database_has_no_format() {
    let mut header = [0; 100];
    header[..16].copy_from_slice(b"SQLite format 3\0");
    let of = |size: u16, reserved| {
        let mut header = header;
        header[16..18].copy_from_slice(&size.to_be_bytes());
        header[20] = reserved;
        PageFormat::of_header(&header).map(|format| (format.page_size(), format.reserved()))
    };
    assert_eq!(of(1, 0), Some((65_536, 0)));
    assert_eq!(of(512, 32), Some((512, 32)));
    assert_eq!(of(512, 33), None);
    assert_eq!(of(4096, 255), Some((4096, 255)));
    for size in [0, 2, 256, 513, 1000, 0xffff] {
        assert_eq!(of(size, 0), None, "{size}");
    }
    header[3] = 0;
    header[16] = 16;
    assert_eq!(PageFormat::of_header(&header), None);
}

/// Rows `| reserved | number | bytes | change | hash |` of the section on pages.
fn vectors() -> Vec<[&'static str; 5]> {
    let section = FORMAT.split("\n### ").find(|s| s.starts_with("SQLite page normalisation\n"));
    let rows = section.expect("a section").lines().filter_map(|line| {
        let mut cells =
            line.strip_prefix('|')?.split('|').map(|cell| cell.trim().trim_matches('`'));
        let row: Vec<_> = cells.by_ref().take(5).collect();
        row[0].parse::<u8>().is_ok().then(|| row.try_into().unwrap())
    });
    rows.collect()
}

/// Puts bytes written as `offset:hex offset:hex` in the page.
fn put(page: &mut [u8], bytes: &str) {
    for part in bytes.split_whitespace() {
        let (at, hex) = part.split_once(':').unwrap();
        let (at, bytes) = (at.parse::<usize>().unwrap(), HEXLOWER.decode(hex.as_bytes()).unwrap());
        page[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

#[test]
fn the_vectors_of_the_format_hold() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 17);
    for [reserved, pgno, bytes, change, hash] in vectors {
        let format = PageFormat::new(512, reserved.parse().unwrap()).unwrap();
        let pgno = pgno.parse().unwrap();
        let mut page: Vec<u8> = (0..512_u32).map(|i| (i % 251) as u8).collect();
        put(&mut page, bytes);
        let raw = page.clone();
        let mut expected = page.clone();
        put(&mut expected, if change == "refused" { "" } else { change });
        let taken = format.normalise(&mut page, pgno, &mut Vec::new());
        let found: Vec<usize> = (0..512).filter(|i| page[*i] != raw[*i]).collect();
        let computed = blake3::hash(&page).to_hex();
        println!("{pgno} {bytes}: {taken}, {found:?} changed, {computed}");
        assert_eq!(taken, change != "refused", "{bytes}");
        assert!(page == expected, "{bytes}");
        assert_eq!(&computed[..32], hash, "{bytes}");
        if taken {
            format.restore(&mut page, pgno);
            assert!(page == raw, "{bytes}");
        }
    }
}
