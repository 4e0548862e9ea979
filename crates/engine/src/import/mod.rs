//! Import: snapshots of agent-backup-core become snapshots here, with their times.
//!
//! In: an old bucket ([`Source`]) and what a survey of it found. Out: for each snapshot a fate. First a plan
//! ([`plan`]), then it is applied ([`apply`]), each snapshot as an operation of its own, like a push. Files are
//! cut, deduplicated and sealed as they come: nothing of them touches a disk. A file whose hash was met
//! before in the run is only referred to, so it is neither fetched nor decrypted again.
//!
//! A snapshot remembers the SHA-256 of its manifest, by which a later run knows it. What is wrong with a
//! file costs that file, what is wrong with a manifest that snapshot, each told by its name.

mod roots;
mod write;

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};

pub use ::import::{Error as SourceError, Found, Head, Listed, NAME, Passphrase, Source, Trust};
use ::import::{Manifest, Record, Taken};
use jiff::Timestamp;
use repo::{
    Commit, Entry, ImportRecord, Kind, MachineId, OpId, OpKind, Operation, PushStats, SAFETY,
    Snapshot, flag,
};

use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress};
use crate::pull::strip_path;
use crate::push::finish_unfinished;
use crate::session::Session;
use crate::state::State;
use roots::Roots;
use write::{Kept, Writer};

/// Files up to this size are fetched several at a time, each whole in memory.
const SMALL_BYTES_MAX: u64 = 4 << 20;
/// So many: a bucket answers slowly, and each costs 16 MiB and tens of milliseconds for its key.
const SMALL_FILES_AT_ONCE: usize = 8;
/// Tries of an operation that another client ended while it ran.
const ATTEMPTS_MAX: usize = 3;
/// A clock that is wrong by more than this is no excuse for a time to come: 48 hours.
const AHEAD_SECS_MAX: i64 = 48 * 3600;
/// How a SQLite database begins.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The agent whose files these are; none: what the prefix says (`goose-backup`).
    pub agent: Option<String>,
    /// Name of the machine they are of; none: this one.
    pub host: Option<String>,
    /// Tags of the snapshots.
    pub tags: Vec<String>,
}

/// What will be done with a snapshot, or what became of it.
#[derive(Debug, Clone)]
pub enum Step<N> {
    /// It is new here.
    New(N),
    /// It was imported before.
    There {
        /// What it is here.
        id: OpId,
        /// Files that could not be had then.
        lost: u64,
    },
    /// It stays out.
    Out {
        /// Why, with its name.
        why: String,
        /// It may be forged; otherwise it is damaged.
        refused: bool,
    },
}

/// What became of a snapshot; a new one is this here now.
pub type Fate = Step<Box<Snapshot>>;

/// A snapshot of the old bucket, and what will be done with it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Where it is.
    pub listed: Listed,
    /// What will be done.
    pub step: Step<Head>,
}

/// A snapshot of the old bucket, and what became of it.
#[derive(Debug, Clone)]
pub struct Done {
    /// Its name there.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
}

/// Decides what to do with each snapshot; writes nothing.
pub fn plan(session: &Session, found: Vec<Found>) -> Result<Vec<Planned>> {
    let there = imported(session)?;
    let latest = session.clock.now_secs().saturating_add(AHEAD_SECS_MAX);
    let step = |one: &Found| match &one.head {
        Err(error) => out(error),
        Ok(head) => match there.get(&head.sha256) {
            Some(step) => step.clone(),
            None if head.time.as_second() > latest => Step::Out {
                why: format!("{}: refused: its time, {}, is to come", one.listed.name, head.time),
                refused: true,
            },
            None => Step::New(*head),
        },
    };
    Ok(found.into_iter().map(|one| Planned { step: step(&one), listed: one.listed }).collect())
}

fn out<N>(error: &::import::Error) -> Step<N> {
    let refused = matches!(error, ::import::Error::Unsafe { .. });
    Step::Out { why: error.to_string(), refused }
}

/// What was imported before, by the hash of its manifest.
fn imported<N>(session: &Session) -> Result<HashMap<[u8; 32], Step<N>>> {
    let step = |s: &Snapshot| {
        let record = s.imported.as_ref().filter(|record| record.from == NAME)?;
        Some((record.manifest, Step::There { id: s.id, lost: s.stats.problems }))
    };
    Ok(session.snapshots()?.iter().filter_map(step).collect())
}

/// Imports what is new, oldest first. What a file failed with goes to the monitor and is counted in the
/// snapshot's stats; `told` hears of each snapshot when it is done.
pub fn apply(
    session: &Session,
    source: &Source,
    plan: &[Planned],
    options: &Options,
    monitor: &dyn Monitor,
    told: &mut dyn FnMut(&Done),
    cancel: &AtomicBool,
) -> Result<Vec<Done>> {
    session.repo.config().writable()?;
    let _lock = session.state.lock()?;
    // another run may have been faster
    let there = imported(session)?;
    let new = |one: &Planned| match &one.step {
        Step::New(head) if !there.contains_key(&head.sha256) => Some(*head),
        _ => None,
    };
    let heads: Vec<Head> = plan.iter().filter_map(new).collect();
    let mut progress = Progress { scanned: true, ..Progress::default() };
    progress.files_found = heads.iter().map(|head| head.files).sum();
    progress.bytes_found = heads.iter().map(|head| head.bytes).sum();
    let mut importer = Importer {
        session,
        source,
        options,
        monitor,
        cancel,
        kept: HashMap::new(),
        progress,
        counter: 0,
    };
    let mut done = Vec::new();
    for one in plan {
        importer.counter += 1;
        let fate = match &one.step {
            Step::New(head) => match there.get(&head.sha256) {
                Some(fate) => fate.clone(),
                None => importer.snapshot(&one.listed, head)?,
            },
            Step::There { id, lost } => Step::There { id: *id, lost: *lost },
            Step::Out { why, refused } => Step::Out { why: why.clone(), refused: *refused },
        };
        let one = Done { name: one.listed.name.clone(), fate };
        told(&one);
        done.push(one);
    }
    Ok(done)
}

struct Importer<'a> {
    session: &'a Session,
    source: &'a Source,
    options: &'a Options,
    monitor: &'a dyn Monitor,
    cancel: &'a AtomicBool,
    /// Content that is in the repository, by the hash that manifests have of it.
    kept: HashMap<[u8; 32], Kept>,
    progress: Progress,
    /// Place of the snapshot in the bucket.
    counter: u64,
}

/// Files of one content.
struct Wanted<'m> {
    record: Record,
    paths: Vec<&'m str>,
}

/// A file that was fetched.
enum Fetched {
    /// It is here.
    Whole(Vec<u8>),
    /// It is too large to be held.
    Large,
}

/// Why a fetch ended.
enum Fetch {
    Failed(::import::Error),
    Large,
}

impl From<::import::Error> for Fetch {
    fn from(error: ::import::Error) -> Self {
        Self::Failed(error)
    }
}

/// What became of the files of one content: notices beside it, or why each failed.
type Outcome<T> = std::result::Result<(T, Option<::import::Error>), Vec<::import::Error>>;

impl Importer<'_> {
    fn snapshot(&mut self, listed: &Listed, head: &Head) -> Result<Fate> {
        let manifest = match self.source.manifest(listed, head) {
            Ok(manifest) => manifest,
            Err(error) if error.is_of_one() => return Ok(out(&error)),
            Err(error) => return Err(error.into()),
        };
        let session = self.session;
        for _ in 0..ATTEMPTS_MAX {
            let id = OpId::random();
            let mut state: State = session.state.load()?;
            finish_unfinished(session, &mut state)?;
            state.unfinished = Some(id.hex());
            session.state.save(&state)?;
            let now = session.clock.now_secs();
            let op = Operation::announce(&session.repo, id, OpKind::Push, session.machine_id, now)?;
            let Some(record) = self.write(&op, listed, &manifest)? else {
                op.finish_without_snapshot()?;
                state.unfinished = None;
                session.state.save(&state)?;
                let count = manifest.files.len();
                let why = format!("{}: none of its {count} files could be had", listed.name);
                return Ok(Fate::Out { why, refused: false });
            };
            let (commit, bytes) = op.commit(&record)?;
            state.unfinished = None;
            session.state.save(&state)?;
            match commit {
                Commit::Acknowledged(_) => {
                    if let Some(cache) = &session.cache {
                        cache.put_object(&Snapshot::object_name(&id), &bytes);
                    }
                    return Ok(Fate::New(Box::new(record)));
                }
                Commit::InDoubt => {
                    session.repo.forget_unless_pinned(&id)?;
                }
            }
        }
        Err(Error::Repo(repo::Error::Refused {
            reason: "this import was stopped by another client three times; try again later".into(),
        }))
    }

    /// Stores the files and the tree; none if no file could be had.
    fn write(
        &mut self,
        op: &Operation<'_>,
        listed: &Listed,
        manifest: &Manifest,
    ) -> Result<Option<Snapshot>> {
        let session = self.session;
        let index = op.survey(session.cache.as_ref())?.index;
        let now_secs = || session.clock.now_secs();
        let mut writer = Writer::new(session, op, &index, &now_secs)?;
        let mut stats = PushStats::default();
        let known = |kept: &Kept| kept.blocks.iter().all(|id| index.get(id).is_some());
        self.kept.retain(|_, kept| known(kept));
        let wanted = wanted(manifest);
        let fresh: Vec<&Wanted<'_>> =
            wanted.iter().filter(|one| !self.kept.contains_key(&one.record.sha256)).collect();
        let mut drafts = Vec::new();
        for some in fresh.chunks(SMALL_FILES_AT_ONCE) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            for (one, fetched) in some.iter().zip(self.fetch(listed, some)?) {
                let drafted = match fetched {
                    Ok((Fetched::Whole(bytes), notice)) => {
                        Ok((writer.content(&mut &bytes[..])?, notice))
                    }
                    Ok((Fetched::Large, _)) => {
                        self.first(listed, one, |stream| writer.content(stream))?
                    }
                    Err(failures) => Err(failures),
                };
                match drafted {
                    Ok((draft, notice)) => {
                        if let Some(why) = &notice {
                            self.tell(why, true);
                        }
                        stats.files_read += 1;
                        stats.bytes_read += draft.size;
                        drafts.push((one.record.sha256, draft));
                    }
                    Err(failures) => {
                        for why in &failures {
                            self.tell(why, false);
                        }
                        stats.problems += one.paths.len() as u64;
                    }
                }
                self.moved(one);
            }
        }
        let written = stats.files_read;
        stats.bytes_new = writer.bytes_new;
        for (sha256, draft) in drafts {
            let kept = writer.keep(draft)?;
            self.kept.insert(sha256, kept);
        }
        let is_fresh: HashSet<[u8; 32]> = fresh.iter().map(|one| one.record.sha256).collect();
        wanted
            .iter()
            .filter(|one| !is_fresh.contains(&one.record.sha256))
            .for_each(|one| self.moved(one));
        if written == 0 && !wanted.iter().any(|one| self.kept.contains_key(&one.record.sha256)) {
            return Ok(None);
        }
        let roots = Roots::of(listed, &self.source.place(), self.options.agent.as_deref());
        let (entries, records) = self.entries(&roots, manifest);
        stats.entries_changed = entries.len() as u64;
        let tree = writer.tree(&entries)?;
        (stats.entries, stats.bytes) = (tree.entries, tree.bytes);
        stats.bytes_stored = writer.finish()?;
        self.progress.bytes_stored += stats.bytes_stored;
        self.monitor.progress(&self.progress);
        let nanos = nanos(manifest.time);
        Ok(Some(Snapshot {
            id: op.id(),
            machine: machine(&self.source.place(), &listed.prefix),
            host: self.options.host.clone().unwrap_or_else(|| session.machine.host.clone()),
            user: session.machine.user.clone(),
            started_nanos: nanos,
            finished_nanos: nanos,
            counter: self.counter,
            previous: None,
            previous_hash: None,
            roots: records,
            tree: tree.id,
            stats,
            program: NAME.to_owned(),
            tags: self.options.tags.clone(),
            os: "unknown".to_owned(),
            home: None,
            reason: listed.safety.then(|| SAFETY.to_owned()),
            groups: Vec::new(),
            damaged: Vec::new(),
            origin: None,
            instead_of: None,
            gone_roots: Vec::new(),
            imported: Some(ImportRecord {
                from: NAME.to_owned(),
                name: listed.name.clone(),
                manifest: manifest.sha256,
            }),
        }))
    }

    /// Fetches small files, several at a time. An error is one that stops everything.
    fn fetch(&self, listed: &Listed, some: &[&Wanted<'_>]) -> Result<Vec<Outcome<Fetched>>> {
        let one = |wanted: &Wanted<'_>| {
            let taken = self.first(listed, wanted, |stream| {
                if stream.size_max() > SMALL_BYTES_MAX {
                    return Err(Fetch::Large);
                }
                let mut bytes = Vec::new();
                // why it failed is asked of the stream
                let _ = stream.read_to_end(&mut bytes);
                Ok(bytes)
            });
            match taken {
                Ok(outcome) => Ok(outcome.map(|(bytes, notice)| (Fetched::Whole(bytes), notice))),
                Err(Fetch::Large) => Ok(Ok((Fetched::Large, None))),
                Err(Fetch::Failed(error)) => Err(Error::from(error)),
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|wanted| scope.spawn(|| one(wanted))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// The content of the first path that has it, in this snapshot or another.
    fn first<T, E: From<::import::Error> + OfOne>(
        &self,
        listed: &Listed,
        wanted: &Wanted<'_>,
        mut take: impl FnMut(&mut ::import::Stream<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<Outcome<T>, E> {
        let mut failures = Vec::new();
        for path in &wanted.paths {
            match self.source.read(listed, path, &wanted.record, &mut take) {
                Ok(Taken { value, instead }) => return Ok(Ok((value, instead))),
                Err(error) => failures.push(error.of_one()?),
            }
        }
        Ok(Err(failures))
    }

    fn tell(&self, why: &::import::Error, notice: bool) {
        let (object, what) = match why {
            ::import::Error::Damaged { object, what } if notice => {
                (object.as_str(), format!("{what}; another snapshot has the content"))
            }
            ::import::Error::Damaged { object, what } => {
                (object.as_str(), format!("left out: {what}"))
            }
            other => ("", other.to_string()),
        };
        self.monitor.problem(&Problem { path: object.as_bytes().to_vec(), what, notice });
    }

    fn moved(&mut self, one: &Wanted<'_>) {
        let count = one.paths.len() as u64;
        self.progress.files_done += count;
        self.progress.bytes_done += one.record.size.saturating_mul(count);
        self.monitor.progress(&self.progress);
    }

    /// Entries in the order of a tree: files that could be had, and the directories above them.
    fn entries(
        &self,
        roots: &Roots,
        manifest: &Manifest,
    ) -> (Vec<(Vec<u8>, Entry)>, Vec<repo::RootRecord>) {
        let paths: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
        let plain = plain_entry(manifest.time);
        let mut entries: HashMap<Vec<u8>, Entry> = HashMap::new();
        let records = roots.records(&paths);
        for (path, record) in &manifest.files {
            let Some(kept) = self.kept.get(&record.sha256) else { continue };
            let full = roots.path(path).into_bytes();
            let label =
                records.iter().find(|root| strip_path(&full, root.label.as_bytes()).is_some());
            let top = label.map_or(0, |root| root.label.len());
            for at in (top..full.len()).filter(|at| full[*at] == b'/') {
                entries.entry(full[..at].to_vec()).or_insert_with(|| Entry {
                    mode: 0o700,
                    kind: Kind::Dir,
                    ..plain.clone()
                });
            }
            let has = |end: &str| manifest.files.contains_key(&format!("{path}{end}"));
            let flags = match kept.is_database {
                false => 0,
                // raw beside its log: only together do the two mean anything
                true if has("-wal") || has("-journal") => flag::SQLITE_RAW,
                true => flag::SQLITE,
            };
            let entry = Entry {
                mode: 0o600,
                flags,
                size: kept.size,
                hash: kept.hash,
                map: kept.map.clone(),
                ..plain.clone()
            };
            entries.insert(full, entry);
        }
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by(|a, b| repo::path_order(&a.0, &b.0));
        (entries, records)
    }
}

/// Tells what concerns one object from what stops everything.
trait OfOne: Sized {
    fn of_one(self) -> std::result::Result<::import::Error, Self>;
}

impl OfOne for Error {
    fn of_one(self) -> std::result::Result<::import::Error, Self> {
        match self {
            Self::Import(error) if error.is_of_one() => Ok(error),
            other => Err(other),
        }
    }
}

impl OfOne for Fetch {
    fn of_one(self) -> std::result::Result<::import::Error, Self> {
        match self {
            Self::Failed(error) if error.is_of_one() => Ok(error),
            other => Err(other),
        }
    }
}

/// The files of a manifest by content, in the order of their paths.
fn wanted(manifest: &Manifest) -> Vec<Wanted<'_>> {
    let (mut all, mut met) = (Vec::<Wanted<'_>>::new(), HashMap::new());
    for (path, record) in &manifest.files {
        let at = *met.entry(record.sha256).or_insert_with(|| {
            all.push(Wanted { record: *record, paths: Vec::new() });
            all.len() - 1
        });
        all[at].paths.push(path);
    }
    all
}

/// The old engine knows no modes, owners or times: what it restores is a private file of this user, as old as
/// the snapshot.
fn plain_entry(time: Timestamp) -> Entry {
    let nanos = nanos(time);
    let mut owners = crate::scan::Owners::new();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Entry {
        mtime_secs: nanos.div_euclid(1_000_000_000),
        mtime_nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default(),
        uid,
        gid,
        user: owners.user(uid),
        group: owners.group(gid),
        ..Entry::new(Kind::File)
    }
}

fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Which machine pushed is not known: each prefix of a place stands for one, always the same.
fn machine(place: &str, prefix: &str) -> MachineId {
    let whole = format!("{NAME} {}", format!("{place}/{prefix}").trim_end_matches('/'));
    let hash = blake3::hash(whole.as_bytes());
    MachineId::from_slice(&hash.as_bytes()[..MachineId::LEN]).expect("a hash is longer")
}
