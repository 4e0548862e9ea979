//! One entry of a snapshot's tree: a file, directory or link, with what a restore needs.
//!
//! Bytes: a CBOR map with integer keys (the `#[n(..)]` below); the path is kept beside it by the
//! node, which shares prefixes. Absent means "none" or zero. Unknown keys are ignored by readers.

use minicbor::{Decode, Encode};

use crate::map::Map;
use crate::pages::PageFormat;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Dir,
    /// A symbolic link; its target is in [`Entry::target`].
    #[n(2)]
    Symlink,
    /// A FIFO: recorded, never read, made again by restore.
    #[n(3)]
    Fifo,
    /// A socket: recorded, never restored.
    #[n(4)]
    Socket,
    /// A character or block device: recorded, never restored.
    #[n(5)]
    Device,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Xattr {
    /// Full name, such as `user.comment`, as bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// Value.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// Flags of an entry.
pub mod flag {
    /// The source moved while it was read: the content is what was read, once.
    pub const CHANGED_WHILE_READ: u32 = 1;
    /// Content is a consistent image of a SQLite database.
    pub const SQLITE: u32 = 1 << 1;
    /// The file had holes; restore makes holes of long runs of zeros.
    pub const SPARSE: u32 = 1 << 2;
    /// A SQLite database that could only be copied as it lay.
    pub const SQLITE_RAW: u32 = 1 << 3;
    /// A SQLite database that was found damaged when it was stored.
    pub const SQLITE_DAMAGED: u32 = 1 << 4;
    /// A SQLite database from which an adapter's rules left out rows or values.
    pub const SQLITE_EDITED: u32 = 1 << 5;
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// What it is.
    #[n(0)]
    pub kind: Kind,
    /// Permission bits (07777).
    #[n(1)]
    pub mode: u32,
    /// Modification time: whole seconds since 1970 (may be negative).
    #[n(2)]
    pub mtime_secs: i64,
    /// Modification time: nanoseconds within the second.
    #[n(3)]
    pub mtime_nanos: u32,
    /// Numeric owner.
    #[n(4)]
    pub uid: u32,
    /// Numeric group.
    #[n(5)]
    pub gid: u32,
    /// Owner's name at the source.
    #[n(6)]
    pub user: Option<String>,
    /// Group's name at the source.
    #[n(7)]
    pub group: Option<String>,
    /// Extended attributes, sorted by name.
    #[n(8)]
    pub xattrs: Option<Vec<Xattr>>,
    /// Bits of [`flag`].
    #[n(9)]
    pub flags: u32,
    /// File: length of the content in bytes.
    #[n(10)]
    pub size: u64,
    /// File: BLAKE3 of the whole content (all zero for other kinds and for hard links).
    #[cbor(n(11), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// File: where the content is.
    #[n(12)]
    pub map: Map,
    /// Symlink: its target, as bytes.
    #[cbor(n(13), with = "minicbor::bytes")]
    pub target: Option<Vec<u8>>,
    /// Hard link: full path (label included) of the entry that carries the content, which sorts
    /// before this one; kind is [`Kind::File`].
    #[cbor(n(14), with = "minicbor::bytes")]
    pub link: Option<Vec<u8>>,
    /// File: how its pages are laid out, if extents of its map are normalised pages.
    #[n(15)]
    pub pages: Option<Pages>,
    /// File: it is text in which markers stand in the place of values that do not leave their
    /// machine; how it is written.
    #[n(16)]
    pub redacted: Option<TextFormat>,
    /// File: marks stand in it in the place of secrets that do not leave their machine.
    #[n(17)]
    pub marks: Option<Marks>,
}

/// Marks in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Marks {
    /// How many places were replaced.
    #[n(0)]
    pub count: u64,
    /// What the file was at the source; none for a database.
    #[n(1)]
    pub source: Option<MarkedSource>,
}

/// A file before marks were put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct MarkedSource {
    /// Its length in bytes.
    #[n(0)]
    pub size: u64,
    /// Keyed BLAKE3 of its bytes ([`crate::keys::Keys::mark_key`]).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: [u8; 32],
}

/// How a text file is written in which values can have been left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum TextFormat {
    /// JSON, with what JSON5 adds.
    #[n(0)]
    Json,
    /// One JSON value a line.
    #[n(1)]
    JsonLines,
    /// TOML.
    #[n(2)]
    Toml,
    /// YAML.
    #[n(3)]
    Yaml,
    /// Lines of `NAME=value`.
    #[n(4)]
    Env,
}

/// The pages of a SQLite database. Every normalised extent begins and ends at a page of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Pages {
    /// Size of a page in bytes.
    #[n(0)]
    pub size: u32,
    /// Bytes at the end of each page that SQLite does not use.
    #[n(1)]
    pub reserved: u8,
}

impl Pages {
    /// Undoes the normalisation of bytes that begin at `at` in the file; false (and nothing done) if
    /// they are not whole pages.
    #[must_use]
    pub fn undo(self, at: u64, bytes: &mut [u8]) -> bool {
        let Some((format, first)) = self.whole(at, bytes) else { return false };
        for (pgno, page) in (first..).zip(bytes.chunks_exact_mut(self.size as usize)) {
            format.restore(page, pgno);
        }
        true
    }

    /// Normalises bytes that begin at `at` in the file; false if they are not whole pages or one of
    /// them would not come back, and then the bytes mean nothing. `scratch` is working space.
    #[must_use]
    pub fn apply(self, at: u64, bytes: &mut [u8], scratch: &mut Vec<u8>) -> bool {
        let Some((format, first)) = self.whole(at, bytes) else { return false };
        (first..)
            .zip(bytes.chunks_exact_mut(self.size as usize))
            .all(|(pgno, page)| format.normalise(page, pgno, scratch))
    }

    /// The number of the first page, if these are whole ones.
    fn whole(self, at: u64, bytes: &[u8]) -> Option<(PageFormat, u32)> {
        let format = PageFormat::new(self.size, self.reserved)?;
        let size = u64::from(self.size);
        let last = (at.checked_add(bytes.len() as u64)?) / size;
        let whole = at.is_multiple_of(size) && (bytes.len() as u64).is_multiple_of(size);
        (whole && u32::try_from(last).is_ok()).then_some(())?;
        Some((format, u32::try_from(at / size + 1).ok()?))
    }
}

impl From<PageFormat> for Pages {
    fn from(format: PageFormat) -> Self {
        Self { size: format.page_size(), reserved: format.reserved() }
    }
}

impl Entry {
    /// An entry of a kind with every other field empty; for builders and tests.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            mode: 0,
            mtime_secs: 0,
            mtime_nanos: 0,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            xattrs: None,
            flags: 0,
            size: 0,
            hash: [0; 32],
            map: Map::default(),
            target: None,
            link: None,
            pages: None,
            redacted: None,
            marks: None,
        }
    }
}
