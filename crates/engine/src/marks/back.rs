//! The way back: a restored file gets its secrets from the one that it replaces.
//!
//! In: a file as it is stored, with marks, and what is at its place now. Out: the file with the bytes
//! that the live one has for the same marks. A mark that the live one knows nothing of stays, and is
//! counted; so is what only the live one has ([`Lost`]), but for findings that are stored as they are. What
//! comes back does not depend on these: a mark that is there is looked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Write};

use repo::MarkedSource;
use secrets::{Finding, Judge, Keys, Met, Put, Redactor, Restorer, Rules};

use crate::ignored::Ignored;

use super::{READ_BYTES, fill, form_of, form_of_value, source_hasher};

/// Secrets of a live file that are kept in memory, together; beyond, marks stay.
const KNOWN_BYTES_MAX: usize = 64 << 20;
/// Under hashes that nobody sees.
const NO_KEY: [u8; 32] = [0; 32];

type Digest = [u8; 8];

/// What came back, and what did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Back {
    /// Marks in whose places bytes were put.
    pub(crate) put: u64,
    /// Marks that stay, by rule.
    pub(crate) left: BTreeMap<String, u64>,
    /// Secrets of the live one that have no mark.
    pub(crate) lost: Lost,
}

/// Secrets that are in a live text and not in what takes its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost(HashSet<Digest>);

impl Lost {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes out what this text has: rules for fields brought it back.
    pub(crate) fn spare(
        &mut self,
        secrets: Secrets<'_>,
        path: &[u8],
        from: &mut dyn Read,
    ) -> io::Result<()> {
        redact(secrets, path, from, self)
    }

    /// Takes out what this value has: rules for rows brought it back.
    pub(crate) fn spare_value(&mut self, secrets: Secrets<'_>, path: &str, value: &[u8]) {
        redact_value(secrets, path, value, self);
    }
}

impl Judge for Lost {
    fn found(&mut self, _: &Finding<'_>) -> bool {
        true
    }

    fn replaced(&mut self, _: &Finding<'_>, digest: Digest, _: bool, _: &[u8]) {
        self.0.remove(&digest);
    }
}

impl Back {
    /// Adds that of another part.
    pub(crate) fn add(&mut self, other: Self) {
        self.put += other.put;
        self.lost.0.extend(other.lost.0);
        for (rule, n) in other.left {
            *self.left.entry(rule).or_default() += n;
        }
    }

    /// What stays, in words.
    pub(crate) fn blanks(&self) -> Vec<String> {
        let blank = |(rule, n): (&String, &u64)| match n {
            1 => format!("1 secret ({rule})"),
            n => format!("{n} secrets ({rule})"),
        };
        self.left.iter().map(blank).collect()
    }
}

/// How marks came to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secrets<'k> {
    /// Under the hashes in them.
    pub(crate) key: &'k [u8; 32],
    /// Findings that are stored as they are; none: a secret without a mark is not lost.
    pub(crate) spared: Option<&'k Ignored>,
}

impl Secrets<'_> {
    fn keys(&self) -> Keys<'_> {
        Keys { findings: self.spared.map_or(&NO_KEY, Ignored::key), marks: self.key }
    }
}

/// What live text has for marks.
#[derive(Debug)]
pub(crate) struct Live<'k> {
    secrets: Secrets<'k>,
    /// Marks of the stored text.
    wanted: HashSet<Digest>,
    known: HashMap<Digest, (Vec<u8>, bool)>,
    known_bytes: usize,
    others: HashSet<Digest>,
}

impl Judge for Live<'_> {
    fn found(&mut self, _: &Finding<'_>) -> bool {
        true
    }

    fn replaced(&mut self, of: &Finding<'_>, digest: Digest, quoted: bool, raw: &[u8]) {
        if !self.wanted.contains(&digest) {
            if self.secrets.spared.is_some_and(|ignored| !ignored.has(of)) {
                self.others.insert(digest);
            }
        } else if !self.known.contains_key(&digest)
            && self.known_bytes + raw.len() <= KNOWN_BYTES_MAX
        {
            self.known_bytes += raw.len();
            self.known.insert(digest, (raw.to_vec(), quoted));
        }
    }
}

impl<'k> Live<'k> {
    /// Nothing is wanted yet.
    pub(crate) fn new(secrets: Secrets<'k>) -> Self {
        let (wanted, known, others) = (HashSet::new(), HashMap::new(), HashSet::new());
        Self { secrets, wanted, known, known_bytes: 0, others }
    }

    /// Wants what this stored text has marks for.
    pub(crate) fn want(&mut self, stored: &mut dyn Read) -> io::Result<()> {
        let mut wanted = |met: Met<'_>| {
            self.wanted.insert(met.digest);
            None
        };
        pass(stored, &mut io::sink(), &mut wanted)
    }

    /// Learns from a live text.
    pub(crate) fn learn(&mut self, path: &[u8], from: &mut dyn Read) -> io::Result<()> {
        redact(self.secrets, path, from, self)
    }

    /// Learns from a live value.
    pub(crate) fn learn_value(&mut self, path: &str, value: &[u8]) {
        redact_value(self.secrets, path, value, self);
    }

    /// Puts what is known into a stored text.
    pub(crate) fn put(
        &self,
        stored: &mut dyn Read,
        to: &mut dyn Write,
        back: &mut Back,
    ) -> io::Result<()> {
        let mut known = |met: Met<'_>| {
            let found = self.known.get(&met.digest);
            match found {
                Some(_) => back.put += 1,
                None => *back.left.entry(met.rule.to_owned()).or_default() += 1,
            }
            found.map(|(raw, quoted)| Put { raw, quoted: *quoted })
        };
        pass(stored, to, &mut known)
    }

    /// Secrets of the live text that have no mark in the stored one.
    pub(crate) fn lost(self) -> Lost {
        Lost(self.others)
    }
}

/// Has a judge hear all that the rules find in a text.
fn redact(
    secrets: Secrets<'_>,
    path: &[u8],
    from: &mut dyn Read,
    judge: &mut impl Judge,
) -> io::Result<()> {
    let (mut out, mut buffer, mut redactor) = (Vec::new(), vec![0; READ_BYTES], None);
    loop {
        let read = fill(from, &mut buffer)?;
        let raw = &buffer[..read];
        let redactor: &mut Redactor<'_> = redactor.get_or_insert_with(|| {
            let name = String::from_utf8_lossy(path);
            Redactor::new(Rules::pinned(), &name, form_of(path, raw), secrets.keys())
        });
        if read == 0 {
            break;
        }
        redactor.feed(raw, &mut out, judge);
        out.clear();
    }
    if let Some(redactor) = redactor {
        redactor.finish(&mut out, judge);
    }
    Ok(())
}

/// The same for a value of a database.
fn redact_value(secrets: Secrets<'_>, path: &str, value: &[u8], judge: &mut impl Judge) {
    let form = form_of_value(value);
    let mut redactor = Redactor::new(Rules::pinned(), path, form, secrets.keys());
    let mut out = Vec::new();
    redactor.feed(value, &mut out, judge);
    redactor.finish(&mut out, judge);
}

/// Puts what `live` has in the place of the marks in `stored`.
pub(crate) fn give_back<R: Read + io::Seek>(
    secrets: Secrets<'_>,
    path: &[u8],
    stored: &mut R,
    live: Option<&mut dyn Read>,
    to: &mut dyn Write,
) -> io::Result<Back> {
    let (mut known, mut back) = (Live::new(secrets), Back::default());
    if let Some(live) = live {
        stored.rewind()?;
        known.want(stored)?;
        known.learn(path, live)?;
    }
    stored.rewind()?;
    known.put(stored, to, &mut back)?;
    back.lost = known.lost();
    Ok(back)
}

/// The marks in a text for which nobody has anything.
pub(crate) fn marks_in(mut text: &[u8]) -> Back {
    let mut back = Back::default();
    let nothing = Live::new(Secrets { key: &NO_KEY, spared: None });
    // bytes in memory are read, and nothing is written
    let _ = nothing.put(&mut text, &mut io::sink(), &mut back);
    back
}

/// The same in memory.
pub(crate) fn give_back_bytes(
    key: &[u8; 32],
    path: &[u8],
    stored: &[u8],
    live: &mut dyn Read,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(stored.len());
    let secrets = Secrets { key, spared: None };
    give_back(secrets, path, &mut io::Cursor::new(stored), Some(live), &mut out)?;
    Ok(out)
}

/// Is this what a file with marks was at its source?
pub(crate) fn is_source(
    key: &[u8; 32],
    source: &MarkedSource,
    from: &mut dyn Read,
) -> io::Result<bool> {
    let mut hasher = source_hasher(key);
    let mut limited = from.take(source.size.saturating_add(1));
    let mut size = 0;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = fill(&mut limited, &mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    Ok(size == source.size && *hasher.finalize().as_bytes() == source.hash)
}

/// Reads a stored text through a restorer.
fn pass<'k>(
    stored: &mut dyn Read,
    to: &mut dyn Write,
    known: &mut impl FnMut(Met<'_>) -> Option<Put<'k>>,
) -> io::Result<()> {
    let (mut restorer, mut out, mut buffer) =
        (Restorer::default(), Vec::new(), vec![0; READ_BYTES]);
    loop {
        let read = fill(stored, &mut buffer)?;
        if read == 0 {
            break;
        }
        restorer.feed(&buffer[..read], &mut out, known);
        to.write_all(&out)?;
        out.clear();
    }
    restorer.finish(&mut out, known);
    to.write_all(&out)
}
