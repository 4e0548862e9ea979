//! What is checked: the clients, what they may do, what is in the store at the start, and which rule
//! of the protocol is broken, if any.

use crate::ids::Ids;
use crate::store::BLOCKS;

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Pushes a tree of these blocks.
    Push(Ids),
    /// Pushes the tree of the forgotten snapshot 0 again.
    Undelete,
    /// Marks or adopts, and sweeps.
    Collect,
    /// Merges index objects.
    Compact,
    /// Pins this snapshot.
    Pin(u8),
}

/// How a push finds out that a pack that the index names exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existence {
    /// Neither the pack's owner nor the writer of the index object has a `dead/`.
    Marks,
    /// The pack is listed.
    Listing,
    /// Either.
    Either,
}

/// What is in the store at the start.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// The packs that hold each block.
    pub holds: [Ids; BLOCKS],
    /// Packs that are there.
    pub packs: Ids,
    /// The packs that index object 0 names.
    pub named: Ids,
    /// Index objects that are there.
    pub index: Ids,
    /// The packs that an index object of collection 0 names, which is operation 1; none without it.
    pub merged: Ids,
    /// The blocks of snapshots 0 and 1.
    pub wants: [Ids; 2],
    /// Snapshots that are there.
    pub snaps: Ids,
    /// Operations without a commit.
    pub deads: Ids,
    /// What an earlier collection condemned; no operation was alive after that.
    pub condemned: Ids,
}

impl World {
    /// A pack with one block, and its snapshot.
    pub const ONE: Self = Self {
        holds: [Ids::one(0), Ids::NONE],
        packs: Ids::one(0),
        named: Ids::one(0),
        index: Ids::one(0),
        merged: Ids::NONE,
        wants: [Ids::one(0), Ids::NONE],
        snaps: Ids::one(0),
        deads: Ids::NONE,
        condemned: Ids::NONE,
    };

    /// A pack with two blocks; snapshot 0 has both, snapshot 1 has the first. Without snapshot 0
    /// the pack is partly live.
    pub const PARTLY: Self = Self {
        holds: [Ids::one(0), Ids::one(0)],
        wants: [Ids::of(&[0, 1]), Ids::one(0)],
        snaps: Ids::of(&[0, 1]),
        ..Self::ONE
    };

    /// Two packs with a block each, named by one index object, as after a push of two packs or a
    /// compaction. Pack 1 was condemned when its snapshot was forgotten.
    pub const SHARED: Self = Self {
        holds: [Ids::one(0), Ids::one(1)],
        packs: Ids::of(&[0, 1]),
        named: Ids::of(&[0, 1]),
        condemned: Ids::one(1),
        ..Self::ONE
    };

    /// As [`World::SHARED`], with an index object for each pack.
    pub const APART: Self = Self { named: Ids::one(0), index: Ids::of(&[0, 1]), ..Self::SHARED };

    /// Two packs with the same block, and an index object for each.
    pub const TWICE: Self = Self {
        holds: [Ids::of(&[0, 1]), Ids::NONE],
        packs: Ids::of(&[0, 1]),
        index: Ids::of(&[0, 1]),
        ..Self::ONE
    };

    /// As [`World::TWICE`], and pack 1 is condemned.
    pub const SPARE: Self = Self { condemned: Ids::one(1), ..Self::TWICE };

    /// As [`World::ONE`], and a stranger's index object that landed after its owner was dead and
    /// its pack was swept.
    pub const STALE: Self = Self {
        holds: [Ids::of(&[0, 1]), Ids::NONE],
        index: Ids::of(&[0, 1]),
        deads: Ids::one(1),
        ..Self::ONE
    };

    /// A collection was declared dead when it had copied block 1 into a pack. An index object that
    /// it wrote landed after pack 0 was swept, and names that pack.
    pub const ORPHAN: Self = Self {
        holds: [Ids::one(0), Ids::one(1)],
        packs: Ids::one(1),
        index: Ids::one(1),
        merged: Ids::one(0),
        wants: [Ids::NONE, Ids::NONE],
        snaps: Ids::NONE,
        deads: Ids::one(1),
        ..Self::ONE
    };
}

/// One rule of the protocol that is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// M1: a push announces itself after it read.
    AnnouncedAfterReading,
    /// M2: a push lists `index/` before `gc/`.
    IndexBeforeCondemned,
    /// M3: a push believes what dead operations wrote.
    DeadTrusted,
    /// M4: a push does not look for `kill/` after its commit.
    NoLookForKill,
    /// M5: a sweep does not wait for the operations that were alive.
    NoWait,
    /// M6: a sweep waits for some time and goes on.
    Timeout,
    /// M7: a collector does not look for its own `kill/`.
    OwnKillIgnored,
    /// M8: a sweep takes packs that other lists condemn for places.
    ForeignListsIgnored,
    /// M9: a sweep takes a condemned pack back, in place of copying.
    Uncondemned,
    /// M10: packs of operations that are alive are condemned.
    LiveOwnersCondemned,
    /// M11: packs go before the index entries.
    PacksBeforeIndex,
    /// M12: the list goes first, then packs, then index entries.
    ListFirst,
    /// M13: the name of a pack follows from its content.
    NamesReused,
    /// M14: a restart writes `end/` for its interrupted operation.
    AbortRecordedAsEnd,
    /// A restart writes `dead/` at once.
    DeadAtOnce,
    /// A restart asks its old operation to stop, finds its snapshot, looks for `dead/` and takes it
    /// for acknowledged.
    BelievesAfterKill,
    /// Blocks of entries that were not read again are reused without a check.
    CarriedUnchecked,
    /// The short cut for carried blocks takes every row of the index for a place.
    ShortCutBelievesIndex,
    /// The owner of a merged entry is taken from the name of the index object.
    OwnerFromObject,
    /// A push believes index objects whose writer is dead, if the owner of the pack is not.
    DeadWriterTrusted,
    /// A compaction merges what dead operations wrote.
    DeadMerged,
    /// A compaction does not look at `gc/`.
    CondemnedMerged,
    /// An undelete writes the old name again.
    OldNameAgain,
    /// A sweep does not look again where live blocks are, because the mark has copied them.
    CopiesTrusted,
    /// A sweep rewrites index objects that name packs of lists it does not sweep.
    ForeignEntriesKept,
    /// A sweep leaves out of a new index object what other index objects name.
    OthersTrusted,
    /// A new index object sorts before those it replaces.
    SuccessorSortsFirst,
    /// A collector lists `pin/` before `forgot/`.
    PinsBeforeRecords,
    /// A forget deletes the snapshot without a look at `pin/` after its record.
    NoLookForPins,
    /// A pin looks for the snapshot and its record before its PUT, and not after it.
    PinLooksFirst,
    /// A pin takes the pin of another for its own.
    PinOfAnotherBelieved,
    /// A pin does not look for `kill/` of its snapshot.
    PinOfDoubtful,
    /// A push that takes back its snapshot in doubt does not look at `pin/`.
    WithdrawnThoughPinned,
}

/// One configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The start.
    pub world: World,
    /// The clients, and how often each may begin.
    pub clients: Vec<(Role, u8)>,
    /// How pushes find out that packs exist.
    pub existence: Existence,
    /// Clients crash and begin again.
    pub crashes: bool,
    /// Requests that were under way at a crash may land later.
    pub late: bool,
    /// How many operations strangers ask to stop.
    pub kills: u8,
    /// Listings have two pages.
    pub paged: bool,
    /// Numbers of packs and snapshots on the first page.
    pub first_page: Ids,
    /// Snapshots of the start that may be forgotten.
    pub forgets: Ids,
    /// Acknowledged snapshots may be forgotten.
    pub forgets_new: bool,
    /// Pins are removed.
    pub unpins: bool,
    /// `op/` and `end/` of ended operations are deleted.
    pub tidies: bool,
    /// Marks copy live blocks out of packs that they condemn.
    pub repacks: bool,
    /// Pushes carry the blocks of this snapshot over by the short cut.
    pub short_cut: Option<u8>,
    /// The broken rule.
    pub flaw: Option<Flaw>,
}

impl Setup {
    /// Clients that crash and are killed, with one block.
    pub fn new(clients: &[(Role, u8)]) -> Self {
        Self {
            world: World::ONE,
            clients: clients.to_vec(),
            existence: Existence::Marks,
            crashes: true,
            late: false,
            kills: 1,
            paged: false,
            first_page: Ids::of(&[0, 2, 4, 6, 8]),
            forgets: Ids::ALL,
            forgets_new: false,
            unpins: false,
            tidies: false,
            repacks: false,
            short_cut: None,
            flaw: None,
        }
    }

    /// True if there are pins. Without, forgotten snapshots live until they are deleted.
    pub(crate) fn pins(&self) -> bool {
        self.clients.iter().any(|(role, _)| matches!(role, Role::Pin(_)))
    }
}
