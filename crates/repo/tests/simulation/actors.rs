//! Who acts in a run: pushers, collectors, one who forgets, one who brings back, one who reads; and, in
//! some runs, those who look after it all: two who verify and one who repairs.
//!
//! An actor is a loop over lives. A life ends with its work, with an error of the store, or with a
//! crash; what it had in memory is gone then, and the next one begins with what the machine's state
//! directory would hold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use repo::gc::{self, GcOptions};
use repo::repair::{self, HealOptions};
use repo::undelete::undelete;
use repo::verify::{Level, VerifyOptions, verify};
use repo::{Commit, Error, MachineId, OpId, Repository, end_stale};
use store::Listing;

use crate::oracle::restore;
use crate::pusher::Pusher;
use crate::store::SimStore;
use crate::world::{Lie, Sim};

/// What an actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Push,
    Collect,
    Forget,
    Undelete,
    Read,
    Verify,
    Repair,
}

/// Seeds from here on have [`CARERS`] in their runs too. Those below are runs of [`ROLES`] alone, as they
/// always were.
pub(crate) const CARED: u64 = 1 << 32;
/// Those who look after the repository.
const CARERS: [Role; 3] = [Role::Verify, Role::Verify, Role::Repair];
/// Everybody else, by number.
const ROLES: [Role; 8] = [
    Role::Push,
    Role::Push,
    Role::Push,
    Role::Collect,
    Role::Collect,
    Role::Forget,
    Role::Undelete,
    Role::Read,
];

/// Who acts in the run of a seed, by number.
pub(crate) fn cast(seed: u64) -> Vec<Role> {
    let carers: &[Role] = if seed >= CARED { &CARERS } else { &[] };
    ROLES.iter().chain(carers).copied().collect()
}

/// One actor and the repository as it sees it.
pub(crate) struct Actor {
    pub(crate) sim: Arc<Sim>,
    pub(crate) me: usize,
    pub(crate) repo: Repository,
}

impl Actor {
    pub(crate) fn new(sim: &Arc<Sim>, me: usize) -> Self {
        let store = SimStore { sim: Arc::clone(sim), me };
        Self { sim: Arc::clone(sim), me, repo: crate::open(Arc::new(store)) }
    }

    pub(crate) fn machine(&self) -> MachineId {
        MachineId([u8::try_from(self.me).expect("few actors"); 16])
    }

    pub(crate) fn now_secs(&self) -> i64 {
        self.sim.now_secs(self.me)
    }

    pub(crate) fn fresh_id(&self) -> OpId {
        OpId(self.sim.lock().rng.bytes16())
    }

    pub(crate) fn chance(&self, n: u64, of: u64) -> bool {
        self.sim.lock().rng.chance(n, of)
    }

    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        self.sim.lock().rng.between(from, to)
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        self.sim.lock().trace.note(self.me, text);
    }

    /// Work that makes no call: reading files, waiting for a user.
    pub(crate) fn maybe_pause(&self) {
        if self.chance(1, 5) {
            let steps = self.between(5, 120);
            self.sim.pause(self.me, steps);
        }
    }

    /// A crash outside of any call; true if there was one.
    pub(crate) fn maybe_crash(&self) -> bool {
        let crashes = self.chance(1, 15);
        if crashes {
            self.note(|| "crash".to_owned());
            self.sim.crash(self.me);
        }
        crashes
    }

    pub(crate) fn acknowledged(&self, id: OpId) {
        self.note(|| format!("acknowledged {id}"));
        self.sim.lock().truth.acknowledge(id);
    }

    fn is_over(&self) -> bool {
        self.sim.lock().over()
    }

    fn violation(&self, what: &str) {
        self.sim.lock().fail(format!("actor {}: {what}", self.me));
    }

    fn pick(&self, ids: &[OpId]) -> Option<OpId> {
        (!ids.is_empty()).then(|| *self.sim.lock().rng.pick(ids))
    }

    /// All lives of an actor.
    pub(crate) fn run(&self, role: Role) {
        self.sim.begin(self.me);
        let (lives, rest) = match role {
            Role::Push => (7, 60),
            Role::Collect => (8, 60),
            Role::Forget => (36, 30),
            Role::Undelete | Role::Read => (4, 250),
            Role::Verify | Role::Repair => (6, 150),
        };
        let (mut pusher, mut unfinished) = (Pusher::default(), None);
        for _ in 0..lives {
            let steps = self.between(0, rest);
            self.sim.pause(self.me, steps);
            if self.is_over() {
                break;
            }
            let done = match role {
                Role::Push => {
                    pusher.evolve(self);
                    pusher.push(self)
                }
                Role::Collect => self.collect(&mut unfinished),
                Role::Forget => self.forget(),
                Role::Undelete => self.undelete(&mut unfinished),
                Role::Read => self.read(),
                Role::Verify => self.verify(),
                Role::Repair => self.repair(&mut unfinished),
            };
            if let Err(error) = done {
                self.note(|| format!("failed: {error}"));
                self.judge(role, &error);
            }
            self.sim.restart(self.me);
        }
    }

    /// Errors of the store are no news. Nothing is damaged in this world, so nobody may say so.
    fn judge(&self, role: Role, error: &Error) {
        match error {
            Error::Store(_) => {}
            Error::Refused { reason } if role == Role::Collect => {
                let word = |word: &&str| !word.chars().any(|c| c.is_ascii_digit());
                let words: Vec<&str> = reason.split(' ').filter(word).take(8).collect();
                let kind = words.join(" ");
                *self.sim.lock().truth.refused.entry(kind).or_default() += 1;
            }
            Error::Missing { .. } if !self.sim.hidden(self.me).is_empty() => {} // it was lied to
            other => self.violation(&format!("{role:?} says: {other}")),
        }
    }

    fn collect(&self, unfinished: &mut Option<OpId>) -> repo::Result<()> {
        if let Some(old) = *unfinished {
            end_stale(&self.repo, &old)?;
            *unfinished = None;
        }
        let id = self.fresh_id();
        *unfinished = Some(id);
        let options = {
            let mut world = self.sim.lock();
            GcOptions {
                moved_bytes_max: *world.rng.pick(&[u64::MAX, u64::MAX, 2_000, 0]),
                fence: Duration::from_secs(*world.rng.pick(&[0, 0, 3600])),
                accept_large: true,
                ..GcOptions::for_listing(Listing::Local)
            }
        };
        let lies = self.sim.lock().profile.lies;
        if lies && self.chance(1, 8) {
            let lie = if self.chance(2, 3) { Lie::Snapshots } else { Lie::Everything };
            self.sim.lie(self.me, lie);
        }
        self.note(|| format!("collect {id}, fence {:?}", options.fence));
        let now = || self.now_secs();
        let done = gc::collect(&self.repo, None, id, self.machine(), &options, &now, &|_| {});
        let hidden = self.sim.hidden(self.me);
        let mut world = self.sim.lock();
        world.truth.lies += usize::from(!hidden.is_empty());
        let report = done?;
        let is_kept = |name: &&String| {
            let id = name.strip_prefix("snap/").and_then(OpId::from_hex);
            // one that was looked for by its name, because its operation seemed to run, was found
            id.is_some_and(|id| world.truth.is_kept(&id) && !report.ended.contains(&id))
        };
        if let Some(name) = hidden.iter().find(is_kept) {
            let what = format!("a collection went on although {name} was not listed");
            world.fail(what);
        }
        world.truth.collected += 1;
        world.truth.swept += report.swept_packs;
        world.truth.moved += report.moved.blocks;
        world.truth.emptied += report.plan.emptied_packs;
        drop(world);
        if !self.maybe_crash() {
            *unfinished = None;
        }
        Ok(())
    }

    fn forget(&self) -> repo::Result<()> {
        let ids = {
            let world = self.sim.lock();
            let mut ids = world.truth.kept();
            if ids.len() < 2 {
                ids = world.truth.forgotten();
            }
            ids
        };
        let Some(id) = self.pick(&ids) else { return Ok(()) };
        self.note(|| format!("forget {id}"));
        self.sim.lock().truth.forget(id);
        self.repo.forget(&id).map(drop)
    }

    fn undelete(&self, unfinished: &mut Option<OpId>) -> repo::Result<()> {
        if let Some(old) = *unfinished {
            end_stale(&self.repo, &old)?;
            *unfinished = None;
        }
        let ids = self.sim.lock().truth.forgotten();
        let Some(old) = self.pick(&ids) else { return Ok(()) };
        let id = self.fresh_id();
        *unfinished = Some(id);
        self.note(|| format!("undelete {old} as {id}"));
        {
            let mut world = self.sim.lock();
            let files = world.truth.files(&old).expect("it was sent");
            world.truth.sent(id, files);
        }
        let now = || self.now_secs();
        match undelete(&self.repo, None, &old, id, self.machine(), &now) {
            Ok((Commit::Acknowledged(_), snapshot)) => {
                self.acknowledged(snapshot.id);
                self.sim.lock().truth.undeleted += 1;
                if !self.maybe_crash() {
                    *unfinished = None;
                }
                Ok(())
            }
            Ok((Commit::InDoubt, _)) => Ok(()),
            Err(Error::NoSuchSnapshot(_) | Error::Missing { .. }) => {
                *unfinished = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A restore in the middle of it all: right bytes, or, of a snapshot that was forgotten
    /// meanwhile, an error.
    fn read(&self) -> repo::Result<()> {
        let ids = self.sim.lock().truth.kept();
        let Some(id) = self.pick(&ids) else { return Ok(()) };
        self.note(|| format!("restore {id}"));
        let found = restore(&self.repo, &id);
        let mut world = self.sim.lock();
        match found {
            Ok(files) => {
                if world.truth.files(&id).as_deref() != Some(&files) {
                    world.fail(format!("{id} was restored to other bytes"));
                }
                world.truth.restored += 1;
                Ok(())
            }
            Err(Error::Missing { .. }) if !world.truth.is_kept(&id) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Nothing is damaged, whatever the others do meanwhile: who says so raises a false alarm.
    fn verify(&self) -> repo::Result<()> {
        let id = self.fresh_id();
        let (level, bytes_max) = {
            let mut world = self.sim.lock();
            let levels = [Level::Structure, Level::Metadata, Level::Sample, Level::All];
            (*world.rng.pick(&levels), *world.rng.pick(&[None, None, Some(30_000)]))
        };
        self.note(|| format!("verify {id}, {level:?}"));
        let options = VerifyOptions { bytes_max, ..VerifyOptions::new(level) };
        let report = verify(&self.repo, None, &id, &options)?;
        let marked = report.quarantined.len() + report.waiting.len() + report.bad.len();
        if report.is_damaged() || !report.lost.is_empty() || marked > 0 {
            self.violation(&format!("a verify found {:?}", report.findings));
        }
        self.sim.lock().truth.verified += 1;
        Ok(())
    }

    /// Tables for packs that have none, of whatever runs or died; or a search for blocks without a
    /// place, of which there are none but those that a collector has under way.
    fn repair(&self, unfinished: &mut Option<OpId>) -> repo::Result<()> {
        if let Some(old) = *unfinished {
            end_stale(&self.repo, &old)?;
            *unfinished = None;
        }
        let id = self.fresh_id();
        *unfinished = Some(id);
        let now = || self.now_secs();
        let machine = self.machine();
        let rebuilt = if self.chance(2, 3) {
            self.note(|| format!("repair the index {id}"));
            let report = repair::index(&self.repo, None, id, machine, 1, false, &now)?;
            if !report.unreadable.is_empty() || report.removed.len() + report.kept.len() > 0 {
                self.violation(&format!("a repair of the index found {report:?}"));
            }
            report.rebuilt
        } else {
            self.note(|| format!("repair blocks {id}"));
            let bad = BTreeSet::new();
            repair::heal(&self.repo, None, id, machine, &HealOptions::new(&bad), &now)?;
            0
        };
        let mut world = self.sim.lock();
        world.truth.repaired += 1;
        world.truth.rebuilt += rebuilt;
        drop(world);
        if !self.maybe_crash() {
            *unfinished = None;
        }
        Ok(())
    }
}
