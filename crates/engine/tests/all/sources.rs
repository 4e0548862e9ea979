//! Sources that move, vanish and are odd: what is pushed is what was there at some moment, and
//! nothing that did not change travels again.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::Error;
use engine::push::{PushOptions, Pushed, push};
use store::MemoryStore;
use testkit::Plant;
use testkit::tree::assert_equal;

use crate::support::text::{Dice, Writer};
use crate::support::{Bench, Ears, bench_in_memory, contents, files_below, push_while, root};

fn made(bench: &Bench) -> Pushed {
    let (pushed, problems) = bench.push_heard().unwrap();
    assert_eq!(problems, []);
    assert!(matches!(pushed, Pushed::Made(_)), "{pushed:?}");
    pushed
}

fn held(bench: &Bench, memory: &Arc<MemoryStore>, pushed: &Pushed) -> Vec<(String, Vec<u8>)> {
    bench.held(memory.clone(), &pushed.snapshot().id)
}

/// Stops a writing thread, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn file(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("files/{name}"), bytes.to_vec())
}

#[test]
fn a_file_that_vanishes_after_the_scan_is_told_and_the_rest_is_kept() {
    let (bench, memory) = bench_in_memory();
    let gone = bench.source().join("a");
    fs::write(&gone, b"here and gone").unwrap();
    fs::write(bench.source().join("b"), b"stays").unwrap();
    let (pushed, problems) = push_while(&bench, move || fs::remove_file(gone).unwrap());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, b"files/a");
    assert_eq!(pushed.stats().problems, 1);
    assert_eq!(held(&bench, &memory, &pushed), [file("b", b"stays")]);
}

#[test]
fn a_file_replaced_after_the_scan_is_read_as_what_it_became() {
    let (bench, memory) = bench_in_memory();
    let (path, new) = (bench.source().join("a"), bench.dir.path().join("new"));
    fs::write(&path, b"old").unwrap();
    fs::write(&new, b"new content").unwrap();
    let (pushed, problems) = push_while(&bench, move || fs::rename(new, path).unwrap());
    assert_eq!(problems, []);
    assert_eq!(held(&bench, &memory, &pushed), [file("a", b"new content")]);
}

#[test]
fn a_file_replaced_by_a_link_is_never_followed() {
    let (bench, memory) = bench_in_memory();
    let (path, secret) = (bench.source().join("a"), bench.dir.path().join("secret"));
    fs::write(&path, b"old").unwrap();
    fs::write(&secret, b"not part of the root").unwrap();
    let (pushed, problems) = push_while(&bench, move || {
        fs::remove_file(&path).unwrap();
        symlink(secret, path).unwrap();
    });
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(held(&bench, &memory, &pushed), []);
    let next = made(&bench);
    assert_equal(&bench.tree(), &bench.restore(memory, &next.snapshot().id));
}

#[test]
fn a_hard_link_whose_first_name_vanishes_keeps_its_content() {
    let (bench, memory) = bench_in_memory();
    let first = bench.source().join("a");
    fs::write(&first, b"one file, three names").unwrap();
    fs::hard_link(&first, bench.source().join("b")).unwrap();
    fs::hard_link(&first, bench.source().join("c")).unwrap();
    let (pushed, problems) = push_while(&bench, move || fs::remove_file(first).unwrap());
    assert_eq!(problems.len(), 1, "{problems:?}");
    let content = b"one file, three names";
    assert_eq!(held(&bench, &memory, &pushed), [file("b", content), file("c", content)]);
    let next = made(&bench);
    assert_eq!(next.stats().bytes_new, 0);
    assert_equal(&bench.tree(), &bench.restore(memory, &next.snapshot().id));
}

#[test]
fn a_hard_link_whose_first_name_is_replaced_does_not_get_the_new_content() {
    let (bench, memory) = bench_in_memory();
    let (first, new) = (bench.source().join("a"), bench.dir.path().join("new"));
    fs::write(&first, b"old content").unwrap();
    fs::hard_link(&first, bench.source().join("b")).unwrap();
    fs::write(&new, b"new content").unwrap();
    let (pushed, problems) = push_while(&bench, move || fs::rename(new, first).unwrap());
    assert_eq!(problems, []);
    let files = held(&bench, &memory, &pushed);
    assert_eq!(files, [file("a", b"new content"), file("b", b"old content")]);
    assert_equal(&bench.tree(), &bench.restore(memory, &pushed.snapshot().id));
}

#[test]
fn a_transcript_written_all_the_time_is_kept_up_to_some_moment() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("live.jsonl");
    let mut writer = Writer::new(31);
    fs::write(&path, writer.lines(3_000_000)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            for _ in 0..10_000 {
                if !stop.load(Ordering::Relaxed) {
                    file.write_all(&writer.lines(2_000)).unwrap();
                }
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..6 {
            let before = fs::metadata(&path).unwrap().len();
            let pushed = bench.push(&bench.open().unwrap()).unwrap();
            assert_eq!(pushed.stats().problems, 0);
            let files = held(&bench, &memory, &pushed);
            let now = fs::read(&path).unwrap();
            assert!(files[0].1.len() as u64 >= before);
            assert!(now.starts_with(&files[0].1));
        }
    });
    let last = bench.push(&bench.open().unwrap()).unwrap();
    assert_equal(&bench.tree(), &bench.restore(memory, &last.snapshot().id));
}

#[test]
fn a_file_rewritten_all_the_time_restores_as_it_was_read_and_is_told() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("restless");
    fs::write(&path, vec![0; 2_000_000]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut dice = Dice::new(32);
            while !stop.load(Ordering::Relaxed) {
                let (len, at) = (1_900_000 + dice.below(200_000), dice.below(1_900_000));
                file.set_len(len).unwrap();
                file.write_all_at(&dice.bytes(500), at).unwrap();
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..5 {
            let (pushed, problems) = bench.push_heard().unwrap();
            // every extent is read, and hashed against the entry
            let files = held(&bench, &memory, &pushed);
            assert_eq!(files.len(), 1);
            assert!(problems.iter().all(|p| p.path == b"files/restless"), "{problems:?}");
        }
    });
    let last = bench.push(&bench.open().unwrap()).unwrap();
    assert_equal(&bench.tree(), &bench.restore(memory, &last.snapshot().id));
}

#[test]
fn odd_entries_come_back_as_they_were() {
    let (bench, memory) = bench_in_memory();
    let mut plant = Plant::at(&bench.source()).unwrap();
    plant.file("plain", b"bytes").unwrap().mode("plain", 0o640).unwrap();
    plant.time("plain", 1_000_000, 123_456_789).unwrap();
    plant.file("of before 1970", b"").unwrap().time("of before 1970", -5, 1).unwrap();
    plant.file("empty", b"").unwrap().folder("no/thing").unwrap();
    plant.link("dangling", "../no/where").unwrap().link("up", "plain").unwrap();
    plant.hard_link("z-other-name", "plain").unwrap().hard_link("no/third-name", "plain").unwrap();
    plant.xattr("plain", "user.note", b"\0binary\xff").unwrap();
    plant.time("no", 5_000, 5).unwrap();
    let raw = std::ffi::OsStr::from_bytes(b"not \xff utf-8 \n");
    fs::write(bench.source().join(raw), b"named in bytes").unwrap();
    let sparse = fs::File::create(bench.source().join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.write_all_at(b"middle", 20 << 20).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        bench.source().join("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    plant.done().unwrap();
    let pushed = made(&bench);
    assert!(pushed.stats().bytes_stored < 1 << 20, "holes cost little: {:?}", pushed.stats());
    assert_equal(&bench.tree(), &bench.restore(memory, &pushed.snapshot().id));
    assert!(matches!(bench.push_heard().unwrap().0, Pushed::Unchanged(..)));
}

fn set_mtime(path: &Path, secs: i64) {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

#[test]
fn a_file_rewritten_with_the_same_size_and_time_is_never_taken_for_unchanged() {
    let (bench, memory) = bench_in_memory();
    // the real time: what is written is within the racy moment of each push
    bench.clock.0.store(0, Ordering::Relaxed);
    let path = bench.source().join("same-looking");
    for n in 0..12 {
        let bytes = format!("content {n:04}").into_bytes();
        fs::write(&path, &bytes).unwrap();
        set_mtime(&path, 1_700_000_000);
        let pushed = bench.push(&bench.open().unwrap()).unwrap();
        assert_eq!(held(&bench, &memory, &pushed), [file("same-looking", &bytes)], "round {n}");
    }
}

#[test]
fn metadata_alone_uploads_no_content() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.jsonl");
    fs::write(&path, Writer::new(33).lines(400_000)).unwrap();
    fs::create_dir(bench.source().join("dir")).unwrap();
    fs::write(bench.source().join("dir/b"), Writer::new(34).lines(200_000)).unwrap();
    made(&bench);
    let change: [&dyn Fn(); 5] = [
        &|| set_mtime(&path, 1_234_567_890),
        &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap(),
        &|| {
            fs::rename(bench.source().join("dir"), bench.source().join("renamed")).unwrap();
        },
        &|| fs::hard_link(&path, bench.source().join("also")).unwrap(),
        &|| fs::remove_file(bench.source().join("also")).unwrap(),
    ];
    for (n, change) in change.iter().enumerate() {
        change();
        let pushed = made(&bench);
        assert_eq!(pushed.stats().bytes_new, 0, "change {n}: {:?}", pushed.stats());
        assert!(pushed.stats().bytes_stored < 30_000, "change {n}: {:?}", pushed.stats());
        assert_equal(&bench.tree(), &bench.restore(memory.clone(), &pushed.snapshot().id));
    }
}

#[test]
fn a_name_may_become_something_else_and_back() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("shifty");
    let text = Writer::new(35).lines(50_000);
    for round in 0..2 {
        fs::write(&path, &text).unwrap();
        let pushed = made(&bench);
        assert_eq!(pushed.stats().bytes_new > 0, round == 0, "{:?}", pushed.stats());
        assert_equal(&bench.tree(), &bench.restore(memory.clone(), &pushed.snapshot().id));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"x").unwrap();
        let pushed = made(&bench);
        assert_equal(&bench.tree(), &bench.restore(memory.clone(), &pushed.snapshot().id));
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_missing_root_is_told_and_the_others_are_backed_up() {
    let (bench, _) = bench_in_memory();
    fs::write(bench.source().join("kept"), b"kept").unwrap();
    let run = |roots: &[engine::push::PushRoot], ears: &Ears| {
        let cancel = AtomicBool::new(false);
        push(&bench.open().unwrap(), roots, &PushOptions::default(), ears, &cancel)
    };
    let missing = root("missing", &bench.dir.path().join("nowhere"));
    let ears = Ears::default();
    let pushed = run(&[bench.root(), missing.clone()], &ears).unwrap();
    assert_eq!(pushed.stats().problems, 1);
    assert_eq!(ears.0.lock().unwrap()[0].path, b"missing");
    let session = bench.open().unwrap();
    assert_eq!(contents(&session, &pushed.snapshot().tree), files_below(&bench.source()));
    let nothing = run(&[missing], &Ears::default());
    assert!(matches!(nothing, Err(Error::NothingToBackUp)), "{nothing:?}");
}
