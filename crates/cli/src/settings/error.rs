//! What can be wrong with settings. No message ever holds a secret.

use std::io;
use std::path::PathBuf;

use crate::ui::sanitize;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configuration file says something wrong: `file:line: key: what`.
    #[error("{}", place(.file, *.line, .key, .what))]
    Config {
        /// The file.
        file: PathBuf,
        /// Line, counted from one.
        line: usize,
        /// The key at fault; empty if the text is no TOML.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// A file of settings cannot be read.
    #[error("cannot read {}: {source}", sanitize::path(path))]
    ConfigRead {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file with a secret that others may read.
    #[error("{} holds a secret and others can read it", sanitize::path(path))]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A flag or variable has a value that cannot be used.
    #[error("{name}: {what}")]
    Value {
        /// The flag or variable.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// `B2_ENCRYPT=false`.
    #[error(
        "B2_ENCRYPT asks for no encryption: every repository of agent-backup is encrypted, \
             because transcripts hold secrets and whoever reads the bucket would have them"
    )]
    Unencrypted,
    /// Where a secret should come from gave none.
    #[error("no secret from {from}: {what}")]
    Secret {
        /// Where from.
        from: String,
        /// What happened.
        what: String,
    },
    /// A storage key of which a half is missing.
    #[error("{what}")]
    Credentials {
        /// What is missing.
        what: String,
    },
    /// Nothing to open the repository with.
    #[error("this machine has no key for the repository, and no passphrase was given")]
    NoSecret,
    /// Nobody knows the home directory.
    #[error("HOME is not set and the user has no home directory")]
    NoHome,
}

/// Result of looking at settings.
pub(crate) type Result<T> = std::result::Result<T, Error>;

fn place(file: &std::path::Path, line: usize, key: &str, what: &str) -> String {
    let file = sanitize::path(file);
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    format!("{file}:{line}: {key}{what}")
}
