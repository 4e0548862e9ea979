//! A client's turn: it does its next request, and finds out what the one after that is. Pushes and
//! restarts are here, collections in `collect.rs`.
//!
//! ```text
//! P1  PUT op/<own>                announce
//! P2  LIST gc/                    condemned packs
//! P3  LIST index/
//! P4  LIST dead/, LIST packs/     reusable blocks; all others are written
//! P5  PUT pack, PUT index object
//! P7  PUT snap/<own>
//! P8  GET kill/<own>              absent: acknowledged
//! P9  present: all again under a new id, then forget snap/<old>
//! ```
//!
//! A restart goes on where its old operation stopped. With `snap/<old>` there, GET `kill/<old>` is P8:
//! absent, it is acknowledged. Present, it may have been acknowledged before the crash: it is left as
//! it is, and the push begins anew. Only if there is no snapshot does a restart ask its old operation
//! to stop, as anybody would: kill, look again, dead.

use crate::ids::Ids;
use crate::plan::Plan;
use crate::setup::{Flaw, Role};
use crate::step::{Client, Step, View};
use crate::store::Store;

/// A choice that a client has at a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// There is none.
    Go,
    /// Adopt these condemned lists.
    Adopt(Ids),
    /// Condemn packs, and copy blocks first.
    Condemn(Ids, Ids),
    /// End, and leave the rest to another collection.
    Leave,
}

/// One turn of one client.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) store: &'a mut Store,
    pub(crate) acked: &'a mut Ids,
    pub(crate) held: &'a mut Ids,
}

impl Plan {
    /// The first step of an operation.
    pub(crate) fn first_step(&self, n: usize) -> Step {
        match self.roles[n] {
            Some(Role::Push(_) | Role::Undelete) => Step::Survey(0, View::default()),
            Some(Role::Collect | Role::Compact) => Step::Announce,
            Some(Role::Pin(_)) if self.is(Flaw::PinOfAnotherBelieved) => Step::FindPin,
            Some(Role::Pin(_)) if self.is(Flaw::PinLooksFirst) => Step::FindPinned,
            Some(Role::Pin(_)) => Step::PutPin,
            None => Step::Done,
        }
    }

    /// The first step of a restart.
    pub(crate) fn restart_step(&self, n: usize) -> Step {
        match self.roles[n] {
            _ if self.is(Flaw::AbortRecordedAsEnd) => Step::OldEnd,
            _ if self.is(Flaw::DeadAtOnce) => Step::OldDead,
            _ if self.is(Flaw::BelievesAfterKill) => Step::KillOld,
            Some(Role::Push(_) | Role::Undelete) => Step::FindOld,
            _ => Step::KillOld,
        }
    }
}

impl Turn<'_> {
    /// Client `n` does its next request.
    pub(crate) fn take(&mut self, n: usize, client: &mut Client, choice: Choice) {
        self.plan.write(self.store, client.op, client.step);
        let own = Ids::one(client.op);
        client.step = match client.step {
            Step::Survey(looks, view) => self.survey(n, client.op, looks, view),
            Step::ReadCondemned(blocks) => {
                let there = |b: u8| self.store.holding(b).meets(self.store.packs);
                if blocks.iter().all(there) { Step::PutPack(blocks) } else { Step::End }
            }
            Step::PutPack(_) => Step::PutIndex,
            Step::PutIndex => Step::PutSnap,
            Step::PutSnap if self.plan.is(Flaw::NoLookForKill) => self.acknowledge(client),
            Step::PutSnap => Step::LookForKill,
            Step::LookForKill if self.store.kills.meets(own) => self.doubt(n, client),
            Step::LookForKill => self.acknowledge(client),
            Step::FindOldDead if self.store.deads.meets(own) => self.again(n, client),
            Step::Withdraw => {
                self.store.forgots |= client.doubtful & self.store.snaps;
                client.doubtful = Ids::NONE;
                Step::Done
            }
            Step::FindOld if self.store.snaps.meets(own) => Step::LookForOldKill,
            Step::FindOld => Step::KillOld,
            Step::LookForOldKill if self.store.kills.meets(own) => self.again(n, client),
            Step::LookForOldKill | Step::FindOldDead => match self.acknowledge(client) {
                Step::Done => Step::Found,
                next => next,
            },
            Step::KillOld => Step::FindOldAgain,
            Step::FindOldAgain if self.store.snaps.meets(own) => {
                if self.plan.is(Flaw::BelievesAfterKill) {
                    Step::FindOldDead
                } else {
                    self.again(n, client)
                }
            }
            Step::FindOldAgain => Step::OldDead,
            Step::OldDead | Step::OldEnd => self.again(n, client),
            Step::End => Step::Done,
            step if step.is_of_pin() => self.pin(n, client.op, step),
            step => self.collect(n, client.op, step, choice),
        };
    }

    /// What was acknowledged before a crash may have been forgotten meanwhile.
    fn acknowledge(&mut self, client: &Client) -> Step {
        *self.acked |= Ids::one(client.op) - self.store.forgots;
        if client.doubtful.is_empty() { Step::Done } else { Step::Withdraw }
    }

    /// P9: the snapshot was not acknowledged and never will be.
    fn doubt(&self, n: usize, client: &mut Client) -> Step {
        client.doubtful |= Ids::one(client.op);
        self.again(n, client)
    }

    /// The same under a new id, if there is one.
    fn again(&self, n: usize, client: &mut Client) -> Step {
        if client.op + 1 == self.plan.ops[n].1 {
            client.doubtful = Ids::NONE;
            return Step::Done;
        }
        client.op += 1;
        self.plan.first_step(n)
    }

    /// P1 to P4, and what to write.
    fn survey(&self, n: usize, op: u8, looks: u8, view: View) -> Step {
        let plan = self.plan;
        let view = plan.look(self.store, plan.survey[usize::from(looks)], view);
        if usize::from(looks) + 1 < plan.survey.len() {
            return Step::Survey(looks + 1, view);
        }
        let missing = plan.missing(self.store, &view, plan.wants(op));
        if missing.is_empty() {
            return Step::PutSnap;
        }
        if plan.roles[n] == Some(Role::Undelete) {
            // there is no source: what is condemned can be copied, what is gone cannot
            let named = plan.named(self.store, view.objects) & view.condemned;
            let known = missing.iter().all(|b| self.store.holding(b).meets(named));
            return if known { Step::ReadCondemned(missing) } else { Step::End };
        }
        Step::PutPack(missing)
    }
}
