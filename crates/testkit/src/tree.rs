//! Directory trees: built in a line, read into memory, compared exactly.
//!
//! [`Plant`] builds a tree. [`Tree::read`] takes down what a tree is: type, mode, time in nanoseconds,
//! length, hash of the bytes, link target, which names are one file, extended attributes. Two of them are
//! equal or [`Tree::differences`] says in lines what is not. Owners are left out: a test rarely is root.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use sha2::{Digest, Sha256};

/// Builds a tree below a root. Names are relative; folders on the way are made.
#[derive(Debug)]
pub struct Plant {
    root: PathBuf,
    /// Folder times are set last: adding an entry changes them.
    folder_times: Vec<(PathBuf, (i64, u32))>,
}

impl Plant {
    /// Builds below `root`, which is made if it is missing.
    pub fn at(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned(), folder_times: Vec::new() })
    }

    /// A file.
    pub fn file(&mut self, name: &str, bytes: impl AsRef<[u8]>) -> io::Result<&mut Self> {
        fs::write(self.place(name)?, bytes)?;
        Ok(self)
    }

    /// An empty folder.
    pub fn folder(&mut self, name: &str) -> io::Result<&mut Self> {
        fs::create_dir_all(self.place(name)?)?;
        Ok(self)
    }

    /// A symbolic link; `target` is written as it is.
    pub fn link(&mut self, name: &str, target: &str) -> io::Result<&mut Self> {
        std::os::unix::fs::symlink(target, self.place(name)?)?;
        Ok(self)
    }

    /// Another name of a file in this tree.
    pub fn hard_link(&mut self, name: &str, file: &str) -> io::Result<&mut Self> {
        fs::hard_link(self.root.join(file), self.place(name)?)?;
        Ok(self)
    }

    /// The mode of a file or folder.
    pub fn mode(&mut self, name: &str, mode: u32) -> io::Result<&mut Self> {
        fs::set_permissions(self.root.join(name), fs::Permissions::from_mode(mode))?;
        Ok(self)
    }

    /// The modification time of any entry: seconds and nanoseconds. A folder's is set by [`Plant::done`].
    pub fn time(&mut self, name: &str, secs: i64, nanos: u32) -> io::Result<&mut Self> {
        let path = self.root.join(name);
        if path.symlink_metadata()?.is_dir() {
            self.folder_times.push((path, (secs, nanos)));
        } else {
            set_time(&path, (secs, nanos))?;
        }
        Ok(self)
    }

    /// An extended attribute; `false` where the file system has none.
    pub fn xattr(&mut self, name: &str, attribute: &str, value: &[u8]) -> io::Result<bool> {
        match xattr::set(self.root.join(name), attribute, value) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Ends the building and takes the tree down.
    pub fn done(&mut self) -> io::Result<Tree> {
        for (path, time) in self.folder_times.drain(..) {
            set_time(&path, time)?;
        }
        Tree::read(&self.root)
    }

    fn place(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(path)
    }
}

fn set_time(path: &Path, (secs, nanos): (i64, u32)) -> io::Result<()> {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What one entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its type and content.
    pub kind: Kind,
    /// Permission bits; a link's are always 0, as systems differ.
    pub mode: u32,
    /// Modification time: seconds and nanoseconds.
    pub time: (i64, i64),
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// Type and content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file: its length, the SHA-256 of its bytes, and the first name of the same file in this tree.
    File {
        /// Bytes.
        len: u64,
        /// Of its bytes.
        sha256: [u8; 32],
        /// Set on the second and later names of one file.
        same_as: Option<PathBuf>,
    },
    /// A symbolic link and where it points.
    Link(PathBuf),
    /// A FIFO, socket or device.
    Special(&'static str),
}

/// A tree, taken down. The root itself is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Entries by path relative to the root.
    pub entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Takes down what is below `root`. Reads every file, follows no link.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        gather(root, Path::new(""), &mut paths)?;
        paths.sort();
        let mut first_names = HashMap::new();
        let mut entries = BTreeMap::new();
        for path in paths {
            let entry = read_entry(&root.join(&path), &path, &mut first_names)?;
            entries.insert(path, entry);
        }
        Ok(Self { entries })
    }

    /// One line for each entry that is not the same in `other`; empty if the trees are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.entries {
            let shown = path.display();
            match other.entries.get(path) {
                None => lines.push(format!("- {shown}: {entry}")),
                Some(theirs) if theirs != entry => {
                    lines.push(format!("! {shown}: {}", entry.changes(theirs)));
                }
                Some(_) => {}
            }
        }
        for (path, entry) in &other.entries {
            if !self.entries.contains_key(path) {
                lines.push(format!("+ {}: {entry}", path.display()));
            }
        }
        lines
    }
}

/// Fails with the differences unless both directories hold the same tree.
#[track_caller]
pub fn assert_same(expected: &Path, actual: &Path) {
    let [expected, actual] = [expected, actual].map(Tree::read);
    match (expected, actual) {
        (Ok(expected), Ok(actual)) => assert_equal(&expected, &actual),
        (expected, actual) => {
            assert!(expected.is_ok() && actual.is_ok(), "cannot read: {expected:?} {actual:?}");
        }
    }
}

/// Fails with the differences unless both trees are the same.
#[track_caller]
pub fn assert_equal(expected: &Tree, actual: &Tree) {
    let lines = expected.differences(actual);
    assert!(lines.is_empty(), "the trees differ (- missing, + too many):\n{}", lines.join("\n"));
}

impl Entry {
    /// What is different in `other`, as `field this -> that`.
    fn changes(&self, other: &Self) -> String {
        let mut text = String::new();
        let mut change = |name: &str, this: String, that: String| {
            if this != that {
                let _ = write!(text, "{name} {this} -> {that}  ");
            }
        };
        change("content", self.kind.to_string(), other.kind.to_string());
        change("mode", format!("{:o}", self.mode), format!("{:o}", other.mode));
        change("time", format!("{:?}", self.time), format!("{:?}", other.time));
        change("xattrs", format!("{:?}", self.xattrs), format!("{:?}", other.xattrs));
        text.trim_end().to_owned()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:o} {}.{:09}", self.kind, self.mode, self.time.0, self.time.1)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("folder"),
            Self::File { len, sha256, same_as } => {
                let start = data_encoding::HEXLOWER.encode(&sha256[..6]);
                write!(f, "file of {len} bytes {start}")?;
                same_as.as_ref().map_or(Ok(()), |path| write!(f, " = {}", path.display()))
            }
            Self::Link(target) => write!(f, "link to {}", target.display()),
            Self::Special(what) => f.write_str(what),
        }
    }
}

fn gather(root: &Path, below: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            gather(root, &path, paths)?;
        }
        paths.push(path);
    }
    Ok(())
}

fn read_entry(
    path: &Path,
    name: &Path,
    first_names: &mut HashMap<(u64, u64), PathBuf>,
) -> io::Result<Entry> {
    let metadata = path.symlink_metadata()?;
    let kind = metadata.file_type();
    let mut xattrs = BTreeMap::new();
    let content = if kind.is_dir() {
        Kind::Folder
    } else if kind.is_symlink() {
        Kind::Link(fs::read_link(path)?)
    } else if kind.is_file() {
        let first = first_names.entry((metadata.dev(), metadata.ino()));
        let first = first.or_insert_with(|| name.to_owned());
        let same_as = (first != name).then(|| first.clone());
        Kind::File { len: metadata.len(), sha256: hash(path)?, same_as }
    } else if kind.is_fifo() {
        Kind::Special("fifo")
    } else if kind.is_socket() {
        Kind::Special("socket")
    } else {
        Kind::Special("device")
    };
    if kind.is_dir() || kind.is_file() {
        for attribute in xattr::list(path).into_iter().flatten() {
            // Labels of a security module belong to the machine.
            if !attribute.as_bytes().starts_with(b"security.") {
                let value = xattr::get(path, &attribute)?.unwrap_or_default();
                xattrs.insert(attribute, value);
            }
        }
    }
    let mode = if kind.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
    Ok(Entry { kind: content, mode, time: (metadata.mtime(), metadata.mtime_nsec()), xattrs })
}

fn hash(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            got => hash.update(&piece[..got]),
        }
    }
}
