//! Sweep: condemned packs go, once nobody can rely on them any more.
//!
//! ```text
//! S1  LIST gc/, then op/, snap/, marks: every operation that `.o` names has ended; the fence has passed
//! S2  snap/ less dead/ and forgot/, walk what is new  what lives, now fixed for this list
//! S3  LIST gc/                                        C: condemned by any collector
//! S4  LIST index/, packs/                             where blocks are
//! S5  a live block that is nowhere: stop
//! S6  live blocks that are in C alone are moved; PUT packs, PUT index; GET kill/<own>
//! S7  PUT index objects without them, nor what is nowhere; GET kill/<own>; DELETE the old ones
//! S8  DELETE the packs
//! S9  DELETE .o, then .d: last, so that no pusher relies on a pack of it before it is gone
//! ```
//! Another collector may do the same at the same time: what both do is done twice, and harmless.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::index::{self, Tables};
use super::lists::{Lists, Wanted};
use super::live::Live;
use super::operations::Operations;
use super::survey::{self, Survey, is_there};
use super::{Collector, FORGOTTEN_KEPT, GcOptions, LOOKS_MAX, Pending};
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::id::{BlockId, OpId, PackId};
use crate::index::Location;
use crate::repository::Repository;

/// What a list waits for.
pub(super) fn pending(
    list: &OpId,
    survey: &Survey,
    options: &GcOptions,
    now: Option<SystemTime>,
    own: Option<&OpId>,
) -> Pending {
    let condemned = &survey.lists.condemned[list];
    let there = condemned.packs.iter().filter_map(|pack| survey.packs.get(pack));
    let (packs, bytes) = there.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes));
    let observed = survey.lists.observation_of(list);
    let runs = |id: &&OpId| !survey.operations.has_ended(id) && Some(*id) != own;
    let waits_for = match observed {
        Some(observed) => observed.operations.iter().filter(runs).copied().collect(),
        None => survey.operations.running().filter(runs).copied().collect(),
    };
    let not_before = Some(condemned.modified + options.fence)
        .filter(|at| !options.fence.is_zero() && now.is_some_and(|now| now < *at));
    Pending { list: *list, packs, bytes, waits_for, not_before }
}

/// How one look ended.
enum Look {
    Swept,
    NothingIsDue,
    /// Somebody moved what was looked for.
    Again(Error),
}

/// What an earlier look found may have been forgotten and swept since: all is walked anew.
fn look_again(survey: &mut Survey, error: Error) -> Look {
    survey.live = Live::default();
    survey.snapshots.clear();
    Look::Again(error)
}

impl Collector<'_, '_> {
    /// Sweeps every list that is due; true if there was one.
    pub(super) fn sweep(&mut self, mut survey: Survey) -> Result<bool> {
        let mut looks = 0;
        loop {
            looks += 1;
            match self.look(&mut survey)? {
                Look::Swept => return Ok(true),
                Look::NothingIsDue => return Ok(false),
                Look::Again(error) if looks >= LOOKS_MAX => return Err(error),
                Look::Again(_) => {}
            }
        }
    }

    fn look(&mut self, survey: &mut Survey) -> Result<Look> {
        let own = self.op.id();
        // S1
        // the lists first: an operation that one of them names began before this looks for it
        survey.lists = Lists::read(self.repo, self.cache, Wanted::All)?;
        survey.operations = Operations::list(self.repo)?;
        let ended = survey.operations.end_stale(self.repo, &own, self.options.stale_after)?;
        self.report.ended.extend(ended);
        survey::refuse_vanished(&survey.lists, &survey.operations, self.options)?;
        let now = survey.operations.announced.get(&own).copied();
        let pending: Vec<Pending> = survey
            .lists
            .condemned
            .keys()
            .map(|list| pending(list, survey, self.options, now, Some(&own)))
            .collect();
        let is_due = |one: &Pending| {
            let observed = survey.lists.observation_of(&one.list).is_some();
            observed && now.is_some() && one.waits_for.is_empty() && one.not_before.is_none()
        };
        let (due, waiting): (Vec<Pending>, Vec<Pending>) = pending.into_iter().partition(is_due);
        self.report.pending = waiting;
        if due.is_empty() {
            return Ok(Look::NothingIsDue);
        }
        let due: BTreeSet<OpId> = due.into_iter().map(|one| one.list).collect();
        // S2: what lived when this run marked stays alive for it; that keeps more, never less
        let snapshots = survey.operations.valid_snapshots();
        let walked: HashSet<OpId> = survey.snapshots.iter().copied().collect();
        let fresh: Vec<OpId> =
            snapshots.iter().filter(|id| !walked.contains(id)).copied().collect();
        if !fresh.is_empty() {
            let reader = Reader::open(self.repo, self.cache)?;
            match survey::walk(self.repo, self.cache, &reader, &fresh, &mut survey.live) {
                Err(error @ Error::Missing { .. }) => return Ok(look_again(survey, error)),
                other => other?,
            }
        }
        survey.snapshots.extend(fresh);
        // S3, S4
        let lists = Lists::read(self.repo, self.cache, Wanted::All)?;
        let tables = Tables::read(self.repo, self.cache)?;
        let packs = self.repo.packs_listed()?;
        let swept: BTreeSet<PackId> = lists
            .condemned
            .iter()
            .filter(|(list, _)| due.contains(list))
            .flat_map(|(_, list)| &list.packs)
            .copied()
            .collect();
        // S5, S6
        if let Err(error) = self.rescue(survey, &lists, &tables, &packs, &swept) {
            return match error {
                Error::Missing { .. } => Ok(look_again(survey, error)),
                other => Err(other),
            };
        }
        // S7
        let gone = self.gone(&tables, &packs)?;
        let stays = |pack: &PackId| !swept.contains(pack) && !gone.contains(pack);
        self.rewrite_index(&tables, &stays)?;
        // S8
        let names = |pack: &&PackId| packs.contains_key(*pack);
        let going: Vec<String> = swept.iter().filter(names).map(PackId::object_name).collect();
        delete_all(self.repo, self.options.threads, &going)?;
        self.report.swept_packs += going.len();
        self.report.swept_bytes += swept.iter().filter_map(|pack| packs.get(pack)).sum::<u64>();
        // S9
        let open = |list: &OpId| lists.condemned.contains_key(list) && !due.contains(list);
        for (id, observed) in &lists.observed {
            if !observed.lists.iter().any(open) {
                self.repo.store().delete(&format!("gc/{id}.o"))?;
            }
        }
        for pack in swept.iter().filter(|pack| lists.quarantined.contains_key(pack)) {
            self.repo.store().delete(&super::lists::quarantine_name(pack))?;
        }
        for list in due {
            self.repo.store().delete(&format!("gc/{list}.d"))?;
        }
        Ok(Look::Swept)
    }

    /// Gives every live block of the packs that go a place outside all condemned packs.
    fn rescue(
        &mut self,
        survey: &Survey,
        lists: &Lists,
        tables: &Tables,
        packs: &HashMap<PackId, u64>,
        swept: &BTreeSet<PackId>,
    ) -> Result<()> {
        let unusable = lists.unusable_packs();
        let (mut needed, mut homeless) = (HashSet::new(), Vec::new());
        for id in survey.live.iter() {
            let places = || tables.index.places(id).filter(|at| is_there(packs, at));
            if places().next().is_none() {
                homeless.push(*id);
            }
            let is_good = |at: &Location| !unusable.contains(&at.pack);
            if places().any(|at| swept.contains(&at.pack)) && !places().any(is_good) {
                needed.insert(*id);
            }
        }
        if let Some(first) = homeless.first() {
            let what = survey::count(homeless.len(), "block");
            return Err(Error::Missing {
                object: format!("{what} that snapshots need, block {first} among them:"),
            });
        }
        if needed.is_empty() {
            return Ok(());
        }
        let mut mover = self.mover();
        let wanted = |id: &BlockId| needed.contains(id);
        let others: BTreeSet<PackId> = unusable.difference(swept).copied().collect();
        for from in [swept, &others] {
            tables.each_table_of(self.repo, self.cache, from, &mut |table| {
                mover.take(table, &wanted)
            })?;
        }
        let left: Vec<&BlockId> = needed.iter().filter(|id| !mover.has(id)).collect();
        let lost = left.first().map(|id| Error::Missing {
            object: format!("block {id}, which a snapshot needs and a condemned pack should hold,"),
        });
        let (moved, next) = mover.finish()?;
        self.packs_count = next;
        self.report.moved.add(&moved);
        self.stop_if_killed()?;
        lost.map_or(Ok(()), Err)
    }

    /// Writes index objects anew where that is due, then deletes the old ones.
    fn rewrite_index(&mut self, tables: &Tables, stays: &dyn Fn(&PackId) -> bool) -> Result<()> {
        let old = index::to_rewrite(&tables.objects, stays);
        if old.is_empty() {
            return self.stop_if_killed();
        }
        let (names, bytes) = index::rewrite(self.repo, self.cache, self.op, &old, stays)?;
        self.stop_if_killed()?;
        delete_all(self.repo, self.options.threads, &names)?;
        self.report.index.objects_removed += names.len();
        self.report.index.bytes_stored += bytes;
        Ok(())
    }

    /// Merges small index objects where no sweep did.
    pub(super) fn merge_index(&mut self) -> Result<()> {
        let tables = Tables::read(self.repo, self.cache)?;
        let packs = self.repo.packs_listed()?;
        let gone = self.gone(&tables, &packs)?;
        self.rewrite_index(&tables, &|pack| !gone.contains(pack))
    }

    /// Packs of which there are tables and nothing else. Each that was not listed is asked for by
    /// its name: a listing that is not whole must not empty the index.
    fn gone(&self, tables: &Tables, packs: &HashMap<PackId, u64>) -> Result<BTreeSet<PackId>> {
        let mut gone = BTreeSet::new();
        let unlisted = tables.packs.keys().filter(|pack| !packs.contains_key(*pack));
        for pack in unlisted.copied().collect::<BTreeSet<_>>() {
            match self.repo.store().get_range(&pack.object_name(), 0..1) {
                Err(store::Error::NotFound { .. }) => drop(gone.insert(pack)),
                other => drop(other?),
            }
        }
        Ok(gone)
    }

    /// Removes what ended operations and earlier collections left.
    pub(super) fn tidy(&mut self) -> Result<()> {
        let own = self.op.id();
        let operations = Operations::list(self.repo)?;
        let lists = Lists::read(self.repo, self.cache, Wanted::All)?;
        let threads = self.options.threads;
        let ended = |id: &&OpId| **id != own && operations.has_ended(id);
        let name = |dir: &'static str| move |id: &OpId| format!("{dir}/{id}");
        let announced: Vec<String> =
            operations.announced.keys().filter(ended).map(name("op")).collect();
        delete_all(self.repo, threads, &announced)?;
        // one that ended since `op/` was listed still needs its mark
        let there: HashSet<OpId> = self.repo.ids_under("op/")?.into_iter().collect();
        let finished = operations.finished.iter().filter(|id| !there.contains(id));
        let finished: Vec<String> = finished.map(name("end")).collect();
        delete_all(self.repo, threads, &finished)?;
        let goes = |id: &&OpId| operations.snapshots.contains(id) && operations.is_forgotten(id);
        let forgotten = operations.forgotten.keys().filter(goes);
        let forgotten: Vec<String> = forgotten.map(name("snap")).collect();
        delete_all(self.repo, threads, &forgotten)?;
        let mut old: Vec<String> = Vec::new();
        // only those it read before it wrote its own: of two collectors at once, neither takes the
        // other's, and there is always one that knows what was there
        let seen = lists.seen.keys().filter(|id| self.seen_before.contains(id));
        old.extend(seen.map(|id| format!("gc/{id}.s")));
        let orphan = |list: &&OpId| !lists.condemned.contains_key(list);
        for (id, observed) in &lists.observed {
            if observed.lists.iter().all(|list| orphan(&list)) {
                old.push(format!("gc/{id}.o"));
            }
        }
        delete_all(self.repo, threads, &old)?;
        self.tidy_forgotten(&operations, &lists)
    }

    /// A forget record goes when no pack of its id is left, no collector saw its snapshot lately, and
    /// it is not its machine's newest: by that one the machine sees that nothing was rolled back.
    fn tidy_forgotten(&self, operations: &Operations, lists: &Lists) -> Result<()> {
        let Some(now) = operations.announced.get(&self.op.id()).copied() else { return Ok(()) };
        let is_old = |at: &SystemTime| now.duration_since(*at).unwrap_or_default() > FORGOTTEN_KEPT;
        if !operations.forgotten.values().any(is_old) {
            return Ok(());
        }
        let owners: HashSet<OpId> = self.repo.packs_listed()?.keys().map(|pack| pack.op).collect();
        let seen: HashSet<&OpId> = lists.seen.values().flat_map(|list| &list.snapshots).collect();
        let records = Mutex::new(Vec::new());
        let ids: Vec<OpId> = operations.forgotten.keys().copied().collect();
        each(self.options.threads, &ids, &|id| {
            let snapshot = match self.repo.forgotten(id) {
                Err(Error::Missing { .. }) => return Ok(()),
                other => other?,
            };
            let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
            records.push((snapshot.machine, snapshot.counter, *id));
            Ok(())
        })?;
        let mut records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
        records.sort_unstable();
        let newest: HashMap<_, _> =
            records.iter().map(|(machine, _, id)| (*machine, *id)).collect();
        let goes = |id: &OpId| {
            is_old(&operations.forgotten[id])
                && !owners.contains(id)
                && !seen.contains(id)
                && !operations.snapshots.contains(id)
        };
        let names: Vec<String> = records
            .iter()
            .filter(|(machine, _, id)| newest[machine] != *id && goes(id))
            .map(|(_, _, id)| crate::forget::record_name(id))
            .collect();
        delete_all(self.repo, self.options.threads, &names)
    }
}

/// Deletes objects; the first error ends it.
fn delete_all(repo: &Repository, threads: usize, names: &[String]) -> Result<()> {
    each(threads, names, &|name| Ok(repo.store().delete(name)?))
}

/// Does something for each, several at a time; the first error ends it.
pub(crate) fn each<T: Sync>(
    threads: usize,
    items: &[T],
    act: &(dyn Fn(&T) -> Result<()> + Sync),
) -> Result<()> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().try_for_each(act);
    }
    let (next, error) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(e) = act(item) {
                next.store(items.len(), Ordering::Relaxed);
                error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(work);
        }
    });
    error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
