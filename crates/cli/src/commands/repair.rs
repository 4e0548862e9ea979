//! `repair`: what is damaged or missing is made again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use engine::Session;
use engine::push::{PushRoot, Pushed};
use engine::repair::{self, Accepted, Healed, IndexReport, Repaired, Sources};
use engine::verify::{self, Level, Report, Touched};
use serde::Serialize;

use crate::args::{Part, Repair};
use crate::commands::roots::{self, Named};
use crate::commands::snapshots::short_id;
use crate::commands::verify::{ReportRecord, options, tell_touched};
use crate::commands::{Context, push};
use crate::connect::{self, Wanted};
use crate::exit::{Exit, Usage};
use crate::settings::Settings;
use crate::ui::progress::{Meter, records};
use crate::ui::{count, json, sanitize, size};

pub(crate) fn run(args: &Repair, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, signals, .. } = context;
    let wanted = || Wanted { patient: true, cancel: signals.flag(), ..Wanted::default() };
    let connection = connect::open(settings, wanted(), screen)?;
    let session = &connection.session;
    let index = match args.part {
        Some(Part::Index) => {
            let threads = options(Level::Structure, settings).threads;
            let report = repair::index(session, threads, args.accept_loss);
            Some(report.context("the index could not be made anew")?)
        }
        None => None,
    };
    let looks_elsewhere = args.from_source || args.from.is_some() || args.undelete;
    if !looks_elsewhere && (index.is_some() || !args.accept_loss) {
        return only_index(index.as_ref(), session, context);
    }
    let other = match &args.from {
        Some(address) => Some(open_other(address, context)?),
        None => None,
    };
    screen.set_place(&settings.which.address().to_string());
    let meter = Meter::new(screen);
    let live = if args.from_source {
        Some((live_roots(args, session, settings, &meter)?, push::options(settings)?))
    } else {
        None
    };
    let sources = Sources {
        live,
        other: other.as_ref().map(|other| other.session.repo()),
        old_versions: args.undelete,
        accept_loss: args.accept_loss,
    };
    let level = if args.read_data { Level::All } else { Level::Metadata };
    let look = options(level, settings);
    let done = repair::repair(session, &sources, &look, &meter, signals.graceful());
    let told = meter.finish();
    let done = done.context("the repair stopped")?;
    let exit = if done.after.is_damaged() { Exit::Damage } else { Exit::Done };
    if screen.json() {
        let (problems, notices) = (records(&told, false), records(&told, true));
        let index = index.as_ref().or(done.index.as_ref());
        screen.document(&Document::new(index, &done, problems, notices))?;
        return Ok(exit);
    }
    for index in index.iter().chain(&done.index) {
        tell_index(index, context)?;
    }
    tell(&done, context)?;
    if exit == Exit::Damage {
        screen.note(
            "damage is left (code 4); repair --from ADDRESS asks another copy, repair --accept-loss \
             gives up what is named above",
        );
    }
    Ok(exit)
}

/// The repository to copy from: a mirror of this one, with the same keys.
fn open_other(address: &str, context: &Context<'_>) -> Result<connect::Connection> {
    let mut settings = context.other(address).context("--from")?;
    if settings.which.address() == context.settings.which.address() {
        return Err(Usage("--from is the repository itself".into()).into());
    }
    settings.no_cache = true;
    context.open_other(&settings, None).context("--from")
}

/// The roots that are read again: those that were named, or those of this machine's newest snapshots.
fn live_roots(
    args: &Repair,
    session: &Session,
    settings: &Settings,
    meter: &Meter,
) -> Result<Vec<PushRoot>> {
    let (mut agents, mut paths) = (args.agents.clone(), args.paths.clone());
    if agents.is_empty() && paths.is_empty() {
        let mut newest: std::collections::BTreeMap<String, repo::RootRecord> =
            std::collections::BTreeMap::new();
        for snapshot in session.snapshots_listed()?.0 {
            if snapshot.machine == *session.machine_id() && !snapshot.is_safety() {
                newest.extend(snapshot.roots.into_iter().map(|root| (root.label.clone(), root)));
            }
        }
        let known = settings.adapters()?;
        for root in newest.into_values() {
            match root.agent {
                Some(agent) if known.iter().any(|adapter| adapter.id() == agent) => {
                    if !agents.contains(&agent) {
                        agents.push(agent);
                    }
                }
                Some(_) => {}
                None => match Path::new(OsStr::from_bytes(&root.dir)).to_str() {
                    Some(dir) if Path::new(dir).exists() => {
                        paths.push(format!("{}={dir}", root.label));
                    }
                    _ => meter.tell(&root.dir, "it is not here any more", false),
                },
            }
        }
    }
    if agents.is_empty() && paths.is_empty() {
        return Ok(Vec::new());
    }
    let named = Named { agents: &agents, paths: &paths, exclude: &[] };
    let chosen = roots::choose(named, settings)?;
    for refused in &chosen.refused {
        meter.tell(refused.path.as_os_str().as_encoded_bytes(), &refused.why, true);
    }
    for agent in &chosen.absent {
        meter.tell(agent.as_bytes(), "nothing of this agent is on this machine", true);
    }
    Ok(chosen.roots)
}

#[derive(Serialize)]
struct IndexRecord {
    packs: usize,
    rebuilt: usize,
    unreadable: Vec<json::Problem>,
    removed: Vec<String>,
    kept: Vec<String>,
}

impl IndexRecord {
    fn new(index: &IndexReport) -> Self {
        let unreadable = |(pack, what): &(repo::PackId, String)| json::Problem {
            path: json::Path::new(pack.to_string().as_bytes()),
            what: what.clone(),
        };
        Self {
            packs: index.packs,
            rebuilt: index.rebuilt,
            unreadable: index.unreadable.iter().map(unreadable).collect(),
            removed: index.removed.clone(),
            kept: index.kept.clone(),
        }
    }
}

#[derive(Serialize)]
struct IndexDocument {
    index: Option<IndexRecord>,
    after: ReportRecord,
}

/// The look at the end is what `status` goes by.
fn only_index(
    index: Option<&IndexReport>,
    session: &Session,
    context: &Context<'_>,
) -> Result<Exit> {
    let Context { settings, screen, signals, .. } = context;
    let meter = Meter::new(screen);
    let progress = |read, of| meter.bytes(read, of);
    let look = options(Level::Metadata, settings);
    let after = verify::verify(session, &look, &progress, signals.graceful());
    meter.finish();
    let after = after.context("the index is made anew; the look at the end stopped")?;
    let left = index.is_some_and(|index| !index.unreadable.is_empty() || !index.kept.is_empty());
    if screen.json() {
        let (index, after) = (index.map(IndexRecord::new), ReportRecord::new(&after));
        screen.document(&IndexDocument { index, after })?;
    } else {
        if let Some(index) = index {
            tell_index(index, context)?;
        }
        tell_touched(&after.touched, screen)?;
    }
    Ok(if left || after.is_damaged() { Exit::Damage } else { Exit::Done })
}

fn tell_index(index: &IndexReport, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    screen.line(format_args!(
        "index: tables of {} of {} made anew, {} removed",
        index.rebuilt,
        count(index.packs as u64, "pack", "packs"),
        count(index.removed.len() as u64, "object that did not open", "objects that did not open")
    ))?;
    for (pack, what) in &index.unreadable {
        screen.line(format_args!("damaged: {pack}: {}", sanitize::text(what)))?;
    }
    for name in &index.kept {
        screen.line(format_args!(
            "kept: {}: it may name what those packs hold; repair index --accept-loss removes it",
            sanitize::text(name)
        ))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<IndexRecord>,
    before: ReportRecord,
    after: ReportRecord,
    put_back: Vec<String>,
    healed: Vec<HealedRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    accepted: Vec<AcceptedRecord>,
    buried: Vec<String>,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
}

#[derive(Serialize)]
struct HealedRecord {
    wanted: usize,
    moved: usize,
    unhidden: usize,
    copied: usize,
    rebuilt: usize,
    recoded: usize,
    left: usize,
    bytes_stored: u64,
}

#[derive(Serialize)]
struct AcceptedRecord {
    old: String,
    new: Option<String>,
    lost: Vec<json::Path>,
    pieces: Vec<json::Path>,
}

impl Document {
    fn new(
        index: Option<&IndexReport>,
        done: &Repaired,
        problems: Vec<json::Problem>,
        notices: Vec<json::Problem>,
    ) -> Self {
        let healed = |one: &Healed| HealedRecord {
            wanted: one.wanted,
            moved: one.moved,
            unhidden: one.unhidden,
            copied: one.copied,
            rebuilt: one.rebuilt,
            recoded: one.recoded,
            left: one.left.len(),
            bytes_stored: one.bytes_stored,
        };
        let paths = |paths: &[Vec<u8>]| paths.iter().map(|path| json::Path::new(path)).collect();
        let accepted = |one: &Accepted| AcceptedRecord {
            old: one.old.hex(),
            new: one.new.map(|id| id.hex()),
            lost: paths(&one.lost),
            pieces: paths(&one.pieces),
        };
        Self {
            index: index.map(IndexRecord::new),
            before: ReportRecord::new(&done.before),
            after: ReportRecord::new(&done.after),
            put_back: done.put_back.iter().map(repo::OpId::hex).collect(),
            healed: done.healed.iter().map(healed).collect(),
            snapshot: done.pushed.as_ref().map(|pushed| pushed.snapshot().id.hex()),
            accepted: done.accepted.iter().map(accepted).collect(),
            buried: done.buried.iter().map(repo::OpId::hex).collect(),
            problems,
            notices,
        }
    }
}

fn tell(done: &Repaired, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    for id in &done.put_back {
        screen.line(format_args!("snapshot {} opens again", short_id(id)))?;
    }
    if !done.before.is_damaged() && done.healed.iter().all(|healed| healed.wanted == 0) {
        screen.line("nothing that a snapshot needs is damaged or missing")?;
    }
    for healed in done.healed.iter().filter(|healed| healed.wanted > 0) {
        screen.line(format_args!(
            "{} without a good place: {} moved, {} found in old versions, {} copied, {} put together, {} \
             coded again, {} left; {} stored",
            count(healed.wanted as u64, "block", "blocks"),
            healed.moved,
            healed.unhidden,
            healed.copied,
            healed.rebuilt,
            healed.recoded,
            healed.left.len(),
            size::show(healed.bytes_stored)
        ))?;
    }
    if let Some(Pushed::Made(snapshot)) = &done.pushed {
        screen
            .line(format_args!("snapshot {} of the live files was made", short_id(&snapshot.id)))?;
    }
    let whole = whole_again(&done.before, &done.after);
    if whole > 0 {
        screen.line(format_args!("{} whole again", count(whole, "path is", "paths are")))?;
    }
    if !done.after.waiting.is_empty() {
        let packs = count(done.after.waiting.len() as u64, "pack looks", "packs look");
        screen.line(format_args!(
            "{packs} damaged for less than an hour: at a storage elsewhere that may pass; repair acts on \
             it when it is still so later"
        ))?;
    }
    if let Some(Pushed::Made(snapshot)) = &done.pushed
        && done.after.is_damaged()
        && !done.after.touched.iter().any(|one| one.snapshots.contains(&snapshot.id))
    {
        screen.line("what is left of the damage is in older snapshots: the new one is whole")?;
    }
    for one in &done.accepted {
        match &one.new {
            Some(new) => screen.line(format_args!(
                "snapshot {} takes the place of {}, without:",
                short_id(new),
                short_id(&one.old)
            ))?,
            None => screen.line(format_args!(
                "snapshot {} is forgotten: nothing of it is left",
                short_id(&one.old)
            ))?,
        }
        for path in &one.lost {
            screen.line(format_args!("  {}", sanitize::bytes(path)))?;
        }
        for path in &one.pieces {
            screen.line(format_args!("  {} and what followed it", sanitize::bytes(path)))?;
        }
    }
    for id in &done.buried {
        screen.line(format_args!(
            "snapshot {} does not open, and does not count any more",
            short_id(id)
        ))?;
    }
    tell_touched(&done.after.touched, screen)
}

/// Paths that could not be restored before and can be now.
fn whole_again(before: &Report, after: &Report) -> u64 {
    let still = |one: &&Touched| after.touched.iter().any(|other| other.path == one.path);
    before.touched.iter().filter(|one| !still(one)).count() as u64
}
