//! The part of a tree that holds what vanished from its source.
//!
//! ```text
//! ~gone/<since>/<label>/<path>      since = YYYYMMDDThhmmssZ: the push that missed it
//!                                           unseen: its place could not be looked at
//! ```
//! No label begins with `~`, so the part has a name of its own in every tree. Its entries are entries
//! of the snapshot like any others; only a restore leaves them out unless it is asked for them.

/// First name of every path in the part.
pub const NAME: &[u8] = b"~gone";

/// Is this path in the part, or its top?
pub fn holds(path: &[u8]) -> bool {
    path.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The second name of a path in the part, and the path that the entry had; `None` for others.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = path.strip_prefix(NAME)?.strip_prefix(b"/")?;
    let at = rest.iter().position(|b| *b == b'/')?;
    Some((&rest[..at], &rest[at + 1..]))
}

/// Where an entry of this path stands in the part.
pub fn path(since: &[u8], path: &[u8]) -> Vec<u8> {
    [NAME, b"/", since, b"/", path].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_only_begins_alike_is_no_part_of_it() {
        let whole = path(b"20260102T030405Z", b"codex/home/a");
        assert_eq!(split(&whole), Some((&b"20260102T030405Z"[..], &b"codex/home/a"[..])));
        assert!(holds(&whole) && holds(b"~gone"));
        assert!(!holds(b"~goner/x/y") && split(b"~goner/x/y").is_none());
        assert!(split(b"~gone/only").is_none() && split(b"a/~gone/b/c").is_none());
    }
}
