//! Forgetting what snapshots keep of files that are gone from their source.
//!
//! In: which of them. Out: for every snapshot that keeps some, a snapshot that is the same push without
//! them ([`repo::without`]); the old one is forgotten then. Pinned snapshots stay as they are. Snapshots
//! from the time when such a file was there have it as before: they are for a policy to forget. No byte
//! is freed before a collection runs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use repo::{Commit, Entry, Forgot, Kind, OpId, Snapshot};

use crate::error::{Error, Result};
use crate::gone::{Kept, Memo, Since, read_kept, tidy};
use crate::pull::select::Select;
use crate::repair::announced;
use crate::session::Session;
use crate::state::{Previous, State};

/// Tries of a snapshot whose operation another client ended.
const ATTEMPTS_MAX: usize = 3;

/// Which of what is gone. All that is said must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Patterns of the paths that they had, as a restore takes them; none: all.
    pub paths: Vec<String>,
    /// Of this agent.
    pub agent: Option<String>,
    /// In snapshots of machines with this name.
    pub host: Option<String>,
    /// Gone for longer than this.
    pub older_than: Option<Duration>,
}

/// A file or link that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// Since when it is gone.
    pub since: Since,
    /// The path it had.
    pub path: Vec<u8>,
    /// Bytes of its content.
    pub bytes: u64,
}

/// What would be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What goes, sorted by path.
    pub going: Vec<Going>,
    /// Snapshots that keep some of it, oldest first: each gives way to one without.
    pub snapshots: Vec<Snapshot>,
    /// Pinned ones that keep some of it: they stay.
    pub pinned: Vec<OpId>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots that gave way, with those that took their place.
    pub replaced: Vec<(OpId, OpId)>,
    /// Those that somebody pinned since the plan was made: they stay beside the new ones.
    pub pinned: Vec<OpId>,
}

/// Looks what a request means; writes nothing.
pub fn plan(session: &Session, request: &Request) -> Result<Plan> {
    if request.paths.iter().any(|path| path.trim_matches('/').is_empty()) {
        return Err(Error::NotFound("not a pattern: it is empty; '**' is all of it".to_owned()));
    }
    let pinned = session.repo.pinned()?;
    let reader = repo::Reader::open(&session.repo, session.cache.as_ref())?;
    let mut plan = Plan::default();
    let mut going = BTreeMap::new();
    for snapshot in session.snapshots()? {
        if request.host.as_ref().is_some_and(|host| *host != snapshot.host) {
            continue;
        }
        let fits = Fits::new(session, request, &snapshot)?;
        let mut any = false;
        for one in read_kept(&reader, &snapshot)?.iter().filter(|one| fits.fits(one)) {
            any = true;
            let going_one =
                Going { since: one.since, path: one.path.clone(), bytes: one.entry.size };
            going.insert((repo::key_of_path(&one.path), one.since), going_one);
        }
        if any && pinned.contains(&snapshot.id) {
            plan.pinned.push(snapshot.id);
        } else if any {
            plan.snapshots.push(snapshot);
        }
    }
    plan.going = going.into_values().collect();
    Ok(plan)
}

/// What of a snapshot's kept entries fits a request.
struct Fits {
    select: Select,
    /// Labels of the agent; none: all.
    labels: Option<BTreeSet<String>>,
    /// Gone since before this time.
    before: Option<i64>,
}

impl Fits {
    fn new(session: &Session, request: &Request, snapshot: &Snapshot) -> Result<Self> {
        let roots = || snapshot.roots.iter().chain(&snapshot.gone_roots);
        let labels: Vec<Vec<u8>> = roots().map(|root| root.label.clone().into_bytes()).collect();
        let select = Select::new(&request.paths, &labels)
            .map_err(|error| Error::NotFound(format!("not a pattern: {error}")))?;
        let labels = request.agent.as_ref().map(|agent| {
            let of_agent = roots().filter(|root| root.agent.as_ref() == Some(agent));
            of_agent.map(|root| root.label.clone()).collect()
        });
        let secs = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let now = session.clock.now_secs();
        let before = request.older_than.map(|age| now.saturating_sub(secs(age)));
        Ok(Self { select, labels, before })
    }

    fn fits(&self, one: &Kept) -> bool {
        let Since::At(since) = one.since else { return false };
        let is_of = |labels: &BTreeSet<String>| {
            labels.iter().any(|label| {
                let rest = one.path.strip_prefix(label.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            })
        };
        one.entry.kind != Kind::Dir
            && (self.select.is_empty() || self.select.covers(&one.path))
            && self.labels.as_ref().is_none_or(is_of)
            && self.before.is_none_or(|before| since < before)
    }
}

/// Does what the plan says, oldest snapshots first. What is interrupted is done by a new plan.
pub fn apply(
    session: &Session,
    plan: &Plan,
    told: &mut dyn FnMut(&Snapshot),
    cancel: &AtomicBool,
) -> Result<Report> {
    session.repo.config().writable()?;
    let mut report = Report::default();
    let going: HashSet<(Since, &[u8])> =
        plan.going.iter().map(|one| (one.since, one.path.as_slice())).collect();
    for old in &plan.snapshots {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let reader = repo::Reader::open(&session.repo, session.cache.as_ref())?;
        let mut kept = read_kept(&reader, old)?;
        kept.retain(|one| !going.contains(&(one.since, one.path.as_slice())));
        tidy(&mut kept);
        let (new, hash) = replace(session, old, &kept)?;
        take_its_place(session, old, &new, hash, &kept)?;
        if session.repo.forget_unless_pinned(&old.id)? == Forgot::Pinned {
            report.pinned.push(old.id);
        }
        report.replaced.push((old.id, new.id));
        told(&new);
    }
    Ok(report)
}

/// What stays of a snapshot.
struct Edit<'a> {
    kept: &'a [Kept],
    stays: HashSet<Vec<u8>>,
}

impl repo::Edit for Edit<'_> {
    fn keeps(&mut self, path: &[u8], _: &Entry) -> bool {
        !repo::gone::holds(path) || self.stays.contains(path)
    }

    fn amend(&mut self, snapshot: &mut Snapshot) {
        snapshot.stats.gone_entries = self.kept.len() as u64;
        snapshot.stats.gone_bytes = self.kept.iter().map(|one| one.entry.size).sum();
        snapshot.gone_roots.retain(|root| {
            self.kept.iter().any(|one| {
                let rest = one.path.strip_prefix(root.label.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            })
        });
    }
}

fn replace(session: &Session, old: &Snapshot, kept: &[Kept]) -> Result<(Snapshot, [u8; 32])> {
    for _ in 0..ATTEMPTS_MAX {
        let mut edit = Edit { kept, stays: kept.iter().map(Kept::stored_path).collect() };
        let (commit, new) = announced(session, |id| {
            let now = || session.clock.now_secs();
            let (repo, cache) = (&session.repo, session.cache.as_ref());
            Ok(repo::without(repo, cache, old, &mut edit, id, session.machine_id, &now)?)
        })?;
        match commit {
            Commit::Acknowledged(hash) => return Ok((new, hash)),
            Commit::InDoubt => drop(session.repo.forget_unless_pinned(&new.id)?),
        }
    }
    Err(Error::Repo(repo::Error::Refused {
        reason: "another client stopped this three times; try again later".into(),
    }))
}

/// What this machine remembers of the old snapshot counts for the new one.
fn take_its_place(
    session: &Session,
    old: &Snapshot,
    new: &Snapshot,
    hash: [u8; 32],
    kept: &[Kept],
) -> Result<()> {
    let _lock = session.state.lock()?;
    let mut state: State = session.state.load()?;
    let was = old.id.hex();
    if state.previous.as_ref().is_some_and(|previous| previous.id == was) {
        let hash = data_encoding::HEXLOWER.encode(&hash);
        state.previous = Some(Previous { id: new.id.hex(), hash });
    }
    for current in state.sets.values_mut().filter(|current| current.snapshot == was) {
        current.snapshot = new.id.hex();
        current.tree = new.tree.hex();
    }
    session.state.save(&state)?;
    let mut memo = Memo::load(session);
    if memo.snapshot == Some(old.id) {
        memo.snapshot = Some(new.id);
        memo.kept = kept.to_vec();
    }
    for label in memo.labels.values_mut().filter(|label| label.base == old.id) {
        label.base = new.id;
    }
    memo.save(session);
    Ok(())
}
