//! `find`: entries by name, in one snapshot or in all.

use anyhow::Result;
use engine::view::{self, FindOptions};
use serde::Serialize;

use crate::args::Find;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::count;
use crate::ui::entry::{self, EntryRecord};

#[derive(Serialize)]
struct Document {
    matches: Vec<MatchRecord>,
}

#[derive(Serialize)]
struct MatchRecord {
    #[serde(flatten)]
    entry: EntryRecord,
    snapshots: Vec<String>,
}

pub(crate) fn run(args: &Find, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let session = &connection.session;
    let snapshots = match &args.snapshot {
        Some(spec) => vec![session.select(spec, None, None)?],
        None => session.snapshots()?,
    };
    let options = FindOptions { globs: args.globs.clone(), ignore_case: args.ignore_case };
    let matches = view::find(session, &snapshots, &options)?;
    if screen.json() {
        let record = |found: &view::Match| MatchRecord {
            entry: EntryRecord::new(&found.path, &found.entry),
            snapshots: found.snapshots.iter().map(repo::OpId::hex).collect(),
        };
        screen.document(&Document { matches: matches.iter().map(record).collect() })?;
        return Ok(Exit::Done);
    }
    for found in &matches {
        let show = if args.long { entry::long } else { entry::short };
        let ids = match found.snapshots.as_slice() {
            [first, .., last] => {
                let all = count(found.snapshots.len() as u64, "snapshot", "snapshots");
                format!("{} .. {} ({all})", short_id(first), short_id(last))
            }
            one => one.iter().map(short_id).collect(),
        };
        screen.line(format_args!("{}   in {ids}", show(&found.path, &found.entry)))?;
    }
    let all = count(snapshots.len() as u64, "snapshot", "snapshots");
    screen.note(format_args!("{} in {all}", count(matches.len() as u64, "match", "matches")));
    Ok(Exit::Done)
}
