//! What no policy takes: the last good copy of a database that is damaged now, and what a machine keeps
//! of files that are gone.
//!
//! A damaged database is backed up like any other, day after day, until somebody notices. Retention
//! would meanwhile forget the last snapshot that holds it whole. So for each database that is flagged
//! damaged in the newest snapshot of a machine and its roots, the newest older snapshot of that machine
//! that holds it and in which it is not flagged stays. So it is with a damaged database that vanished, as
//! long as the newest snapshot keeps it.
//!
//! What is gone is in the newest snapshot of its machine, and maybe in no other: that one stays. So does
//! the newest copy of what a machine pushed elsewhere: what vanished there is in no push to here.

use std::collections::{BTreeMap, HashMap, HashSet};

use repo::{MachineId, OpId, Reader, Snapshot, flag};

use crate::error::Result;
use crate::gone::{is_damage, read_kept};
use crate::session::Session;

/// Snapshots that stay, and the databases for whose sake. `snapshots` are all there are.
pub(super) fn healthy(
    session: &Session,
    snapshots: &[Snapshot],
) -> Result<HashMap<OpId, Vec<Vec<u8>>>> {
    let mut out = HashMap::<OpId, Vec<Vec<u8>>>::new();
    if snapshots.iter().all(|s| s.damaged.is_empty() && s.stats.gone_entries == 0) {
        return Ok(out);
    }
    let mut snapshots: Vec<&Snapshot> = snapshots.iter().collect();
    snapshots.sort_by_key(|s| s.order());
    let reader = Reader::open(&session.repo, session.cache.as_ref())?;
    for (newest, path) in damaged_now(&reader, &snapshots)? {
        let older = snapshots[..newest].iter().rev();
        let candidates = older.filter(|s| {
            s.machine == snapshots[newest].machine
                && s.damaged.binary_search(&path).is_err()
                && covers(s, &path)
        });
        for candidate in candidates {
            if holds(&reader, candidate, &path)? {
                out.entry(candidate.id).or_default().push(path.clone());
                break;
            }
        }
    }
    Ok(out)
}

/// For each machine its newest snapshot, and the newest copy of one, if that keeps something that is gone.
pub(super) fn archives(snapshots: &[Snapshot]) -> HashSet<OpId> {
    let mut newest = BTreeMap::<(MachineId, bool), &Snapshot>::new();
    for s in snapshots.iter().filter(|s| !s.is_safety()) {
        let known = newest.entry((s.machine, s.origin.is_some())).or_insert(s);
        if known.order() < s.order() {
            *known = s;
        }
    }
    newest.into_values().filter(|s| s.stats.gone_entries > 0).map(|s| s.id).collect()
}

/// Databases that are damaged in the newest snapshot of their machine and roots, with its place.
fn damaged_now(reader: &Reader<'_>, snapshots: &[&Snapshot]) -> Result<Vec<(usize, Vec<u8>)>> {
    let mut newest = BTreeMap::<(MachineId, Vec<&str>), usize>::new();
    for (at, s) in snapshots.iter().enumerate().filter(|(_, s)| !s.is_safety()) {
        let labels = s.roots.iter().map(|root| root.label.as_str()).collect();
        newest.insert((s.machine, labels), at);
    }
    let mut out = Vec::new();
    for at in newest.into_values() {
        out.extend(snapshots[at].damaged.iter().map(|path| (at, path.clone())));
        let kept = match read_kept(reader, snapshots[at]) {
            // what is damaged is for `verify` to tell of
            Err(error) if is_damage(&error) => Vec::new(),
            kept => kept?,
        };
        let damaged = kept.into_iter().filter(|one| one.entry.flags & flag::SQLITE_DAMAGED != 0);
        out.extend(damaged.map(|one| (at, one.path)));
    }
    Ok(out)
}

fn covers(snapshot: &Snapshot, path: &[u8]) -> bool {
    snapshot.roots.iter().any(|root| {
        let rest = path.strip_prefix(root.label.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    })
}

/// Its tree has the database, and the entry is not flagged: an older program recorded it there only.
fn holds(reader: &Reader<'_>, snapshot: &Snapshot, path: &[u8]) -> Result<bool> {
    let mut found = None;
    let walked = reader.walk(&snapshot.tree, &mut |at, entry| {
        if at != path {
            return Ok(());
        }
        found = Some(entry.flags & flag::SQLITE_DAMAGED == 0);
        Err(repo::Error::Cancelled) // ends the walk: there is no second one
    });
    match found {
        Some(whole) => Ok(whole),
        None => Ok(walked.map(|()| false)?),
    }
}
