//! Every agent's home through a whole push and back: no planted secret is in the repository, and all are
//! still where they belong, also after a restore over them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Root, Rules, builtin};
use engine::Problem;
use engine::pull::{self, Action, Placement, Plan, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot};
use rusqlite::Connection;
use rusqlite::types::Value;
use store::MemoryStore;

use crate::fixture::{self, Kind};
use crate::support::{Bench, Ears, bench_in_memory};

/// An agent's home and a repository.
struct Case {
    id: String,
    home: fixture::Home,
    roots: Vec<Root>,
    bench: Bench,
    memory: Arc<MemoryStore>,
    /// The home.
    dir: tempfile::TempDir,
}

impl Case {
    fn new(id: &str, list: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = fixture::build(id, list, dir.path());
        // one letter each: no log that SQLite could read
        for path in files(dir.path()).into_keys() {
            let name = path.to_string_lossy();
            if ["-wal", "-shm", "-journal"].iter().any(|side| name.ends_with(side)) {
                fs::remove_file(&path).unwrap();
            }
        }
        let adapter = builtin().into_iter().find(|adapter| adapter.id() == id).unwrap();
        let roots = adapter.survey(&home.env).roots;
        Self::at(id, home, roots, dir)
    }

    fn at(id: &str, home: fixture::Home, roots: Vec<Root>, dir: tempfile::TempDir) -> Self {
        let (bench, memory) = bench_in_memory();
        Self { id: id.to_owned(), home, roots, bench, memory, dir }
    }

    fn of(id: &str) -> Self {
        let (_, list) = fixture::lists().into_iter().find(|(of, _)| of == id).unwrap();
        Self::new(id, &list)
    }

    fn push(&self) -> (Pushed, Vec<Problem>) {
        self.push_roots(&self.roots)
    }

    fn push_roots(&self, roots: &[Root]) -> (Pushed, Vec<Problem>) {
        self.push_with(roots, &PushOptions::default())
    }

    fn push_with(&self, roots: &[Root], options: &PushOptions) -> (Pushed, Vec<Problem>) {
        let roots: Vec<PushRoot> = roots
            .iter()
            .map(|root| PushRoot {
                scan: ScanRoot {
                    label: root.label.clone(),
                    dir: root.dir.clone(),
                    files: None,
                    filter: root.rules.clone(),
                },
                agent: Some(self.id.clone()),
            })
            .collect();
        let ears = Ears::default();
        let session = self.bench.open().unwrap();
        let pushed = push(&session, &roots, options, &ears, &AtomicBool::new(false)).unwrap();
        (pushed, ears.0.into_inner().unwrap())
    }

    /// Restores to where the roots are.
    fn options(&self) -> pull::Options {
        let each = self.roots.iter().map(|r| (r.label.clone().into_bytes(), r.dir.clone()));
        let labels = self.roots.iter().map(|r| r.label.clone().into_bytes()).collect();
        let filter = |root: &Root| -> Arc<dyn Filter> { root.rules.clone() };
        let filters = self.roots.iter().map(|root| (root.label.clone().into_bytes(), filter(root)));
        let (verify, filters) = (true, filters.collect());
        let to = Placement::Each(each.collect());
        pull::Options { labels, verify, filters, ..pull::Options::new(to) }
    }

    fn pull(&self, pushed: &Pushed, options: &pull::Options) -> pull::Report {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        pull::pull(&content, options, &(), &AtomicBool::new(false)).unwrap()
    }

    fn plan(&self, pushed: &Pushed, options: &pull::Options) -> Plan {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        Plan::make(&content, options, &AtomicBool::new(false)).unwrap()
    }

    fn held(&self, pushed: &Pushed) -> Vec<(String, Vec<u8>)> {
        self.bench.held(self.memory.clone(), &pushed.snapshot().id)
    }

    fn path(&self, label: &str, rel: &str) -> PathBuf {
        self.roots.iter().find(|root| root.label == label).unwrap().dir.join(rel)
    }
}

/// Bytes of every file.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    all
}

/// The rows of every table, whatever their order.
type Dump = BTreeMap<String, Vec<String>>;

fn dump(path: &Path) -> Dump {
    let db = Connection::open(path).unwrap();
    let query = "SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0";
    let mut tables = db.prepare(query).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let rows = |table: &str| {
        let mut all = db.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let width = all.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let values: Vec<Value> = (0..width).map(|at| row.get(at).unwrap()).collect();
            Ok(format!("{values:?}"))
        };
        let mut rows: Vec<String> = all.query_map([], row).unwrap().map(Result::unwrap).collect();
        rows.sort();
        rows
    };
    tables.map(Result::unwrap).map(|table| (table.clone(), rows(&table))).collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn no_planted_secret_of_any_agent_leaves_and_all_survive_a_restore_over_them() {
    for (id, list) in fixture::lists() {
        let case = Case::new(&id, &list);
        let before = files(case.dir.path());
        let (pushed, problems) = case.push();
        let bad: Vec<_> = problems.iter().filter(|problem| !problem.notice).collect();
        assert!(bad.is_empty(), "{id}: {bad:?}");
        let now = files(case.dir.path());
        for (path, bytes) in &before {
            assert!(now.get(path) == Some(bytes), "{id}: a push changed {}", path.display());
        }

        let held = case.held(&pushed);
        assert!(!held.is_empty(), "{id}");
        for (name, bytes) in &held {
            assert!(!has(bytes, "CANARY-"), "{id}: {name}");
        }
        for canary in case.home.canaries.iter().filter(|canary| canary.kind != Kind::Whole) {
            let (name, bytes) = case
                .roots
                .iter()
                .find_map(|root| {
                    let rel = canary.path.strip_prefix(&root.dir).ok()?.to_str()?;
                    let name = format!("{}/{rel}", root.label);
                    held.iter().find(|(held, _)| *held == name)
                })
                .unwrap_or_else(|| panic!("{id}: {} is not held", canary.path.display()));
            assert!(canary.kind == Kind::Row || has(bytes, redact::MARKER), "{id}: {name}");
        }

        // nothing changed: what is there fits, values and all
        let plan = case.plan(&pushed, &case.options());
        for one in case.home.listed.iter().filter(|one| one.mark == 'F') {
            let name = format!("{}/{}", one.label, one.rel);
            let item = plan.items.iter().find(|item| item.path == name.as_bytes()).unwrap();
            assert_eq!(item.action, Action::Leave, "{id}: {item}");
        }
        // something did: only that is put back
        let mut spoiled = Vec::new();
        for one in case.home.listed.iter().filter(|one| one.mark == 'F') {
            let path = case.path(&one.label, &one.rel);
            let mut text = fs::read_to_string(&path).unwrap();
            text.push('\n');
            fs::write(&path, text).unwrap();
            spoiled.push(path);
        }
        let databases = case.home.listed.iter().filter(|one| one.mark == 'R');
        let databases: Vec<_> = databases.map(|one| case.path(&one.label, &one.rel)).collect();
        let rows: Vec<Dump> = databases.iter().map(|path| dump(path)).collect();
        let report = case.pull(&pushed, &case.options());
        assert!(report.problems.is_empty() && report.notices.is_empty(), "{id}: {report:?}");
        assert!(report.blanks.is_empty(), "{id}: {:?}", report.blanks);
        for (path, rows) in databases.iter().zip(rows) {
            assert!(dump(path) == rows, "{id}: {}", path.display());
        }
        let after = files(case.dir.path());
        for path in &spoiled {
            assert!(after[path] == before[path], "{id}: {}", path.display());
        }
        for canary in case.home.canaries.iter().filter(|one| before.contains_key(&one.path)) {
            assert!(
                has(&after[&canary.path], &canary.text),
                "{id}: {} in {}",
                canary.text,
                canary.path.display()
            );
        }
    }
}

#[test]
fn an_empty_home_gets_markers_and_a_list_of_what_to_fill_in() {
    let case = Case::of("claude-code");
    let (pushed, _) = case.push();
    let ruled = case.home.listed.iter().filter(|one| one.mark == 'F').count();
    assert!(ruled > 0);
    let target = tempfile::tempdir().unwrap();
    let to = Placement::Under(target.path().to_owned());
    let labels = case.options().labels;
    let options = pull::Options { labels, verify: true, ..pull::Options::new(to) };
    let report = case.pull(&pushed, &options);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let told = &report.blanks;
    assert!(told.iter().all(|blank| !blank.fields.is_empty()), "{told:?}");
    let marked = files(target.path()).values().filter(|b| has(b, redact::MARKER)).count();
    assert!(marked > 0 && told.len() == marked, "{told:?}");
    // and a second restore finds all as it should be
    let plan = case.plan(&pushed, &options);
    assert!(
        plan.items.iter().all(|item| !item.action.word().starts_with("re")),
        "{:?}",
        plan.items
    );
}

#[test]
fn a_file_that_does_not_parse_is_named_and_not_sent() {
    let case = Case::of("claude-code");
    let one = case.home.listed.iter().find(|one| one.mark == 'F').unwrap();
    let path = case.path(&one.label, &one.rel);
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (pushed, problems) = case.push();
    let name = format!("{}/{}", one.label, one.rel);
    let about: Vec<_> = problems.iter().filter(|p| p.path == name.as_bytes()).collect();
    assert!(about.len() == 1 && !about[0].notice, "{problems:?}");
    assert!(about[0].what.starts_with("not in this snapshot: "), "{}", about[0].what);
    assert!(!about[0].what.contains("CANARY"));
    assert!(case.held(&pushed).iter().all(|(held, _)| *held != name));
    // and it comes back with the next push that can read it
    fs::write(&path, whole).unwrap();
    let (pushed, _) = case.push();
    assert!(case.held(&pushed).iter().any(|(held, _)| *held == name));
}

#[test]
fn the_last_copy_that_could_be_stored_stands_for_a_file_that_cannot() {
    let case = Case::of("claude-code");
    let one = case.home.listed.iter().find(|one| one.mark == 'F').unwrap();
    let path = case.path(&one.label, &one.rel);
    let name = format!("{}/{}", one.label, one.rel);
    let whole = fs::read_to_string(&path).unwrap();
    let (pushed, _) = case.push();
    let held = |pushed: &Pushed| {
        let held = case.held(pushed).into_iter().find(|(held, _)| *held == name);
        held.map(|(_, bytes)| bytes)
    };
    let good = held(&pushed).unwrap();
    let entry = |pushed: &Pushed| {
        let session = case.bench.open().unwrap();
        engine::view::entry(&session, pushed.snapshot(), name.as_bytes()).unwrap()
    };
    let good_entry = entry(&pushed);
    // again and again, also when everything is read
    for round in 0..3 {
        fs::write(&path, &whole[..whole.len() / 2 - round]).unwrap();
        let options = PushOptions { reread: round == 2, ..PushOptions::default() };
        let (pushed, problems) = case.push_with(&case.roots, &options);
        let about: Vec<_> = problems.iter().filter(|p| p.path == name.as_bytes()).collect();
        assert!(about.len() == 1 && !about[0].notice, "{problems:?}");
        let told = &about[0].what;
        assert!(told.starts_with("what it was in the snapshot before stands for it: "), "{told}");
        assert_eq!(held(&pushed).unwrap(), good, "round {round}");
        assert_eq!(entry(&pushed), good_entry);
    }
    // a safety snapshot says what is there, not what was
    let reason = Some(engine::forget::SAFETY.to_owned());
    let (pushed, _) =
        case.push_with(&case.roots, &PushOptions { reason, ..PushOptions::default() });
    assert_eq!(held(&pushed), None);
    // one that was gone meanwhile is another file
    fs::remove_file(&path).unwrap();
    let (pushed, _) = case.push();
    assert_eq!(held(&pushed), None);
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (pushed, problems) = case.push();
    assert_eq!(held(&pushed), None);
    assert!(problems.iter().any(|p| p.what.starts_with("not in this snapshot: ")), "{problems:?}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(held(&case.push().0).unwrap(), good);
}

/// An empty home of an agent that has one root, with these rules.
fn quill(rules: &str) -> Case {
    let text = format!(
        r#"
        version = 1
        id = "quill"
        name = "Quill"
        [[roots]]
        label = "home"
        all = "~/.quill"
        {rules}
        "#
    );
    let adapter = adapters::Adapter::parse(&text, "quill.toml").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".quill")).unwrap();
    let vars = BTreeMap::new();
    let env = adapters::Env { home: dir.path().to_owned(), vars, os: adapters::Os::Linux };
    let roots = adapter.survey(&env).roots;
    let home = fixture::Home { env, listed: Vec::new(), canaries: Vec::new() };
    Case::at("quill", home, roots, dir)
}

/// The same, with fields in these files, whatever their names.
fn quill_with_tokens_in(files: &str) -> Case {
    let rule = format!("file = [{files}]\nformat = \"json\"\nredact = [\"token\"]");
    quill(&format!("[[roots.fields]]\n{rule}"))
}

const WHOLE: &str = r#"{"token": "CANARY-1", "open": "a"}"#;
const CUT: &str = r#"{"token": "CANARY-1", "open"#;

/// The names that a push holds.
fn names(case: &Case, pushed: &Pushed) -> Vec<String> {
    case.held(pushed).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn what_another_directory_had_under_the_same_label_stands_for_nothing() {
    let case = quill_with_tokens_in(r#""state.json""#);
    fs::write(case.path("quill/home", "state.json"), WHOLE).unwrap();
    let (pushed, _) = case.push();
    assert_eq!(names(&case, &pushed), ["quill/home/state.json"]);
    let mut elsewhere = case.roots.clone();
    elsewhere[0].dir = case.dir.path().join("work");
    fs::create_dir(&elsewhere[0].dir).unwrap();
    fs::write(elsewhere[0].dir.join("state.json"), CUT).unwrap();
    fs::write(elsewhere[0].dir.join("other"), "x").unwrap();
    let (pushed, _) = case.push_roots(&elsewhere);
    assert_eq!(names(&case, &pushed), ["quill/home/other"]);
}

#[test]
fn side_files_of_databases_and_what_has_some_stand_for_nothing() {
    let case = quill_with_tokens_in(r#""talk-wal", "alone.json", "beside.json""#);
    let at = |name: &str| case.path("quill/home", name);
    for name in ["talk-wal", "alone.json", "beside.json"] {
        fs::write(at(name), WHOLE).unwrap();
    }
    let (pushed, _) = case.push();
    assert_eq!(case.held(&pushed).len(), 3);
    for name in ["talk-wal", "alone.json", "beside.json"] {
        fs::write(at(name), CUT).unwrap();
    }
    fs::write(at("beside.json-journal"), "pages").unwrap();
    let (pushed, problems) = case.push();
    assert_eq!(names(&case, &pushed), ["quill/home/alone.json", "quill/home/beside.json-journal"]);
    assert_eq!(problems.iter().filter(|p| !p.notice).count(), 3, "{problems:?}");
}

#[test]
fn a_further_name_of_a_file_that_something_stands_for_is_read_by_itself() {
    let case = quill_with_tokens_in(r#""a.json""#);
    let at = |name: &str| case.path("quill/home", name);
    fs::write(at("a.json"), WHOLE).unwrap();
    fs::hard_link(at("a.json"), at("b")).unwrap();
    let (pushed, _) = case.push();
    let held = |pushed: &Pushed| case.held(pushed).into_iter().map(|(_, bytes)| bytes);
    let before: Vec<_> = held(&pushed).collect();
    // another file has both names now
    fs::remove_file(at("a.json")).unwrap();
    fs::remove_file(at("b")).unwrap();
    fs::write(at("a.json"), "not what it was").unwrap();
    fs::hard_link(at("a.json"), at("b")).unwrap();
    let (pushed, _) = case.push();
    let after: Vec<_> = held(&pushed).collect();
    assert_eq!(after, [before[0].clone(), b"not what it was".to_vec()]);
}

#[test]
fn what_was_stored_under_other_rules_stands_for_nothing() {
    let case = Case::of("claude-code");
    let mut open = case.roots.clone();
    for root in &mut open {
        root.rules = Arc::new(Rules::everything());
    }
    let (pushed, _) = case.push_roots(&open);
    assert!(case.held(&pushed).iter().any(|(_, bytes)| has(bytes, "CANARY-")));
    for one in case.home.listed.iter().filter(|one| one.mark == 'F') {
        let path = case.path(&one.label, &one.rel);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    let (pushed, problems) = case.push();
    assert!(problems.iter().any(|p| p.what.starts_with("not in this snapshot: ")), "{problems:?}");
    assert!(case.held(&pushed).iter().all(|(_, bytes)| !has(bytes, "CANARY-")));
}

#[test]
fn a_file_is_read_again_when_rules_come_to_name_its_fields() {
    let case = Case::of("claude-code");
    let mut open = case.roots.clone();
    for root in &mut open {
        root.rules = Arc::new(Rules::everything());
    }
    let (pushed, _) = case.push_roots(&open);
    let canary = case.home.canaries.iter().find(|canary| canary.kind == Kind::Field).unwrap();
    assert!(case.held(&pushed).iter().any(|(_, bytes)| has(bytes, &canary.text)));
    // not one file changed
    let (pushed, _) = case.push();
    assert!(case.held(&pushed).iter().all(|(_, bytes)| !has(bytes, "CANARY-")));
}

/// What belongs together is captured by another way, and a further name of a file is a link to the
/// first: none of them is a way out.
#[test]
fn neither_a_group_nor_a_further_name_lets_a_value_out() {
    let case = quill(
        r#"
        [[roots.fields]]
        file = ["state.json", "z.json"]
        redact = ["token"]
        [[groups]]
        name = "state"
        members = ["home:state.json", "home:index.json"]
        "#,
    );
    let at = |name: &str| case.path("quill/home", name);
    fs::write(at("state.json"), r#"{"token": "CANARY-1", "open": "a"}"#).unwrap();
    fs::write(at("index.json"), r#"{"a": 1}"#).unwrap();
    fs::write(at("y.json"), r#"{"token": "[left out by agent-backup]"}"#).unwrap();
    fs::hard_link(at("y.json"), at("z.json")).unwrap();
    let (pushed, problems) = case.push();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(pushed.snapshot().groups.len(), 1);
    let held = case.held(&pushed);
    assert_eq!(held.len(), 4, "a further name with rules is a file of its own: {held:?}");
    for (name, bytes) in &held {
        assert!(!has(bytes, "CANARY"), "{name}");
    }
    assert!(
        held.iter()
            .any(|(name, bytes)| name == "quill/home/state.json" && has(bytes, redact::MARKER))
    );
}
