//! `grep`: text in the files of all snapshots.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use adapters::sessions::SessionSource;
use anyhow::Result;
use data_encoding::BASE64;
use engine::DamagedSnapshot;
use engine::Session;
use engine::grep::{self, FileFound, LineFound, LineNear, Lines, Listener, Options, Stats, Wanted};
use engine::sessions::{self, Found, Place};
use repo::{OpId, Snapshot};
use serde::Serialize;

use crate::args::Grep;
use crate::commands::Context;
use crate::commands::damaged::{self, DamagedRecord};
use crate::commands::named;
use crate::commands::snapshots::short_id;
use crate::exit::Exit;
use crate::ui::progress::{Meter, records};
use crate::ui::{Screen, count, json, sanitize, size};

#[derive(Serialize)]
struct Document {
    files: Vec<FileRecord>,
    searched: SearchedRecord,
    problems: Vec<json::Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_snapshots: Vec<DamagedRecord>,
}

#[derive(Serialize)]
struct FileRecord {
    #[serde(flatten)]
    path: json::Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionRecord>,
    gone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    snapshots: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<LineRecord>,
}

/// The session that a transcript is of.
#[derive(Serialize)]
struct SessionRecord {
    agent: String,
    id: String,
    title: Option<String>,
    project: Option<String>,
    parent: Option<String>,
    sub_agent: bool,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before: Vec<NearRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<NearRecord>,
}

/// A line near one that fits.
#[derive(Serialize)]
struct NearRecord {
    length: u64,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base64: Option<String>,
}

impl From<&LineNear> for NearRecord {
    fn from(line: &LineNear) -> Self {
        let (text, text_base64) = text_record(&line.text);
        Self { length: line.len, text, text_base64 }
    }
}

/// Text, and its bytes if it is none.
fn text_record(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (sanitize::bytes(bytes), Some(BASE64.encode(bytes))),
    }
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

/// What the last file was told under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    Nothing,
    Session(usize),
    NoSession,
}

/// Prints what is found as it comes, or keeps it for a document.
struct Output<'a> {
    screen: &'a Screen,
    cancel: &'a AtomicBool,
    meter: Meter,
    wanted: Wanted,
    /// Snapshots are not shown where there is only one.
    one_snapshot: bool,
    /// Lines around those that fit are shown, if there are any.
    context: bool,
    /// Something was shown before.
    printed: Cell<bool>,
    sessions: Option<Transcripts>,
    heading: Heading,
    records: Vec<FileRecord>,
    files: u64,
    lines: u64,
    damaged: Vec<DamagedSnapshot>,
    stopped: Result<()>,
}

impl Listener for Output<'_> {
    fn progress(&mut self, done: u64, of: u64) {
        self.meter.bytes(done, of);
    }

    fn damaged(&mut self, snapshot: DamagedSnapshot) {
        self.damaged.push(snapshot);
    }

    fn problem(&mut self, path: &[u8], what: &str) {
        self.meter.tell(path, what, false);
    }

    fn found(&mut self, file: FileFound, lines: &mut Lines<'_>) -> ControlFlow<()> {
        self.files += 1;
        self.lines += file.count;
        self.stopped = if self.screen.json() {
            self.record(&file, lines).map(|record| self.records.push(record))
        } else {
            self.meter.hide();
            self.print_session(&file.path).and_then(|()| self.print(&file, lines))
        };
        if self.stopped.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl Output<'_> {
    /// Says of which session what follows is.
    fn print_session(&mut self, path: &[u8]) -> Result<()> {
        let Some(sessions) = &self.sessions else { return Ok(()) };
        let session = sessions.by_path.get(path).copied();
        let heading = session.map_or(Heading::NoSession, Heading::Session);
        if std::mem::replace(&mut self.heading, heading) == heading {
            return Ok(());
        }
        self.printed.set(false);
        let Some(found) = session.map(|session| &sessions.all[session]) else {
            return self.screen.line("no session:");
        };
        let title = found.title.as_deref().map(|title| format!(": {}", sanitize::text(title)));
        let project = found.project.as_deref().map(|at| format!(" in {}", sanitize::text(at)));
        let what = if found.sub_agent { "sub-agent" } else { "session" };
        self.screen.line(format_args!(
            "{what} {} of {}{}{}",
            sanitize::text(&found.id),
            found.agent,
            project.unwrap_or_default(),
            title.unwrap_or_default()
        ))
    }

    fn print(&self, file: &FileFound, lines: &mut Lines<'_>) -> Result<()> {
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
            Wanted::Lines => {
                let mut last: Option<(LineFound, Option<u64>)> = None;
                for at in 0..lines.len() {
                    if self.cancel.load(Ordering::Relaxed) {
                        return Err(engine::Error::Cancelled.into());
                    }
                    let line = lines.get(at)?;
                    self.print_before(&path, &line, last.as_ref())?;
                    let place = line
                        .line
                        .map_or_else(|| format!("@{}", line.offset), |number| format!(":{number}"));
                    let (text, ids) = (shown(&line), ids(&line.snapshots));
                    self.screen.line(format_args!("{path}{place}: {text}{ids}"))?;
                    let shown = self.print_after(&path, &line, || lines.next_number(at))?;
                    last = Some((line, shown));
                }
                Ok(())
            }
        }
    }

    /// The lines before one that fits, but for those that were shown behind another one.
    fn print_before(
        &self,
        path: &str,
        line: &LineFound,
        last: Option<&(LineFound, Option<u64>)>,
    ) -> Result<()> {
        if !self.context {
            return Ok(());
        }
        // numbers are those of the newest snapshot: of two that differ they say nothing of each other
        let same = last.filter(|(other, _)| other.snapshots.last() == line.snapshots.last());
        let shown = same.and_then(|(_, shown)| *shown);
        let first = line.line.map(|number| number - line.before.len() as u64);
        let apart = match (shown, first) {
            (Some(shown), Some(first)) => first > shown + 1,
            _ => true,
        };
        if apart && self.printed.replace(true) {
            self.screen.line("--")?;
        }
        self.printed.set(true);
        for (at, near) in (0..).zip(&line.before) {
            let number = first.map(|first| first + at);
            if number.is_none() || number > shown {
                self.print_near(path, number, near)?;
            }
        }
        Ok(())
    }

    /// The lines behind one that fits, but for those that fit themselves; the number of the last.
    /// `next`: the number of the next that fits.
    fn print_after(
        &self,
        path: &str,
        line: &LineFound,
        next: impl FnOnce() -> Option<u64>,
    ) -> Result<Option<u64>> {
        let Some(number) = line.line else { return Ok(None) };
        let next = if line.after.is_empty() { None } else { next() };
        let mut shown = number;
        for (number, near) in (number + 1..).zip(&line.after) {
            if next == Some(number) {
                break;
            }
            self.print_near(path, Some(number), near)?;
            shown = number;
        }
        Ok(Some(shown))
    }

    fn print_near(&self, path: &str, number: Option<u64>, near: &LineNear) -> Result<()> {
        let dots = if (near.text.len() as u64) < near.len { "..." } else { "" };
        let place = number.map(|number| format!("-{number}")).unwrap_or_default();
        self.screen.line(format_args!("{path}{place}- {}{dots}", sanitize::bytes(&near.text)))
    }

    fn record(&self, file: &FileFound, lines: &mut Lines<'_>) -> Result<FileRecord> {
        let hex = |ids: &[OpId]| ids.iter().map(OpId::hex).collect();
        let line = |line: &LineFound| {
            let (text, text_base64) = text_record(&line.text);
            LineRecord {
                line: line.line,
                offset: line.offset,
                length: line.len,
                text,
                text_base64,
                text_offset: line.text_at,
                match_offset: line.matched.start,
                match_length: line.matched.end - line.matched.start,
                snapshots: hex(&line.snapshots),
                before: line.before.iter().map(Into::into).collect(),
                after: line.after.iter().map(Into::into).collect(),
            }
        };
        let session = self.sessions.as_ref().and_then(|sessions| {
            let found = &sessions.all[*sessions.by_path.get(&file.path)?];
            Some(SessionRecord {
                agent: found.agent.clone(),
                id: found.id.clone(),
                title: found.title.clone(),
                project: found.project.clone(),
                parent: found.parent.clone(),
                sub_agent: found.sub_agent,
            })
        });
        let lines = (0..lines.len()).map(|at| Ok(line(&lines.get(at)?))).collect::<Result<_>>()?;
        Ok(FileRecord {
            path: json::Path::new(&file.path),
            session,
            gone: file.gone,
            count: (self.wanted != Wanted::Files).then_some(file.count),
            snapshots: hex(&file.snapshots),
            lines,
        })
    }
}

/// Which files are transcripts of which sessions.
struct Transcripts {
    /// Those that were used last first.
    all: Vec<Found>,
    by_path: HashMap<Vec<u8>, usize>,
}

impl Transcripts {
    /// Of all snapshots, as `sessions` lists them. A database is no transcript: it holds many sessions.
    fn find(session: &Session, context: &Context<'_>) -> Result<Self> {
        let adapters = context.settings.adapters()?;
        let all = sessions::find(session, &adapters, context.signals.graceful())?.all;
        let mut by_path = HashMap::new();
        for (number, found) in all.iter().enumerate() {
            let is_file = |place: &&Place| matches!(place.rule.source, SessionSource::File { .. });
            for place in found.places.iter().filter(is_file) {
                // of two machines with one path, the session that was used last
                let path = format!("{}/{}", place.label, place.rel).into_bytes();
                by_path.entry(path).or_insert(number);
            }
        }
        Ok(Self { all, by_path })
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
    named::check(&args.agents, session, &context.settings)?;
    let (snapshots, damaged) = choose(args, session)?;
    let wanted = match (args.files_with_matches, args.count) {
        (true, _) => Wanted::Files,
        (_, true) => Wanted::Counts,
        _ => Wanted::Lines,
    };
    let sessions = args.sessions.then(|| Transcripts::find(session, context)).transpose()?;
    let groups = sessions.as_ref().map(|sessions| sessions.by_path.clone()).unwrap_or_default();
    let options = Options {
        groups,
        patterns: args.pattern.iter().chain(&args.regexp).cloned().collect(),
        fixed_strings: args.fixed_strings,
        ignore_case: args.ignore_case,
        word: args.word,
        agents: args.agents.clone(),
        paths: args.paths.clone(),
        wanted,
        shown_bytes_max: args.max_columns,
        lines_before: args.before_context.max(args.context).into(),
        lines_after: args.after_context.max(args.context).into(),
        ..Options::default()
    };
    let cancel = context.signals.graceful();
    let mut output = Output {
        screen,
        cancel,
        meter: Meter::new(screen),
        wanted,
        one_snapshot: snapshots.len() == 1,
        context: options.lines_before + options.lines_after > 0,
        printed: Cell::new(false),
        sessions,
        heading: Heading::Nothing,
        records: Vec::new(),
        files: 0,
        lines: 0,
        damaged,
        stopped: Ok(()),
    };
    let stats = grep::grep(session, &snapshots, &options, cancel, &mut output)?;
    let Output { meter, records: files, files: files_found, lines, damaged, stopped, .. } = output;
    let told = meter.finish();
    stopped?;
    let exit = match (told.is_empty(), files_found) {
        (false, _) => Exit::Damage,
        (true, 0) => Exit::Failed,
        (true, _) => Exit::Done,
    };
    let exit = damaged::tell(&damaged, screen, exit);
    if screen.json() {
        let (searched, problems) = ((&stats).into(), records(&told, false));
        let damaged_snapshots = damaged::records(&damaged);
        screen.document(&Document { files, searched, problems, damaged_snapshots })?;
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

/// The snapshots to search, oldest first; and those that do not open.
fn choose(args: &Grep, session: &Session) -> Result<(Vec<Snapshot>, Vec<DamagedSnapshot>)> {
    let mut snapshots = Vec::new();
    if args.latest && !args.agents.is_empty() {
        for agent in &args.agents {
            snapshots.push(session.select("latest", Some(agent), None)?);
        }
    } else if args.latest {
        snapshots.push(session.select("latest", None, None)?);
    } else if args.snapshots.is_empty() {
        return Ok(session.snapshots_listed()?);
    }
    for spec in &args.snapshots {
        snapshots.push(session.select(spec, None, None)?);
    }
    snapshots.sort_by_key(|snapshot| (snapshot.finished_nanos, snapshot.id));
    snapshots.dedup_by_key(|snapshot| snapshot.id);
    Ok((snapshots, Vec::new()))
}
