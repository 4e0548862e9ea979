//! `pin`: snapshots that stay whatever a policy says.

use anyhow::{Context as _, Result};
use repo::OpId;
use serde::Serialize;

use crate::args::Pin;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;

#[derive(Serialize, Default)]
struct Document {
    pinned: Vec<String>,
    unpinned: Vec<String>,
}

pub(crate) fn run(args: &Pin, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let session = &connection.session;
    let repo = session.repo();
    // all names are looked up before anything is done
    let select = |spec: &String| Ok(session.select(spec, None, None)?.id);
    let ids: Vec<OpId> = args.snapshots.iter().map(select).collect::<Result<_>>()?;
    let mut document = Document::default();
    for id in ids {
        let short = short_id(&id);
        if args.remove {
            let was = repo.unpin(&id).context("cannot unpin the snapshot")?;
            let what = if was { "is not pinned any more" } else { "was not pinned" };
            screen.line(format_args!("snapshot {short} {what}"))?;
            document.unpinned.push(id.hex());
        } else {
            let new = repo.pin(&id).context("cannot pin the snapshot")?;
            let what = if new { "is pinned" } else { "was pinned already" };
            screen.line(format_args!("snapshot {short} {what}"))?;
            document.pinned.push(id.hex());
        }
    }
    if screen.json() {
        screen.document(&document)?;
    }
    Ok(Exit::Done)
}
