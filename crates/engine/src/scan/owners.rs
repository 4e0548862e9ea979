//! From what the scan found to the metadata of an entry, with names for the numeric owners.

use std::collections::HashMap;
use std::ffi::OsStr;

use repo::Entry;

use super::Found;

/// Names of users and groups of this machine, each looked up once.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

impl Owners {
    /// With nothing looked up yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Name of a user; `None` if the machine knows none or it is no UTF-8.
    pub fn user(&mut self, uid: u32) -> Option<String> {
        let look_up = || plain(uzers::get_user_by_uid(uid)?.name());
        self.users.entry(uid).or_insert_with(look_up).clone()
    }

    /// Name of a group; `None` if the machine knows none or it is no UTF-8.
    pub fn group(&mut self, gid: u32) -> Option<String> {
        let look_up = || plain(uzers::get_group_by_gid(gid)?.name());
        self.groups.entry(gid).or_insert_with(look_up).clone()
    }
}

fn plain(name: &OsStr) -> Option<String> {
    name.to_str().map(str::to_owned)
}

/// An entry with all that is known without reading the file: everything but size, hash, map and
/// flags, and the extended attributes of regular files.
pub fn entry_metadata(found: &Found, owners: &mut Owners) -> Entry {
    Entry {
        mode: found.stat.mode,
        mtime_secs: found.stat.mtime_secs,
        mtime_nanos: found.stat.mtime_nanos,
        uid: found.stat.uid,
        gid: found.stat.gid,
        user: owners.user(found.stat.uid),
        group: owners.group(found.stat.gid),
        xattrs: (!found.xattrs.is_empty()).then(|| found.xattrs.clone()),
        target: found.target.clone(),
        link: found.link.clone(),
        ..Entry::new(found.kind)
    }
}
