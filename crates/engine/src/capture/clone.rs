//! A reflink of a database and its log: as quick as a file of any size can be copied.
//!
//! The caller holds a read transaction, so that nothing is taken back into the file or out of the
//! log meanwhile. The clone is made by a child process: a descriptor of our own on the file would
//! take SQLite's locks away when it is closed.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::sqlite::side_file;

/// Arguments that make `cp` share the blocks or fail. Elsewhere than on Linux it would copy instead.
pub(super) const REFLINK: Option<&str> =
    if cfg!(target_os = "linux") { Some("--reflink=always") } else { None };

/// A clone in our own directory; dropping it removes it.
#[derive(Debug)]
pub(super) struct Copy {
    _dir: TempDir,
    pub(super) path: PathBuf,
    pub(super) has_log: bool,
}

/// Clones the database at `path` and its log, if there is one, into `scratch`.
pub(super) fn clone(path: &Path, scratch: &Path, how: &str) -> io::Result<Copy> {
    let dir = tempfile::tempdir_in(scratch)?;
    let to = dir.path().join("image");
    cp(path, &to, how)?;
    // the file first: what the log has more is newer, and what it lacks was never written back
    let log = side_file(path, "-wal");
    let has_log = std::fs::symlink_metadata(&log).is_ok_and(|log| log.len() > 0);
    if has_log {
        cp(&log, &side_file(&to, "-wal"), how)?;
    }
    Ok(Copy { _dir: dir, path: to, has_log })
}

fn cp(from: &Path, to: &Path, how: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let status = Command::new("cp")
        .args([how, "--"])
        .args([from, to])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}
