//! `verify`: is what snapshots need there, and right?

use anyhow::{Context as _, Result};
use engine::verify::{self, Finding, Harm, Level, Options, Rehearsed, Report, Touched};
use serde::Serialize;
use store::Address;

use crate::args::{self, Verify};
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::connect::{self, Wanted};
use crate::exit::Exit;
use crate::settings::{Settings, absolute};
use crate::ui::progress::Meter;
use crate::ui::{Screen, count, json, sanitize, size};

/// Reads from a bucket under way at once: each waits for the network most of the time.
const REMOTE_THREADS: usize = 8;
/// Lines of one kind on the screen; a document has all.
const LINES_MAX: usize = 30;

pub(crate) fn run(args: &Verify, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, signals, .. } = context;
    let wanted = Wanted { patient: true, cancel: signals.flag(), ..Wanted::default() };
    let connection = connect::open(settings, wanted, screen)?;
    let (name, level) = match args.level() {
        args::Level::Structure => ("structure", Level::Structure),
        args::Level::Metadata => ("metadata", Level::Metadata),
        args::Level::Sample => ("sample", Level::Sample),
        args::Level::All => ("all", Level::All),
        args::Level::Rehearsal => return rehearse(args, &connection, context),
    };
    let mut options = options(level, settings);
    (options.bytes_max, options.time_max) = (args.max_bytes, args.max_time);
    let meter = Meter::new(screen);
    let progress = |read, of| meter.bytes(read, of);
    let done = verify::verify(&connection.session, &options, &progress, signals.graceful());
    meter.finish();
    let report = done.context("the verification stopped")?;
    let exit = if report.is_damaged() { Exit::Damage } else { Exit::Done };
    if screen.json() {
        screen.document(&Document { level: name, report: ReportRecord::new(&report) })?;
        return Ok(exit);
    }
    tell(name, &report, screen)?;
    if exit == Exit::Damage {
        screen.note(
            "damage was found (code 4); try: agent-backup repair --from-source, or repair index",
        );
    }
    Ok(exit)
}

/// Options that fit where the repository is.
pub(super) fn options(level: Level, settings: &Settings) -> Options {
    let mut options = Options::new(level);
    if !matches!(settings.which.address(), Address::Local(_)) {
        options.threads = options.threads.max(REMOTE_THREADS);
    }
    options
}

#[derive(Serialize)]
struct Document {
    level: &'static str,
    #[serde(flatten)]
    report: ReportRecord,
}

/// What a look at a repository found.
#[derive(Serialize)]
pub(super) struct ReportRecord {
    damaged: bool,
    snapshots: usize,
    packs: usize,
    bytes: u64,
    packs_of_running: usize,
    packs_left_over: usize,
    bytes_left_over: u64,
    metadata_read: u64,
    packs_read: usize,
    blocks_read: u64,
    bytes_read: u64,
    stopped: bool,
    packs_never_read: usize,
    findings: Vec<FindingRecord>,
    touched: Vec<TouchedRecord>,
    quarantined: Vec<String>,
    waiting: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_remembered: Option<String>,
}

#[derive(Serialize)]
struct FindingRecord {
    object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<String>,
    what: String,
    harm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
pub(super) struct TouchedRecord {
    #[serde(flatten)]
    path: json::Path,
    and_more: bool,
    snapshots: Vec<String>,
    blocks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

impl ReportRecord {
    pub(super) fn new(report: &Report) -> Self {
        let packs = |packs: &[repo::PackId]| packs.iter().map(ToString::to_string).collect();
        Self {
            damaged: report.is_damaged(),
            snapshots: report.snapshots,
            packs: report.packs,
            bytes: report.bytes,
            packs_of_running: report.packs_of_running,
            packs_left_over: report.packs_left_over,
            bytes_left_over: report.bytes_left_over,
            metadata_read: report.metadata_read,
            packs_read: report.packs_read,
            blocks_read: report.blocks_read,
            bytes_read: report.bytes_read,
            stopped: report.stopped,
            packs_never_read: report.packs_never_read,
            findings: report.findings.iter().map(FindingRecord::new).collect(),
            touched: report.touched.iter().map(TouchedRecord::new).collect(),
            quarantined: packs(&report.quarantined),
            waiting: packs(&report.waiting),
            not_remembered: report.forgotten.clone(),
        }
    }
}

impl FindingRecord {
    fn new(finding: &Finding) -> Self {
        let (harm, note) = match &finding.harm {
            Harm::Harmless(why) => ("harmless", Some(why.clone())),
            Harm::Files => ("files", None),
            Harm::Snapshot => ("snapshot", None),
            Harm::Hinders(what) => ("hinders", Some(what.clone())),
        };
        Self {
            object: finding.object.clone(),
            block: finding.block.map(|block| block.hex()),
            what: finding.what.clone(),
            harm,
            note,
        }
    }
}

impl TouchedRecord {
    pub(super) fn new(touched: &Touched) -> Self {
        Self {
            path: json::Path::new(&touched.path),
            and_more: touched.and_more,
            snapshots: touched.snapshots.iter().map(repo::OpId::hex).collect(),
            blocks: touched.blocks.iter().map(repo::BlockId::hex).collect(),
            what: touched.what.clone(),
        }
    }
}

fn tell(name: &str, report: &Report, screen: &Screen) -> Result<()> {
    screen.line(format_args!(
        "{}, {} of {}",
        count(report.snapshots as u64, "snapshot", "snapshots"),
        count(report.packs as u64, "pack", "packs"),
        size::show(report.bytes)
    ))?;
    if report.metadata_read > 0 {
        screen.line(format_args!(
            "{} of metadata read",
            count(report.metadata_read, "block", "blocks")
        ))?;
    }
    if matches!(name, "sample" | "all") {
        screen.line(format_args!(
            "{} and {} read to the end, {}; {} never read yet",
            count(report.blocks_read, "block", "blocks"),
            count(report.packs_read as u64, "pack", "packs"),
            size::show(report.bytes_read),
            count(report.packs_never_read as u64, "pack", "packs")
        ))?;
    }
    if report.packs_left_over > 0 {
        screen.line(format_args!(
            "{} of {} left over by pushes that did not finish; gc removes them",
            count(report.packs_left_over as u64, "pack", "packs"),
            size::show(report.bytes_left_over)
        ))?;
    }
    let line = |finding: &Finding| {
        let block =
            finding.block.map(|b| format!(", block {}", &b.hex()[..16])).unwrap_or_default();
        let object = sanitize::text(&finding.object);
        let what = sanitize::text(&finding.what);
        match &finding.harm {
            Harm::Harmless(why) => format!("harmless: {object}{block}: {what}; {why}"),
            Harm::Hinders(why) => format!("damaged: {object}{block}: {what}; {why}"),
            Harm::Snapshot => format!("damaged: {object}: {what}; the snapshot cannot be read"),
            Harm::Files => format!("damaged: {object}{block}: {what}"),
        }
    };
    let (damaged, harmless): (Vec<&Finding>, Vec<&Finding>) =
        report.findings.iter().partition(|finding| finding.is_damage());
    bounded(screen, damaged.iter().map(|finding| line(finding)).collect())?;
    bounded(screen, harmless.iter().map(|finding| line(finding)).collect())?;
    tell_touched(&report.touched, screen)?;
    for pack in &report.quarantined {
        screen
            .line(format_args!("quarantined: {pack}: pushes store again what they meet of it"))?;
    }
    for pack in &report.waiting {
        screen.line(format_args!("{pack} will be quarantined if it is still so in an hour"))?;
    }
    if let Some(why) = &report.forgotten {
        screen.note(format_args!("what was read is not remembered: {}", sanitize::text(why)));
    }
    if !report.is_damaged() {
        screen.line("no damage found")?;
    }
    Ok(())
}

/// Names what cannot be restored.
pub(super) fn tell_touched(touched: &[Touched], screen: &Screen) -> Result<()> {
    if touched.is_empty() {
        return Ok(());
    }
    screen.line("cannot be restored:")?;
    let line = |one: &Touched| {
        let path = match one.path.as_slice() {
            [] => "the whole snapshot".to_owned(),
            path => sanitize::bytes(path),
        };
        let more = if one.and_more { " and what follows it" } else { "" };
        let ids: Vec<String> = one.snapshots.iter().take(5).map(short_id).collect();
        let others = one.snapshots.len().saturating_sub(5);
        let others = if others > 0 { format!(" and {others} more") } else { String::new() };
        format!("  {path}{more} (in {}{others})", ids.join(", "))
    };
    bounded(screen, touched.iter().map(line).collect())
}

/// Prints some lines, and how many there are besides.
fn bounded(screen: &Screen, lines: Vec<String>) -> Result<()> {
    let hidden = lines.len().saturating_sub(LINES_MAX);
    for line in lines.into_iter().take(LINES_MAX) {
        screen.line(line)?;
    }
    if hidden > 0 {
        screen.line(format_args!("  ... and {hidden} more; --json has all"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct RehearsalDocument {
    level: &'static str,
    damaged: bool,
    rehearsed: Vec<RehearsedRecord>,
}

#[derive(Serialize)]
struct RehearsedRecord {
    snapshot: String,
    agents: Vec<Option<String>>,
    files: u64,
    bytes: u64,
    databases: u64,
    lines: u64,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
}

/// Restores the newest snapshots to a scratch place.
fn rehearse(
    args: &Verify,
    connection: &connect::Connection,
    context: &Context<'_>,
) -> Result<Exit> {
    let Context { screen, signals, .. } = context;
    let mut scratch = tempfile::Builder::new();
    let scratch = scratch.prefix("agent-backup-rehearsal-");
    let scratch = match &args.scratch {
        Some(dir) => scratch.tempdir_in(absolute(dir)?),
        None => scratch.tempdir(),
    };
    let scratch = scratch.context("cannot make a scratch directory")?;
    let meter = Meter::new(screen);
    let cancel = signals.graceful();
    let done = verify::rehearse(&connection.session, scratch.path(), &meter, cancel);
    meter.finish();
    let done = done.context("the rehearsal stopped")?;
    let damaged = done.iter().any(|one| !one.problems.is_empty());
    let exit = if damaged { Exit::Damage } else { Exit::Done };
    if screen.json() {
        let rehearsed = done.iter().map(RehearsedRecord::new).collect();
        screen.document(&RehearsalDocument { level: "rehearsal", damaged, rehearsed })?;
        return Ok(exit);
    }
    for one in &done {
        let agents: Vec<String> = one
            .agents
            .iter()
            .map(|agent| agent.as_deref().map_or("(directories)".to_owned(), sanitize::text))
            .collect();
        screen.line(format_args!(
            "snapshot {} of {}: {} of {} restored and read again, {} checked, {} of JSON",
            short_id(&one.snapshot),
            agents.join(", "),
            count(one.files, "file", "files"),
            size::show(one.bytes),
            count(one.databases, "database", "databases"),
            count(one.lines, "line", "lines")
        ))?;
        for problem in &one.problems {
            let (path, why) = (sanitize::bytes(&problem.path), sanitize::text(&problem.reason));
            screen.line(format_args!("  damaged: {path}: {why}"))?;
        }
        for notice in &one.notices {
            let (path, why) = (sanitize::bytes(&notice.path), sanitize::text(&notice.reason));
            screen.detail(format_args!("note: {path}: {why}"));
        }
    }
    if damaged {
        screen
            .note("damage was found (code 4); agent-backup verify --read-data says where it lies");
    } else if done.is_empty() {
        screen.line("there is no snapshot to restore")?;
    }
    Ok(exit)
}

impl RehearsedRecord {
    fn new(one: &Rehearsed) -> Self {
        let problems = |problems: &[engine::pull::Problem]| {
            let one = |problem: &engine::pull::Problem| json::Problem {
                path: json::Path::new(&problem.path),
                what: problem.reason.clone(),
            };
            problems.iter().map(one).collect()
        };
        Self {
            snapshot: one.snapshot.hex(),
            agents: one.agents.clone(),
            files: one.files,
            bytes: one.bytes,
            databases: one.databases,
            lines: one.lines,
            problems: problems(&one.problems),
            notices: problems(&one.notices),
        }
    }
}
