//! Secrets that stay at home: marks take their places in what is stored, and secrets the places of
//! marks in what is restored over a file that has them.
//!
//! In: the bytes of a text file, or the values of a database. Out: the same with marks (crate
//! `secrets`), counted by rule. Invariants: what is stored depends on the file, the rules, the list of
//! findings to ignore and the repository's key, and on nothing else; a file in which something is found
//! and cannot be replaced is not stored.

mod back;
mod stream;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use repo::MarkedSource;
use repo::keys::Keys;
use secrets::{Finding, Form, Judge, Redactor, Rules, Scanner};

pub(crate) use back::{Back, Live, Lost, Secrets, give_back, give_back_bytes, is_source, marks_in};
pub(crate) use stream::Marked;

use crate::ignored::Ignored;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 256 << 10;
/// Up to here a zero byte says that a file is no text.
const HEAD_BYTES: usize = 8 << 10;

/// How secrets are replaced in a push.
#[derive(Debug)]
pub(crate) struct Marking {
    key: [u8; 32],
    ignored: Arc<Ignored>,
    fingerprint: [u8; 32],
}

/// What was found in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Places that were replaced, by rule.
    pub(crate) replaced: BTreeMap<String, u64>,
    /// New findings that are only reported, by rule.
    pub(crate) reported: BTreeMap<String, u64>,
}

impl Tally {
    /// How many places were replaced.
    pub(crate) fn count(&self) -> u64 {
        self.replaced.values().sum()
    }

    /// Adds that of another part.
    pub(crate) fn add(&mut self, other: Tally) {
        for (rule, n) in other.replaced {
            *self.replaced.entry(rule).or_default() += n;
        }
        for (rule, n) in other.reported {
            *self.reported.entry(rule).or_default() += n;
        }
    }

    /// How many of which rule were found, in words.
    pub(crate) fn words(&self) -> String {
        let words: Vec<String> =
            self.replaced.iter().map(|(rule, n)| format!("{n} {rule}")).collect();
        words.join(", ")
    }
}

/// Decides for a file, and counts.
struct Hearing<'m> {
    marking: &'m Marking,
    /// What is only reported is told from here on.
    from: u64,
    tally: Tally,
}

impl Judge for Hearing<'_> {
    fn found(&mut self, finding: &Finding<'_>) -> bool {
        if self.marking.ignored.has(finding) {
            return false;
        }
        if finding.report_only && finding.range.end > self.from {
            *self.tally.reported.entry(finding.rule.to_owned()).or_default() += 1;
        }
        true
    }

    fn replaced(&mut self, of: &Finding<'_>, _: [u8; 8], _: bool, _: &[u8]) {
        *self.tally.replaced.entry(of.rule.to_owned()).or_default() += 1;
    }
}

impl Marking {
    /// Under the keys of a repository; what is on the list stays as it is.
    pub(crate) fn new(keys: &Keys, ignored: Arc<Ignored>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&Rules::pinned_fingerprint()).update(ignored.identity());
        let fingerprint = *hasher.finalize().as_bytes();
        Self { key: keys.mark_key(), ignored, fingerprint }
    }

    /// Differs where the same file may be stored otherwise.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Does everything in this file stay as it is?
    pub(crate) fn spares(&self, path: &[u8]) -> bool {
        self.ignored.has_path(path)
    }

    fn hearing(&self, from: u64) -> Hearing<'_> {
        Hearing { marking: self, from, tally: Tally::default() }
    }

    fn keys(&self) -> secrets::Keys<'_> {
        secrets::Keys { findings: self.ignored.key(), marks: &self.key }
    }

    fn redactor(&self, path: &str, form: Form) -> Redactor<'static> {
        Redactor::new(Rules::pinned(), path, form, self.keys())
    }

    /// A value or a whole short file with marks in it.
    pub(crate) fn replace(&self, path: &str, form: Form, bytes: &[u8]) -> (Vec<u8>, Tally) {
        let (mut out, mut hearing) = (Vec::with_capacity(bytes.len()), self.hearing(0));
        let mut redactor = self.redactor(path, form);
        redactor.feed(bytes, &mut out, &mut hearing);
        redactor.finish(&mut out, &mut hearing);
        (out, hearing.tally)
    }

    /// A scanner for several values or files, one after the other.
    pub(crate) fn scanner(&self, path: &str) -> Scanner<'static> {
        Scanner::new(Rules::pinned(), path, self.ignored.key())
    }

    /// Would this be replaced?
    pub(crate) fn replaces(&self, finding: &Finding<'_>) -> bool {
        !finding.report_only && !self.ignored.has(finding)
    }

    /// What would have to be replaced in bytes that are no text: of these nothing can be.
    pub(crate) fn find(&self, path: &[u8], from: &mut dyn Read) -> io::Result<Tally> {
        let mut scanner = self.scanner(&String::from_utf8_lossy(path));
        let mut tally = Tally::default();
        let mut note = |finding: Finding<'_>| {
            let counts =
                if finding.report_only { &mut tally.reported } else { &mut tally.replaced };
            if !self.ignored.has(&finding) {
                *counts.entry(finding.rule.to_owned()).or_default() += 1;
            }
        };
        let (mut at, mut buffer) = (0, vec![0; READ_BYTES]);
        loop {
            let read = fill(from, &mut buffer)?;
            if read == 0 {
                break;
            }
            scanner.feed(&buffer[..read], at, &mut note);
            at += read as u64;
        }
        scanner.finish(&mut note);
        Ok(tally)
    }

    /// How a file looks from outside that has these bytes.
    pub(crate) fn source_of(&self, from: &mut dyn Read) -> io::Result<MarkedSource> {
        let mut hasher = source_hasher(&self.key);
        hasher.update_reader(from)?;
        Ok(MarkedSource { size: hasher.count(), hash: *hasher.finalize().as_bytes() })
    }
}

/// Hashes a file as it is at the source.
pub(crate) fn source_hasher(key: &[u8; 32]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&[2]); // marks hash what begins with 0 or 1
    hasher
}

/// Fills a buffer as far as there is something: nothing may depend on short reads.
fn fill(from: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match from.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Is the file no text, by its first bytes?
pub(crate) fn is_binary(file: &std::fs::File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut head = [0; HEAD_BYTES];
    // a file of one system is read to the end of the buffer, or of itself
    let len = file.read_at(&mut head, 0)?;
    Ok(head[..len].contains(&0))
}

/// What a file is, by its name and its first bytes.
pub(crate) fn form_of(path: &[u8], head: &[u8]) -> Form {
    const JSON: [&[u8]; 5] = [b"json", b"jsonl", b"ndjson", b"jsonc", b"json5"];
    let extension = path.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let named = JSON.iter().any(|json| json.eq_ignore_ascii_case(extension));
    let head = &head[..head.len().min(HEAD_BYTES)];
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    if named || first == Some(&b'{') { Form::Json } else { Form::Text }
}

/// What a value of a database is.
pub(crate) fn form_of_value(value: &[u8]) -> Form {
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok();
    if json { Form::Json } else { Form::Text }
}
