//! Safety snapshots: whatever a restore replaces is in one before, they stay, and nobody takes one for
//! a snapshot that somebody asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adapters::{Adapter, Rules};
use engine::forget::{self, Policy, Reason, Request};
use engine::pull::safety::{LiveRoot, Saved, save};
use engine::pull::{self, Action, Overwrite, Placement, Plan, Report, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::ScanRoot;
use engine::{Session, Silent};
use repo::OpId;
use store::{MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, RecordingStore, Tree, Verb};

use crate::support::{Bench, bench_in_memory};

/// A home of an agent called Quill.
struct Case {
    bench: Bench,
    memory: Arc<MemoryStore>,
    rules: Arc<Rules>,
    agent: bool,
}

impl Case {
    fn new() -> Self {
        let text = r#"
            version = 1
            id = "quill"
            name = "Quill"
            [[roots]]
            label = "home"
            all = "~/.quill"
            exclude = ["cache", "*.tmp"]
            secret_exclude = ["auth.json"]
            sqlite = ["*.db"]
            max_file_size = "1 KiB"
            [[roots.rows]]
            database = "logins.db"
            table = "t"
            delete = true
            [[roots.fields]]
            file = "**/keys.json"
            format = "json"
            redact = ["key"]
        "#;
        let adapter = Adapter::parse(text, "quill.toml").unwrap();
        let (bench, memory) = bench_in_memory();
        let rules = adapter.rules("quill/home").unwrap();
        Self { bench, memory, rules, agent: true }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.source().join(name)
    }

    fn agent(&self) -> Option<String> {
        self.agent.then(|| "quill".to_owned())
    }

    fn push_by(&self, rules: Arc<Rules>) -> Pushed {
        let scan = ScanRoot {
            label: "quill/home".into(),
            dir: self.bench.source(),
            files: None,
            filter: rules,
        };
        let roots = [PushRoot { scan, agent: self.agent() }];
        let session = self.bench.open().unwrap();
        let options = PushOptions::default();
        push(&session, &roots, &options, &Silent, &AtomicBool::new(false)).unwrap()
    }

    fn push(&self) -> Pushed {
        self.push_by(self.rules.clone())
    }

    fn options(&self) -> pull::Options {
        let label = b"quill/home".to_vec();
        let to = Placement::Each(vec![(label.clone(), self.bench.source())]);
        pull::Options { labels: vec![label], ..pull::Options::new(to) }
    }

    /// Plans, saves, and does it.
    fn pull(&self, id: &OpId, options: &pull::Options) -> (Option<Pushed>, Report) {
        self.pull_on(self.bench.store.clone(), id, options).unwrap()
    }

    fn pull_on(
        &self,
        store: Arc<dyn Store>,
        id: &OpId,
        options: &pull::Options,
    ) -> engine::Result<(Option<Pushed>, Report)> {
        let session = self.bench.open_on(store).unwrap();
        let content = SnapshotContent::open(&session, &session.snapshot(id)?)?;
        let cancel = AtomicBool::new(false);
        let mut plan = Plan::make(&content, options, &cancel).unwrap();
        let saved = self.save(&session, &mut plan, options.overwrite)?;
        let report = pull::apply(&content, &plan, options, &(), &cancel).unwrap();
        Ok((saved.pushed, report))
    }

    /// The same, while somebody does something between what is saved and what is replaced.
    fn pull_while(&self, id: &OpId, options: &pull::Options, act: impl FnOnce()) -> Report {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, &session.snapshot(id).unwrap()).unwrap();
        let cancel = AtomicBool::new(false);
        let mut plan = Plan::make(&content, options, &cancel).unwrap();
        self.save(&session, &mut plan, options.overwrite).unwrap();
        act();
        pull::apply(&content, &plan, options, &(), &cancel).unwrap()
    }

    fn save(
        &self,
        session: &Session,
        plan: &mut Plan,
        overwrite: Overwrite,
    ) -> engine::Result<Saved> {
        let root = LiveRoot {
            label: "quill/home".into(),
            agent: self.agent(),
            dir: self.bench.source(),
            rules: self.rules.clone(),
            whole: self.agent,
        };
        let cancel = AtomicBool::new(false);
        save(session, plan, &[root], overwrite, &PushOptions::default(), &Silent, &cancel)
    }

    fn held(&self, pushed: &Pushed) -> Vec<String> {
        let held = self.bench.held(self.memory.clone(), &pushed.snapshot().id);
        held.into_iter().map(|(name, _)| name["quill/home/".len()..].to_owned()).collect()
    }

    fn tree(&self) -> Tree {
        Tree::read(&self.bench.source()).unwrap()
    }

    fn count(&self) -> usize {
        self.bench.open().unwrap().snapshots().unwrap().len()
    }

    fn latest(&self, spec: &str) -> OpId {
        self.bench.open().unwrap().select(spec, None, None).unwrap().id
    }
}

fn id(pushed: &Pushed) -> OpId {
    pushed.snapshot().id
}

#[test]
fn what_a_restore_replaces_comes_back_with_its_safety_snapshot_and_latest_is_another() {
    let case = Case::new();
    case.write("a.md", "one");
    case.write("same.md", "same");
    let first = case.push();
    case.write("a.md", "two, never pushed");
    case.write("b.md", "new, never pushed");
    let before = case.tree();
    let (saved, report) = case.pull(&id(&first), &case.options());
    let saved = saved.unwrap();
    assert!(report.is_complete() && report.replaced == 1, "{report:?}");
    assert!(saved.snapshot().is_safety() && matches!(saved, Pushed::Made(_)));
    assert_eq!(case.held(&saved), ["a.md", "b.md", "same.md"]);
    assert_eq!(case.read("a.md"), "one");
    assert_eq!(case.latest("latest"), id(&first), "never the safety snapshot");
    assert!(case.bench.open().unwrap().select("latest~1", None, None).is_err());

    // back again, which is saved too
    let (again, report) = case.pull(&id(&saved), &case.options());
    assert!(report.is_complete());
    let after = case.tree();
    assert_eq!(after.entries, before.entries);
    assert!(matches!(again.unwrap(), Pushed::Made(_)) && case.count() == 3);
    // a plain push of what a safety snapshot has makes a snapshot of its own
    let pushed = case.push();
    assert!(matches!(pushed, Pushed::Made(_)) && !pushed.snapshot().is_safety());
    assert_eq!(pushed.snapshot().tree, saved.snapshot().tree);
    assert_eq!(case.latest("latest"), id(&pushed));
    assert_eq!(case.latest("latest~1"), id(&first));
}

#[test]
fn a_restore_that_was_killed_leaves_its_safety_snapshot_and_the_next_push_makes_its_own() {
    let case = Case::new();
    case.write("a.md", "one");
    let first = case.push();
    case.write("a.md", "two");
    let save = || {
        let session = case.bench.open().unwrap();
        let content = SnapshotContent::open(&session, first.snapshot()).unwrap();
        let mut plan = Plan::make(&content, &case.options(), &AtomicBool::new(false)).unwrap();
        case.save(&session, &mut plan, Overwrite::IfChanged).unwrap().pushed.unwrap()
    };
    let saved = save();
    assert!(matches!(saved, Pushed::Made(_)));
    // the same state is saved once
    assert!(matches!(save(), Pushed::Unchanged(..)) && id(&save()) == id(&saved));
    assert_eq!(case.count(), 2);
    // who only pushes is never told that a safety snapshot is enough
    let pushed = case.push();
    assert!(matches!(pushed, Pushed::Made(_)) && !pushed.snapshot().is_safety());
    assert_eq!((case.latest("latest"), pushed.snapshot().counter), (id(&pushed), 3));
    assert_eq!(pushed.snapshot().previous, Some(id(&saved)));
    assert!(matches!(case.push(), Pushed::Unchanged(..)));
}

#[test]
fn nothing_to_save_makes_no_snapshot_and_what_is_saved_already_makes_no_other() {
    let case = Case::new();
    case.write("a.md", "one");
    let first = case.push();
    case.write("a.md", "two");
    let second = case.push();
    let store = Arc::new(RecordingStore::new(case.memory.clone()));
    let run = |of: &Pushed, apply: bool| {
        let session = case.bench.open_on(store.clone()).unwrap();
        let content = SnapshotContent::open(&session, of.snapshot()).unwrap();
        let cancel = AtomicBool::new(false);
        let mut plan = Plan::make(&content, &case.options(), &cancel).unwrap();
        store.take();
        let saved = case.save(&session, &mut plan, Overwrite::IfChanged).unwrap().pushed;
        let calls = store.take();
        if apply {
            pull::apply(&content, &plan, &case.options(), &(), &cancel).unwrap();
        }
        (saved, calls)
    };
    let (saved, calls) = run(&second, false);
    assert!(saved.is_none() && calls.is_empty(), "all fits: {calls:?}");
    let (saved, calls) = run(&first, true);
    let saved = saved.unwrap();
    assert!(matches!(saved, Pushed::Unchanged(..)) && id(&saved) == id(&second));
    assert!(calls.iter().all(|call| call.verb != Verb::Put) && calls.len() <= 8, "{calls:?}");
    assert_eq!(case.count(), 2);
    // an empty place
    fs::remove_dir_all(case.bench.source()).unwrap();
    let (saved, calls) = run(&first, true);
    assert!(saved.is_none() && calls.is_empty(), "{calls:?}");
    // what is not there yet replaces nothing
    fs::remove_file(case.path("a.md")).unwrap();
    case.write("other.md", "x");
    assert!(run(&first, true).0.is_none());
    assert_eq!(case.read("other.md"), "x");
}

#[test]
fn what_the_rules_leave_out_and_the_restore_replaces_is_saved_but_a_secret_is_not_replaced() {
    let case = Case::new();
    let long = "x".repeat(5_000);
    for name in
        ["a.md", "cache/deep/c", "b.tmp", "auth.json", "long.md", "cache/other", "other.tmp"]
    {
        case.write(name, "old");
    }
    let everything = case.push_by(Arc::new(Rules::everything()));
    for name in ["cache/deep/c", "b.tmp", "auth.json"] {
        case.write(name, "new");
    }
    case.write("long.md", &long);
    let (saved, report) = case.pull(&id(&everything), &case.options());
    assert_eq!(case.held(&saved.unwrap()), ["a.md", "b.tmp", "cache/deep/c", "long.md"]);
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].path, b"quill/home/auth.json");
    assert!(report.problems[0].reason.contains("--overwrite always"), "{report:?}");
    assert_eq!(case.read("auth.json"), "new", "nobody else has it");
    assert_eq!((case.read("b.tmp"), case.read("long.md")), ("old".into(), "old".into()));
}

#[test]
fn what_a_push_cannot_read_is_not_replaced() {
    let case = Case::new();
    let db =
        |sql: &str| rusqlite::Connection::open(case.path("logins.db")).unwrap().execute_batch(sql);
    db("CREATE TABLE t(v); CREATE TABLE u(v); INSERT INTO t VALUES('login')").unwrap();
    case.write("a.md", "one");
    let pushed = case.push();
    let mut damaged = fs::read(case.path("logins.db")).unwrap();
    damaged[100..108].fill(0xee);
    fs::write(case.path("logins.db"), &damaged).unwrap();
    case.write("a.md", "two");
    let (_, report) = case.pull(&id(&pushed), &case.options());
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].reason.contains("damaged"), "{report:?}");
    assert!(fs::read(case.path("logins.db")).unwrap() == damaged);
    assert_eq!(case.read("a.md"), "one", "the others are restored");
    // told to go
    let session = case.bench.open().unwrap();
    let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
    let cancel = AtomicBool::new(false);
    let options = pull::Options { overwrite: Overwrite::Always, ..case.options() };
    let mut plan = Plan::make(&content, &options, &cancel).unwrap();
    let saved = case.save(&session, &mut plan, options.overwrite).unwrap();
    assert_eq!(saved.unsaved.len(), 1, "{:?}", saved.unsaved);
    assert_eq!(saved.unsaved[0].path, b"quill/home/logins.db");
    let report = pull::apply(&content, &plan, &options, &(), &cancel).unwrap();
    assert!(report.is_complete() && report.replaced == 1, "{report:?}");
}

#[test]
fn d12_a_safety_snapshot_that_cannot_be_made_stops_the_restore() {
    let case = Case::new();
    case.write("a.md", "one");
    let pushed = case.push();
    case.write("a.md", "two");
    for failure in [Failure::Denied, Failure::CapReached, Failure::Unavailable] {
        let rule =
            move |call: &testkit::Call| (call.verb == Verb::Put).then_some(Fault::Fail(failure));
        let store = Arc::new(FaultStore::new(case.memory.clone(), rule));
        let failed = case.pull_on(store, &id(&pushed), &case.options());
        assert!(failed.is_err(), "{failure:?}");
        assert_eq!(case.read("a.md"), "two", "{failure:?}");
    }
    // and the next one works
    let (saved, report) = case.pull(&id(&pushed), &case.options());
    assert!(report.is_complete() && saved.is_some());
    assert_eq!(case.read("a.md"), "one");
}

#[test]
fn a_directory_of_the_users_is_never_saved_beyond_what_the_restore_touches() {
    // a root of one file: its directory may be the home
    let case = Case { agent: false, ..Case::new() };
    case.write(".quillrc", "one");
    let scan = ScanRoot {
        label: "quill/home".into(),
        dir: case.bench.source(),
        files: Some(vec![b".quillrc".to_vec()]),
        filter: case.rules.clone(),
    };
    let roots = [PushRoot { scan, agent: None }];
    let session = case.bench.open().unwrap();
    let options = PushOptions::default();
    let pushed = push(&session, &roots, &options, &Silent, &AtomicBool::new(false)).unwrap();
    drop(session);
    case.write(".quillrc", "two");
    case.write("private/letter", "not asked for");
    let (saved, report) = case.pull(&id(&pushed), &case.options());
    assert!(report.is_complete());
    assert_eq!(case.held(&saved.unwrap()), [".quillrc"]);
}

#[test]
fn what_is_deleted_is_saved_with_all_below_it() {
    let case = Case::new();
    case.write("a.md", "one");
    let pushed = case.push();
    case.write("gone/deep/b.md", "b");
    case.write("cache/c", "left out by the rules");
    case.write("auth.json", "a secret");
    let before = case.tree();
    let options = pull::Options { delete: true, ..case.options() };
    let (saved, report) = case.pull(&id(&pushed), &options);
    let saved = saved.unwrap();
    assert_eq!(case.held(&saved), ["a.md", "cache/c", "gone/deep/b.md"]);
    assert_eq!((report.deleted, report.problems.len()), (2, 1), "{report:?}");
    assert_eq!(case.read("auth.json"), "a secret");
    case.pull(&id(&saved), &case.options());
    let after = case.tree();
    assert_eq!(after.entries.keys().collect::<Vec<_>>(), before.entries.keys().collect::<Vec<_>>());
}

#[test]
fn no_policy_forgets_a_safety_snapshot_or_counts_it() {
    let case = Case::new();
    let (mut plain, mut safe) = (Vec::new(), Vec::new());
    for n in 0..3 {
        case.bench.clock.0.fetch_add(3_600_000_000_000, Ordering::Relaxed);
        case.write("a.md", &format!("pushed {n}"));
        plain.push(id(&case.push()));
        case.write("a.md", &format!("never pushed {n}"));
        case.bench.clock.0.fetch_add(3_600_000_000_000, Ordering::Relaxed);
        safe.push(id(&case.pull(plain.last().unwrap(), &case.options()).0.unwrap()));
    }
    let policy = Policy { last: 2, ..Policy::default() };
    let request = Request { policy, ..Request::default() };
    let session = case.bench.open().unwrap();
    let zone = jiff::tz::TimeZone::UTC;
    let planned = forget::plan(&session, &request, &zone).unwrap();
    let group = &planned.groups[0];
    assert_eq!(group.forget.iter().map(|s| s.id).collect::<Vec<_>>(), [plain[0]]);
    let safety = group.keep.iter().filter(|kept| kept.reasons == [Reason::Safety]);
    assert_eq!(safety.count(), 3);
    // one that keeps nothing but them keeps nothing
    let none = forget::plan(&session, &Request::default(), &zone);
    assert!(none.is_err(), "{none:?}");
}

#[test]
fn one_that_was_forgotten_and_brought_back_is_a_safety_snapshot_still() {
    let case = Case::new();
    case.write("a.md", "one");
    let first = case.push();
    case.write("a.md", "two");
    let saved = case.pull(&id(&first), &case.options()).0.unwrap();
    let session = case.bench.open().unwrap();
    let planned = forget::plan_named(&session, vec![saved.snapshot().clone()]).unwrap();
    let report = forget::apply(&session, &planned, &AtomicBool::new(false)).unwrap();
    assert_eq!(report.forgotten, [id(&saved)], "by name it goes");
    let back = engine::undelete::undelete(&session, &id(&saved)).unwrap();
    assert!(back.is_safety() && back.has_reason(repo::undelete::REASON), "{:?}", back.reason);
    assert_eq!(case.latest("latest"), id(&first));
}

#[test]
fn a_plan_says_beforehand_whether_something_has_to_be_saved() {
    let case = Case::new();
    case.write("a.md", "one");
    let pushed = case.push();
    let plan = |options: &pull::Options| {
        let session = case.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        Plan::make(&content, options, &AtomicBool::new(false)).unwrap()
    };
    assert!(!plan(&case.options()).replaces());
    case.write("b.md", "the time of the directory is another now");
    let dir = plan(&case.options());
    assert!(dir.totals.metadata == 1 && !dir.replaces() && !dir.changes(b"quill/home"));
    case.write("a.md", "two");
    assert!(plan(&case.options()).replaces() && plan(&case.options()).changes(b"quill/home"));
    assert!(!plan(&case.options()).changes(b"quill"[..3].as_ref()));
    let never = pull::Options { overwrite: Overwrite::Never, ..case.options() };
    assert!(!plan(&never).replaces());
    fs::remove_file(case.path("a.md")).unwrap();
    let made = plan(&case.options());
    assert!(!made.replaces() && made.changes(b"quill/home"));
    assert!(made.items.iter().any(|item| item.action == Action::Create));
    assert!(Path::new(&case.bench.source()).exists());
}

#[test]
fn what_changed_after_it_was_saved_is_neither_replaced_nor_removed() {
    let case = Case::new();
    let db = case.path("logs.db");
    let sql = "PRAGMA journal_mode = WAL; CREATE TABLE u(v); INSERT INTO u VALUES('one')";
    rusqlite::Connection::open(&db).unwrap().execute_batch(sql).unwrap();
    for name in ["a.md", "b.md", "gone.md"] {
        case.write(name, "one");
    }
    let first = case.push();
    let live = rusqlite::Connection::open(&db).unwrap();
    live.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE u SET v='two'").unwrap();
    for name in ["a.md", "b.md", "more/c.md", "other/d.md"] {
        case.write(name, "two");
    }
    fs::remove_file(case.path("gone.md")).unwrap();
    let options = || pull::Options { delete: true, even_if_open: true, ..case.options() };
    let change = || {
        case.write("a.md", "TWO"); // as long as it was
        case.write("more/deep/new.md", "new");
        case.write("gone.md", "back");
        live.execute_batch("INSERT INTO u VALUES('three')").unwrap();
    };
    let report = case.pull_while(&id(&first), &options(), change);
    let named: Vec<_> = report.problems.iter().map(|one| one.path.as_slice()).collect();
    let expected = ["a.md", "gone.md", "logs.db", "more"].map(|name| format!("quill/home/{name}"));
    let mut sorted: Vec<_> = named.iter().map(|path| String::from_utf8_lossy(path)).collect();
    sorted.sort();
    assert_eq!(sorted, expected, "{report:?}");
    let told = |one: &pull::Problem| one.reason.contains("after the safety snapshot");
    assert_eq!(report.problems.iter().filter(|one| told(one)).count(), 3, "{report:?}");
    assert_eq!((case.read("a.md"), case.read("gone.md")), ("TWO".into(), "back".into()));
    assert_eq!(
        (case.read("more/c.md"), case.read("more/deep/new.md")),
        ("two".into(), "new".into())
    );
    let rows = "SELECT group_concat(v) FROM u";
    let row = |db: &rusqlite::Connection| db.query_row(rows, [], |row| row.get::<_, String>(0));
    drop(live);
    assert_eq!(row(&rusqlite::Connection::open(&db).unwrap()).unwrap(), "two,three");
    // the others
    assert_eq!(case.read("b.md"), "one");
    assert!(!case.path("other").exists());

    // pull again, and it is saved
    let (saved, report) = case.pull(&id(&first), &options());
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(row(&rusqlite::Connection::open(&db).unwrap()).unwrap(), "one");
    let held = case.held(&saved.unwrap());
    assert_eq!(held, ["a.md", "b.md", "gone.md", "logs.db", "more/c.md", "more/deep/new.md"]);
    // one who lets all go is not held up
    case.write("a.md", "three");
    let always = pull::Options { overwrite: Overwrite::Always, ..case.options() };
    let report = case.pull_while(&id(&first), &always, || case.write("a.md", "four"));
    assert!(report.is_complete() && case.read("a.md") == "one", "{report:?}");
}

#[test]
fn what_has_values_that_stay_at_home_is_not_removed() {
    let case = Case::new();
    case.write("a.md", "one");
    let first = case.push();
    let db = case.path("logins.db");
    let sql = "CREATE TABLE t(v); INSERT INTO t VALUES('login')";
    rusqlite::Connection::open(&db).unwrap().execute_batch(sql).unwrap();
    case.write("keys.json", "{\"key\": \"CANARY\"}");
    case.write("dir/keys.json", "{\"key\": \"CANARY\"}");
    case.write("dir/other.json", "{\"n\": 1}");
    let options = pull::Options { delete: true, ..case.options() };
    let (_, report) = case.pull(&id(&first), &options);
    let kept = |name: &str| case.path(name).exists();
    assert_eq!(report.problems.len(), 3, "{report:?}");
    let told =
        |one: &pull::Problem| one.reason.contains("values that are left out of every backup");
    assert!(report.problems.iter().all(told), "{report:?}");
    assert!(kept("logins.db") && kept("keys.json") && kept("dir/keys.json"));
    // without such values they go
    rusqlite::Connection::open(&db).unwrap().execute_batch("DELETE FROM t").unwrap();
    case.write("keys.json", "{\"key\": \"\"}");
    fs::remove_dir_all(case.path("dir")).unwrap();
    let (_, report) = case.pull(&id(&first), &options);
    assert!(report.is_complete() && report.deleted == 2, "{report:?}");
}

#[test]
fn a_file_that_is_named_like_a_log_is_saved_for_itself() {
    let case = Case::new();
    case.write("a.md", "one");
    let first = case.push();
    // all of it is left out by the rules
    case.write("cache/notes", "plain");
    case.write("cache/notes-journal", "of the notes, and no log of SQLite");
    let options = pull::Options { delete: true, ..case.options() };
    let (saved, report) = case.pull(&id(&first), &options);
    assert!(report.is_complete() && !case.path("cache").exists(), "{report:?}");
    let saved = saved.unwrap();
    assert_eq!(case.held(&saved), ["a.md", "cache/notes", "cache/notes-journal"]);
}

#[test]
fn a_new_machine_never_starts_from_a_safety_snapshot() {
    let case = Case::new();
    case.write("a.md", "one");
    case.write("b.md", "one");
    let first = case.push();
    case.write("a.md", "two");
    case.pull(&id(&first), &case.options());
    let session = case.bench.open().unwrap();
    let locate = |_: &repo::RootRecord| Some(Ok(PathBuf::from("/nowhere")));
    let chosen = engine::daemon::restore::choose(&session, &locate).unwrap();
    let chosen: Vec<OpId> = chosen.iter().map(|one| one.snapshot.id).collect();
    assert_eq!(chosen, [id(&first)]);
}
