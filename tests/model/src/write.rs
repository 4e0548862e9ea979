//! Writing: what the request of a step does to the store. Also what a request does that lands after
//! its client crashed.

use crate::ids::Ids;
use crate::plan::Plan;
use crate::setup::Flaw;
use crate::step::{Look, Phase, Step, Target};
use crate::store::Store;

impl Plan {
    /// Does the request of `step`, sent by `op`, to the store. False if it only reads.
    pub(crate) fn write(&self, store: &mut Store, op: u8, step: Step) -> bool {
        let own = Ids::one(op);
        let at = usize::from(self.collection(op));
        match step {
            Step::Survey(looks, _) if self.survey[usize::from(looks)] == Look::Announce => {
                store.ops |= own;
            }
            Step::Announce => store.ops |= own,
            Step::PutPack(blocks) | Step::PutCopies(_, blocks) => {
                store.put_pack(self.pack(op), blocks);
            }
            Step::PutIndex | Step::IndexCopies(_) => {
                store.index.plain |= Ids::one(self.pack(op));
            }
            Step::PutSnap => {
                store.snaps |= own;
                if self.is(Flaw::OldNameAgain) {
                    store.forgots -= own & Ids::one(0);
                }
            }
            Step::KillOld => store.kills |= own,
            Step::OldDead => store.deads |= own,
            Step::OldEnd | Step::End => store.ends |= own,
            Step::CopyFirst(blocks, _) => store.put_pack(self.second_pack(op), blocks),
            Step::IndexFirst(_) => store.index.plain |= Ids::one(self.second_pack(op)),
            Step::Condemn(packs) => store.condemned[at] = packs,
            Step::PutObserved(target, observed) => {
                store.covers[at] = target.lists;
                store.observed[at] = observed;
            }
            Step::Clear(phase, target) => {
                return self.clear(store, op, self.phases[usize::from(phase)], target);
            }
            Step::PutMerged(objects) => {
                store.merged[at] = self.named(store, objects);
                store.index.merged |= Ids::one(self.collection(op));
            }
            Step::PutPin => store.pins |= own,
            Step::DropPin => store.pins -= own,
            Step::DropMerged(objects) => store.index = store.index.without(objects),
            _ => return false,
        }
        true
    }

    /// S7 to S10.
    fn clear(&self, store: &mut Store, op: u8, phase: Phase, target: Target) -> bool {
        match phase {
            Phase::PutIndex => {
                let rest = self.rest(store, target);
                if !rest.is_empty() {
                    store.merged[usize::from(self.collection(op))] = rest;
                    store.index.merged |= Ids::one(self.collection(op));
                }
            }
            Phase::LookForKill => return false,
            Phase::Tables => store.index = store.index.without(target.tables),
            Phase::Packs => store.packs -= target.packs,
            Phase::Observations => {
                let (lists, mut covers) = (store.lists(), store.covers);
                for (covers, observed) in covers.iter_mut().zip(&mut store.observed) {
                    let of_target = covers.meets(target.lists);
                    if of_target && target.lists.holds(*covers & lists) {
                        (*covers, *observed) = (Ids::NONE, Ids::NONE);
                    }
                }
                store.covers = covers;
            }
            Phase::Lists => {
                for list in target.lists.iter() {
                    store.condemned[usize::from(list)] = Ids::NONE;
                }
            }
            Phase::End => store.ends |= Ids::one(op),
        }
        true
    }

    /// What the old index objects name beside the packs that go.
    pub(crate) fn rest(&self, store: &Store, target: Target) -> Ids {
        let rest = self.named(store, target.tables) - target.packs;
        if self.is(Flaw::OthersTrusted) {
            return rest - self.named(store, store.index.without(target.tables));
        }
        rest
    }
}
