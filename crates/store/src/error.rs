//! What can go wrong at a store, named by what the caller can do about it.

/// An error of the store. Messages name the object and the operation and never hold a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object is not there.
    #[error("{name}: no such object")]
    NotFound {
        /// Full object name.
        name: String,
    },
    /// The object is shorter than the range asked for.
    #[error("{name}: object is shorter than byte {end}")]
    Short {
        /// Full object name.
        name: String,
        /// End of the range asked for.
        end: u64,
    },
    /// The storage refused the key: bad key or missing capability (401, 403).
    #[error("{op} {name}: the storage refused the key: {detail}")]
    Denied {
        /// The verb that failed.
        op: &'static str,
        /// Object name or prefix.
        name: String,
        /// The storage's own words.
        detail: String,
    },
    /// A cap or quota of the account is reached (403 with a cap message).
    #[error("{op} {name}: the storage cap is reached: {detail}")]
    CapReached {
        /// The verb that failed.
        op: &'static str,
        /// Object name or prefix.
        name: String,
        /// The storage's own words.
        detail: String,
    },
    /// The bucket or directory does not exist.
    #[error("{address}: {detail}")]
    NoSuchStore {
        /// Address without secrets.
        address: String,
        /// What was missing.
        detail: String,
    },
    /// Unreachable, too slow or too busy after all retries.
    #[error("{op} {name}: the storage is unreachable: {detail}")]
    Unavailable {
        /// The verb that failed.
        op: &'static str,
        /// Object name or prefix.
        name: String,
        /// What the last try said.
        detail: String,
    },
    /// The storage does not accept such a request: not implemented there, or malformed.
    #[error("{op} {name}: the storage does not accept this: {detail}")]
    Rejected {
        /// The verb that failed.
        op: &'static str,
        /// Object name or prefix.
        name: String,
        /// The storage's own words.
        detail: String,
    },
    /// A local disk error under a directory store (disk full included; see `source.kind()`).
    #[error("{op} {name}: {source}")]
    Io {
        /// The verb that failed.
        op: &'static str,
        /// Object name or prefix.
        name: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The address or its settings cannot be used.
    #[error("{0}")]
    BadAddress(String),
    /// Not a name an object can have: a bug of the caller.
    #[error("{name:?} is not an object name")]
    BadName {
        /// What was given.
        name: String,
    },
    /// The run was cancelled while waiting for the store.
    #[error("cancelled")]
    Cancelled,
}

/// Result of a store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
