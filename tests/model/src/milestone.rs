//! What has to happen somewhere in a configuration, so that "nothing went wrong" means something.

use crate::ids::Ids;
use crate::model::State;
use crate::plan::{FIRST_OP, Plan};
use crate::setup::Role;
use crate::step::{Phase, Step};

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Milestone {
    /// The packs of the start are gone.
    GarbageDeleted,
    /// A push was acknowledged and the packs of the start are gone.
    PushedBesideDeletion,
    /// A push that wrote no pack lives on copies.
    SurvivedByCopy,
    /// Somebody declared an operation dead.
    DeclaredDead,
    /// A push began again under another id and was acknowledged.
    PushedAgain,
    /// A list was swept by another collection than the one that wrote it.
    AdoptedSwept,
    /// An adopter observed anew.
    AdopterObserved,
    /// Live blocks were copied before their pack was condemned.
    CopiedFirst,
    /// Index objects were merged and the old ones deleted.
    Compacted,
    /// A forgotten snapshot came back under a new id.
    Undeleted,
    /// A restart found that its snapshot was acknowledged.
    RestartFound,
    /// A snapshot in doubt was forgotten by its own client.
    Withdrawn,
    /// A collector stopped because it was asked to.
    CollectorStopped,
    /// An acknowledged snapshot was forgotten.
    NewForgotten,
    /// A pinned snapshot has a record, and a collection went by.
    PinHeld,
    /// A pin was given up.
    PinGivenUp,
}

impl Milestone {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::GarbageDeleted,
        Self::PushedBesideDeletion,
        Self::SurvivedByCopy,
        Self::DeclaredDead,
        Self::PushedAgain,
        Self::AdoptedSwept,
        Self::AdopterObserved,
        Self::CopiedFirst,
        Self::Compacted,
        Self::Undeleted,
        Self::RestartFound,
        Self::Withdrawn,
        Self::CollectorStopped,
        Self::NewForgotten,
        Self::PinHeld,
        Self::PinGivenUp,
    ];

    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }

    pub(crate) fn met(self, plan: &Plan, state: &State) -> bool {
        let store = &state.store;
        let first = |op: u8| plan.ops.iter().any(|(first, _)| *first == op);
        let pushes = |role: Role| matches!(role, Role::Push(_) | Role::Undelete);
        let new = state.acked_by_clients();
        let gone = !store.packs.meets(plan.setup.world.packs);
        let everything = store.holds.iter().fold(Ids::NONE, |all, packs| all | *packs);
        match self {
            Self::GarbageDeleted => gone,
            Self::PushedBesideDeletion => gone && !new.is_empty(),
            Self::SurvivedByCopy => {
                gone && (new - store.forgots).iter().any(|op| !everything.has(plan.pack(op)))
            }
            Self::DeclaredDead => !(store.deads - plan.setup.world.deads).is_empty(),
            Self::PushedAgain => new.iter().any(|op| !first(op)),
            Self::AdoptedSwept => state.any(|client, step| {
                matches!(step, Step::Clear(n, target) if plan.phases[usize::from(n)] == Phase::End
                    && !target.lists.has(plan.collection(client.op)))
            }),
            Self::AdopterObserved => {
                (0u8..).zip(store.covers).any(|(n, covers)| !covers.is_empty() && !covers.has(n))
            }
            Self::CopiedFirst => state.any(|client, step| {
                matches!(step, Step::Observe(_)) && everything.has(plan.second_pack(client.op))
            }),
            Self::Compacted => state.at(plan, |role| role == Role::Compact).any(|(_, client)| {
                client.step == Step::End && store.index.merged.has(plan.collection(client.op))
            }),
            Self::Undeleted => state
                .at(plan, |role| role == Role::Undelete)
                .any(|(n, _)| (plan.ops[n].0..plan.ops[n].1).any(|op| state.acked.has(op))),
            Self::RestartFound => state.any(|_, step| step == Step::Found),
            Self::Withdrawn => state.at(plan, pushes).any(|(n, client)| {
                client.step == Step::Done
                    && (plan.ops[n].0..client.op).any(|op| store.forgots.has(op))
                    && !state.acked.has(client.op - 1)
            }),
            Self::CollectorStopped => {
                state.at(plan, |role| role == Role::Collect).any(|(_, client)| {
                    client.step == Step::Done
                        && store.kills.has(client.op)
                        && !store.ends.has(client.op)
                })
            }
            Self::NewForgotten => {
                plan.setup.forgets_new && store.forgots.iter().any(|op| op >= FIRST_OP)
            }
            Self::PinHeld => {
                let mut collectors = state.at(plan, |role| role == Role::Collect);
                state.held.meets(store.forgots)
                    && collectors.any(|(_, client)| store.ends.has(client.op))
            }
            Self::PinGivenUp => state.any(|_, step| step == Step::DropPin),
        }
    }
}
