//! The jobs of the daemon, each with a connection of its own: keys and settings of the storage are read
//! anew each time, so a key that was replaced mends what an expired one broke.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use engine::daemon::restore::{self, Chosen};
use engine::daemon::{Claim, Done, Failed, Job, Outcome, Size, Task, Work};
use engine::forget::{self, GroupBy, Request, Scope};
use engine::push::Pushed;
use engine::scan::ScanRoot;
use engine::status::Remote;
use engine::verify::{self, Level};
use engine::{Session, gc};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repo::RootRecord;
use schedule::Pause;
use store::{Address, Usage};

use super::line;
use crate::commands::push;
use crate::commands::roots::{self, Named};
use crate::commands::snapshots::short_id;
use crate::connect::{self, Connection, Wanted};
use crate::exit::{self, Exit, Failure, Stop};
use crate::settings::{Daemon, Settings};
use crate::ui::progress::{Meter, Told};
use crate::ui::{Screen, count, sanitize, size, stderr_line};

/// Reads from a bucket under way at once.
const REMOTE_WORKERS: usize = 8;
/// Room that a rehearsal leaves on the disk, in hundredths of what it restores.
const SPARE_PERCENT: u64 = 20;

/// Does the jobs.
pub(super) struct Worker {
    settings: Settings,
    daemon: Daemon,
    claim: Claim,
    /// This machine opened the repository before, or now: what fails from then on may pass.
    known: AtomicBool,
    silent: bool,
}

impl Worker {
    pub(super) fn new(settings: Settings, daemon: Daemon, known: bool, silent: bool) -> Self {
        Self { settings, daemon, claim: Claim::default(), known: AtomicBool::new(known), silent }
    }

    /// A line on standard error.
    pub(super) fn say(&self, job: Option<Job>, text: &str) {
        if !self.silent {
            stderr_line(line(job, text));
        }
    }

    fn open(&self, cancel: &Arc<AtomicBool>) -> Result<Connection> {
        let limit_upload = self.daemon.limit_upload.or(self.settings.push.limit_upload);
        let cancel = Arc::clone(cancel);
        let wanted =
            Wanted { patient: true, limit_upload, cancel, unattended: true, ..Wanted::default() };
        let connection = connect::open(&self.settings, wanted, &Screen::silent())?;
        self.claim.take(&connection.session)?;
        self.known.store(true, Ordering::SeqCst);
        Ok(connection)
    }

    fn is_remote(&self) -> bool {
        !matches!(self.settings.which.address(), Address::Local(_))
    }

    /// What a push covers now. A directory of the settings that is not there, as on a disk that is not
    /// plugged in, holds up nothing else.
    fn chosen(&self) -> Result<(roots::Chosen, Vec<String>)> {
        let mut settings = self.settings.clone();
        let mut missing = Vec::new();
        settings.push.paths.retain(|label, dir| {
            let there = dir.exists();
            if !there {
                missing.push(format!("{label}: {} is not there", sanitize::path(dir)));
            }
            there
        });
        let named = Named { agents: &[], paths: &[], exclude: &[] };
        let chosen = roots::choose(named, &settings)?;
        let absent = chosen.absent.iter().map(|id| format!("{id}: nothing of this agent is here"));
        missing.extend(absent);
        Ok((chosen, missing))
    }

    fn job(&self, task: &Task<'_>, usage: &mut Usage) -> Result<Outcome> {
        // what needs no storage first
        let chosen = match task.job {
            Job::Push | Job::Restore => Some(self.chosen()?),
            _ => None,
        };
        if let (Job::Push, Some((chosen, _))) = (task.job, &chosen)
            && chosen.roots.is_empty()
        {
            return Ok(Outcome::Nothing("nothing to back up yet: no agent is here".to_owned()));
        }
        if task.job == Job::Restore
            && let Some((chosen, _)) = &chosen
            && self.local_repository().is_none_or(|begun| !begun)
            && !self.is_empty(chosen, task.cancel)?
        {
            return Ok(Outcome::Nothing("files are here: nothing to bring back".to_owned()));
        }
        let connection = self.open(task.cancel)?;
        let session = &connection.session;
        let done = match (task.job, chosen) {
            (Job::Push, Some((chosen, missing))) => self.push(session, &chosen, missing, task),
            (Job::Restore, _) => self.restore(session, task),
            (Job::Forget, _) => self.forget(session, task),
            (Job::Gc, _) => Self::collect(session),
            (Job::Verify, _) => self.verify(session, task),
            (Job::Rehearsal, _) => self.rehearse(session, task),
            (Job::Push, None) => unreachable!("chosen above"),
        };
        *usage = session.repo().store().usage();
        done
    }

    /// Whether a restore was begun here that did not end; none if the repository was never opened here.
    fn local_repository(&self) -> Option<bool> {
        let address = self.settings.which.address().to_string();
        restore::was_begun(&self.settings.state_dir, &address)
    }

    fn is_empty(&self, chosen: &roots::Chosen, cancel: &AtomicBool) -> Result<bool> {
        let roots: Vec<ScanRoot> = chosen.roots.iter().map(|root| root.scan.clone()).collect();
        Ok(restore::is_empty(&roots, &push::scanning(&self.settings).scan, cancel)?)
    }

    fn push(
        &self,
        session: &Session,
        chosen: &roots::Chosen,
        missing: Vec<String>,
        task: &Task<'_>,
    ) -> Result<Outcome> {
        let mut options = push::options(&self.settings)?;
        options.gone.missing.clone_from(&chosen.missing);
        let meter = Meter::new(&Screen::silent());
        let pushed = engine::push::push(session, &chosen.roots, &options, &meter, task.cancel);
        let suspects = meter.suspects();
        let replaced: u64 = suspects.replaced.values().sum();
        let suspects: u64 = suspects.found.values().sum();
        let told = meter.finish();
        let pushed = pushed.context("the push failed")?;
        let id = pushed.snapshot().id;
        let made = matches!(pushed, Pushed::Made(_));
        let mut did = if made {
            let stored = size::show(pushed.stats().bytes_stored);
            format!("snapshot {}, {stored} stored", short_id(&id))
        } else {
            format!("nothing changed since snapshot {}", short_id(&id))
        };
        if replaced > 0 {
            did = format!("{did}; marks in the place of {}", count(replaced, "secret", "secrets"));
        }
        if suspects > 0 {
            let what = count(suspects, "secret", "secrets");
            did = format!("{did}; what looks like {what} is in what is new (agent-backup scan)");
        }
        // a push that found nothing changed looked already
        let seen =
            !made || self.daemon.heartbeat.is_none() || engine::push::is_current(session, &id)?;
        let problems = problems(&told).chain(missing);
        let named: Vec<String> = problems.collect();
        let problems = pushed.stats().problems.max(named.len() as u64);
        if problems > 0 {
            did = format!("{did}; {} had problems", count(problems, "item", "items"));
        }
        let size = if task.measure { Some(measure(session)?) } else { None };
        Ok(Outcome::Done(Done { did, snapshot: Some(id.hex()), seen, problems, named, size }))
    }

    fn restore(&self, session: &Session, task: &Task<'_>) -> Result<Outcome> {
        if !restore::is_unfinished(session) && !restore::is_first_run(session)? {
            let what = "no file of an agent is here, though this machine pushed before: agent-backup pull \
                        brings them back, if that is not meant to be";
            return Ok(Outcome::Nothing(what.to_owned()));
        }
        let known = self.settings.adapters()?;
        let locate = |root: &RootRecord| {
            let Some(agent) = root.agent.as_deref() else {
                return self.settings.push.paths.get(&root.label).cloned().map(Ok);
            };
            let wanted = &self.settings.push.agents;
            if !wanted.is_empty() && !wanted.iter().any(|one| one == agent) {
                return None;
            }
            let adapter = known.iter().find(|adapter| adapter.id() == agent);
            let recorded = Path::new(OsStr::from_bytes(&root.dir));
            let env = &self.settings.adapters_env;
            let place: Option<PathBuf> =
                adapter.and_then(|adapter| adapter.locate_as(&root.label, recorded, env));
            Some(place.ok_or_else(|| root.label.clone()))
        };
        let chosen = restore::choose(session, &locate)?;
        if chosen.iter().all(|one| one.places.is_empty()) {
            return Ok(Outcome::Nothing("nothing is here, and no snapshot has it".to_owned()));
        }
        restore::begin(session)?;
        let mut named: Vec<String> = Vec::new();
        let (mut files, mut bytes, mut problems) = (0, 0, 0);
        for one in &chosen {
            let workers = if self.is_remote() { REMOTE_WORKERS } else { 2 };
            let report = restore::bring_back(session, one, workers, &(), task.cancel);
            let report = report.map_err(|trouble| match trouble {
                restore::Trouble::Engine(error) => anyhow::Error::from(error),
                restore::Trouble::Pull(error) => error.into(),
            })?;
            files += report.created;
            bytes += report.bytes_written;
            problems += (report.problems.len() + report.blanks.len() + one.homeless.len()) as u64;
            named.extend(words(one, &report));
        }
        restore::end(session)?;
        let mut did = format!(
            "nothing was here: {} restored ({})",
            count(files, "entry", "entries"),
            size::show(bytes)
        );
        if problems > 0 {
            did = format!("{did}; {} had problems", count(problems, "item", "items"));
        }
        Ok(Outcome::Done(Done { problems, named, ..Done::new(did) }))
    }

    fn forget(&self, session: &Session, task: &Task<'_>) -> Result<Outcome> {
        let host = Some(self.settings.machine.host.clone());
        let request = Request {
            policy: self.daemon.keep.clone(),
            group_by: GroupBy::default(),
            scope: Scope { host, ..Scope::default() },
            remove_all: false,
        };
        let plan = forget::plan(session, &request, &self.daemon.zone)?;
        let kept = plan.keep_count();
        let report = forget::apply(session, &plan, task.cancel)?;
        let gone = count(report.forgotten.len() as u64, "snapshot was", "snapshots were");
        Ok(Outcome::Done(Done::new(format!("{gone} forgotten, {kept} stay"))))
    }

    fn collect(session: &Session) -> Result<Outcome> {
        let report = gc::collect(session, &gc::options(session), false, &|_| ())?;
        let later: u64 = report.pending.iter().map(|list| list.bytes).sum();
        let later =
            if later > 0 { format!(", {} go later", size::show(later)) } else { String::new() };
        Ok(Outcome::Done(Done::new(format!("{} freed{later}", size::show(report.swept_bytes)))))
    }

    fn verify(&self, session: &Session, task: &Task<'_>) -> Result<Outcome> {
        let mut options = verify::Options::new(Level::Sample);
        options.bytes_max = self.daemon.verify_bytes_max;
        options.time_max = self.daemon.verify_time_max;
        if self.is_remote() {
            options.threads = options.threads.max(REMOTE_WORKERS);
        }
        let report = verify::verify(session, &options, &|_, _| (), task.cancel)?;
        if report.is_damaged() {
            let objects =
                report.findings.iter().filter(|finding| finding.is_damage()).count() as u64;
            let objects = count(objects, "place is", "places are");
            let paths = count(report.touched.len() as u64, "path", "paths");
            let what = format!("{objects} damaged; {paths} cannot be restored");
            let hint =
                "agent-backup verify names them, agent-backup repair --help says what can be done";
            return Err(Stop::new(Exit::Damage, what, hint).into());
        }
        let read = size::show(report.bytes_read);
        Ok(Outcome::Done(Done::new(format!("no damage found; {read} read"))))
    }

    fn rehearse(&self, session: &Session, task: &Task<'_>) -> Result<Outcome> {
        let top = self.daemon.rehearsal_dir.clone();
        let top = top.unwrap_or_else(|| self.settings.cache_dir.join("rehearsal"));
        make_private(&top)?;
        // what a run left that was killed
        for old in std::fs::read_dir(&top)
            .context("cannot look into the directory of rehearsals")?
            .flatten()
        {
            if old.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes()) {
                std::fs::remove_dir_all(old.path()).context("cannot remove an old rehearsal")?;
            }
        }
        let needed = restore::largest_bytes(session)?;
        let needed = needed.saturating_add(needed / 100 * SPARE_PERCENT);
        let room = rustix::fs::statvfs(&top).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
        let room =
            room.map_err(std::io::Error::from).context("cannot look at the disk of rehearsals")?;
        if room < needed {
            let (needed, room) = (size::show(needed), size::show(room));
            let what = format!(
                "a rehearsal needs {needed} in {} and {room} are free",
                sanitize::path(&top)
            );
            return Err(Stop::new(
                Exit::LocalDisk,
                what,
                "name another place: rehearsal_dir of [daemon]",
            )
            .into());
        }
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&top);
        let scratch = scratch.context("cannot make a scratch directory")?;
        let done = verify::rehearse(session, scratch.path(), &(), task.cancel)?;
        if done.is_empty() {
            return Ok(Outcome::Nothing("there is no snapshot to restore yet".to_owned()));
        }
        let files: u64 = done.iter().map(|one| one.files).sum();
        let problems: Vec<String> = done
            .iter()
            .flat_map(|one| &one.problems)
            .map(|p| format!("{}: {}", sanitize::bytes(&p.path), p.reason))
            .collect();
        if let Some(first) = problems.first() {
            let what = count(problems.len() as u64, "item", "items");
            let what =
                format!("{what} of {files} files could not be restored or are not sound: {first}");
            return Err(Stop::new(
                Exit::Damage,
                what,
                "agent-backup verify --level rehearsal names them",
            )
            .into());
        }
        let bytes = size::show(done.iter().map(|one| one.bytes).sum());
        let files = count(files, "file", "files");
        Ok(Outcome::Done(Done::new(format!("{files} of {bytes} restored and read again"))))
    }

    /// What an error means for a daemon.
    fn failed(&self, task: &Task<'_>, error: &anyhow::Error) -> Outcome {
        let failure = exit::explain(error);
        let Some(Failure { exit, message, hint }) = failure else { return Outcome::Cancelled };
        if matches!(exit, Exit::Interrupted | Exit::Terminated) {
            return Outcome::Cancelled;
        }
        let twin = matches!(error.downcast_ref(), Some(engine::Error::DaemonRuns { .. }));
        let lasting = matches!(
            exit,
            Exit::Usage
                | Exit::NoRepository
                | Exit::WrongKey
                | Exit::StorageDenied
                | Exit::TooNew
                | Exit::Configuration
        );
        // at the very first start somebody looks on: what is wrong then is told at once
        let fatal = twin || (lasting && !self.known.load(Ordering::SeqCst));
        let (code, name) = (exit.code(), exit.name().to_owned());
        Outcome::Failed(Failed { code, name, message, hint, pause: pause(exit, task.job), fatal })
    }
}

/// How the names of directories for rehearsals begin.
const SCRATCH: &str = "agent-backup-rehearsal-";

/// When to try again.
fn pause(exit: Exit, job: Job) -> Option<Pause> {
    Some(match exit {
        Exit::StorageUnreachable => Pause::secs(30, 1_800),
        // it may be raised any time, and ends at midnight GMT
        Exit::StorageCap => Pause { until: midnight(), ..Pause::secs(300, 3_600) },
        Exit::StorageDenied | Exit::NoRepository | Exit::LocalDisk | Exit::Failed => {
            Pause::secs(60, 3_600)
        }
        Exit::Busy => Pause::secs(15, 300),
        // what was found stays found until somebody does something
        Exit::Damage | Exit::Refused if job != Job::Push => return None,
        _ => Pause::secs(600, 6 * 3_600),
    })
}

/// A little after the next 00:00 GMT.
fn midnight() -> Option<Timestamp> {
    let tomorrow = Timestamp::now().to_zoned(TimeZone::UTC).date().tomorrow().ok()?;
    Some(tomorrow.at(0, 5, 0, 0).to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn measure(session: &Session) -> Result<Size> {
    let store = session.repo().store();
    Ok(Remote::look(store, None, Timestamp::now())?.size)
}

fn problems(told: &[Told]) -> impl Iterator<Item = String> {
    told.iter()
        .filter(|one| !one.notice)
        .map(|one| format!("{}: {}", sanitize::bytes(&one.path), one.what))
}

/// What of a restore somebody has to look at.
fn words(one: &Chosen, report: &engine::pull::Report) -> Vec<String> {
    let homeless =
        one.homeless.iter().map(|label| format!("{label}: has no place on this machine"));
    let problems =
        report.problems.iter().map(|p| format!("{}: {}", sanitize::bytes(&p.path), p.reason));
    let blanks = report.blanks.iter().map(|blank| {
        format!("{}: to be filled in: {}", sanitize::bytes(&blank.path), blank.fields.join(", "))
    });
    homeless.chain(problems).chain(blanks).map(|text| sanitize::text(&text)).collect()
}

fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context("cannot make the directory of rehearsals")
}

impl Work for Worker {
    fn run(&self, task: &Task<'_>) -> (Outcome, Usage) {
        let mut usage = Usage::default();
        let done = self.job(task, &mut usage);
        (done.unwrap_or_else(|error| self.failed(task, &error)), usage)
    }

    fn roots(&self) -> Vec<ScanRoot> {
        let chosen = self.chosen().map(|(chosen, _)| chosen.roots).unwrap_or_default();
        chosen.into_iter().map(|root| root.scan).collect()
    }

    fn tell(&self, job: Option<Job>, text: &str) {
        self.say(job, text);
    }
}
