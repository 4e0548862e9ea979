//! Stored paths become local names here, or are refused.

/// Longest name of one path component in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Deepest path in components. Deeper trees exist only to hurt.
const DEPTH_MAX: usize = 4096;

/// A checked path below a base directory: names that are neither empty, `.` nor `..`, joined by
/// `/`. Empty: the base itself. Only [`Rel::check`] makes one from stored bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Rel(Vec<u8>);

impl Rel {
    /// Checks stored bytes; the error says what is wrong with them.
    pub(crate) fn check(stored: &[u8]) -> Result<Self, &'static str> {
        if stored.is_empty() {
            return Ok(Self::default());
        }
        let mut depth = 0;
        for name in stored.split(|b| *b == b'/') {
            check_name(name)?;
            depth += 1;
        }
        if depth > DEPTH_MAX {
            return Err("the path is too deep");
        }
        Ok(Self(stored.to_vec()))
    }

    /// The checked bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Parent and last name; `None` for the base itself.
    pub(crate) fn split(&self) -> Option<(Self, &[u8])> {
        let (parent, name) = split_last(&self.0)?;
        Some((Self(parent.to_vec()), name))
    }

    /// This path with one more name, which must be a name that a directory listing gave.
    pub(crate) fn join(&self, name: &[u8]) -> Result<Self, &'static str> {
        check_name(name)?;
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(Self(path))
    }
}

/// Parent and last name of a path; `None` if it is empty.
pub(crate) fn split_last(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    })
}

fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        [] => Err("the path has an empty name"),
        b"." | b".." => Err("the path has a name that means another directory"),
        _ if name.contains(&0) => Err("the path has a NUL byte"),
        _ if name.contains(&b'/') => Err("the name has a slash"),
        _ if name.len() > NAME_BYTES_MAX => Err("the path has a name over 255 bytes"),
        _ => Ok(()),
    }
}
