//! Where a client stands. A step is the next request to the store, with what the client has to
//! remember for it and nothing else: two clients that remember the same are the same.

use crate::ids::Ids;
use crate::store::Objects;

/// A listing, or one page of it; and the announcement, which has its place among them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Look {
    /// PUT `op/<own>`.
    Announce,
    /// LIST `gc/` and read the lists.
    Condemned,
    /// LIST `index/`, or its first page, and read it.
    Index,
    /// The second page.
    IndexRest,
    /// LIST `dead/`.
    Dead,
    /// LIST `dead/`, for the writers of index objects.
    DeadWriters,
    /// LIST `packs/`, or its first page.
    Packs,
    /// The second page.
    PacksRest,
    /// LIST `snap/` less `dead/`, or its first page, and walk the trees.
    Snaps,
    /// The second page.
    SnapsRest,
    /// LIST `op/`, `snap/`, `end/`, `dead/`, `forgot/`.
    Owners,
    /// LIST `snap/` for the snapshot before.
    Previous,
    /// LIST `forgot/`.
    Records,
    /// LIST `pin/`.
    Pins,
}

/// What a client has seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct View {
    /// Condemned packs.
    pub(crate) condemned: Ids,
    /// Index objects.
    pub(crate) objects: Objects,
    /// Dead operations.
    pub(crate) dead: Ids,
    /// Packs that are there.
    pub(crate) listed: Ids,
    /// Those of them whose owner has ended.
    pub(crate) candidates: Ids,
    /// Blocks that snapshots reach.
    pub(crate) live: Ids,
    /// The snapshot before is there.
    pub(crate) previous: bool,
    /// Snapshots that were listed, until it is known which of them are forgotten.
    pub(crate) snaps: Ids,
    /// What the first of the listings of `forgot/` and `pin/` showed, until the second.
    pub(crate) marked: Ids,
}

/// The end of a sweep.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// S7: PUT the index object that replaces those that name the packs.
    PutIndex,
    /// GET `kill/<own>`.
    LookForKill,
    /// DELETE the old index objects.
    Tables,
    /// S8: DELETE the packs.
    Packs,
    /// S9: DELETE `.o`.
    Observations,
    /// S9: DELETE `.d`.
    Lists,
    /// S10: PUT `end/<own>`.
    End,
}

/// What a sweep is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Target {
    /// Condemned lists.
    pub(crate) lists: Ids,
    /// The packs in them.
    pub(crate) packs: Ids,
    /// Index objects that name such packs.
    pub(crate) tables: Objects,
}

/// The next request of a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    /// P1 to P4.
    Survey(u8, View),
    /// An undelete reads blocks out of condemned packs.
    ReadCondemned(Ids),
    /// P5: PUT a pack of these blocks.
    PutPack(Ids),
    /// P5: PUT its index object.
    PutIndex,
    /// P7.
    PutSnap,
    /// P8.
    LookForKill,
    /// P9: PUT `forgot/` of an operation in doubt; the rest of a forget is anybody's.
    Withdraw,

    /// A restart: LIST `snap/<old>`.
    FindOld,
    /// GET `kill/<old>`: absent, with the snapshot there, is P8.
    LookForOldKill,
    /// K1 for the old operation.
    KillOld,
    /// K2.
    FindOldAgain,
    /// Flawed: LIST `dead/<old>`.
    FindOldDead,
    /// K3.
    OldDead,
    /// Flawed: PUT `end/<old>`.
    OldEnd,

    /// G0: PUT `op/<own>`.
    Announce,
    /// Mark, or adopt a list.
    Choose,
    /// G1 to G5.
    Mark(u8, View),
    /// PUT a pack of these blocks, before condemning those packs.
    CopyFirst(Ids, Ids),
    /// PUT its index object.
    IndexFirst(Ids),
    /// G6: PUT `gc/<own>.d`.
    Condemn(Ids),
    /// G7: LIST `op/`.
    Observe(Target),
    /// G8: PUT `gc/<own>.o`.
    PutObserved(Target, Ids),
    /// S1.
    Wait(Target, Ids),
    /// S2 to S5.
    Sweep(u8, Target, View),
    /// S6: GET the blocks.
    ReadCopies(Target, Ids),
    /// S6: PUT a pack of them.
    PutCopies(Target, Ids),
    /// S6: PUT its index object.
    IndexCopies(Target),
    /// S6: GET `kill/<own>`.
    LookAfterCopies(Target),
    /// S7 to S10.
    Clear(u8, Target),

    /// A compaction's listings.
    Compact(u8, View),
    /// PUT the merged index object.
    PutMerged(Objects),
    /// GET `kill/<own>`.
    LookAfterMerge(Objects),
    /// DELETE what was merged.
    DropMerged(Objects),
    /// PUT `end/<own>`.
    End,

    /// Flawed: LIST `pin/<snapshot>-`, and believe it.
    FindPin,
    /// PUT `pin/<snapshot>-<own>`.
    PutPin,
    /// LIST `snap/<snapshot>`.
    FindPinned,
    /// LIST `forgot/<snapshot>`.
    LookForRecord,
    /// GET `kill/<snapshot>`: absent as the record, the pin is acknowledged.
    LookForKillOfPinned,
    /// DELETE the own pin.
    DropPin,

    /// Over.
    Done,
    /// Over: a restart found that its snapshot was acknowledged.
    Found,
}

impl Step {
    /// True if there is a next request.
    pub(crate) const fn is_running(self) -> bool {
        !matches!(self, Self::Done | Self::Found)
    }

    /// True for the requests of a pinner.
    pub(crate) const fn is_of_pin(self) -> bool {
        matches!(
            self,
            Self::FindPin
                | Self::PutPin
                | Self::FindPinned
                | Self::LookForRecord
                | Self::LookForKillOfPinned
                | Self::DropPin
        )
    }

    /// True while a restart ends its old operation.
    pub(crate) const fn is_restart(self) -> bool {
        matches!(
            self,
            Self::FindOld
                | Self::LookForOldKill
                | Self::KillOld
                | Self::FindOldAgain
                | Self::FindOldDead
                | Self::OldDead
                | Self::OldEnd
        )
    }
}

/// A client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Client {
    /// Its operation, or the one that it ends.
    pub(crate) op: u8,
    /// Where it stands.
    pub(crate) step: Step,
    /// Its operations whose snapshot is to be forgotten.
    pub(crate) doubtful: Ids,
    /// A request that was under way at its crash, and the operation that sent it.
    pub(crate) late: Option<(u8, Step)>,
}
