//! What follows from a [`Setup`]: who owns which number, and in which order a client looks at what.

use crate::ids::{IDS, Ids};
use crate::setup::{Existence, Flaw, Role, Setup};
use crate::step::{Look, Phase};
use crate::store::{COLLECTIONS, Objects, Store};

/// Most clients at once.
pub(crate) const CLIENTS: usize = 4;

/// The first number of an operation of a client; lower ones are over before it begins.
pub(crate) const FIRST_OP: u8 = 2;

/// A configuration, worked out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    /// By client: its role, if there is one.
    pub(crate) roles: [Option<Role>; CLIENTS],
    /// By client: the first number of its operations, and the number after the last.
    pub(crate) ops: [(u8, u8); CLIENTS],
    /// By operation: the blocks of its snapshot.
    pub(crate) wants: [Ids; IDS as usize],
    /// By operation: which collection it is; 0 is the one that is over.
    pub(crate) collection: [u8; IDS as usize],
    /// By collection: its operation.
    collector: [u8; COLLECTIONS],
    /// By pack: its owner.
    owner: [u8; IDS as usize],
    /// The listings of a push, in order.
    pub(crate) survey: Vec<Look>,
    /// The listings of a mark, in order.
    pub(crate) mark: Vec<Look>,
    /// The listings of a sweep, in order.
    pub(crate) sweep: Vec<Look>,
    /// The listings of a compaction, in order.
    pub(crate) compaction: Vec<Look>,
    /// The end of a sweep, in order.
    pub(crate) phases: &'static [Phase],
}

impl Plan {
    pub(crate) fn new(setup: Setup) -> Self {
        assert!(setup.clients.len() <= CLIENTS, "too many clients");
        let mut plan = Self {
            roles: [None; CLIENTS],
            ops: [(FIRST_OP, FIRST_OP); CLIENTS],
            wants: [Ids::NONE; IDS as usize],
            collection: [0; IDS as usize],
            collector: [1; COLLECTIONS],
            owner: [0; IDS as usize],
            survey: pages(&setup, &survey(&setup)),
            mark: pages(&setup, &MARK),
            sweep: pages(&setup, &SWEEP),
            compaction: pages(&setup, &COMPACTION),
            phases: phases(setup.flaw),
            setup,
        };
        let world = plan.setup.world;
        plan.wants[..2].copy_from_slice(&world.wants);
        let (mut next, mut collections) = (FIRST_OP, 0);
        for (n, (role, tries)) in plan.setup.clients.iter().enumerate() {
            plan.roles[n] = Some(*role);
            plan.ops[n] = (next, next + tries);
            for op in next..next + tries {
                match role {
                    Role::Push(blocks) => plan.wants[usize::from(op)] = *blocks,
                    Role::Undelete => plan.wants[usize::from(op)] = world.wants[0],
                    Role::Pin(_) => {}
                    Role::Collect | Role::Compact => {
                        collections += 1;
                        plan.collection[usize::from(op)] = collections;
                        plan.collector[usize::from(collections)] = op;
                    }
                }
            }
            next += tries;
            if *role == Role::Undelete && plan.is(Flaw::OldNameAgain) {
                plan.ops[n] = (0, 1);
            }
        }
        assert!(usize::from(next) <= usize::from(IDS) - COLLECTIONS, "too many tries");
        for pack in 0..IDS {
            let collection = usize::from(IDS - 1 - pack);
            plan.owner[usize::from(pack)] =
                plan.collector.get(collection).map_or(pack, |collector| *collector);
        }
        plan
    }

    pub(crate) fn is(&self, flaw: Flaw) -> bool {
        self.setup.flaw == Some(flaw)
    }

    pub(crate) fn wants(&self, op: u8) -> Ids {
        self.wants[usize::from(op)]
    }

    pub(crate) fn collection(&self, op: u8) -> u8 {
        self.collection[usize::from(op)]
    }

    /// The pack that `op` writes.
    pub(crate) fn pack(&self, op: u8) -> u8 {
        if self.is(Flaw::NamesReused) { 0 } else { op }
    }

    /// The pack into which the collection `op` copies before it condemns.
    pub(crate) fn second_pack(&self, op: u8) -> u8 {
        IDS - 1 - self.collection(op)
    }

    /// Packs whose owner is one of `ops`.
    pub(crate) fn owned(&self, ops: Ids) -> Ids {
        (0..IDS).filter(|pack| ops.has(self.owner[usize::from(*pack)])).collect()
    }

    /// The packs that some index objects name.
    pub(crate) fn named(&self, store: &Store, objects: Objects) -> Ids {
        let first = if objects.plain.has(0) { self.setup.world.named } else { Ids::NONE };
        let merged = objects.merged.iter().map(|n| store.merged[usize::from(n)]);
        merged.fold(objects.plain | first, |all, packs| all | packs)
    }

    /// Those of `objects` that name one of `packs`.
    pub(crate) fn naming(&self, store: &Store, objects: Objects, packs: Ids) -> Objects {
        let names = |object: &Objects| self.named(store, *object).meets(packs);
        objects.each().filter(names).fold(Objects::default(), Objects::and)
    }

    /// Those of `objects` whose writer is one of `ops`.
    pub(crate) fn written_by(&self, objects: Objects, ops: Ids) -> Objects {
        let by = |n: &u8| ops.has(self.collector[usize::from(*n)]);
        Objects {
            plain: objects.plain & self.owned(ops),
            merged: objects.merged.iter().filter(by).collect(),
        }
    }

    /// Numbers on the first page of a listing; all if there is only one page.
    pub(crate) fn first_page(&self) -> Ids {
        if self.setup.paged { self.setup.first_page } else { Ids::ALL }
    }
}

fn survey(setup: &Setup) -> Vec<Look> {
    use Look::{Announce, Condemned, Dead, Index, IndexRest, Packs, PacksRest, Previous};
    let listing: &[Look] =
        if setup.existence == Existence::Marks { &[] } else { &[Packs, PacksRest] };
    let (first, last): (&[Look], &[Look]) = match setup.flaw {
        Some(Flaw::AnnouncedAfterReading) => (&[Condemned, Index, IndexRest, Dead], &[Announce]),
        Some(Flaw::IndexBeforeCondemned) => (&[Announce, Index, IndexRest, Dead], &[Condemned]),
        _ => (&[Announce, Condemned, Index, IndexRest, Dead, Previous], &[]),
    };
    [first, listing, last].concat()
}

const MARK: [Look; 10] = [
    Look::Packs,
    Look::PacksRest,
    Look::Owners,
    Look::Snaps,
    Look::SnapsRest,
    Look::Records,
    Look::Pins,
    Look::Condemned,
    Look::Index,
    Look::IndexRest,
];

const SWEEP: [Look; 9] = [
    Look::Snaps,
    Look::SnapsRest,
    Look::Records,
    Look::Pins,
    Look::Condemned,
    Look::Index,
    Look::IndexRest,
    Look::Packs,
    Look::PacksRest,
];

const COMPACTION: [Look; 4] = [Look::Condemned, Look::Index, Look::IndexRest, Look::DeadWriters];

/// Leaves out second pages where there are none, and what the configuration does not need.
fn pages(setup: &Setup, looks: &[Look]) -> Vec<Look> {
    let wanted = |look: &Look| match look {
        Look::PacksRest | Look::SnapsRest | Look::IndexRest => setup.paged,
        Look::Previous => setup.short_cut.is_some(),
        Look::Records | Look::Pins => setup.pins(),
        Look::Dead => setup.existence != Existence::Listing,
        _ => true,
    };
    let swapped = |look: Look| match look {
        Look::Records if setup.flaw == Some(Flaw::PinsBeforeRecords) => Look::Pins,
        Look::Pins if setup.flaw == Some(Flaw::PinsBeforeRecords) => Look::Records,
        look => look,
    };
    looks.iter().copied().filter(wanted).map(swapped).collect()
}

fn phases(flaw: Option<Flaw>) -> &'static [Phase] {
    use Phase::{End, Lists, LookForKill, Observations, Packs, PutIndex, Tables};
    match flaw {
        Some(Flaw::PacksBeforeIndex) => {
            &[LookForKill, Packs, PutIndex, Tables, Observations, Lists, End]
        }
        Some(Flaw::ListFirst) => &[LookForKill, Lists, Packs, PutIndex, Tables, Observations, End],
        _ => &[PutIndex, LookForKill, Tables, Packs, Observations, Lists, End],
    }
}
