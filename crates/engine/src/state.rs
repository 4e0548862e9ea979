//! The state of this machine for one repository: small, not deletable without loss of protection,
//! unlike the cache. `<state>/repos/<repository id>/{state.json,machine.key,lock}`, below it
//! `gc/{state.json,lock}` for collections, which run beside pushes, `done/` (see [`crate::journal`]) and
//! `daemon/lock`; `<state>/daemon/<hash of an address>/{state.json,lock}` for the daemon of an address; directories 0700, files 0600;
//! `<state>/machine-id` beside them for all repositories.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use repo::{BlockId, MachineId, OpId, RepoId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the name of a file begins that is not whole yet.
const TEMP_PREFIX: &str = ".tmp-";
/// What this machine did last, a file a verb.
pub(crate) const DONE: &str = "done";

/// How the name of a directory begins in which databases are read.
const READING_PREFIX: &str = "reading-";

/// What is remembered. Ids are hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Counts this machine's snapshots.
    #[serde(default)]
    pub(crate) counter: u64,
    /// This machine's newest acknowledged snapshot.
    pub(crate) previous: Option<Previous>,
    /// An operation that was announced and not ended: a crash leaves it here.
    pub(crate) unfinished: Option<String>,
    /// For each set of roots, the snapshot that is current.
    #[serde(default)]
    pub(crate) sets: BTreeMap<String, Current>,
    /// Alarms that nobody acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alarms: Vec<crate::gone::Alarm>,
}

/// What collections remember.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GcState {
    /// A collection that was announced and not ended: a crash leaves it here.
    pub(crate) unfinished: Option<String>,
}

/// A snapshot this machine made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) id: String,
    /// BLAKE3 of its sealed object.
    pub(crate) hash: String,
}

/// The current snapshot of a set of roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) snapshot: String,
    pub(crate) tree: String,
    /// The tree without what is gone from its source, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<String>,
}

impl Current {
    /// The snapshot, its tree, and the tree that a look at the sources finds if nothing changed.
    pub(crate) fn ids(&self) -> Option<(OpId, BlockId, BlockId)> {
        let tree = BlockId::from_hex(&self.tree)?;
        let live = self.live.as_ref().map_or(Some(tree), |live| BlockId::from_hex(live))?;
        Some((OpId::from_hex(&self.snapshot)?, tree, live))
    }
}

/// The state directory of one repository.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    dir: PathBuf,
}

/// Makes a private directory with its parents.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::local("create", dir, e))
}

/// Writes a file so that it is whole or not there: private temporary file, fsync, rename, fsync.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().expect("files lie in directories");
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| Error::local("write", path, e))
}

impl StateDir {
    /// The directory of a repository under the machine's state directory.
    pub(crate) fn open(state: &Path, repo: &RepoId) -> Result<Self> {
        let dir = state.join("repos").join(repo.hex());
        private_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Any directory of the machine's state, made private.
    pub(crate) fn at(dir: PathBuf) -> Result<Self> {
        private_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Where the machine key of a repository lies.
    pub(crate) fn machine_key(state: &Path, repo: &RepoId) -> PathBuf {
        state.join("repos").join(repo.hex()).join("machine.key")
    }

    /// What collections have to themselves.
    pub(crate) fn of_gc(&self) -> Result<Self> {
        let dir = self.dir.join("gc");
        private_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The directory itself, for files without a name.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where captures keep what they must keep for a moment. Only under the lock.
    pub(crate) fn captures(&self) -> PathBuf {
        self.dir.join("capture")
    }

    /// A private directory for copies of databases that are read; dropped, it is removed. What a killed
    /// run left there goes with the first reading a day later.
    pub(crate) fn reading_room(&self) -> std::io::Result<tempfile::TempDir> {
        for entry in std::fs::read_dir(&self.dir)?.flatten() {
            let ours = entry.file_name().as_encoded_bytes().starts_with(READING_PREFIX.as_bytes());
            let age = entry.metadata().and_then(|m| m.modified()).map(|t| t.elapsed());
            if ours && matches!(age, Ok(Ok(age)) if age.as_secs() > 86_400) {
                // what stays is private, and the next reading tries again
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        tempfile::Builder::new().prefix(READING_PREFIX).tempdir_in(&self.dir)
    }

    fn file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Reads the state; none yet is an empty one. A damaged one is an error: it protects against a
    /// rolled-back repository and must not be lost in silence.
    pub(crate) fn load<T: DeserializeOwned + Default>(&self) -> Result<T> {
        Ok(self.load_opt()?.unwrap_or_default())
    }

    /// Reads the state, if there is one.
    pub(crate) fn load_opt<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let path = self.file();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Error::local("read", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, e))
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::local("read", &path, e)),
        }
    }

    /// Writes the state.
    pub(crate) fn save<T: Serialize>(&self, state: &T) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(state).expect("plain data encodes");
        write_whole(&self.file(), &bytes)
    }

    /// Removes what a killed run left half-written. Under the lock nobody else writes here, but a verb that
    /// needs no lock and at this moment notes that it ended: it says then that it is not remembered.
    fn tidy(&self) {
        let dirs = [self.dir.clone(), self.dir.join(DONE)];
        for entry in dirs.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
                // a leftover that stays is small, private and harmless
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// [`Error::Busy`] if somebody has the lock, and names the holder. Takes nothing for longer than this looks,
    /// and makes no file.
    pub(crate) fn try_look(&self) -> Result<()> {
        let path = self.dir.join("lock");
        let fail = |e| Error::local("look at", &path, e);
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(fail)?,
        };
        // shared: two that look at the same time do not take each other for a holder
        match file.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::Busy { holder: holder(&mut file) })
            }
            Err(std::fs::TryLockError::Error(e)) => Err(fail(e)),
        }
    }

    /// Takes the lock of this repository on this machine; [`Error::Busy`] names the holder.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.dir.join("lock");
        let fail = |e| Error::local("lock", &path, e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::Busy { holder: holder(&mut file) });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(fail(e)),
        }
        file.set_len(0).map_err(fail)?;
        write!(file, "{}", std::process::id()).map_err(fail)?;
        self.tidy();
        Ok(Lock { _file: file })
    }
}

/// The process id in a lock file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Holds the lock until it is dropped, also by a crash.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    _file: File,
}

/// The key under fingerprints of findings: of this machine, for all repositories; made on first use.
pub(crate) fn secrets_key(state: &Path) -> Result<[u8; 32]> {
    private_dir(state)?;
    let path = state.join("secrets.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let bytes = data_encoding::HEXLOWER.decode(text.trim().as_bytes()).ok();
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
                let what = "it holds no key; remove it, and fingerprints in lists of findings to \
                            ignore count no more";
                let what = std::io::Error::new(std::io::ErrorKind::InvalidData, what);
                Error::local("read", &path, what)
            })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key)
                .map_err(|e| Error::local("make", &path, std::io::Error::other(e)))?;
            write_whole(&path, format!("{}\n", data_encoding::HEXLOWER.encode(&key)).as_bytes())?;
            Ok(key)
        }
        Err(e) => Err(Error::local("read", &path, e)),
    }
}

/// This machine's id: random, made on first use.
pub(crate) fn machine_id(state: &Path) -> Result<MachineId> {
    private_dir(state)?;
    let path = state.join("machine-id");
    match std::fs::read_to_string(&path) {
        Ok(text) => MachineId::from_hex(text.trim()).ok_or_else(|| {
            let what = "it holds no machine id; remove it to become a new machine";
            Error::local("read", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, what))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let id = MachineId(OpId::random().0);
            write_whole(&path, format!("{id}\n").as_bytes())?;
            Ok(id)
        }
        Err(e) => Err(Error::local("read", &path, e)),
    }
}
