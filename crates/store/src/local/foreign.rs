//! A directory with objects of another program, such as a copy of its bucket. Links are not followed, and
//! are no objects; nor is a name that is not UTF-8.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::{LocalStore, is_absent, no_such_store, open_folder, read_at, size};
use crate::foreign::is_path;
use crate::{Error, Foreign, Object, Result};

impl Foreign for LocalStore {
    fn objects(&self) -> Result<Vec<Object>> {
        let list = || {
            let mut objects = Vec::new();
            list_folder(&self.folder("", false)?, "", &mut objects)?;
            Ok(objects)
        };
        let mut objects = list().map_err(|e: io::Error| self.error("list", "", e))?;
        if objects.is_empty() && self.root_is_gone() {
            return Err(no_such_store(&self.path, "the directory was removed"));
        }
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if !is_path(key) {
            return Err(Error::NotFound { name: key.to_owned() });
        }
        let short = || Error::Short { name: key.to_owned(), end: range.end };
        let (file, size) = self.object(key).map_err(|e| self.error("get", key, e))?;
        if range.end > size {
            return Err(short());
        }
        let len = usize::try_from(range.end - range.start).map_err(|_| short())?;
        let bytes = read_at(&file, range.start, len).map_err(|e| self.error("get", key, e))?;
        if bytes.len() < len { Err(short()) } else { Ok(bytes) }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Adds every plain file of a folder and of those below it.
fn list_folder(fd: &OwnedFd, path: &str, objects: &mut Vec<Object>) -> io::Result<()> {
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let Ok(part) = entry.file_name().to_str() else { continue };
        if matches!(part, "." | "..") {
            continue;
        }
        let stat = match rustix::fs::statat(fd, part, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue, // deleted since
            stat => stat?,
        };
        let key = format!("{path}{part}");
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match open_folder(fd.as_fd(), part) {
                Err(e) if is_absent(&e) => {}
                below => list_folder(&below?, &format!("{key}/"), objects)?,
            },
            FileType::RegularFile => objects.push(Object { key, size: size(&stat) }),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_plain_file_is_an_object_whatever_its_name_and_links_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("2026-T Z/.hidden")).unwrap();
        fs::write(at("2026-T Z/.hidden/\u{e9} #1"), b"0123456789").unwrap();
        fs::write(at("2026-T Z.x"), b"").unwrap();
        fs::write(at("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink(at("secret"), at("2026-T Z/link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("2026-T Z/all")).unwrap();
        let store = LocalStore::open(&at("2026-T Z")).unwrap();
        let keys: Vec<_> = store.objects().unwrap().into_iter().map(|o| (o.key, o.size)).collect();
        assert_eq!(keys, [(".hidden/\u{e9} #1".to_owned(), 10)]);
        let key = ".hidden/\u{e9} #1";
        assert_eq!(&store.read(key, 2..5).unwrap()[..], b"234");
        assert!(matches!(store.read(key, 2..11), Err(Error::Short { .. })));
        assert!(matches!(store.read("none", 0..1), Err(Error::NotFound { .. })));
        for out in ["../secret", ".hidden/../../secret", "/etc/passwd", "a//b", "", ".hidden/."] {
            assert!(matches!(store.read(out, 0..1), Err(Error::NotFound { .. })), "{out}");
        }
        for link in ["link", "all/secret"] {
            assert!(store.read(link, 0..1).is_err(), "{link}");
        }
        assert_eq!(fs::read_dir(at("2026-T Z")).unwrap().count(), 3, "nothing is made there");
    }
}
