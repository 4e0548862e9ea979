//! `pin`: snapshots that stay whatever a policy says.

use anyhow::{Context as _, Result};
use engine::{Session, gone};
use repo::OpId;
use serde::Serialize;

use crate::args::Pin;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::{sanitize, time};

#[derive(Serialize, Default)]
struct Document {
    pinned: Vec<String>,
    unpinned: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<AlarmRecord>,
}

/// An alarm that is over.
#[derive(Serialize)]
struct AlarmRecord {
    agent: String,
    gone: u64,
    of: u64,
    before: String,
    noticed: Option<String>,
}

pub(crate) fn run(args: &Pin, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let session = &connection.session;
    if args.acknowledge {
        return acknowledge(session, context);
    }
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
            let new = gone::pin(session, &id).context("cannot pin the snapshot")?;
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

fn acknowledge(session: &Session, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let done = gone::acknowledge(session, context.signals.graceful())?;
    if done.alarms.is_empty() {
        screen.line("there is no alarm")?;
    }
    for alarm in &done.alarms {
        let agent = sanitize::text(&alarm.agent);
        let (gone, of) = (alarm.gone, alarm.of);
        screen.line(format_args!("{agent}: {gone} of {of} files gone; acknowledged"))?;
    }
    for id in &done.unpinned {
        screen.line(format_args!("snapshot {} is not pinned any more", short_id(id)))?;
    }
    if screen.json() {
        let record = |alarm: &gone::Alarm| AlarmRecord {
            agent: alarm.agent.clone(),
            gone: alarm.gone,
            of: alarm.of,
            before: alarm.before.clone(),
            noticed: time::rfc3339(alarm.at_secs, 0),
        };
        screen.document(&Document {
            unpinned: done.unpinned.iter().map(OpId::hex).collect(),
            alarms: done.alarms.iter().map(record).collect(),
            ..Document::default()
        })?;
    }
    Ok(Exit::Done)
}
