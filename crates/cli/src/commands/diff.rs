//! `diff`: what changed between two snapshots.

use anyhow::Result;
use engine::view::{self, Change};
use serde::Serialize;

use crate::args::Diff;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::entry::{self, EntryRecord};
use crate::ui::size;

#[derive(Serialize)]
struct Document {
    old: String,
    new: String,
    changes: Vec<ChangeRecord>,
    added: u64,
    removed: u64,
    content: u64,
    metadata: u64,
    bytes_added: u64,
    bytes_removed: u64,
    bytes_changed: u64,
    gone_added: u64,
    gone_removed: u64,
}

#[derive(Serialize)]
struct ChangeRecord {
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<EntryRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<EntryRecord>,
}

fn words(change: Change) -> (&'static str, char) {
    match change {
        Change::Added => ("added", '+'),
        Change::Removed => ("removed", '-'),
        Change::Content => ("content", 'M'),
        Change::Metadata => ("metadata", 'U'),
    }
}

pub(crate) fn run(args: &Diff, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let session = &connection.session;
    let old = session.select(&args.old, None, None)?;
    let new = session.select(&args.new, None, None)?;
    let mut changes = Vec::new();
    let mut printed = Ok(());
    let totals = view::diff(session, &old, &new, &mut |one| {
        let view::Difference { change, path, old, new } = one;
        if change == Change::Metadata && !args.metadata {
            return;
        }
        let (word, sign) = words(change);
        if screen.json() {
            let record = |entry| EntryRecord::new(path, entry);
            let (old, new) = (old.map(record), new.map(record));
            changes.push(ChangeRecord { change: word, old, new });
        } else if let (Ok(()), Some(shown)) = (&printed, new.or(old)) {
            printed = screen.line(format_args!("{sign} {}", entry::short(path, shown)));
        }
    })?;
    printed?;
    if screen.json() {
        screen.document(&Document {
            old: old.id.hex(),
            new: new.id.hex(),
            changes,
            added: totals.added,
            removed: totals.removed,
            content: totals.content,
            metadata: totals.metadata,
            bytes_added: totals.bytes_added,
            bytes_removed: totals.bytes_removed,
            bytes_changed: totals.bytes_changed,
            gone_added: totals.gone_added,
            gone_removed: totals.gone_removed,
        })?;
        return Ok(Exit::Done);
    }
    screen.note(format_args!(
        "{} -> {}: {} added ({}), {} removed ({}), {} changed ({}), {} with other metadata only",
        short_id(&old.id),
        short_id(&new.id),
        totals.added,
        size::show(totals.bytes_added),
        totals.removed,
        size::show(totals.bytes_removed),
        totals.content,
        size::show(totals.bytes_changed),
        totals.metadata
    ));
    if totals.gone_added + totals.gone_removed > 0 {
        screen.note(format_args!(
            "files that are gone and kept: {} more, {} no longer",
            totals.gone_added, totals.gone_removed
        ));
    }
    Ok(Exit::Done)
}
