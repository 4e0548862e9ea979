//! Push: what goes in comes back, and nothing travels twice.

use std::io::Write;
use std::sync::Arc;

use engine::push::Pushed;
use store::MemoryStore;

use crate::support::{Bench, contents};

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out
}

fn transcript(lines: std::ops::Range<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    for n in lines {
        let word = &blake3::hash(&n.to_le_bytes()).to_hex()[..24];
        writeln!(out, "{{\"type\":\"assistant\",\"n\":{n},\"text\":\"said {word} and {word}\"}}")
            .unwrap();
    }
    out
}

#[test]
fn what_goes_in_comes_back_and_a_second_push_makes_no_snapshot() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let source = bench.source();
    std::fs::create_dir_all(source.join("projects/a/empty")).unwrap();
    std::fs::write(source.join("projects/a/s.jsonl"), transcript(0..40_000)).unwrap();
    std::fs::write(source.join("noise"), noise(1, 3_000_000)).unwrap();
    std::fs::write(source.join("nothing"), b"").unwrap();
    for n in 0..300 {
        std::fs::write(source.join(format!("small-{n}.json")), transcript(n..n + 3)).unwrap();
    }
    let session = bench.init();
    let first = bench.push(&session).unwrap();
    let Pushed::Made(snapshot) = &first else { panic!("a first push makes a snapshot") };
    let files = contents(&session, &snapshot.tree);
    assert_eq!(files.len(), 303);
    for (path, bytes) in files {
        let local = source.join(path.strip_prefix("files/").unwrap());
        assert_eq!(std::fs::read(local).unwrap(), bytes, "{path}");
    }
    let second = bench.push(&bench.open().unwrap()).unwrap();
    assert!(matches!(second, Pushed::Unchanged(..)), "{second:?}");
    assert_eq!(second.stats().files_read, 0);

    let mut grown =
        std::fs::OpenOptions::new().append(true).open(source.join("projects/a/s.jsonl")).unwrap();
    grown.write_all(&transcript(70_000..70_040)).unwrap();
    drop(grown);
    let third = bench.push(&bench.open().unwrap()).unwrap();
    let Pushed::Made(snapshot) = &third else { panic!("a change makes a snapshot") };
    assert_eq!(third.stats().files_read, 1);
    assert!(third.stats().bytes_new < 10_000, "{:?}", third.stats());
    let local = std::fs::read(source.join("projects/a/s.jsonl")).unwrap();
    let files = contents(&session, &snapshot.tree);
    assert!(files.contains(&("files/projects/a/s.jsonl".into(), local)));
    assert_eq!(snapshot.counter, 2);
}

#[test]
fn what_a_killed_pull_left_beside_its_place_is_not_pushed() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let source = bench.source();
    std::fs::create_dir_all(source.join("deep")).unwrap();
    std::fs::write(source.join("deep/settings.json"), "{}").unwrap();
    for name in [".agent-backup-tmp-0123456789abcdef", ".agent-backup-tmp-0123456789abcdef-wal"] {
        std::fs::write(source.join(name), "a secret that came back").unwrap();
        std::fs::write(source.join("deep").join(name), "a secret that came back").unwrap();
    }
    // somebody else's
    std::fs::write(source.join(".agent-backup-tmp-notes"), "mine").unwrap();
    let session = bench.init();
    let pushed = bench.push(&session).unwrap();
    let names: Vec<String> =
        contents(&session, &pushed.snapshot().tree).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["files/.agent-backup-tmp-notes", "files/deep/settings.json"]);
}
