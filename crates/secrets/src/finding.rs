//! A place where a secret lies, told without the secret.
//!
//! In: a secret, for as long as it takes to hash it. Out: where it is, which rule found it, and a
//! keyed hash of it. Invariant: nothing here holds a byte of a secret, nor a hash that somebody
//! without the key could try values against.

use std::ops::Range;

/// A secret that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<'r> {
    /// The id of the rule that found it.
    pub rule: &'r str,
    /// Its bytes in the file, escapes included.
    pub range: Range<u64>,
    /// The line that it begins in, from 1; none where the scan did not begin at the file's start.
    pub line: Option<u64>,
    /// The rule is there to report: what it finds is often no secret, and is never replaced.
    pub report_only: bool,
    /// The match may go on: it was cut at the longest that the rule finds whole.
    pub cut: bool,
    fingerprint: [u8; 8],
}

impl<'r> Finding<'r> {
    pub(crate) fn new(
        rule: &'r str,
        range: Range<u64>,
        line: Option<u64>,
        secret: &[u8],
        key: &[u8; 32],
    ) -> Finding<'r> {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(b"agent-backup finding\0").update(rule.as_bytes()).update(b"\0");
        let fingerprint = first(&hasher.update(secret).finalize());
        Finding { rule, range, line, report_only: false, cut: false, fingerprint }
    }

    /// A keyed hash of rule and secret, for a list of findings to ignore: the same secret has the
    /// same one wherever it lies, and however deeply it is escaped there.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }
}

/// The first bytes of a hash.
pub(crate) fn first<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&hash.as_bytes()[..N]);
    out
}
