//! `undelete`: forgotten snapshots come back.

use anyhow::{Context as _, Result};
use engine::undelete;
use repo::OpId;
use serde::Serialize;

use crate::args::Undelete;
use crate::commands::Context;
use crate::commands::snapshots::{SnapshotRecord, contents, short_id};
use crate::exit::Exit;
use crate::ui::time;

#[derive(Serialize)]
struct Document {
    undeleted: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    forgotten: String,
    snapshot: SnapshotRecord,
}

pub(crate) fn run(args: &Undelete, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open_patiently()?;
    let session = &connection.session;
    let select = |spec: &String| Ok(undelete::select(session, spec)?);
    let ids: Vec<OpId> = args.snapshots.iter().map(select).collect::<Result<_>>()?;
    let mut undeleted = Vec::new();
    for id in ids {
        let snapshot = undelete::undelete(session, &id)
            .with_context(|| format!("cannot bring snapshot {} back", short_id(&id)))?;
        let (old, new) = (short_id(&id), short_id(&snapshot.id));
        let made = time::show_nanos(snapshot.finished_nanos);
        screen.line(format_args!(
            "snapshot {old} of {}, made {made}, is back as {new}",
            contents(&snapshot)
        ))?;
        undeleted.push(Record { forgotten: id.hex(), snapshot: (&snapshot).into() });
    }
    screen.note("agent-backup pin keeps a snapshot that the policy would forget again");
    if screen.json() {
        screen.document(&Document { undeleted })?;
    }
    Ok(Exit::Done)
}
