//! Every agent's home through a whole push and back: no planted secret is in the repository, and all are
//! still where they belong, also after a restore over them.

mod support;

#[allow(unreachable_pub, reason = "it is shared with the tests of the adapters")]
#[path = "../../adapters/tests/fixture/mod.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Decision, FieldRules, Root, RowRule, Rules, builtin};
use engine::Problem;
use engine::pull::{self, Action, Placement, Plan, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use fixture::Kind;
use store::MemoryStore;
use support::{Bench, Ears, bench_in_memory};

/// An adapter's rules, as the command line asks them.
struct Ruled(Arc<Rules>);

impl Filter for Ruled {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        match self.0.decide(rel, is_dir) {
            Decision::Include => Verdict::Include,
            Decision::IncludeSqlite => Verdict::Sqlite,
            Decision::Walk => Verdict::Walk,
            _ => Verdict::Skip,
        }
    }

    fn max_file_size(&self) -> Option<u64> {
        self.0.max_file_size()
    }

    fn group(&self, rel: &[u8]) -> Option<&str> {
        self.0.group(rel)
    }

    fn leads_to_group(&self, rel: &[u8]) -> bool {
        self.0.leads_to_group(rel)
    }

    fn row_rules(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        self.0.rows(rel)
    }

    fn field_rules(&self, rel: &[u8]) -> Option<FieldRules> {
        self.0.fields(rel)
    }
}

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
        let (bench, memory) = bench_in_memory();
        Self { id: id.to_owned(), home, roots, bench, memory, dir }
    }

    fn of(id: &str) -> Self {
        let (_, list) = fixture::lists().into_iter().find(|(of, _)| of == id).unwrap();
        Self::new(id, &list)
    }

    fn push(&self) -> (Pushed, Vec<Problem>) {
        let roots: Vec<PushRoot> = self
            .roots
            .iter()
            .map(|root| PushRoot {
                scan: ScanRoot {
                    label: root.label.clone(),
                    dir: root.dir.clone(),
                    files: None,
                    filter: Arc::new(Ruled(root.rules.clone())),
                },
                agent: Some(self.id.clone()),
            })
            .collect();
        let ears = Ears::default();
        let session = self.bench.open().unwrap();
        let options = PushOptions::default();
        let pushed = push(&session, &roots, &options, &ears, &AtomicBool::new(false)).unwrap();
        (pushed, ears.0.into_inner().unwrap())
    }

    /// Restores to where the roots are.
    fn options(&self) -> pull::Options {
        let each = self.roots.iter().map(|r| (r.label.clone().into_bytes(), r.dir.clone()));
        let labels = self.roots.iter().map(|r| r.label.clone().into_bytes()).collect();
        let verify = true;
        pull::Options { labels, verify, ..pull::Options::new(Placement::Each(each.collect())) }
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
        let report = case.pull(&pushed, &case.options());
        assert!(report.problems.is_empty(), "{id}: {:?}", report.problems);
        let after = files(case.dir.path());
        for path in &spoiled {
            assert!(after[path] == before[path], "{id}: {}", path.display());
        }
        for canary in case.home.canaries.iter().filter(|one| before.contains_key(&one.path)) {
            assert!(
                canary.kind == Kind::Row || has(&after[&canary.path], &canary.text),
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
