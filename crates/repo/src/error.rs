//! What can go wrong in a repository, named by what the caller can do about it.

/// An error of the repository. Messages name the object and never hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no repository at the address.
    #[error("there is no repository at {address}")]
    NoRepository {
        /// Address without secrets.
        address: String,
    },
    /// A repository is already there.
    #[error("there is already a repository at {address}")]
    AlreadyExists {
        /// Address without secrets.
        address: String,
    },
    /// No key slot opens with the secret that was given.
    #[error("wrong passphrase or key: {detail}")]
    WrongKey {
        /// Which slots were tried.
        detail: String,
    },
    /// An object of the repository is damaged, forged or not what it should be.
    #[error("{object}: damaged: {what}")]
    Corrupt {
        /// Object name, or `block <id>`.
        object: String,
        /// What does not fit.
        what: String,
    },
    /// A block or object that something refers to is not in the repository.
    #[error("{object}: missing from the repository")]
    Missing {
        /// What is missing.
        object: String,
    },
    /// The repository needs a newer program.
    #[error("the repository needs a newer agent-backup: {what}")]
    TooNew {
        /// The version or feature that is unknown here.
        what: String,
    },
    /// Refused because going on could lose or mix up data.
    #[error("stopped for safety: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// No snapshot, or more than one, fits what was asked for.
    #[error("{0}")]
    NoSuchSnapshot(String),
    /// A local file (cache, state) failed.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The local path.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Shorthand for [`Error::Corrupt`].
    pub(crate) fn corrupt(object: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt { object: object.into(), what: what.into() }
    }
}

/// Result of a repository call.
pub type Result<T> = std::result::Result<T, Error>;
