//! What can go wrong in a verb, named by what the caller can do.

use std::path::PathBuf;

use repo::OpId;

/// An error that stops a verb. What concerns one file only is reported and survived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository or its store failed.
    #[error(transparent)]
    Repo(#[from] repo::Error),
    /// What another program wrote could not be read.
    #[error(transparent)]
    Import(#[from] ::import::Error),
    /// The sources could not be scanned.
    #[error(transparent)]
    Scan(#[from] crate::scan::Error),
    /// A file of our own (state, cache, keys) failed.
    #[error("{op} {}: {source}", path.display())]
    Local {
        /// What was attempted.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Another agent-backup works on this repository here.
    #[error("another agent-backup is working on this repository here{}", holder_text(*.holder))]
    Busy {
        /// Process id of the holder, if it says.
        holder: Option<u32>,
    },
    /// Another daemon watches over this repository here.
    #[error("a daemon for this repository runs here already{}", holder_text(*.holder))]
    DaemonRuns {
        /// Process id of the holder, if it says.
        holder: Option<u32>,
    },
    /// None of the roots has anything to back up.
    #[error("nothing to back up")]
    NothingToBackUp,
    /// A snapshot that was named to be forgotten is pinned.
    #[error("snapshot {0} is pinned")]
    Pinned(OpId),
    /// A policy would leave nothing of a group of snapshots.
    #[error(
        "the policy keeps none of {count} snapshot{} that belong together, {newest} the newest of them",
        if *.count == 1 { "" } else { "s" }
    )]
    KeepsNothing {
        /// The newest one of the group.
        newest: OpId,
        /// How many there are.
        count: usize,
    },
    /// The newest snapshot is asked for, and one that does not open may be that.
    #[error("{damage}; it may be the snapshot that is asked for")]
    MayBeNewest {
        /// Why one does not open.
        damage: repo::Error,
        /// The one that is meant if it is not that.
        other: Option<OpId>,
    },
    /// The run was cancelled by a signal.
    #[error("interrupted")]
    Cancelled,
    /// A file of rules for secrets cannot be used.
    #[error("the rules: {0}")]
    Rules(String),
    /// A pattern to search for cannot be used.
    #[error("the pattern: {0}")]
    Pattern(String),
    /// Nothing in the snapshot fits what was asked for.
    #[error("{0}")]
    NotFound(String),
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Repo(error.into())
    }
}

impl Error {
    /// Shorthand for [`Error::Local`].
    pub(crate) fn local(
        op: &'static str,
        path: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> Self {
        Self::Local { op, path: path.into(), source }
    }
}

/// Result of a verb.
pub type Result<T> = std::result::Result<T, Error>;
