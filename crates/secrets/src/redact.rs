//! Replaces the secrets of a stream of text, the same way each time.
//!
//! In: the bytes of a file from its start, in pieces of any size. Out: the same bytes with a marker
//! ([`Finding::marker`]) in the place of each secret, and the findings. The marker depends on rule,
//! secret and key alone, so the same file gives the same bytes, and what did not change still
//! deduplicates.
//!
//! Invariants. The output depends on the input alone, not on how it was split. JSON stays JSON
//! ([`Form::Json`]): only what stands in strings is replaced by a bare marker, quotes and signs
//! between strings stay, and a number becomes a string. Of secrets that overlap the earlier one
//! is replaced, then what is left of the other. What a rule only reports stays
//! ([`Finding::report_only`]).

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use crate::finding::Finding;
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

/// Replaces the secrets of one file.
pub struct Redactor<'r> {
    scanner: Scanner<'r>,
    form: Form,
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
    pub fn new(rules: &'r Rules, path: &str, form: Form, key: &[u8; 32]) -> Redactor<'r> {
        Redactor {
            scanner: Scanner::new(rules, path, key),
            form,
            held: Vec::new(),
            held_at: 0,
            json: Json::Outside { in_word: false },
            found: VecDeque::new(),
        }
    }

    /// Takes the next bytes, appends to `out` what is certain by now, and tells what it found.
    pub fn feed(&mut self, raw: &[u8], out: &mut Vec<u8>, tell: &mut impl FnMut(Finding<'r>)) {
        let offset = self.held_at + self.held.len() as u64;
        self.held.extend_from_slice(raw);
        let found = &mut self.found;
        self.scanner.feed(raw, offset, &mut |finding| take(found, finding, tell));
        let settled = self.scanner.settled();
        self.give(settled, out);
    }

    /// The text ends here: appends the rest.
    pub fn finish(mut self, out: &mut Vec<u8>, tell: &mut impl FnMut(Finding<'r>)) -> Work {
        let found = &mut self.found;
        self.scanner.finish(&mut |finding| take(found, finding, tell));
        self.give(u64::MAX, out);
        self.scanner.work()
    }

    /// Gives out what lies before `settled`, and no secret in part.
    fn give(&mut self, settled: u64, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        let first = self.held_at;
        let place = |offset: u64| usize::try_from(offset - first).unwrap_or(usize::MAX);
        let mut at = 0;
        while let Some(finding) = self.found.front() {
            if finding.range.end > settled {
                break;
            }
            // part of it may have been given out as part of an earlier one
            let start = place(finding.range.start.max(first)).max(at);
            let end = place(finding.range.end.max(first)).max(at);
            let marker = finding.marker();
            self.found.pop_front();
            self.copy(&held[at..start], out);
            self.replace(&held, start..end, &marker, out);
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

    /// Writes the marker for `range` of the text that is held.
    fn replace(&mut self, held: &[u8], range: Range<usize>, marker: &str, out: &mut Vec<u8>) {
        let Range { mut start, end } = range;
        if self.form == Form::Text && start < end {
            out.extend_from_slice(marker.as_bytes());
            return;
        }
        while start < end {
            let before = self.json;
            let piece = piece_bytes(before, &held[start..end]);
            let raw = &held[start..start + piece];
            start += piece;
            match before {
                Json::String | Json::Escape if raw != b"\"" && raw != b"\n" => {
                    out.extend_from_slice(marker.as_bytes());
                    self.pass(raw);
                }
                Json::Outside { in_word } if raw.iter().all(|byte| is_word(*byte)) => {
                    let whole = !in_word && !held.get(start).is_some_and(|byte| is_word(*byte));
                    if whole {
                        out.extend_from_slice(format!("\"{marker}\"").as_bytes());
                    } else {
                        // part of a number, which stays one
                        let one = |byte: &u8| if byte.is_ascii_digit() { b'1' } else { *byte };
                        out.extend(raw.iter().map(one));
                    }
                    self.pass(raw);
                }
                _ => self.copy(raw, out),
            }
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

/// Keeps what is to be replaced, in order, and tells it.
fn take<'r>(
    found: &mut VecDeque<Finding<'r>>,
    finding: Finding<'r>,
    tell: &mut impl FnMut(Finding<'r>),
) {
    let covered = found.iter().any(|other| other.range.end >= finding.range.end);
    if !finding.report_only && !covered {
        found.push_back(finding.clone());
    }
    tell(finding);
}
