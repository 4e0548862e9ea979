//! Our private directory for captures: spools without names, and copies that SQLite must find by
//! name. It lies in the state directory of a repository, whose lock the push holds, so whatever is
//! in it when a push begins was left by one that was killed.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Removes what an earlier run left there and makes it, mode 0700.
    pub(crate) fn create(dir: PathBuf) -> io::Result<Self> {
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => DirBuilder::new().mode(0o700).create(&dir)?,
        }
        Ok(Self { dir })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what stays is removed when the next push begins
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
