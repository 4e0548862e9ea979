//! `ls`: the entries of a snapshot.

use anyhow::Result;
use engine::gone::Since;
use engine::view;
use repo::Snapshot;
use serde::Serialize;

use crate::args::Ls;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::entry::{self, EntryRecord};
use crate::ui::{Screen, count, size, time};

#[derive(Serialize)]
struct GoneDocument {
    snapshot: String,
    gone: Vec<EntryRecord>,
}

#[derive(Serialize)]
struct Document {
    snapshot: String,
    entries: Vec<EntryRecord>,
}

pub(crate) fn run(args: &Ls, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let session = &connection.session;
    let (spec, path) = view::split_spec(&args.snapshot);
    let snapshot = session.select(spec, None, args.host.as_deref())?;
    if args.gone {
        return gone(args, &view::gone(session, &snapshot, path.as_bytes())?, &snapshot, screen);
    }
    let mut entries = Vec::new();
    let mut printed = Ok(());
    view::ls(session, &snapshot, path.as_bytes(), args.recursive, &mut |path, entry| {
        if screen.json() {
            entries.push(EntryRecord::new(path, entry));
        } else if printed.is_ok() {
            let show = if args.long { entry::long } else { entry::short };
            printed = screen.line(show(path, entry));
        }
    })?;
    printed?;
    if screen.json() {
        screen.document(&Document { snapshot: snapshot.id.hex(), entries })?;
    }
    Ok(Exit::Done)
}

/// What is gone: since when, and the path that it had.
fn gone(args: &Ls, all: &[view::Gone], snapshot: &Snapshot, screen: &Screen) -> Result<Exit> {
    if screen.json() {
        let record = |one: &view::Gone| EntryRecord::new(&one.stored_path(), &one.entry);
        let gone = all.iter().map(record).collect();
        screen.document(&GoneDocument { snapshot: snapshot.id.hex(), gone })?;
        return Ok(Exit::Done);
    }
    for one in all {
        let since = match one.since {
            Since::At(secs) => time::show_nanos(secs.saturating_mul(1_000_000_000)),
            Since::Unseen => "cannot be looked at".to_owned(),
        };
        let show = if args.long { entry::long } else { entry::short };
        screen.line(format_args!("{since}  {}", show(&one.path, &one.entry)))?;
    }
    let bytes = all.iter().map(|one| one.entry.size).sum();
    let files = count(all.len() as u64, "file", "files");
    screen.note(format_args!(
        "{files} ({}) kept in snapshot {}; 'agent-backup pull --gone' restores them",
        size::show(bytes),
        short_id(&snapshot.id)
    ));
    Ok(Exit::Done)
}
