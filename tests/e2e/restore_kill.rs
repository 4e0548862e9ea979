//! `kill -9` while databases are restored over older ones, of which some were left by a kill
//! themselves: with a log that holds transactions, torn with a journal beside them. Each is the old one
//! with all it had, or the new one, whatever the moment; and the next pull needs no help.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::desk::{Desk, end};
use crate::state::Random;

/// Databases of the target, by what lies beside them.
const NAMES: [&str; 6] =
    ["log-1.db", "log-2.db", "journal-1.db", "journal-2.db", "plain-1.db", "plain-2.db"];
const ROWS: u32 = 300;
/// What is there, and what the snapshot has.
const OLD: u32 = 2;
const NEW: u32 = 7;
const SIDES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

fn beside(path: &Path, side: &str) -> PathBuf {
    PathBuf::from(format!("{}{side}", path.display()))
}

fn create(path: &Path, mode: &str, version: u32) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!("PRAGMA journal_mode = {mode}; PRAGMA wal_autocheckpoint = 0"))
        .unwrap();
    db.execute_batch(
        "BEGIN; CREATE TABLE total(version); CREATE TABLE t(n INTEGER PRIMARY KEY, version, body)",
    )
    .unwrap();
    db.execute("INSERT INTO total VALUES(?1)", [version]).unwrap();
    for n in 0..ROWS {
        db.execute("INSERT INTO t VALUES(?1, ?2, zeroblob(500))", (n, version)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    db
}

/// The old state: version 2 of each, partly in a log, or torn on the way to version 3.
fn old_state(to: &Path) {
    let room = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = room.path().join(name);
        let db = if name.starts_with("log") {
            let db = create(&path, "WAL", 1);
            db.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).unwrap();
            db.execute_batch(
                "BEGIN; UPDATE total SET version = 2; UPDATE t SET version = 2; COMMIT",
            )
            .unwrap();
            db
        } else {
            create(&path, "DELETE", OLD)
        };
        if name.starts_with("journal") {
            db.execute_batch("PRAGMA cache_size = 5; BEGIN; UPDATE total SET version = 3; UPDATE t SET version = 3")
                .unwrap();
        }
        // as a kill at this moment leaves it
        for side in ["", "-wal", "-journal"] {
            if beside(&path, side).exists() {
                fs::copy(beside(&path, side), beside(&to.join(name), side)).unwrap();
            }
        }
    }
    assert!(to.join("log-1.db-wal").exists() && to.join("journal-1.db-journal").exists());
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The version of a database, in a copy: looking repairs nothing. Fails for a mixture.
fn version(path: &Path) -> u32 {
    let room = tempfile::tempdir().unwrap();
    let copy = room.path().join("copy.db");
    for side in SIDES {
        if beside(path, side).exists() {
            fs::copy(beside(path, side), beside(&copy, side)).unwrap();
        }
    }
    assert!(copy.exists(), "{} is gone", path.display());
    let db = Connection::open(&copy).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
    let total: u32 = db.query_row("SELECT version FROM total", [], |row| row.get(0)).unwrap();
    let rows: (u32, u32, u32) = db
        .query_row("SELECT count(*), min(version), max(version) FROM t", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(rows, (ROWS, total, total), "{} is a mixture", path.display());
    total
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn killed_at_random_moments(rounds: u64) {
    let mut desk = Desk::new();
    let (source, old, target) = (desk.beside("src"), desk.beside("old"), desk.beside("to/src"));
    desk.set("AGENT_BACKUP_REPO", desk.beside("repo").to_str().unwrap());
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&old).unwrap();
    for name in NAMES {
        drop(create(&source.join(name), "DELETE", NEW));
    }
    old_state(&old);
    desk.ok(&["init", "--no-passphrase"]);
    desk.ok(&["push", "--path", &format!("src={}", source.display())]);
    let to = target.parent().unwrap().to_str().unwrap().to_owned();
    let args = ["pull", "--to", &to];

    let mut random = Random(20_261_123);
    let mut takes = Duration::ZERO;
    let (mut olds, mut news, mut mixed) = (0, 0, 0);
    for round in 0..rounds {
        let _ = fs::remove_dir_all(&target);
        copy_dir(&old, &target);
        if round > 0 {
            let mut child = desk.start(&args);
            // every other time, not before something is on its way
            let begun = |names: Vec<String>| names.iter().any(|name| name.contains("tmp-"));
            if round % 2 == 0 {
                while child.try_wait().unwrap().is_none() && !begun(names(&target)) {
                    std::thread::yield_now();
                }
            }
            // the moment is the point of this test; nothing depends on how long it really is
            std::thread::sleep(takes * u32::try_from(random.below(1_000)).unwrap() / 1_000);
            child.kill().unwrap();
            end(child);
            let versions: Vec<u32> = NAMES.iter().map(|name| version(&target.join(name))).collect();
            let is_known = |version: &u32| [OLD, NEW].contains(version);
            assert!(versions.iter().all(is_known), "{versions:?}");
            let new = versions.iter().filter(|version| **version == NEW).count();
            *(match new {
                0 => &mut olds,
                6 => &mut news,
                _ => &mut mixed,
            }) += 1;
        }
        let begun = Instant::now();
        desk.ok(&args);
        takes = begun.elapsed();
        assert_eq!(names(&target), {
            let mut all = NAMES.map(str::to_owned).to_vec();
            all.sort();
            all
        });
        for name in NAMES {
            assert_eq!(version(&target.join(name)), NEW, "{name}");
        }
    }
    let met = format!("{olds} times all old, {mixed} between, {news} all new");
    assert!(olds + mixed > 0 && mixed >= rounds / 50, "the kills missed the moments: {met}");
}

#[test]
fn a_restore_that_is_killed_leaves_each_database_old_or_new() {
    killed_at_random_moments(16);
}

#[test]
#[ignore = "takes minutes: cargo test -p agent-backup --test e2e -- --ignored 200_moments"]
fn a_restore_killed_at_200_moments_leaves_each_database_old_or_new() {
    killed_at_random_moments(201);
}

#[test]
#[cfg(target_os = "linux")]
fn a_database_that_is_open_is_named_with_its_process_and_stays() {
    let mut desk = Desk::new();
    let (source, target) = (desk.beside("src"), desk.beside("to/src"));
    desk.set("AGENT_BACKUP_REPO", desk.beside("repo").to_str().unwrap());
    for (dir, version) in [(&source, NEW), (&target, OLD)] {
        fs::create_dir_all(dir).unwrap();
        drop(create(&dir.join("a.db"), "DELETE", version));
    }
    fs::write(source.join("b"), "b").unwrap();
    desk.ok(&["init", "--no-passphrase"]);
    desk.ok(&["push", "--path", &format!("src={}", source.display())]);
    let to = target.parent().unwrap().to_str().unwrap().to_owned();
    // to the binary, this test is another process
    let open = Connection::open(target.join("a.db")).unwrap();
    open.query_row("SELECT version FROM total", [], |_| Ok(())).unwrap();

    let dry = desk.json_ends(5, &["pull", "--to", &to, "--dry-run"]);
    assert_eq!(dry["totals"]["refuse"], 1, "{dry}");
    let ran = desk.ends(5, &["pull", "--to", &to]);
    for word in
        [&format!("process {}", std::process::id()), "has this database open", "--even-if-open"]
    {
        assert!(ran.err.contains(word), "no '{word}' in {}", ran.err);
    }
    assert_eq!(version(&target.join("a.db")), OLD);
    assert_eq!(fs::read(target.join("b")).unwrap(), b"b", "the others are restored");

    desk.ok(&["pull", "--to", &to, "--even-if-open"]);
    assert_eq!(version(&target.join("a.db")), NEW);
    drop(open);
}
