//! Files that hold sessions, over all snapshots, in the cost of what differs between them.
//!
//! In: snapshots and rules. Out: for each such path its versions, each with the newest snapshot that has
//! it. Snapshots of one machine and set of roots are compared with the one before. What a comparison found
//! is remembered by the ids of the two trees, which say all that is in them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use adapters::sessions::{Matcher, SessionRule, any_patterns};
use adapters::{Adapter, Rules};
use minicbor::{Decode, Encode};
use repo::{BlockId, Entry, Kind, MachineId, Snapshot};

use super::bytes::Work;
use super::{CACHE_PREFIX, rules_of};
use crate::error::Result;

/// Where in a tree lies what is gone from its source: `~gone/<time>/<label>/...`.
const GONE: &[u8] = b"~gone/";

/// A content that a path had.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) entry: Entry,
    /// The newest snapshot that has it, by its place in the list.
    pub(super) newest: usize,
    /// Where it lies there.
    pub(super) path: Vec<u8>,
    /// The newest snapshot that has it at its own place, not among what is gone.
    pub(super) at_home: Option<usize>,
}

/// A file that holds sessions, or lists them.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) machine: MachineId,
    pub(super) agent: String,
    pub(super) label: String,
    pub(super) rel: String,
    /// How sessions in it are read; none if it only lists them.
    pub(super) rules: Vec<Arc<SessionRule>>,
    /// Rules whose catalogue it is, with the number of the catalogue in the rule.
    pub(super) lists: Vec<(Arc<SessionRule>, usize)>,
    /// Oldest first; each content once.
    pub(super) versions: Vec<Version>,
    /// The newest snapshot of this machine with this root has it.
    pub(super) here: bool,
}

/// What differs between two trees.
#[derive(Debug, Encode, Decode)]
struct Change {
    #[cbor(n(0), with = "minicbor::bytes")]
    path: Vec<u8>,
    #[n(1)]
    entry: Option<Entry>,
}

/// What is looked for in the roots of a snapshot.
struct Roots {
    roots: Vec<Root>,
    fingerprint: [u8; 32],
}

struct Root {
    label: String,
    agent: String,
    rules: Arc<Rules>,
    catalogues: Vec<(Matcher, Arc<SessionRule>, usize)>,
}

/// What a path is.
struct Place<'r> {
    root: &'r Root,
    rel: &'r str,
    gone: bool,
}

/// The path that an entry has or had at its source, and whether it lies among what is gone.
pub(super) fn own_path(path: &[u8]) -> (&[u8], bool) {
    let rest = path.strip_prefix(GONE).and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'/')?;
        Some(&rest[end + 1..])
    });
    rest.map_or((path, false), |rest| (rest, true))
}

impl Roots {
    fn new(snapshot: &Snapshot, adapters: &[Adapter]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&sessions::VERSION.to_le_bytes());
        let all = rules_of(snapshot, adapters);
        let mut roots = Vec::new();
        for (label, agent, rules) in &all {
            hasher.update(label.as_bytes()).update(&[0]);
            for rule in rules.session_rules() {
                hasher.update(format!("{rule:?}").as_bytes());
            }
            roots.push(Root {
                catalogues: catalogues(label, agent, &all),
                label: label.clone(),
                agent: agent.clone(),
                rules: Arc::clone(rules),
            });
        }
        // the longest first: a label may stand below another
        roots.sort_by_key(|root| std::cmp::Reverse(root.label.len()));
        Self { roots, fingerprint: *hasher.finalize().as_bytes() }
    }

    fn place<'r>(&'r self, path: &'r [u8]) -> Option<Place<'r>> {
        let (own, gone) = own_path(path);
        let own = std::str::from_utf8(own).ok()?;
        let below =
            |root: &'r Root| Some((root, own.strip_prefix(&root.label)?.strip_prefix('/')?));
        let (root, rel) = self.roots.iter().find_map(below)?;
        Some(Place { root, rel, gone })
    }

    fn wants(&self, path: &[u8], entry: &Entry) -> bool {
        entry.kind == Kind::File
            && entry.link.is_none()
            && self.place(path).is_some_and(|place| place.is_wanted())
    }
}

impl Place<'_> {
    fn is_wanted(&self) -> bool {
        !self.root.rules.sessions(self.rel.as_bytes()).is_empty() || !self.lists().is_empty()
    }

    fn lists(&self) -> Vec<(Arc<SessionRule>, usize)> {
        let fits = |(matcher, _, _): &&(Matcher, _, _)| matcher.has(self.rel.as_bytes(), false);
        let all = self.root.catalogues.iter().filter(fits);
        all.map(|(_, rule, number)| (Arc::clone(rule), *number)).collect()
    }
}

/// The catalogues in a root that say something of sessions.
fn catalogues(
    label: &str,
    agent: &str,
    all: &[(String, String, Arc<Rules>)],
) -> Vec<(Matcher, Arc<SessionRule>, usize)> {
    let mut out = Vec::new();
    for (other, _, rules) in all.iter().filter(|(_, of, _)| of == agent) {
        for rule in rules.session_rules() {
            for (number, catalogue) in rule.catalogue.iter().enumerate() {
                let says = !catalogue.title.is_empty() || !catalogue.project.is_empty();
                let here = match &catalogue.root {
                    None => other == label,
                    Some(root) => *label == format!("{agent}/{root}"),
                };
                if let (true, true, Ok(matcher)) = (says, here, any_patterns(&catalogue.files)) {
                    out.push((matcher, Arc::clone(rule), number));
                }
            }
        }
    }
    out
}

/// Walks all snapshots, given oldest first.
pub(super) fn walk(
    work: &mut Work<'_>,
    snapshots: &[Snapshot],
    adapters: &[Adapter],
    used: &mut HashSet<Vec<u8>>,
) -> Result<Vec<Held>> {
    let mut groups: BTreeMap<(MachineId, Vec<&str>), Vec<usize>> = BTreeMap::new();
    let mut covers: HashMap<(MachineId, &str), usize> = HashMap::new();
    for (number, snapshot) in snapshots.iter().enumerate() {
        let mut labels: Vec<&str> = snapshot.roots.iter().map(|root| root.label.as_str()).collect();
        labels.sort_unstable();
        for label in &labels {
            covers.insert((snapshot.machine, label), number);
        }
        groups.entry((snapshot.machine, labels)).or_default().push(number);
    }
    let mut found: BTreeMap<(MachineId, String, String), Held> = BTreeMap::new();
    for ((machine, _), members) in groups {
        let mut live: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        let mut before: Option<usize> = None;
        for number in members {
            let roots = Roots::new(&snapshots[number], adapters);
            let old = before.map(|before| &snapshots[before].tree);
            for change in changes(work, old, &snapshots[number].tree, &roots, used)? {
                let was = match change.entry {
                    Some(entry) => live.insert(change.path.clone(), entry),
                    None => live.remove(&change.path),
                };
                if let (Some(entry), Some(newest)) = (was, before) {
                    let version = Version { entry, newest, path: change.path, at_home: None };
                    keep(&mut found, machine, &roots, version, None);
                }
            }
            before = Some(number);
        }
        let Some(newest) = before else { continue };
        let roots = Roots::new(&snapshots[newest], adapters);
        for (path, entry) in live {
            let version = Version { entry, newest, path, at_home: None };
            keep(&mut found, machine, &roots, version, Some(&covers));
        }
    }
    let mut held: Vec<Held> = found.into_values().collect();
    for one in &mut held {
        one.versions.sort_by_key(|version| version.newest);
    }
    Ok(held)
}

/// Adds a version to its file.
fn keep(
    found: &mut BTreeMap<(MachineId, String, String), Held>,
    machine: MachineId,
    roots: &Roots,
    mut version: Version,
    covers: Option<&HashMap<(MachineId, &str), usize>>,
) {
    let path = version.path.clone();
    let Some(place) = roots.place(&path) else { return };
    let (label, rel) = (place.root.label.clone(), place.rel.to_owned());
    let newest = covers.and_then(|covers| covers.get(&(machine, label.as_str())));
    let here = newest == Some(&version.newest) && !place.gone;
    let held = found.entry((machine, label.clone(), rel.clone())).or_insert_with(|| Held {
        machine,
        agent: place.root.agent.clone(),
        rules: place.root.rules.sessions(rel.as_bytes()),
        lists: place.lists(),
        label,
        rel,
        versions: Vec::new(),
        here: false,
    });
    held.here |= here;
    version.at_home = (!place.gone).then_some(version.newest);
    let same = held.versions.iter_mut().find(|known| known.entry.hash == version.entry.hash);
    let Some(known) = same else {
        held.versions.push(version);
        return;
    };
    let at_home = known.at_home.max(version.at_home);
    // the same snapshot may have it twice, among what is gone too
    if known.newest < version.newest || (known.newest == version.newest && here) {
        *known = version;
    }
    known.at_home = at_home;
}

/// What of interest differs between two trees, from the cache if it is known.
fn changes(
    work: &mut Work<'_>,
    old: Option<&BlockId>,
    new: &BlockId,
    roots: &Roots,
    used: &mut HashSet<Vec<u8>>,
) -> Result<Vec<Change>> {
    if old == Some(new) {
        return Ok(Vec::new());
    }
    let none = BlockId([0; 32]);
    let key =
        [CACHE_PREFIX, b"walk/", &old.unwrap_or(&none).0, &new.0, &roots.fingerprint].concat();
    used.insert(key.clone());
    if let Some(known) = work.cached(&key).and_then(|bytes| minicbor::decode(&bytes).ok()) {
        return Ok(known);
    }
    let mut changes = Vec::new();
    let reader = work.reader()?;
    match old {
        None => reader.walk(new, &mut |path, entry| {
            if roots.wants(&path, &entry) {
                changes.push(Change { path, entry: Some(entry) });
            }
            Ok(())
        })?,
        Some(old) => reader.diff(old, new, &mut |path, was, is| {
            let wants = |entry: Option<&Entry>| entry.is_some_and(|entry| roots.wants(path, entry));
            if wants(was) || wants(is) {
                let entry = is.filter(|entry| roots.wants(path, entry)).cloned();
                changes.push(Change { path: path.to_vec(), entry });
            }
            Ok(())
        })?,
    }
    let bytes = minicbor::to_vec(&changes).unwrap_or_default();
    work.remember(&key, &bytes);
    Ok(changes)
}
