//! One agent in one repository on this machine: the verbs in a few words, for a program that backs up one
//! agent, or for an agent that backs up itself.
//!
//! In: an open [`Session`], the agent's [`Adapter`], the [`Env`] around the program. Out: what each verb
//! returns. Every verb here is a few calls of the modules beside it (`push`, `pull`, `forget`, `gc`, `view`),
//! which have all the options; nothing happens here that they do not do.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use engine::{Backup, Dirs, Machine, Session, Silent, SystemClock};
//!
//! let text = r#"
//!     version = 1
//!     id = "quill"
//!     name = "Quill"
//!     [[roots]]
//!     label = "home"
//!     all = "~/.quill"
//! "#;
//! let adapter = adapters::Adapter::parse(text, "quill.toml")?;
//! let env = adapters::Env { home: "/home/me".into(), vars: [].into(), os: adapters::Os::Linux };
//! let store = store::Address::parse("/mnt/disk/quill")?.open(store::Options::default())?;
//! let dirs = Dirs { state: "/home/me/.local/state/quill-backup".into(), cache: "/tmp/cache".into() };
//! let machine = Machine {
//!     host: "laptop".into(), user: "me".into(), home: "/home/me".into(), os: "linux".into(),
//! };
//! let session = Session::open(store, |_| Ok(None), &dirs, machine, Arc::new(SystemClock))?;
//! let backup = Backup::new(session, adapter, env);
//! backup.push(&Silent)?;
//! for snapshot in backup.snapshots()? {
//!     println!("{} {}", snapshot.id, snapshot.host);
//! }
//! # Ok(())
//! # }
//! ```

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Adapter, Env, Rules};
use jiff::tz::TimeZone;
use repo::gc::GcReport;
use repo::{Kind, RootRecord, Snapshot};

use crate::error::{Error, Result};
use crate::forget::{self, Policy, Request, Scope};
use crate::monitor::{Monitor, Problem};
use crate::pull::safety::{self, LiveRoot, Saved};
use crate::pull::{self, Options, Part, Placement, Plan, Report, SnapshotContent};
use crate::push::{self, PushOptions, PushRoot, Pushed};
use crate::scan::{Filter, ScanRoot, scan};
use crate::session::Session;
use crate::view::{self, DiffTotals, Difference};
use crate::{gc, running};

/// One agent in one repository on this machine.
#[derive(Debug)]
pub struct Backup {
    session: Session,
    adapter: Adapter,
    env: Env,
    stop: Arc<AtomicBool>,
    /// How pushes run; those of [`Backup::push`] and the safety snapshots of [`Backup::pull`].
    pub options: PushOptions,
}

/// A file that a push would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatheredFile {
    /// Its path as stored, label first.
    pub path: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
}

/// What a push would take now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Its files, in the order of the tree.
    pub files: Vec<GatheredFile>,
    /// What could not be looked at, and what is left out for its size.
    pub problems: Vec<Problem>,
}

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// The snapshot that was restored.
    pub snapshot: Snapshot,
    /// The snapshot that has what was there before, if anything was replaced.
    pub before: Option<Snapshot>,
    /// What was restored and what was not.
    pub report: Report,
}

/// What a prune did.
#[derive(Debug)]
pub struct Pruned {
    /// Snapshots that were forgotten, and those that are pinned.
    pub forgotten: forget::Report,
    /// What the collection freed, and what goes later.
    pub collected: GcReport,
}

impl Backup {
    /// An agent in an open repository.
    pub fn new(session: Session, adapter: Adapter, env: Env) -> Self {
        Self { session, adapter, env, stop: Arc::default(), options: PushOptions::default() }
    }

    /// The repository on this machine.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A flag that ends whatever runs, cleanly and soon: raise it from a signal handler.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The agent's directories that are on this machine, with what is taken of each.
    pub fn roots(&self) -> Vec<PushRoot> {
        let survey = self.adapter.survey(&self.env);
        let root = |root: adapters::Root| PushRoot {
            scan: ScanRoot { label: root.label, dir: root.dir, files: None, filter: root.rules },
            agent: Some(self.adapter.id().to_owned()),
        };
        survey.roots.into_iter().map(root).collect()
    }

    /// What a push would take now. Reads names and metadata only.
    pub fn gather(&self) -> Result<Gathered> {
        let scans: Vec<ScanRoot> = self.roots().into_iter().map(|root| root.scan).collect();
        let mut gathered = Gathered::default();
        let mut problems = Vec::new();
        let mut file = |found: crate::scan::Found| {
            if found.kind == Kind::File {
                let size = found.stat.size;
                gathered.files.push(GatheredFile { path: found.path, size });
            }
            ControlFlow::Continue(())
        };
        let mut problem = |problem: crate::scan::Problem| {
            let cause = problem.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
            let (what, notice) = (format!("{}{cause}", problem.what), problem.is_notice());
            problems.push(Problem { path: problem.path, what, notice });
        };
        scan(&scans, &self.options.scan, &self.stop, &mut file, &mut problem)?;
        gathered.problems = problems;
        Ok(gathered)
    }

    /// Backs up what is here. [`Error::NothingToBackUp`] if nothing of the agent is.
    pub fn push(&self, monitor: &dyn Monitor) -> Result<Pushed> {
        let roots = self.roots();
        if roots.is_empty() {
            return Err(Error::NothingToBackUp);
        }
        push::push(&self.session, &roots, &self.options, monitor, &self.stop)
    }

    /// Snapshots that hold this agent, oldest first; safety snapshots too.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut all = self.session.snapshots()?;
        all.retain(|snapshot| snapshot.agents().contains(&self.adapter.id()));
        Ok(all)
    }

    /// The snapshot that a text means: `latest`, `latest~2`, an id or the beginning of one.
    pub fn select(&self, spec: &str) -> Result<Snapshot> {
        self.session.select(spec, Some(self.adapter.id()), None)
    }

    /// Restores a snapshot (see [`Backup::select`]) to where the agent keeps its files here. What is there
    /// is saved in a safety snapshot before anything is replaced. Refused while the agent runs.
    pub fn pull(&self, spec: &str, monitor: &dyn Monitor) -> pull::Result<Pulled> {
        let snapshot = self.select(spec).map_err(of_engine)?;
        let place = |root: &RootRecord| {
            let recorded = Path::new(OsStr::from_bytes(&root.dir));
            let dir = self.adapter.locate_as(&root.label, recorded, &self.env);
            let dir = dir.ok_or_else(|| {
                let label = root.label.escape_default();
                pull::Error::Refused(format!(
                    "'{label}' has no place on this machine that is known"
                ))
            })?;
            Ok((root.label.clone().into_bytes(), dir))
        };
        let places = self.own(&snapshot).iter().map(place).collect::<pull::Result<Vec<_>>>()?;
        self.pull_by(snapshot, Placement::Each(places), monitor)
    }

    /// Restores a snapshot below a directory, each root at its label.
    pub fn pull_to(&self, spec: &str, dir: &Path, monitor: &dyn Monitor) -> pull::Result<Pulled> {
        let snapshot = self.select(spec).map_err(of_engine)?;
        self.pull_by(snapshot, Placement::Under(dir.to_owned()), monitor)
    }

    fn pull_by(
        &self,
        snapshot: Snapshot,
        to: Placement,
        monitor: &dyn Monitor,
    ) -> pull::Result<Pulled> {
        let own = self.own(&snapshot);
        let labels: Vec<Vec<u8>> = own.iter().map(|r| r.label.clone().into_bytes()).collect();
        let filter = |root: &RootRecord| {
            let filter: Arc<dyn Filter> = self.rules(&root.label);
            (root.label.clone().into_bytes(), filter)
        };
        let options = Options {
            labels: labels.clone(),
            filters: own.iter().map(filter).collect(),
            secrets_stay: self.options.redact_secrets.then(|| Arc::clone(&self.options.ignored)),
            shared: vec![self.env.home.clone()],
            ..Options::new(to)
        };
        let content = SnapshotContent::open(&self.session, &snapshot).map_err(of_engine)?;
        let content = Part::new(content, labels);
        let mut plan = Plan::make(&content, &options, &self.stop)?;
        if matches!(options.to, Placement::Each(_)) {
            self.refuse_if_running(&plan, &own)?;
        }
        let live: Vec<LiveRoot> =
            own.iter().filter_map(|root| self.live(root, &options.to)).collect();
        let overwrite = options.overwrite;
        let saved = safety::save(
            &self.session,
            &mut plan,
            &live,
            overwrite,
            &self.options,
            monitor,
            &self.stop,
        );
        let Saved { pushed, .. } = saved.map_err(of_engine)?;
        let before = pushed.map(|pushed| pushed.snapshot().clone());
        let report = pull::apply(&content, &plan, &options, &(), &self.stop)?;
        drop(content);
        Ok(Pulled { snapshot, before, report })
    }

    /// Keeps the newest `keep_last` snapshots of this agent on each machine, those that are pinned and the
    /// safety snapshots; forgets the others and collects what nothing needs any more.
    pub fn prune(&self, keep_last: usize) -> Result<Pruned> {
        let request = Request {
            policy: Policy { last: keep_last, ..Policy::default() },
            scope: Scope { agent: Some(self.adapter.id().to_owned()), ..Scope::default() },
            ..Request::default()
        };
        let plan = forget::plan(&self.session, &request, &TimeZone::UTC)?;
        let forgotten = forget::apply(&self.session, &plan, &self.stop)?;
        let options = gc::options(&self.session);
        let collected = gc::collect(&self.session, &options, false, &|_| {})?;
        Ok(Pruned { forgotten, collected })
    }

    /// Visits what differs between two snapshots (see [`Backup::select`]), in tree order.
    pub fn diff(
        &self,
        old: &str,
        new: &str,
        visit: &mut dyn FnMut(Difference<'_>),
    ) -> Result<DiffTotals> {
        view::diff(&self.session, &self.select(old)?, &self.select(new)?, visit)
    }

    /// The roots of a snapshot that are this agent's.
    fn own(&self, snapshot: &Snapshot) -> Vec<RootRecord> {
        let own = |root: &&RootRecord| root.agent.as_deref() == Some(self.adapter.id());
        snapshot.roots.iter().filter(own).cloned().collect()
    }

    fn rules(&self, label: &str) -> Arc<Rules> {
        self.adapter.rules(label).unwrap_or_else(|| Arc::new(Rules::everything()))
    }

    fn live(&self, root: &RootRecord, to: &Placement) -> Option<LiveRoot> {
        let dir: PathBuf = match to {
            Placement::Under(dir) => dir.join(&root.label),
            Placement::Each(places) => {
                places.iter().find(|(label, _)| label == root.label.as_bytes())?.1.clone()
            }
        };
        let here = self.adapter.survey(&self.env).roots;
        let own = here.iter().any(|here| here.label == root.label && here.dir == dir);
        let rules = here.into_iter().find(|here| here.label == root.label).map(|here| here.rules);
        Some(LiveRoot {
            label: root.label.clone(),
            agent: root.agent.clone(),
            rules: rules.unwrap_or_else(|| self.rules(&root.label)),
            whole: own,
            dir,
        })
    }

    fn refuse_if_running(&self, plan: &Plan, own: &[RootRecord]) -> pull::Result<()> {
        if !own.iter().any(|root| plan.changes(root.label.as_bytes())) {
            return Ok(());
        }
        let runs = running::find(self.adapter.running(), &self.env.home).unwrap_or_default();
        let Some(first) = runs.first() else { return Ok(()) };
        Err(pull::Error::Refused(format!(
            "{} runs: {first}; it would write over what is restored",
            self.adapter.id()
        )))
    }
}

/// An error of another verb that ends a pull.
fn of_engine(error: Error) -> pull::Error {
    match error {
        Error::Repo(error) => pull::Error::Repo(error),
        Error::Cancelled => pull::Error::Cancelled,
        other => pull::Error::Verb(Box::new(other)),
    }
}
