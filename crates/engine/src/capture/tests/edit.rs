//! Rows and values that adapters leave out: they are nowhere in the image, everything else is, and
//! what cannot be edited is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use adapters::{RowAction, RowMatch, RowRule, RowValues};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::super::edit::{Edit, Edited, MARKER, fingerprint};
use super::super::sqlite::{How, Image, Request, Ways};
use super::{Case, capture, names};
use crate::marks::Tally;

const SECRET: &str = "eyJhbGciOiJ-canary-of-a-token";

pub(super) fn rule_where(table: &str, rows: RowMatch, action: RowAction) -> Arc<RowRule> {
    Arc::new(RowRule { table: table.into(), rows: Some(rows), action })
}

/// For every row.
pub(super) fn rule(table: &str, action: RowAction) -> Arc<RowRule> {
    Arc::new(RowRule { table: table.into(), rows: None, action })
}

pub(super) fn globs(column: &str, globs: &[&str]) -> RowMatch {
    let values = RowValues::Glob(globs.iter().map(ToString::to_string).collect());
    RowMatch { column: column.into(), values }
}

fn is(column: &str, values: &[&str]) -> RowMatch {
    let values = RowValues::Is(values.iter().map(ToString::to_string).collect());
    RowMatch { column: column.into(), values }
}

pub(super) fn redact(columns: &[&str]) -> RowAction {
    RowAction::Redact(columns.iter().map(ToString::to_string).collect())
}

pub(super) fn delete() -> RowAction {
    RowAction::Delete
}

/// What an editor of the VS Code family has, as its embedded adapter sees it.
fn key_value_rules() -> Vec<Arc<RowRule>> {
    vec![rule_where("ItemTable", globs("key", &["cursorAuth/*", "secret://*"]), RowAction::Delete)]
}

/// A database of keys and values with logins in it, some of them changed since.
fn key_value(case: &Case, pragmas: &str, rows: u32) -> Connection {
    let db = Connection::open(case.db()).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch(
        "PRAGMA synchronous=OFF;
         CREATE TABLE ItemTable(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
         CREATE TABLE cursorDiskKV(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);",
    )
    .unwrap();
    let long = format!("{SECRET}{}", SECRET.repeat(700));
    for n in 0..rows {
        let (item, disk) = (format!("workbench.{n}"), format!("bubbleId:{n}"));
        let body = format!("{n} ").repeat(usize::try_from(n % 40).unwrap() * 40 + 1);
        db.execute("INSERT INTO ItemTable VALUES(?1, ?2)", (item, &body)).unwrap();
        db.execute("INSERT INTO cursorDiskKV VALUES(?1, ?2)", (disk, body)).unwrap();
        if n == rows / 2 {
            for key in ["cursorAuth/accessToken", "cursorAuth/refreshToken", "secret://x"] {
                put(&db, key, &long);
                put(&db, key, SECRET); // the long value is in free pages now
            }
        }
    }
    put(&db, "not/cursorAuth/", "this stays");
    db
}

fn put(db: &Connection, key: &str, value: &str) {
    db.execute("INSERT INTO ItemTable VALUES(?1, ?2)", (key, value)).unwrap();
}

fn editing(request: Request, rules: &[Arc<RowRule>]) -> (Request, Edit) {
    let edit = Edit::of(rules, None).unwrap();
    (Request { edit: Some(edit.clone()), ..request }, edit)
}

pub(super) fn edited(case: &Case, how: How, rules: &[Arc<RowRule>]) -> (Vec<u8>, Edited) {
    let (request, edit) = editing(case.request(how), rules);
    let (bytes, _) = capture(request);
    assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    (bytes, edit.done.get().expect("the image is whole").clone())
}

fn refused(case: &Case, rules: &[Arc<RowRule>]) -> String {
    let (request, edit) = editing(case.request(How::Live), rules);
    let why = super::refused(request);
    assert_eq!(edit.done.get(), None);
    assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    why
}

fn has(bytes: &[u8], what: &str) -> bool {
    let (first, what) = (what.as_bytes()[0], what.as_bytes());
    bytes.iter().enumerate().any(|(at, byte)| *byte == first && bytes[at..].starts_with(what))
}

/// Opens an image that passes SQLite's own check, indexes and full-text indexes included.
fn open(case: &Case, image: &[u8]) -> Connection {
    let path = case.dir.path().join("image.db");
    std::fs::write(&path, image).unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", path.display());
    let db = Connection::open_with_flags(uri, flags).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
    db
}

type Dump = BTreeMap<String, Vec<Vec<Value>>>;

/// All rows of all ordinary tables.
fn dump(db: &Connection) -> Dump {
    let query = "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0";
    let mut statement = db.prepare(query).unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows = |table: &String| {
        let table = table.replace('"', "\"\"");
        let mut statement = db.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1")).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    tables.iter().map(|table| (table.clone(), rows(table))).collect()
}

#[test]
fn logins_are_nowhere_in_the_image_and_everything_else_is() {
    for pragmas in [
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0",
        "PRAGMA journal_mode=WAL; PRAGMA page_size=1024; PRAGMA auto_vacuum=FULL",
        "PRAGMA journal_mode=DELETE; PRAGMA page_size=65536; PRAGMA encoding='UTF-8'",
        "PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA page_size=512",
    ] {
        let case = Case::new();
        let db = key_value(&case, pragmas, 400);
        let mut expected = dump(&db);
        let kept = |row: &Vec<Value>| {
            let Value::Text(key) = &row[0] else { return true };
            !key.starts_with("cursorAuth/") && !key.starts_with("secret://")
        };
        expected.get_mut("ItemTable").unwrap().retain(kept);
        let (plain, _) = capture(case.request(How::Live));
        assert!(has(&plain, SECRET), "{pragmas}");
        let (bytes, edited) = edited(&case, How::Live, &key_value_rules());
        assert_eq!(edited, Edited { rows_count: 3, absent: vec![], tally: Tally::default() });
        assert!(!has(&bytes, SECRET) && !has(&bytes, "canary"), "{pragmas}");
        assert_eq!(bytes.len(), plain.len(), "pages stay where they are");
        let image = open(&case, &bytes);
        assert_eq!(dump(&image), expected);
        let (vacuum, before): (i64, i64) = (
            image.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap(),
            db.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap(),
        );
        assert_eq!(vacuum, before);
        assert_eq!(bytes[..28], plain[..28], "the header says what it said");
        assert_eq!(bytes[40..100], plain[40..100]);
    }
}

#[test]
fn the_same_source_gives_the_same_bytes_and_a_new_row_touches_few_pages() {
    let case = Case::new();
    let db = key_value(&case, "PRAGMA journal_mode=WAL", 2_000);
    let (first, _) = edited(&case, How::Live, &key_value_rules());
    let (second, _) = edited(&case, How::Live, &key_value_rules());
    assert!(first == second);
    put(&db, "workbench.new", "one more");
    let (third, _) = edited(&case, How::Live, &key_value_rules());
    let pages = |bytes: &[u8]| bytes.chunks(4096).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (first, third) = (pages(&first), pages(&third));
    let differ = first.iter().zip(&third).filter(|(a, b)| a != b).count();
    // page 1, a leaf of the table and one of its index
    assert!((1..=4).contains(&differ) && third.len() <= first.len() + 1, "{differ}");
    // the agent signs in anew: for the image nothing happened, but for the header and where
    // the rows were
    put(&db, "cursorAuth/accessToken", &SECRET.repeat(3));
    let (fourth, _) = edited(&case, How::Live, &key_value_rules());
    assert!(!has(&fourth, "canary"));
    let differ = third.iter().zip(pages(&fourth)).filter(|(a, b)| **a != *b).count();
    assert!(differ <= 4, "{differ}");
}

#[test]
fn a_value_is_replaced_and_its_row_stays() {
    let case = Case::new();
    let db = Connection::open(case.db()).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode=WAL;
         CREATE TABLE account(id TEXT PRIMARY KEY, email TEXT NOT NULL, kind TEXT,
             access_token TEXT NOT NULL, refresh_token TEXT) WITHOUT ROWID;
         CREATE INDEX by_token ON account(access_token);
         INSERT INTO account VALUES('a', 'me@x', 'oauth', '{SECRET}1', NULL),
             ('b', 'you@x', 'oauth', '{SECRET}2', '{SECRET}3'), ('c', 'it@x', 'none', 'kept', 'kept');
         ANALYZE;"
    ))
    .unwrap();
    let samples = "SELECT count(*) FROM sqlite_stat4";
    assert!(db.query_row(samples, [], |row| row.get::<_, i64>(0)).unwrap() > 0);
    // the case of a table's and a column's name does not matter; that of values does
    let rules = vec![rule_where(
        "Account",
        is("KIND", &["oauth", "NONE"]),
        redact(&["access_token", "Kind", "refresh_token"]),
    )];
    let (bytes, edited) = edited(&case, How::Live, &rules);
    assert_eq!(edited.absent, [""; 0]);
    assert!(!has(&bytes, "canary"));
    let image = open(&case, &bytes);
    let text = |text: &str| Value::Text(text.into());
    let m = || text(MARKER);
    let expected: Vec<Vec<Value>> = vec![
        vec![text("a"), text("me@x"), m(), m(), Value::Null],
        vec![text("b"), text("you@x"), m(), m(), m()],
        vec![text("c"), text("it@x"), text("none"), text("kept"), text("kept")],
    ];
    assert_eq!(dump(&image)["account"], expected);
    let by_index = "SELECT count(*) FROM account INDEXED BY by_token WHERE access_token=?1";
    assert_eq!(image.query_row(by_index, [MARKER], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn a_table_is_emptied_and_its_pages_are_zeros() {
    for pragmas in ["PRAGMA journal_mode=WAL", "PRAGMA auto_vacuum=FULL"] {
        let case = Case::new();
        let db = key_value(&case, pragmas, 50);
        db.execute_batch(&format!(
            "CREATE TABLE event_sequence(id TEXT PRIMARY KEY, seq INTEGER);
             INSERT INTO event_sequence VALUES('s', 3000);
             CREATE TABLE event(id INTEGER PRIMARY KEY, of TEXT NOT NULL
                 REFERENCES event_sequence(id) ON DELETE CASCADE, data TEXT);
             CREATE UNIQUE INDEX by_data ON event(of, data);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000)
             INSERT INTO event SELECT i, 's', '{SECRET}' || i || hex(randomblob(300)) FROM n;"
        ))
        .unwrap();
        let (bytes, edited) = edited(&case, How::Live, &[rule("event", RowAction::Delete)]);
        assert_eq!(edited.rows_count, 3_000);
        assert_eq!(
            bytes.len(),
            capture(case.request(How::Live)).0.len(),
            "pages stay where they are"
        );
        let zeros = bytes.chunks(4096).filter(|page| page.iter().all(|byte| *byte == 0)).count();
        assert!(zeros > 500, "{zeros} of {}", bytes.len() / 4096);
        let rows = dump(&open(&case, &bytes));
        assert!(rows["event"].is_empty());
        assert_eq!(rows["event_sequence"].len(), 1);
        assert_eq!(rows["cursorDiskKV"].len(), 50);
    }
}

#[test]
fn nothing_in_the_file_runs() {
    let case = Case::new();
    let db = key_value(&case, "PRAGMA journal_mode=WAL", 20);
    db.execute_batch(
        "CREATE TABLE trap(n);
         CREATE TABLE child(key TEXT REFERENCES ItemTable(key) ON DELETE CASCADE);
         INSERT INTO child VALUES('cursorAuth/accessToken');
         CREATE TRIGGER a BEFORE DELETE ON ItemTable BEGIN INSERT INTO trap VALUES(old.value); END;
         CREATE TRIGGER b AFTER DELETE ON ItemTable BEGIN SELECT raise(ABORT, 'no'); END;",
    )
    .unwrap();
    let (bytes, edited) = edited(&case, How::Live, &key_value_rules());
    assert_eq!(edited.rows_count, 3);
    let rows = dump(&open(&case, &bytes));
    assert!(rows["trap"].is_empty());
    assert_eq!(rows["child"].len(), 1);
    assert!(!has(&bytes, "canary"));
}

#[test]
fn names_and_values_are_never_sql() {
    let case = Case::new();
    let db = key_value(&case, "", 5);
    let evil = "it\"; DROP TABLE ItemTable; --";
    db.execute_batch(&format!(
        "CREATE TABLE \"{0}\"(\"{0}\" TEXT, 'x' TEXT); INSERT INTO \"{0}\" VALUES('a', '{SECRET}'),('b', 'c')",
        evil.replace('"', "\"\"")
    ))
    .unwrap();
    let before = dump(&db);
    let rules = vec![
        rule_where(evil, is(evil, &["a"]), RowAction::Delete),
        rule_where("ItemTable", is("key", &["' OR 1=1 --"]), RowAction::Delete),
        rule_where("ItemTable", is("\"1\" OR 1", &["1"]), RowAction::Delete),
    ];
    let (bytes, edited) = edited(&case, How::Live, &rules);
    assert_eq!(edited.absent, ["column '\"1\" OR 1' of 'ItemTable'"]);
    assert_eq!(edited.rows_count, 1);
    let after = dump(&open(&case, &bytes));
    assert_eq!(after["ItemTable"], before["ItemTable"]);
    assert_eq!(after[evil].len(), 1);
}

#[test]
fn what_another_version_of_the_agent_lacks_is_named() {
    let case = Case::new();
    drop(key_value(&case, "PRAGMA journal_mode=WAL", 20));
    let rules = vec![
        rule("credential", RowAction::Delete),
        rule_where("ItemTable", globs("name", &["*"]), RowAction::Delete),
        rule_where(
            "ItemTable",
            globs("key", &["cursorAuth/*", "secret*"]),
            redact(&["token", "value"]),
        ),
    ];
    let (bytes, edited) = edited(&case, How::Closed, &rules);
    assert_eq!(
        edited.absent,
        ["table 'credential'", "column 'name' of 'ItemTable'", "column 'token' of 'ItemTable'"]
    );
    assert_eq!(edited.rows_count, 3);
    assert!(!has(&bytes, "canary"));
}

#[test]
fn what_cannot_be_left_out_everywhere_is_an_error() {
    let token = |case: &Case| -> Connection {
        let db = Connection::open(case.db()).unwrap();
        let rows = format!(
            "CREATE TABLE m(id INTEGER PRIMARY KEY, n INTEGER, body TEXT); CREATE TABLE o(body);
             INSERT INTO m VALUES(1, 1, '{SECRET}'), (2, 2, '{SECRET}2');"
        );
        db.execute_batch(&rows).unwrap();
        db
    };
    let all = |action| vec![rule("m", action)];
    for (sql, rules, why) in [
        // full-text indexes that have a copy of the text
        (
            "CREATE VIRTUAL TABLE f USING fts5(body, content = \"m\", content_rowid='id');
             INSERT INTO f(f) VALUES('rebuild')",
            all(RowAction::Delete),
            "table 'm': the full-text index 'f' would keep what is left out",
        ),
        (
            "CREATE VIEW v AS SELECT id, body FROM m;
             CREATE VIRTUAL TABLE f USING fts5(body, content=v, content_rowid='id');
             INSERT INTO f(f) VALUES('rebuild')",
            all(redact(&["body"])),
            "table 'm': the full-text index 'f' would keep what is left out",
        ),
        (
            "CREATE VIRTUAL TABLE search USING fts5(body); INSERT INTO search SELECT body FROM m;
             CREATE TRIGGER t AFTER INSERT ON m BEGIN INSERT INTO Search VALUES(new.body); END",
            all(RowAction::Delete),
            "table 'm': the full-text index 'search' would keep what is left out",
        ),
        ("CREATE VIEW v AS SELECT * FROM m", vec![rule("v", RowAction::Delete)], "a view"),
        (
            "CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f SELECT body FROM m",
            vec![rule("f", RowAction::Delete)],
            "a virtual table",
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f SELECT body FROM m",
            vec![rule("f_content", RowAction::Delete)],
            "may not be modified",
        ),
        // values that the database does not take
        ("", all(redact(&["id"])), "datatype mismatch"),
        ("CREATE UNIQUE INDEX i ON m(body)", all(redact(&["body"])), "UNIQUE"),
        ("CREATE TABLE dbstat(n)", all(RowAction::Delete), "dbstat"),
    ] {
        let case = Case::new();
        token(&case).execute_batch(sql).unwrap();
        let told = refused(&case, &rules);
        assert!(told.contains(why), "{sql}: {told}");
    }
    // an index of another table is no reason
    let case = Case::new();
    token(&case)
        .execute_batch(
            "CREATE VIRTUAL TABLE f USING fts5(body, content='o');
             CREATE VIRTUAL TABLE g USING fts5(m); INSERT INTO g VALUES('words')",
        )
        .unwrap();
    let (bytes, _) = edited(&case, How::Live, &all(RowAction::Delete));
    assert!(!has(&bytes, "canary"));
    let image = open(&case, &bytes);
    let found = "SELECT count(*) FROM g WHERE g MATCH 'words'";
    assert_eq!(image.query_row(found, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_damaged_or_too_large_database_is_an_error() {
    let case = Case::new();
    drop(key_value(&case, "", 400));
    let (request, edit) = editing(case.request(How::Live), &key_value_rules());
    let small = Edit { image_bytes_max: 4096, ..edit };
    let told = super::refused(Request { edit: Some(small), ..request });
    assert!(told.contains("more than 4096"), "{told}");
    assert!(names(&case.scratch()).is_empty());
    let (request, edit) = editing(case.request(How::Live), &key_value_rules());
    assert!(edit.check_room(1 << 60, &case.scratch()).is_err());
    drop(request);

    let mut bytes = std::fs::read(case.db()).unwrap();
    let len = bytes.len();
    bytes[4096..len].chunks_mut(4096).for_each(|page| page[..8].fill(0xaa));
    std::fs::write(case.db(), bytes).unwrap();
    let told = refused(&case, &key_value_rules());
    assert!(told.contains("damaged"), "{told}");
}

#[test]
fn without_the_table_of_pages_and_from_a_clone_rows_are_left_out_too() {
    for (pragmas, ways) in [
        ("PRAGMA journal_mode=WAL", Ways { pages: false, reflink: None, ..Ways::default() }),
        (
            "PRAGMA journal_mode=PERSIST",
            Ways { reflink: Some("--reflink=auto"), ..Ways::default() },
        ),
    ] {
        let case = Case::new();
        let _owner = key_value(&case, pragmas, 300);
        let (request, edit) = editing(case.request(How::Live), &key_value_rules());
        let (bytes, _) = capture(Request { ways, ..request });
        assert!(!has(&bytes, "canary"));
        assert_eq!(edit.done.get().unwrap().rows_count, 3);
        assert_eq!(dump(&open(&case, &bytes))["cursorDiskKV"].len(), 300);
        assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    }
}

#[test]
fn while_an_edited_image_is_read_its_file_has_no_name_and_parts_can_be_read_again() {
    let case = Case::new();
    let _owner = key_value(&case, "PRAGMA journal_mode=WAL", 2_000);
    let (request, _) = editing(case.request(How::Live), &key_value_rules());
    let mut image = Image::open(Request { twice: true, ..request }).unwrap();
    assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    let (mut first, mut again) = (Vec::new(), Vec::new());
    std::io::Read::read_to_end(&mut image, &mut first).unwrap();
    image.again(std::iter::once(4096..12_288).collect());
    std::io::Read::read_to_end(&mut image, &mut again).unwrap();
    assert!(again == first[4096..12_288]);
    assert!(image.finish().0.is_none());
}

#[test]
fn other_rules_have_another_fingerprint() {
    let rules = [
        vec![rule("t", RowAction::Delete)],
        vec![rule("u", RowAction::Delete)],
        vec![rule_where("t", is("c", &["x"]), RowAction::Delete)],
        vec![rule_where("t", globs("c", &["x"]), RowAction::Delete)],
        vec![rule_where("t", globs("c", &["x", "y"]), RowAction::Delete)],
        vec![rule_where("t", globs("d", &["x"]), RowAction::Delete)],
        vec![rule("t", redact(&["c"]))],
        vec![rule("t", RowAction::Delete), rule("t", redact(&["c"]))],
    ];
    let mut prints: Vec<_> = rules.iter().map(|rules| fingerprint(rules)).collect();
    assert_eq!(fingerprint(&rules[0]), prints[0]);
    assert_eq!(fingerprint(&[]), None);
    prints.push(None);
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), rules.len() + 1);
}
