//! From what looked wrong to what is damaged, and whom that touches.
//!
//! In: blocks that came out wrong three times, packs that are not there. Out: findings. Snapshots, tables
//! and packs are looked at again until two looks agree; what no visible snapshot needs then, or what has
//! a good place elsewhere, harms nobody.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::coverage::Coverage;
use super::data::check_again;
use super::ground::Ground;
use super::needs::Needs;
use super::touch::touched;
use super::{Finding, Harm, Level, Report};
use crate::cache::Cache;
use crate::error::Result;
use crate::id::{BlockId, PackId};
use crate::index::Location;
use crate::repository::{READS_MAX, Repository};

/// Looks until two of them agree, at most.
const LOOKS_MAX: usize = 4;

/// What looks wrong so far.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Places of blocks that came out wrong three times.
    pub(super) bad: BTreeMap<(PackId, BlockId), String>,
    /// Packs of which something that is no block is wrong.
    pub(super) frames: BTreeMap<PackId, String>,
    /// Packs that a table names and no listing shows.
    pub(super) gone: BTreeSet<PackId>,
    /// Places that an earlier run found damaged.
    remembered: BTreeSet<(PackId, BlockId)>,
    /// Places that were looked at because others were wrong, and are right.
    fine: HashSet<(PackId, BlockId)>,
}

impl Judge {
    /// What earlier runs found is looked at again.
    pub(super) fn remember(&mut self, coverage: &Coverage) {
        let new = coverage.found.keys().filter(|place| !self.bad.contains_key(place));
        self.remembered = new.copied().collect();
    }

    /// Decides, and fills in the report. Returns the last look.
    pub(super) fn decide(
        mut self,
        repo: &Repository,
        cache: Option<&Cache>,
        mut ground: Ground,
        level: Level,
        report: &mut Report,
    ) -> Result<Ground> {
        let mut needs = Needs::default();
        let mut lost = BTreeMap::new();
        if matches!(level, Level::Metadata | Level::All) {
            needs = super::needs(repo, &mut ground)?;
            report.metadata_read = needs.read;
            lost = self.lost(repo, &ground, &needs)?;
        }
        let calm = self.bad.is_empty()
            && self.remembered.is_empty()
            && self.gone.is_empty()
            && self.frames.is_empty()
            && ground.closed.is_empty()
            && !needs.has_faults;
        if !calm || !lost.is_empty() {
            let (mut before, mut agree) = (BTreeMap::new(), false);
            for _ in 1..LOOKS_MAX {
                repo.store().renew_connections();
                ground = Ground::look(repo, cache.filter(|_| ground.closed.is_empty()))?;
                needs = super::needs(repo, &mut ground)?;
                before = lost;
                lost = self.lost(repo, &ground, &needs)?;
                agree = lost.keys().eq(before.keys());
                if agree {
                    break;
                }
            }
            if !agree {
                // collectors moved something during every look: lost is what two in a row did not find
                lost.retain(|id, _| before.contains_key(id));
            }
        }
        self.tell(&ground, &needs, &lost, report);
        if !lost.is_empty() || needs.has_faults {
            let reader = super::reader(repo, &mut ground);
            report.touched = touched(&reader, &ground.snapshots, &lost)?;
            ground.tables.index = reader.into_index();
            for one in report.touched.iter().filter(|one| one.what.is_some()) {
                let object = format!("the entry {}", one.path.escape_ascii());
                let what = one.what.clone().unwrap_or_default();
                report.findings.push(Finding { object, block: None, what, harm: Harm::Files });
            }
        }
        report.lost = lost;
        report.findings.sort_by(|a, b| (&a.object, a.block).cmp(&(&b.object, b.block)));
        Ok(ground)
    }

    /// Blocks that snapshots need and that cannot be had anywhere.
    fn lost(
        &mut self,
        repo: &Repository,
        ground: &Ground,
        needs: &Needs,
    ) -> Result<BTreeMap<BlockId, String>> {
        let index = &ground.tables.index;
        self.bad.retain(|(pack, _), _| ground.packs.contains_key(pack));
        // every place of what is in doubt is looked at
        let mut doubtful: BTreeSet<BlockId> = needs.unreadable.keys().copied().collect();
        doubtful.extend(self.bad.keys().map(|(_, block)| *block));
        doubtful.extend(self.remembered.iter().map(|(_, block)| *block));
        for id in doubtful {
            for at in ground.places(index, &id) {
                self.look(repo, at)?;
            }
        }
        let mut lost = BTreeMap::new();
        for id in &needs.blocks {
            let mut places = ground.places(index, id).map(|at| (at.pack, *id)).peekable();
            if places.peek().is_none() {
                lost.insert(*id, "no pack that is there holds it".to_owned());
            } else if let Some(what) = needs.unreadable.get(id) {
                lost.insert(*id, what.clone());
            } else if places.all(|place| self.bad.contains_key(&place)) {
                lost.insert(*id, "every copy of it is damaged".to_owned());
            }
        }
        Ok(lost)
    }

    /// Looks at one place, unless that was done.
    fn look(&mut self, repo: &Repository, at: &Location) -> Result<()> {
        let place = (at.pack, at.row.id);
        if self.bad.contains_key(&place) || self.fine.contains(&place) {
            return Ok(());
        }
        match check_again(repo, &at.pack, &at.row, at.range(), READS_MAX)? {
            Some(what) => drop(self.bad.insert(place, what)),
            None => drop(self.fine.insert(place)),
        }
        Ok(())
    }

    /// Makes findings of what is left.
    fn tell(
        &self,
        ground: &Ground,
        needs: &Needs,
        lost: &BTreeMap<BlockId, String>,
        report: &mut Report,
    ) {
        let mut tell = |object: String, block, what: String, harm| {
            report.findings.push(Finding { object, block, what, harm });
        };
        for (name, what) in &ground.closed {
            let hinders =
                "gc stops, and pushes store again what it named: agent-backup repair index";
            let is_snapshot = name.starts_with("snap/");
            let harm = if is_snapshot { Harm::Snapshot } else { Harm::Hinders(hinders.to_owned()) };
            tell(name.clone(), None, what.clone(), harm);
        }
        for ((pack, block), what) in &self.bad {
            let harm = if lost.contains_key(block) {
                Harm::Files
            } else if needs.blocks.contains(block) {
                Harm::Harmless("there is a good copy elsewhere".into())
            } else {
                Harm::Harmless("no snapshot needs it".into())
            };
            tell(pack.object_name(), Some(*block), what.clone(), harm);
        }
        let frames = self.frames.iter().filter(|(pack, _)| ground.packs.contains_key(pack));
        for (pack, what) in frames {
            let harm = Harm::Harmless("its blocks are judged one by one".into());
            tell(pack.object_name(), None, what.clone(), harm);
        }
        // what is lost without being damaged anywhere is named by where it should be
        let mut missing: BTreeMap<String, (usize, &str)> = BTreeMap::new();
        for (id, what) in lost {
            let places: Vec<&Location> = ground.tables.index.places(id).collect();
            if places.iter().any(|at| self.bad.contains_key(&(at.pack, *id))) {
                continue;
            }
            let objects: Vec<String> = match places.as_slice() {
                [] => vec![format!("block {id}")],
                places => places.iter().map(|at| at.pack.object_name()).collect(),
            };
            for object in objects {
                missing.entry(object).or_insert((0, what)).0 += 1;
            }
        }
        let mut named = BTreeSet::new();
        for (object, (blocks, what)) in missing {
            let pack = PackId::from_object_name(&object);
            let what = match pack {
                Some(pack) if !ground.packs.contains_key(&pack) => format!(
                    "it is not there, and {blocks} blocks that snapshots need should be in it"
                ),
                Some(_) => format!("{blocks} blocks that snapshots need cannot be had: {what}"),
                None => what.to_owned(),
            };
            named.extend(pack);
            tell(object, None, what, Harm::Files);
        }
        for pack in self.gone.difference(&named) {
            if ground.tables.packs.contains_key(pack) && !ground.packs.contains_key(pack) {
                let what = "the index names it; it is not there".to_owned();
                let harm = Harm::Harmless("nothing that a snapshot needs is missing".into());
                tell(pack.object_name(), None, what, harm);
            }
        }
        report.bad = self.bad.keys().copied().collect();
    }
}
