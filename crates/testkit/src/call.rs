//! One call of a store, as the wrappers here number, judge and record it.

use std::fmt;

/// The five verbs, with the two kinds of read apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// [`store::Store::put`].
    Put,
    /// [`store::Store::get`].
    Get,
    /// [`store::Store::get_range`].
    GetRange,
    /// [`store::Store::list`].
    List,
    /// [`store::Store::delete`].
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetRange => "get range",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// 1 for the first call of a wrapper, then counting up in the order in which calls began.
    pub number: u64,
    /// What was asked for.
    pub verb: Verb,
    /// The object's name, or the prefix of a listing.
    pub name: String,
    /// Bytes of a put or asked for by a range; for other reads what came back, 0 before that.
    pub bytes: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {} ({} bytes)", self.number, self.verb, self.name, self.bytes)
    }
}

/// Length of the parts of one object together.
pub(crate) fn total(parts: &[bytes::Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}
