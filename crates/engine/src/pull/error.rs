//! What stops a whole pull. What befalls one entry is a [`super::Problem`] in the report instead.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An error that stops a pull.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository or its store failed.
    #[error(transparent)]
    Repo(#[from] repo::Error),
    /// The target itself could not be used.
    #[error("{op} {path}: {source}")]
    Target {
        /// What was attempted.
        op: &'static str,
        /// The local path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The disk of the target is full, or a quota is reached.
    #[error("no space left for {path}: {source}")]
    Full {
        /// The entry that did not fit, escaped.
        path: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// Refused because going on could mix things up.
    #[error("stopped for safety: {0}")]
    Refused(String),
    /// A pattern cannot be read.
    #[error("pattern: {0}")]
    Pattern(#[from] globset::Error),
    /// What has to be done before could not be.
    #[error(transparent)]
    Verb(Box<crate::Error>),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// A failure of the target as a whole.
    pub(super) fn target(op: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Target { op, path: path.to_owned(), source: source.into() }
    }
}

/// Result of a pull.
pub type Result<T> = std::result::Result<T, Error>;

/// Is the disk full, or a quota reached?
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// A local error in words that say what stands in the way.
pub(super) fn explain(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => "a symbolic link stands where a directory belongs".into(),
        Some(Errno::NOTDIR) => "something that is no directory stands in the way".into(),
        Some(Errno::ISDIR | Errno::NOTEMPTY) => "a directory stands in the way".into(),
        Some(Errno::EXIST) => "something appeared there while the pull ran".into(),
        Some(Errno::NAMETOOLONG) => "the name is too long for this file system".into(),
        _ => error.to_string(),
    }
}

/// Stored bytes as text that cannot drive a terminal: one line, controls and bidi marks escaped.
pub(crate) fn show(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            let hidden = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || hidden {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            _ = write!(out, "\\x{byte:02x}"); // a String takes all
        }
    }
    out
}
