//! Pull: a snapshot becomes files again.
//!
//! In: a snapshot as [`Content`], and where its roots go. Out: files, directories and links below
//! the target, and a [`Report`] of what was done and what was not. First a [`Plan`] says what would
//! happen to each path (`--dry-run` ends there), then [`apply`] does it:
//!
//! directories -> files (fetched, written, verified, made durable, renamed) -> links -> deletions
//! -> modes and times of directories
//!
//! A file gets its name only after the hash of its whole content fits its entry and its bytes are
//! on the disk. What befalls one entry is a [`Problem`] that names it; the others go on.
//!
//! A database that would take the place of something is refused while another process has that open
//! (`holders`), is checked in full by SQLite before (`check`), and comes in an order in which the log
//! of an old one never meets the new one (`swap`).

mod apply;
mod check;
mod commit;
pub(crate) mod error;
mod fetch;
mod fields;
mod file;
mod finish;
pub(crate) mod holders;
mod inspect;
mod keep;
mod layout;
mod marks;
pub mod moves;
mod part;
mod plan;
mod rows;
pub mod safety;
pub(crate) mod select;
mod snapshot;
mod source;
pub(crate) mod swap;
pub(crate) mod target;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::ignored::Ignored;

pub use apply::apply;
pub use error::{Error, Result};
pub use part::Part;
pub use plan::{Action, Item, Plan, Totals};
pub use rows::Filters;
pub(crate) use select::Select;
pub use select::strip_path;
pub use snapshot::SnapshotContent;
pub use source::{Content, Location, Visit};

/// Where the roots of a snapshot go.
#[derive(Debug, Clone)]
pub enum Placement {
    /// Every root goes to `DIR/<label>`.
    Under(PathBuf),
    /// Each label to the directory (or, for a root that is one file, the file) named here.
    Each(Vec<(Vec<u8>, PathBuf)>),
}

/// What happens to what is at the target already. Content that fits is never written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Replaced, of whatever kind it is; links in a directory's place are unlinked.
    Always,
    /// Files and links whose content differs are replaced; another kind in a directory's place,
    /// or a directory in another's, is a problem.
    #[default]
    IfChanged,
    /// As `IfChanged`, but only where the snapshot's is newer.
    IfNewer,
    /// Stays as it is.
    Never,
}

/// How to pull.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the roots go.
    pub to: Placement,
    /// Labels of the snapshot's roots; a label may have several components.
    pub labels: Vec<Vec<u8>>,
    /// Take only paths that match one of these; empty: all.
    pub paths: Vec<String>,
    /// What happens to what is there.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have, inside the roots that it has.
    pub delete: bool,
    /// Patterns of local paths (label first, or below it) that `delete` never removes.
    pub keep: Vec<String>,
    /// Read every file again when all is written, and check each database that was written in full.
    pub verify: bool,
    /// Replace databases that another process has open.
    pub even_if_open: bool,
    /// Directories that are not an agent's own, such as the home: where they are there, their modes, owners
    /// and times stay.
    pub shared: Vec<PathBuf>,
    /// Restore owners (only root can).
    pub owners: bool,
    /// Restore setuid, setgid and sticky bits of files.
    pub special_bits: bool,
    /// Refuse entries that differ only in case from another: they would replace each other.
    pub fold_case: bool,
    /// Give directories the names, and catalogues the paths, that fit this place.
    pub moves: Option<moves::Moves>,
    /// Reads from the store under way at once; for a remote store more than there are cores.
    pub workers: usize,
    /// What a push takes of each root: so it is known which rows of a database only the live one has.
    pub filters: Filters,
    /// Pushes replace secrets, but for these: so nobody has those of files that are there, and a file is
    /// not replaced while it has one that is not in what is restored.
    pub secrets_stay: Option<Arc<Ignored>>,
}

impl Options {
    /// Everything to `to`, with the defaults.
    pub fn new(to: Placement) -> Self {
        Self {
            to,
            labels: Vec::new(),
            paths: Vec::new(),
            overwrite: Overwrite::default(),
            delete: false,
            keep: Vec::new(),
            verify: false,
            even_if_open: false,
            shared: Vec::new(),
            owners: true,
            special_bits: false,
            fold_case: cfg!(any(target_os = "macos", target_os = "ios")),
            moves: None,
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            filters: Filters::default(),
            secrets_stay: None,
        }
    }
}

/// What a pull tells while it runs. Paths are as stored: escape them before a terminal sees them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The plan is made; writing begins.
    Planned(&'a Totals),
    /// So many more bytes of content are written.
    Bytes(u64),
    /// A file is whole, durable and has its name.
    FileDone {
        /// Its path, label first.
        path: &'a [u8],
        /// Its length in bytes.
        size: u64,
    },
    /// An entry was not restored.
    Problem(&'a Problem),
    /// An entry was restored without something small.
    Notice(&'a Problem),
}

/// Who wants to know. Called from several threads.
pub trait Monitor: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// A monitor that does not listen.
impl Monitor for () {
    fn event(&self, _: Event<'_>) {}
}

/// A path and what is the matter with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path as stored, label first.
    pub path: Vec<u8>,
    /// Why, in words; without bytes from the repository that are not escaped.
    pub reason: String,
}

/// What a pull did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries made that were not there.
    pub created: u64,
    /// Entries that took the place of something.
    pub replaced: u64,
    /// Of these, files that kept parts of what was there.
    pub patched: u64,
    /// Entries whose mode, time, owner or attributes were set right.
    pub metadata: u64,
    /// Entries that were as they should be.
    pub left: u64,
    /// Names removed because the snapshot does not have them.
    pub deleted: u64,
    /// Bytes of content written.
    pub bytes_written: u64,
    /// Of these, bytes taken from what was there.
    pub bytes_kept: u64,
    /// Rows of live databases that no backup has and that are in the restored ones too.
    pub rows_kept: u64,
    /// Secrets of live files that no backup has and that are in the restored ones too.
    pub secrets_kept: u64,
    /// Bytes of sealed blocks read from the store.
    pub bytes_fetched: u64,
    /// Files read again and found right (`verify`).
    pub verified: u64,
    /// Entries that should have been restored and were not.
    pub problems: Vec<Problem>,
    /// Entries that were not meant to be restored: devices, sockets, kept by `overwrite`.
    pub skipped: Vec<Problem>,
    /// Small things that were not restored on entries that were.
    pub notices: Vec<Problem>,
    /// Files with values that never left their machine, and that are not here either.
    pub blanks: Vec<Blank>,
    /// Files in which a move rewrote paths.
    pub rewrites: Vec<moves::Rewrite>,
}

/// What somebody has to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blank {
    /// Path as stored, label first.
    pub path: Vec<u8>,
    /// Dotted paths of the fields, or `table.column` of a database, or how many secrets have marks in
    /// their places; their text is from the file, escape it before showing.
    pub fields: Vec<String>,
}

impl Report {
    /// Was everything restored that should have been?
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Plans and applies. Setting `cancel` ends it soon with [`Error::Cancelled`]; what has its final
/// name then is right, and no temporary file is left.
pub fn pull(
    content: &dyn Content,
    options: &Options,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Report> {
    let plan = Plan::make(content, options, cancel)?;
    apply(content, &plan, options, monitor, cancel)
}
