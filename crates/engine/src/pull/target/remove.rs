//! Removing what a snapshot does not have, by descriptors only.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::AtFlags;

use super::{Facts, Found, facts_at, open_dir};

/// Deepest directory that is removed; each level holds a descriptor.
const DEPTH_MAX: u32 = 200;

/// Directories that must stay whatever happens, by device and inode: every base of this pull.
pub(crate) type Guard = HashSet<(u64, u64)>;

/// What a removal did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Names removed.
    pub(crate) count: u64,
    /// Something below had to stay: a base, another file system.
    pub(crate) kept: bool,
}

/// Removes one name and all below it. Links are unlinked, never followed; a directory of the guard
/// or on another file system stays, and so does each directory above it.
pub(crate) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8], guard: &Guard) -> io::Result<Removed> {
    let mut removed = Removed::default();
    let device = Facts::of(dir)?.id.0;
    remove(dir, name, guard, device, 0, &mut removed)?;
    Ok(removed)
}

fn remove(
    dir: BorrowedFd<'_>,
    name: &[u8],
    guard: &Guard,
    device: u64,
    depth: u32,
    removed: &mut Removed,
) -> io::Result<()> {
    let Some(facts) = facts_at(dir, name)? else { return Ok(()) };
    if facts.found != Found::Dir {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        removed.count += 1;
        return Ok(());
    }
    let inner = open_dir(dir, name)?;
    let id = Facts::of(&inner)?.id;
    if guard.contains(&id) || id.0 != device {
        removed.kept = true;
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(io::Error::other("too deep to remove"));
    }
    let mut kept_inside = false;
    for entry in rustix::fs::Dir::read_from(&inner)? {
        let entry = entry?;
        let below = entry.file_name().to_bytes();
        if below == b"." || below == b".." {
            continue;
        }
        let mut part = Removed::default();
        let result = remove(inner.as_fd(), below, guard, device, depth + 1, &mut part);
        removed.count += part.count;
        kept_inside |= part.kept;
        result?;
    }
    if kept_inside {
        removed.kept = true;
        return Ok(());
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    removed.count += 1;
    Ok(())
}
