//! What a pull would do and what it did, as text and as documents.

use anyhow::Result;
use engine::pull::moves::Rewrite;
use engine::pull::{self, Action, Plan, Report};
use repo::Snapshot;
use serde::Serialize;

use super::moved::{self, Mapped};
use super::session::CatalogueRecord;
use crate::commands::Context;
use crate::commands::damaged::DamagedRecord;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::progress::{Told, records};
use crate::ui::{count, json, sanitize, size};

/// What a restore of sessions adds to a document.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SessionPart {
    pub(super) sessions: Vec<String>,
    pub(super) catalogues: Vec<CatalogueRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) damaged_snapshots: Vec<DamagedRecord>,
}

#[derive(Serialize)]
struct DryDocument {
    dry_run: bool,
    snapshot: String,
    items: Vec<ItemRecord>,
    totals: TotalsRecord,
    safety_snapshot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<String>,
    #[serde(flatten)]
    moved: moved::Record,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    session: Option<SessionPart>,
}

/// What would come before.
pub(super) struct Ahead<'m> {
    /// Agents that run: nothing would be restored.
    pub(super) running: Option<String>,
    /// A safety snapshot is needed.
    pub(super) saved: bool,
    /// The move, and what it would rewrite.
    pub(super) mapped: &'m Mapped,
    pub(super) rewrites: Vec<Rewrite>,
    /// Of a restore of sessions.
    pub(super) session: Option<SessionPart>,
}

#[derive(Serialize)]
struct ItemRecord {
    #[serde(flatten)]
    path: json::Path,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    bytes: u64,
    fetch: u64,
}

#[derive(Serialize)]
struct TotalsRecord {
    create: u64,
    replace: u64,
    patch: u64,
    metadata: u64,
    leave: u64,
    delete: u64,
    skip: u64,
    refuse: u64,
    bytes: u64,
    fetch: u64,
}

fn reason(action: &Action) -> Option<&String> {
    match action {
        Action::Skip(reason) | Action::Refuse(reason) => Some(reason),
        _ => None,
    }
}

/// Shows the plan. An entry that would not be restored makes the exit code of the real run.
pub(super) fn dry_run(
    plan: &Plan,
    snapshot: &Snapshot,
    ahead: &Ahead<'_>,
    context: &Context<'_>,
) -> Result<Exit> {
    let screen = context.screen;
    let t = &plan.totals;
    let exit = if t.refuse > 0 { Exit::Incomplete } else { Exit::Done };
    if screen.json() {
        let item = |item: &pull::Item| ItemRecord {
            path: json::Path::new(&item.path),
            action: item.action.word(),
            reason: reason(&item.action).cloned(),
            bytes: item.bytes,
            fetch: item.fetch,
        };
        screen.document(&DryDocument {
            dry_run: true,
            snapshot: snapshot.id.hex(),
            items: plan.items.iter().map(item).collect(),
            totals: TotalsRecord {
                create: t.create,
                replace: t.replace,
                patch: t.patch,
                metadata: t.metadata,
                leave: t.leave,
                delete: t.delete,
                skip: t.skip,
                refuse: t.refuse,
                bytes: t.bytes,
                fetch: t.fetch,
            },
            safety_snapshot: ahead.saved,
            running: ahead.running.clone(),
            moved: ahead.mapped.record(plan, &ahead.rewrites),
            session: ahead.session.clone(),
        })?;
        return Ok(exit);
    }
    for item in &plan.items {
        if item.action == Action::Leave && screen.verbose() == 0 {
            continue;
        }
        let why = reason(&item.action).map(|why| format!(": {}", sanitize::text(why)));
        let (word, path) = (item.action.word(), sanitize::bytes(&item.path));
        screen.line(format_args!("{word:<8} {path}{}", why.unwrap_or_default()))?;
    }
    ahead.mapped.list(plan, &ahead.rewrites, context)?;
    screen.note(format_args!(
        "dry run: {} to make, {} to replace, {} to set right, {} as they should be, {} to delete; \
         {} to write, {} to fetch",
        t.create,
        t.replace + t.patch,
        t.metadata,
        t.leave,
        t.delete,
        size::show(t.bytes),
        size::show(t.fetch)
    ));
    if ahead.saved {
        screen.note("what is there would be saved in a safety snapshot first");
    }
    if let Some(running) = &ahead.running {
        screen.note(format_args!("a restore would be refused: {}", sanitize::text(running)));
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Document {
    snapshot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_snapshot: Option<String>,
    created: u64,
    replaced: u64,
    patched: u64,
    metadata: u64,
    left: u64,
    deleted: u64,
    verified: u64,
    bytes_written: u64,
    bytes_kept: u64,
    bytes_fetched: u64,
    rows_kept: u64,
    secrets_kept: u64,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
    skipped: Vec<json::Problem>,
    blanks: Vec<BlankRecord>,
    #[serde(flatten)]
    moved: moved::Record,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    session: Option<SessionPart>,
}

/// Fields that somebody has to fill in.
#[derive(Serialize)]
struct BlankRecord {
    #[serde(flatten)]
    path: json::Path,
    fields: Vec<String>,
}

/// Files with blanks that are named one by one.
const BLANKS_SHOWN_MAX: usize = 20;

/// Tells what was done.
pub(super) fn tell(
    report: &Report,
    (mapped, plan): (&Mapped, &Plan),
    told: &[Told],
    snapshot: &Snapshot,
    saved: Option<&Snapshot>,
    session: Option<SessionPart>,
    context: &Context<'_>,
) -> Result<Exit> {
    let screen = context.screen;
    let exit = if report.is_complete() { Exit::Done } else { Exit::Incomplete };
    if screen.json() {
        let problem = |one: &pull::Problem| json::Problem {
            path: json::Path::new(&one.path),
            what: one.reason.clone(),
        };
        screen.document(&Document {
            snapshot: snapshot.id.hex(),
            safety_snapshot: saved.map(|saved| saved.id.hex()),
            created: report.created,
            replaced: report.replaced,
            patched: report.patched,
            metadata: report.metadata,
            left: report.left,
            deleted: report.deleted,
            verified: report.verified,
            bytes_written: report.bytes_written,
            bytes_kept: report.bytes_kept,
            bytes_fetched: report.bytes_fetched,
            rows_kept: report.rows_kept,
            secrets_kept: report.secrets_kept,
            problems: report.problems.iter().map(problem).collect(),
            notices: records(told, true),
            skipped: report.skipped.iter().map(problem).collect(),
            blanks: report
                .blanks
                .iter()
                .map(|blank| BlankRecord {
                    path: json::Path::new(&blank.path),
                    fields: blank.fields.clone(),
                })
                .collect(),
            moved: mapped.record(plan, &report.rewrites),
            session,
        })?;
        return Ok(exit);
    }
    for skipped in &report.skipped {
        let path = sanitize::bytes(&skipped.path);
        screen.detail(format_args!("skipped: {path}: {}", sanitize::text(&skipped.reason)));
    }
    let mut parts = vec![format!("{} made", report.created)];
    for (number, word) in [
        (report.replaced, "replaced"),
        (report.metadata, "set right"),
        (report.left, "as they should be"),
        (report.deleted, "deleted"),
        (report.skipped.len() as u64, "skipped"),
        (report.verified, "read again and right"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    screen.line(format_args!(
        "restored snapshot {}: {}; {} written, {} fetched",
        short_id(&snapshot.id),
        parts.join(", "),
        size::show(report.bytes_written),
        size::show(report.bytes_fetched)
    ))?;
    if report.rows_kept > 0 {
        let rows = count(report.rows_kept, "row", "rows");
        screen.detail(format_args!("{rows} that no backup has, such as logins, were kept"));
    }
    if report.secrets_kept > 0 {
        let secrets = count(report.secrets_kept, "secret", "secrets");
        screen.detail(format_args!("{secrets} that no backup has took the place of marks again"));
    }
    mapped.tell(plan, &report.rewrites, context);
    if !report.blanks.is_empty() {
        let files = count(report.blanks.len() as u64, "file has", "files have");
        screen.note(format_args!(
            "{files} values that never left their machine; fill them in by hand:"
        ));
    }
    for blank in report.blanks.iter().take(BLANKS_SHOWN_MAX) {
        let fields: Vec<String> = blank.fields.iter().map(|f| sanitize::text(f)).collect();
        screen.note(format_args!("  {}: {}", sanitize::bytes(&blank.path), fields.join(", ")));
    }
    if report.blanks.len() > BLANKS_SHOWN_MAX {
        let more = report.blanks.len() - BLANKS_SHOWN_MAX;
        screen.note(format_args!("  and {more} more files; --json names all"));
    }
    if exit == Exit::Incomplete {
        let items = count(report.problems.len() as u64, "item was", "items were");
        screen.note(format_args!("{items} not restored, each named above (code 5)"));
    }
    Ok(exit)
}
