//! Files that only grew: is the beginning still what the previous snapshot recorded?
//!
//! Transcripts are appended to. Cutting one by content again re-sends about half a chunk to a whole
//! one each time; storing the tail alone re-sends nothing. That is right only if the beginning did
//! not change, so its hash is always computed; a modification time proves nothing.

use std::io::{self, ErrorKind, Read};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// What the beginning of a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// The same bytes. The reader stands right after them, and the hasher has seen them and nothing
    /// else: cut the tail with [`crate::Chunks`] and go on feeding the hasher.
    Same,
    /// As long, but other bytes. Begin again, with a fresh hasher.
    Differs,
    /// The file ends before the expected length. Begin again, with a fresh hasher.
    Shorter,
}

/// Reads exactly `expected_len` bytes, feeds them to `hasher` and compares its hash with
/// `expected_hash`.
///
/// `hasher` must be fresh, and of the kind (plain or keyed) that made `expected_hash`. On an error
/// reader and hasher stand somewhere in the middle.
pub fn verified_prefix<R: Read>(
    reader: &mut R,
    expected_len: u64,
    expected_hash: &[u8; 32],
    hasher: &mut blake3::Hasher,
) -> io::Result<Prefix> {
    // Less than the buffer only when little is expected; the conversion then cannot fail.
    let buffer_len = usize::try_from(expected_len).map_or(READ_BYTES, |len| len.min(READ_BYTES));
    let mut buffer = vec![0; buffer_len];
    let mut left = expected_len;
    while left > 0 {
        let want = usize::try_from(left).map_or(buffer_len, |left| left.min(buffer_len));
        match reader.read(&mut buffer[..want]) {
            Ok(0) => return Ok(Prefix::Shorter),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                left -= count as u64;
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    let same = hasher.finalize() == blake3::Hash::from_bytes(*expected_hash);
    Ok(if same { Prefix::Same } else { Prefix::Differs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &[u8], len: u64, of: &[u8]) -> (Prefix, Vec<u8>, blake3::Hasher) {
        let mut hasher = blake3::Hasher::new();
        let mut reader = file;
        let prefix =
            verified_prefix(&mut reader, len, blake3::hash(of).as_bytes(), &mut hasher).unwrap();
        (prefix, reader.to_vec(), hasher)
    }

    #[test]
    fn after_a_match_the_tail_is_all_that_is_left_and_the_hasher_ends_with_the_whole_file() {
        let old: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let file = [&old[..], b"one more line\n"].concat();
        let (prefix, tail, mut hasher) = check(&file, old.len() as u64, &old);
        assert_eq!(prefix, Prefix::Same);
        assert_eq!(tail, b"one more line\n");
        assert_eq!(hasher.update(&tail).finalize(), blake3::hash(&file));
    }

    #[test]
    fn an_edit_in_the_old_part_is_not_mistaken_for_growth() {
        let old = vec![b'a'; 100_000];
        let mut file = [&old[..], b"tail"].concat();
        file[50_000] = b'b';
        assert_eq!(check(&file, 100_000, &old).0, Prefix::Differs);
    }

    #[test]
    fn a_truncated_file_is_told_from_a_changed_one() {
        assert_eq!(check(b"short", 6, b"shorte").0, Prefix::Shorter);
        assert_eq!(check(b"", 1, b"x").0, Prefix::Shorter);
    }

    #[test]
    fn a_length_that_is_not_the_hash_s_length_never_matches() {
        assert_eq!(check(b"abcd", 3, b"abcd").0, Prefix::Differs);
        assert_eq!(check(b"abcd", 0, b"abcd").0, Prefix::Differs);
    }

    #[test]
    fn an_empty_file_that_grew_is_all_tail() {
        let (prefix, tail, _) = check(b"first", 0, b"");
        assert_eq!((prefix, tail), (Prefix::Same, b"first".to_vec()));
    }
}
