//! Databases come back: sound or not at all, whole whatever stops the swap, never under somebody's
//! feet.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use repo::flag;
use rusqlite::Connection;

use super::*;
use crate::pull::holders;
use crate::pull::swap::{Step, swap};
use crate::pull::target::{Over, Target, Temp};

/// Rows of a database of the tests.
const ROWS: u32 = 400;

/// Makes a database in which every row and one more table have the same version.
fn database(path: &Path, pragmas: &str, version: u32) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch(
        "BEGIN; CREATE TABLE t(n INTEGER PRIMARY KEY, version INTEGER, body BLOB);
         CREATE INDEX by_body ON t(body);
         CREATE TABLE total(version INTEGER)",
    )
    .unwrap();
    db.execute("INSERT INTO total VALUES(?1)", [version]).unwrap();
    let body = noise(version.into(), 300);
    for n in 0..ROWS {
        db.execute("INSERT INTO t VALUES(?1, ?2, ?3)", (n, version, &body)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    db
}

/// Moves every row to another version, in the middle of a transaction if `open`.
fn update(db: &Connection, version: u32, open: bool) {
    db.execute_batch("BEGIN").unwrap();
    db.execute("UPDATE total SET version = ?1", [version]).unwrap();
    db.execute("UPDATE t SET version = ?1, body = ?2", (version, noise(version.into(), 300)))
        .unwrap();
    if !open {
        db.execute_batch("COMMIT").unwrap();
    }
}

/// The bytes of a database that is closed.
pub(super) fn image(version: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    drop(database(&dir.path().join("db"), "PRAGMA journal_mode = DELETE", version));
    fs::read(dir.path().join("db")).unwrap()
}

/// Copies a database with its log and journal, as a kill leaves them.
fn copy_files(from: &Path, to: &Path) {
    for side in ["", "-wal", "-journal"] {
        let name = |dir: &Path| dir.join(format!("db{side}"));
        if name(from).exists() {
            fs::copy(name(from), name(to)).unwrap();
        }
    }
}

/// The version of the database in a directory. Opens a copy: looking changes nothing. `Err` if it is
/// a mixture, damaged, or none.
fn version(dir: &Path) -> std::result::Result<u32, String> {
    let copy = tempfile::tempdir().unwrap();
    copy_files(dir, copy.path());
    let look = || -> rusqlite::Result<(String, u32, u32, u32, u32)> {
        let db = Connection::open(copy.path().join("db"))?;
        let check = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let total = db.query_row("SELECT version FROM total", [], |row| row.get(0))?;
        db.query_row("SELECT count(*), min(version), max(version) FROM t", [], |row| {
            Ok((check, total, row.get(0)?, row.get(1)?, row.get(2)?))
        })
    };
    match look() {
        Ok((check, total, rows, min, max))
            if check == "ok" && rows == ROWS && min == total && max == total =>
        {
            Ok(total)
        }
        other => Err(format!("{other:?}")),
    }
}

/// Version 2 of a database, part of it only in its log, as a killed program leaves it.
fn with_log(to: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0";
    let db = database(&dir.path().join("db"), pragmas, 1);
    db.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).unwrap();
    update(&db, 2, false);
    copy_files(dir.path(), to);
    assert!(to.join("db-wal").exists());
}

/// Version 2 of a database, killed in the middle of the change to version 3: its main file is torn.
fn with_journal(to: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let db = database(&dir.path().join("db"), "PRAGMA journal_mode = DELETE", 2);
    db.execute_batch("PRAGMA cache_size = 5").unwrap();
    update(&db, 3, true);
    copy_files(dir.path(), to);
    assert!(to.join("db-journal").exists());
}

/// Swaps version 7 in, and stops after so many steps. The steps that were done.
fn swap_until(dir: &Path, stop: usize) -> Vec<Step> {
    let target = Target::open(dir, false).unwrap().unwrap();
    let (new, mut file) = Temp::file(target.root()).unwrap();
    file.write_all(&image(7)).unwrap();
    let mut steps = Vec::new();
    let ended = swap(new, b"db", Over::Anything, &mut |step| {
        steps.push(step);
        if steps.len() == stop { Err(io_stop()) } else { Ok(()) }
    });
    assert_eq!(ended.is_err(), steps.len() == stop);
    steps
}

fn io_stop() -> std::io::Error {
    std::io::Error::other("stopped here")
}

/// Stops a swap after every step there is.
fn stopped_at_every_step(old: fn(&Path)) {
    let mut count = 0;
    for stop in 1.. {
        let dir = tempfile::tempdir().unwrap();
        old(dir.path());
        assert_eq!(version(dir.path()), Ok(2), "what is there before");
        let steps = swap_until(dir.path(), stop);
        let is_new = steps.last() == Some(&Step::New);
        assert_eq!(version(dir.path()), Ok(if is_new { 7 } else { 2 }), "after {steps:?}");
        count += 1;
        if is_new {
            let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
            assert_eq!(left.len(), 1, "{left:?}");
            assert_eq!(fs::read(dir.path().join("db")).unwrap(), image(7));
            break;
        }
    }
    assert!(count >= 6, "only {count} steps");
}

#[test]
fn a_swap_that_stops_anywhere_leaves_the_old_database_with_its_log_or_the_new_one() {
    // without its log, what is there would be version 1
    let dir = tempfile::tempdir().unwrap();
    with_log(dir.path());
    fs::remove_file(dir.path().join("db-wal")).unwrap();
    assert_eq!(version(dir.path()), Ok(1));
    stopped_at_every_step(with_log);
}

#[test]
fn a_swap_that_stops_anywhere_leaves_a_torn_old_database_repaired_or_the_new_one() {
    // without its journal, what is there would be a mixture
    let dir = tempfile::tempdir().unwrap();
    with_journal(dir.path());
    fs::remove_file(dir.path().join("db-journal")).unwrap();
    version(dir.path()).unwrap_err();
    stopped_at_every_step(with_journal);
}

#[test]
fn a_log_beside_a_new_database_would_have_been_played_into_it() {
    // why the order matters: if this ever stops being so, so may the care
    for old in [with_log, with_journal] {
        let dir = tempfile::tempdir().unwrap();
        old(dir.path());
        fs::write(dir.path().join("db"), image(7)).unwrap();
        assert_ne!(version(dir.path()), Ok(7));
    }
}

#[test]
fn after_a_power_failure_any_part_of_the_unlinks_may_have_happened() {
    for old in [with_log, with_journal] {
        for gone in 0..4_u8 {
            let dir = tempfile::tempdir().unwrap();
            old(dir.path());
            let steps = swap_until(dir.path(), 3);
            assert_eq!(steps, [Step::Copied, Step::OldAlone, Step::OldAloneSynced]);
            for (bit, side) in [(1, "db-wal"), (2, "db-journal")] {
                if gone & bit != 0 {
                    let _ = fs::remove_file(dir.path().join(side)); // not both are there
                }
            }
            assert_eq!(version(dir.path()), Ok(2), "{gone}");
        }
    }
}

#[test]
fn each_step_is_on_the_disk_before_the_next_one_needs_it() {
    use Step::{Copied, New, OldAlone, OldAloneSynced, SideGone, SidesGoneSynced};
    let dir = tempfile::tempdir().unwrap();
    with_log(dir.path());
    let steps = [Copied, OldAlone, OldAloneSynced, SideGone, SidesGoneSynced, New];
    assert_eq!(swap_until(dir.path(), 99), steps);
}

#[test]
fn a_database_without_a_log_is_replaced_in_one_step_and_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    drop(database(&dir.path().join("db"), "PRAGMA journal_mode = WAL", 2));
    assert_eq!(swap_until(dir.path(), 99), [Step::New]);
    // a journal that its owner keeps, and is done with
    let dir = tempfile::tempdir().unwrap();
    drop(database(&dir.path().join("db"), "PRAGMA journal_mode = PERSIST", 2));
    assert!(fs::metadata(dir.path().join("db-journal")).unwrap().len() > 0);
    assert_eq!(swap_until(dir.path(), 99), [Step::SideGone, Step::SidesGoneSynced, Step::New]);
    assert_eq!(version(dir.path()), Ok(7));
}

#[test]
fn side_files_of_no_database_are_removed_before_the_new_one_comes() {
    for main in [None, Some("no database at all")] {
        let dir = tempfile::tempdir().unwrap();
        with_log(dir.path());
        match main {
            None => fs::remove_file(dir.path().join("db")).unwrap(),
            Some(text) => {
                fs::write(dir.path().join("db"), text).unwrap();
                fs::write(dir.path().join("db-wal"), "nor is this a log").unwrap();
            }
        }
        assert_eq!(swap_until(dir.path(), 99), [Step::SideGone, Step::SidesGoneSynced, Step::New]);
        assert_eq!(version(dir.path()), Ok(7));
    }
}

#[test]
fn another_name_of_the_old_database_keeps_what_it_had() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_log(dir.path());
    let other = elsewhere.path().join("other");
    fs::hard_link(dir.path().join("db"), &other).unwrap();
    let before = fs::read(&other).unwrap();
    swap_until(dir.path(), 99);
    assert_eq!(version(dir.path()), Ok(7));
    assert!(fs::read(&other).unwrap() == before, "written through another name");
}

/// A snapshot of one database.
fn snapshot(content: &[u8], flags: u32) -> Memory {
    let mut m = Memory::default();
    m.dir("r");
    m.file("r/db", content).flags = flag::SQLITE | flags;
    m
}

/// A database whose index does not have what its table has.
fn damaged() -> Vec<u8> {
    let mut bytes = image(7);
    let body = noise(7, 300);
    // the copy that the index has of one row
    let found: Vec<usize> =
        (0..bytes.len() - 40).filter(|at| bytes[*at..].starts_with(&body[..40])).collect();
    for at in &found[found.len() - 1..] {
        bytes[*at + 4] ^= 0x55;
    }
    bytes
}

fn ground(old: &[u8]) -> Ground {
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    fs::write(g.path("r/db"), old).unwrap();
    g
}

#[test]
fn a_damaged_database_does_not_take_the_place_of_one_that_is_there() {
    let (old, bad) = (image(2), damaged());
    let g = ground(&old);
    let m = snapshot(&bad, 0);
    let report = run(&m, &g.options()).unwrap();
    assert_eq!((problems(&report).as_slice(), report.replaced), (&["r/db".to_owned()][..], 0));
    let reason = &report.problems[0].reason;
    for word in ["damaged", "what was there stays", "pull --to DIR", "--overwrite always"] {
        assert!(reason.contains(word), "no '{word}' in {reason}");
    }
    assert!(g.read("r/db") == old);
    g.check();

    // told to all the same
    let report = restore(&m, &g.with(Overwrite::Always));
    assert_eq!((report.replaced, report.notices.len()), (1, 1), "{:?}", report.notices);
    assert!(g.read("r/db") == bad);
}

#[test]
fn where_nothing_is_a_damaged_database_is_restored_and_verify_tells() {
    let bad = damaged();
    let (m, g) = (snapshot(&bad, 0), Ground::new());
    let report = restore(&m, &g.options());
    assert_eq!((report.created, report.notices.len()), (2, 0));
    assert!(g.read("r/db") == bad);

    let g = Ground::new();
    let report = run(&m, &Options { verify: true, ..g.options() }).unwrap();
    assert_eq!(problems(&report), ["r/db"]);
    assert!(report.problems[0].reason.contains("restored as it was stored"));
    assert!(g.read("r/db") == bad);

    let g = Ground::new();
    let sound = snapshot(&image(3), 0);
    restore(&sound, &Options { verify: true, ..g.options() });
    assert_eq!(version(&g.path("r")), Ok(3));
}

#[test]
fn a_database_that_was_damaged_when_it_was_stored_is_refused_before_it_is_fetched() {
    let (old, bad) = (image(2), damaged());
    let g = ground(&old);
    let m = snapshot(&bad, flag::SQLITE_DAMAGED);
    let planned = plan(&m, &g.options());
    assert_eq!((planned.totals.refuse, planned.totals.fetch), (1, 0));
    let report = run(&m, &g.options()).unwrap();
    assert!(report.problems[0].reason.contains("damaged when it was stored"));
    assert!(g.read("r/db") == old && m.blocks_read().is_empty());

    let elsewhere = Ground::new();
    restore(&m, &elsewhere.options());
    restore(&m, &g.with(Overwrite::Always));
    assert!(g.read("r/db") == bad && elsewhere.read("r/db") == bad);
}

#[test]
fn a_database_that_only_its_owner_can_check_is_replaced_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = database(&path, "", 5);
    db.execute_batch(
        "CREATE TABLE own(a COLLATE nocase UNIQUE); INSERT INTO own VALUES('x');
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'nocase', 'of_its_owner') WHERE name = 'own'",
    )
    .unwrap();
    drop(db);
    let g = ground(&image(2));
    let report = restore(&snapshot(&fs::read(&path).unwrap(), 0), &g.options());
    assert_eq!((report.replaced, report.notices.len()), (1, 1));
    assert!(report.notices[0].reason.contains("could not check"));
}

/// Another process that has a database open, until it is dropped.
struct Owner(Child);

/// Set for the child: the database to open.
const OPEN: &str = "AGENT_BACKUP_TEST_OPEN";

impl Owner {
    fn of(path: &Path) -> Self {
        let name = "pull::tests::database::a_program_that_has_a_database_open";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(OPEN, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"it is open\n") {
            let read = child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert_eq!(read, 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        Self(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how this test talks to itself in another process")]
fn a_program_that_has_a_database_open() {
    let Some(path) = std::env::var_os(OPEN) else { return };
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT version FROM total", [], |_| Ok(())).unwrap();
    println!("it is open");
    std::io::stdin().read_exact(&mut [0]).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_database_that_another_process_has_open_is_refused_by_its_name() {
    let m = snapshot(&image(7), 0);
    for mode in ["DELETE", "WAL"] {
        let g = ground(b"");
        drop(database(&g.path("r/db"), &format!("PRAGMA journal_mode = {mode}"), 2));
        let owner = Owner::of(&g.path("r/db"));
        let planned = plan(&m, &g.options());
        assert_eq!((planned.totals.refuse, planned.totals.fetch), (1, 0));
        let report = run(&m, &g.options()).unwrap();
        let reason = &report.problems[0].reason;
        let pid = format!("process {}", owner.0.id());
        for word in [pid.as_str(), "has this database open", "--to DIR", "--even-if-open"] {
            assert!(reason.contains(word), "no '{word}' in {reason}");
        }
        assert_eq!(version(&g.path("r")), Ok(2));
        assert!(m.blocks_read().is_empty(), "it was not fetched");

        let told = Options { even_if_open: true, ..g.options() };
        let report = restore(&m, &told);
        assert_eq!(report.replaced, 1);
        assert_eq!(version(&g.path("r")), Ok(7));
        m.runs.lock().unwrap().clear();
        drop(owner);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_database_that_is_opened_after_the_plan_is_refused_too() {
    let g = ground(&image(2));
    let path = g.path("r/db");
    let owner: Arc<Mutex<Option<Owner>>> = Arc::default();
    let opened = Arc::clone(&owner);
    let mut m = snapshot(&image(7), 0);
    m.on_read = Some(Box::new(move |_| {
        opened.lock().unwrap().get_or_insert_with(|| Owner::of(&path));
    }));
    let report = run(&m, &g.options()).unwrap();
    assert!(report.problems[0].reason.contains("has this database open"));
    assert_eq!(version(&g.path("r")), Ok(2));
    g.check();
    owner.lock().unwrap().take();
}

#[test]
fn a_lock_of_another_process_tells_that_it_has_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(database(&path, "PRAGMA journal_mode = WAL", 2));
    let file = File::open(&path).unwrap();
    assert_eq!(holders::locked(&file), None);
    let owner = Owner::of(&path);
    let told = holders::locked(&file).unwrap().to_string();
    assert!(told.contains(&format!("process {}", owner.0.id())), "{told}");
}

#[test]
fn delete_never_takes_the_log_of_a_database_that_stays() {
    // it stays because the new one is damaged, because it is open, because it fits
    let delete = |g: &Ground| Options { delete: true, ..g.options() };
    let g = Ground::new();
    fs::create_dir_all(g.path("r")).unwrap();
    with_log(&g.path("r"));
    fs::write(g.path("r/other-wal"), "no log of a database").unwrap();
    let report = run(&snapshot(&damaged(), 0), &delete(&g)).unwrap();
    assert_eq!((problems(&report).as_slice(), report.deleted), (&["r/db".to_owned()][..], 1));
    assert_eq!(version(&g.path("r")), Ok(2));

    let g = ground(b"");
    let db = database(&g.path("r/db"), "PRAGMA journal_mode = WAL", 2);
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let now = fs::read(g.path("r/db")).unwrap();
    let report = restore(&snapshot(&now, 0), &delete(&g));
    assert_eq!((report.deleted, report.replaced), (0, 0));
    assert!(g.path("r/db-wal").exists() && g.path("r/db-shm").exists());
}

#[test]
fn a_database_that_appears_after_the_plan_keeps_its_log() {
    let g = Ground::new();
    let (mut m, dir) = (snapshot(&image(7), 0), g.path("r"));
    m.on_read = Some(Box::new(move |_| with_log(&dir)));
    let report = run(&m, &g.options()).unwrap();
    assert_eq!(problems(&report), ["r/db"]);
    assert_eq!(version(&g.path("r")), Ok(2));
    assert!(g.path("r/db-wal").exists(), "somebody may be writing to it");
}

#[test]
fn of_a_database_only_pages_that_differ_are_fetched() {
    let big = |version: u32| {
        let dir = tempfile::tempdir().unwrap();
        let db = database(&dir.path().join("db"), "", version);
        db.execute_batch("BEGIN").unwrap();
        for n in ROWS..8_000 {
            let body = noise(n.into(), 300);
            db.execute("INSERT INTO t VALUES(?1, 0, ?2)", (n, body)).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        drop(db);
        fs::read(dir.path().join("db")).unwrap()
    };
    let wanted = big(1);
    // blocks of which the file here has only some pages, and blocks in which all differs
    let (mut m, mut map) = (Memory::default(), Vec::new());
    m.dir("r");
    let (page, mut there) = (4096, wanted.clone());
    let changed: Vec<usize> = (0..wanted.len() / page).step_by(37).collect();
    let new: Vec<u8> =
        changed.iter().flat_map(|n| &wanted[n * page..(n + 1) * page]).copied().collect();
    for n in &changed {
        there[n * page + 8..(n + 1) * page].fill(0xee);
    }
    // as a push stores it: what was there before in old blocks, the changed pages together in one
    let new_block = m.block(&new);
    for (first, old) in there.chunks(64 * page).enumerate() {
        let old_block = m.block(old);
        for within in 0..old.len() / page {
            let n = first * 64 + within;
            let (block, offset) = match changed.iter().position(|c| *c == n) {
                Some(place) => (new_block, place * page),
                None => (old_block, within * page),
            };
            let extent = Extent { block, offset: offset as u32, len: page as u32, pages: false };
            repo::push_extent(&mut map, extent);
        }
    }
    m.mapped("r/db", &wanted, map).flags = flag::SQLITE;
    let g = ground(&there);
    let planned = plan(&m, &g.options());
    assert_eq!((planned.totals.patch, planned.totals.fetch), (1, new.len() as u64));
    let report = restore(&m, &g.options());
    assert_eq!(m.blocks_read(), [new_block]);
    assert_eq!(report.bytes_fetched, new.len() as u64);
    assert_eq!(report.bytes_kept, (wanted.len() - new.len()) as u64);
    assert!(g.read("r/db") == wanted);
}
