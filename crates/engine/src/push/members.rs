//! Groups: files and databases that an adapter wants from one moment, such as an agent's catalogue and
//! the conversations it lists.
//!
//! In: the members of a group, found ahead of the scan. Out: their entries, and whether there was a
//! moment at which all of them were what was captured. One reader takes a whole group: it looks at
//! every member, reads what changed since the snapshot before, databases first, and looks again. If
//! nothing moved, all is from one moment. If one member moved, that is from one moment too as long as
//! its own content is: all others stood still. If more did, those are read once more; after that the
//! group is stored as it is and told to be inconsistent.
//!
//! Scan and reader meet here ([`Members`]): the scan knows a member's place in the tree, the reader
//! its entry, and whoever comes second sends both on. Invariant: neither waits for the other, so the
//! members may be as far apart in the tree as they like.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repo::{GroupRecord, Kind, flag};

use super::collect::{Item, Message};
use super::fates::Bond;
use super::reader::{FileReader, Job, Outcome, os_path};
use super::rows::Look;
use super::run::SIDE_FILES;
use crate::capture::sqlite;
use crate::error::{Error, Result};
use crate::monitor::Problem;
use crate::scan::{self, Filter, Found, ScanRoot, Stat, Verdict};

/// Members of a group, at most: what is captured of them waits in memory until the last one is.
const MEMBERS_MAX: usize = 1 << 17;
/// How often a group is read: what moved is read once more.
const ROUNDS: usize = 2;

/// Members of every group, by its name.
pub(super) type FoundGroups = BTreeMap<String, Vec<Found>>;

/// A group to read.
pub(super) struct Group {
    number: usize,
    members: Vec<Member>,
}

struct Member {
    job: Job,
    /// Its row said that it is what it was, when it was found.
    same: bool,
    /// Its log and journal are part of it.
    database: bool,
}

/// Looks for members of groups. What cannot be looked at is told by the scan.
pub(super) fn find(
    roots: &[ScanRoot],
    options: &scan::Options,
    cancel: &AtomicBool,
    problem: &dyn Fn(Problem),
) -> Result<FoundGroups> {
    let mut groups = FoundGroups::new();
    let only = |(number, root): (usize, &ScanRoot)| {
        let filter = Arc::new(OnlyMembers(root.filter.clone()));
        root.filter.leads_to_group(b"").then(|| (number, ScanRoot { filter, ..root.clone() }))
    };
    let (numbers, some): (Vec<usize>, Vec<ScanRoot>) =
        roots.iter().enumerate().filter_map(only).unzip();
    if some.is_empty() {
        return Ok(groups);
    }
    let mut found = |found: Found| {
        let found = Found { root: numbers[found.root], ..found };
        if let Some(name) = group_of(&found, roots) {
            groups.entry(name.to_owned()).or_default().push(found);
        }
        ControlFlow::Continue(())
    };
    scan::scan(&some, options, cancel, &mut found, &mut |_| {}).map_err(|e| match e {
        scan::Error::Cancelled => Error::Cancelled,
        e => e.into(),
    })?;
    groups.retain(|name, members| {
        if members.len() > MEMBERS_MAX {
            let what = format!("the group '{name}' has too many files to be captured in one pass");
            problem(Problem { path: members[0].path.clone(), what, notice: true });
        }
        (2..=MEMBERS_MAX).contains(&members.len())
    });
    Ok(groups)
}

/// The group a file belongs to. A file with several names is none's: it may be stored under one that
/// is no member. Side files go with their database.
fn group_of<'r>(found: &Found, roots: &'r [ScanRoot]) -> Option<&'r str> {
    let side = SIDE_FILES.iter().any(|suffix| found.path.ends_with(suffix.as_bytes()));
    if found.kind != Kind::File || found.stat.nlink > 1 || side {
        return None;
    }
    let root = &roots[found.root];
    root.filter.group(found.rel(root))
}

/// Leaves out what belongs to no group.
struct OnlyMembers(Arc<dyn Filter>);

impl Filter for OnlyMembers {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        let here = if is_dir { self.0.leads_to_group(rel) } else { self.0.group(rel).is_some() };
        match if here { self.0.decide(rel, is_dir) } else { Verdict::Skip } {
            Verdict::Include if is_dir => Verdict::Walk,
            verdict => verdict,
        }
    }

    fn max_file_size(&self) -> Option<u64> {
        self.0.max_file_size()
    }

    fn row_rules(&self, rel: &[u8]) -> Vec<Arc<adapters::RowRule>> {
        self.0.row_rules(rel)
    }

    fn field_rules(&self, rel: &[u8]) -> Option<adapters::FieldRules> {
        self.0.field_rules(rel)
    }
}

/// Where the scan and the readers of groups meet.
#[derive(Default)]
pub(super) struct Members(Mutex<Known>);

#[derive(Default)]
struct Known {
    slots: HashMap<Vec<u8>, Slot>,
    groups: Vec<State>,
}

struct State {
    name: String,
    /// The path that makes it inconsistent, and what about it.
    trouble: Option<(Vec<u8>, &'static str)>,
}

struct Slot {
    group: usize,
    /// It was not what it was when it was found.
    changed: bool,
    at: At,
}

/// How far a member is.
enum At {
    Found,
    /// The scan came by.
    Place(u64),
    /// The reader is done.
    Captured(Ending),
    Sent,
}

enum Ending {
    Kept(Box<Item>),
    Gone,
}

impl Ending {
    fn at(self, place: u64) -> Message {
        match self {
            Self::Kept(item) => Message::Entry(place, item),
            Self::Gone => Message::Gone(place),
        }
    }
}

/// What the scan came by.
pub(super) enum Meeting {
    /// No member of a group that is captured.
    Stranger,
    /// A member: whether it changed, and its entry if it is captured already.
    Member { changed: bool, message: Option<Message> },
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a group: its members with whether they are what they were. Databases come first.
    pub(super) fn group(&self, name: String, jobs: Vec<(Job, bool)>) -> Group {
        let mut known = self.lock();
        let number = known.groups.len();
        known.groups.push(State { name, trouble: None });
        let mut members = Vec::with_capacity(jobs.len());
        for (mut job, same) in jobs {
            let slot = Slot { group: number, changed: !same, at: At::Found };
            known.slots.insert(job.path.clone(), slot);
            let database = job.sqlite;
            // one that was copied as it lay is tried again as soon as it moves
            let raw = |row: &super::rows::Row| row.entry.flags & flag::SQLITE_RAW != 0;
            job.sqlite |= same && job.old.as_deref().is_some_and(raw);
            members.push(Member { job, same, database });
        }
        members.sort_by_key(|member| !member.job.sqlite);
        Group { number, members }
    }

    /// The scan comes by a file.
    pub(super) fn meet(&self, found: &Found, place: u64, roots: &[ScanRoot]) -> Meeting {
        let mut known = self.lock();
        if known.groups.is_empty() || found.kind != Kind::File || found.link.is_some() {
            return Meeting::Stranger;
        }
        let Some(slot) = known.slots.get_mut(&found.path) else {
            let new = group_of(found, roots);
            if let Some(state) = known.groups.iter_mut().find(|state| Some(&*state.name) == new) {
                let trouble = (found.path.clone(), "came while it was captured");
                state.trouble.get_or_insert(trouble);
            }
            return Meeting::Stranger;
        };
        let message = match std::mem::replace(&mut slot.at, At::Place(place)) {
            At::Captured(ending) => {
                slot.at = At::Sent;
                Some(ending.at(place))
            }
            At::Found | At::Place(_) | At::Sent => None,
        };
        Meeting::Member { changed: slot.changed, message }
    }

    /// A member is captured; its entry, if the scan was there.
    fn captured(&self, path: &[u8], ending: Ending) -> Option<Message> {
        let mut known = self.lock();
        let slot = known.slots.get_mut(path)?;
        if let At::Place(place) = slot.at {
            slot.at = At::Sent;
            return Some(ending.at(place));
        }
        slot.at = At::Captured(ending);
        None
    }

    fn inconsistent(&self, group: usize, path: &[u8], why: &'static str) {
        self.lock().groups[group].trouble.get_or_insert((path.to_vec(), why));
    }

    /// What became of the groups; tells of those that are inconsistent.
    pub(super) fn finish(&self, problem: &dyn Fn(Problem)) -> Vec<GroupRecord> {
        let mut known = self.lock();
        let Known { slots, groups } = &mut *known;
        for (path, slot) in slots {
            if matches!(slot.at, At::Captured(Ending::Kept(_))) {
                let trouble = (path.clone(), "was gone when its entry was made");
                groups[slot.group].trouble.get_or_insert(trouble);
            }
        }
        let record = |State { name, trouble }| {
            let consistent = trouble.is_none();
            if let Some((path, why)) = trouble {
                let what = format!("the group '{name}' is not from one moment: this {why}");
                problem(Problem { path, what, notice: true });
            }
            GroupRecord { name, consistent }
        };
        groups.drain(..).map(record).collect()
    }
}

/// How a member looks.
#[derive(Clone, Copy)]
struct Seen {
    main: Option<Stat>,
    log: Option<Look>,
    journal: Option<Look>,
}

impl Seen {
    fn look(&self) -> Option<Look> {
        self.main.as_ref().map(Look::of)
    }

    fn same(&self, other: &Self) -> bool {
        (self.look(), self.log, self.journal) == (other.look(), other.log, other.journal)
    }
}

/// What is kept of a member.
enum Kept {
    /// It must be read.
    Nothing,
    /// Its row.
    Same,
    /// What was read, and what there is to tell about it.
    Read(Outcome, Vec<Problem>),
}

impl Kept {
    /// It is what the member was at one moment: an image, or nothing moved while it was read.
    fn is_of_one_moment(&self, seen: &Seen) -> bool {
        match self {
            Self::Read(Outcome::Gone, _) => seen.main.is_none(),
            Self::Read(Outcome::Kept(_) | Outcome::KeptIn, _) => false,
            Self::Read(Outcome::Read(file), _) => {
                file.entry.flags & flag::SQLITE != 0 || file.look.is_some()
            }
            _ => true,
        }
    }
}

impl FileReader<'_> {
    /// Reads a group and tells everybody who waits for a member; `None` if the run is over.
    pub(super) fn group(&mut self, group: Group) -> Option<()> {
        let Group { number, members } = group;
        let mut seen = self.look_at(&members);
        let is_same = |(member, seen): (&Member, &Seen)| {
            let row = member.job.old.as_ref().filter(|_| member.same);
            row.is_some_and(|row| row.look == seen.look() && row.log == seen.log)
        };
        let mut kept: Vec<Kept> = (members.iter().zip(&seen))
            .map(|pair| if is_same(pair) { Kept::Same } else { Kept::Nothing })
            .collect();
        let mut pending: Vec<usize> =
            (0..kept.len()).filter(|at| matches!(kept[*at], Kept::Nothing)).collect();
        let mut trouble = None;
        for _ in 0..ROUNDS {
            if pending.is_empty() {
                break;
            }
            let looks: Vec<Look> = pending.iter().filter_map(|at| seen[*at].look()).collect();
            self.settle(&looks);
            for &at in &pending {
                kept[at] = self.read_member(&members[at], &seen[at])?;
            }
            let now = self.look_at(&members);
            pending = (0..kept.len()).filter(|at| !now[*at].same(&seen[*at])).collect();
            seen = now;
            let torn = (0..kept.len()).find(|at| !kept[*at].is_of_one_moment(&seen[*at]));
            if pending.len() <= 1 && torn.is_none() {
                trouble = None;
                break;
            }
            trouble = Some(pending.first().copied().map_or(
                (torn.unwrap_or_default(), "could not be captured as it was at one moment"),
                |at| (at, "and others changed again and again while it was captured"),
            ));
        }
        if let Some((at, why)) = trouble {
            self.cx.members.inconsistent(number, &members[at].job.path, why);
        }
        members.into_iter().zip(kept).try_for_each(|(member, kept)| self.hand_on(member, kept))
    }

    fn look_at(&self, members: &[Member]) -> Vec<Seen> {
        let look = |member: &Member| {
            let path = self.cx.dirs[member.job.root].join(os_path(&member.job.rel));
            let stat = |path: &std::path::Path| {
                let metadata = std::fs::symlink_metadata(path).ok()?;
                metadata.is_file().then(|| Stat::of_metadata(&metadata))
            };
            let side = |suffix| {
                let path = member.database.then(|| sqlite::side_file(&path, suffix))?;
                stat(&path).as_ref().map(Look::of_log)
            };
            Seen { main: stat(&path), log: side("-wal"), journal: side("-journal") }
        };
        members.iter().map(look).collect()
    }

    /// Reads a member; `None` if the run was stopped.
    fn read_member(&mut self, member: &Member, seen: &Seen) -> Option<Kept> {
        let Some(stat) = seen.main else { return Some(Kept::Read(Outcome::Gone, Vec::new())) };
        self.held.replace(Some(Vec::new()));
        let outcome = self.file(Job { stat, ..member.job.clone() });
        let problems = self.held.take().unwrap_or_default();
        if matches!(outcome, Outcome::Stopped) { None } else { Some(Kept::Read(outcome, problems)) }
    }

    fn hand_on(&self, member: Member, kept: Kept) -> Option<()> {
        let Job { path, old, .. } = member.job;
        let ready = |path, entry| Ending::Kept(Box::new(Item::Ready(path, entry)));
        let (ending, flags) = match (kept, old) {
            (Kept::Same, Some(row)) => {
                let flags = row.entry.flags;
                (ready(path.clone(), row.entry), flags)
            }
            (Kept::Read(outcome, problems), _) => {
                problems.into_iter().for_each(self.cx.problem);
                match outcome {
                    Outcome::Read(file) => {
                        let flags = file.entry.flags;
                        (Ending::Kept(Box::new(Item::Read(*file))), flags)
                    }
                    Outcome::Link(path, entry) => (ready(path, *entry), 0),
                    // side files are those of another image, or have the same secrets
                    Outcome::Kept(entry) => (ready(path.clone(), *entry), flag::SQLITE),
                    Outcome::KeptIn => (Ending::Gone, flag::SQLITE),
                    Outcome::Gone | Outcome::Stopped => (Ending::Gone, 0),
                }
            }
            (Kept::Nothing | Kept::Same, _) => (Ending::Gone, 0),
        };
        self.cx.fates.settle(Bond::Database, &path, flags & flag::SQLITE != 0);
        match self.cx.members.captured(&path, ending) {
            Some(message) => self.cx.out.send(message).ok(),
            None => Some(()),
        }
    }
}
