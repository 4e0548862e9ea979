//! Extended attributes of an open file.
//!
//! Kept: what belongs to the file wherever it lies (`user.*`, POSIX ACLs, capabilities; on systems
//! without such name spaces, everything). Left out: labels that a machine's own policy puts on
//! files (`security.selinux`, `security.ima`, `trusted.*`).

use std::os::fd::AsFd;

use repo::Xattr;
use rustix::io::{self, Errno};

/// Bytes of one value; Linux allows no more, and a resource fork of a Mac may be larger.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The attributes that are kept, sorted by name. Empty where the file system has none.
pub(super) fn read(fd: impl AsFd) -> io::Result<Vec<Xattr>> {
    let mut names = [0_u8; 1024];
    let length = match rustix::fs::flistxattr(fd.as_fd(), &mut names) {
        Ok(length) => length,
        Err(Errno::RANGE) => return read_many(fd),
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error),
    };
    if length == 0 { Ok(Vec::new()) } else { values(fd, &names[..length]) }
}

/// The same for more names than usual.
fn read_many(fd: impl AsFd) -> io::Result<Vec<Xattr>> {
    // 64 KiB is the most that Linux gives.
    let mut names = vec![0_u8; 64 << 10];
    let length = rustix::fs::flistxattr(fd.as_fd(), &mut names[..])?;
    values(fd, &names[..length])
}

fn values(fd: impl AsFd, names: &[u8]) -> io::Result<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0_u8; VALUE_BYTES_MAX];
        match rustix::fs::fgetxattr(fd.as_fd(), name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                value.shrink_to_fit();
                xattrs.push(Xattr { name: name.to_vec(), value });
            }
            // Gone since it was listed, or too large to be worth keeping.
            Err(Errno::NODATA | Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(xattrs)
}

fn is_kept(name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    if !cfg!(target_os = "linux") {
        return true;
    }
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}
