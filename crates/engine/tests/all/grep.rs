//! A search finds what a naive one finds in every restored tree, and reads each block once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::grep::{
    self, FileFound, Limits, LineFound, Lines as LinesFound, Listener, Options, Stats, Wanted,
};
use engine::push::PushOptions;
use engine::{DamagedSnapshot, Error, InitOptions, Session};
use repo::config::Params;
use repo::keys::Kdf;
use repo::{BlockId, OpId, Reader, Repository, Snapshot};
use store::{MemoryStore, Store as _};
use testkit::RecordingStore;

use crate::support::{self, Bench, machine};

/// Small chunks and blocks: a file of some 100 KiB has many of both.
const SMALL: Params = Params {
    chunk_bytes_min: 256,
    chunk_bytes_avg: 1024,
    chunk_bytes_max: 4096,
    block_bytes_data: 64 << 10,
    block_bytes_pages: 64 << 10,
    zstd_level: 1,
};

fn small_repository(bench: &Bench) -> Session {
    let like = Repository::create(Arc::new(MemoryStore::new()), SMALL, 0).unwrap();
    let (label, kdf) = ("here".into(), Kdf::for_tests());
    let options = InitOptions { passphrase: None, label, kdf, keys_of: Some(like) };
    let clock = bench.clock.clone();
    Session::init(bench.store.clone(), &options, &bench.dirs(), machine(), clock).unwrap().0
}

/// A file with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    file: FileFound,
    lines: Vec<LineFound>,
}

impl std::ops::Deref for Found {
    type Target = FileFound;
    fn deref(&self) -> &FileFound {
        &self.file
    }
}

/// Keeps what it hears.
#[derive(Debug, Default)]
struct Heard {
    files: Vec<Found>,
    problems: Vec<(Vec<u8>, String)>,
}

impl Listener for Heard {
    fn progress(&mut self, done: u64, of: u64) {
        assert!(done <= of, "{done} of {of}");
    }
    fn damaged(&mut self, snapshot: DamagedSnapshot) {
        panic!("{snapshot:?}");
    }
    fn problem(&mut self, path: &[u8], what: &str) {
        self.problems.push((path.to_vec(), what.to_owned()));
    }
    fn found(&mut self, file: FileFound, lines: &mut LinesFound<'_>) -> ControlFlow<()> {
        let lines = (0..lines.len()).map(|at| lines.get(at).unwrap()).collect();
        self.files.push(Found { file, lines });
        ControlFlow::Continue(())
    }
}

fn search(session: &Session, snapshots: &[Snapshot], options: &Options) -> (Heard, Stats) {
    let mut heard = Heard::default();
    let no = AtomicBool::new(false);
    let stats = grep::grep(session, snapshots, options, &no, &mut heard).unwrap();
    (heard, stats)
}

fn pattern(pattern: &str) -> Options {
    Options { patterns: vec![pattern.into()], ..Options::default() }
}

/// Files of a moment, by path below the label.
type Files = BTreeMap<String, Vec<u8>>;

/// Which lines of which files, the n-th of equal ones each; and the snapshots that have them.
type Lines = BTreeMap<(String, Vec<u8>, usize), BTreeSet<OpId>>;

/// What a search of every single snapshot finds, line by line.
fn naive(history: &[(OpId, Files)], fits: &dyn Fn(&[u8]) -> bool) -> Lines {
    let mut out = Lines::new();
    for (id, files) in history {
        for (path, bytes) in files {
            let mut again: HashMap<&[u8], usize> = HashMap::new();
            for (_, line) in numbered(bytes).filter(|(_, line)| fits(line)) {
                let n = again.entry(line).or_default();
                let key = (format!("files/{path}"), line.to_vec(), *n);
                *n += 1;
                out.entry(key).or_default().insert(*id);
            }
        }
    }
    out
}

fn numbered(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let any = !bytes.is_empty();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    (1..).zip(bytes.split(|byte| *byte == b'\n')).filter(move |_| any)
}

/// The same of what was heard; numbers and places of lines are compared with the newest snapshot.
fn told(heard: &Heard, history: &[(OpId, Files)]) -> Lines {
    let mut out = Lines::new();
    for file in &heard.files {
        let path = String::from_utf8(file.path.clone()).unwrap();
        assert_eq!(file.count, file.lines.len() as u64);
        let mut again: HashMap<&[u8], usize> = HashMap::new();
        let mut any = BTreeSet::new();
        for line in &file.lines {
            assert_eq!(line.text.len() as u64, line.len, "all of it was asked for");
            assert!(line.matched.end <= line.len);
            let (_, newest) = history.iter().rfind(|(id, _)| line.snapshots.contains(id)).unwrap();
            let bytes = &newest[path.strip_prefix("files/").unwrap()];
            let at = usize::try_from(line.offset).unwrap();
            assert!(bytes[at..].starts_with(&line.text), "{path} at {at}");
            let feeds = memchr::memchr_iter(b'\n', &bytes[..at]).count() as u64;
            assert_eq!(line.line, Some(feeds + 1), "{path} at {at}");
            any.extend(line.snapshots.iter().copied());
            let n = again.entry(&line.text).or_default();
            let ids = line.snapshots.iter().copied().collect();
            out.insert((path.clone(), line.text.clone(), *n), ids);
            *n += 1;
        }
        assert_eq!(any, file.snapshots.iter().copied().collect(), "{path}");
    }
    out
}

/// Sets of snapshots of equal lines, in an order of their own.
fn sorted(lines: Lines) -> BTreeMap<(String, Vec<u8>), Vec<BTreeSet<OpId>>> {
    let mut out: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((path, text, _), ids) in lines {
        out.entry((path, text)).or_default().push(ids);
    }
    for sets in out.values_mut() {
        sets.sort();
    }
    out
}

/// Whether a line fits, told in another way.
type Fits<'f> = &'f dyn Fn(&[u8]) -> bool;

/// Deterministic numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides).unwrap()
    }

    /// A line without its end. A third has the needle, somewhere.
    fn line(&mut self) -> Vec<u8> {
        let len = match self.roll(20) {
            0 => 0,
            1 => self.roll(6000),
            2 if self.roll(10) == 0 => self.roll(200_000),
            _ => self.roll(120),
        };
        let mut line = Vec::new();
        while line.len() < len {
            line.extend(match self.roll(17) {
                16 => "\u{e9}".as_bytes(),
                n => &b"abcdefgh nedl\0\r."[n..=n],
            });
        }
        let len = line.len();
        if self.roll(3) == 0 {
            let mut at = if self.roll(2) == 0 { len } else { self.roll(len as u64 + 1) };
            while line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
                at += 1;
            }
            let needle = [&b"needle"[..], b"Needle", b"needles", b" needle "][self.roll(4)];
            line.splice(at..at, needle.iter().copied());
        }
        line
    }

    fn lines(&mut self, bytes_min: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < bytes_min {
            out.extend(self.line());
            out.push(b'\n');
        }
        out
    }
}

/// The next moment of a source: files that grow (also in the middle of a line), change in the
/// middle, are copied, renamed, deleted, come back.
fn step(dice: &mut Dice, files: &mut Files, at: usize) {
    if at == 0 {
        for n in 0..30 {
            let len = [0, 40, 3000, 60_000][dice.roll(4)];
            files.insert(format!("small/{n}.txt"), dice.lines(len));
        }
        files.insert("big.jsonl".into(), dice.lines(400_000));
        let mut one = dice.lines(300_000);
        one.retain(|byte| *byte != b'\n');
        files.insert("one-line".into(), one);
        files.insert("feeds".into(), vec![b'\n'; 5000]);
        files.insert("empty".into(), Vec::new());
    }
    let names: Vec<String> = files.keys().cloned().collect();
    for _ in 0..4 {
        let name = &names[dice.roll(names.len() as u64)];
        let Some(mut bytes) = files.get(name).cloned() else { continue };
        match dice.roll(6) {
            0 | 1 => bytes.extend(dice.lines(200)),
            2 => bytes.extend(dice.line()),
            3 => {
                let place = dice.roll(bytes.len() as u64 + 1);
                let end = (place + dice.roll(300)).min(bytes.len());
                bytes.splice(place..end, dice.lines(30));
            }
            4 => drop(files.insert(format!("copy-{at}"), bytes.clone())),
            _ => {
                files.remove(name);
                if dice.roll(2) == 0 {
                    files.insert(format!("moved-{at}"), bytes);
                }
                continue;
            }
        }
        files.insert(name.clone(), bytes);
    }
    let grow = files.entry("big.jsonl".into()).or_default();
    grow.extend(if at.is_multiple_of(3) { dice.line() } else { dice.lines(500) });
    if at % 5 == 4 {
        files.insert("now and then".into(), dice.lines(2000));
    } else {
        files.remove("now and then");
    }
}

fn write(source: &Path, files: &Files) {
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(source).unwrap().to_str().unwrap().to_owned();
        if path.is_file() && !files.contains_key(&relative) {
            fs::remove_file(path).unwrap();
        }
    }
    let _ = fs::remove_dir_all(source.join("small"));
    fs::create_dir_all(source.join("small")).unwrap();
    for (path, bytes) in files {
        fs::write(source.join(path), bytes).unwrap();
    }
}

/// Pushes a history; the session, its snapshots and what was in them.
fn history(bench: &Bench, seed: u64, steps: usize) -> (Session, Vec<Snapshot>, Vec<(OpId, Files)>) {
    let session = small_repository(bench);
    fs::create_dir_all(bench.source()).unwrap();
    let (mut dice, mut files) = (Dice(seed), Files::new());
    let (mut snapshots, mut all) = (Vec::new(), Vec::new());
    for at in 0..steps {
        step(&mut dice, &mut files, at);
        write(&bench.source(), &files);
        let options = PushOptions { always: true, reread: true, ..PushOptions::default() };
        let pushed = bench.push_with(&session, &options).unwrap();
        all.push((pushed.snapshot().id, files.clone()));
        snapshots.push(pushed.snapshot().clone());
    }
    (session, snapshots, all)
}

/// Distinct data blocks of snapshots, and how many distinct bytes of them are in use.
fn in_use(session: &Session, snapshots: &[Snapshot]) -> (u64, u64) {
    let reader = Reader::open(session.repo(), None).unwrap();
    let mut used: HashMap<BlockId, BTreeSet<u32>> = HashMap::new();
    for snapshot in snapshots {
        let mut maps = Vec::new();
        reader
            .walk(&snapshot.tree, &mut |_, entry| {
                maps.push(entry.map);
                Ok(())
            })
            .unwrap();
        for extent in maps.iter().flat_map(|map| reader.extents(map).unwrap()) {
            used.entry(extent.block).or_default().extend(extent.offset..extent.offset + extent.len);
        }
    }
    (used.len() as u64, used.values().map(|bytes| bytes.len() as u64).sum())
}

fn contains(line: &[u8], needle: &[u8]) -> bool {
    line.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_search_finds_what_a_search_of_every_snapshot_finds_and_reads_each_block_once() {
    for seed in 1..=2 {
        let bench = Bench::new(Arc::new(MemoryStore::new()));
        let (session, snapshots, all) = history(&bench, seed, 12);
        let (blocks, bytes) = in_use(&session, &snapshots);
        let tight = Limits { kept_bytes_max: 0, batch_bytes_max: 100_000, ..Limits::default() };
        let upper = |line: &[u8]| line.to_ascii_uppercase();
        let ends = |line: &[u8]| line.ends_with(b"needle");
        // of what the dice make, these are letters: ASCII, and one of two bytes
        let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let word = |line: &[u8]| {
            (0..line.len()).any(|at| {
                let Some(after) = line[at..].strip_prefix(b"needle") else { return false };
                !letter(line[..at].last())
                    && !line[..at].ends_with(b"\xc3\xa9")
                    && !letter(after.first())
                    && !after.starts_with(b"\xc3\xa9")
            })
        };
        let shown = |options: Options| Options { shown_bytes_max: 0, ..options };
        let cases: [(Options, Fits<'_>); 6] = [
            (pattern("needle"), &|line| contains(line, b"needle")),
            (Options { limits: tight, ..pattern("needle") }, &|line| contains(line, b"needle")),
            (Options { ignore_case: true, ..pattern("neEDle") }, &|line| {
                contains(&upper(line), b"NEEDLE")
            }),
            (pattern("needle$"), &ends),
            (Options { word: true, ..pattern("needle") }, &word),
            (pattern("^$"), &|line| line.is_empty()),
        ];
        for (n, (options, fits)) in cases.into_iter().enumerate() {
            let (heard, stats) = search(&session, &snapshots, &shown(options.clone()));
            assert!(heard.problems.is_empty(), "{:?}", heard.problems);
            let (expected, found) = (naive(&all, fits), told(&heard, &all));
            assert!(expected.len() > 30, "case {n} tests {} lines", expected.len());
            let (expected, found) = (sorted(expected), sorted(found));
            let differs = expected.iter().find(|(key, ids)| found.get(*key) != Some(ids));
            assert!(differs.is_none(), "seed {seed}, case {n}: missed {differs:?}");
            let differs = found.iter().find(|(key, ids)| expected.get(*key) != Some(ids));
            assert!(differs.is_none(), "seed {seed}, case {n}: too much {differs:?}");
            assert_eq!((stats.blocks_read, stats.bytes_searched), (blocks, bytes), "seed {seed}");
            assert!(stats.batch_bytes_max <= options.limits.batch_bytes_max);
            assert!(stats.kept_bytes_max <= options.limits.kept_bytes_max as u64);
            assert_eq!(stats.file_bytes > 0, options.limits.kept_bytes_max == 0);
        }
    }
}

#[test]
fn files_and_counts_are_those_of_the_lines() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let (session, snapshots, _) = history(&bench, 9, 6);
    let (lines, _) = search(&session, &snapshots, &pattern("needle"));
    let options = Options { wanted: Wanted::Counts, ..pattern("needle") };
    let (counts, _) = search(&session, &snapshots, &options);
    let options = Options { wanted: Wanted::Files, ..pattern("needle") };
    let (files, _) = search(&session, &snapshots, &options);
    let without = |found: &Found| Found { file: found.file.clone(), lines: Vec::new() };
    assert!(lines.files.len() > 20);
    assert_eq!(counts.files, lines.files.iter().map(without).collect::<Vec<_>>());
    let one = |found: &Found| {
        let file = FileFound { count: 1, ..found.file.clone() };
        Found { file, lines: Vec::new() }
    };
    assert_eq!(files.files, lines.files.iter().map(one).collect::<Vec<_>>());
}

#[test]
fn fifty_snapshots_of_a_file_that_grows_are_fetched_once() {
    let recording = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
    let bench = Bench::new(recording.clone());
    let session = bench.init();
    fs::create_dir_all(bench.source()).unwrap();
    let path = bench.source().join("a.jsonl");
    let (mut text, mut snapshots) = (Vec::new(), Vec::new());
    let mut noise = blake3::Hasher::new().finalize_xof();
    for n in 0..50 {
        let mut piece = vec![0; if n == 0 { 6 << 20 } else { 20 << 10 }];
        noise.fill(&mut piece);
        text.extend(piece.iter().map(|byte| byte % 64 + b' '));
        text.extend(format!("needle {n}\n").bytes());
        fs::write(&path, &text).unwrap();
        snapshots.push(bench.push(&session).unwrap().snapshot().clone());
    }
    let stored = recording.bytes_put();
    recording.take();
    let (heard, stats) = search(&session, &snapshots, &pattern("needle [0-9]+$"));
    let fetched = recording.bytes_read();
    assert_eq!(stats.bytes_searched, text.len() as u64);
    assert!(fetched < stored, "{fetched} bytes were fetched of {stored} there are");
    let [file] = heard.files.as_slice() else { panic!("{:?}", heard.files) };
    assert_eq!(file.lines.len(), 50);
    for (n, line) in file.lines.iter().enumerate() {
        assert_eq!(line.line, Some(n as u64 + 1));
        assert!(line.text.ends_with(format!("needle {n}").as_bytes()));
        let ids: Vec<OpId> = snapshots[n..].iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(line.snapshots.to_vec(), ids);
    }
}

#[test]
fn a_line_that_is_too_long_for_memory_is_found_by_what_fits_a_window() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let session = small_repository(&bench);
    let mut line = Vec::new();
    while line.len() < 900_000 {
        line.extend(format!("{} ", blake3::hash(&line.len().to_le_bytes())).bytes());
    }
    let (start, end) = (b"first ", b" needle last");
    line.splice(..0, start.iter().copied());
    line.extend(end);
    let files = Files::from([("long".into(), [b"x\n", line.as_slice(), b"\ny\n"].concat())]);
    fs::create_dir_all(bench.source()).unwrap();
    write(&bench.source(), &files);
    let snapshot = bench.push(&session).unwrap().snapshot().clone();
    let limits = Limits { line_bytes_max: 128 << 10, ..Limits::default() };
    let found = |text: &str| {
        let options = Options { limits: limits.clone(), ..pattern(text) };
        let (heard, stats) = search(&session, std::slice::from_ref(&snapshot), &options);
        assert_eq!(stats.lines_in_windows, 1, "{text}");
        heard.files.into_iter().flat_map(|file| file.lines).next()
    };
    for text in ["^first", "needle", "last$", "x last|needle"] {
        let hit = found(text).unwrap_or_else(|| panic!("{text} was not found"));
        assert_eq!((hit.line, hit.offset, hit.len), (Some(2), 2, line.len() as u64));
        let at = usize::try_from(hit.text_at).unwrap();
        assert!(line[at..].starts_with(&hit.text), "{text}");
        assert!(hit.text.len() <= 240);
    }
    // the beginning and the end of a window are none of the line
    for text in ["^[0-9a-f]+ ", "[0-9a-f]$", "nothing"] {
        assert!(found(text).is_none(), "{text}");
    }
}

#[test]
fn text_in_databases_is_found_in_every_snapshot_that_has_it() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let session = bench.init();
    fs::create_dir_all(bench.source()).unwrap();
    let path = bench.source().join("state.vscdb");
    let (mut snapshots, mut restored) = (Vec::new(), Vec::new());
    for n in 0..8_u32 {
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "pragma secure_delete = on; create table if not exists t (k text primary key, v text);
             begin",
        )
        .unwrap();
        for row in 0..200 {
            let filler = format!("{}", blake3::hash(&(n * 1000 + row).to_le_bytes()));
            let value = format!("{{\"token\":\"tok-{n}-{row}-\",\"filler\":\"{filler}\"}}");
            db.execute("insert into t values (?, ?)", (format!("key-{n}-{row}"), value)).unwrap();
        }
        // larger than a page: overflow pages
        let long = format!("long-{n}- {} end-{n}-", "lorem ".repeat(3000));
        db.execute("insert into t values (?, ?)", (format!("long{n}"), long)).unwrap();
        if n > 2 {
            db.execute("delete from t where k like ?", [format!("key-{}-1%", n - 2)]).unwrap();
        }
        db.execute_batch(if n == 5 { "commit; vacuum" } else { "commit" }).unwrap();
        drop(db);
        let snapshot = bench.push(&session).unwrap().snapshot().clone();
        restored.push(support::contents(&session, &snapshot.tree).remove(0).1);
        snapshots.push(snapshot);
    }
    for text in ["tok-0-7-", "tok-1-15-", "tok-3-199-", "end-2-", "long-6-", "tok-9", "lorem lorem"]
    {
        let holds = |bytes: &&Vec<u8>| contains(bytes, text.as_bytes());
        let expected: Vec<OpId> = restored
            .iter()
            .zip(&snapshots)
            .filter(|(bytes, _)| holds(bytes))
            .map(|(_, snapshot)| snapshot.id)
            .collect();
        let (heard, _) = search(&session, &snapshots, &pattern(text));
        let found = heard.files.first().map(|file| file.snapshots.to_vec()).unwrap_or_default();
        assert_eq!(found, expected, "{text}");
        if text.starts_with("tok-") && !expected.is_empty() {
            let lines = &heard.files[0].lines;
            assert_eq!(lines.len(), 1, "a row that stays is one result: {lines:?}");
            let bytes = &restored
                [snapshots.iter().rposition(|s| s.id == *expected.last().unwrap()).unwrap()];
            let at = usize::try_from(lines[0].offset).unwrap();
            assert!(bytes[at..].starts_with(&lines[0].text), "{text}");
            assert_eq!(lines[0].line, None);
        }
    }
}

#[test]
fn only_what_was_asked_for_is_read_and_a_hard_link_is_searched_too() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let session = bench.init();
    let source = bench.source();
    fs::create_dir_all(source.join("logs")).unwrap();
    fs::write(source.join("a.md"), "needle in a\n").unwrap();
    fs::write(source.join("logs/b.jsonl"), "needle in b\n").unwrap();
    fs::hard_link(source.join("a.md"), source.join("logs/twin")).unwrap();
    let one = bench.push(&session).unwrap().snapshot().clone();
    fs::write(source.join("a.md"), "needle again\n").unwrap();
    let two = bench.push(&session).unwrap().snapshot().clone();
    let all = [one.clone(), two.clone()];
    let found = |paths: &[&str], agents: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let options = Options { paths: own(paths), agents: own(agents), ..pattern("needle") };
        let (heard, _) = search(&session, &all, &options);
        let lines = heard.files.iter().flat_map(|file| {
            let path = String::from_utf8(file.path.clone()).unwrap();
            file.lines.iter().map(move |line| {
                (path.clone(), String::from_utf8(line.text.clone()).unwrap(), line.snapshots.len())
            })
        });
        lines.collect::<Vec<_>>()
    };
    let line = |path: &str, text: &str, count| (format!("files/{path}"), text.to_owned(), count);
    let twin = [line("logs/twin", "needle in a", 1), line("logs/twin", "needle again", 1)];
    let mut everything = vec![
        line("a.md", "needle in a", 1),
        line("a.md", "needle again", 1),
        line("logs/b.jsonl", "needle in b", 2),
    ];
    everything.extend(twin.clone());
    assert_eq!(found(&[], &[]), everything);
    assert_eq!(found(&["twin"], &[]), twin, "its content is that of a path that was not asked for");
    assert_eq!(found(&["logs"], &[]), everything[2..]);
    assert_eq!(found(&["files/*.md"], &[]), everything[..2]);
    assert_eq!(found(&[], &["codex"]), []);
}

#[test]
fn what_cannot_be_read_is_named_and_all_else_is_found() {
    let memory = Arc::new(MemoryStore::new());
    let bench = Bench::new(memory.clone());
    let session = bench.init();
    fs::create_dir_all(bench.source()).unwrap();
    let mut snapshots = Vec::new();
    for name in ["a", "b", "c"] {
        fs::write(bench.source().join(name), format!("needle {name}\n")).unwrap();
        snapshots.push(bench.push(&session).unwrap().snapshot().clone());
    }
    let reader = Reader::open(session.repo(), None).unwrap();
    let mut at = None;
    reader
        .walk(&snapshots[1].tree, &mut |path, entry| {
            if path == b"files/b" {
                at = Some(reader.extents(&entry.map)?[0].block);
            }
            Ok(())
        })
        .unwrap();
    let place = reader.location(&at.unwrap()).unwrap();
    let name = place.pack.object_name();
    let mut bytes = memory.get(&name).unwrap().to_vec();
    bytes[usize::try_from(place.offset).unwrap()] ^= 1;
    memory.delete(&name).unwrap();
    memory.put(&name, vec![bytes.into()]).unwrap();
    let (heard, stats) = search(&session, &snapshots, &pattern("needle"));
    let paths: Vec<&[u8]> = heard.files.iter().map(|file| file.path.as_slice()).collect();
    assert_eq!(paths, [b"files/a", b"files/c"]);
    let [(path, what)] = heard.problems.as_slice() else { panic!("{:?}", heard.problems) };
    assert!(path == b"files/b" && what.contains("block"), "{what}");
    assert_eq!(stats.blocks_read, 3);
}

#[test]
fn a_bad_pattern_is_told_before_anything_is_read() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let session = bench.init();
    let no = AtomicBool::new(false);
    let result = grep::grep(&session, &[], &pattern("(a"), &no, &mut Heard::default());
    assert!(matches!(result, Err(Error::Pattern(_))), "{result:?}");
}

/// Lines around a hit are those around it in the newest file that has it, wherever blocks end; they cost
/// no block more, and no line is looked at twice for them.
#[test]
fn lines_around_are_those_of_the_newest_file_and_each_block_is_still_read_once() {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    let (session, snapshots, all) = history(&bench, 3, 8);
    let (blocks, bytes) = in_use(&session, &snapshots);
    let (_, plain) = search(&session, &snapshots, &pattern("needle"));
    let tight = Limits { kept_bytes_max: 0, batch_bytes_max: 100_000, ..Limits::default() };
    for (before, after, max) in [(2, 0, 0), (0, 3, 0), (4, 4, 0), (40, 25, 0), (2, 2, 50)] {
        let limits = if after == 3 { tight.clone() } else { Limits::default() };
        let options = Options {
            lines_before: before,
            lines_after: after,
            shown_bytes_max: max,
            limits,
            ..pattern("needle")
        };
        let (heard, stats) = search(&session, &snapshots, &options);
        assert_eq!((stats.blocks_read, stats.bytes_searched), (blocks, bytes));
        assert_eq!(stats.lines_joined, plain.lines_joined);
        let mut seen = 0;
        for file in &heard.files {
            let path = std::str::from_utf8(&file.path).unwrap().strip_prefix("files/").unwrap();
            for line in &file.lines {
                let newest = all.iter().rfind(|(id, _)| line.snapshots.contains(id)).unwrap();
                let lines: Vec<&[u8]> = numbered(&newest.1[path]).map(|(_, line)| line).collect();
                let at = usize::try_from(line.line.unwrap()).unwrap() - 1;
                let there = [
                    (&line.before, &lines[at.saturating_sub(before)..at]),
                    (&line.after, &lines[at + 1..lines.len().min(at + 1 + after)]),
                ];
                for (told, there) in there {
                    assert_eq!(told.len(), there.len(), "{path}:{}", at + 1);
                    for (told, there) in told.iter().zip(there) {
                        assert_eq!(told.len, there.len() as u64, "{path}:{}", at + 1);
                        assert!(there.starts_with(&told.text), "{path}:{}", at + 1);
                        let whole = max == 0 || there.len() <= max;
                        assert!(if whole {
                            told.text == *there
                        } else {
                            told.text.len() > max - 4
                        });
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 500, "{seen}");
    }
}
