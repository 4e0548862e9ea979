//! Push: roots in, a snapshot out.
//!
//! ```text
//! roots -> scan -> unchanged? -------------------------------> entries -> tree -> snapshot
//!                    | no                                        ^
//!                    v                                           |
//!                  readers: open, capture, cut, hash, dedup -> blocks -> sealers -> packs -> store
//! ```
//! First a probe: a scan against the cache that computes the tree's id and writes nothing. If it is
//! the tree of the current snapshot, and that is still listed, there is nothing to do. Otherwise an
//! operation is announced and the pipeline runs. See [`repo::Operation`] for the protocol.

mod blocks;
mod collect;
mod database;
mod fates;
pub(crate) mod fields;
mod groups;
mod input;
mod members;
mod pages;
mod probe;
mod reader;
mod rows;
mod run;
mod stand_in;
mod suspects;
mod upload;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use repo::{
    BlockId, Commit, Ended, OpId, OpKind, Operation, PushStats, RootRecord, SAFETY, Snapshot,
    end_stale,
};

use crate::error::{Error, Result};
use crate::gone;
use crate::ignored::Ignored;
use crate::journal;
use crate::marks::Marking;
use crate::monitor::Monitor;
use crate::scan::{self, ScanRoot};
use crate::session::Session;
use crate::state::{Current, Previous, State};

pub use suspects::Suspects;

/// One root to push.
#[derive(Debug, Clone)]
pub struct PushRoot {
    /// Where it is and what of it is wanted.
    pub scan: ScanRoot,
    /// The agent it belongs to; none for a plain directory.
    pub agent: Option<String>,
}

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// Make a snapshot even if nothing changed.
    pub always: bool,
    /// Read every file, whatever the cache says.
    pub reread: bool,
    /// Go on although the repository lost the snapshot that this machine saw last.
    pub accept_rollback: bool,
    /// How to scan.
    pub scan: scan::Options,
    /// What of the files that vanished is kept.
    pub gone: gone::Options,
    /// Why, if not a plain push.
    pub reason: Option<String>,
    /// Threads that read and cut files.
    pub readers: usize,
    /// Threads that compress and seal.
    pub sealers: usize,
    /// Packs uploaded at the same time, 32 MiB of memory each: one keeps a disk busy, a network
    /// wants two.
    pub uploads: usize,
    /// Entries between the scan and the tree, at most: bounds what waits behind one large file.
    pub window: u64,
    /// How long a locked database is waited for before it is copied as it lies.
    pub database_wait: Duration,
    /// Check the health of every database that is read: SQLite's `quick_check`.
    pub check_databases: bool,
    /// How long one such check may take. Its log cannot be reset meanwhile; one that is not over
    /// then says nothing. A writer without a log is never kept waiting for more than a second.
    pub check_wait: Duration,
    /// New bytes that are looked through for secrets, at most; 0: none.
    pub suspect_bytes: u64,
    /// What of that is not told, and not replaced.
    pub ignored: Arc<Ignored>,
    /// Marks take the places of all secrets that are found in what is read, before anything of it is
    /// stored; a file in which that cannot be done is not stored. [`PushOptions::suspect_bytes`] limits
    /// nothing then.
    pub redact_secrets: bool,
}

impl PushOptions {
    /// How secrets are replaced, if they are.
    fn marking(&self, session: &Session) -> Option<Arc<Marking>> {
        let marking = || Marking::new(session.repo.keys(), self.ignored.clone());
        self.redact_secrets.then(|| Arc::new(marking()))
    }
}

impl Default for PushOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            tags: Vec::new(),
            always: false,
            reread: false,
            accept_rollback: false,
            scan: scan::Options::default(),
            gone: gone::Options::default(),
            reason: None,
            readers: cores.clamp(1, 4),
            sealers: cores,
            uploads: 1,
            window: 1 << 14,
            database_wait: Duration::from_secs(5),
            check_databases: false,
            check_wait: Duration::from_secs(30),
            suspect_bytes: 16 << 20,
            ignored: Arc::new(Ignored::nothing()),
            redact_secrets: false,
        }
    }
}

/// What a push did.
#[derive(Debug, Clone)]
pub enum Pushed {
    /// Nothing changed since this snapshot; none was made.
    Unchanged(Box<Snapshot>, PushStats),
    /// A new snapshot.
    Made(Box<Snapshot>),
}

impl Pushed {
    /// The snapshot that is current now.
    pub fn snapshot(&self) -> &Snapshot {
        match self {
            Self::Unchanged(snapshot, _) | Self::Made(snapshot) => snapshot,
        }
    }

    /// What was done.
    pub fn stats(&self) -> &PushStats {
        match self {
            Self::Unchanged(_, stats) => stats,
            Self::Made(snapshot) => &snapshot.stats,
        }
    }
}

/// Tries of a push whose operation was killed while it ran.
const ATTEMPTS_MAX: usize = 3;

/// Backs up the roots. Problems of single items go to the monitor and are counted in the stats.
pub fn push(
    session: &Session,
    roots: &[PushRoot],
    options: &PushOptions,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Pushed> {
    let pushed = acknowledge(session, roots, options, monitor, cancel)?;
    journal::pushed(session, &pushed);
    Ok(pushed)
}

fn acknowledge(
    session: &Session,
    roots: &[PushRoot],
    options: &PushOptions,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Pushed> {
    session.repo.config().writable()?;
    let _lock = session.state.lock()?;
    let mut state: State = session.state.load()?;
    finish_unfinished(session, &mut state)?;
    let mut roots = roots.to_vec();
    roots.sort_by(|a, b| repo::path_order(a.scan.label.as_bytes(), b.scan.label.as_bytes()));
    let set =
        set_key(roots.iter().map(|root| {
            (root.scan.label.as_bytes(), root.scan.dir.as_os_str().as_encoded_bytes())
        }));
    let sets = sets_of(set, options);
    let current: Vec<_> =
        sets.iter().filter_map(|set| state.sets.get(set).and_then(Current::ids)).collect();
    let sound = |(id, ..): &&(OpId, BlockId, BlockId)| {
        session.snapshot(id).is_ok_and(|snapshot| snapshot.is_consistent())
    };
    if !options.always
        && !options.reread
        && current.iter().any(|one| sound(&one))
        && let Some(found) = probe::probe(session, &roots, options, monitor, cancel)?
    {
        for (id, ..) in current.iter().filter(|one| one.2 == found.tree).filter(sound) {
            if is_current(session, id)? {
                return Ok(Pushed::Unchanged(Box::new(session.snapshot(id)?), found.stats));
            }
        }
    }
    let previous = refuse_rollback(session, &state, options)?;
    let started_nanos = session.clock.now_nanos();
    let mut doubtful = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        let id = OpId::random();
        state.unfinished = Some(id.hex());
        session.state.save(&state)?;
        let now = session.clock.now_secs();
        let op = Operation::announce(&session.repo, id, OpKind::Push, session.machine_id, now)?;
        // a safety snapshot says what is there, maybe of a part of a root: nothing vanished
        let is_safety = options.reason.as_deref() == Some(SAFETY);
        let earlier =
            if is_safety { run::Earlier::Nothing } else { run::Earlier::Snapshots(previous) };
        let mut run = run::run(session, &op, &roots, options, earlier, monitor, cancel)?;
        if run.stats.entries == 0 {
            op.finish_without_snapshot()?;
            state.unfinished = None;
            session.state.save(&state)?;
            return Err(Error::NothingToBackUp);
        }
        for (current, ..) in current.iter().filter(|one| one.1 == run.tree.id && !options.always) {
            if is_current(session, current)?
                && let snapshot = session.snapshot(current)?
                // the same files, and now it is sure that they belong together: worth a snapshot
                && (snapshot.is_consistent() || snapshot.groups == run.groups)
            {
                op.finish_without_snapshot()?;
                state.unfinished = None;
                session.state.save(&state)?;
                run.rows.save(session);
                return Ok(Pushed::Unchanged(Box::new(snapshot), run.stats));
            }
        }
        let tell = |problem| monitor.problem(&problem);
        gone::raise(session, &mut state, &run.gone, &tell)?;
        let snapshot = record(session, &state, &roots, options, &run, id, started_nanos);
        match op.commit(&snapshot)? {
            (Commit::Acknowledged(hash), bytes) => {
                state.counter = snapshot.counter;
                state.previous =
                    Some(Previous { id: id.hex(), hash: data_encoding::HEXLOWER.encode(&hash) });
                let set = sets[0].clone();
                let (tree, live) = (run.tree.id, run.live.id);
                let live = (live != tree).then(|| live.hex());
                state.sets.insert(set, Current { snapshot: id.hex(), tree: tree.hex(), live });
                state.unfinished = None;
                session.state.save(&state)?;
                if let Some(cache) = &session.cache {
                    cache.put_object(&Snapshot::object_name(&id), &bytes);
                }
                run.rows.save(session);
                if !is_safety {
                    std::mem::take(&mut run.gone).memo(id).save(session);
                }
                for old in doubtful {
                    session.repo.forget_unless_pinned(&old)?;
                }
                return Ok(Pushed::Made(Box::new(snapshot)));
            }
            (Commit::InDoubt, _) => doubtful.push(id),
        }
    }
    Err(Error::Repo(repo::Error::Refused {
        reason: "this push was stopped by another client three times; try again later".into(),
    }))
}

/// Reads everything and stores what is not to be had in the repository, but makes no snapshot: a
/// repair takes what it needs of it. Returns the tree that a snapshot would have.
pub(crate) fn gather(
    session: &Session,
    roots: &[PushRoot],
    options: &PushOptions,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<BlockId> {
    let _lock = session.state.lock()?;
    let mut state = session.state.load()?;
    finish_unfinished(session, &mut state)?;
    let mut roots = roots.to_vec();
    roots.sort_by(|a, b| repo::path_order(a.scan.label.as_bytes(), b.scan.label.as_bytes()));
    let id = OpId::random();
    state.unfinished = Some(id.hex());
    session.state.save(&state)?;
    let now = session.clock.now_secs();
    let op = Operation::announce(&session.repo, id, OpKind::Push, session.machine_id, now)?;
    let options = PushOptions { reread: true, ..options.clone() };
    // what the cache knows of the files stays: the push after the repair needs it
    let earlier = run::Earlier::Nothing;
    let run = run::run(session, &op, &roots, &options, earlier, monitor, cancel)?;
    op.finish_without_snapshot()?;
    state.unfinished = None;
    session.state.save(&state)?;
    Ok(run.tree.id)
}

/// What the cache remembers of the file at a path: its entry, and its extents.
pub(crate) fn remembered(session: &Session, path: &[u8]) -> Option<repo::repair::Remembered> {
    let value = session.cache.as_ref()?.file(session.repo.keys(), path)?;
    let row = rows::Row::decode(&value)?;
    let extents = row.extents()?;
    Some((row.entry, extents))
}

/// Ends the operation that an earlier run on this machine left, the way anyone would.
pub(crate) fn finish_unfinished(session: &Session, state: &mut State) -> Result<()> {
    let Some(old) = state.unfinished.as_deref().and_then(OpId::from_hex) else {
        return Ok(());
    };
    if end_stale(&session.repo, &old)? == Ended::Committed {
        // the crash came after the commit: that snapshot is this machine's newest. Nobody may build on
        // it, though: it was not acknowledged, and another client that saw the operation end may be
        // about to declare it dead. So the next push makes one of its own
        let (snapshot, hash) = session.repo.snapshot(session.cache.as_ref(), &old)?;
        // what was copied, imported, brought back or took another's place is an old one, maybe of another
        // machine
        if snapshot.machine == session.machine_id && snapshot.is_original() {
            state.counter = state.counter.max(snapshot.counter);
            state.previous =
                Some(Previous { id: old.hex(), hash: data_encoding::HEXLOWER.encode(&hash) });
        }
    }
    state.unfinished = None;
    session.state.save(state)
}

/// An acknowledged snapshot is there, and nobody forgot it: with a forget record it counts no more,
/// also if whoever wrote that was stopped before the delete.
pub fn is_current(session: &Session, id: &OpId) -> Result<bool> {
    Ok(is_listed(session, &Snapshot::object_name(id))?
        && !is_listed(session, &format!("forgot/{id}"))?)
}

/// True if the store lists exactly this object; a listing by prefix also shows longer names.
fn is_listed(session: &Session, name: &str) -> Result<bool> {
    Ok(session.repo.store().list(name)?.iter().any(|item| item.name == name))
}

/// A snapshot that this machine saw must be there, or have a forget record. Returns it if it is there.
fn refuse_rollback(
    session: &Session,
    state: &State,
    options: &PushOptions,
) -> Result<Option<OpId>> {
    let Some(id) = state.previous.as_ref().and_then(|p| OpId::from_hex(&p.id)) else {
        return Ok(None);
    };
    if is_listed(session, &Snapshot::object_name(&id))? {
        return Ok(Some(id));
    }
    if options.accept_rollback || is_listed(session, &format!("forgot/{id}"))? {
        return Ok(None);
    }
    Err(Error::Repo(repo::Error::Refused {
        reason: format!(
            "snapshot {id}, which this machine made, is gone from {} and nobody forgot it: the \
             storage may have been rolled back",
            session.repo.store().address()
        ),
    }))
}

/// The sets whose snapshot is current for a push; its own is the first. A safety snapshot is none for
/// a plain push, as `latest` does not mean it; a plain one is as good as a safety snapshot.
fn sets_of(set: String, options: &PushOptions) -> Vec<String> {
    if options.reason.as_deref() == Some(SAFETY) {
        vec![format!("{SAFETY} {set}"), set]
    } else {
        vec![set]
    }
}

/// Names a set of roots by labels and directories.
fn set_key<'a>(roots: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (label, dir) in roots {
        for part in [label, dir] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

fn record(
    session: &Session,
    state: &State,
    roots: &[PushRoot],
    options: &PushOptions,
    run: &run::Run,
    id: OpId,
    started_nanos: i64,
) -> Snapshot {
    let hash =
        |p: &Previous| data_encoding::HEXLOWER.decode(p.hash.as_bytes()).ok()?.try_into().ok();
    Snapshot {
        id,
        machine: session.machine_id,
        host: session.machine.host.clone(),
        user: session.machine.user.clone(),
        started_nanos,
        finished_nanos: session.clock.now_nanos(),
        counter: state.counter.max(run.gone.counter).saturating_add(1),
        previous: state.previous.as_ref().and_then(|p| OpId::from_hex(&p.id)),
        previous_hash: state.previous.as_ref().and_then(hash),
        roots: roots
            .iter()
            .map(|root| RootRecord {
                label: root.scan.label.clone(),
                agent: root.agent.clone(),
                dir: root.scan.dir.as_os_str().as_encoded_bytes().to_vec(),
            })
            .collect(),
        tree: run.tree.id,
        stats: run.stats,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        tags: options.tags.clone(),
        os: session.machine.os.clone(),
        home: Some(session.machine.home.as_os_str().as_encoded_bytes().to_vec()),
        reason: options.reason.clone(),
        groups: run.groups.clone(),
        damaged: run.damaged.clone(),
        origin: None,
        instead_of: None,
        gone_roots: run.gone.roots.clone(),
        imported: None,
    }
}
