//! Reading: what a listing adds to what a client has seen. A listing shows what was acknowledged
//! before it began and not deleted; with two pages, each page is read at its own time.

use crate::ids::Ids;
use crate::plan::Plan;
use crate::setup::{Existence, Flaw};
use crate::step::{Look, View};
use crate::store::{Objects, Store};

impl Plan {
    /// What a client knows after `look`.
    pub(crate) fn look(&self, store: &Store, look: Look, mut view: View) -> View {
        let page = self.first_page();
        match look {
            Look::Announce => {}
            Look::Condemned => view.condemned = store.all_condemned(),
            Look::Index | Look::IndexRest => {
                let successors_first = self.is(Flaw::SuccessorSortsFirst);
                let rest = look == Look::IndexRest;
                if !self.setup.paged || rest == successors_first {
                    view.objects.plain = store.index.plain;
                }
                if !self.setup.paged || rest != successors_first {
                    view.objects.merged = store.index.merged;
                }
            }
            Look::Dead | Look::DeadWriters => view.dead = store.deads,
            Look::Packs => view.listed = store.packs & page,
            Look::PacksRest => view.listed |= store.packs - page,
            Look::Snaps if self.setup.pins() => view.snaps = store.valid() & page,
            Look::SnapsRest if self.setup.pins() => view.snaps |= store.valid() - page,
            Look::Snaps => view.live = self.reached(store.valid() & page),
            Look::SnapsRest => view.live |= self.reached(store.valid() - page),
            Look::Records | Look::Pins => return self.look_for_forgotten(store, look, view),
            Look::Owners => {
                view.candidates = view.listed;
                if !self.is(Flaw::LiveOwnersCondemned) {
                    view.candidates = view.listed & self.owned(store.ended());
                }
            }
            Look::Previous => {
                let listed = |op: u8| store.valid().has(op);
                view.previous = self.setup.short_cut.is_some_and(listed);
            }
        }
        view
    }

    /// The blocks of some snapshots.
    pub(crate) fn reached(&self, snaps: Ids) -> Ids {
        snaps.iter().fold(Ids::NONE, |live, op| live | self.wants(op))
    }

    /// Packs that a push may reuse blocks of.
    pub(crate) fn reusable(&self, store: &Store, view: &View) -> Ids {
        let named = self.named(store, view.objects);
        let listed = named & view.listed;
        let dead = if self.is(Flaw::DeadTrusted) { Ids::NONE } else { view.dead };
        let marked = if self.is(Flaw::OwnerFromObject) {
            // a merged row counts as its writer's, whoever owns the pack
            let plain = Objects { merged: Ids::NONE, ..view.objects };
            let merged = Objects { plain: Ids::NONE, ..view.objects };
            (self.named(store, plain) - self.owned(dead)) | self.named(store, merged)
        } else {
            let writers = if self.is(Flaw::DeadWriterTrusted) { Ids::NONE } else { dead };
            let objects = view.objects.without(self.written_by(view.objects, writers));
            self.named(store, objects) - self.owned(dead)
        };
        let there = match self.setup.existence {
            Existence::Marks => marked,
            Existence::Listing => listed,
            Existence::Either => marked | listed,
        };
        there - view.condemned
    }

    /// Blocks of `wanted` that a push has to write.
    pub(crate) fn missing(&self, store: &Store, view: &View, wanted: Ids) -> Ids {
        let reusable = self.reusable(store, view);
        let missing: Ids = wanted.iter().filter(|b| !store.holding(*b).meets(reusable)).collect();
        if self.is(Flaw::CarriedUnchecked) {
            return missing - self.wants(0);
        }
        if let Some(op) = self.setup.short_cut.filter(|_| view.previous) {
            let places = if self.is(Flaw::ShortCutBelievesIndex) {
                self.named(store, view.objects) - view.condemned
            } else {
                reusable
            };
            if self.wants(op).iter().all(|block| store.holding(block).meets(places)) {
                return missing - self.wants(op);
            }
        }
        missing
    }

    /// Where a block is, of all that was seen.
    pub(crate) fn places(&self, store: &Store, view: &View, block: u8) -> Ids {
        store.holding(block) & self.named(store, view.objects) & view.listed
    }

    /// True if every block of the snapshot of `op` can be read: some pack holds it, is there, and is
    /// named by an index object that is there.
    pub(crate) fn restorable(&self, store: &Store, op: u8) -> bool {
        let named = self.named(store, store.index) & store.packs;
        self.wants(op).iter().all(|block| store.holding(block).meets(named))
    }
}
