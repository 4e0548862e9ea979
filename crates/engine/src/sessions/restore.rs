//! What a restore of sessions needs: their files, and the catalogues that list them.
//!
//! In: a session with its forks and sub-agents. Out: a [`Restore`]: the transcripts and companions as
//! [`Content`] that a pull reads, taken from the newest snapshot that holds each, what lies among what is
//! gone at its old place; and the catalogues, which a pull must not replace: `merge` adds to them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::sessions::{Matcher, SessionRule, SessionSource, Values};
use bytes::Bytes;
use repo::{BlockId, Entry, Extent, Kind, OpId, RootRecord, Snapshot};

use super::bytes::Work;
use super::merge::base_of;
use super::{Found, Place};
use crate::error::Result;
use crate::pull::{Content, Location, Placement, Report, SnapshotContent, Visit};
use crate::session::Session;

/// Everything that belongs to some sessions.
pub struct Restore<'s> {
    content: SnapshotContent<'s>,
    /// Files, and the directories above them, by path with the label first.
    entries: BTreeMap<Vec<u8>, Entry>,
    files: Vec<String>,
    transcripts: Transcripts,
    pub(super) listings: Vec<Listing>,
    roots: Vec<RootRecord>,
    snapshot: Snapshot,
    /// Catalogues that nothing is added to, and why.
    pub(super) closed: BTreeMap<String, String>,
}

/// The files that are sessions, by path with the label first: for each the ids of these.
type Transcripts = BTreeMap<Vec<u8>, BTreeSet<String>>;

impl std::fmt::Debug for Restore<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A catalogue of a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) label: String,
    pub(super) rel: String,
    pub(super) entry: Entry,
    /// Which of a rule's catalogues it is, and for which sessions.
    pub(super) wanted: Vec<Wanted>,
}

/// A session in a catalogue.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) rule: Arc<SessionRule>,
    pub(super) number: usize,
    pub(super) id: String,
    /// Path of the session's file, for the templates.
    pub(super) rel: String,
}

/// What is looked for in one snapshot.
struct Look<'f> {
    found: &'f Found,
    place: &'f Place,
    companions: Matcher,
    /// Of each catalogue of the rule: the root's label and its files.
    catalogues: Vec<(String, Matcher)>,
}

impl<'f> Look<'f> {
    fn new(found: &'f Found, place: &'f Place) -> Result<Self> {
        let values = Values::new(&found.id, &place.rel);
        let bad = |e: adapters::AdapterError| crate::Error::NotFound(e.to_string());
        let mut catalogues = Vec::new();
        for catalogue in &place.rule.catalogue {
            let label = match &catalogue.root {
                Some(root) => format!("{}/{root}", found.agent),
                None => place.label.clone(),
            };
            catalogues.push((label, values.patterns(&catalogue.files).map_err(bad)?));
        }
        let companions = values.patterns(&place.rule.companions).map_err(bad)?;
        Ok(Self { found, place, companions, catalogues })
    }

    fn is_transcript(&self, label: &str, rel: &str) -> bool {
        let is_file = matches!(self.place.rule.source, SessionSource::File { .. });
        is_file && label == self.place.label && rel == self.place.rel
    }

    fn is_mine(&self, label: &str, rel: &str) -> bool {
        let companion = || self.companions.has(rel.as_bytes(), false);
        self.is_transcript(label, rel) || (label == self.place.label && companion())
    }
}

/// Finds all that belongs to sessions.
pub fn restore<'s>(
    session: &'s Session,
    family: &[&Found],
    cancel: &AtomicBool,
) -> Result<Restore<'s>> {
    let work = Work::new(session, cancel);
    let mut by_snapshot: HashMap<OpId, Vec<Look<'_>>> = HashMap::new();
    let mut order: Vec<OpId> = Vec::new();
    for found in family {
        for place in &found.places {
            // what is gone is not in the agent's lists any more: then it was
            let from = place.at_home.unwrap_or(place.snapshot);
            if !order.contains(&from) {
                order.push(from);
            }
            by_snapshot.entry(from).or_default().push(Look::new(found, place)?);
        }
    }
    let first = session.snapshot(&family[0].newest)?;
    let mut gathered = Gathered::default();
    for id in order {
        let snapshot = session.snapshot(&id)?;
        let looks = &by_snapshot[&id];
        let mut labels: Vec<&str> = snapshot.roots.iter().map(|root| root.label.as_str()).collect();
        // the longest first: a label may stand below another
        labels.sort_by_key(|label| std::cmp::Reverse(label.len()));
        gathered.seen.clear();
        work.reader()?.walk(&snapshot.tree, &mut |path, entry| {
            gathered.take(&labels, looks, &path, entry);
            Ok(())
        })?;
        for root in snapshot.roots {
            if !gathered.roots.iter().any(|known| known.label == root.label) {
                gathered.roots.push(root);
            }
        }
    }
    let content = SnapshotContent::open(session, &first)?;
    Ok(gathered.finish(content, first))
}

/// What was met while snapshots were walked.
#[derive(Default)]
struct Gathered {
    files: BTreeMap<Vec<u8>, Entry>,
    dirs: BTreeMap<Vec<u8>, Entry>,
    transcripts: Transcripts,
    /// By label, path and content: another snapshot may list other sessions.
    listings: BTreeMap<(String, String, [u8; 32]), Listing>,
    roots: Vec<RootRecord>,
    /// Paths of this snapshot that have an entry at their own place.
    seen: HashSet<Vec<u8>>,
    /// Contents of files that have further names, by path.
    carriers: HashMap<Vec<u8>, Entry>,
}

impl Gathered {
    fn take(&mut self, labels: &[&str], looks: &[Look<'_>], path: &[u8], mut entry: Entry) {
        let (own, gone) = super::walk::own_path(path);
        let Ok(text) = std::str::from_utf8(own) else { return };
        let Some((label, rel)) = labels.iter().find_map(|label| {
            let rest = text.strip_prefix(label)?;
            rest.is_empty().then_some((*label, "")).or(rest.strip_prefix('/').map(|r| (*label, r)))
        }) else {
            return;
        };
        if entry.kind == Kind::Dir {
            self.dirs.entry(own.to_vec()).or_insert(entry);
            return;
        }
        if entry.link.is_none() && entry.kind == Kind::File {
            self.carriers.insert(path.to_vec(), entry.clone());
        } else if let Some(carrier) = entry.link.as_ref().and_then(|first| self.carriers.get(first))
        {
            // a file of its own: the other name may not be among what is restored
            entry = carrier.clone();
        }
        // what is gone is of interest only where nothing is now
        if gone && self.seen.contains(own) {
            return;
        }
        for look in looks.iter().filter(|look| look.is_transcript(label, rel)) {
            self.transcripts.entry(own.to_vec()).or_default().insert(look.found.id.clone());
        }
        if looks.iter().any(|look| look.is_mine(label, rel)) {
            if gone || !self.files.contains_key(own) {
                self.files.insert(own.to_vec(), entry.clone());
            }
            if !gone {
                self.seen.insert(own.to_vec());
            }
        }
        if !gone && entry.kind == Kind::File {
            self.list(looks, label, rel, &entry);
        }
    }

    fn list(&mut self, looks: &[Look<'_>], label: &str, rel: &str, entry: &Entry) {
        for look in looks {
            for (number, (root, matcher)) in look.catalogues.iter().enumerate() {
                if root != label || !matcher.has(rel.as_bytes(), false) {
                    continue;
                }
                // what one snapshot says of a session, no other is asked for
                let asked = |one: &Wanted| {
                    one.id == look.found.id && one.number == number && one.rule == look.place.rule
                };
                let mut of_file =
                    self.listings.values().filter(|l| l.label == label && l.rel == rel);
                if of_file.any(|l| l.entry.hash != entry.hash && l.wanted.iter().any(asked)) {
                    continue;
                }
                let key = (label.to_owned(), rel.to_owned(), entry.hash);
                let listing = self.listings.entry(key).or_insert_with(|| Listing {
                    label: label.to_owned(),
                    rel: rel.to_owned(),
                    entry: entry.clone(),
                    wanted: Vec::new(),
                });
                listing.wanted.push(Wanted {
                    rule: Arc::clone(&look.place.rule),
                    number,
                    id: look.found.id.clone(),
                    rel: look.place.rel.clone(),
                });
            }
        }
    }

    fn finish(self, content: SnapshotContent<'_>, snapshot: Snapshot) -> Restore<'_> {
        let Self { files, dirs, transcripts, listings, roots, .. } = self;
        // a catalogue is merged, never put in the place of the one that is there
        let listed: HashSet<Vec<u8>> = listings
            .values()
            .map(|one| format!("{}/{}", one.label, one.rel).into_bytes())
            .collect();
        let mut entries: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        let mut names = Vec::new();
        for (path, entry) in files.into_iter().filter(|(path, _)| !listed.contains(path)) {
            for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                if let Some(dir) = dirs.get(&path[..at]) {
                    entries.insert(path[..at].to_vec(), dir.clone());
                }
            }
            names.push(String::from_utf8_lossy(&path).into_owned());
            entries.insert(path, entry);
        }
        let listings: Vec<Listing> = listings.into_values().collect();
        let used = |root: &RootRecord| {
            let below = |path: &str| {
                path.strip_prefix(&root.label).is_some_and(|rest| rest.starts_with('/'))
            };
            names.iter().any(|name| below(name))
                || listings.iter().any(|one| one.label == root.label)
        };
        let roots = roots.into_iter().filter(used).collect();
        let closed = BTreeMap::new();
        Restore { content, entries, files: names, transcripts, listings, roots, snapshot, closed }
    }
}

impl Restore<'_> {
    /// The files, label first: what a pull is asked for.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The roots that files or catalogues lie in, as their snapshots have them.
    pub fn roots(&self) -> &[RootRecord] {
        &self.roots
    }

    /// The newest snapshot that holds the first session.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The sessions whose transcripts a pull did not restore: a catalogue that listed them would lead to
    /// nothing.
    pub fn missing(&self, report: &Report) -> BTreeSet<String> {
        let ids = report.problems.iter().filter_map(|problem| self.transcripts.get(&problem.path));
        ids.flatten().cloned().collect()
    }

    /// The catalogues, label first, and their places: what is there is added to.
    pub fn catalogues(&self, to: &Placement) -> Vec<(Vec<u8>, PathBuf)> {
        let place = |one: &Listing| {
            let at = base_of(to, &one.label)?.join(&one.rel);
            Some((format!("{}/{}", one.label, one.rel).into_bytes(), at))
        };
        let all: BTreeMap<Vec<u8>, PathBuf> = self.listings.iter().filter_map(place).collect();
        all.into_iter().collect()
    }

    /// Nothing is added to this catalogue.
    pub fn close(&mut self, path: &[u8], why: String) {
        self.closed.insert(String::from_utf8_lossy(path).into_owned(), why);
    }

    /// Labels of these roots.
    pub fn labels(&self) -> BTreeSet<Vec<u8>> {
        self.roots.iter().map(|root| root.label.clone().into_bytes()).collect()
    }
}

impl Content for Restore<'_> {
    fn entries(&self, visit: &mut Visit<'_>) -> repo::Result<()> {
        // in tree order, which is not that of bytes; a pull sorts what is not
        self.entries.iter().try_for_each(|(path, entry)| visit(path.clone(), entry.clone()))
    }

    fn extents(&self, entry: &Entry) -> repo::Result<Vec<Extent>> {
        self.content.extents(entry)
    }

    fn location(&self, block: &BlockId) -> Option<Location> {
        self.content.location(block)
    }

    fn read_run(&self, blocks: &[BlockId]) -> repo::Result<Vec<Bytes>> {
        self.content.read_run(blocks)
    }

    fn matches(&self, block: &BlockId, plain: &[u8]) -> bool {
        self.content.matches(block, plain)
    }

    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool {
        self.content.holds(block, offset, plain)
    }

    fn mark_key(&self) -> [u8; 32] {
        self.content.mark_key()
    }
}
