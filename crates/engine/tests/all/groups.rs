//! Groups: what an adapter wants from one moment is captured in one pass, databases first, and the
//! snapshot says whether it is from one moment.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use adapters::{RowAction, RowRule};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use engine::{Clock, Monitor, Problem, Progress};
use rusqlite::Connection;
use store::MemoryStore;

use crate::support::Bench;

/// An adapter whose group is the catalogue and the conversations.
struct Sessions;

impl Filter for Sessions {
    fn decide(&self, rel: &[u8], _: bool) -> Verdict {
        if rel.ends_with(b".db") { Verdict::Sqlite } else { Verdict::Include }
    }
    fn max_file_size(&self) -> Option<u64> {
        None
    }
    fn group(&self, rel: &[u8]) -> Option<&str> {
        let member = rel.ends_with(b".db") || rel.ends_with(b".jsonl");
        (member && !rel.starts_with(b"other")).then_some("quill/sessions")
    }
    fn leads_to_group(&self, rel: &[u8]) -> bool {
        rel != b"other"
    }
    fn row_rules(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        let logins = RowRule { table: "login".into(), rows: None, action: RowAction::Delete };
        if rel == b"y.db" { vec![Arc::new(logins)] } else { Vec::new() }
    }
}

/// What happens when a file is about to be read.
type OnRead<'a> = &'a (dyn Fn(&str) + Sync);

/// Writes down what is read, in order, and lets a test get between.
struct Recording<'a> {
    read: Mutex<Vec<String>>,
    problems: Mutex<Vec<Problem>>,
    on_read: OnRead<'a>,
}

impl Monitor for Recording<'_> {
    fn progress(&self, _: &Progress) {}
    fn problem(&self, problem: &Problem) {
        self.problems.lock().unwrap().push(problem.clone());
    }
    fn reading(&self, path: &[u8]) {
        let path = String::from_utf8_lossy(path).into_owned();
        (self.on_read)(path.strip_prefix("files/").unwrap());
        self.read.lock().unwrap().push(path);
    }
}

/// A push: what was read of the group, what was told, and whether the group is consistent.
struct Told {
    pushed: Pushed,
    read: Vec<String>,
    problems: Vec<(String, String)>,
    consistent: Option<bool>,
}

fn bench() -> Bench {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    fs::create_dir_all(bench.source().join("talks")).unwrap();
    drop(bench.init());
    bench
}

fn push_with(bench: &Bench, options: &PushOptions, on_read: OnRead<'_>) -> Told {
    let dir = bench.source();
    let filter = Arc::new(Sessions);
    let scan = ScanRoot { label: "files".into(), dir, files: None, filter };
    let root = PushRoot { scan, agent: Some("quill".into()) };
    let recording = Recording { read: Mutex::default(), problems: Mutex::default(), on_read };
    let session = bench.open().unwrap();
    let pushed = push(&session, &[root], options, &recording, &AtomicBool::new(false)).unwrap();
    let groups = &pushed.snapshot().groups;
    assert!(groups.iter().all(|group| group.name == "quill/sessions"), "{groups:?}");
    let consistent = groups.first().map(|group| group.consistent);
    let strip =
        |path: &[u8]| String::from_utf8_lossy(path).strip_prefix("files/").unwrap().to_owned();
    let read = recording.read.into_inner().unwrap();
    let read = read.iter().map(|path| strip(path.as_bytes())).collect();
    let problems = recording.problems.into_inner().unwrap();
    let of_groups = |problem: &Problem| problem.what.starts_with("the group ");
    assert!(problems.iter().all(|problem| problem.notice == of_groups(problem)), "{problems:?}");
    let problems = problems.into_iter().map(|p| (strip(&p.path), p.what)).collect();
    Told { pushed, read, problems, consistent }
}

fn push_quietly(bench: &Bench) -> Told {
    push_with(bench, &PushOptions::default(), &|_| {})
}

/// A catalogue of conversations: their names.
fn catalogue(bench: &Bench) -> Connection {
    let db = Connection::open(bench.source().join("z.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE talk(name TEXT)").unwrap();
    db
}

fn say(bench: &Bench, name: &str, text: &str) {
    use std::io::Write;
    let path = bench.source().join("talks").join(name);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn list(db: &Connection, name: &str) {
    db.execute("INSERT INTO talk VALUES(?1)", [name]).unwrap();
}

/// The names in the catalogue of a snapshot, and its files.
fn held(bench: &Bench, told: &Told) -> (Vec<String>, Vec<(String, Vec<u8>)>) {
    let mut files = bench.held(bench.store.clone(), &told.pushed.snapshot().id);
    let at = files.iter().position(|(path, _)| path == "files/z.db").expect("the catalogue");
    let path = bench.dir.path().join("image.db");
    fs::write(&path, files.remove(at).1).unwrap();
    let db = Connection::open(path).unwrap();
    let mut names = db.prepare("SELECT name FROM talk ORDER BY rowid").unwrap();
    let names = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    (names, files)
}

fn text_of<'a>(files: &'a [(String, Vec<u8>)], path: &str) -> &'a str {
    let (_, bytes) = files.iter().find(|(found, _)| found == path).unwrap();
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_catalogue_is_captured_before_what_it_lists_wherever_it_sorts() {
    let bench = bench();
    let db = catalogue(&bench);
    for name in ["a.jsonl", "b.jsonl"] {
        list(&db, name);
        say(&bench, name, "hello\n");
    }
    fs::create_dir(bench.source().join("other")).unwrap();
    fs::write(bench.source().join("other/c.jsonl"), "in no group").unwrap();
    let told = push_quietly(&bench);
    let of_group: Vec<&String> = told.read.iter().filter(|path| !path.contains('c')).collect();
    assert_eq!(of_group, ["z.db", "talks/a.jsonl", "talks/b.jsonl"]);
    assert_eq!((told.consistent, told.problems.len()), (Some(true), 0));
    let (names, files) = held(&bench, &told);
    assert_eq!(names, ["a.jsonl", "b.jsonl"]);
    assert_eq!(files.len(), 3, "nothing of the group is lost, and no side file is kept");
}

#[test]
fn what_did_not_change_is_not_read_and_stays_consistent() {
    let bench = bench();
    let db = catalogue(&bench);
    list(&db, "a.jsonl");
    say(&bench, "a.jsonl", "hello\n");
    say(&bench, "b.jsonl", "hello\n");
    push_quietly(&bench);
    let told = push_quietly(&bench);
    assert!(matches!(told.pushed, Pushed::Unchanged(..)));
    // something outside of the group
    fs::write(bench.source().join("settings"), "x").unwrap();
    let told = push_quietly(&bench);
    assert_eq!(
        (told.read.as_slice(), told.consistent),
        (["settings".into()].as_slice(), Some(true))
    );
    assert_eq!(told.pushed.stats().entries_changed, 1);
    // one member: only that is read
    say(&bench, "b.jsonl", "more\n");
    let told = push_quietly(&bench);
    assert_eq!(
        (told.read.as_slice(), told.consistent),
        (["talks/b.jsonl".into()].as_slice(), Some(true))
    );
    assert_eq!(text_of(&held(&bench, &told).1, "files/talks/b.jsonl"), "hello\nmore\n");
}

#[test]
fn members_that_changed_under_the_capture_are_read_once_more() {
    let bench = bench();
    let db = Mutex::new(catalogue(&bench));
    list(&db.lock().unwrap(), "a.jsonl");
    for name in ["a.jsonl", "b.jsonl", "c.jsonl"] {
        say(&bench, name, "one\n");
    }
    let once = AtomicBool::new(true);
    let told = push_with(&bench, &PushOptions::default(), &|path| {
        // the catalogue and the first conversation were read: both go on
        if path == "talks/b.jsonl" && once.swap(false, Ordering::Relaxed) {
            list(&db.lock().unwrap(), "b.jsonl");
            say(&bench, "a.jsonl", "two\n");
        }
    });
    let expected =
        ["z.db", "talks/a.jsonl", "talks/b.jsonl", "talks/c.jsonl", "z.db", "talks/a.jsonl"];
    assert_eq!(told.read, expected);
    assert_eq!((told.consistent, told.problems.len()), (Some(true), 0));
    let (names, files) = held(&bench, &told);
    assert_eq!(names, ["a.jsonl", "b.jsonl"]);
    assert_eq!(text_of(&files, "files/talks/a.jsonl"), "one\ntwo\n");
}

#[test]
fn one_member_that_goes_on_alone_breaks_nothing() {
    let bench = bench();
    let db = Mutex::new(catalogue(&bench));
    list(&db.lock().unwrap(), "a.jsonl");
    say(&bench, "a.jsonl", "one\n");
    say(&bench, "b.jsonl", "one\n");
    let told = push_with(&bench, &PushOptions::default(), &|path| {
        if path == "talks/b.jsonl" {
            list(&db.lock().unwrap(), "later");
        }
    });
    // all is what it was at the moment when the database was captured
    assert_eq!(told.read, ["z.db", "talks/a.jsonl", "talks/b.jsonl"]);
    assert_eq!(told.consistent, Some(true));
    assert_eq!(held(&bench, &told).0, ["a.jsonl"]);
    let next = push_quietly(&bench);
    assert_eq!(next.read, ["z.db"]);
    assert_eq!(held(&bench, &next).0, ["a.jsonl", "later"]);
}

#[test]
fn a_group_that_is_written_all_the_time_is_kept_and_said_to_be_inconsistent() {
    let bench = bench();
    let db = Mutex::new(catalogue(&bench));
    list(&db.lock().unwrap(), "a.jsonl");
    say(&bench, "a.jsonl", "one\n");
    say(&bench, "b.jsonl", "one\n");
    let told = push_with(&bench, &PushOptions::default(), &|path| {
        if path == "talks/a.jsonl" {
            list(&db.lock().unwrap(), "more");
            say(&bench, "b.jsonl", "more\n");
        }
        if path == "talks/b.jsonl" {
            say(&bench, "a.jsonl", "more\n");
        }
    });
    let once = ["z.db", "talks/a.jsonl", "talks/b.jsonl"];
    assert_eq!(told.read, [once, once].concat(), "read twice and not more often");
    assert_eq!(told.consistent, Some(false));
    let expected = "the group 'quill/sessions' is not from one moment: this and others changed \
                    again and again while it was captured";
    assert_eq!(told.problems, [("z.db".to_owned(), expected.to_owned())]);
    let (names, files) = held(&bench, &told);
    assert_eq!((names.len(), files.len()), (2, 2), "the second reading is kept");

    // the next push reads what went on, and says so in a snapshot
    let next = push_quietly(&bench);
    assert_eq!(next.consistent, Some(true));
    assert_eq!(held(&bench, &next).0, ["a.jsonl", "more", "more"]);
}

#[test]
fn members_that_come_and_go_behind_the_capture_make_it_inconsistent_until_the_next_push() {
    let bench = bench();
    let _db = catalogue(&bench);
    say(&bench, "a.jsonl", "one\n");
    let options = PushOptions { readers: 1, window: 1, ..PushOptions::default() };
    fs::create_dir(bench.source().join("talks/later")).unwrap();
    fs::write(bench.source().join("between"), "x").unwrap();
    // the one reader took the group before this file, which the scan waits for with the directory
    let told = push_with(&bench, &options, &|path| {
        if path == "between" {
            say(&bench, "later/new.jsonl", "one\n");
        }
    });
    assert_eq!(told.consistent, Some(false));
    let expected =
        "the group 'quill/sessions' is not from one moment: this came while it was captured";
    assert_eq!(told.problems, [("talks/later/new.jsonl".to_owned(), expected.to_owned())]);
    assert_eq!(text_of(&held(&bench, &told).1, "files/talks/later/new.jsonl"), "one\n");

    // nothing changed since, so now all of it is known to belong together
    let next = push_quietly(&bench);
    assert!(matches!(next.pushed, Pushed::Made(_)));
    assert_eq!((next.consistent, next.problems.len()), (Some(true), 0));
    assert_eq!(next.pushed.snapshot().tree, told.pushed.snapshot().tree);
    assert!(matches!(push_quietly(&bench).pushed, Pushed::Unchanged(..)));

    fs::write(bench.source().join("between"), "y").unwrap();
    say(&bench, "later/new.jsonl", "two\n");
    let told = push_with(&bench, &options, &|path| {
        if path == "between" {
            fs::remove_file(bench.source().join("talks/later/new.jsonl")).unwrap();
        }
    });
    assert_eq!(told.consistent, Some(false));
    let expected =
        "the group 'quill/sessions' is not from one moment: this was gone when its entry was made";
    assert_eq!(told.problems, [("talks/later/new.jsonl".to_owned(), expected.to_owned())]);
}

#[test]
fn members_at_both_ends_of_a_tree_wider_than_the_window_are_captured_together() {
    let bench = bench();
    let _db = catalogue(&bench);
    fs::write(bench.source().join("a.jsonl"), "first\n").unwrap();
    for n in 0..200 {
        fs::write(bench.source().join(format!("m{n:03}")), format!("{n}")).unwrap();
    }
    let options = PushOptions { readers: 2, window: 4, ..PushOptions::default() };
    let told = push_with(&bench, &options, &|_| {});
    assert_eq!(told.read.iter().filter(|path| path.starts_with('m')).count(), 200);
    assert_eq!(told.consistent, Some(true));
    assert_eq!(held(&bench, &told).1.len(), 201);
    // and again, when the group is what it was
    fs::write(bench.source().join("m100"), "new").unwrap();
    let told = push_with(&bench, &options, &|_| {});
    assert_eq!((told.read.as_slice(), told.consistent), (["m100".into()].as_slice(), Some(true)));
    assert_eq!(held(&bench, &told).1.len(), 201);
}

#[test]
fn a_database_that_can_only_be_copied_keeps_its_journal_and_is_told() {
    let bench = bench();
    say(&bench, "a.jsonl", "one\n");
    let db = Connection::open(bench.source().join("z.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE talk(name TEXT); PRAGMA cache_size=1; BEGIN EXCLUSIVE;
         INSERT INTO talk VALUES(hex(randomblob(100000)))",
    )
    .unwrap();
    assert!(bench.source().join("z.db-journal").exists());
    let wait = std::time::Duration::from_millis(50);
    let options = PushOptions { database_wait: wait, ..PushOptions::default() };
    let told = push_with(&bench, &options, &|_| {});
    assert_eq!(told.consistent, Some(false));
    let [(first, copied), (second, group)] = told.problems.as_slice() else {
        panic!("{:?}", told.problems)
    };
    assert_eq!((first.as_str(), second.as_str()), ("z.db", "z.db"));
    assert!(copied.starts_with("a database, copied as it lay with its log: "), "{copied}");
    assert!(
        group.ends_with("not from one moment: this could not be captured as it was at one moment"),
        "{group}"
    );
    assert_eq!(told.read.iter().filter(|path| *path == "z.db").count(), 1, "waited for once");
    let held = bench.held(bench.store.clone(), &told.pushed.snapshot().id);
    let names: Vec<&str> = held.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["files/talks/a.jsonl", "files/z.db", "files/z.db-journal"]);

    db.execute_batch("COMMIT").unwrap();
    let next = push_quietly(&bench);
    assert_eq!((next.consistent, next.problems.len()), (Some(true), 0));
}

#[test]
fn what_must_be_left_out_of_a_member_is_left_out_of_it_in_a_group_too() {
    let bench = bench();
    let other = catalogue(&bench);
    let db = Connection::open(bench.source().join("y.db")).unwrap();
    db.execute_batch("CREATE TABLE login(token TEXT); INSERT INTO login VALUES('hunter2-hunter2')")
        .unwrap();
    let told = push_quietly(&bench);
    assert_eq!((told.consistent, told.read.len()), (Some(true), 2));
    let files = bench.held(bench.store.clone(), &told.pushed.snapshot().id);
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|(_, bytes)| !bytes.windows(7).any(|part| part == b"hunter2")));

    // what it was before rather than with them, and then the group is of two moments
    drop(db);
    fs::write(bench.source().join("y.db"), "hunter2, but no database").unwrap();
    other.execute_batch("CREATE TABLE later(t)").unwrap();
    let told = push_with(&bench, &PushOptions::default(), &|_| {});
    assert_eq!(told.consistent, Some(false));
    let before = files;
    let files = bench.held(bench.store.clone(), &told.pushed.snapshot().id);
    assert_eq!(
        files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["files/y.db", "files/z.db"]
    );
    assert_eq!((files[0] == before[0], files[1] == before[1]), (true, false));
}

#[test]
fn a_database_with_a_time_in_the_future_does_not_stop_the_push() {
    let bench = bench();
    bench.clock.0.store(0, Ordering::Relaxed); // the real time
    drop(catalogue(&bench));
    say(&bench, "a.jsonl", "one\n");
    let now = u64::try_from(bench.clock.now_nanos()).unwrap();
    let future = std::time::Duration::from_nanos(now) + std::time::Duration::from_secs(86_400);
    let future = std::time::UNIX_EPOCH + future;
    let file: &Path = &bench.source().join("z.db");
    fs::File::options().append(true).open(file).unwrap().set_modified(future).unwrap();
    assert_eq!(push_quietly(&bench).consistent, Some(true));
}
