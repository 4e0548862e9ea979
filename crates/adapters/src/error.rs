//! What can be wrong with an adapter file, said so that its writer finds the place.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why an adapter cannot be used.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// A file that says something wrong. Shown as `file:line: key: what is wrong`.
    #[error("{}", place(.origin, *.line, .key, .what))]
    Invalid {
        /// The file, or what stands for it.
        origin: String,
        /// Line, counted from one.
        line: usize,
        /// The key at fault, empty if the text is not TOML at all.
        key: String,
        /// What is wrong, and where possible what to write instead.
        what: String,
    },
    /// A pattern that did not come from a file (`--exclude`).
    #[error("pattern '{pattern}': {what}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file or directory of adapters that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn place(origin: &str, line: usize, key: &str, what: &str) -> String {
    if key.is_empty() {
        format!("{origin}:{line}: {what}")
    } else {
        format!("{origin}:{line}: {key}: {what}")
    }
}
