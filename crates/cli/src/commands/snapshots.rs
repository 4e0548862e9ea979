//! `snapshots`: what there is.

use std::collections::BTreeSet;

use anyhow::Result;
use engine::forget::Scope;
use repo::{OpId, Snapshot};
use serde::Serialize;

use crate::args::Snapshots;
use crate::commands::Context;
use crate::commands::damaged::{self, DamagedRecord};
use crate::commands::named;
use crate::exit::Exit;
use crate::ui::table::{Align, Table};
use crate::ui::{count, json, sanitize, size, time};

/// Digits of an id that are shown: unique in any repository a person will have.
pub(crate) const ID_DIGITS: usize = 12;

/// A snapshot in documents.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotRecord {
    id: String,
    time: Option<String>,
    started: Option<String>,
    host: String,
    user: String,
    machine: String,
    os: String,
    program: String,
    agents: Vec<String>,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    roots: Vec<RootRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<json::Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<ImportRecord>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    tree: String,
    stats: StatsRecord,
}

/// The program that made a snapshot, and its name there.
#[derive(Debug, Serialize)]
struct ImportRecord {
    from: String,
    name: String,
}

/// Whether what an adapter wants from one moment is.
#[derive(Debug, Serialize)]
struct GroupRecord {
    name: String,
    consistent: bool,
}

#[derive(Debug, Serialize)]
struct RootRecord {
    label: String,
    agent: Option<String>,
    #[serde(flatten)]
    dir: json::Path,
}

/// What a push did, in documents.
#[derive(Debug, Serialize)]
pub(crate) struct StatsRecord {
    entries: u64,
    bytes: u64,
    files_read: u64,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    problems: u64,
    entries_changed: u64,
    gone_entries: u64,
    gone_bytes: u64,
}

impl From<&repo::PushStats> for StatsRecord {
    fn from(stats: &repo::PushStats) -> Self {
        Self {
            entries: stats.entries,
            bytes: stats.bytes,
            files_read: stats.files_read,
            bytes_read: stats.bytes_read,
            bytes_new: stats.bytes_new,
            bytes_stored: stats.bytes_stored,
            problems: stats.problems,
            entries_changed: stats.entries_changed,
            gone_entries: stats.gone_entries,
            gone_bytes: stats.gone_bytes,
        }
    }
}

impl From<&Snapshot> for SnapshotRecord {
    fn from(s: &Snapshot) -> Self {
        let root = |root: &repo::RootRecord| RootRecord {
            label: root.label.clone(),
            agent: root.agent.clone(),
            dir: json::Path::new(&root.dir),
        };
        let group = |group: &repo::GroupRecord| GroupRecord {
            name: group.name.clone(),
            consistent: group.consistent,
        };
        Self {
            id: s.id.hex(),
            time: time::rfc3339_nanos(s.finished_nanos),
            started: time::rfc3339_nanos(s.started_nanos),
            host: s.host.clone(),
            user: s.user.clone(),
            machine: s.machine.hex(),
            os: s.os.clone(),
            program: s.program.clone(),
            agents: s.agents().into_iter().map(str::to_owned).collect(),
            tags: s.tags.clone(),
            reason: s.reason.clone(),
            previous: s.previous.map(|id| id.hex()),
            roots: s.roots.iter().map(root).collect(),
            groups: s.groups.iter().map(group).collect(),
            damaged: s.damaged.iter().map(|path| json::Path::new(path)).collect(),
            imported: s.imported.as_ref().map(|imported| ImportRecord {
                from: imported.from.clone(),
                name: imported.name.clone(),
            }),
            pinned: false,
            tree: s.tree.hex(),
            stats: (&s.stats).into(),
        }
    }
}

#[derive(Serialize)]
struct Document {
    snapshots: Vec<SnapshotRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_snapshots: Vec<DamagedRecord>,
}

/// The id as it is shown.
pub(crate) fn short_id(id: &OpId) -> String {
    id.hex()[..ID_DIGITS].to_owned()
}

/// Agents and labels of plain directories, for a table.
pub(crate) fn contents(s: &Snapshot) -> String {
    let mut names: Vec<&str> = s.agents();
    names.extend(s.roots.iter().filter(|r| r.agent.is_none()).map(|r| r.label.as_str()));
    sanitize::text(&names.join(", "))
}

/// What is special about a snapshot, for a table.
fn marks(s: &Snapshot, pinned: bool) -> String {
    let mut marks = Vec::new();
    if pinned {
        marks.push("pinned".to_owned());
    }
    marks.extend(s.reason.as_deref().map(sanitize::text));
    marks.extend(s.imported.is_some().then(|| "imported".to_owned()));
    if !s.damaged.is_empty() {
        marks.push(count(s.damaged.len() as u64, "damaged database", "damaged databases"));
    }
    marks.join(", ")
}

pub(crate) fn run(args: &Snapshots, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let session = &connection.session;
    named::check(&args.agent, session, &context.settings)?;
    let scope =
        Scope { host: args.host.clone(), agent: args.agent.clone(), tags: args.tags.clone() };
    let (mut lost, mut snapshots, mut damaged) = (0, Vec::new(), Vec::new());
    if args.forgotten {
        for one in engine::undelete::forgotten(session)? {
            if one.whole {
                snapshots.push(one.snapshot);
            } else {
                lost += 1;
            }
        }
    } else {
        (snapshots, damaged) = session.snapshots_listed()?;
    }
    snapshots.retain(|s| scope.has(s));
    let pinned = session.repo().pinned()?;
    if screen.json() {
        let record = |s: &Snapshot| SnapshotRecord { pinned: pinned.contains(&s.id), ..s.into() };
        let snapshots = snapshots.iter().map(record).collect();
        let damaged_snapshots = damaged::records(&damaged);
        screen.document(&Document { snapshots, damaged_snapshots })?;
        return Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damage });
    }
    if snapshots.is_empty() {
        screen.note(if args.forgotten { "no forgotten snapshots" } else { "no snapshots" });
    } else {
        for line in table(&snapshots, &pinned).lines() {
            screen.line(line)?;
        }
        screen.note(count(snapshots.len() as u64, "snapshot", "snapshots"));
    }
    if lost > 0 {
        let more = count(lost, "more was forgotten and cannot", "more were forgotten and cannot");
        screen.note(format_args!("{more} be brought back: a collection removed what it needed"));
    }
    Ok(damaged::tell(&damaged, screen, Exit::Done))
}

fn table(snapshots: &[Snapshot], pinned: &BTreeSet<OpId>) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("HOST", Align::Left),
        ("SIZE", Align::Right),
        ("STORED", Align::Right),
        ("CONTENTS", Align::Left),
        ("TAGS", Align::Left),
        ("MARKS", Align::Left),
    ]);
    for s in snapshots {
        table.row(vec![
            short_id(&s.id),
            time::show_nanos(s.finished_nanos),
            sanitize::text(&s.host),
            size::show(s.stats.bytes),
            size::show(s.stats.bytes_stored),
            contents(s),
            sanitize::text(&s.tags.join(", ")),
            marks(s, pinned.contains(&s.id)),
        ]);
    }
    table
}
