//! `gc`: what no snapshot needs is freed; what is not, and why, is told in plain words.

use std::collections::HashMap;
use std::time::SystemTime;

use anyhow::Result;
use engine::{Session, gc};
use repo::OpId;
use repo::gc::{GcOptions, GcPlan, GcReport, GcStep, Pending};
use serde::Serialize;
use store::Address;

use crate::args::Gc;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::{Exit, Stop};
use crate::ui::{count, size, time};

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    #[serde(flatten)]
    gc: GcRecord,
}

/// A collection, or what one would do, in documents.
#[derive(Debug, Serialize)]
pub(crate) struct GcRecord {
    snapshots: usize,
    packs: usize,
    bytes: u64,
    dead_packs: usize,
    emptied_packs: usize,
    merged_packs: usize,
    move_bytes: u64,
    free_bytes: u64,
    unused_bytes: u64,
    running_packs: usize,
    running_bytes: u64,
    quarantined_packs: usize,
    more_than_half: bool,
    freed_packs: usize,
    freed_bytes: u64,
    moved_bytes: u64,
    read_bytes: u64,
    ended: Vec<String>,
    pending: Vec<PendingRecord>,
}

#[derive(Debug, Serialize)]
struct PendingRecord {
    list: String,
    packs: usize,
    bytes: u64,
    waits_for: Vec<WaitRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
}

#[derive(Debug, Serialize)]
struct WaitRecord {
    operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign: Option<String>,
}

type Signs = HashMap<OpId, SystemTime>;

pub(crate) fn run(args: &Gc, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open_patiently()?;
    let session = &connection.session;
    let mut options = gc::options(session);
    options.accept_large = args.more_than_half;
    options.accept_vanished = args.accept_vanished;
    options.fence = args.fence.unwrap_or(options.fence);
    options.moved_bytes_max = args.max_repack_bytes.unwrap_or(options.moved_bytes_max);
    let record = if args.dry_run {
        let plan = gc::plan(session, &options).map_err(explained)?;
        let signs = signs(session, &plan.pending)?;
        show_plan(&plan, &signs, args.more_than_half, context)?;
        record(&GcReport { pending: plan.pending.clone(), plan, ..GcReport::default() }, &signs)
    } else {
        collect(session, &options, args.exclusive, context)?
    };
    if screen.json() {
        screen.document(&Document { dry_run: args.dry_run, gc: record })?;
    }
    Ok(Exit::Done)
}

/// Collects and tells what was done; also for `forget --prune`.
pub(crate) fn collect(
    session: &Session,
    options: &GcOptions,
    exclusive: bool,
    context: &Context<'_>,
) -> Result<GcRecord> {
    let screen = context.screen;
    let step = |step| {
        screen.detail(match step {
            GcStep::Mark => "reading what snapshots need",
            GcStep::Move => "moving what is needed out of packs that go",
            GcStep::Sweep => "removing packs",
            GcStep::Tidy => "removing what is left over",
        });
    };
    let report = gc::collect(session, options, exclusive, &step).map_err(explained)?;
    let signs = signs(session, &report.pending)?;
    show_report(&report, &signs, context)?;
    Ok(record(&report, &signs))
}

/// A cap needs other words here: deleting is what would help, and something is written first.
fn explained(error: engine::Error) -> anyhow::Error {
    if let engine::Error::Repo(repo::Error::Store(store::Error::CapReached { .. })) = &error {
        let hint = "a collection writes a few KiB before it deletes: raise the cap a little, then \
                    agent-backup gc --max-repack-bytes 0";
        return Stop::new(Exit::StorageCap, error.to_string(), hint).into();
    }
    error.into()
}

fn signs(session: &Session, pending: &[Pending]) -> Result<Signs> {
    if pending.iter().all(|list| list.waits_for.is_empty()) {
        return Ok(Signs::new());
    }
    Ok(gc::last_signs(session)?)
}

/// `large`: it was said that more than half may go.
fn show_plan(plan: &GcPlan, signs: &Signs, large: bool, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    let snapshots = count(plan.snapshots as u64, "snapshot", "snapshots");
    screen.line(format_args!(
        "{} in {} for {snapshots}",
        size::show(plan.bytes),
        packs(plan.packs),
    ))?;
    if plan.dead_packs + plan.emptied_packs == 0 {
        screen.line("nothing to free")?;
    } else {
        let mut parts = Vec::new();
        if plan.dead_packs > 0 {
            parts.push(format!("{} with nothing that is needed", packs(plan.dead_packs)));
        }
        if plan.emptied_packs > 0 {
            let (emptied, moved) = (packs(plan.emptied_packs), size::show(plan.moved_bytes));
            parts.push(format!("{emptied} from which {moved} are moved first"));
        }
        let freed = size::show(plan.freed_bytes);
        screen.line(format_args!("{freed} can be freed: {}", parts.join(", ")))?;
    }
    stays(plan, context)?;
    waits(&plan.pending, signs, context)?;
    if plan.is_large() && !large {
        screen.note(format_args!(
            "more than half of what is stored would go ({} of {}): gc stops there, unless it is told \
             --more-than-half",
            size::show(plan.content_lost_bytes),
            size::show(plan.content_bytes)
        ));
    }
    screen.note("dry run: nothing was written or removed");
    Ok(())
}

fn show_report(report: &GcReport, signs: &Signs, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    if report.moved.bytes > 0 {
        let blocks = count(report.moved.blocks, "block that is", "blocks that are");
        let moved = size::show(report.moved.bytes);
        screen.line(format_args!("moved {blocks} needed out of packs that go ({moved})"))?;
    }
    let freed = size::show(report.swept_bytes);
    screen.line(match (report.swept_packs, report.pending.is_empty()) {
        (0, true) => "nothing to free".to_owned(),
        (0, false) => "nothing was freed yet".to_owned(),
        (n, _) => format!("freed {freed} in {}", packs(n)),
    })?;
    waits(&report.pending, signs, context)?;
    stays(&report.plan, context)?;
    for id in &report.ended {
        let short = short_id(id);
        screen.note(format_args!("operation {short} gave no sign for long and was ended"));
    }
    let is_b2 = matches!(context.settings.which.address(), Address::B2 { .. });
    if is_b2 && report.swept_packs > 0 {
        screen.note(
            "B2 keeps hidden versions of what is deleted: a lifecycle rule of the bucket with \
             daysFromHidingToDeleting = 30 frees the bytes 30 days from now; without such a rule \
             they stay and cost",
        );
    }
    Ok(())
}

/// What goes later, and what for it waits.
fn waits(pending: &[Pending], signs: &Signs, context: &Context<'_>) -> Result<()> {
    for list in pending {
        let mut until = Vec::new();
        if let Some(at) = list.not_before {
            until.push(format!("not before {}", time::show_system(at)));
        }
        for id in &list.waits_for {
            let seen = signs.get(id).map(|at| time::show_system(*at));
            let seen = seen.map(|at| format!(" (its last sign: {at})")).unwrap_or_default();
            until.push(format!("when operation {} has ended{seen}", short_id(id)));
        }
        let until = until.join(", ");
        let comma = if until.is_empty() { "" } else { ", " };
        let (bytes, packs) = (size::show(list.bytes), packs(list.packs));
        context
            .screen
            .line(format_args!("{bytes} in {packs} go with the next gc{comma}{until}"))?;
    }
    Ok(())
}

/// What cannot be freed, and why.
fn stays(plan: &GcPlan, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    if plan.unused_bytes > 0 {
        screen.line(format_args!(
            "{} that nobody needs stay: to move what lies beside them costs more than it frees",
            size::show(plan.unused_bytes)
        ))?;
    }
    if plan.running_packs > 0 {
        screen.line(format_args!(
            "{} in {} belong to operations that run: nobody judges them yet",
            size::show(plan.running_bytes),
            packs(plan.running_packs)
        ))?;
    }
    if plan.quarantined_packs > 0 {
        screen.line(format_args!(
            "{} found damaged: they stay while something in them has no other place",
            count(plan.quarantined_packs as u64, "pack was", "packs were")
        ))?;
    }
    Ok(())
}

fn packs(number: usize) -> String {
    count(number as u64, "pack", "packs")
}

fn record(report: &GcReport, signs: &Signs) -> GcRecord {
    let wait = |id: &OpId| WaitRecord {
        operation: id.hex(),
        last_sign: signs.get(id).and_then(|at| time::rfc3339_system(*at)),
    };
    let pending = |list: &Pending| PendingRecord {
        list: list.list.hex(),
        packs: list.packs,
        bytes: list.bytes,
        waits_for: list.waits_for.iter().map(wait).collect(),
        not_before: list.not_before.and_then(time::rfc3339_system),
    };
    let plan = &report.plan;
    GcRecord {
        snapshots: plan.snapshots,
        packs: plan.packs,
        bytes: plan.bytes,
        dead_packs: plan.dead_packs,
        emptied_packs: plan.emptied_packs,
        merged_packs: plan.merged_packs,
        move_bytes: plan.moved_bytes,
        free_bytes: plan.freed_bytes,
        unused_bytes: plan.unused_bytes,
        running_packs: plan.running_packs,
        running_bytes: plan.running_bytes,
        quarantined_packs: plan.quarantined_packs,
        more_than_half: plan.is_large(),
        freed_packs: report.swept_packs,
        freed_bytes: report.swept_bytes,
        moved_bytes: report.moved.bytes,
        read_bytes: report.moved.bytes_read,
        ended: report.ended.iter().map(OpId::hex).collect(),
        pending: report.pending.iter().map(pending).collect(),
    }
}
