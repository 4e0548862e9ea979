//! Metadata of entries: compared and set on descriptors, never on paths.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use repo::{Entry, Kind, Xattr};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Facts, Temp};

/// Largest extended attribute that Linux takes, in bytes.
const XATTR_BYTES_MAX: usize = 65_536;

/// Which metadata a pull sets.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Are we root? Owners and attributes outside `user.` need it.
    root: bool,
    /// Restore owners?
    owners: bool,
    /// Restore setuid, setgid and (on files) sticky?
    special_bits: bool,
    /// Ids of names that were looked up.
    users: Mutex<HashMap<String, Option<u32>>>,
    groups: Mutex<HashMap<String, Option<u32>>>,
}

impl Rules {
    pub(crate) fn new(owners: bool, special_bits: bool) -> Self {
        let root = rustix::process::geteuid().is_root();
        Self {
            root,
            owners: owners && root,
            special_bits,
            users: Mutex::default(),
            groups: Mutex::default(),
        }
    }

    /// The permission bits that an entry gets here.
    fn mode(&self, entry: &Entry) -> u32 {
        let kept = match entry.kind {
            _ if self.special_bits => 0o7777,
            Kind::Dir => 0o1777,
            _ => 0o777,
        };
        entry.mode & kept
    }

    /// The owner that an entry gets here: by name where this machine knows it, else by number.
    fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        if !self.owners {
            return None;
        }
        let uid = entry.user.as_ref().and_then(|name| {
            look_up(&self.users, name, |name| Some(uzers::get_user_by_name(name)?.uid()))
        });
        let gid = entry.group.as_ref().and_then(|name| {
            look_up(&self.groups, name, |name| Some(uzers::get_group_by_name(name)?.gid()))
        });
        let owner = (uid.unwrap_or(entry.uid), gid.unwrap_or(entry.gid));
        // All ones is no id: it means "leave" to the kernel.
        (owner.0 != u32::MAX && owner.1 != u32::MAX).then_some(owner)
    }

    /// The attributes of an entry that we may set.
    fn xattrs<'e>(&self, entry: &'e Entry) -> impl Iterator<Item = &'e Xattr> {
        let (root, special) = (self.root, self.special_bits);
        let all = entry.xattrs.as_deref().unwrap_or_default();
        // Capabilities of a program are what setuid is, by another name.
        let privileged = |attr: &Xattr| attr.name == b"security.capability";
        all.iter().filter(move |attr| {
            attr.name.starts_with(b"user.") || (root && (special || !privileged(attr)))
        })
    }
}

fn look_up(
    known: &Mutex<HashMap<String, Option<u32>>>,
    name: &str,
    ask: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(name.to_owned()).or_insert_with(|| ask(name))
}

/// Does anything that [`set`] would set differ? Without a descriptor, attributes are not compared.
pub(crate) fn differs(
    facts: &Facts,
    fd: Option<BorrowedFd<'_>>,
    entry: &Entry,
    rules: &Rules,
) -> bool {
    let symlink = entry.kind == Kind::Symlink;
    facts.mtime != (entry.mtime_secs, entry.mtime_nanos)
        || (!symlink && facts.mode != rules.mode(entry))
        || rules.owner(entry).is_some_and(|owner| owner != (facts.uid, facts.gid))
        || fd.is_some_and(|fd| rules.xattrs(entry).any(|attr| !has_xattr(fd, attr)))
}

fn has_xattr(fd: BorrowedFd<'_>, attr: &Xattr) -> bool {
    if attr.value.len() > XATTR_BYTES_MAX {
        return false;
    }
    let mut value = vec![0; attr.value.len() + 1];
    rustix::fs::fgetxattr(fd, attr.name.as_slice(), value.as_mut_slice())
        .is_ok_and(|len| value[..len] == attr.value)
}

/// Sets owner, attributes, mode and times of an open file, directory or FIFO, in this order: a
/// change of owner clears mode bits, and everything else would change the time. What may fail
/// without harm is told to `notice`.
pub(crate) fn set(
    fd: impl AsFd,
    entry: &Entry,
    rules: &Rules,
    notice: &mut dyn FnMut(String),
) -> io::Result<()> {
    let fd = fd.as_fd();
    if let Some((uid, gid)) = rules.owner(entry) {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        if let Err(error) = rustix::fs::fchown(fd, owner.0, owner.1) {
            notice(format!("owner not restored: {error}"));
        }
    }
    for attr in rules.xattrs(entry).filter(|attr| !has_xattr(fd, attr)) {
        let name = attr.name.as_slice();
        if let Err(error) = rustix::fs::fsetxattr(fd, name, &attr.value, XattrFlags::empty()) {
            let name = crate::pull::error::show(name);
            notice(format!("attribute {name} not restored: {error}"));
        }
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(rules.mode(entry)))?;
    let Some(times) = times(entry) else {
        notice("time not restored: not a time".into());
        return Ok(());
    };
    Ok(rustix::fs::futimens(fd, &times)?)
}

/// Sets owner and times of a symbolic link that still has its temporary name.
pub(crate) fn set_symlink(
    link: &Temp,
    entry: &Entry,
    rules: &Rules,
    notice: &mut dyn FnMut(String),
) -> io::Result<()> {
    if let Some((uid, gid)) = rules.owner(entry) {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Err(error) = rustix::fs::chownat(link.dir(), link.name(), owner.0, owner.1, flags) {
            notice(format!("owner not restored: {error}"));
        }
    }
    let Some(times) = times(entry) else {
        notice("time not restored: not a time".into());
        return Ok(());
    };
    match rustix::fs::utimensat(link.dir(), link.name(), &times, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOTSUP | Errno::NOSYS) => {
            notice("time of the link not restored: not supported here".into());
            Ok(())
        }
        other => Ok(other?),
    }
}

/// The times to set: modification as stored, access untouched. `None` for nanoseconds that are
/// none (some values mean "now" or "leave" to the kernel).
fn times(entry: &Entry) -> Option<Timestamps> {
    if entry.mtime_nanos >= 1_000_000_000 {
        return None;
    }
    Some(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: entry.mtime_secs,
            tv_nsec: i64::from(entry.mtime_nanos),
        },
    })
}
