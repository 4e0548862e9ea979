//! How long a transaction lasts, whom it stops, and what lies on disk meanwhile.

use std::io::Read;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::sqlite::{Budget, How, Image, Moved, Request, Ways};
use super::{CANARY, Case, add, capture, names};

const WITH_LOG: &str = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0";

/// Names the database to the other process.
const VARIABLE: &str = "CAPTURE_TEST_DATABASE";

/// In another process: true if the log could not be put back to its beginning.
fn is_pinned(path: &std::path::Path) -> bool {
    let told = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "capture::tests::holds::another_process", "--ignored", "--nocapture"])
        .env(VARIABLE, path)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    match (told.contains("pinned=1"), told.contains("pinned=0")) {
        (true, false) => true,
        (false, true) => false,
        _ => panic!("{told}"),
    }
}

/// No test: the process that [`is_pinned`] starts.
#[test]
#[ignore = "no test, the other process of the tests here, which run it: cargo test -p agent-backup-engine --lib holds"]
#[expect(clippy::disallowed_methods, reason = "how the test tells its own child")]
fn another_process() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let db = Connection::open(path).unwrap();
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    println!("pinned={busy}");
}

#[test]
fn no_checkpoint_gets_past_a_capture_and_every_one_after_it_does() {
    let case = Case::new();
    let owner = case.make(WITH_LOG, 2_000);
    let mut image = Image::open(case.request(How::Live)).unwrap();
    assert!(is_pinned(&case.db()), "our lock was lost");
    // a second capture of the same file comes and goes: the first one's lock stays
    assert_eq!(case.rows(&capture(case.request(How::Live)).0), 2_000);
    assert!(is_pinned(&case.db()), "our lock was lost");
    add(&owner, 2_000..2_100);
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    assert_eq!(case.rows(&bytes), 2_000, "later commits are not in the image");
    image.finish();
    assert!(!is_pinned(&case.db()), "our lock was left");
}

/// Pages go to a file when the reader is behind; it tells nothing.
#[test]
fn a_slow_reader_does_not_hold_the_log_and_nothing_plain_is_written() {
    let case = Case::new();
    let owner = case.make(WITH_LOG, 3_000);
    let mut image = Image::open(case.impatient(How::Live)).unwrap();
    while !image.has_let_go() {
        std::thread::yield_now();
    }
    assert!(!is_pinned(&case.db()), "the transaction lasts, though nobody waits for it");
    add(&owner, 3_000..3_100);
    assert!(names(&case.scratch()).is_empty(), "a spool has no name");
    #[cfg(target_os = "linux")]
    {
        let sealed = open_in(&case.scratch());
        assert_eq!(sealed.len(), 1);
        assert!(sealed[0].len() > 2 << 20, "{}", sealed[0].len());
        let canary = &CANARY.as_bytes()[..16];
        assert!(!sealed[0].windows(16).any(|bytes| bytes == canary), "plaintext on disk");
    }
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    assert!(bytes.windows(16).any(|bytes| bytes == &CANARY.as_bytes()[..16]));
    assert_eq!(case.rows(&bytes), 3_000);
}

/// What is in files that this process has open in a directory, with or without a name.
#[cfg(target_os = "linux")]
fn open_in(dir: &std::path::Path) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let fd = entry.unwrap().path();
        if std::fs::read_link(&fd).is_ok_and(|target| target.starts_with(dir)) {
            out.push(std::fs::read(fd).unwrap());
        }
    }
    out
}

#[test]
fn a_log_that_grows_too_far_ends_the_waiting() {
    let case = Case::new();
    let owner = case.make(WITH_LOG, 3_000);
    let budget = Budget { hold: Duration::from_secs(3600), log_bytes: 64 << 10 };
    let image = Image::open(Request { budget, ..case.request(How::Live) }).unwrap();
    assert!(is_pinned(&case.db()));
    add(&owner, 3_000..3_500);
    while !image.has_let_go() {
        std::thread::yield_now();
    }
    assert!(!is_pinned(&case.db()));
}

#[test]
fn a_writer_without_a_log_goes_on_before_anybody_reads() {
    let case = Case::new();
    let owner = case.make("PRAGMA journal_mode=PERSIST", 3_000);
    let mut image = Image::open(case.request(How::Live)).unwrap();
    while !image.has_let_go() {
        std::thread::yield_now();
    }
    owner.busy_timeout(Duration::ZERO).unwrap();
    add(&owner, 3_000..3_010);
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    assert_eq!(case.rows(&bytes), 3_000);
}

/// A turn of no length: it is let go after every piece.
#[test]
fn a_writer_without_a_log_gets_its_turn_and_makes_what_was_read_worthless() {
    let case = Case::new();
    let owner = case.make("PRAGMA journal_mode=PERSIST; PRAGMA synchronous=OFF", 3_000);
    let patient = || Request { lock_wait: Duration::from_secs(60), ..case.request(How::Live) };
    let turns = || Request { turn: Some(Duration::ZERO), ..patient() };
    assert_eq!(case.rows(&capture(turns()).0), 3_000, "nobody wrote");
    let stop = AtomicBool::new(false);
    let moved = std::thread::scope(|scope| {
        let (stopped, db) = (&stop, case.db());
        scope.spawn(move || {
            let writer = Connection::open(db).unwrap();
            writer.busy_timeout(Duration::from_secs(60)).unwrap();
            writer.execute_batch("PRAGMA synchronous=OFF").unwrap();
            while !stopped.load(Ordering::SeqCst) {
                // the first row and the last one are always the same
                let step = "BEGIN IMMEDIATE; UPDATE t SET body=random() WHERE n=0; \
                            UPDATE t SET body=(SELECT body FROM t WHERE n=0) WHERE n=2999; COMMIT";
                writer.execute_batch(step).unwrap();
            }
        });
        let _stop = Stop(&stop);
        while case.first_and_last(&capture(patient()).0).0.len() > 30 {} // it writes
        let mut moved = 0;
        for _ in 0..10 {
            let mut bytes = Vec::new();
            match Image::open(turns()).and_then(|mut image| image.read_to_end(&mut bytes)) {
                Ok(_) => {
                    let (first, last) = case.first_and_last(&bytes);
                    assert_eq!(first, last, "pages of two commits in one image");
                }
                Err(e) => moved += u32::from(Moved::is(&e)),
            }
        }
        let (first, last) = case.first_and_last(&capture(patient()).0);
        assert_eq!(first, last, "in one go nobody commits in between");
        moved
    });
    assert!(moved > 0, "the writer never had a turn");
    drop(owner);
}

/// Ends a writer, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_database_that_is_deleted_or_replaced_meanwhile_is_captured_to_its_end() {
    let case = Case::new();
    let owner = case.make(WITH_LOG, 2_000);
    let mut image = Image::open(case.request(How::Live)).unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        std::fs::remove_file(case.db().with_file_name(name)).unwrap();
    }
    std::fs::write(case.db(), b"another file").unwrap();
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    assert_eq!(case.rows(&bytes), 2_000);
    drop(owner);
}

#[test]
fn a_reader_that_leaves_ends_the_transaction() {
    let case = Case::new();
    let _owner = case.make(WITH_LOG, 3_000);
    drop(Image::open(case.request(How::Live)).unwrap());
    assert!(!is_pinned(&case.db()));
}

/// Prints how long transactions last and how quick captures are; 1 GiB of disk for each journal mode.
#[test]
#[ignore = "a measurement, takes 2 GiB of disk and minutes: cargo test --release -p agent-backup-engine --lib measure_holds -- --ignored --nocapture"]
fn measure_holds() {
    for mode in ["WAL", "PERSIST"] {
        let case = Case::new();
        let db = case.make(&format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF"), 1);
        db.execute_batch(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<262000)
             INSERT INTO t SELECT n, randomblob(4000) FROM c",
        )
        .unwrap();
        for (told, request) in [
            ("nobody reads", case.impatient(How::Live)),
            ("in turns", Request { turn: Some(Moved::TURN), ..case.impatient(How::Live) }),
            ("read and hashed", Request { ways: Ways::default(), ..case.request(How::Live) }),
        ] {
            let since = Instant::now();
            let mut image = Image::open(request).unwrap();
            if told != "read and hashed" {
                while !image.has_let_go() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let waited = since.elapsed();
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(&mut image).unwrap();
            println!(
                "{mode}, {told}: {} MiB, held at least {} ms, read after {} ms",
                hasher.count() >> 20,
                waited.as_millis(),
                since.elapsed().as_millis()
            );
        }
    }
}
