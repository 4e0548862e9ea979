//! Which names an object may have, the same for every store.
//!
//! A name is one or more parts joined by `/`; a part is `[a-z0-9-.]`, not empty and not opened by
//! a dot. So no name can climb out of a directory, and a store may keep its own files under a dot.

use crate::{Error, Result};

/// Refuses anything that is not an object name.
pub(crate) fn check(name: &str) -> Result<()> {
    if name.split('/').all(is_part) {
        Ok(())
    } else {
        Err(Error::BadName { name: name.to_owned() })
    }
}

/// Whether `part` may stand between two slashes of a name.
pub(crate) fn is_part(part: &str) -> bool {
    !part.is_empty() && may_open_part(part)
}

/// Whether any valid name can start with `prefix`; a listing of another prefix is empty.
pub(crate) fn can_start(prefix: &str) -> bool {
    let (folder, start) = split_prefix(prefix);
    folder.is_none_or(|folder| folder.split('/').all(is_part)) && may_open_part(start)
}

/// Splits a listing's prefix into the folder it names in full and the start of a name in it.
pub(crate) fn split_prefix(prefix: &str) -> (Option<&str>, &str) {
    prefix.rsplit_once('/').map_or((None, prefix), |(folder, start)| (Some(folder), start))
}

fn may_open_part(start: &str) -> bool {
    !start.starts_with('.')
        && start.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder_or_hide_in_it() {
        for good in ["config", "packs/00ff-1", "gc/00ff.d", "a/b/c", "-", "a..b"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/.", ".tmp/x", "a/.b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for bad in ["A", "a b", "a\\b", "a\0", "a\n", "\u{e9}", "a#1", "a%2e"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_may_end_anywhere_in_a_name() {
        for good in ["", "s", "snap", "snap/", "snap/01", "a/b/", "a."] {
            assert!(can_start(good), "{good}");
        }
        for bad in ["/", "//", "a//", "../", ".", "..", "a/..", "a/../b", "A"] {
            assert!(!can_start(bad), "{bad}");
        }
    }
}
