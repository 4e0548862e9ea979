//! The world of one run: the objects, the store's clock, and who goes next.
//!
//! Actors are threads, and exactly one of them runs at a time. Every call of the store is a point at
//! which the turn may pass to another one; who that is, and what becomes of the call, is drawn from
//! the run's generator by whoever has the turn. So one seed is one run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use store::{Error, Item, Result};

use crate::oracle::Truth;
use crate::rng::Rng;
use crate::trace::{Outcome, Trace};

/// No run is longer: actors whose work is not done by then have crashed.
const STEPS_MAX: u64 = 8_000;
/// The store's clock at the beginning, in seconds since 1970.
const START_SECS: u64 = 1_700_000_000;
/// No request is under way for longer, the longest leap of the clock aside.
const LATE_SECS_MAX: u64 = 5 * 24 * 3600;
pub(crate) const YEAR_SECS: i64 = 365 * 24 * 3600;

/// An object and when it was written, by the store's clock.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) modified: SystemTime,
}

pub(crate) type Objects = BTreeMap<String, Object>;

/// A call that changes something.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Put(String, Bytes),
    Delete(String),
}

/// A request that is under way.
#[derive(Debug)]
struct Late {
    /// It lands at this step, or at this time if that comes first: forget records stay for a week,
    /// and no request is under way for longer.
    step: u64,
    secs: u64,
    write: Write,
}

/// What this run is like: chances are in ten thousand calls.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    fail: u64,
    crash: u64,
    late: u64,
    twice: u64,
    pages: u64,
    suspend: u64,
    leap: u64,
    storm: u64,
    jump: u64,
    /// How often the one that runs goes on, in hundred.
    sticky: u64,
    check: u64,
    /// Contents there are in the whole world.
    pub(crate) letters: u64,
    pub(crate) lies: bool,
}

impl Profile {
    fn draw(rng: &mut Rng) -> Self {
        let calm = rng.chance(1, 5);
        let mut some = |of: &[u64]| if calm { of[0] } else { *rng.pick(of) };
        Self {
            fail: some(&[0, 10, 40, 150]),
            crash: some(&[10, 20, 60, 150]),
            late: some(&[0, 20, 80]),
            twice: some(&[0, 20, 80]),
            pages: some(&[3000, 1000, 6000]),
            suspend: some(&[50, 20, 150, 300]),
            leap: some(&[30, 0, 80]),
            storm: some(&[0, 0, 5]),
            jump: some(&[0, 10, 50]),
            sticky: some(&[60, 0, 30, 85, 93]),
            check: 40,
            letters: some(&[4, 6, 8, 12]),
            lies: some(&[1, 0, 1]) == 1,
        }
    }
}

#[derive(Debug, Default)]
struct ActorState {
    done: bool,
    asleep_until: u64,
    crashed: bool,
    /// Seconds between its clock and the store's.
    clock_offset: i64,
    /// This life's listings lie about old snapshots or packs, until they did so once.
    lie: Option<Lie>,
    hidden: Vec<String>,
    /// Names of the first whole listing of `snap/` in this life.
    snapshots_seen: Option<Vec<String>>,
    /// It has listed everything, and lists the snapshots next. What a later listing of them does not
    /// show was walked before: it may go on.
    looks: bool,
}

/// What a listing leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Snapshots,
    Everything,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    pub(crate) objects: Objects,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) failed: Option<String>,
    now_secs: u64,
    pub(crate) step: u64,
    turn: usize,
    actors: Vec<ActorState>,
    /// Requests whose client knows nothing of them any more.
    late: Vec<Late>,
    storm_until: u64,
    /// Snapshots that collectors wrote down, by the name of their list.
    seen: BTreeMap<String, Vec<String>>,
    /// No faults and nobody else: after the run.
    calm: bool,
}

/// The world and a bell for each actor.
#[derive(Debug)]
pub(crate) struct Sim {
    world: Mutex<World>,
    bells: Vec<Condvar>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Plain,
    FailsBefore,
    FailsAfter,
    Late,
    Twice,
    Crash(Landing),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Landing {
    Never,
    Done,
    Late,
}

impl Sim {
    pub(crate) fn new(seed: u64, actors: usize, keep_trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let profile = Profile::draw(&mut rng);
        let states = (0..actors)
            .map(|_| ActorState { asleep_until: rng.below(60), ..ActorState::default() });
        let mut world = World {
            actors: states.collect(),
            rng,
            profile,
            objects: Objects::new(),
            truth: Truth::default(),
            trace: Trace::new(keep_trace),
            failed: None,
            now_secs: START_SECS,
            step: 0,
            turn: 0,
            late: Vec::new(),
            storm_until: 0,
            seen: BTreeMap::new(),
            calm: false,
        };
        world.turn = world.choose(None).expect("there are actors");
        let bells = (0..actors).map(|_| Condvar::new()).collect();
        Self { world: Mutex::new(world), bells }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'w>(&'w self, me: usize, mut world: MutexGuard<'w, World>) -> MutexGuard<'w, World> {
        while world.turn != me {
            world = self.bells[me].wait(world).unwrap_or_else(PoisonError::into_inner);
        }
        world
    }

    /// The first turn of a thread.
    pub(crate) fn begin(&self, me: usize) {
        drop(self.wait(me, self.lock()));
    }

    /// A thread is through with its work.
    pub(crate) fn end(&self, me: usize) {
        let mut world = self.lock();
        world.actors[me].done = true;
        if let Some(next) = world.choose(None) {
            world.turn = next;
            self.bells[next].notify_one();
        }
    }

    /// A point at which another actor may go on; returns when `me` has the turn again.
    pub(crate) fn scheduled(&self, me: usize) -> MutexGuard<'_, World> {
        let mut world = self.lock();
        if world.calm || world.over() {
            return world;
        }
        world.tick(me);
        let next = world.choose(Some(me)).expect("this one is not done");
        if next != me {
            world.turn = next;
            self.bells[next].notify_one();
            world = self.wait(me, world);
        }
        let check = world.profile.check;
        if world.rng.chance(check, 10_000) {
            world.check();
        }
        world
    }

    /// Does nothing for a while.
    pub(crate) fn pause(&self, me: usize, steps: u64) {
        let mut world = self.lock();
        let until = world.step + steps;
        world.actors[me].asleep_until = until;
        drop(world);
        drop(self.scheduled(me));
    }

    /// A new process of an actor: what it had in memory is gone.
    pub(crate) fn restart(&self, me: usize) {
        let mut world = self.lock();
        let actor = &mut world.actors[me];
        actor.crashed = false;
        actor.lie = None;
        actor.hidden.clear();
        actor.snapshots_seen = None;
        actor.looks = false;
        let profile = world.profile.clone();
        if world.rng.chance(profile.jump, 300) {
            let years = *world.rng.pick(&[-10, 0, 10]);
            let secs = i64::try_from(world.rng.below(100)).expect("small");
            world.actors[me].clock_offset = years * YEAR_SECS + secs;
        }
    }

    /// The next listing of this kind leaves something out.
    pub(crate) fn lie(&self, me: usize, lie: Lie) {
        self.lock().actors[me].lie = Some(lie);
    }

    /// Names that listings hid from this actor.
    pub(crate) fn hidden(&self, me: usize) -> Vec<String> {
        self.lock().actors[me].hidden.clone()
    }

    /// The machine dies here, outside of any call.
    pub(crate) fn crash(&self, me: usize) {
        self.lock().actors[me].crashed = true;
    }

    /// The time by the clock of an actor, which jumps.
    pub(crate) fn now_secs(&self, me: usize) -> i64 {
        let world = self.lock();
        i64::try_from(world.now_secs).expect("near") + world.actors[me].clock_offset
    }

    /// Ends all faults; everything that is under way lands.
    pub(crate) fn calm_down(&self) {
        let mut world = self.lock();
        world.calm = true;
        while !world.late.is_empty() {
            let at = {
                let len = world.late.len();
                world.rng.index(len)
            };
            let Late { write, .. } = world.late.swap_remove(at);
            world.apply(write);
        }
        for actor in &mut world.actors {
            *actor = ActorState::default();
        }
        world.now_secs += 3 * 24 * 3600;
    }

    pub(crate) fn write(&self, me: usize, write: &Write) -> Result<()> {
        let mut world = self.scheduled(me);
        let (verb, name) = match write {
            Write::Put(name, _) => ("put", name.as_str()),
            Write::Delete(name) => ("delete", name.as_str()),
        };
        let fate = world.fate(me, true);
        let done = match fate {
            Fate::Plain => {
                world.apply(write.clone());
                world.note_list(me, write);
                Ok(Outcome::Done)
            }
            Fate::Twice => {
                world.apply(write.clone());
                world.note_list(me, write);
                world.land_later(write.clone());
                Ok(Outcome::DoneTwice)
            }
            Fate::FailsBefore | Fate::Crash(Landing::Never) => Err(Outcome::Failed),
            Fate::FailsAfter | Fate::Crash(Landing::Done) => {
                world.apply(write.clone());
                world.note_list(me, write);
                Err(Outcome::DoneUnheard)
            }
            Fate::Late | Fate::Crash(Landing::Late) => {
                world.land_later(write.clone());
                Err(Outcome::Late)
            }
        };
        let outcome = done.unwrap_or_else(|outcome| outcome);
        world.trace.call(me, verb, name, outcome, matches!(fate, Fate::Crash(_)));
        done.map(drop).map_err(|_| unavailable(verb, name))
    }

    pub(crate) fn get(&self, me: usize, name: &str) -> Result<Bytes> {
        let mut world = self.scheduled(me);
        let fate = world.fate(me, false);
        let crash = matches!(fate, Fate::Crash(_));
        if fate != Fate::Plain {
            world.trace.call(me, "get", name, Outcome::Failed, crash);
            return Err(unavailable("get", name));
        }
        let found = world.objects.get(name).map(|object| object.bytes.clone());
        // what was read by its name is hidden no more
        world.actors[me].hidden.retain(|hidden| hidden != name);
        let outcome = if found.is_some() { Outcome::Done } else { Outcome::NotFound };
        world.trace.call(me, "get", name, outcome, false);
        found.ok_or_else(|| Error::NotFound { name: name.to_owned() })
    }

    /// A listing, in pages: others go on between two of them.
    pub(crate) fn list(&self, me: usize, prefix: &str) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let mut from = Bound::Included(prefix.to_owned());
        let mut hides: BTreeSet<String> = BTreeSet::new();
        let mut is_first = true;
        loop {
            let mut world = self.scheduled(me);
            let fate = world.fate(me, false);
            if fate != Fate::Plain {
                let crash = matches!(fate, Fate::Crash(_));
                world.trace.call(me, "list", prefix, Outcome::Failed, crash);
                return Err(unavailable("list", prefix));
            }
            if std::mem::take(&mut is_first) {
                hides = world.hides(me, prefix);
                if prefix.starts_with("snap/") && prefix != "snap/" || prefix == "packs/" {
                    hides.extend(world.actors[me].hidden.iter().cloned());
                }
            }
            let pages = world.profile.pages;
            // a listing in pages may show neither a collector's old list nor the one that replaced
            // it: with another listing that lies, that is one fault too many
            let whole = prefix == "gc/" && !world.actors[me].hidden.is_empty();
            let page = if !world.calm && !whole && world.rng.chance(pages, 10_000) {
                world.rng.between(1, 6)
            } else {
                u64::MAX
            };
            let page = usize::try_from(page).unwrap_or(usize::MAX);
            let range = world.objects.range((from.clone(), Bound::Unbounded));
            let all = range.take_while(|(name, _)| name.starts_with(prefix));
            let before = items.len();
            items.extend(all.take(page).map(|(name, object)| Item {
                name: name.clone(),
                size: object.bytes.len() as u64,
                modified: object.modified,
            }));
            let is_last = items.len() - before < page;
            let outcome = if is_last { Outcome::Done } else { Outcome::Page };
            world.trace.call(me, "list", prefix, outcome, false);
            if is_last {
                items.retain(|item| !hides.contains(&item.name));
                if prefix.is_empty() {
                    // a look begins anew; what an earlier one did not show counts no more
                    world.actors[me].looks = true;
                    world.actors[me].hidden = hides.into_iter().collect();
                } else if prefix == "snap/" && std::mem::take(&mut world.actors[me].looks) {
                    let names = items.iter().map(|item| item.name.clone()).collect();
                    world.actors[me].snapshots_seen = Some(names);
                    world.actors[me].hidden.extend(hides);
                }
                return Ok(items);
            }
            from = Bound::Excluded(items.last().expect("a page is not empty").name.clone());
        }
    }
}

impl World {
    /// The run is over: a violation was found, or it took too long.
    pub(crate) fn over(&self) -> bool {
        self.failed.is_some() || (!self.calm && self.step > STEPS_MAX)
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.failed.get_or_insert(what);
    }

    /// Checks what the oracle knows against the objects as they are.
    pub(crate) fn check(&mut self) {
        if self.failed.is_none()
            && let Err(what) = self.truth.check(&self.objects)
        {
            let step = self.step;
            self.fail(format!("step {step}: {what}"));
        }
    }

    /// Time goes on, and requests land that nobody waits for.
    fn tick(&mut self, me: usize) {
        self.step += 1;
        self.now_secs += self.rng.below(20);
        let profile = self.profile.clone();
        if self.rng.chance(profile.leap, 10_000) {
            self.now_secs += self.rng.between(1, 40) * 3600;
        }
        if self.rng.chance(profile.storm, 10_000) {
            self.storm_until = self.step + self.rng.between(5, 60);
        }
        if self.rng.chance(profile.suspend, 10_000) {
            let steps = if self.rng.chance(1, 4) { 600 } else { 80 };
            self.actors[me].asleep_until = self.step + self.rng.between(5, steps);
        }
        if self.rng.chance(profile.jump, 10_000) {
            let years = *self.rng.pick(&[-10, 0, 10]);
            self.actors[me].clock_offset = years * YEAR_SECS;
        }
        let mut i = 0;
        while i < self.late.len() {
            if self.late[i].step > self.step && self.late[i].secs > self.now_secs {
                i += 1;
                continue;
            }
            let Late { write, .. } = self.late.swap_remove(i);
            let (verb, name) = match &write {
                Write::Put(name, _) => ("put", name.clone()),
                Write::Delete(name) => ("delete", name.clone()),
            };
            self.trace.call(usize::MAX, verb, &name, Outcome::Landed, false);
            self.apply(write);
        }
    }

    /// Who goes next; none if all are done.
    fn choose(&mut self, me: Option<usize>) -> Option<usize> {
        let mut awake: Vec<usize> = Vec::with_capacity(self.actors.len());
        loop {
            let is_awake = |(_, a): &(usize, &ActorState)| !a.done && a.asleep_until <= self.step;
            awake.extend(self.actors.iter().enumerate().filter(is_awake).map(|(i, _)| i));
            if !awake.is_empty() {
                break;
            }
            let open = self.actors.iter().filter(|actor| !actor.done);
            let first = open.map(|actor| actor.asleep_until).min()?;
            // everybody sleeps: so do the lists of those who wait for an hour
            self.step = first;
            self.now_secs += self.rng.below(7200);
        }
        let sticky = self.profile.sticky;
        match me {
            Some(me) if awake.contains(&me) && self.rng.chance(sticky, 100) => Some(me),
            _ => Some(*self.rng.pick(&awake)),
        }
    }

    fn fate(&mut self, me: usize, is_write: bool) -> Fate {
        if self.calm {
            return Fate::Plain;
        }
        if self.over() || self.actors[me].crashed {
            return Fate::FailsBefore;
        }
        if self.step < self.storm_until {
            return Fate::FailsBefore;
        }
        let profile = &self.profile;
        let (crash, fail, late, twice) = (profile.crash, profile.fail, profile.late, profile.twice);
        let draw = self.rng.below(10_000);
        if draw < crash {
            self.actors[me].crashed = true;
            let landings = [Landing::Never, Landing::Done, Landing::Done, Landing::Late];
            return Fate::Crash(if is_write { *self.rng.pick(&landings) } else { Landing::Never });
        }
        let draw = draw - crash;
        if draw < fail {
            let after = is_write && self.rng.chance(1, 2);
            return if after { Fate::FailsAfter } else { Fate::FailsBefore };
        }
        let draw = draw - fail;
        if is_write && draw < late {
            return Fate::Late;
        }
        if is_write && draw < late + twice {
            return Fate::Twice;
        }
        Fate::Plain
    }

    fn land_later(&mut self, write: Write) {
        let within = *self.rng.pick(&[10, 60, 60, 300, 1500]);
        let step = self.step + 1 + self.rng.below(within);
        let secs = self.now_secs + LATE_SECS_MAX;
        self.late.push(Late { step, secs, write });
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Put(name, bytes) => {
                let strict = ["packs/", "index/", "snap/", "gc/"];
                if strict.iter().any(|dir| name.starts_with(dir))
                    && self.objects.get(&name).is_some_and(|object| object.bytes != bytes)
                {
                    self.fail(format!("{name} was overwritten with other bytes"));
                }
                let secs = self.now_secs + self.rng.below(3);
                let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
                self.objects.insert(name, Object { bytes, modified });
            }
            Write::Delete(name) => {
                self.objects.remove(&name);
                self.seen.remove(&name);
            }
        }
    }

    /// Remembers which snapshots a collector wrote down.
    fn note_list(&mut self, me: usize, write: &Write) {
        let Write::Put(name, _) = write else { return };
        if name.starts_with("gc/") && name.rsplit_once('.').is_some_and(|(_, form)| form == "s") {
            let names = self.actors[me].snapshots_seen.clone().unwrap_or_default();
            self.seen.insert(name.clone(), names);
        }
    }

    /// What a lying listing leaves out: snapshots that an earlier collector wrote down, or packs.
    fn hides(&mut self, me: usize, prefix: &str) -> BTreeSet<String> {
        let old: Vec<String> = match (self.actors[me].lie, prefix) {
            (Some(Lie::Snapshots), "snap/") => {
                let counts = |name: &String| {
                    let id = &name["snap/".len()..];
                    self.objects.contains_key(name)
                        && !self.objects.contains_key(&format!("dead/{id}"))
                        && !self.objects.contains_key(&format!("forgot/{id}"))
                };
                let names: BTreeSet<&String> = self.seen.values().flatten().collect();
                names.into_iter().filter(|name| counts(name)).cloned().collect()
            }
            (Some(Lie::Everything), "") => {
                let packs = self.objects.keys().filter(|name| name.starts_with("packs/"));
                packs.cloned().collect()
            }
            _ => return BTreeSet::new(),
        };
        if old.is_empty() {
            return BTreeSet::new();
        }
        let all = self.rng.chance(1, 2);
        let mut hides: BTreeSet<String> =
            old.iter().filter(|_| all || self.rng.chance(1, 2)).cloned().collect();
        hides.insert(self.rng.pick(&old).clone());
        self.actors[me].lie = None;
        hides
    }
}

fn unavailable(op: &'static str, name: &str) -> Error {
    Error::Unavailable { op, name: name.to_owned(), detail: "simulated".to_owned() }
}
