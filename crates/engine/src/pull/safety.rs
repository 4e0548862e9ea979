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
//! Invariants, unless everything is told to go ([`Overwrite::Always`]):
//!
//! - What is not in that snapshot, for whatever reason, is not replaced: its item is refused. So is one
//!   that would take away values or rows that are left out of every backup; where a file takes the place
//!   of a file, `fields` and `rows` see to these.
//! - What is not as it was when that snapshot was begun is not replaced either (`unchanged`).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapters::{Decision, FieldRules, RowRule, Rules};
use repo::{Kind, Reader, SAFETY, flag};

use super::Overwrite;
use super::apply::Run;
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
    /// Files that nothing may be added to ([`Plan::adds_to`]), as they are not saved.
    pub closed: Vec<Problem>,
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
    let (mut unsaved, mut closed) = (Vec::new(), Vec::new());
    for (lot, path) in doomed.lost(plan, &held) {
        let why = match held.get(path) {
            Some(_) => "it has values that are left out of every backup",
            None => problems.get(path).map_or("it is left out of backups", String::as_str),
        };
        let what = format!("what is there is not in the safety snapshot: {why}");
        if overwrite == Overwrite::Always {
            unsaved.push(Problem { path: path.to_vec(), what, notice: true });
        } else if let Some(index) = lot.index {
            plan.refuse(index, format!("{what}; move it away; --overwrite always replaces it"));
        } else {
            closed.push(Problem { path: lot.path.clone(), what, notice: false });
        }
    }
    for lot in doomed.lots {
        if let Some(index) = lot.index {
            plan.items[index].saved = Some(lot.all);
        }
    }
    Ok(Saved { pushed, unsaved, closed })
}

/// An error if what an item replaces or removes is not what was saved.
pub(super) fn unchanged(run: &Run<'_>, item: &Item) -> io::Result<()> {
    let Some(saved) = item.saved.as_ref().filter(|_| run.options.overwrite != Overwrite::Always)
    else {
        return Ok(());
    };
    let Some(first) = saved.first() else { return Ok(()) };
    let now = what_goes(item, &first.at);
    let known: HashMap<&[u8], &There> =
        saved.iter().map(|one| (one.path.as_slice(), one)).collect();
    // what vanished is not replaced
    if now.iter().all(|one| known.get(one.path.as_slice()) == Some(&one)) {
        return Ok(());
    }
    Err(io::Error::other("it changed after the safety snapshot was begun; pull again"))
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

    /// Would anything that is there be replaced, removed, added to or set right?
    pub fn replaces(&self) -> bool {
        !Doomed::of(self).touched.is_empty()
    }
}

/// Something that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct There {
    /// Its path as stored, label first.
    path: Vec<u8>,
    /// Where it is.
    at: PathBuf,
    is_dir: bool,
    /// How it looked: device, inode, size, time of change of the content; of a directory only the first
    /// two, as its names are looked at one by one.
    look: (u64, u64, u64, (i64, i64)),
}

/// What goes with an item that is replaced or removed, and is at a place.
fn what_goes(item: &Item, at: &Path) -> Vec<There> {
    let mut all = Vec::new();
    gather(item.here(), at, &mut all);
    if item.alone {
        gather_logs(item.here(), at, &mut all);
    }
    all
}

/// What is at a path, with all below it. Sockets and devices are nothing that can be saved.
fn gather(path: &[u8], at: &Path, all: &mut Vec<There>) {
    let Ok(meta) = std::fs::symlink_metadata(at) else { return };
    let kind = meta.file_type();
    if kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        return;
    }
    let is_dir = kind.is_dir();
    let content =
        if is_dir { (0, (0, 0)) } else { (meta.len(), (meta.mtime(), meta.mtime_nsec())) };
    let look = (meta.dev(), meta.ino(), content.0, content.1);
    all.push(There { path: path.to_vec(), at: at.to_owned(), is_dir, look });
    if !is_dir {
        return;
    }
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let path = [path, b"/", entry.file_name().as_encoded_bytes()].concat();
        gather(&path, &entry.path(), all);
    }
}

/// What goes with a database: its log and its journal, if there is something in them.
fn gather_logs(path: &[u8], at: &Path, all: &mut Vec<There>) {
    for side in [&b"-wal"[..], b"-journal"] {
        let at = os_path(&[at.as_os_str().as_encoded_bytes(), side].concat()).to_owned();
        if std::fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
            gather(&[path, side].concat(), &at, all);
        }
    }
}

/// How a path is in a snapshot.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// The flags of its entry.
    flags: u32,
    /// Without values of fields.
    without_fields: bool,
    /// Without secrets that were found in it.
    without_secrets: bool,
}

impl Held {
    fn has(self, flags: u32) -> bool {
        self.flags & flags != 0
    }
}

/// Something that is replaced, removed or added to, and all that goes with it.
struct Lot {
    /// The item that does so; none for what is added to.
    index: Option<usize>,
    path: Vec<u8>,
    all: Vec<There>,
}

/// What is there and would not be any more.
struct Doomed {
    lots: Vec<Lot>,
    /// Directories among them.
    dirs: BTreeSet<Vec<u8>>,
    /// The largest file.
    bytes_max: u64,
    /// What is changed, if only a mode or a time.
    touched: Vec<Vec<u8>>,
}

impl Doomed {
    fn of(plan: &Plan) -> Self {
        let (lots, touched) = (Vec::new(), Vec::new());
        let mut doomed = Self { lots, dirs: BTreeSet::new(), bytes_max: 0, touched };
        for (index, item) in plan.items.iter().enumerate() {
            let Some(place) = &item.place else { continue };
            match item.action {
                Action::Replace | Action::Patch | Action::Delete => {
                    let at = plan.bases[place.base].path.join(os_path(place.rel.bytes()));
                    let (index, path) = (Some(index), item.here().to_vec());
                    doomed.touched.push(path.clone());
                    doomed.lots.push(Lot { index, path, all: what_goes(item, &at) });
                }
                // the times of directories change whenever something in them does
                Action::Metadata => {
                    let is_dir = item.entry.as_ref().is_some_and(|entry| entry.kind == Kind::Dir);
                    doomed.touched.extend((!is_dir).then(|| item.here().to_vec()));
                }
                _ => {}
            }
        }
        for (path, at) in &plan.added_to {
            let mut all = Vec::new();
            gather(path, at, &mut all);
            gather_logs(path, at, &mut all);
            if !all.is_empty() {
                doomed.touched.push(path.clone());
                doomed.lots.push(Lot { index: None, path: path.clone(), all });
            }
        }
        for there in doomed.lots.iter().flat_map(|lot| &lot.all) {
            if there.is_dir {
                doomed.dirs.insert(there.path.clone());
            } else {
                doomed.bytes_max = doomed.bytes_max.max(there.look.2);
            }
        }
        doomed
    }

    /// The roots that a push saves: those in which something changes.
    fn roots(&self, plan: &Plan, roots: &[LiveRoot]) -> Vec<PushRoot> {
        let mut out = Vec::new();
        for root in roots {
            let below = |path: &[u8]| strip_path(path, root.label.as_bytes()).map(<[u8]>::to_vec);
            if !self.touched.iter().any(|path| below(path).is_some()) {
                continue;
            }
            let mut names: BTreeSet<Vec<u8>> =
                self.lots.iter().filter_map(|lot| below(&lot.path)).collect();
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

    /// What of it is in a snapshot.
    fn held(&self, session: &Session, pushed: &Pushed) -> Result<HashMap<Vec<u8>, Held>> {
        let all = self.lots.iter().flat_map(|lot| &lot.all);
        let wanted: BTreeSet<&[u8]> =
            all.flat_map(|there| [there.path.as_slice(), main(&there.path)]).collect();
        let mut held = HashMap::new();
        let reader = Reader::open(&session.repo, session.cache.as_ref())?;
        reader.walk(&pushed.snapshot().tree, &mut |path, entry| {
            if wanted.contains(path.as_slice()) {
                let without_fields = entry.redacted.is_some();
                let without_secrets = entry.marks.is_some();
                held.insert(path, Held { flags: entry.flags, without_fields, without_secrets });
            }
            Ok(())
        })?;
        Ok(held)
    }

    /// What has something that is not held and still there, and what that is. A side file is in the image
    /// of its database.
    fn lost<'d>(&'d self, plan: &Plan, held: &HashMap<Vec<u8>, Held>) -> Vec<(&'d Lot, &'d [u8])> {
        let lost = |lot: &'d Lot| {
            let Some(index) = lot.index else {
                // what is added to keeps its values
                let is_held =
                    |path: &[u8]| held.contains_key(path) || held.contains_key(main(path));
                let is_lost = |there: &&There| !is_held(&there.path);
                return Some((lot, lot.all.iter().find(is_lost)?.path.as_slice()));
            };
            let item = &plan.items[index];
            // a file that takes the place of a file gets its values, or is refused later; a further name
            // of one is only looked at for secrets
            let file = item.entry.as_ref().filter(|e| e.kind == Kind::File);
            let own = file.filter(|_| item.link.is_none());
            let text = file.filter(|_| own.is_some() || !item.has_flag(&plan.items, flag::SQLITE));
            let keeps_rows = own.is_some_and(|entry| entry.flags & flag::SQLITE != 0);
            let is_lost = |there: &&There| {
                let main = main(&there.path);
                let (same, beside) = (held.get(&there.path), held.get(main));
                let replaced = there.path == item.here();
                let saved = match (same, beside.filter(|_| main != there.path)) {
                    (Some(held), _) => {
                        (!held.has(flag::SQLITE_EDITED) || (replaced && keeps_rows))
                            && (!held.without_fields || (replaced && own.is_some()))
                            && (!held.without_secrets || (replaced && text.is_some()))
                    }
                    // an image has the log in it, and no log needs its shared memory
                    (None, Some(held)) => {
                        let shared = there.path.ends_with(b"-shm");
                        held.has(if shared {
                            flag::SQLITE | flag::SQLITE_RAW
                        } else {
                            flag::SQLITE
                        })
                    }
                    (None, None) => false,
                };
                !saved && there.at.symlink_metadata().is_ok()
            };
            Some((lot, lot.all.iter().find(is_lost)?.path.as_slice()))
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
    /// A side file goes with its database, unless that is an image: then a push leaves it out.
    fn names(&self, rel: &[u8]) -> bool {
        let ends = rel.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        self.names.contains(rel)
            || self.names.contains(main(rel))
            || ends.into_iter().any(|end| self.dirs.contains(&rel[..end]))
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
            true => Verdict::Include,
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
