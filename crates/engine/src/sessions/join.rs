//! What was read becomes sessions: one for each agent and id, however many files hold it; an id that is only
//! a count is one of its machine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use adapters::sessions::{CatalogueEntries, SessionRule, SessionSource, Values};
use repo::{MachineId, OpId, Snapshot};
use sessions::catalogue::Listed;
use sessions::{Digest, Known};

use super::digest::Read;
use super::walk::Held;
use super::{Found, Place, is_count};

/// Titles and projects that catalogues give, by machine, label and key.
type Names<'r> =
    Vec<(MachineId, &'r str, &'r Arc<SessionRule>, usize, HashMap<&'r str, &'r Listed>)>;

/// What could not be read: path in the snapshot, snapshot, why.
type Unread = Vec<(Vec<u8>, OpId, String)>;

/// Sessions by agent and id, and by machine where the id is a count.
type All = BTreeMap<(String, String, Option<MachineId>), Found>;

/// The sessions, those that were used last first; and files that could not be read.
pub(super) fn join(snapshots: &[Snapshot], held: &[Held], read: &[Read]) -> (Vec<Found>, Unread) {
    let mut names: Names<'_> = Vec::new();
    for one in read {
        if let Read::Listed(number, rule, catalogue, listed) = one {
            // of several lines with one id the last counts
            let by_key = listed.iter().map(|listed| (listed.key.as_str(), listed)).collect();
            let file = &held[*number];
            names.push((file.machine, &file.label, rule, *catalogue, by_key));
        }
    }
    let (mut all, mut unread) = (All::new(), Unread::new());
    for one in read {
        match one {
            Read::File(number, rule, digest) => {
                let file = &held[*number];
                let at = file.versions.len() - 1;
                if let Some(known) = digest.known(rule, &file.rel) {
                    add(&mut all, snapshots, &names, file, at, rule, digest, &known, file.here);
                }
            }
            Read::Rows(number, at, rule, rows) => {
                let file = &held[*number];
                let here = file.here && *at == file.versions.len() - 1;
                for row in rows {
                    add(
                        &mut all,
                        snapshots,
                        &names,
                        file,
                        *at,
                        rule,
                        &row.digest,
                        &row.known,
                        here,
                    );
                }
            }
            Read::Failed(number, at, why) => {
                let version = &held[*number].versions[*at];
                let snapshot = snapshots[version.newest].id;
                unread.push((version.path.clone(), snapshot, why.clone()));
            }
            Read::Listed(..) => {}
        }
    }
    let mut all: Vec<Found> = all.into_values().collect();
    for found in &mut all {
        // what can be shown comes first, and of that a database: files beside it are its extracts
        found.places.sort_by_key(|place| {
            let shows = !place.rule.content.is_empty() || !place.rule.messages.is_empty();
            let rows = matches!(place.rule.source, SessionSource::Rows { .. });
            (!shows, !rows, place.label.clone(), place.rel.clone())
        });
    }
    all.sort_by(|a, b| b.last_ms.cmp(&a.last_ms).then_with(|| a.id.cmp(&b.id)));
    (all, unread)
}

#[allow(clippy::too_many_arguments, reason = "all of it says where a session was found")]
fn add(
    all: &mut All,
    snapshots: &[Snapshot],
    names: &Names<'_>,
    file: &Held,
    at: usize,
    rule: &Arc<SessionRule>,
    digest: &Digest,
    known: &Known,
    here: bool,
) {
    let version = &file.versions[at];
    let snapshot = &snapshots[version.newest];
    let is_file = matches!(rule.source, SessionSource::File { .. });
    let bytes = is_file.then_some(version.entry.size);
    let (title, project) = named(names, file, rule, &known.id);
    let longer = file.versions[..at]
        .iter()
        .filter(|old| is_file && old.entry.size > version.entry.size)
        .max_by_key(|old| old.entry.size)
        .map(|old| (snapshots[old.newest].id, old.entry.size));
    let machine = is_count(&known.id).then_some(file.machine);
    let key = (file.agent.clone(), known.id.clone(), machine);
    let found = all.entry(key).or_insert_with(|| Found {
        agent: file.agent.clone(),
        id: known.id.clone(),
        title: None,
        project: None,
        parent: None,
        sub_agent: rule.sub_agent,
        first_ms: None,
        last_ms: None,
        messages: None,
        bytes: None,
        newest: snapshot.id,
        newest_nanos: snapshot.finished_nanos,
        machine: snapshot.machine,
        host: snapshot.host.clone(),
        here: false,
        longer: None,
        places: Vec::new(),
    });
    let newer = snapshot.finished_nanos >= found.newest_nanos;
    if newer {
        found.newest = snapshot.id;
        found.newest_nanos = snapshot.finished_nanos;
        found.machine = snapshot.machine;
        found.host.clone_from(&snapshot.host);
    }
    found.here |= here;
    found.sub_agent &= rule.sub_agent;
    let set = |slot: &mut Option<String>, value: Option<String>| {
        if value.is_some() && (slot.is_none() || newer) {
            *slot = value;
        }
    };
    // a name that somebody gave is better than what was said first
    let own = known.title.clone().filter(|own| digest.prompt.as_ref() != Some(own));
    let prompt = digest.prompt.clone().filter(|_| found.title.is_none());
    set(&mut found.title, title.or(own).or(prompt));
    set(&mut found.project, digest.project.clone().or(project));
    set(&mut found.parent, known.parent.clone());
    found.first_ms = found.first_ms.into_iter().chain(digest.first_ms).min();
    found.last_ms = found.last_ms.into_iter().chain(digest.last_ms).max();
    if digest.messages > 0 {
        found.messages = found.messages.max(Some(digest.messages));
    }
    if longer.is_some() {
        found.longer = longer;
    }
    let place = Place {
        label: file.label.clone(),
        rel: file.rel.clone(),
        path: version.path.clone(),
        snapshot: snapshot.id,
        at_home: version.at_home.map(|number| snapshots[number].id),
        entry: version.entry.clone(),
        rule: Arc::clone(rule),
    };
    let same = found.places.iter().position(|p| p.label == place.label && p.rel == place.rel);
    if let Some(same) = same {
        // of two machines with one file the newer snapshot counts
        if newer {
            found.places[same] = place;
        }
        return;
    }
    if let Some(bytes) = bytes {
        found.bytes = Some(found.bytes.unwrap_or(0) + bytes);
    }
    found.places.push(place);
}

/// Title and project that a catalogue of the session's rule gives.
fn named(
    names: &Names<'_>,
    file: &Held,
    rule: &Arc<SessionRule>,
    id: &str,
) -> (Option<String>, Option<String>) {
    let (mut title, mut project) = (None, None);
    for (machine, label, of, number, listed) in names {
        let catalogue = &rule.catalogue.get(*number);
        let Some(catalogue) = catalogue.filter(|_| *of == rule && *machine == file.machine) else {
            continue;
        };
        let mine = match &catalogue.root {
            None => *label == file.label,
            Some(root) => **label == format!("{}/{root}", file.agent),
        };
        let key = match &catalogue.entries {
            CatalogueEntries::Members { value, .. } => Values::new(id, &file.rel).text(value),
            _ => Some(id.to_owned()),
        };
        if let Some(found) = key.filter(|_| mine).and_then(|key| listed.get(key.as_str())) {
            title = title.or_else(|| found.title.clone());
            project = project.or_else(|| found.project.clone());
        }
    }
    (title, project)
}
