//! Rows that an image lacks come back from the live database: all of them, none in the place of
//! another, and whatever the two differ in.

use std::sync::Arc;

use adapters::RowRule;
use rusqlite::Connection;

use super::super::edit::MARKER;
use super::super::regain::{Failed, Regained, blanks, regain};
use super::super::sqlite::How;
use super::edit::{delete, edited, globs, redact, rule, rule_where};
use super::{Case, names};

/// A live database and an image of it without what the rules name.
struct Two {
    case: Case,
    rules: Vec<Arc<RowRule>>,
    image: std::path::PathBuf,
}

impl Two {
    fn new(sql: &str, rules: Vec<Arc<RowRule>>) -> Self {
        let case = Case::new();
        let live = Connection::open(case.db()).unwrap();
        live.execute_batch(sql).unwrap();
        drop(live);
        let (bytes, _) = edited(&case, How::Closed, &rules);
        let image = case.dir.path().join("image.db");
        std::fs::write(&image, bytes).unwrap();
        Self { case, rules, image }
    }

    /// Changes the live database.
    fn live(&self, sql: &str) -> Connection {
        let live = Connection::open(self.case.db()).unwrap();
        live.execute_batch(sql).unwrap();
        live
    }

    fn image(&self, sql: &str) {
        Connection::open(&self.image).unwrap().execute_batch(sql).unwrap();
    }

    fn regain(&self) -> Regained {
        regain(&self.image, &self.case.db(), &self.rules).unwrap()
    }

    /// One text of a sound image; nothing lies beside it.
    fn text(&self, sql: &str) -> String {
        let db = Connection::open(&self.image).unwrap();
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let text = db.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap();
        drop(db);
        assert_eq!(names(self.case.dir.path()), ["image.db", "scratch", "source"]);
        text.unwrap_or_default()
    }
}

const ITEMS: &str = "SELECT group_concat(key || '=' || value, ' ') FROM
    (SELECT key, value FROM ItemTable ORDER BY key)";

fn logins() -> Vec<Arc<RowRule>> {
    vec![rule_where("itemtable", globs("KEY", &["cursorAuth/*", "secret://*"]), delete())]
}

#[test]
fn tokens_that_were_renewed_come_back_and_everything_else_is_as_it_was_stored() {
    let two = Two::new(
        "CREATE TABLE ItemTable(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
         INSERT INTO ItemTable VALUES('cursorAuth/a', 'old a'), ('panel', 'old'),
             ('cursorAuth/r', 'old r'), ('last', 'old')",
        logins(),
    );
    assert_eq!(two.text(ITEMS), "last=old panel=old");
    // the new rows have numbers of rows that the image has, or none at all
    two.live(
        "INSERT INTO ItemTable VALUES('panel', 'new'), ('more', 'new');
         INSERT INTO ItemTable(rowid, key, value) VALUES(2, 'cursorAuth/a', 'new a'),
             (4000, 'cursorAuth/r', x'00ff');
         INSERT INTO ItemTable VALUES('secret://x', NULL)",
    );
    let regained = two.regain();
    assert_eq!(regained, Regained { rows_count: 3, ..Regained::default() });
    let all = "SELECT group_concat(key || '=' || hex(value) || typeof(value), ' ')
        FROM (SELECT key, value FROM ItemTable ORDER BY key)";
    assert_eq!(
        two.text(all),
        "cursorAuth/a=6E65772061text cursorAuth/r=00FFblob last=6F6C64text panel=6F6C64text \
         secret://x=null"
    );
    // once more changes nothing that is there, and says that it did not
    let again = two.regain();
    assert_eq!((again.rows_count, again.lost.len()), (0, 1), "{again:?}");
}

const ACCOUNTS: &str = "CREATE TABLE account(id TEXT PRIMARY KEY, email TEXT, access_token TEXT
        NOT NULL, refresh_token TEXT);
    INSERT INTO account VALUES('1', 'a@x', 'A1', 'R1'), ('2', 'b@x', 'A2', NULL),
        ('3', 'c@x', 'A3', 'R3'), ('4', 'd@x', 'A4', 'R4')";
const TOKENS: &str =
    "SELECT group_concat(id || email || access_token || ifnull(refresh_token, '-'), ' ')
    FROM (SELECT * FROM account ORDER BY id)";

#[test]
fn a_value_comes_back_to_its_own_row_and_what_has_none_is_named() {
    let rules = vec![rule("account", redact(&["access_token", "refresh_token", "nothing"]))];
    let two = Two::new(ACCOUNTS, rules);
    let both = format!("{MARKER}{MARKER}");
    assert_eq!(two.text(TOKENS), format!("1a@x{both} 2b@x{MARKER}- 3c@x{both} 4d@x{both}"));
    let told = blanks(&two.image, &two.rules).unwrap();
    assert_eq!(told, ["account.access_token in 4 rows", "account.refresh_token in 3 rows"]);
    // 1 lies under the number of another now, 3 was logged out, 4 came from a restore elsewhere
    two.live(&format!(
        "DELETE FROM account WHERE id IN ('1', '3');
         INSERT INTO account(rowid, id, email, access_token, refresh_token)
             VALUES(3, '1', 'changed', 'A1 new', NULL), (1, '9', 'z@x', 'A9', 'R9');
         UPDATE account SET access_token='{MARKER}' WHERE id='4'"
    ));
    let regained = two.regain();
    assert_eq!(
        two.text(TOKENS),
        format!("1a@xA1 new- 2b@xA2- 3c@x{both} 4d@x{MARKER}R4"),
        "never the token of another account"
    );
    assert_eq!(
        regained.blanks,
        ["account.access_token in 2 rows", "account.refresh_token"],
        "{regained:?}"
    );
    assert_eq!(regained.rows_count, 4, "{regained:?}");
    // of the account that was added since
    let lost = ["access_token", "refresh_token"];
    let lost = lost.map(|column| format!("1 value of 'account.{column}': it has no place there"));
    assert_eq!(regained.lost, lost);
}

#[test]
fn rows_are_found_by_what_is_unique_else_by_their_number_and_never_by_a_marker() {
    let rules = ["u", "n", "w", "m"].map(|table| rule(table, redact(&["token"])));
    let two = Two::new(
        "CREATE TABLE u(email TEXT NOT NULL, url TEXT, token TEXT, UNIQUE(email, url));
         CREATE TABLE n(token TEXT, note TEXT);
         CREATE TABLE w(a TEXT, b INTEGER, token TEXT, PRIMARY KEY(b, a)) WITHOUT ROWID;
         CREATE TABLE m(rowid TEXT, token TEXT PRIMARY KEY, oid TEXT);
         INSERT INTO u VALUES('a', 'x', 'ua'), ('b', 'x', 'ub');
         INSERT INTO n VALUES('n1', '1'), ('n2', '2');
         INSERT INTO w VALUES('k', 1, 'w1'), ('k', 2, 'w2');
         INSERT INTO m VALUES('r', 'm1', 'o')",
        rules.to_vec(),
    );
    two.live(
        "DELETE FROM u; INSERT INTO u VALUES('b', 'x', 'ub new'), ('a', 'x', 'ua new');
         UPDATE w SET token=token||' new'",
    );
    let regained = two.regain();
    assert_eq!((regained.rows_count, regained.blanks.len()), (7, 0), "{regained:?}");
    let all = "SELECT (SELECT group_concat(email||token) FROM u) || (SELECT
        group_concat(token||note) FROM n) || (SELECT group_concat(b||token) FROM w) ||
        (SELECT token FROM m)";
    assert_eq!(two.text(all), "aua new,bub newn11,n221w1 new,2w2 newm1");
}

#[test]
fn a_log_of_events_comes_back_whole() {
    let two = Two::new(
        "CREATE TABLE event(id TEXT PRIMARY KEY, aggregate_id TEXT NOT NULL, seq INTEGER, data TEXT
             NOT NULL);
         CREATE UNIQUE INDEX event_aggregate_seq_idx ON event(aggregate_id, seq);
         CREATE TABLE credential(id TEXT PRIMARY KEY, value TEXT NOT NULL);
         CREATE TABLE session(id TEXT PRIMARY KEY, title TEXT);
         INSERT INTO credential VALUES('c', '{\"key\":\"K\"}');
         INSERT INTO session VALUES('s', 'a title');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000)
         INSERT INTO event SELECT 'e'||i, 's', i, hex(randomblob(100)) FROM n;",
        vec![rule("event", delete()), rule("credential", delete())],
    );
    two.live("UPDATE session SET title='another'; INSERT INTO event VALUES('x', 't', 1, 'last')");
    let regained = two.regain();
    assert_eq!(regained, Regained { rows_count: 20_002, ..Regained::default() });
    let sum = "SELECT hex(sum(length(data))) || count(*) || max(rowid) FROM event";
    let live: String = two.live("").query_row(sum, [], |row| row.get(0)).unwrap();
    assert_eq!(two.text(sum), live);
    let rest = "SELECT (SELECT title FROM session) || (SELECT value FROM credential)";
    assert_eq!(two.text(rest), "a title{\"key\":\"K\"}");
}

#[test]
fn where_the_two_differ_rows_find_what_place_there_is_and_the_rest_is_told() {
    let rules = ["gone", "wider", "narrow", "mine"].map(|table| rule(table, delete()));
    let two = Two::new(
        "CREATE TABLE gone(v); CREATE TABLE wider(k, v); CREATE TABLE narrow(k TEXT, v TEXT);
         CREATE TABLE mine(k TEXT PRIMARY KEY, v TEXT);
         INSERT INTO gone VALUES('g'); INSERT INTO wider VALUES('k', 'v');
         INSERT INTO narrow VALUES('k', 'v'); INSERT INTO mine VALUES('1', 'live')",
        rules.to_vec(),
    );
    two.image(
        "DROP TABLE gone; ALTER TABLE wider DROP COLUMN v; INSERT INTO mine VALUES('1', 'stored')",
    );
    two.image("DROP TABLE narrow; CREATE TABLE narrow(k TEXT, v TEXT, must TEXT NOT NULL)");
    let regained = two.regain();
    let told = regained.lost.join("; ");
    for words in [
        "1 row of 'gone': it has no such table",
        "column 'v' of 'wider'",
        "1 row of 'narrow'",
        "1 row of 'mine': it has rows of its own",
    ] {
        assert!(told.contains(words), "no {words} in {told}");
    }
    assert_eq!((regained.rows_count, regained.lost.len()), (1, 4), "{told}");
    assert_eq!(two.text("SELECT (SELECT k FROM wider) || (SELECT v FROM mine)"), "kstored");
}

#[test]
fn nothing_that_is_written_in_either_file_runs_and_names_are_only_names() {
    let odd = r#"x"; DROP TABLE kept; --"#;
    let sql = format!(
        "CREATE TABLE kept(v); INSERT INTO kept VALUES('kept');
         CREATE TABLE \"{table}\"(\"{column}\" TEXT, \"select\" TEXT,
             len INTEGER GENERATED ALWAYS AS (length(\"select\")) VIRTUAL);
         CREATE TRIGGER t AFTER INSERT ON \"{table}\" BEGIN DELETE FROM kept; END;
         CREATE TRIGGER u AFTER UPDATE ON \"{table}\" BEGIN DELETE FROM kept; END;
         INSERT INTO \"{table}\" VALUES('a', 'one'), ('b', 'two');
         DELETE FROM kept; INSERT INTO kept VALUES('kept')",
        table = odd.replace('"', "\"\""),
        column = odd.replace('"', "\"\""),
    );
    for action in [delete(), redact(&["select"])] {
        let two = Two::new(&sql, vec![rule_where(odd, globs(odd, &["a*"]), action)]);
        let regained = two.regain();
        assert_eq!(regained, Regained { rows_count: 1, ..Regained::default() });
        let table = odd.replace('"', "\"\"");
        let all = format!(
            "SELECT group_concat(\"select\" || len) || (SELECT v FROM kept) FROM
            (SELECT * FROM \"{table}\" ORDER BY 1)"
        );
        assert_eq!(two.text(&all), "one3,two3kept");
    }
    // a view of that name in the live one is no table of rows
    let two = Two::new("CREATE TABLE t(v); INSERT INTO t VALUES('x')", vec![rule("t", delete())]);
    two.live("DROP TABLE t; CREATE TABLE b(v); CREATE VIEW t AS SELECT v FROM b");
    assert_eq!(two.regain(), Regained::default());
}

#[test]
fn what_lies_in_the_live_log_counts_and_the_header_stays_what_it_was() {
    let two = Two::new(
        "PRAGMA journal_mode=WAL; CREATE TABLE t(v); INSERT INTO t VALUES('old')",
        vec![rule("t", delete())],
    );
    let head = |at: std::ops::Range<usize>| std::fs::read(&two.image).unwrap()[at].to_vec();
    assert_eq!(head(18..20), [2, 2]);
    let live = two.live("PRAGMA wal_autocheckpoint=0; UPDATE t SET v='new'");
    assert_eq!(two.regain().rows_count, 1);
    assert_eq!(head(18..20), [2, 2]);
    drop(live);
    assert_eq!(two.text("SELECT group_concat(v) FROM t"), "new");
}

#[test]
fn a_live_database_that_cannot_be_read_is_an_error_of_its_own_and_the_image_stays_sound() {
    let two = Two::new("CREATE TABLE t(v); INSERT INTO t VALUES('x')", vec![rule("t", delete())]);
    let whole = std::fs::read(two.case.db()).unwrap();
    for damage in [&b"live"[..], &whole[..1024], &[0xee; 4096]] {
        std::fs::write(two.case.db(), damage).unwrap();
        let failed = regain(&two.image, &two.case.db(), &two.rules);
        assert!(matches!(failed, Err(Failed::Live(_))), "{failed:?}");
        assert_eq!(two.text("SELECT 'x' || count(*) FROM t"), "x0");
    }
    std::fs::write(two.case.db(), &whole).unwrap();
    std::fs::write(&two.image, &whole[..1024]).unwrap();
    let failed = regain(&two.image, &two.case.db(), &two.rules);
    assert!(matches!(failed, Err(Failed::Image(_))), "{failed:?}");
}

#[test]
fn a_live_value_that_has_no_place_in_the_image_is_told() {
    let rules = ["gone", "narrow", "mine"].map(|table| rule(table, redact(&["token"])));
    let two = Two::new(
        "CREATE TABLE gone(k TEXT PRIMARY KEY, token TEXT); INSERT INTO gone VALUES('1', 'g');
         CREATE TABLE narrow(k TEXT PRIMARY KEY, token TEXT); INSERT INTO narrow VALUES('1', 'n');
         CREATE TABLE mine(k TEXT PRIMARY KEY, token TEXT);
         INSERT INTO mine VALUES('1', 'live'), ('2', NULL), ('3', 'same')",
        rules.to_vec(),
    );
    two.image("DROP TABLE gone; ALTER TABLE narrow DROP COLUMN token");
    two.image("UPDATE mine SET token='stored' WHERE k='1'"); // it was made without the rule
    let regained = two.regain();
    let lost = ["gone", "narrow", "mine"];
    let lost = lost.map(|table| format!("1 value of '{table}.token': it has no place there"));
    assert_eq!((regained.rows_count, regained.lost), (1, lost.to_vec()));
    assert_eq!(two.text("SELECT group_concat(token) FROM mine"), "stored,same");
}

#[test]
fn rows_that_an_index_of_words_would_lack_stay_out_and_that_is_told() {
    // there was no login when it was stored, or it would not have been
    let sql = "CREATE TABLE login(id INTEGER PRIMARY KEY, name TEXT);
        CREATE VIRTUAL TABLE words USING fts5(name, content='login', content_rowid='id');";
    let two = Two::new(sql, vec![rule("login", delete())]);
    two.live(
        "INSERT INTO login VALUES(1, 'me');
         INSERT INTO words(words) VALUES('rebuild')",
    );
    let regained = two.regain();
    assert_eq!((regained.rows_count, regained.lost.len()), (0, 1), "{regained:?}");
    assert!(regained.lost[0].contains("full-text index 'words'"), "{regained:?}");
    assert_eq!(two.text("SELECT CAST(count(*) AS TEXT) FROM login"), "0");
}
