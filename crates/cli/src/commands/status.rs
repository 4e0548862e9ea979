//! `status`: when each agent was backed up last, what comes next, what is wrong, how much there is and
//! what it costs. Files of this machine, and one listing of the storage.

use std::sync::Arc;

use anyhow::Result;
use engine::daemon::{Failing, Job, JobRecord, PutOff};
use engine::status::{Cost, Local, Prices, Remote, Trouble, growth, judge};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use store::Address;

use crate::args::Status;
use crate::commands::Context;
use crate::commands::daemon::limits;
use crate::connect::{self, Wanted};
use crate::exit::{self, Exit, Failure};
use crate::settings::Settings;
use crate::ui::table::{Align, Table};
use crate::ui::{count, sanitize, size, time};

/// Days over which growth is shown.
const GROWTH_DAYS: i64 = 7;
/// Digits of an id that are shown.
const ID_DIGITS: usize = 12;

#[derive(Serialize)]
struct Document {
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    daemon: DaemonRecord,
    agents: Vec<AgentRecord>,
    jobs: Vec<JobDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<StorageRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_error: Option<ErrorRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<CostRecord>,
    troubles: Vec<TroubleRecord>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct DaemonRecord {
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
}

#[derive(Serialize)]
struct AgentRecord {
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    pushed: Timestamp,
    age_secs: i64,
    snapshot: String,
    /// The newest push was without it.
    left_behind: bool,
}

#[derive(Serialize)]
struct JobDocument {
    job: &'static str,
    schedule: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    did: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_since: Option<Timestamp>,
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<Failing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    put_off: Option<PutOff>,
}

#[derive(Serialize)]
struct StorageRecord {
    measured: Timestamp,
    bytes: u64,
    objects: u64,
    snapshots: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_days: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<Vec<OperationRecord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collections: Option<u64>,
}

#[derive(Serialize)]
struct OperationRecord {
    operation: String,
    last_sign: Option<String>,
}

#[derive(Serialize)]
struct ErrorRecord {
    code: u8,
    name: &'static str,
    message: String,
}

#[derive(Serialize)]
struct CostRecord {
    storage: f64,
    class_b: f64,
    class_c: f64,
    download: f64,
    total: f64,
    days: usize,
}

#[derive(Serialize)]
struct TroubleRecord {
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    text: String,
}

pub(crate) fn run(args: &Status, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, .. } = context;
    let daemon = context.daemon()?;
    let address = settings.which.address();
    screen.set_place(&address.to_string());
    let now = Timestamp::now();
    let local = Local::read(&settings.state_dir, &address.to_string());
    let newest = local.journal.push.as_ref().map(|push| push.snapshot.as_str());
    let (remote, failure) = match look(args, newest, now, context) {
        Ok(remote) => (remote, None),
        Err(error) => (None, exit::explain(&error)),
    };
    let mut limits = limits(&daemon, &local);
    limits.age_max = args.max_age.and_then(|age| SignedDuration::try_from(age).ok());
    let troubles = judge(&local, remote.as_ref(), &limits, now);
    let document = Document {
        repository: sanitize::text(&address.to_string()),
        id: local.repository.map(|id| id.hex()),
        daemon: DaemonRecord {
            running: local.daemon.is_some(),
            process: local.daemon.flatten(),
            started: local.record.as_ref().map(|record| record.started),
            ended: local.record.as_ref().and_then(|record| record.ended),
        },
        agents: agents(&local, now),
        jobs: jobs(&local),
        storage: storage(&local, remote.as_ref()),
        storage_error: failure.as_ref().map(|failure| ErrorRecord {
            code: failure.exit.code(),
            name: failure.exit.name(),
            message: failure.message.clone(),
        }),
        cost: cost(&local, remote.as_ref(), daemon.prices, settings),
        troubles: troubles.iter().map(|one| trouble(one, now)).collect(),
        notes: local.record.as_ref().map(|record| record.notes.clone()).unwrap_or_default(),
    };
    let exit = code(&troubles, failure.as_ref());
    if screen.json() {
        screen.document(&document)?;
    } else {
        show(&document, &local, now, context)?;
    }
    Ok(exit)
}

/// Damage counts most, then what is overdue, then a storage that cannot be asked.
fn code(troubles: &[Trouble], failure: Option<&Failure>) -> Exit {
    let damage = |one: &Trouble| matches!(one, Trouble::Damage { .. } | Trouble::Vanished);
    match failure {
        _ if troubles.iter().any(damage) => Exit::Damage,
        _ if !troubles.is_empty() => Exit::Skipped,
        Some(failure) => failure.exit,
        None => Exit::Done,
    }
}

/// Lists the storage once, without opening the repository; nothing if that was not wanted, or there is none.
fn look(
    args: &Status,
    newest: Option<&str>,
    now: Timestamp,
    context: &Context<'_>,
) -> Result<Option<Remote>> {
    if args.offline {
        return Ok(None);
    }
    let wanted = Wanted { cancel: Arc::clone(&context.signals.flag()), ..Wanted::default() };
    let store = connect::store(&context.settings, wanted, context.screen)?;
    Ok(Some(Remote::look(store.as_ref(), newest, now)?))
}

fn agents(local: &Local, now: Timestamp) -> Vec<AgentRecord> {
    let Some(push) = &local.journal.push else { return Vec::new() };
    let agents = push.agents.iter().map(|(agent, done)| (Some(agent.clone()), None, done));
    let paths = push.paths.iter().map(|(label, done)| (None, Some(label.clone()), done));
    let record =
        |(agent, label, done): (Option<String>, Option<String>, &engine::journal::Acknowledged)| {
            AgentRecord {
                agent,
                label,
                pushed: done.at,
                age_secs: now.duration_since(done.at).as_secs(),
                snapshot: done.snapshot.clone(),
                left_behind: done.at < push.at,
            }
        };
    agents.chain(paths).map(record).collect()
}

fn jobs(local: &Local) -> Vec<JobDocument> {
    let nothing = JobRecord::default();
    let mut jobs = Vec::new();
    for job in Job::ALL {
        let told = local.record.as_ref().and_then(|record| record.jobs.get(&job));
        let done = local.done(job).or(told.and_then(|told| told.done));
        if told.is_none() && done.is_none() {
            continue;
        }
        let told = told.unwrap_or(&nothing);
        let running = local.daemon.is_some();
        // what the daemon said of its last run is old where somebody ran the job by hand since
        let newer =
            told.done.is_none() || done > told.done.map(|at| at + SignedDuration::from_secs(5));
        let did = if newer { by_hand(local, job) } else { Some(told.did.clone()) };
        jobs.push(JobDocument {
            job: job.name(),
            schedule: told.schedule.clone(),
            done,
            did: did.or_else(|| Some(told.did.clone())).filter(|did| !did.is_empty()),
            next: told.next.filter(|_| running),
            running_since: told.running_since.filter(|_| running),
            problems: told.named.clone(),
            failing: told
                .failing
                .clone()
                .filter(|failing| done.is_none_or(|done| done < failing.last)),
            put_off: told.put_off.clone().filter(|_| running),
        });
    }
    jobs
}

/// What a job did that no daemon ran.
fn by_hand(local: &Local, job: Job) -> Option<String> {
    let journal = &local.journal;
    Some(match job {
        Job::Push => format!("snapshot {} is current", short(&journal.push.as_ref()?.snapshot)),
        Job::Forget => {
            let forgotten = journal.forget.as_ref()?.forgotten;
            format!("{} forgotten", count(forgotten, "snapshot was", "snapshots were"))
        }
        Job::Gc => format!("{} freed", size::show(journal.gc.as_ref()?.freed_bytes)),
        Job::Verify => {
            let verify = journal.verify.as_ref()?;
            let found = if verify.damaged > 0 { "damage found" } else { "no damage found" };
            format!(
                "{found} ({}); {} read",
                sanitize::text(&verify.level),
                size::show(verify.bytes_read)
            )
        }
        Job::Rehearsal => {
            let done = journal.rehearsal.as_ref()?;
            format!("{} of {} restored", count(done.files, "file", "files"), size::show(done.bytes))
        }
        Job::Restore => return None,
    })
}

fn storage(local: &Local, remote: Option<&Remote>) -> Option<StorageRecord> {
    let known = local.record.as_ref().map(|record| record.sizes.as_slice()).unwrap_or_default();
    let size = remote.map(|remote| remote.size).or_else(|| known.last().copied())?;
    let grown = growth(known, &size, GROWTH_DAYS).or_else(|| growth(known, &size, 1));
    let operation = |(id, at): &(repo::OpId, std::time::SystemTime)| OperationRecord {
        operation: id.hex(),
        last_sign: time::rfc3339_system(*at),
    };
    Some(StorageRecord {
        measured: size.at,
        bytes: size.bytes,
        objects: size.objects,
        snapshots: size.snapshots,
        growth_bytes: grown.map(|(bytes, _)| bytes),
        growth_days: grown.map(|(_, days)| days),
        operations: remote.map(|remote| remote.operations.iter().map(operation).collect()),
        collections: remote.map(|remote| remote.collections),
    })
}

/// What a month costs, where prices are known: at Backblaze, or by the configuration.
fn cost(
    local: &Local,
    remote: Option<&Remote>,
    prices: Option<Prices>,
    settings: &Settings,
) -> Option<CostRecord> {
    let at_b2 = match settings.which.address() {
        Address::B2 { .. } => true,
        Address::S3 { endpoint, .. } => endpoint.is_some_and(|e| e.ends_with(".backblazeb2.com")),
        Address::Local(_) => false,
    };
    let prices = prices.or(at_b2.then_some(Prices::B2))?;
    let record = local.record.as_ref();
    let measured = record.and_then(|record| record.size());
    let size = remote.map(|remote| remote.size).or(measured.copied())?;
    let days = record.map(|record| record.days.as_slice()).unwrap_or_default();
    let cost = Cost::of_a_month(&prices, size.bytes, days);
    let Cost { storage, class_b, class_c, download, days } = cost;
    Some(CostRecord { storage, class_b, class_c, download, total: cost.total(), days })
}

fn trouble(trouble: &Trouble, now: Timestamp) -> TroubleRecord {
    match trouble {
        Trouble::NeverPushed => TroubleRecord {
            what: "never-pushed",
            job: Some(Job::Push.name()),
            at: None,
            text: "no push was acknowledged yet".to_owned(),
        },
        Trouble::Overdue { job, by, .. } => TroubleRecord {
            what: "overdue",
            job: Some(job.name()),
            at: Some(*by),
            text: format!("{job} is overdue by {}", age(now.duration_since(*by))),
        },
        Trouble::Vanished => TroubleRecord {
            what: "vanished",
            job: None,
            at: None,
            text: "this machine's newest snapshot is gone from the storage, and nobody forgot it"
                .to_owned(),
        },
        Trouble::Incomplete { at, count: items } => TroubleRecord {
            what: "incomplete",
            job: Some(Job::Push.name()),
            at: Some(*at),
            text: format!(
                "the last push could not store {} as it should; agent-backup push names what",
                count(*items, "item", "items")
            ),
        },
        Trouble::HistoryGone(alarm) => TroubleRecord {
            what: "history-gone",
            job: None,
            at: Timestamp::from_second(alarm.at_secs).ok(),
            text: format!(
                "{} of {} files that hold the history of {} vanished at once; they are kept \
                 (agent-backup ls --gone), and the snapshots before are pinned until agent-backup pin \
                 --acknowledge",
                alarm.gone,
                alarm.of,
                sanitize::text(&alarm.agent)
            ),
        },
        Trouble::Damage { job, at, count: places } => TroubleRecord {
            what: "damage",
            job: Some(job.name()),
            at: Some(*at),
            text: format!("the last {job} found damage in {}", count(*places, "place", "places")),
        },
    }
}

fn show(document: &Document, local: &Local, now: Timestamp, context: &Context<'_>) -> Result<()> {
    let Context { screen, settings, .. } = context;
    let state = match (&local.record, local.daemon) {
        (_, Some(process)) => {
            let process = process.map(|id| format!(" (process {id})")).unwrap_or_default();
            format!("runs{process}")
        }
        (Some(record), None) => match record.ended {
            Some(at) => format!("ended {} ago", age(now.duration_since(at))),
            None => "does not run, and did not end by itself".to_owned(),
        },
        (None, None) => "never ran here".to_owned(),
    };
    screen.line(format_args!("repository  {}", document.repository))?;
    screen.line(format_args!("daemon      {state}"))?;
    show_storage(document, context)?;
    if !document.agents.is_empty() {
        screen.line("")?;
        let columns = [
            ("AGENT", Align::Left),
            ("LAST PUSH", Align::Left),
            ("AGE", Align::Right),
            ("SNAPSHOT", Align::Left),
            ("", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for one in &document.agents {
            let label = one.label.as_ref().map(|label| format!("({label})"));
            let name = one.agent.clone().or(label).unwrap_or_default();
            table.row(vec![
                sanitize::text(&name),
                time::show_secs(one.pushed.as_second()),
                age(SignedDuration::from_secs(one.age_secs)),
                sanitize::text(short(&one.snapshot)),
                if one.left_behind { "not in the newest push".to_owned() } else { String::new() },
            ]);
        }
        for line in table.lines() {
            screen.line(line)?;
        }
    }
    if !document.jobs.is_empty() {
        screen.line("")?;
        let columns =
            [("JOB", Align::Left), ("LAST", Align::Left), ("NEXT", Align::Left), ("", Align::Left)];
        let mut table = Table::new(&columns);
        for one in &document.jobs {
            let at = |at: Option<Timestamp>| {
                at.map_or("-".to_owned(), |at| time::show_secs(at.as_second()))
            };
            let next = match one.running_since {
                Some(since) => format!("runs for {}", age(now.duration_since(since))),
                None => at(one.next),
            };
            let did = sanitize::text(one.did.as_deref().unwrap_or_default());
            table.row(vec![one.job.to_owned(), at(one.done), next, did]);
        }
        for line in table.lines() {
            screen.line(line)?;
        }
        for one in &document.jobs {
            show_job(one, now, context)?;
        }
    }
    for note in &document.notes {
        screen.note(format_args!("note: {}", sanitize::text(note)));
    }
    for one in &document.troubles {
        screen.line(format_args!("trouble: {}", sanitize::text(&one.text)))?;
    }
    if let Some(error) = &document.storage_error {
        screen.line(format_args!(
            "the storage cannot be asked: {} (code {} {})",
            error.message, error.code, error.name
        ))?;
    }
    if local.journal.push.is_none() {
        let hint = if settings.config_found {
            "no push from this machine yet: agent-backup push"
        } else {
            "no push from this machine yet: agent-backup push, or agent-backup init first"
        };
        screen.note(hint);
    }
    Ok(())
}

fn show_storage(document: &Document, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    if let Some(storage) = &document.storage {
        let grown = match (storage.growth_bytes, storage.growth_days) {
            (Some(bytes), Some(days)) => {
                let sign = if bytes < 0 { "-" } else { "+" };
                let days = count(days.unsigned_abs(), "day", "days");
                format!(", {sign}{} in {days}", size::show(bytes.unsigned_abs()))
            }
            _ => String::new(),
        };
        // what a daemon measured, where the storage was not asked now
        let seen = match storage.operations {
            Some(_) => String::new(),
            None => format!("; as of {}", time::show_secs(storage.measured.as_second())),
        };
        screen.line(format_args!(
            "storage     {} in {}{grown}; {}{seen}",
            size::show(storage.bytes),
            count(storage.objects, "object", "objects"),
            count(storage.snapshots, "snapshot", "snapshots"),
        ))?;
        for one in storage.operations.iter().flatten() {
            let seen = one.last_sign.as_deref().unwrap_or("never");
            screen.detail(format_args!(
                "operation {} is under way; last sign {seen}",
                short(&one.operation)
            ));
        }
        if let Some(waiting) = storage.collections.filter(|waiting| *waiting > 0) {
            let lists = count(waiting, "collection waits", "collections wait");
            screen.line(format_args!(
                "            {lists} to free something: agent-backup gc -n says what and when"
            ))?;
        }
    }
    if let Some(cost) = &document.cost {
        let on = match cost.days {
            0 => "without requests, which only the daemon counts".to_owned(),
            days => format!("requests as on the last {}", count(days as u64, "day", "days")),
        };
        screen.line(format_args!(
            "cost        {:.2} a month: storage {:.2}, class B {:.2}, class C {:.2}, download {:.2} ({on})",
            cost.total, cost.storage, cost.class_b, cost.class_c, cost.download
        ))?;
    }
    Ok(())
}

fn show_job(one: &JobDocument, now: Timestamp, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    let job = one.job;
    if let Some(failing) = &one.failing {
        let times = count(failing.times.into(), "time", "times");
        screen.line(format_args!(
            "{job} fails since {} ({times} in a row): {} (code {} {})",
            time::show_secs(failing.since.as_second()),
            sanitize::text(&failing.message),
            failing.code,
            sanitize::text(&failing.name)
        ))?;
        if let Some(hint) = &failing.hint {
            screen.line(format_args!("  try: {}", sanitize::text(hint)))?;
        }
        if let Some(again) = failing.again.filter(|again| *again > now) {
            screen.line(format_args!("  tried again at {}", time::show_secs(again.as_second())))?;
        }
    }
    if let Some(put_off) = &one.put_off {
        let since = age(now.duration_since(put_off.since));
        screen
            .line(format_args!("{job} is put off for {since}: {}", sanitize::text(&put_off.why)))?;
    }
    for problem in &one.problems {
        screen.line(format_args!("{job} problem: {}", sanitize::text(problem)))?;
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..ID_DIGITS).unwrap_or(id)
}

/// A stretch of time in the unit that a person would choose.
fn age(time: SignedDuration) -> String {
    let secs = time.as_secs().max(0);
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}
