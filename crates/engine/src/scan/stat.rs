//! Metadata of one file as the system gives it.

use repo::Kind;
use rustix::fs::FileType;

/// What `lstat` says. All of it takes part in deciding whether a file changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names.
    pub nlink: u64,
    /// Permission bits (07777).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Modification time: whole seconds since 1970 (may be negative).
    pub mtime_secs: i64,
    /// Modification time: nanoseconds within the second.
    pub mtime_nanos: u32,
    /// Time of the last change of content or metadata: whole seconds since 1970.
    pub ctime_secs: i64,
    /// The same: nanoseconds within the second.
    pub ctime_nanos: u32,
}

impl Stat {
    /// From the standard library's metadata.
    pub(crate) fn of_metadata(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            nlink: metadata.nlink(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: metadata.size(),
            blocks: metadata.blocks(),
            mtime_secs: metadata.mtime(),
            mtime_nanos: number(metadata.mtime_nsec()),
            ctime_secs: metadata.ctime(),
            ctime_nanos: number(metadata.ctime_nsec()),
        }
    }

    /// Both describe the same file of the file system (not: the same content).
    pub fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// Splits what the system gives into kind and metadata. `None` for kinds nobody knows.
pub(super) fn from_system(raw: &rustix::fs::Stat) -> (Option<Kind>, Stat) {
    let mode = number::<u32>(raw.st_mode);
    let stat = Stat {
        dev: number(raw.st_dev),
        ino: number(raw.st_ino),
        nlink: number(raw.st_nlink),
        mode: mode & 0o7777,
        uid: raw.st_uid,
        gid: raw.st_gid,
        size: number(raw.st_size),
        blocks: number(raw.st_blocks),
        mtime_secs: number(raw.st_mtime),
        mtime_nanos: number(raw.st_mtime_nsec),
        ctime_secs: number(raw.st_ctime),
        ctime_nanos: number(raw.st_ctime_nsec),
    };
    (kind(FileType::from_raw_mode(raw.st_mode)), stat)
}

/// The kind of entry for a file type.
pub(super) fn kind(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Dir),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Socket => Some(Kind::Socket),
        FileType::CharacterDevice | FileType::BlockDevice => Some(Kind::Device),
        FileType::Unknown => None,
    }
}

/// The fields have other widths and signs on each system. None holds a value that does not fit
/// (a negative size is a broken file system), so what does not is zero.
fn number<T: Default>(value: impl TryInto<T>) -> T {
    value.try_into().unwrap_or_default()
}
