//! Row rules through a whole push: what adapters leave out of databases is nowhere in the snapshot,
//! and a database in which that cannot be done is not there either.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::{Adapter, Decision, RowAction, RowMatch, RowRule, RowValues, Rules, builtin};
use engine::Problem;
use engine::pull::{self, Placement, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use repo::flag;
use rusqlite::Connection;
use store::MemoryStore;

use crate::support::{Bench, Ears};

const SECRET: &str = "the canary knows the token";

/// An adapter's rules, as the command line asks them; more row rules may be added meanwhile.
#[derive(Default)]
struct Ruled {
    rules: Option<Arc<Rules>>,
    more: Mutex<Vec<(Vec<u8>, Arc<RowRule>)>>,
}

impl Filter for Ruled {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        match self.rules.as_ref().map(|rules| rules.decide(rel, is_dir)) {
            None | Some(Decision::Include) => Verdict::Include,
            Some(Decision::IncludeSqlite) => Verdict::Sqlite,
            Some(Decision::Walk) => Verdict::Walk,
            Some(_) => Verdict::Skip,
        }
    }

    fn max_file_size(&self) -> Option<u64> {
        None
    }

    fn row_rules(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        let more = self.more.lock().unwrap();
        let more = more.iter().filter(|(of, _)| of == rel).map(|(_, rule)| Arc::clone(rule));
        self.rules.iter().flat_map(|rules| rules.rows(rel)).chain(more).collect()
    }
}

struct Case {
    bench: Bench,
    memory: Arc<MemoryStore>,
    filter: Arc<Ruled>,
}

impl Case {
    fn new(filter: Ruled) -> Self {
        let memory = Arc::new(MemoryStore::new());
        let bench = Bench::new(memory.clone());
        fs::create_dir_all(bench.source()).unwrap();
        drop(bench.init());
        Self { bench, memory, filter: Arc::new(filter) }
    }

    /// The rules of one root of an embedded adapter.
    fn of_agent(id: &str, label: &str) -> Self {
        let agents = builtin();
        let adapter = agents.iter().find(|adapter| adapter.id() == id).unwrap();
        Self::new(Ruled { rules: Some(rules_of(adapter, label)), ..Ruled::default() })
    }

    fn rule(&self, rel: &str, rule: RowRule) {
        self.filter.more.lock().unwrap().push((rel.as_bytes().to_vec(), Arc::new(rule)));
    }

    fn push(&self) -> (Pushed, Vec<Problem>) {
        let scan = ScanRoot {
            label: "files".into(),
            dir: self.bench.source(),
            files: None,
            filter: self.filter.clone(),
        };
        let ears = Ears::default();
        let options =
            PushOptions { database_wait: Duration::from_millis(50), ..PushOptions::default() };
        let roots = [PushRoot { scan, agent: None }];
        let session = self.bench.open().unwrap();
        let pushed = push(&session, &roots, &options, &ears, &AtomicBool::new(false)).unwrap();
        assert!(!self.captures().exists(), "nothing of ours stays on the disk");
        (pushed, ears.0.into_inner().unwrap())
    }

    /// Restores over what was pushed.
    fn pull(&self, pushed: &Pushed, overwrite: pull::Overwrite) -> pull::Report {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        let label = || b"files".to_vec();
        let filter: Arc<dyn Filter> = self.filter.clone();
        let options = pull::Options {
            labels: vec![label()],
            overwrite,
            verify: true,
            filters: [(label(), filter)].into_iter().collect(),
            ..pull::Options::new(Placement::Each(vec![(label(), self.bench.source())]))
        };
        pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap()
    }

    /// Where a push has its copies.
    fn captures(&self) -> PathBuf {
        let mut repos = fs::read_dir(self.bench.dirs().state.join("repos")).unwrap();
        repos.next().unwrap().unwrap().path().join("capture")
    }

    /// Files of a snapshot and their content; the canary is in none of them.
    fn held(&self, pushed: &Pushed) -> Vec<(String, Vec<u8>)> {
        let held = self.bench.held(self.memory.clone(), &pushed.snapshot().id);
        for (name, bytes) in &held {
            assert!(!has(bytes, "canary"), "{name}");
        }
        held
    }

    fn names(&self, pushed: &Pushed) -> Vec<String> {
        self.held(pushed).into_iter().map(|(name, _)| name).collect()
    }

    fn flags(&self, pushed: &Pushed, name: &str) -> u32 {
        let session = self.bench.open().unwrap();
        let reader = repo::Reader::open(session.repo(), None).unwrap();
        let mut flags = None;
        reader
            .walk(&pushed.snapshot().tree, &mut |path, entry| {
                if path == name.as_bytes() {
                    flags = Some(entry.flags);
                }
                Ok(())
            })
            .unwrap();
        flags.unwrap()
    }
}

/// The rules of a root, wherever it would be.
fn rules_of(adapter: &Adapter, label: &str) -> Arc<Rules> {
    let home = tempfile::tempdir().unwrap();
    let dirs = ["Cursor/User", "opencode"].map(|dir| home.path().join(dir));
    for dir in &dirs {
        fs::create_dir_all(dir).unwrap();
    }
    let vars = ["XDG_CONFIG_HOME", "XDG_DATA_HOME"];
    let vars = vars.map(|name| (name.to_owned(), home.path().as_os_str().to_owned()));
    let env = adapters::Env { home: "/home/me".into(), vars: vars.into(), os: adapters::Os::Linux };
    let roots = adapter.resolve(&env);
    let label = format!("{}/{label}", adapter.id());
    Arc::clone(&roots.iter().find(|root| root.label == label).unwrap().rules)
}

fn has(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|part| part == what.as_bytes())
}

fn create(path: &Path, sql: &str) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0").unwrap();
    db.execute_batch(&sql.replace("SECRET", SECRET)).unwrap();
    db
}

/// A sound database with these bytes.
fn opened(dir: &tempfile::TempDir, bytes: &[u8]) -> Connection {
    let path = dir.path().join("image.db");
    fs::write(&path, bytes).unwrap();
    let db = Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    db
}

fn text(db: &Connection, sql: &str) -> String {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn delete_all(table: &str) -> RowRule {
    RowRule { table: table.into(), rows: None, action: RowAction::Delete }
}

const PLAIN: &str =
    "CREATE TABLE t(k TEXT, v TEXT); INSERT INTO t VALUES('a', 'SECRET'), ('b', 'kept')";

fn secret_row() -> RowRule {
    let values = RowValues::Is(vec!["a".into()]);
    let rows = Some(RowMatch { column: "k".into(), values });
    RowRule { rows, ..delete_all("t") }
}

#[test]
fn cursors_logins_are_left_out_and_its_chats_are_not() {
    let case = Case::of_agent("cursor", "user");
    let sql = "CREATE TABLE ItemTable(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
        CREATE TABLE cursorDiskKV(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
        INSERT INTO ItemTable VALUES('cursorAuth/accessToken', 'SECRET a'),
            ('cursorAuth/refreshToken', 'SECRET r'), ('cursorAuth/cachedEmail', 'SECRET e'),
            ('secret://{\"extensionId\":\"x\"}', 'SECRET s'), ('workbench.panel', 'open'),
            ('composer.composerHeaders', '[]');
        INSERT INTO cursorDiskKV VALUES('composerData:1', '{}'), ('bubbleId:1:1', 'hello'),
            ('agentKv:blob:1', 'x'), ('checkpointId:1', 'y')";
    let _live = create(&case.bench.source().join("globalStorage/state.vscdb"), sql);
    let _other = create(&case.bench.source().join("workspaceStorage/1/state.vscdb"), sql);
    let (pushed, problems) = case.push();
    assert_eq!(problems, []);
    let held = case.held(&pushed);
    assert_eq!(held.len(), 2);
    for (name, bytes) in &held {
        let dir = tempfile::tempdir().unwrap();
        let db = opened(&dir, bytes);
        let keys = "SELECT group_concat(key, ' ') FROM (SELECT key FROM ItemTable ORDER BY key)";
        assert_eq!(text(&db, keys), "composer.composerHeaders workbench.panel");
        assert_eq!(text(&db, "SELECT CAST(count(*) AS TEXT) FROM cursorDiskKV"), "4");
        let flags = flag::SQLITE | flag::SQLITE_EDITED | flag::SPARSE;
        assert_eq!(case.flags(&pushed, name), flags);
    }
    assert!(matches!(case.push().0, Pushed::Unchanged(..)), "not read again");
}

#[test]
fn opencodes_logins_are_left_out_and_by_a_rule_of_the_users_its_event_log() {
    let case = Case::of_agent("opencode", "data");
    case.rule("opencode-beta.db", delete_all("event"));
    let db = create(
        &case.bench.source().join("opencode-beta.db"),
        "CREATE TABLE account(id TEXT PRIMARY KEY, email TEXT NOT NULL, url TEXT NOT NULL,
             access_token TEXT NOT NULL, refresh_token TEXT NOT NULL, token_expiry INTEGER);
         CREATE TABLE account_state(id INTEGER PRIMARY KEY, active_account_id TEXT
             REFERENCES account(id) ON DELETE SET NULL);
         CREATE TABLE credential(id TEXT PRIMARY KEY, label TEXT NOT NULL, value TEXT NOT NULL);
         CREATE TABLE session(id TEXT PRIMARY KEY, title TEXT);
         CREATE TABLE event_sequence(aggregate_id TEXT PRIMARY KEY, seq INTEGER NOT NULL);
         CREATE TABLE event(id TEXT PRIMARY KEY, aggregate_id TEXT NOT NULL REFERENCES
             event_sequence(aggregate_id) ON DELETE CASCADE, seq INTEGER, data TEXT NOT NULL);
         CREATE UNIQUE INDEX event_aggregate_seq_idx ON event(aggregate_id, seq);
         INSERT INTO account VALUES('1', 'me@x', 'u', 'SECRET a', 'SECRET r', 7);
         INSERT INTO account_state VALUES(1, '1');
         INSERT INTO credential VALUES('c', 'key', '{\"key\":\"SECRET\"}');
         INSERT INTO session VALUES('s', 'a title');
         INSERT INTO event_sequence VALUES('s', 2000);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
         INSERT INTO event SELECT 'e'||i, 's', i, hex(randomblob(400)) FROM n;",
    );
    let (pushed, problems) = case.push();
    let told: Vec<_> = problems.iter().map(|p| (p.notice, p.what.as_str())).collect();
    assert!(matches!(told[..], [(true, what)] if what.contains("'control_account'")), "{told:?}");
    let held = case.held(&pushed);
    let dir = tempfile::tempdir().unwrap();
    let image = opened(&dir, &held[0].1);
    assert_eq!(
        text(&image, "SELECT email || access_token || refresh_token || token_expiry FROM account"),
        "me@x[left out by agent-backup][left out by agent-backup]7"
    );
    let rest = "SELECT (SELECT count(*) FROM credential) || (SELECT count(*) FROM event) ||
        (SELECT seq FROM event_sequence) || (SELECT active_account_id FROM account_state) ||
        (SELECT title FROM session)";
    assert_eq!(text(&image, rest), "0020001a title");
    let stats = pushed.stats();
    assert!(stats.bytes_stored < 64 << 10, "the log's pages cost nothing: {stats:?}");

    // another row: it is told once what the database lacks, and few pages travel
    db.execute_batch("INSERT INTO session VALUES('t', 'another')").unwrap();
    let (pushed, problems) = case.push();
    assert_eq!(problems, []);
    case.held(&pushed);
    let stats = pushed.stats();
    assert!(stats.files_read == 1 && stats.bytes_new <= 3 * 4096, "{stats:?}");
}

#[test]
fn new_rules_make_an_unchanged_database_be_read_again() {
    let case = Case::new(Ruled::default());
    drop(create(&case.bench.source().join("a.db"), PLAIN));
    let (pushed, _) = case.push();
    let held = case.bench.held(case.memory.clone(), &pushed.snapshot().id);
    assert!(has(&held[0].1, SECRET), "without rules it is whole");
    case.rule("a.db", secret_row());
    let (pushed, problems) = case.push();
    assert_eq!(problems, []);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(text(&opened(&dir, &case.held(&pushed)[0].1), "SELECT v FROM t"), "kept");
    assert!(matches!(case.push().0, Pushed::Unchanged(..)));
    case.filter.more.lock().unwrap().clear();
    let (pushed, _) = case.push();
    let held = case.bench.held(case.memory.clone(), &pushed.snapshot().id);
    assert!(has(&held[0].1, SECRET), "nor is an edited image used when there are no rules");
    assert_eq!(case.flags(&pushed, "files/a.db"), flag::SQLITE);
}

#[test]
fn what_cannot_be_edited_is_not_in_the_snapshot_and_nor_are_its_side_files() {
    let case = Case::new(Ruled::default());
    let at = |name: &str| case.bench.source().join(name);
    fs::write(at("other.txt"), "x").unwrap();
    // locked by its owner; damaged; no database at all; a view
    let locked = create(&at("locked.db"), PLAIN);
    locked.execute_batch("PRAGMA locking_mode=EXCLUSIVE; INSERT INTO t VALUES('c', 'd')").unwrap();
    drop(create(&at("damaged.db"), PLAIN));
    let mut bytes = fs::read(at("damaged.db")).unwrap();
    bytes[100..108].fill(0xee);
    fs::write(at("damaged.db"), bytes).unwrap();
    fs::write(at("json.db"), format!("{{\"token\": \"{SECRET}\"}}")).unwrap();
    fs::write(at("json.db-journal"), SECRET).unwrap();
    let _view = create(
        &at("view.db"),
        "CREATE TABLE u(v); INSERT INTO u VALUES('SECRET'); CREATE VIEW t AS SELECT * FROM u",
    );
    fs::write(at("empty.db"), "").unwrap();
    fs::write(at("empty.db-wal"), SECRET).unwrap();
    for name in ["locked.db", "damaged.db", "json.db", "view.db", "empty.db"] {
        case.rule(name, secret_row());
    }
    for _ in 0..2 {
        let (pushed, problems) = case.push();
        assert_eq!(case.names(&pushed), ["files/empty.db", "files/other.txt"]);
        let mut told: Vec<String> = problems
            .iter()
            .map(|p| format!("{}: {}", String::from_utf8_lossy(&p.path), p.what))
            .collect();
        told.sort();
        assert_eq!(told.len(), 4, "{told:?}");
        for (told, why) in told.iter().zip(["damaged", "begin like", "locked", "a view"]) {
            assert!(told.contains("not in this snapshot") && told.contains(why), "{told}");
        }
        assert!(problems.iter().all(|p| !p.notice), "the snapshot is not complete");
    }
    drop(locked);
    let (pushed, _) = case.push();
    assert!(case.names(&pushed).contains(&"files/locked.db".to_owned()));
}

#[test]
fn a_second_name_of_a_database_is_held_to_its_own_rules() {
    let case = Case::new(Ruled::default());
    let at = |name: &str| case.bench.source().join(name);
    drop(create(
        &at("b.db"),
        "CREATE TABLE t(k, v); INSERT INTO t VALUES('a', 'secret one'), ('b', 'x')",
    ));
    fs::hard_link(at("b.db"), at("a.db")).unwrap(); // the first name has no rules
    fs::hard_link(at("b.db"), at("c.db")).unwrap();
    case.rule("b.db", secret_row());
    case.rule("c.db", secret_row());
    let (pushed, problems) = case.push();
    assert_eq!(problems, []);
    for (name, bytes) in case.held(&pushed) {
        assert_eq!(has(&bytes, "secret one"), name == "files/a.db", "{name}");
    }
    assert!(matches!(case.push().0, Pushed::Unchanged(..)));
}

#[test]
fn what_a_killed_push_left_is_gone_after_the_next() {
    let case = Case::new(Ruled::default());
    drop(create(&case.bench.source().join("a.db"), PLAIN));
    case.rule("a.db", secret_row());
    case.push();
    fs::create_dir(case.captures()).unwrap();
    fs::write(case.captures().join(".tmpAbC"), SECRET).unwrap();
    let db = Connection::open(case.bench.source().join("a.db")).unwrap();
    db.execute_batch("INSERT INTO t VALUES('c', 'd')").unwrap();
    case.push(); // looks that nothing is left
}

#[test]
fn cursors_logins_of_today_are_in_a_state_restored_from_before() {
    let case = Case::of_agent("cursor", "user");
    let sql = "CREATE TABLE ItemTable(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
        CREATE TABLE cursorDiskKV(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
        INSERT INTO ItemTable VALUES('cursorAuth/accessToken', 'SECRET 1'), ('panel', 'open');
        INSERT INTO cursorDiskKV VALUES('composerData:1', 'a chat')";
    let path = case.bench.source().join("globalStorage/state.vscdb");
    drop(create(&path, sql));
    let (pushed, _) = case.push();
    case.held(&pushed);
    let live = Connection::open(&path).unwrap();
    live.execute_batch(&format!(
        "INSERT INTO ItemTable VALUES('cursorAuth/accessToken', '{SECRET} 2'), ('panel', 'shut'),
             ('secret://x', '{SECRET} 3');
         DELETE FROM cursorDiskKV"
    ))
    .unwrap();
    drop(live);
    let report = case.pull(&pushed, pull::Overwrite::IfChanged);
    assert!(report.is_complete() && report.notices.is_empty(), "{report:?}");
    assert_eq!((report.replaced, report.rows_kept, report.verified), (1, 2, 1), "{report:?}");
    let db = Connection::open(&path).unwrap();
    let all =
        "SELECT (SELECT group_concat(key || value, ';') FROM (SELECT * FROM ItemTable ORDER BY 1))
        || (SELECT value FROM cursorDiskKV)";
    let expected = format!("cursorAuth/accessToken{SECRET} 2;panelopen;secret://x{SECRET} 3a chat");
    assert_eq!(text(&db, all), expected);
    assert_eq!(text(&db, "PRAGMA integrity_check"), "ok");
    drop(db);
    // nobody was logged in when it was stored: what is there now stays all the same
    let live = Connection::open(&path).unwrap();
    live.execute_batch("DELETE FROM ItemTable WHERE key GLOB 'cursorAuth/*' OR key GLOB 's*'")
        .unwrap();
    drop(live);
    let (pushed, _) = case.push();
    assert_eq!(case.flags(&pushed, "files/globalStorage/state.vscdb"), flag::SQLITE);
    let live = Connection::open(&path).unwrap();
    live.execute_batch(&format!(
        "INSERT INTO ItemTable VALUES('cursorAuth/accessToken', '{SECRET} 4'), ('panel', 'x')"
    ))
    .unwrap();
    drop(live);
    case.pull(&pushed, pull::Overwrite::IfChanged);
    let expected = format!("cursorAuth/accessToken{SECRET} 4;panelopena chat");
    assert_eq!(text(&Connection::open(&path).unwrap(), all), expected);
}

#[test]
fn opencodes_accounts_get_their_own_tokens_and_an_empty_place_a_list() {
    let case = Case::of_agent("opencode", "data");
    let path = case.bench.source().join("opencode.db");
    drop(create(
        &path,
        "CREATE TABLE account(id TEXT PRIMARY KEY, email TEXT NOT NULL, access_token TEXT NOT NULL,
             refresh_token TEXT NOT NULL);
         CREATE TABLE control_account(email TEXT, url TEXT, access_token TEXT, refresh_token TEXT,
             PRIMARY KEY(email, url));
         CREATE TABLE credential(id TEXT PRIMARY KEY, label TEXT NOT NULL, value TEXT NOT NULL);
         CREATE TABLE session(id TEXT PRIMARY KEY, title TEXT);
         INSERT INTO account VALUES('1', 'me@x', 'SECRET 1', 'SECRET 2'), ('2', 'b@x', 'SECRET 3', 'SECRET 4');
         INSERT INTO control_account VALUES('me@x', 'u', 'SECRET 5', NULL);
         INSERT INTO credential VALUES('c', 'key', 'SECRET 6');
         INSERT INTO session VALUES('s', 'then')",
    ));
    let (pushed, _) = case.push();
    case.held(&pushed);
    let live = Connection::open(&path).unwrap();
    live.execute_batch("UPDATE session SET title='now'; DELETE FROM account WHERE id='2'").unwrap();
    drop(live);
    let report = case.pull(&pushed, pull::Overwrite::IfChanged);
    assert!(report.is_complete() && report.notices.is_empty(), "{report:?}");
    let all =
        "SELECT (SELECT group_concat(id || access_token || refresh_token, ';') FROM account) ||
        (SELECT access_token FROM control_account) || (SELECT value FROM credential) ||
        (SELECT title FROM session)";
    let left = "[left out by agent-backup]";
    let expected = format!("1{SECRET} 1{SECRET} 2;2{left}{left}{SECRET} 5{SECRET} 6then");
    assert_eq!(text(&Connection::open(&path).unwrap(), all), expected);
    assert_eq!(report.blanks.len(), 1);
    assert_eq!(report.blanks[0].fields, ["account.access_token", "account.refresh_token"]);

    fs::remove_file(&path).unwrap();
    let report = case.pull(&pushed, pull::Overwrite::IfChanged);
    assert_eq!(
        report.blanks[0].fields,
        [
            "account.access_token in 2 rows",
            "account.refresh_token in 2 rows",
            "control_account.access_token"
        ]
    );
}

#[test]
fn a_live_database_whose_rows_cannot_be_read_stays_unless_it_is_told_to_go() {
    let case = Case::new(Ruled::default());
    let path = case.bench.source().join("a.db");
    drop(create(&path, PLAIN));
    case.rule("a.db", secret_row());
    let (pushed, _) = case.push();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..108].fill(0xee);
    fs::write(&path, &bytes).unwrap();
    let report = case.pull(&pushed, pull::Overwrite::IfChanged);
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].reason.contains("rows that nobody else has"), "{report:?}");
    assert!(fs::read(&path).unwrap() == bytes, "it is as it was");
    let report = case.pull(&pushed, pull::Overwrite::Always);
    assert!(report.is_complete() && report.notices.len() == 1, "{report:?}");
    assert_eq!(text(&Connection::open(&path).unwrap(), "SELECT group_concat(v) FROM t"), "kept");
}
