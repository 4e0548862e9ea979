//! `import`: snapshots that agent-backup-core made become snapshots here.

use anyhow::{Context as _, Result};
use engine::import::{self, Done, Fate, Options, Passphrase, Planned, Source, Step, Trust};
use serde::Serialize;

use crate::args::{Import, Program};
use crate::commands::Context;
use crate::commands::snapshots::{SnapshotRecord, short_id};
use crate::connect::{self, Connection, Wanted};
use crate::exit::Exit;
use crate::settings::Settings;
use crate::ui::progress::{Meter, Told, records};
use crate::ui::{count, json, sanitize, size};

#[derive(Serialize)]
struct Document<T> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    from: String,
    snapshots: Vec<T>,
    unfinished: Vec<String>,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
}

/// A snapshot of the old bucket. `result` is `imported` (`new` in a dry run), `there`, `refused` or `damaged`.
#[derive(Serialize)]
struct Record {
    name: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// The same before anything is done.
#[derive(Serialize)]
struct PlanRecord {
    name: String,
    safety: bool,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

pub(crate) fn run(args: &Import, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, .. } = context;
    let Program::AgentBackupCore = args.program;
    let old = context.foreign(args)?;
    let limit_upload = args.limit_upload.or(settings.push.limit_upload);
    let cancel = context.signals.flag();
    let wanted = Wanted { patient: true, limit_upload, cancel, ..Wanted::default() };
    let connection = connect::open(settings, wanted, screen)?;
    let mut source = open(args, &old, context)?;
    let mut found = source.survey();
    if let Err(import::SourceError::NoPassphrase { .. }) = &found
        && let Some(typed) = connect::prompt("passphrase of the old configuration: ")?
    {
        source = open_with(args, &old, Some(typed), context)?;
        found = source.survey();
    }
    let found = found.map_err(engine::Error::from).context("cannot import")?;
    screen.set_place(&settings.which.address().to_string());
    take(args, &source, found, &connection, context)
}

/// Opens the old bucket with what the settings say.
fn open(args: &Import, old: &Settings, context: &Context<'_>) -> Result<Source> {
    let given = old.password.as_ref().map(|password| password.source.read()).transpose()?;
    open_with(args, old, given, context)
}

fn open_with(
    args: &Import,
    old: &Settings,
    given: Option<zeroize::Zeroizing<String>>,
    context: &Context<'_>,
) -> Result<Source> {
    let cancel = context.signals.flag();
    let wanted = Wanted { patient: true, cancel, ..Wanted::default() };
    let store = connect::foreign(old, wanted, context.screen)?;
    let passphrase = match given {
        Some(text) => Some(Passphrase::given(text)),
        None => old.storage_secret()?.map(Passphrase::storage_key),
    };
    let trust = if args.plain_manifests { Trust::Plain } else { Trust::Sealed };
    let opened = Source::open(store, passphrase, trust).map_err(engine::Error::from);
    opened.context("cannot import")
}

/// Plans and imports.
fn take(
    args: &Import,
    source: &Source,
    found: Vec<import::Found>,
    connection: &Connection,
    context: &Context<'_>,
) -> Result<Exit> {
    let screen = context.screen;
    let session = &connection.session;
    let plan = import::plan(session, found)?;
    for name in source.unfinished() {
        let name = sanitize::text(name);
        screen.note(format_args!("{name}: it has no manifest: its push did not finish; left out"));
    }
    if plan.iter().any(|one| matches!(&one.step, Step::New(head) if head.plain)) {
        screen.note("manifests are not encrypted there: nothing proves who wrote them");
    }
    if args.dry_run {
        return dry_run(&plan, source, context);
    }
    let options =
        Options { agent: args.agent.clone(), host: args.host.clone(), tags: args.tags.clone() };
    let meter = Meter::new(screen);
    let mut done = Vec::new();
    let mut told = |one: &Done| done.push(one.clone());
    let cancel = context.signals.graceful();
    let applied = import::apply(session, source, &plan, &options, &meter, &mut told, cancel);
    let problems = meter.finish();
    if !screen.json() {
        done.iter().try_for_each(|one| tell(one, context))?;
    }
    applied.context("the import stopped; what was imported stays, and the next run goes on")?;
    report(&done, &problems, source, context)
}

fn tell(one: &Done, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    let name = sanitize::text(&one.name);
    match &one.fate {
        Fate::New(snapshot) => {
            let id = short_id(&snapshot.id);
            let files = match snapshot.stats.problems {
                0 => String::new(),
                lost => format!(", without {}", count(lost, "file", "files")),
            };
            let stored = size::show(snapshot.stats.bytes_stored);
            let bytes = size::show(snapshot.stats.bytes);
            screen.line(format_args!("{name}   imported as {id}{files}: {bytes}, {stored} stored"))
        }
        Fate::There { id, lost } => {
            let lost = match lost {
                0 => String::new(),
                lost => format!(", without {}", count(*lost, "file", "files")),
            };
            screen.line(format_args!("{name}   is there already as {}{lost}", short_id(id)))
        }
        Fate::Out { why, .. } => {
            screen.note(format_args!("not imported: {}", sanitize::text(why)));
            Ok(())
        }
    }
}

fn report(done: &[Done], told: &[Told], source: &Source, context: &Context<'_>) -> Result<Exit> {
    let (screen, place) = (context.screen, source.place());
    let out = |wanted: bool| {
        done.iter()
            .filter(move |one| matches!(&one.fate, Fate::Out { refused, .. } if *refused == wanted))
    };
    let (refused, damaged) = (out(true).count() as u64, out(false).count() as u64);
    let made = done.iter().filter_map(|one| match &one.fate {
        Fate::New(snapshot) => Some(snapshot),
        _ => None,
    });
    let lost: u64 = made.clone().map(|snapshot| snapshot.stats.problems).sum();
    let exit = match (refused, damaged, lost) {
        (0, 0, 0) => Exit::Done,
        (0, 0, _) => Exit::Skipped,
        (0, ..) => Exit::Damage,
        _ => Exit::Refused,
    };
    if screen.json() {
        screen.document(&Document {
            dry_run: false,
            from: place,
            snapshots: done.iter().map(record).collect(),
            unfinished: source.unfinished().into_iter().map(str::to_owned).collect(),
            problems: records(told, false),
            notices: records(told, true),
        })?;
        return Ok(exit);
    }
    let number = made.clone().count() as u64;
    let stored: u64 = made.map(|snapshot| snapshot.stats.bytes_stored).sum();
    screen.note(format_args!(
        "{} imported from {}, {} stored; nothing was changed there",
        count(number, "snapshot", "snapshots"),
        sanitize::text(&place),
        size::show(stored)
    ));
    if lost > 0 {
        let files = count(lost, "file", "files");
        screen.note(format_args!("{files} could not be had, each named above (code 3)"));
    }
    if damaged > 0 {
        let all = count(damaged, "snapshot is damaged there", "snapshots are damaged there");
        screen.note(format_args!("{all} and left out, each named above (code 4)"));
    }
    if refused > 0 {
        let all = count(refused, "snapshot was refused", "snapshots were refused");
        screen.note(format_args!("{all}, each named above (code 17)"));
        screen.note(
            "  --plain-manifests takes manifests that are not encrypted, if you know that they are yours",
        );
    }
    Ok(exit)
}

fn record(one: &Done) -> Record {
    let (result, snapshot, id, why) = match &one.fate {
        Fate::New(snapshot) => {
            ("imported", Some(snapshot.as_ref().into()), Some(snapshot.id.hex()), None)
        }
        Fate::There { id, .. } => ("there", None, Some(id.hex()), None),
        Fate::Out { why, refused } => (out_word(*refused), None, None, Some(why.clone())),
    };
    Record { name: one.name.clone(), result, snapshot, id, why }
}

fn out_word(refused: bool) -> &'static str {
    if refused { "refused" } else { "damaged" }
}

/// What would be done.
fn dry_run(plan: &[Planned], source: &Source, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    if screen.json() {
        let snapshots = plan.iter().map(plan_record).collect();
        let unfinished = source.unfinished().into_iter().map(str::to_owned).collect();
        let (problems, notices) = (Vec::new(), Vec::new());
        let from = source.place();
        screen.document(&Document {
            dry_run: true,
            from,
            snapshots,
            unfinished,
            problems,
            notices,
        })?;
        return Ok(Exit::Done);
    }
    for one in plan {
        let name = sanitize::text(&one.listed.name);
        let safety = if one.listed.safety { ", a safety snapshot" } else { "" };
        match &one.step {
            Step::New(head) => {
                let files = count(head.files, "file", "files");
                let bytes = size::show(head.bytes);
                let time = head.time;
                screen.line(format_args!(
                    "{name}   would be imported: {files} of {bytes}, made {time}{safety}"
                ))?;
            }
            Step::There { id, .. } => {
                screen.line(format_args!("{name}   is there already as {}", short_id(id)))?;
            }
            Step::Out { why, .. } => {
                screen.line(format_args!("not to be imported: {}", sanitize::text(why)))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn plan_record(one: &Planned) -> PlanRecord {
    let mut record = PlanRecord {
        name: one.listed.name.clone(),
        safety: one.listed.safety,
        result: "new",
        time: None,
        files: None,
        bytes: None,
        id: None,
        why: None,
    };
    match &one.step {
        Step::New(head) => {
            record.time = Some(head.time.to_string());
            (record.files, record.bytes) = (Some(head.files), Some(head.bytes));
        }
        Step::There { id, .. } => (record.result, record.id) = ("there", Some(id.hex())),
        Step::Out { why, refused } => {
            (record.result, record.why) = (out_word(*refused), Some(why.clone()));
        }
    }
    record
}
