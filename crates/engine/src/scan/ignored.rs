//! Ignore files: patterns in the language of gitignore, from files of our own name only.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::IGNORE_FILE_BYTES_MAX;
use super::source::open_file_at;

/// The patterns of one ignore file, for paths relative to the directory that holds it.
#[derive(Debug)]
pub(super) struct Ignored(Gitignore);

impl Ignored {
    /// Reads the ignore file of an open directory. Lines that are not understood are left out and
    /// the first of them is the second result; a file that cannot be read has no patterns at all.
    pub(super) fn read(dir: BorrowedFd<'_>, name: &str) -> (Option<Self>, Option<std::io::Error>) {
        match read_bytes(dir, name) {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) => (None, Some(error)),
        }
    }

    fn parse(bytes: &[u8]) -> (Option<Self>, Option<std::io::Error>) {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        // With "." as root the matcher takes paths as they are.
        let mut builder = GitignoreBuilder::new(".");
        let mut bad_line = None;
        // The matcher drops white space at the end of a line, and with it the CR of a CRLF.
        for line in bytes.split(|byte| *byte == b'\n') {
            let added = match std::str::from_utf8(line) {
                Ok(line) => builder.add_line(None, line).map(|_| ()).map_err(invalid),
                Err(error) => Err(invalid(error)),
            };
            bad_line = bad_line.or(added.err());
        }
        match builder.build() {
            Ok(patterns) => (Some(Self(patterns)), bad_line),
            Err(error) => (None, Some(invalid(error))),
        }
    }

    /// Whether a path is left out (true), kept (false), or not spoken of.
    pub(super) fn says(&self, rel: &[u8], is_dir: bool) -> Option<bool> {
        match self.0.matched(Path::new(OsStr::from_bytes(rel)), is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }
}

fn read_bytes(dir: BorrowedFd<'_>, name: &str) -> std::io::Result<Vec<u8>> {
    let file = File::from(open_file_at(dir, name.as_bytes())?);
    if !file.metadata()?.is_file() {
        return Err(invalid("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > IGNORE_FILE_BYTES_MAX) {
        return Err(invalid("too large"));
    }
    Ok(bytes)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}
