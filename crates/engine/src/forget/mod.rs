//! Forget: snapshots that nobody needs any more stop to count. First a plan, then it is applied; no
//! byte is freed before a collection ([`crate::gc`]) runs.
//!
//! In: a policy ([`policy`]) for groups of snapshots, or snapshots by name. Out: for every group what
//! stays, with each reason, and what goes. Never taken by a policy: pinned snapshots, safety
//! snapshots, for each database that is damaged now the last snapshot in which it is not, and the newest
//! snapshot of a machine that keeps what is gone (`protect.rs`).

pub mod gone;
pub mod policy;
mod protect;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use repo::{Forgot, MachineId, OpId, Snapshot};

pub use policy::{Policy, Reason, Within};
pub use repo::SAFETY;

use crate::error::{Error, Result};
use crate::journal;
use crate::session::Session;
use policy::Moment;

/// A snapshot cannot have been made later than the store got it, but for clocks that differ a little.
const LATE_MAX: Duration = Duration::from_secs(5 * 60);
/// Nor much earlier: a push does not take longer.
const EARLY_MAX: Duration = Duration::from_secs(48 * 3600);

/// What snapshots have in common that a policy is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The machine.
    pub machine: bool,
    /// The labels of their roots.
    pub roots: bool,
    /// Their tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { machine: true, roots: true, tags: false }
    }
}

/// Which snapshots a policy looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only those of machines with this name.
    pub host: Option<String>,
    /// Only those that hold this agent.
    pub agent: Option<String>,
    /// Only those with all of these tags.
    pub tags: Vec<String>,
}

impl Scope {
    /// Whether a snapshot is in it.
    pub fn has(&self, s: &Snapshot) -> bool {
        self.agent.as_deref().is_none_or(|agent| s.agents().contains(&agent))
            && self.host.as_ref().is_none_or(|host| s.host == *host)
            && self.tags.iter().all(|tag| s.tags.contains(tag))
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What to keep.
    pub policy: Policy,
    /// How snapshots are grouped.
    pub group_by: GroupBy,
    /// Which are looked at.
    pub scope: Scope,
    /// A group of which nothing would be left may go.
    pub remove_all: bool,
}

/// A snapshot that stays.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Why it stays.
    pub reasons: Vec<Reason>,
}

/// Snapshots that a policy was applied to together; newest first.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The machine they have in common, if they were grouped so, and its name in the newest one.
    pub machine: Option<(MachineId, String)>,
    /// The labels they have in common, if they were grouped so.
    pub roots: Option<Vec<String>>,
    /// The tags they have in common, if they were grouped so.
    pub tags: Option<Vec<String>>,
    /// What stays.
    pub keep: Vec<Kept>,
    /// What goes.
    pub forget: Vec<Snapshot>,
    /// Snapshots whose own time cannot be: the store's was taken.
    pub times_set_right: usize,
}

/// What a forget will do.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Group by group; one without a key for snapshots that were named.
    pub groups: Vec<Group>,
}

impl Plan {
    /// Snapshots that go, oldest first: what is interrupted leaves the newest.
    pub fn forget(&self) -> Vec<&Snapshot> {
        let mut all: Vec<&Snapshot> = self.groups.iter().flat_map(|group| &group.forget).collect();
        all.sort_by_key(|s| (s.finished_nanos, s.id));
        all
    }

    /// How many stay.
    pub fn keep_count(&self) -> usize {
        self.groups.iter().map(|group| group.keep.len()).sum()
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots that were forgotten.
    pub forgotten: Vec<OpId>,
    /// Those that somebody pinned since the plan was made: they stay.
    pub pinned: Vec<OpId>,
}

type Key = (Option<MachineId>, Option<Vec<String>>, Option<Vec<String>>);

/// Applies a policy; writes nothing. [`Error::KeepsNothing`] if nothing of some group would stay.
pub fn plan(session: &Session, request: &Request, zone: &TimeZone) -> Result<Plan> {
    let snapshots = session.snapshots()?;
    let times = Times::look(session, &snapshots)?;
    let pinned = session.repo.pinned()?;
    let healthy = protect::healthy(session, &snapshots)?;
    let archives = protect::archives(&snapshots);
    let mut groups = BTreeMap::<Key, Vec<(Timestamp, bool, Snapshot)>>::new();
    for snapshot in snapshots.into_iter().filter(|s| request.scope.has(s)) {
        // one that is not listed any more was forgotten meanwhile
        let Some((time, moved)) = times.of(&snapshot) else { continue };
        groups.entry(key(&snapshot, request.group_by)).or_default().push((time, moved, snapshot));
    }
    let mut plan = Plan::default();
    for ((machine, roots, tags), mut members) in groups {
        members.sort_by(|(a, _, s), (b, _, t)| {
            (b, t.counter, t.finished_nanos, t.id).cmp(&(a, s.counter, s.finished_nanos, s.id))
        });
        // safety snapshots stay by themselves, and take the place of no other
        let moments = members.iter().filter(|(_, _, s)| !s.is_safety());
        let moments: Vec<Moment> =
            moments.map(|(time, _, s)| Moment { time: *time, tags: s.tags.clone() }).collect();
        let mut by_policy = request.policy.reasons(&moments, zone).into_iter();
        let host = members[0].2.host.clone();
        let machine = machine.map(|machine| (machine, host));
        let times_set_right = members.iter().filter(|(_, moved, _)| *moved).count();
        let mut group = Group { machine, roots, tags, times_set_right, ..Group::default() };
        for (_, _, snapshot) in members {
            let mut reasons = if snapshot.is_safety() {
                vec![Reason::Safety]
            } else {
                by_policy.next().unwrap_or_default()
            };
            if pinned.contains(&snapshot.id) {
                reasons.push(Reason::Pinned);
            }
            let databases = healthy.get(&snapshot.id).into_iter().flatten();
            reasons.extend(databases.cloned().map(Reason::Healthy));
            if archives.contains(&snapshot.id) && !request.remove_all {
                reasons.push(Reason::Archive);
            }
            if reasons.is_empty() {
                group.forget.push(snapshot);
            } else {
                group.keep.push(Kept { snapshot, reasons });
            }
        }
        // what stays whatever the policy says is not what it keeps
        let by_itself = |kept: &Kept| {
            let other = |reason: &Reason| {
                matches!(
                    reason,
                    Reason::Safety | Reason::Pinned | Reason::Healthy(_) | Reason::Archive
                )
            };
            kept.reasons.iter().all(other)
        };
        let empty = group.keep.iter().all(by_itself);
        if let Some(newest) = group.forget.first().filter(|_| empty && !request.remove_all) {
            return Err(Error::KeepsNothing { newest: newest.id, count: group.forget.len() });
        }
        plan.groups.push(group);
    }
    Ok(plan)
}

/// Plans to forget snapshots that were named. [`Error::Pinned`] for one that is pinned.
pub fn plan_named(session: &Session, snapshots: Vec<Snapshot>) -> Result<Plan> {
    let pinned = session.repo.pinned()?;
    if let Some(held) = snapshots.iter().find(|s| pinned.contains(&s.id)) {
        return Err(Error::Pinned(held.id));
    }
    let mut group = Group::default();
    for snapshot in snapshots {
        if group.forget.iter().all(|known| known.id != snapshot.id) {
            group.forget.push(snapshot);
        }
    }
    Ok(Plan { groups: vec![group] })
}

/// Forgets what the plan says, oldest first. Repeating it is harmless.
pub fn apply(session: &Session, plan: &Plan, cancel: &AtomicBool) -> Result<Report> {
    session.repo.config().writable()?;
    let mut report = Report::default();
    for snapshot in plan.forget() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match session.repo.forget_unless_pinned(&snapshot.id)? {
            Forgot::Done => report.forgotten.push(snapshot.id),
            Forgot::Gone => {}
            Forgot::Pinned => report.pinned.push(snapshot.id),
        }
    }
    journal::forgot(session, &report.forgotten);
    Ok(report)
}

fn key(snapshot: &Snapshot, by: GroupBy) -> Key {
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names.dedup();
        names
    };
    let roots = || sorted(snapshot.roots.iter().map(|root| root.label.clone()).collect());
    (
        by.machine.then_some(snapshot.machine),
        by.roots.then(roots),
        by.tags.then(|| sorted(snapshot.tags.clone())),
    )
}

/// When snapshots were made, as far as the store does not contradict.
struct Times {
    listed: HashMap<OpId, SystemTime>,
    /// Pushes whose objects are no younger than those of what their machine pushed after them: others
    /// were written again, by a repair.
    first: HashSet<OpId>,
    /// The store's times are those at which things were written, not copied here.
    original: bool,
}

impl Times {
    fn look(session: &Session, snapshots: &[Snapshot]) -> Result<Self> {
        let store = session.repo.store();
        let listed = store.list("snap/")?;
        let id = |item: &store::Item| OpId::from_hex(item.name.strip_prefix("snap/")?);
        let listed: HashMap<OpId, SystemTime> =
            listed.iter().filter_map(|item| Some((id(item)?, item.modified))).collect();
        let mut pushes: Vec<&Snapshot> = snapshots.iter().filter(|s| s.is_original()).collect();
        pushes.sort_by_key(|s| Reverse((s.machine, s.counter)));
        let sound = believed(&pushes, &listed);
        let (mut first, mut after) = (HashSet::new(), None);
        for push in pushes {
            let Some(at) = listed.get(&push.id).copied() else { continue };
            if sound.contains(&push.id) {
                continue;
            }
            let known = after.filter(|(machine, _)| *machine == push.machine);
            if known.is_none_or(|(_, next)| at <= next) {
                first.insert(push.id);
                after = Some((push.machine, at));
            }
        }
        // `config` is written once: if it is much younger than it says, somebody copied the objects
        let created = Duration::from_secs(session.repo.config().created_secs);
        let created = SystemTime::UNIX_EPOCH.checked_add(created);
        let original = store.list("config")?.iter().any(|item| {
            let age = created.map(|created| item.modified.duration_since(created));
            age.is_some_and(|age| age.unwrap_or_default() <= EARLY_MAX)
        });
        Ok(Self { listed, first, original })
    }

    /// The time that counts, and whether it is another one than the snapshot says.
    fn of(&self, snapshot: &Snapshot) -> Option<(Timestamp, bool)> {
        let modified = *self.listed.get(&snapshot.id)?;
        let own = nanos(snapshot.finished_nanos);
        let latest = modified.checked_add(LATE_MAX).and_then(|at| Timestamp::try_from(at).ok());
        // what is no push but a copy or the like, or was written again, is as old as it says
        let is_first = self.original && self.first.contains(&snapshot.id);
        let earliest = modified.checked_sub(EARLY_MAX).filter(|_| is_first);
        let earliest = earliest.and_then(|at| Timestamp::try_from(at).ok());
        let mut time = own;
        time = earliest.map_or(time, |earliest| time.max(earliest));
        time = latest.map_or(time, |latest| time.min(latest));
        Some((time, time != own))
    }
}

/// Pushes that the store has much later than they say, and that were written again all the same: a clock
/// that is behind does not make such times. `pushes` are sorted by machine, the newest of each first.
fn believed(pushes: &[&Snapshot], listed: &HashMap<OpId, SystemTime>) -> HashSet<OpId> {
    let mut out = HashSet::new();
    for of_machine in pushes.chunk_by(|a, b| a.machine == b.machine) {
        let (mut newest, mut any_confirmed) = (i64::MIN, false);
        let (mut unsure, mut own, mut stored) = (Vec::new(), Span::default(), Span::default());
        for push in of_machine.iter().rev() {
            let Some(at) = listed.get(&push.id).and_then(|at| Timestamp::try_from(*at).ok()) else {
                continue;
            };
            let at = i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
            let says = push.finished_nanos.min(at);
            let is_in_order = says >= newest;
            newest = newest.max(says);
            if at.saturating_sub(says) <= nanos_of(EARLY_MAX) {
                any_confirmed = true;
            } else if is_in_order && any_confirmed {
                out.insert(push.id);
            } else if is_in_order {
                own.add(says);
                stored.add(at);
                unsure.push(push.id);
            }
        }
        if own.nanos() > stored.nanos().saturating_add(nanos_of(EARLY_MAX)) {
            out.extend(unsure);
        }
    }
    out
}

/// The first and the last of some times.
#[derive(Default)]
struct Span(Option<(i64, i64)>);

impl Span {
    fn add(&mut self, at: i64) {
        let (first, last) = self.0.unwrap_or((at, at));
        self.0 = Some((first.min(at), last.max(at)));
    }

    fn nanos(&self) -> i64 {
        self.0.map_or(0, |(first, last)| last.saturating_sub(first))
    }
}

fn nanos_of(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).expect("64 bits of nanoseconds are in range")
}
