//! `forget`: what stays and what goes is shown, and on a terminal asked for, before anything is done.

mod gone;

use anyhow::Result;
use engine::forget::{self, Group, Kept, Plan, Policy, Report, Request, Scope};
use engine::gc;
use jiff::tz::TimeZone;
use repo::{OpId, Snapshot};
use serde::Serialize;

use crate::args::Forget;
use crate::commands::Context;
use crate::commands::gc::{self as collect, GcRecord};
use crate::commands::named;
use crate::commands::snapshots::{SnapshotRecord, contents, short_id};
use crate::exit::{Exit, Stop, Usage};
use crate::ui::table::{Align, Table};
use crate::ui::{count, sanitize, time};

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    groups: Vec<GroupRecord>,
    forgotten: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gc: Option<GcRecord>,
}

#[derive(Serialize)]
struct GroupRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roots: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    keep: Vec<KeepRecord>,
    forget: Vec<SnapshotRecord>,
    times_set_right: usize,
}

#[derive(Serialize)]
struct KeepRecord {
    #[serde(flatten)]
    snapshot: SnapshotRecord,
    reasons: Vec<String>,
}

pub(crate) fn run(args: &Forget, context: &Context<'_>) -> Result<Exit> {
    if args.gone {
        return gone::run(args, context);
    }
    let screen = context.screen;
    let request = request(args)?;
    let connection = context.open_patiently()?;
    let session = &connection.session;
    named::check(&args.agent, session, &context.settings)?;
    let plan = if args.snapshots.is_empty() {
        forget::plan(session, &request, &TimeZone::system())?
    } else {
        let select = |spec: &String| Ok(session.select(spec, None, None)?);
        let named: Result<Vec<Snapshot>> = args.snapshots.iter().map(select).collect();
        forget::plan_named(session, named?)?
    };
    show(&plan, context)?;
    if args.dry_run {
        screen.note("dry run: nothing was forgotten");
        return finish(&plan, &Report::default(), None, true, context);
    }
    let going = plan.forget().len();
    if going > 0 && !args.yes {
        let snapshots = count(going as u64, "snapshot", "snapshots");
        // nobody to ask: it was meant, as other tools take it
        if screen.ask(&format!("forget {snapshots}?"))? == Some(false) {
            screen.note("nothing was forgotten");
            return Ok(Exit::Done);
        }
    }
    let cancel = context.signals.graceful();
    let report = forget::apply(session, &plan, cancel).map_err(explained)?;
    let stays = if args.snapshots.is_empty() {
        format!(", {} stay", plan.keep_count() + report.pinned.len())
    } else {
        String::new()
    };
    let forgotten = count(report.forgotten.len() as u64, "snapshot", "snapshots");
    screen.line(format_args!("forgot {forgotten}{stays}"))?;
    for id in &report.pinned {
        screen.note(format_args!("snapshot {} was pinned meanwhile and stays", short_id(id)));
    }
    let collected = if args.prune {
        Some(collect::collect(session, &gc::options(session), false, context)?)
    } else {
        if !report.forgotten.is_empty() {
            screen.note("agent-backup gc frees what nothing else needs; undelete works until then");
        }
        None
    };
    finish(&plan, &report, collected, false, context)
}

fn request(args: &Forget) -> Result<Request> {
    let keep = &args.keep;
    let policy = Policy {
        last: keep.last.unwrap_or(0),
        hourly: keep.hourly.unwrap_or(0),
        daily: keep.daily.unwrap_or(0),
        weekly: keep.weekly.unwrap_or(0),
        monthly: keep.monthly.unwrap_or(0),
        yearly: keep.yearly.unwrap_or(0),
        within: keep.within,
        tags: keep.tagged.clone(),
    };
    let scope =
        Scope { host: args.host.clone(), agent: args.agent.clone(), tags: args.tags.clone() };
    if args.snapshots.is_empty() && policy.is_empty() {
        if !args.unsafe_allow_remove_all {
            let what = "name snapshots, or say what to keep: --keep-last, --keep-daily, ...";
            return Err(Usage(what.to_owned()).into());
        }
        if scope == Scope::default() {
            let what = "--unsafe-allow-remove-all without a policy needs --host, --agent or --tag";
            return Err(Usage(what.to_owned()).into());
        }
    }
    let remove_all = args.unsafe_allow_remove_all;
    Ok(Request { policy, group_by: args.group_by, scope, remove_all })
}

/// A cap needs other words here: forgetting is on the way to what would help.
fn explained(error: engine::Error) -> anyhow::Error {
    if let engine::Error::Repo(repo::Error::Store(store::Error::CapReached { .. })) = &error {
        let hint = "forgetting writes a record of 4 KiB first: raise the cap a little, then forget \
                    and gc --max-repack-bytes 0";
        return Stop::new(Exit::StorageCap, error.to_string(), hint).into();
    }
    anyhow::Error::from(error).context("not all snapshots were forgotten; run it again")
}

fn show(plan: &Plan, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    if plan.groups.is_empty() {
        screen.note("no snapshots");
    }
    for group in &plan.groups {
        let title = title(group);
        if !title.is_empty() {
            screen.line(format_args!("{title}:"))?;
        }
        let mut table = Table::new(&[
            ("", Align::Left),
            ("ID", Align::Left),
            ("TIME", Align::Left),
            ("CONTENTS", Align::Left),
            ("REASONS", Align::Left),
        ]);
        let mut row = |word: &str, s: &Snapshot, reasons: String| {
            let made = time::show_nanos(s.finished_nanos);
            table.row(vec![word.to_owned(), short_id(&s.id), made, contents(s), reasons]);
        };
        for kept in &group.keep {
            row("keep", &kept.snapshot, sanitize::text(&reasons(kept).join(", ")));
        }
        for s in &group.forget {
            row("forget", s, String::new());
        }
        for line in table.lines() {
            screen.line(format_args!("  {line}"))?;
        }
        if group.times_set_right > 0 {
            let times = count(group.times_set_right as u64, "snapshot says", "snapshots say");
            screen.note(format_args!(
                "{times} a time that the storage contradicts: the storage's was taken"
            ));
        }
    }
    Ok(())
}

fn reasons(kept: &Kept) -> Vec<String> {
    kept.reasons.iter().map(ToString::to_string).collect()
}

/// What the snapshots of a group have in common.
fn title(group: &Group) -> String {
    let mut parts = Vec::new();
    parts.extend(group.machine.as_ref().map(|(_, host)| format!("machine {host}")));
    parts.extend(group.roots.as_ref().map(|roots| format!("roots {}", roots.join(", "))));
    let tags = group.tags.as_ref().filter(|tags| !tags.is_empty());
    parts.extend(tags.map(|tags| format!("tags {}", tags.join(", "))));
    sanitize::text(&parts.join("; "))
}

fn finish(
    plan: &Plan,
    report: &Report,
    gc: Option<GcRecord>,
    dry_run: bool,
    context: &Context<'_>,
) -> Result<Exit> {
    if context.screen.json() {
        context.screen.document(&Document {
            dry_run,
            groups: plan.groups.iter().map(record).collect(),
            forgotten: report.forgotten.iter().map(OpId::hex).collect(),
            pinned: report.pinned.iter().map(OpId::hex).collect(),
            gc,
        })?;
    }
    Ok(Exit::Done)
}

fn record(group: &Group) -> GroupRecord {
    let keep =
        |kept: &Kept| KeepRecord { snapshot: (&kept.snapshot).into(), reasons: reasons(kept) };
    GroupRecord {
        machine: group.machine.as_ref().map(|(id, _)| id.hex()),
        host: group.machine.as_ref().map(|(_, host)| host.clone()),
        roots: group.roots.clone(),
        tags: group.tags.clone(),
        keep: group.keep.iter().map(keep).collect(),
        forget: group.forget.iter().map(Into::into).collect(),
        times_set_right: group.times_set_right,
    }
}
