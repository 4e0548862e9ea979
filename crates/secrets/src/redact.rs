//! Replaces the secrets of a stream of text, the same way each time.
//!
//! In: the bytes of a file from its start, in pieces of any size. Out: the same bytes with a mark
//! (`mark.rs`) in the place of each secret. The mark depends on rule, bytes and key alone, so the same
//! file gives the same bytes, what did not change still deduplicates, and who has the secrets can put
//! them back (`restore.rs`).
//!
//! Invariants. The output depends on the input alone, not on how it was split. JSON stays JSON
//! ([`Form::Json`]): only what stands in strings is replaced by a bare mark, quotes and signs
//! between strings stay, and a number becomes a string. Of secrets that overlap the earlier one
//! is replaced, then what is left of the other. What a rule only reports stays
//! ([`Finding::report_only`]).

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use crate::finding::Finding;
use crate::mark::{self, Digest};
use crate::rules::Rules;
use crate::scanner::{Scanner, Work};

/// What the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Anything: a secret is replaced wherever it stands.
    Text,
    /// JSON, or lines of it.
    Json,
}

/// What is under the hashes.
#[derive(Clone, Copy)]
pub struct Keys<'k> {
    /// Under those that findings carry.
    pub findings: &'k [u8; 32],
    /// Under those in marks.
    pub marks: &'k [u8; 32],
}

impl fmt::Debug for Keys<'_> {
    // never the keys
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Decides what is replaced, and hears what was.
pub trait Judge {
    /// Is this replaced? What a rule only reports is not, whatever the answer.
    fn found(&mut self, finding: &Finding<'_>) -> bool;

    /// These bytes are replaced, by a mark with this hash. A secret that lies over several strings of
    /// JSON is replaced in parts.
    fn replaced(&mut self, _of: &Finding<'_>, _digest: [u8; 8], _quoted: bool, _raw: &[u8]) {}
}

/// Where in JSON a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Json {
    /// Between strings; whether in a number or a word.
    Outside {
        in_word: bool,
    },
    String,
    /// In a string, behind a backslash.
    Escape,
}

impl Json {
    fn after(self, byte: u8) -> Json {
        match (self, byte) {
            (Json::String, b'\\') => Json::Escape,
            // no string goes over a line's end: behind a line that was cut all is well again
            (Json::String, b'"') | (Json::String | Json::Escape, b'\n') => {
                Json::Outside { in_word: false }
            }
            (Json::String | Json::Escape, _) | (Json::Outside { .. }, b'"') => Json::String,
            (Json::Outside { .. }, _) => Json::Outside { in_word: is_word(byte) },
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn is_in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Replaces the secrets of one file.
pub struct Redactor<'r> {
    scanner: Scanner<'r>,
    form: Form,
    key: [u8; 32],
    /// Taken in, not yet given out; the first byte lies at `held_at`.
    held: Vec<u8>,
    held_at: u64,
    json: Json,
    /// To be replaced, in order.
    found: VecDeque<Finding<'r>>,
}

impl fmt::Debug for Redactor<'_> {
    // never the text
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("scanner", &self.scanner).finish_non_exhaustive()
    }
}

impl<'r> Redactor<'r> {
    /// A redactor for the file at `path`; see [`Scanner::new`].
    pub fn new(rules: &'r Rules, path: &str, form: Form, keys: Keys<'_>) -> Redactor<'r> {
        Redactor {
            scanner: Scanner::new(rules, path, keys.findings),
            form,
            key: *keys.marks,
            held: Vec::new(),
            held_at: 0,
            json: Json::Outside { in_word: false },
            found: VecDeque::new(),
        }
    }

    /// Takes the next bytes, and appends to `out` what is certain by now.
    pub fn feed(&mut self, raw: &[u8], out: &mut Vec<u8>, judge: &mut impl Judge) {
        let offset = self.held_at + self.held.len() as u64;
        self.held.extend_from_slice(raw);
        let found = &mut self.found;
        self.scanner.feed(raw, offset, &mut |finding| take(found, finding, judge));
        let settled = self.scanner.settled();
        self.give(settled, out, judge);
    }

    /// The text ends here: appends the rest.
    pub fn finish(mut self, out: &mut Vec<u8>, judge: &mut impl Judge) -> Work {
        let found = &mut self.found;
        self.scanner.finish(&mut |finding| take(found, finding, judge));
        self.give(u64::MAX, out, judge);
        self.scanner.work()
    }

    /// Gives out what lies before `settled`, and no secret in part.
    fn give(&mut self, settled: u64, out: &mut Vec<u8>, judge: &mut impl Judge) {
        let held = std::mem::take(&mut self.held);
        let first = self.held_at;
        let place = |offset: u64| usize::try_from(offset - first).unwrap_or(usize::MAX);
        let mut at = 0;
        while self.found.front().is_some_and(|finding| finding.range.end <= settled) {
            let Some(finding) = self.found.pop_front() else { break };
            // part of it may have been given out as part of an earlier one
            let start = place(finding.range.start.max(first)).max(at);
            let end = place(finding.range.end.max(first)).max(at);
            self.copy(&held[at..start], out);
            self.replace(&held, start..end, &finding, out, judge);
            at = end;
        }
        let open = self.found.front().map_or(u64::MAX, |finding| finding.range.start);
        let until = place(settled.min(open).max(first)).min(held.len()).max(at);
        self.copy(&held[at..until], out);
        self.held_at += until as u64;
        self.held = held;
        self.held.drain(..until);
    }

    fn copy(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(raw);
        self.pass(raw);
    }

    /// Keeps track of where in JSON the text stands.
    fn pass(&mut self, raw: &[u8]) {
        if self.form == Form::Json {
            self.json = raw.iter().fold(self.json, |json, byte| json.after(*byte));
        }
    }

    /// Writes marks for `range` of the text that is held.
    fn replace(
        &mut self,
        held: &[u8],
        range: Range<usize>,
        finding: &Finding<'_>,
        out: &mut Vec<u8>,
        judge: &mut impl Judge,
    ) {
        let (Range { mut start, end }, rule) = (range, finding.rule);
        let mut told = |quoted, raw: &[u8]| -> Digest {
            let digest = mark::digest(&self.key, quoted, raw);
            judge.replaced(finding, digest, quoted, raw);
            digest
        };
        if self.form == Form::Text && start < end {
            let digest = told(false, &held[start..end]);
            out.extend_from_slice(mark::write(rule, digest).as_bytes());
            return;
        }
        while start < end {
            let before = self.json;
            let piece = piece_bytes(before, &held[start..end]);
            let raw = &held[start..start + piece];
            start += piece;
            match before {
                Json::String | Json::Escape if raw != b"\"" && raw != b"\n" => {
                    out.extend_from_slice(mark::write(rule, told(false, raw)).as_bytes());
                }
                Json::Outside { in_word } if raw.iter().all(|byte| is_word(*byte)) => {
                    let whole = !in_word && !held.get(start).is_some_and(|byte| is_word(*byte));
                    let digest = told(whole, raw);
                    if whole {
                        out.extend_from_slice(
                            format!("\"{}\"", mark::write(rule, digest)).as_bytes(),
                        );
                    } else if raw.iter().all(|byte| is_in_number(*byte)) {
                        // part of a number, which stays one
                        let one = |byte: &u8| if byte.is_ascii_digit() { b'1' } else { *byte };
                        out.extend(raw.iter().map(one));
                    } else {
                        // no JSON
                        out.extend_from_slice(mark::write(rule, digest).as_bytes());
                    }
                }
                _ => out.extend_from_slice(raw),
            }
            self.json = raw.iter().fold(before, |json, byte| json.after(*byte));
        }
    }
}

/// The length of the first stretch of `raw` that is all of a string's inside, all of a number or
/// word, or one sign.
fn piece_bytes(json: Json, raw: &[u8]) -> usize {
    let mut state = json;
    let inside = |state: Json| !matches!(state, Json::Outside { .. });
    if inside(json) {
        let end = raw.iter().position(|byte| {
            state = state.after(*byte);
            !inside(state)
        });
        return end.map_or(raw.len(), |end| end.max(1));
    }
    raw.iter().position(|byte| !is_word(*byte)).map_or(raw.len(), |end| end.max(1))
}

/// Keeps what is to be replaced, in order.
fn take<'r>(found: &mut VecDeque<Finding<'r>>, finding: Finding<'r>, judge: &mut impl Judge) {
    let wanted = judge.found(&finding) && !finding.report_only;
    let covered = found.iter().any(|other| other.range.end >= finding.range.end);
    if wanted && !covered {
        found.push_back(finding);
    }
}
