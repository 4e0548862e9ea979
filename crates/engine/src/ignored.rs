//! Findings that somebody looked at and that are not to be told again.
//!
//! In: entries of a list, each a rule, a glob of paths, or the fingerprint of one secret as `scan` prints
//! it. Out: whether a finding is one of these. A fingerprint is a hash under a key of this machine
//! (`<state>/secrets.key`): without that file nobody can try values against a list.

use std::collections::BTreeSet;
use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE;
use secrets::Finding;

use crate::error::{Error, Result};
use crate::pull::Select;
use crate::state;

/// A list of findings that are not told.
#[derive(Debug)]
pub struct Ignored {
    key: [u8; 32],
    rules: BTreeSet<String>,
    fingerprints: BTreeSet<[u8; 8]>,
    paths: Select,
    identity: [u8; 32],
}

/// One entry, understood.
enum Entry {
    Rule(String),
    Path(String),
    Fingerprint([u8; 8]),
}

impl Entry {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("rule", id)) if !id.trim().is_empty() => Ok(Self::Rule(id.trim().to_owned())),
            Some(("path", glob)) if !glob.trim().is_empty() => {
                let glob = glob.trim().to_owned();
                Select::new(std::slice::from_ref(&glob), &[]).map_err(|e| e.to_string())?;
                Ok(Self::Path(glob))
            }
            _ => {
                let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
                let fingerprint = bytes.and_then(|bytes| bytes.try_into().ok());
                fingerprint.map(Self::Fingerprint).ok_or_else(|| {
                    "write rule:ID, path:GLOB or the 16 digits that scan shows".to_owned()
                })
            }
        }
    }
}

impl Ignored {
    /// Ignores nothing; fingerprints are under no key and are not to be shown.
    pub fn nothing() -> Self {
        let paths = Select::new(&[], &[]).expect("no glob is no bad one");
        let (rules, fingerprints) = (BTreeSet::new(), BTreeSet::new());
        Self { key: [0; 32], rules, fingerprints, paths, identity: [0; 32] }
    }

    /// What is wrong with an entry, if anything is.
    pub fn check(entry: &str) -> std::result::Result<(), String> {
        Entry::parse(entry).map(drop)
    }

    /// A list of entries. The key is that of the machine whose state directory this is; it is made
    /// if there is none.
    pub fn open(state_dir: &Path, entries: &[String]) -> Result<Self> {
        let mut list = Self { key: state::secrets_key(state_dir)?, ..Self::nothing() };
        let mut globs = Vec::new();
        for entry in entries {
            match Entry::parse(entry).map_err(Error::Rules)? {
                Entry::Rule(id) => drop(list.rules.insert(id)),
                Entry::Path(glob) => globs.push(glob),
                Entry::Fingerprint(of) => drop(list.fingerprints.insert(of)),
            }
        }
        list.paths = Select::new(&globs, &[]).map_err(|e| Error::Rules(e.to_string()))?;
        let all: BTreeSet<&str> = entries.iter().map(|entry| entry.trim()).collect();
        let mut hasher = blake3::Hasher::new_keyed(&list.key);
        for entry in all {
            hasher.update(&(entry.len() as u64).to_le_bytes()).update(entry.as_bytes());
        }
        list.identity = *hasher.finalize().as_bytes();
        Ok(list)
    }

    /// The key under the fingerprints.
    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Differs between lists that differ, and between machines.
    pub(crate) fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// Is nothing to be told of this file?
    pub(crate) fn has_path(&self, path: &[u8]) -> bool {
        !self.paths.is_empty() && self.paths.covers(path)
    }

    /// Is this finding not to be told?
    pub(crate) fn has(&self, finding: &Finding<'_>) -> bool {
        self.rules.contains(finding.rule) || self.fingerprints.contains(&finding.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_is_private_and_a_damaged_one_is_no_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = *Ignored::open(dir.path(), &[]).unwrap().key();
        assert_eq!(*Ignored::open(dir.path(), &[]).unwrap().key(), first);
        assert_ne!(first, [0; 32]);
        let path = dir.path().join("secrets.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "half").unwrap();
        assert!(matches!(Ignored::open(dir.path(), &[]), Err(Error::Local { .. })));
    }

    #[test]
    fn an_entry_that_means_nothing_is_refused() {
        for good in
            ["rule:jwt", "path:*.md", " path:notes/** ", "0123456789abcdef", "0123456789ABCDEF"]
        {
            assert_eq!(Ignored::check(good), Ok(()), "{good}");
        }
        for bad in ["", "jwt", "rule:", "path:", "path:[", "0123456789abcde", "0123456789abcdef00"]
        {
            assert!(Ignored::check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_those_of_globs_and_of_what_is_below_them() {
        let dir = tempfile::tempdir().unwrap();
        let list = ["path:fixtures".to_owned(), "path:notes/*.md".to_owned()];
        let ignored = Ignored::open(dir.path(), &list).unwrap();
        for (path, has) in [
            (&b"notes/a.md"[..], true),
            (b"notes/deep/a.md", false),
            (b"code/x/fixtures/deep/key.pem", true),
            (b"code/x/fixtures-old/key.pem", false),
        ] {
            assert_eq!(ignored.has_path(path), has, "{}", path.escape_ascii());
        }
    }
}
