//! The safety snapshot: what is there is saved before a restore replaces it.
//!
//! In: a plan, and the roots as they are on this machine ([`LiveRoot`]). Out: a snapshot that holds
//! whatever the plan replaces or removes, and a plan that replaces nothing else. A plan that changes
//! nothing that is there needs none.
//!
//! It is a push like any other, with the reason [`SAFETY`]: the same rules, so that secrets, fields and
//! rows that stay at home still do; no policy forgets it; `latest` never means it, and no later push
//! takes it for the snapshot that is current. If what is there is in the current one, none is made.
//! A root in its own place is saved whole, as a push would; of any other only what the restored snapshot
//! has too. What the rules leave out and the restore would replace is saved as well, but for secrets.
//!
//! Invariant: what is not in that snapshot, for whatever reason, is not replaced: its item is refused,
//! unless everything is told to go ([`Overwrite::Always`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapters::{Decision, FieldRules, RowRule, Rules};
use repo::{Kind, Reader, SAFETY};

use super::Overwrite;
use super::plan::{Action, Item, Keep, Plan};
use super::select::strip_path;
use super::target::SQLITE_SIDES;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress};
use crate::push::{PushOptions, PushRoot, Pushed, Suspects, push};
use crate::scan::{Filter, ScanRoot, Verdict};
use crate::session::Session;

/// A root of the restored snapshot as it is on this machine.
#[derive(Debug, Clone)]
pub struct LiveRoot {
    /// Its label.
    pub label: String,
    /// The agent it belongs to.
    pub agent: Option<String>,
    /// Where the restore puts it.
    pub dir: PathBuf,
    /// What a push takes of it.
    pub rules: Arc<Rules>,
    /// It is in its own place, and nothing else is there: it is saved whole.
    pub whole: bool,
}

/// What was saved.
#[derive(Debug, Default)]
pub struct Saved {
    /// The snapshot that has it; none if nothing that is there changes, or nothing of it can be saved.
    pub pushed: Option<Pushed>,
    /// What is replaced though it is not saved, as it was told to go.
    pub unsaved: Vec<Problem>,
}

/// Saves what the plan replaces. An error means that nothing was saved, and that the plan must not be
/// applied.
pub fn save(
    session: &Session,
    plan: &mut Plan,
    roots: &[LiveRoot],
    overwrite: Overwrite,
    options: &PushOptions,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Saved> {
    let doomed = Doomed::of(plan);
    if doomed.touched.is_empty() {
        return Ok(Saved::default());
    }
    let mut options = PushOptions { reason: Some(SAFETY.to_owned()), ..options.clone() };
    let limit = &mut options.scan.exclude_larger_than;
    *limit = limit.map(|limit| limit.max(doomed.bytes_max));
    let roots = doomed.roots(plan, roots);
    let ears = Ears { monitor, problems: Mutex::default() };
    let pushed = match push(session, &roots, &options, &ears, cancel) {
        Ok(pushed) => Some(pushed),
        Err(Error::NothingToBackUp) => None,
        Err(error) => return Err(error),
    };
    let held = match &pushed {
        Some(pushed) => doomed.held(session, pushed)?,
        None => HashMap::new(),
    };
    let problems = ears.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut unsaved = Vec::new();
    for (index, path) in doomed.lost(&held, plan) {
        let without = match held.get(path) {
            Some(_) => "it has secrets that are left out of backups",
            None => "it is left out of backups",
        };
        let why = problems.get(path).map_or(without, String::as_str);
        let what = format!("what is there is not in the safety snapshot: {why}");
        if overwrite == Overwrite::Always {
            unsaved.push(Problem { path: path.to_vec(), what, notice: true });
        } else {
            plan.refuse(index, format!("{what}; move it away; --overwrite always replaces it"));
        }
    }
    Ok(Saved { pushed, unsaved })
}

impl Plan {
    /// Does anything below a label change, but for modes and times of directories?
    pub fn changes(&self, label: &[u8]) -> bool {
        let is_dir = |item: &Item| item.entry.as_ref().is_some_and(|e| e.kind == Kind::Dir);
        let changes = |item: &Item| match item.action {
            Action::Metadata => !is_dir(item),
            Action::Delete => true,
            _ => item.action.writes(),
        };
        self.items.iter().any(|item| changes(item) && strip_path(&item.path, label).is_some())
    }

    /// Would anything that is there be replaced, removed or set right?
    pub fn replaces(&self) -> bool {
        !Doomed::of(self).touched.is_empty()
    }
}

/// Something that is there.
struct There {
    /// Its path as stored, label first.
    path: Vec<u8>,
    /// Where it is.
    at: PathBuf,
}

/// An item that replaces or removes something, and all that goes with it.
struct Lot {
    index: usize,
    all: Vec<There>,
}

/// What is there and would not be any more.
struct Doomed {
    lots: Vec<Lot>,
    /// Directories among them.
    dirs: BTreeSet<Vec<u8>>,
    /// The largest file.
    bytes_max: u64,
    /// Items that change something, if only a mode or a time.
    touched: Vec<usize>,
}

impl Doomed {
    fn of(plan: &Plan) -> Self {
        let (lots, dirs) = (Vec::new(), BTreeSet::new());
        let mut doomed = Self { lots, dirs, bytes_max: 0, touched: Vec::new() };
        for (index, item) in plan.items.iter().enumerate() {
            let Some(place) = &item.place else { continue };
            match item.action {
                Action::Replace | Action::Patch | Action::Delete => {
                    let at = plan.bases[place.base].path.join(os_path(place.rel.bytes()));
                    let mut all = Vec::new();
                    doomed.gather(item.here(), &at, &mut all);
                    doomed.lots.push(Lot { index, all });
                    doomed.touched.push(index);
                }
                // the times of directories change whenever something in them does
                Action::Metadata => {
                    let is_dir = item.entry.as_ref().is_some_and(|entry| entry.kind == Kind::Dir);
                    doomed.touched.extend((!is_dir).then_some(index));
                }
                _ => {}
            }
        }
        doomed
    }

    /// What is at a path, with all below it. Sockets and devices are nothing that can be saved.
    fn gather(&mut self, path: &[u8], at: &Path, all: &mut Vec<There>) {
        use std::os::unix::fs::FileTypeExt as _;
        let Ok(meta) = std::fs::symlink_metadata(at) else { return };
        let kind = meta.file_type();
        if kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return;
        }
        all.push(There { path: path.to_vec(), at: at.to_owned() });
        if kind.is_file() {
            self.bytes_max = self.bytes_max.max(meta.len());
        }
        if !kind.is_dir() {
            return;
        }
        self.dirs.insert(path.to_vec());
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let path = [path, b"/", entry.file_name().as_encoded_bytes()].concat();
            self.gather(&path, &entry.path(), all);
        }
    }

    /// The roots that a push saves: those in which something changes.
    fn roots(&self, plan: &Plan, roots: &[LiveRoot]) -> Vec<PushRoot> {
        let mut out = Vec::new();
        for root in roots {
            let below = |path: &[u8]| strip_path(path, root.label.as_bytes()).map(<[u8]>::to_vec);
            if !self.touched.iter().any(|index| below(plan.items[*index].here()).is_some()) {
                continue;
            }
            let mut names: BTreeSet<Vec<u8>> =
                self.lots.iter().filter_map(|lot| below(plan.items[lot.index].here())).collect();
            if !root.whole {
                names.extend(plan.items.iter().filter_map(|item| below(item.here())));
            }
            let filter = Saving {
                rules: Arc::clone(&root.rules),
                names,
                dirs: self.dirs.iter().filter_map(|path| below(path)).collect(),
                whole: root.whole,
                bytes_max: self.bytes_max,
            };
            let scan = ScanRoot {
                label: root.label.clone(),
                dir: root.dir.clone(),
                files: None,
                filter: Arc::new(filter),
            };
            out.push(PushRoot { scan, agent: root.agent.clone() });
        }
        out
    }

    /// What of it is in a snapshot, and whether without its secrets.
    fn held(&self, session: &Session, pushed: &Pushed) -> Result<HashMap<Vec<u8>, bool>> {
        let all = self.lots.iter().flat_map(|lot| &lot.all);
        let wanted: HashSet<&[u8]> =
            all.flat_map(|there| [there.path.as_slice(), main(&there.path)]).collect();
        let mut held = HashMap::new();
        let reader = Reader::open(&session.repo, session.cache.as_ref())?;
        reader.walk(&pushed.snapshot().tree, &mut |path, entry| {
            if wanted.contains(path.as_slice()) {
                held.insert(path, entry.marks.is_some());
            }
            Ok(())
        })?;
        Ok(held)
    }

    /// Items with something that is not held and still there, and what. A side file is in the image of
    /// its database. What takes the place of a file keeps its secrets, or does not take it.
    fn lost<'d>(&'d self, held: &HashMap<Vec<u8>, bool>, plan: &Plan) -> Vec<(usize, &'d [u8])> {
        let lost = |lot: &'d Lot| {
            let item = &plan.items[lot.index];
            let is_lost = |there: &&There| {
                let follows = item.action != Action::Delete && there.path == item.here();
                let saved = |path: &[u8]| held.get(path).is_some_and(|marked| !marked || follows);
                let saved = saved(&there.path) || saved(main(&there.path));
                !saved && there.at.symlink_metadata().is_ok()
            };
            Some((lot.index, lot.all.iter().find(is_lost)?.path.as_slice()))
        };
        self.lots.iter().filter_map(lost).collect()
    }
}

/// The database that a side file belongs to by its name; any other path itself.
fn main(path: &[u8]) -> &[u8] {
    SQLITE_SIDES.iter().find_map(|side| path.strip_suffix(*side)).unwrap_or(path)
}

fn os_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// What is saved of a root. Paths are below the label.
struct Saving {
    rules: Arc<Rules>,
    /// What is saved whatever the rules leave out, but for secrets.
    names: BTreeSet<Vec<u8>>,
    /// Directories that go with all below them.
    dirs: BTreeSet<Vec<u8>>,
    /// Besides, all that the rules take.
    whole: bool,
    /// No file up to this size is left out.
    bytes_max: u64,
}

impl Saving {
    fn names(&self, rel: &[u8]) -> bool {
        let ends = rel.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        self.names.contains(rel) || ends.into_iter().any(|end| self.dirs.contains(&rel[..end]))
    }

    fn leads_to_one(&self, rel: &[u8]) -> bool {
        let from = [rel, b"/"].concat();
        let next = self.names.range((Bound::Included(from.clone()), Bound::Unbounded)).next();
        next.is_some_and(|next| next.starts_with(&from))
    }
}

impl Filter for Saving {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        if self.rules.decide(rel, is_dir) == Decision::ExcludeSecret {
            return Verdict::Skip;
        }
        let by_rules = Filter::decide(self.rules.as_ref(), rel, is_dir);
        let taken = matches!(by_rules, Verdict::Include | Verdict::Sqlite);
        match self.names(rel) {
            true if taken => by_rules,
            true if main(rel) == rel => Verdict::Include,
            _ if self.whole && taken => by_rules,
            _ if is_dir && (self.leads_to_one(rel) || self.whole && by_rules == Verdict::Walk) => {
                Verdict::Walk
            }
            _ => Verdict::Skip,
        }
    }

    fn max_file_size(&self) -> Option<u64> {
        self.rules.max_file_size().map(|max| max.max(self.bytes_max))
    }

    fn group(&self, rel: &[u8]) -> Option<&str> {
        self.rules.group(rel)
    }

    fn leads_to_group(&self, rel: &[u8]) -> bool {
        self.rules.leads_to_group(rel)
    }

    fn row_rules(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        self.rules.rows(rel)
    }

    fn field_rules(&self, rel: &[u8]) -> Option<FieldRules> {
        self.rules.fields(rel)
    }
}

/// Keeps the problems. They are told as notices: what counts is whether something would be lost.
struct Ears<'m> {
    monitor: &'m dyn Monitor,
    problems: Mutex<HashMap<Vec<u8>, String>>,
}

impl Monitor for Ears<'_> {
    fn progress(&self, progress: &Progress) {
        self.monitor.progress(progress);
    }

    fn problem(&self, problem: &Problem) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.insert(problem.path.clone(), problem.what.clone());
        self.monitor.problem(&Problem { notice: true, ..problem.clone() });
    }

    fn reading(&self, path: &[u8]) {
        self.monitor.reading(path);
    }

    fn held(&self, time: Duration) {
        self.monitor.held(time);
    }

    fn suspects(&self, suspects: &Suspects) {
        self.monitor.suspects(suspects);
    }
}

impl Plan {
    /// An item is not restored after all.
    fn refuse(&mut self, index: usize, reason: String) {
        let item = &mut self.items[index];
        item.action = Action::Refuse(reason);
        (item.bytes, item.fetch, item.settle, item.keep) = (0, 0, false, Keep::Nothing);
        self.totals = super::plan::count(&self.items);
    }
}
