//! The spool alone.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::super::spool::{CRUMB, Spool};

const PIECE: usize = 1000;

fn piece(n: u8) -> Vec<u8> {
    vec![n; PIECE]
}

fn never() -> bool {
    false
}

#[test]
fn pieces_come_out_as_they_went_in_from_memory_and_disk() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), 3 * PIECE);
    for n in 0..9 {
        assert!(spool.put(piece(n), &mut never));
    }
    // also while the producer is at work: a reader that never got one could not stop
    assert_eq!(spool.take().unwrap(), piece(0));
    // there is room in memory again, behind what is on disk
    assert!(spool.put(piece(9), &mut never));
    spool.end(Ok(()));
    for n in 1..10 {
        assert_eq!(spool.take().unwrap(), piece(n));
    }
    assert!(spool.take().unwrap().is_empty());
    assert!(spool.take().unwrap().is_empty(), "the end stays the end");
    assert_eq!(super::names(dir.path()).len(), 0, "the file has no name");
}

#[test]
fn a_patient_producer_waits_for_its_reader_and_writes_nothing() {
    let spool = Spool::new(Path::new("/nowhere"), PIECE);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..50 {
                assert!(spool.put(piece(n), &mut || true));
            }
            spool.end(Err(io::Error::other("it broke")));
        });
        for n in 0..50 {
            assert_eq!(spool.take().unwrap(), piece(n));
        }
        assert_eq!(spool.take().unwrap_err().to_string(), "it broke");
    });
}

/// The database is held as long as the producer is at work: a reader that competes with it for the
/// processor prolongs that.
#[test]
fn a_reader_goes_slowly_while_a_producer_in_a_hurry_writes() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), PIECE);
    for n in 0..3 {
        assert!(spool.put(piece(n), &mut never));
    }
    let (at_work, began) = (AtomicBool::new(true), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 3..200 {
                assert!(spool.put(piece(n), &mut never));
            }
            at_work.store(false, Ordering::SeqCst);
            // the end of a first reading lets it go on as well
            assert_eq!(spool.asked(), Some(Vec::new()));
            spool.end(Ok(()));
        });
        for n in 0..200 {
            assert_eq!(spool.take().unwrap(), piece(n));
            let least = CRUMB * u32::from(n + 1);
            let early = at_work.load(Ordering::SeqCst) && began.elapsed() < least;
            assert!(!early, "piece {n} came before its time");
        }
        assert!(spool.take().unwrap().is_empty());
        spool.ask(Vec::new());
        assert!(spool.take().unwrap().is_empty());
    });
}

#[test]
fn a_full_disk_makes_it_wait_instead_of_losing_a_piece() {
    let spool = Spool::new(Path::new("/nowhere"), PIECE);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..5 {
                assert!(spool.put(piece(n), &mut never));
            }
            spool.end(Ok(()));
        });
        for n in 0..5 {
            assert_eq!(spool.take().unwrap(), piece(n));
        }
        assert!(spool.take().unwrap().is_empty());
    });
}

#[test]
fn nobody_waits_for_a_reader_that_left() {
    let spool = Spool::new(Path::new("/nowhere"), PIECE);
    assert!(spool.put(piece(0), &mut never));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| spool.put(piece(1), &mut || true));
        spool.close();
        assert!(!waiting.join().unwrap());
    });
}
