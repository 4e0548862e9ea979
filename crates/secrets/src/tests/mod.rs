//! What the tests share: a key, ways to scan, and text that is always the same.

mod file;
mod hostile;
mod oracle;
mod pinned;
mod redact;
mod restore;
mod sample;
mod splits;
mod view;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Finding, Form, Judge, Keys, Redactor, Rules, Scanner, Work};

pub(super) const KEY: [u8; 32] = [7; 32];

/// Scans `text`, fed as one.
pub(super) fn scan<'r>(rules: &'r Rules, path: &str, text: &[u8]) -> Vec<Finding<'r>> {
    scan_pieces(rules, path, &[text]).0
}

/// Scans a text that comes in pieces.
pub(super) fn scan_pieces<'r>(
    rules: &'r Rules,
    path: &str,
    pieces: &[&[u8]],
) -> (Vec<Finding<'r>>, Work) {
    let (mut found, mut offset) = (Vec::new(), 0);
    let mut scanner = Scanner::new(rules, path, &KEY);
    for piece in pieces {
        scanner.feed(piece, offset, &mut |finding| found.push(finding));
        offset += piece.len() as u64;
    }
    scanner.finish(&mut |finding| found.push(finding));
    (found, scanner.work())
}

/// Replaces all, and keeps what it hears.
#[derive(Debug, Default)]
pub(super) struct All {
    /// How often something was found.
    pub(super) found: usize,
    /// What was replaced, by the hash in its mark.
    pub(super) replaced: BTreeMap<[u8; 8], (Vec<u8>, bool)>,
}

impl Judge for All {
    fn found(&mut self, _: &Finding<'_>) -> bool {
        self.found += 1;
        true
    }

    fn replaced(&mut self, _: &Finding<'_>, digest: [u8; 8], quoted: bool, raw: &[u8]) {
        self.replaced.insert(digest, (raw.to_vec(), quoted));
    }
}

/// Redacts a text that comes in pieces.
pub(super) fn redact_pieces(
    rules: &Rules,
    path: &str,
    form: Form,
    pieces: &[&[u8]],
) -> (Vec<u8>, All) {
    redact_under(&KEY, rules, path, form, pieces)
}

/// The same under a key of the test's choice.
pub(super) fn redact_under(
    key: &[u8; 32],
    rules: &Rules,
    path: &str,
    form: Form,
    pieces: &[&[u8]],
) -> (Vec<u8>, All) {
    let (mut out, mut all) = (Vec::new(), All::default());
    let mut redactor = Redactor::new(rules, path, form, Keys { findings: &KEY, marks: key });
    for piece in pieces {
        redactor.feed(piece, &mut out, &mut all);
    }
    redactor.finish(&mut out, &mut all);
    (out, all)
}

/// `text` in pieces that end at `cuts`, given in any order.
pub(super) fn cut<'t>(text: &'t [u8], cuts: &[usize]) -> Vec<&'t [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.push(text.len());
    cuts.sort_unstable();
    let mut from = 0;
    let mut next = |to| &text[std::mem::replace(&mut from, to)..to];
    cuts.into_iter().map(&mut next).collect()
}

pub(super) fn range(finding: &Finding<'_>) -> Range<usize> {
    usize::try_from(finding.range.start).unwrap()..usize::try_from(finding.range.end).unwrap()
}

/// `text` as the inside of a JSON string, `depth` times.
pub(super) fn escaped(text: &str, depth: usize) -> String {
    (0..depth).fold(text.to_owned(), |text, _| {
        let quoted = serde_json::to_string(&text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    })
}
