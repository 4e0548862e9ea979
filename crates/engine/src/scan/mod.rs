//! The scan: labelled source directories in, their entries out in tree order.
//!
//! In: [`ScanRoot`]s, each with a [`Filter`] that says what of it is wanted. Out: one [`Found`] per
//! file, directory, link or special file, handed to the caller in the order of
//! [`repo::path_order`], and one [`Problem`] for whatever could not be looked at; the scan goes on
//! after every problem.
//!
//! Invariants: no link below a root is ever followed, nothing but directories and ignore files is
//! opened, no open can block, and memory is bounded by the names of one directory per level. What
//! a file holds is read later, through [`SourceRoot::open`], which checks that it is still the
//! same file.

#[cfg(not(unix))]
compile_error!("the scan needs the *at calls of a Unix system");

mod attributes;
mod ignored;
mod names;
mod owners;
mod problem;
mod rules;
mod source;
mod stat;
mod walk;

use std::cmp::Ordering;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::RowRule;
use repo::{Kind, Xattr, path_order};

pub use owners::{Owners, entry_metadata};
pub use problem::{Problem, Trouble};
pub use source::{OpenProblem, OpenedFile, SourceRoot};
pub use stat::Stat;

/// Levels of directories below a root that are entered. Deeper trees exist by accident (a runaway
/// loop) or by malice, and every level costs memory here and path bytes in the repository.
pub const DEPTH_MAX: usize = 1024;

/// Bytes of a full path, label included; longer ones are reported and left out. Sixteen times what
/// a system call takes, so every tree that tools can work with fits.
pub const PATH_BYTES_MAX: usize = 65_535;

/// Bytes of an ignore file that are believed; a longer one is reported and not used.
pub const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;

/// What a filter wants done with one file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Store it; walk it if it is a directory.
    Include,
    /// Store it as a SQLite database. For anything but a regular file the same as `Include`.
    Sqlite,
    /// Leave it out, with everything below it.
    Skip,
    /// A directory that is stored only if something below it is. A file is left out.
    Walk,
}

/// Says what of a root is wanted. Asked once per name, parents first; never for the root itself.
pub trait Filter: Send + Sync {
    /// `rel` is the path below the root, without a leading slash.
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict;
    /// Regular files of more bytes are left out with a notice, except those judged
    /// [`Verdict::Sqlite`]: a filter that names a database wants it.
    fn max_file_size(&self) -> Option<u64>;
    /// The group of this file, if it has one: what the roots call by the same name is captured in one
    /// pass. Asked only for files that are stored.
    fn group(&self, _rel: &[u8]) -> Option<&str> {
        None
    }
    /// Whether files of a group may be in this directory or below it; of the root itself (empty),
    /// whether there are groups at all.
    fn leads_to_group(&self, _rel: &[u8]) -> bool {
        false
    }

    /// Whether what vanishes here is kept: the agent deletes it by itself.
    fn volatile(&self, _rel: &[u8]) -> bool {
        false
    }

    /// What of the rows of a database is left out. A file that has such rules is stored only as a
    /// database from which they were left out, or not at all.
    fn row_rules(&self, _rel: &[u8]) -> Vec<Arc<RowRule>> {
        Vec::new()
    }

    /// Which values inside a text file stay on this machine. A file that has such rules is stored only
    /// with markers in their place, or not at all.
    fn field_rules(&self, _rel: &[u8]) -> Option<adapters::FieldRules> {
        None
    }
}

/// One labelled source directory.
#[derive(Clone)]
pub struct ScanRoot {
    /// First components of every path from this root, such as `claude-code/home`.
    pub label: String,
    /// The directory. It may be a symbolic link, which is resolved once, when it is opened.
    pub dir: PathBuf,
    /// Only these names in the directory are looked at, and the directory is never listed. Names
    /// that do not exist are no problem; the root's own entry appears only if one of them does.
    pub files: Option<Vec<Vec<u8>>>,
    /// What of it is wanted.
    pub filter: Arc<dyn Filter>,
}

impl fmt::Debug for ScanRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanRoot")
            .field("label", &self.label)
            .field("dir", &self.dir)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// One entry as the scan saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Full path: `label/relative/path`; the root itself is `label`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its metadata.
    pub stat: Stat,
    /// Symlink: where it points, as stored in it.
    pub target: Option<Vec<u8>>,
    /// Regular file with more than one name: full path of the first entry of this scan that is the
    /// same file. `None` for that first one.
    pub link: Option<Vec<u8>>,
    /// The filter says that this is a SQLite database.
    pub sqlite: bool,
    /// Index of its root in the slice given to [`scan`].
    pub root: usize,
    /// Extended attributes of a directory, sorted by name. Those of a file are read when it is
    /// opened; a symlink has none of the kinds that are kept.
    pub xattrs: Vec<Xattr>,
}

impl Found {
    /// The path below its root; empty for the root itself.
    pub fn rel(&self, root: &ScanRoot) -> &[u8] {
        self.path.get(root.label.len() + 1..).unwrap_or_default()
    }
}

/// How to scan, whatever the root. Excludes are part of each root's [`Filter`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the ignore file: patterns in the language of gitignore, for the directory that
    /// holds it and everything below. The nearest file that has an opinion wins.
    pub ignore_file: String,
    /// Regular files of more bytes are left out with a notice, databases too.
    pub exclude_larger_than: Option<u64>,
    /// Do not enter directories on another file system than their root.
    pub one_file_system: bool,
    /// Directories that are never entered and not stored, by device and inode, wherever they are
    /// met: our own state and cache, and a repository below a root.
    pub own: Vec<(u64, u64)>,
}

impl Options {
    /// Adds a directory to [`Options::own`], if it is there.
    pub fn leave_out(&mut self, dir: &std::path::Path) {
        use std::os::unix::fs::MetadataExt as _;
        if let Ok(metadata) = std::fs::metadata(dir) {
            self.own.push((metadata.dev(), metadata.ino()));
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ignore_file: ".agent-backup-ignore".to_owned(),
            exclude_larger_than: None,
            one_file_system: false,
            own: Vec::new(),
        }
    }
}

/// What a scan handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files, hard links included.
    pub files_count: u64,
    /// Of those, further names of a file that came before.
    pub hard_links_count: u64,
    /// Directories.
    pub dirs_count: u64,
    /// Symbolic links.
    pub symlinks_count: u64,
    /// FIFOs, sockets and devices.
    pub specials_count: u64,
    /// Bytes in regular files, each file once.
    pub file_bytes: u64,
    /// Names that filter or ignore files left out; what is below a directory is not counted.
    pub excluded_count: u64,
    /// Problems that make the snapshot incomplete; notices are not counted.
    pub problems_count: u64,
}

/// Why a scan did not happen or did not finish. Everything smaller is a [`Problem`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cancel flag was raised.
    #[error("the scan was cancelled")]
    Cancelled,
    /// A label is no relative path of proper names.
    #[error("label {label:?} is not a relative path of plain names")]
    Label {
        /// The label.
        label: String,
    },
    /// Two roots would give entries the same path.
    #[error("labels {first:?} and {second:?} overlap")]
    Overlap {
        /// The label that sorts first.
        first: String,
        /// The same, or one below it.
        second: String,
    },
    /// A root is restricted to something that is no single name.
    #[error("root {label:?} names a file that is not a plain name")]
    FileName {
        /// Label of the root.
        label: String,
    },
}

/// Scans all roots. Entries go to `found` in tree order, whatever the order of the roots;
/// `ControlFlow::Break` ends the scan early without an error. `cancel` is looked at per entry.
pub fn scan(
    roots: &[ScanRoot],
    options: &Options,
    cancel: &AtomicBool,
    found: &mut dyn FnMut(Found) -> ControlFlow<()>,
    problem: &mut dyn FnMut(Problem),
) -> Result<Totals, Error> {
    let order = root_order(roots)?;
    let mut walk = walk::Walk::new(options, cancel, found, problem);
    for index in order {
        if walk.root(index, &roots[index])?.is_break() {
            break;
        }
    }
    Ok(walk.finish())
}

/// Indices of the roots in tree order of their labels, which are checked on the way: with no label
/// at or below another one, all entries of a root lie between those of its neighbours.
fn root_order(roots: &[ScanRoot]) -> Result<Vec<usize>, Error> {
    for root in roots {
        let is_ours = repo::gone::holds(root.label.as_bytes());
        if is_ours || !root.label.split('/').all(|name| is_name(name.as_bytes())) {
            return Err(Error::Label { label: root.label.clone() });
        }
        if !root.files.iter().flatten().all(|name| is_name(name)) {
            return Err(Error::FileName { label: root.label.clone() });
        }
    }
    let label = |index: &usize| roots[*index].label.as_bytes();
    let mut order: Vec<usize> = (0..roots.len()).collect();
    order.sort_by(|a, b| path_order(label(a), label(b)));
    for pair in order.windows(2) {
        let (first, second) = (label(&pair[0]), label(&pair[1]));
        let below = second.starts_with(first) && second.get(first.len()) == Some(&b'/');
        if below || path_order(first, second) == Ordering::Equal {
            let [first, second] = [pair[0], pair[1]].map(|index| roots[index].label.clone());
            return Err(Error::Overlap { first, second });
        }
    }
    Ok(order)
}

/// Whether these bytes can name something in a directory.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}
