//! What can go wrong, by what it stops: an object, a snapshot, or everything.

/// An error of an import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The place cannot be read: stops everything.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No snapshot of the old engine: stops everything.
    #[error(
        "{place}: nothing there was written by agent-backup-core: no <prefix>/<time>/manifest.json"
    )]
    Nothing {
        /// Address.
        place: String,
    },
    /// Manifests are sealed and no passphrase was given: stops everything.
    #[error("{place}: it is encrypted, and no passphrase of the old configuration was given")]
    NoPassphrase {
        /// Address.
        place: String,
    },
    /// No sealed manifest opens: stops everything.
    #[error("{place}: none of the manifests opens: {from} is not what they were encrypted with")]
    WrongPassphrase {
        /// Address.
        place: String,
        /// What was tried, in words.
        from: &'static str,
    },
    /// An object is missing, damaged, or not what its manifest says: stops a file, or a snapshot if it is a
    /// manifest.
    #[error("{object}: {what}")]
    Damaged {
        /// Its key.
        object: String,
        /// What is wrong, in words.
        what: String,
    },
    /// It may have been forged: stops a snapshot.
    #[error("{object}: refused: {what}")]
    Unsafe {
        /// Key of the manifest.
        object: String,
        /// Why, in words.
        what: String,
    },
}

impl Error {
    pub(crate) fn damaged(object: &str, what: impl Into<String>) -> Self {
        Self::Damaged { object: object.to_owned(), what: what.into() }
    }

    pub(crate) fn refused(object: &str, what: impl Into<String>) -> Self {
        Self::Unsafe { object: object.to_owned(), what: what.into() }
    }

    /// It concerns one object, and others may be read.
    pub fn is_of_one(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Unsafe { .. })
    }

    /// What a read of one object ended with: an object that is missing, cut short or lies on a bad
    /// sector is damaged; a place that cannot be reached stops everything.
    pub(crate) fn of_read(object: &str, error: store::Error) -> Self {
        match error {
            store::Error::NotFound { .. } => Self::damaged(object, "it is missing"),
            store::Error::Short { .. } => Self::damaged(object, "it is shorter than it was listed"),
            store::Error::Io { source, .. } => {
                Self::damaged(object, format!("it cannot be read: {source}"))
            }
            other => Self::Store(other),
        }
    }
}

/// Result of an import's step.
pub type Result<T, E = Error> = std::result::Result<T, E>;
