//! Garbage collection: what no snapshot needs goes, and nothing else, with any number of pushes and
//! collections at the same time, without locks, clocks or conditional writes.
//!
//! ```text
//! mark    PUT op/<g>; survey (`survey.rs`: G1-G4); choose packs (`choose.rs`)
//!         move what lives out of partly live ones (`mover.rs`)
//!         PUT gc/<g>.d                       condemned, for ever
//!         LIST op/ and marks; PUT gc/<g>.o   who may still rely on them
//! sweep   (`sweep.rs`) a list whose observed operations have ended, by whoever comes by
//! tidy    index objects merged; op/, end/ and old lists removed; PUT end/<g>
//! ```
//! Why it is safe: a pusher writes `op/` and then reads the condemned lists; a collector writes its
//! list and then reads the operations. At least one sees the other. Whoever is seen is waited for,
//! and its snapshot counts when the sweep looks again. `docs/FORMAT.md` section 16 has the order,
//! `tests/model` the proof by exhaustion.

mod choose;
pub(crate) mod index;
pub(crate) mod lists;
pub(crate) mod live;
pub(crate) mod mover;
pub(crate) mod operations;
mod survey;
mod sweep;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use store::Listing;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::{BlockId, MachineId, OpId, PackId};
use crate::operation::{OpKind, Operation};
use crate::repository::Repository;

use choose::Choice;
pub use index::IndexStats;
pub use lists::is_condemning;
use lists::{CondemnedList, ObservedList, SeenList};
pub use mover::Moved;
use mover::Mover;
use operations::Operations;
pub use survey::PREFIXES;
use survey::Survey;
pub(crate) use sweep::each;

/// An operation without a heartbeat for this long is not running any more: its machine would have
/// to sleep a day in the middle of a push, and then it starts over.
pub const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Between condemning and sweeping, where nothing is published about listings.
const FENCE_UNPUBLISHED: Duration = Duration::from_secs(24 * 3600);
/// The same where the storage's documents promise whole listings.
const FENCE_DOCUMENTED: Duration = Duration::from_secs(3600);
/// A collector looks again this often when others move things while it looks.
const LOOKS_MAX: usize = 4;
/// A forget record stays for a week at least, so that no collection that runs meanwhile misses it.
const FORGOTTEN_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How to collect.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Bytes of live blocks that may be moved in this run.
    pub moved_bytes_max: u64,
    /// Least time between condemning and sweeping, by the store's clock.
    pub fence: Duration,
    /// An operation that gave no sign for this long is ended.
    pub stale_after: Duration,
    /// Go on if more than half of the content would go.
    pub accept_large: bool,
    /// Go on although snapshots vanished that nobody forgot.
    pub accept_vanished: bool,
    /// Requests at a time where many objects are removed.
    pub threads: usize,
}

impl GcOptions {
    /// What fits a store whose listings are known so well.
    pub fn for_listing(listing: Listing) -> Self {
        Self {
            moved_bytes_max: u64::MAX,
            fence: match listing {
                Listing::Local => Duration::ZERO,
                Listing::Documented => FENCE_DOCUMENTED,
                Listing::Unpublished => FENCE_UNPUBLISHED,
            },
            stale_after: STALE_AFTER,
            accept_large: false,
            accept_vanished: false,
            threads: 1,
        }
    }
}

/// What a collection would do, or is about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// Snapshots that keep what lives.
    pub snapshots: usize,
    /// Packs there are, and their bytes.
    pub packs: usize,
    /// Bytes of all packs.
    pub bytes: u64,
    /// Packs that hold nothing that lives.
    pub dead_packs: usize,
    /// Packs that are emptied: what lives in them moves.
    pub emptied_packs: usize,
    /// Of those, how many are emptied because they are small.
    pub merged_packs: usize,
    /// Bytes that move.
    pub moved_bytes: u64,
    /// Bytes that are stored less once all of it is swept.
    pub freed_bytes: u64,
    /// Bytes that nobody needs and that stay: to move what lies beside them costs more.
    pub unused_bytes: u64,
    /// Packs of operations that run: nobody judges them yet.
    pub running_packs: usize,
    /// Their bytes.
    pub running_bytes: u64,
    /// Quarantined packs.
    pub quarantined_packs: usize,
    /// Objects of the index.
    pub index_objects: usize,
    /// Sealed bytes of all blocks, each counted once.
    pub content_bytes: u64,
    /// Of those, how many would be nowhere any more.
    pub content_lost_bytes: u64,
    /// Lists of condemned packs that were there before.
    pub pending: Vec<Pending>,
}

impl GcPlan {
    /// Would more than half of the content go? A collection stops then, unless
    /// [`GcOptions::accept_large`] is set.
    pub fn is_large(&self) -> bool {
        self.content_lost_bytes > self.content_bytes / 2
    }
}

/// A list of condemned packs that is not swept yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The collection that wrote it.
    pub list: OpId,
    /// Its packs that are still there.
    pub packs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Operations that have to end first.
    pub waits_for: Vec<OpId>,
    /// Not before this time of the store's clock.
    pub not_before: Option<SystemTime>,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// What it found and decided.
    pub plan: GcPlan,
    /// Live blocks that were moved.
    pub moved: Moved,
    /// Packs that were swept.
    pub swept_packs: usize,
    /// Their bytes.
    pub swept_bytes: u64,
    /// What became of the index.
    pub index: IndexStats,
    /// Operations that were ended because they gave no sign any more.
    pub ended: Vec<OpId>,
    /// Lists that wait.
    pub pending: Vec<Pending>,
}

/// What a collection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcStep {
    /// Reading what snapshots need.
    Mark,
    /// Moving live blocks out of packs that go.
    Move,
    /// Removing packs.
    Sweep,
    /// Removing what is left over.
    Tidy,
}

/// Finds out what a collection would do; writes nothing.
pub fn plan(repo: &Repository, cache: Option<&Cache>, options: &GcOptions) -> Result<GcPlan> {
    let (survey, homeless) = look(repo, cache, options, None)?;
    refuse_homeless(&homeless)?;
    let choice = choose::choose(&survey.uses(), options.moved_bytes_max);
    let now = survey.operations.announced.values().max().copied();
    let pending = |list| sweep::pending(list, &survey, options, now, None);
    let pending = survey.lists.condemned.keys().map(pending).collect();
    Ok(GcPlan { pending, ..plan_of(&survey, &choice) })
}

/// Collects, as the operation `id`, which must be fresh and known to the caller's own state.
pub fn collect(
    repo: &Repository,
    cache: Option<&Cache>,
    id: OpId,
    machine: MachineId,
    options: &GcOptions,
    now_secs: &dyn Fn() -> i64,
    step: &dyn Fn(GcStep),
) -> Result<GcReport> {
    repo.config().writable()?;
    let op = Operation::announce(repo, id, OpKind::Gc, machine, now_secs())?;
    let mut collector = Collector {
        repo,
        cache,
        op: &op,
        options,
        now_secs,
        packs_count: 0,
        seen_before: BTreeSet::new(),
        report: GcReport::default(),
    };
    let done = collector.run(step);
    let report = collector.report;
    // one that stopped is in nobody's way: what it has under way may land later, and harms nobody
    let ended = op.finish_without_snapshot();
    done.and(ended).map(|()| report)
}

/// A collection under way.
struct Collector<'a, 'r> {
    repo: &'r Repository,
    cache: Option<&'a Cache>,
    op: &'a Operation<'r>,
    options: &'a GcOptions,
    now_secs: &'a dyn Fn() -> i64,
    packs_count: u32,
    /// Whose lists of snapshots were there before this one wrote its own.
    seen_before: BTreeSet<OpId>,
    report: GcReport,
}

fn plan_of(survey: &Survey, choice: &Choice) -> GcPlan {
    let condemned = survey.lists.condemned_packs();
    let running = survey
        .packs
        .iter()
        .filter(|(pack, _)| !condemned.contains(pack) && !survey.operations.has_ended(&pack.op));
    let running: Vec<u64> = running.map(|(_, bytes)| *bytes).collect();
    let going: Vec<PackId> = choice.dead.iter().chain(&choice.emptied).copied().collect();
    let (content_bytes, content_lost_bytes) = survey.content_lost(&going);
    GcPlan {
        snapshots: survey.snapshots.len(),
        packs: survey.packs.len(),
        bytes: survey.packs.values().sum(),
        dead_packs: choice.dead.len(),
        emptied_packs: choice.emptied.len(),
        merged_packs: choice.merged_count,
        moved_bytes: choice.moved_bytes,
        freed_bytes: choice.freed_bytes,
        unused_bytes: choice.unused_bytes,
        running_packs: running.len(),
        running_bytes: running.iter().sum(),
        quarantined_packs: survey.lists.quarantined.len(),
        index_objects: survey.tables.objects.len(),
        content_bytes,
        content_lost_bytes,
        pending: Vec::new(),
    }
}

/// Looks until what it sees fits together: another collector may move blocks between two of the
/// listings, or sweep what was forgotten while its tree is walked. Also the live blocks that are
/// nowhere, however often it looks.
fn look(
    repo: &Repository,
    cache: Option<&Cache>,
    options: &GcOptions,
    own: Option<&OpId>,
) -> Result<(Survey, Vec<BlockId>)> {
    for look in 1.. {
        let survey = match Survey::make(repo, cache, options, own) {
            Err(Error::Missing { .. }) | Ok(None) if look < LOOKS_MAX => continue,
            Ok(None) => break,
            Ok(Some(survey)) => survey,
            Err(error) => return Err(error),
        };
        let homeless = survey.homeless(repo, cache)?;
        if homeless.is_empty() || look >= LOOKS_MAX {
            return Ok((survey, homeless));
        }
    }
    let reason = "others change the repository faster than its listings can be read, or those are \
                  not whole; nothing was removed: run it again"
        .to_owned();
    Err(Error::Refused { reason })
}

/// A live block that is nowhere: the index is not whole, or packs were lost. What is nobody's then
/// cannot be told from what is somebody's.
fn refuse_homeless(homeless: &[BlockId]) -> Result<()> {
    let Some(first) = homeless.first() else { return Ok(()) };
    let reason = format!(
        "{} that snapshots need, block {first} among them, lie in no pack that the index names and \
         the storage lists; agent-backup verify says what they are, agent-backup repair what can be \
         done",
        survey::count(homeless.len(), "block")
    );
    Err(Error::Refused { reason })
}

impl<'r> Collector<'_, 'r> {
    fn run(&mut self, step: &dyn Fn(GcStep)) -> Result<()> {
        step(GcStep::Mark);
        let survey = self.mark(step)?;
        step(GcStep::Sweep);
        if !self.sweep(survey)? {
            self.merge_index()?;
        }
        step(GcStep::Tidy);
        self.tidy()
    }

    fn mover(&self) -> Mover<'_, 'r> {
        Mover::new(self.repo, self.cache, self.op, self.packs_count, self.now_secs)
    }

    /// Stops if somebody ended this collection because it gave no sign: then others go on with what
    /// it began, and nothing more may be removed in its name.
    fn stop_if_killed(&self) -> Result<()> {
        if self.op.is_killed()? {
            let reason = "another client ended this collection, which had given no sign for long; \
                          the next one goes on where it stopped"
                .to_owned();
            return Err(Error::Refused { reason });
        }
        Ok(())
    }

    /// Mark: decides which packs go, moves what lives in them, publishes the list, and who ran then.
    fn mark(&mut self, step: &dyn Fn(GcStep)) -> Result<Survey> {
        let own = self.op.id();
        let (survey, homeless) = look(self.repo, self.cache, self.options, Some(&own))?;
        refuse_homeless(&homeless)?;
        self.condemn(survey, step)
    }

    fn condemn(&mut self, survey: Survey, step: &dyn Fn(GcStep)) -> Result<Survey> {
        let own = self.op.id();
        self.report.ended.extend(&survey.ended);
        let choice = choose::choose(&survey.uses(), self.options.moved_bytes_max);
        self.report.plan = plan_of(&survey, &choice);
        let packs: Vec<PackId> = choice.dead.iter().chain(&choice.emptied).copied().collect();
        if self.report.plan.is_large() && !self.options.accept_large {
            let (all, lost) = (self.report.plan.content_bytes, self.report.plan.content_lost_bytes);
            let reason = format!(
                "more than half of what is stored would go ({lost} of {all} bytes): if that is what \
                 you want, say so with gc --more-than-half"
            );
            return Err(Error::Refused { reason });
        }
        if !packs.is_empty() {
            let packs = self.empty(&survey, &choice, packs, step)?;
            let packs = packs.iter().map(|pack| (pack.op, pack.n)).collect();
            lists::put(self.repo, &format!("gc/{own}.d"), &CondemnedList { packs })?;
        }
        let mut covered: Vec<OpId> = survey
            .lists
            .condemned
            .keys()
            .filter(|list| survey.lists.observation_of(list).is_none())
            .copied()
            .collect();
        if self.report.plan.dead_packs + self.report.plan.emptied_packs > 0 {
            covered.push(own);
        }
        if !covered.is_empty() {
            let running = Operations::list(self.repo)?;
            if !running.announced.contains_key(&own) {
                self.stop_if_killed()?;
                let reason = "the storage does not list what was written a moment ago: who else \
                              runs cannot be told"
                    .to_owned();
                return Err(Error::Refused { reason });
            }
            let operations = running.running().filter(|id| **id != own).copied().collect();
            let observed = ObservedList { operations, lists: covered };
            lists::put(self.repo, &format!("gc/{own}.o"), &observed)?;
        }
        self.seen_before = survey.lists.seen.keys().copied().collect();
        let seen = SeenList { snapshots: survey.snapshots.clone() };
        lists::put(self.repo, &format!("gc/{own}.s"), &seen)?;
        Ok(survey)
    }

    /// Moves what lives in packs that are to be emptied. Pushers that come later find it at its new
    /// place; what they rely on meanwhile is moved by the sweep. A pack of which a block could not be
    /// moved is not condemned. Returns the packs that may be.
    fn empty(
        &mut self,
        survey: &Survey,
        choice: &Choice,
        packs: Vec<PackId>,
        step: &dyn Fn(GcStep),
    ) -> Result<Vec<PackId>> {
        if choice.emptied.is_empty() {
            return Ok(packs);
        }
        step(GcStep::Move);
        let going = packs.iter().copied().collect();
        let unusable = survey.lists.unusable_packs();
        let emptied = choice.emptied.iter().copied().collect();
        let stays = |id: &BlockId| {
            let usable = |at: &&crate::index::Location| {
                survey.is_there(at)
                    && !unusable.contains(&at.pack)
                    && !BTreeSet::contains(&going, &at.pack)
            };
            survey.tables.index.places(id).any(|at| usable(&at))
        };
        let wanted = |id: &BlockId| survey.live.contains(id) && !stays(id);
        let mut mover = self.mover();
        let mut damaged = Vec::new();
        survey.tables.each_table_of(self.repo, self.cache, &emptied, &mut |table| {
            mover.take(table, &wanted)?;
            if table.blocks.iter().any(|row| wanted(&row.id) && !mover.has(&row.id)) {
                damaged.push(table.pack());
            }
            Ok(())
        })?;
        let (moved, next) = mover.finish()?;
        self.packs_count = next;
        self.report.moved.add(&moved);
        for pack in &damaged {
            tracing::warn!("{pack} has blocks that do not come out right: it is left; run verify");
        }
        Ok(packs.into_iter().filter(|pack| !damaged.contains(pack)).collect())
    }
}
