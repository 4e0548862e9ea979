//! Collections: mark, sweep, compaction.
//!
//! ```text
//! G0  PUT op/<own>
//! G1  LIST packs/                                   candidates
//! G2  LIST op/ snap/ end/ dead/ forgot/             which owners have ended
//! G3  LIST snap/ less dead/                         live blocks
//! G4  LIST gc/                                      condemned packs
//! G5  LIST index/; copy live blocks out of packs that are partly live: PUT pack, PUT index object
//! G6  PUT gc/<own>.d
//! G7  LIST op/
//! G8  PUT gc/<own>.o
//! S1  wait until every operation in .o has ended
//! S2  LIST snap/ less dead/                         live blocks
//! S3  LIST gc/                                      condemned packs, of all lists
//! S4  LIST index/, LIST packs/                      places
//! S5  a live block without a place: stop. An index object that names packs of this sweep and of
//!     another list: leave it to a sweep of both
//! S6  live blocks in condemned packs alone: GET, PUT pack, PUT index object, GET kill/<own>
//! S7  PUT index object without the condemned packs, GET kill/<own>, DELETE the old ones
//! S8  DELETE packs
//! S9  DELETE .o, DELETE .d
//! S10 PUT end/<own>
//! ```

use crate::ids::Ids;
use crate::plan::Plan;
use crate::setup::{Flaw, Role};
use crate::step::{Phase, Step, Target, View};
use crate::store::{Objects, Store};
use crate::turn::{Choice, Turn};

impl Plan {
    /// What the collection `op` can choose at `step`; empty where it has to wait.
    pub(crate) fn choices(&self, store: &Store, step: Step, out: &mut Vec<Choice>) {
        match step {
            Step::Choose => {
                out.push(Choice::Go);
                let lists = store.lists();
                out.extend(lists.iter().map(|list| Choice::Adopt(Ids::one(list))));
                if lists.len() > 1 {
                    out.push(Choice::Adopt(lists));
                }
            }
            Step::Mark(looks, view) if usize::from(looks) + 1 == self.mark.len() => {
                let view = self.look(store, self.mark[usize::from(looks)], view);
                self.condemnable(store, &view, out);
            }
            Step::Wait(_, observed) => {
                if store.ended().holds(observed) || self.is(Flaw::Timeout) {
                    out.push(Choice::Go);
                }
                out.push(Choice::Leave);
            }
            _ => out.push(Choice::Go),
        }
    }

    /// G5: every largest set of packs that leaves each live block another place, and all packs with
    /// live blocks copied first.
    fn condemnable(&self, store: &Store, view: &View, out: &mut Vec<Choice>) {
        let candidates = view.candidates - view.condemned;
        let lacking = |packs: Ids| -> Ids {
            let lacks = |block: &u8| {
                let places = self.places(store, view, *block) - view.condemned;
                places.meets(packs) && packs.holds(places)
            };
            view.live.iter().filter(lacks).collect()
        };
        let mut largest: Vec<Ids> = Vec::new();
        for packs in candidates.subsets() {
            let within = largest.iter().any(|larger| larger.holds(packs));
            if lacking(packs).is_empty() && !within {
                largest.push(packs);
            }
        }
        out.extend(largest.iter().map(|packs| Choice::Condemn(*packs, Ids::NONE)));
        let copies = lacking(candidates);
        if self.setup.repacks && !copies.is_empty() {
            out.push(Choice::Condemn(candidates, copies));
        }
        if largest.is_empty() {
            out.push(Choice::Leave);
        }
    }
}

impl Turn<'_> {
    /// What the collection `op` does after its request of `step`.
    pub(crate) fn collect(&mut self, n: usize, op: u8, step: Step, choice: Choice) -> Step {
        let plan = self.plan;
        match step {
            Step::Announce if plan.roles[n] == Some(Role::Compact) => {
                let first = u8::from(plan.is(Flaw::CondemnedMerged));
                Step::Compact(first, View::default())
            }
            Step::Announce => Step::Choose,
            Step::Choose => match choice {
                Choice::Adopt(lists) => self.adopt(lists),
                _ => self.mark(0, View::default(), choice),
            },
            Step::Mark(looks, view) => self.mark(looks, view, choice),
            Step::CopyFirst(_, packs) => Step::IndexFirst(packs),
            Step::IndexFirst(packs) => Step::Condemn(packs),
            Step::Condemn(packs) => {
                let lists = Ids::one(plan.collection(op));
                let target = Target { lists, packs, tables: Objects::default() };
                if plan.is(Flaw::NoWait) { sweep(target) } else { Step::Observe(target) }
            }
            Step::Observe(target) => {
                let alive = self.store.ops - self.store.ended() - Ids::one(op);
                Step::PutObserved(target, alive)
            }
            Step::PutObserved(target, observed) => Step::Wait(target, observed),
            Step::Wait(..) if choice == Choice::Leave => Step::End,
            Step::Wait(target, _) => sweep(target),
            Step::Sweep(looks, target, view) => self.sweep(looks, target, view),
            Step::ReadCopies(target, blocks) => {
                let there = |b: u8| self.store.holding(b).meets(self.store.packs);
                let all = blocks.iter().all(there);
                if all { Step::PutCopies(target, blocks) } else { Step::End }
            }
            Step::PutCopies(target, _) => Step::IndexCopies(target),
            Step::IndexCopies(target) => Step::LookAfterCopies(target),
            Step::LookAfterCopies(target) => {
                if self.killed(op) {
                    Step::Done
                } else {
                    self.clear(0, target)
                }
            }
            Step::Clear(phase, target) => match plan.phases[usize::from(phase)] {
                Phase::LookForKill if self.killed(op) => Step::Done,
                Phase::End => Step::Done,
                Phase::Tables => {
                    self.clear(phase + 1, Target { tables: Objects::default(), ..target })
                }
                _ => self.clear(phase + 1, target),
            },
            Step::Compact(looks, view) => self.compact(looks, view),
            Step::PutMerged(objects) => Step::LookAfterMerge(objects),
            Step::LookAfterMerge(_) if self.killed(op) => Step::Done,
            Step::LookAfterMerge(objects) => Step::DropMerged(objects),
            Step::DropMerged(_) => Step::End,
            step => step,
        }
    }

    fn killed(&self, op: u8) -> bool {
        self.store.kills.has(op) && !self.plan.is(Flaw::OwnKillIgnored)
    }

    /// Any one `.o` that covers a list is enough for it; if a list has none, all are observed anew.
    fn adopt(&self, lists: Ids) -> Step {
        let store = &self.store;
        let packs = store.condemned_by(lists);
        let target = Target { lists, packs, tables: Objects::default() };
        if self.plan.is(Flaw::NoWait) {
            return sweep(target);
        }
        let mut observed = Ids::NONE;
        for list in lists.iter() {
            let mut covering = store.covers.iter().zip(store.observed);
            match covering.find(|(covers, _)| covers.has(list)) {
                Some((_, alive)) => observed |= alive,
                None => return Step::Observe(target),
            }
        }
        Step::Wait(target, observed)
    }

    /// G1 to G5.
    fn mark(&self, looks: u8, view: View, choice: Choice) -> Step {
        let plan = self.plan;
        if usize::from(looks) + 1 < plan.mark.len() {
            let mut view = plan.look(self.store, plan.mark[usize::from(looks)], view);
            if plan.mark[usize::from(looks)] == crate::step::Look::Condemned {
                view.candidates -= view.condemned;
            }
            return Step::Mark(looks + 1, view);
        }
        match choice {
            Choice::Condemn(packs, Ids::NONE) => Step::Condemn(packs),
            Choice::Condemn(packs, blocks) => Step::CopyFirst(blocks, packs),
            _ => Step::End,
        }
    }

    /// S2 to S5.
    fn sweep(&self, looks: u8, target: Target, view: View) -> Step {
        let (plan, store) = (self.plan, &*self.store);
        let view = plan.look(store, plan.sweep[usize::from(looks)], view);
        if usize::from(looks) + 1 < plan.sweep.len() {
            return Step::Sweep(looks + 1, target, view);
        }
        let foreign = view.condemned - target.packs;
        let mut condemned = target.packs | foreign;
        if plan.is(Flaw::ForeignListsIgnored) {
            condemned = target.packs;
        }
        let (mut copies, mut kept) = (Ids::NONE, Ids::NONE);
        for block in view.live.iter() {
            let places = plan.places(store, &view, block);
            let Some(first) = places.first() else { return Step::End };
            if condemned.holds(places) {
                copies |= Ids::one(block);
                kept |= Ids::one((places & target.packs).first().unwrap_or(first));
            }
        }
        let mut target = target;
        if plan.is(Flaw::Uncondemned) {
            copies = Ids::NONE;
            target.packs -= kept;
        }
        if plan.is(Flaw::CopiesTrusted) {
            copies = Ids::NONE;
        }
        target.tables = plan.naming(store, view.objects, target.packs);
        let shared = plan.named(store, target.tables).meets(foreign);
        if shared && !plan.is(Flaw::ForeignEntriesKept) {
            return Step::End;
        }
        if copies.is_empty() { self.clear(0, target) } else { Step::ReadCopies(target, copies) }
    }

    /// The next phase that has something to do.
    fn clear(&self, phase: u8, target: Target) -> Step {
        let idle = match self.plan.phases[usize::from(phase)] {
            Phase::PutIndex => self.plan.rest(self.store, target).is_empty(),
            Phase::Tables => target.tables.is_empty(),
            Phase::Packs => target.packs.is_empty(),
            _ => false,
        };
        if idle { self.clear(phase + 1, target) } else { Step::Clear(phase, target) }
    }

    fn compact(&self, looks: u8, view: View) -> Step {
        let (plan, store) = (self.plan, &*self.store);
        let view = plan.look(store, plan.compaction[usize::from(looks)], view);
        if usize::from(looks) + 1 < plan.compaction.len() {
            return Step::Compact(looks + 1, view);
        }
        let mut objects = view.objects.without(plan.naming(store, view.objects, view.condemned));
        if !plan.is(Flaw::DeadMerged) && !plan.is(Flaw::OwnerFromObject) {
            objects = objects.without(plan.written_by(objects, view.dead));
        }
        if objects.len() < 2 { Step::End } else { Step::PutMerged(objects) }
    }
}

/// S2 is next.
fn sweep(target: Target) -> Step {
    Step::Sweep(0, target, View::default())
}
