//! The machine key file: lets one machine open one repository without a person.
//!
//! ```text
//! # agent-backup machine key. Whoever reads this file can read the repository: keep it private.
//! version 1
//! repository <32 hex digits>
//! slot <32 hex digits>
//! secret <64 hex digits>
//! ```
//! Written whole or not at all, mode 0600, in directories of mode 0700. Reading refuses a file that
//! others could have read or that another user (root aside) owns.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::Secret;
use crate::error::{Error, Result};
use crate::id::{RepoId, SlotId};

const COMMENT: &str =
    "# agent-backup machine key. Whoever reads this file can read the repository: keep it private.";
const VERSION: &str = "1";
/// Largest file that is read: ours has about 300 bytes.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// What a machine holds to open its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineKey {
    /// The repository it belongs to.
    pub repo: RepoId,
    /// The slot it opens.
    pub slot: SlotId,
    /// The secret of the slot.
    pub secret: Secret,
}

impl MachineKey {
    /// A fresh key for a slot that does not exist yet.
    pub fn random(repo: RepoId) -> Self {
        Self { repo, slot: SlotId(crate::random::bytes()), secret: Secret::random() }
    }

    /// Writes the file, replacing an older one; on return it survives a power cut.
    pub fn write(&self, path: &Path) -> Result<()> {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| io_error("create", dir, e))?;
        let temp = temp_beside(path)?;
        let written = write_new(&temp, self.text().as_bytes())
            .map_err(|e| io_error("write", &temp, e))
            .and_then(|()| {
                std::fs::rename(&temp, path).map_err(|e| io_error("rename to", path, e))
            });
        if let Err(error) = written {
            // the first error counts; a leftover is private and harmless
            let _ = std::fs::remove_file(&temp);
            return Err(error);
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io_error("sync", dir, e))
    }

    /// Reads the file of the repository `repo`.
    ///
    /// [`Error::Refused`] if others can read it or own it, [`Error::WrongKey`] if it belongs to
    /// another repository, [`Error::Corrupt`] if it does not parse, [`Error::Io`] if it is not there.
    pub fn read(path: &Path, repo: &RepoId) -> Result<Self> {
        let io = |e: io::Error| io_error("read", path, e);
        // a FIFO in this place must not hang the run
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io(io::Error::from(e)))?,
        );
        check_private(path, &file.metadata().map_err(io)?)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::from(u16::MAX)));
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        let key = Self::parse(&path.display().to_string(), &bytes)?;
        key.expect_repo(repo).map_err(|_| Error::WrongKey {
            detail: format!(
                "{} is the machine key of repository {}, this is {repo}",
                path.display(),
                key.repo
            ),
        })?;
        Ok(key)
    }

    /// [`Error::WrongKey`] if the key belongs to another repository.
    pub(crate) fn expect_repo(&self, repo: &RepoId) -> Result<()> {
        if self.repo == *repo {
            return Ok(());
        }
        Err(Error::WrongKey {
            detail: format!("the machine key is of repository {}, this is {repo}", self.repo),
        })
    }

    fn text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(HEXLOWER.encode(self.secret.expose()));
        Zeroizing::new(format!(
            "{COMMENT}\nversion {VERSION}\nrepository {}\nslot {}\nsecret {}\n",
            self.repo, self.slot, *secret
        ))
    }

    /// Strict: each line once, nothing unknown. Messages never hold what the file holds.
    fn parse(object: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(object, what);
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(bad("larger than any machine key"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not text"))?;
        let mut lines = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .ok_or_else(|| bad(&format!("it has no line `{name}` in its place")))
        };
        let version = field("version")?;
        if version != VERSION {
            return Err(match version.parse::<u32>() {
                Ok(2..) => Error::TooNew { what: format!("{object} has version {version}") },
                _ => bad("its version is not a number"),
            });
        }
        let repo =
            RepoId::from_hex(field("repository")?).ok_or_else(|| bad("bad repository id"))?;
        let slot = SlotId::from_hex(field("slot")?).ok_or_else(|| bad("bad slot id"))?;
        let mut secret = Secret::new([0; 32]);
        let digits = field("secret")?.as_bytes();
        if digits.len() != 64 || HEXLOWER.decode_mut(digits, &mut secret.0).is_err() {
            return Err(bad("bad secret"));
        }
        if lines.next().is_some() {
            return Err(bad("lines after the secret"));
        }
        Ok(Self { repo, slot, secret })
    }
}

fn io_error(op: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { op, path: path.display().to_string(), source }
}

/// A name nobody can guess, in the same directory so that a rename is atomic.
fn temp_beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io_error("write", path, io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))
    })?;
    let mut temp = std::ffi::OsString::from(".");
    temp.push(name);
    temp.push(format!(".{}.tmp", HEXLOWER.encode(&crate::random::bytes::<8>())));
    Ok(path.with_file_name(temp))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn check_private(path: &Path, meta: &std::fs::Metadata) -> Result<()> {
    let refused = |reason: String| Err(Error::Refused { reason });
    let shown = path.display();
    if !meta.is_file() {
        return refused(format!("{shown} is not a regular file"));
    }
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own && meta.uid() != 0 {
        return refused(format!("{shown} belongs to another user (uid {})", meta.uid()));
    }
    if meta.mode() & 0o077 != 0 {
        return refused(format!("others can read {shown}; run: chmod 600 {shown}"));
    }
    Ok(())
}
