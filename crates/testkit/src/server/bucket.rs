//! What the server holds: versions of objects under keys, as B2 keeps them. A delete adds a marker.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes of a version.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Memory(Arc<Vec<u8>>),
    Disk(Arc<File>, u64),
}

impl Body {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, len) => *len,
        }
    }

    /// Fills `buffer` from `offset` on.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                let part = bytes.get(start..start + buffer.len());
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::Disk(file, _) => file.read_exact_at(buffer, offset),
        }
    }
}

/// A body on its way in.
pub(super) enum Incoming {
    Memory(Vec<u8>),
    Disk(File, u64),
}

impl Incoming {
    /// A body in memory, or in a file of this folder that has no name any more.
    pub(super) fn new(folder: Option<&PathBuf>, number: u64) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self::Memory(Vec::new())) };
        let path = folder.join(format!("{}-{number}", std::process::id()));
        let options = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self::Disk(options, 0))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(body) => body.extend_from_slice(bytes),
            Self::Disk(file, len) => {
                file.write_all(bytes)?;
                *len += bytes.len() as u64;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Body {
        match self {
            Self::Memory(body) => Body::Memory(Arc::new(body)),
            Self::Disk(file, len) => Body::Disk(Arc::new(file), len),
        }
    }
}

/// One version; without a body it is a hide marker.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) id: u64,
    pub(super) body: Option<Body>,
    pub(super) modified: SystemTime,
}

/// All versions of all keys, oldest first.
#[derive(Debug)]
pub(super) struct Bucket {
    folder: Option<PathBuf>,
    versions: BTreeMap<String, Vec<Version>>,
    next_id: u64,
}

impl Bucket {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, versions: BTreeMap::new(), next_id: 1 }
    }

    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.folder.clone()
    }

    /// Adds a version; returns its id.
    pub(super) fn put(&mut self, key: &str, body: Body) -> u64 {
        self.add(key, Some(body))
    }

    /// Hides a key. B2 answers well even where there is nothing to hide.
    pub(super) fn hide(&mut self, key: &str) {
        if self.newest(key).is_some() {
            self.add(key, None);
        }
    }

    /// The newest version, unless it is a hide marker.
    pub(super) fn newest(&self, key: &str) -> Option<(&Version, &Body)> {
        let version = self.versions.get(key)?.last()?;
        version.body.as_ref().map(|body| (version, body))
    }

    pub(super) fn versions(&self, key: &str) -> usize {
        self.versions.get(key).map_or(0, Vec::len)
    }

    /// Key, length and time of what is not hidden, by key.
    pub(super) fn live(&self) -> impl Iterator<Item = (&str, u64, SystemTime)> {
        self.live_from("")
    }

    pub(super) fn live_from(
        &self,
        first: &str,
    ) -> impl Iterator<Item = (&str, u64, SystemTime)> + use<'_> {
        self.versions.range(first.to_owned()..).filter_map(|(key, versions)| {
            let version = versions.last()?;
            Some((key.as_str(), version.body.as_ref()?.len(), version.modified))
        })
    }

    /// All versions of keys that start so, by key, each key's newest first; and which are current.
    pub(super) fn all_versions(
        &self,
        prefix: &str,
    ) -> impl Iterator<Item = (&str, &Version, bool)> + use<'_> {
        let prefix = prefix.to_owned();
        let keys = self.versions.range(prefix.clone()..);
        keys.take_while(move |(key, _)| key.starts_with(&prefix)).flat_map(|(key, versions)| {
            let newest = versions.len() - 1;
            let numbered = versions.iter().enumerate().rev();
            numbered.map(move |(n, version)| (key.as_str(), version, n == newest))
        })
    }

    /// One version with a body.
    pub(super) fn version(&self, key: &str, id: u64) -> Option<(&Version, &Body)> {
        let version = self.versions.get(key)?.iter().find(|version| version.id == id)?;
        version.body.as_ref().map(|body| (version, body))
    }

    fn add(&mut self, key: &str, body: Option<Body>) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "a server has its own clock")]
        let modified = SystemTime::now();
        let id = self.next_id;
        self.next_id += 1;
        self.versions.entry(key.to_owned()).or_default().push(Version { id, body, modified });
        id
    }
}
