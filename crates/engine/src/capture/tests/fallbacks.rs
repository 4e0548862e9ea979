//! What is done where SQLite lacks its table of pages, or a file system shares blocks.

use std::time::Duration;

use super::super::sqlite::{How, Image, Request, Ways};
use super::{Case, Health, add, capture, names};

/// Without the table of pages.
fn bare(request: Request) -> Request {
    Request { ways: Ways { pages: false, reflink: None, ..request.ways }, ..request }
}

/// With a `cp` that makes a clone on every file system.
fn cloning(request: Request) -> Request {
    Request { ways: Ways { reflink: Some("--reflink=auto"), ..request.ways }, ..request }
}

#[test]
fn a_backup_stands_in_for_missing_pages_and_leaves_no_file() {
    for pragmas in ["PRAGMA journal_mode=WAL", "PRAGMA journal_mode=PERSIST"] {
        let case = Case::new();
        let _owner = case.make(pragmas, 1_000);
        let request = Request { check: Some(Duration::from_secs(60)), ..case.request(How::Live) };
        let (bytes, health) = capture(bare(request));
        assert_eq!(case.rows(&bytes), 1_000);
        assert_eq!(health, Some(Health::Ok));
        assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    }
}

#[test]
fn while_a_backup_is_read_its_file_has_no_name() {
    let case = Case::new();
    let _owner = case.make("PRAGMA journal_mode=WAL", 3_000);
    let image = Image::open(bare(case.request(How::Live))).unwrap();
    assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    drop(image);
}

#[test]
fn a_clone_stops_a_writer_without_a_log_for_a_moment_only() {
    let case = Case::new();
    let owner = case.make("PRAGMA journal_mode=PERSIST", 3_000);
    owner.busy_timeout(Duration::ZERO).unwrap();
    // the first pages are there, so the clone was made; nobody has read on
    let mut image = Image::open(cloning(case.request(How::Live))).unwrap();
    assert!(!image.has_let_go());
    add(&owner, 3_000..3_100);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut image, &mut bytes).unwrap();
    assert_eq!(case.rows(&bytes), 3_000);
    drop(image);
    assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
}

#[test]
fn a_clone_of_a_database_with_a_log_has_what_is_only_in_the_log() {
    let case = Case::new();
    let owner = case.make("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0", 1_000);
    let before = std::fs::read(case.db()).unwrap();
    let request = cloning(case.request(How::Live));
    let request = Request { ways: Ways { pages: false, ..request.ways }, ..request };
    assert_eq!(case.rows(&capture(request).0), 1_000);
    assert!(std::fs::read(case.db()).unwrap() == before, "nothing was taken back into the file");
    assert!(names(&case.scratch()).is_empty(), "{:?}", names(&case.scratch()));
    drop(owner);
}

#[test]
fn what_a_killed_run_left_is_gone_when_the_next_begins() {
    use super::super::scratch::Scratch;
    use std::os::unix::fs::MetadataExt;
    let case = Case::new();
    std::fs::create_dir(case.scratch().join("left")).unwrap();
    std::fs::write(case.scratch().join("left/image"), b"plain").unwrap();
    let scratch = Scratch::create(case.scratch()).unwrap();
    assert!(names(scratch.path()).is_empty());
    assert_eq!(std::fs::metadata(scratch.path()).unwrap().mode() & 0o777, 0o700);
    drop(scratch);
    assert!(!case.scratch().exists());
}
