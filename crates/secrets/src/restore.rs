//! Puts bytes back in the places of marks.
//!
//! In: the bytes of a redacted file, in pieces of any size, and whoever knows what a mark replaced. Out:
//! the file with those bytes; where nobody knows them the mark stays. With what a [`crate::Redactor`]
//! replaced it is the file that it was, but for digits in the middle of a number. Invariant: the output
//! does not depend on how the input was split.

use crate::mark::{self, MARK_BYTES_MAX, OPEN};

/// A mark that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met<'t> {
    /// The rule that had found the secret.
    pub rule: &'t str,
    /// The hash in it, as [`crate::Judge::replaced`] told it.
    pub digest: [u8; 8],
}

/// What a mark replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put<'k> {
    /// The bytes.
    pub raw: &'k [u8],
    /// The quotes around the mark belong to it.
    pub quoted: bool,
}

/// Puts bytes back into one file.
#[derive(Debug, Default)]
pub struct Restorer {
    /// Taken in, not yet given out.
    held: Vec<u8>,
}

/// What stays until more has come: a mark, and a quote on either side of it.
const HELD_BYTES: usize = MARK_BYTES_MAX + 2;

impl Restorer {
    /// Takes the next bytes, and appends to `out` what is certain by now.
    pub fn feed<'k>(
        &mut self,
        raw: &[u8],
        out: &mut Vec<u8>,
        known: &mut impl FnMut(Met<'_>) -> Option<Put<'k>>,
    ) {
        self.held.extend_from_slice(raw);
        let until = self.held.len().saturating_sub(HELD_BYTES);
        self.give(until, out, known);
    }

    /// The text ends here: appends the rest.
    pub fn finish<'k>(
        mut self,
        out: &mut Vec<u8>,
        known: &mut impl FnMut(Met<'_>) -> Option<Put<'k>>,
    ) {
        self.give(self.held.len(), out, known);
    }

    /// Gives out what begins before `until`.
    fn give<'k>(
        &mut self,
        until: usize,
        out: &mut Vec<u8>,
        known: &mut impl FnMut(Met<'_>) -> Option<Put<'k>>,
    ) {
        let held = std::mem::take(&mut self.held);
        let (mut at, mut met) = (0, 0);
        for open in memchr::memmem::find_iter(&held, OPEN) {
            // one that begins there is whole, and the quote before it is not given out yet
            if open > until {
                break;
            }
            let Some(mark) = mark::parse(&held[open..]) else { continue };
            let (mut start, mut end) = (open, open + mark.len);
            met = end;
            let Some(put) = known(Met { rule: mark.rule, digest: mark.digest }) else { continue };
            if put.quoted {
                if start == at || held[start - 1] != b'"' || held.get(end) != Some(&b'"') {
                    continue;
                }
                (start, end) = (start - 1, end + 1);
            }
            out.extend_from_slice(&held[at..start]);
            out.extend_from_slice(put.raw);
            (at, met) = (end, end);
        }
        let until = until.max(met);
        out.extend_from_slice(&held[at..until]);
        self.held = held;
        self.held.drain(..until);
    }
}
