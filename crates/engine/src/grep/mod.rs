//! Search through the text of all history: every file of every snapshot, at the cost of what is unique.
//!
//! In: snapshots, and patterns with the flags of `grep`. Out: per path the lines that fit, each once
//! with all snapshots that have it.
//!
//! `history` finds the distinct contents of the files, `plan` cuts what they are made of into distinct
//! stretches, `search` reads every block once and searches every stretch once, `assemble` puts lines
//! together that reach over the ends of stretches, and numbers them.
//!
//! **Lines** are what line feeds separate; they may be of any length and lie in any number of blocks.
//! A *database* (an image whose pages are known) is searched page by page, and there a line is
//! what stands between control characters: a value that SQLite spread over several pages is looked at
//! in parts.
//!
//! **Memory**: the index; for each distinct stretch about 100 bytes; for each path and content its name
//! and map; the limits of [`Limits`]; and for each line that fits in one path about 100 bytes. What
//! would be more goes into sealed files without a name in the state directory.

mod assemble;
mod history;
mod keep;
mod lines;
mod near;
mod pattern;
mod plan;
mod search;

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::{OpId, Reader, Snapshot};

use crate::damaged::{DamagedSnapshot, pass_over};
use crate::error::{Error, Result};
use crate::session::Session;
use assemble::Assembler;
use history::{File, History};
use keep::Keep;
pub use lines::Lines;
use pattern::Pattern;
use plan::Plan;
use search::Searched;

/// What is wanted of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The lines.
    #[default]
    Lines,
    /// How many lines.
    Counts,
    /// Which files.
    Files,
}

/// What to search for, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Patterns: a line fits if one of them does.
    pub patterns: Vec<String>,
    /// They are text, no regular expressions.
    pub fixed_strings: bool,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Only whole words.
    pub word: bool,
    /// Only files of these agents; none: of all, and those of nobody.
    pub agents: Vec<String>,
    /// Only what one of these globs matches, and what is below it.
    pub paths: Vec<String>,
    /// What is told.
    pub wanted: Wanted,
    /// Bytes of a line that are told at most: those around the first match. 0: all.
    pub shown_bytes_max: usize,
    /// Lines before each one that fits, to be told with it; none in databases.
    pub lines_before: usize,
    /// Lines behind it.
    pub lines_after: usize,
    /// Files that are told together, by the path at which they lived: those of a lower number first,
    /// those of none last.
    pub groups: HashMap<Vec<u8>, usize>,
    /// Bounds of memory.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            fixed_strings: false,
            ignore_case: false,
            word: false,
            agents: Vec::new(),
            paths: Vec::new(),
            wanted: Wanted::Lines,
            shown_bytes_max: 240,
            lines_before: 0,
            lines_after: 0,
            groups: HashMap::new(),
            limits: Limits::default(),
        }
    }
}

/// Bounds of memory.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Ends of stretches and results in memory; the rest goes into a sealed file.
    pub kept_bytes_max: usize,
    /// Plaintext of blocks that are read together; twice as much is in memory.
    pub batch_bytes_max: u64,
    /// A longer line is looked at in windows of this length, which overlap by a 64th.
    pub line_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { kept_bytes_max: 64 << 20, batch_bytes_max: 16 << 20, line_bytes_max: 64 << 20 }
    }
}

impl Limits {
    fn window_overlap_bytes(&self) -> usize {
        usize::try_from(self.line_bytes_max / 64).unwrap_or(usize::MAX)
    }
}

/// A file in which something fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFound {
    /// Full path, label first; of a file in the archive the path at which it lived.
    pub path: Vec<u8>,
    /// The agent had deleted it when the newest of `snapshots` was made.
    pub gone: bool,
    /// The snapshots in which it has a line that fits, in the order given.
    pub snapshots: Arc<[OpId]>,
    /// Different lines that fit, in all of them. 1 if only files are wanted.
    pub count: u64,
}

/// A line that fits. Its place is that in the newest snapshot that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFound {
    /// Its number, from 1; none in a database.
    pub line: Option<u64>,
    /// Its first byte in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What is shown of it.
    pub text: Vec<u8>,
    /// Where that begins in the line.
    pub text_at: u64,
    /// The first match, in the line.
    pub matched: Range<u64>,
    /// The snapshots that have it, in the order given.
    pub snapshots: Arc<[OpId]>,
    /// The lines before it in the newest of these, as many as are wanted and there.
    pub before: Vec<LineNear>,
    /// The lines behind it.
    pub after: Vec<LineNear>,
}

/// A line near one that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineNear {
    /// What is shown of it: its beginning.
    pub text: Vec<u8>,
    /// Its length in bytes.
    pub len: u64,
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Paths that were asked for.
    pub files: u64,
    /// Distinct contents of these.
    pub contents: u64,
    /// Bytes of these together.
    pub content_bytes: u64,
    /// Data blocks read: each once.
    pub blocks_read: u64,
    /// Plaintext of these.
    pub bytes_read: u64,
    /// Distinct stretches searched: each once.
    pub stretches_searched: u64,
    /// Bytes of these.
    pub bytes_searched: u64,
    /// Lines that were put together of several stretches, or were at the end of one: each once.
    pub lines_joined: u64,
    /// Lines that were looked at in windows.
    pub lines_in_windows: u64,
    /// Most bytes of blocks in one batch.
    pub batch_bytes_max: u64,
    /// Most bytes that were kept in memory.
    pub kept_bytes_max: u64,
    /// Bytes that went into the sealed file.
    pub file_bytes: u64,
}

/// Listens to a search.
pub trait Listener {
    /// So many bytes of blocks were read, of so many.
    fn progress(&mut self, done: u64, of: u64);
    /// A snapshot is passed over.
    fn damaged(&mut self, snapshot: DamagedSnapshot);
    /// A file could not be searched whole.
    fn problem(&mut self, path: &[u8], what: &str);
    /// Something was found. Files come when all is read: by their groups, and in path order. There are no
    /// lines if they are not wanted.
    fn found(&mut self, file: FileFound, lines: &mut Lines<'_>) -> ControlFlow<()>;
}

/// Searches snapshots, which come oldest first.
pub fn grep(
    session: &Session,
    snapshots: &[Snapshot],
    options: &Options,
    cancel: &AtomicBool,
    listener: &mut dyn Listener,
) -> Result<Stats> {
    let pattern = Pattern::new(options)?;
    let is_over = || cancel.load(Ordering::Relaxed);
    let reader = Reader::open(session.repo(), session.cache())?;
    let mut damaged = Vec::new();
    let (history, snapshots) =
        pass_over(session, snapshots, &mut damaged, &is_over, &mut |some| {
            History::read(&reader, some, options, &is_over)
        })?;
    for one in damaged {
        listener.damaged(one);
    }
    let mut stats = Stats {
        snapshots: snapshots.len() as u64,
        files: history.files.len() as u64,
        contents: history.contents.len() as u64,
        content_bytes: history.contents.iter().map(|content| content.size).sum(),
        ..Stats::default()
    };
    let (dir, limits) = (session.state.dir(), &options.limits);
    let mut keep = Keep::new(dir, limits.kept_bytes_max);
    let plan = Plan::make(&reader, &history, dir, limits, &mut keep, &is_over)?;
    let searched =
        Searched::search(&reader, &plan, &pattern, limits, &mut keep, &mut stats, &mut |n, of| {
            listener.progress(n, of);
            !is_over()
        })?;
    let mut assembler = Assembler {
        plan: &plan,
        searched: &searched,
        pattern: &pattern,
        limits,
        keep: &mut keep,
        stats: &mut stats,
        joined: HashMap::new(),
        is_over: &is_over,
    };
    let mut told = vec![false; history.contents.len()];
    let mut results_file_bytes = 0;
    let mut files: Vec<&File> = history.files.iter().collect();
    files.sort_by_key(|file| options.groups.get(&file.path).copied().unwrap_or(usize::MAX));
    for file in files {
        if is_over() {
            return Err(Error::Cancelled);
        }
        let found = search_file(
            &history,
            file,
            &snapshots,
            options,
            dir,
            &mut assembler,
            &mut |held, why| {
                if !std::mem::replace(&mut told[held], true) {
                    listener.problem(&file.path, why);
                }
            },
        )?;
        let Some((found, mut lines)) = found else { continue };
        results_file_bytes += lines.file_bytes();
        if listener.found(found, &mut lines).is_break() {
            break;
        }
    }
    stats.kept_bytes_max = stats.kept_bytes_max.max(keep.memory_bytes() as u64);
    stats.file_bytes = keep.file_bytes() + results_file_bytes;
    Ok(stats)
}

fn search_file<'h>(
    history: &History,
    file: &File,
    snapshots: &'h [Snapshot],
    options: &Options,
    dir: &Path,
    assembler: &mut Assembler<'_>,
    problem: &mut dyn FnMut(usize, &str),
) -> Result<Option<(FileFound, Lines<'h>)>> {
    // contents by the newest snapshot that has them: what comes first says where a line is now
    let mut spans: Vec<_> =
        file.held.iter().map(|held| (history.snapshots(held), held.content)).collect();
    spans.sort_by_key(|(ranks, _)| ranks.last_key_value().map(|(rank, _)| *rank));
    let contents: Vec<usize> = spans.iter().map(|(_, content)| *content).collect();
    let keep = Keep::new(dir, options.limits.kept_bytes_max / 4);
    let spans = spans.into_iter().map(|(ranks, _)| ranks).collect();
    let mut lines = Lines::new(spans, snapshots, keep, options.wanted);
    for (at, content) in contents.into_iter().enumerate().rev() {
        let mut failed = None;
        lines.begin(at);
        let unread = assembler.each(content, &mut |found| {
            lines.add(&found).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(why) = unread {
            problem(content, &why);
        }
    }
    let Some((snapshots, gone)) = lines.end() else { return Ok(None) };
    let count = if options.wanted == Wanted::Files { 1 } else { lines.len() as u64 };
    if options.wanted != Wanted::Lines {
        lines.clear();
    }
    Ok(Some((FileFound { path: file.path.clone(), gone, snapshots, count }, lines)))
}

/// Does this error mean that no other block will do better?
fn is_fatal(error: &repo::Error) -> bool {
    use repo::Error as E;
    !matches!(error, E::Corrupt { .. } | E::Missing { .. } | E::WrongKey { .. })
}
