//! The mark that stands in the place of a secret.
//!
//! ```text
//! [REDACTED:github-pat:0123456789abcdef]
//!           rule       first 8 bytes of a keyed hash of the bytes that it replaced
//! ```
//! In: a rule, the bytes as they are written in the file, and a key. Out: the mark; or, of a text, the
//! mark that it begins with. Invariants: it depends on these alone; no byte of it needs an escape in
//! JSON, TOML or YAML strings; whoever has no key can neither find the bytes nor confirm a guess.

use crate::finding::first;

/// Opens every mark.
pub(crate) const OPEN: &[u8] = b"[REDACTED:";
/// Hexadecimal digits of the hash.
const DIGITS: usize = 16;
/// Longest id of a rule.
const ID_BYTES_MAX: usize = 64;
/// Longest mark: opening, id, a colon, the hash, a bracket.
pub(crate) const MARK_BYTES_MAX: usize = OPEN.len() + ID_BYTES_MAX + 1 + DIGITS + 1;

/// What a mark says of the bytes that it replaced.
pub(crate) type Digest = [u8; 8];

/// Hashes bytes that a mark replaces. `quoted`: the mark is a string where the bytes were none, so
/// that its quotes belong to it.
pub(crate) fn digest(key: &[u8; 32], quoted: bool, raw: &[u8]) -> Digest {
    first(&blake3::Hasher::new_keyed(key).update(&[quoted.into()]).update(raw).finalize())
}

/// The mark itself, without quotes.
pub(crate) fn write(rule: &str, digest: Digest) -> String {
    format!("[REDACTED:{rule}:{:016x}]", u64::from_be_bytes(digest))
}

/// A mark at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed<'t> {
    pub(crate) rule: &'t str,
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) len: usize,
}

/// The mark that `text` begins with.
pub(crate) fn parse(text: &[u8]) -> Option<Parsed<'_>> {
    let inner = text.strip_prefix(OPEN)?;
    let colon = memchr::memchr(b':', &inner[..inner.len().min(ID_BYTES_MAX + 1)])?;
    let (id, rest) = (&inner[..colon], &inner[colon + 1..]);
    let digits = rest.get(..DIGITS)?;
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !is_id(id) || !digits.iter().all(lower) || rest.get(DIGITS) != Some(&b']') {
        return None;
    }
    let (rule, digits) = (std::str::from_utf8(id).ok()?, std::str::from_utf8(digits).ok()?);
    let digest = u64::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(Parsed { rule, digest, len: OPEN.len() + colon + 1 + DIGITS + 1 })
}

/// May be the id of a rule: no character that JSON or a pattern of ours gives a meaning.
pub(crate) fn is_id(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(plain)
}
