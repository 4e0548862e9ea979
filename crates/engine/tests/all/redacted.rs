//! Secrets that stay at home: with redaction on, none is anywhere in the repository; over the live
//! files all are back; elsewhere marks stand in their places and are named.

mod shapes;
mod together;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use adapters::Rules;
use engine::pull::{self, Action, Overwrite, Placement, Plan, Report, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, Suspects, push};
use engine::scan::Filter;
use engine::suspects::Ignored;
use engine::{Monitor, Problem, Progress};
use repo::{Entry, Kind};
use rusqlite::Connection;
use store::MemoryStore;

use crate::support::text::Dice;
use crate::support::{self, Bench, bench_in_memory};

/// Hears all.
#[derive(Default)]
struct Ears(Mutex<Vec<Problem>>, Mutex<Suspects>);

impl Monitor for Ears {
    fn progress(&self, _: &Progress) {}
    fn problem(&self, problem: &Problem) {
        self.0.lock().unwrap().push(problem.clone());
    }
    fn suspects(&self, suspects: &Suspects) {
        self.1.lock().unwrap().clone_from(suspects);
    }
}

struct Case {
    bench: Bench,
    memory: Arc<MemoryStore>,
    options: PushOptions,
    /// What an adapter says of the source.
    rules: Option<Arc<Rules>>,
}

struct Told {
    pushed: Pushed,
    problems: Vec<Problem>,
    suspects: Suspects,
}

impl Case {
    fn new() -> Self {
        let (bench, memory) = bench_in_memory();
        let options = PushOptions { redact_secrets: true, ..PushOptions::default() };
        Self { bench, memory, options, rules: None }
    }

    fn root(&self) -> PushRoot {
        let mut root = self.bench.root();
        if let Some(rules) = &self.rules {
            root.scan.filter = rules.clone();
        }
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.source().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn push_with(&self, options: &PushOptions) -> Told {
        let (session, ears) = (self.bench.open().unwrap(), Ears::default());
        let roots = [self.root()];
        let pushed = push(&session, &roots, options, &ears, &AtomicBool::new(false)).unwrap();
        let Ears(problems, suspects) = ears;
        let (problems, suspects) = (problems.into_inner().unwrap(), suspects.into_inner().unwrap());
        Told { pushed, problems, suspects }
    }

    fn push(&self) -> Pushed {
        let told = self.push_with(&self.options);
        assert!(told.problems.is_empty(), "{:?}", told.problems);
        told.pushed
    }

    fn stored(&self, pushed: &Pushed, name: &str) -> Option<Vec<u8>> {
        let held = self.bench.held(self.memory.clone(), &pushed.snapshot().id);
        held.into_iter().find(|(path, _)| *path == format!("files/{name}")).map(|(_, bytes)| bytes)
    }

    fn entry(&self, pushed: &Pushed, name: &str) -> Option<Entry> {
        let session = self.bench.open().unwrap();
        let reader = repo::Reader::open(session.repo(), None).unwrap();
        let mut found = None;
        let mut visit = |path: Vec<u8>, entry: Entry| {
            if path == format!("files/{name}").as_bytes() {
                found = Some(entry);
            }
            Ok(())
        };
        reader.walk(&pushed.snapshot().tree, &mut visit).unwrap();
        found
    }

    fn everything(&self) -> Vec<Vec<u8>> {
        support::everything(&self.bench.open().unwrap())
    }

    fn options_to(&self, to: Placement) -> pull::Options {
        let secrets_stay = Some(self.options.ignored.clone());
        let labels = vec![b"files".to_vec()];
        let filter = self
            .rules
            .iter()
            .map(|rules| -> (Vec<u8>, Arc<dyn Filter>) { (b"files".to_vec(), rules.clone()) });
        let filters = filter.collect();
        pull::Options { labels, verify: true, secrets_stay, filters, ..pull::Options::new(to) }
    }

    /// Over the source.
    fn over(&self) -> pull::Options {
        self.options_to(Placement::Each(vec![(b"files".to_vec(), self.bench.source())]))
    }

    fn pull(&self, pushed: &Pushed, options: &pull::Options) -> Report {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        pull::pull(&content, options, &(), &AtomicBool::new(false)).unwrap()
    }

    fn plan(&self, pushed: &Pushed, options: &pull::Options) -> Plan {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        Plan::make(&content, options, &AtomicBool::new(false)).unwrap()
    }
}

/// A token that the rules know, put together here so that no scanner takes this file for a leak.
fn token(dice: &mut Dice) -> String {
    const SIGNS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let sign = |_| char::from(SIGNS[dice.below(62) as usize]);
    format!("ghp_{}", (0..36).map(sign).collect::<String>())
}

/// A private key as it lies in a file.
fn private_key(dice: &mut Dice) -> String {
    let lines: Vec<String> = (0..20).map(|_| token(dice)[4..].repeat(2)[..64].to_owned()).collect();
    let kind = ["PRIVATE", "KEY"].join(" ");
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----", lines.join("\n"))
}

fn line(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!("{{\"type\":\"user\",\"message\":{{\"content\":{text}}}}}\n")
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// A transcript of about so many bytes, with a token over every multiple of `every` and a few keys.
fn transcript(dice: &mut Dice, bytes: usize, every: usize, secrets: &mut Vec<String>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = every;
    while out.len() < bytes {
        let words = (0..dice.below(60) + 5).map(|_| format!("{:x}", dice.below(1 << 20)));
        let mut text = words.collect::<Vec<_>>().join(" ");
        if dice.below(200) == 0 {
            let key = private_key(dice);
            secrets.push(key.lines().nth(3).unwrap().to_owned());
            text = format!("{text}\n{key}\n");
        }
        let len = line(&text).len();
        if out.len() + len + 400 > next {
            // the token begins some bytes before the border
            let secret = token(dice);
            let gap = next - out.len() - line("").len() + 3 - dice.below(36) as usize - 1;
            text = format!("{} {secret} and so on", "x".repeat(gap));
            secrets.push(secret);
            next += every;
        }
        out.extend_from_slice(line(&text).as_bytes());
    }
    out
}

fn dump(path: &Path) -> BTreeSet<String> {
    let db = Connection::open(path).unwrap();
    let mut all = BTreeSet::new();
    for table in ["said", "kept", "notes"] {
        let mut rows = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let width = rows.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |at| row.get::<_, rusqlite::types::Value>(at).unwrap();
            Ok(format!("{table} {:?}", (0..width).map(value).collect::<Vec<_>>()))
        };
        all.extend(rows.query_map([], row).unwrap().map(Result::unwrap));
    }
    all
}

/// A database with a token in a long value, in JSON, in a value of bytes, in a key, in a deleted row and in
/// the samples of an index.
fn database(path: &Path, dice: &mut Dice, secrets: &mut Vec<String>) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA secure_delete=OFF;
         CREATE TABLE said(id INTEGER PRIMARY KEY, body TEXT, at REAL);
         CREATE INDEX by_body ON said(body);
         CREATE TABLE kept(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID;
         CREATE TABLE notes(rowid TEXT, oid INT, text ANY);
         CREATE TRIGGER loud AFTER UPDATE ON said BEGIN DELETE FROM said; END;",
    )
    .unwrap();
    let mut new = || {
        let secret = token(dice);
        secrets.push(secret.clone());
        secret
    };
    for n in 0..200 {
        let body = match n % 20 {
            // over the end of a page, wherever pages end
            0 => format!("{} {} {}", "y".repeat(4000 + n), new(), "z".repeat(5000)),
            1 => serde_json::json!({"content": [{"text": format!("see {}\n", new())}]}).to_string(),
            _ => format!("row {n}"),
        };
        db.execute("INSERT INTO said(body, at) VALUES(?1, ?2)", (body, f64::from(n as u32)))
            .unwrap();
    }
    db.execute("INSERT INTO kept VALUES('a', ?1)", [format!("bytes {}", new()).into_bytes()])
        .unwrap();
    db.execute("INSERT INTO kept VALUES(?1, x'00ff00')", [format!("key {}", new())]).unwrap();
    db.execute("INSERT INTO notes VALUES('r', 7, ?1)", [new()]).unwrap();
    db.execute("INSERT INTO notes VALUES('gone', 8, ?1)", [new()]).unwrap();
    db.execute("DELETE FROM notes WHERE rowid='gone'", []).unwrap();
    // which keeps samples of the values
    db.execute_batch("ANALYZE").unwrap();
}

#[test]
fn no_secret_is_anywhere_in_the_repository_and_over_the_live_files_all_are_back() {
    let (case, mut dice, mut secrets) = (Case::new(), Dice::new(5), Vec::new());
    case.write("a.jsonl", transcript(&mut dice, 3 << 20, 64 << 10, &mut secrets));
    case.write("b.jsonl", transcript(&mut dice, 700 << 10, 32 << 10, &mut secrets));
    let mut new = || {
        let secret = token(&mut dice);
        secrets.push(secret.clone());
        secret
    };
    case.write("config.toml", format!("# mine\ntoken = \"{}\" # keep\n[a]\nb = 1\n", new()));
    case.write("settings.yaml", format!("a:\n  token: {}\n  b: [1, 2]\n", new()));
    case.write(".env", format!("A=1\nTOKEN='{}'\n", new()));
    case.write("notes.md", format!("the token is {}, twice: {}\n", new(), new()));
    case.write("state", format!("{{\"t\":\"{}\",\"n\":1}}", new()));
    case.write("plain.txt", "nothing in it\n");
    let key = private_key(&mut dice);
    secrets.push(key.lines().nth(3).unwrap().to_owned());
    case.write("id", format!("{key}\n"));
    database(&case.path("s.db"), &mut dice, &mut secrets);
    assert!(secrets.len() > 90, "{}", secrets.len());
    let before = support::files_below(&case.bench.source());

    let told = case.push_with(&case.options);
    assert!(told.problems.is_empty(), "{:?}", told.problems);
    assert!(support::files_below(&case.bench.source()) == before, "a push changed a file");
    let counted: u64 = told.suspects.replaced.values().sum();
    assert!(counted > 150, "{counted} of {}", secrets.len());
    let everything = case.everything();
    assert!(everything.iter().map(Vec::len).sum::<usize>() > 3 << 20);
    for secret in &secrets {
        // no half of it either
        for part in [secret.as_str(), &secret[..22], &secret[22..]] {
            assert!(!everything.iter().any(|block| has(block, part)), "{part} of {secret}");
        }
    }
    let pushed = told.pushed;
    for name in ["a.jsonl", "b.jsonl"] {
        let stored = String::from_utf8(case.stored(&pushed, name).unwrap()).unwrap();
        assert!(
            stored.contains("[REDACTED:github-pat:") && stored.contains("[REDACTED:private-key:")
        );
        for line in stored.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
    assert_eq!(case.stored(&pushed, "plain.txt").unwrap(), case.read("plain.txt"));
    assert_eq!(case.entry(&pushed, "plain.txt").unwrap().marks, None);
    assert_eq!(case.entry(&pushed, "notes.md").unwrap().marks.unwrap().count, 2);
    assert!(case.entry(&pushed, "s.db").unwrap().marks.unwrap().count > 20);

    // nothing changed: what is there is what it was
    let plan = case.plan(&pushed, &case.over());
    for item in plan.items.iter().filter(|item| !item.path.ends_with(b".db")) {
        assert!(matches!(item.action, Action::Leave | Action::Metadata), "{item}");
    }
    // spoiled, but with the secrets in it
    let rows = dump(&case.path("s.db"));
    let names: Vec<String> =
        before.iter().map(|(path, _)| path["files/".len()..].to_owned()).collect();
    for name in names.iter().filter(|name| *name != "s.db") {
        let bytes = case.read(name);
        case.write(name, [b"# spoiled\n", bytes.as_slice(), b"\nspoiled"].concat());
    }
    for again in [false, true] {
        let report = case.pull(&pushed, &case.over());
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert!(report.notices.is_empty() && report.blanks.is_empty(), "{report:?}");
        for (path, bytes) in before.iter().filter(|(path, _)| path != "files/s.db") {
            assert!(case.read(&path["files/".len()..]) == *bytes, "{path}");
        }
        assert_eq!(dump(&case.path("s.db")), rows);
        assert_eq!(report.replaced, if again { 0 } else { names.len() as u64 }, "{report:?}");
    }
}

#[test]
fn an_unchanged_push_reads_nothing_and_a_transcript_that_grew_sends_little() {
    let (case, mut dice, mut secrets) = (Case::new(), Dice::new(6), Vec::new());
    let text = transcript(&mut dice, 8 << 20, 100_000, &mut secrets);
    case.write("t.jsonl", &text);
    let first = case.push();
    assert!(first.stats().bytes_new > 1 << 20, "{:?}", first.stats());
    let told = case.push_with(&case.options);
    assert!(matches!(told.pushed, Pushed::Unchanged(..)));
    assert_eq!((told.pushed.stats().files_read, told.pushed.stats().bytes_read), (0, 0));
    assert!(told.suspects.replaced.is_empty());

    let old = case.stored(&first, "t.jsonl").unwrap();
    let mut grown = text;
    for _ in 0..3 {
        let secret = token(&mut dice);
        grown.extend_from_slice(line(&format!("one more: {secret}")).as_bytes());
        secrets.push(secret);
        case.write("t.jsonl", &grown);
        let next = case.push();
        assert!(next.stats().bytes_new < 1024, "{:?}", next.stats());
        assert!(next.stats().bytes_stored < 64 << 10, "{:?}", next.stats());
        let now = case.stored(&next, "t.jsonl").unwrap();
        assert!(now.starts_with(&old) && now.len() > old.len());
    }
    let everything = case.everything();
    for secret in &secrets {
        assert!(!everything.iter().any(|block| has(block, secret)), "{secret}");
    }
}

#[test]
fn a_file_is_read_again_when_redaction_or_its_list_changes() {
    let (mut case, mut dice) = (Case::new(), Dice::new(7));
    let (one, other) = (token(&mut dice), token(&mut dice));
    case.write("a.md", format!("{one}\n{other}\n"));
    let off = PushOptions::default();
    let raw = case.push_with(&off).pushed;
    assert!(has(&case.stored(&raw, "a.md").unwrap(), &one));
    let on = case.push();
    let stored = case.stored(&on, "a.md").unwrap();
    assert!(!has(&stored, &one) && !has(&stored, &other));
    // off again: it is not believed to be what it was
    let raw = case.push_with(&off).pushed;
    assert!(has(&case.stored(&raw, "a.md").unwrap(), &one));

    // one of them is none: it stays, and the other goes
    let state = case.bench.dirs().state;
    let mut prints = Vec::new();
    let roots = [case.bench.root().scan];
    let nothing = Ignored::open(&state, &[]).unwrap();
    let search = engine::suspects::Search { rules: None, ignored: &nothing };
    engine::suspects::look_through(
        &roots,
        &engine::scan::Options::default(),
        search,
        &AtomicBool::new(false),
        &mut |place| prints.push(data_encoding::HEXLOWER.encode(&place.fingerprint)),
        &mut |_, _| {},
    )
    .unwrap();
    case.options.ignored = Arc::new(nothing);
    let none = case.push();
    assert!(!has(&case.stored(&none, "a.md").unwrap(), &one));
    case.options.ignored = Arc::new(Ignored::open(&state, &prints[..1]).unwrap());
    let some = case.push();
    let stored = case.stored(&some, "a.md").unwrap();
    assert!(has(&stored, &one) && !has(&stored, &other));
    case.options.ignored = Arc::new(Ignored::open(&state, &["path:*.md".to_owned()]).unwrap());
    let path = case.push();
    assert_eq!(case.stored(&path, "a.md").unwrap(), case.read("a.md"));
}

#[test]
fn an_empty_home_gets_marks_which_are_named_and_a_second_restore_changes_nothing() {
    let (case, mut dice, mut secrets) = (Case::new(), Dice::new(8), Vec::new());
    case.write("a.jsonl", transcript(&mut dice, 300 << 10, 30 << 10, &mut secrets));
    database(&case.path("s.db"), &mut dice, &mut secrets);
    let pushed = case.push();
    let target = tempfile::tempdir().unwrap();
    let options = case.options_to(Placement::Under(target.path().to_owned()));
    let mut report = case.pull(&pushed, &options);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    report.blanks.sort_by(|a, b| a.path.cmp(&b.path));
    let named: Vec<&[u8]> = report.blanks.iter().map(|blank| blank.path.as_slice()).collect();
    assert_eq!(named, [&b"files/a.jsonl"[..], b"files/s.db"]);
    let fields = report.blanks[0].fields.join("; ");
    assert!(fields.contains("secrets (github-pat)"), "{fields}");
    let restored = fs::read(target.path().join("files/a.jsonl")).unwrap();
    assert_eq!(restored, case.stored(&pushed, "a.jsonl").unwrap());
    let plan = case.plan(&pushed, &options);
    assert!(plan.items.iter().all(|item| item.action == Action::Leave), "{:?}", plan.items);

    // some of them are typed in by hand: the rest stays a mark, and what is right is left
    let mut text = case.read("a.jsonl");
    let half = text.len() / 2;
    text.truncate(half - text[..half].iter().rev().position(|byte| *byte == b'\n').unwrap());
    fs::write(target.path().join("files/a.jsonl"), &text).unwrap();
    let report = case.pull(&pushed, &options);
    assert!(report.secrets_kept > 0 && !report.blanks.is_empty(), "{report:?}");
    let half = fs::read(target.path().join("files/a.jsonl")).unwrap();
    assert!(half.starts_with(&text) && has(&half, "[REDACTED:"));
    let report = case.pull(&pushed, &options);
    assert_eq!(fs::read(target.path().join("files/a.jsonl")).unwrap(), half);
    assert_eq!((report.replaced, report.problems.len()), (0, 0), "{report:?}");
}

/// What has no marks is the text without its secrets: found out without the code under test.
#[test]
fn two_hundred_files_without_their_marks_are_the_originals_without_their_secrets() {
    let (case, mut dice) = (Case::new(), Dice::new(9));
    let mut expected = Vec::new();
    for n in 0..200 {
        let (mut text, mut without, mut count) = (String::new(), String::new(), 0);
        let json = n % 2 == 0;
        while text.len() < dice.below(40_000) as usize {
            let mut add = |part: &str, secret: bool| {
                text.push_str(part);
                if !secret {
                    without.push_str(part);
                }
            };
            add(if json { "{\"a\":\"" } else { "line: " }, false);
            for _ in 0..dice.below(4) {
                add(&"lorem ipsum \u{e9} ".repeat(dice.below(40) as usize), false);
                if dice.below(3) == 0 {
                    add(&token(&mut dice), true);
                    count += 1;
                    add(" ", false);
                }
            }
            add(if json { "\"}\n" } else { "\n" }, false);
        }
        let name = format!("{n:03}.{}", if json { "jsonl" } else { "txt" });
        case.write(&name, &text);
        expected.push((format!("files/{name}"), without, count));
    }
    let pushed = case.push();
    let held = case.bench.held(case.memory.clone(), &pushed.snapshot().id);
    assert_eq!(held.len(), expected.len());
    for ((path, bytes), (name, without, count)) in held.iter().zip(&expected) {
        assert_eq!(path, name);
        let (mut rest, mut text, mut marks) =
            (std::str::from_utf8(bytes).unwrap(), String::new(), 0);
        while let Some((before, after)) = rest.split_once("[REDACTED:github-pat:") {
            let (hash, after) = after.split_at(17);
            assert!(hash[..16].bytes().all(|b| b.is_ascii_hexdigit()) && hash.ends_with(']'));
            text.push_str(before);
            (rest, marks) = (after, marks + 1);
        }
        text.push_str(rest);
        assert!(text == *without, "{name}");
        assert_eq!(marks, *count, "{name}");
    }
}

#[test]
fn what_is_no_text_is_not_sent_with_a_secret_and_its_last_version_stands_for_it() {
    let (case, mut dice) = (Case::new(), Dice::new(10));
    let secret = token(&mut dice);
    let bytes = [b"\0\x01\x02 pack ".as_slice(), &dice.bytes(1 << 20)].concat();
    case.write("old.pack", &bytes);
    let first = case.push();
    case.write("old.pack", [bytes.as_slice(), b" ", secret.as_bytes(), b" "].concat());
    case.write("new.pack", format!("\0 {secret} "));
    let told = case.push_with(&case.options);
    let names: BTreeSet<&[u8]> = told.problems.iter().map(|p| p.path.as_slice()).collect();
    assert_eq!(names, BTreeSet::from([&b"files/old.pack"[..], b"files/new.pack"]));
    for problem in &told.problems {
        assert!(!problem.notice && problem.what.contains("1 github-pat"), "{problem:?}");
        assert!(!problem.what.contains(&secret));
    }
    assert_eq!(case.stored(&told.pushed, "old.pack").unwrap(), bytes);
    assert_eq!(case.stored(&told.pushed, "new.pack"), None);
    assert!(!case.everything().iter().any(|block| has(block, &secret)));
    // it is told each time, and stored again when it can be
    assert_eq!(case.push_with(&case.options).problems.len(), 2);
    case.write("old.pack", [bytes.as_slice(), b"fine"].concat());
    fs::remove_file(case.path("new.pack")).unwrap();
    let last = case.push();
    assert_eq!(case.stored(&last, "old.pack").unwrap(), case.read("old.pack"));
    assert_ne!(first.snapshot().tree, last.snapshot().tree);
}

#[test]
fn a_database_in_which_a_secret_would_stay_is_not_sent_nor_is_its_log() {
    let (case, mut dice) = (Case::new(), Dice::new(11));
    let (words, raw) = (token(&mut dice), token(&mut dice));
    let fts = Connection::open(case.path("fts.db")).unwrap();
    fts.execute_batch(
        "PRAGMA journal_mode=WAL;
         CREATE VIRTUAL TABLE said USING fts5(body);",
    )
    .unwrap();
    fts.execute("INSERT INTO said VALUES(?1)", [format!("it is {words} there")]).unwrap();
    let bytes = Connection::open(case.path("bytes.db")).unwrap();
    bytes.execute_batch("CREATE TABLE t(v BLOB)").unwrap();
    let value = [b"\xff\xfe ".as_slice(), raw.as_bytes(), b" "].concat();
    bytes.execute("INSERT INTO t VALUES(?1)", [value]).unwrap();
    case.write("plain.txt", "here");
    let told = case.push_with(&case.options);
    let names: BTreeSet<&[u8]> = told.problems.iter().map(|p| p.path.as_slice()).collect();
    assert_eq!(
        names,
        BTreeSet::from([&b"files/bytes.db"[..], b"files/fts.db"]),
        "{:?}",
        told.problems
    );
    let held = case.bench.held(case.memory.clone(), &told.pushed.snapshot().id);
    assert_eq!(held.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["files/plain.txt"]);
    for secret in [&words, &raw] {
        assert!(!case.everything().iter().any(|block| has(block, &secret[4..])));
    }
}

#[test]
fn a_live_secret_that_no_backup_has_is_not_replaced_unless_it_is_told_to_go() {
    let (case, mut dice) = (Case::new(), Dice::new(12));
    let (old, new) = (token(&mut dice), token(&mut dice));
    case.write("a.env", format!("TOKEN={old}\n"));
    case.write("b.md", "no secret yet\n");
    database(&case.path("s.db"), &mut dice, &mut Vec::new());
    let pushed = case.push();
    let live = [("a.env", format!("TOKEN={new}\n")), ("b.md", format!("it is {new}\n"))];
    for (name, text) in &live {
        case.write(name, text);
    }
    let db = Connection::open(case.path("s.db")).unwrap();
    db.execute("INSERT INTO notes VALUES('n', 9, ?1)", [&new]).unwrap();
    drop(db);
    let rows = dump(&case.path("s.db"));
    let report = case.pull(&pushed, &case.over());
    let names: BTreeSet<&[u8]> = report.problems.iter().map(|p| p.path.as_slice()).collect();
    assert_eq!(names, BTreeSet::from([&b"files/a.env"[..], b"files/b.md", b"files/s.db"]));
    for (name, text) in &live {
        assert_eq!(case.read(name), text.as_bytes());
    }
    assert_eq!(dump(&case.path("s.db")), rows);
    // where pushes do not replace secrets a safety snapshot has them
    let saved = pull::Options { secrets_stay: None, ..case.over() };
    assert!(case.pull(&pushed, &saved).problems.is_empty());
    for (name, text) in &live {
        case.write(name, text);
    }
    let always = pull::Options { overwrite: Overwrite::Always, ..case.over() };
    let report = case.pull(&pushed, &always);
    assert!(report.problems.is_empty() && report.notices.len() == 2, "{report:?}");
    assert_eq!(case.read("b.md"), b"no secret yet\n");
    assert!(case.read("a.env").starts_with(b"TOKEN=[REDACTED:github-pat:"));
}

#[test]
fn a_further_name_of_a_marked_file_has_its_secrets_again() {
    let (case, mut dice) = (Case::new(), Dice::new(13));
    let text = format!("the token: {}\n", token(&mut dice));
    case.write("a.md", &text);
    fs::hard_link(case.path("a.md"), case.path("b.md")).unwrap();
    let pushed = case.push();
    for spoil in [false, true, false] {
        if spoil {
            case.write("a.md", format!("{text}more\n"));
        }
        let report = case.pull(&pushed, &case.over());
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(
            (case.read("a.md"), case.read("b.md")),
            (text.clone().into(), text.clone().into())
        );
    }
    assert_eq!(case.entry(&pushed, "b.md").unwrap().kind, Kind::File);
}
