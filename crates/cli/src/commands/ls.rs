//! `ls`: the entries of a snapshot.

use anyhow::Result;
use engine::view;
use serde::Serialize;

use crate::args::Ls;
use crate::commands::Context;
use crate::exit::Exit;
use crate::ui::entry::{self, EntryRecord};

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
    let snapshot = session.select(spec, None, None)?;
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
