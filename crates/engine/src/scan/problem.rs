//! What the scan met and could not, or would not, look at.

use std::fmt;
use std::io;

/// One thing that went wrong, or was left out on purpose, with its path.
#[derive(Debug)]
pub struct Problem {
    /// Full path, label included, as raw bytes: escape before showing.
    pub path: Vec<u8>,
    /// Index of its root in the slice given to [`scan`](super::scan).
    pub root: usize,
    /// What happened.
    pub what: Trouble,
    /// What the system said, where it said something.
    pub error: Option<io::Error>,
}

/// Kinds of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Could not be listed, looked at or opened.
    Unreadable,
    /// Was listed and then gone.
    Vanished,
    /// A directory that became something else, or moved, while it was looked at.
    Replaced,
    /// Its full path is longer than [`PATH_BYTES_MAX`](super::PATH_BYTES_MAX).
    NameTooLong,
    /// A directory more than [`DEPTH_MAX`](super::DEPTH_MAX) levels down; not entered.
    TooDeep,
    /// An ignore file that could not be read or understood in full. The lines that could be are
    /// used.
    IgnoreFile,
    /// Notice: a file over the size limit.
    TooLarge,
    /// Notice: a directory on another file system; not entered.
    MountPoint,
}

impl Problem {
    /// Left out because the user asked for it: to be told, but the snapshot is complete.
    pub fn is_notice(&self) -> bool {
        matches!(self.what, Trouble::TooLarge | Trouble::MountPoint)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{}: {error}", self.what),
            None => self.what.fmt(f),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "cannot be read",
            Self::Vanished => "vanished while the directory was scanned",
            Self::Replaced => "was replaced while it was scanned",
            Self::NameTooLong => "has a path that is too long",
            Self::TooDeep => "is nested too deeply; not entered",
            Self::IgnoreFile => "is not a valid ignore file; bad lines have no effect",
            Self::TooLarge => "is over the size limit; left out",
            Self::MountPoint => "is on another file system; not entered",
        })
    }
}
