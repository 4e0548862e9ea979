//! `push`: agents and directories become a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use engine::push::{PushOptions, PushRoot, Pushed, Suspects};
use engine::suspects::Ignored;
use engine::{gone, scan};
use repo::Kind;
use repo::keys::SecretInput;
use serde::Serialize;
use store::Address;

use crate::args::{Push, ScanSecrets};
use crate::commands::roots::{self, Named};
use crate::commands::snapshots::{SnapshotRecord, StatsRecord, contents, short_id};
use crate::commands::{Context, init};
use crate::connect::{self, Connection, Wanted};
use crate::exit::{Exit, Stop};
use crate::settings::{Settings, Which};
use crate::ui::progress::{Meter, Told, records};
use crate::ui::table::{Align, Table};
use crate::ui::{Screen, count, json, sanitize, size, time};

#[derive(Serialize)]
struct Document {
    result: &'static str,
    snapshot: SnapshotRecord,
    stats: StatsRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    database_held_ms_max: Option<u64>,
    secrets: Vec<SecretRecord>,
    secrets_replaced: Vec<SecretRecord>,
    secrets_bytes_unseen: u64,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
}

/// What looks like a secret in a file.
#[derive(Serialize)]
struct SecretRecord {
    #[serde(flatten)]
    path: json::Path,
    rule: String,
    count: u64,
}

/// Files with secrets that are named one by one.
const SECRET_FILES_SHOWN_MAX: usize = 10;

pub(crate) fn run(args: &Push, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, .. } = context;
    for note in &settings.notes {
        screen.note(note);
    }
    let Push { agents, paths, exclude, .. } = args;
    let chosen = roots::choose(Named { agents, paths, exclude }, settings)?;
    let meter = Meter::new(screen);
    for refused in &chosen.refused {
        let notice = !chosen.roots.is_empty();
        meter.tell(refused.path.as_os_str().as_encoded_bytes(), &refused.why, notice);
    }
    for agent in &chosen.absent {
        meter.tell(agent.as_bytes(), "nothing of this agent is on this machine", false);
    }
    if chosen.roots.is_empty() {
        meter.finish();
        return Err(chosen.nothing(settings).into());
    }
    let mut options = scanning(settings);
    options.tags.clone_from(&args.tags);
    options.always = args.always;
    options.reread = args.force_read;
    options.accept_rollback = args.accept_rollback;
    options.check_databases = args.check_databases;
    options.gone.missing.clone_from(&chosen.missing);
    let larger = &mut options.scan.exclude_larger_than;
    *larger = args.exclude_larger_than.or(*larger);
    options.scan.one_file_system |= args.one_file_system;
    options.suspect_bytes = suspect_bytes(args.scan_secrets.unwrap_or(settings.push.scan_secrets));
    if args.dry_run {
        return dry_run(&chosen.roots, &options.scan, meter, context);
    }
    options.ignored = ignored(settings)?;
    options.redact_secrets |= args.redact_secrets;
    let connection = open(args, context)?;
    let cancel = context.signals.graceful();
    let pushed = engine::push::push(&connection.session, &chosen.roots, &options, &meter, cancel);
    let (held, suspects) = (meter.held_ms_max(), meter.suspects());
    let told = meter.finish();
    report(&pushed.context("the push failed")?, held, &suspects, &told, context)
}

/// How the settings want a push.
pub(crate) fn options(settings: &Settings) -> Result<PushOptions> {
    Ok(PushOptions { ignored: ignored(settings)?, ..scanning(settings) })
}

/// The same without the list of findings to ignore, whose key is made if there is none.
pub(crate) fn scanning(settings: &Settings) -> PushOptions {
    let remote = !matches!(settings.which.address(), Address::Local(_));
    let mut options = PushOptions {
        uploads: if remote { 2 } else { 1 },
        suspect_bytes: suspect_bytes(settings.push.scan_secrets),
        redact_secrets: settings.push.redact_secrets,
        gone: gone::Options {
            labels: settings.push.gone.paths.clone(),
            age_max: settings.push.gone.keep_for,
            bytes_max: settings.push.gone.keep_bytes,
            missing: None,
        },
        scan: scan::Options {
            exclude_larger_than: settings.push.exclude_larger_than,
            one_file_system: settings.push.one_file_system,
            ..scan::Options::default()
        },
        ..PushOptions::default()
    };
    for dir in [&settings.state_dir, &settings.cache_dir] {
        options.scan.leave_out(dir);
    }
    if let Address::Local(repository) = settings.which.address() {
        options.scan.leave_out(&repository);
    }
    options
}

/// What of the live files no backup has, as pushes replace secrets: all but this list. None if they do not.
pub(crate) fn secrets_stay(settings: &Settings) -> Result<Option<Arc<Ignored>>> {
    settings.push.redact_secrets.then(|| ignored(settings)).transpose()
}

/// The findings of secrets that a push does not tell.
pub(crate) fn ignored(settings: &Settings) -> Result<Arc<Ignored>> {
    Ok(Arc::new(Ignored::open(&settings.state_dir, &settings.secrets_ignored)?))
}

/// How much of what is new is looked through for secrets.
fn suspect_bytes(choice: ScanSecrets) -> u64 {
    match choice {
        ScanSecrets::None => 0,
        ScanSecrets::New => PushOptions::default().suspect_bytes,
        ScanSecrets::All => u64::MAX,
    }
}

/// Opens the repository; the embedded one is made on first use.
fn open(args: &Push, context: &Context<'_>) -> Result<Connection> {
    let Context { settings, screen, signals, .. } = context;
    let limit_upload = args.limit_upload.or(settings.push.limit_upload);
    let wanted =
        Wanted { patient: true, limit_upload, cancel: signals.flag(), ..Wanted::default() };
    match connect::open(settings, wanted, screen) {
        Err(error) if is_first_use(&error, &settings.which) => {
            let passphrase = settings.password.as_ref().map(|p| p.source.read()).transpose()?;
            init::make(context, None, passphrase.map(SecretInput::Passphrase), limit_upload, None)
        }
        other => other,
    }
}

fn is_first_use(error: &anyhow::Error, which: &Which) -> bool {
    let none = error.downcast_ref::<Stop>().is_some_and(|stop| stop.exit == Exit::NoRepository);
    none && matches!(which, Which::Embedded(_))
}

fn report(
    pushed: &Pushed,
    database_held_ms_max: Option<u64>,
    suspects: &Suspects,
    told: &[Told],
    context: &Context<'_>,
) -> Result<Exit> {
    let screen = context.screen;
    let (snapshot, stats) = (pushed.snapshot(), pushed.stats());
    let problems = told.iter().filter(|one| !one.notice).count() as u64;
    let exit = if problems.max(stats.problems) > 0 { Exit::Skipped } else { Exit::Done };
    let made = matches!(pushed, Pushed::Made(_));
    if screen.json() {
        screen.document(&Document {
            result: if made { "made" } else { "unchanged" },
            snapshot: snapshot.into(),
            stats: stats.into(),
            database_held_ms_max,
            secrets: secrets(&suspects.found),
            secrets_replaced: secrets(&suspects.replaced),
            secrets_bytes_unseen: suspects.bytes_passed,
            problems: records(told, false),
            notices: records(told, true),
        })?;
        return Ok(exit);
    }
    let id = short_id(&snapshot.id);
    if made {
        let took = snapshot.finished_nanos.saturating_sub(snapshot.started_nanos);
        screen.line(format_args!(
            "snapshot {id} of {}: {} in {}; {} read, {} new, {} stored, {}",
            contents(snapshot),
            size::show(stats.bytes),
            count(stats.entries, "entry", "entries"),
            size::show(stats.bytes_read),
            size::show(stats.bytes_new),
            size::show(stats.bytes_stored),
            time::show_span(took)
        ))?;
    } else {
        screen.line(format_args!(
            "nothing changed since snapshot {id} of {}; no new one was made",
            time::show_nanos(snapshot.finished_nanos)
        ))?;
    }
    warn_of_secrets(suspects, screen);
    if exit == Exit::Skipped {
        let items = count(problems.max(stats.problems), "item", "items");
        screen.note(format_args!("{items} had problems, each named above (code 3)"));
    }
    Ok(exit)
}

fn secrets(counts: &BTreeMap<(Vec<u8>, String), u64>) -> Vec<SecretRecord> {
    let record = |((path, rule), count): (&(Vec<u8>, String), &u64)| SecretRecord {
        path: json::Path::new(path),
        rule: rule.clone(),
        count: *count,
    };
    counts.iter().map(record).collect()
}

/// Says which files seem to have secrets, never which.
pub(crate) fn warn_of_secrets(suspects: &Suspects, screen: &Screen) {
    if suspects.bytes_passed > 0 {
        let bytes = size::show(suspects.bytes_passed);
        screen.note(format_args!(
            "{bytes} of new data were not looked through for secrets; 'agent-backup scan' does"
        ));
    }
    if !suspects.replaced.is_empty() {
        let all = count(suspects.replaced.values().sum(), "secret", "secrets");
        let files: BTreeSet<&[u8]> = suspects.replaced.keys().map(|(path, _)| &**path).collect();
        let of = count(files.len() as u64, "file that was read", "files that were read");
        screen.note(format_args!("marks stand in the place of {all} in {of}"));
    }
    if suspects.found.is_empty() {
        return;
    }
    let mut files: BTreeMap<&[u8], Vec<String>> = BTreeMap::new();
    for ((path, rule), n) in &suspects.found {
        files.entry(path).or_default().push(format!("{n} {rule}"));
    }
    let all = count(suspects.found.values().sum(), "secret", "secrets");
    let of = count(files.len() as u64, "file", "files");
    screen.note(format_args!(
        "what looks like {all} is in the new parts of {of} (encrypted, as all is):"
    ));
    for (path, rules) in files.iter().take(SECRET_FILES_SHOWN_MAX) {
        screen.note(format_args!("  {}: {}", sanitize::bytes(path), rules.join(", ")));
    }
    let more = files.len().saturating_sub(SECRET_FILES_SHOWN_MAX);
    let more = if more > 0 { format!("{more} more files; ") } else { String::new() };
    screen.note(format_args!("  {more}see where with 'agent-backup scan'; change what is real"));
}

#[derive(Serialize)]
struct DryDocument {
    dry_run: bool,
    roots: Vec<DryRoot>,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
}

#[derive(Serialize)]
struct DryRoot {
    label: String,
    agent: Option<String>,
    #[serde(flatten)]
    dir: json::Path,
    files: u64,
    entries: u64,
    bytes: u64,
}

/// Scans only: what would be read.
fn dry_run(
    roots: &[PushRoot],
    options: &scan::Options,
    meter: Meter,
    context: &Context<'_>,
) -> Result<Exit> {
    let screen = context.screen;
    let cancel = context.signals.graceful();
    let scans: Vec<scan::ScanRoot> = roots.iter().map(|root| root.scan.clone()).collect();
    let root = |root: &PushRoot| DryRoot {
        label: root.scan.label.clone(),
        agent: root.agent.clone(),
        dir: json::Path::new(root.scan.dir.as_os_str().as_encoded_bytes()),
        files: 0,
        entries: 0,
        bytes: 0,
    };
    let mut found: Vec<DryRoot> = roots.iter().map(root).collect();
    let mut printed = Ok(());
    let mut count_one = |one: scan::Found| {
        let root = &mut found[one.root];
        root.entries += 1;
        if one.kind == Kind::File {
            root.files += 1;
            root.bytes += if one.link.is_none() { one.stat.size } else { 0 };
        }
        if screen.verbose() > 0 {
            printed = screen.line(sanitize::bytes(&one.path));
        }
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let mut problem = |problem: scan::Problem| {
        let cause = problem.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
        let what = format!("{}{cause}", problem.what);
        meter.tell(&problem.path, &what, problem.is_notice());
    };
    scan::scan(&scans, options, cancel, &mut count_one, &mut problem)?;
    printed?;
    let told = meter.finish();
    let exit = if told.iter().any(|one| !one.notice) { Exit::Skipped } else { Exit::Done };
    if screen.json() {
        let (problems, notices) = (records(&told, false), records(&told, true));
        screen.document(&DryDocument { dry_run: true, roots: found, problems, notices })?;
        return Ok(exit);
    }
    let mut table = Table::new(&[
        ("ROOT", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("DIRECTORY", Align::Left),
    ]);
    for (one, root) in found.iter().zip(roots) {
        table.row(vec![
            sanitize::text(&one.label),
            one.files.to_string(),
            size::show(one.bytes),
            roots::shorten(&root.scan.dir, &context.settings.machine.home),
        ]);
    }
    for line in table.lines() {
        screen.line(line)?;
    }
    screen.note("dry run: nothing was read or stored");
    Ok(exit)
}
