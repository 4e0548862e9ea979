//! Likely secrets in what leaves the machine for the first time: looked for, counted, never shown.
//!
//! In: the new bytes of files as they are cut, with their offsets. Out: how often which rule of the
//! crate `secrets` fits in which file. What was in the repository already is not looked at again, and no
//! push looks at more than its budget: a first push of many gigabytes is no slower for it, and says how
//! much it passed over. Of a database the pages are looked at as they are, so a value that SQLite
//! spread over several pages is seen in part.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use secrets::{Rules, Scanner};

use crate::ignored::Ignored;
use crate::marks::Tally;

/// What a push found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Full path of a file, name of a rule, and how often it fits there.
    pub found: BTreeMap<(Vec<u8>, String), u64>,
    /// Full path of a file that was read, name of a rule, and how many of its places are replaced there:
    /// [`PushOptions::redact_secrets`](super::PushOptions::redact_secrets).
    pub replaced: BTreeMap<(Vec<u8>, String), u64>,
    /// New bytes that were looked at.
    pub bytes_seen: u64,
    /// New bytes that were not, as the budget was used up.
    pub bytes_passed: u64,
}

/// What the readers of a push share.
#[derive(Debug)]
pub(super) struct Watch {
    ignored: Arc<Ignored>,
    budget: AtomicU64,
    passed: AtomicU64,
    seen: AtomicU64,
    found: Mutex<Counts>,
    replaced: Mutex<Counts>,
}

/// Full path of a file, name of a rule, and a count.
type Counts = BTreeMap<(Vec<u8>, String), u64>;

impl Watch {
    /// Looks at no more than so many bytes, and tells nothing of what is to be ignored.
    pub(super) fn new(budget: u64, ignored: Arc<Ignored>) -> Self {
        Self {
            ignored,
            budget: AtomicU64::new(budget),
            passed: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            found: Mutex::default(),
            replaced: Mutex::default(),
        }
    }

    /// Begins with the new bytes of a file. What was known of it ends at `from`: what lies before only
    /// helps to see a secret that goes on behind it.
    pub(super) fn begin(&self, path: &[u8], from: u64) -> Look<'_> {
        let found = BTreeMap::new();
        let unwatched = self.ignored.has_path(path);
        let path = path.to_vec();
        Look { watch: self, path, from, scanner: None, found, over: false, unwatched }
    }

    pub(super) fn finish(self) -> Suspects {
        Suspects {
            found: self.found.into_inner().unwrap_or_else(PoisonError::into_inner),
            replaced: self.replaced.into_inner().unwrap_or_else(PoisonError::into_inner),
            bytes_seen: self.seen.into_inner(),
            bytes_passed: self.passed.into_inner(),
        }
    }

    /// What was found in a file of which secrets are replaced. If it was read before in this push, this
    /// reading counts.
    pub(super) fn note_marks(&self, path: &[u8], tally: &Tally) {
        let note = |all: &Mutex<Counts>, of: &BTreeMap<String, u64>| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(of.iter().map(|(rule, n)| ((path.to_vec(), rule.clone()), *n)));
        };
        note(&self.found, &tally.reported);
        note(&self.replaced, &tally.replaced);
    }

    /// Takes so many bytes from the budget, all or none.
    fn afford(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// One file on its way.
#[derive(Debug)]
pub(super) struct Look<'w> {
    watch: &'w Watch,
    path: Vec<u8>,
    from: u64,
    /// Made with the first bytes: most files of a push are not read at all.
    scanner: Option<Box<Scanner<'static>>>,
    /// How often which rule fits.
    found: BTreeMap<String, u64>,
    /// Nothing more of this file is looked at.
    over: bool,
    /// Nothing of it is, as nothing would be told.
    unwatched: bool,
}

impl Look<'_> {
    /// Bytes before the new ones that it wants to see.
    pub(super) fn overlap(&self) -> u64 {
        if self.from == 0 { 0 } else { Rules::pinned().overlap_bytes().min(self.from) }
    }

    /// Takes bytes of the file that begin at `offset`. A gap in them is no mistake.
    pub(super) fn feed(&mut self, bytes: &[u8], offset: u64) {
        if self.unwatched {
            return;
        }
        let end = offset + bytes.len() as u64;
        let new = end.saturating_sub(offset.max(self.from));
        self.over = self.over || !self.watch.afford(bytes.len() as u64);
        if self.over {
            self.watch.passed.fetch_add(new, Ordering::Relaxed);
            return;
        }
        self.watch.seen.fetch_add(new, Ordering::Relaxed);
        let path = String::from_utf8_lossy(&self.path).into_owned();
        let scanner = self.scanner.get_or_insert_with(|| {
            Box::new(Scanner::new(Rules::pinned(), &path, self.watch.ignored.key()))
        });
        let (found, from, ignored) = (&mut self.found, self.from, &self.watch.ignored);
        scanner.feed(bytes, offset, &mut |finding| note(found, from, ignored, &finding));
    }

    /// The file is read. If it was read before in this push, because it moved, this reading counts.
    pub(super) fn end(mut self) {
        if let Some(mut scanner) = self.scanner.take() {
            let (found, from, ignored) = (&mut self.found, self.from, &self.watch.ignored);
            scanner.finish(&mut |finding| note(found, from, ignored, &finding));
        }
        let mut all = self.watch.found.lock().unwrap_or_else(PoisonError::into_inner);
        for (rule, count) in self.found {
            all.insert((self.path.clone(), rule), count);
        }
    }
}

/// Counts a finding that is not wholly in what was known, nor to be ignored.
fn note(
    found: &mut BTreeMap<String, u64>,
    from: u64,
    ignored: &Ignored,
    finding: &secrets::Finding<'_>,
) {
    if finding.range.end > from && !ignored.has(finding) {
        *found.entry(finding.rule.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Put together here, so that no scanner takes this file for a leak.
    fn token() -> String {
        format!("ghp_{}", "wJ7dQ2xLrT5vN8yB1mKzC4sF6hG9pE3aUqRo")
    }

    #[test]
    fn a_secret_across_the_end_of_what_was_known_is_found_and_one_before_it_is_not() {
        let watch = Watch::new(1 << 20, Arc::new(Ignored::nothing()));
        let text = format!("{{\"a\":\"{}\"}}\n{{\"b\":\"{}\"}}\n", token(), token());
        let known = text.rfind("ghp_").unwrap() as u64 + 10;
        let mut look = watch.begin(b"r/a.jsonl", known);
        let from = known - look.overlap();
        let (old, new) = text.as_bytes()[usize::try_from(from).unwrap()..]
            .split_at(usize::try_from(known - from).unwrap());
        look.feed(old, from);
        look.feed(new, known);
        look.end();
        let found = watch.finish().found;
        assert_eq!(found.values().sum::<u64>(), 1, "{found:?}");
        assert!(found.keys().all(|(path, rule)| path == b"r/a.jsonl" && rule.contains("github")));
    }

    #[test]
    fn a_file_that_is_read_twice_is_counted_once() {
        let watch = Watch::new(1 << 20, Arc::new(Ignored::nothing()));
        for _ in 0..2 {
            let mut look = watch.begin(b"r/a.jsonl", 0);
            look.feed(format!("{{\"a\":\"{}\"}}\n", token()).as_bytes(), 0);
            look.end();
        }
        assert_eq!(watch.finish().found.values().sum::<u64>(), 1);
    }

    #[test]
    fn no_more_than_the_budget_is_looked_at_and_the_rest_is_counted() {
        let watch = Watch::new(100, Arc::new(Ignored::nothing()));
        let mut look = watch.begin(b"r/a", 0);
        look.feed(&[b'x'; 60], 0);
        look.feed(&[b'x'; 60], 60);
        look.feed(token().as_bytes(), 120);
        look.end();
        let suspects = watch.finish();
        assert_eq!((suspects.bytes_seen, suspects.bytes_passed), (60, 100));
        assert!(suspects.found.is_empty());
    }
}
