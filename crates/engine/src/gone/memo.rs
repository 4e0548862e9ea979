//! What this machine remembers of its newest snapshot, so that a push need not read it: what is kept
//! in it, and for each label which files were there that are kept when they vanish.
//!
//! In the cache, with this repository's check. Without it, or with that of another snapshot, the same
//! is read from the snapshots: that costs time, and nothing else.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use repo::OpId;

use super::kept::Kept;
use crate::session::Session;

/// The name of the note.
const NOTE: &str = "gone";
/// Bytes of a path's hash: no two paths of a machine have the same.
pub(crate) const HASH_BYTES: usize = 16;

/// A path by its hash.
pub(crate) type PathHash = [u8; HASH_BYTES];

pub(crate) fn path_hash(path: &[u8]) -> PathHash {
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&blake3::hash(path).as_bytes()[..HASH_BYTES]);
    hash
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Memo {
    /// The snapshot that holds `kept`.
    #[n(0)]
    pub(crate) snapshot: Option<OpId>,
    #[n(1)]
    pub(crate) kept: Vec<Kept>,
    #[n(2)]
    pub(crate) labels: BTreeMap<String, LabelMemo>,
}

/// What is remembered of a label.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct LabelMemo {
    /// The newest snapshot that has it as a root.
    #[n(0)]
    pub(crate) base: OpId,
    /// Hashes of the paths in it that are kept when they vanish, and that did not vanish since.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) live: Vec<u8>,
}

impl LabelMemo {
    pub(crate) fn new(base: OpId, live: &[PathHash]) -> Self {
        Self { base, live: live.concat() }
    }

    pub(crate) fn hashes(&self) -> impl Iterator<Item = PathHash> + '_ {
        self.live.chunks_exact(HASH_BYTES).map(|hash| {
            let mut out = [0; HASH_BYTES];
            out.copy_from_slice(hash);
            out
        })
    }
}

impl Memo {
    pub(crate) fn load(session: &Session) -> Self {
        let note = || session.cache.as_ref()?.note(session.repo.keys(), NOTE);
        note().and_then(|note| minicbor::decode(&note).ok()).unwrap_or_default()
    }

    pub(crate) fn save(&self, session: &Session) {
        if let Some(cache) = &session.cache {
            let note = minicbor::to_vec(self).expect("encoding to memory does not fail");
            cache.put_note(session.repo.keys(), NOTE, &note);
        }
    }
}
