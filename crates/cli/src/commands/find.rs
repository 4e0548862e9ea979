//! `find`: entries by name, in one snapshot or in all.

use anyhow::Result;
use engine::view::{self, FindOptions};
use serde::Serialize;

use crate::args::Find;
use crate::commands::Context;
use crate::commands::damaged::{self, DamagedRecord};
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::count;
use crate::ui::entry::{self, EntryRecord};

#[derive(Serialize)]
struct Document {
    matches: Vec<MatchRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_snapshots: Vec<DamagedRecord>,
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
    let (snapshots, damaged) = match &args.snapshot {
        Some(spec) => (vec![session.select(spec, None, None)?], Vec::new()),
        None => session.snapshots_listed()?,
    };
    let options = FindOptions { globs: args.globs.clone(), ignore_case: args.ignore_case };
    let found = view::find(session, &snapshots, &options)?;
    let (matches, damaged) = (found.all, [damaged, found.damaged].concat());
    let exit = damaged::tell(&damaged, screen, Exit::Done);
    if screen.json() {
        let record = |found: &view::Match| MatchRecord {
            entry: EntryRecord::new(&found.path, &found.entry),
            snapshots: found.snapshots.iter().map(repo::OpId::hex).collect(),
        };
        let matches = matches.iter().map(record).collect();
        let damaged_snapshots = damaged::records(&damaged);
        screen.document(&Document { matches, damaged_snapshots })?;
        return Ok(exit);
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
    let passed = snapshots.iter().filter(|s| damaged.iter().any(|one| one.id == s.id)).count();
    let all = count((snapshots.len() - passed) as u64, "snapshot", "snapshots");
    screen.note(format_args!("{} in {all}", count(matches.len() as u64, "match", "matches")));
    Ok(exit)
}
