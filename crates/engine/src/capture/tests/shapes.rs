//! Databases that are hostile, damaged, or of an unusual shape.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use rusqlite::Connection;

use super::super::sqlite::{How, Image, Request};
use super::{Case, Health, add, capture, names, refused};

fn checked(case: &Case, how: How) -> Request {
    Request { check: Some(Duration::from_secs(60)), ..case.request(how) }
}

/// Writes to the schema what SQLite would not take.
fn forge(db: &Connection, sql: &str) {
    db.execute_batch("PRAGMA writable_schema=ON").unwrap();
    db.execute("INSERT INTO sqlite_schema VALUES('table','bad','bad',0,?1)", [sql]).unwrap();
}

#[test]
fn a_schema_that_cannot_be_read_is_captured_and_told() {
    for sql in ["CREATE TABLE bad(", "CREATE VIRTUAL nonsense", ""] {
        let case = Case::new();
        let db = case.make("", 200);
        forge(&db, sql);
        drop(db);
        for how in [How::Closed, How::Live] {
            let (bytes, health) = capture(case.request(how));
            assert!(bytes == fs::read(case.db()).unwrap(), "{sql}");
            assert!(matches!(health, Some(Health::Damaged(_))), "{sql}: {health:?}");
        }
    }
}

#[test]
fn nothing_in_the_file_is_run() {
    let case = Case::new();
    let db = case.make("", 200);
    // each of these fails, or never ends, for whoever runs it
    let endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT n FROM c";
    db.execute_batch(&format!(
        "CREATE VIEW endless AS {endless};
         CREATE VIEW pages AS SELECT load_extension('/tmp/evil.so');
         CREATE VIEW pragma_module_list AS {endless};
         CREATE TRIGGER trap AFTER INSERT ON t BEGIN SELECT count(*) FROM endless; END;
         CREATE TABLE checks(n CHECK (n > 0), m AS (n * 2));
         CREATE VIRTUAL TABLE words USING fts5(body);
         INSERT INTO words VALUES('hello');
         CREATE VIRTUAL TABLE boxes USING rtree(id, a, b);"
    ))
    .unwrap();
    forge(&db, "CREATE VIRTUAL TABLE bad USING a_module_that_nobody_has(x)");
    drop(db);
    let (bytes, health) = capture(checked(&case, How::Closed));
    assert!(bytes == fs::read(case.db()).unwrap());
    assert_eq!(health, Some(Health::Ok));
}

/// A table of the file that has the name of ours must not stand in for it.
#[test]
fn a_table_with_the_name_of_the_table_of_pages_is_no_page() {
    for kind in ["TABLE sqlite_dbpage(data, pgno)", "VIEW sqlite_dbpage AS SELECT 1 data, 1 pgno"] {
        let case = Case::new();
        let db = case.make("", 50);
        db.execute_batch("PRAGMA writable_schema=ON").unwrap();
        let (what, root) = if kind.starts_with("TABLE") { ("table", 2) } else { ("view", 0) };
        db.execute(
            "INSERT INTO sqlite_schema VALUES(?1,'sqlite_dbpage','sqlite_dbpage',?2,?3)",
            (what, root, format!("CREATE {kind}")),
        )
        .unwrap();
        drop(db);
        // captured byte for byte, or refused; never something else
        let mut bytes = Vec::new();
        let taken = Image::open(case.request(How::Closed))
            .and_then(|mut image| image.read_to_end(&mut bytes));
        assert!(taken.is_err() || bytes == fs::read(case.db()).unwrap(), "{kind}");
    }
}

#[test]
fn a_check_says_sound_damaged_or_unknown() {
    let case = Case::new();
    drop(case.make("", 3_000));
    assert_eq!(capture(case.request(How::Closed)).1, None);
    assert_eq!(capture(checked(&case, How::Closed)).1, Some(Health::Ok));
    // a leaf of the table becomes noise
    let mut file = fs::OpenOptions::new().write(true).open(case.db()).unwrap();
    file.seek(SeekFrom::Start(40 * 4096)).unwrap();
    file.write_all(&[0xee; 4096]).unwrap();
    let (bytes, health) = capture(checked(&case, How::Closed));
    assert!(bytes == fs::read(case.db()).unwrap(), "stored as it is");
    let Some(Health::Damaged(messages)) = health else { panic!("{health:?}") };
    assert!((1..=5).contains(&messages.len()), "{messages:?}");
}

#[test]
fn a_check_that_takes_for_ever_is_stopped_and_says_nothing() {
    let case = Case::new();
    let db = case.make("CREATE TABLE slow(n, m NOT NULL AS (n))", 1);
    let rows = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<5000) \
                INSERT INTO slow SELECT n FROM c; PRAGMA writable_schema=ON";
    db.execute_batch(rows).unwrap();
    // a quarter of a second for each row
    let slow = "CREATE TABLE slow(n, m NOT NULL AS (length(hex(zeroblob(50000000)))))";
    db.execute("UPDATE sqlite_schema SET sql=?1 WHERE name='slow'", [slow]).unwrap();
    drop(db);
    let check = Some(Duration::from_millis(1));
    let (bytes, health) = capture(Request { check, ..case.request(How::Closed) });
    assert_eq!(health, Some(Health::Unknown));
    assert!(bytes == fs::read(case.db()).unwrap());
    // nobody waits for a check whose reader has left
    let check = Some(Duration::from_secs(3600));
    drop(Image::open(Request { check, ..case.request(How::Closed) }).unwrap());
}

#[test]
fn reserved_bytes_are_part_of_the_image() {
    let case = Case::new();
    // an empty database whose pages keep 16 bytes for somebody else
    drop(Connection::open(case.db()).unwrap().execute_batch("CREATE TABLE x(y); DROP TABLE x"));
    let mut bytes = fs::read(case.db()).unwrap();
    bytes.truncate(4096);
    bytes[20] = 16;
    bytes[28..32].copy_from_slice(&1_u32.to_be_bytes());
    bytes[32..40].fill(0);
    bytes[105..107].copy_from_slice(&4080_u16.to_be_bytes());
    fs::write(case.db(), bytes).unwrap();
    let db = case.make("PRAGMA journal_mode=WAL", 500);
    let (image, _) = capture(checked(&case, How::Live));
    assert_eq!(image[20], 16);
    assert_eq!(case.rows(&image), 500);
    drop(db);
}

#[test]
fn page_sizes_and_kinds_come_back_whole_while_they_are_open() {
    for bits in 9..=16 {
        for mode in ["WAL", "PERSIST"] {
            let case = Case::new();
            let pragmas = format!(
                "PRAGMA page_size={}; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode={mode}",
                1 << bits
            );
            let db = case.make(&pragmas, 100);
            db.execute_batch(
                "CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; \
                 INSERT INTO w SELECT n, body FROM t; DELETE FROM t WHERE n%3=0",
            )
            .unwrap();
            let image = Image::open(case.request(How::Live)).unwrap();
            assert_eq!(image.page_size, 1 << bits);
            drop(image);
            assert_eq!(case.rows(&capture(case.request(How::Live)).0), 66);
        }
    }
}

/// The page at 1 GiB holds locks, never data. The file is sparse; its hash takes two seconds.
#[test]
fn the_page_at_one_gibibyte_is_zeros_and_in_its_place() {
    const PAGE: u64 = 65_536;
    const LOCK_PAGE: u64 = (1 << 30) / PAGE;
    let case = Case::new();
    drop(case.make("PRAGMA page_size=65536", 10));
    let mut file = fs::OpenOptions::new().read(true).write(true).open(case.db()).unwrap();
    let pages = LOCK_PAGE + 3;
    file.set_len(pages * PAGE).unwrap();
    file.seek(SeekFrom::Start(28)).unwrap();
    file.write_all(&u32::try_from(pages).unwrap().to_be_bytes()).unwrap();
    for page in LOCK_PAGE - 1..pages {
        file.seek(SeekFrom::Start(page * PAGE)).unwrap();
        file.write_all(&[u8::try_from(page + 2 - LOCK_PAGE).unwrap_or(1); 512]).unwrap();
    }
    let mut image = Image::open(case.request(How::Closed)).unwrap();
    let (mut page, mut tail) = (vec![0; 65_536], Vec::new());
    for number in 0..pages {
        image.read_exact(&mut page).unwrap();
        if number >= LOCK_PAGE - 1 {
            tail.push(page[0]);
        }
    }
    assert_eq!(image.read(&mut page).unwrap(), 0);
    assert_eq!(tail, [1, 0, 3, 4]);
}

#[test]
fn what_cannot_be_captured_says_why_and_is_left_as_it_was() {
    let case = Case::new();
    let told = |how| refused(case.request(how));
    let db = case.make("PRAGMA journal_mode=DELETE; PRAGMA cache_size=5", 500);
    // a change that is partly in the file already, and the journal that undoes it
    db.execute_batch("BEGIN; UPDATE t SET body=zeroblob(900)").unwrap();
    let [half, journal] = ["", "-journal"]
        .map(|suffix| fs::read(super::super::sqlite::side_file(&case.db(), suffix)).unwrap());
    assert!(journal.len() > 100_000, "{}", journal.len());
    db.execute_batch("ROLLBACK").unwrap();
    drop(db);
    fs::write(case.db(), &half).unwrap();
    fs::write(super::super::sqlite::side_file(&case.db(), "-journal"), &journal).unwrap();
    let why = told(How::Live);
    assert!(why.contains("stopped in the middle of a change"), "{why}");
    assert_eq!(names(case.db().parent().unwrap()), ["a.db", "a.db-journal"]);
    assert!(fs::read(case.db()).unwrap() == half, "the source was rolled back by us");
    // what is restored like that is whole again when it is opened
    let db = Connection::open(case.db()).unwrap();
    let rows: u32 =
        db.query_row("SELECT count(*) FROM t WHERE body<>zeroblob(900)", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 500);

    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    assert!(told(How::Live).contains("its owner keeps it locked"));
    drop(db);

    let whole = fs::read(case.db()).unwrap();
    fs::write(case.db(), &whole[..whole.len() / 2 / 4096 * 4096]).unwrap();
    assert!(told(How::Closed).contains("it is damaged"), "{}", told(How::Closed));
    let mut header = whole.clone();
    header[18..100].fill(0xee);
    fs::write(case.db(), &header).unwrap();
    assert!(told(How::Closed).contains("header"), "{}", told(How::Closed));
    fs::write(case.db(), b"").unwrap();
    assert!(told(How::Closed).contains("it holds no page"), "{}", told(How::Closed));
    fs::remove_file(case.db()).unwrap();
    refused(case.request(How::Closed));
    assert!(names(case.db().parent().unwrap()).is_empty());
}

#[test]
fn a_log_without_its_shared_memory_and_no_way_to_make_it_is_told() {
    let case = Case::new();
    let db = case.make("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0", 50);
    add(&db, 50..60);
    let [main, log] = ["", "-wal"]
        .map(|suffix| fs::read(super::super::sqlite::side_file(&case.db(), suffix)).unwrap());
    drop(db);
    fs::write(case.db(), main).unwrap();
    fs::write(super::super::sqlite::side_file(&case.db(), "-wal"), log).unwrap();
    // what a directory that nobody may write to does to SQLite, also for root
    let memory = super::super::sqlite::side_file(&case.db(), "-shm");
    std::os::unix::fs::symlink("/nowhere/memory", memory).unwrap();
    let why = refused(case.request(How::Live));
    assert!(why.contains("write to its directory"), "{why}");
    assert_eq!(names(case.db().parent().unwrap()), ["a.db", "a.db-shm", "a.db-wal"]);
}

#[test]
fn a_stale_log_is_what_sqlite_makes_of_it() {
    for log in [&b""[..], &[7; 4096 * 2], b"half a header"] {
        let case = Case::new();
        drop(case.make("PRAGMA journal_mode=WAL", 50));
        let main = fs::read(case.db()).unwrap();
        fs::write(super::super::sqlite::side_file(&case.db(), "-wal"), log).unwrap();
        let (bytes, _) = capture(case.request(How::Live));
        assert!(bytes == main);
        let now = fs::read(super::super::sqlite::side_file(&case.db(), "-wal")).unwrap();
        assert!(now == log, "the log was written to");
    }
}
