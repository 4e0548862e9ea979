//! The objects of a store, by prefix. A name is a number here, so a prefix is a set of numbers.
//!
//! Numbers of packs: the first pack of operation `o` is `o`; the pack that a collection copies into
//! before it condemns is counted from the end (`Plan::second_pack`). An index
//! object of one pack has the number of that pack ("plain"); one that replaces others has the number
//! of the collection that wrote it ("merged").

use crate::ids::Ids;

/// Blocks that snapshots are made of.
pub(crate) const BLOCKS: usize = 2;

/// Most operations of kind gc, tries counted, and number 0 for one that is over.
pub(crate) const COLLECTIONS: usize = 6;

/// Some index objects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Objects {
    /// Those of one pack, by that pack.
    pub(crate) plain: Ids,
    /// Those that replace others, by the collection that wrote them.
    pub(crate) merged: Ids,
}

impl Objects {
    /// True if there is none.
    pub(crate) const fn is_empty(self) -> bool {
        self.plain.is_empty() && self.merged.is_empty()
    }

    /// How many there are.
    pub(crate) const fn len(self) -> u32 {
        self.plain.len() + self.merged.len()
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self { plain: self.plain - other.plain, merged: self.merged - other.merged }
    }

    /// One at a time.
    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        let plain = self.plain.iter().map(|n| Self { plain: Ids::one(n), merged: Ids::NONE });
        let merged = self.merged.iter().map(|n| Self { plain: Ids::NONE, merged: Ids::one(n) });
        plain.chain(merged)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { plain: self.plain | other.plain, merged: self.merged | other.merged }
    }
}

/// Everything that is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Store {
    /// `op/`.
    pub(crate) ops: Ids,
    /// `snap/`.
    pub(crate) snaps: Ids,
    /// `end/`.
    pub(crate) ends: Ids,
    /// `kill/`.
    pub(crate) kills: Ids,
    /// `dead/`.
    pub(crate) deads: Ids,
    /// `forgot/`.
    pub(crate) forgots: Ids,
    /// `pin/`: the operations of pinners that wrote one.
    pub(crate) pins: Ids,
    /// `packs/`.
    pub(crate) packs: Ids,
    /// The packs that hold a block, those that are gone too.
    pub(crate) holds: [Ids; BLOCKS],
    /// `index/`.
    pub(crate) index: Objects,
    /// The packs that a merged index object names, those that are gone too.
    pub(crate) merged: [Ids; COLLECTIONS],
    /// `gc/<c>.d`: condemned packs; absent if empty.
    pub(crate) condemned: [Ids; COLLECTIONS],
    /// `gc/<c>.o`: the lists that it covers; absent if empty.
    pub(crate) covers: [Ids; COLLECTIONS],
    /// `gc/<c>.o`: the operations that were alive.
    pub(crate) observed: [Ids; COLLECTIONS],
}

impl Store {
    /// Operations that have ended. Nothing that has ended begins again, so one look is as good as
    /// the several listings that a client needs.
    pub(crate) fn ended(&self) -> Ids {
        self.snaps | self.ends | self.deads | self.forgots | (Ids::ALL - self.ops)
    }

    /// Snapshots that count.
    pub(crate) fn valid(&self) -> Ids {
        self.snaps - self.deads
    }

    /// The condemned lists that there are.
    pub(crate) fn lists(&self) -> Ids {
        (0u8..).zip(self.condemned).filter(|(_, packs)| !packs.is_empty()).map(|(n, _)| n).collect()
    }

    /// Every condemned pack.
    pub(crate) fn all_condemned(&self) -> Ids {
        self.condemned.into_iter().fold(Ids::NONE, |all, packs| all | packs)
    }

    /// What the lists `lists` condemn.
    pub(crate) fn condemned_by(&self, lists: Ids) -> Ids {
        lists.iter().fold(Ids::NONE, |all, n| all | self.condemned[usize::from(n)])
    }

    /// Packs that hold `block`, those that are gone too.
    pub(crate) fn holding(&self, block: u8) -> Ids {
        self.holds[usize::from(block)]
    }

    /// A pack with some blocks is written.
    pub(crate) fn put_pack(&mut self, pack: u8, blocks: Ids) {
        self.packs |= Ids::one(pack);
        for block in blocks.iter() {
            self.holds[usize::from(block)] |= Ids::one(pack);
        }
    }
}
