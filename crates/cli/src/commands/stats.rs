//! `stats`: what the repository holds, and what each snapshot added.

use anyhow::Result;
use engine::view;
use serde::Serialize;

use crate::commands::Context;
use crate::commands::damaged::{self, DamagedRecord};
use crate::commands::snapshots::{SnapshotRecord, contents, short_id};
use crate::exit::Exit;
use crate::ui::table::{Align, Table};
use crate::ui::{sanitize, size, time};

#[derive(Serialize)]
struct Document {
    snapshots_count: u64,
    content_bytes: u64,
    unique_bytes: u64,
    sealed_bytes: u64,
    metadata_bytes: u64,
    stored_bytes: u64,
    objects: u64,
    dedup_ratio: Option<f64>,
    compression_ratio: Option<f64>,
    agents: Vec<AgentRecord>,
    snapshots: Vec<SnapshotRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_snapshots: Vec<DamagedRecord>,
}

#[derive(Serialize)]
struct AgentRecord {
    agent: Option<String>,
    snapshots: u64,
    newest: String,
    entries: u64,
    bytes: u64,
    gone_entries: u64,
    gone_bytes: u64,
}

pub(crate) fn run(context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open()?;
    let stats = view::stats(&connection.session)?;
    let exit = damaged::tell(&stats.damaged, screen, Exit::Done);
    if screen.json() {
        screen.document(&document(&stats))?;
        return Ok(exit);
    }
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
    screen.line(format_args!("snapshots        {}", stats.snapshots.len()))?;
    screen.line(format_args!("content of all   {}", size::show(stats.content_bytes)))?;
    screen.line(format_args!("unique content   {}", size::show(stats.unique_bytes)))?;
    let kept = format!("{} in {} objects", size::show(stats.stored_bytes), stats.objects);
    screen.line(format_args!("stored           {kept}"))?;
    screen.line(format_args!("deduplication    {} : 1", ratio(stats.dedup_ratio())))?;
    screen.line(format_args!("compression      {} : 1", ratio(stats.compression_ratio())))?;
    for table in [agents(&stats), snapshots(&stats)] {
        screen.line("")?;
        for line in table.lines() {
            screen.line(line)?;
        }
    }
    Ok(exit)
}

fn agents(stats: &view::Stats) -> Table {
    let mut table = Table::new(&[
        ("AGENT", Align::Left),
        ("SNAPSHOTS", Align::Right),
        ("NEWEST", Align::Left),
        ("ENTRIES", Align::Right),
        ("SIZE", Align::Right),
        ("GONE", Align::Right),
        ("SIZE", Align::Right),
    ]);
    for one in &stats.agents {
        table.row(vec![
            one.agent.as_deref().map_or("(directories)".to_owned(), sanitize::text),
            one.snapshots.to_string(),
            short_id(&one.newest),
            one.entries.to_string(),
            size::show(one.bytes),
            one.gone_entries.to_string(),
            size::show(one.gone_bytes),
        ]);
    }
    table
}

fn snapshots(stats: &view::Stats) -> Table {
    let mut table = Table::new(&[
        ("SNAPSHOT", Align::Left),
        ("TIME", Align::Left),
        ("SIZE", Align::Right),
        ("ADDED", Align::Right),
        ("STORED", Align::Right),
        ("CONTENTS", Align::Left),
    ]);
    for s in &stats.snapshots {
        table.row(vec![
            short_id(&s.id),
            time::show_nanos(s.finished_nanos),
            size::show(s.stats.bytes),
            size::show(s.stats.bytes_new),
            size::show(s.stats.bytes_stored),
            contents(s),
        ]);
    }
    table
}

fn document(stats: &view::Stats) -> Document {
    let agent = |one: &view::AgentStats| AgentRecord {
        agent: one.agent.clone(),
        snapshots: one.snapshots,
        newest: one.newest.hex(),
        entries: one.entries,
        bytes: one.bytes,
        gone_entries: one.gone_entries,
        gone_bytes: one.gone_bytes,
    };
    Document {
        snapshots_count: stats.snapshots.len() as u64,
        content_bytes: stats.content_bytes,
        unique_bytes: stats.unique_bytes,
        sealed_bytes: stats.sealed_bytes,
        metadata_bytes: stats.metadata_bytes,
        stored_bytes: stats.stored_bytes,
        objects: stats.objects,
        dedup_ratio: stats.dedup_ratio(),
        compression_ratio: stats.compression_ratio(),
        agents: stats.agents.iter().map(agent).collect(),
        snapshots: stats.snapshots.iter().map(Into::into).collect(),
        damaged_snapshots: damaged::records(&stats.damaged),
    }
}
