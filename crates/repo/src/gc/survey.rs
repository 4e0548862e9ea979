//! What a collector finds before it decides, in the order that makes the decision safe.
//!
//! ```text
//! G1  LIST everything                      packs: candidates; also: names of unknown form
//!     LIST gc/                             snapshots that others saw, for the next step
//! G2  LIST op/, snap/, end/, dead/, forgot/, pin/   which owners have ended
//! G3  walk the trees of those snapshots    what lives
//! G4  LIST gc/                             what is condemned already
//! ```
//! A pack that is listed at G1 and whose owner has ended by G2 has its snapshot, if there is one, in
//! the listing that G3 walks. Nothing is written here.

use std::collections::{BTreeMap, HashMap};

use super::GcOptions;
use super::choose::PackUse;
use super::index::Tables;
use super::lists::{Lists, Wanted};
use super::live::Live;
use super::operations::Operations;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::id::{BlockId, OpId, PackId};
use crate::index::Location;
use crate::repository::Repository;

/// Directories of the store that this program knows; a collection stops where there is another.
pub const PREFIXES: [&str; 14] = [
    "keys", "op", "packs", "index", "snap", "end", "kill", "dead", "forgot", "gc", "pin", "tag",
    "verify", "config",
];

/// What was found.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) packs: HashMap<PackId, u64>,
    pub(crate) operations: Operations,
    pub(crate) snapshots: Vec<OpId>,
    pub(crate) live: Live,
    pub(crate) lists: Lists,
    pub(crate) tables: Tables,
    /// Operations that were ended because they gave no sign any more.
    pub(crate) ended: Vec<OpId>,
}

impl Survey {
    /// `None`: somebody saw a snapshot that the listing did not show, so it was made since, or the
    /// listing was not whole. To be done again.
    pub(crate) fn make(
        repo: &Repository,
        cache: Option<&Cache>,
        options: &GcOptions,
        own: Option<&OpId>,
    ) -> Result<Option<Self>> {
        let packs = everything(repo)?;
        // what others saw is read before the snapshots are listed: all of it must then be there
        let seen = Lists::read(repo, cache, Wanted::All)?;
        let mut operations = Operations::list(repo)?;
        refuse_vanished(&seen, &operations, options)?;
        let ended = match own {
            Some(own) => operations.end_stale(repo, own, options.stale_after)?,
            None => Vec::new(),
        };
        let snapshots = operations.valid_snapshots();
        let mut tables = Tables::read(repo, cache)?;
        let reader = Reader::new(repo, cache, std::mem::take(&mut tables.index));
        let mut live = Live::default();
        walk(repo, cache, &reader, &snapshots, &mut live)?;
        tables.index = reader.into_index();
        let lists = Lists::read(repo, cache, Wanted::All)?;
        if !options.accept_vanished && unknown(&lists, &operations).next().is_some() {
            return Ok(None);
        }
        Ok(Some(Self { packs, operations, snapshots, live, lists, tables, ended }))
    }

    /// Is this place in a pack that is there, whole as far as a listing tells?
    pub(crate) fn is_there(&self, at: &Location) -> bool {
        is_there(&self.packs, at)
    }

    /// Live blocks that no table places in a pack that is there. The packs were listed before the
    /// snapshots: those of a push that committed in between are listed now.
    pub(crate) fn homeless(
        &self,
        repo: &Repository,
        cache: Option<&Cache>,
    ) -> Result<Vec<BlockId>> {
        let has_place = |id: &&BlockId| self.tables.index.places(id).any(|at| self.is_there(at));
        let mut left: Vec<BlockId> =
            self.live.iter().filter(|id| !has_place(id)).copied().collect();
        if !left.is_empty() {
            let tables = Tables::read(repo, cache)?;
            let packs = repo.packs_listed()?;
            left.retain(|id| !tables.index.places(id).any(|at| is_there(&packs, at)));
        }
        Ok(left)
    }

    /// What each pack that is there is good for. A live block counts in one pack only: one that
    /// stays in any case, or else the one with the most that lives.
    pub(crate) fn uses(&self) -> Vec<PackUse> {
        let unusable = self.lists.unusable_packs();
        let condemned = self.lists.condemned_packs();
        let mut uses: BTreeMap<PackId, PackUse> = BTreeMap::new();
        for (pack, bytes) in &self.packs {
            let is_candidate = !condemned.contains(pack) && self.operations.has_ended(&pack.op);
            let is_movable = !unusable.contains(pack);
            let (pack, bytes) = (*pack, *bytes);
            let pack_use =
                PackUse { pack, bytes, live_bytes: 0, dead_bytes: 0, is_candidate, is_movable };
            uses.insert(pack, pack_use);
        }
        let mut doubles = HashMap::<BlockId, Vec<(PackId, u64)>>::new();
        self.tables.index.each_place(|at| {
            if !self.is_there(at) || condemned.contains(&at.pack) {
                return;
            }
            let bytes = u64::from(at.row.stored_len);
            let pack = uses.get_mut(&at.pack).expect("it is there");
            if self.live.contains(&at.row.id) {
                pack.live_bytes += bytes;
                if self.tables.index.places(&at.row.id).nth(1).is_some() {
                    doubles.entry(at.row.id).or_default().push((at.pack, bytes));
                }
            } else {
                pack.dead_bytes += bytes;
            }
        });
        let mut doubles: Vec<_> = doubles.into_iter().collect();
        doubles.sort_unstable();
        for (_, mut places) in doubles {
            // one that others must not rely on is no reason to give up a good one
            places.sort_by_key(|(pack, _)| {
                let pack = &uses[pack];
                (!pack.is_movable, pack.is_candidate, u64::MAX - pack.live_bytes, pack.pack)
            });
            let best = places.first().map(|(pack, _)| *pack);
            for (pack, bytes) in places.into_iter().skip(1) {
                if Some(pack) != best {
                    let pack = uses.get_mut(&pack).expect("it is there");
                    pack.live_bytes -= bytes;
                    pack.dead_bytes += bytes;
                }
            }
        }
        uses.into_values().collect()
    }

    /// Sealed bytes of all blocks, each once, and of those that do not live and lie in `packs`.
    pub(crate) fn content_lost(&self, packs: &[PackId]) -> (u64, u64) {
        let going: std::collections::HashSet<&PackId> = packs.iter().collect();
        let (mut all, mut lost) = (0, 0);
        for at in self.tables.index.blocks() {
            let bytes = u64::from(at.row.stored_len);
            all += bytes;
            let goes = self.tables.index.places(&at.row.id).all(|at| going.contains(&at.pack));
            if goes && !self.live.contains(&at.row.id) {
                lost += bytes;
            }
        }
        // what no table describes may be anything
        for (pack, bytes) in &self.packs {
            if !self.tables.packs.contains_key(pack) {
                all += bytes;
                lost += if going.contains(pack) { *bytes } else { 0 };
            }
        }
        (all, lost)
    }
}

/// Snapshots that a collector saw do not vanish without a forget record. `lists` was read before
/// `operations`.
pub(super) fn refuse_vanished(
    lists: &Lists,
    operations: &Operations,
    options: &GcOptions,
) -> Result<()> {
    let gone: Vec<&OpId> = unknown(lists, operations).collect();
    match gone.first() {
        Some(first) if !options.accept_vanished => Err(Error::Refused {
            reason: format!(
                "{} that the last collection saw, {first} among them, are gone and nobody forgot \
                 them: the storage may have been rolled back, or its listing is not whole",
                count(gone.len(), "snapshot")
            ),
        }),
        _ => Ok(()),
    }
}

/// Snapshots that a collector saw and of which there is no trace.
fn unknown<'l>(lists: &'l Lists, operations: &Operations) -> impl Iterator<Item = &'l OpId> {
    let known = |id: &&OpId| {
        operations.snapshots.contains(id)
            || operations.forgotten.contains_key(id)
            || operations.dead.contains(id)
    };
    lists.seen.values().flat_map(|list| &list.snapshots).filter(move |id| !known(id))
}

/// "1 snapshot", "2 snapshots".
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub(crate) fn is_there(packs: &HashMap<PackId, u64>, at: &Location) -> bool {
    packs.get(&at.pack).is_some_and(|bytes| at.range().end <= *bytes)
}

/// Adds what these snapshots reach. One that is gone since it was listed was forgotten.
pub(crate) fn walk(
    repo: &Repository,
    cache: Option<&Cache>,
    reader: &Reader<'_>,
    snapshots: &[OpId],
    live: &mut Live,
) -> Result<()> {
    let mut trees = Vec::new();
    for id in snapshots {
        match repo.snapshot(cache, id) {
            Ok((snapshot, _)) => trees.push((snapshot.machine, snapshot.counter, snapshot.tree)),
            Err(Error::Missing { .. }) if repo.is_forgotten(id)? => {}
            Err(e) => return Err(e),
        }
    }
    // a machine's snapshots in their order: maps are read once and patched on
    trees.sort_unstable();
    trees.iter().try_for_each(|(_, _, tree)| live.add_tree(reader, tree))
}

/// Lists all there is: the packs; a name that this program does not know is refused.
fn everything(repo: &Repository) -> Result<HashMap<PackId, u64>> {
    let mut packs = HashMap::new();
    for item in repo.store().list("")? {
        let dir = item.name.split('/').next().unwrap_or_default();
        if !PREFIXES.contains(&dir) {
            let name = item.name.escape_debug();
            let reason = format!("\"{name}\" is nothing that this program knows");
            return Err(Error::Refused { reason });
        }
        if dir == "packs" {
            let pack = PackId::from_object_name(&item.name)
                .ok_or_else(|| Error::corrupt(&item.name, "its name is not that of a pack"))?;
            packs.insert(pack, item.size);
        }
    }
    Ok(packs)
}
