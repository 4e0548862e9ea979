//! `forget --gone`: what snapshots keep of files that are gone. Shown first, as snapshots are.

use anyhow::{Context as _, Result};
use engine::forget::gone::{self, Going, Plan, Report, Request};
use engine::gc;
use engine::gone::Since;
use repo::OpId;
use serde::Serialize;

use crate::args::Forget;
use crate::commands::Context;
use crate::commands::gc::{self as collect, GcRecord};
use crate::commands::snapshots::short_id;
use crate::exit::{Exit, Usage};
use crate::ui::{count, json, sanitize, size, time};

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    gone: Vec<GoingRecord>,
    snapshots: Vec<String>,
    pinned: Vec<String>,
    replaced: Vec<ReplacedRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gc: Option<GcRecord>,
}

/// A file that goes.
#[derive(Serialize)]
struct GoingRecord {
    #[serde(flatten)]
    path: json::Path,
    gone_since: Option<String>,
    bytes: u64,
}

/// A snapshot that gave way.
#[derive(Serialize)]
struct ReplacedRecord {
    old: String,
    new: String,
}

pub(super) fn run(args: &Forget, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    if args.paths.is_empty() && args.agent.is_none() && args.older_than.is_none() {
        let what =
            "say what of it: --path GLOB (--path '**' is all of it), --agent or --older-than";
        return Err(Usage(what.to_owned()).into());
    }
    let request = Request {
        paths: args.paths.clone(),
        agent: args.agent.clone(),
        host: args.host.clone(),
        older_than: args.older_than,
    };
    let connection = context.open_patiently()?;
    let session = &connection.session;
    let plan = gone::plan(session, &request)?;
    show(&plan, context)?;
    if args.dry_run {
        screen.note("dry run: nothing was forgotten");
        return finish(&plan, &Report::default(), None, true, context);
    }
    if plan.snapshots.is_empty() {
        screen.line("nothing was forgotten")?;
        return finish(&plan, &Report::default(), None, false, context);
    }
    if !args.yes && screen.ask(&format!("forget {}?", files(&plan)))? == Some(false) {
        screen.note("nothing was forgotten");
        return Ok(Exit::Done);
    }
    let cancel = context.signals.graceful();
    let report = gone::apply(session, &plan, &mut |_| {}, cancel)
        .context("not all of it was forgotten; run it again")?;
    let snapshots = count(report.replaced.len() as u64, "snapshot", "snapshots");
    screen.line(format_args!("forgot {} in {snapshots}", files(&plan)))?;
    for id in &report.pinned {
        screen.note(format_args!("snapshot {} was pinned meanwhile and stays", short_id(id)));
    }
    let collected = if args.prune {
        Some(collect::collect(session, &gc::options(session), false, context)?)
    } else {
        screen.note("agent-backup gc frees what nothing else needs");
        None
    };
    finish(&plan, &report, collected, false, context)
}

fn files(plan: &Plan) -> String {
    let bytes = plan.going.iter().map(|one| one.bytes).sum();
    let files = count(plan.going.len() as u64, "file that is gone", "files that are gone");
    format!("{files} ({})", size::show(bytes))
}

fn show(plan: &Plan, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    for one in &plan.going {
        let since = match one.since {
            Since::At(secs) => time::show_nanos(secs.saturating_mul(1_000_000_000)),
            Since::Unseen => String::new(),
        };
        let path = sanitize::bytes(&one.path);
        screen.line(format_args!("forget  {since}  {:>10}  {path}", size::show(one.bytes)))?;
    }
    let snapshots = plan.snapshots.len() as u64;
    if snapshots > 0 {
        screen.note(format_args!(
            "in {}, each of which gives way to one without them",
            count(snapshots, "snapshot", "snapshots")
        ));
    }
    for id in &plan.pinned {
        screen.note(format_args!("snapshot {} is pinned: it keeps what it has", short_id(id)));
    }
    if plan.going.is_empty() {
        screen.note("nothing that is gone fits");
    } else {
        screen.note("snapshots from when a file was there have it until they are forgotten");
    }
    Ok(())
}

fn finish(
    plan: &Plan,
    report: &Report,
    gc: Option<GcRecord>,
    dry_run: bool,
    context: &Context<'_>,
) -> Result<Exit> {
    if context.screen.json() {
        let going = |one: &Going| GoingRecord {
            path: json::Path::new(&one.path),
            gone_since: match one.since {
                Since::At(secs) => time::rfc3339(secs, 0),
                Since::Unseen => None,
            },
            bytes: one.bytes,
        };
        let replaced =
            |(old, new): &(OpId, OpId)| ReplacedRecord { old: old.hex(), new: new.hex() };
        context.screen.document(&Document {
            dry_run,
            gone: plan.going.iter().map(going).collect(),
            snapshots: plan.snapshots.iter().map(|s| s.id.hex()).collect(),
            pinned: plan.pinned.iter().chain(&report.pinned).map(OpId::hex).collect(),
            replaced: report.replaced.iter().map(replaced).collect(),
            gc,
        })?;
    }
    Ok(Exit::Done)
}
