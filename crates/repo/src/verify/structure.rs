//! The structure of a repository: what listings, names, tables and trailers say of each other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use super::ground::Ground;
use super::judge::Judge;
use super::{Finding, Harm, Level, Report};
use crate::error::{Error, Result};
use crate::gc;
use crate::gc::lists::{Lists, Wanted};
use crate::id::PackId;
use crate::keys;
use crate::object::{self, ObjectKind};
use crate::operation::{Mark, OpRecord};
use crate::pack::{self, PackTable};
use crate::repository::{READS_MAX, Repository};
use crate::snapshot::Snapshot;
use crate::verify::data::reason;

/// Directories in which a name of unknown form stops everybody.
const STOPS_ALL: [&str; 3] = ["index", "snap", "dead"];

/// Compares what was listed. A sample leaves out what takes a request for each object.
pub(super) fn check(
    repo: &Repository,
    ground: &Ground,
    level: Level,
    threads: usize,
    report: &mut Report,
    judge: &mut Judge,
) -> Result<()> {
    for name in &ground.odd {
        let dir = name.split_once('/').map_or("", |(dir, _)| dir);
        let harmless = matches!(dir, "keys" | "verify" | "kill");
        let harm = if harmless {
            Harm::Harmless("nobody reads it".into())
        } else if STOPS_ALL.contains(&dir) {
            Harm::Hinders("whoever lists its directory stops; move it elsewhere".into())
        } else {
            Harm::Hinders("gc stops where it does not know a name; move it elsewhere".into())
        };
        let what = "nothing of ours has such a name".to_owned();
        report.findings.push(Finding { object: name.clone(), block: None, what, harm });
    }
    left_over(ground, report);
    lengths(ground, judge);
    if level == Level::Sample {
        return Ok(());
    }
    vanished(repo, ground, report)?;
    small_objects(repo, report)?;
    // packs that are read whole are compared with their trailers then
    if level != Level::All {
        judge.frames.extend(trailers(repo, ground, threads)?);
    }
    Ok(())
}

/// Packs that no table names.
fn left_over(ground: &Ground, report: &mut Report) {
    for (pack, bytes) in &ground.packs {
        if ground.tables.packs.contains_key(pack) {
            continue;
        }
        if ground.operations.has_ended(&pack.op) {
            report.packs_left_over += 1;
            report.bytes_left_over += bytes;
        } else {
            report.packs_of_running += 1;
        }
    }
}

/// Packs that are not as long as their tables say. One that is not there at all shows where blocks
/// of it are needed; an entry of it alone harms nobody.
fn lengths(ground: &Ground, judge: &mut Judge) {
    for (pack, wanted) in &ground.tables.packs {
        match ground.packs.get(pack) {
            Some(bytes) if bytes != wanted => {
                let what = format!("it has {bytes} bytes where its table says {wanted}");
                judge.frames.insert(*pack, what);
            }
            Some(_) => {}
            None => drop(judge.gone.insert(*pack)),
        }
    }
}

/// Snapshots that a collector saw, that are gone, and that nobody forgot.
fn vanished(repo: &Repository, ground: &Ground, report: &mut Report) -> Result<()> {
    let operations = &ground.operations;
    let known = |id: &crate::OpId| {
        operations.snapshots.contains(id)
            || operations.forgotten.contains_key(id)
            || operations.dead.contains(id)
    };
    let lists = match Lists::read(repo, None, Wanted::All) {
        Ok(lists) => lists,
        Err(Error::Corrupt { object, what }) => {
            let harm = Harm::Hinders("gc stops, and so may pushes".into());
            report.findings.push(Finding { object, block: None, what, harm });
            return Ok(());
        }
        Err(Error::Refused { .. }) => return Ok(()), // an odd name, told already
        Err(error) => return Err(error),
    };
    let mut told = HashSet::new();
    for id in lists.seen.values().flat_map(|list| &list.snapshots) {
        // one that was made after this run listed the snapshots is not lost
        if !known(id) && told.insert(*id) && repo.is_lost(id)? {
            let what = "the last collection saw it; it is gone, and nobody forgot it".to_owned();
            let object = Snapshot::object_name(id);
            report.findings.push(Finding { object, block: None, what, harm: Harm::Snapshot });
        }
    }
    Ok(())
}

/// Key slots, marks, announcements and forget records: one request for each.
fn small_objects(repo: &Repository, report: &mut Report) -> Result<()> {
    let mut tell = |object: String, what: String, harm: Harm| {
        report.findings.push(Finding { object, block: None, what, harm });
    };
    for id in keys::list(repo.store())? {
        let name = keys::Slot::object_name(id);
        match repo.read_thrice(&name, |bytes| keys::Slot::parse(&name, bytes)) {
            Ok(_) => {}
            Err(error @ (Error::Corrupt { .. } | Error::TooNew { .. })) => {
                let harm = Harm::Hinders("its key does not open the repository any more".into());
                tell(name, reason(&error), harm);
            }
            Err(error) => return Err(error),
        }
    }
    for (dir, kind) in [
        ("op", ObjectKind::Op),
        ("end", ObjectKind::Mark),
        ("kill", ObjectKind::Mark),
        ("dead", ObjectKind::Mark),
        ("forgot", ObjectKind::Snapshot),
    ] {
        for item in repo.store().list(&format!("{dir}/"))? {
            let name = item.name.as_str();
            if name[dir.len() + 1..].len() != 2 * crate::OpId::LEN {
                continue; // an odd name, told already
            }
            let (keys, id) = (repo.keys(), repo.id());
            let opened = repo.read_thrice(name, |bytes| match kind {
                ObjectKind::Op => {
                    object::open_record::<OpRecord>(keys, id, kind, name, bytes).map(drop)
                }
                ObjectKind::Mark => {
                    object::open_record::<Mark>(keys, id, kind, name, bytes).map(drop)
                }
                _ => object::open_record::<Snapshot>(keys, id, kind, name, bytes).map(drop),
            });
            match opened {
                Ok(_) => {}
                Err(error @ (Error::Corrupt { .. } | Error::TooNew { .. })) => {
                    let harm = match kind {
                        ObjectKind::Snapshot => {
                            Harm::Hinders("what was forgotten there cannot be brought back".into())
                        }
                        _ => Harm::Harmless("only that it is there counts".into()),
                    };
                    tell(item.name, reason(&error), harm);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Packs whose trailer does not say what the index says.
fn trailers(repo: &Repository, ground: &Ground, threads: usize) -> Result<Vec<(PackId, String)>> {
    let mut wrong = Vec::new();
    for info in &ground.tables.objects {
        let listed: BTreeSet<PackId> = info
            .packs
            .iter()
            .filter(|pack| ground.packs.get(*pack) == ground.tables.packs.get(*pack))
            .copied()
            .collect();
        let mut tables: BTreeMap<PackId, PackTable> = BTreeMap::new();
        ground.tables.each_table_of(repo, None, &listed, &mut |table| {
            tables.insert(table.pack(), table.clone());
            Ok(())
        })?;
        let tables: Vec<PackTable> = tables.into_values().collect();
        let found = Mutex::new(Vec::new());
        gc::each(threads, &tables, &|table| {
            if let Some(what) = compare(repo, table)? {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((table.pack(), what));
            }
            Ok(())
        })?;
        wrong.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(wrong)
}

/// Reads a pack's trailer and compares it with its table.
fn compare(repo: &Repository, table: &PackTable) -> Result<Option<String>> {
    let mut what = None;
    for _ in 0..READS_MAX {
        let tail = |n: u64| pack_tail(repo, &table.pack(), table.bytes, n);
        what = match pack::read_trailer(repo.keys(), repo.id(), &table.pack(), table.bytes, tail) {
            Ok(found) if found.blocks == table.blocks => return Ok(None),
            Ok(_) => Some("its trailer says something else than the index".to_owned()),
            Err(Error::Missing { .. }) => return Ok(None), // gone meanwhile
            Err(error @ Error::Corrupt { .. }) => Some(reason(&error)),
            Err(error) => return Err(error),
        };
        repo.store().renew_connections();
    }
    Ok(what)
}

/// The last bytes of a pack.
pub(crate) fn pack_tail(
    repo: &Repository,
    pack: &PackId,
    bytes: u64,
    n: u64,
) -> Result<bytes::Bytes> {
    let name = pack.object_name();
    match repo.store().get_range(&name, bytes.saturating_sub(n)..bytes) {
        Err(store::Error::NotFound { name }) => Err(Error::Missing { object: name }),
        Err(store::Error::Short { name, .. }) => Err(Error::corrupt(name, "cut short")),
        other => Ok(other?),
    }
}
