//! `grep`: text in the files of all snapshots.

use std::ops::ControlFlow;

use anyhow::Result;
use data_encoding::BASE64;
use engine::Session;
use engine::grep::{self, FileFound, LineFound, Listener, Options, Stats, Wanted};
use repo::{OpId, Snapshot};
use serde::Serialize;

use crate::args::Grep;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::progress::{Meter, records};
use crate::ui::{Screen, count, json, sanitize, size};

#[derive(Serialize)]
struct Document {
    files: Vec<FileRecord>,
    searched: SearchedRecord,
    problems: Vec<json::Problem>,
}

#[derive(Serialize)]
struct FileRecord {
    #[serde(flatten)]
    path: json::Path,
    gone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    snapshots: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<LineRecord>,
}

#[derive(Serialize)]
struct LineRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    offset: u64,
    length: u64,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base64: Option<String>,
    text_offset: u64,
    match_offset: u64,
    match_length: u64,
    snapshots: Vec<String>,
}

#[derive(Serialize)]
struct SearchedRecord {
    snapshots: u64,
    files: u64,
    contents: u64,
    content_bytes: u64,
    blocks_read: u64,
    bytes_read: u64,
    bytes_searched: u64,
    lines_in_windows: u64,
}

impl From<&Stats> for SearchedRecord {
    fn from(stats: &Stats) -> Self {
        Self {
            snapshots: stats.snapshots,
            files: stats.files,
            contents: stats.contents,
            content_bytes: stats.content_bytes,
            blocks_read: stats.blocks_read,
            bytes_read: stats.bytes_read,
            bytes_searched: stats.bytes_searched,
            lines_in_windows: stats.lines_in_windows,
        }
    }
}

/// Prints what is found as it comes, or keeps it for a document.
struct Output<'a> {
    screen: &'a Screen,
    meter: Meter,
    wanted: Wanted,
    /// Snapshots are not shown where there is only one.
    one_snapshot: bool,
    records: Vec<FileRecord>,
    files: u64,
    lines: u64,
    stopped: Result<()>,
}

impl Listener for Output<'_> {
    fn progress(&mut self, done: u64, of: u64) {
        self.meter.bytes(done, of);
    }

    fn problem(&mut self, path: &[u8], what: &str) {
        self.meter.tell(path, what, false);
    }

    fn found(&mut self, file: FileFound) -> ControlFlow<()> {
        self.files += 1;
        self.lines += file.count;
        if self.screen.json() {
            self.records.push(self.record(&file));
            return ControlFlow::Continue(());
        }
        self.meter.hide();
        self.stopped = self.print(&file);
        if self.stopped.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl Output<'_> {
    fn print(&self, file: &FileFound) -> Result<()> {
        let path = sanitize::bytes(&file.path);
        let gone = if file.gone { ", gone since" } else { "" };
        let ids = |snapshots: &[OpId]| match snapshots {
            _ if self.one_snapshot => String::new(),
            [first, .., last] => {
                let all = count(snapshots.len() as u64, "snapshot", "snapshots");
                format!("   in {} .. {} ({all}){gone}", short_id(first), short_id(last))
            }
            one => format!("   in {}{gone}", one.iter().map(short_id).collect::<String>()),
        };
        match self.wanted {
            Wanted::Files => self.screen.line(format_args!("{path}{}", ids(&file.snapshots))),
            Wanted::Counts => {
                self.screen.line(format_args!("{path}:{}{}", file.count, ids(&file.snapshots)))
            }
            Wanted::Lines => file.lines.iter().try_for_each(|line| {
                let place = line
                    .line
                    .map_or_else(|| format!("@{}", line.offset), |number| format!(":{number}"));
                let (text, ids) = (shown(line), ids(&line.snapshots));
                self.screen.line(format_args!("{path}{place}: {text}{ids}"))
            }),
        }
    }

    fn record(&self, file: &FileFound) -> FileRecord {
        let hex = |ids: &[OpId]| ids.iter().map(OpId::hex).collect();
        let line = |line: &LineFound| {
            let text = std::str::from_utf8(&line.text);
            LineRecord {
                line: line.line,
                offset: line.offset,
                length: line.len,
                text: text.map_or_else(|_| sanitize::bytes(&line.text), ToOwned::to_owned),
                text_base64: text.is_err().then(|| BASE64.encode(&line.text)),
                text_offset: line.text_at,
                match_offset: line.matched.start,
                match_length: line.matched.end - line.matched.start,
                snapshots: hex(&line.snapshots),
            }
        };
        FileRecord {
            path: json::Path::new(&file.path),
            gone: file.gone,
            count: (self.wanted != Wanted::Files).then_some(file.count),
            snapshots: hex(&file.snapshots),
            lines: file.lines.iter().map(line).collect(),
        }
    }
}

/// What of a line is shown, with dots where it goes on.
fn shown(line: &LineFound) -> String {
    let before = if line.text_at > 0 { "..." } else { "" };
    let ends = line.text_at + line.text.len() as u64 >= line.len;
    format!("{before}{}{}", sanitize::bytes(&line.text), if ends { "" } else { "..." })
}

pub(crate) fn run(args: &Grep, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let connection = context.open_patiently()?;
    let session = &connection.session;
    let snapshots = choose(args, session)?;
    let wanted = match (args.files_with_matches, args.count) {
        (true, _) => Wanted::Files,
        (_, true) => Wanted::Counts,
        _ => Wanted::Lines,
    };
    let options = Options {
        patterns: args.pattern.iter().chain(&args.regexp).cloned().collect(),
        fixed_strings: args.fixed_strings,
        ignore_case: args.ignore_case,
        word: args.word,
        agents: args.agents.clone(),
        paths: args.paths.clone(),
        wanted,
        shown_bytes_max: args.max_columns,
        ..Options::default()
    };
    let mut output = Output {
        screen,
        meter: Meter::new(screen),
        wanted,
        one_snapshot: snapshots.len() == 1,
        records: Vec::new(),
        files: 0,
        lines: 0,
        stopped: Ok(()),
    };
    let cancel = context.signals.graceful();
    let stats = grep::grep(session, &snapshots, &options, cancel, &mut output)?;
    let Output { meter, records: files, files: files_found, lines, stopped, .. } = output;
    let told = meter.finish();
    stopped?;
    let exit = match (told.is_empty(), files_found) {
        (false, _) => Exit::Damage,
        (true, 0) => Exit::Failed,
        (true, _) => Exit::Done,
    };
    if screen.json() {
        let (searched, problems) = ((&stats).into(), records(&told, false));
        screen.document(&Document { files, searched, problems })?;
        return Ok(exit);
    }
    if stats.lines_in_windows > 0 {
        let lines = count(stats.lines_in_windows, "line", "lines");
        screen.note(format_args!("{lines} too long for memory: looked at in parts of 64 MiB"));
    }
    let found = match wanted {
        Wanted::Files => String::new(),
        _ => format!("{} in ", count(lines, "line", "lines")),
    };
    screen.note(format_args!(
        "{found}{} of {} in {}; {} of text, {} read",
        count(files_found, "file", "files"),
        count(stats.files, "file", "files"),
        count(stats.snapshots, "snapshot", "snapshots"),
        size::show(stats.content_bytes),
        size::show(stats.bytes_read),
    ));
    Ok(exit)
}

/// The snapshots to search, oldest first.
fn choose(args: &Grep, session: &Session) -> Result<Vec<Snapshot>> {
    let mut snapshots = Vec::new();
    if args.latest && !args.agents.is_empty() {
        for agent in &args.agents {
            snapshots.push(session.select("latest", Some(agent), None)?);
        }
    } else if args.latest {
        snapshots.push(session.select("latest", None, None)?);
    } else if args.snapshots.is_empty() {
        return Ok(session.snapshots()?);
    }
    for spec in &args.snapshots {
        snapshots.push(session.select(spec, None, None)?);
    }
    snapshots.sort_by_key(|snapshot| (snapshot.finished_nanos, snapshot.id));
    snapshots.dedup_by_key(|snapshot| snapshot.id);
    Ok(snapshots)
}
