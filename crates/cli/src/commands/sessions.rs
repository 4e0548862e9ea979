//! `sessions`: the conversations of agents over all snapshots; `sessions show`: one of them.

mod show;

use std::path::Path;

use anyhow::Result;
use engine::sessions::{self, Found};
use serde::Serialize;

use crate::args::{Sessions, SessionsCommand};
use crate::commands::Context;
use crate::commands::damaged::{self, DamagedRecord};
use crate::commands::named;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::settings::absolute;
use crate::ui::table::{Align, Table};
use crate::ui::{count, json, sanitize, size, time};

/// Characters of a title that are shown.
const TITLE_CHARS: usize = 60;

#[derive(Serialize)]
struct Document {
    sessions: Vec<SessionRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Unread>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_snapshots: Vec<DamagedRecord>,
}

/// A session in documents.
#[derive(Serialize)]
pub(crate) struct SessionRecord {
    agent: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sub_agent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    snapshot: String,
    host: String,
    machine: String,
    here: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    longer: Option<LongerRecord>,
    places: Vec<PlaceRecord>,
}

#[derive(Serialize)]
struct LongerRecord {
    snapshot: String,
    bytes: u64,
}

#[derive(Serialize)]
struct PlaceRecord {
    snapshot: String,
    #[serde(flatten)]
    path: json::Path,
}

#[derive(Serialize)]
struct Unread {
    snapshot: String,
    #[serde(flatten)]
    problem: json::Problem,
}

impl From<&Found> for SessionRecord {
    fn from(found: &Found) -> Self {
        let place = |place: &sessions::Place| PlaceRecord {
            snapshot: place.snapshot.hex(),
            path: json::Path::new(&place.path),
        };
        Self {
            agent: found.agent.clone(),
            id: found.id.clone(),
            title: found.title.clone(),
            project: found.project.clone(),
            parent: found.parent.clone(),
            sub_agent: found.sub_agent,
            first: found.first_ms.and_then(time::rfc3339_millis),
            last: found.last_ms.and_then(time::rfc3339_millis),
            messages: found.messages,
            bytes: found.bytes,
            snapshot: found.newest.hex(),
            host: found.host.clone(),
            machine: found.machine.hex(),
            here: found.here,
            longer: found.longer.map(|(id, bytes)| LongerRecord { snapshot: id.hex(), bytes }),
            places: found.places.iter().map(place).collect(),
        }
    }
}

pub(crate) fn run(args: &Sessions, context: &Context<'_>) -> Result<Exit> {
    if let Some(SessionsCommand::Show(args)) = &args.command {
        return show::run(args, context);
    }
    let screen = context.screen;
    let connection = context.open()?;
    let adapters = context.settings.adapters()?;
    named::check(&args.agent, &connection.session, &context.settings)?;
    let cancel = context.signals.graceful();
    let found = sessions::find(&connection.session, &adapters, cancel)?;
    let project = args.project.as_ref().map(|dir| absolute(Path::new(dir))).transpose()?;
    let project = project.map(|dir| dir.to_string_lossy().into_owned());
    let fits = |one: &&Found| wanted(one, args, project.as_deref());
    let shown: Vec<&Found> = found.all.iter().filter(fits).collect();
    let exit = if found.unread.is_empty() { Exit::Done } else { Exit::Damage };
    let exit = damaged::tell(&found.damaged, screen, exit);
    if screen.json() {
        let problems = found.unread.iter().map(|(path, snapshot, what)| Unread {
            snapshot: snapshot.hex(),
            problem: json::Problem { path: json::Path::new(path), what: what.clone() },
        });
        screen.document(&Document {
            sessions: shown.into_iter().map(SessionRecord::from).collect(),
            problems: problems.collect(),
            damaged_snapshots: damaged::records(&found.damaged),
        })?;
        return Ok(exit);
    }
    if shown.is_empty() {
        screen.note(if found.all.is_empty() { "no sessions" } else { "no session fits" });
    } else {
        for line in table(&shown).lines() {
            screen.line(line)?;
        }
        let gone = shown.iter().filter(|one| !one.here).count() as u64;
        let all = count(shown.len() as u64, "session", "sessions");
        screen.note(format_args!("{all}, {gone} of them gone from their agent"));
    }
    for one in shown.iter().filter(|one| one.longer.is_some()) {
        if let Some((snapshot, bytes)) = one.longer {
            screen.note(format_args!(
                "{}: snapshot {} has more of it ({})",
                sanitize::text(&one.id),
                short_id(&snapshot),
                size::show(bytes)
            ));
        }
    }
    for (path, snapshot, what) in &found.unread {
        let (path, what) = (sanitize::bytes(path), sanitize::text(what));
        screen.note(format_args!("not read: {path} in snapshot {}: {what}", short_id(snapshot)));
    }
    Ok(exit)
}

/// Is this one asked for?
fn wanted(found: &Found, args: &Sessions, project: Option<&str>) -> bool {
    let has = |text: &str| {
        let text = text.to_lowercase();
        let all = [Some(&found.id), found.title.as_ref(), found.project.as_ref()];
        all.into_iter().flatten().any(|one| one.to_lowercase().contains(&text))
    };
    let below = |top: &str| {
        let rest =
            found.project.as_ref().and_then(|dir| dir.strip_prefix(top.trim_end_matches('/')));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    (args.all || !found.sub_agent)
        && args.text.as_deref().is_none_or(has)
        && args.agent.as_ref().is_none_or(|agent| found.agent == *agent)
        && args.host.as_ref().is_none_or(|host| found.host == *host)
        && project.is_none_or(below)
        && args.since.is_none_or(|since| found.last_ms.is_some_and(|last| last >= since))
        && (!args.gone || !found.here)
}

fn table(sessions: &[&Found]) -> Table {
    let mut table = Table::new(&[
        ("LAST", Align::Left),
        ("FIRST", Align::Left),
        ("AGENT", Align::Left),
        ("HOST", Align::Left),
        ("ID", Align::Left),
        ("SIZE", Align::Right),
        ("SNAPSHOT", Align::Left),
        ("STATE", Align::Left),
        ("PROJECT", Align::Left),
        ("TITLE", Align::Left),
    ]);
    for one in sessions {
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), time::show_millis);
        table.row(vec![
            time(one.last_ms),
            time(one.first_ms),
            sanitize::text(&one.agent),
            sanitize::text(&one.host),
            sanitize::text(&one.id),
            one.bytes.map_or_else(|| "-".to_owned(), size::show),
            short_id(&one.newest),
            if one.here { "here" } else { "gone" }.to_owned(),
            sanitize::text(one.project.as_deref().unwrap_or("-")),
            title(one),
        ]);
    }
    table
}

/// A title that fits into a line.
fn title(found: &Found) -> String {
    let title = found.title.as_deref().unwrap_or("-");
    let cut: String = title.chars().take(TITLE_CHARS).collect();
    let more = if cut.len() < title.len() { "..." } else { "" };
    sanitize::text(&cut) + more
}
